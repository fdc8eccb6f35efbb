//! The `console` step: waits until every pattern it must have has appeared, then takes the record as it is.

use crate::hub::State;
use crate::wait::{Allowed, Phases, Watch};
use regex::Regex;
use std::future::Future;
use std::path::Path;
use std::time::Duration;
use xenlab_console::Speaker;
use xenlab_model::evidence::{MachineEnd, WaitEnd};
use xenlab_model::step::Observation;
use xenlab_model::step::console::{Console, ConsoleEvidence, Of, Since};

/// Performs it; `case_start` is the record's length when the case's steps began.
pub async fn console(
    step: &Console,
    watch: &Watch<'_>,
    limit: Duration,
    case_start: u64,
    record: &Path,
    ended: impl Future<Output = MachineEnd>,
) -> Observation {
    let from = match step.since {
        Since::PowerOn => 0,
        Since::Case => case_start,
    };
    let end = if step.has.is_empty() {
        WaitEnd::Reached
    } else {
        let mut wanted = Wanted::new(step, from);
        // What is in the record has been said, however much was said since: the hub keeps only the latest lines.
        if let Ok(bytes) = std::fs::read(record) {
            for line in xenlab_console::lines(&bytes) {
                wanted.hear(line.speaker, line.end, &line.text);
            }
        }
        watch.until(Allowed { limit, phases: Phases::None }, ended, |state| wanted.look(state)).await
    };
    let state = watch.hub.state();
    let (kept, total) = (state.kept(), state.total);
    Observation::Console(ConsoleEvidence {
        from: from.min(kept),
        to: kept,
        cut: kept < total,
        end,
        text: String::new(),
    })
}

/// Patterns that have not been seen yet.
struct Wanted {
    patterns: Vec<Regex>,
    of: Of,
    from: u64,
    next: u64,
}

impl Wanted {
    fn new(step: &Console, from: u64) -> Wanted {
        // Patterns were compiled when the scenario was read; one that is wrong here is simply never waited for, and the
        // judge says so.
        let patterns = step.has.iter().filter_map(|p| Regex::new(p).ok()).collect();
        Wanted { patterns, of: step.of, from, next: 0 }
    }

    fn look(&mut self, state: &State) -> bool {
        for line in state.lines_from(self.next) {
            self.next = line.number + 1;
            self.hear(line.speaker, line.end, &line.text);
        }
        self.patterns.is_empty()
    }

    fn hear(&mut self, speaker: Speaker, end: u64, text: &str) {
        let theirs = match self.of {
            Of::All => true,
            Of::Xen => speaker == Speaker::Xen,
            Of::Dom0 => speaker == Speaker::Dom0,
        };
        if theirs && end > self.from {
            self.patterns.retain(|p| !p.is_match(text));
        }
    }
}
