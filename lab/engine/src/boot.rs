//! The boot: a machine made of prepared files, from power-on to the phase that the case needs.

use crate::EngineError;
use crate::budget::Ticket;
use crate::bundle::Bundle;
use crate::door::Typed;
use crate::exec;
use crate::hub::{Clock, Hub};
use crate::layer::{self, Keys, initrd};
use crate::limits;
use crate::pool::{Started, Warm};
use crate::prepare::{Parts, Prepared};
use crate::template::Ready;
use crate::turn::{NEXT, Turn, until_power_on};
use crate::wait::{Allowed, Phases, Watch};
use crate::ways::Ways;
use crate::work::Meter;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use xenlab_console::Phase;
use xenlab_guest::port::PortShell;
use xenlab_guest::serial::{Login, LoginStep, SerialShell};
use xenlab_guest::ssh::{SshConfig, SshShell};
use xenlab_guest::{Deadline, Shell};
use xenlab_host::rundir::RunDir;
use xenlab_image::{BootFiles, Dance, Layout};
use xenlab_machine::qmp::Direction;
use xenlab_machine::{
    Accel, Backing, Boot, BootDisk, Disk, Domain, Flash, Machine, MachineSpec, Payload, StartOptions, argv,
    quirks,
};
use xenlab_model::bundle::{Inputs, TickWhat};
use xenlab_model::case::{Case, as_dom0};
use xenlab_model::cause::Cause;
use xenlab_model::evidence::{Evidence, MachineEnd, Origin, Transport, WaitEnd};
use xenlab_model::fact::Facts;
use xenlab_model::judge::BOOT;
use xenlab_model::step::phase::PhaseEvidence;
use xenlab_model::step::{Observation, Step};

/// Names of QEMU's QMP events after which the machine's record goes on as if a byte had come.
const LIFE: &[&str] = &["RESUME", "STOP", "RTC_CHANGE", "NIC_RX_FILTER_CHANGED"];

/// How far the boot must come before the first step: as far as the furthest step needs.
pub fn target(steps: &[&Step]) -> Phase {
    xenlab_model::judge::target(steps.iter().copied())
}

/// The boot's evidence says that the target was reached.
pub fn came_far_enough(seen: &Observation) -> bool {
    matches!(seen, Observation::Phase(p) if p.end == WaitEnd::Reached)
}

/// A boot's outcome.
pub struct Booted {
    /// Of the implicit boot step.
    pub evidence: Evidence,
    /// The machine; none when it never started.
    pub machine: Option<Running>,
    /// What a clone of it would need.
    pub kept: Option<Made>,
}

/// What only this boot's dom0 and the lab know, and a clone's dom0 knows as well.
#[derive(Clone, Serialize, Deserialize)]
pub struct Kept {
    /// What dom0's own words on the console carry.
    pub nonce: String,
    keys: Keys,
}

/// A machine that runs, with everything attached to it.
pub struct Running {
    /// QEMU.
    pub machine: Arc<Machine>,
    /// Its console.
    pub hub: Arc<Hub>,
    /// The ways into dom0.
    pub ways: Ways,
    /// How to log in over SSH.
    pub ssh: SshConfig,
    /// What is typed on its console.
    pub typed: Typed,
    /// Its accelerator is KVM.
    pub kvm: bool,
    /// Length of the console's record when the steps began.
    pub case_start: u64,
    /// The console's record in the bundle.
    pub record: PathBuf,
    /// What is seen of it is seen of a cold boot, or of a clone.
    pub origin: Origin,
    /// What the lab itself takes, since the machine runs.
    pub meter: Meter,
    pump: tokio::task::JoinHandle<()>,
    clock: Clock,
    /// Its right to run.
    pub ticket: Option<Ticket>,
    /// SHA-256 of the test that is its dom0, if one is.
    pub test: Option<String>,
}

impl Running {
    /// Wall time since power-on.
    pub fn wall(&self) -> Duration {
        (self.clock)().0
    }

    /// Both clocks.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Guest time since power-on.
    pub fn guest(&self) -> Duration {
        (self.clock)().1
    }

    /// Ends the machine in order, at most in [`exec::TEARDOWN`].
    pub async fn stop(self) {
        let _ = tokio::time::timeout(exec::TEARDOWN, self.machine.stop()).await;
        let _ = tokio::time::timeout(Duration::from_millis(500), self.pump).await;
    }
}

/// What a machine of this case is made of; `initrd` is dom0's own, or that with the case's layer.
pub fn spec(case: &Case, parts: &Parts, accel: Accel, initrd: Payload) -> Result<MachineSpec, EngineError> {
    let payload = |path: &PathBuf| {
        Payload::of(path)
            .map_err(|e| EngineError::part(Cause::LabInternal, format!("{}: {e}", path.display())))
    };
    let config = &case.config;
    let mut spec = MachineSpec::new(
        parts.qemu.clone(),
        accel,
        payload(&parts.xen)?,
        payload(&parts.dom0.kernel)?,
        initrd,
    );
    if let Some(firmware) = &parts.firmware {
        // Written when the machine is started.
        let flash = firmware.efi().map_err(|e| EngineError::part(e.cause(), e))?;
        let flash = flash.map(|(code, vars_bytes)| Flash { code, vars: Flash::VARS.into(), vars_bytes });
        spec.boot = Boot::Firmware(BootDisk { path: BootDisk::FILE.into(), bytes: 0, flash });
    }
    spec.cpu.clone_from(&config.machine.cpu);
    spec.cpus = config.machine.cpus;
    spec.memory = exec::machine_memory(config);
    spec.dom0_memory = config.dom0.memory;
    spec.dom0_vcpus = config.dom0.vcpus;
    let guests = !config.guests.is_empty();
    let (mut xen_args, mut dom0_args) = (Vec::new(), Vec::new());
    if let Some(system) = &parts.dom0.system {
        xen_args.clone_from(&system.xen_args);
        dom0_args.clone_from(&system.kernel_args);
    }
    xen_args.extend(config.xen.args.iter().cloned());
    dom0_args.extend(config.dom0.args.iter().cloned());
    spec.xen_args = quirks::xen_args(config.arch, accel, parts.qemu.version, &xen_args, guests);
    spec.dom0_args = dom0_args;
    let disk = if parts.dom0.system.is_some() { Disk::snapshot } else { Disk::read_only };
    spec.disks = parts.dom0.disks.iter().map(disk).collect();
    spec.devices.clone_from(&config.machine.devices);
    for files in &parts.dom0.domains {
        let Some(guest) = config.guests.get(&files.name) else { continue };
        spec.domains.push(Domain {
            name: files.name.clone(),
            kernel: payload(&files.kernel)?,
            kernel_at: None,
            initrd: files.initrd.as_ref().map(payload).transpose()?,
            memory: guest.memory,
            vcpus: guest.vcpus,
            args: guest.args_by_xen(&files.name, &case.nonce).join(" "),
        });
    }
    if let Some(test) = as_dom0(&case.steps) {
        let guest = crate::xtf::guest(test, "", &Facts::default())?;
        spec.kernel = payload(&guest.kernel)?;
        spec.kernel_alone = true;
        spec.disks.clear();
        spec.network = false;
        spec.dom0_args = vec![guest.cmdline];
    }
    Ok(spec)
}

/// What only a boot's dom0 and the lab know, and what its machine was made of: what a clone of it needs.
pub type Made = (Kept, MachineSpec);

/// Boots to `target`. An Err is the lab's; everything the machine did is in the evidence. With `ram` the machine's memory is in that
/// file, so that a template of it can be taken.
pub async fn boot(
    case: &Case,
    prepared: &Arc<Prepared>,
    bundle: &Arc<Bundle>,
    target: Phase,
    inputs: &mut Inputs,
    start: Start<'_>,
    on_phase: &(dyn Fn(Phase, f64) + Sync),
) -> Result<Booted, EngineError> {
    if let Some(damage) = &prepared.damage {
        // An image that cannot be one is not given to a machine: what it would do there says nothing more.
        let end = WaitEnd::Failed { code: damage.0.code().to_owned(), line: damage.1.clone() };
        let seen = PhaseEvidence {
            reached: Vec::new(),
            end,
            console_bytes: 0,
            tails: Vec::new(),
            signs: Vec::new(),
            heard: Vec::new(),
            ended: 0.0,
            usual: None,
            told: Vec::new(),
        };
        return Ok(Booted { evidence: evidence(0.0, seen), machine: None, kept: None });
    }
    let dir = rundir(case)?;
    let kept = Kept { nonce: case.nonce.clone(), keys: Keys::generate()? };
    let initrd = initrd(case, prepared, &kept.keys, &kept.nonce, &dir).await?;
    let mut spec = spec(case, &prepared.parts, prepared.accel.accel, initrd)?;
    spec.disks.extend(layer::seed(&prepared.dom0, &dir));
    let mut test = None;
    if as_dom0(&case.steps).is_some() {
        // What is recorded of it is what ran, whatever becomes of the tree.
        let (from, to) = (spec.kernel.path.clone(), dir.path().join("test"));
        let (kernel, digest) = crate::blocking(move || {
            let io = |e| EngineError::part(Cause::LabInternal, e);
            let bytes = std::fs::read(&from).map_err(io)?;
            std::fs::write(&to, &bytes).map_err(io)?;
            Ok((Payload::of(&to).map_err(io)?, crate::digest_hex(&bytes)))
        })
        .await?;
        spec.kernel = kernel;
        test = Some(digest);
    }
    if let Some(ram) = start.ram {
        spec.backing = Backing::Build(ram.to_owned());
    }
    if let Some(plant) = &prepared.plant {
        plant.machine(&mut spec)?;
    }
    write_disk(prepared, &mut spec, &dir).await?;
    write_device_tree(&mut spec, &dir, bundle).await?;
    let of = (&kept, &spec);
    let (running, mut early) =
        attach(case, prepared, bundle, of, From::PowerOn(dir, start.stays, start.turn), inputs).await?;
    let end = {
        let Running { hub, kvm, .. } = &running;
        let clock = running.clock();
        let guest = {
            let clock = clock.clone();
            move || clock().1
        };
        let watch = Watch { hub, guest: &guest, kvm: *kvm };
        // The phases' own limits end it long before an hour.
        let (limit, phases) = match case.config.limits.boot {
            Some(own) => (own.0, Phases::Stalls),
            None => (Duration::from_secs(3600), Phases::All),
        };
        let mut told = 1;
        watch
            .until(Allowed { limit, phases }, running.machine.ended(), |state| {
                for (phase, at) in &state.phases[told..] {
                    on_phase(*phase, *at);
                    bundle.tick(
                        Duration::from_secs_f64(*at),
                        guest(),
                        TickWhat::Phase { phase: phase.name().to_owned() },
                    );
                    told += 1;
                }
                if state.phase() >= Phase::Dom0Init
                    && let Some(shell) = early.take()
                {
                    // The key exchange is done while dom0's services start: emulated cryptography takes tenths of a second.
                    let clock = clock.clone();
                    let deadline = Deadline::new(
                        Arc::new(move || clock().1),
                        limits::phase(Phase::Dom0Init, *kvm).limit,
                    );
                    tokio::spawn(async move {
                        // What goes wrong here goes wrong again, and is told, when the first command runs.
                        let _ = shell.open(deadline).await;
                    });
                }
                state.phase() >= target
            })
            .await
    };
    let end = match end {
        WaitEnd::Stalled { .. } | WaitEnd::TimedOut { .. } => match lifeless(&running.machine).await {
            Some(why) => WaitEnd::Ended(why),
            None => end,
        },
        end => end,
    };
    if end == WaitEnd::Interrupted {
        running.stop().await;
        return Err(EngineError::Interrupted);
    }
    let seen = running.hub.state().phase_evidence(end);
    let to = running.wall().as_secs_f64();
    let total = running.hub.state().total;
    let running = Running { case_start: total, test, ..running };
    Ok(Booted { evidence: evidence(to, seen), machine: Some(running), kept: Some((kept, spec)) })
}

/// Writes the disk that firmware boots: behind every change to what lies on it.
async fn write_disk(
    prepared: &Arc<Prepared>,
    spec: &mut MachineSpec,
    dir: &RunDir,
) -> Result<(), EngineError> {
    let (Some(firmware), Boot::Firmware(mut disk)) = (prepared.firmware.clone(), spec.boot.clone()) else {
        return Ok(());
    };
    disk.path = dir.path().join(BootDisk::FILE);
    let vars = dir.path().join(Flash::VARS);
    if let Some(flash) = &mut disk.flash {
        flash.vars.clone_from(&vars);
    }
    let (of, path, system) = (spec.clone(), disk.path.clone(), prepared.dom0.system.clone());
    disk.bytes = crate::blocking(move || {
        let (xen_args, kernel_args) = (argv::xen_command_line(&of), argv::dom0_command_line(&of));
        let files = BootFiles {
            xen: &of.xen.path,
            xen_args: &xen_args,
            kernel: &of.kernel.path,
            kernel_args: &kernel_args,
            initrd: (!of.kernel_alone).then_some(of.initrd.path.as_path()),
            names: system.as_ref().map(|s| (s.kernel_name.as_str(), s.initrd_name.as_str())),
        };
        firmware.write(&files, &path, &vars).map_err(|e| EngineError::part(e.cause(), e))
    })
    .await?;
    spec.boot = Boot::Firmware(disk);
    Ok(())
}

/// The file in a machine's run folder that is the device tree with the domains which Xen makes.
pub const DEVICE_TREE: &str = "device-tree";

/// Writes the device tree that has the domains which Xen makes, behind every change to them; it is kept with what the case leaves.
async fn write_device_tree(spec: &mut MachineSpec, dir: &RunDir, bundle: &Bundle) -> Result<(), EngineError> {
    if spec.domains.is_empty() {
        return Ok(());
    }
    let (of, path) = (spec.clone(), dir.path().join(DEVICE_TREE));
    spec.device_tree = Some(path.clone());
    let kept = bundle.dir().join("device-tree.dtb");
    crate::blocking(move || {
        xenlab_machine::device_tree(&of, &path).map_err(|e| EngineError::part(e.cause(), e))?;
        std::fs::copy(&path, &kept).map_err(|e| EngineError::part(Cause::LabInternal, e))?;
        Ok(())
    })
    .await
}

/// Starts a machine where a template stands, over the memory that `spec` says, or goes on with one of it that `waited`.
///
/// # Errors
/// The lab's own; [`Cause::TemplateUnusable`] where the template is no good.
pub async fn clone(
    case: &Case,
    prepared: &Arc<Prepared>,
    bundle: &Arc<Bundle>,
    ready: &Ready,
    spec: &MachineSpec,
    waited: Option<Started>,
    inputs: &mut Inputs,
) -> Result<Running, EngineError> {
    let of = (&ready.kept, spec);
    if let Some(started) = waited {
        inputs.warm = Some(started.0.from.clone());
        let from = From::Waited(ready, Box::new(started));
        return Ok(attach(case, prepared, bundle, of, from, inputs).await?.0);
    }
    let from = From::Template(ready, rundir(case)?);
    let (mut running, _) = attach(case, prepared, bundle, of, from, inputs).await?;
    match running.ways.first_words().await {
        Ok(()) => Ok(running),
        // What shares its clock and its random numbers with others is no machine to judge anything on.
        Err(why) => {
            running.stop().await;
            Err(EngineError::part(Cause::TemplateUnusable, why))
        }
    }
}

fn rundir(case: &Case) -> Result<Arc<RunDir>, EngineError> {
    RunDir::create(&case.shown()).map(Arc::new).map_err(|e| EngineError::part(Cause::LabInternal, e))
}

/// How a machine is started.
#[derive(Default)]
pub struct Start<'a> {
    /// Its memory is this file, so that it can be frozen.
    pub ram: Option<&'a Path>,
    /// Where the guest ends it, it stays as it then was, for whoever looks.
    pub stays: bool,
    /// Its turn, where that is still to come: until then it stands ready, paused.
    pub turn: Option<Turn<'a>>,
}

/// What a machine comes from.
enum From<'a> {
    PowerOn(Arc<RunDir>, bool, Option<Turn<'a>>),
    Template(&'a Ready, Arc<RunDir>),
    /// It runs already, and nobody has read its console yet.
    Waited(&'a Ready, Box<Started>),
}

/// Starts or restores the machine that `spec` describes, with everything attached to it before anything of the guest runs.
async fn attach(
    case: &Case,
    prepared: &Arc<Prepared>,
    bundle: &Arc<Bundle>,
    (kept, spec): (&Kept, &MachineSpec),
    from: From<'_>,
    inputs: &mut Inputs,
) -> Result<(Running, Option<SshShell>), EngineError> {
    // Power-on is now for all clocks; until the machine runs guest time is wall time. The clock must not keep the machine: its
    // monitor's task holds the clock.
    let power_on = Arc::new(Mutex::new((Instant::now(), Weak::<Machine>::new())));
    let clock: Clock = {
        let power_on = power_on.clone();
        Arc::new(move || {
            let held = power_on.lock().unwrap_or_else(PoisonError::into_inner);
            let wall = held.0.elapsed();
            (wall, held.1.upgrade().map_or(wall, |m| m.guest_time().min(wall)))
        })
    };
    let hub = Hub::new(&kept.nonce, clock.clone());
    let record = {
        let (bundle, hub) = (bundle.clone(), hub.clone());
        move |(wall, guest): (Duration, Duration), direction: Direction, message: &serde_json::Value| {
            let direction = direction.name().to_owned();
            bundle.tick(wall, guest, TickWhat::Qmp { direction, message: message.clone() });
            if message["event"].as_str().is_some_and(|name| LIFE.contains(&name)) {
                hub.touch();
            }
        }
    };
    let tap = {
        let (clock, record) = (clock.clone(), record.clone());
        move |direction: Direction, message: &serde_json::Value| record(clock(), direction, message)
    };
    let options = StartOptions { tap: Arc::new(tap), ..Default::default() };
    let begun = Instant::now();
    let mut turn = None;
    let (started, template, waited) = match from {
        From::PowerOn(dir, stays, of_one) => {
            turn = of_one;
            let started = Machine::start(spec, dir, options).await;
            if let Ok(machine) = &started
                && stays
            {
                // A QEMU that cannot do this ends with its guest, and there is nothing to look at.
                let pause = serde_json::json!({"shutdown": "pause"});
                let _ = machine.qmp().execute("set-action", pause).await;
            }
            (started, None, None)
        }
        From::Template(ready, dir) => {
            (Machine::restore(spec, &ready.state, dir, options).await, Some(ready), None)
        }
        From::Waited(ready, started) => {
            let Warm { machine, port, said, .. } = started.0;
            (Ok(machine), Some(ready), Some((port, said)))
        }
    };
    let mut machine = match started {
        Ok(machine) => machine,
        Err(_) if xenlab_host::interrupt::requested() => return Err(EngineError::Interrupted),
        Err(error) => return Err(EngineError::part(error.cause(), &error)),
    };
    if waited.is_none() {
        as_asked(spec, &machine).await?;
    }
    if let Some(ready) = template {
        hub.remember(&ready.console, &ready.phases(), bundle);
    }
    inputs.argv = machine.argv().iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let (reader, writer) = machine
        .take_console()
        .ok_or_else(|| EngineError::part(Cause::LabInternal, "the machine's console was already taken"))?;
    let ports = machine.take_ports();
    let machine = Arc::new(machine);
    let (ticket, stood_ready) = match turn {
        None => (None, None),
        Some(turn) => {
            let ticket = turn.of.await?;
            tokio::time::sleep(until_power_on(begun.elapsed())).await;
            (Some(ticket), turn.ready)
        }
    };
    let on = machine.clock().map_or_else(Instant::now, |clock| clock.started());
    {
        let mut held = power_on.lock().unwrap_or_else(PoisonError::into_inner);
        *held = (on, Arc::downgrade(&machine));
    }
    let pump = tokio::spawn(hub.clone().pump(reader, bundle.clone()));
    let waited = match waited {
        None => {
            machine.resume().await.map_err(|e| EngineError::part(e.cause(), &e))?;
            if stood_ready.is_some() {
                tokio::spawn(async move {
                    tokio::time::sleep(NEXT).await;
                    drop(stood_ready);
                });
            }
            None
        }
        Some((port, said)) => {
            let clock = clock.clone();
            said.give(Box::new(move |at, direction, message| {
                let wall = at.saturating_duration_since(on);
                record((wall, clock().1.min(wall)), direction, message);
            }));
            Some(port)
        }
    };
    let guest: xenlab_guest::Clock = {
        let clock = clock.clone();
        Arc::new(move || clock().1)
    };
    let said_first_words = waited.is_some();
    let port = waited.or_else(|| ports.map(|p| PortShell::new(p.shell, p.stdout, p.stderr)));
    let login = SshConfig {
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, machine.ssh_port().unwrap_or(0))),
        user: prepared.dom0.layout.user.clone(),
        private_key: kept.keys.user.openssh.clone(),
        host_key: kept.keys.host.public.clone(),
    };
    let typed = Typed::new(writer);
    let (mut ways, ssh) = ways(case, prepared, (&login, port), &hub, typed.clone(), guest)?;
    if said_first_words {
        ways.said_first_words();
    }
    let running = Running {
        machine,
        hub: hub.clone(),
        ways,
        ssh: login,
        typed,
        kvm: prepared.accel.accel == Accel::Kvm,
        case_start: hub.state().total,
        record: bundle.console_path(),
        origin: if template.is_some() { Origin::Clone } else { Origin::PowerOn },
        meter: Meter::begin(),
        pump,
        clock,
        ticket,
        test: None,
    };
    Ok((running, ssh))
}

/// The machine is the one that was asked for. What stands in QEMU's place may have changed its arguments, and a Xen that has less
/// memory than it was promised says something about that, not about itself.
pub async fn as_asked(spec: &MachineSpec, machine: &Machine) -> Result<(), EngineError> {
    let broken = |message: String| {
        let path = spec.qemu.path.display();
        EngineError::part(
            Cause::QemuRefused,
            format!("{path} runs another machine than it was asked for: {message}"),
        )
    };
    let has = machine.qmp().execute("query-memory-size-summary", serde_json::json!({})).await;
    // One that does not answer this cannot be told; everything else about it still counts.
    if let Some(bytes) = has.ok().and_then(|has| has["base-memory"].as_u64())
        && bytes >> 20 != spec.memory.as_mib()
    {
        return Err(broken(format!(
            "it has {} MiB of memory in place of {}",
            bytes >> 20,
            spec.memory.as_mib()
        )));
    }
    let processors = machine.vcpu_threads().len();
    if processors != 0 && u32::try_from(processors).ok() != Some(spec.cpus) {
        return Err(broken(format!("it has {processors} processors in place of {}", spec.cpus)));
    }
    Ok(())
}

/// How long QEMU's monitor may take to say that it is there, wall time; it takes milliseconds.
const ALIVE: Duration = Duration::from_secs(10);

/// A guest that fell silent says something about the guest only if QEMU still runs it: asked for its state, one that was
/// stopped or is stuck does not answer.
async fn lifeless(machine: &Machine) -> Option<MachineEnd> {
    let state = machine.qmp().execute_within("query-status", serde_json::json!({}), ALIVE).await;
    let what = match state {
        Ok(state) if state["running"] != serde_json::Value::Bool(false) => return machine.end(),
        Ok(state) => format!("the machine is not running: {}", state["status"]),
        Err(error) => format!("asked for the machine's state: {error}"),
    };
    Some(machine.end().unwrap_or(MachineEnd::Protocol(what)))
}

fn evidence(to: f64, seen: PhaseEvidence) -> Evidence {
    Evidence {
        step: BOOT.to_owned(),
        origin: Origin::PowerOn,
        from: 0.0,
        to,
        seen: Ok(Observation::Phase(seen)),
    }
}

/// The ways in, none opened yet, and the SSH session to open early when it will be used.
fn ways(
    case: &Case,
    prepared: &Prepared,
    (login_over_ssh, shell): (&SshConfig, Option<PortShell>),
    hub: &Arc<Hub>,
    writer: Typed,
    guest: xenlab_guest::Clock,
) -> Result<(Ways, Option<SshShell>), EngineError> {
    let layout = &prepared.dom0.layout;
    let ssh = SshShell::new(login_over_ssh.clone()).map_err(|e| EngineError::part(e.cause(), &e))?;
    let (bytes, from_console) = tokio::sync::mpsc::channel(64);
    let serial: Box<dyn Shell> = Box::new(SerialShell::new(from_console, writer, login(layout)));
    let only = case.config.dom0.via;
    let early =
        crate::ways::uses(case.setup.iter().chain(&case.steps), only, Transport::Ssh).then(|| ssh.clone());
    Ok((Ways::new(hub.clone(), guest, ssh, (serial, bytes), shell, only), early))
}

/// The image's login dance in the words of the serial shell.
fn login(layout: &Layout) -> Login {
    let steps = layout.login.iter().map(|step| match step {
        Dance::Wait(text) => LoginStep::Expect(text.clone()),
        Dance::Write(text) => LoginStep::Send(text.clone()),
    });
    Login { steps: steps.collect() }
}

/// A bare boot of the same artefacts, for the bench: nothing is judged, recorded or connected to. Seconds from QEMU's exec to
/// dom0's own word that it is ready.
pub async fn bare(case: &Case, prepared: &Arc<Prepared>) -> Result<f64, EngineError> {
    use tokio::io::AsyncReadExt;
    let dir = Arc::new(RunDir::create("bench").map_err(|e| EngineError::part(Cause::LabInternal, e))?);
    let keys = Keys::generate()?;
    let nonce = crate::random_hex(16);
    let initrd = initrd(case, prepared, &keys, &nonce, &dir).await?;
    let mut spec = spec(case, &prepared.parts, prepared.accel.accel, initrd)?;
    spec.disks.extend(layer::seed(&prepared.dom0, &dir));
    let mut machine = Machine::start(&spec, dir.clone(), StartOptions::default())
        .await
        .map_err(|e| EngineError::part(e.cause(), &e))?;
    let begun = machine.spawned();
    let taken = machine.take_console();
    machine.resume().await.map_err(|e| EngineError::part(e.cause(), &e))?;
    let word = format!("xenlab: ready {nonce}");
    let mut heard = String::new();
    let ready = async {
        let Some((mut reader, _writer)) = taken else { return false };
        let mut buffer = vec![0; 16 << 10];
        loop {
            match reader.read(&mut buffer).await {
                Ok(n) if n > 0 => heard.push_str(&String::from_utf8_lossy(&buffer[..n])),
                _ => return false,
            }
            if heard.contains(&word) {
                return true;
            }
        }
    };
    let outcome = tokio::select! {
        () = xenlab_host::interrupt::wait() => Err(EngineError::Interrupted),
        ready = tokio::time::timeout(Duration::from_secs(120), ready) => Ok(ready.unwrap_or(false)),
    };
    let seconds = begun.elapsed().as_secs_f64();
    machine.stop().await;
    if outcome? {
        Ok(seconds)
    } else {
        Err(EngineError::part(Cause::LabInternal, "the bare boot did not become ready"))
    }
}
