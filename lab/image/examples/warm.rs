//! What a template is worth: boots a real dom0, freezes it, restores it again and again, asks each clone `xl info` over SSH and
//! checks the answer.
//!
//! `warm ARCH N [QEMU] [DIR]`: DIR is where the memory file is (the store's when not said). Variables, for trying things out:
//! `XEN` (`debian:bookworm`), `COLD=1` (no template: how long the boot takes without one), `CHANGE=SCRIPT` (is run in DIR
//! before the first restore: for damaging a template), `RESTORE_QEMU` (another QEMU for the clones), `FLIPS=N` (what QEMU makes of
//! damaged states, in place of measuring), `SMAPS=1`, and
//! `KICK=WORD,…` with
//! `none`, `console`, `announce`, `link`, `tcp`, `stdout`, `stderr`, `shell` (a kick for each clone, in place of what the machine does
//! by itself; shows whether the guest woke).

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use xenlab_guest::ssh::{SshConfig, SshShell};
use xenlab_guest::{Deadline, Script, Shell};
use xenlab_host::rundir::RunDir;
use xenlab_image::{CaseLayer, Dom0Request, HostKey, ToolsTree, write_initrd};
use xenlab_machine::{
    Accel, Backing, ConsoleWriter, Disk, Machine, MachineSpec, Payload, StartOptions, qemu,
};
use xenlab_model::Arch;
use xenlab_model::evidence::CommandEnd;
use xenlab_model::spec::DeviceModelSpec;
use xenlab_model::spec::Subject;
use xenlab_store::{Options, Store};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What a process in dom0 says again and again.
const LIFE: &str = "alive-and-well";
static TICKS: AtomicUsize = AtomicUsize::new(0);

const LIMIT: Duration = Duration::from_secs(60);

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads the console to its end; says when it said `word`.
fn drain(machine: &mut Machine, word: Option<String>) -> Result<(oneshot::Receiver<()>, ConsoleWriter)> {
    let (mut reader, writer) = machine.take_console().ok_or("no console")?;
    let (said, heard) = oneshot::channel();
    tokio::spawn(async move {
        let (mut text, mut said) = (Vec::new(), Some(said));
        let mut seen = 0;
        while let Ok(1..) = reader.read_buf(&mut text).await {
            let there = |w: &String| text.windows(w.len()).any(|t| t == w.as_bytes());
            if word.as_ref().is_some_and(there)
                && let Some(said) = said.take()
            {
                let _ = said.send(());
            }
            let ticks = text.windows(LIFE.len()).filter(|t| *t == LIFE.as_bytes()).count();
            TICKS.fetch_add(ticks - seen, Ordering::Relaxed);
            seen = ticks;
        }
    });
    Ok((heard, writer))
}

struct Keys {
    user: HostKey,
    host: HostKey,
}

impl Keys {
    async fn run(&self, machine: &Machine, script: &str) -> Result<String> {
        let mut shell = SshShell::new(SshConfig {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, machine.ssh_port().ok_or("no network")?)),
            user: "root".to_owned(),
            private_key: self.user.openssh.clone(),
            host_key: self.host.public.clone(),
        })?;
        let result = shell.run(&Script::new(script), Deadline::wall(LIMIT)).await;
        match result.end {
            CommandEnd::Exit(0) => Ok(result.stdout.text),
            end => Err(format!("{script}: {end:?} {}", result.stderr.text).into()),
        }
    }
}

fn summary(name: &str, samples: &mut [f64]) {
    samples.sort_by(f64::total_cmp);
    let at =
        |q: f64| samples.get((samples.len().max(1) as f64 * q - q).round() as usize).unwrap_or(&f64::NAN);
    let n = samples.len();
    println!(
        "{name:>34}: median {:.3} p95 {:.3} min {:.3} max {:.3} n {n}",
        at(0.5),
        at(0.95),
        at(0.0),
        at(1.0)
    );
}

fn pss_mib(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    if var("SMAPS").is_some() {
        println!("{text}");
    }
    let line = text.lines().find(|l| l.starts_with("Pss:")).ok_or("no Pss")?;
    Ok(line.split_whitespace().nth(1).ok_or("no Pss")?.parse::<f64>()? / 1024.0)
}

/// Another kick than the machine's own, and what came of it: a process in dom0 that was put there before the freeze says five
/// times a second that it lives.
async fn kick(how: &str, clone: &mut Machine, typed: &mut ConsoleWriter) -> Result<()> {
    let mut ports = clone.take_ports().ok_or("no ports")?;
    clone.qmp().execute("cont", serde_json::Value::Null).await?;
    match how {
        "console" => typed.write_all(b"\n").await?,
        "udp" => clone.resume().await?,
        "stderr" => ports.stderr.write_all(b"\n").await?,
        "link" => {
            let link = |up: bool| serde_json::json!({"name": "net0", "up": up});
            clone.qmp().execute("set_link", link(false)).await?;
            clone.qmp().execute("set_link", link(true)).await?;
        }
        "tcp" => drop(tokio::net::TcpStream::connect(("127.0.0.1", clone.ssh_port().unwrap_or(0))).await?),
        "stdout" => ports.stdout.write_all(b"\n").await?,
        "shell" => ports.shell.write_all(b"\n").await?,
        "announce" => {
            let timing = serde_json::json!({"initial": 1, "max": 1, "rounds": 1, "step": 1});
            clone.qmp().execute("announce-self", timing).await?;
        }
        _ => {}
    }
    let before = TICKS.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("kick {how}: {} signs of life in 3 s", TICKS.load(Ordering::Relaxed) - before);
    Ok(())
}

/// What QEMU makes of states that are cut off, and of such with one flipped bit.
async fn faults(spec: &MachineSpec, state: &[u8], flips: usize) -> Result<()> {
    let mut counts = BTreeMap::<String, usize>::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for i in 0..flips + 16 {
        let mut state = state.to_vec();
        let what = if i < flips {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 20) as usize % state.len();
            state[at] ^= 1 << (random >> 60 & 7);
            "flipped".to_owned()
        } else {
            let sixteenths = i - flips;
            state.truncate(state.len() * sixteenths / 16);
            format!("{sixteenths}/16 of it")
        };
        let rundir = Arc::new(RunDir::create("warm")?);
        let end = match Machine::restore(spec, &state, rundir, StartOptions::default()).await {
            Ok(clone) => {
                clone.stop().await;
                "restored".to_owned()
            }
            Err(e) => format!("{:?}: {}", e.cause(), if i < flips { String::new() } else { e.to_string() }),
        };
        *counts.entry(format!("{what}: {end}")).or_default() += 1;
    }
    for (what, n) in counts {
        println!("{n:4} × {what}");
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    xenlab_host::child::intercept();
    xenlab_host::rundir::sweep()?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [arch, n, rest @ ..] = args.as_slice() else { return Err("usage: warm ARCH N [QEMU] [DIR]".into()) };
    let (arch, n): (Arch, usize) = (arch.parse()?, n.parse()?);
    let path = rest.first().map(String::as_str).filter(|p| !p.is_empty());
    let found = Arc::new(qemu::find(arch, path.map(Path::new))?);
    let store = Store::open(Options::default())?;
    // A folder that nobody sweeps.
    let own = store.temporary("warm")?;
    let dir = tempfile::tempdir_in(rest.get(1).map_or(own.path().to_owned(), PathBuf::from))?;
    let xen = var("XEN").unwrap_or("debian:bookworm".to_owned());
    let subject = Subject::of(xen.parse()?);
    let (build, dom0) = tokio::task::block_in_place(|| -> Result<_> {
        let build = xenlab_xen::provide(&subject, arch, &store)?;
        let request = Dom0Request {
            arch,
            userland: "minimal".parse()?,
            kernel: None,
            device_model: DeviceModelSpec::None,
            guests: Vec::new(),
            tools: build.tools.as_ref().map(ToolsTree::from),
            suite: xen.split([':', '@']).nth(1).unwrap_or("bookworm").to_owned(),
        };
        let dom0 = xenlab_image::prepare(&request, &store)?;
        Ok((build, dom0))
    })?;
    let keys = Keys { user: HostKey::generate()?, host: HostKey::generate()? };
    let nonce = format!("warm{:x}", std::process::id());
    let layer = CaseLayer {
        nonce: nonce.clone(),
        authorized_keys: vec![keys.user.public.clone()],
        host_key: keys.host.clone(),
        store: None,
        settings: BTreeMap::new(),
        files: Vec::new(),
    };
    let initrd = dir.path().join("initrd");
    write_initrd(&dom0, &layer, &initrd)?;
    let xen = build.hypervisor.image.clone().ok_or("no image")?;
    let (xen, kernel, initrd) = (Payload::of(xen)?, Payload::of(&dom0.kernel)?, Payload::of(initrd)?);
    let mut spec = MachineSpec::new(found, Accel::Tcg, xen, kernel, initrd);
    spec.disks = dom0.disks.iter().map(Disk::read_only).collect();
    spec.xen_args = ["bootscrub=0", "spec-ctrl=no"].map(str::to_owned).to_vec();
    spec.dom0_args = ["quiet", "net.ifnames=0", "mitigations=off"].map(str::to_owned).to_vec();
    let ram = dir.path().join("ram");
    if var("COLD").is_none() {
        spec.backing = Backing::Build(ram.clone());
    }
    let rundir = || RunDir::create("warm").map(Arc::new);

    // The template.
    let mut machine = Machine::start(&spec, rundir()?, StartOptions::default()).await?;
    let (ready, _typed) = drain(&mut machine, Some(format!("xenlab: ready {nonce}")))?;
    machine.resume().await?;
    tokio::select! {
        // A console that was closed is no word; how the machine ended says why.
        Ok(()) = ready => {}
        end = machine.ended() => return Err(format!("the machine ended: {end:?}").into()),
        () = tokio::time::sleep(LIMIT) => return Err("dom0 did not become ready".into()),
    }
    let ready = machine.spawned().elapsed().as_secs_f64();
    println!("{arch}, QEMU {}: ready after {ready:.2} s", spec.qemu.version);
    if var("COLD").is_some() {
        machine.stop().await;
        return Ok(());
    }
    if var("KICK").is_some() {
        let life = format!("(while sleep 0.2; do echo {LIFE}; done) </dev/null >/dev/console 2>&1 &");
        keys.run(&machine, &life).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("{} signs of life before", TICKS.load(Ordering::Relaxed));
    }
    let frozen = machine.freeze(LIMIT).await?;
    let since = Instant::now();
    machine.stop().await;
    println!(
        "frozen in {:.3} s, {} bytes of state, {} MiB of memory file; QEMU gone {:.3} s later",
        frozen.took.as_secs_f64(),
        frozen.state.len(),
        std::fs::metadata(&ram)?.blocks() >> 11,
        since.elapsed().as_secs_f64()
    );

    // The clones.
    if let Some(script) = var("CHANGE") {
        xenlab_host::Command::new("sh").args(["-ec", &script]).cwd(dir.path()).checked()?;
    }
    if let Some(other) = var("RESTORE_QEMU") {
        let machine = spec.qemu.machine.clone();
        spec.qemu = Arc::new(qemu::QemuInfo { machine, ..qemu::find(arch, Some(Path::new(&other)))? });
    }
    spec.backing = Backing::CopyOf(ram);
    let state = frozen.state;
    if let Some(flips) = var("FLIPS") {
        return faults(&spec, &state, flips.parse()?).await;
    }
    let id = build.hypervisor.build_id().ok_or("no build-id to check by")?;
    let (mut restored, mut answered, mut pss, mut right) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for i in 0..n {
        let mut clone = Machine::restore(&spec, &state, rundir()?, StartOptions::default()).await?;
        restored.push(clone.spawned().elapsed().as_secs_f64());
        let (_, mut typed) = drain(&mut clone, None)?;
        let kicks = var("KICK").unwrap_or_default();
        match kicks.split(',').nth(i).filter(|how| !how.is_empty()) {
            None => clone.resume().await?,
            Some(how) => {
                let before = TICKS.load(Ordering::Relaxed);
                kick(how, &mut clone, &mut typed).await?;
                if how == "none" && TICKS.load(Ordering::Relaxed) > before {
                    println!("clones of this template wake by themselves: there is nothing to try out");
                    return Ok(());
                }
            }
        }
        match keys.run(&clone, "xl info; cat /proc/uptime").await {
            Ok(info) => {
                answered.push(clone.spawned().elapsed().as_secs_f64());
                let line = info.lines().find(|l| l.starts_with("build_id")).unwrap_or("no build_id");
                right += usize::from(line.ends_with(id));
                if i == 0 {
                    println!("{line}; uptime {}", info.lines().last().unwrap_or("?"));
                }
                pss.push(pss_mib(clone.pid())?);
            }
            Err(e) => println!("clone {i}: {e}; {:?} {}", clone.end(), clone.stderr_tail()),
        }
        clone.stop().await;
    }
    summary("exec to restored, s", &mut restored);
    summary("exec to xl info over SSH, s", &mut answered);
    summary("PSS after the first command, MiB", &mut pss);
    println!("{right} of {n} right");
    Ok(())
}
