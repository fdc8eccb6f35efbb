//! Lines of one console, cut anywhere.

use super::*;
use proptest::prelude::*;

/// `speaker|text` of each line, `~` before one that is not complete.
fn shown(record: &[u8]) -> Vec<String> {
    lines(record)
        .iter()
        .map(|l| format!("{}{}|{}", if l.complete { "" } else { "~" }, l.speaker, l.text))
        .collect()
}

#[test]
fn whose_lines_they_are() {
    let record =
        b"SeaBIOS (version 1.16)\r\nBooting from ROM..(XEN) Xen version 4.17.5\r\n(XEN)  Dom0 alloc.: 1\r\n\
        mapping kernel\r\r\n(d1) from a guest\r\nlogin: ";
    assert_eq!(
        shown(record),
        [
            "firmware|SeaBIOS (version 1.16)",
            "~firmware|Booting from ROM..",
            "xen|Xen version 4.17.5",
            "xen| Dom0 alloc.: 1",
            "dom0|mapping kernel",
            "d1|from a guest",
            "~dom0|login: ",
        ]
    );
}

#[test]
fn halves_are_put_together() {
    let record = b"(XEN) a\r\nxenlab: rea(XEN) b\r\n(XEN) c\r\ndy 123\r\n\x1b[3(XEN) d\r\n1mred\xc3(XEN) e\r\n\xa9\x1b[0m\r\n";
    assert_eq!(
        shown(record),
        ["xen|a", "xen|b", "xen|c", "dom0|xenlab: ready 123", "xen|d", "xen|e", "dom0|red\u{e9}"]
    );
    let all = lines(record);
    let joined = &all[3];
    assert_eq!(
        &record[joined.start as usize..joined.end as usize],
        b"xenlab: rea(XEN) b\r\n(XEN) c\r\ndy 123\r\n"
    );
}

#[test]
fn a_carriage_return_left_behind_is_no_line() {
    // dom0's CR came before Xen's line, its LF after.
    assert_eq!(
        shown(b"(XEN) a\nhello\r(XEN) b\r\n\nnext\r\n"),
        ["xen|a", "xen|b", "dom0|hello", "dom0|next"]
    );
}

#[test]
fn a_line_of_xen_that_another_cuts() {
    assert_eq!(shown(b"(XEN) 3... 2... (XEN) panic\n1...\n"), ["~xen|3... 2... ", "xen|panic", "dom0|1..."]);
}

#[test]
fn timestamps_of_xen_go() {
    for stamp in [
        "[2024-05-01 10:00:00] ",
        "[2024-05-01 10:00:00.123] ",
        "[    1.234567] ",
        "[12345.123456] ",
        "[00000001a2b3c4d5] ",
    ] {
        assert_eq!(shown(format!("(XEN) {stamp} text\n").as_bytes()), ["xen| text"], "{stamp}");
    }
    for kept in [
        "[VT-D] x",
        "[0000000000100000, 000000005ffdcfff] (usable)",
        "[1] x",
        "[    1.234567]x",
        "[",
        "[]",
        "[.] x",
    ] {
        assert_eq!(shown(format!("(XEN) {kept}\n").as_bytes()), [format!("xen|{kept}")], "{kept}");
    }
}

#[test]
fn guests_in_the_middle_of_a_line_only_once_known() {
    assert_eq!(shown(b"(XEN) a\nword (d1) word\n"), ["xen|a", "dom0|word (d1) word"]);
    assert_eq!(
        shown(b"(XEN) a\n(d1) b\nhalf(d1) c\nhalf(d2) d\n(d99999) e\n(d123456) f\n(d) g\n"),
        ["xen|a", "d1|b", "d1|c", "dom0|halfhalf(d2) d", "dom0|(d99999) e", "dom0|(d123456) f", "dom0|(d) g"]
    );
}

#[test]
fn what_comes_before_xen_has_a_prefix() {
    let efi = b"BdsDxe: starting Boot0001\r\n Xen 4.17.5 (c/s ) EFI loader\r\nUsing configuration file 'BOOTX64.cfg'\r\nvmlinuz: 0x1-0x2\r\n\
        (XEN) Xen version\r\n[    0.000000] Linux\r\n";
    assert_eq!(
        shown(efi),
        [
            "firmware|BdsDxe: starting Boot0001",
            "xen| Xen 4.17.5 (c/s ) EFI loader",
            "xen|Using configuration file 'BOOTX64.cfg'",
            "xen|vmlinuz: 0x1-0x2",
            "xen|Xen version",
            "dom0|[    0.000000] Linux",
        ]
    );
    assert_eq!(
        shown(b" __  __            _  _    _  ____\n(XEN) a\n")[0],
        "xen| __  __            _  _    _  ____"
    );
    // Without Xen everything is Linux's from its first word on.
    assert_eq!(
        shown(b"BIOS\n[    0.000000] Linux version\nplain\n"),
        ["firmware|BIOS", "dom0|[    0.000000] Linux version", "dom0|plain"]
    );
}

#[test]
fn progress_ends_lines_with_a_carriage_return() {
    assert_eq!(shown(b"(XEN) a\n10%\r20%\r\r\n\r\n"), ["xen|a", "dom0|10%", "dom0|20%", "dom0|"]);
}

#[test]
fn long_lines_come_in_pieces() {
    let mut record = b"(XEN) a\n".to_vec();
    record.extend(std::iter::repeat_n(b'x', 3 * MAX_LINE + 7));
    record.extend(b"\nend\n");
    let all = lines(&record);
    let sizes: Vec<(usize, bool, bool)> =
        all[1..].iter().map(|l| (l.text.len(), l.complete, l.continues)).collect();
    assert_eq!(
        sizes,
        [
            (MAX_LINE, false, false),
            (MAX_LINE, false, true),
            (MAX_LINE, false, true),
            (7, true, true),
            (3, true, false)
        ]
    );
    assert!(all[1..].iter().all(|l| l.speaker == Speaker::Dom0));
    assert!(all.windows(2).all(|w| w[0].end == w[1].start), "ranges follow each other");
}

#[test]
fn a_flood_without_a_line_end_takes_bounded_memory() {
    let mut demux = Demux::new();
    for _ in 0..1000 {
        demux.feed(&[b'y'; 4096], |_| {});
        assert!(demux.plain.bytes.capacity() <= 4 * MAX_LINE);
    }
}

#[test]
fn a_huge_record_without_a_line_end_takes_linear_time() {
    let record = vec![b'y'; 64 << 20];
    let all = lines(&record);
    assert_eq!(all.len(), record.len() / MAX_LINE);
    assert_eq!(all.iter().map(|l| l.text.len()).sum::<usize>(), record.len());
}

#[test]
fn open_lines_can_be_looked_at() {
    let mut demux = Demux::new();
    demux.feed(b"(XEN) a\nlogin: (XE", |_| {});
    assert_eq!(demux.open().iter().map(|l| l.text.to_string()).collect::<Vec<_>>(), ["login: "]);
    let mut texts = Vec::new();
    demux.feed(b"N) b\nroot\n", |l| texts.push(l.text.into_owned()));
    assert_eq!(texts, ["b", "login: root"]);
}

#[test]
fn a_record_from_the_middle_is_dom0s() {
    let mut all = Vec::new();
    let mut demux = Demux::after_boot(1000);
    demux.feed(b"plain\n", |l| all.push(l.into_owned()));
    assert_eq!((all[0].speaker, all[0].start, all[0].end), (Speaker::Dom0, 1000, 1006));
}

/// The lines when the record arrives in chunks of these sizes, over and over.
fn chunked(record: &[u8], sizes: &[usize]) -> Vec<Line<'static>> {
    let mut demux = Demux::new();
    let mut all = Vec::new();
    let (mut rest, mut n) = (record, 0);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(sizes[n % sizes.len()].clamp(1, rest.len()));
        demux.feed(chunk, |line| all.push(line.into_owned()));
        (rest, n) = (after, n + 1);
    }
    demux.finish(|line| all.push(line.into_owned()));
    all
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"(XEN) ".to_vec()),
        Just(b"(d1) ".to_vec()),
        Just(b"(d12) ".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"(".to_vec()),
        Just(b"(XE".to_vec()),
        Just(b"(d".to_vec()),
        Just(b"[    0.000001] ".to_vec()),
        Just("\x1b[31mé".as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..12),
        "[a-z ]{0,12}".prop_map(String::into_bytes),
        Just(vec![b'z'; MAX_LINE - 3]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_same_lines_however_it_is_cut(
        pieces in proptest::collection::vec(piece(), 0..40),
        sizes in proptest::collection::vec(1usize..200, 1..8),
    ) {
        let record = pieces.concat();
        let whole = lines(&record);
        let strip = |all: &[Line<'static>]| all.iter()
            .map(|l| (l.speaker, l.text.to_string(), l.start, l.end, l.complete, l.continues)).collect::<Vec<_>>();
        prop_assert_eq!(strip(&chunked(&record, &sizes)), strip(&whole));
        prop_assert!(whole.iter().all(|l| l.start <= l.end && l.end <= record.len() as u64));
    }
}

#[test]
fn the_same_lines_cut_at_every_byte() {
    let record =
        b"BIOS\r\n(XEN) one\r\nxenlab: rea(XEN) two\r\n(d1) g\r\ndy\xc3\xa9 n(d1) h\r\n1\r\n\x1b[1mend";
    let whole = lines(record);
    assert_eq!(chunked(record, &[1]), whole);
    for at in 1..record.len() {
        assert_eq!(chunked(record, &[at, record.len()]), whole, "cut at {at}");
    }
}

/// What a domain writes to the PL011 that Xen gave it is its own, not Xen's.
#[test]
fn a_domain_that_xen_made() {
    let record = b"(XEN) DOM1: Kernel panic - not syncing\r\n(XEN) DOM12: \n(XEN) [    1.500000] DOM2: a\n(XEN) DOM1 is no prefix\n(XEN) DOMx: nor this\ndom0 says DOM1: this\n";
    let all: Vec<_> = lines(record).into_iter().map(|l| (l.speaker, l.text.into_owned())).collect();
    let own = |n, text: &str| (Speaker::Domain(n), text.to_owned());
    let xen = |text: &str| (Speaker::Xen, text.to_owned());
    assert_eq!(
        all,
        [
            own(1, "Kernel panic - not syncing"),
            own(12, ""),
            own(2, "a"),
            xen("DOM1 is no prefix"),
            xen("DOMx: nor this"),
            (Speaker::Dom0, "dom0 says DOM1: this".to_owned()),
        ]
    );
}
