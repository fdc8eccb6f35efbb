//! Small images made for tests: shaped as Xen's are, a few hundred bytes each.

/// What a made image says.
pub(crate) struct Made {
    pub(crate) minor: u32,
    pub(crate) extra: &'static str,
    /// The EFI loader's greeting, or none as in a build without EFI.
    pub(crate) greeting: Option<&'static str>,
    /// As compilers make debug builds: frame pointers, landing pads, functions not aligned.
    pub(crate) debug: bool,
}

impl Default for Made {
    fn default() -> Made {
        Made { minor: 20, extra: ".1", greeting: Some("4.20.1"), debug: false }
    }
}

pub(crate) const BUILD_ID: &str = "000102030405060708090a0b0c0d0e0f10111213";
pub(crate) const CODEVIEW: &str = "404142434445464748494a4b4c4d4e4f";

/// What the functions of version.c return, in order.
fn texts(extra: &str) -> Vec<String> {
    let mut v: Vec<String> =
        ["Wed Nov  4 16:52:28 UTC 2026", "16:52:28", "builder", "example.org", "host", "gcc (Made) 12.2.0"]
            .map(Into::into)
            .into();
    v.extend([extra.to_owned(), "Wed Jul 9 2025 git:08f043965a".to_owned()]);
    v
}

fn note() -> Vec<u8> {
    let mut n: Vec<u8> = [4u32, 20, 3].iter().flat_map(|w| w.to_le_bytes()).collect();
    n.extend(b"GNU\0");
    n.extend(0..20u8);
    n
}

/// Code and data that would begin at `base` in the file; the functions come first, 16 bytes each.
fn body(made: &Made, base: usize, function: impl Fn(bool, usize, Result<u32, usize>) -> Vec<u8>) -> Vec<u8> {
    let texts = texts(made.extra);
    // Six texts, major, minor, two texts.
    let room = if made.debug { 32 } else { 16 };
    let code = room * (texts.len() + 2);
    let mut data = note();
    // The packager's own version: looks like one and is a decoy.
    data.extend(b"\0(XEN) \x004.99.9+13-g2445b30a44\0\0debug=n\0");
    let mut at = Vec::new();
    for t in &texts {
        at.push(base + code + data.len());
        data.extend(t.as_bytes());
        data.push(0);
    }
    if let Some(version) = made.greeting {
        data.extend(format!("Xen {version} (c/s ) EFI loader\r\n").encode_utf16().flat_map(u16::to_le_bytes));
    }
    let mut returns: Vec<Result<u32, usize>> = at[..6].iter().map(|a| Err(*a)).collect();
    returns.extend([Ok(4), Ok(made.minor)]);
    returns.extend(at[6..].iter().map(|a| Err(*a)));
    let mut out = Vec::new();
    for r in returns {
        let mut f = function(made.debug, base + out.len(), r);
        if !made.debug {
            f.resize(room, 0x90);
        }
        out.extend(f);
    }
    out.resize(code, 0x90);
    out.extend(data);
    out
}

fn x86_function(debug: bool, at: usize, what: Result<u32, usize>) -> Vec<u8> {
    // endbr64; push %rbp; mov %rsp, %rbp
    let mut f = if debug { vec![0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5] } else { Vec::new() };
    let at = at + f.len();
    match what {
        Ok(number) => {
            f.push(0xb8);
            f.extend(number.to_le_bytes());
        }
        Err(target) => {
            f.extend([0x48, 0x8d, 0x05]);
            f.extend(((target as i64 - at as i64 - 7) as i32).to_le_bytes());
        }
    }
    f.extend(if debug { vec![0x5d, 0xc3] } else { vec![0xc3] });
    f
}

fn arm_function(debug: bool, _: usize, what: Result<u32, usize>) -> Vec<u8> {
    let mut words = if debug { vec![0xa9bf_7bfd, 0x9100_03fd] } else { Vec::new() };
    match what {
        Ok(number) => words.push(0x5280_0000 | number << 5),
        // adrp of the same page, which is the first.
        Err(target) => words.extend([0x9000_0000, 0x9100_0000 | (target as u32) << 10]),
    }
    words.extend(if debug { vec![0xa8c1_7bfd, 0xd65f_03c0u32] } else { vec![0xd65f_03c0] });
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// An ELF32 with a multiboot header, as `xen` and, compressed, `xen.gz` are.
pub(crate) fn elf32(made: &Made) -> Vec<u8> {
    let base = 0x80;
    let body = body(made, base, x86_function);
    let mut f = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |f: &mut Vec<u8>, v: u16| f.extend(v.to_le_bytes());
    let word = |f: &mut Vec<u8>, v: u32| f.extend(v.to_le_bytes());
    half(&mut f, 2);
    half(&mut f, 3);
    for v in [1, 0x20_0000, 52, 0, 0] {
        word(&mut f, v);
    }
    for v in [52, 32, 1, 40, 0, 0] {
        half(&mut f, v);
    }
    for v in [1, base as u32, 0x20_0000, 0x20_0000, body.len() as u32, 0x10_0000, 7, 0x40] {
        word(&mut f, v);
    }
    f.resize(0x60, 0);
    f.extend(0x1bad_b002u32.to_le_bytes());
    f.resize(base, 0);
    f.extend(body);
    f
}

/// An arm64 Image that is a PE as well.
pub(crate) fn arm64(made: &Made) -> Vec<u8> {
    let base = 0x200;
    let body = body(made, base, arm_function);
    let size = body.len() as u32;
    let mut f = vec![b'M', b'Z'];
    f.resize(16, 0);
    f.extend((base as u64 + u64::from(size) + 0x1000).to_le_bytes());
    f.resize(56, 0);
    f.extend(b"ARMd");
    f.extend(0x40u32.to_le_bytes());
    pe_headers(&mut f, 0xaa64, &[(".text", base as u32, size, base as u32, size)], None);
    f.resize(base, 0);
    f.extend(body);
    f
}

/// An EFI image for x86, its build-id in a CodeView record.
pub(crate) fn efi(made: &Made) -> Vec<u8> {
    let (base, text_at) = (0x400usize, 0x1000u32);
    let body = body(made, base, x86_function);
    let size = body.len() as u32;
    // The debug directory and the record behind it.
    let (id_at, id_rva) = (base as u32 + size, 0x9000u32);
    let mut id: Vec<u8> =
        [0, 0, 0, 2, 24, id_rva + 28, 0].iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
    id.extend(b"RSDS");
    id.extend(0x40..0x50u8);
    id.extend([1, 0, 0, 0, 0]);
    let mut f = vec![b'M', b'Z'];
    f.resize(0x3c, 0);
    f.extend(0x40u32.to_le_bytes());
    let sections = [
        (".text", text_at, size, base as u32, size),
        (".buildid", id_rva, id.len() as u32, id_at, id.len() as u32),
    ];
    pe_headers(&mut f, 0x8664, &sections, Some((id_rva, 28)));
    f.resize(base, 0);
    f.extend(body);
    f.extend(id);
    f
}

type Section<'a> = (&'a str, u32, u32, u32, u32);

fn pe_headers(f: &mut Vec<u8>, machine: u16, sections: &[Section<'_>], debug: Option<(u32, u32)>) {
    f.extend(b"PE\0\0");
    f.extend(machine.to_le_bytes());
    f.extend((sections.len() as u16).to_le_bytes());
    f.extend([0; 12]);
    f.extend(240u16.to_le_bytes());
    f.extend([0; 2]);
    let optional = f.len();
    f.extend(0x20bu16.to_le_bytes());
    f.resize(optional + 68, 0);
    f.extend(10u16.to_le_bytes());
    f.resize(optional + 112 + 48, 0);
    let (rva, size) = debug.unwrap_or_default();
    f.extend(rva.to_le_bytes());
    f.extend(size.to_le_bytes());
    f.resize(optional + 240, 0);
    for (name, address, size, offset, raw) in sections {
        let mut n = name.as_bytes().to_vec();
        n.resize(8, 0);
        f.extend(n);
        for v in [*size, *address, *raw, *offset] {
            f.extend(v.to_le_bytes());
        }
        f.extend([0; 16]);
    }
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(data).expect("written to memory");
    gz.finish().expect("written to memory")
}
