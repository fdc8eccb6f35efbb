//! Xen built from source in every way that is judged as something, for real: minutes a build, so no part of the tests.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// `cargo xtask builds`
#[derive(clap::Args)]
pub struct Builds {
    /// The source
    #[arg(long, default_value = "debsrc:bookworm")]
    xen: String,
    /// Architectures
    #[arg(long, default_values_t = ["x86_64".to_owned(), "aarch64".to_owned()])]
    arch: Vec<String>,
    /// Only those whose name has this in it
    #[arg(long)]
    only: Option<String>,
    /// More arguments for `xenlab run`
    #[arg(last = true)]
    more: Vec<String>,
}

/// A build and what must come of it.
struct Row {
    name: &'static str,
    args: &'static [&'static str],
    /// Not for these.
    not_for: &'static [&'static str],
    exit: i32,
    /// Words of the report.
    says: &'static [&'static str],
}

const ROWS: &[Row] = &[
    // The modules of a build's own tools are looked at; those of borrowed ones are not.
    Row {
        name: "as it is",
        args: &["--build-option", "tools=true"],
        not_for: &[],
        exit: 0,
        says: &["xentoolcore"],
    },
    Row {
        name: "borrowed tools",
        args: &["--build-option", "tools=false"],
        not_for: &[],
        exit: 0,
        says: &["not from this build"],
    },
    Row {
        name: "tools that are broken",
        args: &["--patch", "fixtures/patches/xl-refuses.patch"],
        not_for: &[],
        exit: 1,
        says: &["xl: this one was patched not to list"],
    },
    Row {
        name: "tools that do not compile",
        args: &["--patch", "fixtures/patches/xl-wrong.patch"],
        not_for: &[],
        exit: 1,
        says: &["build.compile", "xl_info.c", "no_such_thing"],
    },
    // dom0-boot compares what runs with what was declared, the extra version with it.
    Row {
        name: "another version",
        args: &["--build-option", "extra-version=.9-campaign"],
        not_for: &[],
        exit: 0,
        says: &[".9-campaign"],
    },
    Row {
        name: "a panic",
        args: &["--patch", "fixtures/patches/xen-panics.patch", "--no-control"],
        not_for: &[],
        exit: 1,
        says: &["xen.bug", "Xen BUG at common/kernel.c", "do_initcalls"],
    },
    Row { name: "debug", args: &["--build-option", "debug=true"], not_for: &[], exit: 0, says: &["debug=y"] },
    // Whether the host can compile a policy for it is another matter.
    Row {
        name: "flask",
        args: &["--build-option", "flask=true", "--set", "xen.args=[bootscrub=0, flask=permissive]"],
        not_for: &[],
        exit: 0,
        says: &[],
    },
    Row { name: "no EFI", args: &["--build-option", "efi=false"], not_for: &["aarch64"], exit: 0, says: &[] },
    // Trees before 4.18 do not ask on Arm: bad input, told before anything is compiled.
    Row {
        name: "no EFI where that is no option",
        args: &["--build-option", "efi=false"],
        not_for: &["x86_64"],
        exit: 2,
        says: &[],
    },
    Row {
        name: "no shadow paging",
        args: &["--build-option", "CONFIG_SHADOW_PAGING=n"],
        not_for: &["aarch64"],
        exit: 0,
        says: &[],
    },
];

impl Builds {
    pub fn run(&self) -> Result<()> {
        let lab = crate::release_binary()?;
        let mut wrong = 0;
        for arch in &self.arch {
            let wanted = |row: &&Row| {
                !row.not_for.contains(&arch.as_str())
                    && self.only.as_ref().is_none_or(|o| row.name.contains(o))
            };
            for row in ROWS.iter().filter(wanted) {
                let report = tempfile::tempdir().context("no temporary folder")?;
                let begin = Instant::now();
                let status = Command::new(&lab)
                    .args(["run", "scenarios/dom0-boot.yaml", "--cold", "--xen", &self.xen, "--arch", arch])
                    .args(row.args)
                    .arg("--report")
                    .arg(report.path())
                    .args(&self.more)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .status()
                    .with_context(|| format!("cannot start {lab}"))?;
                let took = begin.elapsed().as_secs_f64();
                let text = below(report.path());
                let lacking: Vec<&&str> = row.says.iter().filter(|s| !text.contains(**s)).collect();
                let right = status.code() == Some(row.exit) && lacking.is_empty();
                println!(
                    "{arch}, {}: {:?} in {took:.1} s, {}",
                    row.name,
                    status.code(),
                    if right { "right" } else { "WRONG" }
                );
                if !right {
                    wrong += 1;
                    eprintln!("expected exit {}, and {lacking:?} in the report", row.exit);
                }
            }
        }
        if wrong > 0 {
            bail!("{wrong} builds were not judged as what they are");
        }
        Ok(())
    }
}

/// The text of every file of a report.
pub(crate) fn below(dir: &Path) -> String {
    let mut text = String::new();
    for item in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()) {
        if item.is_dir() {
            text.push_str(&below(&item));
        } else if let Ok(bytes) = std::fs::read(&item) {
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    text
}
