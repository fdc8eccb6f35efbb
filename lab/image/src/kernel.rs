//! dom0's kernel, as QEMU and Xen take it fastest: `vmlinux` out of a bzImage on x86_64, a raw `Image` on AArch64.

use std::io::Read as _;
use xenlab_model::Arch;

/// What a kernel file was found to be, decoded.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The bytes to boot.
    pub(crate) image: Vec<u8>,
    /// `vmlinux`, `bzImage`, `Image`: what `image` is.
    pub(crate) kind: &'static str,
}

/// Why a kernel file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// For another architecture: this one.
    Arch(&'static str),
    /// Damaged or no kernel; why.
    Damaged(String),
}

fn u16_at(d: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(d.get(at..at + 2)?.try_into().ok()?))
}
fn u32_at(d: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(d.get(at..at + 4)?.try_into().ok()?))
}
fn u64_at(d: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(d.get(at..at + 8)?.try_into().ok()?))
}

/// Reads a stream to its end, as long as nobody asks for an end of everything: a kernel takes seconds where little is optimised.
fn drain(mut from: impl std::io::Read, out: &mut Vec<u8>) -> std::io::Result<usize> {
    loop {
        if xenlab_host::interrupt::requested() {
            return Err(std::io::Error::other("interrupted"));
        }
        if from.by_ref().take(1 << 20).read_to_end(out)? == 0 {
            return Ok(out.len());
        }
    }
}

/// Decompresses one stream of whatever kind its first bytes say; what follows it is ignored. `None`: not compressed.
pub(crate) fn decompress(d: &[u8]) -> Option<Result<Vec<u8>, String>> {
    let mut out = Vec::new();
    Some(if d.starts_with(&[0x1f, 0x8b]) {
        drain(flate2::read::GzDecoder::new(d), &mut out).map(|_| out).map_err(|e| format!("gzip: {e}"))
    } else if d.starts_with(b"\xfd7zXZ\0") {
        drain(liblzma::read::XzDecoder::new(d), &mut out).map(|_| out).map_err(|e| format!("xz: {e}"))
    } else if d.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        match ruzstd::decoding::StreamingDecoder::new(d) {
            Ok(r) => drain(r, &mut out).map(|_| out).map_err(|e| format!("zstd: {e}")),
            Err(e) => Err(format!("zstd: {e}")),
        }
    } else if d.starts_with(&[0x5d, 0, 0]) {
        let stream = liblzma::stream::Stream::new_lzma_decoder(u64::MAX).map_err(|e| e.to_string());
        match stream {
            Ok(s) => drain(liblzma::read::XzDecoder::new_stream(d, s), &mut out)
                .map(|_| out)
                .map_err(|e| format!("lzma: {e}")),
            Err(e) => Err(e),
        }
    } else {
        return None;
    })
}

/// Reads a kernel file for this architecture.
pub(crate) fn decode(d: Vec<u8>, arch: Arch) -> Result<Decoded, Bad> {
    if let Some(plain) = decompress(&d) {
        return decode(plain.map_err(Bad::Damaged)?, arch);
    }
    if d.starts_with(b"\x7fELF") {
        return elf(d, arch);
    }
    // Documentation/arch/x86/boot.rst: "HdrS" at 0x202.
    if d.get(0x202..0x206) == Some(b"HdrS") {
        if arch != Arch::X86_64 {
            return Err(Bad::Arch("x86_64"));
        }
        return bzimage(d);
    }
    // Documentation/arch/arm64/booting.rst: "ARM\x64" at 56.
    if d.get(56..60) == Some(b"ARM\x64") {
        if arch != Arch::Aarch64 {
            return Err(Bad::Arch("aarch64"));
        }
        return arm64(d);
    }
    // drivers/firmware/efi/libstub/zboot-header.S: "MZ", then "zimg" at 4, payload's offset at 8 and size at 12.
    if d.starts_with(b"MZ") && d.get(4..8) == Some(b"zimg") {
        let (at, size) = (u32_at(&d, 8).unwrap_or(0) as usize, u32_at(&d, 12).unwrap_or(0) as usize);
        let payload = at.checked_add(size).and_then(|end| d.get(at..end));
        let payload =
            payload.ok_or_else(|| Bad::Damaged("it ends before its compressed payload does".into()))?;
        let plain = decompress(payload)
            .ok_or_else(|| Bad::Damaged("its payload is compressed in a way that is not known here".into()))?
            .map_err(Bad::Damaged)?;
        return decode(plain, arch);
    }
    Err(Bad::Damaged("it is neither a bzImage, an ELF vmlinux nor an arm64 Image".into()))
}

fn elf(d: Vec<u8>, arch: Arch) -> Result<Decoded, Bad> {
    let machine = u16_at(&d, 18).ok_or_else(|| Bad::Damaged("its ELF header is cut".into()))?;
    match (machine, arch) {
        (62, Arch::X86_64) => {}
        (62, _) => return Err(Bad::Arch("x86_64")),
        (183, Arch::Aarch64) => {
            return Err(Bad::Damaged("an ELF vmlinux; on AArch64 Xen takes an Image".into()));
        }
        (183, _) => return Err(Bad::Arch("aarch64")),
        _ => return Err(Bad::Arch("another architecture")),
    }
    // Every segment must be there: a truncated vmlinux would be loaded and jump into nothing.
    let cut = || Bad::Damaged("it ends before its segments do".into());
    let (at, size, count) = (u64_at(&d, 32), u16_at(&d, 54), u16_at(&d, 56));
    let (Some(at), Some(size), Some(count)) = (at, size, count) else { return Err(cut()) };
    for i in 0..u64::from(count) {
        let header = usize::try_from(at + i * u64::from(size)).map_err(|_| cut())?;
        let (offset, length) =
            (u64_at(&d, header + 8).ok_or_else(cut)?, u64_at(&d, header + 32).ok_or_else(cut)?);
        if offset.checked_add(length).is_none_or(|end| end > d.len() as u64) {
            return Err(cut());
        }
    }
    Ok(Decoded { image: d, kind: "vmlinux" })
}

/// The payload is the compressed vmlinux: `payload_offset` (0x248) from the start of the protected-mode code, which
/// begins after `setup_sects` + 1 sectors, and `payload_length` (0x24c); boot protocol 2.08 and later.
fn bzimage(d: Vec<u8>) -> Result<Decoded, Bad> {
    let cut = || Bad::Damaged("it ends before its headers say".into());
    let protocol = u16_at(&d, 0x206).ok_or_else(cut)?;
    if protocol < 0x208 {
        return Ok(Decoded { image: d, kind: "bzImage" });
    }
    let sectors = match d[0x1f1] {
        0 => 4,
        n => usize::from(n),
    };
    let base = (sectors + 1) * 512;
    // `syssize` (0x1f4) counts the rest in 16 bytes; signatures may follow.
    let whole = base + u32_at(&d, 0x1f4).ok_or_else(cut)? as usize * 16;
    if d.len() < whole {
        return Err(Bad::Damaged(format!("it has {} bytes, its header says {whole}", d.len())));
    }
    let (at, size) =
        (u32_at(&d, 0x248).ok_or_else(cut)? as usize, u32_at(&d, 0x24c).ok_or_else(cut)? as usize);
    let payload = (base + at).checked_add(size).and_then(|end| d.get(base + at..end)).ok_or_else(cut)?;
    match decompress(payload) {
        Some(Ok(vmlinux)) if vmlinux.starts_with(b"\x7fELF") => elf(vmlinux, Arch::X86_64),
        Some(Ok(_)) => Err(Bad::Damaged("its payload is not an ELF file".into())),
        Some(Err(e)) => Err(Bad::Damaged(format!("its payload cannot be decompressed: {e}"))),
        // lz4, lzo, bzip2: Xen decompresses it itself, later.
        None => Ok(Decoded { image: d, kind: "bzImage" }),
    }
}

fn arm64(d: Vec<u8>) -> Result<Decoded, Bad> {
    // `image_size` at 16 includes BSS, so the file may be shorter; a PE header, where there is one, knows the file.
    let size = u64_at(&d, 16).unwrap_or(0);
    if size != 0 && (d.len() as u64) < size / 4 {
        return Err(Bad::Damaged(format!("it has {} bytes of an image of {size}", d.len())));
    }
    if d.starts_with(b"MZ") {
        let pe = u32_at(&d, 0x3c).unwrap_or(0) as usize;
        if d.get(pe..pe + 4) == Some(b"PE\0\0") {
            let (count, optional) = (u16_at(&d, pe + 6).unwrap_or(0), u16_at(&d, pe + 20).unwrap_or(0));
            for i in 0..usize::from(count) {
                let section = pe + 24 + usize::from(optional) + i * 40;
                let end = u32_at(&d, section + 16)
                    .zip(u32_at(&d, section + 20))
                    .map(|(size, at)| u64::from(size) + u64::from(at));
                if end.is_none_or(|end| end > d.len() as u64) {
                    return Err(Bad::Damaged("it ends before its sections do".into()));
                }
            }
        }
    }
    Ok(Decoded { image: d, kind: "Image" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gz(d: &[u8]) -> Vec<u8> {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        e.write_all(d).unwrap();
        e.finish().unwrap()
    }
    fn xz(d: &[u8]) -> Vec<u8> {
        let mut e = liblzma::write::XzEncoder::new(Vec::new(), 0);
        e.write_all(d).unwrap();
        e.finish().unwrap()
    }

    fn vmlinux() -> Vec<u8> {
        let mut d = vec![0; 200];
        d[..4].copy_from_slice(b"\x7fELF");
        d[18] = 62;
        d[32] = 64;
        d[54] = 56;
        d[56] = 1;
        d[64 + 8] = 120;
        d[64 + 32] = 80;
        d
    }

    fn bz(payload: &[u8]) -> Vec<u8> {
        let mut d = vec![0; 1024 + 32];
        d[0x1f1] = 1;
        d[0x202..0x206].copy_from_slice(b"HdrS");
        d[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        d[0x248..0x24c].copy_from_slice(&32u32.to_le_bytes());
        d[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        d.extend_from_slice(payload);
        d.resize(d.len().next_multiple_of(16), 0);
        let size = ((d.len() - 1024) / 16) as u32;
        d[0x1f4..0x1f8].copy_from_slice(&size.to_le_bytes());
        // A signature behind it.
        d.extend_from_slice(b"signature");
        d
    }

    fn image() -> Vec<u8> {
        let mut d = vec![0; 128];
        d[56..60].copy_from_slice(b"ARM\x64");
        d
    }

    fn zboot(payload: &[u8]) -> Vec<u8> {
        let mut d = vec![0; 64];
        d[..2].copy_from_slice(b"MZ");
        d[4..8].copy_from_slice(b"zimg");
        d[8..12].copy_from_slice(&64u32.to_le_bytes());
        d[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        d.extend_from_slice(payload);
        d
    }

    #[test]
    fn kernels_are_decoded() {
        for payload in [gz(&vmlinux()), xz(&vmlinux())] {
            let got = decode(bz(&payload), Arch::X86_64).unwrap();
            assert_eq!((got.kind, got.image), ("vmlinux", vmlinux()));
        }
        assert_eq!(decode(bz(b"\x02\x21\x4c\x18lz4 stays"), Arch::X86_64).unwrap().kind, "bzImage");
        for d in [image(), gz(&image()), zboot(&gz(&image()))] {
            assert_eq!(decode(d, Arch::Aarch64).unwrap().image, image());
        }
    }

    #[test]
    fn wrong_and_damaged_kernels_are_told() {
        let arch = |r: Result<Decoded, Bad>| matches!(r, Err(Bad::Arch(_)));
        assert!(arch(decode(bz(&gz(&vmlinux())), Arch::Aarch64)));
        assert!(arch(decode(image(), Arch::X86_64)));
        assert!(arch(decode(vmlinux(), Arch::Aarch64)));
        let damaged = |r: Result<Decoded, Bad>| matches!(r, Err(Bad::Damaged(_)));
        let whole = bz(&gz(&vmlinux()));
        for n in [0, 10, 0x203, 0x240, 1050, whole.len() - 40] {
            assert!(damaged(decode(whole[..n].to_vec(), Arch::X86_64)), "{n}");
        }
        assert!(damaged(decode(vmlinux()[..150].to_vec(), Arch::X86_64)));
        assert!(damaged(decode(zboot(&gz(&image()))[..80].to_vec(), Arch::Aarch64)));
        assert!(damaged(decode(b"hello".to_vec(), Arch::X86_64)));
    }
}
