//! A long campaign: many clones of one template, each looked at closely.

use crate::guest;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// `cargo xtask restores`
#[derive(clap::Args)]
pub struct Restores {
    /// Clones of each architecture
    #[arg(short, default_value_t = 300, value_parser = crate::soak::at_least_one)]
    n: usize,
    /// Clones in which a PV guest is created, on x86_64
    #[arg(long, default_value_t = 50)]
    guests: usize,
    /// Architectures
    #[arg(long, default_values_t = ["x86_64".to_owned(), "aarch64".to_owned()])]
    arch: Vec<String>,
    /// More arguments for `xenlab run`
    #[arg(last = true)]
    more: Vec<String>,
}

/// Wall and monotonic clock, twice, in dom0. busybox's `date` knows whole seconds only.
const CLOCKS: &str = r#"for i in 1 2; do adjtimex | awk '/tv_sec/ { s = $2 } /tv_usec/ { printf "%d.%06d ", s, $2 }'; cat /proc/uptime; done"#;

/// How far dom0's wall clock may be off, in seconds.
const OFF: f64 = 1.0;

impl Restores {
    pub fn run(&self) -> Result<()> {
        let lab = crate::release_binary()?;
        let dir = tempfile::tempdir()?;
        let mut wrong = Vec::new();
        for arch in &self.arch {
            let guests = if arch == "x86_64" { self.guests } else { 0 };
            let mut files = vec![dir.path().join(format!("restores-{arch}.yaml"))];
            std::fs::write(&files[0], scenario("restores", arch, self.n, CLOCKS, ""))?;
            if guests > 0 {
                files.push(dir.path().join("guests.yaml"));
                let text = scenario("guests", arch, guests, &guest::script(), ", stdout: came and went");
                std::fs::write(&files[1], text)?;
            }
            let report = dir.path().join(format!("report-{arch}"));
            let begun = SystemTime::now();
            let status = Command::new(&lab)
                .arg("run")
                .args(&files)
                .args(["--offline", "--report"])
                .arg(&report)
                .args(&self.more)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .with_context(|| format!("cannot start {lab}"))?;
            let took = begun.elapsed()?.as_secs_f64();
            let begun = begun.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
            let seen = look(&report, begun)?;
            let (asked, passed) = (self.n + guests, seen.passed);
            println!(
                "{arch}: exit {:?}, {passed} of {asked} passed in {took:.0} s, {} on clones; wall clock off by {:.3} s at most",
                status.code(),
                seen.clones,
                seen.off
            );
            ensure!(seen.clocks == self.n || !seen.wrong.is_empty(), "{} clocks were read", seen.clocks);
            if status.code() != Some(0) || passed != asked || seen.clones != asked {
                wrong.push(format!("{arch}: {passed} of {asked} passed, {} on clones", seen.clones));
            }
            wrong.extend(seen.wrong);
        }
        if !wrong.is_empty() {
            bail!("{}", wrong.join("\n"));
        }
        println!("all right");
        Ok(())
    }
}

/// So many cases of one machine.
fn scenario(name: &str, arch: &str, n: usize, script: &str, more: &str) -> String {
    let numbers: Vec<String> = (1..=n).map(|n| format!("'{n}'")).collect();
    let script = serde_json::Value::from(script);
    let mut text = format!(
        "xenlab: 1\nname: {name}\narch: {arch}\nmatrix: {{vars.n: [{}]}}\n\
         xen: {{build: debian:bookworm, args: [bootscrub=0]}}\n\
         overrides: [{{when: {{arch: x86_64}}, add: {{xen.args: [spec-ctrl=no]}}}}]\n",
        numbers.join(", ")
    );
    let _ = write!(
        text,
        "steps:\n  - xl-info: {{build_id: {{same-as: build.build-id}}}}\n  - run: {{script: {script}, stderr: ''{more}}}\n  \
         - console: {{of: all, lacks: [panic, 'clocksource: .* unstable', 'went backwards']}}\n"
    );
    text
}

#[derive(Default)]
struct Seen {
    passed: usize,
    clones: usize,
    clocks: usize,
    off: f64,
    wrong: Vec<String>,
}

/// Looks at every case's verdict, and at the clocks that its dom0 told against this host's.
fn look(report: &Path, begun: f64) -> Result<Seen> {
    let events = std::fs::read_to_string(report.join("events.jsonl"))?;
    let mut seen = Seen::default();
    let mut steps: BTreeMap<(String, String), f64> = BTreeMap::new();
    for line in events.lines() {
        let event: Value = serde_json::from_str(line)?;
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let at = begun + event["at"].as_f64().unwrap_or_default();
        match event["event"].as_str() {
            Some("step-started") => {
                steps.insert((text("case"), text("step")), at);
            }
            Some("step-finished") if event["verdict"]["step"] == "steps[1]" => {
                steps.insert((text("case"), "end".to_owned()), at);
            }
            Some("case-finished") => {
                let (case, verdict) = (text("case"), &event["verdict"]);
                if verdict["verdict"] == "pass" {
                    seen.passed += 1;
                } else {
                    seen.wrong.push(format!("{case}: {}: {}", verdict["verdict"], verdict["message"]));
                }
                seen.clones += usize::from(verdict["steps"][2]["origin"] == "clone");
                if !case.starts_with("restores") {
                    continue;
                }
                let time = |step: &str| steps.get(&(case.clone(), step.to_owned())).copied();
                let (Some(from), Some(to)) = (time("steps[1]"), time("end")) else {
                    seen.wrong.push(format!("{case}: its clocks were not asked for"));
                    continue;
                };
                match clocks(Path::new(&text("bundle"))) {
                    Some([(wall, up), (later, up_later)]) => {
                        let off = (from - wall).max(later - to).max(0.0);
                        seen.off = seen.off.max(off);
                        seen.clocks += 1;
                        if off > OFF || up_later < up || later < wall {
                            seen.wrong.push(format!(
                                "{case}: dom0 said {wall}, {later} between {from} and {to}, up {up}, {up_later}"
                            ));
                        }
                    }
                    None => seen.wrong.push(format!("{case}: its clocks cannot be read")),
                }
            }
            _ => {}
        }
    }
    Ok(seen)
}

/// What [`CLOCKS`] wrote: twice wall time and time since the machine was booted.
fn clocks(bundle: &Path) -> Option<[(f64, f64); 2]> {
    let evidence = std::fs::read_to_string(bundle.join("evidence.jsonl")).ok()?;
    let of_step = evidence.lines().find(|line| line.starts_with(r#"{"step":"steps[1]""#))?;
    let seen: Value = serde_json::from_str(of_step).ok()?;
    let text = seen["seen"]["Ok"]["run"]["results"][0]["stdout"]["text"].as_str()?;
    let mut found = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().map(str::parse::<f64>);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    });
    Some([found.next()?, found.next()?])
}
