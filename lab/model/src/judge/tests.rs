use super::*;
use crate::evidence::{MachineEnd, Origin, WaitEnd};
use crate::exit::Exit;
use crate::fact::FactValue;
use crate::step::boot_files::BootFilesEvidence;
use crate::step::phase::PhaseEvidence;
use crate::step::run::RunEvidence;
use crate::step::testing::ran;
use crate::verdict::run_exit;
use serde_json::json;

/// `boot-files`, then `run: true`, then `run: false-would-fail`, each with what the last argument adds.
fn a_case(more: serde_json::Value) -> Case {
    let mut case = json!({
        "id": "t[arch=x86_64]", "scenario": "t", "file": "t.yaml", "axes": [["arch", "x86_64"]],
        "subject": {"hypervisor": "debian:bookworm"},
        "config": {
            "arch": "x86_64", "machine": {}, "xen": {"build": "debian:bookworm"}, "dom0": {}, "boot": {},
        },
        "steps": [
            {"path": "steps[0]", "body": {"boot-files": {"layout": "auto"}}},
            {"path": "steps[1]", "name": "it works", "body": {"run": {"script": "true"}}},
            {"path": "steps[2]", "body": {"run": {"script": "true"}}},
        ],
        "places": {}, "nonce": "5eaf", "facts": {}, "plan": "run",
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        case[key.as_str()] = value.clone();
    }
    serde_json::from_value(case).unwrap()
}

fn evidence(step: &str, seen: Result<Observation, Loss>) -> Evidence {
    Evidence { step: step.into(), origin: Origin::PowerOn, from: 1.0, to: 2.5, seen }
}

fn boot(end: WaitEnd, reached: &[Phase]) -> Evidence {
    let reached = reached.iter().map(|p| (*p, 1.0)).collect();
    let seen = PhaseEvidence {
        reached,
        end,
        console_bytes: 0,
        tails: Vec::new(),
        signs: Vec::new(),
        heard: Vec::new(),
        ended: 0.0,
        usual: None,
        told: Vec::new(),
    };
    evidence(BOOT, Ok(Observation::Phase(seen)))
}

fn booted() -> Evidence {
    boot(WaitEnd::Reached, &[Phase::PowerOn, Phase::Xen, Phase::Dom0Ready])
}

fn silent() -> Evidence {
    boot(WaitEnd::Stalled { seconds: 30.0 }, &[Phase::PowerOn])
}

fn files(good: bool) -> Evidence {
    let file = json!({"path": "xen", "resolves": true, "kind": if good { "elf32" } else { "other" }, "arch": "x86_64"});
    let seen: BootFilesEvidence =
        serde_json::from_value(json!({"absent": null, "layout": "bare", "version": null, "files": [file]}))
            .unwrap();
    evidence("steps[0]", Ok(Observation::BootFiles(seen)))
}

fn exited(step: &str, status: i32) -> Evidence {
    evidence(step, Ok(Observation::Run(RunEvidence { results: vec![ran("true", status, "", "")] })))
}

fn lost(step: &str, loss: Loss) -> Evidence {
    evidence(step, Err(loss))
}

fn control(passed: bool) -> Control {
    Control {
        subject: "debian:bookworm@4.17.5".into(),
        because: "the last that passed here".into(),
        passed,
        unavailable: None,
    }
}

fn judged(evidence: &[Evidence]) -> CaseVerdict {
    case(&a_case(json!({})), evidence, &Facts::default(), None)
}

fn summary(v: &CaseVerdict) -> (Verdict, &str, Vec<Verdict>) {
    (v.verdict, v.cause.map_or("", Cause::code), v.steps.iter().map(|s| s.verdict).collect())
}

use Verdict::{Error, Fail, NotReached, Pass, Skip};

#[test]
fn a_good_case() {
    let v = judged(&[booted(), files(true), exited("steps[1]", 0), exited("steps[2]", 0)]);
    assert_eq!(summary(&v), (Pass, "", vec![Pass; 4]));
    assert_eq!(
        (v.steps[0].step.as_str(), v.steps[0].title.as_str(), v.steps[2].title.as_str()),
        ("boot", "boot", "it works")
    );
    assert_eq!(
        (v.message.as_str(), v.blame, v.seconds, v.steps[1].seconds),
        ("4 steps passed", None, 2.5, 1.5)
    );
}

#[test]
fn a_failed_check_does_not_end_a_case() {
    let v = judged(&[booted(), files(true), exited("steps[1]", 1), exited("steps[2]", 0)]);
    assert_eq!(summary(&v), (Fail, "check.failed", vec![Pass, Pass, Fail, Pass]));
    assert!(v.message.starts_with("it works: exit over ssh: expected `0`, saw `1`"), "{}", v.message);
    // The first that failed decides; files are judged even if nothing boots.
    let not = |s: &str| lost(s, Loss::NotReached);
    let v = judged(&[silent(), files(false), not("steps[1]"), not("steps[2]")]);
    assert_eq!(summary(&v), (Fail, "xen.silent", vec![Fail, Fail, NotReached, NotReached]));
    assert!(v.message.ends_with("(and 1 more of the steps)"), "{}", v.message);
}

#[test]
fn there_is_always_a_verdict() {
    // The lab was killed: nothing of the case is known.
    assert_eq!(summary(&judged(&[])), (NotReached, "", vec![NotReached; 4]));
    // A step without evidence was not reached, which is no pass.
    let v = judged(&[booted(), files(true), exited("steps[1]", 0)]);
    assert_eq!(summary(&v), (NotReached, "", vec![Pass, Pass, Pass, NotReached]));
    // Evidence of another kind, and of a step that is not there.
    let wrong = Evidence { step: "steps[1]".into(), ..files(true) };
    assert_eq!(summary(&judged(&[booted(), files(true), wrong, exited("steps[2]", 0)])).1, "lab.internal");
    assert_eq!(step(&a_case(json!({})), &exited("steps[9]", 0), &Facts::default()).verdict, Error);
    assert_eq!(step(&a_case(json!({})), &booted(), &Facts::default()).verdict, Pass);
}

#[test]
fn losses() {
    let killed = || Loss::Machine(MachineEnd::QemuKilled { signal: 9, stderr: String::new() });
    let lab = |code: &str| Loss::Lab { code: code.into(), message: "so it is".into() };
    for (loss, verdict, code) in [
        (killed(), Error, "qemu.killed"),
        (Loss::Machine(MachineEnd::GuestReset), Fail, "dom0.reset"),
        (Loss::Machine(MachineEnd::GuestPowerOff), Fail, "dom0.power-off"),
        (Loss::Machine(MachineEnd::InternalError), Error, "qemu.internal-error"),
        (
            Loss::Guest { code: "xen.panic".into(), line: "Panic on CPU 0:".into(), told: Vec::new() },
            Fail,
            "xen.panic",
        ),
        (Loss::Interrupted, Error, "lab.interrupted"),
        (lab("host.disk-full"), Error, "host.disk-full"),
        (lab("lab.panic"), Error, "lab.panic"),
        // What is wrong with the build is a Fail, whoever found it.
        (lab("build.image-truncated"), Fail, "build.image-truncated"),
        (lab("no.such"), Error, "lab.internal"),
    ] {
        let v = judged(&[
            booted(),
            files(true),
            lost("steps[1]", loss.clone()),
            lost("steps[2]", Loss::NotReached),
        ]);
        assert_eq!(summary(&v), (verdict, code, vec![Pass, Pass, verdict, NotReached]), "{loss:?}");
    }
    // A machine that never started: the boot's own evidence says it.
    let v = judged(&[lost(BOOT, lab("qemu.refused")), files(true)]);
    assert_eq!(summary(&v), (Error, "qemu.refused", vec![Error, Pass, NotReached, NotReached]));
    let v = judged(&[lost(BOOT, Loss::Machine(MachineEnd::GuestReset)), files(true)]);
    assert_eq!(summary(&v).1, "xen.reset");
}

/// An instance of XTF that takes the host down, as dom0 and as a domain; and one that was not run, of which nothing is counted.
#[test]
fn a_test_that_takes_the_host_down() {
    let of = |run_as: &str, loss: Loss| {
        let known = json!({"instance": {"name": "a", "environment": "pv64"}, "category": "xsa"});
        let body = json!({"tree": "/t", "test": "test-pv64-a", "run-as": run_as, "known": known});
        let steps = json!([{"path": "steps[0]", "body": {"xtf": body}}]);
        case(&a_case(json!({"steps": steps})), &[booted(), lost("steps[0]", loss)], &Facts::default(), None)
    };
    let reset = || Loss::Machine(MachineEnd::GuestReset);
    let panic = || Loss::Guest { code: "xen.panic".into(), line: "Panic on CPU 0:".into(), told: Vec::new() };
    for (run_as, loss, code) in [
        ("dom0", reset(), "xen.reset"),
        ("dom0", panic(), "xen.panic"),
        ("domU", reset(), "dom0.reset"),
        ("domU", panic(), "xen.panic"),
    ] {
        let v = of(run_as, loss.clone());
        let ended = v.xtf.clone().unwrap();
        assert_eq!((summary(&v).1, ended.outcome), (code, Some(crate::xtf::Outcome::HostCrash)), "{loss:?}");
        assert_eq!((ended.category.as_str(), ended.environment.as_str()), ("xsa", "pv64"));
    }
    let v = of("domU", Loss::Machine(MachineEnd::QemuKilled { signal: 9, stderr: String::new() }));
    assert_eq!((v.verdict, v.xtf.unwrap().outcome), (Error, None));
}

/// A boot alone is no pass: where nothing that the scenario asks for was judged, nothing was.
#[test]
fn a_case_of_which_nothing_was_judged_is_skipped() {
    let known = json!({"instance": {"name": "a", "environment": "pv64"}, "category": "xsa"});
    let body = json!({"tree": "/t", "test": "test-pv64-a", "run-as": "dom0", "known": known});
    let steps = json!([{"path": "steps[0]", "body": {"xtf": body}}]);
    let of = |said: &str| {
        let text = format!("Skip: no such thing\nTest result: {said}\n");
        let seen = json!({"run_as": "dom0", "image": "", "config": "", "xen": [],
                          "console": {"text": text, "total": 10, "cut": false}});
        let seen = Ok(Observation::Xtf(serde_json::from_value(seen).unwrap()));
        let evidence =
            Evidence { step: "steps[0]".into(), origin: Default::default(), from: 1.0, to: 2.0, seen };
        case(&a_case(json!({"steps": steps})), &[booted(), evidence], &Facts::default(), None)
    };
    let v = of("SKIP");
    assert_eq!(
        (v.verdict, v.message.as_str()),
        (Skip, "SKIP: it cannot be done here: `Skip: no such thing`")
    );
    assert_eq!(of("SUCCESS").verdict, Pass);
}

#[test]
fn the_control_says_whose_fault_it_is() {
    let not = |s: &str| lost(s, Loss::NotReached);
    let seen = |good| vec![silent(), files(good), not("steps[1]"), not("steps[2]")];
    let of = |evidence: &[Evidence], passed| {
        case(&a_case(json!({})), evidence, &Facts::default(), Some(&control(passed)))
    };
    let v = of(&seen(true), true);
    assert_eq!((summary(&v).0, summary(&v).1, v.blame), (Fail, "xen.silent", Some(Blame::Xen)));
    assert!(v.message.contains("debian:bookworm@4.17.5 boots in this very machine"), "{}", v.message);
    let v = of(&seen(true), false);
    assert_eq!((summary(&v).0, summary(&v).1, v.blame), (Error, "host.control-failed", Some(Blame::Host)));
    assert_eq!(v.steps[0].verdict, Fail, "the Fail stays in the list");
    // What was read off the build's own files needs no machine.
    let v = of(&seen(false), false);
    assert_eq!((summary(&v).0, summary(&v).1, v.blame), (Fail, "build.boot-file-wrong", Some(Blame::Build)));
}

#[test]
fn an_input_that_changed_outweighs_every_fail() {
    let changed = Loss::Lab { code: "lab.input-changed".into(), message: "xen is not what it was".into() };
    let v = judged(&[silent(), files(false), lost(INPUTS, changed)]);
    assert_eq!((v.verdict, v.cause, v.blame), (Error, Some(Cause::InputChanged), Some(Blame::Lab)));
    assert_eq!(v.steps.last().unwrap().step, INPUTS);
}

#[test]
fn the_boot_is_judged_by_how_far_its_case_needs_it() {
    let only_xen = a_case(json!({"steps": [{"path": "steps[0]", "body": {"phase": {"reach": "xen"}}}]}));
    let to_xen = boot(WaitEnd::Reached, &[Phase::PowerOn, Phase::Xen]);
    assert_eq!(step(&only_xen, &to_xen, &Facts::default()).verdict, Pass);
    let never = boot(WaitEnd::Stalled { seconds: 30.0 }, &[Phase::PowerOn]);
    assert_eq!(step(&only_xen, &never, &Facts::default()).verdict, Fail);
    // A case with a step in dom0 is not content with Xen alone.
    assert_ne!(step(&a_case(json!({})), &to_xen, &Facts::default()).verdict, Pass);
}

#[test]
fn needs_and_conditions() {
    let mut facts = Facts::default();
    let need = json!({"needs": [{"require": {"machine.pvh-guests": true}, "because": "this QEMU has no nested paging"}]});
    facts.set("machine.pvh-guests", FactValue::Flag(false));
    let v = case(&a_case(need.clone()), &[], &facts, None);
    assert_eq!(summary(&v), (Skip, "", vec![]));
    assert!(v.message.starts_with("this QEMU has no nested paging"), "{}", v.message);
    facts.set("machine.pvh-guests", FactValue::Flag(true));
    assert_eq!(case(&a_case(need), &[], &facts, None).verdict, NotReached);
    // Lost before it was known: no reason to skip, and no pass.
    let loss = Loss::Lab { code: Cause::HostDisk.code().into(), message: "no space left".into() };
    let need =
        json!({"needs": [{"require": {"build.declared-by": "the packages"}, "because": "it is too old"}]});
    let v = case(&a_case(need), &[evidence(BOOT, Err(loss))], &Facts::default(), None);
    assert_eq!((v.verdict, v.cause), (Error, Some(Cause::HostDisk)), "{}", v.message);
    let v = case(&a_case(json!({"plan": {"skip": "not here"}})), &[], &facts, None);
    assert_eq!((v.verdict, v.message.as_str()), (Skip, "not here"));
    // `when` false: not part of the case.
    let steps = json!({"steps": [
        {"path": "steps[0]", "body": {"run": {"script": "true"}}},
        {"path": "steps[1]", "when": {"build.efi": true}, "body": {"run": {"script": "true"}}},
    ]});
    facts.set("build.efi", FactValue::Flag(false));
    let v = case(&a_case(steps.clone()), &[booted(), exited("steps[0]", 0)], &facts, None);
    assert_eq!(summary(&v), (Pass, "", vec![Pass, Pass]));
    facts.set("build.efi", FactValue::Flag(true));
    let v = case(&a_case(steps), &[booted(), exited("steps[0]", 0)], &facts, None);
    assert_eq!(summary(&v).0, NotReached);
}

#[test]
fn a_case_that_judged_nothing_is_no_pass() {
    let steps = json!({"steps": [{"path": "steps[0]", "body": {"boot-files": {"layout": "auto"}}}]});
    let seen: BootFilesEvidence =
        serde_json::from_value(json!({"absent": null, "layout": "upstream", "version": null, "files": []}))
            .unwrap();
    let v = case(
        &a_case(steps),
        &[evidence("steps[0]", Ok(Observation::BootFiles(seen)))],
        &Facts::default(),
        None,
    );
    assert_eq!(summary(&v), (Skip, "", vec![Skip]));
    assert_eq!(run_exit(&[v], false), Exit::Lab);
}

#[test]
fn live_and_from_a_bundle() {
    let c = a_case(json!({}));
    let seen = [booted(), files(false), exited("steps[1]", 1), lost("steps[2]", Loss::NotReached)];
    let again: Case = serde_json::from_str(&serde_json::to_string(&c).unwrap()).unwrap();
    let lines = seen.iter().map(|e| serde_json::to_string(e).unwrap()).collect::<Vec<_>>();
    let back: Vec<Evidence> = lines.iter().map(|l| serde_json::from_str(l).unwrap()).collect();
    let live = case(&c, &seen, &Facts::default(), None);
    assert_eq!(live, case(&again, &back, &Facts::default(), None));
    assert_eq!(live, serde_json::from_str(&serde_json::to_string(&live).unwrap()).unwrap());
}

#[test]
fn what_emulation_can_be_the_cause_of_is_tried_again() {
    let of = |accel: &str| {
        let mut facts = Facts::default();
        facts.set("machine.accel", crate::fact::FactValue::Text(accel.to_owned()));
        facts
    };
    let with = |verdict: Verdict, cause: Option<Cause>, message: &str| CaseVerdict {
        verdict,
        cause,
        message: message.to_owned(),
        ..judged(&[])
    };
    let faulted = with(Fail, Some(Cause::GuestTripleFault), "g1 is gone");
    assert!(may_be_emulated(&faulted, &of("tcg")) && !may_be_emulated(&faulted, &of("kvm")));
    assert!(!may_be_emulated(&with(Fail, Some(Cause::GuestGone), ""), &of("tcg")));

    let passed = settle(faulted.clone(), &with(Pass, None, ""), "power-on", &of("tcg"));
    assert_eq!((passed.verdict, passed.cause), (Pass, None));
    assert!(
        passed.message.contains("once more (power-on): the time before g1 is gone"),
        "{}",
        passed.message
    );
    let panicked = with(Fail, Some(Cause::XenPanic), "Xen panicked");
    let panicked = settle(faulted.clone(), &panicked, "power-on", &of("tcg"));
    assert_eq!(
        (panicked.verdict, panicked.cause),
        (Fail, Some(Cause::XenPanic)),
        "what it came to then counts"
    );
    let twice = settle(faulted.clone(), &faulted, "power-on", &of("tcg"));
    assert_eq!((twice.verdict, twice.cause), (Fail, Some(Cause::GuestTripleFault)));
    // A real processor makes no such mistakes.
    let kvm = settle(faulted, &with(Pass, None, ""), "power-on", &of("kvm"));
    assert_eq!((kvm.verdict, kvm.cause), (Error, Some(Cause::CloneDiffers)));
}

#[test]
fn exit_codes() {
    let of = |verdict: Verdict, cause: Option<Cause>| CaseVerdict { verdict, cause, ..judged(&[]) };
    let (pass, fail, skip) = (of(Pass, None), of(Fail, Some(Cause::XenPanic)), of(Skip, None));
    let (error, not) = (of(Error, Some(Cause::QemuKilled)), of(NotReached, None));
    for (cases, exit) in [
        (vec![], Exit::BadInput),
        (vec![&pass], Exit::Passed),
        (vec![&pass, &skip], Exit::Passed),
        (vec![&skip, &skip], Exit::Lab),
        (vec![&pass, &error], Exit::Lab),
        (vec![&pass, &not], Exit::Lab),
        (vec![&error, &fail, &pass], Exit::Failed),
        (vec![&skip, &fail], Exit::Failed),
    ] {
        let cases: Vec<CaseVerdict> = cases.into_iter().cloned().collect();
        assert_eq!(run_exit(&cases, false), exit, "{cases:?}");
        assert_eq!(run_exit(&cases, true), Exit::Interrupted);
    }
    assert_eq!(run_exit(&[fail, of(Error, Some(Cause::Interrupted))], false), Exit::Interrupted);
}

#[test]
fn tools_of_another_xen_are_why_dom0_is_not_ready() {
    let end =
        WaitEnd::Failed { code: "build.tools-failed".into(), line: "xenlab: failed: xen-init-dom0".into() };
    let reached = [Phase::PowerOn, Phase::Xen, Phase::Dom0Kernel, Phase::Dom0Init];
    let cause = |end: &WaitEnd, reached: &[Phase], tools: &str| {
        let mut facts = Facts::default();
        facts.set("build.branch", FactValue::Version("4.17".into()));
        facts.set("build.tools-branch", FactValue::Version(tools.into()));
        let v = case(&a_case(json!({})), &[boot(end.clone(), reached)], &facts, None);
        (v.cause.map_or("", Cause::code), v.message)
    };
    let (code, message) = cause(&end, &reached, "4.20");
    assert_eq!(code, "build.tools-mismatch");
    assert!(message.contains("the tools are those of Xen 4.20, the hypervisor is 4.17"), "{message}");
    assert_eq!(cause(&end, &reached, "4.17").0, "build.tools-failed");
    // Before any tool ran nothing is theirs, and what has another reason keeps it.
    let stalled = WaitEnd::Stalled { seconds: 60.0 };
    assert_eq!(cause(&stalled, &reached[..3], "4.20").0, "dom0.hung");
    let no_root = WaitEnd::Failed { code: "dom0.no-root".into(), line: "xenlab: failed: no-root".into() };
    assert_eq!(cause(&no_root, &reached, "4.20").0, "dom0.no-root");
}

#[test]
fn without_a_control_nobody_is_blamed() {
    let not = |s: &str| lost(s, Loss::NotReached);
    let evidence = [silent(), files(true), not("steps[1]"), not("steps[2]")];
    let control = Control { unavailable: Some("no network".into()), ..control(false) };
    let v = case(&a_case(json!({})), &evidence, &Facts::default(), Some(&control));
    assert_eq!((summary(&v).0, summary(&v).1, v.blame), (Fail, "xen.silent", None));
    assert!(v.message.contains("not known") && v.message.contains("no network"), "{}", v.message);
}
