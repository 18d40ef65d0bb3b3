//! The state machine by properties; the driver and the host in a scripted world.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use futures::StreamExt;
use proptest::prelude::*;
use tokio::sync::Notify;

use super::{
    command::{Command, Reply},
    snapshot::{CheckState, Phase, SessionView, StepState},
    state::{Effect, Event, State},
    world::{Changes, Listening, Ran, Sight, World, WorldError},
    *,
};
use crate::{
    check::{Evidence, Loot},
    cluster::{Progress, ProgressEvent},
    lab::{self, Check, CheckKind, Lab},
    packet::{LeakKind, Protocol},
    score::Points,
    verdict::{Finding, Judgement, Verdict},
};

fn wiretap() -> Arc<Lab> {
    let found = crate::catalog::find("wiretap", None).unwrap();
    Arc::new(found.load(&host::Topologies).unwrap())
}

fn judgement(passed: bool, finding: Finding) -> Judgement {
    let verdict = if passed { Verdict::Passed } else { Verdict::Failed };
    Judgement::new(verdict, finding, "expected", "found")
}

fn loot(value: String) -> Loot {
    Loot {
        kind: LeakKind::CardNumber,
        value,
        account: None,
        from: "orders-api".to_owned(),
        to: "payments-api".to_owned(),
        protocol: Protocol::Http,
        frame: 1,
        captured_in: "payments-api".to_owned(),
        message: "POST /charge".to_owned(),
    }
}

fn event() -> impl Strategy<Value = Event> {
    let finding = prop::sample::select(vec![Finding::NoTraffic, Finding::WrongAnswer, Finding::NotHeld]);
    prop_oneof![
        2 => (0..3_u64).prop_map(|epoch| Event::Deployed { epoch }),
        1 => Just(Event::Reset),
        1 => (0..3_u64).prop_map(|epoch| Event::Failed { epoch, why: "why".to_owned() }),
        4 => (0..6_usize, 0..5_usize, "[a-z]{0,5}").prop_map(|(step, check, value)| Event::Answered { step, check, value }),
        4 => (0..6_usize, 0..5_usize).prop_map(|(step, hint)| Event::HintOpened { step, hint }),
        20 => (0..3_u64, 0..6_usize, 0..5_usize, any::<bool>(), finding).prop_map(|(epoch, step, check, passed, finding)| {
            Event::Judged { epoch, step, check, judgement: judgement(passed, finding) }
        }),
        4 => (0..3_u64, "[0-9]{1,2}").prop_map(|(epoch, value)| Event::Looted { epoch, loot: loot(value) }),
        2 => (0..6_usize).prop_map(|step| Event::Solved { step }),
        2 => Just(Event::Changed),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_score_stays_in_bounds_and_the_journal_tells_all(events in prop::collection::vec(event(), 0..200)) {
        let lab = wiretap();
        let mut state = State::new(lab.clone());
        let mut journal = Vec::new();
        for event in &events {
            for effect in state.apply(event) {
                if let Effect::Record(event) = effect {
                    journal.push(event);
                }
            }
            let score = state.score();
            prop_assert!(score.earned <= score.possible);
            prop_assert_eq!(score.possible, Points(100));
            if matches!(event, Event::Reset) {
                prop_assert_eq!(score.earned, Points(0));
            }
        }
        let mut replayed = State::new(lab);
        for event in &journal {
            replayed.apply(event);
        }
        prop_assert_eq!(replayed.durable(), state.durable());
        prop_assert_eq!(replayed.score(), state.score());
    }

    #[test]
    fn a_result_of_an_earlier_epoch_changes_nothing(step in 0..5_usize, check in 0..4_usize) {
        let mut state = State::new(wiretap());
        state.apply(&Event::Deployed { epoch: 0 });
        state.apply(&Event::Reset);
        let before = state.durable();
        let late = Event::Judged { epoch: 0, step, check, judgement: judgement(true, Finding::Expected) };
        prop_assert!(state.apply(&late).is_empty());
        prop_assert_eq!(state.apply(&Event::Looted { epoch: 0, loot: loot("1".to_owned()) }), []);
        prop_assert_eq!(state.apply(&Event::Deployed { epoch: 0 }), []);
        prop_assert_eq!(state.durable(), before);
        prop_assert_eq!(state.phase(), &Phase::Resetting);
    }
}

fn judged(step: usize, check: usize, passed: bool, finding: Finding) -> Event {
    Event::Judged {
        epoch: 0,
        step,
        check,
        judgement: judgement(passed, finding),
    }
}

#[test]
fn a_passed_check_keeps_its_points_and_shows_what_is_now() {
    let mut state = State::new(wiretap());
    state.apply(&Event::Deployed { epoch: 0 });
    state.apply(&judged(0, 0, true, Finding::Expected));
    assert_eq!(state.score().earned, Points(10));
    state.apply(&judged(0, 0, false, Finding::NotHeld));
    assert_eq!(state.score().earned, Points(10));
    let check = &state.steps()[0].checks[0];
    assert!(check.latched.as_ref().unwrap().passed() && !check.live.as_ref().unwrap().passed());
}

#[test]
fn a_locked_step_is_not_judged_and_opens_with_what_it_needs() {
    let mut state = State::new(wiretap());
    state.apply(&Event::Deployed { epoch: 0 });
    assert_eq!(state.step_state(1), StepState::Locked);
    state.apply(&judged(1, 0, true, Finding::Expected));
    assert_eq!(state.score().earned, Points(0));
    state.apply(&judged(0, 0, true, Finding::Expected));
    let effects = state.apply(&judged(0, 1, true, Finding::Expected));
    assert!(effects.contains(&Effect::Recheck));
    assert_eq!(
        (state.step_state(0), state.step_state(1)),
        (StepState::Passed, StepState::Open)
    );
}

#[test]
fn hints_open_by_what_was_found_and_cost_when_asked_for() {
    let mut state = State::new(wiretap());
    state.apply(&Event::Deployed { epoch: 0 });
    assert_eq!(state.next_hint(0), Some((2, Points(3))));
    state.apply(&judged(0, 0, false, Finding::NoTraffic));
    assert_eq!(state.steps()[0].hints, [0]);
    state.apply(&judged(0, 0, true, Finding::Expected));
    assert_eq!(state.earned(0), Points(10), "what opened by itself costs nothing");
    state.apply(&Event::HintOpened { step: 0, hint: 2 });
    assert_eq!(state.earned(0), Points(7));
    assert_eq!(state.next_hint(0), None);
}

/// A world in which everything is as the test says.
#[derive(Default)]
struct Scripted {
    deployed: AtomicU32,
    restored: AtomicU32,
    fails: Mutex<Option<String>>,
    as_is: Mutex<Vec<bool>>,
    /// What every check finds from now on.
    passes: Mutex<bool>,
    /// Whether the cluster has died; deploying makes it anew.
    dead: Mutex<bool>,
    changed: Arc<Notify>,
}

impl Scripted {
    fn outcome(&self) -> Result<(), WorldError> {
        match self.fails.lock().unwrap().take() {
            Some(why) => Err(WorldError::new(why).hint("mend it")),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl World for Scripted {
    async fn deploy(&self, _: &Lab, as_is: bool, progress: &Progress) -> Result<(), WorldError> {
        self.deployed.fetch_add(1, Ordering::SeqCst);
        self.as_is.lock().unwrap().push(as_is);
        *self.dead.lock().unwrap() = false;
        progress(ProgressEvent {
            phase: "deploy".to_owned(),
            done: 0,
            total: 1,
            detail: String::new(),
        });
        self.outcome()
    }

    async fn restore(&self, _: &Lab, _: &Progress) -> Result<(), WorldError> {
        self.restored.fetch_add(1, Ordering::SeqCst);
        *self.passes.lock().unwrap() = false;
        self.outcome()
    }

    async fn end(&self, _: bool) -> Result<(), WorldError> {
        Ok(())
    }

    fn kubeconfig(&self) -> Option<PathBuf> {
        None
    }

    async fn answers(&self) -> bool {
        !*self.dead.lock().unwrap()
    }

    async fn gather(&self, sight: &Sight, check: &Check, given: Option<String>) -> Evidence {
        if let CheckKind::Question(_) = &check.kind {
            return Evidence::Answer {
                given,
                loot: sight.loot.clone(),
            };
        }
        if !*self.passes.lock().unwrap() {
            return Evidence::Unavailable("nothing yet".to_owned());
        }
        Evidence::Capture {
            seen: sight.seen.clone(),
            loot: vec![loot("4111111111111111".to_owned())].into(),
        }
    }

    async fn capture(&self, _: &str, _: Option<String>) -> Result<Listening, WorldError> {
        Ok(Listening {
            pod: "payments-api-1".to_owned(),
            events: Box::pin(futures::stream::pending()),
        })
    }

    async fn exec(&self, _: &str, _: &[String]) -> Result<Ran, WorldError> {
        Ok(Ran {
            code: 0,
            output: String::new(),
        })
    }

    async fn changes(&self, _: &Lab) -> Result<Changes, WorldError> {
        let changed = self.changed.clone();
        Ok(Box::pin(futures::stream::unfold(changed, async |changed| {
            changed.notified().await;
            Some((world::Change::Cluster, changed))
        })))
    }
}

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

fn host_in(dir: &std::path::Path, world: &Arc<Scripted>) -> Arc<Host> {
    let world = world.clone();
    Host::in_worlds(dir.to_owned(), "t-", Box::new(move |_, _| world.clone()))
}

async fn done(host: &Arc<Host>, command: Command) -> SessionView {
    match host.run(None, command).await {
        Reply::Done { snapshot, .. } => snapshot.session.unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn refused(host: &Arc<Host>, command: Command) -> String {
    match host.run(None, command).await {
        Reply::Refused(refusal) => format!("{} ({})", refusal.message, refusal.hint.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

fn start(fresh: bool) -> Command {
    Command::Start {
        lab: "wiretap".to_owned(),
        ground: "embedded".to_owned(),
        fresh,
    }
}

#[tokio::test]
async fn a_change_of_the_cluster_runs_the_checks_and_a_crash_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    let host = host_in(temp.path(), &world);
    let view = done(&host, start(false)).await;
    assert_eq!((view.phase, view.score.earned), (Phase::Ready, Points(0)));
    let mut snapshots = host.follow();
    *world.passes.lock().unwrap() = true;
    world.changed.notify_one();
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
    assert_eq!(done(&host, start(false)).await.phase, Phase::Ready);
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
    };
    assert!(refused(&host, other).await.contains("wiretap"));
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

#[test]
fn names_of_secrets_are_replaced() {
    let mut login = loot("pass}word".to_owned());
    login.kind = LeakKind::DatabaseLogin;
    login.account = Some("paul".to_owned());
    let found = [login];
    let put = |word: &str| solve::substitute(word, &found);
    assert_eq!(put("x"), Ok("x".to_owned()));
    assert_eq!(
        put("a ${leak.database-login.account}:${leak.database-login}@"),
        Ok("a paul:pass}word@".to_owned())
    );
    assert_eq!(put("${leak.bearer-token}"), Err("leak.bearer-token".to_owned()));
    assert_eq!(put("${leak"), Err("leak".to_owned()));
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
    let _ = lab::choice_key(0);
}
