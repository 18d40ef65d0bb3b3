//! The steps with their points, and the pods of the lab.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{cut_line, pane, scrolled};
use crate::{
    session::snapshot::{StepState, StepView, WorkloadView},
    text,
    tui::model::Model,
};

/// Draws the column.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some(session) = model.session() else { return };
    let block = pane("Steps", false, model);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let width = usize::from(inner.width);
    let current = model.current_step_index();
    let mut lines = Vec::new();
    for (at, step) in session.steps.iter().enumerate() {
        lines.extend(step_lines(step, at == current, width, model));
    }
    lines.push(Line::default());
    lines.push(Line::styled("Pods", model.theme.strong()));
    for workload in &session.workloads {
        lines.push(cut_line(workload_line(workload, model), width));
    }
    if session.workloads.is_empty() {
        lines.push(Line::styled("none yet", model.theme.quiet()));
    }
    lines.push(Line::default());
    lines.push(cut_line(
        Line::styled(
            format!("cluster {}", text::one_line(&session.cluster)),
            model.theme.quiet(),
        ),
        width,
    ));
    lines.push(cut_line(
        Line::styled(
            format!("namespace {}", text::one_line(&session.namespace)),
            model.theme.quiet(),
        ),
        width,
    ));
    scrolled(frame, inner, &lines, 0, model);
}

fn symbol(step: &StepView, model: &Model) -> (&'static str, &'static str, Style) {
    match step.state {
        StepState::Locked => ("·", "locked", model.theme.quiet()),
        StepState::Open => ("→", "open", model.theme.unsure()),
        StepState::Passed => ("✓", "passed", model.theme.good()),
        StepState::Impossible => ("-", "not possible here", model.theme.quiet()),
    }
}

fn step_lines(step: &StepView, chosen: bool, width: usize, model: &Model) -> Vec<Line<'static>> {
    let (mark, word, style) = symbol(step, model);
    let points = format!("{}/{}", step.earned, step.points);
    let name = text::cut(&text::one_line(&step.id), width.saturating_sub(points.len() + 5));
    let gap = width.saturating_sub(4 + text::width(&name) + points.len());
    let title = if chosen {
        model.theme.selected()
    } else {
        model.theme.strong()
    };
    let solved = if step.solved { ", solved by ztlab" } else { "" };
    vec![
        Line::from(vec![
            Span::raw(if chosen { "▸ " } else { "  " }),
            Span::styled(format!("{mark} "), style),
            Span::styled(name, title),
            Span::raw(" ".repeat(gap)),
            Span::raw(points),
        ]),
        cut_line(Line::styled(format!("    {word}{solved}"), model.theme.quiet()), width),
    ]
}

fn workload_line(workload: &WorkloadView, model: &Model) -> Line<'static> {
    let capturing = model.session().is_some_and(|session| {
        session
            .traffic
            .capturing
            .iter()
            .any(|capture| capture.workload == workload.name)
    });
    let (mark, style) = if workload.ready {
        ("✓", model.theme.good())
    } else {
        ("?", model.theme.unsure())
    };
    let mut spans = vec![
        Span::styled(format!("{mark} "), style),
        Span::raw(text::one_line(&workload.name)),
    ];
    if capturing {
        spans.push(Span::styled(" ● captured", model.theme.bad()));
    }
    if !workload.ready {
        spans.push(Span::styled(
            format!(" {}", text::one_line(&workload.status)),
            model.theme.unsure(),
        ));
    }
    Line::from(spans)
}

/// Draws the step that is shown as one line, where there is no column.
pub fn draw_bar(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let (Some(session), Some(step)) = (model.session(), model.current_step()) else {
        return;
    };
    let (mark, word, style) = symbol(step, model);
    let points = format!("{}/{} points ", step.earned, step.points);
    let lead = format!(
        " {mark} step {} of {}, {word}: ",
        model.current_step_index() + 1,
        session.steps.len()
    );
    let room = usize::from(area.width).saturating_sub(text::width(&lead) + points.len() + 1);
    let title = text::cut(&text::one_line(&step.title), room);
    let gap = usize::from(area.width).saturating_sub(text::width(&lead) + text::width(&title) + points.len());
    frame.render_widget(
        Line::from(vec![
            Span::styled(lead, style),
            Span::styled(title, model.theme.strong()),
            Span::raw(" ".repeat(gap)),
            Span::raw(points),
        ]),
        area,
    );
}
