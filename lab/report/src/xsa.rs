//! How security advisories stand to a build, as text for a terminal and as Markdown for a pull request.

use crate::compare::{cell, wide_cell};
use crate::terminal::Style;
use std::fmt::Write;
use xenlab_model::escape_lines;
use xenlab_model::xsa::{Line, Report, Standing};

/// `2 open, 31 contained`, of those that touch the branch; `nothing` where none does.
pub fn counts(report: &Report, touching: bool) -> String {
    let counts = report.counts();
    let told: Vec<String> = Standing::ALL
        .into_iter()
        .filter(|s| s.touches() == touching)
        .filter_map(|s| counts.get(&s).map(|n| format!("{n} {}", s.words())))
        .collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

/// What is said in a sentence before anything else.
fn headline(report: &Report) -> String {
    let touching = report.lines.iter().filter(|l| l.standing.touches()).count();
    let allowed = match report.allowed.len() {
        0 => String::new(),
        n => format!(" ({n} unknown allowed)"),
    };
    format!("{touching} advisories touch Xen {}: {}{allowed}", report.subject.branch, counts(report, true))
}

/// What the feed and the branch are, a sentence each.
fn about(report: &Report) -> Vec<String> {
    let mut told = Vec::new();
    let feed = &report.feed;
    let day = feed.public.map(|d| format!(", the last of them public on {d}")).unwrap_or_default();
    told.push(format!("the feed has {} advisories up to XSA-{}{day}", feed.advisories, feed.latest));
    told.push(format!("of the others: {}", counts(report, false)));
    told.push(match (&report.support, report.today) {
        (Some(support), Some(today)) => format!("Xen {}: {}", report.subject.branch, support.told(today)),
        _ => format!("Xen {}: how long it is supported is not known here", report.subject.branch),
    });
    told
}

/// `1-3, 7`, of numbers in falling order.
fn ranges<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    let mut numbers: Vec<u32> = lines.map(|l| l.xsa).collect();
    numbers.sort_unstable();
    let mut told: Vec<(u32, u32)> = Vec::new();
    for n in numbers {
        match told.last_mut() {
            Some((_, to)) if *to + 1 == n => *to = n,
            _ => told.push((n, n)),
        }
    }
    let one = |(from, to): &(u32, u32)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    told.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Those that a reader has to see one by one; the others are told as numbers, unless all are wanted.
fn shown(report: &Report, all: bool) -> Vec<(Standing, Vec<&Line>)> {
    Standing::ALL
        .into_iter()
        .filter(|s| all || matches!(s, Standing::Open | Standing::Unknown | Standing::Patched))
        .map(|s| (s, report.of(s).collect::<Vec<_>>()))
        .filter(|(_, lines)| !lines.is_empty())
        .collect()
}

fn rest(report: &Report, all: bool) -> Vec<(Standing, String)> {
    let told = Standing::ALL.into_iter().filter(|s| {
        !all && !matches!(s, Standing::Open | Standing::Unknown | Standing::Patched | Standing::Older)
    });
    told.map(|s| (s, ranges(report.of(s)))).filter(|(_, numbers)| !numbers.is_empty()).collect()
}

fn name(line: &Line) -> String {
    let cve = if line.cve.is_empty() { String::new() } else { format!(" ({})", line.cve.join(", ")) };
    let title = if line.title.is_empty() { "without a title" } else { &line.title };
    format!("{title}{cve}")
}

/// For a terminal.
pub fn text(style: Style, report: &Report, all: bool) -> String {
    let mut out = String::new();
    let subject = &report.subject;
    let _ = writeln!(out, "{}, {} ({})", subject.spec, subject.version, escape_lines(&subject.by));
    let _ = writeln!(out, "{}", style.paint("1", &headline(report)));
    for sentence in about(report) {
        let _ = writeln!(out, "  {sentence}");
    }
    for (standing, lines) in shown(report, all) {
        let colour = match standing {
            Standing::Open => "31",
            Standing::Unknown => "33",
            Standing::Patched | Standing::Contained => "32",
            _ => "2",
        };
        out.push('\n');
        for line in lines {
            let allowed = if report.allowed.contains(&line.xsa) { ", allowed" } else { "" };
            let word = style.paint(colour, standing.words());
            let _ = writeln!(out, "{word}{allowed}  XSA-{}  {}", line.xsa, escape_lines(&name(line)));
            let _ = writeln!(out, "      {}", escape_lines(&line.why));
        }
    }
    let rest = rest(report, all);
    if !rest.is_empty() {
        out.push('\n');
    }
    for (standing, numbers) in rest {
        let _ = writeln!(out, "{}: XSA-{numbers}", standing.words());
    }
    if !all {
        out.push_str("\n--all says of each one why\n");
    }
    out
}

/// For a pull request.
pub fn markdown(report: &Report, all: bool) -> String {
    let mut out = String::new();
    let subject = &report.subject;
    let _ = writeln!(
        out,
        "**{}.** `{}`, {} ({}).\n",
        headline(report),
        subject.spec,
        subject.version,
        cell(&subject.by)
    );
    for sentence in about(report) {
        let _ = writeln!(out, "- {}", cell(&sentence));
    }
    for (standing, numbers) in rest(report, all) {
        let _ = writeln!(out, "- {}: XSA-{numbers}", standing.words());
    }
    let shown = shown(report, all);
    if shown.is_empty() {
        return out;
    }
    out.push_str("\n| XSA | | what | why |\n|---|---|---|---|\n");
    for (standing, lines) in shown {
        for line in lines {
            let word = match standing {
                Standing::Open => "**open**".to_owned(),
                Standing::Unknown if report.allowed.contains(&line.xsa) => "unknown, allowed".to_owned(),
                standing => standing.words().to_owned(),
            };
            let link = format!("[{0}](https://xenbits.xen.org/xsa/advisory-{0}.html)", line.xsa);
            let _ =
                writeln!(out, "| {link} | {word} | {} | {} |", wide_cell(&name(line)), wide_cell(&line.why));
        }
    }
    out
}
