//! `xenlab doctor`: what this host can do, and what to install.

use crate::args::{Doctor, Global};
use crate::failure::Failure;
use crate::{host_packages, print};
use serde_json::json;
use std::fmt::Write;
use xenlab_host::{packages, probe, resources};
use xenlab_model::Arch;
use xenlab_model::exit::Exit;

/// Exits 0 when the main job can be done for at least one architecture, else 3. Compilers are asked for by one step only, which
/// says so itself.
pub fn doctor(args: &Doctor, global: &Global) -> Result<Exit, Failure> {
    if global.install {
        host_packages::install(args.tests)?;
    }
    let kvm = probe::kvm();
    let memory = resources::memory();
    let mut programs = Vec::new();
    for need in host_packages::NEEDS {
        programs.push((need, host_packages::find(need.program)));
    }
    let qemus: Vec<(Arch, Result<xenlab_machine::QemuInfo, String>)> = Arch::ALL
        .into_iter()
        .map(|arch| (arch, xenlab_machine::qemu::find(arch, None).map_err(|e| e.to_string())))
        .collect();
    let store = crate::run::open_store(global, std::sync::Arc::new(xenlab_model::event::Silent));
    let tools: Vec<(Arch, Result<(), String>)> =
        Arch::ALL.into_iter().map(|arch| (arch, tools_from_source(arch))).collect();
    let mut deep = Vec::new();
    if args.deep {
        deep = crate::run::probe_accelerators(global)?;
    }
    let able = qemus.iter().any(|(_, q)| q.is_ok())
        && store.is_ok()
        && programs.iter().all(|(need, found)| found.is_some() || !need.always);

    if args.json {
        let value = json!({
            "host": {"arch": std::env::consts::ARCH, "cores": resources::cores(), "memory_bytes": memory.as_ref().map(|m| m.total)},
            "kvm": {"usable_device": kvm.device.is_ok(), "why_not": kvm.device.as_ref().err(), "modules": kvm.modules,
                    "extension": kvm.extension, "nested": kvm.nested},
            "qemu": qemus.iter().map(|(a, q)| match q {
                Ok(q) => json!({"arch": a, "path": q.path, "version": q.version.to_string()}),
                Err(e) => json!({"arch": a, "error": e}),
            }).collect::<Vec<_>>(),
            "programs": programs.iter().map(|(n, p)| json!({"program": n.program, "path": p, "for": n.what_for})).collect::<Vec<_>>(),
            "tools_from_source": tools.iter().map(|(a, t)| json!({"arch": a, "why_not": t.as_ref().err()})).collect::<Vec<_>>(),
            "store": match &store { Ok(s) => json!({"path": s.root()}), Err(e) => json!({"error": e.message}) },
            "accelerators": deep.iter().map(|(a, name, why)| json!({"arch": a, "accelerator": name, "because": why})).collect::<Vec<_>>(),
        });
        print(&format!("{}\n", serde_json::to_string_pretty(&value).map_err(anyhow::Error::from)?))?;
        return Ok(if able { Exit::Passed } else { Exit::Lab });
    }

    let mut text = String::new();
    let mut line = |good: Option<bool>, what: &str, said: &str| {
        let mark = match good {
            Some(true) => "ok  ",
            Some(false) => "MISS",
            None => "-   ",
        };
        let _ = writeln!(text, "{mark} {what:<24} {said}");
    };
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    line(
        None,
        "host",
        &format!(
            "{}, {} cores, {}",
            std::env::consts::ARCH,
            resources::cores(),
            memory.map_or("memory unknown".into(), |m| format!(
                "{} of memory, {} free",
                gib(m.total),
                gib(m.available)
            ))
        ),
    );
    match &kvm.device {
        Ok(()) => line(
            None,
            "/dev/kvm",
            &format!(
                "can be opened ({}); says nothing about Xen: `xenlab doctor --deep` tries it with one",
                if kvm.modules.is_empty() { "no module named".to_owned() } else { kvm.modules.join(", ") }
            ),
        ),
        Err(why) => line(None, "/dev/kvm", &format!("{why}; emulation (TCG) is used, which needs nothing")),
    }
    for (arch, qemu) in &qemus {
        match qemu {
            Ok(q) => line(
                Some(true),
                &format!("QEMU for {arch}"),
                &format!("{} at {}", q.version, q.path.display()),
            ),
            Err(e) => line(Some(false), &format!("QEMU for {arch}"), e),
        }
    }
    for (need, found) in &programs {
        if need.program.starts_with("qemu-") {
            continue;
        }
        match found {
            Some(path) => line(Some(true), need.program, &path.display().to_string()),
            None => line(
                Some(false),
                need.program,
                &format!("{}: {}", need.what_for, packages::hint(need.program)),
            ),
        }
    }
    for (arch, tools) in &tools {
        let what = format!("Xen's tools for {arch}");
        match tools {
            Ok(()) => line(Some(true), &what, "can be built from source"),
            Err(why) => line(None, &what, &format!("are borrowed for a Xen from source: {why}")),
        }
    }
    match &store {
        Ok(s) => line(Some(true), "store", &s.root().display().to_string()),
        Err(e) => line(Some(false), "store", &e.message),
    }
    for (arch, name, why) in &deep {
        line(None, &format!("{name} for {arch}"), why);
    }
    let lacking: Vec<&str> = programs.iter().filter(|(_, p)| p.is_none()).map(|(n, _)| n.program).collect();
    if !lacking.is_empty() {
        match packages::install_command(&lacking) {
            Some(command) => {
                let _ = writeln!(text, "\nTo install all of it: {command}");
            }
            None => {
                let _ = writeln!(text, "\nInstall by hand what is missing: {}", lacking.join(", "));
            }
        }
    }
    print(&text)?;
    Ok(if able { Exit::Passed } else { Exit::Lab })
}

/// Why the tools of a Xen from source cannot be built here.
fn tools_from_source(arch: Arch) -> Result<(), String> {
    let missing = xenlab_xen::missing_for_tools(arch).map_err(|e| e.to_string())?;
    if missing.is_empty() {
        return Ok(());
    }
    let how = match packages::install_command(&missing) {
        Some(command) => format!("; to build them: {command}"),
        None => String::new(),
    };
    Err(format!("missing {}{how}", missing.join(", ")))
}
