//! Hosts that lack something.

use crate::bench::{Bench, boots, fake, write_executable};
use serde_json::json;
use std::path::Path;
use xenlab_tests::finish;

/// A PATH with everything but QEMU.
pub fn without_qemu(bench: &Bench) -> String {
    let dir = bench.path("bin");
    std::fs::create_dir(&dir).expect("a folder");
    for place in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with("qemu") {
                // The first of a name wins, as in PATH.
                let _ = std::os::unix::fs::symlink(entry.path(), dir.join(entry.file_name()));
            }
        }
    }
    dir.display().to_string()
}

#[test]
fn no_qemu_names_the_package() {
    let bench = Bench::new();
    let path = without_qemu(&bench);
    let scenario = fake("  - phase: xen\n");
    for (arch, program) in [("x86_64", "qemu-system-x86"), ("aarch64", "qemu-system-aarch64")] {
        let mut command = bench.run_command(&scenario, &["--arch", arch]);
        command.env("PATH", &path);
        let did = finish(command);
        assert_eq!(did.code, Some(3), "{}", did.stderr);
        assert!(did.stderr.contains(program) && did.stderr.contains("install"), "{}", did.stderr);
        assert_eq!(bench.verdict("fake")["cause"], "qemu.missing");
    }
    bench.clean();
}

/// A QEMU that aborts under KVM, as a real one does where KVM cannot run Xen, and boots without.
fn kvm_aborts(bench: &Bench) -> String {
    bench.qemu("tcg", boots().into());
    bench.qemu_script("kvm", json!({"start": "abort", "stderr": "error: failed to set MSR 0x10a"}));
    let path = bench.path("either");
    let (kvm, tcg) = (bench.path("kvm").display().to_string(), bench.path("tcg").display().to_string());
    write_executable(
        &path,
        &format!(
            "#!/bin/sh\ncase \" $* \" in *accel*kvm*|*kvm,*) exec {kvm} \"$@\" ;; esac\nexec {tcg} \"$@\"\n"
        ),
    );
    path.display().to_string()
}

#[test]
fn a_kvm_that_cannot_run_xen_or_is_not_there() {
    let bench = Bench::new();
    let qemu = kvm_aborts(&bench);
    let auto = fake("  - phase: dom0-ready\n").replace("{accel: tcg,", "{accel: auto,");
    let did = bench.run(&auto, &["--qemu", &qemu]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    let inputs = xenlab_tests::bundles(&bench.report());
    let inputs = xenlab_tests::json(&inputs[0].join("inputs.json")).expect("inputs");
    let (chosen, why) =
        (inputs["accel"][0].as_str().unwrap_or_default(), inputs["accel"][1].as_str().unwrap_or_default());
    assert_eq!(chosen, "tcg");
    if cfg!(target_arch = "x86_64") && Path::new("/dev/kvm").exists() {
        assert!(why.contains("KVM") || why.contains("kvm"), "{why}");
    }
    assert!(!why.is_empty() && did.stderr.contains(why), "the reason is said: {why}\n{}", did.stderr);

    let asked = fake("  - phase: dom0-ready\n").replace("{accel: tcg,", "{accel: kvm,");
    let did = bench.run(&asked, &["--qemu", &qemu]);
    assert_eq!(did.code, Some(3), "{}", did.stderr);
    assert_eq!(bench.verdict("fake")["cause"], "host.accelerator");
    bench.clean();
}
