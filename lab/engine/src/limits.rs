//! How long a machine may take: one table, phase × accelerator, in guest time.
//!
//! The numbers are ten times and more what healthy boots took when measured (Debian's Xen 4.17 and 4.20 under TCG on a 2-core
//! x86_64 host: Xen's first line 0.5–1 s after power-on, dom0's kernel 1.5–3 s, dom0 ready 4–13 s with the small userland and
//! 30–60 s with a whole distribution). A limit only has to end what hangs; *stall* ends it sooner.

use std::time::Duration;
use xenlab_console::Phase;

/// Limits of one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhaseLimit {
    /// Guest time from the phase before to the next one.
    pub limit: Duration,
    /// Guest time without any new byte, phase or QMP event.
    pub stall: Duration,
}

/// Phase the boot is in; limit and stall in seconds under TCG, and under KVM.
type Row = (Phase, (u64, u64), (u64, u64));

const TABLE: &[Row] = &[
    // Nothing has been heard at all: a Xen that will speak does so within a second or two of emulated time.
    (Phase::PowerOn, (60, 20), (30, 10)),
    (Phase::Firmware, (120, 60), (60, 30)),
    // Xen prints as it goes; its longest silence, scrubbing memory, is turned off or short at these sizes.
    (Phase::Xen, (90, 30), (30, 15)),
    // Copying and decompressing dom0's kernel is silent.
    (Phase::Dom0Build, (90, 45), (45, 20)),
    // `quiet`: the kernel may say nothing until its init starts.
    (Phase::Dom0Kernel, (180, 60), (60, 30)),
    // Services start; a whole distribution is silent for long under emulation.
    (Phase::Dom0Init, (300, 120), (120, 60)),
    (Phase::Dom0Ready, (60, 60), (60, 60)),
];

/// The limits while the boot is in `phase`.
pub fn phase(phase: Phase, kvm: bool) -> PhaseLimit {
    let (limit, stall) = TABLE
        .iter()
        .find(|(p, ..)| *p == phase)
        .map_or((300, 120), |(_, tcg, with_kvm)| if kvm { *with_kvm } else { *tcg });
    PhaseLimit { limit: Duration::from_secs(limit), stall: Duration::from_secs(stall) }
}

/// One step, when the scenario does not say: a command in dom0 takes tenths of a second, `test-xenstore` seconds.
pub const STEP: Duration = Duration::from_secs(60);

/// A whole case, when the scenario does not say.
pub const CASE: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_limits_and_a_stall_is_never_longer() {
        for p in Phase::ALL {
            assert!(TABLE.iter().any(|(q, ..)| *q == p), "{p:?}");
            for kvm in [false, true] {
                let l = phase(p, kvm);
                assert!(l.stall <= l.limit && l.stall > Duration::ZERO);
            }
        }
    }
}
