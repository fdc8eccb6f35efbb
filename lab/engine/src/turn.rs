//! The turn of a machine that stands ready: started and paused before it may run, and powered on when that costs least.

use crate::EngineError;
use crate::budget::Ticket;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// The turn of a machine that stands ready.
pub struct Turn<'a> {
    /// Comes when it is.
    pub of: Pin<Box<dyn Future<Output = Result<Ticket, EngineError>> + Send + 'a>>,
    /// The right to stand ready; it ends with power-on.
    pub ready: Option<OwnedSemaphorePermit>,
}

/// How long the clock on the board should have gone on in its second when a machine that stood ready is powered on. Xen on x86 reads that
/// clock 0.4 s after power-on, and to do so waits in a loop for a second to begin (`get_cmos_time`); in a machine whose clock starts with it
/// that is at 1.0 s, and more than half of what a test costs. One that is ready meets the edge 0.65 s after power-on instead, which leaves a busy host some time.
const EDGE: Duration = Duration::from_millis(380);
/// From here to there it is near enough.
const NEAR: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_millis(460);
/// How long after a machine's power-on the next is started to stand ready. A test takes some 0.75 s, so that one's clock is then where it should be.
pub const NEXT: Duration = Duration::from_millis(350);

/// How long to wait before it is powered on, when its clock has run for so long.
pub fn until_power_on(run: Duration) -> Duration {
    let run = Duration::from_nanos(u64::from(run.subsec_nanos()));
    match run {
        run if NEAR.contains(&run) => Duration::ZERO,
        run if run < EDGE => EDGE - run,
        run => Duration::from_secs(1) + EDGE - run,
    }
}
