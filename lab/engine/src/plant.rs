//! A place to break something on purpose: what is planted must be caught, and nothing else may be blamed for it.
//!
//! A plant changes what a case's machine is made of, after it was got ready from real artefacts and in copies of its own; from
//! there on nothing knows of it. What is planted is data, in `verbs::faults`.

use crate::EngineError;
use crate::prepare::Prepared;
use std::path::PathBuf;
use xenlab_image::CaseLayer;
use xenlab_machine::{MachineSpec, QemuInfo};
use xenlab_model::case::Case;
use xenlab_model::cause::Cause;
use xenlab_xen::XenBuild;

/// What is broken, at each of the places where something can be.
pub trait Plant: Send + Sync {
    /// What the command line calls it.
    fn name(&self) -> &str;

    /// It is planted in this case.
    fn is_for(&self, case: &Case) -> bool;

    /// A program to run in QEMU's place.
    ///
    /// # Errors
    /// It could not be made.
    fn qemu(&self, _qemu: &QemuInfo) -> Result<Option<PathBuf>, EngineError> {
        Ok(None)
    }

    /// The build, broken.
    ///
    /// # Errors
    /// What should be broken is not there.
    fn build(&self, build: XenBuild) -> Result<XenBuild, EngineError> {
        Ok(build)
    }

    /// What was got ready, broken.
    ///
    /// # Errors
    /// What should be broken is not there.
    fn prepared(&self, prepared: Prepared) -> Result<Prepared, EngineError> {
        Ok(prepared)
    }

    /// dom0's own layer, broken.
    ///
    /// # Errors
    /// What should be broken is not there.
    fn layer(&self, _layer: &mut CaseLayer) -> Result<(), EngineError> {
        Ok(())
    }

    /// The machine, broken. Its initramfs is the boot's own copy.
    ///
    /// # Errors
    /// What should be broken is not there.
    fn machine(&self, _spec: &mut MachineSpec) -> Result<(), EngineError> {
        Ok(())
    }

    /// The boot is over, and the machine runs.
    ///
    /// # Errors
    /// What should be broken is not there.
    fn booted(&self, _prepared: &Prepared) -> Result<(), EngineError> {
        Ok(())
    }
}

/// Something could not be planted: the lab's own error, never the fault that was to be caught.
pub fn failed(what: impl std::fmt::Display) -> EngineError {
    EngineError::part(Cause::LabInternal, format!("nothing was planted: {what}"))
}
