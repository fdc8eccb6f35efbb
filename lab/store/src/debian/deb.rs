//! Reading `.deb` files, with dpkg's own program.

use super::Deb;
use crate::{Store, StoreError};
use std::path::Path;
use std::process::ChildStdout;
use xenlab_host::child::Command;

/// The tar stream of a package's files, as `dpkg-deb --fsys-tarfile` writes it: names begin with `./`.
/// `each` gets every entry; what it does not read of an entry is skipped.
///
/// # Errors
/// What `each` returned, or that the package cannot be read.
pub fn for_each_file<E: From<StoreError>>(
    deb: &Deb,
    mut each: impl FnMut(&mut tar::Entry<'_, ChildStdout>) -> Result<(), E>,
) -> Result<(), E> {
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(&deb.path)
        .stdout_pipe()
        .spawn()
        .map_err(StoreError::from)?;
    let result = child.take_stdout().map_or(Ok(()), |stdout| read_all(stdout, &deb.path, &mut each));
    if result.is_err() {
        child.kill();
    }
    // Killed because the user asked for an end: what dpkg-deb says of that is not worth telling.
    if result.is_err() && xenlab_host::interrupt::requested() {
        return result;
    }
    let ended = child.wait_blocking().map_err(StoreError::from)?;
    // What dpkg-deb says of a damaged package is better than that its stream broke off.
    if !ended.ok() && (result.is_ok() || !child.stderr_tail().is_empty()) {
        return Err(StoreError::tool("dpkg-deb", &ended.to_string(), &child.stderr_tail(), &deb.path).into());
    }
    result?;
    Ok(())
}

fn read_all<E: From<StoreError>>(
    stdout: ChildStdout,
    path: &Path,
    each: &mut impl FnMut(&mut tar::Entry<'_, ChildStdout>) -> Result<(), E>,
) -> Result<(), E> {
    let io = |e| StoreError::io("unpack", path, e);
    let mut archive = tar::Archive::new(stdout);
    for entry in archive.entries().map_err(io)? {
        crate::run::check_interrupted()?;
        let mut entry = entry.map_err(io)?;
        each(&mut entry)?;
    }
    // dpkg-deb pads its output; left unread it would end by SIGPIPE.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(io)?;
    Ok(())
}

/// Unpacks packages over each other into `dir`, files and links alone (no device nodes, no ownership): what a hypervisor or
/// development files are read from. No maintainer script is run.
pub fn extract(store: &Store, debs: &[Deb], dir: &Path) -> Result<(), StoreError> {
    for deb in debs {
        crate::run::check_interrupted()?;
        for_each_file(deb, |entry| {
            entry.set_preserve_mtime(true);
            entry.set_unpack_xattrs(false);
            let kind = entry.header().entry_type();
            if kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link() {
                entry.unpack_in(dir).map_err(|e| StoreError::io("unpack into", dir, e))?;
            }
            Ok::<(), StoreError>(())
        })?;
    }
    tracing::debug!("{} packages unpacked in {}", debs.len(), store.root().display());
    Ok(())
}
