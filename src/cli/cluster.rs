//! `ztlab cluster …`: clusters without labs.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use super::{args::Cluster, error::CliError, output::Output, session};
use crate::cluster::{
    self, ClusterHandle, ClusterInfo, ClusterRanges, ClusterState, Ground, GroundKind, Progress, ProgressEvent,
    Snapshot,
};

/// Runs the command.
///
/// # Errors
/// When the ground fails, or the cluster is in use by a lab.
pub fn run(command: Cluster, out: &Output) -> Result<ExitCode, CliError> {
    session::block_on(async {
        let ground = cluster::ground(GroundKind::Embedded)?;
        match command {
            Cluster::List => list(ground.as_ref(), out).await,
            Cluster::Create { name } => {
                let handle = watching(out, |progress| {
                    let ground = &ground;
                    let name = &name;
                    async move { ground.create(name, &progress).await }
                })
                .await?;
                made(out, "created", &handle)
            }
            Cluster::Start { name } => {
                let handle = watching(out, |progress| {
                    let ground = &ground;
                    let name = &name;
                    async move { ground.start(name, &progress).await }
                })
                .await?;
                made(out, "started", &handle)
            }
            Cluster::Delete { name } => {
                not_in_use(&name).await?;
                ground.delete(&name).await?;
                done(out, "deleted", &name)
            }
            Cluster::Stop { name } => {
                not_in_use(&name).await?;
                ground.stop(&name).await?;
                done(out, "stopped", &name)
            }
            Cluster::Snapshot { name, label, note } => snapshot(ground.as_ref(), &name, &label, &note, out).await,
            Cluster::Restore { name, label } => restore(ground.as_ref(), &name, label, out).await,
            Cluster::Snapshots { name, delete } => snapshots(ground.as_ref(), &name, delete, out).await,
            Cluster::Kubeconfig { name } => {
                let path = kubeconfig(ground.as_ref(), &name).await?;
                if out.json() {
                    out.value(&serde_json::json!({ "cluster": name, "kubeconfig": path }))?;
                } else {
                    out.line(path.display())?;
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

async fn snapshot(
    ground: &dyn Ground,
    name: &str,
    label: &str,
    note: &str,
    out: &Output,
) -> Result<ExitCode, CliError> {
    let taken = ground.get(name).await?.snapshot(label, note).await?;
    if out.json() {
        out.value(&serde_json::json!({ "cluster": name, "snapshot": taken }))?;
    } else {
        out.line(format!(
            "cluster `{name}`: snapshot `{label}` taken, {} objects",
            taken.objects
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn restore(ground: &dyn Ground, name: &str, label: Option<String>, out: &Output) -> Result<ExitCode, CliError> {
    let handle = ground.get(name).await?;
    let label = match label {
        Some(label) => label,
        None => match handle.snapshots().await?.pop() {
            Some(newest) => newest.name,
            None => {
                return Err(CliError::with_hint(
                    format!("cluster `{name}` has no snapshot"),
                    format!("`ztlab cluster snapshot {name}` takes one"),
                ));
            }
        },
    };
    let done = handle.restore(&label).await?;
    if out.json() {
        out.value(&serde_json::json!({ "cluster": name, "restored": done }))?;
    } else {
        out.line(format!(
            "cluster `{name}`: snapshot `{label}` restored; {} objects created, {} changed, {} deleted",
            done.created, done.changed, done.deleted
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn snapshots(
    ground: &dyn Ground,
    name: &str,
    delete: Option<String>,
    out: &Output,
) -> Result<ExitCode, CliError> {
    let handle = ground.get(name).await?;
    if let Some(label) = delete {
        handle.delete_snapshot(&label).await?;
        if out.json() {
            out.value(&serde_json::json!({ "cluster": name, "snapshot": label, "state": "deleted" }))?;
        } else {
            out.line(format!("cluster `{name}`: snapshot `{label}` deleted"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let all = handle.snapshots().await?;
    if out.json() {
        out.value(&all)?;
    } else if all.is_empty() {
        out.note(format!("no snapshots; `ztlab cluster snapshot {name}` takes one"));
    } else {
        let row = |one: &Snapshot| {
            vec![
                one.name.clone(),
                one.taken.clone(),
                one.objects.to_string(),
                one.note.clone(),
            ]
        };
        let rows: Vec<_> = all.iter().map(row).collect();
        out.table(&["LABEL", "TAKEN", "OBJECTS", "NOTE"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `work` and prints its progress as it comes; ctrl-c ends the waiting.
async fn watching<T, F>(out: &Output, work: impl FnOnce(Progress) -> F) -> Result<T, CliError>
where
    F: Future<Output = Result<T, cluster::ClusterError>>,
{
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel::<ProgressEvent>();
    let progress: Progress = Arc::new(move |event| {
        // The receiver is gone once the result is there.
        let _ = sender.send(event);
    });
    let result = work(progress);
    tokio::pin!(result);
    loop {
        tokio::select! {
            result = &mut result => {
                out.clear_progress();
                return Ok(result?);
            }
            Some(event) = events.recv() => out.progress(&line(&event)),
            _ = tokio::signal::ctrl_c() => {
                return Err(CliError::with_hint(
                    "interrupted before the cluster was ready",
                    "`ztlab cluster list` shows what is there, `ztlab cluster delete NAME` removes it",
                ));
            }
        }
    }
}

fn line(event: &ProgressEvent) -> String {
    let mut line = event.phase.clone();
    if event.total > 0 {
        line.push_str(&format!(" {}/{}", event.done, event.total));
    }
    if !event.detail.is_empty() {
        line.push_str(": ");
        line.push_str(&event.detail);
    }
    line
}

async fn list(ground: &dyn Ground, out: &Output) -> Result<ExitCode, CliError> {
    let clusters = ground.list().await?;
    if out.json() {
        out.value(&clusters)?;
        return Ok(ExitCode::SUCCESS);
    }
    if clusters.is_empty() {
        out.note("no clusters; `ztlab cluster create NAME` makes one, and a lab makes its own");
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = clusters.iter().map(row).collect();
    out.table(
        &["NAME", "GROUND", "STATE", "SERVER", "PODS", "SERVICES", "KUBECONFIG"],
        &rows,
    )?;
    Ok(ExitCode::SUCCESS)
}

fn row(cluster: &ClusterInfo) -> Vec<String> {
    let range = |of: fn(&ClusterRanges) -> &String| cluster.ranges.as_ref().map_or("-", |ranges| of(ranges)).to_owned();
    vec![
        cluster.name.clone(),
        cluster.ground.to_string(),
        match cluster.state {
            ClusterState::Running => "running".to_owned(),
            ClusterState::Starting => "starting".to_owned(),
            ClusterState::Stopping => "stopping".to_owned(),
            ClusterState::Stopped => "stopped".to_owned(),
            ClusterState::Unusable => "unusable".to_owned(),
        },
        cluster.server.clone().unwrap_or_else(|| "-".to_owned()),
        range(|ranges| &ranges.pods),
        range(|ranges| &ranges.services),
        cluster.kubeconfig.display().to_string(),
    ]
}

/// The kubeconfig of the cluster called `name`.
///
/// # Errors
/// When there is no such cluster.
pub async fn kubeconfig(ground: &dyn Ground, name: &str) -> Result<PathBuf, CliError> {
    let clusters = ground.list().await?;
    match clusters.iter().find(|cluster| cluster.name == name) {
        Some(cluster) => Ok(cluster.kubeconfig.clone()),
        None => Err(no_cluster(name, &clusters)),
    }
}

/// The error for a cluster that is not there, naming those that are.
pub fn no_cluster(name: &str, clusters: &[ClusterInfo]) -> CliError {
    let names: Vec<&str> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    CliError::with_hint(
        format!("no cluster `{name}`"),
        if names.is_empty() {
            format!("`ztlab cluster create {name}` makes one")
        } else {
            format!("there are: {}", names.join(", "))
        },
    )
}

/// A cluster that a lab runs on is the session's to end.
async fn not_in_use(name: &str) -> Result<(), CliError> {
    match session::running().await {
        Ok(Some((_, session))) if session.cluster == name => Err(CliError::with_hint(
            format!("cluster `{name}` is in use by the lab `{}`", session.lab.id),
            "`ztlab lab stop` leaves it, `ztlab lab stop --delete` removes both",
        )),
        // A host that cannot be asked must not keep a cluster from being removed.
        _ => Ok(()),
    }
}

fn made(out: &Output, what: &str, handle: &ClusterHandle) -> Result<ExitCode, CliError> {
    let ClusterHandle {
        name,
        kubeconfig,
        notes,
        ..
    } = handle;
    if out.json() {
        let said = serde_json::json!({ "cluster": name, "state": what, "kubeconfig": kubeconfig, "notes": notes });
        out.value(&said)?;
    } else {
        for note in notes {
            out.note(format!("note: {note}"));
        }
        out.line(format!("cluster `{name}` {what}"))?;
        out.note(format!("export KUBECONFIG={}", kubeconfig.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn done(out: &Output, what: &str, name: &str) -> Result<ExitCode, CliError> {
    if out.json() {
        out.value(&serde_json::json!({ "cluster": name, "state": what }))?;
    } else {
        out.line(format!("cluster `{name}` {what}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
