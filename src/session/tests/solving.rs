//! Solutions and wrong attempts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    super::{snapshot::CheckState, topics::Topic},
    *,
};
use crate::{
    check::{Evidence, FileFound},
    lab::Fill,
    score::Points,
};

/// Two files to make, and an attempt that makes one of them.
const FILES: &str = "
apiVersion: ztlab.dev/v1
kind: Lab
metadata: { name: files, title: Files, level: 0, minutes: 1, difficulty: beginner }
spec:
  objectives: [Make two files]
  namespace: shop
  topology: [flat]
  steps:
    - id: make
      title: Make them
      points: 100
      instructions: Make them.
      checks:
        - name: one
          file: { path: one, text: { contains: x } }
          why: It is wanted.
        - name: other
          file: { path: other, text: { contains: x } }
          why: It is wanted.
      teaches: That they can be made.
      solution:
        - file: { path: one, text: x }
        - file: { path: other, text: x }
      wrong:
        - do:
            - file: { path: one, text: y }
            - file: { path: other, text: x }
          fails: one
          scores: 50
        - do:
            - file: { path: one, text: x }
          fails: other
          scores: 50
";

/// A check that cannot be judged so many times, and then finds this.
fn slow(rounds: usize, text: &str) -> Vec<Evidence> {
    let mut finds = vec![Evidence::Unavailable("the machine is busy".to_owned()); rounds];
    finds.push(Evidence::File(FileFound::There(text.to_owned())));
    finds
}

/// A session of the lab in this world, and the directories that it lives in.
async fn begun(world: &Arc<Scripted>, finds: [(&str, Vec<Evidence>); 2]) -> (Arc<Host>, [tempfile::TempDir; 2]) {
    let (temp, labs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(labs.path().join("labs/files")).unwrap();
    std::fs::write(labs.path().join("labs/files/lab.yaml"), FILES).unwrap();
    let host = host_in(temp.path(), world);
    let begin = Command::Start {
        lab: "files".to_owned(),
        ground: "embedded".to_owned(),
        fresh: false,
        context: None,
    };
    let begun = host.run(Some(labs.path().to_owned()), begin).await;
    assert!(matches!(begun, Reply::Done { .. }), "{begun:?}");
    *world.finds.lock().unwrap() = finds.map(|(name, finds)| (name.to_owned(), finds)).into();
    (host, [temp, labs])
}

async fn attempted(attempt: usize, finds: [(&str, Vec<Evidence>); 2]) -> SessionView {
    let (host, _dirs) = begun(&Arc::new(Scripted::default()), finds).await;
    let step = "make".to_owned();
    done(&host, Command::Attempt { step, attempt }).await
}

#[tokio::test]
async fn an_attempt_that_is_half_done_is_not_judged() {
    let world = Arc::new(Scripted::default());
    let (host, _dirs) = begun(&world, [("one", slow(0, "y")), ("other", slow(0, "x"))]).await;
    let hands = world.hands.lock().await;
    let attempt = Command::Attempt {
        step: "make".to_owned(),
        attempt: 0,
    };
    let trying = tokio::spawn({
        let host = host.clone();
        async move { done(&host, attempt).await }
    });
    // What was found before has been looked at by then.
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.gathered();
    world.change(Topic::All);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.gathered(), BTreeMap::new());
    drop(hands);
    assert_eq!(trying.await.unwrap().steps[0].earned, Points(50));
    assert!(world.gathered().contains_key("one"));
}

#[tokio::test]
async fn an_attempt_waits_for_checks_that_are_slower_than_the_one_it_fails() {
    let view = attempted(0, [("one", slow(0, "y")), ("other", slow(3, "x"))]).await;
    let step = &view.steps[0];
    assert_eq!(
        (step.checks[0].verdict, step.checks[1].verdict),
        (CheckState::Failed, CheckState::Passed)
    );
    assert_eq!(step.earned, Points(50));
}

#[tokio::test]
async fn an_attempt_that_does_not_do_what_the_lab_says_comes_to_an_end() {
    let view = attempted(1, [("one", slow(0, "x")), ("other", slow(0, "x"))]).await;
    assert_eq!(view.steps[0].earned, Points(100), "the author is told what came of it");
}

#[test]
fn names_of_secrets_are_replaced() {
    let mut login = loot("pass}word".to_owned());
    login.kind = LeakKind::DatabaseLogin;
    login.account = Some("paul".to_owned());
    let found = [login];
    let put = |name: &str| match Fill::parse(name) {
        Some(Fill::Leak { kind, account }) => solve::leaked(kind, account, &found).map(str::to_owned),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(put("leak.database-login.account").as_deref(), Some("paul"));
    assert_eq!(put("leak.database-login").as_deref(), Some("pass}word"));
    assert_eq!(put("leak.bearer-token"), None);
}
