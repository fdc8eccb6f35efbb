//! What runs recorded, read for comparing: many bundles at once.

use crate::EngineError;
use crate::bundle::{self, CONSOLE, CONSOLE_CAP};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use xenlab_model::bundle::{Tick, TickWhat};
use xenlab_model::compare::{Sample, Side};

/// Every case recorded below `dir`, in the order of their names: a report's folder, one of several reports (`1`, `2`, …), a folder of
/// bundles, or a single bundle.
///
/// # Errors
/// There is no bundle, or one cannot be read.
pub fn read(dir: &Path) -> Result<Vec<Sample>, EngineError> {
    let bundles = bundles(dir)?;
    if bundles.is_empty() {
        return Err(EngineError::NoBundles { path: dir.to_owned() });
    }
    bundles.iter().map(|dir| sample(dir)).collect()
}

/// The recorded cases by subject, in the order in which the subjects come.
///
/// # Errors
/// As for [`read`].
pub fn sides(dir: &Path) -> Result<Vec<Side>, EngineError> {
    let mut sides: Vec<Side> = Vec::new();
    for sample in read(dir)? {
        match sides.iter_mut().find(|s| s.name == sample.subject) {
            Some(side) => side.samples.push(sample),
            None => sides.push(Side { name: sample.subject.clone(), samples: vec![sample] }),
        }
    }
    Ok(sides)
}

fn is_bundle(dir: &Path) -> bool {
    dir.join("started").is_file()
}

fn bundles(dir: &Path) -> Result<Vec<PathBuf>, EngineError> {
    if is_bundle(dir) {
        return Ok(vec![dir.to_owned()]);
    }
    let mut found = Vec::new();
    for n in 1.. {
        let below = dir.join(n.to_string()).join("bundles");
        if !below.is_dir() {
            break;
        }
        found.extend(bundles(&below)?);
    }
    let below = dir.join("bundles");
    if !found.is_empty() && !below.is_dir() {
        return Ok(found);
    }
    found.clear();
    let folder = if below.is_dir() { below } else { dir.to_owned() };
    let at = |source| EngineError::Bundle { path: folder.clone(), source };
    for entry in std::fs::read_dir(&folder).map_err(at)? {
        let path = entry.map_err(at)?.path();
        if is_bundle(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A bundle, as it is compared.
fn sample(dir: &Path) -> Result<Sample, EngineError> {
    let recorded = bundle::read(dir)?;
    let case = recorded.case;
    let mut facts = case.facts.clone();
    if let Some(inputs) = &recorded.inputs {
        facts.extend(&inputs.facts);
    }
    Ok(Sample {
        subject: case.subject.to_string(),
        nonce: case.nonce,
        arch: case.config.arch.name().to_owned(),
        planned: case
            .setup
            .iter()
            .chain(&case.steps)
            .map(|s| (s.path.clone(), s.title().to_owned()))
            .collect(),
        facts,
        evidence: recorded.evidence,
        verdict: recorded.verdict,
        console: console(dir)?,
        phases: phases(dir)?,
        bundle: dir.display().to_string(),
        id: case.id,
    })
}

/// As much of the console as is kept; nothing where the machine said nothing.
fn console(dir: &Path) -> Result<Vec<u8>, EngineError> {
    let path = dir.join(CONSOLE);
    let at = |source| EngineError::Bundle { path: path.clone(), source };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(at(source)),
    };
    let mut bytes = Vec::new();
    file.take(CONSOLE_CAP).read_to_end(&mut bytes).map_err(at)?;
    Ok(bytes)
}

fn phases(dir: &Path) -> Result<Vec<(String, f64)>, EngineError> {
    let path = dir.join("timeline.jsonl");
    let at = |source| EngineError::Bundle { path: path.clone(), source };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(at(source)),
    };
    let mut phases = Vec::new();
    for (n, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(at)?;
        // Most lines are of consoles and the monitor.
        if !line.contains(r#""kind":"phase""#) {
            continue;
        }
        let tick: Tick = serde_json::from_str(&line).map_err(|source| EngineError::BundleText {
            path: path.clone(),
            line: n + 1,
            source,
        })?;
        if let TickWhat::Phase { phase } = tick.what {
            phases.push((phase, tick.g));
        }
    }
    Ok(phases)
}
