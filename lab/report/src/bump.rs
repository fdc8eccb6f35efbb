//! A version bump in Markdown: one page that goes into a pull request.

use crate::compare::{cell, headline, judged_markdown, lines_markdown, wide_cell};
use std::collections::BTreeMap;
use std::fmt::Write;
use xenlab_model::compare::{BOOT, Bump, Class, Line, Point, Standing};
use xenlab_model::exit::Exit;

/// The most pieces of evidence that a point shows.
const MOST: usize = 6;

/// The report. Its first line has both counts: what was done and what was not.
pub fn bump(bump: &Bump) -> String {
    let mut out = String::new();
    let (holds, fails) = (bump.count(Standing::Holds), bump.count(Standing::Fails));
    let fail = match fails {
        0 => String::new(),
        1 => ", 1 of them fails".to_owned(),
        n => format!(", {n} of them fail"),
    };
    let _ = writeln!(
        out,
        "**{} of {} points done{fail}; {} not checked.** {}",
        holds + fails,
        bump.points.len(),
        bump.count(Standing::NotChecked),
        verdict(bump),
    );
    let _ = writeln!(out, "\nXen `{}` → `{}`, on {}.", bump.old, bump.new, bump.archs.join(" and "));
    for (arch, why) in &bump.without {
        let _ = writeln!(out, "Not on {arch}: {}.", cell(why));
    }
    out.push_str("\n### What must hold of the new Xen\n\n");
    for must in &bump.must_hold {
        let because = must.because.iter().map(|b| cell(b)).take(MOST).collect::<Vec<_>>().join("; ");
        let _ = match must.standing {
            Standing::Holds => writeln!(out, "- holds: {} ({} looked at)", must.name, must.because.len()),
            Standing::Fails => writeln!(out, "- **fails**: {}: {because}", must.name),
            Standing::NotChecked => writeln!(out, "- not checked: {}, because {because}", must.name),
        };
    }
    out.push_str("\n### The checklist\n\n");
    for point in &bump.points {
        out.push_str(&self::point(point));
    }
    if let Some(advisories) = &bump.advisories {
        let _ = write!(out, "\n### Security advisories\n\n{}", crate::xsa::markdown(advisories, false));
    }
    let _ = writeln!(out, "\n### Checks that were judged on both\n\n{}.\n", headline(&bump.comparison));
    out.push_str(&judged_markdown(&bump.comparison));
    out.push_str(&times(bump));
    out.push_str("### What differs\n\n");
    out.push_str(&lines_markdown(&bump.comparison));
    out
}

/// What the exit code says, in a sentence.
fn verdict(bump: &Bump) -> String {
    let fails: Vec<&str> =
        bump.must_hold.iter().filter(|m| m.standing == Standing::Fails).map(|m| m.name.as_str()).collect();
    if !fails.is_empty() {
        return format!("The new Xen does not hold what it must: {}.", fails.join("; "));
    }
    let alone: Vec<String> = bump.alone().map(|p| p.number.to_string()).collect();
    if !alone.is_empty() {
        return format!("The new Xen does not hold point {} of the checklist.", alone.join(" and "));
    }
    match bump.exit() {
        Exit::Failed => "Something got worse.".to_owned(),
        Exit::Passed => "Nothing that was checked got worse.".to_owned(),
        _ => "Not all of it could be judged: this host or the lab is to blame, see below.".to_owned(),
    }
}

fn point(point: &Point) -> String {
    let mut out = String::new();
    let mark = match point.standing {
        Standing::Holds => "x",
        Standing::Fails | Standing::NotChecked => " ",
    };
    let list = |texts: &[String]| {
        let mut shown: Vec<String> = texts.iter().take(MOST).map(|t| long(t)).collect();
        if let Some(more) = texts.len().checked_sub(MOST).filter(|n| *n > 0) {
            shown.push(format!("and {more} more"));
        }
        shown.join("; ")
    };
    let _ = write!(out, "- [{mark}] {}. {}: ", point.number, point.title);
    let _ = match point.standing {
        Standing::Holds => writeln!(out, "{}", list(&point.evidence)),
        Standing::Fails if point.not_checked.is_empty() => writeln!(out, "**fails**: {}", list(&point.fails)),
        Standing::Fails => {
            writeln!(
                out,
                "**fails**: {}; not checked of it: {}",
                list(&point.fails),
                list(&point.not_checked)
            )
        }
        Standing::NotChecked if point.evidence.is_empty() => {
            writeln!(out, "not checked, because {}", list(&point.not_checked))
        }
        Standing::NotChecked => {
            writeln!(
                out,
                "not checked in full, because {}; what was: {}",
                list(&point.not_checked),
                list(&point.evidence)
            )
        }
    };
    out
}

/// A piece of evidence: longer than a cell, and no page.
fn long(text: &str) -> String {
    const WIDEST: usize = 420;
    let flat = wide_cell(text);
    if flat.chars().count() <= WIDEST {
        return flat;
    }
    flat.chars().take(WIDEST).collect::<String>() + "…"
}

/// When each phase of the boot was reached, a row a case, old and new.
fn times(bump: &Bump) -> String {
    let mut by_case: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    for line in bump.comparison.lines.iter().filter(|l| l.topic == BOOT) {
        for case in &line.of {
            by_case.entry(case).or_default().push(line);
        }
    }
    let mut out = String::new();
    if by_case.is_empty() {
        return out;
    }
    out.push_str("### Boot milestones, in guest time since power-on\n\n| case | old → new |\n|---|---|\n");
    for (case, mut lines) in by_case {
        let order = |line: &&Line| xenlab_model::compare::phase_order(&line.name);
        lines.sort_by_key(order);
        let all: Vec<String> = lines
            .iter()
            .map(|l| {
                let none = if l.class == Class::NotChecked { "not seen" } else { "never" };
                let text = |t: &Option<String>| t.as_deref().unwrap_or(none).to_owned();
                format!("{} {} → {}", l.name, text(&l.old), text(&l.new))
            })
            .collect();
        let _ = writeln!(out, "| {} | {} |", cell(case), all.join(", "));
    }
    out.push('\n');
    out
}
