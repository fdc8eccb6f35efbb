//! The tools of a source, its libraries, headers and `.pc` files: by the tree's own `configure` and `make install-tools`.
//!
//! They are a part of their own: of the hypervisor's files only those are laid out that the tools are built from ([`takes`]), so an
//! edit in the hypervisor leaves tools, key and dom0's image of them as they are; a file that is missing there ends the build loudly.
//! Nothing is fetched: device model, SeaBIOS and OVMF are dom0's, and what would be cloned by git is switched off. For another
//! architecture than the host's the libraries that they link with are Debian's ([`sysroot`]).

mod host;
mod sysroot;

pub use sysroot::request as sysroot_request;

use super::lay::Changed;
use super::make::{self, Toolchain};
use super::run::Runner;
use super::{Built, Origin, Part, Record, Work, io, patch};
use crate::error::XenError;
use host::Host;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use sysroot::Sysroot;
use xenlab_model::arch::Arch;
use xenlab_model::recipe::Recipe;
use xenlab_store::{Key, Store, hash_bytes};

/// Changes when the same inputs would be built otherwise.
const FORMAT: u32 = 1;

/// What is never built here, whatever the version: what git would clone, what takes the hypervisor's whole source (the PV shim), what
/// is for readers. The units do not depend on what the host has of systemd.
const CONFIGURE: &[&str] = &[
    "--disable-xen",
    "--disable-stubdom",
    "--disable-docs",
    "--disable-golang",
    "--disable-pvshim",
    "--disable-qemu-traditional",
    "--disable-rombios",
    "--disable-ipxe",
    "--disable-ovmf",
    "--enable-systemd",
    "--with-systemd=/usr/lib/systemd/system",
    "--with-systemd-modules-load=/usr/lib/modules-load.d",
    // Where dom0 has them: `dom0.device-model`.
    "--with-system-qemu=/usr/bin/qemu-system-i386",
    "--with-system-seabios=/usr/share/seabios/bios-256k.bin",
    "--with-system-ovmf=/usr/share/ovmf/OVMF.fd",
    "--with-system-ipxe=/usr/lib/ipxe/qemu/pxe-rtl8139.rom",
];

/// What no tools are built from, but for what [`OF_XEN`] names: other parts of the tree, and what releases bring along or git has cloned
/// into it, some of it larger than Xen.
const OTHERS: &[&str] = &[
    "xen/",
    "docs/",
    "stubdom/",
    "extras/",
    "automation/",
    "debian/",
    "misc/",
    "tools/qemu-xen",
    "tools/firmware/seabios-dir",
    "tools/firmware/ovmf-dir",
    "tools/firmware/etherboot/ipxe",
];

/// Files and folders of the hypervisor's that the tools of Xen 4.17 to 4.23 are built from, by the Makefiles and sources that name
/// them: `tools/include/Makefile`, `tools/libs/guest`, `tools/tests`, `tools/fuzz`, `tools/flask/policy`, `version.sh`.
const OF_XEN: &[&str] = &[
    "xen/Makefile",
    "xen/include/public/",
    "xen/include/acpi/",
    "xen/include/xen/lib/",
    "xen/include/xen/byteorder",
    "xen/include/xen/decompress.h",
    "xen/include/xen/elfstructs.h",
    "xen/include/xen/libelf.h",
    "xen/include/xen/list.h",
    "xen/include/xen/lz4.h",
    "xen/include/xen/numa.h",
    "xen/include/xen/pdx.h",
    "xen/include/xen/rangeset.h",
    "xen/include/xen/rbtree.h",
    "xen/include/xen/unaligned.h",
    "xen/include/xen/vpci.h",
    "xen/include/xen/xxhash.h",
    "xen/lib/",
    "xen/common/libelf/",
    "xen/common/lz4/",
    "xen/common/xz/",
    "xen/common/zstd/",
    "xen/common/bunzip2.c",
    "xen/common/decompress.h",
    "xen/common/domid.c",
    "xen/common/lzo.c",
    "xen/common/numa.c",
    "xen/common/pdx.c",
    "xen/common/rangeset.c",
    "xen/common/rbtree.c",
    "xen/common/unlz4.c",
    "xen/common/unlzma.c",
    "xen/common/unlzo.c",
    "xen/common/unxz.c",
    "xen/common/unzstd.c",
    "xen/drivers/vpci/",
    "xen/arch/x86/hvm/hpet.c",
    "xen/arch/x86/lib/cpu-policy/",
    "xen/arch/x86/x86_emulate",
    "xen/arch/x86/include/asm/hpet.h",
    "xen/arch/x86/include/asm/msr-index.h",
    "xen/arch/x86/include/asm/x86-",
    "xen/tools/",
    "xen/scripts/",
    "xen/xsm/flask/policy/",
];

/// What configure looks at to know the tree by; nothing of it is built.
const KNOWN_BY: &str = "xen/common/kernel.c";

/// A path of the tree is part of what the tools are built from.
fn takes(path: &str) -> bool {
    OF_XEN.iter().any(|of| path.starts_with(of)) || !OTHERS.iter().any(|o| path.starts_with(o))
}

/// The tools of a source, from the store or built now; none where the tree has none.
pub(crate) fn build(
    name: &str,
    origin: &Origin,
    recipe: &Recipe,
    arch: Arch,
    store: &Store,
) -> Result<Option<Built>, XenError> {
    let has = origin.has(HAS)?;
    if has == Some(false) && origin.has(MADE_FROM)? == Some(false) {
        return Ok(None);
    }
    let compiler = Toolchain::find(arch)?;
    let host = Host::find(&compiler, arch)?;
    let sysroot = match compiler.prefix {
        "" => None,
        _ => Some(Sysroot::get(arch, store)?),
    };
    // A patch that is for other files has nothing to do with these.
    let mut patches = patch::read(name, &recipe.patches)?;
    patches.retain(|p| patch::touched(&p.bytes).iter().any(|f| takes(f)));
    let place = |key: Key| {
        let key = key.part("arch", arch).part("compiler", &compiler.versions).part("host", host.canonical());
        match &sysroot {
            Some(s) => key.part("sysroot", &s.digest),
            None => key,
        }
    };
    let at = place(Key::new("xen-build-tools").part("source", origin.place()));
    let mut key =
        place(Key::new("xen-tools-built").part("format", FORMAT).part("configure", CONFIGURE.join(" ")));
    if has != Some(true) {
        key = key.part("autoconf", host::autoconf()?);
    }
    for (at, patch) in patches.iter().enumerate() {
        key = key.part(&format!("patch-{at}"), hash_bytes(&patch.bytes));
    }
    let part = BuildTools { arch, compiler: &compiler, host: &host, sysroot: sysroot.as_ref() };
    let label = format!("{name} for {arch}");
    let content = |_: &dyn Part| origin.identity_of(&takes);
    let work = Work { name, origin, arch, store, part: &part, patches: &patches };
    let built = work.built(&at, key, &label, &content)?;
    Ok(built.entry.file("root").is_dir().then_some(built))
}

/// What a tree with tools has.
const HAS: &str = "tools/configure";
/// What autoconf makes it from, where a tree has only this: distributions delete what they make anew.
const MADE_FROM: &str = "tools/configure.ac";

struct BuildTools<'a> {
    arch: Arch,
    compiler: &'a Toolchain,
    host: &'a Host,
    sysroot: Option<&'a Sysroot>,
}

impl Part for BuildTools<'_> {
    fn noun(&self) -> &'static str {
        "the tools of "
    }

    fn takes(&self, path: &str) -> bool {
        takes(path)
    }

    fn over(&self) -> Changed {
        let mut over: Changed = [(KNOWN_BY.to_owned(), Some((Vec::new(), false)))].into();
        if self.sysroot.is_some() {
            // setup.py compiles for the Python that runs it.
            let nothing = b".PHONY: all build install clean distclean\nall build install clean distclean:\n";
            over.insert("tools/python/Makefile".to_owned(), Some((nothing.to_vec(), false)));
        }
        over
    }

    fn build(&self, run: &Runner<'_>, root: &Path, differs: &BTreeSet<String>) -> Result<(), XenError> {
        let src = run.src();
        let made = self.autoconf(run, differs)?;
        let Ok(configure) = std::fs::read_to_string(src.join(HAS)) else {
            // Of what is no folder this is known only now. Without `root/` there are none.
            return Ok(());
        };
        std::fs::create_dir_all(root).map_err(|e| io(run.name, "make", root, e))?;
        self.host.fits(&configure)?;
        for what in self.left_out() {
            run.store.note(format!("{}: its tools are built without {what}", run.name));
        }
        self.masquerade(run)?;
        let ran = self.configure(run, &configure, differs, made)?;
        run.say(if ran { "compiling" } else { "compiling what changed" });
        let mut args = self.compiler.make_args(self.arch);
        args.extend([
            "install-tools".to_owned(),
            format!("DESTDIR={}", root.display()),
            // Paths of this workspace say nothing to anybody.
            format!("EXTRA_CFLAGS_XEN_TOOLS=-ffile-prefix-map={}=/xen", src.display()),
            // Whatever a tree would still clone is not fetched behind anybody's back.
            "GIT=false".to_owned(),
        ]);
        let objects = run.run("make", &args, &src, &self.environment(run), Some("compiling"))?;
        run.count(objects)
    }

    fn record(&self, _: &Path) -> Record {
        Record { declared: None, left_out: self.left_out() }
    }
}

impl BuildTools<'_> {
    fn left_out(&self) -> Vec<String> {
        if self.sysroot.is_some() {
            return vec![
                "oxenstored, the OCaml and Python bindings and pygrub: they are not cross-compiled".into(),
            ];
        }
        match self.host.ocaml {
            true => Vec::new(),
            false => vec![format!(
                "oxenstored and the OCaml bindings: `ocamlfind` and `ocamlopt` are not both installed; {}",
                host::install(&["ocamlfind", "ocamlopt"])
            )],
        }
    }

    /// Makefiles here and there pass `CC=$(CC)` on without quotes, so `CC` must be one word: ccache under the compiler's name.
    fn masquerade(&self, run: &Runner<'_>) -> Result<(), XenError> {
        let Some(ccache) = &self.compiler.ccache else { return Ok(()) };
        let dir = run.space.path().join("ccache");
        std::fs::create_dir_all(&dir).map_err(|e| io(run.name, "make", &dir, e))?;
        let link = dir.join(self.compiler.program("gcc"));
        if std::fs::read_link(&link).ok().as_deref() != Some(ccache) {
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(ccache, &link).map_err(|e| io(run.name, "link", &link, e))?;
        }
        Ok(())
    }

    fn environment(&self, run: &Runner<'_>) -> Vec<(&'static str, OsString)> {
        let mut env = vec![(
            // https://reproducible-builds.org/specs/build-path-prefix-map/, which OCaml goes by.
            "BUILD_PATH_PREFIX_MAP",
            OsString::from(format!("/xen={}", run.src().display())),
        )];
        if self.compiler.ccache.is_some() {
            let old = std::env::var_os("PATH").unwrap_or_default();
            let all = std::iter::once(run.space.path().join("ccache")).chain(std::env::split_paths(&old));
            env.extend(std::env::join_paths(all).ok().map(|path| ("PATH", path)));
        }
        if let Some(sysroot) = self.sysroot {
            env.extend(sysroot.environment());
        }
        env
    }

    /// Makes configure where the tree has none, as its `autogen.sh` does (which wants folders that no tools are built from), and anew where
    /// anything that it was made from is not what it was; whether it did.
    fn autoconf(&self, run: &Runner<'_>, differs: &BTreeSet<String>) -> Result<bool, XenError> {
        let (src, memory) = (run.src(), run.space.path().join("autoconf"));
        let has = src.join(HAS).is_file();
        if has && differs.contains(HAS) {
            // The tree has come by one of its own.
            let _ = std::fs::remove_file(&memory);
        }
        let made = memory.is_file();
        if !src.join(MADE_FROM).is_file() || has && !(made && differs.iter().any(|p| of_autoconf(p))) {
            return Ok(false);
        }
        host::autoconf_is_there()?;
        run.say("making configure by autoconf");
        for (dir, program) in [(".", "autoconf"), ("tools", "autoconf"), ("tools", "autoheader")] {
            run.run(program, &["--force".to_owned()], &src.join(dir), &[], None)?;
        }
        std::fs::write(&memory, "").map_err(|e| io(run.name, "write", &memory, e))?;
        Ok(true)
    }

    /// Runs configure where anything that it goes by is not what it was; whether it did.
    fn configure(
        &self,
        run: &Runner<'_>,
        text: &str,
        differs: &BTreeSet<String>,
        made: bool,
    ) -> Result<bool, XenError> {
        let mut args: Vec<String> = CONFIGURE.iter().map(|a| (*a).to_owned()).collect();
        // SeaBIOS would be cloned only where this option is known and says so.
        if text.contains("--disable-seabios") {
            args.push("--disable-seabios".to_owned());
        }
        if !self.host.ocaml || self.sysroot.is_some() {
            args.push("--disable-ocamltools".to_owned());
        }
        if let Some(sysroot) = self.sysroot {
            args.push("--disable-pygrub".to_owned());
            args.push(format!("--host={}", self.compiler.prefix.trim_end_matches('-')));
            args.push(format!("--build={}-linux-gnu", std::env::consts::ARCH));
            args.extend(sysroot.configure());
        }
        let memory = run.space.path().join("configured");
        let said = args.join("\n");
        let of_configure = |p: &String| {
            p.ends_with("configure")
                || p.ends_with(".in")
                || p.ends_with("install.sh")
                || p.starts_with("config.")
        };
        let done = run.src().join("config/Tools.mk").is_file() && run.src().join("config/Paths.mk").is_file();
        let same = std::fs::read_to_string(&memory).is_ok_and(|was| was == said);
        if same && done && !made && !differs.iter().any(of_configure) {
            return Ok(false);
        }
        run.say("configuring");
        let mut words = vec!["./configure".to_owned()];
        words.extend(args);
        run.run("sh", &words, &run.src(), &self.environment(run), None)?;
        std::fs::write(&memory, said).map_err(|e| io(run.name, "write", &memory, e))?;
        Ok(true)
    }
}

/// What autoconf makes configure from: the version is in it.
fn of_autoconf(path: &str) -> bool {
    path.ends_with(".ac") || path.ends_with(".m4") || matches!(path, "version.sh" | "xen/Makefile")
}

/// What is missing on this host for building the tools for an architecture, beside what the hypervisor takes; for `doctor`.
///
/// # Errors
/// The compiler is missing or does not work.
pub(crate) fn missing(arch: Arch) -> Result<Vec<&'static str>, XenError> {
    let compiler = Toolchain::find(arch)?;
    host::missing(&compiler, arch)
}

/// Names what is missing, with the command that brings it.
fn lacking(names: &[&str]) -> XenError {
    make::lacking(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_in_the_hypervisor_is_none_in_the_tools() {
        for of_tools in [
            "tools/xl/xl.c",
            "tools/configure",
            "Config.mk",
            "config/StdGNU.mk",
            "configure",
            "install.sh",
            "xen/Makefile",
            "xen/include/public/sysctl.h",
            "xen/common/libelf/libelf-loader.c",
            "xen/arch/x86/x86_emulate/x86_emulate.c",
            "xen/include/xen/lib/x86/cpu-policy.h",
            "xen/xsm/flask/policy/access_vectors",
        ] {
            assert!(takes(of_tools), "{of_tools}");
        }
        for of_xen in [
            "xen/common/kernel.c",
            "xen/common/sched/core.c",
            "xen/arch/x86/setup.c",
            "xen/arch/arm/setup.c",
            "xen/include/xen/sched.h",
            "xen/arch/x86/include/asm/page.h",
            "xen/Kconfig",
            "docs/man/xl.1.pod.in",
            "stubdom/Makefile",
            "tools/qemu-xen/configure",
        ] {
            assert!(!takes(of_xen), "{of_xen}");
        }
    }
}
