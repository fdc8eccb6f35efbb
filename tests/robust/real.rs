//! What only a real guest shows.

use crate::bench::{Bench, user_store};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use xenlab_tests::finish;

/// Ordinary work and guests that flood, by both ways in, on a real console.
#[test]
fn limits_and_floods_by_both_ways_in() {
    let scenario = "\
xenlab: 1
name: limits
matrix: {arch: [x86_64, aarch64]}
xen: debian:bookworm
overrides:
  - when: {arch: x86_64}
    add: {xen.args: [spec-ctrl=no]}
steps:
  - run: {script: 'yes', via: serial}
    within: 4s
  - run: {script: 'echo after-yes', via: serial, stdout: after-yes}
  - run: {script: 'sleep 77', via: serial}
    within: 3s
  - run: {script: 'echo after-sleep', via: serial, stdout: after-sleep}
  - run: {script: 'yes', via: ssh}
    within: 3s
  - run: {script: 'echo after-yes', via: ssh, stdout: after-yes}
  - run: {script: 'sleep 77', via: ssh}
    within: 2s
  - run: {script: 'echo after-sleep', via: ssh, stdout: after-sleep}
  - run: {script: 'yes flooding the console >/dev/hvc0', via: ssh}
    within: 3s
  - run: {script: 'echo after-flood', via: ssh, stdout: after-flood}
  - run: {script: 'echo after-flood', via: serial, stdout: after-flood}
";
    let bench = Bench::new();
    user_store();
    let did = bench.run(scenario, &["-j1"]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    for arch in ["x86_64", "aarch64"] {
        let verdict = bench.verdict(arch);
        for step in verdict["steps"].as_array().expect("steps") {
            let path = step["step"].as_str().unwrap_or_default();
            let number: usize = path.trim_start_matches("steps[").trim_end_matches(']').parse().unwrap_or(1);
            let (expected, cause) = if number.is_multiple_of(2) && number < 9 {
                ("fail", Value::from("step.timeout"))
            } else {
                ("pass", Value::Null)
            };
            assert_eq!(step["verdict"], expected, "{arch} {path}: {step}\n{}", did.stderr);
            let causes = step["checks"].as_array().into_iter().flatten().map(|c| &c["cause"]);
            let seen = causes.into_iter().find(|c| !c.is_null()).cloned().unwrap_or_default();
            assert_eq!(seen, cause, "{arch} {path}: {step}");
        }
    }
    bench.memory_is_small();
    bench.clean();
    xenlab_tests::replay_agrees(&bench.report()).expect("judged alike from the bundle");
}

const CLONES: &str = "\
xenlab: 1
name: clones
matrix:
  arch: [x86_64, aarch64]
  vars.n: ['1', '2']
xen: {build: debian:bookworm, args: [bootscrub=0]}
overrides:
  - when: {arch: x86_64}
    add: {xen.args: [spec-ctrl=no]}
setup:
  - run: 'echo one >/run/one'
  - freeze: one
  - run: 'cat /run/one >/run/two'
steps:
";

/// Everything a clone shares with its template and nothing it must not, with a real Xen and dom0: what the set-up left, the build-id, time,
/// random numbers, what the console had said.
#[test]
fn clones_of_a_real_machine() {
    let steps = "  - xl-info: {build_id: {same-as: build.build-id}}
  - run: {script: 'cat /run/one /run/two', stdout: \"one\\none\", stderr: ''}
  - run: {script: 'test ! -e /run/mine && echo \"$VARS_N\" >/run/mine && cat /run/mine', stdout: {matches: '[12]'}}
  - run: {script: 'date +%s; head -c 16 /dev/urandom | od -An -tx1', stderr: ''}
  - run: {script: 'cat /run/mine', via: ssh, stdout: {matches: '[12]'}}
  - console: {of: xen, has: ['Xen version \\S+', 'Brought up'], lacks: [panic]}
  - console: {of: dom0, lacks: ['Linux version'], since: case}
";
    let bench = Bench::new();
    user_store();
    let did = bench.run(&format!("{CLONES}{steps}"), &[]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    let mut drawn = std::collections::BTreeSet::new();
    let bundles = xenlab_tests::bundles(&bench.report());
    let cases = bundles.iter().filter(|b| !b.display().to_string().contains("template"));
    let mut seen = 0;
    for bundle in cases {
        seen += 1;
        let verdict = xenlab_tests::json(&bundle.join("verdict.json")).expect("a verdict");
        let origins: Vec<_> =
            verdict["steps"].as_array().expect("steps").iter().map(|s| &s["origin"]).collect();
        assert!(origins[..4].iter().all(|o| *o == "template"), "{origins:?}");
        assert!(origins[4..].iter().all(|o| *o == "clone"), "{origins:?}");
        let evidence = std::fs::read_to_string(bundle.join("evidence.jsonl")).expect("evidence");
        let of_step = evidence.lines().find(|l| l.starts_with(r#"{"step":"steps[3]""#)).expect("the step");
        let of_step: Value = serde_json::from_str(of_step).expect("JSON");
        let text = of_step["seen"]["Ok"]["run"]["results"][0]["stdout"]["text"].as_str().expect("text");
        let (time, random) = text.split_once('\n').expect("two lines");
        let time: u64 = time.parse().expect("seconds");
        // The run took less than this, and a template from the store is older.
        assert!(now - 120 <= time && time <= now + 1, "{time}, {now}");
        assert!(drawn.insert(random.to_owned()), "two clones drew {random}");
    }
    assert_eq!(seen, 4);
    xenlab_tests::replay_agrees(&bench.report()).expect("judged alike from the bundle");
    bench.memory_is_small();
    bench.clean();
}

/// Broken, each in its way, on clones: what is not as it should be fails there and from power-on; a Xen that dies under one case is that
/// case's alone.
#[test]
fn clones_of_a_real_machine_that_fail() {
    let steps = "  - run: {script: 'test \"$VARS_N\" = 1 || { echo c >/proc/sysrq-trigger; sleep 50; }'}
  - xl-info: {xen_version: '1.0'}
";
    let bench = Bench::new();
    user_store();
    let did = bench.run(&format!("{CLONES}{steps}"), &["--no-control"]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    for arch in ["x86_64", "aarch64"] {
        let verdict = bench.verdict(&format!("arch={arch},vars.n=1"));
        assert_eq!(
            (&verdict["verdict"], &verdict["cause"]),
            (&"fail".into(), &"build.version-mismatch".into()),
            "{verdict:#}"
        );
        let verdict = bench.verdict(&format!("arch={arch},vars.n=2"));
        assert_eq!(
            (&verdict["verdict"], &verdict["cause"]),
            (&"fail".into(), &"dom0.asked-to-crash".into()),
            "{verdict:#}"
        );
    }
    for verdict in xenlab_tests::bundles(&bench.report())
        .iter()
        .filter_map(|b| xenlab_tests::json(&b.join("verdict.json")).ok())
    {
        if verdict["verdict"] == "fail" {
            assert!(
                verdict["message"].as_str().is_some_and(|m| m.contains("the same from power-on")),
                "{verdict:#}"
            );
        }
    }
    xenlab_tests::replay_agrees(&bench.report()).expect("judged alike from the bundle");
    bench.clean();
}

/// Eight busy loops beside the main job: the same verdict, later.
#[test]
fn busy_loops_change_no_verdict() {
    struct Loops(Vec<std::process::Child>);
    impl Drop for Loops {
        fn drop(&mut self) {
            for child in &mut self.0 {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
    let bench = Bench::new();
    user_store();
    let busy = || {
        Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .spawn()
            .expect("sh starts")
    };
    let loops = Loops((0..8).map(|_| busy()).collect());
    let report = bench.report().display().to_string();
    let did =
        finish(bench.command(["run", "scenarios/xl-info.yaml", "--arch", "aarch64", "--report", &report]));
    drop(loops);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    bench.memory_is_small();
    let (_, spent) = bench.used();
    let seconds = bench.events().last().and_then(|e| e["seconds"].as_f64()).expect("the run's end");
    eprintln!("{spent:.2} s of processor in {seconds:.1} s");
    bench.clean();
}

/// Nobody, without capabilities, HOME or any network but the loopback.
#[test]
fn the_main_job_as_nobody_offline() {
    let bench = Bench::with_store();
    let store = bench.store.clone().expect("a store of its own");
    // Where the archive has moved on since the locks were made, what the store has is what it locked itself.
    for lock in std::fs::read_dir(user_store().join("debian")).into_iter().flatten().flatten() {
        std::fs::copy(lock.path(), store.join("debian").join(lock.file_name())).expect("copied");
    }
    let own = "cp \"$LAB\" \"$DIR/xenlab\" && chmod -R u+rwX,go+rX \"$DIR\"";
    let mut prepare = Command::new("sh");
    prepare.args(["-c", own]).env("LAB", xenlab_tests::lab()).env("DIR", bench.dir.path());
    assert!(prepare.status().is_ok_and(|s| s.success()));
    let report = bench.report().display().to_string();
    let scenario = bench.path("dom0-boot.yaml");
    std::fs::copy(xenlab_tests::root().join("scenarios/dom0-boot.yaml"), &scenario).expect("copied");
    let mut words: Vec<String> = Vec::new();
    if rustix::process::geteuid().is_root() {
        // What belongs to nobody is nobody's alone: links to the user's own entries cannot be given away.
        let full = Command::new("cp")
            .arg("-r")
            .arg("--preserve=mode,timestamps")
            .arg(&store)
            .arg(bench.path("theirs"))
            .status();
        assert!(full.is_ok_and(|s| s.success()));
        let given =
            Command::new("chown").args(["-R", "65534:65534"]).arg(bench.dir.path().join("theirs")).status();
        assert!(given.is_ok_and(|s| s.success()));
        for place in ["run", "tmp", "."] {
            let given = Command::new("chown").arg("65534:65534").arg(bench.path(place)).status();
            assert!(given.is_ok_and(|s| s.success()));
        }
        let quiet = "ip link set lo up 2>/dev/null || ifconfig lo up; exec setpriv --reuid=65534 --regid=65534 --clear-groups \
                     --no-new-privs --inh-caps=-all --bounding-set=-all \"$@\"";
        words.extend(["unshare", "--net", "sh", "-c", quiet, "sh"].map(str::to_owned));
    } else {
        std::fs::rename(&store, bench.path("theirs")).expect("renamed");
    }
    words.push(bench.path("xenlab").display().to_string());
    let mut command = Command::new(&words[0]);
    let marks = bench.command([""; 0]);
    for (key, value) in marks.get_envs() {
        if let Some(value) = value {
            command.env(key, value);
        }
    }
    command
        .args(&words[1..])
        .args(["run", &scenario.display().to_string(), "--arch", "aarch64", "--offline", "--report", &report])
        .current_dir(bench.dir.path())
        .env("XENLAB_STORE", bench.path("theirs"))
        .env_remove("HOME")
        .stdin(Stdio::null());
    let artefacts = artefacts(Path::new(&bench.path("theirs")));
    command.args(&artefacts);
    let did = finish(command);
    assert_eq!(did.code, Some(0), "{artefacts:?}\n{}", did.stderr);
    bench.memory_is_small();
    bench.clean();
}

/// The hypervisor by its path, as a build would give it; the rest is what the store has.
fn artefacts(store: &Path) -> Vec<String> {
    let image = crate::bench::entries(store, "xen-debian").into_iter().find_map(|(_, record)| {
        let dir = store.join("content").join(record["digest"].as_str()?);
        let is_it = |p: &std::path::PathBuf| {
            let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("xen-4.17-arm64") && !name.ends_with(".efi") && !name.ends_with(".config")
        };
        crate::bench::below(&dir).into_iter().find(is_it)
    });
    match image {
        Some(path) => vec![
            "--xen".into(),
            format!("file:{}", path.display()),
            "--tools".into(),
            "debian:bookworm".into(),
        ],
        None => panic!("the store has no hypervisor of bookworm for AArch64"),
    }
}
