//! What is run: a script for dom0's `/bin/sh` and its environment.

use std::collections::BTreeMap;

/// Bytes a script and its environment may have together. Linux takes one argument of at most 128 KiB
/// (`MAX_ARG_STRLEN`, 32 pages, in `include/uapi/linux/binfmts.h`), and the script is one argument of `sh -c`.
pub const SCRIPT_LIMIT: usize = 96 * 1024;

/// A script for dom0's `/bin/sh`. Its standard input is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// The script's text.
    pub text: String,
    /// Variables it finds in its environment besides those of the shell it is started from.
    pub env: BTreeMap<String, String>,
}

/// Why a script cannot be run at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// A variable's name is none to a POSIX shell.
    #[error(
        "`{0}` cannot be the name of an environment variable: expected letters, digits and `_`, no digit first"
    )]
    Name(String),
    /// A NUL byte cannot be passed to a program.
    #[error("{0} holds a NUL byte, which cannot be passed to a program")]
    Nul(String),
    /// Longer than [`SCRIPT_LIMIT`].
    #[error(
        "the script and its environment have {0} bytes, more than the {SCRIPT_LIMIT} that can be passed to dom0's shell"
    )]
    Long(usize),
}

impl Script {
    /// A script without an environment of its own.
    pub fn new(text: impl Into<String>) -> Self {
        Script { text: text.into(), env: BTreeMap::new() }
    }

    /// A program and its arguments, taken literally.
    pub fn argv<S: AsRef<str>>(argv: impl IntoIterator<Item = S>) -> Self {
        Script::new(argv.into_iter().map(|a| quote(a.as_ref())).collect::<Vec<_>>().join(" "))
    }

    /// With this environment.
    #[must_use]
    pub fn with_env(mut self, env: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env.extend(env);
        self
    }

    /// Whether it can be passed to a shell at all.
    pub fn check(&self) -> Result<(), ScriptError> {
        for (name, value) in &self.env {
            let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
            if !name.starts_with(letter) || !name.chars().all(|c| letter(c) || c.is_ascii_digit()) {
                return Err(ScriptError::Name(name.clone()));
            }
            if value.contains('\0') {
                return Err(ScriptError::Nul(format!("the value of `{name}`")));
            }
        }
        if self.text.contains('\0') {
            return Err(ScriptError::Nul("the script".into()));
        }
        let bytes = self.text.len() + self.exports().len();
        if bytes > SCRIPT_LIMIT { Err(ScriptError::Long(bytes)) } else { Ok(()) }
    }

    /// Shell code on one line that exports the environment; empty when there is none.
    pub(crate) fn exports(&self) -> String {
        self.env.iter().map(|(name, value)| format!("export {name}={};", quote(value))).collect()
    }
}

/// `text` as one word for a POSIX shell.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_shell_cannot_take_is_refused() {
        let env = |k: &str, v: &str| Script::new("true").with_env([(k.to_owned(), v.to_owned())]);
        assert_eq!(env("a_1", "x").check(), Ok(()));
        for name in ["", "1a", "a-b", "é", "a=b"] {
            assert_eq!(env(name, "x").check(), Err(ScriptError::Name(name.into())));
        }
        assert!(matches!(env("a", "\0").check(), Err(ScriptError::Nul(_))));
        assert!(matches!(Script::new("\0").check(), Err(ScriptError::Nul(_))));
        assert!(matches!(Script::new("x".repeat(SCRIPT_LIMIT + 1)).check(), Err(ScriptError::Long(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_shell_reads_back_what_was_quoted(words in prop::collection::vec("[^\0]{0,8}", 1..4)) {
            let script = format!("printf '%s\\0' {}", Script::argv(&words).text);
            let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
            let expected: Vec<u8> = words.iter().flat_map(|w| w.bytes().chain([0])).collect();
            prop_assert_eq!(out.stdout, expected);
        }
    }
}
