//! What a machine's monitor says before there is a case whose record it goes to.

use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use xenlab_machine::qmp::{Direction, Tap};

/// Messages kept. A machine that comes up and is paused exchanges some twenty.
const MOST: usize = 1000;

/// Shown a message, and when it went by.
pub type Record = Box<dyn Fn(Instant, Direction, &Value) + Send>;

/// Keeps messages until somebody wants them, and from then on hands them on.
pub struct Said(Mutex<State>);

enum State {
    Kept(Vec<(Instant, Direction, Value)>),
    Given(Record),
}

impl Said {
    /// With these to begin with, all of which went by just now.
    pub fn new(earlier: Vec<(Direction, Value)>) -> Arc<Said> {
        let now = Instant::now();
        Arc::new(Said(Mutex::new(State::Kept(earlier.into_iter().map(|(d, v)| (now, d, v)).collect()))))
    }

    /// What a machine is started with.
    pub fn tap(self: &Arc<Said>) -> Tap {
        let said = self.clone();
        Arc::new(move |direction, message: &Value| {
            let at = Instant::now();
            match &mut *said.0.lock().unwrap_or_else(PoisonError::into_inner) {
                State::Given(record) => record(at, direction, message),
                State::Kept(kept) if kept.len() < MOST => kept.push((at, direction, message.clone())),
                State::Kept(_) => {}
            }
        })
    }

    /// Everything so far goes to `record`, and all that follows.
    pub fn give(&self, record: Record) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Kept(kept) = &*state {
            kept.iter().for_each(|(at, direction, message)| record(*at, *direction, message));
        }
        *state = State::Given(record);
    }

    /// Everything so far.
    pub fn so_far(&self) -> Vec<(Direction, Value)> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Kept(kept) => kept.iter().map(|(_, d, v)| (*d, v.clone())).collect(),
            State::Given(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_is_lost_and_the_order_stays() {
        let said = Said::new(vec![(Direction::Got, json!(1))]);
        let tap = said.tap();
        tap(Direction::Sent, &json!(2));
        assert_eq!(said.so_far().len(), 2);
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        said.give(Box::new({
            let seen = seen.clone();
            move |_, _, message| seen.lock().unwrap().push(message.clone())
        }));
        tap(Direction::Got, &json!(3));
        assert_eq!(*seen.lock().unwrap(), [json!(1), json!(2), json!(3)]);
        assert!(said.so_far().is_empty());
    }
}
