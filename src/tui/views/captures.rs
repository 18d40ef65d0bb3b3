//! Where to capture: the pods, and which of them are listened in.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{cut_line, over, scrolled};
use crate::{text, tui::model::Model};

/// Draws the choice over the screen.
pub fn draw(frame: &mut Frame<'_>, area: Rect, row: usize, model: &Model) {
    let Some(session) = model.session() else { return };
    let theme = model.theme;
    let width = 64.min(area.width.saturating_sub(4));
    let room = usize::from(width.saturating_sub(2));
    let mut lines = Vec::new();
    for (at, workload) in session.workloads.iter().enumerate() {
        let capture = session
            .traffic
            .capturing
            .iter()
            .find(|capture| capture.workload == workload.name);
        let (mark, state) = match capture {
            Some(capture) => ("●", format!("capturing, {} packets", capture.packets)),
            None if workload.ready => (" ", "not captured".to_owned()),
            None => ("?", text::one_line(&workload.status)),
        };
        let name = format!("{:<20}", text::cut(&text::one_line(&workload.name), 20));
        let style = if at == row { theme.selected() } else { theme.strong() };
        lines.push(cut_line(
            Line::from(vec![
                Span::raw(if at == row { "▸ " } else { "  " }),
                Span::styled(format!("{mark} "), theme.bad()),
                Span::styled(name, style),
                Span::raw(format!("  {state}")),
            ]),
            room,
        ));
    }
    if lines.is_empty() {
        lines.push(Line::from(" The lab has no pods yet."));
    }
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let inner = over(frame, area, "Capture in which pod?", width, height, model);
    let scroll = (row + 1).saturating_sub(usize::from(inner.height));
    scrolled(frame, inner, &lines, scroll, model);
}
