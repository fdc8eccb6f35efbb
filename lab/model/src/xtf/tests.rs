use super::*;

fn test(name: &str, category: &str, environments: &[&str], variations: &[&str]) -> Test {
    let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    Test {
        name: name.into(),
        category: category.into(),
        environments: owned(environments),
        variations: owned(variations),
    }
}

fn tree() -> Tree {
    Tree {
        tests: vec![
            test("example", "special", &["pv64", "hvm32"], &[]),
            test("invlpg", "functional", &["hvm64", "hvm32"], &["shadow", "hap"]),
            test("xsa-7", "xsa", &["pv64", "pv32pae"], &[]),
        ],
    }
}

fn chosen(selection: Selection) -> Vec<String> {
    tree().select(&selection).unwrap().iter().map(Instance::to_string).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

#[test]
fn without_words_it_is_what_xtf_runner_all_runs() {
    let all = [
        "test-hvm32-invlpg~hap",
        "test-hvm32-invlpg~shadow",
        "test-hvm64-invlpg~hap",
        "test-hvm64-invlpg~shadow",
        "test-pv32pae-xsa-7",
        "test-pv64-xsa-7",
    ];
    assert_eq!(chosen(Selection::default()), all);
    assert_eq!(chosen(Selection { category: words(&["all"]), ..Default::default() }).len(), 8);
    assert_eq!(
        chosen(Selection { category: words(&["special"]), ..Default::default() }),
        ["test-hvm32-example", "test-pv64-example"]
    );
}

#[test]
fn words_narrow() {
    let of = |environment: &[&str], test: &[&str]| {
        chosen(Selection { environment: words(environment), test: words(test), ..Default::default() })
    };
    assert_eq!(of(&["pv"], &[]), ["test-pv32pae-xsa-7", "test-pv64-xsa-7"]);
    assert_eq!(of(&["hvm64"], &[]), ["test-hvm64-invlpg~hap", "test-hvm64-invlpg~shadow"]);
    // A test that is named is meant, whatever its category.
    assert_eq!(of(&[], &["example"]), ["test-hvm32-example", "test-pv64-example"]);
    assert_eq!(of(&[], &["pv64-example"]), ["test-pv64-example"]);
    assert_eq!(of(&[], &["test-hvm32-example"]), ["test-hvm32-example"]);
    assert_eq!(of(&[], &["invlpg~hap"]), ["test-hvm32-invlpg~hap", "test-hvm64-invlpg~hap"]);
    assert_eq!(of(&["hvm32"], &["invlpg"]), ["test-hvm32-invlpg~hap", "test-hvm32-invlpg~shadow"]);
    assert_eq!(of(&["pv64"], &["invlpg"]), [""; 0]);
}

#[test]
fn words_that_mean_nothing_are_all_told() {
    let selection = Selection {
        tree: String::new(),
        category: words(&["xsa", "functionl"]),
        environment: words(&["pv65"]),
        test: words(&["exmaple", "example~hap"]),
    };
    let unknown = tree().select(&selection).unwrap_err();
    let told: Vec<(&str, usize)> = unknown.iter().map(|u| (u.key, u.index)).collect();
    assert_eq!(told, [("category", 1), ("environment", 0), ("test", 0), ("test", 1)]);
    assert_eq!(unknown[0].near.as_deref(), Some("functional"));
    assert_eq!(unknown[1].near.as_deref(), Some("pv64"));
    assert_eq!(unknown[2].near.as_deref(), Some("example"));
}

#[test]
fn the_last_line_is_the_result() {
    let cases = [
        ("--- Xen Test Framework ---\nHello\nTest result: SUCCESS\n", Outcome::Success),
        ("Test result: SUCCESS with warnings\r\n\n", Outcome::SuccessWithWarnings),
        ("Test result: SKIP", Outcome::Skip),
        ("Test result: ERROR\n", Outcome::Error),
        ("Test result: FAILURE\n", Outcome::Failure),
        // What is no result, or is not the last thing said.
        ("", Outcome::Crash),
        ("Hello\n", Outcome::Crash),
        ("Test result: SUCCESS\nPANIC: no\n", Outcome::Crash),
        ("Test result: SUCCESSFUL\n", Outcome::Crash),
        ("Test result: RUNNING\n", Outcome::Crash),
        ("> Test result: SUCCESS\n", Outcome::Crash),
        ("Test result: success\n", Outcome::Crash),
    ];
    for (text, outcome) in cases {
        assert_eq!(Outcome::of_console(text), outcome, "{text:?}");
    }
}

#[test]
fn what_an_instance_needs_is_what_xen_must_have() {
    let of = |name: &str| {
        let (instance, _) = tree().find(name).unwrap();
        instance.needs().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(of("test-pv64-xsa-7"), ["pv"]);
    assert_eq!(of("test-pv32pae-xsa-7"), ["pv", "pv32"]);
    assert_eq!(of("test-hvm64-invlpg~shadow"), ["hvm", "shadow"]);
    assert_eq!(of("test-hvm64-invlpg~hap"), ["hap", "hvm"]);
    let all = caps("pv hvm hap shadow gnttab-v1", "xen-3.0-x86_64 xen-3.0-x86_32p hvm-3.0-x86_32");
    assert_eq!(all.into_iter().collect::<Vec<_>>(), ["hap", "hvm", "pv", "pv32", "shadow"]);
    assert_eq!(caps("pv hvm hap", "xen-3.0-x86_64").into_iter().collect::<Vec<_>>(), ["hap", "hvm", "pv"]);
    // No PV at all: what xen_caps says of 32-bit guests is another kind.
    assert_eq!(caps("hvm", "xen-3.0-x86_32p").into_iter().collect::<Vec<_>>(), ["hvm"]);
}

#[test]
fn what_the_build_says_is_known_before_anything_boots() {
    let mut facts = Facts::default();
    let of = |name: &str, facts: &Facts| tree().find(name).unwrap().0.cannot(Arch::X86_64, facts);
    // Nothing known is no reason.
    assert_eq!(of("test-pv32pae-xsa-7", &facts), None);
    let set = |words: &[&str]| FactValue::Set(words.iter().map(|w| (*w).to_owned()).collect());
    facts.set("build.config", set(&["PV", "HVM"]));
    assert_eq!(of("test-pv64-xsa-7", &facts), None);
    assert_eq!(of("test-pv32pae-xsa-7", &facts).as_deref(), Some("this Xen is built without PV32"));
    assert_eq!(
        of("test-hvm64-invlpg~shadow", &facts).as_deref(),
        Some("this Xen is built without SHADOW_PAGING")
    );
    assert_eq!(of("test-hvm64-invlpg~hap", &facts), None);
    facts.set("build.config", set(&["PV"]));
    assert_eq!(of("test-hvm64-invlpg~hap", &facts).as_deref(), Some("this Xen is built without HVM"));
    let (pv, _) = tree().find("test-pv64-xsa-7").unwrap();
    assert_eq!(
        pv.cannot(Arch::Aarch64, &Facts::default()).as_deref(),
        Some("pv64 is an environment of x86_64, the machine is aarch64")
    );
    facts.set("build.config", set(&["PV", "HVM"]));
    let of_pae = |variation: Option<&str>| Instance {
        name: "invlpg".into(),
        environment: "hvm32pae".into(),
        variation: variation.map(Into::into),
    };
    let pae = || of_pae(None);
    assert_eq!(pae().cannot(Arch::X86_64, &facts), None);
    facts.set("machine.emulator-faults", set(&["npt-pae-accessed"]));
    let why = pae().cannot(Arch::X86_64, &facts).unwrap();
    assert!(why.contains("needs shadow paging, and this Xen is built without SHADOW_PAGING"), "{why}");
    // Nobody else's page tables are spoiled.
    assert_eq!(of("test-hvm64-invlpg~hap", &facts), None);
    facts.set("build.config", set(&["PV", "HVM", "SHADOW_PAGING"]));
    assert_eq!(pae().cannot(Arch::X86_64, &facts), None);
    assert!(pae().without_hap(&facts));
    assert!(of_pae(Some("hap")).cannot(Arch::X86_64, &facts).unwrap().ends_with("it tests nested paging"));
    let odd = Instance { name: "x".into(), environment: "quantum".into(), variation: None };
    assert!(odd.cannot(Arch::X86_64, &Facts::default()).is_some());
}

#[test]
fn the_list_of_what_is_the_same_as_dom0_is_of_pv_instances() {
    for line in AS_DOM0.lines().filter(|l| !l.starts_with('#')) {
        assert!(line.starts_with("test-pv64-"), "{line}");
        let name = line.split_whitespace().next().unwrap();
        assert!(same_as_dom0(name).is_some_and(|n| n >= 1), "{line}");
    }
    assert_eq!(same_as_dom0("test-pv64-xsa-296"), Some(2));
    assert_eq!(same_as_dom0("test-pv64-of-nobody"), None);
    assert_eq!(same_as_dom0("#"), None);
}
