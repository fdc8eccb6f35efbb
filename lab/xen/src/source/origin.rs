//! Where a source comes from: a folder as it lies, a revision of a git repository, a tarball, Debian's source package.

use super::{io, make, patch};
use crate::declared;
use crate::error::XenError;
use std::path::{Path, PathBuf};
use xenlab_host::Command;
use xenlab_store::{Store, Temporary};

/// A source, found and not yet read.
pub(crate) enum Origin {
    /// A folder as it lies.
    Folder {
        /// Its real path.
        path: PathBuf,
        /// Date and commit, `-dirty` where something was changed since; empty where git does not watch over it.
        changeset: String,
    },
    /// A revision.
    Revision {
        /// Where git is to look.
        repo: PathBuf,
        /// The commit.
        commit: String,
        /// Date and commit.
        changeset: String,
    },
    /// An archive that `tar` reads.
    Tarball {
        /// Its real path.
        path: PathBuf,
        /// SHA-256.
        digest: String,
    },
    /// A distribution's source package.
    Package(SourceFiles),
}

/// The files of a source package.
pub(crate) struct SourceFiles {
    /// What it is called: `xen 4.20.0-1`.
    pub(crate) label: String,
    /// What its workspace is kept by: the suite, since versions follow each other there.
    pub(crate) place: String,
    /// Archives of the source, unpacked over each other.
    pub(crate) tarballs: Vec<PathBuf>,
    /// The archive that has `debian/`.
    pub(crate) debian: PathBuf,
    /// SHA-256 of all of them.
    pub(crate) digest: String,
}

/// A source unpacked for as long as this lives.
pub(super) struct Unpacked {
    _tmp: Temporary,
    root: PathBuf,
}

impl Unpacked {
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

impl Origin {
    /// What `source:PATH[@REV]` names.
    pub(crate) fn of(name: &str, path: &Path, rev: Option<&str>, store: &Store) -> Result<Origin, XenError> {
        let real = std::fs::canonicalize(path).map_err(|e| crate::provider::not_there(name, path, e))?;
        let meta = std::fs::metadata(&real).map_err(|e| XenError::io(name, path, e))?;
        if let Some(rev) = rev {
            return revision(name, &real, rev);
        }
        if meta.is_file() {
            let digest = store.digest_file(&real).map_err(XenError::store(name))?;
            return Ok(Origin::Tarball { path: real, digest });
        }
        // A bare repository has no files to take as they are.
        if real.join("HEAD").is_file() && real.join("objects").is_dir() {
            return Err(XenError::WrongKind {
                spec: name.to_owned(),
                path: real,
                found: "a git repository without files",
                expected: "a tree, or a revision of it: source:PATH@REV",
            });
        }
        is_xen(name, &real)?;
        let changeset =
            if real.join(".git").exists() { described(&real, "HEAD", true)? } else { String::new() };
        Ok(Origin::Folder { path: real, changeset })
    }

    /// What a workspace is kept by: the place, whatever lies there now.
    pub(super) fn place(&self) -> String {
        match self {
            Origin::Folder { path, .. } => format!("folder {}", path.display()),
            Origin::Revision { repo, .. } => format!("repository {}", repo.display()),
            Origin::Tarball { path, .. } => {
                format!("archives of {}", path.parent().unwrap_or(path).display())
            }
            Origin::Package(files) => files.place.clone(),
        }
    }

    /// The folder to read, if it is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Origin::Folder { path, .. } => Some(path),
            _ => None,
        }
    }

    /// What changes with the content, of all but folders.
    pub(super) fn identity(&self) -> String {
        match self {
            Origin::Folder { path, .. } => path.display().to_string(),
            Origin::Revision { commit, .. } => format!("commit {commit}"),
            Origin::Tarball { digest, .. } => format!("archive {digest}"),
            Origin::Package(files) => format!("package {}", files.digest),
        }
    }

    /// The same of the files that are wanted: of a revision git knows what each of them is.
    pub(super) fn identity_of(&self, wanted: &dyn Fn(&str) -> bool) -> Result<String, XenError> {
        let Origin::Revision { repo, commit, .. } = self else { return Ok(self.identity()) };
        let asked = git(repo).args(["ls-tree", "-r", "-z", "--full-tree", commit]).stdout_limit(64 << 20);
        let said = asked.checked().map_err(make::child)?;
        let text = said.stdout.text();
        let lines = text.split('\0').filter(|l| l.split_once('\t').is_some_and(|(_, path)| wanted(path)));
        let list: Vec<&str> = lines.collect();
        Ok(format!("files {}", xenlab_store::hash_bytes(list.join("\n").as_bytes())))
    }

    /// It has this file, as far as that is known before it is unpacked.
    pub(super) fn has(&self, path: &str) -> Result<Option<bool>, XenError> {
        Ok(match self {
            Origin::Folder { path: folder, .. } => Some(folder.join(path).is_file()),
            Origin::Revision { repo, commit, .. } => {
                let asked = git(repo).args(["cat-file", "-e", &format!("{commit}:{path}")]);
                Some(asked.output().map_err(make::child)?.ended.ok())
            }
            Origin::Tarball { .. } | Origin::Package(_) => None,
        })
    }

    /// What Xen is to say of where it comes from.
    pub(super) fn changeset(&self) -> String {
        match self {
            Origin::Folder { changeset, .. } | Origin::Revision { changeset, .. } => changeset.clone(),
            Origin::Tarball { .. } => String::new(),
            Origin::Package(files) => files.label.clone(),
        }
    }

    /// The repository and the commit that it was taken from, changes since not counted.
    pub(super) fn revision(&self) -> Result<Option<(PathBuf, String)>, XenError> {
        match self {
            Origin::Revision { repo, commit, .. } => Ok(Some((repo.clone(), commit.clone()))),
            Origin::Folder { path, .. } if path.join(".git").exists() => {
                Ok(resolved(path, "HEAD")?.ok().map(|commit| (path.clone(), commit)))
            }
            _ => Ok(None),
        }
    }

    /// Unpacks it.
    pub(super) fn unpack(&self, name: &str, store: &Store) -> Result<Unpacked, XenError> {
        let tmp = store.temporary("source").map_err(XenError::store(name))?;
        let into = tmp.path().join("tree");
        std::fs::create_dir(&into).map_err(|e| io(name, "make", &into, e))?;
        match self {
            Origin::Revision { repo, commit, .. } => {
                let tar = tmp.path().join("tree.tar");
                let archive = git(repo).args(["archive", "--format=tar", "-o"]).arg(&tar).arg(commit);
                run(archive)?;
                untar(name, &tar, &into)?;
                std::fs::remove_file(&tar).map_err(|e| io(name, "remove", &tar, e))?;
            }
            Origin::Tarball { path, .. } => untar(name, path, &into)?,
            Origin::Package(files) => {
                for tarball in &files.tarballs {
                    untar(name, tarball, &into)?;
                }
            }
            Origin::Folder { path, .. } => {
                return Err(io(name, "unpack", path, std::io::Error::other("it is a folder")));
            }
        }
        let mut root = only_folder(&into);
        if let Origin::Package(files) = self {
            untar(name, &files.debian, &root)?;
            root = std::path::absolute(&root).unwrap_or(root);
        }
        Ok(Unpacked { _tmp: tmp, root })
    }

    /// The patches that a distribution's source brings with it.
    pub(super) fn series(&self, name: &str, folder: &Path) -> Result<Vec<patch::Patch>, XenError> {
        if !matches!(self, Origin::Package(_)) {
            return Ok(Vec::new());
        }
        let dir = folder.join("debian/patches");
        let Ok(text) = std::fs::read_to_string(dir.join("series")) else { return Ok(Vec::new()) };
        // A line is a file's name, options of patch may follow; `#` begins a comment.
        let names = text.lines().filter_map(|l| l.split('#').next()?.split_whitespace().next());
        let paths: Vec<PathBuf> = names.map(|n| dir.join(n)).collect();
        patch::read(name, &paths)
    }
}

/// It is the source of a Xen that the lab can build.
pub(super) fn is_xen(name: &str, folder: &Path) -> Result<(), XenError> {
    if declared::makefile(&folder.join("xen/Makefile")).is_some() {
        return Ok(());
    }
    let inside = declared::makefile(&folder.join("Makefile")).is_some();
    let looked_for = match inside {
        true => "xen/Makefile with XEN_VERSION; this is the tree's own folder xen/: name the folder above it",
        false => "xen/Makefile with XEN_VERSION: the top of Xen's source",
    };
    Err(XenError::NotABuild {
        spec: name.to_owned(),
        path: folder.to_owned(),
        looked_for: looked_for.to_owned(),
    })
}

/// The one folder that archives have at their top, or the folder itself.
fn only_folder(dir: &Path) -> PathBuf {
    let items: Vec<PathBuf> =
        std::fs::read_dir(dir).map(|i| i.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    match items.as_slice() {
        [only] if only.is_dir() && !dir.join("xen/Makefile").is_file() => only.clone(),
        _ => dir.to_owned(),
    }
}

pub(super) fn git(repo: &Path) -> Command {
    // Nothing of the user's repository is written, not even git's own notes on it.
    Command::new("git").args(["--no-optional-locks", "-C"]).arg(repo).env("LC_ALL", "C")
}

/// The commit that a name means, or what git said instead.
pub(super) fn resolved(repo: &Path, rev: &str) -> Result<Result<String, String>, XenError> {
    let asked = git(repo).args([
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        &format!("{rev}^{{commit}}"),
    ]);
    let output = asked.output().map_err(make::child)?;
    Ok(match output.ended.ok() {
        true => Ok(output.stdout.text().trim().to_owned()),
        false => Err(output.stderr.text().trim().to_owned()),
    })
}

fn revision(name: &str, repo: &Path, rev: &str) -> Result<Origin, XenError> {
    let commit = resolved(repo, rev)?.map_err(|said| {
        let (spec, path) = (name.to_owned(), repo.to_owned());
        match said.is_empty() {
            true => XenError::NoRevision { spec, path, rev: rev.to_owned() },
            false => XenError::Git { spec, path, said },
        }
    })?;
    let changeset = described(repo, &commit, false)?;
    Ok(Origin::Revision { repo: repo.to_owned(), commit, changeset })
}

/// As `xen/tools/scmversion` says it.
fn described(repo: &Path, rev: &str, files: bool) -> Result<String, XenError> {
    let output = git(repo)
        .args(["show", "-s", "--abbrev=10", "--pretty=%ad git:%h", rev])
        .output()
        .map_err(make::child)?;
    // A repository without a commit has nothing to say.
    if !output.ended.ok() {
        return Ok(String::new());
    }
    let mut said = output.stdout.text().trim().to_owned();
    if files {
        let differs = git(repo).args(["diff", "--quiet", "HEAD"]).output();
        if !differs.map_err(make::child)?.ended.ok() {
            said.push_str("-dirty");
        }
    }
    Ok(said)
}

/// Unpacks an archive with the host's tar, which knows how it is compressed.
fn untar(name: &str, archive: &Path, into: &Path) -> Result<(), XenError> {
    let tar = Command::new("tar").args(["--extract", "--no-same-owner", "--file"]).arg(archive);
    run(tar.arg("--directory").arg(into).env("LC_ALL", "C")).map_err(|e| match e {
        XenError::Child(xenlab_host::child::ChildError::Failed { stderr, .. })
            if !stderr.contains("No space left") =>
        {
            XenError::NotAnArchive {
                spec: name.to_owned(),
                path: archive.to_owned(),
                said: stderr.lines().next().unwrap_or_default().trim().to_owned(),
            }
        }
        e => e,
    })
}

fn run(command: Command) -> Result<(), XenError> {
    command.checked().map(drop).map_err(make::child)
}
