//! A capture in progress, seen from outside the pod.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
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

/// Bytes read at once of what the observer sends; the packets in them are given on together.
const PIECE: usize = 64 << 10;
/// Pieces that may wait for the reader; beyond it the stream waits, and the pod's kernel counts what it drops.
const QUEUE: usize = 16;
/// How long libpcap may take to listen.
const START: Duration = Duration::from_secs(10);

/// The events of one capture. Dropping it ends the capture.
pub struct CaptureStream {
    pieces: mpsc::Receiver<Result<Vec<CaptureEvent>, CaptureError>>,
    /// What is left of the last piece.
    here: std::vec::IntoIter<CaptureEvent>,
    point: CapturePoint,
}

impl CaptureStream {
    /// Where it listens: all interfaces of a pod.
    pub fn point(&self) -> &CapturePoint {
        &self.point
    }

    /// The next event, where it came together with the last.
    pub(super) fn here(&mut self) -> Option<CaptureEvent> {
        self.here.next()
    }
}

impl Stream for CaptureStream {
    type Item = Result<CaptureEvent, CaptureError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.here.next() {
                return Poll::Ready(Some(Ok(event)));
            }
            match ready!(self.pieces.poll_recv(cx)) {
                Some(Ok(piece)) => self.here = piece.into_iter(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
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
    let (sender, pieces) = mpsc::channel(QUEUE);
    let reader = Reader {
        observer: observer.clone(),
        filter: request.filter,
        interfaces: None,
        complete: false,
        sender,
    };
    tokio::spawn(reader.run(process));
    let mut stream = CaptureStream {
        pieces,
        here: Vec::new().into_iter(),
        point: observer.point().clone(),
    };
    let first = tokio::time::timeout(START, stream.pieces.recv())
        .await
        .map_err(|_| observer.failed(format!("it did not listen within {} seconds", START.as_secs())))?
        .ok_or_else(|| observer.failed("it said nothing"))??;
    match first.first() {
        Some(CaptureEvent::Started { .. }) => {
            stream.here = first.into_iter();
            Ok(stream)
        }
        Some(CaptureEvent::Ended(EndReason::Lost { detail })) => Err(observer.failed(detail)),
        other => Err(observer.failed(format!("it began with {other:?}"))),
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
    sender: mpsc::Sender<Result<Vec<CaptureEvent>, CaptureError>>,
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
                read = stdout.read(file.room(PIECE)), if bytes_open => match read {
                    Ok(0) | Err(_) => { bytes_open = false; After::Go }
                    Ok(count) => { file.filled(count); After::Go }
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
        self.send(vec![CaptureEvent::Ended(reason)]).await;
    }

    fn damaged(&self, error: &PcapError) -> CaptureError {
        CaptureError::Stream {
            namespace: self.observer.namespace().to_owned(),
            pod: self.observer.pod().to_owned(),
            reason: error.to_string(),
        }
    }

    async fn send(&self, events: Vec<CaptureEvent>) -> After {
        match self.sender.send(Ok(events)).await {
            Ok(()) => After::Go,
            Err(_) => After::Stop,
        }
    }

    /// Gives on the packets that are whole.
    async fn packets(&mut self, file: &mut PcapReader, started: &mut bool) -> Result<After, PcapError> {
        let mut events = Vec::new();
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
            events.push(CaptureEvent::Started { link, interfaces });
        }
        let damage = records(file, &mut events).err();
        let after = match events.is_empty() {
            true => After::Go,
            false => self.send(events).await,
        };
        damage.map_or(Ok(after), Err)
    }

    /// A line of the observer's standard error.
    async fn note(&mut self, line: &str, told: &mut String) -> After {
        match serde_json::from_str(line) {
            Ok(Note::Started { interfaces }) => self.interfaces = Some(interfaces),
            Ok(Note::Counters { dropped, .. }) => {
                if dropped > 0 {
                    return self.send(vec![CaptureEvent::Dropped(dropped)]).await;
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

/// The packets that are whole, whose bytes stand together in one allocation.
fn records(file: &mut PcapReader, events: &mut Vec<CaptureEvent>) -> Result<(), PcapError> {
    let mut bytes = Vec::with_capacity(file.waiting());
    let mut found = Vec::new();
    let damage = loop {
        match file.next_record() {
            Ok(Some(record)) => {
                let start = bytes.len();
                bytes.extend_from_slice(record.data);
                found.push((record.ts_ns, record.orig_len, start..bytes.len()));
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let bytes = Bytes::from(bytes);
    events.extend(found.into_iter().map(|(ts_ns, orig_len, place)| {
        let data = bytes.slice(place);
        CaptureEvent::Packet(Packet { ts_ns, orig_len, data })
    }));
    damage
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{
        LinkType,
        pcapfile::{pcap_header, pcap_record},
    };

    #[test]
    fn packets_come_whole_however_they_were_cut() {
        let said: Vec<Vec<u8>> = (1..40_usize).map(|length| vec![length as u8; length * 7]).collect();
        let mut whole = pcap_header(LinkType::RAW, 65_535);
        for (ts_ns, data) in (1..).zip(&said) {
            pcap_record(ts_ns, data.len() as u32, data, &mut whole);
        }
        for size in [1, 13, 1000, whole.len()] {
            let (mut file, mut events) = (PcapReader::default(), Vec::new());
            for piece in whole.chunks(size) {
                file.room(PIECE)[..piece.len()].copy_from_slice(piece);
                file.filled(piece.len());
                records(&mut file, &mut events).unwrap();
            }
            let packets: Vec<Packet> = events
                .into_iter()
                .map(|event| match event {
                    CaptureEvent::Packet(packet) => packet,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert!(packets.iter().map(|packet| packet.ts_ns).eq(1..40));
            assert!(
                packets
                    .iter()
                    .map(|packet| &packet.data[..])
                    .eq(said.iter().map(|data| &data[..]))
            );
        }
    }
}
