//! What the host does for its faces: starts, rests, refusals, edited labs.

use std::sync::{Arc, atomic::Ordering};

use futures::StreamExt;

use super::{super::snapshot::Phase, *};
use crate::score::Points;

#[tokio::test]
async fn a_cluster_that_died_is_made_anew_and_takes_no_points_with_it() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    done(&host, start(false)).await;
    *world.passes.lock().unwrap() = true;
    let view = done(&host, Command::Check { step: None }).await;
    assert_eq!(view.score.earned, Points(10));
    *world.dead.lock().unwrap() = true;
    let view = done(&host, start(false)).await;
    assert_eq!((view.phase, view.score.earned), (Phase::Ready, Points(10)));
    assert_eq!(world.deployed.load(Ordering::SeqCst), 2, "the cluster was made anew");
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_can_be_tried_again() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    *world.fails.lock().unwrap() = Some("the node did not start".to_owned());
    let host = host_in(temp.path(), &world);
    let told = refused(&host, start(false)).await;
    assert!(
        told.contains("the node did not start") && told.contains("mend it"),
        "{told}"
    );
    let Reply::Done { message, snapshot } = host.run(None, start(false)).await else {
        panic!("it starts now");
    };
    assert!(
        message.contains("is ready") && !message.contains("already"),
        "{message}"
    );
    assert_eq!(snapshot.session.unwrap().phase, Phase::Ready);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    let step = |id: &str| Command::Check {
        step: Some(id.to_owned()),
    };
    assert!(refused(&host, step("listen")).await.contains("no lab is running"));
    done(&host, start(false)).await;
    assert!(refused(&host, step("lsiten")).await.contains("the steps are: listen"));
    assert!(
        refused(&host, step("replay"))
            .await
            .contains("pass first: token, login")
    );
    let answer = Command::Answer {
        step: "listen".to_owned(),
        check: "you captured a payment".to_owned(),
        value: "x".to_owned(),
    };
    assert!(
        refused(&host, answer)
            .await
            .contains("its questions are: `you found the card number`")
    );
    let other = Command::Start {
        lab: "nolab".to_owned(),
        ground: "embedded".to_owned(),
        fresh: false,
        context: None,
    };
    assert!(refused(&host, other).await.contains("there is no lab `nolab`"));
}

#[tokio::test]
async fn captures_are_started_once_and_stopped() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    done(&host, start(false)).await;
    let capture = || Command::CaptureStart {
        pod: "payments-api".to_owned(),
        filter: None,
        seconds: None,
    };
    done(&host, capture()).await;
    assert_eq!(done(&host, capture()).await.traffic.capturing.len(), 1);
    let view = done(&host, Command::CaptureStop { pod: None }).await;
    assert!(view.traffic.capturing.is_empty());
    let pod = Some("payments-api".to_owned());
    assert!(
        refused(&host, Command::CaptureStop { pod })
            .await
            .contains("no capture runs")
    );
}

#[tokio::test]
async fn an_edited_lab_is_noticed_and_the_old_one_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("labs/wiretap/lab.yaml");
    let text = crate::catalog::find("wiretap", None).unwrap().text;
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let cwd = Some(work.path().to_owned());
    let world = Arc::new(Scripted::default());
    let title = async |host: Arc<Host>, fresh: bool| match host.run(cwd.clone(), start(fresh)).await {
        Reply::Done { snapshot, .. } => {
            let session = snapshot.session.unwrap();
            (session.lab.title, session.lab_changed)
        }
        other => panic!("{other:?}"),
    };
    let old = title(host_in(temp.path(), &world), false).await;
    std::fs::write(&file, text.replace("Inspecting service communication", "Edited")).unwrap();
    assert_eq!(title(host_in(temp.path(), &world), false).await, (old.0, true));
    assert_eq!(
        title(host_in(temp.path(), &world), true).await,
        ("Edited".to_owned(), false)
    );
}

#[tokio::test]
async fn two_faces_see_one_truth() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    let (one, other) = (host.follow(), host.follow());
    done(&host, start(false)).await;
    let ready = |snapshot: &Arc<snapshot::Snapshot>| {
        snapshot
            .session
            .as_ref()
            .is_some_and(|session| session.phase == Phase::Ready)
    };
    let mut seen = futures::stream::iter([one, other])
        .then(async |mut face| face.wait_for(ready).await.unwrap().revision)
        .boxed();
    while let Some(revision) = seen.next().await {
        assert!(revision > 0);
    }
}

#[tokio::test]
async fn a_rest_stops_the_cluster_and_survives_a_crash() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    done(&host, start(false)).await;
    assert_eq!(done(&host, Command::Pause).await.phase, Phase::Paused);
    assert_eq!(world.paused.load(Ordering::SeqCst), 1);
    assert!(
        refused(&host, Command::Check { step: None })
            .await
            .contains("paused (`ztlab lab resume`")
    );
    assert!(refused(&host, Command::Pause).await.contains("paused"));
    let spent = done(&host, Command::Status).await.spent_ms;
    drop(host);
    let host = host_in(temp.path(), &world);
    host.take_up().await.unwrap().settle().await;
    let view = done(&host, Command::Status).await;
    assert_eq!(
        (view.phase, view.spent_ms),
        (Phase::Paused, spent),
        "nobody asked for it to go on"
    );
    assert_eq!(world.deployed.load(Ordering::SeqCst), 1);
    assert_eq!(done(&host, Command::Resume).await.phase, Phase::Ready);
    assert_eq!(world.as_is.lock().unwrap().last(), Some(&true));
    done(&host, Command::Pause).await;
    assert_eq!(
        done(&host, start(false)).await.phase,
        Phase::Ready,
        "asking for the lab goes on with it"
    );
}

#[tokio::test]
async fn a_lab_edited_while_it_runs_is_noticed_and_is_kept_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("labs/wiretap/lab.yaml");
    let text = crate::catalog::find("wiretap", None).unwrap().text;
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mine = text.replace("Inspecting service communication", "Mine");
    std::fs::write(&file, &mine).unwrap();
    let cwd = Some(dir.path().to_owned());
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    let begin = async |host: &Arc<Host>, fresh| match host.run(cwd.clone(), start(fresh)).await {
        Reply::Done { message, snapshot } => (message, snapshot.session.unwrap()),
        other => panic!("{other:?}"),
    };
    assert!(!begin(&host, false).await.1.lab_changed);
    std::fs::write(&file, "kind: Broken\n").unwrap();
    until(&host, |session| session.lab_changed).await;
    let (message, view) = begin(&host, false).await;
    assert!(message.contains("--fresh") && view.lab.title == "Mine", "{message}");
    std::fs::write(&file, &mine).unwrap();
    until(&host, |session| !session.lab_changed).await;
    std::fs::remove_dir_all(dir.path().join("labs")).unwrap();
    until(&host, |session| session.lab_changed).await;
    assert!(matches!(
        host.run(None, Command::Stop { delete: false }).await,
        Reply::Done { .. }
    ));
    let (message, view) = begin(&host, false).await;
    assert!(message.contains("goes on") && view.lab.title == "Mine", "{message}");
}
