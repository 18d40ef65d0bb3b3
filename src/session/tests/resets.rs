//! Going back: to the start of the lab, and of a step.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use super::{
    super::snapshot::{Phase, StepState},
    *,
};
use crate::score::Points;

#[tokio::test]
async fn a_reset_takes_every_point_and_a_second_start_finds_the_first() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    done(&host, start(false)).await;
    *world.passes.lock().unwrap() = true;
    let view = done(&host, Command::Check { step: None }).await;
    assert_eq!(view.score.earned, Points(10));
    let view = done(&host, start(false)).await;
    assert_eq!(
        (view.score.earned, world.deployed.load(Ordering::SeqCst)),
        (Points(10), 1)
    );
    let view = done(&host, Command::Reset { step: None }).await;
    assert_eq!((view.phase, view.score.earned), (Phase::Ready, Points(0)));
    assert_eq!(world.restored.load(Ordering::SeqCst), 1);
    assert!(
        view.steps
            .iter()
            .flat_map(|step| &step.checks)
            .all(|check| !check.latched)
    );
}

#[tokio::test]
async fn a_step_goes_back_with_the_students_files() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    let view = done(&host, start(false)).await;
    let work = PathBuf::from(&view.work);
    assert!(work.starts_with(temp.path()) && work.is_dir());
    assert!(
        refused(
            &host,
            Command::Reset {
                step: Some("token".to_owned())
            }
        )
        .await
        .contains("pass first: listen")
    );
    std::fs::write(work.join("notes"), "before").unwrap();
    *world.passes.lock().unwrap() = true;
    done(&host, Command::Check { step: None }).await;
    // The step passes with the answer, and opens the next one: its start is put aside.
    world.passes_questions.store(true, Ordering::SeqCst);
    let view = answer(&host, "listen", "you found the card number", "4111111111111111").await;
    assert_eq!(
        (view.steps[0].state, view.steps[1].state),
        (StepState::Passed, StepState::Open)
    );
    let reset = || Command::Reset {
        step: Some("token".to_owned()),
    };
    let view = done(&host, reset()).await;
    assert_eq!(view.steps[0].state, StepState::Passed, "what it needs stays passed");
    std::fs::write(work.join("notes"), "after").unwrap();
    let Reply::Done { message, snapshot } = host.run(None, reset()).await else {
        panic!("refused")
    };
    assert_eq!(std::fs::read_to_string(work.join("notes")).unwrap(), "before");
    assert!(message.contains(".ztlab-before-reset/1"), "{message}");
    assert_eq!(
        std::fs::read_to_string(work.join(".ztlab-before-reset/1/notes")).unwrap(),
        "after"
    );
    assert_eq!(snapshot.session.unwrap().score.earned, Points(30));
    let asides = world.put_aside.lock().unwrap().clone();
    assert_eq!(*world.put_back.lock().unwrap(), [asides[0], asides[0]]);
    // Where the cluster has no copy, that is said.
    world.forgets.store(true, Ordering::SeqCst);
    let Reply::Done { message, .. } = host.run(None, reset()).await else {
        panic!("refused")
    };
    assert!(message.contains("as at the start of the lab"), "{message}");
}

#[tokio::test]
async fn a_reset_that_a_crash_interrupted_is_done_by_the_next_host() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    done(&host, start(false)).await;
    *world.passes.lock().unwrap() = true;
    world.passes_questions.store(true, Ordering::SeqCst);
    answer(&host, "listen", "you found the card number", "4111111111111111").await;
    drop(host);
    // What the journal says when the host died between writing the reset down and doing it.
    let path = temp.path().join("wiretap/journal.jsonl");
    let (mut journal, ..) = journal::Journal::open(&path).unwrap().unwrap();
    journal.append(&Event::ResetStep { step: 1 }).unwrap();
    let host = host_in(temp.path(), &world);
    host.take_up().await.unwrap().settle().await;
    assert_eq!(*world.put_back.lock().unwrap(), [1]);
    assert_eq!(done(&host, Command::Status).await.phase, Phase::Ready);
}
