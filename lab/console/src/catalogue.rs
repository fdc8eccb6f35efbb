//! Catalogues for the `console` step: `panic` and `warning`.
//!
//! A warning of Xen comes as a line with `WARNING`, or collected at the end of its boot in boxes of asterisks
//! (`xen/common/warning.c`). What is known to be harmless is a table, each entry with its reason.

use crate::demux::{Line, Speaker};
use crate::matcher::{Pattern, PatternSet};
use crate::signs::{Class, SignTracker};
use std::sync::LazyLock;

/// A named set of what must not be on a console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Catalogue {
    /// Ends of the hypervisor or of dom0's kernel.
    Panic,
    /// What Xen or dom0's kernel warn of, less what is known to be harmless.
    Warning,
}

/// A line, or box of lines, that a catalogue has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Code of the cause: `xen.panic`, `dom0.panic`, `xen.warning`, `dom0.warning` or a more specific one.
    pub code: &'static str,
    /// Whose.
    pub speaker: Speaker,
    /// The line; of a box its lines joined by single spaces.
    pub text: String,
    /// Offset, in the console's bytes, of its first line.
    pub start: u64,
}

/// A warning that is known to mean nothing for the verdict.
#[derive(Debug, Clone, Copy)]
pub struct Harmless {
    /// Regular expression, searched in the finding's text.
    pub pattern: &'static str,
    /// Why it is harmless, and how that is known.
    pub because: &'static str,
}

/// Lines of a box; Xen's longest has six.
const MAX_BOX: usize = 12;

/// What warns, and whose line it is.
const WARNINGS: &[(Speaker, &str)] = &[
    // printk(XENLOG_WARNING "WARNING: …"), "GICv3: WARNING: …" and the like, all over xen/.
    (Speaker::Xen, r"\bWARNING\b"),
    // xen/common/bug.c, xen/arch/arm/traps.c: a WARN() or WARN_ON().
    (Speaker::Xen, r"Xen WARN at \S+:\d+"),
    // xen/arch/arm/cpuerrata.c: each line a box of its own.
    (Speaker::Xen, r"^\*{4} .*\*{4}$"),
    // kernel/panic.c __warn(): with CPU and PID until Linux 6.16, the place first after that.
    (Speaker::Dom0, r"(?:^|\] )WARNING: (?:CPU: \d+ PID: \d+ at |\S+:\d+ at )"),
    (Speaker::Dom0, r"(?:^|\] )(?:watchdog: )?BUG: "),
    (Speaker::Dom0, r"(?:^|\] )INFO: task .+ blocked for more than \d+ seconds"),
    (Speaker::Dom0, r"(?:^|\] )rcu: INFO: .*detected .*stall"),
    (Speaker::Dom0, r"(?:^|\] )WARNING: possible (?:circular|recursive|irq) "),
];

/// Warnings that do not count.
const HARMLESS: &[Harmless] = &[
    Harmless {
        pattern: r"^\*{4} (?:No support for ARM_SMCCC_ARCH_WORKAROUND_1\.|No support for any spectre BHB workaround\.|Please update your firmware\.)",
        because: "QEMU's cortex-a57 and a72 have no firmware that could offer the Spectre v2 and BHB calls; an emulated core does not speculate. \
                  On every boot of Debian's Xen 4.17 under TCG",
    },
    Harmless {
        pattern: r"^\*{4} (?:Guests without CPU erratum workarounds can deadlock the system!|Only trusted guests should be used\.)",
        because: "cortex-a57's erratum 832075 (xen/arch/arm/cpuerrata.c goes by the core's id); an emulated core does not have it. \
                  On every boot of Debian's Xen 4.17 under TCG",
    },
    Harmless {
        pattern: "CONSOLE OUTPUT IS SYNCHRONOUS",
        because: "says that sync_console was asked for (xen/drivers/char/console.c), which is the scenario's own choice",
    },
    Harmless {
        pattern: "HVM FORCED EMULATION PREFIX IS AVAILABLE",
        because: "says that hvm_fep was asked for (xen/arch/x86/hvm/hvm.c), as XTF wants it",
    },
    Harmless {
        pattern: "Booted on (?:L1TF|MLPDS/MFBDS)-vulnerable hardware with SMT|Booted on leaky-DIV hardware with SMT",
        because: "names a flaw of the processor that the machine shows (xen/arch/x86/spec_ctrl.c); nothing that a Xen build can change",
    },
    Harmless {
        pattern: r"WARNING: (?:CPU: \d+ PID: \d+ at )?drivers/pci/msi/msi\.h:\d+",
        because: "dom0 on AArch64 is given PCI devices without an MSI controller; virtio goes on with interrupt lines. On every boot of Debian's \
                  Linux 6.1 under Xen 4.17 on QEMU's virt machine with PCI devices",
    },
];

static SET: LazyLock<PatternSet> = LazyLock::new(|| {
    PatternSet::new(WARNINGS.iter().map(|&(speaker, regex)| Pattern::of(speaker, regex)))
        .expect("the table's patterns are regular expressions: a test compiles each")
});
static KNOWN: LazyLock<regex::RegexSet> = LazyLock::new(|| {
    regex::RegexSetBuilder::new(HARMLESS.iter().map(|h| h.pattern))
        .dfa_size_limit(crate::matcher::CACHE)
        .build()
        .expect("the table's patterns are regular expressions: a test compiles each")
});

impl Catalogue {
    /// Every catalogue's name.
    pub const NAMES: [&'static str; 2] = ["panic", "warning"];

    /// The catalogue of that name, as scenarios write it.
    pub fn named(name: &str) -> Option<Catalogue> {
        match name {
            "panic" => Some(Catalogue::Panic),
            "warning" => Some(Catalogue::Warning),
            _ => None,
        }
    }

    /// Warnings that do not count, with the reasons.
    pub fn harmless() -> &'static [Harmless] {
        HARMLESS
    }

    /// Everything in these lines that the catalogue has. Give it every line of the console, whoever's; the findings say whose they are.
    pub fn scan<'a>(self, lines: impl IntoIterator<Item = &'a Line<'a>>) -> Vec<Finding> {
        match self {
            Catalogue::Panic => panics(lines),
            Catalogue::Warning => warnings(lines),
        }
    }
}

fn panics<'a>(lines: impl IntoIterator<Item = &'a Line<'a>>) -> Vec<Finding> {
    let mut tracker = SignTracker::new("");
    let mut all: Vec<_> = lines.into_iter().filter_map(|line| tracker.push(line)).collect();
    all.extend(tracker.finish());
    all.into_iter()
        .filter(|s| s.class == Class::Panic)
        .map(|s| Finding { code: s.code, speaker: s.speaker, text: s.text, start: s.start })
        .collect()
}

fn warnings<'a>(lines: impl IntoIterator<Item = &'a Line<'a>>) -> Vec<Finding> {
    let mut all = Vec::new();
    // The lines since Xen's last line of asterisks, with the offset of the first.
    let mut open: Option<(u64, Vec<&str>)> = None;
    for line in lines {
        let text = line.text.trim();
        if line.speaker == Speaker::Xen {
            if text.len() >= 20 && text.bytes().all(|b| b == b'*') {
                if let Some((start, lines)) = open.take()
                    && !lines.is_empty()
                {
                    all.push(finding(Speaker::Xen, lines.join(" "), start));
                }
                open = Some((line.end, Vec::new()));
                continue;
            }
            // A panic has a box too; after the last box comes a countdown.
            let no_box = text.is_empty() || text.starts_with("Panic on CPU") || text.starts_with("3...");
            if no_box || open.as_ref().is_some_and(|(_, lines)| lines.len() == MAX_BOX) {
                // It was none: what looked like a box's lines is judged line by line.
                if let Some((start, lines)) = open.take() {
                    all.extend(lines.iter().filter_map(|text| single(Speaker::Xen, text, start)));
                }
            }
            if let Some((start, lines)) = &mut open {
                if lines.is_empty() {
                    *start = line.start;
                }
                lines.push(text);
                continue;
            }
        }
        all.extend(single(line.speaker, text, line.start));
    }
    if let Some((start, lines)) = open {
        all.extend(lines.iter().filter_map(|text| single(Speaker::Xen, text, start)));
    }
    all.retain(|finding| !KNOWN.is_match(&finding.text));
    all
}

fn single(speaker: Speaker, text: &str, start: u64) -> Option<Finding> {
    SET.matches(speaker, text).next().map(|_| finding(speaker, text.to_owned(), start))
}

fn finding(speaker: Speaker, text: String, start: u64) -> Finding {
    Finding {
        code: if speaker == Speaker::Xen { "xen.warning" } else { "dom0.warning" },
        speaker,
        text,
        start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demux::lines;

    fn texts(catalogue: Catalogue, record: &str) -> Vec<String> {
        catalogue
            .scan(&lines(record.as_bytes()))
            .into_iter()
            .map(|f| format!("{} {}", f.code, f.text))
            .collect()
    }

    const STARS: &str = "(XEN) ***************************************************\n";

    #[test]
    fn the_tables_are_sound() {
        for (_, pattern) in WARNINGS {
            regex::Regex::new(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        }
        for entry in HARMLESS {
            regex::Regex::new(entry.pattern).unwrap_or_else(|e| panic!("{}: {e}", entry.pattern));
            assert!(entry.because.len() > 20, "{}", entry.pattern);
        }
        for name in Catalogue::NAMES {
            assert!(Catalogue::named(name).is_some());
        }
        assert_eq!(Catalogue::named("panics"), None);
    }

    #[test]
    fn boxes_of_warnings() {
        let record = format!(
            "{STARS}(XEN) SELFTEST FAILURE: CORRECT BEHAVIOR CANNOT BE GUARANTEED\n{STARS}\
             (XEN) WARNING: SILO mode is not enabled.\n(XEN) It has implications.\n{STARS}(XEN) 3... 2... 1... \n(XEN) fine\n"
        );
        assert_eq!(
            texts(Catalogue::Warning, &record),
            [
                "xen.warning SELFTEST FAILURE: CORRECT BEHAVIOR CANNOT BE GUARANTEED",
                "xen.warning WARNING: SILO mode is not enabled. It has implications.",
            ]
        );
    }

    #[test]
    fn a_panics_box_is_no_warning_and_hides_none() {
        let record =
            format!("{STARS}(XEN) Panic on CPU 0:\n(XEN) words\n{STARS}(XEN) \n(XEN) WARNING: late\n");
        assert_eq!(texts(Catalogue::Warning, &record), ["xen.warning WARNING: late"]);
        assert_eq!(texts(Catalogue::Panic, &record), ["xen.panic Panic on CPU 0: words"]);
        // Asterisks that open nothing.
        let record =
            format!("{STARS}(XEN) WARNING: one\n{}(XEN) WARNING: two\n", "(XEN) x\n".repeat(MAX_BOX + 1));
        assert_eq!(
            texts(Catalogue::Warning, &record),
            ["xen.warning WARNING: one", "xen.warning WARNING: two"]
        );
    }

    #[test]
    fn linux_warnings() {
        let record = "(XEN) Xen\n[    2.000000] WARNING: CPU: 1 PID: 98 at kernel/x.c:17 f+0x1/0x2\n[    2.000000] WARNING: kernel/x.c:17 at f+0x1\n\
            WARNING: a program's own\n[    3.000000] rcu: INFO: rcu_sched self-detected stall on CPU\n[    3.000000] watchdog: BUG: soft lockup - CPU#0\n";
        assert_eq!(texts(Catalogue::Warning, record).len(), 4);
    }

    #[test]
    fn harmless_ones_do_not_count_and_others_do() {
        assert!(
            texts(
                Catalogue::Warning,
                "(XEN) **** Only trusted guests should be used.                             ****\n"
            )
            .is_empty()
        );
        assert_eq!(texts(Catalogue::Warning, "(XEN) **** Something else entirely. ****\n").len(), 1);
        assert_eq!(
            texts(Catalogue::Warning, "(XEN) GICv3: WARNING: Invalid offset 0x0 for IRQ#1\n").len(),
            1
        );
        assert!(
            texts(
                Catalogue::Warning,
                "(XEN) Std. Loglevel: Errors and warnings\n(XEN) *** LOADING DOMAIN 0 ***\n"
            )
            .is_empty()
        );
    }
}
