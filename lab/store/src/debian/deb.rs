//! Reading `.deb` files, with dpkg's own program.

use super::Deb;
use crate::{Store, StoreError};
use std::io::Read as _;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

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
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                StoreError::ToolMissing { program: "dpkg-deb".into(), package: "dpkg" }
            }
            _ => StoreError::io("start", Path::new("dpkg-deb"), e),
        })?;
    let result = child.stdout.take().map_or(Ok(()), |stdout| read_all(stdout, &deb.path, &mut each));
    if result.is_err() {
        let _ = child.kill();
    }
    let mut stderr = String::new();
    if let Some(pipe) = child.stderr.take() {
        let _ = pipe.take(8192).read_to_string(&mut stderr);
    }
    let status = child.wait().map_err(|e| StoreError::io("wait for dpkg-deb on", &deb.path, e))?;
    result?;
    if !status.success() {
        return Err(StoreError::tool("dpkg-deb", &status.to_string(), &stderr, &deb.path).into());
    }
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
