//! What can go wrong while a Xen build is found and read. What is wrong *with* a build is data, not an error.

use std::path::PathBuf;
use xenlab_model::cause::Cause;
use xenlab_store::StoreError;

/// An error of `provide`.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is and what its fields are")]
pub enum XenError {
    #[error("{spec}: there is no {}{}", .path.display(), .hint)]
    Missing { spec: String, path: PathBuf, hint: String },
    #[error("{spec}: {} is {found}, expected {expected}", .path.display())]
    WrongKind { spec: String, path: PathBuf, found: &'static str, expected: &'static str },
    #[error("{spec}: no permission to read {}; run as a user who may, or copy it", .path.display())]
    NoPermission { spec: String, path: PathBuf },
    #[error("{spec}: cannot read {}: {source}", .path.display())]
    Unreadable { spec: String, path: PathBuf, source: std::io::Error },
    #[error("{spec}: {} does not look like a Xen build; looked for {looked_for}", .path.display())]
    NotABuild { spec: String, path: PathBuf, looked_for: String },
    #[error("{spec}: {} has no hypervisor; looked for {looked_for}. Give one with --xen file:PATH and keep this as --tools", .path.display())]
    NoHypervisor { spec: String, path: PathBuf, looked_for: String },
    #[error("{spec}: the packages of {suite} for {arch} have no {what}")]
    PackagesLack { spec: String, suite: String, arch: String, what: &'static str },
    #[error("{spec}: {} has no revision `{rev}`", .path.display())]
    NoRevision { spec: String, path: PathBuf, rev: String },
    #[error("{spec}: git cannot read {}: {said}", .path.display())]
    Git { spec: String, path: PathBuf, said: String },
    #[error("{spec}: nix-store does not know {}: {said}", .path.display())]
    NotInStore { spec: String, path: PathBuf, said: String },
    #[error("{spec}: {}: {why}", .path.display())]
    Bootspec { spec: String, path: PathBuf, why: String },
    #[error("{spec}: {} is no archive that tar can read: {said}", .path.display())]
    NotAnArchive { spec: String, path: PathBuf, said: String },
    #[error("{spec}: the patch {} does not apply: {what}", .patch.display())]
    PatchFails { spec: String, patch: PathBuf, what: String },
    #[error("{spec}: {why}")]
    BadOption { spec: String, why: String },
    #[error("{spec}: {} changed while the tree was read; run the same again", .path.display())]
    SourceChanged { spec: String, path: PathBuf },
    #[error("{spec} cannot be built for {arch}; the first error, of {}:\n{first}", .log.display())]
    Compile { spec: String, arch: xenlab_model::Arch, first: String, log: PathBuf, of_source: bool },
    #[error("`{program}` is needed and not installed; {hint}")]
    ToolMissing { program: String, hint: String },
    #[error("`{program}` does not work: {why}")]
    Tool { program: String, why: String },
    #[error("the libraries of {arch} that Xen's tools link with cannot be had: {source}")]
    NoSysroot { arch: xenlab_model::Arch, source: StoreError },
    #[error(transparent)]
    Child(xenlab_host::child::ChildError),
    #[error("{spec}: {source}")]
    Store { spec: String, source: StoreError },
}

impl XenError {
    /// The cause a verdict carries for it.
    pub fn cause(&self) -> Cause {
        match self {
            XenError::Missing { .. }
            | XenError::NotABuild { .. }
            | XenError::NoHypervisor { .. }
            | XenError::PackagesLack { .. } => Cause::PartMissing,
            XenError::Compile { .. } => Cause::BuildFailed,
            XenError::NoRevision { .. }
            | XenError::Git { .. }
            | XenError::NotAnArchive { .. }
            | XenError::PatchFails { .. }
            | XenError::BadOption { .. } => Cause::SourceInvalid,
            XenError::SourceChanged { .. } => Cause::InputChanged,
            XenError::NotInStore { .. } => Cause::PartMissing,
            XenError::Bootspec { .. } => Cause::Bootspec,
            XenError::WrongKind { .. } => Cause::ImageInvalid,
            XenError::NoPermission { .. } | XenError::Unreadable { .. } => Cause::LabInternal,
            XenError::ToolMissing { .. } | XenError::Tool { .. } => Cause::HostTool,
            XenError::Child(e) => e.cause(),
            XenError::Store { source, .. } | XenError::NoSysroot { source, .. } => source.cause(),
        }
    }

    /// What the user named is wrong (exit 2), not the lab (exit 3).
    pub fn is_bad_input(&self) -> bool {
        match self {
            XenError::Store { source, .. } => source.is_bad_input(),
            XenError::ToolMissing { .. }
            | XenError::Tool { .. }
            | XenError::NoSysroot { .. }
            | XenError::Child(_)
            | XenError::Compile { .. }
            | XenError::SourceChanged { .. }
            | XenError::Unreadable { .. } => false,
            _ => true,
        }
    }

    /// It is the host that lacks what a build takes.
    pub(crate) fn is_for_want_of_host(&self) -> bool {
        matches!(self, XenError::ToolMissing { .. } | XenError::NoSysroot { .. })
    }

    pub(crate) fn store(spec: &str) -> impl Fn(StoreError) -> XenError + use<> {
        let spec = spec.to_owned();
        move |source| XenError::Store { spec: spec.clone(), source }
    }

    pub(crate) fn io(spec: &str, path: &std::path::Path, source: std::io::Error) -> XenError {
        let (spec, path) = (spec.to_owned(), path.to_owned());
        match source.kind() {
            std::io::ErrorKind::NotFound => XenError::Missing { spec, path, hint: String::new() },
            std::io::ErrorKind::PermissionDenied => XenError::NoPermission { spec, path },
            _ => XenError::Unreadable { spec, path, source },
        }
    }
}
