//! Running the programs of a build: one environment for all of them, one log, and what went wrong first.

use super::log::{first_error, object};
use super::{io, make};
use crate::error::XenError;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use xenlab_host::{Command, probe};
use xenlab_model::arch::Arch;
use xenlab_store::{Store, Task, Workspace};

/// What the lab's environment may say to a build: the rest (`CFLAGS`, `MAKEFLAGS`, `XEN_…`) would change what comes of it
/// without anybody's seeing it.
const ENVIRONMENT: &[&str] = &["PATH", "HOME", "USER", "TMPDIR", "LD_LIBRARY_PATH"];

/// Whoever builds the same again is to get the same bytes: no clock, no host, no user.
const SAME_FOR_ALL: &[(&str, &str)] = &[
    ("LC_ALL", "C"),
    ("SOURCE_DATE_EPOCH", "0"),
    ("XEN_BUILD_DATE", "Thu Jan  1 00:00:00 UTC 1970"),
    ("XEN_BUILD_TIME", "00:00:00"),
    ("XEN_BUILD_HOST", "xenlab"),
    ("XEN_WHOAMI", "xenlab"),
    ("XEN_DOMAIN", "invalid"),
];

/// Runs what a part is built with, in its workspace.
pub(super) struct Runner<'a> {
    pub(super) name: &'a str,
    pub(super) arch: Arch,
    pub(super) store: &'a Store,
    pub(super) space: &'a Workspace,
    pub(super) task: &'a Task,
    /// What the part is called before `of`; see [`Part::noun`](super::Part::noun).
    pub(super) noun: &'static str,
    /// What is being done, for the progress.
    pub(super) what: &'a str,
}

/// A program of the host without arguments, in the environment that a build has.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(program).env_clear();
    for (key, value) in std::env::vars_os() {
        let shown = key.to_string_lossy();
        if ENVIRONMENT.contains(&&*shown) || shown.starts_with("NIX_") || shown.starts_with("CCACHE_") {
            command = command.env(&key, value);
        }
    }
    for (key, value) in SAME_FOR_ALL {
        command = command.env(key, value);
    }
    command
}

impl Runner<'_> {
    /// The laid out tree.
    pub(super) fn src(&self) -> PathBuf {
        self.space.path().join("src")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.space.path().join("build.log")
    }

    /// That of the build before.
    pub(super) fn log_before(&self) -> PathBuf {
        self.log().with_extension("log.before")
    }

    pub(super) fn say(&self, what: &str) {
        self.task.say(&format!("{}: {what}", self.what));
    }

    /// A log with nothing in it; what was in it is beside it until the next time.
    pub(super) fn begin(&self) -> Result<(), XenError> {
        let log = self.log();
        if let Err(e) = std::fs::rename(&log, self.log_before())
            && e.kind() != std::io::ErrorKind::NotFound
        {
            return Err(io(self.name, "rename", &log, e));
        }
        std::fs::write(&log, "").map_err(|e| io(self.name, "write", &log, e))
    }

    /// Runs a program to its end in a folder; how many objects it made. With a `phase` what it makes is shown.
    pub(super) fn run(
        &self,
        program: &str,
        args: &[String],
        dir: &Path,
        env: &[(&str, OsString)],
        phase: Option<&str>,
    ) -> Result<u64, XenError> {
        // One stream, so that the log has everything in its order.
        let mut command =
            command("sh").args(["-c", "exec \"$@\" 2>&1", "sh", program]).args(args).cwd(dir).stdout_pipe();
        if std::env::var_os("CCACHE_DIR").is_none() {
            command = command.env("CCACHE_DIR", self.store.root().join("ccache")).env("CCACHE_MAXSIZE", "1G");
        }
        // So that the same file compiled in another workspace is found.
        command = command.env("CCACHE_BASEDIR", self.space.path()).env("CCACHE_NOHASHDIR", "1");
        for (key, value) in env {
            command = command.env(key, value);
        }
        let mut child = command.spawn().map_err(make::child)?;
        let log = self.log();
        let objects = match child.take_stdout() {
            Some(stdout) => std::thread::scope(|scope| {
                let reader = scope.spawn(|| self.follow(BufReader::new(stdout), &log, phase));
                let ended = child.wait_or_interrupt();
                // Its end of the pipe is closed by now, and that of whatever it started.
                let read =
                    reader.join().unwrap_or_else(|_| Err(std::io::Error::other("reading it panicked")));
                ended.map(|ended| (ended, read))
            }),
            None => child.wait_or_interrupt().map(|ended| (ended, Ok(0))),
        };
        let (ended, objects) = objects.map_err(make::child)?;
        let objects = objects.map_err(|e| io(self.name, "write", &log, e))?;
        if ended.ok() { Ok(objects) } else { Err(self.why(&log)) }
    }

    /// Keeps how many objects a whole build has.
    pub(super) fn count(&self, objects: u64) -> Result<(), XenError> {
        let count = self.space.path().join("objects");
        let before: u64 =
            std::fs::read_to_string(&count).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0);
        std::fs::write(&count, before.max(objects).to_string()).map_err(|e| io(self.name, "write", &count, e))
    }

    /// Reads what is written to its end: all of it goes to the log.
    fn follow(&self, out: impl BufRead, log: &Path, phase: Option<&str>) -> std::io::Result<u64> {
        let mut log = std::fs::OpenOptions::new().append(true).open(log)?;
        let mut objects = 0;
        for line in out.split(b'\n') {
            let line = line?;
            log.write_all(&line).and_then(|()| log.write_all(b"\n"))?;
            let Some(phase) = phase else { continue };
            if let Some((what, compiled)) = object(&String::from_utf8_lossy(&line)) {
                objects += u64::from(compiled);
                self.task.done(objects);
                self.say(&format!("{phase}, {what}"));
            }
        }
        Ok(objects)
    }

    /// Why a program failed.
    fn why(&self, log: &Path) -> XenError {
        let spec = format!("{}{}", self.noun, self.name);
        let text = std::fs::read(log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        if text.contains("No space left on device") {
            return XenError::Store { spec, source: xenlab_store::StoreError::DiskFull { path: self.src() } };
        }
        let first = first_error(&text);
        match first.program {
            Some(program) if probe::find_program(&program).is_none() => make::lacking(&[program]),
            _ => XenError::Compile {
                spec,
                arch: self.arch,
                first: first.text,
                log: log.to_owned(),
                of_source: first.of_source,
            },
        }
    }
}
