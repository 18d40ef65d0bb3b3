//! The session host: owns this user's session, whoever looks at it.

mod begin;
mod labs;
mod process;
mod socket;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use labs::Topologies;
pub use process::host_stage;
pub(super) use process::{READY, SOCKET};

use begin::Wish;

use super::{
    GroundWorld,
    checking::Lane,
    command::{Command, Refusal, Reply},
    driver::{Session, refuse},
    edited::edited,
    site::Site,
    snapshot::{Phase, Snapshot, StepState},
    world::World,
    write,
};
use crate::catalog;

/// How long changes are collected before a new snapshot is sent.
const FRAME: Duration = Duration::from_millis(40);

/// Said of a session that was there before.
const GOES_ON: &str = "goes on where it was left";

/// Makes the world of a session: where it runs in, world out.
pub type Worlds = Box<dyn Fn(&Site) -> Arc<dyn World> + Send + Sync>;

/// Owns the session; commands come in, snapshots go out.
pub struct Host {
    dir: PathBuf,
    prefix: String,
    worlds: Worlds,
    slot: tokio::sync::Mutex<Option<Arc<Session>>>,
    session: watch::Sender<Option<Arc<Session>>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    revision: AtomicU64,
    /// Whether somebody may want to see how what has passed is now.
    attended: AtomicBool,
    stop: CancellationToken,
}

/// Which session was running, so that a new host goes on with it.
#[derive(Debug, Serialize, Deserialize)]
struct Active {
    lab: String,
    cwd: Option<PathBuf>,
}

impl Host {
    /// A host that keeps its sessions in `dir` and calls its clusters `<prefix><lab>`.
    pub fn new(dir: PathBuf, prefix: &str) -> Arc<Self> {
        Self::in_worlds(dir, prefix, Box::new(|site| Arc::new(GroundWorld::new(site.clone()))))
    }

    /// The same in other worlds.
    pub fn in_worlds(dir: PathBuf, prefix: &str, worlds: Worlds) -> Arc<Self> {
        let host = Arc::new(Self {
            dir,
            prefix: prefix.to_owned(),
            worlds,
            slot: tokio::sync::Mutex::new(None),
            session: watch::Sender::new(None),
            snapshots: watch::Sender::new(Arc::default()),
            revision: AtomicU64::new(0),
            attended: AtomicBool::new(true),
            stop: CancellationToken::new(),
        });
        let publisher = Self::publish(Arc::downgrade(&host), host.session.subscribe());
        tokio::spawn(host.stop.clone().run_until_cancelled_owned(publisher));
        host
    }

    /// From now on a check that has passed runs only when it is asked for: nobody looks at how it is now.
    pub fn leave_unattended(&self) {
        self.attended.store(false, Ordering::Relaxed);
    }

    /// Snapshots from now on; the receiver always has the last one.
    pub fn follow(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.subscribe()
    }

    /// Done when the host was told to stop.
    pub fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Whether a session is running.
    pub fn busy(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// The state now.
    pub fn snapshot(&self) -> Snapshot {
        let session = self.session.borrow().clone();
        Snapshot {
            revision: self.revision.fetch_add(1, Ordering::Relaxed) + 1,
            session: session.map(|session| session.view()),
        }
    }

    async fn publish(host: std::sync::Weak<Self>, mut sessions: watch::Receiver<Option<Arc<Session>>>) {
        loop {
            let session = sessions.borrow_and_update().clone();
            let mut changes = session.as_ref().map(|session| session.changes());
            drop(session);
            loop {
                let Some(host) = host.upgrade() else {
                    return;
                };
                if let Some(changes) = &mut changes {
                    changes.mark_unchanged();
                }
                host.snapshots.send_replace(Arc::new(host.snapshot()));
                drop(host);
                tokio::time::sleep(FRAME).await;
                let changed = async {
                    match &mut changes {
                        Some(changes) => changes.changed().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    other = sessions.changed() => {
                        if other.is_err() {
                            return;
                        }
                        break;
                    }
                    gone = changed => if gone.is_err() {
                        changes = None;
                    },
                }
            }
        }
    }

    /// Runs a command of a face that works in `cwd`.
    pub async fn run(self: &Arc<Self>, cwd: Option<PathBuf>, command: Command) -> Reply {
        let done = match command {
            Command::Labs => {
                return Reply::Labs {
                    labs: labs::summaries(&self.dir, cwd.as_deref()),
                };
            }
            Command::Start {
                lab,
                ground,
                fresh,
                context,
            } => match Wish::new(lab, &ground, fresh, context) {
                Ok(wish) => self.start(cwd.clone(), wish).await,
                Err(refusal) => Err(refusal),
            },
            Command::Shutdown => {
                self.stop.cancel();
                Ok("the session host stops; what runs in the cluster goes on".to_owned())
            }
            Command::Status => {
                if let Some(session) = self.session.borrow().as_ref() {
                    // Whoever asks waits for something to be noticed.
                    session.sign();
                }
                Ok("this is the state".to_owned())
            }
            Command::Stop { delete } => self.stop_session(delete).await,
            command => self.in_session(command).await,
        };
        match done {
            Ok(message) => Reply::Done {
                message,
                snapshot: Box::new(self.snapshot()),
            },
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    async fn in_session(&self, command: Command) -> Result<String, Refusal> {
        let session = self.session.borrow().clone();
        let session = session.ok_or_else(no_session)?;
        let done = Self::act(&session, command).await;
        // What the student does next must not be in the start of a step that this opened.
        session.kept().await;
        done
    }

    async fn act(session: &Arc<Session>, command: Command) -> Result<String, Refusal> {
        match command {
            Command::Check { step } => {
                session.ready()?;
                let at = step.as_deref().map(|step| session.open_step(step)).transpose()?;
                session.ask(at);
                session.check(at).await;
                Ok("checked".to_owned())
            }
            Command::Answer { step, check, value } => session.answer(&step, &check, &value).await,
            Command::Hint { step } => session.hint(&step),
            Command::Solve { step } => session.solve(step.as_deref()).await,
            Command::Attempt { step, attempt } => session.attempt(&step, attempt).await,
            Command::Reset { step } => session.reset(step.as_deref()).await,
            Command::Pause => session.pause().await,
            Command::Resume => {
                if session.phase() != Phase::Paused {
                    session.ready()?;
                    return Ok("the lab is not paused".to_owned());
                }
                session.resume();
                ready(session, GOES_ON).await
            }
            Command::CaptureStart { pod, filter, seconds } => {
                let limit = seconds.map(Duration::from_secs);
                session.capture(&pod, filter, limit).await
            }
            Command::CaptureStop { pod } => session.capture_stop(pod.as_deref()).await,
            Command::Labs | Command::Start { .. } | Command::Status | Command::Stop { .. } | Command::Shutdown => {
                Err(refuse("this command is for no session", "this is a mistake in ztlab"))
            }
        }
    }

    async fn start(self: &Arc<Self>, cwd: Option<PathBuf>, wish: Wish) -> Result<String, Refusal> {
        let mut slot = self.slot.lock().await;
        if let Some(session) = slot.clone() {
            if session.lab().id.as_str() != wish.lab {
                // One that is not there is what is wrong, whatever runs.
                catalog::find(&wish.lab, cwd.as_deref()).map_err(labs::refusal)?;
                return Err(refuse(
                    format!("the lab `{}` is running", session.lab().id),
                    "end it first: `ztlab lab stop` (its progress is kept)",
                ));
            }
            let elsewhere = session.is_new() && wish.fits(session.choice()).is_err();
            if !wish.fresh && !elsewhere {
                wish.fits(session.choice())?;
                let mut how = "was running already";
                session.look().await;
                match session.phase() {
                    Phase::Failed(_) => {
                        session.retry();
                        // What failed never ran.
                        how = if session.is_new() { "is ready" } else { GOES_ON };
                    }
                    Phase::Paused => {
                        session.resume();
                        how = GOES_ON;
                    }
                    _ => {}
                }
                drop(slot);
                return ready(&session, how).await;
            }
            session.end(false).await?;
            *slot = None;
            self.session.send_replace(None);
        }
        let (session, resumed) = self.open(&mut slot, cwd, &wish)?;
        if resumed {
            // Asking for the lab is the end of a rest.
            session.resume();
        }
        drop(slot);
        ready(&session, if resumed { GOES_ON } else { "is ready" }).await
    }

    /// Begins or continues a session; its cluster is made ready in the background.
    fn open(
        self: &Arc<Self>,
        slot: &mut Option<Arc<Session>>,
        cwd: Option<PathBuf>,
        wish: &Wish,
    ) -> Result<(Arc<Session>, bool), Refusal> {
        let (begin, site, resumed) = self.begin(cwd.as_deref(), wish)?;
        let world = (self.worlds)(&site);
        let session = Session::begin(begin, world);
        if self.attended.load(Ordering::Relaxed) {
            session.spawn(Session::keep_checking(session.clone(), Lane::Passed));
        }
        for lane in Lane::OPEN {
            let host = Arc::downgrade(self);
            let shown = move || host.upgrade().is_some_and(|host| host.snapshots.receiver_count() > 0);
            session.spawn(Session::keep_asking(session.clone(), lane, shown));
        }
        *slot = Some(session.clone());
        self.session.send_replace(Some(session.clone()));
        let active = Active {
            lab: wish.lab.clone(),
            cwd,
        };
        self.remember(Some(&active)).map_err(|error| Refusal {
            message: format!("{}: {error}", self.dir.display()),
            hint: Some("see that the state directory can be written".to_owned()),
        })?;
        Ok((session, resumed))
    }

    async fn stop_session(&self, delete: bool) -> Result<String, Refusal> {
        let mut slot = self.slot.lock().await;
        let session = slot.clone().ok_or_else(no_session)?;
        let ended = session.end(delete).await;
        *slot = None;
        self.session.send_replace(None);
        // A marker that stays makes the next host go on with the session: no harm.
        let _ = self.remember(None);
        ended?;
        let id = &session.lab().id;
        Ok(if delete && session.choice().context.is_some() {
            let place = session.choice().told();
            format!("stopped {id} and removed what it made on {place}; its progress is kept")
        } else if delete {
            format!("stopped {id} and deleted its cluster; its progress is kept")
        } else {
            format!("stopped {id}; its cluster goes on, its progress is kept")
        })
    }

    fn remember(&self, active: Option<&Active>) -> io::Result<()> {
        let path = self.dir.join("active.json");
        match active {
            Some(active) => write(&path, &serde_json::to_vec(active)?),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Takes up the session that ran when the last host ended, as its journal left it. Does not wait for its cluster.
    pub async fn take_up(self: &Arc<Self>) -> Option<Arc<Session>> {
        let active = fs::read(self.dir.join("active.json")).ok()?;
        let active: Active = serde_json::from_slice(&active).ok()?;
        let mut slot = self.slot.lock().await;
        match self.open(&mut slot, active.cwd, &Wish::again(active.lab.clone())) {
            Ok((session, _)) => Some(session),
            Err(refusal) => {
                tracing::warn!(lab = active.lab, "not resumed: {}", refusal.message);
                None
            }
        }
    }
}

/// Whether a session was running in this directory when its host ended.
pub(super) fn was_active(dir: &Path) -> bool {
    dir.join("active.json").is_file()
}

fn no_session() -> Refusal {
    refuse("no lab is running", "`ztlab lab start ID` starts one")
}

async fn ready(session: &Session, how: &str) -> Result<String, Refusal> {
    let id = &session.lab().id;
    match session.settle().await {
        Phase::Failed(why) => Err(refuse(
            format!("the lab `{id}` did not start: {why}"),
            "starting it again is safe; `ztlab doctor` tells what this machine lacks",
        )),
        _ => {
            let view = session.view();
            let next = view.steps.iter().find(|step| step.state == StepState::Open);
            let next = next.map_or_else(
                || "every step is passed".to_owned(),
                |step| format!("next step: {}", step.title),
            );
            let mut told = vec![format!("{id} {how} ({})", view.score), next];
            told.extend(session.core().notes.clone());
            if view.lab_changed {
                told.push(edited(id.as_str()));
            }
            Ok(told.join("; "))
        }
    }
}
