//! What an ELF program or library says of itself: machine, soname, what it needs.

use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, StringTable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use xenlab_model::arch::Arch;

/// The facts of a program or library.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElfInfo {
    /// The architecture, when it is one that Xen is tested on.
    pub arch: Option<Arch>,
    /// The machine as the header names it.
    pub machine: String,
    /// `DT_SONAME`.
    pub soname: Option<String>,
    /// `DT_NEEDED`.
    pub needed: Vec<String>,
    /// `DT_RUNPATH` or `DT_RPATH`.
    pub runpath: Option<String>,
    /// `PT_INTERP`, of a program.
    pub interpreter: Option<String>,
}

/// Reads a file; none when it is no ELF file that can be read.
pub fn read_file(path: &Path) -> Option<ElfInfo> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).ok()?;
    // Scripts and data are most of a tree: four bytes tell.
    let mut data = vec![0; 4];
    file.read_exact(&mut data).ok()?;
    if data != *b"\x7fELF" {
        return None;
    }
    file.read_to_end(&mut data).ok()?;
    read(&data)
}

/// As [`read_file`], of bytes.
pub fn read(data: &[u8]) -> Option<ElfInfo> {
    match data.get(4)? {
        1 => read_class::<elf::FileHeader32<Endianness>>(data),
        2 => read_class::<elf::FileHeader64<Endianness>>(data),
        _ => None,
    }
}

fn read_class<H: FileHeader<Endian = Endianness>>(data: &[u8]) -> Option<ElfInfo> {
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let (arch, machine) = crate::image::machine(header.e_machine(endian).0);
    // A 32-bit program is for another machine, whatever Xen's own multiboot image pretends.
    let arch = arch.filter(|_| data.get(4) == Some(&2));
    let mut info = ElfInfo { arch, machine, ..ElfInfo::default() };
    let programs = header.program_headers(endian, data).ok()?;
    // The dynamic section's string table is named by address.
    let file_offset = |address: u64| {
        programs.iter().find_map(|p| {
            let (at, size): (u64, u64) = (p.p_vaddr(endian).into(), p.p_filesz(endian).into());
            let delta = address.checked_sub(at)?;
            (p.p_type(endian) == elf::PT_LOAD && delta < size).then(|| p.p_offset(endian).into() + delta)
        })
    };
    for p in programs {
        if let Ok(Some(name)) = p.interpreter(endian, data) {
            info.interpreter = Some(String::from_utf8_lossy(name).into_owned());
        }
        let Ok(Some(entries)) = p.dynamic(endian, data) else { continue };
        let value = |tag| entries.iter().find(|d| d.d_tag(endian) == tag).map(|d| d.d_val(endian).into());
        let (Some(table), Some(size)) = (value(elf::DT_STRTAB).and_then(file_offset), value(elf::DT_STRSZ))
        else {
            continue;
        };
        let strings = StringTable::new(data, table, table.saturating_add(size));
        let text = |at: u64| {
            let bytes = strings.get(u32::try_from(at).ok()?).ok()?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        info.soname = value(elf::DT_SONAME).and_then(text);
        info.runpath = value(elf::DT_RUNPATH).or_else(|| value(elf::DT_RPATH)).and_then(text);
        info.needed = entries
            .iter()
            .filter(|d| d.d_tag(endian) == elf::DT_NEEDED)
            .filter_map(|d| text(d.d_val(endian).into()))
            .collect();
    }
    Some(info)
}

/// Names that a shared library defines for others; none when it is no ELF file for 64 bits that can be read.
pub fn exports(data: &[u8]) -> Option<BTreeSet<String>> {
    use object::read::elf::ElfFile64;
    use object::{Object, ObjectSymbol};
    let file = ElfFile64::<Endianness>::parse(data).ok()?;
    let names = file.dynamic_symbols().filter(|s| s.is_definition() && s.is_global());
    let names = names.filter_map(|s| s.name().ok());
    // What a version script calls its versions is no function.
    Some(names.filter(|n| !n.is_empty() && !n.starts_with("VERS_")).map(str::to_owned).collect())
}
