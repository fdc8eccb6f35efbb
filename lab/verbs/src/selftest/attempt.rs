//! A trial, run: the program itself, as a user would start it.

use super::judge;
use super::{Outcome, Score, Trial, Tried};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use xenlab_host::child::{Child, ChildError, Command, Ended};
use xenlab_host::interrupt;
use xenlab_model::Arch;

/// A run has limits of its own; one that has not ended after this is hung. The first ones also fetch what is not in the store.
const HUNG: Duration = Duration::from_secs(30 * 60);

/// How long a run that was asked to end has for it: bundles are written.
const GRACE: Duration = Duration::from_secs(15);

/// How trials are run.
#[derive(Debug, Clone)]
pub struct Harness {
    /// `xenlab`.
    pub program: PathBuf,
    /// Words of the command line that every run has.
    pub arguments: Vec<String>,
    /// Nothing is planted, whatever the row says: what a lab that notices nothing would score.
    pub unplanted: bool,
    /// How many side by side; the budget of this host holds beside it.
    pub jobs: usize,
    /// What trials leave, a folder each.
    pub dir: PathBuf,
}

/// How a run of the program ended, and what it said.
struct Did {
    ended: Ended,
    stdout: String,
    stderr: String,
}

/// How long nothing may end before it is said what runs: a host's budget may be somebody else's for a while.
const QUIET: Duration = Duration::from_secs(30);

/// What is told while trials run.
#[derive(Debug)]
pub enum Told<'a> {
    /// So many are over, this one last.
    Ended(usize, &'a Tried),
    /// None has ended for a while; these run, or wait for their turn on this host.
    Waiting(Vec<String>),
}

/// Runs them all and tells each as it ends. What came out right leaves nothing.
///
/// # Errors
/// The folder cannot be written to; a trial panicked.
pub async fn run(harness: Harness, trials: Vec<Trial>, told: &dyn Fn(Told<'_>)) -> std::io::Result<Score> {
    let begun = Instant::now();
    let host = harness.dir.join("host");
    host_has_all(&host)?;
    let jobs = harness.jobs;
    let harness = Arc::new(harness);
    let mut waiting = trials.into_iter();
    let mut running = JoinSet::new();
    let (mut all, mut names) = (Vec::new(), Vec::new());
    loop {
        while running.len() < jobs
            && let Some(trial) = waiting.next()
        {
            let harness = harness.clone();
            names.push(trial.name());
            running.spawn(async move { harness.tried(&trial).await });
        }
        let Ok(ended) = tokio::time::timeout(QUIET, running.join_next()).await else {
            told(Told::Waiting(names.clone()));
            continue;
        };
        match ended {
            Some(Ok(tried)) => {
                told(Told::Ended(all.len() + 1, &tried));
                names.retain(|name| *name != tried.name);
                all.push(tried);
            }
            Some(Err(e)) => return Err(std::io::Error::other(e)),
            None => break,
        }
    }
    let _ = std::fs::remove_dir_all(host);
    Ok(Score { format: 1, trials: all, seconds: begun.elapsed().as_secs_f64() })
}

impl Harness {
    async fn tried(&self, trial: &Trial) -> Tried {
        if interrupt::requested() {
            return Tried::of(trial, Outcome::Interrupted, 0.0);
        }
        let begun = Instant::now();
        let dir = self.dir.join(trial.name().replace("::", "."));
        let (outcome, said) = match self.outcome(trial, &dir).await {
            Ok(all) => all,
            Err(ChildError::Interrupted { .. }) => (Outcome::Interrupted, String::new()),
            Err(e) => (Outcome::CouldNot(e.to_string()), String::new()),
        };
        let mut tried = Tried::of(trial, outcome, begun.elapsed().as_secs_f64());
        if tried.outcome == Outcome::Right {
            let _ = std::fs::remove_dir_all(&dir);
        } else if dir.is_dir() {
            // Beside the bundles: what the run said is part of what there is to look at.
            let _ = std::fs::write(dir.join("said.txt"), said);
            tried.bundles = Some(dir.display().to_string());
        }
        tried
    }

    async fn outcome(&self, trial: &Trial, dir: &Path) -> Result<(Outcome, String), ChildError> {
        let row = trial.row;
        let mut words = vec!["run", "--plant", row.name, "--arch", trial.arch.name(), "--jobs", "1"];
        // Two machines of one processor side by side do more than one of two after the other; but on x86_64 with one processor dom0's kernel
        // takes four times as long where EFI firmware booted Xen (docs/PERFORMANCE.md).
        let sets = |what: &str| row.sets.iter().any(|set| set.contains(what));
        if !sets("cpus") && (trial.arch != Arch::X86_64 || !sets("boot=uefi")) {
            words.extend(["--set", "machine.cpus=1"]);
        }
        if trial.without || self.unplanted {
            words.push("--unplanted");
        }
        let command = Command::new(&self.program)
            .args(words)
            .args(&self.arguments)
            .arg("--report")
            .arg(dir)
            // A host on which pkg-config finds every module, whatever the build lacks.
            .env("PKG_CONFIG_PATH", self.dir.join("host"));
        let did = to_its_end(command).await?;
        let code = match did.ended {
            Ended::Exit(code) => Some(code),
            Ended::Signal(_) => None,
        };
        let outcome = judge::judged(trial, code, &did.stderr, dir);
        if outcome != Outcome::Right {
            return Ok((outcome, did.stderr));
        }
        for bundle in judge::bundles(dir) {
            let again = Command::new(&self.program).args(["replay", "--json"]).arg(&bundle);
            let again = to_its_end(again).await?;
            if let Err(why) = judge::replayed(&bundle, &again.stdout) {
                return Ok((Outcome::Wrong(why), did.stderr));
            }
        }
        Ok((Outcome::Right, did.stderr))
    }
}

async fn to_its_end(command: Command) -> Result<Did, ChildError> {
    let child = command.spawn()?;
    let interrupted = || ChildError::Interrupted { program: "xenlab run".to_owned() };
    let ended = tokio::select! {
        ended = child.wait() => ended?,
        () = interrupt::wait() => {
            asked_to_end(&child).await;
            return Err(interrupted());
        }
        () = tokio::time::sleep(HUNG) => {
            asked_to_end(&child).await;
            return Err(ChildError::TimedOut { program: "xenlab run".to_owned(), limit: HUNG });
        }
    };
    // A signal to the whole group of processes reaches both.
    if interrupt::requested() {
        return Err(interrupted());
    }
    Ok(Did { ended, stdout: child.stdout().text(), stderr: child.stderr().text() })
}

/// In order first; the child is killed when it is dropped.
async fn asked_to_end(child: &Child) {
    child.ask_to_end();
    let _ = tokio::time::timeout(GRACE, child.wait()).await;
}

/// `.pc` files of every module of Xen's, as on a host that has its development packages.
fn host_has_all(dir: &Path) -> std::io::Result<()> {
    const MODULES: [&str; 15] = [
        "xencall",
        "xencontrol",
        "xendevicemodel",
        "xenevtchn",
        "xenforeignmemory",
        "xengnttab",
        "xenguest",
        "xenhypfs",
        "xenlight",
        "xenstat",
        "xenstore",
        "xentoolcore",
        "xentoollog",
        "xenvchan",
        "xlutil",
    ];
    std::fs::create_dir_all(dir)?;
    for module in MODULES {
        let text = format!(
            "Name: {module}\nDescription: the host's own\nVersion: 4.17.0\nLibs: -l{module}\nCflags:\n"
        );
        std::fs::write(dir.join(format!("{module}.pc")), text)?;
    }
    Ok(())
}
