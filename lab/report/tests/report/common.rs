//! A run with everything in it, as events.

use xenlab_model::case::Planned;
use xenlab_model::cause::{Blame, Cause};
use xenlab_model::event::{Event, LabUse, What};
use xenlab_model::exit::Exit;
use xenlab_model::place::Place;
use xenlab_model::verdict::{CaseVerdict, Check, Control, StepVerdict, Verdict};

pub const GOOD: &str = "dom0-boot[arch=aarch64] @ debian:bookworm";
pub const BAD: &str = "dom0-boot[arch=x86_64] @ file:/srv/xen";
pub const LOST: &str = "xtf[vars.test=test-pv64-example] @ debian:trixie";
pub const SKIPPED: &str = "xtf[vars.test=test-pvh64-example] @ debian:trixie";

fn step(step: &str, title: &str, kind: &str, checks: Vec<Check>) -> StepVerdict {
    let verdict = Verdict::worst(checks.iter().map(|c| c.verdict));
    StepVerdict {
        step: step.into(),
        title: title.into(),
        kind: kind.into(),
        verdict,
        checks,
        seconds: 1.25,
        origin: Default::default(),
    }
}

pub fn case(
    case: &str,
    verdict: Verdict,
    cause: Option<Cause>,
    message: &str,
    steps: Vec<StepVerdict>,
) -> CaseVerdict {
    let (id, subject) = case.split_once(" @ ").unwrap();
    CaseVerdict {
        format: 1,
        case: id.into(),
        subject: subject.into(),
        verdict,
        cause,
        blame: cause.map(Cause::blame),
        message: message.into(),
        steps,
        control: None,
        seconds: 8.375,
        xtf: None,
        expected: None,
    }
}

pub fn finished(case: &str, verdict: CaseVerdict) -> What {
    What::CaseFinished {
        case: case.into(),
        bundle: if verdict.verdict == Verdict::Skip { String::new() } else { "out/bundles/1".into() },
        reproduce: "xenlab run scenarios/dom0-boot.yaml --case 'dom0-boot[arch=x86_64]' --xen file:/srv/xen"
            .into(),
        verdict: Box::new(verdict),
    }
}

pub fn good() -> CaseVerdict {
    let steps = vec![
        step("boot", "boot", "boot", vec![Check::pass("dom0-ready", "reached after 5.2 s")]),
        step(
            "steps[0]",
            "xl-info",
            "xl-info",
            vec![
                Check::pass("xen_version", "is 4.17.5"),
                Check::not_judged("build_id", "no expected version"),
            ],
        ),
    ];
    case(GOOD, Verdict::Pass, None, "2 steps passed", steps)
}

pub fn bad() -> CaseVerdict {
    let place = Place::File { file: "scenarios/dom0-boot.yaml".into(), line: 25, column: 20 };
    let steps = vec![
        step("boot", "boot", "boot", vec![Check::pass("dom0-ready", "reached after 8.1 s")]),
        step("steps[3]", "xl-info", "xl-info", vec![
            Check::fail("xen_version", Cause::VersionMismatch, "the declared version is 4.17.6; the image carries 4.17.5 and the running Xen says 4.17.5")
                .show("declared", "4.17.6")
                .show("carried", "4.17.5")
                .show("seen", "4.17.5")
                .at(Some(place)),
        ]),
        step("steps[5]", "dom0 is listed, over each way in", "run", vec![
            Check::fail("stderr over ssh", Cause::CheckFailed, "expected nothing, saw 2 lines")
                .show("seen", "evil \x1b[2J\x1b]0;title\x07 `text` | <b>\u{202e}\nsecond line"),
        ]),
    ];
    let mut verdict = case(
        BAD,
        Verdict::Fail,
        Some(Cause::VersionMismatch),
        "xen_version is 4.17.5, and 4.17.6 was declared",
        steps,
    );
    verdict.control = Some(Control {
        subject: "debian:bookworm".into(),
        because: "the locked one".into(),
        passed: true,
        unavailable: None,
    });
    verdict
}

pub fn lost() -> CaseVerdict {
    let mut verdict = case(
        LOST,
        Verdict::Error,
        Some(Cause::QemuKilled),
        "QEMU was killed by signal 9 while dom0's kernel booted; nothing is known about this Xen",
        Vec::new(),
    );
    verdict.blame = Some(Blame::Qemu);
    verdict
}

pub fn skipped() -> CaseVerdict {
    case(
        SKIPPED,
        Verdict::Skip,
        None,
        "this QEMU emulates nested paging wrongly and this Xen has no shadow paging",
        Vec::new(),
    )
}

pub fn started(run: &str, cases: &[&str]) -> What {
    let cases = cases.iter().map(|&c| {
        let planned = if c == SKIPPED { Planned::Skip("no nested paging".into()) } else { Planned::Run };
        (c.to_owned(), planned)
    });
    What::RunStarted {
        run: run.into(),
        version: "0.1.0".into(),
        started: "2026-11-22T15:00:00Z".into(),
        cases: cases.collect(),
    }
}

pub fn ended(exit: Exit, interrupted: bool) -> What {
    What::RunFinished { exit, seconds: 21.5, interrupted, lab: LabUse::default() }
}

pub fn at(at: f64, what: What) -> Event {
    Event { at, what }
}

pub fn phase(case: &str, phase: &str, seconds: f64) -> What {
    What::Phase { case: case.into(), phase: phase.into(), seconds }
}

pub fn progress(done: u64) -> What {
    What::Progress {
        task: "userland".into(),
        message: "fetching packages for debian:bookworm".into(),
        done,
        total: 45_000_000,
        unit: "bytes".into(),
    }
}

/// Everything that can happen, in a plausible order.
pub fn run() -> Vec<Event> {
    vec![
        at(0.0, started("r1", &[GOOD, BAD, LOST, SKIPPED])),
        at(0.1, progress(0)),
        at(2.5, progress(12_300_000)),
        at(3.0, progress(30_000_000)),
        at(4.0, What::ProgressEnded { task: "userland".into(), seconds: 3.9, error: None }),
        at(
            4.0,
            What::Note {
                case: None,
                message: "KVM is not used: /dev/kvm opens, and Xen does not start on it".into(),
            },
        ),
        at(4.1, What::CaseStarted { case: GOOD.into(), bundle: "out/bundles/0".into() }),
        at(4.1, What::CaseStarted { case: BAD.into(), bundle: "out/bundles/1".into() }),
        at(5.0, phase(GOOD, "xen", 0.9)),
        at(5.1, phase(BAD, "xen", 1.0)),
        at(8.0, What::StepStarted { case: GOOD.into(), step: "steps[0]".into(), title: "xl-info".into() }),
        at(8.3, What::StepFinished { case: GOOD.into(), verdict: good().steps[1].clone() }),
        at(8.4, finished(GOOD, good())),
        at(12.0, finished(BAD, bad())),
        at(12.1, What::CaseStarted { case: LOST.into(), bundle: "out/bundles/2".into() }),
        at(20.0, finished(LOST, lost())),
        at(20.1, finished(SKIPPED, skipped())),
        at(21.5, ended(Exit::Failed, false)),
    ]
}
