//! `process`: processes that must run in dom0, by the executable they really run.

use super::{At, Complaint, JudgeContext, StepKind, one_or_many, say};
use crate::cause::Cause;
use crate::evidence::CommandResult;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `process: {running: [xenconsoled]}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Process {
    /// Base names or full paths of executables.
    #[serde(deserialize_with = "one_or_many")]
    pub running: Vec<String>,
}

/// The process table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessEvidence {
    /// Lines `PID EXE COMM`, the executable as `/proc/PID/exe` has it, `-` where there is none.
    pub table: CommandResult,
}

impl StepKind for Process {
    const NAME: &'static str = "process";
    const AT: At = At::Dom0;
    const PRIMARY: Option<&'static str> = Some("running");
    type Evidence = ProcessEvidence;

    fn judge(&self, evidence: &ProcessEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let table = &evidence.table;
        // A process that ends while the table is read makes its reader's status worthless; what it wrote is not.
        let read = say::exited("processes", "reading the process table", table);
        let rows: Vec<Row<'_>> = table.stdout.text.lines().filter_map(Row::read).collect();
        if let Err(check) = read {
            return vec![check.at(cx.place(Self::NAME, ""))];
        }
        if rows.is_empty() {
            let message = format!("processes: expected a process table, saw none{}", say::stderr_tail(table));
            return vec![
                Check::fail("processes", Cause::ProcessMissing, message).at(cx.place(Self::NAME, "")),
            ];
        }
        let judged = self.running.iter().enumerate().map(|(i, asked)| {
            let place = cx.place(Self::NAME, &format!("running[{i}]"));
            running(asked, &rows, table.stdout.cut.then_some(table.stdout.total)).at(place)
        });
        judged.collect()
    }

    fn check(&self) -> Vec<Complaint> {
        let mut wrong = Vec::new();
        if self.running.is_empty() {
            wrong.push(Complaint::new(
                "",
                "no process is named: this would pass on anything",
                "at least one executable",
            ));
        }
        for (i, name) in self.running.iter().enumerate() {
            if name.is_empty() || (name.contains('/') && !name.starts_with('/')) {
                let message = format!("`{name}` names no executable");
                wrong.push(Complaint::new(
                    format!("running[{i}]"),
                    message,
                    "a base name or an absolute path",
                ));
            }
        }
        wrong
    }
}

/// A line `PID EXE COMM`.
#[derive(Debug, PartialEq, Eq)]
struct Row<'a> {
    pid: &'a str,
    /// `-` for a kernel thread and for a process that is gone.
    exe: &'a str,
    name: &'a str,
}

impl<'a> Row<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (pid, rest) = line.trim_end().split_once(' ')?;
        if pid.is_empty() || !pid.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        // The link of an executable that was replaced ends in ` (deleted)`.
        let end = match rest.find(" (deleted)") {
            Some(at) => at + " (deleted)".len(),
            None => rest.find(' ').unwrap_or(rest.len()),
        };
        Some(Row { pid, exe: &rest[..end], name: rest[end..].trim_start() })
    }

    /// By full path, or by the base name of what really runs; never by the name that a process gave itself.
    fn is(&self, asked: &str) -> bool {
        if asked.starts_with('/') {
            self.exe.strip_suffix(" (deleted)").unwrap_or(self.exe) == asked
        } else {
            self.exe != "-" && say::program(self.exe) == asked
        }
    }
}

fn running(asked: &str, rows: &[Row<'_>], cut: Option<u64>) -> Check {
    if let Some(row) = rows.iter().find(|row| row.is(asked)) {
        return Check::pass(asked, format!("{asked} runs: process {}, {}", row.pid, row.exe));
    }
    if let Some(total) = cut {
        return say::cut(asked, &format!("a process of {asked}"), total);
    }
    let base = asked.rsplit('/').next().unwrap_or(asked);
    let named = rows.iter().find(|row| row.name == base || say::program(row.exe) == base);
    let hint = match named {
        Some(row) if row.exe == "-" => format!("; process {} only has that name", row.pid),
        Some(row) => format!("; process {} is called {} and runs {}", row.pid, row.name, row.exe),
        None => String::new(),
    };
    let message =
        format!("{asked}: expected a process that runs it, saw none among {} processes{hint}", rows.len());
    Check::fail(asked, Cause::ProcessMissing, message)
}

#[cfg(test)]
mod tests;
