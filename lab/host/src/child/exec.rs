//! The hidden sub-command through which children start.

use super::guard;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The hidden sub-command's name: `xenlab __exec PPID PROGRAM ARGS…`.
pub const EXEC: &str = "__exec";

/// What the sub-command writes to standard error, followed by the kernel's words, when `exec` fails. With exit status
/// [`EXEC_FAILED`] it becomes [`ChildError::Exec`](super::ChildError::Exec) in the parent.
pub(super) const EXEC_MARK: &[u8] = b"\0xenlab-exec\0";

/// The sub-command's exit status when `exec` fails; what a shell uses too.
pub(super) const EXEC_FAILED: i32 = 127;

/// This program's `main` handles the sub-commands, so it can be its own helper.
static INTERCEPTS: AtomicBool = AtomicBool::new(false);
static HELPER: Mutex<Option<PathBuf>> = Mutex::new(None);

/// The first line of `main`: when the program was started as one of the hidden sub-commands this does its work and
/// does not return. Everything after may spawn children that die with the lab.
///
/// Called before anything else that has an effect: no thread, no signal handler, no file is there yet.
pub fn intercept() {
    INTERCEPTS.store(true, Ordering::Relaxed);
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(word) if word == EXEC => exec(args),
        Some(word) if word == guard::GUARD => guard::main(),
        _ => {}
    }
}

/// Starts children through this program (which must call [`intercept`]) in place of the current executable. For
/// tests, whose executable is the test harness's.
pub fn set_helper(path: PathBuf) {
    *HELPER.lock().unwrap_or_else(|e| e.into_inner()) = Some(path);
}

/// The program that handles the sub-commands, if there is one.
pub(super) fn helper() -> Option<PathBuf> {
    if let Some(path) = HELPER.lock().unwrap_or_else(|e| e.into_inner()).clone() {
        return Some(path);
    }
    if !INTERCEPTS.load(Ordering::Relaxed) {
        return None;
    }
    // The link and not what it points to: it keeps working when the binary is replaced or removed while it runs.
    let itself = PathBuf::from("/proc/self/exe");
    if itself.exists() { Some(itself) } else { std::env::current_exe().ok() }
}

/// `PPID PROGRAM ARGS…`: never returns.
fn exec(mut args: impl Iterator<Item = OsString>) -> ! {
    let parent = args
        .next()
        .and_then(|a| a.into_string().ok())
        .and_then(|a| a.parse::<i32>().ok())
        .and_then(Pid::from_raw);
    let (Some(parent), Some(program)) = (parent, args.next()) else {
        fail("called without a parent and a program")
    };
    if let Err(e) = set_parent_process_death_signal(Some(Signal::KILL)) {
        fail(&format!("the parent-death signal could not be set: {e}"));
    }
    // The signal is only sent for deaths from now on: the parent may be gone already.
    if getppid() != Some(parent) {
        std::process::exit(EXEC_FAILED);
    }
    let error = std::process::Command::new(program).args(args).exec();
    fail(&error.to_string())
}

fn fail(why: &str) -> ! {
    use std::io::Write;
    let mut message = EXEC_MARK.to_vec();
    message.extend_from_slice(why.as_bytes());
    // Nobody is left to tell if this fails too; the exit status still says it.
    let _ = std::io::stderr().write_all(&message);
    std::process::exit(EXEC_FAILED);
}
