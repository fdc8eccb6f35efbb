//! A row, planted: every change is made in copies, in a folder that goes away with it.

use super::{Break, Cut, Mutation, Row, Shell, ToolsFault, Tree, guest, image, qemu, tree};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use xenlab_engine::EngineError;
use xenlab_engine::plant::{Plant, failed};
use xenlab_engine::prepare::Prepared;
use xenlab_image::CaseLayer;
use xenlab_machine::{MachineSpec, Payload, QemuInfo};
use xenlab_model::Arch;
use xenlab_model::case::Case;
use xenlab_model::recipe::Recipe;
use xenlab_model::spec::{Subject, XenSpec};
use xenlab_store::{Options, Store, Temporary};
use xenlab_xen::{EfiImage, Hypervisor, XenBuild};

/// A row that is planted in the cases of one run.
pub struct Planted {
    row: &'static Row,
    /// What the broken parts are compared with: the run's own.
    store: Store,
    /// Facts of the broken parts are kept here, so that they go away with them.
    scratch: Store,
    dir: Temporary,
    made: AtomicU32,
}

impl Planted {
    /// Ready to plant; copies go into a folder of the store, which is swept even if this process is killed.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(row: &'static Row, store: &Store) -> Result<Planted, EngineError> {
        let of_store = |e: xenlab_store::StoreError| EngineError::part(e.cause(), e);
        let dir = store.temporary("planted").map_err(of_store)?;
        let options = Options { root: Some(dir.path().join("store")), offline: true, ..Options::default() };
        let scratch = Store::open(options).map_err(of_store)?;
        Ok(Planted { row, store: store.clone(), scratch, dir, made: AtomicU32::new(0) })
    }

    /// A copy of the store for the row's run to work on, where the row breaks the store itself: its files are those of the
    /// store, by hard links, but for the broken ones. The copy is gone when the folder is dropped.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn store_for(row: &Row, store: &Store) -> Result<Option<(Temporary, PathBuf)>, EngineError> {
        if !row.mutations.contains(&Mutation::StoreEntry) {
            return Ok(None);
        }
        let dir = store.temporary("planted").map_err(|e| EngineError::part(e.cause(), e))?;
        let to = dir.path().join("store");
        tree::link(store.root(), &to, &["format", "keys", "content", "debian"]).map_err(failed)?;
        tree::damage(&to.join("content"), "root.squashfs").map_err(failed)?;
        Ok(Some((dir, to)))
    }

    /// A path in the folder that nobody has used.
    fn path(&self, name: &str) -> Result<PathBuf, EngineError> {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.path().join(n.to_string());
        std::fs::create_dir_all(&dir).map_err(|e| failed(format!("{}: {e}", dir.display())))?;
        Ok(dir.join(name))
    }

    /// The same build for the other architecture.
    fn counterpart(&self, subject: &Subject, arch: Arch) -> Result<XenBuild, String> {
        let other = match arch {
            Arch::X86_64 => Arch::Aarch64,
            Arch::Aarch64 => Arch::X86_64,
        };
        xenlab_xen::provide(subject, other, &self.store).map_err(|e| e.to_string())
    }

    /// The boot's initramfs, changed.
    fn initrd(
        &self,
        spec: &mut MachineSpec,
        change: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> Result<(), EngineError> {
        let from = &spec.initrd.path;
        let bytes = std::fs::read(from).map_err(|e| failed(format!("{}: {e}", from.display())))?;
        let path = self.path("initrd")?;
        let written = std::fs::write(&path, change(&bytes)).and_then(|()| Payload::of(&path));
        spec.initrd = written.map_err(|e| failed(format!("{}: {e}", path.display())))?;
        Ok(())
    }

    /// A file of the hypervisor's, broken, as a file of its own.
    fn image(&self, build: &XenBuild, original: &Path, how: Break) -> Result<PathBuf, EngineError> {
        let bytes = std::fs::read(original).map_err(|e| failed(format!("{}: {e}", original.display())))?;
        let other = || {
            let efi = build.hypervisor.efi.as_ref().is_some_and(|e| e.path == original);
            let other = self.counterpart(&build.subject, build.arch)?.hypervisor;
            let other = other.efi.map(|e| e.path).filter(|_| efi).unwrap_or(other.original);
            std::fs::read(&other).map_err(|e| format!("{}: {e}", other.display()))
        };
        let bytes = image::broken(how, build.arch, &bytes, other).map_err(failed)?;
        let unpacked = matches!(how, Break::CutUnpacked(_) | Break::Unpacked);
        let name = original.file_name().map_or_else(|| "xen".into(), |n| n.to_string_lossy().into_owned());
        let name = if unpacked { name.trim_end_matches(".gz") } else { &name };
        let path = self.path(name)?;
        std::fs::write(&path, bytes).map_err(|e| failed(format!("{}: {e}", path.display())))?;
        Ok(path)
    }

    /// The hypervisor in this file, looked at as any other.
    fn looked_at(&self, path: &Path, arch: Arch) -> Result<Hypervisor, EngineError> {
        let subject = Subject::of(XenSpec::File(path.to_owned()));
        let build = xenlab_xen::provide(&subject, arch, &self.scratch).map_err(failed)?;
        Ok(build.hypervisor)
    }

    /// A copy of the tree that tools and development files lie in, broken, and looked at as any other.
    fn tree(
        &self,
        build: &mut XenBuild,
        change: impl FnOnce(&Path, &dyn Fn() -> Result<PathBuf, String>) -> Result<(), String>,
    ) -> Result<(), EngineError> {
        let root = match (&build.tools, &build.development) {
            (Some(tools), _) => tools.root.clone(),
            (None, Some(development)) => development.root.clone(),
            (None, None) => return Err(failed("the build has neither tools nor development files")),
        };
        let copy = self.path("root")?;
        tree::copy(&root, &copy).map_err(failed)?;
        let other = || -> Result<PathBuf, String> {
            let other = self.counterpart(&build.subject, build.arch)?;
            other
                .tools
                .map(|t| t.root)
                .ok_or_else(|| "the other architecture's build has no tools".to_owned())
        };
        change(&copy, &other).map_err(failed)?;
        let spec = XenSpec::Dir(copy);
        let provider = xenlab_xen::provider::of(&spec).ok_or_else(|| failed("no provider takes a folder"))?;
        let found = provider.provide(&spec, &Recipe::default(), build.arch, &self.scratch).map_err(failed)?;
        (build.tools, build.development) = (found.tools, found.development);
        Ok(())
    }
}

impl Plant for Planted {
    fn name(&self) -> &str {
        self.row.name
    }

    fn is_for(&self, case: &Case) -> bool {
        self.row.only.is_none_or(|part| case.id.contains(part))
    }

    fn qemu(&self, info: &QemuInfo) -> Result<Option<PathBuf>, EngineError> {
        for mutation in self.row.mutations {
            if let Mutation::Qemu(how) = mutation {
                // Its real name stays in it: what a user would see.
                return qemu::write(*how, &info.path, &self.path("qemu")?).map(Some).map_err(failed);
            }
        }
        Ok(None)
    }

    fn build(&self, mut build: XenBuild) -> Result<XenBuild, EngineError> {
        for mutation in self.row.mutations {
            match mutation {
                Mutation::Image(how) => {
                    let path = self.image(&build, &build.hypervisor.original, *how)?;
                    let mut hypervisor = self.looked_at(&path, build.arch)?;
                    // It is still that build's, as far as anybody was told.
                    hypervisor.from.clone_from(&build.hypervisor.from);
                    hypervisor.package_version.clone_from(&build.hypervisor.package_version);
                    hypervisor.config = hypervisor.config.or(build.hypervisor.config.take());
                    build.hypervisor = hypervisor;
                }
                Mutation::Efi(how) => {
                    let efi = build.hypervisor.efi.clone().ok_or_else(|| failed("there is no EFI image"))?;
                    let path = self.image(&build, &efi.path, *how)?;
                    let found = self.looked_at(&path, build.arch)?;
                    // What is no EFI image at all is seen as nothing but a damaged file.
                    let facts = found.facts.clone();
                    let damaged = || EfiImage {
                        path,
                        digest: found.digest.clone(),
                        facts,
                        damage: found.damage.clone(),
                    };
                    build.hypervisor.efi = Some(found.efi.clone().unwrap_or_else(damaged));
                }
                Mutation::Development(how) => {
                    self.tree(&mut build, |root, other| tree::break_development(*how, root, other))?;
                }
                Mutation::Tools(how) => {
                    self.tree(&mut build, |root, other| tree::break_tools(*how, root, other))?;
                    if matches!(how, ToolsFault::OtherArchitecture) && build.tools.is_none() {
                        return Err(failed("the other architecture's tools are not seen as tools"));
                    }
                }
                _ => {}
            }
        }
        Ok(build)
    }

    fn prepared(&self, mut prepared: Prepared) -> Result<Prepared, EngineError> {
        for mutation in self.row.mutations {
            if let Mutation::Swapped(how) = mutation {
                let path = self.image(&prepared.build, &prepared.xen_original.0, *how)?;
                let other = self.looked_at(&path, prepared.build.arch)?;
                let image = other.image.or(other.efi.map(|e| e.path));
                let image = image.ok_or_else(|| failed("the other image is none that boots"))?;
                let digest = xenlab_store::hash_file(&image).map_err(failed)?;
                prepared = prepared.with_xen(image, digest);
            }
        }
        Ok(prepared)
    }

    fn layer(&self, layer: &mut CaseLayer) -> Result<(), EngineError> {
        let mut put = |path: &str, mode: u32, text: String| {
            layer.files.push((path.to_owned(), mode, text.into_bytes()))
        };
        for mutation in self.row.mutations {
            match mutation {
                Mutation::Init(how) => put(guest::PATH, 0o755, guest::init(*how).map_err(failed)?),
                Mutation::Shell(Shell::Slow) => {
                    put(guest::PATH, 0o755, guest::slow_console().map_err(failed)?);
                    put(guest::SLOW_SHELL.0, 0o755, guest::SLOW_SHELL.1.to_owned());
                    for key in &mut layer.authorized_keys {
                        key.insert_str(0, guest::SLOW_SSH);
                    }
                }
                Mutation::Shell(Shell::NoPort) => put(guest::PORT, 0o644, guest::NO_PORT.to_owned()),
                Mutation::Shell(Shell::PortHangs) => put(guest::PORT, 0o644, guest::PORT_HANGS.to_owned()),
                Mutation::File(path, mode, text) => put(path, *mode, (*text).to_owned()),
                _ => {}
            }
        }
        Ok(())
    }

    fn machine(&self, spec: &mut MachineSpec) -> Result<(), EngineError> {
        for mutation in self.row.mutations {
            match mutation {
                Mutation::NoInitramfs => self.initrd(spec, |_| Vec::new())?,
                Mutation::CutInitramfs => self.initrd(spec, |all| Cut::Half.of(all).to_vec())?,
                Mutation::NoDisks => spec.disks.clear(),
                Mutation::NoXen => spec.without_xen = true,
                Mutation::Tree(how) => {
                    let end = spec.memory.0;
                    let none = || failed("Xen makes no domain");
                    match how {
                        // In the machine's memory, 48 MiB before its end, where nothing was put.
                        Tree::KernelElsewhere => {
                            let first = spec.domains.first_mut().ok_or_else(none)?;
                            first.kernel_at = Some((1 << 30) + end - (48 << 20));
                        }
                        Tree::NoNode => drop(spec.domains.pop().ok_or_else(none)?),
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn booted(&self, prepared: &Prepared) -> Result<(), EngineError> {
        if self.row.mutations.contains(&Mutation::ChangedMeanwhile) {
            let path = &prepared.xen_original.0;
            if !path.starts_with(self.dir.path()) {
                return Err(failed("only a copy may be written to"));
            }
            std::fs::write(path, "a new build\n").map_err(|e| failed(format!("{}: {e}", path.display())))?;
        }
        Ok(())
    }
}
