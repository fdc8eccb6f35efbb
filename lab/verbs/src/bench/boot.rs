//! `bench boot`: what the lab costs over a bare boot of the same artefacts.
//!
//! *bare* is the same command line and artefacts; dom0's init runs `xl info` itself and prints a nonce; the clock runs from
//! QEMU's exec to that line. *lab* runs from the exec of `xenlab` to its exit. The two are interleaved, and overhead is the median
//! of the paired differences: a host that is slow for a while is slow for both.

use super::{host, lab, median, summary};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xenlab_engine::EngineError;
use xenlab_engine::boot;
use xenlab_engine::prepare::{Prepared, Preparer};
use xenlab_host::Command;
use xenlab_model::case::Case;
use xenlab_model::cause::Cause;
use xenlab_model::event::{Event, What};

/// What `bench boot` is asked for.
pub struct BootBench<'a> {
    /// Makes the artefacts.
    pub preparer: Preparer,
    /// One case for each architecture.
    pub cases: Vec<Case>,
    /// Boots of each kind.
    pub n: usize,
    /// The program itself, and the arguments that make it run the same case (scenario, `--set`s, store).
    pub program: PathBuf,
    /// Arguments of `xenlab run` before `--case` and `--report`.
    pub arguments: Vec<String>,
    /// Where progress goes.
    pub progress: &'a (dyn Fn(String) + Sync),
}

/// Runs the bench; the JSON's shape is documented in docs/PERFORMANCE.md.
pub async fn boot(bench: BootBench<'_>) -> Result<(Value, usize), EngineError> {
    let mut results = serde_json::Map::new();
    let mut failed = 0;
    for case in &bench.cases {
        let (value, wrong) = one(&bench, case).await?;
        failed += wrong;
        results.insert(case.config.arch.name().to_owned(), value);
    }
    Ok((json!({"bench": "boot", "format": 1, "host": host(), "lab": lab(), "results": results}), failed))
}

/// One run of the lab, as its own events told it.
#[derive(Default)]
struct LabRun {
    seconds: f64,
    stages: Vec<(String, f64)>,
    peak: u64,
    /// Of a core, while it waited for the boot.
    waiting: Option<f64>,
}

async fn one(bench: &BootBench<'_>, case: &Case) -> Result<(Value, usize), EngineError> {
    let prepared = bench.preparer.prepare(case).await?;
    // One machine at a time, and no wait for any of them while it is measured.
    let (admission, shown) = (&bench.preparer.admission, case.shown());
    let _ticket = admission.machine(&*bench.preparer.sink, &shown, &case.config).await?;
    let mut bare = Vec::new();
    let mut lab: Vec<LabRun> = Vec::new();
    let (mut bare_failed, mut lab_failed) = (0, 0);
    let mut differences = Vec::new();
    for n in 0..bench.n {
        if xenlab_host::interrupt::requested() {
            return Err(EngineError::Interrupted);
        }
        let b = bare_boot(case, &prepared).await;
        let l = lab_run(bench, case).await;
        (bench.progress)(format!(
            "{} {}/{}: bare {}, lab {}",
            case.config.arch,
            n + 1,
            bench.n,
            b.as_ref().map_or_else(ToString::to_string, |s| format!("{s:.2} s")),
            l.as_ref().map_or_else(ToString::to_string, |r| format!("{:.2} s", r.seconds)),
        ));
        if let (Ok(b), Ok(l)) = (&b, &l) {
            differences.push(l.seconds - b);
        }
        match b {
            Ok(seconds) => bare.push(seconds),
            Err(EngineError::Interrupted) => return Err(EngineError::Interrupted),
            Err(_) => bare_failed += 1,
        }
        match l {
            Ok(run) => lab.push(run),
            Err(EngineError::Interrupted) => return Err(EngineError::Interrupted),
            Err(_) => lab_failed += 1,
        }
    }
    let bare_median = median(&bare).unwrap_or(0.0);
    let stage = |name: &str| {
        let all: Vec<f64> =
            lab.iter().flat_map(|r| r.stages.iter().filter(|(n, _)| n == name).map(|(_, s)| *s)).collect();
        json!({"median": median(&all)})
    };
    let lab_seconds: Vec<f64> = lab.iter().map(|r| r.seconds).collect();
    let peak = lab.iter().map(|r| r.peak).max();
    let fractions: Vec<f64> = lab.iter().filter_map(|r| r.waiting).collect();
    let value = json!({
        "qemu": prepared.qemu.version.to_string(), "accel": prepared.accel.accel.name(),
        "xen": case.subject.to_string(), "userland": case.config.dom0.userland.to_string(),
        "cpus": case.config.machine.cpus,
        "bare_cold": summary(&bare, bare_failed), "lab_cold": summary(&lab_seconds, lab_failed),
        "stages": {"prepare": stage("prepare"), "boot": stage("boot"), "connect": stage("connect"), "checks": stage("checks"),
                   "teardown": stage("teardown")},
        "overhead": {"value": median(&differences), "limit": (bare_median * 0.05).max(0.3)},
        "prepare_unchanged": {"median": median_of(5, || prepare_again(bench, case, None)).await},
        "prepare_new_hypervisor": {"median": new_hypervisor(bench, case, &prepared).await},
        "lab_peak_rss_bytes": {"value": peak}, "lab_cpu_fraction": {"value": median(&fractions)},
    });
    Ok((value, bare_failed + lab_failed))
}

async fn median_of<F: Future<Output = Option<f64>>>(n: usize, mut f: impl FnMut() -> F) -> Option<f64> {
    let mut all = Vec::new();
    for _ in 0..n {
        all.extend(f().await);
    }
    median(&all)
}

/// Seconds to have everything ready for a boot, with nothing remembered but what is in the store.
async fn prepare_again(bench: &BootBench<'_>, case: &Case, other: Option<&Case>) -> Option<f64> {
    let fresh = Preparer::new(bench.preparer.store.clone(), bench.preparer.sink.clone());
    let begun = Instant::now();
    fresh.prepare(other.unwrap_or(case)).await.ok()?;
    Some(begun.elapsed().as_secs_f64())
}

/// The same with a hypervisor that was never seen: the one at hand with a byte more at its end.
async fn new_hypervisor(bench: &BootBench<'_>, case: &Case, prepared: &Prepared) -> Option<f64> {
    let mut all = Vec::new();
    for n in 0..3_u8 {
        let dir = tempfile::tempdir().ok()?;
        let path = dir.path().join("xen");
        let mut bytes = std::fs::read(&prepared.xen).ok()?;
        bytes.extend(xenlab_engine::random_hex(8).into_bytes());
        bytes.push(n);
        std::fs::write(&path, bytes).ok()?;
        let mut other = case.clone();
        other.subject.tools = Some(other.subject.tools.take().unwrap_or(other.subject.hypervisor));
        other.subject.hypervisor = xenlab_model::spec::XenSpec::File(path);
        all.extend(prepare_again(bench, case, Some(&other)).await);
    }
    median(&all)
}

async fn bare_boot(case: &Case, prepared: &Arc<Prepared>) -> Result<f64, EngineError> {
    let mut with_nonce = (**prepared).clone();
    with_nonce.settings.insert("on_ready".into(), "xl info".into());
    boot::bare(case, &Arc::new(with_nonce)).await
}

async fn lab_run(bench: &BootBench<'_>, case: &Case) -> Result<LabRun, EngineError> {
    let wrong = |message: String| EngineError::part(Cause::LabInternal, message);
    let report = tempfile::tempdir().map_err(|e| wrong(e.to_string()))?;
    let begun = Instant::now();
    let child = Command::new(&bench.program)
        .arg("run")
        .args(&bench.arguments)
        .args(["--case", &case.shown(), "--report"])
        .arg(report.path())
        // Its machine is this one's.
        .env(xenlab_host::budget::VARIABLE, "off")
        .spawn()
        .map_err(|e| wrong(e.to_string()))?;
    let ended = tokio::select! {
        ended = child.wait() => ended.map_err(|e| wrong(e.to_string()))?,
        () = xenlab_host::interrupt::wait() => {
            child.ask_to_end();
            let _ = tokio::time::timeout(Duration::from_secs(3), child.wait()).await;
            return Err(EngineError::Interrupted);
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    if !ended.ok() {
        return Err(wrong(format!("the lab ended with {ended}: {}", child.stderr_tail())));
    }
    let mut run = LabRun { seconds, ..LabRun::default() };
    let text =
        std::fs::read_to_string(report.path().join("events.jsonl")).map_err(|e| wrong(e.to_string()))?;
    for line in text.lines() {
        match serde_json::from_str::<Event>(line).map(|e| e.what) {
            Ok(What::Stage { stage, seconds, cpu_seconds, .. }) => {
                if stage == "boot" && seconds > 0.0 {
                    run.waiting = Some(cpu_seconds / seconds);
                }
                run.stages.push((stage, seconds));
            }
            Ok(What::RunFinished { lab, .. }) => run.peak = lab.peak_rss_bytes,
            _ => {}
        }
    }
    Ok(run)
}

/// `bench boot` for people.
pub fn table(value: &Value) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for (arch, of) in value["results"].as_object().into_iter().flatten() {
        let seconds = |v: &Value| v.as_f64().map_or("-".to_owned(), |s| format!("{s:.2} s"));
        let sample = |name: &str| {
            let v = &of[name];
            format!(
                "median {}, p95 {}, {} to {}, n {}, failed {}",
                seconds(&v["median"]),
                seconds(&v["p95"]),
                seconds(&v["min"]),
                seconds(&v["max"]),
                v["n"],
                v["failed"]
            )
        };
        let _ = writeln!(
            text,
            "{arch}: {} in QEMU {} ({})",
            of["xen"].as_str().unwrap_or(""),
            of["qemu"].as_str().unwrap_or(""),
            of["accel"].as_str().unwrap_or("")
        );
        let _ = writeln!(text, "  bare                     {}", sample("bare_cold"));
        let _ = writeln!(text, "  lab                      {}", sample("lab_cold"));
        let _ = writeln!(
            text,
            "  overhead                 {} (limit {})",
            seconds(&of["overhead"]["value"]),
            seconds(&of["overhead"]["limit"])
        );
        for (name, stage) in of["stages"].as_object().into_iter().flatten() {
            let _ = writeln!(text, "  stage {name:<18} {}", seconds(&stage["median"]));
        }
        let _ = writeln!(text, "  prepare, unchanged       {}", seconds(&of["prepare_unchanged"]["median"]));
        let _ =
            writeln!(text, "  prepare, new hypervisor  {}", seconds(&of["prepare_new_hypervisor"]["median"]));
        let rss = of["lab_peak_rss_bytes"]["value"].as_f64().unwrap_or(0.0);
        let cpu = of["lab_cpu_fraction"]["value"].as_f64().unwrap_or(0.0);
        let _ = writeln!(
            text,
            "  the lab itself           {:.1} MB at most, {:.1} % of a core while it waits for the boot",
            rss / 1e6,
            cpu * 100.0
        );
    }
    text
}
