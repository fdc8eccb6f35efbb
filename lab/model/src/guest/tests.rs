use super::*;

fn guest(json: &str) -> Guest {
    Guest { name: "h1".into(), config: serde_json::from_str(json).unwrap() }
}

fn with(fact: &str, words: &[&str]) -> Facts {
    let mut facts = Facts::default();
    facts.set(fact, FactValue::Set(words.iter().map(|w| (*w).to_owned()).collect()));
    facts
}

#[test]
fn an_hvm_guest_boots_what_its_firmware_finds() {
    let config = guest(r#"{"type": "hvm", "memory": "32M"}"#).xl_config("h1", "n", &Facts::default());
    for line in [
        "type = \"hvm\"",
        "boot = \"c\"",
        "vga = \"stdvga\"",
        "serial = \"file:/run/xenlab-guests/h1.serial\"",
        "disk = [ \"format=raw,vdev=hda,access=rw,backendtype=qdisk,target=/run/xenlab-guests/h1.boot\" ]",
    ] {
        assert!(config.lines().any(|l| l == line), "{line}: {config}");
    }
    assert!(["kernel =", "extra =", "bios ="].iter().all(|key| !config.contains(key)), "{config}");
    let ipxe = guest(r#"{"type": "hvm", "firmware": "ipxe", "vifs": {"net0": {"bridge": "b"}}}"#);
    assert!(ipxe.xl_config("h1", "n", &Facts::default()).contains("boot = \"nc\""));
    let ovmf = guest(r#"{"type": "hvm", "firmware": "ovmf"}"#);
    assert!(ovmf.xl_config("h1", "n", &Facts::default()).contains("bios = \"ovmf\""));
    let own = guest(r#"{"type": "hvm", "kernel": "file:/k"}"#).xl_config("h1", "n", &Facts::default());
    assert!(own.contains("kernel = \"") && !own.contains("vdev=hda"), "{own}");
}

/// What firmware says, as it was seen on a screen of 80 characters.
const SCREEN: &str = "SeaBIOS (version 1.16.2-debian-1.16.2-1)\r\n\
    iPXE (http://ipxe.org) 00:03.0 CA00 PCI2.10 PnP PMM+02FCF250+02F0F250 CA00\r\n\
    iPXE 1.0.0+git-20190125.36a4c85-5.1 -- Open Source Network Boot Firmware -- http\r\n://ipxe.org\r\n\
    Configuring (net0 52:54:00:12:34:56).................. No configuration methods\r\n";

#[test]
fn each_firmware_is_known_by_its_own_words() {
    let has = |json: &str, text: &str| {
        let all = guest(json).words("0123");
        assert!(!all.is_empty());
        all.iter().all(|(p, _)| regex::Regex::new(p).unwrap().is_match(text))
    };
    let ready = format!("{SCREEN}xenlab-guest: ready 0123 00000000\r\n");
    let (bios, ipxe) = (r#"{"type": "hvm"}"#, r#"{"type": "hvm", "firmware": "ipxe"}"#);
    assert!(has(bios, &ready) && has(ipxe, &ready));
    assert!(!has(bios, SCREEN) && !has(ipxe, SCREEN), "nothing was booted");
    assert!(!has(bios, &ready.replace("0123", "4567")), "what booted is not of this guest's disk");
    let silent = ready.lines().filter(|l| !l.contains("iPXE 1")).collect::<Vec<_>>().join("\n");
    assert!(
        has(bios, &silent) && !has(ipxe, &silent),
        "a network card's ROM that was found has not started yet"
    );
    assert!(!has(r#"{"type": "hvm", "firmware": "ovmf"}"#, &ready), "SeaBIOS is no OVMF");
    assert!(guest(r#"{"type": "hvm", "kernel": "file:/k"}"#).words("0123").is_empty());
}

#[test]
fn where_there_are_no_hvm_guests() {
    let (bios, ovmf) = (guest(r#"{"type": "hvm"}"#), guest(r#"{"type": "hvm", "firmware": "ovmf"}"#));
    let because = |guest: &Guest, facts: &Facts| guest.cannot(facts).unwrap_or_default();
    assert!(because(&bios, &with("build.config", &["PV"])).contains("without HVM"));
    let mut facts = with("build.parts", &["hypervisor"]);
    assert!(because(&bios, &facts).contains("no device model"));
    facts.set("machine.device-model", FactValue::text("debian:bookworm 7.2"));
    assert_eq!(bios.cannot(&facts), None);
    let faulty = with("machine.emulator-faults", &["ovmf-in-guest", "npt-mov-cr2"]);
    assert!(because(&ovmf, &faulty).contains("emulator"));
    assert_eq!(bios.cannot(&faulty), None, "a boot sector has no page faults");
}

#[test]
fn what_does_not_go_together() {
    let mistake = |json: &str| guest(json).mistake().map(|(message, _)| message);
    assert_eq!(mistake(r#"{"type": "hvm"}"#), None);
    for (json, says) in [
        (r#"{"type": "pv", "firmware": "ovmf"}"#, "for guests of type hvm"),
        (r#"{"type": "hvm", "firmware": "ipxe"}"#, "it has none"),
        (r#"{"type": "hvm", "firmware": "ovmf", "kernel": "file:/k"}"#, "started by SeaBIOS"),
    ] {
        assert!(mistake(json).is_some_and(|m| m.contains(says)), "{json}");
    }
}

#[test]
fn where_xen_makes_no_domains() {
    let by_xen = guest(r#"{"start": "xen"}"#);
    let facts = |arch: &str, way: &str, branch: &str, config: &[&str]| {
        let mut facts = with("build.config", config);
        facts.set("arch", FactValue::text(arch));
        facts.set("boot.way", FactValue::text(way));
        facts.set("build.branch", FactValue::Version(branch.to_owned()));
        facts
    };
    let because = |facts: &Facts| by_xen.cannot(facts).unwrap_or_default();
    let (old, new) = (["SBSA_VUART_CONSOLE"], ["SBSA_VUART_CONSOLE", "DOM0LESS_BOOT"]);
    assert_eq!(because(&facts("aarch64", "direct", "4.17", &old)), "");
    assert_eq!(because(&facts("aarch64", "direct", "4.20", &new)), "");
    assert_eq!(by_xen.cannot(&Facts::default()), None, "what is not known yet is no reason");
    assert!(because(&facts("x86_64", "direct", "4.20", &new)).contains("on AArch64 only"));
    assert!(because(&facts("aarch64", "uefi", "4.20", &new)).contains("QEMU, which must load Xen"));
    assert!(because(&facts("aarch64", "direct", "4.20", &old)).contains("DOM0LESS_BOOT"));
    assert!(because(&facts("aarch64", "direct", "4.17", &["GICV3"])).contains("SBSA_VUART_CONSOLE"));
    assert_eq!(guest(r#"{"memory": "64M"}"#).cannot(&facts("aarch64", "uefi", "4.20", &[])), None);
}
