//! Times and durations in words, the same in every face of a matrix.

use std::time::Duration;

/// A duration in its largest fitting unit: `45 s`, `1 h`, `90 days`.
pub fn lasting(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "day"), (3600, "h"), (60, "min"), (1, "s")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1, "s"));
    let count = seconds / size;
    match unit {
        "day" if count != 1 => format!("{count} days"),
        "day" => "1 day".to_owned(),
        unit => format!("{count} {unit}"),
    }
}

/// A moment, in nanoseconds since the Unix epoch, as RFC 3339 in UTC with seconds.
pub fn moment(ns: u64) -> String {
    i64::try_from(ns / 1_000_000_000)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| "at an unknown time".to_owned(), |time| time.to_string())
}

/// Seconds since the Unix epoch as a day, for certificates.
pub fn second(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "an unknown time".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_moments_read_well() {
        for (seconds, words) in [
            (0, "0 s"),
            (45, "45 s"),
            (3600, "1 h"),
            (86_400, "1 day"),
            (90 * 86_400, "90 days"),
        ] {
            assert_eq!(lasting(Duration::from_secs(seconds)), words);
        }
        assert_eq!(moment(1_790_000_000_000_000_000), "2026-09-21T14:13:20Z");
        assert_eq!(second(0), "1970-01-01T00:00:00Z");
        assert_eq!(second(i64::MAX), "an unknown time");
    }
}
