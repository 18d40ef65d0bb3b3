//! `update(model, message) → effects`: everything the interface decides, without doing any of it.

mod prompt;
mod question;
mod scrolling;
mod working;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

pub use self::prompt::Ran;
pub(super) use self::question::question;
use self::{
    question::{answer, ask, choose_by_letter, edit, mark, type_text},
    scrolling::{Scroll, clamp, scroll},
    working::{captures, check, confirm, hint, pause, reset, reset_step, shell, start, stop, toggle_capture},
};
use super::{
    keys::{self, Action, Key},
    model::{Link, Model, Overlay, Pane, Pending, Screen, Told},
};
use crate::{
    score::Points,
    session::{
        command::{Command, Refusal, Reply},
        snapshot::{CheckState, NoticeLevel, SessionView, Snapshot, StepState},
    },
};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Msg {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// The terminal has another size now.
    Resize(u16, u16),
    /// The connection to the session host changed.
    Link(Link),
    /// The session's state changed.
    Snapshot(Box<Snapshot>),
    /// What was asked with this number has finished.
    Replied {
        /// The number.
        id: u64,
        /// The answer, or that the host went away.
        reply: Result<Reply, Refusal>,
    },
    /// The student's shell ended, or could not be opened.
    ShellEnded(Result<(), String>),
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send these to the session, in order, until one is refused.
    Send {
        /// The number its reply must carry.
        id: u64,
        /// The commands.
        commands: Vec<Command>,
    },
    /// Open the student's shell, or run a command in it.
    Shell {
        /// What is run; none opens the shell.
        command: Option<String>,
        /// The kubeconfig of the lab's cluster.
        kubeconfig: String,
        /// The lab.
        label: String,
        /// The student's work directory.
        work: String,
    },
    /// Forget what is on the terminal and draw it anew.
    Redraw,
    /// End.
    Quit,
}

/// Takes in what happened and says what is to be done.
pub fn update(model: &mut Model, msg: Msg) -> Vec<Effect> {
    match msg {
        Msg::Key(event) if event.kind == KeyEventKind::Release => Vec::new(),
        Msg::Key(event) => key(model, event),
        Msg::Paste(text) => {
            type_text(model, &text);
            Vec::new()
        }
        Msg::Resize(columns, rows) => {
            model.size = (columns, rows);
            clamp(model);
            Vec::new()
        }
        Msg::Link(link) => {
            if link == Link::Up && model.link != Link::Up {
                // A new host counts its revisions from the beginning.
                model.snapshot.revision = 0;
            }
            model.link = link;
            labs(model)
        }
        Msg::Snapshot(snapshot) => {
            snapshot_came(model, *snapshot);
            Vec::new()
        }
        Msg::Replied { id, reply } => replied(model, id, reply),
        Msg::ShellEnded(result) => {
            match result {
                Ok(()) => model.told = None,
                Err(error) => tell(model, NoticeLevel::Error, error),
            }
            vec![Effect::Redraw]
        }
    }
}

/// Asks for the labs and how far the student came in each, which snapshots leave out.
fn labs(model: &mut Model) -> Vec<Effect> {
    if model.link == Link::Up {
        vec![request(model, "reading the labs", vec![Command::Labs])]
    } else {
        Vec::new()
    }
}

fn tell(model: &mut Model, level: NoticeLevel, text: impl Into<String>) {
    model.told = Some(Told {
        level,
        text: text.into(),
    });
}

fn snapshot_came(model: &mut Model, snapshot: Snapshot) {
    if snapshot.revision < model.snapshot.revision {
        return;
    }
    let first = model.snapshot.revision == 0;
    let shown = model.current_step().map(|step| step.id.clone());
    let before = std::mem::replace(&mut model.snapshot, snapshot);
    let (old, new) = (before.session.as_ref(), model.snapshot.session.as_ref());
    if old.map(|session| &session.id) != new.map(|session| &session.id) {
        model.step = None;
        model.instructions_scroll = 0;
        (model.check_row, model.check_chosen) = (0, false);
        model.message = None;
    }
    let passed = shown.filter(|id| passes(old, new, id));
    match new {
        Some(session) => {
            if old.is_none() && first {
                model.screen = Screen::Lab;
            }
            let known = old.map_or(0, |session| session.log.last().map_or(0, |notice| notice.at_ms));
            let news = session
                .log
                .last()
                .filter(|notice| old.is_some() && notice.at_ms > known);
            if let Some(notice) = news {
                let (level, text) = (notice.level, notice.text.clone());
                tell(model, level, text);
            }
        }
        None => {
            if !model.pending.iter().any(|pending| pending.starts) {
                model.screen = Screen::Labs;
            }
        }
    }
    if let Some(id) = passed {
        // What the step taught is worth a look before the next one.
        let all = |session: &SessionView| session.steps.iter().all(|step| step.state.is_done());
        let next = if model.session().is_some_and(all) {
            "every step is; 1 shows what to keep"
        } else {
            "1 shows what it taught, → goes to the next step"
        };
        tell(model, NoticeLevel::Success, format!("step {id} is passed; {next}"));
        model.step = Some(id);
        model.instructions_scroll = usize::MAX;
    }
    clamp(model);
}

/// Whether a step that was open is passed now.
fn passes(old: Option<&SessionView>, new: Option<&SessionView>, id: &str) -> bool {
    let state = |session: Option<&SessionView>| session?.steps.iter().find(|step| step.id == id).map(|step| step.state);
    state(old) == Some(StepState::Open) && state(new) == Some(StepState::Passed)
}

fn replied(model: &mut Model, id: u64, reply: Result<Reply, Refusal>) -> Vec<Effect> {
    model.pending.retain(|pending| pending.id != id);
    match reply {
        Ok(Reply::Done { message, snapshot }) => {
            snapshot_came(model, *snapshot);
            // What the session told meanwhile says more than that it has finished.
            if model.told.is_none() {
                tell(model, NoticeLevel::Info, message);
            }
            if model.screen == Screen::Labs {
                return labs(model);
            }
        }
        Ok(Reply::Labs { labs }) => {
            model.labs = labs;
            clamp(model);
        }
        Ok(Reply::Refused(refusal)) | Err(refusal) => {
            let text = match refusal.hint {
                Some(hint) => format!("{}; {hint}", refusal.message),
                None => refusal.message,
            };
            tell(model, NoticeLevel::Error, text);
            if model.session().is_none() {
                model.screen = Screen::Labs;
            }
        }
    }
    Vec::new()
}

fn send(model: &mut Model, what: impl Into<String>, commands: Vec<Command>) -> Vec<Effect> {
    if model.link != Link::Up {
        tell(
            model,
            NoticeLevel::Warning,
            "the session host is not there yet; the key works once it is",
        );
        return Vec::new();
    }
    model.told = None;
    vec![request(model, what, commands)]
}

fn request(model: &mut Model, what: impl Into<String>, commands: Vec<Command>) -> Effect {
    let id = model.next_id;
    model.next_id += 1;
    model.pending.push(Pending {
        id,
        what: what.into(),
        starts: commands.iter().any(|command| matches!(command, Command::Start { .. })),
    });
    Effect::Send { id, commands }
}

fn key(model: &mut Model, event: KeyEvent) -> Vec<Effect> {
    let key = Key::of(event);
    if choose_by_letter(model, key) {
        return Vec::new();
    }
    if let Some(action) = keys::lookup(&model.contexts(), key) {
        return act(model, action);
    }
    if let KeyCode::Char(c) = event.code
        && !event.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT)
    {
        type_text(model, c.encode_utf8(&mut [0; 4]));
    }
    Vec::new()
}

fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::Quit => return vec![Effect::Quit],
        Action::Redraw => return vec![Effect::Redraw],
        Action::Help => model.overlay = Some(Overlay::Help { scroll: 0 }),
        Action::Notices => model.overlay = Some(Overlay::Notices { scroll: usize::MAX }),
        Action::Up => scroll(model, Scroll::Lines(-1)),
        Action::Down => scroll(model, Scroll::Lines(1)),
        Action::PageUp => scroll(model, Scroll::Pages(-1)),
        Action::PageDown => scroll(model, Scroll::Pages(1)),
        Action::Top => scroll(model, Scroll::Top),
        Action::Bottom => scroll(model, Scroll::Bottom),
        Action::Back => return back(model),
        Action::Open => return open(model),
        Action::Fresh => return start(model, true),
        Action::StopLab => stop(model),
        Action::NextPane => turn_pane(model, 1),
        Action::PreviousPane => turn_pane(model, Pane::ALL.len() - 1),
        Action::Instructions => model.pane = Pane::Instructions,
        Action::Checks => model.pane = Pane::Checks,
        Action::Traffic => model.pane = Pane::Traffic,
        Action::NextStep => turn_step(model, true),
        Action::PreviousStep => turn_step(model, false),
        Action::Check => return check(model),
        Action::Hint => return hint(model),
        Action::Capture => captures(model),
        Action::Answer => return ask(model),
        Action::Reset => reset(model),
        Action::ResetStep => reset_step(model),
        Action::Shell => return shell(model, None),
        Action::Prompt => prompt::open(model),
        Action::Run => return prompt::run(model),
        Action::Pause => return pause(model),
        Action::LeaksOnly => {
            model.leaks_only = !model.leaks_only;
            model.message = None;
        }
        Action::Follow => model.message = None,
        Action::Toggle => return toggle(model),
        Action::Send => return answer(model),
        Action::Yes => return confirm(model),
        Action::No => model.overlay = None,
        Action::Erase
        | Action::Delete
        | Action::EraseWord
        | Action::EraseAll
        | Action::Left
        | Action::Right
        | Action::LineStart
        | Action::LineEnd
        | Action::WordLeft
        | Action::WordRight => edit(model, action),
    }
    clamp(model);
    Vec::new()
}

fn back(model: &mut Model) -> Vec<Effect> {
    // What was told was about what is left.
    model.told = None;
    if model.overlay.take().is_none() {
        model.screen = Screen::Labs;
        let lab = model.session().map(|session| session.lab.id.clone());
        if let Some(row) = model.labs.iter().position(|row| Some(&row.id) == lab.as_ref()) {
            model.lab_row = row;
        }
        return labs(model);
    }
    Vec::new()
}

fn turn_pane(model: &mut Model, by: usize) {
    model.pane = Pane::ALL[(model.pane.index() + by) % Pane::ALL.len()];
}

fn turn_step(model: &mut Model, forward: bool) {
    let at = model.current_step_index();
    let at = if forward { at + 1 } else { at.saturating_sub(1) };
    let step = model.session().and_then(|session| session.steps.get(at));
    let Some((id, new)) = step.map(|step| (step.id.clone(), step.earned == Points(0))) else {
        return;
    };
    if model.step.as_ref() != Some(&id) {
        model.told = None;
    }
    // The checks of a step that nobody has begun tell nothing yet: what it asks for does.
    if new && model.pane == Pane::Checks && model.step.as_ref() != Some(&id) {
        model.pane = Pane::Instructions;
    }
    model.step = Some(id);
    model.instructions_scroll = 0;
    (model.check_row, model.check_chosen) = (0, false);
}

fn open(model: &mut Model) -> Vec<Effect> {
    match model.screen {
        Screen::Labs => start(model, false),
        Screen::Lab => {
            let messages = model.messages();
            let message = messages
                .get(model.message_row(&messages))
                .map(|message| Box::new((*message).clone()));
            if let Some(message) = message {
                model.overlay = Some(Overlay::Message { message, scroll: 0 });
            }
            Vec::new()
        }
    }
}

fn toggle(model: &mut Model) -> Vec<Effect> {
    let Some(overlay) = model.overlay.clone() else {
        return Vec::new();
    };
    match overlay {
        Overlay::Captures { row } => toggle_capture(model, row),
        Overlay::Question { .. } => {
            mark(model);
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// The words and the symbol of what a check says.
pub fn check_words(state: CheckState) -> (&'static str, &'static str) {
    match state {
        CheckState::Passed => ("✓", "passed"),
        CheckState::Failed => ("✗", "failed"),
        CheckState::Undetermined => ("?", "undetermined"),
        CheckState::NotRun => ("·", "not run"),
    }
}

#[cfg(test)]
mod tests;
