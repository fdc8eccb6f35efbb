//! A unified EFI image: Xen's, with its configuration, dom0's kernel and the initramfs as sections of it, which Xen finds by their names
//! (Xen, docs/misc/efi.pandoc and xen/common/efi/pe.c; PE Format, Microsoft).
//!
//! Sections are added as binutils' objcopy adds them: their headers behind the others, for which the headers may have to grow, and so
//! what lies behind them in the file moves.

use super::BootFiles;
use super::disk::Piece;
use super::efi::config;
use crate::ImageError;
use std::path::Path;

/// Why an image cannot be made a unified one: nothing is wrong with it otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Size of a section's header, and of the pieces of the headers before it.
const HEADER: usize = 40;
const COFF: usize = 24;
/// Read only, initialised data.
const FLAGS: u32 = 0x4000_0040;

/// Offsets in the optional header of a PE32+.
mod optional {
    pub(super) const SECTION_ALIGNMENT: usize = 32;
    pub(super) const FILE_ALIGNMENT: usize = 36;
    pub(super) const IMAGE_SIZE: usize = 56;
    pub(super) const HEADERS_SIZE: usize = 60;
    pub(super) const CHECKSUM: usize = 64;
    pub(super) const DIRECTORIES: usize = 108;
    /// The entry for signatures, the only one that is an offset in the file; that for debugging leads to one.
    pub(super) const SIGNATURES: usize = 112 + 4 * 8;
    pub(super) const DEBUG: usize = 112 + 6 * 8;
}

/// A section to be added.
struct Section<'a> {
    name: &'static str,
    content: Piece<'a>,
    bytes: u64,
}

/// The image, in pieces.
pub(super) fn image<'a>(files: &BootFiles<'a>) -> Result<Vec<Piece<'a>>, ImageError> {
    let xen = std::fs::read(files.xen).map_err(|e| ImageError::io("read", files.xen, e))?;
    let size = |path: &Path| {
        Ok::<_, ImageError>(std::fs::metadata(path).map_err(|e| ImageError::io("read", path, e))?.len())
    };
    let text = config(files).into_bytes();
    let mut sections =
        vec![Section { name: ".config", bytes: text.len() as u64, content: Piece::Bytes(text) }];
    let named = [Some((".kernel", files.kernel)), files.initrd.map(|path| (".ramdisk", path))];
    // What is not in it Xen looks for beside it.
    let inside = named.into_iter().flatten().filter(|_| files.names.is_none());
    for (name, path) in inside {
        sections.push(Section { name, bytes: size(path)?, content: Piece::File(path) });
    }
    with_sections(xen, sections).map_err(ImageError::Unified)
}

/// Why no unified image can be made of this EFI image, whatever is put into it; none: one can.
///
/// # Errors
/// It cannot be read.
pub fn no_unified(xen: &Path) -> Result<Option<String>, ImageError> {
    let bytes = std::fs::read(xen).map_err(|e| ImageError::io("read", xen, e))?;
    let empty = |name| Section { name, bytes: 1, content: Piece::Zeroes(1) };
    let refused = with_sections(bytes, [".config", ".kernel", ".ramdisk"].map(empty).into());
    Ok(refused.err().map(|why| why.to_string()))
}

fn refused(why: impl Into<String>) -> Refused {
    Refused(why.into())
}

/// Numbers in an image, by their places.
struct Pe(Vec<u8>);

impl Pe {
    fn u16(&self, at: usize) -> Result<usize, Refused> {
        let bytes = self.0.get(at..at + 2).ok_or_else(|| refused("its headers are cut short"))?;
        Ok(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    }

    fn u32(&self, at: usize) -> Result<u32, Refused> {
        let bytes = self.0.get(at..at + 4).ok_or_else(|| refused("its headers are cut short"))?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn put(&mut self, at: usize, value: u32) -> Result<(), Refused> {
        let bytes = self.0.get_mut(at..at + 4).ok_or_else(|| refused("its headers are cut short"))?;
        bytes.copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    /// Adds to the number there, which is an offset in the file; 0 stands for none.
    fn move_by(&mut self, at: usize, by: u32) -> Result<(), Refused> {
        match self.u32(at)? {
            0 => Ok(()),
            offset => self.put(at, offset.checked_add(by).ok_or_else(too_large)?),
        }
    }
}

fn too_large() -> Refused {
    refused("with dom0's kernel and initramfs in it, it would be larger than an EFI image can be (4 GiB)")
}

fn with_sections(xen: Vec<u8>, sections: Vec<Section<'_>>) -> Result<Vec<Piece<'_>>, Refused> {
    let mut pe = Pe(xen);
    let coff = pe.u32(0x3c)? as usize;
    if !pe.0.starts_with(b"MZ") || pe.0.get(coff..coff + 4) != Some(b"PE\0\0") {
        return Err(refused("it is no PE image"));
    }
    let (count, size) = (pe.u16(coff + 6)?, pe.u16(coff + 20)?);
    let (header, table) = (coff + COFF, coff + COFF + size);
    if pe.u16(header)? != 0x20b {
        return Err(refused("it is no PE32+ image"));
    }
    let alignment = |at| Ok::<_, Refused>(u64::from(pe.u32(header + at)?.max(1)));
    let (in_memory, in_file) =
        (alignment(optional::SECTION_ALIGNMENT)?, alignment(optional::FILE_ALIGNMENT)?);
    let used = table + HEADER * count;
    let wanted = (used + HEADER * sections.len()) as u64;
    let headers = u64::from(pe.u32(header + optional::HEADERS_SIZE)?);
    // Where the headers end in memory, and where the image does.
    let (mut first, mut end) = (u64::MAX, u64::from(pe.u32(header + optional::IMAGE_SIZE)?));
    for section in (0..count).map(|n| table + HEADER * n) {
        let (bytes, at, raw) = (
            u64::from(pe.u32(section + 8)?),
            u64::from(pe.u32(section + 12)?),
            u64::from(pe.u32(section + 16)?),
        );
        if bytes.max(raw) > 0 {
            first = first.min(at);
            end = end.max(at + bytes.max(raw));
        }
    }
    let grown = wanted.max(headers).next_multiple_of(in_file);
    if grown > first {
        return Err(refused(format!(
            "it has no room for the headers of {} more sections: its headers take {headers} bytes, would take {wanted}, and in memory its \
             first section begins at {first}",
            sections.len()
        )));
    }
    let by = u32::try_from(grown - headers).map_err(|_| too_large())?;
    if by > 0 {
        for n in 0..count {
            for offset in [20, 24, 28] {
                pe.move_by(table + HEADER * n + offset, by)?;
            }
        }
        pe.move_by(coff + 12, by)?;
        move_debug(&mut pe, (header, table, count), by)?;
        let at = usize::try_from(headers).map_err(|_| too_large())?;
        if at > pe.0.len() {
            return Err(refused("its headers are cut short"));
        }
        pe.0.splice(at..at, std::iter::repeat_n(0, by as usize));
    }
    pe.put(header + optional::HEADERS_SIZE, u32::try_from(grown).map_err(|_| too_large())?)?;
    // It is another image than the one that may have been signed.
    pe.put(header + optional::CHECKSUM, 0)?;
    if pe.u32(header + optional::DIRECTORIES)? > 4 {
        pe.put(header + optional::SIGNATURES, 0)?;
        pe.put(header + optional::SIGNATURES + 4, 0)?;
    }

    let mut file = (pe.0.len() as u64).next_multiple_of(in_file);
    let mut pieces = vec![Piece::Zeroes(file - pe.0.len() as u64)];
    let added = sections.len();
    for (n, section) in sections.into_iter().enumerate() {
        let at = end.next_multiple_of(in_memory);
        let raw = section.bytes.next_multiple_of(in_file);
        let place = used + HEADER * n;
        let mut name = [0; 8];
        name[..section.name.len()].copy_from_slice(section.name.as_bytes());
        pe.0.get_mut(place..place + HEADER).ok_or_else(|| refused("its headers are cut short"))?.fill(0);
        pe.0[place..place + 8].copy_from_slice(&name);
        for (offset, value) in [(8, section.bytes), (12, at), (16, raw), (20, file)] {
            pe.put(place + offset, u32::try_from(value).map_err(|_| too_large())?)?;
        }
        pe.put(place + 36, FLAGS)?;
        pieces.push(section.content);
        pieces.push(Piece::Zeroes(raw - section.bytes));
        (end, file) = (at + section.bytes, file + raw);
    }
    let size = u32::try_from(end.next_multiple_of(in_memory)).map_err(|_| too_large())?;
    pe.put(header + optional::IMAGE_SIZE, size)?;
    let count = u16::try_from(count + added).map_err(|_| refused("it has too many sections"))?;
    pe.0[coff + 6..coff + 8].copy_from_slice(&count.to_le_bytes());
    pieces.insert(0, Piece::Bytes(pe.0));
    Ok(pieces)
}

/// Entries of the debug directory have an offset in the file beside their place in memory. Called before anything has moved, with
/// sections' offsets already what they will be.
fn move_debug(pe: &mut Pe, (header, table, count): (usize, usize, usize), by: u32) -> Result<(), Refused> {
    if pe.u32(header + optional::DIRECTORIES)? <= 6 {
        return Ok(());
    }
    let (at, size) = (pe.u32(header + optional::DEBUG)?, pe.u32(header + optional::DEBUG + 4)?);
    for section in (0..count).map(|n| table + HEADER * n) {
        let (place, raw) = (pe.u32(section + 12)?, pe.u32(section + 16)?);
        if size > 0 && at >= place && at - place < raw {
            let begin = (pe.u32(section + 20)? - by + (at - place)) as usize;
            for entry in 0..size as usize / 28 {
                pe.move_by(begin + entry * 28 + 24, by)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::read::pe::PeFile64;
    use object::{Object as _, ObjectSection as _};

    /// A PE32+ of two sections, of which the first begins at `first` in memory, with a debug entry in the second.
    fn pe(first: u32) -> Vec<u8> {
        let (coff, optional) = (0x80, 0xf0u16);
        let headers = 0x80 + 24 + u32::from(optional) + 2 * 40;
        let headers = headers.next_multiple_of(0x20);
        let mut d = vec![0; headers as usize];
        d[..2].copy_from_slice(b"MZ");
        let mut put = |at: usize, bytes: &[u8]| d[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x3c, &(coff as u32).to_le_bytes());
        put(coff, b"PE\0\0\x64\x86\x02\0");
        put(coff + 20, &optional.to_le_bytes());
        let header = coff + 24;
        put(header, &0x20bu16.to_le_bytes());
        let second = first + 0x1000;
        for (at, value) in [
            (optional::SECTION_ALIGNMENT, 0x1000),
            (optional::FILE_ALIGNMENT, 0x20),
            (optional::IMAGE_SIZE, second + 0x1000),
            (optional::HEADERS_SIZE, headers),
            (optional::CHECKSUM, 0x1234),
            (optional::DIRECTORIES, 16),
            (optional::SIGNATURES, 0x9999),
            (optional::DEBUG, second + 4),
            (optional::DEBUG + 4, 28),
        ] {
            put(header + at, &value.to_le_bytes());
        }
        let table = header + usize::from(optional);
        for (n, (name, at)) in [(b".text\0\0\0", first), (b".rodata\0", second)].into_iter().enumerate() {
            put(table + 40 * n, name);
            for (offset, value) in [(8, 0x40), (12, at), (16, 0x40), (20, headers + 0x40 * n as u32)] {
                put(table + 40 * n + offset, &value.to_le_bytes());
            }
        }
        d.extend([0xaa; 0x40]);
        d.extend([0xbb; 0x40]);
        // The entry's own place in the file: what lies behind it.
        let entry = headers as usize + 0x40 + 4;
        d[entry + 24..entry + 28].copy_from_slice(&(entry as u32 + 28).to_le_bytes());
        d
    }

    fn written(pieces: &[Piece<'_>]) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => all.extend(bytes),
                Piece::Zeroes(n) => all.resize(all.len() + *n as usize, 0),
                Piece::File(path) => all.extend(std::fs::read(path).unwrap()),
            }
        }
        all
    }

    fn section(name: &'static str, bytes: &[u8]) -> Section<'static> {
        Section { name, bytes: bytes.len() as u64, content: Piece::Bytes(bytes.to_vec()) }
    }

    #[test]
    fn what_is_added_is_found_and_what_was_there_stays() {
        let added = || {
            vec![
                section(".config", b"[global]\n"),
                section(".kernel", &[7; 5000]),
                section(".ramdisk", &[8; 3]),
            ]
        };
        let all = written(&with_sections(pe(0x1000), added()).unwrap());
        let file = PeFile64::parse(all.as_slice()).unwrap();
        let seen: Vec<(String, u64, usize)> = file
            .sections()
            .map(|s| (s.name().unwrap().to_owned(), s.address(), s.data().unwrap().len()))
            .collect();
        let names: Vec<&str> = seen.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, [".text", ".rodata", ".config", ".kernel", ".ramdisk"]);
        let data = |name: &str| file.section_by_name(name).unwrap().data().unwrap().to_vec();
        assert_eq!(data(".text"), [0xaa; 0x40]);
        assert_eq!(data(".config"), b"[global]\n");
        assert_eq!(data(".kernel"), [7; 5000]);
        assert_eq!(data(".ramdisk"), [8; 3]);
        let addresses: Vec<u64> = seen.iter().map(|(_, at, _)| *at).collect();
        assert_eq!(addresses, [0x1000, 0x2000, 0x3000, 0x4000, 0x6000]);
        let header = 0x80 + COFF;
        let at = |at: usize| u32::from_le_bytes(all[header + at..header + at + 4].try_into().unwrap());
        assert_eq!(at(optional::IMAGE_SIZE), 0x7000);
        assert_eq!((at(optional::CHECKSUM), at(optional::SIGNATURES)), (0, 0));
        // What the debug entry leads to has moved with its section.
        let rodata = file.section_by_name(".rodata").unwrap().file_range().unwrap().0 as usize;
        let entry = u32::from_le_bytes(all[rodata + 28..rodata + 32].try_into().unwrap()) as usize;
        assert_eq!(entry, rodata + 4 + 28);
    }

    #[test]
    fn an_image_without_room_is_refused() {
        // As Xen's for AArch64: its code begins in memory right behind its headers.
        let first = pe(0x1000).len() as u32 - 0x80;
        let why = with_sections(pe(first), vec![section(".config", b"x")]).err().unwrap();
        assert!(why.0.contains("no room for the headers of 1 more sections"), "{why}");
        for (bytes, says) in [
            (Vec::new(), "cut short"),
            (vec![0; 4096], "no PE image"),
            (pe(0x1000)[..0x100].to_vec(), "cut short"),
        ] {
            let why = with_sections(bytes, vec![section(".config", b"x")]).err().unwrap();
            assert!(why.0.contains(says), "{why}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = pe(0x1000);
        for at in 0..whole.len() {
            for value in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = with_sections(bytes, vec![section(".config", b"x")]);
            }
            let _ = with_sections(whole[..at].to_vec(), vec![section(".config", b"x")]);
        }
    }
}
