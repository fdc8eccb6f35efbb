//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends everything at once.

use crate::{budget, child, rundir};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::sync::watch;
use xenlab_model::Exit;

/// How long an orderly end may take; everything is over within 3 s of the signal.
const ORDERLY: Duration = Duration::from_millis(2700);

static ASKED: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::channel(false).0);

/// Takes over SIGINT and SIGTERM for the rest of the process. The first asks ([`requested`], [`wait`], and every
/// blocking [`Command::output`](crate::Command::output) returns); the second kills every child with its group,
/// removes the run folders and exits with 130.
///
/// # Errors
/// When the host refuses the handler or its thread.
pub fn install() -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).stack_size(256 << 10).spawn(move || {
        for _ in signals.forever() {
            if requested() {
                leave();
                std::process::exit(Exit::Interrupted.code().into());
            }
            request();
            // Whatever does not come to its end in time is ended: who asked does not have to ask twice.
            let overdue = || {
                std::thread::sleep(ORDERLY);
                leave();
                std::process::exit(Exit::Interrupted.code().into());
            };
            let timer =
                std::thread::Builder::new().name("overdue".into()).stack_size(256 << 10).spawn(overdue);
            if let Err(error) = timer {
                tracing::warn!("nothing bounds the orderly end: {error}");
            }
        }
    })?;
    Ok(())
}

/// Ends what is still there of this process's doing: children with their groups, run folders, tickets. The last thing before it exits,
/// for a thread that is cut off then drops nothing.
pub fn leave() {
    child::kill_all();
    rundir::remove_all();
    budget::remove_all();
}

/// Asks for an orderly end, as the first signal does.
pub fn request() {
    ASKED.send_replace(true);
    child::wake_all();
}

/// An end was asked for.
pub fn requested() -> bool {
    *ASKED.borrow()
}

/// Returns when an end is asked for; at once when it was already.
pub async fn wait() {
    let mut asked = ASKED.subscribe();
    // The sender is static: it is never gone.
    let _ = asked.wait_for(|asked| *asked).await;
}
