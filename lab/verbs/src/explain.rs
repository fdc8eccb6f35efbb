//! `explain`: what would be built and booted, in words and as QEMU's command line.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xenlab_engine::EngineError;
use xenlab_engine::exec::machine_memory;
use xenlab_engine::prepare::Preparer;
use xenlab_machine::{Accel, Boot, BootDisk, Flash, MachineSpec, Payload, QemuInfo, Wiring, argv, quirks};
use xenlab_model::case::{Case, Planned};
use xenlab_model::condition::Truth;
use xenlab_model::scenario::config::BootWay;
use xenlab_model::spec::DeviceModelSpec;

/// Explains a case. `preparer` works on an offline store: what is there is shown with its real paths, what would have to be
/// made first is shown by name.
///
/// # Errors
/// What the case names is not there or not what it should be.
pub async fn case(preparer: &Preparer, case: &Case) -> Result<String, EngineError> {
    let mut text = format!("{}\n", case.shown());
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "  {label:<14} {value}");
    };
    line("from", &case.file);
    for entry in &case.expectations {
        // What only the machine or the build tells is not known here, and an entry that asks for it may apply.
        let so = match entry.applies(&case.facts) {
            Truth::Holds => String::new(),
            Truth::Unknown(facts) => format!(", if it applies once known: {}", facts.join(", ")),
            Truth::Fails(_) => continue,
        };
        let place = entry.place.as_ref().map(|p| format!(" [{p}]")).unwrap_or_default();
        line("expected", &format!("{}{so}: {}{place}", entry.expects(), entry.reason()));
    }
    match &case.plan {
        Planned::Run => line("plan", "runs"),
        Planned::Skip(because) => {
            line("plan", &format!("skipped: {because}"));
            return Ok(text);
        }
        Planned::Unknown(facts) => line("plan", &format!("decided once known: {}", facts.join(", "))),
    }
    let config = &case.config;
    line("Xen", &case.subject.hypervisor.to_string());
    if let Some(tools) = &case.subject.tools {
        line("tools", &tools.to_string());
    }
    if let Some(version) = &case.subject.expect_version {
        line("declared", &format!("{version}, by the scenario or the command line"));
    }
    line("userland", &config.dom0.userland.to_string());
    if let Some(kernel) = &config.dom0.kernel {
        line("kernel", &kernel.to_string());
    }
    if config.dom0.device_model != DeviceModelSpec::None {
        line("device model", &config.dom0.device_model.to_string());
    }
    line(
        "machine",
        &format!("{} cpus, {}, dom0 {}", config.machine.cpus, machine_memory(config), config.dom0.memory),
    );
    for step in case.setup.iter().chain(&case.steps) {
        let undecided =
            if step.when.is_some() { " (if its condition holds once the build is known)" } else { "" };
        line(&step.path, &format!("{}{undecided}", step.title()));
    }
    let qemu = match preparer.qemu(config.arch, config.machine.qemu.as_deref()).await {
        Ok(qemu) => qemu,
        Err(error) => {
            line("QEMU", &error.to_string());
            return Ok(text);
        }
    };
    line("QEMU", &qemu.shown());
    let (spec, made) = match preparer.prepare(case).await {
        Ok(prepared) => {
            line("accelerator", &format!("{}: {}", prepared.accel.accel, prepared.accel.reason));
            if let Some(firmware) = &prepared.firmware {
                line("loaded by", &firmware.shown);
            }
            let initrd = Payload::of(&prepared.dom0.initrd).ok();
            let initrd = initrd.unwrap_or_else(|| placeholder("initrd"));
            (xenlab_engine::boot::spec(case, &prepared.parts, prepared.accel.accel, initrd), true)
        }
        Err(error @ EngineError::BadInput { .. }) => return Err(error),
        Err(error) => {
            line("to be made", &error.to_string());
            (Ok(by_name(case, qemu)), false)
        }
    };
    let mut spec = match spec {
        Ok(spec) => spec,
        Err(error) => {
            line("QEMU", &error.to_string());
            return Ok(text);
        }
    };
    for (i, domain) in spec.domains.iter().enumerate() {
        let of = format!("{}, {}, {} vCPUs, {}", domain.name, domain.memory, domain.vcpus, domain.args);
        line("Xen makes", &format!("domain {}: {of}", i + 1));
    }
    let run = Path::new("RUN");
    if !spec.domains.is_empty() {
        spec.device_tree = Some(run.join(xenlab_engine::boot::DEVICE_TREE));
    }
    if let Boot::Firmware(_) = &spec.boot {
        line("on boot-disk", &format!("Xen's command line: {}", argv::xen_command_line(&spec)));
        line("", &format!("dom0's: {}", argv::dom0_command_line(&spec)));
    }
    if !made {
        line("", "XEN, KERNEL and INITRD stand for files that are not in the store yet");
    }
    match xenlab_machine::argv(&spec, &Wiring::within(run)) {
        Ok(argv) => {
            let words: Vec<String> = std::iter::once(spec.qemu.path.display().to_string())
                .chain(argv.iter().map(|a| a.to_string_lossy().into_owned()))
                .map(|w| xenlab_engine::perform::scripts::quote(&w))
                .collect();
            let _ = writeln!(text, "  {}", words.join(" "));
        }
        Err(error) => {
            let _ = writeln!(text, "  no machine can be made of this: {error}");
        }
    }
    Ok(text)
}

/// A file that is not there yet; sizes are those of a usual build, since addresses on AArch64 follow from them.
fn placeholder(name: &str) -> Payload {
    let size = match name {
        "XEN" => 4 << 20,
        "KERNEL" => 64 << 20,
        _ => 32 << 20,
    };
    Payload { path: PathBuf::from(name), size }
}

fn by_name(case: &Case, qemu: Arc<QemuInfo>) -> MachineSpec {
    let config = &case.config;
    let mut spec =
        MachineSpec::new(qemu, Accel::Tcg, placeholder("XEN"), placeholder("KERNEL"), placeholder("INITRD"));
    spec.cpu.clone_from(&config.machine.cpu);
    spec.cpus = config.machine.cpus;
    spec.memory = machine_memory(config);
    spec.dom0_memory = config.dom0.memory;
    spec.dom0_vcpus = config.dom0.vcpus;
    let guests = !config.guests.is_empty();
    spec.xen_args = quirks::xen_args(config.arch, spec.accel, spec.qemu.version, &config.xen.args, guests);
    spec.dom0_args.clone_from(&config.dom0.args);
    spec.devices.clone_from(&config.machine.devices);
    let way = config.boot.way;
    if way != BootWay::Direct {
        let flash = || Flash { code: "FIRMWARE".into(), vars: Flash::VARS.into(), vars_bytes: 0 };
        let flash = way.is_efi().then(flash);
        spec.boot = Boot::Firmware(BootDisk { path: BootDisk::FILE.into(), bytes: 0, flash });
    }
    spec
}
