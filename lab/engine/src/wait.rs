//! Waiting on a machine: every wait ends by success, by a sign of failure, by stall or by its limit, or because the
//! machine ended or the user interrupted.

use crate::hub::{Hub, State};
use crate::limits;
use std::future::Future;
use std::time::Duration;
use xenlab_console::Sign;
use xenlab_model::evidence::{MachineEnd, WaitEnd};

/// How often limits and stalls are looked at; what arrives on the console is looked at when it arrives.
const LOOK: Duration = Duration::from_millis(250);

/// After a sign of failure, how long to listen for the rest of the message.
const AFTERWORDS: Duration = Duration::from_millis(400);

/// A machine's end, a clock, an interrupt: what a wait listens to beside the console.
pub struct Watch<'a> {
    /// The console.
    pub hub: &'a Hub,
    /// Guest time since power-on.
    pub guest: &'a (dyn Fn() -> Duration + Send + Sync),
    /// Under KVM limits are shorter.
    pub kvm: bool,
}

/// What a wait is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// Guest time from now on.
    pub limit: Duration,
    /// Also end by stall, and by the limits of the phase the boot is in.
    pub phases: Phases,
}

/// What of the table of phases holds for a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phases {
    /// Nothing: the wait is for something else than the boot.
    None,
    /// Everything.
    All,
    /// The user has said how long the boot may take: stalls end it, but none shorter than a third of that.
    Stalls,
}

impl Watch<'_> {
    /// Waits until `done` says so of what the console has shown.
    pub async fn until(
        &self,
        allowed: Allowed,
        ended: impl Future<Output = MachineEnd>,
        mut done: impl FnMut(&State) -> bool,
    ) -> WaitEnd {
        let begun = (self.guest)();
        let mut changes = self.hub.changes();
        let mut phase_since = (self.hub.state().phase(), begun);
        tokio::pin!(ended);
        loop {
            let died = {
                let state = self.hub.state();
                if done(&state) {
                    return WaitEnd::Reached;
                }
                let now = (self.guest)();
                if state.phase() != phase_since.0 {
                    phase_since = (state.phase(), now);
                }
                if now.saturating_sub(begun) > allowed.limit {
                    return WaitEnd::TimedOut { limit: allowed.limit.as_secs_f64() };
                }
                if allowed.phases != Phases::None {
                    let of = limits::phase(phase_since.0, self.kvm);
                    let own = allowed.phases == Phases::Stalls;
                    let silent = now.saturating_sub(state.last_activity.max(begun));
                    if silent > if own { of.stall.max(allowed.limit / 3) } else { of.stall } {
                        return WaitEnd::Stalled { seconds: silent.as_secs_f64() };
                    }
                    if !own && now.saturating_sub(phase_since.1) > of.limit {
                        return WaitEnd::TimedOut { limit: of.limit.as_secs_f64() };
                    }
                }
                state.fatal().is_some()
            };
            if died {
                return self.afterwords(&mut done).await;
            }
            tokio::select! {
                biased;
                () = xenlab_host::interrupt::wait() => return WaitEnd::Interrupted,
                end = &mut ended => return self.last_words(end, &mut done).await,
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// The machine has ended; what it wrote last may still be on its way, and may be what was waited for or why it ended.
    async fn last_words(&self, end: MachineEnd, done: &mut impl FnMut(&State) -> bool) -> WaitEnd {
        let mut changes = self.hub.changes();
        let _ = tokio::time::timeout(AFTERWORDS, async {
            while !self.hub.state().closed {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        })
        .await;
        let mut state = self.hub.state();
        state.settle();
        if done(&state) {
            return WaitEnd::Reached;
        }
        // QEMU's own failures outrank what the guest said; a reset or power-off is explained by it.
        let guest_did =
            matches!(end, MachineEnd::GuestReset | MachineEnd::GuestPowerOff | MachineEnd::GuestPanicked);
        match state.fatal() {
            Some(sign) if guest_did => failed(sign),
            _ => WaitEnd::Ended(end),
        }
    }

    /// Listens until the console has been quiet for a moment: the lines after a sign of failure say more about it.
    async fn afterwords(&self, done: &mut impl FnMut(&State) -> bool) -> WaitEnd {
        let mut changes = self.hub.changes();
        tokio::select! {
            () = xenlab_host::interrupt::wait() => return WaitEnd::Interrupted,
            _ = tokio::time::timeout(AFTERWORDS * 5, async {
                while tokio::time::timeout(AFTERWORDS, changes.changed()).await.is_ok_and(|more| more.is_ok()) {}
            }) => {}
        }
        let mut state = self.hub.state();
        state.settle();
        match state.fatal() {
            Some(sign) if !done(&state) => failed(sign),
            _ => WaitEnd::Reached,
        }
    }
}

fn failed(sign: &Sign) -> WaitEnd {
    WaitEnd::Failed { code: sign.code.to_owned(), line: sign.text.clone() }
}
