//! The version as the hypervisor itself answers it: read from the code of the functions in xen/common/version.c.
//!
//! Major and minor are integers in code, and the extra version is a short string that only `xen_extra_version()` points to. The
//! functions follow each other in the order of the source: … `xen_compile_host`, `xen_compiler`, `xen_major_version`,
//! `xen_minor_version`, `xen_extra_version`, `xen_changeset`, `xen_banner`, `xen_deny`. Each is a constant or an address put into
//! the return register and a return, so the row of them is told by its shape. Seen in 4.17 and 4.20, gcc 12 and 14, on x86
//! (also with return thunks) and Arm; the order of the functions is the same from 4.17 to 4.23-unstable.

use super::Map;
use serde::{Deserialize, Serialize};
use xenlab_model::arch::Arch;

/// Who built an image, with what, from what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileInfo {
    /// First line of the compiler's `--version`; `cc_compiler` of `xl info`.
    pub compiler: Option<String>,
    /// `cc_compile_by`.
    pub by: Option<String>,
    /// `cc_compile_domain`.
    pub domain: Option<String>,
    /// The machine it was built on; on Debian, which puts it there, the package's version.
    pub host: Option<String>,
    /// `cc_compile_date`.
    pub date: Option<String>,
    /// `xen_changeset`.
    pub changeset: Option<String>,
    /// Built with `CONFIG_DEBUG`.
    pub debug: Option<bool>,
}

pub(super) struct Found {
    pub(super) version: String,
    pub(super) compile: CompileInfo,
}

/// What one small function returns.
#[derive(Debug, Clone, PartialEq)]
enum Returns {
    Number(u32),
    Address(u64),
}

/// The most bytes between the starts of two neighbours: the longest of these functions, padded to 16.
const REACH: usize = 48;

pub(super) fn find(data: &[u8], map: &Map, arch: Option<Arch>) -> Option<Found> {
    let arch = arch?;
    let mut found: Option<Found> = None;
    for &(address, offset, len) in &map.ranges {
        let Some(code) = data.get(offset..offset + len) else { continue };
        for at in candidates(code, arch) {
            let row = Row { code, address, arch };
            let Some(one) = row.version_at(at, data, map) else { continue };
            match &found {
                // Two rows that differ: neither can be believed.
                Some(other) if other.version != one.version => return None,
                _ => found = Some(one),
            }
        }
    }
    found
}

/// Where a function that returns 4 might begin (Xen 3 knew no build-id and will not come back; 5 costs nothing).
fn candidates(code: &[u8], arch: Arch) -> Vec<usize> {
    let mut starts = Vec::new();
    for major in [4u32, 5] {
        let needle: Vec<u8> = match arch {
            Arch::X86_64 => std::iter::once(0xb8).chain(major.to_le_bytes()).collect(),
            Arch::Aarch64 => (0x5280_0000 | major << 5).to_le_bytes().to_vec(),
        };
        starts.extend(
            memchr::memmem::find_iter(code, &needle)
                .filter(|at| arch == Arch::X86_64 || at.is_multiple_of(4)),
        );
    }
    starts
}

struct Row<'a> {
    code: &'a [u8],
    address: u64,
    arch: Arch,
}

impl Row<'_> {
    fn version_at(&self, at: usize, data: &[u8], map: &Map) -> Option<Found> {
        let text = |r: &Returns| match r {
            Returns::Address(a) => string(data, map, *a),
            Returns::Number(_) => None,
        };
        // The constant may stand behind a landing pad and a frame pointer's push.
        let start =
            (0..=12).rev().filter_map(|back| at.checked_sub(back)).find(|s| self.is_function_of(*s, at))?;
        let Returns::Number(major) = self.returns(start)? else { return None };
        let (minor_at, minor) = self.next(start)?;
        let Returns::Number(minor) = minor else { return None };
        let (extra_at, extra) = self.next(minor_at)?;
        let extra = text(&extra)?;
        let version = format!("{major}.{minor}{extra}");
        let parsed = version.parse::<xenlab_model::version::XenVersion>().ok()?;
        if (parsed.major, parsed.minor) != (major, minor) || minor > 999 {
            return None;
        }
        let changeset = self.next(extra_at).and_then(|(_, r)| text(&r));
        let mut before = Vec::new();
        let mut here = start;
        while let Some((at, r)) = self.previous(here) {
            let Some(s) = text(&r) else { break };
            before.push(s);
            here = at;
            if before.len() == 8 {
                break;
            }
        }
        // The compiler is what comes right before; without it this is some other row of small functions.
        before.first().filter(|s| s.chars().any(|c| c.is_ascii_digit()))?;
        let mut known = before.into_iter().map(|s| Some(s).filter(|s| !s.is_empty()));
        let (compiler, host, domain, by) =
            (known.next().flatten(), known.next().flatten(), known.next().flatten(), known.next().flatten());
        // What is left is `xen_compile_time` and `xen_compile_date`, with a vendor's own before them.
        let date = known.flatten().find(|s| s.split_whitespace().count() >= 4);
        let changeset = changeset.filter(|s| !s.is_empty() && s != "unavailable");
        Some(Found {
            version,
            compile: CompileInfo { compiler, by, domain, host, date, changeset, debug: None },
        })
    }

    /// The function that starts here is one of ours and does its work at `at`.
    fn is_function_of(&self, start: usize, at: usize) -> bool {
        self.function(start).is_some_and(|f| f.end > at && matches!(f.returns, Returns::Number(_)))
    }

    fn returns(&self, at: usize) -> Option<Returns> {
        self.function(at).map(|f| f.returns)
    }

    fn unit(&self) -> usize {
        if self.arch == Arch::Aarch64 { 4 } else { 1 }
    }

    /// The next such function, behind this one and its padding.
    fn next(&self, at: usize) -> Option<(usize, Returns)> {
        let end = self.function(at)?.end;
        (end..=at + REACH).step_by(self.unit()).find_map(|s| self.returns(s).map(|r| (s, r)))
    }

    /// The one before, which ends before this one starts.
    fn previous(&self, at: usize) -> Option<(usize, Returns)> {
        (self.unit()..=REACH).step_by(self.unit()).filter_map(|back| at.checked_sub(back)).find_map(|s| {
            let f = self.function(s)?;
            (f.end <= at).then_some((s, f.returns))
        })
    }

    /// The function at this place, if it is one that only returns a constant or an address.
    fn function(&self, at: usize) -> Option<Function> {
        match self.arch {
            Arch::X86_64 => self.x86(at),
            Arch::Aarch64 => self.arm(at),
        }
    }

    fn x86(&self, start: usize) -> Option<Function> {
        let word = |i: usize| Some(u32::from_le_bytes(self.code.get(i..i + 4)?.try_into().ok()?));
        let (mut at, mut returns) = (start, None);
        for _ in 0..8 {
            match self.code.get(at..)? {
                // endbr64; push %rbp; mov %rsp, %rbp; pop %rbp
                [0xf3, 0x0f, 0x1e, 0xfa, ..] => at += 4,
                [0x55, ..] | [0x5d, ..] => at += 1,
                [0x48, 0x89, 0xe5, ..] => at += 3,
                // mov $imm, %eax
                [0xb8, ..] if returns.is_none() => {
                    returns = Some(Returns::Number(word(at + 1)?));
                    at += 5;
                }
                // lea disp(%rip), %rax
                [0x48, 0x8d, 0x05, ..] if returns.is_none() => {
                    let next = self.address + at as u64 + 7;
                    let target = next.wrapping_add_signed(i64::from(word(at + 3)?.cast_signed()));
                    returns = Some(Returns::Address(target));
                    at += 7;
                }
                // ret, or a jump to the return thunk
                [0xc3, ..] => return Some(Function { returns: returns?, end: at + 1 }),
                [0xe9, ..] => return Some(Function { returns: returns?, end: at + 5 }),
                _ => return None,
            }
        }
        None
    }

    fn arm(&self, start: usize) -> Option<Function> {
        let (mut at, mut returns, mut page) = (start, None, None);
        for _ in 0..8 {
            let word = u32::from_le_bytes(self.code.get(at..at + 4)?.try_into().ok()?);
            let here = self.address + at as u64;
            match word {
                // bti c; paciasp; autiasp; stp x29, x30, [sp, #-16]!; mov x29, sp; ldp x29, x30, [sp], #16
                0xd503_245f | 0xd503_233f | 0xd503_23bf | 0xa9bf_7bfd | 0x9100_03fd | 0xa8c1_7bfd => {}
                // ret
                0xd65f_03c0 => return Some(Function { returns: returns?, end: at + 4 }),
                _ if returns.is_some() => return None,
                // mov w0, #imm16
                w if w & 0xffe0_001f == 0x5280_0000 => returns = Some(Returns::Number(w >> 5 & 0xffff)),
                // adr x0, label
                w if w & 0x9f00_001f == 0x1000_0000 => {
                    returns = Some(Returns::Address(here.wrapping_add_signed(page_or_byte(w))));
                }
                // adrp x0, page; add x0, x0, #low
                w if w & 0x9f00_001f == 0x9000_0000 => {
                    page = Some((here & !0xfff).wrapping_add_signed(page_or_byte(w) << 12));
                }
                w if w & 0xffc0_03ff == 0x9100_0000 => {
                    returns = Some(Returns::Address(page? + u64::from(w >> 10 & 0xfff)));
                }
                _ => return None,
            }
            at += 4;
        }
        None
    }
}

/// A function of this kind, and where it ends.
struct Function {
    returns: Returns,
    end: usize,
}

/// The signed 21-bit immediate of `adr` and `adrp`.
fn page_or_byte(instruction: u32) -> i64 {
    let value = (instruction >> 5 & 0x7ffff) << 2 | instruction >> 29 & 3;
    i64::from((value << 11).cast_signed() >> 11)
}

/// The printable string at an address.
fn string(data: &[u8], map: &Map, address: u64) -> Option<String> {
    let tail = data.get(map.offset(address)?..)?;
    let end = tail.iter().take(200).position(|b| *b == 0)?;
    let bytes = &tail[..end];
    bytes.iter().all(|b| (0x20..0x7f).contains(b)).then(|| String::from_utf8_lossy(bytes).into_owned())
}
