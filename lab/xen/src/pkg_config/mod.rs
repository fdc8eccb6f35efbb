//! What the step `pkg-config` observes: the build's modules, asked of the real `pkg-config`, which sees nothing but the build.
//!
//! `PKG_CONFIG_LIBDIR` has only the build's own folders, `PKG_CONFIG_PATH` is not set and nothing else of the environment is
//! passed on, so a module of the host's can never answer for a missing one. A tree that lies under its own DESTDIR is named by
//! `PKG_CONFIG_SYSROOT_DIR`.

mod compile;
mod programs;

use crate::build::{Development, XenBuild};
use crate::elf;
use crate::error::XenError;
use compile::Compiler;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use xenlab_host::child::{ChildError, Command};
use xenlab_model::step::pkg_config::{
    LibrarySeen, ModuleSeen, Modules, Outcome, PkgConfig, PkgConfigEvidence,
};

/// pkg-config reads a few small files: after this long it hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// Asks pkg-config about the modules of a build: those named, or every one that the build has (what is expected beyond those is
/// for the judge, who has the table and [`PkgConfigEvidence::present`]).
///
/// # Errors
/// `pkg-config` is not installed or could not be run; never anything that is the build's fault.
pub fn pkg_config(build: &XenBuild, step: &PkgConfig) -> Result<PkgConfigEvidence, XenError> {
    let branch = build
        .hypervisor
        .branch()
        .or_else(|| build.tools.as_ref().and_then(|t| t.branch.clone()))
        .unwrap_or_default();
    if let Some(lender) = &build.borrowed {
        let borrowed = Some(lender.to_string());
        return Ok(PkgConfigEvidence { borrowed, branch, ..PkgConfigEvidence::default() });
    }
    let Some(development) = &build.development else {
        let whose = build.tools.as_ref().map_or(build.hypervisor.from.as_str(), |t| t.from.as_str());
        let absent = Some(format!("{whose} has no development files: no pkgconfig/*.pc in it"));
        return Ok(PkgConfigEvidence { absent, branch, ..PkgConfigEvidence::default() });
    };
    let asker = Asker::new(development);
    let tool = match asker.ask(&["--version"])? {
        Outcome::Said(version) => version,
        Outcome::Failed(why) => return Err(tool_error(why)),
    };
    let present: Vec<String> = development.modules.keys().cloned().collect();
    let wanted: Vec<String> = match &step.modules {
        Modules::All => {
            let mut all: BTreeSet<String> = present.iter().cloned().collect();
            all.extend(step.versions.keys().cloned());
            all.into_iter().collect()
        }
        Modules::These(list) => list.clone(),
    };
    let compiler = step.compile.then(|| Compiler::find(build.arch));
    let modules = side_by_side(&wanted, |name| asker.module(name, compiler.as_ref()))?;
    Ok(PkgConfigEvidence { absent: None, borrowed: None, tool, branch, modules, present })
}

fn tool_error(why: String) -> XenError {
    XenError::Tool { program: "pkg-config".into(), why }
}

/// Does `work` for every name, a few at once; the results in the names' order, or the first error.
fn side_by_side<T: Send>(
    names: &[String],
    work: impl Fn(&str) -> Result<T, XenError> + Sync,
) -> Result<Vec<T>, XenError> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<T, XenError>)>> = Mutex::new(Vec::with_capacity(names.len()));
    std::thread::scope(|scope| {
        for _ in 0..xenlab_host::resources::cores().clamp(1, 8).min(names.len()) {
            scope.spawn(|| {
                while let Some((i, name)) = {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    names.get(i).map(|n| (i, n))
                } {
                    let result = work(name);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((i, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, r)| r).collect()
}

/// pkg-config, as it sees this build and nothing else.
struct Asker<'a> {
    development: &'a Development,
    /// The root, links resolved, to tell what is inside.
    root: PathBuf,
    libdir: String,
    sysroot: PathBuf,
}

impl<'a> Asker<'a> {
    fn new(development: &'a Development) -> Asker<'a> {
        let root = std::fs::canonicalize(&development.root).unwrap_or_else(|_| development.root.clone());
        let dirs: Vec<String> =
            development.pc_dirs.iter().map(|d| root.join(d).display().to_string()).collect();
        // What is installed at /usr and lies at ROOT/usr has ROOT as its sysroot; what lies where it says has none; what was
        // moved after it was installed is put right in the answers (`place`).
        let relative = development.mount.strip_prefix("/").unwrap_or(&development.mount);
        let sysroot = if root.ends_with(relative) {
            let up = relative.components().count();
            root.ancestors().nth(up).unwrap_or(&root).to_owned()
        } else {
            PathBuf::new()
        };
        let sysroot = if sysroot == Path::new("/") { PathBuf::new() } else { sysroot };
        Asker { development, libdir: dirs.join(":"), sysroot, root }
    }

    fn ask(&self, args: &[&str]) -> Result<Outcome, XenError> {
        let mut command = Command::new("pkg-config")
            .args(args)
            .env_clear()
            .env("PKG_CONFIG_LIBDIR", &self.libdir)
            .limit(LIMIT);
        for (name, value) in
            [("LC_ALL", "C"), ("PKG_CONFIG_ALLOW_SYSTEM_LIBS", "1"), ("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1")]
        {
            command = command.env(name, value);
        }
        if let Some(path) = std::env::var_os("PATH") {
            command = command.env("PATH", path);
        }
        if !self.sysroot.as_os_str().is_empty() {
            command = command.env("PKG_CONFIG_SYSROOT_DIR", &self.sysroot);
        }
        let output = command.output().map_err(child_error)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.ended.ok() {
            Ok(Outcome::Said(text(&output.stdout.bytes)))
        } else {
            Ok(Outcome::Failed(text(&output.stderr.bytes)))
        }
    }

    fn module(
        &self,
        name: &str,
        compiler: Option<&Result<Compiler, String>>,
    ) -> Result<ModuleSeen, XenError> {
        let file = self.development.modules.get(name);
        let libs = self.ask(&["--libs", name])?;
        let libraries = match &libs {
            Outcome::Said(flags) => self.libraries(&split(flags)),
            Outcome::Failed(_) => Vec::new(),
        };
        let mut seen = ModuleSeen {
            name: name.to_owned(),
            file: file.map(|f| f.display().to_string()),
            version: self.ask(&["--modversion", name])?,
            libs,
            requires: self.requires(name, file)?,
            libraries,
            compile: None,
            compile_skipped: None,
        };
        match compiler {
            Some(Ok(compiler)) if file.is_some() => match self.ask(&["--cflags", "--libs", name])? {
                Outcome::Said(flags) => {
                    let flags: Vec<String> = split(&flags).iter().map(|f| self.place_flag(f)).collect();
                    match compiler.try_module(name, &flags, &self.root, &self.development.include_dirs)? {
                        compile::Tried::Done(result) => seen.compile = Some(result),
                        compile::Tried::NotPossible(why) => seen.compile_skipped = Some(why),
                    }
                }
                Outcome::Failed(why) => seen.compile = Some(Err(why)),
            },
            Some(Err(why)) => seen.compile_skipped = Some(why.clone()),
            _ => {}
        }
        Ok(seen)
    }

    /// Names of what a module requires, each with whether the build has it. A module that pkg-config refuses because of one that
    /// is missing is read by ourselves.
    fn requires(&self, name: &str, file: Option<&PathBuf>) -> Result<Vec<(String, bool)>, XenError> {
        let mut names = BTreeSet::new();
        for query in ["--print-requires", "--print-requires-private"] {
            if let Outcome::Said(text) = self.ask(&[query, name])? {
                names.extend(requirement_names(&text.replace('\n', ",")));
            }
        }
        if let Some(text) = file.and_then(|f| std::fs::read_to_string(self.root.join(f)).ok()) {
            for line in text.lines() {
                if let Some((key, value)) = line.split_once(':')
                    && matches!(key.trim(), "Requires" | "Requires.private")
                {
                    names.extend(requirement_names(value));
                }
            }
        }
        Ok(names
            .into_iter()
            .map(|n| {
                let pc = |d: &PathBuf| self.root.join(d).join(format!("{n}.pc")).exists();
                let has = self.development.pc_dirs.iter().any(pc);
                (n, has)
            })
            .collect())
    }

    /// A path that pkg-config answered, on this machine.
    fn place(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        if self.sysroot.as_os_str().is_empty()
            && self.development.mount != self.root
            && let Ok(inside) = path.strip_prefix(&self.development.mount)
        {
            return self.root.join(inside);
        }
        path.to_owned()
    }

    fn place_flag(&self, flag: &str) -> String {
        for option in ["-L", "-I"] {
            if let Some(path) = flag.strip_prefix(option) {
                return format!("{option}{}", self.place(path).display());
            }
        }
        flag.to_owned()
    }

    /// What each `-l` finds in the `-L` folders, as a linker looks: the shared library before the static one.
    fn libraries(&self, flags: &[String]) -> Vec<LibrarySeen> {
        let dirs: Vec<PathBuf> =
            flags.iter().filter_map(|f| f.strip_prefix("-L")).map(|d| self.place(d)).collect();
        flags.iter().filter_map(|f| f.strip_prefix("-l")).map(|name| self.library(name, &dirs)).collect()
    }

    fn library(&self, name: &str, dirs: &[PathBuf]) -> LibrarySeen {
        let mut seen = LibrarySeen { name: name.to_owned(), ..LibrarySeen::default() };
        let candidates =
            dirs.iter().flat_map(|d| [d.join(format!("lib{name}.so")), d.join(format!("lib{name}.a"))]);
        // Only what lies in the build, after links: a link to the host's library is none.
        let found = candidates.filter_map(|c| self.inside(&c)).next();
        let Some(found) = found else { return seen };
        seen.file = found.strip_prefix(&self.root).ok().map(|p| p.display().to_string());
        if let Some(info) = elf::read_file(&found) {
            seen.arch = Some(info.arch.map_or(info.machine, |a| a.name().to_owned()));
            seen.soname_present =
                info.soname.as_ref().is_some_and(|s| dirs.iter().any(|d| self.inside(&d.join(s)).is_some()));
            seen.soname = info.soname;
        }
        seen
    }

    /// The file that a path leads to, if it is a file inside the build. Absolute links are meant for dom0.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..16 {
            match std::fs::read_link(&path) {
                Ok(link) if link.is_absolute() => {
                    path = self.root.join(link.strip_prefix(&self.development.mount).ok()?)
                }
                Ok(link) => path = path.parent()?.join(link),
                Err(_) => break,
            }
        }
        let real = std::fs::canonicalize(path).ok()?;
        (real.is_file() && real.starts_with(&self.root)).then_some(real)
    }
}

fn child_error(e: ChildError) -> XenError {
    match e {
        ChildError::NotFound { program, .. } => {
            XenError::ToolMissing { hint: xenlab_host::packages::hint(&program), program }
        }
        other => XenError::Child(other),
    }
}

/// Flags as pkg-config prints them: separated by blanks, a blank in a path behind a backslash.
fn split(flags: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut chars = flags.chars();
    while let Some(c) = chars.next() {
        let Some(last) = out.last_mut() else { break };
        match c {
            '\\' => last.extend(chars.next()),
            c if c.is_whitespace() => out.push(String::new()),
            c => last.push(c),
        }
    }
    out.retain(|f| !f.is_empty());
    out
}

/// `xencall >= 1.0, xentoollog xenstore` → the three names.
fn requirement_names(list: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut version = false;
    for word in list.split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty()) {
        if matches!(word, "=" | "<" | ">" | "<=" | ">=" | "!=") {
            version = true;
        } else if version {
            version = false;
        } else {
            names.push(word.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests;
