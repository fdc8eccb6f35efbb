//! Running the tree's own build system.

use super::log::{first_error, object};
use super::{Work, io};
use crate::error::XenError;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use xenlab_host::child::ChildError;
use xenlab_host::{Command, packages, probe, resources};
use xenlab_model::arch::Arch;
use xenlab_store::Task;

/// What compiles for an architecture.
pub(super) struct Toolchain {
    /// `aarch64-linux-gnu-`, or nothing where this host is of that architecture.
    prefix: &'static str,
    /// What compiler and linker say of themselves.
    pub(super) versions: String,
    ccache: Option<PathBuf>,
}

/// Programs that building any hypervisor takes, beside compiler and linker.
const PROGRAMS: &[&str] = &["make", "bison", "flex", "python3"];

/// What the lab's environment may say to a build: the rest (`CFLAGS`, `MAKEFLAGS`, `XEN_…`) would change what comes of it
/// without anybody's seeing it.
const ENVIRONMENT: &[&str] = &["PATH", "HOME", "USER", "TMPDIR", "LD_LIBRARY_PATH"];

/// An error of a child that a build needs.
pub(super) fn child(e: ChildError) -> XenError {
    match e {
        ChildError::NotFound { program, hint } => XenError::ToolMissing { program, hint },
        e => XenError::Child(e),
    }
}

impl Toolchain {
    pub(super) fn find(arch: Arch) -> Result<Toolchain, XenError> {
        let prefix = match arch {
            arch if Arch::host() == Some(arch) => "",
            Arch::X86_64 => "x86_64-linux-gnu-",
            Arch::Aarch64 => "aarch64-linux-gnu-",
        };
        let mut me = Toolchain { prefix, versions: String::new(), ccache: probe::find_program("ccache") };
        let absent = me.absent();
        if !absent.is_empty() {
            return Err(lacking(&absent));
        }
        for program in ["gcc", "ld"] {
            let command = Command::new(me.program(program)).arg("--version").env("LC_ALL", "C");
            let output = command.checked().map_err(child)?;
            let text = output.stdout.text();
            me.versions.push_str(text.lines().next().unwrap_or_default());
            me.versions.push('\n');
        }
        // Trees build a Flask policy into Xen where this is installed.
        if !has_checkpolicy() {
            me.versions.push_str("no checkpolicy\n");
        }
        Ok(me)
    }

    fn program(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn absent(&self) -> Vec<String> {
        let all = ["gcc", "ld"]
            .map(|p| self.program(p))
            .into_iter()
            .chain(PROGRAMS.iter().map(|p| (*p).to_owned()));
        all.filter(|p| probe::find_program(p).is_none()).collect()
    }
}

/// All that is missing is told at once, with the one command that brings it.
fn lacking(programs: &[String]) -> XenError {
    let names: Vec<&str> = programs.iter().map(String::as_str).collect();
    let hint = match packages::install_command(&names) {
        Some(command) => format!("install what is missing with: {command}"),
        None => packages::hint(names.first().copied().unwrap_or_default()),
    };
    XenError::ToolMissing { program: names.join("`, `"), hint }
}

/// One build.
pub(super) struct Make<'a> {
    pub(super) work: &'a Work<'a>,
    pub(super) src: &'a Path,
    pub(super) task: &'a Task,
}

impl Make<'_> {
    /// Configures, builds and installs into `root`. `differs` are the files that are not what they were at the last build.
    pub(super) fn all(&self, root: &Path, differs: &BTreeSet<String>) -> Result<(), XenError> {
        let name = self.work.name;
        let log = self.log();
        std::fs::write(&log, "").map_err(|e| io(name, "write", &log, e))?;
        self.configure(differs)?;
        self.say("compiling");
        let destdir = format!("DESTDIR={}", root.display());
        let objects = self.run(&["install", &destdir], Some("compiling"))?;
        // Making may settle options once more.
        self.taken()?;
        if self.work.wanted.efi_image && !has_efi(root) {
            return Err(XenError::Tool {
                program: self.work.tools.program("ld"),
                why: "xen.options.efi is true and no xen.efi came of it: it cannot link for EFI (i386pep)"
                    .into(),
            });
        }
        let count = self.work.space.path().join("objects");
        let before: u64 =
            std::fs::read_to_string(&count).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0);
        std::fs::write(&count, before.max(objects).to_string()).map_err(|e| io(name, "write", &count, e))
    }

    fn log(&self) -> PathBuf {
        self.work.space.path().join("build.log")
    }

    fn say(&self, what: &str) {
        self.task.say(&format!("building {} for {}: {what}", self.work.name, self.work.arch));
    }

    /// The tree's defaults for the architecture, then what was asked for. `.config` is touched only if it changes: make goes by it.
    fn configure(&self, differs: &BTreeSet<String>) -> Result<(), XenError> {
        let name = self.work.name;
        let wanted = self.work.wanted.lines();
        let memory = self.work.space.path().join("config.wanted");
        let config = self.src.join("xen/.config");
        let of_kconfig =
            |p: &String| p.contains("/Kconfig") || p.contains("/configs/") || p.contains("/kconfig/");
        let same = std::fs::read_to_string(&memory).is_ok_and(|was| was == wanted);
        if same && config.is_file() && !differs.iter().any(of_kconfig) {
            return Ok(());
        }
        self.say("configuring");
        let new = self.work.space.path().join("config.new");
        let _ = std::fs::remove_file(&new);
        let setting = format!("KCONFIG_CONFIG={}", new.display());
        self.run(&["defconfig", &setting], None)?;
        if !wanted.is_empty() {
            let append = std::fs::OpenOptions::new().append(true).open(&new);
            append
                .and_then(|mut f| f.write_all(wanted.as_bytes()))
                .map_err(|e| io(name, "write", &new, e))?;
            self.run(&["olddefconfig", &setting], None)?;
        }
        let text = std::fs::read_to_string(&new).map_err(|e| io(name, "read", &new, e))?;
        self.work.wanted.taken(name, &text, self.src)?;
        if std::fs::read_to_string(&config).ok().as_deref() != Some(text.as_str()) {
            std::fs::write(&config, &text).map_err(|e| io(name, "write", &config, e))?;
        }
        std::fs::write(&memory, wanted).map_err(|e| io(name, "write", &memory, e))
    }

    fn taken(&self) -> Result<(), XenError> {
        let config = self.src.join("xen/.config");
        let text = std::fs::read_to_string(&config).map_err(|e| io(self.work.name, "read", &config, e))?;
        self.work.wanted.taken(self.work.name, &text, self.src)
    }

    /// Runs make; how many objects it made.
    fn run(&self, words: &[&str], phase: Option<&str>) -> Result<u64, XenError> {
        let name = self.work.name;
        let tools = self.work.tools;
        let compiler = tools.program("gcc");
        let mut args: Vec<String> = vec![
            "-C".into(),
            self.src.join("xen").display().to_string(),
            format!("-j{}", resources::cores()),
            format!("XEN_TARGET_ARCH={}", if self.work.arch == Arch::Aarch64 { "arm64" } else { "x86_64" }),
            format!("CROSS_COMPILE={}", tools.prefix),
        ];
        if tools.ccache.is_some() {
            args.push(format!("CC=ccache {compiler}"));
        }
        args.extend(self.work.wanted.make.iter().cloned());
        args.extend(words.iter().map(|w| (*w).to_owned()));
        // One stream, so that the log has everything in its order.
        let mut command = Command::new("sh")
            .args(["-c", "exec make \"$@\" 2>&1", "make"])
            .args(&args)
            .stdout_pipe()
            .env_clear();
        for (key, value) in std::env::vars_os() {
            let shown = key.to_string_lossy();
            if ENVIRONMENT.contains(&&*shown) || shown.starts_with("NIX_") || shown.starts_with("CCACHE_") {
                command = command.env(&key, value);
            }
        }
        // Whoever builds the same again is to get the same bytes: no clock, no host, no user.
        for (key, value) in [
            ("LC_ALL", "C"),
            ("SOURCE_DATE_EPOCH", "0"),
            ("XEN_BUILD_DATE", "Thu Jan  1 00:00:00 UTC 1970"),
            ("XEN_BUILD_TIME", "00:00:00"),
            ("XEN_BUILD_HOST", "xenlab"),
            ("XEN_WHOAMI", "xenlab"),
            ("XEN_DOMAIN", "invalid"),
        ] {
            command = command.env(key, value);
        }
        if std::env::var_os("CCACHE_DIR").is_none() {
            command =
                command.env("CCACHE_DIR", self.work.store.root().join("ccache")).env("CCACHE_MAXSIZE", "1G");
        }
        // So that the same file compiled in another workspace is found.
        command = command.env("CCACHE_BASEDIR", self.work.space.path()).env("CCACHE_NOHASHDIR", "1");
        let mut make = command.spawn().map_err(child)?;
        let log = self.log();
        let objects = match make.take_stdout() {
            Some(stdout) => std::thread::scope(|scope| {
                let reader = scope.spawn(|| self.follow(BufReader::new(stdout), &log, phase));
                let ended = make.wait_or_interrupt();
                // Its end of the pipe is closed by now, and that of whatever it started.
                let read =
                    reader.join().unwrap_or_else(|_| Err(std::io::Error::other("reading it panicked")));
                ended.map(|ended| (ended, read))
            }),
            None => make.wait_or_interrupt().map(|ended| (ended, Ok(0))),
        };
        let (ended, objects) = objects.map_err(child)?;
        let objects = objects.map_err(|e| io(name, "write", &log, e))?;
        if ended.ok() { Ok(objects) } else { Err(self.why(&log)) }
    }

    /// Reads make's output to its end: all of it goes to the log.
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

    /// Why make failed.
    fn why(&self, log: &Path) -> XenError {
        let spec = self.work.name.to_owned();
        let text = std::fs::read(log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        if text.contains("No space left on device") {
            return XenError::Store {
                spec,
                source: xenlab_store::StoreError::DiskFull { path: self.src.to_owned() },
            };
        }
        let first = first_error(&text);
        match first.program {
            Some(program) if probe::find_program(&program).is_none() => lacking(&[program]),
            _ => XenError::Compile {
                spec,
                arch: self.work.arch,
                first: first.text,
                log: log.to_owned(),
                of_source: first.of_source,
            },
        }
    }
}

/// The compiler of Flask's policies is installed.
pub(super) fn has_checkpolicy() -> bool {
    probe::find_program("checkpolicy").is_some()
}

fn has_efi(root: &Path) -> bool {
    walkdir::WalkDir::new(root)
        .into_iter()
        .flatten()
        .any(|e| e.path().extension().is_some_and(|x| x == "efi"))
}
