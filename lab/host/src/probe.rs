//! What this host has: programs, and hardware virtualization as far as it can be known without using it.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where `name` is: a path as it stands when it has a slash, else the first executable of that name in `PATH`.
pub fn find_program(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let name = Path::new(name.as_ref());
    if name.as_os_str().as_encoded_bytes().contains(&b'/') {
        return executable(name).then(|| name.to_owned());
    }
    // Where administrators' tools are, for users whose PATH leaves them out (Debian's): mke2fs, depmod.
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|d| d.is_absolute())
        .chain(sbin)
        .map(|dir| dir.join(name))
        .find(|p| executable(p))
}

fn executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// What the host says of KVM before anything is run on it. That Xen *runs* on it is another question, which only
/// running Xen answers (`xenlab_machine::accel`): `/dev/kvm` opens on hosts where Xen does not get past its first
/// instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kvm {
    /// `/dev/kvm` opens for reading and writing, or why it does not and what to do.
    pub device: Result<(), String>,
    /// Kernel modules of KVM that are loaded (`kvm_intel`, `kvm_amd`, `kvm_pvm` …), sorted.
    pub modules: Vec<String>,
    /// `vmx` or `svm`, when the CPU has it (x86 only).
    pub extension: Option<&'static str>,
    /// Nested virtualization is on: HVM and PVH guests need it (x86 only; None where the question has no answer).
    pub nested: Option<bool>,
}

/// Asks the host about KVM.
///
/// The device is opened and not questioned: `KVM_GET_API_VERSION` is an ioctl, which takes unsafe code, and the
/// answer has been 12 since Linux 2.6.22 (Documentation/virt/kvm/api.rst, 4.1).
pub fn kvm() -> Kvm {
    kvm_at(Path::new("/"))
}

fn kvm_at(root: &Path) -> Kvm {
    let mut modules: Vec<String> = std::fs::read_dir(root.join("sys/module"))
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| n == "kvm" || n.starts_with("kvm_"))
        .collect();
    modules.sort();
    let cpuinfo = std::fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let flags = cpuinfo.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
    let extension = ["vmx", "svm"].into_iter().find(|x| flags.split_whitespace().any(|f| f == *x));
    let nested = ["kvm_intel", "kvm_amd"].iter().find_map(|m| {
        let text = std::fs::read_to_string(root.join("sys/module").join(m).join("parameters/nested")).ok()?;
        Some(matches!(text.trim(), "Y" | "1"))
    });
    Kvm { device: open_kvm(&root.join("dev/kvm")), modules, extension, nested }
}

fn open_kvm(path: &Path) -> Result<(), String> {
    let opened: io::Result<File> = OpenOptions::new().read(true).write(true).open(path);
    let shown = path.display();
    match opened.and_then(|f| f.metadata()) {
        Ok(meta) if meta.file_type().is_char_device() => Ok(()),
        Ok(_) => Err(format!("{shown} is not a device")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(format!(
            "there is no {shown}: this kernel has no KVM, its module is not loaded, or this is a container without the device"
        )),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let group = std::fs::metadata(path).map(|m| format!(" (group {})", m.gid())).unwrap_or_default();
            Err(format!(
                "{shown}{group} may not be opened by this user; usually `sudo usermod -aG kvm $USER` and a new login give access"
            ))
        }
        Err(e) => Err(format!("{shown} does not open: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs() {
        assert!(find_program("sh").is_some_and(|p| p.is_absolute()));
        assert_eq!(find_program("/bin/sh"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(find_program("/etc/passwd"), None);
        assert_eq!(find_program("/"), None);
        assert_eq!(find_program("no-such-program-anywhere"), None);
    }

    #[test]
    fn a_host_described_by_files() {
        let root = tempfile::tempdir().unwrap();
        let kvm = kvm_at(root.path());
        assert!(kvm.device.unwrap_err().contains("no "));
        assert_eq!((kvm.modules, kvm.extension, kvm.nested), (vec![], None, None));

        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("sys/module/kvm/x", "");
        put("sys/module/kvm_amd/parameters/nested", "1\n");
        put("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu svm npt\n");
        put("dev/kvm", "");
        let kvm = kvm_at(root.path());
        assert!(kvm.device.unwrap_err().contains("not a device"));
        assert_eq!(kvm.modules, ["kvm", "kvm_amd"]);
        assert_eq!((kvm.extension, kvm.nested), (Some("svm"), Some(true)));
        put("proc/cpuinfo", "flags\t\t: fpu svmx\n");
        assert_eq!(kvm_at(root.path()).extension, None);
    }
}
