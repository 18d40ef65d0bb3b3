//! What a student asks of a session: answers, hints, resets, rests.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    checking::Lane,
    command::Refusal,
    driver::{Session, refuse},
    snapshot::{CheckState, Phase},
    state::{CheckProgress, Event},
    view,
};
use crate::lab::{Check, CheckKind};

impl Session {
    /// Refuses while the student cannot work.
    pub(super) fn ready(&self) -> Result<(), Refusal> {
        match self.phase() {
            Phase::Ready => Ok(()),
            Phase::Failed(why) => Err(refuse(
                format!("the lab is not running: {why}"),
                format!("`ztlab lab start {}` tries again", self.lab().id),
            )),
            Phase::Paused => Err(refuse("the lab is paused", "`ztlab lab resume` goes on with it")),
            phase => Err(refuse(
                format!("the lab is {}", view::phase_word(&phase)),
                "wait until it is ready",
            )),
        }
    }

    /// The place of a step.
    pub(super) fn step(&self, id: &str) -> Result<usize, Refusal> {
        self.lab().step(id).map(|(at, _)| at).ok_or_else(|| {
            let known: Vec<&str> = self.lab().steps.iter().map(|step| step.id.as_str()).collect();
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
        if core.state.step_state(at).is_workable() {
            return Ok(at);
        }
        if let Some(why) = core.state.impossible(at) {
            return Err(refuse(
                format!("the step `{id}` is not possible on this ground: {why}"),
                "go on with the other steps; its points do not count here",
            ));
        }
        let steps = &self.lab().steps;
        let missing = steps[at].needs.iter().filter(|need| !core.state.passed(**need));
        let missing: Vec<&str> = missing.map(|need| steps[*need].id.as_str()).collect();
        Err(refuse(
            format!("the step `{id}` is locked"),
            format!("pass first: {}", missing.join(", ")),
        ))
    }

    /// Answers a question, and says whether that was right.
    pub async fn answer(self: &Arc<Self>, step: &str, check: &str, value: &str) -> Result<String, Refusal> {
        let at = self.open_step(step)?;
        let plan = &self.lab().steps[at];
        let questions = || {
            let asked = plan
                .checks
                .iter()
                .filter(|check| matches!(check.kind, CheckKind::Question(_)));
            asked
                .map(|check| format!("`{}`", check.name))
                .collect::<Vec<_>>()
                .join(", ")
        };
        match plan.check(check) {
            Some((index, found)) if matches!(found.kind, CheckKind::Question(_)) => {
                self.feed(&Event::Answered {
                    step: at,
                    check: index,
                    value: value.chars().take(1000).collect(),
                });
                // What takes long is not waited for.
                let passed = self.core().state.steps()[at].checks[index].latched.is_some();
                self.check_those(Lane::Quick, |step, _, _| step == at).await;
                if passed {
                    let this = |step: usize, check: &Check, _: &CheckProgress| step == at && check.name == found.name;
                    self.check_those(Lane::Passed, this).await;
                }
                // What is live: an answer that was right once keeps its points, whatever is answered after it.
                let told = match self.view().steps[at].checks[index].live {
                    CheckState::Passed => "your answer is right",
                    CheckState::Failed => "your answer is not right; you may answer again",
                    CheckState::NotRun | CheckState::Undetermined => "your answer is kept, and not judged yet",
                };
                Ok(told.to_owned())
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
        Ok(format!("a hint, for {}", cost.counted()))
    }

    /// Back to the start of the lab, or of a step; returns when it is ready again, with what is not as it was.
    pub async fn reset(self: &Arc<Self>, step: Option<&str>) -> Result<String, Refusal> {
        let _work = self.work()?;
        match self.phase() {
            Phase::Ready | Phase::Failed(_) => {}
            Phase::Paused => return Err(refuse("the lab is paused", "`ztlab lab resume` first")),
            phase => {
                return Err(refuse(
                    format!("the lab is {}", view::phase_word(&phase)),
                    "wait until it is ready",
                ));
            }
        }
        let event = match step {
            None => Event::Reset,
            Some(id) => {
                let at = self.step(id)?;
                if self.core().state.start_of(at).is_none() {
                    self.open_step(id)?;
                    return Err(refuse(
                        format!("the step `{id}` was not opened yet"),
                        "there is nothing to go back to",
                    ));
                }
                Event::ResetStep { step: at }
            }
        };
        self.kept().await;
        // No round of checks may straddle the reset: its evidence would be of neither side. One that watches ends by itself.
        let round = self.rounds(Lane::Quick).one.lock().await;
        self.feed(&event);
        drop(round);
        if let Phase::Failed(why) = self.settle().await {
            return Err(refuse(
                why,
                "try the reset again, or stop the lab with --delete and start it",
            ));
        }
        let notes = self.core().notes.clone();
        let at = step.map_or_else(
            || "back at the start".to_owned(),
            |id| format!("back at the start of {id}"),
        );
        Ok([at].into_iter().chain(notes).collect::<Vec<_>>().join("; "))
    }

    /// Stops the cluster's node; objects and progress stay, and the time does not count.
    pub async fn pause(self: &Arc<Self>) -> Result<String, Refusal> {
        let _work = self.work()?;
        self.ready()?;
        self.kept().await;
        let round = self.rounds(Lane::Quick).one.lock().await;
        self.feed(&Event::Paused);
        drop(round);
        self.unwatch(CancellationToken::new());
        self.core().workloads.clear();
        let id = &self.lab().id;
        match self.world().pause().await {
            Ok(true) => Ok(format!(
                "paused {id}: its cluster takes no memory; `ztlab lab resume` goes on"
            )),
            Ok(false) => Ok(format!(
                "paused {id}; its cluster is not this program's to stop, and goes on; `ztlab lab resume` goes on with the lab"
            )),
            Err(error) => {
                self.resume();
                Err(error.into())
            }
        }
    }

    /// Goes on after a rest; the lab is being deployed when this returns.
    pub fn resume(self: &Arc<Self>) {
        if self.core().state.paused() {
            self.feed(&Event::Resumed);
            self.spawn(Self::deploy(self.clone()));
        }
    }

    /// Deploys again after a failure.
    pub fn retry(self: &Arc<Self>) {
        self.core().state.restart();
        self.touch();
        self.spawn(Self::deploy(self.clone()));
    }
}
