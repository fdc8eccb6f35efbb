//! The disk of a system: an ext4 file system with its closure, made without root.
//!
//! `mke2fs -d` copies a folder with its owners, and a user's copy of a store would be the user's in dom0, too. So `mke2fs` makes the file
//! system, and e2fsprogs' `debugfs` writes what is in it: what that makes is root's. Nothing is copied before, and nothing is mounted.

use crate::ImageError;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use xenlab_host::child::Command;
use xenlab_store::StoreError;
use xenlab_xen::RootDisk;

/// What a disk is to have.
pub(super) struct Closure<'a> {
    /// What every path is below on this machine.
    pub(super) root: &'a Path,
    /// The store's folder, as the system names it.
    pub(super) store: &'a Path,
    /// The system.
    pub(super) toplevel: &'a Path,
    /// Store paths, as the system names them.
    pub(super) paths: &'a [PathBuf],
}

/// The same, looked through.
pub(super) struct Contents {
    /// What `debugfs` is to do.
    commands: String,
    /// Files, folders and links.
    pub(super) count: u64,
    /// Of all files.
    pub(super) bytes: u64,
    /// Blocks that they take.
    blocks: u64,
}

const BLOCK: u64 = 4096;
/// What the system may write: logs, state, what it makes of its configuration.
const FREE: u64 = 512 << 20;
/// The longest link that lies in its inode (ext4, `EXT4_N_BLOCKS`).
const SHORT_LINK: usize = 59;
/// Inodes that every file system has: ten reserved ones and `lost+found`.
const RESERVED: u64 = 11;
/// Folders of a root that the system mounts on, or fills when it starts.
const FOLDERS: [&str; 12] =
    ["bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "var"];

impl Contents {
    pub(super) fn read(closure: &Closure<'_>) -> Result<Contents, ImageError> {
        let mut contents = Contents { commands: String::new(), count: 0, bytes: 0, blocks: 0 };
        for name in FOLDERS {
            contents.folder(name);
            contents.commands.push_str("cd ..\n");
        }
        contents.commands.push_str("sif root mode 040700\nsif tmp mode 041777\n");
        let inside = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_owned();
        for part in inside(closure.store).iter() {
            contents.folder(&quoted(part.as_bytes(), closure.store)?);
        }
        for path in closure.paths {
            contents.add(&closure.root.join(inside(path)))?;
        }
        // By which a system's own tools know what runs.
        contents.commands.push_str("cd /\n");
        let (first, more): (&[&str], &[&str]) = if closure.store.starts_with("/nix") {
            (&["nix"], &["var", "nix", "profiles"])
        } else {
            (&[], &["nix", "var", "nix", "profiles"])
        };
        first.iter().for_each(|name| {
            let _ = writeln!(contents.commands, "cd {name}");
        });
        more.iter().for_each(|name| contents.folder(name));
        contents.link("system", closure.toplevel)?;
        Ok(contents)
    }

    /// Makes a folder and goes into it; its name is quoted where it has to be.
    fn folder(&mut self, name: &str) {
        let _ = writeln!(self.commands, "mkdir {name}\ncd {name}");
        self.count += 1;
        self.blocks += 1;
    }

    fn link(&mut self, name: &str, target: &Path) -> Result<(), ImageError> {
        let to = target.as_os_str().as_bytes();
        let _ = writeln!(self.commands, "symlink {name} {}", quoted(to, target)?);
        self.count += 1;
        self.blocks += u64::from(to.len() > SHORT_LINK);
        Ok(())
    }

    /// Adds a file, link or folder with all that is in it, to the folder that is being filled.
    fn add(&mut self, physical: &Path) -> Result<(), ImageError> {
        let bad = |e| ImageError::io("read", physical, e);
        let meta = physical.symlink_metadata().map_err(bad)?;
        let name = quoted(physical.file_name().unwrap_or_default().as_bytes(), physical)?;
        if meta.is_symlink() {
            return self.link(&name, &std::fs::read_link(physical).map_err(bad)?);
        }
        if !meta.is_dir() {
            let from = quoted(physical.as_os_str().as_bytes(), physical)?;
            let _ = writeln!(self.commands, "write {from} {name}");
            self.count += 1;
            self.bytes += meta.len();
            // The last level of what leads to its blocks, where it has many.
            self.blocks += meta.len().div_ceil(BLOCK) + u64::from(meta.len() > 128 << 20) * 8;
            return Ok(());
        }
        self.folder(&name);
        let mut entries: Vec<PathBuf> = std::fs::read_dir(physical)
            .and_then(|all| all.map(|entry| entry.map(|e| e.path())).collect())
            .map_err(bad)?;
        entries.sort();
        // An entry of a folder is 8 bytes and a name, in blocks that are rarely full.
        self.blocks += entries.len() as u64 * 300 / BLOCK;
        for entry in &entries {
            self.add(entry)?;
        }
        self.commands.push_str("cd ..\n");
        Ok(())
    }

    /// Bytes of the disk: what lies on it, what describes it, and room.
    fn disk_bytes(&self) -> u64 {
        let described = self.inodes() * 256 + self.blocks * BLOCK / 32;
        (self.blocks * BLOCK + described + FREE + (32 << 20)).next_multiple_of(1 << 20)
    }

    fn inodes(&self) -> u64 {
        self.count + self.count / 8 + 16_384
    }
}

/// A word of a command of `debugfs`, whose quotes are doubled within quotes (e2fsprogs, lib/ss/parse.c).
fn quoted(word: &[u8], of: &Path) -> Result<String, ImageError> {
    let text = std::str::from_utf8(word).ok().filter(|t| !t.contains(['\n', '\0']));
    match text {
        Some(text) => Ok(format!("\"{}\"", text.replace('"', "\"\""))),
        None => Err(ImageError::Input {
            what: "the store path",
            path: of.to_owned(),
            reason: "its name has a line break or is not UTF-8, and cannot be put on a disk without root"
                .into(),
        }),
    }
}

/// Eight groups of a digest's digits.
fn uuid(identity: &str) -> String {
    let d = |from: usize, to: usize| identity.get(from..to).unwrap_or("0").to_owned();
    format!("{}-{}-4{}-a{}-{}", d(0, 8), d(8, 12), d(12, 15), d(15, 18), d(18, 30))
}

/// Writes the disk. `scratch` is a folder for what is needed meanwhile.
pub(super) fn write(
    contents: &Contents,
    disk: &RootDisk,
    identity: &str,
    to: &Path,
    scratch: &Path,
) -> Result<(), ImageError> {
    let uuid = disk.uuid.clone().unwrap_or_else(|| uuid(identity));
    let commands = scratch.join("commands");
    std::fs::write(&commands, &contents.commands).map_err(|e| ImageError::io("write", &commands, e))?;
    let mut mke2fs = Command::new("mke2fs");
    mke2fs = mke2fs.args(["-q", "-F", "-t", &disk.fs, "-b", "4096", "-m", "0", "-I", "256", "-U", &uuid]);
    mke2fs = mke2fs.args(["-N", &contents.inodes().to_string()]);
    // A disk that lives as long as its machine needs no journal; ext3 is nothing without one.
    if disk.fs == "ext4" {
        mke2fs = mke2fs.args(["-O", "^has_journal"]);
    }
    if let Some(label) = &disk.label {
        mke2fs = mke2fs.args(["-L", label]);
    }
    // All that it writes of its own is the same for the same closure.
    let fixed = format!("root_owner=0:0,lazy_itable_init=0,hash_seed={uuid}");
    mke2fs
        .args(["-E", &fixed])
        .arg(to)
        .arg(format!("{}K", contents.disk_bytes() / 1024))
        .env("E2FSPROGS_FAKE_TIME", "1")
        .checked()?;
    let did = Command::new("debugfs")
        .args(["-w", "-f"])
        .arg(&commands)
        .arg(to)
        .env("E2FSPROGS_FAKE_TIME", "1")
        .stdout_limit(1 << 16)
        .checked()?;
    let said = did.stderr.text();
    // It goes on after what it could not do, and ends well. Its version is the one other thing that it says.
    let complaints: Vec<&str> =
        said.lines().filter(|l| !l.trim().is_empty() && !l.starts_with("debugfs 1.")).collect();
    if !complaints.is_empty() {
        return Err(
            StoreError::tool("debugfs", "could not write everything", &complaints.join("\n"), to).into()
        );
    }
    let (used, expected) = (inodes_in_use(to)?, contents.count + RESERVED);
    if used != expected {
        let why = format!("wrote {used} files, folders and links in place of {expected}");
        return Err(StoreError::tool("debugfs", &why, "", to).into());
    }
    Ok(())
}

/// By the file system's own count.
fn inodes_in_use(disk: &Path) -> Result<u64, ImageError> {
    let output = Command::new("dumpe2fs").arg("-h").arg(disk).checked()?.stdout.text();
    let number = |name: &str| {
        let line = output.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|n| n.trim().parse::<u64>().ok())
    };
    match (number("Inode count"), number("Free inodes")) {
        (Some(all), Some(free)) if all >= free => Ok(all - free),
        _ => {
            Err(StoreError::tool("dumpe2fs", "does not say how many inodes are in use", &output, disk).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn made(dir: &Path) -> PathBuf {
        let store = dir.join("nix/store");
        std::fs::create_dir_all(store.join("aa-a/bin dir")).unwrap();
        std::fs::write(store.join("aa-a/bin dir/it's \"x\""), "content").unwrap();
        std::fs::set_permissions(
            store.join("aa-a/bin dir/it's \"x\""),
            std::fs::Permissions::from_mode(0o555),
        )
        .unwrap();
        std::fs::write(store.join("bb-file"), vec![7; 10_000]).unwrap();
        std::os::unix::fs::symlink("/nix/store/aa-a", store.join("cc-link")).unwrap();
        std::os::unix::fs::symlink(format!("/nix/store/{}", "l".repeat(90)), store.join("aa-a/long"))
            .unwrap();
        std::fs::write(store.join("dd-not-in-it"), "").unwrap();
        dir.to_owned()
    }

    fn disk(root: &Path, to: &Path) -> Result<(), ImageError> {
        let paths = ["aa-a", "bb-file", "cc-link"].map(|n| Path::new("/nix/store").join(n));
        let closure = Closure {
            root,
            store: Path::new("/nix/store"),
            toplevel: Path::new("/nix/store/aa-a"),
            paths: &paths,
        };
        let of = RootDisk { label: Some("my root".into()), uuid: None, fs: "ext4".into() };
        let scratch = tempfile::tempdir().unwrap();
        write(&Contents::read(&closure)?, &of, &"0123456789abcdef".repeat(4), to, scratch.path())
    }

    fn asked(disk: &Path, question: &str) -> String {
        let did = std::process::Command::new("/sbin/debugfs").args(["-R", question]).arg(disk).output();
        String::from_utf8_lossy(&did.unwrap().stdout).into_owned()
    }

    #[test]
    fn a_closure_lies_on_the_disk_as_root_s() {
        let dir = tempfile::tempdir().unwrap();
        let (root, to) = (made(&dir.path().join("root")), dir.path().join("disk"));
        disk(&root, &to).unwrap();
        let stat = asked(&to, "stat \"/nix/store/aa-a/bin dir/it's \"\"x\"\"\"");
        assert!(stat.contains("Mode:  0555") && stat.contains("User:     0"), "{stat}");
        assert!(stat.contains("Size: 7"), "{stat}");
        assert!(asked(&to, "stat /nix/store/aa-a/long").contains("symlink"));
        assert!(asked(&to, "stat /nix/store/cc-link").contains("Fast link dest: \"/nix/store/aa-a\""));
        assert!(asked(&to, "stat /nix/var/nix/profiles/system").contains("/nix/store/aa-a"));
        assert!(asked(&to, "stat /tmp").contains("Mode:  01777"));
        assert!(!asked(&to, "ls /nix/store").contains("dd-not-in-it"));
        assert!(asked(&to, "stats").contains("my root"));
        let checked = std::process::Command::new("/sbin/e2fsck").args(["-fn"]).arg(&to).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        // Again: the same bytes, whenever.
        let again = dir.path().join("again");
        disk(&root, &again).unwrap();
        assert!(std::fs::read(&to).unwrap() == std::fs::read(&again).unwrap());
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = made(&dir.path().join("root"));
        std::fs::write(root.join("nix/store/aa-a/two\nlines"), "").unwrap();
        let e = disk(&root, &dir.path().join("disk")).unwrap_err();
        assert!(e.is_bad_input() && e.to_string().contains("line break"), "{e}");
        std::fs::remove_file(root.join("nix/store/aa-a/two\nlines")).unwrap();
        // `debugfs` ends well whatever happened.
        let mut contents = Contents { commands: String::new(), count: 1, bytes: 0, blocks: 0 };
        let of = RootDisk { label: None, uuid: None, fs: "ext4".into() };
        let mut told = |commands: &str| {
            contents.commands = commands.to_owned();
            let to = dir.path().join("other");
            write(&contents, &of, &"ab".repeat(32), &to, dir.path()).unwrap_err().to_string()
        };
        assert!(told("write /no/such/file x\n").contains("could not write everything"));
        assert!(told("mkdir a\nmkdir b\n").contains("wrote 13 files, folders and links in place of 12"));
    }
}
