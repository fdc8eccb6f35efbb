//! What is seen and not judged, compared by value.

use super::console::{Remark, remarks};
use super::{Class, Folder, Line, Sample};
use crate::fact::FactValue;
use crate::step::Observation;
use crate::step::boot_files::BootFilesEvidence;
use crate::step::pkg_config::{ModuleSeen, Outcome, PkgConfigEvidence};
use crate::step::store::StoreEvidence;
use crate::step::xl_info;
use crate::store::trace;
use crate::{fact::FactType, version};
use std::collections::{BTreeMap, BTreeSet};
use xenlab_console::Speaker;

/// A line by its values: same, changed, new, or gone, which is what `loss` says.
pub fn line(topic: &str, name: &str, old: Option<&str>, new: Option<&str>, loss: Class) -> Line {
    let class = match (old, new) {
        (Some(a), Some(b)) if a == b => Class::Same,
        (Some(_), None) => loss,
        (None, Some(_)) => Class::New,
        _ => Class::Changed,
    };
    Line {
        topic: topic.to_owned(),
        name: name.to_owned(),
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
        class,
        note: None,
        of: BTreeSet::new(),
    }
}

/// A line for each member of a set: there on both sides, new, or gone, which is what `loss` says.
pub fn members(topic: &str, old: &BTreeSet<String>, new: &BTreeSet<String>, loss: Class) -> Vec<Line> {
    let there = |set: &BTreeSet<String>, member: &String| set.contains(member).then_some("yes");
    old.union(new).map(|m| line(topic, m, there(old, m), there(new, m), loss)).collect()
}

impl Line {
    /// With a note, where it is not the same.
    #[must_use]
    pub fn noted(mut self, note: &str) -> Line {
        if self.class != Class::Same {
            self.note = Some(note.to_owned());
        }
        self
    }

    fn class(mut self, class: Class, note: &str) -> Line {
        self.class = class;
        self.note = Some(note.to_owned());
        self
    }
}

/// The topic of boot times, which reports show whether they differ or not.
pub const BOOT: &str = "boot, in guest time";

/// Where a phase of that name comes in a boot.
pub fn phase_order(name: &str) -> usize {
    let mut all = xenlab_console::Phase::ALL.into_iter();
    all.position(|phase| phase.name() == name).unwrap_or(usize::MAX)
}

/// How the topics of consoles begin.
const WARNINGS: &str = "warnings of ";
const COMPLAINTS: &str = "complaints of ";

/// Adds lines; those that say the same of another case become one.
pub(super) fn merge(into: &mut Vec<Line>, lines: impl IntoIterator<Item = Line>) {
    for line in lines {
        // Of two lines on a console that say the same the clock, a processor or an address is another.
        let said = line.topic.starts_with(WARNINGS) || line.topic.starts_with(COMPLAINTS);
        let same = |have: &&mut Line| {
            (&have.topic, &have.name, have.class, &have.note)
                == (&line.topic, &line.name, line.class, &line.note)
                && (said || (&have.old, &have.new) == (&line.old, &line.new))
        };
        match into.iter_mut().find(same) {
            Some(have) => have.of.extend(line.of),
            None => into.push(line),
        }
    }
}

/// Every line of a case. Nothing, where one side has no such case: that is told of the case itself.
pub(super) fn lines(id: &str, old: &[&Sample], new: &[&Sample]) -> Vec<Line> {
    if old.is_empty() || new.is_empty() {
        return Vec::new();
    }
    let mut all = facts(old, new);
    // An instance of XTF provokes what it says, and how long it takes is its own.
    let instance = |s: &&Sample| s.verdict.as_ref().is_some_and(|v| v.xtf.is_some());
    if !old.iter().chain(new).any(instance) {
        all.extend(xl(old, new));
        all.extend(modules(old, new));
        all.extend(boot_files(old, new));
        all.extend(store_answers(old, new));
        all.extend(times(old, new));
        all.extend(consoles(old, new));
    }
    for line in &mut all {
        line.of.insert(id.to_owned());
    }
    all
}

/// What a fact that is there on the old side only means.
const FACTS: &[(&str, &str, &str, Class)] = &[
    ("build.declared-version", "version", "declared", Class::Changed),
    ("build.image-version", "version", "of the image", Class::Changed),
    ("build.branch", "version", "branch", Class::Changed),
    ("build.tools-branch", "version", "branch of the tools", Class::Changed),
    ("build.build-id", "version", "build-id", Class::Changed),
    ("build.efi-build-id", "version", "build-id of the EFI image", Class::Changed),
    ("build.compiler", "version", "compiler", Class::Changed),
    ("build.parts", "parts of the build", "", Class::Regression),
    ("build.efi", "parts of the build", "EFI image", Class::Regression),
    ("build.xenstored", "store daemons", "", Class::Regression),
    ("build.device-model", "parts of the build", "device model of HVM guests", Class::Regression),
    ("build.pkg-config", "pkg-config modules", "", Class::Regression),
    // An option may have been renamed or be no option any more; what it means for guests is in the capabilities.
    ("build.config", "Kconfig", "", Class::Changed),
    ("qemu.version", "conditions", "QEMU", Class::Changed),
    ("machine.accel", "conditions", "accelerator", Class::Changed),
    ("machine.cpus", "conditions", "processors", Class::Changed),
    ("machine.cpu", "conditions", "CPU model", Class::Changed),
    ("dom0.memory", "conditions", "dom0's memory", Class::Changed),
    ("dom0.device-model", "conditions", "device model asked for", Class::Changed),
    ("xen.args", "conditions: Xen's arguments", "", Class::Changed),
    ("host.arch", "conditions", "host", Class::Changed),
];

fn facts(old: &[&Sample], new: &[&Sample]) -> Vec<Line> {
    let known = |side: &[&Sample], name: &str| side.iter().find_map(|s| s.facts.get(name).cloned());
    let mut all = Vec::new();
    for (fact, topic, name, loss) in FACTS {
        match (known(old, fact), known(new, fact)) {
            (None, None) => {}
            (Some(FactValue::Set(a)), Some(FactValue::Set(b))) => all.extend(members(topic, &a, &b, *loss)),
            (Some(FactValue::Flag(a)), Some(FactValue::Flag(b))) => {
                let there = |flag: bool| flag.then_some("yes");
                if a || b {
                    all.push(line(topic, name, there(a), there(b), *loss));
                }
            }
            (a, b) => {
                let name = if name.is_empty() { fact } else { name };
                let (a, b) = (a.map(|v| v.to_string()), b.map(|v| v.to_string()));
                let one = line(topic, name, a.as_deref(), b.as_deref(), *loss);
                all.push(match (&one.old, &one.new) {
                    // A fact that is not known is not "no".
                    (Some(_), None) if *fact != "build.device-model" => {
                        one.class(Class::NotChecked, "not known of the new side")
                    }
                    (None, Some(_)) if *fact != "build.device-model" => {
                        one.class(Class::NoBaseline, "not known of the old side")
                    }
                    _ => one,
                });
            }
        }
    }
    all
}

/// Fields of `xl info` that are another at each look, or said elsewhere.
const XL_SKIPPED: &[&str] = &[
    "host",
    "free_memory",
    "cpu_mhz",
    "sharing_freed_memory",
    "sharing_used_memory",
    "outstanding_claims",
    "free_cpus",
    "build_id",
    "cc_compiler",
    "xen_major",
    "xen_minor",
    "xen_extra",
];

fn xl(old: &[&Sample], new: &[&Sample]) -> Vec<Line> {
    let said = |side: &[&Sample]| -> Option<(BTreeMap<String, String>, Folder)> {
        side.iter().find_map(|sample| {
            let seen = sample.evidence.iter().rev().find_map(|e| match &e.seen {
                Ok(Observation::XlInfo(xl)) if xl.command.ok() => Some(xl),
                _ => None,
            })?;
            let fields = xl_info::parse(&seen.command.stdout.text);
            let own = fields.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            Some((own, Folder::of(sample)))
        })
    };
    let (Some((a, fold_a)), Some((b, fold_b))) = (said(old), said(new)) else { return Vec::new() };
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut all = Vec::new();
    for name in names.into_iter().filter(|n| !XL_SKIPPED.contains(&n.as_str())) {
        let (x, y) = (a.get(name).map(String::as_str), b.get(name).map(String::as_str));
        if xl_info::field_type(name) == FactType::Set {
            let set = |v: Option<&str>| v.unwrap_or("").split_whitespace().map(str::to_owned).collect();
            all.extend(members(&format!("capabilities: {name}"), &set(x), &set(y), Class::Regression));
            continue;
        }
        let topic = match name.as_str() {
            "release" | "version" | "machine" => "conditions: dom0's kernel",
            _ => "xl info",
        };
        let one = line(topic, name, x, y, Class::Changed);
        let same_but_own = x.map(|v| fold_a.fold(v)) == y.map(|v| fold_b.fold(v));
        all.push(if same_but_own && one.class == Class::Changed {
            one.noted("differs in nothing but its own version")
        } else {
            one
        });
    }
    all
}

fn evidence<'a, T>(
    side: &[&'a Sample],
    of: impl Fn(&'a Observation) -> Option<T>,
) -> Option<(T, &'a Sample)> {
    side.iter().find_map(|sample| {
        let seen = sample.evidence.iter().filter_map(|e| e.seen.as_ref().ok()).find_map(&of)?;
        Some((seen, *sample))
    })
}

/// Versions and sonames of the modules that both have; those that are gone or new are facts.
fn modules(old: &[&Sample], new: &[&Sample]) -> Vec<Line> {
    fn of(seen: &Observation) -> Option<&PkgConfigEvidence> {
        match seen {
            Observation::PkgConfig(e) if e.absent.is_none() => Some(e),
            _ => None,
        }
    }
    let (Some((a, _)), Some((b, _))) = (evidence(old, of), evidence(new, of)) else { return Vec::new() };
    let mut all = Vec::new();
    for x in &a.modules {
        let Some(y) = b.modules.iter().find(|y| y.name == x.name) else { continue };
        let (was, is) = (module(x), module(y));
        let one = line("pkg-config modules", &x.name, Some(&was), Some(&is), Class::Regression);
        if one.class == Class::Same {
            all.push(one);
            continue;
        }
        let moves = |m: &ModuleSeen, branch: &str| match &m.version {
            Outcome::Said(v) => *v == format!("{branch}.0"),
            Outcome::Failed(_) => false,
        };
        let sonames =
            |m: &ModuleSeen| -> Vec<String> { m.libraries.iter().filter_map(|l| l.soname.clone()).collect() };
        let gone_back = match (&x.version, &y.version) {
            (Outcome::Said(x), Outcome::Said(y)) => version::compare(y, x).is_lt(),
            (Outcome::Said(_), Outcome::Failed(_)) => true,
            _ => false,
        };
        all.push(if moves(x, &a.branch) && moves(y, &b.branch) {
            one.noted("moves with the branch: what links to it must be built again")
        } else if gone_back {
            one.class(Class::Regression, "its version went back")
        } else if sonames(x) != sonames(y) {
            one.noted("another soname: what links to it must be built again")
        } else {
            one
        });
    }
    all
}

fn module(m: &ModuleSeen) -> String {
    let version = match &m.version {
        Outcome::Said(version) => version.clone(),
        Outcome::Failed(why) => format!("pkg-config fails: {}", why.lines().next().unwrap_or("")),
    };
    // The library has the module's name, or one that does not change.
    let number =
        |soname: &str| soname.split_once(".so").map_or(soname.to_owned(), |(_, n)| format!(".so{n}"));
    let numbers: BTreeSet<String> =
        m.libraries.iter().filter_map(|l| l.soname.as_deref()).map(number).collect();
    if numbers.is_empty() {
        return version;
    }
    format!("{version}, {}", numbers.into_iter().collect::<Vec<_>>().join(" "))
}

/// What the store answered to each entry of the trace, with what its protocol's document says where that is not the same.
fn store_answers(old: &[&Sample], new: &[&Sample]) -> Vec<Line> {
    fn of(seen: &Observation) -> Option<&StoreEvidence> {
        match seen {
            Observation::Store(e) if e.failed.is_none() => Some(e),
            _ => None,
        }
    }
    let (Some((a, _)), Some((b, _))) = (evidence(old, of), evidence(new, of)) else { return Vec::new() };
    let Ok(trace) = trace::shipped() else { return Vec::new() };
    let one = |entry: &trace::Entry| {
        let words = |e: &StoreEvidence| e.seen.iter().find(|s| s.id == entry.id).map(|s| entry.words(s));
        let (was, is) = (words(a)?, words(b)?);
        let says = format!("xenstore.txt, {}: {}", entry.source, entry.says);
        Some(line("answers of the store", &entry.id, Some(&was), Some(&is), Class::Changed).noted(&says))
    };
    trace.entries().filter_map(one).collect()
}

/// Files and links in `boot/`, matched by their names without the versions in them.
fn boot_files(old: &[&Sample], new: &[&Sample]) -> Vec<Line> {
    fn of(seen: &Observation) -> Option<&BootFilesEvidence> {
        match seen {
            Observation::BootFiles(e) => Some(e),
            _ => None,
        }
    }
    type Named<'a> = BTreeMap<String, (&'a crate::step::boot_files::BootFile, Folder)>;
    fn named<'a>(e: &'a BootFilesEvidence, sample: &Sample) -> Named<'a> {
        let major = e.version.as_deref().and_then(|v| v.split_once('.')).map(|(m, _)| m.to_owned());
        let branch = e.version.as_deref().and_then(|v| v.parse::<version::XenVersion>().ok());
        let own = [(e.version.clone(), "VERSION"), (branch.map(|b| b.branch()), "BRANCH"), (major, "MAJOR")];
        let folder = if e.version.is_some() { Folder::new(own) } else { Folder::of(sample) };
        e.files.iter().map(|f| (folder.fold(&f.path), (f, folder.clone()))).collect()
    }
    let (Some((a, s)), Some((b, t))) = (evidence(old, of), evidence(new, of)) else { return Vec::new() };
    // Another packager calls the same files otherwise; what is lost then is told by the parts of the build.
    let layouts = (a.layout != b.layout).then(|| format!("laid out as {}, before as {}", b.layout, a.layout));
    let loss = if layouts.is_some() { Class::Changed } else { Class::Regression };
    let (a, b) = (named(a, s), named(b, t));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let shown = |f: &crate::step::boot_files::BootFile| {
        let mut text = match &f.link {
            Some(link) => format!("{} -> {link}", f.path),
            None => format!("{} ({})", f.path, f.kind),
        };
        if !f.resolves {
            text.push_str(", leads nowhere");
        }
        if let Some(damage) = &f.damage {
            text.push_str(&format!(", damaged: {damage}"));
        }
        text
    };
    let mut all = Vec::new();
    for name in names {
        let (x, y) = (a.get(name), b.get(name));
        let (was, is) = (x.map(|(f, _)| shown(f)), y.map(|(f, _)| shown(f)));
        let one = line("files in boot/", name, was.as_deref(), is.as_deref(), loss);
        all.push(match (x, y) {
            (Some((f, fold_f)), Some((g, fold_g))) => {
                let bad = |f: &crate::step::boot_files::BootFile| !f.resolves || f.damage.is_some();
                let link = |f: &crate::step::boot_files::BootFile, folder: &Folder| {
                    f.link.as_deref().map(|l| folder.fold(l))
                };
                match (bad(f), bad(g)) {
                    (false, true) => one.class(Class::Regression, "it was good before"),
                    (true, false) => one.class(Class::Fixed, "it was not good before"),
                    _ if (&f.kind, link(f, fold_f)) == (&g.kind, link(g, fold_g)) => {
                        // Nothing but the version in its name.
                        Line { class: Class::Same, ..one }
                    }
                    _ => one,
                }
            }
            _ => match &layouts {
                Some(note) => one.noted(note),
                None => one,
            },
        });
    }
    all
}

/// By how much a boot may be longer or shorter without that being said: seconds, and times as long. What a busy host makes of the same
/// build was measured: 5.4 s and 11.4 s, the emulator's processors being shared with others. Only several boots of a side say more.
const NOISE_OF_ONE: (f64, f64) = (3.0, 2.5);
/// The same, of medians over at least [`MANY`].
const NOISE_OF_MANY: (f64, f64) = (1.0, 1.3);
const MANY: usize = 3;

fn times(old: &[&Sample], new: &[&Sample]) -> Vec<Line> {
    let all = |side: &[&Sample], phase: &str| -> Vec<f64> {
        let of = |s: &&Sample| s.phases.iter().find(|(p, _)| p == phase).map(|(_, seconds)| *seconds);
        let mut all: Vec<f64> = side.iter().filter_map(of).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let median = |all: &[f64]| all.get(all.len().checked_sub(1)? / 2).copied();
    let booted = |side: &[&Sample]| side.iter().any(|s| !s.phases.is_empty());
    if !booted(old) || !booted(new) {
        return Vec::new();
    }
    let later = |phase: xenlab_console::Phase| {
        new.iter().flat_map(|s| &s.phases).any(|(p, _)| phase_order(p) > phase_order(phase.name()))
    };
    let of = |phase: xenlab_console::Phase| {
        let (olds, news) = (all(old, phase.name()), all(new, phase.name()));
        let (a, b) = (median(&olds), median(&news));
        let (seconds, part) = if olds.len().min(news.len()) < MANY { NOISE_OF_ONE } else { NOISE_OF_MANY };
        let text = |t: Option<f64>| t.map(|t| format!("{t:.1} s"));
        let (was, is) = (text(a), text(b));
        let one = line(BOOT, phase.name(), was.as_deref(), is.as_deref(), Class::Regression);
        Some(match (a, b) {
            (Some(a), Some(b)) => {
                let far = (a - b).abs() > seconds && a.max(b) > part * a.min(b);
                match (far, a < b) {
                    (false, _) => Line { class: Class::Same, ..one },
                    (true, true) => one.class(Class::Changed, "slower"),
                    (true, false) => one.class(Class::Changed, "faster"),
                }
            }
            // It went through this one: its sign was lost among others' words.
            (Some(_), None) if later(phase) => one.class(Class::NotChecked, "reached, and not seen when"),
            (Some(_), None) => one.class(Class::Regression, "never reached"),
            (None, Some(_)) => one,
            (None, None) => return None,
        })
    };
    xenlab_console::Phase::ALL.into_iter().filter_map(of).collect()
}

fn consoles(old: &[&Sample], new: &[&Sample]) -> Vec<Line> {
    let said = |side: &[&Sample]| side.iter().any(|s| !s.console.is_empty());
    if !said(old) || !said(new) {
        return Vec::new();
    }
    let all = |side: &[&Sample]| -> Vec<Remark> {
        let mut all: Vec<Remark> = Vec::new();
        for remark in side.iter().flat_map(|s| remarks(s)) {
            if !all.iter().any(|r| r.speaker == remark.speaker && r.folded == remark.folded) {
                all.push(remark);
            }
        }
        all
    };
    // Of a phase that a side never reached its console says nothing.
    let furthest = |side: &[&Sample]| {
        side.iter().flat_map(|s| &s.phases).map(|(phase, _)| phase_order(phase)).max().unwrap_or_default()
    };
    let (until_old, until_new) = (furthest(old), furthest(new));
    let reached = |until: usize| move |r: &Remark| phase_order(r.phase.name()) <= until;
    let (mut olds, mut news) = (all(old), all(new));
    olds.retain(reached(until_new));
    news.retain(reached(until_old));
    let pair = |among: &[Remark], r: &Remark| {
        among.iter().find(|o| o.speaker == r.speaker && o.folded == r.folded).cloned()
    };
    let mut lines = Vec::new();
    let gone = olds.iter().filter(|r| pair(&news, r).is_none()).map(|r| (Some(r.clone()), None));
    for (a, b) in news.iter().map(|r| (pair(&olds, r), Some(r.clone()))).chain(gone) {
        let Some(shown) = b.as_ref().or(a.as_ref()) else { continue };
        let topic = match (shown.speaker, shown.warning) {
            (Speaker::Xen, true) => "warnings of Xen",
            (Speaker::Xen, false) => "complaints of Xen",
            (_, true) => "warnings of dom0's kernel",
            (_, false) => "complaints of dom0",
        };
        let text = |r: &Option<Remark>| r.as_ref().map(|r| r.text.clone());
        let (x, y) = (text(&a), text(&b));
        let one = line(
            topic,
            &format!("{}: {}", shown.phase, shown.folded),
            x.as_deref(),
            y.as_deref(),
            Class::Changed,
        );
        lines.push(match (&a, &b) {
            (Some(a), Some(b)) if a.phase != b.phase => {
                // What dom0's processors say side by side comes in another order at times.
                Line {
                    class: Class::Same,
                    note: Some(format!("said in {}, before in {}", b.phase, a.phase)),
                    ..one
                }
            }
            (Some(_), Some(_)) => Line { class: Class::Same, ..one },
            (Some(_), None) => one.noted("not said any more"),
            _ => one,
        });
    }
    lines
}
