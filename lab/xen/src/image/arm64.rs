//! The arm64 `Image`: 64 bytes of header (Linux, Documentation/arch/arm64/booting.rst), flat code and data after it. With EFI
//! support the header is a DOS header as well, and PE headers follow.

use super::{Damage, Image, ImageKind, Map, note, pe};
use xenlab_model::arch::Arch;

const MAGIC_AT: usize = 56;

pub(super) fn is_image(data: &[u8]) -> bool {
    data.get(MAGIC_AT..MAGIC_AT + 4) == Some(b"ARMd")
}

pub(super) fn read(data: &[u8], image: &mut Image) -> Map {
    image.kind = ImageKind::Arm64Image;
    image.arch = Some(Arch::Aarch64);
    image.machine = "arm64 Image".into();
    image.build_id = note::search(data);
    if data.starts_with(b"MZ") {
        // image_size counts .bss, so a cut file cannot be told by it; the PE section's raw size can.
        let (found, _, damage) = pe::parse(data);
        if let Some(found) = &found
            && found.arch != Some(Arch::Aarch64)
        {
            image.damage = Some(Damage {
                cause: xenlab_model::cause::Cause::WrongArchitecture,
                text: format!("an arm64 Image whose PE header says {}", found.machine),
            });
        }
        image.damage = image.damage.take().or(damage);
        image.pe = found;
    } else if data.len() < 64 {
        image.damage =
            Some(Damage::truncated(format!("an arm64 Image of {} bytes ends inside its header", data.len())));
    }
    let image_size = data.get(16..24).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    if image.damage.is_none() && image_size != 0 && (data.len() as u64) > image_size {
        image.damage = Some(Damage::invalid(format!(
            "the header says {image_size} bytes in memory, the file alone has {}",
            data.len()
        )));
    }
    Map::flat(data.len())
}
