//! What is drawn: pure functions of frame, area and model, a screen a file.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::{Block, Borders, Clear, Paragraph},
};

use super::{
    keys,
    model::{Link, Model, Overlay, Screen},
};
use crate::{
    session::snapshot::{NoticeLevel, Phase},
    text,
};

mod captures;
mod checks;
mod confirm;
mod help;
mod instructions;
pub mod lab;
mod labs;
mod message;
mod notices;
mod progress;
mod prompt;
mod question;
mod steps;
mod traffic;

/// Columns from which panes stand side by side.
pub const WIDE: usize = 120;

/// The smallest terminal anything useful fits on.
const SMALLEST: (u16, u16) = (60, 16);

/// Draws everything.
///
/// ```text
/// ztlab · title                       score      header
/// ─────────────────────────────────────────
///   the screen, or what lies over it             body
/// what was told last                             one line
/// c check  a answer  t capture …                 keys
/// ```
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        return too_small(frame, area);
    }
    let [header, body, told, keys] = areas(area);
    draw_header(frame, header, model);
    match model.screen {
        Screen::Labs => labs::draw(frame, body, model),
        Screen::Lab => match model.session().map(|session| &session.phase) {
            Some(Phase::Ready) => lab::draw(frame, body, model),
            _ => progress::draw(frame, body, model),
        },
    }
    match &model.overlay {
        Some(Overlay::Help { scroll }) => help::draw(frame, body, *scroll, model),
        Some(Overlay::Message { message, scroll }) => message::draw(frame, body, message, *scroll, model),
        Some(Overlay::Notices { scroll }) => notices::draw(frame, body, *scroll, model),
        Some(Overlay::Confirm { question, .. }) => confirm::draw(frame, body, question, model),
        Some(Overlay::Captures { row }) => captures::draw(frame, body, *row, model),
        Some(Overlay::Prompt { lines, at, offered, .. }) => prompt::draw(frame, body, lines, *at, *offered, model),
        Some(Overlay::Question { check, input, .. }) => question::draw(frame, body, check, input, model),
        None => {}
    }
    draw_told(frame, told, model);
    draw_keys(frame, keys, model);
}

fn areas(area: Rect) -> [Rect; 4] {
    Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(area)
}

/// Where the screens go on a terminal of the model's size.
fn body(model: &Model) -> Rect {
    areas(Rect::new(0, 0, model.size.0, model.size.1))[1]
}

/// The last line that can be at the top of the overlay, or its last row.
pub fn overlay_max(model: &Model) -> usize {
    let area = body(model);
    match &model.overlay {
        Some(Overlay::Help { .. }) => help::max(area, model),
        Some(Overlay::Message { message, .. }) => message::max(area, message, model),
        Some(Overlay::Notices { .. }) => notices::max(area, model),
        Some(Overlay::Captures { .. }) => model
            .session()
            .map_or(0, |session| session.workloads.len().saturating_sub(1)),
        _ => 0,
    }
}

fn too_small(frame: &mut Frame<'_>, area: Rect) {
    let text = format!(
        "This terminal has {} × {} characters.\nztlab needs {} × {}: make it larger,\nor take the lab headless:\n  ztlab lab --help\n\nq quits.",
        area.width, area.height, SMALLEST.0, SMALLEST.1
    );
    frame.render_widget(Paragraph::new(text), area);
}

fn draw_header(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let theme = model.theme;
    let (title, score) = match (model.screen, model.session()) {
        (Screen::Lab, Some(session)) => (
            format!("{} · level {}", text::one_line(&session.lab.title), session.lab.level),
            if session.lab_changed {
                format!("lab edited · score {}", session.score)
            } else {
                format!("score {}", session.score)
            },
        ),
        _ => ("zero-trust labs".to_owned(), String::new()),
    };
    let room = usize::from(area.width).saturating_sub(text::width(&score) + 12);
    let mut spans = vec![
        Span::styled(" ztlab ", theme.title()),
        Span::raw("· "),
        Span::styled(text::cut(&title, room), theme.strong()),
    ];
    let used: usize = spans.iter().map(Span::width).sum();
    let gap = usize::from(area.width).saturating_sub(used + text::width(&score) + 1);
    spans.push(Span::raw(" ".repeat(gap)));
    spans.push(Span::styled(score, theme.strong()));
    frame.render_widget(Line::from(spans), area);
}

fn draw_told(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let theme = model.theme;
    let line = if let Link::Down(why) = &model.link {
        Line::styled(
            format!(
                " ✗ no session host, connecting again; nothing is lost: {}",
                text::one_line(why)
            ),
            theme.bad(),
        )
    } else if let Some(told) = &model.told {
        let (symbol, style) = level(model, told.level);
        Line::styled(format!(" {symbol} {}", text::one_line(&told.text)), style)
    } else if let Some(pending) = model.pending.last() {
        Line::styled(format!(" … {}", pending.what), theme.unsure())
    } else if model.link == Link::Connecting {
        Line::styled(" … connecting to the session host", theme.unsure())
    } else if model.session().is_some_and(|session| session.lab_changed) {
        // The student's choice, for as long as it is not made.
        Line::styled(
            " ! the lab's file has changed: you go on with yours; esc, then f begins anew with the changed one",
            theme.unsure(),
        )
    } else {
        Line::default()
    };
    let line = cut_line(line, usize::from(area.width));
    frame.render_widget(line, area);
}

/// The symbol and the style of a notice.
fn level(model: &Model, level: NoticeLevel) -> (&'static str, Style) {
    match level {
        NoticeLevel::Info => ("·", model.theme.text()),
        NoticeLevel::Success => ("✓", model.theme.good()),
        NoticeLevel::Warning => ("?", model.theme.unsure()),
        NoticeLevel::Error => ("✗", model.theme.bad()),
    }
}

fn draw_keys(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let contexts = model.contexts();
    let (always, others): (Vec<_>, Vec<_>) =
        keys::bar(&contexts).partition(|binding| binding.context == keys::Context::Everywhere);
    let item = |binding: &keys::Binding| {
        let key = binding.keys.first().map(|key| key.name()).unwrap_or_default();
        let word = format!(" {}  ", binding.word);
        let width = text::width(&key) + text::width(&word);
        (vec![Span::styled(key, model.theme.key()), Span::raw(word)], width)
    };
    // How to leave and how to learn more are never the ones left out.
    let always: Vec<_> = always.into_iter().map(item).collect();
    let mut room = usize::from(area.width).saturating_sub(1 + always.iter().map(|(_, width)| width).sum::<usize>());
    let mut spans = vec![Span::raw(" ")];
    for (item, width) in others.into_iter().map(item) {
        if width <= room {
            room -= width;
            spans.extend(item);
        }
    }
    spans.extend(always.into_iter().flat_map(|(item, _)| item));
    frame.render_widget(Line::from(spans), area);
}

/// A box with a title; the one that keys act on is marked by more than colour.
fn pane(title: &str, focused: bool, model: &Model) -> Block<'static> {
    let title = if focused {
        format!("▸ {title} ")
    } else {
        format!(" {title} ")
    };
    Block::new()
        .borders(Borders::ALL)
        .border_style(model.theme.border(focused))
        .title(Span::styled(
            title,
            if focused {
                model.theme.title()
            } else {
                model.theme.strong()
            },
        ))
}

/// A box in the middle, over what is there.
fn over(frame: &mut Frame<'_>, area: Rect, title: &str, width: u16, height: u16, model: &Model) -> Rect {
    let width = width.min(area.width);
    let height = height.min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, place);
    let block = pane(title, true, model);
    let inner = block.inner(place);
    frame.render_widget(block, place);
    inner
}

/// Draws lines from `scroll` on, and says on the border below when there is more.
fn scrolled(frame: &mut Frame<'_>, area: Rect, lines: &[Line<'static>], scroll: usize, model: &Model) {
    let height = usize::from(area.height);
    let scroll = scroll.min(lines.len().saturating_sub(height));
    for (row, line) in lines.iter().skip(scroll).take(height).enumerate() {
        let row = Rect {
            y: area.y + u16::try_from(row).unwrap_or(u16::MAX),
            height: 1,
            ..area
        };
        frame.render_widget(line.clone(), row);
    }
    let below = lines.len().saturating_sub(scroll + height);
    if below > 0 && area.bottom() < frame.area().bottom() {
        let label = format!("↓ {below} more lines");
        let width = u16::try_from(text::width(&label)).unwrap_or(0).min(area.width);
        let place = Rect {
            x: area.right() - width,
            y: area.bottom(),
            width,
            height: 1,
        };
        frame.render_widget(Line::styled(label, model.theme.selected()), place);
    }
}

/// A line that fits, with `…` where something was left out.
fn cut_line(line: Line<'static>, columns: usize) -> Line<'static> {
    if line.width() <= columns {
        return line;
    }
    let mut out = Vec::new();
    let mut room = columns;
    for span in line.spans {
        let width = span.width();
        if width < room || (width == room && room == 0) {
            room -= width;
            out.push(span);
            continue;
        }
        let content = if width == room {
            format!("{}…", text::cut(&span.content, room - 1))
        } else {
            text::cut(&span.content, room)
        };
        out.push(Span::styled(text::cut(&content, room), span.style));
        break;
    }
    Line { spans: out, ..line }
}

/// Milliseconds since the Unix epoch as the time of day, UTC.
fn clock(at_ms: u64, fraction: bool) -> String {
    let seconds = at_ms / 1000;
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    if fraction {
        format!("{h:02}:{m:02}:{s:02}.{:03}", at_ms % 1000)
    } else {
        format!("{h:02}:{m:02}:{s:02}")
    }
}

#[cfg(test)]
#[path = "screens_tests.rs"]
mod tests;
