//! What people working on xenlab run often. CI runs the same commands.

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use std::process::{Command, ExitCode};

mod builds;
mod guest;
mod known;
mod nixos;
mod restores;
mod soak;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Commands for working on xenlab")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Everything CI runs: formatting, lints, unit tests, and the real boots on both architectures
    Test {
        /// Install missing host packages first (needs root or sudo)
        #[arg(long)]
        install: bool,
        /// Faults that are caught by the same code on each architecture on both of them, not on one
        #[arg(long)]
        everything: bool,
    },
    /// Boot many times in a row and count verdicts; any but Pass fails
    Soak(soak::Soak),
    /// Start many clones of one template, and look closely at each: build-id, clocks, and a PV guest in some of them
    Restores(restores::Restores),
    /// Build Xen from source with patches and options, boot each, and see that it is judged as what it is
    Builds(builds::Builds),
    /// Make NixOS systems by nix-build, boot them in every way, and see that each is judged as what it is
    Nixos(nixos::Nixos),
    /// Write what is known of Xen's branches and releases anew, from a clone of Xen's repository
    KnownReleases(known::KnownReleases),
    /// Kill the lab at random moments and look for what it leaves behind
    Kill(soak::Kill),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Test { install, everything } => test(install, everything),
        Verb::Soak(soak) => soak.run(),
        Verb::Restores(restores) => restores.run(),
        Verb::Builds(builds) => builds.run(),
        Verb::Nixos(nixos) => nixos.run(),
        Verb::KnownReleases(known) => known.run(),
        Verb::Kill(kill) => kill.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command with the terminal's own streams; its failure ends the task.
fn sh(program: &str, args: &[&str]) -> Result<()> {
    sh_with(program, args, None)
}

/// The same with this in its environment.
fn sh_with(program: &str, args: &[&str], variable: Option<(&str, &str)>) -> Result<()> {
    eprintln!("xtask: {program} {}", args.join(" "));
    let status = Command::new(program)
        .args(args)
        .envs(variable)
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("`{program} {}` ended with {status}", args.join(" "));
    }
    Ok(())
}

fn cargo(args: &[&str]) -> Result<()> {
    sh(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), args)
}

/// Builds the program as users run it and returns its path.
fn release_binary() -> Result<String> {
    cargo(&["build", "--release", "--locked", "-p", "xenlab"])?;
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    Ok(format!("{target}/release/xenlab"))
}

fn test(install: bool, everything: bool) -> Result<()> {
    let lab = release_binary()?;
    if install {
        sh(&lab, &["doctor", "--install", "--tests"])?;
    }
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    // Every target but the documentation, which has no examples to be run.
    let tests: &[&str] = &["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins", "--tests"];
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let everything = everything.then_some(("XENLAB_TEST_EVERYTHING", "1"));
    sh_with(&program, tests, everything)
}
