//! A package's metadata, evaluated by Nix: without a network, a store, a HOME or anything of the user's configuration.

use std::path::Path;
use xenlab_host::Command;
use xenlab_model::Arch;
use xenlab_model::metadata::Metadata;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// What the user named is no checkout of nixpkgs.
    #[error("{0}")]
    Input(String),
    /// This host cannot evaluate it.
    #[error("{0}")]
    Host(String),
    /// Nix could not.
    #[error("{attribute} of {}: nix-instantiate: {said}", .checkout.display())]
    Nix {
        /// The checkout.
        checkout: std::path::PathBuf,
        /// What was asked for.
        attribute: String,
        /// The first thing it complained of.
        said: String,
    },
}

/// Evaluates a package of a checkout of nixpkgs: `attribute` is its path, `xen` or `xenPackages.xen_4_20`.
///
/// # Errors
/// See [`MetadataError`].
pub fn evaluate(checkout: &Path, attribute: &str, arch: Arch) -> Result<Metadata, MetadataError> {
    let input = |what: String| MetadataError::Input(what);
    let real = std::fs::canonicalize(checkout)
        .map_err(|e| input(format!("--nixpkgs {}: {e}", checkout.display())))?;
    if !real.join("default.nix").is_file() {
        return Err(input(format!(
            "--nixpkgs {}: there is no default.nix; expected a checkout of nixpkgs",
            checkout.display()
        )));
    }
    let word = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '\''))
    };
    if !attribute.split('.').all(word) {
        return Err(input(format!(
            "--nixpkgs-attr {attribute}: expected an attribute's path, as xen or xenPackages.xen_4_20"
        )));
    }
    if xenlab_host::probe::find_program("nix-instantiate").is_none() {
        return Err(MetadataError::Host(format!(
            "nix-instantiate is not installed: {}",
            xenlab_host::packages::hint("nix-instantiate")
        )));
    }
    let path: Vec<String> = attribute.split('.').map(|part| format!("\"{part}\"")).collect();
    // Paths are handed over as arguments: what a folder is called is no Nix.
    let expression = format!(
        "{{ checkout, system }}: let p = (import (/. + checkout) {{ inherit system; config = {{ }}; overlays = [ ]; }}).{}; m = p.meta or {{ }}; in \
         {{ version = p.version or null; branch = m.branch or null; description = m.description or null; \
         longDescription = m.longDescription or null; knownVulnerabilities = m.knownVulnerabilities or [ ]; \
         efi = p.efi or null; multiboot = p.multiboot or null; }}",
        path.join(".")
    );
    let output = Command::new("nix-instantiate")
        .args(["--eval", "--strict", "--json", "--store", "dummy://", "--option", "substitute", "false"])
        .arg("--argstr")
        .arg("checkout")
        .arg(&real)
        .args(["--argstr", "system", &format!("{}-linux", arch.name()), "--expr", &expression])
        .env("NIX_PATH", "")
        .env("NIX_USER_CONF_FILES", "/dev/null")
        .env("LC_ALL", "C")
        .output()
        .map_err(|e| MetadataError::Host(e.to_string()))?;
    let failed = |said: &str| MetadataError::Nix {
        checkout: checkout.to_owned(),
        attribute: attribute.to_owned(),
        said: said.to_owned(),
    };
    if !output.ended.ok() {
        let said = output.stderr.text();
        let first = said.lines().map(str::trim).find(|l| l.starts_with("error:"));
        return Err(failed(first.or(said.lines().next()).unwrap_or("it did not say why")));
    }
    let meta: Metadata =
        serde_json::from_str(output.stdout.text().trim()).map_err(|e| failed(&e.to_string()))?;
    Ok(Metadata { attribute: attribute.to_owned(), ..meta })
}
