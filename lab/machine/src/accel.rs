//! Which accelerator a machine gets, and why.
//!
//! That `/dev/kvm` opens does not say that Xen runs on it: there are hosts where it opens, makes a machine, and QEMU
//! aborts or stops with an internal error at Xen's first instructions. So the probe does what the lab is going to
//! do: it boots the Xen under test on KVM until Xen says its first word, under a bound.
//!
//! What is remembered, and by what: that Xen spoke, and that QEMU did not even start, hold for this kernel, CPU, QEMU
//! and `-cpu`, whatever Xen it is. That a Xen started and stayed silent may be that Xen's own doing: it is remembered
//! with the Xen's digest too, so that one broken build does not turn KVM off for the others.

use crate::error::StartError;
use crate::machine::{Machine, StartOptions};
use crate::spec::{Accel, MachineSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use xenlab_host::probe::Kvm;
use xenlab_host::rundir::{RunDir, RunDirError};
use xenlab_host::{interrupt, probe};
use xenlab_model::Arch;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::MachineEnd;
use xenlab_model::scenario::config::AccelChoice;

/// How long Xen may take to say its first word on KVM, guest time. It takes well below a second.
const BOUND: Duration = Duration::from_secs(5);
/// The same in wall time, should the host be so busy that guest time hardly passes.
const BOUND_WALL: Duration = Duration::from_secs(30);
/// How much of the console is looked at.
const LOOKED_AT: usize = 64 << 10;

/// An accelerator, with the reason in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Which.
    pub accel: Accel,
    /// Why; for people.
    pub reason: String,
}

/// The accelerator that was asked for cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccelError {
    /// Xen cannot run on KVM here.
    #[error("KVM was asked for and cannot run Xen here: {0}. `machine.accel: auto` would use emulation")]
    Unusable(String),
    /// The probe could not be made.
    #[error("whether KVM can run Xen here could not be found out: {0}")]
    Start(#[from] StartError),
    /// There is no place for the probe's sockets.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
}

impl AccelError {
    /// The cause a verdict carries.
    pub fn cause(&self) -> Cause {
        match self {
            AccelError::Unusable(_) => Cause::AcceleratorUnusable,
            AccelError::Start(error) => error.cause(),
            AccelError::RunDir(_) => Cause::LabInternal,
        }
    }
}

/// Chooses the accelerator for `spec` (whose own is not looked at). `xen_digest` tells the Xen under test from
/// others; `memory` is a file in which verdicts are kept between runs, none are without it. `turn` is waited for before a machine is
/// started, if one has to be, and what it yields is kept as long as that; it fails only when the user interrupts.
///
/// # Errors
/// [`AccelError::Unusable`] only when KVM was asked for; the others when the user interrupted or the host has no room.
pub async fn choose<T, E>(
    choice: AccelChoice,
    spec: &MachineSpec,
    xen_digest: &str,
    memory: Option<&Path>,
    turn: impl Future<Output = Result<T, E>>,
) -> Result<Chosen, AccelError> {
    if choice == AccelChoice::Tcg {
        return Ok(Chosen { accel: Accel::Tcg, reason: "emulation was asked for".to_owned() });
    }
    let finding = match excluded(spec.arch, Arch::host(), &probe::kvm()) {
        Some(reason) => Finding { usable: false, reason },
        None => found(spec, xen_digest, memory, turn).await?,
    };
    conclude(choice, finding)
}

fn conclude(choice: AccelChoice, finding: Finding) -> Result<Chosen, AccelError> {
    match (finding.usable, choice) {
        (true, _) => Ok(Chosen { accel: Accel::Kvm, reason: finding.reason }),
        (false, AccelChoice::Kvm) => Err(AccelError::Unusable(finding.reason)),
        (false, _) => Ok(Chosen { accel: Accel::Tcg, reason: finding.reason }),
    }
}

/// What rules KVM out before anything is run.
fn excluded(arch: Arch, host: Option<Arch>, kvm: &Kvm) -> Option<String> {
    if host != Some(arch) {
        return Some(format!("this host is not {arch} ({}), so KVM cannot run it", std::env::consts::ARCH));
    }
    kvm.device.clone().err()
}

/// What is known of Xen on KVM here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Finding {
    usable: bool,
    reason: String,
}

async fn found<T, E>(
    spec: &MachineSpec,
    xen_digest: &str,
    memory: Option<&Path>,
    turn: impl Future<Output = Result<T, E>>,
) -> Result<Finding, AccelError> {
    let spec = MachineSpec { accel: Accel::Kvm, ..spec.clone() };
    // One at a time: cases that run side by side need not all try the same.
    static TRYING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one = TRYING.lock().await;
    let host = host_key(&spec);
    let with_xen = format!("{host}\nxen {xen_digest}");
    let remembered = memory.map(recall).unwrap_or_default();
    if let Some(finding) = remembered.get(&host).or_else(|| remembered.get(&with_xen)) {
        return Ok(Finding { reason: format!("{} (found out before)", finding.reason), ..finding.clone() });
    }
    // Nobody is waited for without end but for the user's own.
    let _turn = turn.await.map_err(|_| StartError::Interrupted)?;
    let (finding, of_this_xen) = try_xen(&spec).await?;
    if let Some(path) = memory {
        let key = if of_this_xen { with_xen } else { host };
        if let Err(error) = remember(path, key, &finding) {
            tracing::warn!("{}: the accelerator's verdict could not be kept: {error}", path.display());
        }
    }
    Ok(finding)
}

/// What a finding depends on, whatever Xen it is.
fn host_key(spec: &MachineSpec) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    // x86 names its model; Arm says implementer, part and revision.
    let names =
        ["vendor_id", "model name", "stepping", "microcode", "CPU implementer", "CPU part", "CPU revision"];
    let first =
        |name: &&str| cpuinfo.lines().find(|l| l.starts_with(*name)).map(str::trim).unwrap_or_default();
    let cpu: Vec<&str> = names.iter().map(first).filter(|l| !l.is_empty()).collect();
    let kvm = probe::kvm();
    [
        format!("kernel {}", read("/proc/sys/kernel/osrelease").trim()),
        format!("modules {} nested {:?}", kvm.modules.join(" "), kvm.nested),
        format!("cpu {}", cpu.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")),
        format!("qemu {} {}", spec.qemu.shown(), spec.qemu.stamp),
        format!("machine {} {} -cpu {}", spec.arch, spec.qemu.machine, spec.cpu_model().0),
    ]
    .join("\n")
}

/// Boots it. The flag: what was found may be this Xen's own doing.
async fn try_xen(spec: &MachineSpec) -> Result<(Finding, bool), AccelError> {
    let spec = MachineSpec { network: false, ..spec.clone() };
    let no = |reason: String| Finding { usable: false, reason };
    let rundir = Arc::new(RunDir::create("accelerator probe")?);
    let mut machine = match Machine::start(&spec, rundir, StartOptions::default()).await {
        Ok(machine) => machine,
        Err(error @ (StartError::Refused { .. } | StartError::Killed { .. } | StartError::Qmp(_))) => {
            // An assertion's text is longer than a reason should be: its first line says it.
            let error = error.to_string();
            return Ok((
                no(format!("with KVM QEMU does not start: {}", error.lines().next().unwrap_or_default())),
                false,
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let spoke = speaks(&mut machine).await;
    let seconds = machine.wall_time().as_secs_f64();
    let verdict = match spoke {
        Spoke::Yes => {
            let reason = format!("on KVM this Xen said its first word after {seconds:.1} s");
            (Finding { usable: true, reason }, false)
        }
        Spoke::Interrupted => return Err(StartError::Interrupted.into()),
        Spoke::Silent => (no(format!("on KVM this Xen said nothing for {seconds:.0} s")), true),
        Spoke::Ended(end) => (no(format!("on KVM {}", in_words(&end))), true),
    };
    machine.stop().await;
    Ok(verdict)
}

enum Spoke {
    Yes,
    Silent,
    Ended(MachineEnd),
    Interrupted,
}

/// Powers it on and waits for Xen's name on its console.
async fn speaks(machine: &mut Machine) -> Spoke {
    let Some((mut console, _writer)) = machine.take_console() else { return Spoke::Silent };
    if let Err(error) = machine.resume().await {
        // A machine that is gone says better why.
        let end = tokio::time::timeout(Duration::from_secs(3), machine.ended()).await;
        return Spoke::Ended(end.unwrap_or_else(|_| MachineEnd::Protocol(error.to_string())));
    }
    let heard = async {
        let mut text = Vec::new();
        while text.len() < LOOKED_AT {
            match console.read_buf(&mut text).await {
                // Its end is told by the machine's.
                Ok(0) | Err(_) => return std::future::pending().await,
                Ok(_) if text.windows(3).any(|w| w == b"Xen" || w == b"XEN") => return Spoke::Yes,
                Ok(_) => {}
            }
        }
        // Much, and not Xen's.
        Spoke::Silent
    };
    let too_long = async {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        while machine.guest_time() < BOUND && machine.wall_time() < BOUND_WALL {
            tick.tick().await;
        }
        Spoke::Silent
    };
    tokio::select! {
        biased;
        spoke = heard => spoke,
        end = machine.ended() => Spoke::Ended(end),
        () = interrupt::wait() => Spoke::Interrupted,
        spoke = too_long => spoke,
    }
}

fn in_words(end: &MachineEnd) -> String {
    let last = |stderr: &str| match stderr.trim_end().lines().last() {
        Some(line) => format!(": {line}"),
        None => String::new(),
    };
    match end {
        MachineEnd::InternalError => {
            "QEMU stopped with an internal error before Xen said anything".to_owned()
        }
        MachineEnd::QemuKilled { signal, stderr } => format!("QEMU died of signal {signal}{}", last(stderr)),
        MachineEnd::QemuExited { status, stderr } => {
            format!("QEMU exited with status {status}{}", last(stderr))
        }
        MachineEnd::GuestReset => "the machine reset before Xen said anything".to_owned(),
        MachineEnd::GuestPowerOff => "the machine powered off before Xen said anything".to_owned(),
        MachineEnd::GuestPanicked => "the guest panicked before Xen said anything".to_owned(),
        MachineEnd::Protocol(why) => format!("QEMU's monitor was lost: {why}"),
    }
}

fn recall(path: &Path) -> BTreeMap<String, Finding> {
    // A file that is damaged or of another version is as good as none: the probe is made again.
    std::fs::read(path).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
}

fn remember(path: &Path, key: String, finding: &Finding) -> std::io::Result<()> {
    let mut all = recall(path);
    all.insert(key, finding.clone());
    crate::qemu::write(path, &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kvm(device: Result<(), String>) -> Kvm {
        Kvm { device, modules: vec![], extension: None, nested: None }
    }

    #[test]
    fn what_rules_kvm_out() {
        let there = kvm(Ok(()));
        assert_eq!(excluded(Arch::X86_64, Some(Arch::X86_64), &there), None);
        assert!(excluded(Arch::Aarch64, Some(Arch::X86_64), &there).unwrap().contains("not aarch64"));
        assert!(excluded(Arch::X86_64, None, &there).is_some(), "a host of some third architecture");
        let gone = kvm(Err("there is no /dev/kvm".to_owned()));
        assert!(excluded(Arch::X86_64, Some(Arch::X86_64), &gone).unwrap().contains("/dev/kvm"));
    }

    #[test]
    fn only_kvm_asked_for_and_unusable_is_an_error() {
        let finding = |usable| Finding { usable, reason: "why".to_owned() };
        assert_eq!(conclude(AccelChoice::Auto, finding(true)).unwrap().accel, Accel::Kvm);
        assert_eq!(conclude(AccelChoice::Kvm, finding(true)).unwrap().accel, Accel::Kvm);
        assert_eq!(conclude(AccelChoice::Auto, finding(false)).unwrap().accel, Accel::Tcg);
        let error = conclude(AccelChoice::Kvm, finding(false)).unwrap_err();
        assert_eq!(error.cause(), Cause::AcceleratorUnusable);
        assert!(error.to_string().contains("why"));
    }

    #[test]
    fn findings_are_kept_and_a_damaged_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/accel.json");
        let finding = Finding { usable: false, reason: "r".to_owned() };
        remember(&path, "k".to_owned(), &finding).unwrap();
        remember(&path, "l".to_owned(), &finding).unwrap();
        assert_eq!(recall(&path).len(), 2);
        assert_eq!(recall(&path)["k"], finding);
        std::fs::write(&path, "{").unwrap();
        assert!(recall(&path).is_empty());
    }
}
