//! A capture written to a file.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use super::{
    super::{args::Capture, error::CliError, output::Output},
    Deadline, Target, scope, target,
};
use crate::{
    capture::{self, CaptureFile, CaptureRequest, Names, PacketsEvent, Pods, Scope},
    session::snapshot::SessionView,
    text,
};

/// Writes what crosses until it is over.
///
/// # Errors
/// When the pods cannot be captured in or the file cannot be written.
pub(super) async fn into_file(
    lab: Option<&SessionView>,
    args: &Capture,
    wanted: Target,
    path: &Path,
    deadline: Deadline,
    out: &Output,
) -> Result<ExitCode, CliError> {
    let (handle, scope, one) = match wanted {
        Target::One(pod) => {
            let (handle, request) = target(lab, args, &pod).await?;
            let scope = Scope {
                namespace: request.namespace,
                pods: Pods::Named(vec![request.pod.clone()]),
                filter: request.filter,
            };
            (handle, scope, Some(request.pod))
        }
        Target::Several(pods) => {
            let (handle, scope) = scope(lab, args, pods).await?;
            (handle, scope, None)
        }
    };
    let unwritable = |error: std::io::Error| {
        CliError::with_hint(
            format!("cannot write {}: {error}", path.display()),
            "-w names a file in a directory that may be written to",
        )
    };
    let mut file = BufWriter::new(File::create(path).map_err(unwritable)?);
    let names = Names::watch(&handle.client).await;
    let mut events = capture::packets_of(&handle.client, scope).await?;
    let (mut writer, header) = CaptureFile::begin(names, CaptureRequest::SNAPLEN);
    file.write_all(&header).map_err(unwritable)?;
    let over = deadline.over();
    tokio::pin!(over);
    let mut write = |writer: &mut CaptureFile, event: PacketsEvent| -> Result<Option<String>, CliError> {
        let bytes = match event {
            PacketsEvent::Started {
                at,
                point,
                link,
                interfaces,
            } => {
                out.note(format!("capturing in pod {} to {}", point.pod, path.display()));
                writer.join(at, point, link, interfaces)
            }
            PacketsEvent::Packet { at, packet } => writer.packet(at, &packet),
            PacketsEvent::Dropped { at, dropped } => {
                writer.dropped(at, dropped);
                return Ok(None);
            }
            PacketsEvent::Left { point, detail } => {
                let said = format!("pod {}: {}", point.pod, text::one_line(&detail));
                out.note(&said);
                return Ok(Some(said));
            }
        };
        file.write_all(&bytes).map_err(unwritable)?;
        Ok(None)
    };
    let lost = loop {
        let event = tokio::select! {
            () = &mut over => break None,
            event = events.next() => event,
        };
        let Some(event) = event else { break None };
        let left = write(&mut writer, event)?;
        // With one pod, that is the end of it.
        if let (Some(left), Some(_)) = (left, &one) {
            break Some(left);
        }
    };
    for event in events.rest() {
        write(&mut writer, event)?;
    }
    told(&writer, path, out)?;
    file.write_all(&writer.end())
        .and_then(|()| file.flush())
        .map_err(unwritable)?;
    match lost {
        None => Ok(ExitCode::SUCCESS),
        Some(said) => Err(CliError::with_hint(
            format!("the capture was lost: {said}"),
            "`kubectl describe pod` tells what became of the pod; what was captured until then is in the file",
        )),
    }
}

/// What the file holds.
fn told(writer: &CaptureFile, path: &Path, out: &Output) -> Result<(), CliError> {
    for (point, packets, dropped) in writer.counted() {
        if out.json() {
            out.value(&serde_json::json!({ "pod": point.pod, "file": path, "packets": packets, "dropped": dropped }))?;
        } else {
            out.line(format!(
                "{packets} packets of pod {} in {}, {dropped} dropped",
                point.pod,
                path.display()
            ))?;
        }
    }
    Ok(())
}
