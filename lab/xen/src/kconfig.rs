//! The configuration a hypervisor was built with: `boot/xen-*.config`, or the copy inside the image (`CONFIG_HYPFS_CONFIG`).

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// A read `.config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kconfig {
    /// Options set to `y`, without `CONFIG_`.
    pub yes: BTreeSet<String>,
    /// Every other option with its value: `NR_CPUS` → `256`, text without its quotes.
    pub values: BTreeMap<String, String>,
    /// The version in the title that Kconfig writes: `# Xen/x86 4.17.7 Configuration`.
    pub title_version: Option<String>,
    /// Where it was read: a path relative to the build, or `the image`.
    pub from: String,
}

impl Kconfig {
    /// Reads the text of a `.config`; nothing, when it has not a single option.
    pub fn parse(text: &str, from: impl Into<String>) -> Option<Kconfig> {
        let mut k = Kconfig { from: from.into(), ..Kconfig::default() };
        for line in text.lines() {
            if let Some((name, value)) = line.strip_prefix("CONFIG_").and_then(|l| l.split_once('=')) {
                match value.trim() {
                    "y" => {
                        k.yes.insert(name.to_owned());
                    }
                    value => {
                        k.values.insert(name.to_owned(), value.trim_matches('"').to_owned());
                    }
                }
            } else if let Some(title) =
                line.strip_prefix("# Xen/").and_then(|l| l.strip_suffix(" Configuration"))
            {
                k.title_version = title.split_once(' ').map(|(_, v)| v.to_owned());
            }
        }
        (!k.yes.is_empty() || !k.values.is_empty()).then_some(k)
    }

    /// The gzip'ed `.config` inside an unpacked image, if it has one.
    pub fn embedded(data: &[u8]) -> Option<Kconfig> {
        const MOST: u64 = 1 << 20;
        memchr::memmem::find_iter(data, b"\x1f\x8b\x08").find_map(|at| {
            let mut text = String::new();
            flate2::read::GzDecoder::new(&data[at..]).take(MOST).read_to_string(&mut text).ok()?;
            text.contains("\nCONFIG_").then(|| Kconfig::parse(&text, "the image")).flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const TEXT: &str = "#\n# Automatically generated file; DO NOT EDIT.\n# Xen/x86 4.17.7 Configuration\n#\nCONFIG_X86=y\n\
        CONFIG_NR_CPUS=256\n# CONFIG_SHADOW_PAGING is not set\nCONFIG_CMDLINE=\"dom0_mem=1G\"\n";

    #[test]
    fn options() {
        let k = Kconfig::parse(TEXT, "boot/xen.config").expect("a configuration");
        assert_eq!(k.yes, ["X86".to_owned()].into());
        assert_eq!(k.values["NR_CPUS"], "256");
        assert_eq!(k.values["CMDLINE"], "dom0_mem=1G");
        assert_eq!(k.title_version.as_deref(), Some("4.17.7"));
        assert_eq!(Kconfig::parse("hello\n", "x"), None);
    }

    #[test]
    fn the_copy_in_an_image() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gz.write_all(TEXT.as_bytes()).expect("compressed");
        let mut image = b"code \x1f\x8b\x08 not gzip".to_vec();
        image.extend(gz.finish().expect("compressed"));
        image.extend([0; 64]);
        assert!(Kconfig::embedded(&image).expect("found").yes.contains("X86"));
        assert_eq!(Kconfig::embedded(b"nothing"), None);
    }
}
