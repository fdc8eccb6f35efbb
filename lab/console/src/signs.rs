//! Signs: lines that explain a bad end, each with the code of a cause (`lab/model/src/cause.rs`).
//!
//! Xen says a panic in a box of several lines; [`SignTracker`] takes the box as one sign, so that the words inside decide its cause.

mod rules;

use crate::clean::head;
use crate::demux::{Line, Speaker};
use crate::marker::{FAILED, Markers};
use crate::matcher::{Pattern, PatternSet};
pub use rules::RULES;
use std::sync::LazyLock;

/// Bytes of a panic's words that are kept.
pub const MAX_REASON: usize = 1024;
/// Lines of a panic's words that are waited for before the box is taken as it is.
const MAX_BOX: usize = 12;

/// What a rule's line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The end of the hypervisor or of dom0's kernel; in the catalogue `panic`.
    Panic,
    /// Explains an end, and is no panic itself.
    Reason,
}

/// How a line that explains a bad end is recognised.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Code of the cause.
    pub code: &'static str,
    /// Regular expression, searched in the line's text; for a panic of Xen also in the words of its box.
    pub pattern: &'static str,
    /// Whose line it must be.
    pub speaker: Speaker,
    /// What it is.
    pub class: Class,
    /// The boot is over: nothing that comes after can make it good. Not so: it only explains an end that comes otherwise.
    pub fatal: bool,
    /// Of two signs of one boot the more specific one explains it.
    pub weight: u8,
    /// The source file that has the message, and what it means where that is not plain.
    pub source: &'static str,
}

/// A line, or a panic's box, that was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sign {
    /// Code of the cause.
    pub code: &'static str,
    /// The boot is over. The lines that follow may still explain more: read on until the console is quiet for a moment.
    pub fatal: bool,
    /// What it is.
    pub class: Class,
    /// See [`Rule::weight`].
    pub weight: u8,
    /// Whose line.
    pub speaker: Speaker,
    /// The line; for a box `Panic on CPU 0: ` and its words, joined by single spaces.
    pub text: String,
    /// Offset, in the console's bytes, of its first line.
    pub start: u64,
    /// Offset one past its last line.
    pub end: u64,
}

/// Of several signs of one boot the one that explains it best: the most specific, of equals the first.
pub fn explain(signs: &[Sign]) -> Option<&Sign> {
    signs.iter().rev().max_by_key(|s| s.weight)
}

static SET: LazyLock<PatternSet> = LazyLock::new(|| {
    let patterns = RULES.iter().map(|r| Pattern::of(r.speaker, r.pattern));
    PatternSet::new(patterns).expect("the table's patterns are regular expressions: a test compiles each")
});

/// Recognises signs in the lines of one boot.
#[derive(Debug, Clone)]
pub struct SignTracker {
    markers: Markers,
    open: Option<PanicBox>,
}

/// A panic of Xen whose box has not been closed.
#[derive(Debug, Clone)]
struct PanicBox {
    text: String,
    lines: usize,
    start: u64,
    end: u64,
}

impl SignTracker {
    /// For a boot whose dom0 was given this nonce; an empty one means that there are no markers.
    pub fn new(nonce: impl Into<String>) -> Self {
        SignTracker { markers: Markers::new(nonce.into()), open: None }
    }

    /// Takes a line; gives the sign that it is, or that it ends.
    pub fn push(&mut self, line: &Line<'_>) -> Option<Sign> {
        if line.speaker == Speaker::Xen && self.open.is_some() {
            return self.in_box(line);
        }
        if line.speaker == Speaker::Xen && line.text.starts_with("Panic on CPU ") {
            let text = line.text.trim_end().to_owned();
            self.open = Some(PanicBox { text, lines: 0, start: line.start, end: line.end });
            return None;
        }
        if let Some((word, reason)) = self.markers.find(line)
            && word == FAILED
        {
            return Some(said_failed(&reason, line.speaker, line.start, line.end));
        }
        let rule = best(SET.matches(line.speaker, &line.text))?;
        Some(sign(rule, &line.text, line.start, line.end))
    }

    /// The console ended or fell silent: gives the panic whose box was never closed, or the failure of whose reason no more came.
    pub fn finish(&mut self) -> Option<Sign> {
        if let Some(open) = self.open.take() {
            return Some(open.close());
        }
        self.markers.finish().map(|(reason, at)| said_failed(&reason, Speaker::Dom0, at.start, at.end))
    }

    fn in_box(&mut self, line: &Line<'_>) -> Option<Sign> {
        let open = self.open.as_mut()?;
        open.end = line.end;
        open.lines += 1;
        let text = line.text.trim();
        let closed = text.len() >= 20 && text.bytes().all(|b| b == b'*');
        if !closed && !text.is_empty() && open.text.len() + text.len() < MAX_REASON {
            open.text.push(' ');
            open.text.push_str(text);
        }
        if closed || open.lines >= MAX_BOX { self.open.take().map(PanicBox::close) } else { None }
    }
}

impl PanicBox {
    fn close(self) -> Sign {
        let generic = RULES.iter().find(|r| r.pattern == rules::PANIC);
        let rule = best(SET.matches(Speaker::Xen, &self.text)).or(generic);
        let mut sign = match rule {
            Some(rule) => sign(rule, &self.text, self.start, self.end),
            None => unreachable!("the table has the rule of the panic's box: a test looks for it"),
        };
        // Whatever the words are, it is a panic, and the end.
        sign.class = Class::Panic;
        sign.fatal = true;
        sign
    }
}

/// Of the patterns that a line matches the most specific rule; of equals the first.
fn best(found: impl Iterator<Item = usize>) -> Option<&'static Rule> {
    found.filter_map(|i| RULES.get(i)).reduce(|a, b| if b.weight > a.weight { b } else { a })
}

fn sign(rule: &Rule, text: &str, start: u64, end: u64) -> Sign {
    Sign {
        code: rule.code,
        fatal: rule.fatal,
        class: rule.class,
        weight: rule.weight,
        speaker: rule.speaker,
        text: cut(text),
        start,
        end,
    }
}

/// What dom0's init says of a failure of its own.
fn said_failed(reason: &str, speaker: Speaker, start: u64, end: u64) -> Sign {
    Sign {
        code: failed(reason),
        fatal: true,
        class: Class::Reason,
        weight: 90,
        speaker,
        text: cut(&format!("xenlab: failed: {reason}")),
        start,
        end,
    }
}

fn cut(text: &str) -> String {
    head(text.trim_end(), MAX_REASON).to_owned()
}

/// The cause of what dom0's init says went wrong (images/initramfs/init, images/minimal/init).
fn failed(reason: &str) -> &'static str {
    match reason.split_whitespace().next().unwrap_or("") {
        "no-root" | "no-overlay" => "dom0.no-root",
        "no-tools" => "build.part-missing",
        // The first of Xen's own tools that asks the hypervisor for something.
        "xen-init-dom0" => "build.tools-failed",
        "store" | "store-none" | "store-absent" => "store.absent",
        "no-xen" | "not-a-control-domain" => "dom0.not-under-xen",
        _ => NOT_READY,
    }
}

/// Where the reason is none that is known, or a service's name.
const NOT_READY: &str = "dom0.not-ready";

/// Whether a reason begins with one of the words that have a cause of their own.
pub(crate) fn known_reason(reason: &str) -> bool {
    failed(reason) != NOT_READY
}

#[cfg(test)]
mod tests;
