//! The bench on which the other tests stand: a lab with a runtime folder, temporary folder and report of its own, whose every
//! process can be found again, and machines that are scripts.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use xenlab_tests::{Did, fake_qemu, lab, root};

/// All must be over so long after a signal.
pub const OVER: Duration = Duration::from_secs(3);

/// The stated bound on the lab's memory: 40 MB.
pub const MEMORY: u64 = 40_000_000;

/// A variable by which a lab's processes are known: all that it starts inherit it.
const MARK: &str = "XENLAB_ROBUST";

static ONE: Mutex<()> = Mutex::new(());

/// Where one lab runs.
pub struct Bench {
    _one: MutexGuard<'static, ()>,
    pub dir: TempDir,
    mark: String,
    /// The store, when it is not the user's own.
    pub store: Option<PathBuf>,
    /// Cores of the budget that this bench's labs share.
    pub cores: usize,
}

impl Bench {
    pub fn new() -> Bench {
        let one = ONE.lock().unwrap_or_else(|e| e.into_inner());
        // Short: sockets lie below it.
        let dir = tempfile::Builder::new().prefix("xr").tempdir_in("/tmp").expect("a temporary folder");
        for name in ["run", "tmp", "budget"] {
            fs::create_dir(dir.path().join(name)).expect("a folder");
        }
        let mark = dir.path().display().to_string();
        Bench { _one: one, dir, mark, store: None, cores: 64 }
    }

    /// With a store that has everything the user's has, and may be spoilt.
    pub fn with_store() -> Bench {
        let mut bench = Bench::new();
        let store = bench.dir.path().join("store");
        copy_store(&store);
        bench.store = Some(store);
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn report(&self) -> PathBuf {
        self.path("report")
    }

    /// Writes a file and returns its path as text.
    pub fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).expect("a file of one's own can be written");
        self.path(name).display().to_string()
    }

    /// A QEMU that plays this script.
    pub fn qemu(&self, name: &str, then: Value) -> String {
        self.qemu_script(name, json!({ "then": then }))
    }

    pub fn qemu_script(&self, name: &str, script: Value) -> String {
        let script = self.file(&format!("{name}.json"), &script.to_string());
        let path = self.path(name);
        let text = format!("#!/bin/sh\nFAKE_QEMU={script} exec {} \"$@\"\n", fake_qemu().display());
        write_executable(&path, &text);
        path.display().to_string()
    }

    /// `xenlab` with these arguments, everything it leaves being this bench's.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(lab());
        command
            .args(args)
            .current_dir(root())
            .stdin(Stdio::null())
            .env(MARK, &self.mark)
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("TMPDIR", self.path("tmp"))
            .env("XENLAB_BUDGET", format!("cores={},dir={}", self.cores, self.path("budget").display()))
            .env("XENLAB_HISTORY", self.path("history.sqlite3"))
            .env_remove("XENLAB_LOG");
        if let Some(store) = &self.store {
            command.env("XENLAB_STORE", store);
        }
        command
    }

    /// Runs a scenario of one's own with a report.
    pub fn run(&self, scenario: &str, more: &[&str]) -> Did {
        xenlab_tests::finish(self.run_command(scenario, more))
    }

    pub fn run_command(&self, scenario: &str, more: &[&str]) -> Command {
        let file = self.file("scenario.yaml", scenario);
        let report = self.report().display().to_string();
        let mut args = vec!["run", &file, "--report", &report];
        args.extend(more);
        self.command(args)
    }

    /// Starts it and leaves it running; what it says goes to `log`.
    pub fn start(&self, command: Command) -> Running<'_> {
        self.start_logged(command, "log")
    }

    /// The same with a log of its own, for one of several.
    pub fn start_logged(&self, mut command: Command, log: &str) -> Running<'_> {
        let log = fs::File::create(self.path(log)).expect("a log");
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        Running { child: command.spawn().expect("xenlab starts"), bench: self }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Events of the report, so far.
    pub fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.report().join("events.jsonl")).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    }

    /// What the lab used, by its own word at the end.
    pub fn used(&self) -> (u64, f64) {
        let events = self.events();
        let lab =
            events.iter().rev().find_map(|e| e.get("lab")).expect("the run's end is in events.jsonl").clone();
        let rss = lab["peak_rss_bytes"].as_u64().expect("bytes");
        (rss, lab["cpu_seconds"].as_f64().expect("seconds"))
    }

    pub fn memory_is_small(&self) {
        let (rss, cpu) = self.used();
        eprintln!("peak memory {:.1} MB, processor {cpu:.2} s", rss as f64 / 1e6);
        assert!(rss < MEMORY, "the lab's memory reached {rss} bytes");
    }

    /// `verdict.json` of the only bundle, or of that whose name has `part`.
    pub fn verdict(&self, part: &str) -> Value {
        let bundles = xenlab_tests::bundles(&self.report());
        let bundle = bundles.iter().find(|b| b.display().to_string().contains(part));
        let bundle = bundle.unwrap_or_else(|| panic!("no bundle of {part} in {bundles:?}\n{}", self.log()));
        xenlab_tests::json(&bundle.join("verdict.json")).expect("a verdict")
    }

    /// Processes that belong to this bench's labs.
    pub fn processes(&self) -> Vec<String> {
        let mark = format!("{MARK}={}", self.mark);
        marked(&mark)
    }

    /// Nothing is left of a lab: no process, run folder, socket or temporary file.
    pub fn clean(&self) {
        let begun = Instant::now();
        // What was killed may take the kernel a moment.
        while !self.processes().is_empty() && begun.elapsed() < Duration::from_secs(1) {
            pause(10);
        }
        assert_eq!(self.processes(), Vec::<String>::new(), "processes\n{}", self.log());
        self.nothing_lies_about();
    }

    pub fn nothing_lies_about(&self) {
        let mut left = Vec::new();
        for place in ["run", "tmp"] {
            left.extend(below(&self.path(place)));
        }
        if let Some(store) = &self.store {
            left.extend(below(&store.join("tmp")));
        }
        left.extend(below(&self.report()).into_iter().filter(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with('.') || name.ends_with(".tmp")
        }));
        left.extend(self.tickets());
        // The lock of the place itself stays, and is not one of a run.
        left.retain(|p| !p.ends_with("xenlab/.lock"));
        assert_eq!(left, Vec::<PathBuf>::new(), "left lying about\n{}", self.log());
    }

    /// Machines that run, or wait for their turn, by their tickets.
    pub fn tickets(&self) -> Vec<PathBuf> {
        let mut found = below(&self.path("budget"));
        found.retain(|p| !p.ends_with("xenlab-budget.lock"));
        found
    }

    /// The report so far is there, and whole.
    pub fn report_is_kept(&self) {
        let report = self.report();
        let events = self.events();
        assert!(events.iter().any(|e| e["event"] == "run-started"), "{events:?}");
        assert_eq!(events.last().map(|e| e["event"].clone()), Some("run-finished".into()), "{}", self.log());
        for name in ["junit.xml", "summary.md"] {
            let text = fs::read_to_string(report.join(name)).unwrap_or_default();
            assert!(text.len() > 40, "{name} is missing or empty: {text:?}");
        }
        for bundle in xenlab_tests::bundles(&report) {
            assert!(bundle.join("started").is_file() && bundle.join("plan.json").is_file());
            xenlab_tests::json(&bundle.join("verdict.json")).expect("a begun case has a verdict");
        }
    }
}

/// A lab at work.
pub struct Running<'a> {
    child: Child,
    bench: &'a Bench,
}

impl Running<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process number");
        kill_process(pid, signal).expect("the lab runs");
    }

    /// It has ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_some()
    }

    /// Waits until `done`, for a minute.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Bench) -> bool) {
        let begun = Instant::now();
        while !done(self.bench) {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                panic!("ended with {status} before {what}\n{}", self.bench.log());
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "no {what} within a minute\n{}",
                self.bench.log()
            );
            pause(20);
        }
    }

    /// Waits for an event of this name.
    pub fn event(&mut self, name: &str) {
        self.until(name, |bench| bench.events().iter().any(|e| e["event"] == name));
    }

    /// Waits for a boot's phase.
    pub fn phase(&mut self, name: &str) {
        self.until(name, |bench| bench.events().iter().any(|e| e["phase"] == name));
    }

    /// Waits for its end, at most so long.
    pub fn end(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return (status, begun.elapsed());
            }
            if begun.elapsed() > within {
                let left = self.bench.processes();
                panic!("still runs after {within:?}: {left:#?}\n{}", self.bench.log());
            }
            pause(5);
        }
    }

    /// Asks for an end and sees that it comes as promised.
    pub fn ends_orderly(mut self, signal: Signal) {
        self.signal(signal);
        let (status, took) = self.end(OVER);
        // A signal that came before the program could even listen to it has ended it as it ends any.
        let unheard = status.code().is_none() && self.bench.log().is_empty();
        assert!(status.code() == Some(130) || unheard, "{status}\n{}", self.bench.log());
        eprintln!("{signal:?}: over after {:.2} s", took.as_secs_f64());
        self.bench.clean();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tests wait for what others do; this is between two looks.
pub fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

fn marked(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ.split(|b| *b == 0).any(|v| v == mark.as_bytes()) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push(format!("{} {text}", entry.file_name().display()));
        }
    }
    found
}

/// Everything below a folder that is no folder.
pub fn below(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            all.extend(below(&entry.path()));
        } else {
            all.push(entry.path());
        }
    }
    all
}

/// Written by another process: what this one has open for writing cannot be executed while another test forks.
pub fn write_executable(path: &Path, text: &str) {
    use std::io::Write;
    let mut sh = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh starts");
    sh.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("sh reads");
    assert!(sh.wait().expect("sh ends").success());
}

/// The user's own store, with everything that the shipped scenario is made of.
pub fn user_store() -> &'static Path {
    static STORE: LazyLock<PathBuf> = LazyLock::new(|| {
        let did = xenlab_tests::run(["image", "build"]);
        assert_eq!(did.code, Some(0), "{}{}", did.stdout, did.stderr);
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        std::env::var_os("XENLAB_STORE")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("XDG_CACHE_HOME").map(|p| PathBuf::from(p).join("xenlab")))
            .unwrap_or_else(|| home.join(".cache/xenlab"))
    });
    &STORE
}

/// A store with the same entries; links where it can be, as entries are never written to.
fn copy_store(to: &Path) {
    let from = user_store();
    fs::create_dir(to).expect("a folder");
    for name in ["locks", "tmp", "files", "debian", "good"] {
        fs::create_dir(to.join(name)).expect("a folder");
    }
    let copy = |options: &str, names: &[&str]| {
        let mut command = Command::new("cp");
        command.arg(options).args(names.iter().map(|n| from.join(n)).filter(|p| p.exists())).arg(to);
        command.stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    assert!(copy("-al", &["content", "keys"]) || copy("-a", &["content", "keys"]), "the store can be copied");
    assert!(copy("-a", &["format", "CACHEDIR.TAG", "accelerators.json"]));
}

/// The records of a store's entries of a kind, with their digests.
pub fn entries(store: &Path, kind: &str) -> Vec<(PathBuf, Value)> {
    let records = fs::read_dir(store.join("keys")).expect("keys").flatten().map(|e| e.path());
    records
        .filter_map(|path| Some((path.clone(), xenlab_tests::json(&path).ok()?)))
        .filter(|(_, record)| record["kind"] == kind)
        .collect()
}

/// What a machine of an x86_64 dom0 that comes up says.
pub fn boots() -> Vec<Value> {
    vec![
        json!({"write": "(XEN) Xen version 4.17.5 (Debian 4.17.5) (gcc) debug=n\r\n"}),
        json!({"write": "(XEN) *** Building a PV Dom0 ***\r\n[    0.000000] Linux version 6.1.0 (builder)\r\n"}),
        json!({"say": "init"}),
        json!({"say": "ready"}),
    ]
}

/// A scenario for a fake machine; `steps` is what follows `steps:`.
pub fn fake(steps: &str) -> String {
    format!(
        "xenlab: 1\nname: fake\narch: x86_64\nxen: debian:bookworm\nmachine: {{accel: tcg, start: power-on}}\ndom0: {{memory: 512M}}\nsteps:\n{steps}"
    )
}
