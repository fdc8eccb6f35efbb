//! The harness on the QEMU that is installed, without booting anything: what it accepts, how it starts, how it ends.
//! Where none is installed there is nothing to see, and each test says so.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xenlab_host::Command;
use xenlab_host::rundir::RunDir;
use xenlab_machine::{
    Accel, Backing, Disk, DiskAccess, Domain, Machine, MachineSpec, Payload, StartError, StartOptions, argv,
    device_tree, qemu,
};
use xenlab_model::Arch;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::MachineEnd;

/// An AArch64 machine whose "Xen" is a file of zeroes: that board loads anything.
fn spec(dir: &Path) -> Option<MachineSpec> {
    let found = match qemu::find(Arch::Aarch64, None) {
        Ok(found) => found,
        Err(error) => {
            eprintln!("nothing to test on: {error}");
            return None;
        }
    };
    let file = |name: &str, size: usize| {
        let path = dir.join(name);
        std::fs::write(&path, vec![0; size]).unwrap();
        path
    };
    let payload = |name: &str, size| Payload::of(file(name, size)).unwrap();
    let (xen, kernel, initrd) = (payload("xen", 70_000), payload("a,kernel", 3 << 20), payload("initrd", 5));
    let mut spec = MachineSpec::new(Arc::new(found), Accel::Tcg, xen, kernel, initrd);
    let disk = file("a,disk", 1 << 20);
    spec.disks = vec![Disk::read_only(&disk), Disk::read_only(file("other", 4096)), Disk::snapshot(disk)];
    Some(spec)
}

async fn start(spec: &MachineSpec) -> Result<Machine, StartError> {
    Machine::start(spec, Arc::new(RunDir::create("a test").unwrap()), StartOptions::default()).await
}

fn kill(signal: &str, pid: u32) {
    Command::new("kill").args([signal.to_owned(), pid.to_string()]).checked().unwrap();
}

#[tokio::test]
async fn two_machines_share_their_disks_and_have_ports_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let Some(spec) = spec(dir.path()) else { return };
    let (one, two) = tokio::try_join!(start(&spec), start(&spec)).unwrap();
    assert!(one.ssh_port().is_some() && one.ssh_port() != two.ssh_port());
    assert_eq!(one.vcpu_threads().len(), 2);
    one.resume().await.unwrap();
    assert_eq!(one.clock().unwrap().degraded(), None);
    let status = one.qmp().run(qapi::qmp::query_status {}).await.unwrap();
    assert!(status.running);
    let begin = Instant::now();
    let pids = [one.pid(), two.pid()];
    one.stop().await;
    drop(two);
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(!Path::new(&format!("/proc/{}", pids[0])).exists());
}

/// QEMU writes its own device tree, takes it back with a domain in it, and the domain's kernel lies where the tree says.
#[tokio::test]
async fn a_domain_lies_where_the_device_tree_says() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut spec) = spec(dir.path()) else { return };
    let image = dir.path().join("an,image");
    std::fs::write(&image, [&b"a kernel"[..], &[7; 70_000]].concat()).unwrap();
    let kernel = Payload::of(&image).unwrap();
    spec.domains = vec![Domain {
        name: "d1".into(),
        initrd: Some(kernel.clone()),
        kernel,
        kernel_at: None,
        memory: xenlab_model::units::Size::mib(128),
        vcpus: 1,
        args: "console=ttyAMA0".into(),
    }];
    let tree = dir.path().join("a tree");
    device_tree(&spec, &tree).unwrap();
    let written = std::fs::read(&tree).unwrap();
    let has = |what: &[u8]| written.windows(what.len()).any(|w| w == what);
    assert!(has(b"xen,domain\0") && has(b"vpl011\0") && has(b"console=ttyAMA0\0"));
    let kernel_at = argv::domain_addresses(&spec).unwrap()[0].0;
    assert!(has(&[kernel_at.to_be_bytes(), 70_008u64.to_be_bytes()].concat()), "{kernel_at:x}");
    spec.device_tree = Some(tree);
    let machine = start(&spec).await.unwrap();
    let ask = serde_json::json!({"command-line": format!("xp /2wx {kernel_at:#x}")});
    let answer = machine.qmp().execute("human-monitor-command", ask).await.unwrap();
    let words = [&b"a ke"[..], b"rnel"].map(|w| u32::from_le_bytes(w.try_into().unwrap()));
    let shown = format!("{:#010x} {:#010x}", words[0], words[1]);
    assert!(answer.as_str().is_some_and(|a| a.contains(&shown)), "{answer}, not {shown}");
    machine.stop().await;
}

#[tokio::test]
async fn a_device_it_does_not_have_is_its_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut spec) = spec(dir.path()) else { return };
    spec.devices.push("coffee-maker,cups=2".to_owned());
    let error = start(&spec).await.err().unwrap();
    assert_eq!(error.cause(), Cause::QemuOption);
    assert!(error.to_string().contains("coffee-maker"), "{error}");
}

#[tokio::test]
async fn killed_from_outside_is_told_by_its_signal() {
    let dir = tempfile::tempdir().unwrap();
    let Some(spec) = spec(dir.path()) else { return };
    for (signal, number) in [("-KILL", 9), ("-TERM", 15)] {
        let machine = start(&spec).await.unwrap();
        machine.resume().await.unwrap();
        kill(signal, machine.pid());
        let end = tokio::time::timeout(Duration::from_secs(20), machine.ended()).await.expect("it ends");
        assert!(matches!(end, MachineEnd::QemuKilled { signal, .. } if signal == number), "{end:?}");
    }
}

#[tokio::test]
async fn pressing_the_button_of_a_guest_that_does_not_listen_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(spec) = spec(dir.path()) else { return };
    let machine = start(&spec).await.unwrap();
    machine.resume().await.unwrap();
    machine.qmp().execute("system_powerdown", serde_json::Value::Null).await.unwrap();
    assert_eq!(machine.end(), None, "a guest that does not listen to its button goes on");
    machine.stop().await;
}

#[tokio::test]
async fn a_template_gives_clones_and_a_damaged_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut spec) = spec(dir.path()) else { return };
    // What the guest writes to a disk is not in a template.
    spec.disks.retain(|d| d.access == DiskAccess::ReadOnly);
    let ram = dir.path().join("ram");
    spec.backing = Backing::Build(ram.clone());
    let machine = start(&spec).await.unwrap();
    machine.resume().await.unwrap();
    let frozen = machine.freeze(Duration::from_secs(20)).await.unwrap();
    let state = frozen.state;
    assert!(state.len() > 10_000 && state.len() < 10 << 20, "{} bytes", state.len());
    machine.stop().await;
    spec.backing = Backing::CopyOf(ram.clone());
    let restore = |spec: MachineSpec, state: Vec<u8>| async move {
        let rundir = Arc::new(RunDir::create("a test").unwrap());
        Machine::restore(&spec, &state, rundir, StartOptions::default()).await
    };
    // A clone reads neither of these.
    std::fs::remove_file(&spec.kernel.path).unwrap();
    std::fs::remove_file(&spec.initrd.path).unwrap();
    let before = std::fs::metadata(&ram).unwrap().modified().unwrap();
    let (one, two) =
        tokio::try_join!(restore(spec.clone(), state.clone()), restore(spec.clone(), state.clone())).unwrap();
    assert!(one.ssh_port().is_some() && one.ssh_port() != two.ssh_port());
    for clone in [&one, &two] {
        assert!(!clone.qmp().run(qapi::qmp::query_status {}).await.unwrap().running);
        clone.resume().await.unwrap();
        assert!(clone.qmp().run(qapi::qmp::query_status {}).await.unwrap().running);
        assert_eq!((clone.end(), clone.clock().unwrap().degraded()), (None, None));
    }
    drop((one, two));
    let mut other = state.clone();
    other[0] ^= 1;
    let mut smaller = spec.clone();
    smaller.cpus = 1;
    let mut lonely = spec.clone();
    lonely.network = false;
    for (what, spec, state) in [
        ("empty", spec.clone(), Vec::new()),
        ("cut at a quarter", spec.clone(), state[..state.len() / 4].to_vec()),
        ("cut at a half", spec.clone(), state[..state.len() / 2].to_vec()),
        ("not a state", spec.clone(), other),
        ("of a machine with more processors", smaller, state.clone()),
        ("of a machine with a network card", lonely, state.clone()),
    ] {
        let error = restore(spec, state).await.err().unwrap_or_else(|| panic!("{what}: restored"));
        eprintln!("{what}: {error}");
        assert!(matches!(error, StartError::Template { .. }), "{what}: {error}");
    }
    assert_eq!(std::fs::metadata(&ram).unwrap().modified().unwrap(), before, "no clone wrote to it");
    std::fs::OpenOptions::new().write(true).open(&ram).unwrap().set_len(1 << 20).unwrap();
    let error = restore(spec, state).await.err().expect("its memory is cut off");
    assert!(matches!(&error, StartError::Template { why } if why.contains("1048576 bytes long")), "{error}");
}
