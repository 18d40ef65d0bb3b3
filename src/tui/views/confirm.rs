//! A yes or no before something that cannot be undone; enter alone means no.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{over, scrolled};
use crate::{
    text,
    tui::{model::Model, wrap::wrap},
};

/// Draws the question over the screen.
pub fn draw(frame: &mut Frame<'_>, area: Rect, question: &str, model: &Model) {
    let width = 60.min(area.width.saturating_sub(4));
    let mut lines = vec![Line::default()];
    let room = usize::from(width.saturating_sub(2));
    lines.extend(wrap(&[(text::one_line(question), Style::new())], room, " ", " "));
    lines.push(Line::default());
    lines.push(Line::from(vec![
        Span::raw(" "),
        Span::styled("y", model.theme.key()),
        Span::raw(" yes   "),
        Span::styled("n", model.theme.key()),
        Span::raw(" no"),
    ]));
    let height = u16::try_from(lines.len() + 3).unwrap_or(u16::MAX);
    let inner = over(frame, area, "Sure?", width, height, model);
    scrolled(frame, inner, &lines, 0, model);
}
