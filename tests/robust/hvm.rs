//! HVM guests in dom0: with a device model they come, run and go, one in place of the firmware and one from a disk; without, libxl
//! says what is missing.

use crate::bench::{Bench, user_store};
use serde_json::Value;

/// Where the guest is put, and entered.
const BASE: u32 = 0x10_0000;
/// ELF's header and one program header.
const HEADERS: u32 = 52 + 32;
/// What it says; Xen writes a line of it to its own console.
const SAYS: &str = "HVM guest ran";
/// The same as Xen writes it (xen/arch/x86/hvm/hvm.c, `hvm_print_line`).
const SAYS_ON_XEN: &str = "(d1) HVM guest ran";

/// The guest in place of hvmloader, an ELF file for i386: libxc enters it in flat 32-bit mode. It writes to Xen's debug port
/// (0xe9, XEN_HVM_DEBUGCONS_IOPORT) and halts with interrupts off, which Xen takes for a power-off.
fn guest() -> Vec<u8> {
    const CODE: u32 = 24;
    let mut code = vec![0xfa, 0xbe]; // cli; mov $text, %esi
    code.extend((BASE + HEADERS + CODE).to_le_bytes());
    code.extend([0x66, 0xba, 0xe9, 0x00, 0xfc]); // mov $0xe9, %dx; cld
    code.extend([0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8]); // until a zero: lodsb; out %al, %dx
    code.extend([0xf4, 0xeb, 0xfd, 0x90, 0x90]); // hlt, for ever; padding
    assert_eq!(code.len(), CODE as usize);
    code.extend(SAYS.bytes().chain(*b"\n\0"));
    let size = HEADERS + code.len() as u32;
    elf(BASE + HEADERS, &[load(size)], code)
}

/// PT_LOAD: all of the file, all that may be done with it.
fn load(size: u32) -> [u32; 8] {
    [1, 0, BASE, BASE, size, size, 7, 4096]
}

/// An ELF file for i386, with these program headers and what comes behind them.
fn elf(entry: u32, program_headers: &[[u32; 8]], rest: Vec<u8>) -> Vec<u8> {
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |elf: &mut Vec<u8>, all: &[u16]| all.iter().for_each(|n| elf.extend(n.to_le_bytes()));
    let words = |elf: &mut Vec<u8>, all: &[u32]| all.iter().for_each(|n| elf.extend(n.to_le_bytes()));
    // ET_EXEC for i386, EV_CURRENT; entry, program headers, no sections.
    halves(&mut elf, &[2, 3]);
    words(&mut elf, &[1, entry, 52, 0, 0]);
    halves(&mut elf, &[52, 32, program_headers.len() as u16, 40, 0, 0]);
    words(&mut elf, program_headers.as_flattened());
    elf.extend(rest);
    elf
}

/// What the disk's boot sector says.
const DISK_SAYS: &str = "HVM guest booted its disk";

/// A boot sector that does the same, in 16-bit mode: what hvmloader, SeaBIOS and the device model's disk lead to.
fn boot_sector() -> Vec<u8> {
    let mut code = vec![0xfa, 0x31, 0xc0, 0x8e, 0xd8]; // cli; xor %ax, %ax; mov %ax, %ds
    code.extend([0xbe, 0x17, 0x7c]); // mov $text, %si
    code.extend([0xba, 0xe9, 0x00, 0xfc]); // mov $0xe9, %dx; cld
    code.extend([0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8]); // until a zero: lodsb; out %al, %dx
    code.extend([0xf4, 0xeb, 0xfd]); // hlt, for ever
    assert_eq!(code.len(), 0x17);
    code.extend(DISK_SAYS.bytes().chain(*b"\n\0"));
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code
}

/// The bytes as `printf` takes them.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("\\{b:03o}")).collect()
}

/// The same scenario with and without a device model.
#[test]
fn an_hvm_guest_needs_a_device_model() {
    let (bytes, sector) = (escaped(&guest()), escaped(&boot_sector()));
    let scenario = format!(
        r#"xenlab: 1
name: hvm
arch: x86_64
machine: {{start: power-on}}
matrix: {{dom0.device-model: [none, debian]}}
xen: {{build: debian:bookworm, args: [guest_loglvl=all]}}
steps:
  - run: |
      set -e
      printf '{bytes}' >/run/guest
      cat >/run/guest.cfg <<'END'
      name = "guest"
      type = "hvm"
      memory = 32
      vga = "none"
      vnc = 0
      vkb_device = 0
      firmware_override = "/run/guest"
      on_poweroff = "destroy"
      on_crash = "preserve"
      END
      xl create -q -F /run/guest.cfg
      xl dmesg | grep '(d[0-9]*) {SAYS}'
      if xl list guest 2>/dev/null; then echo "it is still there" >&2; exit 1; fi
  - run: |
      set -e
      dd if=/dev/zero of=/run/disk bs=1024 count=1024
      printf '{sector}' | dd of=/run/disk conv=notrunc
      cat >/run/disk.cfg <<'END'
      name = "disk"
      type = "hvm"
      memory = 64
      vkb_device = 0
      disk = ["format=raw,vdev=hda,access=rw,backendtype=qdisk,target=/run/disk"]
      on_poweroff = "destroy"
      on_crash = "preserve"
      END
      xl create -q -F /run/disk.cfg
      xl dmesg | grep '(d[0-9]*) {DISK_SAYS}'
"#
    );
    let bench = Bench::new();
    user_store();
    let did = bench.run(&scenario, &["-j1"]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    let mut seen = 0;
    for bundle in xenlab_tests::bundles(&bench.report()) {
        seen += 1;
        let read = |name: &str| xenlab_tests::json(&bundle.join(name)).expect("JSON");
        let (verdict, inputs) = (read("verdict.json"), read("inputs.json"));
        let evidence = std::fs::read_to_string(bundle.join("evidence.jsonl")).expect("evidence");
        let roles: Vec<&str> = inputs["artefacts"]
            .as_array()
            .expect("artefacts")
            .iter()
            .filter_map(|a| a["role"].as_str())
            .collect();
        let facts = &inputs["facts"];
        if verdict["case"].as_str().unwrap_or_default().contains("device-model=none") {
            assert_eq!((&verdict["verdict"], &verdict["cause"]), (&"fail".into(), &"check.failed".into()));
            // The first of the device model's package that libxl asks for is the firmware.
            assert!(evidence.contains("initializing domain firmware failed"), "{evidence}");
            assert!(!evidence.contains(SAYS_ON_XEN), "{evidence}");
            assert!(!roles.contains(&"device-model"), "{roles:?}");
            assert_eq!(facts["machine.device-model"], Value::Null);
        } else {
            assert_eq!(verdict["verdict"], "pass", "{verdict}");
            assert!(evidence.contains(SAYS_ON_XEN), "{evidence}");
            assert!(evidence.contains(&format!("(d2) {DISK_SAYS}")), "{evidence}");
            assert!(roles.contains(&"device-model"), "{roles:?}");
            let from = facts["machine.device-model"]["text"].as_str().unwrap_or_default();
            assert!(from.starts_with("debian:bookworm 1:"), "{from}");
        }
        // Debian's build brings none.
        assert_eq!(facts["build.device-model"], Value::Null);
    }
    assert_eq!(seen, 2);
    xenlab_tests::replay_agrees(&bench.report()).expect("judged alike from the bundle");
    bench.clean();
}

/// A PVH guest, an ELF file for i386, whose first instructions take its processor the means to deliver an exception and then cause one.
fn triple_faulting() -> Vec<u8> {
    const NOTE: u32 = 20;
    let headers = HEADERS + 32;
    let entry = BASE + headers + NOTE;
    let mut code = vec![0x0f, 0x01, 0x1d]; // lidt, of the zeros behind the code
    code.extend((entry + 10).to_le_bytes());
    code.extend([0x0f, 0x0b, 0x90, 0, 0, 0, 0, 0, 0]); // ud2; padding; limit and base
    let size = headers + NOTE + code.len() as u32;
    // PT_NOTE: XEN_ELFNOTE_PHYS32_ENTRY (xen/include/public/elfnote.h).
    let note = [4, headers, BASE + headers, BASE + headers, NOTE, NOTE, 4, 4];
    let words = |all: &[u32]| all.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let rest = [words(&[4, 4, 18]), b"Xen\0".to_vec(), words(&[entry]), code].concat();
    elf(entry, &[load(size), note], rest)
}

/// Emulation can make a guest end so, which is no word about Xen; what ends so each time is.
#[test]
fn a_guest_that_triple_faults_each_time() {
    let bench = Bench::new();
    user_store();
    let guest = bench.path("guest");
    std::fs::write(&guest, triple_faulting()).expect("a guest");
    let scenario = format!(
        r#"xenlab: 1
name: faulting
arch: x86_64
machine: {{start: power-on}}
xen: debian:bookworm
guests:
  g1: {{type: pvh, kernel: 'file:{}', memory: 32M}}
steps:
  - domain: {{create: g1}}
  - domain: {{says: g1, has: anything}}
    within: 10s
"#,
        guest.display()
    );
    let did = bench.run(&scenario, &["-j1"]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    let mut bundle = xenlab_tests::bundles(&bench.report()).remove(0);
    for time in ["first", "second", "third"] {
        let verdict = xenlab_tests::json(&bundle.join("verdict.json")).expect("JSON");
        let (said, cause) = (verdict["message"].as_str().unwrap_or_default(), &verdict["cause"]);
        assert!(verdict["verdict"] == "fail" && cause == "guest.triple-fault", "the {time} time: {verdict}");
        assert!(said.contains("Triple fault"), "the {time} time: {said}");
        bundle.push("power-on");
    }
    assert!(!bundle.exists(), "a fourth time");
    xenlab_tests::replay_agrees(&bench.report()).expect("judged alike from the bundle");
    bench.clean();
}
