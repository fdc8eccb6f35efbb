//! Many patterns at once: in single lines, and in a stream of bytes.
//!
//! Nearly no line of a console matches anything. So every pattern is asked for text that it cannot match without, all of that is
//! looked for in one pass, and only a line that has some of it is given to the regular expressions.

use crate::demux::{Demux, Line, Speaker};
use aho_corasick::{AhoCorasick, AhoCorasickKind, packed};
use regex::{RegexSet, RegexSetBuilder};
use regex_syntax::hir::{Hir, HirKind};

/// Literals shorter than this are in every other line.
const SHORTEST: usize = 3;
/// Literals one pattern may bring.
const MOST: usize = 32;

/// What to look for, in whose lines. The regular expression is searched in a line's text, so `^` and `$` are the line's ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Syntax of the `regex` crate.
    pub regex: String,
    /// In this speaker's lines only; `None`: in everybody's.
    pub of: Option<Speaker>,
}

impl Pattern {
    /// In everybody's lines.
    pub fn any(regex: impl Into<String>) -> Self {
        Pattern { regex: regex.into(), of: None }
    }

    /// In one speaker's lines.
    pub fn of(speaker: Speaker, regex: impl Into<String>) -> Self {
        Pattern { regex: regex.into(), of: Some(speaker) }
    }
}

/// A pattern is no regular expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError {
    /// Its position among those given.
    pub index: usize,
    /// As it was given.
    pub regex: String,
    /// What is wrong with it, as the `regex` crate says it.
    pub message: String,
}

impl std::fmt::Display for PatternError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is not a regular expression: {}", self.regex, self.message)
    }
}

impl std::error::Error for PatternError {}

/// Bytes that a thread keeps of what it has worked out of a set's automaton, once it has matched: a quarter of the library's own choice, since the
/// lab is to stay small beside a guest that writes without end.
pub(crate) const CACHE: usize = 512 << 10;

/// Many patterns, for single lines.
#[derive(Debug, Clone)]
pub struct PatternSet {
    regexes: RegexSet,
    of: Vec<Option<Speaker>>,
    /// Text of which every match has some; `None` when a pattern has none such.
    needed: Option<Needed>,
}

impl PatternSet {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// The first one that is no regular expression, or that is too large.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Result<Self, PatternError> {
        let patterns: Vec<Pattern> = patterns.into_iter().collect();
        let error = |index: usize, message: String| PatternError {
            index,
            regex: patterns[index].regex.clone(),
            message,
        };
        let mut needed = Some(Vec::new());
        for (index, pattern) in patterns.iter().enumerate() {
            let hir = regex_syntax::parse(&pattern.regex).map_err(|e| error(index, e.to_string()))?;
            regex::Regex::new(&pattern.regex).map_err(|e| error(index, e.to_string()))?;
            match (&mut needed, literals(&hir)) {
                (Some(all), Some(mut some)) if some.iter().all(|l| l.len() >= SHORTEST) => {
                    all.append(&mut some)
                }
                _ => needed = None,
            }
        }
        let regexes = RegexSetBuilder::new(patterns.iter().map(|p| &p.regex))
            .dfa_size_limit(CACHE)
            .build()
            .map_err(|e| error(patterns.len() - 1, format!("all patterns together: {e}")))?;
        let needed = needed.map(Needed::new);
        Ok(PatternSet { regexes, of: patterns.into_iter().map(|p| p.of).collect(), needed })
    }

    /// How many patterns there are.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// The patterns that this line matches, by their position, in order.
    pub fn matches(&self, speaker: Speaker, text: &str) -> impl Iterator<Item = usize> {
        let maybe = !self.is_empty() && self.needed.as_ref().is_none_or(|n| n.is_in(text));
        let found = maybe.then(|| self.regexes.matches(text));
        found
            .into_iter()
            .flat_map(|m| m.iter().collect::<Vec<_>>())
            .filter(move |&i| self.of[i].is_none_or(|of| of == speaker))
    }
}

/// Finds whether any of several texts is in a line.
#[derive(Debug, Clone)]
enum Needed {
    /// With vector instructions, where the processor has them and there are not too many texts.
    Packed(packed::Searcher),
    Automaton(AhoCorasick),
    /// There are too many for either; every line is given to the regular expressions.
    Unknown,
}

impl Needed {
    fn new(mut texts: Vec<Vec<u8>>) -> Self {
        texts.sort_by_key(Vec::len);
        // A text that has another one in it is found by that one.
        let mut shortest: Vec<Vec<u8>> = Vec::new();
        for text in texts {
            if !shortest.iter().any(|s| memchr::memmem::find(&text, s).is_some()) {
                shortest.push(text);
            }
        }
        if let Some(searcher) = packed::Searcher::new(&shortest) {
            return Needed::Packed(searcher);
        }
        let automaton = AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(&shortest);
        automaton.map_or(Needed::Unknown, Needed::Automaton)
    }

    fn is_in(&self, text: &str) -> bool {
        match self {
            Needed::Packed(searcher) => searcher.find(text).is_some(),
            Needed::Automaton(automaton) => automaton.is_match(text),
            Needed::Unknown => true,
        }
    }
}

/// Texts one of which every match has in it, the best that can be told cheaply.
fn literals(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(vec![literal.0.to_vec()]),
        HirKind::Capture(capture) => literals(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => literals(&repetition.sub),
        HirKind::Concat(parts) => parts
            .iter()
            .filter_map(literals)
            .max_by_key(|l| (l.iter().map(Vec::len).min(), std::cmp::Reverse(l.len()))),
        HirKind::Alternation(parts) => {
            let all: Vec<Vec<u8>> = parts.iter().map(literals).collect::<Option<Vec<_>>>()?.concat();
            (all.len() <= MOST).then_some(all)
        }
        HirKind::Empty | HirKind::Class(_) | HirKind::Look(_) | HirKind::Repetition(_) => None,
    }
}

/// A line in a stream that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit<'a> {
    /// The pattern's position among those given.
    pub pattern: usize,
    /// The line.
    pub line: &'a Line<'a>,
}

/// Many patterns, for a stream of bytes cut anywhere. Lines are put together as [`Demux`] does, so a text that another
/// speaker cut in half is found. Memory is bounded as there.
#[derive(Debug, Clone)]
pub struct Matcher {
    demux: Demux,
    set: PatternSet,
}

impl Matcher {
    /// For a stream from its beginning.
    ///
    /// # Errors
    /// As [`PatternSet::new`].
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Result<Self, PatternError> {
        Ok(Matcher { demux: Demux::new(), set: PatternSet::new(patterns)? })
    }

    /// Takes the next bytes; gives every match in the lines they end.
    pub fn feed(&mut self, chunk: &[u8], mut hit: impl FnMut(Hit<'_>)) {
        let Matcher { demux, set } = self;
        demux.feed(chunk, |line| report(set, &line, &mut hit));
    }

    /// Matches in the lines that stand open, as a prompt does. The same match may be given again once the line has ended.
    pub fn open(&self, mut hit: impl FnMut(Hit<'_>)) {
        for line in self.demux.open() {
            report(&self.set, &line, &mut hit);
        }
    }

    /// The stream has ended: matches in what stood open.
    pub fn finish(&mut self, mut hit: impl FnMut(Hit<'_>)) {
        let Matcher { demux, set } = self;
        demux.finish(|line| report(set, &line, &mut hit));
    }
}

fn report(set: &PatternSet, line: &Line<'_>, hit: &mut impl FnMut(Hit<'_>)) {
    for pattern in set.matches(line.speaker, &line.text) {
        hit(Hit { pattern, line });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(patterns: &[&str]) -> PatternSet {
        PatternSet::new(patterns.iter().map(|&p| Pattern::any(p))).unwrap()
    }

    #[test]
    fn literals_that_a_match_needs() {
        let needed = |p: &str| {
            literals(&regex_syntax::parse(p).unwrap())
                .map(|l| l.into_iter().map(|l| String::from_utf8(l).unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(needed(r"^Xen version \S+"), Some(vec!["Xen version ".into()]));
        assert_eq!(needed(r"(?:one|two) three"), Some(vec![" three".into()]));
        assert_eq!(needed(r"one|two"), Some(vec!["one".into(), "two".into()]));
        assert_eq!(needed(r"(?:maybe)?\d+"), None);
        assert_eq!(needed(r"(?:again)+"), Some(vec!["again".into()]));
        assert_eq!(needed(r"(?i)anycase"), None);
        assert_eq!(needed(r".*"), None);
    }

    #[test]
    fn whose_lines() {
        let set = PatternSet::new([Pattern::of(Speaker::Xen, "word"), Pattern::any("wor")]).unwrap();
        assert_eq!(set.matches(Speaker::Xen, "a word").collect::<Vec<_>>(), [0, 1]);
        assert_eq!(set.matches(Speaker::Dom0, "a word").collect::<Vec<_>>(), [1]);
        assert_eq!(set.matches(Speaker::Dom0, "nothing").count(), 0);
        assert!(PatternSet::new([]).unwrap().matches(Speaker::Xen, "x").next().is_none());
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = PatternSet::new([Pattern::any("fine"), Pattern::any("(open")]).unwrap_err();
        assert_eq!(error.index, 1);
        assert!(error.to_string().contains("(open"), "{error}");
    }

    #[test]
    fn a_marker_cut_at_every_byte_by_chunks_and_by_xen() {
        let record = b"(XEN) Xen\r\nmarker-\xc3\xa9-0123456789\r\r\nafter\r\n".to_vec();
        let found = |chunks: &[&[u8]]| {
            let mut matcher = Matcher::new([Pattern::any("^marker-é-0123456789$")]).unwrap();
            let mut hits = 0;
            chunks.iter().for_each(|c| matcher.feed(c, |_| hits += 1));
            matcher.finish(|_| hits += 1);
            hits
        };
        for at in 0..record.len() {
            assert_eq!(found(&[&record[..at], &record[at..]]), 1, "chunk ends at {at}");
        }
        for at in 11..record.len() - 9 {
            let cut = [&record[..at], b"(XEN) interrupts\r\n", &record[at..]].concat();
            assert_eq!(found(&[&cut]), 1, "cut by Xen at {at}");
        }
    }

    #[test]
    fn prompts_stand_open() {
        let mut matcher = Matcher::new([Pattern::any("login: $")]).unwrap();
        let mut hits = 0;
        matcher.feed(b"(XEN) x\nhost login: ", |_| hits += 1);
        assert_eq!(hits, 0);
        matcher.open(|hit| hits += usize::from(hit.pattern == 0));
        assert_eq!(hits, 1);
    }

    proptest! {
        /// The prefilter changes nothing.
        #[test]
        fn as_each_regex_alone(text in "[a-cX ]{0,30}") {
            let patterns = ["abc", "a+bc X", "(?:abc|cab)+ ", "^c.*a$", "[ab]{3}", "bca|X X|aaa", "(abc)?X", "(?i)ABC"];
            let all = set(&patterns);
            let some = set(&patterns[..3]);
            for (set, patterns) in [(all, &patterns[..]), (some, &patterns[..3])] {
                let want: Vec<usize> = patterns.iter().enumerate().filter(|(_, p)| regex::Regex::new(p).unwrap().is_match(&text)).map(|(i, _)| i).collect();
                prop_assert_eq!(set.matches(Speaker::Xen, &text).collect::<Vec<_>>(), want);
            }
        }
    }
}
