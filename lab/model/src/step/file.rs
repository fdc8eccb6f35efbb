//! `file`: a file in dom0.

use super::{At, Complaint, JudgeContext, StepKind};
use crate::evidence::CommandResult;
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

    fn judge(&self, _evidence: &FileEvidence, _cx: &JudgeContext<'_>) -> Vec<Check> {
        Vec::new()
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
