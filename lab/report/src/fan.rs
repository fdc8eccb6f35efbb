//! The sink: stamps events, keeps them in one order, feeds every reporter.

use crate::{ReportError, Reporter};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xenlab_model::event::{Event, Sink, What};

/// How often reporters are told that time passes.
const TICK: Duration = Duration::from_millis(100);

/// Feeds every reporter the same events in the same order. [`Sink::emit`] only queues; a thread does the rest, until
/// [`Fan::finish`] or drop, which wait for what is queued.
pub struct Fan {
    began: Instant,
    queue: Mutex<Option<Sender<Event>>>,
    thread: Mutex<Option<JoinHandle<Vec<ReportError>>>>,
}

impl Fan {
    /// Begins to feed these reporters; time counts from now.
    pub fn start(reporters: Vec<Box<dyn Reporter>>) -> Self {
        let (queue, events) = mpsc::channel();
        let began = Instant::now();
        let thread = std::thread::spawn(move || {
            let mut feed = Feed { reporters, errors: Vec::new() };
            loop {
                match events.recv_timeout(TICK) {
                    Ok(event) => feed.event(&event),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return feed.errors,
                }
                // After an event too: a stream of them must not keep a display from moving.
                feed.tick(began.elapsed().as_secs_f64());
            }
        });
        Fan { began, queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) }
    }

    /// Waits until everything emitted so far is reported; what is emitted later is dropped. Gives what could not be written.
    pub fn finish(&self) -> Vec<ReportError> {
        drop(lock(&self.queue).take());
        match lock(&self.thread).take().map(JoinHandle::join) {
            Some(Ok(errors)) => errors,
            Some(Err(_)) => {
                vec![ReportError::Format { name: "reports", message: "a reporter panicked".into() }]
            }
            None => Vec::new(),
        }
    }
}

impl Sink for Fan {
    fn emit(&self, what: What) {
        // Stamped under the lock: times never go back in the order that reporters see.
        let queue = lock(&self.queue);
        let event = Event { at: self.began.elapsed().as_secs_f64(), what };
        if let Some(queue) = &*queue {
            // It fails only when the thread is gone, and then `finish` says so.
            let _ = queue.send(event);
        }
    }
}

impl Drop for Fan {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A thread that panicked while it held the lock has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

struct Feed {
    reporters: Vec<Box<dyn Reporter>>,
    errors: Vec<ReportError>,
}

impl Feed {
    fn event(&mut self, event: &Event) {
        self.each(event.at, |r| r.event(event));
    }

    fn tick(&mut self, at: f64) {
        self.each(at, |r| r.tick(at));
    }

    /// A reporter that fails is taken out, and the others are told.
    fn each(&mut self, at: f64, mut f: impl FnMut(&mut dyn Reporter) -> Result<(), ReportError>) {
        let mut notes = Vec::new();
        self.reporters.retain_mut(|reporter| match f(reporter.as_mut()) {
            Ok(()) => true,
            Err(error) => {
                notes.push(format!("{error}; {} is left as it is", reporter.name()));
                self.errors.push(error);
                false
            }
        });
        for message in notes {
            self.event(&Event { at, what: What::Note { case: None, message } });
        }
    }
}
