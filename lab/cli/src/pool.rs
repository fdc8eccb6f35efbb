//! `xenlab pool`: machines that wait for runs.

use crate::args::{Global, Pool};
use crate::display::Display;
use crate::failure::Failure;
use crate::run::{admission, open_store, repeat, runtime};
use crate::select;
use std::sync::Arc;
use xenlab_engine::pool::serve::{self, Wish};
use xenlab_engine::{EngineError, Lab, facts, prepare::Preparer};
use xenlab_host::parent::Parent;
use xenlab_model::event::{Sink, What};
use xenlab_model::exit::Exit;
use xenlab_model::units::GuestDuration;

/// More of one template than anybody's runs take at once, and a mistyped number does not fill a host's memory.
const MOST: usize = 64;

/// `xenlab pool`
pub fn pool(args: &Pool, global: &Global) -> Result<Exit, Failure> {
    if !(1..=MOST).contains(&args.size) {
        return Err(Failure::bad_input(format!("--size {}: expected 1 to {MOST}", args.size)));
    }
    let idle: GuestDuration =
        args.idle.parse().map_err(|e| Failure::bad_input(format!("--idle {}: {e}", args.idle)))?;
    // First of all: whoever is gone by the time the machines are there was this process's parent when it began.
    let parent = Parent::watch();
    let cases = select::cases(&args.select, &facts::host())?;
    let sink = Arc::new(Display::new());
    // What a run that was killed left behind goes before anything new is started.
    if let Err(e) = xenlab_host::rundir::sweep() {
        sink.emit(What::Note { case: None, message: format!("cannot look for what earlier runs left: {e}") });
    }
    let dir = tempfile::tempdir().map_err(|e| Failure::lab(format!("no temporary folder: {e}")))?;
    let mut preparer = Preparer::new(open_store(global, sink.clone())?, sink.clone());
    preparer.admission = admission(&*sink)?;
    let lab = Arc::new(Lab {
        control: false,
        repeat: repeat(&args.select, global),
        ..Lab::new(preparer, sink.clone(), dir.path().to_owned())
    });
    let (size, idle) = (args.size, idle.0);
    let outcome = runtime()?.block_on(async {
        let outcome = serve::serve(Wish {
            lab: lab.clone(),
            cases,
            size,
            idle,
            parent,
            ready: Box::new({
                let sink = sink.clone();
                move || sink.settle()
            }),
        })
        .await;
        for why in lab.templates.settled().await {
            let message = format!("a template may not outlive a restart of this host: {why}");
            lab.sink.emit(What::Note { case: None, message });
        }
        outcome
    });
    sink.settle();
    outcome.map_err(|e| match e {
        EngineError::BadInput { message, .. } => Failure::bad_input(message),
        e => Failure::of(e.cause(), e),
    })
}
