//! Times as the outside reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use monitor_core::model::Nanos;

/// The wall clock, as events carry it.
pub fn now() -> Nanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// RFC 3339 in UTC, with microseconds: `2026-11-20T10:00:00.123456Z`.
pub fn rfc3339(at: Nanos) -> String {
    timestamp(at).strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Time of day in UTC, with milliseconds.
pub(super) fn clock(at: Nanos) -> String {
    timestamp(at).strftime("%H:%M:%S%.3f").to_string()
}

fn timestamp(at: Nanos) -> Timestamp {
    // 64 bits of nanoseconds reach the year 2554: always in range.
    Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_and_utc() {
        assert_eq!(rfc3339(Nanos(1_795_219_200_123_456_789)), "2026-11-21T00:00:00.123456Z");
        assert_eq!(rfc3339(Nanos(0)), "1970-01-01T00:00:00.000000Z");
        assert!(rfc3339(Nanos(u64::MAX)).starts_with("2554-"));
        assert_eq!(clock(Nanos(1_795_219_200_123_456_789)), "00:00:00.123");
    }
}
