//! Which version a build is declared to be, by the provider's own word.

use crate::build::Declared;
use std::path::Path;

/// Version of Debian's source package `xen` → what its `xl info` says as `xen_version`. The one cannot be computed from the
/// other: between two point releases some snapshots say the last release's version, others the next one's with `-pre`.
///
/// Each row's source is the image of that package: `xenlab inspect` on it, the value read from the code that answers the
/// hypercall and confirmed by the EFI loader's greeting; on both architectures.
const DEBIAN: &[(&str, &str)] = &[
    // bookworm main, November 2026
    ("4.17.5+72-g01140da4e8-1", "4.17.5"),
    // bookworm-security
    ("4.17.7+13-g2445b30a44-0+deb12u1", "4.17.7"),
    // trixie main, forky and sid
    ("4.20.3+127-gc42374a105-0+deb13u1", "4.20.4-pre"),
    // trixie-security
    ("4.20.4+63-g7abfd2bce2-0+deb13u1", "4.20.5-pre"),
];

/// What a Debian package of this version is declared to be, if that is known.
pub(crate) fn debian(package_version: &str) -> Option<&'static str> {
    DEBIAN.iter().find(|(package, _)| *package == package_version).map(|(_, version)| *version)
}

/// The version in Xen's `xen/Makefile`; none when there is no such file or it is another Makefile.
pub(crate) fn makefile(path: &Path) -> Option<Declared> {
    let text = std::fs::read_to_string(path).ok()?;
    let version = makefile_version(&text)?;
    Some(Declared { version, by: path.display().to_string() })
}

fn makefile_version(text: &str) -> Option<String> {
    let value = |name: &str| {
        text.lines().find_map(|l| {
            let (left, right) = l.strip_prefix("export").unwrap_or(l).split_once('=')?;
            (left.trim_end_matches(['?', ':']).trim() == name).then(|| right.trim())
        })
    };
    // A distribution may set XEN_VENDORVERSION on make's command line; the tree itself leaves it empty.
    let extra = value("XEN_EXTRAVERSION").unwrap_or_default().replace("$(XEN_VENDORVERSION)", "");
    let version = format!("{}.{}{extra}", value("XEN_VERSION")?, value("XEN_SUBVERSION")?);
    (!version.contains('$'))
        .then(|| version.parse::<xenlab_model::version::XenVersion>().ok().map(|v| v.to_string()))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makefiles() {
        let text = "# comment\nexport XEN_VERSION       = 4\nexport XEN_SUBVERSION    = 20\n\
            export XEN_EXTRAVERSION ?= .1$(XEN_VENDORVERSION)\nexport XEN_FULLVERSION   = $(XEN_VERSION).$(XEN_SUBVERSION)\n";
        assert_eq!(makefile_version(text).as_deref(), Some("4.20.1"));
        let unstable = text.replace(".1$(", "-unstable$(");
        assert_eq!(makefile_version(&unstable).as_deref(), Some("4.20-unstable"));
        assert_eq!(makefile_version("all:\n\tcc\n"), None);
        assert_eq!(makefile_version(&text.replace("= 4\n", "= $(MAJOR)\n")), None);
    }

    #[test]
    fn the_table_is_in_itself_consistent() {
        for (package, version) in DEBIAN {
            let parsed: xenlab_model::version::XenVersion = version.parse().expect("a Xen version");
            assert!(package.starts_with(&format!("{}.", parsed.branch())), "{package}");
            assert_eq!(debian(package), Some(*version), "a package is there once");
        }
        assert_eq!(debian("4.17.5"), None);
    }
}
