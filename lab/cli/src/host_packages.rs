//! `--install`: programs of the host that are missing, and the one command that brings them.

use crate::failure::Failure;
use std::path::Path;
use std::process::{Command, Stdio};
use xenlab_host::{packages, probe};

/// A program of the host and what the lab does with it.
pub struct Need {
    /// The program's name in PATH, or its path.
    pub program: &'static str,
    /// What cannot be done without it.
    pub what_for: &'static str,
    /// The main job cannot be done without it, whatever the architecture.
    pub always: bool,
}

/// Everything the lab calls.
pub const NEEDS: &[Need] = &[
    Need { program: "qemu-system-x86_64", what_for: "boots x86_64", always: false },
    Need { program: "qemu-system-aarch64", what_for: "boots AArch64", always: false },
    Need { program: "apt-get", what_for: "finds Debian's packages", always: true },
    Need { program: "dpkg-deb", what_for: "unpacks Debian's packages", always: true },
    Need { program: "sqfstar", what_for: "makes dom0's images", always: true },
    Need { program: "pkg-config", what_for: "the pkg-config step", always: false },
    Need { program: "cc", what_for: "compiling in the pkg-config step", always: false },
    Need {
        program: "aarch64-linux-gnu-gcc",
        what_for: "compiling for AArch64 in the pkg-config step, building Xen for it from source",
        always: false,
    },
    Need { program: "make", what_for: "builds Xen from source", always: false },
    Need { program: "bison", what_for: "building Xen from source", always: false },
    Need { program: "flex", what_for: "building Xen from source", always: false },
    Need { program: "python3", what_for: "building Xen from source", always: false },
    Need { program: "patch", what_for: "patches for a Xen from source", always: false },
    Need { program: "git", what_for: "revisions of a Xen from source", always: false },
    Need { program: "mke2fs", what_for: "disks of NixOS systems", always: false },
    Need { program: "debugfs", what_for: "disks of NixOS systems", always: false },
    Need { program: "ssh", what_for: "xenlab shell", always: false },
];

/// What the tests need besides.
pub const TEST_NEEDS: &[Need] = &[
    Need { program: "dropbear", what_for: "an SSH server for the tests of the SSH way in", always: false },
    Need { program: "sshd", what_for: "another one", always: false },
    Need { program: "ssh-keygen", what_for: "keys for those", always: false },
    Need { program: "busybox", what_for: "a small shell for the tests of the serial way in", always: false },
    Need { program: "setpriv", what_for: "a run as nobody", always: false },
    Need { program: "nix-instantiate", what_for: "evaluates a package's metadata", always: false },
    Need { program: "nix-store", what_for: "a Nix store", always: false },
    Need { program: "nix-build", what_for: "a NixOS system", always: false },
    Need { program: "depmod", what_for: "the modules of that", always: false },
    Need { program: "patchelf", what_for: "programs that run in a Nix store", always: false },
    Need { program: "readelf", what_for: "what those need", always: false },
    Need { program: "unsquashfs", what_for: "the libraries of a userland", always: false },
    Need { program: "pgrep", what_for: "looking for processes that were left behind", always: false },
];

/// Where a program is, looked for as a shell of root would, too: Debian keeps some outside a user's PATH.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    probe::find_program(program).or_else(|| {
        ["/usr/sbin", "/sbin"].iter().map(|dir| Path::new(dir).join(program)).find(|path| path.is_file())
    })
}

/// The programs that are missing.
pub fn missing<'a>(needs: impl IntoIterator<Item = &'a Need>) -> Vec<&'a Need> {
    needs.into_iter().filter(|n| find(n.program).is_none()).collect()
}

/// Installs what is missing with the system's package manager, shown as it works. Nothing missing: nothing done.
pub fn install(tests: bool) -> Result<(), Failure> {
    let needs: Vec<&Need> = NEEDS.iter().chain(if tests { TEST_NEEDS } else { &[] }).collect();
    let lacking = missing(needs.iter().copied());
    if lacking.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = lacking.iter().map(|n| n.program).collect();
    let Some(command) = packages::install_command(&programs) else {
        return Err(Failure::lab(format!(
            "missing programs: {}; this system's package manager is not known to xenlab, install them by hand",
            programs.join(", ")
        )));
    };
    eprintln!("xenlab: missing: {}", programs.join(", "));
    if command.contains("apt-get ") {
        // A fresh machine has no package lists; an old one has lists that name files which are gone.
        let update =
            if command.starts_with("sudo ") { "sudo apt-get update -q" } else { "apt-get update -q" };
        shell(update)?;
        let unattended = command.replace("apt-get install", "apt-get install -y -q --no-install-recommends");
        shell(&unattended)?;
    } else {
        shell(&command)?;
    }
    let still = missing(needs);
    if still.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = still.iter().map(|n| n.program).collect();
    Err(Failure::lab(format!("still missing after `{command}`: {}", names.join(", "))))
}

fn shell(command: &str) -> Result<(), Failure> {
    eprintln!("xenlab: {command}");
    // A package manager is the one child that may take the terminal and its Ctrl-C: it may ask for a password.
    let status = Command::new("sh")
        .args(["-c", command])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::inherit())
        .stdout(std::io::stderr())
        .status()
        .map_err(|e| Failure::lab(format!("cannot run `{command}`: {e}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::lab(format!("`{command}` ended with {status}; type it yourself to see why")))
    }
}
