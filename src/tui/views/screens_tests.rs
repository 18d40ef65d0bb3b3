//! Whole screens, as text: what a student without colours sees.

use std::collections::BTreeSet;

use ratatui::{Terminal, backend::TestBackend, style::Modifier};

use super::*;
use crate::{
    session::snapshot::{CheckState, IdentityView, MessageView, ProgressView, StepState},
    tui::{
        field::Field,
        fixture::{model, session},
        model::{Input, Pane},
        theme::Theme,
    },
};

fn screen(model: &Model) -> String {
    let mut terminal = Terminal::new(TestBackend::new(model.size.0, model.size.1)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    terminal.backend().to_string()
}

fn with(columns: u16, rows: u16, change: impl FnOnce(&mut Model)) -> Model {
    let mut model = model(columns, rows);
    change(&mut model);
    model
}

#[test]
fn narrow_lab() {
    for (name, pane) in [
        ("narrow_instructions", Pane::Instructions),
        ("narrow_checks", Pane::Checks),
        ("narrow_traffic", Pane::Traffic),
    ] {
        insta::assert_snapshot!(name, screen(&with(80, 24, |model| model.pane = pane)));
    }
}

#[test]
fn wide_lab() {
    insta::assert_snapshot!("wide_lab", screen(&with(120, 40, |model| model.pane = Pane::Traffic)));
    insta::assert_snapshot!("very_wide_lab", screen(&with(200, 60, |_| {})));
}

/// TLS 1.3 between two services, with what is known of them from elsewhere, and a probe of ztlab's own.
fn encrypted(model: &mut Model) {
    model.pane = Pane::Traffic;
    let traffic = &mut model.snapshot.session.as_mut().unwrap().traffic;
    let held = |end: &str, service: &str, before_ms: u64| IdentityView {
        end: end.to_owned(),
        spiffe_id: format!("spiffe://ztlab.example/ns/shop/sa/{service}"),
        source: "probe".to_owned(),
        on_the_wire: false,
        at_ms: traffic.messages[0].at_ms - before_ms,
    };
    let hello = MessageView {
        protocol: "tls".to_owned(),
        summary: "Client Hello, server name payments-api".to_owned(),
        text: "offers TLS 1.3, TLS 1.2".to_owned(),
        identities: vec![held("from", "orders-api", 12_000), held("to", "payments-api", 61_000)],
        leaks: Vec::new(),
        ..traffic.messages[0].clone()
    };
    let probe = MessageView {
        seq: 9,
        from: "mallory".to_owned(),
        from_address: "10.244.0.9:64600".to_owned(),
        protocol: "tcp".to_owned(),
        summary: "connection opened and closed, nothing was said in it by anybody at all".to_owned(),
        probe: true,
        identities: Vec::new(),
        ..hello.clone()
    };
    traffic.messages = vec![hello, probe];
}

#[test]
fn what_was_not_read_here_and_what_ztlab_asked_is_marked() {
    insta::assert_snapshot!("narrow_encrypted", screen(&with(80, 24, encrypted)));
    insta::assert_snapshot!("very_wide_encrypted", screen(&with(200, 60, encrypted)));
    for (name, at) in [("over_encrypted", 0), ("over_probe", 1)] {
        let shown = screen(&with(80, 24, |model| {
            encrypted(model);
            let message = Box::new(model.session().unwrap().traffic.messages[at].clone());
            model.overlay = Some(Overlay::Message { message, scroll: 0 });
        }));
        insta::assert_snapshot!(name, shown);
    }
    // In whatever width, the mark is not cut off.
    for columns in [60, 80, 100, 140, 200] {
        let shown = screen(&with(columns, 60, encrypted));
        let words = |text: &str| {
            shown
                .replace(['│', '\n', '"'], " ")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .contains(text)
        };
        assert!(words("not on the wire") && words("[ztlab's probe]"), "{shown}");
    }
}

#[test]
fn list_of_labs() {
    insta::assert_snapshot!("labs", screen(&with(80, 24, |model| model.screen = Screen::Labs)));
    insta::assert_snapshot!(
        "labs_broken",
        screen(&with(80, 24, |model| {
            model.screen = Screen::Labs;
            model.lab_row = 2;
        }))
    );
    insta::assert_snapshot!(
        "labs_connecting",
        screen(&with(80, 24, |model| {
            *model = Model::new((80, 24), Theme::new(true));
        }))
    );
}

#[test]
fn progress_and_failure() {
    insta::assert_snapshot!(
        "starting",
        screen(&with(80, 24, |model| {
            let session = model.snapshot.session.as_mut().unwrap();
            session.phase = Phase::Starting;
            session.progress = Some(ProgressView {
                phase: "waiting for pods".to_owned(),
                done: 2,
                total: 5,
                detail: "ledger: container is starting".to_owned(),
            });
        }))
    );
    insta::assert_snapshot!(
        "failed",
        screen(&with(80, 24, |model| {
            let session = model.snapshot.session.as_mut().unwrap();
            session.phase = Phase::Failed("no user namespace: operation not permitted".to_owned());
        }))
    );
}

#[test]
fn overlays() {
    let message = Box::new(session().traffic.messages[0].clone());
    for (name, overlay) in [
        ("over_help", Overlay::Help { scroll: 0 }),
        ("over_message", Overlay::Message { message, scroll: 0 }),
        ("over_notices", Overlay::Notices { scroll: 0 }),
        ("over_captures", Overlay::Captures { row: 2 }),
        (
            "over_confirm",
            Overlay::Confirm {
                question: "Reset lab `wiretap`? Its cluster is made anew, and all 30 points are lost.".to_owned(),
                commands: Vec::new(),
            },
        ),
        (
            "over_typing",
            Overlay::Question {
                step: "listen".to_owned(),
                check: "you found the card number".to_owned(),
                input: Input::Text(Field::new("4111 1111")),
            },
        ),
        (
            "over_prompt",
            Overlay::Prompt {
                step: "listen".to_owned(),
                offered: 2,
                lines: vec![
                    Field::new("ztlab capture --pod payments-api --follow"),
                    Field::new(
                        "kubectl exec -n shop deploy/mallory -- curl -s -H 'Authorization: Bearer KEY' -d '{\"amount\": 1}' \
                         http://payments-api/charge",
                    ),
                    Field::default(),
                ],
                at: 1,
            },
        ),
        (
            "over_choices",
            Overlay::Question {
                step: "gaps".to_owned(),
                check: "what is missing".to_owned(),
                input: Input::Choices {
                    row: 1,
                    chosen: BTreeSet::from(["a".to_owned()]),
                },
            },
        ),
    ] {
        insta::assert_snapshot!(name, screen(&with(80, 24, |model| model.overlay = Some(overlay))));
    }
}

#[test]
fn too_small_says_so() {
    insta::assert_snapshot!("too_small", screen(&with(50, 10, |_| {})));
}

#[test]
fn a_lost_host_is_told() {
    let shown = screen(&with(80, 24, |model| {
        model.link = Link::Down("it went away".to_owned())
    }));
    assert!(shown.contains("no session host, connecting again"), "{shown}");
}

#[test]
fn leaked_bytes_stand_out_without_colours() {
    let model = with(80, 24, |model| {
        model.pane = Pane::Traffic;
        model.theme = Theme::new(false);
    });
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| draw(frame, &model)).unwrap();
    let buffer = terminal.backend().buffer();
    let reversed: String = buffer
        .content()
        .iter()
        .filter(|cell| cell.modifier.contains(Modifier::REVERSED | Modifier::BOLD))
        .map(|cell| cell.symbol())
        .collect();
    assert!(reversed.contains("»4111 1111 1111 1111«"), "{reversed}");
}

#[test]
fn no_colour_means_no_colour() {
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
    let model = with(120, 40, |model| model.theme = Theme::new(false));
    terminal.draw(|frame| draw(frame, &model)).unwrap();
    for cell in terminal.backend().buffer().content() {
        assert_eq!(cell.fg, ratatui::style::Color::Reset);
        assert_eq!(cell.bg, ratatui::style::Color::Reset);
    }
}

#[test]
fn a_passed_lab_is_told_in_words() {
    let shown = screen(&with(80, 24, |model| {
        let session = model.snapshot.session.as_mut().unwrap();
        session.steps.truncate(1);
        session.steps[0].state = StepState::Passed;
        session.steps[0].teaches = Some("HTTP between pods is as public as a postcard.".to_owned());
        session.steps[0].checks[0].verdict = CheckState::Passed;
        session.steps[0].instructions = "Listen.".to_owned();
        session.lab.recap = Some("Keep **this**.".to_owned());
    }));
    for words in ["passed", "postcard", "Every step is passed", "Keep this."] {
        assert!(shown.contains(words), "{words}\n{shown}");
    }
}

#[test]
fn a_step_that_is_not_possible_here_says_why() {
    let change = |model: &mut Model| {
        let session = model.snapshot.session.as_mut().unwrap();
        session.steps.truncate(2);
        session.steps[0].state = StepState::Impossible;
        session.steps[0].impossible = Some("its network lets no pod in".to_owned());
        session.steps[0].instructions = "Allow an address.".to_owned();
        session.steps[1].state = StepState::Passed;
        session.lab.recap = Some("Keep **this**.".to_owned());
        model.step = Some(session.steps[0].id.clone());
    };
    let shown = screen(&with(80, 24, change));
    for words in [
        "not possible here",
        "its network lets no pod in",
        "that is possible here is passed",
        "Keep this.",
    ] {
        assert!(shown.contains(words), "{words}\n{shown}");
    }
    // A narrow screen has one pane at a time; a wide one shows the steps too.
    let shown = screen(&with(120, 40, change));
    assert!(shown.matches("not possible here").count() > 1, "{shown}");
}

#[test]
fn nothing_hostile_reaches_the_terminal() {
    let evil = "\x1b[2J\x07\u{9b}evil";
    let change = |model: &mut Model| {
        let session = model.snapshot.session.as_mut().unwrap();
        session.lab.title = evil.to_owned();
        let step = &mut session.steps[0];
        step.title = evil.to_owned();
        step.instructions = format!("{evil}\n\n```\n{evil}\n```");
        step.vantage = Some(evil.to_owned());
        step.impossible = Some(evil.to_owned());
        step.checks[0].name = evil.to_owned();
        step.checks[0].found = evil.to_owned();
        step.checks[0].evidence = vec![evil.to_owned()];
        session.workloads[0].name = evil.to_owned();
        session.workloads[0].status = evil.to_owned();
        let message = &mut session.traffic.messages[0];
        message.from = evil.to_owned();
        message.summary = evil.to_owned();
        message.text = evil.to_owned();
        message.protocol = evil.to_owned();
        message.leaks[0].value = evil.to_owned();
        message.leaks[0].start = 1;
        message.leaks[0].end = 5000;
        message.identities = vec![IdentityView {
            end: evil.to_owned(),
            spiffe_id: evil.to_owned(),
            source: evil.to_owned(),
            on_the_wire: false,
            at_ms: u64::MAX,
        }];
        model.labs[0].id = evil.to_owned();
        model.labs[0].title = evil.to_owned();
        model.labs[2].broken = Some(evil.to_owned());
    };
    for columns in [80, 120] {
        for pane in Pane::ALL {
            for overlay in [
                None,
                Some(Overlay::Captures { row: 0 }),
                Some(Overlay::Message {
                    message: Box::new(with(80, 24, change).session().unwrap().traffic.messages[0].clone()),
                    scroll: 0,
                }),
            ] {
                let shown = screen(&with(columns, 40, |model| {
                    change(model);
                    model.pane = pane;
                    model.overlay = overlay.clone();
                }));
                assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
            }
        }
        let shown = screen(&with(columns, 40, |model| {
            change(model);
            model.screen = Screen::Labs;
            model.lab_row = 2;
        }));
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn every_size_can_be_drawn(columns in 1_u16..220, rows in 1_u16..70, overlay in 0..7_usize) {
        let message = Box::new(session().traffic.messages[0].clone());
        let overlays = [
            None,
            Some(Overlay::Help { scroll: 999 }),
            Some(Overlay::Message { message, scroll: 999 }),
            Some(Overlay::Notices { scroll: usize::MAX }),
            Some(Overlay::Captures { row: 99 }),
            Some(Overlay::Question {
                step: "listen".to_owned(),
                check: "you found the card number".to_owned(),
                input: Input::Text(Field { text: "日本".repeat(90).chars().collect(), cursor: 170 }),
            }),
            Some(Overlay::Prompt {
                step: "listen".to_owned(),
                offered: 1,
                lines: vec![Field::new(&"日本 x".repeat(100))],
                at: 0,
            }),
        ];
        for pane in Pane::ALL {
            screen(&with(columns, rows, |model| {
                model.pane = pane;
                model.overlay = overlays[overlay].clone();
            }));
        }
    }
}
