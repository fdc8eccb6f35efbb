//! What the end-to-end tests share: the program under test, running it, and reading what it left.

pub mod nixos;
pub mod xtf;

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// The `xenlab` under test: `XENLAB_BIN`, else the one that cargo builds now.
pub fn lab() -> &'static Path {
    static BIN: LazyLock<PathBuf> = LazyLock::new(|| {
        std::env::var_os("XENLAB_BIN").map_or_else(|| built(&["--release", "-p", "xenlab"]), PathBuf::from)
    });
    &BIN
}

/// A QEMU that is none, which plays what a script says: `XENLAB_FAKE_QEMU`, else the one that cargo builds now.
pub fn fake_qemu() -> &'static Path {
    static BIN: LazyLock<PathBuf> = LazyLock::new(|| {
        std::env::var_os("XENLAB_FAKE_QEMU")
            .map_or_else(|| built(&["-p", "xenlab-machine", "--bin", "fake-qemu"]), PathBuf::from)
    });
    &BIN
}

/// Builds a program and returns its path, as cargo names it.
fn built(what: &[&str]) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--locked", "--message-format=json"])
        .args(what)
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{what:?} does not build");
    let text = String::from_utf8_lossy(&output.stdout);
    let path = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back();
    path.expect("cargo names the executable it built")
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What a command did.
#[derive(Debug)]
pub struct Did {
    /// Exit status; None when killed by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// `xenlab` with these arguments, from the repository's root.
pub fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(lab());
    // What tests do is no history of the user.
    command.args(args).current_dir(root()).stdin(Stdio::null()).env("XENLAB_HISTORY", "off");
    command
}

/// Runs `xenlab` to its end.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Did {
    finish(command(args))
}

/// Runs a prepared command to its end.
pub fn finish(mut command: Command) -> Did {
    let output = command.output().expect("xenlab can be started");
    Did {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Did {
    /// Fails with everything that was printed unless the exit code is this one.
    pub fn expect(self, code: i32) -> Result<Did, String> {
        if self.code == Some(code) {
            return Ok(self);
        }
        Err(format!(
            "expected exit {code}, got {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.code, self.stdout, self.stderr
        ))
    }
}

/// The bundles of a report, sorted by name.
pub fn bundles(report: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = match std::fs::read_dir(report.join("bundles")) {
        Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
        Err(_) => Vec::new(),
    };
    all.sort();
    all
}

/// A JSON file.
pub fn json(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Every bundle of the report judged again must give the recorded verdict.
pub fn replay_agrees(report: &Path) -> Result<(), String> {
    let all = bundles(report);
    if all.is_empty() {
        return Err(format!("{}: no bundles", report.display()));
    }
    for bundle in all {
        let did = run([OsStr::new("replay"), OsStr::new("--json"), bundle.as_os_str()]);
        let seen: Value =
            serde_json::from_str(&did.stdout).map_err(|e| format!("{e}: {}\n{}", did.stdout, did.stderr))?;
        let one = &seen[0];
        if one["recorded"] != Value::Bool(true) || one["differences"].as_array().is_none_or(|d| !d.is_empty())
        {
            return Err(format!("replay of {} differs: {}", bundle.display(), one["differences"]));
        }
    }
    Ok(())
}
