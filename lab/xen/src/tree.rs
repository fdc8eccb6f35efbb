//! A folder of files as a build system or a package installs them: what is there, without opening any.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// A file, link or folder of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What a link says, for a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<PathBuf>,
    /// It is a folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dir: bool,
    /// Permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
}

/// Every file, link and folder below a root, by path relative to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// By relative path.
    pub nodes: BTreeMap<PathBuf, Node>,
}

/// The folders that an install tree has at its top; others are not looked into, so that naming `/tmp` or `/` costs nothing.
const TOP: &[&str] = &[
    "bin", "boot", "efi", "etc", "include", "lib", "lib32", "lib64", "libexec", "nix", "opt", "sbin",
    "share", "usr", "var",
];

/// How many names are looked at before a folder is taken to be something else (`dir:/`).
const MOST: usize = 200_000;

impl Tree {
    /// Walks `root`. The second value changes whenever a file does: its stamps, hashed.
    pub fn walk(root: &Path) -> std::io::Result<(Tree, String)> {
        let mut nodes = BTreeMap::new();
        let mut stamps = String::new();
        let relevant = |e: &walkdir::DirEntry| e.depth() != 1 || TOP.iter().any(|t| e.file_name() == *t);
        for entry in
            walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter().filter_entry(relevant)
        {
            // What vanishes between being listed and being looked at is not there.
            let gone = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
            let entry = match entry.map_err(std::io::Error::from) {
                Ok(entry) => entry,
                Err(e) if gone(&e) => continue,
                Err(e) => return Err(e),
            };
            let m = match entry.metadata().map_err(std::io::Error::from) {
                Ok(m) => m,
                Err(e) if gone(&e) => continue,
                Err(e) => return Err(e),
            };
            let path = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_owned();
            let link = entry.path_is_symlink().then(|| std::fs::read_link(entry.path())).transpose()?;
            let node = Node {
                dir: m.is_dir(),
                mode: m.permissions().mode() & 0o7777,
                size: if m.is_dir() { 0 } else { m.len() },
                link,
            };
            use std::fmt::Write;
            let _ = write!(stamps, "{}\0{:o}\0{}\0", path.display(), m.mode(), node.size);
            match &node.link {
                Some(link) => stamps.push_str(&link.to_string_lossy()),
                None if node.dir => {}
                None => {
                    let _ = write!(stamps, "{}.{:09}\0{}", m.mtime(), m.mtime_nsec(), m.ino());
                }
            }
            stamps.push('\n');
            nodes.insert(path, node);
            if nodes.len() > MOST {
                return Err(std::io::Error::other(format!(
                    "more than {MOST} files: this is no install tree"
                )));
            }
        }
        Ok((Tree { nodes }, xenlab_store::hash_bytes(stamps.as_bytes())))
    }

    /// The file that this path leads to, links followed inside the tree as they would be in dom0, where the tree lies at `mount`.
    pub fn resolve(&self, path: &Path, mount: &Path) -> Option<PathBuf> {
        let mut todo: Vec<PathBuf> = vec![path.to_owned()];
        let mut here = PathBuf::new();
        for _ in 0..64 {
            let Some(next) = todo.pop() else {
                return self.nodes.get(&here).filter(|n| n.link.is_none()).map(|_| here);
            };
            let mut parts = next.components();
            let Some(first) = parts.next() else { continue };
            let rest = parts.as_path();
            if !rest.as_os_str().is_empty() {
                todo.push(rest.to_owned());
            }
            match first {
                Component::Normal(name) => here.push(name),
                Component::ParentDir => {
                    here.pop();
                    continue;
                }
                Component::CurDir => continue,
                Component::RootDir | Component::Prefix(_) => {
                    here = PathBuf::new();
                    continue;
                }
            }
            if let Some(Node { link: Some(link), .. }) = self.nodes.get(&here) {
                here.pop();
                if link.is_absolute() {
                    here = PathBuf::new();
                    todo.push(link.strip_prefix(mount).ok()?.to_owned());
                } else {
                    todo.push(link.clone());
                }
            }
        }
        None
    }

    /// Files and links directly in a folder: path and node.
    pub fn in_dir<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> {
        self.nodes.iter().filter(move |(p, n)| !n.dir && p.parent() == Some(dir))
    }

    /// Folders with nothing in them.
    pub fn empty_dirs(&self) -> impl Iterator<Item = &PathBuf> {
        use std::ops::Bound::{Excluded, Unbounded};
        let empty = |p: &Path| {
            let next = self.nodes.range::<Path, _>((Excluded(p), Unbounded)).next();
            !next.is_some_and(|(n, _)| n.starts_with(p))
        };
        self.nodes.iter().filter(move |(p, n)| n.dir && empty(p)).map(|(p, _)| p)
    }

    /// It has this folder.
    pub fn has_dir(&self, dir: &Path) -> bool {
        self.nodes.get(dir).is_some_and(|n| n.dir)
    }

    /// Files and links of this name, anywhere.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> {
        self.nodes.iter().filter(move |(p, n)| !n.dir && p.file_name().is_some_and(|f| f == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(entries: &[(&str, Option<&str>)]) -> Tree {
        let node =
            |link: Option<&str>| Node { link: link.map(PathBuf::from), dir: false, mode: 0o644, size: 1 };
        Tree { nodes: entries.iter().map(|(p, l)| (PathBuf::from(p), node(*l))).collect() }
    }

    #[test]
    fn links_are_followed_inside_the_tree_only() {
        let t = tree(&[
            ("boot/xen-4.20.1.gz", None),
            ("boot/xen.gz", Some("xen-4.20.1.gz")),
            ("usr/sbin/xl", Some("../lib/wrapper")),
            ("usr/lib/wrapper", None),
            ("abs", Some("/usr/lib/wrapper")),
            ("loop", Some("loop")),
            ("out", Some("/etc/passwd")),
            ("store", Some("/nix/store/x/usr/lib/wrapper")),
        ]);
        let at = |p: &str| t.resolve(Path::new(p), Path::new("/")).map(|p| p.display().to_string());
        assert_eq!(at("boot/xen.gz").as_deref(), Some("boot/xen-4.20.1.gz"));
        assert_eq!(at("usr/sbin/xl").as_deref(), Some("usr/lib/wrapper"));
        assert_eq!(at("abs").as_deref(), Some("usr/lib/wrapper"));
        assert_eq!(at("loop"), None);
        assert_eq!(at("out"), None);
        assert_eq!(at("gone"), None);
        let mounted = t.resolve(Path::new("store"), Path::new("/nix/store/x"));
        assert_eq!(mounted.as_deref(), Some(Path::new("usr/lib/wrapper")));
    }

    #[test]
    fn a_changed_file_changes_the_stamp() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("etc")).expect("made");
        std::fs::write(dir.path().join("etc/a"), "1").expect("written");
        let (first, stamp) = Tree::walk(dir.path()).expect("walked");
        assert_eq!(Tree::walk(dir.path()).expect("walked").1, stamp);
        std::fs::write(dir.path().join("etc/a"), "22").expect("written");
        // Not a folder of an install tree.
        std::fs::write(dir.path().join("b"), "1").expect("written");
        let (second, changed) = Tree::walk(dir.path()).expect("walked");
        assert_ne!(stamp, changed);
        assert_ne!(first, second);
        assert!(!second.nodes.contains_key(Path::new("b")));
    }
}
