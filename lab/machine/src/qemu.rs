//! Which QEMU there is.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use xenlab_host::child::{Ended, Output};
use xenlab_host::{ChildError, Command};
use xenlab_model::Arch;
use xenlab_model::cause::Cause;

/// The oldest that is known to boot Xen as the lab does.
pub const OLDEST: QemuVersion = QemuVersion { major: 7, minor: 2, micro: 0 };

/// How long QEMU may take to say what it is, wall time.
const LIMIT: Duration = Duration::from_secs(20);

/// QEMU's version, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QemuVersion {
    /// 7 of 7.2.22.
    pub major: u32,
    /// 2 of 7.2.22.
    pub minor: u32,
    /// 22 of 7.2.22.
    pub micro: u32,
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// A QEMU that can run machines of one architecture, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QemuInfo {
    /// The binary, or a script that runs one.
    pub path: PathBuf,
    /// The architecture it emulates.
    pub arch: Arch,
    /// Its version.
    pub version: QemuVersion,
    /// Its builder's name for it (`Debian 1:7.2+dfsg-7+deb12u18+b3`); often empty.
    pub package: String,
    /// The versioned machine type that `q35` or `virt` stands for in it.
    pub machine: String,
    /// Every machine type it has.
    pub machines: Vec<String>,
    /// It takes `-sandbox on,spawn=deny` (it was built with seccomp, and this host lets it).
    pub sandbox: bool,
    /// Tells this binary from another: its path, size and time of change.
    pub stamp: String,
}

impl QemuInfo {
    /// `10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)`: how it is shown.
    pub fn shown(&self) -> String {
        if self.package.is_empty() {
            self.version.to_string()
        } else {
            format!("{} ({})", self.version, self.package)
        }
    }
}

/// Why there is no QEMU to use.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// It is not installed, or not executable.
    #[error("there is no QEMU for {arch}: {error}")]
    Missing {
        /// For which architecture.
        arch: Arch,
        /// What was tried, and what to do.
        error: ChildError,
    },
    /// It is there and does not answer.
    #[error("{}: does not answer as QEMU does: {why}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What happened instead.
        why: String,
    },
    /// It emulates something else.
    #[error("{}: emulates {found}, not {wanted}", path.display())]
    WrongArch {
        /// Which.
        path: PathBuf,
        /// What it emulates, in QEMU's words.
        found: String,
        /// What was needed.
        wanted: Arch,
    },
    /// It was killed by a signal, or the lab could not run it.
    #[error("{}: {ended}{}", path.display(), if stderr.is_empty() { String::new() } else { format!("; it said: {}", stderr.trim_end()) })]
    Died {
        /// Which.
        path: PathBuf,
        /// How.
        ended: Ended,
        /// The last it wrote to standard error.
        stderr: String,
    },
    /// The lab could not run it.
    #[error(transparent)]
    Child(ChildError),
}

impl QemuError {
    /// The cause a verdict carries.
    pub fn cause(&self) -> Cause {
        match self {
            QemuError::Missing { .. } | QemuError::WrongArch { .. } => Cause::QemuMissing,
            QemuError::Unusable { .. } | QemuError::Died { ended: Ended::Exit(_), .. } => Cause::QemuRefused,
            QemuError::Died { ended: Ended::Signal(_), .. } => Cause::QemuKilled,
            QemuError::Child(error) => error.cause(),
        }
    }
}

/// The name QEMU's binary for `arch` has everywhere.
pub fn program(arch: Arch) -> String {
    format!("qemu-system-{arch}")
}

/// The unversioned machine type that the lab uses.
pub fn board(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "q35",
        Arch::Aarch64 => "virt",
    }
}

/// Looks at the QEMU at `path`, or, without one, at the one in `PATH`: runs it, once, and lets it answer over its own
/// monitor. Blocks for about 0.1 s.
///
/// # Errors
/// [`QemuError`], with what to install.
pub fn find(arch: Arch, path: Option<&Path>) -> Result<QemuInfo, QemuError> {
    let name = path.map_or_else(|| PathBuf::from(program(arch)), Path::to_owned);
    let (answers, sandbox) = match ask(&name, true) {
        // Not built in, or seccomp not there in this container: the words differ by version.
        Ok(output) if !output.ended.ok() && names_sandbox(&output) => (ask(&name, false), false),
        other => (other, true),
    };
    let path = xenlab_host::probe::find_program(&name).unwrap_or_else(|| name.clone());
    let output = answers.map_err(|error| match error {
        ChildError::NotFound { .. } | ChildError::Exec { .. } => QemuError::Missing { arch, error },
        ChildError::TimedOut { .. } => QemuError::Unusable { path: path.clone(), why: error.to_string() },
        other => QemuError::Child(other),
    })?;
    if !output.ended.ok() {
        return Err(QemuError::Died { path, ended: output.ended, stderr: output.stderr.text() });
    }
    read(arch, path.clone(), &output.stdout.text(), sandbox).map_err(|why| match why {
        Wrong::Arch(found) => QemuError::WrongArch { path, found, wanted: arch },
        Wrong::Answer(why) => QemuError::Unusable { path, why },
    })
}

/// As [`find`], with a file in which the answers of binaries are kept between runs: what a binary says does not change as
/// long as its path, size and time of change do not. A script's is never kept, what it runs may change.
///
/// # Errors
/// As [`find`].
pub fn find_remembered(arch: Arch, path: Option<&Path>, memory: &Path) -> Result<QemuInfo, QemuError> {
    let name = path.map_or_else(|| PathBuf::from(program(arch)), Path::to_owned);
    let binary = xenlab_host::probe::find_program(&name).filter(|p| is_elf(p));
    let key = binary.as_deref().map(|p| format!("{arch} {}", stamp(p)));
    let recall = || -> BTreeMap<String, QemuInfo> {
        // Damaged or of another version: asked again.
        std::fs::read(memory).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
    };
    if let Some(known) = key.as_ref().and_then(|key| recall().remove(key)) {
        return Ok(known);
    }
    let info = find(arch, path)?;
    if let Some(key) = key {
        let mut all = recall();
        all.insert(key, info.clone());
        if let Err(error) = write(memory, &all) {
            tracing::warn!("{}: QEMU's answers could not be kept: {error}", memory.display());
        }
    }
    Ok(info)
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// Replaces a small file kept between runs in one step: a reader never sees half of it.
pub(crate) fn write(path: &Path, what: &impl Serialize) -> std::io::Result<()> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(&serde_json::to_vec_pretty(what)?)?;
    file.persist(path)?;
    Ok(())
}

fn names_sandbox(output: &Output) -> bool {
    let text = output.stderr.text();
    text.contains("sandbox") || text.contains("seccomp")
}

const QUESTIONS: [&str; 5] = ["qmp_capabilities", "query-version", "query-target", "query-machines", "quit"];

fn ask(program: &Path, sandbox: bool) -> Result<Output, ChildError> {
    let questions: String = QUESTIONS.iter().map(|q| format!("{{\"execute\": \"{q}\"}}\n")).collect();
    let mut command = Command::new(program);
    if sandbox {
        command = command.args(["-sandbox", "on,spawn=deny"]);
    }
    command
        .args(["-no-user-config", "-nodefaults", "-display", "none", "-machine", "none", "-S"])
        .args(["-chardev", "stdio,id=qmp,signal=off", "-mon", "chardev=qmp,mode=control"])
        .stdin_bytes(questions.into_bytes())
        .limit(LIMIT)
        .output()
}

#[derive(Debug)]
enum Wrong {
    Arch(String),
    Answer(String),
}

/// Reads the answers: the greeting, a reply for each of [`QUESTIONS`] in their order, and perhaps events.
fn read(arch: Arch, path: PathBuf, text: &str, sandbox: bool) -> Result<QemuInfo, Wrong> {
    let missing =
        |what: &str| Wrong::Answer(format!("no {what} in {:?}", text.chars().take(200).collect::<String>()));
    let mut replies = Vec::new();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let message: Value =
            serde_json::from_str(line).map_err(|e| Wrong::Answer(format!("{e} in {line:?}")))?;
        if let Some(reply) = message.get("return") {
            replies.push(reply.clone());
        } else if let Some(error) = message.get("error") {
            return Err(Wrong::Answer(error.to_string()));
        }
    }
    let [_, version, target, machines, ..] = replies.as_slice() else {
        return Err(missing("complete answer"));
    };
    let found = target.get("arch").and_then(Value::as_str).ok_or_else(|| missing("architecture"))?;
    if found != arch.name() {
        return Err(Wrong::Arch(found.to_owned()));
    }
    let package = version
        .get("package")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .trim()
        .trim_matches(['(', ')'])
        .to_owned();
    let version = version.get("qemu").cloned().ok_or_else(|| missing("version"))?;
    let version: QemuVersion = serde_json::from_value(version).map_err(|e| Wrong::Answer(e.to_string()))?;
    let machines = machines.as_array().ok_or_else(|| missing("machine types"))?;
    let text = |m: &Value, key: &str| m.get(key).and_then(Value::as_str).map(str::to_owned);
    let machine = machines
        .iter()
        .find(|m| m.get("alias").and_then(Value::as_str) == Some(board(arch)))
        .and_then(|m| text(m, "name"))
        .ok_or_else(|| missing(board(arch)))?;
    let mut machines: Vec<String> = machines.iter().filter_map(|m| text(m, "name")).collect();
    machines.sort();
    Ok(QemuInfo { stamp: stamp(&path), path, arch, version, package, machine, machines, sandbox })
}

fn stamp(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(m) => format!("{} {} {}.{:09}", path.display(), m.len(), m.mtime(), m.mtime_nsec()),
        Err(_) => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: &str = r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": ""}, "capabilities": ["oob"]}}
{"return": {}}
{"return": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "Debian 1:10.0.2+ds-2~bpo12+1"}}
{"return": {"arch": "aarch64"}}
{"return": [{"name": "virt-9.2"}, {"name": "virt-10.0", "alias": "virt"}, {"name": "none"}]}
{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}
{"return": {}}
"#;

    #[test]
    fn answers_are_read() {
        let info = read(Arch::Aarch64, "/q".into(), ANSWERS, true).unwrap();
        assert_eq!((info.version.to_string().as_str(), info.machine.as_str()), ("10.0.2", "virt-10.0"));
        assert_eq!(info.shown(), "10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)");
        assert!(info.machines.contains(&"virt-9.2".to_owned()));
        assert!(info.version >= OLDEST);
    }

    #[test]
    fn another_architecture_and_nonsense_are_told() {
        assert!(
            matches!(read(Arch::X86_64, "/q".into(), ANSWERS, true), Err(Wrong::Arch(a)) if a == "aarch64")
        );
        for text in [
            "",
            "hello",
            "{}",
            "{\"return\": {}}",
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}",
        ] {
            assert!(matches!(read(Arch::X86_64, "/q".into(), text, true), Err(Wrong::Answer(_))), "{text}");
        }
    }

    #[test]
    fn answers_of_binaries_are_kept_and_those_of_scripts_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let memory = dir.path().join("deep/qemu.json");
        // A binary that is no QEMU: were it asked, it would be refused.
        let path = Path::new("/proc/self/exe");
        let info = QemuInfo { path: path.into(), ..read(Arch::Aarch64, "/q".into(), ANSWERS, true).unwrap() };
        let key = format!("aarch64 {}", stamp(path));
        write(&memory, &BTreeMap::from([(key, &info)])).unwrap();
        assert_eq!(find_remembered(Arch::Aarch64, Some(path), &memory).unwrap(), info);
        assert!(find_remembered(Arch::X86_64, Some(Path::new("/bin/false")), &memory).is_err());
        std::fs::write(&memory, "[").unwrap();
        assert!(find_remembered(Arch::Aarch64, Some(Path::new("/bin/false")), &memory).is_err());
        let script = dir.path().join("script");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(is_elf(path) && !is_elf(&script) && !is_elf(&memory));
    }

    #[test]
    fn a_program_that_is_not_qemu() {
        let error = find(Arch::X86_64, Some(Path::new("/nowhere/qemu"))).unwrap_err();
        assert_eq!(error.cause(), Cause::QemuMissing, "{error}");
        let error = find(Arch::X86_64, Some(Path::new("/bin/false"))).unwrap_err();
        assert_eq!(error.cause(), Cause::QemuRefused, "{error}");
        let error = find(Arch::X86_64, Some(Path::new("/bin/true"))).unwrap_err();
        assert_eq!(error.cause(), Cause::QemuRefused, "{error}");
    }
}
