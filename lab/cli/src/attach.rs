//! `xenlab console`, `xenlab ssh`, `xenlab gdb`: getting to a machine that another `xenlab` keeps.

use crate::args::{Attach, AttachGdb, AttachSsh};
use crate::failure::Failure;
use rustix::termios::{self, OptionalActions, Termios};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use xenlab_engine::door::{FILE, Kept};
use xenlab_host::{interrupt, packages, probe, rundir};
use xenlab_model::Arch;
use xenlab_model::exit::Exit;

/// Ctrl-], as telnet has it.
const LEAVE: u8 = 0x1d;

/// Every machine that is kept and still there.
fn all() -> Vec<Kept> {
    let read = |path| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
    let kept = rundir::find(FILE).into_iter().filter_map(read);
    // Of a lab that was killed the folder stays until the next sweeps it, and nobody listens.
    kept.filter(|kept: &Kept| UnixStream::connect(&kept.console).is_ok()).collect()
}

fn the_one(args: &Attach) -> Result<Kept, Failure> {
    let all = all();
    if all.is_empty() {
        return Err(Failure::bad_input(
            "no machine is kept: `xenlab run --keep failed SCENARIO` keeps those of cases that fail, `xenlab shell` one whose dom0 is up",
        ));
    }
    let wanted = |kept: &&Kept| args.case.as_ref().is_none_or(|part| kept.case.contains(part.as_str()));
    let whole = all.iter().find(|kept| args.case.as_ref() == Some(&kept.case));
    let fit: Vec<&Kept> = whole.map_or_else(|| all.iter().filter(wanted).collect(), |one| vec![one]);
    let listed = |all: &[&Kept]| {
        let line = |k: &&Kept| format!("  {}{}", k.case, if k.frozen { " (frozen)" } else { "" });
        all.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    match fit[..] {
        [one] => Ok(one.clone()),
        [] => {
            let all: Vec<&Kept> = all.iter().collect();
            let asked = args.case.as_deref().unwrap_or_default();
            Err(Failure::bad_input(format!("no machine of `{asked}` is kept; there is:\n{}", listed(&all))))
        }
        _ => Err(Failure::bad_input(format!(
            "{} machines are kept; name one with --case:\n{}",
            fit.len(),
            listed(&fit)
        ))),
    }
}

/// Has a frozen machine go on; of one that runs nothing is asked.
fn go_on(kept: &Kept) -> Result<(), Failure> {
    if !kept.frozen {
        return Ok(());
    }
    let mut answer = String::new();
    UnixStream::connect(&kept.go_on)
        .and_then(|mut stream| stream.read_to_string(&mut answer))
        .map_err(|e| Failure::lab(format!("the machine cannot be asked to go on: {e}")))?;
    match answer.trim() {
        "" => Ok(()),
        why => Err(Failure::lab(format!("the machine does not go on: {why}"))),
    }
}

/// `xenlab console`
pub fn console(args: &Attach) -> Result<Exit, Failure> {
    let kept = the_one(args)?;
    let typing = std::io::stdin().is_terminal();
    if typing {
        let how = if kept.frozen { "; it is frozen, and goes on when you type" } else { "" };
        eprintln!("xenlab: the console of {}{how}; Ctrl-] leaves", kept.case);
        eprintln!(
            "xenlab: the small userland's shell there neither echoes nor prompts; `stty sane; exec sh -i` makes it do both"
        );
    }
    let end = {
        let _raw = Raw::begin();
        crate::run::runtime()?.block_on(talk(&kept))
    };
    match end {
        Ok(End::Left) => {
            if typing {
                eprintln!("\nxenlab: left the console; the machine stays");
            }
            Ok(Exit::Passed)
        }
        Ok(End::Gone) => {
            eprintln!("\nxenlab: the machine is gone");
            Ok(Exit::Passed)
        }
        Err(failure) => Err(failure),
    }
}

enum End {
    Left,
    Gone,
}

/// Until the user leaves or the machine is gone. Where no terminal types, the end of the input is no end: what comes is shown until an
/// interrupt.
async fn talk(kept: &Kept) -> Result<End, Failure> {
    let stream = tokio::net::UnixStream::connect(&kept.console).await?;
    let (mut from, mut to) = stream.into_split();
    let (keys, mut typed) = tokio::sync::mpsc::channel::<Vec<u8>>(16);
    let terminal = std::io::stdin().is_terminal();
    // A thread of its own: nothing ends a read of a terminal.
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(n) = std::io::stdin().read(&mut buffer) {
            if n == 0 || keys.blocking_send(buffer[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    let (mut frozen, mut open) = (kept.frozen, true);
    let mut buffer = vec![0; 64 << 10];
    loop {
        tokio::select! {
            () = interrupt::wait() => return Ok(End::Left),
            read = from.read(&mut buffer) => match read {
                Ok(n) if n > 0 => {
                    let mut out = std::io::stdout().lock();
                    out.write_all(&buffer[..n]).and_then(|()| out.flush())?;
                }
                _ => return Ok(End::Gone),
            },
            keys = typed.recv(), if open => match keys {
                None => open = false,
                Some(keys) => {
                    let end = keys.iter().position(|k| *k == LEAVE).filter(|_| terminal);
                    // A raw terminal's Enter is CR; what reads dom0's console may be a shell that knows a line's end alone.
                    let line_end = |k: &u8| if terminal && *k == b'\r' { b'\n' } else { *k };
                    let keys: Vec<u8> = keys[..end.unwrap_or(keys.len())].iter().map(line_end).collect();
                    if !keys.is_empty() && std::mem::take(&mut frozen) {
                        go_on(kept)?;
                    }
                    if to.write_all(&keys).await.is_err() {
                        return Ok(End::Gone);
                    }
                    if end.is_some() {
                        return Ok(End::Left);
                    }
                }
            },
        }
    }
}

/// The terminal takes every key as it is, Ctrl-C too, until this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn begin() -> Raw {
        let before = termios::tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            // The lab's own words still end their lines.
            raw.output_modes |= termios::OutputModes::OPOST | termios::OutputModes::ONLCR;
            let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw);
        }
        Raw(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// The host's own ssh with the keys of this boot, up to the host's name.
pub fn ssh_command(login: &xenlab_engine::door::KeptLogin) -> Command {
    let mut ssh = Command::new("ssh");
    for option in [
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=yes",
        "LogLevel=ERROR",
        "GlobalKnownHostsFile=/dev/null",
    ] {
        ssh.args(["-o", option]);
    }
    ssh.args(["-F", "/dev/null", "-o"]).arg(format!("UserKnownHostsFile={}", login.known_hosts.display()));
    ssh.arg("-i").arg(&login.key).arg("-p").arg(login.addr.port().to_string());
    ssh
}

/// `xenlab ssh`: in place of this program, so that its exit status is the command's.
pub fn ssh(args: &AttachSsh) -> Result<Exit, Failure> {
    if probe::find_program("ssh").is_none() {
        return Err(Failure::lab(format!("ssh is not installed: {}", packages::hint("ssh"))));
    }
    let kept = the_one(&args.machine)?;
    let terminal = std::io::stdin().is_terminal();
    if kept.frozen {
        go_on(&kept)?;
        eprintln!("xenlab: the machine was frozen and goes on");
    }
    let login = &kept.login;
    let mut ssh = ssh_command(login);
    ssh.args(["-o", "ConnectTimeout=20"]);
    if terminal && args.command.is_empty() {
        eprintln!("xenlab: dom0 of {}; `exit` leaves, the machine stays", kept.case);
        ssh.arg("-t");
    }
    ssh.arg(format!("{}@{}", login.user, login.addr.ip()));
    // This build's tools come first, as in steps.
    let path: String = login.path.iter().map(|dir| format!("{dir}:")).collect();
    let what = match args.command.as_slice() {
        [] => "exec \"${SHELL:-/bin/sh}\"".to_owned(),
        words => words.join(" "),
    };
    ssh.arg(format!("PATH={path}$PATH; export PATH; {what}"));
    Err(Failure::lab(format!("ssh: {}", ssh.exec())))
}

/// `xenlab gdb`: in place of this program.
pub fn gdb(args: &AttachGdb) -> Result<Exit, Failure> {
    let kept = the_one(&args.machine)?;
    // A distribution's gdb knows its own architecture alone.
    let own = Arch::host() == Some(kept.arch);
    let fit: &[&str] = if own { &["gdb", "gdb-multiarch"] } else { &["gdb-multiarch"] };
    let Some(program) = fit.iter().find(|name| probe::find_program(name).is_some()) else {
        return Err(Failure::lab(format!("{} is not installed: {}", fit[0], packages::hint(fit[0]))));
    };
    let Some(socket) = &kept.gdb else {
        return Err(Failure::lab("QEMU has no stub for debuggers on this machine"));
    };
    let architecture = match kept.arch {
        Arch::X86_64 => "i386:x86-64",
        Arch::Aarch64 => "aarch64",
    };
    let mut gdb = Command::new(program);
    gdb.args(["-q", "-ex", "set confirm off", "-ex", "set pagination off"]);
    gdb.args(["-ex", &format!("set architecture {architecture}")]);
    gdb.args(["-ex", &format!("target remote {}", socket.display())]);
    gdb.args(&args.more);
    match &kept.symbols {
        Some(symbols) => drop(gdb.arg(symbols)),
        None => eprintln!(
            "xenlab: this build has no symbols, so gdb shows addresses; one from source (source:PATH, debsrc:SUITE) has xen-syms"
        ),
    }
    if std::io::stdin().is_terminal() {
        eprintln!(
            "xenlab: `bt` shows where Xen stands, `info threads` its processors; `quit` leaves and lets the machine go on, `kill` ends it"
        );
    }
    Err(Failure::lab(format!("{program}: {}", gdb.exec())))
}
