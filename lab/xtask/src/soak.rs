//! Long campaigns: many boots, many kills.

use anyhow::{Context, Result, bail};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `cargo xtask soak`
#[derive(clap::Args)]
pub struct Soak {
    /// Cold boots of each architecture
    #[arg(short, default_value_t = 50, value_parser = at_least_one)]
    n: usize,
    /// Architectures
    #[arg(long, default_values_t = ["x86_64".to_owned(), "aarch64".to_owned()])]
    arch: Vec<String>,
    /// The scenario
    #[arg(long, default_value = "scenarios/dom0-boot.yaml")]
    scenario: String,
    /// More arguments for `xenlab run`
    #[arg(last = true)]
    more: Vec<String>,
}

impl Soak {
    pub fn run(&self) -> Result<()> {
        let lab = crate::release_binary()?;
        let mut wrong = 0;
        for arch in &self.arch {
            let mut seconds = Vec::new();
            for n in 1..=self.n {
                let begin = Instant::now();
                let output = Command::new(&lab)
                    .args(["run", &self.scenario, "--arch", arch, "--offline"])
                    .args(&self.more)
                    .stdin(Stdio::null())
                    .output()
                    .with_context(|| format!("cannot start {lab}"))?;
                let took = begin.elapsed().as_secs_f64();
                seconds.push(took);
                let code = output.status.code();
                println!("{arch} {n}/{}: exit {code:?} in {took:.2} s", self.n);
                if code != Some(0) {
                    wrong += 1;
                    println!("{}", String::from_utf8_lossy(&output.stdout));
                    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
                }
            }
            seconds.sort_by(f64::total_cmp);
            let at = |q: f64| seconds[((seconds.len() - 1) as f64 * q).round() as usize];
            println!(
                "{arch}: n={} median {:.2} s, p95 {:.2} s, max {:.2} s",
                seconds.len(),
                at(0.5),
                at(0.95),
                at(1.0)
            );
        }
        if wrong > 0 {
            bail!("{wrong} runs did not pass");
        }
        println!("all {} runs passed", self.n * self.arch.len());
        Ok(())
    }
}

/// `cargo xtask kill`
#[derive(clap::Args)]
pub struct Kill {
    /// How many times
    #[arg(short, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    /// Kill at a moment up to so many milliseconds after the start
    #[arg(long, default_value_t = 9000, value_parser = clap::value_parser!(u64).range(1..))]
    within: u64,
    /// The scenario
    #[arg(long, default_value = "scenarios/dom0-boot.yaml")]
    scenario: String,
}

impl Kill {
    pub fn run(&self) -> Result<()> {
        let lab = crate::release_binary()?;
        let mut left = 0;
        for n in 1..=self.n {
            let mut child = Command::new(&lab)
                .args(["run", &self.scenario, "--offline"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .with_context(|| format!("cannot start {lab}"))?;
            let moment = Duration::from_millis(random()? % self.within);
            let deadline = Instant::now() + moment;
            // Waiting for a moment in time is the point here, not for an event.
            while Instant::now() < deadline && child.try_wait()?.is_none() {
                std::thread::park_timeout(deadline.saturating_duration_since(Instant::now()));
            }
            let pid = child.id();
            child.kill().context("cannot kill the lab")?;
            child.wait()?;
            let killed = Instant::now();
            let mut remaining = lab_processes(&lab)?;
            while !remaining.is_empty() && killed.elapsed() < Duration::from_secs(3) {
                std::thread::park_timeout(Duration::from_millis(20));
                remaining = lab_processes(&lab)?;
            }
            println!(
                "{n}/{}: pid {pid} killed after {:.2} s, {} left",
                self.n,
                moment.as_secs_f64(),
                remaining.len()
            );
            for line in &remaining {
                println!("  {line}");
            }
            left += remaining.len();
        }
        let status = Command::new(&lab).args(["run", &self.scenario, "--offline"]).status()?;
        if left > 0 || !status.success() {
            bail!("{left} processes were left behind; the next run ended with {status}");
        }
        println!("{} kills: nothing left behind, the next run passed", self.n);
        Ok(())
    }
}

/// A campaign of none would pass.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected 1 or more".to_owned())
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Command lines of every QEMU and helper that a lab of this user started.
fn lab_processes(lab: &str) -> Result<Vec<String>> {
    let name = Path::new(lab).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Ok(raw) = std::fs::read(path.join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&raw).replace('\0', " ");
        let first = line.split(' ').next().unwrap_or_default();
        if first.ends_with(&format!("/{name}")) || (first.contains("qemu-system-") && line.contains("xenlab"))
        {
            found.push(format!("{} {line}", path.display()));
        }
    }
    Ok(found)
}
