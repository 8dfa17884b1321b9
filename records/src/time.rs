//! Moments, as UTC microseconds.

use std::fmt;

use jiff::Timestamp;
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
        let text = String::deserialize(deserializer)?;
        let moment: Timestamp =
            text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is no RFC 3339 time")))?;
        u64::try_from(moment.as_microsecond())
            .map(Self)
            .map_err(|_| serde::de::Error::custom(format!("{text:?} is before 1970")))
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
}
