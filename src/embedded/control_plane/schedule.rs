//! Schedules of CronJobs: five fields, a macro, or `@every` and a duration. Pure.
//!
//! Source: Kubernetes' CronJob concept ("Schedule syntax", "Time zones").

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Span, Timestamp, tz::TimeZone};

/// When something is to happen.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// When the clock of a zone shows it.
    Clock(Box<Cron>, TimeZone),
    /// After this many seconds, again and again.
    Every(i64),
}

/// Reads the name of a time zone; UTC where there is none.
///
/// # Errors
/// As Kubernetes says it.
pub fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    if name.is_empty() || name.eq_ignore_ascii_case("local") {
        let text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        return Err(text.to_owned());
    }
    TimeZone::get(name).map_err(|_| format!("unknown time zone {name}"))
}

/// Reads a schedule.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str, zone: TimeZone) -> Result<Schedule, String> {
    if text.contains("TZ") {
        return Err("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".to_owned());
    }
    let text = match text {
        "@midnight" => "@daily",
        text => text,
    };
    if let Some(every) = text.strip_prefix("@every ") {
        let seconds = duration(every).filter(|seconds| *seconds > 0);
        let seconds =
            seconds.ok_or_else(|| format!("failed to parse duration {text}: time: invalid duration {every:?}"))?;
        return Ok(Schedule::Every(seconds));
    }
    const MACROS: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];
    let fields = text.split_whitespace().count();
    if text.starts_with('@') {
        if !MACROS.contains(&text) {
            return Err(format!("unrecognized descriptor: {text}"));
        }
    } else if fields != 5 {
        let found: Vec<&str> = text.split_whitespace().collect();
        return Err(format!(
            "expected exactly 5 fields, found {fields}: [{}]",
            found.join(" ")
        ));
    }
    // `?` means any, as `*` does.
    let text = text.replace('?', "*");
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    let cron = parser.parse(&text).map_err(|error| error.to_string())?;
    Ok(Schedule::Clock(Box::new(cron), zone))
}

/// A duration as Go writes it (`1h30m`), in whole seconds.
fn duration(text: &str) -> Option<i64> {
    let text = text.trim();
    let (mut rest, mut total) = (text, 0.0_f64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = &rest[end..];
        let unit = &unit[..unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len())];
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += number * seconds;
        rest = &rest[end + unit.len()..];
    }
    // Ten years are more than anybody means; beyond that times overflow.
    (!text.is_empty() && total < 315_360_000.0).then(|| total.max(1.0).trunc() as i64)
}

impl Schedule {
    /// The first time after `time`.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(seconds) => {
                let whole = Timestamp::from_second(time.as_second()).ok()?;
                whole.checked_add(Span::new().seconds(*seconds)).ok()
            }
            Self::Clock(cron, zone) => {
                let from = time.to_zoned(zone.clone());
                let next = cron.find_next_occurrence(&from, false).ok()?;
                Some(next.timestamp())
            }
        }
    }

    /// The last time in (`since`, `now`], and how many there were, counted up to a little over a hundred.
    pub fn missed(&self, since: Timestamp, now: Timestamp) -> (Option<Timestamp>, usize) {
        let (mut last, mut count, mut from) = (None, 0, since);
        while let Some(next) = self.after(from).filter(|next| *next <= now) {
            (last, count, from) = (Some(next), count + 1, next);
            if count > 100 {
                return (self.last(since, now).or(last), count);
            }
        }
        (last, count)
    }

    fn last(&self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(seconds) => {
                let passed = now.as_second() - since.as_second();
                Timestamp::from_second(since.as_second() + passed / seconds * seconds).ok()
            }
            Self::Clock(cron, zone) => {
                let from = now.to_zoned(zone.clone());
                Some(cron.find_previous_occurrence(&from, true).ok()?.timestamp())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_clock_of_the_zone_says_when() {
        // schedule, zone, after, the next
        for (text, name, from, next) in [
            ("*/5 * * * *", None, "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"),
            ("*/5 * * * *", None, "2026-01-01T00:04:59Z", "2026-01-01T00:05:00Z"),
            (
                "0 3 * * *",
                Some("Europe/Berlin"),
                "2026-07-01T00:00:00Z",
                "2026-07-01T01:00:00Z",
            ),
            (
                "0 3 * * *",
                Some("Asia/Tokyo"),
                "2026-07-01T00:00:00Z",
                "2026-07-01T18:00:00Z",
            ),
            ("0 12 1 * MON", None, "2026-01-02T00:00:00Z", "2026-01-05T12:00:00Z"),
            ("0 0 29 FEB ?", None, "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("@hourly", None, "2026-01-01T00:10:00Z", "2026-01-01T01:00:00Z"),
            ("@midnight", None, "2026-01-01T00:10:00Z", "2026-01-02T00:00:00Z"),
            ("@every 1h30m", None, "2026-01-01T00:10:00.5Z", "2026-01-01T01:40:00Z"),
        ] {
            let schedule = parse(text, zone(name).unwrap()).unwrap();
            assert_eq!(schedule.after(at(from)), Some(at(next)), "{text}");
        }
    }

    #[test]
    fn what_was_missed_is_found_without_walking_through_it() {
        for (text, since, last, over) in [
            ("* * * * *", "2026-01-01T00:00:30Z", Some("2026-01-03T00:00:00Z"), true),
            ("@every 1s", "2026-01-01T00:00:30Z", Some("2026-01-03T00:00:00Z"), true),
            ("0 0 * * *", "2026-01-01T00:00:30Z", Some("2026-01-03T00:00:00Z"), false),
            ("0 0 4 * *", "2026-01-01T00:00:30Z", None, false),
        ] {
            let schedule = parse(text, TimeZone::UTC).unwrap();
            let (found, count) = schedule.missed(at(since), at("2026-01-03T00:00:00Z"));
            assert_eq!((found, count > 100), (last.map(at), over), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, error) in [
            ("x", "expected exactly 5 fields, found 1: [x]"),
            ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
            ("@now", "unrecognized descriptor: @now"),
            (
                "TZ=UTC * * * * *",
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ),
            (
                "@every x",
                "failed to parse duration @every x: time: invalid duration \"x\"",
            ),
        ] {
            assert_eq!(parse(text, TimeZone::UTC).unwrap_err(), error);
        }
        assert!(parse("61 * * * *", TimeZone::UTC).is_err());
        assert_eq!(
            zone(Some("Mars/Olympus")).unwrap_err(),
            "unknown time zone Mars/Olympus"
        );
        assert!(zone(Some("Local")).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_times_only_go_on(text in "(@every )?[-0-9*/,?LW#a-zA-Z@ .]{0,24}", seconds in 0_i64..4_000_000_000) {
            if let Ok(schedule) = parse(&text, TimeZone::UTC) {
                let now = Timestamp::from_second(seconds).unwrap();
                if let Some(next) = schedule.after(now) {
                    prop_assert!(next > now);
                }
            }
        }
    }
}
