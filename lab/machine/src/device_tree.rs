//! The device tree of a machine on which Xen makes domains by itself: QEMU's own, and a node for each of them.
//!
//! `guest-loader` writes nodes for dom0's kernel and initramfs only, so QEMU is asked for the tree that it would give to this machine
//! (`dumpdtb`), and is given it back with more in it (`-dtb`). Then it adds to it what it always adds, memory and PSCI.

use crate::argv::{domain_addresses, dump_device_tree};
use crate::error::SpecError;
use crate::fdt::{self, FdtError, Node};
use crate::spec::{Domain, MachineSpec, Payload};
use std::path::Path;
use std::time::Duration;
use xenlab_host::{ChildError, Command};
use xenlab_model::cause::Cause;

/// QEMU writes it in a tenth of a second.
const LIMIT: Duration = Duration::from_secs(30);

/// Why there is no device tree. None of these says anything about Xen.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The description cannot be made a command line.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// QEMU could not be run.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// QEMU wrote none.
    #[error("QEMU wrote no device tree of the machine: {0}")]
    NotWritten(String),
    /// QEMU wrote something that is none.
    #[error("the device tree that QEMU wrote: {0}")]
    Fdt(#[from] FdtError),
}

impl TreeError {
    /// Its cause.
    pub fn cause(&self) -> Cause {
        match self {
            TreeError::Spec(_) => Cause::LabInternal,
            TreeError::Child(error) => error.cause(),
            TreeError::NotWritten(_) | TreeError::Fdt(_) => Cause::QemuRefused,
        }
    }
}

/// Writes to `path` the device tree with the machine's domains in it. Takes a start of QEMU.
///
/// # Errors
/// [`TreeError`].
pub fn device_tree(spec: &MachineSpec, path: &Path) -> Result<(), TreeError> {
    let output = Command::new(&spec.qemu.path).args(&dump_device_tree(spec, path)?).limit(LIMIT).output()?;
    let not_written = |why: String| TreeError::NotWritten(format!("{why}: {}", output.stderr.text().trim()));
    let own = std::fs::read(path).map_err(|e| not_written(e.to_string()))?;
    let tree = fdt::add(&own, "chosen", &nodes(spec)?)?;
    std::fs::write(path, tree).map_err(|e| not_written(e.to_string()))
}

/// The nodes of the domains, in the order in which Xen numbers them from 1.
fn nodes(spec: &MachineSpec) -> Result<Vec<Node>, SpecError> {
    let places = domain_addresses(spec)?;
    Ok(spec.domains.iter().zip(places).map(|(domain, at)| node(domain, at)).collect())
}

fn node(domain: &Domain, (kernel, initrd): (u64, u64)) -> Node {
    let kernel = domain.kernel_at.unwrap_or(kernel);
    let module = |what: &str, at: u64, payload: &Payload| {
        Node::new(format!("module@{at:x}"))
            .strings("compatible", &[what, "multiboot,module"])
            .numbers("reg", &[at, payload.size])
    };
    let node = Node::new(domain.name.clone())
        .strings("compatible", &["xen,domain"])
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2])
        // In KiB.
        .numbers("memory", &[domain.memory.0 >> 10])
        .cells("cpus", &[domain.vcpus])
        // Its only console: what it writes there, Xen writes to its own.
        .flag("vpl011")
        .child(
            module("multiboot,kernel", kernel, &domain.kernel).strings("bootargs", &[domain.args.as_str()]),
        );
    match &domain.initrd {
        Some(payload) => node.child(module("multiboot,ramdisk", initrd, payload)),
        None => node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::argv::tests::spec;
    use crate::spec::Accel;
    use xenlab_model::Arch;
    use xenlab_model::units::Size;

    fn with_two() -> MachineSpec {
        let mut spec = spec(Arch::Aarch64, [10, 0, 2], Accel::Tcg);
        let payload = |path: &str, mib: u64| Payload { path: path.into(), size: mib << 20 };
        let domain = |name: &str, initrd| Domain {
            name: name.into(),
            kernel: payload("/s/Image", 33),
            kernel_at: None,
            initrd,
            memory: Size::mib(128),
            vcpus: 2,
            args: "console=ttyAMA0".into(),
        };
        spec.domains = vec![domain("d1", Some(payload("/s/a,b", 3))), domain("d2", None)];
        spec
    }

    #[test]
    fn a_domain_as_the_tree_has_it() {
        insta::assert_debug_snapshot!(nodes(&with_two()).unwrap());
    }

    #[test]
    fn nothing_lies_over_anything_else() {
        let mut spec = with_two();
        let all = domain_addresses(&spec).unwrap();
        let (_, initrd) = crate::argv::addresses(&spec).unwrap();
        assert!(all[0].0 >= initrd + spec.initrd.size, "{all:x?}");
        assert!(all[0].1 >= all[0].0 + (33 << 20) && all[1].0 >= all[0].1 + (3 << 20), "{all:x?}");
        spec.memory = Size::mib(200);
        assert!(matches!(domain_addresses(&spec), Err(SpecError::TooSmall { .. })));
    }
}
