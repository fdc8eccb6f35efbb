//! Limits in guest time: wall time less the time the machine's vCPUs waited for a host processor.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Guest time now, counted from any fixed moment. It never runs faster than wall time.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A clock that shows wall time, for what runs beside no machine.
pub fn wall_clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || start.elapsed())
}

/// A moment in guest time by which something has to be done.
#[derive(Clone)]
pub struct Deadline {
    clock: Clock,
    end: Duration,
    limit: Duration,
}

impl Deadline {
    /// `limit` from now, by this clock.
    pub fn new(clock: Clock, limit: Duration) -> Self {
        let end = clock().saturating_add(limit);
        Deadline { clock, end, limit }
    }

    /// `limit` of wall time from now.
    pub fn wall(limit: Duration) -> Self {
        Deadline::new(wall_clock(), limit)
    }

    /// How long it was when it was made.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Guest time left, which is also the least wall time left; zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.end.saturating_sub((self.clock)())
    }

    /// It has passed.
    pub fn expired(&self) -> bool {
        self.remaining().is_zero()
    }

    /// `limit` from now by the same clock, but no later than this one.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        let limit = limit.min(self.remaining());
        Deadline::new(self.clock.clone(), limit)
    }

    /// `limit` from now by the same clock, even where that is later: for cleaning up after this one has passed.
    #[must_use]
    pub fn afresh(&self, limit: Duration) -> Self {
        Deadline::new(self.clock.clone(), limit)
    }

    /// Waits until it has passed. As guest time never runs faster than wall time, sleeping what is left is never too long.
    pub async fn passed(&self) {
        loop {
            let left = self.remaining();
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.max(Duration::from_millis(1))).await;
        }
    }
}

impl std::fmt::Debug for Deadline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Deadline({:?} left of {:?})", self.remaining(), self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_stopped_clock_stops_the_limit() {
        let ms = Arc::new(AtomicU64::new(5));
        let seen = ms.clone();
        let clock: Clock = Arc::new(move || Duration::from_millis(seen.load(Ordering::Relaxed)));
        let deadline = Deadline::new(clock, Duration::from_millis(10));
        assert_eq!(deadline.remaining(), Duration::from_millis(10));
        ms.store(14, Ordering::Relaxed);
        assert!(!deadline.expired());
        assert_eq!(deadline.within(Duration::from_secs(9)).limit(), Duration::from_millis(1));
        ms.store(15, Ordering::Relaxed);
        assert!(deadline.expired());
        assert_eq!(deadline.afresh(Duration::from_millis(3)).remaining(), Duration::from_millis(3));
    }
}
