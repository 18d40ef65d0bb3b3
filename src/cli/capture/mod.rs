//! `ztlab capture`: what crosses a pod's network. In a running lab it goes through the session and counts as evidence.

mod file;
mod several;
mod show;

use std::{path::Path, pin::Pin, process::ExitCode, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use self::show::show_view;
pub(super) use self::show::{clock, own, show_message};
use super::{args::Capture, error::CliError, output::Output, session, shell};
use crate::{
    capture::{self, CaptureRequest, EndReason, Names, Pods, Scope, TrafficEvent},
    cluster::{self, ClusterHandle, GroundKind},
    session::{
        client::Client,
        command::Command,
        snapshot::{MessageView, Phase, SessionView, Snapshot},
    },
};

/// How long a capture runs that says neither `--follow` nor `--for`.
const DEFAULT: Duration = Duration::from_secs(10);

/// What is captured: one pod, or several in one stream.
enum Target {
    One(String),
    Several(Pods),
}

impl Target {
    fn of(args: &Capture) -> Self {
        match (&args.between, args.pod.as_slice()) {
            (Some(pair), _) => Self::Several(Pods::Named(pair.clone())),
            (None, [pod]) => Self::One(pod.clone()),
            (None, []) => Self::Several(Pods::All),
            (None, pods) => Self::Several(Pods::Named(pods.to_vec())),
        }
    }

    /// The lab's workloads that are meant.
    fn workloads(&self, session: &SessionView) -> Vec<String> {
        match self {
            Self::One(pod) => vec![pod.clone()],
            Self::Several(Pods::Named(names)) => names.clone(),
            Self::Several(Pods::All) => {
                let mut names: Vec<String> = session.workloads.iter().map(|one| one.name.clone()).collect();
                names.dedup();
                names
            }
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When there is no such pod, the filter is not valid, or the file cannot be written.
pub fn run(args: &Capture, out: &Output) -> Result<ExitCode, CliError> {
    session::block_on(async {
        let deadline = Deadline::of(args);
        let target = Target::of(args);
        let lab = session::running().await?.filter(|(_, session)| in_lab(args, session));
        if let (Some((client, session)), None, Target::One(pod)) = (&lab, &args.write, &target) {
            return in_session(client, session, args, pod, deadline, out).await;
        }
        let session = lab.as_ref().map(|(_, session)| session);
        // In a lab it is the student's evidence too, which the session keeps.
        let mut own = Vec::new();
        if let Some((client, session)) = &lab {
            for workload in target.workloads(session) {
                if start_in_session(client, args, &workload, out).await? {
                    own.push(workload);
                }
            }
        }
        let result = match (&target, &args.write) {
            (_, Some(path)) => file::into_file(session, args, target, path, deadline, out).await,
            (Target::One(pod), None) => direct(args, pod, deadline, out).await,
            (Target::Several(pods), None) => several::show(session, args, pods.clone(), deadline, out).await,
        };
        if let Some((client, _)) = &lab {
            for workload in own {
                stop_in_session(client, workload, out).await?;
            }
        }
        result
    })
}

/// Whether the capture asked for is one of the running lab's pods.
fn in_lab(args: &Capture, session: &SessionView) -> bool {
    session.phase == Phase::Ready
        && args.cluster.as_ref().is_none_or(|name| *name == session.cluster)
        && args.namespace.as_ref().is_none_or(|name| *name == session.namespace)
}

/// When a capture ends by itself; none goes on until it is interrupted.
#[derive(Clone, Copy)]
struct Deadline(Option<Duration>);

impl Deadline {
    fn of(args: &Capture) -> Deadline {
        Deadline((!args.follow).then(|| args.duration.unwrap_or(DEFAULT)))
    }

    /// Completes once the time is over, counted from now, or the command was told to end: a capture then still writes the end of its
    /// file, and leaves none running in the session.
    async fn over(self) {
        let end = self.0.map(|duration| Instant::now() + duration);
        let timer = async {
            match end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = timer => {}
            () = told(SignalKind::interrupt()) => {}
            () = told(SignalKind::terminate()) => {}
            () = told(SignalKind::hangup()) => {}
        }
    }
}

/// Completes at the first such signal; never, where it cannot be heard.
async fn told(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

/// Starts a capture as the student's; false when one ran already, which is then not this command's to stop.
async fn start_in_session(client: &Client, args: &Capture, pod: &str, out: &Output) -> Result<bool, CliError> {
    let before = session::snapshot(client).await?.session.ok_or_else(session::no_lab)?;
    if before
        .traffic
        .capturing
        .iter()
        .any(|capture| capture.workload == pod || capture.pod == pod)
    {
        out.note(format!("a capture in {pod} is running already; this one joins it"));
        return Ok(false);
    }
    let command = Command::CaptureStart {
        pod: pod.to_owned(),
        filter: args.filter.clone(),
        seconds: None,
    };
    session::run(client, command, out).await?;
    Ok(true)
}

async fn stop_in_session(client: &Client, pod: String, out: &Output) -> Result<(), CliError> {
    let command = Command::CaptureStop { pod: Some(pod) };
    session::run(client, command, out).await.map(|_| ())
}

async fn in_session(
    client: &Client,
    session: &SessionView,
    args: &Capture,
    pod: &str,
    deadline: Deadline,
    out: &Output,
) -> Result<ExitCode, CliError> {
    let seen = session.traffic.messages.last().map_or(0, |message| message.seq);
    let own = start_in_session(client, args, pod, out).await?;
    let snapshots = client.follow().await?;
    let shown = show_session(snapshots, pod, seen, deadline, out).await;
    let stopped = if own {
        stop_in_session(client, pod.to_owned(), out).await
    } else {
        Ok(())
    };
    shown?;
    stopped?;
    Ok(ExitCode::SUCCESS)
}

async fn show_session(
    mut snapshots: Pin<Box<dyn Stream<Item = Snapshot> + Send>>,
    pod: &str,
    mut seen: u64,
    deadline: Deadline,
    out: &Output,
) -> Result<(), CliError> {
    let over = deadline.over();
    tokio::pin!(over);
    let mut running = false;
    loop {
        tokio::select! {
            () = &mut over => return Ok(()),
            snapshot = snapshots.next() => {
                let Some(snapshot) = snapshot else {
                    return Err(CliError::with_hint("the session host went away", "run the command again: the session continues"));
                };
                let Some(session) = snapshot.session else { return Ok(()) };
                let capture = session
                    .traffic
                    .capturing
                    .iter()
                    .find(|capture| capture.workload == pod || capture.pod == pod);
                match capture {
                    Some(_) => running = true,
                    None if running => {
                        out.note(format!("the capture in {pod} has ended"));
                        return Ok(());
                    }
                    None => {}
                }
                let workload = capture.map_or(pod, |capture| capture.workload.as_str());
                let new = |message: &&MessageView| message.seq > seen && message.captured_in == workload;
                let mut messages: Vec<&MessageView> = session.traffic.messages.iter().filter(new).collect();
                // What is long is complete only after shorter ones that it caused.
                messages.sort_by_key(|message| message.at_ms);
                for message in messages {
                    show_view(message, out)?;
                }
                seen = session.traffic.messages.last().map_or(seen, |message| message.seq.max(seen));
            }
        }
    }
}

/// The cluster that is meant.
async fn cluster_of(lab: Option<&SessionView>, args: &Capture) -> Result<ClusterHandle, CliError> {
    match (&args.cluster, lab.and_then(|lab| Some((lab, lab.kubeconfig.as_ref()?)))) {
        // The lab's own cluster, on whatever ground.
        (_, Some((lab, kubeconfig))) => Ok(cluster::by_kubeconfig(&lab.cluster, Path::new(kubeconfig)).await?),
        (Some(name), None) => Ok(cluster::ground(GroundKind::Embedded)?.get(name).await?),
        (None, None) => {
            let name = shell::only_cluster().await?;
            Ok(cluster::ground(GroundKind::Embedded)?.get(&name).await?)
        }
    }
}

fn namespace_of(lab: Option<&SessionView>, args: &Capture) -> Option<String> {
    let labs = || lab.map(|session| session.namespace.clone());
    args.namespace.clone().or_else(labs)
}

/// The cluster and the pod that are meant.
async fn target(
    lab: Option<&SessionView>,
    args: &Capture,
    pod: &str,
) -> Result<(ClusterHandle, CaptureRequest), CliError> {
    let handle = cluster_of(lab, args).await?;
    let namespace = namespace_of(lab, args);
    let (namespace, pod) = find_pod(&handle, namespace.as_deref(), pod).await?;
    let request = CaptureRequest {
        filter: args.filter.clone(),
        ..CaptureRequest::pod(namespace, pod)
    };
    Ok((handle, request))
}

/// The cluster and the pods that are meant.
async fn scope(lab: Option<&SessionView>, args: &Capture, pods: Pods) -> Result<(ClusterHandle, Scope), CliError> {
    let handle = cluster_of(lab, args).await?;
    let namespace = match (namespace_of(lab, args), &pods) {
        (Some(namespace), _) => namespace,
        (None, Pods::Named(names)) => match names.first() {
            Some(name) => find_pod(&handle, None, name).await?.0,
            None => "default".to_owned(),
        },
        (None, Pods::All) => {
            return Err(CliError::with_hint(
                "--all means the pods of one namespace, and none is given",
                "add one, for example `ztlab capture --all --namespace shop`",
            ));
        }
    };
    let scope = Scope {
        namespace,
        pods,
        filter: args.filter.clone(),
    };
    Ok((handle, scope))
}

/// The pod called `wanted`, or one of the workload of that name.
async fn find_pod(handle: &ClusterHandle, namespace: Option<&str>, wanted: &str) -> Result<(String, String), CliError> {
    let pods: Api<Pod> = match namespace {
        Some(namespace) => Api::namespaced(handle.client.clone(), namespace),
        None => Api::all(handle.client.clone()),
    };
    let pods = pods.list(&ListParams::default()).await.map_err(|error| {
        CliError::with_hint(
            format!("cannot list the pods of cluster `{}`: {error}", handle.name),
            "`ztlab cluster list` shows whether it runs",
        )
    })?;
    let is = |pod: &&Pod| pod.name_any() == wanted || pod.labels().get("app").is_some_and(|app| app == wanted);
    let found = pods
        .items
        .iter()
        .find(|pod| pod.name_any() == wanted)
        .or_else(|| pods.items.iter().find(is));
    match found {
        Some(pod) => Ok((pod.namespace().unwrap_or_default(), pod.name_any())),
        None => {
            let mut names: Vec<String> = pods.items.iter().take(20).map(ResourceExt::name_any).collect();
            names.sort();
            let place = namespace.map_or_else(|| "any namespace".to_owned(), |name| format!("namespace `{name}`"));
            Err(CliError::with_hint(
                format!("no pod `{wanted}` in {place} of cluster `{}`", handle.name),
                if names.is_empty() {
                    "there are no pods at all".to_owned()
                } else {
                    format!("there are: {}", names.join(", "))
                },
            ))
        }
    }
}

async fn direct(args: &Capture, pod: &str, deadline: Deadline, out: &Output) -> Result<ExitCode, CliError> {
    let (handle, request) = target(None, args, pod).await?;
    let pod = request.pod.clone();
    let names = Names::watch(&handle.client).await;
    let mut events = capture::traffic(&handle.client, request, names).await?;
    let over = deadline.over();
    tokio::pin!(over);
    let mut lost = 0;
    loop {
        tokio::select! {
            () = &mut over => break,
            event = events.next() => match event {
                Some(Ok(TrafficEvent::Message(message))) => show_message(&message, out)?,
                Some(Ok(TrafficEvent::Counters { dropped, .. })) => lost = dropped,
                Some(Ok(TrafficEvent::Started { point })) => show::vantage(&point, out),
                Some(Ok(TrafficEvent::Left { .. } | TrafficEvent::Flow(_))) => {}
                Some(Ok(TrafficEvent::Ended(reason))) => {
                    ended(&reason, &pod)?;
                    break;
                }
                Some(Err(error)) => return Err(error.into()),
                None => break,
            }
        }
    }
    if lost > 0 {
        out.note(format!("{lost} packets were dropped before they could be read"));
    }
    Ok(ExitCode::SUCCESS)
}

fn ended(reason: &EndReason, pod: &str) -> Result<(), CliError> {
    match reason {
        EndReason::Complete => Ok(()),
        EndReason::Lost { detail } => Err(CliError::with_hint(
            format!("the capture in pod {pod} was lost: {detail}"),
            "`kubectl describe pod` tells what became of the pod",
        )),
    }
}
