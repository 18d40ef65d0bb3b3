use crossterm::event::KeyEventState;

use super::*;
use crate::{
    score::Points,
    session::snapshot::{ChoiceView, MessageView, Notice, Phase, QuestionView},
    tui::fixture::{NOON, model, session},
};

fn press(model: &mut Model, key: &str) -> Vec<Effect> {
    let (code, modifiers) = match key {
        "enter" => (KeyCode::Enter, KeyModifiers::NONE),
        "esc" => (KeyCode::Esc, KeyModifiers::NONE),
        "tab" => (KeyCode::Tab, KeyModifiers::NONE),
        "up" => (KeyCode::Up, KeyModifiers::NONE),
        "down" => (KeyCode::Down, KeyModifiers::NONE),
        "right" => (KeyCode::Right, KeyModifiers::NONE),
        "left" => (KeyCode::Left, KeyModifiers::NONE),
        "home" => (KeyCode::Home, KeyModifiers::NONE),
        "end" => (KeyCode::End, KeyModifiers::NONE),
        "backspace" => (KeyCode::Backspace, KeyModifiers::NONE),
        "ctrl-c" => (KeyCode::Char('c'), KeyModifiers::CONTROL),
        "ctrl-u" => (KeyCode::Char('u'), KeyModifiers::CONTROL),
        "ctrl-w" => (KeyCode::Char('w'), KeyModifiers::CONTROL),
        "ctrl-l" => (KeyCode::Char('l'), KeyModifiers::CONTROL),
        "space" => (KeyCode::Char(' '), KeyModifiers::NONE),
        other => (KeyCode::Char(other.chars().next().unwrap()), KeyModifiers::NONE),
    };
    update(model, Msg::Key(KeyEvent::new(code, modifiers)))
}

fn type_in(model: &mut Model, text: &str) {
    for c in text.chars() {
        update(model, Msg::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE)));
    }
}

fn sent(effects: &[Effect]) -> Vec<Command> {
    effects
        .iter()
        .flat_map(|effect| match effect {
            Effect::Send { commands, .. } => commands.clone(),
            _ => Vec::new(),
        })
        .collect()
}

fn told(model: &Model) -> &str {
    model.told.as_ref().map_or("", |told| told.text.as_str())
}

#[test]
fn keys_send_what_they_say() {
    let check = Command::Check {
        step: Some("listen".to_owned()),
    };
    assert_eq!(sent(&press(&mut model(80, 24), "c")), [check]);
    assert_eq!(press(&mut model(80, 24), "q"), [Effect::Quit]);
    assert_eq!(press(&mut model(80, 24), "ctrl-c"), [Effect::Quit]);
    assert_eq!(press(&mut model(80, 24), "ctrl-l"), [Effect::Redraw]);
    assert_eq!(
        press(&mut model(80, 24), "s"),
        [Effect::Shell {
            command: None,
            kubeconfig: session().kubeconfig.unwrap(),
            label: "wiretap".to_owned(),
            work: session().work
        }]
    );
}

#[test]
fn what_cannot_be_undone_is_asked_first_and_enter_means_no() {
    for (key, command) in [
        ("r", Command::Reset { step: None }),
        (
            "R",
            Command::Reset {
                step: Some("listen".to_owned()),
            },
        ),
        (
            "h",
            Command::Hint {
                step: "listen".to_owned(),
            },
        ),
    ] {
        let mut m = model(80, 24);
        assert!(sent(&press(&mut m, key)).is_empty());
        assert!(matches!(m.overlay, Some(Overlay::Confirm { .. })), "{key}");
        assert!(sent(&press(&mut m, "enter")).is_empty());
        assert!(m.overlay.is_none());
        press(&mut m, key);
        assert_eq!(sent(&press(&mut m, "y")), [command]);
    }
}

#[test]
fn a_hint_that_costs_nothing_opens_at_once() {
    let mut m = model(80, 24);
    m.snapshot.session.as_mut().unwrap().steps[0].next_hint = Some(Points(0));
    assert_eq!(sent(&press(&mut m, "h")).len(), 1);
    m.snapshot.session.as_mut().unwrap().steps[0].next_hint = None;
    assert!(sent(&press(&mut m, "h")).is_empty());
    assert!(told(&m).contains("no further hint"));
}

#[test]
fn a_locked_step_says_what_it_needs() {
    let mut m = model(80, 24);
    press(&mut m, "right");
    press(&mut m, "right");
    press(&mut m, "right");
    assert_eq!(m.current_step().unwrap().id, "replay");
    for key in ["c", "a", "h"] {
        assert!(sent(&press(&mut m, key)).is_empty());
        assert!(told(&m).contains("pass step 1 first"), "{key}: {}", told(&m));
    }
    press(&mut m, "left");
    assert_eq!(m.current_step().unwrap().id, "gaps");
}

#[test]
fn an_answer_is_typed_edited_and_sent() {
    let mut m = model(80, 24);
    press(&mut m, "a");
    type_in(&mut m, "q411 x");
    press(&mut m, "backspace");
    press(&mut m, "home");
    press(&mut m, "right");
    press(&mut m, "backspace");
    press(&mut m, "end");
    update(&mut m, Msg::Paste("11\n11\x1b".to_owned()));
    let effects = press(&mut m, "enter");
    assert_eq!(
        sent(&effects),
        [Command::Answer {
            step: "listen".to_owned(),
            check: "you found the card number".to_owned(),
            value: "411 11 11".to_owned()
        }]
    );
    assert!(m.overlay.is_none());
}

#[test]
fn an_empty_answer_is_not_sent_and_escape_sends_nothing() {
    let mut m = model(80, 24);
    press(&mut m, "a");
    assert!(sent(&press(&mut m, "enter")).is_empty());
    assert!(m.overlay.is_some());
    assert!(press(&mut m, "esc").is_empty());
    assert!(m.overlay.is_none());
    press(&mut m, "a");
    type_in(&mut m, "abc");
    press(&mut m, "ctrl-u");
    assert!(sent(&press(&mut m, "enter")).is_empty());
    assert!(
        press(&mut m, "ctrl-c").is_empty(),
        "ctrl-c closes the question, not the program"
    );
}

#[test]
fn choices_are_marked_by_space_or_letter() {
    let mut m = model(80, 24);
    press(&mut m, "right");
    press(&mut m, "a");
    press(&mut m, "space");
    press(&mut m, "b");
    press(&mut m, "down");
    press(&mut m, "space");
    press(&mut m, "c");
    assert_eq!(
        sent(&press(&mut m, "enter")),
        [Command::Answer {
            step: "gaps".to_owned(),
            check: "what is missing".to_owned(),
            value: "a,b".to_owned()
        }]
    );
}

#[test]
fn of_choices_with_one_right_answer_enter_takes_the_one_at_the_mark() {
    let mut m = model(80, 24);
    let question = m.snapshot.session.as_mut().unwrap().steps[1].checks[0]
        .question
        .as_mut()
        .unwrap();
    question.many = false;
    question.choices.push(ChoiceView {
        key: "q".to_owned(),
        text: "a letter that is also a key".to_owned(),
    });
    press(&mut m, "right");
    press(&mut m, "a");
    press(&mut m, "down");
    let value = |effects: Vec<Effect>| match sent(&effects).pop() {
        Some(Command::Answer { value, .. }) => value,
        other => panic!("{other:?}"),
    };
    assert_eq!(value(press(&mut m, "enter")), "b");
    press(&mut m, "a");
    press(&mut m, "a");
    assert!(press(&mut m, "q").is_empty(), "the letter of a choice is not quit");
    assert_eq!(value(press(&mut m, "enter")), "q");
}

#[test]
fn captures_start_and_stop_by_pod() {
    let mut m = model(80, 24);
    press(&mut m, "t");
    assert_eq!(
        sent(&press(&mut m, "enter")),
        [Command::CaptureStart {
            pod: "frontend".to_owned(),
            filter: None,
            seconds: None
        }]
    );
    assert_eq!(m.pane, Pane::Traffic);
    press(&mut m, "t");
    press(&mut m, "down");
    press(&mut m, "down");
    assert_eq!(
        sent(&press(&mut m, "space")),
        [Command::CaptureStop {
            pod: Some("payments-api".to_owned())
        }]
    );
    for _ in 0..20 {
        press(&mut m, "down");
    }
    assert_eq!(m.overlay, Some(Overlay::Captures { row: 4 }));
}

#[test]
fn the_mark_leaves_the_newest_message_and_comes_back() {
    let mut m = model(80, 24);
    press(&mut m, "3");
    press(&mut m, "up");
    assert_eq!(m.message, Some(7));
    press(&mut m, "enter");
    assert!(matches!(&m.overlay, Some(Overlay::Message { message, .. }) if message.seq == 7));
    press(&mut m, "esc");
    press(&mut m, "down");
    assert_eq!(m.message, None, "at the end the pane follows again");
    press(&mut m, "l");
    assert_eq!(m.messages().len(), 1);
}

#[test]
fn messages_are_listed_in_the_order_in_which_they_began() {
    let mut m = model(80, 24);
    let messages = &mut m.snapshot.session.as_mut().unwrap().traffic.messages;
    // It was complete last, and began first.
    let (seq, at_ms) = (9, messages[0].at_ms - 5);
    messages.push(MessageView {
        seq,
        at_ms,
        ..messages[0].clone()
    });
    let listed: Vec<u64> = m.messages().iter().map(|message| message.seq).collect();
    assert_eq!(listed, [9, 7, 8]);
    press(&mut m, "3");
    for marked in [7, 9] {
        press(&mut m, "up");
        assert_eq!(m.message, Some(marked));
    }
    press(&mut m, "down");
    assert_eq!(m.message, Some(7));
}

#[test]
fn starting_another_lab_stops_the_one_that_runs_after_asking() {
    let mut m = model(80, 24);
    press(&mut m, "esc");
    assert_eq!(m.screen, Screen::Labs);
    press(&mut m, "enter");
    assert_eq!(m.screen, Screen::Lab, "the running lab is only shown");
    press(&mut m, "esc");
    press(&mut m, "down");
    assert!(sent(&press(&mut m, "enter")).is_empty());
    let commands = sent(&press(&mut m, "y"));
    assert!(
        matches!(&commands[..], [Command::Stop { delete: false }, Command::Start { lab, fresh: false, .. }] if lab == "perimeter"),
        "{commands:?}"
    );
}

#[test]
fn a_broken_lab_is_not_started() {
    let mut m = model(80, 24);
    m.snapshot.session = None;
    m.screen = Screen::Labs;
    m.lab_row = 2;
    assert!(press(&mut m, "enter").is_empty());
    assert!(told(&m).contains("broken"));
}

#[test]
fn a_failed_lab_can_be_started_again() {
    let mut m = model(80, 24);
    m.snapshot.session.as_mut().unwrap().phase = Phase::Failed("no user namespace".to_owned());
    press(&mut m, "esc");
    assert_eq!(sent(&press(&mut m, "enter")).len(), 1);
}

#[test]
fn keys_wait_for_the_host_and_for_the_lab() {
    let mut m = model(80, 24);
    m.link = Link::Down("it went away".to_owned());
    assert!(press(&mut m, "c").is_empty());
    assert!(told(&m).contains("session host"));
    m.link = Link::Up;
    m.snapshot.session.as_mut().unwrap().phase = Phase::Starting;
    m.told = None;
    for key in ["c", "a", "t", "h", "r", "s"] {
        assert!(press(&mut m, key).is_empty(), "{key}");
        assert!(m.overlay.is_none(), "{key}");
    }
}

#[test]
fn replies_end_the_waiting_and_are_told() {
    let mut m = model(80, 24);
    let Some(Effect::Send { id, .. }) = press(&mut m, "c").pop() else {
        panic!()
    };
    assert_eq!(m.pending.len(), 1);
    let refusal = Refusal {
        message: "step `x` is not there".to_owned(),
        hint: Some("look at the list".to_owned()),
    };
    let reply = Ok(Reply::Refused(refusal));
    update(&mut m, Msg::Replied { id, reply });
    assert!(m.pending.is_empty());
    assert_eq!(told(&m), "step `x` is not there; look at the list");
}

#[test]
fn an_older_snapshot_changes_nothing_unless_the_host_is_new() {
    let mut m = model(80, 24);
    let old = Snapshot {
        revision: 3,
        session: None,
    };
    update(&mut m, Msg::Snapshot(Box::new(old.clone())));
    assert!(m.session().is_some());
    update(&mut m, Msg::Link(Link::Down("gone".to_owned())));
    update(&mut m, Msg::Link(Link::Up));
    update(&mut m, Msg::Snapshot(Box::new(old)));
    assert!(m.session().is_none());
    assert_eq!(m.screen, Screen::Labs);
}

#[test]
fn the_labs_are_asked_for_and_outlive_snapshots() {
    let mut m = model(80, 24);
    m.labs.clear();
    m.link = Link::Connecting;
    assert_eq!(sent(&update(&mut m, Msg::Link(Link::Up))), [Command::Labs]);
    let labs = crate::tui::fixture::labs();
    let (id, reply) = (m.pending[0].id, Ok(Reply::Labs { labs: labs.clone() }));
    update(&mut m, Msg::Replied { id, reply });
    let mut next = m.snapshot.clone();
    next.revision += 1;
    update(&mut m, Msg::Snapshot(Box::new(next)));
    assert_eq!(m.labs, labs);
    assert_eq!(sent(&press(&mut m, "esc")), [Command::Labs], "scores may have changed");
}

#[test]
fn between_two_labs_the_screen_waits_for_the_second() {
    let mut m = model(80, 24);
    press(&mut m, "esc");
    press(&mut m, "down");
    press(&mut m, "enter");
    press(&mut m, "y");
    let mut next = m.snapshot.clone();
    next.revision += 1;
    next.session = None;
    update(&mut m, Msg::Snapshot(Box::new(next)));
    assert_eq!(m.screen, Screen::Lab);
}

#[test]
fn news_of_the_session_is_told_once() {
    let mut m = model(80, 24);
    let mut next = m.snapshot.clone();
    next.revision += 1;
    next.session.as_mut().unwrap().log.push(Notice {
        at_ms: NOON + 1,
        level: NoticeLevel::Success,
        text: "step listen passed".to_owned(),
    });
    update(&mut m, Msg::Snapshot(Box::new(next.clone())));
    assert_eq!(told(&m), "step listen passed");
    m.told = None;
    next.revision += 1;
    update(&mut m, Msg::Snapshot(Box::new(next)));
    assert_eq!(told(&m), "");
}

#[test]
fn what_is_not_answered_is_asked_before_what_waits_to_be_judged() {
    let mut m = model(80, 24);
    m.pane = Pane::Checks;
    let at = m.current_step_index();
    let checks = &mut m.snapshot.session.as_mut().unwrap().steps[at].checks;
    let question = checks.iter().find_map(|check| check.question.clone()).unwrap();
    for (check, answer) in checks.iter_mut().zip([Some("a"), None]) {
        check.verdict = CheckState::Undetermined;
        let answer = answer.map(str::to_owned);
        check.question = Some(QuestionView {
            answer,
            ..question.clone()
        });
    }
    let names: Vec<String> = checks.iter().map(|check| check.name.clone()).collect();
    assert_eq!(m.open_question(), Some(names[1].as_str()));
    // Unless the student goes to the other.
    press(&mut m, "down");
    press(&mut m, "up");
    assert_eq!(m.open_question(), Some(names[0].as_str()));
    m.snapshot.session.as_mut().unwrap().steps[at].checks[0].verdict = CheckState::Failed;
    m.check_chosen = false;
    assert_eq!(
        m.open_question(),
        Some(names[0].as_str()),
        "one that failed may be answered again"
    );
}

#[test]
fn a_step_that_passes_stays_until_the_student_goes_on() {
    let mut m = model(80, 24);
    let mut next = m.snapshot.clone();
    next.revision += 1;
    let steps = &mut next.session.as_mut().unwrap().steps;
    steps[0].state = StepState::Passed;
    steps[2].state = StepState::Open;
    update(&mut m, Msg::Snapshot(Box::new(next)));
    assert_eq!(m.current_step().unwrap().id, "listen");
    assert!(told(&m).contains("step listen is passed"), "{}", told(&m));
    m.pane = Pane::Checks;
    press(&mut m, "right");
    assert_eq!(m.current_step().unwrap().id, "gaps");
    assert_eq!(m.pane, Pane::Instructions, "what a new step asks for comes first");
}

#[test]
fn the_last_step_that_passes_leads_to_what_is_to_be_kept() {
    let mut m = model(80, 24);
    let mut next = m.snapshot.clone();
    next.revision += 1;
    for step in &mut next.session.as_mut().unwrap().steps {
        step.state = StepState::Passed;
    }
    update(&mut m, Msg::Snapshot(Box::new(next)));
    assert!(told(&m).contains("every step is; 1 shows what to keep"), "{}", told(&m));
    assert!(!told(&m).contains("next step"), "{}", told(&m));
}

#[test]
fn the_checks_of_a_step_that_was_begun_stay_in_sight() {
    let mut m = model(80, 24);
    m.pane = Pane::Checks;
    let mut next = m.snapshot.clone();
    next.revision += 1;
    let id = m.current_step().unwrap().id.clone();
    let at = m.current_step_index();
    let steps = &mut next.session.as_mut().unwrap().steps;
    assert!(steps.len() > at + 1, "there is a step after {id}");
    steps[at + 1].earned = Points(5);
    update(&mut m, Msg::Snapshot(Box::new(next)));
    press(&mut m, "right");
    assert_ne!(m.current_step().unwrap().id, id);
    assert_eq!(m.pane, Pane::Checks);
}

#[test]
fn releases_of_keys_do_nothing() {
    let mut m = model(80, 24);
    let event = KeyEvent {
        code: KeyCode::Char('q'),
        modifiers: KeyModifiers::NONE,
        kind: KeyEventKind::Release,
        state: KeyEventState::NONE,
    };
    assert!(update(&mut m, Msg::Key(event)).is_empty());
}

#[test]
fn panes_turn_round() {
    let mut m = model(80, 24);
    let panes: Vec<Pane> = (0..4)
        .map(|_| {
            press(&mut m, "tab");
            m.pane
        })
        .collect();
    assert_eq!(panes, [Pane::Checks, Pane::Traffic, Pane::Instructions, Pane::Checks]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn no_order_of_keys_panics(keys in proptest::collection::vec("[a-z1-3?G \\[\\]]|enter|esc|tab|up|down|right|left|home|end|backspace|space", 0..60), columns in 20_u16..160, rows in 5_u16..50) {
        let mut m = model(columns, rows);
        for key in keys {
            press(&mut m, &key);
            let mut terminal = ratatui::Terminal::new(ratatui::backend::TestBackend::new(columns, rows)).unwrap();
            terminal.draw(|frame| crate::tui::views::draw(frame, &m)).unwrap();
        }
    }
}

/// A model whose step offers two commands, the second to be changed before it is run.
fn offering() -> Model {
    let mut m = model(80, 24);
    let session = m.snapshot.session.as_mut().unwrap();
    session.steps[0].instructions =
        "Look.\n\n```run\nkubectl get pods\n```\n\n```run\ncurl -H 'KEY' \\\n  url\n```\n".to_owned();
    session.steps[0].hints.clear();
    m
}

/// What stands at the prompt.
fn at_prompt(m: &Model) -> String {
    match &m.overlay {
        Some(Overlay::Prompt { lines, at, .. }) => lines[*at].text.iter().collect(),
        other => panic!("{other:?}"),
    }
}

fn ran(effects: &[Effect]) -> Option<&str> {
    match effects {
        [Effect::Shell { command, .. }] => command.as_deref(),
        _ => None,
    }
}

#[test]
fn the_prompt_offers_the_next_command_and_only_enter_runs_it() {
    let mut m = offering();
    assert_eq!(press(&mut m, "p"), []);
    assert_eq!(at_prompt(&m), "kubectl get pods");
    assert_eq!(press(&mut m, "esc"), []);
    assert_eq!(m.overlay, None, "nothing was run");
    press(&mut m, "p");
    assert_eq!(at_prompt(&m), "kubectl get pods", "so it is still the next one");
    assert_eq!(ran(&press(&mut m, "enter")), Some("kubectl get pods"));
    press(&mut m, "p");
    assert_eq!(at_prompt(&m), "curl -H 'KEY' url");
    // Back over ` url` and the quote.
    for _ in 0..5 {
        press(&mut m, "left");
    }
    press(&mut m, "ctrl-w");
    assert_eq!(at_prompt(&m), "curl -H ' url");
    assert_eq!(press(&mut m, "enter"), [], "half a command is not run");
    assert!(told(&m).contains("goes on in the next line"), "{}", told(&m));
    press(&mut m, "backspace");
    type_in(&mut m, "q7");
    assert_eq!(ran(&press(&mut m, "enter")), None);
    press(&mut m, "end");
    press(&mut m, "ctrl-u");
    type_in(&mut m, "curl -H 'q7' url");
    assert_eq!(ran(&press(&mut m, "enter")), Some("curl -H 'q7' url"));
    // All were run: an empty line waits, and those before are above it.
    press(&mut m, "p");
    assert_eq!(at_prompt(&m), "");
    assert_eq!(press(&mut m, "enter"), []);
    press(&mut m, "up");
    assert_eq!(at_prompt(&m), "curl -H 'q7' url");
    press(&mut m, "up");
    assert_eq!(at_prompt(&m), "curl -H 'KEY' url");
}

#[test]
fn a_command_that_hides_something_never_stands_at_the_prompt() {
    let mut m = offering();
    let session = m.snapshot.session.as_mut().unwrap();
    session.steps[0].instructions =
        "```run\nls \u{202e}x\n```\n```run\ncat <<EOF\nrm -rf x\nEOF\n```\n```run\nls\n```\n".to_owned();
    press(&mut m, "p");
    assert_eq!(at_prompt(&m), "ls");
    assert!(told(&m).contains("no prompt can take"), "{}", told(&m));
    press(&mut m, "down");
    assert_eq!(at_prompt(&m), "", "there is no other");
    update(&mut m, Msg::Paste("ls\nrm -rf x\n".to_owned()));
    assert_eq!(at_prompt(&m), "");
    assert!(told(&m).contains("one line"), "{}", told(&m));
    update(&mut m, Msg::Paste("ls\u{200b}\u{1b}[8m -l\n".to_owned()));
    assert_eq!(at_prompt(&m), "ls[8m -l");
    assert!(told(&m).contains("cannot be seen"), "{}", told(&m));
}

#[test]
fn a_rest_is_begun_and_ended_with_the_same_key() {
    let mut m = offering();
    assert_eq!(sent(&press(&mut m, "z")), [Command::Pause]);
    m.snapshot.session.as_mut().unwrap().phase = Phase::Paused;
    assert_eq!(sent(&press(&mut m, "z")), [Command::Resume]);
    m.snapshot.session.as_mut().unwrap().phase = Phase::Starting;
    assert_eq!(sent(&press(&mut m, "z")), []);
    assert!(told(&m).contains("not paused"), "{}", told(&m));
}

#[test]
fn the_prompt_shows_the_text_that_leads_to_its_command() {
    let mut m = offering();
    let session = m.snapshot.session.as_mut().unwrap();
    let text = "word ".repeat(200);
    session.steps[0].instructions = format!(
        "```run\nkubectl exec -n shop deploy/mallory -- one\n```\n\n{text}\n\n```run\nkubectl exec -n shop deploy/mallory -- two\n```\n\n{text}"
    );
    press(&mut m, "p");
    let first = m.instructions_scroll;
    press(&mut m, "down");
    assert_eq!(at_prompt(&m), "kubectl exec -n shop deploy/mallory -- two");
    assert!(m.instructions_scroll > first, "the two begin alike: {first}");
    press(&mut m, "up");
    assert_eq!(m.instructions_scroll, first);
}
