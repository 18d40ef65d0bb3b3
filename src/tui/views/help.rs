//! The help, printed from the table of keys.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{over, scrolled};
use crate::{
    text,
    tui::{
        keys::{Context, TABLE},
        model::Model,
        wrap::wrap,
    },
};

/// Draws the help over the screen.
pub fn draw(frame: &mut Frame<'_>, area: Rect, scroll: usize, model: &Model) {
    let inner = over(frame, area, "Help", area.width, area.height, model);
    let lines = lines(usize::from(inner.width), model);
    scrolled(frame, inner, &lines, scroll, model);
}

/// The last line that can be at the top.
pub fn max(area: Rect, model: &Model) -> usize {
    lines(usize::from(area.width.saturating_sub(2)), model)
        .len()
        .saturating_sub(usize::from(area.height.saturating_sub(2)))
}

const SIGNS: &[(&str, &str)] = &[
    ("✓ passed", "the evidence shows what is expected; it stays passed"),
    ("✗ failed", "the evidence shows something else"),
    ("? undetermined", "nothing was measured that could tell"),
    ("· not run", "not looked at yet"),
    ("! kind »bytes«", "bytes that anybody on the path could read"),
    ("● captured", "a capture listens in this pod"),
];

fn lines(width: usize, model: &Model) -> Vec<Line<'static>> {
    let theme = model.theme;
    let mut lines = wrap(
        &[(
            "A lab runs in a cluster of its own in the background. Leaving this program leaves it running; `ztlab lab \
             stop` ends it."
                .to_owned(),
            theme.text(),
        )],
        width,
        "",
        "",
    );
    for context in Context::ALL {
        lines.push(Line::default());
        lines.push(Line::styled(context.title(), theme.title()));
        for binding in TABLE.iter().filter(|binding| binding.context == context) {
            let keys: Vec<String> = binding.keys.iter().map(|key| key.name()).collect();
            lines.extend(row(&keys.join(", "), binding.help, width, model));
        }
    }
    lines.push(Line::default());
    lines.push(Line::styled("Signs", theme.title()));
    for (sign, meaning) in SIGNS {
        lines.extend(row(sign, meaning, width, model));
    }
    lines
}

fn row(left: &str, right: &str, width: usize, model: &Model) -> Vec<Line<'static>> {
    let indent = " ".repeat(27);
    let mut lines = wrap(&[(right.to_owned(), model.theme.text())], width, &indent, &indent);
    if let Some(span) = lines.first_mut().and_then(|line| line.spans.first_mut()) {
        let pad = " ".repeat(25_usize.saturating_sub(text::width(left)));
        *span = Span::styled(format!("  {left}{pad}"), model.theme.key());
    }
    lines
}
