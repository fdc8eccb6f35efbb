//! What an image carries as text.
//!
//! The full version is text only in the EFI loader's greeting (xen/common/efi/boot.c, `PrintStr(L"Xen " XEN_VERSION_STRING …)`),
//! which is UTF-16 and gone when Xen is built without EFI. An ASCII string that looks like a version is the packager's.

use regex::bytes::Regex;
use std::sync::LazyLock;

pub(super) fn contains(data: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(data, needle).is_some()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Version and changeset of `Xen 4.17.5 (c/s CHANGESET) EFI loader`.
pub(super) fn efi_loader(data: &[u8]) -> Option<(String, Option<String>)> {
    /// The greeting is at most about a hundred characters.
    const LONGEST: usize = 2 * 300;
    memchr::memmem::find_iter(data, &utf16(" EFI loader")).find_map(|end| {
        let start = end.saturating_sub(LONGEST) & !1 | (end & 1);
        let before = data.get(start..end)?;
        let text: Vec<u16> = before.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
        let text = String::from_utf16_lossy(&text);
        let text = &text[text.rfind("Xen ")? + 4..];
        let (version, rest) = text.split_once(" (c/s ")?;
        let changeset = rest.strip_suffix(')')?;
        version.parse::<xenlab_model::version::XenVersion>().ok()?;
        let known = !changeset.is_empty() && changeset != "unavailable";
        Some((version.to_owned(), known.then(|| changeset.to_owned())))
    })
}

/// major.minor of the `xen,xen-4.17` that Arm puts into dom0's device tree (xen/arch/arm/domain_build.c).
pub(super) fn device_tree(data: &[u8]) -> Option<String> {
    static PATTERN: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?-u)xen,xen-(\d+\.\d+)\x00").ok());
    let found = PATTERN.as_ref()?.captures(data)?;
    Some(String::from_utf8_lossy(&found[1]).into_owned())
}

/// The first line of the compiler's `--version`.
pub(super) fn compiler(data: &[u8]) -> Option<String> {
    static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?-u)\x00([ -~]{0,80}(?:gcc|clang version|GCC)[ -~]{0,80}\d+\.\d+\.\d+[ -~]{0,40})\x00")
            .ok()
    });
    let found = PATTERN.as_ref()?.captures(data)?;
    Some(String::from_utf8_lossy(&found[1]).into_owned())
}

/// `debug=y` or `debug=n` (xen/common/version.c, `build_info`).
pub(super) fn debug(data: &[u8]) -> Option<bool> {
    memchr::memmem::find_iter(data, b"\0debug=").find_map(|at| match data.get(at + 7)? {
        b'y' => Some(true),
        b'n' => Some(false),
        _ => None,
    })
}
