//! The messages of several capture points as one stream: in the order of time, and what two points saw given once.
//!
//! Each point has a [`Dissector`](super::Dissector) of its own: the same packet at two points is no retransmission, and
//! between a client and a server a Service's address is replaced by a pod's (DNAT). Two sightings are one message where both
//! read the same, at least one end is the same address and port (the client's is kept), and both came within the time that
//! messages are held back for this. What comes later is given by itself, with its own point; so is what the points read
//! differently, because one of them missed something. What a proxy says onward is another connection: neither end is the same.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
};

use super::{CapturePoint, Flow, Message, Peer, Sighting, WhoKind, conversation::Fact};

/// Messages that may wait; beyond it, the oldest is given at once.
const WAITING: usize = 8192;
/// Conversations and messages whose numbers are remembered.
const REMEMBERED: usize = 16_384;

/// When a message was seen, and its place among those of the same time.
type Place = (u64, u64);

/// An end of a message: from it, or to it.
type Side = (bool, SocketAddr);

fn sides(message: &Message) -> [Side; 2] {
    [(true, message.from.addr), (false, message.to.addr)]
}

/// A message that waits to be seen at other points too.
#[derive(Debug)]
struct Waiting {
    due_ns: u64,
    print: u64,
    /// The point of the message.
    at: usize,
    message: Message,
    /// Every point at which it was seen, and its number there.
    seen: Vec<(usize, u64)>,
}

/// A map that forgets what was put in first.
#[derive(Debug)]
struct Recent<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Hash + Eq + Copy, V> Recent<K, V> {
    fn new() -> Self {
        Self {
            map: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.map.remove(&oldest);
        }
    }
}

/// Puts the messages and conversations of several points together. Pure: it is told the time, in nanoseconds of any clock.
#[derive(Debug)]
pub struct Merge {
    hold_ns: u64,
    waiting: BTreeMap<Place, Waiting>,
    /// Those that wait, by what they say and by either end of them.
    prints: HashMap<(u64, Side), Vec<Place>>,
    /// Given before their time, for want of room.
    early: Vec<Message>,
    arrivals: u64,
    seq: u64,
    flow_ids: u64,
    /// Numbers of conversations here by those at their points.
    flows: Recent<(usize, u64), u64>,
    /// Numbers of messages here by those at their points.
    seqs: Recent<(usize, u64), u64>,
    /// Conversations on their way: due when, at which point.
    judged: VecDeque<(u64, usize, Flow)>,
    /// How each point judges a conversation, by its number here.
    verdicts: Recent<u64, Vec<(usize, Flow)>>,
}

impl Merge {
    /// Holds messages back for so long.
    pub fn new(hold_ns: u64) -> Self {
        Self {
            hold_ns,
            waiting: BTreeMap::new(),
            prints: HashMap::new(),
            early: Vec::new(),
            arrivals: 0,
            seq: 0,
            flow_ids: 0,
            flows: Recent::new(),
            seqs: Recent::new(),
            judged: VecDeque::new(),
            verdicts: Recent::new(),
        }
    }

    /// Takes in what a point saw, at this time.
    pub fn message(&mut self, point: usize, message: Message, now_ns: u64) {
        let print = print(&message);
        let alike = sides(&message).map(|side| self.prints.get(&(print, side)));
        let twin = alike.into_iter().flatten().flatten().copied().find(|place| {
            self.waiting.get(place).is_some_and(|one| {
                one.seen.iter().all(|(seen, _)| *seen != point)
                    && one.message.ts_ns.abs_diff(message.ts_ns) <= self.hold_ns
            })
        });
        if let Some(mut one) = twin.and_then(|place| self.take_out(place)) {
            let flow = self.flow_id((one.at, one.message.flow));
            if !self.flows.map.contains_key(&(point, message.flow)) {
                self.flows.insert((point, message.flow), flow);
            }
            one.seen.push((point, message.seq));
            join(&mut one, point, message);
            self.put(one);
            return;
        }
        self.flow_id((point, message.flow));
        self.put(Waiting {
            due_ns: now_ns + self.hold_ns,
            print,
            at: point,
            seen: vec![(point, message.seq)],
            message,
        });
        if self.waiting.len() > WAITING
            && let Some((&place, _)) = self.waiting.first_key_value()
        {
            self.give(place);
        }
    }

    /// Takes in how a point judges a conversation, at this time.
    pub fn flow(&mut self, point: usize, flow: Flow, now_ns: u64) {
        // Its messages may still be joined with those of another point, which tells that it is the same.
        self.judged.push_back((now_ns + self.hold_ns, point, flow));
    }

    /// What has waited long enough at this time: messages in the order of time, and conversations as all points that saw
    /// them judge them.
    pub fn ready(&mut self, now_ns: u64) -> (Vec<Message>, Vec<Flow>) {
        while let Some((&place, one)) = self.waiting.first_key_value() {
            if one.due_ns > now_ns {
                break;
            }
            self.give(place);
        }
        let mut flows = Vec::new();
        while self.judged.front().is_some_and(|(due, ..)| *due <= now_ns) {
            let Some((_, point, flow)) = self.judged.pop_front() else {
                break;
            };
            flows.push(self.judge(point, flow));
        }
        (std::mem::take(&mut self.early), flows)
    }

    /// Everything that still waits.
    pub fn finish(&mut self) -> (Vec<Message>, Vec<Flow>) {
        self.ready(u64::MAX)
    }

    fn put(&mut self, one: Waiting) {
        self.arrivals += 1;
        let place = (one.message.ts_ns, self.arrivals);
        for side in sides(&one.message) {
            self.prints.entry((one.print, side)).or_default().push(place);
        }
        self.waiting.insert(place, one);
    }

    fn take_out(&mut self, place: Place) -> Option<Waiting> {
        let one = self.waiting.remove(&place)?;
        for side in sides(&one.message) {
            let key = (one.print, side);
            if let Some(places) = self.prints.get_mut(&key) {
                places.retain(|other| *other != place);
                if places.is_empty() {
                    self.prints.remove(&key);
                }
            }
        }
        Some(one)
    }

    fn give(&mut self, place: Place) {
        let Some(one) = self.take_out(place) else { return };
        let Waiting {
            at, mut message, seen, ..
        } = one;
        self.seq += 1;
        for seen in seen {
            self.seqs.insert(seen, self.seq);
        }
        message.in_reply_to = message
            .in_reply_to
            .and_then(|asked| self.seqs.map.get(&(at, asked)).copied());
        message.flow = self.flow_id((at, message.flow));
        message.seq = self.seq;
        self.early.push(message);
    }

    /// The number here of a point's conversation.
    fn flow_id(&mut self, at: (usize, u64)) -> u64 {
        if let Some(id) = self.flows.map.get(&at) {
            return *id;
        }
        self.flow_ids += 1;
        self.flows.insert(at, self.flow_ids);
        self.flow_ids
    }

    fn judge(&mut self, point: usize, mut flow: Flow) -> Flow {
        let id = self.flow_id((point, flow.id));
        flow.id = id;
        if !self.verdicts.map.contains_key(&id) {
            self.verdicts.insert(id, Vec::new());
        }
        let Some(all) = self.verdicts.map.get_mut(&id) else {
            return flow;
        };
        match all.iter_mut().find(|(at, _)| *at == point) {
            Some((_, before)) => *before = flow.clone(),
            None => all.push((point, flow.clone())),
        }
        together(all).unwrap_or(flow)
    }
}

/// What a message says, whoever said it where.
fn print(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    (message.transport, message.protocol).hash(&mut hasher);
    (&message.summary, &message.text).hash(&mut hasher);
    hasher.finish()
}

fn is_service(peer: &Peer) -> bool {
    peer.who.as_ref().is_some_and(|who| who.kind == WhoKind::Service)
}

fn sighting(message: &Message) -> Sighting {
    Sighting {
        point: message.point.clone(),
        ts_ns: message.ts_ns,
        frames: message.frames.clone(),
    }
}

/// Joins another sighting of a message. The client's view of it is kept, which has the Service's address, and the other's tells
/// what that became.
fn join(one: &mut Waiting, point: usize, other: Message) {
    let kept = &one.message;
    let earlier = kept.ts_ns <= other.ts_ns;
    let kept_is_clients = if kept.to.addr != other.to.addr {
        is_service(&kept.to) || (!is_service(&other.to) && earlier)
    } else if kept.from.addr != other.from.addr {
        // An answer comes to the server's point first.
        is_service(&kept.from) || (!is_service(&other.from) && !earlier)
    } else {
        earlier
    };
    let other = if kept_is_clients {
        other
    } else {
        one.at = point;
        let mut before = std::mem::replace(&mut one.message, other);
        one.message.also = std::mem::take(&mut before.also);
        before
    };
    let message = &mut one.message;
    became(&mut message.from, &other.from);
    became(&mut message.to, &other.to);
    for leak in &mut message.leaks {
        leak.from.clone_from(&message.from);
        leak.to.clone_from(&message.to);
    }
    message.also.push(sighting(&other));
}

fn became(kept: &mut Peer, other: &Peer) {
    if kept.addr != other.addr && kept.became.is_none() {
        let pod = other.became.clone().unwrap_or_else(|| {
            Arc::new(Peer {
                became: None,
                ..other.clone()
            })
        });
        if pod.addr != kept.addr {
            kept.became = Some(pod);
        }
    }
}

/// A conversation as all points that saw it judge it: that of the worst verdict, which says where the others agree and
/// where they do not.
fn together(all: &[(usize, Flow)]) -> Option<Flow> {
    // Of equal verdicts, that of the client's point, which saw the Service's address or else saw it first.
    let (at, worst) = all
        .iter()
        .min_by_key(|(_, flow)| (flow.rank(flow.verdict), !is_service(&flow.server), flow.first_ns))?;
    let mut whole = worst.clone();
    for (_, other) in all.iter().filter(|(point, _)| point != at) {
        became(&mut whole.server, &other.server);
        match (&other.point, other.verdict == whole.verdict) {
            (Some(point), true) => whole.also.push(point.clone()),
            (_, true) => {}
            (point, false) => whole.evidence.push(Fact::new(None, otherwise(point.as_ref(), other))),
        }
    }
    Some(whole)
}

fn otherwise(point: Option<&CapturePoint>, flow: &Flow) -> String {
    let place = point.map_or_else(|| "another point".to_owned(), CapturePoint::to_string);
    format!("{place} shows it otherwise: {}", flow.verdict)
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
