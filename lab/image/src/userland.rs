//! Userlands: the largest of dom0's images, made once for all Xen builds of a suite.

use crate::recipe::{self, Recipe};
use crate::tree::{Squash, merged};
use crate::{Console, ImageError, Init, Layout, systemd};
use std::path::{Path, PathBuf};
use xenlab_model::Arch;
use xenlab_model::spec::UserlandSpec;
use xenlab_store::debian::{Deb, for_each_file};
use xenlab_store::{Entry, Key, Store};

/// A userland's image.
pub(crate) struct Userland {
    pub(crate) image: PathBuf,
    pub(crate) entry: Entry,
    pub(crate) layout: Layout,
    /// What the initramfs hands over to.
    pub(crate) init: String,
}

/// The file in each entry.
const IMAGE: &str = "root.squashfs";
/// Names of the libraries in it, beside it.
pub(crate) const LIBRARIES: &str = "libraries";

pub(crate) fn userland(
    store: &Store,
    spec: &UserlandSpec,
    suite: &str,
    arch: Arch,
) -> Result<Userland, ImageError> {
    let (entry, layout, init) = match spec {
        UserlandSpec::Minimal { .. } => (
            from_packages(store, "minimal", suite, arch, &minimal)?,
            Layout::minimal(Vec::new()),
            "/usr/sbin/xenlab-init",
        ),
        UserlandSpec::Systemd { .. } => (
            from_packages(store, "systemd", suite, arch, &systemd::write)?,
            systemd::layout(Vec::new()),
            "/usr/lib/systemd/systemd",
        ),
        UserlandSpec::Tar(file) => (from_tar(store, file)?, tar_layout(), "/sbin/init"),
    };
    Ok(Userland { image: entry.file(IMAGE), entry, layout, init: init.to_owned() })
}

/// What lays a userland's own files, before the packages': the first of a name stays.
type Own<'a> = &'a dyn Fn(&mut Squash, &Recipe, &[Deb]) -> Result<(), ImageError>;

fn from_packages(
    store: &Store,
    set: &str,
    suite: &str,
    arch: Arch,
    own: Own<'_>,
) -> Result<Entry, ImageError> {
    let recipe = recipe::recipe(set)?;
    let request = recipe.request(set, suite, arch);
    let key = |lock: &xenlab_store::debian::Lock| {
        Key::new("userland").part("format", 4).part("recipe", recipe::digest(set)).part("lock", lock.digest())
    };
    let lock = recipe::lock(store, &request)?;
    if let Some(entry) = store.get(&key(&lock))? {
        return Ok(entry);
    }
    let resolved = recipe::packages(store, &request)?;
    store.get_or_make(&key(&resolved.lock), &format!("userland {set} of {suite} for {arch}"), |dir| {
        let message = format!("making the userland {set} of {suite} for {arch}");
        let task = store.task(
            &format!("userland:{set}-{suite}-{arch}"),
            &message,
            resolved.debs.len() as u64,
            "packages",
        );
        let result = write(&recipe, &resolved.debs, &dir.join(IMAGE), own, &task);
        task.end(result)
    })
}

fn write(
    recipe: &Recipe,
    debs: &[Deb],
    to: &Path,
    own: Own<'_>,
    task: &xenlab_store::Task,
) -> Result<(), ImageError> {
    let mut squash = Squash::new(to)?;
    squash.skeleton()?;
    own(&mut squash, recipe, debs)?;
    let mut busybox = false;
    for deb in debs {
        for_each_file(deb, |entry| {
            let bad = |e| ImageError::io("unpack", &deb.path, e);
            let path = merged(&entry.path().map_err(bad)?.to_string_lossy());
            let only = recipe.packages.only_files.get(&deb.package);
            if dropped(recipe, &path) || only.is_some_and(|files| !files.contains(&path)) {
                return Ok(());
            }
            busybox |= path == "usr/bin/busybox";
            squash.entry(entry)
        })?;
        task.add(1);
    }
    if busybox {
        for applet in &recipe.applets {
            let there = ["usr/bin", "usr/sbin"].iter().any(|d| squash.has(&format!("{d}/{applet}")));
            if !there {
                squash.link(&format!("usr/bin/{applet}"), "busybox")?;
            }
        }
    }
    squash.list_libraries(&to.with_file_name(LIBRARIES))?;
    squash.finish()
}

pub(crate) fn dropped(recipe: &Recipe, path: &str) -> bool {
    recipe
        .drop
        .iter()
        .any(|d| path.strip_prefix(d.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn minimal(squash: &mut Squash, _recipe: &Recipe, _debs: &[Deb]) -> Result<(), ImageError> {
    squash.file("usr/sbin/xenlab-init", 0o755, recipe::file("minimal/init")?)?;
    squash.link("usr/sbin/init", "xenlab-init")?;
    // What udev would make.
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        squash.link(&format!("usr/share/xenlab/dev/{name}"), &format!("/proc/self/fd{target}"))?;
    }
    squash.file(
        "etc/passwd",
        0o644,
        b"root::0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    )?;
    squash.file("etc/group", 0o644, b"root:x:0:\ntty:x:5:\ndisk:x:6:\nnogroup:x:65534:\n")?;
    squash.file("etc/shells", 0o644, b"/bin/sh\n/bin/bash\n")?;
    squash.file("etc/hosts", 0o644, b"127.0.0.1 localhost xenlab\n")?;
    squash.file("etc/hostname", 0o644, b"xenlab\n")?;
    squash.file("etc/profile", 0o644, b"[ -e /etc/xenlab/tools ] && . /etc/xenlab/tools\n")?;
    squash.dir("etc/dropbear", 0o755)?;
    squash.dir("var/log/xen/console", 0o755)?;
    squash.dir("var/lib/xen", 0o755)?;
    squash.dir("var/lib/xenstored", 0o755)
}

/// The user's own root, as it is.
fn from_tar(store: &Store, file: &Path) -> Result<Entry, ImageError> {
    let input = |reason: String| ImageError::Input { what: "the userland", path: file.to_owned(), reason };
    if !file.is_file() {
        return Err(input("there is no such file".into()));
    }
    let key = Key::new("userland").part("format", 4).part("tar", store.digest_file(file)?);
    store.get_or_make(&key, &format!("userland {}", file.display()), |dir| {
        let task = store.task("userland:tar", &format!("making an image of {}", file.display()), 0, "files");
        let result = repack(file, &dir.join(IMAGE), &task, &input);
        task.end(result)
    })
}

fn repack(
    file: &Path,
    to: &Path,
    task: &xenlab_store::Task,
    input: &dyn Fn(String) -> ImageError,
) -> Result<(), ImageError> {
    use std::io::Read as _;
    let open = || std::fs::File::open(file).map_err(|e| input(e.to_string()));
    let mut magic = Vec::new();
    open()?.take(6).read_to_end(&mut magic).map_err(|e| input(e.to_string()))?;
    let reader: Box<dyn std::io::Read> = if magic.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::MultiGzDecoder::new(open()?))
    } else if magic.starts_with(b"\xfd7zXZ\0") {
        Box::new(liblzma::read::XzDecoder::new_multi_decoder(open()?))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(ruzstd::decoding::StreamingDecoder::new(open()?).map_err(|e| input(format!("zstd: {e}")))?)
    } else {
        Box::new(open()?)
    };
    let mut archive = tar::Archive::new(reader);
    let mut squash = Squash::verbatim(to)?;
    let mut files = 0u64;
    for entry in archive.entries().map_err(|e| input(e.to_string()))? {
        let mut entry = entry.map_err(|e| input(format!("it is no tar archive, or a damaged one: {e}")))?;
        squash.entry(&mut entry)?;
        files += 1;
        task.done(files);
    }
    if files == 0 {
        return Err(input("it is no tar archive, or an empty one".into()));
    }
    squash.list_libraries(&to.with_file_name(LIBRARIES))?;
    squash.finish()
}

fn tar_layout() -> Layout {
    Layout {
        userland: "tar".into(),
        init: Init::Unknown,
        marks_ready: false,
        xen_services: ["xenstored", "xen-init-dom0", "xenconsoled"].map(String::from).into(),
        user: "root".into(),
        ssh_port: 22,
        login: Vec::new(),
        console: Console::Terminal,
        path: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ToolsTree;
    use std::process::Command;
    use xenlab_store::Options;

    fn store(dir: &Path) -> Store {
        Store::open(Options { root: Some(dir.join("store")), offline: true, ..Options::default() }).unwrap()
    }

    /// `unsquashfs -lln`: mode, owner and path of everything in an image.
    fn listing(image: &Path) -> String {
        let output = Command::new("unsquashfs").args(["-lln", "-n"]).arg(image).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_root_of_ones_own_is_used_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut tar =
            tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut add = |path: &str, kind: tar::EntryType, mode: u32, uid: u64, content: &[u8]| {
            let mut h = tar::Header::new_gnu();
            h.set_entry_type(kind);
            h.set_mode(mode);
            h.set_uid(uid);
            h.set_gid(uid);
            h.set_size(content.len() as u64);
            tar.append_data(&mut h, path, content).unwrap();
        };
        add("./", tar::EntryType::Directory, 0o755, 0, b"");
        add("./sbin", tar::EntryType::Directory, 0o755, 0, b"");
        add("./sbin/init", tar::EntryType::Regular, 0o4755, 7, b"#!/bin/sh\n");
        add("./dev/null", tar::EntryType::Char, 0o666, 0, b"");
        let file = dir.path().join("root.tar.gz");
        std::fs::write(&file, tar.into_inner().unwrap().finish().unwrap()).unwrap();
        let store = store(dir.path());
        let made = from_tar(&store, &file).unwrap();
        let list = listing(&made.file(IMAGE));
        assert!(
            list.lines()
                .any(|l| l.starts_with("-rwsr-xr-x") && l.contains("7/7") && l.ends_with("/sbin/init")),
            "{list}"
        );
        // The root itself, too: `/` that others may write is what SSH servers refuse.
        assert!(list.lines().next().is_some_and(|l| l.starts_with("drwxr-xr-x")), "{list}");
        assert!(!list.contains("null") && !list.contains("usr/sbin"), "{list}");
        // Again: the same entry. Another file: refused with its name.
        assert_eq!(from_tar(&store, &file).unwrap().digest, made.digest);
        let bad = dir.path().join("bad.tar");
        std::fs::write(&bad, "hello").unwrap();
        for path in [&bad, &dir.path().join("absent.tar")] {
            let e = from_tar(&store, path).unwrap_err();
            assert!(e.is_bad_input() && e.to_string().contains(path.to_str().unwrap()), "{e}");
        }
    }

    #[test]
    fn tools_lie_where_they_belong_and_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        for (path, content) in [
            ("sbin/xl", "xl"),
            ("lib/libxenlight.so.4.17", "lib"),
            ("include/xen/xen.h", "h"),
            ("lib/libxenlight.a", "a"),
        ] {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        std::os::unix::fs::symlink("libxenlight.so.4.17", tree.join("lib/libxenlight.so")).unwrap();
        let tools = ToolsTree {
            root: tree,
            mount: "/opt/xen".into(),
            key: "one".into(),
            bin_dirs: vec!["/opt/xen/sbin".into()],
            lib_dirs: vec!["/opt/xen/lib".into()],
            files: None,
            empty_dirs: Vec::new(),
            needs: Vec::new(),
            device_model: None,
            own_device_model: false,
        };
        let store = store(dir.path());
        let made = crate::tools::image(&store, &tools, Arch::X86_64).unwrap();
        let list = listing(&made.file("tools.squashfs"));
        for want in [
            "/opt/xen/sbin/xl",
            "/usr/bin/xl -> /opt/xen/sbin/xl",
            "/usr/lib/x86_64-linux-gnu/libxenlight.so.4.17 -> /opt/xen/lib/libxenlight.so.4.17",
            "/opt/xen/lib/libxenlight.so -> libxenlight.so.4.17",
            "/etc/xenlab/tools",
            "/etc/xenlab/services",
        ] {
            assert!(list.lines().any(|l| l.ends_with(want)), "{want} in\n{list}");
        }
        assert!(!list.contains("xen.h") && !list.contains("libxenlight.a"), "{list}");
        let began = std::time::Instant::now();
        assert_eq!(crate::tools::image(&store, &tools, Arch::X86_64).unwrap().digest, made.digest);
        assert!(began.elapsed().as_millis() < 100);
    }
}
