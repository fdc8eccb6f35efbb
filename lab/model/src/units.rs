//! Durations and sizes as scenarios write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of *guest time*: wall time less the time the machine's vCPUs waited for a host processor.
/// Written `500ms`, `30s`, `2m`; held with millisecond resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestDuration(pub Duration);

impl GuestDuration {
    /// So many seconds.
    pub const fn secs(s: u64) -> Self {
        GuestDuration(Duration::from_secs(s))
    }
    /// As seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }
}

impl FromStr for GuestDuration {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let split = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
        let (digits, unit) = s.split_at(split);
        let expected =
            || format!("`{s}` is not a duration; expected a whole number and a unit: 500ms, 30s, 2m");
        let n: u64 = digits.parse().map_err(|_| expected())?;
        let millis = match unit {
            "ms" => Some(n),
            "s" => n.checked_mul(1000),
            "m" => n.checked_mul(60_000),
            _ => return Err(expected()),
        };
        Ok(GuestDuration(Duration::from_millis(millis.ok_or_else(expected)?)))
    }
}

impl fmt::Display for GuestDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if ms.is_multiple_of(60_000) && ms > 0 {
            write!(f, "{}m", ms / 60_000)
        } else if ms.is_multiple_of(1000) {
            write!(f, "{}s", ms / 1000)
        } else {
            write!(f, "{ms}ms")
        }
    }
}

/// A size in bytes, written `64M`, `1G`, `512K` or a plain number of bytes. Powers of two, as QEMU and Xen read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// So many MiB.
    pub const fn mib(n: u64) -> Self {
        Size(n << 20)
    }
    /// Whole MiB, rounded up.
    pub fn as_mib(self) -> u64 {
        self.0.div_ceil(1 << 20)
    }
}

impl FromStr for Size {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let expected = || format!("`{s}` is not a size; expected a whole number and a unit: 512K, 64M, 1G");
        let (digits, shift) = match s.chars().last() {
            Some('K') => (&s[..s.len() - 1], 10),
            Some('M') => (&s[..s.len() - 1], 20),
            Some('G') => (&s[..s.len() - 1], 30),
            Some('0'..='9') => (s, 0),
            _ => return Err(expected()),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(expected());
        }
        let n: u64 = digits.parse().map_err(|_| expected())?;
        n.checked_mul(1 << shift).map(Size).ok_or_else(expected)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, 'G'), (20, 'M'), (10, 'K')] {
            if self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

macro_rules! text_serde {
    ($t:ty, $schema:literal, $pattern:literal) => {
        impl serde::Serialize for $t {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $t {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl schemars::JsonSchema for $t {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $schema.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    };
}
pub(crate) use text_serde;

text_serde!(GuestDuration, "Duration", "^[0-9]+(ms|s|m)$");
text_serde!(Size, "Size", "^[0-9]+[KMG]?$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip_and_refuse_the_rest() {
        for s in ["500ms", "30s", "2m", "0s"] {
            assert_eq!(s.parse::<GuestDuration>().unwrap().to_string(), s);
        }
        for s in ["", "5", "1.5s", "-1s", "5 s", "5h", "99999999999999999999s", "18446744073709551615m"] {
            assert!(s.parse::<GuestDuration>().unwrap_err().contains("expected"), "{s}");
        }
    }

    #[test]
    fn sizes_round_trip_and_refuse_the_rest() {
        for s in ["64M", "1G", "512K", "1000"] {
            assert_eq!(s.parse::<Size>().unwrap().to_string(), s);
        }
        assert_eq!("1024M".parse::<Size>().unwrap().to_string(), "1G");
        for s in ["", "G", "1.5G", "-1M", "1 G", "1T", "+1M", "99999999999999999999G"] {
            assert!(s.parse::<Size>().is_err(), "{s}");
        }
    }
}
