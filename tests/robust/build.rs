//! A Xen built from source: by a small tree that plays Xen's build system, whose hypervisor is one of Debian's.

use crate::bench::{Bench, OVER, below, boots, entries, fake, pause, write_executable};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use xenlab_tests::Did;

/// The targets that the lab calls, and the shape of what Xen's own Makefile does for them.
const MAKEFILE: &str = r#"export XEN_VERSION = 4
export XEN_SUBVERSION = 17
export XEN_EXTRAVERSION ?= .5$(XEN_VENDORVERSION)
KCONFIG_CONFIG ?= .config
T = xen-$(XEN_VERSION).$(XEN_SUBVERSION)$(XEN_EXTRAVERSION)
.PHONY: defconfig olddefconfig install
defconfig:
	cp defconfig $(KCONFIG_CONFIG)
olddefconfig:
	sh kconfig.sh $(KCONFIG_CONFIG)
a.o: a.c
	@echo "  CC      $@"
	@sh cc.sh $< $@
b.o: b.c a.h
	@echo "  CC      $@"
	@sh cc.sh $< $@
install: a.o b.o
	mkdir -p $(DESTDIR)/boot
	cat a.o b.o .config > /dev/null
	cp image $(DESTDIR)/boot/$(T).gz
	ln -sf $(T).gz $(DESTDIR)/boot/xen.gz
	cp .config $(DESTDIR)/boot/$(T).config
"#;

/// Only HVM and DEBUG are options; SHADOW wants PV, which is never there.
const KCONFIG: &str = r#"awk '{ n = $0; sub(/^# /, "", n); sub(/^CONFIG_/, "", n); sub(/[= ].*/, "", n); v[n] = $0 }
END { for (n in v) if (n == "HVM" || n == "DEBUG") print v[n] }' $1 > $1.new && mv $1.new $1
"#;

/// A file that says so is in error; each object is told to whoever counts.
const CC: &str = r#"if grep -q WRONG $1; then
	echo "$1: In function 'f':" >&2
	echo "$1:3:5: error: 'WRONG' undeclared" >&2
	echo "    3 |     WRONG;" >&2
	exit 1
fi
if grep -q HANG $1; then echo "  CC      hanging"; sleep 600; fi
if grep -q TOOL $1; then frobnicate $1; exit; fi
cp $1 $2
"#;

pub struct Trees {
    pub bench: Bench,
}

impl Trees {
    pub fn new() -> Trees {
        let bench = Bench::with_store();
        let bin = bench.path("bin");
        fs::create_dir(&bin).expect("a folder");
        // What a build of Xen takes and this one does not.
        for name in ["bison", "flex", "python3"] {
            write_executable(&bin.join(name), "#!/bin/sh\nexit 1\n");
        }
        let me = Trees { bench };
        let image = me.hypervisor();
        for (name, text) in [
            ("Makefile", MAKEFILE),
            ("kconfig.sh", KCONFIG),
            ("cc.sh", CC),
            ("defconfig", "CONFIG_HVM=y\n"),
            (
                "Kconfig",
                "config HVM\n\tbool \"HVM\"\n\nconfig DEBUG\n\tbool \"Debug\"\n\nconfig SHADOW_PAGING\n\tbool \"Shadow\"\n\tdepends on PV\n",
            ),
            ("a.c", "one\ntwo\nthree\n"),
            ("a.h", "x\n"),
            ("b.c", "b\n"),
        ] {
            me.write(name, text);
        }
        fs::copy(image, me.xen("image")).expect("Debian's hypervisor");
        me
    }

    pub fn tree(&self) -> PathBuf {
        self.bench.path("tree")
    }

    pub fn xen(&self, name: &str) -> PathBuf {
        self.tree().join("xen").join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.tree().join("xen")).expect("a folder");
        fs::write(self.xen(name), text).expect("a file of one's own");
    }

    fn hypervisor(&self) -> PathBuf {
        let did = self
            .did(["inspect", "debian:bookworm", "--arch", "x86_64", "--json"])
            .expect(0)
            .expect("Debian's Xen");
        let all: serde_json::Value = serde_json::from_str(&did.stdout).expect("JSON");
        PathBuf::from(all[0]["hypervisor"]["file"].as_str().expect("a file"))
    }

    pub fn path_with(&self, dirs: &[&Path]) -> OsString {
        let old = std::env::var_os("PATH").unwrap_or_default();
        let all = dirs.iter().map(|d| d.to_path_buf()).chain(std::env::split_paths(&old));
        std::env::join_paths(all).expect("a search path")
    }

    /// A folder with all programs of this host but these, for a search path of its own.
    pub fn programs_without(&self, absent: &[&str]) -> PathBuf {
        let bin = self.bench.path("few");
        fs::create_dir(&bin).expect("a folder");
        for dir in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
            for item in fs::read_dir(dir).into_iter().flatten().flatten() {
                let name = item.file_name();
                if !absent.contains(&&*name.to_string_lossy()) {
                    let _ = std::os::unix::fs::symlink(item.path(), bin.join(name));
                }
            }
        }
        bin
    }

    pub fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.bench.command(args);
        command
            .env("PATH", self.path_with(&[&self.bench.path("bin")]))
            .env("CCACHE_DISABLE", "1")
            .arg("--offline");
        command
    }

    pub fn did<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Did {
        xenlab_tests::finish(self.command(args))
    }

    pub fn spec(&self) -> String {
        format!("source:{}", self.tree().display())
    }

    pub fn inspect(&self, more: &[&str]) -> Did {
        let spec = self.spec();
        let mut args = vec!["inspect", &spec, "--arch", "x86_64"];
        args.extend(more);
        self.did(args)
    }

    pub fn ends(&self, more: &[&str], code: i32, says: &[&str]) -> String {
        let did = self.inspect(more).expect(code).unwrap_or_else(|e| panic!("{more:?}: {e}"));
        let all = format!("{}{}", did.stdout, did.stderr);
        for part in says {
            assert!(all.contains(part), "{more:?}: no `{part}` in\n{all}");
        }
        self.bench.nothing_lies_about();
        all
    }

    /// Objects made in the last build.
    fn made(&self) -> Vec<String> {
        self.made_of("the build of Xen of ")
    }

    /// Objects made in the last build whose workspace is called so.
    pub fn made_of(&self, label: &str) -> Vec<String> {
        let text = self.log_of(label);
        let mut made: Vec<String> =
            text.lines().filter_map(|l| l.strip_prefix("  CC      ")).map(str::to_owned).collect();
        made.sort();
        made
    }

    /// The log of the last build whose workspace is called so.
    pub fn log_of(&self, label: &str) -> String {
        let log = below(&self.bench.store.clone().expect("a store").join("builds"))
            .into_iter()
            .filter(|p| p.ends_with("build.log"))
            .filter(|p| fs::read_to_string(p.with_file_name("label")).is_ok_and(|l| l.starts_with(label)))
            .max_by_key(|p| fs::metadata(p).and_then(|m| m.modified()).ok())
            .expect("a log is kept");
        fs::read_to_string(log).expect("a log")
    }

    /// What lies in the user's tree, names and content.
    pub fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all: Vec<_> =
            below(&self.tree()).into_iter().map(|p| (p.clone(), fs::read(p).unwrap_or_default())).collect();
        all.sort();
        all
    }
}

/// Processes that have this path in their command line.
fn processes(of: &Path) -> Vec<String> {
    let part = of.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let text = String::from_utf8_lossy(&line).replace('\0', " ");
        if text.contains(&part) || cwd.starts_with(of) {
            found.push(format!("{} {text}", entry.file_name().display()));
        }
    }
    found
}

#[test]
fn a_tree_is_built_once_and_only_what_changed_again() {
    let t = Trees::new();
    let before = t.snapshot();
    t.ends(&[], 0, &["4.17.5", "boot/xen.gz -> xen-4.17.5.gz", "those of debian:bookworm are borrowed"]);
    assert_eq!(t.made(), ["a.o", "b.o"]);
    assert_eq!(t.snapshot(), before, "the user's tree is only read");
    let said = t.ends(&[], 0, &["4.17.5"]);
    assert!(!said.contains("reading the source"), "nothing is built twice: {said}");
    // One file.
    t.write("a.c", "changed\n");
    t.ends(&[], 0, &["reading the source"]);
    assert_eq!(t.made(), ["a.o"]);
    // Back to what it was: it is known.
    t.write("a.c", "one\ntwo\nthree\n");
    assert!(!t.ends(&[], 0, &[]).contains("reading the source"));
    // A header; what that leads to is make's to know. A file of the same time and size counts by its content.
    t.write("a.h", "y\n");
    t.ends(&[], 0, &[]);
    assert_eq!(t.made(), ["a.o", "b.o"], "a.c is laid out anew as well");
    // Only what git watches over is the source, where git does.
    fs::remove_file(t.xen("a.h")).expect("a file of one's own");
    let said = t.ends(&[], 1, &["build.compile", "No rule to make target", "a.h", "building all of it anew"]);
    // Why the first one failed can still be read.
    let (_, kept) = said.split_once("stays in ").expect("it says where");
    let kept = kept.split(')').next().expect("a path").trim();
    let first = fs::read_to_string(kept).expect("the log of the build before");
    assert!(first.contains("No rule to make target"), "{first}");
}

#[test]
fn what_another_tree_left_is_not_to_blame() {
    let t = Trees::new();
    // A file that no make knows of is in the way of whoever builds here again.
    t.write("cc.sh", &format!("{CC}touch left\n"));
    t.ends(&[], 0, &[]);
    t.write("cc.sh", &format!("test ! -e left || {{ echo \"$1:1:1: error: left\"; exit 1; }}\n{CC}"));
    t.write("a.c", "changed\n");
    // Of a tree that is much the same the compiler is believed at once.
    let said = t.ends(&[], 1, &["a.c:1:1: error: left"]);
    assert!(!said.contains("anew"), "{said}");
    for name in 0..25 {
        t.write(&format!("{name}.c"), "new\n");
    }
    t.ends(&[], 0, &["building all of it anew"]);
    assert_eq!(t.made(), ["a.o", "b.o"]);
    // Another version begins anew.
    t.write("Makefile", &MAKEFILE.replace("SUBVERSION = 17", "SUBVERSION = 18"));
    let did = t.inspect(&[]);
    assert!(did.stdout.contains("4.18.5") && !did.stderr.contains("anew"), "{}", did.stderr);
    assert_eq!(t.made(), ["a.o", "b.o"]);
    // A point release does not.
    t.write("Makefile", &MAKEFILE.replace("SUBVERSION = 17", "SUBVERSION = 18").replace(".5$", ".6$"));
    let did = t.inspect(&[]);
    assert!(did.stdout.contains("4.18.6"), "{}", did.stdout);
    assert_eq!(t.made(), [""; 0]);
}

#[test]
fn a_revision_and_a_tarball_are_built_as_the_tree_is() {
    let t = Trees::new();
    let git = |args: &[&str]| {
        let tree = t.tree();
        let named = ["-c", "user.name=x", "-c", "user.email=x@invalid", "-c", "init.defaultBranch=main"];
        let did = Command::new("git").current_dir(tree).args(named).args(args).output().expect("git runs");
        assert!(did.status.success(), "{did:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "one"]);
    git(&["tag", "v1"]);
    t.write("a.c", "WRONG\n");
    let old = format!("{}@v1", t.spec());
    let did = t.did(["inspect", &old, "--arch", "x86_64"]).expect(0).expect("the revision builds");
    assert!(did.stdout.contains("4.17.5"), "{}", did.stdout);
    t.ends(&[], 1, &["build.compile", "xen/a.c:3:5: error: 'WRONG' undeclared".trim_start_matches("xen/")]);
    // What git ignores is no part of it.
    fs::write(t.tree().join(".gitignore"), "*.o\n").expect("a file of one's own");
    t.write("a.c", "one\ntwo\nthree\n");
    t.write("a.o", "stale\n");
    t.ends(&[], 0, &[]);
    assert!(t.made().contains(&"a.o".to_owned()), "what lay about in the tree is not taken for an object");
    let did = t
        .did(["inspect", &format!("{}@v2", t.spec()), "--arch", "x86_64"])
        .expect(2)
        .expect("no such revision");
    assert!(did.stderr.contains("has no revision `v2`"), "{}", did.stderr);
    let tar = t.bench.path("xen.tar.gz");
    let made = Command::new("tar").arg("-czf").arg(&tar).arg("-C").arg(t.bench.path("")).arg("tree").status();
    assert!(made.expect("tar runs").success());
    let spec = format!("source:{}", tar.display());
    t.did(["inspect", &spec, "--arch", "x86_64"]).expect(0).expect("the tarball builds");
    fs::write(&tar, "no archive").expect("a file of one's own");
    let did = t.did(["inspect", &spec, "--arch", "x86_64"]).expect(2).expect("no archive");
    assert!(did.stderr.contains("no archive that tar can read"), "{}", did.stderr);
    t.bench.nothing_lies_about();
}

#[test]
fn what_does_not_compile_is_a_fail_with_the_first_error() {
    let t = Trees::new();
    t.write("a.c", "WRONG\n");
    let all = t.ends(
        &[],
        1,
        &[
            "build.compile",
            "a.c: In function 'f':",
            "a.c:3:5: error: 'WRONG' undeclared",
            "    3 |     WRONG;",
            "build.log",
        ],
    );
    assert!(!all.contains("make["), "only what matters: {all}");
    // Judged: it is the build that is bad.
    let scenario = fake("  - phase: dom0-ready\n").replace("debian:bookworm", &t.spec());
    let file = t.bench.file("scenario.yaml", &scenario);
    let report = t.bench.report().display().to_string();
    let qemu = t.bench.qemu("qemu", boots().into());
    let did = t.did(["run", &file, "--qemu", &qemu, "--report", &report]).expect(1).expect("a judged Fail");
    let said = format!("{}{}", did.stdout, did.stderr);
    assert!(said.contains("error: 'WRONG' undeclared"), "{said}");
    assert_eq!(t.bench.verdict("fake")["cause"], "build.compile");
    // Mended, it boots.
    t.write("a.c", "right\n");
    t.did(["run", &file, "--qemu", &qemu, "--report", &report]).expect(0).expect("a pass");
    assert!(t.made().contains(&"a.o".to_owned()));
}

#[test]
fn a_missing_tool_names_its_package() {
    let t = Trees::new();
    // One that the lab knows of, before anything is built.
    let bin = t.programs_without(&["bison", "flex"]);
    let spec = t.spec();
    let mut command = t.command(["inspect", &spec, "--arch", "x86_64"]);
    let did = xenlab_tests::finish({
        command.env("PATH", &bin);
        command
    });
    let did = did.expect(3).expect("an Error of the host");
    assert!(
        did.stderr.contains("`bison`, `flex`") && did.stderr.contains("host.tool-missing"),
        "{}",
        did.stderr
    );
    // One that only this tree calls.
    t.write("a.c", "TOOL\n");
    t.ends(&[], 3, &["`frobnicate`", "host.tool-missing"]);
}

#[test]
fn an_interrupted_build_leaves_nothing_and_is_not_believed() {
    for signal in [Signal::INT, Signal::KILL] {
        let t = Trees::new();
        t.write("b.c", "HANG\n");
        let spec = t.spec();
        let mut lab = t.bench.start(t.command(["inspect", &spec, "--arch", "x86_64"]));
        let builds = t.bench.store.clone().expect("a store").join("builds");
        lab.until("the hanging file", |_| processes(&builds).iter().any(|p| p.contains("sleep 600")));
        lab.signal(signal);
        let (status, _) = lab.end(OVER);
        assert_eq!(status.code(), (signal == Signal::INT).then_some(130), "{}", t.bench.log());
        let begun = std::time::Instant::now();
        while !processes(&builds).is_empty() && begun.elapsed() < Duration::from_secs(2) {
            pause(20);
        }
        assert_eq!(processes(&builds), Vec::<String>::new());
        // The user's own store, which this one is a copy of, may have some of other trees.
        let published = entries(&t.bench.store.clone().expect("a store"), "xen-hypervisor");
        let ours = published.iter().filter(|(_, record)| record.to_string().contains(&t.spec()));
        assert_eq!(ours.count(), 0, "nothing half made is published");
        // What was made by then may be cut off: all of it is made again.
        t.write("b.c", "b\n");
        t.ends(&[], 0, &["4.17.5"]);
        assert_eq!(t.made(), ["a.o", "b.o"]);
    }
}

#[test]
fn patches_in_their_order_and_one_that_fails() {
    let t = Trees::new();
    let patch = |name: &str, from: &str, to: &str| {
        t.bench.file(
            name,
            &format!(
                "--- a/xen/a.c\n+++ b/xen/a.c\n@@ -1,3 +1,3 @@ int f(void)\n one\n-{from}\n+{to}\n three\n"
            ),
        )
    };
    let (first, second, back) =
        (patch("1.patch", "two", "2"), patch("2.patch", "2", "WRONG"), patch("3.patch", "gone", "x"));
    t.ends(&["--patch", &first], 0, &["4.17.5"]);
    // The second stands on the first; together they do not compile.
    t.ends(&["--patch", &first, "--patch", &second], 1, &["error: 'WRONG' undeclared"]);
    t.ends(
        &["--patch", &second],
        2,
        &["2.patch does not apply", "xen/a.c: hunk #1 does not apply", "int f(void)", "line 3 of the patch"],
    );
    t.ends(&["--patch", &first, "--patch", &back], 2, &["3.patch does not apply"]);
    let none = t.bench.file("none.patch", "nothing\n");
    t.ends(&["--patch", &none], 2, &["none.patch is no patch"]);
    t.ends(&["--patch", "/gone.patch"], 2, &["there is no /gone.patch"]);
    // A new file, and the version.
    let version = t.bench.file("v.patch", "--- a/xen/Makefile\n+++ b/xen/Makefile\n@@ -1,3 +1,3 @@\n export XEN_VERSION = 4\n export XEN_SUBVERSION = 17\n\
        -export XEN_EXTRAVERSION ?= .5$(XEN_VENDORVERSION)\n+export XEN_EXTRAVERSION ?= .9$(XEN_VENDORVERSION)\n--- /dev/null\n+++ b/xen/new.h\n@@ -0,0 +1 @@\n+new\n");
    t.ends(&["--patch", &version], 0, &["boot/xen.gz -> xen-4.17.9.gz", "declared 4.17.9"]);
    assert!(!t.xen("new.h").exists(), "the user's tree is only read");
    let did = t
        .did(["inspect", "debian:bookworm", "--arch", "x86_64", "--patch", &first])
        .expect(2)
        .expect("no source");
    assert!(did.stderr.contains("is for what is built here"), "{}", did.stderr);
}

#[test]
fn options_are_read_back() {
    let t = Trees::new();
    t.ends(&["--build-option", "debug=true", "--build-option", "CONFIG_HVM=n"], 0, &["1 options set"]);
    t.ends(
        &["--build-option", "extra-version=.5-mine"],
        0,
        &["boot/xen.gz -> xen-4.17.5-mine.gz", "declared 4.17.5-mine"],
    );
    t.ends(
        &["--build-option", "CONFIG_SHADOW_PAGING=y"],
        2,
        &["did not take SHADOW_PAGING=y", "depends on PV", "xen/Kconfig:7"],
    );
    t.ends(&["--build-option", "CONFIG_HWM=y"], 2, &["no option of that name, did you mean HVM?"]);
    t.ends(&["--build-option", "flask=true"], 2, &["xen.options.flask", "XSM"]);
    t.ends(&["--build-option", "efi=true"], 3, &["no xen.efi came of it"]);
    t.ends(&["--build-option", "debug=maybe"], 2, &["expected true or false"]);
    t.ends(&["--build-option", "extra-version=$(x)"], 2, &["cannot be an extra version"]);
    let fragment = t.bench.file("fragment", "# CONFIG_HVM is not set\nCONFIG_DEBUG=y\n");
    t.ends(&["--build-option", &format!("kconfig={fragment}")], 0, &["1 options set"]);
}
