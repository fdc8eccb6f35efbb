//! The machine's harness on a QEMU that is none: how it starts, speaks, misbehaves and ends.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use xenlab_host::rundir::RunDir;
use xenlab_machine::qemu::{self, QemuError};
use xenlab_machine::qmp::{Direction, QmpError};
use xenlab_machine::{Accel, Machine, MachineSpec, Payload, StartError, StartOptions, accel};
use xenlab_model::Arch;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::MachineEnd;
use xenlab_model::scenario::config::AccelChoice;

#[path = "common/mod.rs"]
mod common;
use common::write_executable;

/// A fake QEMU with its script, behind a wrapper as users write them.
struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    fn new(script: Value) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("script"), script.to_string()).unwrap();
        let text = format!(
            "#!/bin/sh\nFAKE_QEMU={} exec {} \"$@\"\n",
            dir.path().join("script").display(),
            env!("CARGO_BIN_EXE_fake-qemu")
        );
        write_executable(&dir.path().join("qemu"), &text);
        Fake { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("qemu")
    }

    fn spec(&self) -> MachineSpec {
        let file = self.dir.path().join("payload");
        std::fs::write(&file, "x").unwrap();
        let found = qemu::find(Arch::X86_64, Some(&self.path())).unwrap();
        let payload = Payload::of(file).unwrap();
        MachineSpec::new(Arc::new(found), Accel::Tcg, payload.clone(), payload.clone(), payload)
    }

    async fn start(&self, options: StartOptions) -> Result<Machine, StartError> {
        Machine::start(&self.spec(), Arc::new(RunDir::create("a test").unwrap()), options).await
    }

    async fn boot(script: Value) -> (Fake, Machine) {
        let fake = Fake::new(script);
        let machine = fake.start(StartOptions::default()).await.unwrap();
        machine.resume().await.unwrap();
        (fake, machine)
    }
}

async fn end_of(then: Value) -> MachineEnd {
    let (_fake, machine) = Fake::boot(json!({ "then": then })).await;
    tokio::time::timeout(Duration::from_secs(20), machine.ended()).await.expect("it ends")
}

#[test]
fn what_it_is_is_found_out_through_a_wrapper() {
    let fake = Fake::new(json!({"version": [11, 1, 3], "arch": "aarch64"}));
    let info = qemu::find(Arch::Aarch64, Some(&fake.path())).unwrap();
    assert_eq!((info.version.to_string().as_str(), info.machine.as_str()), ("11.1.3", "virt-11.1"));
    assert!(matches!(qemu::find(Arch::X86_64, Some(&fake.path())), Err(QemuError::WrongArch { .. })));
}

#[tokio::test]
async fn it_starts_paused_says_what_it_does_and_stops_in_order() {
    let fake = Fake::new(json!({"then": [{"write": "(XEN) hello\n"}, "hold"]}));
    let messages = Arc::new(Mutex::new(Vec::new()));
    let tap = {
        let messages = messages.clone();
        Arc::new(move |direction: Direction, message: &Value| {
            messages.lock().unwrap().push((direction.name(), message.clone()));
        })
    };
    let mut machine = fake.start(StartOptions { tap, ..StartOptions::default() }).await.unwrap();
    assert_eq!((machine.ssh_port(), machine.vcpu_threads().len()), (Some(40022), 2));
    assert_eq!(machine.guest_time(), Duration::ZERO, "the power is off");
    let (mut console, _) = machine.take_console().unwrap();
    assert!(machine.take_console().is_none());
    machine.resume().await.unwrap();
    let mut text = vec![0; 12];
    console.read_exact(&mut text).await.unwrap();
    assert_eq!(text, b"(XEN) hello\n");
    // Wall time: on a busy host all of it may have been waited for.
    assert!(machine.wall_time() > Duration::ZERO && machine.clock().unwrap().degraded().is_none());
    assert_eq!(machine.end(), None);
    let (pid, folder) = (machine.pid(), machine.rundir().path().to_owned());
    machine.stop().await;
    drop(machine);
    assert!(!Path::new(&format!("/proc/{pid}")).exists() && !folder.exists());
    let messages = messages.lock().unwrap();
    assert!(messages.iter().any(|(d, m)| *d == "got" && m["QMP"].is_object()));
    assert!(messages.iter().any(|(d, m)| *d == "sent" && m["execute"] == "cont"));
    assert!(messages.iter().any(|(d, m)| *d == "got" && m["event"] == "RESUME"));
}

#[tokio::test]
async fn what_is_typed_arrives() {
    let (_fake, mut machine) =
        Fake::boot(json!({"then": [{"expect": "root\n"}, {"write": "Password: "}]})).await;
    let (mut console, mut typed) = machine.take_console().unwrap();
    typed.write_all(b"root\n").await.unwrap();
    let mut text = vec![0; 10];
    console.read_exact(&mut text).await.unwrap();
    assert_eq!(text, b"Password: ");
}

#[tokio::test]
async fn a_recorded_console_comes_through_however_it_is_chopped() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("recorded");
    let recorded: Vec<u8> = (0..5000_u32).flat_map(|i| [(i % 251) as u8, b'\n']).collect();
    std::fs::write(&file, &recorded).unwrap();
    for chop in [0, 1, 7] {
        let then = json!([{"play": {"file": file, "chop": chop}}, "hang-up"]);
        let (_fake, mut machine) = Fake::boot(json!({ "then": then })).await;
        let (mut console, _typed) = machine.take_console().unwrap();
        let mut heard = Vec::new();
        console.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, recorded, "chopped by {chop}");
        assert_eq!(machine.end(), None, "a console that was closed is no end of the machine");
    }
}

#[tokio::test]
async fn a_flood_waits_for_its_reader() {
    const BYTES: usize = 64 << 20;
    let (_fake, mut machine) = Fake::boot(json!({"then": [{"flood": BYTES}, "hang-up"]})).await;
    let (mut console, _typed) = machine.take_console().unwrap();
    // Not read: nothing piles up here, it stands in QEMU. The monitor answers meanwhile.
    machine.qmp().execute("query-status", Value::Null).await.unwrap();
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        match console.read(&mut buffer).await.unwrap() {
            0 => break,
            n => total += n,
        }
    }
    assert_eq!(total, BYTES);
}

#[tokio::test]
async fn starts_that_fail() {
    for (script, cause, says) in [
        (json!({"start": "refuse", "stderr": "-cpu: no such model"}), Cause::QemuRefused, "no such model"),
        (json!({"start": "abort", "stderr": "assertion failed"}), Cause::QemuKilled, "assertion failed"),
        (json!({"start": "deaf"}), Cause::QemuProtocol, "did not connect"),
        (json!({"start": "foreign"}), Cause::QemuProtocol, "mail.example.org"),
    ] {
        let fake = Fake::new(script.clone());
        let options = StartOptions { connect: Duration::from_millis(500), ..StartOptions::default() };
        let error = fake.start(options).await.err().unwrap_or_else(|| panic!("{script} starts"));
        assert_eq!(error.cause(), cause, "{script}: {error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let mut spec = Fake::new(json!({})).spec();
    Arc::make_mut(&mut spec.qemu).path = "/no/such/qemu".into();
    let rundir = Arc::new(RunDir::create("a test").unwrap());
    let error = Machine::start(&spec, rundir, StartOptions::default()).await.err().unwrap();
    assert_eq!(error.cause(), Cause::QemuMissing, "{error}");
}

#[tokio::test]
async fn a_space_in_a_path_is_no_hindrance() {
    let fake = Fake::new(json!({}));
    let mut spec = fake.spec();
    let odd = fake.dir.path().join("an initrd");
    std::fs::write(&odd, "x").unwrap();
    spec.initrd = Payload::of(&odd).unwrap();
    let machine = Machine::start(&spec, Arc::new(RunDir::create("a test").unwrap()), StartOptions::default())
        .await
        .unwrap();
    let link = machine.rundir().path().join("initrd");
    assert_eq!(std::fs::read_link(&link).unwrap(), odd);
    let modules = format!("{} console=hvc0,{}", spec.kernel.path.display(), link.display());
    assert!(machine.argv().iter().any(|a| *a == *modules));
    machine.stop().await;
}

#[tokio::test]
async fn ends() {
    let shutdown = |reason| json!([{"event": {"name": "SHUTDOWN", "data": {"guest": true, "reason": reason}}}, {"exit": 0}]);
    assert_eq!(end_of(shutdown("guest-reset")).await, MachineEnd::GuestReset);
    assert_eq!(end_of(shutdown("guest-shutdown")).await, MachineEnd::GuestPowerOff);
    assert_eq!(end_of(shutdown("guest-panic")).await, MachineEnd::GuestPanicked);
    assert_eq!(end_of(json!([{"stop": "internal-error"}])).await, MachineEnd::InternalError);
    assert!(
        matches!(end_of(json!([{"stop": "io-error"}])).await, MachineEnd::Protocol(w) if w.contains("disk"))
    );
    assert!(matches!(end_of(json!([{"exit": 3}])).await, MachineEnd::QemuExited { status: 3, .. }));
    assert!(matches!(end_of(json!(["abort"])).await, MachineEnd::QemuKilled { signal: 6, .. }));
    assert!(matches!(end_of(json!(["terminated"])).await, MachineEnd::QemuKilled { signal: 15, .. }));
    assert!(matches!(end_of(json!(["close-monitor"])).await, MachineEnd::Protocol(_)));
    assert!(
        matches!(end_of(json!([{"garbage": "{]\n"}])).await, MachineEnd::Protocol(w) if w.contains("{]"))
    );
    let unasked = end_of(json!([{"garbage": "{\"return\": {}, \"id\": 99}\n"}])).await;
    assert!(matches!(unasked, MachineEnd::Protocol(w) if w.contains("asked")));
}

#[tokio::test]
async fn events_nobody_knows_change_nothing() {
    let many = vec![json!({"event": {"name": "BRAND_NEW", "data": {"x": [1, {"y": null}]}}}); 3000];
    let (_fake, machine) = Fake::boot(json!({ "then": many })).await;
    let mut events = machine.events();
    assert_eq!(machine.qmp().human("info usernet").await.unwrap().lines().count(), 2);
    // More than are kept for a listener that does not listen: it is told so, and gets the rest.
    tokio::time::sleep(Duration::from_millis(100)).await;
    while let Ok(event) = events.try_recv().or_else(|_| events.try_recv()) {
        assert!(["BRAND_NEW", "RESUME"].contains(&event.name.as_str()), "{}", event.name);
    }
    assert_eq!(machine.end(), None);
    machine.stop().await;
}

#[tokio::test]
async fn a_command_that_is_refused_or_not_answered_leaves_the_monitor_usable() {
    let (_fake, machine) = Fake::boot(json!({"unanswered": ["query-balloon"]})).await;
    let qmp = machine.qmp();
    let refused = qmp.execute("x-make-coffee", Value::Null).await;
    assert!(matches!(refused, Err(QmpError::Refused { class, .. }) if class == "CommandNotFound"));
    let limit = Duration::from_millis(50);
    let silent = qmp.execute_within("query-balloon", Value::Null, limit).await;
    assert_eq!(silent, Err(QmpError::TimedOut { command: "query-balloon".to_owned(), limit }));
    assert_eq!(qmp.execute("query-status", Value::Null).await.unwrap()["status"], "running");
    // Dropped while it waits for its reply.
    drop(tokio::time::timeout(Duration::ZERO, qmp.execute("query-status", Value::Null)).await);
    assert_eq!(qmp.run(qapi::qmp::query_version {}).await.unwrap().package, "fake");
}

#[tokio::test]
async fn one_that_does_not_quit_is_killed() {
    let (_fake, machine) = Fake::boot(json!({"unanswered": ["quit"]})).await;
    let pid = machine.pid();
    let begin = Instant::now();
    machine.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(3));
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn a_monitor_that_never_answers_is_given_up_in_time() {
    let fake = Fake::new(json!({"start": "mute"}));
    let options = StartOptions { connect: Duration::from_secs(1), ..StartOptions::default() };
    let error = fake.start(options).await.err().unwrap();
    assert_eq!(error.cause(), Cause::QemuProtocol, "{error}");
}

/// The probe's machine may run as soon as it wants to.
async fn at_once() -> Result<(), StartError> {
    Ok(())
}

#[tokio::test]
async fn the_probe_believes_what_it_sees() {
    if xenlab_host::probe::kvm().device.is_err() || Arch::host() != Some(Arch::X86_64) {
        // Then nothing is ever run for the probe, which the unit tests show.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let memory = dir.path().join("accel.json");
    let fake_speaks = Fake::new(json!({"then": [{"write": " Xen 4.20\r\n"}]}));
    let speaks = fake_speaks.spec();
    let chosen = accel::choose(AccelChoice::Auto, &speaks, "a", Some(&memory), at_once()).await.unwrap();
    assert_eq!(chosen.accel, Accel::Kvm, "{}", chosen.reason);
    let again = accel::choose(AccelChoice::Kvm, &speaks, "another", Some(&memory), at_once()).await.unwrap();
    assert!(again.reason.contains("found out before"), "that Xen runs holds for every Xen: {}", again.reason);

    let fake_broken = Fake::new(json!({"then": [{"stop": "internal-error"}]}));
    let broken = fake_broken.spec();
    let chosen = accel::choose(AccelChoice::Auto, &broken, "a", Some(&memory), at_once()).await.unwrap();
    assert!(chosen.accel == Accel::Tcg && chosen.reason.contains("internal error"), "{}", chosen.reason);
    let error = accel::choose(AccelChoice::Kvm, &broken, "a", Some(&memory), at_once()).await.unwrap_err();
    assert_eq!(error.cause(), Cause::AcceleratorUnusable);
    assert!(error.to_string().contains("found out before"));
    let other = accel::choose(AccelChoice::Auto, &broken, "b", Some(&memory), at_once()).await.unwrap();
    assert!(
        !other.reason.contains("found out before"),
        "one Xen's silence is not another's: {}",
        other.reason
    );

    let fake_aborts = Fake::new(json!({"start": "abort", "stderr": "failed to set MSR\nassertion"}));
    let aborts = fake_aborts.spec();
    let chosen = accel::choose(AccelChoice::Auto, &aborts, "a", Some(&memory), at_once()).await.unwrap();
    assert!(chosen.accel == Accel::Tcg && chosen.reason.contains("signal 6"), "{}", chosen.reason);
    let other = accel::choose(AccelChoice::Auto, &aborts, "b", Some(&memory), at_once()).await.unwrap();
    assert!(other.reason.contains("found out before"), "no Xen changes that: {}", other.reason);

    // What `tcg` does not do.
    let chosen = accel::choose(AccelChoice::Tcg, &aborts, "c", None, at_once()).await.unwrap();
    assert_eq!(chosen.accel, Accel::Tcg);
}
