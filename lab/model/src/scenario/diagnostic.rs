//! What is wrong with a scenario: where, what was expected, and what was probably meant.

use super::tree::Origin;
use crate::place::Place;
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode, SourceOffset};
use std::fmt;
use std::sync::Arc;

/// The text a diagnostic points into: a scenario's, or a command-line argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// What the text is called: the file as the user named it, or `command line, argument 3`.
    pub name: String,
    /// All of it.
    pub text: Arc<str>,
    /// First byte of what is wrong.
    pub start: usize,
    /// Bytes.
    pub length: usize,
}

/// One mistake in a scenario or in what the command line sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub place: Place,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What was expected there; shown at the caret.
    pub expected: Option<String>,
    /// The nearest word, or what to do.
    pub help: Option<String>,
    /// The text around it; none for a value that nobody wrote.
    pub snippet: Option<Snippet>,
}

impl Diagnostic {
    /// A mistake at `origin`; its snippet is attached by [`Sources::attach`].
    pub(crate) fn new(origin: &Origin, message: impl Into<String>) -> Self {
        Diagnostic {
            place: origin.place.clone(),
            message: message.into(),
            expected: None,
            help: None,
            snippet: origin.span.map(|(start, length)| Snippet {
                name: String::new(),
                text: Arc::from(""),
                start,
                length,
            }),
        }
    }

    /// With what was expected.
    #[must_use]
    pub(crate) fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = Some(text.into());
        self
    }

    /// With what to do.
    #[must_use]
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// With the nearest of `words`, if one is near to `word`.
    #[must_use]
    pub(crate) fn nearest<'a>(self, word: &str, words: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(word, words) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None => self,
        }
    }

    /// Whether it is about what has this origin: a mapping and its first key may share a place.
    pub(crate) fn points_at(&self, origin: &Origin) -> bool {
        match (&self.snippet, origin.span) {
            (Some(snippet), Some((start, length))) => (snippet.start, snippet.length) == (start, length),
            _ => true,
        }
    }

    /// As text for a terminal: the message, `FILE:LINE:COLUMN`, the line, a caret, what was expected, the nearest word.
    ///
    /// `colour` adds ANSI colours; without it nothing but plain characters is written, whatever stdout is.
    pub fn render(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler =
            GraphicalReportHandler::new_themed(theme).with_width(110).with_links(false).with_context_lines(1);
        let mut out = String::new();
        // Writing to a String does not fail, and the message alone is better than nothing if it ever did.
        if handler.render_report(&mut out, &Report::new(self)).is_err() {
            out = format!("{}: {}\n", self.place, self.message);
        }
        out
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}: {}", self.place, self.message);
        if let Some(expected) = &self.expected {
            text.push_str(&format!("; expected {expected}"));
        }
        if let Some(help) = &self.help {
            text.push_str(&format!("; {help}"));
        }
        f.write_str(&printable(&text))
    }
}

impl std::error::Error for Diagnostic {}

/// All of them, one below the other, and how many there are.
pub fn render(diagnostics: &[Diagnostic], colour: bool) -> String {
    let mut out: String = diagnostics.iter().map(|d| d.render(colour)).collect();
    match diagnostics.len() {
        0 => {}
        1 => out.push_str("1 mistake; nothing was started\n"),
        n => out.push_str(&format!("{n} mistakes; nothing was started\n")),
    }
    out
}

/// The nearest of `words` to `word`, if it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let limit = (word.chars().count() / 3).clamp(1, 4);
    words
        .into_iter()
        .map(|w| (strsim::damerau_levenshtein(&lower, &w.to_lowercase()), w))
        .filter(|&(distance, w)| distance <= limit && !w.is_empty())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, w)| w)
}

/// `a, b or c`.
pub(crate) fn alternatives<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [rest @ .., last] => {
            let rest: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", rest.join(", "), last.as_ref())
        }
    }
}

/// The texts that origins point into.
pub(crate) struct Sources {
    /// The scenario's file, as the user named it.
    pub file: String,
    /// Its text.
    pub text: Arc<str>,
    /// Command-line arguments by position, as `PATH=VALUE`.
    pub arguments: Vec<(usize, Arc<str>)>,
}

impl Sources {
    /// Gives a diagnostic the text it points into.
    pub fn attach(&self, diagnostic: &mut Diagnostic) {
        let text = match &diagnostic.place {
            Place::File { .. } => Some((self.file.clone(), Arc::clone(&self.text))),
            Place::CommandLine { argument } => self
                .arguments
                .iter()
                .find(|(position, _)| position == argument)
                .map(|(_, text)| (diagnostic.place.to_string(), Arc::clone(text))),
            Place::Default => None,
        };
        diagnostic.snippet = match (diagnostic.snippet.take(), text) {
            (Some(snippet), Some((name, text))) => {
                let start = floor(&text, snippet.start);
                let end = floor(&text, snippet.start.saturating_add(snippet.length)).max(start);
                // The caret stands under the first line alone: a whole mapping underlined says nothing.
                let line = text[start..end].find('\n').unwrap_or(end - start);
                Some(Snippet { name, start, length: text[start..start + line].trim_end().len(), text })
            }
            _ => None,
        };
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// What miette is shown.
#[derive(Debug)]
struct Report<'a> {
    diagnostic: &'a Diagnostic,
    source: Option<NamedSource<String>>,
}

impl<'a> Report<'a> {
    fn new(diagnostic: &'a Diagnostic) -> Self {
        let source = diagnostic
            .snippet
            .as_ref()
            .map(|snippet| NamedSource::new(printable(&snippet.name), printable(&snippet.text)));
        Report { diagnostic, source }
    }
}

/// Control characters of a scenario never reach the terminal; what replaces one has the same length in bytes.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let shown = c == '\n' || c == '\t' || !c.is_control();
            let times = if shown { 1 } else { c.len_utf8() };
            std::iter::repeat_n(if shown { c } else { '?' }, times)
        })
        .collect()
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = printable(&self.diagnostic.message);
        // With a snippet its header says where.
        match &self.diagnostic.snippet {
            Some(_) => f.write_str(&message),
            None => write!(f, "{}: {message}", self.diagnostic.place),
        }
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        match (&self.diagnostic.help, &self.diagnostic.expected, &self.diagnostic.snippet) {
            (None, Some(expected), None) => Some(Box::new(printable(&format!("expected {expected}")))),
            (Some(help), Some(expected), None) => {
                Some(Box::new(printable(&format!("expected {expected}; {help}"))))
            }
            (Some(help), ..) => Some(Box::new(printable(help))),
            _ => None,
        }
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|s| s as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let snippet = self.diagnostic.snippet.as_ref()?;
        let label = match &self.diagnostic.expected {
            Some(expected) => printable(&format!("expected {expected}")),
            None => "here".to_owned(),
        };
        let start = SourceOffset::from(snippet.start);
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(
            Some(label),
            (start, snippet.length),
        ))))
    }
}
