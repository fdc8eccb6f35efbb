//! Golden diagnostics: what a user is shown for each mistake.

use super::shown;

const GOOD: &str = "\
xenlab: 1
name: t
arch: x86_64
xen: debian:trixie
steps:
  - phase: dom0-ready
";

#[test]
fn try_some() {
    println!(
        "{}",
        shown(
            "xenlab: 1\nname: t\nmatrx: {}\narch: x86_65\nxen: debain:trixie\ndom0: {memory: 1Q, vcpus: many}\nsteps:\n - phase: dom0-redy\n - run: {script: a, argv: [b]}\n   within: 3\n - console: {has: ['('], lack: x}\n   when: {build.xenstored: {at-least: 3}}\n",
            &[]
        )
    );
    println!("{}", shown(GOOD, &["xen.toools=dir:/x", "dom0.memory=1Q"]));
}
