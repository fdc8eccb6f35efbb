//! What was expected, in every report.

use crate::common::*;
use std::sync::{Arc, Mutex};
use xenlab_model::cause::Cause;
use xenlab_model::event::Event;
use xenlab_model::exit::Exit;
use xenlab_model::expectation::{Expectation, Expected, Fault, Kind};
use xenlab_model::verdict::{CaseVerdict, Verdict};
use xenlab_report::*;

pub fn entry(verdict: Verdict, cause: Option<Cause>) -> Expectation {
    Expectation {
        case: "*".into(),
        when: None,
        verdict,
        cause,
        because: "known | \x1b[2J <b>".into(),
        tracker: Some("https://example.org/1".into()),
        until: "2027-06-30".parse().ok(),
        fault: None,
        source: None,
        measured: None,
        place: None,
    }
}

pub fn with(kind: Kind, entry: Expectation, verdict: CaseVerdict) -> CaseVerdict {
    CaseVerdict { expected: Some(Expected { kind, entry }), ..verdict }
}

/// One case of each kind: failed as expected by the emulator's fault, not reached as another cause was expected, skipped as expected,
/// passed unexpectedly.
fn verdicts() -> [(&'static str, CaseVerdict); 4] {
    let fail = entry(Verdict::Fail, Some(Cause::VersionMismatch));
    let blamed = Expectation {
        fault: Some(Fault::Emulator),
        source: Some("https://example.org/2".into()),
        ..fail.clone()
    };
    [
        (GOOD, with(Kind::UnexpectedPass, fail.clone(), good())),
        (BAD, with(Kind::AsExpected, blamed, bad())),
        (LOST, with(Kind::Differs, fail, lost())),
        (SKIPPED, with(Kind::AsExpected, entry(Verdict::Skip, None), skipped())),
    ]
}

fn events(exit: Exit) -> Vec<Event> {
    let names = verdicts().map(|(name, _)| name);
    let mut all = vec![at(0.0, started("r1", &names))];
    all.extend(verdicts().into_iter().map(|(name, verdict)| at(3.0, finished(name, verdict))));
    all.push(at(21.5, ended(exit, false)));
    all
}

#[derive(Clone, Default)]
pub struct Buffer(pub Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn on_a_terminal() {
    let text = |color| {
        let buffer = Buffer::default();
        let mut terminal = Terminal::lines(Box::new(buffer.clone()), Style { color, width: 100 });
        events(Exit::Lab).iter().for_each(|e| terminal.event(e).unwrap());
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    };
    insta::assert_snapshot!("expected_terminal", text(false));
    assert!(!text(true).contains("\x1b[2J"), "nothing that a file says reaches the terminal as it is");
    assert!(text(true).contains("\x1b[33mFAIL, expected\x1b[0m"));
}

#[test]
fn in_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut reporters = files(dir.path()).unwrap();
    for event in events(Exit::Lab) {
        reporters.iter_mut().for_each(|r| r.event(&event).unwrap());
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    insta::assert_snapshot!("expected_summary", read("summary.md"));
    let junit = read("junit.xml");
    insta::assert_snapshot!("expected_junit", junit);
    assert!(!junit.contains("<failure"), "a failure that was expected is none");
    let back: Vec<Event> = read("events.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(back, events(Exit::Lab));
}

#[test]
fn merged() {
    let root = tempfile::tempdir().unwrap();
    let shard = |name: &str, events: &[Event]| {
        let dir = root.path().join(name);
        let mut reporters = files(&dir).unwrap();
        events.iter().for_each(|event| reporters.iter_mut().for_each(|r| r.event(event).unwrap()));
        dir
    };
    let one = |n: usize| {
        let (name, verdict) = verdicts()[n].clone();
        shard(
            name,
            &[
                at(0.0, started("r", &[name])),
                at(3.0, finished(name, verdict)),
                at(4.0, ended(Exit::Lab, false)),
            ],
        )
    };
    let merged = |dirs: &[usize], out: &str| {
        let dirs: Vec<_> = dirs.iter().map(|n| one(*n)).collect();
        merge(&dirs, &root.path().join(out)).unwrap()
    };
    // What failed as expected is judged, and no failure; what was skipped alone is nothing.
    for (dirs, exit) in [
        (vec![1], Exit::Passed),
        (vec![1, 3], Exit::Passed),
        (vec![0, 1, 2], Exit::Lab),
        (vec![3], Exit::Lab),
    ] {
        assert_eq!(merged(&dirs, &format!("out{dirs:?}")).exit, exit, "{dirs:?}");
    }
    assert_eq!(
        merged(&[0, 1, 3], "all").run.tally(),
        "3 cases: 1 passed, 1 failed as expected, 1 skipped as expected"
    );
}
