//! Advisories of a feed held against builds. Everything here is made up, the advisories numbered from 90000; only the dates of branch 4.20 and
//! what Debian's Xen is are real.

use crate::bench::{Bench, boots, fake};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use xenlab_tests::Did;

/// A file in a tree, of lines that a fix can find again.
const CODE: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\ntwelve\n";

/// A patch that puts a word behind a line of `xen/NAME`.
fn patch(name: &str, before: &str, line: &str, after: &str, word: &str) -> String {
    let at = CODE.lines().position(|l| l == before).map_or(1, |n| n + 1);
    format!(
        "Subject: a fix that is made up\n\n--- a/xen/{name}\n+++ b/xen/{name}\n@@ -{at},3 +{at},3 @@\n {before}\n-{line}\n+{line} {word}\n {after}\n"
    )
}

struct Feed {
    bench: Bench,
    advisories: Vec<Value>,
}

impl Feed {
    /// A tree of Xen 4.20.1 and an empty feed.
    fn new() -> Feed {
        let bench = Bench::with_store();
        fs::create_dir_all(bench.path("tree/xen")).expect("a folder");
        fs::create_dir_all(bench.path("feed")).expect("a folder");
        let me = Feed { bench, advisories: Vec::new() };
        me.write("tree/xen/Makefile", "export XEN_VERSION = 4\nexport XEN_SUBVERSION = 20\nexport XEN_EXTRAVERSION ?= .1$(XEN_VENDORVERSION)\n");
        for name in ["a.c", "b.c"] {
            me.write(&format!("tree/xen/{name}"), CODE);
        }
        me
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.bench.path(name);
        fs::write(&path, text).expect("a file of one's own");
        path
    }

    /// An advisory with patches for a branch, after others.
    fn advisory(&mut self, xsa: u32, branch: &str, patches: &[(&str, String)], prereqs: &[u32]) {
        let names: Vec<String> = patches.iter().map(|(name, _)| format!("xsa{xsa}-{name}")).collect();
        for (name, (_, text)) in names.iter().zip(patches) {
            self.write(&format!("feed/{name}"), text);
        }
        let recipe = json!({"StableRef": "0", "Prereqs": prereqs, "Patches": names});
        let meta =
            json!({"XSA": xsa, "Recipes": {branch: {"XenVersion": branch, "Recipes": {"xen": recipe}}}});
        self.write(&format!("feed/xsa{xsa}.meta"), &meta.to_string());
        self.named(xsa, "2025-09-09T12:00:00Z");
    }

    fn named(&mut self, xsa: u32, public: &str) {
        self.advisories
            .push(json!({"xsa": xsa, "title": format!("made up, {xsa}"), "public_time": public, "cve": []}));
        self.write("feed/xsa.json", &json!([{"xsas": self.advisories}]).to_string());
    }

    fn command(&self, spec: &str, more: &[&str]) -> Command {
        let feed = self.bench.path("feed").display().to_string();
        let mut args = vec!["xsa", "--feed", &feed, "--offline", spec];
        args.extend(more);
        self.bench.command(args)
    }

    fn did(&self, spec: &str, more: &[&str]) -> Did {
        xenlab_tests::finish(self.command(spec, more))
    }

    fn tree(&self) -> String {
        format!("source:{}", self.bench.path("tree").display())
    }

    /// How each stands, `90001 open` and so on, and the exit code.
    fn stands(&self, spec: &str, more: &[&str]) -> (Vec<String>, Option<i32>) {
        let did = self.did(spec, &[&["--json"], more].concat());
        let report: Value =
            serde_json::from_str(&did.stdout).unwrap_or_else(|e| panic!("{e}: {}", did.stderr));
        let line = |l: &Value| format!("{} {}", l["xsa"], l["standing"].as_str().unwrap_or("?"));
        let mut lines: Vec<String> = report["lines"].as_array().into_iter().flatten().map(line).collect();
        lines.sort();
        (lines, did.code)
    }

    fn git(&self, args: &[&str]) {
        let tree = self.bench.path("tree");
        let mut git = Command::new("git");
        git.arg("-C").arg(&tree).args([
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.org",
            "-c",
            "init.defaultBranch=master",
        ]);
        git.args(args).env_remove("GIT_DIR").env("HOME", &tree);
        let output = git.output().expect("git");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn lines(all: &[&str]) -> Vec<String> {
    all.iter().map(|l| (*l).to_owned()).collect()
}

/// Each standing that a source can show, and each patch of the user's told by name.
#[test]
fn patches_on_a_source() {
    let mut feed = Feed::new();
    let fix = |word: &str| patch("a.c", "one", "two", "three", word);
    feed.write("tree/xen/a.c", &CODE.replace("two", "two in"));
    feed.advisory(90001, "4.20", &[("4.20.patch", fix("in"))], &[]);
    let open = patch("b.c", "one", "two", "three", "out");
    feed.advisory(90002, "4.20", &[("4.20.patch", open.clone())], &[]);
    // The second of a series is there, and so is the first of another.
    feed.write("tree/xen/b.c", &CODE.replace("seven", "seven in"));
    let (first, second) =
        (patch("b.c", "four", "five", "six", "in"), patch("b.c", "six", "seven", "eight", "in"));
    feed.advisory(90003, "4.20", &[("1.patch", first), ("2.patch", second)], &[]);
    feed.advisory(90004, "4.20", &[("4.20.patch", patch("gone.c", "one", "two", "three", "in"))], &[]);
    // Made on top of one that is not there.
    let upon = patch("b.c", "one", "two out", "three", "more");
    feed.advisory(90005, "4.20", &[("4.20.patch", upon)], &[90002]);
    feed.advisory(90006, "4.21", &[("4.21.patch", open.clone())], &[]);
    feed.named(90007, "2020-01-01T00:00:00Z");
    let tree = feed.tree();
    let expected = lines(&[
        "90001 contained",
        "90002 open",
        "90003 open",
        "90004 unknown",
        "90005 open",
        "90006 not-affected",
        "90007 older",
    ]);
    assert_eq!(feed.stands(&tree, &[]), (expected, Some(1)));
    let did = feed.did(&tree, &[]);
    for wanted in [
        "5 advisories touch Xen 4.20: 3 open, 1 unknown, 1 contained",
        "the source has xsa90003-2.patch, but xsa90003-1.patch would still apply to it",
        "xsa90004-4.20.patch can neither be applied to the source nor taken back from it",
        "security support until 2030-03-05 (SUPPORT.md of stable-4.20",
        "contained: XSA-90001",
    ] {
        assert!(did.stdout.contains(wanted), "{wanted}: {}{}", did.stdout, did.stderr);
    }
    // With the fix as a patch of one's own; and with one that undoes what is there.
    let mine = feed.write("mine.patch", &open).display().to_string();
    let undo = patch("a.c", "one", "two in", "three", "").replace("two in \n", "two\n");
    let undo = feed.write("undo.patch", &undo).display().to_string();
    let (all, code) = feed.stands(&tree, &["--patch", &mine, "--patch", &undo]);
    assert_eq!((all[0].as_str(), all[1].as_str(), code), ("90001 open", "90002 patched", Some(1)));
    let did = feed.did(&tree, &["--patch", &mine, "--patch", &undo]);
    assert!(
        did.stdout.contains("by mine.patch") && did.stdout.contains("undo.patch undoes that"),
        "{}",
        did.stdout
    );
    feed.bench.clean();
}

/// What the code does not tell any more the history does, if it has the whole fix and did not take it back.
#[test]
fn histories() {
    let mut feed = Feed::new();
    feed.advisory(90001, "4.20", &[("1.patch", patch("gone.c", "one", "two", "three", "in"))], &[]);
    let tree = feed.tree();
    feed.git(&["init", "-q"]);
    feed.git(&["add", "."]);
    let commit = |message: &str| feed.git(&["commit", "-q", "--allow-empty", "-m", message]);
    commit("x86: needed since XSA-90001\n\nNothing but a word on XSA-90001.");
    assert_eq!(feed.stands(&tree, &[]), (lines(&["90001 unknown"]), Some(1)), "speaking of it is no fix");
    assert_eq!(feed.stands(&tree, &["--allow-unknown"]).1, Some(0));
    assert_eq!(feed.stands(&tree, &["--allow-unknown=90001"]).1, Some(0));
    assert_eq!(feed.stands(&tree, &["--allow-unknown=90002"]).1, Some(1));
    feed.write("tree/xen/b.c", "fixed\n");
    feed.git(&["add", "."]);
    commit("x86: a fix\n\nThis is XSA-90001 / CVE-2025-0.");
    assert_eq!(feed.stands(&tree, &[]), (lines(&["90001 contained"]), Some(0)));
    // The same history for a source that is none itself.
    let bare = feed.bench.path("copy");
    fs::create_dir_all(bare.join("xen")).expect("a folder");
    fs::copy(feed.bench.path("tree/xen/Makefile"), bare.join("xen/Makefile")).expect("a copy");
    let (copy, clone) = (format!("source:{}", bare.display()), feed.bench.path("tree").display().to_string());
    assert_eq!(feed.stands(&copy, &[]).0, lines(&["90001 unknown"]));
    let did = feed.did(&copy, &["--history", &clone]);
    assert_eq!(did.code, Some(2), "{}", did.stdout);
    assert!(did.stderr.contains("it has no RELEASE-4.20.1, which source:"), "{}", did.stderr);
    feed.git(&["tag", "RELEASE-4.20.1"]);
    assert_eq!(feed.stands(&copy, &["--history", &clone]), (lines(&["90001 contained"]), Some(0)));
    feed.git(&["revert", "--no-edit", "HEAD"]);
    let did = feed.did(&tree, &[]);
    assert_eq!(did.code, Some(1), "{}", did.stdout);
    assert!(did.stdout.contains("reverted since"), "{}", did.stdout);
}

/// Patches that the code does not show are commits of its history, though these do not name the advisory: by title and change, both.
#[test]
fn patches_as_commits() {
    let mut feed = Feed::new();
    let titled = |title: &str, text: String| text.replace("a fix that is made up", title);
    let first = titled("[PATCH 1/2] x86: a first\n part", patch("a.c", "one", "two", "three", "in"));
    let second = titled("x86: a second part", patch("a.c", "six", "seven", "eight", "in"));
    feed.advisory(90001, "4.20", &[("1.patch", first), ("2.patch", second)], &[]);
    let (tree, repo) = (feed.tree(), feed.bench.path("tree"));
    let said = |more: &[&str], standing: &str, wanted: &str| {
        let did = feed.did(&tree, &[&["--all"], more].concat());
        let line = format!("{standing}  XSA-90001");
        assert!(
            did.stdout.contains(&line) && did.stdout.contains(wanted),
            "{wanted}: {}{}",
            did.stdout,
            did.stderr
        );
    };
    let commit = |message: &str| {
        feed.git(&["add", "."]);
        feed.git(&["commit", "-q", "-m", message]);
    };
    let change = |from: &str, to: &str| {
        let path = repo.join("xen/a.c");
        let text = fs::read_to_string(&path).expect("a file of one's own");
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).expect("a file of one's own");
    };
    feed.git(&["init", "-q"]);
    // Other lines stand around what the patches change.
    change("one\n", "uno\n");
    change("eight\n", "otto\n");
    commit("x86: a first part of something else");
    said(
        &[],
        "unknown",
        "; the history has none of its 2 patches as commits: xsa90001-1.patch (no commit has its title)",
    );
    change("two\n", "two in\n");
    commit("x86: a first part");
    said(
        &[],
        "unknown",
        "; the history has 1 of its 2 patches as commits, not xsa90001-2.patch (no commit has its title)",
    );
    change("seven\n", "seven out\n");
    commit("x86: a second part");
    said(&[], "unknown", "1 of its 2 patches as commits, not xsa90001-2.patch (commit ");
    said(&[], "unknown", " has its title and another change)");
    change("seven out\n", "seven\n");
    commit("x86: another try");
    change("seven\n", "seven in\n");
    commit("x86: a second part");
    said(&[], "contained", "the history has each of its 2 patches as a commit: 2 commits, ");
    // What is changed after them may undo them, whether it lies in the tree or is a patch of the user's.
    let mine = feed.write("mine.patch", &patch("a.c", "nine", "ten", "eleven", "mine")).display().to_string();
    let other =
        feed.write("other.patch", &patch("b.c", "nine", "ten", "eleven", "mine")).display().to_string();
    said(&["--patch", &mine], "unknown", ", but their files are changed by mine.patch");
    said(&["--patch", &other], "contained", "each of its 2 patches");
    change("ten\n", "ten times\n");
    said(&[], "unknown", ", but not as the history has it is xen/a.c");
    let of = |rev: &str| feed.stands(&format!("{tree}@{rev}"), &[]);
    assert_eq!(of("HEAD"), (lines(&["90001 contained"]), Some(0)), "a commit is as it is");
    assert_eq!(of("HEAD~1"), (lines(&["90001 unknown"]), Some(1)));
    change("ten times\n", "ten\n");
    said(&[], "contained", "each of its 2 patches");
    feed.git(&["revert", "--no-edit", "HEAD"]);
    said(&[], "unknown", "1 of its 2 patches as commits, not xsa90001-2.patch (commit ");
    said(&[], "unknown", " has its title and was reverted)");
    feed.git(&["revert", "--no-edit", "HEAD~4"]);
    said(&[], "unknown", "none of its 2 patches as commits: xsa90001-1.patch (commit ");
    said(&[], "unknown", " has its title and was reverted)");
    feed.bench.clean();
}

/// A build without a source: by its branch and its release.
#[test]
fn a_build_without_a_source() {
    let mut feed = Feed::new();
    feed.advisory(90001, "4.17", &[("1.patch", patch("a.c", "one", "two", "three", "in"))], &[]);
    feed.advisory(90002, "4.20", &[("1.patch", patch("a.c", "one", "two", "three", "in"))], &[]);
    let (all, code) = feed.stands("debian:bookworm", &[]);
    assert_eq!((all, code), (lines(&["90001 unknown", "90002 not-affected"]), Some(1)));
    let did = feed.did("debian:bookworm", &["--markdown"]);
    assert!(
        did.stdout.starts_with("**1 advisories touch Xen 4.17: 1 unknown.** `debian:bookworm`"),
        "{}",
        did.stdout
    );
    assert!(did.stdout.contains("the build's source is not at hand"), "{}", did.stdout);
}

/// Bad input is told with its place, and nothing is judged.
#[test]
fn feeds_that_are_none() {
    let feed = Feed::new();
    let refused = |spec: &str, more: &[&str], wanted: &str| {
        let did = feed.did(spec, more);
        assert_eq!(did.code, Some(2), "{}{}", did.stdout, did.stderr);
        assert!(did.stderr.contains(wanted), "{wanted}: {}", did.stderr);
    };
    let tree = feed.tree();
    refused(&tree, &[], "it is to be a folder with xsa.json");
    feed.write("feed/xsa.json", "[{\"xsas\": [{}]}]");
    refused(&tree, &[], "xsa.json: [0].xsas[0]: `xsa` is no number");
    feed.write("feed/xsa.json", "[{\"xsas\": [{\"xsa\": 90001}]}]");
    feed.write("feed/xsa90001.meta", "{");
    refused(&tree, &[], "xsa90001.meta: EOF");
    let outside = r#"{"Recipes": {"4.20": {"Recipes": {"xen": {"Patches": ["../tree/xen/a.c"]}}}}}"#;
    feed.write("feed/xsa90001.meta", outside);
    refused(&tree, &[], "a recipe names ../tree/xen/a.c, which is not in the feed");
    fs::remove_file(feed.bench.path("feed/xsa90001.meta")).expect("a file of one's own");
    refused("source:/nonexistent", &[], "there is no /nonexistent");
    feed.bench.clean();
}

/// A bump fails by an open advisory and by metadata that lies, and says which; the two points are done.
#[test]
fn a_bump_with_a_feed_and_a_package() {
    let mut feed = Feed::new();
    feed.named(90001, "2020-01-01T00:00:00Z");
    let nixpkgs = feed.bench.path("nixpkgs");
    fs::create_dir(&nixpkgs).expect("a folder");
    let package = |branch: &str, file: &str| {
        let text = format!(
            "{{ system, config, overlays }}: {{ xen = {{ version = \"4.17.7\"; efi = \"boot/{file}\"; meta = {{ branch = \"{branch}\"; \
             description = \"made up\"; longDescription = \"has `{file}`\"; }}; }}; }}\n"
        );
        feed.write("nixpkgs/default.nix", &text);
    };
    let qemu = feed.bench.qemu("qemu-bump", json!(boots()));
    let scenario = feed.bench.file("bump.yaml", &fake("  - phase: dom0-ready\n"));
    let bump = |more: &[&str]| {
        let (dir, packages) = (feed.bench.path("feed").display().to_string(), nixpkgs.display().to_string());
        let mut args = vec![
            "bump",
            "debian:bookworm",
            "debian:bookworm",
            "--arch",
            "x86_64",
            "--offline",
            "--no-control",
        ];
        args.extend(["--qemu", &qemu, "--scenario", &scenario, "--feed", &dir, "--nixpkgs", &packages]);
        args.extend(more);
        let mut command = feed.bench.command(args);
        command.arg("--report").arg(feed.bench.report());
        xenlab_tests::finish(command)
    };
    package("4.17", "xen-4.17-amd64.efi");
    let did = bump(&[]);
    assert_eq!(did.code, Some(0), "{}{}", did.stdout, did.stderr);
    assert!(
        did.stdout.contains("- [x] 12. Metadata: version 4.17.7, as the build's; branch 4.17"),
        "{}",
        did.stdout
    );
    assert!(did.stdout.contains("- [x] 13. XSAs:"), "{}", did.stdout);
    package("4.16", "xen-4.16.efi");
    let did = bump(&["--recorded"]);
    assert_eq!(did.code, Some(1), "{}{}", did.stdout, did.stderr);
    for wanted in [
        "12. Metadata: **fails**: meta.branch is 4.16",
        "longDescription names xen-4.16.efi",
        "efi names xen-4.16.efi",
    ] {
        assert!(did.stdout.contains(wanted), "{wanted}: {}", did.stdout);
    }
    assert!(did.stdout.contains("The new Xen does not hold point 12 of the checklist"), "{}", did.stdout);
    feed.write("nixpkgs/default.nix", "{ system, config, overlays }: { }\n");
    let did = bump(&["--recorded"]);
    assert_eq!(did.code, Some(2), "{}", did.stdout);
    assert!(
        did.stderr.contains("xen of ") && did.stderr.contains("attribute 'xen' missing"),
        "{}",
        did.stderr
    );
}
