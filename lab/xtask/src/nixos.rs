//! A whole NixOS system, with systemd and Xen's units, by every way of booting, and systems that are wrong in one way each: minutes, so no
//! part of the tests. What they have of it is a small system, and everything that needs no boot.

#[path = "../../../tests/src/nixos.rs"]
mod system;

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use system::{Parts, parts_scenario, writable};

/// `cargo xtask nixos`
#[derive(clap::Args)]
pub struct Nixos {
    /// Only those whose name has this in it
    #[arg(long)]
    only: Option<String>,
    /// More arguments for `xenlab run`
    #[arg(last = true)]
    more: Vec<String>,
}

/// A system and what must come of it.
struct Row {
    name: &'static str,
    /// Arguments of its build.
    build: &'static [&'static str],
    /// Arguments of the run.
    run: &'static [&'static str],
    exit: i32,
    /// Words of the report.
    says: &'static [&'static str],
}

const DIRECT: &[&str] = &["--set", "boot=direct"];

const ROWS: &[Row] = &[
    Row { name: "as it is", build: &[], run: &[], exit: 0, says: &["xen-qemu-dom0-disk-backend is active"] },
    Row {
        name: "another version than declared, a unit that fails, one that is not there",
        build: &[
            "--argstr",
            "declared",
            "4.17.6",
            "--argstr",
            "broken",
            "xenconsoled",
            "--argstr",
            "missing",
            "xen-watchdog",
        ],
        run: DIRECT,
        exit: 1,
        says: &[
            "build.version-mismatch",
            "4.17.6",
            "service.failed",
            "xenconsoled: expected an active service",
            "service.missing",
            "xen-watchdog: expected an active service, there is none",
        ],
    },
    Row {
        name: "a store daemon that does not start",
        build: &["--argstr", "broken", "xenstored"],
        run: DIRECT,
        exit: 1,
        says: &["store.absent"],
    },
    Row {
        name: "an initrd that looks for another root",
        build: &["--argstr", "label", "other"],
        run: DIRECT,
        exit: 1,
        says: &["dom0.init-died"],
    },
];

impl Nixos {
    pub fn run(&self) -> Result<()> {
        let lab = crate::release_binary()?;
        let dir = tempfile::tempdir().context("no temporary folder")?;
        let scenario = dir.path().join("parts.yaml");
        std::fs::write(&scenario, parts_scenario(false)).context("the scenario cannot be written")?;
        let report = dir.path().join("parts");
        let lab = |args: &[&str], scenario: &Path, report: &Path| {
            let mut command = Command::new(&lab);
            command.arg("run").arg(scenario).args(args).arg("--report").arg(report).stdin(Stdio::null());
            command.stdout(Stdio::null()).status().with_context(|| format!("cannot start {lab}"))
        };
        let status = lab(&[], &scenario, &report)?;
        if !status.success() {
            bail!("what a system is made of could not be had: {status}");
        }
        let parts = Parts::of(&report);
        let root = dir.path().join("nix");
        let mut wrong = 0;
        for row in ROWS.iter().filter(|row| self.only.as_ref().is_none_or(|o| row.name.contains(o))) {
            let begin = Instant::now();
            let system = format!("nixos:{}", parts.build(Path::new("."), &root, row.build).display());
            let built = begin.elapsed().as_secs_f64();
            let report = dir.path().join(row.name.replace(' ', "-"));
            let mut args = vec!["--xen", &system];
            args.extend(row.run);
            args.extend(self.more.iter().map(String::as_str));
            let status = lab(&args, Path::new("scenarios/nixos.yaml"), &report)?;
            let took = begin.elapsed().as_secs_f64() - built;
            let text = crate::builds::below(&report);
            let lacking: Vec<&&str> = row.says.iter().filter(|s| !text.contains(**s)).collect();
            let right = status.code() == Some(row.exit) && lacking.is_empty();
            println!(
                "{}: built in {built:.1} s, {:?} in {took:.1} s, {}",
                row.name,
                status.code(),
                if right { "right" } else { "WRONG" }
            );
            if !right {
                wrong += 1;
                eprintln!("expected exit {}, and {lacking:?} in the report", row.exit);
            }
        }
        writable(&root);
        if wrong > 0 {
            bail!("{wrong} systems were not judged as what they are");
        }
        Ok(())
    }
}
