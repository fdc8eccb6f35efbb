//! `xenlab xsa`: which security advisories a Xen build has the fixes of.

use crate::args::{Global, Xsa};
use crate::failure::Failure;
use crate::{print, run};
use std::path::Path;
use std::sync::Arc;
use xenlab_model::Arch;
use xenlab_model::date::Date;
use xenlab_model::event::Sink;
use xenlab_model::exit::Exit;
use xenlab_model::spec::Subject;
use xenlab_model::xsa::{Allowed, Report};
use xenlab_report::{Fan, Style, Terminal};
use xenlab_verbs::xsa::{Asked, XsaError};

/// Exits 1 where an advisory is open, and where nothing tells how one stands and that is not allowed.
pub fn xsa(args: &Xsa, global: &Global) -> Result<Exit, Failure> {
    let archs: Vec<Arch> = match args.arch.as_deref() {
        Some(arch) => vec![arch.parse().map_err(Failure::bad_input)?],
        None => Arch::ALL.to_vec(),
    };
    let subject = Subject {
        expect_version: args.expect_version.clone(),
        recipe: args.recipe.recipe()?,
        ..Subject::of(args.spec.parse().map_err(Failure::bad_input)?)
    };
    let allowed = match &args.allow_unknown {
        None => Allowed::None,
        Some(these) if these.is_empty() => Allowed::All,
        Some(these) => Allowed::These(these.clone()),
    };
    let report = report(&args.feed, args.history.as_deref(), &subject, &archs, &allowed, global)?;
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?)
    } else if args.markdown {
        xenlab_report::xsa::markdown(&report, args.all)
    } else {
        xenlab_report::xsa::text(Style::of_stdout(), &report, args.all)
    };
    print(&text)?;
    Ok(report.exit())
}

/// How a feed stands to a build, with progress on the terminal.
pub fn report(
    feed: &Path,
    history: Option<&Path>,
    subject: &Subject,
    archs: &[Arch],
    allowed: &Allowed,
    global: &Global,
) -> Result<Report, Failure> {
    let fan = Arc::new(Fan::start(vec![Box::new(Terminal::stderr())]));
    let sink: Arc<dyn Sink> = fan.clone();
    let store = run::open_store(global, sink)?;
    let today = Date::of_time(&xenlab_engine::now_rfc3339());
    let found = xenlab_verbs::xsa::report(&Asked { feed, subject, archs, history, allowed, today }, &store);
    let _ = fan.finish();
    found.map_err(|e| match e {
        XsaError::Input(message) => Failure::bad_input(message),
        XsaError::Xen(e) if e.is_bad_input() => Failure::bad_input(e.to_string()),
        XsaError::Xen(e) => Failure::of(e.cause(), e),
        XsaError::Lab(message) => Failure::lab(message),
    })
}
