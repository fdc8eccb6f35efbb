//! `file`: a file in dom0.

use super::{At, Complaint, JudgeContext, StepKind, say};
use crate::cause::Cause;
use crate::evidence::{CommandEnd, CommandResult};
use crate::fact::FactType;
use crate::matcher::Matcher;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `file: {path: /proc/xen/capabilities, content: {contains: control_d}}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Whether it must be there; true when not said.
    #[serde(default = "yes")]
    pub present: bool,
    /// What it is: file, directory, link, …
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<FileType>,
    /// Permission bits, octal, as `0755`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What a link must point to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Matcher>,
    /// What it must contain, its last line end taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Matcher>,
}

fn yes() -> bool {
    true
}

/// Types of files, as `stat -c %F` names them in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum FileType {
    File,
    Directory,
    Link,
    Socket,
    Fifo,
    Block,
    Character,
}

/// `stat` and, where it was asked for, the content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileEvidence {
    /// `stat -c '%f %s'` of the path itself (raw mode in hexadecimal, size in bytes); fails when it is absent.
    pub stat: CommandResult,
    /// `readlink`; none unless asked for.
    pub target: Option<CommandResult>,
    /// `cat`; none unless asked for.
    pub content: Option<CommandResult>,
}

impl StepKind for File {
    const NAME: &'static str = "file";
    const AT: At = At::Dom0;
    const PRIMARY: Option<&'static str> = Some("path");
    type Evidence = FileEvidence;

    fn judge(&self, evidence: &FileEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let at = |key: &str| cx.place(Self::NAME, key);
        let stat = match say::exited("present", &format!("looking at {}", self.path), &evidence.stat) {
            Err(check) => return vec![check.at(at("path"))],
            Ok(0) => Stat::read(&evidence.stat.stdout.text),
            Ok(_) => None,
        };
        let Some(stat) = stat else { return vec![self.not_seen(evidence).at(at("present"))] };
        if !self.present {
            let message = format!("{}: expected no such file, there is a {}", self.path, stat.kind());
            return vec![Check::fail("present", Cause::FileWrong, message).at(at("present"))];
        }
        let mut checks =
            vec![Check::pass("present", format!("{} is a {}", self.path, stat.kind())).at(at("path"))];
        if let Some(kind) = self.kind {
            checks.push(self.compare("type", kind.name(), stat.kind()).at(at("type")));
        }
        if let Some(mode) = &self.mode {
            let expected = mode.trim_start_matches('0');
            let seen = format!("{:o}", stat.mode & 0o7777);
            let check =
                self.compare("mode", &format!("0{expected}"), &format!("0{}", seen.trim_start_matches('0')));
            checks.push(check.at(at("mode")));
        }
        for (key, matcher, result) in
            [("target", &self.target, &evidence.target), ("content", &self.content, &evidence.content)]
        {
            if let Some(matcher) = matcher {
                checks.push(self.read(key, matcher, result.as_ref(), cx));
            }
        }
        checks
    }

    fn check(&self) -> Vec<Complaint> {
        let mut wrong = Vec::new();
        if !self.path.starts_with('/') {
            let message = format!("`{}` is not an absolute path", self.path);
            wrong.push(Complaint::new("path", message, "a path that begins with `/`"));
        }
        if let Some(mode) = &self.mode {
            let digits = mode.chars().all(|c| ('0'..='7').contains(&c));
            if !digits || !(3..=5).contains(&mode.len()) {
                wrong.push(Complaint::new(
                    "mode",
                    format!("`{mode}` is no mode of a file"),
                    "octal digits, as 0755",
                ));
            }
        }
        let asks = [
            ("type", self.kind.is_some()),
            ("mode", self.mode.is_some()),
            ("target", self.target.is_some()),
            ("content", self.content.is_some()),
        ];
        for (key, _) in asks.iter().filter(|(_, asked)| *asked && !self.present) {
            wrong.push(Complaint::new(
                *key,
                "this is asked of a file that must not be there",
                "no more than `present: false`",
            ));
        }
        if self.target.is_some() && self.kind.is_some_and(|k| k != FileType::Link) {
            wrong.push(Complaint::new("target", "only a link has a target", "`type: link`"));
        }
        for (path, matcher) in [("target", &self.target), ("content", &self.content)] {
            for message in matcher.iter().filter_map(|m| m.check(FactType::Text).err()).flatten() {
                wrong.push(Complaint { path: path.into(), message, expected: None });
            }
        }
        wrong
    }
}

impl FileType {
    fn name(self) -> &'static str {
        match self {
            FileType::File => "file",
            FileType::Directory => "directory",
            FileType::Link => "link",
            FileType::Socket => "socket",
            FileType::Fifo => "fifo",
            FileType::Block => "block",
            FileType::Character => "character",
        }
    }
}

/// What `stat -c '%f %s'` says.
struct Stat {
    mode: u32,
}

impl Stat {
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mode = u32::from_str_radix(words.next()?, 16).ok()?;
        words.next()?.parse::<u64>().ok()?;
        Some(Stat { mode })
    }

    /// By the type bits of inode(7).
    fn kind(&self) -> &'static str {
        match self.mode & 0o170_000 {
            0o140_000 => FileType::Socket.name(),
            0o120_000 => FileType::Link.name(),
            0o100_000 => FileType::File.name(),
            0o060_000 => FileType::Block.name(),
            0o040_000 => FileType::Directory.name(),
            0o020_000 => FileType::Character.name(),
            0o010_000 => FileType::Fifo.name(),
            _ => "file of an unknown type",
        }
    }
}

impl File {
    /// `stat` gave no answer: the file is not there, or that cannot be said.
    fn not_seen(&self, evidence: &FileEvidence) -> Check {
        let said = &evidence.stat.stderr.text;
        let absent = said.contains("No such file or directory") || said.contains("Not a directory");
        let status = &evidence.stat.end;
        if !absent || *status == CommandEnd::Exit(0) {
            let message = format!(
                "{}: expected to learn whether it is there, could not{}",
                self.path,
                say::stderr_tail(&evidence.stat)
            );
            return Check::fail("present", Cause::FileWrong, message);
        }
        if self.present {
            Check::fail(
                "present",
                Cause::FileWrong,
                format!("{}: expected it to be there, it is not", self.path),
            )
        } else {
            Check::pass("present", format!("{} is not there", self.path))
        }
    }

    fn compare(&self, name: &str, expected: &str, seen: &str) -> Check {
        if expected == seen {
            Check::pass(name, format!("{name} is {seen}"))
        } else {
            let message = format!("{}: expected {name} {expected}, saw {seen}", self.path);
            Check::fail(name, Cause::FileWrong, message)
        }
    }

    fn read(
        &self,
        key: &str,
        matcher: &Matcher,
        result: Option<&CommandResult>,
        cx: &JudgeContext<'_>,
    ) -> Check {
        let place = cx.place(Self::NAME, key);
        let Some(result) = result else {
            let message = format!("{}: its {key} was to be read and was not", self.path);
            return Check::error(key, Cause::LabInternal, message).at(place);
        };
        let what = format!("reading the {key} of {}", self.path);
        if let Err(check) = say::succeeded(key, &what, result, Cause::FileWrong) {
            return check.at(place);
        }
        say::output(key, Cause::FileWrong, matcher, &result.stdout, cx, place)
    }
}

#[cfg(test)]
mod tests;
