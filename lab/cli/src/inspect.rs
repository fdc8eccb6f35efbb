//! `xenlab inspect`: what a Xen build is.

use crate::args::{Global, Inspect};
use crate::failure::Failure;
use crate::{print, run};
use std::sync::Arc;
use xenlab_model::Arch;
use xenlab_model::event::Sink;
use xenlab_model::exit::Exit;
use xenlab_model::spec::{Subject, XenSpec};
use xenlab_report::{Fan, Terminal};

/// Exits 1 when the build is damaged, so that it can be used as a check.
pub fn inspect(args: &Inspect, global: &Global) -> Result<Exit, Failure> {
    let hypervisor: XenSpec = args.spec.parse().map_err(Failure::bad_input)?;
    let tools = args.tools.as_deref().map(str::parse::<XenSpec>).transpose().map_err(Failure::bad_input)?;
    let archs: Vec<Arch> = if args.arch.is_empty() {
        Arch::ALL.to_vec()
    } else {
        args.arch.iter().map(|a| a.parse()).collect::<Result<_, String>>().map_err(Failure::bad_input)?
    };
    let subject = Subject { tools, recipe: args.recipe.recipe()?, ..Subject::of(hypervisor) };
    let fan = Arc::new(Fan::start(vec![Box::new(Terminal::stderr())]));
    let sink: Arc<dyn Sink> = fan.clone();
    let store = run::open_store(global, sink)?;
    let mut text = String::new();
    let mut all = Vec::new();
    let mut exit = Exit::Passed;
    let mut failures = Vec::new();
    let mut others = Vec::new();
    for arch in archs {
        match xenlab_xen::provide(&subject, arch, &store) {
            Ok(build) => {
                let damage = build.hypervisor.damage.clone();
                // Asked for no architecture in particular: one that the build is not for is no news.
                if args.arch.is_empty()
                    && let Some(damage) = &damage
                    && damage.cause == xenlab_model::cause::Cause::WrongArchitecture
                {
                    others.push(damage.text.clone());
                    continue;
                }
                if damage.is_some() {
                    exit = Exit::Failed;
                }
                let description = build.describe();
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&description.to_string());
                all.push(description);
            }
            Err(e) if e.is_bad_input() => failures.push(Failure::bad_input(e.to_string())),
            Err(e) => failures.push(Failure::of(e.cause(), e)),
        }
    }
    let _ = fan.finish();
    if all.is_empty() {
        // Neither architecture's: nothing was said of it, and that is no good build.
        return Err(failures.into_iter().next().unwrap_or_else(|| Failure {
            exit: Exit::Failed,
            message: format!(
                "{}: it is for no architecture that xenlab knows: {}",
                args.spec,
                others.join("; ")
            ),
        }));
    }
    // Asked for none in particular: that a build is not there for one is no news; anything else is.
    for failure in failures.iter().filter(|f| !args.arch.is_empty() || f.exit != Exit::BadInput) {
        crate::complain(&failure.message);
        exit = exit.worse(failure.exit);
    }
    if args.json {
        text = format!("{}\n", serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?);
    }
    print(&text)?;
    Ok(exit)
}
