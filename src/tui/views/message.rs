//! One message in full, its leaked bytes marked where they stand.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    clock, over, scrolled,
    traffic::{identity_lines, leak_line},
};
use crate::{
    session::snapshot::MessageView,
    text,
    tui::{
        model::Model,
        wrap::{Run, chop, wrap},
    },
};

/// Draws the message over the screen.
pub fn draw(frame: &mut Frame<'_>, area: Rect, message: &MessageView, scroll: usize, model: &Model) {
    let title = format!("{} → {}", text::one_line(&message.from), text::one_line(&message.to));
    let inner = over(frame, area, &title, area.width, area.height, model);
    let lines = lines(message, usize::from(inner.width), model);
    scrolled(frame, inner, &lines, scroll, model);
}

/// The last line that can be at the top.
pub fn max(area: Rect, message: &MessageView, model: &Model) -> usize {
    let width = usize::from(area.width.saturating_sub(2));
    lines(message, width, model)
        .len()
        .saturating_sub(usize::from(area.height.saturating_sub(2)))
}

fn lines(message: &MessageView, width: usize, model: &Model) -> Vec<Line<'static>> {
    let theme = model.theme;
    let fact = |label: &str, value: String| {
        Line::from(vec![
            Span::styled(format!("{label:<12}"), theme.quiet()),
            Span::raw(text::one_line(&value)),
        ])
    };
    let packets: Vec<String> = message.packets.iter().map(u64::to_string).collect();
    let mut lines = vec![
        fact("time", format!("{} UTC", clock(message.at_ms, true))),
        fact("from", format!("{} ({})", message.from, message.from_address)),
        fact("to", format!("{} ({})", message.to, message.to_address)),
        fact(
            "captured in",
            match &message.place {
                Some(place) => format!("{}: {}", message.captured_in, place.words),
                None => message.captured_in.clone(),
            },
        ),
        fact(
            "protocol",
            format!("{}, packets {}", message.protocol, packets.join(" ")),
        ),
    ];
    if message.probe {
        lines.push(fact("whose", "a probe of ztlab's own; no check counts it".to_owned()));
    }
    for held in &message.identities {
        lines.extend(identity_lines(message, held, "", width, theme));
    }
    if let Some(place) = &message.place {
        for (label, who) in [("seen by", &place.seen_by), ("hidden from", &place.hidden_from)] {
            let runs = [(text::one_line(who), theme.text())];
            lines.extend(wrap(&runs, width, &format!("{label:<12}"), "            "));
        }
    }
    for leak in &message.leaks {
        lines.push(leak_line(leak, "", theme));
    }
    lines.push(Line::default());
    lines.extend(chop(&marked(message, model), width));
    lines
}

/// The text with every leak between marks; ranges that do not fit the text are passed over.
fn marked(message: &MessageView, model: &Model) -> Vec<Run> {
    let whole = message.text.as_str();
    let mut ranges: Vec<(usize, usize)> = message.leaks.iter().map(|leak| (leak.start, leak.end)).collect();
    ranges.sort_unstable();
    let mut runs = Vec::new();
    let mut at = 0;
    for (start, end) in ranges {
        if start < at || start >= end {
            continue;
        }
        let (Some(before), Some(leaked)) = (whole.get(at..start), whole.get(start..end)) else {
            continue;
        };
        runs.push((text::clean(before), model.theme.text()));
        runs.push((format!("»{}«", text::clean(leaked)), model.theme.leak()));
        at = end;
    }
    runs.push((text::clean(whole.get(at..).unwrap_or_default()), model.theme.text()));
    runs
}
