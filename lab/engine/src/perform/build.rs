//! Steps on the build's own files: they need no machine and run beside the boot.

use crate::prepare::Prepared;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;
use xenlab_model::case::Case;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::{Evidence, Loss, Origin};
use xenlab_model::step::{At, Body, Observation};

/// Begins every such step of the case; the future gives their evidence.
pub fn start(case: &Case, prepared: &Arc<Prepared>) -> impl Future<Output = Vec<Evidence>> + use<> {
    let begun = Instant::now();
    let steps: Vec<_> =
        case.setup.iter().chain(&case.steps).filter(|s| s.body.at() == At::Build).cloned().collect();
    let running: Vec<_> = steps
        .into_iter()
        .map(|step| {
            let prepared = prepared.clone();
            let path = step.path.clone();
            let task = tokio::task::spawn_blocking(move || {
                let from = begun.elapsed().as_secs_f64();
                let seen = match &step.body {
                    Body::PkgConfig(wanted) => xenlab_xen::pkg_config(&prepared.build, wanted)
                        .map(Observation::PkgConfig)
                        .map_err(|e| Loss::Lab { code: e.cause().code().to_owned(), message: e.to_string() }),
                    Body::BootFiles(_) => Ok(Observation::BootFiles(xenlab_xen::boot_files(&prepared.build))),
                    other => Err(Loss::Lab {
                        code: Cause::LabInternal.code().to_owned(),
                        message: format!("a `{}` step needs a machine", other.kind()),
                    }),
                };
                (from, begun.elapsed().as_secs_f64(), seen)
            });
            (path, task)
        })
        .collect();
    async move {
        let mut all = Vec::new();
        for (step, task) in running {
            let (from, to, seen) = match task.await {
                Ok(done) => done,
                Err(error) => {
                    let loss = Loss::Lab {
                        code: Cause::LabPanic.code().to_owned(),
                        message: format!("xenlab panicked in this step: {error}"),
                    };
                    (0.0, 0.0, Err(loss))
                }
            };
            all.push(Evidence { step, origin: Origin::PowerOn, from, to, seen });
        }
        all
    }
}
