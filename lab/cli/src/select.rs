//! From the command line to cases: which scenarios, with what set, which of their cases.

use crate::args::Scenarios;
use crate::failure::Failure;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use xenlab_model::case::Case;
use xenlab_model::expectation::{self, Expectation};
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
    let mut from_program = false;
    if select.scenarios.is_empty() {
        // A file of that name in the user's own folder is what they mean; otherwise the one that ships.
        let text = match std::fs::read_to_string(shipped.file) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                from_program = true;
                shipped.text.to_owned()
            }
            Err(e) => return Err(Failure::bad_input(format!("{}: {e}", shipped.file))),
        };
        files.push((shipped.file.to_owned(), text));
    }
    let mut problems = Vec::new();
    for path in &select.scenarios {
        match read(path) {
            Ok(text) if scenario::is_expectations(&text) => problems.push(format!(
                "{0}: is a file of expectations, no scenario; give it with --expectations {0}",
                path.display()
            )),
            Ok(text) => files.push((path.display().to_string(), text)),
            // What ships needs no checkout: reproducing commands name it.
            Err(problem) => match in_program(path).filter(|_| !path.exists()) {
                Some(text) => {
                    from_program = true;
                    files.push((path.display().to_string(), text.to_owned()));
                }
                None => problems.push(problem),
            },
        }
    }
    let mut told = Vec::new();
    for file in &select.expectations {
        match expectations(file) {
            Ok(entries) => told.extend(entries),
            Err(problem) => problems.push(problem),
        }
    }
    let settings = settings(select)?;
    let mut cases: Vec<Case> = Vec::new();
    for (file, text) in &files {
        match scenario::load(text, file, &settings, facts) {
            Ok(mut more) => {
                match of_scenario(text, file, from_program) {
                    Ok(own) => expectation::attach(&mut more, &own),
                    Err(problem) => problems.push(problem),
                }
                expectation::attach(&mut more, &told);
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

/// The entries of a file of expectations.
pub fn expectations(path: &Path) -> Result<Vec<Expectation>, String> {
    let text = read_as(path, "a file of expectations, `xenlab schema expectations` has its keys")?;
    entries(&text, &path.display().to_string())
}

fn entries(text: &str, name: &str) -> Result<Vec<Expectation>, String> {
    scenario::load_expectations(text, name)
        .map_err(|diagnostics| scenario::render(&diagnostics, crate::colour::stderr()))
}

/// The entries of the files that a scenario names. One that is part of the program may name files that are, too; as with itself,
/// what has that name in the user's own folder is what they mean.
fn of_scenario(text: &str, file: &str, from_program: bool) -> Result<Vec<Expectation>, String> {
    let named = scenario::expectation_files(text, file)
        .map_err(|diagnostics| scenario::render(&diagnostics, crate::colour::stderr()))?;
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let mut all = Vec::new();
    let mut problems = Vec::new();
    for (name, place) in named {
        let path = folder.join(name);
        let shown = path.display().to_string();
        let found = match in_program(&path).filter(|_| from_program && !path.exists()) {
            Some(text) => entries(text, &shown),
            None => expectations(&path).map_err(|problem| match path.is_file() {
                true => problem,
                // Whoever reads of a file they did not name wants to know who did.
                false => format!("{place}: {problem}"),
            }),
        };
        match found {
            Ok(entries) => all.extend(entries),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(problems.join("\n")) }
}

/// What ships beside the scenarios, by its path in the project.
fn in_program(path: &Path) -> Option<&'static str> {
    static SHIPPED: include_dir::Dir<'_> = include_dir::include_dir!("$CARGO_MANIFEST_DIR/../../scenarios");
    SHIPPED.get_file(path.strip_prefix("scenarios").ok()?)?.contents_utf8()
}

/// Whether a file is one of expectations; where it cannot be read, whoever reads it next says so.
pub fn is_expectations(path: &Path) -> bool {
    read(path).is_ok_and(|text| scenario::is_expectations(&text))
}

fn read(path: &Path) -> Result<String, String> {
    read_as(path, "a scenario file, `xenlab schema` has the grammar")
}

fn read_as(path: &Path, expected: &str) -> Result<String, String> {
    if path.is_dir() {
        return Err(format!(
            "{0}: is a folder; expected {expected} (name its files: {0}/*.yaml)",
            path.display()
        ));
    }
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}; expected {expected}", path.display()))?;
    String::from_utf8(bytes).map_err(|e| {
        format!(
            "{}: byte {} is not UTF-8; expected {expected}",
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
    let recipe = select.recipe.words()?;
    if let Some(value) = &select.tools {
        put("--tools", "xen.tools", value);
    }
    if let Some(value) = &select.expect_version {
        put("--expect-version", "xen.expect-version", value);
    }
    if let Some(value) = &select.qemu {
        put("--qemu", "machine.qemu", &absolute(value).display().to_string());
    }
    for (flag, path, value, written) in recipe {
        sets.push(Set { path, value, argument: taken.of(flag, &written) });
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
    fn what_ships_needs_no_checkout() {
        // Not the folder of the project: there is no `scenarios` below it.
        assert!(!Path::new(DEFAULT).exists());
        assert_eq!(in_program(Path::new(DEFAULT)), Some(DEFAULT_TEXT));
        assert_eq!(in_program(Path::new("elsewhere/dom0-boot.yaml")), None);
        let naming = |name: &str| format!("xenlab: 1\nexpectations: {name}\n");
        // Found, and refused for what it is.
        let found =
            of_scenario(&naming("dom0-boot.yaml"), DEFAULT, true).expect_err("no file of expectations");
        assert!(found.contains("xenlab-expectations"), "{found}");
        let missing =
            of_scenario(&naming("dom0-boot.yaml"), DEFAULT, false).expect_err("there is no such file");
        assert!(
            missing.contains("scenarios/dom0-boot.yaml:2:15") && missing.contains("No such file"),
            "{missing}"
        );
        assert!(of_scenario(&naming("none.yaml"), DEFAULT, true).is_err());
    }

    #[test]
    fn expectations_of_a_scenario_and_of_the_command_line() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("a temporary file");
            path
        };
        let entries = |case: &str, why: &str| {
            format!(
                "xenlab-expectations: 1\nexpect:\n  - {{case: '{case}', verdict: skip, because: {why}}}\n"
            )
        };
        let scenario = |name: &str, more: &str| {
            format!(
                "xenlab: 1\nname: {name}\nxen: debian:bookworm\narch: x86_64\n{more}steps: [phase: dom0-ready]\n"
            )
        };
        write("own.yaml", &entries("*", "own"));
        let select = Scenarios {
            scenarios: vec![
                write("a.yaml", &scenario("a", "expectations: own.yaml\n")),
                write("b.yaml", &scenario("b", "")),
            ],
            expectations: vec![
                write("all.yaml", &entries("*", "all")),
                write("a-only.yaml", &entries("a", "a")),
            ],
            ..Scenarios::default()
        };
        let cases = super::cases(&select, &Facts::default()).expect("cases");
        let because = |n: usize| -> Vec<&str> { cases[n].expectations.iter().map(|e| &*e.because).collect() };
        assert_eq!((because(0), because(1)), (vec!["own", "all", "a"], vec!["all"]));
    }

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
