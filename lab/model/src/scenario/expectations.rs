//! Files of expectations: read with what reads scenarios, so that every mistake has its place.

use super::de::from_node;
use super::diagnostic::{Diagnostic, Sources};
use super::file::Language;
use super::tree::{self, Kind, Node, Within};
use super::walk::{Variables, Walk};
use crate::cause::Cause;
use crate::expectation::{Emulator, Expectation, Fault};
use crate::fact::{FactType, FactValue, Facts};
use crate::matcher::{Matcher, Op, Outcome, parse};
use crate::place::Place;
use crate::verdict::Verdict;
use schemars::JsonSchema;
use std::sync::Arc;

/// The first key of such a file.
pub const KEY: &str = "xenlab-expectations";

/// A file of expectations: what cases are known to come to, and why.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ExpectationsFile {
    /// Version of the format; the first key.
    #[schemars(rename = "xenlab-expectations")]
    pub version: Language,
    /// The entries.
    #[schemars(length(min = 1))]
    pub expect: Vec<Expectation>,
}

/// Whether a text is meant to be a file of expectations.
pub fn is_expectations(text: &str) -> bool {
    let (root, _) = tree::parse(text, &Within::File(""));
    match root {
        Some(root) => root.get(KEY).is_some() && root.get("xenlab").is_none(),
        // What cannot be read is told by the reader of what it begins as.
        None => text.lines().any(|line| line.starts_with(KEY)),
    }
}

/// Reads a file of expectations. `file` is the name that messages and places use.
///
/// # Errors
/// Every mistake found, in the order of the text.
pub fn load_expectations(text: &str, file: &str) -> Result<Vec<Expectation>, Vec<Diagnostic>> {
    let sources = Sources { file: file.to_owned(), text: Arc::from(text), arguments: Vec::new() };
    let (entries, mut diagnostics) = read(text, file);
    if diagnostics.is_empty() {
        return Ok(entries);
    }
    diagnostics.sort_by_key(|d| match &d.place {
        Place::File { line, column, .. } => (*line, *column),
        _ => (0, 0),
    });
    for diagnostic in &mut diagnostics {
        sources.attach(diagnostic);
    }
    Err(diagnostics)
}

/// The files of expectations that a scenario names, each with where it does. Nothing where the scenario cannot be read: its own
/// reader tells why.
///
/// # Errors
/// Names that are none.
pub fn expectation_files(text: &str, file: &str) -> Result<Vec<(String, Place)>, Vec<Diagnostic>> {
    let (root, _) = tree::parse(text, &Within::File(file));
    let Some(named) = root.as_ref().and_then(|root| root.get("expectations")) else { return Ok(Vec::new()) };
    let names = match &named.kind {
        Kind::Scalar(_) => std::slice::from_ref(named),
        _ => named.items(),
    };
    let mut diagnostics = Vec::new();
    let mut files = Vec::new();
    for name in names {
        match name.text() {
            Some(text) if super::walk::interpolated(text) => diagnostics.push(
                Diagnostic::new(&name.origin, "the name of a file of expectations is not interpolated")
                    .expected("a path, relative to this file"),
            ),
            Some("") => diagnostics.push(
                Diagnostic::new(&name.origin, "this names no file").expected("a path, relative to this file"),
            ),
            Some(text) => files.push((text.to_owned(), name.origin.place.clone())),
            None => {}
        }
    }
    if diagnostics.is_empty() {
        return Ok(files);
    }
    let sources = Sources { file: file.to_owned(), text: Arc::from(text), arguments: Vec::new() };
    diagnostics.iter_mut().for_each(|d| sources.attach(d));
    Err(diagnostics)
}

fn read(text: &str, file: &str) -> (Vec<Expectation>, Vec<Diagnostic>) {
    let (root, mut diagnostics) = tree::parse(text, &Within::File(file));
    let Some(mut root) = root else {
        for d in diagnostics.iter_mut().filter(|d| d.expected.as_deref() == Some("a scenario")) {
            d.expected = Some(format!("a file of expectations, which begins with `{KEY}: 1`"));
        }
        return (Vec::new(), diagnostics);
    };
    if !matches!(root.kind, Kind::Map(_)) {
        if root.kind != Kind::Bad {
            let message = format!("this is {}, no file of expectations", root.word());
            let d = Diagnostic::new(&root.origin, message);
            diagnostics.push(d.expected(format!("a mapping that begins with `{KEY}: 1`")));
        }
        return (Vec::new(), diagnostics);
    }
    if let [(first, _), ..] = root.entries()
        && first.text != KEY
        && root.get(KEY).is_some()
    {
        let d = Diagnostic::new(&first.origin, format!("`{}` comes before `{KEY}`", first.text));
        diagnostics.push(d.expected(format!("`{KEY}: 1` as the first key: it says how to read the rest")));
    }
    let variables = variables(&root);
    let mut walk = Walk::resolved(&variables);
    walk.value(&mut root, &walk.schemas.expectations, "");
    diagnostics.append(&mut walk.diagnostics);
    let nodes = || root.get("expect").map(Node::items).unwrap_or_default().iter();
    // What was refused by its type is looked at all the same: the rest of the entry may be wrong as well.
    nodes().filter(|n| matches!(n.kind, Kind::Map(_))).for_each(|node| rules(node, &mut diagnostics));
    let mut entries: Vec<Expectation> = Vec::new();
    if !diagnostics.is_empty() {
        return (entries, diagnostics);
    }
    for node in nodes() {
        match from_node::<Expectation>(node) {
            Ok(entry) => {
                let again = |e: &&Expectation| {
                    (&e.case, &e.when, e.verdict, e.cause)
                        == (&entry.case, &entry.when, entry.verdict, entry.cause)
                };
                if let Some(first) = entries.iter().find(again) {
                    let d = Diagnostic::new(&node.origin, "this entry says what another says already");
                    let at = first.place.as_ref().map(ToString::to_string).unwrap_or_default();
                    diagnostics.push(d.help(format!("it is at {at}; take one of the two out")));
                }
                entries.push(Expectation { place: Some(node.origin.place.clone()), ..entry });
            }
            Err(e) => diagnostics.push(e.diagnostic(&node.origin)),
        }
    }
    (entries, diagnostics)
}

/// An entry may be about cases of any scenario: a variable that it names is one that some case has, or the entry never applies.
fn variables(root: &Node) -> Variables {
    let mut names = Variables::new();
    let mut note = |name: &str| {
        if let Some(name) = name.strip_prefix("vars.")
            && super::walk::is_name(name)
            && !name.contains('.')
        {
            names.insert(name.to_owned());
        }
    };
    for entry in root.get("expect").map(Node::items).unwrap_or_default() {
        for (fact, matcher) in entry.get("when").map(Node::entries).unwrap_or_default() {
            note(&fact.text);
            matcher
                .entries()
                .iter()
                .filter(|(op, _)| op.text == "same-as")
                .filter_map(|(_, v)| v.text())
                .for_each(&mut note);
        }
    }
    names
}

/// What the types of an entry cannot say.
fn rules(entry: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let mut say = |node: &Node, message: String, expected: &str| {
        diagnostics.push(Diagnostic::new(&node.origin, message).expected(expected));
    };
    let text = |key: &str| entry.get(key).and_then(Node::text);
    for (key, expected) in [
        ("case", "the id of a case as `xenlab list` prints it; `*` stands for any text"),
        ("because", "why, and how that is known"),
    ] {
        if let Some(node) = entry.get(key).filter(|n| n.text().is_some_and(|t| t.trim().is_empty())) {
            say(node, format!("`{key}` is empty"), expected);
        }
    }
    for key in ["tracker", "source"] {
        if let Some((node, link)) = entry.get(key).and_then(|n| Some((n, n.text()?)))
            && !crate::expectation::is_link(link)
        {
            say(node, format!("`{link}` is no link"), "https://… or http://…");
        }
    }
    match (text("verdict"), entry.get("cause")) {
        (Some("skip"), Some(cause)) => {
            say(cause, "a skip has no cause".to_owned(), "no `cause` beside `verdict: skip`")
        }
        (Some(verdict @ ("fail" | "error")), None) => {
            let expected = "`cause`: a code such as `xtf.failure`, as verdicts show it";
            say(
                entry,
                format!("the key `cause` is missing: which {verdict} is expected is not said"),
                expected,
            );
        }
        (Some(verdict @ ("fail" | "error")), Some(cause)) => {
            let known = cause.text().and_then(Cause::from_code);
            if let Some(known) = known.filter(|c| word(c.verdict()) != verdict) {
                let message = format!("`{known}` ({}) never makes a case {verdict}", known.meaning());
                say(cause, message, &format!("a cause of `verdict: {verdict}`"));
            }
        }
        _ => {}
    }
    // An entry never applies where a fact is unknown, so that one is absent cannot be asked.
    for (fact, matcher) in entry.get("when").map(Node::entries).unwrap_or_default() {
        if matcher.get("present").and_then(Node::text) == Some("false") {
            let message = format!("that `{}` is absent cannot be asked here", fact.text);
            say(matcher, message, "a value: an entry does not apply where a fact is not known");
        }
    }
    fault(entry, diagnostics);
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Error => "error",
        _ => "fail",
    }
}

/// Whoever blames an emulator says which, and how that is known.
fn fault(entry: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let mut say = |node: &Node, message: String, expected: &str| {
        diagnostics.push(Diagnostic::new(&node.origin, message).expected(expected));
    };
    // One that cannot be read was told of already.
    let when = |fact: &str| {
        let node = entry.get("when")?.get(fact)?;
        Some((node, from_node::<Matcher>(node).ok()))
    };
    let measured = entry.get("measured");
    let pair = measured.map(|m| (m, emulator(m.get("passes-on")), emulator(m.get("fails-on"))));
    if let Some((node, Some(passes), Some(fails))) = &pair {
        if passes == fails {
            say(
                node,
                "`passes-on` and `fails-on` are the same".to_owned(),
                "another QEMU, accelerator or CPU model",
            );
        }
        for (key, node) in [("passes-on", node.get("passes-on")), ("fails-on", node.get("fails-on"))] {
            if let Some(qemu) = node.and_then(|n| n.get("qemu")).filter(|q| !is_version(q.text())) {
                let shown = qemu.text().unwrap_or_default();
                say(
                    qemu,
                    format!("`{shown}` is no version, and `{key}` needs one"),
                    "QEMU's version, as 7.2.22",
                );
            }
        }
        if let Some(xen) = node.get("xen").filter(|x| x.text().is_some_and(|t| t.trim().is_empty())) {
            say(xen, "`xen` is empty".to_owned(), "the Xen build that was measured");
        }
    }
    let Some(fault) = entry.get("fault").filter(|f| f.text() == Some(Fault::Emulator.name())) else { return };
    match when("machine.accel") {
        None => say(
            fault,
            "the emulator is blamed, and `when` does not say under which accelerator".to_owned(),
            "`machine.accel` in `when`: a fault under one says nothing of another",
        ),
        Some((node, Some(matcher))) if !one_accelerator(&matcher) => {
            say(node, "this does not name one accelerator".to_owned(), "tcg or kvm, and nothing else");
        }
        Some(_) => {}
    }
    match when("qemu.version") {
        None => say(
            fault,
            "the emulator is blamed, and `when` does not say which versions".to_owned(),
            "`qemu.version` in `when`, with an end: {below: 8.0}",
        ),
        Some((node, Some(matcher))) if !bounded(&matcher) => say(
            node,
            "these versions of QEMU have no end: no later one was seen yet".to_owned(),
            "a version, several, or {below: VERSION}",
        ),
        Some(_) => {}
    }
    if entry.get("source").is_none() && measured.is_none() {
        say(
            fault,
            "the emulator is blamed, and nothing shows it".to_owned(),
            "`source`: a link, or `measured`: {xen, passes-on, fails-on, on}",
        );
    }
    // What was measured must be what the entry is about.
    let facts = ["machine.accel", "qemu.version", "machine.cpu"].map(|f| (f, when(f)));
    if let Some((node, Some(passes), Some(fails))) = &pair
        && facts[..2].iter().all(|(_, m)| m.is_some())
    {
        let holds = |f: &str, m: &Option<Matcher>, on: &Emulator| m.as_ref().is_none_or(|m| holds(f, m, on));
        let about =
            |on: &Emulator| facts.iter().all(|(f, m)| m.as_ref().is_none_or(|(_, m)| holds(f, m, on)));
        if !about(fails) {
            let at = node.get("fails-on").unwrap_or(node);
            let message = format!("`when` does not hold on {}", fails.shown());
            say(at, message, "an emulator that `when` is about");
        }
        // Where nothing but the CPU model differs, which the lab may choose, `when` need not tell the two apart.
        let other = (&passes.qemu, passes.accel) != (&fails.qemu, fails.accel);
        if (other || facts[2].1.is_some()) && about(passes) {
            let at = node.get("passes-on").unwrap_or(node);
            let message = format!("`when` holds on {}, too, where it passes", passes.shown());
            say(at, message, "a `when` that ends before it");
        }
    }
}

fn emulator(node: Option<&Node>) -> Option<Emulator> {
    from_node(node?).ok()
}

fn is_version(text: Option<&str>) -> bool {
    text.is_some_and(|t| t.starts_with(|c: char| c.is_ascii_digit()) && parse(t, FactType::Version).is_ok())
}

fn holds(fact: &str, matcher: &Matcher, on: &Emulator) -> bool {
    let value = match fact {
        "machine.accel" => Some(FactValue::text(on.accel.name())),
        "qemu.version" => Some(FactValue::Version(on.qemu.clone())),
        _ => on.cpu.as_ref().map(FactValue::text),
    };
    matcher.test(value.as_ref(), &Facts::default()) == Outcome::Holds
}

/// Exactly one of those there are.
fn one_accelerator(matcher: &Matcher) -> bool {
    let one = |values: &[String]| matches!(values, [one] if matches!(one.as_str(), "tcg" | "kvm"));
    match matcher {
        Matcher::Equals(value) => one(std::slice::from_ref(value)),
        Matcher::AnyOf(values) => one(values),
        Matcher::All(ops) => {
            ops.iter().any(|(op, values)| matches!(op, Op::Equals | Op::AnyOf) && one(values))
        }
    }
}

/// No version that is yet to come fits.
fn bounded(matcher: &Matcher) -> bool {
    match matcher {
        Matcher::Equals(_) | Matcher::AnyOf(_) => true,
        Matcher::All(ops) => ops.iter().any(|(op, values)| match op {
            Op::Equals | Op::AnyOf | Op::Below => true,
            // `1` begins versions that are yet to come; `7.` and `7.2` are followed by what they are followed by.
            Op::StartsWith => values.iter().all(|v| v.contains('.')),
            _ => false,
        }),
    }
}
