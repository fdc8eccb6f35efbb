use super::*;

fn m(yaml: &str) -> Matcher {
    serde_json::from_str(yaml).unwrap()
}

fn set(s: &str) -> FactValue {
    parse(s, FactType::Set).unwrap()
}

fn facts() -> Facts {
    let mut f = Facts::default();
    f.set("build.build-id", FactValue::text("5eaf"));
    f.set("build.declared-version", FactValue::Version("4.20".into()));
    f.set("build.config", set("PV HVM"));
    f.set("host.memory", FactValue::Size(1 << 30));
    f
}

#[test]
fn values_by_type() {
    let v = |s: &str| FactValue::Version(s.into());
    let rows: Vec<(&str, FactValue, bool)> = vec![
        // Versions: 4.9 < 4.20, 4.20 is not 4.2, a pre-release is before its release.
        (r#"{"at-least": "4.20"}"#, v("4.9"), false),
        (r#"{"below": "4.20"}"#, v("4.9"), true),
        (r#"{"at-least": "4.20"}"#, v("4.20.4-pre"), true),
        (r#"{"at-least": "4.20"}"#, v("4.20-rc1"), false),
        (r#""4.20""#, v("4.2"), false),
        (r#""4.2""#, v("4.20"), false),
        (r#""4.17.5""#, v("4.17.6"), false),
        (r#"{"starts-with": "4.17."}"#, v("4.17.5"), true),
        // Integers are compared as numbers: 9 < 64, and 064 is 64.
        (r#"{"at-least": 64}"#, FactValue::Integer(9), false),
        (r#"{"at-least": 64}"#, FactValue::Integer(64), true),
        (r#"{"below": 64}"#, FactValue::Integer(64), false),
        (r#"64"#, FactValue::Integer(64), true),
        (r#"[1, 2]"#, FactValue::Integer(2), true),
        (r#"[1, 2]"#, FactValue::Integer(3), false),
        (r#"{"not": 2}"#, FactValue::Integer(2), false),
        // Sizes with units.
        (r#"{"at-least": "1G"}"#, FactValue::Size(1 << 30), true),
        (r#"{"at-least": "1G"}"#, FactValue::Size((1 << 30) - 1), false),
        (r#""1024M""#, FactValue::Size(1 << 30), true),
        // Sets have no order, and words are whole.
        (r#""pv hvm""#, set("hvm pv"), true),
        (r#""pv hvm""#, set("hvm pv hap"), false),
        (r#"{"contains": ["pv", "hvm"]}"#, set("hvm pv hap"), true),
        (r#"{"contains": "pv hvm"}"#, set("pv"), false),
        (r#"{"contains": "hv"}"#, set("hvm pv"), false),
        (r#"{"lacks": "shadow hap"}"#, set("pv hap"), false),
        (r#"{"lacks": "shadow"}"#, set("pv hap"), true),
        (r#"{"not": "hap pv"}"#, set("pv hap"), false),
        // Flags.
        (r#"true"#, FactValue::Flag(true), true),
        (r#"{"not": true}"#, FactValue::Flag(true), false),
        // Text.
        (r#"{"matches": "(?m)^Domain-0\\s"}"#, FactValue::text("Name\nDomain-0  0"), true),
        (r#"{"matches": "^Domain-0\\s"}"#, FactValue::text("Name\nDomain-0  0"), false),
        (r#"{"contains": ["a", "b"], "lacks": "c"}"#, FactValue::text("ab"), true),
        (r#"{"contains": ["a", "b"], "lacks": "c"}"#, FactValue::text("abc"), false),
        (r#""""#, FactValue::text(""), true),
        (r#""""#, FactValue::text("x"), false),
        (r#"{"present": true}"#, FactValue::text(""), true),
        (r#"{"present": false}"#, FactValue::text(""), false),
        // Facts.
        (r#"{"same-as": "build.build-id"}"#, FactValue::text("5eaf"), true),
        (r#"{"same-as": "build.build-id"}"#, FactValue::text("5ea"), false),
        (r#"{"same-as": "build.declared-version"}"#, v("4.2"), false),
        (r#"{"same-as": "build.config"}"#, set("HVM PV"), true),
        (r#"{"same-as": "host.memory"}"#, FactValue::Size(1 << 30), true),
        // What cannot be compared never holds.
        (r#"{"at-least": 1}"#, set("2"), false),
        (r#"{"lacks": "x"}"#, FactValue::Integer(4), false),
        (r#"{"not": "many"}"#, FactValue::Integer(4), false),
        (r#"{"matches": "("}"#, FactValue::text("("), false),
        (r#"{"below": 5}"#, FactValue::text("4"), false),
    ];
    for (matcher, value, holds) in rows {
        let got = m(matcher).test(Some(&value), &facts());
        assert_eq!(got == Outcome::Holds, holds, "{matcher} of {value:?}: {got:?}");
        assert!(!matches!(got, Outcome::Unknown { .. }), "{matcher}");
    }
}

#[test]
fn a_value_that_is_not_there_satisfies_only_its_absence() {
    for matcher in [
        r#""""#,
        r#"{"not": "x"}"#,
        r#"{"lacks": "x"}"#,
        r#"{"below": 5}"#,
        r#"{"present": true}"#,
        r#"{"matches": ".*"}"#,
        r#"{"same-as": "no.such"}"#,
    ] {
        assert!(matches!(m(matcher).test(None, &facts()), Outcome::Fails { .. }), "{matcher}");
    }
    assert_eq!(m(r#"{"present": false}"#).test(None, &facts()), Outcome::Holds);
}

#[test]
fn an_unknown_fact_is_never_a_pass_and_never_hides_a_failure() {
    let same = r#"{"same-as": "build.image-version"}"#;
    assert_eq!(
        m(same).test(Some(&FactValue::text("x")), &facts()),
        Outcome::Unknown { facts: vec!["build.image-version".into()] }
    );
    let both = r#"{"same-as": "build.image-version", "starts-with": "y"}"#;
    assert!(matches!(m(both).test(Some(&FactValue::text("x")), &facts()), Outcome::Fails { .. }));
    assert_eq!(m(same).fact_names(), ["build.image-version"]);
}

#[test]
fn text_is_read_by_its_type() {
    assert_eq!(m("4").test_text("4", FactType::Integer, &facts()), Outcome::Holds);
    let Outcome::Fails { expected, seen } =
        m(r#"{"at-least": 4}"#).test_text("many", FactType::Integer, &facts())
    else {
        panic!("many is no number")
    };
    assert_eq!((expected.as_str(), seen.as_str()), ("at least `4`", "`many`, which is not a whole number"));
    assert_eq!(m(r#"{"present": true}"#).test_text("many", FactType::Integer, &facts()), Outcome::Holds);
    assert!(matches!(m(r#"{"not": 4}"#).test_text("", FactType::Integer, &facts()), Outcome::Fails { .. }));
}

#[test]
fn words_of_a_failure() {
    let Outcome::Fails { expected, seen } =
        m(r#"{"same-as": "build.build-id"}"#).test(Some(&FactValue::text("dead")), &facts())
    else {
        panic!("they differ")
    };
    assert_eq!((expected.as_str(), seen.as_str()), ("`5eaf` (the fact build.build-id)", "`dead`"));
    assert_eq!(m(r#"{"contains": ["a b", "c"]}"#).expected(&facts()), "`a b` and `c` in it");
    assert!(quote(&"x\n".repeat(5000)).len() < 600);
}

#[test]
fn output_that_was_cut_shows_only_what_is_there() {
    let cut = |text: &str| Captured { text: text.into(), total: 1 << 20, cut: true };
    let whole = |text: &str| Captured { text: text.into(), total: text.len() as u64, cut: false };
    let holds =
        |matcher: &str, c: &Captured| m(matcher).test_captured(c, &facts()).map(|o| o == Outcome::Holds);
    // Whole: one line end is taken off, not two.
    assert_eq!(holds(r#""g1""#, &whole("g1\n")), Ok(true));
    assert_eq!(holds(r#""g1""#, &whole("g1\r\n")), Ok(true));
    assert_eq!(holds(r#""g1""#, &whole("g1\n\n")), Ok(false));
    assert_eq!(holds(r#""""#, &whole("\n")), Ok(true));
    // Cut: absence and equality cannot be shown ...
    for matcher in [
        r#"{"lacks": "panic"}"#,
        r#""ok\n""#,
        r#"{"not": "ok\nx"}"#,
        r#"["ok\nb", "c"]"#,
        r#"{"matches": "ok$"}"#,
        r#"{"matches": "ok\\n\\z"}"#,
        r#"{"contains": "later"}"#,
        r#"{"starts-with": "ok\nand"}"#,
        r#"{"contains": "ok", "lacks": "panic"}"#,
    ] {
        assert!(holds(matcher, &cut("ok\n")).is_err(), "{matcher}");
    }
    // ... what is there can.
    assert_eq!(holds(r#"{"contains": "ok"}"#, &cut("ok\n")), Ok(true));
    assert_eq!(holds(r#"{"starts-with": "ok"}"#, &cut("ok\n")), Ok(true));
    assert_eq!(holds(r#"{"matches": "(?m)^ok$"}"#, &cut("ok\n")), Ok(true));
    assert_eq!(holds(r#"{"lacks": "ok"}"#, &cut("ok\n")), Ok(false));
    assert_eq!(holds(r#""other""#, &cut("ok\n")), Ok(false));
    assert_eq!(holds(r#"{"not": "other"}"#, &cut("ok\n")), Ok(true));
    assert_eq!(holds(r#"{"lacks": "ok", "contains": "later"}"#, &cut("ok\n")), Ok(false));
}

#[test]
fn what_makes_no_sense_is_said_before_there_is_a_value() {
    use FactType::*;
    let rows: &[(&str, FactType, &str)] = &[
        (r#"{"at-least": 1}"#, Set, "this is a set"),
        (r#"{"below": "x"}"#, Text, "this is text"),
        (r#"{"at-least": "x"}"#, Integer, "expected a whole number, found `x`"),
        (r#""x""#, Integer, "not a whole number"),
        (r#"[1, "x"]"#, Integer, "found `x`"),
        (r#"{"matches": "("}"#, Text, "bad regular expression: unclosed group"),
        (r#"{"matches": ""}"#, Text, "matches everything"),
        (r#"{"matches": "4"}"#, Integer, "looks at text"),
        (r#"{"contains": "4"}"#, Flag, "looks into text and sets"),
        (r#"{"contains": ""}"#, Text, "every text"),
        (r#"{"lacks": " "}"#, Set, "names no word"),
        (r#"{"starts-with": ""}"#, Text, "every text"),
        (r#""yes""#, Flag, "not true or false"),
        (r#"{"at-least": "1.5G"}"#, Size, "not a size"),
        (r#""bookworm""#, Version, "not a version"),
        (r#"{"present": "maybe"}"#, Text, "true or false"),
        (r#"{"present": false, "equals": "x"}"#, Text, "leaves no value"),
    ];
    for (matcher, kind, says) in rows {
        let faults = m(matcher).check(*kind).unwrap_err();
        assert!(faults.iter().any(|f| f.contains(says)), "{matcher} on {kind:?}: {faults:?}");
    }
    for (matcher, kind) in [
        (r#"{"at-least": 64}"#, Integer),
        (r#"{"at-least": "4.20"}"#, Version),
        (r#"{"contains": "pv"}"#, Set),
        (r#"{"same-as": "build.build-id"}"#, Text),
        (r#"{"matches": "x+"}"#, Text),
        (r#"{"at-least": "64M"}"#, Size),
        (r#""""#, Set),
        (r#""""#, Text),
        (r#"{"present": false}"#, Set),
    ] {
        assert_eq!(m(matcher).check(kind), Ok(()), "{matcher}");
    }
    assert_eq!(m(r#"{"at-least": "x", "matches": "("}"#).check(Integer).unwrap_err().len(), 2);
}

proptest::proptest! {
    /// Whatever an operator says of the whole text, it never says the opposite of the beginning.
    #[test]
    fn a_cut_never_turns_a_verdict(text in "[ab\n]{0,8}", keep in 0usize..8, operand in "[ab]{1,3}", op in 0usize..8) {
        let op = [Op::Equals, Op::Not, Op::Contains, Op::Lacks, Op::StartsWith, Op::AnyOf, Op::Matches, Op::SameAs][op];
        let operand = if op == Op::Matches { format!("(?m){operand}$") } else { operand };
        let mut facts = Facts::default();
        facts.set("f", FactValue::text(operand.clone()));
        let matcher = Matcher::All(vec![(op, vec![if op == Op::SameAs { "f".to_owned() } else { operand }])]);
        let kept = &text[..keep.min(text.len())];
        let whole = Captured { text: text.clone(), total: text.len() as u64, cut: false };
        let part = Captured { text: kept.to_owned(), total: text.len() as u64, cut: true };
        if let Ok(part) = matcher.test_captured(&part, &facts) {
            let whole = matcher.test_captured(&whole, &facts).unwrap();
            proptest::prop_assert_eq!(part == Outcome::Holds, whole == Outcome::Holds);
        }
    }
}
