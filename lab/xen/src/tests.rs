//! Providers, facts and the description, on small builds made here.

use crate::image::made::{BUILD_ID, Made, arm64, efi, elf32, gzip};
use crate::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xenlab_model::cause::Cause;
use xenlab_model::event::{Sink, What};
use xenlab_model::fact::FactValue;
use xenlab_store::Options;

struct Quiet;

impl Sink for Quiet {
    fn emit(&self, _: What) {}
}

struct Lab {
    dir: tempfile::TempDir,
    store: Store,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let options = Options {
            root: Some(dir.path().join("store")),
            offline: true,
            locked: true,
            sink: Arc::new(Quiet),
        };
        let store = Store::open(options).expect("a store");
        Lab { dir, store }
    }

    fn file(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn link(&self, path: &str, to: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
        std::os::unix::fs::symlink(to, path).expect("linked");
    }

    fn program(&self, path: &str, bytes: &[u8]) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.file(path, bytes);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("made executable");
    }

    fn provide(&self, spec: &str, arch: Arch) -> Result<XenBuild, XenError> {
        let subject = Subject::of(spec.parse().expect("a specification"));
        provide(&subject, arch, &self.store)
    }

    fn dir_spec(&self, name: &str) -> String {
        format!("dir:{}", self.dir.path().join(name).display())
    }

    /// As `make install DESTDIR=…/NAME` leaves it.
    fn destdir(&self, name: &str) -> String {
        let made = Made::default();
        self.file(&format!("{name}/boot/xen-4.20.1.gz"), gzip(&elf32(&made)));
        self.link(&format!("{name}/boot/xen.gz"), "xen-4.20.1.gz");
        self.link(&format!("{name}/boot/xen-4.gz"), "xen-4.20.0.gz");
        self.file(&format!("{name}/boot/xen-4.20.1.config"), "CONFIG_X86=y\nCONFIG_SHADOW_PAGING=y\n");
        self.file(&format!("{name}/usr/lib64/efi/xen-4.20.1.efi"), efi(&made));
        self.link(&format!("{name}/usr/lib64/efi/xen.efi"), "xen-4.20.1.efi");
        self.program(&format!("{name}/usr/local/sbin/xl"), b"#!/bin/sh\n");
        self.program(&format!("{name}/usr/local/sbin/oxenstored"), b"#!/bin/sh\n");
        self.file(&format!("{name}/usr/local/lib/libxenctrl.so.4.20.0"), "");
        self.link(&format!("{name}/usr/local/lib/libxenctrl.so.4.20"), "libxenctrl.so.4.20.0");
        self.file(&format!("{name}/usr/local/share/man/man1/xl.1"), "");
        let pc = "prefix=/usr/local\nlibdir=${prefix}/lib\nName: x\nDescription: x\nVersion: 1.3\n";
        self.file(&format!("{name}/usr/local/lib/pkgconfig/xencall.pc"), pc);
        // The latter as trees until 4.17 do, where dom0 has a link.
        for dir in ["var/lib/xen", "var/run/xenstored"] {
            std::fs::create_dir_all(self.dir.path().join(name).join(dir)).expect("made");
        }
        self.dir_spec(name)
    }
}

fn set(words: &[&str]) -> FactValue {
    FactValue::Set(words.iter().map(|w| (*w).to_owned()).collect())
}

#[test]
fn a_destdir() {
    let lab = Lab::new();
    let build = lab.provide(&lab.destdir("dist"), Arch::X86_64).expect("provided");
    let h = &build.hypervisor;
    assert!(h.original.ends_with("boot/xen-4.20.1.gz"));
    assert_eq!(
        h.image.as_ref().map(|p| std::fs::read(p).expect("read")),
        Some(elf32(&Made::default())),
        "unpacked"
    );
    assert_eq!(h.damage, None);
    assert!(h.efi.as_ref().expect("an EFI image").path.ends_with("usr/lib64/efi/xen-4.20.1.efi"));
    assert_eq!(h.verify().expect("readable"), Ok(()));
    let tools = build.tools.as_ref().expect("tools");
    assert_eq!(tools.mount, Path::new("/"));
    assert_eq!(tools.programs["xl"], Path::new("/usr/local/sbin/xl"));
    assert!(
        !tools.files.iter().any(|f| f.starts_with("boot")
            || f.ends_with("xl.1")
            || f.extension().is_some_and(|e| e == "pc"))
    );
    assert_eq!(tools.empty_dirs, [PathBuf::from("var/lib/xen")]);
    let facts = build.facts();
    for (name, value) in [
        ("build.provider", FactValue::text("dir")),
        ("build.image-version", FactValue::Version("4.20.1".into())),
        ("build.branch", FactValue::Version("4.20".into())),
        ("build.tools-branch", FactValue::Version("4.20".into())),
        ("build.build-id", FactValue::text(BUILD_ID)),
        ("build.efi", FactValue::Flag(true)),
        ("build.config", set(&["X86", "SHADOW_PAGING"])),
        ("build.shadow-paging", FactValue::Flag(true)),
        ("build.xenstored", set(&["oxenstored"])),
        ("build.programs", set(&["oxenstored", "xl"])),
        ("build.pkg-config", set(&["xencall"])),
        ("build.parts", set(&["hypervisor", "tools", "development"])),
    ] {
        assert_eq!(facts.get(name), Some(&value), "{name}");
    }
    assert_eq!(facts.get("build.declared-version"), None, "nobody declared one");
    for name in facts.0.keys() {
        let info = xenlab_model::fact::info(name).unwrap_or_else(|| panic!("{name} is no fact"));
        assert_eq!(facts.get(name).map(FactValue::fact_type), Some(info.kind), "{name}");
    }
    let boot = boot_files(&build);
    assert_eq!((boot.layout.as_str(), boot.version.as_deref()), ("upstream", Some("4.20.1")));
    let file = |p: &str| boot.files.iter().find(|f| f.path == p).unwrap_or_else(|| panic!("{p}"));
    assert!(file("boot/xen.gz").resolves && !file("boot/xen-4.gz").resolves);
    assert_eq!(file("boot/xen-4.20.1.gz").kind, "gzip(elf32)");
    assert_eq!(file("usr/lib64/efi/xen-4.20.1.efi").sections, [".text", ".buildid"]);
}

#[test]
fn what_is_described() {
    let lab = Lab::new();
    let build = lab.provide(&lab.destdir("dist"), Arch::X86_64).expect("provided");
    let hide = |text: String| {
        let text = text.replace(&lab.dir.path().display().to_string(), "DIR");
        let digests = regex::Regex::new("[0-9a-f]{64}").expect("a pattern");
        let sizes = regex::Regex::new(r"\d+ bytes").expect("a pattern");
        sizes.replace_all(&digests.replace_all(&text, "SHA256"), "N bytes").into_owned()
    };
    insta::assert_snapshot!(hide(build.describe().to_string()));
}

#[test]
fn nothing_changed_gives_the_same_tools_and_a_change_another_key() {
    let lab = Lab::new();
    let spec = lab.destdir("dist");
    let key = |lab: &Lab| lab.provide(&spec, Arch::X86_64).expect("provided").tools.expect("tools").key;
    let first = key(&lab);
    assert_eq!(key(&lab), first);
    lab.file("dist/boot/xen-4.20.1.config", "CONFIG_X86=y\n");
    assert_eq!(key(&lab), first, "a boot file is none of the tools");
    lab.program("dist/usr/local/sbin/xl", b"#!/bin/sh\necho\n");
    assert_ne!(key(&lab), first);
}

#[test]
fn a_prefix_lies_in_dom0_where_it_lies_here() {
    let lab = Lab::new();
    lab.file("xen/boot/xen.gz", gzip(&elf32(&Made::default())));
    lab.program("xen/sbin/xl", b"#!/bin/sh\n");
    lab.file("xen/lib/libxenctrl.so.4.20", "");
    let build = lab.provide(&lab.dir_spec("xen"), Arch::X86_64).expect("provided");
    let root = std::fs::canonicalize(lab.dir.path().join("xen")).expect("there");
    assert_eq!(build.tools.expect("tools").programs["xl"], root.join("sbin/xl"));
}

#[test]
fn a_prefix_that_was_moved_lies_where_its_pc_files_say() {
    let lab = Lab::new();
    lab.file("moved/boot/xen.gz", gzip(&elf32(&Made::default())));
    lab.program("moved/bin/xl", b"#!/bin/sh\n");
    lab.file("moved/lib/pkgconfig/xencall.pc", "prefix=/opt/xen\nlibdir=${prefix}/lib\n");
    let build = lab.provide(&lab.dir_spec("moved"), Arch::X86_64).expect("provided");
    assert_eq!(build.tools.expect("tools").programs["xl"], Path::new("/opt/xen/bin/xl"));
    assert_eq!(build.development.expect("development").mount, Path::new("/opt/xen"));
}

#[test]
fn a_source_tree_declares_its_version() {
    let lab = Lab::new();
    lab.file("src/xen/Makefile", "export XEN_VERSION = 4\nexport XEN_SUBVERSION = 20\nexport XEN_EXTRAVERSION ?= .2$(XEN_VENDORVERSION)\n");
    lab.file("src/xen/.config", "# Xen/x86 4.20.0 Configuration\nCONFIG_X86=y\n");
    lab.file("src/xen/xen.efi", efi(&Made::default()));
    lab.file("src/xen/xen", elf32(&Made::default()));
    for spec in [lab.dir_spec("src"), format!("file:{}", lab.dir.path().join("src/xen/xen").display())] {
        let build = lab.provide(&spec, Arch::X86_64).expect("provided");
        assert_eq!(build.declared.as_ref().map(|d| d.version.as_str()), Some("4.20.2"));
        assert!(build.hypervisor.config.is_some());
        let boot = boot_files(&build);
        assert_eq!((boot.absent, boot.layout.as_str()), (None, "bare"));
        let kinds: Vec<(&str, &str)> =
            boot.files.iter().map(|f| (f.path.as_str(), f.kind.as_str())).collect();
        assert_eq!(kinds, [("xen", "elf32"), ("xen.efi", "pe")]);
        let problems = build.describe().problems;
        assert!(
            problems.iter().any(|p| p.contains("declared 4.20.2") && p.contains("carries 4.20.1")),
            "{problems:?}"
        );
        assert!(problems.iter().any(|p| p.contains("configuration of 4.20.0")), "{problems:?}");
    }
}

#[test]
fn a_composed_build_says_what_came_from_where() {
    let lab = Lab::new();
    let file = lab.file("xen", elf32(&Made { minor: 17, extra: ".5", greeting: None, ..Made::default() }));
    let subject = Subject {
        hypervisor: format!("file:{}", file.display()).parse().expect("a specification"),
        tools: Some(lab.destdir("dist").parse().expect("a specification")),
        expect_version: Some("4.17.5".into()),
        recipe: Default::default(),
    };
    let build = provide(&subject, Arch::X86_64, &lab.store).expect("provided");
    assert!(build.hypervisor.from.starts_with("file:"));
    assert!(build.tools.as_ref().expect("tools").from.starts_with("dir:"));
    assert_eq!(build.declared.as_ref().map(|d| d.by.as_str()), Some("expect-version"));
    assert!(build.describe().problems.iter().any(|p| p.contains("build.tools-mismatch")));
}

#[test]
fn damage_and_the_wrong_machine_are_data() {
    let lab = Lab::new();
    let whole = arm64(&Made::default());
    let cut = format!("file:{}", lab.file("cut", &whole[..whole.len() - 9]).display());
    let damage =
        |spec: &str, arch| lab.provide(spec, arch).expect("provided").hypervisor.damage.map(|d| d.cause);
    assert_eq!(damage(&cut, Arch::Aarch64), Some(Cause::ImageTruncated));
    let good = format!("file:{}", lab.file("good", &whole).display());
    assert_eq!(damage(&good, Arch::Aarch64), None);
    assert_eq!(damage(&good, Arch::X86_64), Some(Cause::WrongArchitecture));
}

#[test]
fn a_changed_image_is_noticed() {
    let lab = Lab::new();
    let path = lab.file("xen", elf32(&Made::default()));
    let h = lab.provide(&format!("file:{}", path.display()), Arch::X86_64).expect("provided").hypervisor;
    assert_eq!(h.verify().expect("readable"), Ok(()));
    lab.file("xen", elf32(&Made { extra: ".2", ..Made::default() }));
    assert_eq!(h.verify().expect("readable"), Err(h.original.clone()));
}

#[test]
fn errors_say_where_and_what_was_looked_for() {
    let lab = Lab::new();
    lab.file("folder/readme", "");
    lab.program("tools/usr/sbin/xl", b"#!/bin/sh\n");
    let at = |name: &str| lab.dir.path().join(name).display().to_string();
    for (spec, parts) in [
        (
            format!("dir:{}", at("nothing/here")),
            vec!["there is no", "nothing/here", "is the last part of it that exists"],
        ),
        (format!("file:{}", at("folder")), vec!["a folder", "dir:PREFIX"]),
        (format!("dir:{}", at("folder/readme")), vec!["a file", "file:PATH"]),
        (
            format!("dir:{}", at("folder")),
            vec!["does not look like a Xen build", "boot/xen*.gz", "pkgconfig"],
        ),
        (format!("dir:{}", at("tools")), vec!["has no hypervisor", "--tools"]),
    ] {
        let error = lab.provide(&spec, Arch::X86_64).expect_err(&spec);
        assert!(error.is_bad_input(), "{spec}");
        let message = error.to_string();
        for part in parts {
            assert!(message.contains(part), "{message}: {part}");
        }
    }
    let subject = Subject {
        hypervisor: format!("file:{}", lab.file("xen", elf32(&Made::default())).display())
            .parse()
            .expect("a specification"),
        tools: Some(format!("dir:{}", at("folder")).parse().expect("a specification")),
        expect_version: None,
        recipe: Default::default(),
    };
    assert!(provide(&subject, Arch::X86_64, &lab.store).is_err(), "tools that are none");
}

#[test]
fn every_specification_has_its_one_provider() {
    for spec in
        ["debian:trixie", "dir:/opt/xen", "nix:r", "nixos:r", "file:xen", "source:xen@v1", "debsrc:trixie"]
    {
        let spec: XenSpec = spec.parse().expect("a specification");
        let handling = PROVIDERS.iter().filter(|p| p.handles(&spec)).collect::<Vec<_>>();
        assert_eq!(handling.len(), 1);
        assert!(spec.to_string().starts_with(&format!("{}:", handling[0].scheme())));
    }
}
