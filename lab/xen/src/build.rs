//! What a Xen build is, whichever provider it came from.

use crate::image::{Damage, Image};
use crate::kconfig::Kconfig;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use xenlab_model::arch::Arch;
use xenlab_model::spec::{Subject, XenSpec};
use xenlab_model::step::boot_files::BootFile;

/// A Xen build: hypervisor, and as far as it has them tools, development files and boot files. Every part says in `from` which
/// specification it came from.
#[derive(Debug, Clone, Serialize)]
pub struct XenBuild {
    /// As it was named.
    pub subject: Subject,
    /// What it is wanted for.
    pub arch: Arch,
    /// The hypervisor.
    pub hypervisor: Hypervisor,
    /// What runs in dom0.
    pub tools: Option<Tools>,
    /// Whose the tools are where the build has none and nobody named any: no part of what is under test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrowed: Option<XenSpec>,
    /// What its source has and could not be built here, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Headers, libraries to link with, pkg-config modules.
    pub development: Option<Development>,
    /// What lies in `boot/`.
    pub boot: BootFiles,
    /// Which version the build is declared to be.
    pub declared: Option<Declared>,
    /// The system that it came in: then dom0 is that, as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<System>,
}

/// A NixOS system: what is booted of it, and what its disk must have. Paths are as the system itself names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct System {
    /// Its path in the store.
    pub toplevel: PathBuf,
    /// What every path is below on this machine.
    pub root: PathBuf,
    /// The store's folder.
    pub store: PathBuf,
    /// What it calls itself: `NixOS 25.05…`.
    pub label: String,
    /// dom0's kernel.
    pub kernel: PathBuf,
    /// dom0's initrd.
    pub initrd: PathBuf,
    /// What the initrd hands over to.
    pub init: PathBuf,
    /// The kernel's command line, but for `init=`.
    pub kernel_params: Vec<String>,
    /// Xen's command line.
    pub xen_params: Vec<String>,
    /// Everything that it needs, itself included: store paths.
    pub closure: Vec<PathBuf>,
    /// The file system that it wants to find its root on.
    pub disk: RootDisk,
    /// It has the lab's module (`nix/nixos.nix`), so that there is a way in and dom0 says that it is ready.
    pub module: bool,
}

impl System {
    /// Where a path of the system is on this machine.
    pub fn physical(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// By what a system finds its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RootDisk {
    /// The file system's label.
    pub label: Option<String>,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its type: one of ext2, ext3, ext4.
    pub fs: String,
}

/// The hypervisor.
#[derive(Debug, Clone, Serialize)]
pub struct Hypervisor {
    /// The specification it came from.
    pub from: String,
    /// The file as the build has it.
    pub original: PathBuf,
    /// What QEMU's `-kernel` takes: the ELF32 out of a `.gz`, or the arm64 Image; none for an image that only firmware can boot.
    pub image: Option<PathBuf>,
    /// SHA-256 of [`image`](Self::image).
    pub image_digest: Option<String>,
    /// Why there is no [`image`](Self::image).
    pub no_image: Option<String>,
    /// SHA-256 of [`original`](Self::original).
    pub digest: String,
    /// Everything read off it.
    pub facts: Image,
    /// What is wrong with it, the wrong architecture included: the case that boots it fails with this cause.
    pub damage: Option<Damage>,
    /// The image for EFI firmware; of a build for arm64 often the same bytes.
    pub efi: Option<EfiImage>,
    /// Its configuration.
    pub config: Option<Kconfig>,
    /// The package's version, of a distribution's.
    pub package_version: Option<String>,
}

impl Hypervisor {
    /// Lower-case hexadecimal; what `xl info` says when the direct image runs.
    pub fn build_id(&self) -> Option<&str> {
        self.facts.build_id.as_deref()
    }
    /// The version it carries.
    pub fn version(&self) -> Option<&str> {
        self.facts.version()
    }
    /// major.minor.
    pub fn branch(&self) -> Option<String> {
        self.facts.branch()
    }
    /// Hashes the files that a machine is given, whatever their stamps say: done before a Fail is blamed on Xen. The inner error
    /// names the file that is not what it was when the case was planned.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn verify(&self) -> Result<Result<(), PathBuf>, xenlab_store::StoreError> {
        let direct = self.image.as_ref().zip(self.image_digest.as_ref());
        let efi = self.efi.as_ref().map(|e| (&e.path, &e.digest));
        for (path, digest) in direct.into_iter().chain(efi).chain([(&self.original, &self.digest)]) {
            if xenlab_store::hash_file(path)? != *digest {
                return Ok(Err(path.clone()));
            }
        }
        Ok(Ok(()))
    }
    /// The compiler's own line.
    pub fn compiler(&self) -> Option<&str> {
        self.facts.compile.compiler.as_deref()
    }
}

/// An image for EFI firmware.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EfiImage {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256.
    pub digest: String,
    /// What was read off it. Its build-id is what `xl info` says when firmware booted it: on x86 another than the direct image's.
    pub facts: Image,
    /// What is wrong with it, the wrong architecture included.
    pub damage: Option<Damage>,
}

/// What runs in dom0: a tree that lies there at `mount`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tools {
    /// The specification it came from.
    pub from: String,
    /// The folder on this machine.
    pub root: PathBuf,
    /// Where that folder lies in dom0: `/` for a DESTDIR and for packages, its own path for a prefix.
    pub mount: PathBuf,
    /// Changes when any file of [`files`](Self::files) does.
    pub key: String,
    /// What dom0 gets, relative to [`root`](Self::root): everything but documentation, manual pages, headers, static and
    /// debugging libraries, and what is for the boot loader. Folders are implied.
    pub files: Vec<PathBuf>,
    /// Folders without a file that dom0 gets too (`var/lib/xen`), relative to [`root`](Self::root).
    pub empty_dirs: Vec<PathBuf>,
    /// major.minor, from libxenctrl's soname.
    pub branch: Option<String>,
    /// Folders of programs, as dom0 sees them; the real ones before those of wrappers.
    pub bin_dirs: Vec<PathBuf>,
    /// Folders of Xen's libraries, as dom0 sees them.
    pub lib_dirs: Vec<PathBuf>,
    /// Store daemons it has: `xenstored`, `oxenstored`.
    pub daemons: BTreeSet<String>,
    /// Where in dom0 the programs are that the lab asks for by name; the program itself, where a wrapper stands before it.
    pub programs: BTreeMap<String, PathBuf>,
    /// Programs that are reached through a wrapper, and the wrapper: Debian's picks by the *running* major.minor, so mixed tools
    /// look right through it.
    pub wrappers: BTreeMap<String, PathBuf>,
    /// Sonames that its programs and libraries need and the build itself does not have: dom0's userland must.
    pub needs: Vec<String>,
    /// The device model of HVM guests that its libxl starts.
    #[serde(default)]
    pub device_model: Option<DeviceModel>,
    /// The dynamic loader its programs name.
    pub interpreter: Option<PathBuf>,
    /// What is wrong: programs for another machine.
    pub damage: Option<Damage>,
}

/// The device model of HVM guests, as libxl knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceModel {
    /// The path compiled into libxl (`QEMU_XEN_PATH` in upstream's tools/configure.ac), as dom0 sees it.
    pub path: PathBuf,
    /// The build has it there.
    pub own: bool,
}

impl Tools {
    /// A path of the tree as dom0 sees it.
    pub fn in_dom0(&self, relative: &Path) -> PathBuf {
        self.mount.join(relative)
    }
}

/// Headers, libraries to link with, pkg-config modules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Development {
    /// The specification it came from.
    pub from: String,
    /// The folder on this machine.
    pub root: PathBuf,
    /// Where the files say they are installed: what is prefixed to `root` when `.pc` files are read.
    pub mount: PathBuf,
    /// Folders of `.pc` files, relative to the root.
    pub pc_dirs: Vec<PathBuf>,
    /// Module → its `.pc` file, relative to the root.
    pub modules: BTreeMap<String, PathBuf>,
    /// Folders of headers, relative to the root.
    pub include_dirs: Vec<PathBuf>,
}

/// What lies in `boot/` and where EFI images are installed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BootFiles {
    /// Why there is no such folder.
    pub absent: Option<String>,
    /// `upstream`, `debian` or `bare`.
    pub layout: String,
    /// Every file and link of Xen's.
    pub files: Vec<BootFile>,
}

/// Which version a build is declared to be, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// As `xl info`'s xen_version must say it.
    pub version: String,
    /// `--expect-version`, `xen/Makefile`, …
    pub by: String,
}
