//! The student's captures: what is listened to, and what was seen.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use super::snapshot::{CaptureView, LeakView, MessageView, PlaceView, TrafficView};
use crate::{
    capture::Flows,
    evidence::{CaptureEvidence, CaptureRun},
    lab::Workload,
    packet::{CapturePoint, Flow, LeakKind, Message},
};

/// Messages that checks can look at.
const KEPT: usize = 2000;
/// Messages in a snapshot.
const SHOWN: usize = 120;
/// Bytes of a message's text in a snapshot.
const TEXT: usize = 4096;
/// Places that are remembered.
const POINTS: usize = 64;
/// Captures that are remembered.
const RUNS: usize = 64;

/// What the student's captures do and have seen, in this epoch.
#[derive(Debug, Default)]
pub struct Captures {
    running: BTreeMap<String, Running>,
    points: Vec<CapturePoint>,
    runs: Vec<CaptureRun>,
    messages: VecDeque<(u64, String, Arc<Message>)>,
    flows: Flows,
    last_seq: u64,
    /// Captures begun so far.
    begun: u64,
    began_ns: u64,
    /// Counters of captures that have ended.
    packets: u64,
    dropped: u64,
}

/// One running capture.
#[derive(Debug)]
pub struct Running {
    /// The pod.
    pub pod: String,
    /// Its filter.
    pub filter: Option<String>,
    /// Ends it.
    pub cancel: CancellationToken,
    /// Its number: conversations are counted in each capture anew.
    number: u64,
    packets: u64,
    dropped: u64,
}

impl Captures {
    /// Whether a capture runs in a workload.
    pub fn runs(&self, workload: &str) -> bool {
        self.running.contains_key(workload)
    }

    /// The workload of a running capture that a student calls by workload or pod name.
    pub fn called(&self, name: &str) -> Option<&str> {
        self.running
            .iter()
            .find(|(workload, running)| *workload == name || running.pod == name)
            .map(|(workload, _)| workload.as_str())
    }

    /// A capture has begun to listen.
    pub fn begin(&mut self, workload: &str, pod: &str, filter: Option<String>, namespace: &str) -> CancellationToken {
        let cancel = CancellationToken::new();
        if self.began_ns == 0 {
            self.began_ns = super::now_ms() * 1_000_000;
        }
        let known = self.points.iter().any(|point| point.pod == pod);
        if !known && self.points.len() < POINTS {
            self.points.push(CapturePoint::pod(namespace, pod));
        }
        self.begun += 1;
        if self.runs.len() == RUNS {
            self.runs.remove(0);
        }
        self.runs.push(CaptureRun {
            pod: pod.to_owned(),
            from_ns: super::now_ms() * 1_000_000,
            until_ns: None,
        });
        let running = Running {
            number: self.begun,
            pod: pod.to_owned(),
            filter,
            cancel: cancel.clone(),
            packets: 0,
            dropped: 0,
        };
        self.running.insert(workload.to_owned(), running);
        cancel
    }

    /// A capture is over; `None` when it was ended here before.
    pub fn finish(&mut self, workload: &str) -> Option<Running> {
        let running = self.running.remove(workload)?;
        self.packets += running.packets;
        self.dropped += running.dropped;
        let run = self
            .runs
            .iter_mut()
            .rev()
            .find(|run| run.pod == running.pod && run.until_ns.is_none());
        if let Some(run) = run {
            // What is read last was sent before.
            run.until_ns = Some(super::now_ms() * 1_000_000);
        }
        Some(running)
    }

    /// Ends every capture and forgets what was seen.
    pub fn clear(&mut self) {
        for running in self.running.values() {
            running.cancel.cancel();
        }
        // Numbers go on, so that a face can tell old messages from new ones.
        *self = Self {
            last_seq: self.last_seq,
            begun: self.begun,
            ..Self::default()
        };
    }

    /// The workloads captured in.
    pub fn workloads(&self) -> Vec<String> {
        self.running.keys().cloned().collect()
    }

    /// The pod that is listened to in a workload.
    pub fn pod(&self, workload: &str) -> Option<&str> {
        self.running.get(workload).map(|running| running.pod.as_str())
    }

    /// Ends the capture of a workload.
    pub fn cancel(&self, workload: &str) {
        if let Some(running) = self.running.get(workload) {
            running.cancel.cancel();
        }
    }

    /// A capture tells where its counters stand.
    pub fn count(&mut self, workload: &str, packets: u64, dropped: u64) {
        if let Some(running) = self.running.get_mut(workload) {
            running.packets = packets;
            running.dropped = dropped;
        }
    }

    /// A capture saw a message.
    pub fn saw(&mut self, workload: &str, message: Message) {
        self.last_seq += 1;
        if self.messages.len() == KEPT {
            self.messages.pop_front();
        }
        self.messages
            .push_back((self.last_seq, workload.to_owned(), Arc::new(message)));
    }

    /// A capture judges a conversation; whether otherwise than before.
    pub fn judged(&mut self, workload: &str, flow: Flow) -> bool {
        let Some(running) = self.running.get(workload) else {
            return false;
        };
        self.flows.take(running.number, flow)
    }

    /// The number of the last message.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Whether a message after number `seq` leaked this, between these two if they are given.
    pub fn leaked_since(&self, seq: u64, kind: LeakKind, between: Option<&(Workload, Workload)>) -> bool {
        let since = self
            .messages
            .iter()
            .filter(|(number, _, message)| *number > seq && !message.is_probe())
            .map(|(_, _, message)| message);
        let meant =
            since.filter(|message| between.is_none_or(|(one, other)| message.between(one.as_str(), other.as_str())));
        meant.flat_map(|message| &message.leaks).any(|leak| leak.kind == kind)
    }

    /// What checks are judged by.
    pub fn evidence(&self) -> CaptureEvidence {
        CaptureEvidence {
            points: self.points.clone(),
            from_ns: self.began_ns,
            until_ns: super::now_ms() * 1_000_000,
            packets: self.packets(),
            dropped: self.dropped(),
            messages: self
                .messages
                .iter()
                .map(|(_, _, message)| Message::clone(message))
                .collect(),
            flows: self.flows.all(),
            runs: self.runs.clone(),
        }
    }

    fn packets(&self) -> u64 {
        self.packets + self.running.values().map(|running| running.packets).sum::<u64>()
    }

    fn dropped(&self) -> u64 {
        self.dropped + self.running.values().map(|running| running.dropped).sum::<u64>()
    }

    /// What a face shows.
    pub fn view(&self) -> TrafficView {
        let skipped = self.messages.len().saturating_sub(SHOWN);
        TrafficView {
            capturing: self
                .running
                .iter()
                .map(|(workload, running)| capture_view(workload, running))
                .collect(),
            dropped: self.dropped(),
            packets: self.packets(),
            messages: self
                .messages
                .iter()
                .skip(skipped)
                .map(|(seq, workload, message)| message_view(*seq, workload, message))
                .collect(),
        }
    }
}

fn capture_view(workload: &str, running: &Running) -> CaptureView {
    CaptureView {
        workload: workload.to_owned(),
        pod: running.pod.clone(),
        filter: running.filter.clone(),
        packets: running.packets,
    }
}

fn message_view(seq: u64, workload: &str, message: &Message) -> MessageView {
    let text = head(&message.text, TEXT);
    MessageView {
        seq,
        at_ms: message.ts_ns / 1_000_000,
        captured_in: workload.to_owned(),
        place: message.point.as_ref().map(PlaceView::from),
        from: message.from.label(),
        to: message.to.label(),
        from_address: message.from.addr.to_string(),
        to_address: message.to.addr.to_string(),
        protocol: message.protocol.as_str().to_owned(),
        probe: message.is_probe(),
        summary: message.summary.clone(),
        text: text.to_owned(),
        identities: Vec::new(),
        packets: message.frames.clone(),
        leaks: message
            .leaks
            .iter()
            .filter(|leak| leak.end <= text.len())
            .map(|leak| LeakView {
                kind: leak.kind.as_str().to_owned(),
                value: leak.value.clone(),
                start: leak.start,
                end: leak.end,
            })
            .collect(),
    }
}

/// The beginning of `text`, at most so many bytes of it.
fn head(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
