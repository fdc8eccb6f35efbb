//! The thread that spawns.
//!
//! The parent-death signal is sent when the *thread* that spawned the child ends, so children started from a pool's
//! thread could be killed by that pool. This thread lives as long as the process.

use super::exec::{EXEC, helper};
use super::guard::Guard;
use rustix::io::{FdFlags, fcntl_setfd};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

/// Where standard output goes.
pub(super) enum To {
    Pipe,
    File(File),
}

/// Where standard input comes from.
pub(super) enum From {
    Nothing,
    Pipe,
    File(File),
}

/// A child to start, everything resolved.
pub(super) struct Order {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(OsString, Option<OsString>)>,
    pub(super) env_clear: bool,
    pub(super) cwd: Option<PathBuf>,
    pub(super) stdin: From,
    pub(super) stdout: To,
    pub(super) keep: Vec<OwnedFd>,
}

enum Message {
    Spawn(Box<Order>, Sender<io::Result<std::process::Child>>),
    Ended(u32),
}

/// Starts a child in the spawner thread.
pub(super) fn spawn(order: Order) -> io::Result<std::process::Child> {
    let (reply, answer) = channel();
    let gone = || io::Error::other("the spawning thread is gone");
    thread()?.send(Message::Spawn(Box::new(order), reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// A child was about to be reaped: its group's number is free again from now on.
pub(super) fn ended(group: u32) {
    if let Ok(thread) = thread() {
        // The thread lives as long as the process; there is nobody to tell otherwise.
        let _ = thread.send(Message::Ended(group));
    }
}

fn thread() -> io::Result<Sender<Message>> {
    static THREAD: OnceLock<Result<Sender<Message>, io::ErrorKind>> = OnceLock::new();
    let started = THREAD.get_or_init(|| {
        let (sender, orders) = channel();
        let run = move || {
            let mut guard: Option<Guard> = None;
            for message in orders {
                match message {
                    Message::Spawn(order, reply) => {
                        let helper = helper();
                        let guard = guard.get_or_insert_with(|| Guard::start(helper.as_deref()));
                        let child = start(*order, helper);
                        if let Ok(child) = &child {
                            guard.started(child.id());
                        }
                        if let Err(std::sync::mpsc::SendError(Ok(mut orphan))) = reply.send(child) {
                            // Who asked is gone: nobody would ever end it.
                            let _ = orphan.kill();
                            let _ = orphan.wait();
                        }
                    }
                    Message::Ended(group) => {
                        if let Some(guard) = &mut guard {
                            guard.ended(group);
                        }
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("spawner".into())
            .stack_size(256 << 10)
            .spawn(run)
            .map_err(|e| e.kind())?;
        Ok(sender)
    });
    started.clone().map_err(io::Error::from)
}

fn start(order: Order, helper: Option<PathBuf>) -> io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt;
    let mut command = match helper {
        Some(helper) => {
            let mut command = std::process::Command::new(helper);
            command.arg(EXEC).arg(std::process::id().to_string()).arg(&order.program);
            command
        }
        None => std::process::Command::new(&order.program),
    };
    command.args(order.args).process_group(0).stderr(Stdio::piped());
    if order.env_clear {
        command.env_clear();
    }
    for (key, value) in order.env {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    if let Some(cwd) = order.cwd {
        command.current_dir(cwd);
    }
    command.stdin(match order.stdin {
        From::Nothing => Stdio::null(),
        From::Pipe => Stdio::piped(),
        From::File(file) => file.into(),
    });
    command.stdout(match order.stdout {
        To::Pipe => Stdio::piped(),
        To::File(file) => file.into(),
    });
    // Inheritable only while this thread, the only one that spawns, spawns this child: no other gets them.
    for fd in &order.keep {
        fcntl_setfd(fd, FdFlags::empty())?;
    }
    let child = command.spawn();
    for fd in &order.keep {
        fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    }
    child
}
