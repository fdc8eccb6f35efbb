//! What is found out about a bad end when the machine is gone: what the dump of a crash tells, where in its source a Xen was, and how long
//! the phase takes as a rule.

use crate::bundle::{self, Bundle};
use crate::limits;
use std::sync::Arc;
use xenlab_console::{Line, Phase, Who, crash, failed_units, lines};
use xenlab_model::cause::Cause;
use xenlab_model::evidence::{Evidence, Loss, WaitEnd};
use xenlab_model::step::Observation;
use xenlab_model::step::phase::{PhaseEvidence, Usual};
use xenlab_xen::XenBuild;

/// How many good boots of a case are known, and how long a phase took in them: the median and the longest, in seconds.
pub type Known = Arc<dyn Fn(&str, &str, Phase) -> Option<(u32, f64, f64)> + Send + Sync>;

/// Puts into the evidence what a reader wants to know of a bad end, so that a replay has it too.
pub async fn place(
    evidence: &mut [Evidence],
    build: &Arc<XenBuild>,
    bundle: &Bundle,
    (known, case, kvm): (Option<&Known>, &str, bool),
) {
    for seen in evidence.iter_mut().filter_map(stopped) {
        let Some((last, _)) = seen.reached.last() else { continue };
        let before = known.and_then(|known| known(case, build.arch.name(), *last));
        seen.usual = Some(match before {
            Some((boots, seconds, longest)) => Usual::Boots { boots, seconds, longest },
            None => Usual::Limit(limits::phase(*last, kvm).limit.as_secs_f64()),
        });
    }
    if !evidence.iter_mut().any(|e| ended(e).is_some()) {
        return;
    }
    let (build, dir) = (build.clone(), bundle.dir().to_owned());
    let found = crate::blocking(move || {
        let console = bundle::console(&dir)?;
        let place = xenlab_xen::locate(&build, &console);
        Ok((dissected(&build, &console, place.as_deref()), place))
    });
    // It is an extra: an end of which no more is known is one all the same.
    let Ok((told, place)) = found.await else { return };
    for (by_line, into) in evidence.iter_mut().filter_map(ended) {
        if let Some((code, line)) = by_line {
            let of_xen =
                [Cause::XenPanic, Cause::XenPageFault, Cause::XenBug].iter().any(|c| c.code() == code);
            if let Some(place) = place.as_ref().filter(|_| of_xen) {
                line.push_str(&format!("; in {place}"));
            }
        }
        into.clone_from(&told);
    }
}

/// A wait for a phase that ended badly.
fn stopped(evidence: &mut Evidence) -> Option<&mut PhaseEvidence> {
    match &mut evidence.seen {
        Ok(Observation::Phase(seen)) if seen.end != WaitEnd::Reached => Some(seen),
        _ => None,
    }
}

/// Values by label.
type Told = Vec<(String, String)>;

/// A bad end that the console may tell more of: the code and line that told it, where it was one, and where to put what is found out.
fn ended(evidence: &mut Evidence) -> Option<(Option<(&String, &mut String)>, &mut Told)> {
    match &mut evidence.seen {
        Err(Loss::Guest { code, line, told }) => Some((Some((code, line)), told)),
        Ok(Observation::Phase(PhaseEvidence { end, told, .. })) => match end {
            WaitEnd::Failed { code, line } => Some((Some((code, line)), told)),
            WaitEnd::Stalled { .. } | WaitEnd::TimedOut { .. } | WaitEnd::Ended(_) => Some((None, told)),
            WaitEnd::Reached | WaitEnd::Interrupted => None,
        },
        _ => None,
    }
}

/// What a console tells of a bad end, by label: the dump of its first crash, and what dom0's systemd could not start. `place` is what is known of
/// the crash in the source.
fn dissected(build: &XenBuild, console: &[u8], place: Option<&str>) -> Told {
    let lines = lines(console);
    let mut told = crashed(build, &lines, place);
    let units = failed_units(&lines);
    if !units.is_empty() {
        told.push(("did not start".to_owned(), units.join("; ")));
    }
    told
}

/// The dump of the first crash on a console.
fn crashed(build: &XenBuild, lines: &[Line<'_>], place: Option<&str>) -> Told {
    let Some(crash) = crash(lines) else { return Vec::new() };
    let mut told = Vec::new();
    let mut say = |label: &str, value: Option<String>| told.extend(value.map(|v| (label.to_owned(), v)));
    say("what happened", crash.what);
    let of = match crash.who {
        Who::Xen => "Xen",
        Who::Dom0 => "dom0's kernel",
    };
    let unknown = match crash.who {
        Who::Xen if place.is_none_or(|place| !place.contains(" (")) => match xenlab_xen::symbols(build) {
            None => "; source lines are not known: there is no xen-syms of this build",
            Some(_) => {
                "; source lines are not known: xen-syms has none, a build with `--build-option debug=true` does"
            }
        },
        _ => "",
    };
    let at = crash.at.clone();
    say("where", crash.at.map(|at| format!("{of}, at {at}{unknown}")));
    // Where the processor was is the innermost of the functions.
    let inner = usize::from(
        crash.trace.first().is_some_and(|f| at.as_ref().is_some_and(|at| at.starts_with(f.as_str()))),
    );
    let trace = crash.trace.get(inner..).unwrap_or_default();
    say("called from", (!trace.is_empty()).then(|| trace.join(" < ")));
    say("working for", crash.process.map(|p| format!("the program `{p}`")));
    let registers: Vec<String> = crash.registers.iter().map(|(n, v)| format!("{n}={v}")).collect();
    say("registers", (!registers.is_empty()).then(|| registers.join(" ")));
    told
}
