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
    let (old, new) = match (&args.along, &args.new) {
        (Some(along), _) => along_axis(old, along)?,
        (None, Some(new)) => (old, side(new, args.new_xen.as_deref(), "--new-xen")?),
        // The command line asks for one of the two.
        (None, None) => return Err(Failure::bad_input("expected a second run, or --along PATH".to_owned())),
    };
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

/// Two sides of one run, by two values of an axis of its cases, `PATH` or `PATH=VALUE,VALUE`.
fn along_axis(run: Side, along: &str) -> Result<(Side, Side), Failure> {
    let (axis, wanted) = match along.split_once('=') {
        Some((axis, values)) => (axis, Some(values.split(',').map(str::to_owned).collect::<Vec<_>>())),
        None => (along, None),
    };
    let there = compare::values_of(&run, axis);
    let values = wanted.unwrap_or_else(|| there.clone());
    let known = || match there.as_slice() {
        [] => format!("no case has an axis `{axis}`"),
        some => format!("its values are {}", some.join(", ")),
    };
    let [first, second] = values.as_slice() else {
        return Err(Failure::bad_input(format!(
            "--along {along}: expected two values to compare, {}; name two: --along {axis}=VALUE,VALUE",
            known()
        )));
    };
    if let Some(missing) = values.iter().find(|v| !there.contains(v)) {
        return Err(Failure::bad_input(format!("--along {along}: no case has `{missing}`; {}", known())));
    }
    Ok((compare::with_value(&run, axis, first), compare::with_value(&run, axis, second)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use xenlab_model::compare::Sample;

    #[test]
    fn an_axis_needs_two_values_that_are_there() {
        let run = || Side {
            name: "r".to_owned(),
            samples: ["s[d=one]", "s[d=two]", "s[d=three]"]
                .map(|id| Sample { id: id.to_owned(), ..Sample::default() })
                .into(),
        };
        let (old, new) = along_axis(run(), "d=three,one").unwrap();
        assert_eq!((old.name.as_str(), new.name.as_str()), ("r with d=three", "r with d=one"));
        assert_eq!((old.samples.len(), new.samples.len()), (1, 1));
        for (along, said) in [
            ("d", "its values are one, two, three; name two: --along d=VALUE,VALUE"),
            ("e", "no case has an axis `e`"),
            ("d=one", "expected two values"),
            ("d=one,four", "no case has `four`; its values are one, two, three"),
        ] {
            let failure = along_axis(run(), along).err().unwrap();
            assert_eq!(failure.exit, Exit::BadInput, "{along}");
            assert!(failure.message.contains(said), "{along}: {}", failure.message);
        }
    }
}
