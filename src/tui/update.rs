//! `update(model, message) → effects`: everything the interface decides, without doing any of it.

use std::collections::BTreeSet;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    keys::{self, Action, Key},
    model::{Input, Link, Model, Overlay, Pane, Pending, Screen, Told},
    views,
};
use crate::{
    cluster::GroundKind,
    session::{
        command::{Command, Refusal, Reply},
        snapshot::{CheckState, NoticeLevel, Phase, QuestionView, SessionView, Snapshot, StepState},
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
    /// Open the student's shell.
    Shell {
        /// The kubeconfig of the lab's cluster.
        kubeconfig: String,
        /// The lab.
        label: String,
    },
    /// Forget what is on the terminal and draw it anew.
    Redraw,
    /// End.
    Quit,
}

/// Characters of an answer that are kept.
const LONGEST_ANSWER: usize = 500;

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
    let mut before = std::mem::replace(&mut model.snapshot, snapshot);
    if model.snapshot.labs.is_empty() {
        model.snapshot.labs = std::mem::take(&mut before.labs);
    }
    let (old, new) = (before.session.as_ref(), model.snapshot.session.as_ref());
    if old.map(|session| &session.id) != new.map(|session| &session.id) {
        model.step = None;
        model.instructions_scroll = 0;
        model.check_row = 0;
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
        tell(
            model,
            NoticeLevel::Success,
            format!("step {id} is passed; 1 shows what it taught, → goes to the next step"),
        );
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
            model.snapshot.labs = labs;
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
        Action::Shell => return shell(model),
        Action::LeaksOnly => {
            model.leaks_only = !model.leaks_only;
            model.message = None;
        }
        Action::Follow => model.message = None,
        Action::Toggle => return toggle(model),
        Action::Send => return answer(model),
        Action::Yes => return confirm(model),
        Action::No => model.overlay = None,
        Action::Erase | Action::EraseAll | Action::Left | Action::Right | Action::LineStart | Action::LineEnd => {
            edit(model, action)
        }
    }
    clamp(model);
    Vec::new()
}

enum Scroll {
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

fn scroll(model: &mut Model, by: Scroll) {
    let page = usize::from(model.size.1).saturating_sub(8).max(1);
    if let Some(overlay) = &model.overlay {
        let max = views::overlay_max(model);
        let choices = question(model).map_or(0, |question| question.choices.len());
        let _ = overlay;
        match &mut model.overlay {
            Some(Overlay::Help { scroll } | Overlay::Message { scroll, .. } | Overlay::Notices { scroll }) => {
                *scroll = moved(*scroll, max, page, &by);
            }
            Some(Overlay::Captures { row }) => *row = moved(*row, max, page, &by),
            Some(Overlay::Question {
                input: Input::Choices { row, .. },
                ..
            }) => *row = moved(*row, choices.saturating_sub(1), page, &by),
            _ => {}
        }
        return;
    }
    match (model.screen, model.pane) {
        (Screen::Labs, _) => {
            let max = model.snapshot.labs.len().saturating_sub(1);
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
fn clamp(model: &mut Model) {
    let max = views::overlay_max(model);
    match &mut model.overlay {
        Some(Overlay::Help { scroll } | Overlay::Message { scroll, .. } | Overlay::Notices { scroll }) => {
            *scroll = (*scroll).min(max);
        }
        Some(Overlay::Captures { row }) => *row = (*row).min(max),
        _ => {}
    }
    model.lab_row = model.lab_row.min(model.snapshot.labs.len().saturating_sub(1));
    model.instructions_scroll = model.instructions_scroll.min(views::lab::instructions_max(model));
    let checks = model.current_step().map_or(0, |step| step.checks.len());
    model.check_row = model.check_row.min(checks.saturating_sub(1));
}

fn back(model: &mut Model) -> Vec<Effect> {
    if model.overlay.take().is_none() {
        model.screen = Screen::Labs;
        let lab = model.session().map(|session| session.lab.id.clone());
        if let Some(row) = model.snapshot.labs.iter().position(|row| Some(&row.id) == lab.as_ref()) {
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
    let Some(id) = model
        .session()
        .and_then(|session| session.steps.get(at))
        .map(|step| step.id.clone())
    else {
        return;
    };
    model.step = Some(id);
    model.instructions_scroll = 0;
    model.check_row = 0;
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

fn start(model: &mut Model, fresh: bool) -> Vec<Effect> {
    let Some(lab) = model.snapshot.labs.get(model.lab_row).cloned() else {
        return Vec::new();
    };
    if lab.broken.is_some() {
        tell(
            model,
            NoticeLevel::Error,
            format!(
                "lab `{}` is broken and cannot be started; what is wrong stands above",
                lab.id
            ),
        );
        return Vec::new();
    }
    let command = Command::Start {
        lab: lab.id.clone(),
        ground: GroundKind::Embedded.to_string(),
        fresh,
    };
    let running = model
        .session()
        .filter(|session| !matches!(session.phase, Phase::Stopped))
        .map(|session| (session.lab.id.clone(), session.phase.clone()));
    match running {
        Some((id, Phase::Ready | Phase::Starting | Phase::Resetting)) if id == lab.id && !fresh => {
            model.screen = Screen::Lab;
            Vec::new()
        }
        Some((id, _)) if id != lab.id => {
            model.overlay = Some(Overlay::Confirm {
                question: format!("Lab `{id}` is running. Stop it and start `{}`?", lab.id),
                commands: vec![Command::Stop { delete: false }, command],
            });
            Vec::new()
        }
        _ if fresh && (lab.score.is_some() || running.is_some()) => {
            model.overlay = Some(Overlay::Confirm {
                question: format!("Start `{}` from nothing? Its points and its cluster are lost.", lab.id),
                commands: vec![command],
            });
            Vec::new()
        }
        _ => {
            model.screen = Screen::Lab;
            send(model, format!("starting {}", lab.id), vec![command])
        }
    }
}

fn stop(model: &mut Model) {
    match model.session() {
        Some(session) => {
            let question = format!(
                "Stop lab `{}`? Its points and its cluster stay for the next time.",
                session.lab.id
            );
            model.overlay = Some(Overlay::Confirm {
                question,
                commands: vec![Command::Stop { delete: false }],
            });
        }
        None => tell(model, NoticeLevel::Info, "no lab is running"),
    }
}

/// The step that keys act on, where the lab is ready; else says why not.
fn workable(model: &mut Model) -> Option<String> {
    if model.ready().is_none() {
        tell(model, NoticeLevel::Warning, "the lab is not ready yet");
        return None;
    }
    let step = model.current_step()?;
    if step.state == StepState::Locked {
        let needs = step.needs.join(", ");
        tell(
            model,
            NoticeLevel::Warning,
            format!("this step is locked: pass {needs} first"),
        );
        return None;
    }
    Some(step.id.clone())
}

fn check(model: &mut Model) -> Vec<Effect> {
    let Some(step) = workable(model) else {
        return Vec::new();
    };
    show_checks(model);
    send(
        model,
        format!("checking {step}"),
        vec![Command::Check { step: Some(step) }],
    )
}

/// Where there is one pane only, the checks are it when something is judged.
fn show_checks(model: &mut Model) {
    if usize::from(model.size.0) < views::WIDE {
        model.pane = Pane::Checks;
    }
}

fn hint(model: &mut Model) -> Vec<Effect> {
    let Some(id) = workable(model) else {
        return Vec::new();
    };
    let next = model.current_step().and_then(|step| step.next_hint);
    let command = Command::Hint { step: id };
    match next {
        None => {
            tell(model, NoticeLevel::Info, "this step has no further hint");
            Vec::new()
        }
        Some(cost) if cost.0 > 0 => {
            model.overlay = Some(Overlay::Confirm {
                question: format!("The next hint costs {cost} points. Open it?"),
                commands: vec![command],
            });
            Vec::new()
        }
        Some(_) => send(model, "opening a hint", vec![command]),
    }
}

fn captures(model: &mut Model) {
    if model.ready().is_none() {
        tell(model, NoticeLevel::Warning, "the lab is not ready yet");
        return;
    }
    model.overlay = Some(Overlay::Captures { row: 0 });
}

fn reset(model: &mut Model) {
    let Some(session) = model.session() else { return };
    model.overlay = Some(Overlay::Confirm {
        question: format!(
            "Reset lab `{}`? Its cluster is made anew, and all {} points are lost.",
            session.lab.id, session.score.earned
        ),
        commands: vec![Command::Reset { step: None }],
    });
}

fn shell(model: &mut Model) -> Vec<Effect> {
    let place = model
        .session()
        .and_then(|session| session.kubeconfig.clone().map(|path| (path, session.lab.id.clone())));
    match place {
        Some((kubeconfig, label)) => vec![Effect::Shell { kubeconfig, label }],
        None => {
            tell(model, NoticeLevel::Warning, "the lab's cluster is not there yet");
            Vec::new()
        }
    }
}

fn ask(model: &mut Model) -> Vec<Effect> {
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
        _ => Input::Text {
            text: Vec::new(),
            cursor: 0,
        },
    };
    model.overlay = Some(Overlay::Question { step, check, input });
    Vec::new()
}

/// The question that is open.
pub(super) fn question(model: &Model) -> Option<&QuestionView> {
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
fn choose_by_letter(model: &mut Model, key: Key) -> bool {
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

fn toggle(model: &mut Model) -> Vec<Effect> {
    let Some(overlay) = model.overlay.clone() else {
        return Vec::new();
    };
    match overlay {
        Overlay::Captures { row } => toggle_capture(model, row),
        Overlay::Question { .. } => {
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
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn toggle_capture(model: &mut Model, row: usize) -> Vec<Effect> {
    let Some(session) = model.session() else {
        return Vec::new();
    };
    let Some(name) = session.workloads.get(row).map(|workload| workload.name.clone()) else {
        return Vec::new();
    };
    let runs = session.traffic.capturing.iter().any(|capture| capture.workload == name);
    if runs {
        let what = format!("stopping the capture in {name}");
        send(model, what, vec![Command::CaptureStop { pod: Some(name) }])
    } else {
        model.overlay = None;
        model.pane = Pane::Traffic;
        model.message = None;
        let what = format!("starting a capture in {name}");
        let command = Command::CaptureStart {
            pod: name,
            filter: None,
            seconds: None,
        };
        send(model, what, vec![command])
    }
}

fn answer(model: &mut Model) -> Vec<Effect> {
    let choices = question(model)
        .map(|question| question.choices.clone())
        .unwrap_or_default();
    let many = question(model).is_some_and(|question| question.many);
    let Some(Overlay::Question { step, check, input }) = model.overlay.clone() else {
        return Vec::new();
    };
    let value = match input {
        Input::Text { text, .. } => text.into_iter().collect::<String>().trim().to_owned(),
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
    send(
        model,
        "judging the answer",
        vec![Command::Answer { step, check, value }],
    )
}

fn confirm(model: &mut Model) -> Vec<Effect> {
    let Some(Overlay::Confirm { commands, .. }) = model.overlay.take() else {
        return Vec::new();
    };
    let what = match commands.last() {
        Some(Command::Start { lab, .. }) => {
            model.screen = Screen::Lab;
            format!("starting {lab}")
        }
        Some(Command::Reset { .. }) => "resetting".to_owned(),
        Some(Command::Stop { .. }) => "stopping".to_owned(),
        Some(Command::Hint { .. }) => "opening a hint".to_owned(),
        _ => "working".to_owned(),
    };
    send(model, what, commands)
}

fn type_text(model: &mut Model, typed: &str) {
    if let Some(Overlay::Question {
        input: Input::Text { text, cursor },
        ..
    }) = &mut model.overlay
    {
        for c in typed
            .chars()
            .map(|c| if c.is_whitespace() { ' ' } else { c })
            .filter(|c| !c.is_control())
        {
            if text.len() < LONGEST_ANSWER {
                text.insert(*cursor, c);
                *cursor += 1;
            }
        }
    }
}

fn edit(model: &mut Model, action: Action) {
    if let Some(Overlay::Question {
        input: Input::Text { text, cursor },
        ..
    }) = &mut model.overlay
    {
        match action {
            Action::Erase if *cursor > 0 => {
                *cursor -= 1;
                text.remove(*cursor);
            }
            Action::EraseAll => {
                text.clear();
                *cursor = 0;
            }
            Action::Left => *cursor = cursor.saturating_sub(1),
            Action::Right => *cursor = (*cursor + 1).min(text.len()),
            Action::LineStart => *cursor = 0,
            Action::LineEnd => *cursor = text.len(),
            _ => {}
        }
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
#[path = "update_tests.rs"]
mod tests;
