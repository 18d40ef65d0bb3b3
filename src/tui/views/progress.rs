//! A lab that is being started, reset or stopped, or that failed to be.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{cut_line, over, scrolled};
use crate::{
    session::snapshot::Phase,
    text,
    tui::{model::Model, wrap::wrap},
};

/// Draws what is being done and how far it is.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let width = 74.min(area.width.saturating_sub(4));
    let room = usize::from(width.saturating_sub(4));
    let lines = lines(room, model);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let title = match model.session() {
        Some(session) => text::cut(&text::one_line(&session.lab.title), room),
        None => "Lab".to_owned(),
    };
    let inner = over(frame, area, &title, width, height, model);
    scrolled(frame, inner, &lines, 0, model);
}

fn lines(room: usize, model: &Model) -> Vec<Line<'static>> {
    let theme = model.theme;
    let Some(session) = model.session() else {
        return vec![Line::from("… waiting for the session")];
    };
    let mut lines = vec![Line::default()];
    let words = match &session.phase {
        Phase::Starting => "… starting: the cluster is made and the shop deployed",
        Phase::Resetting => "… resetting: back to the start of the lab",
        Phase::Paused => "· paused: its cluster is stopped, and the time does not count; z goes on",
        Phase::Stopping => "… stopping",
        Phase::Stopped => "· stopped; esc goes to the list of labs, enter there starts it again",
        Phase::Failed(_) => "✗ failed",
        Phase::Ready => "✓ ready",
    };
    let style = if matches!(session.phase, Phase::Failed(_)) {
        theme.bad()
    } else {
        theme.strong()
    };
    lines.extend(wrap(&[(words.to_owned(), style)], room, " ", "   "));
    if let Phase::Failed(why) = &session.phase {
        lines.push(Line::default());
        lines.extend(wrap(&[(text::clean(why), Style::new())], room, " ", " "));
        lines.push(Line::default());
        lines.extend(wrap(
            &[(
                "Starting again is safe: esc, then enter. `ztlab doctor` tells what this machine lacks.".to_owned(),
                theme.quiet(),
            )],
            room,
            " ",
            " ",
        ));
    }
    if let Some(progress) = &session.progress {
        lines.push(Line::default());
        lines.push(cut_line(
            Line::from(vec![
                Span::raw(" "),
                Span::styled(text::one_line(&progress.phase), theme.strong()),
                Span::raw(if progress.total > 0 {
                    format!("  {} of {}", progress.done, progress.total)
                } else {
                    String::new()
                }),
            ]),
            room,
        ));
        if progress.total > 0 {
            lines.push(Line::styled(
                format!(" {}", bar(progress.done, progress.total, room.saturating_sub(2))),
                theme.good(),
            ));
        }
        lines.push(Line::styled(
            format!(
                " {}",
                text::cut(&text::one_line(&progress.detail), room.saturating_sub(1))
            ),
            theme.quiet(),
        ));
    }
    lines.push(Line::default());
    for workload in &session.workloads {
        let (mark, style) = if workload.ready {
            ("✓", theme.good())
        } else {
            ("…", theme.unsure())
        };
        lines.push(cut_line(
            Line::from(vec![
                Span::styled(format!(" {mark} "), style),
                Span::raw(format!("{:<20} ", text::cut(&text::one_line(&workload.name), 20))),
                Span::styled(text::one_line(&workload.status), theme.quiet()),
            ]),
            room,
        ));
    }
    lines
}

fn bar(done: u32, total: u32, width: usize) -> String {
    let width = width.clamp(1, 60);
    let full = usize::try_from(u64::from(done.min(total)) * width as u64 / u64::from(total.max(1))).unwrap_or(width);
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}
