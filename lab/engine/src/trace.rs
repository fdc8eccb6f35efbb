//! Where in its source a Xen was when it panicked, told with the line that says so.

use crate::bundle::{self, Bundle};
use std::sync::Arc;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::{Evidence, Loss, WaitEnd};
use xenlab_model::step::Observation;
use xenlab_xen::XenBuild;

/// Puts the place to every panic of Xen's in the evidence, so that a replay has it too.
pub async fn place(evidence: &mut [Evidence], build: &Arc<XenBuild>, bundle: &Bundle) {
    let mut lines: Vec<&mut String> = evidence.iter_mut().filter_map(panic_line).collect();
    if lines.is_empty() {
        return;
    }
    let (build, dir) = (build.clone(), bundle.dir().to_owned());
    let found = crate::blocking(move || Ok(xenlab_xen::locate(&build, &bundle::console(&dir)?))).await;
    // It is an extra: a panic whose place is not known is one all the same.
    if let Ok(Some(place)) = found {
        for line in &mut lines {
            line.push_str(&format!("; in {place}"));
        }
    }
}

fn panic_line(evidence: &mut Evidence) -> Option<&mut String> {
    let (code, line) = match &mut evidence.seen {
        Err(Loss::Guest { code, line }) => (code, line),
        Ok(Observation::Phase(seen)) => match &mut seen.end {
            WaitEnd::Failed { code, line } => (code, line),
            _ => return None,
        },
        _ => return None,
    };
    (code == Cause::XenPanic.code()).then_some(line)
}
