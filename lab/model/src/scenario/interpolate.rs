//! `${path}` in values: replaced after parsing, in values only, never in a script.

use super::diagnostic::{Diagnostic, nearest};
use super::schema::Schemas;
use super::tree::{Kind, Node, Origin};
use std::cell::{Cell, RefCell};

/// Names replaced in one value, those in their values counted; more is a mistake that would otherwise grow without end.
const MOST: usize = 1000;
/// Bytes of one value; more than a whole scenario may have.
const LONGEST: usize = 1 << 20;

/// What `${…}` can name: the keys of a case's configuration, its variables, `run.nonce`.
pub(crate) struct Names<'a> {
    /// `arch`, `machine`, `xen`, `dom0`, `boot`, `limits`, `vars`; its own values may hold `${…}` too.
    pub config: &'a Node,
    /// Absent while the case's axes are being read: the nonce depends on them.
    pub nonce: Option<&'a str>,
    /// What was found undefined.
    pub diagnostics: RefCell<Vec<Diagnostic>>,
    /// Names replaced so far in the value at hand.
    replaced: Cell<usize>,
}

impl<'a> Names<'a> {
    /// Nothing found yet.
    pub fn new(config: &'a Node, nonce: Option<&'a str>) -> Self {
        Names { config, nonce, diagnostics: RefCell::new(Vec::new()), replaced: Cell::new(0) }
    }

    /// The node with every value resolved. A value that names something undefined becomes [`Kind::Bad`].
    pub fn resolve(&self, node: &Node) -> Node {
        self.resolve_below(node, "")
    }

    fn resolve_below(&self, node: &Node, key: &str) -> Node {
        self.replaced.set(0);
        let kind = match &node.kind {
            Kind::Scalar(text) => match self.text(text, &node.origin, &mut Vec::new()) {
                Ok(text) => Kind::Scalar(text),
                Err(d) => {
                    self.diagnostics.borrow_mut().push(*d);
                    Kind::Bad
                }
            },
            Kind::List(items) => Kind::List(items.iter().map(|i| self.resolve_below(i, "")).collect()),
            Kind::Map(entries) => Kind::Map(
                entries
                    .iter()
                    .map(|(k, v)| {
                        let value = if key == "run" && k.text == "script" {
                            self.refuse_in_script(v);
                            v.clone()
                        } else {
                            self.resolve_below(v, &k.text)
                        };
                        (k.clone(), value)
                    })
                    .collect(),
            ),
            Kind::Bad => Kind::Bad,
        };
        Node { origin: node.origin.clone(), kind }
    }

    /// `${vars.x}` is an error of the shell's; said here, before anything boots.
    fn refuse_in_script(&self, script: &Node) {
        let Some(text) = script.text() else { return };
        for (at, _) in text.match_indices("${") {
            let name = text[at + 2..].split('}').next().unwrap_or_default();
            if name == "run.nonce" || name.strip_prefix("vars.").is_some_and(super::walk::is_name) {
                let d =
                    Diagnostic::new(&script.origin, format!("`${{{name}}}` is not replaced inside a script"));
                let d = d.help(format!("it is in the environment: `\"${}\"`", environment_name(name)));
                self.diagnostics.borrow_mut().push(d);
            }
        }
    }

    /// The text with every `${…}` replaced; `$${` stands for a literal `${`.
    fn text(&self, text: &str, origin: &Origin, within: &mut Vec<String>) -> Result<String, Box<Diagnostic>> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                out.push_str(&rest[..at - 1]);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else {
                let d = Diagnostic::new(origin, "a `${` has no `}`").help("write `$${` for a literal `${`");
                return Err(Box::new(d));
            };
            let name = rest[at + 2..at + end].trim();
            out.push_str(&self.value(name, origin, within)?);
            if out.len() > LONGEST {
                let d = Diagnostic::new(origin, "this value grows too large");
                return Err(Box::new(d.expected("at most 1 MiB once its names are replaced")));
            }
            rest = &rest[at + end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    /// The value of one name; names in it are resolved too.
    fn value(
        &self,
        name: &str,
        origin: &Origin,
        within: &mut Vec<String>,
    ) -> Result<String, Box<Diagnostic>> {
        if name == "run.nonce" {
            return match self.nonce {
                Some(nonce) => Ok(nonce.to_owned()),
                None => {
                    let d = Diagnostic::new(
                        origin,
                        "`${run.nonce}` cannot be part of an axis or of what decides about cases",
                    );
                    Err(Box::new(d.help("every case has its own, made from the values of its axes")))
                }
            };
        }
        self.replaced.set(self.replaced.get() + 1);
        if self.replaced.get() > MOST {
            let d = Diagnostic::new(origin, "this value grows too large");
            return Err(Box::new(
                d.expected(format!("at most {MOST} names to replace, those in their values counted")),
            ));
        }
        let path = Schemas::get().canonical(name);
        if within.iter().any(|w| w == path) {
            let d = Diagnostic::new(origin, format!("`${{{name}}}` is defined by itself"));
            return Err(Box::new(d.help(format!("it goes by {}", within.join(" → ")))));
        }
        match self.config.at(path) {
            Some(Node { kind: Kind::Scalar(text), origin: from }) => {
                within.push(path.to_owned());
                let value = self.text(text, from, within);
                within.pop();
                value
            }
            // Told already, where it is declared; told again in the same words, it is told once.
            Some(Node { kind: Kind::Bad, origin }) => {
                Err(Box::new(Diagnostic::new(origin, not_given(name.strip_prefix("vars.").unwrap_or(name)))))
            }
            Some(node) => {
                let d =
                    Diagnostic::new(origin, format!("`${{{name}}}` is {}, not a single value", node.word()));
                Err(Box::new(d.help("name one of its keys")))
            }
            None => Err(Box::new(self.undefined(name, path, origin))),
        }
    }

    fn undefined(&self, name: &str, path: &str, origin: &Origin) -> Diagnostic {
        if Schemas::get().path(path).is_some() {
            let d = Diagnostic::new(origin, format!("`${{{name}}}` has no value in this case"));
            return d.help(format!("set `{path}`, or take `${{{name}}}` out"));
        }
        let names = self.names();
        let d = Diagnostic::new(origin, format!("`${{{name}}}` is not defined"))
            .expected("arch, vars.NAME, run.nonce or a key of the configuration, as xen or dom0.memory");
        match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => d.help(format!("did you mean `${{{near}}}`?")),
            None => d.help("write `$${` for a literal `${`"),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names = vec!["run.nonce".to_owned()];
        self.config.visit("", &mut |path, node| {
            if matches!(node.kind, Kind::Scalar(_) | Kind::Bad) {
                names.push(path.to_owned());
            }
        });
        names.extend(Schemas::get().paths().iter().flat_map(|p| p.aliases.clone()));
        names
    }
}

/// The environment variable that a script finds `${path}` in: upper case, `_` for everything but letters and digits.
pub(crate) fn environment_name(path: &str) -> String {
    path.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// The complaint of a required variable.
pub(crate) fn not_given(name: &str) -> String {
    format!("the variable `{name}` has no value")
}
