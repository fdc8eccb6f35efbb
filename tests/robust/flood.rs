//! Guests that say too much, and what the lab itself takes while they do and while they say nothing.

use crate::bench::{Bench, MEMORY, boots, fake, pause};
use serde_json::{Value, json};

const ENDLESS: u64 = 1 << 50;

/// Gigabytes, of each kind of text that is kept in another place.
#[test]
fn a_console_flood_stays_small() {
    let bench = Bench::new();
    let mut qemus = Vec::new();
    for (name, text) in [
        ("xen", "(XEN) the same line over and over, as a guest gone mad writes it\r\n"),
        ("empty", "\n"),
        ("endless", "x"),
        (
            "sign",
            "[    1.000000] Kernel command line: x\r\n(XEN) WARNING: this is one\r\n[    1.0] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2\r\n",
        ),
        ("escapes", "\x1b[31m\u{0}\u{7}\x1b]0;title\u{7}é\r"),
    ] {
        let flood = json!([{"write": "(XEN) Xen version 4.17.5\r\n"}, {"flood-of": {"text": text, "bytes": ENDLESS}}]);
        qemus.push(bench.qemu(name, flood));
    }
    let scenario = fake("  - phase: dom0-ready\n").replace(
        "machine: {accel: tcg, start: power-on}",
        &format!(
            "machine: {{accel: tcg, start: power-on}}\nlimits: {{boot: 3s}}\nmatrix:\n  machine.qemu: [{}]",
            qemus.join(", ")
        ),
    );
    let did = bench.run(&scenario, &["-j1", "--no-control"]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    bench.memory_is_small();
    for bundle in xenlab_tests::bundles(&bench.report()) {
        let verdict = xenlab_tests::json(&bundle.join("verdict.json")).expect("a verdict");
        assert_eq!(verdict["verdict"], "fail", "{verdict}");
        let kept = std::fs::metadata(bundle.join("console/machine.raw")).expect("a record").len();
        let timeline = std::fs::metadata(bundle.join("timeline.jsonl")).expect("a timeline").len();
        eprintln!("{}: kept {kept}, timeline {timeline}", bundle.display());
        // The stated size, as far as this build of the lab came in that time.
        let all = std::fs::read_to_string(bundle.join("evidence.jsonl")).expect("evidence");
        let boot: Value =
            serde_json::from_str(all.lines().next().unwrap_or_default()).expect("the boot's evidence");
        let total = boot["seen"]["Ok"]["phase"]["console_bytes"].as_u64().expect("bytes");
        assert!(total > 1 << 20, "{boot}");
        assert!(kept == total.min(4 << 20) && timeline < 9 << 20, "{kept} of {total}, {timeline}");
    }
    bench.clean();
}

/// What the record no longer holds cannot be said to be absent.
#[test]
fn a_cut_console_never_satisfies_lacks() {
    let bench = Bench::new();
    let mut then = boots();
    then.insert(2, json!({"flood-of": {"text": "[    1.000000] nothing of note\r\n", "bytes": 5 << 20}}));
    let qemu = bench.qemu("qemu", then.into());
    let did = bench.run(&fake("  - console: {of: dom0, lacks: [panic]}\n"), &["--qemu", &qemu]);
    assert_ne!(did.code, Some(0), "{}", did.stderr);
    let verdict = bench.verdict("fake");
    assert_eq!(verdict["cause"], "capture.cut", "{verdict}");
    xenlab_tests::replay_agrees(&bench.report()).expect("judged alike from the bundle");
}

#[test]
fn a_commands_flood_is_cut_and_counted() {
    let bench = Bench::new();
    let mut then = boots();
    then.push(json!("shell"));
    let qemu = bench.qemu("qemu", then.into());
    let steps = "  - run: {script: 'head -c 60000000 /dev/zero | tr \"\\0\" y', via: serial, stdout: {lacks: z}}\n  \
                 - run: {script: 'echo next', via: serial, stdout: next}\n";
    let did = bench.run(&fake(steps), &["--qemu", &qemu]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    let verdict = bench.verdict("fake");
    let steps = verdict["steps"].as_array().expect("steps");
    let of =
        |path: &str| steps.iter().find(|s| s["step"] == path).cloned().unwrap_or(Value::Null).to_string();
    assert!(
        of("steps[0]").contains("capture.cut") && of("steps[0]").contains("60000000"),
        "{}",
        of("steps[0]")
    );
    assert!(of("steps[1]").contains("\"pass\""), "{}", of("steps[1]"));
    bench.memory_is_small();
    bench.clean();
}

/// Beside a machine that does nothing for five seconds.
#[test]
fn waiting_costs_next_to_nothing() {
    let bench = Bench::new();
    let qemu = bench.qemu("qemu", json!([{"write": "(XEN) Xen version 4.17.5\r\n"}, "hold"]));
    let mut lab = bench.start(bench.run_command(&fake("  - phase: dom0-kernel\n"), &["--qemu", &qemu]));
    lab.phase("xen");
    let used = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(|f| f.parse().unwrap_or(0))
            .collect();
        // utime and stime (proc(5), fields 14 and 15), in hundredths of a second.
        fields[11] + fields[12]
    };
    pause(300);
    let before = used(lab.pid());
    pause(5000);
    let spent = used(lab.pid()) - before;
    eprintln!("{spent} hundredths of a second in 5 s");
    assert!(spent <= 10, "{spent} hundredths of a second in 5 s is more than 2 % of a core");
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.pid())).expect("it runs");
    let peak = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(peak.is_some_and(|kib| kib << 10 < MEMORY), "{peak:?} KiB");
    lab.ends_orderly(rustix::process::Signal::INT);
}

/// Everything that was waited for was seen, and then Xen died: no pass.
#[test]
fn a_xen_that_panics_after_the_last_step_has_not_passed() {
    let bench = Bench::new();
    let mut then = boots();
    then.push(json!({"write": "(XEN) Panic on CPU 0:\r\n(XEN) FATAL TRAP: vector = 14\r\n[    9.000000] the last word\r\n"}));
    then.push(json!("hold"));
    let qemu = bench.qemu("qemu", then.into());
    let steps = "  - phase: dom0-ready\n  - console: {of: dom0, has: [the last word]}\n";
    let did = bench.run(&fake(steps), &["--qemu", &qemu]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    let verdict = bench.verdict("fake");
    assert_eq!((&verdict["verdict"], &verdict["cause"]), (&json!("fail"), &json!("xen.panic")), "{verdict}");
    assert!(did.stderr.contains("after the last step"), "{}", did.stderr);
    xenlab_tests::replay_agrees(&bench.report()).expect("judged alike from the bundle");
    bench.clean();
}
