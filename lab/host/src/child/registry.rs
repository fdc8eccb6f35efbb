//! Every child that lives, for what concerns all of them at once.

use super::process::Shared;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

static LIVE: Mutex<BTreeMap<u32, Arc<Shared>>> = Mutex::new(BTreeMap::new());

fn live() -> MutexGuard<'static, BTreeMap<u32, Arc<Shared>>> {
    LIVE.lock().unwrap_or_else(|e| e.into_inner())
}

pub(super) fn add(shared: Arc<Shared>) {
    live().insert(shared.pid(), shared);
}

pub(super) fn remove(pid: u32) {
    live().remove(&pid);
}

/// Wakes everyone who waits for a child, to look at the interrupt flag.
pub(crate) fn wake_all() {
    let all: Vec<_> = live().values().cloned().collect();
    for child in all {
        child.wake();
    }
}

/// Kills every child, with its group.
pub(crate) fn kill_all() {
    let all: Vec<_> = live().values().cloned().collect();
    for child in all {
        child.kill();
    }
}
