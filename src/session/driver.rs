//! Runs a session: feeds what happens to the state machine, and its effects to the world.

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use futures::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    asking,
    captures::Captures,
    checking::{Lane, Rounds},
    clock::Clock,
    command::Refusal,
    edited::Pinned,
    journal::Journal,
    site::Choice,
    snapshot::{IdentityView, MessageView, Notice, NoticeLevel, Phase, ProgressView, SessionView, WorkloadView},
    state::{Effect, Event, Start, State},
    topics::Topic,
    view,
    work::{WorkDir, WorkError},
    world::{Change, Changes, Notes, World, WorldError},
};
use crate::{
    cluster::{Progress, manifests::Transform},
    lab::Lab,
};

/// Notices that are kept.
const NOTICES: usize = 50;
/// How long putting a moment aside may take; whoever acts next waits for it.
const ASIDE: Duration = Duration::from_secs(20);

/// What a session was begun with.
pub struct Begin {
    /// The session's id.
    pub id: String,
    /// The cluster's name.
    pub cluster: String,
    /// The ground.
    pub choice: Choice,
    /// The student's work directory.
    pub work: WorkDir,
    /// Where it was left, or new.
    pub state: State,
    /// Where it is written down.
    pub journal: Journal,
    /// How long the student has worked on it, in milliseconds.
    pub spent_ms: u64,
    /// The lab's text, which the session is pinned to.
    pub pinned: Pinned,
    /// What the student should know of how it began.
    pub notes: Notes,
}

/// A running session.
pub struct Session {
    id: String,
    cluster: String,
    choice: Choice,
    pub(super) pinned: Pinned,
    lab: Arc<Lab>,
    world: Arc<dyn World>,
    work: WorkDir,
    core: Mutex<Core>,
    changed: watch::Sender<u64>,
    /// By [`Lane`].
    pub(super) lanes: [Rounds; 3],
    /// Counts what may be the doing of somebody.
    pub(super) signs: AtomicU64,
    working: tokio::sync::Mutex<()>,
    watching: Mutex<CancellationToken>,
    stop: CancellationToken,
}

pub(super) struct Core {
    pub(super) state: State,
    journal: Journal,
    pub(super) clock: Clock,
    pub(super) captures: Captures,
    pub(super) workloads: Vec<WorkloadView>,
    pub(super) notices: VecDeque<Notice>,
    pub(super) progress: Option<ProgressView>,
    pub(super) lab_changed: bool,
    /// What has changed since the checks of each lane ran.
    pub(super) dirty: [BTreeSet<Topic>; 3],
    /// Whether a solution or an attempt is being carried out and looked at.
    pub(super) doing: bool,
    /// Whether it is half done, so that what is found tells nothing yet.
    pub(super) half_done: bool,
    /// Moments that are being put aside.
    putting: usize,
    /// What was to be told of the last start or reset.
    pub(super) notes: Notes,
}

impl Core {
    /// Whether the checks of a lane must not run by themselves now.
    pub(super) fn withholds(&self, lane: Lane) -> bool {
        match lane {
            Lane::Quick => self.half_done,
            // Whoever carries out a solution measures by themselves, when it is done.
            Lane::Posture => self.doing,
            Lane::Passed => false,
        }
    }
}

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
    /// Begins, or goes on; unless the student rests, the lab is being deployed when this returns.
    pub fn begin(begin: Begin, world: Arc<dyn World>) -> Arc<Self> {
        let rests = begin.state.paused();
        let session = Arc::new(Self {
            id: begin.id,
            cluster: begin.cluster,
            choice: begin.choice,
            lab: begin.state.lab().clone(),
            world,
            work: begin.work,
            core: Mutex::new(Core {
                state: begin.state,
                journal: begin.journal,
                clock: Clock::after(begin.spent_ms),
                captures: Captures::default(),
                workloads: Vec::new(),
                notices: VecDeque::new(),
                progress: None,
                lab_changed: begin.pinned.changed,
                dirty: Default::default(),
                doing: false,
                half_done: false,
                putting: 0,
                notes: Vec::new(),
            }),
            pinned: begin.pinned,
            changed: watch::Sender::new(0),
            lanes: Default::default(),
            signs: AtomicU64::new(0),
            working: tokio::sync::Mutex::default(),
            watching: Mutex::default(),
            stop: CancellationToken::new(),
        });
        for note in begin.notes {
            session.core().notice(NoticeLevel::Warning, note);
        }
        if !rests {
            session.spawn(Self::deploy(session.clone()));
        }
        for lane in Lane::OPEN {
            session.spawn(Self::keep_checking(session.clone(), lane));
        }
        session.spawn(Self::keep_comparing(session.clone()));
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

    /// Whether nothing has come of it yet: the lab was never there.
    pub fn is_new(&self) -> bool {
        let core = self.core();
        core.state.durable() == State::new(self.lab.clone()).durable()
    }

    /// The ground it runs on.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Where a file of this session is kept, beside the work directory.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.work.path().with_file_name(name)
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
        view.ground = self.choice.told();
        view.kubeconfig = kubeconfig.map(|path| path.display().to_string());
        drop(core);
        for message in &mut view.traffic.messages {
            if message.protocol == "tls" && !message.probe {
                message.identities = self.identities(message);
            }
        }
        view.manifests = Some(self.world.transform()).filter(|transform| *transform != Transform::default());
        view.work = self.work.path().display().to_string();
        view
    }

    /// Who is at the ends of an encrypted message, by what was measured beside it.
    fn identities(&self, message: &MessageView) -> Vec<IdentityView> {
        let ends = [("from", &message.from_address), ("to", &message.to_address)];
        let held = ends.map(|(end, address)| {
            let held = self
                .world
                .held(address.parse().ok()?, message.at_ms.saturating_mul(1_000_000))?;
            Some(IdentityView {
                end: end.to_owned(),
                spiffe_id: held.id,
                source: "probe".to_owned(),
                on_the_wire: false,
                at_ms: held.at_ns / 1_000_000,
            })
        });
        held.into_iter().flatten().collect()
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
        if asking::is_sign(event) {
            self.sign();
        }
        let mut core = self.core();
        let effects = core.state.apply(event);
        for effect in effects {
            match effect {
                Effect::Record(event) => core.record(&event),
                Effect::Notify(level, text) => core.notice(level, text),
                Effect::EndCaptures => core.captures.clear(),
                Effect::Recheck(topic) => {
                    for lane in Lane::ALL {
                        core.dirty[lane as usize].insert(topic.clone());
                        self.rounds(lane).recheck.notify_one();
                    }
                }
                Effect::Restore { epoch, to } => self.spawn(Self::restore(self.clone(), epoch, to)),
                Effect::PutAside { start } => {
                    core.putting += 1;
                    self.spawn(Self::put_aside(self.clone(), start));
                }
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

    pub(super) async fn deploy(self: Arc<Self>) {
        let (epoch, as_is, back_to) = {
            let core = self.core();
            let state = &core.state;
            (state.epoch(), state.deployed(), state.back_to().cloned())
        };
        let outcome = match back_to {
            // The reset was asked for, and not done yet when everything ended.
            Some(to) => self.put_back(&to).await,
            None => self.world.deploy(&self.lab, as_is, &self.progress()).await,
        };
        self.made(epoch, outcome).await;
    }

    async fn restore(self: Arc<Self>, epoch: u64, to: Start) {
        let outcome = self.put_back(&to).await;
        self.made(epoch, outcome).await;
    }

    /// Puts cluster and work directory back to a moment, and says what is not as it was then.
    async fn put_back(self: &Arc<Self>, to: &Start) -> Result<Notes, WorldError> {
        let restored = self.world.restore(&self.lab, to, &self.progress()).await?;
        let mut notes = restored.notes;
        if !restored.exact {
            notes.push(
                "there is no copy of the cluster from that moment: it is as at the start of the lab, without what \
                 earlier steps did in it; their points stay"
                    .to_owned(),
            );
        }
        let (work, number) = (self.work.clone(), to.number);
        match in_background(move || work.put_back(number)).await {
            Ok(None) => {}
            Ok(Some(before)) => notes.push(format!(
                "your files as they were before the reset are in {}",
                before.display()
            )),
            Err(error) => notes.push(format!("your work directory is as you left it: {error}")),
        }
        Ok(notes)
    }

    /// Takes in that the lab is there, or is not. Watching begins before the student can act, so that nothing is missed.
    async fn made(self: &Arc<Self>, epoch: u64, outcome: Result<Notes, WorldError>) {
        let outcome = match outcome {
            Ok(notes) => match self.know_the_ground().await {
                Ok(()) => self.world.changes(&self.lab).await.map(|changes| {
                    self.watch(changes);
                    notes
                }),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let event = match outcome {
            Ok(notes) => {
                let mut core = self.core();
                for note in &notes {
                    core.notice(NoticeLevel::Warning, note.clone());
                }
                core.notes = notes;
                Event::Deployed { epoch }
            }
            Err(error) => Event::Failed {
                epoch,
                why: error
                    .hint
                    .map_or(error.message.clone(), |hint| format!("{} ({hint})", error.message)),
            },
        };
        self.core().progress = None;
        self.feed(&event);
        self.spawn(self.clone().measure_start(epoch));
    }

    /// Looks once in the life of a session whether the ground can do what single steps need.
    async fn know_the_ground(self: &Arc<Self>) -> Result<(), WorldError> {
        let wanted = self.lab.step_capabilities();
        if wanted.is_empty() || self.core().state.is_measured() {
            return Ok(());
        }
        let lacking = self.world.lacks(&self.lab, &wanted, &self.progress()).await?;
        self.feed(&Event::Measured { lacking });
        Ok(())
    }

    async fn put_aside(self: Arc<Self>, start: Start) {
        let in_use = self.core().state.starts_in_use();
        let (work, number, kept) = (self.work.clone(), start.number, in_use.clone());
        let files = in_background(move || {
            work.keep_only(&kept);
            work.put_aside(number)
        });
        let cluster = tokio::time::timeout(ASIDE, self.world.put_aside(&self.lab, &start, &in_use));
        let (cluster, files) = tokio::join!(cluster, files);
        let late = || WorldError::new("the cluster did not answer in time");
        let cluster = cluster.unwrap_or_else(|_| Err(late()));
        let mut core = self.core();
        core.putting = core.putting.saturating_sub(1);
        let steps = start.steps.join(", ");
        if let Err(error) = cluster {
            let text = format!("the cluster at the start of {steps} could not be put aside: {error}");
            core.notice(NoticeLevel::Warning, text);
        }
        if let Err(error) = files {
            let text = format!("your work directory at the start of {steps} was not put aside: {error}");
            core.notice(NoticeLevel::Warning, text);
        }
        drop(core);
        self.touch();
    }

    /// Waits until the moments that steps were opened in are put aside: nothing may be done in them before.
    pub(super) async fn kept(&self) {
        self.until(|| self.core().putting == 0).await;
    }

    /// Follows these changes, and no others any more.
    fn watch(self: &Arc<Self>, changes: Changes) {
        let token = self.stop.child_token();
        self.unwatch(token.clone());
        let watching = Self::keep_watching(self.clone(), changes);
        tokio::spawn(token.run_until_cancelled_owned(watching));
    }

    /// Ends the watching, for another one or none.
    pub(super) fn unwatch(&self, next: CancellationToken) {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *watching, next).cancel();
    }

    async fn keep_watching(self: Arc<Self>, mut changes: Changes) {
        while let Some(change) = changes.next().await {
            match change {
                Change::Workloads(workloads) => {
                    self.core().workloads = workloads;
                    self.touch();
                }
                Change::Topic(topic) => self.feed(&Event::Changed(topic)),
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
        let _ = self.world.end(&self.lab, false).await;
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

    /// Holds off other long work; refused while some runs.
    pub(super) fn work(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Refusal> {
        self.working.try_lock().map_err(|_| {
            refuse(
                "another command of this session still runs",
                "wait until it has finished",
            )
        })
    }

    /// Ends the session.
    pub async fn end(self: &Arc<Self>, delete: bool) -> Result<(), Refusal> {
        self.feed(&Event::Stopping);
        self.stop.cancel();
        self.world.end(&self.lab, delete).await.map_err(Refusal::from)
    }
}

/// File work off the threads that serve.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WorkError> + Send + 'static,
) -> Result<T, WorkError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Core {
    fn record(&mut self, event: &Event) {
        self.clock.see(event, super::now_ms());
        if let Err(error) = self.journal.append(event) {
            let text = format!("progress is not being saved: {error}");
            self.notice(NoticeLevel::Error, text);
        }
    }

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
