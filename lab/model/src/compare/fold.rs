//! Folding away what differs between any two boots, so that what is the same looks the same.

use super::Sample;
use crate::fact::FactValue;
use regex::Regex;
use std::sync::LazyLock;

/// What is no word of the thing itself: times, addresses, counters, sizes, dates.
static VOLATILE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x)
        ^\[\s*\d+\.\d+\]\s*                                   # Linux's clock
        | ^\(\ *[0-9.]+\)\s*
        | \b0x[0-9a-fA-F`']+ | \b[0-9a-fA-F]{8,}\b            # addresses, build-ids
        | \b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b | \b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b
        | \d+(?:\.\d+)*                                       # counters, versions, processes
        ",
    )
    .expect("a constant expression: a test folds with it")
});

/// The text with all of that as `#`: equal for two lines that say the same. What is shown is the text itself.
pub fn fold(text: &str) -> String {
    let text = text.trim();
    let text = VOLATILE.replace_all(text, "#");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What of a sample is its own: versions and nonce, folded out of names that have them.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    /// What is looked for, the longest first, and what stands in its place.
    own: Vec<(String, &'static str)>,
}

impl Folder {
    /// By the facts of a sample.
    pub fn of(sample: &Sample) -> Folder {
        let text = |name: &str| match sample.facts.get(name) {
            Some(FactValue::Text(text) | FactValue::Version(text)) if !text.is_empty() => Some(text.clone()),
            _ => None,
        };
        Folder::new([
            (text("build.build-id"), "BUILD-ID"),
            (text("build.efi-build-id"), "EFI-BUILD-ID"),
            (text("build.image-version"), "VERSION"),
            (text("build.declared-version"), "VERSION"),
            (text("build.branch"), "BRANCH"),
            (Some(sample.nonce.clone()).filter(|n| !n.is_empty()), "NONCE"),
        ])
    }

    /// With these words.
    pub fn new(words: impl IntoIterator<Item = (Option<String>, &'static str)>) -> Folder {
        let mut own: Vec<_> = words.into_iter().filter_map(|(word, name)| Some((word?, name))).collect();
        own.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        own.dedup_by(|a, b| a.0 == b.0);
        Folder { own }
    }

    /// The text with each of them under the name that both sides have for it.
    pub fn fold(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        // A number that goes on is another number: `4.2` is not in `4.20`.
        let whole = |before: &str, after: &str| {
            !before.ends_with(|c: char| c.is_ascii_alphanumeric())
                && !after.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        while let Some(c) = rest.chars().next() {
            let found = self
                .own
                .iter()
                .find(|(word, _)| rest.starts_with(word.as_str()) && whole(&out, &rest[word.len()..]));
            match found {
                Some((word, name)) => {
                    out.push_str(name);
                    rest = &rest[word.len()..];
                }
                None => {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_two_boots_is_folded() {
        for (a, b) in [
            (
                "[    1.234567] foo: error -22 at 0xffff8880`12345678",
                "[   11.000001] foo: error -19 at 0x1000",
            ),
            ("Latest ChangeSet: Mon Nov  2 2026", "Latest ChangeSet: Tue Dec 14 2026"),
            ("CPU1: TSC warp 4.17.7", "CPU0: TSC warp 4.20"),
            ("id 151b373fd64b321593bf987fd923cd10dabadac4", "id 576c0736b3e38388c5afe9aaccc43a18d514e88e"),
        ] {
            assert_eq!(fold(a), fold(b));
        }
        assert_ne!(fold("a: no memory"), fold("a: no disk"));
        // Words that are made of hexadecimal digits are words.
        assert_eq!(fold("added decade"), "added decade");
    }

    #[test]
    fn names_lose_their_own_version_and_no_other() {
        let words = [(Some("4.20.5-pre".into()), "VERSION"), (Some("4.2".to_owned()), "BRANCH")];
        let folder = Folder::new(words);
        assert_eq!(folder.fold("boot/xen-4.20.5-pre.efi"), "boot/xen-VERSION.efi");
        assert_eq!(folder.fold("xen-4.2-amd64.gz"), "xen-BRANCH-amd64.gz");
        assert_eq!(folder.fold("4.20 14.2 4.2"), "4.20 14.2 BRANCH");
    }
}
