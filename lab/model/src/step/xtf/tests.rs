use super::*;
use crate::evidence::Transport;
use crate::fact::FactValue;
use crate::place::Places;

fn step(test: &str) -> Xtf {
    let tail = test.strip_prefix("test-").unwrap();
    let (environment, name) = tail.split_once('-').unwrap();
    let (name, variation) = match name.split_once('~') {
        Some((name, variation)) => (name, Some(variation.to_owned())),
        None => (name, None),
    };
    let instance = Instance { name: name.into(), environment: environment.into(), variation };
    Xtf {
        tree: "/t".into(),
        test: test.into(),
        run_as: RunAs::DomU,
        known: Some(Known { instance, category: "xsa".into() }),
    }
}

fn text(text: &str) -> Captured {
    Captured { text: text.into(), total: text.len() as u64, cut: false }
}

fn command(end: CommandEnd, stdout: &str, stderr: &str) -> CommandResult {
    let (stdout, stderr) = (text(stdout), text(stderr));
    CommandResult { via: Transport::Port, script: String::new(), end, stdout, stderr, seconds: 0.1 }
}

fn seen(console: &str) -> XtfEvidence {
    XtfEvidence {
        run_as: RunAs::DomU,
        image: "aa".into(),
        config: String::new(),
        caps: None,
        run: Some(command(CommandEnd::Exit(0), "", "")),
        timed_out: None,
        console: text(console),
        xen: Vec::new(),
    }
}

fn judge(step: &Xtf, evidence: &XtfEvidence) -> Check {
    let (facts, places) = (Facts::default(), Places::new());
    let cx = JudgeContext { facts: &facts, places: &places, step: "steps[0]", arch: crate::Arch::X86_64 };
    let mut checks = step.judge(evidence, &cx);
    assert_eq!(checks.len(), 1);
    checks.remove(0)
}

fn of(console: &str) -> (Verdict, Option<Cause>, Option<Outcome>, String) {
    let check = judge(&step("test-pv64-a"), &seen(console));
    (check.verdict, check.cause, Xtf::outcome(&check), check.message)
}

#[test]
fn each_word_has_its_verdict() {
    let rows = [
        ("Test result: SUCCESS\n", Verdict::Pass, None, Outcome::Success),
        ("Test result: SUCCESS with warnings\n", Verdict::Pass, None, Outcome::SuccessWithWarnings),
        ("Test result: SKIP\n", Verdict::Skip, None, Outcome::Skip),
        ("Test result: ERROR\n", Verdict::Fail, Some(Cause::XtfError), Outcome::Error),
        ("Test result: FAILURE\n", Verdict::Fail, Some(Cause::XtfFailure), Outcome::Failure),
        ("hello\n", Verdict::Fail, Some(Cause::XtfCrash), Outcome::Crash),
        ("", Verdict::Fail, Some(Cause::XtfCrash), Outcome::Crash),
        ("Test result: SUCCESS\nmore\n", Verdict::Fail, Some(Cause::XtfCrash), Outcome::Crash),
    ];
    for (console, verdict, cause, outcome) in rows {
        let (v, c, o, message) = of(console);
        assert_eq!((v, c, o), (verdict, cause, Some(outcome)), "{console:?}: {message}");
        assert!(message.starts_with(outcome.word()), "{message}");
    }
}

#[test]
fn a_message_says_what_the_test_complained_of() {
    let (.., message) = of("Env\nFail: got 3\nTest result: FAILURE\n");
    assert!(message.contains("`Fail: got 3`"), "{message}");
    let (.., message) = of("****\nPANIC: Unhandled exception\nVec 13\n****\n");
    assert!(message.contains("`PANIC: Unhandled exception`"), "{message}");
    let mut evidence = seen("hello\n");
    evidence.xen = vec!["d1v0 Triple fault".into()];
    let check = judge(&step("test-pv64-a"), &evidence);
    assert!(check.message.contains("`hello`") && check.message.contains("Triple fault"), "{}", check.message);
}

#[test]
fn one_that_does_not_end_in_time_says_how_far_it_came() {
    let mut evidence = seen("hello\n");
    evidence.timed_out = Some(15.0);
    evidence.run = Some(command(CommandEnd::TimedOut(15), "", ""));
    let check = judge(&step("test-pv64-a"), &evidence);
    assert_eq!((check.cause, Xtf::outcome(&check)), (Some(Cause::XtfTimeout), Some(Outcome::Timeout)));
    assert!(check.message.contains("15 s") && check.message.contains("`hello`"), "{}", check.message);
    // A result alone is not enough: it has to end.
    evidence.console = text("Test result: SUCCESS\n");
    let check = judge(&step("test-pv64-a"), &evidence);
    assert_eq!(check.verdict, Verdict::Fail);
    assert!(check.message.contains("it said SUCCESS and did not end"), "{}", check.message);
}

#[test]
fn a_domain_that_cannot_be_made_is_told_in_xl_s_words() {
    let mut evidence = seen("");
    evidence.run = Some(command(CommandEnd::Exit(1), "", "libxl: error: no memory\n"));
    let check = judge(&step("test-pv64-a"), &evidence);
    assert_eq!((check.cause, Xtf::outcome(&check)), (Some(Cause::XtfNoDomain), Some(Outcome::Crash)));
    assert!(check.message.contains("no memory"), "{}", check.message);
    // `xl` that fails after the guest has spoken: what it said counts.
    evidence.console = text("Test result: FAILURE\n");
    assert_eq!(judge(&step("test-pv64-a"), &evidence).cause, Some(Cause::XtfFailure));
}

#[test]
fn a_lost_way_in_is_no_word_about_the_test() {
    let mut evidence = seen("");
    evidence.run = Some(command(CommandEnd::Lost("gone".into()), "", ""));
    let check = judge(&step("test-pv64-a"), &evidence);
    assert_eq!((check.verdict, check.cause), (Verdict::Error, Some(Cause::PortDead)));
    assert_eq!(Xtf::outcome(&check), None);
}

#[test]
fn a_console_that_was_cut_shows_no_crash() {
    let mut evidence = seen("hello\n");
    evidence.console.cut = true;
    assert_eq!(judge(&step("test-pv64-a"), &evidence).cause, Some(Cause::CaptureCut));
}

#[test]
fn what_xen_has_not_is_a_reason_to_leave_it_out() {
    let mut evidence = seen("");
    evidence.run = None;
    evidence.caps =
        Some(command(CommandEnd::Exit(0), "pv hvm hap gnttab-v1\nxen-3.0-x86_64 hvm-3.0-x86_32\n", ""));
    let check = judge(&step("test-hvm64-a~shadow"), &evidence);
    assert_eq!(check.verdict, Verdict::Skip);
    assert_eq!(check.message, "needs shadow, and this Xen has on this machine hap, hvm, pv");
    assert_eq!(Xtf::outcome(&check), None, "the test has said nothing");
    // An `xl info` that fails shows nothing.
    evidence.caps = Some(command(CommandEnd::Exit(1), "", "libxl: error"));
    assert_eq!(judge(&step("test-hvm64-a"), &evidence).cause, Some(Cause::ToolsFailed));
}

#[test]
fn a_pae_guest_needs_shadow_paging_of_a_xen_that_does_not_say_how_it_was_built() {
    let mut step = step("test-hvm32-a");
    step.known.as_mut().unwrap().instance.environment = "hvm32pae".into();
    let mut facts = Facts::default();
    let caps = |words: &str| command(CommandEnd::Exit(0), &format!("{words}\nhvm-3.0-x86_32p\n"), "");
    assert_eq!(step.lacks(&caps("hvm hap"), &facts).unwrap(), None);
    facts.set("machine.emulator-faults", FactValue::Set(["npt-pae-accessed".to_owned()].into()));
    let why = step.lacks(&caps("hvm hap"), &facts).unwrap().unwrap();
    assert!(why.ends_with("needs shadow paging, which this Xen has not"), "{why}");
    assert_eq!(step.lacks(&caps("hvm hap shadow"), &facts).unwrap(), None);
}

#[test]
fn a_host_that_dies_has_its_own_word() {
    let step = step("test-pv64-a");
    let fail = || Check::fail("xtf", Cause::XenPanic, "xtf: Xen panicked: `Panic on CPU 0`");
    let panic = Loss::Guest { code: "xen.panic".into(), line: String::new(), told: Vec::new() };
    let check = step.lost(fail(), &panic);
    assert_eq!((check.cause, Xtf::outcome(&check)), (Some(Cause::XenPanic), Some(Outcome::HostCrash)));
    assert_eq!(check.message, "HOST CRASH: Xen panicked: `Panic on CPU 0`");
    assert_eq!(
        Xtf::outcome(&step.lost(fail(), &Loss::Machine(MachineEnd::GuestReset))),
        Some(Outcome::HostCrash)
    );
    // QEMU's own end says nothing of the test.
    let qemu = Check::error("xtf", Cause::QemuKilled, "xtf: QEMU was killed");
    let check = step.lost(qemu, &Loss::Machine(MachineEnd::QemuKilled { signal: 9, stderr: String::new() }));
    assert_eq!(Xtf::outcome(&check), None);
}

#[test]
fn only_pv_instances_can_be_dom0() {
    let as_dom0 = |test: &str| Xtf { run_as: RunAs::Dom0, ..step(test) };
    assert_eq!(as_dom0("test-pv64-a").check(), []);
    assert_eq!(as_dom0("test-hvm64-a").check()[0].path, "run-as");
    assert_eq!(as_dom0("test-pv64-a").at(), At::Boot);
    assert_eq!(step("test-pv64-a").at(), At::Dom0);
    // Nobody said that this one is the same.
    let auto = Xtf { run_as: RunAs::Auto, ..step("test-pv64-of-nobody") };
    assert_eq!((auto.settled(true, None), auto.settled(false, None)), (RunAs::DomU, RunAs::DomU));
    // One that needs two processors has them, or is a domain.
    let two = Xtf { run_as: RunAs::Auto, ..step("test-pv64-xsa-296") };
    assert_eq!(
        [None, Some(1), Some(2)].map(|cpus| two.settled(true, cpus)),
        [RunAs::Dom0, RunAs::DomU, RunAs::Dom0]
    );
}
