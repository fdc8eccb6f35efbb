//! A display that ends before what it shows does: of a pool that waits for hours, of a machine that somebody works in.

use std::sync::{Mutex, PoisonError};
use xenlab_model::event::{Sink, What};
use xenlab_report::{Fan, Terminal};

/// What is shown while machines are got ready as a run shows that; once that is over, notes line by line and nothing else.
pub struct Display(Mutex<Option<Fan>>);

impl Sink for Display {
    fn emit(&self, what: What) {
        match (&*self.0.lock().unwrap_or_else(PoisonError::into_inner), what) {
            (Some(fan), what) => fan.emit(what),
            (None, What::Note { message, .. }) => {
                crate::complain(&xenlab_console::escape(&message));
            }
            (None, _) => {}
        }
    }
}

impl Display {
    /// On the terminal.
    pub fn new() -> Display {
        Display(Mutex::new(Some(Fan::start(vec![Box::new(Terminal::stderr())]))))
    }

    /// That is over.
    pub fn settle(&self) {
        if let Some(fan) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = fan.finish();
        }
    }
}
