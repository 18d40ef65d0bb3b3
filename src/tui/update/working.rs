//! What a student does with a lab: starting and stopping it, checks, hints, captures, reset, the shell.

use super::{Effect, send, tell};
use crate::{
    session::{
        command::Command,
        snapshot::{NoticeLevel, Phase, StepState},
    },
    tui::{
        model::{Model, Overlay, Pane, Screen},
        views,
    },
};

/// The step that keys act on, where the lab is ready; else says why not.
pub(super) fn workable(model: &mut Model) -> Option<String> {
    if model.ready().is_none() {
        tell(model, NoticeLevel::Warning, "the lab is not ready yet");
        return None;
    }
    let step = model.current_step()?;
    if step.state == StepState::Locked {
        let needs = model.locked_by(step);
        tell(model, NoticeLevel::Warning, format!("this step is locked: {needs}"));
        return None;
    }
    if step.state == StepState::Impossible {
        let text = "this step is not possible on this ground, and gives no points here; → goes to the next one";
        tell(model, NoticeLevel::Warning, text);
        return None;
    }
    Some(step.id.clone())
}

pub(super) fn start(model: &mut Model, fresh: bool) -> Vec<Effect> {
    let Some(lab) = model.labs.get(model.lab_row).cloned() else {
        return Vec::new();
    };
    if lab.broken.is_some() {
        tell(
            model,
            NoticeLevel::Error,
            format!(
                "lab `{}` is broken and cannot be started; what is wrong stands above",
                lab.id
            ),
        );
        return Vec::new();
    }
    let command = Command::Start {
        lab: lab.id.clone(),
        // Where it was left, else on the embedded ground.
        ground: String::new(),
        fresh,
        context: None,
    };
    let running = model
        .session()
        .filter(|session| !matches!(session.phase, Phase::Stopped))
        .map(|session| (session.lab.id.clone(), session.phase.clone()));
    match running {
        Some((id, Phase::Ready | Phase::Starting | Phase::Resetting)) if id == lab.id && !fresh => {
            model.screen = Screen::Lab;
            Vec::new()
        }
        Some((id, _)) if id != lab.id => {
            model.overlay = Some(Overlay::Confirm {
                question: format!("Lab `{id}` is running. Stop it and start `{}`?", lab.id),
                commands: vec![Command::Stop { delete: false }, command],
            });
            Vec::new()
        }
        _ if fresh && (lab.score.is_some() || running.is_some()) => {
            model.overlay = Some(Overlay::Confirm {
                question: format!("Start `{}` from nothing? Its points and its cluster are lost.", lab.id),
                commands: vec![command],
            });
            Vec::new()
        }
        _ => {
            model.screen = Screen::Lab;
            send(model, format!("starting {}", lab.id), vec![command])
        }
    }
}

pub(super) fn stop(model: &mut Model) {
    match model.session() {
        Some(session) => {
            let question = format!(
                "Stop lab `{}`? Its points and its cluster stay for the next time.",
                session.lab.id
            );
            model.overlay = Some(Overlay::Confirm {
                question,
                commands: vec![Command::Stop { delete: false }],
            });
        }
        None => tell(model, NoticeLevel::Info, "no lab is running"),
    }
}

pub(super) fn check(model: &mut Model) -> Vec<Effect> {
    let Some(step) = workable(model) else {
        return Vec::new();
    };
    show_checks(model);
    send(
        model,
        format!("checking {step}"),
        vec![Command::Check { step: Some(step) }],
    )
}

/// Where there is one pane only, the checks are it when something is judged.
pub(super) fn show_checks(model: &mut Model) {
    if usize::from(model.size.0) < views::WIDE {
        model.pane = Pane::Checks;
    }
}

pub(super) fn hint(model: &mut Model) -> Vec<Effect> {
    let Some(id) = workable(model) else {
        return Vec::new();
    };
    let next = model.current_step().and_then(|step| step.next_hint);
    let command = Command::Hint { step: id };
    match next {
        None => {
            tell(model, NoticeLevel::Info, "this step has no further hint");
            Vec::new()
        }
        Some(cost) if cost.0 > 0 => {
            model.overlay = Some(Overlay::Confirm {
                question: format!("The next hint costs {}. Open it?", cost.counted()),
                commands: vec![command],
            });
            Vec::new()
        }
        Some(_) => send(model, "opening a hint", vec![command]),
    }
}

pub(super) fn captures(model: &mut Model) {
    if model.ready().is_none() {
        tell(model, NoticeLevel::Warning, "the lab is not ready yet");
        return;
    }
    model.overlay = Some(Overlay::Captures { row: 0 });
}

pub(super) fn toggle_capture(model: &mut Model, row: usize) -> Vec<Effect> {
    let Some(session) = model.session() else {
        return Vec::new();
    };
    let Some(name) = session.workloads.get(row).map(|workload| workload.name.clone()) else {
        return Vec::new();
    };
    let runs = session.traffic.capturing.iter().any(|capture| capture.workload == name);
    if runs {
        let what = format!("stopping the capture in {name}");
        send(model, what, vec![Command::CaptureStop { pod: Some(name) }])
    } else {
        model.overlay = None;
        model.pane = Pane::Traffic;
        model.message = None;
        let what = format!("starting a capture in {name}");
        let command = Command::CaptureStart {
            pod: name,
            filter: None,
            seconds: None,
        };
        send(model, what, vec![command])
    }
}

pub(super) fn reset(model: &mut Model) {
    let Some(session) = model.session() else { return };
    model.overlay = Some(Overlay::Confirm {
        question: format!(
            "Reset lab `{}`? Its cluster is made anew, and all {} points are lost.",
            session.lab.id, session.score.earned
        ),
        commands: vec![Command::Reset { step: None }],
    });
}

pub(super) fn reset_step(model: &mut Model) {
    let Some(step) = workable(model) else { return };
    model.overlay = Some(Overlay::Confirm {
        question: format!(
            "Back to the start of step `{step}`? Its points, and those of the steps that need it, are lost. Cluster and \
             work directory become what they were when it was opened."
        ),
        commands: vec![Command::Reset { step: Some(step) }],
    });
}

/// Rests, or goes on after a rest.
pub(super) fn pause(model: &mut Model) -> Vec<Effect> {
    match model.session().map(|session| &session.phase) {
        Some(Phase::Ready) => send(model, "pausing", vec![Command::Pause]),
        Some(Phase::Paused) => send(model, "going on", vec![Command::Resume]),
        _ => {
            tell(model, NoticeLevel::Warning, "the lab is not paused");
            Vec::new()
        }
    }
}

pub(super) fn shell(model: &mut Model, command: Option<String>) -> Vec<Effect> {
    let place = model.session().and_then(|session| {
        let kubeconfig = session.kubeconfig.clone()?;
        Some(Effect::Shell {
            command,
            kubeconfig,
            label: session.lab.id.clone(),
            work: session.work.clone(),
        })
    });
    match place {
        Some(shell) => vec![shell],
        None => {
            tell(model, NoticeLevel::Warning, "the lab's cluster is not there yet");
            Vec::new()
        }
    }
}

pub(super) fn confirm(model: &mut Model) -> Vec<Effect> {
    let Some(Overlay::Confirm { commands, .. }) = model.overlay.take() else {
        return Vec::new();
    };
    let what = match commands.last() {
        Some(Command::Start { lab, .. }) => {
            model.screen = Screen::Lab;
            format!("starting {lab}")
        }
        Some(Command::Reset { .. }) => "resetting".to_owned(),
        Some(Command::Stop { .. }) => "stopping".to_owned(),
        Some(Command::Hint { .. }) => "opening a hint".to_owned(),
        _ => "working".to_owned(),
    };
    send(model, what, commands)
}
