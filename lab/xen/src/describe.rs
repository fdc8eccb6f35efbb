//! What `xenlab inspect` shows of a Xen build: as data, and as text for people.

use crate::Library;
use crate::build::XenBuild;
use crate::image::{CompileInfo, Damage, Image, VersionSource};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use xenlab_model::step::boot_files::BootFile;

/// A Xen build described. Serialises to the JSON of `inspect --json`; `Display` is the text.
#[derive(Debug, Clone, Serialize)]
pub struct Description {
    /// The subject, as it was named.
    pub spec: String,
    /// Architecture it was looked at for.
    pub arch: String,
    /// Declared version and by whom.
    pub declared: Option<crate::Declared>,
    /// The system that it came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemDescription>,
    /// The hypervisor.
    pub hypervisor: HypervisorDescription,
    /// The EFI image, where it is another file.
    pub efi: Option<EfiDescription>,
    /// Options set in the configuration and where it was read.
    pub config: Option<ConfigDescription>,
    /// Boot files and links.
    pub boot: Vec<BootFile>,
    /// The tools.
    pub tools: Option<ToolsDescription>,
    /// Xen's shared libraries, by name without version.
    pub libraries: BTreeMap<String, Library>,
    /// Options of Xen's command line that the image knows; none where they were not found in it.
    pub options: Option<BTreeSet<String>>,
    /// pkg-config modules with their `.pc` files.
    pub development: Option<DevelopmentDescription>,
    /// What the build lacks, a line each.
    pub missing: Vec<String>,
    /// What is wrong with it, a line each.
    pub problems: Vec<String>,
}

/// The hypervisor described. Fields as in [`crate::Hypervisor`] and [`Image`].
#[derive(Debug, Clone, Serialize)]
pub struct HypervisorDescription {
    pub from: String,
    pub file: PathBuf,
    pub sha256: String,
    pub size: u64,
    pub kind: String,
    pub machine: String,
    pub version: Option<String>,
    pub versions: Vec<VersionDescription>,
    pub build_id: Option<String>,
    pub compile: CompileInfo,
    pub package_version: Option<String>,
    pub direct_boot: Result<PathBuf, String>,
    pub damage: Option<Damage>,
}

/// A version and where it was read.
#[derive(Debug, Clone, Serialize)]
pub struct VersionDescription {
    pub version: String,
    pub from: VersionSource,
}

/// A NixOS system described. Fields as in [`crate::System`]; `closure` is the number of its store paths.
#[derive(Debug, Clone, Serialize)]
pub struct SystemDescription {
    pub toplevel: PathBuf,
    pub label: String,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub init: PathBuf,
    pub kernel_params: Vec<String>,
    pub xen_params: Vec<String>,
    pub closure: usize,
    pub disk: crate::RootDisk,
    pub module: bool,
}

/// The EFI image described. Fields as in [`crate::EfiImage`].
#[derive(Debug, Clone, Serialize)]
pub struct EfiDescription {
    pub file: PathBuf,
    pub sha256: String,
    pub size: u64,
    pub same_file: bool,
    pub version: Option<String>,
    pub build_id: Option<String>,
    pub sections: Vec<String>,
    pub damage: Option<Damage>,
}

/// The configuration described. Fields as in [`crate::Kconfig`].
#[derive(Debug, Clone, Serialize)]
pub struct ConfigDescription {
    pub from: String,
    pub title_version: Option<String>,
    pub yes: Vec<String>,
    pub values: BTreeMap<String, String>,
}

/// The tools described. Fields as in [`crate::Tools`]; `files` is their number.
#[derive(Debug, Clone, Serialize)]
pub struct ToolsDescription {
    pub from: String,
    pub root: PathBuf,
    pub mount: PathBuf,
    pub branch: Option<String>,
    pub key: String,
    pub files: usize,
    pub daemons: Vec<String>,
    pub programs: BTreeMap<String, PathBuf>,
    pub wrappers: BTreeMap<String, PathBuf>,
    pub bin_dirs: Vec<PathBuf>,
    pub lib_dirs: Vec<PathBuf>,
    pub needs: Vec<String>,
    pub interpreter: Option<PathBuf>,
    pub damage: Option<Damage>,
}

/// The development files described. Fields as in [`crate::Development`].
#[derive(Debug, Clone, Serialize)]
pub struct DevelopmentDescription {
    pub from: String,
    pub modules: BTreeMap<String, PathBuf>,
    pub include_dirs: Vec<PathBuf>,
}

/// Read off the image that boots, else off the file itself.
fn options(h: &crate::Hypervisor) -> Option<BTreeSet<String>> {
    let bytes = std::fs::read(h.image.as_ref().unwrap_or(&h.original)).ok()?;
    crate::image::options(&bytes)
}

impl XenBuild {
    /// What `xenlab inspect` shows.
    pub fn describe(&self) -> Description {
        let h = &self.hypervisor;
        let versions = |i: &Image| {
            i.versions
                .iter()
                .map(|v| VersionDescription { version: v.version.clone(), from: v.from })
                .collect::<Vec<_>>()
        };
        Description {
            spec: self.subject.to_string(),
            arch: self.arch.to_string(),
            declared: self.declared.clone(),
            system: self.system.as_ref().map(|s| SystemDescription {
                toplevel: s.toplevel.clone(),
                label: s.label.clone(),
                kernel: s.kernel.clone(),
                initrd: s.initrd.clone(),
                init: s.init.clone(),
                kernel_params: s.kernel_params.clone(),
                xen_params: s.xen_params.clone(),
                closure: s.closure.len(),
                disk: s.disk.clone(),
                module: s.module,
            }),
            hypervisor: HypervisorDescription {
                from: h.from.clone(),
                file: h.original.clone(),
                sha256: h.digest.clone(),
                size: h.facts.size,
                kind: h.facts.kind_name(),
                machine: h.facts.machine.clone(),
                version: h.version().map(str::to_owned),
                versions: versions(&h.facts),
                build_id: h.facts.build_id.clone(),
                compile: h.facts.compile.clone(),
                package_version: h.package_version.clone(),
                direct_boot: h.image.clone().ok_or_else(|| h.no_image.clone().unwrap_or_default()),
                damage: h.damage.clone(),
            },
            efi: h.efi.as_ref().map(|e| EfiDescription {
                file: e.path.clone(),
                sha256: e.digest.clone(),
                size: e.facts.size,
                same_file: e.digest == h.digest,
                version: e.facts.version().map(str::to_owned),
                build_id: e.facts.build_id.clone(),
                sections: e
                    .facts
                    .pe
                    .as_ref()
                    .map(|p| p.sections.iter().map(|s| s.name.clone()).collect())
                    .unwrap_or_default(),
                damage: e.damage.clone(),
            }),
            config: h.config.as_ref().map(|k| ConfigDescription {
                from: k.from.clone(),
                title_version: k.title_version.clone(),
                yes: k.yes.iter().cloned().collect(),
                values: k.values.clone(),
            }),
            boot: self.boot.files.clone(),
            tools: self.tools.as_ref().map(|t| ToolsDescription {
                from: t.from.clone(),
                root: t.root.clone(),
                mount: t.mount.clone(),
                branch: t.branch.clone(),
                key: t.key.clone(),
                files: t.files.len(),
                daemons: t.daemons.iter().cloned().collect(),
                programs: t.programs.clone(),
                wrappers: t.wrappers.clone(),
                bin_dirs: t.bin_dirs.clone(),
                lib_dirs: t.lib_dirs.clone(),
                needs: t.needs.clone(),
                interpreter: t.interpreter.clone(),
                damage: t.damage.clone(),
            }),
            libraries: crate::libraries(self),
            options: options(h),
            development: self.development.as_ref().map(|d| DevelopmentDescription {
                from: d.from.clone(),
                modules: d.modules.clone(),
                include_dirs: d.include_dirs.clone(),
            }),
            missing: self.missing(),
            problems: self.problems(),
        }
    }

    /// What the build lacks that others have.
    fn missing(&self) -> Vec<String> {
        let h = &self.hypervisor;
        let mut out = Vec::new();
        let mut lacks = |is: bool, what: &str| {
            if is {
                out.push(what.to_owned());
            }
        };
        lacks(h.image.is_none(), "an image for direct boot");
        lacks(h.efi.is_none(), "an EFI image");
        lacks(
            h.config.is_none(),
            "the hypervisor's configuration (build.config and build.shadow-paging are unknown)",
        );
        lacks(h.build_id().is_none(), "a build-id (that this very image runs cannot be shown)");
        lacks(h.version().is_none(), "a full version in the image");
        lacks(self.declared.is_none(), "a declared version (give one with --expect-version)");
        lacks(self.tools.is_none(), "tools (name another build's with --tools)");
        lacks(self.development.is_none(), "development files (no pkgconfig/*.pc)");
        for what in &self.left_out {
            lacks(true, what);
        }
        if let Some(lender) = &self.borrowed {
            lacks(
                true,
                &format!("tools of its own: those of {lender} are borrowed, and judged as no part of it"),
            );
        }
        if let Some(t) = &self.tools {
            for p in ["xl", "xenconsoled", "xen-init-dom0", "test-xenstore"] {
                lacks(!t.programs.contains_key(p), p);
            }
            lacks(t.daemons.is_empty(), "a xenstore daemon");
        }
        for f in self.boot.files.iter().filter(|f| !f.resolves) {
            out.push(format!("what {} links to ({})", f.path, f.link.as_deref().unwrap_or_default()));
        }
        out
    }

    /// What is wrong with the build, as far as its files tell.
    fn problems(&self) -> Vec<String> {
        let h = &self.hypervisor;
        let mut out = Vec::new();
        let say = |d: &Option<Damage>, what: &str, out: &mut Vec<String>| {
            if let Some(d) = d {
                out.push(format!("{what}: {} [{}]", d.text, d.cause));
            }
        };
        say(&h.damage, "hypervisor", &mut out);
        if let Some(e) = h.efi.as_ref().filter(|e| e.path != h.original) {
            say(&e.damage, "EFI image", &mut out);
        }
        if let Some(t) = &self.tools {
            say(&t.damage, "tools", &mut out);
            if let (Some(tools), Some(hypervisor)) = (&t.branch, h.branch())
                && *tools != hypervisor
            {
                out.push(format!("tools are of {tools}, the hypervisor of {hypervisor}: xl will not work [build.tools-mismatch]"));
            }
        }
        let first = h.facts.versions.first();
        for v in h.facts.versions.iter().skip(1).filter(|v| Some(&v.version) != first.map(|f| &f.version)) {
            out.push(format!("the image disagrees with itself: {} by {}", v.version, v.from.describe()));
        }
        if let (Some(k), Some(v)) = (&h.config, h.version())
            && let Some(title) = k.title_version.as_deref().filter(|t| *t != v)
        {
            out.push(format!("{} is the configuration of {title}, the image carries {v}", k.from));
        }
        if let (Some(d), Some(v)) = (&self.declared, h.version())
            && d.version != v
        {
            out.push(format!(
                "declared {} by {}, the image carries {v} [build.version-mismatch]",
                d.version, d.by
            ));
        }
        out
    }
}

/// A line `name   value`.
fn line(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {name:<13}{value}")
}

fn paths(list: &[PathBuf]) -> String {
    list.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let h = &self.hypervisor;
        let or = |s: &Option<String>, none: &str| s.clone().unwrap_or_else(|| none.to_owned());
        writeln!(f, "{} for {}", self.spec, self.arch)?;
        match &self.declared {
            Some(d) => line(f, "declared", format_args!("{} by {}", d.version, d.by))?,
            None => line(f, "declared", "nothing: no expected version")?,
        }
        if let Some(s) = &self.system {
            writeln!(f, "system {}", s.toplevel.display())?;
            line(f, "label", &s.label)?;
            line(f, "kernel", s.kernel.display())?;
            line(f, "initrd", s.initrd.display())?;
            line(
                f,
                "kernel's line",
                format_args!("init={} {}", s.init.display(), s.kernel_params.join(" ")),
            )?;
            line(f, "Xen's line", s.xen_params.join(" "))?;
            line(f, "closure", format_args!("{} store paths", s.closure))?;
            let by = s.disk.label.as_ref().map(|l| format!("label {l}"));
            let by = by.or_else(|| s.disk.uuid.as_ref().map(|u| format!("UUID {u}")));
            line(f, "root", format_args!("{}, by {}", s.disk.fs, by.as_deref().unwrap_or("/dev/vda")))?;
            let module = "no: there is no way in (nix/nixos.nix)";
            line(f, "lab's module", if s.module { "yes" } else { module })?;
        }
        writeln!(f, "hypervisor, from {}", h.from)?;
        line(f, "file", format_args!("{} ({}, {} bytes)", h.file.display(), h.kind, h.size))?;
        line(f, "sha256", &h.sha256)?;
        for v in &h.versions {
            line(f, "version", format_args!("{} by {}", v.version, v.from.describe()))?;
        }
        if h.versions.is_empty() {
            line(f, "version", "none found")?;
        }
        line(f, "build-id", or(&h.build_id, "none"))?;
        if let Some(p) = &h.package_version {
            line(f, "package", p)?;
        }
        let c = &h.compile;
        line(f, "compiler", or(&c.compiler, "unknown"))?;
        if let (Some(by), Some(domain)) = (&c.by, &c.domain) {
            line(f, "compiled by", format_args!("{by}@{domain}"))?;
        }
        for (name, value) in [("compiled on", &c.host), ("compiled at", &c.date), ("changeset", &c.changeset)]
        {
            if let Some(value) = value {
                line(f, name, value)?;
            }
        }
        if let Some(debug) = c.debug {
            line(f, "debug", if debug { "yes" } else { "no" })?;
        }
        match &h.direct_boot {
            Ok(p) => line(f, "direct boot", p.display())?,
            Err(why) => line(f, "direct boot", format_args!("no: {why}"))?,
        }
        match &self.efi {
            Some(e) if e.same_file => line(f, "EFI image", "the same file")?,
            Some(e) => {
                line(f, "EFI image", format_args!("{} ({} bytes)", e.file.display(), e.size))?;
                line(f, "  version", or(&e.version, "none found"))?;
                line(f, "  build-id", or(&e.build_id, "none"))?;
                line(f, "  sections", e.sections.join(" "))?;
            }
            None => line(f, "EFI image", "none")?,
        }
        if let Some(k) = &self.config {
            line(f, "config", format_args!("{} ({} options set)", k.from, k.yes.len() + k.values.len()))?;
        }
        if !self.boot.is_empty() {
            writeln!(f, "boot files")?;
            for b in &self.boot {
                match &b.link {
                    Some(l) => writeln!(
                        f,
                        "  {} -> {l}{}",
                        b.path,
                        if b.resolves { "" } else { " (leads nowhere)" }
                    )?,
                    None => writeln!(f, "  {} ({})", b.path, b.kind)?,
                }
            }
        }
        if let Some(t) = &self.tools {
            writeln!(f, "tools, from {}", t.from)?;
            line(f, "version", or(&t.branch, "unknown"))?;
            line(f, "in dom0 at", t.mount.display())?;
            line(f, "programs", paths(&t.bin_dirs))?;
            line(f, "libraries", paths(&t.lib_dirs))?;
            line(f, "store daemon", t.daemons.join(" "))?;
            if let Some(w) = t.wrappers.get("xl") {
                line(
                    f,
                    "xl",
                    format_args!(
                        "{} behind the wrapper {}",
                        t.programs.get("xl").map_or(Path::new("?"), |p| p).display(),
                        w.display()
                    ),
                )?;
            }
            if !t.needs.is_empty() {
                line(f, "needs", t.needs.join(" "))?;
            }
        }
        if let Some(d) = &self.development {
            writeln!(f, "development files, from {}", d.from)?;
            line(f, "modules", d.modules.keys().cloned().collect::<Vec<_>>().join(" "))?;
            if !d.include_dirs.is_empty() {
                line(f, "headers", paths(&d.include_dirs))?;
            }
        }
        for (title, list) in [("missing", &self.missing), ("problems", &self.problems)] {
            if !list.is_empty() {
                writeln!(f, "{title}")?;
                for l in list {
                    writeln!(f, "  {l}")?;
                }
            }
        }
        Ok(())
    }
}
