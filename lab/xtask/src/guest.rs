//! The smallest PV guest there can be: it asks Xen to be powered off.

use std::io::Write as _;

/// Where it is put, and entered.
const BASE: u64 = 0x10_0000;
/// ELF's header and two program headers.
const HEADERS: u64 = 64 + 2 * 56;

/// A 64-bit PV guest reaches Xen by `syscall`: number in rax, arguments in rdi and rsi (xen/include/public/arch-x86/xen-x86_64.h).
const CODE: [u8; 24] = [
    0xb8, 29, 0, 0, 0, // mov $29, %eax             __HYPERVISOR_sched_op
    0xbf, 2, 0, 0, 0, // mov $2, %edi               SCHEDOP_shutdown
    0x6a, 0, // push $0                             SHUTDOWN_poweroff
    0x48, 0x89, 0xe6, // mov %rsp, %rsi             struct sched_shutdown
    0x0f, 0x05, // syscall
    0x0f, 0x0b, // ud2                              a guest that was not powered off crashes
    0x90, 0x90, 0x90, 0x90, 0x90, // padding
];

/// What the domain builder asks of a kernel (xen/include/public/elfnote.h).
fn notes() -> Vec<u8> {
    let mut notes = Vec::new();
    let mut note = |kind: u32, what: &[u8]| {
        for word in [4, what.len() as u32, kind] {
            notes.extend(word.to_le_bytes());
        }
        notes.extend(b"Xen\0");
        notes.extend(what);
        notes.resize(notes.len().next_multiple_of(4), 0);
    };
    note(1, &(BASE + HEADERS).to_le_bytes()); // XEN_ELFNOTE_ENTRY
    note(3, &0_u64.to_le_bytes()); // XEN_ELFNOTE_VIRT_BASE
    note(4, &0_u64.to_le_bytes()); // XEN_ELFNOTE_PADDR_OFFSET
    note(5, b"xen-3.0\0"); // XEN_ELFNOTE_XEN_VERSION
    note(6, b"smallest\0"); // XEN_ELFNOTE_GUEST_OS
    note(8, b"generic\0"); // XEN_ELFNOTE_LOADER
    note(9, b"yes\0"); // XEN_ELFNOTE_PAE_MODE
    notes
}

/// The guest's kernel, an ELF file for x86-64.
pub fn kernel() -> Vec<u8> {
    let notes = notes();
    let at = HEADERS + CODE.len() as u64;
    let size = at + notes.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |elf: &mut Vec<u8>, all: &[u16]| all.iter().for_each(|n| elf.extend(n.to_le_bytes()));
    let words = |elf: &mut Vec<u8>, all: &[u32]| all.iter().for_each(|n| elf.extend(n.to_le_bytes()));
    let longs = |elf: &mut Vec<u8>, all: &[u64]| all.iter().for_each(|n| elf.extend(n.to_le_bytes()));
    // ET_EXEC for x86-64, EV_CURRENT; entry, program headers, no sections.
    halves(&mut elf, &[2, 62]);
    words(&mut elf, &[1]);
    longs(&mut elf, &[BASE + HEADERS, 64, 0]);
    words(&mut elf, &[0]);
    halves(&mut elf, &[64, 56, 2, 64, 0, 0]);
    // PT_LOAD, all of the file, all that may be done with it; PT_NOTE.
    words(&mut elf, &[1, 7]);
    longs(&mut elf, &[0, BASE, BASE, size, size, 4096]);
    words(&mut elf, &[4, 4]);
    longs(&mut elf, &[at, BASE + at, BASE + at, notes.len() as u64, notes.len() as u64, 4]);
    elf.extend(CODE);
    elf.extend(notes);
    elf
}

/// A shell script for dom0 that creates the guest, sees it powered off by its own wish, and sees it gone.
pub fn script() -> String {
    let mut kernel_text = String::new();
    for byte in kernel() {
        use std::fmt::Write as _;
        let _ = write!(kernel_text, "\\{byte:03o}");
    }
    let mut text = Vec::new();
    let _ = write!(
        text,
        r#"set -e
printf '{kernel_text}' >/run/guest
printf 'name="guest"\ntype="pv"\nkernel="/run/guest"\nmemory=8\non_poweroff="preserve"\non_crash="preserve"\n' >/run/guest.cfg
xl create -q /run/guest.cfg
n=0
while :; do
  state=$(xl list guest | awk 'NR == 2 {{ print $5 }}')
  case $state in
    ---s--) break ;;
    *c*) echo "it crashed: $state"; exit 1 ;;
  esac
  n=$((n + 1)); if [ $n -ge 100 ]; then echo "it was not powered off: $state"; exit 1; fi
done
xl destroy guest
if xl list guest 2>/dev/null; then echo "it is still there"; exit 1; fi
echo came and went"#
    );
    String::from_utf8_lossy(&text).into_owned()
}
