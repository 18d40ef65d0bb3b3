//! Living through a lab, rightly and wrongly.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    order,
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
        snapshot::{CheckState, SessionView, StepView},
        world::World,
    },
};

/// How often the whole lab is lived through.
const RUNS: u32 = 2;
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

/// Proves a lab in a scratch cluster; `told` hears of each line as it is known. When `end` is cancelled, it stops where it
/// is, and the scratch cluster goes all the same.
///
/// # Errors
/// When the lab cannot be had, a session with it cannot be started, reset or ended, or `end` was cancelled.
pub async fn verify(
    id: &str,
    cwd: Option<&Path>,
    place: (GroundKind, Option<ContextChoice>),
    end: &CancellationToken,
    told: &mut dyn FnMut(&Line),
) -> Result<Proof, VerifyError> {
    let began = Instant::now();
    let found = catalog::find(id, cwd)?;
    let lab = Arc::new(found.load(&Topologies)?);
    let dir = crate::paths::state_dir()?.join(format!("verify-{}-{}", std::process::id(), found.id));
    crate::paths::private_dir(dir.clone())?;
    let times = Arc::new(Times::default());
    let noted = times.clone();
    let worlds = Box::new(move |site: &Site| -> Arc<dyn World> {
        Arc::new(TimedWorld {
            world: Arc::new(GroundWorld::new(site.clone())),
            times: noted.clone(),
        })
    });
    let host = Host::in_worlds(dir.clone(), "verify-", worlds);
    host.leave_unattended();
    let mut trial = Trial {
        host,
        cwd: cwd.map(Path::to_owned),
        lab,
        lines: Vec::new(),
        told,
    };
    let outcome = end.run_until_cancelled(trial.all(place)).await;
    let outcome = outcome.unwrap_or_else(|| Err(VerifyError::Ended(found.id.clone())));
    // Whatever happened, the scratch cluster goes; what kept it from going is told only if all else went well.
    let ended = trial.done("stop the lab", Command::Stop { delete: true }).await;
    let _ = std::fs::remove_dir_all(&dir);
    outcome?;
    ended?;
    Ok(Proof {
        lab: found.id.clone(),
        hash: found.hash(),
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        ok: trial.lines.iter().all(|line| line.ok),
        timings: times.of(&trial.lab),
        lines: trial.lines,
    })
}

struct Trial<'a> {
    host: Arc<Host>,
    cwd: Option<std::path::PathBuf>,
    lab: Arc<Lab>,
    lines: Vec<Line>,
    told: &'a mut dyn FnMut(&Line),
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
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        (self.told)(&line);
        self.lines.push(line);
    }

    async fn all(&mut self, (ground, context): (GroundKind, Option<ContextChoice>)) -> Result<(), VerifyError> {
        let start = Command::Start {
            lab: self.lab.id.to_string(),
            ground: ground.to_string(),
            fresh: true,
            context,
        };
        self.whole();
        self.done("start the lab", start).await?;
        for run in 1..=RUNS {
            self.untouched(run).await;
            self.walked(run).await?;
            self.done("reset the lab", Command::Reset { step: None }).await?;
        }
        self.untouched(RUNS).await;
        self.other_orders().await?;
        self.same();
        Ok(())
    }

    /// Every step has a solution, and at least two wrong attempts.
    fn whole(&mut self) {
        let lab = self.lab.clone();
        for step in &lab.steps {
            let (solution, wrong) = (step.solution.len(), step.wrong.len());
            let found = Found {
                ok: solution > 0 && wrong >= 2,
                found: format!("{solution} actions and {wrong} attempts"),
            };
            let what = format!("{}: written", step.id);
            self.tell(
                1,
                what,
                "a solution, two wrong attempts".to_owned(),
                Instant::now(),
                Ok(found),
            );
        }
    }

    async fn untouched(&mut self, run: u32) {
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
            "untouched".to_owned(),
            "0 points, no check passed".to_owned(),
            began,
            outcome,
        );
    }

    /// Takes the steps one after another: first wrongly, in every way that is written down, each time back to the start of
    /// the step; then rightly.
    async fn walked(&mut self, run: u32) -> Result<(), VerifyError> {
        let lab = self.lab.clone();
        for at in order::listed(&lab) {
            let step = &lab.steps[at];
            for index in 0..step.wrong.len() {
                self.attempt(run, at, index).await;
                let back = Command::Reset {
                    step: Some(step.id.to_string()),
                };
                self.done("reset the step", back).await?;
            }
            let began = Instant::now();
            let solve = Command::Solve {
                step: Some(step.id.to_string()),
            };
            let outcome = self.run(solve).await.map(|view| {
                let step = &view.steps[at];
                Found {
                    ok: step.earned == step.points,
                    found: format!("{} of {} points", step.earned, step.points),
                }
            });
            let solved = outcome.as_ref().is_ok_and(|outcome| outcome.ok);
            self.tell(
                run,
                format!("{}: solved", step.id),
                "in full".to_owned(),
                began,
                outcome,
            );
            if !solved {
                // What needs it stays closed.
                break;
            }
        }
        let began = Instant::now();
        let outcome = self.run(Command::Status).await.map(|view| Found {
            ok: view.steps.iter().all(|step| step.earned == step.points),
            found: scores(&view),
        });
        self.tell(
            run,
            "solved".to_owned(),
            "every step in full".to_owned(),
            began,
            outcome,
        );
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
                ok: view.steps.iter().all(|step| step.earned == step.points),
                found: scores(&view),
            });
            let names: Vec<&str> = order.iter().map(|step| lab.steps[*step].id.as_str()).collect();
            let what = format!("solved as {}", names.join(", "));
            self.tell(RUNS + 1, what, "every step in full".to_owned(), began, outcome);
            self.done("reset the lab", Command::Reset { step: None }).await?;
        }
        Ok(())
    }

    /// Both runs found the same.
    fn same(&mut self) {
        let of = |run: u32| -> Vec<(&str, &str, bool)> {
            let lines = self
                .lines
                .iter()
                .filter(|line| line.run == run && !line.what.ends_with(": written"));
            lines
                .map(|line| (line.what.as_str(), line.found.as_str(), line.ok))
                .collect()
        };
        // The last run has one more line: untouched after its reset.
        let differing = of(1)
            .iter()
            .zip(of(RUNS))
            .find(|(one, other)| **one != *other)
            .map(|(one, _)| one.0.to_owned());
        let found = Found {
            ok: differing.is_none(),
            found: differing.map_or_else(|| "the same".to_owned(), |what| format!("another outcome of `{what}`")),
        };
        self.tell(
            RUNS + 1,
            "both runs".to_owned(),
            "the same".to_owned(),
            Instant::now(),
            Ok(found),
        );
    }
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
