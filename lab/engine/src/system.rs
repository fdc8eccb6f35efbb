//! A subject that is a whole system: dom0 is the system, whatever the scenario says of a userland.

use crate::EngineError;
use xenlab_console::Phase;
use xenlab_model::case::Case;
use xenlab_model::cause::Cause;
use xenlab_model::judge;
use xenlab_model::scenario::config::Dom0Config;
use xenlab_model::spec::DeviceModelSpec;
use xenlab_xen::System;

/// The case asks nothing of a system that it cannot do.
///
/// # Errors
/// What it asks for, and what to do about it.
pub fn can_do(case: &Case, system: &System) -> Result<(), EngineError> {
    let wrong = |cause, message| Err(EngineError::BadInput { cause, message });
    let needs = judge::target(case.setup.iter().chain(&case.steps));
    if !system.module && needs > Phase::Dom0Kernel {
        let message = format!(
            "{} has no way in: import nix/nixos.nix of xenlab in its configuration and build it anew (docs/IMAGES.md says what that adds). \
             Without it a scenario can go as far as `phase: dom0-kernel`, and look at consoles",
            system.toplevel.display()
        );
        return wrong(Cause::PartMissing, message);
    }
    if let Some(name) = case.config.guests.keys().next() {
        let message = format!(
            "guests.{name} cannot be created in {}: what guests boot lies in the lab's own userlands; take the Xen out of the system \
             with nix:PATH for that",
            system.toplevel.display()
        );
        return wrong(Cause::PartMissing, message);
    }
    Ok(())
}

/// What the scenario says of dom0 that has no meaning for a system, for a note.
pub fn not_used(dom0: &Dom0Config) -> Option<String> {
    let keys = [
        ("kernel", dom0.kernel.is_some()),
        ("device-model", dom0.device_model != DeviceModelSpec::None),
        ("xenstored", dom0.xenstored.is_some()),
    ];
    let keys: Vec<String> =
        keys.into_iter().filter(|(_, said)| *said).map(|(key, _)| format!("dom0.{key}")).collect();
    (!keys.is_empty())
        .then(|| format!("dom0 is the system itself, so {} counts for nothing", keys.join(", ")))
}
