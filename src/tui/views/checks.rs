//! What a step proves: each check's verdict in a symbol and a word; what failed says expected, found, why.
//!
//! ```text
//! ▸ ✗ failed        you captured a payment
//!     expected      a message with a card number between …
//!     found         no capture ran
//!     why           the request crossed the network as text
//! ```

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{pane, scrolled};
use crate::{
    session::snapshot::{CheckState, CheckView},
    text,
    tui::{
        model::{Model, Pane},
        update::check_words,
        wrap::wrap,
    },
};

/// Draws the pane, scrolled so that the check at the mark is seen.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let focused = model.pane == Pane::Checks;
    let block = pane("2 Checks", focused, model);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let Some(step) = model.current_step() else { return };
    let width = usize::from(inner.width);
    let mut lines = Vec::new();
    let mut marked = 0..0;
    for (at, check) in step.checks.iter().enumerate() {
        let chosen = focused && at == model.check_row;
        let begin = lines.len();
        lines.extend(check_lines(check, chosen, width, model));
        if chosen {
            marked = begin..lines.len();
        }
    }
    if step.checks.is_empty() {
        lines.push(Line::from("This step has no checks."));
    }
    let height = usize::from(inner.height);
    let scroll = if marked.end > height {
        marked.start.min(marked.end - height.min(marked.len()))
    } else {
        0
    };
    scrolled(frame, inner, &lines, scroll, model);
}

/// The style of a check's verdict.
fn style(state: CheckState, model: &Model) -> Style {
    match state {
        CheckState::Passed => model.theme.good(),
        CheckState::Failed => model.theme.bad(),
        CheckState::Undetermined => model.theme.unsure(),
        CheckState::NotRun => model.theme.quiet(),
    }
}

fn check_lines(check: &CheckView, chosen: bool, width: usize, model: &Model) -> Vec<Line<'static>> {
    let theme = model.theme;
    let (symbol, word) = check_words(check.verdict);
    let mark = if chosen { "▸ " } else { "  " };
    let name = if chosen { theme.selected() } else { theme.strong() };
    let mut lines = wrap(
        &[
            (format!("{symbol} {word}"), style(check.verdict, model)),
            (": ".to_owned(), Style::new()),
            (text::one_line(&check.name), name),
        ],
        width,
        mark,
        "    ",
    );
    let mut fact = |label: &str, text: &str| {
        if !text.trim().is_empty() {
            lines.extend(labelled(label, text, width, model));
        }
    };
    if check.latched && !matches!(check.live, CheckState::Passed | CheckState::NotRun) {
        let (symbol, word) = check_words(check.live);
        fact(
            "now",
            &format!("{symbol} {word}; it passed before and keeps its points"),
        );
    }
    if matches!(check.verdict, CheckState::Failed | CheckState::Undetermined) {
        fact("expected", &check.expected);
        fact("found", &check.found);
        fact("why", &check.why);
    }
    if let Some(question) = &check.question {
        fact("question", &question.ask);
        if let Some(answer) = &question.answer {
            fact("answered", answer);
        }
        if check.verdict == CheckState::Passed {
            fact("why", &check.why);
        }
        if check.verdict != CheckState::Passed {
            lines.push(Line::from(vec![
                Span::raw("    "),
                Span::styled("a", theme.key()),
                Span::styled(" answers it", theme.quiet()),
            ]));
        }
    }
    if check.verdict != CheckState::NotRun {
        for evidence in &check.evidence {
            lines.extend(labelled("evidence", evidence, width, model));
        }
    }
    lines
}

fn labelled(label: &str, words: &str, width: usize, model: &Model) -> Vec<Line<'static>> {
    let mut lines = wrap(
        &[(text::one_line(words), Style::new())],
        width,
        "              ",
        "              ",
    );
    if let Some(first) = lines.first_mut() {
        first.spans[0] = Span::styled(format!("    {label:<10}"), model.theme.quiet());
    }
    lines
}
