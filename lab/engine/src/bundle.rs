//! A bundle on disk: written while a case runs, read again by `xenlab replay`.
//!
//! Shapes are in [`xenlab_model::bundle`]. `started` is written first and everything else as it happens, so a run that was
//! killed can still be told apart and looked at; `verdict.json` comes last and whole.

use crate::EngineError;
use serde::Serialize;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use xenlab_model::bundle::{Inputs, Tick, TickWhat};
use xenlab_model::case::Case;
use xenlab_model::date::Date;
use xenlab_model::evidence::Evidence;
use xenlab_model::step::Observation;
use xenlab_model::verdict::{CaseVerdict, Control};

/// Bytes of one console that a bundle keeps; what comes after is counted, and nothing is then said to be absent.
pub const CONSOLE_CAP: u64 = 4 << 20;

/// The record of the machine's console, in a bundle.
pub const CONSOLE: &str = "console/machine.raw";

/// Bytes of the timeline that a bundle keeps, so that a flooding guest cannot fill the disk.
const TIMELINE_CAP: u64 = 8 << 20;

/// A case's bundle, open for writing. Cheap to share: every method takes `&self`.
pub struct Bundle {
    dir: PathBuf,
    parts: Mutex<Parts>,
}

struct Parts {
    timeline: BufWriter<File>,
    timeline_bytes: u64,
    console: Option<File>,
    console_total: u64,
    /// What kept the record from being written; told when the verdict is.
    failed: Option<std::io::Error>,
}

impl Parts {
    /// Adds to the console's record; once something was lost nothing more is written, or offsets would no longer hold.
    fn keep(&mut self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        if self.failed.is_some() {
            return Ok(());
        }
        let file = match &mut self.console {
            Some(file) => file,
            none => none.insert(File::create(path)?),
        };
        file.write_all(bytes)
    }
}

/// The case's folder name: its id and subject with what file systems dislike replaced.
pub fn folder_name(shown: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || "-_.=,@+".contains(c);
    let mut name: String = shown.chars().map(|c| if kept(c) { c } else { '_' }).collect();
    // What every name has (`id[axis=value] @ scheme:text`) loses nothing; a path does: `/a/b` and `/a_b` are two.
    let lossy = shown.chars().any(|c| !kept(c) && !"[]: ".contains(c));
    if lossy || name.len() > 180 {
        let digest = crate::digest_hex(shown.as_bytes());
        name.truncate(150);
        name.push('-');
        name.push_str(&digest[..12]);
    }
    name
}

impl Bundle {
    /// Makes the folder and writes `started`; an older bundle of that name is replaced.
    pub fn create(dir: PathBuf, case: &Case, started: &str) -> Result<Bundle, EngineError> {
        let at = |source| EngineError::Bundle { path: dir.clone(), source };
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(at(e)),
            _ => {}
        }
        fs::create_dir_all(dir.join("console")).map_err(at)?;
        fs::write(dir.join("started"), format!("{started} {}\n", case.shown())).map_err(at)?;
        let timeline = BufWriter::new(File::create(dir.join("timeline.jsonl")).map_err(at)?);
        let bundle = Bundle {
            dir: dir.clone(),
            parts: Mutex::new(Parts {
                timeline,
                timeline_bytes: 0,
                console: None,
                console_total: 0,
                failed: None,
            }),
        };
        bundle.json("plan.json", case)?;
        Ok(bundle)
    }

    /// The record of the machine's console; not there while it has said nothing.
    pub fn console_path(&self) -> PathBuf {
        self.dir.join(CONSOLE)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn json(&self, name: &str, value: &impl Serialize) -> Result<(), EngineError> {
        write_json(&self.dir, name, value)
    }

    /// Writes the plan again, once the build is known and the case is complete.
    pub fn plan(&self, case: &Case) -> Result<(), EngineError> {
        self.json("plan.json", case)
    }

    /// Writes `inputs.json`.
    pub fn inputs(&self, inputs: &Inputs) -> Result<(), EngineError> {
        self.json("inputs.json", inputs)
    }

    /// Writes `control.json`.
    pub fn control(&self, control: &Control) -> Result<(), EngineError> {
        self.json("control.json", control)
    }

    /// Writes `verdict.json`, the last file.
    pub fn verdict(&self, verdict: &CaseVerdict) -> Result<(), EngineError> {
        {
            let mut parts = self.lock();
            let flushed = parts.timeline.flush();
            // A record with holes would be judged otherwise when it is replayed: no verdict stands on it.
            if let Some(source) = parts.failed.take().or(flushed.err()) {
                return Err(EngineError::Bundle { path: self.dir.clone(), source });
            }
        }
        self.json("verdict.json", verdict)
    }

    /// Writes all evidence.
    pub fn evidence(&self, all: &[Evidence]) -> Result<(), EngineError> {
        let path = self.dir.join("evidence.jsonl");
        let mut text = Vec::new();
        for e in all {
            serde_json::to_writer(&mut text, e)
                .map_err(|e| EngineError::Bundle { path: path.clone(), source: e.into() })?;
            text.push(b'\n');
        }
        fs::write(&path, text).map_err(|source| EngineError::Bundle { path, source })
    }

    /// Adds a line to the timeline; a full disk is noticed when the verdict is written, never here.
    pub fn tick(&self, t: Duration, g: Duration, what: TickWhat) {
        let mut parts = self.lock();
        if parts.timeline_bytes > TIMELINE_CAP {
            return;
        }
        let tick = Tick { t: round(t), g: round(g), what };
        if let Ok(mut line) = serde_json::to_vec(&tick) {
            line.push(b'\n');
            parts.timeline_bytes += line.len() as u64;
            if let Err(error) = parts.timeline.write_all(&line) {
                parts.failed.get_or_insert(error);
            }
        }
    }

    /// Keeps console bytes up to [`CONSOLE_CAP`] and says so in the timeline.
    pub fn console(&self, t: Duration, g: Duration, bytes: &[u8]) {
        let (offset, kept) = {
            let mut parts = self.lock();
            let offset = parts.console_total;
            let kept = (CONSOLE_CAP.saturating_sub(offset)).min(bytes.len() as u64);
            parts.console_total += bytes.len() as u64;
            if kept > 0
                && let Err(error) = parts.keep(&self.dir.join(CONSOLE), &bytes[..kept as usize])
            {
                parts.failed.get_or_insert(error);
            }
            (offset, kept)
        };
        if kept > 0 {
            let length = bytes.len() as u64;
            self.tick(t, g, TickWhat::Console { stream: "machine".into(), offset, length, kept });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Parts> {
        // A writer that panicked leaves at worst half a line; the rest of the record is worth more than the lock's purity.
        self.parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn round(d: Duration) -> f64 {
    (d.as_secs_f64() * 10_000.0).round() / 10_000.0
}

/// A bundle read from disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The day it began, by `started`.
    pub on: Option<Date>,
    /// `plan.json`
    pub case: Case,
    /// `inputs.json`; absent when the case ended before it had a machine.
    pub inputs: Option<Inputs>,
    /// `evidence.jsonl`, console text filled in.
    pub evidence: Vec<Evidence>,
    /// `control.json`
    pub control: Option<Control>,
    /// `verdict.json`; absent when the run was killed.
    pub verdict: Option<CaseVerdict>,
}

/// Reads a bundle; errors name the file and what is wrong with it.
pub fn read(dir: &Path) -> Result<Recorded, EngineError> {
    if !dir.join("started").is_file() {
        return Err(EngineError::NotABundle { path: dir.to_owned() });
    }
    let path = dir.join("started");
    let started = fs::read_to_string(&path).map_err(|source| EngineError::Bundle { path, source })?;
    let case: Case = required(dir, "plan.json")?;
    let inputs: Option<Inputs> = optional(dir, "inputs.json")?;
    if let Some(inputs) = &inputs
        && inputs.format != xenlab_model::bundle::FORMAT
    {
        return Err(EngineError::BundleFormat { path: dir.to_owned(), found: inputs.format });
    }
    let mut evidence = Vec::new();
    let path = dir.join("evidence.jsonl");
    match File::open(&path) {
        Ok(file) => {
            for (n, line) in BufReader::new(file).lines().enumerate() {
                let line = line.map_err(|source| EngineError::Bundle { path: path.clone(), source })?;
                let one: Evidence = serde_json::from_str(&line)
                    .map_err(|source| EngineError::BundleText { path: path.clone(), line: n + 1, source })?;
                evidence.push(one);
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(EngineError::Bundle { path, source }),
    }
    fill_console(dir, &mut evidence)?;
    Ok(Recorded {
        on: Date::of_time(&started),
        case,
        inputs,
        evidence,
        control: optional(dir, "control.json")?,
        verdict: optional(dir, "verdict.json")?,
    })
}

/// Bytes of the console that a bundle keeps.
///
/// # Errors
/// Where it cannot be asked for.
pub fn console_size(dir: &Path) -> Result<u64, EngineError> {
    let path = dir.join(CONSOLE);
    let kept = fs::metadata(&path).map_err(|source| EngineError::Bundle { path, source })?;
    Ok(kept.len())
}

/// What a bundle's console said, all of it.
///
/// # Errors
/// It cannot be read, or is longer than what is kept of one.
pub fn console(dir: &Path) -> Result<Vec<u8>, EngineError> {
    let path = dir.join(CONSOLE);
    let record = fs::read(&path).map_err(|source| EngineError::Bundle { path: path.clone(), source })?;
    if record.len() as u64 >= CONSOLE_CAP {
        let source = std::io::Error::other("its console said more than is kept");
        return Err(EngineError::Bundle { path, source });
    }
    Ok(record)
}

/// Writes a verdict that was settled after the bundle was closed.
///
/// # Errors
/// It cannot be written.
pub fn write_verdict(dir: &Path, verdict: &CaseVerdict) -> Result<(), EngineError> {
    write_json(dir, "verdict.json", verdict)
}

fn write_json(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), EngineError> {
    let at = |source| EngineError::Bundle { path: dir.join(name), source };
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| at(e.into()))?;
    text.push(b'\n');
    let part = dir.join(format!(".{name}"));
    fs::write(&part, text).map_err(at)?;
    fs::rename(&part, dir.join(name)).map_err(at)
}

/// Gives console evidence its text from the record.
pub fn fill_console(dir: &Path, evidence: &mut [Evidence]) -> Result<(), EngineError> {
    let path = dir.join(CONSOLE);
    let mut raw: Option<Vec<u8>> = None;
    for e in evidence {
        let Ok(Observation::Console(seen)) = &mut e.seen else { continue };
        let raw = match &mut raw {
            Some(raw) => raw,
            none => none.insert(match File::open(&path) {
                Ok(file) => {
                    let mut bytes = Vec::new();
                    file.take(CONSOLE_CAP)
                        .read_to_end(&mut bytes)
                        .map_err(|source| EngineError::Bundle { path: path.clone(), source })?;
                    bytes
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                Err(source) => return Err(EngineError::Bundle { path: path.clone(), source }),
            }),
        };
        let clamp = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(raw.len());
        let (from, to) = (clamp(seen.from), clamp(seen.to));
        seen.text = String::from_utf8_lossy(&raw[from..to.max(from)]).into_owned();
        // Shorter than it claims to be: whatever is missing cannot be called absent.
        seen.cut |= (to as u64) < seen.to;
    }
    Ok(())
}

fn required<T: serde::de::DeserializeOwned>(dir: &Path, name: &str) -> Result<T, EngineError> {
    let path = dir.join(name);
    let text = fs::read(&path).map_err(|source| EngineError::Bundle { path: path.clone(), source })?;
    serde_json::from_slice(&text).map_err(|source| EngineError::BundleText {
        path,
        line: source.line(),
        source,
    })
}

fn optional<T: serde::de::DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, EngineError> {
    if dir.join(name).exists() { required(dir, name).map(Some) } else { Ok(None) }
}
