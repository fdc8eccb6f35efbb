//! The program behind a clone's first words. It sets the clock to the nanosecond and makes the kernel's random generator begin
//! anew from bytes of the host's, which no program of a small userland can: busybox's `date` knows whole seconds, and what is
//! written to `/dev/urandom` is only stirred into a pool from which the generator draws again up to a minute later
//! (drivers/char/random.c, `CRNG_RESEED_INTERVAL`), so two clones would read the same there.
//!
//! It is a few system calls, so it comes as machine code: `first/ARCH.S`, assembled with
//! `as -o o first/ARCH.S && objcopy -O binary -j .text o bin && xxd -p bin`.

use xenlab_model::Arch;

const X86_64: &str = "\
    4883ec4041bc0100000031c031ff4889e6ba380000000f054883f838755041ffc4b8e300000031ff4889e60f054885c0\
    753c41ffc4b810000000bf03000000be03520840488d5424100f054885c0751e41ffc4b810000000bf03000000be0752\
    000031d20f054885c075034531e4b83c0000004489e70f05";

const AARCH64: &str = "\
    ff0301d133008052e80780d2000080d2e1030091020780d2010000d41fe000f1e102005473060011080e80d2000080d2\
    e1030091010000d4200200b573060011a80380d2600080d261408ad20101a8f2e2430091010000d4200100b573060011\
    a80380d2600080d2e1408ad2020080d2010000d4400000b513008052a80b80d2e003132a010000d4";

/// Where a program without an interpreter is commonly put.
const BASE: u64 = 0x40_0000;
/// ELF's header and one program header.
const HEADERS: u64 = 64 + 56;

/// The program, an ELF file of this architecture.
pub(crate) fn program(arch: Arch) -> Vec<u8> {
    let (code, machine) = match arch {
        Arch::X86_64 => (X86_64, 62u16),
        Arch::Aarch64 => (AARCH64, 183),
    };
    let digit = |b: u8| (b as char).to_digit(16).unwrap_or_default() as u8;
    let code: Vec<u8> = code.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
    let size = HEADERS + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |elf: &mut Vec<u8>, all: &[u16]| all.iter().for_each(|n| elf.extend(n.to_le_bytes()));
    let words = |elf: &mut Vec<u8>, all: &[u32]| all.iter().for_each(|n| elf.extend(n.to_le_bytes()));
    let longs = |elf: &mut Vec<u8>, all: &[u64]| all.iter().for_each(|n| elf.extend(n.to_le_bytes()));
    // ET_EXEC, and EV_CURRENT; entry, program headers, no sections.
    halves(&mut elf, &[2, machine]);
    words(&mut elf, &[1]);
    longs(&mut elf, &[BASE + HEADERS, 64, 0]);
    words(&mut elf, &[0]);
    halves(&mut elf, &[64, 56, 1, 64, 0, 0]);
    // PT_LOAD, readable and executable: the whole file.
    words(&mut elf, &[1, 5]);
    longs(&mut elf, &[0, BASE, BASE, size, size, 0x1_0000]);
    elf.extend(code);
    elf
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    #[test]
    fn it_is_a_program_that_does_what_it_says_in_the_order_it_says() {
        for arch in Arch::ALL {
            let elf = program(arch);
            let code = elf.len() as u64 - HEADERS;
            assert!(code > 100 && code.is_multiple_of(4), "{code}");
            if Arch::host() != Some(arch) {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("first");
            std::fs::write(&path, elf).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            // In a user namespace nobody may set the clock, so nothing of this host changes.
            let run = |input: &[u8]| {
                let mut child = Command::new("unshare")
                    .args(["--user", "--map-root-user"])
                    .arg(&path)
                    .stdin(Stdio::piped())
                    .spawn()
                    .unwrap();
                child.stdin.take().unwrap().write_all(input).unwrap();
                child.wait().unwrap().code()
            };
            assert_eq!(run(&[0; 55]), Some(1), "too little to read");
            assert_eq!(run(&[0; 56]), Some(2), "the clock is not to be set");
        }
    }
}
