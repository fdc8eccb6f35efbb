//! The table of XTF's instances.

use crate::common::*;
use crate::expected::{Buffer, entry, with};
use xenlab_model::cause::Cause;
use xenlab_model::event::Event;
use xenlab_model::exit::Exit;
use xenlab_model::expectation::Kind;
use xenlab_model::verdict::{CaseVerdict, Verdict};
use xenlab_model::xtf::{Ended, Outcome};
use xenlab_report::*;

fn instance(of: &str, category: &str, subject: &str, outcome: Option<Outcome>) -> (String, CaseVerdict) {
    let (verdict, cause) = match outcome {
        Some(Outcome::Success | Outcome::SuccessWithWarnings) => (Verdict::Pass, None),
        None | Some(Outcome::Skip) => (Verdict::Skip, None),
        Some(Outcome::Timeout) => (Verdict::Fail, Some(Cause::XtfTimeout)),
        Some(_) => (Verdict::Fail, Some(Cause::XtfFailure)),
    };
    let shown = format!("xtf[vars.test=test-{of}] @ {subject}");
    let ended = Ended {
        instance: format!("test-{of}"),
        environment: of.split('-').next().unwrap().into(),
        category: category.into(),
        outcome,
    };
    let verdict = CaseVerdict { xtf: Some(ended), ..case(&shown, verdict, cause, "a message", Vec::new()) };
    (shown, verdict)
}

fn all() -> Vec<(String, CaseVerdict)> {
    let (old, new) = ("debian:bookworm", "debian:trixie");
    let mut all = vec![
        instance("pv64-a", "xsa", old, Some(Outcome::Success)),
        instance("pv64-b", "xsa", old, Some(Outcome::Failure)),
        instance("pv64-c|d", "xsa", old, Some(Outcome::Failure)),
        instance("hvm64-a", "functional", old, Some(Outcome::SuccessWithWarnings)),
        instance("hvm64-b", "functional", old, Some(Outcome::Timeout)),
        instance("pv32pae-a", "xsa", old, None),
        instance("pv64-a", "xsa", new, Some(Outcome::Success)),
        (LOST.to_owned(), lost()),
    ];
    // An instance that the lab lost, and one that was expected to fail.
    let mut gone = instance("pv64-e", "xsa", old, None);
    gone.1 = CaseVerdict {
        xtf: gone.1.xtf,
        ..case(&gone.0, Verdict::Error, Some(Cause::QemuKilled), "gone", Vec::new())
    };
    all.push(gone);
    all[1].1 = with(Kind::AsExpected, entry(Verdict::Fail, Some(Cause::XtfFailure)), all[1].1.clone());
    all
}

fn events() -> Vec<Event> {
    let all = all();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let mut events = vec![at(0.0, started("r1", &names))];
    events.extend(all.iter().map(|(name, verdict)| at(3.0, finished(name, verdict.clone()))));
    events.push(at(21.5, ended(Exit::Failed, false)));
    events
}

#[test]
fn on_a_terminal_and_in_a_pull_request() {
    let buffer = Buffer::default();
    let mut terminal = Terminal::lines(Box::new(buffer.clone()), Style { color: false, width: 100 });
    events().iter().for_each(|e| terminal.event(e).unwrap());
    let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    insta::assert_snapshot!("xtf_terminal", &text[text.find("XTF on").unwrap()..]);
    let dir = tempfile::tempdir().unwrap();
    let mut reporters = files(dir.path()).unwrap();
    for event in events() {
        reporters.iter_mut().for_each(|r| r.event(&event).unwrap());
    }
    let summary = std::fs::read_to_string(dir.path().join("summary.md")).unwrap();
    insta::assert_snapshot!("xtf_summary", summary.split("| case |").next().unwrap());
}

#[test]
fn a_long_list_of_cases_is_folded() {
    let names: Vec<String> = (0..41).map(|n| format!("t[n={n}] @ debian:bookworm")).collect();
    let of = |count: usize| {
        let shown: Vec<&str> = names[..count].iter().map(String::as_str).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut reporters = files(dir.path()).unwrap();
        let event = at(0.0, started("r1", &shown));
        reporters.iter_mut().for_each(|r| r.event(&event).unwrap());
        std::fs::read_to_string(dir.path().join("summary.md")).unwrap()
    };
    assert!(!of(40).contains("<details>"));
    let long = of(41);
    assert!(
        long.contains("<details><summary>41 cases</summary>\n\n| case |") && long.contains("\n</details>\n")
    );
}
