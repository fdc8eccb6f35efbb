use super::*;
use crate::step::testing::{bad, body, facts, judge, judge_for, said};

fn module(expected: &ExpectedModule) -> ModuleSeen {
    let major = expected.version.rsplit_once('.').unwrap().0;
    ModuleSeen {
        name: expected.name.into(),
        file: Some(format!("usr/lib/x86_64-linux-gnu/pkgconfig/{}.pc", expected.name)),
        version: Outcome::Said(expected.version.clone()),
        libs: Outcome::Said(format!("-L/usr/lib -l{}", expected.library)),
        requires: vec![("xentoolcore".into(), true)],
        libraries: vec![LibrarySeen {
            name: expected.library.into(),
            file: Some(format!("usr/lib/lib{}.so", expected.library)),
            arch: Some("x86_64".into()),
            soname: Some(format!("lib{}.so.{major}", expected.library)),
            soname_present: true,
        }],
        compile: Some(Ok(())),
        compile_skipped: None,
    }
}

fn good(branch: &str) -> PkgConfigEvidence {
    PkgConfigEvidence {
        absent: None,
        borrowed: None,
        tool: "1.8.1".into(),
        branch: branch.into(),
        modules: expected(branch).modules.iter().map(module).collect(),
        present: expected(branch).modules.iter().map(|m| m.name.to_owned()).collect(),
    }
}

fn broken(change: impl Fn(&mut ModuleSeen)) -> Vec<String> {
    let mut e = good("4.20");
    change(e.modules.iter_mut().find(|m| m.name == "xenlight").unwrap());
    let step: PkgConfig = body(r#"{"modules": "all", "compile": true}"#);
    bad(&judge(&step, &e, &facts()))
}

#[test]
fn a_good_build() {
    let step: PkgConfig = body(r#"{"compile": true}"#);
    for (branch, count) in [("4.17", 15), ("4.20", 15), ("4.21", 16)] {
        let checks = judge(&step, &good(branch), &facts());
        assert_eq!((bad(&checks), checks.len()), (vec![], count), "{branch}");
    }
    let checks = judge(&step, &good("4.20"), &facts());
    assert_eq!(
        said(&checks, "xenlight.pc"),
        "version 4.20.0, libxenlight.so.4.20, 1 required modules are there, a program compiles and links"
    );
}

#[test]
fn each_lie() {
    // A .pc file missing, though the host may have one.
    assert_eq!(broken(|m| m.file = None), ["xenlight.pc FAIL build.pkg-config-missing"]);
    assert_eq!(broken(|m| m.name = "other".into()), ["xenlight.pc FAIL build.pkg-config-missing"]);
    // A version of another Xen: one check says it of the version, one of the soname.
    assert_eq!(
        broken(|m| m.version = Outcome::Said("4.19.0".into())),
        ["xenlight.pc FAIL build.pkg-config-version", "xenlight.pc FAIL build.pkg-config-library"]
    );
    assert_eq!(
        broken(|m| m.version = Outcome::Said("4.20.1".into())),
        ["xenlight.pc FAIL build.pkg-config-version"]
    );
    assert_eq!(
        broken(|m| m.version = Outcome::Failed("syntax error".into())),
        ["xenlight.pc FAIL build.pkg-config-invalid"]
    );
    // A library that is not there, of the other architecture, without or with another soname.
    assert_eq!(broken(|m| m.libraries[0].file = None), ["xenlight.pc FAIL build.pkg-config-library"]);
    assert_eq!(
        broken(|m| m.libraries[0].arch = Some("aarch64".into())),
        ["xenlight.pc FAIL build.pkg-config-library"]
    );
    assert_eq!(broken(|m| m.libraries[0].arch = None), ["xenlight.pc FAIL build.pkg-config-library"]);
    assert_eq!(broken(|m| m.libraries[0].soname = None), ["xenlight.pc FAIL build.pkg-config-library"]);
    assert_eq!(
        broken(|m| m.libraries[0].soname = Some("libxenlight.so.4.2".into())),
        ["xenlight.pc FAIL build.pkg-config-library"]
    );
    assert_eq!(
        broken(|m| m.libraries[0].soname_present = false),
        ["xenlight.pc FAIL build.pkg-config-library"]
    );
    assert_eq!(broken(|m| m.libraries.clear()), ["xenlight.pc FAIL build.pkg-config-library"]);
    assert_eq!(broken(|m| m.libraries[0].name = "xenstore".into()).len(), 2);
    assert_eq!(
        broken(|m| m.libs = Outcome::Failed("no such".into())),
        ["xenlight.pc FAIL build.pkg-config-invalid"]
    );
    // Requires not closed.
    assert_eq!(broken(|m| m.requires[0].1 = false), ["xenlight.pc FAIL build.pkg-config-requires"]);
    // Compiling.
    assert_eq!(
        broken(|m| m.compile = Some(Err("undefined reference".into()))),
        ["xenlight.pc FAIL build.pkg-config-compile"]
    );
    assert_eq!(broken(|m| m.compile = None), ["xenlight.pc ERROR lab.internal"]);
    assert_eq!(
        broken(|m| {
            m.compile = None;
            m.compile_skipped = Some("no cross compiler".into());
        }),
        ["xenlight.pc SKIP"]
    );
    let none = PkgConfigEvidence { absent: Some("no .pc file".into()), ..PkgConfigEvidence::default() };
    assert_eq!(
        bad(&judge(&body::<PkgConfig>("{}"), &none, &facts())),
        ["development files FAIL build.part-missing"]
    );
    let arm = judge_for(Arch::Aarch64, &body::<PkgConfig>("{}"), &good("4.20"), &facts());
    assert_eq!(bad(&arm).len(), 15);
}

#[test]
fn which_modules_and_versions() {
    let mut e = good("4.20");
    e.modules.retain(|m| m.name == "xencall");
    let these: PkgConfig = body(r#"{"modules": ["xencall"]}"#);
    assert_eq!(bad(&judge(&these, &e, &facts())), Vec::<String>::new());
    let other: PkgConfig = body(r#"{"modules": ["xencall"], "versions": {"xencall": "1.4"}}"#);
    assert_eq!(bad(&judge(&other, &e, &facts())), ["xencall.pc FAIL build.pkg-config-version"]);
    // 4.21's module is not expected of 4.20, but may be asked for.
    let newer: PkgConfig = body(r#"{"modules": ["xencall", "xenmanage"]}"#);
    assert_eq!(bad(&judge(&newer, &e, &facts())), ["xenmanage.pc FAIL build.pkg-config-missing"]);
    // One that the table does not know has no expected version: not judged.
    let mut own = e.clone();
    own.modules[0].name = "xenown".into();
    own.modules[0].libraries[0].soname = Some("libxencall.so.1".into());
    let unknown: PkgConfig = body(r#"{"modules": ["xenown"]}"#);
    assert_eq!(bad(&judge(&unknown, &own, &facts())), ["xenown.pc SKIP"]);
}

#[test]
fn a_branch_that_the_table_does_not_reach() {
    let step: PkgConfig = body("{}");
    let checks = judge(&step, &good("4.30"), &facts());
    assert_eq!(bad(&checks), ["branch SKIP"]);
    assert!(said(&checks, "branch").contains("judged as Xen 4.22's"));
    // None at all: a damaged hypervisor. Nothing is a pass.
    let none = PkgConfigEvidence { branch: String::new(), ..good("4.20") };
    assert_eq!(bad(&judge(&step, &none, &crate::fact::Facts::default())), ["branch SKIP"]);
}

#[test]
fn borrowed_development_files_are_not_judged() {
    let evidence =
        PkgConfigEvidence { borrowed: Some("debian:trixie".into()), ..PkgConfigEvidence::default() };
    let step: PkgConfig = body("{}");
    let checks = judge(&step, &evidence, &facts());
    assert_eq!(bad(&checks), ["development files SKIP"]);
    assert!(said(&checks, "development files").contains("not from this build"));
}
