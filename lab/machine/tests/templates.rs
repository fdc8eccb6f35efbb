//! Freezing and restoring, on a QEMU that is none and plays what can go wrong.

use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use xenlab_host::rundir::RunDir;
use xenlab_machine::{
    Accel, Backing, FreezeError, Machine, MachineSpec, Payload, StartError, StartOptions, qemu,
};
use xenlab_model::Arch;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::MachineEnd;

#[path = "common/mod.rs"]
mod common;
use common::write_executable;

const MIB: u64 = 160;
const LIMIT: Duration = Duration::from_secs(20);

/// A machine of a fake QEMU that does what the script says; its memory is [`MIB`] MiB, what an AArch64 machine needs for its modules.
fn spec(dir: &Path, script: &Value) -> MachineSpec {
    spec_of(dir, Arch::X86_64, script)
}

fn spec_of(dir: &Path, arch: Arch, script: &Value) -> MachineSpec {
    std::fs::write(dir.join("script"), script.to_string()).unwrap();
    let (program, fake) = (dir.join("qemu"), env!("CARGO_BIN_EXE_fake-qemu"));
    let text = format!("#!/bin/sh\nFAKE_QEMU={} exec {fake} \"$@\"\n", dir.join("script").display());
    write_executable(&program, &text);
    let found = qemu::find(arch, Some(&program)).unwrap();
    std::fs::write(dir.join("payload"), "x").unwrap();
    let payload = Payload::of(dir.join("payload")).unwrap();
    let mut spec = MachineSpec::new(Arc::new(found), Accel::Tcg, payload.clone(), payload.clone(), payload);
    spec.memory = xenlab_model::units::Size::mib(MIB);
    spec.backing = Backing::Build(dir.join("ram"));
    std::fs::File::create(dir.join("ram")).unwrap().set_len(MIB << 20).unwrap();
    spec
}

fn rundir() -> Arc<RunDir> {
    Arc::new(RunDir::create("a test").unwrap())
}

async fn boot(dir: &Path, script: Value) -> Machine {
    let machine = Machine::start(&spec(dir, &script), rundir(), StartOptions::default()).await.unwrap();
    machine.resume().await.unwrap();
    machine
}

async fn restore(dir: &Path, script: Value, state: &[u8]) -> Result<Machine, StartError> {
    let mut spec = spec(dir, &script);
    spec.backing = Backing::CopyOf(dir.join("ram"));
    let options = StartOptions { connect: Duration::from_secs(2), ..StartOptions::default() };
    Machine::restore(&spec, state, rundir(), options).await
}

/// The state that the fake writes.
async fn good(dir: &Path) -> Vec<u8> {
    let machine = boot(dir, json!({})).await;
    let frozen = machine.freeze(LIMIT).await.unwrap();
    assert!(frozen.took > Duration::ZERO && frozen.took < LIMIT);
    let error = machine.resume().await.unwrap_err();
    assert!(error.to_string().contains("its memory is the template's"), "{error}");
    frozen.state
}

#[tokio::test]
async fn what_was_frozen_is_restored_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let state = good(dir.path()).await;
    let clone = restore(dir.path(), json!({}), &state).await.unwrap();
    assert!(clone.argv().windows(2).any(|a| a[0] == "-incoming" && a[1] == "defer"));
    assert_eq!((clone.guest_time(), clone.ssh_port()), (Duration::ZERO, Some(40022)));
    let status = clone.qmp().execute("query-status", Value::Null).await.unwrap();
    assert_eq!(status["status"], "paused");
    clone.resume().await.unwrap();
    assert!(clone.wall_time() > Duration::ZERO);
    let error = clone.freeze(LIMIT).await.err().unwrap();
    assert!(matches!(error, FreezeError::Impossible(_)), "{error}");
}

#[tokio::test]
async fn a_restored_machine_without_a_network_is_woken_by_its_console() {
    let dir = tempfile::tempdir().unwrap();
    let state = good(dir.path()).await;
    let script = json!({"arch": "aarch64", "then": [{"expect": "\n"}, {"write": "awake"}, "hold"]});
    let mut spec = spec_of(dir.path(), Arch::Aarch64, &script);
    (spec.backing, spec.network) = (Backing::CopyOf(dir.path().join("ram")), false);
    let mut clone = Machine::restore(&spec, &state, rundir(), StartOptions::default()).await.unwrap();
    let (mut console, _typed) = clone.take_console().unwrap();
    clone.resume().await.unwrap();
    let mut heard = [0; 5];
    console.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"awake");
}

#[tokio::test]
async fn freezes_that_fail_and_leave_a_machine_that_goes_on() {
    for (how, cause, says) in [
        ("refuse", Cause::QemuProtocol, "coffee-maker"),
        ("fail", Cause::QemuProtocol, "the fake was asked to fail"),
        ("hang", Cause::LabInternal, "within 1 s"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let machine = boot(dir.path(), json!({"freeze": how})).await;
        let error = machine.freeze(Duration::from_secs(1)).await.err().unwrap();
        assert_eq!(error.cause(), cause, "{how}: {error}");
        assert!(error.to_string().contains(says), "{how}: {error}");
        assert!(machine.end().is_none(), "{how}");
        machine.resume().await.unwrap();
    }
}

#[tokio::test]
async fn freezes_that_end_the_machine() {
    type IsIt = fn(&MachineEnd) -> bool;
    let ends: [(&str, IsIt); 2] = [
        ("abort", |e| matches!(e, MachineEnd::QemuKilled { signal: 6, .. })),
        ("close-monitor", |e| matches!(e, MachineEnd::Protocol(_))),
    ];
    for (how, end) in ends {
        let dir = tempfile::tempdir().unwrap();
        let machine = boot(dir.path(), json!({"freeze": how})).await;
        let error = machine.freeze(LIMIT).await.err().unwrap();
        assert!(matches!(&error, FreezeError::Ended(e) if end(e)), "{how}: {error}");
    }
}

#[tokio::test]
async fn machines_that_no_template_can_be_taken_of() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = spec(dir.path(), &json!({}));
    spec.backing = Backing::Private;
    let machine = Machine::start(&spec, rundir(), StartOptions::default()).await.unwrap();
    let error = machine.freeze(LIMIT).await.err().unwrap();
    assert!(matches!(&error, FreezeError::Impossible(why) if why.contains("not in a file")), "{error}");
    spec.disks.push(xenlab_machine::Disk::snapshot("/d"));
    assert!(spec.cannot_freeze().unwrap().contains("/d"));
}

#[tokio::test]
async fn templates_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let state = good(dir.path()).await;
    let mut other = state.clone();
    other[0] ^= 1;
    for (state, script, says) in [
        (&state[..state.len() - 1], json!({}), "load of migration failed: Input/output error"),
        (&state[..3], json!({}), "load of migration failed: Invalid argument"),
        (&[][..], json!({}), "load of migration failed"),
        (&other[..], json!({}), "load of migration failed: Invalid argument"),
        (&state[..], json!({"load": "fail"}), "the fake was asked to fail"),
    ] {
        let error = restore(dir.path(), script, state).await.err().expect("it is damaged");
        assert!(matches!(error, StartError::Template { .. }), "{error}");
        assert_eq!(error.cause(), Cause::TemplateUnusable);
        assert!(error.to_string().contains(says), "{error}");
    }
    std::fs::write(dir.path().join("short"), "x").unwrap();
    let mut spec = spec(dir.path(), &json!({}));
    for (ram, says) in [("short", "is 1 bytes long"), ("absent", "No such file")] {
        spec.backing = Backing::CopyOf(dir.path().join(ram));
        let error = Machine::restore(&spec, &state, rundir(), StartOptions::default()).await.err().unwrap();
        assert!(matches!(&error, StartError::Template { why } if why.contains(says)), "{error}");
    }
}

#[tokio::test]
async fn a_qemu_that_dies_while_it_loads_says_nothing_of_the_template() {
    let dir = tempfile::tempdir().unwrap();
    let state = good(dir.path()).await;
    for (how, cause) in [
        ("abort", Cause::QemuKilled),
        ("terminated", Cause::QemuRefused),
        ("close-monitor", Cause::QemuProtocol),
        ("hang", Cause::QemuProtocol),
    ] {
        let error = restore(dir.path(), json!({"load": how}), &state).await.err().expect("it fails");
        assert_eq!(error.cause(), cause, "{how}: {error}");
    }
    let error = restore(dir.path(), json!({"start": "refuse", "stderr": "no"}), &state).await.err().unwrap();
    assert_eq!(error.cause(), Cause::QemuRefused, "{error}");
}
