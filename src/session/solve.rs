//! Doing what a student would do: solutions, and attempts that must fail.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    checking::Lane,
    command::Refusal,
    driver::{Session, refuse},
    snapshot::StepState,
    state::Event,
    world::WorldError,
};
use crate::{
    check::{self, Loot},
    lab::{Action, AnswerValue, Applied, CheckKind, Deed, Fill, Piece, Until, pieces},
    packet::LeakKind,
};

/// Between two tries of a program that did not end as it must.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a capture waits for what it is to see.
const SEEN: Duration = Duration::from_secs(15);
/// How long the checks have to notice what was done: a log or a watch may lag behind.
const NOTICED: Duration = Duration::from_secs(5);
/// In how many whole rounds at the least. On a busy machine a round takes long, and what the first ones found may be nothing.
const ROUNDS: u32 = 3;
/// Between two rounds; what changes meanwhile is noticed at once.
const BETWEEN: Duration = Duration::from_millis(500);

/// As long as this is there, something is being done on purpose, and looked at by whoever does it.
struct Doing<'a>(&'a Session);

impl<'a> Doing<'a> {
    fn begin(session: &'a Session) -> Self {
        session.core().doing = true;
        Self(session)
    }
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        self.0.core().doing = false;
        self.0.release();
    }
}

impl Session {
    /// Runs a step's solution; every step's, in the order they open, without one.
    pub async fn solve(self: &Arc<Self>, step: Option<&str>) -> Result<String, Refusal> {
        self.ready()?;
        let _work = self.work()?;
        if let Some(id) = step {
            let at = self.open_step(id)?;
            self.solve_step(at).await?;
            return Ok(format!("solved {id}"));
        }
        let mut solved = 0;
        while let Some(at) = self.next_open() {
            self.solve_step(at).await?;
            solved += 1;
        }
        Ok(format!("solved {solved} steps"))
    }

    fn next_open(&self) -> Option<usize> {
        let core = self.core();
        (0..core.state.steps().len()).find(|at| core.state.step_state(*at) == StepState::Open)
    }

    async fn solve_step(self: &Arc<Self>, at: usize) -> Result<(), Refusal> {
        let lab = self.lab().clone();
        let plan = &lab.steps[at];
        if self.core().state.step_state(at) == StepState::Passed {
            return Ok(());
        }
        self.kept().await;
        if plan.solution.is_empty() {
            return Err(refuse(
                format!("the step `{}` has no solution to run", plan.id),
                "its checks say what they expect",
            ));
        }
        let _doing = Doing::begin(self);
        for action in &plan.solution {
            self.act(at, action, true).await?;
            // From here on the step is not the student's own work alone.
            self.feed(&Event::Solved { step: at });
        }
        if self.comes_true(at, || self.core().state.passed(at)).await {
            return Ok(());
        }
        let core = self.core();
        let missing = core.state.steps()[at]
            .checks
            .iter()
            .zip(&plan.checks)
            .find(|(check, _)| check.latched.is_none());
        let found = missing.map_or_else(String::new, |(progress, check)| {
            let found = progress
                .live
                .as_ref()
                .map_or("nothing yet", |judgement| judgement.found.as_str());
            format!(": `{}` found {found}", check.name)
        });
        Err(refuse(
            format!("the solution of `{}` did not pass it{found}", plan.id),
            "reset the lab and try again; if that fails too, the lab is broken",
        ))
    }

    /// Runs one of a step's wrong attempts, and waits until the step is as the lab says that the attempt leaves it: the
    /// failing check is not the only one that is judged, and others may take longer.
    pub async fn attempt(self: &Arc<Self>, step: &str, attempt: usize) -> Result<String, Refusal> {
        self.ready()?;
        let _work = self.work()?;
        let at = self.open_step(step)?;
        let lab = self.lab().clone();
        let Some(plan) = lab.steps[at].wrong.get(attempt) else {
            return Err(refuse(
                format!("the step `{step}` has no wrong attempt {attempt}"),
                format!("it has {}, counted from 0", lab.steps[at].wrong.len()),
            ));
        };
        self.kept().await;
        let _doing = Doing::begin(self);
        for action in &plan.actions {
            // Time that passes on purpose is there to be looked at.
            match action {
                Action::Wait(_) | Action::Until { .. } | Action::Capture { .. } => self.release(),
                _ => self.withhold().await,
            }
            self.act(at, action, false).await?;
        }
        self.release();
        let foretold = || {
            let core = self.core();
            let checks = core.state.steps()[at].checks.iter().enumerate();
            let failed = checks.filter(|(_, check)| check.latched.is_none() && check.failed());
            core.state.earned(at) == plan.scores && failed.map(|(check, _)| check).eq([plan.fails])
        };
        self.comes_true(at, foretold).await;
        Ok(format!("tried attempt {attempt} of {step}"))
    }

    /// Runs the step's checks, all of them, until they say what is hoped.
    async fn comes_true(self: &Arc<Self>, step: usize, hoped: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        for round in 1.. {
            self.check_open(step).await;
            if tokio::time::timeout(BETWEEN, self.until(&hoped)).await.is_ok() {
                return true;
            }
            if round >= ROUNDS && began.elapsed() >= NOTICED {
                break;
            }
        }
        false
    }

    /// Looks at a check again and again until it has passed.
    async fn until_passed(self: &Arc<Self>, step: usize, check: usize) {
        let lab = self.lab().clone();
        let name = &lab.steps[step].checks[check].name;
        let passed = || self.core().state.steps()[step].checks[check].latched.is_some();
        loop {
            for lane in Lane::OPEN {
                self.check_those(lane, |at, check, _| at == step && check.name == *name)
                    .await;
            }
            if tokio::time::timeout(BETWEEN, self.until(passed)).await.is_ok() {
                return;
            }
        }
    }

    async fn act(self: &Arc<Self>, step: usize, action: &Action, must: bool) -> Result<(), Refusal> {
        match action {
            Action::Capture {
                workload,
                filter,
                until,
            } => self.act_capture(workload.as_str(), filter.clone(), until).await,
            Action::Answer { check, value } => self.act_answer(step, *check, value).await,
            Action::Exec {
                source,
                namespace,
                run,
                may_fail,
                save,
                within,
            } => {
                let mut argv = Vec::new();
                for word in run {
                    argv.push(self.substitute(word).await?);
                }
                let until = Instant::now() + *within;
                let ran = loop {
                    let ran = self.world().exec(source, namespace.as_deref(), &argv).await?;
                    if ran.code == 0 || Instant::now() >= until {
                        break ran;
                    }
                    tokio::time::sleep(AGAIN).await;
                };
                if must && !may_fail && ran.code != 0 {
                    return Err(Refusal::from(WorldError::new(format!(
                        "`{}` in {source} ended with {}: {}",
                        argv.join(" "),
                        ran.code,
                        crate::text::one_line(&ran.output)
                    ))));
                }
                if let Some(path) = save {
                    let written = Deed::File {
                        path: path.clone(),
                        text: ran.output,
                    };
                    self.world().perform(self.lab(), &written).await?;
                }
                Ok(())
            }
            Action::Deed(deed) => {
                let deed = self.filled(deed).await?;
                Ok(self.world().perform(self.lab(), &deed).await?)
            }
            Action::Wait(duration) => {
                tokio::time::sleep(*duration).await;
                Ok(())
            }
            Action::Until { check, within } => {
                // Where it does not come true, the step does not pass, and that says more than this could.
                let _ = tokio::time::timeout(*within, self.until_passed(step, *check)).await;
                Ok(())
            }
        }
    }

    /// The deed with what its `${…}` stand for.
    async fn filled(&self, deed: &Deed) -> Result<Deed, Refusal> {
        let mut deed = deed.clone();
        match &mut deed {
            Deed::Apply(Applied::Text(text)) | Deed::File { text, .. } => *text = self.substitute(text).await?,
            Deed::Keep { texts, .. } => {
                for text in texts.values_mut() {
                    *text = self.substitute(text).await?;
                }
            }
            _ => {}
        }
        Ok(deed)
    }

    async fn act_capture(
        self: &Arc<Self>,
        workload: &str,
        filter: Option<String>,
        until: &Until,
    ) -> Result<(), Refusal> {
        let before = self.core().captures.last_seq();
        let was_running = self.core().captures.runs(workload);
        self.capture(workload, filter, None).await?;
        let outcome = match until {
            Until::For(duration) => {
                tokio::time::sleep(*duration).await;
                Ok(())
            }
            Until::Leak { kind, between } => {
                let seen = || self.core().captures.leaked_since(before, *kind, between.as_ref());
                match tokio::time::timeout(SEEN, self.until(seen)).await {
                    Ok(()) => Ok(()),
                    Err(_) => Err(Refusal::from(WorldError::new(format!(
                        "no {kind} was seen in {workload} within {} s",
                        SEEN.as_secs()
                    )))),
                }
            }
        };
        if !was_running {
            // It may have ended by itself.
            let _ = self.capture_stop(Some(workload)).await;
        }
        outcome
    }

    async fn act_answer(self: &Arc<Self>, step: usize, check: usize, value: &AnswerValue) -> Result<(), Refusal> {
        let plan = &self.lab().steps[step].checks[check];
        let value = match value {
            AnswerValue::Text(text) => self.substitute(text).await?,
            AnswerValue::FromCapture => {
                let core = self.core();
                let right = match &plan.kind {
                    CheckKind::Question(question) => check::right_answer(question, core.state.loot()),
                    _ => None,
                };
                right.ok_or_else(|| nothing_captured(&plan.name))?
            }
        };
        self.feed(&Event::Answered { step, check, value });
        Ok(())
    }

    /// A text with what its `${…}` stand for: what this session's captures saw, and what the world holds.
    async fn substitute(&self, text: &str) -> Result<String, Refusal> {
        let mut out = String::new();
        for piece in pieces(text) {
            let name = match piece {
                Piece::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Name(name) => name,
            };
            match Fill::parse(name) {
                Some(Fill::Leak { kind, account }) => {
                    let core = self.core();
                    let value = leaked(kind, account, core.state.loot());
                    out.push_str(value.ok_or_else(|| nothing_captured(&format!("${{{name}}}")))?);
                }
                Some(fill) => out.push_str(&self.world().fill(&fill).await?),
                None => return Err(nothing_captured(&format!("${{{name}}}"))),
            }
        }
        Ok(out)
    }
}

fn nothing_captured(what: &str) -> Refusal {
    refuse(
        format!("nothing was captured that `{what}` could stand for"),
        "solve the steps before this one",
    )
}

/// A secret that was captured, or whose it is.
pub(super) fn leaked(kind: LeakKind, account: bool, loot: &[Loot]) -> Option<&str> {
    loot.iter().filter(|loot| loot.kind == kind).find_map(|loot| {
        if account {
            loot.account.as_deref()
        } else {
            Some(loot.value.as_str())
        }
    })
}
