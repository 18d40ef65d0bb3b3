//! Questions: opening one, marking choices, typing, and sending the answer.

use std::collections::BTreeSet;

use super::{
    Effect, prompt, send, tell,
    working::{show_checks, workable},
};
use crate::{
    session::{
        command::Command,
        snapshot::{NoticeLevel, QuestionView},
    },
    tui::{
        field::Field,
        keys::{Action, Key},
        model::{Input, Model, Overlay},
    },
};

/// Characters of an answer that are kept.
const LONGEST_ANSWER: usize = 500;

pub(super) fn ask(model: &mut Model) -> Vec<Effect> {
    let Some(step) = workable(model) else {
        return Vec::new();
    };
    let Some(check) = model.open_question().map(str::to_owned) else {
        tell(
            model,
            NoticeLevel::Info,
            "this step has no open question; c runs its checks",
        );
        return Vec::new();
    };
    let question = model
        .current_step()
        .and_then(|step| step.checks.iter().find(|view| view.name == check))
        .and_then(|view| view.question.clone());
    let input = match question {
        Some(question) if !question.choices.is_empty() => Input::Choices {
            row: 0,
            chosen: BTreeSet::new(),
        },
        _ => Input::Text(Field::default()),
    };
    model.overlay = Some(Overlay::Question { step, check, input });
    Vec::new()
}

/// The question that is open.
pub(in crate::tui) fn question(model: &Model) -> Option<&QuestionView> {
    let Some(Overlay::Question { step, check, .. }) = &model.overlay else {
        return None;
    };
    model
        .session()?
        .steps
        .iter()
        .find(|view| &view.id == step)?
        .checks
        .iter()
        .find(|view| &view.name == check)?
        .question
        .as_ref()
}

/// A choice's own letter marks it, before the letter means anything else.
pub(super) fn choose_by_letter(model: &mut Model, key: Key) -> bool {
    let Key::Char(c) = key else { return false };
    let Some(question) = question(model) else {
        return false;
    };
    let many = question.many;
    let Some(at) = question.choices.iter().position(|choice| choice.key == c.to_string()) else {
        return false;
    };
    let letter = question.choices[at].key.clone();
    if let Some(Overlay::Question {
        input: Input::Choices { row, chosen },
        ..
    }) = &mut model.overlay
    {
        *row = at;
        flip(chosen, letter, many);
        return true;
    }
    false
}

fn flip(chosen: &mut BTreeSet<String>, key: String, many: bool) {
    let was = chosen.remove(&key);
    if !many {
        chosen.clear();
    }
    if !was {
        chosen.insert(key);
    }
}

pub(super) fn answer(model: &mut Model) -> Vec<Effect> {
    let choices = question(model)
        .map(|question| question.choices.clone())
        .unwrap_or_default();
    let many = question(model).is_some_and(|question| question.many);
    let Some(Overlay::Question { step, check, input }) = model.overlay.clone() else {
        return Vec::new();
    };
    let value = match input {
        Input::Text(field) => field.text(),
        Input::Choices { row, chosen } if chosen.is_empty() && !many => {
            choices.get(row).map(|choice| choice.key.clone()).unwrap_or_default()
        }
        Input::Choices { chosen, .. } => chosen.into_iter().collect::<Vec<_>>().join(","),
    };
    if value.is_empty() {
        tell(model, NoticeLevel::Warning, "nothing is answered yet");
        return Vec::new();
    }
    model.overlay = None;
    show_checks(model);
    let row = model
        .current_step()
        .and_then(|step| step.checks.iter().position(|view| view.name == check));
    (model.check_row, model.check_chosen) = (row.unwrap_or(model.check_row), false);
    send(
        model,
        "judging the answer",
        vec![Command::Answer { step, check, value }],
    )
}

/// The line that is being typed.
fn field(model: &mut Model) -> Option<&mut Field> {
    match &mut model.overlay {
        Some(Overlay::Question {
            input: Input::Text(field),
            ..
        }) => Some(field),
        Some(Overlay::Prompt { lines, at, .. }) => lines.get_mut(*at),
        _ => None,
    }
}

pub(super) fn type_text(model: &mut Model, typed: &str) {
    if let Some(Overlay::Prompt { .. }) = model.overlay {
        return prompt::insert(model, typed);
    }
    if let Some(field) = field(model) {
        let spaced = typed.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
        field.insert(spaced.filter(|c| !c.is_control()), LONGEST_ANSWER);
    }
}

pub(super) fn edit(model: &mut Model, action: Action) {
    if let Some(field) = field(model) {
        field.edit(action);
    }
}

/// Marks the choice at the cursor, or unmarks it.
pub(super) fn mark(model: &mut Model) {
    let at = question(model).map(|question| (question.many, question.choices.clone()));
    if let (
        Some((many, choices)),
        Some(Overlay::Question {
            input: Input::Choices { row, chosen },
            ..
        }),
    ) = (at, &mut model.overlay)
        && let Some(choice) = choices.get(*row)
    {
        flip(chosen, choice.key.clone(), many);
    }
}
