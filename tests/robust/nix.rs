//! A Xen in a Nix store: outputs and closure by the real `nix-store`, and a dom0 whose tools run with their own libraries. The store is made of
//! Debian's files, which are told to find each other there as Nix's do: its hashes are made up.

use crate::bench::{Bench, user_store};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use xenlab_tests::{Did, finish};

/// Lays out the store `$1` of Xen's files below `$2` and the libraries in the userland's image `$3`: a C library, what Xen's programs need
/// besides, and Xen's own outputs. `out` and `boot` are of one derivation, which is not there; `stray` has the same name and is of another.
const MAKE: &str = r#"
set -eu
root=$1 xen=$2 userland=$3
arch=x86_64-linux-gnu
store=$root/nix/store
a=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
libc=/nix/store/1$a-glibc-2 deps=/nix/store/2$a-deps-1
out=/nix/store/3$a-xen-4.17.7 boot=/nix/store/4$a-xen-4.17.7-boot
stray=/nix/store/5$a-xen-4.17.7-dev man=/nix/store/6$a-xen-4.17.7-man
mkdir -p "$root/nix/var/nix" "$root$libc/lib" "$root$deps/lib" "$root$out/lib" "$root$out/bin" "$root$out/etc" "$root$boot" "$root$stray" "$root$man"
unsquashfs -q -n -f -d "$root/userland" "$userland" "usr/lib/$arch" >/dev/null
from=$root/userland/usr/lib/$arch

cp -L "$xen"/usr/lib/xen-4.17/bin/* "$xen"/usr/sbin/xen[a-z]* "$xen"/usr/bin/xenstore* "$root$out/bin/" 2>/dev/null || true
find "$xen" \( -name 'libxen*.so.*' -o -name 'libxl*.so.*' \) -exec cp -an {} "$root$out/lib/" \;
cp -a "$xen/etc/xen" "$root$out/etc/"
cp -a "$xen/boot" "$root$boot/"
elf() { readelf -h "$1" >/dev/null 2>&1; }
needed() { for f in "$@"; do elf "$f" && readelf -d "$f" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; done | sort -u; }
for lib in ld-linux-x86-64.so.2 libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1; do
	cp -L "$from/$lib" "$root$libc/lib/"
done
more=1
while [ $more = 1 ]; do
	more=0
	for lib in $(needed "$root$out"/bin/* "$root$out"/lib/* "$root$deps"/lib/*); do
		[ -e "$root$out/lib/$lib" ] || [ -e "$root$libc/lib/$lib" ] || [ -e "$root$deps/lib/$lib" ] || {
			cp -L "$from/$lib" "$root$deps/lib/"
			more=1
		}
	done
done
rm -rf "$root/userland"
for f in "$root$deps"/lib/* "$root$out"/bin/* "$root$out"/lib/*; do
	{ [ ! -L "$f" ] && elf "$f"; } || continue
	patchelf --set-rpath "$out/lib:$deps/lib:$libc/lib" "$f"
	if readelf -l "$f" | grep -q interpreter; then
		patchelf --set-interpreter "$libc/lib/ld-linux-x86-64.so.2" "$f"
	fi
done

# What `nix-store --dump-db` writes: path, hash, size, derivation, and what it needs.
known() {
	path=$1 drv=$2
	shift 2
	nix-store --dump "$root$path" >"$root/nar"
	printf '%s\nsha256:%s\n%s\n%s\n%s\n' "$path" "$(sha256sum <"$root/nar" | cut -d' ' -f1)" "$(wc -c <"$root/nar")" "$drv" $#
	for needs in "$@"; do echo "$needs"; done
}
mine=/nix/store/7$a-xen-4.17.7.drv
{
	known "$libc" "" "$libc"
	known "$deps" "" "$deps" "$libc"
	known "$out" "$mine" "$out" "$deps" "$libc"
	known "$boot" "$mine"
	known "$man" "$mine"
	known "$stray" "/nix/store/8$a-xen-4.17.7.drv"
} >"$root/registration"
nix-store --store "$root" --load-db <"$root/registration"
rm "$root/nar" "$root/registration"
"#;

/// What a case is made of, by its role, as its record has it.
fn artefact(bench: &Bench, role: &str) -> PathBuf {
    let found = std::fs::read_dir(bench.report().join("bundles")).expect("bundles").flatten();
    let inputs = found.map(|e| e.path().join("inputs.json")).find(|p| p.is_file()).expect("inputs");
    let inputs: Value = serde_json::from_slice(&std::fs::read(inputs).expect("read")).expect("JSON");
    let artefacts = inputs["artefacts"].as_array().expect("artefacts").iter();
    let path = artefacts.filter(|a| a["role"] == role).find_map(|a| a["path"].as_str());
    path.expect("the role").into()
}

/// A store with Debian's Xen in it; the path of its output is returned as it is on this machine.
fn store(bench: &Bench) -> PathBuf {
    let did = bench.run(
        "xenlab: 1\nname: parts\narch: x86_64\nxen: debian:bookworm\nmachine: {start: power-on}\nsteps:\n  - phase: xen\n",
        &[],
    );
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    let image = artefact(bench, "xen");
    let xen = image.ancestors().nth(2).expect("a root").to_owned();
    let root = bench.path("nix-root");
    let made = Command::new("sh")
        .args(["-c", MAKE, "make"])
        .args([&root, &xen, &artefact(bench, "userland")])
        .output()
        .expect("sh");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    root.join("nix/store").join(format!("3{}-xen-4.17.7", "a".repeat(31)))
}

fn did(bench: &Bench, args: &[&str]) -> Did {
    finish(bench.command(args.iter().copied()))
}

#[test]
fn tools_of_a_nix_store_run_with_their_own_libraries() {
    user_store();
    let bench = Bench::new();
    let out = store(&bench);
    let spec = format!("nix:{}", out.display());

    // By a link as `nix-build` leaves it, too: the one beside it is of the same derivation, and is found by that already.
    let link = bench.path("result");
    std::os::unix::fs::symlink(&out, &link).expect("a link");
    let did = did(&bench, &["inspect", &format!("nix:{}", link.display())]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    for part in [
        "-xen-4.17.7-boot/boot/xen-4.17-amd64.gz",
        "-xen-4.17.7-boot/boot/xen-4.17-amd64.efi",
        "4.17.7 by the name of",
    ] {
        assert!(did.stdout.contains(part), "{part}: {}", did.stdout);
    }
    // Of the same name and of another derivation; and what nobody needs.
    assert!(!did.stdout.contains("-xen-4.17.7-dev") && !did.stdout.contains("-man"), "{}", did.stdout);

    let scenario = format!(
        "\
xenlab: 1
name: nix
arch: x86_64
machine: {{start: power-on}}
xen: {{build: '{spec}', args: [bootscrub=0, spec-ctrl=no]}}
steps:
  - phase: dom0-ready
  - under-xen: {{}}
  - xl-info: {{}}
  - xenstored: {{daemon: oxenstored, self-test: true}}
  - run:
      script: |
        for name in oxenstored xenconsoled; do
          sed -n 's/.* \\(\\/.*\\)/\\1/p' /proc/$(pidof $name)/maps | sort -u
        done
      stdout: {{matches: '(?m)^/nix/store/1a+-glibc-2/lib/libc\\.so\\.6$', contains: -deps-1/lib/}}
  - run:
      # Nothing of theirs comes from elsewhere.
      script: grep -h '\\.so' /proc/$(pidof oxenstored)/maps /proc/$(pidof xenconsoled)/maps | grep -vc /nix/store/
      exit: 1
      stdout: '0'
"
    );
    let did = bench.run(&scenario, &[]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    bench.clean();
}

/// The functions of nixpkgs that `nix/xen-test.nix` takes, as far as it uses them: a derivation is its script and its attributes.
const NIXPKGS: &str = r#"
let
  lib = rec {
    inherit (builtins) concatMap elem filter;
    concatMapStrings = f: list: builtins.concatStringsSep "" (map f list);
    concatMapStringsSep = by: f: list: builtins.concatStringsSep by (map f list);
    importJSON = path: builtins.fromJSON (builtins.readFile path);
    escapeShellArg = text: "'${text}'";
  };
  mkXenTest = import (root + "/nix/xen-test.nix") {
    inherit lib;
    runCommand = name: attrs: script: attrs // { inherit name script; };
    fetchurl = { url, sha256 }: "${url} ${sha256}";
    closureInfo = { rootPaths }: "${toString rootPaths}";
    e2fsprogs = "e2fsprogs"; nix = "nix"; pkg-config = "pkg-config"; xenlab = "xenlab";
  };
  made = mkXenTest {
    xen = { version = "4.17.7"; outputs = [ "out" "man" "boot" ]; inherit out; boot = "BOOT"; man = "MAN"; };
    inherit scenario;
  };
in { inherit (made) name script packages closure; }
"#;

/// What `mkXenTest` makes of a Xen, evaluated; its script is then run as a builder would run it: no HOME, no network, a store of its own that is
/// empty, packages by their hashes.
#[test]
fn a_derivation_boots_it_with_what_it_declares_and_nothing_else() {
    let store_of_user = user_store();
    let bench = Bench::new();
    let out = store(&bench);
    let scenario = bench.file(
        "derived.yaml",
        "xenlab: 1\nname: derived\narch: x86_64\nxen: {build: 'debian:bookworm', args: [bootscrub=0, spec-ctrl=no]}\n\
         machine: {start: power-on}\nsteps:\n  - phase: dom0-ready\n  - under-xen: {}\n  - xl-info: {}\n",
    );
    let evaluated = Command::new("nix-instantiate")
        .args(["--eval", "--strict", "--json", "--store", "dummy://"])
        .args(["--argstr", "root", &xenlab_tests::root().canonicalize().expect("root").display().to_string()])
        .args(["--argstr", "out", &out.display().to_string(), "--argstr", "scenario", &scenario])
        .args(["--expr", &format!("{{ root, out, scenario }}: {NIXPKGS}")])
        .output()
        .expect("nix-instantiate");
    assert!(evaluated.status.success(), "{}", String::from_utf8_lossy(&evaluated.stderr));
    let made: Value = serde_json::from_slice(&evaluated.stdout).expect("JSON");
    let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{name}: {made}")).to_owned();
    assert_eq!(text("name"), "xen-test-4.17.7-x86_64");
    assert_eq!(
        text("closure"),
        format!("{} BOOT", out.display()),
        "outputs that nobody looks at are left out"
    );

    // Where the stand-in names an address, the file that would lie there.
    let mut packages = String::new();
    let entries = crate::bench::entries(store_of_user, "deb");
    for line in text("packages").lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let [sha256, url, _] = parts[..] else { panic!("{line}") };
        let name = url.rsplit('/').next().expect("a name");
        let found = entries.iter().find_map(|(_, record)| {
            let path = store_of_user.join("content").join(record["digest"].as_str()?).join(name);
            path.is_file().then_some(path)
        });
        // Firmware is of no use to this scenario, and may never have been fetched here.
        if let Some(path) = found {
            packages.push_str(&format!("{sha256} {}\n", path.display()));
        }
    }
    let (home, closure) = (bench.path("build"), bench.path("closure"));
    std::fs::create_dir(&home).expect("a folder");
    std::fs::create_dir(&closure).expect("a folder");
    // The store that this one lies in has its own database.
    std::fs::write(closure.join("registration"), "").expect("written");
    std::fs::write(bench.path("packages"), packages).expect("written");
    std::os::unix::fs::symlink(xenlab_tests::lab(), home.join("xenlab")).expect("a link");
    let path = std::env::var("PATH").unwrap_or_default();
    let built = bench.path("out");
    let did = Command::new("sh")
        .args(["-euc", &text("script")])
        .env_clear()
        .env("PATH", format!("{}:{path}", home.display()))
        .env("TMPDIR", &home)
        .env("NIX_STORE_DIR", home.join("nix-store"))
        .env("closure", &closure)
        .env("packagesPath", bench.path("packages"))
        .env("out", &built)
        .current_dir(&home)
        .output()
        .expect("sh");
    let said = String::from_utf8_lossy(&did.stderr).into_owned() + &String::from_utf8_lossy(&did.stdout);
    assert!(did.status.success(), "{said}");
    for name in ["junit.xml", "summary.md", "events.jsonl"] {
        assert!(built.join(name).is_file(), "{name}: {said}");
    }
    assert!(std::fs::read_to_string(built.join("junit.xml")).expect("read").contains("failures=\"0\""));
}

#[test]
fn what_is_no_store_path_is_told() {
    let bench = Bench::new();
    let elsewhere = bench.path("xen");
    std::fs::create_dir_all(&elsewhere).expect("a folder");
    let told = |path: &Path| {
        let did = did(&bench, &["inspect", &format!("nix:{}", path.display())]);
        assert_eq!(did.code, Some(2), "{}", did.stderr);
        did.stderr
    };
    assert!(told(&elsewhere).contains("expected a path in a Nix store"));
    assert!(told(&bench.path("gone")).contains("there is no"));
    // It looks like one, and its store does not know it.
    let unknown = bench.path("root/nix/store").join(format!("{}-xen-1", "b".repeat(32)));
    std::fs::create_dir_all(&unknown).expect("a folder");
    std::fs::create_dir_all(bench.path("root/nix/var/nix")).expect("a folder");
    let said = told(&unknown);
    assert!(
        said.contains("nix-store does not know /nix/store/bbbb") && said.contains("is not valid"),
        "{said}"
    );
}
