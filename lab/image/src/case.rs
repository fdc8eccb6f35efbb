//! The case's own layer: a small cpio behind the initramfs, different in every boot.

use crate::cpio::Cpio;
use crate::{Dom0, ImageError};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use xenlab_model::scenario::config::StoreDaemon;

/// What a case puts into its dom0.
#[derive(Debug, Clone)]
pub struct CaseLayer {
    /// Unique to the boot; what dom0 says on its console carries it.
    pub nonce: String,
    /// Public keys that may log in as root, a line each.
    pub authorized_keys: Vec<String>,
    /// dom0's SSH host key.
    pub host_key: HostKey,
    /// The store daemon to start; none: what the build prefers.
    pub store: Option<StoreDaemon>,
    /// More settings, for inits that know them: a name of capital or small letters, digits and `_`, and any value.
    pub settings: BTreeMap<String, String>,
    /// More files: absolute path, permissions, content.
    pub files: Vec<(String, u32, Vec<u8>)>,
}

/// An SSH host key (ed25519), in the two forms that servers read.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct HostKey {
    /// OpenSSH's private format.
    pub openssh: String,
    /// dropbear's private format.
    pub dropbear: Vec<u8>,
    /// The public key, as in `known_hosts` and `authorized_keys`.
    pub public: String,
    /// The public key as it goes over the wire.
    pub public_blob: Vec<u8>,
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostKey({})", self.public)
    }
}

/// A key to log in with: the same kind as a host key.
pub type UserKey = HostKey;

impl HostKey {
    /// A new key from the system's random numbers.
    ///
    /// # Errors
    /// When there are none to be had.
    pub fn generate() -> Result<HostKey, ImageError> {
        use ssh_key::private::Ed25519Keypair;
        let bad = |e: ssh_key::Error| ImageError::Key(e.to_string());
        let mut seed = [0u8; 32];
        File::open("/dev/urandom")
            .and_then(|mut f| std::io::Read::read_exact(&mut f, &mut seed))
            .map_err(|e| ImageError::Key(e.to_string()))?;
        let pair = Ed25519Keypair::from_seed(&seed);
        // dropbear's ed25519.c, buf_put_ed25519_priv_key: the name, then the seed and the public key as one string.
        let mut dropbear = Vec::new();
        let mut put = |bytes: &[u8]| {
            dropbear.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            dropbear.extend_from_slice(bytes);
        };
        put(b"ssh-ed25519");
        put(&[&seed[..], &pair.public.0[..]].concat());
        let mut key = ssh_key::PrivateKey::from(pair);
        key.set_comment("xenlab");
        let public = key.public_key();
        Ok(HostKey {
            openssh: key.to_openssh(ssh_key::LineEnding::LF).map_err(bad)?.to_string(),
            dropbear,
            public: public.to_openssh().map_err(bad)?,
            public_blob: public.to_bytes().map_err(bad)?,
        })
    }
}

/// The store daemon to start, as settings name it; empty: what the build prefers.
fn store(case: &CaseLayer) -> &'static str {
    match case.store {
        None => "",
        Some(StoreDaemon::Xenstored) => "xenstored",
        Some(StoreDaemon::Oxenstored) => "oxenstored",
        Some(StoreDaemon::None) => "none",
    }
}

/// `/xenlab/settings`.
pub(crate) fn settings(case: &CaseLayer, more: &[(&str, String)]) -> String {
    let mut settings: BTreeMap<&str, String> = case
        .settings
        .iter()
        .filter(|(k, _)| !k.is_empty() && k.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .map(|(k, v)| (k.as_str(), v.clone()))
        .collect();
    settings.extend(more.iter().cloned());
    settings.insert("store", store(case).to_owned());
    settings.iter().map(|(k, v)| format!("{k}='{}'\n", v.replace('\'', "'\\''"))).collect()
}

/// The layer alone, for a root of `disks` images whose init is `init`.
fn layer(case: &CaseLayer, disks: usize, init: &str) -> Vec<u8> {
    let mut cpio = Cpio::new();
    cpio.file("xenlab/nonce", 0o644, format!("{}\n", case.nonce).as_bytes());
    let text = settings(case, &[("disks", disks.to_string()), ("init", init.to_owned())]);
    cpio.file("xenlab/settings", 0o644, text.as_bytes());
    cpio.file("xenlab/host-key", 0o600, &case.host_key.dropbear);
    let keys: String = case.authorized_keys.iter().map(|k| format!("{}\n", k.trim())).collect();
    let overlay = |cpio: &mut Cpio, path: &str, mode: u32, content: &[u8]| {
        cpio.file(&format!("xenlab/overlay/{}", path.trim_start_matches('/')), mode, content);
    };
    // The folder's own permissions matter to SSH servers.
    cpio.dir("xenlab/overlay/root", 0o700);
    cpio.dir("xenlab/overlay/root/.ssh", 0o700);
    overlay(&mut cpio, "root/.ssh/authorized_keys", 0o600, keys.as_bytes());
    overlay(&mut cpio, "etc/ssh/ssh_host_ed25519_key", 0o600, case.host_key.openssh.as_bytes());
    overlay(
        &mut cpio,
        "etc/ssh/ssh_host_ed25519_key.pub",
        0o644,
        format!("{}\n", case.host_key.public).as_bytes(),
    );
    // Debian's init script and upstream's launch-xenstore read from these which daemon to start.
    let store = store(case);
    if !store.is_empty() {
        let chosen = if store == "none" { "/bin/false".to_owned() } else { format!("$(command -v {store})") };
        // And whether the console daemon keeps what guests say.
        let text = format!(
            "[ -e /etc/xenlab/tools ] && . /etc/xenlab/tools\nXENSTORED={chosen}\nXENCONSOLED_ARGS=--log=all\nXENCONSOLED_TRACE=all\n"
        );
        overlay(&mut cpio, "etc/default/xen", 0o644, text.as_bytes());
        overlay(&mut cpio, "etc/default/xencommons", 0o644, text.as_bytes());
    }
    for (path, mode, content) in &case.files {
        overlay(&mut cpio, path, *mode, content);
    }
    cpio.finish()
}

/// The case's layer as a cpio archive, to be put behind `dom0.initrd`.
pub fn case_layer(case: &CaseLayer, dom0: &Dom0) -> Vec<u8> {
    layer(case, dom0.disks.len(), &dom0.init)
}

/// Writes the initramfs with the case's layer behind it to `to`. The base is copied by the kernel, not read into memory.
pub fn write_initrd(dom0: &Dom0, case: &CaseLayer, to: &Path) -> Result<(), ImageError> {
    let io = |e| ImageError::io("write", to, e);
    let mut base = File::open(&dom0.initrd).map_err(|e| ImageError::io("open", &dom0.initrd, e))?;
    let mut out = File::create(to).map_err(io)?;
    std::io::copy(&mut base, &mut out).map_err(io)?;
    out.write_all(&case_layer(case, dom0)).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> CaseLayer {
        CaseLayer {
            nonce: "n0nce".into(),
            authorized_keys: vec!["ssh-ed25519 AAAA".into()],
            host_key: HostKey::generate().unwrap(),
            store: Some(StoreDaemon::Oxenstored),
            settings: [("quote".to_owned(), "it's".to_owned()), ("bad key".into(), "x".into())].into(),
            files: vec![("/etc/x".into(), 0o600, b"content".to_vec())],
        }
    }

    #[test]
    fn the_layer_has_what_the_case_says() {
        let bytes = layer(&case(), 2, "/sbin/init");
        let text = String::from_utf8_lossy(&bytes);
        for part in [
            "n0nce\n",
            "disks='2'\n",
            "init='/sbin/init'\n",
            "quote='it'\\''s'\n",
            "store='oxenstored'\n",
            "content",
            "xenlab/overlay/etc/x",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("bad key"));
        assert_eq!(bytes.len() % 512, 0);
    }

    #[test]
    fn keys_differ_and_have_their_formats() {
        let (a, b) = (HostKey::generate().unwrap(), HostKey::generate().unwrap());
        assert_ne!(a.public, b.public);
        assert!(a.openssh.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
        assert!(a.public.starts_with("ssh-ed25519 "));
        assert_eq!(a.dropbear.len(), 4 + 11 + 4 + 64);
        assert!(a.public_blob.ends_with(&a.dropbear[51..]));
    }
}
