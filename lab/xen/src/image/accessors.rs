//! The version as the hypervisor itself answers it: read from the code of the functions in xen/common/version.c.
//!
//! Major and minor are integers in code, and the extra version is a short string that only `xen_extra_version()` points to. The
//! functions follow each other in the order of the source: … `xen_compile_host`, `xen_compiler`, `xen_major_version`,
//! `xen_minor_version`, `xen_extra_version`, `xen_changeset`, `xen_banner`, `xen_deny`. Each is a constant or an address put into
//! the return register and a return, so the row of them is told by its shape. Seen in 4.17 and 4.20, gcc 12 and 14, on x86
//! (also with return thunks) and Arm.

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

/// Functions may start this far apart: 16 bytes, or more with landing pads and padding.
const STRIDES: [usize; 3] = [16, 32, 48];

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
        starts.extend(memchr::memmem::find_iter(code, &needle).filter(|at| at.is_multiple_of(4)));
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
        // With a landing pad (endbr64, bti c) the constant is 4 bytes into its function.
        let start = [at, at.checked_sub(4)?].into_iter().find(|s| self.returns(*s).is_some())?;
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

    fn next(&self, at: usize) -> Option<(usize, Returns)> {
        self.steps().find_map(|s| self.returns(at + s).map(|r| (at + s, r)))
    }

    fn previous(&self, at: usize) -> Option<(usize, Returns)> {
        self.steps().find_map(|s| {
            let at = at.checked_sub(s)?;
            self.returns(at).map(|r| (at, r))
        })
    }

    fn steps(&self) -> impl Iterator<Item = usize> + use<> {
        let fine: &[usize] = if self.arch == Arch::Aarch64 { &[8, 12] } else { &[] };
        fine.iter().copied().chain(STRIDES).collect::<Vec<_>>().into_iter()
    }

    /// What the function at this place returns, if it is one that only returns a constant or an address.
    fn returns(&self, at: usize) -> Option<Returns> {
        match self.arch {
            Arch::X86_64 => self.x86(at),
            Arch::Aarch64 => self.arm(at),
        }
    }

    fn x86(&self, mut at: usize) -> Option<Returns> {
        if self.code.get(at..at + 4)? == [0xf3, 0x0f, 0x1e, 0xfa] {
            at += 4;
        }
        let word = |i: usize| Some(u32::from_le_bytes(self.code.get(i..i + 4)?.try_into().ok()?));
        let (what, end) = match self.code.get(at..)? {
            // mov $imm, %eax
            [0xb8, ..] => (Returns::Number(word(at + 1)?), at + 5),
            // lea disp(%rip), %rax
            [0x48, 0x8d, 0x05, ..] => {
                let next = self.address + at as u64 + 7;
                (Returns::Address(next.wrapping_add_signed(i64::from(word(at + 3)?.cast_signed()))), at + 7)
            }
            _ => return None,
        };
        // ret, or a jump to the return thunk
        matches!(self.code.get(end), Some(0xc3 | 0xe9)).then_some(what)
    }

    fn arm(&self, mut at: usize) -> Option<Returns> {
        let word = |i: usize| Some(u32::from_le_bytes(self.code.get(i..i + 4)?.try_into().ok()?));
        const RET: u32 = 0xd65f_03c0;
        const BTI_C: u32 = 0xd503_245f;
        if word(at)? == BTI_C {
            at += 4;
        }
        let first = word(at)?;
        // mov w0, #imm16
        if first & 0xffe0_001f == 0x5280_0000 && word(at + 4)? == RET {
            return Some(Returns::Number(first >> 5 & 0xffff));
        }
        // adr x0, label
        if first & 0x9f00_001f == 0x1000_0000 && word(at + 4)? == RET {
            return Some(Returns::Address(
                (self.address + at as u64).wrapping_add_signed(page_or_byte(first)),
            ));
        }
        // adrp x0, page; add x0, x0, #low
        let second = word(at + 4)?;
        if first & 0x9f00_001f == 0x9000_0000 && second & 0xffc0_03ff == 0x9100_0000 && word(at + 8)? == RET {
            let page = ((self.address + at as u64) & !0xfff).wrapping_add_signed(page_or_byte(first) << 12);
            return Some(Returns::Address(page + u64::from(second >> 10 & 0xfff)));
        }
        None
    }
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
