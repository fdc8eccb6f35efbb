//! Package indexes: the stanzas of `Packages` files, and what of a closure is reached how.

use super::{Keep, Request};
use std::collections::{BTreeMap, BTreeSet};

/// What is needed of a stanza.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stanza {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) arch: String,
    pub(super) source: String,
    pub(super) source_version: Option<String>,
    pub(super) file: String,
    pub(super) size: u64,
    pub(super) sha256: String,
    /// Alternatives of each dependency (Pre-Depends and Depends), names alone.
    pub(super) depends: Vec<Vec<String>>,
    pub(super) provides: Vec<String>,
    pub(super) pocket: String,
}

/// Reads a `Packages` file; stanzas that lack a field are left out.
pub(super) fn parse(text: &str, pocket: &str) -> Vec<Stanza> {
    text.split("\n\n").filter_map(|s| stanza(s, pocket)).collect()
}

fn stanza(text: &str, pocket: &str) -> Option<Stanza> {
    let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines() {
        if !line.starts_with([' ', '\t'])
            && let Some((name, value)) = line.split_once(':')
        {
            fields.insert(name, value.trim());
        }
    }
    let get = |name: &str| fields.get(name).copied();
    let name = get("Package")?.to_owned();
    // `Source: xen (4.20.2-1)` where the binary was rebuilt.
    let (source, source_version) = match get("Source") {
        None => (name.clone(), None),
        Some(s) => match s.split_once(" (") {
            Some((source, version)) => (source.to_owned(), Some(version.trim_end_matches(')').to_owned())),
            None => (s.to_owned(), None),
        },
    };
    let depends = ["Pre-Depends", "Depends"]
        .into_iter()
        .filter_map(get)
        .flat_map(|d| d.split(','))
        .map(|alternatives| alternatives.split('|').map(bare).collect())
        .collect();
    Some(Stanza {
        version: get("Version")?.to_owned(),
        arch: get("Architecture")?.to_owned(),
        source,
        source_version,
        file: get("Filename")?.trim_start_matches("./").to_owned(),
        size: get("Size")?.parse().ok()?,
        sha256: get("SHA256")?.to_owned(),
        depends,
        provides: get("Provides").map(|p| p.split(',').map(bare).collect()).unwrap_or_default(),
        pocket: pocket.to_owned(),
        name,
    })
}

/// `libc6:any (>= 2.36)` is `libc6`.
fn bare(dependency: &str) -> String {
    let d = dependency.trim();
    d.split([' ', '(', ':', '[']).next().unwrap_or(d).to_owned()
}

/// Of the packages apt chose, those that the request reaches without passing through what it excludes, as far as it
/// keeps them.
pub(super) fn reached(request: &Request, chosen: Vec<Stanza>) -> Vec<Stanza> {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, s) in chosen.iter().enumerate() {
        by_name.entry(&s.name).or_default().push(i);
    }
    // A real package of the name before one that only provides it.
    for (i, s) in chosen.iter().enumerate() {
        for p in &s.provides {
            by_name.entry(p).or_default().push(i);
        }
    }
    let mut seen = BTreeSet::new();
    let mut queue: Vec<usize> =
        request.include.iter().filter_map(|n| by_name.get(n.as_str())?.first().copied()).collect();
    while let Some(i) = queue.pop() {
        if request.exclude.contains(&chosen[i].name) || !seen.insert(i) {
            continue;
        }
        for alternatives in &chosen[i].depends {
            // Whichever of the alternatives apt chose.
            queue.extend(alternatives.iter().find_map(|n| by_name.get(n.as_str())?.first().copied()));
        }
    }
    let keep = |s: &Stanza| match &request.keep {
        Keep::All => true,
        Keep::Only(sources) => sources.contains(&s.source),
        Keep::Except(sources) => !sources.contains(&s.source),
    };
    chosen.iter().enumerate().filter(|(i, s)| seen.contains(i) && keep(s)).map(|(_, s)| s.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(name: &str, source: &str, depends: &str) -> String {
        format!(
            "Package: {name}\nSource: {source}\nVersion: 1\nArchitecture: amd64\nDepends: {depends}\nFilename: pool/{name}.deb\nSize: 1\nSHA256: 00\n\n"
        )
    }

    #[test]
    fn closures() {
        let text = p("tools", "xen (0.9)", "libxen (= 1), python3:any | perl, libc")
            + &p("libxen", "xen", "libuuid (>= 2)")
            + &p("python3", "py", "libbig")
            + &p("libbig", "big", "")
            + &p("libc", "glibc", "")
            + &p("libuuid", "u", "libc");
        let all = parse(&text, "main");
        assert_eq!((all[0].source.as_str(), all[0].source_version.as_deref()), ("xen", Some("0.9")));
        let mut request = Request {
            suite: "s".into(),
            arch: xenlab_model::Arch::X86_64,
            set: "t".into(),
            include: vec!["tools".into()],
            exclude: vec!["python3".into()],
            keep: Keep::Except(vec!["xen".into()]),
            pins: Vec::new(),
            backports: false,
        };
        let names = |r: &Request| reached(r, all.clone()).into_iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(names(&request), ["libc", "libuuid"]);
        request.keep = Keep::Only(vec!["xen".into()]);
        assert_eq!(names(&request), ["tools", "libxen"]);
        request.keep = Keep::All;
        request.exclude.clear();
        assert_eq!(names(&request), ["tools", "libxen", "python3", "libbig", "libc", "libuuid"]);
    }
}
