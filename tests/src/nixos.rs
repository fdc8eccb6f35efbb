//! A NixOS system for tests: made of Debian's files by the real `nix-build`, laid out as NixOS lays it out (`tests/nixos/system.nix`). By itself,
//! so that `cargo xtask nixos` has it, too.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What it is made of.
pub struct Parts {
    store: PathBuf,
    xen: PathBuf,
    userland: PathBuf,
    device_model: Option<PathBuf>,
    initramfs: PathBuf,
    linux: PathBuf,
}

/// A scenario whose case is made of what a system takes; with `small` without systemd and device model.
pub fn parts_scenario(small: bool) -> String {
    let dom0 = if small {
        "{userland: 'minimal:bookworm'}"
    } else {
        "{userland: 'systemd:bookworm', device-model: 'debian:bookworm'}"
    };
    format!(
        "xenlab: 1\nname: parts\narch: x86_64\nxen: debian:bookworm\ndom0: {dom0}\nmachine: {{start: power-on}}\nsteps:\n  - phase: xen\n"
    )
}

impl Parts {
    /// Of a report of that scenario's run.
    pub fn of(report: &Path) -> Parts {
        let bundles = std::fs::read_dir(report.join("bundles")).expect("bundles").flatten();
        let inputs =
            bundles.map(|e| e.path().join("inputs.json")).find_map(|path| json(&path)).expect("inputs");
        let artefact = |role: &str| {
            let of = inputs["artefacts"].as_array().into_iter().flatten().find(|a| a["role"] == role);
            of.and_then(|a| a["path"].as_str()).map(PathBuf::from)
        };
        let xen = artefact("xen").expect("Xen").ancestors().nth(2).expect("a root").to_owned();
        // STORE/content/DIGEST/root
        let store = xen.ancestors().nth(3).expect("a store").to_owned();
        let initramfs = artefact("initrd").expect("an initramfs");
        let release = std::fs::read_to_string(initramfs.with_file_name("release")).expect("a release");
        Parts {
            linux: package(&store, &format!("linux-image-{release} ")),
            userland: artefact("userland").expect("a userland"),
            device_model: artefact("device-model"),
            store,
            initramfs,
            xen,
        }
    }

    /// Builds a system in a store of its own at `root`; its path on this machine. `more` are further arguments of `nix-build`.
    pub fn build(&self, repository: &Path, root: &Path, more: &[&str]) -> PathBuf {
        let text = |path: &Path| path.display().to_string();
        let mut args: Vec<String> = Vec::new();
        let module = repository.canonicalize().expect("the repository").join("nix/nixos.nix");
        for (name, path) in [
            ("xenTree", &self.xen),
            ("userland", &self.userland),
            ("initramfs", &self.initramfs),
            ("linux", &self.linux),
            ("module", &module),
        ] {
            args.extend(["--argstr".to_owned(), name.to_owned(), text(path)]);
        }
        if let Some(path) = &self.device_model {
            args.extend(["--argstr".to_owned(), "deviceModel".to_owned(), text(path)]);
        }
        args.extend(more.iter().map(|a| (*a).to_owned()));
        let file = repository.join("tests/nixos/system.nix");
        let paths = nix_build(root, Some(&self.store), &file, &args);
        paths.into_iter().next().expect("a path")
    }
}

/// What the real `nix-build` makes of a file, in a store of its own at `root`, offline; paths on this machine. Builds are let see this machine's
/// programs and, if named, `also`. It takes root or user namespaces, as any store that is not `/nix` itself does.
pub fn nix_build(root: &Path, also: Option<&Path>, file: &Path, args: &[String]) -> Vec<PathBuf> {
    let also = also.map(|path| format!(" {}", path.display())).unwrap_or_default();
    let did = Command::new("nix-build")
        .arg("--store")
        .arg(root)
        .args(["--option", "sandbox-paths", &format!("/bin /usr /lib /lib64 /sbin{also}")])
        .args(["--option", "substitute", "false", "--option", "build-users-group", "", "--no-out-link"])
        .args(args)
        .arg(file)
        .env_remove("NIX_STORE_DIR")
        .env_remove("NIX_STATE_DIR")
        .env("HOME", root)
        .output()
        .expect("nix-build starts");
    assert!(did.status.success(), "nix-build: {}", String::from_utf8_lossy(&did.stderr));
    let lines = String::from_utf8_lossy(&did.stdout).into_owned();
    lines.lines().map(|path| root.join(path.trim_start_matches('/'))).collect()
}

/// A Nix store is written once; who takes its folder away must be able to.
pub fn writable(root: &Path) {
    let _ = Command::new("chmod").args(["-R", "u+w"]).arg(root).status();
}

/// The file of a package in the store, by the beginning of its label.
fn package(store: &Path, label: &str) -> PathBuf {
    let records = std::fs::read_dir(store.join("keys")).expect("keys").flatten();
    let found = records.filter_map(|entry| json(&entry.path())).find_map(|record: Value| {
        let named = record["kind"] == "deb" && record["label"].as_str().is_some_and(|l| l.starts_with(label));
        let dir = store.join("content").join(record["digest"].as_str().filter(|_| named)?);
        std::fs::read_dir(dir)
            .ok()?
            .flatten()
            .map(|e| e.path())
            .find(|p| p.extension().is_some_and(|e| e == "deb"))
    });
    found.unwrap_or_else(|| {
        panic!("no package {label}in {}: `xenlab image build` fetches it", store.display())
    })
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
