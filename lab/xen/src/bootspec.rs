//! `boot.json`: how a NixOS system says what boots it (NixOS RFC 125, bootspec version 1), Xen's extensions of it
//! (nixpkgs, nixos/modules/virtualisation/xen-dom0.nix), and `/etc/fstab`, which says on what file system it wants to find its root. Pure.

use crate::build::RootDisk;
use serde_json::{Map, Value};
use std::path::PathBuf;
use xenlab_model::arch::Arch;

/// The document's own part.
const V1: &str = "org.nixos.bootspec.v1";
/// What the names of Xen's extensions begin with; a version follows.
const XEN: &str = "org.xenproject.bootspec.";

/// What a `boot.json` says, as far as it is of use here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bootspec {
    pub(crate) arch: Arch,
    pub(crate) label: String,
    pub(crate) toplevel: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) kernel_params: Vec<String>,
    pub(crate) initrd: PathBuf,
    pub(crate) init: PathBuf,
    pub(crate) xen: Xen,
}

/// What Xen's extension says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Xen {
    /// Its name.
    pub(crate) extension: String,
    /// What multiboot loads; version 1 does not know it.
    pub(crate) multiboot: Option<PathBuf>,
    /// The image for EFI firmware.
    pub(crate) efi: PathBuf,
    pub(crate) params: Vec<String>,
    /// Version 1 does not know it.
    pub(crate) version: Option<String>,
}

impl Bootspec {
    /// Every path that it names, with the field that does.
    pub(crate) fn paths(&self) -> Vec<(String, &PathBuf)> {
        let field = |of: &str, name: &str| format!("{of}.{name}");
        let efi = if self.xen.multiboot.is_some() { "efiPath" } else { "xen" };
        let mut all = vec![
            (field(V1, "kernel"), &self.kernel),
            (field(V1, "initrd"), &self.initrd),
            (field(V1, "init"), &self.init),
            (field(&self.xen.extension, efi), &self.xen.efi),
        ];
        all.extend(self.xen.multiboot.iter().map(|path| (field(&self.xen.extension, "multibootPath"), path)));
        all
    }
}

/// Reads one. Everything that is wrong with it is told at once.
pub(crate) fn parse(text: &str) -> Result<Bootspec, String> {
    let document: Value = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?;
    let Some(document) = document.as_object() else {
        return Err("it is no JSON object, as a bootspec is".to_owned());
    };
    let Some(own) = document.get(V1) else {
        let others: Vec<&str> =
            document.keys().map(String::as_str).filter(|k| k.starts_with("org.nixos.bootspec.")).collect();
        let has = if others.is_empty() { String::new() } else { format!(", it has {}", others.join(", ")) };
        return Err(format!("it has no `{V1}`{has}; that is the version of bootspec that xenlab knows"));
    };
    let mut of = Fields { of: V1, fields: own.as_object(), wrong: Vec::new() };
    let (label, toplevel) = (of.text("label"), of.path("toplevel"));
    let (kernel, initrd, init) = (of.path("kernel"), of.path("initrd"), of.path("init"));
    let (kernel_params, system) = (of.words("kernelParams"), of.text("system"));
    let arch = match system.as_str() {
        "x86_64-linux" => Some(Arch::X86_64),
        "aarch64-linux" => Some(Arch::Aarch64),
        "" => None,
        other => {
            of.wrong
                .push(format!("`system` is `{other}`, and xenlab boots x86_64-linux and aarch64-linux only"));
            None
        }
    };
    let mut wrong = of.wrong;
    let xen = match xen(document) {
        Ok(xen) => Some(xen),
        Err(more) => {
            wrong.extend(more);
            None
        }
    };
    match (arch, xen) {
        (Some(arch), Some(xen)) if wrong.is_empty() => {
            Ok(Bootspec { arch, label, toplevel, kernel, kernel_params, initrd, init, xen })
        }
        _ => Err(wrong.join("; ")),
    }
}

fn xen(document: &Map<String, Value>) -> Result<Xen, Vec<String>> {
    // Of the two the second, as nixpkgs' own builder of boot entries does it (xen-boot-builder.sh).
    for version in ["v2", "v1"] {
        let name = format!("{XEN}{version}");
        let Some(value) = document.get(&name) else { continue };
        let mut of = Fields { of: &name, fields: value.as_object(), wrong: Vec::new() };
        let xen = if version == "v2" {
            let (efi, multiboot) = (of.path("efiPath"), of.path("multibootPath"));
            let (params, version) = (of.words("params"), of.text("version"));
            Xen { extension: name.clone(), multiboot: Some(multiboot), efi, params, version: Some(version) }
        } else {
            let (efi, params) = (of.path("xen"), of.words("xenParams"));
            Xen { extension: name.clone(), multiboot: None, efi, params, version: None }
        };
        return if of.wrong.is_empty() { Ok(xen) } else { Err(of.wrong) };
    }
    let others: Vec<&str> = document.keys().map(String::as_str).filter(|k| k.starts_with(XEN)).collect();
    Err(vec![if others.is_empty() {
        format!(
            "it has no `{XEN}v2`: this system has no Xen. Set `virtualisation.xen.enable = true` in its configuration"
        )
    } else {
        format!("it has {}, and xenlab knows `{XEN}v1` and `{XEN}v2`", others.join(", "))
    }])
}

/// The fields of an object, and what is wrong with them.
struct Fields<'a> {
    of: &'a str,
    fields: Option<&'a Map<String, Value>>,
    wrong: Vec<String>,
}

impl Fields<'_> {
    fn get(&mut self, name: &str) -> Option<Value> {
        let value = self.fields.and_then(|fields| fields.get(name)).filter(|v| !v.is_null());
        if value.is_none() {
            self.wrong.push(format!("`{}` has no `{name}`", self.of));
        }
        value.cloned()
    }

    fn not(&mut self, name: &str, expected: &str, found: &Value) {
        self.wrong.push(format!("`{name}` of `{}` is {found}, expected {expected}", self.of));
    }

    fn text(&mut self, name: &str) -> String {
        match self.get(name) {
            Some(Value::String(text)) if !text.is_empty() => return text,
            Some(other) => self.not(name, "a text", &other),
            None => {}
        }
        String::new()
    }

    fn path(&mut self, name: &str) -> PathBuf {
        match self.get(name) {
            Some(Value::String(text)) if text.starts_with('/') => return text.into(),
            Some(other) => self.not(name, "an absolute path", &other),
            None => {}
        }
        PathBuf::new()
    }

    fn words(&mut self, name: &str) -> Vec<String> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let words = value.as_array().and_then(|list| {
            list.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        });
        words.unwrap_or_else(|| {
            self.not(name, "a list of words", &value);
            Vec::new()
        })
    }
}

/// File systems that need no disk.
const OF_NO_DISK: [&str; 12] = [
    "tmpfs",
    "ramfs",
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup2",
    "overlay",
    "efivarfs",
    "securityfs",
    "debugfs",
    "mqueue",
];

/// What `/etc/fstab` says of the root, and of what else must be there: a machine of the lab's has one disk, the root.
pub(crate) fn root_disk(fstab: &str) -> Result<RootDisk, String> {
    let mut root = None;
    let mut others = Vec::new();
    for line in fstab.lines().filter(|l| !l.trim_start().starts_with('#')) {
        let fields: Vec<String> = line.split_whitespace().map(unescaped).collect();
        let [device, place, fs, rest @ ..] = &fields[..] else { continue };
        let options = rest.first().map_or("", String::as_str);
        let has = |option: &str| options.split(',').any(|o| o == option);
        if place == "/" {
            root = Some((device.clone(), fs.clone()));
        } else if !OF_NO_DISK.contains(&fs.as_str())
            && !["nofail", "noauto", "bind", "rbind"].iter().any(|o| has(o))
        {
            others.push(format!("{device} ({})", if fs == "swap" { "swap" } else { place.as_str() }));
        }
    }
    let Some((device, fs)) = root else { return Err("it has no line for `/`".to_owned()) };
    if !others.is_empty() {
        return Err(format!(
            "it wants {}, and a machine of xenlab's has no disk but the root's: add the option `nofail` to them, or leave them out of the \
             configuration that is tested",
            others.join(", ")
        ));
    }
    let fs = if fs == "auto" { "ext4".to_owned() } else { fs };
    if !["ext2", "ext3", "ext4"].contains(&fs.as_str()) {
        return Err(format!("its root is {fs}, and xenlab makes ext2, ext3 and ext4 only"));
    }
    let by = |forms: [&str; 2]| forms.iter().find_map(|form| device.strip_prefix(form)).map(str::to_owned);
    let label = by(["/dev/disk/by-label/", "LABEL="]);
    let uuid = by(["/dev/disk/by-uuid/", "UUID="]);
    if label.is_none() && uuid.is_none() && device != "/dev/vda" {
        return Err(format!(
            "its root is {device}, which cannot be had here: name it by label (/dev/disk/by-label/nixos), by UUID, or as /dev/vda"
        ));
    }
    // ext4's own limit (e2fsprogs, `s_volume_name`).
    if let Some(label) = label.as_ref().filter(|l| l.len() > 16 || l.is_empty()) {
        return Err(format!("its root's label `{label}` is none that ext4 can have: 1 to 16 bytes"));
    }
    if let Some(uuid) = uuid.as_ref().filter(|u| !is_uuid(u)) {
        return Err(format!("its root's UUID `{uuid}` is none that ext4 can have"));
    }
    Ok(RootDisk { label, uuid, fs })
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|p| p.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// `\040` is a space (fstab(5)); udev writes `\x20` in the names of its links.
fn unescaped(field: &str) -> String {
    let mut out = String::new();
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|code| {
            let hex = code.strip_prefix('x').map(|hex| u8::from_str_radix(hex, 16));
            hex.unwrap_or_else(|| u8::from_str_radix(code, 8)).ok().filter(u8::is_ascii)
        });
        match code {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "org.nixos.bootspec.v1": {
                "system": "x86_64-linux", "init": "/nix/store/t/init", "initrd": "/nix/store/i/initrd",
                "kernel": "/nix/store/k/bzImage", "kernelParams": ["loglevel=4", "root=fstab"],
                "label": "NixOS", "toplevel": "/nix/store/t"
            },
            "org.nixos.specialisation.v1": {},
            "org.xenproject.bootspec.v2": {
                "efiPath": "/nix/store/x/boot/xen.efi", "multibootPath": "/nix/store/x/boot/xen.gz",
                "params": ["loglvl=all"], "version": "4.20.1"
            }
        })
    }

    fn of(document: &Value) -> Result<Bootspec, String> {
        parse(&document.to_string())
    }

    #[test]
    fn versions_of_the_extension() {
        let both = of(&document()).unwrap();
        assert_eq!((both.arch, both.label.as_str()), (Arch::X86_64, "NixOS"));
        assert_eq!(both.kernel_params, ["loglevel=4", "root=fstab"]);
        assert_eq!(both.xen.multiboot.as_deref(), Some("/nix/store/x/boot/xen.gz".as_ref()));
        assert_eq!(both.xen.version.as_deref(), Some("4.20.1"));
        let mut old = document();
        let extension = json!({"xen": "/nix/store/x/boot/old.efi", "xenParams": ["a", "b"]});
        // The second counts where there are both.
        old["org.xenproject.bootspec.v1"] = extension.clone();
        assert_eq!(of(&old).unwrap(), both);
        old.as_object_mut().unwrap().remove("org.xenproject.bootspec.v2");
        let first = of(&old).unwrap().xen;
        assert_eq!((first.multiboot, first.version, first.params.len()), (None, None, 2));
        assert_eq!(first.efi.to_str(), Some("/nix/store/x/boot/old.efi"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let without = |path: [&str; 2]| {
            let mut document = document();
            let fields = document[path[0]].as_object_mut().unwrap();
            assert!(fields.remove(path[1]).is_some());
            of(&document).unwrap_err()
        };
        for field in ["system", "init", "initrd", "kernel", "kernelParams", "label", "toplevel"] {
            assert_eq!(without([V1, field]), format!("`{V1}` has no `{field}`"));
        }
        for field in ["efiPath", "multibootPath", "params", "version"] {
            let name = "org.xenproject.bootspec.v2";
            assert_eq!(without([name, field]), format!("`{name}` has no `{field}`"));
        }
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut document = document();
            change(&mut document);
            of(&document).unwrap_err()
        };
        let no_xen = changed(&|d| {
            d.as_object_mut().unwrap().remove("org.xenproject.bootspec.v2");
        });
        assert!(no_xen.contains("this system has no Xen") && no_xen.contains("virtualisation.xen.enable"));
        let newer = changed(&|d| {
            let extension = d.as_object_mut().unwrap().remove("org.xenproject.bootspec.v2").unwrap();
            d["org.xenproject.bootspec.v3"] = extension;
        });
        assert!(newer.starts_with("it has org.xenproject.bootspec.v3, and xenlab knows"), "{newer}");
        let other = changed(&|d| {
            let own = d.as_object_mut().unwrap().remove(V1).unwrap();
            d["org.nixos.bootspec.v2"] = own;
        });
        assert!(other.contains("has no `org.nixos.bootspec.v1`, it has org.nixos.bootspec.v2"), "{other}");
        let several = changed(&|d| {
            d[V1]["kernelParams"] = json!("quiet");
            d[V1]["system"] = json!("riscv64-linux");
            d["org.xenproject.bootspec.v2"]["efiPath"] = json!("boot/xen.efi");
        });
        for part in ["expected a list of words", "`system` is `riscv64-linux`", "expected an absolute path"] {
            assert!(several.contains(part), "{several}");
        }
        assert!(parse("{").unwrap_err().contains("no JSON"));
        assert!(parse("[]").unwrap_err().contains("no JSON object"));
        assert!(parse("{}").unwrap_err().contains("org.nixos.bootspec.v1"));
    }

    #[test]
    fn the_root_by_fstab() {
        let root =
            |line: &str| root_disk(&format!("# made by NixOS\n{line}\ntmpfs /tmp tmpfs defaults 0 0\n"));
        let label = root("/dev/disk/by-label/nixos / ext4 x-initrd.mount 0 1").unwrap();
        assert_eq!((label.label.as_deref(), label.uuid, label.fs.as_str()), (Some("nixos"), None, "ext4"));
        assert_eq!(root("LABEL=my\\040root / auto defaults").unwrap().label.as_deref(), Some("my root"));
        assert_eq!(
            root("/dev/disk/by-label/my\\x20root / ext3 x").unwrap().label.as_deref(),
            Some("my root")
        );
        let uuid = "2f8b9c1e-0d4a-4c7e-9b1f-3a5d7c9e1b2f";
        assert_eq!(root(&format!("UUID={uuid} / ext4 defaults")).unwrap().uuid.as_deref(), Some(uuid));
        assert_eq!(root("/dev/vda / ext4 defaults").unwrap().label, None);
        for (line, says) in [
            ("", "no line for `/`"),
            ("/dev/disk/by-label/nixos / btrfs subvol=root", "its root is btrfs"),
            ("tmpfs / tmpfs mode=0755", "its root is tmpfs"),
            ("/dev/sda2 / ext4 defaults", "its root is /dev/sda2"),
            ("LABEL=a-label-that-is-too-long / ext4 defaults", "1 to 16 bytes"),
            ("UUID=1234-ABCD / ext4 defaults", "UUID `1234-ABCD`"),
            (
                "/dev/vda / ext4 defaults\n/dev/disk/by-uuid/12-AB /boot vfat umask=0077 0 2\nLABEL=s none swap defaults",
                "it wants /dev/disk/by-uuid/12-AB (/boot), LABEL=s (swap), and a machine",
            ),
        ] {
            let said = root(line).unwrap_err();
            assert!(said.contains(says), "{line}: {said}");
        }
        root("/dev/vda / ext4 defaults\n/dev/sdb1 /boot vfat nofail\n/srv /mnt none bind").unwrap();
    }
}
