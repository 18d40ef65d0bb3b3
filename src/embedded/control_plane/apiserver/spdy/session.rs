//! One connection's state: streams, windows, who has said what. Pure: bytes and calls in, events and bytes out.
//!
//! Flow control is asymmetric on purpose. `moby/spdystream` never sends WINDOW_UPDATE and heeds none, so a server that
//! kept to its windows would stop after 64 KiB. Windows therefore bind this side from the moment on at which the peer
//! shows that it has them, by WINDOW_UPDATE or a setting; and a peer that overruns ours is slowed by not reading on.
//!
//! Source: SPDY draft 3.1, 2.3 "Streams", 2.4 "Error handling", 2.6.8 "WINDOW_UPDATE".

use std::collections::HashMap;

use bytes::Bytes;

use super::{
    frame::{Decoder, Encoder, Frame, FrameError, MAX_DATA},
    headers::Headers,
};

/// Most streams at once; kubectl has two for every connection it forwards.
pub const MAX_STREAMS: usize = 512;
/// A stream's, and the session's, first window in each direction, bytes.
const WINDOW: i64 = 64 << 10;
const MAX_WINDOW: i64 = 0x7fff_ffff;
/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const INITIAL_WINDOW_SIZE: u32 = 7;

/// Why a stream is reset (2.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    ProtocolError = 1,
    InvalidStream = 2,
    RefusedStream = 3,
    Cancel = 5,
    FlowControlError = 7,
    StreamAlreadyClosed = 9,
}

/// What a client's bytes came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It opened a stream, which is to be accepted or reset.
    Opened { stream: u32, headers: Headers },
    /// It sent data, of which [`Session::consumed`] wants to hear when it has gone on.
    Data { stream: u32, bytes: Bytes },
    /// It has sent all it will send on the stream.
    Ended { stream: u32 },
    /// The stream is gone, both ways: by the client, or by its breach of the protocol.
    Reset { stream: u32 },
    /// More may be sent.
    Window,
    /// It opens no more streams.
    GoAway,
}

/// Why a session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The bytes are no frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frames break the protocol.
    #[error("{0}")]
    Protocol(&'static str),
}

struct Stream {
    /// What may be sent; below zero after a setting made it smaller.
    window: i64,
    /// Consumed, and not yet given back to the peer's window.
    owed: u32,
    /// Whether this side may send.
    open: bool,
    /// Whether the peer may send.
    peer_open: bool,
}

/// A server's side of a connection.
pub struct Session {
    decoder: Decoder,
    encoder: Encoder,
    output: Vec<u8>,
    streams: HashMap<u32, Stream>,
    /// The highest stream that the client opened.
    last: u32,
    /// Whether the peer keeps windows.
    windows: bool,
    initial_window: i64,
    window: i64,
    owed: u32,
    pings: u32,
    going_away: bool,
}

impl Session {
    /// Before the first byte.
    pub fn new() -> Self {
        Self {
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            output: Vec::new(),
            streams: HashMap::new(),
            last: 0,
            windows: false,
            initial_window: WINDOW,
            window: WINDOW,
            owed: 0,
            pings: 0,
            going_away: false,
        }
    }

    /// Takes a client's bytes.
    ///
    /// # Errors
    /// When the connection must end; the GOAWAY that says so is in the output.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Event>, SessionError> {
        self.decoder.feed(bytes);
        let mut events = Vec::new();
        loop {
            let taken = match self.decoder.next() {
                Ok(None) => return Ok(events),
                Ok(Some(frame)) => self.take(frame, &mut events),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = taken {
                const PROTOCOL_ERROR: u32 = 1;
                self.say_goodbye(PROTOCOL_ERROR);
                return Err(error);
            }
        }
    }

    fn take(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<(), SessionError> {
        match frame {
            Frame::SynStream {
                stream,
                fin,
                unidirectional,
                headers,
                ..
            } => return self.opened(stream, fin, unidirectional, headers, events),
            Frame::Data { stream, fin, bytes } => self.data(stream, fin, bytes, events),
            Frame::Headers { stream, fin, .. } => {
                if fin {
                    self.data(stream, true, Bytes::new(), events);
                }
            }
            // This side opens no streams that could be replied to.
            Frame::SynReply { stream, .. } => self.write(&Frame::RstStream {
                stream,
                status: Reset::InvalidStream as u32,
            }),
            Frame::RstStream { stream, .. } => {
                if self.streams.remove(&stream).is_some() {
                    events.push(Event::Reset { stream });
                }
            }
            Frame::Settings(entries) => return self.settings(&entries, events),
            Frame::Ping(question) => {
                // Even ones are answers to this side's.
                if question % 2 == 1 {
                    self.write(&Frame::Ping(question));
                }
            }
            Frame::GoAway { .. } => events.push(Event::GoAway),
            Frame::WindowUpdate { stream, delta } => self.window_update(stream, delta, events),
        }
        Ok(())
    }

    fn opened(
        &mut self,
        stream: u32,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
        events: &mut Vec<Event>,
    ) -> Result<(), SessionError> {
        if stream.is_multiple_of(2) || stream <= self.last {
            return Err(SessionError::Protocol(
                "SYN_STREAM with an id that is not the client's next",
            ));
        }
        self.last = stream;
        if self.going_away {
            return Ok(());
        }
        if self.streams.len() >= MAX_STREAMS {
            let status = Reset::RefusedStream as u32;
            self.write(&Frame::RstStream { stream, status });
            return Ok(());
        }
        let state = Stream {
            window: self.initial_window,
            owed: 0,
            open: !unidirectional,
            peer_open: !fin,
        };
        self.streams.insert(stream, state);
        events.push(Event::Opened { stream, headers });
        if fin {
            events.push(Event::Ended { stream });
            self.forget_closed(stream);
        }
        Ok(())
    }

    fn data(&mut self, stream: u32, fin: bool, bytes: Bytes, events: &mut Vec<Event>) {
        let Some(state) = self.streams.get_mut(&stream) else {
            // What crossed a reset or an end is let go; a stream that never was is not.
            if stream > self.last || stream.is_multiple_of(2) {
                let status = Reset::InvalidStream as u32;
                self.write(&Frame::RstStream { stream, status });
            }
            self.owe_session(bytes.len());
            return;
        };
        if !state.peer_open {
            self.owe_session(bytes.len());
            self.reset(stream, Reset::StreamAlreadyClosed);
            events.push(Event::Reset { stream });
            return;
        }
        state.peer_open = !fin;
        if !bytes.is_empty() {
            events.push(Event::Data { stream, bytes });
        }
        if fin {
            events.push(Event::Ended { stream });
            self.forget_closed(stream);
        }
    }

    fn settings(&mut self, entries: &[(u32, u32)], events: &mut Vec<Event>) -> Result<(), SessionError> {
        for (id, value) in entries {
            if *id != INITIAL_WINDOW_SIZE {
                continue;
            }
            let value = i64::from(*value);
            if value > MAX_WINDOW {
                return Err(SessionError::Protocol("SETTINGS_INITIAL_WINDOW_SIZE is too large"));
            }
            self.windows = true;
            let change = value - self.initial_window;
            self.initial_window = value;
            for state in self.streams.values_mut() {
                state.window += change;
            }
            events.push(Event::Window);
        }
        Ok(())
    }

    fn window_update(&mut self, stream: u32, delta: u32, events: &mut Vec<Event>) {
        self.windows = true;
        if stream == 0 {
            self.window = self.window.saturating_add(i64::from(delta)).min(MAX_WINDOW);
            events.push(Event::Window);
            return;
        }
        let Some(state) = self.streams.get_mut(&stream) else {
            return;
        };
        state.window += i64::from(delta);
        let breach = match delta {
            0 => Reset::ProtocolError,
            _ if state.window > MAX_WINDOW => Reset::FlowControlError,
            _ => {
                events.push(Event::Window);
                return;
            }
        };
        self.reset(stream, breach);
        events.push(Event::Reset { stream });
    }

    fn write(&mut self, frame: &Frame) {
        self.encoder.write(frame, &mut self.output);
    }

    fn forget_closed(&mut self, stream: u32) {
        if self
            .streams
            .get(&stream)
            .is_some_and(|state| !state.open && !state.peer_open)
        {
            self.streams.remove(&stream);
        }
    }

    /// Accepts a stream that was opened.
    pub fn accept(&mut self, stream: u32) {
        if self.streams.contains_key(&stream) {
            let headers = Headers::new();
            self.write(&Frame::SynReply {
                stream,
                fin: false,
                headers,
            });
        }
    }

    /// Sends as much of `bytes` as may be sent now, and says how much; `None` on a stream that takes no more.
    pub fn send(&mut self, stream: u32, bytes: &[u8]) -> Option<usize> {
        let state = self.streams.get_mut(&stream).filter(|state| state.open)?;
        let mut room = MAX_DATA;
        if self.windows {
            let window = state.window.min(self.window).max(0);
            room = room.min(usize::try_from(window).unwrap_or(usize::MAX));
        }
        let part = bytes.get(..room).unwrap_or(bytes);
        if part.is_empty() {
            return Some(0);
        }
        let size = i64::try_from(part.len()).unwrap_or(i64::MAX);
        state.window -= size;
        self.window -= size;
        let bytes = Bytes::copy_from_slice(part);
        let fin = false;
        self.write(&Frame::Data { stream, fin, bytes });
        Some(part.len())
    }

    /// Says that this side sends no more on a stream.
    pub fn finish(&mut self, stream: u32) {
        let Some(state) = self.streams.get_mut(&stream).filter(|state| state.open) else {
            return;
        };
        state.open = false;
        let (fin, bytes) = (true, Bytes::new());
        self.write(&Frame::Data { stream, fin, bytes });
        self.forget_closed(stream);
    }

    /// Ends a stream at once, in both directions.
    pub fn reset(&mut self, stream: u32, why: Reset) {
        if self.streams.remove(&stream).is_some() {
            let status = why as u32;
            self.write(&Frame::RstStream { stream, status });
        }
    }

    /// Whether a stream is open in some direction.
    pub fn has(&self, stream: u32) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Gives bytes that have gone on back to the client's windows.
    pub fn consumed(&mut self, stream: u32, bytes: usize) {
        self.owe_session(bytes);
        let Some(state) = self.streams.get_mut(&stream).filter(|state| state.peer_open) else {
            return;
        };
        state.owed = state.owed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if i64::from(state.owed) >= WINDOW / 2 {
            let delta = std::mem::take(&mut state.owed);
            self.write(&Frame::WindowUpdate { stream, delta });
        }
    }

    fn owe_session(&mut self, bytes: usize) {
        self.owed = self.owed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if i64::from(self.owed) >= WINDOW / 2 {
            let delta = std::mem::take(&mut self.owed);
            self.write(&Frame::WindowUpdate { stream: 0, delta });
        }
    }

    /// Asks the client for a sign of life.
    pub fn ping(&mut self) {
        self.pings = (self.pings + 2) & 0x7fff_fffe;
        self.write(&Frame::Ping(self.pings));
    }

    /// Says that no more streams are taken; those that are open go on.
    pub fn go_away(&mut self) {
        const OK: u32 = 0;
        self.say_goodbye(OK);
    }

    fn say_goodbye(&mut self, status: u32) {
        if !self.going_away {
            self.going_away = true;
            let last = self.last;
            self.write(&Frame::GoAway { last, status });
        }
    }

    /// How many bytes wait to be written.
    pub fn pending(&self) -> usize {
        self.output.len()
    }

    /// What is to be written to the client.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control_plane::apiserver::spdy::frame::tests::frame;

    /// A client of the session: encodes frames, decodes answers.
    struct Client {
        session: Session,
        encoder: Encoder,
        decoder: Decoder,
    }

    impl Client {
        fn new() -> Self {
            Self {
                session: Session::new(),
                encoder: Encoder::new(),
                decoder: Decoder::new(),
            }
        }

        fn says(&mut self, frame: &Frame) -> Result<Vec<Event>, SessionError> {
            let mut bytes = Vec::new();
            self.encoder.write(frame, &mut bytes);
            self.session.receive(&bytes)
        }

        fn opens(&mut self, stream: u32) {
            let opened = self.says(&syn(stream)).unwrap();
            assert!(matches!(opened[..], [Event::Opened { .. }]), "{opened:?}");
            self.session.accept(stream);
            assert!(matches!(self.hears()[..], [Frame::SynReply { .. }]));
        }

        fn hears(&mut self) -> Vec<Frame> {
            self.decoder.feed(&self.session.take_output());
            std::iter::from_fn(|| self.decoder.next().unwrap()).collect()
        }
    }

    fn syn(stream: u32) -> Frame {
        Frame::SynStream {
            stream,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers: vec![("streamtype".to_owned(), "data".to_owned())],
        }
    }

    fn data(stream: u32, bytes: &'static [u8], fin: bool) -> Frame {
        let bytes = Bytes::from_static(bytes);
        Frame::Data { stream, fin, bytes }
    }

    #[test]
    fn a_stream_ends_one_direction_at_a_time() {
        let mut client = Client::new();
        client.opens(1);
        let bytes = Bytes::from_static(b"hi");
        assert_eq!(
            client.says(&data(1, b"hi", true)).unwrap(),
            [Event::Data { stream: 1, bytes }, Event::Ended { stream: 1 }]
        );
        assert_eq!(client.session.send(1, b"answer"), Some(6));
        client.session.finish(1);
        assert_eq!(client.hears(), [data(1, b"answer", false), data(1, b"", true)]);
        assert_eq!(client.session.send(1, b"more"), None);
        // closed both ways: nothing is kept, and what still comes is let go
        assert!(client.session.streams.is_empty());
        assert_eq!(client.says(&data(1, b"late", false)).unwrap(), []);
        assert_eq!(client.hears(), []);
    }

    #[test]
    fn breaches_of_a_stream_reset_it_alone() {
        for (frame, status) in [
            (data(3, b"x", false), Reset::InvalidStream),
            (data(2, b"x", false), Reset::InvalidStream),
            (
                Frame::SynReply {
                    stream: 2,
                    fin: false,
                    headers: Headers::new(),
                },
                Reset::InvalidStream,
            ),
            (Frame::WindowUpdate { stream: 1, delta: 0 }, Reset::ProtocolError),
            (
                Frame::WindowUpdate {
                    stream: 1,
                    delta: 0x7fff_ffff,
                },
                Reset::FlowControlError,
            ),
        ] {
            let mut client = Client::new();
            client.opens(1);
            client.says(&frame).unwrap();
            let heard = client.hears();
            assert!(
                matches!(heard[..], [Frame::RstStream { status: said, .. }] if said == status as u32),
                "{frame:?}: {heard:?}"
            );
        }
        let mut client = Client::new();
        client.opens(1);
        client.says(&data(1, b"", true)).unwrap();
        assert_eq!(
            client.says(&data(1, b"x", false)).unwrap(),
            [Event::Reset { stream: 1 }]
        );
        assert!(client.session.streams.is_empty());
    }

    #[test]
    fn breaches_of_the_session_end_it_with_a_goaway() {
        for frame in [syn(1), syn(4), Frame::Settings(vec![(7, u32::MAX)])] {
            let mut client = Client::new();
            client.opens(3);
            assert!(client.says(&frame).is_err(), "{frame:?}");
            assert_eq!(client.hears(), [Frame::GoAway { last: 3, status: 1 }]);
        }
        let mut session = Session::new();
        assert!(
            session
                .receive(b"GET / HTTP/1.1\r\n\r\n GET / HTTP/1.1\r\n\r\n")
                .is_ok(),
            "a data frame, by its bits"
        );
        assert!(Session::new().receive(&[0x80, 2, 0, 1, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn streams_are_bounded() {
        let mut client = Client::new();
        for n in 0..MAX_STREAMS {
            client.opens(u32::try_from(2 * n + 1).unwrap());
        }
        assert_eq!(client.says(&syn(5001)).unwrap(), []);
        let refused = Frame::RstStream {
            stream: 5001,
            status: Reset::RefusedStream as u32,
        };
        assert_eq!(client.hears(), [refused]);
        client.says(&Frame::RstStream { stream: 1, status: 5 }).unwrap();
        client.opens(5003);
    }

    #[test]
    fn windows_bind_from_when_the_peer_shows_that_it_has_them() {
        let mut client = Client::new();
        client.opens(1);
        let large = vec![0; 30_000];
        for _ in 0..4 {
            assert_eq!(
                client.session.send(1, &large),
                Some(30_000),
                "spdystream has no windows"
            );
        }
        // 120 000 sent of 65 536: the peer must give 54 464 before any more.
        client
            .says(&Frame::WindowUpdate {
                stream: 1,
                delta: 60_000,
            })
            .unwrap();
        assert_eq!(client.session.send(1, &large), Some(0), "the session's window");
        client
            .says(&Frame::WindowUpdate {
                stream: 0,
                delta: 1_000_000,
            })
            .unwrap();
        assert_eq!(client.session.send(1, &large), Some(5536));
        assert_eq!(client.session.send(1, &large), Some(0));
        client.says(&Frame::Settings(vec![(7, 65_546)])).unwrap();
        assert_eq!(client.session.send(1, &large), Some(10));
        client.says(&Frame::Settings(vec![(7, 0)])).unwrap();
        assert_eq!(client.session.send(1, &large), Some(0));
        client.hears();
        client.opens(3);
        assert_eq!(client.session.send(3, &large), Some(0));
    }

    #[test]
    fn what_was_consumed_is_given_back() {
        let mut client = Client::new();
        client.opens(1);
        client.session.consumed(1, 30_000);
        assert_eq!(client.hears(), []);
        client.session.consumed(1, 30_000);
        let given = |stream| Frame::WindowUpdate { stream, delta: 60_000 };
        assert_eq!(client.hears(), [given(0), given(1)]);
    }

    #[test]
    fn pings_are_answered_and_asked() {
        let mut client = Client::new();
        client.says(&Frame::Ping(7)).unwrap();
        client.session.ping();
        client.says(&Frame::Ping(2)).unwrap();
        assert_eq!(client.hears(), [Frame::Ping(7), Frame::Ping(2)]);
        client.session.go_away();
        client.session.go_away();
        assert_eq!(client.hears(), [Frame::GoAway { last: 0, status: 0 }]);
        assert_eq!(client.says(&syn(1)).unwrap(), [], "no more streams");
    }

    /// Runs a session over `bytes`, in pieces, answering as a server does.
    fn run(bytes: &[u8], piece: usize) -> (Vec<Event>, Option<SessionError>) {
        let mut session = Session::new();
        let mut seen = Vec::new();
        for piece in bytes.chunks(piece) {
            match session.receive(piece) {
                Ok(events) => seen.extend(events),
                Err(error) => return (seen, Some(error)),
            }
            assert!(session.streams.len() <= MAX_STREAMS);
        }
        (seen, None)
    }

    /// Data that was cut differently is the same data.
    fn joined(events: Vec<Event>) -> Vec<Event> {
        let mut joined: Vec<Event> = Vec::new();
        for event in events {
            match (joined.last_mut(), event) {
                (
                    Some(Event::Data { stream, bytes }),
                    Event::Data {
                        stream: next,
                        bytes: more,
                    },
                ) if *stream == next => {
                    *bytes = [&bytes[..], &more[..]].concat().into();
                }
                (_, event) => joined.push(event),
            }
        }
        joined
    }

    proptest! {
        #[test]
        fn frames_in_any_order_with_any_byte_changed_never_panic(
            frames in prop::collection::vec(frame(), 0..12),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            piece in 1_usize..200,
        ) {
            let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
            for frame in &frames {
                encoder.write(frame, &mut bytes);
            }
            for (at, value) in flips {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
            }
            // However the bytes are cut, they come to the same.
            let (whole, error) = run(&bytes, usize::MAX);
            let (cut, cut_error) = run(&bytes, piece);
            prop_assert_eq!(&error, &cut_error);
            if error.is_none() {
                prop_assert_eq!(joined(whole), joined(cut));
            }
            crate::control_plane::apiserver::spdy::fuzz(&bytes, piece);
        }
    }
}
