use super::*;
use crate::fact::{FactValue, Facts};
use crate::step::testing::{bad, body, judge_for, said};

const ID: &str = "576c0736b3e38388c5afe9aaccc43a18d514e88e";

fn facts() -> Facts {
    let mut f = Facts::default();
    f.set("build.build-id", FactValue::text(ID));
    f
}

fn file(path: &str, kind: &str, arch: &str) -> BootFile {
    BootFile {
        path: path.into(),
        resolves: true,
        kind: kind.into(),
        arch: Some(arch.into()),
        build_id: Some(ID.into()),
        ..BootFile::default()
    }
}

fn link(path: &str, to: &str) -> BootFile {
    BootFile {
        path: path.into(),
        link: Some(to.into()),
        resolves: true,
        kind: "link".into(),
        ..BootFile::default()
    }
}

fn config(path: &str) -> BootFile {
    BootFile { path: path.into(), resolves: true, kind: "config".into(), ..BootFile::default() }
}

fn pe(path: &str, arch: &str) -> BootFile {
    let sections = [".text", ".rodata", ".reloc"].map(str::to_owned).to_vec();
    BootFile { sections, build_id: Some("another".into()), ..file(path, "pe", arch) }
}

fn upstream() -> BootFilesEvidence {
    BootFilesEvidence {
        absent: None,
        layout: "upstream".into(),
        version: Some("4.20.1".into()),
        files: vec![
            file("boot/xen-4.20.1.gz", "gzip(elf32)", "x86_64"),
            link("boot/xen-4.20.gz", "xen-4.20.1.gz"),
            link("boot/xen-4.gz", "xen-4.20.1.gz"),
            link("boot/xen.gz", "/nix/store/abc-xen-4.20.1/boot/xen-4.20.1.gz"),
            config("boot/xen-4.20.1.config"),
            pe("usr/lib64/efi/xen-4.20.1.efi", "x86_64"),
            link("usr/lib64/efi/xen.efi", "xen-4.20.1.efi"),
        ],
    }
}

fn debian() -> BootFilesEvidence {
    BootFilesEvidence {
        absent: None,
        layout: "debian".into(),
        version: Some("4.20.5-pre".into()),
        files: vec![
            file("boot/xen-4.20-amd64.gz", "gzip(elf32)", "x86_64"),
            config("boot/xen-4.20-amd64.config"),
            pe("boot/xen-4.20-amd64.efi", "x86_64"),
        ],
    }
}

fn judged(json: &str, e: &BootFilesEvidence) -> Vec<String> {
    bad(&judge_for(Arch::X86_64, &body::<BootFiles>(json), e, &facts()))
}

#[test]
fn good_ones() {
    assert_eq!(judged("{}", &upstream()), Vec::<String>::new());
    assert_eq!(judged(r#"{"efi": true}"#, &upstream()), Vec::<String>::new());
    assert_eq!(judged("{}", &debian()), Vec::<String>::new());
    let arm = BootFilesEvidence {
        layout: "debian".into(),
        version: Some("4.17".into()),
        files: vec![
            file("boot/xen-4.17-arm64", "arm64-image", "aarch64"),
            config("boot/xen-4.17-arm64.config"),
            BootFile {
                sections: vec![".text".into(), ".data".into()],
                ..file("boot/xen-4.17-arm64.efi", "arm64-image", "aarch64")
            },
        ],
        absent: None,
    };
    assert_eq!(
        bad(&judge_for(Arch::Aarch64, &body::<BootFiles>("{}"), &arm, &facts())),
        Vec::<String>::new()
    );
    let bare = BootFilesEvidence {
        layout: "bare".into(),
        files: vec![file("xen.gz", "gzip(elf32)", "x86_64")],
        ..upstream()
    };
    assert_eq!(judged("{}", &bare), Vec::<String>::new());
    // The image carries no more than its branch: the name of the file says the rest.
    assert_eq!(
        judged("{}", &BootFilesEvidence { version: Some("4.20".into()), ..upstream() }),
        Vec::<String>::new()
    );
}

#[test]
fn each_fault_of_upstreams_layout() {
    let with = |change: fn(&mut Vec<BootFile>)| {
        let mut e = upstream();
        change(&mut e.files);
        judged(r#"{"efi": true}"#, &e)
    };
    let image = "xen-4.20.1.gz FAIL";
    assert_eq!(with(|f| f[0].kind = "other".into()), [format!("{image} build.boot-file-wrong")]);
    assert_eq!(
        with(|f| f[0].damage = Some("it is cut off".into())),
        [format!("{image} build.boot-file-wrong")]
    );
    assert_eq!(with(|f| f[0].arch = Some("aarch64".into())), [format!("{image} build.wrong-architecture")]);
    // Same name, other build.
    assert_eq!(with(|f| f[0].build_id = Some("dead".into())), [format!("{image} build.build-id-mismatch")]);
    assert_eq!(with(|f| drop(f.remove(0))), [format!("{image} build.boot-file-missing")]);
    assert_eq!(with(|f| drop(f.remove(1))), ["xen-4.20.gz FAIL build.boot-file-missing"]);
    assert_eq!(with(|f| f[2].link = Some("xen-4.19.gz".into())), ["xen-4.gz FAIL build.boot-file-wrong"]);
    assert_eq!(with(|f| f[3].link = None), ["xen.gz FAIL build.boot-file-wrong"]);
    assert_eq!(
        with(|f| f[3].resolves = false),
        ["xen.gz FAIL build.boot-file-wrong", "links FAIL build.boot-file-wrong"]
    );
    assert_eq!(with(|f| f[6].resolves = false), ["links FAIL build.boot-file-wrong"]);
    assert_eq!(with(|f| drop(f.remove(4))), ["xen-4.20.1.config FAIL build.boot-file-missing"]);
    let efi = "xen-4.20.1.efi FAIL";
    assert_eq!(with(|f| drop(f.remove(5))), [format!("{efi} build.boot-file-missing")]);
    assert_eq!(with(|f| f[5].kind = "other".into()), [format!("{efi} build.boot-file-wrong")]);
    assert_eq!(with(|f| f[5].sections.clear()), [format!("{efi} build.boot-file-wrong")]);
    assert_eq!(with(|f| f[5].damage = Some("cut".into())), [format!("{efi} build.boot-file-wrong")]);
    assert_eq!(with(|f| f[5].arch = Some("aarch64".into())), [format!("{efi} build.wrong-architecture")]);
    let policy = |f: &mut Vec<BootFile>| {
        f.push(BootFile { kind: "flask-policy".into(), ..config("boot/xenpolicy-4.20.0") })
    };
    assert_eq!(with(policy), ["xenpolicy-4.20.1 FAIL build.boot-file-wrong"]);
}

#[test]
fn other_layouts() {
    // EFI is judged where the layout always has it, or where it was asked for.
    let mut e = upstream();
    e.files.truncate(5);
    assert_eq!(judged("{}", &e), Vec::<String>::new());
    let mut e = debian();
    e.files.truncate(2);
    assert_eq!(judged("{}", &e), ["xen-4.20-amd64.efi FAIL build.boot-file-missing"]);
    assert_eq!(judged(r#"{"efi": false}"#, &e), Vec::<String>::new());
    // Asked for one layout, it is another.
    assert_eq!(judged(r#"{"layout": "upstream", "efi": false}"#, &debian()).len(), 5);
    let none = BootFilesEvidence { absent: Some("no boot/".into()), ..BootFilesEvidence::default() };
    assert_eq!(judged("{}", &none), ["boot files FAIL build.part-missing"]);
    let unknown = BootFilesEvidence { version: None, files: vec![config("boot/xen.config")], ..upstream() };
    assert_eq!(judged("{}", &unknown), ["boot files SKIP"]);
    let empty = BootFilesEvidence { layout: "bare".into(), files: Vec::new(), ..upstream() };
    assert_eq!(judged("{}", &empty), ["xen FAIL build.boot-file-missing"]);
    let wrong = BootFilesEvidence {
        layout: "bare".into(),
        files: vec![file("xen", "elf64", "x86_64")],
        ..upstream()
    };
    assert_eq!(judged("{}", &wrong), ["xen FAIL build.boot-file-wrong"]);
    let efi =
        BootFilesEvidence { layout: "bare".into(), files: vec![pe("xen.efi", "aarch64")], ..upstream() };
    assert_eq!(judged("{}", &efi), ["xen.efi FAIL build.wrong-architecture"]);
    let checks = judge_for(Arch::X86_64, &body::<BootFiles>("{}"), &upstream(), &facts());
    assert_eq!(said(&checks, "xen.gz"), "boot/xen.gz leads to xen-4.20.1.gz");
}
