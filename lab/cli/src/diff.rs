//! `xenlab diff`: two recorded runs compared.

use crate::args::{Diff, Global};
use crate::failure::Failure;
use crate::{history, print};
use std::path::Path;
use xenlab_engine::{EngineError, samples};
use xenlab_model::compare::{self, Side};
use xenlab_model::exit::Exit;
use xenlab_report::Style;

/// Exits 1 where something got worse.
pub fn diff(args: &Diff, global: &Global) -> Result<Exit, Failure> {
    let old = side(&args.old, args.old_xen.as_deref(), "--old-xen")?;
    let new = side(&args.new, args.new_xen.as_deref(), "--new-xen")?;
    let comparison = compare::compare(&old, &new, &history::past(global, [&old, &new]));
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&comparison).map_err(anyhow::Error::from)?)
    } else if args.markdown {
        xenlab_report::compare::markdown(&comparison)
    } else {
        xenlab_report::compare::text(Style::of_stdout(), &comparison)
    };
    print(&text)?;
    Ok(comparison.exit())
}

/// One side: the recorded cases of the build that is named, or of the only one there is.
pub fn side(dir: &Path, subject: Option<&str>, flag: &str) -> Result<Side, Failure> {
    let mut sides = samples::sides(dir).map_err(|e| match e {
        EngineError::NotABundle { .. } | EngineError::NoBundles { .. } => Failure::bad_input(e.to_string()),
        EngineError::Bundle { ref source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Failure::bad_input(e.to_string())
        }
        e => Failure::lab(e.to_string()),
    })?;
    let names = |sides: &[Side]| sides.iter().map(|s| format!("`{}`", s.name)).collect::<Vec<_>>().join(", ");
    match subject {
        Some(subject) => match sides.iter().position(|s| s.name == subject) {
            Some(at) => Ok(sides.swap_remove(at)),
            None => Err(Failure::bad_input(format!(
                "{flag} {subject}: {} has no case of it; its builds are {}",
                dir.display(),
                names(&sides)
            ))),
        },
        None if sides.len() == 1 => Ok(sides.swap_remove(0)),
        None => Err(Failure::bad_input(format!(
            "{}: it has cases of several builds, {}; say which one with {flag}",
            dir.display(),
            names(&sides)
        ))),
    }
}
