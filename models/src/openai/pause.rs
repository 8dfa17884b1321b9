//! How long to wait before a call is repeated.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use records::{UploadId, UtcMicros};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(8);

/// The pause before repeat number `repeat` (from 1). What the service asks for in `retry_after` (RFC 9110, section
/// 10.2.3: seconds or a date) is never undercut; without it the pause doubles, from half a second to eight. Each is
/// spread by up to its half, by upload: so the same in every run, and never at the same moment for all.
pub(super) fn pause(retry_after: Option<&str>, repeat: u32, upload: &UploadId, now: UtcMicros) -> Duration {
    let doubled = FIRST.saturating_mul(1 << repeat.saturating_sub(1).min(10)).min(LONGEST);
    let spread = (doubled / 2).mul_f64(fraction(upload, repeat));
    match retry_after.and_then(|text| asked_for(text, now)) {
        Some(asked) => asked.saturating_add(spread),
        None => doubled / 2 + spread,
    }
}

fn asked_for(text: &str, now: UtcMicros) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_microsecond();
    Some(Duration::from_micros(u64::try_from(date).ok()?.saturating_sub(now.0)))
}

/// In [0, 1).
fn fraction(upload: &UploadId, repeat: u32) -> f64 {
    let mut hasher = DefaultHasher::new();
    (upload, repeat).hash(&mut hasher);
    (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(name: usize) -> UploadId {
        UploadId::try_from(format!("u{name}")).expect("valid")
    }

    // Sun, 06 Nov 1994 08:49:37 GMT, RFC 9110's own example.
    const NOW: UtcMicros = UtcMicros(784_111_777_000_000);

    #[test]
    fn without_a_wish_of_the_service_the_pause_doubles_to_eight_seconds_and_is_spread() {
        for (repeat, longest_ms) in [(1, 500), (2, 1_000), (3, 2_000), (5, 8_000), (60, 8_000)] {
            let pauses: Vec<_> = (0..50).map(|name| pause(None, repeat, &upload(name), NOW).as_millis()).collect();
            assert!(pauses.iter().all(|ms| (longest_ms / 2..=longest_ms).contains(ms)), "{repeat}: {pauses:?}");
            assert!(pauses.iter().max() > pauses.iter().min(), "all wait the same");
        }
        assert_eq!(pause(None, 1, &upload(7), NOW), pause(None, 1, &upload(7), NOW));
    }

    #[test]
    fn what_the_service_asks_for_is_never_undercut_be_it_seconds_or_a_date() {
        for (asked, seconds) in [
            ("3", 3),
            (" 0 ", 0),
            ("Sun, 06 Nov 1994 08:49:47 GMT", 10),
            ("Sun, 06 Nov 1994 08:49:07 GMT", 0),
            ("86400", 86_400),
        ] {
            let pause = pause(Some(asked), 1, &upload(1), NOW);
            assert!(pause >= Duration::from_secs(seconds), "{asked}: {pause:?}");
            assert!(pause < Duration::from_secs(seconds) + FIRST, "{asked}: {pause:?}");
        }
    }

    #[test]
    fn a_wish_that_cannot_be_read_is_as_none() {
        for garbage in ["soon", "-1", "NaN", "1e300", "", "Sun, 99 Nov 1994"] {
            assert_eq!(pause(Some(garbage), 2, &upload(1), NOW), pause(None, 2, &upload(1), NOW), "{garbage}");
        }
    }
}
