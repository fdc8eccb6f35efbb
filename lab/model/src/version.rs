//! Versions are text: `4.20` is not 4.2, and `4.9 < 4.20`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A Xen version as the hypervisor itself says it: `MAJOR.MINOR` and whatever follows (`.5`, `.4-pre`, `-rc`, `-unstable`).
///
/// Major and minor are integers in Xen's code (`xen/Makefile`: `XEN_VERSION`, `XEN_SUBVERSION`); the rest,
/// `XEN_EXTRAVERSION`, is free text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct XenVersion {
    /// `xen_major` of `xl info`.
    pub major: u32,
    /// `xen_minor` of `xl info`.
    pub minor: u32,
    /// `xen_extra` of `xl info`, with its leading `.` or `-`.
    pub extra: String,
}

impl XenVersion {
    /// `MAJOR.MINOR`: what tools and hypervisor must share.
    pub fn branch(&self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}

impl FromStr for XenVersion {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{s}` is not a Xen version; expected MAJOR.MINOR and what follows, as 4.20.1 or 4.21-rc")
        };
        let (major, rest) = s.split_once('.').ok_or_else(wrong)?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (minor, extra) = rest.split_at(end);
        if extra.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(wrong());
        }
        Ok(XenVersion {
            major: major.parse().map_err(|_| wrong())?,
            minor: minor.parse().map_err(|_| wrong())?,
            extra: extra.to_owned(),
        })
    }
}

impl fmt::Display for XenVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.major, self.minor, self.extra)
    }
}

/// Orders two versions the way people read them: runs of digits as numbers, everything else as text.
/// A shorter version that is a prefix of a longer one comes first (`4.20` before `4.20.1`), except that a
/// pre-release mark (`-rc…`, `-pre`, `-unstable`, `~…`) comes before the end.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => {
                return if b.starts_with(['-', '~']) { Ordering::Greater } else { Ordering::Less };
            }
            (false, true) => {
                return if a.starts_with(['-', '~']) { Ordering::Less } else { Ordering::Greater };
            }
            _ => {}
        }
        let (ra, rb) = (run(a), run(b));
        let order = if ra.as_bytes()[0].is_ascii_digit() && rb.as_bytes()[0].is_ascii_digit() {
            let (na, nb) = (ra.trim_start_matches('0'), rb.trim_start_matches('0'));
            na.len().cmp(&nb.len()).then_with(|| na.cmp(nb))
        } else {
            // `-pre` against `.1`: the pre-release is the older one.
            let pre = |s: &str| s.starts_with(['-', '~']);
            pre(rb).cmp(&pre(ra)).then_with(|| ra.cmp(rb))
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (&a[ra.len()..], &b[rb.len()..]);
    }
}

/// The leading run of digits, or of everything else.
fn run(s: &str) -> &str {
    let digit = s.as_bytes()[0].is_ascii_digit();
    let end = s.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(s.len());
    &s[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order() {
        for (a, b) in [
            ("4.9", "4.20"),
            ("4.20", "4.20.1"),
            ("4.20.4-pre", "4.20.4"),
            ("4.21-rc1", "4.21-rc2"),
            ("4.21-rc2", "4.21"),
            ("4.20.4-pre", "4.20.5-pre"),
            ("4.17.5", "4.20"),
            ("7.2.22", "10.0.2"),
            ("4.20-pre", "4.20.1"),
        ] {
            assert_eq!(compare(a, b), Ordering::Less, "{a} < {b}");
            assert_eq!(compare(b, a), Ordering::Greater, "{b} > {a}");
        }
        assert_eq!(compare("4.20", "4.20"), Ordering::Equal);
    }

    #[test]
    fn xen_versions() {
        let v: XenVersion = "4.20.4-pre".parse().unwrap();
        assert_eq!((v.major, v.minor, v.extra.as_str(), v.branch().as_str()), (4, 20, ".4-pre", "4.20"));
        assert_eq!(v.to_string(), "4.20.4-pre");
        for s in ["", "4", "4.", ".4", "x.y", "4.17 5", "v4.17"] {
            assert!(s.parse::<XenVersion>().is_err(), "{s}");
        }
    }
}
