//! `replay` and `report merge`: work on what earlier runs left.

use crate::args::Replay;
use crate::failure::Failure;
use crate::print;
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use xenlab_model::exit::Exit;
use xenlab_model::verdict::run_exit;
use xenlab_report::Style;

/// `xenlab replay`: exits as the run would have; a verdict that is no longer the recorded one is said and exits 3.
pub fn replay(args: &Replay) -> Result<Exit, Failure> {
    let mut verdicts = Vec::new();
    let mut text = String::new();
    let mut all = Vec::new();
    let mut differ = false;
    let mut unread = None;
    for dir in &args.bundles {
        let replayed = match xenlab_engine::replay::replay(dir) {
            Ok(replayed) => replayed,
            // The others are judged all the same.
            Err(error) => {
                let failure = match error {
                    xenlab_engine::EngineError::NotABundle { .. } => Failure::bad_input(error.to_string()),
                    error => Failure::lab(error.to_string()),
                };
                eprintln!("xenlab: {}", failure.message);
                unread = Some(unread.map_or(failure.exit, |exit: Exit| exit.worse(failure.exit)));
                continue;
            }
        };
        differ |= !replayed.differences.is_empty();
        if args.json {
            all.push(json!({
                "bundle": dir, "verdict": replayed.now, "recorded": replayed.recorded.verdict.is_some(),
                "differences": replayed.differences,
            }));
        } else {
            text.push_str(&xenlab_report::replayed(
                Style::of_stdout(),
                &replayed.now,
                &dir.display().to_string(),
            ));
            match &replayed.recorded.verdict {
                None => text.push_str("  no verdict was recorded: the run did not come to its end\n"),
                Some(_) if replayed.differences.is_empty() => {
                    text.push_str("  the same verdict as recorded\n")
                }
                Some(_) => {
                    for line in &replayed.differences {
                        let _ = writeln!(text, "  differs from the record: {line}");
                    }
                }
            }
        }
        verdicts.push(replayed.now);
    }
    if args.json {
        text = format!("{}\n", serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?);
    }
    print(&text)?;
    let exits = unread.into_iter().chain(differ.then_some(Exit::Lab));
    let judged = (!verdicts.is_empty()).then(|| run_exit(&verdicts, false));
    Ok(exits.chain(judged).reduce(Exit::worse).unwrap_or(Exit::Lab))
}

/// `xenlab report merge`
pub fn merge(out: &Path, shards: &[PathBuf]) -> Result<Exit, Failure> {
    let merged =
        xenlab_report::merge(shards, out).map_err(|e| Failure { exit: e.exit(), message: e.to_string() })?;
    print(&format!(
        "{} cases of {} shards are in {}\n",
        merged.run.cases.len(),
        shards.len(),
        out.display()
    ))?;
    Ok(merged.exit)
}
