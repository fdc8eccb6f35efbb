use super::*;
use crate::evidence::{Captured, CommandEnd};
use crate::guest::GuestConfig;
use crate::step::testing::{bad, body, ended, facts, judge, ran, said};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const NONCE: &str = "0123456789abcdef";
const A: &str = "9a84dc9101c43be1b0126f5185ab196edab06e3146eb8f728314e5ce3bc6e403";
const B: &str = "42a1d3c98c03a290831814954ca62d3155eba3c58766a49dc20afa9d229cc58f";

const GUEST: &str = r#"{"memory": "128M", "vcpus": 2,
    "disks": {"xvda": {"backend": "phy"}, "xvdb": {"backend": "qdisk", "plugged": false}},
    "vifs": {"net0": {"bridge": "xenbr0"}}}"#;

fn step(json: &str) -> Device {
    let config: GuestConfig = serde_json::from_str(GUEST).unwrap();
    Device { guest: Some(Box::new(Guest { name: "g1".into(), config })), ..body::<Device>(json) }
}

fn dom0(stdout: &str) -> Done {
    Done { what: "x".into(), in_guest: false, command: ran("x", 0, stdout, "") }
}

fn in_guest(status: i32, stdout: &str, stderr: &str) -> Done {
    let packed = |s: &str| if s.is_empty() { "-".to_owned() } else { STANDARD.encode(s) };
    let line = format!("xenlab-guest: ran {NONCE} 77 {status} {} {}\r\n", packed(stdout), packed(stderr));
    Done { what: "x".into(), in_guest: true, command: ran("x", 0, &line, "") }
}

fn seen(done: Vec<Done>, state: Option<&str>) -> DeviceEvidence {
    let seen = Seen {
        domain: "g1".into(),
        command: ran("look", 0, "", ""),
        console: Captured::default(),
        state: state.map(str::to_owned),
        id: None,
        nonce: NONCE.into(),
        xen: Vec::new(),
        timed_out: None,
    };
    DeviceEvidence { domains: vec![Handled { done, seen }] }
}

fn judged(json: &str, done: Vec<Done>) -> Vec<String> {
    bad(&judge(&step(json), &seen(done, Some("-b----")), &facts()))
}

const ATTACH: &str = r#"{"attach": "g1", "disk": "xvda"}"#;

#[test]
fn attach() {
    let connected = "backend-state 4\nfrontend-state 4\n";
    assert!(judged(ATTACH, vec![dom0(connected), in_guest(0, "there yes\nsectors 16384\n", "")]).is_empty());
    assert_eq!(
        judged(ATTACH, vec![dom0(connected), in_guest(0, "there yes\nsectors 8\n", "")]),
        ["size of xvda in g1 FAIL device.not-attached"]
    );
    assert_eq!(
        judged(ATTACH, vec![dom0(connected), in_guest(0, "there no\n", "")]),
        ["size of xvda in g1 FAIL device.not-attached"]
    );
    assert_eq!(
        judged(ATTACH, vec![dom0("backend-state 2\nfrontend-state 3\n"), in_guest(0, "sectors 16384\n", "")]),
        ["attach xvda of g1 FAIL device.not-attached"]
    );
    // What dom0 says is nobody else's: the words of a guest do not stand for it.
    assert_eq!(
        judged(ATTACH, vec![dom0(""), in_guest(0, "sectors 16384\nbackend-state 4\nfrontend-state 4\n", "")]),
        ["attach xvda of g1 FAIL device.not-attached"]
    );
    let stderr = "libxl: error: libxl_device.c:1: Unable to add vbd\nlibxl_device_disk_add failed.\n";
    let failed = Done { command: ran("x", 1, "", stderr), ..dom0("") };
    let checks = judge(&step(ATTACH), &seen(vec![failed], Some("-b----")), &facts());
    assert_eq!(bad(&checks), ["attach xvda of g1 FAIL device.not-attached"]);
    assert!(said(&checks, "attach xvda of g1").contains("Unable to add vbd"), "{checks:?}");
    let vif = r#"{"attach": "g1", "vif": "net0"}"#;
    assert!(judged(vif, vec![dom0(connected), in_guest(0, "there yes\ninterface eth0\n", "")]).is_empty());
    assert_eq!(
        judged(vif, vec![dom0(connected), in_guest(0, "there no\n", "")]),
        ["net0 in g1 FAIL device.not-attached"]
    );
}

#[test]
fn a_guest_that_does_not_answer_or_dies() {
    let timed = ended("x", CommandEnd::TimedOut(60), "", "");
    let silent = || Done { command: timed.clone(), ..in_guest(0, "", "") };
    assert_eq!(judged(ATTACH, vec![silent()]), ["attach xvda of g1 FAIL guest.silent"]);
    let checks = judge(&step(ATTACH), &seen(vec![silent()], None), &facts());
    assert_eq!(bad(&checks), ["attach xvda of g1 FAIL guest.gone"]);
    let other = in_guest(0, "sectors 16384\n", "");
    let lies = Done { command: ran("x", 0, &other.command.stdout.text.replace(NONCE, "ffff"), ""), ..other };
    assert!(
        !lies.is_well(NONCE) && in_guest(0, "", "").is_well(NONCE) && !in_guest(1, "", "").is_well(NONCE)
    );
    assert_eq!(judged(ATTACH, vec![lies]), ["attach xvda of g1 FAIL guest.silent"], "with another nonce");
}

#[test]
fn bytes_of_a_disk() {
    let transfer = r#"{"transfer": "g1", "disk": "xvda"}"#;
    let of = |wrote: &str, read: &str, out: [&str; 2], back: &str| {
        let guest = format!("read {read}\nwrote {}\nread-back {}\n", out[0], out[1]);
        let ends = vec![
            dom0(&format!("wrote {wrote}\n")),
            in_guest(0, &guest, "16+0 records in\n"),
            dom0(&format!("read {back}\n")),
        ];
        judged(transfer, ends)
    };
    assert!(of(A, A, [B, B], B).is_empty());
    assert_eq!(of(A, B, [B, B], B), ["xvda to g1 FAIL device.data"]);
    assert_eq!(of(A, A, [B, A], B), ["xvda read back in g1 FAIL device.data"]);
    assert_eq!(of(A, A, [B, B], A), ["xvda from g1 FAIL device.data"]);
    // Two that said nothing did not say the same.
    assert_eq!(of("", "", [B, B], B), ["xvda to g1 FAIL device.data"]);
    let no_disk = in_guest(1, "", "dd: can't open '/dev/xvda': No such file or directory\n");
    assert_eq!(
        judged(transfer, vec![dom0(&format!("wrote {A}\n")), no_disk]),
        ["transfer xvda of g1 FAIL device.data"]
    );
}

#[test]
fn bytes_of_a_network_interface() {
    let transfer = r#"{"transfer": "g1", "vif": "net0"}"#;
    let counts = |when: &str, n: u64| format!("rx-{when} {n}\ntx-{when} {n}\n");
    let of = |got: &str, by_dom0: u64, by_guest: u64| {
        let guest = format!("{}got {got}\nsent {B}\n{}", counts("before", 7), counts("after", by_guest));
        let begins = format!("sent {A}\n{}", counts("before", 100));
        let ends = format!("got {B}\n{}", counts("after", by_dom0));
        judged(transfer, vec![dom0(&begins), in_guest(0, &guest, ""), dom0(&ends)])
    };
    assert!(of(A, 70_000, 70_000).is_empty());
    assert_eq!(of(B, 70_000, 70_000), ["net0 to g1 FAIL device.data"]);
    let uncounted = ["net0 bytes received by g1 FAIL device.data", "net0 bytes sent by g1 FAIL device.data"];
    assert_eq!(of(A, 70_000, 700), uncounted, "they came by another way");
    assert_eq!(of(A, 700, 70_000).len(), 2);
    let drops = in_guest(1, "", "10.1.0.1 does not answer to ping from 10.1.2.3\n");
    let checks = judge(&step(transfer), &seen(vec![dom0(""), drops], Some("-b----")), &facts());
    assert_eq!(bad(&checks), ["transfer net0 of g1 FAIL device.data"]);
    assert!(said(&checks, "transfer net0 of g1").contains("does not answer to ping"), "{checks:?}");
}

#[test]
fn detach() {
    let of = |looked: &str, there: &str, rest: &str| {
        let ends = vec![dom0(looked), in_guest(0, there, ""), dom0(rest)];
        judged(r#"{"detach": "g1", "disk": "xvda"}"#, ends)
    };
    let looked = "looked /local/domain/0/backend/vbd/1/51712\n";
    assert!(of(looked, "there no\n", "").is_empty());
    assert_eq!(of(looked, "there yes\nsectors 8\n", ""), ["detach xvda of g1 FAIL device.not-detached"]);
    let left = "left of xvda of g1 FAIL guest.leak";
    assert_eq!(of(&format!("{looked}node /local/x\n"), "there no\n", ""), [left]);
    assert_eq!(of(looked, "there no\n", "loop /dev/loop0\n"), [left]);
    assert_eq!(of("", "there no\n", ""), ["left of xvda of g1 ERROR lab.internal"], "nobody looked");
}

#[test]
fn memory_and_processors() {
    let of = |xl: [i64; 2], total: [i64; 2]| {
        let ends = vec![
            in_guest(0, &format!("total-before {}\n", total[0]), ""),
            dom0(&format!("xl-before {}\nxl-after {}\n", xl[0], xl[1])),
            in_guest(0, &format!("total-after {}\n", total[1]), ""),
        ];
        judged(r#"{"resize": "g1", "memory": "104M"}"#, ends)
    };
    assert!(of([128, 104], [102_400, 77_824]).is_empty());
    assert_eq!(of([128, 104], [102_400, 102_400]), ["memory in g1 FAIL device.state"]);
    assert_eq!(of([128, 120], [102_400, 94_208]), ["memory of g1 FAIL device.state"]);
    let vcpus = |guest: &str, xl: &str| {
        judged(r#"{"resize": "g1", "vcpus": 1}"#, vec![dom0(""), in_guest(0, guest, ""), dom0(xl)])
    };
    assert!(vcpus("online 0\n", "xl-online 1\n").is_empty());
    assert_eq!(vcpus("online 0-1\n", "xl-online 1\n"), ["vCPUs in g1 FAIL device.state"]);
    assert_eq!(vcpus("online 0\n", "xl-online 2\n"), ["vCPUs of g1 FAIL device.state"]);
    assert_eq!(vcpus("", "").len(), 2);
}

#[test]
fn mistakes() {
    let wrong = |json: &str| -> Vec<String> {
        body::<Device>(json).check().into_iter().map(|c| format!("{}: {}", c.path, c.message)).collect()
    };
    assert!(wrong(ATTACH).is_empty() && wrong(r#"{"resize": "g1", "vcpus": 1}"#).is_empty());
    assert_eq!(wrong("{}"), [": nothing is done here"]);
    assert_eq!(wrong(r#"{"attach": "g1"}"#), ["attach: it is not said of what"]);
    assert_eq!(
        wrong(r#"{"attach": "g1", "detach": "g1", "disk": "xvda"}"#),
        ["detach: both `attach` and `detach` are given"]
    );
    assert_eq!(
        wrong(r#"{"attach": "g1", "disk": "xvda", "vif": "net0"}"#),
        ["vif: both `disk` and `vif` are given"]
    );
    assert_eq!(wrong(r#"{"attach": "g1", "memory": "64M"}"#), ["memory: `memory` is for `resize`"]);
    assert_eq!(wrong(r#"{"resize": "g1", "vcpus": 0}"#), ["vcpus: `vcpus` is 0"]);
    let of_guest = |json: &str| step(json).mistake().map(|(key, message, _)| format!("{key}: {message}"));
    assert_eq!(of_guest(ATTACH), None);
    assert_eq!(
        of_guest(r#"{"attach": "g1", "disk": "xvdz"}"#).as_deref(),
        Some("disk: guest `g1` has no disk `xvdz`")
    );
    let nobody = of_guest(r#"{"attach": "g1", "disk": "xvdb"}"#);
    assert!(nobody.is_some_and(|m| m.contains("nobody would serve xvdb")), "no QEMU runs for this guest");
    for large in [r#"{"resize": "g1", "memory": "1G"}"#, r#"{"resize": "g1", "vcpus": 3}"#] {
        assert!(of_guest(large).is_some_and(|m| m.contains("cannot have")), "{large}");
    }
}
