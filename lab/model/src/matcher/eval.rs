//! What a matcher says of a value, and what can be said of a matcher before there is one.

use super::{Matcher, Op};
use crate::evidence::Captured;
use crate::fact::{FactType, FactValue, Facts};
use crate::units::Size;
use crate::version;
use regex::Regex;
use std::collections::BTreeSet;

/// What a matcher says of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The value is as expected.
    Holds,
    /// It is not.
    Fails {
        /// In words that follow "expected": `` `4.20` ``, `at least 64`.
        expected: String,
        /// In words that follow "saw".
        seen: String,
    },
    /// It refers to facts that are not known; never a pass.
    Unknown {
        /// Their names.
        facts: Vec<String>,
    },
}

/// Output was cut, and what was kept cannot show what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// In words that follow "expected".
    pub expected: String,
}

/// What one operator says.
enum Says {
    Holds,
    Fails,
    /// It cannot be compared at all: the value, an operand or a fact does not read as this type.
    Unreadable(String),
    Unknown(String),
    /// The text was cut, so neither.
    Cut,
}

impl Says {
    fn when(holds: bool) -> Says {
        if holds { Says::Holds } else { Says::Fails }
    }
}

/// The value under test.
#[derive(Clone, Copy)]
enum Seen<'a> {
    Nothing,
    Value(&'a FactValue),
    /// Text whose end is missing.
    Cut(&'a str),
}

impl Matcher {
    /// Tests a value; `None` means that there is none (a field that is absent), which only `present: false` expects.
    /// Operands are read by the value's type.
    ///
    /// Whether a *fact* that is absent is "none" or "not known yet" is the caller's knowledge: ask only about known ones.
    pub fn test(&self, value: Option<&FactValue>, facts: &Facts) -> Outcome {
        match self.evaluate(value.map_or(Seen::Nothing, Seen::Value), facts) {
            Ok(outcome) => outcome,
            // Only text that was cut gives this, and this was not.
            Err(Cut { expected }) => Outcome::Fails { expected, seen: shown(value) },
        }
    }

    /// Tests text read as a value of type `kind`. Text that does not read so (`xen_major: four`) fails.
    pub fn test_text(&self, text: &str, kind: FactType, facts: &Facts) -> Outcome {
        match parse(text, kind) {
            Ok(value) => self.test(Some(&value), facts),
            Err(_) if self.only_presence() => self.test(Some(&FactValue::text(text)), facts),
            Err(why) => {
                Outcome::Fails { expected: self.expected(facts), seen: format!("{}, {why}", quote(text)) }
            }
        }
    }

    /// Tests a command's output as text, its last line end taken off.
    ///
    /// # Errors
    /// [`Cut`] when the output was cut and what was kept decides nothing: the absence of anything, and equality, cannot be
    /// shown by a part. What the part does show (an unwanted word that *is* there) is judged.
    pub fn test_captured(&self, output: &Captured, facts: &Facts) -> Result<Outcome, Cut> {
        if output.cut {
            return self.evaluate(Seen::Cut(&output.text), facts);
        }
        let text = output.text.strip_suffix('\n').unwrap_or(&output.text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        Ok(self.test(Some(&FactValue::text(text)), facts))
    }

    /// The names of the facts that `same-as` refers to.
    pub fn fact_names(&self) -> Vec<&str> {
        match self {
            Matcher::All(ops) => ops
                .iter()
                .filter(|(op, _)| *op == Op::SameAs)
                .flat_map(|(_, v)| v.iter().map(String::as_str))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// What it expects, in words that follow "expected"; facts it refers to are shown with their values.
    pub fn expected(&self, facts: &Facts) -> String {
        self.operators().iter().map(|(op, v)| say(*op, v, facts)).collect::<Vec<_>>().join(" and ")
    }

    /// The matcher as operators, its short forms written out.
    fn operators(&self) -> Vec<(Op, &[String])> {
        match self {
            Matcher::Equals(t) => vec![(Op::Equals, std::slice::from_ref(t))],
            Matcher::AnyOf(l) => vec![(Op::AnyOf, l)],
            Matcher::All(ops) => ops.iter().map(|(op, v)| (*op, v.as_slice())).collect(),
        }
    }

    fn only_presence(&self) -> bool {
        self.operators().iter().all(|(op, _)| *op == Op::Present)
    }

    fn evaluate(&self, seen: Seen<'_>, facts: &Facts) -> Result<Outcome, Cut> {
        let (mut failed, mut notes, mut unknown, mut cut) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (op, operands) in self.operators() {
            match apply(op, operands, seen, facts) {
                Says::Holds => {}
                Says::Fails => failed.push(say(op, operands, facts)),
                Says::Unreadable(why) => {
                    failed.push(say(op, operands, facts));
                    notes.push(why);
                }
                Says::Unknown(fact) => unknown.push(fact),
                Says::Cut => cut.push(say(op, operands, facts)),
            }
        }
        // A definite failure outweighs what is not known: it stays one whatever the rest turns out to be.
        if !failed.is_empty() {
            let seen = match seen {
                Seen::Nothing => shown(None),
                Seen::Value(v) => shown(Some(v)),
                Seen::Cut(t) => format!("{} (cut)", quote(t)),
            };
            let seen = std::iter::once(seen).chain(notes).collect::<Vec<_>>().join("; ");
            return Ok(Outcome::Fails { expected: failed.join(" and "), seen });
        }
        if !cut.is_empty() {
            return Err(Cut { expected: cut.join(" and ") });
        }
        Ok(if unknown.is_empty() { Outcome::Holds } else { Outcome::Unknown { facts: unknown } })
    }

    /// Whether the matcher makes sense for values of type `kind`, before there is one; every fault of it at once.
    ///
    /// # Errors
    /// Sentences such as "`at-least` compares numbers, sizes and versions; this is a set".
    pub fn check(&self, kind: FactType) -> Result<(), Vec<String>> {
        let operators = self.operators();
        let mut faults: Vec<String> =
            operators.iter().flat_map(|(op, v)| check_operator(*op, v, kind)).collect::<Vec<_>>();
        let absent =
            operators.iter().any(|(op, v)| *op == Op::Present && v.first().is_some_and(|v| v == "false"));
        if absent && operators.len() > 1 {
            faults.push("`present: false` leaves no value for another operator to look at".into());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// Reads `text` as a value of type `kind`.
///
/// # Errors
/// Why it is none, in words that follow the text: "which is not a whole number".
pub fn parse(text: &str, kind: FactType) -> Result<FactValue, String> {
    match kind {
        FactType::Text => Ok(FactValue::text(text)),
        FactType::Integer => {
            text.parse().map(FactValue::Integer).map_err(|_| "which is not a whole number".to_owned())
        }
        FactType::Size => text
            .parse::<Size>()
            .map(|s| FactValue::Size(s.0))
            .map_err(|_| "which is not a size (512K, 64M, 1G)".to_owned()),
        FactType::Version => {
            if text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(char::is_whitespace) {
                Ok(FactValue::Version(text.to_owned()))
            } else {
                Err("which is not a version".to_owned())
            }
        }
        FactType::Set => Ok(FactValue::Set(words(text).map(str::to_owned).collect())),
        FactType::Flag => match text {
            "true" => Ok(FactValue::Flag(true)),
            "false" => Ok(FactValue::Flag(false)),
            _ => Err("which is not true or false".to_owned()),
        },
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

/// Text in a message: in backquotes, shortened in its middle when long, control characters escaped and line ends written
/// as `\n`.
pub(crate) fn quote(text: &str) -> String {
    const MOST: usize = 240;
    if text.is_empty() {
        return "nothing (empty)".to_owned();
    }
    // Messages go to terminals: what a guest wrote must not act on one.
    let line = xenlab_console::escape_lines(text).replace('\n', "\\n");
    let count = line.chars().count();
    if count <= MOST {
        return format!("`{line}`");
    }
    let head: String = line.chars().take(MOST / 2).collect();
    let tail: String = line.chars().skip(count - MOST / 2).collect();
    format!("`{head}` … `{tail}`")
}

fn shown(value: Option<&FactValue>) -> String {
    match value {
        None => "no value".to_owned(),
        Some(FactValue::Set(s)) if s.is_empty() => "an empty set".to_owned(),
        Some(v) => quote(&v.to_string()),
    }
}

fn say(op: Op, operands: &[String], facts: &Facts) -> String {
    let list = |between: &str| operands.iter().map(|o| quote(o)).collect::<Vec<_>>().join(between);
    match op {
        Op::Equals => list(", "),
        Op::Not => format!("anything but {}", list(", ")),
        Op::AnyOf => format!("one of {}", list(", ")),
        Op::Matches => format!("a match of {}", list(", ")),
        Op::StartsWith => format!("text that starts with {}", list(", ")),
        Op::Contains => format!("{} in it", list(" and ")),
        Op::Lacks => format!("no {} in it", list(" and no ")),
        Op::AtLeast => format!("at least {}", list(", ")),
        Op::Below => format!("below {}", list(", ")),
        Op::SameAs => {
            let one = |name: &String| match facts.get(name) {
                Some(v) => format!("{} (the fact {name})", shown(Some(v))),
                None => format!("the value of the fact {name}"),
            };
            operands.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Op::Present if operands.first().is_some_and(|v| v == "false") => "no value".to_owned(),
        Op::Present => "a value".to_owned(),
    }
}

fn apply(op: Op, operands: &[String], seen: Seen<'_>, facts: &Facts) -> Says {
    let Some(first) = operands.first() else {
        return Says::Unreadable(format!("`{}` has no operand", op.name()));
    };
    if op == Op::Present {
        let there = !matches!(seen, Seen::Nothing);
        return match first.as_str() {
            "true" => Says::when(there),
            "false" => Says::when(!there),
            _ => Says::Unreadable("`present` takes true or false".into()),
        };
    }
    let value = match seen {
        // Not even where a fact is unknown: whatever it is, nothing is not equal to it.
        Seen::Nothing => return Says::Fails,
        Seen::Cut(text) => return apply_to_cut(op, operands, text, facts),
        Seen::Value(v) => v,
    };
    match op {
        Op::Equals => equal(value, first),
        Op::Not => match equal(value, first) {
            Says::Holds => Says::Fails,
            Says::Fails => Says::Holds,
            other => other,
        },
        Op::AnyOf => {
            let mut unreadable = None;
            for operand in operands {
                match equal(value, operand) {
                    Says::Holds => return Says::Holds,
                    Says::Unreadable(why) => unreadable = Some(why),
                    _ => {}
                }
            }
            unreadable.map_or(Says::Fails, Says::Unreadable)
        }
        Op::SameAs => match facts.get(first) {
            None => Says::Unknown(first.clone()),
            Some(fact) => equal(value, &fact.to_string()),
        },
        Op::Matches => match (value, Regex::new(first)) {
            (FactValue::Text(t) | FactValue::Version(t), Ok(regex)) => Says::when(regex.is_match(t)),
            (_, Err(e)) => Says::Unreadable(bad_regex(&e)),
            _ => wrong_type(op, value.fact_type()),
        },
        Op::StartsWith => match value {
            FactValue::Text(t) | FactValue::Version(t) => Says::when(t.starts_with(first.as_str())),
            _ => wrong_type(op, value.fact_type()),
        },
        Op::Contains => match value {
            FactValue::Text(t) | FactValue::Version(t) => {
                Says::when(operands.iter().all(|o| t.contains(o.as_str())))
            }
            FactValue::Set(s) => Says::when(operands.iter().all(|o| words(o).all(|w| s.contains(w)))),
            _ => wrong_type(op, value.fact_type()),
        },
        Op::Lacks => match value {
            FactValue::Text(t) | FactValue::Version(t) => {
                Says::when(!operands.iter().any(|o| t.contains(o.as_str())))
            }
            FactValue::Set(s) => Says::when(!operands.iter().any(|o| words(o).any(|w| s.contains(w)))),
            _ => wrong_type(op, value.fact_type()),
        },
        Op::AtLeast | Op::Below => match order(value, first) {
            Ok(order) => Says::when((op == Op::Below) == order.is_lt()),
            Err(why) => Says::Unreadable(why),
        },
        Op::Present => Says::Unreadable("`present` takes true or false".into()),
    }
}

/// What the kept beginning of some text shows. An operator that would need the missing rest says [`Says::Cut`].
fn apply_to_cut(op: Op, operands: &[String], text: &str, facts: &Facts) -> Says {
    let Some(first) = operands.first() else { return Says::Cut };
    // Text that differs from the operand in the kept part differs as a whole.
    let may_equal = |operand: &str| operand.starts_with(text) || text.strip_suffix('\n') == Some(operand);
    match op {
        Op::Equals => {
            if may_equal(first) {
                Says::Cut
            } else {
                Says::Fails
            }
        }
        Op::Not => {
            if may_equal(first) {
                Says::Cut
            } else {
                Says::Holds
            }
        }
        Op::AnyOf => {
            if operands.iter().any(|o| may_equal(o)) {
                Says::Cut
            } else {
                Says::Fails
            }
        }
        Op::SameAs => match facts.get(first) {
            None => Says::Unknown(first.clone()),
            Some(fact) if may_equal(&fact.to_string()) => Says::Cut,
            Some(_) => Says::Fails,
        },
        Op::Matches => match Regex::new(first) {
            // A match that touches the cut may be one only because of it (`$`, `\b`, `\z`).
            Ok(regex) => {
                if regex.find_iter(text).any(|m| m.end() < text.len()) {
                    Says::Holds
                } else {
                    Says::Cut
                }
            }
            Err(e) => Says::Unreadable(bad_regex(&e)),
        },
        Op::StartsWith => {
            if text.len() < first.len() && first.starts_with(text) {
                Says::Cut
            } else {
                Says::when(text.starts_with(first.as_str()))
            }
        }
        Op::Contains => {
            if operands.iter().all(|o| text.contains(o.as_str())) {
                Says::Holds
            } else {
                Says::Cut
            }
        }
        Op::Lacks => {
            if operands.iter().any(|o| text.contains(o.as_str())) {
                Says::Fails
            } else {
                Says::Cut
            }
        }
        Op::AtLeast | Op::Below => wrong_type(op, FactType::Text),
        Op::Present => Says::Cut,
    }
}

fn equal(value: &FactValue, operand: &str) -> Says {
    match parse(operand, value.fact_type()) {
        Ok(expected) => Says::when(*value == expected),
        Err(why) => Says::Unreadable(format!("compared with {}, {why}", quote(operand))),
    }
}

fn order(value: &FactValue, operand: &str) -> Result<std::cmp::Ordering, String> {
    let expected = parse(operand, value.fact_type())
        .map_err(|why| format!("compared with {}, {why}", quote(operand)))?;
    match (value, &expected) {
        (FactValue::Integer(a), FactValue::Integer(b)) => Ok(a.cmp(b)),
        (FactValue::Size(a), FactValue::Size(b)) => Ok(a.cmp(b)),
        (FactValue::Version(a), FactValue::Version(b)) => Ok(version::compare(a, b)),
        _ => Err(format!("{} have no order", plural(value.fact_type()))),
    }
}

fn wrong_type(op: Op, kind: FactType) -> Says {
    Says::Unreadable(type_fault(op, kind))
}

fn bad_regex(e: &regex::Error) -> String {
    let text = e.to_string();
    let last = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or(&text);
    format!("bad regular expression: {}", last.trim().trim_start_matches("error: "))
}

fn singular(kind: FactType) -> &'static str {
    match kind {
        FactType::Text => "text",
        FactType::Integer => "a whole number",
        FactType::Size => "a size",
        FactType::Version => "a version",
        FactType::Set => "a set",
        FactType::Flag => "true or false",
    }
}

fn plural(kind: FactType) -> &'static str {
    match kind {
        FactType::Text => "texts",
        FactType::Integer => "whole numbers",
        FactType::Size => "sizes",
        FactType::Version => "versions",
        FactType::Set => "sets",
        FactType::Flag => "flags",
    }
}

fn type_fault(op: Op, kind: FactType) -> String {
    let takes = match op {
        Op::AtLeast | Op::Below => "compares whole numbers, sizes and versions",
        Op::Contains | Op::Lacks => "looks into text and sets",
        _ => "looks at text",
    };
    format!("`{}` {takes}; this is {}", op.name(), singular(kind))
}

fn check_operator(op: Op, operands: &[String], kind: FactType) -> Vec<String> {
    use FactType::{Integer, Set, Size, Text, Version};
    let fits = match op {
        Op::Equals | Op::Not | Op::AnyOf | Op::SameAs | Op::Present => true,
        Op::Matches | Op::StartsWith => matches!(kind, Text | Version),
        Op::Contains | Op::Lacks => matches!(kind, Text | Version | Set),
        Op::AtLeast | Op::Below => matches!(kind, Integer | Size | Version),
    };
    if !fits {
        return vec![type_fault(op, kind)];
    }
    let mut faults = Vec::new();
    for operand in operands {
        match op {
            Op::Equals | Op::Not | Op::AnyOf | Op::AtLeast | Op::Below => {
                if let Err(why) = parse(operand, kind) {
                    faults.push(format!("expected {}, found {}, {why}", singular(kind), quote(operand)));
                }
            }
            Op::Matches => match Regex::new(operand) {
                Err(e) => faults.push(bad_regex(&e)),
                // A check that cannot fail is not one.
                Ok(_) if operand.is_empty() => {
                    faults.push("an empty regular expression matches everything".into())
                }
                Ok(_) => {}
            },
            Op::StartsWith if operand.is_empty() => {
                faults.push("every text starts with the empty text".into())
            }
            Op::Contains | Op::Lacks if words(operand).next().is_none() && kind == Set => {
                faults.push(format!("`{}` names no word", op.name()));
            }
            Op::Contains | Op::Lacks if operand.is_empty() => {
                faults.push("every text has the empty text in it".into())
            }
            Op::SameAs if operand.is_empty() => faults.push("`same-as` names no fact".into()),
            Op::Present if !matches!(operand.as_str(), "true" | "false") => {
                faults.push(format!("`present` takes true or false, found {}", quote(operand)));
            }
            _ => {}
        }
    }
    if kind == Set && op == Op::AnyOf {
        let sets: Vec<BTreeSet<&str>> = operands.iter().map(|o| words(o).collect()).collect();
        if sets.iter().any(BTreeSet::is_empty) && operands.len() > 1 {
            faults.push("an empty set among the sets it may be; was a word left out?".into());
        }
    }
    faults
}

#[cfg(test)]
mod tests;
