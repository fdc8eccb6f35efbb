//! Comparing: properties over made-up runs, and real builds altered in one thing.

use super::judged::{Stand, class};
use super::*;
use crate::cause::Cause;
use crate::evidence::{Captured, CommandEnd, CommandResult, Origin, Transport};
use crate::expectation::{Expectation, Expected, Kind};
use crate::fact::FactValue;
use crate::step::Observation;
use crate::step::boot_files::BootFilesEvidence;
use crate::step::pkg_config::{Outcome, PkgConfigEvidence};
use crate::step::xl_info::XlInfoEvidence;
use crate::verdict::{Check, StepVerdict, Verdict};
use proptest::prelude::*;

fn check(name: &str, verdict: Verdict) -> Check {
    match verdict {
        Verdict::Pass => Check::pass(name, format!("{name} holds")),
        Verdict::Fail => Check::fail(name, Cause::XenHung, format!("{name} does not hold")),
        Verdict::Error => Check::error(name, Cause::LabInternal, format!("{name} could not be asked")),
        Verdict::Skip | Verdict::NotReached => Check::not_judged(name, format!("{name}: not judged")),
    }
}

/// A case with one step of these checks.
fn sample(id: &str, nonce: &str, checks: &[(&str, Verdict)]) -> Sample {
    let checks: Vec<Check> = checks.iter().map(|(name, verdict)| check(name, *verdict)).collect();
    let worst = Verdict::worst(checks.iter().map(|c| c.verdict));
    let step = StepVerdict {
        step: "steps[0]".into(),
        title: "look".into(),
        kind: "run".into(),
        verdict: worst,
        checks,
        seconds: 0.1,
        origin: Origin::PowerOn,
    };
    let verdict = CaseVerdict {
        format: 1,
        case: id.into(),
        subject: "debian:x".into(),
        verdict: worst,
        cause: None,
        blame: None,
        message: String::new(),
        xtf: None,
        steps: vec![step],
        control: None,
        seconds: 1.0,
        expected: None,
    };
    Sample {
        id: id.into(),
        subject: "debian:x".into(),
        nonce: nonce.into(),
        arch: "x86_64".into(),
        planned: vec![("steps[0]".into(), "look".into())],
        verdict: Some(verdict),
        ..Sample::default()
    }
}

fn side(samples: Vec<Sample>) -> Side {
    Side { name: "debian:x".into(), samples }
}

fn none() -> Past {
    Past::new()
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    proptest::sample::select(vec![
        Verdict::Pass,
        Verdict::Pass,
        Verdict::Fail,
        Verdict::Error,
        Verdict::Skip,
        Verdict::NotReached,
    ])
}

fn sides() -> impl Strategy<Value = Side> {
    let checks =
        proptest::collection::btree_map(proptest::sample::select(vec!["a", "b", "c"]), verdicts(), 1..4);
    let one =
        (proptest::sample::select(vec!["s[arch=x86_64]", "s[arch=aarch64]", "t"]), checks, "[0-9a-f]{16}");
    proptest::collection::vec(one, 0..6).prop_map(|all| {
        let of = |(id, checks, nonce): (&str, BTreeMap<&str, Verdict>, String)| {
            sample(id, &nonce, &checks.into_iter().collect::<Vec<_>>())
        };
        side(all.into_iter().map(of).collect())
    })
}

fn by_key(c: &Comparison) -> BTreeMap<Key, Class> {
    c.items.iter().map(|i| (i.key.clone(), i.class)).collect()
}

proptest! {
    #[test]
    fn a_run_against_itself_is_the_same(run in sides()) {
        let compared = compare(&run, &run, &none());
        for item in &compared.items {
            let now = item.new.as_ref().expect("it is on both sides");
            let expected = match now.stand() {
                Stand::Passed => Class::Same,
                Stand::Failed => Class::FailedBefore,
                Stand::Both => Class::Flaky,
                Stand::NotJudged => Class::NotChecked,
            };
            prop_assert_eq!(item.class, expected);
            prop_assert!(!item.counts());
            prop_assert_eq!(item.old.as_ref(), Some(now));
        }
        prop_assert!(compared.lines.iter().all(|l| l.class == Class::Same));
        prop_assert_ne!(compared.exit(), Exit::Failed);
    }

    #[test]
    fn the_other_way_round_a_regression_is_a_fix(a in sides(), b in sides()) {
        let (there, back) = (compare(&a, &b, &none()), compare(&b, &a, &none()));
        let (there, back) = (by_key(&there), by_key(&back));
        prop_assert_eq!(there.len(), back.len());
        for (key, class) in &there {
            let other = back[key];
            let fits = match class {
                Class::Regression => other == Class::Fixed,
                Class::Fixed => other == Class::Regression,
                Class::Same | Class::FailedBefore => other == *class,
                // One side is, and the other may not have been judged at all.
                Class::Flaky => matches!(other, Class::Flaky | Class::NotChecked),
                Class::New | Class::NoBaseline => other == Class::NotChecked,
                Class::NotChecked => !matches!(other, Class::Regression | Class::Fixed | Class::Same | Class::FailedBefore),
                Class::NeverPassed | Class::Changed => false,
            };
            prop_assert!(fits, "{:?}: {:?} and {:?}", key, class, other);
        }
    }

    #[test]
    fn neither_order_nor_nonces_matter(run in sides(), other in sides()) {
        let mut turned = run.clone();
        turned.samples.reverse();
        for (i, sample) in turned.samples.iter_mut().enumerate() {
            sample.nonce = format!("{i:016x}");
        }
        prop_assert_eq!(by_key(&compare(&other, &run, &none())), by_key(&compare(&other, &turned, &none())));
    }

    #[test]
    fn what_passed_and_fails_is_never_silent(run in sides(), n in 0usize..6) {
        let Some(good) = run.samples.get(n).map(|s| s.id.clone()) else { return Ok(()) };
        let of = |verdict| side(vec![sample(&good, "1", &[("a", verdict)])]);
        let compared = compare(&of(Verdict::Pass), &of(Verdict::Fail), &none());
        prop_assert_eq!(compared.exit(), Exit::Failed);
        let lost = compare(&of(Verdict::Pass), &of(Verdict::Error), &none());
        prop_assert_eq!(lost.exit(), Exit::Lab);
        prop_assert!(lost.items.iter().all(|i| i.class == Class::NotChecked));
    }
}

#[test]
fn every_class_has_its_way() {
    let j = |passed, failed, not_judged| Judged { passed, failed, not_judged, ..Judged::default() };
    let (pass, fail, both, not) = (j(1, 0, 0), j(0, 1, 0), j(1, 1, 0), j(0, 0, 1));
    for (old, new, past, expected) in [
        (Some(&pass), Some(&pass), None, Class::Same),
        (Some(&pass), Some(&fail), None, Class::Regression),
        (Some(&fail), Some(&pass), None, Class::Fixed),
        (Some(&fail), Some(&fail), None, Class::FailedBefore),
        (Some(&fail), Some(&fail), Some((3, 1)), Class::FailedBefore),
        (Some(&fail), Some(&fail), Some((0, 4)), Class::NeverPassed),
        (Some(&pass), Some(&fail), Some((0, 4)), Class::Regression),
        (Some(&pass), Some(&both), None, Class::Flaky),
        (Some(&both), Some(&pass), None, Class::Flaky),
        (Some(&not), Some(&pass), None, Class::NoBaseline),
        (Some(&not), Some(&fail), None, Class::NoBaseline),
        (None, Some(&pass), None, Class::New),
        (None, Some(&fail), None, Class::New),
        (Some(&pass), Some(&not), None, Class::NotChecked),
        (Some(&both), Some(&not), None, Class::NotChecked),
        (Some(&pass), None, None, Class::NotChecked),
        (None, Some(&not), None, Class::NotChecked),
    ] {
        assert_eq!(class(old, new, past), expected, "{old:?} {new:?} {past:?}");
    }
}

#[test]
fn an_expected_failure_is_told_and_does_not_count() {
    let old = side(vec![sample("s", "1", &[("a", Verdict::Pass)])]);
    let mut failing = sample("s", "2", &[("a", Verdict::Fail)]);
    let entry = Expectation {
        case: "s".into(),
        when: None,
        verdict: Verdict::Fail,
        cause: Some(Cause::XenHung),
        because: "known".into(),
        tracker: None,
        until: None,
        fault: None,
        source: None,
        measured: None,
        place: None,
    };
    assert_eq!(compare(&old, &side(vec![failing.clone()]), &none()).exit(), Exit::Failed);
    if let Some(verdict) = &mut failing.verdict {
        verdict.expected = Some(Expected { kind: Kind::AsExpected, entry });
    }
    let compared = compare(&old, &side(vec![failing]), &none());
    assert!(compared.items.iter().all(|i| i.class == Class::Regression && !i.counts()));
    assert_eq!(compared.exit(), Exit::Passed);
}

#[derive(serde::Deserialize, Clone)]
#[serde(rename_all = "kebab-case")]
struct Build {
    facts: Facts,
    pkg_config: PkgConfigEvidence,
    boot_files: BootFilesEvidence,
}

fn bookworm() -> Build {
    serde_json::from_str(include_str!("../../../../fixtures/build/debian-bookworm-x86_64.json")).unwrap()
}

const XL_BOOKWORM: &str = include_str!("../../../../fixtures/dom0/xl-info-x86_64-4.17.7.txt");
const XL_TRIXIE: &str = include_str!("../../../../fixtures/dom0/xl-info-x86_64-4.20.5-pre.txt");
const CONSOLE: &[u8] = include_bytes!("../../../../fixtures/dom0/console-x86_64-4.17.7.raw");

/// What was seen of a real build.
fn seen(build: &Build, xl: &str, console: &[u8]) -> Side {
    let mut sample = sample("bump[arch=x86_64]", "77", &[("a", Verdict::Pass)]);
    let command = CommandResult {
        via: Transport::Port,
        script: "xl info".into(),
        end: CommandEnd::Exit(0),
        stdout: Captured { text: xl.into(), total: xl.len() as u64, cut: false },
        stderr: Captured::default(),
        seconds: 0.1,
    };
    let evidence = |step: &str, seen| Evidence {
        step: step.into(),
        origin: Origin::PowerOn,
        from: 0.0,
        to: 1.0,
        seen: Ok(seen),
    };
    sample.evidence = vec![
        evidence("steps[1]", Observation::XlInfo(XlInfoEvidence { command })),
        evidence("steps[2]", Observation::PkgConfig(build.pkg_config.clone())),
        evidence("steps[3]", Observation::BootFiles(build.boot_files.clone())),
    ];
    sample.facts = build.facts.clone();
    sample.console = console.to_vec();
    sample.phases = vec![("xen".into(), 1.0), ("dom0-ready".into(), 6.0)];
    side(vec![sample])
}

/// Every line that is not the same: class, topic, name.
fn differ(old: &Side, new: &Side) -> Vec<(Class, String, String)> {
    let compared = compare(old, new, &none());
    let lines = compared.lines.iter().filter(|l| l.class != Class::Same);
    lines.map(|l| (l.class, l.topic.clone(), l.name.clone())).collect()
}

fn named(class: Class, topic: &str, name: &str) -> Vec<(Class, String, String)> {
    vec![(class, topic.into(), name.into())]
}

#[test]
fn one_thing_that_changed_is_named_and_nothing_else() {
    let build = bookworm();
    let old = seen(&build, XL_BOOKWORM, CONSOLE);
    assert_eq!(differ(&old, &seen(&build, XL_BOOKWORM, CONSOLE)), []);

    // A library's version.
    let mut other = build.clone();
    let call = other.pkg_config.modules.iter_mut().find(|m| m.name == "xencall").unwrap();
    call.version = Outcome::Said("1.4".into());
    assert_eq!(
        differ(&old, &seen(&other, XL_BOOKWORM, CONSOLE)),
        named(Class::Changed, "pkg-config modules", "xencall")
    );
    let back = differ(&seen(&other, XL_BOOKWORM, CONSOLE), &old);
    assert_eq!(back, named(Class::Regression, "pkg-config modules", "xencall"));

    // A soname, of a library whose version stays.
    let mut other = build.clone();
    let store = other.pkg_config.modules.iter_mut().find(|m| m.name == "xenstore").unwrap();
    store.libraries[0].soname = Some("libxenstore.so.5".into());
    let compared = compare(&old, &seen(&other, XL_BOOKWORM, CONSOLE), &none());
    let line = compared.lines.iter().find(|l| l.class != Class::Same).unwrap();
    assert_eq!((line.class, line.name.as_str()), (Class::Changed, "xenstore"));
    assert!(line.note.as_ref().unwrap().contains("another soname"), "{line:?}");

    // The EFI image.
    let mut other = build.clone();
    other.boot_files.files.retain(|f| !f.path.ends_with(".efi"));
    let gone = differ(&old, &seen(&other, XL_BOOKWORM, CONSOLE));
    assert_eq!(gone, named(Class::Regression, "files in boot/", "boot/xen-BRANCH-amd64.efi"));

    // The same files as another packager lays them out: nothing is lost by that.
    let mut other = build.clone();
    other.boot_files.layout = "upstream".into();
    other.boot_files.files.iter_mut().for_each(|f| f.path = f.path.replace("-amd64", ""));
    let elsewhere = differ(&old, &seen(&other, XL_BOOKWORM, CONSOLE));
    assert!(
        elsewhere.iter().all(|(class, topic, _)| *class != Class::Regression && topic == "files in boot/")
    );
    assert_eq!(elsewhere.len(), 2 * build.boot_files.files.len());

    // A capability.
    let without = XL_BOOKWORM.replace("hvm-3.0-x86_32p ", "");
    assert_ne!(without, XL_BOOKWORM);
    let lost = differ(&old, &seen(&build, &without, CONSOLE));
    assert_eq!(lost, named(Class::Regression, "capabilities: xen_caps", "hvm-3.0-x86_32p"));
    let gained = differ(&seen(&build, &without, CONSOLE), &old);
    assert_eq!(gained, named(Class::New, "capabilities: xen_caps", "hvm-3.0-x86_32p"));

    // A pkg-config module and a store daemon.
    let mut other = build.clone();
    for (fact, member) in [("build.pkg-config", "xenhypfs"), ("build.xenstored", "oxenstored")] {
        let Some(FactValue::Set(set)) = other.facts.0.get_mut(fact) else { panic!("{fact}") };
        assert!(set.remove(member));
    }
    let mut lost = differ(&old, &seen(&other, XL_BOOKWORM, CONSOLE));
    lost.sort();
    let mut expected = named(Class::Regression, "pkg-config modules", "xenhypfs");
    expected.extend(named(Class::Regression, "store daemons", "oxenstored"));
    assert_eq!(lost, expected);

    // An option.
    let with = |options: &[&str]| {
        let mut other = build.clone();
        let set = options.iter().map(|o| (*o).to_owned()).collect();
        other.facts.set("build.config", FactValue::Set(set));
        seen(&other, XL_BOOKWORM, CONSOLE)
    };
    let lost = differ(&with(&["HVM", "SHADOW_PAGING"]), &with(&["HVM"]));
    assert_eq!(lost, named(Class::Changed, "Kconfig", "SHADOW_PAGING"));
    // What is not known of a side is not lost.
    assert!(differ(&with(&["HVM"]), &old).iter().all(|(class, ..)| *class == Class::NotChecked));
}

#[test]
fn consoles_are_aligned_by_what_is_said() {
    let build = bookworm();
    let old = seen(&build, XL_BOOKWORM, CONSOLE);
    let mut console = b"(XEN) WARNING: the moon is full at 0x1234\r\n".to_vec();
    console.splice(0..0, CONSOLE.iter().copied());
    let compared = compare(&old, &seen(&build, XL_BOOKWORM, &console), &none());
    let new: Vec<_> = compared.lines.iter().filter(|l| l.class != Class::Same).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    assert_eq!((new[0].class, new[0].topic.as_str()), (Class::New, "warnings of Xen"));
    assert_eq!(new[0].new.as_deref(), Some("WARNING: the moon is full at 0x1234"));
    // Another address is no other warning.
    let later = String::from_utf8(console.clone()).unwrap().replace("0x1234", "0xffff8300ab");
    let one = seen(&build, XL_BOOKWORM, &console);
    assert_eq!(differ(&one, &seen(&build, XL_BOOKWORM, later.as_bytes())), []);
    // A builder may be called what he likes.
    let banner = [CONSOLE, b"(XEN) Xen version 4.17.5 (xenlab@invalid) debug=n\r\n"].concat();
    assert_eq!(differ(&old, &seen(&build, XL_BOOKWORM, &banner)), []);
    // What the host's load makes Linux say is no news.
    let busy = [CONSOLE, b"[    0.001931] tsc: Fast TSC calibration failed\r\n"].concat();
    assert_eq!(differ(&old, &seen(&build, XL_BOOKWORM, &busy)), []);
    // A machine that said nothing says nothing of warnings.
    assert_eq!(differ(&one, &seen(&build, XL_BOOKWORM, b"")), []);
}

#[test]
fn times_within_noise_are_the_same() {
    let build = bookworm();
    let old = seen(&build, XL_BOOKWORM, CONSOLE);
    let ready = |seconds: f64| {
        let mut side = seen(&build, XL_BOOKWORM, CONSOLE);
        side.samples[0].phases[1].1 = seconds;
        differ(&old, &side)
    };
    assert_eq!((ready(6.9), ready(11.4)), (vec![], vec![]));
    assert_eq!(ready(15.5), named(Class::Changed, BOOT, "dom0-ready"));
    // Of several boots less is needed.
    let several = |seconds: f64| {
        let mut side = seen(&build, XL_BOOKWORM, CONSOLE);
        side.samples[0].phases[1].1 = seconds;
        side.samples = vec![side.samples[0].clone(); 3];
        side
    };
    assert_eq!(differ(&several(6.0), &several(8.0)), named(Class::Changed, BOOT, "dom0-ready"));
    let mut hung = seen(&build, XL_BOOKWORM, CONSOLE);
    hung.samples[0].phases.truncate(1);
    assert_eq!(differ(&old, &hung), named(Class::Regression, BOOT, "dom0-ready"));
    // One that it went through without its being seen is no loss.
    let (mut old, mut new) = (old.clone(), old.clone());
    old.samples[0].phases.insert(1, ("dom0-init".into(), 5.0));
    assert_eq!(differ(&old, &new), named(Class::NotChecked, BOOT, "dom0-init"));
    new.samples[0].phases.truncate(1);
    let lost = differ(&old, &new);
    assert!(lost.iter().all(|l| l.0 == Class::Regression) && lost.len() == 2, "{lost:?}");
    let old = seen(&build, XL_BOOKWORM, CONSOLE);
    // What dom0 did not live to say is not missed.
    let dead = CONSOLE.split(|b| *b == b'\n').take(5).collect::<Vec<_>>().join(&b'\n');
    hung.samples[0].console = dead;
    assert_eq!(differ(&old, &hung), named(Class::Regression, BOOT, "dom0-ready"));
}

#[test]
fn another_branch_changes_what_moves_and_loses_nothing() {
    let trixie: Build =
        serde_json::from_str(include_str!("../../../../fixtures/build/debian-trixie-x86_64.json")).unwrap();
    let compared =
        compare(&seen(&bookworm(), XL_BOOKWORM, CONSOLE), &seen(&trixie, XL_TRIXIE, CONSOLE), &none());
    let of = |class| compared.lines.iter().filter(move |l| l.class == class);
    assert_eq!(of(Class::Regression).count(), 0, "{:?}", of(Class::Regression).collect::<Vec<_>>());
    // Boot files have other names and are the same files.
    assert!(of(Class::Same).any(|l| l.name == "boot/xen-BRANCH-amd64.gz"));
    let light = of(Class::Changed).find(|l| l.name == "xenlight").unwrap();
    assert_eq!(light.new.as_deref(), Some("4.20.0, .so.4.20"));
    assert!(of(Class::Same).any(|l| l.name == "xencall"), "a stable library does not move");
    assert_eq!(compared.exit(), Exit::Passed);
    // The other way the versions go back.
    let back = compare(&seen(&trixie, XL_TRIXIE, CONSOLE), &seen(&bookworm(), XL_BOOKWORM, CONSOLE), &none());
    assert!(back.lines.iter().all(|l| l.topic != "pkg-config modules" || l.class != Class::Regression));
}

#[test]
fn points_are_done_or_say_why_not() {
    let mut good = sample("bump[arch=x86_64]", "1", &[("a", Verdict::Pass)]);
    let mut titled = |title: &str| {
        good.planned[0].1 = title.into();
        if let Some(verdict) = &mut good.verdict {
            verdict.steps[0].title = title.into();
        }
        good.clone()
    };
    let one = titled("7. the store");
    let all = points(std::slice::from_ref(&one));
    assert_eq!(all.len(), 14);
    assert_eq!((all[6].standing, all[6].evidence.len()), (Standing::Holds, 1));
    for point in all.iter().filter(|p| p.number != 7) {
        assert_eq!((point.standing, point.not_checked.len()), (Standing::NotChecked, 1), "{point:?}");
    }
    // A case that was skipped takes its part of the point with it.
    let mut skipped = one.clone();
    skipped.id = "bump[arch=aarch64]".into();
    if let Some(verdict) = &mut skipped.verdict {
        verdict.steps.clear();
        verdict.verdict = Verdict::Skip;
        verdict.message = "no such daemon".into();
    }
    let all = points(&[one.clone(), skipped]);
    assert_eq!(all[6].standing, Standing::NotChecked);
    assert!(all[6].not_checked[0].contains("no such daemon"), "{:?}", all[6]);
    // One that was not reached says why the case ended.
    let mut lost = one.clone();
    if let Some(verdict) = &mut lost.verdict {
        verdict.steps[0].checks.clear();
        verdict.steps[0].verdict = Verdict::NotReached;
        verdict.message = "Xen panicked".into();
    }
    assert!(points(&[lost])[6].not_checked[0].contains("not reached: Xen panicked"));
    // A step that judged nothing is no evidence.
    let mut empty = one;
    if let Some(verdict) = &mut empty.verdict {
        verdict.steps[0].checks = vec![check("a", Verdict::Skip)];
    }
    assert_eq!(points(&[empty])[6].standing, Standing::NotChecked);
    // What one case had nothing to judge by, and another judged, was judged; on another architecture it was not.
    let mut partly = titled("7. the store");
    partly.id = "bump[arch=x86_64,more]".into();
    if let Some(verdict) = &mut partly.verdict {
        verdict.steps[0].checks = vec![check("a", Verdict::Skip)];
    }
    let full = titled("7. the store");
    assert_eq!(points(&[full.clone(), partly.clone()])[6].standing, Standing::Holds);
    partly.arch = "aarch64".into();
    assert_eq!(points(&[full, partly])[6].standing, Standing::NotChecked);
    // What failed and held is told as that; what failed each time fails.
    let held = titled("7. the store");
    let mut failed = held.clone();
    if let Some(verdict) = &mut failed.verdict {
        verdict.steps[0].verdict = Verdict::Fail;
        verdict.steps[0].checks = vec![check("a", Verdict::Fail)];
    }
    let flaky = &points(&[failed.clone(), held])[6];
    assert_eq!(flaky.standing, Standing::Holds);
    assert!(flaky.evidence[0].starts_with("flaky, failed and held"), "{flaky:?}");
    assert_eq!(points(&[failed.clone(), failed])[6].standing, Standing::Fails);
    // No number, or none of the list.
    for title in ["the store", "0. x", "15. x", "7.x", "7. "] {
        assert!(points(&[titled(title)]).iter().all(|p| p.standing == Standing::NotChecked), "{title}");
    }
}

#[test]
fn instances_of_xtf_are_counted_and_those_that_fail_named() {
    let instance = |name: &str, verdict| {
        let mut one = sample(&format!("xtf[{name}]"), "1", &[("xtf", verdict)]);
        if let Some(of) = &mut one.verdict {
            of.message = format!("{name} ended");
            of.xtf = Some(crate::xtf::Ended {
                instance: name.into(),
                environment: "pv64".into(),
                category: "xsa".into(),
                outcome: None,
            });
        }
        one
    };
    let good = [instance("test-pv64-a", Verdict::Pass), instance("test-pv64-b", Verdict::Pass)];
    let eleventh = |samples: &[Sample]| points(samples).remove(10);
    let all = eleventh(&good);
    assert_eq!((all.standing, all.evidence), (Standing::Holds, vec!["SUCCESS (in 2 cases)".to_owned()]));
    let mut mixed = good.to_vec();
    mixed.push(instance("test-pv64-c", Verdict::Skip));
    let skipped = eleventh(&mixed);
    assert_eq!(skipped.standing, Standing::NotChecked, "a skip that is on no list is no pass");
    mixed.push(instance("test-pv64-d", Verdict::Fail));
    let failing = eleventh(&mixed);
    assert_eq!(failing.standing, Standing::Fails);
    assert!(failing.fails[0].starts_with("test-pv64-d: "), "{failing:?}");
    assert!(eleventh(&[]).not_checked[0].contains("--xtf"));
}

#[test]
fn a_new_xen_must_hold_what_it_must() {
    let mut one = sample("bump[arch=x86_64]", "1", &[("daemon", Verdict::Pass), ("answers", Verdict::Fail)]);
    let mut of = |step: &str, kind: &str| {
        if let Some(verdict) = &mut one.verdict {
            verdict.steps[0].kind = kind.into();
            verdict.steps[0].step = step.into();
        }
        must_hold(std::slice::from_ref(&one))
    };
    let standing = |all: &[MustHold], name: &str| all.iter().find(|m| m.name == name).unwrap().standing;
    assert_eq!(standing(&of("steps[0]", "xenstored"), MUST_HOLD[5].0), Standing::Holds);
    assert_eq!(standing(&of("steps[0]", "under-xen"), MUST_HOLD[1].0), Standing::Fails);
    assert_eq!(standing(&of("boot", "phase"), MUST_HOLD[0].0), Standing::Fails);
    // The wait of a step is not the boot.
    assert_eq!(standing(&of("steps[0]", "phase"), MUST_HOLD[0].0), Standing::NotChecked);
    // `xl info` that failed as a whole has no check of the version.
    assert_eq!(standing(&of("steps[0]", "xl-info"), MUST_HOLD[2].0), Standing::Fails);
    assert!(must_hold(&[]).iter().all(|m| m.standing == Standing::NotChecked));
}
