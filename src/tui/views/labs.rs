//! The list of labs.
//!
//! ```text
//! ▸ wiretap     level 0  25 min  beginner   30/100  Inspecting service communication
//!   perimeter   level 0  40 min  beginner        -  Traditional vs zero trust
//! ┌ wiretap ───────────────────────────────────────┐
//! │ objectives of the chosen lab, or its mistakes  │
//! └────────────────────────────────────────────────┘
//! ```

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{cut_line, pane, scrolled};
use crate::{
    session::snapshot::LabSummary,
    text,
    tui::{
        model::{Link, Model},
        wrap::{chop, wrap},
    },
};

/// Draws the list and the chosen lab below it.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let labs = &model.labs;
    if labs.is_empty() {
        let words = match &model.link {
            Link::Up => "No labs were found.".to_owned(),
            Link::Connecting => "Waiting for the session host, which knows the labs …".to_owned(),
            Link::Down(why) => format!(
                "✗ The session host, which knows the labs, cannot be reached: {}.",
                text::one_line(why)
            ),
        };
        let mut lines = vec![Line::default()];
        lines.extend(wrap(&[(words, Style::new())], usize::from(area.width), "  ", "  "));
        frame.render_widget(Paragraph::new(lines), area);
        return;
    }
    let rows = u16::try_from(labs.len()).unwrap_or(u16::MAX).min(area.height / 2);
    let [list, about] = Layout::vertical([Constraint::Length(rows + 2), Constraint::Fill(1)]).areas(area);
    let block = pane("Labs", true, model);
    let inner = block.inner(list);
    frame.render_widget(block, list);
    let width = labs.iter().map(|lab| text::width(&lab.id)).max().unwrap_or(0).min(24);
    let first = model
        .lab_row
        .saturating_sub(usize::from(inner.height).saturating_sub(1));
    for (at, lab) in labs.iter().enumerate().skip(first).take(usize::from(inner.height)) {
        let row = Rect {
            y: inner.y + u16::try_from(at - first).unwrap_or(0),
            height: 1,
            ..inner
        };
        let line = cut_line(line(lab, width, at == model.lab_row, model), usize::from(inner.width));
        frame.render_widget(line, row);
    }
    if let Some(lab) = labs.get(model.lab_row) {
        draw_about(frame, about, lab, model);
    }
}

fn line(lab: &LabSummary, width: usize, chosen: bool, model: &Model) -> Line<'static> {
    let theme = model.theme;
    let running = model.session().is_some_and(|session| session.lab.id == lab.id);
    let (state, style) = match (&lab.broken, running, lab.score) {
        (Some(_), _, _) => ("✗ broken".to_owned(), theme.bad()),
        (None, true, _) => (
            model
                .session()
                .map_or_else(String::new, |session| format!("● {}", session.score)),
            theme.good(),
        ),
        (None, false, Some(score)) if score.earned == score.possible => (format!("✓ {score}"), theme.good()),
        (None, false, Some(score)) => (format!("  {score}"), theme.text()),
        (None, false, None) => ("  -".to_owned(), theme.quiet()),
    };
    let id = text::cut(&text::one_line(&lab.id), width);
    let pad = " ".repeat(width.saturating_sub(text::width(&id)));
    let name = if chosen { theme.selected() } else { theme.strong() };
    Line::from(vec![
        Span::raw(if chosen { "▸ " } else { "  " }),
        Span::styled(format!("{id}{pad}"), name),
        Span::raw(format!(
            "  level {}  {:>3} min  {:<12} ",
            lab.level,
            lab.minutes,
            text::cut(&text::one_line(&lab.difficulty), 12)
        )),
        Span::styled(format!("{state:<10}"), style),
        Span::raw(" "),
        Span::raw(text::one_line(&lab.title)),
    ])
}

fn draw_about(frame: &mut Frame<'_>, area: Rect, lab: &LabSummary, model: &Model) {
    let theme = model.theme;
    let block = pane(&text::one_line(&lab.title), false, model);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let width = usize::from(inner.width);
    let mut lines = Vec::new();
    if let Some(broken) = &lab.broken {
        lines.push(Line::styled(
            "✗ This lab's file is broken and cannot be started.",
            theme.bad(),
        ));
        lines.push(Line::default());
        lines.extend(chop(&[(text::clean(broken), theme.text())], width));
    } else {
        lines.push(Line::from(format!(
            "{} steps, about {} minutes; from {}",
            lab.steps,
            lab.minutes,
            text::one_line(&lab.source)
        )));
        lines.push(Line::default());
        if !lab.objectives.is_empty() {
            lines.push(Line::styled("You will", theme.strong()));
        }
        for objective in &lab.objectives {
            lines.extend(wrap(&[(text::one_line(objective), Style::new())], width, "• ", "  "));
        }
        if !lab.before.is_empty() {
            lines.push(Line::default());
            lines.push(Line::styled("Before", theme.strong()));
        }
        for before in &lab.before {
            lines.extend(wrap(&[(text::one_line(before), Style::new())], width, "• ", "  "));
        }
    }
    scrolled(frame, inner, &lines, 0, model);
}
