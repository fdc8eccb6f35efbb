//! Pools of waiting machines: whoever dies, lies or hangs, no verdict is wrong for it and nothing is left.
//!
//! As in the tests of templates the machine is the fake QEMU, and its dom0 this host's shell behind the lab's own port.

use crate::bench::{Bench, OVER, pause};
use crate::template::{Cold, FINE, cases, warm};
use rustix::fs::{FlockOperation, flock};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant, SystemTime};
use xenlab_tests::json as read;

/// A step that a machine from power-on does at once, and any other one never.
const NOT_ON_A_CLONE: &str = "  - run: {script: 'test $STANDS_ON = power-on || sleep 1000'}\n";

/// `xenlab pool` at work.
struct Pool<'a> {
    child: Child,
    bench: &'a Bench,
}

impl<'a> Pool<'a> {
    /// With so many machines that wait.
    fn start(cold: &'a Cold, scenario: &str, size: usize, more: &[&str]) -> Pool<'a> {
        let mut pool = Pool::spawn(cold, Pool::command(cold, scenario, size, more));
        pool.waits(size);
        pool
    }

    fn command(cold: &Cold, scenario: &str, size: usize, more: &[&str]) -> Command {
        let file = cold.bench.file("pool.yaml", scenario);
        let mut command = cold.bench.command(["pool", &file, "--size", &size.to_string()]);
        command.args(cold.args()).args(more);
        command
    }

    fn spawn(cold: &'a Cold, mut command: Command) -> Pool<'a> {
        let log = fs::File::create(cold.bench.path("pool.log")).expect("a log");
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        Pool { child: command.spawn().expect("xenlab starts"), bench: &cold.bench }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.bench.path("pool.log")).unwrap_or_default()
    }

    /// Waits until so many machines wait.
    fn waits(&mut self, size: usize) {
        self.until(&format!("{size} of {size} machines wait"), |log| {
            log.contains(&format!("{size} of {size} machines wait"))
        });
    }

    fn until(&mut self, what: &str, done: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !done(&self.log()) {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                panic!("the pool ended with {status} before {what}\n{}", self.log());
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no {what} within a minute\n{}", self.log());
            pause(20);
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process number");
        kill_process(pid, signal).expect("the pool runs");
    }

    fn end(mut self, within: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(begun.elapsed() < within, "the pool still runs after {within:?}\n{}", self.log());
            pause(10);
        }
    }

    /// Ctrl-C, after which nothing is left.
    fn ends(self) {
        self.signal(Signal::INT);
        let bench = self.bench;
        assert_eq!(self.end(OVER).code(), Some(130));
        bench.clean();
    }
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the only case of a run had its machine from, if it waited.
fn from(cold: &Cold) -> Option<String> {
    inputs(&cold.bench.report())["warm"].as_str().map(str::to_owned)
}

/// Of the only case, not its template's.
fn inputs(report: &std::path::Path) -> Value {
    let bundles = xenlab_tests::bundles(report);
    let bundle = bundles.iter().find(|b| !b.display().to_string().contains("template")).expect("a bundle");
    read(&bundle.join("inputs.json")).expect("inputs")
}

/// What the only case's last command said.
fn said(cold: &Cold) -> String {
    let bundles = xenlab_tests::bundles(&cold.bench.report());
    let text = fs::read_to_string(bundles[0].join("evidence.jsonl")).expect("evidence");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    last["seen"]["Ok"]["run"]["results"][0]["stdout"]["text"].as_str().expect("an output").to_owned()
}

fn qemus(bench: &Bench) -> Vec<i32> {
    let qemus = bench.processes().into_iter().filter(|p| p.contains("-incoming") && !p.contains("__exec"));
    qemus.filter_map(|p| p.split(' ').next()?.parse().ok()).collect()
}

fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids {
        let _ = kill_process(Pid::from_raw(*pid).expect("a process number"), signal);
    }
}

fn until(what: &str, within: Duration, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < within, "no {what} within {within:?}");
        pause(20);
    }
}

#[test]
fn a_run_begins_with_a_machine_of_the_pool() {
    let cold = Cold::warmed();
    let pool = Pool::start(&cold, &warm(FINE), 2, &[]);
    pause(1100);
    let since = SystemTime::now();
    let did = cold.run(&warm("  - run: {script: od -An -tu8 -N8 /run/words}\n"));
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    cold.on_a_clone(&did);
    let pool_is = format!("from the pool of process {}", pool.child.id());
    assert_eq!(from(&cold), Some(pool_is.clone()), "{}", did.stderr);
    assert!(did.stderr.contains(&pool_is), "{}", did.stderr);
    // It waited, and was told the time when it was taken.
    let told = said(&cold).trim().parse::<u64>().expect("seconds");
    let since = since.duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    assert!(told >= since, "told {told}, taken after {since}");
    // Everything its monitor ever said is in the record.
    let bundles = xenlab_tests::bundles(&cold.bench.report());
    let timeline = fs::read_to_string(bundles[0].join("timeline.jsonl")).expect("a timeline");
    for word in ["\"QMP\"", "migrate-incoming", "\"stop\"", "\"cont\""] {
        assert!(timeline.contains(word), "{word} is not in {timeline}");
    }
    xenlab_tests::replay_agrees(&cold.bench.report()).expect("judged alike from the bundle");
    // Many, one after the other; the pool makes new ones meanwhile.
    let did = cold.run_with(&cases(6, FINE), &["--jobs", "2"]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    pool.ends();
}

#[test]
fn two_runs_never_have_the_same_machine() {
    let cold = Cold::warmed();
    let pool = Pool::start(&cold, &warm(FINE), 2, &[]);
    let file = cold.bench.file("two.yaml", &warm("  - run: {script: sleep 1}\n"));
    let runs: Vec<(PathBuf, Child)> = (0..2)
        .map(|n| {
            let report = cold.bench.path(&format!("report{n}"));
            let shown = report.display().to_string();
            let mut command = cold.bench.command(["run", &file, "--report", &shown]);
            let log = fs::File::create(cold.bench.path(&format!("log{n}"))).expect("a log");
            command.args(cold.args()).stderr(log);
            (report, command.spawn().expect("xenlab starts"))
        })
        .collect();
    let mut seen = Vec::new();
    for (report, mut child) in runs {
        assert_eq!(child.wait().expect("a child of ours").code(), Some(0));
        let inputs = inputs(&report);
        assert!(inputs["warm"].is_string(), "{inputs:#}");
        seen.push(inputs["argv"].clone());
    }
    assert_ne!(seen[0], seen[1], "each QEMU has sockets of its own");
    pool.ends();
}

/// Broken: the pool dies, or is ended, under a run's machine: the case begins again from power-on.
#[test]
fn a_pool_that_ends_while_a_run_uses_its_machine() {
    for signal in [Signal::KILL, Signal::INT] {
        let cold = Cold::warmed();
        let pool = Pool::start(&cold, &warm(FINE), 1, &[]);
        let mut run = cold.bench.start(cold.bench.run_command(&warm(NOT_ON_A_CLONE), &cold.args()));
        run.until("the command", |b| b.processes().iter().any(|p| p.ends_with("sleep 1000 ")));
        assert!(cold.bench.log().contains("from the pool of process"), "{}", cold.bench.log());
        pool.signal(signal);
        pool.end(OVER);
        let (status, _) = run.end(Duration::from_secs(30));
        assert_eq!(status.code(), Some(0), "{}", cold.bench.log());
        let verdict = cold.case();
        let message = verdict["message"].as_str().unwrap_or_default();
        assert!(message.contains("the pool that ran the machine is gone"), "{verdict:#}");
        assert_eq!(cold.origin(), "power-on");
        xenlab_tests::replay_agrees(&cold.bench.report()).expect("judged alike from the bundle");
        drop(run);
        if signal == Signal::KILL {
            // Its run folders are swept by the next one.
            let did = cold.run(&warm(FINE));
            assert_eq!(did.code, Some(0), "{}", did.stderr);
            assert_eq!(from(&cold), None);
        }
        cold.bench.clean();
    }
}

/// Broken: a run is killed: the machine it used is gone, and the pool goes on.
#[test]
fn a_run_killed_while_it_uses_a_machine() {
    let cold = Cold::warmed();
    let pool = Pool::start(&cold, &warm(FINE), 1, &[]);
    let mut run = cold.bench.start(cold.bench.run_command(&warm(NOT_ON_A_CLONE), &cold.args()));
    let used = || cold.bench.processes().iter().any(|p| p.ends_with("sleep 1000 "));
    run.until("the command", |_| used());
    run.signal(Signal::KILL);
    run.end(OVER);
    until("end of its machine", Duration::from_secs(2), || !used());
    drop(run);
    until("another machine that waits", Duration::from_secs(20), || qemus(&cold.bench).len() == 1);
    pause(1000);
    let did = cold.run(&warm(FINE));
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(from(&cold).is_some(), "{}\n{}", did.stderr, pool.log());
    pool.ends();
}

/// Broken: machines that wait are killed, or hang: the case has one of its own.
#[test]
fn machines_that_do_not_wait_any_more() {
    for signal in [Signal::KILL, Signal::STOP] {
        let cold = Cold::warmed();
        let pool = Pool::start(&cold, &warm(FINE), 2, &[]);
        let waiting = qemus(&cold.bench);
        assert_eq!(waiting.len(), 2, "{:#?}", cold.bench.processes());
        signal_all(&waiting, signal);
        pause(200);
        let did = cold.run(&warm(FINE));
        assert_eq!(did.code, Some(0), "{}", did.stderr);
        cold.on_a_clone(&did);
        assert_eq!(from(&cold), None, "{}", did.stderr);
        pool.ends();
    }
}

#[test]
fn it_ends_when_nobody_comes_and_not_while_somebody_uses_it() {
    let cold = Cold::warmed();
    let pool = Pool::start(&cold, &warm(FINE), 1, &["--idle", "2s"]);
    let did = cold.run(&warm("  - run: {script: sleep 3}\n"));
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(from(&cold).is_some(), "{}", did.stderr);
    assert_eq!(cold.case()["verdict"], "pass");
    until("its word", OVER, || pool.log().contains("nobody has taken a machine for 2 s"));
    assert_eq!(pool.end(OVER).code(), Some(0));
    cold.bench.clean();
}

#[test]
fn it_ends_with_its_parent() {
    let cold = Cold::warmed();
    let inner = Pool::command(&cold, &warm(FINE), 1, &[]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$@\" & wait", "sh"]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.current_dir(xenlab_tests::root());
    let mut parent = Pool::spawn(&cold, shell);
    parent.waits(1);
    parent.signal(Signal::KILL);
    let log = parent.log();
    parent.end(OVER);
    until("end of the pool", OVER, || cold.bench.processes().is_empty());
    assert!(log.contains("machines wait"), "{log}");
    cold.bench.clean();
}

#[test]
fn a_pool_of_another_template_or_another_lab_gives_nothing() {
    let cold = Cold::warmed();
    let key = cold.template().file_name().expect("a name").display().to_string();
    let mut pool = Pool::start(&cold, &warm(FINE), 1, &[]);
    // Another machine: it has a template of its own.
    let other = warm(FINE).replace("memory: 128M", "memory: 160M");
    let did = cold.run(&other);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert_eq!(from(&cold), None, "{}", did.stderr);
    // Somebody who asks as another version, or for a state that was made again, or in no way at all.
    let socket = sockets(&cold, &key).pop().expect("the pool's socket");
    for question in [
        json!({"format": 1, "lab": "9.9.9", "key": key, "state": ""}).to_string(),
        json!({"format": 1, "lab": env!("CARGO_PKG_VERSION"), "key": key, "state": "0"}).to_string(),
        "hello".to_owned(),
    ] {
        let mut stream = UnixStream::connect(&socket).expect("somebody listens");
        let length = u32::try_from(question.len()).expect("short").to_le_bytes();
        stream.write_all(&[&length[..], question.as_bytes()].concat()).expect("sent");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.contains("nothing"), "{answer}");
    }
    // Many who say nothing are not in anybody's way.
    let silent: Vec<_> = (0..50).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    let did = cold.run(&warm(FINE));
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(from(&cold).is_some(), "{}\n{}", did.stderr, pool.log());
    drop(silent);
    assert!(pool.child.try_wait().expect("a child of ours").is_none());
    pool.ends();
}

fn sockets(cold: &Cold, key: &str) -> Vec<PathBuf> {
    let name = format!("pool-{}", &key[..16]);
    let dirs = fs::read_dir(cold.bench.path("run/xenlab")).expect("run folders").flatten();
    dirs.map(|dir| dir.path().join(&name)).filter(|path| path.exists()).collect()
}

/// Broken: what listens where a pool would is none.
#[test]
fn a_liar_is_not_listened_to() {
    let cold = Cold::warmed();
    let key = cold.template().file_name().expect("a name").display().to_string();
    let dir = cold.bench.path("run/xenlab/aliar0");
    let machine = json!({"machine": {"handed": {"argv": ["qemu"], "pid": 1, "vcpus": [1], "ssh_port": 1, "kick": null, "unread": []},
        "port": "0123456789abcdef", "said": [], "pool": 1}})
    .to_string();
    let framed =
        |text: &str| [&u32::try_from(text.len()).expect("short").to_le_bytes()[..], text.as_bytes()].concat();
    let cases: [(&str, Vec<u8>, usize); 8] = [
        ("closes", Vec::new(), 0),
        ("garbage", b"\x10\0\0\0{{{{{{{{{{{{{{{{".to_vec(), 0),
        ("huge", b"\xff\xff\xff\x7f".repeat(1000), 0),
        ("cut short", framed(&machine)[..40].to_vec(), 5),
        ("no files", framed(&machine), 0),
        ("fewer files", framed(&machine), 2),
        ("more files", framed(&machine), 7),
        ("dead files", framed(&machine), 5),
    ];
    for (what, bytes, files) in cases {
        fs::create_dir(&dir).expect("a folder");
        // A folder that is in use is not swept.
        let entry = fs::File::create(dir.join("entry.json")).expect("an entry");
        flock(&entry, FlockOperation::LockExclusive).expect("locked");
        let listener = UnixListener::bind(dir.join(format!("pool-{}", &key[..16]))).expect("a socket");
        let liar = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("somebody asks");
            let ends: Vec<_> = (0..files).map(|_| UnixStream::pair().expect("a pair").0).collect();
            let ends: Vec<_> = ends.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !ends.is_empty() {
                assert!(control.push(SendAncillaryMessage::ScmRights(&ends)));
            }
            if !bytes.is_empty() {
                let _ = sendmsg(&stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
            }
        });
        let did = cold.run(&warm(FINE));
        liar.join().expect("the liar was asked");
        assert_eq!(did.code, Some(0), "{what}: {}", did.stderr);
        cold.on_a_clone(&did);
        assert_eq!(from(&cold), None, "{what}: {}", did.stderr);
        drop(entry);
        fs::remove_dir_all(&dir).expect("removed");
        cold.bench.clean();
    }
}

/// A run that looks ahead, interrupted: what waits for its next case is gone as well.
#[test]
fn an_interrupt_while_a_run_looks_ahead() {
    let cold = Cold::warmed();
    let did = cold.run_with(&cases(5, FINE), &["--jobs", "1"]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    cold.bench.clean();
    let long = cases(5, "  - run: {script: sleep 1000}\n");
    let mut run =
        cold.bench.start(cold.bench.run_command(&long, &[&cold.args()[..], &["--jobs", "1"]].concat()));
    run.until("the command", |b| b.processes().iter().any(|p| p.ends_with("sleep 1000 ")));
    pause(500);
    run.ends_orderly(Signal::INT);
}

/// What cannot be a pool says so and ends.
#[test]
fn there_is_no_pool_of_nothing() {
    let cold = Cold::new();
    for (more, size, code, says) in [
        ("", 0, 2, "--size 0"),
        ("", 65, 2, "--size 65"),
        ("soon", 1, 2, "--idle soon"),
        ("1s", 1, 3, "there is no template whose machines could wait"),
    ] {
        let scenario = warm(FINE).replace("machine: {", "machine: {start: power-on, ");
        let idle = ["--idle", more];
        let more = if more.is_empty() { &[][..] } else { &idle[..] };
        let did = xenlab_tests::finish(Pool::command(&cold, &scenario, size, more));
        assert_eq!(did.code, Some(code), "{}", did.stderr);
        assert!(did.stderr.contains(says), "{}", did.stderr);
        cold.bench.clean();
    }
}
