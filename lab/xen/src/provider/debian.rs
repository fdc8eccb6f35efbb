//! `debian:SUITE[@VERSION]`: Debian's packages, unpacked to a tree in the store. No maintainer script is run.

use super::{Provided, Provider, from_tree};
use crate::build::Declared;
use crate::declared;
use crate::error::XenError;
use xenlab_model::arch::Arch;
use xenlab_model::recipe::Recipe;
use xenlab_model::spec::XenSpec;
use xenlab_store::debian::{self, Keep, Lock, Request};
use xenlab_store::{Key, Store, StoreError};

/// See the module.
pub struct Debian;

/// Locks that ship, made by `cargo run -p xenlab-xen --example xen-locks lab/xen/locks`.
const LOCKS: &[(&str, &str)] = &[
    ("bookworm-amd64", include_str!("../../locks/bookworm-amd64.json")),
    ("bookworm-arm64", include_str!("../../locks/bookworm-arm64.json")),
    ("trixie-amd64", include_str!("../../locks/trixie-amd64.json")),
    ("trixie-arm64", include_str!("../../locks/trixie-arm64.json")),
];

/// The packages of a suite: `xen-system-ARCH` depends on the suite's own hypervisor and tools, whatever their major.minor, and
/// only what Xen's own source package builds is kept.
pub fn request(suite: &str, version: Option<&str>, arch: Arch) -> Request {
    Request {
        suite: suite.to_owned(),
        arch,
        set: match version {
            Some(version) => format!("xen-{version}"),
            None => "xen".to_owned(),
        },
        include: vec![
            format!("xen-system-{}", arch.debian()),
            "xenstore-utils".to_owned(),
            "libxen-dev".to_owned(),
        ],
        exclude: Vec::new(),
        keep: Keep::Only(vec!["xen".to_owned()]),
        pins: version.map(|v| ("xen".to_owned(), v.to_owned())).into_iter().collect(),
        backports: false,
    }
}

fn shipped(request: &Request) -> Option<Lock> {
    LOCKS.iter().filter_map(|(name, text)| Lock::parse(name, text).ok()).find(|l| l.is_for(request))
}

impl Provider for Debian {
    fn scheme(&self) -> &'static str {
        "debian"
    }

    fn handles(&self, spec: &XenSpec) -> bool {
        matches!(spec, XenSpec::Debian { .. })
    }

    fn provide(&self, spec: &XenSpec, _: &Recipe, arch: Arch, store: &Store) -> Result<Provided, XenError> {
        let XenSpec::Debian { suite, version } = spec else {
            return Err(XenError::Store {
                spec: spec.to_string(),
                source: StoreError::Other("not a Debian suite".into()),
            });
        };
        let name = spec.to_string();
        let wrap = XenError::store(&name);
        let request = request(suite, version.as_deref(), arch);
        let resolved = debian::packages(store, &request, shipped(&request).as_ref()).map_err(&wrap)?;
        let mut key = Key::new("xen-debian").part("suite", suite).part("arch", arch);
        for deb in &resolved.debs {
            key = key.part("deb", format!("{} {}", deb.package, deb.sha256));
        }
        let label = format!("{name} for {arch}");
        let entry = store
            .get_or_make::<StoreError>(&key, &label, |dir| {
                let root = dir.join("root");
                std::fs::create_dir(&root).map_err(|e| StoreError::io("make", &root, e))?;
                debian::extract(store, &resolved.debs, &root)
            })
            .map_err(&wrap)?;
        let mut provided = from_tree(&name, &entry.file("root"), &entry.digest, None, arch, store)?;
        let package = resolved
            .debs
            .iter()
            .find(|d| d.package.starts_with("xen-hypervisor-") && d.package.ends_with(arch.debian()));
        if let Some(package) = package {
            provided.declared = declared::debian(&package.version).map(|version| Declared {
                version: version.to_owned(),
                by: format!("the recorded table for Debian's {}", package.version),
            });
            if let Some(h) = &mut provided.hypervisor {
                h.package_version = Some(package.version.clone());
            }
        }
        if provided.hypervisor.is_none() {
            let (suite, arch) = (suite.clone(), arch.to_string());
            return Err(XenError::PackagesLack {
                spec: name,
                suite,
                arch,
                what: "hypervisor image in boot/",
            });
        }
        Ok(provided)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locks_that_ship_are_for_the_requests_that_are_made() {
        for suite in ["bookworm", "trixie"] {
            for arch in Arch::ALL {
                let lock = shipped(&request(suite, None, arch)).unwrap_or_else(|| panic!("{suite} {arch}"));
                let hypervisor = lock
                    .packages
                    .iter()
                    .find(|p| p.name.starts_with("xen-hypervisor-") && p.name.ends_with(arch.debian()));
                let version = &hypervisor.expect("a hypervisor").version;
                assert!(
                    declared::debian(version).is_some(),
                    "{version} is not in the table of declared versions"
                );
            }
        }
        assert!(
            shipped(&request("trixie", Some("4.20.3-1"), Arch::X86_64)).is_none(),
            "a pinned version has its own lock"
        );
    }
}
