//! The process that started this one, watched.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, getppid, pidfd_open};
use tokio::sync::watch;

/// The parent of this process when [`Parent::watch`] was called.
pub struct Parent(watch::Receiver<bool>);

impl Parent {
    /// Watches the parent there is now, by a thread of its own for as long as both live. Not by the parent-death signal: that follows the
    /// thread that started this process, which may end while its process goes on.
    pub fn watch() -> Parent {
        let (tell, gone) = watch::channel(false);
        // A kernel before 5.3 has no such descriptor; the parent's end is not noticed then.
        let Some(parent) = getppid().and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            return Parent(gone);
        };
        let waits = move || {
            loop {
                match poll(&mut [PollFd::new(&parent, PollFlags::IN)], None) {
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return,
                    Ok(_) => {
                        tell.send_replace(true);
                        return;
                    }
                }
            }
        };
        if let Err(error) =
            std::thread::Builder::new().name("parent".into()).stack_size(128 << 10).spawn(waits)
        {
            tracing::warn!("the parent's end will not be noticed: {error}");
        }
        Parent(gone)
    }

    /// Returns when it has ended; never where that cannot be known.
    pub async fn gone(&self) {
        let mut gone = self.0.clone();
        if gone.wait_for(|gone| *gone).await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_parent_that_lives_is_not_gone() {
        let parent = Parent::watch();
        assert!(tokio::time::timeout(Duration::from_millis(50), parent.gone()).await.is_err());
        assert!(parent.0.has_changed().is_ok(), "this kernel can watch a process");
    }
}
