//! The guard: a process of the lab's own that outlives it for an instant, to end what the lab could not.
//!
//! The parent-death signal reaches the lab's children and not theirs: a shell script that runs QEMU would be killed and
//! QEMU would stay. The guard holds the reading end of a pipe on which the lab tells it the process groups it
//! starts (`+PGID`) and those that ended (`-PGID`). When the lab dies, however it dies, the pipe ends and the guard
//! kills the groups that are left.

use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Stdio};

/// The hidden sub-command's name: `xenlab __guard`.
pub const GUARD: &str = "__guard";

/// The lab's end of the pipe. Owned by the spawner thread.
pub(super) struct Guard {
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts the guard through `helper`; without one there is none.
    pub(super) fn start(helper: Option<&std::path::Path>) -> Guard {
        use std::os::unix::process::CommandExt;
        let start = |path: &std::path::Path| {
            std::process::Command::new(path)
                .arg(GUARD)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                // The terminal's Ctrl-C is not for it: it ends when the lab does.
                .process_group(0)
                .current_dir("/")
                .spawn()
        };
        let pipe = helper.and_then(|path| match start(path) {
            Ok(mut child) => child.stdin.take(),
            Err(error) => {
                tracing::warn!("the guard of child processes could not be started: {error}");
                None
            }
        });
        Guard { pipe }
    }

    pub(super) fn started(&mut self, group: u32) {
        self.tell(&format!("+{group}\n"));
    }

    pub(super) fn ended(&mut self, group: u32) {
        self.tell(&format!("-{group}\n"));
    }

    fn tell(&mut self, line: &str) {
        if let Some(pipe) = &mut self.pipe
            && let Err(error) = pipe.write_all(line.as_bytes())
        {
            // Somebody killed it. The parent-death signal still covers the lab's own children.
            tracing::warn!("the guard of child processes is gone: {error}");
            self.pipe = None;
        }
    }
}

/// The guard's work: never returns.
pub(super) fn main() -> ! {
    let mut groups = BTreeSet::new();
    for line in BufReader::new(std::io::stdin()).lines() {
        let Ok(line) = line else { break };
        let number = |s: &str| s.parse::<i32>().ok().filter(|n| *n > 1);
        match line.split_at_checked(1) {
            Some(("+", n)) => groups.extend(number(n)),
            Some(("-", n)) => groups.retain(|g| Some(*g) != number(n)),
            _ => {}
        }
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        // Gone by itself is as good.
        let _ = kill_process_group(group, Signal::KILL);
    }
    std::process::exit(0);
}
