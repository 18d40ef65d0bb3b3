//! The prompt: commands of the lab's text, put there to be read, changed and run by the student, and by nobody else.

use super::{Effect, tell, working};
use crate::{
    lab::commands,
    session::snapshot::{NoticeLevel, StepView},
    text,
    tui::{
        field::Field,
        model::{Model, Overlay},
    },
};

/// Own commands that are remembered.
const REMEMBERED: usize = 20;

/// What was run at the prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran {
    /// In which step.
    step: String,
    /// The place of its next command.
    next: usize,
    /// What the student typed or changed, the newest last.
    own: Vec<String>,
}

/// What a step offers to run, and whether it holds more that no prompt can take.
fn offered(step: &StepView) -> (Vec<String>, bool) {
    let texts = std::iter::once(&step.instructions).chain(step.hints.iter().map(|hint| &hint.text));
    let all = texts.flat_map(|text| commands::offered(text));
    let (fit, unfit): (Vec<String>, Vec<String>) = all.partition(|command| commands::unfit(command).is_none());
    (fit, !unfit.is_empty())
}

/// Opens the prompt with the step's next command in it.
pub(super) fn open(model: &mut Model) {
    let Some(id) = working::workable(model) else { return };
    let Some(step) = model.current_step() else { return };
    let (offered, more) = offered(step);
    if more {
        tell(
            model,
            NoticeLevel::Warning,
            "this step holds a command that no prompt can take: copy it into your shell, which s opens",
        );
    }
    let next = if model.ran.step == id { model.ran.next } else { 0 };
    let own = model.ran.own.iter().filter(|own| !offered.contains(own));
    let mut lines: Vec<Field> = offered.iter().chain(own).map(|line| Field::new(line)).collect();
    lines.push(Field::default());
    // Whoever ran them all has one of their own in mind.
    let at = if next < offered.len() { next } else { lines.len() - 1 };
    model.overlay = Some(Overlay::Prompt {
        step: id,
        offered: offered.len(),
        lines,
        at,
    });
}

/// Runs what stands at the prompt.
pub(super) fn run(model: &mut Model) -> Vec<Effect> {
    let Some(Overlay::Prompt {
        step,
        offered,
        lines,
        at,
    }) = &model.overlay
    else {
        return Vec::new();
    };
    let command = lines[*at].text();
    if command.is_empty() {
        tell(
            model,
            NoticeLevel::Warning,
            "there is no command yet: type one, or esc closes",
        );
        return Vec::new();
    }
    if let Some(why) = commands::unfit(&command) {
        tell(model, NoticeLevel::Warning, format!("this command is not run: {why}"));
        return Vec::new();
    }
    let same = model.ran.step == *step;
    let next = match (at < offered, same) {
        (true, _) => at + 1,
        (false, true) => model.ran.next,
        (false, false) => 0,
    };
    let mut own = std::mem::take(&mut model.ran.own);
    own.retain(|one| *one != command);
    own.push(command.clone());
    own.drain(..own.len().saturating_sub(REMEMBERED));
    let step = step.clone();
    model.ran = Ran { step, next, own };
    model.overlay = None;
    working::shell(model, Some(command))
}

/// Takes pasted or typed text; what would be something else than it looks stays out, and that is said.
pub(super) fn insert(model: &mut Model, typed: &str) {
    let Some(Overlay::Prompt { lines, at, .. }) = &mut model.overlay else {
        return;
    };
    let typed = typed.trim_end_matches(['\n', '\r']);
    if typed.contains(['\n', '\r']) {
        let text = "the prompt takes one line: paste several into your shell, which s opens";
        return tell(model, NoticeLevel::Warning, text);
    }
    let shown = typed.chars().map(|c| if c == '\t' { ' ' } else { c });
    let seen: Vec<char> = shown.filter(|c| text::visible(*c) == *c).collect();
    let hidden = seen.len() < typed.chars().count();
    lines[*at].insert(seen.into_iter(), commands::LONGEST);
    if hidden {
        tell(
            model,
            NoticeLevel::Warning,
            "characters that cannot be seen were left out",
        );
    }
}
