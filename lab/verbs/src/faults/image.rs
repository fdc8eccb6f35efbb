//! A hypervisor's image, broken: the bytes of a real one with a few of them changed.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;
use xenlab_model::Arch;
use xenlab_xen::image::{self, VersionSource};

/// How an image is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// Its end is missing.
    Cut(Cut),
    /// What it unpacks to, without its end; of an image that is not packed the same as `Cut`.
    CutUnpacked(Cut),
    /// It is the other architecture's.
    OtherArchitecture,
    /// An instruction of its start-up is one that no processor has.
    Undefined,
    /// The first instruction of an EFI image is one that no processor has.
    Entry,
    /// Its EFI loader looks into its configuration for something else than dom0's kernel. x86 only: on Arm the loader goes on without one,
    /// and the Xen that it starts panics for that.
    OtherKey,
    /// It has no multiboot2 header.
    NoMultiboot,
    /// An instruction of its start-up reads where nothing is mapped.
    Fault,
    /// It says another version of itself than it was built as, in all its places.
    OtherVersion,
    /// It has another build-id than it was built with.
    OtherBuildId,
    /// Nothing: what it unpacks to.
    Unpacked,
    /// Nothing: the same bytes in a file of their own.
    Copied,
}

/// How much is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The second half.
    Half,
    /// The last byte.
    LastByte,
    /// All but the first so many bytes.
    After(usize),
}

impl Cut {
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        let keep = match self {
            Cut::Half => bytes.len() / 2,
            Cut::LastByte => bytes.len().saturating_sub(1),
            Cut::After(n) => n.min(bytes.len()),
        };
        &bytes[..keep]
    }
}

/// Words of Xen's start-up: printed once its traps are set up and its console is there, and before dom0 is built.
/// (xen/common/page_alloc.c, xen/arch/x86/setup.c, xen/arch/arm/setup.c and smpboot.c)
const WORDS: &[&str] =
    &["Brought up %ld CPUs", "Brought up %u CPUs", "Brought up %ld CPU%s", "Brought up %u CPU%s"];

/// The image, broken; `other` reads the other architecture's.
pub(super) fn broken(
    how: Break,
    arch: Arch,
    bytes: &[u8],
    other: impl FnOnce() -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>, String> {
    match how {
        Break::Cut(cut) => Ok(cut.of(bytes).to_vec()),
        Break::CutUnpacked(cut) => Ok(cut.of(&unpacked(bytes)).to_vec()),
        Break::OtherArchitecture => other(),
        Break::Unpacked => Ok(unpacked(bytes)),
        Break::Copied => Ok(bytes.to_vec()),
        Break::Undefined => inside(bytes, |b| instead(arch, b, undefined(arch))),
        Break::Fault => inside(bytes, |b| instead(arch, b, stray_read(arch))),
        Break::Entry => inside(bytes, |b| entry(arch, b)),
        Break::OtherKey => inside(bytes, |b| replaced(b, b"global\0kernel\0", b"global\0kernex\0")),
        Break::NoMultiboot => inside(bytes, |b| replaced(b, &MULTIBOOT2.to_le_bytes(), &[0; 4])),
        Break::OtherVersion => inside(bytes, |b| other_version(b)),
        Break::OtherBuildId => inside(bytes, |b| other_build_id(b)),
    }
}

/// The magic number of a header (The Multiboot2 Specification, 3.1.2).
const MULTIBOOT2: u32 = 0xe852_50d6;

/// Bytes that are there, changed wherever they are.
fn replaced(bytes: &mut [u8], old: &[u8], new: &[u8]) -> Result<(), String> {
    let found = all(bytes, old);
    if found.is_empty() {
        return Err(format!("{} is not in this image", old.escape_ascii()));
    }
    for at in found {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    Ok(())
}

/// An undefined instruction where a PE image begins (PE Format: the optional header's AddressOfEntryPoint, in a section).
fn entry(arch: Arch, bytes: &mut [u8]) -> Result<(), String> {
    let u16_at = |at: usize| bytes.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let u32_at =
        |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let found = || {
        let pe = u32_at(0x3c)?;
        let (sections, optional) = (u16_at(pe + 6)?, u16_at(pe + 20)?);
        let entry = u32_at(pe + 24 + 16)?;
        (0..sections).find_map(|n| {
            let section = pe + 24 + optional + 40 * n;
            let (address, size, offset) =
                (u32_at(section + 12)?, u32_at(section + 16)?, u32_at(section + 20)?);
            (address..address + size).contains(&entry).then(|| offset + entry - address)
        })
    };
    let at = found().ok_or("this is no PE image with an entry point")?;
    let trap = undefined(arch);
    bytes.get_mut(at..at + trap.len()).ok_or("its entry point is not in the file")?.copy_from_slice(trap);
    Ok(())
}

/// What a packed image unpacks to; one that is not packed is itself.
pub(super) fn unpacked(bytes: &[u8]) -> Vec<u8> {
    image::read(bytes).1.unwrap_or_else(|| bytes.to_vec())
}

/// Changes what is packed and packs it again.
fn inside(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>) -> Result<(), String>) -> Result<Vec<u8>, String> {
    let packed = bytes.starts_with(&[0x1f, 0x8b]);
    let mut plain = unpacked(bytes);
    change(&mut plain)?;
    if !packed {
        return Ok(plain);
    }
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(&plain).and_then(|()| gz.finish()).map_err(|e| e.to_string())
}

fn all(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    if wanted.is_empty() {
        return Vec::new();
    }
    memchr::memmem::find_iter(bytes, wanted).collect()
}

/// An instruction that no processor has.
fn undefined(arch: Arch) -> &'static [u8] {
    match arch {
        // ud2; udf #0.
        Arch::X86_64 => &[0x0f, 0x0b],
        Arch::Aarch64 => &[0, 0, 0, 0],
    }
}

/// A read of an address of which nothing is mapped in a hypervisor that starts: -4096 is in the range that x86 leaves to guests' kernels, and
/// of which AArch64's EL2 has none.
fn stray_read(arch: Arch) -> &'static [u8] {
    match arch {
        // mov 0xfffffffffffff000,%rax (sign-extended from 32 bits).
        Arch::X86_64 => &[0x48, 0x8b, 0x04, 0x25, 0x00, 0xf0, 0xff, 0xff],
        // mov x0, #-4096; ldr x0, [x0].
        Arch::Aarch64 => &[0xe0, 0xff, 0x81, 0x92, 0x00, 0x00, 0x40, 0xf9],
    }
}

/// Puts instructions where the address of a string is computed that Xen prints while it starts.
fn instead(arch: Arch, bytes: &mut [u8], trap: &[u8]) -> Result<(), String> {
    for words in WORDS {
        for at in all(bytes, words.as_bytes()) {
            // The string begins after the end of the one before; its log level comes first.
            let begin = bytes[..at].iter().rposition(|b| *b == 0).map_or(0, |n| n + 1);
            let code = match arch {
                Arch::X86_64 => lea(bytes, begin),
                Arch::Aarch64 => adrp_add(bytes, begin),
            };
            if let Some(code) = code {
                let Some(place) = bytes.get_mut(code..code + trap.len()) else { continue };
                place.copy_from_slice(trap);
                return Ok(());
            }
        }
    }
    Err(format!("no code of this image uses any of: {}", WORDS.join(", ")))
}

/// `lea REG, [rip + N]` whose address is the string's: text and data are loaded as one piece, so differences of offsets in the
/// file are differences of addresses.
fn lea(bytes: &[u8], string: usize) -> Option<usize> {
    (0..bytes.len().saturating_sub(7)).find(|&at| {
        let [rex, opcode, modrm] = [bytes[at], bytes[at + 1], bytes[at + 2]];
        (rex == 0x48 || rex == 0x4c) && opcode == 0x8d && modrm & 0xc7 == 0x05 && {
            let n = i32::from_le_bytes([bytes[at + 3], bytes[at + 4], bytes[at + 5], bytes[at + 6]]);
            (at as i64 + 7 + i64::from(n)) == string as i64
        }
    })
}

/// `adrp REG, PAGE` followed, not far behind, by `add REG, REG, #REST`: the image is loaded at a page's begin.
fn adrp_add(bytes: &[u8], string: usize) -> Option<usize> {
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    (0..bytes.len().saturating_sub(4)).step_by(4).find(|&at| {
        let Some(adrp) = word(at).filter(|w| w & 0x9f00_0000 == 0x9000_0000) else { return false };
        let immediate = ((adrp >> 5 & 0x7_ffff) << 2 | adrp >> 29 & 3) as i32;
        // 21 bits, signed.
        let pages = i64::from(immediate << 11 >> 11);
        let page = (at as i64 & !0xfff) + (pages << 12);
        if page != (string as i64 & !0xfff) {
            return false;
        }
        let register = adrp & 31;
        (1..8).filter_map(|n| word(at + 4 * n)).any(|add| {
            add & 0xffc0_0000 == 0x9100_0000
                && add >> 5 & 31 == register
                && (add >> 10 & 0xfff) as usize == string & 0xfff
        })
    })
}

/// The version with its last digit one on.
fn next(version: &str) -> Option<String> {
    let at = version.rfind(|c: char| c.is_ascii_digit())?;
    let digit = char::from((version.as_bytes()[at] - b'0' + 1) % 10 + b'0');
    Some(format!("{}{digit}{}", &version[..at], &version[at + 1..]))
}

/// Another digit in the text that `xen_version` answers with and in the EFI loader's greeting: both, so that what the image
/// carries and what it will say agree with each other.
fn other_version(bytes: &mut [u8]) -> Result<(), String> {
    let read = |bytes: &[u8]| {
        let (image, _) = image::read(bytes);
        image.versions.into_iter().find(|v| v.from == VersionSource::Code).map(|v| v.version)
    };
    let whole = read(bytes).ok_or("the version that this image answers with is not known")?;
    let new = next(&whole).ok_or("the version has no digit")?;
    // Major and minor are numbers in the code; the rest is text.
    let extra = whole.match_indices('.').nth(1).map(|(at, _)| at).ok_or("the version has two parts only")?;
    let text = |version: &str| [b"\0", &version.as_bytes()[extra..], b"\0"].concat();
    let (old_text, new_text) = (text(&whole), text(&new));
    let mut done = false;
    for at in all(bytes, &old_text) {
        bytes[at..at + new_text.len()].copy_from_slice(&new_text);
        if read(bytes).as_deref() == Some(new.as_str()) {
            done = true;
            break;
        }
        // Somebody else's text.
        bytes[at..at + old_text.len()].copy_from_slice(&old_text);
    }
    if !done {
        return Err(format!("the text of {whole} was not found"));
    }
    let wide = |version: &str| {
        format!("Xen {version} ").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()
    };
    let (old, new) = (wide(&whole), wide(&new));
    for at in all(bytes, &old) {
        bytes[at..at + new.len()].copy_from_slice(&new);
    }
    Ok(())
}

/// Another bit in the note that names the build.
fn other_build_id(bytes: &mut [u8]) -> Result<(), String> {
    let id = image::read(bytes).0.build_id.ok_or("the image has no build-id")?;
    let id: Vec<u8> =
        (0..id.len() / 2).filter_map(|n| u8::from_str_radix(id.get(2 * n..2 * n + 2)?, 16).ok()).collect();
    let found = all(bytes, &id);
    if found.is_empty() {
        return Err("the build-id is not in the image as bytes".to_owned());
    }
    for at in found {
        bytes[at] ^= 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_digit_on() {
        for (old, new) in [("4.17.7", "4.17.8"), ("4.20.5-pre", "4.20.6-pre"), ("4.17.9", "4.17.0")] {
            assert_eq!(next(old).as_deref(), Some(new));
        }
        assert_eq!(next("unstable"), None);
    }

    #[test]
    fn code_that_uses_a_string_is_found() {
        let mut x86 = vec![0x90; 64];
        // lea 0x15(%rip),%rdi at 10: 10 + 7 + 0x17 = 40.
        x86[10..17].copy_from_slice(&[0x48, 0x8d, 0x3d, 0x17, 0, 0, 0]);
        assert_eq!(lea(&x86, 40), Some(10));
        assert_eq!(lea(&x86, 41), None);
        let mut arm = vec![0; 0x3000];
        // adrp x0, +2 pages at 0x10; add x0, x0, #0x123 at 0x18.
        arm[0x10..0x14].copy_from_slice(&(0x9000_0000u32 | (2 & 3) << 29).to_le_bytes());
        arm[0x18..0x1c].copy_from_slice(&(0x9100_0000u32 | 0x123 << 10).to_le_bytes());
        assert_eq!(adrp_add(&arm, 0x2123), Some(0x10));
        assert_eq!(adrp_add(&arm, 0x2124), None);
    }

    #[test]
    fn cuts() {
        assert_eq!(Cut::Half.of(b"abcd"), b"ab");
        assert_eq!(Cut::LastByte.of(b"abcd"), b"abc");
        assert_eq!(Cut::After(9).of(b"abcd"), b"abcd");
        assert_eq!(Cut::LastByte.of(b""), b"");
    }
}
