//! Consoles: what Xen and dom0's kernel complain of, by boot phase.

use super::{Sample, fold};
use regex::Regex;
use std::sync::LazyLock;
use xenlab_console::{Catalogue, Phase, PhaseTracker, Speaker};

/// Something that Xen or dom0's kernel said and that somebody should read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Whose.
    pub speaker: Speaker,
    /// In which phase of the boot.
    pub phase: Phase,
    /// It is in the catalogue of warnings, less what is known to be harmless; else it is only worded like one.
    pub warning: bool,
    /// The line.
    pub text: String,
    /// The line, folded: what two consoles are aligned by.
    pub folded: String,
}

/// What is worded as a complaint. Neither Xen nor Linux shows a line's level on the console, so it goes by words.
static WORDED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)\b(?:warn(?:ing)?|error|fail(?:s|ed|ure)?|unable|cannot|can't|couldn't|could\ not|not\ supported|unsupported|invalid|bad|broken|bug|corrupt(?:ed)?|missing|deprecated|disabling|vulnerable|unknown)\b",
    )
    .expect("a constant expression: a test matches with it")
});

/// What says how busy the host was, and of Xen or its dom0 nothing: it comes and goes from boot to boot.
static TIMING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)calibrat|clocksource|tsc.*unstable|interrupt took too long|hrtimer: interrupt took|RT throttling")
        .expect("a constant expression: a test matches with it")
});

/// Every complaint on a sample's console, each once for each phase.
pub fn remarks(sample: &Sample) -> Vec<Remark> {
    let lines = xenlab_console::lines(&sample.console);
    let warnings = Catalogue::Warning.scan(&lines);
    let mut tracker = PhaseTracker::new(sample.nonce.clone());
    let mut all: Vec<Remark> = Vec::new();
    for line in &lines {
        tracker.push(line);
        if !matches!(line.speaker, Speaker::Xen | Speaker::Dom0) {
            continue;
        }
        // A box of asterisks is one finding of several lines, under the first.
        let warning = warnings.iter().find(|w| w.start == line.start && w.speaker == line.speaker);
        let text = warning.map_or_else(|| line.text.to_string(), |w| w.text.clone());
        // Names of people and of options are no complaints.
        let naming = ["Xen version ", "Command line: "].iter().any(|begin| text.starts_with(begin));
        if warning.is_none() && (naming || !WORDED.is_match(&text) || TIMING.is_match(&text)) {
            continue;
        }
        let remark = Remark {
            speaker: line.speaker,
            phase: tracker.current(),
            warning: warning.is_some(),
            folded: fold(&text),
            text: without_clock(&text).to_owned(),
        };
        if !all
            .iter()
            .any(|r| (r.speaker, r.phase, &r.folded) == (remark.speaker, remark.phase, &remark.folded))
        {
            all.push(remark);
        }
    }
    all
}

/// A line of Linux without the time before it.
fn without_clock(text: &str) -> &str {
    let rest = text.strip_prefix('[').and_then(|t| t.split_once(']'));
    match rest {
        Some((clock, rest)) if clock.trim().parse::<f64>().is_ok() => rest.trim_start(),
        _ => text,
    }
}
