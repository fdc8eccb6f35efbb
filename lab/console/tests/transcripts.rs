//! Real consoles: recorded boots of Xen 4.17 and 4.20 and Linux 6.1 in QEMU 7.2 under TCG, good ones and ones broken on purpose
//! (fixtures/console/README.md). What they show is a snapshot for each.

use std::fmt::Write;
use xenlab_console::*;

fn record(name: &str) -> Vec<u8> {
    let path = format!("{}/../../fixtures/console/{name}.raw", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn names() -> Vec<String> {
    let dir = format!("{}/../../fixtures/console", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .filter_map(|e| Some(e.unwrap().file_name().to_str()?.strip_suffix(".raw")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Phases, signs and findings, in words.
fn story(record: &[u8]) -> String {
    let (mut phases, mut tracker) = (PhaseTracker::new("n0nce"), SignTracker::new("n0nce"));
    let (mut out, mut signs) = (String::new(), Vec::new());
    let all = lines(record);
    for line in &all {
        if let Some(t) = phases.push(line) {
            let _ = writeln!(out, "phase {:<11} {}", t.phase, line.shown());
        }
        signs.extend(tracker.push(line));
    }
    signs.extend(tracker.finish());
    for s in &signs {
        let fatal = if s.fatal { ", fatal" } else { "" };
        let _ = writeln!(out, "sign  {} ({}{fatal}): {}", s.code, s.speaker, s.text);
    }
    let _ = writeln!(out, "explained by {}", explain(&signs).map_or("nothing", |s| s.code));
    for (name, catalogue) in [("panic", Catalogue::Panic), ("warning", Catalogue::Warning)] {
        for f in catalogue.scan(&all) {
            let _ = writeln!(out, "{name} {}: {}", f.code, f.text);
        }
    }
    if phases.without_xen() {
        out.push_str("without Xen\n");
    }
    out
}

#[test]
fn each_tells_its_story() {
    let names = names();
    assert!(names.len() >= 15, "{names:?}");
    for name in names {
        insta::assert_snapshot!(name.clone(), story(&record(&name)));
    }
}

#[test]
fn nothing_fires_on_a_healthy_boot() {
    let good: Vec<String> = names()
        .into_iter()
        .filter(|n| ["good", "64-verbose", "4.20"].iter().any(|w| n.contains(w)))
        .collect();
    assert_eq!(good.len(), 7, "{good:?}");
    for name in good {
        let all = lines(&record(&name));
        let mut tracker = SignTracker::new("");
        let signs: Vec<Sign> = all.iter().filter_map(|l| tracker.push(l)).collect();
        assert_eq!(signs, [], "{name}");
        for catalogue in [Catalogue::Panic, Catalogue::Warning] {
            assert_eq!(catalogue.scan(&all), [], "{name}");
        }
    }
}

#[test]
fn the_same_story_cut_anywhere() {
    for name in names() {
        let record = record(&name);
        let whole = lines(&record);
        for size in [1, 7, 127] {
            let (mut demux, mut all) = (Demux::new(), Vec::new());
            for chunk in record.chunks(size) {
                demux.feed(chunk, |l| all.push(l.into_owned()));
            }
            demux.finish(|l| all.push(l.into_owned()));
            assert_eq!(all, whole, "{name} in chunks of {size}");
        }
    }
}
