//! `NT_GNU_BUILD_ID` by its bytes, for images that have no headers that name it.

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// The first note on 4 bytes whose name is `GNU`, whose type is 3 and whose size is one that linkers make
/// (16 for md5 and uuid, 20 for sha1, up to 64).
pub(super) fn search(data: &[u8]) -> Option<String> {
    memchr_iter(data, b"GNU\0").find_map(|at| {
        let head = data.get(at.checked_sub(12)?..at)?;
        let word =
            |i: usize| head.get(i * 4..i * 4 + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let size = word(1)? as usize;
        let sane = at.is_multiple_of(4) && word(0)? == 4 && word(2)? == 3 && (8..=64).contains(&size);
        let desc = data.get(at + 4..at + 4 + size)?;
        (sane && desc.iter().any(|b| *b != 0)).then(|| hex(desc))
    })
}

/// Every place where `needle` begins.
pub(super) fn memchr_iter<'a>(data: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    memchr::memmem::find_iter(data, needle)
}
