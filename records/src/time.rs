//! Moments, as UTC microseconds.

use std::fmt;

use jiff::Timestamp;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment: microseconds since 1970-01-01T00:00:00Z. RFC 3339 text in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcMicros(pub u64);

impl UtcMicros {
    /// Whole milliseconds from `earlier` to this moment; 0 where `earlier` is later.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }

    /// This moment and `ms` milliseconds.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    /// The UTC day as `YYYY-MM-DD`, the name of a partition.
    pub fn day(self) -> String {
        self.to_string()[..10].to_string()
    }

    /// The moment of a text as this writes it, the form of nearly all; `None` for every other one.
    pub(crate) fn as_written(text: &[u8]) -> Option<Self> {
        let text: &[u8; 27] = text.try_into().ok()?;
        let is_digit = |at: usize| text[at].is_ascii_digit();
        let shape = b"dddd-dd-ddTdd:dd:dd.ddddddZ";
        if !(0..27).all(|at| if shape[at] == b'd' { is_digit(at) } else { text[at] == shape[at] }) {
            return None;
        }
        let number =
            |from: usize, to: usize| text[from..to].iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
        let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last_day = match month {
            2 => 28 + u64::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let is_day = year >= 1970 && (1..=12).contains(&month) && (1..=last_day).contains(&day);
        if !(is_day && hour < 24 && minute < 60 && second < 60) {
            return None;
        }
        // Years that begin in March, so that the leap day is the last one; 719,468 days lie between March of year 0 and 1970.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
        Some(Self((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + number(20, 26)))
    }

    fn timestamp(self) -> Timestamp {
        let micros = i64::try_from(self.0).unwrap_or(i64::MAX);
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for UtcMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.timestamp())
    }
}

impl Serialize for UtcMicros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UtcMicros {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Moment;
        impl Visitor<'_> for Moment {
            type Value = UtcMicros;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<UtcMicros, E> {
                if let Some(moment) = UtcMicros::as_written(text.as_bytes()) {
                    return Ok(moment);
                }
                let moment: Timestamp = text.parse().map_err(|_| E::custom(format!("{text:?} is no RFC 3339 time")))?;
                let micros = u64::try_from(moment.as_microsecond());
                micros.map(UtcMicros).map_err(|_| E::custom(format!("{text:?} is before 1970")))
            }
        }
        deserializer.deserialize_str(Moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_json_to_the_microsecond() {
        let moment = UtcMicros(1_790_000_000_123_456);
        let text = serde_json::to_string(&moment).expect("serialises");
        assert_eq!(text, "\"2026-09-21T14:13:20.123456Z\"");
        assert_eq!(serde_json::from_str::<UtcMicros>(&text).expect("parses"), moment);
        assert_eq!(moment.day(), "2026-09-21");
    }

    #[test]
    fn moments_of_every_day_read_back_as_they_were() {
        let day = 86_400_000_000;
        for number in 0..200 * 365 {
            let moment = UtcMicros(number * day + number * 997_001);
            let text = moment.to_string();
            assert_eq!(UtcMicros::as_written(text.as_bytes()), Some(moment), "{text}");
            assert_eq!(text.parse::<Timestamp>().expect("a time").as_microsecond() as u64, moment.0, "{text}");
        }
        for other in ["2026-09-21T16:13:20+02:00", "2026-09-21T14:13:20Z"] {
            let read: UtcMicros = serde_json::from_str(&format!("{other:?}")).expect("an RFC 3339 time");
            assert_eq!(read, UtcMicros(1_790_000_000_000_000), "{other}");
        }
        for wrong in [
            "2026-09-31T14:13:20.000000Z",
            "2026-13-21T14:13:20.000000Z",
            "2026-02-29T14:13:20.000000Z",
            "1969-09-21T14:13:20.000000Z",
            "now",
        ] {
            assert!(serde_json::from_str::<UtcMicros>(&format!("{wrong:?}")).is_err(), "{wrong} was taken");
        }
    }
}
