//! `xenlab image`: the store.

use crate::args::{Global, Image};
use crate::failure::Failure;
use crate::{print, run, select, templates};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use xenlab_engine::prepare::Preparer;
use xenlab_model::case::Planned;
use xenlab_model::event::{Silent, Sink};
use xenlab_model::exit::Exit;
use xenlab_report::{Fan, Terminal};

/// `image ls | build | gc`
pub fn image(args: &Image, global: &Global) -> Result<Exit, Failure> {
    match args {
        Image::Ls { json } => ls(*json, global),
        Image::Build { select } => {
            let cases = select::cases(select, &xenlab_engine::facts::host())?;
            let fan = Arc::new(Fan::start(vec![Box::new(Terminal::stderr())]));
            let sink: Arc<dyn Sink> = fan.clone();
            let store = run::open_store(global, sink.clone())?;
            let mut preparer = Preparer::new(store, sink.clone());
            preparer.admission = run::admission(&*sink)?;
            let made = run::runtime()?.block_on(async {
                let planned = cases.iter().filter(|c| !matches!(c.plan, Planned::Skip(_)));
                for case in planned {
                    preparer.prepare(case).await?;
                }
                Ok::<(), xenlab_engine::EngineError>(())
            });
            let _ = fan.finish();
            made.map_err(|e| match e {
                xenlab_engine::EngineError::BadInput { message, .. } => Failure::bad_input(message),
                e => Failure::of(e.cause(), &e),
            })?;
            print(&format!("everything for {} cases is in the store\n", cases.len()))
        }
        Image::Gc { days, dry_run } => gc(*days, *dry_run, global),
    }
}

/// Bytes, for people.
pub fn human(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

fn ls(json: bool, global: &Global) -> Result<Exit, Failure> {
    let store = run::open_store(global, Arc::new(Silent))?;
    let listed = store.ls().map_err(|e| Failure::of(e.cause(), e))?;
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&listed).map_err(anyhow::Error::from)?));
    }
    let mut text = format!("{}\n", store.root().display());
    let mut total = 0;
    for entry in &listed {
        total += entry.size;
        let _ = writeln!(text, "{:>10}  {:<14} {}", human(entry.size), entry.kind, entry.label);
        if !entry.used_by.is_empty() {
            let _ = writeln!(text, "            used by {}", entry.used_by.join(", "));
        }
    }
    let _ = writeln!(text, "{:>10}  in {} entries", human(total), listed.len());
    let templates = store.templates().map_err(|e| Failure::of(e.cause(), e))?;
    if !templates.is_empty() {
        let (room, n) = (templates.iter().map(|t| t.size).sum(), templates.len());
        let _ = writeln!(text, "{:>10}  more in templates ({n}): see `xenlab template ls`", human(room));
    }
    print(&text)
}

fn gc(days: u64, dry_run: bool, global: &Global) -> Result<Exit, Failure> {
    let store = run::open_store(global, Arc::new(Silent))?;
    let age = Duration::from_secs(days.saturating_mul(86_400));
    if dry_run {
        let listed = store.ls().map_err(|e| Failure::of(e.cause(), e))?;
        let now = templates::now();
        let old: Vec<_> = listed.iter().filter(|e| now.saturating_sub(e.used) >= age.as_secs()).collect();
        let mut text = String::new();
        for entry in &old {
            let _ = writeln!(text, "{:>10}  {:<14} {}", human(entry.size), entry.kind, entry.label);
        }
        let _ = writeln!(text, "{} entries not used for {days} days would go", old.len());
        for (label, size, used) in store.workspaces().map_err(|e| Failure::of(e.cause(), e))? {
            if now.saturating_sub(used) >= age.as_secs() {
                let _ = writeln!(text, "{:>10}  {label} would go", human(size));
            }
        }
        text.push_str(&templates::would_go(&store, days)?);
        return print(&text);
    }
    let collected = store.gc(Some(age), None).map_err(|e| Failure::of(e.cause(), e))?;
    let mut text = String::new();
    for label in &collected.removed {
        let _ = writeln!(text, "removed {label}");
    }
    let _ = writeln!(text, "{} freed, {} left", human(collected.freed), human(collected.left));
    if collected.others {
        text.push_str("another xenlab is at work: what it may be using was left alone\n");
    }
    text.push_str(&templates::collect(&store, days)?);
    print(&text)
}
