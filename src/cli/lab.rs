//! `ztlab lab …`: a lab without the terminal interface.

use std::process::ExitCode;

use serde::Serialize;

use super::{
    args::Lab,
    author,
    error::{CliError, NOT_PASSED},
    export, ground,
    output::{Output, Tint},
    session::{self, Done},
    trust,
};
use crate::session::{
    client,
    command::Command,
    snapshot::{CheckState, CheckView, LabSummary, Phase, SessionView, Snapshot, StepState, StepView},
};

/// Runs the command.
///
/// # Errors
/// When the session host cannot be reached or refuses.
pub fn run(command: Lab, out: &Output) -> Result<ExitCode, CliError> {
    match command {
        Lab::Verify { ids, labs, jobs, place } => author::verify(&ids, labs.as_deref(), jobs, &place, out),
        Lab::Export { id, output } => export::run(id, output.as_deref(), out),
        Lab::Manifests { id, shape } => ground::manifests(&id, &shape, out),
        Lab::Lint { paths } => author::lint(&paths, out),
        Lab::New { id, title, level, dir } => author::new(&author::NewLab { id, title, level, dir }, out),
        Lab::Schema => author::schema(out),
        Lab::Trust { list: true, .. } => trust::list(out),
        Lab::Trust { remove: Some(dir), .. } => trust::remove(&dir, out),
        Lab::Trust {
            dir: Some(dir), yes, ..
        } => trust::add(&dir, yes, out),
        command => session::block_on(with_host(command, out)),
    }
}

async fn with_host(command: Lab, out: &Output) -> Result<ExitCode, CliError> {
    match command {
        Lab::List { labs } => {
            let directory = trust::named(labs.as_deref(), out)?;
            let client = client::connect_or_start().await?.in_directory(directory);
            list(&session::labs(&client).await?, out)
        }
        Lab::Start { id, fresh, labs, place } => {
            let directory = trust::named(labs.as_deref(), out)?;
            let command = Command::Start {
                lab: id,
                ground: place.ground()?,
                fresh,
                context: place.context()?,
            };
            let client = client::connect_or_start().await?.in_directory(directory);
            started(session::run(&client, command, out).await?, out)
        }
        Lab::Status => match client::connect().await? {
            Some(client) => status(&session::snapshot(&client).await?, out),
            None => status(&Snapshot::default(), out),
        },
        command => in_session(command, out).await,
    }
}

async fn in_session(command: Lab, out: &Output) -> Result<ExitCode, CliError> {
    let (client, session) = session::running().await?.ok_or_else(session::no_lab)?;
    let send = async |command| session::run(&client, command, out).await;
    match command {
        Lab::Check { step } => judged(send(Command::Check { step: step.clone() }).await?, step.as_deref(), out),
        Lab::Solve { step } => judged(send(Command::Solve { step: step.clone() }).await?, step.as_deref(), out),
        Lab::Answer { step, check, value } => {
            let value = joined(&session, &step, &check, &value);
            let command = Command::Answer {
                step: step.clone(),
                check: check.clone(),
                value,
            };
            answered(send(command).await?, &step, &check, out)
        }
        Lab::Hint { step } => hinted(send(Command::Hint { step: step.clone() }).await?, &step, out),
        Lab::Reset { step } => told(send(Command::Reset { step }).await?, out),
        Lab::Stop { delete } => told(send(Command::Stop { delete }).await?, out),
        Lab::Pause => told(send(Command::Pause).await?, out),
        Lab::Resume => told(send(Command::Resume).await?, out),
        Lab::List { .. }
        | Lab::Start { .. }
        | Lab::Status
        | Lab::Verify { .. }
        | Lab::Lint { .. }
        | Lab::Export { .. }
        | Lab::Manifests { .. }
        | Lab::New { .. }
        | Lab::Schema
        | Lab::Trust { .. } => Err(CliError::new("this command needs no session")),
    }
}

/// Several answers to a question with several right choices are one answer, separated by commas.
fn joined(session: &SessionView, step: &str, check: &str, values: &[String]) -> String {
    let many = find_check(session, step, check)
        .and_then(|check| check.question.as_ref())
        .is_some_and(|question| question.many);
    values.join(if many { "," } else { " " })
}

fn find_step<'a>(session: &'a SessionView, step: &str) -> Option<&'a StepView> {
    session.steps.iter().find(|view| view.id == step)
}

fn find_check<'a>(session: &'a SessionView, step: &str, check: &str) -> Option<&'a CheckView> {
    find_step(session, step)?.checks.iter().find(|view| view.name == check)
}

fn list(labs: &[LabSummary], out: &Output) -> Result<ExitCode, CliError> {
    if out.json() {
        out.value(&labs)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = labs
        .iter()
        .map(|lab| {
            vec![
                lab.id.clone(),
                lab.level.to_string(),
                lab.minutes.to_string(),
                match (&lab.broken, lab.score) {
                    (Some(_), _) => "broken".to_owned(),
                    (None, Some(score)) => score.to_string(),
                    (None, None) => "-".to_owned(),
                },
                lab.title.clone(),
            ]
        })
        .collect();
    out.table(&["LAB", "LEVEL", "MINUTES", "SCORE", "TITLE"], &rows)?;
    for lab in labs {
        if let Some(broken) = &lab.broken {
            out.note(format!(
                "\nerror: lab `{}` is broken\n{}",
                lab.id,
                crate::text::clean(broken)
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a program that reads `--json` gets of a session.
#[derive(Serialize)]
struct Report<'a> {
    message: &'a str,
    passed: bool,
    session: Option<&'a SessionView>,
}

fn report(message: &str, passed: bool, session: Option<&SessionView>, out: &Output) -> Result<ExitCode, CliError> {
    out.value(&Report {
        message,
        passed,
        session,
    })?;
    Ok(exit(passed))
}

fn exit(passed: bool) -> ExitCode {
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_PASSED)
    }
}

fn started(done: Done, out: &Output) -> Result<ExitCode, CliError> {
    let session = done.snapshot.session.ok_or_else(session::no_lab)?;
    if let Phase::Failed(why) = &session.phase {
        return Err(CliError::with_hint(
            format!("lab `{}` did not start: {why}", session.lab.id),
            "`ztlab lab start` again is safe; `ztlab doctor` tells what this machine lacks",
        ));
    }
    if out.json() {
        return report(&done.message, true, Some(&session), out);
    }
    out.line(&done.message)?;
    for pod in &session.workloads {
        let state = if pod.ready {
            out.tinted("✓ ready", Tint::Good)
        } else {
            out.tinted(&format!("? {}", pod.status), Tint::Unsure)
        };
        let ip = pod.ip.as_deref().unwrap_or("-");
        out.line(format!("  {state}  {:<24} {:<15} {}", pod.name, ip, pod.pod))?;
    }
    out.line("")?;
    out.line(format!(
        "cluster {}, namespace {}; `ztlab shell` opens a shell in your work directory with KUBECONFIG set",
        session.cluster, session.namespace
    ))?;
    out.line("`ztlab lab status` shows the steps, `ztlab` opens the terminal interface")?;
    Ok(ExitCode::SUCCESS)
}

fn complete(session: &SessionView) -> bool {
    session.steps.iter().all(|step| step.state.is_done())
}

fn status(snapshot: &Snapshot, out: &Output) -> Result<ExitCode, CliError> {
    let Some(session) = &snapshot.session else {
        if out.json() {
            return report("no lab is running", false, None, out);
        }
        return Err(session::no_lab());
    };
    if out.json() {
        return report(&summary(session), complete(session), Some(session), out);
    }
    out.line(out.bold(&summary(session)))?;
    if let Some(line) = session::progress(session) {
        out.line(format!("  {line}"))?;
    }
    if session.lab_changed {
        out.line(format!(
            "  the lab's file has changed since you began: you go on with the lab as it was then;\n  \
             `ztlab lab start {} --fresh` begins anew with the changed one, and forgets your progress",
            session.lab.id
        ))?;
    }
    out.line(format!(
        "  runs on {}; worked on for {}",
        session.ground,
        worked(session.spent_ms)
    ))?;
    out.line(format!("  work directory {}", session.work))?;
    for step in &session.steps {
        show_step(step, false, out)?;
    }
    Ok(exit(complete(session)))
}

/// A time in words.
fn worked(ms: u64) -> String {
    let minutes = ms / 60_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) => "less than a minute".to_owned(),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

fn summary(session: &SessionView) -> String {
    let phase = match &session.phase {
        Phase::Starting => "starting".to_owned(),
        Phase::Ready => "ready".to_owned(),
        Phase::Resetting => "resetting".to_owned(),
        Phase::Paused => "paused (`ztlab lab resume` goes on)".to_owned(),
        Phase::Stopping => "stopping".to_owned(),
        Phase::Stopped => "stopped".to_owned(),
        Phase::Failed(why) => format!("failed: {why}"),
    };
    format!("{}: {} ({}), {phase}", session.lab.id, session.lab.title, session.score)
}

/// The symbol and the word of a check's state.
pub fn state_words(state: CheckState) -> (&'static str, Tint) {
    match state {
        CheckState::Passed => ("✓ passed", Tint::Good),
        CheckState::Failed => ("✗ failed", Tint::Bad),
        CheckState::Undetermined => ("? undetermined", Tint::Unsure),
        CheckState::NotRun => ("· not run", Tint::Quiet),
    }
}

fn show_step(step: &StepView, full: bool, out: &Output) -> Result<(), CliError> {
    let (word, tint) = match step.state {
        StepState::Locked => ("· locked", Tint::Quiet),
        StepState::Open => ("→ open", Tint::Unsure),
        StepState::Passed => ("✓ passed", Tint::Good),
        StepState::Impossible => ("- not possible here", Tint::Quiet),
    };
    let solved = if step.solved { ", solved by ztlab" } else { "" };
    out.line(format!(
        "{} {}  {} ({}/{}{solved})",
        out.tinted(&format!("{word:<8}"), tint),
        out.bold(&step.id),
        step.title,
        step.earned,
        step.points
    ))?;
    if step.state == StepState::Locked {
        out.line(format!("    needs {}", step.needs.join(", ")))?;
        return Ok(());
    }
    if let Some(why) = &step.impossible {
        out.line(format!(
            "    {}; its points do not count here",
            crate::text::one_line(why)
        ))?;
        return Ok(());
    }
    for check in &step.checks {
        show_check(check, full, out)?;
    }
    Ok(())
}

fn show_check(check: &CheckView, full: bool, out: &Output) -> Result<(), CliError> {
    let (word, tint) = state_words(check.verdict);
    out.line(format!(
        "    {}  {}",
        out.tinted(&format!("{word:<14}"), tint),
        check.name
    ))?;
    let indent = " ".repeat(8);
    if check.latched && check.live != CheckState::Passed && check.live != CheckState::NotRun {
        let (now, _) = state_words(check.live);
        out.line(format!("{indent}it passed before and keeps its points; now: {now}"))?;
    }
    if let Some(question) = &check.question
        && check.verdict != CheckState::Passed
    {
        out.line(format!("{indent}question: {}", crate::text::one_line(&question.ask)))?;
        for choice in &question.choices {
            out.line(format!(
                "{indent}  {}  {}",
                choice.key,
                crate::text::one_line(&choice.text)
            ))?;
        }
    }
    let open = matches!(check.verdict, CheckState::Failed | CheckState::Undetermined);
    let answered = full && check.question.is_some() && check.verdict == CheckState::Passed;
    for (label, text, shown) in [
        ("expected", &check.expected, open),
        ("found", &check.found, open),
        ("why", &check.why, open || answered),
    ] {
        if shown && !text.is_empty() {
            out.line(format!("{indent}{label:<9} {}", crate::text::one_line(text)))?;
        }
    }
    if full {
        for line in &check.evidence {
            out.line(format!("{indent}evidence  {}", crate::text::one_line(line)))?;
        }
    }
    Ok(())
}

/// Shows what the checks of a step, or of all, say.
fn judged(done: Done, step: Option<&str>, out: &Output) -> Result<ExitCode, CliError> {
    let mut session = done.snapshot.session.ok_or_else(session::no_lab)?;
    let asked: Vec<StepView> = session
        .steps
        .iter()
        .filter(|view| step.is_none_or(|step| view.id == step))
        .cloned()
        .collect();
    let passed = !asked.is_empty() && asked.iter().all(|step| step.state.is_done());
    if out.json() {
        session.traffic.messages.clear();
        return report(&done.message, passed, Some(&session), out);
    }
    for step in &asked {
        show_step(step, true, out)?;
    }
    out.line(format!("score {}", session.score))?;
    Ok(exit(passed))
}

fn answered(done: Done, step: &str, check: &str, out: &Output) -> Result<ExitCode, CliError> {
    let mut session = done.snapshot.session.ok_or_else(session::no_lab)?;
    let passed = find_check(&session, step, check).is_some_and(|check| check.verdict == CheckState::Passed);
    if out.json() {
        session.traffic.messages.clear();
        return report(&done.message, passed, Some(&session), out);
    }
    match find_check(&session, step, check) {
        Some(check) => show_check(check, false, out)?,
        None => out.line(&done.message)?,
    }
    out.line(format!("score {}", session.score))?;
    Ok(exit(passed))
}

fn hinted(done: Done, step: &str, out: &Output) -> Result<ExitCode, CliError> {
    let session = done.snapshot.session.ok_or_else(session::no_lab)?;
    let view = find_step(&session, step);
    let hint = view.and_then(|step| step.hints.last());
    if out.json() {
        out.value(&serde_json::json!({
            "message": done.message, "hint": hint, "next_hint_costs": view.and_then(|step| step.next_hint),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    match hint {
        Some(hint) => out.line(crate::text::clean(hint.text.trim()))?,
        None => out.line(&done.message)?,
    }
    if let Some(cost) = view.and_then(|step| step.next_hint) {
        out.note(format!("the next hint costs {}", cost.counted()));
    }
    Ok(ExitCode::SUCCESS)
}

fn told(done: Done, out: &Output) -> Result<ExitCode, CliError> {
    if out.json() {
        let mut session = done.snapshot.session;
        if let Some(session) = &mut session {
            session.traffic.messages.clear();
        }
        out.value(&serde_json::json!({ "message": done.message, "session": session }))?;
    } else {
        out.line(&done.message)?;
    }
    Ok(ExitCode::SUCCESS)
}
