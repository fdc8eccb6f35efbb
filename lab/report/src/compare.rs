//! Two runs compared, as Markdown for a pull request and as text for a terminal.

use crate::terminal::Style;
use std::collections::BTreeMap;
use std::fmt::Write;
use xenlab_model::compare::{Class, Comparison, Item, Judged, Line};
use xenlab_model::escape_lines;

/// The most lines that a table of one topic shows.
const MOST: usize = 40;
/// The most of a value that a line shows.
const WIDEST: usize = 140;

/// `regression 1, fixed 2, same 31`, of what is judged; nothing for what there is none of.
pub fn counts<'a>(items: impl IntoIterator<Item = &'a Item>) -> String {
    let mut by_class: BTreeMap<Class, usize> = BTreeMap::new();
    for item in items {
        *by_class.entry(item.class).or_default() += 1;
    }
    let told: Vec<String> = Class::ALL
        .into_iter()
        .filter_map(|class| by_class.get(&class).map(|n| format!("{n} {}", class.words())))
        .collect();
    if told.is_empty() { "nothing".to_owned() } else { told.join(", ") }
}

/// How one side judged, in a word: `pass`, `fail 2/5`, `not judged`.
fn word(judged: Option<&Judged>) -> String {
    let Some(judged) = judged else { return "absent".to_owned() };
    let all = judged.passed + judged.failed + judged.not_judged;
    let of = |n: u32| if all > 1 { format!(" {n}/{all}") } else { String::new() };
    match (judged.passed, judged.failed) {
        (0, 0) => format!("not judged{}", of(judged.not_judged)),
        (_, 0) => format!("pass{}", of(judged.passed)),
        _ => {
            let expected = if judged.failed == judged.expected { ", expected" } else { "" };
            format!("fail{}{expected}", of(judged.failed))
        }
    }
}

/// What an item is called below its case.
fn name(item: &Item) -> String {
    match (&item.key.step, &item.key.check) {
        (None, _) => item.key.case.clone(),
        (Some(step), None) => step.clone(),
        (Some(step), Some(check)) => format!("{step}: {check}"),
    }
}

/// The message that explains how an item stands.
fn why(item: &Item) -> String {
    let told = match item.class {
        Class::Fixed => item.old.as_ref().map(|old| format!("before: {}", old.message)),
        Class::NotChecked if item.new.is_none() => Some("not in the new run".to_owned()),
        _ => item.new.as_ref().map(|new| new.message.clone()),
    };
    let cause = item.new.as_ref().and_then(|n| n.cause).map(|c| format!(" [{c}]")).unwrap_or_default();
    told.unwrap_or_default() + &cause
}

/// What is worth telling: the smallest things that do not stand as before. A step or a case is told itself where nothing below it
/// says the same, and alone where everything below it was not judged, or is new, as it is.
pub(crate) fn telling(comparison: &Comparison) -> Vec<&Item> {
    let mut told = Vec::new();
    tell(&comparison.items, 0, &mut told);
    told
}

/// How deep an item is: a case, a step, a check.
fn depth(item: &Item) -> usize {
    usize::from(item.key.step.is_some()) + usize::from(item.key.check.is_some())
}

fn tell<'a>(items: &'a [Item], level: usize, told: &mut Vec<&'a Item>) {
    let mut at = 0;
    while let Some(item) = items.get(at) {
        let below = items[at + 1..].iter().take_while(|other| depth(other) > level).count();
        let children = &items[at + 1..at + 1 + below];
        let whole = matches!(item.class, Class::NotChecked | Class::New | Class::NoBaseline)
            && children.iter().all(|child| child.class == item.class);
        if item.class != Class::Same && (whole || !children.iter().any(|child| child.class == item.class)) {
            told.push(item);
        }
        if !whole {
            tell(children, level + 1, told);
        }
        at += 1 + below;
    }
}

/// Text as a cell of a Markdown table.
pub(crate) fn cell(text: &str) -> String {
    let mut flat = wide_cell(text);
    if flat.chars().count() > WIDEST {
        flat = flat.chars().take(WIDEST).collect::<String>() + "…";
    }
    flat
}

/// The same, whole.
pub(crate) fn wide_cell(text: &str) -> String {
    escape_lines(text).replace(['\n', '\r'], " ").replace('|', "\\|").replace('<', "&lt;")
}

/// A value of a line as a cell; code, so that nothing in it is Markdown.
fn value(text: Option<&str>) -> String {
    match text {
        None => "—".to_owned(),
        Some(text) if text.trim().is_empty() => "(empty)".to_owned(),
        Some(text) => {
            let flat = cell(text).replace('`', "'").replace("&lt;", "<");
            format!("`{flat}`")
        }
    }
}

/// The comparison in Markdown: its first line says what came of it.
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "**{}**", headline(comparison));
    let _ = writeln!(out);
    out.push_str(&judged_markdown(comparison));
    out.push_str(&lines_markdown(comparison));
    out
}

/// What came of a comparison, in one line.
pub fn headline(comparison: &Comparison) -> String {
    let regressions = comparison.lines.iter().filter(|l| l.class == Class::Regression).count();
    let lost = match regressions {
        0 => String::new(),
        n => format!("; {n} lost or worse of what was seen"),
    };
    format!(
        "`{}` → `{}`: cases: {}; checks: {}{lost}",
        comparison.old,
        comparison.new,
        counts(comparison.cases()),
        counts(comparison.checks()),
    )
}

/// What is judged and not the same.
pub(crate) fn judged_markdown(comparison: &Comparison) -> String {
    let told = telling(comparison);
    let mut out = String::new();
    if told.is_empty() {
        let _ = writeln!(out, "Every check that was judged is as before.\n");
        return out;
    }
    // The same of several cases is said once.
    type Told = (String, String, String, String, String);
    let mut rows: Vec<(Told, Vec<String>)> = Vec::new();
    for item in told {
        let check = if item.key.step.is_none() { "(the case)".to_owned() } else { cell(&name(item)) };
        let words = (word(item.old.as_ref()), word(item.new.as_ref()));
        let row = (shown_class(item.class), check, words.0, words.1, cell(&why(item)));
        match rows.iter_mut().find(|(r, _)| *r == row) {
            Some((_, cases)) => cases.push(item.key.case.clone()),
            None => rows.push((row, vec![item.key.case.clone()])),
        }
    }
    let _ = writeln!(out, "| verdict | case | check | old | new | |");
    let _ = writeln!(out, "|---|---|---|---|---|---|");
    for ((class, check, old, new, why), cases) in rows.iter().take(MOST * 2) {
        let cases = cases.iter().map(|c| cell(c)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "| {class} | {cases} | {check} | {old} | {new} | {why} |");
    }
    if let Some(more) = rows.len().checked_sub(MOST * 2).filter(|n| *n > 0) {
        let _ = writeln!(out, "\nand {more} more; `--json` has them all");
    }
    out.push('\n');
    out
}

fn shown_class(class: Class) -> String {
    match class {
        Class::Regression => "**regression**".to_owned(),
        class => class.words().to_owned(),
    }
}

/// Lines that are told together: what is the same of several names, in the same places.
struct Row<'a> {
    line: &'a Line,
    names: Vec<&'a str>,
    of: Vec<String>,
}

/// The rows of a topic.
fn rows<'a>(comparison: &Comparison, lines: &[&'a Line], topic: &str) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for line in lines.iter().filter(|l| l.topic == topic) {
        let of = comparison.of(line);
        let same = |row: &&mut Row<'_>| {
            let l = row.line;
            (l.class, &l.old, &l.new, &l.note, &row.of) == (line.class, &line.old, &line.new, &line.note, &of)
        };
        match rows.iter_mut().find(same) {
            Some(row) => row.names.push(&line.name),
            None => rows.push(Row { line, names: vec![&line.name], of }),
        }
    }
    rows
}

/// What was seen and differs, a row each; and how much is the same.
pub(crate) fn lines_markdown(comparison: &Comparison) -> String {
    let lines = &comparison.lines;
    let mut out = String::new();
    let (same, differ): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|l| l.class == Class::Same);
    if differ.is_empty() && !same.is_empty() {
        out.push_str("Nothing that was seen differs.\n\n");
    } else if !differ.is_empty() {
        let _ = writeln!(out, "| verdict | what | old | new | |");
        let _ = writeln!(out, "|---|---|---|---|---|");
        for topic in topics(&differ) {
            let rows = rows(comparison, &differ, &topic);
            for row in rows.iter().take(MOST) {
                let remark: Vec<String> = row.line.note.iter().chain(&row.of).map(|n| cell(n)).collect();
                let _ = writeln!(
                    out,
                    "| {} | {} | {} | {} | {} |",
                    shown_class(row.line.class),
                    wide_cell(&titled(row)),
                    value(row.line.old.as_deref()),
                    value(row.line.new.as_deref()),
                    remark.join("; "),
                );
            }
            if let Some(more) = rows.len().checked_sub(MOST).filter(|n| *n > 0) {
                let _ = writeln!(out, "| | {}: and {more} more, in the JSON | | | |", cell(&topic));
            }
        }
        out.push('\n');
    }
    let mut by_topic: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &same {
        *by_topic.entry(line.topic.as_str()).or_default() += 1;
    }
    if !by_topic.is_empty() {
        let told: Vec<String> = by_topic.iter().map(|(topic, n)| format!("{n} of {topic}")).collect();
        let _ = writeln!(out, "The same: {}.", told.join(", "));
    }
    out
}

fn titled(row: &Row<'_>) -> String {
    let line = row.line;
    // A complaint's name is its folded text, which its value shows better.
    let complaint = line.topic.starts_with("complaints") || line.topic.starts_with("warnings");
    match line.name.split_once(": ") {
        Some((phase, _)) if complaint => format!("{}, in {phase}", line.topic),
        _ => format!("{}: {}", line.topic, row.names.join(", ")),
    }
}

/// Topics in the order in which they come.
fn topics(lines: &[&Line]) -> Vec<String> {
    let mut topics: Vec<String> = Vec::new();
    for line in lines {
        if !topics.contains(&line.topic) {
            topics.push(line.topic.clone());
        }
    }
    topics
}

/// The comparison for a terminal.
pub fn text(style: Style, comparison: &Comparison) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", headline(comparison).replace('`', ""));
    for item in telling(comparison) {
        let _ = writeln!(
            out,
            "  {}  {}{}: {} -> {}",
            coloured(style, item.class),
            escape_lines(&item.key.case),
            if item.key.step.is_none() { String::new() } else { format!(", {}", escape_lines(&name(item))) },
            word(item.old.as_ref()),
            word(item.new.as_ref()),
        );
        let why = why(item);
        if !why.is_empty() {
            for line in crate::text::wrap(&escape_lines(&why), "      ", 110) {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    let differ: Vec<&Line> = comparison.lines.iter().filter(|l| l.class != Class::Same).collect();
    for topic in topics(&differ) {
        let rows = rows(comparison, &differ, &topic);
        let _ = writeln!(out, "{topic}");
        for row in rows.iter().take(MOST) {
            let line = row.line;
            let short =
                |v: Option<&str>| v.map_or("-".to_owned(), |v| crate::text::shorten(&escape_lines(v), 70));
            let notes: Vec<String> = line.note.iter().chain(&row.of).map(|n| escape_lines(n)).collect();
            let note = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) };
            let name = match titled(row).strip_prefix(&format!("{topic}: ")) {
                Some(name) => escape_lines(name),
                None => titled(row).rsplit(", ").next().unwrap_or_default().to_owned(),
            };
            let _ = writeln!(
                out,
                "  {}  {name}: {} -> {}{note}",
                coloured(style, line.class),
                short(line.old.as_deref()),
                short(line.new.as_deref()),
            );
        }
        if let Some(more) = rows.len().checked_sub(MOST).filter(|n| *n > 0) {
            let _ = writeln!(out, "  and {more} more; --json has them all");
        }
    }
    let same = comparison.lines.len() - differ.len();
    let _ = writeln!(out, "{same} other things that were seen are the same");
    out
}

fn coloured(style: Style, class: Class) -> String {
    let word = crate::text::pad(class.words(), 17);
    match class {
        Class::Regression | Class::NoBaseline => style.paint("31", &word),
        Class::Flaky | Class::NotChecked | Class::FailedBefore | Class::NeverPassed => {
            style.paint("33", &word)
        }
        Class::Fixed | Class::New => style.paint("32", &word),
        Class::Changed | Class::Same => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xenlab_model::compare::Key;

    fn judged(passed: u32, failed: u32, not_judged: u32, message: &str) -> Option<Judged> {
        Some(Judged { passed, failed, not_judged, message: message.into(), ..Judged::default() })
    }

    fn item(class: Class, names: &[&str], old: Option<Judged>, new: Option<Judged>) -> Item {
        let name = |n: usize| names.get(n).map(|s| (*s).to_owned());
        Item { key: Key { case: names[0].to_owned(), step: name(1), check: name(2) }, class, old, new }
    }

    fn comparison(items: Vec<Item>, lines: Vec<Line>) -> Comparison {
        let archs = [("x86_64".to_owned(), ["t".to_owned()].into())].into();
        Comparison { format: 1, old: "a".into(), new: "b".into(), items, lines, archs }
    }

    #[test]
    fn what_is_told_is_the_smallest_thing_that_says_it() {
        let (pass, fail, not) =
            (judged(1, 0, 0, "good"), judged(0, 1, 0, "bad | `worse`\nend"), judged(0, 0, 1, "lost"));
        let items = vec![
            item(Class::Regression, &["t"], pass.clone(), fail.clone()),
            item(Class::Same, &["t", "one"], pass.clone(), pass.clone()),
            item(Class::Same, &["t", "one", "a"], pass.clone(), pass.clone()),
            item(Class::Regression, &["t", "two"], pass.clone(), fail.clone()),
            item(Class::Regression, &["t", "two", "b"], pass.clone(), fail.clone()),
            item(Class::Same, &["t", "two", "c"], pass.clone(), pass.clone()),
            item(Class::NotChecked, &["t", "three"], pass.clone(), not),
            item(Class::NotChecked, &["t", "three", "d"], pass.clone(), None),
            // Its check says another thing than the step.
            item(Class::Regression, &["t", "four"], pass.clone(), fail),
            item(Class::NotChecked, &["t", "four", "e"], pass, None),
        ];
        let comparison = comparison(items, Vec::new());
        let told: Vec<String> = telling(&comparison).into_iter().map(name).collect();
        assert_eq!(told, ["two: b", "three", "four", "four: e"]);
        let text = markdown(&comparison);
        assert!(
            text.starts_with(
                "**`a` → `b`: cases: 1 regression; checks: 1 regression, 2 not checked, 2 same**"
            ),
            "{text}"
        );
        // Nothing of a message breaks the table.
        let row = text.lines().find(|l| l.contains("two: b")).unwrap_or_default();
        assert!(row.contains(r"bad \| `worse` end"), "{row}");
    }

    #[test]
    fn members_of_a_set_share_a_row_and_losses_stand_out() {
        let one = |name: &str, old: Option<&str>, new: Option<&str>, loss| {
            xenlab_model::compare::line("Kconfig", name, old, new, loss)
        };
        let lines = vec![
            one("A", None, Some("yes"), Class::Changed),
            one("B", None, Some("yes"), Class::Changed),
            one("C", Some("yes"), None, Class::Regression),
            one("N", Some("1`|"), Some("2"), Class::Changed),
            one("S", Some("yes"), Some("yes"), Class::Changed),
        ];
        let text = markdown(&comparison(Vec::new(), lines));
        for row in [
            "| new | Kconfig: A, B | — | `yes` |  |",
            "| **regression** | Kconfig: C | `yes` | — |  |",
            r"| changed | Kconfig: N | `1'\|` | `2` |  |",
            "The same: 1 of Kconfig.",
        ] {
            assert!(text.contains(row), "{row} is not in\n{text}");
        }
    }
}
