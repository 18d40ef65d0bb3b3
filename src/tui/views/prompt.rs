//! The prompt, over the last lines of the screen: the text that explains a command stays in sight above it.
//!
//! ```text
//! ┌▸ Your prompt ────────────────────────────────────────────┐
//! │ $ kubectl exec -n shop deploy/mallory -- curl -s http:// │
//! │   orders-api/orders                                      │
//! │ command 2 of 5; enter runs it in your shell              │
//! └──────────────────────────────────────────────────────────┘
//! ```

use ratatui::{
    Frame,
    layout::{Position, Rect},
    style::Style,
    text::{Line, Span},
    widgets::Clear,
};

use super::{pane, scrolled};
use crate::{
    text,
    tui::{field::Field, model::Model, wrap::chop},
};

/// Draws the prompt with the command at `at` of `lines`, the first `offered` of which are the lab's.
pub fn draw(frame: &mut Frame<'_>, area: Rect, lines: &[Field], at: usize, offered: usize, model: &Model) {
    let Some(field) = lines.get(at) else { return };
    let room = usize::from(area.width.saturating_sub(6)).max(1);
    let (mut shown, column, row) = command(field, room, model);
    shown.push(Line::styled(words(at, lines.len(), offered), model.theme.quiet()));
    let height = u16::try_from(shown.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect {
        y: area.bottom() - height,
        height,
        ..area
    };
    frame.render_widget(Clear, place);
    let block = pane("Your prompt", true, model);
    let inner = block.inner(place);
    frame.render_widget(block, place);
    let inner = Rect {
        x: inner.x + 1,
        width: inner.width.saturating_sub(2),
        ..inner
    };
    let scroll = (row + 1).saturating_sub(usize::from(inner.height));
    scrolled(frame, inner, &shown, scroll, model);
    frame.set_cursor_position(Position {
        x: inner.x + u16::try_from(column).unwrap_or(0),
        y: inner.y + u16::try_from(row - scroll).unwrap_or(0),
    });
}

/// The command as it is run, all of it, and the cursor's column and row in it.
fn command(field: &Field, room: usize, model: &Model) -> (Vec<Line<'static>>, usize, usize) {
    let style = model.theme.code();
    let typed: String = field.text.iter().collect();
    let pieces = chop(&[(text::clean(&typed), style)], room);
    let before: String = field.text[..field.cursor.min(field.text.len())].iter().collect();
    // Where the cursor is, a character would stand.
    let up_to = chop(&[(format!("{}_", text::clean(&before)), style)], room);
    let row = up_to.len().saturating_sub(1);
    let column = 2 + up_to.last().map_or(0, |line| line.width().saturating_sub(1));
    let rows = pieces.len().max(row + 1);
    let mut pieces = pieces.into_iter();
    let mut lines = Vec::new();
    for at in 0..rows {
        let mark = Span::styled(if at == 0 { "$ " } else { "  " }, model.theme.key());
        let rest = pieces.next().map(|line| line.spans).unwrap_or_default();
        lines.push(Line::from([vec![mark], rest].concat()).style(Style::new()));
    }
    (lines, column, row)
}

fn words(at: usize, all: usize, offered: usize) -> String {
    if at < offered {
        format!(
            "command {} of {offered}; enter runs it in your shell, ↓ the next one",
            at + 1
        )
    } else if at + 1 < all {
        "one of yours; enter runs it in your shell".to_owned()
    } else {
        "type a command; ↑ goes to those of the lab and to yours".to_owned()
    }
}
