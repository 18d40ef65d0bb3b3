//! Moving about: lists, text and panes, and bringing back into range what a smaller terminal left outside.

use super::{prompt, question::question};
use crate::tui::{
    model::{Input, Model, Overlay, Pane, Screen},
    views,
};

pub(super) enum Scroll {
    Lines(isize),
    Pages(isize),
    Top,
    Bottom,
}

/// Where `at` goes when it may be 0 to `max`.
fn moved(at: usize, max: usize, page: usize, scroll: &Scroll) -> usize {
    let at = at.min(max);
    let by = |lines: isize| at.saturating_add_signed(lines).min(max);
    match scroll {
        Scroll::Lines(lines) => by(*lines),
        Scroll::Pages(pages) => by(pages.saturating_mul(isize::try_from(page.max(1)).unwrap_or(1))),
        Scroll::Top => 0,
        Scroll::Bottom => max,
    }
}

pub(super) fn scroll(model: &mut Model, by: Scroll) {
    let page = usize::from(model.size.1).saturating_sub(8).max(1);
    if model.overlay.is_some() {
        let max = views::overlay_max(model);
        let choices = question(model).map_or(0, |question| question.choices.len());
        match &mut model.overlay {
            Some(Overlay::Help { scroll } | Overlay::Message { scroll, .. } | Overlay::Notices { scroll }) => {
                *scroll = moved(*scroll, max, page, &by);
            }
            Some(Overlay::Captures { row }) => *row = moved(*row, max, page, &by),
            Some(Overlay::Prompt { lines, at, .. }) => *at = moved(*at, lines.len() - 1, page, &by),
            Some(Overlay::Question {
                input: Input::Choices { row, .. },
                ..
            }) => *row = moved(*row, choices.saturating_sub(1), page, &by),
            _ => {}
        }
        prompt::show(model);
        return;
    }
    match (model.screen, model.pane) {
        (Screen::Labs, _) => {
            let max = model.labs.len().saturating_sub(1);
            model.lab_row = moved(model.lab_row, max, page, &by);
        }
        (Screen::Lab, Pane::Instructions) => {
            let max = views::lab::instructions_max(model);
            model.instructions_scroll = moved(model.instructions_scroll, max, page, &by);
        }
        (Screen::Lab, Pane::Checks) => {
            let max = model
                .current_step()
                .map_or(0, |step| step.checks.len().saturating_sub(1));
            model.check_row = moved(model.check_row, max, page, &by);
            model.check_chosen = true;
        }
        (Screen::Lab, Pane::Traffic) => {
            let messages = model.messages();
            let last = messages.len().saturating_sub(1);
            let row = moved(model.message_row(&messages), last, page / 2, &by);
            let mark = messages.get(row).map(|message| message.seq);
            model.message = if row == last { None } else { mark };
        }
    }
}

/// Brings back into range what a smaller terminal or a shorter list left outside.
pub(super) fn clamp(model: &mut Model) {
    let max = views::overlay_max(model);
    match &mut model.overlay {
        Some(Overlay::Help { scroll } | Overlay::Message { scroll, .. } | Overlay::Notices { scroll }) => {
            *scroll = (*scroll).min(max);
        }
        Some(Overlay::Captures { row }) => *row = (*row).min(max),
        _ => {}
    }
    model.lab_row = model.lab_row.min(model.labs.len().saturating_sub(1));
    model.instructions_scroll = model.instructions_scroll.min(views::lab::instructions_max(model));
    let checks = model.current_step().map_or(0, |step| step.checks.len());
    model.check_row = model.check_row.min(checks.saturating_sub(1));
}
