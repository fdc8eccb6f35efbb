//! The tools of a Xen built from source: by the small tree of [`build`](crate::build), with a configure and an `install-tools` of the
//! shape of Xen's own, whose xl is Debian's.

use crate::bench::{boots, entries, fake, write_executable};
use crate::build::Trees;
use std::fs;
use std::path::{Path, PathBuf};

/// As Xen's own: with what it is told, `config/Tools.mk` comes of it.
const CONFIGURE: &str = r#"#!/bin/sh
test -f xen/common/kernel.c || { echo "configure: error: cannot find sources" >&2; exit 1; }
echo "configured with $*"
test ! -e tools/LACKS.in || { echo "checking for yajl... no"; echo "configure: error: Could not find yajl" >&2; exit 1; }
mkdir -p config
touch config/Tools.mk config/Paths.mk
"#;

const MAKEFILE: &str = r#".PHONY: install-tools
tools/xl.o: tools/xl.c xen/include/public/xen.h
	@echo "  CC      $@"
	@sh tools/cc.sh $< $@
install-tools: tools/xl.o
	sh tools/install.sh $(DESTDIR)
"#;

/// What `install-tools` would leave: of this build's own, and in a folder of its own.
const INSTALL: &str = r#"test -e tools/NOTHING && exit 0
mkdir -p $1/usr/local/sbin $1/usr/local/lib/pkgconfig $1/usr/local/include
cp -L tools/xl $1/usr/local/sbin/xl
cp -L tools/libxenctrl.so.4.17 $1/usr/local/lib/
printf 'prefix=/usr/local\nlibdir=${prefix}/lib\nName: x\nVersion: 4.17.0\n' > $1/usr/local/lib/pkgconfig/xencontrol.pc
cat tools/xl.o > $1/usr/local/sbin/made-of
"#;

/// It makes of what it is to read a configure that is the same.
const AUTOCONF: &str = r#"#!/bin/sh
test "$1" != --version || { echo "autoconf (GNU Autoconf) 2.71"; exit; }
cp configure.ac configure
"#;

/// A compiler whose preprocessor finds every header but those that a file names.
const GCC: &str = r#"#!/bin/sh
case " $* " in *" -E "*)
	exec awk -v absent="@ABSENT@" 'BEGIN { while ((getline l < absent) > 0) a[l] = 1 }
	/__has_include/ { split($0, p, /[<>]/); h = p[2] } /^xenlab lacks/ && (h in a)' -;;
esac
exec @GCC@ "$@"
"#;

const TOOLS: &str = "the build of the tools of ";

fn trees() -> Trees {
    let t = Trees::new();
    let bin = t.bench.path("bin");
    let gcc = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|d| d.join("gcc"))
        .find(|p| p.is_file())
        .expect("a compiler");
    let script = GCC
        .replace("@GCC@", &gcc.display().to_string())
        .replace("@ABSENT@", &t.bench.path("absent").display().to_string());
    write_executable(&bin.join("gcc"), &script);
    for name in ["iasl", "perl", "pkg-config"] {
        write_executable(&bin.join(name), "#!/bin/sh\nexit 1\n");
    }
    let debian = debians(&t);
    let tree = t.tree();
    let put = |path: &str, text: &str| {
        let to = tree.join(path);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::write(to, text).expect("a file of one's own");
    };
    put("configure", CONFIGURE);
    put("tools/configure", "# json-c\n");
    put("Makefile", MAKEFILE);
    put("tools/install.sh", INSTALL);
    put("tools/cc.sh", &fs::read_to_string(t.xen("cc.sh")).expect("the compiler's part"));
    put("tools/xl.c", "one\ntwo\nthree\n");
    put("xen/include/public/xen.h", "x\n");
    for (name, from) in [("xl", &debian.0), ("libxenctrl.so.4.17", &debian.1)] {
        fs::copy(from, tree.join("tools").join(name)).expect("Debian's");
    }
    t
}

/// Debian's xl and libxenctrl.
fn debians(t: &Trees) -> (PathBuf, PathBuf) {
    let did =
        t.did(["inspect", "debian:bookworm", "--arch", "x86_64", "--json"]).expect(0).expect("Debian's");
    let all: serde_json::Value = serde_json::from_str(&did.stdout).expect("JSON");
    let tools = &all[0]["tools"];
    let root = Path::new(tools["root"].as_str().expect("a folder"));
    let inside = |p: &str| root.join(p.trim_start_matches('/'));
    let xl = inside(tools["programs"]["xl"].as_str().expect("xl"));
    let library = crate::bench::below(root)
        .into_iter()
        .find(|p| p.file_name().is_some_and(|n| n == "libxenctrl.so.4.17"))
        .expect("libxenctrl");
    (xl, library)
}

fn made(t: &Trees) -> usize {
    let store = t.bench.store.clone().expect("a store");
    let all = entries(&store, "xen-tools-built");
    all.iter().filter(|(_, record)| record.to_string().contains(&t.spec())).count()
}

#[test]
fn tools_are_built_beside_the_hypervisor_and_each_only_when_it_changed() {
    let t = trees();
    let before = t.snapshot();
    let said = t.ends(&[], 0, &["building the tools of ", "tools, from source:", "/usr/local/sbin"]);
    assert!(!said.contains("borrowed"), "{said}");
    assert_eq!(t.snapshot(), before, "the user's tree is only read");
    let log = t.log_of(TOOLS);
    assert!(log.contains("--disable-pvshim") && log.contains("--with-system-qemu="), "{log}");
    assert_eq!((t.made_of(TOOLS), made(&t)), (vec!["tools/xl.o".to_owned()], 1));
    // Of the hypervisor: nothing of the tools is looked at again.
    t.write("a.c", "changed\n");
    let said = t.ends(&[], 0, &["building source:"]);
    assert!(!said.contains("building the tools of ") && made(&t) == 1, "{said}");
    // Of the tools: the hypervisor stays as it is, and configure has nothing to do.
    let xl = t.tree().join("tools/xl.c");
    fs::write(&xl, "changed\n").expect("a file of one's own");
    let said = t.ends(&[], 0, &["building the tools of "]);
    assert!(!said.contains("building source:") && made(&t) == 2, "{said}");
    assert!(!t.log_of(TOOLS).contains("configured with"));
    assert_eq!(t.made_of(TOOLS), ["tools/xl.o"]);
    // Of both.
    fs::write(t.tree().join("xen/include/public/xen.h"), "y\n").expect("a file of one's own");
    t.ends(&[], 0, &["building the tools of ", "building source:"]);
    // A patch for the hypervisor is none of the tools'.
    let patch = |name: &str, file: &str| {
        t.bench
            .file(name, &format!("--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@ int f(void)\n-changed\n+patched\n"))
    };
    let said = t.ends(&["--patch", &patch("xen.patch", "xen/a.c")], 0, &["building source:"]);
    assert!(!said.contains("building the tools of "), "{said}");
    t.ends(&["--patch", &patch("tools.patch", "tools/xl.c")], 0, &["building the tools of "]);
    assert_eq!(t.made_of(TOOLS), ["tools/xl.o"]);
    t.ends(
        &["--patch", &patch("none.patch", "tools/cc.sh")],
        2,
        &["none.patch does not apply", "tools/cc.sh: hunk #1 does not apply"],
    );
    // As somebody else's tools, with nothing of the hypervisor built.
    t.write("a.c", "WRONG\n");
    let spec = t.spec();
    let did = t.did(["inspect", "debian:bookworm", "--tools", &spec, "--arch", "x86_64"]);
    let did = did.expect(0).expect("Debian's hypervisor with these tools");
    assert!(did.stdout.contains(&format!("tools, from {spec}\n")), "{}", did.stdout);
    // Borrowed where that is wanted.
    t.write("a.c", "changed\n");
    t.ends(&["--build-option", "tools=false"], 0, &["those of debian:bookworm are borrowed"]);
}

#[test]
fn a_tree_without_configure_has_autoconf_make_it() {
    let t = trees();
    for dir in [t.tree(), t.tree().join("tools")] {
        fs::rename(dir.join("configure"), dir.join("configure.ac")).expect("a file of one's own");
    }
    // There is none: its name, and Debian's tools where nobody asked for these.
    let few = t.programs_without(&["autoconf"]);
    let path = std::env::join_paths([t.bench.path("bin"), few]).expect("a search path");
    let spec = t.spec();
    let with_few = |more: &[&str]| {
        let mut args = vec!["inspect", &spec, "--arch", "x86_64"];
        args.extend(more);
        let mut command = t.command(args);
        command.env("PATH", &path);
        xenlab_tests::finish(command)
    };
    let did = with_few(&[]).expect(0).expect("Debian's tools");
    assert!(did.stderr.contains("`autoconf`"), "{}", did.stderr);
    assert!(did.stdout.contains("those of debian:bookworm are borrowed"), "{}", did.stdout);
    let did = with_few(&["--build-option", "tools=true"]).expect(3).expect("an Error of the host");
    assert!(did.stderr.contains("`autoconf`") && did.stderr.contains("host.tool-missing"), "{}", did.stderr);
    // There is one.
    for (name, text) in [("autoconf", AUTOCONF), ("autoheader", "#!/bin/sh\n")] {
        write_executable(&t.bench.path("bin").join(name), text);
    }
    let said = t.ends(&[], 0, &["tools, from source:"]);
    assert!(!said.contains("borrowed"), "{said}");
    assert!(t.log_of(TOOLS).contains("configured with"));
    // What it is made from changes: made anew, and run.
    let xl = t.tree().join("tools/xl.c");
    fs::write(&xl, "changed\n").expect("a file of one's own");
    t.ends(&[], 0, &["building the tools of "]);
    assert!(!t.log_of(TOOLS).contains("configured"));
    fs::write(t.tree().join("configure.ac"), CONFIGURE.replace("configured with", "again with"))
        .expect("a file of one's own");
    t.ends(&[], 0, &["building the tools of "]);
    assert!(t.log_of(TOOLS).contains("again with"));
    // The tree's own is left as it is.
    fs::write(t.tree().join("configure"), CONFIGURE).expect("a file of one's own");
    fs::write(t.tree().join("tools/configure"), "# json-c\n").expect("a file of one's own");
    t.ends(&[], 0, &["building the tools of "]);
    assert!(t.log_of(TOOLS).contains("configured with"));
    fs::write(t.tree().join("configure.ac"), "none\n").expect("a file of one's own");
    t.ends(&[], 0, &["building the tools of "]);
    assert!(!t.log_of(TOOLS).contains("autoconf"));
}

#[test]
fn tools_that_cannot_be_built() {
    let t = trees();
    // A file that does not compile.
    let xl = t.tree().join("tools/xl.c");
    fs::write(&xl, "WRONG\n").expect("a file of one's own");
    t.ends(&[], 1, &["build.compile", "the tools of source:", "tools/xl.c:3:5: error: 'WRONG' undeclared"]);
    // Judged, with the way round it.
    let scenario = fake("  - phase: dom0-ready\n").replace("debian:bookworm", &t.spec());
    let file = t.bench.file("scenario.yaml", &scenario);
    let report = t.bench.report().display().to_string();
    let qemu = t.bench.qemu("qemu", boots().into());
    let did = t.did(["run", &file, "--qemu", &qemu, "--report", &report]).expect(1).expect("a judged Fail");
    assert!(format!("{}{}", did.stdout, did.stderr).contains("--build-option tools=false"), "{}", did.stdout);
    assert_eq!(t.bench.verdict("fake")["cause"], "build.compile");
    t.did(["run", &file, "--qemu", &qemu, "--report", &report, "--build-option", "tools=false"])
        .expect(0)
        .expect("a pass with borrowed tools");
    fs::write(&xl, "right\n").expect("a file of one's own");
    // What configure does not find, it says itself.
    let lacks = t.tree().join("tools/LACKS.in");
    fs::write(&lacks, "").expect("a file of one's own");
    t.ends(&[], 1, &["build.compile", "configure: error: Could not find yajl"]);
    fs::remove_file(&lacks).expect("a file of one's own");
    // What the host lacks is told at once, and is no reason to have no boot, unless the tools were asked for.
    let absent = t.bench.file("absent", "uuid/uuid.h\nyajl/yajl_gen.h\njson-c/json.h\n");
    let lacking = "`uuid/uuid.h`, `yajl/yajl_gen.h`";
    t.ends(&[], 0, &["its tools are not built for x86_64", lacking, "those of debian:bookworm are borrowed"]);
    t.ends(&["--build-option", "tools=true"], 3, &[lacking, "host.tool-missing"]);
    // A tree that knows no json-c.
    fs::write(&absent, "yajl/yajl_gen.h\n").expect("a file of one's own");
    t.ends(&["--build-option", "tools=true"], 0, &[]);
    fs::write(t.tree().join("tools/configure"), "# yajl alone\n").expect("a file of one's own");
    t.ends(&["--build-option", "tools=true"], 3, &["`yajl/yajl_gen.h`", "host.tool-missing"]);
    fs::remove_file(&absent).expect("a file of one's own");
    // Nothing is installed.
    fs::write(t.tree().join("tools/NOTHING"), "").expect("a file of one's own");
    t.ends(&[], 2, &["bin/xl: the tree's `make install-tools` put none there"]);
    // There are none.
    fs::remove_dir_all(t.tree().join("tools")).expect("a folder of one's own");
    t.ends(&[], 0, &["those of debian:bookworm are borrowed"]);
    t.ends(
        &["--build-option", "tools=true"],
        2,
        &["tools/configure, or tools/configure.ac: its tools are asked for"],
    );
}
