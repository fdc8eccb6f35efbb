//! ELF: x86's multiboot image (ELF32 around 64-bit code) and `xen-syms` (ELF64).

use super::{Damage, Image, ImageKind, Map, note};
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, pod};
use xenlab_model::arch::Arch;

/// `MULTIBOOT_HEADER_MAGIC`; the header lies in the first 8 KiB, on 4 bytes (multiboot specification 3.1.1).
const MULTIBOOT: u32 = 0x1bad_b002;

pub(super) fn read(data: &[u8], image: &mut Image) -> Map {
    match data.get(4) {
        Some(1) => {
            image.kind = ImageKind::Elf32;
            read_class::<elf::FileHeader32<Endianness>>(data, image)
        }
        Some(2) => {
            image.kind = ImageKind::Elf64;
            read_class::<elf::FileHeader64<Endianness>>(data, image)
        }
        Some(class) => {
            image.damage = Some(Damage::invalid(format!("an ELF file of class {class}, which there is not")));
            Map::flat(data.len())
        }
        None => {
            image.damage = Some(Damage::truncated(format!(
                "an ELF file of {} bytes ends inside its header",
                data.len()
            )));
            Map::flat(data.len())
        }
    }
}

fn read_class<H: FileHeader<Endian = Endianness>>(data: &[u8], image: &mut Image) -> Map {
    let len = data.len() as u64;
    if data.len() < std::mem::size_of::<H>() {
        image.damage = Some(Damage::truncated(format!("an ELF file of {len} bytes ends inside its header")));
        return Map::flat(data.len());
    }
    let (header, endian) = match H::parse(data).and_then(|h| h.endian().map(|e| (h, e))) {
        Ok(both) => both,
        Err(e) => {
            image.damage = Some(Damage::invalid(format!("the ELF header is not valid: {e}")));
            return Map::flat(data.len());
        }
    };
    (image.arch, image.machine) = machine(header.e_machine(endian).0);
    let table_end = |offset: u64, entry: u16, count: u16| offset + u64::from(entry) * u64::from(count);
    let phend = table_end(header.e_phoff(endian).into(), header.e_phentsize(endian), header.e_phnum(endian));
    if phend > len {
        image.damage =
            Some(Damage::truncated(format!("the program headers end at byte {phend}, the file at {len}")));
        return Map::flat(data.len());
    }
    let programs = match header.program_headers(endian, data) {
        Ok(programs) => programs,
        Err(e) => {
            image.damage = Some(Damage::invalid(format!("the program headers are not valid: {e}")));
            return Map::flat(data.len());
        }
    };
    let mut map = Map::default();
    for (i, p) in programs.iter().enumerate() {
        let (offset, size): (u64, u64) = (p.p_offset(endian).into(), p.p_filesz(endian).into());
        let kind = p.p_type(endian);
        if kind == elf::PT_LOAD && image.damage.is_none() {
            match offset.checked_add(size) {
                Some(end) if end <= len => {}
                Some(end) => {
                    image.damage =
                        Some(Damage::truncated(format!("segment {i} ends at byte {end}, the file at {len}")));
                }
                None => {
                    image.damage =
                        Some(Damage::invalid(format!("segment {i} has no end: its size overflows")))
                }
            }
        }
        if kind == elf::PT_LOAD && offset < len {
            let there = size.min(len - offset) as usize;
            map.ranges.push((p.p_vaddr(endian).into(), offset as usize, there));
        }
    }
    let shend = table_end(header.e_shoff(endian).into(), header.e_shentsize(endian), header.e_shnum(endian));
    if image.damage.is_none() && shend > len {
        image.damage =
            Some(Damage::truncated(format!("the section headers end at byte {shend}, the file at {len}")));
    }
    if image.damage.is_none()
        && let Ok(sections) = header.section_headers(endian, data)
    {
        let end = |s: &H::SectionHeader| s.sh_offset(endian).into().saturating_add(s.sh_size(endian).into());
        let in_file = |s: &&H::SectionHeader| !matches!(s.sh_type(endian), elf::SHT_NOBITS | elf::SHT_NULL);
        if let Some(end) = sections.iter().filter(in_file).map(end).max().filter(|end| *end > len) {
            image.damage =
                Some(Damage::truncated(format!("the sections end at byte {end}, the file at {len}")));
        }
    }
    if image.damage.is_none() && map.ranges.is_empty() {
        image.damage = Some(Damage::invalid("an ELF file without a segment to load"));
    }
    image.build_id = build_id(header, endian, data);
    if image.kind == ImageKind::Elf32 && image.damage.is_none() && !multiboot(data) {
        image.damage =
            Some(Damage::invalid("an ELF32 file without the multiboot header that boot loaders look for"));
    }
    map
}

/// From the notes that the headers name; a stripped or cut file is searched.
fn build_id<H: FileHeader<Endian = Endianness>>(
    header: &H,
    endian: Endianness,
    data: &[u8],
) -> Option<String> {
    let segments = header.program_headers(endian, data).ok()?;
    for p in segments {
        if let Ok(Some(notes)) = p.notes(endian, data)
            && let Some(id) = notes_build_id::<H>(notes, endian)
        {
            return Some(id);
        }
    }
    if let Ok(sections) = header.section_headers(endian, data) {
        for s in sections {
            if let Ok(Some(notes)) = s.notes(endian, data)
                && let Some(id) = notes_build_id::<H>(notes, endian)
            {
                return Some(id);
            }
        }
    }
    note::search(data)
}

fn notes_build_id<H: FileHeader<Endian = Endianness>>(
    mut notes: object::read::elf::NoteIterator<'_, H>,
    endian: Endianness,
) -> Option<String> {
    while let Ok(Some(n)) = notes.next() {
        if n.name() == elf::ELF_NOTE_GNU && n.n_type(endian) == elf::NT_GNU_BUILD_ID {
            return Some(note::hex(n.desc()));
        }
    }
    None
}

/// The architecture, and the header's own word.
pub(crate) fn machine(e_machine: u16) -> (Option<Arch>, String) {
    match e_machine {
        // Xen's multiboot image is 64-bit code in an ELF32 for i386: what loaders expect (xen/arch/x86/boot/mkelf32.c).
        3 => (Some(Arch::X86_64), "EM_386".into()),
        62 => (Some(Arch::X86_64), "EM_X86_64".into()),
        183 => (Some(Arch::Aarch64), "EM_AARCH64".into()),
        40 => (None, "EM_ARM".into()),
        21 => (None, "EM_PPC64".into()),
        243 => (None, "EM_RISCV".into()),
        n => (None, format!("ELF machine {n}")),
    }
}

fn multiboot(data: &[u8]) -> bool {
    let head = data.get(..data.len().min(8192)).unwrap_or_default();
    let (words, _) = pod::slice_from_bytes::<[u8; 4]>(head, head.len() / 4).unwrap_or((&[], &[]));
    words.iter().any(|w| u32::from_le_bytes(*w) == MULTIBOOT)
}
