//! Which Debian archive to use. Found at run time: no mirror's host is written down anywhere.

use crate::run;
use crate::{Store, StoreError};
use std::path::PathBuf;
use xenlab_host::child::Command;

/// An archive: where its two pools are, and whose signatures to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Base of the main archive, ending in `/`: `dists/` and `pool/` lie below it.
    pub main: String,
    /// Base of the security archive, ending in `/`.
    pub security: Option<String>,
    /// Keyring for its Release files.
    pub keyring: Option<PathBuf>,
    /// Its Release files need no signature (an archive of one's own, in tests).
    pub trusted: bool,
}

impl Archive {
    /// The base of a pocket's archive.
    pub(super) fn base(&self, pocket: &str) -> &str {
        match pocket {
            "security" => self.security.as_deref().unwrap_or(&self.main),
            _ => &self.main,
        }
    }
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

fn slash(url: &str) -> String {
    format!("{}/", url.trim_end_matches('/'))
}

/// The archive to fetch this suite from: `XENLAB_DEBIAN_ARCHIVE` (and `XENLAB_DEBIAN_SECURITY`, `XENLAB_DEBIAN_KEYRING`), else
/// the host's own apt sources where they are Debian's, else what `mmdebstrap` writes for the suite.
pub fn find(store: &Store, suite: &str) -> Result<Archive, StoreError> {
    let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let keyring = env("XENLAB_DEBIAN_KEYRING")
        .map(PathBuf::from)
        .or_else(|| Some(KEYRING.into()).filter(|p: &PathBuf| p.exists()));
    let (main, security) = if let Some(main) = env("XENLAB_DEBIAN_ARCHIVE") {
        (main, env("XENLAB_DEBIAN_SECURITY"))
    } else if let Some(found) = from_apt()? {
        found
    } else {
        from_mmdebstrap(store, suite)?
    };
    let main = slash(&main);
    let security = env("XENLAB_DEBIAN_SECURITY").or(security).map(|s| slash(&s)).or_else(|| {
        // Where an archive has both, the one is named after the other.
        main.strip_suffix("/debian/").map(|base| format!("{base}/debian-security/"))
    });
    Ok(Archive { main, security, keyring, trusted: false })
}

/// The host's own sources, if their Release files say `Origin: Debian`.
fn from_apt() -> Result<Option<(String, Option<String>)>, StoreError> {
    let command =
        Command::new("apt-get").args(["indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)"]);
    let output = match run::output(command) {
        Ok(output) => output,
        Err(StoreError::ToolMissing { .. }) => return Ok(None),
        Err(e) => return Err(e),
    };
    Ok(parse_targets(&output.stdout.text()))
}

fn parse_targets(text: &str) -> Option<(String, Option<String>)> {
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|l| l.split('|').collect())
        .filter(|r: &Vec<&str>| r.len() == 3 && r[0] == "Debian")
        .collect();
    let usable =
        |uri: &str| uri.starts_with("http://") || uri.starts_with("https://") || uri.starts_with("file:");
    let first = |security: bool| {
        rows.iter().find(|r| r[1].ends_with("-security") == security && usable(r[2])).map(|r| r[2].to_owned())
    };
    Some((first(false)?, first(true)))
}

/// What `mmdebstrap` would write as sources for the suite: a hook shows them and ends it before anything is fetched.
fn from_mmdebstrap(store: &Store, suite: &str) -> Result<(String, Option<String>), StoreError> {
    let tmp = store.temporary("sources")?;
    let list = tmp.path().join("list");
    let command = Command::new("mmdebstrap")
        .args([
            "--quiet",
            "--variant=custom",
            "--setup-hook=cat \"$1\"/etc/apt/sources.list >\"$XENLAB_LIST\"; exit 1",
            suite,
        ])
        .arg("/dev/null")
        .env("XENLAB_LIST", &list);
    let output = run::output(command)?;
    let text = std::fs::read_to_string(&list).unwrap_or_default();
    let uri = |security: bool| {
        text.lines().filter_map(|l| l.strip_prefix("deb ")).find_map(|l| {
            let mut words = l.split_whitespace().skip_while(|w| w.starts_with('[') || w.ends_with(']'));
            let (uri, dist) = (words.next()?, words.next()?);
            (dist.ends_with("-security") == security).then(|| uri.to_owned())
        })
    };
    match uri(false) {
        Some(main) => Ok((main, uri(true))),
        None => Err(StoreError::NoArchive {
            detail: format!(
                "apt has no Debian source, and mmdebstrap names none for {suite}: {}",
                output.stderr.text().lines().last().unwrap_or("it said nothing")
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_sources_are_used_when_they_are_debian() {
        let text = "Ubuntu|noble|http://u.invalid/ubuntu/\nDebian|trixie-security|http://m.invalid/debian-security/\n\
                    Debian|trixie|http://m.invalid/debian/\n";
        let (main, security) = parse_targets(text).unwrap();
        assert_eq!(main, "http://m.invalid/debian/");
        assert_eq!(security.as_deref(), Some("http://m.invalid/debian-security/"));
        assert!(parse_targets("Ubuntu|noble|http://u.invalid/ubuntu/\n||http://x.invalid/\n").is_none());
    }
}
