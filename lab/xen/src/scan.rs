//! An install tree's parts, found by looking: boot files, tools, development files. Slow (it reads files), so its result is kept
//! in the store by the tree's stamps.

use crate::build::{BootFiles, Development, Tools};
use crate::image::{self, Damage, Image};
use crate::tree::Tree;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use xenlab_model::arch::Arch;
use xenlab_model::step::boot_files::BootFile;

/// Raised whenever what is found changes, so that what an older xenlab kept is looked for again.
pub(crate) const FORMAT: u32 = 7;

/// What a tree has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scan {
    /// Where the tree lies in dom0.
    pub(crate) mount: PathBuf,
    /// Hypervisor images that are no links, with what they are: those for direct boot first.
    pub(crate) images: BTreeMap<PathBuf, Image>,
    /// The image to boot directly.
    pub(crate) direct: Option<PathBuf>,
    /// The image for firmware.
    pub(crate) efi: Option<PathBuf>,
    /// A configuration, relative to the root.
    pub(crate) config: Option<PathBuf>,
    pub(crate) boot: BootFiles,
    pub(crate) tools: Option<Tools>,
    pub(crate) development: Option<Development>,
}

/// Looks at a tree, or at those that lie in it at `tops`. `from` is the specification, for the parts to name.
pub(crate) fn scan(
    root: &Path,
    tree: &Tree,
    tops: &[PathBuf],
    arch: Arch,
    from: &str,
) -> std::io::Result<Scan> {
    let modules = modules(tree);
    let mount = mount(root, tree, &modules);
    let (boot, images) = boot_files(root, tree, tops, &mount)?;
    let direct = choose(tree, &mount, &images, arch, false);
    let efi = choose(tree, &mount, &images, arch, true).or_else(|| {
        // An arm64 image with a PE header is both.
        direct.clone().filter(|d| images.get(d).is_some_and(|i| i.pe.is_some()))
    });
    let config = direct.as_ref().or(efi.as_ref()).and_then(|image| config_of(tree, image));
    let tools = crate::tools::find(root, tree, &mount, arch, from);
    let development = (!modules.is_empty()).then(|| Development {
        from: from.to_owned(),
        root: root.to_owned(),
        mount: mount.clone(),
        pc_dirs: {
            let mut dirs: Vec<PathBuf> =
                modules.values().filter_map(|p| p.parent().map(Path::to_owned)).collect();
            dirs.sort();
            dirs.dedup();
            dirs
        },
        include_dirs: header_dirs(tree),
        modules,
    });
    Ok(Scan { mount, images, direct, efi, config, boot, tools, development })
}

/// Xen's pkg-config modules, in folders where pkg-config would look. A prefix may be shared with other software, whose modules
/// are not what is judged.
fn modules(tree: &Tree) -> BTreeMap<String, PathBuf> {
    let module = |p: &PathBuf| {
        let dir = p.parent()?.file_name()?;
        let name = p.file_stem()?.to_str()?;
        let xens = name.starts_with("xen") || name == "xlutil";
        (dir == "pkgconfig" && p.extension()? == "pc" && xens).then(|| (name.to_owned(), p.clone()))
    };
    tree.nodes.iter().filter(|(_, n)| !n.dir).filter_map(|(p, _)| module(p)).collect()
}

fn header_dirs(tree: &Tree) -> Vec<PathBuf> {
    tree.named("xenctrl.h")
        .chain(tree.named("libxl.h"))
        .filter_map(|(p, _)| p.parent().map(Path::to_owned))
        .fold(Vec::new(), |mut dirs, d| {
            if !dirs.contains(&d) {
                dirs.push(d);
            }
            dirs
        })
}

/// Where the tree wants to lie. A `.pc` file knows where it was to be installed; without one the shape tells.
fn mount(root: &Path, tree: &Tree, modules: &BTreeMap<String, PathBuf>) -> PathBuf {
    for relative in modules.values() {
        let Ok(text) = std::fs::read_to_string(root.join(relative)) else { continue };
        let Some(libdir) = pc_variable(&text, "libdir") else { continue };
        let installed = Path::new(&libdir).join("pkgconfig").display().to_string();
        let dir = relative.parent().unwrap_or(relative).display().to_string();
        if let Some(mount) = installed.strip_suffix(&dir)
            && mount.starts_with('/')
        {
            return PathBuf::from(if mount == "/" { mount } else { mount.trim_end_matches('/') });
        }
    }
    let prefix = ["bin", "sbin", "lib", "lib64", "libexec"].iter().any(|d| tree.has_dir(Path::new(d)));
    let whole = ["usr", "etc", "var"].iter().any(|d| tree.has_dir(Path::new(d)));
    if prefix && !whole { root.to_owned() } else { PathBuf::from("/") }
}

/// A variable of a `.pc` file, with the variables in it put in.
fn pc_variable(text: &str, name: &str) -> Option<String> {
    let raw = |name: &str| {
        text.lines().find_map(|l| {
            l.split_once('=').filter(|(n, _)| n.trim() == name).map(|(_, v)| v.trim().to_owned())
        })
    };
    let mut value = raw(name)?;
    for _ in 0..8 {
        let Some(start) = value.find("${") else { break };
        let end = value[start..].find('}')? + start;
        let inner = raw(&value[start + 2..end])?;
        value.replace_range(start..=end, &inner);
    }
    Some(value)
}

/// Xen's files in `boot/` and in the folders where EFI images go.
fn boot_files(
    root: &Path,
    tree: &Tree,
    tops: &[PathBuf],
    mount: &Path,
) -> std::io::Result<(BootFiles, BTreeMap<PathBuf, Image>)> {
    let mut dirs: Vec<PathBuf> = tree
        .nodes
        .iter()
        .filter(|(p, n)| n.dir && (p.file_name().is_some_and(|f| f == "efi") || p.starts_with("boot/efi")))
        .map(|(p, _)| p.clone())
        .collect();
    dirs.splice(0..0, tops.iter().map(|top| top.join("boot")));
    dirs.dedup();
    let mut files = Vec::new();
    let mut images = BTreeMap::new();
    for dir in &dirs {
        for (path, node) in tree.in_dir(dir) {
            let name = path.file_name().and_then(|f| f.to_str()).unwrap_or_default();
            if !name.starts_with("xen") {
                continue;
            }
            let (file, image) = boot_file(root, tree, mount, path, node.link.is_some())?;
            if let Some(image) = image {
                images.insert(path.clone(), image);
            }
            files.push(file);
        }
    }
    let absent = files.is_empty().then(|| "no boot/ with files of Xen".to_owned());
    Ok((BootFiles { absent, layout: layout(&files).to_owned(), files }, images))
}

fn boot_file(
    root: &Path,
    tree: &Tree,
    mount: &Path,
    path: &Path,
    link: bool,
) -> std::io::Result<(BootFile, Option<Image>)> {
    let mut file = BootFile {
        path: path.display().to_string(),
        resolves: true,
        kind: "other".into(),
        ..BootFile::default()
    };
    if link {
        let target = tree.resolve(path, mount);
        file.link = tree.nodes.get(path).and_then(|n| n.link.as_ref()).map(|l| l.display().to_string());
        file.resolves = target.is_some();
        file.kind = "link".into();
        return Ok((file, None));
    }
    let name = path.file_name().and_then(|f| f.to_str()).unwrap_or_default();
    if name.ends_with(".config") {
        file.kind = "config".into();
    } else if name.starts_with("xenpolicy") {
        file.kind = "flask-policy".into();
    } else if !name.ends_with(".map") {
        let (image, _) = image::read_file(&root.join(path))?;
        file.kind = image.kind_name();
        file.arch = image.arch.map(|a| a.name().to_owned());
        file.build_id = image.build_id.clone();
        file.damage = image.damage.as_ref().map(|d| d.text.clone());
        file.sections = image
            .pe
            .as_ref()
            .map(|p| p.sections.iter().map(|s| s.name.clone()).collect())
            .unwrap_or_default();
        return Ok((file, Some(image)));
    }
    Ok((file, None))
}

/// Debian names its files by architecture and makes no links; `make install` by full version, with links.
fn layout(files: &[BootFile]) -> &'static str {
    let debian = |f: &BootFile| {
        let name = f.path.rsplit('/').next().unwrap_or_default();
        let name = name.trim_end_matches(".gz").trim_end_matches(".efi").trim_end_matches(".config");
        name.ends_with("-amd64") || name.ends_with("-arm64")
    };
    if files.iter().any(debian) { "debian" } else { "upstream" }
}

/// The image to boot, of those there are: what `xen.gz`, `xen` or `xen.efi` leads to, else the one whose version is highest.
fn choose(
    tree: &Tree,
    mount: &Path,
    images: &BTreeMap<PathBuf, Image>,
    arch: Arch,
    efi: bool,
) -> Option<PathBuf> {
    let name = |p: &Path| p.file_name().and_then(|f| f.to_str()).unwrap_or_default().to_owned();
    let fits = |p: &Path| {
        let name = name(p);
        name.ends_with(".efi") == efi && !name.starts_with("xen-syms") && !name.starts_with("xen-shim")
    };
    let links: &[&str] = if efi { &["xen.efi"] } else { &["xen.gz", "xen"] };
    let linked = links.iter().flat_map(|l| tree.named(l)).filter_map(|(p, _)| tree.resolve(p, mount));
    if let Some(found) = linked.into_iter().find(|p| images.contains_key(p) && fits(p)) {
        return Some(found);
    }
    let mut candidates: Vec<(&PathBuf, &Image)> = images.iter().filter(|(p, _)| fits(p)).collect();
    candidates.sort_by(|(a, x), (b, y)| {
        let right = |i: &Image| i.arch == Some(arch);
        let version = |i: &Image| i.version().unwrap_or_default().to_owned();
        right(x)
            .cmp(&right(y))
            .then_with(|| xenlab_model::version::compare(&version(x), &version(y)))
            .then_with(|| b.cmp(a))
    });
    candidates.last().map(|(p, _)| (*p).clone())
}

/// `xen-4.17-amd64.config` for `xen-4.17-amd64.gz`.
fn config_of(tree: &Tree, image: &Path) -> Option<PathBuf> {
    let name = image.file_name()?.to_str()?;
    let stem = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".efi")).unwrap_or(name);
    let name = format!("{stem}.config");
    let beside = [image.with_file_name(&name), Path::new("boot").join(&name)];
    beside.into_iter().find(|path| tree.nodes.contains_key(path))
}

/// The damage that a part has when it is for another machine than wanted.
pub(crate) fn wrong_architecture(
    what: &str,
    machine: &str,
    found: Option<Arch>,
    wanted: Arch,
) -> Option<Damage> {
    (found != Some(wanted)).then(|| Damage {
        cause: xenlab_model::cause::Cause::WrongArchitecture,
        text: match found {
            Some(found) => format!("{what} is for {found}, not for {wanted}"),
            None => format!("{what} is for another machine ({machine}), not for {wanted}"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_a_pc_file() {
        let text = "prefix=/usr/local\nlibdir=${prefix}/lib\nName: x\n";
        assert_eq!(pc_variable(text, "libdir").as_deref(), Some("/usr/local/lib"));
        assert_eq!(pc_variable(text, "nothing"), None);
        assert_eq!(pc_variable("a=${a}\n", "a").as_deref(), Some("${a}"), "no endless loop");
    }

    #[test]
    fn layouts() {
        let files = |names: &[&str]| -> Vec<BootFile> {
            names.iter().map(|n| BootFile { path: format!("boot/{n}"), ..BootFile::default() }).collect()
        };
        assert_eq!(layout(&files(&["xen-4.17-amd64.gz", "xen-4.17-amd64.config"])), "debian");
        assert_eq!(layout(&files(&["xen-4.20.1.gz", "xen.gz"])), "upstream");
    }
}
