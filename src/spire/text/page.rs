//! Lines that are filled to a width, and how times, lifetimes and sights are said in them.

use std::time::Duration;

use crate::{
    posture::words,
    spire::{seen::Sight, svid::SvidView},
    text::{one_line, width},
};

/// Lines that are filled to a width.
pub(super) struct Page {
    columns: usize,
    pub(super) text: String,
}

impl Page {
    pub(super) fn new(columns: usize) -> Self {
        Self {
            columns: columns.max(40),
            text: String::new(),
        }
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A line, broken between words; what follows is indented by `indent` columns.
    pub(super) fn line(&mut self, text: &str, indent: usize) {
        let text = text.trim_end();
        let begin = text.len() - text.trim_start().len();
        let mut line = " ".repeat(begin);
        let mut empty = true;
        for word in one_line(text).split(' ') {
            if !empty && width(&line) + 1 + width(word) > self.columns {
                self.push(&line);
                line = " ".repeat(indent);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.push(&line);
    }

    pub(super) fn push(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// A name in a column of its own, and what there is to say of it.
    pub(super) fn item(&mut self, margin: usize, name: &str, column: usize, text: &str) {
        let pad = column.saturating_sub(margin + width(name)).max(1);
        // Spaces between the two are kept: the line is broken in the text only.
        let head = format!("{}{}{}", " ".repeat(margin), name, " ".repeat(pad));
        let mut lines = Page {
            columns: self.columns.saturating_sub(column).max(20),
            text: String::new(),
        };
        lines.line(text, 0);
        let mut first = true;
        for line in lines.text.lines() {
            let margin = if first { head.clone() } else { " ".repeat(column) };
            self.push(&format!("{margin}{line}"));
            first = false;
        }
    }
}

pub(super) fn seconds(count: i64) -> String {
    words::lasting(Duration::from_secs(u64::try_from(count).unwrap_or(0)))
}

/// A lifetime that an entry gives.
pub(super) fn ttl(seconds_: i64) -> String {
    if seconds_ == 0 {
        "the server's default lifetime".to_owned()
    } else {
        format!("a lifetime of {}", seconds(seconds_))
    }
}

/// How long until a second, or since.
pub(super) fn distance(at: i64, now: i64) -> String {
    if at >= now {
        format!("in {}", seconds(at - now))
    } else {
        format!("{} ago", seconds(now - at))
    }
}

/// How long something is still valid.
pub(super) fn left(not_after: i64, now: i64) -> String {
    if not_after > now {
        format!("{} left", seconds(not_after - now))
    } else {
        format!("expired {}", distance(not_after, now))
    }
}

/// When an SVID is to be replaced.
pub(super) fn rotation(svid: &SvidView, now: i64) -> Option<String> {
    let rotation = svid.rotation?;
    if svid.not_after <= now {
        return Some("it was not replaced before it expired".to_owned());
    }
    let about = words::second(rotation.about_s);
    Some(if rotation.is_overdue(now) {
        format!(
            "should have been replaced about {about}, {}: whoever gives it out does not, or rotates later than SPIRE does",
            distance(rotation.about_s, now)
        )
    } else {
        format!(
            "next rotation about {about}, {} (an estimate: SPIRE renews at half of the lifetime, give or take a tenth)",
            distance(rotation.about_s, now)
        )
    })
}

/// What a sight says, a name and a text each.
pub(super) fn sight(seen: &Sight, now: i64) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for svid in &seen.svids {
        let whom = match &svid.spiffe_id {
            Some(id) => id.to_string(),
            None => format!("no SVID: a certificate for {}", named(&svid.subject)),
        };
        lines.push(("has", whom));
        lines.push((
            "",
            format!(
                "shown on port {}; serial {}; signed by {}",
                svid.port,
                svid.serial,
                named(&svid.issuer)
            ),
        ));
        lines.push((
            "",
            format!(
                "valid {} to {}: lives {}, {}",
                words::second(svid.not_before),
                words::second(svid.not_after),
                words::lasting(svid.lifetime()),
                left(svid.not_after, now)
            ),
        ));
        lines.extend(rotation(svid, now).map(|text| ("", text)));
        if svid.spiffe_id.is_some() && svid.belief.holds != Some(true) {
            let word = if svid.belief.holds.is_none() {
                "not verified"
            } else {
                "not believed"
            };
            lines.push(("", format!("{word}: {}", svid.belief.because)));
        }
    }
    if seen.svids.is_empty() {
        let looked = !seen.because.starts_with("not looked at");
        let says = if looked { "not seen: " } else { "" };
        lines.push(("has", format!("{says}{}", seen.because)));
    }
    lines
}

pub(super) fn named(name: &str) -> &str {
    if name.is_empty() { "nobody by name" } else { name }
}

pub(super) fn validity(not_before: i64, not_after: i64, now: i64) -> String {
    format!(
        "valid {} to {} ({})",
        words::second(not_before),
        words::second(not_after),
        left(not_after, now)
    )
}
