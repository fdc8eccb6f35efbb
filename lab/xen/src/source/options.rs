//! Options of a build: what they are in Kconfig and on make's command line, and whether the tree took them.

use crate::error::XenError;
use crate::kconfig::Kconfig;
use regex::Regex;
use std::collections::BTreeSet;
use std::path::Path;
use xenlab_model::arch::Arch;
use xenlab_model::recipe::BuildOptions;

/// A setting of Kconfig that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// Without `CONFIG_`.
    pub(super) name: String,
    /// `y`, `n`, a number, or text without quotes.
    pub(super) value: String,
    /// How the user said it.
    said: String,
}

/// What a build is to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// The last word on each option.
    pub(super) settings: Vec<Setting>,
    /// On make's command line.
    pub(super) make: Vec<String>,
    /// `xen.efi` has to come of it.
    pub(super) efi_image: bool,
    extra_version: Option<String>,
}

impl Wanted {
    pub(super) fn of(spec: &str, options: &BuildOptions, arch: Arch) -> Result<Wanted, XenError> {
        let mut w = Wanted::default();
        let wrong = |why: String| XenError::BadOption { spec: spec.to_owned(), why };
        if let Some((key, message, expected)) = options.mistakes().into_iter().next() {
            return Err(wrong(format!("xen.options.{key}: {message}; expected {expected}")));
        }
        let yes = |on: bool| if on { "y" } else { "n" }.to_owned();
        if let Some(on) = options.debug {
            w.set("DEBUG", yes(on), "xen.options.debug");
        }
        if let Some(on) = options.flask {
            if on {
                w.set("XSM", yes(on), "xen.options.flask");
            }
            w.set("XSM_FLASK", yes(on), "xen.options.flask");
        }
        match (options.efi, arch) {
            (Some(on), Arch::Aarch64) => w.set("ARM_EFI", yes(on), "xen.options.efi"),
            // No option of Kconfig: the tree looks whether the linker can do it.
            (Some(false), Arch::X86_64) => {
                w.make.extend(["XEN_BUILD_EFI=".to_owned(), "XEN_BUILD_PE=".to_owned()])
            }
            (Some(true), Arch::X86_64) => w.efi_image = true,
            (None, _) => {}
        }
        for entry in &options.kconfig {
            match entry.split_once('=') {
                Some((name, value)) => {
                    let name = name.trim().trim_start_matches("CONFIG_");
                    check(name, value)
                        .map_err(|why| wrong(format!("xen.options.kconfig: `{entry}`: {why}")))?;
                    w.set(name, value.trim().trim_matches('"').to_owned(), "xen.options.kconfig");
                }
                None => {
                    let path = Path::new(entry);
                    let text = std::fs::read_to_string(path)
                        .map_err(|e| crate::provider::not_there(spec, path, e))?;
                    w.fragment(&text, entry).map_err(wrong)?;
                }
            }
        }
        if let Some(extra) = &options.extra_version {
            w.make.push(format!("XEN_EXTRAVERSION={extra}"));
            w.extra_version = Some(extra.clone());
        }
        Ok(w)
    }

    fn fragment(&mut self, text: &str, file: &str) -> Result<(), String> {
        for (at, line) in text.lines().map(str::trim).enumerate() {
            let said = format!("{file}:{}", at + 1);
            let unset = line.strip_prefix("# CONFIG_").and_then(|l| l.strip_suffix(" is not set"));
            if let Some(name) = unset {
                self.set(name, "n".to_owned(), &said);
            } else if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                let Some(name) = name.trim().strip_prefix("CONFIG_") else {
                    return Err(format!("{said}: `{line}` does not begin with CONFIG_"));
                };
                check(name, value).map_err(|why| format!("{said}: {why}"))?;
                self.set(name, value.trim().trim_matches('"').to_owned(), &said);
            } else if !line.is_empty() && !line.starts_with('#') {
                return Err(format!("{said}: `{line}` is no line of a Kconfig fragment"));
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: String, said: &str) {
        self.settings.retain(|s| s.name != name);
        self.settings.push(Setting { name: name.to_owned(), value, said: said.to_owned() });
    }

    /// All of it, for keys.
    pub(super) fn canonical(&self) -> String {
        let mut words: Vec<String> =
            self.settings.iter().map(|s| format!("{}={}", s.name, s.value)).collect();
        words.sort();
        words.extend(self.make.iter().cloned());
        words.push(format!("efi {}", self.efi_image));
        words.join("\n")
    }

    /// The settings as lines of a `.config`.
    pub(super) fn lines(&self) -> String {
        let line = |s: &Setting| match s.value.as_str() {
            "n" => format!("# CONFIG_{} is not set\n", s.name),
            "y" => format!("CONFIG_{}=y\n", s.name),
            v if v.parse::<i64>().is_ok() || v.starts_with("0x") => format!("CONFIG_{}={v}\n", s.name),
            v => format!("CONFIG_{}=\"{v}\"\n", s.name),
        };
        self.settings.iter().map(line).collect()
    }

    /// The version with the extra version asked for.
    pub(super) fn version(&self, makefile: &Path) -> Option<String> {
        let extra = self.extra_version.as_ref()?;
        let text = std::fs::read_to_string(makefile).ok()?;
        let number = |name: &str| {
            let pattern = Regex::new(&format!(r"(?m)^(?:export )?{name}\s*[:?]?=\s*(\d+)")).ok()?;
            pattern.captures(&text).map(|c| c[1].to_owned())
        };
        Some(format!("{}.{}{extra}", number("XEN_VERSION")?, number("XEN_SUBVERSION")?))
    }

    /// What the tree made of the settings: the first that it did not take.
    pub(super) fn taken(&self, spec: &str, config: &str, src: &Path) -> Result<(), XenError> {
        let got = Kconfig::parse(config, ".config").unwrap_or_default();
        for s in &self.settings {
            let is = match (got.yes.contains(&s.name), got.values.get(&s.name)) {
                (true, _) => "y",
                (_, Some(value)) => value,
                _ => "n",
            };
            if is == s.value {
                continue;
            }
            let asked = format!("{}: the tree did not take {}={}", s.said, s.name, s.value);
            return Err(XenError::BadOption {
                spec: spec.to_owned(),
                why: format!("{asked}: {}", why(s, is, src)),
            });
        }
        Ok(())
    }
}

fn check(name: &str, value: &str) -> Result<(), String> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!("`{name}` is not the name of an option"));
    }
    if value.trim_matches('"').contains(['"', '\\', '$', '\n']) || value.trim() == "m" {
        return Err(format!("`{value}` cannot be its value; expected y, n, a number or text"));
    }
    Ok(())
}

/// Why an option is not what was asked for, by the tree's Kconfig files.
fn why(s: &Setting, is: &str, src: &Path) -> String {
    let mut known = BTreeSet::new();
    let mut depends = Vec::new();
    let mut place = None;
    let files = walkdir::WalkDir::new(src.join("xen")).sort_by_file_name();
    for file in files.into_iter().flatten().filter(|e| e.file_name().to_string_lossy().starts_with("Kconfig"))
    {
        let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
        let mut inside = false;
        for (at, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["config" | "menuconfig", name] => {
                    known.insert((*name).to_owned());
                    inside = *name == s.name;
                    if inside {
                        let shown = file.path().strip_prefix(src).unwrap_or(file.path());
                        place.get_or_insert(format!("{}:{}", shown.display(), at + 1));
                    }
                }
                ["menu" | "endmenu" | "choice" | "endchoice" | "source" | "if" | "endif" | "comment", ..] => {
                    inside = false;
                }
                ["depends", "on", what @ ..] if inside => depends.push(what.join(" ")),
                _ if inside && line.contains(" if ") && line.contains('"') => {
                    if let Some((_, condition)) = line.rsplit_once(" if ") {
                        depends.push(format!("{} (to be asked for)", condition.trim()));
                    }
                }
                _ => {}
            }
        }
    }
    let Some(place) = place else {
        let near = known.iter().min_by_key(|k| strsim::damerau_levenshtein(k, &s.name));
        let near = near.filter(|k| strsim::damerau_levenshtein(k, &s.name) <= 3);
        let hint = near.map(|k| format!(", did you mean {k}?")).unwrap_or_default();
        return format!("it has no option of that name{hint}");
    };
    let is = if is == "n" { "it is not set there".to_owned() } else { format!("it is {is} there") };
    match depends.as_slice() {
        [] => format!("{is} ({place}); the architecture or another option decides it"),
        some => format!("{is}; it depends on {} ({place})", some.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(options: &BuildOptions, arch: Arch) -> Wanted {
        Wanted::of("source:x", options, arch).expect("options")
    }

    #[test]
    fn the_last_word_counts() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("fragment");
        std::fs::write(
            &file,
            "# a comment\nCONFIG_HVM=y\n# CONFIG_PV is not set\nCONFIG_NR_CPUS=4\nCONFIG_CMDLINE=\"a b\"\n",
        )
        .expect("written");
        let options = BuildOptions {
            debug: Some(true),
            kconfig: vec![file.display().to_string(), "CONFIG_HVM=n".into(), "DEBUG=n".into()],
            ..BuildOptions::default()
        };
        assert_eq!(
            wanted(&options, Arch::X86_64).lines(),
            "# CONFIG_PV is not set\nCONFIG_NR_CPUS=4\nCONFIG_CMDLINE=\"a b\"\n# CONFIG_HVM is not set\n# CONFIG_DEBUG is not set\n"
        );
        for bad in ["HVM\n", "HVM=y\n", "CONFIG_HVM=m\n", "CONFIG_H VM=y\n"] {
            std::fs::write(&file, bad).expect("written");
            let options =
                BuildOptions { kconfig: vec![file.display().to_string()], ..BuildOptions::default() };
            let e = Wanted::of("source:x", &options, Arch::X86_64).expect_err(bad);
            assert!(e.is_bad_input() && e.to_string().contains("fragment:1"), "{e}");
        }
    }

    #[test]
    fn efi_is_a_matter_of_the_architecture() {
        let with = |on| BuildOptions { efi: Some(on), ..BuildOptions::default() };
        assert!(wanted(&with(true), Arch::X86_64).efi_image);
        assert_eq!(wanted(&with(false), Arch::X86_64).make, ["XEN_BUILD_EFI=", "XEN_BUILD_PE="]);
        assert_eq!(wanted(&with(false), Arch::Aarch64).lines(), "# CONFIG_ARM_EFI is not set\n");
    }

    #[test]
    fn what_the_tree_did_not_take_is_explained() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("xen")).expect("made");
        std::fs::write(
            dir.path().join("xen/Kconfig"),
            "config SHADOW_PAGING\n\tbool \"Shadow Paging\"\n\tdepends on PV\n\nconfig TRACED\n\tbool \"Trace\" if EXPERT\n",
        )
        .expect("written");
        let fails = |entry: &str, config: &str| {
            let options = BuildOptions { kconfig: vec![entry.into()], ..BuildOptions::default() };
            let taken = wanted(&options, Arch::X86_64).taken("source:x", config, dir.path());
            taken.map_err(|e| e.to_string())
        };
        assert_eq!(fails("SHADOW_PAGING=y", "CONFIG_SHADOW_PAGING=y\n"), Ok(()));
        assert_eq!(fails("SHADOW_PAGING=n", "CONFIG_X=y\n"), Ok(()));
        let message = fails("SHADOW_PAGING=y", "CONFIG_X=y\n").expect_err("not set");
        assert!(message.contains("it is not set there; it depends on PV (xen/Kconfig:1)"), "{message}");
        let message = fails("SHADOW_PAGNG=y", "CONFIG_X=y\n").expect_err("unknown");
        assert!(message.contains("no option of that name, did you mean SHADOW_PAGING?"), "{message}");
        let message = fails("TRACED=y", "CONFIG_X=y\n").expect_err("not asked for");
        assert!(message.contains("EXPERT (to be asked for)"), "{message}");
    }
}
