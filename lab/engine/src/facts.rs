//! Facts of the host, and of what a case turned out to be made of.

use xenlab_model::fact::{FactValue, Facts};

/// What can be asked of the host before anything is fetched or built.
pub fn host() -> Facts {
    let mut facts = Facts::default();
    facts.set("host.arch", FactValue::text(std::env::consts::ARCH));
    facts.set(
        "host.cores",
        FactValue::Integer(i64::try_from(xenlab_host::resources::cores()).unwrap_or(i64::MAX)),
    );
    if let Some(memory) = xenlab_host::resources::memory() {
        facts.set("host.memory", FactValue::Size(memory.total));
    }
    facts.set("host.kvm", FactValue::Flag(xenlab_host::probe::kvm().device.is_ok()));
    facts
}
