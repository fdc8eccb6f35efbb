//! Pass 1: text → a tree whose every key and value knows where it was written.
//!
//! A subset of YAML, read from the events of serde-saphyr's parser: one document; no tags, anchors, aliases, merge keys,
//! duplicate keys or nulls; a scalar is its text, however it is quoted. What is left out is refused with its place.

use super::diagnostic::Diagnostic;
use crate::place::Place;
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span};

/// Deeper nesting than this is refused; no scenario needs a quarter of it.
const DEPTH: usize = 64;
/// Longer texts are refused, in bytes.
const LENGTH: usize = 1 << 20;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// For people, and for the bundle.
    pub place: Place,
    /// First byte and number of bytes in its text.
    pub span: Option<(usize, usize)>,
}

impl Origin {
    /// A default's.
    pub fn default_value() -> Self {
        Origin { place: Place::Default, span: None }
    }
}

/// A value with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it was written.
    pub origin: Origin,
    /// What it is.
    pub kind: Kind,
}

/// A key with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where it was written.
    pub origin: Origin,
    /// Its text.
    pub text: String,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Text; quotes never change its meaning.
    Scalar(String),
    /// `[…]`
    List(Vec<Node>),
    /// `{…}`, in the order written.
    Map(Vec<(Key, Node)>),
    /// Something already complained of: nothing more is said about it.
    Bad,
}

impl Node {
    /// A scalar.
    pub fn scalar(origin: Origin, text: impl Into<String>) -> Self {
        Node { origin, kind: Kind::Scalar(text.into()) }
    }

    /// An empty mapping.
    pub fn empty(origin: Origin) -> Self {
        Node { origin, kind: Kind::Map(Vec::new()) }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The entries of a mapping, none if it is not one.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list, none if it is not one.
    pub fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(k, _)| k.text == key).map(|(_, v)| v)
    }

    /// The value of a key.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.kind {
            Kind::Map(entries) => entries.iter_mut().find(|(k, _)| k.text == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The value at a dotted path.
    pub fn at(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(self, |node, key| node.get(key))
    }

    /// What it is, for messages.
    pub fn word(&self) -> &'static str {
        match self.kind {
            Kind::Scalar(_) | Kind::Bad => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// Puts a value at a dotted path, making the mappings above it. A mapping put over a mapping sets its keys one by
    /// one and leaves the others; everything else replaces what was there.
    pub fn put(&mut self, path: &str, value: Node) {
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        if !matches!(self.kind, Kind::Map(_)) {
            *self = Node::empty(value.origin.clone());
        }
        let Kind::Map(entries) = &mut self.kind else { return };
        let at = match entries.iter().position(|(k, _)| k.text == first) {
            Some(at) => at,
            None => {
                let origin = value.origin.clone();
                entries.push((Key { origin: origin.clone(), text: first.to_owned() }, Node::empty(origin)));
                entries.len() - 1
            }
        };
        let slot = &mut entries[at].1;
        match rest {
            Some(rest) => slot.put(rest, value),
            None => slot.merge(value),
        }
    }

    /// See [`Node::put`].
    pub fn merge(&mut self, value: Node) {
        match value.kind {
            Kind::Map(entries) if matches!(self.kind, Kind::Map(_)) => {
                for (key, value) in entries {
                    match self.get_mut(&key.text) {
                        Some(slot) => slot.merge(value),
                        None => {
                            if let Kind::Map(own) = &mut self.kind {
                                own.push((key, value));
                            }
                        }
                    }
                }
            }
            kind => *self = Node { origin: value.origin, kind },
        }
    }

    /// Whether both mean the same, wherever they were written.
    pub fn same_value(&self, other: &Node) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Scalar(a), Kind::Scalar(b)) => a == b,
            (Kind::List(a), Kind::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_value(b))
            }
            (Kind::Map(a), Kind::Map(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(k, v)| other.get(&k.text).is_some_and(|o| o.same_value(v)))
            }
            _ => false,
        }
    }

    /// Calls `f` with the dotted path (`steps[0].run.script`) of this node and of each below it.
    pub fn visit<'a>(&'a self, path: &str, f: &mut impl FnMut(&str, &'a Node)) {
        f(path, self);
        match &self.kind {
            Kind::Map(entries) => {
                for (key, value) in entries {
                    let below =
                        if path.is_empty() { key.text.clone() } else { format!("{path}.{}", key.text) };
                    value.visit(&below, f);
                }
            }
            Kind::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    item.visit(&format!("{path}[{i}]"), f);
                }
            }
            Kind::Scalar(_) | Kind::Bad => {}
        }
    }
}

/// Makes origins from the parser's spans.
pub enum Within<'a> {
    /// The text of this file.
    File(&'a str),
    /// The value of a command-line argument, which begins at this byte of `PATH=VALUE`.
    Argument(usize, usize),
}

impl Within<'_> {
    fn origin(&self, span: Span) -> Origin {
        let start = span.start.byte_offset().unwrap_or(0);
        let length = span.end.byte_offset().unwrap_or(start).saturating_sub(start);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        match *self {
            Within::File(file) => Origin {
                place: Place::File {
                    file: file.to_owned(),
                    line: number(span.start.line().max(1)),
                    column: number(span.start.col() + 1),
                },
                span: Some((start, length)),
            },
            Within::Argument(argument, offset) => {
                Origin { place: Place::CommandLine { argument }, span: Some((offset + start, length)) }
            }
        }
    }

    fn start(&self) -> Origin {
        self.origin(Span::default())
    }
}

/// Reads a text. A tree is returned as far as there is one; what is refused is in the list.
pub fn parse(text: &str, within: &Within<'_>) -> (Option<Node>, Vec<Diagnostic>) {
    let mut reader = Reader { within, diagnostics: Vec::new(), open: Vec::new(), root: None, documents: 0 };
    if text.len() > LENGTH {
        let d = Diagnostic::new(&within.start(), format!("this file has {} bytes", text.len()));
        return (None, vec![d.expected("a scenario, of at most 1 MiB")]);
    }
    let mut options = Options::default();
    options.disallow_directives = true;
    options.emit_unresolved_aliases = true;
    options.emit_comments = false;
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                if !reader.event(event, span) {
                    return (None, reader.diagnostics);
                }
            }
            Err(e) => {
                let at = Span::empty(*e.marker());
                reader.diagnostics.push(
                    Diagnostic::new(&within.origin(at), format!("this is not YAML: {}", e.info())).help(
                        "a value that holds `: ` or ` #`, or begins with one of [ { * & ! % @, needs quotes",
                    ),
                );
                return (None, reader.diagnostics);
            }
        }
    }
    if reader.root.is_none() && reader.diagnostics.is_empty() {
        reader
            .diagnostics
            .push(Diagnostic::new(&within.start(), "there is nothing in this file").expected("a scenario"));
    }
    (reader.root, reader.diagnostics)
}

/// A collection being read.
struct Open {
    node: Node,
    key: Option<Key>,
}

struct Reader<'a> {
    within: &'a Within<'a>,
    diagnostics: Vec<Diagnostic>,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

impl Reader<'_> {
    fn complain(&mut self, span: Span, message: &str, help: &str) {
        let origin = self.within.origin(span);
        self.diagnostics.push(Diagnostic::new(&origin, message).help(help));
    }

    /// False: nothing more can be read.
    fn event(&mut self, event: Event<'_>, span: Span) -> bool {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.complain(
                        span,
                        "a second document begins here",
                        "one file is one scenario; take the `---` out",
                    );
                    return false;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.properties(span, anchor, tag.is_some());
                let plain = style == ScalarStyle::Plain;
                let origin = self.within.origin(span);
                if self.awaits_key() {
                    self.key(Key { origin, text: text.into_owned() }, plain);
                } else if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    let d = if text.is_empty() || origin.span.is_some_and(|(_, length)| length == 0) {
                        let key = self.open.last().and_then(|o| o.key.as_ref());
                        match key {
                            Some(key) => Diagnostic::new(&key.origin, format!("`{}` has no value", key.text)),
                            None => Diagnostic::new(&origin, "there is no value here"),
                        }
                    } else {
                        Diagnostic::new(
                            &origin,
                            format!("there is no null in a scenario, and `{text}` means one in YAML"),
                        )
                    };
                    self.diagnostics
                        .push(d.help("leave the key out, write '' for empty text, or quote the word"));
                    self.add(Node { origin, kind: Kind::Bad });
                } else {
                    self.add(Node { origin, kind: Kind::Scalar(text.into_owned()) });
                }
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.properties(span, anchor, tag.is_some());
                return self.begin(span, Kind::List(Vec::new()));
            }
            Event::MappingStart(_, anchor, tag) => {
                self.properties(span, anchor, tag.is_some());
                return self.begin(span, Kind::Map(Vec::new()));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(mut done) = self.open.pop() {
                    let end = self.within.origin(span);
                    if let (Some((start, _)), Some((stop, _))) = (done.node.origin.span, end.span) {
                        done.node.origin.span = Some((start, stop.saturating_sub(start).max(1)));
                    }
                    self.add(done.node);
                }
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.complain(
                    span,
                    "aliases are not part of the language",
                    "write the value out, or use `vars`",
                );
                let origin = self.within.origin(span);
                if self.awaits_key() {
                    self.key(Key { origin, text: String::new() }, true);
                } else {
                    self.add(Node { origin, kind: Kind::Bad });
                }
            }
            _ => {}
        }
        true
    }

    fn properties(&mut self, span: Span, anchor: usize, tag: bool) {
        if anchor != 0 {
            self.complain(
                span,
                "anchors are not part of the language",
                "write the value out where it is needed",
            );
        }
        if tag {
            self.complain(
                span,
                "tags are not part of the language",
                "the type of a key is known; take the tag out",
            );
        }
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { node: Node { kind: Kind::Map(_), .. }, key: None }))
    }

    fn key(&mut self, key: Key, plain: bool) {
        if plain && key.text == "<<" {
            let d = Diagnostic::new(&key.origin, "merge keys are not part of the language");
            self.diagnostics.push(d.help("write the keys out"));
        } else if let Some(Open { node, .. }) = self.open.last()
            && let Some((first, _)) = node.entries().iter().find(|(k, _)| k.text == key.text)
        {
            let d = Diagnostic::new(&key.origin, format!("the key `{}` is here twice", key.text));
            let d = d.help(format!("it is at {} already", first.origin.place));
            self.diagnostics.push(d);
        }
        if let Some(open) = self.open.last_mut() {
            open.key = Some(key);
        }
    }

    fn begin(&mut self, span: Span, kind: Kind) -> bool {
        let origin = self.within.origin(span);
        if self.open.len() >= DEPTH {
            self.diagnostics.push(Diagnostic::new(&origin, format!("nested more than {DEPTH} deep")));
            return false;
        }
        if self.awaits_key() {
            let d = Diagnostic::new(&origin, "a key is a single word, not a list or mapping");
            self.diagnostics.push(d.help("a value with `{` or `[` needs quotes: '${vars.name}'"));
            return false;
        }
        self.open.push(Open { node: Node { origin, kind }, key: None });
        true
    }

    fn add(&mut self, value: Node) {
        let Some(open) = self.open.last_mut() else {
            // A later document is refused where it begins.
            self.root.get_or_insert(value);
            return;
        };
        match &mut open.node.kind {
            Kind::List(items) => items.push(value),
            Kind::Map(entries) => {
                if let Some(key) = open.key.take() {
                    // The first of two equal keys stays; the second and a merge key have been complained of.
                    if key.text != "<<" && !entries.iter().any(|(k, _)| k.text == key.text) {
                        entries.push((key, value));
                    }
                }
            }
            Kind::Scalar(_) | Kind::Bad => {}
        }
    }
}
