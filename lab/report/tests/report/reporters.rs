//! Each reporter, fed a run with everything in it. Times are the run's own, so nothing needs to be redacted.

use crate::common::*;
use std::io::Write;
use std::sync::{Arc, Mutex};
use xenlab_model::event::{Event, Sink, What};
use xenlab_model::exit::Exit;
use xenlab_report::*;

/// A writer whose bytes can be looked at.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Feeds events with the ticks that the fan would give between them.
fn lines(events: &[Event], style: Style) -> String {
    let buffer = Buffer::default();
    let mut terminal = Terminal::lines(Box::new(buffer.clone()), style);
    let mut now = 0.0;
    for event in events {
        while now + 0.1 < event.at {
            now += 0.1;
            terminal.tick(now).unwrap();
        }
        now = event.at;
        terminal.event(event).unwrap();
    }
    buffer.text()
}

const PLAIN: Style = Style { color: false, width: 100 };

#[test]
fn terminal_lines() {
    insta::assert_snapshot!(lines(&run(), PLAIN));
}

#[test]
fn terminal_lines_narrow() {
    let text = lines(&run(), Style { color: false, width: 60 });
    let (_, report) = text.split_once("\ncase ").unwrap();
    insta::assert_snapshot!(report);
}

#[test]
fn terminal_colours() {
    let plain = lines(&run(), PLAIN);
    let colored = lines(&run(), Style { color: true, ..PLAIN });
    assert!(!plain.contains('\x1b'), "nothing of the guest's own reaches the terminal");
    let sequences =
        ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;35m"];
    let stripped = sequences.iter().fold(colored.clone(), |text, s| text.replace(s, ""));
    assert_eq!(stripped, plain);
    assert!(colored.contains("\x1b[1;31mFAIL\x1b[0m"));
}

#[test]
fn never_long_without_a_line() {
    let text = lines(&run(), PLAIN);
    let times: Vec<f64> =
        text.lines().filter_map(|l| l.strip_prefix('[')?.split_once(" s]")?.0.trim().parse().ok()).collect();
    assert!(times.len() > 10);
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] <= 2.0, "{pair:?} in\n{text}");
    }
}

#[test]
fn an_interrupted_run_says_so() {
    let mut events = run()[..10].to_vec();
    events.push(at(6.0, ended(Exit::Interrupted, true)));
    let text = lines(&events, PLAIN);
    assert!(text.contains("NO VERDICT"), "{text}");
    assert!(text.ends_with("interrupted; 4 cases: 4 without a verdict (21.5 s)\n"), "{text}");
}

fn write_files(dir: &std::path::Path, events: &[Event]) {
    let mut reporters = files(dir).unwrap();
    for event in events {
        for reporter in &mut reporters {
            reporter.event(event).unwrap();
        }
    }
}

fn read(dir: &std::path::Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn report_files() {
    let dir = tempfile::tempdir().unwrap();
    write_files(&dir.path().join("made/for/it"), &run());
    let dir = dir.path().join("made/for/it");
    insta::assert_snapshot!("junit", read(&dir, "junit.xml"));
    insta::assert_snapshot!("summary", read(&dir, "summary.md"));
    insta::assert_snapshot!("events", read(&dir, "events.jsonl"));
    let back: Vec<Event> =
        read(&dir, "events.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(back, run(), "events are read back as they were");
    let mut left: Vec<String> =
        std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["events.jsonl", "junit.xml", "summary.md"]);
}

#[test]
fn an_interruption_at_any_event_leaves_the_report_so_far() {
    let events = run();
    for n in 1..events.len() {
        let dir = tempfile::tempdir().unwrap();
        write_files(dir.path(), &events[..n]);
        let done = events[..n].iter().filter(|e| matches!(e.what, What::CaseFinished { .. })).count();
        let junit = read(dir.path(), "junit.xml");
        assert_eq!(junit.matches("type=\"lab.interrupted\"").count(), 4 - done, "after {n} events");
        assert!(junit.ends_with("</testsuites>\n"));
        assert!(read(dir.path(), "summary.md").contains("has not ended, or was killed"));
        assert_eq!(read(dir.path(), "events.jsonl").lines().count(), n);
    }
}

#[test]
fn the_fan_feeds_everybody_in_one_order() {
    let buffer = Buffer::default();
    let dir = tempfile::tempdir().unwrap();
    let mut reporters = files(dir.path()).unwrap();
    reporters.push(Box::new(Terminal::lines(Box::new(buffer.clone()), PLAIN)));
    let fan = Fan::start(reporters);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let fan = &fan;
            scope.spawn(move || {
                for i in 0..50 {
                    fan.emit(What::Note { case: None, message: format!("note {n}.{i}") });
                }
            });
        }
    });
    assert!(fan.finish().is_empty());
    fan.emit(What::Note { case: None, message: "late".into() });
    let times: Vec<f64> = read(dir.path(), "events.jsonl")
        .lines()
        .map(|l| serde_json::from_str::<Event>(l).unwrap().at)
        .collect();
    assert_eq!(times.len(), 200);
    assert!(times.windows(2).all(|w| w[0] <= w[1]));
    assert_eq!(buffer.text().lines().count(), 200);
}

#[test]
fn a_reporter_that_fails_is_left_out_and_said() {
    struct Full;
    impl Reporter for Full {
        fn name(&self) -> String {
            "full.txt".into()
        }
        fn event(&mut self, _: &Event) -> Result<(), ReportError> {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            Err(ReportError::File { path: "out/full.txt".into(), source })
        }
    }
    let buffer = Buffer::default();
    let fan = Fan::start(vec![Box::new(Full), Box::new(Terminal::lines(Box::new(buffer.clone()), PLAIN))]);
    fan.emit(started("r1", &[GOOD]));
    fan.emit(finished(GOOD, good()));
    let errors = fan.finish();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].cause(), xenlab_model::cause::Cause::HostDisk);
    let text = buffer.text();
    assert!(text.contains("out/full.txt: cannot write this report") && text.contains("PASS"), "{text}");
}

#[test]
fn a_verdict_alone() {
    let text = terminal::case_text;
    assert_eq!(text(&good()), "PASS dom0-boot[arch=aarch64] @ debian:bookworm\n");
    assert!(
        text(&skipped()).starts_with("SKIP xtf[vars.test=test-pvh64-example] @ debian:trixie: this QEMU")
    );
    insta::assert_snapshot!(text(&bad()));
}
