//! Against the real pkg-config and the real compiler, on a small build made here.

use super::*;
use crate::build::{BootFiles, Hypervisor};
use std::collections::BTreeMap;
use std::process::Command as Std;
use xenlab_model::arch::Arch;

#[test]
fn flags() {
    assert_eq!(split("-L/a\\ b -lxenctrl  -lxencall\n"), ["-L/a b", "-lxenctrl", "-lxencall"]);
    assert_eq!(split(""), [""; 0]);
}

#[test]
fn requirements() {
    assert_eq!(
        requirement_names("xencall >= 1.0, xentoollog xenstore"),
        ["xencall", "xentoollog", "xenstore"]
    );
    assert_eq!(requirement_names(" "), [""; 0]);
}

/// An install tree with xentoolcore and xencall, whose library is real, made by the compiler of this host.
struct Tree {
    dir: tempfile::TempDir,
    prefix: &'static str,
}

impl Tree {
    /// `lies` is where the tree's files lie below its root, `prefix` where they say they are.
    fn new(lies: &str, prefix: &'static str) -> Tree {
        let tree = Tree { dir: tempfile::tempdir().expect("a temporary folder"), prefix };
        tree.library(lies, "xencall", "libxencall.so.1");
        tree.header(lies, "xencall.h", "void *xencall_open(void *, unsigned);\n");
        tree.pc(lies, "xencall", "1.3", "");
        tree
    }

    fn at(&self, lies: &str, path: &str) -> PathBuf {
        let path = self.dir.path().join(lies).join(path);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
        path
    }

    fn library(&self, lies: &str, name: &str, soname: &str) {
        let so = self.at(lies, &format!("lib/{soname}"));
        let source = self.at(lies, "lib/source.c");
        std::fs::write(&source, format!("void *{name}_open(void *l, unsigned f) {{ (void)f; return l; }}\n"))
            .expect("written");
        let mut cc = Std::new("cc");
        let made = cc
            .args(["-shared", "-nostdlib", "-fPIC"])
            .arg(format!("-Wl,-soname,{soname}"))
            .arg("-o")
            .arg(&so)
            .arg(&source);
        assert!(made.status().expect("a C compiler is needed for the tests").success());
        let link = self.at(lies, &format!("lib/lib{name}.so"));
        std::os::unix::fs::symlink(soname, link).expect("linked");
    }

    fn header(&self, lies: &str, name: &str, text: &str) {
        std::fs::write(self.at(lies, &format!("include/{name}")), text).expect("written");
    }

    fn pc(&self, lies: &str, name: &str, version: &str, more: &str) {
        let text = format!(
            "prefix={}\nincludedir=${{prefix}}/include\nlibdir=${{prefix}}/lib\nName: {name}\nDescription: x\nVersion: {version}\n\
             Cflags: -I${{includedir}}\nLibs: -L${{libdir}} -l{name}\n{more}",
            self.prefix
        );
        std::fs::write(self.at(lies, &format!("lib/pkgconfig/{name}.pc")), text).expect("written");
    }

    fn build(&self) -> XenBuild {
        let (tree, _) = crate::tree::Tree::walk(self.dir.path()).expect("walked");
        let scan = crate::scan::scan(self.dir.path(), &tree, &[PathBuf::new()], host(), "dir:made")
            .expect("scanned");
        let (facts, _) = crate::image::read(&crate::image::made::elf32(&crate::image::made::Made::default()));
        let hypervisor = Hypervisor {
            from: "file:xen".into(),
            original: PathBuf::new(),
            image: None,
            image_digest: None,
            no_image: None,
            digest: String::new(),
            facts,
            damage: None,
            efi: None,
            config: None,
            package_version: None,
        };
        let hypervisor_spec = "file:xen".parse().expect("a specification");
        XenBuild {
            subject: xenlab_model::spec::Subject {
                hypervisor: hypervisor_spec,
                tools: None,
                expect_version: None,
                recipe: Default::default(),
            },
            arch: host(),
            hypervisor,
            borrowed: None,
            left_out: Vec::new(),
            tools: scan.tools,
            development: scan.development,
            boot: BootFiles::default(),
            declared: None,
            system: None,
        }
    }

    fn ask(&self, modules: Modules) -> PkgConfigEvidence {
        pkg_config(&self.build(), &PkgConfig { modules, versions: BTreeMap::new(), compile: true })
            .expect("pkg-config is needed for the tests")
    }

    fn one(&self, name: &str) -> ModuleSeen {
        self.ask(Modules::These(vec![name.to_owned()])).modules.remove(0)
    }
}

fn host() -> Arch {
    Arch::host().unwrap_or(Arch::X86_64)
}

const DESTDIR: (&str, &str) = ("usr/local", "/usr/local");

#[test]
fn a_good_module_wherever_the_tree_lies() {
    for (lies, prefix) in [DESTDIR, ("", "/opt/moved/away")] {
        let tree = Tree::new(lies, prefix);
        let evidence = tree.ask(Modules::All);
        assert_eq!((evidence.absent, evidence.branch.as_str()), (None, "4.20"));
        assert_eq!(evidence.present, ["xencall"]);
        let m = &evidence.modules[0];
        assert_eq!(m.version, Outcome::Said("1.3".into()), "{prefix}");
        let l = &m.libraries[0];
        assert_eq!(
            l.file,
            Some(Path::new(lies).join("lib/libxencall.so.1").display().to_string()),
            "{prefix}"
        );
        assert_eq!((l.soname.as_deref(), l.soname_present), (Some("libxencall.so.1"), true));
        assert_eq!(l.arch.as_deref(), Some(host().name()));
        assert_eq!((m.compile.clone(), m.compile_skipped.clone()), (Some(Ok(())), None), "{prefix}");
    }
}

#[test]
fn a_module_that_only_the_host_could_have_is_missing() {
    let tree = Tree::new(DESTDIR.0, DESTDIR.1);
    // zlib is what development machines have; pkgconf brings a module of its own name, which is none of the build's.
    for name in ["zlib", "xenlight"] {
        let m = tree.one(name);
        assert!(matches!(&m.version, Outcome::Failed(why) if why.contains(name)), "{:?}", m.version);
        assert_eq!((m.file, m.compile), (None, None));
    }
}

#[test]
fn a_library_that_is_not_there_fails_to_link() {
    let tree = Tree::new(DESTDIR.0, DESTDIR.1);
    std::fs::remove_file(tree.at(DESTDIR.0, "lib/libxencall.so.1")).expect("removed");
    let m = tree.one("xencall");
    assert_eq!(m.libraries[0].file, None);
    assert!(matches!(&m.compile, Some(Err(why)) if why.contains("xencall")), "{:?}", m.compile);
}

#[test]
fn a_link_out_of_the_build_is_no_library() {
    let tree = Tree::new(DESTDIR.0, DESTDIR.1);
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    let so = tree.at(DESTDIR.0, "lib/libxencall.so.1");
    std::fs::rename(&so, elsewhere.path().join("so")).expect("moved");
    let link = tree.at(DESTDIR.0, "lib/libxencall.so");
    std::fs::remove_file(&link).expect("removed");
    std::os::unix::fs::symlink(elsewhere.path().join("so"), &link).expect("linked");
    let m = tree.one("xencall");
    assert_eq!(m.libraries[0].file, None);
    assert!(matches!(m.compile, Some(Err(_))), "{:?}", m.compile);
}

#[test]
fn a_soname_without_its_file() {
    let tree = Tree::new(DESTDIR.0, DESTDIR.1);
    let lib = |name: &str| tree.at(DESTDIR.0, &format!("lib/{name}"));
    std::fs::remove_file(lib("libxencall.so")).expect("removed");
    std::fs::rename(lib("libxencall.so.1"), lib("libxencall.so")).expect("renamed");
    let l = &tree.one("xencall").libraries[0];
    assert_eq!((l.soname.as_deref(), l.soname_present), (Some("libxencall.so.1"), false));
}

#[test]
fn a_function_that_the_library_lacks_and_a_header_that_is_not_there() {
    let tree = Tree::new(DESTDIR.0, DESTDIR.1);
    // Of a library that has its function, so that on a host with Xen's own headers it is the header, too, that is wrong.
    std::fs::remove_file(tree.at(DESTDIR.0, "include/xencall.h")).expect("removed");
    let no_header = tree.one("xencall").compile;
    assert!(matches!(&no_header, Some(Err(why)) if why.contains("xencall.h")), "{no_header:?}");
    tree.library(DESTDIR.0, "xentoolcore", "libxentoolcore.so.1");
    tree.pc(DESTDIR.0, "xentoolcore", "1.0", "");
    tree.header(DESTDIR.0, "xentoolcore.h", "int xentoolcore_restrict_all(int);\n");
    let no_function = tree.one("xentoolcore").compile;
    assert!(
        matches!(&no_function, Some(Err(why)) if why.contains("xentoolcore_restrict_all")),
        "{no_function:?}"
    );
}

#[test]
fn what_is_required_must_be_in_the_build() {
    let tree = Tree::new(DESTDIR.0, DESTDIR.1);
    tree.pc(DESTDIR.0, "xencall", "1.3", "Requires.private: xentoolcore, zlib >= 1.0\n");
    let m = tree.one("xencall");
    assert_eq!(m.requires, [("xentoolcore".to_owned(), false), ("zlib".to_owned(), false)]);
    tree.library(DESTDIR.0, "xentoolcore", "libxentoolcore.so.1");
    tree.pc(DESTDIR.0, "xentoolcore", "1.0", "");
    tree.pc(DESTDIR.0, "xencall", "1.3", "Requires.private: xentoolcore\n");
    assert_eq!(tree.one("xencall").requires, [("xentoolcore".to_owned(), true)]);
}

#[test]
fn a_library_for_another_machine() {
    let tree = Tree::new(DESTDIR.0, DESTDIR.1);
    let so = tree.at(DESTDIR.0, "lib/libxencall.so.1");
    let mut data = std::fs::read(&so).expect("read");
    let other = if host() == Arch::Aarch64 { 62u16 } else { 183 };
    data[18..20].copy_from_slice(&other.to_le_bytes());
    std::fs::write(&so, data).expect("written");
    let m = tree.one("xencall");
    let expected = if host() == Arch::Aarch64 { Arch::X86_64 } else { Arch::Aarch64 };
    assert_eq!(m.libraries[0].arch.as_deref(), Some(expected.name()));
    assert!(matches!(m.compile, Some(Err(_))), "{:?}", m.compile);
}

#[test]
fn a_broken_pc_file_is_said_in_pkg_configs_words() {
    let tree = Tree::new(DESTDIR.0, DESTDIR.1);
    std::fs::write(tree.at(DESTDIR.0, "lib/pkgconfig/xencall.pc"), "Name: xencall\nLibs: ${nothing}\n")
        .expect("written");
    assert!(matches!(&tree.one("xencall").version, Outcome::Failed(why) if !why.is_empty()));
}

#[test]
fn no_development_files() {
    let tree = Tree::new(DESTDIR.0, DESTDIR.1);
    let mut build = tree.build();
    build.development = None;
    let step = PkgConfig { modules: Modules::All, versions: BTreeMap::new(), compile: true };
    let evidence = pkg_config(&build, &step).expect("nothing was asked");
    assert!(evidence.absent.is_some_and(|why| why.contains("no development files")));
}
