//! Progress of a piece of work, as events.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use xenlab_model::event::{Sink, What};

/// A piece of work being shown. While it lives, something is emitted at least every second; dropping it ends it.
pub struct Task {
    shared: Arc<Shared>,
    /// Dropped to stop the ticking thread.
    stop: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    error: Option<String>,
}

struct Shared {
    sink: Arc<dyn Sink>,
    name: String,
    message: Mutex<String>,
    unit: String,
    total: u64,
    done: AtomicU64,
    began: Instant,
}

impl Shared {
    fn emit(&self) {
        self.sink.emit(What::Progress {
            task: self.name.clone(),
            message: self.message.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            done: self.done.load(Ordering::Relaxed),
            total: self.total,
            unit: self.unit.clone(),
        });
    }
}

impl Task {
    pub(crate) fn new(sink: Arc<dyn Sink>, name: &str, message: &str, total: u64, unit: &str) -> Task {
        let shared = Arc::new(Shared {
            sink,
            name: name.to_owned(),
            message: Mutex::new(message.to_owned()),
            unit: unit.to_owned(),
            total,
            done: AtomicU64::new(0),
            began: Instant::now(),
        });
        shared.emit();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let ticking = shared.clone();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(1))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                ticking.emit();
            }
        });
        Task { shared, stop: Some(stop), thread: Some(thread), error: None }
    }

    /// So much is done now.
    pub fn done(&self, done: u64) {
        self.shared.done.store(done, Ordering::Relaxed);
    }

    /// What is being done now.
    pub fn say(&self, message: &str) {
        *self.shared.message.lock().unwrap_or_else(PoisonError::into_inner) = message.to_owned();
    }

    /// So much more is done.
    pub fn add(&self, more: u64) {
        self.shared.done.fetch_add(more, Ordering::Relaxed);
    }

    /// Ends it by what came of it: an error is shown with it.
    pub fn end<T, E: std::fmt::Display>(mut self, result: Result<T, E>) -> Result<T, E> {
        self.error = result.as_ref().err().map(ToString::to_string);
        result
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It only ever emits; a panic in a sink is not this task's to report.
            let _ = thread.join();
        }
        self.shared.sink.emit(What::ProgressEnded {
            task: self.shared.name.clone(),
            seconds: self.shared.began.elapsed().as_secs_f64(),
            error: self.error.take(),
        });
    }
}
