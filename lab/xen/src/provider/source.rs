//! `source:PATH[@REV]` and `debsrc:SUITE[@VERSION]`: the hypervisor, built here by the tree's own build system.

use super::{Provided, Provider, from_tree};
use crate::error::XenError;
use crate::source::{self, Origin};
use xenlab_model::arch::Arch;
use xenlab_model::recipe::Recipe;
use xenlab_model::spec::XenSpec;
use xenlab_store::{Store, StoreError};

/// A tree, a revision, a tarball.
pub struct Source;

impl Provider for Source {
    fn scheme(&self) -> &'static str {
        "source"
    }

    fn handles(&self, spec: &XenSpec) -> bool {
        matches!(spec, XenSpec::Source { .. })
    }

    fn provide(&self, spec: &XenSpec, arch: Arch, store: &Store) -> Result<Provided, XenError> {
        self.build(spec, &Recipe::default(), arch, store)
    }

    fn build(
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
