//! What is told of a boot that stopped, beside its cause: for a reader who does not know Xen.

use super::{PhaseEvidence, Usual};
use xenlab_console::Phase;

/// Of a line, so much is told.
const LINE: usize = 160;

/// Label and value, in the order in which they help.
pub(super) fn told(evidence: &PhaseEvidence) -> Vec<(String, String)> {
    let Some((last, since)) = evidence.reached.last().copied() else { return Vec::new() };
    let mut told = vec![("which means".to_owned(), meaning(last).to_owned())];
    let mut say = |label: &str, value: String| told.push((label.to_owned(), value));
    let way: Vec<String> = evidence.reached.iter().skip(1).map(|(p, at)| format!("{p} {at:.1} s")).collect();
    if !way.is_empty() {
        say("so far", format!("{} (seconds since power-on)", way.join(", ")));
    }
    let stood = evidence.ended - since;
    if stood > 0.0
        && let Some(usual) = &evidence.usual
    {
        say("took", took(stood, usual));
    }
    if evidence.heard.is_empty() && evidence.console_bytes == 0 {
        say("last heard", "nothing, from anybody: the console stayed empty".to_owned());
    }
    for heard in &evidence.heard {
        let ago = (evidence.ended - heard.at).max(0.0);
        say(
            "last heard",
            format!("{ago:.1} s before the end, from {}: {}", who(&heard.from), short(&heard.line)),
        );
    }
    told.extend(evidence.told.iter().cloned());
    told
}

/// What a boot in this phase has done and not done.
fn meaning(phase: Phase) -> &'static str {
    match phase {
        Phase::PowerOn => "the machine is on, and nobody has written a word: neither firmware nor Xen",
        Phase::Firmware => "the firmware runs; Xen has not written a word",
        Phase::Xen => "Xen runs and sets itself up; it has not begun to build dom0, the first system on it",
        Phase::Dom0Build => "Xen builds dom0, the first system on it; dom0's kernel has not written a word",
        Phase::Dom0Kernel => "dom0's kernel (Linux) runs; none of dom0's own programs has reported yet",
        Phase::Dom0Init => "dom0's first programs run; its services for Xen are not all up",
        Phase::Dom0Ready => "dom0 is up and answers",
    }
}

fn who(speaker: &str) -> String {
    match speaker {
        "xen" => "Xen".to_owned(),
        "firmware" => "the firmware".to_owned(),
        "dom0" => "dom0".to_owned(),
        guest => format!("guest {guest}"),
    }
}

fn short(line: &str) -> String {
    let line = line.trim();
    match line.char_indices().nth(LINE) {
        Some((at, _)) => format!("`{}…`", &line[..at]),
        None => format!("`{line}`"),
    }
}

/// How long the phase lasted, beside how long it should.
fn took(stood: f64, usual: &Usual) -> String {
    match usual {
        Usual::Boots { boots, seconds, longest } => {
            let beside = match stood / seconds.max(0.01) {
                _ if stood <= *longest => "no longer than usual".to_owned(),
                times if times < 10.0 => format!("{times:.1} times as long"),
                times => format!("{times:.0} times as long"),
            };
            let so_many = if *boots == 1 { "1 good boot".to_owned() } else { format!("{boots} good boots") };
            format!(
                "{stood:.1} s in this phase, {beside}: {so_many} of this case took {seconds:.1} s (longest {longest:.1} s)"
            )
        }
        Usual::Limit(limit) => {
            format!(
                "{stood:.1} s in this phase; no good boot of this case is known, and any boot is given {limit:.0} s for it"
            )
        }
    }
}
