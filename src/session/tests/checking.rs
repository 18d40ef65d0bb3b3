//! When checks run.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use super::{
    super::{
        snapshot::{CheckState, Phase},
        topics::{Kind, Topic},
    },
    *,
};
use crate::{
    check::{Evidence, ExecFound},
    score::Points,
    verdict::Finding,
};

#[tokio::test]
async fn a_change_of_the_cluster_runs_the_checks_and_a_crash_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    let view = done(&host, start(false)).await;
    assert_eq!((view.phase, view.score.earned), (Phase::Ready, Points(0)));
    let mut snapshots = host.follow();
    *world.passes.lock().unwrap() = true;
    world.change(Topic::All);
    let earned = |snapshot: &Arc<snapshot::Snapshot>| {
        snapshot
            .session
            .as_ref()
            .is_some_and(|session| session.score.earned == Points(10))
    };
    snapshots.wait_for(earned).await.unwrap();
    drop((host, snapshots));
    // Another host in the same directory, as after a crash: nobody said goodbye.
    *world.passes.lock().unwrap() = false;
    let host = host_in(temp.path(), &world);
    host.take_up().await.unwrap().settle().await;
    let view = done(&host, Command::Status).await;
    assert_eq!(view.score.earned, Points(10));
    assert!(view.steps[0].checks[0].latched);
    assert_eq!(
        *world.as_is.lock().unwrap(),
        [false, true],
        "the student's cluster is left as it is"
    );
}

#[tokio::test]
async fn what_tells_of_no_change_is_looked_at_again_while_a_face_shows_it() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let program = |output: &str| {
        Evidence::Exec(ExecFound {
            pod: "spire-server-0".to_owned(),
            command: "agent list".to_owned(),
            code: 0,
            output: output.to_owned(),
        })
    };
    let name = "the server knows the agent";
    world.finds.lock().unwrap().insert(
        name.to_owned(),
        vec![
            program("No attested agents found"),
            program("No attested agents found"),
            program("No attested agents found"),
            program("spiffe://ztlab.example/spire/agent/k8s_psat/ztlab/1"),
        ],
    );
    let host = host_in(temp.path(), &world);
    let command = Command::Start {
        lab: "spire".to_owned(),
        ground: "embedded".to_owned(),
        fresh: false,
        context: None,
    };
    done(&host, command).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(world.gathered().contains_key(name));
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(world.gathered(), BTreeMap::new(), "nobody looks");
    // Waiting is looking.
    until(&host, |view| {
        view.steps[0]
            .checks
            .iter()
            .any(|check| check.name == name && check.latched)
    })
    .await;
    // No check that something else tells of.
    let gathered: Vec<String> = world.gathered().into_keys().collect();
    assert_eq!(gathered, [name]);
}

#[tokio::test]
async fn a_watch_for_rotations_holds_up_no_other_check_and_no_reset() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    let command = Command::Start {
        lab: "spiffe-mtls".to_owned(),
        ground: "embedded".to_owned(),
        fresh: false,
        context: None,
    };
    let view = done(&host, command).await;
    let question = "for how long a thief has it";
    let step = view.steps.iter().position(|step| step.id == "rotation").unwrap();
    drop(host);
    let host = host_in(temp.path(), &world);
    let session = host.take_up().await.unwrap();
    session.settle().await;
    let lab = session.lab().clone();
    for (at, plan) in lab.steps.iter().enumerate().take(step) {
        for check in 0..plan.checks.len() {
            session.feed(&judged(at, check, true, Finding::Expected));
        }
    }
    *world.watched.lock().unwrap() = Some("every identity was seen to rotate".to_owned());
    let gate = world.watch.lock().await;
    session.changed(Topic::All);
    until(&host, |view| view.steps[step].state == snapshot::StepState::Open).await;
    let view = answer(&host, "rotation", question, "60").await;
    until(&host, |view| {
        view.steps[step]
            .checks
            .iter()
            .any(|check| check.name == question && check.latched)
    })
    .await;
    let reset = Command::Reset { step: None };
    let reset = tokio::time::timeout(std::time::Duration::from_secs(10), done(&host, reset)).await;
    assert_eq!(reset.unwrap().score.earned, Points(0));
    drop((gate, view));
}

#[tokio::test]
async fn an_answer_waits_for_the_capture_that_it_is_compared_with() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    done(&host, start(false)).await;
    let view = done(
        &host,
        Command::Answer {
            step: "listen".to_owned(),
            check: "you found the card number".to_owned(),
            value: "4111111111111111".to_owned(),
        },
    )
    .await;
    let check = &view.steps[0].checks[1];
    assert_eq!(
        (check.verdict, check.finding),
        (CheckState::Undetermined, Some(Finding::NothingToCompare))
    );
}

#[tokio::test]
async fn an_answer_is_told_to_be_right_or_not_and_why_only_when_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    world.passes_questions.store(true, Ordering::SeqCst);
    let host = host_in(temp.path(), &world);
    done(&host, start(false)).await;
    let cases = [
        ("5555555555554444", "your answer is not right", CheckState::Failed),
        ("4111111111111111", "your answer is right", CheckState::Passed),
        // Points are kept, and still this one is not right.
        ("5555555555554444", "your answer is not right", CheckState::Passed),
    ];
    for (value, expected, verdict) in cases {
        let answer = Command::Answer {
            step: "listen".to_owned(),
            check: "you found the card number".to_owned(),
            value: value.to_owned(),
        };
        let Reply::Done { message, snapshot } = host.run(None, answer).await else {
            panic!("refused");
        };
        assert!(message.starts_with(expected), "{value}: {message}");
        let check = &snapshot.session.unwrap().steps[0].checks[1];
        assert_eq!(check.verdict, verdict, "{value}");
        assert_eq!(check.why.is_empty(), verdict != CheckState::Passed, "{value}");
    }
}

#[tokio::test]
async fn a_storm_of_changes_costs_two_rounds_and_only_what_is_concerned_runs() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    done(&host, start(false)).await;
    done(&host, Command::Check { step: None }).await;
    let first = "you captured a payment".to_owned();
    // Whatever the start itself had the checks run for is over once another topic has been taken in.
    until(&host, |_| {
        world
            .gathered
            .lock()
            .unwrap()
            .get(&first)
            .is_some_and(|count| *count >= 2)
    })
    .await;
    let gate = world.gate.lock().await;
    world.gathered();
    world.change(Topic::Traffic);
    while world.gathered.lock().unwrap().get(&first).is_none() {
        tokio::task::yield_now().await;
    }
    let before = world.delivered.load(Ordering::SeqCst);
    for _ in 0..500 {
        world.change(Topic::Traffic);
    }
    while world.delivered.load(Ordering::SeqCst) < before + 500 {
        tokio::task::yield_now().await;
    }
    drop(gate);
    // A round for another topic, after all of them: it comes when the storm is over.
    let waited = async || {
        world.change(Topic::Loot);
        while world
            .gathered
            .lock()
            .unwrap()
            .get("you found the card number")
            .is_none()
        {
            tokio::task::yield_now().await;
        }
        world.gathered()
    };
    let counts = waited().await;
    assert!(
        counts[&first] <= 3,
        "500 changes while a round ran cost no more than the next: {counts:?}"
    );
    world.change(Topic::Objects(Kind::new("v1", "Secret")));
    let counts = waited().await;
    assert!(
        counts.values().all(|count| *count == 1) && counts.len() == 2,
        "nothing looks at Secrets: {counts:?}"
    );
}
