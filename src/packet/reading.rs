//! A capture file, read and dissected: pieces of the file in; packets, messages and conversations out.
//!
//! A file that ztlab wrote of several pods says of each packet at which of them it was seen. Each has a dissector of its own then,
//! and what two of them saw is told once (see [`Merge`]). Any other file is one capture, whatever interfaces it names.

use std::collections::BTreeMap;

use super::{
    CapturePoint, Dissector, Flow, Frame, Limits, LinkType, Merge, Message, Stats,
    pcapfile::{PcapError, PcapReader},
};

/// Pods that are told apart.
const POINTS: usize = 64;
/// How long a message waits for the same at another point, by the packets' clock.
const HOLD_NS: u64 = 400_000_000;

/// What a packet brought.
#[derive(Debug)]
pub struct Step<'a> {
    /// The packet.
    pub frame: Frame<'a>,
    /// What somebody wrote beside it.
    pub comment: Option<&'a str>,
    /// What was said by then.
    pub messages: Vec<Message>,
}

/// A pod of the file.
#[derive(Debug)]
struct Point {
    /// Its number for the merge.
    at: usize,
    pod: CapturePoint,
    /// Its interfaces by their index, as far as packets of them were read.
    interfaces: BTreeMap<u32, CapturePoint>,
    dissector: Dissector,
}

impl Point {
    fn of(&self, ifindex: Option<u32>) -> Option<CapturePoint> {
        let known = ifindex.and_then(|index| self.interfaces.get(&index));
        Some(known.unwrap_or(&self.pod).clone())
    }
}

/// The reading of a capture file.
#[derive(Debug)]
pub struct Reading {
    limits: Limits,
    file: PcapReader,
    number: u64,
    /// For packets that no pod is named for.
    whole: Dissector,
    pods: BTreeMap<(String, String), Point>,
    /// Where there are several pods.
    merge: Option<Merge>,
    last_ns: u64,
}

impl Reading {
    /// A file of which nothing was read. The limits are those of all of it; each of several pods has an eighth.
    pub fn new(limits: Limits, several: bool) -> Self {
        Self {
            limits: if several { shared(limits) } else { limits },
            file: PcapReader::default(),
            number: 0,
            whole: Dissector::new(limits),
            pods: BTreeMap::new(),
            merge: several.then(|| Merge::new(HOLD_NS)),
            last_ns: 0,
        }
    }

    /// Adds the next piece of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        self.file.push(bytes);
    }

    /// Room for the next piece of the file to be read into, see [`PcapReader::room`].
    pub fn room(&mut self, bytes: usize) -> &mut [u8] {
        self.file.room(bytes)
    }

    /// So many bytes were put where [`Self::room`] was made for them.
    pub fn filled(&mut self, bytes: usize) {
        self.file.filled(bytes);
    }

    /// The next packet, dissected; `None` when more of the file is needed.
    ///
    /// # Errors
    /// The bytes are no capture file, or a damaged one. Nothing after an error can be read.
    pub fn step(&mut self) -> Result<Option<Step<'_>>, PcapError> {
        let Some(record) = self.file.next_record()? else {
            return Ok(None);
        };
        self.number += 1;
        let frame = record.frame(self.number);
        self.last_ns = self.last_ns.max(frame.ts_ns);
        let named = record.interface.and_then(CapturePoint::from_file_name);
        let (at, mut messages) = match named.and_then(|point| pod(&mut self.pods, point, &frame, self.limits)) {
            Some(point) => {
                let mut messages = point.dissector.feed(frame);
                for message in &mut messages {
                    message.point = point.of(message.ifindex);
                }
                (point.at, messages)
            }
            None => (0, self.whole.feed(frame)),
        };
        if let Some(merge) = &mut self.merge {
            for message in messages {
                merge.message(at, message, self.last_ns);
            }
            messages = merge.ready(self.last_ns).0;
        }
        Ok(Some(Step {
            frame,
            comment: record.comment,
            messages,
        }))
    }

    /// The file is over, or nothing more of it can be read: what was begun and never completed, and every conversation.
    pub fn end(&mut self) -> (Vec<Message>, Vec<Flow>) {
        let (mut messages, mut flows) = (Vec::new(), Vec::new());
        let mut merge = self.merge.take();
        let mut ended = |at: usize, rest: Vec<Message>, judged: Vec<Flow>| match &mut merge {
            Some(merge) => {
                rest.into_iter().for_each(|one| merge.message(at, one, self.last_ns));
                judged.into_iter().for_each(|one| merge.flow(at, one, self.last_ns));
            }
            None => {
                messages.extend(rest);
                flows.extend(judged);
            }
        };
        ended(0, self.whole.finish(), self.whole.flows());
        for point in self.pods.values_mut() {
            let (mut rest, mut judged) = (point.dissector.finish(), point.dissector.flows());
            rest.iter_mut().for_each(|one| one.point = point.of(one.ifindex));
            judged.iter_mut().for_each(|one| one.point = point.of(one.ifindex));
            ended(point.at, rest, judged);
        }
        if let Some(mut merge) = merge {
            let (rest, judged) = merge.finish();
            messages.extend(rest);
            // What is told last has the say of every point.
            let last: BTreeMap<u64, Flow> = judged.into_iter().map(|flow| (flow.id, flow)).collect();
            flows.extend(last.into_values());
        }
        (messages, flows)
    }

    /// The file is over.
    ///
    /// # Errors
    /// It ended within a record.
    pub fn finish(&self) -> Result<(), PcapError> {
        self.file.finish()
    }

    /// What was seen, over all points.
    pub fn stats(&self) -> Stats {
        let points = self.pods.values().map(|point| point.dissector.stats());
        points.fold(self.whole.stats(), |sum, stats| sum + stats)
    }

    /// Bytes held for conversations that are not over.
    pub fn held(&self) -> usize {
        let points = self.pods.values().map(|point| point.dissector.held());
        self.whole.held() + points.sum::<usize>()
    }
}

/// The pod of a point, with the interface that the frame came by; `None` where there are too many.
fn pod<'a>(
    pods: &'a mut BTreeMap<(String, String), Point>,
    point: CapturePoint,
    frame: &Frame<'_>,
    limits: Limits,
) -> Option<&'a mut Point> {
    let key = (point.namespace.clone(), point.pod.clone());
    let next = pods.len() + 1;
    if next > POINTS && !pods.contains_key(&key) {
        return None;
    }
    let known = pods.entry(key).or_insert_with(|| Point {
        at: next,
        pod: CapturePoint {
            interface: None,
            ..point.clone()
        },
        interfaces: BTreeMap::new(),
        dissector: Dissector::new(limits),
    });
    if let Some(index) = interface_index(frame).filter(|_| known.interfaces.len() < POINTS) {
        known.interfaces.entry(index).or_insert(point);
    }
    Some(known)
}

/// The interface's index in a frame of the "cooked" format, version 2.
fn interface_index(frame: &Frame<'_>) -> Option<u32> {
    let index = frame.data.get(4..8).filter(|_| frame.link == LinkType::LINUX_SLL2)?;
    Some(u32::from_be_bytes(*index.first_chunk()?))
}

fn shared(limits: Limits) -> Limits {
    Limits {
        flows: (limits.flows / 8).max(1),
        total_bytes: limits.total_bytes / 8,
        fragmented: (limits.fragmented / 8).max(1),
        fragment_bytes: limits.fragment_bytes / 8,
        ..limits
    }
}
