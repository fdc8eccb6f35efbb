mod moved;

use super::*;
use crate::evidence::CommandEnd;
use crate::fact::FactValue;
use crate::guest::{GuestConfig, GuestType};
use crate::step::testing::{bad, body, ended, facts, judge, ran, said};

const NONCE: &str = "0123456789abcdef";

fn step(json: &str, kind: GuestType) -> Domain {
    let config: GuestConfig = serde_json::from_str("{}").unwrap();
    let guest = Guest { name: "g1".into(), config: GuestConfig { kind, ..config } };
    Domain { guest: Some(Box::new(guest)), ..body::<Domain>(json) }
}

fn pv(json: &str) -> Domain {
    step(json, GuestType::Pv)
}

fn seen(command: CommandResult, console: &str, state: Option<&str>) -> DomainEvidence {
    DomainEvidence {
        domains: vec![Seen {
            domain: "g1".into(),
            command,
            console: Captured { text: console.into(), total: console.len() as u64, cut: false },
            state: state.map(str::to_owned),
            id: None,
            nonce: NONCE.into(),
            xen: Vec::new(),
            timed_out: None,
        }],
    }
}

const CREATED: &str = "domid 3\ntype pv\n";

#[test]
fn create() {
    let create = pv(r#"{"create": "g1"}"#);
    let judged = |e: &DomainEvidence| bad(&judge(&create, e, &facts()));
    let checks = judge(&create, &seen(ran("x", 0, CREATED, ""), "", Some("-b----")), &facts());
    assert_eq!(said(&checks, "create g1"), "g1 is there: domain 3, type pv");
    assert_eq!(
        judged(&seen(ran("x", 0, "domid 3\ntype hvm\n", ""), "", Some("-b----"))),
        ["create g1 FAIL guest.state"]
    );
    assert_eq!(
        judged(&seen(ran("x", 0, "domid 3\n", ""), "", Some("-b----"))),
        ["create g1 FAIL guest.state"]
    );
    assert_eq!(judged(&seen(ran("x", 0, CREATED, ""), "", None)), ["create g1 FAIL guest.gone"]);
    assert_eq!(
        judged(&seen(ran("x", 0, CREATED, ""), "oops\n", Some("----c-"))),
        ["create g1 FAIL guest.crashed"]
    );
    let stderr = "xc: error: panic: segment kernel too large: Out of memory\nlibxl: error: libxl_create.c: cannot (re-)build domain: -3\n";
    let checks = judge(&create, &seen(ran("x", 3, "", stderr), "", None), &facts());
    assert_eq!(bad(&checks), ["create g1 FAIL guest.memory"]);
    assert!(
        said(&checks, "create g1").contains("segment kernel too large"),
        "the first complaint, not its undoing: {checks:?}"
    );
    let stderr = "libxl: error: libxl_dm.c:3161:device_model_spawn_outcome: Domain 1:domain 1 device model: spawn failed (rc=-3)\nqemu: xen-qemu-system-i386: failed to find romfile \"efi-rtl8139.rom\"\n";
    let checks = judge(&create, &seen(ran("x", 3, "", stderr), "", None), &facts());
    assert_eq!(bad(&checks), ["create g1 FAIL guest.device-model"]);
    assert!(
        said(&checks, "create g1").contains("its QEMU said `xen-qemu-system-i386: failed to find romfile"),
        "{checks:?}"
    );
    assert_eq!(
        judged(&seen(ended("x", CommandEnd::TimedOut(30), "", ""), "", None)),
        ["create g1 FAIL guest.silent"]
    );
    assert_eq!(
        judged(&seen(ended("x", CommandEnd::Lost("closed".into()), "", ""), "", None)),
        ["create g1 FAIL dom0.ssh"]
    );
}

#[test]
fn what_xen_said_of_its_end_is_said() {
    let mut gone = seen(ran("x", 0, CREATED, ""), "", None);
    gone.domains[0].xen = [
        "d0v0 Expanding d3 grant table",
        "d3v0 Triple fault - invoking HVM shutdown action 1",
        "*** Dumping Dom3",
    ]
    .map(str::to_owned)
    .to_vec();
    let says = pv(r#"{"says": "g1"}"#);
    let checks = judge(&says, &gone, &facts());
    assert_eq!(bad(&checks), ["g1 says 0 FAIL guest.triple-fault"]);
    let message = said(&checks, "g1 says 0");
    assert!(message.contains("Xen said `d3v0 Triple fault - invoking HVM shutdown action 1`"), "{message}");
    // xl starts it anew.
    gone.domains[0].state = Some("r-----".into());
    gone.domains[0].timed_out = Some(60.0);
    let checks = judge(&says, &gone, &facts());
    assert_eq!(bad(&checks), ["g1 says 0 FAIL guest.triple-fault"]);
    assert!(said(&checks, "g1 says 0").contains("Xen said `d3v0"), "{checks:?}");
    gone.domains[0].state = None;
    gone.domains[0].xen.truncate(1);
    let checks = judge(&says, &gone, &facts());
    assert!(said(&checks, "g1 says 0").contains("Xen said `d0v0 Expanding d3 grant table`"), "{checks:?}");
}

#[test]
fn states_and_ends() {
    let judged = |json: &str, stdout: &str, state: Option<&str>| {
        bad(&judge(&pv(json), &seen(ran("x", 0, stdout, ""), "", state), &facts()))
    };
    assert!(judged(r#"{"pause": "g1"}"#, "", Some("--p---")).is_empty());
    assert_eq!(judged(r#"{"pause": "g1"}"#, "", Some("-b----")), ["pause g1 FAIL guest.state"]);
    assert!(judged(r#"{"unpause": "g1"}"#, "", Some("-b----")).is_empty());
    assert_eq!(judged(r#"{"unpause": "g1"}"#, "", Some("--p---")), ["unpause g1 FAIL guest.state"]);
    assert!(judged(r#"{"reboot": "g1"}"#, "was 3\ndomid 4\n", Some("-b----")).is_empty());
    assert_eq!(
        judged(r#"{"reboot": "g1"}"#, "was 3\ndomid 3\n", Some("-b----")),
        ["reboot g1 FAIL guest.state"]
    );
    assert_eq!(
        judged(r#"{"reboot": "g1"}"#, "was 3\ndomid 4\n", Some("----c-")),
        ["reboot g1 FAIL guest.crashed"]
    );
    for act in ["shutdown", "destroy"] {
        let json = format!(r#"{{"{act}": "g1"}}"#);
        assert!(judged(&json, "", None).is_empty());
        assert_eq!(judged(&json, "", Some("-b----")), [format!("{act} g1 FAIL guest.state")]);
    }
}

#[test]
fn what_it_says() {
    let says = pv(r#"{"says": "g1", "lacks": ["Oops: [0-9]+"]}"#);
    let up = format!("Linux version 6\r\n{}\r\n", ready(NONCE));
    assert!(says.satisfied(&up, NONCE) && !says.satisfied(&ready("ffff"), NONCE), "with its own nonce");
    let judged = |e: &DomainEvidence| bad(&judge(&says, e, &facts()));
    let ok = || ran("look", 0, "", "");
    assert!(judged(&seen(ok(), &up, Some("-b----"))).is_empty());
    assert_eq!(judged(&seen(ok(), &ready("ffff"), Some("-b----"))), ["g1 says 0 FAIL guest.silent"]);
    assert_eq!(judged(&seen(ok(), "x", None)), ["g1 says 0 FAIL guest.gone"]);
    assert_eq!(judged(&seen(ok(), "x", Some("----c-"))), ["g1 says 0 FAIL guest.crashed"]);
    assert_eq!(
        judged(&seen(ok(), &format!("{up}Oops: 0002"), Some("-b----"))),
        ["g1 lacks 0 FAIL guest.said"]
    );
    let checks = judge(
        &says,
        &seen(ok(), "[ 1.0] Kernel panic - not syncing: No init\r\nCPU: 0", Some("r-----")),
        &facts(),
    );
    assert_eq!(bad(&checks), ["g1 says 0 FAIL guest.crashed"], "whatever becomes of the domain");
    assert!(said(&checks, "g1 says 0").contains("panicked: `No init`"), "{checks:?}");
    let mut slow = seen(ok(), "Run /init as init process", Some("r-----"));
    slow.domains[0].timed_out = Some(60.0);
    let checks = judge(&says, &slow, &facts());
    let message = said(&checks, "g1 says 0");
    assert!(message.contains("within 60 s") && message.contains("Run /init"), "{message}");
    let mut cut = seen(ok(), &up, Some("-b----"));
    cut.domains[0].console.cut = true;
    assert_eq!(judged(&cut), ["g1 lacks 0 FAIL capture.cut"]);
    let own = pv(r#"{"says": "g1", "has": ["login:"]}"#);
    assert!(
        own.satisfied("x login:", NONCE) && !own.satisfied(&up, NONCE),
        "what is named, and nothing else"
    );
}

#[test]
fn what_it_runs() {
    let run = pv(r#"{"run": "g1", "script": "uname", "stdout": "Linux"}"#);
    let answer = |text: &str| seen(ran("x", 0, text, ""), "", Some("-b----"));
    let judged = |e: &DomainEvidence| bad(&judge(&run, e, &facts()));
    assert!(judged(&answer(&format!("xenlab-guest: ran {NONCE} ab 0 TGludXgK -\r\n"))).is_empty());
    assert_eq!(
        judged(&answer(&format!("xenlab-guest: ran {NONCE} ab 0 Rm9vCg== -"))),
        ["stdout in g1 FAIL check.failed"]
    );
    let checks = judge(&run, &answer(&format!("xenlab-guest: ran {NONCE} ab 1 - bm8K")), &facts());
    assert_eq!(bad(&checks), ["exit in g1 FAIL check.failed", "stdout in g1 FAIL check.failed"]);
    assert!(said(&checks, "exit in g1").contains("on stderr: `no`"), "{checks:?}");
    for lie in [
        "xenlab-guest: ran ffffffffffffffff ab 0 TGludXgK -".to_owned(),
        format!("xenlab-guest: ran {NONCE} ab 0 TGludXgK"),
        format!("xenlab-guest: ran {NONCE} ab zero TGludXgK -"),
        format!("xenlab-guest: ran {NONCE} ab 0 !! -"),
        String::new(),
    ] {
        assert_eq!(judged(&answer(&lie)), ["exit in g1 FAIL guest.silent"], "{lie}");
    }
    let dead = seen(ended("x", CommandEnd::TimedOut(9), "", ""), "", Some("----c-"));
    assert_eq!(judged(&dead), ["exit in g1 FAIL guest.crashed"]);
}

#[test]
fn a_fault_of_the_emulator_is_gone_round() {
    let mut facts = facts();
    let create = step(r#"{"create": "g1"}"#, GuestType::Pvh);
    // Where nested paging cannot be used at all: shadow paging, or not at all.
    facts.set("machine.emulator-faults", FactValue::Set(["npt-mov-cr2".to_owned()].into()));
    let guest = create.guest.as_ref().unwrap();
    assert!(guest.xl_config("g1", NONCE, &facts).contains("hap = 0") && guest.cannot(&facts).is_some());
    facts.set("build.config", FactValue::Set(["HVM", "SHADOW_PAGING"].map(str::to_owned).into()));
    assert_eq!(guest.cannot(&facts), None);
    facts.set("build.config", FactValue::Set(["SHADOW_PAGING".to_owned()].into()));
    assert!(guest.cannot(&facts).is_some_and(|why| why.contains("without HVM")));
}

#[test]
fn bodies_that_make_no_sense() {
    let wrong = |json: &str| body::<Domain>(json).check().into_iter().map(|c| c.message).collect::<Vec<_>>();
    assert_eq!(wrong("{}"), ["nothing is done here"]);
    assert_eq!(wrong(r#"{"create": "a", "destroy": "a"}"#), ["both `create` and `destroy` are given"]);
    assert_eq!(wrong(r#"{"create": "a", "has": "x"}"#), ["`has` is for `says`"]);
    assert_eq!(wrong(r#"{"says": "a", "script": "x"}"#), ["`script` is for `run`"]);
    assert_eq!(wrong(r#"{"run": "a"}"#), ["nothing to run is given"]);
    assert_eq!(wrong(r#"{"says": "a", "has": "("}"#).len(), 1);
    assert_eq!(wrong(r#"{"says": "a", "lacks": "x*"}"#), ["this pattern is found in every line"]);
    assert!(wrong(r#"{"says": "a"}"#).is_empty() && wrong(r#"{"run": "a", "script": "true"}"#).is_empty());
}

/// A domain that Xen makes: that it is there, what it has, what it says.
#[test]
fn made_by_xen() {
    let config: GuestConfig = serde_json::from_str(r#"{"start": "xen", "memory": "128M"}"#).unwrap();
    let guest = Guest { name: "g1".into(), config: GuestConfig { kind: GuestType::Arm, ..config } };
    let step =
        Domain { guest: Some(Box::new(guest)), number: Some(1), ..body::<Domain>(r#"{"says": "g1"}"#) };
    let up = format!("xenlab-guest: ready {NONCE}\n");
    let judged = |list: &str, console: &str, state: Option<&str>| {
        bad(&judge(&step, &seen(ran("x", 0, list, ""), console, state), &facts()))
    };
    let there = "state -b----\nvcpus 1\nmemory 128\n";
    assert!(judged(there, &up, Some("-b----")).is_empty());
    assert_eq!(judged("", &up, None), ["Xen makes g1 FAIL guest.not-created"]);
    // Where Xen made none, the first that xl made has its number.
    assert_eq!(judged("xl-made g2\n", &up, None), ["Xen makes g1 FAIL guest.not-created"]);
    assert_eq!(judged("vcpus 1\nmemory 96\n", &up, Some("-b----")), ["memory of g1 FAIL guest.state"]);
    assert_eq!(judged("vcpus 2\nmemory 128\n", &up, Some("-b----")), ["vcpus of g1 FAIL guest.state"]);
    assert_eq!(
        judged("", &up, Some("-b----")),
        ["memory of g1 FAIL guest.state", "vcpus of g1 FAIL guest.state"]
    );
    // What another domain says by a nonce of its own is not this one's.
    assert_eq!(judged(there, "xenlab-guest: ready other\n", Some("-b----")), ["g1 says 0 FAIL guest.silent"]);
    let panic = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n";
    assert_eq!(judged(there, panic, Some("r-----")), ["g1 says 0 FAIL guest.no-root"]);
    // It had not come to bring up its processors, which says no more than that it panicked.
    assert_eq!(judged("vcpus 0\nmemory 128\n", panic, Some("---s--")), ["g1 says 0 FAIL guest.no-root"]);
}
