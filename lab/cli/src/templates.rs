//! `xenlab template`: the frozen machines that cases start from.

use crate::args::{Global, Template};
use crate::failure::Failure;
use crate::images::human;
use crate::{print, run};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xenlab_model::event::Silent;
use xenlab_model::exit::Exit;
use xenlab_store::Store;
use xenlab_store::templates::ListedTemplate;

const DAY: u64 = 86_400;

/// `template ls | gc`
pub fn template(args: &Template, global: &Global) -> Result<Exit, Failure> {
    let store = run::open_store(global, Arc::new(Silent))?;
    match args {
        Template::Ls { json: true } => {
            let text = serde_json::to_string_pretty(&list(&store)?).map_err(anyhow::Error::from)?;
            print(&format!("{text}\n"))
        }
        Template::Ls { json: false } => {
            let root = store.root().display().to_string();
            print(&shown(&root, &list(&store)?, now()))
        }
        Template::Gc { days, dry_run: true } => print(&would_go(&store, *days)?),
        Template::Gc { days, dry_run: false } => print(&collect(&store, *days)?),
    }
}

fn list(store: &Store) -> Result<Vec<ListedTemplate>, Failure> {
    store.templates().map_err(|e| Failure::of(e.cause(), e))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs())
}

/// How long ago, in the largest unit of which it is one or more.
fn ago(then: u64, now: u64) -> String {
    let seconds = now.saturating_sub(then);
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..DAY => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / DAY),
    }
}

fn shown(root: &str, all: &[ListedTemplate], now: u64) -> String {
    if all.is_empty() {
        return format!(
            "no templates in {root}: `xenlab run` takes one of each machine that it boots, for the next case to start from\n"
        );
    }
    let mut text = format!("{root}\n");
    let mut total = 0;
    for t in all {
        total += t.size;
        let used = if t.in_use { "in use now".to_owned() } else { format!("used {}", ago(t.used, now)) };
        let _ = writeln!(text, "{:>10}  {}", human(t.size), t.name);
        let _ = writeln!(text, "            made {}, {used}", ago(t.made, now));
        if let Some(why) = &t.rebuilt {
            let _ = writeln!(text, "            made again, since there is an older one: {why}");
        }
    }
    let _ = writeln!(text, "{:>10}  in {}", human(total), counted(all.len()));
    text
}

fn counted(n: usize) -> String {
    format!("{n} template{}", if n == 1 { "" } else { "s" })
}

fn age(days: u64) -> Duration {
    Duration::from_secs(days.saturating_mul(DAY))
}

/// What a collection would remove, in lines.
pub fn would_go(store: &Store, days: u64) -> Result<String, Failure> {
    let (all, now) = (list(store)?, now());
    let old: Vec<_> = all.iter().filter(|t| now.saturating_sub(t.used) >= age(days).as_secs()).collect();
    let mut text = String::new();
    let (in_use, free): (Vec<&ListedTemplate>, _) = old.into_iter().partition(|t| t.in_use);
    for t in &free {
        let _ = writeln!(text, "{:>10}  {:<14} {}", human(t.size), "template", t.name);
    }
    let _ = writeln!(text, "{} not used for {days} days would go", counted(free.len()));
    if !in_use.is_empty() {
        let _ = writeln!(text, "{} in use would stay", counted(in_use.len()));
    }
    Ok(text)
}

/// Removes what was not used for so long; what came of it, in lines.
pub fn collect(store: &Store, days: u64) -> Result<String, Failure> {
    let done = store.gc_templates(Some(age(days)), None).map_err(|e| Failure::of(e.cause(), e))?;
    let mut text = String::new();
    for name in &done.removed {
        let _ = writeln!(text, "removed template {name}");
    }
    let _ = writeln!(text, "templates: {} freed, {} left", human(done.freed), human(done.left));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(name: &str, kernel: &str, made: u64) -> serde_json::Value {
        serde_json::json!({
            "format": 1, "name": name, "parts": [["xen", "4.17"], ["kernel", kernel]], "made": made, "made_by": "a test",
            "host_start": "", "settled": true, "files": {},
        })
    }

    #[test]
    fn why_one_was_made_again_is_listed_and_only_the_unused_go() {
        let dir = tempfile::tempdir().unwrap();
        let options = xenlab_store::Options {
            root: Some(dir.path().join("store")),
            ..xenlab_store::Options::default()
        };
        let store = Store::open(options).unwrap();
        for (key, kernel, made) in [("a", "6.1.0-1", now() - 7200), ("b", "6.1.0-2", now() - 60)] {
            let folder = store.root().join("templates").join(key.repeat(64));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("ram"), vec![1; 8192]).unwrap();
            let record = template("t[arch=x86_64]", kernel, made).to_string();
            std::fs::write(folder.join("template.json"), record).unwrap();
        }
        let all = list(&store).unwrap();
        let text = shown("ROOT", &all, now());
        assert_eq!(text.matches("made again").count(), 1, "{text}");
        for words in ["kernel was `6.1.0-1`, is `6.1.0-2`", "made 2 h ago", "in 2 templates", "used "] {
            assert!(text.contains(words), "`{words}` is not in:\n{text}");
        }
        assert!(would_go(&store, 1).unwrap().contains("0 templates"));
        assert!(would_go(&store, 0).unwrap().contains("2 templates"));
        assert_eq!(list(&store).unwrap().len(), 2, "a dry run removes nothing");
        assert!(collect(&store, 1).unwrap().contains("0 B freed"));
        assert_eq!(collect(&store, 0).unwrap().matches("removed template t[").count(), 2);
        assert!(shown("ROOT", &list(&store).unwrap(), now()).contains("xenlab run"));
    }

    #[test]
    fn times_are_said_in_the_largest_unit() {
        let said = [0, 59, 60, 3599, 3600, DAY, 3 * DAY].map(|s| ago(1_000_000, 1_000_000 + s));
        let want = ["0 s ago", "59 s ago", "1 min ago", "59 min ago", "1 h ago", "1 d ago", "3 d ago"];
        assert_eq!(said, want);
        assert_eq!(ago(5, 4), "0 s ago", "a clock that was set back");
    }
}
