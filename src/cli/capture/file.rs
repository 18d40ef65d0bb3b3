//! A capture written to a file.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
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

/// How often the file is brought up to date for whoever reads it meanwhile.
const FLUSH: Duration = Duration::from_millis(250);

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
    let mut flush = tokio::time::interval(FLUSH);
    let lost = loop {
        let event = tokio::select! {
            () = &mut over => break None,
            _ = flush.tick() => {
                file.flush().map_err(unwritable)?;
                continue;
            }
            event = events.next() => event,
        };
        let Some(event) = event else { break None };
        let (bytes, left) = part(&mut writer, event, out);
        file.write_all(&bytes).map_err(unwritable)?;
        // With one pod, that is the end of it.
        if let (Some(left), Some(_)) = (left, &one) {
            break Some(left);
        }
    };
    for event in events.rest() {
        file.write_all(&part(&mut writer, event, out).0).map_err(unwritable)?;
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

/// The bytes of what happened, and why a point is gone, if one is.
fn part(writer: &mut CaptureFile, event: PacketsEvent, out: &Output) -> (Vec<u8>, Option<String>) {
    match event {
        PacketsEvent::Started {
            at,
            point,
            link,
            interfaces,
        } => {
            out.note(format!("capturing in pod {}", text::one_line(&point.pod)));
            (writer.join(at, point, link, interfaces), None)
        }
        PacketsEvent::Packet { at, packet } => (writer.packet(at, &packet), None),
        PacketsEvent::Dropped { at, dropped } => {
            writer.dropped(at, dropped);
            (Vec::new(), None)
        }
        PacketsEvent::Left { point, detail } => {
            let said = text::one_line(&format!("pod {}: {detail}", point.pod));
            out.note(&said);
            (Vec::new(), Some(said))
        }
    }
}

/// What the file holds.
fn told(writer: &CaptureFile, path: &Path, out: &Output) -> Result<(), CliError> {
    let one = writer.counted().count() == 1;
    for (point, packets, dropped) in writer.counted() {
        if out.json() {
            let told = serde_json::json!({ "pod": point.pod, "file": path, "packets": packets, "dropped": dropped });
            if one { out.value(&told) } else { out.value_line(&told) }?;
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
