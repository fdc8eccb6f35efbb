//! What to start, and how.

use super::process::{Child, Wishes};
use super::spawner::{self, From, Order, To};
use super::{Captured, ChildError, Ended};
use crate::{packages, probe};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// How much of each stream is kept when nothing else is said.
const STDOUT_LIMIT: usize = 16 << 20;
const STDERR_LIMIT: usize = 64 << 10;

/// A child to start, built up like [`std::process::Command`].
///
/// Standard input is empty unless given; standard output and error are captured.
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    env_clear: bool,
    cwd: Option<PathBuf>,
    stdin_bytes: Option<Vec<u8>>,
    stdin_file: Option<File>,
    stdout_file: Option<File>,
    stream: bool,
    keep: Vec<OwnedFd>,
    stdout_limit: usize,
    stderr_limit: usize,
    limit: Option<Duration>,
}

/// How a child ended and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub ended: Ended,
    /// Its first bytes of standard output.
    pub stdout: Captured,
    /// Its last bytes of standard error.
    pub stderr: Captured,
}

impl Command {
    /// `program` is a path, or a name looked up in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        Command {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            env_clear: false,
            cwd: None,
            stdin_bytes: None,
            stdin_file: None,
            stdout_file: None,
            stream: false,
            keep: Vec::new(),
            stdout_limit: STDOUT_LIMIT,
            stderr_limit: STDERR_LIMIT,
            limit: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Takes a variable out of its environment.
    #[must_use]
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), None));
        self
    }

    /// It gets nothing of the lab's environment, only what [`Command::env`] sets (in whatever order).
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.env_clear = true;
        self
    }

    /// Its working directory.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// What it reads on standard input, then end of file.
    #[must_use]
    pub fn stdin_bytes(mut self, bytes: Vec<u8>) -> Self {
        self.stdin_bytes = Some(bytes);
        self
    }

    /// A file it reads on standard input.
    #[must_use]
    pub fn stdin_file(mut self, file: File) -> Self {
        self.stdin_file = Some(file);
        self
    }

    /// Standard output goes to this file and is not captured.
    #[must_use]
    pub fn stdout_file(mut self, file: File) -> Self {
        self.stdout_file = Some(file);
        self
    }

    /// Standard output is left to the owner, who reads it from [`Child::take_stdout`]: for what is too big to keep.
    #[must_use]
    pub fn stdout_pipe(mut self) -> Self {
        self.stream = true;
        self
    }

    /// The child inherits this descriptor, under the number it has here; nobody else does.
    #[must_use]
    pub fn keep_fd(mut self, fd: OwnedFd) -> Self {
        self.keep.push(fd);
        self
    }

    /// How many bytes of standard output are kept, the first ones (16 MiB when not said).
    #[must_use]
    pub fn stdout_limit(mut self, bytes: usize) -> Self {
        self.stdout_limit = bytes;
        self
    }

    /// How many bytes of standard error are kept, the last ones (64 KiB when not said).
    #[must_use]
    pub fn stderr_limit(mut self, bytes: usize) -> Self {
        self.stderr_limit = bytes;
        self
    }

    /// [`Command::output`] kills it after so much wall time.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`ChildError::NotFound`] with what to install, [`ChildError::Spawn`]. That it cannot be executed (a damaged
    /// binary, a missing interpreter) is only known afterwards, when it is waited for.
    pub fn spawn(self) -> Result<Child, ChildError> {
        let shown = self.program.to_string_lossy().into_owned();
        let program = match probe::find_program(&self.program) {
            Some(path) => path,
            None if self.program.as_encoded_bytes().contains(&b'/') => {
                let path = PathBuf::from(&self.program);
                let error = match std::fs::metadata(&path) {
                    Ok(meta) if meta.is_dir() => "it is a directory".to_owned(),
                    Ok(_) => "it is not an executable file".to_owned(),
                    Err(error) => error.to_string(),
                };
                return Err(ChildError::Exec { program: path, error });
            }
            None => return Err(ChildError::NotFound { hint: packages::hint(&shown), program: shown }),
        };
        let stdin = match (&self.stdin_bytes, self.stdin_file) {
            (Some(_), _) => From::Pipe,
            (None, Some(file)) => From::File(file),
            (None, None) => From::Nothing,
        };
        let order = Order {
            program: program.clone(),
            args: self.args,
            env: self.env,
            env_clear: self.env_clear,
            cwd: self.cwd,
            stdin,
            stdout: self.stdout_file.map_or(To::Pipe, To::File),
            keep: self.keep,
        };
        let failed = |error| ChildError::Spawn { program: shown.clone(), error };
        let process = spawner::spawn(order).map_err(failed)?;
        let wishes = Wishes {
            program,
            stdin: self.stdin_bytes,
            stdout_limit: self.stdout_limit,
            stderr_limit: self.stderr_limit,
            stream: self.stream,
        };
        Child::adopt(process, wishes).map_err(failed)
    }

    /// Starts it and blocks until it has ended, whatever its exit status.
    ///
    /// # Errors
    /// As [`Command::spawn`] and [`Child::wait`]; [`ChildError::Interrupted`] and [`ChildError::TimedOut`] after
    /// killing it.
    pub fn output(self) -> Result<Output, ChildError> {
        let limit = self.limit;
        if crate::interrupt::requested() {
            return Err(ChildError::Interrupted { program: self.program.to_string_lossy().into_owned() });
        }
        let child = self.spawn()?;
        let ended = child.wait_until(limit, true)?;
        Ok(Output { ended, stdout: child.stdout(), stderr: child.stderr() })
    }

    /// As [`Command::output`], an exit status other than 0 being an error.
    ///
    /// # Errors
    /// As [`Command::output`], and [`ChildError::Failed`].
    pub fn checked(self) -> Result<Output, ChildError> {
        let program = self.program.to_string_lossy().into_owned();
        let output = self.output()?;
        if output.ended.ok() {
            Ok(output)
        } else {
            Err(ChildError::Failed { program, ended: output.ended, stderr: output.stderr.text() })
        }
    }
}
