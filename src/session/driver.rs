//! Runs a session: feeds what happens to the state machine, and its effects to the world.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::join_all};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    captures::Captures,
    command::Refusal,
    journal::Journal,
    snapshot::{Notice, NoticeLevel, Phase, ProgressView, SessionView, StepState, WorkloadView},
    state::{Effect, Event, State},
    view,
    world::{Change, Changes, Sight, World, WorldError},
};
use crate::{
    check,
    cluster::Progress,
    lab::{Check, Lab},
};

/// How long changes are collected before the checks run again.
const DEBOUNCE: Duration = Duration::from_millis(150);
/// Notices that are kept.
const NOTICES: usize = 50;

/// What a session was begun with.
pub struct Begin {
    /// The session's id.
    pub id: String,
    /// The cluster's name.
    pub cluster: String,
    /// Where it was left, or new.
    pub state: State,
    /// Where it is written down.
    pub journal: Journal,
    /// Whether the lab's file has changed since the session began.
    pub lab_changed: bool,
}

/// A running session.
pub struct Session {
    id: String,
    cluster: String,
    lab_changed: bool,
    lab: Arc<Lab>,
    world: Arc<dyn World>,
    core: Mutex<Core>,
    changed: watch::Sender<u64>,
    recheck: Notify,
    checking: tokio::sync::Mutex<()>,
    working: tokio::sync::Mutex<()>,
    stop: CancellationToken,
}

pub(super) struct Core {
    pub(super) state: State,
    journal: Journal,
    pub(super) captures: Captures,
    pub(super) workloads: Vec<WorkloadView>,
    pub(super) notices: VecDeque<Notice>,
    pub(super) progress: Option<ProgressView>,
}

/// A check to run: its step's place, its own, and the student's answer.
type Job = (usize, usize, Option<String>);

/// A command that cannot be done now.
pub(super) fn refuse(message: impl Into<String>, hint: impl Into<String>) -> Refusal {
    Refusal {
        message: message.into(),
        hint: Some(hint.into()),
    }
}

impl From<WorldError> for Refusal {
    fn from(error: WorldError) -> Self {
        Self {
            message: error.message,
            hint: error.hint,
        }
    }
}

impl Session {
    /// Begins, or goes on; the lab is being deployed when this returns.
    pub fn begin(begin: Begin, world: Arc<dyn World>) -> Arc<Self> {
        let session = Arc::new(Self {
            id: begin.id,
            cluster: begin.cluster,
            lab_changed: begin.lab_changed,
            lab: begin.state.lab().clone(),
            world,
            core: Mutex::new(Core {
                state: begin.state,
                journal: begin.journal,
                captures: Captures::default(),
                workloads: Vec::new(),
                notices: VecDeque::new(),
                progress: None,
            }),
            changed: watch::Sender::new(0),
            recheck: Notify::new(),
            checking: tokio::sync::Mutex::default(),
            working: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
        });
        session.spawn(Self::deploy(session.clone()));
        session.spawn(Self::keep_checking(session.clone()));
        session
    }

    /// Runs a task for as long as the session.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(task));
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lab.
    pub fn lab(&self) -> &Arc<Lab> {
        &self.lab
    }

    pub(super) fn world(&self) -> &Arc<dyn World> {
        &self.world
    }

    /// Grows whenever the session looks different.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What a face sees.
    pub fn view(&self) -> SessionView {
        let kubeconfig = self.world.kubeconfig();
        let core = self.core();
        let mut view = view::session(&core);
        view.id.clone_from(&self.id);
        view.cluster.clone_from(&self.cluster);
        view.kubeconfig = kubeconfig.map(|path| path.display().to_string());
        view.lab_changed = self.lab_changed;
        view
    }

    /// What the session is doing.
    pub fn phase(&self) -> Phase {
        self.core().state.phase().clone()
    }

    pub(super) fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Takes an event in and runs its effects.
    pub fn feed(self: &Arc<Self>, event: &Event) {
        let mut core = self.core();
        let effects = core.state.apply(event);
        for effect in effects {
            match effect {
                Effect::Record(event) => {
                    if let Err(error) = core.journal.append(&event) {
                        let text = format!("progress is not being saved: {error}");
                        core.notice(NoticeLevel::Error, text);
                    }
                }
                Effect::Notify(level, text) => core.notice(level, text),
                Effect::EndCaptures => core.captures.clear(),
                Effect::Recheck => self.recheck.notify_one(),
                Effect::Restore { epoch } => self.spawn(Self::restore(self.clone(), epoch)),
            }
        }
        drop(core);
        self.touch();
    }

    /// Shows progress for as long as the guard's owner works.
    fn progress(self: &Arc<Self>) -> Progress {
        let session = Arc::downgrade(self);
        Arc::new(move |event| {
            if let Some(session) = session.upgrade() {
                session.core().progress = Some(ProgressView {
                    phase: event.phase,
                    done: event.done,
                    total: event.total,
                    detail: event.detail,
                });
                session.touch();
            }
        })
    }

    async fn deploy(self: Arc<Self>) {
        let (epoch, as_is) = {
            let core = self.core();
            (core.state.epoch(), core.state.deployed())
        };
        let mut outcome = self.world.deploy(&self.lab, as_is, &self.progress()).await;
        if outcome.is_ok() {
            // Watching begins before the student can act, so that nothing is missed.
            match self.world.changes(&self.lab).await {
                Ok(changes) => self.spawn(Self::keep_watching(self.clone(), changes)),
                Err(error) => outcome = Err(error),
            }
        }
        self.settled(epoch, outcome);
    }

    async fn restore(self: Arc<Self>, epoch: u64) {
        let outcome = self.world.restore(&self.lab, &self.progress()).await;
        self.settled(epoch, outcome);
    }

    fn settled(self: &Arc<Self>, epoch: u64, outcome: Result<(), WorldError>) {
        self.core().progress = None;
        self.feed(&match outcome {
            Ok(()) => Event::Deployed { epoch },
            Err(error) => Event::Failed {
                epoch,
                why: error
                    .hint
                    .map_or(error.message.clone(), |hint| format!("{} ({hint})", error.message)),
            },
        });
    }

    async fn keep_watching(self: Arc<Self>, mut changes: Changes) {
        while let Some(change) = changes.next().await {
            match change {
                Change::Workloads(workloads) => {
                    self.core().workloads = workloads;
                    self.touch();
                }
                Change::Cluster => self.feed(&Event::Changed),
                Change::Lost(why) => {
                    tracing::warn!(%why, "the cluster is gone");
                    return self.lost().await;
                }
            }
        }
    }

    /// Takes in that the cluster is gone: the session fails, with its progress, and can be started again.
    async fn lost(self: &Arc<Self>) {
        if self.phase() != Phase::Ready {
            return;
        }
        // Forgets the cluster's client; there is nothing of it to end.
        let _ = self.world.end(false).await;
        let epoch = {
            let mut core = self.core();
            core.captures.clear();
            core.workloads.clear();
            core.state.epoch()
        };
        let why = format!(
            "the cluster does not answer any more: `ztlab lab start {}` makes it anew, and keeps your progress",
            self.lab.id
        );
        self.feed(&Event::Failed { epoch, why });
    }

    /// Makes sure that the cluster is there before a face is told so.
    pub async fn look(self: &Arc<Self>) {
        if self.phase() == Phase::Ready && !self.world.answers().await {
            self.lost().await;
        }
    }

    async fn keep_checking(self: Arc<Self>) {
        loop {
            self.recheck.notified().await;
            tokio::time::sleep(DEBOUNCE).await;
            if self.phase() == Phase::Ready {
                self.check(None).await;
            }
        }
    }

    /// Waits until something is so. Asked after each change, with no lock held: `watch::Receiver::wait_for` would hold
    /// the channel's while `hoped` takes the core's, and whoever holds the core's and tells of a change waits for both.
    pub(super) async fn until(&self, hoped: impl Fn() -> bool) {
        let mut changes = self.changes();
        while !hoped() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until the session has come out of starting or resetting.
    pub async fn settle(&self) -> Phase {
        let busy = |phase: &Phase| matches!(phase, Phase::Starting | Phase::Resetting);
        self.until(|| !busy(&self.phase())).await;
        self.phase()
    }

    /// Runs the checks of one step, or of every step that is not locked, and of those that open because of it.
    pub async fn check(self: &Arc<Self>, only: Option<usize>) {
        // One round at a time: an older judgement must not come after a newer one.
        let _round = self.checking.lock().await;
        let mut done = BTreeSet::new();
        loop {
            let (epoch, sight, jobs) = self.jobs(only, &done);
            if jobs.is_empty() {
                return;
            }
            done.extend(jobs.iter().map(|(step, ..)| *step));
            let lab = &self.lab;
            let judged = join_all(jobs.iter().map(async |(step, check, given)| {
                let plan: &Check = &lab.steps[*step].checks[*check];
                let evidence = self.world.gather(&sight, plan, given.clone()).await;
                (*step, *check, check::judge(plan, &evidence))
            }))
            .await;
            for (step, check, judgement) in judged {
                self.feed(&Event::Judged {
                    epoch,
                    step,
                    check,
                    judgement,
                });
            }
        }
    }

    /// The checks to run, and what they are run on.
    fn jobs(&self, only: Option<usize>, done: &BTreeSet<usize>) -> (u64, Sight, Vec<Job>) {
        let core = self.core();
        let state = &core.state;
        let open = (0..state.steps().len())
            .filter(|step| only.is_none_or(|only| only == *step) && !done.contains(step))
            .filter(|step| state.step_state(*step) != StepState::Locked);
        let jobs = open
            .flat_map(|step| {
                let checks = state.steps()[step].checks.iter().enumerate();
                checks.map(move |(check, progress)| (step, check, progress.answer.clone()))
            })
            .collect();
        let sight = Sight {
            seen: Arc::new(core.captures.evidence()),
            loot: state.loot().into(),
        };
        (state.epoch(), sight, jobs)
    }

    /// Refuses while the student cannot work.
    pub(super) fn ready(&self) -> Result<(), Refusal> {
        match self.phase() {
            Phase::Ready => Ok(()),
            Phase::Failed(why) => Err(refuse(
                format!("the lab is not running: {why}"),
                format!("`ztlab lab start {}` tries again", self.lab.id),
            )),
            phase => Err(refuse(
                format!("the lab is {}", view::phase_word(&phase)),
                "wait until it is ready",
            )),
        }
    }

    /// The place of a step.
    pub(super) fn step(&self, id: &str) -> Result<usize, Refusal> {
        self.lab.step(id).map(|(at, _)| at).ok_or_else(|| {
            let known: Vec<&str> = self.lab.steps.iter().map(|step| step.id.as_str()).collect();
            refuse(
                format!("there is no step `{}`", crate::text::one_line(id)),
                format!("the steps are: {}", known.join(", ")),
            )
        })
    }

    /// The place of a step that can be worked on.
    pub(super) fn open_step(&self, id: &str) -> Result<usize, Refusal> {
        let at = self.step(id)?;
        let core = self.core();
        if core.state.step_state(at) != StepState::Locked {
            return Ok(at);
        }
        let missing = self.lab.steps[at]
            .needs
            .iter()
            .filter(|need| !core.state.passed(**need));
        let missing: Vec<&str> = missing.map(|need| self.lab.steps[*need].id.as_str()).collect();
        Err(refuse(
            format!("the step `{id}` is locked"),
            format!("pass first: {}", missing.join(", ")),
        ))
    }

    /// Holds off other long work; refused while some runs.
    pub(super) fn work(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Refusal> {
        self.working.try_lock().map_err(|_| {
            refuse(
                "another command of this session still runs",
                "wait until it has finished",
            )
        })
    }

    /// Answers a question.
    pub async fn answer(self: &Arc<Self>, step: &str, check: &str, value: &str) -> Result<(), Refusal> {
        let at = self.open_step(step)?;
        let plan = &self.lab.steps[at];
        let questions = || {
            let asked = plan
                .checks
                .iter()
                .filter(|check| matches!(check.kind, crate::lab::CheckKind::Question(_)));
            asked
                .map(|check| format!("`{}`", check.name))
                .collect::<Vec<_>>()
                .join(", ")
        };
        match plan.check(check) {
            Some((index, found)) if matches!(found.kind, crate::lab::CheckKind::Question(_)) => {
                self.feed(&Event::Answered {
                    step: at,
                    check: index,
                    value: value.chars().take(1000).collect(),
                });
                self.check(Some(at)).await;
                Ok(())
            }
            _ => Err(refuse(
                format!("`{}` is no question of the step `{step}`", crate::text::one_line(check)),
                format!("its questions are: {}", questions()),
            )),
        }
    }

    /// Opens the next hint of a step.
    pub fn hint(self: &Arc<Self>, step: &str) -> Result<String, Refusal> {
        let at = self.open_step(step)?;
        let next = self.core().state.next_hint(at);
        let Some((hint, cost)) = next else {
            return Err(refuse(
                format!("the step `{step}` has no more hints to ask for"),
                "some hints open by themselves when a check finds something",
            ));
        };
        self.feed(&Event::HintOpened { step: at, hint });
        Ok(format!("a hint, for {cost} points"))
    }

    /// Back to the start of the lab; returns when it is ready again.
    pub async fn reset(self: &Arc<Self>) -> Result<(), Refusal> {
        let _work = self.work()?;
        match self.phase() {
            Phase::Ready | Phase::Failed(_) => {}
            phase => {
                return Err(refuse(
                    format!("the lab is {}", view::phase_word(&phase)),
                    "wait until it is ready",
                ));
            }
        }
        // No round of checks may straddle the reset: its evidence would be of neither side.
        let round = self.checking.lock().await;
        self.feed(&Event::Reset);
        drop(round);
        match self.settle().await {
            Phase::Failed(why) => Err(refuse(
                why,
                "try the reset again, or stop the lab with --delete and start it",
            )),
            _ => Ok(()),
        }
    }

    /// Deploys again after a failure.
    pub fn retry(self: &Arc<Self>) {
        self.core().state.restart();
        self.touch();
        self.spawn(Self::deploy(self.clone()));
    }

    /// Ends the session.
    pub async fn end(self: &Arc<Self>, delete: bool) -> Result<(), Refusal> {
        self.feed(&Event::Stopping);
        self.stop.cancel();
        self.world.end(delete).await.map_err(Refusal::from)
    }
}

impl Core {
    pub(super) fn notice(&mut self, level: NoticeLevel, text: String) {
        if self.notices.len() == NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(Notice {
            at_ms: super::now_ms(),
            level,
            text,
        });
    }
}
