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

/// What a record is explained by.
fn cause(record: &[u8]) -> Option<&'static str> {
    let mut tracker = SignTracker::new("n0nce");
    let mut signs: Vec<Sign> = lines(record).iter().filter_map(|l| tracker.push(l)).collect();
    signs.extend(tracker.finish());
    explain(&signs).map(|s| s.code)
}

/// A console that ends early, begins late, or has a hole: whatever is lost, what is left says the same cause, or that something
/// panicked which did, or nothing.
#[test]
fn what_is_cut_out_never_makes_another_cause() {
    // Numbers that are the same in every run (xorshift), so that what fails once fails again.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n.max(1) as u64) as usize
    };
    let mut wrong = Vec::new();
    for name in names() {
        let record = record(&name);
        let whole = cause(&record);
        // Who panicked is true without the reason why; the words of Xen's box take the place of its bare name where they say more.
        let text = String::from_utf8_lossy(&record);
        let (xen, dom0) = (text.contains("Panic on CPU "), text.contains("Kernel panic - not syncing"));
        let dom0 = dom0 || text.contains("Hardware Dom0 crashed");
        let true_too = |code| matches!((code, xen, dom0), ("xen.panic", true, _) | ("dom0.panic", _, true));
        for n in 0..300 {
            let (a, b) = (below(record.len() + 1), below(record.len() + 1));
            let (from, to) = (a.min(b), a.max(b));
            let (what, left) = match n % 3 {
                0 => (format!("the first {a}"), record[..a].to_vec()),
                1 => (format!("{from}..{to} alone"), record[from..to].to_vec()),
                _ => (format!("all but {from}..{to}"), [&record[..from], &record[to..]].concat()),
            };
            let seen = cause(&left);
            if seen != whole && !seen.is_none_or(true_too) {
                wrong.push(format!("{name}, {what}: {seen:?} and not {whole:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}
