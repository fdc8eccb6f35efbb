//! Kernel modules: those asked for, what they depend on, in the order in which they are loaded.
//!
//! Dependencies are read from the modules themselves (`depends=` in `.modinfo`), as `depmod` does: a package that was
//! only unpacked has no `modules.dep`, and this needs no `depmod` on the host.

use crate::kernel::decompress;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The modules chosen, decompressed.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// (name, file's bytes), dependencies before those that need them.
    pub(crate) modules: Vec<(String, Vec<u8>)>,
    /// For each, the names it depends on directly.
    pub(crate) depends: BTreeMap<String, Vec<String>>,
    /// Asked for and not there: built in, or not in this kernel.
    pub(crate) absent: Vec<String>,
}

/// A module's name as the kernel has it, of a file name or of what people write.
pub(crate) fn name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

/// The path is a module's.
pub(crate) fn is_module(path: &str) -> bool {
    [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().any(|e| path.ends_with(e))
}

/// Chooses modules and what they depend on; `read` gives the bytes of a module's file by the module's name, if there is one.
pub(crate) fn choose(
    wanted: &[String],
    mut read: impl FnMut(&str) -> io::Result<Option<Vec<u8>>>,
) -> io::Result<Chosen> {
    let mut chosen = Chosen::default();
    let mut seen = BTreeSet::new();
    for w in wanted {
        add(&name(w), true, &mut read, &mut seen, &mut chosen)?;
    }
    Ok(chosen)
}

fn add(
    module: &str,
    asked: bool,
    read: &mut impl FnMut(&str) -> io::Result<Option<Vec<u8>>>,
    seen: &mut BTreeSet<String>,
    chosen: &mut Chosen,
) -> io::Result<()> {
    if !seen.insert(module.to_owned()) {
        return Ok(());
    }
    let Some(bytes) = read(module)? else {
        if asked {
            chosen.absent.push(module.to_owned());
        }
        return Ok(());
    };
    let bytes = match decompress(&bytes) {
        Some(plain) => plain.map_err(|e| io::Error::other(format!("module {module}: {e}")))?,
        None => bytes,
    };
    let depends = depends(&bytes);
    for d in &depends {
        add(d, false, read, seen, chosen)?;
    }
    chosen.depends.insert(module.to_owned(), depends);
    chosen.modules.push((module.to_owned(), bytes));
    Ok(())
}

/// `depends=a,b` among the NUL-terminated strings of `.modinfo`.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"depends=";
    let mut from = 0;
    while let Some(i) = find(&module[from..], KEY) {
        let at = from + i;
        from = at + KEY.len();
        // The string begins there, it is not the end of another word.
        if at == 0 || module[at - 1] == 0 {
            let end = module[from..].iter().position(|&b| b == 0).map_or(module.len(), |n| from + n);
            let text = String::from_utf8_lossy(&module[from..end]).into_owned();
            return text.split(',').filter(|s| !s.is_empty()).map(name).collect();
        }
    }
    Vec::new()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

impl Chosen {
    /// `modules.dep` for files in one folder: each with everything it needs, the nearest first, as `depmod` writes it.
    pub(crate) fn modules_dep(&self) -> String {
        let mut text = String::new();
        for (module, _) in &self.modules {
            let mut needs: Vec<String> = Vec::new();
            let mut queue = self.depends.get(module).cloned().unwrap_or_default();
            while !queue.is_empty() {
                let mut next = Vec::new();
                for d in queue {
                    if self.depends.contains_key(&d) {
                        needs.retain(|n| *n != d);
                        needs.push(d.clone());
                        next.extend(self.depends[&d].iter().cloned());
                    }
                }
                queue = next;
            }
            text.push_str(&format!("{module}.ko:"));
            needs.iter().for_each(|n| text.push_str(&format!(" {n}.ko")));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_what_is_absent_is_said() {
        let file =
            |deps: &str| format!("ELF\0xdepends=no\0license=GPL\0depends={deps}\0name=x\0").into_bytes();
        let all: BTreeMap<&str, Vec<u8>> =
            [("a", file("b,c-d")), ("b", file("e")), ("c_d", file("")), ("e", file("")), ("z", file(""))]
                .into();
        let chosen = choose(&["a".into(), "nope".into(), "b".into()], |n| Ok(all.get(n).cloned())).unwrap();
        let names: Vec<&str> = chosen.modules.iter().map(|m| m.0.as_str()).collect();
        assert_eq!(names, ["e", "b", "c_d", "a"]);
        assert_eq!(chosen.absent, ["nope"]);
        assert_eq!(chosen.modules_dep(), "e.ko:\nb.ko: e.ko\nc_d.ko:\na.ko: b.ko c_d.ko e.ko\n");
        assert_eq!(name("kernel/x/xen-blkback.ko.xz"), "xen_blkback");
        assert!(is_module("x/y.ko.zst") && !is_module("x/y.kott"));
    }
}
