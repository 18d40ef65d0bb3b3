//! Where decoders put their messages.

use std::net::SocketAddr;

use super::{
    Detail, Leak, Limits, Message, Peer, Protocol, Role, Transport,
    buffer::{Collected, Span},
    jwt,
    leak::{self, Found},
    text::Text,
};

/// The two directions of a conversation: 0 is that of the first packet seen.
pub(super) type Direction = usize;

/// What a conversation is, for its messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conversation {
    pub id: u64,
    /// `ends[d]` is the sender of direction `d`.
    pub ends: [SocketAddr; 2],
    pub transport: Transport,
    pub ifindex: Option<u32>,
    /// Whether its opening was not seen.
    pub midway: bool,
}

/// What a decoder knows of a message; the sink adds the rest.
#[derive(Debug)]
pub(super) struct Draft {
    pub direction: Direction,
    pub protocol: Protocol,
    pub role: Role,
    pub in_reply_to: Option<u64>,
    pub summary: String,
    pub text: Text,
    pub found: Vec<Found>,
    pub detail: Detail,
    pub probe: Option<String>,
    pub incomplete: bool,
    pub span: Span,
}

impl Draft {
    pub(super) fn new(direction: Direction, protocol: Protocol, role: Role, limits: &Limits) -> Self {
        Self {
            direction,
            protocol,
            role,
            in_reply_to: None,
            summary: String::new(),
            text: Text::new(limits.text_bytes),
            found: Vec::new(),
            detail: Detail::Other,
            probe: None,
            incomplete: false,
            span: Span::default(),
        }
    }

    /// Appends captured bytes to the text and notes where they come from.
    pub(super) fn show(&mut self, bytes: &Collected) -> std::ops::Range<usize> {
        self.note(bytes);
        self.text.bytes(bytes, 0..bytes.bytes.len())
    }

    /// Notes where bytes come from, without showing them.
    pub(super) fn note(&mut self, bytes: &Collected) {
        self.span.merge(&bytes.span);
        self.incomplete |= bytes.missing > 0;
    }
}

/// Numbers messages and hands them out.
pub(super) struct Sink<'a> {
    pub out: &'a mut Vec<Message>,
    pub seq: &'a mut u64,
    pub limits: &'a Limits,
    pub conversation: Conversation,
}

impl Sink<'_> {
    /// Completes a message; gives its number.
    pub(super) fn emit(&mut self, mut draft: Draft) -> u64 {
        *self.seq += 1;
        let seq = *self.seq;
        // What TLS and DNS messages say is written by their decoders.
        if !matches!(draft.protocol, Protocol::Tls | Protocol::Dns) {
            leak::card_numbers(draft.text.as_str(), 0..draft.text.len(), &mut draft.found);
            leak::secrets(draft.text.as_str(), &mut draft.found);
        }
        let (from, to) = (draft.direction & 1, (draft.direction & 1) ^ 1);
        let (from, to) = (
            Peer::unnamed(self.conversation.ends[from]),
            Peer::unnamed(self.conversation.ends[to]),
        );
        draft.found.sort_by_key(|found| found.range.start);
        let first_frame = draft.span.frames.first().copied().unwrap_or_default();
        let mut leaks: Vec<Leak> = draft
            .found
            .into_iter()
            .take(self.limits.leaks)
            .map(|found| Leak {
                kind: found.kind,
                token: jwt::within(&found.value).map(|jwt| jwt.line()),
                value: found.value,
                account: found.account,
                start: found.range.start,
                end: found.range.end,
                frame: 0,
                places: draft.text.places(found.range),
                from: from.clone(),
                to: to.clone(),
            })
            .collect();
        for leak in &mut leaks {
            leak.frame = leak.places.first().map_or(first_frame, |place| place.frame);
        }
        let (text, truncated) = draft.text.into_string();
        leaks.retain(|leak| leak.end <= text.len());
        let mut frames = draft.span.frames;
        frames.truncate(self.limits.frames);
        // A frame seldom completes more than one, and a message is large.
        if self.out.is_empty() {
            self.out.reserve_exact(1);
        }
        self.out.push(Message {
            seq,
            ts_ns: draft.span.first_ns,
            end_ts_ns: draft.span.last_ns,
            flow: self.conversation.id,
            from,
            to,
            transport: self.conversation.transport,
            protocol: draft.protocol,
            role: draft.role,
            in_reply_to: draft.in_reply_to,
            summary: draft.summary,
            text,
            truncated,
            incomplete: draft.incomplete,
            detail: draft.detail,
            probe: draft.probe,
            frames,
            leaks,
            ifindex: self.conversation.ifindex,
            point: None,
            also: Vec::new(),
        });
        seq
    }
}
