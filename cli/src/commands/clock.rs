//! The program's wall clock, and dates for people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds; 0 before 1970.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-11-20` of Unix milliseconds, in UTC.
pub(crate) fn date(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| "–".into(), |t| t.date().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(1_795_132_800_000), "2026-11-20");
        assert_eq!(date(u64::MAX), "–");
    }
}
