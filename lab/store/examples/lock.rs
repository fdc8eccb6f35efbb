//! Resolves a set of packages and prints its lock: `lock SUITE ARCH SET INCLUDE… [-EXCLUDE…] [except=SOURCE] [only=SOURCE]`.
//! The locks under `images/locks` are made by the image crate's example `locks`; this is for trying things out.

use std::sync::Arc;
use xenlab_model::event::{Sink, What};
use xenlab_store::debian::{Keep, Request, packages};
use xenlab_store::{Options, Store};

struct Stderr;

impl Sink for Stderr {
    fn emit(&self, what: What) {
        eprintln!("{}", serde_json::to_string(&what).unwrap_or_default());
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [suite, arch, set, rest @ ..] = &args[..] else { return Err("SUITE ARCH SET INCLUDE…".into()) };
    let mut request = Request {
        suite: suite.clone(),
        arch: arch.parse()?,
        set: set.clone(),
        include: Vec::new(),
        exclude: Vec::new(),
        keep: Keep::All,
        pins: Vec::new(),
        backports: false,
    };
    for word in rest {
        if let Some(p) = word.strip_prefix('-') {
            request.exclude.push(p.to_owned());
        } else if let Some(s) = word.strip_prefix("except=") {
            request.keep = Keep::Except(vec![s.to_owned()]);
        } else if let Some(s) = word.strip_prefix("only=") {
            request.keep = Keep::Only(vec![s.to_owned()]);
        } else {
            request.include.push(word.clone());
        }
    }
    let store = Store::open(Options { sink: Arc::new(Stderr), ..Options::default() })?;
    let resolved = packages(&store, &request, None)?;
    println!("{}", serde_json::to_string_pretty(&resolved.lock)?);
    Ok(())
}
