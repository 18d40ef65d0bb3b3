//! The way from frames to messages.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr, SocketAddrV4},
};

use super::{
    Frame, Limits, Message, Stats, Transport,
    conversation::Flow,
    exchange::Exchange,
    flow::{Connection, Context},
    layers::{self, Fragments, Icmp, Layers, Net, Trouble, Upper, Whole},
    segment::{self, Datagram, Segment, Source},
};

/// A transport and two ends, the lesser first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(Transport, SocketAddr, SocketAddr);

fn key(transport: Transport, one: SocketAddr, other: SocketAddr) -> Key {
    Key(transport, one.min(other), one.max(other))
}

impl Hash for Key {
    /// In one number where it fits; one is hashed for every packet.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Key(transport, one, other) = self;
        match (one, other) {
            (SocketAddr::V4(one), SocketAddr::V4(other)) => {
                let end = |end: &SocketAddrV4| u64::from(end.ip().to_bits()) << 16 | u64::from(end.port());
                // An end has 48 bits.
                let kind = u64::from(*transport == Transport::Udp) << 48;
                state.write_u128(u128::from(end(one) | kind) << 64 | u128::from(end(other)));
            }
            _ => (transport, one, other).hash(state),
        }
    }
}

#[derive(Debug)]
enum Tracked {
    Tcp(Box<Connection>),
    Udp(Box<Exchange>),
}

impl Tracked {
    fn last_ns(&self) -> u64 {
        match self {
            Tracked::Tcp(connection) => connection.last_ns,
            Tracked::Udp(exchange) => exchange.last_ns,
        }
    }

    fn held(&self) -> usize {
        match self {
            Tracked::Tcp(connection) => connection.held(),
            Tracked::Udp(exchange) => exchange.held(),
        }
    }

    fn flow(&self) -> Flow {
        match self {
            Tracked::Tcp(connection) => connection.flow(),
            Tracked::Udp(exchange) => exchange.flow(),
        }
    }

    fn closed(&self) -> bool {
        matches!(self, Tracked::Tcp(connection) if connection.closed)
    }

    /// Whether something was said since this was last asked.
    fn take_news(&mut self) -> bool {
        let seen = match self {
            Tracked::Tcp(connection) => connection.seen_mut(),
            Tracked::Udp(exchange) => exchange.seen_mut(),
        };
        std::mem::take(&mut seen.news)
    }
}

/// Frames in, messages out.
///
/// Takes the frames of one capture in the order of capture. The same frames give the same messages, and how a
/// sender cut its bytes into segments makes no difference to what they say.
#[derive(Debug)]
pub struct Dissector {
    limits: Limits,
    stats: Stats,
    flows: HashMap<Key, Tracked>,
    fragments: Fragments,
    /// Conversations that are over, the latest last, and the bytes they hold.
    over: VecDeque<Flow>,
    over_bytes: usize,
    /// How many of them [`Self::changed`] has not given yet.
    over_untold: usize,
    held: usize,
    flow_ids: u64,
    seq: u64,
}

/// A SYN without an answer for this long is told: the second retransmission of RFC 6298 §2 is due by then.
const UNANSWERED_NS: u64 = 3_000_000_000;
/// Bytes without structure are given out when nothing follows for this long.
const IDLE_NS: u64 = 500_000_000;

impl Dissector {
    /// A dissector that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            stats: Stats::default(),
            flows: HashMap::new(),
            fragments: Fragments::default(),
            over: VecDeque::new(),
            over_bytes: 0,
            over_untold: 0,
            held: 0,
            flow_ids: 0,
            seq: 0,
        }
    }

    /// Takes the next frame; gives the messages that it completed.
    pub fn feed(&mut self, frame: Frame<'_>) -> Vec<Message> {
        let mut out = Vec::new();
        self.stats.frames += 1;
        if (frame.orig_len as usize) > frame.data.len() {
            self.stats.cut += 1;
        }
        let layers = layers::decode(&frame);
        self.layers(&layers, &frame, &mut out);
        self.stay_within_limits(&mut out);
        self.stats.messages += out.len() as u64;
        out
    }

    fn layers(&mut self, layers: &Layers<'_>, frame: &Frame<'_>, out: &mut Vec<Message>) {
        let ifindex = layers.link.ifindex();
        let source = Source {
            frame: frame.number,
            ts_ns: frame.ts_ns,
            at: 0,
            origins: &[],
        };
        match &layers.net {
            Net::Ip(ip) if ip.fragment.is_some() => {
                let marks = (frame.number, frame.ts_ns);
                if let Some(whole) = self.fragments.add(ip, marks, &self.limits, &mut self.stats) {
                    self.whole(&whole, ifindex, source, out);
                }
            }
            Net::Ip(ip) => self.upper(&layers.upper, segment::ends(ip), ifindex, source, out),
            Net::Arp(_) => self.stats.other += 1,
            Net::None => {}
        }
        let known = !matches!(layers.net, Net::None);
        if layers
            .troubles
            .iter()
            .any(|trouble| !matches!(trouble, Trouble::Cut | Trouble::IpChecksum))
        {
            self.stats.malformed += 1;
        } else if !known {
            self.stats.other += 1;
        }
    }

    /// A packet put together from fragments.
    fn whole(&mut self, whole: &Whole, ifindex: Option<u32>, source: Source<'_>, out: &mut Vec<Message>) {
        let source = Source {
            origins: &whole.origins,
            ..source
        };
        self.upper(&whole.upper(), (whole.src, whole.dst), ifindex, source, out);
    }

    fn upper<'a>(
        &mut self,
        upper: &Upper<'a>,
        ends: (IpAddr, IpAddr),
        ifindex: Option<u32>,
        source: Source<'a>,
        out: &mut Vec<Message>,
    ) {
        match upper {
            Upper::Tcp(tcp) => self.segment(&Segment::new(ends, tcp, ifindex, source), out),
            Upper::Udp(udp) => self.datagram(&Datagram::new(ends, udp, ifindex, source), out),
            Upper::Icmp(icmp) => self.icmp(icmp, source, out),
            Upper::None => self.stats.other += 1,
        }
    }

    /// An ICMP error is told in the conversation it is about.
    fn icmp(&mut self, icmp: &Icmp<'_>, source: Source<'_>, out: &mut Vec<Message>) {
        self.stats.other += 1;
        let Some(quote) = icmp.quote() else { return };
        let Self {
            limits,
            stats,
            flows,
            seq,
            ..
        } = self;
        let context = &mut Context {
            out,
            seq,
            limits,
            stats,
        };
        match flows.get_mut(&key(quote.transport, quote.src, quote.dst)) {
            Some(Tracked::Tcp(connection)) => connection.undelivered(&quote, icmp.name(), source, context),
            Some(Tracked::Udp(exchange)) => exchange.undelivered(&quote, icmp.name(), source, context),
            None => {}
        }
    }

    pub(super) fn segment(&mut self, segment: &Segment<'_>, out: &mut Vec<Message>) {
        let key = key(Transport::Tcp, segment.src, segment.dst);
        if segment.syn {
            let renewed = matches!(self.flows.get(&key), Some(Tracked::Tcp(connection)) if connection.is_new(segment));
            if renewed {
                self.give_up(&key, out);
            }
        }
        let Self {
            limits,
            stats,
            flows,
            held,
            flow_ids,
            seq,
            ..
        } = self;
        let (flow, before) = match flows.entry(key) {
            Entry::Occupied(known) => {
                let flow = known.into_mut();
                let before = flow.held();
                (flow, before)
            }
            // The end of a connection that was not seen says nothing.
            Entry::Vacant(_) if !segment.syn && segment.len == 0 => return,
            Entry::Vacant(place) => {
                *flow_ids += 1;
                let flow = Tracked::Tcp(Box::new(Connection::new(*flow_ids, segment)));
                (place.insert(flow), 0)
            }
        };
        if let Tracked::Tcp(connection) = flow {
            connection.segment(
                segment,
                &mut Context {
                    out,
                    seq,
                    limits,
                    stats,
                },
            );
        }
        *held = held.saturating_sub(before) + flow.held();
    }

    pub(super) fn datagram(&mut self, datagram: &Datagram<'_>, out: &mut Vec<Message>) {
        let key = key(Transport::Udp, datagram.src, datagram.dst);
        let Self {
            limits,
            stats,
            flows,
            held,
            flow_ids,
            seq,
            ..
        } = self;
        let (flow, before) = match flows.entry(key) {
            Entry::Occupied(known) => {
                let flow = known.into_mut();
                let before = flow.held();
                (flow, before)
            }
            Entry::Vacant(place) => {
                *flow_ids += 1;
                let flow = Tracked::Udp(Box::new(Exchange::new(*flow_ids, datagram)));
                (place.insert(flow), 0)
            }
        };
        if let Tracked::Udp(exchange) = flow {
            exchange.datagram(
                datagram,
                &mut Context {
                    out,
                    seq,
                    limits,
                    stats,
                },
            );
        }
        *held = held.saturating_sub(before) + flow.held();
    }

    /// The clock has come to `now_ns` (nanoseconds since the Unix epoch): gives what waited for something to follow
    /// and what nobody answered. For live views; a file needs only [`Self::finish`].
    pub fn tick(&mut self, now_ns: u64) -> Vec<Message> {
        let mut out = Vec::new();
        let Self {
            limits,
            stats,
            flows,
            held,
            seq,
            ..
        } = self;
        let context = &mut Context {
            out: &mut out,
            seq,
            limits,
            stats,
        };
        for connection in in_order(flows) {
            if connection.closed {
                continue;
            }
            let before = connection.held();
            connection.tell_unanswered(now_ns, UNANSWERED_NS, context);
            if now_ns.saturating_sub(connection.last_ns) >= IDLE_NS {
                connection.idle(context);
            }
            *held = held.saturating_sub(before) + connection.held();
        }
        self.stats.messages += out.len() as u64;
        out
    }

    /// The capture is over: gives what was begun and never completed.
    pub fn finish(&mut self) -> Vec<Message> {
        let mut out = Vec::new();
        let Self {
            limits,
            stats,
            flows,
            seq,
            ..
        } = self;
        let context = &mut Context {
            out: &mut out,
            seq,
            limits,
            stats,
        };
        for connection in in_order(flows) {
            connection.tell_unanswered(u64::MAX, 0, context);
            connection.finish(context);
        }
        let mut over: Vec<Flow> = self.flows.drain().map(|(_, flow)| flow.flow()).collect();
        over.sort_by_key(|flow| flow.id);
        over.into_iter().for_each(|flow| self.remember(flow));
        self.fragments = Fragments::default();
        self.held = 0;
        self.stats.messages += out.len() as u64;
        out
    }

    /// The conversations so far, judged, in the order in which they began; of those that are over, as many as the
    /// limit on conversations allows.
    pub fn flows(&self) -> Vec<Flow> {
        let mut flows: Vec<Flow> = self.over.iter().cloned().collect();
        flows.extend(self.flows.values().map(Tracked::flow));
        flows.sort_by_key(|flow| flow.id);
        flows
    }

    /// The conversations in which something was said, or that ended, since this was last asked: for live views.
    pub fn changed(&mut self) -> Vec<Flow> {
        let untold = self.over_untold.min(self.over.len());
        let mut changed: Vec<Flow> = self.over.iter().skip(self.over.len() - untold).cloned().collect();
        self.over_untold = 0;
        let news = self
            .flows
            .values_mut()
            .filter_map(|flow| flow.take_news().then(|| flow.flow()));
        changed.extend(news);
        changed.sort_by_key(|flow| flow.id);
        changed
    }

    /// Remembers what is known of a conversation that is given up.
    fn remember(&mut self, flow: Flow) {
        self.over_bytes += flow.size();
        self.over.push_back(flow);
        self.over_untold = (self.over_untold + 1).min(self.limits.flows);
        while self.over.len() > self.limits.flows || self.over_bytes > self.limits.total_bytes {
            let Some(oldest) = self.over.pop_front() else { break };
            self.over_bytes -= oldest.size();
        }
    }

    /// What was seen so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Bytes held for conversations that are not over.
    pub fn held(&self) -> usize {
        self.held + self.fragments.held()
    }

    fn give_up(&mut self, key: &Key, out: &mut Vec<Message>) {
        let Some(flow) = self.flows.remove(key) else { return };
        self.held = self.held.saturating_sub(flow.held());
        let mut flow = flow;
        if let Tracked::Tcp(connection) = &mut flow {
            let Self { limits, stats, seq, .. } = self;
            connection.finish(&mut Context {
                out,
                seq,
                limits,
                stats,
            });
        }
        self.remember(flow.flow());
    }

    /// Gives up an eighth of the conversations, closed ones and then those silent longest, whenever there are too
    /// many or they hold too much.
    fn stay_within_limits(&mut self, out: &mut Vec<Message>) {
        while self.flows.len() > self.limits.flows || (self.held > self.limits.total_bytes && !self.flows.is_empty()) {
            let mut oldest: Vec<(bool, u64, Key)> = self
                .flows
                .iter()
                .map(|(key, flow)| (!flow.closed(), flow.last_ns(), *key))
                .collect();
            let count = (oldest.len() / 8).max(1);
            oldest.select_nth_unstable(count - 1);
            oldest.truncate(count);
            oldest.sort_unstable();
            for (open, _, key) in oldest {
                self.stats.evicted += u64::from(open);
                self.give_up(&key, out);
            }
        }
    }
}

/// Connections in the order in which they were opened, so that what is given out does not hang on a hash.
fn in_order(flows: &mut HashMap<Key, Tracked>) -> Vec<&mut Connection> {
    let mut connections: Vec<&mut Connection> = flows
        .values_mut()
        .filter_map(|flow| match flow {
            Tracked::Tcp(connection) => Some(connection.as_mut()),
            Tracked::Udp(_) => None,
        })
        .collect();
    connections.sort_by_key(|connection| connection.id());
    connections
}

impl Default for Dissector {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}
