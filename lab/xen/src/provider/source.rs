//! `source:PATH[@REV]` and `debsrc:SUITE[@VERSION]`: hypervisor and tools, built here by the tree's own build system.

use super::{Provided, Provider, from_tree};
use crate::error::XenError;
use crate::source::{self, Origin, SourceFiles};
use xenlab_model::arch::Arch;
use xenlab_model::recipe::Recipe;
use xenlab_model::spec::XenSpec;
use xenlab_store::{Store, StoreError, debian};

/// A tree, a revision, a tarball.
pub struct Source;
/// Debian's source package.
pub struct DebSrc;

impl Provider for Source {
    fn scheme(&self) -> &'static str {
        "source"
    }

    fn handles(&self, spec: &XenSpec) -> bool {
        matches!(spec, XenSpec::Source { .. })
    }

    fn builds(&self) -> bool {
        true
    }

    fn provide(
        &self,
        spec: &XenSpec,
        recipe: &Recipe,
        arch: Arch,
        store: &Store,
    ) -> Result<Provided, XenError> {
        let XenSpec::Source { path, rev } = spec else {
            return Err(XenError::Store {
                spec: spec.to_string(),
                source: StoreError::Other("no source".into()),
            });
        };
        let name = spec.to_string();
        let origin = Origin::of(&name, path, rev.as_deref(), store)?;
        built(&name, &origin, recipe, arch, store)
    }

    fn tools(
        &self,
        spec: &XenSpec,
        recipe: &Recipe,
        arch: Arch,
        store: &Store,
    ) -> Result<Option<Provided>, XenError> {
        tools(spec, recipe, arch, store)
    }
}

impl Provider for DebSrc {
    fn scheme(&self) -> &'static str {
        "debsrc"
    }

    fn handles(&self, spec: &XenSpec) -> bool {
        matches!(spec, XenSpec::DebSrc { .. })
    }

    fn builds(&self) -> bool {
        true
    }

    fn provide(
        &self,
        spec: &XenSpec,
        recipe: &Recipe,
        arch: Arch,
        store: &Store,
    ) -> Result<Provided, XenError> {
        let name = spec.to_string();
        let XenSpec::DebSrc { suite, version } = spec else {
            return Err(XenError::Store {
                spec: name,
                source: StoreError::Other("no source package".into()),
            });
        };
        let (origin, package) = package(&name, suite, version.as_deref(), store)?;
        let mut provided = built(&name, &origin, recipe, arch, store)?;
        if let Some(h) = &mut provided.hypervisor {
            h.package_version = Some(package);
        }
        Ok(provided)
    }

    fn tools(
        &self,
        spec: &XenSpec,
        recipe: &Recipe,
        arch: Arch,
        store: &Store,
    ) -> Result<Option<Provided>, XenError> {
        tools(spec, recipe, arch, store)
    }
}

/// The source behind a specification, not built; none where it names what was built elsewhere.
pub(crate) fn origin(spec: &XenSpec, store: &Store) -> Result<Option<(Origin, Option<String>)>, XenError> {
    let name = spec.to_string();
    Ok(match spec {
        XenSpec::Source { path, rev } => Some((Origin::of(&name, path, rev.as_deref(), store)?, None)),
        XenSpec::DebSrc { suite, version } => {
            let (origin, package) = package(&name, suite, version.as_deref(), store)?;
            Some((origin, Some(package)))
        }
        _ => None,
    })
}

/// A suite's source package, and its version.
fn package(
    name: &str,
    suite: &str,
    version: Option<&str>,
    store: &Store,
) -> Result<(Origin, String), XenError> {
    let package = debian::source(store, suite, "xen", version).map_err(XenError::store(name))?;
    Ok((Origin::Package(files(name, suite, &package)?), package.version))
}

/// Which of a source package's files is what, by their names (dpkg-source(1), format 3.0 (quilt)).
fn files(name: &str, suite: &str, package: &debian::Source) -> Result<SourceFiles, XenError> {
    let lacks = |what: &'static str| XenError::PackagesLack {
        spec: name.to_owned(),
        suite: suite.to_owned(),
        arch: "source".to_owned(),
        what,
    };
    let named = |part: &str| -> Vec<_> {
        let is = |f: &&debian::Deb| f.package.contains(part) && !f.package.ends_with(".asc");
        package.files.iter().filter(is).map(|f| f.path.clone()).collect()
    };
    // `.orig.tar.xz` before `.orig-NAME.tar.xz`, which lies in a folder of it.
    let mut tarballs = named(".orig.tar.");
    tarballs.extend(named(".orig-"));
    if tarballs.is_empty() {
        return Err(lacks("archive of the source (.orig.tar.*)"));
    }
    let debian =
        named(".debian.tar.").pop().ok_or_else(|| lacks("archive of Debian's part (.debian.tar.*)"))?;
    let sums: Vec<&str> = package.files.iter().map(|f| f.sha256.as_str()).collect();
    Ok(SourceFiles {
        label: format!("Debian {}", package.version),
        place: format!("debsrc {suite}"),
        tarballs,
        debian,
        digest: xenlab_store::hash_bytes(sums.join(" ").as_bytes()),
    })
}

fn built(
    name: &str,
    origin: &Origin,
    recipe: &Recipe,
    arch: Arch,
    store: &Store,
) -> Result<Provided, XenError> {
    let built = source::build(name, origin, recipe, arch, store)?;
    let root = built.entry.file("root");
    let from = format!("{name}{recipe}");
    let provided = from_tree(&from, &root, &built.entry.digest, None, arch, store)?;
    if provided.hypervisor.is_none() {
        let looked_for = "an image in boot/: the tree's `make install` put none there".to_owned();
        return Err(XenError::NotABuild { spec: from, path: root, looked_for });
    }
    Ok(Provided { declared: built.declared, ..provided })
}

/// The tools of the same source.
fn tools(spec: &XenSpec, recipe: &Recipe, arch: Arch, store: &Store) -> Result<Option<Provided>, XenError> {
    let Some((origin, _)) = origin(spec, store)? else { return Ok(None) };
    let name = spec.to_string();
    let Some(built) = source::tools::build(&name, &origin, recipe, arch, store)? else { return Ok(None) };
    let root = built.entry.file("root");
    let from = format!("{name}{recipe}");
    let provided = from_tree(&from, &root, &built.entry.digest, None, arch, store)?;
    if provided.tools.as_ref().is_none_or(|t| !t.programs.contains_key("xl")) {
        let looked_for =
            "{usr/,usr/local/,}{s,}bin/xl: the tree's `make install-tools` put none there".to_owned();
        return Err(XenError::NotABuild { spec: from, path: root, looked_for });
    }
    Ok(Some(Provided { left_out: built.left_out, ..provided }))
}
