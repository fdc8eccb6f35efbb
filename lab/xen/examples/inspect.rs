//! Looks at a Xen build and prints everything that is found: `inspect SPEC ARCH [--tools SPEC] [--expect VERSION]`. For trying
//! things out while working on this crate; users have `xenlab inspect`.

use std::sync::Arc;
use std::time::Instant;
use xenlab_model::event::{Sink, What};
use xenlab_model::spec::Subject;
use xenlab_model::step::pkg_config::{Modules, PkgConfig};
use xenlab_store::{Options, Store};

struct Stderr;

impl Sink for Stderr {
    fn emit(&self, what: What) {
        eprintln!("{}", serde_json::to_string(&what).unwrap_or_default());
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    xenlab_host::child::intercept();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [spec, arch, rest @ ..] = &args[..] else {
        return Err("SPEC ARCH [--tools SPEC] [--expect VERSION]".into());
    };
    let mut subject = Subject::of(spec.parse()?);
    for pair in rest.chunks(2) {
        match pair {
            [o, v] if o == "--tools" => subject.tools = Some(v.parse()?),
            [o, v] if o == "--expect" => subject.expect_version = Some(v.clone()),
            _ => return Err("expected --tools SPEC or --expect VERSION".into()),
        }
    }
    let store = Store::open(Options { sink: Arc::new(Stderr), ..Options::default() })?;
    let start = Instant::now();
    let build = xenlab_xen::provide(&subject, arch.parse()?, &store)?;
    let took = start.elapsed();
    println!("{}\nfacts\n{}", build.describe(), serde_json::to_string_pretty(&build.facts())?);
    let start = Instant::now();
    let step = PkgConfig { modules: Modules::All, versions: Default::default(), compile: true };
    let evidence = xenlab_xen::pkg_config(&build, &step)?;
    println!("pkg-config {}", serde_json::to_string_pretty(&evidence)?);
    println!("boot-files {}", serde_json::to_string(&xenlab_xen::boot_files(&build))?);
    println!("provided in {took:?}, pkg-config and compiling in {:?}", start.elapsed());
    Ok(())
}
