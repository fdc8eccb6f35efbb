//! Choosing and making the store's folder.

use crate::{FORMAT, StoreError};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xenlab_model::event::{Silent, Sink, What};

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// The folder; not said: `XENLAB_STORE`, `XDG_CACHE_HOME/xenlab`, `HOME/.cache/xenlab`, `/var/tmp/xenlab-UID`, the
    /// first of them that can be written. One that was named outright must be writable.
    pub root: Option<PathBuf>,
    /// Download nothing.
    pub offline: bool,
    /// Take nothing but what the locks name.
    pub locked: bool,
    /// Where progress goes.
    pub sink: Arc<dyn Sink>,
}

impl Default for Options {
    fn default() -> Self {
        Options { root: None, offline: false, locked: false, sink: Arc::new(Silent) }
    }
}

/// The folder to use, made and checked.
pub(crate) fn choose(options: &Options) -> Result<PathBuf, StoreError> {
    let named = options.root.clone().or_else(|| env_path("XENLAB_STORE"));
    if let Some(root) = named {
        let root = std::path::absolute(&root)
            .map_err(|e| StoreError::Root { root: root.clone(), reason: e.to_string() })?;
        return prepare(&root).map(|()| root);
    }
    let uid = rustix::process::getuid().as_raw();
    let candidates = [
        env_path("XDG_CACHE_HOME").filter(|p| p.is_absolute()).map(|p| p.join("xenlab")),
        env_path("HOME").filter(|p| p.is_absolute()).map(|p| p.join(".cache/xenlab")),
        Some(PathBuf::from(format!("/var/tmp/xenlab-{uid}"))),
    ];
    let mut tried = Vec::new();
    for root in candidates.into_iter().flatten() {
        match prepare(&root) {
            Ok(()) => {
                if !tried.is_empty() {
                    let message = format!("the store is {}, because {}", root.display(), tried.join("; "));
                    options.sink.emit(What::Note { case: None, message });
                }
                return Ok(root);
            }
            // A home that cannot be written (build users have such) is no reason to give up; a full disk or another
            // format is.
            Err(StoreError::Root { root, reason }) => tried.push(format!("{}: {reason}", root.display())),
            Err(e) => return Err(e),
        }
    }
    Err(StoreError::Root { root: format!("/var/tmp/xenlab-{uid}").into(), reason: tried.join("; ") })
}

fn env_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// Makes the folders, checks that they can be written and that the format is ours.
fn prepare(root: &Path) -> Result<(), StoreError> {
    let wrong = |what: &str, e: &std::io::Error| StoreError::Root {
        root: root.to_owned(),
        reason: format!("{what}: {e}"),
    };
    let io = |what: &str, path: &Path, e: std::io::Error| {
        if crate::is_full(&e) { StoreError::io(what, path, e) } else { wrong(what, &e) }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .map_err(|e| io("cannot make it", root, e))?;
    let meta = fs::metadata(root).map_err(|e| wrong("cannot look at it", &e))?;
    // Under /var/tmp anybody may have made a folder of that name.
    if root.parent() == Some(Path::new("/var/tmp"))
        && (meta.uid() != rustix::process::getuid().as_raw() || meta.permissions().mode() & 0o022 != 0)
    {
        return Err(StoreError::Root {
            root: root.to_owned(),
            reason: "it belongs to or can be written by another user".into(),
        });
    }
    let format = root.join("format");
    match fs::read_to_string(&format) {
        Ok(text) if text.trim() == FORMAT.to_string() => {}
        Ok(text) => {
            return Err(StoreError::Format {
                root: root.to_owned(),
                found: text.trim().chars().take(40).collect(),
            });
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            // Two processes may both make it: the same bytes, and a rename each.
            let tmp = root.join(format!("format.{}", std::process::id()));
            fs::write(&tmp, format!("{FORMAT}\n"))
                .and_then(|()| fs::rename(&tmp, &format))
                .map_err(|e| io("cannot write in it", root, e))?;
            let _ = fs::write(
                root.join("CACHEDIR.TAG"),
                "Signature: 8a477f597d28d172789f06886806bc55\n# What xenlab fetched and made; `xenlab image gc` shrinks it.\n",
            );
        }
        Err(e) => return Err(wrong("cannot read it", &e)),
    }
    for dir in ["keys", "content", "locks", "tmp", "files", "debian", "templates", "builds"] {
        let path = root.join(dir);
        fs::create_dir_all(&path).map_err(|e| io("cannot make folders in it", &path, e))?;
    }
    // That the folders exist does not mean that they can be written: a read-only file system, another user's store.
    let probe = root.join("tmp").join(format!("probe.{}", std::process::id()));
    fs::File::create(&probe)
        .and_then(|mut f| f.write_all(b"x"))
        .map_err(|e| io("cannot write in it", root, e))?;
    let _ = fs::remove_file(&probe);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_root_must_be_writable_and_ours() {
        let dir = tempfile::tempdir().unwrap();
        let options = |root: &Path| Options { root: Some(root.to_owned()), ..Options::default() };
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let e = choose(&options(&file.join("store"))).unwrap_err();
        assert!(matches!(e, StoreError::Root { .. }) && e.to_string().contains("XENLAB_STORE"), "{e}");
        let good = dir.path().join("a/b");
        assert_eq!(choose(&options(&good)).unwrap(), good);
        fs::write(good.join("format"), "99\n").unwrap();
        assert!(matches!(choose(&options(&good)), Err(StoreError::Format { .. })));
    }
}
