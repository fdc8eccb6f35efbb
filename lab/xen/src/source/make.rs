//! The hypervisor, by the tree's own build system; and what compiles for an architecture.

use super::lay::Changed;
use super::options::Wanted;
use super::run::{Runner, command};
use super::{Part, Record, io};
use crate::build::Declared;
use crate::declared;
use crate::error::XenError;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use xenlab_host::child::ChildError;
use xenlab_host::{packages, probe, resources};
use xenlab_model::arch::Arch;

/// What compiles for an architecture.
pub(super) struct Toolchain {
    /// `aarch64-linux-gnu-`, or nothing where this host is of that architecture.
    pub(super) prefix: &'static str,
    /// What compiler and linker say of themselves.
    pub(super) versions: String,
    pub(super) ccache: Option<PathBuf>,
}

/// Programs that building any hypervisor takes, beside compiler and linker.
const PROGRAMS: &[&str] = &["make", "bison", "flex", "python3"];

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
            let output = command(&me.program(program)).arg("--version").checked().map_err(child)?;
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

    pub(super) fn program(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What every call of make is told.
    pub(super) fn make_args(&self, arch: Arch) -> Vec<String> {
        vec![
            format!("-j{}", resources::cores()),
            format!("XEN_TARGET_ARCH={}", if arch == Arch::Aarch64 { "arm64" } else { "x86_64" }),
            format!("CROSS_COMPILE={}", self.prefix),
        ]
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
pub(super) fn lacking(programs: &[String]) -> XenError {
    let names: Vec<&str> = programs.iter().map(String::as_str).collect();
    let hint = match packages::install_command(&names) {
        Some(command) => format!("install what is missing with: {command}"),
        None => packages::hint(names.first().copied().unwrap_or_default()),
    };
    XenError::ToolMissing { program: names.join("`, `"), hint }
}

/// The hypervisor.
pub(super) struct Hypervisor<'a> {
    pub(super) name: &'a str,
    pub(super) arch: Arch,
    pub(super) tools: &'a Toolchain,
    pub(super) wanted: &'a Wanted,
    pub(super) changeset: String,
}

/// Folders that no hypervisor is built from, but for [`FLASK`].
const OTHERS: &[&str] = &["tools/", "docs/", "stubdom/", "extras/", "automation/"];
/// The policy that a hypervisor with Flask has in it.
const FLASK: &str = "tools/flask/policy/";

impl Part for Hypervisor<'_> {
    fn noun(&self) -> &'static str {
        ""
    }

    fn takes(&self, path: &str) -> bool {
        path.starts_with(FLASK) || !OTHERS.iter().any(|o| path.starts_with(o))
    }

    fn over(&self) -> Changed {
        [(".scmversion".to_owned(), Some((format!("{}\n", self.changeset).into_bytes(), false)))].into()
    }

    /// Configures, builds and installs.
    fn build(&self, run: &Runner<'_>, root: &Path, differs: &BTreeSet<String>) -> Result<(), XenError> {
        self.configure(run, differs)?;
        run.say("compiling");
        let destdir = format!("DESTDIR={}", root.display());
        let objects = self.make(run, &["install", &destdir], Some("compiling"))?;
        // Making may settle options once more.
        self.taken(run)?;
        if self.wanted.efi_image && !has_efi(root) {
            return Err(XenError::Tool {
                program: self.tools.program("ld"),
                why: "xen.options.efi is true and no xen.efi came of it: it cannot link for EFI (i386pep)"
                    .into(),
            });
        }
        run.count(objects)
    }

    fn record(&self, src: &Path) -> Record {
        let makefile = src.join("xen/Makefile");
        let declared = declared::makefile(&makefile).map(|d| Declared {
            version: self.wanted.version(&makefile).unwrap_or(d.version),
            by: format!("xen/Makefile of {}", self.name),
        });
        Record { declared, left_out: Vec::new() }
    }
}

impl Hypervisor<'_> {
    /// The tree's defaults for the architecture, then what was asked for. `.config` is touched only if it changes: make goes by it.
    fn configure(&self, run: &Runner<'_>, differs: &BTreeSet<String>) -> Result<(), XenError> {
        let name = self.name;
        let wanted = self.wanted.lines();
        let memory = run.space.path().join("config.wanted");
        let config = run.src().join("xen/.config");
        let of_kconfig =
            |p: &String| p.contains("/Kconfig") || p.contains("/configs/") || p.contains("/kconfig/");
        let same = std::fs::read_to_string(&memory).is_ok_and(|was| was == wanted);
        if same && config.is_file() && !differs.iter().any(of_kconfig) {
            return Ok(());
        }
        run.say("configuring");
        let new = run.space.path().join("config.new");
        let _ = std::fs::remove_file(&new);
        let setting = format!("KCONFIG_CONFIG={}", new.display());
        self.make(run, &["defconfig", &setting], None)?;
        if !wanted.is_empty() {
            let append = std::fs::OpenOptions::new().append(true).open(&new);
            append
                .and_then(|mut f| f.write_all(wanted.as_bytes()))
                .map_err(|e| io(name, "write", &new, e))?;
            self.make(run, &["olddefconfig", &setting], None)?;
        }
        let text = std::fs::read_to_string(&new).map_err(|e| io(name, "read", &new, e))?;
        self.wanted.taken(name, &text, &run.src())?;
        if std::fs::read_to_string(&config).ok().as_deref() != Some(text.as_str()) {
            std::fs::write(&config, &text).map_err(|e| io(name, "write", &config, e))?;
        }
        std::fs::write(&memory, wanted).map_err(|e| io(name, "write", &memory, e))
    }

    fn taken(&self, run: &Runner<'_>) -> Result<(), XenError> {
        let config = run.src().join("xen/.config");
        let text = std::fs::read_to_string(&config).map_err(|e| io(self.name, "read", &config, e))?;
        self.wanted.taken(self.name, &text, &run.src())
    }

    /// Runs make; how many objects it made.
    fn make(&self, run: &Runner<'_>, words: &[&str], phase: Option<&str>) -> Result<u64, XenError> {
        let mut args = self.tools.make_args(self.arch);
        if self.tools.ccache.is_some() {
            args.push(format!("CC=ccache {}", self.tools.program("gcc")));
        }
        args.extend(self.wanted.make.iter().cloned());
        args.extend(words.iter().map(|w| (*w).to_owned()));
        run.run("make", &args, &run.src().join("xen"), &[], phase)
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
