//! From the command line to cases: which scenarios, with what set, which of their cases.

use crate::args::Scenarios;
use crate::failure::Failure;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use xenlab_model::case::Case;
use xenlab_model::fact::Facts;
use xenlab_model::scenario::{self, Set, Settings, Trees};

/// The most cases that a message tells.
const MOST_TOLD: usize = 30;

/// The scenario that runs when none is named.
pub const DEFAULT: &str = "scenarios/dom0-boot.yaml";
const DEFAULT_TEXT: &str = include_str!("../../../scenarios/dom0-boot.yaml");

/// A scenario that is part of the program.
pub struct Shipped {
    /// Where it is in the project.
    pub file: &'static str,
    /// The scenario.
    pub text: &'static str,
}

/// Reads the scenarios and returns their chosen cases in order. Every file's errors are reported, all of them.
pub fn cases(select: &Scenarios, facts: &Facts) -> Result<Vec<Case>, Failure> {
    cases_of(select, &Shipped { file: DEFAULT, text: DEFAULT_TEXT }, facts)
}

/// The same, with another scenario where none is named.
pub fn cases_of(select: &Scenarios, shipped: &Shipped, facts: &Facts) -> Result<Vec<Case>, Failure> {
    let shard = select.shard.as_deref().map(parse_shard).transpose()?;
    let mut files: Vec<(String, String)> = Vec::new();
    if select.scenarios.is_empty() {
        // A file of that name in the user's own folder is what they mean; otherwise the one that ships.
        let text = match std::fs::read_to_string(shipped.file) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                shipped.text.to_owned()
            }
            Err(e) => return Err(Failure::bad_input(format!("{}: {e}", shipped.file))),
        };
        files.push((shipped.file.to_owned(), text));
    }
    let mut problems = Vec::new();
    for path in &select.scenarios {
        match read(path) {
            Ok(text) => files.push((path.display().to_string(), text)),
            Err(problem) => problems.push(problem),
        }
    }
    let settings = settings(select)?;
    let mut cases: Vec<Case> = Vec::new();
    for (file, text) in &files {
        match scenario::load(text, file, &settings, facts) {
            Ok(more) => {
                if let Some(twice) = more.iter().find(|c| cases.iter().any(|d| d.shown() == c.shown())) {
                    problems.push(format!(
                        "{file}: the case `{}` is also in another scenario given here; give one of the scenarios another `name`",
                        twice.shown()
                    ));
                }
                cases.extend(more);
            }
            Err(diagnostics) => problems.push(scenario::render(&diagnostics, crate::colour::stderr())),
        }
    }
    if !problems.is_empty() {
        return Err(Failure::bad_input(problems.join("\n")));
    }
    let all = cases.len();
    if !select.tag.is_empty() {
        let known: BTreeSet<String> = cases.iter().flat_map(|c| c.tags.iter().cloned()).collect();
        if let Some(unknown) = select.tag.iter().find(|t| !known.contains(*t)) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let known = if known.is_empty() { "none has any tag".to_owned() } else { known.join(", ") };
            return Err(Failure::bad_input(format!(
                "nothing is selected: no case has the tag `{unknown}`; the tags are: {known}"
            )));
        }
        cases.retain(|c| select.tag.iter().any(|t| c.tags.contains(t)));
    }
    if !select.cases.is_empty() {
        let unmatched: Vec<&String> =
            select.cases.iter().filter(|want| named(&cases, want).is_empty()).collect();
        if !unmatched.is_empty() {
            let mut known: Vec<String> = cases.iter().map(Case::shown).collect();
            if let Some(more) = known.len().checked_sub(MOST_TOLD).filter(|more| *more > 0) {
                known.truncate(MOST_TOLD);
                known.push(format!("… and {more} more; `xenlab list` shows them all"));
            }
            let list = unmatched.iter().map(|u| format!("`{u}`")).collect::<Vec<_>>().join(", ");
            return Err(Failure::bad_input(format!(
                "no case is called {list}; the cases are:\n  {}",
                known.join("\n  ")
            )));
        }
        let wanted: BTreeSet<usize> = select.cases.iter().flat_map(|want| named(&cases, want)).collect();
        cases = cases.into_iter().enumerate().filter(|(i, _)| wanted.contains(i)).map(|(_, c)| c).collect();
    }
    if let Some((k, n)) = shard {
        cases = cases.into_iter().enumerate().filter(|(i, _)| i % n == k - 1).map(|(_, c)| c).collect();
    }
    if cases.is_empty() {
        return Err(Failure::bad_input(format!(
            "nothing is selected: of {all} cases none is left by --tag, --case and --shard; `xenlab list` shows them all"
        )));
    }
    Ok(cases)
}

/// The cases that `want` names: those whose id it is, whole, and only where there is none those with it as a part. A whole id
/// can be a part of another one's (`file:/x/xen`, `file:/x/xen2`), and a reproducing command must run its own case alone.
fn named(cases: &[Case], want: &str) -> Vec<usize> {
    let those = |matches: &dyn Fn(&Case) -> bool| -> Vec<usize> {
        cases.iter().enumerate().filter(|(_, case)| matches(case)).map(|(i, _)| i).collect()
    };
    let whole = those(&|case| case.id == want || case.shown() == want);
    if !whole.is_empty() || want.is_empty() {
        return whole;
    }
    those(&|case| case.shown().contains(want))
}

fn read(path: &Path) -> Result<String, String> {
    if path.is_dir() {
        return Err(format!(
            "{}: is a folder; expected a scenario file (name its files: {}/*.yaml)",
            path.display(),
            path.display()
        ));
    }
    let bytes = std::fs::read(path).map_err(|e| {
        format!("{}: {e}; expected a scenario file, `xenlab schema` has the grammar", path.display())
    })?;
    String::from_utf8(bytes).map_err(|e| {
        format!(
            "{}: byte {} is not UTF-8; expected a scenario as text",
            path.display(),
            e.utf8_error().valid_up_to() + 1
        )
    })
}

fn parse_shard(text: &str) -> Result<(usize, usize), Failure> {
    let wrong = || Failure::bad_input(format!("--shard {text}: expected K/N with 1 ≤ K ≤ N, as 1/3"));
    let (k, n) = text.split_once('/').ok_or_else(wrong)?;
    let (k, n): (usize, usize) = (k.parse().map_err(|_| wrong())?, n.parse().map_err(|_| wrong())?);
    if k == 0 || k > n { Err(wrong()) } else { Ok((k, n)) }
}

/// The command line's values as `--set`s, each with the position of its argument.
fn settings(select: &Scenarios) -> Result<Settings, Failure> {
    let mut sets = Vec::new();
    let mut taken = Positions::default();
    let mut put = |flag: &str, path: &str, value: &str| {
        sets.push(Set { path: path.to_owned(), value: value.to_owned(), argument: taken.of(flag, value) });
    };
    for value in &select.arch {
        put("--arch", "arch", value);
    }
    for value in &select.xen {
        put("--xen", "xen", value);
    }
    if let Some(value) = &select.tools {
        put("--tools", "xen.tools", value);
    }
    if let Some(value) = &select.expect_version {
        put("--expect-version", "xen.expect-version", value);
    }
    if let Some(value) = &select.qemu {
        put("--qemu", "machine.qemu", &absolute(value).display().to_string());
    }
    for text in &select.sets {
        let Some((path, value)) = text.split_once('=') else {
            return Err(Failure::bad_input(format!(
                "--set {text}: expected PATH=VALUE, as --set dom0.userland=systemd; `xenlab facts` lists the paths"
            )));
        };
        sets.push(Set { path: path.to_owned(), value: value.to_owned(), argument: taken.of("--set", text) });
    }
    Ok(Settings { sets, seed: crate::seed(), trees: Trees(xenlab_engine::xtf::tree) })
}

fn absolute(path: &Path) -> PathBuf {
    // A bare name is looked for in PATH, not in the current folder.
    if path.components().count() > 1 {
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
    } else {
        path.to_owned()
    }
}

/// Finds where on the command line a flag's value stands, each occurrence once.
#[derive(Default)]
struct Positions {
    used: BTreeSet<usize>,
}

impl Positions {
    fn of(&mut self, flag: &str, value: &str) -> usize {
        let args: Vec<String> =
            std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
        let joined = format!("{flag}={value}");
        let found = args.iter().enumerate().position(|(i, arg)| {
            !self.used.contains(&(i + 1))
                && (*arg == joined || (arg == value && i > 0 && args[i - 1] == flag))
        });
        let position = found.map_or(0, |i| i + 1);
        self.used.insert(position);
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_id_names_its_own_case_alone() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("s.yaml");
        let text = "xenlab: 1\nname: t\nxen: debian:bookworm\narch: x86_64\nsteps:\n  - phase: dom0-ready\n";
        std::fs::write(&file, text).expect("a temporary file");
        let select = |cases: &[&str]| Scenarios {
            scenarios: vec![file.clone()],
            xen: vec!["file:/x/xen".into(), "file:/x/xen2".into()],
            tools: Some("debian:bookworm".into()),
            cases: cases.iter().map(|c| (*c).to_owned()).collect(),
            ..Scenarios::default()
        };
        let shown = |of: &[&str]| -> Vec<String> {
            let cases = super::cases(&select(of), &Facts::default()).expect("cases");
            cases.iter().map(Case::shown).collect()
        };
        let all = shown(&[]);
        assert_eq!(all.len(), 2);
        for one in &all {
            assert_eq!(shown(&[one.as_str()]), std::slice::from_ref(one));
        }
        assert_eq!(shown(&["file:/x"]), all, "a part of an id names all that have it");
        assert!(super::cases(&select(&["nothing"]), &Facts::default()).is_err());
    }
}
