//! `sleep`: as coreutils' sleep, since a host need not have it where a pod looks.

use std::{ffi::OsString, process::ExitCode, time::Duration};

use crate::standins::process;

/// Sleeps for the sum of its arguments.
pub fn main(args: Vec<OsString>) -> ExitCode {
    if args.is_empty() {
        process::complain(
            "sleep",
            "missing operand: give seconds, or a number with s, m, h or d, or `infinity`",
        );
        return ExitCode::from(1);
    }
    let mut total = Some(Duration::ZERO);
    for arg in &args {
        let text = arg.to_string_lossy();
        match interval(&text) {
            Ok(time) => total = total.zip(time).map(|(a, b)| a.saturating_add(b)),
            Err(()) => {
                process::complain("sleep", &format!("invalid time interval `{text}`"));
                return ExitCode::from(1);
            }
        }
    }
    process::run("sleep", async move {
        match total {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
        0
    })
}

/// `None` is for ever.
fn interval(text: &str) -> Result<Option<Duration>, ()> {
    if text.eq_ignore_ascii_case("infinity") || text.eq_ignore_ascii_case("inf") {
        return Ok(None);
    }
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        Some((at, 'd')) => (&text[..at], 86400.0),
        _ => (text, 1.0),
    };
    let seconds: f64 = number.parse().map_err(|_| ())?;
    // Longer than a time can say is for ever.
    match Duration::try_from_secs_f64(seconds * unit) {
        Ok(time) => Ok(Some(time)),
        Err(_) if seconds > 0.0 => Ok(None),
        Err(_) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_as_coreutils_reads_them() {
        for (text, expected) in [
            ("1", Ok(Some(Duration::from_secs(1)))),
            ("0.5", Ok(Some(Duration::from_millis(500)))),
            ("2m", Ok(Some(Duration::from_secs(120)))),
            ("1h", Ok(Some(Duration::from_secs(3600)))),
            ("1d", Ok(Some(Duration::from_secs(86400)))),
            ("infinity", Ok(None)),
            ("1e400", Ok(None)),
            ("-1", Err(())),
            ("", Err(())),
            ("s", Err(())),
            ("1x", Err(())),
            ("nan", Err(())),
        ] {
            assert_eq!(interval(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = interval(&text);
        }
    }
}
