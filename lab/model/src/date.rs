//! Days of the calendar, as people write them: 2027-06-30.

use std::fmt;
use std::str::FromStr;

/// A day. Ordered as days follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// The day of a point in time as RFC 3339 has it: `2026-11-22T15:00:00Z`.
    pub fn of_time(time: &str) -> Option<Date> {
        time.get(..10)?.parse().ok()
    }
}

impl FromStr for Date {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || format!("`{s}` is not a date; expected YEAR-MONTH-DAY, as 2027-06-30");
        let number = |text: &str, digits: usize| {
            let whole = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
            if whole { text.parse::<u16>().map_err(|_| wrong()) } else { Err(wrong()) }
        };
        let [year, month, day] = s.split('-').collect::<Vec<_>>()[..] else { return Err(wrong()) };
        let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        let small = |n: u16| u8::try_from(n).map_err(|_| wrong());
        if year == 0 || day == 0 || day > days {
            return Err(format!("there is no day {s}; expected YEAR-MONTH-DAY, as 2027-06-30"));
        }
        Ok(Date { year, month: small(month)?, day: small(day)? })
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl serde::Serialize for Date {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Date {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Date {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Date".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Date;

    #[test]
    fn days_that_are() {
        let date = |s: &str| s.parse::<Date>();
        for good in ["2027-06-30", "2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31"] {
            assert_eq!(date(good).unwrap().to_string(), good);
        }
        for bad in [
            "2027-6-30",
            "27-06-30",
            "2027-06-31",
            "2025-02-29",
            "1900-02-29",
            "2027-13-01",
            "2027-00-10",
            "2027-01-00",
            "2027-01-01 ",
            "2027-01-01-01",
            "+027-01-01",
            "tomorrow",
            "",
            "0000-01-01",
        ] {
            assert!(date(bad).is_err(), "{bad}");
        }
        assert!(date("2026-12-31").unwrap() < date("2027-01-01").unwrap());
        assert!(date("2027-01-31").unwrap() < date("2027-02-01").unwrap());
    }

    #[test]
    fn the_day_of_a_time() {
        assert_eq!(Date::of_time("2026-11-22T15:00:00Z"), "2026-11-22".parse().ok());
        for not in ["", "2026-11", "yesterday at noon", "ää-ää-ää"] {
            assert_eq!(Date::of_time(not), None);
        }
    }
}
