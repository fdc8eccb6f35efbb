//! What saving, restoring and migrating must not be taken for.

use super::*;
use crate::arch::Arch;

const BOOT: &str = "0b7e3c57-5b0f-4c1e-9d3a-3f3a2a7f6d10";

/// The guest's answer, as dom0 prints it behind a word.
fn answer(word: &str, boot: &str, hash: &str, uptime: &str) -> String {
    let text = format!("boot {boot}\nhash {}\nuptime {uptime}\n", hash.repeat(64));
    format!("{word} xenlab-guest: ran {NONCE} ab 0 {} -\n", STANDARD.encode(text))
}

fn before() -> String {
    format!("was 3\n{}", answer("before", BOOT, "a", "40.5"))
}

fn judged(json: &str, status: i32, stdout: &str, state: Option<&str>) -> Vec<String> {
    bad(&judge(&pv(json), &seen(ran("x", status, stdout, "xc: error: no\n"), "", state), &facts()))
}

#[test]
fn saved() {
    let save = r#"{"save": "g1"}"#;
    let written = "bytes 1000\nmagic Xen saved domain, xl format\n";
    let all = format!("{}{written}", before());
    assert!(judged(save, 0, &all, None).is_empty());
    assert_eq!(judged(save, 0, &all, Some("-b----")), ["save g1 FAIL guest.state"], "it is still there");
    let other = format!("{}bytes 9\nmagic #!/bin/sh\n", before());
    assert_eq!(judged(save, 0, &other, None), ["save g1 FAIL guest.not-saved"]);
    let empty = format!("{}bytes 0\nmagic \n", before());
    assert_eq!(judged(save, 0, &empty, None), ["save g1 FAIL guest.not-saved"]);
    assert_eq!(judged(save, 0, written, None), ["save g1 FAIL guest.silent"], "it did not answer before");
    let failed = format!("{}domid 3\n{}", before(), answer("after", BOOT, "a", "41"));
    let checks =
        judge(&pv(save), &seen(ran("x", 1, &failed, "xc: error: no\n"), "", Some("-b----")), &facts());
    assert_eq!(bad(&checks), ["save g1 FAIL guest.not-saved"]);
    let message = said(&checks, "save g1");
    assert!(
        message.contains("goes on where it was, as domain 3") && message.contains("xc: error: no"),
        "{message}"
    );
}

#[test]
fn restored_is_the_same_guest() {
    let restore = r#"{"restore": "g1"}"#;
    let after = |boot: &str, hash: &str, uptime: &str| {
        format!("{}domid 4\ntype pv\n{}", before(), answer("after", boot, hash, uptime))
    };
    let judged = |stdout: &str, state| judged(restore, 0, stdout, state);
    assert!(judged(&after(BOOT, "a", "40.9"), Some("-b----")).is_empty());
    let fresh = after("ffffffff-0000-0000-0000-000000000000", "a", "3.0");
    assert_eq!(judged(&fresh, Some("-b----")), ["restore g1 FAIL guest.not-the-same"]);
    let without = after("ffffffff-0000-0000-0000-000000000000", "", "3.0");
    assert_eq!(judged(&without, Some("-b----")), ["restore g1 FAIL guest.not-the-same"], "nor what it had");
    assert_eq!(judged(&after(BOOT, "b", "40.9"), Some("-b----")), ["restore g1 FAIL guest.not-the-same"]);
    assert_eq!(judged(&after(BOOT, "a", "40.4"), Some("-b----")), ["restore g1 FAIL guest.not-the-same"]);
    let mute = format!("{}domid 4\ntype pv\n", before());
    assert_eq!(judged(&mute, Some("-b----")), ["restore g1 FAIL guest.silent"]);
    let same = after(BOOT, "a", "41").replace("domid 4", "domid 3");
    assert_eq!(judged(&same, Some("-b----")), ["restore g1 FAIL guest.state"]);
    let kind = after(BOOT, "a", "41").replace("type pv", "type pvh");
    assert_eq!(judged(&kind, Some("-b----")), ["restore g1 FAIL guest.state"]);
    assert_eq!(judged(&after(BOOT, "a", "41"), Some("----c-")), ["restore g1 FAIL guest.crashed"]);
    assert_eq!(super::moved::judged(restore, 3, &before(), None), ["restore g1 FAIL guest.not-restored"]);
    // Another guest's words, or none of this restoring.
    let foreign = after(BOOT, "a", "41").replace(NONCE, "feedfeedfeedfeed");
    assert_eq!(judged(&foreign, Some("-b----")), ["restore g1 FAIL guest.silent"]);
}

#[test]
fn migrated_or_still_where_it_was() {
    let (migrate, broken) = (r#"{"migrate": "g1"}"#, r#"{"migrate": "g1", "breaks-after": "4M"}"#);
    let after = |id: u32, uptime: &str| {
        format!("{}domid {id}\ntype pv\n{}", before(), answer("after", BOOT, "a", uptime))
    };
    let up = Some("-b----");
    assert!(judged(migrate, 0, &after(4, "41"), up).is_empty());
    assert_eq!(judged(migrate, 0, &after(3, "41"), up), ["migrate g1 FAIL guest.state"]);
    assert_eq!(judged(migrate, 1, &after(3, "41"), up), ["migrate g1 FAIL guest.not-migrated"]);
    assert!(judged(broken, 1, &after(3, "41"), up).is_empty());
    assert_eq!(
        judged(broken, 0, &after(4, "41"), up),
        ["migrate g1 FAIL guest.state"],
        "it should have failed"
    );
    assert_eq!(judged(broken, 1, &after(4, "41"), up), ["migrate g1 FAIL guest.state"], "it has moved");
    assert_eq!(judged(broken, 1, &after(3, "41"), Some("----c-")), ["migrate g1 FAIL guest.crashed"]);
    assert_eq!(judged(broken, 1, &after(3, "1"), up), ["migrate g1 FAIL guest.not-the-same"]);
    let left = format!("{}incoming 9\n", after(3, "41"));
    assert_eq!(
        judged(broken, 1, &left, up),
        ["migrate g1 FAIL guest.state"],
        "the other half is still there"
    );
    let mute = format!("{}domid 3\ntype pv\n", before());
    assert_eq!(judged(broken, 1, &mute, up), ["migrate g1 FAIL guest.silent"]);
}

#[test]
fn what_cannot_be_moved() {
    let mut known = facts();
    let config = |known: &mut Facts, words: &[&str]| {
        known.set("build.config", FactValue::Set(words.iter().map(|w| (*w).to_owned()).collect()));
    };
    config(&mut known, &["HVM", "PV"]);
    let why = |json: &str, kind, arch, facts: &Facts| step(json, kind).cannot(arch, facts);
    let migrate = r#"{"migrate": "g1"}"#;
    let because = why(migrate, GuestType::Pv, Arch::X86_64, &known).unwrap();
    assert!(because.contains("g1: this Xen has no shadow paging"), "{because}");
    assert_eq!(why(migrate, GuestType::Pvh, Arch::X86_64, &known), None, "it has the processor's help");
    assert_eq!(why(r#"{"save": "g1"}"#, GuestType::Pv, Arch::X86_64, &known), None);
    for act in ["save", "restore", "migrate"] {
        let json = format!(r#"{{"{act}": "g1"}}"#);
        assert!(why(&json, GuestType::Arm, Arch::Aarch64, &facts()).is_some_and(|w| w.contains("on Arm")));
    }
    config(&mut known, &["SHADOW_PAGING"]);
    assert_eq!(why(migrate, GuestType::Pv, Arch::X86_64, &known), None);
    assert_eq!(why(migrate, GuestType::Pv, Arch::X86_64, &facts()), None, "not known yet");
}

#[test]
fn mistakes() {
    let wrong = |json: &str| body::<Domain>(json).check().into_iter().map(|c| c.message).collect::<Vec<_>>();
    assert!(wrong(r#"{"save": "g1", "file": "/run/x"}"#).is_empty());
    for (json, says) in [
        (r#"{"migrate": "g1", "file": "/run/x"}"#, "`file` is for `save` and `restore`"),
        (r#"{"save": "g1", "file": "x"}"#, "no absolute path"),
        (r#"{"save": "g1", "breaks-after": "1M"}"#, "`breaks-after` is for `migrate`"),
        (r#"{"migrate": "g1", "breaks-after": "0"}"#, "nothing is tried"),
        (r#"{"save": "g1", "restore": "g1"}"#, "both `save` and `restore`"),
    ] {
        let said = wrong(json);
        assert!(said.iter().any(|m| m.contains(says)), "{json}: {said:?}");
    }
}
