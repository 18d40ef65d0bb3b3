//! One TCP connection: what protocol it is, and its messages.

use std::net::SocketAddr;

use super::{
    Detail, Limits, Message, Protocol, Role, Stats, Transport,
    buffer::{Buffer, Collected},
    conversation::{Flow, Seen},
    dns::{self, Dns},
    http::{self, Http},
    http2::{self, Http2},
    layers::Quote,
    postgres::{self, Postgres},
    raw::Raw,
    segment::{Segment, Source},
    sink::{Conversation, Direction, Draft, Sink},
    stream::{Event, Half},
    tls::{self, Tls},
};

/// What is spoken, as far as is known.
#[derive(Debug)]
enum App {
    /// Too few bytes to tell.
    Unknown,
    Http(Box<Http>),
    Http2(Http2),
    Postgres(Box<Postgres>),
    Tls(Box<Tls>),
    Dns(Box<Dns>),
    Raw(Box<Raw>),
}

/// Where the packets of a conversation come from, for all of them.
pub(super) struct Context<'a> {
    pub out: &'a mut Vec<Message>,
    pub seq: &'a mut u64,
    pub limits: &'a Limits,
    pub stats: &'a mut Stats,
}

/// A TCP connection.
#[derive(Debug)]
pub(super) struct Connection {
    conversation: Conversation,
    halves: [Half; 2],
    buffers: [Buffer; 2],
    app: App,
    /// Whether the handshake was seen.
    opened: bool,
    /// The SYN waits for an answer: when it was first seen, in which frame, in which direction.
    unanswered: Option<(u64, u64, Direction)>,
    pub closed: bool,
    pub last_ns: u64,
    /// Since when nothing was said, for turns that are given out when idle.
    said: bool,
    seen: Seen,
}

impl Connection {
    pub(super) fn new(id: u64, segment: &Segment<'_>) -> Self {
        // Whose SYN is answered opened it.
        let answers = segment.syn && segment.ack.is_some();
        let ends = if answers {
            [segment.dst, segment.src]
        } else {
            [segment.src, segment.dst]
        };
        Self {
            conversation: Conversation {
                id,
                ends,
                transport: Transport::Tcp,
                ifindex: segment.ifindex,
                midway: !segment.syn,
            },
            halves: Default::default(),
            buffers: Default::default(),
            app: App::Unknown,
            opened: false,
            unanswered: None,
            closed: false,
            last_ns: 0,
            said: false,
            seen: Seen::new(segment.source.ts_ns),
        }
    }

    /// What is known of it, and how it is judged.
    pub(super) fn flow(&self) -> Flow {
        let client = match &self.app {
            App::Tls(tls) => tls.client(),
            _ => None,
        };
        let mut seen = self.seen.clone();
        if let App::Tls(tls) = &self.app {
            seen.tls = Some(tls.facts().clone());
        }
        seen.opened = self.opened;
        seen.unanswered = self.unanswered.is_some();
        seen.closed = self.closed;
        Flow::of(&self.conversation, client, seen)
    }

    pub(super) fn seen_mut(&mut self) -> &mut Seen {
        &mut self.seen
    }

    /// Its number.
    pub(super) fn id(&self) -> u64 {
        self.conversation.id
    }

    /// Memory held.
    pub(super) fn held(&self) -> usize {
        let app = match &self.app {
            App::Unknown | App::Http2(_) => 0,
            App::Http(http) => http.held(),
            App::Postgres(postgres) => postgres.held(),
            App::Tls(tls) => tls.held(),
            App::Dns(dns) => dns.held(),
            App::Raw(raw) => raw.turns.iter().map(Collected::held).sum(),
        };
        app + self.seen.held()
            + self.halves.iter().map(Half::held).sum::<usize>()
            + self.buffers.iter().map(Buffer::held).sum::<usize>()
    }

    fn direction(&self, src: SocketAddr) -> Direction {
        usize::from(src != self.conversation.ends[0])
    }

    /// Whether a SYN opens another connection between the same ports.
    pub(super) fn is_new(&self, segment: &Segment<'_>) -> bool {
        let isn = self.halves[self.direction(segment.src)].isn;
        segment.syn && segment.ack.is_none() && (self.closed || isn.is_some_and(|isn| isn != segment.seq))
    }

    /// Takes a segment of this connection.
    pub(super) fn segment(&mut self, segment: &Segment<'_>, context: &mut Context<'_>) {
        let direction = self.direction(segment.src);
        let frame = (segment.source.frame, segment.source.ts_ns);
        let before = context.out.len();
        self.seen.packet(direction, segment.len, frame.1);
        self.take(segment, direction, frame, context);
        self.seen.messages(&context.out[before..]);
    }

    fn take(&mut self, segment: &Segment<'_>, direction: Direction, frame: (u64, u64), context: &mut Context<'_>) {
        self.last_ns = frame.1;
        if segment.syn {
            if segment.ack.is_some() {
                self.opened = true;
                self.unanswered = None;
            } else if !self.opened && self.unanswered.is_none() {
                self.unanswered = Some((frame.1, frame.0, direction));
            }
            self.halves[direction].syn(segment.seq);
        }
        if let Some(ack) = segment.ack {
            self.acknowledge(direction ^ 1, ack, context);
        }
        if segment.rst {
            if !self.halves[direction].believes_reset(segment.seq) {
                context.stats.conflicts += 1;
                return;
            }
            self.reset(direction, frame, context);
            return;
        }
        let Self {
            conversation,
            halves,
            buffers,
            app,
            ..
        } = self;
        let mut sink = Sink {
            out: context.out,
            seq: context.seq,
            limits: context.limits,
            conversation: *conversation,
        };
        let missing = &mut self.seen.missing_bytes;
        halves[direction].segment(segment, context.limits, context.stats, &mut |event| {
            if let Event::Gap(count) = event {
                *missing += count;
            }
            happen(app, direction, buffers, event, &mut sink);
        });
        if self.halves.iter().all(|half| half.ended) && !self.closed {
            self.close(Some(frame), context);
        }
    }

    fn acknowledge(&mut self, direction: Direction, ack: u32, context: &mut Context<'_>) {
        let Self {
            conversation,
            halves,
            buffers,
            app,
            ..
        } = self;
        let mut sink = Sink {
            out: context.out,
            seq: context.seq,
            limits: context.limits,
            conversation: *conversation,
        };
        let missing = &mut self.seen.missing_bytes;
        halves[direction].acknowledged(ack, context.stats, &mut |event| {
            if let Event::Gap(count) = event {
                *missing += count;
            }
            happen(app, direction, buffers, event, &mut sink);
        });
    }

    fn reset(&mut self, direction: Direction, frame: (u64, u64), context: &mut Context<'_>) {
        if self.closed {
            return;
        }
        let unanswered = self.unanswered.take();
        let refused = unanswered.is_some_and(|(.., asker)| asker != direction);
        let ending = self.halves.iter().any(|half| half.ended);
        self.seen.reset = Some((direction, frame.0));
        self.flush(context);
        if refused {
            self.seen.refused = Some((frame.0, "the server refused the connection".to_owned()));
            self.event(direction, "refused", "refused the connection", frame, context);
        } else if !ending && self.halves.iter().any(|half| half.spoke) {
            self.event(direction, "reset", "broke the connection off", frame, context);
        } else if !ending && self.opened {
            self.event(
                direction,
                "opened",
                "opened and broken off, nothing said",
                frame,
                context,
            );
        }
    }

    fn close(&mut self, frame: Option<(u64, u64)>, context: &mut Context<'_>) {
        self.flush(context);
        if let Some(frame) = frame.filter(|_| self.opened && !self.halves.iter().any(|half| half.spoke)) {
            self.event(0, "opened", "opened and closed, nothing said", frame, context);
        }
    }

    /// Nothing more comes: gives out everything that waits.
    pub(super) fn finish(&mut self, context: &mut Context<'_>) {
        let before = context.out.len();
        self.flush(context);
        self.seen.messages(&context.out[before..]);
    }

    fn flush(&mut self, context: &mut Context<'_>) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.seen.news = true;
        let Self {
            conversation,
            halves,
            buffers,
            app,
            ..
        } = self;
        let mut sink = Sink {
            out: context.out,
            seq: context.seq,
            limits: context.limits,
            conversation: *conversation,
        };
        for direction in [0, 1] {
            halves[direction].flush(context.stats, &mut |event| {
                happen(app, direction, buffers, event, &mut sink);
            });
            if !halves[direction].ended {
                happen(app, direction, buffers, Event::End, &mut sink);
            }
        }
        if let App::Tls(tls) = &self.app {
            self.seen.encrypted(tls.facts().clone());
        }
        self.app = App::Raw(Box::default());
        self.buffers = Default::default();
    }

    /// A SYN that nobody has answered for as long as `after_ns` is told once.
    pub(super) fn tell_unanswered(&mut self, now_ns: u64, after_ns: u64, context: &mut Context<'_>) {
        if let Some((since, frame, direction)) = self.unanswered
            && now_ns.saturating_sub(since) >= after_ns
            && !self.said
        {
            self.said = true;
            self.event(
                direction,
                "unanswered",
                "asked for a connection, no answer",
                (frame, since),
                context,
            );
        }
    }

    /// Gives out turns of bytes without structure when the conversation is idle.
    pub(super) fn idle(&mut self, context: &mut Context<'_>) {
        let mut sink = Sink {
            out: context.out,
            seq: context.seq,
            limits: context.limits,
            conversation: self.conversation,
        };
        let before = sink.out.len();
        for direction in [0, 1] {
            match &mut self.app {
                App::Raw(raw) => raw.flush(direction, &mut sink),
                App::Tls(tls) => tls.flush(direction, &mut sink),
                _ => {}
            }
        }
        self.seen.messages(&sink.out[before..]);
    }

    /// The network reported that a packet of this connection did not arrive.
    pub(super) fn undelivered(&mut self, quote: &Quote, why: &str, source: Source<'_>, context: &mut Context<'_>) {
        let direction = self.direction(quote.src);
        let refused = self.unanswered.is_some();
        if refused {
            self.seen.refused = Some((source.frame, format!("the network refused it: {why}")));
        }
        self.unanswered = None;
        let event = if refused { "refused" } else { "unreachable" };
        let words = format!("was told by the network: {why}");
        self.event(direction, event, &words, (source.frame, source.ts_ns), context);
    }

    fn event(&mut self, direction: Direction, event: &str, words: &str, frame: (u64, u64), context: &mut Context<'_>) {
        let mut sink = Sink {
            out: context.out,
            seq: context.seq,
            limits: context.limits,
            conversation: self.conversation,
        };
        let mut draft = Draft::new(direction, Protocol::Tcp, Role::Event, context.limits);
        draft.span.add(frame.0, frame.1);
        draft.summary = words.to_owned();
        draft.text.say(words);
        draft.detail = Detail::Connection {
            event: event.to_owned(),
        };
        sink.emit(draft);
        self.seen.news = true;
    }
}

/// One event of one direction, given to whoever understands it.
fn happen(app: &mut App, direction: Direction, buffers: &mut [Buffer; 2], event: Event<'_>, sink: &mut Sink<'_>) {
    match event {
        Event::Data { bytes, mark } => {
            let mut hopeful = false;
            if let App::Raw(raw) = app {
                let turns = raw.turns[direction].total == 0;
                if !(turns && raw.hopeful) {
                    raw.data(direction, bytes, mark, sink);
                    return;
                }
                raw.flush(direction ^ 1, sink);
                *app = App::Unknown;
                hopeful = true;
            }
            let (mut bytes, mut mark) = (bytes, mark);
            if let App::Http(http) = app
                && buffers[direction].is_empty()
            {
                let count = http.direct(direction, bytes, mark, sink);
                (bytes, mark) = (&bytes[count..], mark.ahead(count));
                if bytes.is_empty() && !http.tunnels(direction) {
                    return;
                }
            }
            buffers[direction].push(bytes, mark);
            advance(app, direction, buffers, sink);
            if let App::Raw(raw) = app {
                raw.hopeful |= hopeful;
            }
        }
        Event::Gap(count) => {
            if matches!(app, App::Unknown) && !buffers[direction].is_empty() {
                *app = App::Raw(Box::default());
                advance(app, direction, buffers, sink);
            }
            let buffer = &mut buffers[direction];
            match app {
                App::Unknown => {
                    *app = App::Raw(Box::new(Raw {
                        hopeful: true,
                        ..Raw::default()
                    }));
                }
                App::Http(http) => http.gap(direction, count, buffer, sink),
                App::Postgres(postgres) => postgres.gap(direction, count, buffer, sink),
                App::Tls(tls) => tls.gap(direction, count, buffer, sink),
                App::Dns(_) | App::Http2(_) => *app = App::Raw(Box::default()),
                App::Raw(raw) => {
                    raw.turns[direction].missing += count;
                    raw.hopeful = true;
                }
            }
        }
        Event::End => {
            if matches!(app, App::Unknown | App::Dns(_) | App::Http2(_)) && !buffers[direction].is_empty() {
                *app = App::Raw(Box::default());
                advance(app, direction, buffers, sink);
            }
            match app {
                App::Http(http) => http.end(direction, sink),
                App::Postgres(postgres) => postgres.end(direction, sink),
                App::Tls(tls) => tls.finish(direction, &mut buffers[direction], sink),
                App::Raw(raw) => raw.flush(direction, sink),
                App::Unknown | App::Dns(_) | App::Http2(_) => {}
            }
        }
    }
}

/// Lets the decoder read what there is; a protocol that changes on the way (TLS after PostgreSQL's request for it)
/// reads both directions' rest.
fn advance(app: &mut App, direction: Direction, buffers: &mut [Buffer; 2], sink: &mut Sink<'_>) {
    for direction in [direction, direction ^ 1, direction, direction] {
        let buffer = &mut buffers[direction];
        if matches!(app, App::Unknown) {
            let Some(known) = recognise(direction, buffer.data(), &sink.conversation) else {
                continue;
            };
            *app = known;
        }
        let next = match app {
            App::Unknown => continue,
            App::Http(http) => match http.advance(direction, buffer, sink) {
                http::Progress::Wait => return,
                http::Progress::NotMine => App::Raw(Box::default()),
                http::Progress::Tunnel => App::Unknown,
            },
            App::Http2(http) => match http.advance(direction, buffer, sink) {
                true => return,
                false => App::Raw(Box::default()),
            },
            App::Postgres(postgres) => match postgres.advance(direction, buffer, sink) {
                postgres::Progress::Wait => return,
                postgres::Progress::Tls => App::Tls(Box::default()),
                postgres::Progress::NotMine => App::Raw(Box::default()),
            },
            App::Tls(tls) => return tls.advance(direction, buffer, sink),
            App::Dns(dns) => match dns.advance(direction, buffer, sink) {
                true => return,
                false => App::Raw(Box::default()),
            },
            App::Raw(raw) => {
                if !buffer.is_empty() {
                    raw.flush(direction ^ 1, sink);
                    raw.rest(direction, buffer, sink);
                }
                continue;
            }
        };
        *app = next;
    }
}

/// The protocol that bytes begin; `None` where more are needed to tell.
fn recognise(direction: Direction, bytes: &[u8], conversation: &Conversation) -> Option<App> {
    if bytes.is_empty() {
        return None;
    }
    let port = |port: u16| conversation.ends.iter().any(|end| end.port() == port);
    if conversation.ends.iter().any(|end| dns::is_port(end.port())) {
        return Some(App::Dns(Box::default()));
    }
    let mut open = false;
    match http::begins(bytes) {
        Some(Some(_)) => return Some(App::Http(Box::default())),
        Some(None) => {}
        None => open = true,
    }
    match http2::begins(bytes) {
        Some(true) => return Some(App::Http2(Http2::new(direction))),
        Some(false) => {}
        None => open = true,
    }
    match tls::begins(bytes) {
        Some(true) => return Some(App::Tls(Box::default())),
        Some(false) => {}
        None => open = true,
    }
    match postgres::begins(bytes) {
        Some(true) => return Some(App::Postgres(Box::new(Postgres::new(Some(direction), false)))),
        Some(false) => {}
        None => open = true,
    }
    if port(postgres::PORT) {
        match postgres::continues(bytes) {
            Some(true) if !open => return Some(App::Postgres(Box::new(Postgres::new(None, true)))),
            Some(_) => {}
            None => open = true,
        }
    }
    if open {
        None
    } else {
        Some(App::Raw(Box::new(Raw {
            hopeful: conversation.midway,
            ..Raw::default()
        })))
    }
}
