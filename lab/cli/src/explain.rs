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
        for case in &cases {
            all.push(xenlab_verbs::explain::case(&preparer, case).await);
        }
        all.join("\n")
    });
    print(&text)
}
