//! The image of Xen's tools: a tree, laid where it belongs in dom0.

use crate::ImageError;
use crate::tree::Squash;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use xenlab_model::Arch;
use xenlab_store::{Entry, Key, Store};

/// The tools of a Xen build, as files on the host.
#[derive(Debug, Clone)]
pub struct ToolsTree {
    /// The tree on the host.
    pub root: PathBuf,
    /// Where it lies in dom0: `/` for a DESTDIR, its own path for a prefix.
    pub mount: String,
    /// Identifies its content.
    pub key: String,
    /// Where its programs are, as paths in dom0, in the order of `PATH`.
    pub bin_dirs: Vec<String>,
    /// Where its shared libraries are, as paths in dom0.
    pub lib_dirs: Vec<String>,
    /// What dom0 gets, relative to `root`; none: everything but what is for developers and readers.
    pub files: Option<Vec<PathBuf>>,
    /// Folders without a file that dom0 gets too, relative to `root`.
    pub empty_dirs: Vec<PathBuf>,
    /// Sonames that the userland must bring.
    pub needs: Vec<String>,
    /// Where its libxl looks for the device model of HVM guests, as a path in dom0.
    pub device_model: Option<String>,
    /// The build brings it.
    pub own_device_model: bool,
}

impl From<&xenlab_xen::Tools> for ToolsTree {
    fn from(tools: &xenlab_xen::Tools) -> Self {
        let text = |paths: &[PathBuf]| paths.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        ToolsTree {
            root: tools.root.clone(),
            mount: tools.mount.to_string_lossy().into_owned(),
            key: tools.key.clone(),
            bin_dirs: text(&tools.bin_dirs),
            lib_dirs: text(&tools.lib_dirs),
            files: Some(tools.files.clone()),
            empty_dirs: tools.empty_dirs.clone(),
            needs: tools.needs.clone(),
            device_model: tools.device_model.as_ref().map(|d| d.path.to_string_lossy().into_owned()),
            own_device_model: tools.device_model.as_ref().is_some_and(|d| d.own),
        }
    }
}

/// Not needed in dom0: what is for developers and readers, and what is the hypervisor's.
const DROP: [&str; 9] = [
    "boot",
    "usr/share/doc",
    "usr/share/man",
    "usr/include",
    "include",
    "share/doc",
    "share/man",
    "usr/lib/debug",
    "usr/share/lintian",
];

/// The folders that the loader and `PATH` know without being told.
fn standard(dir: &str, arch: Arch) -> bool {
    let dir = dir.trim_end_matches('/');
    let dir = dir.strip_prefix("/usr").unwrap_or(dir);
    ["/bin", "/sbin", "/lib", "/lib64"].contains(&dir) || dir == format!("/lib/{}", arch.triplet())
}

/// What a build brings to start its daemons with, the services that `service: xen` stands for, and the links that
/// enable them in a systemd userland.
pub(crate) fn services(tools: &ToolsTree) -> (Vec<String>, Vec<(String, String)>) {
    // Of a tree that is a part of something larger only what was chosen counts.
    let there = |path: &str| match &tools.files {
        Some(files) => files.iter().any(|f| f == Path::new(path)),
        None => tools.root.join(path).is_file(),
    };
    let place = |path: &str| format!("{}/{path}", tools.mount.trim_end_matches('/'));
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<String>>();
    let wants =
        |unit: &str, at: &str| (format!("etc/systemd/system/multi-user.target.wants/{unit}"), at.to_owned());
    // Debian's, from trixie on a unit around the init script.
    if there("usr/lib/systemd/system/xen.service") {
        return (names(&["xen"]), vec![wants("xen.service", &place("usr/lib/systemd/system/xen.service"))]);
    }
    // Before that systemd makes a unit of the script, and the link says that it is wanted.
    if there("etc/init.d/xen") {
        let link = |level: &str| (format!("etc/rc{level}.d/S01xen"), "../init.d/xen".to_owned());
        return (names(&["xen"]), ["2", "3", "4", "5"].map(link).into());
    }
    // Upstream's and NixOS's units.
    let mut dirs = vec!["usr/lib/systemd/system".to_owned(), "lib/systemd/system".to_owned()];
    // Those of a Nix store lie in its paths.
    let units = tools.files.iter().flatten().filter(|f| f.ends_with("lib/systemd/system/xenstored.service"));
    dirs.extend(units.filter_map(|f| f.parent()).map(|d| d.to_string_lossy().into_owned()));
    for dir in &dirs {
        if there(&format!("{dir}/xenstored.service")) {
            let units = ["xenstored", "xen-init-dom0", "xenconsoled"];
            let has: Vec<&str> = units.into_iter().filter(|u| there(&format!("{dir}/{u}.service"))).collect();
            let mut links = Vec::new();
            let more = ["proc-xen.mount", "var-lib-xenstored.mount"];
            for unit in has.iter().map(|u| format!("{u}.service")).chain(more.map(String::from)) {
                if there(&format!("{dir}/{unit}")) {
                    let at = place(&format!("{dir}/{unit}"));
                    // A unit outside systemd's own folders is linked into them first.
                    links.push((format!("etc/systemd/system/{unit}"), at.clone()));
                    links.push(wants(&unit, &at));
                }
            }
            links.retain(|(path, at)| {
                tools.mount != "/" || path.contains(".wants/") || !at.starts_with("/usr/lib/systemd")
            });
            return (names(&has), links);
        }
    }
    if there("etc/init.d/xencommons") {
        let link =
            |level: &str| (format!("etc/rc{level}.d/S01xencommons"), "../init.d/xencommons".to_owned());
        return (names(&["xencommons"]), ["2", "3", "4", "5"].map(link).into());
    }
    (names(&["xenlab-xen"]), vec![wants("xenlab-xen.service", "/etc/systemd/system/xenlab-xen.service")])
}

/// The image, made when the store does not have it.
pub(crate) fn image(store: &Store, tools: &ToolsTree, arch: Arch) -> Result<Entry, ImageError> {
    let key = Key::new("tools")
        .part("format", 6)
        .part("tree", &tools.key)
        .part("mount", &tools.mount)
        .part("arch", arch)
        .part("bin", tools.bin_dirs.join(":"))
        .part("lib", tools.lib_dirs.join(":"));
    store.get_or_make(&key, &format!("Xen's tools for {arch} ({})", short(&tools.key)), |dir| {
        let task = store.task(&format!("tools:{}", tools.key), "making the image of Xen's tools", 0, "files");
        let result = make(tools, arch, &dir.join("tools.squashfs"), &task);
        task.end(result)
    })
}

fn short(key: &str) -> &str {
    key.get(..12).unwrap_or(key)
}

fn make(tools: &ToolsTree, arch: Arch, to: &Path, task: &xenlab_store::Task) -> Result<(), ImageError> {
    let mut squash = Squash::new(to)?;
    let bad = |path: &Path, e: std::io::Error| ImageError::io("read", path, e);
    squash.file("etc/xenlab/tools", 0o644, environment(tools).as_bytes())?;
    let (services, mut links) = services(tools);
    squash.file("etc/xenlab/services", 0o644, format!("{}\n", services.join("\n")).as_bytes())?;
    let at = |inside: &Path| {
        let place = format!("{}/{}", tools.mount.trim_end_matches('/'), inside.display());
        place.trim_start_matches('/').to_owned()
    };
    for dir in &tools.empty_dirs {
        squash.dir(&at(dir), 0o755)?;
    }
    // A package of Nix's brings its configuration in a folder of its own, and reads it in `/etc`, where a system would put it.
    let packages: BTreeSet<PathBuf> =
        tools.bin_dirs.iter().filter_map(|dir| xenlab_xen::store_path(Path::new(dir))).collect();
    for inside in &contents(tools).map_err(|(path, e)| bad(&path, e))? {
        let path = &tools.root.join(inside);
        let place = at(inside);
        let place = place.as_str();
        let meta = path.symlink_metadata().map_err(|e| bad(path, e))?;
        if meta.is_dir() {
            squash.dir(place, 0o755)?;
            continue;
        }
        if meta.is_symlink() {
            let target = std::fs::read_link(path).map_err(|e| bad(path, e))?;
            squash.link(place, &target.to_string_lossy())?;
        } else if meta.is_file() {
            let file = std::fs::File::open(path).map_err(|e| bad(path, e))?;
            squash.stream(place, meta.permissions().mode() & 0o7777, (0, 0), meta.len(), file)?;
            task.add(1);
        } else {
            continue;
        }
        // A prefix of one's own is known to neither the loader nor PATH: links in the places that are. What runs is
        // still the build's own file, as /proc shows.
        let (dir, name) = format!("/{place}")
            .rsplit_once('/')
            .map(|(d, n)| (d.to_owned(), n.to_owned()))
            .unwrap_or_default();
        if tools.lib_dirs.contains(&dir) && !standard(&dir, arch) && name.contains(".so") {
            links.push((format!("usr/lib/{}/{name}", arch.triplet()), format!("/{place}")));
        }
        let configuration = packages.iter().find_map(|p| {
            Path::new(&format!("/{place}")).strip_prefix(p.join("etc")).ok().map(Path::to_owned)
        });
        if let Some(inside) = configuration {
            links.push((format!("etc/{}", inside.display()), format!("/{place}")));
        }
        if tools.bin_dirs.contains(&dir) && !standard(&dir, arch) {
            links.push((format!("usr/bin/{name}"), format!("/{place}")));
        }
    }
    for (path, target) in links {
        squash.link(&path, &target)?;
    }
    squash.finish()
}

/// What dom0 gets of a tree, relative to its root, in the order of names: what was chosen, else everything that is of use there.
fn contents(tools: &ToolsTree) -> Result<Vec<PathBuf>, (PathBuf, std::io::Error)> {
    if let Some(files) = &tools.files {
        let mut files = files.clone();
        files.sort();
        return Ok(files);
    }
    let inside = |path: &Path| path.strip_prefix(&tools.root).unwrap_or(path).to_owned();
    let walk = walkdir::WalkDir::new(&tools.root).min_depth(1).sort_by_file_name();
    let walk = walk.into_iter().filter_entry(|e| {
        let inside = inside(e.path()).to_string_lossy().into_owned();
        !DROP.contains(&inside.as_str()) && !inside.ends_with(".a")
    });
    walk.map(|item| {
        item.map(|entry| inside(entry.path())).map_err(|e| {
            let path = e.path().unwrap_or(&tools.root).to_owned();
            (path, e.into_io_error().unwrap_or_else(|| std::io::Error::other("a loop of links")))
        })
    })
    .collect()
}

/// What the userlands read to find the tools, in the shell's language.
fn environment(tools: &ToolsTree) -> String {
    let quote = |s: &str| format!("'{}'", s.replace('\'', "'\\''"));
    format!(
        "# Where this Xen build's tools are; read by dom0's init.\nexport PATH={}:$PATH\nXEN_LIB_DIRS={}\n",
        quote(&tools.bin_dirs.join(":")),
        quote(&tools.lib_dirs.join(":"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_is_started_by() {
        let dir = tempfile::tempdir().unwrap();
        let tree = ToolsTree {
            root: dir.path().to_owned(),
            mount: "/".into(),
            key: "k".into(),
            bin_dirs: vec!["/usr/sbin".into()],
            lib_dirs: Vec::new(),
            files: None,
            empty_dirs: Vec::new(),
            needs: Vec::new(),
            device_model: None,
            own_device_model: false,
        };
        let touch = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        let got = |tree: &ToolsTree| {
            let (services, links) = services(tree);
            (services.join(" "), links.into_iter().map(|l| l.0).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(got(&tree).0, "xenlab-xen");
        touch("etc/init.d/xencommons");
        assert_eq!(got(&tree).0, "xencommons");
        touch("usr/lib/systemd/system/xenstored.service");
        touch("usr/lib/systemd/system/xenconsoled.service");
        touch("usr/lib/systemd/system/proc-xen.mount");
        let (services, links) = got(&tree);
        assert_eq!(services, "xenstored xenconsoled");
        assert!(
            links.contains("wants/xenconsoled.service") && links.contains("wants/proc-xen.mount"),
            "{links}"
        );
        touch("etc/init.d/xen");
        let (services, links) = got(&tree);
        assert_eq!(services, "xen");
        assert!(links.contains("etc/rc3.d/S01xen"), "{links}");
        touch("usr/lib/systemd/system/xen.service");
        assert_eq!(got(&tree).1, "etc/systemd/system/multi-user.target.wants/xen.service");
    }

    #[test]
    fn only_places_that_nobody_knows_get_links() {
        for (dir, known) in [
            ("/usr/sbin", true),
            ("/bin", true),
            ("/usr/lib/x86_64-linux-gnu", true),
            ("/usr/local/lib", false),
            ("/opt/xen/sbin", false),
            ("/usr/lib/xen-4.20/bin", false),
            ("/usr/lib/aarch64-linux-gnu", false),
        ] {
            assert_eq!(standard(dir, Arch::X86_64), known, "{dir}");
        }
    }

    #[test]
    fn the_environment_survives_any_path() {
        let tree = ToolsTree {
            root: "/".into(),
            mount: "/".into(),
            key: "k".into(),
            bin_dirs: vec!["/a b/it's".into()],
            lib_dirs: Vec::new(),
            files: None,
            empty_dirs: Vec::new(),
            needs: Vec::new(),
            device_model: None,
            own_device_model: false,
        };
        assert!(environment(&tree).contains("export PATH='/a b/it'\\''s':$PATH"));
    }
}
