//! What to do in a step: its text, where its attacker stands, the hints that are open, what it taught.

use ratatui::{Frame, layout::Rect, style::Style, text::Line};

use super::{pane, scrolled};
use crate::{
    session::snapshot::{StepState, StepView},
    text,
    tui::{
        markdown,
        model::{Model, Pane},
        wrap::wrap,
    },
};

/// Draws the pane.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let block = pane("1 Instructions", model.pane == Pane::Instructions, model);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let lines = lines(usize::from(inner.width), model);
    scrolled(frame, inner, &lines, model.instructions_scroll, model);
}

/// The last line that can be at the top.
pub fn max(area: Rect, model: &Model) -> usize {
    let width = usize::from(area.width.saturating_sub(2));
    let height = usize::from(area.height.saturating_sub(2));
    lines(width, model).len().saturating_sub(height)
}

/// The line on which a command of the text ends, if it stands in it.
pub fn line_of(area: Rect, command: &str, model: &Model) -> Option<usize> {
    let width = usize::from(area.width.saturating_sub(2));
    let lines: Vec<String> = lines(width, model).iter().map(ToString::to_string).collect();
    let begins = |line: &String| {
        let shown = line.trim_start().strip_prefix("$ ");
        shown.is_some_and(|shown| command.starts_with(shown.trim_end_matches('\\').trim_end()))
    };
    let first = lines.iter().position(begins)?;
    let rest = lines[first..].iter().position(|line| !line.ends_with('\\'));
    Some(first + rest.unwrap_or(0))
}

fn lines(width: usize, model: &Model) -> Vec<Line<'static>> {
    let theme = model.theme;
    let Some(step) = model.current_step() else {
        return vec![Line::from("This lab has no steps.")];
    };
    let mut lines = vec![
        Line::styled(text::one_line(&step.title), theme.title()),
        Line::default(),
    ];
    if step.state == StepState::Locked {
        lines.extend(wrap(
            &[(format!("· locked: {}", model.locked_by(step)), theme.unsure())],
            width,
            "",
            "  ",
        ));
        lines.push(Line::default());
    }
    if let Some(why) = &step.impossible {
        let told = format!("- not possible here: {why}. Its points do not count, and no step waits for it.");
        lines.extend(wrap(&[(text::one_line(&told), theme.unsure())], width, "", "  "));
        lines.push(Line::default());
    }
    if let Some(vantage) = &step.vantage {
        lines.extend(wrap(
            &[
                ("Where the attacker stands: ".to_owned(), theme.strong()),
                (text::one_line(vantage), Style::new()),
            ],
            width,
            "",
            "  ",
        ));
        lines.push(Line::default());
    }
    lines.extend(markdown::render(&step.instructions, width, theme));
    hints(step, width, model, &mut lines);
    if let Some(teaches) = &step.teaches {
        lines.push(Line::default());
        lines.push(Line::styled("✓ What this showed", theme.good()));
        lines.extend(markdown::render(teaches, width, theme));
    }
    if let Some(session) = model.session()
        && session.steps.iter().all(|step| step.state.is_done())
        && let Some(recap) = &session.lab.recap
    {
        lines.push(Line::default());
        let all = match session.steps.iter().any(|step| step.state == StepState::Impossible) {
            true => "✓ Every step that is possible here is passed: what to keep",
            false => "✓ Every step is passed: what to keep",
        };
        lines.push(Line::styled(all, theme.good()));
        lines.extend(markdown::render(recap, width, theme));
    }
    lines
}

fn hints(step: &StepView, width: usize, model: &Model, lines: &mut Vec<Line<'static>>) {
    for (at, hint) in step.hints.iter().enumerate() {
        lines.push(Line::default());
        let cost = if hint.cost.0 == 0 {
            String::new()
        } else {
            format!(" ({})", hint.cost.counted())
        };
        lines.push(Line::styled(format!("Hint {}{cost}", at + 1), model.theme.strong()));
        lines.extend(markdown::render(&hint.text, width, model.theme));
    }
    // Who has passed needs none, though one can still be had.
    if let Some(cost) = step.next_hint.filter(|_| !step.state.is_done()) {
        let cost = if cost.0 == 0 {
            "costs nothing".to_owned()
        } else {
            format!("costs {}", cost.counted())
        };
        lines.push(Line::default());
        lines.push(Line::styled(
            format!("h opens a hint, which {cost}"),
            model.theme.quiet(),
        ));
    }
}
