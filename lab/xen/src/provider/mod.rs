//! Providers: where a Xen build comes from. Each ends in the same [`Provided`]; nothing behind knows which it was.
//!
//! To add one: a variant of `model::spec::XenSpec`, a file here with a type that implements [`Provider`], and its line in
//! [`PROVIDERS`].

use crate::build::{BootFiles, Declared, Development, EfiImage, Hypervisor, System, Tools};
use crate::error::XenError;
use crate::image::{self, Damage, Image, ImageKind};
use crate::kconfig::Kconfig;
use crate::scan::{self, Scan, wrong_architecture};
use crate::tree::Tree;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use xenlab_model::arch::Arch;
use xenlab_model::recipe::Recipe;
use xenlab_model::spec::XenSpec;
use xenlab_store::{Entry, Key, Store, StoreError};

pub mod debian;
mod dir;
mod file;
mod nix;
mod nixos;
mod source;

pub(crate) use file::not_there;
pub(crate) use nix::is_store_name;
pub use nix::store_path;
pub(crate) use source::origin as source_of;

/// Where Xen builds of one kind come from.
pub trait Provider: Sync {
    /// What comes before the colon.
    fn scheme(&self) -> &'static str;
    /// It is the one for this specification.
    fn handles(&self, spec: &XenSpec) -> bool;
    /// What it provides is built here, so there is a source that a recipe can be for.
    fn builds(&self) -> bool {
        false
    }
    /// The build's parts, as far as it has them. A recipe is empty where nothing is built.
    fn provide(
        &self,
        spec: &XenSpec,
        recipe: &Recipe,
        arch: Arch,
        store: &Store,
    ) -> Result<Provided, XenError>;
    /// Tools that are built apart from the hypervisor, where [`provide`](Self::provide) has none: only when they are wanted. None where
    /// the source has none.
    fn tools(
        &self,
        _spec: &XenSpec,
        _recipe: &Recipe,
        _arch: Arch,
        _store: &Store,
    ) -> Result<Option<Provided>, XenError> {
        Ok(None)
    }
}

/// Every provider.
pub const PROVIDERS: &[&dyn Provider] =
    &[&debian::Debian, &dir::Dir, &nix::Nix, &nixos::Nixos, &file::File, &source::Source, &source::DebSrc];

/// The provider of a specification.
pub fn of(spec: &XenSpec) -> Option<&'static dyn Provider> {
    PROVIDERS.iter().copied().find(|p| p.handles(spec))
}

/// What is looked for in a folder, for a message.
pub(crate) fn looked_for() -> String {
    dir::looked_for().to_owned()
}

/// What a provider found.
#[derive(Debug, Clone)]
pub struct Provided {
    /// Where it looked, for a message about what is not there.
    pub root: PathBuf,
    /// The hypervisor, if it has one.
    pub hypervisor: Option<Hypervisor>,
    /// See [`Tools`].
    pub tools: Option<Tools>,
    /// See [`Development`].
    pub development: Option<Development>,
    /// See [`BootFiles`].
    pub boot: BootFiles,
    /// The provider's own word on the version.
    pub declared: Option<Declared>,
    /// The system that it came in.
    pub system: Option<System>,
    /// What its source has and could not be built, each with the reason.
    pub left_out: Vec<String>,
}

/// What is kept of an image, by its digest.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ImageRecord {
    image: Image,
    embedded: Option<Kconfig>,
    /// SHA-256 of what it unpacks to.
    unpacked: Option<String>,
}

/// An image's facts, and what it unpacks to when it is compressed: read once for each digest.
pub(crate) struct ImageAt {
    pub(crate) digest: String,
    record: ImageRecord,
    unpacked: Option<PathBuf>,
}

pub(crate) fn image_at(spec: &str, path: &Path, store: &Store) -> Result<ImageAt, XenError> {
    // The store's own error would not say that it is the user's file.
    std::fs::File::open(path).map_err(|e| XenError::io(spec, path, e))?;
    let wrap = XenError::store(spec);
    let digest = store.digest_file(path).map_err(&wrap)?;
    let key = Key::new("xen-image").part("digest", &digest).part("format", image::FORMAT);
    let label = format!("facts of {}", path.display());
    let entry = store.get_or_make::<StoreError>(&key, &label, |dir| {
        let data = std::fs::read(path).map_err(|e| StoreError::io("read", path, e))?;
        let (image, unpacked) = image::read(&data);
        let embedded = Kconfig::embedded(unpacked.as_deref().unwrap_or(&data));
        let digest = unpacked.as_deref().map(xenlab_store::hash_bytes);
        if let Some(unpacked) = unpacked {
            write(&dir.join("xen"), &unpacked)?;
        }
        write_json(&dir.join("facts.json"), &ImageRecord { image, embedded, unpacked: digest })
    });
    let entry = entry.map_err(&wrap)?;
    let record = read_json(&entry, "facts.json").map_err(&wrap)?;
    let unpacked = Some(entry.file("xen")).filter(|p| p.is_file());
    Ok(ImageAt { digest, record, unpacked })
}

/// A hypervisor from its file.
pub(crate) fn hypervisor(spec: &str, path: &Path, arch: Arch, store: &Store) -> Result<Hypervisor, XenError> {
    let at = image_at(spec, path, store)?;
    let facts = at.record.image;
    let damage = facts.damage.clone().or_else(|| image_damage(path, &facts, arch));
    let (image, no_image) = match facts.kind {
        ImageKind::Elf32 | ImageKind::Arm64Image => {
            (Some(at.unpacked.unwrap_or_else(|| path.to_owned())), None)
        }
        ImageKind::Elf64 => {
            (None, Some("xen-syms is for debuggers; boot xen or xen.gz, which is made from it"))
        }
        ImageKind::Pe => (None, Some("an EFI image is booted by firmware only: `boot: uefi`")),
        ImageKind::Other => (None, Some("it is no hypervisor image")),
    };
    let efi = facts.pe.is_some().then(|| EfiImage {
        path: path.to_owned(),
        digest: at.digest.clone(),
        facts: facts.clone(),
        damage: damage.clone(),
    });
    Ok(Hypervisor {
        from: spec.to_owned(),
        original: path.to_owned(),
        image_digest: image.as_ref().map(|_| at.record.unpacked.unwrap_or_else(|| at.digest.clone())),
        image,
        no_image: no_image.map(str::to_owned),
        digest: at.digest,
        facts,
        damage,
        efi,
        config: at.record.embedded,
        package_version: None,
    })
}

/// An EFI image from its file.
pub(crate) fn efi_image(spec: &str, path: &Path, arch: Arch, store: &Store) -> Result<EfiImage, XenError> {
    let at = image_at(spec, path, store)?;
    let facts = at.record.image;
    let damage = facts.damage.clone().or_else(|| image_damage(path, &facts, arch));
    Ok(EfiImage { path: path.to_owned(), digest: at.digest, facts, damage })
}

fn image_damage(path: &Path, facts: &Image, arch: Arch) -> Option<Damage> {
    let name = path.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
    wrong_architecture(&name, &facts.machine, facts.arch, arch)
}

/// The parts of an install tree. `identity` changes when the tree does; what is found is kept by it.
pub(crate) fn from_tree(
    spec: &str,
    root: &Path,
    identity: &str,
    tree: Option<&Tree>,
    arch: Arch,
    store: &Store,
) -> Result<Provided, XenError> {
    let whole = [PathBuf::new()];
    from_trees(spec, root, &whole, identity, tree, arch, store, &|_| Ok(()))
}

/// The same of several that lie below `root` at `tops`. What is to be known besides is added before it is kept.
#[expect(clippy::too_many_arguments, reason = "each is a different thing, and there are two callers")]
pub(crate) fn from_trees(
    spec: &str,
    root: &Path,
    tops: &[PathBuf],
    identity: &str,
    tree: Option<&Tree>,
    arch: Arch,
    store: &Store,
    more: &dyn Fn(&mut Scan) -> Result<(), StoreError>,
) -> Result<Provided, XenError> {
    let wrap = XenError::store(spec);
    let key = Key::new("xen-facts")
        .part("tree", identity)
        .part("root", root.display())
        .part("arch", arch)
        .part("from", spec)
        .part("format", scan::FORMAT)
        .part("images", image::FORMAT);
    let entry = store.get_or_make::<StoreError>(&key, &format!("facts of {spec} for {arch}"), |dir| {
        let walked;
        let tree = match tree {
            Some(tree) => tree,
            None => {
                walked = Tree::walk(root).map_err(|e| StoreError::io("read", root, e))?.0;
                &walked
            }
        };
        let mut found =
            scan::scan(root, tree, tops, arch, spec).map_err(|e| StoreError::io("read", root, e))?;
        more(&mut found)?;
        if let Some(tools) = &mut found.tools {
            tools.key = tools_key(tools, tree)?;
        }
        write_json(&dir.join("facts.json"), &found)
    });
    let found: Scan = read_json(&entry.map_err(&wrap)?, "facts.json").map_err(&wrap)?;
    let mut hypervisor = match found.direct.as_ref().or(found.efi.as_ref()) {
        Some(path) => Some(self::hypervisor(spec, &root.join(path), arch, store)?),
        None => None,
    };
    if let Some(h) = &mut hypervisor {
        if let Some(efi) = &found.efi
            && root.join(efi) != h.original
        {
            h.efi = Some(efi_image(spec, &root.join(efi), arch, store)?);
        }
        if let Some(config) = &found.config
            && let Ok(text) = std::fs::read_to_string(root.join(config))
        {
            h.config = Kconfig::parse(&text, config.display().to_string()).or(h.config.take());
        }
    }
    Ok(Provided {
        root: root.to_owned(),
        hypervisor,
        tools: found.tools,
        development: found.development,
        boot: found.boot,
        declared: None,
        system: None,
        left_out: Vec::new(),
    })
}

/// From the digest of every file that dom0 gets, its mode and its path.
fn tools_key(tools: &Tools, tree: &Tree) -> Result<String, StoreError> {
    use std::fmt::Write;
    let mut list = String::new();
    for path in &tools.empty_dirs {
        let _ = writeln!(list, "dir {}", path.display());
    }
    for path in &tools.files {
        let Some(node) = tree.nodes.get(path) else { continue };
        let content = match &node.link {
            Some(link) => format!("-> {}", link.display()),
            None => xenlab_store::hash_file(&tools.root.join(path))?,
        };
        let _ = writeln!(
            list,
            "{:o} {} {content}",
            if node.link.is_some() { 0 } else { node.mode & 0o111 },
            path.display()
        );
    }
    let files = xenlab_store::hash_bytes(list.as_bytes());
    Ok(Key::new("xen-tools")
        .part("mount", tools.mount.display())
        .part("files", files)
        .id()
        .as_str()
        .to_owned())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    std::fs::write(path, bytes).map_err(|e| StoreError::io("write", path, e))
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let bytes =
        serde_json::to_vec(value).map_err(|e| StoreError::Other(format!("{}: {e}", path.display())))?;
    write(path, &bytes)
}

pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(entry: &Entry, name: &str) -> Result<T, StoreError> {
    let path = entry.file(name);
    let bytes = std::fs::read(&path).map_err(|e| StoreError::io("read", &path, e))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| StoreError::Damaged { label: entry.label.clone(), reason: format!("{name}: {e}") })
}
