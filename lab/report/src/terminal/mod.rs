//! What the user sees: a live display on a terminal, lines anywhere else, and the outcome at the end.

mod live;
mod outcome;
mod plain;

use crate::{ReportError, Reporter};
pub use outcome::case_text;
use std::io::{IsTerminal, Write};
use xenlab_model::event::Event;

/// How text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// With colours.
    pub color: bool,
    /// Columns there are.
    pub width: usize,
}

/// Columns of lines that go to no terminal: a case's name with a few axes fits, a CI log does not wrap.
const PLAIN_WIDTH: usize = 120;

impl Style {
    /// For what stderr is: colours on a terminal that has them and unless `NO_COLOR` is set (<https://no-color.org>).
    pub fn of_stderr() -> Self {
        Style::of(std::io::stderr())
    }

    /// The same for what stdout is.
    pub fn of_stdout() -> Self {
        Style::of(std::io::stdout())
    }

    fn of(stream: impl IsTerminal + std::os::fd::AsFd) -> Self {
        let terminal = stream.is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb");
        let width = rustix::termios::tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col));
        Style {
            color: terminal && !dumb && !set("NO_COLOR"),
            width: width.filter(|&w| w >= 20).unwrap_or(PLAIN_WIDTH),
        }
    }

    pub(crate) fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The reporter for people.
pub struct Terminal(Kind);

enum Kind {
    Live(Box<live::Live>),
    Plain(Box<plain::Plain>),
}

impl Terminal {
    /// On stderr: live if it is a terminal that can move its cursor, else lines.
    pub fn stderr() -> Self {
        let style = Style::of_stderr();
        let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb");
        if std::io::stderr().is_terminal() && !dumb {
            Terminal(Kind::Live(Box::new(live::Live::new(style))))
        } else {
            Terminal::lines(Box::new(std::io::stderr()), style)
        }
    }

    /// Lines to any writer.
    pub fn lines(to: Box<dyn Write + Send>, style: Style) -> Self {
        Terminal(Kind::Plain(Box::new(plain::Plain::new(to, style))))
    }
}

impl Reporter for Terminal {
    fn name(&self) -> String {
        "terminal".into()
    }

    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        match &mut self.0 {
            Kind::Live(live) => live.event(event),
            Kind::Plain(plain) => plain.event(event),
        }
        .map_err(ReportError::Terminal)
    }

    fn tick(&mut self, at: f64) -> Result<(), ReportError> {
        match &mut self.0 {
            Kind::Live(live) => live.tick(at),
            Kind::Plain(plain) => plain.tick(at).map_err(ReportError::Terminal)?,
        }
        Ok(())
    }
}

/// A case judged again from its bundle, for people.
pub fn replayed(style: Style, verdict: &xenlab_model::verdict::CaseVerdict, bundle: &str) -> String {
    outcome::replayed(style, verdict, bundle)
}
