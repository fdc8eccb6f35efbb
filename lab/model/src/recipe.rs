//! What is asked of a Xen that is built from source, beside the source: patches and options.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// `xen.patches` and `xen.options`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recipe {
    /// Applied in this order, as `patch -p1` does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<PathBuf>,
    /// See there.
    #[serde(default, skip_serializing_if = "BuildOptions::is_empty")]
    pub options: BuildOptions,
}

impl Recipe {
    /// The source is built as it is.
    pub fn is_empty(&self) -> bool {
        self.patches.is_empty() && self.options.is_empty()
    }
}

/// `xen.options`; what is not said is as the tree has it by default.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BuildOptions {
    /// A debug build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<bool>,
    /// Flask, the security module with a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flask: Option<bool>,
    /// The image for EFI firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub efi: Option<bool>,
    /// Build the tools, too. When not said they are built where this host can, and borrowed where it cannot; with false they are borrowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<bool>,
    /// Kconfig options, NAME=VALUE each (`SHADOW_PAGING=n`), or files of such lines; the last word on an option counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kconfig: Vec<String>,
    /// What follows major.minor in the version, in place of what the tree says: `.1-mine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_version: Option<String>,
    /// What `xl info` says as `xen_changeset`; date and commit of a git tree when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changeset: Option<String>,
}

impl BuildOptions {
    /// Nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == BuildOptions::default()
    }

    /// Key and value of each that is said, as they are written on the command line.
    pub fn said(&self) -> Vec<(&'static str, String)> {
        let flag = |name, value: Option<bool>| value.map(|v| (name, v.to_string()));
        let text = |name, value: &Option<String>| value.clone().map(|v| (name, v));
        let mut all: Vec<(&'static str, String)> = [
            flag("debug", self.debug),
            flag("flask", self.flask),
            flag("efi", self.efi),
            flag("tools", self.tools),
            text("extra-version", &self.extra_version),
            text("changeset", &self.changeset),
        ]
        .into_iter()
        .flatten()
        .collect();
        all.extend(self.kconfig.iter().map(|k| ("kconfig", k.clone())));
        all
    }

    /// What is wrong with what they say, whatever the tree: the key, what is wrong, and what was expected.
    pub fn mistakes(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut wrong = Vec::new();
        // Both become text in a C string and words of a make command line.
        let plain = |s: &str| s.chars().all(|c| c.is_ascii_alphanumeric() || "-+._~".contains(c));
        if let Some(extra) = self.extra_version.as_deref().filter(|v| v.len() > 15 || !plain(v)) {
            wrong.push((
                "extra-version",
                format!("`{extra}` cannot be an extra version"),
                "at most 15 of the characters A-Z a-z 0-9 - + . _ ~, as `.1-mine`; `xl info` has room for no more",
            ));
        }
        let word = |c: char| c.is_ascii_alphanumeric() || " -+._~:/".contains(c);
        if let Some(set) = self.changeset.as_deref().filter(|s| s.len() > 63 || !s.chars().all(word)) {
            wrong.push((
                "changeset",
                format!("`{set}` cannot be a changeset"),
                "at most 63 letters, digits, spaces and - + . _ ~ : /",
            ));
        }
        for entry in &self.kconfig {
            if entry.is_empty() || entry.starts_with('=') || entry.contains('\n') {
                wrong.push((
                    "kconfig",
                    format!("`{entry}` is neither an option nor a file"),
                    "NAME=VALUE, or the path of a file of such lines",
                ));
            }
        }
        wrong
    }
}

/// `{panic.patch,debug=true}`; nothing for a source that is built as it is.
impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        let mut words: Vec<String> = self.patches.iter().map(|p| p.display().to_string()).collect();
        words.extend(self.options.said().into_iter().map(|(k, v)| match k {
            "kconfig" => v,
            k => format!("{k}={v}"),
        }));
        write!(f, "{{{}}}", words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_part_of_the_name() {
        assert_eq!(Recipe::default().to_string(), "");
        let recipe = Recipe {
            patches: vec!["a/panic.patch".into()],
            options: BuildOptions {
                debug: Some(false),
                kconfig: vec!["SHADOW_PAGING=n".into()],
                extra_version: Some(".1-x".into()),
                ..BuildOptions::default()
            },
        };
        assert_eq!(recipe.to_string(), "{a/panic.patch,debug=false,extra-version=.1-x,SHADOW_PAGING=n}");
        assert!(recipe.options.mistakes().is_empty());
    }

    #[test]
    fn what_would_break_out_of_a_string_is_refused() {
        for bad in ["\"", "$(shell x)", "a b", "0123456789abcdef"] {
            let options = BuildOptions { extra_version: Some(bad.into()), ..BuildOptions::default() };
            assert_eq!(options.mistakes().len(), 1, "{bad}");
        }
        for bad in ["a\"b", "a`b`", "a\nb"] {
            let options = BuildOptions { changeset: Some(bad.into()), ..BuildOptions::default() };
            assert_eq!(options.mistakes().len(), 1, "{bad}");
        }
        let options = BuildOptions { kconfig: vec!["=y".into()], ..BuildOptions::default() };
        assert_eq!(options.mistakes()[0].0, "kconfig");
    }
}
