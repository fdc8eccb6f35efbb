//! `summary.md`: a table that a maintainer can paste into a pull request.

use crate::run::{CaseState, Run};
use crate::{ReportError, Reporter, file, text};
use std::fmt::Write;
use std::path::PathBuf;
use xenlab_model::case::Planned;
use xenlab_model::escape_lines;
use xenlab_model::event::{Event, What};
use xenlab_model::expectation::{Expected, Kind};
use xenlab_model::verdict::{CaseVerdict, Verdict};

/// Writes the file anew at the start, at each case's end and at the run's end.
pub struct Summary {
    path: PathBuf,
    run: Run,
}

impl Summary {
    /// Writes to this file.
    pub fn new(path: PathBuf) -> Self {
        Summary { path, run: Run::default() }
    }
}

impl Reporter for Summary {
    fn name(&self) -> String {
        "summary.md".into()
    }

    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        self.run.apply(event);
        match event.what {
            What::RunStarted { .. } | What::CaseFinished { .. } | What::RunFinished { .. } => {
                file::replace(&self.path, markdown(&self.run).as_bytes())
            }
            _ => Ok(()),
        }
    }
}

fn markdown(run: &Run) -> String {
    let mut out = format!("### xenlab: {}\n\n", run.tally());
    if run.interrupted {
        out.push_str("**The run was interrupted.**\n\n");
    } else if run.finished.is_none() {
        out.push_str("**The run has not ended, or was killed.**\n\n");
    }
    for table in crate::xtf::tables(run) {
        out.push_str(&instances(&table));
    }
    // Whoever reads a long list looks for something in it: it is not in the way of those who do not.
    let long = run.cases.len() > LONG;
    if long {
        let _ = write!(out, "<details><summary>{} cases</summary>\n\n", run.cases.len());
    }
    out.push_str("| case | Xen | verdict | cause | seconds |\n|---|---|---|---|---:|\n");
    for case in &run.cases {
        let (id, subject) = case.id_and_subject();
        let (word, cause, seconds) = match &case.verdict {
            Some(v) => (
                v.verdict.word(),
                v.cause.map(|c| code(c.code())).unwrap_or_default(),
                format!("{:.1}", v.seconds),
            ),
            None => ("no verdict", String::new(), String::new()),
        };
        let expected = case.verdict.as_ref().and_then(|v| v.expected.as_ref()).map(|e| e.kind);
        let word = match expected {
            Some(Kind::AsExpected) => format!("{word}, expected"),
            Some(kind) => format!("**{word}**, {}", kind.words()),
            None if matches!(word, "PASS" | "SKIP") => word.to_owned(),
            None => format!("**{word}**"),
        };
        let _ = writeln!(out, "| {} | {} | {word} | {cause} | {seconds} |", code(id), code(subject));
    }
    if long {
        out.push_str("\n</details>\n");
    }
    for case in &run.cases {
        match &case.verdict {
            Some(verdict)
                if !matches!(verdict.verdict, Verdict::Pass | Verdict::Skip)
                    && verdict.as_expected().is_none() =>
            {
                out.push_str(&failure(case, verdict));
            }
            _ => {}
        }
    }
    listed(&mut out, "Not what was expected", run.otherwise());
    listed(&mut out, "As expected", run.as_expected());
    let skipped: Vec<(&CaseState, &str)> = run.cases.iter().filter_map(|c| Some((c, reason(c)?))).collect();
    if !skipped.is_empty() {
        out.push_str("\nSkipped:\n");
        for (case, because) in skipped {
            let _ = writeln!(out, "- {}: {}", code(&case.shown), plain(because));
        }
    }
    if !run.notes.is_empty() {
        out.push_str("\nNotes:\n");
        for (case, message) in &run.notes {
            let case = case.as_ref().map(|c| format!("{}: ", code(c))).unwrap_or_default();
            let _ = writeln!(out, "- {case}{}", plain(message));
        }
    }
    let seconds = run.finished.map(|(_, s)| format!(", {s:.1} s")).unwrap_or_default();
    let _ = writeln!(
        out,
        "\nxenlab {}, run {}, {}{seconds}",
        plain(&run.version),
        code(&run.id),
        plain(&run.started)
    );
    out
}

/// With more cases than this their table is folded.
const LONG: usize = 40;

/// XTF's instances on one build, by category and environment.
fn instances(table: &crate::xtf::Table) -> String {
    let mut out = format!("XTF on {}:\n\n| category | environment |", code(&table.subject));
    for column in &table.columns {
        let _ = write!(out, " {} |", column.word());
    }
    out.push_str("\n|---|---|");
    out.push_str(&"---:|".repeat(table.columns.len()));
    out.push('\n');
    for (category, environment, counts) in &table.rows {
        let counts: Vec<String> = counts.iter().map(|count| count.shown()).collect();
        let _ = writeln!(out, "| {} | {} | {} |", plain(category), plain(environment), counts.join(" | "));
    }
    let totals: Vec<String> = table.totals().iter().map(|count| format!("**{}**", count.shown())).collect();
    let _ = writeln!(out, "| **all** | | {} |\n", totals.join(" | "));
    if !table.unexplained.is_empty() {
        let one = |(instance, word): &(String, &str)| format!("{} ({word})", code(instance));
        let all: Vec<String> = table.unexplained.iter().map(one).collect();
        let _ = writeln!(out, "Unexplained: {}.\n", all.join(", "));
    }
    out
}

/// A list of cases, each with what there is to say of its expectation.
fn listed<'a>(
    out: &mut String,
    title: &str,
    cases: impl Iterator<Item = (&'a CaseState, &'a CaseVerdict, &'a Expected)>,
) {
    for (n, (case, verdict, expected)) in cases.enumerate() {
        if n == 0 {
            let _ = write!(out, "\n{title}:\n");
        }
        let _ = writeln!(out, "- {}: {}", code(&case.shown), plain(&expected.said(verdict)));
    }
}

/// Why a case was skipped, if it was, and nobody knew before.
fn reason(case: &CaseState) -> Option<&str> {
    let verdict =
        case.verdict.as_ref().filter(|v| v.verdict == Verdict::Skip && v.as_expected().is_none())?;
    match &case.planned {
        Planned::Skip(because) if verdict.message.is_empty() => Some(because),
        _ => Some(&verdict.message),
    }
}

fn failure(case: &CaseState, verdict: &CaseVerdict) -> String {
    let mut out =
        format!("\n#### {} {}\n\n{}\n", verdict.verdict.word(), code(&case.shown), plain(&verdict.message));
    if let Some(cause) = verdict.cause {
        let _ = writeln!(
            out,
            "\n- cause: {}, {}; whose fault: {}",
            code(cause.code()),
            cause.meaning(),
            text::fault(verdict.blame)
        );
    }
    if let Some(control) = &verdict.control {
        let (subject, because) = (code(&control.subject), plain(&control.because));
        let _ = writeln!(out, "- control: {subject} ({because}) {}", plain(&control.outcome()));
    }
    if !case.bundle.is_empty() {
        let _ = writeln!(out, "- bundle: {}", code(&case.bundle));
    }
    if !case.reproduce.is_empty() {
        let _ = writeln!(out, "- again: {}", code(&case.reproduce));
    }
    let mut checks = String::new();
    for step in &verdict.steps {
        for check in step.checks.iter().filter(|c| matches!(c.verdict, Verdict::Fail | Verdict::Error)) {
            let _ = writeln!(
                checks,
                "{} {}, {}: {}",
                check.verdict.word(),
                step.title,
                check.name,
                check.message
            );
            let label = check.shown.iter().map(|(l, _)| text::width(l)).max().unwrap_or(0);
            for (name, value) in &check.shown {
                let _ = writeln!(checks, "    {}  {value}", text::pad(name, label));
            }
            if let Some(place) = &check.place {
                let _ = writeln!(checks, "    at {place}");
            }
        }
    }
    if !checks.is_empty() {
        // A fence longer than any in the text: nothing a guest wrote ends it.
        let checks = escape_lines(&checks);
        let fence = "`".repeat(longest_run(&checks).max(2) + 1);
        let _ = write!(out, "\n{fence}text\n{checks}{fence}\n");
    }
    out
}

/// A code span, safe inside a table.
fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let text = escape_lines(text).replace('\n', " ");
    let ticks = "`".repeat(longest_run(&text) + 1);
    let gap = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{ticks}{gap}{}{gap}{ticks}", text.replace('|', "\\|"))
}

/// Text of one line in which nothing is markup.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in escape_lines(text).trim_end().chars() {
        match c {
            '\n' => out.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// The most backticks in a row.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}
