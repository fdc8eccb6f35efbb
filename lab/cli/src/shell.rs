//! `xenlab shell`: one case's machine, and its dom0 to work in.

use crate::args::{Global, Shell};
use crate::display::Display;
use crate::failure::Failure;
use crate::{repeat, run, select};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use xenlab_engine::keep::{Keep, Login};
use xenlab_engine::prepare::Preparer;
use xenlab_engine::{Lab, facts};
use xenlab_host::{interrupt, packages, probe};
use xenlab_model::case::Case;
use xenlab_model::event::Sink;
use xenlab_model::exit::Exit;
use xenlab_model::scenario::config::Start;
use xenlab_model::step::Step;

/// Exits 0 where dom0 came up and could be logged in to, whatever was done in it.
pub fn shell(args: &Shell, global: &Global, started: Instant) -> Result<Exit, Failure> {
    if probe::find_program("ssh").is_none() {
        return Err(Failure::lab(format!("ssh is not installed: {}", packages::hint("ssh"))));
    }
    let case = the_one(select::cases(&args.select, &facts::host())?)?;
    let display = Arc::new(Display::new());
    let sink: Arc<dyn Sink> = display.clone();
    let report = repeat::folder("shell", None, global)?;
    let mut preparer = Preparer::new(run::open_store(global, sink.clone())?, sink.clone());
    preparer.admission = run::admission(&*sink)?;
    let failed = Arc::new(AtomicBool::new(false));
    let visit = {
        let (display, failed) = (display.clone(), failed.clone());
        move |login: Login| -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
            let (display, failed) = (display.clone(), failed.clone());
            Box::pin(async move {
                display.settle();
                if let Err(why) = visited(&login).await {
                    crate::complain(&why);
                    failed.store(true, Ordering::Relaxed);
                }
            })
        }
    };
    let lab = Arc::new(Lab {
        cold: args.cold,
        keep: Keep::Visited(Arc::new(visit)),
        repeat: run::repeat(&args.select, global),
        ..Lab::new(preparer, sink, report)
    });
    let outcome = run::runtime()?.block_on(xenlab_engine::run::run(lab, vec![case], Some(1), started));
    display.settle();
    Ok(if failed.load(Ordering::Relaxed) { Exit::Lab } else { outcome.exit })
}

/// The case whose machine it is, brought to "dom0 ready" and through its set-up.
fn the_one(cases: Vec<Case>) -> Result<Case, Failure> {
    match <[Case; 1]>::try_from(cases) {
        Ok([mut case]) => {
            // However it is judged: nobody judges its boot now.
            case.config.machine.start = Start::Template;
            Ok(Case { steps: vec![Step::dom0_ready()], expectations: Vec::new(), ..case })
        }
        Err(cases) => {
            let ids: Vec<String> = cases.iter().map(|c| format!("  {}", c.shown())).collect();
            Err(Failure::bad_input(format!(
                "there are {} cases, and one machine to work in; name one with --arch or --case:\n{}",
                cases.len(),
                ids.join("\n")
            )))
        }
    }
}

/// Logs in with the host's own ssh, on the terminal if there is one, and waits until the user leaves. The machine's keys lie in its run
/// folder meanwhile.
async fn visited(login: &Login) -> Result<(), String> {
    let (key, hosts) = (login.dir.join("ssh-key"), login.dir.join("ssh-known-hosts"));
    private(&key, &login.ssh.private_key)?;
    let (ip, port) = (login.ssh.addr.ip(), login.ssh.addr.port());
    private(&hosts, &format!("[{ip}]:{port} {}\n", login.ssh.host_key.trim()))?;
    let mut ssh = std::process::Command::new("ssh");
    ssh.args([
        "-F",
        "/dev/null",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "LogLevel=ERROR",
    ]);
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", hosts.display()));
    ssh.arg("-o").arg("GlobalKnownHostsFile=/dev/null").arg("-i").arg(&key);
    if std::io::stdin().is_terminal() {
        eprintln!("xenlab: dom0's shell; `exit` ends the machine");
        ssh.arg("-t");
    }
    ssh.arg("-p").arg(port.to_string()).arg(format!("{}@{ip}", login.ssh.user));
    // This build's tools come first, as in steps.
    let path: String = login.path.iter().map(|dir| format!("{dir}:")).collect();
    ssh.arg(format!("PATH={path}$PATH; export PATH; exec \"${{SHELL:-/bin/sh}}\""));
    let mut child = ssh.spawn().map_err(|e| format!("ssh: {e}"))?;
    let pid = rustix::process::Pid::from_child(&child);
    let mut waiting = tokio::task::spawn_blocking(move || child.wait());
    let status = tokio::select! {
        status = &mut waiting => status,
        () = interrupt::wait() => {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            waiting.await
        }
    };
    match status {
        // What is ssh's own; a shell that ends so is rare enough.
        Ok(Ok(status)) if status.code() == Some(255) => {
            Err("ssh could not log in to dom0, or lost it".to_owned())
        }
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(format!("ssh: {e}")),
        Err(e) => Err(format!("ssh: {e}")),
    }
}

fn private(path: &Path, text: &str) -> Result<(), String> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut f| f.write_all(text.as_bytes())).map_err(|e| format!("{}: {e}", path.display()))
}
