//! `nixos:TOPLEVEL`: a NixOS system as a subject. Systems are made by the real `nix-build`: one that boots, of Debian's files, and many that
//! are wrong in one way each. With systemd, by every way of booting, it is `cargo xtask nixos`.

use crate::bench::{Bench, user_store};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use xenlab_tests::nixos::{Parts, nix_build, parts_scenario, writable};
use xenlab_tests::{Did, finish};

/// Systems of a few files that nothing can boot: `variants` is a list of JSON objects with `boot` (`boot.json`, in which `@out@` stands for the
/// system), `fstab` and `module`; each is left out where it is null.
const SYSTEMS: &str = r#"
{ variants }:
map (of: derivation {
  name = "nixos-system-wrong";
  system = "x86_64-linux";
  builder = "/bin/sh";
  PATH = "/usr/bin:/bin";
  inherit (of) boot fstab module files;
  args = [ "-euc" ''
    mkdir -p $out/etc/xenlab
    for file in $files; do echo "not a real one" >$out/$file; done
    [ -z "$boot" ] || printf %s "$boot" | sed "s:@out@:$out:g" >$out/boot.json
    [ -z "$fstab" ] || printf '%s\n' "$fstab" >$out/etc/fstab
    [ -z "$module" ] || echo "$module" >$out/etc/xenlab/module
  '' ];
}) (builtins.fromJSON variants)
"#;

fn boot_json() -> Value {
    json!({
        "org.nixos.bootspec.v1": {
            "system": "x86_64-linux", "label": "wrong in one way", "toplevel": "@out@", "init": "@out@/init",
            "kernel": "@out@/bzImage", "initrd": "@out@/initrd", "kernelParams": ["loglevel=4"]
        },
        "org.nixos.specialisation.v1": {},
        "org.xenproject.bootspec.v2": {
            "efiPath": "@out@/xen.efi", "multibootPath": "@out@/xen.gz", "params": [], "version": "4.20.1"
        }
    })
}

/// A system that is right but for what `change` does to it.
fn variant(change: &dyn Fn(&mut Value)) -> Value {
    let mut of = json!({
        "boot": boot_json(), "fstab": "/dev/disk/by-label/nixos / ext4 x-initrd.mount 0 1", "module": "1",
        "files": "init bzImage initrd xen.efi xen.gz"
    });
    change(&mut of);
    if of["boot"].is_object() {
        of["boot"] = Value::String(of["boot"].to_string());
    }
    of
}

const V1: &str = "org.nixos.bootspec.v1";
const XEN: &str = "org.xenproject.bootspec.v2";

fn rename(of: &mut Value, from: &str, to: &str) {
    let document = of["boot"].as_object_mut().expect("a document");
    let value = document.remove(from).expect("it has it");
    if !to.is_empty() {
        document.insert(to.to_owned(), value);
    }
}

fn remove(of: &mut Value, part: &str, field: &str) {
    assert!(of["boot"][part].as_object_mut().expect("a part").remove(field).is_some());
}

type Change = fn(&mut Value);

/// What is wrong with a system, and what is said of it.
const WRONG: &[(&str, Change)] = &[
    ("there is none: it is written since NixOS 23.05", |of| of["boot"] = "".into()),
    ("this is no NixOS system. What a package was built to is nix:PATH", |of| {
        of["boot"] = "".into();
        of["files"] = "bzImage".into();
    }),
    ("it is no JSON", |of| of["boot"] = "{".into()),
    ("this system has no Xen. Set `virtualisation.xen.enable = true`", |of| rename(of, XEN, "")),
    ("it has org.xenproject.bootspec.v3, and xenlab knows", |of| {
        rename(of, XEN, "org.xenproject.bootspec.v3");
    }),
    ("has no `org.nixos.bootspec.v1`, it has org.nixos.bootspec.v2", |of| {
        rename(of, V1, "org.nixos.bootspec.v2");
    }),
    ("`org.xenproject.bootspec.v2` has no `version`", |of| remove(of, XEN, "version")),
    ("`org.nixos.bootspec.v1` has no `kernelParams`", |of| remove(of, V1, "kernelParams")),
    ("`org.nixos.bootspec.v1.kernel` names", |of| of["boot"][V1]["kernel"] = "@out@/vmlinuz".into()),
    ("/xen-4.21.efi, and there is no such file", |of| {
        of["boot"][XEN]["efiPath"] = "@out@/xen-4.21.efi".into();
    }),
    ("which is not in the closure of the system", |of| {
        of["boot"][XEN]["multibootPath"] = format!("/nix/store/{}-xen/xen.gz", "b".repeat(32)).into();
    }),
    ("it is that of another system", |of| of["boot"][V1]["toplevel"] = "/nix/store/other".into()),
    ("this system is for aarch64, and x86_64 is to be booted", |of| {
        of["boot"][V1]["system"] = "aarch64-linux".into();
    }),
    ("so where its root is cannot be known", |of| of["fstab"] = "".into()),
    ("its root is btrfs", |of| of["fstab"] = "LABEL=nixos / btrfs defaults".into()),
    ("it wants LABEL=ESP (/boot), and a machine of xenlab's has no disk but the root's", |of| {
        of["fstab"] = "LABEL=nixos / ext4 defaults\nLABEL=ESP /boot vfat defaults".into();
    }),
    ("was built with version `9` of xenlab's NixOS module", |of| of["module"] = "9".into()),
];

fn systems(bench: &Bench, variants: &[Value]) -> (PathBuf, Vec<PathBuf>) {
    let root = bench.path("nix");
    let file = bench.file("systems.nix", SYSTEMS);
    let variants = Value::from(variants.to_vec()).to_string();
    let made = nix_build(&root, None, Path::new(&file), &["--argstr".into(), "variants".into(), variants]);
    (root, made)
}

fn did(bench: &Bench, args: &[&str]) -> Did {
    finish(bench.command(args.iter().copied()))
}

#[test]
fn what_is_wrong_with_a_system_is_told() {
    let bench = Bench::new();
    let mut variants: Vec<Value> = WRONG.iter().map(|(_, change)| variant(change)).collect();
    // Nothing is wrong with the description of these: the last has the first version of Xen's extension, and no module.
    variants.push(variant(&|_| {}));
    variants.push(variant(&|of| {
        rename(of, XEN, "");
        of["boot"]["org.xenproject.bootspec.v1"] =
            json!({"xen": "@out@/xen.efi", "xenParams": ["loglvl=all"]});
        of["module"] = "".into();
    }));
    let (root, made) = systems(&bench, &variants);
    assert_eq!(made.len(), variants.len());
    for ((says, _), path) in WRONG.iter().zip(&made) {
        let did = did(&bench, &["inspect", "--arch", "x86_64", &format!("nixos:{}", path.display())]);
        assert_eq!(did.code, Some(2), "{says}: {}{}", did.stdout, did.stderr);
        assert!(did.stderr.contains(says), "{says}: {}", did.stderr);
    }
    let [right, old] = &made[WRONG.len()..] else { panic!("two more") };
    let inspected = |path: &Path| {
        let did = did(&bench, &["inspect", "--arch", "x86_64", &format!("nixos:{}", path.display())]);
        // Its images are none, which is told as what it is.
        assert_eq!(did.code, Some(1), "{}", did.stderr);
        did.stdout
    };
    assert!(inspected(right).contains("4.20.1 by org.xenproject.bootspec.v2 of "));
    assert!(inspected(right).contains("ext4, by label nixos"));
    // Nobody declares a version there.
    let old_one = inspected(old);
    assert!(!old_one.contains("4.20.1") && old_one.contains("there is no way in"), "{old_one}");

    // As cases.
    let run = |path: &Path, phase: &str, more: &[&str]| {
        let scenario = format!(
            "xenlab: 1\nname: wrong\narch: x86_64\nxen: 'nixos:{}'\nsteps:\n  - phase: {phase}\n",
            path.display()
        );
        bench.run(&scenario, more)
    };
    let did = run(&made[3], "dom0-ready", &[]);
    assert_eq!(did.code, Some(2), "{}", did.stderr);
    // Nothing is judged: it is told where the scenario names it.
    assert!(did.stderr.contains("scenario.yaml:4:6: nixos:"), "{}", did.stderr);
    assert!(did.stderr.contains("this system has no Xen"), "{}", did.stderr);
    let caused = |path: &Path, more: &[&str], cause: &str, says: &str| {
        let did = run(path, "dom0-ready", more);
        let said = format!("{}{}", did.stdout, did.stderr);
        assert_eq!(did.code, Some(1), "{said}");
        assert!(said.contains(cause) && said.contains(says), "{said}");
    };
    caused(old, &[], "build.part-missing", "has no way in: import nix/nixos.nix");
    let did = run(right, "dom0-ready", &["--tools", "debian:bookworm"]);
    assert_eq!(did.code, Some(2), "{}", did.stderr);
    assert!((did.stdout + &did.stderr).contains("booted whole, with its own tools"));
    // A kernel that is none is found before a machine is made.
    caused(right, &[], "dom0.kernel-invalid", "/bzImage is damaged");
    writable(&root);
}

#[test]
fn a_system_boots_as_it_is() {
    user_store();
    let bench = Bench::new();
    let did = bench.run(&parts_scenario(true), &[]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    let parts = Parts::of(&bench.report());
    let root = bench.path("nix");
    let system = parts.build(xenlab_tests::root(), &root, &["--arg", "small", "true"]);
    // By the link that `nix-build` would leave.
    let link = bench.path("result");
    std::os::unix::fs::symlink(&system, &link).expect("a link");
    let store_path = |prefix: &str| format!("^/nix/store/[0-9a-z]{{32}}-{prefix}");
    let scenario = format!(
        "\
xenlab: 1
name: system
arch: x86_64
xen: {{build: 'nixos:{}', args: [bootscrub=0, spec-ctrl=no]}}
steps:
  - phase: dom0-ready
  - under-xen: {{}}
  - xl-info:
      xen_version: {{same-as: build.declared-version}}
      # Its own words follow the lab's.
      xen_commandline: {{contains: noreboot loglvl=all bootscrub=0}}
  - xenstored: {{daemon: oxenstored}}
  - file: {{path: /run/current-system, target: {{matches: '{}$'}}}}
  - run:
      script: cat /proc/cmdline
      stdout: {{matches: '^console=hvc0 init=/nix/store/[0-9a-z]{{32}}-nixos-system-xenlab/init console=hvc0 root=fstab'}}
  - run:
      # Its daemons, from its own store, with its own libraries and with no others.
      script: |
        for name in oxenstored xenconsoled; do
          sed -n 's/.* \\(\\/.*\\)/\\1/p' /proc/$(pidof $name)/maps | grep -v '^/dev/\\|^/proc/\\|^/sys/' | sort -u
        done
      stdout: {{matches: '(?m){}glibc-2.36/lib/libc\\.so\\.6$', lacks: [/usr/lib, /lib/]}}
  - run:
      script: findfs LABEL=nixos; mount | grep ' / '
      stdout: {{matches: '(?s)^/dev/vda\\n/dev/.* on / type ext4 \\(rw'}}
",
        link.display(),
        store_path("nixos-system-xenlab"),
        store_path(""),
    );
    let scenario = scenario.replace("lacks: [/usr/lib, /lib/]", "lacks: [/usr/lib]");
    let did = bench.run(&scenario, &[]);
    assert_eq!(did.code, Some(0), "{}{}", did.stdout, did.stderr);
    assert!(did.stderr.contains("boots from power-on: the guest writes to a disk"), "{}", did.stderr);
    writable(&root);
    bench.clean();
}

/// The functions of nixpkgs that `flake.nix` and what it calls take, as far as they use them; a package is a real derivation, instantiated and not
/// built.
const NIXPKGS: &str = r#"
let
  package = name: attrs: derivation ({ inherit name; system = "x86_64-linux"; builder = "/bin/sh"; } // attrs);
  lib = rec {
    inherit (builtins) concatMap elem filter;
    genAttrs = names: f: builtins.listToAttrs (map (name: { inherit name; value = f name; }) names);
    concatMapStrings = f: list: builtins.concatStringsSep "" (map f list);
    concatMapStringsSep = by: f: list: builtins.concatStringsSep by (map f list);
    importJSON = path: builtins.fromJSON (builtins.readFile path);
    importTOML = path: builtins.fromTOML (builtins.readFile path);
    escapeShellArg = text: "'${text}'";
    optional = yes: value: if yes then [ value ] else [ ];
    optionals = yes: list: if yes then list else [ ];
    cleanSource = path: path;
    makeBinPath = concatMapStringsSep ":" (path: "${path}/bin");
    licenses.mit = "MIT";
  };
  pkgs = rec {
    inherit lib;
    rustPlatform.buildRustPackage = attrs: package "xenlab-${attrs.version}" {
      inherit (attrs) postInstall cargoBuildFlags;
      lock = builtins.readFile attrs.cargoLock.lockFile;
    } // { inherit (attrs) meta; };
    runCommand = name: attrs: script: package name ((removeAttrs attrs [ "meta" ]) // { inherit script; }) // { inherit script; };
    fetchurl = { url, sha256 }: package "file" { inherit url sha256; };
    closureInfo = { rootPaths }: package "closure" { paths = map toString rootPaths; };
    makeWrapper = package "makeWrapper" { };
    openssl = package "openssl" { };
    zlib = package "zlib" { };
    dpkg = package "dpkg" { };
    nix = package "nix" { };
    e2fsprogs = package "e2fsprogs" { };
    openssh = package "openssh" { };
    qemu = package "qemu" { };
    squashfsTools = package "squashfsTools" { };
    pkg-config = package "pkg-config" { };
    callPackage = path: more: let f = import path; in f (builtins.intersectAttrs (builtins.functionArgs f) (pkgs // more));
  };
  outputs = (import (root + "/flake.nix")).outputs {
    self = outputs;
    nixpkgs = { inherit lib; legacyPackages = { x86_64-linux = pkgs; aarch64-linux = pkgs; }; };
  };
  xen = package "xen-4.20.1" { } // { version = "4.20.1"; outputs = [ "out" "boot" ]; boot = package "xen-boot" { }; };
  system = package "nixos-system-xenlab" { } // { };
  of-xen = outputs.lib.mkXenTest { inherit xen; };
  of-system = outputs.lib.mkXenTest { nixos = system; };
in {
  packages = builtins.attrNames outputs.packages;
  xenlab = outputs.packages.x86_64-linux.default.drvPath;
  program = outputs.packages.x86_64-linux.default.meta.mainProgram;
  module = builtins.isFunction (import outputs.nixosModules.default);
  xen = of-xen.drvPath;
  xenScript = of-xen.script;
  system = of-system.drvPath;
  systemScript = of-system.script;
  neither = (builtins.tryEval (outputs.lib.mkXenTest { }).drvPath).success;
}
"#;

#[test]
fn the_flake_instantiates() {
    let bench = Bench::new();
    let root = bench.path("nix");
    let did = Command::new("nix-instantiate")
        .arg("--store")
        .arg(&root)
        .args(["--eval", "--strict", "--json", "--read-write-mode"])
        .args(["--argstr", "root", &xenlab_tests::root().canonicalize().expect("root").display().to_string()])
        .args(["--expr", &format!("{{ root }}: {NIXPKGS}")])
        .env_remove("NIX_STORE_DIR")
        .env_remove("NIX_STATE_DIR")
        .env("HOME", bench.path("tmp"))
        .output()
        .expect("nix-instantiate");
    assert!(did.status.success(), "{}", String::from_utf8_lossy(&did.stderr));
    let made: Value = serde_json::from_slice(&did.stdout).expect("JSON");
    assert_eq!(made["packages"], json!(["aarch64-linux", "x86_64-linux"]));
    assert_eq!(
        (&made["program"], &made["module"], &made["neither"]),
        (&json!("xenlab"), &json!(true), &json!(false))
    );
    // Each is a derivation in the store, with all that it names.
    for name in ["xenlab", "xen", "system"] {
        let path = made[name].as_str().expect("a path");
        let known = Command::new("nix-store")
            .arg("--store")
            .arg(&root)
            .args(["--query", "--requisites", path])
            .env_remove("NIX_STORE_DIR")
            .env_remove("NIX_STATE_DIR")
            .output()
            .expect("nix-store");
        assert!(known.status.success(), "{path}: {}", String::from_utf8_lossy(&known.stderr));
    }
    let script = |name: &str| made[name].as_str().expect("a script").to_owned();
    assert!(script("xenScript").contains("--xen nix:/nix/store/") && !script("xenScript").contains("nixos:"));
    let of_system = script("systemScript");
    assert!(
        of_system.contains("--xen nixos:/nix/store/") && of_system.contains("-nixos.yaml"),
        "{of_system}"
    );
    writable(&root);
}
