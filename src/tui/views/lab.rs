//! A lab that is being worked on.
//!
//! From 120 columns:
//!
//! ```text
//! ┌ Steps ──────┐┌ Instructions ────────┐┌ Traffic ───────────────┐
//! │ ✓ listen    ││ Become orders-api    ││ orders-api → payments… │
//! │ → replay    ││ …                    ││   POST /charge         │
//! │             │├ Checks ──────────────┤│   ! card-number »41…«  │
//! │ payments-…  ││ ✗ failed  a payment… ││                        │
//! └─────────────┘└──────────────────────┘└────────────────────────┘
//! ```
//!
//! Below, one pane at a time:
//!
//! ```text
//! → step 2 of 4  replay: Become orders-api              0/40
//!  1 Instructions │ 2 Checks 0/1 │ 3 Traffic ●
//! ┌──────────────────────────────────────────────────────────┐
//! │                                                          │
//! └──────────────────────────────────────────────────────────┘
//! ```

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
};

use super::{WIDE, body, checks, cut_line, instructions, steps, traffic};
use crate::{
    session::snapshot::CheckState,
    text,
    tui::model::{Model, Pane},
};

struct Areas {
    steps: Option<Rect>,
    bar: Option<Rect>,
    tabs: Option<Rect>,
    instructions: Option<Rect>,
    checks: Option<Rect>,
    traffic: Option<Rect>,
}

fn areas(area: Rect, pane: Pane) -> Areas {
    if usize::from(area.width) >= WIDE {
        let [steps, middle, traffic] =
            Layout::horizontal([Constraint::Length(30), Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
        let [instructions, checks] = Layout::vertical([Constraint::Percentage(55), Constraint::Fill(1)]).areas(middle);
        return Areas {
            steps: Some(steps),
            bar: None,
            tabs: None,
            instructions: Some(instructions),
            checks: Some(checks),
            traffic: Some(traffic),
        };
    }
    let [bar, tabs, main] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let only = |which: Pane| (pane == which).then_some(main);
    Areas {
        steps: None,
        bar: Some(bar),
        tabs: Some(tabs),
        instructions: only(Pane::Instructions),
        checks: only(Pane::Checks),
        traffic: only(Pane::Traffic),
    }
}

/// Draws the panes that fit.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let areas = areas(area, model.pane);
    if let Some(area) = areas.steps {
        steps::draw(frame, area, model);
    }
    if let Some(area) = areas.bar {
        steps::draw_bar(frame, area, model);
    }
    if let Some(area) = areas.tabs {
        draw_tabs(frame, area, model);
    }
    if let Some(area) = areas.instructions {
        instructions::draw(frame, area, model);
    }
    if let Some(area) = areas.checks {
        checks::draw(frame, area, model);
    }
    if let Some(area) = areas.traffic {
        traffic::draw(frame, area, model);
    }
}

/// The last line that can be at the top of the instructions.
pub fn instructions_max(model: &Model) -> usize {
    areas(body(model), model.pane)
        .instructions
        .map_or(model.instructions_scroll, |area| instructions::max(area, model))
}

/// How far to scroll the instructions for a command of theirs to be the last line in sight.
pub fn instructions_at(command: &str, model: &Model) -> Option<usize> {
    let area = areas(body(model), model.pane).instructions?;
    let line = instructions::line_of(area, command, model)?;
    Some((line + 1).saturating_sub(usize::from(area.height.saturating_sub(2))))
}

fn draw_tabs(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let mut spans = Vec::new();
    for (at, pane) in Pane::ALL.into_iter().enumerate() {
        let mut label = format!(" {} {}{} ", at + 1, pane.title(), suffix(pane, model));
        let style = if pane == model.pane {
            label = format!("▸{}", label.trim_start());
            model.theme.selected()
        } else {
            model.theme.text()
        };
        if at > 0 {
            spans.push(Span::styled("│", model.theme.quiet()));
        }
        spans.push(Span::styled(label, style));
    }
    frame.render_widget(cut_line(Line::from(spans), usize::from(area.width)), area);
}

fn suffix(pane: Pane, model: &Model) -> String {
    match (pane, model.current_step(), model.session()) {
        (Pane::Checks, Some(step), _) => {
            let passed = step
                .checks
                .iter()
                .filter(|check| check.verdict == CheckState::Passed)
                .count();
            format!(" {passed}/{} passed", step.checks.len())
        }
        (Pane::Traffic, _, Some(session)) if !session.traffic.capturing.is_empty() => {
            let names: Vec<String> = session
                .traffic
                .capturing
                .iter()
                .map(|capture| text::one_line(&capture.workload))
                .collect();
            format!(" ● {}", names.join(", "))
        }
        _ => String::new(),
    }
}
