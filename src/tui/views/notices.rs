//! What happened so far, oldest first.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{clock, level, over, scrolled};
use crate::{
    text,
    tui::{model::Model, wrap::wrap},
};

/// Draws the notices over the screen.
pub fn draw(frame: &mut Frame<'_>, area: Rect, scroll: usize, model: &Model) {
    let inner = over(frame, area, "What happened", area.width, area.height, model);
    let lines = lines(usize::from(inner.width), model);
    scrolled(frame, inner, &lines, scroll, model);
}

/// The last line that can be at the top.
pub fn max(area: Rect, model: &Model) -> usize {
    lines(usize::from(area.width.saturating_sub(2)), model)
        .len()
        .saturating_sub(usize::from(area.height.saturating_sub(2)))
}

fn lines(width: usize, model: &Model) -> Vec<Line<'static>> {
    let notices = model
        .session()
        .map(|session| session.log.as_slice())
        .unwrap_or_default();
    if notices.is_empty() {
        return vec![Line::from("Nothing yet.")];
    }
    notices
        .iter()
        .flat_map(|notice| {
            let (symbol, style) = level(model, notice.level);
            let first = format!("{} {symbol} ", clock(notice.at_ms, false));
            let indent = " ".repeat(text::width(&first));
            let mut lines = wrap(&[(text::clean(&notice.text), style)], width, &indent, &indent);
            if let Some(line) = lines.first_mut()
                && let Some(span) = line.spans.first_mut()
            {
                *span = Span::styled(first, model.theme.quiet());
            }
            lines
        })
        .collect()
}
