//! `ztlab capture`: what crosses a pod's network. In a running lab it goes through the session and counts as evidence.

use std::{fs::File, io::Write, path::Path, pin::Pin, process::ExitCode, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    args::Capture,
    error::CliError,
    output::{Output, Tint},
    session, shell,
};
use crate::{
    capture::{self, CaptureEvent, CaptureFile, CaptureRequest, EndReason, Names, TrafficEvent},
    cluster::{self, ClusterHandle, GroundKind},
    packet::{CapturePoint, Message},
    session::{
        client::Client,
        command::Command,
        snapshot::{MessageView, Phase, SessionView, Snapshot},
    },
    text,
};

/// How long a capture runs that says neither `--follow` nor `--for`.
const DEFAULT: Duration = Duration::from_secs(10);

/// Runs the command.
///
/// # Errors
/// When there is no such pod, the filter is not valid, or the file cannot be written.
pub fn run(args: &Capture, out: &Output) -> Result<ExitCode, CliError> {
    session::block_on(async {
        let deadline = Deadline::of(args);
        let lab = session::running().await?.filter(|(_, session)| in_lab(args, session));
        match (lab, &args.write) {
            (Some((client, session)), None) => in_session(&client, &session, args, deadline, out).await,
            (Some((client, session)), Some(file)) => {
                let own = start_in_session(&client, args, out).await?;
                let result = into_file(Some(&session), args, file, deadline, out).await;
                if own {
                    stop_in_session(&client, args, out).await?;
                }
                result
            }
            (None, Some(file)) => into_file(None, args, file, deadline, out).await,
            (None, None) => direct(args, deadline, out).await,
        }
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
async fn start_in_session(client: &Client, args: &Capture, out: &Output) -> Result<bool, CliError> {
    let before = session::snapshot(client).await?.session.ok_or_else(session::no_lab)?;
    if before
        .traffic
        .capturing
        .iter()
        .any(|capture| capture.workload == args.pod || capture.pod == args.pod)
    {
        out.note(format!(
            "a capture in {} is running already; this one joins it",
            args.pod
        ));
        return Ok(false);
    }
    let command = Command::CaptureStart {
        pod: args.pod.clone(),
        filter: args.filter.clone(),
        seconds: None,
    };
    session::run(client, command, out).await?;
    Ok(true)
}

async fn stop_in_session(client: &Client, args: &Capture, out: &Output) -> Result<(), CliError> {
    let command = Command::CaptureStop {
        pod: Some(args.pod.clone()),
    };
    session::run(client, command, out).await.map(|_| ())
}

async fn in_session(
    client: &Client,
    session: &SessionView,
    args: &Capture,
    deadline: Deadline,
    out: &Output,
) -> Result<ExitCode, CliError> {
    let seen = session.traffic.messages.last().map_or(0, |message| message.seq);
    let own = start_in_session(client, args, out).await?;
    let snapshots = client.follow().await?;
    let shown = show_session(snapshots, args, seen, deadline, out).await;
    let stopped = if own {
        stop_in_session(client, args, out).await
    } else {
        Ok(())
    };
    shown?;
    stopped?;
    Ok(ExitCode::SUCCESS)
}

async fn show_session(
    mut snapshots: Pin<Box<dyn Stream<Item = Snapshot> + Send>>,
    args: &Capture,
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
                    .find(|capture| capture.workload == args.pod || capture.pod == args.pod);
                match capture {
                    Some(_) => running = true,
                    None if running => {
                        out.note(format!("the capture in {} has ended", args.pod));
                        return Ok(());
                    }
                    None => {}
                }
                let workload = capture.map_or(args.pod.as_str(), |capture| capture.workload.as_str());
                for message in session.traffic.messages.iter().filter(|message| message.seq > seen) {
                    if message.captured_in == workload {
                        show_view(message, out)?;
                    }
                }
                seen = session.traffic.messages.last().map_or(seen, |message| message.seq.max(seen));
            }
        }
    }
}

fn show_view(message: &MessageView, out: &Output) -> Result<(), CliError> {
    if out.json() {
        return out.value_line(message);
    }
    out.line(format!(
        "{} {} {} {}",
        out.tinted(&clock(message.at_ms), Tint::Quiet),
        out.bold(&format!(
            "{} → {}",
            text::one_line(&message.from),
            text::one_line(&message.to)
        )),
        message.protocol,
        text::one_line(&message.summary)
    ))?;
    for leak in &message.leaks {
        show_leak(&leak.kind, &leak.value, out)?;
    }
    Ok(())
}

pub(super) fn show_message(message: &Message, out: &Output) -> Result<(), CliError> {
    if out.json() {
        return out.value_line(message);
    }
    out.line(format!(
        "{} {} {} {}",
        out.tinted(&clock(message.ts_ns / 1_000_000), Tint::Quiet),
        out.bold(&text::one_line(&message.route())),
        message.protocol,
        text::one_line(&message.summary)
    ))?;
    for leak in &message.leaks {
        let kind = match &leak.account {
            Some(account) => format!("{} of {account}", leak.kind),
            None => leak.kind.to_string(),
        };
        show_leak(&kind, &leak.value, out)?;
    }
    Ok(())
}

/// A leak on a line of its own, its bytes between marks that need no colour.
fn show_leak(kind: &str, value: &str, out: &Output) -> Result<(), CliError> {
    let value = out.tinted(&format!("»{}«", text::one_line(value)), Tint::Leak);
    out.line(format!(
        "    {} {} {value}",
        out.tinted("!", Tint::Bad),
        text::one_line(kind)
    ))
}

/// Milliseconds since the Unix epoch as the time of day, UTC.
pub(super) fn clock(at_ms: u64) -> String {
    let seconds = at_ms / 1000;
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        at_ms % 1000
    )
}

/// The cluster and the pod that are meant.
async fn target(lab: Option<&SessionView>, args: &Capture) -> Result<(ClusterHandle, CaptureRequest), CliError> {
    let handle = match (&args.cluster, lab.and_then(|lab| Some((lab, lab.kubeconfig.as_ref()?)))) {
        // The lab's own cluster, on whatever ground.
        (_, Some((lab, kubeconfig))) => cluster::by_kubeconfig(&lab.cluster, Path::new(kubeconfig)).await?,
        (Some(name), None) => cluster::ground(GroundKind::Embedded)?.get(name).await?,
        (None, None) => {
            let name = shell::only_cluster().await?;
            cluster::ground(GroundKind::Embedded)?.get(&name).await?
        }
    };
    let namespace = args
        .namespace
        .clone()
        .or_else(|| lab.map(|session| session.namespace.clone()));
    let (namespace, pod) = find_pod(&handle, namespace.as_deref(), &args.pod).await?;
    let request = CaptureRequest {
        filter: args.filter.clone(),
        ..CaptureRequest::pod(namespace, pod)
    };
    Ok((handle, request))
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

async fn direct(args: &Capture, deadline: Deadline, out: &Output) -> Result<ExitCode, CliError> {
    let (handle, request) = target(None, args).await?;
    let pod = request.pod.clone();
    let names = Names::watch(&handle.client).await;
    let mut events = capture::traffic(&handle.client, request, names).await?;
    out.note(format!("capturing in pod {pod}"));
    let over = deadline.over();
    tokio::pin!(over);
    let mut lost = 0;
    loop {
        tokio::select! {
            () = &mut over => break,
            event = events.next() => match event {
                Some(Ok(TrafficEvent::Message(message))) => show_message(&message, out)?,
                Some(Ok(TrafficEvent::Counters { dropped, .. })) => lost = dropped,
                Some(Ok(TrafficEvent::Started { .. })) => {}
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

async fn into_file(
    lab: Option<&SessionView>,
    args: &Capture,
    path: &Path,
    deadline: Deadline,
    out: &Output,
) -> Result<ExitCode, CliError> {
    let (handle, request) = target(lab, args).await?;
    let (pod, snaplen) = (request.pod.clone(), request.snaplen);
    let unwritable = |error: std::io::Error| {
        CliError::with_hint(
            format!("cannot write {}: {error}", path.display()),
            "-w names a file in a directory that may be written to",
        )
    };
    let mut file = File::create(path).map_err(unwritable)?;
    let point = CapturePoint {
        namespace: request.namespace.clone(),
        pod: pod.clone(),
        interface: None,
    };
    let names = Names::watch(&handle.client).await;
    let mut events = capture::start(&handle.client, request).await?;
    let over = deadline.over();
    tokio::pin!(over);
    let (mut writer, mut lost): (Option<CaptureFile>, _) = (None, 0);
    loop {
        tokio::select! {
            () = &mut over => break,
            event = events.next() => match event {
                Some(Ok(CaptureEvent::Started { link, interfaces })) => {
                    let (begun, header) = CaptureFile::begin(names.clone(), &point, link, interfaces, snaplen);
                    file.write_all(&header).map_err(unwritable)?;
                    writer = Some(begun);
                    out.note(format!("capturing in pod {pod} to {}", path.display()));
                }
                Some(Ok(CaptureEvent::Packet(packet))) => {
                    if let Some(writer) = &mut writer {
                        file.write_all(&writer.packet(&packet)).map_err(unwritable)?;
                    }
                }
                Some(Ok(CaptureEvent::Dropped(dropped))) => lost = dropped,
                Some(Ok(CaptureEvent::Ended(reason))) => {
                    ended(&reason, &pod)?;
                    break;
                }
                Some(Err(error)) => return Err(error.into()),
                None => break,
            }
        }
    }
    let packets = writer.as_ref().map_or(0, CaptureFile::packets);
    if let Some(writer) = writer {
        file.write_all(&writer.end(lost)).map_err(unwritable)?;
    }
    if out.json() {
        out.value(&serde_json::json!({ "pod": pod, "file": path, "packets": packets, "dropped": lost }))?;
    } else {
        out.line(format!(
            "{packets} packets of pod {pod} in {}, {lost} dropped",
            path.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
