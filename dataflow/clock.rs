//! The one place where the time of day is read.

use operators::Clock;
use records::UtcMicros;

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "everyone else is handed the time")]
pub fn now() -> UtcMicros {
    // A clock before 1970 is one that was never set.
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UtcMicros(u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX))
}

/// The machine's clock.
pub(crate) struct SystemClock(pub(crate) fn() -> UtcMicros);

impl Clock for SystemClock {
    fn now(&self) -> UtcMicros {
        (self.0)()
    }
}
