//! The keys, as a table: what a key does where, and the words the help screen prints for it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Where keys are pressed; each place has its own meanings, looked up from the narrowest outwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Context {
    /// Anywhere but where text is typed.
    Everywhere,
    /// The list of labs.
    Labs,
    /// A lab.
    Lab,
    /// A lab that is being started, reset or stopped, or failed to be.
    Waiting,
    /// The traffic pane of a lab.
    Traffic,
    /// The checks pane of a lab.
    Checks,
    /// A text, a list of notices or the help, over everything.
    Reading,
    /// A question with choices.
    Choices,
    /// A question with an answer to type.
    Typing,
    /// The prompt.
    Prompt,
    /// Any line that is typed.
    Editing,
    /// A yes or no.
    Confirm,
    /// The choice of pods to capture in.
    Captures,
}

impl Context {
    /// Every context, in the order of the help screen.
    pub const ALL: [Context; 13] = [
        Context::Everywhere,
        Context::Labs,
        Context::Lab,
        Context::Checks,
        Context::Traffic,
        Context::Captures,
        Context::Choices,
        Context::Typing,
        Context::Prompt,
        Context::Editing,
        Context::Confirm,
        Context::Waiting,
        Context::Reading,
    ];

    /// Its heading on the help screen.
    pub fn title(self) -> &'static str {
        match self {
            Context::Everywhere => "Everywhere",
            Context::Labs => "List of labs",
            Context::Lab => "Lab",
            Context::Waiting => "A lab that is not ready",
            Context::Traffic => "Traffic",
            Context::Checks => "Checks",
            Context::Reading => "Reading (help, message, notices)",
            Context::Choices => "A question with choices",
            Context::Typing => "A question to type an answer to",
            Context::Prompt => "Your prompt",
            Context::Editing => "Typing",
            Context::Confirm => "Yes or no",
            Context::Captures => "Where to capture",
        }
    }
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // Each is told in the table below, which is what the student reads.
pub enum Action {
    Quit,
    Help,
    Redraw,
    Notices,
    Back,
    Up,
    Down,
    PageUp,
    PageDown,
    Top,
    Bottom,
    Open,
    Fresh,
    StopLab,
    NextPane,
    PreviousPane,
    Instructions,
    Checks,
    Traffic,
    NextStep,
    PreviousStep,
    Check,
    Hint,
    Capture,
    Answer,
    Reset,
    ResetStep,
    Shell,
    Prompt,
    Run,
    Pause,
    LeaksOnly,
    Follow,
    Toggle,
    Send,
    Yes,
    No,
    Erase,
    Delete,
    EraseWord,
    EraseAll,
    Left,
    Right,
    LineStart,
    LineEnd,
    WordLeft,
    WordRight,
}

/// A key on the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A character, with shift already in it.
    Char(char),
    /// A letter with control.
    Ctrl(char),
    /// A character with alt.
    Alt(char),
    /// An arrow with control or alt: terminals differ in which one they pass on.
    Far(KeyCode),
    /// A key that is no character.
    Code(KeyCode),
}

impl Key {
    /// The key of an event.
    pub fn of(event: KeyEvent) -> Key {
        match event.code {
            KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::CONTROL) => Key::Ctrl(c.to_ascii_lowercase()),
            KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::ALT) => Key::Alt(c),
            KeyCode::Char(c) => Key::Char(c),
            code @ (KeyCode::Left | KeyCode::Right)
                if event.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) =>
            {
                Key::Far(code)
            }
            code => Key::Code(code),
        }
    }

    /// Its name, for the help screen.
    pub fn name(self) -> String {
        match self {
            Key::Char(' ') => "space".to_owned(),
            Key::Char(c) => c.to_string(),
            Key::Ctrl(c) => format!("ctrl-{c}"),
            Key::Alt(c) => format!("alt-{c}"),
            Key::Far(code) => format!("ctrl-{}", Key::Code(code).name()),
            Key::Code(code) => match code {
                KeyCode::Up => "↑".to_owned(),
                KeyCode::Down => "↓".to_owned(),
                KeyCode::Left => "←".to_owned(),
                KeyCode::Right => "→".to_owned(),
                KeyCode::BackTab => "shift-tab".to_owned(),
                KeyCode::PageUp => "page-up".to_owned(),
                KeyCode::PageDown => "page-down".to_owned(),
                KeyCode::F(number) => format!("f{number}"),
                other => format!("{other:?}").to_ascii_lowercase(),
            },
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Binding {
    /// Where.
    pub context: Context,
    /// Which keys; the first is the one shown in the bar at the bottom.
    pub keys: &'static [Key],
    /// What they do.
    pub action: Action,
    /// A word for the bar at the bottom; empty where the bar leaves it out.
    pub word: &'static str,
    /// A sentence for the help screen.
    pub help: &'static str,
}

const fn row(
    context: Context,
    keys: &'static [Key],
    action: Action,
    word: &'static str,
    help: &'static str,
) -> Binding {
    Binding {
        context,
        keys,
        action,
        word,
        help,
    }
}

use Key::{Alt, Char, Code, Ctrl, Far};

const ENTER: Key = Code(KeyCode::Enter);
const ESC: Key = Code(KeyCode::Esc);
const UP: Key = Code(KeyCode::Up);
const DOWN: Key = Code(KeyCode::Down);
const LEFT: Key = Code(KeyCode::Left);
const RIGHT: Key = Code(KeyCode::Right);

/// Every key there is.
pub const TABLE: &[Binding] = &[
    row(
        Context::Everywhere,
        &[Char('?'), Code(KeyCode::F(1))],
        Action::Help,
        "help",
        "this help",
    ),
    row(
        Context::Everywhere,
        &[Char('q'), Ctrl('c')],
        Action::Quit,
        "quit",
        "leave; the lab and its cluster go on",
    ),
    row(
        Context::Everywhere,
        &[Char('n')],
        Action::Notices,
        "",
        "what happened so far",
    ),
    row(
        Context::Everywhere,
        &[Ctrl('l')],
        Action::Redraw,
        "",
        "draw the screen anew",
    ),
    row(Context::Everywhere, &[UP, Char('k')], Action::Up, "", "up"),
    row(Context::Everywhere, &[DOWN, Char('j')], Action::Down, "", "down"),
    row(
        Context::Everywhere,
        &[Code(KeyCode::PageUp), Ctrl('b')],
        Action::PageUp,
        "",
        "a page up",
    ),
    row(
        Context::Everywhere,
        &[Code(KeyCode::PageDown), Ctrl('f'), Char(' ')],
        Action::PageDown,
        "",
        "a page down",
    ),
    row(
        Context::Everywhere,
        &[Code(KeyCode::Home), Char('g')],
        Action::Top,
        "",
        "to the beginning",
    ),
    row(
        Context::Everywhere,
        &[Code(KeyCode::End), Char('G')],
        Action::Bottom,
        "",
        "to the end",
    ),
    row(
        Context::Labs,
        &[ENTER],
        Action::Open,
        "start",
        "start the lab, or go on with it",
    ),
    row(
        Context::Labs,
        &[Char('f')],
        Action::Fresh,
        "afresh",
        "start the lab from nothing, forgetting its progress",
    ),
    row(
        Context::Labs,
        &[Char('x')],
        Action::StopLab,
        "stop",
        "stop the lab that is running; its cluster stays",
    ),
    row(
        Context::Lab,
        &[Char('p')],
        Action::Prompt,
        "run",
        "your prompt, with the step's next command typed in: change it, enter runs it",
    ),
    row(
        Context::Lab,
        &[Char('c')],
        Action::Check,
        "check",
        "run the checks of this step",
    ),
    row(
        Context::Lab,
        &[Char('a'), ENTER],
        Action::Answer,
        "answer",
        "answer the step's question",
    ),
    row(
        Context::Lab,
        &[Char('t')],
        Action::Capture,
        "capture",
        "choose the pods to capture in",
    ),
    row(
        Context::Lab,
        &[Char('h')],
        Action::Hint,
        "hint",
        "open the next hint; some cost points",
    ),
    row(
        Context::Lab,
        &[Char('s')],
        Action::Shell,
        "shell",
        "your shell, with KUBECONFIG set; exit comes back here",
    ),
    row(
        Context::Lab,
        &[Char('r')],
        Action::Reset,
        "reset",
        "back to the start of the lab: a pristine cluster, no points",
    ),
    row(
        Context::Lab,
        &[Char('R')],
        Action::ResetStep,
        "",
        "back to the start of this step: cluster and files as they were when it was opened",
    ),
    row(Context::Lab, &[RIGHT, Char(']')], Action::NextStep, "", "the next step"),
    row(
        Context::Lab,
        &[LEFT, Char('[')],
        Action::PreviousStep,
        "",
        "the step before",
    ),
    row(
        Context::Lab,
        &[Code(KeyCode::Tab)],
        Action::NextPane,
        "",
        "the next pane",
    ),
    row(
        Context::Lab,
        &[Code(KeyCode::BackTab)],
        Action::PreviousPane,
        "",
        "the pane before",
    ),
    row(Context::Lab, &[Char('1')], Action::Instructions, "", "the instructions"),
    row(Context::Lab, &[Char('2')], Action::Checks, "", "the checks"),
    row(Context::Lab, &[Char('3')], Action::Traffic, "", "the traffic"),
    row(
        Context::Lab,
        &[ESC],
        Action::Back,
        "labs",
        "to the list of labs; this lab goes on",
    ),
    row(
        Context::Lab,
        &[Char('z')],
        Action::Pause,
        "",
        "rest: the cluster is stopped and takes no memory, and the time does not count",
    ),
    row(
        Context::Checks,
        &[ENTER],
        Action::Answer,
        "",
        "answer the question of the check at the mark",
    ),
    row(
        Context::Traffic,
        &[ENTER],
        Action::Open,
        "",
        "read the message at the mark",
    ),
    row(
        Context::Traffic,
        &[Char('l')],
        Action::LeaksOnly,
        "leaks only",
        "only messages that leak something, or all",
    ),
    row(
        Context::Traffic,
        &[Char('f')],
        Action::Follow,
        "follow",
        "follow the newest message",
    ),
    row(
        Context::Captures,
        &[ENTER, Char(' ')],
        Action::Toggle,
        "start/stop",
        "start a capture in this pod, or stop it",
    ),
    row(Context::Captures, &[ESC, Char('t')], Action::Back, "close", "close"),
    row(
        Context::Choices,
        &[Char(' ')],
        Action::Toggle,
        "choose",
        "choose this one, or no longer; its letter does too",
    ),
    row(Context::Choices, &[ENTER], Action::Send, "answer", "answer"),
    row(
        Context::Choices,
        &[ESC],
        Action::Back,
        "cancel",
        "close without an answer",
    ),
    row(Context::Typing, &[ENTER], Action::Send, "answer", "answer"),
    row(
        Context::Typing,
        &[ESC, Ctrl('c')],
        Action::Back,
        "cancel",
        "close without an answer",
    ),
    row(Context::Prompt, &[ENTER], Action::Run, "run", "run it in your shell"),
    row(
        Context::Prompt,
        &[DOWN],
        Action::Down,
        "next",
        "the next command of the lab, then yours",
    ),
    row(Context::Prompt, &[UP], Action::Up, "before", "the command before"),
    row(
        Context::Prompt,
        &[ESC, Ctrl('c')],
        Action::Back,
        "close",
        "close, and run nothing",
    ),
    row(
        Context::Editing,
        &[Code(KeyCode::Backspace), Ctrl('h')],
        Action::Erase,
        "",
        "erase a character",
    ),
    row(
        Context::Editing,
        &[Code(KeyCode::Delete), Ctrl('d')],
        Action::Delete,
        "",
        "erase the character at the cursor",
    ),
    row(Context::Editing, &[Ctrl('w')], Action::EraseWord, "", "erase a word"),
    row(Context::Editing, &[Ctrl('u')], Action::EraseAll, "", "erase everything"),
    row(Context::Editing, &[LEFT, Ctrl('b')], Action::Left, "", "left"),
    row(Context::Editing, &[RIGHT, Ctrl('f')], Action::Right, "", "right"),
    row(
        Context::Editing,
        &[Far(KeyCode::Left), Alt('b')],
        Action::WordLeft,
        "",
        "a word left",
    ),
    row(
        Context::Editing,
        &[Far(KeyCode::Right), Alt('f')],
        Action::WordRight,
        "",
        "a word right",
    ),
    row(
        Context::Editing,
        &[Code(KeyCode::Home), Ctrl('a')],
        Action::LineStart,
        "",
        "to the beginning",
    ),
    row(
        Context::Editing,
        &[Code(KeyCode::End), Ctrl('e')],
        Action::LineEnd,
        "",
        "to the end",
    ),
    row(Context::Confirm, &[Char('y')], Action::Yes, "yes", "yes"),
    row(
        Context::Confirm,
        &[Char('n'), ESC, ENTER, Ctrl('c')],
        Action::No,
        "no",
        "no",
    ),
    row(
        Context::Waiting,
        &[ESC, ENTER],
        Action::Back,
        "labs",
        "to the list of labs; what goes on goes on",
    ),
    row(Context::Waiting, &[Char('z')], Action::Pause, "", "go on after a rest"),
    row(Context::Reading, &[ESC, ENTER], Action::Back, "close", "close"),
];

/// What `key` means where `contexts` hold, the first of them counting most.
pub fn lookup(contexts: &[Context], key: Key) -> Option<Action> {
    contexts.iter().find_map(|context| {
        TABLE
            .iter()
            .find(|binding| binding.context == *context && binding.keys.contains(&key))
            .map(|binding| binding.action)
    })
}

/// The keys of the bar at the bottom: those of `contexts` that have a word, the narrowest place first.
pub fn bar(contexts: &[Context]) -> impl Iterator<Item = &'static Binding> {
    contexts.iter().flat_map(|context| {
        let context = *context;
        TABLE
            .iter()
            .filter(move |binding| binding.context == context && !binding.word.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_key_means_one_thing_in_one_place() {
        let mut seen = HashSet::new();
        for binding in TABLE {
            assert!(!binding.help.is_empty());
            for key in binding.keys {
                assert!(
                    seen.insert(format!("{:?} {key:?}", binding.context)),
                    "{:?} twice in {:?}",
                    key,
                    binding.context
                );
            }
        }
    }

    #[test]
    fn every_context_has_keys_and_is_in_the_help() {
        for binding in TABLE {
            assert!(Context::ALL.contains(&binding.context));
        }
        for context in Context::ALL {
            assert!(TABLE.iter().any(|binding| binding.context == context), "{context:?}");
        }
    }

    #[test]
    fn the_narrowest_place_counts() {
        let traffic = [Context::Traffic, Context::Lab, Context::Everywhere];
        assert_eq!(lookup(&traffic, ENTER), Some(Action::Open));
        assert_eq!(lookup(&traffic, Char('c')), Some(Action::Check));
        assert_eq!(lookup(&traffic, Char('q')), Some(Action::Quit));
        assert_eq!(lookup(&[Context::Typing], Char('q')), None);
    }

    #[test]
    fn shift_and_control_are_understood() {
        assert_eq!(
            Key::of(KeyEvent::new(KeyCode::Char('C'), KeyModifiers::CONTROL)),
            Ctrl('c')
        );
        assert_eq!(
            Key::of(KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT)),
            Char('G')
        );
    }
}
