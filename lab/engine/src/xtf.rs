//! Built trees of the Xen Test Framework on the host: what tests they have, and what an instance is made of.

use crate::EngineError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use xenlab_model::cause::Cause;
use xenlab_model::fact::Facts;
use xenlab_model::step::xtf::{Known, Xtf};
use xenlab_model::xtf::{Test, Tree};

/// The most a kernel of XTF may have; the largest of today's has 0.3 MiB.
const MOST: u64 = 16 << 20;

/// Reads a tree: every `tests/NAME/info.json`, as `xtf-runner` does. A tree is read once in a process.
///
/// # Errors
/// A sentence, when there is no such tree, when one of these files is wrong, and when nothing in it is built.
pub fn tree(path: &str) -> Result<Arc<Tree>, String> {
    static READ: Mutex<BTreeMap<String, Result<Arc<Tree>, String>>> = Mutex::new(BTreeMap::new());
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    read.entry(path.to_owned()).or_insert_with(|| read_tree(Path::new(path)).map(Arc::new)).clone()
}

fn read_tree(root: &Path) -> Result<Tree, String> {
    let folder = root.join("tests");
    let entries = std::fs::read_dir(&folder)
        .map_err(|e| format!("{} is no XTF tree: {}: {e}", root.display(), folder.display()))?;
    let mut tests = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| format!("{}: {e}", folder.display()))?.file_name();
        let file = folder.join(&name).join("info.json");
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            // A folder without one is no test.
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                continue;
            }
            Err(e) => return Err(format!("{}: {e}", file.display())),
        };
        let test: Test = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        if Some(test.name.as_str()) != name.to_str() {
            return Err(format!("{}: its name is `{}`, its folder's is not", file.display(), test.name));
        }
        tests.push(test);
    }
    if tests.is_empty() {
        return Err(format!(
            "{} is no XTF tree: no folder in {} has an info.json",
            root.display(),
            folder.display()
        ));
    }
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    let tree = Tree { tests };
    if !tree.instances().iter().any(|(i, _)| folder.join(&i.name).join(i.image()).is_file()) {
        return Err(format!("nothing is built in the XTF tree {}: run `make` there", root.display()));
    }
    Ok(tree)
}

/// What an instance is made of.
pub struct Guest {
    /// Its configuration for `xl`; files of the tree are named by what they are called in the folder that [`Self::files`] are put into.
    pub config: String,
    /// Files that the configuration names, with their contents; the kernel is the first.
    pub files: Vec<(String, Vec<u8>)>,
    /// SHA-256 of the kernel.
    pub digest: String,
    /// The kernel's own path.
    pub kernel: PathBuf,
    /// The kernel's command line.
    pub cmdline: String,
}

/// Reads an instance; in its configuration, paths of the tree become paths below `folder`. What it needs more on the machine that `facts`
/// are of is added to it.
///
/// # Errors
/// The tree has no such instance, it is not built, or a file of it cannot be read.
pub fn guest(step: &Xtf, folder: &str, facts: &Facts) -> Result<Guest, EngineError> {
    let not_built = |message: String| EngineError::part(Cause::XtfNotBuilt, message);
    let known = match &step.known {
        Some(known) => known.clone(),
        None => {
            let tree = tree(&step.tree).map_err(not_built)?;
            let (instance, test) = tree
                .find(&step.test)
                .ok_or_else(|| not_built(format!("{}: there is no instance `{}`", step.tree, step.test)))?;
            Known { instance, category: test.category.clone() }
        }
    };
    let own = Path::new(&step.tree).join("tests").join(&known.instance.name);
    let file = own.join(format!("{}.cfg", known.instance));
    let text = std::fs::read_to_string(&file).map_err(|e| not_built(built(&file, &e)))?;
    let kernel = own.join(known.instance.image());
    let mut files = vec![(known.instance.image(), read(&kernel)?)];
    let mut config = String::new();
    let mut cmdline = String::new();
    for line in text.lines() {
        let (key, value) = assignment(line);
        if key == "cmdline" {
            cmdline = value.unwrap_or_default().to_owned();
        }
        // Paths are those of the folder that the tree was built in, which need not be where it is now.
        let name = value.filter(|v| v.contains('/')).and_then(|v| v.rsplit('/').next());
        match name.filter(|name| !name.is_empty() && own.join(name).is_file()) {
            Some(name) => {
                if !files.iter().any(|(have, _)| have == name) {
                    files.push((name.to_owned(), read(&own.join(name))?));
                }
                config.push_str(&format!("{key} = \"{folder}/{name}\"\n"));
            }
            None => {
                config.push_str(line);
                config.push('\n');
            }
        }
    }
    if !known.instance.is_pv() {
        // When such a domain goes, libxl waits 2 s for a keyboard that its device model was given (LIBXL_QEMU_BODGE_TIMEOUT); no test types.
        config.push_str("vkb_device = 0\n");
    }
    if known.instance.without_hap(facts) {
        config.push_str("hap = 0\n");
    }
    let digest = crate::digest_hex(&files[0].1);
    Ok(Guest { config, files, digest, kernel, cmdline })
}

/// `key = "value"`; no value where it is no string.
fn assignment(line: &str) -> (&str, Option<&str>) {
    let Some((key, value)) = line.split_once('=') else { return (line, None) };
    let value = value.trim();
    let quoted = |quote: char| value.strip_prefix(quote)?.split(quote).next();
    let key = key.trim();
    if key.starts_with('#') { (key, None) } else { (key, quoted('"').or_else(|| quoted('\''))) }
}

fn read(path: &Path) -> Result<Vec<u8>, EngineError> {
    let at = |e: std::io::Error| EngineError::part(Cause::XtfNotBuilt, built(path, &e));
    let bytes = std::fs::metadata(path).map_err(at)?.len();
    if bytes > MOST {
        let message = format!("{}: {bytes} bytes; expected at most {MOST}", path.display());
        return Err(EngineError::part(Cause::XtfNotBuilt, message));
    }
    std::fs::read(path).map_err(at)
}

fn built(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}; is this instance built? `make` in the tree builds all", path.display())
}

#[cfg(test)]
mod tests;
