//! HTTP/2 in clear (RFC 9113): which frames go by, and what their data says.
//!
//! Header fields are compressed with a state that both ends keep from the first frame on (HPACK, RFC 7541); they are not decoded, and
//! gRPC's messages in the data are shown as the bytes they are. That it is HTTP/2, and readable, is told all the same.

use super::{
    Protocol, Role,
    buffer::{Buffer, Collected},
    sink::{Direction, Draft, Sink},
};

/// What a client begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
const HEADER: usize = 9;
/// Bytes a frame may have here. Without another agreement there are 16,384 at most (RFC 9113 §4.2).
const FRAME_BYTES: usize = 512 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
/// Names of the frames by their type (RFC 9113 §6).
const NAMES: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// Whether bytes begin a client's HTTP/2; `None` where more bytes are needed to tell.
pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    if bytes.len() >= PREFACE.len() {
        return Some(bytes.starts_with(PREFACE));
    }
    if PREFACE.starts_with(bytes) { None } else { Some(false) }
}

/// A connection that speaks HTTP/2.
#[derive(Debug)]
pub(super) struct Http2 {
    client: Direction,
    greeted: bool,
}

impl Http2 {
    pub(super) fn new(client: Direction) -> Self {
        Self { client, greeted: false }
    }

    /// Reads whole frames; `false` where these bytes are none.
    pub(super) fn advance(&mut self, direction: Direction, buffer: &mut Buffer, sink: &mut Sink<'_>) -> bool {
        if direction == self.client && !self.greeted {
            match begins(buffer.data()) {
                None => return true,
                Some(false) => return false,
                Some(true) => {
                    buffer.skip(PREFACE.len());
                    self.greeted = true;
                }
            }
        }
        loop {
            let Some(header) = buffer.data().first_chunk::<HEADER>().copied() else {
                return true;
            };
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            if length > FRAME_BYTES {
                return false;
            }
            if buffer.len() < HEADER + length {
                return true;
            }
            self.frame(direction, header, length, buffer, sink);
        }
    }

    fn frame(
        &self,
        direction: Direction,
        header: [u8; HEADER],
        length: usize,
        buffer: &mut Buffer,
        sink: &mut Sink<'_>,
    ) {
        let [_, _, _, kind, flags, a, b, c, d] = header;
        let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
        let mut whole = Collected::default();
        buffer.take(HEADER, 0, &mut whole);
        let mut left = length;
        let padding = match buffer.data().first() {
            Some(padding) if kind == DATA && flags & PADDED != 0 && left > 0 => {
                let padding = usize::from(*padding);
                buffer.take(1, 0, &mut whole);
                left -= 1;
                padding.min(left)
            }
            _ => 0,
        };
        let mut body = Collected::default();
        buffer.take(left - padding, sink.limits.text_bytes, &mut body);
        buffer.take(padding, 0, &mut whole);
        let role = match (kind, direction == self.client) {
            (HEADERS, true) => Role::Request,
            (HEADERS, false) => Role::Response,
            _ => Role::Event,
        };
        let mut draft = Draft::new(direction, Protocol::Http, role, sink.limits);
        let name = NAMES.get(usize::from(kind)).copied().unwrap_or("frame of unknown type");
        let on = if stream == 0 {
            String::new()
        } else {
            format!(" on stream {stream}")
        };
        let last = if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            ", the last"
        } else {
            ""
        };
        draft.summary = format!("HTTP/2 {name}{on} ({length} bytes{last})");
        draft.note(&whole);
        if kind == DATA {
            draft.show(&body);
            draft.text.truncated |= body.cut();
        } else {
            draft.note(&body);
            let what = if kind == HEADERS {
                "bytes of compressed header fields"
            } else {
                "bytes"
            };
            draft.text.say(&format!("[{length} {what}, not decoded]"));
        }
        sink.emit(draft);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dissector, FlowVerdict, LeakKind, Message, testing::*};

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn talk(sizes: &[usize]) -> Talk {
        let client = [
            PREFACE.to_vec(),
            frame(4, 0, 0, &[]),
            frame(HEADERS, 4, 1, b"\x82\x84\x87"),
            frame(
                DATA,
                END_STREAM | PADDED,
                1,
                b"\x02{\"card\":\"4111 1111 1111 1111\"}\0\0",
            ),
        ];
        let server = [
            frame(4, 0, 0, &[]),
            frame(HEADERS, 4, 1, b"\x88"),
            frame(DATA, END_STREAM, 1, b"ok"),
        ];
        let mut talk = Talk::open(8080);
        talk.cut(0, &client.concat(), sizes)
            .cut(1, &server.concat(), sizes)
            .close();
        talk
    }

    fn said(messages: &[Message]) -> Vec<(&str, &str)> {
        messages
            .iter()
            .map(|one| (one.summary.as_str(), one.text.as_str()))
            .collect()
    }

    #[test]
    fn frames_are_named_and_what_leaks_in_data_is_found() {
        let talk = talk(&[1000]);
        let mut dissector = Dissector::default();
        let mut messages = feed(&mut dissector, &talk.packets);
        messages.extend(dissector.finish());
        assert_eq!(
            said(&messages),
            [
                ("HTTP/2 SETTINGS (0 bytes)", "[0 bytes, not decoded]"),
                (
                    "HTTP/2 HEADERS on stream 1 (3 bytes)",
                    "[3 bytes of compressed header fields, not decoded]"
                ),
                (
                    "HTTP/2 DATA on stream 1 (33 bytes, the last)",
                    "{\"card\":\"4111 1111 1111 1111\"}"
                ),
                ("HTTP/2 SETTINGS (0 bytes)", "[0 bytes, not decoded]"),
                (
                    "HTTP/2 HEADERS on stream 1 (1 bytes)",
                    "[1 bytes of compressed header fields, not decoded]"
                ),
                ("HTTP/2 DATA on stream 1 (2 bytes, the last)", "ok"),
            ]
        );
        assert_eq!(messages[2].leaks[0].kind, LeakKind::CardNumber);
        assert!(messages.iter().all(|message| message.protocol == Protocol::Http));
        assert_eq!(dissector.flows()[0].verdict, FlowVerdict::Readable);
    }

    #[test]
    fn it_makes_no_difference_how_frames_are_cut() {
        let whole = talk(&[1000]).messages();
        for sizes in [&[1][..], &[7], &[24, 3], &[10, 1, 30]] {
            let cut = talk(sizes).messages();
            assert_eq!(said(&cut), said(&whole), "{sizes:?}");
        }
    }

    #[test]
    fn what_is_no_frame_is_shown_as_it_is() {
        let mut talk = Talk::open(8080);
        talk.client(PREFACE).client(&[0xff; 40]).close();
        let messages = talk.messages();
        assert!(
            messages.iter().all(|message| message.protocol == Protocol::Tcp),
            "{messages:?}"
        );
        assert_eq!(begins(b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n"), Some(false));
        assert_eq!(begins(b"PRI"), None);
    }
}
