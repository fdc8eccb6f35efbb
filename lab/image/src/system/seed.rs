//! The lab's own disk: what a boot's dom0 is told, as a tar archive on a disk of the serial number `xenlab`. All of it is drawn anew for each
//! boot. The lab's NixOS module unpacks it to `/xenlab`, and starts the shell on the lab's ports from it.

use super::SystemDom0;
use crate::case::settings;
use crate::{CaseLayer, ImageError, first, recipe};
use std::path::Path;
use xenlab_model::Arch;

/// Writes it.
///
/// # Errors
/// It cannot be written, or a file is not one that a system can be given.
pub fn write_seed(dom0: &SystemDom0, case: &CaseLayer, arch: Arch, to: &Path) -> Result<(), ImageError> {
    let busybox = std::fs::read(&dom0.busybox).map_err(|e| ImageError::io("read", &dom0.busybox, e))?;
    let keys: String = case.authorized_keys.iter().map(|k| format!("{}\n", k.trim())).collect();
    let mut files: Vec<(String, u32, Vec<u8>)> = [
        ("nonce", 0o644, format!("{}\n", case.nonce).into_bytes()),
        ("settings", 0o644, settings(case, &[]).into_bytes()),
        ("authorized_keys", 0o600, keys.into_bytes()),
        ("ssh-host-key", 0o600, case.host_key.openssh.clone().into_bytes()),
        ("ssh-host-key.pub", 0o644, format!("{}\n", case.host_key.public).into_bytes()),
        ("busybox", 0o755, busybox),
        ("port", 0o644, recipe::file("initramfs/port")?.to_vec()),
        ("port.agent", 0o644, recipe::file("initramfs/port.agent")?.to_vec()),
        ("port.first", 0o755, first::program(arch)),
    ]
    .map(|(name, mode, content)| (format!("xenlab/{name}"), mode, content))
    .into();
    for (path, mode, content) in &case.files {
        let path = path.trim_start_matches('/');
        if !path.starts_with("xenlab/") {
            let reason = "a system of its own takes no files but in /xenlab".to_owned();
            return Err(ImageError::Input { what: "the file", path: path.into(), reason });
        }
        files.push((path.to_owned(), *mode, content.clone()));
    }
    let write = || {
        let mut tar = tar::Builder::new(Vec::new());
        tar.mode(tar::HeaderMode::Deterministic);
        let header = |kind, mode, size| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(size);
            header.set_uid(0);
            header.set_gid(0);
            header
        };
        tar.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), "xenlab/", std::io::empty())?;
        for (path, mode, content) in &files {
            let mut of = header(tar::EntryType::Regular, *mode, content.len() as u64);
            tar.append_data(&mut of, path, &content[..])?;
        }
        std::fs::write(to, tar.into_inner()?)
    };
    write().map_err(|e| ImageError::io("write", to, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostKey;
    use std::collections::BTreeMap;

    #[test]
    fn what_a_system_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let busybox = dir.path().join("busybox");
        std::fs::write(&busybox, "static").unwrap();
        let dom0 = SystemDom0 {
            xen_args: Vec::new(),
            kernel_args: Vec::new(),
            kernel_name: String::new(),
            initrd_name: String::new(),
            module: true,
            toplevel: "/nix/store/t".into(),
            busybox,
        };
        let mut case = CaseLayer {
            nonce: "n0nce".into(),
            authorized_keys: vec!["ssh-ed25519 AAAA".into()],
            host_key: HostKey::generate().unwrap(),
            store: None,
            settings: BTreeMap::from([("quote".to_owned(), "it's".to_owned())]),
            files: vec![("/xenlab/agent".into(), 0o644, b"agent".to_vec())],
        };
        let to = dir.path().join("seed");
        write_seed(&dom0, &case, Arch::X86_64, &to).unwrap();
        // A disk has whole sectors.
        assert_eq!(std::fs::metadata(&to).unwrap().len() % 512, 0);
        let mut archive = tar::Archive::new(std::fs::File::open(&to).unwrap());
        let mut got = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            let path = entry.path().unwrap().display().to_string();
            got.insert(path, (entry.header().mode().unwrap(), content));
        }
        assert_eq!(got["xenlab/nonce"].1, b"n0nce\n");
        assert_eq!(got["xenlab/settings"].1, b"quote='it'\\''s'\nstore=''\n");
        assert_eq!(got["xenlab/ssh-host-key"].0, 0o600);
        assert_eq!((got["xenlab/busybox"].0, &got["xenlab/agent"].1[..]), (0o755, &b"agent"[..]));
        assert!(got["xenlab/port.first"].1.starts_with(b"\x7fELF"));
        case.files.push(("/etc/passwd".into(), 0o644, Vec::new()));
        assert!(write_seed(&dom0, &case, Arch::X86_64, &to).is_err());
    }
}
