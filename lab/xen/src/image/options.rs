//! The options of Xen's command line that an image knows.
//!
//! They are an array of `struct kernel_param` (xen/include/xen/param.h: name, type, length, variable or function; 24 bytes) in
//! `.init.setup`. A stripped image has neither sections nor symbols, so the array is found by one option that every Xen for these
//! architectures has: where some record's name points to the text `dom0_mem`, the distance between the two tells where the image
//! lies in memory, and the records before and after it are the array's, as far as they are records.

use std::collections::BTreeSet;

/// In every Xen that can have a dom0.
const KNOWN: &[u8] = b"\0dom0_mem\0";
const RECORD: usize = 24;
/// `OPT_IGNORE` of the enumeration, which has no variable; the enumeration's end is far below [`TYPES`].
const IGNORE: u32 = 5;
const TYPES: u32 = 8;
/// Longer texts are no option's names.
const LONGEST: usize = 64;
/// The smallest Xen has more: with fewer it is something else that looks like records.
const FEWEST: usize = 20;

/// Every option, or nothing when the array was not found.
pub(crate) fn options(image: &[u8]) -> Option<BTreeSet<String>> {
    let mut best: Vec<&str> = Vec::new();
    for text in memchr::memmem::find_iter(image, KNOWN).map(|at| at + 1) {
        for at in (0..image.len().saturating_sub(RECORD)).step_by(8) {
            let Some(record) = Record::at(image, at) else { continue };
            let Some(base) = record.name.checked_sub(text as u64).filter(|base| *base != 0) else { continue };
            // Nothing else is worth following to both sides.
            let neighbour = |at: Option<usize>| at.is_some_and(|at| name(image, at, base).is_some());
            if !neighbour(Some(at + RECORD)) && !neighbour(at.checked_sub(RECORD)) {
                continue;
            }
            let after = (at..).step_by(RECORD).map_while(|at| name(image, at, base));
            let before = (1..).map_while(|n| name(image, at.checked_sub(n * RECORD)?, base));
            let all: Vec<&str> = after.chain(before).collect();
            if all.len() > best.len() {
                best = all;
            }
        }
    }
    // What is there to be passed over is no option.
    let all: BTreeSet<String> = best.into_iter().filter(|n| *n != "placeholder").map(str::to_owned).collect();
    (all.len() >= FEWEST).then_some(all)
}

struct Record {
    name: u64,
}

impl Record {
    /// What lies there, if it may be a record.
    fn at(image: &[u8], at: usize) -> Option<Record> {
        let bytes = image.get(at..at.checked_add(RECORD)?)?;
        let word = |n: usize| bytes[n..n + 4].try_into().map(u32::from_le_bytes).ok();
        let long = |n: usize| bytes[n..n + 8].try_into().map(u64::from_le_bytes).ok();
        let (name, kind, length, variable) = (long(0)?, word(8)?, word(12)?, long(16)?);
        let fits = name != 0 && kind <= TYPES && length < 1 << 16 && (variable != 0 || kind == IGNORE);
        fits.then_some(Record { name })
    }
}

/// The name of the record at `at` in an image that lies at `base`.
fn name(image: &[u8], at: usize, base: u64) -> Option<&str> {
    let record = Record::at(image, at)?;
    let text = usize::try_from(record.name.checked_sub(base)?).ok()?;
    let bytes = image.get(text..image.len().min(text.checked_add(LONGEST)?))?;
    let end = bytes.iter().position(|b| *b == 0)?;
    let name = std::str::from_utf8(&bytes[..end]).ok()?;
    // `ivrs_ioapic[` is one: what follows is its index.
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.[".contains(c);
    (name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(good)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of these options that lies at `base`.
    fn image(names: &[String], base: u64) -> Vec<u8> {
        let mut image = b"some code\0".to_vec();
        let places: Vec<u64> = names
            .iter()
            .map(|name| {
                let at = image.len() as u64;
                image.extend_from_slice(name.as_bytes());
                image.push(0);
                at
            })
            .collect();
        image.resize(image.len().next_multiple_of(8), 0);
        for (n, at) in places.iter().enumerate() {
            image.extend_from_slice(&(base + at).to_le_bytes());
            let ignored = n == 1;
            image.extend_from_slice(&(if ignored { IGNORE } else { 4 }).to_le_bytes());
            image.extend_from_slice(&0u32.to_le_bytes());
            image.extend_from_slice(&(if ignored { 0 } else { base + 1 }).to_le_bytes());
        }
        image.extend_from_slice(&[0xff; 64]);
        image
    }

    #[test]
    fn the_array_is_found_wherever_the_image_lies() {
        let mut names: Vec<String> = (0..30).map(|n| format!("option-{n}")).collect();
        names.insert(12, "dom0_mem".into());
        names.insert(20, "ivrs_ioapic[".into());
        let expected: BTreeSet<String> = names.iter().cloned().collect();
        for base in [0x20_0000, 0xa000_0020_0000, 0xffff_82d0_401f_ff80] {
            assert_eq!(options(&image(&names, base)).as_ref(), Some(&expected), "{base:x}");
        }
        assert_eq!(options(&image(&names[..15], 0x1000)), None, "too few to be Xen's");
        assert_eq!(options(b"nothing"), None);
        let text_alone = [b"\0dom0_mem\0".as_slice(), &[7; 4096]].concat();
        assert_eq!(options(&text_alone), None);
    }
}
