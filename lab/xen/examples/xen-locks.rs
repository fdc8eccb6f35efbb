//! Resolves Xen's packages of the suites that ship with a lock and writes `lab/xen/locks/SUITE-ARCH.json`: `locks DIR`.

use std::sync::Arc;
use xenlab_model::arch::Arch;
use xenlab_model::event::{Sink, What};
use xenlab_store::{Options, Store, debian};

struct Quiet;

impl Sink for Quiet {
    fn emit(&self, _: What) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    xenlab_host::child::intercept();
    let dir = std::env::args().nth(1).ok_or("expected the folder for the locks")?;
    // A store of its own: a lock that an older run left must not answer.
    let fresh = tempfile::tempdir()?;
    let options =
        Options { root: Some(fresh.path().to_owned()), sink: Arc::new(Quiet), ..Options::default() };
    let store = Store::open(options)?;
    for suite in ["bookworm", "trixie"] {
        for arch in Arch::ALL {
            let request = xenlab_xen::provider::debian::request(suite, None, arch);
            let lock = debian::packages(&store, &request, None)?.lock;
            let path = format!("{dir}/{suite}-{}.json", arch.debian());
            std::fs::write(&path, serde_json::to_string_pretty(&lock)? + "\n")?;
            println!("{path}: {} packages", lock.packages.len());
        }
    }
    // What Xen's tools are linked with when they are cross-compiled.
    let lock = debian::packages(&store, &xenlab_xen::sysroot_request(Arch::Aarch64), None)?.lock;
    let path = format!("{dir}/sysroot-bookworm-arm64.json");
    std::fs::write(&path, serde_json::to_string_pretty(&lock)? + "\n")?;
    println!("{path}: {} packages", lock.packages.len());
    Ok(())
}
