//! Which modules a Xen branch has, and their versions: `data/pkg-config.tsv`.

use crate::version::compare;
use std::sync::LazyLock;

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    module: &'static str,
    from: &'static str,
    /// `-`: since.
    to: &'static str,
    /// `branch`: that of the Xen itself.
    version: &'static str,
    library: &'static str,
    source: &'static str,
}

static TABLE: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let text = include_str!("../../../data/pkg-config.tsv");
    // A test reads every line of it: none is lost here without a word.
    text.lines().filter(|l| !l.starts_with('#')).filter_map(row).collect()
});

fn row(line: &'static str) -> Option<Row> {
    let mut f = line.split('\t');
    let row = Row {
        module: f.next()?,
        from: f.next()?,
        to: f.next()?,
        version: f.next()?,
        library: f.next()?,
        source: f.next()?,
    };
    f.next().is_none().then_some(row)
}

impl Row {
    fn covers(&self, branch: &str) -> bool {
        compare(self.from, branch).is_le() && (self.to == "-" || compare(branch, self.to).is_le())
    }
}

/// What a branch is expected to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The branch whose rows these are: the one asked for, or the nearest that the table knows.
    pub by: String,
    /// By name.
    pub modules: Vec<ExpectedModule>,
}

/// A module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedModule {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: String,
    /// The library that `Libs` names.
    pub library: &'static str,
    /// Where both are written.
    pub source: &'static str,
}

/// First and last branch that the table was read for.
const FIRST: &str = "4.16";
const LAST: &str = "4.22";

/// The modules of a branch (`4.20`). One that the table does not reach is judged by the nearest that it does;
/// [`Expected::by`] says so.
pub fn expected(branch: &str) -> Expected {
    let by = if compare(branch, FIRST).is_lt() {
        FIRST
    } else if compare(branch, LAST).is_gt() {
        LAST
    } else {
        branch
    };
    let modules = TABLE.iter().filter(|row| row.covers(by)).map(|row| ExpectedModule {
        name: row.module,
        // The libraries without a stable ABI have the version of the Xen they are from.
        version: if row.version == "branch" { format!("{branch}.0") } else { row.version.to_owned() },
        library: row.library,
        source: row.source,
    });
    Expected { by: by.to_owned(), modules: modules.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_read() {
        let lines =
            include_str!("../../../data/pkg-config.tsv").lines().filter(|l| !l.starts_with('#')).count();
        assert_eq!(TABLE.len(), lines);
        for row in TABLE.iter() {
            assert!(row.source.contains("tools/libs/") && row.source.contains("RELEASE-"), "{row:?}");
            assert!(row.module.starts_with('x') && row.library.starts_with('x'), "{row:?}");
        }
    }

    #[test]
    fn branches() {
        let version = |branch: &str, module: &str| {
            expected(branch).modules.into_iter().find(|m| m.name == module).map(|m| m.version)
        };
        let rows = [
            ("4.17", "xenlight", Some("4.17.0")),
            ("4.20", "xenlight", Some("4.20.0")),
            ("4.17", "xenstore", Some("4.0")),
            ("4.20", "xenstore", Some("4.0")),
            ("4.21", "xenstore", Some("4.1")),
            ("4.22", "xenstore", Some("4.2")),
            ("4.20", "xenmanage", None),
            ("4.21", "xenmanage", Some("1.0")),
            ("4.9", "xencall", Some("1.3")),
            ("4.30", "xenlight", Some("4.30.0")),
            ("4.30", "xenstore", Some("4.2")),
        ];
        for (branch, module, expected) in rows {
            assert_eq!(version(branch, module).as_deref(), expected, "{module} of {branch}");
        }
        for (branch, count) in
            [("4.16", 15), ("4.17", 15), ("4.18", 15), ("4.19", 15), ("4.20", 15), ("4.21", 16), ("4.22", 16)]
        {
            let e = expected(branch);
            assert_eq!((e.modules.len(), e.by.as_str()), (count, branch));
            let mut names: Vec<_> = e.modules.iter().map(|m| m.name).collect();
            names.dedup();
            assert_eq!(names.len(), count, "a module twice in {branch}");
        }
        assert_eq!((expected("4.9").by.as_str(), expected("4.30").by.as_str()), ("4.16", "4.22"));
    }
}
