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
        Key::new("userland").part("format", 2).part("recipe", recipe::digest(set)).part("lock", lock.digest())
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
            if dropped(recipe, &path) {
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
    squash.finish()
}

fn dropped(recipe: &Recipe, path: &str) -> bool {
    recipe
        .drop
        .iter()
        .any(|d| path.strip_prefix(d.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn minimal(squash: &mut Squash, _recipe: &Recipe, _debs: &[Deb]) -> Result<(), ImageError> {
    squash.file("usr/sbin/xenlab-init", 0o755, recipe::file("minimal/init")?)?;
    squash.link("usr/sbin/init", "xenlab-init")?;
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
    let key = Key::new("userland").part("format", 2).part("tar", store.digest_file(file)?);
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
