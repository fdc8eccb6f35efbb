use super::made::{BUILD_ID, CODEVIEW, Made, arm64, efi, elf32, gzip};
use super::*;
use proptest::prelude::*;

fn plain(data: &[u8]) -> Image {
    read(data).0
}

fn versions(image: &Image) -> Vec<(&str, VersionSource)> {
    image.versions.iter().map(|v| (v.version.as_str(), v.from)).collect()
}

#[test]
fn every_kind_of_image() {
    let made = Made::default();
    let both = vec![("4.20.1", VersionSource::Code), ("4.20.1", VersionSource::EfiLoader)];
    for (data, kind, arch, build_id) in [
        (elf32(&made), "elf32", Arch::X86_64, BUILD_ID),
        (gzip(&elf32(&made)), "gzip(elf32)", Arch::X86_64, BUILD_ID),
        (arm64(&made), "arm64-image", Arch::Aarch64, BUILD_ID),
        (efi(&made), "pe", Arch::X86_64, CODEVIEW),
    ] {
        let image = plain(&data);
        assert_eq!(image.kind_name(), kind);
        assert_eq!(image.damage, None, "{kind}");
        assert_eq!(image.arch, Some(arch), "{kind}");
        assert_eq!(image.build_id.as_deref(), Some(build_id), "{kind}");
        assert_eq!(versions(&image), both, "{kind}");
        assert_eq!(image.branch().as_deref(), Some("4.20"), "{kind}");
        assert_eq!(image.size, data.len() as u64, "{kind}");
        let c = &image.compile;
        assert_eq!(c.compiler.as_deref(), Some("gcc (Made) 12.2.0"), "{kind}");
        assert_eq!((c.by.as_deref(), c.domain.as_deref()), (Some("builder"), Some("example.org")), "{kind}");
        assert_eq!(c.date.as_deref(), Some("Wed Nov  4 16:52:28 UTC 2026"), "{kind}");
        assert_eq!(c.changeset.as_deref(), Some("Wed Jul 9 2025 git:08f043965a"), "{kind}");
        assert_eq!(c.debug, Some(false), "{kind}");
    }
}

#[test]
fn the_version_is_in_the_code_also_without_efi() {
    let image = plain(&elf32(&Made { extra: ".4-pre", greeting: None, ..Made::default() }));
    assert_eq!(versions(&image), [("4.20.4-pre", VersionSource::Code)]);
    assert_eq!(image.version(), Some("4.20.4-pre"));
}

#[test]
fn debug_builds_have_longer_functions() {
    let made = Made { debug: true, greeting: None, ..Made::default() };
    for data in [elf32(&made), arm64(&made), efi(&made)] {
        let image = plain(&data);
        assert_eq!(versions(&image), [("4.20.1", VersionSource::Code)], "{}", image.kind_name());
        assert_eq!(image.compile.compiler.as_deref(), Some("gcc (Made) 12.2.0"));
        assert_eq!(image.compile.by.as_deref(), Some("builder"));
    }
}

#[test]
fn an_image_that_disagrees_with_itself_shows_both() {
    let image = plain(&elf32(&Made { minor: 17, extra: ".5", greeting: Some("4.17.6"), ..Made::default() }));
    assert_eq!(versions(&image), [("4.17.5", VersionSource::Code), ("4.17.6", VersionSource::EfiLoader)]);
}

#[test]
fn major_and_minor_alone_are_no_version() {
    let mut data = arm64(&Made { greeting: None, ..Made::default() });
    // The functions are not there; the device tree's string is.
    data[0x200..0x200 + 160].fill(0);
    data.extend(b"\0xen,xen-4.17\0");
    let image = plain(&data);
    assert_eq!(versions(&image), [("4.17", VersionSource::DeviceTree)]);
    assert_eq!((image.version(), image.branch().as_deref()), (None, Some("4.17")));
}

#[test]
fn a_cut_image_is_truncated_wherever_it_was_cut() {
    let made = Made::default();
    for whole in [elf32(&made), arm64(&made), efi(&made), gzip(&elf32(&made))] {
        let kind = plain(&whole).kind_name();
        for end in (64..whole.len()).step_by(7).chain([0, whole.len() - 1]) {
            let damage = plain(&whole[..end]).damage;
            assert_eq!(
                damage.map(|d| d.cause),
                Some(Cause::ImageTruncated),
                "{kind} cut at {end} of {}",
                whole.len()
            );
        }
    }
}

#[test]
fn a_section_behind_the_end() {
    let mut data = elf32(&Made::default());
    let table = data.len() as u32;
    // One section of four bytes, right behind the table of sections.
    let section = [0, 1, 0, 0, table + 40, 4, 0, 0, 1, 0];
    data.extend(section.iter().flat_map(|w: &u32| w.to_le_bytes()));
    data[32..36].copy_from_slice(&table.to_le_bytes());
    data[48] = 1;
    assert_eq!(plain(&data).damage.map(|d| d.cause), Some(Cause::ImageTruncated));
    data.extend([0; 4]);
    assert_eq!(plain(&data).damage, None);
}

#[test]
fn a_corrupt_gzip_is_invalid_and_not_truncated() {
    let mut data = gzip(&elf32(&Made::default()));
    let crc = data.len() - 8;
    data[crc] ^= 1;
    let (image, unpacked) = read(&data);
    assert_eq!(image.damage.map(|d| d.cause), Some(Cause::ImageInvalid));
    assert_eq!(image.build_id.as_deref(), Some(BUILD_ID), "what could be unpacked is still read");
    assert!(unpacked.is_some());
}

#[test]
fn what_is_no_xen() {
    let not_xen = |data: &[u8]| plain(data).damage.map(|d| (d.cause, d.text)).expect("damaged");
    let (cause, text) = not_xen(b"hello there");
    assert_eq!(cause, Cause::ImageInvalid);
    assert!(text.contains("starts with 68 65 6c 6c 6f"), "{text}");
    // A good arm64 Image of something else: Linux.
    let mut linux = arm64(&Made { greeting: None, ..Made::default() });
    linux[0x200..0x200 + 160].fill(0);
    let at = memchr::memmem::find(&linux, b"(XEN) ").expect("made so");
    linux[at..at + 6].fill(b'x');
    assert!(not_xen(&linux).1.contains("no Xen in it"));
    let mut elf = elf32(&Made::default());
    elf[0x60..0x64].fill(0);
    assert!(not_xen(&elf).1.contains("multiboot"));
}

#[test]
fn other_machines_are_named() {
    let mut elf = elf32(&Made::default());
    elf[18] = 40;
    let image = plain(&elf);
    assert_eq!((image.arch, image.machine.as_str()), (None, "EM_ARM"));
    let mut pe = efi(&Made::default());
    pe[0x44..0x46].copy_from_slice(&0x14cu16.to_le_bytes());
    assert_eq!(plain(&pe).machine, "IMAGE_FILE_MACHINE_I386");
}

proptest! {
    /// Whatever is in a file, reading it ends and does not panic.
    #[test]
    fn any_bytes(which in 0..4usize, at in 0..4096usize, bytes in proptest::collection::vec(any::<u8>(), 1..24)) {
        let made = Made::default();
        let mut data = match which { 0 => elf32(&made), 1 => arm64(&made), 2 => efi(&made), _ => Vec::new() };
        let at = at.min(data.len());
        data.splice(at..(at + bytes.len()).min(data.len()), bytes);
        let _ = read(&data);
        let _ = crate::elf::read(&data);
    }
}
