//! Real builds and the machines that booted them, judged: what the readers of Debian's packages gathered, and what `xl info` said
//! on those very builds.

use super::testing::{bad, body, judge_for};
use super::{boot_files, pkg_config, xl_info};
use crate::arch::Arch;
use crate::fact::{FactValue, Facts};
use crate::step::testing::ran;

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Build {
    facts: Facts,
    pkg_config: pkg_config::PkgConfigEvidence,
    boot_files: boot_files::BootFilesEvidence,
}

macro_rules! build {
    ($name:literal) => {
        serde_json::from_str::<Build>(include_str!(concat!("../../../../fixtures/build/", $name, ".json")))
            .unwrap()
    };
}

fn builds() -> [(Arch, Build, &'static str); 4] {
    [
        (Arch::X86_64, build!("debian-bookworm-x86_64"), "4.17"),
        (Arch::Aarch64, build!("debian-bookworm-aarch64"), "4.17"),
        (Arch::X86_64, build!("debian-trixie-x86_64"), "4.20"),
        (Arch::Aarch64, build!("debian-trixie-aarch64"), "4.20"),
    ]
}

#[test]
fn debians_builds_are_good() {
    for (arch, build, branch) in builds() {
        let files = body::<boot_files::BootFiles>(r#"{"efi": true}"#);
        assert_eq!(
            bad(&judge_for(arch, &files, &build.boot_files, &build.facts)),
            Vec::<String>::new(),
            "{arch} {branch}"
        );
        let all = body::<pkg_config::PkgConfig>(r#"{"modules": "all", "compile": true}"#);
        let checks = judge_for(arch, &all, &build.pkg_config, &build.facts);
        // Where a cross compiler was not at hand the programs were not compiled, and that is said.
        let wrong: Vec<_> = bad(&checks).into_iter().filter(|line| !line.ends_with(" SKIP")).collect();
        assert_eq!((wrong, checks.len()), (vec![], 15), "{arch} {branch}");
        assert_eq!(build.pkg_config.branch, branch);
    }
}

#[test]
fn the_wrong_build_of_the_two_is_caught() {
    let [(_, bookworm, _), (_, arm, _), (_, trixie, _), _] = builds();
    let files = body::<boot_files::BootFiles>("{}");
    // Another build's files under this one's image, and another architecture's.
    assert!(!bad(&judge_for(Arch::X86_64, &files, &trixie.boot_files, &bookworm.facts)).is_empty());
    assert!(!bad(&judge_for(Arch::X86_64, &files, &arm.boot_files, &bookworm.facts)).is_empty());
    let all = body::<pkg_config::PkgConfig>("{}");
    assert!(!bad(&judge_for(Arch::X86_64, &all, &arm.pkg_config, &bookworm.facts)).is_empty());
    let mut other = trixie.pkg_config.clone();
    other.branch = "4.21".into();
    let wrong = bad(&judge_for(Arch::X86_64, &all, &other, &trixie.facts));
    assert!(wrong.contains(&"xenmanage.pc FAIL build.pkg-config-missing".to_owned()), "{wrong:?}");
    assert!(wrong.contains(&"xenstore.pc FAIL build.pkg-config-version".to_owned()), "{wrong:?}");
}

#[test]
fn what_runs_is_what_was_built() {
    let [(_, bookworm, _), (_, arm, _), (_, trixie, _), _] = builds();
    let x86 = include_str!("../../../../fixtures/dom0/xl-info-x86_64-4.17.7.txt");
    let aarch64 = include_str!("../../../../fixtures/dom0/xl-info-aarch64-4.17.7.txt");
    let newer = include_str!("../../../../fixtures/dom0/xl-info-x86_64-4.20.5-pre.txt");
    let judged = |facts: &Facts, declared: Option<&str>, text: &str| {
        let mut facts = facts.clone();
        if let Some(version) = declared {
            facts.set("build.declared-version", FactValue::Version(version.into()));
            facts.set("build.declared-by", FactValue::text("the command line"));
        }
        let evidence = xl_info::XlInfoEvidence { command: ran("xl info", 0, text, "") };
        bad(&judge_for(Arch::X86_64, &xl_info::XlInfo::default(), &evidence, &facts))
    };
    assert_eq!(judged(&bookworm.facts, Some("4.17.7"), x86), Vec::<String>::new());
    assert_eq!(judged(&arm.facts, Some("4.17.7"), aarch64), Vec::<String>::new());
    assert_eq!(judged(&trixie.facts, Some("4.20.5-pre"), newer), Vec::<String>::new());
    // Debian's own version of the package is not what Xen says of itself.
    assert_eq!(judged(&trixie.facts, Some("4.20.4"), newer), ["version FAIL build.version-mismatch"]);
    assert_eq!(judged(&bookworm.facts, None, x86), ["version SKIP"]);
    // The same version string, another build: the other architecture's.
    assert_eq!(judged(&bookworm.facts, Some("4.17.7"), aarch64), ["build-id FAIL build.build-id-mismatch"]);
    // Another Xen booted than the one under test.
    assert_eq!(
        judged(&bookworm.facts, Some("4.17.7"), newer),
        [
            "version FAIL build.version-mismatch",
            "build-id FAIL build.build-id-mismatch",
            "tools FAIL build.tools-mismatch"
        ]
    );
}
