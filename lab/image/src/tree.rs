//! Read-only images: a tar stream into `sqfstar`, made without root.

use crate::ImageError;
use std::collections::HashSet;
use std::fs::File;
use std::io::{PipeWriter, Read, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use xenlab_host::child::{Child, Command};

/// Folders that are links into `usr/` in every root made here, whatever the packages think.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Where a path lies once `/bin`, `/sbin`, `/lib` and `/lib64` are links into `usr/`; without leading `./` or `/`.
pub(crate) fn merged(path: &str) -> String {
    let path = plain(path);
    let first = path.split('/').next().unwrap_or_default();
    if MERGED.contains(&first) && path.len() > first.len() { format!("usr/{path}") } else { path.to_owned() }
}

/// A path without what it begins with in tar archives.
fn plain(path: &str) -> &str {
    if path == "." { "" } else { path.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/') }
}

/// What a relative link says once the file that it is has moved with [`merged`].
fn merged_link(path: &str, target: &str) -> String {
    let plain = path.trim_start_matches("./").trim_start_matches('/');
    if target.starts_with('/') || merged(plain) == plain {
        return target.to_owned();
    }
    // Relative to where it was: made absolute, it does not matter where it is.
    let mut parts: Vec<&str> = plain.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A squashfs being written. Files come in any order; the first of a name stays.
pub(crate) struct Squash {
    tar: tar::Builder<std::io::BufWriter<PipeWriter>>,
    child: Child,
    seen: HashSet<String>,
    /// `/bin`, `/sbin`, `/lib` and `/lib64` are links into `usr/`.
    merge: bool,
}

impl Squash {
    /// As [`Squash::new`], for a root that is the user's: paths stay as they are.
    pub(crate) fn verbatim(to: &Path) -> Result<Squash, ImageError> {
        Ok(Squash { merge: false, ..Squash::new(to)? })
    }

    /// Where a path goes.
    fn place(&self, path: &str) -> String {
        if self.merge { merged(path) } else { plain(path).to_owned() }
    }

    /// Starts writing `to`. Nothing is compressed: reading is what costs, under emulation.
    pub(crate) fn new(to: &Path) -> Result<Squash, ImageError> {
        let (reader, writer) = std::io::pipe().map_err(|e| ImageError::io("make a pipe for", to, e))?;
        let child = Command::new("sqfstar")
            .args(["-quiet", "-no-progress", "-noI", "-noD", "-noF", "-noX", "-no-xattrs", "-mkfs-time", "0"])
            .args(["-root-mode", "755", "-root-uid", "0", "-root-gid", "0", "-root-time", "0"])
            .args(["-exit-on-error", "-mem", "64M"])
            .arg(to)
            .stdin_file(File::from(OwnedFd::from(reader)))
            .spawn()?;
        let mut tar = tar::Builder::new(std::io::BufWriter::with_capacity(1 << 18, writer));
        tar.mode(tar::HeaderMode::Deterministic);
        Ok(Squash { tar, child, seen: HashSet::new(), merge: true })
    }

    fn header(
        &mut self,
        path: &str,
        kind: tar::EntryType,
        mode: u32,
        owner: (u64, u64),
    ) -> Result<(), ImageError> {
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(kind);
        h.set_mode(mode);
        h.set_uid(owner.0);
        h.set_gid(owner.1);
        h.set_size(0);
        let name = format!("./{path}");
        let result = self.tar.append_data(&mut h, &name, std::io::empty());
        result.map_err(|e| self.broken(e))
    }

    /// The stream broke: what `sqfstar` says of it is worth more than "broken pipe".
    fn broken(&self, e: std::io::Error) -> ImageError {
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            self.child.kill();
            let said = self.child.stderr_tail();
            return xenlab_store::StoreError::tool("sqfstar", "ended early", &said, Path::new("the store"))
                .into();
        }
        ImageError::io("write to", Path::new("sqfstar"), e)
    }

    /// Adds the folders above a path, and says whether the path itself is new.
    fn claim(&mut self, path: &str) -> Result<bool, ImageError> {
        let mut end = 0;
        while let Some(i) = path[end..].find('/') {
            end += i;
            let above = path[..end].to_owned();
            if self.seen.insert(above.clone()) {
                self.header(&above, tar::EntryType::Directory, 0o755, (0, 0))?;
            }
            end += 1;
        }
        Ok(self.seen.insert(path.to_owned()))
    }

    /// Names of the shared libraries added so far, one a line, beside the image: what tools need is looked up there.
    pub(crate) fn list_libraries(&self, to: &Path) -> Result<(), ImageError> {
        let mut names: Vec<&str> =
            self.seen.iter().filter_map(|p| p.rsplit('/').next()).filter(|n| n.contains(".so")).collect();
        names.sort_unstable();
        names.dedup();
        std::fs::write(to, names.join("\n") + "\n").map_err(|e| ImageError::io("write", to, e))
    }

    /// It was added already.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.seen.contains(path)
    }

    /// A folder.
    pub(crate) fn dir(&mut self, path: &str, mode: u32) -> Result<(), ImageError> {
        self.dir_of(path, mode, (0, 0))
    }

    /// A folder with an owner.
    pub(crate) fn dir_of(&mut self, path: &str, mode: u32, owner: (u64, u64)) -> Result<(), ImageError> {
        let mut path = self.place(path);
        // A layer's folder of that name would hide the userland's link into `usr/`, and all that is found through it.
        if self.merge && MERGED.contains(&path.as_str()) {
            path = format!("usr/{path}");
        }
        if path.is_empty() || !self.claim(&path)? {
            return Ok(());
        }
        self.header(&path, tar::EntryType::Directory, mode, owner)
    }

    /// A link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<(), ImageError> {
        let to = if self.merge { merged_link(path, target) } else { target.to_owned() };
        let path = self.place(path);
        if !self.claim(&path)? {
            return Ok(());
        }
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(tar::EntryType::Symlink);
        h.set_mode(0o777);
        h.set_size(0);
        let result = self.tar.append_link(&mut h, format!("./{path}"), to);
        result.map_err(|e| self.broken(e))
    }

    /// A file with this content.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<(), ImageError> {
        self.stream(path, mode, (0, 0), content.len() as u64, content)
    }

    /// A file of this size, read from `content`.
    pub(crate) fn stream(
        &mut self,
        path: &str,
        mode: u32,
        owner: (u64, u64),
        size: u64,
        content: impl Read,
    ) -> Result<(), ImageError> {
        let path = self.place(path);
        if !self.claim(&path)? {
            return Ok(());
        }
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(tar::EntryType::Regular);
        h.set_mode(mode);
        h.set_uid(owner.0);
        h.set_gid(owner.1);
        h.set_size(size);
        let result = self.tar.append_data(&mut h, format!("./{path}"), content);
        result.map_err(|e| self.broken(e))
    }

    /// An entry of a package's or a user's tar, as it is; devices are left out (devtmpfs has them).
    pub(crate) fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), ImageError> {
        let bad = |e: std::io::Error| ImageError::io("read", Path::new("tar entry"), e);
        let original = entry.path().map_err(bad)?.to_string_lossy().into_owned();
        let header = entry.header().clone();
        let mode = header.mode().map_err(bad)? & 0o7777;
        let owner = (header.uid().map_err(bad)?, header.gid().map_err(bad)?);
        let link =
            entry.link_name().map_err(bad)?.map(|l| l.to_string_lossy().into_owned()).unwrap_or_default();
        match header.entry_type() {
            tar::EntryType::Directory => self.dir_of(&original, mode, owner),
            tar::EntryType::Symlink => self.link(&original, &link),
            tar::EntryType::Link => {
                let (path, to) = (self.place(&original), self.place(&link));
                if !self.claim(&path)? {
                    return Ok(());
                }
                let mut h = header;
                let result = self.tar.append_link(&mut h, format!("./{path}"), format!("./{to}"));
                result.map_err(|e| self.broken(e))
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let size = entry.size();
                self.stream(&original, mode, owner, size, entry)
            }
            _ => Ok(()),
        }
    }

    /// The links of a merged `/usr`, and the folders that things are mounted on.
    pub(crate) fn skeleton(&mut self) -> Result<(), ImageError> {
        for name in MERGED {
            self.link(name, &format!("usr/{name}"))?;
            self.dir(&format!("usr/{name}"), 0o755)?;
        }
        for name in
            ["proc", "sys", "dev", "run", "mnt", "xenlab", "usr/lib/modules", "var/lib", "var/log", "etc"]
        {
            self.dir(name, 0o755)?;
        }
        self.dir("tmp", 0o1777)?;
        self.dir("var/tmp", 0o1777)?;
        self.dir("root", 0o700)?;
        self.link("var/run", "/run")?;
        self.link("var/lock", "/run/lock")
    }

    /// Ends the image and waits for it to be whole.
    pub(crate) fn finish(self) -> Result<(), ImageError> {
        let Squash { tar, child, .. } = self;
        let ended = tar.into_inner().and_then(|mut w| w.flush().map(|()| w)).map(drop);
        let status = child.wait_blocking()?;
        if !status.ok() {
            let said = child.stderr_tail();
            let near = Path::new("the store");
            return Err(xenlab_store::StoreError::tool("sqfstar", &status.to_string(), &said, near).into());
        }
        ended.map_err(|e| ImageError::io("write to", Path::new("sqfstar"), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_links_of_a_merged_usr() {
        for (from, to) in [
            ("./bin/sh", "usr/bin/sh"),
            ("/lib/x", "usr/lib/x"),
            ("./lib", "lib"),
            ("usr/bin/x/", "usr/bin/x"),
            ("./etc/lib/x", "etc/lib/x"),
            ("./", ""),
            ("./lib64/ld.so", "usr/lib64/ld.so"),
            ("libx/y", "libx/y"),
        ] {
            assert_eq!(merged(from), to);
        }
        assert_eq!(merged_link("./lib/x/liba.so", "../y/libb.so"), "/lib/y/libb.so");
        assert_eq!(merged_link("./sbin/x", "../usr/bin/y"), "/usr/bin/y");
        assert_eq!(merged_link("./usr/bin/x", "../lib/y"), "../lib/y");
        assert_eq!(merged_link("./bin/x", "/etc/y"), "/etc/y");
    }
}
