//! From a session's state to what a face sees of it. Solutions and expected answers stay behind.

use super::{
    driver::Core,
    snapshot::{
        CheckState, CheckView, ChoiceView, HintView, LabView, Phase, QuestionView, SessionView, StepState, StepView,
    },
    state::{CheckProgress, State},
};
use crate::{
    check,
    lab::{Check, CheckKind, Lab, Opens, choice_key},
    score::Points,
    verdict::{Judgement, Verdict},
};

/// The session, without what only its owner knows.
pub fn session(core: &Core) -> SessionView {
    let state = &core.state;
    let lab = state.lab();
    let steps: Vec<StepView> = (0..lab.steps.len()).map(|at| step(state, at)).collect();
    let complete = steps.iter().all(|step| step.state.is_done());
    SessionView {
        id: String::new(),
        lab: lab_view(lab, complete),
        phase: state.phase().clone(),
        progress: core.progress.clone(),
        cluster: String::new(),
        namespace: lab.namespace.clone(),
        ground: String::new(),
        kubeconfig: None,
        manifests: None,
        work: String::new(),
        spent_ms: core.clock.spent(super::now_ms()),
        steps,
        score: state.score(),
        workloads: core.workloads.clone(),
        traffic: core.captures.view(),
        log: core.notices.iter().cloned().collect(),
        lab_changed: core.lab_changed,
    }
}

fn lab_view(lab: &Lab, complete: bool) -> LabView {
    LabView {
        id: lab.id.to_string(),
        title: lab.title.clone(),
        level: lab.level,
        minutes: lab.minutes,
        objectives: lab.objectives.clone(),
        recap: lab.recap.clone().filter(|_| complete),
    }
}

/// A phase in a word.
pub fn phase_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Starting => "still starting",
        Phase::Ready => "ready",
        Phase::Resetting => "being reset",
        Phase::Paused => "paused",
        Phase::Stopping => "stopping",
        Phase::Stopped => "stopped",
        Phase::Failed(_) => "not running",
    }
}

fn step(state: &State, at: usize) -> StepView {
    let lab = state.lab();
    let (plan, progress) = (&lab.steps[at], &state.steps()[at]);
    let now = state.step_state(at);
    let hint = |hint: &usize| {
        let hint = plan.hints.get(*hint)?;
        Some(HintView {
            text: hint.text.clone(),
            cost: match hint.opens {
                Opens::Asked(cost) => cost,
                Opens::When { .. } => Points(0),
            },
        })
    };
    StepView {
        id: plan.id.to_string(),
        title: plan.title.clone(),
        state: now,
        points: plan.points,
        earned: state.earned(at),
        needs: plan.needs.iter().map(|need| lab.steps[*need].id.to_string()).collect(),
        instructions: plan.instructions.clone(),
        vantage: plan.vantage.clone(),
        checks: plan
            .checks
            .iter()
            .zip(&progress.checks)
            .map(|(plan, progress)| check(plan, progress))
            .collect(),
        hints: progress.hints.iter().filter_map(hint).collect(),
        next_hint: state.next_hint(at).map(|(_, cost)| cost),
        teaches: plan.teaches.clone().filter(|_| now == StepState::Passed),
        solved: progress.solved,
        impossible: state.impossible(at).map(str::to_owned),
    }
}

fn state_of(judgement: Option<&Judgement>) -> CheckState {
    match judgement.map(|judgement| judgement.verdict) {
        None => CheckState::NotRun,
        Some(Verdict::Passed) => CheckState::Passed,
        Some(Verdict::Failed) => CheckState::Failed,
        Some(Verdict::Undetermined) => CheckState::Undetermined,
    }
}

fn check(plan: &Check, progress: &CheckProgress) -> CheckView {
    let shown = progress.latched.as_ref().or(progress.live.as_ref());
    CheckView {
        name: plan.name.clone(),
        weight: plan.weight,
        verdict: state_of(shown),
        finding: shown.map(|judgement| judgement.finding),
        expected: shown.map_or_else(|| check::expected(plan), |judgement| judgement.expected.clone()),
        found: shown.map(|judgement| judgement.found.clone()).unwrap_or_default(),
        why: why(plan, shown),
        evidence: shown.map(|judgement| judgement.evidence.clone()).unwrap_or_default(),
        question: question(plan, progress),
        latched: progress.latched.is_some(),
        live: state_of(progress.live.as_ref()),
    }
}

/// Why it matters: of a question only once it is answered rightly, since it tends to hold the answer.
fn why(plan: &Check, shown: Option<&Judgement>) -> String {
    let asked = matches!(plan.kind, CheckKind::Question(_));
    if asked && state_of(shown) != CheckState::Passed {
        return String::new();
    }
    plan.why.clone()
}

fn question(plan: &Check, progress: &CheckProgress) -> Option<QuestionView> {
    let CheckKind::Question(question) = &plan.kind else {
        return None;
    };
    Some(QuestionView {
        ask: question.ask.clone(),
        choices: question
            .options()
            .into_iter()
            .enumerate()
            .map(|(index, text)| ChoiceView {
                key: choice_key(index),
                text,
            })
            .collect(),
        many: question.many(),
        answer: progress.answer.clone(),
    })
}
