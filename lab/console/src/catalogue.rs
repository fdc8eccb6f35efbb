//! Catalogues for the `console` step: `panic` and `warning`.

use crate::demux::{Line, Speaker};
use crate::signs::Class;

/// A named set of what must not be on a console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Catalogue {
    /// Ends of the hypervisor or of dom0's kernel.
    Panic,
    /// What Xen or dom0's kernel warn of, less what is known to be harmless.
    Warning,
}

/// A line, or box of lines, that a catalogue has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Code of the cause: `xen.panic`, `dom0.panic`, `xen.warning`, `dom0.warning` or a more specific one.
    pub code: &'static str,
    /// Whose.
    pub speaker: Speaker,
    /// The line; of a box its lines joined by single spaces.
    pub text: String,
    /// Offset, in the console's bytes, of its first line.
    pub start: u64,
}

/// A warning that is known to mean nothing for the verdict.
#[derive(Debug, Clone, Copy)]
pub struct Harmless {
    /// Regular expression, searched in the finding's text.
    pub pattern: &'static str,
    /// Why it is harmless, and how that is known.
    pub because: &'static str,
}

impl Catalogue {
    /// The catalogue of that name, as scenarios write it.
    pub fn named(name: &str) -> Option<Catalogue> {
        match name {
            "panic" => Some(Catalogue::Panic),
            "warning" => Some(Catalogue::Warning),
            _ => None,
        }
    }

    /// Everything in these lines that the catalogue has.
    pub fn scan<'a>(self, lines: impl IntoIterator<Item = &'a Line<'a>>) -> Vec<Finding> {
        let mut all = Vec::new();
        if self == Catalogue::Panic {
            let mut tracker = crate::SignTracker::new("");
            for line in lines {
                all.extend(tracker.push(line));
            }
            all.extend(tracker.finish());
        }
        all.into_iter()
            .filter(|s| s.class == Class::Panic)
            .map(|s| Finding { code: s.code, speaker: s.speaker, text: s.text, start: s.start })
            .collect()
    }
}
