//! Templates and their clones, broken in every way: what cannot be used is noticed, and no verdict is wrong for it.
//!
//! The machine is the fake QEMU, which freezes and loads; its dom0 is this host's shell behind the lab's own port.

use crate::bench::{Bench, OVER, below, boots, pause, write_executable};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use xenlab_tests::{Did, json as read, root};

/// A scenario whose cases start on a clone.
pub fn warm(steps: &str) -> String {
    format!(
        "xenlab: 1\nname: warm\narch: x86_64\nxen: debian:bookworm\nmachine: {{accel: tcg, memory: 256M}}\n\
         dom0: {{memory: 128M}}\nsteps:\n{steps}"
    )
}

/// The same as so many cases, which differ in nothing that a machine is made of.
pub fn cases(n: usize, steps: &str) -> String {
    let limits: Vec<String> = (0..n).map(|n| format!("{}s", 100 + n)).collect();
    warm(steps).replace("steps:\n", &format!("matrix: {{limits.case: [{}]}}\nsteps:\n", limits.join(", ")))
}

/// A step that passes wherever it runs.
pub const FINE: &str = "  - run: {script: echo hello, stdout: hello}\n";
/// One that passes on a machine that was booted and fails on a clone.
const NOT_ON_A_CLONE: &str = "  - run: {script: 'test $STANDS_ON = power-on'}\n";
pub const LONG: &str = "  - run: {script: sleep 1000}\n";

/// A lab with a store of its own and a machine to freeze.
pub struct Cold {
    pub bench: Bench,
    qemu: String,
}

impl Cold {
    pub fn new() -> Cold {
        let bench = Bench::with_store();
        for name in ["port", "port.agent"] {
            fs::copy(root().join("images/initramfs").join(name), bench.path(name)).expect("copied");
        }
        // What a clone is told first is kept, since this host's clock is not to be set: here, and in the machine's own /run.
        let first = format!("#!/bin/sh\nexec tee /run/words >{}\n", bench.path("words").display());
        write_executable(&bench.path("port.first"), &first);
        let mut cold = Cold { bench, qemu: String::new() };
        cold.qemu = cold.machine(json!({}));
        cold
    }

    /// The machine from now on, with these words of the fake QEMU's script changed.
    pub fn machine(&self, with: Value) -> String {
        let serves = |on: &str| {
            let port = self.bench.path("port").display().to_string();
            let text = format!("export STANDS_ON={on}; exec busybox sh {port} serve /run/ports\n");
            json!({ "ports": self.bench.file(on, &text) })
        };
        let mut then = boots();
        // It serves before userland begins.
        then.insert(2, serves("power-on"));
        let mut script = json!({ "then": then, "restored": [serves("clone")] });
        for (key, value) in with.as_object().expect("words") {
            script[key] = value.clone();
        }
        let (path, words) = (self.bench.path("qemu"), script.to_string());
        if path.is_file() {
            // The file of QEMU stays what it is: a template depends on it.
            self.bench.file("qemu.json", &words);
            return path.display().to_string();
        }
        self.bench.qemu_script("qemu", script)
    }

    pub fn args(&self) -> [&str; 3] {
        ["--qemu", &self.qemu, "--offline"]
    }

    pub fn run(&self, scenario: &str) -> Did {
        self.run_with(scenario, &[])
    }

    /// Each run has the report to itself.
    pub fn run_with(&self, scenario: &str, more: &[&str]) -> Did {
        let _ = fs::remove_dir_all(self.bench.report());
        self.bench.run(scenario, &[&self.args(), more].concat())
    }

    fn start(&self, scenario: &str, more: &[&str]) -> crate::bench::Running<'_> {
        let _ = fs::remove_dir_all(self.bench.report());
        self.bench.start(self.bench.run_command(scenario, &[&self.args(), more].concat()))
    }

    /// With a template of its machine.
    pub fn warmed() -> Cold {
        let cold = Cold::new();
        let did = cold.run(&warm(FINE));
        assert_eq!(did.code, Some(0), "{}", did.stderr);
        assert!(did.stderr.contains("it is the first of its kind"), "{}", did.stderr);
        cold.on_a_clone(&did);
        cold
    }

    pub fn templates(&self) -> Vec<PathBuf> {
        let store = self.bench.store.clone().expect("a store of its own");
        let found = fs::read_dir(store.join("templates")).into_iter().flatten().flatten();
        found.map(|e| e.path()).filter(|p| p.join("template.json").is_file()).collect()
    }

    pub fn template(&self) -> PathBuf {
        let mut found = self.templates();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// Where the last step of the only case ran.
    pub fn origin(&self) -> String {
        let verdict = self.case();
        let last = verdict["steps"].as_array().and_then(|steps| steps.last()).expect("steps");
        // What goes without saying is not said.
        last["origin"].as_str().unwrap_or("power-on").to_owned()
    }

    /// The only case's verdict, not its template's.
    pub fn case(&self) -> Value {
        let mut found = self.verdicts();
        found.retain(|v| !v["case"].as_str().is_some_and(|name| name.contains("template")));
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    pub fn verdicts(&self) -> Vec<Value> {
        let bundles = xenlab_tests::bundles(&self.bench.report());
        bundles.iter().map(|b| read(&b.join("verdict.json")).expect("a verdict")).collect()
    }

    pub fn on_a_clone(&self, did: &Did) {
        assert_eq!(self.origin(), "clone", "{}", did.stderr);
    }

    /// The next run notices, makes the template again and says so, and the one after that uses it.
    fn is_made_again(&self, because: &str) {
        let did = self.run(&warm(FINE));
        assert_eq!(did.code, Some(0), "{}", did.stderr);
        assert!(did.stderr.contains("put aside") && did.stderr.contains(because), "{}", did.stderr);
        assert!(did.stderr.contains("a template is taken of this machine"), "{}", did.stderr);
        self.on_a_clone(&did);
        self.is_used();
    }

    /// The next run starts from the template as it is.
    fn is_used(&self) {
        let made = fs::read(self.template().join("template.json")).expect("a record");
        let did = self.run(&warm(FINE));
        assert_eq!(did.code, Some(0), "{}", did.stderr);
        assert!(!did.stderr.contains("template is taken") && !did.stderr.contains("aside"), "{}", did.stderr);
        self.on_a_clone(&did);
        assert_eq!(fs::read(self.template().join("template.json")).expect("a record"), made);
        self.bench.clean();
    }
}

/// Changes a file of a template and leaves its time as it was.
fn spoil(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    use std::os::unix::fs::PermissionsExt;
    let meta = fs::metadata(path).expect("it is there");
    let time = meta.modified().expect("a time");
    let mut bytes = fs::read(path).expect("it can be read");
    how(&mut bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("permissions");
    fs::write(path, bytes).expect("written");
    fs::File::options().write(true).open(path).and_then(|f| f.set_modified(time)).expect("a time");
    fs::set_permissions(path, meta.permissions()).expect("permissions");
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
}

/// Broken: the state's second half is missing.
#[test]
fn a_state_that_was_truncated() {
    let cold = Cold::warmed();
    spoil(&cold.template().join("state"), |bytes| bytes.truncate(bytes.len() / 2));
    cold.is_made_again("state is 150002 bytes long");
}

/// Broken: one bit of the state, its time as it was.
#[test]
fn a_bit_of_the_state() {
    let cold = Cold::warmed();
    spoil(&cold.template().join("state"), |bytes| flip(bytes));
    cold.is_made_again("state has SHA-256");
}

/// Broken: what the lab needs to know of the machine, its time as it was.
#[test]
fn what_lies_beside_the_state() {
    let cold = Cold::warmed();
    spoil(&cold.template().join("kept.json"), |bytes| flip(bytes));
    cold.is_made_again("kept.json");
    spoil(&cold.template().join("console.raw"), |bytes| flip(bytes));
    cold.is_made_again("console.raw");
}

/// Broken: the end of the memory is missing.
#[test]
fn a_memory_that_was_truncated() {
    let cold = Cold::warmed();
    spoil(&cold.template().join("ram"), |bytes| bytes.truncate(bytes.len() / 2));
    cold.is_made_again("ram is 134217728 bytes long");
}

/// Broken: one bit of the memory, its time as it was; a case that fails on it has the verdict of a machine from power-on, pass or fail.
#[test]
fn a_bit_of_the_memory() {
    for (step, code, word) in [(NOT_ON_A_CLONE, 0, "pass"), ("  - run: {script: exit 7}\n", 1, "fail")] {
        let cold = Cold::warmed();
        let template = cold.template();
        spoil(&template.join("ram"), |bytes| flip(bytes));
        let did = cold.run_with(&warm(step), &["--no-control"]);
        assert_eq!(did.code, Some(code), "{}", did.stderr);
        let verdict = cold.case();
        assert_eq!(verdict["verdict"], word, "{verdict:#}");
        let message = verdict["message"].as_str().unwrap_or_default();
        assert!(message.contains("ram has SHA-256") && message.contains("power-on"), "{message}");
        assert_eq!(cold.origin(), "power-on", "{verdict:#}");
        assert!(!template.exists(), "it is put aside");
        xenlab_tests::replay_agrees(&cold.bench.report()).expect("judged alike from the bundle");
        let did = cold.run(&warm(FINE));
        assert_eq!(did.code, Some(0), "{}", did.stderr);
        cold.is_used();
    }
}

/// Broken: the state is not one of this machine's, though its digest is right: QEMU refuses it, or takes it and ends before its dom0 answers.
#[test]
fn a_state_that_qemu_does_not_take() {
    for how in ["fail", "hang-up"] {
        let cold = Cold::warmed();
        let template = cold.template();
        match how {
            "hang-up" => cold.machine(json!({ "restored": [{"exit": 0}] })),
            how => cold.machine(json!({ "load": how })),
        };
        let did = cold.run(&warm(NOT_ON_A_CLONE));
        assert_eq!(did.code, Some(0), "{}", did.stderr);
        assert!(did.stderr.contains("boots from power-on"), "{}", did.stderr);
        assert_eq!(cold.origin(), "power-on");
        assert!(!template.exists(), "it is put aside: {}", did.stderr);
        cold.bench.clean();
    }
}

/// Broken: nothing of a clone's dom0 answers: what shares its clock and random numbers is not used, and no verdict is its.
#[test]
fn a_clone_that_does_not_answer() {
    let cold = Cold::warmed();
    cold.machine(json!({ "restored": ["hold"] }));
    let did = cold.run(&warm(NOT_ON_A_CLONE));
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(did.stderr.contains("boots from power-on"), "{}", did.stderr);
    assert!(!did.stderr.contains("template is taken"), "{}", did.stderr);
    assert_eq!(cold.origin(), "power-on");
    cold.bench.clean();
}

/// Broken: QEMU cannot be frozen, or dies of it; the cases boot and say why.
#[test]
fn a_machine_that_cannot_be_frozen() {
    for how in ["refuse", "fail", "abort"] {
        let cold = Cold::new();
        cold.machine(json!({ "freeze": how }));
        let did = cold.run(&warm(FINE));
        assert_eq!(did.code, Some(0), "{how}: {}", did.stderr);
        assert!(did.stderr.contains("boots from power-on: cannot take a template"), "{how}: {}", did.stderr);
        assert_eq!(cold.origin(), "power-on");
        assert_eq!(cold.templates(), Vec::<PathBuf>::new());
        cold.bench.clean();
    }
}

/// Unusual: two labs want the same template at once; one makes it, the other waits and says so.
#[test]
fn two_labs_make_the_same_one() {
    let cold = Cold::new();
    // So that the other comes while it boots.
    let mut then = boots();
    then.insert(3, json!({"sleep": 3000}));
    let good = read(&cold.bench.path("qemu.json")).expect("a script");
    then.insert(2, good["then"][2].clone());
    cold.machine(json!({ "then": then }));
    let file = cold.bench.file("two.yaml", &warm(FINE));
    let children: Vec<_> = (0..2)
        .map(|n| {
            let report = cold.bench.path(&format!("report{n}")).display().to_string();
            let mut command = cold.bench.command(["run", &file, "--report", &report]);
            let log = fs::File::create(cold.bench.path(&format!("log{n}"))).expect("a log");
            command.args(cold.args()).stdout(log.try_clone().expect("a log")).stderr(log);
            command.spawn().expect("xenlab starts")
        })
        .collect();
    let mut said = String::new();
    for (n, mut child) in children.into_iter().enumerate() {
        let status = child.wait().expect("a child of ours");
        let log = fs::read_to_string(cold.bench.path(&format!("log{n}"))).unwrap_or_default();
        assert_eq!(status.code(), Some(0), "{log}");
        said.push_str(&log);
    }
    assert!(said.contains("another xenlab") && said.contains("template warm"), "{said}");
    assert_eq!(said.matches("a template is taken of this machine").count(), 1, "{said}");
    cold.is_used();
}

/// Broken: the lab is killed while it boots a template's machine, and while it freezes it.
#[test]
fn a_lab_killed_while_it_makes_one() {
    let cold = Cold::new();
    for (words, freezing) in
        [(json!({"then": [boots()[0], "hold"]}), false), (json!({"freeze": "hang"}), true)]
    {
        cold.machine(words);
        let mut lab = cold.start(&warm(FINE), &[]);
        lab.until("the machine", |b| match freezing {
            // Where QEMU is to write the state to.
            true => below(&b.path("run")).iter().any(|p| p.ends_with("outgoing")),
            false => b.events().iter().any(|e| e["phase"] == "xen"),
        });
        lab.signal(Signal::KILL);
        lab.end(OVER);
        let killed = SystemTime::now();
        while !cold.bench.processes().is_empty() {
            assert!(killed.elapsed().is_ok_and(|e| e < OVER), "{:#?}", cold.bench.processes());
            pause(20);
        }
        drop(lab);
        assert_eq!(cold.templates(), Vec::<PathBuf>::new(), "one that was half made");
    }
    cold.machine(json!({}));
    let did = cold.run(&warm(FINE));
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(did.stderr.contains("it is the first of its kind"), "{}", did.stderr);
    cold.on_a_clone(&did);
    cold.is_used();
}

/// Unusual: QEMU was upgraded since the template was taken.
#[test]
fn another_qemu() {
    let cold = Cold::warmed();
    let of_old = cold.template();
    cold.machine(json!({ "version": [10, 0, 3] }));
    // As an upgrade does it: another file in its place.
    let text = fs::read_to_string(&cold.qemu).expect("a script");
    write_executable(Path::new(&cold.qemu), &format!("{text}# 10.0.3\n"));
    let did = cold.run(&warm(FINE));
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(did.stderr.contains("a template is taken of this machine"), "{}", did.stderr);
    assert!(did.stderr.contains("10.0.2") && did.stderr.contains("10.0.3"), "{}", did.stderr);
    cold.on_a_clone(&did);
    assert!(of_old.is_dir() && cold.templates().len() == 2, "the other may be used again");
}

/// Broken: the machine does not boot. That is one failure, the template's; of its cases nothing is known.
#[test]
fn a_template_that_does_not_boot() {
    let cold = Cold::new();
    let mut fails = boots();
    fails.truncate(3);
    fails.push(json!({"say": "failed no-root"}));
    cold.machine(json!({ "then": fails }));
    let did = cold.run_with(&cases(3, FINE), &["--no-control"]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    let verdicts = cold.verdicts();
    let of = |word: &str| verdicts.iter().filter(|v| v["verdict"] == word).collect::<Vec<_>>();
    let (failed, not_reached) = (of("fail"), of("not-reached"));
    assert_eq!((failed.len(), not_reached.len(), verdicts.len()), (1, 3, 4), "{verdicts:#?}");
    assert_eq!(failed[0]["cause"], "dom0.no-root");
    let name = failed[0]["case"].as_str().expect("a name");
    assert!(name.contains("(template)"), "{name}");
    for case in not_reached {
        assert!(case["message"].as_str().is_some_and(|m| m.contains(name)), "{case:#}");
    }
    for file in ["junit.xml", "summary.md"] {
        let text = fs::read_to_string(cold.bench.report().join(file)).expect("a report");
        assert!(text.contains("(template)") && text.contains("root"), "{file}: {text}");
    }
    assert_eq!(cold.templates(), Vec::<PathBuf>::new());
    xenlab_tests::replay_agrees(&cold.bench.report()).expect("judged alike from the bundle");
    cold.bench.clean();
}

/// Unusual: what fails on a clone passes from power-on: nobody knows which is right, and Xen is not blamed.
#[test]
fn a_clone_that_differs() {
    let cold = Cold::new();
    let did = cold.run(&warm(NOT_ON_A_CLONE));
    assert_eq!(did.code, Some(3), "{}", did.stderr);
    let verdict = cold.case();
    assert_eq!((&verdict["verdict"], &verdict["cause"]), (&json!("error"), &json!("lab.clone-differs")));
    assert!(verdict["message"].as_str().is_some_and(|m| m.contains("power-on")), "{verdict:#}");
    let bundles = xenlab_tests::bundles(&cold.bench.report());
    let bundle = bundles.iter().find(|b| b.join("power-on").is_dir()).expect("the bundle of both");
    assert_eq!(read(&bundle.join("power-on/verdict.json")).expect("a verdict")["verdict"], "pass");
    assert!(bundle.join("evidence.jsonl").is_file() && bundle.join("power-on/evidence.jsonl").is_file());
    xenlab_tests::replay_agrees(&cold.bench.report()).expect("judged alike from the bundle");
    cold.bench.clean();
}

/// Broken: what the case asks for, on a clone and from power-on alike.
#[test]
fn a_failure_on_both() {
    let cold = Cold::new();
    let did = cold.run_with(&warm("  - run: {script: exit 7}\n"), &["--no-control"]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    let verdict = cold.case();
    assert_eq!(verdict["verdict"], "fail", "{verdict:#}");
    assert!(verdict["message"].as_str().is_some_and(|m| m.contains("the same from power-on")), "{verdict:#}");
    xenlab_tests::replay_agrees(&cold.bench.report()).expect("judged alike from the bundle");
    cold.bench.clean();
}

/// Machines at work on their long step.
fn sleepers(bench: &Bench) -> usize {
    bench.processes().iter().filter(|p| p.ends_with(" sleep 1000 ")).count()
}

/// Unusual: an end is asked for while eight clones run.
#[test]
fn an_interrupt_with_clones_at_work() {
    let cold = Cold::warmed();
    let mut lab = cold.start(&cases(8, LONG), &["-j8"]);
    lab.until("eight commands", |b| sleepers(b) == 8);
    assert_eq!(cold.bench.tickets().len(), 8);
    lab.ends_orderly(Signal::INT);
    cold.bench.report_is_kept();
    cold.is_used();
}

/// Broken: one clone's QEMU is killed: an Error of that case, and of no other.
#[test]
fn a_clone_that_is_killed() {
    let cold = Cold::warmed();
    let waits = format!(
        "  - run: {{script: 'while ! test -e {}; do sleep 0.1; done'}}\n",
        cold.bench.path("go").display()
    );
    let mut lab = cold.start(&cases(3, &waits), &["-j3"]);
    lab.until("three clones at work", |b| {
        let bundles = xenlab_tests::bundles(&b.report());
        bundles.len() == 3 && b.events().iter().filter(|e| e["event"] == "step-started").count() == 3
    });
    let machines: Vec<String> = cold
        .bench
        .processes()
        .into_iter()
        .filter(|l| l.contains("fake-qemu") && l.contains("-incoming"))
        .collect();
    assert_eq!(machines.len(), 3, "{machines:#?}");
    let pid = machines[0].split(' ').next().and_then(|p| p.parse().ok()).and_then(Pid::from_raw);
    kill_process(pid.expect("a process number"), Signal::KILL).expect("it runs");
    cold.bench.file("go", "");
    let (status, _) = lab.end(Duration::from_secs(60));
    assert_eq!(status.code(), Some(3), "{}", cold.bench.log());
    let verdicts = cold.verdicts();
    let killed: Vec<_> = verdicts.iter().filter(|v| v["verdict"] != "pass").collect();
    assert_eq!((killed.len(), verdicts.len()), (1, 3), "{verdicts:#?}");
    assert_eq!((&killed[0]["verdict"], &killed[0]["cause"]), (&json!("error"), &json!("qemu.killed")));
    cold.is_used();
}

/// Unusual: the host sleeps for three seconds in the middle of a case.
#[test]
fn a_host_that_was_suspended() {
    let cold = Cold::warmed();
    let go = cold.bench.path("go");
    let steps = format!(
        "  - run: {{script: 'while ! test -e {}; do sleep 0.1; done', within: 20s}}\n{FINE}",
        go.display()
    );
    let steps = steps.replace(", within: 20s}", "}\n    within: 20s");
    // A limit that the sleep alone does not reach, and two cases, one after the other: the second clone comes afterwards.
    let mut lab = cold.start(&cases(2, &steps), &["-j1"]);
    lab.event("step-started");
    let all: Vec<Pid> = cold
        .bench
        .processes()
        .iter()
        .filter_map(|l| l.split(' ').next().and_then(|p| p.parse().ok()).and_then(Pid::from_raw))
        .collect();
    assert!(all.len() > 3, "{:#?}", cold.bench.processes());
    // One may have ended since.
    let each = |signal| all.iter().filter(|pid| kill_process(**pid, signal).is_ok()).count();
    assert!(each(Signal::STOP) > 3);
    pause(3000);
    each(Signal::CONT);
    cold.bench.file("go", "");
    let (status, _) = lab.end(Duration::from_secs(60));
    let ended = SystemTime::now();
    assert_eq!(status.code(), Some(0), "{}", cold.bench.log());
    assert!(cold.verdicts().iter().all(|v| v["verdict"] == "pass"));
    // The second clone was told the time of day as it was then.
    let words = fs::read(cold.bench.path("words")).expect("a clone's first words");
    let seconds = u64::from_le_bytes(words[..8].try_into().expect("eight bytes"));
    let now = ended.duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    let woken = fs::metadata(&go).and_then(|m| m.modified()).expect("a time");
    let woken = woken.duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    assert!((woken..=now).contains(&seconds), "{woken} <= {seconds} <= {now}");
    cold.bench.clean();
}

/// Broken: there is no room for the template; the case boots and says why, and with room again one is made.
#[test]
fn a_full_disk_while_it_is_made() {
    let cold = Cold::new();
    let list = crate::store::packages(&cold.bench);
    let file = cold.bench.file("scenario.yaml", &warm(FINE));
    let [_, qemu, offline] = cold.args();
    let (report, from) = (cold.bench.report().display().to_string(), crate::bench::user_store().display());
    fs::create_dir(cold.bench.path("full")).expect("a folder");
    let full = cold.bench.path("full").display().to_string();
    // There was room when it was begun, and when it was frozen there is none.
    let setup = format!(
        "setup:\n  - run: {{script: 'cat /dev/zero >{full}/eaten; true', stderr: {{contains: space}}}}\nsteps:\n"
    );
    let eats = cold.bench.file("eats.yaml", &warm(FINE).replace("steps:\n", &setup));
    // Everything but a machine's memory has room.
    let script = format!(
        "exec 2>&1; mount -t tmpfs -o size=3g none {full} && mkdir {full}/store && cd {from} && tar c -T {list} format | tar x -C {full}/store && \
         cd {root} && $LAB image build {file} --qemu {qemu} {offline} --store {full}/store && used=$(du -sm {full} | cut -f1) && \
         mount -o remount,size=$((used + 100))m {full} || exit 99
         $LAB run {file} --qemu {qemu} {offline} --store {full}/store --report {report}; echo first=$?
         find {full}/store/tmp {full}/store/templates -type f; used=$(du -sm {full} | cut -f1); mount -o remount,size=$((used + 500))m {full}
         $LAB run {eats} --qemu {qemu} {offline} --store {full}/store --report {report}-eats; echo eaten=$?
         find {full}/store/tmp {full}/store/templates -type f; rm {full}/eaten; mount -o remount,size=3g {full}
         $LAB run {file} --qemu {qemu} {offline} --store {full}/store; echo second=$?
         find {full}/store/templates",
        root = root().display()
    );
    let Some((_, said)) = crate::store::with_mounts(&cold.bench, &script) else { return };
    let (first, second) = said.split_once("first=").expect("the first run's end");
    assert!(first.contains("boots from power-on: no template can be kept"), "{said}");
    assert!(first.contains("no space is left") || first.contains("disk"), "{said}");
    assert!(second.starts_with('0') && second.contains("second=0"), "{said}");
    assert!(second.contains("a template is taken of this machine"), "{said}");
    let (eaten, _) = second.split_once("eaten=").expect("the second run's end");
    assert!(second.contains("eaten=0") && eaten.contains("is not kept for later runs"), "{said}");
    assert!(!eaten.contains("from power-on"), "what is in memory serves this run: {said}");
    assert!(!eaten.contains("store/tmp/template"), "{said}");
    let (_, left) = second.split_once("second=0").expect("the second run's end");
    assert!(left.contains("/ram") && left.contains("/state"), "{said}");
    assert_eq!(cold.origin(), "power-on");
}
