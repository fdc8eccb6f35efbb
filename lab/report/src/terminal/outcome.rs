//! What is shown of a case that has ended, and at the end of a run: pure, from the run's state.

use super::Style;
use crate::run::{CaseState, Run};
use crate::text::{self, pad, shorten, width, wrap};
use xenlab_model::case::Planned;
use xenlab_model::expectation::Expected;
use xenlab_model::verdict::{CaseVerdict, Check, Verdict};
use xenlab_model::{escape, escape_lines};

/// The word of a verdict, in its colour.
fn word(style: Style, verdict: Option<Verdict>) -> String {
    match verdict {
        Some(v @ Verdict::Pass) => style.paint("32", v.word()),
        Some(v @ Verdict::Fail) => style.paint("1;31", v.word()),
        Some(v @ Verdict::Error) => style.paint("1;35", v.word()),
        Some(v @ Verdict::Skip) => style.paint("33", v.word()),
        Some(v @ Verdict::NotReached) => style.paint("1;33", v.word()),
        None => style.paint("1;33", "NO VERDICT"),
    }
}

/// The word of a case's verdict; what was expected alarms nobody.
fn word_of(style: Style, verdict: &CaseVerdict) -> String {
    match verdict.as_expected() {
        Some(_) => style.paint("33", verdict.verdict.word()),
        None => word(style, Some(verdict.verdict)),
    }
}

/// One line when a case ends.
pub(super) fn ended(style: Style, case: &CaseState) -> String {
    let Some(verdict) = &case.verdict else { return String::new() };
    let shown = escape(&case.shown);
    let expected = verdict.as_expected().map(|e| format!(" (expected: {})", escape(&e.because)));
    let head = format!(
        "{}{} {shown} ({:.1} s)",
        word_of(style, verdict),
        expected.unwrap_or_default(),
        verdict.seconds
    );
    match verdict.verdict {
        Verdict::Pass => head,
        Verdict::Skip => format!("{head}: {}", escape(reason(case, verdict))),
        _ => {
            let cause = verdict.cause.map(|c| format!("{c}: ")).unwrap_or_default();
            format!("{head}: {cause}{}", escape(verdict.message.lines().next().unwrap_or("")))
        }
    }
}

fn reason<'a>(case: &'a CaseState, verdict: &'a CaseVerdict) -> &'a str {
    match &case.planned {
        Planned::Skip(because) if verdict.message.is_empty() => because,
        _ => &verdict.message,
    }
}

/// A case judged again from its bundle: every step in a line, and what did not hold.
pub(super) fn replayed(style: Style, verdict: &CaseVerdict, bundle: &str) -> String {
    let shown = format!("{} @ {}", verdict.case, verdict.subject);
    let mut case = CaseState::new(&shown, Planned::Run);
    bundle.clone_into(&mut case.bundle);
    let mut out = match verdict.verdict {
        Verdict::Pass | Verdict::Skip => {
            let said = verdict.expected.as_ref().map(|e| format!("  {}\n", escape(&e.said(verdict))));
            format!("{} {}\n{}", word_of(style, verdict), escape(&shown), said.unwrap_or_default())
        }
        _ => block(style, &case, verdict),
    };
    for step in &verdict.steps {
        let judged = step.checks.iter().filter(|c| c.verdict != Verdict::Skip).count();
        out.push_str(&format!(
            "  {} {} {} ({judged} of {} checks judged)\n",
            word(style, Some(step.verdict)),
            step.step,
            escape(&step.title),
            step.checks.len()
        ));
    }
    out
}

/// The end of a run: a table of every case, a block for each that did not pass, and the count.
pub(super) fn report(style: Style, run: &Run) -> String {
    let mut out = String::new();
    if !run.cases.is_empty() {
        out.push_str(&table(style, run));
    }
    for case in &run.cases {
        if let Some(verdict) = &case.verdict
            && !matches!(verdict.verdict, Verdict::Pass | Verdict::Skip)
            && verdict.as_expected().is_none()
        {
            out.push('\n');
            out.push_str(&block(style, case, verdict));
        }
    }
    out.push_str(&listed(style, "not what was expected", run.otherwise()));
    out.push_str(&listed(style, "as expected", run.as_expected()));
    for table in crate::xtf::tables(run) {
        out.push_str(&instances(style, &table));
    }
    let seconds = run.finished.map(|(_, s)| format!(" ({s:.1} s)")).unwrap_or_default();
    let interrupted = if run.interrupted { "interrupted; " } else { "" };
    out.push_str(&format!("\n{interrupted}{}{seconds}\n", run.tally()));
    out
}

/// Cases, each with what there is to say of its expectation.
fn listed<'a>(
    style: Style,
    title: &str,
    cases: impl Iterator<Item = (&'a CaseState, &'a CaseVerdict, &'a Expected)>,
) -> String {
    let mut out = String::new();
    for (case, verdict, expected) in cases {
        if out.is_empty() {
            out = format!("\n{}\n", style.paint("1", title));
        }
        let line = format!("{}: {}", escape(&case.shown), escape_lines(&expected.said(verdict)));
        let mut lines = wrap(&line, "    ", style.width);
        if let Some(first) = lines.first_mut() {
            *first = format!("  {}", first.trim_start());
        }
        out.push_str(&(lines.join("\n") + "\n"));
    }
    out
}

fn table(style: Style, run: &Run) -> String {
    const SECONDS: usize = 8;
    // As wide as ever, unless something was expected.
    let plain = |case: &CaseState| match &case.verdict {
        Some(v) if v.as_expected().is_some() => format!("{}, expected", v.verdict.word()),
        Some(v) => v.verdict.word().to_owned(),
        None => "NO VERDICT".to_owned(),
    };
    let verdict_width = run.cases.iter().map(|c| plain(c).len()).max().unwrap_or(0).max(11);
    let names: Vec<String> = run.cases.iter().map(|c| escape(&c.shown)).collect();
    let room = style.width.saturating_sub(verdict_width + SECONDS + 4).max(20);
    let column = names.iter().map(|n| width(n)).max().unwrap_or(0).clamp(4, room);
    let head =
        format!("\n{}  {}  {:>SECONDS$}", pad("case", column), pad("verdict", verdict_width), "seconds");
    let mut out = style.paint("1", &head) + "\n";
    for (name, case) in names.iter().zip(&run.cases) {
        let verdict = case.verdict.as_ref();
        let plain = plain(case);
        let word = match verdict.filter(|v| v.as_expected().is_some()) {
            Some(_) => style.paint("33", &plain),
            None => word(style, verdict.map(|v| v.verdict)),
        };
        let word = word + &" ".repeat(verdict_width.saturating_sub(plain.len()));
        let seconds = verdict.map(|v| format!("{:.1}", v.seconds)).unwrap_or_default();
        out.push_str(&format!("{}  {word}  {seconds:>SECONDS$}\n", pad(&shorten(name, column), column)));
    }
    out
}

/// XTF's instances on one build, by category and environment.
fn instances(style: Style, table: &crate::xtf::Table) -> String {
    let rows = table.rows.iter();
    let category = rows.clone().map(|(c, ..)| width(&escape(c))).max().unwrap_or(0).max(8);
    let environment = rows.clone().map(|(_, e, _)| width(&escape(e))).max().unwrap_or(0).max(11);
    let totals = table.totals();
    let widths: Vec<usize> = table
        .columns
        .iter()
        .zip(&totals)
        .map(|(column, total)| width(column.word()).max(total.shown().len()).max(4))
        .collect();
    let line = |c: &str, e: &str, cells: Vec<String>| {
        let mut line = format!("{}  {}", pad(&escape(c), category), pad(&escape(e), environment));
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    };
    let head = line("category", "environment", table.columns.iter().map(|c| c.word().to_owned()).collect());
    let mut out = format!("\nXTF on {}\n{}", escape(&table.subject), style.paint("1", &head));
    for (category, environment, counts) in rows {
        out.push_str(&line(category, environment, counts.iter().map(|count| count.shown()).collect()));
    }
    out.push_str(&line("all", "", totals.iter().map(|count| count.shown()).collect()));
    if !table.unexplained.is_empty() {
        let one = |(instance, word): &(String, &str)| format!("{} ({word})", escape(instance));
        let all: Vec<String> = table.unexplained.iter().map(one).collect();
        out.push_str(
            &(wrap(&format!("unexplained: {}", all.join(", ")), "  ", style.width).join("\n") + "\n"),
        );
    }
    out
}

/// Everything about a case that did not pass.
fn block(style: Style, case: &CaseState, verdict: &CaseVerdict) -> String {
    let mut lines = judged(style, &case.shown, verdict);
    // Paths and commands are copied: they are never broken over lines.
    if !case.bundle.is_empty() {
        lines.push(format!("  bundle:  {}", escape(&case.bundle)));
    }
    if !case.reproduce.is_empty() {
        lines.push(format!("  again:   {}", escape_lines(&case.reproduce)));
    }
    lines.join("\n") + "\n"
}

/// A case's verdict alone, as a replay has it: a line, and what did not hold. Without colours; ends with a line feed.
pub fn case_text(verdict: &CaseVerdict) -> String {
    let style = Style { color: false, width: super::PLAIN_WIDTH };
    let shown = format!("{} @ {}", verdict.case, verdict.subject);
    match verdict.verdict {
        Verdict::Pass => format!("PASS {}\n", escape(&shown)),
        Verdict::Skip => format!("SKIP {}: {}\n", escape(&shown), escape(&verdict.message)),
        Verdict::Fail | Verdict::Error | Verdict::NotReached => {
            judged(style, &shown, verdict).join("\n") + "\n"
        }
    }
}

/// What was judged of a case that did not pass: message, cause, control, and each check that does not hold.
fn judged(style: Style, case: &str, verdict: &CaseVerdict) -> Vec<String> {
    let mut lines = vec![format!("{} {}", word_of(style, verdict), style.paint("1", &escape(case)))];
    lines.extend(wrap(&escape_lines(&verdict.message), "  ", style.width));
    if let Some(cause) = verdict.cause {
        // What was expected blames nobody but whom the expectation does.
        let fault = match verdict.as_expected() {
            Some(_) => String::new(),
            None => format!("; whose fault: {}", text::fault(verdict.blame)),
        };
        let line = format!("{cause} ({}){fault}", cause.meaning());
        lines.extend(labelled("cause:", &line, style));
        if let Some(advice) = cause.advice().filter(|_| verdict.as_expected().is_none()) {
            lines.extend(labelled("try:", advice, style));
        }
    }
    if let Some(expected) = &verdict.expected {
        lines.extend(labelled("known:", &escape_lines(&expected.said(verdict)), style));
    }
    if let Some(control) = &verdict.control {
        let line = format!(
            "{} ({}) {}",
            escape(&control.subject),
            escape(&control.because),
            escape(&control.outcome())
        );
        lines.extend(labelled("control:", &line, style));
    }
    for step in &verdict.steps {
        let bad: Vec<&Check> =
            step.checks.iter().filter(|c| matches!(c.verdict, Verdict::Fail | Verdict::Error)).collect();
        if bad.is_empty() {
            continue;
        }
        let on = step.origin.words().map(|on| format!(" ({on})")).unwrap_or_default();
        lines.push(format!("  {} {}{on}", step.step, style.paint("1", &escape(&step.title))));
        for check in bad {
            lines.extend(shown(style, check));
        }
    }
    lines
}

/// A label and its text, further lines under the text.
fn labelled(label: &str, text: &str, style: Style) -> Vec<String> {
    let mut lines = wrap(text, "           ", style.width);
    if let Some(first) = lines.first_mut() {
        *first = format!("  {label:<9}{}", first.trim_start());
    }
    lines
}

/// A check that does not hold, its values under each other.
fn shown(style: Style, check: &Check) -> Vec<String> {
    let cause = check.cause.map(|c| format!(" [{c}]")).unwrap_or_default();
    let head = format!("{}{cause}: {}", escape(&check.name), escape_lines(&check.message));
    let mut lines = Vec::new();
    for (n, line) in wrap(&head, "", style.width.saturating_sub(10)).into_iter().enumerate() {
        let lead =
            if n == 0 { word(style, Some(check.verdict)) } else { " ".repeat(check.verdict.word().len()) };
        lines.push(format!("    {lead} {line}"));
    }
    let label = check.shown.iter().map(|(l, _)| width(&escape(l))).max().unwrap_or(0);
    for (name, value) in &check.shown {
        let value = escape_lines(value);
        for (n, line) in value.trim_end().split('\n').enumerate() {
            let name = if n == 0 { escape(name) } else { String::new() };
            lines.push(format!("      {}  {line}", pad(&name, label)));
        }
    }
    if let Some(place) = &check.place {
        lines.push(format!("      at {place}"));
    }
    lines
}
