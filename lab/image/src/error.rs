//! What can go wrong in making dom0's images.

use std::path::{Path, PathBuf};
use xenlab_host::child::ChildError;
use xenlab_model::cause::Cause;
use xenlab_store::StoreError;

/// An error of making an image.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is and what its fields are")]
pub enum ImageError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{what} {} cannot be used: {reason}", .path.display())]
    Input { what: &'static str, path: PathBuf, reason: String },
    #[error("the kernel {} is for {found}, dom0 is {wanted}", .path.display())]
    KernelArch { path: PathBuf, found: String, wanted: String },
    #[error("the kernel {} is damaged: {reason}", .path.display())]
    KernelDamaged { path: PathBuf, reason: String },
    #[error("the packages of {suite} lack {what}")]
    PackageLacks { suite: String, what: String },
    #[error("recipe {name}: {detail}")]
    Recipe { name: String, detail: String },
    #[error("no unified EFI image can be made of this Xen: {0}")]
    Unified(crate::firmware::Refused),
    #[error("no key could be made: {0}")]
    Key(String),
    #[error(
        "no busybox for {arch} is at hand: it comes from Debian's busybox-static, which is not in the store; run the same command once without --offline, or name a static one with XENLAB_BUSYBOX"
    )]
    NoBusybox { arch: String },
}

impl ImageError {
    /// The cause a verdict carries for it.
    pub fn cause(&self) -> Cause {
        match self {
            ImageError::Store(e) => e.cause(),
            ImageError::KernelArch { .. } | ImageError::KernelDamaged { .. } => Cause::Dom0KernelInvalid,
            ImageError::Input { .. } | ImageError::Recipe { .. } => Cause::ScenarioInput,
            ImageError::NoBusybox { .. } => Cause::HostNetwork,
            _ => Cause::LabInternal,
        }
    }

    /// It is what the user named that is wrong (exit 2), not the lab (exit 3).
    pub fn is_bad_input(&self) -> bool {
        match self {
            ImageError::Store(e) => e.is_bad_input(),
            ImageError::Input { .. }
            | ImageError::KernelArch { .. }
            | ImageError::KernelDamaged { .. }
            | ImageError::Recipe { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn io(action: &str, path: &Path, e: std::io::Error) -> Self {
        ImageError::Store(StoreError::io(action, path, e))
    }
}

impl From<ChildError> for ImageError {
    fn from(e: ChildError) -> Self {
        ImageError::Store(e.into())
    }
}
