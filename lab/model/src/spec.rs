//! One string for a Xen build, a kernel or a userland, wherever it is named.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::recipe::Recipe;
use crate::units::text_serde;

/// Where (a part of) a Xen build comes from. The providers know what to do with each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum XenSpec {
    /// `debian:SUITE[@VERSION]`: Debian's packages of that suite.
    Debian {
        /// `bookworm`, `trixie`, …
        suite: String,
        /// A package version; absent, what the lock says.
        version: Option<String>,
    },
    /// `dir:PREFIX`: an install prefix or DESTDIR.
    Dir(PathBuf),
    /// `nix:PATH`: an output in a Nix store, or a link to one as `nix-build` makes it.
    Nix(PathBuf),
    /// `nixos:TOPLEVEL`: a NixOS system, whose Xen, kernel, initrd and command lines are what boots.
    Nixos(PathBuf),
    /// `file:PATH`: a bare `xen`, `xen.gz` or `xen.efi`.
    File(PathBuf),
    /// `source:PATH[@REV]`: Xen's source, built here.
    Source {
        /// A tree, a git repository or a tarball.
        path: PathBuf,
        /// What git calls it; absent, what lies there.
        rev: Option<String>,
    },
    /// `debsrc:SUITE[@VERSION]`: Debian's source package, built here.
    DebSrc {
        /// `bookworm`, `trixie`, …
        suite: String,
        /// A version of the source package; absent, the newest.
        version: Option<String>,
    },
}

impl XenSpec {
    /// What comes before the colon: the provider's name.
    pub fn scheme(&self) -> &'static str {
        match self {
            XenSpec::Debian { .. } => "debian",
            XenSpec::Dir(_) => "dir",
            XenSpec::Nix(_) => "nix",
            XenSpec::Nixos(_) => "nixos",
            XenSpec::File(_) => "file",
            XenSpec::Source { .. } => "source",
            XenSpec::DebSrc { .. } => "debsrc",
        }
    }

    /// It is a whole system: kernel, initrd and userland of dom0 are its own.
    pub fn is_system(&self) -> bool {
        matches!(self, XenSpec::Nixos(_))
    }

    /// It is built here, so that it takes patches and options.
    pub fn is_source(&self) -> bool {
        matches!(self, XenSpec::Source { .. } | XenSpec::DebSrc { .. })
    }
}

/// The forms a Xen build can be named in, for messages.
pub const XEN_SPEC_FORMS: &str = "debian:SUITE[@VERSION], dir:PREFIX, nix:STORE-PATH, nixos:TOPLEVEL, file:PATH, source:PATH[@REV] or debsrc:SUITE[@VERSION]";

fn word(s: &str, what: &str) -> Result<String, String> {
    if s.is_empty() || !s.chars().all(|c| c.is_ascii_alphanumeric() || "-+.~:".contains(c)) {
        return Err(format!("`{s}` is not a {what}"));
    }
    Ok(s.to_owned())
}

fn path(s: &str, form: &str) -> Result<PathBuf, String> {
    if s.is_empty() { Err(format!("expected a path: {form}")) } else { Ok(PathBuf::from(s)) }
}

/// `SUITE[@VERSION]`.
fn in_suite(text: &str) -> Result<(String, Option<String>), String> {
    let (suite, version) = match text.split_once('@') {
        Some((suite, version)) => (suite, Some(word(version, "package version")?)),
        None => (text, None),
    };
    let suite = word(suite, "Debian suite")?;
    if suite.contains(':') { Err(format!("`{suite}` is not a Debian suite")) } else { Ok((suite, version)) }
}

impl FromStr for XenSpec {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let (scheme, rest) = s
            .split_once(':')
            .ok_or_else(|| format!("`{s}` does not name a Xen build; expected {XEN_SPEC_FORMS}"))?;
        match scheme {
            "debian" => in_suite(rest).map(|(suite, version)| XenSpec::Debian { suite, version }),
            "debsrc" => in_suite(rest).map(|(suite, version)| XenSpec::DebSrc { suite, version }),
            "source" => {
                // The last `@`: what is behind it may be empty, for a path that has one itself.
                let (at, rev) = rest.rsplit_once('@').map_or((rest, None), |(at, rev)| (at, Some(rev)));
                if rev.is_some_and(|r| r.starts_with('-') || r.contains(char::is_whitespace)) {
                    return Err(format!("`{}` is not a revision", rev.unwrap_or_default()));
                }
                let path = path(at, "source:PATH[@REV]")?;
                Ok(XenSpec::Source { path, rev: rev.filter(|r| !r.is_empty()).map(str::to_owned) })
            }
            "dir" => path(rest, "dir:PREFIX").map(XenSpec::Dir),
            "nix" => path(rest, "nix:STORE-PATH").map(XenSpec::Nix),
            "nixos" => path(rest, "nixos:TOPLEVEL").map(XenSpec::Nixos),
            "file" => path(rest, "file:PATH").map(XenSpec::File),
            _ => {
                let known = ["debian", "dir", "nix", "nixos", "file", "source", "debsrc"];
                let near = known.iter().find(|k| strsim::damerau_levenshtein(k, scheme) <= 2);
                let hint = near.map(|k| format!(", did you mean `{k}:`?")).unwrap_or_default();
                Err(format!("no provider is called `{scheme}:`{hint}; expected {XEN_SPEC_FORMS}"))
            }
        }
    }
}

impl fmt::Display for XenSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            XenSpec::Debian { suite, version: None } => write!(f, "debian:{suite}"),
            XenSpec::Debian { suite, version: Some(v) } => write!(f, "debian:{suite}@{v}"),
            XenSpec::Dir(p) => write!(f, "dir:{}", p.display()),
            XenSpec::Nix(p) => write!(f, "nix:{}", p.display()),
            XenSpec::Nixos(p) => write!(f, "nixos:{}", p.display()),
            XenSpec::File(p) => write!(f, "file:{}", p.display()),
            XenSpec::Source { path, rev: Some(rev) } => write!(f, "source:{}@{rev}", path.display()),
            XenSpec::Source { path, rev: None } => {
                let end = if path.as_os_str().as_encoded_bytes().contains(&b'@') { "@" } else { "" };
                write!(f, "source:{}{end}", path.display())
            }
            XenSpec::DebSrc { suite, version: None } => write!(f, "debsrc:{suite}"),
            XenSpec::DebSrc { suite, version: Some(v) } => write!(f, "debsrc:{suite}@{v}"),
        }
    }
}

text_serde!(XenSpec, "XenSpec", "^(debian|dir|nix|nixos|file|source|debsrc):.+$");

/// The Xen build under test: its hypervisor, and where its tools come from when not from there too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Subject {
    /// The hypervisor, and everything else unless `tools` is given.
    pub hypervisor: XenSpec,
    /// Tools and development files from another build of the same major.minor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<XenSpec>,
    /// `--expect-version`, or the scenario's `xen.expect-version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_version: Option<String>,
    /// What is done to its source before and while it is built.
    #[serde(default, skip_serializing_if = "Recipe::is_empty")]
    pub recipe: Recipe,
}

impl Subject {
    /// That build, as it is.
    pub fn of(hypervisor: XenSpec) -> Subject {
        Subject { hypervisor, tools: None, expect_version: None, recipe: Recipe::default() }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.hypervisor, self.recipe)?;
        if let Some(tools) = &self.tools {
            write!(f, "+{tools}")?;
        }
        Ok(())
    }
}

/// dom0's kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KernelSpec {
    /// `debian:SUITE`.
    Debian {
        /// The suite.
        suite: String,
    },
    /// `file:IMAGE[,modules=DIR]`; `DIR` is what holds `modules.dep`.
    File {
        /// bzImage, vmlinux, Image or a compressed one.
        image: PathBuf,
        /// `…/lib/modules/VERSION`; none for a kernel with everything built in.
        modules: Option<PathBuf>,
    },
}

impl FromStr for KernelSpec {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        const FORMS: &str = "expected debian:SUITE or file:IMAGE[,modules=DIR]";
        match s.split_once(':') {
            Some(("debian", suite)) => Ok(KernelSpec::Debian { suite: word(suite, "Debian suite")? }),
            Some(("file", rest)) => {
                let (image, modules) = match rest.split_once(",modules=") {
                    Some((image, dir)) => (image, Some(path(dir, FORMS)?)),
                    None => (rest, None),
                };
                Ok(KernelSpec::File { image: path(image, FORMS)?, modules })
            }
            _ => Err(format!("`{s}` does not name a kernel; {FORMS}")),
        }
    }
}

impl fmt::Display for KernelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelSpec::Debian { suite } => write!(f, "debian:{suite}"),
            KernelSpec::File { image, modules: None } => write!(f, "file:{}", image.display()),
            KernelSpec::File { image, modules: Some(m) } => {
                write!(f, "file:{},modules={}", image.display(), m.display())
            }
        }
    }
}

text_serde!(KernelSpec, "KernelSpec", "^(debian|file):.+$");

/// The rest of dom0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UserlandSpec {
    /// `minimal[:SUITE]`: a small init of our own; the suite follows the Xen build when it is not said.
    Minimal {
        /// Which suite's libraries.
        suite: Option<String>,
    },
    /// `systemd[:SUITE]`: a whole distribution dom0.
    Systemd {
        /// Which suite.
        suite: Option<String>,
    },
    /// `tar:FILE`: the user's own root.
    Tar(PathBuf),
}

impl FromStr for UserlandSpec {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        const FORMS: &str = "expected minimal[:SUITE], systemd[:SUITE] or tar:FILE";
        let (kind, rest) = match s.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (s, None),
        };
        let suite = |rest: Option<&str>| rest.map(|r| word(r, "Debian suite")).transpose();
        match kind {
            "minimal" => Ok(UserlandSpec::Minimal { suite: suite(rest)? }),
            "systemd" => Ok(UserlandSpec::Systemd { suite: suite(rest)? }),
            "tar" => path(rest.unwrap_or_default(), FORMS).map(UserlandSpec::Tar),
            _ => {
                let near = ["minimal", "systemd", "tar"]
                    .into_iter()
                    .find(|k| strsim::damerau_levenshtein(k, kind) <= 2);
                let hint = near.map(|k| format!(", did you mean `{k}`?")).unwrap_or_default();
                Err(format!("no userland is called `{s}`{hint}; {FORMS}"))
            }
        }
    }
}

impl fmt::Display for UserlandSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |f: &mut fmt::Formatter<'_>, kind: &str, suite: &Option<String>| match suite {
            Some(s) => write!(f, "{kind}:{s}"),
            None => write!(f, "{kind}"),
        };
        match self {
            UserlandSpec::Minimal { suite } => with(f, "minimal", suite),
            UserlandSpec::Systemd { suite } => with(f, "systemd", suite),
            UserlandSpec::Tar(p) => write!(f, "tar:{}", p.display()),
        }
    }
}

/// What plays the devices of HVM guests, where the Xen build does not bring it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum DeviceModelSpec {
    /// `none`: what the Xen build brings, or nothing.
    #[default]
    None,
    /// `debian[:SUITE]`: Debian's qemu-system-xen; of the userland's suite when it is not said.
    Debian {
        /// Which suite.
        suite: Option<String>,
    },
}

impl FromStr for DeviceModelSpec {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        const FORMS: &str = "expected none or debian[:SUITE]";
        match s.split_once(':') {
            None if s == "none" => Ok(DeviceModelSpec::None),
            None if s == "debian" => Ok(DeviceModelSpec::Debian { suite: None }),
            Some(("debian", suite)) => {
                Ok(DeviceModelSpec::Debian { suite: Some(word(suite, "Debian suite")?) })
            }
            _ => {
                let kind = s.split(':').next().unwrap_or_default();
                let near = ["none", "debian"].into_iter().find(|k| strsim::damerau_levenshtein(k, kind) <= 2);
                let hint = near.map(|k| format!(", did you mean `{k}`?")).unwrap_or_default();
                Err(format!("no device model is called `{s}`{hint}; {FORMS}"))
            }
        }
    }
}

impl fmt::Display for DeviceModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceModelSpec::None => write!(f, "none"),
            DeviceModelSpec::Debian { suite: None } => write!(f, "debian"),
            DeviceModelSpec::Debian { suite: Some(s) } => write!(f, "debian:{s}"),
        }
    }
}

text_serde!(DeviceModelSpec, "DeviceModelSpec", "^(none|debian(:.+)?)$");

text_serde!(UserlandSpec, "UserlandSpec", "^(minimal(:.+)?|systemd(:.+)?|tar:.+)$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_round_trip() {
        for s in [
            "debian:trixie",
            "debian:bookworm@4.17.5+72-g01140da4e8-1",
            "dir:/opt/xen",
            "nix:/nix/store/0c1f6qg1kzszkhqfc7dqrq3c8sk4b9m5-xen-4.20.1",
            "nixos:/run/current-system",
            "file:xen/xen",
            "source:.",
            "source:/xen.git@origin/staging-4.20",
            "source:/a@b@",
            "debsrc:trixie",
            "debsrc:sid@4.20.0-1",
        ] {
            assert_eq!(s.parse::<XenSpec>().unwrap().to_string(), s);
        }
        for s in ["debian:sid", "file:/boot/vmlinuz", "file:/v,modules=/lib/modules/6.1"] {
            assert_eq!(s.parse::<KernelSpec>().unwrap().to_string(), s);
        }
        for s in ["minimal", "minimal:trixie", "systemd", "tar:root.tar"] {
            assert_eq!(s.parse::<UserlandSpec>().unwrap().to_string(), s);
        }
        for s in ["none", "debian", "debian:trixie"] {
            assert_eq!(s.parse::<DeviceModelSpec>().unwrap().to_string(), s);
        }
    }

    #[test]
    fn wrong_specs_say_what_was_expected() {
        assert!("debain:trixie".parse::<XenSpec>().unwrap_err().contains("did you mean `debian:`"));
        for s in [
            "",
            "trixie",
            "dir:",
            "debian:",
            "debian:a b",
            "debian:x@",
            "source:",
            "source:@v1",
            "source:x@-v",
            "debsrc:",
        ] {
            assert!(s.parse::<XenSpec>().is_err(), "{s}");
        }
        assert!("debain".parse::<DeviceModelSpec>().unwrap_err().contains("did you mean `debian`"));
        for s in ["", "trixie", "none:trixie", "debian:", "debian:a b", "qemu"] {
            let e = s.parse::<DeviceModelSpec>().unwrap_err();
            assert!(e.contains("expected none or debian[:SUITE]") || e.contains("not a Debian suite"), "{e}");
        }
        assert!("sytemd".parse::<UserlandSpec>().unwrap_err().contains("did you mean `systemd`"));
    }
}
