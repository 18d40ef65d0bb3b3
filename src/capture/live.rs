//! A capture in progress, seen from outside the pod.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use kube::api::AttachedProcess;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    sync::mpsc,
};

use super::{
    CaptureError, CaptureEvent, CaptureRequest, EndReason, Interface, Packet,
    observer::{self, Observer},
    stage::{Note, Options},
};
use crate::packet::{
    CapturePoint,
    pcapfile::{PcapError, PcapReader},
};

/// Events that may wait for the reader; beyond it the stream waits, and the pod's kernel counts what it drops.
const QUEUE: usize = 1024;
/// How long libpcap may take to listen.
const START: Duration = Duration::from_secs(10);

/// The events of one capture. Dropping it ends the capture.
pub struct CaptureStream {
    events: mpsc::Receiver<Result<CaptureEvent, CaptureError>>,
    first: Option<CaptureEvent>,
    point: CapturePoint,
}

impl CaptureStream {
    /// Where it listens: all interfaces of a pod.
    pub fn point(&self) -> &CapturePoint {
        &self.point
    }
}

impl Stream for CaptureStream {
    type Item = Result<CaptureEvent, CaptureError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        self.events.poll_recv(cx)
    }
}

/// Starts a capture in a pod; returns once libpcap listens.
///
/// # Errors
/// The pod cannot be observed, or the filter is not valid.
pub async fn start(client: &kube::Client, request: CaptureRequest) -> Result<CaptureStream, CaptureError> {
    let observer = observer::ensure(client, &request.namespace, &request.pod).await?;
    let options = Options {
        filter: request.filter.clone(),
        snaplen: request.snaplen,
        ring: request.ring,
        duration: request.duration,
        packets: request.packets,
    };
    let args = std::iter::once("capture".to_owned()).chain(options.to_args()).collect();
    let process = observer.exec(args).await?;
    let (sender, mut events) = mpsc::channel(QUEUE);
    let reader = Reader {
        observer: observer.clone(),
        filter: request.filter,
        interfaces: None,
        complete: false,
        sender,
    };
    tokio::spawn(reader.run(process));
    match tokio::time::timeout(START, events.recv()).await {
        Ok(Some(Ok(first @ CaptureEvent::Started { .. }))) => Ok(CaptureStream {
            events,
            first: Some(first),
            point: observer.point().clone(),
        }),
        Ok(Some(Ok(CaptureEvent::Ended(EndReason::Lost { detail })))) => Err(observer.failed(detail)),
        Ok(Some(Ok(other))) => Err(observer.failed(format!("it began with {other:?}"))),
        Ok(Some(Err(error))) => Err(error),
        Ok(None) => Err(observer.failed("it said nothing")),
        Err(_) => Err(observer.failed(format!("it did not listen within {} seconds", START.as_secs()))),
    }
}

/// Reads what the observer sends.
struct Reader {
    observer: Observer,
    filter: Option<String>,
    /// The pod's interfaces, once told and until `Started` was sent.
    interfaces: Option<Vec<Interface>>,
    /// The observer said that it is done; packets may still be on their way.
    complete: bool,
    sender: mpsc::Sender<Result<CaptureEvent, CaptureError>>,
}

/// How a note of the observer changes the course.
enum After {
    Go,
    Stop,
}

impl Reader {
    async fn run(mut self, mut process: AttachedProcess) {
        // The observer ends when its standard input does, so it is kept here.
        let stdin = process.stdin();
        let (Some(mut stdout), Some(stderr)) = (process.stdout(), process.stderr()) else {
            return;
        };
        let mut notes = BufReader::new(stderr).lines();
        let mut file = PcapReader::default();
        let mut piece = vec![0; 64 << 10];
        let mut started = false;
        let mut told = String::new();
        let sender = self.sender.clone();
        let (mut bytes_open, mut notes_open) = (true, true);
        while bytes_open || notes_open {
            let after = tokio::select! {
                () = sender.closed() => return,
                note = notes.next_line(), if notes_open => match note {
                    Ok(Some(line)) => self.note(&line, &mut told).await,
                    _ => { notes_open = false; After::Go }
                },
                read = stdout.read(&mut piece), if bytes_open => match read {
                    Ok(0) | Err(_) => { bytes_open = false; After::Go }
                    Ok(count) => {
                        file.push(&piece[..count]);
                        After::Go
                    }
                },
            };
            if matches!(after, After::Stop) {
                return;
            }
            match self.packets(&mut file, &mut started).await {
                Ok(After::Go) => {}
                Ok(After::Stop) => return,
                Err(error) => {
                    let _ = self.sender.send(Err(self.damaged(&error))).await;
                    return;
                }
            }
        }
        drop(stdin);
        if told.is_empty() {
            "the observer's stream ended".clone_into(&mut told);
        }
        let reason = if self.complete {
            EndReason::Complete
        } else {
            EndReason::Lost { detail: told }
        };
        let _ = self.sender.send(Ok(CaptureEvent::Ended(reason))).await;
    }

    fn damaged(&self, error: &PcapError) -> CaptureError {
        CaptureError::Stream {
            namespace: self.observer.namespace().to_owned(),
            pod: self.observer.pod().to_owned(),
            reason: error.to_string(),
        }
    }

    async fn send(&self, event: CaptureEvent) -> After {
        match self.sender.send(Ok(event)).await {
            Ok(()) => After::Go,
            Err(_) => After::Stop,
        }
    }

    /// Gives on the packets that are whole.
    async fn packets(&mut self, file: &mut PcapReader, started: &mut bool) -> Result<After, PcapError> {
        if !*started {
            // The file's header is needed before it can be said how frames begin.
            if file.begin()?.is_none() {
                return Ok(After::Go);
            }
            // The note that says so and the file come on streams of their own.
            let (Some(link), Some(interfaces)) = (file.link(), self.interfaces.take()) else {
                return Ok(After::Go);
            };
            *started = true;
            if let After::Stop = self.send(CaptureEvent::Started { link, interfaces }).await {
                return Ok(After::Stop);
            }
        }
        while let Some(record) = file.next_record()? {
            let packet = Packet {
                ts_ns: record.ts_ns,
                orig_len: record.orig_len,
                data: Bytes::copy_from_slice(record.data),
            };
            if let After::Stop = self.send(CaptureEvent::Packet(packet)).await {
                return Ok(After::Stop);
            }
        }
        Ok(After::Go)
    }

    /// A line of the observer's standard error.
    async fn note(&mut self, line: &str, told: &mut String) -> After {
        match serde_json::from_str(line) {
            Ok(Note::Started { interfaces }) => self.interfaces = Some(interfaces),
            Ok(Note::Counters { dropped, .. }) => {
                if dropped > 0 {
                    return self.send(CaptureEvent::Dropped(dropped)).await;
                }
            }
            Ok(Note::Complete) => self.complete = true,
            Ok(Note::BadFilter { detail }) => {
                let filter = self.filter.clone().unwrap_or_default();
                let _ = self
                    .sender
                    .send(Err(CaptureError::Filter { filter, reason: detail }))
                    .await;
                return After::Stop;
            }
            Ok(Note::Failed { detail }) => *told = detail,
            // Whatever else says something there (the loader, a panic) is the reason if the stream ends now.
            Err(_) => {
                if told.len() < 1024 {
                    told.push_str(line);
                    told.push(' ');
                }
            }
        }
        After::Go
    }
}
