use super::*;
use crate::evidence::{Captured, CommandEnd};
use crate::guest::GuestConfig;
use crate::step::testing::{bad, body, ended, facts, judge, ran, said};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const NONCE: &str = "0123456789abcdef";
const A: &str = "9a84dc9101c43be1b0126f5185ab196edab06e3146eb8f728314e5ce3bc6e403";
const B: &str = "42a1d3c98c03a290831814954ca62d3155eba3c58766a49dc20afa9d229cc58f";

fn step(kill: Option<Side>) -> Vchan {
    let config: GuestConfig = serde_json::from_str(r#"{"programs": ["vchan-socket-proxy"]}"#).unwrap();
    let guests = vec![Guest { name: "g1".into(), config }];
    Vchan { kill, guests, ..body::<Vchan>(r#"{"server": "dom0", "client": "g1"}"#) }
}

fn dom0(what: What, stdout: &str) -> Part {
    Part { what, guest: None, command: ran("x", 0, stdout, "") }
}

fn guest(what: What, status: i32, stdout: &str, stderr: &str) -> Part {
    let packed = |s: &str| if s.is_empty() { "-".to_owned() } else { STANDARD.encode(s) };
    let line = format!("xenlab-guest: ran {NONCE} 77 {status} {} {}\r\n", packed(stdout), packed(stderr));
    Part { what, guest: Some("g1".into()), command: ran("x", 0, &line, "") }
}

fn evidence(done: Vec<Part>, state: Option<&str>) -> VchanEvidence {
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
    VchanEvidence { done, seen: vec![seen] }
}

/// A channel on which all goes well; its client is killed or closes it.
fn well(kill: Option<Side>) -> Vec<Part> {
    use Side::{Client, Server};
    let gone = if kill.is_some() { "137" } else { "0" };
    let (first, last) = match kill {
        Some(Server) => {
            (dom0(What::End(Server), "status 137\n"), guest(What::Notice(Client), 0, "status 0\n", ""))
        }
        _ => (
            guest(What::End(Client), 0, &format!("status {gone}\n"), ""),
            dom0(What::Notice(Server), "status 0\n"),
        ),
    };
    vec![
        dom0(What::Domains, "g1 3\n"),
        dom0(What::Start(Server), &format!("sent {A}\n")),
        dom0(What::Nodes, "node /n\nring-ref 8\nevent-channel 12\n"),
        guest(What::Start(Client), 0, &format!("sent {B}\n"), ""),
        guest(What::Receive(Client), 0, &format!("bytes {BYTES}\nreceived {A}\n"), ""),
        dom0(What::Receive(Server), &format!("bytes {BYTES}\nreceived {B}\n")),
        first,
        last,
        dom0(What::Left, if kill == Some(Server) { "node /n\nleft yes\n" } else { "node /n\nleft no\n" }),
    ]
}

fn judged(kill: Option<Side>, done: Vec<Part>) -> Vec<String> {
    bad(&judge(&step(kill), &evidence(done, Some("-b----")), &facts()))
}

/// With one part in place of another.
fn but(kill: Option<Side>, part: Part) -> Vec<String> {
    let mut done = well(kill);
    let at = done.iter().position(|p| p.what == part.what).unwrap();
    done[at] = part;
    judged(kill, done)
}

#[test]
fn all_is_well() {
    for kill in [None, Some(Side::Client), Some(Side::Server)] {
        let checks = judge(&step(kill), &evidence(well(kill), Some("-b----")), &facts());
        assert_eq!((bad(&checks), checks.len()), (Vec::<String>::new(), 5), "{kill:?}");
    }
    // What was not looked at to its end shows nothing.
    let cut: Vec<Part> = well(None).into_iter().take(6).collect();
    assert_eq!(judged(None, cut), ["vchan ERROR lab.internal"]);
    assert_eq!(judged(None, Vec::new()), ["vchan ERROR lab.internal"]);
}

#[test]
fn bytes() {
    let client = |said: &str| but(None, guest(What::Receive(Side::Client), 0, said, ""));
    assert_eq!(client(&format!("bytes {BYTES}\nreceived {B}\n")), ["server to client FAIL vchan.data"]);
    assert_eq!(client(&format!("bytes 4096\nreceived {A}\n")), ["server to client FAIL vchan.data"]);
    assert_eq!(
        client(&format!("status 0\nbytes {BYTES}\nreceived {A}\n")),
        ["server to client FAIL vchan.data"]
    );
    assert_eq!(
        client(&format!("status 1\nbytes 0\nreceived {A}\n")),
        ["server to client FAIL vchan.not-connected"]
    );
    assert_eq!(client(""), ["server to client FAIL vchan.data"]);
    let server = |said: &str| but(None, dom0(What::Receive(Side::Server), said));
    assert_eq!(server(&format!("bytes {BYTES}\nreceived {A}\n")), ["client to server FAIL vchan.data"]);
    // Two that said nothing did not say the same.
    let mut silent = well(None);
    silent[1] = dom0(What::Start(Side::Server), "");
    silent[4] = guest(What::Receive(Side::Client), 0, &format!("bytes {BYTES}\n"), "");
    assert_eq!(judged(None, silent), ["server to client FAIL vchan.data"]);
    // A guest's words do not stand for dom0's.
    let lie =
        Part { guest: Some("g1".into()), ..dom0(What::Receive(Side::Server), &format!("bytes {BYTES}\n")) };
    assert_eq!(but(None, lie), ["vchan FAIL guest.silent"]);
}

#[test]
fn the_end_of_the_other() {
    let kill = Some(Side::Client);
    let notice = |said: &str| but(kill, dom0(What::Notice(Side::Server), said));
    assert_eq!(notice("waited 10\n"), ["end seen by the server FAIL vchan.end"]);
    assert_eq!(notice("status 1\nwaited 10\n"), ["end seen by the server FAIL vchan.end"]);
    let end = |said: &str| but(kill, guest(What::End(Side::Client), 0, said, ""));
    assert_eq!(end("status 0\n"), ["end of the client FAIL vchan.end"]);
    assert_eq!(end("waited 10\n"), ["end of the client FAIL vchan.end"]);
    assert_eq!(
        but(kill, dom0(What::Left, "node /n\nleft yes\n")),
        ["nodes left of the server FAIL guest.leak"]
    );
    assert_eq!(but(kill, dom0(What::Left, "")), ["nodes left of the server ERROR lab.internal"]);
}

#[test]
fn no_channel() {
    let nodes = |said: &str| {
        let mut done = well(None)[..2].to_vec();
        done.push(dom0(What::Nodes, said));
        assert!(!step(None).offered(&done[2]), "{said}");
        done.push(dom0(
            What::Receive(Side::Server),
            "status 1\nbytes 0\nstderr xs_open: Permission denied\n",
        ));
        judge(&step(None), &evidence(done, Some("-b----")), &facts())
    };
    for said_nodes in
        ["node /n\nring-ref none\nevent-channel none\n", "node /n\nring-ref 8\nevent-channel none\n", ""]
    {
        let checks = nodes(said_nodes);
        assert_eq!(bad(&checks), ["nodes of the server FAIL vchan.not-connected"]);
        assert!(said(&checks, "nodes of the server").contains("ended with status 1"), "{checks:?}");
    }
    let missing = Part {
        command: ran("x", 127, "", "vchan-socket-proxy: not found\n"),
        ..dom0(What::Start(Side::Server), "")
    };
    assert!(!missing.is_well("") && dom0(What::Left, "").is_well(""));
    assert_eq!(but(None, missing), ["vchan FAIL build.part-missing"]);
    let of_guest = guest(What::Start(Side::Client), 127, "", "vchan-socket-proxy: not found\n");
    assert!(!of_guest.is_well(NONCE));
    let mut done = well(None);
    done[3] = of_guest;
    assert_eq!(judged(None, done), ["vchan FAIL build.part-missing"]);
}

#[test]
fn a_guest_that_does_not_answer_or_dies() {
    let timed = || Part {
        command: ended("x", CommandEnd::TimedOut(60), "", ""),
        ..guest(What::Receive(Side::Client), 0, "", "")
    };
    assert_eq!(but(None, timed()), ["vchan FAIL guest.silent"]);
    let mut done = well(None);
    done[4] = timed();
    assert_eq!(bad(&judge(&step(None), &evidence(done, None), &facts())), ["vchan FAIL guest.gone"]);
}

#[test]
fn mistakes_and_what_the_build_has_not() {
    assert!(step(None).check().is_empty());
    assert_eq!(body::<Vchan>(r#"{"server": "g1", "client": "g1"}"#).check()[0].path, "client");
    let mut facts = facts();
    assert_eq!(step(None).cannot(&facts), None);
    facts.set("build.programs", FactValue::Set(["xl".to_owned()].into()));
    assert!(step(None).cannot(&facts).unwrap().contains(PROGRAM));
    facts.set("build.programs", FactValue::Set([PROGRAM.to_owned()].into()));
    assert_eq!(step(None).cannot(&facts), None);
}
