//! `xenlab explain`.

use crate::args::{Explain, Global};
use crate::failure::Failure;
use crate::{print, run, select};
use std::sync::Arc;
use xenlab_engine::prepare::Preparer;
use xenlab_model::event::Silent;
use xenlab_model::exit::Exit;

/// Nothing is fetched, built or booted.
pub fn explain(args: &Explain, global: &Global) -> Result<Exit, Failure> {
    let cases = select::cases(&args.select, &xenlab_engine::facts::host())?;
    let offline = Global { offline: true, store: global.store.clone(), ..*global };
    let store = run::open_store(&offline, Arc::new(Silent))?;
    let preparer = Preparer::new(store, Arc::new(Silent));
    let text = run::runtime()?.block_on(async {
        let mut all = Vec::new();
        let mut problems: Vec<String> = Vec::new();
        for case in &cases {
            match xenlab_verbs::explain::case(&preparer, case).await {
                Ok(text) => all.push(text),
                Err(error) => {
                    let problem = error.to_string();
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                }
            }
        }
        // As `run` would: every wrong name at once, before anything is said of the rest.
        if problems.is_empty() { Ok(all.join("\n")) } else { Err(Failure::bad_input(problems.join("\n"))) }
    })?;
    print(&text)
}
