//! The capture of several pods, shown as one stream.

use std::{collections::BTreeMap, process::ExitCode};

use futures::StreamExt;

use super::{
    super::{args::Capture, error::CliError, output::Output},
    Deadline, scope, show,
};
use crate::{
    capture::{self, Names, Pods, TrafficEvent},
    packet::{CapturePoint, Message},
    session::snapshot::SessionView,
    text,
};

/// Shows what the pods say until it is over, and how many packets each point dropped.
///
/// # Errors
/// When a pod is not there, none can be observed, or the filter is not valid.
pub(super) async fn show(
    lab: Option<&SessionView>,
    args: &Capture,
    pods: Pods,
    deadline: Deadline,
    out: &Output,
) -> Result<ExitCode, CliError> {
    let (handle, scope) = scope(lab, args, pods).await?;
    let names = Names::watch(&handle.client).await;
    let mut events = capture::traffic_of(&handle.client, scope, names).await?;
    let wanted = |message: &Message| match args.between.as_deref() {
        Some([one, other]) => message.between(one, other),
        _ => true,
    };
    let over = deadline.over();
    tokio::pin!(over);
    let mut counters: BTreeMap<CapturePoint, (u64, u64)> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            () = &mut over => break,
            event = events.next() => event,
        };
        match event {
            Some(Ok(TrafficEvent::Message(message))) if wanted(&message) => show::show_message(&message, out)?,
            Some(Ok(TrafficEvent::Started { point })) => {
                if counters.is_empty() {
                    show::vantage(&point, out);
                } else {
                    out.note(format!("capturing in pod {}", text::one_line(&point.pod)));
                }
                counters.entry(point).or_default();
            }
            Some(Ok(TrafficEvent::Counters {
                point,
                packets,
                dropped,
            })) => {
                counters.insert(point, (packets, dropped));
            }
            Some(Ok(TrafficEvent::Left { point, detail })) => {
                out.note(format!(
                    "pod {}: {}",
                    text::one_line(&point.pod),
                    text::one_line(&detail)
                ));
            }
            Some(Ok(TrafficEvent::Message(_) | TrafficEvent::Flow(_))) => {}
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(TrafficEvent::Ended(_))) | None => break,
        }
    }
    for (point, (packets, dropped)) in &counters {
        if out.json() {
            out.value_line(&serde_json::json!({ "point": point, "packets": packets, "dropped": dropped }))?;
        } else {
            out.note(format!(
                "pod {}: {packets} packets, {dropped} dropped",
                text::one_line(&point.pod)
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
