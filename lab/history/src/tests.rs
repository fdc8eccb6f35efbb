//! A history of made-up cases.

use super::*;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::Origin;
use xenlab_model::verdict::{CaseVerdict, Check, StepVerdict};

fn sample(id: &str, subject: &str, bundle: &str, verdict: Verdict) -> Sample {
    let check = match verdict {
        Verdict::Pass => Check::pass("daemon", "it runs"),
        Verdict::Fail => Check::fail("daemon", Cause::StoreAbsent, "it does not run"),
        _ => Check::not_judged("daemon", "not judged"),
    };
    let step = StepVerdict {
        step: "steps[0]".into(),
        title: "store".into(),
        kind: "xenstored".into(),
        verdict,
        checks: vec![check.clone()],
        seconds: 0.1,
        origin: Origin::PowerOn,
    };
    let verdict = CaseVerdict {
        format: 1,
        case: id.into(),
        subject: subject.into(),
        verdict,
        cause: check.cause,
        blame: None,
        message: check.message,
        xtf: None,
        steps: vec![step],
        control: None,
        seconds: 2.5,
        expected: None,
    };
    Sample {
        id: id.into(),
        subject: subject.into(),
        bundle: bundle.into(),
        nonce: format!("nonce of {bundle}"),
        verdict: Some(verdict),
        ..Sample::default()
    }
}

fn run(n: u32) -> RunOf {
    RunOf { run: format!("r{n}"), started: format!("2026-11-{n:02}T00:00:00Z"), lab: "0.1.0".into() }
}

fn opened() -> (tempfile::TempDir, History) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let history = History::open(&dir.path().join("h.sqlite3")).expect("a new file");
    (dir, history)
}

#[test]
fn what_was_recorded_is_told_by_case_and_time() {
    let (dir, mut history) = opened();
    for (n, subject, verdict) in
        [(1, "debian:a", Verdict::Fail), (2, "debian:a", Verdict::Pass), (3, "debian:b", Verdict::Skip)]
    {
        history.record(&run(n), &sample("t", subject, &format!("/b/{n}"), verdict)).expect("recorded");
    }
    history.record(&run(4), &sample("t2", "debian:a", "/b/4", Verdict::Pass)).expect("recorded");
    // The whole id is that case alone, a part all that have it.
    let verdicts = |part: &str| -> Vec<String> {
        history.case(part).expect("read").into_iter().map(|e| e.verdict).collect()
    };
    assert_eq!(verdicts("t"), ["skip", "pass", "fail"]);
    assert_eq!(verdicts("t @ debian:a"), ["pass", "fail"]);
    assert_eq!(verdicts("debian:a"), ["pass", "pass", "fail"]);
    assert_eq!(verdicts("nothing"), Vec::<String>::new());
    // What SQL or its patterns would make of it is text.
    assert_eq!(verdicts("%' OR 1=1 --"), Vec::<String>::new());
    let all = history.cases().expect("read");
    let of = |s: &Summary| (s.case.clone(), s.subject.clone(), s.runs, s.passed, s.failed);
    let told: Vec<_> = all.iter().map(of).collect();
    assert_eq!(told[0], ("t2".into(), "debian:a".into(), 1, 1, 0));
    assert!(told.contains(&("t".into(), "debian:a".into(), 2, 1, 1)), "{told:?}");
    let first = history.case("t").expect("read").remove(2);
    assert_eq!((first.cause.as_deref(), first.seconds), (Some("store.absent"), 2.5));
    // It is there the next time.
    drop(history);
    assert_eq!(History::open(&dir.path().join("h.sqlite3")).expect("opened").cases().expect("read").len(), 3);
}

#[test]
fn the_past_has_every_check_and_leaves_out_what_is_compared() {
    let (_dir, mut history) = opened();
    for (n, verdict) in [(1, Verdict::Fail), (2, Verdict::Fail), (3, Verdict::Pass)] {
        history.record(&run(n), &sample("t", "debian:a", &format!("/b/{n}"), verdict)).expect("recorded");
    }
    let check = Key { case: "t".into(), step: Some("store".into()), check: Some("daemon".into()) };
    let case = Key { case: "t".into(), ..Key::default() };
    let past = history.past(&[]).expect("read");
    assert_eq!((past[&check], past[&case]), ((1, 2), (1, 2)));
    let past = history.past(&["nonce of /b/3", "nonce of /b/1"]).expect("read");
    assert_eq!((past[&check], past[&case]), ((0, 1), (0, 1)));
}

#[test]
fn the_same_case_of_the_same_run_is_there_once() {
    let (_dir, mut history) = opened();
    for verdict in [Verdict::Fail, Verdict::Pass] {
        history.record(&run(1), &sample("t", "debian:a", "/b/1", verdict)).expect("recorded");
    }
    let all = history.case("t").expect("read");
    assert_eq!((all.len(), all[0].verdict.as_str()), (1, "pass"));
    assert_eq!(history.past(&[]).expect("read").len(), 3, "case, step and check, of the second alone");
}

#[test]
fn the_oldest_of_very_many_go() {
    let (_dir, mut history) = opened();
    for n in 0..KEPT + 5 {
        let of = RunOf { run: format!("r{n}"), ..run(1) };
        history.record(&of, &sample("t", "debian:a", "/b", Verdict::Pass)).expect("recorded");
    }
    assert_eq!(history.cases().expect("read")[0].runs, KEPT);
    let check = Key { case: "t".into(), step: Some("store".into()), check: Some("daemon".into()) };
    assert_eq!(history.past(&[]).expect("read")[&check], (KEPT, 0), "their checks went with them");
}

#[test]
fn what_is_no_history_is_said() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("h.sqlite3");
    std::fs::write(&path, "this is no database, and long enough to be taken for one if nobody looked")
        .expect("written");
    assert!(matches!(History::open(&path), Err(HistoryError::Sqlite { .. })));
    let later = dir.path().join("later.sqlite3");
    drop(History::open(&later).expect("a new file"));
    let connection = Connection::open(&later).expect("opened");
    connection.pragma_update(None, "user_version", FORMAT + 1).expect("changed");
    drop(connection);
    assert!(matches!(History::open(&later), Err(HistoryError::Format { found, .. }) if found == FORMAT + 1));
}

#[test]
fn several_labs_write_at_once() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("h.sqlite3");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let mut history = History::open(path).expect("opened");
                for n in 0..10 {
                    let of = RunOf { run: format!("{thread}-{n}"), ..run(1) };
                    history.record(&of, &sample("t", "debian:a", "/b", Verdict::Pass)).expect("recorded");
                }
            });
        }
    });
    assert_eq!(History::open(&path).expect("opened").cases().expect("read")[0].runs, 40);
}

#[test]
fn how_long_a_phase_lasted_in_good_boots() {
    let (_dir, mut history) = opened();
    let boot = |n: u32, arch: &str, verdict, at: [f64; 3]| {
        let phases = ["power-on", "xen", "dom0-kernel"].map(str::to_owned).into_iter().zip(at).collect();
        Sample { phases, arch: arch.into(), ..sample("t", "debian:a", &format!("/b/{n}"), verdict) }
    };
    for (n, arch, verdict, at) in [
        (1, "x86_64", Verdict::Pass, [0.0, 1.0, 3.5]),
        (2, "x86_64", Verdict::Pass, [0.0, 1.0, 2.5]),
        // Neither a boot that failed nor another architecture's tells what is usual.
        (3, "x86_64", Verdict::Fail, [0.0, 1.0, 60.0]),
        (4, "aarch64", Verdict::Pass, [0.0, 1.0, 9.0]),
    ] {
        history.record(&run(n), &boot(n, arch, verdict, at)).expect("recorded");
    }
    assert_eq!(history.lasted("t", "x86_64", "xen").expect("read"), [1.5, 2.5]);
    assert_eq!(
        history.lasted("t", "x86_64", "dom0-kernel").expect("read"),
        Vec::<f64>::new(),
        "it is the last"
    );
    assert_eq!(history.lasted("other", "x86_64", "xen").expect("read"), Vec::<f64>::new());
}
