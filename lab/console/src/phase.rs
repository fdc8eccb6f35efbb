//! How far a boot has come, from the lines of its console.

use crate::demux::{Line, Speaker};
use crate::marker::Markers;
use serde::{Deserialize, Serialize};

/// How far a boot has come, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// QEMU started the processors.
    PowerOn,
    /// Firmware wrote something.
    Firmware,
    /// Xen wrote its first line.
    Xen,
    /// Xen is building dom0.
    Dom0Build,
    /// dom0's kernel wrote its first line.
    Dom0Kernel,
    /// dom0's userland started.
    Dom0Init,
    /// dom0 answered over a way in: its store and tools are up.
    Dom0Ready,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Phase; 7] = [
        Phase::PowerOn,
        Phase::Firmware,
        Phase::Xen,
        Phase::Dom0Build,
        Phase::Dom0Kernel,
        Phase::Dom0Init,
        Phase::Dom0Ready,
    ];

    /// As scenarios and events write it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::PowerOn => "power-on",
            Phase::Firmware => "firmware",
            Phase::Xen => "xen",
            Phase::Dom0Build => "dom0-build",
            Phase::Dom0Kernel => "dom0-kernel",
            Phase::Dom0Init => "dom0-init",
            Phase::Dom0Ready => "dom0-ready",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A phase was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Which.
    pub phase: Phase,
    /// Offset, in the console's bytes, one past the line that showed it.
    pub offset: u64,
}

/// Follows a boot's phases. A phase is never left for an earlier one; one that showed itself by nothing (quiet firmware, Xen with
/// `loglvl=none`) is passed over.
#[derive(Debug, Clone)]
pub struct PhaseTracker {
    markers: Markers,
    current: Phase,
    xen: bool,
    linux: bool,
}

impl PhaseTracker {
    /// For a boot whose dom0 was given this nonce in its own layer. An empty nonce means that there are no markers.
    pub fn new(nonce: impl Into<String>) -> Self {
        PhaseTracker {
            markers: Markers::new(nonce.into()),
            current: Phase::PowerOn,
            xen: false,
            linux: false,
        }
    }

    /// The latest phase reached.
    pub fn current(&self) -> Phase {
        self.current
    }

    /// Linux or a userland has spoken, and Xen never has: this is not a dom0.
    pub fn without_xen(&self) -> bool {
        self.linux && !self.xen
    }

    /// Takes a line; it may be an open one ([`Demux::open`](crate::Demux::open)), and the same line again.
    pub fn push(&mut self, line: &Line<'_>) -> Option<Transition> {
        self.xen |= line.speaker == Speaker::Xen;
        self.linux |= line.speaker == Speaker::Dom0;
        let phase = match line.speaker {
            // An open line may yet turn out to be Xen's or Linux's.
            Speaker::Firmware if line.text.trim().is_empty() || !line.complete => return None,
            Speaker::Firmware => Phase::Firmware,
            Speaker::Xen => self.by_xen(&line.text),
            Speaker::Dom0 => self.by_dom0(line)?,
            Speaker::Domain(_) => return None,
        };
        self.reach(phase, line.end)
    }

    /// Says that a phase was reached by what only the caller can know: dom0 answered over a way in.
    pub fn reach(&mut self, phase: Phase, offset: u64) -> Option<Transition> {
        if phase <= self.current {
            return None;
        }
        self.current = phase;
        Some(Transition { phase, offset })
    }

    /// Xen says what it does for dom0's building, and names dom0's processors when what they do is worth a line: with a quiet
    /// kernel that is often the first sign that it runs.
    fn by_xen(&self, text: &str) -> Phase {
        if self.current < Phase::Dom0Kernel && runs_as_dom0(text) {
            return Phase::Dom0Kernel;
        }
        if self.current < Phase::Dom0Build && builds_dom0(text) {
            return Phase::Dom0Build;
        }
        Phase::Xen
    }

    fn by_dom0(&mut self, line: &Line<'_>) -> Option<Phase> {
        match self.markers.find(line).as_ref().map(|(word, _)| word.as_str()) {
            Some("ready") => return Some(Phase::Dom0Ready),
            Some("init") => return Some(Phase::Dom0Init),
            _ => {}
        }
        // Nothing without a prefix comes from Xen once it has spoken, and dom0 cannot write before it runs.
        (self.current < Phase::Dom0Kernel && !line.text.trim().is_empty()).then_some(Phase::Dom0Kernel)
    }
}

/// A line of dom0's building, of any Xen since 4.17: `*** LOADING DOMAIN 0 ***` (xen/arch/arm/domain_build.c), `*** Building a PV Dom0
/// ***` (xen/arch/x86/pv/dom0_build.c, at log level info), ` Xen  kernel: 64-bit, lsb` and ` Dom0 kernel: …` (the same file; always),
/// `d0 has maximum 416 PIRQs` (xen/arch/x86/io_apic.c), `Loading d0 kernel from boot module @ …` (xen/arch/arm/kernel.c).
fn builds_dom0(text: &str) -> bool {
    let text = text.trim_start();
    [
        "*** LOADING DOMAIN 0 ***",
        "*** Building a PV Dom0 ***",
        "*** Building a PVH Dom0 ***",
        "Xen  kernel: ",
        "Dom0 kernel: ",
        "d0 has maximum ",
        "Dom0 has maximum ",
        "Loading d0 kernel from boot module",
        "Loading Dom0 kernel from boot module",
    ]
    .iter()
    .any(|b| text.starts_with(b))
}

/// Xen names a virtual processor of dom0 as the one that runs: `d0v0: vGICD: unhandled …`, or after the place in its source,
/// `arch/x86/traps.c:905:d0v0 …`, or with a log prefix.
fn runs_as_dom0(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find("d0v") {
        let (before, after) = (&rest[..at], &rest[at + 3..]);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let ends = after[digits..].starts_with([':', ' ']);
        // While dom0 is built Xen says what it will do with its processors; those sentences do not begin with one.
        if digits > 0 && ends && (before.is_empty() || before.ends_with(':')) {
            return true;
        }
        rest = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demux::lines;

    fn phases(record: &str, nonce: &str) -> Vec<Phase> {
        let mut tracker = PhaseTracker::new(nonce);
        lines(record.as_bytes()).iter().filter_map(|l| tracker.push(l)).map(|t| t.phase).collect()
    }

    #[test]
    fn in_order() {
        let record = "SeaBIOS\n(XEN) Xen version\n(XEN) *** Building a PV Dom0 ***\n(XEN) Freed 1kB\n[    0.000000] Linux\n\
            xenlab: init n1\n(XEN) later\nxenlab: ready n1\nxenlab: init n1\n";
        assert_eq!(phases(record, "n1"), Phase::ALL[1..]);
    }

    #[test]
    fn the_words_alone_do_nothing() {
        let record = "(XEN) Xen\n(XEN) Dom0 has maximum 2 VCPUs\nxenlab: ready\nxenlab: ready n2\nxenlab: ready n11\n\
            # echo xenlab: ready $NONCE\n(XEN) xenlab: ready n1\n(d3) xenlab: ready n1\nxenlab: ready\tn1\nready n1\n";
        assert_eq!(phases(record, "n1"), [Phase::Xen, Phase::Dom0Build, Phase::Dom0Kernel]);
        assert_eq!(
            phases("(XEN) Xen\nxenlab: ready \nxenlab: ready  x\n", ""),
            [Phase::Xen, Phase::Dom0Kernel]
        );
    }

    #[test]
    fn a_marker_cut_at_any_byte() {
        let whole = "(XEN) Xen\r\nxenlab: ready 0123abcd\r\r\n";
        let marker = whole.find("xenlab").unwrap();
        for at in marker..whole.len() - 3 {
            let cut = format!("{}(XEN) cut\r\n{}", &whole[..at], &whole[at..]);
            assert_eq!(phases(&cut, "0123abcd").last(), Some(&Phase::Dom0Ready), "cut by Xen at {at}");
        }
    }

    #[test]
    fn open_lines_say_no_more_than_whole_ones() {
        // As a reader sees it that looks at what stands open after every byte.
        let record = b"(XEN) Xen\r\n(XEN) Dom0 has maximum 2 VCPUs\r\n(XEN) *** Serial\r\n(d1) g\r\n";
        let (mut demux, mut tracker) = (crate::Demux::new(), PhaseTracker::new("n1"));
        for byte in record {
            demux.feed(&[*byte], |line| {
                tracker.push(&line);
            });
            for line in demux.open() {
                tracker.push(&line);
            }
        }
        assert_eq!(tracker.current(), Phase::Dom0Build);
    }

    #[test]
    fn dom0_is_seen_through_xen() {
        for line in [
            "d0v0: vGICD: unhandled word write",
            "d0v12 Unhandled: vec 14",
            "arch/x86/traps.c:905:d0v0 Domain attempted WRMSR",
        ] {
            assert!(runs_as_dom0(line), "{line}");
        }
        for line in [
            "d0 has maximum 416 PIRQs",
            "d0: extended region 0",
            "Allocating d0v0 stack",
            "d0v",
            "d1v0: x",
            "CONTEXT: pv guest (d0v0)",
        ] {
            assert!(!runs_as_dom0(line), "{line}");
        }
    }

    #[test]
    fn linux_alone_is_no_dom0() {
        let mut tracker = PhaseTracker::new("n1");
        for line in lines(b"BIOS\n[    0.000000] Linux version\nxenlab: init n1\n") {
            tracker.push(&line);
        }
        assert_eq!((tracker.current(), tracker.without_xen()), (Phase::Dom0Init, true));
        tracker.push(&lines(b"(XEN) late\n")[0]);
        assert!(!tracker.without_xen());
    }

    #[test]
    fn names_are_those_that_serde_writes() {
        for phase in Phase::ALL {
            let text = format!("{phase:?}");
            let kebab: String = text
                .chars()
                .enumerate()
                .flat_map(|(n, c)| {
                    let dash = (c.is_uppercase() && n > 0).then_some('-');
                    dash.into_iter().chain(std::iter::once(c.to_ascii_lowercase()))
                })
                .collect();
            assert_eq!(phase.name(), kebab);
        }
    }
}
