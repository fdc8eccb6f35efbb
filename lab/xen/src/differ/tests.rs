//! Builds that differ in one thing, made of files and altered.

use super::*;
use crate::Library;
use crate::build::{BootFiles, Hypervisor, Tools, XenBuild};
use crate::image;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use xenlab_model::arch::Arch;
use xenlab_model::spec::Subject;

fn library(soname: &str, exports: &[&str]) -> Library {
    Library {
        file: format!("usr/lib/{soname}.0"),
        soname: soname.into(),
        size: 1000,
        exports: Some(exports.iter().map(|e| (*e).to_owned()).collect()),
    }
}

/// A build of nothing but a hypervisor that is none, and tools without a file.
fn build() -> XenBuild {
    let tools = Tools {
        from: "dir:/x".into(),
        root: "/nonexistent".into(),
        mount: "/".into(),
        key: String::new(),
        files: Vec::new(),
        empty_dirs: Vec::new(),
        branch: Some("4.20".into()),
        bin_dirs: Vec::new(),
        lib_dirs: Vec::new(),
        daemons: BTreeSet::new(),
        programs: [("xl".to_owned(), PathBuf::from("/usr/sbin/xl"))].into(),
        wrappers: BTreeMap::new(),
        needs: vec!["libc.so.6".into()],
        device_model: None,
        interpreter: None,
        damage: None,
    };
    let (facts, _) = image::read(b"no image");
    XenBuild {
        subject: Subject::of("dir:/x".parse().expect("a specification")),
        arch: Arch::X86_64,
        hypervisor: Hypervisor {
            from: "dir:/x".into(),
            original: "/nonexistent/xen.gz".into(),
            image: None,
            image_digest: None,
            no_image: None,
            digest: "0".into(),
            damage: facts.damage.clone(),
            facts,
            efi: None,
            config: crate::Kconfig::parse("CONFIG_NR_CPUS=256\nCONFIG_HVM=y\n", "boot/xen.config"),
            package_version: None,
        },
        tools: Some(tools),
        borrowed: None,
        left_out: Vec::new(),
        development: None,
        boot: BootFiles::default(),
        declared: None,
        system: None,
    }
}

fn described() -> Description {
    let mut d = build().describe();
    d.libraries = [
        ("libxencall".to_owned(), library("libxencall.so.1", &["xencall_open", "xencall_close"])),
        ("libxenctrl".to_owned(), library("libxenctrl.so.4.20", &[])),
    ]
    .into();
    d.options = Some(["dom0_mem", "loglvl"].map(str::to_owned).into());
    d
}

/// What is not the same: class, topic, name.
fn named(old: &Description, new: &Description) -> Vec<(Class, String, String)> {
    let lines = differ(old, new).into_iter().filter(|l| l.class != Class::Same);
    lines.map(|l| (l.class, l.topic, l.name)).collect()
}

#[test]
fn one_thing_that_changed_is_named_and_nothing_else() {
    let old = described();
    assert_eq!(named(&old, &described()), []);
    assert!(differ(&old, &described()).iter().all(|l| l.of.contains("x86_64")));

    let one = |change: &dyn Fn(&mut Description)| {
        let mut new = described();
        change(&mut new);
        named(&old, &new)
    };
    let is = |class, topic: &str, name: &str| vec![(class, topic.to_owned(), name.to_owned())];

    let lost = one(&|d| {
        let call = d.libraries.get_mut("libxencall").and_then(|l| l.exports.as_mut());
        assert!(call.is_some_and(|e| e.remove("xencall_close")));
    });
    assert_eq!(lost, is(Class::Regression, "symbols of libxencall.so.1", "xencall_close"));

    let gone = one(&|d| drop(d.libraries.remove("libxenctrl")));
    assert!(gone.contains(&is(Class::Regression, "sonames", "libxenctrl.so")[0]), "{gone:?}");

    // With another soname the symbols are nobody's promise.
    let moved = one(&|d| {
        drop(d.libraries.insert("libxencall".into(), library("libxencall.so.2", &["xencall_open"])))
    });
    assert_eq!(moved[0], is(Class::Changed, "sonames", "libxencall.so")[0]);
    assert!(moved.iter().all(|(class, ..)| *class == Class::Changed), "{moved:?}");

    assert_eq!(
        one(&|d| assert!(d.options.as_mut().is_some_and(|o| o.remove("loglvl")))),
        is(Class::Changed, "options of Xen's command line", "loglvl")
    );
    assert_eq!(one(&|d| d.options = None), is(Class::NotChecked, "options of Xen's command line", "all"));
    let more = one(&|d| {
        let config = d.config.as_mut().expect("a configuration");
        config.values.insert("NR_CPUS".into(), "16383".into());
    });
    assert_eq!(more, is(Class::Changed, "Kconfig", "NR_CPUS="));
    let without = one(&|d| assert!(d.tools.as_mut().is_some_and(|t| t.programs.remove("xl").is_some())));
    assert_eq!(without, is(Class::Regression, "programs of Xen", "xl"));
    let needs = one(&|d| d.tools.as_mut().expect("tools").needs.push("libzstd.so.1".into()));
    assert_eq!(needs, is(Class::New, "libraries that dom0 must have", "libzstd.so.1"));
    assert_eq!(one(&|d| d.hypervisor.size += 1), is(Class::Changed, "sizes, in bytes", "hypervisor"));
}

#[test]
fn sonames_that_move_with_the_branch_say_so() {
    let old = described();
    let mut new = described();
    new.libraries.insert("libxenctrl".into(), library("libxenctrl.so.4.21", &[]));
    let note = |new: &Description| {
        let line = differ(&old, new).into_iter().find(|l| l.name == "libxenctrl.so");
        line.and_then(|l| l.note).unwrap_or_default()
    };
    assert!(note(&new).starts_with("another soname"), "{}", note(&new));
    new.tools.as_mut().expect("tools").branch = Some("4.21".into());
    assert!(note(&new).starts_with("moves with the branch"), "{}", note(&new));
}

#[test]
fn libraries_are_read_off_their_files() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let source = dir.path().join("call.c");
    std::fs::write(&source, "int xencall_open(void) { return helper(); }\nstatic int hidden(void) { return 1; }\nint (*h)(void) = hidden;\n")
        .expect("written");
    let folder = dir.path().join("usr/lib");
    std::fs::create_dir_all(&folder).expect("made");
    let status = Command::new("cc")
        .args(["-w", "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libxencall.so.1", "-o"])
        .arg(folder.join("libxencall.so.1.3"))
        .arg(&source)
        .status()
        .expect("a C compiler is what the tests need");
    assert!(status.success());
    std::os::unix::fs::symlink("libxencall.so.1.3", folder.join("libxencall.so.1")).expect("linked");
    let mut build = build();
    let tools = build.tools.as_mut().expect("tools");
    tools.root = dir.path().to_owned();
    tools.files = vec!["usr/lib/libxencall.so.1".into(), "usr/lib/libxencall.so.1.3".into()];
    let found = crate::libraries(&build);
    assert_eq!(found.len(), 1, "{found:?}");
    let call = &found["libxencall"];
    assert_eq!((call.soname.as_str(), call.file.as_str()), ("libxencall.so.1", "usr/lib/libxencall.so.1.3"));
    let exports: Vec<&str> = call.exports.iter().flatten().map(String::as_str).collect();
    assert_eq!(exports, ["h", "xencall_open"], "neither what it needs nor what it hides");
}
