//! The state machine by properties; the driver and the host in a scripted world.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use futures::StreamExt;
use proptest::prelude::*;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    command::{Command, Reply},
    snapshot::{CheckState, Phase, SessionView, StepState},
    state::{Effect, Event, Start, State},
    topics::{Kind, Topic},
    world::{Changes, Listening, Notes, Ran, Restored, Sight, World, WorldError},
    *,
};
use crate::{
    check::{Evidence, Loot},
    cluster::{Progress, ProgressEvent},
    lab::{self, Check, CheckKind, Deed, Fill, Lab, Source},
    packet::{LeakKind, Protocol},
    score::Points,
    verdict::{Finding, Judgement, Verdict},
};

/// Read once: hundreds of cases of a property do not read it again.
static WIRETAP: LazyLock<Arc<Lab>> = LazyLock::new(|| {
    let found = crate::catalog::find("wiretap", None).unwrap();
    Arc::new(found.load(&host::Topologies).unwrap())
});

fn wiretap() -> Arc<Lab> {
    WIRETAP.clone()
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
        2 => (0..6_usize).prop_map(|step| Event::ResetStep { step }),
        1 => Just(Event::Paused),
        1 => Just(Event::Resumed),
        1 => (0..3_u64).prop_map(|epoch| Event::Failed { epoch, why: "why".to_owned() }),
        4 => (0..6_usize, 0..5_usize, "[a-z]{0,5}").prop_map(|(step, check, value)| Event::Answered { step, check, value }),
        4 => (0..6_usize, 0..5_usize).prop_map(|(step, hint)| Event::HintOpened { step, hint }),
        20 => (0..3_u64, 0..6_usize, 0..5_usize, any::<bool>(), finding).prop_map(|(epoch, step, check, passed, finding)| {
            Event::Judged { epoch, step, check, judgement: judgement(passed, finding) }
        }),
        4 => (0..3_u64, "[0-9]{1,2}").prop_map(|(epoch, value)| Event::Looted { epoch, loot: loot(value) }),
        2 => (0..6_usize).prop_map(|step| Event::Solved { step }),
        2 => Just(Event::Changed(Topic::All)),
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
            for (at, step) in lab.steps.iter().enumerate() {
                let open = state.step_state(at) != StepState::Locked;
                let needs = step.needs.iter().all(|need| state.passed(*need));
                prop_assert_eq!(open, needs, "a step is open when what it needs is passed");
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
    assert!(effects.contains(&Effect::Recheck(Topic::Step(1))));
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
    /// The numbers of the moments that were put aside, and of those gone back to.
    put_aside: Mutex<Vec<u32>>,
    put_back: Mutex<Vec<u32>>,
    /// Whether the cluster has no copies of moments.
    forgets: AtomicBool,
    /// Whether what was captured is what a right answer is compared with.
    passes_questions: AtomicBool,
    paused: AtomicU32,
    /// How often each check was gathered for, by its name.
    gathered: Mutex<BTreeMap<String, usize>>,
    /// While it is held by a test, gathering waits.
    gate: tokio::sync::Mutex<()>,
    fails: Mutex<Option<String>>,
    as_is: Mutex<Vec<bool>>,
    /// What every check finds from now on.
    passes: Mutex<bool>,
    /// Whether the cluster has died; deploying makes it anew.
    dead: Mutex<bool>,
    /// How many changes the session has taken in.
    delivered: Arc<AtomicU32>,
    /// What has changed so far.
    changed: watch::Sender<Vec<Topic>>,
}

impl Scripted {
    fn change(&self, topic: Topic) {
        self.changed.send_modify(|all| all.push(topic));
    }

    /// How often each check was gathered for since the last time this was asked.
    fn gathered(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut self.gathered.lock().unwrap())
    }

    fn outcome(&self) -> Result<(), WorldError> {
        match self.fails.lock().unwrap().take() {
            Some(why) => Err(WorldError::new(why).hint("mend it")),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl World for Scripted {
    async fn deploy(&self, _: &Lab, as_is: bool, progress: &Progress) -> Result<Notes, WorldError> {
        self.deployed.fetch_add(1, Ordering::SeqCst);
        self.as_is.lock().unwrap().push(as_is);
        *self.dead.lock().unwrap() = false;
        progress(ProgressEvent {
            phase: "deploy".to_owned(),
            done: 0,
            total: 1,
            detail: String::new(),
        });
        self.outcome().map(|()| Vec::new())
    }

    async fn put_aside(&self, _: &Lab, start: &Start, in_use: &BTreeSet<u32>) -> Result<(), WorldError> {
        assert!(in_use.contains(&start.number), "{start:?}");
        self.put_aside.lock().unwrap().push(start.number);
        Ok(())
    }

    async fn restore(&self, _: &Lab, to: &Start, _: &Progress) -> Result<Restored, WorldError> {
        self.restored.fetch_add(1, Ordering::SeqCst);
        self.put_back.lock().unwrap().push(to.number);
        *self.passes.lock().unwrap() = false;
        let exact = to.number == 0 || !self.forgets.load(Ordering::SeqCst);
        self.outcome().map(|()| Restored {
            exact,
            notes: Vec::new(),
        })
    }

    async fn pause(&self) -> Result<bool, WorldError> {
        self.paused.fetch_add(1, Ordering::SeqCst);
        Ok(true)
    }

    async fn end(&self, _: &Lab, _: bool) -> Result<(), WorldError> {
        Ok(())
    }

    fn kubeconfig(&self) -> Option<PathBuf> {
        None
    }

    async fn answers(&self) -> bool {
        !*self.dead.lock().unwrap()
    }

    async fn gather(&self, sight: &Sight, check: &Check, given: Option<String>) -> Evidence {
        *self.gathered.lock().unwrap().entry(check.name.clone()).or_default() += 1;
        drop(self.gate.lock().await);
        if let CheckKind::Question(_) = &check.kind {
            return Evidence::Answer {
                given,
                posture: None,
                loot: if self.passes_questions.load(Ordering::SeqCst) {
                    vec![loot("4111111111111111".to_owned())].into()
                } else {
                    sight.loot.clone()
                },
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
        let end = CancellationToken::new();
        Ok(Listening {
            pod: "payments-api-1".to_owned(),
            events: Box::pin(futures::stream::pending().take_until(end.clone().cancelled_owned())),
            end,
        })
    }

    async fn exec(&self, _: &Source, _: &[String]) -> Result<Ran, WorldError> {
        Ok(Ran {
            code: 0,
            output: String::new(),
        })
    }

    async fn perform(&self, _: &Lab, _: &Deed) -> Result<(), WorldError> {
        Ok(())
    }

    async fn fill(&self, fill: &Fill) -> Result<String, WorldError> {
        Err(WorldError::new(format!("nothing stands for {fill:?}")))
    }

    async fn changes(&self, _: &Lab) -> Result<Changes, WorldError> {
        let changed = self.changed.subscribe();
        let told = changed.borrow().len();
        let delivered = self.delivered.clone();
        Ok(Box::pin(futures::stream::unfold(
            (changed, told),
            move |(mut changed, told)| {
                let delivered = delivered.clone();
                async move {
                    let next = changed.wait_for(|all| all.len() > told).await.ok()?[told].clone();
                    delivered.fetch_add(1, Ordering::SeqCst);
                    Some((world::Change::Topic(next), (changed, told + 1)))
                }
            },
        )))
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
    Host::in_worlds(dir.to_owned(), "t-", Box::new(move |_| world.clone()))
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
        context: None,
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
        context: None,
    };
    assert!(refused(&host, other).await.contains("there is no lab `nolab`"));
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
    let put = |name: &str| match Fill::parse(name) {
        Some(Fill::Leak { kind, account }) => solve::leaked(kind, account, &found).map(str::to_owned),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(put("leak.database-login.account").as_deref(), Some("paul"));
    assert_eq!(put("leak.database-login").as_deref(), Some("pass}word"));
    assert_eq!(put("leak.bearer-token"), None);
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

/// Waits until the session looks like this.
async fn until(host: &Arc<Host>, hoped: impl Fn(&SessionView) -> bool) {
    let mut snapshots = host.follow();
    snapshots
        .wait_for(|snapshot| snapshot.session.as_ref().is_some_and(&hoped))
        .await
        .unwrap();
}

async fn answer(host: &Arc<Host>, step: &str, check: &str, value: &str) -> SessionView {
    let (step, check, value) = (step.to_owned(), check.to_owned(), value.to_owned());
    done(host, Command::Answer { step, check, value }).await
}

#[test]
fn going_back_to_a_step_drops_it_and_what_needs_it_and_no_more() {
    let lab = wiretap();
    let mut state = State::new(lab.clone());
    let mut put_aside = Vec::new();
    let mut feed = |state: &mut State, event: Event| {
        for effect in state.apply(&event) {
            if let Effect::PutAside { start } = effect {
                put_aside.push(start);
            }
        }
    };
    feed(&mut state, Event::Deployed { epoch: 0 });
    feed(
        &mut state,
        Event::Looted {
            epoch: 0,
            loot: loot("1".to_owned()),
        },
    );
    for (at, step) in lab.steps.iter().enumerate() {
        for check in 0..step.checks.len() {
            feed(&mut state, judged(at, check, true, Finding::Expected));
        }
        feed(
            &mut state,
            Event::Looted {
                epoch: 0,
                loot: loot(format!("{at}x")),
            },
        );
    }
    assert_eq!(state.score().earned, Points(100));
    let opened: Vec<&str> = put_aside
        .iter()
        .flat_map(|start| &start.steps)
        .map(String::as_str)
        .collect();
    assert_eq!(
        opened.len(),
        lab.steps.len() - 1,
        "all but the first were opened by passing: {opened:?}"
    );
    let numbers: Vec<u32> = put_aside.iter().map(|start| start.number).collect();
    assert!(numbers.windows(2).all(|two| two[0] < two[1]), "{numbers:?}");
    let (at, _) = lab.step("token").unwrap();
    let dropped = lab.needing(at);
    let start = state.start_of(at).unwrap();
    state.apply(&Event::HintOpened { step: at, hint: 1 });
    let effects = state.apply(&Event::ResetStep { step: at });
    assert!(effects.contains(&Effect::Restore {
        epoch: 1,
        to: start.clone()
    }));
    assert_eq!(state.loot().len(), 1, "what was found after it was opened is forgotten");
    for step in 0..lab.steps.len() {
        assert_eq!(state.passed(step), !dropped.contains(&step), "{step}");
    }
    assert_eq!(state.steps()[at].hints, [1], "what was paid for was read");
    assert_eq!(state.start_of(at), Some(start), "it can be gone back to again");
    assert!(
        dropped.len() > 1
            && dropped
                .iter()
                .all(|step| *step == at || state.start_of(*step).is_none())
    );
    assert_eq!(
        state.apply(&judged(at, 0, true, Finding::Expected)),
        [],
        "a late result of before"
    );
    assert_eq!(state.back_to().map(|start| start.number), Some(numbers[0]));
    state.apply(&Event::Deployed { epoch: 1 });
    assert_eq!((state.back_to(), state.phase()), (None, &Phase::Ready));
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
