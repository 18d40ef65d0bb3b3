//! What captures see, kept as evidence.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{SystemTime, UNIX_EPOCH},
};

use super::TrafficEvent;
use crate::{
    evidence::CaptureEvidence,
    packet::{CapturePoint, Flow, Message},
};

/// Messages that are kept; the oldest go.
const MESSAGES: usize = 2000;
/// Conversations that are kept; those silent longest go.
const FLOWS: usize = 512;
/// Places that are remembered.
const POINTS: usize = 256;

/// Conversations of several captures as they are judged by now, bounded.
#[derive(Debug, Default)]
pub struct Flows {
    /// By the number of the capture, and the conversation's in it.
    flows: BTreeMap<(u64, u64), Flow>,
}

impl Flows {
    /// Takes in how a conversation of a capture is judged by now; whether that is another verdict than before.
    pub fn take(&mut self, capture: u64, flow: Flow) -> bool {
        let verdict = flow.verdict;
        let before = self.flows.insert((capture, flow.id), flow);
        if self.flows.len() > FLOWS {
            let oldest = self
                .flows
                .iter()
                .min_by_key(|(_, flow)| flow.last_ns)
                .map(|(key, _)| *key);
            oldest.and_then(|key| self.flows.remove(&key));
        }
        before.is_none_or(|before| before.verdict != verdict)
    }

    /// Those that are kept, in the order in which they began.
    pub fn all(&self) -> Vec<Flow> {
        let mut flows: Vec<Flow> = self.flows.values().cloned().collect();
        flows.sort_by_key(|flow| flow.first_ns);
        flows
    }
}

/// Keeps what the streams of one or more captures tell, bounded, as the evidence that checks are judged by.
#[derive(Debug)]
pub struct Recorder {
    from_ns: u64,
    points: Vec<CapturePoint>,
    /// Packets and dropped packets, by point.
    counters: BTreeMap<CapturePoint, (u64, u64)>,
    messages: VecDeque<Message>,
    flows: Flows,
}

impl Recorder {
    /// Nothing seen yet; the time counts from now.
    pub fn new() -> Self {
        Self {
            from_ns: now_ns(),
            points: Vec::new(),
            counters: BTreeMap::new(),
            messages: VecDeque::new(),
            flows: Flows::default(),
        }
    }

    /// Takes in what the stream of a capture told; give each stream a number of its own.
    pub fn take(&mut self, capture: u64, event: TrafficEvent) {
        match event {
            TrafficEvent::Started { point } => {
                if self.points.len() < POINTS && !self.points.contains(&point) {
                    self.points.push(point);
                }
            }
            TrafficEvent::Message(message) => {
                if self.messages.len() == MESSAGES {
                    self.messages.pop_front();
                }
                self.messages.push_back(*message);
            }
            TrafficEvent::Flow(flow) => {
                self.flows.take(capture, *flow);
            }
            TrafficEvent::Counters {
                point,
                packets,
                dropped,
            } => {
                if self.counters.len() < POINTS || self.counters.contains_key(&point) {
                    self.counters.insert(point, (packets, dropped));
                }
            }
            TrafficEvent::Left { .. } | TrafficEvent::Ended(_) => {}
        }
    }

    /// What was seen until now.
    pub fn evidence(&self) -> CaptureEvidence {
        CaptureEvidence {
            points: self.points.clone(),
            from_ns: self.from_ns,
            until_ns: now_ns(),
            packets: self.counters.values().map(|(packets, _)| packets).sum(),
            dropped: self.counters.values().map(|(_, dropped)| dropped).sum(),
            messages: self.messages.iter().cloned().collect(),
            flows: self.flows.all(),
            // One stretch of time for all that it keeps.
            runs: Vec::new(),
        }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{FlowVerdict, pcapfile::PcapReader};

    /// A conversation in which something was said.
    fn said() -> Flow {
        let (mut dissector, mut file) = (crate::packet::Dissector::default(), PcapReader::default());
        file.push(include_bytes!("../../fuzz/corpus/capture/payment.pcap"));
        for number in 1.. {
            let Some(record) = file.next_record().unwrap() else {
                break;
            };
            dissector.feed(record.frame(number));
        }
        dissector.flows().remove(0)
    }

    fn flow(id: u64, last_ns: u64) -> TrafficEvent {
        TrafficEvent::Flow(Box::new(Flow { id, last_ns, ..said() }))
    }

    #[test]
    fn conversations_are_kept_by_capture_and_bounded() {
        let mut recorder = Recorder::new();
        let point = CapturePoint::pod("shop", "ledger-1");
        recorder.take(1, TrafficEvent::Started { point: point.clone() });
        for capture in [1, 2] {
            recorder.take(capture, flow(1, 5));
            recorder.take(capture, flow(1, 6));
        }
        let counters = |packets| TrafficEvent::Counters {
            point: point.clone(),
            packets,
            dropped: 1,
        };
        recorder.take(1, counters(3));
        recorder.take(1, counters(7));
        let evidence = recorder.evidence();
        assert_eq!((evidence.flows.len(), evidence.packets, evidence.dropped), (2, 7, 1));
        assert_eq!(evidence.points, [point]);
        assert!(evidence.flows.iter().all(|flow| flow.last_ns == 6));
        for id in 0..FLOWS as u64 {
            recorder.take(3, flow(id, 100 + id));
        }
        let evidence = recorder.evidence();
        assert_eq!(evidence.flows.len(), FLOWS);
        assert!(evidence.flows.iter().all(|flow| flow.last_ns >= 100), "the oldest went");
    }

    #[test]
    fn another_verdict_is_news() {
        let mut flows = Flows::default();
        let readable = said();
        let refused = Flow {
            verdict: FlowVerdict::Refused,
            ..readable.clone()
        };
        assert!(flows.take(1, readable.clone()) && !flows.take(1, readable));
        assert!(flows.take(1, refused));
    }
}
