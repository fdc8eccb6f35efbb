//! `file`: a file in dom0.

use super::{At, JudgeContext, StepKind};
use crate::evidence::CommandResult;
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
}
