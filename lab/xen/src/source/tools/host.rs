//! What the host has for building Xen's tools, and what it lacks: all of it told at once, before anything is built.

use super::super::make::{Toolchain, child};
use super::super::run::command;
use super::lacking;
use crate::error::XenError;
use xenlab_host::{packages, probe};
use xenlab_model::arch::Arch;

/// A program or header that building the tools takes.
struct Requirement {
    /// The program's name, or the header as it is included.
    what: &'static str,
    /// It is a header of a library of the host's, asked for only where the host builds for itself.
    header: bool,
}

const fn program(what: &'static str) -> Requirement {
    Requirement { what, header: false }
}

const fn header(what: &'static str) -> Requirement {
    Requirement { what, header: true }
}

/// By `tools/configure.ac` of Xen 4.17 to 4.23; one of [`JSON`] comes on top, and on an AArch64 host [`FDT`].
const REQUIRED: &[Requirement] = &[
    program("make"),
    program("bison"),
    program("flex"),
    program("python3"),
    program("perl"),
    program("bash"),
    program("iasl"),
    program("pkg-config"),
    header("uuid/uuid.h"),
    header("curses.h"),
    header("zlib.h"),
    header("Python.h"),
];

/// yajl for every version; from Xen 4.21 on json-c does, and is taken where both are there.
const YAJL: &str = "yajl/yajl_gen.h";
const JSON_C: &str = "json-c/json.h";
const FDT: &str = "libfdt.h";

/// What comes of the tools differs with these, and none is needed.
const OPTIONAL: &[&str] = &[
    "bzlib.h",
    "lzma.h",
    "lzo/lzo1x.h",
    "zstd.h",
    "lz4.h",
    "ext2fs/ext2fs.h",
    "libnl3/netlink/netlink.h",
    "systemd/sd-daemon.h",
    "valgrind/memcheck.h",
];

/// What the host has.
pub(super) struct Host {
    /// Headers of [`OPTIONAL`] and of JSON that are there.
    has: Vec<&'static str>,
    /// Both programs that OCaml's part takes.
    pub(super) ocaml: bool,
    /// Libraries are the host's own.
    native: bool,
}

impl Host {
    /// Looks; what is missing is an error that names all of it.
    pub(super) fn find(compiler: &Toolchain, arch: Arch) -> Result<Host, XenError> {
        let (absent, has) = look(compiler, arch)?;
        if !absent.is_empty() {
            return Err(lacking(&absent));
        }
        let ocaml = ["ocamlfind", "ocamlopt"].iter().all(|p| probe::find_program(p).is_some());
        Ok(Host { has, ocaml, native: compiler.prefix.is_empty() })
    }

    /// All of it, for keys.
    pub(super) fn canonical(&self) -> String {
        format!("ocaml {}\n{}", self.ocaml && self.native, self.has.join("\n"))
    }

    /// This tree, by its configure, can use what the host has.
    pub(super) fn fits(&self, configure: &str) -> Result<(), XenError> {
        let yajl = self.has.contains(&YAJL);
        if self.native && !yajl && !configure.contains("json-c") { Err(lacking(&[YAJL])) } else { Ok(()) }
    }
}

/// What is missing, for a list.
pub(super) fn missing(compiler: &Toolchain, arch: Arch) -> Result<Vec<&'static str>, XenError> {
    Ok(look(compiler, arch)?.0)
}

/// Missing requirements, and the headers that are there of those that none is needed of.
fn look(compiler: &Toolchain, arch: Arch) -> Result<(Vec<&'static str>, Vec<&'static str>), XenError> {
    let mut absent: Vec<&'static str> = REQUIRED
        .iter()
        .filter(|r| !r.header && probe::find_program(r.what).is_none())
        .map(|r| r.what)
        .collect();
    if !compiler.prefix.is_empty() {
        return Ok((absent, Vec::new()));
    }
    let mut headers: Vec<&'static str> = REQUIRED.iter().filter(|r| r.header).map(|r| r.what).collect();
    if arch == Arch::Aarch64 {
        headers.push(FDT);
    }
    let lacks = absent_headers(compiler, &[&headers[..], &[YAJL, JSON_C], OPTIONAL].concat())?;
    absent.extend(headers.iter().filter(|h| lacks.contains(h)));
    if lacks.contains(&YAJL) && lacks.contains(&JSON_C) {
        absent.push(YAJL);
    }
    let others = [YAJL, JSON_C].into_iter().chain(OPTIONAL.iter().copied());
    Ok((absent, others.filter(|h| !lacks.contains(h)).collect()))
}

/// Which of these headers the compiler does not find, asked of its preprocessor in one go. Python's lie in a folder of its own.
fn absent_headers<'a>(compiler: &Toolchain, headers: &[&'a str]) -> Result<Vec<&'a str>, XenError> {
    let mut text = String::new();
    for (at, header) in headers.iter().enumerate() {
        text.push_str(&format!("#if !__has_include(<{header}>)\nxenlab lacks {at}\n#endif\n"));
    }
    let mut ask = command(&compiler.program("gcc")).args(["-E", "-P", "-x", "c"]);
    if headers.contains(&"Python.h") {
        // Without setuptools the headers are of no use: what is built is built by a setup.py.
        let say = "import sysconfig, importlib.util as u; print(u.find_spec('setuptools') and sysconfig.get_path('include') or '')";
        // A Python that does not know has no headers.
        if let Ok(said) = command("python3").args(["-c", say]).output() {
            ask = ask.arg("-idirafter").arg(said.stdout.text().trim());
        }
    }
    let said = ask.arg("-").stdin_bytes(text.into_bytes()).checked().map_err(child)?;
    let said = said.stdout.text();
    let absent = said.lines().filter_map(|l| l.trim().strip_prefix("xenlab lacks ")?.parse::<usize>().ok());
    Ok(absent.filter_map(|at| headers.get(at).copied()).collect())
}

/// What autoconf says of itself; nothing where there is none. Only trees without a configure take it.
pub(super) fn autoconf() -> Result<String, XenError> {
    if probe::find_program(AUTOCONF).is_none() {
        return Ok(String::new());
    }
    let said = command(AUTOCONF).arg("--version").checked().map_err(child)?;
    Ok(said.stdout.text().lines().next().unwrap_or_default().to_owned())
}

/// An error that names it where there is none.
pub(super) fn autoconf_is_there() -> Result<(), XenError> {
    if probe::find_program(AUTOCONF).is_none() { Err(lacking(&[AUTOCONF])) } else { Ok(()) }
}

const AUTOCONF: &str = "autoconf";

/// How to install these programs here.
pub(super) fn install(programs: &[&str]) -> String {
    match packages::install_command(programs) {
        Some(command) => format!("install them with: {command}"),
        None => packages::hint(programs.first().copied().unwrap_or_default()),
    }
}
