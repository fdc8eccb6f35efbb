//! Reading a hypervisor image: what it is, for which machine, which version and build, and whether it is whole.
//!
//! A damaged image is data, not an error: the case that boots it fails with the cause found here.

use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;
use xenlab_model::arch::Arch;
use xenlab_model::cause::Cause;

mod accessors;
mod arm64;
pub(crate) mod elf;
pub(crate) mod note;
mod options;
mod pe;
mod strings;

pub use accessors::CompileInfo;
pub(crate) use elf::machine;
pub(crate) use options::options;
pub use pe::{Pe, PeSection};

/// Raised whenever reading changes, so that facts cached by an older xenlab are read again.
pub const FORMAT: u32 = 4;

/// The most bytes that a compressed image may unpack to: Xen's are a few MiB, xen-syms with debug information some tens.
const UNPACKED_LIMIT: u64 = 512 << 20;

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// ELF32, what x86's multiboot loaders and QEMU's `-kernel` take.
    Elf32,
    /// ELF64: `xen-syms`, for debuggers.
    Elf64,
    /// The Linux arm64 `Image` format, magic `ARM\x64` at offset 56; with EFI support a PE as well.
    Arm64Image,
    /// A PE for EFI firmware.
    Pe,
    /// None of those.
    Other,
}

impl ImageKind {
    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            ImageKind::Elf32 => "elf32",
            ImageKind::Elf64 => "elf64",
            ImageKind::Arm64Image => "arm64-image",
            ImageKind::Pe => "pe",
            ImageKind::Other => "other",
        }
    }
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The stable code.
    pub cause: Cause,
    /// What was found, in one sentence with the numbers.
    pub text: String,
}

impl Damage {
    pub(crate) fn truncated(text: impl Into<String>) -> Damage {
        Damage { cause: Cause::ImageTruncated, text: text.into() }
    }
    pub(crate) fn invalid(text: impl Into<String>) -> Damage {
        Damage { cause: Cause::ImageInvalid, text: text.into() }
    }
}

/// Where in an image a version was read. In order of what it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionSource {
    /// The code of `xen_major_version()`, `xen_minor_version()` and `xen_extra_version()`: what the hypercall behind `xl info` answers.
    Code,
    /// The EFI loader's UTF-16 greeting, `Xen 4.17.5 (c/s ) EFI loader`.
    EfiLoader,
    /// The device tree's `xen,xen-4.17` on Arm: major and minor only.
    DeviceTree,
}

impl VersionSource {
    /// As reports name it.
    pub fn describe(self) -> &'static str {
        match self {
            VersionSource::Code => "the code that answers xen_version",
            VersionSource::EfiLoader => "the EFI loader's greeting",
            VersionSource::DeviceTree => "the device tree's compatible string (major.minor only)",
        }
    }
}

/// A version found in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedVersion {
    /// `4.20.4-pre`, as `xl info` would say it.
    pub version: String,
    /// Where it was read.
    pub from: VersionSource,
}

/// Everything read off one hypervisor image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// What it is, once unpacked.
    pub kind: ImageKind,
    /// It is gzip-compressed around that.
    pub gzip: bool,
    /// Bytes of the file as it is.
    pub size: u64,
    /// The architecture, when it is one that Xen is tested on.
    pub arch: Option<Arch>,
    /// The machine as the file's header names it: `EM_386`, `IMAGE_FILE_MACHINE_ARM64`, …
    pub machine: String,
    /// Build-id in lower-case hexadecimal. Of a PE for x86 that is the signature of its CodeView record: what Xen itself reports
    /// when firmware booted it (xen/common/version.c, `xen_build_init`).
    pub build_id: Option<String>,
    /// Every version it carries, the one that counts first.
    pub versions: Vec<CarriedVersion>,
    /// Compiler, builder, changeset.
    pub compile: CompileInfo,
    /// The PE headers, of an EFI image and of an arm64 one with EFI support.
    pub pe: Option<Pe>,
    /// What is wrong with it.
    pub damage: Option<Damage>,
}

impl Image {
    /// The version it carries, as `xl info` would say it; none when there is only a major.minor.
    pub fn version(&self) -> Option<&str> {
        self.versions.iter().find(|v| v.from != VersionSource::DeviceTree).map(|v| v.version.as_str())
    }

    /// major.minor.
    pub fn branch(&self) -> Option<String> {
        let v = &self.versions.first()?.version;
        v.parse::<xenlab_model::version::XenVersion>().ok().map(|v| v.branch())
    }

    /// Kind as `boot-files` and `inspect` show it: `gzip(elf32)`.
    pub fn kind_name(&self) -> String {
        if self.gzip { format!("gzip({})", self.kind.name()) } else { self.kind.name().to_owned() }
    }
}

/// Reads an image. `data` is the file; the second value is what it unpacks to, for a compressed one.
pub fn read(data: &[u8]) -> (Image, Option<Vec<u8>>) {
    if !data.starts_with(&[0x1f, 0x8b]) {
        return (read_plain(data), None);
    }
    let (unpacked, damage) = gunzip(data);
    let mut image = read_plain(&unpacked);
    image.gzip = true;
    image.size = data.len() as u64;
    // What the compression says comes first: the rest follows from it.
    if let Some(damage) = damage {
        image.damage = Some(damage);
    }
    (image, Some(unpacked))
}

/// Reads the image in a file; errors are the file system's.
pub fn read_file(path: &Path) -> std::io::Result<(Image, Option<Vec<u8>>)> {
    Ok(read(&std::fs::read(path)?))
}

/// Everything that could be unpacked, and what was wrong.
fn gunzip(data: &[u8]) -> (Vec<u8>, Option<Damage>) {
    let mut out = Vec::with_capacity(data.len().saturating_mul(3).min(64 << 20));
    let mut reader = flate2::read::GzDecoder::new(data).take(UNPACKED_LIMIT);
    let damage = match reader.read_to_end(&mut out) {
        Ok(_) if out.len() as u64 == UNPACKED_LIMIT => {
            Some(Damage::invalid(format!("unpacks to more than {} MiB", UNPACKED_LIMIT >> 20)))
        }
        Ok(_) => None,
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Some(Damage::truncated(format!(
            "the gzip stream ends after {} bytes without its end mark; {} bytes could be unpacked",
            data.len(),
            out.len()
        ))),
        Err(e) => Some(Damage::invalid(format!(
            "the gzip stream is corrupt ({e}); {} bytes could be unpacked",
            out.len()
        ))),
    };
    (out, damage)
}

fn read_plain(data: &[u8]) -> Image {
    let mut image = Image {
        kind: ImageKind::Other,
        gzip: false,
        size: data.len() as u64,
        arch: None,
        machine: "unknown".into(),
        build_id: None,
        versions: Vec::new(),
        compile: CompileInfo::default(),
        pe: None,
        damage: None,
    };
    let map = if data.is_empty() {
        image.damage = Some(Damage::truncated("the file is empty"));
        return image;
    } else if data.starts_with(b"\x7fELF") {
        elf::read(data, &mut image)
    } else if arm64::is_image(data) {
        arm64::read(data, &mut image)
    } else if data.starts_with(b"MZ") {
        pe::read_image(data, &mut image)
    } else {
        let start: String = data.iter().take(8).map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
        image.damage = Some(Damage::invalid(format!(
            "neither an ELF, a PE, an arm64 Image nor a gzip of one; it starts with {start}"
        )));
        return image;
    };
    if let Some(found) = accessors::find(data, &map, image.arch) {
        image.versions.push(CarriedVersion { version: found.version, from: VersionSource::Code });
        image.compile = found.compile;
    }
    // Debug information is tens of MiB and carries nothing of this.
    let body = data.get(..map.loaded_end(data.len())).unwrap_or(data);
    if let Some((version, changeset)) = strings::efi_loader(body) {
        image.versions.push(CarriedVersion { version, from: VersionSource::EfiLoader });
        image.compile.changeset = image.compile.changeset.take().or(changeset);
    }
    if image.versions.is_empty()
        && let Some(version) = strings::device_tree(body)
    {
        image.versions.push(CarriedVersion { version, from: VersionSource::DeviceTree });
    }
    if image.compile.compiler.is_none() {
        image.compile.compiler = strings::compiler(body);
    }
    image.compile.debug = strings::debug(body);
    // Whatever else a file may be, Xen's console prefix is in every Xen.
    if image.damage.is_none() && image.versions.is_empty() && !strings::contains(body, b"(XEN) ") {
        image.damage =
            Some(Damage::invalid(format!("a file of kind {}, but there is no Xen in it", image.kind.name())));
    }
    image
}

/// Where a file's bytes lie in memory, to follow an address from one to the other.
#[derive(Debug, Default)]
pub(crate) struct Map {
    /// (address, file offset, bytes), of what is in the file and loaded.
    pub(crate) ranges: Vec<(u64, usize, usize)>,
}

impl Map {
    /// One to one, for a flat image.
    fn flat(len: usize) -> Map {
        Map { ranges: vec![(0, 0, len)] }
    }
    fn offset(&self, address: u64) -> Option<usize> {
        self.ranges.iter().find_map(|&(at, offset, len)| {
            let delta = address.checked_sub(at)?;
            (delta < len as u64).then(|| offset + delta as usize)
        })
    }
    /// Where the loaded part of the file ends.
    fn loaded_end(&self, len: usize) -> usize {
        self.ranges.iter().map(|&(_, offset, n)| offset.saturating_add(n)).max().unwrap_or(len).min(len)
    }
}

#[cfg(test)]
pub(crate) mod made;
#[cfg(test)]
mod tests;
