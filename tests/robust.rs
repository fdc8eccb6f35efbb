//! What the lab must survive: signals and kills at any moment, floods, full disks, damaged stores, hosts that lack things.
//!
//! Where no real guest is needed the machine is the fake QEMU of `lab/machine`, which plays a script. One test at a time: each
//! measures something of a whole process, and two at once would measure each other.

#[path = "robust/bench.rs"]
mod bench;
#[path = "robust/budget.rs"]
mod budget;
#[path = "robust/build.rs"]
mod build;
#[path = "robust/diff.rs"]
mod diff;
#[path = "robust/expect.rs"]
mod expect;
#[path = "robust/flood.rs"]
mod flood;
#[path = "robust/host.rs"]
mod host;
#[path = "robust/hvm.rs"]
mod hvm;
#[path = "robust/keep.rs"]
mod keep;
#[path = "robust/kill.rs"]
mod kill;
#[path = "robust/layers.rs"]
mod layers;
#[path = "robust/nix.rs"]
mod nix;
#[path = "robust/nixos.rs"]
mod nixos;
#[path = "robust/pool.rs"]
mod pool;
#[path = "robust/real.rs"]
mod real;
#[path = "robust/selftest.rs"]
mod selftest;
#[path = "robust/store.rs"]
mod store;
#[path = "robust/template.rs"]
mod template;
#[path = "robust/tools.rs"]
mod tools;
#[path = "robust/xsa.rs"]
mod xsa;
#[path = "robust/xtf.rs"]
mod xtf;
