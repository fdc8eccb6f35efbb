//! Xen builds: where they come from, and every fact that can be read off one.
//!
//! ```text
//! provide(&Subject, Arch, &Store) -> XenBuild      by the provider of each specification (debian:, dir:, file:)
//! XenBuild::facts()                                every build.* fact that a plan and a judge may ask for
//! XenBuild::describe()                             what `xenlab inspect` shows, as data and as text
//! differ(&Description, &Description)               what differs between two builds' files
//! pkg_config(&XenBuild, …), boot_files(&XenBuild)  what the steps of these names observed
//! ```
//!
//! What is wrong *with* a build (damaged, for another machine, a part missing) is data in it; an error means that what was named
//! could not be found or read at all.

mod bootspec;
mod build;
mod declared;
mod describe;
mod differ;
mod elf;
mod error;
mod facts;
pub mod image;
mod kconfig;
mod libraries;
pub mod pkg_config;
pub mod provider;
mod scan;
mod source;
mod tools;
mod trace;
mod tree;

pub use build::{
    BootFiles, Declared, Development, DeviceModel, EfiImage, Hypervisor, RootDisk, System, Tools, XenBuild,
};
pub use describe::Description;
pub use differ::differ;
pub use elf::{ElfInfo, read as read_elf};
pub use error::XenError;
pub use kconfig::Kconfig;
pub use libraries::{Library, libraries};
pub use pkg_config::pkg_config;
pub use provider::{PROVIDERS, Provided, Provider, store_path};
pub use source::{Fix, History, SourceTree, commit_in, sysroot_request};
pub use trace::{locate, symbols};
pub use tree::{Node, Tree};

use xenlab_model::arch::Arch;
use xenlab_model::recipe::Recipe;
use xenlab_model::spec::{Subject, XenSpec};
use xenlab_model::step::boot_files::BootFilesEvidence;
use xenlab_store::{Store, StoreError};

/// The Xen build that a subject names. Blocking: it may download and unpack; unchanged, it takes a few milliseconds.
///
/// # Errors
/// What was named cannot be found or read; see [`XenError::is_bad_input`].
pub fn provide(subject: &Subject, arch: Arch, store: &Store) -> Result<XenBuild, XenError> {
    if let Some(tools) = &subject.tools
        && let Some(system) = [&subject.hypervisor, tools].into_iter().find(|spec| spec.is_system())
    {
        let why = "a NixOS system is booted whole, with its own tools: name it alone, or take the Xen out of it with nix:PATH";
        return Err(XenError::BadOption { spec: system.to_string(), why: why.to_owned() });
    }
    let main = part(&subject.hypervisor, &subject.recipe, arch, store)?;
    let Some(hypervisor) = main.hypervisor else {
        return Err(XenError::NoHypervisor {
            spec: subject.hypervisor.to_string(),
            path: main.root,
            looked_for: provider::looked_for(),
        });
    };
    let mut borrowed = None;
    let mut boot = main.boot;
    let mut left_out = main.left_out;
    let (tools, development) = match &subject.tools {
        None if main.tools.is_none() && subject.hypervisor.is_source() => {
            let asked = subject.recipe.options.tools;
            match own_tools(&subject.hypervisor, &subject.recipe, asked, arch, store)? {
                Some(own) => {
                    // A policy of Flask's is installed with the tools.
                    boot.files.extend(own.boot.files);
                    left_out.extend(own.left_out);
                    (own.tools, own.development)
                }
                None => {
                    borrowed = lender(&hypervisor);
                    match &borrowed {
                        Some(spec) => (part(spec, &Recipe::default(), arch, store)?.tools, None),
                        None => {
                            let branch = hypervisor.branch().unwrap_or_else(|| "this version".to_owned());
                            let message = format!(
                                "it has no tools, and no Debian suite known here has those of Xen {branch}; name some with --tools SPEC"
                            );
                            store.note(format!("{}: {message}", subject.hypervisor));
                            (None, None)
                        }
                    }
                }
            }
        }
        None => (main.tools, main.development),
        Some(spec) => {
            let other = match spec.is_source() {
                // Of a source that is named for its tools nothing else is built.
                true => own_tools(spec, &Recipe::default(), Some(true), arch, store)?,
                false => Some(part(spec, &Recipe::default(), arch, store)?),
            };
            let Some(other) = other.filter(|o| o.tools.is_some()) else {
                return Err(no_tools(spec, "it is named as tools"));
            };
            left_out.extend(other.left_out);
            (other.tools, other.development)
        }
    };
    let expected =
        subject.expect_version.as_ref().map(|v| Declared { version: v.clone(), by: "expect-version".into() });
    Ok(XenBuild {
        subject: subject.clone(),
        arch,
        hypervisor,
        tools,
        borrowed,
        left_out,
        development,
        boot,
        declared: expected.or(main.declared),
        system: main.system,
    })
}

/// The source that a subject is built from, laid open with its patches and not built; with the version of the package that it came in. None
/// where the subject names what was built elsewhere.
///
/// # Errors
/// As [`provide`]; a patch that does not apply is one.
pub fn source_tree(
    subject: &Subject,
    store: &Store,
) -> Result<Option<(SourceTree, Option<String>)>, XenError> {
    let Some((origin, package)) = provider::source_of(&subject.hypervisor, store)? else { return Ok(None) };
    let tree = SourceTree::open(&subject.hypervisor.to_string(), &origin, &subject.recipe, store)?;
    Ok(Some((tree, package)))
}

/// The tools of a source, built from it unless `asked` says no. Where they cannot be built on this host and nobody asked for them this
/// is said, and there are none.
fn own_tools(
    spec: &XenSpec,
    recipe: &Recipe,
    asked: Option<bool>,
    arch: Arch,
    store: &Store,
) -> Result<Option<Provided>, XenError> {
    let Some(provider) = provider::of(spec).filter(|_| asked != Some(false)) else { return Ok(None) };
    match provider.tools(spec, recipe, arch, store) {
        Ok(None) if asked == Some(true) => Err(no_tools(spec, "its tools are asked for")),
        Err(e) if asked.is_none() && e.is_for_want_of_host() => {
            store.note(format!(
                "{spec}: its tools are not built for {arch}: {e}; with --build-option tools=false this is not tried"
            ));
            Ok(None)
        }
        other => other,
    }
}

fn no_tools(spec: &XenSpec, why: &str) -> XenError {
    let path = match spec {
        XenSpec::Source { path, .. } | XenSpec::Dir(path) | XenSpec::File(path) => path.clone(),
        _ => spec.to_string().into(),
    };
    let looked_for = match spec.is_source() {
        true => format!("tools/configure, or tools/configure.ac: {why}"),
        false => format!("{{usr/,usr/local/,}}{{s,}}bin/xl and libxenctrl.so.*: {why}"),
    };
    XenError::NotABuild { spec: spec.to_string(), path, looked_for }
}

/// What building the tools of a Xen from source takes that this host has not, by the names of programs and headers.
///
/// # Errors
/// There is no compiler for the architecture, or it does not work.
pub fn missing_for_tools(arch: Arch) -> Result<Vec<&'static str>, XenError> {
    source::tools::missing(arch)
}

/// The Debian suites whose tools a hypervisor can borrow, by its major.minor: `xl` and libxc work with no other.
const LENDERS: &[(&str, &str)] = &[("4.17", "bookworm"), ("4.20", "trixie")];

fn lender(hypervisor: &Hypervisor) -> Option<XenSpec> {
    let branch = hypervisor.branch()?;
    let (_, suite) = LENDERS.iter().find(|(of, _)| *of == branch)?;
    Some(XenSpec::Debian { suite: (*suite).to_owned(), version: None })
}

fn part(spec: &XenSpec, recipe: &Recipe, arch: Arch, store: &Store) -> Result<Provided, XenError> {
    match provider::of(spec) {
        Some(provider) if !recipe.is_empty() && !provider.builds() => {
            let why = format!("{recipe} is for what is built here: source:PATH[@REV] or debsrc:SUITE");
            Err(XenError::BadOption { spec: spec.to_string(), why })
        }
        Some(provider) => provider.provide(spec, recipe, arch, store),
        None => {
            let source = StoreError::Other("no provider knows this kind of build".into());
            Err(XenError::Store { spec: spec.to_string(), source })
        }
    }
}

/// What the step `boot-files` observes. The build has been read already, so nothing is read again.
pub fn boot_files(build: &XenBuild) -> BootFilesEvidence {
    BootFilesEvidence {
        absent: build.boot.absent.clone(),
        layout: build.boot.layout.clone(),
        version: build.hypervisor.version().map(str::to_owned),
        files: build.boot.files.clone(),
    }
}

#[cfg(test)]
mod tests;
