//! The advisories in these tests are made up: their numbers begin at 90000, and nothing is told of real ones.

use super::*;
use std::collections::BTreeMap;

fn day(text: &str) -> Date {
    text.parse().expect("a day")
}

/// A branch 9.1, first released on 2030-01-10, security support until 2033-01-10, with 9.1.0 to 9.1.2; XSA-90003 is in 9.1.2.
fn known() -> Known {
    let support = known::Support {
        initial_release: day("2030-01-10"),
        supported_until: day("2031-07-10"),
        security_support_until: day("2033-01-10"),
        source: "SUPPORT.md of a test".into(),
    };
    let claim = Claim { commits: vec!["0123456789abcdef".into()], ..Claim::default() };
    let releases = [("9.1.2".to_owned(), [(90003, claim)].into())].into();
    Known {
        source: "https://example.org/xen".into(),
        read: day("2032-01-01"),
        branches: [("9.1".to_owned(), known::Branch { support, releases })].into(),
    }
}

fn meta(branches: &[(&str, &str, usize)]) -> Meta {
    let mut recipes: BTreeMap<String, feed::Branch> = BTreeMap::new();
    for (branch, tree, patches) in branches {
        let patches = (1..=*patches).map(|n| format!("{n}.patch")).collect();
        let recipe = feed::Recipe { patches, ..feed::Recipe::default() };
        let of = recipes.entry((*branch).to_owned()).or_insert(feed::Branch { trees: BTreeMap::new() });
        of.trees.insert((*tree).to_owned(), recipe);
    }
    Meta { recipes }
}

fn advisory(public: &str, meta: Option<Meta>) -> Advisory {
    Advisory { xsa: 90003, title: "made up".into(), cve: Vec::new(), public: public.parse().ok(), meta }
}

fn subject(version: &str) -> Subject {
    Subject::new("source:a-tree", &version.parse().expect("a version"), "xen/Makefile")
}

/// How an advisory of 2031 with patches for 9.1 stands to 9.1.1 by what was seen.
fn stands(seen: Seen) -> (Standing, String) {
    let line =
        judge(&advisory("2031-01-01", Some(meta(&[("9.1", XEN, 2)]))), &subject("9.1.1"), &seen, &known());
    (line.standing, line.why)
}

fn on(source: OnSource) -> Seen {
    Seen { source: Some(source), patches: Some(2), ..Seen::default() }
}

fn claim(commits: usize, parts: bool, reverted: usize) -> Option<Claim> {
    let named = |n: usize, of: &str| (0..n).map(|i| format!("{of}{i:039}")).collect();
    Some(Claim { commits: named(commits, "c"), parts, reverted: named(reverted, "d") })
}

#[test]
fn the_source_decides() {
    assert_eq!(stands(on(OnSource::Contained)).0, Standing::Contained);
    let (standing, why) = stands(on(OnSource::PatchedBy(vec!["fix.patch".into()])));
    assert_eq!((standing, why.as_str()), (Standing::Patched, "by fix.patch"));
    let (standing, why) = stands(on(OnSource::UndoneBy(vec!["mine.patch".into()])));
    assert!(standing == Standing::Open && why.contains("mine.patch undoes that"), "{why}");
    let partly = OnSource::Partly { there: vec!["1.patch".into()], missing: vec!["2.patch".into()] };
    let (standing, why) = stands(on(partly));
    assert!(
        standing == Standing::Open && why == "the source has 1.patch, but 2.patch would still apply to it",
        "{why}"
    );
    // Whatever the history says: the code is without the fix.
    let seen = Seen { history: claim(2, true, 0), ..on(OnSource::Applies) };
    let (standing, why) = stands(seen);
    assert!(standing == Standing::Open && why.contains("and yet the history has 2 commits"), "{why}");
}

#[test]
fn what_the_source_does_not_tell_the_history_may() {
    for silent in [
        Some(OnSource::BothWays),
        Some(OnSource::Neither { patch: "1.patch".into() }),
        Some(OnSource::NotTried { why: "the feed has no 1.patch".into() }),
        None,
    ] {
        let seen = |history| Seen { source: silent.clone(), patches: Some(2), history, series: None };
        assert_eq!(stands(seen(None)).0, Standing::Unknown, "{silent:?}");
        assert_eq!(stands(seen(claim(2, true, 0))).0, Standing::Contained, "{silent:?}");
        let (standing, why) = stands(seen(claim(1, true, 0)));
        assert!(standing == Standing::Unknown && why.contains("1 of 2 commits"), "half a fix is none: {why}");
        let (standing, why) = stands(seen(claim(0, false, 2)));
        assert!(standing == Standing::Unknown && why.contains("reverted since"), "{why}");
        let (standing, why) = stands(seen(claim(0, false, 0)));
        assert!(standing == Standing::Unknown && why.ends_with("the history does not name it"), "{why}");
    }
}

#[test]
fn a_release_has_what_the_record_says() {
    let one = advisory("2031-01-01", Some(meta(&[("9.1", XEN, 1)])));
    let stands = |version: &str, seen: &Seen| judge(&one, &subject(version), seen, &known());
    let seen = Seen { patches: Some(1), ..Seen::default() };
    let line = stands("9.1.2", &seen);
    assert_eq!(line.standing, Standing::Contained);
    assert_eq!(line.why, "9.1.2 has it: commit 0123456789ab (https://example.org/xen)");
    assert_eq!(stands("9.1.3-pre", &seen).standing, Standing::Contained);
    for earlier in ["9.1.1", "9.1.2-pre", "9.1-rc"] {
        assert_eq!(stands(earlier, &seen).standing, Standing::Unknown, "{earlier}");
    }
    let seen = Seen { patches: Some(2), ..Seen::default() };
    assert_eq!(stands("9.1.2", &seen).standing, Standing::Unknown, "one commit is not two patches");
    let seen = Seen { patches: Some(1), history: claim(0, false, 1), ..Seen::default() };
    assert_eq!(stands("9.1.2", &seen).standing, Standing::Unknown, "this source's own history reverts it");
}

#[test]
fn branches_that_an_advisory_is_not_for() {
    let stands = |a: &Advisory, version: &str| {
        let line = judge(a, &subject(version), &Seen::default(), &known());
        (line.standing, line.why)
    };
    // Without what is recorded of 90003.
    let other = |public: &str, meta: Option<Meta>| Advisory { xsa: 90004, ..advisory(public, meta) };
    let elsewhere = meta(&[("9.2", XEN, 1)]);
    assert_eq!(stands(&other("2031-01-01", Some(elsewhere.clone())), "9.1.1").0, Standing::NotAffected);
    let (standing, why) = stands(&other("2034-01-01", Some(elsewhere.clone())), "9.1.1");
    assert!(standing == Standing::Unknown && why.contains("security support ended on 2033-01-10"), "{why}");
    assert_eq!(stands(&other("2029-01-01", Some(elsewhere.clone())), "9.1.1").0, Standing::Older);
    assert_eq!(stands(&other("soon", Some(elsewhere.clone())), "9.1.1").0, Standing::Unknown);
    assert_eq!(
        stands(&other("2031-01-01", Some(elsewhere)), "9.3.0").0,
        Standing::Unknown,
        "a branch nobody knows"
    );
    assert_eq!(stands(&other("2031-01-01", None), "9.1.1").0, Standing::Unknown, "no recipes at all");
    assert_eq!(
        stands(&other("2031-01-01", Some(meta(&[]))), "9.1.1").0,
        Standing::Unknown,
        "recipes without patches"
    );
    let (standing, why) = stands(&other("2031-01-01", Some(meta(&[("9.1", "linux", 1)]))), "9.1.1");
    assert_eq!((standing, why.as_str()), (Standing::Elsewhere, "its patches are for linux"));
    let both = meta(&[("9.1", "linux", 1), ("9.1", XEN, 1)]);
    assert_eq!(stands(&other("2031-01-01", Some(both)), "9.1.1").0, Standing::Unknown, "and it touches Xen");
    let unstable = meta(&[("master", XEN, 1)]);
    assert_eq!(
        stands(&other("2031-01-01", Some(unstable)), "9.9-unstable").0,
        Standing::Unknown,
        "what is unstable is master"
    );
    // Commits of the branch that are parts of it belie a feed that has no patch for the branch.
    let parts = Seen { history: claim(3, true, 0), ..Seen::default() };
    let belied = |public: &str| {
        let line = judge(&other(public, Some(meta(&[("9.2", XEN, 1)]))), &subject("9.1.1"), &parts, &known());
        (line.standing, line.why)
    };
    let (standing, why) = belied("2031-01-01");
    assert!(
        standing == Standing::Unknown && why.contains("and yet the history has parts of it, 3 commits"),
        "{why}"
    );
    let (standing, why) = belied("2029-01-01");
    assert!(standing == Standing::Older && why.contains("; the history has parts of it, 3 commits"), "{why}");
    // Older ones are told apart, but what is recorded of them is said.
    let (standing, why) = stands(&advisory("2029-01-01", None), "9.1.2");
    assert!(standing == Standing::Older && why.contains("9.1.2 has it"), "{why}");
}

#[test]
fn exit_codes() {
    let line = |xsa: u32, standing: Standing| Line {
        xsa,
        standing,
        title: String::new(),
        cve: Vec::new(),
        public: None,
        why: String::new(),
    };
    let report = |standings: &[Standing]| Report {
        format: 1,
        subject: subject("9.1.1"),
        support: None,
        today: None,
        feed: FeedIs { advisories: standings.len(), latest: 90000, public: None },
        lines: standings.iter().zip(90000..).map(|(s, n)| line(n, *s)).collect(),
        allowed: Vec::new(),
    };
    for standing in Standing::ALL {
        let bad = matches!(standing, Standing::Open | Standing::Unknown);
        let expected = if bad { Exit::Failed } else { Exit::Passed };
        assert_eq!(report(&[Standing::Contained, standing]).exit(), expected, "{standing:?}");
    }
    let allowed = |standings: &[Standing], allowed: Allowed| {
        let mut report = report(standings);
        report.allow(&allowed);
        report.exit()
    };
    let two = [Standing::Unknown, Standing::Unknown];
    assert_eq!(allowed(&two, Allowed::All), Exit::Passed);
    assert_eq!(allowed(&two, Allowed::These(vec![90000, 90001])), Exit::Passed);
    assert_eq!(allowed(&two, Allowed::These(vec![90000])), Exit::Failed);
    assert_eq!(allowed(&[Standing::Open], Allowed::All), Exit::Failed, "what is open is never allowed");
}

#[test]
fn feeds() {
    let text = r#"[{"xsas": [
        {"xsa": 90002, "title": " made up ", "public_time": "2031-02-03T12:00:00Z", "cve": ["CVE-2031-1"], "files": [{"name": "x"}]},
        {"xsa": "90001", "public_time": "embargoed"}]}]"#;
    let read = feed::read(text).expect("a feed");
    assert_eq!(read.iter().map(|a| a.xsa).collect::<Vec<_>>(), [90001, 90002]);
    assert_eq!((read[0].title.as_str(), read[0].public), ("", None));
    assert_eq!((read[1].title.as_str(), read[1].public), ("made up", Some(day("2031-02-03"))));
    assert_eq!(read[1].cve, ["CVE-2031-1"]);
    for (text, wanted) in [
        ("[{", "no JSON"),
        ("[]", "there are no advisories"),
        ("[{}]", "[0]: there is no list `xsas`"),
        (r#"[{"xsas": []}]"#, "there are no advisories"),
        (r#"[{"xsas": [{"title": "x"}]}]"#, "[0].xsas[0]: `xsa` is no number"),
        (r#"[{"xsas": [{"xsa": -1}]}]"#, "`xsa` is no number"),
        (r#"[{"xsas": [{"xsa": 90001}, {"xsa": "90001"}]}]"#, "XSA-90001 is there twice"),
    ] {
        let error = feed::read(text).expect_err(text).to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    let meta = r#"{"XSA": 90002, "Recipes": {"9.1": {"XenVersion": "9.1", "Recipes": {"xen":
        {"StableRef": "83724d9f", "Prereqs": [90001], "Patches": ["xsa90002-9.1/*"]}}}}}"#;
    let meta = Meta::read(meta).expect("a meta");
    assert!(meta.touches("9.1") && !meta.touches("9.2"));
    assert_eq!(meta.recipe("9.1", XEN).map(|r| r.prereqs.clone()), Some(vec![90001]));
    assert!(Meta::read("{}").is_err() && Meta::read("x").is_err());
}

#[test]
fn what_commits_say() {
    let commit = |hash: &str, message: &str| format!("{hash}\u{1f}{message}\u{1e}\n");
    let says = |message: &str| {
        log::read(&commit("abcdef0123456789", message)).claims.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(says("x86: fix\n\nThis is XSA-90001 / CVE-2031-1.\n"), [90001]);
    assert_eq!(says("x86: fix\n\nThis is CVE-2031-1 / XSA-90001\n"), [90001]);
    assert_eq!(says("This is part of CVE-2031-1 / XSA-90001."), [90001]);
    assert_eq!(says("This is CVE-2031-1 / part of XSA-90001."), [90001]);
    assert_eq!(says("This is part of XSA-90001 and XSA-90002."), [90001, 90002]);
    assert_eq!(says("This is part of\nXSA-90001."), [90001], "a line ends where it is full");
    assert_eq!(says("Everything together is XSA-90001."), [90001]);
    for other in [
        "fixes what XSA-90001 broke",
        "This is needed since XSA-90001.",
        "This is not XSA-90001.",
        "Before XSA-90001, this is what happened",
        "This is the same as in XSA-90001",
    ] {
        assert_eq!(says(other), [0; 0], "{other}");
    }
    let history = [
        commit("5555555555", "Revert \"Revert \\\"x86: again\\\"\"\n\nThis reverts commit 4444444444."),
        commit("4444444444", "Revert \"x86: again\"\n\nThis reverts commit 3333333333."),
        commit("3333333333", "x86: again\n\nThis is XSA-90002."),
        commit(
            "2222222222",
            "Revert \"x86: fix\"\n\nThis reverts commit 1111111111.\n\nThis is XSA-90001, quoted",
        ),
        commit("1111111111", "x86: fix\n\nThis is part of XSA-90001."),
    ];
    let claims = log::read(&history.concat()).claims;
    assert_eq!(claims[&90001].commits, [""; 0], "it was reverted, and a revert is no fix");
    assert_eq!(claims[&90001].reverted, ["1111111111"]);
    assert_eq!(claims[&90002].commits, ["3333333333"], "its revert was reverted");
    assert!(!claims[&90002].covers(2, true) && claims[&90002].covers(1, true));
    let part = &log::read(&commit("a", "This is part of XSA-90001.")).claims[&90001];
    assert!(part.covers(1, true) && !part.covers(1, false), "a part of who knows how many");
}

/// A patch with a title that puts a word behind `two` of a file, and what a commit like it changes.
fn patch(title: &str, file: &str, word: &str) -> String {
    format!(
        "From: x\nSubject: {title}\n\n--- a/{file}\n+++ b/{file}\n@@ -1,3 +1,3 @@\n one\n-two\n+two {word}\n three\n"
    )
}

/// A history as `git log` prints it, the latest commit first, and what its commits change.
struct Commits {
    titles: String,
    messages: String,
    changes: BTreeMap<String, change::Change>,
}

impl Commits {
    /// Each a digit for its hash, its message, and its file and word.
    fn of(commits: &[(char, &str, &str, &str)]) -> Commits {
        let mut all = Commits { titles: String::new(), messages: String::new(), changes: BTreeMap::new() };
        for (digit, message, file, word) in commits {
            let hash = digit.to_string().repeat(40);
            all.titles += &format!("{hash}\u{1f}{}\n", message.lines().next().unwrap_or_default());
            all.messages += &format!("{hash}\u{1f}{message}\u{1e}\n");
            let diff = format!("--- a/{file}\n+++ b/{file}\n@@ -7 +7 @@ f\n-two\n+two {word}\n");
            all.changes.extend(change::Change::read(diff.as_bytes()).map(|c| (hash, c)));
        }
        all
    }

    /// How XSA-90003, which has these patches, stands where the source does not tell.
    fn stands(&self, patches: &[&str]) -> (Standing, String) {
        let name = |n: usize| format!("{}.patch", n + 1);
        let read = patches.iter().enumerate().map(|(n, p)| series::Patch::read(&name(n), p.as_bytes()));
        let (patches, titles) = (read.collect::<Vec<_>>(), series::Titles::read(&self.titles));
        let said = log::read(&self.messages);
        let claim = said.claims.get(&90003).cloned().unwrap_or_default();
        let asked = titles.asked(&patches);
        let changes = self.changes.clone().into_iter().filter(|(hash, _)| asked.contains(hash)).collect();
        let found = Series::find(&patches, &titles, &said, &claim, &changes);
        let source = OnSource::Neither { patch: "1.patch".into() };
        stands(Seen {
            source: Some(source),
            patches: Some(patches.len()),
            history: Some(claim),
            series: Some(found),
        })
    }
}

#[test]
fn patches_that_are_commits() {
    let (one, two) = (patch("[PATCH 1/2] x86: one", "a.c", "in"), patch("x86: two", "b.c", "in"));
    let both = [one.as_str(), two.as_str()];
    let history = Commits::of(&[
        ('3', "x86: two\n\nThis is part of XSA-90003.", "b.c", "in"),
        ('2', "x86: one, or so", "a.c", "in"),
        ('1', "x86: one", "a.c", "in"),
    ]);
    let (standing, why) = history.stands(&both);
    assert_eq!(standing, Standing::Contained, "{why}");
    assert_eq!(
        why,
        "the history has each of its 2 patches as a commit: 2 commits, 111111111111 to 333333333333"
    );
    let (standing, why) = history.stands(&[&one]);
    assert_eq!(
        (standing, why.as_str()),
        (Standing::Contained, "the history has commit 333333333333"),
        "its own word"
    );
    let alone = Commits::of(&[('1', "x86: one", "a.c", "in")]);
    let (standing, why) = alone.stands(&[&one]);
    assert_eq!(
        (standing, why.as_str()),
        (Standing::Contained, "the history has its patch as commit 111111111111")
    );
    // A title that mail broke.
    let broken = patch("[PATCH v2 1/2]\n\tx86:\n  one", "a.c", "in");
    assert_eq!(alone.stands(&[&broken]).0, Standing::Contained);
}

#[test]
fn patches_that_no_commit_is() {
    let (one, two) = (patch("x86: one", "a.c", "in"), patch("x86: two", "b.c", "in"));
    let unknown = |commits: &[(char, &str, &str, &str)], patches: &[&str], wanted: &str| {
        let (standing, why) = Commits::of(commits).stands(patches);
        assert!(standing == Standing::Unknown && why.ends_with(wanted), "{wanted}: {standing:?}: {why}");
    };
    let first = ('1', "x86: one", "a.c", "in");
    unknown(
        &[first],
        &[&one, &two],
        "; the history has 1 of its 2 patches as commits, not 2.patch (no commit has its title)",
    );
    unknown(
        &[('1', "x86: one", "a.c", "out")],
        &[&one],
        "; 1.patch is no commit of the history (commit 111111111111 has its title and another change)",
    );
    unknown(
        &[('1', "x86: one", "b.c", "in")],
        &[&one],
        "; 1.patch is no commit of the history (commit 111111111111 has its title and another change)",
    );
    unknown(
        &[('1', "x86: other", "a.c", "in")],
        &[&one],
        "; 1.patch is no commit of the history (no commit has its title)",
    );
    unknown(
        &[first],
        &[&one, &one],
        "1 of its 2 patches as commits, not 2.patch (no other commit has its title)",
    );
    let reverted =
        "; 1.patch is no commit of the history (commit 111111111111 has its title and was reverted)";
    let named = format!("Revert \"x86: one\"\n\nThis reverts commit {}.", "1".repeat(40));
    unknown(&[('2', &named, "a.c", "out"), first], &[&one], reverted);
    // One that was taken from another branch names the commit there.
    let elsewhere =
        "Revert \"x86: one\"\n\nThis reverts commit 9999999999.\n(cherry picked from commit 8888888888)";
    unknown(&[('2', elsewhere, "a.c", "out"), first], &[&one], reverted);
    let again =
        |message: &str| Commits::of(&[('3', message, "a.c", "in"), ('2', elsewhere, "a.c", "out"), first]);
    assert_eq!(again("x86: one").stands(&[&one]).0, Standing::Contained, "made once more");
    assert_eq!(again("Revert \"Revert \"x86: one\"\"").stands(&[&one]).0, Standing::Contained);
    assert_eq!(again("x86: something else").stands(&[&one]).0, Standing::Unknown);
    unknown(
        &[first],
        &["Subject: x86: one\n\ndiff --git a/x b/x\nold mode 1\nnew mode 2\n"],
        "; 1.patch is no commit of the history (its change cannot be compared)",
    );
    let untitled = one.replace("Subject", "Topic");
    unknown(&[first], &[&untitled], "; 1.patch is no commit of the history (it has no title)");
    let other = ["3", "4", "5", "6"].map(|n| patch(&format!("x86: {n}"), "c.c", n));
    let five: Vec<&str> = [&one].into_iter().chain(&other).map(String::as_str).collect();
    unknown(
        &[first],
        &five,
        "3.patch (no commit has its title), 4.patch (no commit has its title) and 1 more",
    );
}

/// A commit that says it is of the advisory and has a patch's title is it, as made for this branch; but not for two patches.
#[test]
fn a_commit_by_its_word() {
    let (one, two) = (patch("x86: one", "a.c", "in"), patch("x86: two", "b.c", "in"));
    let second = |says: &str| format!("x86: two\n\nThis is part of {says}.");
    let first = |says: &str| format!("x86: one\n\n{says}");
    let history = |one: &str, two: &str| {
        Commits::of(&[('2', &second(two), "b.c", "otherwise"), ('1', &first(one), "a.c", "in")])
    };
    let (standing, why) = history("", "XSA-90003").stands(&[&one, &two]);
    assert_eq!(standing, Standing::Contained, "{why}");
    assert!(
        why.ends_with(
            "; for 2.patch the commit's change is another, but it says that it is part of the advisory"
        ),
        "{why}"
    );
    for said in ["", "This is part of XSA-90003."] {
        assert_eq!(history(said, "XSA-90004").stands(&[&one, &two]).0, Standing::Unknown, "it is of another");
    }
    assert_eq!(history("", "XSA-90003").stands(&[&one, &two, &two]).0, Standing::Unknown, "it is one");
}

/// What was found does not count where the source tells by itself, or where something may have undone it.
#[test]
fn what_outweighs_commits() {
    let found = Series { commits: vec!["1".repeat(40), "2".repeat(40)], ..Series::default() };
    let seen = |source: Option<OnSource>, series: Series| Seen {
        source,
        patches: Some(2),
        history: claim(0, false, 0),
        series: Some(series),
    };
    let neither = Some(OnSource::Neither { patch: "1.patch".into() });
    for silent in [None, Some(OnSource::BothWays), neither.clone()] {
        assert!(seen(silent.clone(), found.clone()).asks_history());
        assert_eq!(stands(seen(silent, found.clone())).0, Standing::Contained);
    }
    let partly = OnSource::Partly { there: Vec::new(), missing: vec!["2.patch".into()] };
    for tells in [OnSource::Applies, partly, OnSource::UndoneBy(vec!["mine.patch".into()])] {
        assert!(!seen(Some(tells.clone()), found.clone()).asks_history());
        assert_eq!(stands(seen(Some(tells), found.clone())).0, Standing::Open);
    }
    let not_tried = OnSource::NotTried { why: "the feed has no 1.patch".into() };
    assert_eq!(stands(seen(Some(not_tried), found.clone())).0, Standing::Unknown);
    let over = Series { over: vec!["mine.patch".into()], ..found.clone() };
    let (standing, why) = stands(seen(neither.clone(), over));
    assert!(
        standing == Standing::Unknown && why.ends_with(", but their files are changed by mine.patch"),
        "{why}"
    );
    let differ = Series { differ: vec!["xen/a.c".into()], ..found.clone() };
    let (standing, why) = stands(seen(neither.clone(), differ));
    assert!(
        standing == Standing::Unknown && why.ends_with(", but not as the history has it is xen/a.c"),
        "{why}"
    );
    let less = Series { commits: vec!["1".repeat(40)], ..Series::default() };
    assert_eq!(stands(seen(neither, less)).0, Standing::Unknown, "one is not two");
}
