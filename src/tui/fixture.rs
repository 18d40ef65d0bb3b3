//! A made-up session to draw and to press keys on.

use super::{
    model::{Link, Model, Screen},
    theme::Theme,
};
use crate::{
    packet::CapturePoint,
    score::{Points, Score, Weight},
    session::snapshot::{
        CaptureView, CheckState, CheckView, ChoiceView, HintView, LabSummary, LabView, LeakView, MessageView, Notice,
        NoticeLevel, Phase, PlaceView, QuestionView, SessionView, Snapshot, StepState, StepView, TrafficView,
        WorkloadView,
    },
};

/// Noon of some day, in milliseconds.
pub const NOON: u64 = 1_700_049_600_000;

pub fn labs() -> Vec<LabSummary> {
    let lab = |id: &str, title: &str, level| LabSummary {
        id: id.to_owned(),
        title: title.to_owned(),
        level,
        minutes: 25,
        difficulty: "beginner".to_owned(),
        objectives: vec!["See what an attacker on the network sees".to_owned()],
        before: Vec::new(),
        after: Vec::new(),
        steps: 3,
        source: "built in".to_owned(),
        score: None,
        broken: None,
    };
    let mut labs = vec![
        lab("wiretap", "Inspecting service communication", 0),
        lab("perimeter", "Traditional vs zero trust", 0),
        lab("mine", "My own", 1),
    ];
    labs[1].score = Some(Score {
        earned: Points(100),
        possible: Points(100),
    });
    labs[2].broken = Some("labs/mine/lab.yaml:3:5: expected a number\n  level: high\n         ^^^^ here".to_owned());
    labs
}

pub fn check(name: &str, verdict: CheckState) -> CheckView {
    CheckView {
        name: name.to_owned(),
        weight: Weight(1),
        verdict,
        finding: None,
        expected: "a message between orders-api and payments-api that holds a card number".to_owned(),
        found: "no capture has run in either of them".to_owned(),
        why: "the request crossed the network as text; anything on the path can read it".to_owned(),
        evidence: Vec::new(),
        question: None,
        latched: verdict == CheckState::Passed,
        live: verdict,
    }
}

fn question(choices: &[&str], many: bool) -> QuestionView {
    QuestionView {
        ask: "Which card number was charged?".to_owned(),
        choices: choices
            .iter()
            .zip('a'..)
            .map(|(text, key)| ChoiceView {
                key: key.to_string(),
                text: (*text).to_owned(),
            })
            .collect(),
        many,
        answer: None,
    }
}

fn steps() -> Vec<StepView> {
    let step = |id: &str, title: &str, state, points| StepView {
        id: id.to_owned(),
        title: title.to_owned(),
        state,
        points: Points(points),
        earned: Points(0),
        needs: Vec::new(),
        impossible: None,
        instructions: String::new(),
        vantage: None,
        checks: Vec::new(),
        hints: Vec::new(),
        next_hint: None,
        teaches: None,
        solved: false,
    };
    let mut listen = step(
        "listen",
        "Listen between orders-api and payments-api",
        StepState::Open,
        30,
    );
    listen.instructions = "Every second the frontend makes a **payment**. Start a capture on `payments-api` and watch \
                           one pass.\n\n```run\nztlab capture --pod payments-api --follow\n```\n"
        .to_owned();
    listen.vantage = Some("a shell on the node, or any place on the path".to_owned());
    listen.checks = vec![
        check("you captured a payment", CheckState::Failed),
        check("you found the card number", CheckState::NotRun),
    ];
    listen.checks[1].question = Some(question(&[], false));
    listen.hints = vec![HintView {
        text: "The capture saw nothing. Is the frontend running?".to_owned(),
        cost: Points(0),
    }];
    listen.next_hint = Some(Points(5));
    let mut gaps = step("gaps", "Name the gaps", StepState::Open, 30);
    gaps.checks = vec![check("what is missing", CheckState::NotRun)];
    gaps.checks[0].question = Some(question(&["encryption", "identity", "a faster network"], true));
    let mut replay = step("replay", "Become orders-api", StepState::Locked, 40);
    replay.needs = vec!["listen".to_owned()];
    replay.checks = vec![check("a payment made by mallory was accepted", CheckState::NotRun)];
    vec![listen, gaps, replay]
}

pub fn messages() -> Vec<MessageView> {
    let text = "POST /charge HTTP/1.1\nhost: payments-api\nauthorization: Bearer made-up-token\n\n{\"card\":\"4111 1111 1111 1111\",\"amount\":12}";
    let leak = |kind: &str, value: &str| {
        let start = text.find(value).unwrap();
        LeakView {
            kind: kind.to_owned(),
            value: value.to_owned(),
            start,
            end: start + value.len(),
        }
    };
    let request = MessageView {
        seq: 7,
        at_ms: NOON + 1_250,
        captured_in: "payments-api".to_owned(),
        place: Some(PlaceView::from(
            &CapturePoint::pod("shop", "payments-api-5d8f9c7b6d-x2x7k").on("eth0"),
        )),
        from: "orders-api".to_owned(),
        to: "payments-api".to_owned(),
        from_address: "10.244.0.3:40112".to_owned(),
        to_address: "10.244.0.4:8080".to_owned(),
        protocol: "http".to_owned(),
        probe: false,
        identities: Vec::new(),
        summary: "POST /charge".to_owned(),
        text: text.to_owned(),
        packets: vec![4, 5],
        leaks: vec![
            leak("bearer-token", "made-up-token"),
            leak("card-number", "4111 1111 1111 1111"),
        ],
    };
    let response = MessageView {
        seq: 8,
        at_ms: NOON + 1_260,
        from: "payments-api".to_owned(),
        to: "orders-api".to_owned(),
        from_address: "10.244.0.4:8080".to_owned(),
        to_address: "10.244.0.3:40112".to_owned(),
        summary: "200 OK".to_owned(),
        text: "HTTP/1.1 200 OK\n\n{\"accepted\":true}".to_owned(),
        packets: vec![7],
        leaks: Vec::new(),
        ..request.clone()
    };
    vec![request, response]
}

pub fn session() -> SessionView {
    let workload = |name: &str, ready| WorkloadView {
        name: name.to_owned(),
        pod: format!("{name}-5d8f9c7b6d-x2x7k"),
        ip: Some("10.244.0.4".to_owned()),
        ready,
        status: if ready { "Running" } else { "CrashLoopBackOff" }.to_owned(),
    };
    SessionView {
        id: "s1".to_owned(),
        lab: LabView {
            id: "wiretap".to_owned(),
            title: "Inspecting service communication".to_owned(),
            level: 0,
            minutes: 25,
            objectives: Vec::new(),
            recap: None,
        },
        phase: Phase::Ready,
        progress: None,
        cluster: "wiretap".to_owned(),
        ground: "the embedded ground".to_owned(),
        namespace: "shop".to_owned(),
        kubeconfig: Some("/home/student/.local/state/ztlab/clusters/wiretap/kubeconfig".to_owned()),
        manifests: None,
        work: "/home/student/.local/state/ztlab/sessions/wiretap/work".to_owned(),
        spent_ms: 0,
        steps: steps(),
        score: Score {
            earned: Points(0),
            possible: Points(100),
        },
        workloads: vec![
            workload("frontend", true),
            workload("orders-api", true),
            workload("payments-api", true),
            workload("ledger", false),
            workload("mallory", true),
        ],
        traffic: TrafficView {
            capturing: vec![CaptureView {
                workload: "payments-api".to_owned(),
                pod: "payments-api-5d8f9c7b6d-x2x7k".to_owned(),
                filter: None,
                packets: 120,
            }],
            dropped: 0,
            packets: 120,
            messages: messages(),
        },
        log: vec![Notice {
            at_ms: NOON,
            level: NoticeLevel::Info,
            text: "lab `wiretap` is ready".to_owned(),
        }],
        lab_changed: false,
    }
}

/// The interface on that session.
pub fn model(columns: u16, rows: u16) -> Model {
    let mut model = Model::new((columns, rows), Theme::new(true));
    model.link = Link::Up;
    model.screen = Screen::Lab;
    model.snapshot = Snapshot {
        revision: 5,
        session: Some(session()),
    };
    model.labs = labs();
    model
}
