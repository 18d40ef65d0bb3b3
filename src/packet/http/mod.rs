//! HTTP/1.0 and HTTP/1.1 (RFC 9112): requests and responses, with keep-alive, pipelining and chunked bodies.

mod head;
mod inflate;
mod show;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use head::{Field, Find, HEAD_BYTES, Head, Start, at, find_head, parse_chunk_size, parse_length};
use show::{show_body, show_head, show_tokens, show_trailers, size_note};

use super::{
    Detail, Protocol, Role,
    buffer::{Buffer, Collected, Mark},
    sink::{Direction, Draft, Sink},
    text::{one_line, one_long_line},
};

/// Bytes a chunk-size or trailer line may have.
const LINE_BYTES: usize = 8 << 10;
/// Requests that may wait for their responses.
const PIPELINE: usize = 1024;

const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"PATCH ",
    b"OPTIONS ",
    b"CONNECT ",
    b"TRACE ",
];
const VERSION: &[u8] = b"HTTP/1.";

/// Whether bytes begin an HTTP message: the role it would have; `None` where more bytes are needed to tell.
pub(super) fn begins(bytes: &[u8]) -> Option<Option<Role>> {
    let mut open = false;
    for (signature, role) in METHODS
        .iter()
        .map(|method| (*method, Role::Request))
        .chain([(VERSION, Role::Response)])
    {
        if bytes.starts_with(signature) {
            return Some(Some(role));
        }
        open |= signature.starts_with(bytes);
    }
    if open { None } else { Some(None) }
}

/// What the decoder says after looking at what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It needs more bytes.
    Wait,
    /// These bytes are no HTTP.
    NotMine,
    /// HTTP has ended here (`CONNECT`, `Upgrade`): whatever follows is something else.
    Tunnel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// A body of known length: bytes left.
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    UntilClose,
    /// Bytes were lost where it matters: looking for the start of a message.
    Lost,
    Tunnel,
}

#[derive(Debug)]
struct Half {
    state: State,
    /// Bytes of the buffer already searched for the end of a line or head.
    searched: usize,
    head: Collected,
    /// What `head` says.
    parsed: Option<Head>,
    body: Collected,
    /// Header fields behind a chunked body.
    trailer: Collected,
}

impl Default for Half {
    fn default() -> Self {
        Self {
            state: State::Head,
            searched: 0,
            head: Collected::default(),
            parsed: None,
            body: Collected::default(),
            trailer: Collected::default(),
        }
    }
}

impl Half {
    fn held(&self) -> usize {
        let fields = self.parsed.as_ref().map_or(0, |head| head.fields.capacity());
        self.head.held() + self.body.held() + self.trailer.held() + fields * size_of::<Field>()
    }
}

#[derive(Debug)]
struct Asked {
    /// Ordinal of the request on its connection.
    ordinal: u64,
    seq: Option<u64>,
    head_method: bool,
    connect: bool,
    probe: Option<String>,
}

/// A connection that speaks HTTP.
#[derive(Debug, Default)]
pub(super) struct Http {
    halves: [Half; 2],
    asked: VecDeque<Asked>,
    requests: u64,
    /// Response under way: the request it answers.
    answering: Option<Asked>,
}

impl Http {
    pub(super) fn held(&self) -> usize {
        self.halves.iter().map(Half::held).sum::<usize>() + self.asked.len() * 256
    }

    /// Reads as far as the bytes go.
    pub(super) fn advance(&mut self, direction: Direction, buffer: &mut Buffer, sink: &mut Sink<'_>) -> Progress {
        let keep = sink.limits.text_bytes;
        loop {
            let half = &mut self.halves[direction];
            match half.state {
                State::Tunnel => return Progress::Tunnel,
                State::Lost => match begins(buffer.data()) {
                    Some(Some(_)) => half.state = State::Head,
                    None if !buffer.is_empty() => return Progress::Wait,
                    _ => {
                        buffer.skip(buffer.len());
                        return Progress::Wait;
                    }
                },
                State::Head => match self.read_head(direction, buffer) {
                    Step::More => return Progress::Wait,
                    Step::Done => self.complete_if_empty(direction, sink),
                    Step::Broken => return Progress::NotMine,
                },
                State::Length(left) => {
                    let before = buffer.len();
                    buffer.take(usize::try_from(left).unwrap_or(usize::MAX), keep, &mut half.body);
                    let left = left - (before - buffer.len()) as u64;
                    half.state = State::Length(left);
                    if left > 0 {
                        return Progress::Wait;
                    }
                    self.complete(direction, true, sink);
                }
                State::ChunkData(left) => {
                    let before = buffer.len();
                    buffer.take(usize::try_from(left).unwrap_or(usize::MAX), keep, &mut half.body);
                    let left = left - (before - buffer.len()) as u64;
                    half.state = if left > 0 {
                        State::ChunkData(left)
                    } else {
                        State::ChunkEnd
                    };
                    if left > 0 {
                        return Progress::Wait;
                    }
                }
                State::ChunkSize | State::ChunkEnd | State::Trailer => match read_line(half, buffer) {
                    Line::More => return Progress::Wait,
                    Line::TooLong => self.lose(direction, sink),
                    Line::Is(line) => self.chunk_line(direction, &line, sink),
                },
                State::UntilClose => {
                    buffer.take_all(keep, &mut half.body);
                    return Progress::Wait;
                }
            }
        }
    }

    /// Takes whole heads, and what there is of bodies, from bytes that nothing waits before: they need not be gathered first.
    /// Gives how many it took.
    pub(super) fn direct(&mut self, direction: Direction, bytes: &[u8], mark: Mark, sink: &mut Sink<'_>) -> usize {
        let mut taken = 0;
        loop {
            let (rest, mark) = (&bytes[taken..], mark.ahead(taken));
            let count = match self.halves[direction].state {
                State::Head => self.direct_head(direction, rest, mark, sink),
                State::Length(left) | State::ChunkData(left) => self.direct_body(direction, left, rest, mark, sink),
                State::UntilClose => self.direct_body(direction, u64::MAX, rest, mark, sink),
                _ => 0,
            };
            taken += count;
            if count == 0 || taken == bytes.len() {
                return taken;
            }
        }
    }

    /// Whether HTTP has ended here.
    pub(super) fn tunnels(&self, direction: Direction) -> bool {
        self.halves[direction].state == State::Tunnel
    }

    fn direct_head(&mut self, direction: Direction, bytes: &[u8], mark: Mark, sink: &mut Sink<'_>) -> usize {
        let Find::Whole(end, head) = find_head(bytes, &mut 0) else {
            return 0;
        };
        self.begin(direction).push(&bytes[..end], HEAD_BYTES, mark);
        self.begin_body(direction, head);
        self.complete_if_empty(direction, sink);
        end
    }

    fn direct_body(&mut self, direction: Direction, left: u64, bytes: &[u8], mark: Mark, sink: &mut Sink<'_>) -> usize {
        let half = &mut self.halves[direction];
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        half.body.push(&bytes[..count], sink.limits.text_bytes, mark);
        let left = left - count as u64;
        match half.state {
            State::Length(_) if left == 0 => self.complete(direction, true, sink),
            State::Length(_) => half.state = State::Length(left),
            State::ChunkData(_) if left == 0 => half.state = State::ChunkEnd,
            State::ChunkData(_) => half.state = State::ChunkData(left),
            _ => {}
        }
        count
    }

    /// Bytes of this direction were never seen.
    pub(super) fn gap(&mut self, direction: Direction, count: u64, buffer: &mut Buffer, sink: &mut Sink<'_>) {
        let half = &mut self.halves[direction];
        match half.state {
            State::Length(left) if count < left => {
                half.body.missing += count;
                half.state = State::Length(left - count);
            }
            State::Length(left) if count == left => {
                half.body.missing += count;
                half.state = State::Length(0);
                self.complete(direction, true, sink);
            }
            State::ChunkData(left) if count < left => {
                half.body.missing += count;
                half.state = State::ChunkData(left - count);
            }
            State::UntilClose => half.body.missing += count,
            State::Tunnel => {}
            _ => {
                let mut rest = Collected::default();
                buffer.take_all(sink.limits.text_bytes, &mut rest);
                self.lose(direction, sink);
            }
        }
    }

    /// This direction is over.
    pub(super) fn end(&mut self, direction: Direction, sink: &mut Sink<'_>) {
        if self.halves[direction].state == State::UntilClose {
            self.complete(direction, true, sink);
        } else {
            self.lose(direction, sink);
        }
    }

    /// Gives out what there is of a message that cannot be completed.
    fn lose(&mut self, direction: Direction, sink: &mut Sink<'_>) {
        let half = &mut self.halves[direction];
        if !half.head.bytes.is_empty() {
            self.complete(direction, false, sink);
        }
        let half = &mut self.halves[direction];
        half.searched = 0;
        if half.state != State::Tunnel {
            half.state = State::Lost;
        }
    }

    fn read_head(&mut self, direction: Direction, buffer: &mut Buffer) -> Step {
        let half = &mut self.halves[direction];
        // RFC 9112 §2.2: empty lines before a request line are ignored.
        let blank = buffer
            .data()
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        if blank > 0 {
            buffer.skip(blank);
            half.searched = 0;
        }
        match find_head(buffer.data(), &mut half.searched) {
            Find::More => Step::More,
            Find::Broken => Step::Broken,
            Find::Whole(end, head) => {
                buffer.take(end, HEAD_BYTES, self.begin(direction));
                self.begin_body(direction, head);
                Step::Done
            }
        }
    }

    /// A message of this direction begins; gives where its head goes.
    fn begin(&mut self, direction: Direction) -> &mut Collected {
        let half = &mut self.halves[direction];
        half.searched = 0;
        half.head = Collected::default();
        half.body = Collected::default();
        half.trailer = Collected::default();
        &mut half.head
    }

    /// How the body is framed, RFC 9112 §6.3.
    fn begin_body(&mut self, direction: Direction, head: Head) {
        let half = &mut self.halves[direction];
        let bytes = &half.head.bytes;
        let length = head
            .field(bytes, "content-length")
            .and_then(|value| parse_length(&value));
        let chunked = head.field(bytes, "transfer-encoding").is_some_and(|value| {
            value
                .to_ascii_lowercase()
                .split(',')
                .next_back()
                .is_some_and(|last| last.trim() == "chunked")
        });
        let state = match &head.start {
            Start::Request { method, .. } => {
                self.requests += 1;
                if self.asked.len() == PIPELINE {
                    self.asked.pop_front();
                }
                self.asked.push_back(Asked {
                    ordinal: self.requests,
                    seq: None,
                    head_method: at(bytes, method) == b"HEAD",
                    connect: at(bytes, method) == b"CONNECT",
                    probe: head.field(bytes, crate::PROBE_HEADER).map(|id| one_line(id.as_bytes())),
                });
                match (chunked, length) {
                    (true, _) => State::ChunkSize,
                    (false, length) => State::Length(length.unwrap_or(0)),
                }
            }
            Start::Response { status, .. } => {
                let interim = matches!(status, 100..=199) && *status != 101;
                self.answering = if interim { None } else { self.asked.pop_front() };
                let asked = self.answering.as_ref();
                let bodiless = asked.is_some_and(|asked| asked.head_method) || matches!(status, 100..=199 | 204 | 304);
                let tunnel = asked.is_some_and(|asked| asked.connect) && matches!(status, 200..=299);
                match (bodiless || tunnel, chunked, length) {
                    (true, ..) => State::Length(0),
                    (_, true, _) => State::ChunkSize,
                    (_, _, Some(length)) => State::Length(length),
                    _ => State::UntilClose,
                }
            }
        };
        if let State::Length(length) = state {
            half.body.expect(length);
        }
        half.state = state;
        half.parsed = Some(head);
    }

    fn complete_if_empty(&mut self, direction: Direction, sink: &mut Sink<'_>) {
        if self.halves[direction].state == State::Length(0) {
            self.complete(direction, true, sink);
        }
    }

    fn chunk_line(&mut self, direction: Direction, line: &[u8], sink: &mut Sink<'_>) {
        let half = &mut self.halves[direction];
        match half.state {
            State::ChunkEnd if line.is_empty() => half.state = State::ChunkSize,
            State::ChunkSize => match parse_chunk_size(line) {
                Some(0) => half.state = State::Trailer,
                Some(size) => half.state = State::ChunkData(size),
                None => self.lose(direction, sink),
            },
            State::Trailer if !line.is_empty() => {}
            State::Trailer => self.complete(direction, true, sink),
            _ => self.lose(direction, sink),
        }
    }

    /// Gives out the message of this direction, `whole` or as far as it came.
    fn complete(&mut self, direction: Direction, whole: bool, sink: &mut Sink<'_>) {
        let half = &mut self.halves[direction];
        let (mut head, body) = (std::mem::take(&mut half.head), std::mem::take(&mut half.body));
        let trailer = std::mem::take(&mut half.trailer);
        half.state = State::Head;
        half.searched = 0;
        let Some(parsed) = half.parsed.take() else { return };
        let mut draft = Draft::new(direction, Protocol::Http, Role::Request, sink.limits);
        draft.span = std::mem::take(&mut head.span);
        draft.text.expect(head.bytes.len() + body.bytes.len());
        show_head(&mut draft, &head, &parsed);
        show_body(&mut draft, &body, &head, &parsed);
        show_trailers(&mut draft, &trailer);
        show_tokens(&mut draft, &head, &parsed);
        if !whole {
            draft.incomplete = true;
            draft.text.line("[the rest of this message was not captured]");
        }
        let said = |name: &str| parsed.field(&head.bytes, name).map(|value| one_line(value.as_bytes()));
        match parsed.start {
            Start::Request { ref method, ref target } => {
                let (method, target) = (at(&head.bytes, method), at(&head.bytes, target));
                let line = [method, b" ", target, size_note(&body).as_bytes()].concat();
                draft.summary = one_line(&line);
                draft.probe = said(crate::PROBE_HEADER);
                draft.detail = Detail::HttpRequest {
                    method: one_line(method),
                    target: one_long_line(target),
                    host: said("host"),
                };
                let ordinal = self.requests;
                let seq = sink.emit(draft);
                if let Some(asked) = self.asked.iter_mut().find(|asked| asked.ordinal == ordinal) {
                    asked.seq = Some(seq);
                }
            }
            Start::Response { status, ref reason } => {
                let asked = self.answering.take();
                draft.role = Role::Response;
                draft.in_reply_to = asked.as_ref().and_then(|asked| asked.seq);
                draft.probe = asked.as_ref().and_then(|asked| asked.probe.clone());
                let reason = at(&head.bytes, reason);
                let line = [status.to_string().as_bytes(), b" ", reason, size_note(&body).as_bytes()].concat();
                draft.summary = one_line(&line);
                draft.detail = Detail::HttpResponse { status };
                let tunnel =
                    status == 101 || (asked.is_some_and(|asked| asked.connect) && (200..300).contains(&status));
                sink.emit(draft);
                if tunnel {
                    self.halves[0].state = State::Tunnel;
                    self.halves[1].state = State::Tunnel;
                }
            }
        }
    }
}

enum Step {
    More,
    Done,
    Broken,
}

enum Line {
    More,
    TooLong,
    Is(Vec<u8>),
}

/// Takes one line, which is framing and not part of what is shown.
fn read_line(half: &mut Half, buffer: &mut Buffer) -> Line {
    let data = buffer.data();
    let Some(end) = data[half.searched.min(data.len())..]
        .iter()
        .position(|byte| *byte == b'\n')
    else {
        half.searched = data.len();
        return if data.len() > LINE_BYTES {
            Line::TooLong
        } else {
            Line::More
        };
    };
    let end = half.searched + end;
    let line = data[..end].strip_suffix(b"\r").unwrap_or(&data[..end]).to_vec();
    half.searched = 0;
    // The frames of the framing belong to the message too.
    if half.state == State::Trailer {
        buffer.take(end + 1, LINE_BYTES, &mut half.trailer);
    } else {
        let mut framing = Collected::default();
        buffer.take(end + 1, 0, &mut framing);
        half.body.span.merge(&framing.span);
    }
    Line::Is(line)
}
