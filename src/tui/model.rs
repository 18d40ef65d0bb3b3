//! What the interface knows: the last snapshot, and where the student looks.

use std::collections::BTreeSet;

use super::{field::Field, keys::Context, theme::Theme, update::Ran};
use crate::session::{
    command::Command,
    snapshot::{
        CheckState, CheckView, LabSummary, MessageView, NoticeLevel, Phase, SessionView, Snapshot, StepState, StepView,
    },
};

/// The whole state of the interface.
#[derive(Debug, Clone)]
pub struct Model {
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// How things look.
    pub theme: Theme,
    /// Whether the session host is there.
    pub link: Link,
    /// The session's state, as it last told it.
    pub snapshot: Snapshot,
    /// The labs that can be started, in the order in which to take them, as they were when they were asked for last.
    pub labs: Vec<LabSummary>,
    /// What is shown.
    pub screen: Screen,
    /// The chosen row of the list of labs.
    pub lab_row: usize,
    /// The step that is shown, by its id; none follows the session to the first open one.
    pub step: Option<String>,
    /// The pane that keys act on.
    pub pane: Pane,
    /// Lines scrolled away at the top of the instructions.
    pub instructions_scroll: usize,
    /// The check at the mark.
    pub check_row: usize,
    /// Whether the student put the mark there, and has not answered since.
    pub check_chosen: bool,
    /// The message at the mark, by its number; none follows the newest.
    pub message: Option<u64>,
    /// Show only messages that leak.
    pub leaks_only: bool,
    /// What lies over the screen.
    pub overlay: Option<Overlay>,
    /// What was run at the prompt.
    pub ran: Ran,
    /// What the session was asked and has not answered, in words.
    pub pending: Vec<Pending>,
    /// The number of the next thing it is asked.
    pub next_id: u64,
    /// The last thing told, in the line above the keys.
    pub told: Option<Told>,
}

/// The connection to the session host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Being made.
    Connecting,
    /// There.
    Up,
    /// Lost, and why; it is being made again.
    Down(String),
}

/// The screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// The list of labs.
    Labs,
    /// The running lab.
    Lab,
}

/// The panes of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    /// What to do.
    Instructions,
    /// What is proven.
    Checks,
    /// What crosses the network.
    Traffic,
}

impl Pane {
    /// Every pane, in the order of its key.
    pub const ALL: [Pane; 3] = [Pane::Instructions, Pane::Checks, Pane::Traffic];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Pane::Instructions => "Instructions",
            Pane::Checks => "Checks",
            Pane::Traffic => "Traffic",
        }
    }

    /// Its place in [`Pane::ALL`].
    pub fn index(self) -> usize {
        match self {
            Pane::Instructions => 0,
            Pane::Checks => 1,
            Pane::Traffic => 2,
        }
    }
}

/// What lies over the screen and takes the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlay {
    /// The keys.
    Help {
        /// Lines scrolled away.
        scroll: usize,
    },
    /// One message in full; it stays, even when the session has forgotten it.
    Message {
        /// The message.
        message: Box<MessageView>,
        /// Lines scrolled away.
        scroll: usize,
    },
    /// What happened so far.
    Notices {
        /// Lines scrolled away.
        scroll: usize,
    },
    /// A yes or no before something that cannot be undone.
    Confirm {
        /// The question.
        question: String,
        /// What is sent on yes, in order.
        commands: Vec<Command>,
    },
    /// A question of the lab.
    Question {
        /// The step.
        step: String,
        /// The check.
        check: String,
        /// The answer so far.
        input: Input,
    },
    /// A command to run in the student's shell.
    Prompt {
        /// The step it was opened in.
        step: String,
        /// How many of the lines are the lab's; the others are the student's, the last one empty.
        offered: usize,
        /// The lines, as they stand.
        lines: Vec<Field>,
        /// The place of the one that is shown.
        at: usize,
    },
    /// Where to capture.
    Captures {
        /// The chosen row.
        row: usize,
    },
}

/// An answer that is being given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Typed.
    Text(Field),
    /// Chosen.
    Choices {
        /// The row at the mark.
        row: usize,
        /// The keys chosen so far, where many may be.
        chosen: BTreeSet<String>,
    },
}

/// Something the session was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The number its reply will carry.
    pub id: u64,
    /// What is being waited for, in words.
    pub what: String,
    /// Whether a lab is there once it has finished.
    pub starts: bool,
}

/// Something told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// How loudly.
    pub level: NoticeLevel,
    /// What.
    pub text: String,
}

impl Model {
    /// The interface before anything is known.
    pub fn new(size: (u16, u16), theme: Theme) -> Model {
        Model {
            size,
            theme,
            link: Link::Connecting,
            snapshot: Snapshot::default(),
            labs: Vec::new(),
            screen: Screen::Labs,
            lab_row: 0,
            step: None,
            pane: Pane::Instructions,
            instructions_scroll: 0,
            check_row: 0,
            check_chosen: false,
            message: None,
            leaks_only: false,
            overlay: None,
            ran: Ran::default(),
            pending: Vec::new(),
            next_id: 1,
            told: None,
        }
    }

    /// The running session.
    pub fn session(&self) -> Option<&SessionView> {
        self.snapshot.session.as_ref()
    }

    /// The session, where its lab can be worked on.
    pub fn ready(&self) -> Option<&SessionView> {
        self.session().filter(|session| session.phase == Phase::Ready)
    }

    /// The step that is shown.
    pub fn current_step(&self) -> Option<&StepView> {
        let steps = &self.session()?.steps;
        self.step
            .as_ref()
            .and_then(|id| steps.iter().find(|step| &step.id == id))
            .or_else(|| steps.iter().find(|step| step.state == StepState::Open))
            .or_else(|| steps.last())
    }

    /// Its place among the steps.
    pub fn current_step_index(&self) -> usize {
        let current = self.current_step().map(|step| &step.id);
        self.session()
            .and_then(|session| session.steps.iter().position(|step| Some(&step.id) == current))
            .unwrap_or(0)
    }

    /// What has to be passed before a step can be worked on, by the numbers that the screen gives steps.
    pub fn locked_by(&self, step: &StepView) -> String {
        let steps = self.session().map_or(&[][..], |session| &session.steps);
        let needed = |other: &StepView| step.needs.contains(&other.id) && !other.state.is_done();
        let numbers: Vec<String> = (1_usize..)
            .zip(steps)
            .filter(|(_, other)| needed(other))
            .map(|(number, _)| number.to_string())
            .collect();
        match numbers.as_slice() {
            [one] => format!("pass step {one} first"),
            [most @ .., last] => format!("pass steps {} and {last} first", most.join(", ")),
            [] => "pass the steps before it first".to_owned(),
        }
    }

    /// The messages the traffic pane lists, in the order in which they began: what is long is complete only after shorter
    /// ones that it caused.
    pub fn messages(&self) -> Vec<&MessageView> {
        let all = self.session().map_or(&[][..], |session| &session.traffic.messages);
        let listed = |message: &&MessageView| !self.leaks_only || !message.leaks.is_empty();
        let mut messages: Vec<&MessageView> = all.iter().filter(listed).collect();
        messages.sort_by_key(|message| message.at_ms);
        messages
    }

    /// The place of the message at the mark among [`Model::messages`].
    pub fn message_row(&self, messages: &[&MessageView]) -> usize {
        let last = messages.len().saturating_sub(1);
        let place = |seq| {
            let marked = messages.iter().position(|message| message.seq == seq);
            marked.or_else(|| messages.iter().position(|message| message.seq > seq))
        };
        self.message.and_then(place).unwrap_or(last)
    }

    /// The first question of the step that is not answered rightly, the check at the mark before others.
    pub fn open_question(&self) -> Option<&str> {
        let step = self.current_step()?;
        let asks = |check: &&CheckView| check.question.is_some() && check.verdict != CheckState::Passed;
        let chosen = self.check_chosen && self.pane == Pane::Checks;
        let marked = step.checks.get(self.check_row).filter(|_| chosen).filter(asks);
        // One that is answered may wait for something else to be judged.
        let waits = |check: &&CheckView| {
            let answered = check
                .question
                .as_ref()
                .is_some_and(|question| question.answer.is_some());
            answered && check.verdict != CheckState::Failed
        };
        let open = || step.checks.iter().filter(asks);
        let next = || open().find(|check| !waits(check)).or_else(|| open().next());
        marked.or_else(next).map(|check| check.name.as_str())
    }

    /// Where keys are looked up, the narrowest place first.
    pub fn contexts(&self) -> Vec<Context> {
        match &self.overlay {
            Some(Overlay::Help { .. } | Overlay::Message { .. } | Overlay::Notices { .. }) => {
                vec![Context::Reading, Context::Everywhere]
            }
            Some(Overlay::Confirm { .. }) => vec![Context::Confirm],
            Some(Overlay::Prompt { .. }) => vec![Context::Prompt, Context::Editing],
            Some(Overlay::Captures { .. }) => vec![Context::Captures, Context::Everywhere],
            Some(Overlay::Question { input, .. }) => match input {
                Input::Text(_) => vec![Context::Typing, Context::Editing],
                Input::Choices { .. } => vec![Context::Choices, Context::Everywhere],
            },
            None => match (self.screen, self.pane) {
                (Screen::Labs, _) => vec![Context::Labs, Context::Everywhere],
                (Screen::Lab, _) if self.ready().is_none() => vec![Context::Waiting, Context::Everywhere],
                (Screen::Lab, Pane::Instructions) => vec![Context::Lab, Context::Everywhere],
                (Screen::Lab, Pane::Checks) => vec![Context::Checks, Context::Lab, Context::Everywhere],
                (Screen::Lab, Pane::Traffic) => vec![Context::Traffic, Context::Lab, Context::Everywhere],
            },
        }
    }
}
