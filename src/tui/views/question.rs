//! A question of the lab: choices to mark, or an answer to type.

use ratatui::{
    Frame,
    layout::{Position, Rect},
    style::Style,
    text::{Line, Span},
};

use super::{over, scrolled};
use crate::{
    session::snapshot::QuestionView,
    text,
    tui::{
        model::{Input, Model},
        update,
        wrap::wrap,
    },
};

/// Draws the question over the screen.
pub fn draw(frame: &mut Frame<'_>, area: Rect, check: &str, input: &Input, model: &Model) {
    let Some(question) = update::question(model) else {
        return;
    };
    let width = 72.min(area.width.saturating_sub(2));
    let room = usize::from(width.saturating_sub(4));
    let mut lines = wrap(&[(text::one_line(&question.ask), model.theme.strong())], room, "", "");
    lines.push(Line::default());
    let mut cursor = None;
    match input {
        Input::Choices { row, chosen } => {
            lines.extend(choices(question, *row, |key| chosen.contains(key), room, model));
        }
        Input::Text(typed) => {
            let (line, column) = field(&typed.text, typed.cursor, room, model);
            cursor = Some((column, lines.len()));
            lines.push(line);
        }
    }
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let inner = over(
        frame,
        area,
        &text::cut(&text::one_line(check), room),
        width,
        height,
        model,
    );
    let inner = Rect {
        x: inner.x + 1,
        width: inner.width.saturating_sub(2),
        ..inner
    };
    let scroll = lines.len().saturating_sub(usize::from(inner.height));
    scrolled(frame, inner, &lines, scroll, model);
    if let Some((column, line)) = cursor {
        frame.set_cursor_position(Position {
            x: inner.x + u16::try_from(column).unwrap_or(0),
            y: inner.y + u16::try_from(line - scroll).unwrap_or(0),
        });
    }
}

fn choices(
    question: &QuestionView,
    row: usize,
    chosen: impl Fn(&String) -> bool,
    room: usize,
    model: &Model,
) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (at, choice) in question.choices.iter().enumerate() {
        let mark = match (question.many, chosen(&choice.key)) {
            (true, true) => "[x]",
            (true, false) => "[ ]",
            (false, true) => "(•)",
            (false, false) => "( )",
        };
        let lead = format!(
            "{} {mark} {} ",
            if at == row { "▸" } else { " " },
            text::one_line(&choice.key)
        );
        let indent = " ".repeat(text::width(&lead));
        let style = if at == row {
            model.theme.selected()
        } else {
            Style::new()
        };
        lines.extend(wrap(&[(text::one_line(&choice.text), style)], room, &lead, &indent));
    }
    lines.push(Line::default());
    let words = if question.many {
        "more than one may be right: space marks, enter answers"
    } else {
        "enter answers"
    };
    lines.push(Line::styled(words, model.theme.quiet()));
    lines
}

/// The typed text around the cursor, as much as fits, and the cursor's column.
fn field(typed: &[char], cursor: usize, room: usize, model: &Model) -> (Line<'static>, usize) {
    let room = room.saturating_sub(3).max(1);
    let before: String = typed[..cursor.min(typed.len())].iter().collect();
    let mut skipped = 0;
    let mut shown = before.as_str();
    while text::width(shown) > room {
        let Some(c) = shown.chars().next() else { break };
        skipped += c.len_utf8();
        shown = &before[skipped..];
    }
    let column = 2 + text::width(shown);
    let whole: String = typed.iter().collect();
    let rest = text::clean(whole.get(skipped..).unwrap_or_default());
    (
        Line::from(vec![
            Span::styled("> ", model.theme.key()),
            Span::raw(text::cut(&rest, room + 1)),
        ]),
        column,
    )
}
