//! What a distribution's package says of its Xen, held against the build: nixpkgs' `version`, `meta` and the paths that NixOS boots by.

use crate::version::XenVersion;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What was evaluated of a package. None where the package has no such attribute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The attribute: `xen`.
    #[serde(default)]
    pub attribute: String,
    /// `version`.
    pub version: Option<String>,
    /// `meta.branch`.
    pub branch: Option<String>,
    /// `meta.description`.
    pub description: Option<String>,
    /// `meta.longDescription`.
    #[serde(rename = "longDescription")]
    pub long_description: Option<String>,
    /// `meta.knownVulnerabilities`.
    #[serde(rename = "knownVulnerabilities", default)]
    pub known_vulnerabilities: Vec<String>,
    /// `efi`, below the package: `boot/xen-4.20.2.efi`.
    pub efi: Option<String>,
    /// `multiboot`, the same.
    pub multiboot: Option<String>,
}

/// What the build is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Built {
    /// Its version, as declared or read.
    pub version: Option<String>,
    /// The names of what lies in its `boot/`.
    pub boot: BTreeSet<String>,
}

/// What came of it: what holds, what does not, what could not be judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What holds.
    pub holds: Vec<String>,
    /// What does not.
    pub fails: Vec<String>,
    /// What could not be judged.
    pub not_judged: Vec<String>,
}

/// Holds a package's metadata against the build.
pub fn judge(meta: &Metadata, built: &Built) -> Found {
    let mut found = Found::default();
    version(meta, built, &mut found);
    let text = |t: &Option<String>| t.as_deref().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    match text(&meta.description) {
        Some(description) => found.holds.push(format!("description: {description}")),
        None => found.fails.push("meta.description is empty".to_owned()),
    }
    match text(&meta.long_description) {
        Some(long) => files("meta.longDescription", &named(&long), built, &mut found),
        None => found.fails.push("meta.longDescription is empty".to_owned()),
    }
    for (name, path) in [("efi", &meta.efi), ("multiboot", &meta.multiboot)] {
        if let Some(path) = path {
            files(name, &[base(path).to_owned()], built, &mut found);
        }
    }
    match meta.known_vulnerabilities.as_slice() {
        [] => found.holds.push("no known vulnerabilities".to_owned()),
        known => found.fails.push(format!("meta.knownVulnerabilities: {}", known.join("; "))),
    }
    found
}

fn version(meta: &Metadata, built: &Built, found: &mut Found) {
    let Some(version) = &meta.version else {
        found.fails.push("it has no version".to_owned());
        return;
    };
    match &built.version {
        Some(is) if is == version => found.holds.push(format!("version {version}, as the build's")),
        Some(is) => found.fails.push(format!("version {version}, where the build's is {is}")),
        None => found.not_judged.push(format!("version {version}: the build's is not known")),
    }
    let Ok(parsed) = version.parse::<XenVersion>() else {
        found.fails.push(format!("version {version} is none of Xen's, so neither is its branch"));
        return;
    };
    match &meta.branch {
        Some(branch) if *branch == parsed.branch() => found.holds.push(format!("branch {branch}")),
        Some(branch) => {
            found.fails.push(format!("meta.branch is {branch}, and the version's is {}", parsed.branch()))
        }
        None => found.fails.push(format!("it has no meta.branch; the version's is {}", parsed.branch())),
    }
}

/// Every file that is named is in the build's `boot/`.
fn files(of: &str, names: &[String], built: &Built, found: &mut Found) {
    if names.is_empty() {
        found.holds.push(format!("{of} names no files"));
    } else if built.boot.is_empty() {
        found.not_judged.push(format!("{of} names {}: the build has no boot/", names.join(", ")));
    } else {
        let (there, gone): (Vec<&String>, Vec<&String>) = names.iter().partition(|n| built.boot.contains(*n));
        for name in gone {
            found.fails.push(format!("{of} names {name}, which is not in the build's boot/"));
        }
        if !there.is_empty() {
            let there: Vec<&str> = there.into_iter().map(String::as_str).collect();
            found.holds.push(format!("{of} names {}, in the build's boot/", there.join(", ")));
        }
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The files of `boot/` that a text names in backquotes: a word that begins as they do and has a version in it, or a path.
fn named(text: &str) -> Vec<String> {
    let words = text.split('`').skip(1).step_by(2);
    let file = |word: &&str| {
        let name = base(word);
        let known = ["xen-", "xen.", "xenpolicy-"].iter().any(|start| name.starts_with(start));
        !word.contains(char::is_whitespace)
            && known
            && name.contains(|c: char| c.is_ascii_digit() || c == '.')
    };
    let names: BTreeSet<String> = words.filter(file).map(|word| base(word).to_owned()).collect();
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> (Metadata, Built) {
        let text = |t: &str| Some(t.to_owned());
        let meta = Metadata {
            attribute: "xen".into(),
            version: text("4.20.2"),
            branch: text("4.20"),
            description: text("A hypervisor"),
            long_description: text(
                "Use it with `qemu_xen`.\n* `xen-4.20.2.efi`: for EFI\n* `xen-4.20.2`: for others\n* `seabios`: firmware",
            ),
            known_vulnerabilities: Vec::new(),
            efi: text("boot/xen-4.20.2.efi"),
            multiboot: text("boot/xen-4.20.2"),
        };
        let boot = ["xen-4.20.2.efi", "xen-4.20.2", "xen-4.20.2.gz", "xen.gz"].map(str::to_owned).into();
        (meta, Built { version: text("4.20.2"), boot })
    }

    fn fails(change: impl FnOnce(&mut Metadata, &mut Built)) -> Vec<String> {
        let (mut meta, mut built) = good();
        change(&mut meta, &mut built);
        judge(&meta, &built).fails
    }

    #[test]
    fn what_agrees_holds() {
        let (meta, built) = good();
        let found = judge(&meta, &built);
        assert_eq!(found.fails, [""; 0]);
        assert_eq!(found.not_judged, [""; 0]);
        assert!(found.holds.iter().any(|h| h.contains("xen-4.20.2, xen-4.20.2.efi")), "{:?}", found.holds);
    }

    #[test]
    fn every_lie_is_told() {
        let one = |change: fn(&mut Metadata, &mut Built), wanted: &str| {
            let fails = fails(change);
            assert!(fails.len() == 1 && fails[0].contains(wanted), "{fails:?}");
        };
        one(|m, _| m.branch = Some("4.19".into()), "meta.branch is 4.19, and the version's is 4.20");
        one(|m, _| m.branch = None, "no meta.branch");
        one(|_, b| b.version = Some("4.20.3".into()), "where the build's is 4.20.3");
        one(|m, _| m.description = Some(" ".into()), "meta.description is empty");
        one(|m, _| m.long_description = None, "meta.longDescription is empty");
        one(
            |m, _| m.long_description = Some("`xen-4.20.1.efi`".into()),
            "names xen-4.20.1.efi, which is not",
        );
        one(|m, _| m.efi = Some("boot/xen-4.19.efi".into()), "efi names xen-4.19.efi");
        one(|m, _| m.multiboot = Some("boot/xen".into()), "multiboot names xen,");
        one(|m, _| m.known_vulnerabilities = vec!["XSA-90001".into()], "knownVulnerabilities: XSA-90001");
    }

    #[test]
    fn a_build_without_boot_files_is_no_proof() {
        let (meta, mut built) = good();
        built.boot.clear();
        let found = judge(&meta, &built);
        assert_eq!(found.fails, [""; 0]);
        assert_eq!(found.not_judged.len(), 3, "the long description and both paths: {:?}", found.not_judged);
    }
}
