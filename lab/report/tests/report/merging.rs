//! Shards of a run, merged.

use crate::common::*;
use std::path::{Path, PathBuf};
use xenlab_model::event::Event;
use xenlab_model::exit::Exit;
use xenlab_report::*;

fn shard(root: &Path, name: &str, events: &[Event]) -> PathBuf {
    let dir = root.join(name);
    let mut reporters = files(&dir).unwrap();
    for event in events {
        reporters.iter_mut().for_each(|r| r.event(event).unwrap());
    }
    dir
}

fn one(run: &str, case: &str, verdict: xenlab_model::verdict::CaseVerdict, exit: Exit) -> Vec<Event> {
    vec![at(0.0, started(run, &[case])), at(3.0, finished(case, verdict)), at(21.5, ended(exit, false))]
}

#[test]
fn as_if_it_had_been_one_run() {
    let root = tempfile::tempdir().unwrap();
    let a = shard(root.path(), "a", &one("r1", GOOD, good(), Exit::Passed));
    let b = shard(root.path(), "b", &one("r2", BAD, bad(), Exit::Failed));
    // All skipped is no success for a shard alone, and nothing against the whole.
    let c = shard(root.path(), "c", &one("r3", SKIPPED, skipped(), Exit::Lab));
    let out = root.path().join("out");
    let merged = merge(&[a.clone(), b, c.clone()], &out).unwrap();
    assert_eq!(merged.exit, Exit::Failed);
    assert_eq!(merged.run.cases.len(), 3);
    insta::assert_snapshot!("merged_summary", std::fs::read_to_string(out.join("summary.md")).unwrap());
    let events = std::fs::read_to_string(out.join("events.jsonl")).unwrap();
    let first: Event = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    insta::assert_debug_snapshot!("merged_beginning", first);
    let junit = std::fs::read_to_string(out.join("junit.xml")).unwrap();
    assert!(junit.contains("tests=\"3\"") && junit.contains("failures=\"1\""), "{junit}");
    assert_eq!(merge(&[a, c.clone()], &root.path().join("o2")).unwrap().exit, Exit::Passed);
    assert_eq!(merge(std::slice::from_ref(&c), &root.path().join("o3")).unwrap().exit, Exit::Lab);
    // What was merged can be merged again.
    assert_eq!(merge(&[out], &root.path().join("o4")).unwrap().exit, Exit::Failed);
}

#[test]
fn the_same_case_twice_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let a = shard(root.path(), "a", &one("r1", GOOD, good(), Exit::Passed));
    let b = shard(root.path(), "b", &one("r2", GOOD, good(), Exit::Passed));
    let error = merge(&[a.clone(), b], &root.path().join("out")).unwrap_err();
    assert!(matches!(&error, MergeError::Twice { case, .. } if case == GOOD), "{error}");
    assert_eq!(error.exit(), Exit::BadInput);
    assert!(!root.path().join("out").exists(), "nothing is written before all is read");
    assert!(matches!(
        merge(&[a.clone(), a.clone()], &root.path().join("out")),
        Err(MergeError::Twice { .. })
    ));
    assert!(matches!(merge(std::slice::from_ref(&a), &a), Err(MergeError::SameFolder { .. })));
}

#[test]
fn a_killed_shard_is_the_labs_loss() {
    let root = tempfile::tempdir().unwrap();
    let a = shard(root.path(), "a", &one("r1", GOOD, good(), Exit::Passed));
    let b = shard(root.path(), "b", &one("r2", LOST, lost(), Exit::Lab)[..1]);
    // Killed in the middle of a line.
    let mut text = std::fs::read(b.join("events.jsonl")).unwrap();
    text.extend(b"{\"at\":3.0,\"event\":\"case-fin");
    std::fs::write(b.join("events.jsonl"), text).unwrap();
    let merged = merge(&[a, b], &root.path().join("out")).unwrap();
    assert_eq!(merged.exit, Exit::Lab);
    assert!(merged.run.cases[1].verdict.is_none());
}

#[test]
fn an_interrupted_shard_interrupts_the_whole() {
    let root = tempfile::tempdir().unwrap();
    let a = shard(root.path(), "a", &one("r1", BAD, bad(), Exit::Failed));
    let b =
        shard(root.path(), "b", &[at(0.0, started("r2", &[GOOD])), at(1.0, ended(Exit::Interrupted, true))]);
    assert_eq!(merge(&[a, b], &root.path().join("out")).unwrap().exit, Exit::Interrupted);
}

#[test]
fn what_is_no_report() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    assert!(matches!(merge(&[], &out), Err(MergeError::Nothing)));
    assert!(matches!(merge(&[root.path().join("none")], &out), Err(MergeError::Unreadable { .. })));
    let dir = root.path().join("d");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("events.jsonl"), "").unwrap();
    assert!(matches!(merge(std::slice::from_ref(&dir), &out), Err(MergeError::Empty { .. })));
    std::fs::write(dir.join("events.jsonl"), "{\"at\":0}\nnonsense\n").unwrap();
    let error = merge(&[dir], &out).unwrap_err();
    assert!(matches!(error, MergeError::NotAnEvent { line: 1, .. }), "{error}");
}
