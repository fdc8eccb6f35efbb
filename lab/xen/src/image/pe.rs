//! PE: an image for EFI firmware.

use super::{Damage, Image, ImageKind, Map, note};
use serde::{Deserialize, Serialize};
use xenlab_model::arch::Arch;

/// The headers of a PE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pe {
    /// The architecture, when it is one that Xen is tested on.
    pub arch: Option<Arch>,
    /// The machine as the header names it.
    pub machine: String,
    /// Subsystem 10: an EFI application.
    pub efi_application: bool,
    /// Its sections.
    pub sections: Vec<PeSection>,
}

/// A section of a PE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeSection {
    /// Its name, resolved through the string table when it is longer than 8 bytes.
    pub name: String,
    /// Address relative to the image's base.
    pub address: u32,
    /// Bytes in memory.
    pub size: u32,
    /// Where in the file.
    pub offset: u32,
    /// Bytes in the file.
    pub raw_size: u32,
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(data.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn read_image(data: &[u8], image: &mut Image) -> Map {
    image.kind = ImageKind::Pe;
    let (pe, map, damage) = parse(data);
    image.damage = damage;
    if let Some(pe) = &pe {
        (image.arch, image.machine) = (pe.arch, pe.machine.clone());
        image.build_id = codeview(data, &map).or_else(|| note::search(data));
        if image.damage.is_none() && !pe.efi_application {
            image.damage = Some(Damage::invalid("a PE, but not an EFI application"));
        }
    }
    image.pe = pe;
    map
}

/// The headers, where the sections lie, and what is wrong.
pub(super) fn parse(data: &[u8]) -> (Option<Pe>, Map, Option<Damage>) {
    let len = data.len() as u64;
    let cut = || Some(Damage::truncated(format!("a PE of {len} bytes ends inside its headers")));
    let Some(at) = u32_at(data, 0x3c).map(|n| n as usize) else {
        return (None, Map::flat(data.len()), cut());
    };
    match data.get(at..at.saturating_add(4)) {
        Some(b"PE\0\0") => {}
        Some(_) => {
            return (
                None,
                Map::flat(data.len()),
                Some(Damage::invalid("a DOS header without a PE header where it points")),
            );
        }
        None => return (None, Map::flat(data.len()), cut()),
    }
    parse_at(data, at + 4).unwrap_or_else(|| (None, Map::flat(data.len()), cut()))
}

/// From the COFF header; none when the headers are cut.
fn parse_at(data: &[u8], coff: usize) -> Option<(Option<Pe>, Map, Option<Damage>)> {
    let len = data.len() as u64;
    let (arch, machine) = machine(u16_at(data, coff)?);
    let count = usize::from(u16_at(data, coff + 2)?);
    let symbols = (u64::from(u32_at(data, coff + 8)?), u64::from(u32_at(data, coff + 12)?));
    let optional = coff + 20;
    let table = optional + usize::from(u16_at(data, coff + 16)?);
    let subsystem = u16_at(data, optional + 68)?;
    // COFF: 18 bytes a symbol, the string table behind them, its length first.
    let strings = (symbols.0 != 0).then(|| symbols.0 + symbols.1 * 18);
    let mut pe = Pe { arch, machine, efi_application: subsystem == 10, sections: Vec::with_capacity(count) };
    let mut map = Map::default();
    let mut damage = None;
    for i in 0..count {
        let s = table + i * 40;
        let raw_name = data.get(s..s + 8)?;
        let word = |n: usize| u32_at(data, s + n);
        let section = PeSection {
            name: section_name(data, raw_name, strings),
            size: word(8)?,
            address: word(12)?,
            raw_size: word(16)?,
            offset: word(20)?,
        };
        let (start, end) =
            (u64::from(section.offset), u64::from(section.offset) + u64::from(section.raw_size));
        if damage.is_none() && section.raw_size != 0 && end > len {
            damage = Some(Damage::truncated(format!(
                "section {} ends at byte {end}, the file at {len}",
                section.name
            )));
        }
        // Debug sections are no part of the running image.
        if section.raw_size != 0 && start < len && !section.name.starts_with(".debug") {
            // Behind the section's size lies padding, where the next section's addresses may begin.
            let size = if section.size == 0 { section.raw_size } else { section.raw_size.min(section.size) };
            let there = u64::from(size).min(len - start) as usize;
            map.ranges.push((u64::from(section.address), start as usize, there));
        }
        pe.sections.push(section);
    }
    if damage.is_none()
        && let Some(strings) = strings
    {
        let end =
            strings + usize::try_from(strings).ok().and_then(|at| u32_at(data, at)).map_or(4, u64::from);
        if end > len {
            damage = Some(Damage::truncated(format!(
                "the symbol table ends at byte {end} or later, the file at {len}"
            )));
        }
    }
    Some((Some(pe), map, damage))
}

fn section_name(data: &[u8], raw: &[u8], strings: Option<u64>) -> String {
    let short = String::from_utf8_lossy(raw).trim_end_matches('\0').to_owned();
    let long = || {
        let at = usize::try_from(strings? + short.strip_prefix('/')?.parse::<u64>().ok()?).ok()?;
        let tail = data.get(at..)?;
        let end = tail.iter().take(256).position(|b| *b == 0)?;
        Some(String::from_utf8_lossy(&tail[..end]).into_owned())
    };
    long().unwrap_or(short)
}

/// The signature of the CodeView record in the debug directory, byte for byte, as Xen prints it.
fn codeview(data: &[u8], map: &Map) -> Option<String> {
    let coff = u32_at(data, 0x3c)? as usize + 4;
    let optional = coff + 20;
    // Data directories begin at 112 in PE32+ (magic 0x20b), at 96 in PE32; the debug directory is the seventh.
    let directories = optional + if u16_at(data, optional)? == 0x20b { 112 } else { 96 };
    let (rva, size) = (u32_at(data, directories + 48)?, u32_at(data, directories + 52)?);
    let at = map.offset(u64::from(rva)).filter(|_| rva != 0)?;
    (0..size as usize / 28).find_map(|i| {
        let entry = at + i * 28;
        const CODEVIEW: u32 = 2;
        if u32_at(data, entry + 12)? != CODEVIEW {
            return None;
        }
        // By its address, as Xen does: the file offset beside it is not always one.
        let by_address = map.offset(u64::from(u32_at(data, entry + 20)?));
        let by_offset = u32_at(data, entry + 24).map(|n| n as usize);
        let record =
            [by_address, by_offset].into_iter().flatten().find(|r| data.get(*r..r + 4) == Some(b"RSDS"))?;
        data.get(record + 4..record + 20).map(note::hex)
    })
}

fn machine(code: u16) -> (Option<Arch>, String) {
    match code {
        0x8664 => (Some(Arch::X86_64), "IMAGE_FILE_MACHINE_AMD64".into()),
        0xaa64 => (Some(Arch::Aarch64), "IMAGE_FILE_MACHINE_ARM64".into()),
        0x14c => (None, "IMAGE_FILE_MACHINE_I386".into()),
        0x1c0 | 0x1c2 | 0x1c4 => (None, "IMAGE_FILE_MACHINE_ARM".into()),
        n => (None, format!("PE machine {n:#06x}")),
    }
}
