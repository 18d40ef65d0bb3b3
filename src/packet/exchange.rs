//! What goes between two UDP ports.

use super::{
    Detail, Protocol, Role, Transport,
    buffer::Collected,
    conversation::{Flow, Seen},
    dns::{self, Dns},
    flow::Context,
    layers::Quote,
    raw::raw_message,
    segment::{Datagram, Source},
    sink::{Conversation, Direction, Draft, Sink},
};

/// The datagrams between two UDP ports.
#[derive(Debug)]
pub(super) struct Exchange {
    conversation: Conversation,
    dns: Dns,
    pub last_ns: u64,
    seen: Seen,
}

impl Exchange {
    pub(super) fn new(id: u64, datagram: &Datagram<'_>) -> Self {
        Self {
            conversation: Conversation {
                id,
                ends: [datagram.src, datagram.dst],
                transport: Transport::Udp,
                ifindex: datagram.ifindex,
                midway: false,
            },
            dns: Dns::default(),
            last_ns: 0,
            seen: Seen::new(datagram.source.ts_ns),
        }
    }

    /// What is known of it, and how it is judged.
    pub(super) fn flow(&self) -> Flow {
        Flow::of(&self.conversation, None, self.seen.clone())
    }

    pub(super) fn seen_mut(&mut self) -> &mut Seen {
        &mut self.seen
    }

    pub(super) fn held(&self) -> usize {
        self.dns.held() + self.seen.held()
    }

    pub(super) fn datagram(&mut self, datagram: &Datagram<'_>, context: &mut Context<'_>) {
        self.last_ns = datagram.source.ts_ns;
        let direction = usize::from(datagram.src != self.conversation.ends[0]);
        let before = context.out.len();
        self.seen.packet(direction, datagram.len, self.last_ns);
        self.take(datagram, direction, context);
        self.seen.messages(&context.out[before..]);
    }

    fn take(&mut self, datagram: &Datagram<'_>, direction: Direction, context: &mut Context<'_>) {
        let mut bytes = Collected::default();
        for (mark, part) in datagram.source.split(0, datagram.data) {
            bytes.push(part, usize::MAX, mark);
        }
        bytes.span.add(datagram.source.frame, datagram.source.ts_ns);
        bytes.missing = (datagram.len - datagram.data.len()) as u64;
        let mut sink = Sink {
            out: context.out,
            seq: context.seq,
            limits: context.limits,
            conversation: self.conversation,
        };
        let dns = self.conversation.ends.iter().any(|end| dns::is_port(end.port()));
        if dns && self.dns.message(direction, &bytes, 0, &mut sink) {
            return;
        }
        sink.emit(raw_message(direction, Protocol::Udp, &bytes, context.limits));
    }

    /// The network reported that a datagram did not arrive.
    pub(super) fn undelivered(&mut self, quote: &Quote, why: &str, source: Source<'_>, context: &mut Context<'_>) {
        let direction = usize::from(quote.src != self.conversation.ends[0]);
        let mut sink = Sink {
            out: context.out,
            seq: context.seq,
            limits: context.limits,
            conversation: self.conversation,
        };
        let mut draft = Draft::new(direction, Protocol::Udp, Role::Event, context.limits);
        draft.span.add(source.frame, source.ts_ns);
        draft.summary = format!("was told by the network: {why}");
        draft.text.say(&draft.summary);
        draft.detail = Detail::Connection {
            event: "unreachable".to_owned(),
        };
        sink.emit(draft);
        self.seen.news = true;
    }
}
