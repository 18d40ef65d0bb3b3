//! Living through a lab, rightly and wrongly.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    order,
    plan::{RUNS, Run, Stage, changes_the_cluster, sessions},
    proof::{Line, Proof},
    timed::{TimedWorld, Times},
};
use crate::{
    catalog::{self, CatalogError},
    cluster::GroundKind,
    lab::Lab,
    score::Points,
    session::{
        GroundWorld, Host, Topologies,
        command::{Command, Refusal, Reply},
        site::{ContextChoice, Site},
        snapshot::{CheckState, SessionView, StepState, StepView},
        world::World,
    },
};

/// How long an untouched lab is watched: traffic flows, and still nothing may score.
const UNTOUCHED: Duration = Duration::from_millis(1500);

/// Why a lab could not be tried at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no such lab, or it is broken.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// No place for the scratch session.
    #[error("scratch directory: {0}")]
    Io(#[from] io::Error),
    /// It was to end before it had come to its own.
    #[error("the proof of `{0}` was ended before it was done")]
    Ended(String),
    /// The session would not do what every session must.
    #[error("{doing}: {}", .refusal.message)]
    Session {
        /// What was asked of it.
        doing: String,
        /// What it said.
        refusal: Refusal,
    },
}

impl VerifyError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Catalog(error) => error.hint(),
            Self::Io(_) | Self::Ended(_) => None,
            Self::Session { refusal, .. } => refusal.hint.clone(),
        }
    }
}

/// Where a lab is proved, and how.
pub struct Proving<'a> {
    /// From where labs are looked for beside those that ship.
    pub cwd: Option<&'a Path>,
    /// Which ground it is proved on.
    pub ground: GroundKind,
    /// Which cluster, where the ground asks for one.
    pub context: Option<ContextChoice>,
    /// How many sessions may live at the same time; shared by all proofs that run.
    pub places: &'a Semaphore,
    /// When it is cancelled, the proof stops where it is, and its scratch clusters go all the same.
    pub end: &'a CancellationToken,
}

/// Who hears of the lines of all sessions.
type Hears<'a> = dyn Fn(&Line) + 'a;

/// Proves a lab in scratch clusters; `told` hears of each line as it is known.
///
/// # Errors
/// When the lab cannot be had, a session with it cannot be started, reset or ended, or `end` was cancelled.
pub async fn verify(id: &str, proving: &Proving<'_>, told: &mut dyn FnMut(&Line)) -> Result<Proof, VerifyError> {
    let found = catalog::find(id, proving.cwd)?;
    let lab = Arc::new(found.load(&Topologies)?);
    let times = Arc::new(Times::default());
    let told = RefCell::new(told);
    let mut lines = whole(&lab);
    let told = |line: &Line| (told.borrow_mut())(line);
    lines.iter().for_each(told);
    let mut took = Duration::ZERO;
    let living = sessions(&lab, proving.ground)
        .into_iter()
        .enumerate()
        .map(|(at, stages)| {
            let (lab, times, told) = (lab.clone(), times.clone(), &told);
            live(proving, lab, (at, stages), times, told)
        });
    // All of them to their end, whatever comes of one: each deletes its cluster.
    for lived in future::join_all(living).await {
        let (more, lived_for) = lived?;
        lines.extend(more);
        took = took.max(lived_for);
    }
    lines.sort_by_key(|line| line.run);
    let line = same(&lines);
    told(&line);
    lines.push(line);
    Ok(Proof {
        lab: found.id.clone(),
        hash: found.hash(),
        took_ms: millis(took),
        ok: lines.iter().all(|line| line.ok),
        timings: times.of(&lab),
        lines,
    })
}

/// Lives one session of a proof, once there is a place for it: what it showed, and how long it took.
async fn live(
    proving: &Proving<'_>,
    lab: Arc<Lab>,
    (at, stages): (usize, Vec<Stage>),
    times: Arc<Times>,
    told: &Hears<'_>,
) -> Result<(Vec<Line>, Duration), VerifyError> {
    let place = proving.end.run_until_cancelled(proving.places.acquire()).await;
    let Some(Ok(_place)) = place else {
        return Err(VerifyError::Ended(lab.id.to_string()));
    };
    let began = Instant::now();
    let dir = crate::paths::state_dir()?.join(format!("verify-{}-{}-{at}", std::process::id(), lab.id));
    crate::paths::private_dir(dir.clone())?;
    let worlds = Box::new(move |site: &Site| -> Arc<dyn World> {
        Arc::new(TimedWorld {
            world: Arc::new(GroundWorld::new(site.clone())),
            times: times.clone(),
        })
    });
    let prefix = match at {
        0 => "verify-".to_owned(),
        at => format!("verify-{}-", at + 1),
    };
    let host = Host::in_worlds(dir.clone(), &prefix, worlds);
    host.leave_unattended();
    let mut trial = Trial {
        host,
        cwd: proving.cwd.map(Path::to_owned),
        lab: lab.clone(),
        lines: Vec::new(),
        told,
        snapshots: proving.context.is_none(),
    };
    let place = (proving.ground, proving.context.clone());
    let outcome = proving.end.run_until_cancelled(trial.all(place, &stages)).await;
    let outcome = outcome.unwrap_or_else(|| Err(VerifyError::Ended(lab.id.to_string())));
    // Whatever happened, the scratch cluster goes; what kept it from going is told only if all else went well.
    let ended = trial.done("stop the lab", Command::Stop { delete: true }).await;
    let _ = std::fs::remove_dir_all(&dir);
    outcome?;
    ended?;
    Ok((trial.lines, began.elapsed()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Every step has a solution, and at least two wrong attempts.
fn whole(lab: &Lab) -> Vec<Line> {
    let written = lab.steps.iter().map(|step| {
        let (solution, wrong) = (step.solution.len(), step.wrong.len());
        Line {
            run: 1,
            what: format!("{}: written", step.id),
            expected: "a solution, two wrong attempts".to_owned(),
            found: format!("{solution} actions and {wrong} attempts"),
            ok: solution > 0 && wrong >= 2,
            took_ms: 0,
        }
    });
    written.collect()
}

/// Both runs found the same.
fn same(lines: &[Line]) -> Line {
    let of = |run: u32| -> Vec<(&str, &str, bool)> {
        let lines = lines
            .iter()
            .filter(|line| line.run == run && !line.what.ends_with(": written"));
        lines
            .map(|line| (line.what.as_str(), line.found.as_str(), line.ok))
            .collect()
    };
    let (first, second) = (of(1), of(RUNS));
    let mut pairs = first.iter().zip(&second);
    let differing = pairs.find(|(one, other)| one != other).map(|(one, _)| one.0);
    let found = match differing {
        Some(what) => format!("another outcome of `{what}`"),
        None if first.len() != second.len() => format!("{} lines and {}", first.len(), second.len()),
        None => "the same".to_owned(),
    };
    Line {
        run: RUNS + 1,
        what: "both runs".to_owned(),
        expected: "the same".to_owned(),
        ok: found == "the same",
        found,
        took_ms: 0,
    }
}

struct Trial<'a> {
    host: Arc<Host>,
    cwd: Option<std::path::PathBuf>,
    lab: Arc<Lab>,
    lines: Vec<Line>,
    told: &'a Hears<'a>,
    /// Whether the ground can put a step's start back.
    snapshots: bool,
}

/// What a line compares.
struct Found {
    ok: bool,
    found: String,
}

impl Trial<'_> {
    async fn run(&self, command: Command) -> Result<SessionView, Refusal> {
        match self.host.run(self.cwd.clone(), command).await {
            Reply::Done { snapshot, .. } => snapshot.session.ok_or_else(|| Refusal {
                message: "there is no session".to_owned(),
                hint: None,
            }),
            Reply::Refused(refusal) => Err(refusal),
            Reply::Labs { .. } => Err(Refusal {
                message: "an answer to another question came".to_owned(),
                hint: None,
            }),
        }
    }

    async fn done(&self, doing: &str, command: Command) -> Result<(), VerifyError> {
        match self.host.run(self.cwd.clone(), command).await {
            Reply::Refused(refusal) => Err(VerifyError::Session {
                doing: doing.to_owned(),
                refusal,
            }),
            _ => Ok(()),
        }
    }

    fn tell(&mut self, run: u32, what: String, expected: String, began: Instant, outcome: Result<Found, Refusal>) {
        let outcome = outcome.unwrap_or_else(|refusal| Found {
            ok: false,
            found: refusal.message,
        });
        let line = Line {
            run,
            what,
            expected,
            found: outcome.found,
            ok: outcome.ok,
            took_ms: millis(began.elapsed()),
        };
        (self.told)(&line);
        self.lines.push(line);
    }

    async fn all(
        &mut self,
        (ground, context): (GroundKind, Option<ContextChoice>),
        stages: &[Stage],
    ) -> Result<(), VerifyError> {
        let start = Command::Start {
            lab: self.lab.id.to_string(),
            ground: ground.to_string(),
            fresh: true,
            context,
        };
        self.done("start the lab", start).await?;
        for stage in stages {
            match stage {
                Stage::Run(run) if run.whole => {
                    self.untouched(run.number, "untouched").await;
                    self.walked(run).await?;
                    self.done("reset the lab", Command::Reset { step: None }).await?;
                    self.untouched(run.number, "reset").await;
                }
                Stage::Run(run) => self.walked(run).await?,
                Stage::Orders => self.other_orders().await?,
            }
        }
        Ok(())
    }

    /// Nobody does anything, and nothing may score.
    async fn untouched(&mut self, run: u32, what: &str) {
        let began = Instant::now();
        tokio::time::sleep(UNTOUCHED).await;
        let view = self.run(Command::Check { step: None }).await;
        let outcome = view.map(|view| Found {
            ok: view
                .steps
                .iter()
                .all(|step| step.earned == Points(0) && passed(step).is_empty()),
            found: scores(&view),
        });
        self.tell(
            run,
            what.to_owned(),
            "0 points, no check passed".to_owned(),
            began,
            outcome,
        );
    }

    /// Takes the steps one after another: those that are to be gone astray in first wrongly, in every way that is written down,
    /// each time back to the start of the step; then rightly.
    async fn walked(&mut self, run: &Run) -> Result<(), VerifyError> {
        let lab = self.lab.clone();
        for (place, at) in order::listed(&lab).into_iter().enumerate() {
            let astray = run.astray.contains(&place);
            if let Some(why) = self.impossible(at).await {
                let what = format!("{}: not possible here", lab.steps[at].id);
                let found = Found { ok: true, found: why };
                self.tell(run.number, what, "no points".to_owned(), Instant::now(), Ok(found));
                continue;
            }
            if !run.whole && !astray {
                return Ok(());
            }
            let attempts = if astray { lab.steps[at].wrong.len() } else { 0 };
            for index in 0..attempts {
                self.attempt(run.number, at, index).await;
                self.back(at).await?;
            }
            let how = if astray { "solved" } else { "solved at once" };
            if !self.solved(run.number, at, how).await {
                // What needs it stays closed.
                break;
            }
        }
        if !run.whole {
            return Ok(());
        }
        let began = Instant::now();
        let outcome = self.run(Command::Status).await.map(|view| Found {
            ok: view.steps.iter().all(is_full),
            found: scores(&view),
        });
        self.tell(
            run.number,
            "solved".to_owned(),
            "every step in full".to_owned(),
            began,
            outcome,
        );
        Ok(())
    }

    /// Why a step is not possible on this ground; none for one that is.
    async fn impossible(&self, at: usize) -> Option<String> {
        let view = self.run(Command::Status).await.ok()?;
        view.steps[at].impossible.clone()
    }

    /// Solves a step; whether that gave all its points.
    async fn solved(&mut self, run: u32, at: usize, how: &str) -> bool {
        let id = self.lab.steps[at].id.to_string();
        let began = Instant::now();
        let solve = Command::Solve { step: Some(id.clone()) };
        let outcome = self.run(solve).await.map(|view| {
            let step = &view.steps[at];
            Found {
                ok: step.earned == step.points,
                found: format!("{} of {} points", step.earned, step.points),
            }
        });
        let solved = outcome.as_ref().is_ok_and(|outcome| outcome.ok);
        self.tell(run, format!("{id}: {how}"), "in full".to_owned(), began, outcome);
        solved
    }

    /// Goes back to the start of a step. Where the ground cannot put that back, the lab begins anew, and what the steps before did
    /// in the cluster is done again.
    async fn back(&mut self, at: usize) -> Result<(), VerifyError> {
        let lab = self.lab.clone();
        let before: Vec<usize> = order::listed(&lab).into_iter().take_while(|step| *step != at).collect();
        let changed = before.iter().any(|step| changes_the_cluster(&lab.steps[*step]));
        let anew = !self.snapshots && changed;
        let step = (!anew).then(|| lab.steps[at].id.to_string());
        self.done("reset the step", Command::Reset { step }).await?;
        for step in before.into_iter().filter(|_| anew) {
            if self.impossible(step).await.is_some() {
                continue;
            }
            let step = Some(lab.steps[step].id.to_string());
            self.done("solve what the step needs again", Command::Solve { step })
                .await?;
        }
        Ok(())
    }

    async fn attempt(&mut self, run: u32, at: usize, index: usize) {
        let lab = self.lab.clone();
        let (step, attempt) = (&lab.steps[at], &lab.steps[at].wrong[index]);
        let began = Instant::now();
        let tried = self
            .run(Command::Attempt {
                step: step.id.to_string(),
                attempt: index,
            })
            .await;
        let name = &step.checks[attempt.fails].name;
        let outcome = tried.map(|view| {
            let step = &view.steps[at];
            let failed = failed(step);
            Found {
                ok: failed == BTreeSet::from([name.as_str()]) && step.earned == attempt.scores,
                found: format!("fails {failed:?}, {} points", step.earned),
            }
        });
        let what = format!("{}: wrong attempt {}", step.id, index + 1);
        let expected = format!("fails `{name}`, {} points", attempt.scores);
        self.tell(run, what, expected, began, outcome);
    }

    /// Whoever takes the steps in another order that they allow gets everything too.
    async fn other_orders(&mut self) -> Result<(), VerifyError> {
        let lab = self.lab.clone();
        for order in order::others(&lab) {
            let began = Instant::now();
            let mut view = None;
            for step in &order {
                if self.impossible(*step).await.is_some() {
                    continue;
                }
                let step = Some(lab.steps[*step].id.to_string());
                match self.run(Command::Solve { step }).await {
                    Ok(now) => view = Some(Ok(now)),
                    Err(refusal) => {
                        view = Some(Err(refusal));
                        break;
                    }
                }
            }
            let Some(view) = view else { continue };
            let outcome = view.map(|view| Found {
                ok: view.steps.iter().all(is_full),
                found: scores(&view),
            });
            let names: Vec<&str> = order.iter().map(|step| lab.steps[*step].id.as_str()).collect();
            let what = format!("solved as {}", names.join(", "));
            self.tell(RUNS + 1, what, "every step in full".to_owned(), began, outcome);
            self.done("reset the lab", Command::Reset { step: None }).await?;
        }
        Ok(())
    }
}

/// Whether a step gave all that it can give on this ground.
fn is_full(step: &StepView) -> bool {
    step.state == StepState::Impossible || step.earned == step.points
}

fn failed(step: &StepView) -> BTreeSet<&str> {
    in_state(step, CheckState::Failed)
}

fn passed(step: &StepView) -> BTreeSet<&str> {
    in_state(step, CheckState::Passed)
}

fn in_state(step: &StepView, state: CheckState) -> BTreeSet<&str> {
    let checks = step.checks.iter().filter(|check| check.verdict == state);
    checks.map(|check| check.name.as_str()).collect()
}

fn scores(view: &SessionView) -> String {
    let steps: Vec<String> = view
        .steps
        .iter()
        .map(|step| format!("{} {}/{}", step.id, step.earned, step.points))
        .collect();
    steps.join(", ")
}
