//! What crosses the network, newest at the bottom. What leaks has a line of its own: `! card-number »4111…«`.
//!
//! ```text
//! ● payments-api: 120 packets, 0 dropped
//!   12:00:01 orders-api → payments-api  POST /charge
//!            ! card-number »4111 1111 1111 1111«
//! ▸ 12:00:01 payments-api → orders-api  200 OK
//! ```

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{clock, cut_line, pane};
use crate::{
    packet::PlaceKind,
    session::snapshot::{IdentityView, LeakView, MessageView, TrafficView},
    text,
    tui::{
        model::{Model, Pane},
        theme::Theme,
        wrap::wrap,
    },
};

/// Columns from which a message's route and summary stand on one line.
const ONE_LINE: usize = 70;

/// Draws the pane.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let focused = model.pane == Pane::Traffic;
    let mut title = "3 Traffic".to_owned();
    if model.leaks_only {
        title.push_str(", leaks only");
    }
    if focused && model.message.is_some() {
        title.push_str(", f follows again");
    }
    let block = pane(&title, focused, model);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let Some(session) = model.session() else { return };
    let [head, list] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(inner);
    frame.render_widget(
        cut_line(capturing(&session.traffic, model.theme), usize::from(head.width)),
        head,
    );
    let messages = model.messages();
    if messages.is_empty() {
        frame.render_widget(
            Paragraph::new(nothing(&session.traffic, usize::from(list.width), model)),
            list,
        );
        return;
    }
    draw_list(frame, list, &messages, focused, model);
}

fn capturing(traffic: &TrafficView, theme: Theme) -> Line<'static> {
    if traffic.capturing.is_empty() {
        return Line::styled("· no capture is running; t starts one", theme.quiet());
    }
    let mut spans = Vec::new();
    for capture in &traffic.capturing {
        spans.push(Span::styled("● ", theme.bad()));
        let filter = match &capture.filter {
            Some(filter) => format!(" ({filter})"),
            None => String::new(),
        };
        spans.push(Span::raw(text::one_line(&format!(
            "{}{filter}: {} packets",
            capture.workload, capture.packets
        ))));
        spans.push(Span::raw("  "));
    }
    let style = if traffic.dropped > 0 {
        theme.unsure()
    } else {
        theme.quiet()
    };
    spans.push(Span::styled(format!("{} dropped", traffic.dropped), style));
    Line::from(spans)
}

fn nothing(traffic: &TrafficView, width: usize, model: &Model) -> Vec<Line<'static>> {
    let words = if model.leaks_only && !traffic.messages.is_empty() {
        "No message leaked anything yet. l shows all of them."
    } else if traffic.capturing.is_empty() {
        "Nothing was captured yet. Press t and choose a pod to listen in; what crosses its network appears here, and \
         what leaks is marked."
    } else {
        "The capture listens; nothing crossed the network yet."
    };
    let mut lines = vec![Line::default()];
    lines.extend(wrap(&[(words.to_owned(), model.theme.quiet())], width, " ", " "));
    lines
}

/// Fills the area from the message at the mark upwards, and what room is left downwards.
fn draw_list(frame: &mut Frame<'_>, area: Rect, messages: &[&MessageView], focused: bool, model: &Model) {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let row = model.message_row(messages);
    let mut lines: Vec<Line<'static>> = Vec::new();
    for at in (0..=row).rev() {
        let mut block = message_lines(messages[at], focused && at == row, width, model);
        block.append(&mut lines);
        lines = block;
        if lines.len() >= height {
            break;
        }
    }
    let surplus = lines.len().saturating_sub(height);
    lines.drain(..surplus);
    for message in messages.iter().skip(row + 1) {
        if lines.len() >= height {
            break;
        }
        lines.extend(message_lines(message, false, width, model));
    }
    lines.truncate(height);
    frame.render_widget(Paragraph::new(lines), area);
}

fn message_lines(message: &MessageView, chosen: bool, width: usize, model: &Model) -> Vec<Line<'static>> {
    let theme = model.theme;
    let mark = if chosen { "▸ " } else { "  " };
    let time = clock(message.at_ms, false);
    let route = format!("{} → {}", text::one_line(&message.from), text::one_line(&message.to));
    let summary = text::one_line(&message.summary);
    let route_style = if chosen { theme.selected() } else { theme.strong() };
    let head = vec![
        Span::raw(mark),
        Span::styled(format!("{time} "), theme.quiet()),
        Span::styled(route, route_style),
    ];
    let inside = match &message.place {
        Some(place) if place.kind != PlaceKind::OnTheWire || place.proxied => {
            format!("  [{}]", text::one_line(&place.words))
        }
        _ => String::new(),
    };
    // Before what is said: a narrow pane cuts the end of a line.
    let own = if message.probe { "[ztlab's probe] " } else { "" };
    let one_line = width >= ONE_LINE;
    let indent = " ".repeat(if one_line { 11 } else { 4 });
    let mut lines = Vec::new();
    if one_line {
        let mut spans = head;
        spans.push(Span::raw("  "));
        spans.push(Span::styled(own, theme.quiet()));
        spans.push(Span::raw(format!("{} {summary}", message.protocol)));
        spans.push(Span::styled(inside, theme.quiet()));
        lines.push(cut_line(Line::from(spans), width));
    } else {
        lines.push(cut_line(Line::from(head), width));
        let spans = vec![
            Span::raw(indent.clone()),
            Span::styled(own, theme.quiet()),
            Span::raw(format!("{} {summary}", message.protocol)),
            Span::styled(inside, theme.quiet()),
        ];
        lines.push(cut_line(Line::from(spans), width));
    }
    for leak in &message.leaks {
        lines.push(cut_line(leak_line(leak, &indent, theme), width));
    }
    for held in &message.identities {
        lines.extend(identity_lines(message, held, &indent, width, theme));
    }
    lines
}

/// Who holds which identity, with the mark that it was not read here: wrapped, since a cut would take the mark away.
pub fn identity_lines(
    message: &MessageView,
    held: &IdentityView,
    indent: &str,
    width: usize,
    theme: Theme,
) -> Vec<Line<'static>> {
    let who = if held.end == "from" { &message.from } else { &message.to };
    let told = format!(
        "{} holds {} ({})",
        text::one_line(who),
        text::one_line(&held.spiffe_id),
        held.words(message.at_ms)
    );
    let runs = [(told, theme.quiet())];
    wrap(&runs, width, &format!("{indent}≈ "), &format!("{indent}  "))
}

/// A leak on a line of its own, its value between marks that need no colour.
pub fn leak_line(leak: &LeakView, indent: &str, theme: Theme) -> Line<'static> {
    Line::from(vec![
        Span::styled(format!("{indent}! "), theme.bad()),
        Span::styled(format!("{} ", text::one_line(&leak.kind)), Style::new()),
        Span::styled(format!("»{}«", text::one_line(&leak.value)), theme.leak()),
    ])
}
