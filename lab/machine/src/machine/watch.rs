//! How a machine ends: what its monitor and its process say.

use super::SETTLE;
use super::process::{Over, Process};
use crate::qmp::{Event, Qmp};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};
use xenlab_host::child::Ended;
use xenlab_model::evidence::MachineEnd;

/// What there is to say of a machine whose owner is gone.
const LEASE_LOST: &str = "the pool that ran the machine is gone";

/// What an event says about the machine's end (QEMU, qapi/run-state.json, `ShutdownCause`).
pub(super) fn end_of(event: &Event) -> Option<MachineEnd> {
    let text = |key| event.data.get(key).and_then(Value::as_str);
    match event.name.as_str() {
        "GUEST_PANICKED" => Some(MachineEnd::GuestPanicked),
        "SHUTDOWN" => match text("reason") {
            Some("guest-reset" | "subsystem-reset" | "snapshot-load") => Some(MachineEnd::GuestReset),
            Some("guest-shutdown") => Some(MachineEnd::GuestPowerOff),
            Some("guest-panic") => Some(MachineEnd::GuestPanicked),
            Some("host-error") => Some(MachineEnd::InternalError),
            // What we asked for, or a signal from outside: how the process ends says it.
            _ => None,
        },
        _ => None,
    }
}

/// Waits for the first thing that ends the machine, and says it.
pub(super) async fn watch_over(child: Arc<Process>, qmp: Qmp, state: Arc<watch::Sender<Option<MachineEnd>>>) {
    let mut events = qmp.events();
    let says = |end: MachineEnd| {
        state.send_if_modified(|s| s.is_none() && s.replace(end).is_none());
    };
    loop {
        tokio::select! {
            ended = child.wait() => {
                // What the monitor said before is read first: it is the reason.
                let _ = tokio::time::timeout(SETTLE, qmp.lost()).await;
                says(exited(&child, ended));
                return;
            }
            why = qmp.lost() => {
                match tokio::time::timeout(SETTLE, child.wait()).await {
                    Ok(ended) => says(exited(&child, ended)),
                    Err(_) => says(MachineEnd::Protocol(why)),
                }
                return;
            }
            event = events.recv() => {
                let stopped = match event {
                    Ok(event) => event.name == "STOP",
                    // Too many events to keep up with: one of them may have been it.
                    Err(broadcast::error::RecvError::Lagged(_)) => true,
                    Err(broadcast::error::RecvError::Closed) => false,
                };
                if stopped && let Some(end) = stopped_by(&qmp).await {
                    says(end);
                }
            }
        }
    }
}

/// Why the machine stopped, when that is an end of it.
async fn stopped_by(qmp: &Qmp) -> Option<MachineEnd> {
    let status = qmp.execute("query-status", Value::Null).await.ok()?;
    match status.get("status").and_then(Value::as_str)? {
        "internal-error" => Some(MachineEnd::InternalError),
        "guest-panicked" => Some(MachineEnd::GuestPanicked),
        "io-error" => Some(MachineEnd::Protocol(
            "QEMU stopped the machine: a disk image could not be read or written".to_owned(),
        )),
        _ => None,
    }
}

fn exited(child: &Process, ended: Over) -> MachineEnd {
    let stderr = child.stderr_tail();
    let ended = match ended {
        Over::Ended(ended) => ended,
        Over::LeaseLost => return MachineEnd::Protocol(LEASE_LOST.to_owned()),
    };
    match ended {
        Ok(Ended::Signal(signal)) => MachineEnd::QemuKilled { signal, stderr },
        // QEMU leaves in an orderly way at SIGTERM and SIGINT, with status 0, and says so.
        Ok(Ended::Exit(status)) => match terminated(&stderr) {
            Some(signal) => MachineEnd::QemuKilled { signal, stderr },
            None => MachineEnd::QemuExited { status, stderr },
        },
        Err(error) => MachineEnd::QemuExited { status: 127, stderr: error.to_string() },
    }
}

/// `qemu-system-x86_64: terminating on signal 15 from pid 123 (bash)` (QEMU, `qemu_kill_report`).
pub(super) fn terminated(stderr: &str) -> Option<i32> {
    stderr
        .lines()
        .rev()
        .find_map(|l| l.split_once("terminating on signal ")?.1.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Instant;

    #[test]
    fn events_that_end_a_machine() {
        let end = |name: &str, data| end_of(&Event { at: Instant::now(), name: name.to_owned(), data });
        assert_eq!(
            end("SHUTDOWN", json!({"guest": true, "reason": "guest-reset"})),
            Some(MachineEnd::GuestReset)
        );
        assert_eq!(
            end("SHUTDOWN", json!({"guest": true, "reason": "guest-shutdown"})),
            Some(MachineEnd::GuestPowerOff)
        );
        assert_eq!(end("SHUTDOWN", json!({"guest": false, "reason": "host-qmp-quit"})), None);
        assert_eq!(end("GUEST_PANICKED", json!({"action": "pause"})), Some(MachineEnd::GuestPanicked));
        assert_eq!(end("STOP", Value::Null), None);
        assert_eq!(end("NEVER_HEARD_OF", json!(3)), None);
    }

    #[test]
    fn an_orderly_end_by_a_signal_is_told_from_an_exit() {
        assert_eq!(terminated("qemu-system-x86_64: terminating on signal 15 from pid 12 (sh)\n"), Some(15));
        assert_eq!(terminated("qemu-system-x86_64: all well\n"), None);
    }
}
