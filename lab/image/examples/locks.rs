//! Makes the locks under `images/locks` anew: `locks SUITE…`. Run it when a recipe changed or a suite moved on; the
//! packages end up in the store (XENLAB_STORE).

use std::path::Path;
use std::sync::Arc;
use xenlab_image::recipe;
use xenlab_model::Arch;
use xenlab_model::event::{Sink, What};
use xenlab_store::debian::{Keep, Request, packages};
use xenlab_store::{Options, Store};

struct Stderr;

impl Sink for Stderr {
    fn emit(&self, what: What) {
        if let What::Note { message, .. } = what {
            eprintln!("{message}");
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    xenlab_host::child::intercept();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/locks");
    let store = Store::open(Options { sink: Arc::new(Stderr), ..Options::default() })?;
    for suite in std::env::args().skip(1) {
        for arch in Arch::ALL {
            let mut requests: Vec<Request> = Vec::new();
            for set in ["initramfs", "minimal", "systemd"] {
                requests.push(recipe::recipe(set)?.request(set, &suite, arch));
            }
            let mut busybox = recipe::recipe("initramfs")?.request("busybox", &suite, arch);
            busybox.include = vec!["busybox-static".into()];
            busybox.keep = Keep::Only(vec!["busybox".into()]);
            requests.push(busybox);
            if arch == Arch::X86_64 {
                requests.push(recipe::recipe("device-model")?.request("device-model", &suite, arch));
            }
            if suite == recipe::FIRMWARE_SUITE {
                let efi = format!("efi-{arch}");
                let grub = (arch == Arch::X86_64).then_some("grub");
                for set in [efi.as_str(), "grub-mkimage"].into_iter().chain(grub) {
                    requests.push(recipe::recipe(set)?.request(set, &suite, arch));
                }
            }
            for request in requests {
                // A lock kept in the store of this very request is as good as a new one.
                let lock = packages(&store, &request, None)?.lock;
                let path = dir.join(format!("{}-{}-{}.json", request.suite, arch.debian(), request.set));
                std::fs::write(&path, serde_json::to_string_pretty(&lock)? + "\n")?;
                println!("{}: {} packages", path.display(), lock.packages.len());
            }
        }
    }
    Ok(())
}
