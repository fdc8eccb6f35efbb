//! `boot-files`: the hypervisor, its links, EFI image and configuration in the build's `boot/`.

use super::{At, JudgeContext, StepKind, say};
use crate::arch::Arch;
use crate::cause::Cause;
use crate::matcher::quote;
use crate::verdict::Check;
use crate::version::XenVersion;
use serde::{Deserialize, Serialize};

/// `boot-files: {layout: auto}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BootFiles {
    /// Whose layout to judge by; `auto` takes the one the build's files are like.
    #[serde(default)]
    pub layout: Layout,
    /// Whether an EFI image must be there; not said: judged if the layout always has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub efi: Option<bool>,
}

/// Who lays boot files out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Told by the files.
    #[default]
    Auto,
    /// `make install` of upstream's tree, and nixpkgs, which uses it.
    Upstream,
    /// Debian's packages.
    Debian,
}

/// What is in `boot/`; gathered by the xen crate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BootFilesEvidence {
    /// Why there is no `boot/`, if there is none.
    pub absent: Option<String>,
    /// `auto` resolved: `upstream`, `debian` or `bare` (a single file).
    pub layout: String,
    /// The hypervisor's version as the image carries it.
    pub version: Option<String>,
    /// Every file and link.
    pub files: Vec<BootFile>,
}

/// A file of `boot/`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BootFile {
    /// Relative to the build's root: `boot/xen-4.20.gz`.
    pub path: String,
    /// What a link says, if it is one.
    pub link: Option<String>,
    /// The link leads to a file of the build.
    pub resolves: bool,
    /// `elf32`, `elf64`, `arm64-image`, `pe`, `gzip(elf32)`, `config`, `flask-policy`, `other`.
    pub kind: String,
    /// Architecture, where the file has one.
    pub arch: Option<String>,
    /// Build-id, where the file has one.
    pub build_id: Option<String>,
    /// What is wrong with it, for a file that is damaged.
    pub damage: Option<String>,
    /// Sections of a PE.
    #[serde(default)]
    pub sections: Vec<String>,
}

impl StepKind for BootFiles {
    const NAME: &'static str = "boot-files";
    const AT: At = At::Build;
    const PRIMARY: Option<&'static str> = Some("layout");
    type Evidence = BootFilesEvidence;

    fn judge(&self, evidence: &BootFilesEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let place = cx.place(Self::NAME, "layout");
        if let Some(why) = &evidence.absent {
            let message = format!("boot files: expected the build to have them, it has none: {why}");
            return vec![Check::fail("boot files", Cause::PartMissing, message).at(place)];
        }
        let layout = match self.layout {
            Layout::Auto => evidence.layout.as_str(),
            Layout::Upstream => "upstream",
            Layout::Debian => "debian",
        };
        let files = Files { all: &evidence.files, arch: cx.arch, image_id: say::fact(cx, "build.build-id") };
        let names = match layout {
            "bare" => None,
            _ => match Names::of(layout, evidence, cx) {
                Ok(names) => Some(names),
                Err(check) => return vec![check.at(place)],
            },
        };
        let mut checks = match &names {
            Some(names) => files.named(names),
            None => files.bare(),
        };
        let efi = self.efi.unwrap_or(layout == "debian");
        checks.extend(files.efi(names.as_ref(), efi).map(|check| check.at(cx.place(Self::NAME, "efi"))));
        checks.extend(files.links());
        checks
            .into_iter()
            .map(|check| if check.place.is_none() { check.at(place.clone()) } else { check })
            .collect()
    }
}

/// What the files of a layout are called.
struct Names {
    /// The hypervisor, without `boot/`.
    image: String,
    /// Links to it.
    links: Vec<String>,
    config: String,
    efi: String,
    /// The full version or the branch, which a Flask policy's name ends in.
    version: Option<String>,
}

impl Names {
    /// - upstream (`xen/Makefile`, `_install`; nixpkgs uses it): `xen-FULL.gz` and the links `xen-MAJOR.MINOR.gz`, `xen-MAJOR.gz`,
    ///   `xen.gz`, and `xen-FULL.config`. The suffix is `.gz` on x86 only (`CONFIG_XEN_INSTALL_SUFFIX` in `config/*.mk`).
    /// - Debian (its packages of 4.17 and 4.20): `xen-MAJOR.MINOR-ARCH`, on amd64 with `.gz`, beside it `.config` and `.efi`; no
    ///   links.
    fn of(layout: &str, evidence: &BootFilesEvidence, cx: &JudgeContext<'_>) -> Result<Names, Check> {
        let suffix = if cx.arch == Arch::X86_64 { ".gz" } else { "" };
        let carried = evidence.version.clone().or_else(|| say::fact(cx, "build.image-version"));
        let version = carried.as_deref().and_then(|v| v.parse::<XenVersion>().ok());
        if layout == "debian" {
            let branch = version.map(|v| v.branch()).or_else(|| say::fact(cx, "build.branch"));
            let Some(branch) = branch else { return Err(no_version()) };
            let stem = format!("xen-{branch}-{}", cx.arch.debian());
            return Ok(Names {
                image: format!("{stem}{suffix}"),
                links: Vec::new(),
                config: format!("{stem}.config"),
                efi: format!("{stem}.efi"),
                version: None,
            });
        }
        // Without EFI an image carries no more than its branch; then the name of the file itself has the full version.
        let full = match version {
            Some(v) if !v.extra.is_empty() => v,
            short => match named_version(evidence, suffix, short.as_ref()) {
                Some(v) => v,
                None => return Err(no_version()),
            },
        };
        Ok(Names {
            image: format!("xen-{full}{suffix}"),
            links: vec![
                format!("xen-{}{suffix}", full.branch()),
                format!("xen-{}{suffix}", full.major),
                format!("xen{suffix}"),
            ],
            config: format!("xen-{full}.config"),
            efi: format!("xen-{full}.efi"),
            version: Some(full.to_string()),
        })
    }
}

fn no_version() -> Check {
    let message = "boot files: not judged: the hypervisor's version is not known, so neither are their names";
    Check::not_judged("boot files", message)
}

/// The version in the name of the one hypervisor file whose branch fits.
fn named_version(
    evidence: &BootFilesEvidence,
    suffix: &str,
    branch: Option<&XenVersion>,
) -> Option<XenVersion> {
    let versions = evidence.files.iter().filter(|f| f.link.is_none()).filter_map(|f| {
        let name = f.name().strip_prefix("xen-")?.strip_suffix(suffix)?;
        name.parse::<XenVersion>()
            .ok()
            .filter(|v| !v.extra.is_empty() && !v.extra.ends_with(".efi") && !v.extra.ends_with(".config"))
    });
    let mut fitting = versions.filter(|v| branch.is_none_or(|b| b.branch() == v.branch()));
    let one = fitting.next()?;
    fitting.next().is_none().then_some(one)
}

impl BootFile {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    fn is_hypervisor(&self) -> bool {
        matches!(self.kind.as_str(), "elf32" | "arm64-image" | "gzip(elf32)" | "gzip(arm64-image)")
    }
}

/// The files there are.
struct Files<'a> {
    all: &'a [BootFile],
    arch: Arch,
    /// Build-id of the image under test.
    image_id: Option<String>,
}

impl Files<'_> {
    fn find(&self, name: &str) -> Option<&BootFile> {
        self.all.iter().find(|f| f.name() == name)
    }

    /// The files that a layout has by name.
    fn named(&self, names: &Names) -> Vec<Check> {
        let mut checks = vec![match self.find(&names.image) {
            Some(file) => self.hypervisor(file),
            None => missing(&names.image, "the hypervisor"),
        }];
        for link in &names.links {
            checks.push(self.link(link, &names.image));
        }
        checks.push(match self.find(&names.config) {
            Some(file) if file.kind == "config" => {
                Check::pass(&names.config, format!("{} is there", file.path))
            }
            Some(file) => {
                let message =
                    format!("{}: expected the build's configuration, it is {}", file.path, file.kind);
                Check::fail(&names.config, Cause::BootFileWrong, message)
            }
            None => missing(&names.config, "the build's configuration"),
        });
        if let Some(version) = &names.version {
            for policy in self.all.iter().filter(|f| f.link.is_none() && f.name().starts_with("xenpolicy-")) {
                let expected = format!("xenpolicy-{version}");
                let check = if policy.name() == expected {
                    Check::pass(expected, format!("{} is there", policy.path))
                } else {
                    let message =
                        format!("{}: expected the Flask policy to be called {expected}", policy.path);
                    Check::fail(expected, Cause::BootFileWrong, message)
                };
                checks.push(check);
            }
        }
        checks
    }

    /// A single file: it is a hypervisor, or an EFI image, for this architecture.
    fn bare(&self) -> Vec<Check> {
        let images: Vec<_> = self.all.iter().filter(|f| f.link.is_none() && f.kind != "config").collect();
        if images.is_empty() {
            return vec![missing("xen", "the hypervisor")];
        }
        images.into_iter().filter(|f| f.kind != "pe").map(|f| self.hypervisor(f)).collect()
    }

    /// A hypervisor that QEMU, GRUB or firmware can load: whole, of the right kind and architecture, and the one under test.
    fn hypervisor(&self, file: &BootFile) -> Check {
        let title = file.name();
        let wrong = |cause, what: String| Check::fail(title, cause, format!("{}: {what}", file.path));
        if let Some(target) = &file.link {
            return wrong(
                Cause::BootFileWrong,
                format!("expected the hypervisor itself, it is a link to {target}"),
            );
        }
        if let Some(damage) = &file.damage {
            return wrong(Cause::BootFileWrong, format!("expected a whole image, {damage}"));
        }
        if file.arch.as_deref().is_some_and(|arch| arch != self.arch.name()) {
            let saw = file.arch.as_deref().unwrap_or("unknown");
            return wrong(
                Cause::WrongArchitecture,
                format!("expected it to be for {}, it is for {saw}", self.arch),
            );
        }
        if !file.is_hypervisor() {
            return wrong(Cause::BootFileWrong, format!("expected a hypervisor, it is {}", file.kind));
        }
        match (&self.image_id, &file.build_id) {
            (Some(image), Some(own)) if !image.eq_ignore_ascii_case(own) => wrong(
                Cause::BuildIdMismatch,
                format!("expected build-id {image}, that of the image under test, saw {own}"),
            ),
            (_, None) => Check::pass(
                title,
                format!("{} is a hypervisor ({}), without a build-id", file.path, file.kind),
            ),
            (_, Some(own)) => {
                Check::pass(title, format!("{} is a hypervisor ({}), build-id {own}", file.path, file.kind))
            }
        }
    }

    /// A link to the hypervisor.
    fn link(&self, name: &str, image: &str) -> Check {
        let Some(file) = self.find(name) else { return missing(name, &format!("a link to {image}")) };
        let wrong = |what: String| Check::fail(name, Cause::BootFileWrong, format!("{}: {what}", file.path));
        match &file.link {
            None => wrong(format!("expected a link to {image}, it is a file of its own ({})", file.kind)),
            Some(target) if target.rsplit('/').next() != Some(image) => {
                wrong(format!("expected a link to {image}, it leads to {}", quote(target)))
            }
            Some(target) if !file.resolves => {
                wrong(format!("expected its target {} in the build, it is not there", quote(target)))
            }
            Some(_) => Check::pass(name, format!("{} leads to {image}", file.path)),
        }
    }

    /// The EFI image: a PE with code and data in it. Its build-id is its own: on x86 it is linked apart from the ELF image.
    fn efi(&self, names: Option<&Names>, wanted: bool) -> Option<Check> {
        let found = match names {
            Some(names) => self.find(&names.efi),
            None => self.all.iter().find(|f| f.kind == "pe"),
        };
        let name = names.map_or_else(|| "xen.efi".to_owned(), |n| n.efi.clone());
        let Some(file) = found else { return wanted.then(|| missing(&name, "the EFI image")) };
        let wrong = |cause, what: String| Some(Check::fail(&name, cause, format!("{}: {what}", file.path)));
        if let Some(damage) = &file.damage {
            return wrong(Cause::BootFileWrong, format!("expected a whole PE, {damage}"));
        }
        // An arm64 Image has a PE header and is its own EFI image.
        if file.kind != "pe" && !(self.arch == Arch::Aarch64 && file.kind == "arm64-image") {
            return wrong(Cause::BootFileWrong, format!("expected a PE, it is {}", file.kind));
        }
        if file.arch.as_deref() != Some(self.arch.name()) {
            let saw = file.arch.as_deref().unwrap_or("one that cannot be told");
            return wrong(
                Cause::WrongArchitecture,
                format!("expected it to be for {}, it is for {saw}", self.arch),
            );
        }
        if !file.sections.iter().any(|s| s == ".text") {
            let saw = if file.sections.is_empty() { "none".to_owned() } else { file.sections.join(" ") };
            return wrong(
                Cause::BootFileWrong,
                format!("expected a PE with a section .text, its sections: {saw}"),
            );
        }
        Some(Check::pass(
            &name,
            format!("{} is a PE for {}, sections {}", file.path, self.arch, file.sections.join(" ")),
        ))
    }

    /// No other link leads nowhere.
    fn links(&self) -> Vec<Check> {
        let broken = self.all.iter().filter(|f| f.link.is_some() && !f.resolves);
        let broken: Vec<_> =
            broken.map(|f| format!("{} -> {}", f.path, f.link.as_deref().unwrap_or(""))).collect();
        if broken.is_empty() {
            return Vec::new();
        }
        let message = format!(
            "links: expected each to lead to a file of the build, these do not: {}",
            broken.join(", ")
        );
        vec![Check::fail("links", Cause::BootFileWrong, message)]
    }
}

fn missing(name: &str, what: &str) -> Check {
    Check::fail(name, Cause::BootFileMissing, format!("{name}: expected {what}, it is not there"))
}

#[cfg(test)]
mod tests;
