//! Compiling and linking a C program with a module, by the host's compiler or a cross compiler, against nothing of Xen's but what
//! is in the build.

use super::programs::program;
use super::{LIMIT, child_error};
use crate::elf;
use crate::error::XenError;
use std::path::{Path, PathBuf};
use xenlab_host::child::Command;
use xenlab_model::arch::Arch;

/// libxl_uuid.h includes libuuid's header for this type alone. libuuid is no part of a Xen build, so where the compiler has no
/// header of it this one stands in (it is looked for last).
const UUID_H: &str = "typedef unsigned char uuid_t[16];\n";

/// A compiler that can make programs for the architecture.
pub(super) struct Compiler {
    program: String,
    arch: Arch,
}

/// What became of one module.
pub(super) enum Tried {
    /// It compiled and linked, or why not.
    Done(Result<(), String>),
    /// The host lacks something that neither build nor compiler bring; neither a pass nor a failure.
    NotPossible(String),
}

impl Compiler {
    /// The compiler for an architecture, or why there is none that works.
    pub(super) fn find(arch: Arch) -> Result<Compiler, String> {
        let cross = format!("{}-gcc", arch.triplet());
        let candidates = if Arch::host() == Some(arch) { vec!["cc".to_owned(), cross] } else { vec![cross] };
        let Some(program) = candidates.iter().find(|c| xenlab_host::probe::find_program(c).is_some()) else {
            return Err(format!(
                "no C compiler for {arch} ({}): {}",
                candidates.join(" or "),
                xenlab_host::packages::hint(&candidates[0])
            ));
        };
        let compiler = Compiler { program: program.clone(), arch };
        // A compiler without its C library would fail for every module, and that is not the build's doing.
        match compiler.build("int main(void) { return 0; }\n", &[], &[]) {
            Ok(Ok(_)) => Ok(compiler),
            Ok(Err(said)) => Err(format!("`{program}` cannot make an empty program: {}", last_lines(&said))),
            Err(e) => Err(format!("`{program}` cannot be used: {e}")),
        }
    }

    /// Compiles and links the module's program with these flags.
    pub(super) fn try_module(
        &self,
        module: &str,
        flags: &[String],
        root: &Path,
        include_dirs: &[PathBuf],
    ) -> Result<Tried, XenError> {
        let (text, own) = program(module);
        let made = match self.build(&text, flags, &[root])? {
            Ok(made) => made,
            Err(said) => {
                return Ok(match foreign_header(&said, root, include_dirs) {
                    Some(header) => Tried::NotPossible(format!(
                        "<{header}> is neither in the build nor in what `{}` has: install the package it belongs to",
                        self.program
                    )),
                    None => Tried::Done(Err(last_lines(&said))),
                });
            }
        };
        Ok(Tried::Done(self.check(&made, &own, flags, root)))
    }

    /// The program must be for the right machine and made of the build's own headers and libraries.
    fn check(&self, made: &Made, own: &[&str], flags: &[String], root: &Path) -> Result<(), String> {
        if made.elf.arch != Some(self.arch) {
            return Err(format!("the program is for {}, not for {}", made.elf.machine, self.arch));
        }
        let inside = |p: &Path| std::fs::canonicalize(p).is_ok_and(|p| p.starts_with(root));
        for header in own {
            match made.headers.iter().find(|h| h.ends_with(header)) {
                Some(path) if !inside(path) => {
                    return Err(format!("<{header}> was found at {}, outside the build", path.display()));
                }
                None => return Err(format!("<{header}> was not used")),
                Some(_) => {}
            }
        }
        let libraries: Vec<String> =
            flags.iter().filter_map(|f| f.strip_prefix("-l")).map(|l| format!("lib{l}.")).collect();
        for library in &libraries {
            let name = |p: &PathBuf| {
                p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(library.as_str()))
            };
            match made.linked.iter().find(|p| name(p)) {
                Some(path) if !inside(path) => {
                    return Err(format!("{library}so was found at {}, outside the build", path.display()));
                }
                None => return Err(format!("{library}so was not linked")),
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Compiles and links; the inner error is what the compiler said.
    fn build(&self, text: &str, flags: &[String], roots: &[&Path]) -> Result<Result<Made, String>, XenError> {
        let io = |e| XenError::Unreadable { spec: "compiling".into(), path: std::env::temp_dir(), source: e };
        let dir = tempfile::Builder::new().prefix("xenlab-cc-").tempdir().map_err(io)?;
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a.c"), text).map_err(io)?;
        std::fs::create_dir_all(at("after/uuid")).map_err(io)?;
        std::fs::write(at("after/uuid/uuid.h"), UUID_H).map_err(io)?;
        let mut command = Command::new(&self.program)
            .args(["-x", "c", "a.c", "-o", "a.out", "-MD", "-MF", "a.d", "-Wl,--trace", "-Wl,--no-as-needed"])
            // What a library of the build needs from the distribution (libyajl, libuuid, a newer libc) is not here and not asked.
            .arg("-Wl,--unresolved-symbols=ignore-in-shared-libs")
            .arg("-idirafter")
            .arg(at("after"))
            .args(flags)
            .cwd(dir.path())
            .env_clear()
            .env("LC_ALL", "C")
            .limit(LIMIT);
        for name in ["PATH", "TMPDIR", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command = command.env(name, value);
            }
        }
        let dirs = flags
            .iter()
            .filter_map(|f| f.strip_prefix("-L"))
            .filter(|d| roots.iter().any(|r| Path::new(d).starts_with(r)));
        for d in dirs {
            command = command.arg(format!("-Wl,-rpath-link={d}"));
        }
        let output = command.output().map_err(child_error)?;
        if !output.ended.ok() {
            return Ok(Err(String::from_utf8_lossy(&output.stderr.bytes).into_owned()));
        }
        let Some(elf) = elf::read_file(&at("a.out")) else {
            return Ok(Err("the linker left no ELF program".into()));
        };
        let headers = depended(&std::fs::read_to_string(at("a.d")).unwrap_or_default());
        let linked =
            String::from_utf8_lossy(&output.stdout.bytes).lines().map(|l| PathBuf::from(l.trim())).collect();
        Ok(Ok(Made { elf, headers, linked }))
    }
}

struct Made {
    elf: elf::ElfInfo,
    headers: Vec<PathBuf>,
    linked: Vec<PathBuf>,
}

/// The files in a dependency file that the compiler wrote: `a.o: a.c /usr/include/x.h \`.
fn depended(text: &str) -> Vec<PathBuf> {
    let list = text.split_once(": ").map_or("", |(_, l)| l);
    super::split(&list.replace("\\\n", " ")).into_iter().map(PathBuf::from).collect()
}

/// The header that was not found, when it is none that a Xen build brings.
fn foreign_header(said: &str, root: &Path, include_dirs: &[PathBuf]) -> Option<String> {
    let line =
        said.lines().find(|l| l.contains("fatal error: ") && l.ends_with(": No such file or directory"))?;
    let header = line.split("fatal error: ").nth(1)?.split(": ").next()?.to_owned();
    let name = header.rsplit('/').next().unwrap_or(&header);
    let xens = header.starts_with("xen")
        || name.starts_with("xen")
        || name.starts_with("libx")
        || name.starts_with("_libxl");
    let there = include_dirs.iter().any(|d| root.join(d).join(&header).exists());
    (!xens && !there).then_some(header)
}

/// The end of what a compiler said, without its own noise.
fn last_lines(said: &str) -> String {
    let wanted = |l: &&str| {
        l.contains("error")
            || l.contains("undefined reference")
            || l.contains("cannot find")
            || l.contains("incompatible")
    };
    let chosen: Vec<&str> = said.lines().filter(wanted).take(4).collect();
    let lines = if chosen.is_empty() {
        said.lines().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect()
    } else {
        chosen
    };
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependency_files() {
        let text = "a.out: a.c /build/usr/include/xenctrl.h \\\n /a\\ b/c.h\n";
        let expected = ["a.c", "/build/usr/include/xenctrl.h", "/a b/c.h"];
        assert_eq!(depended(text), expected.map(PathBuf::from));
    }

    #[test]
    fn whose_header_is_missing() {
        let said = |h: &str| {
            format!("a.c:1:10: fatal error: {h}: No such file or directory\ncompilation terminated.\n")
        };
        let foreign = |h: &str| foreign_header(&said(h), Path::new("/nowhere"), &[]);
        assert_eq!(foreign("uuid/uuid.h").as_deref(), Some("uuid/uuid.h"));
        for h in ["xenctrl.h", "xen/xen.h", "libxl_uuid.h", "_libxl_types.h"] {
            assert_eq!(foreign(h), None, "{h}");
        }
        assert_eq!(foreign_header("a.c:1: error: x\n", Path::new("/"), &[]), None);
    }
}
