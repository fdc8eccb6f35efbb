use super::*;
use xenlab_model::step::xtf::RunAs;
use xenlab_model::xtf::Instance;

/// A tree with one test, two environments, a variation; built in another folder than it is in.
fn built(root: &Path) {
    let folder = root.join("tests/a");
    std::fs::create_dir_all(&folder).unwrap();
    let info = r#"{"name": "a", "category": "xsa", "environments": ["pv64"], "variations": ["x"]}"#;
    std::fs::write(folder.join("info.json"), info).unwrap();
    std::fs::write(folder.join("test-pv64-a"), b"kernel").unwrap();
    std::fs::write(folder.join("ramdisk"), b"more").unwrap();
    let config = "name=\"test-pv64-a~x\"\nmemory=128\n# kernel=\"/elsewhere/tests/a/test-pv64-a\"\n\
                  kernel=\"/elsewhere/tests/a/test-pv64-a\"\nramdisk = '/elsewhere/tests/a/ramdisk'\n\
                  cmdline=\"one two\"\ndisk=[\"/dev/sda,raw,hda,w\"]\nextra=\"/not/of/the/tree\"\n";
    std::fs::write(folder.join("test-pv64-a~x.cfg"), config).unwrap();
    std::fs::create_dir_all(root.join("tests/no-test")).unwrap();
}

fn step(root: &Path, test: &str) -> Xtf {
    Xtf { tree: root.display().to_string(), test: test.into(), run_as: RunAs::DomU, known: None }
}

#[test]
fn a_tree_is_its_info_files() {
    let dir = tempfile::tempdir().unwrap();
    built(dir.path());
    let tree = read_tree(dir.path()).unwrap();
    let names: Vec<String> = tree.instances().iter().map(|(i, _)| i.to_string()).collect();
    assert_eq!(names, ["test-pv64-a~x"]);
}

#[test]
fn what_is_no_tree_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = |root: &Path| read_tree(root).unwrap_err();
    assert!(told(&dir.path().join("none")).contains("is no XTF tree"), "{}", told(&dir.path().join("none")));
    std::fs::create_dir_all(dir.path().join("tests/b")).unwrap();
    assert!(told(dir.path()).contains("has an info.json"), "{}", told(dir.path()));
    built(dir.path());
    std::fs::write(dir.path().join("tests/b/info.json"), "{").unwrap();
    assert!(told(dir.path()).contains("b/info.json: "), "{}", told(dir.path()));
    let other = r#"{"name": "a", "category": "xsa", "environments": [], "variations": []}"#;
    std::fs::write(dir.path().join("tests/b/info.json"), other).unwrap();
    assert!(told(dir.path()).contains("its folder's is not"), "{}", told(dir.path()));
    std::fs::remove_file(dir.path().join("tests/b/info.json")).unwrap();
    std::fs::remove_file(dir.path().join("tests/a/test-pv64-a")).unwrap();
    assert!(told(dir.path()).contains("run `make` there"), "{}", told(dir.path()));
}

#[test]
fn paths_of_the_folder_it_was_built_in_become_those_in_dom0() {
    let dir = tempfile::tempdir().unwrap();
    built(dir.path());
    let guest = guest(&step(dir.path(), "test-pv64-a~x"), "/run/x", &Facts::default()).unwrap();
    assert_eq!(
        guest.config,
        "name=\"test-pv64-a~x\"\nmemory=128\n# kernel=\"/elsewhere/tests/a/test-pv64-a\"\n\
         kernel = \"/run/x/test-pv64-a\"\nramdisk = \"/run/x/ramdisk\"\ncmdline=\"one two\"\n\
         disk=[\"/dev/sda,raw,hda,w\"]\nextra=\"/not/of/the/tree\"\n"
    );
    let files: Vec<(&str, &[u8])> = guest.files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    assert_eq!(files, [("test-pv64-a", &b"kernel"[..]), ("ramdisk", &b"more"[..])]);
    assert_eq!(guest.digest, crate::digest_hex(b"kernel"));
    assert_eq!(guest.cmdline, "one two");
}

#[test]
fn what_is_not_built_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    built(dir.path());
    std::fs::remove_file(dir.path().join("tests/a/test-pv64-a")).unwrap();
    let known = Some(Known {
        instance: Instance { name: "a".into(), environment: "pv64".into(), variation: Some("x".into()) },
        category: "xsa".into(),
    });
    let error = guest(&Xtf { known, ..step(dir.path(), "test-pv64-a~x") }, "/run/x", &Facts::default())
        .err()
        .unwrap();
    assert_eq!(error.cause(), Cause::XtfNotBuilt);
    assert!(error.to_string().contains("`make` in the tree builds all"), "{error}");
}

#[test]
fn a_pae_guest_has_shadow_paging_where_nested_paging_is_not_right() {
    let dir = tempfile::tempdir().unwrap();
    built(dir.path());
    let folder = dir.path().join("tests/a");
    let info = r#"{"name": "a", "category": "xsa", "environments": ["hvm32pae", "hvm32"], "variations": []}"#;
    std::fs::write(folder.join("info.json"), info).unwrap();
    let mut facts = Facts::default();
    let config = |environment: &str, facts: &Facts| {
        let name = format!("test-{environment}-a");
        std::fs::write(folder.join(&name), b"kernel").unwrap();
        std::fs::write(folder.join(format!("{name}.cfg")), "memory=128\n").unwrap();
        let instance = Instance { name: "a".into(), environment: environment.into(), variation: None };
        let known = Some(Known { instance, category: "xsa".into() });
        guest(&Xtf { known, ..step(dir.path(), &name) }, "/run/x", facts).unwrap().config
    };
    assert_eq!(config("hvm32pae", &facts), "memory=128\nvkb_device = 0\n");
    let faults = ["npt-pae-accessed".to_owned()].into();
    facts.set("machine.emulator-faults", xenlab_model::fact::FactValue::Set(faults));
    assert_eq!(config("hvm32pae", &facts), "memory=128\nvkb_device = 0\nhap = 0\n");
    assert_eq!(config("hvm32", &facts), "memory=128\nvkb_device = 0\n");
}
