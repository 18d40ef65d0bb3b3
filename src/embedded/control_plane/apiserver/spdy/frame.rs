//! Frames: bytes in, frames out, and back. Pure.
//!
//! Source: SPDY draft 3.1, 2.2 "Framing" and 2.6 "Control frames".

use bytes::{Buf, Bytes, BytesMut};

use super::headers::{Deflater, Headers, Inflater};

const VERSION: u16 = 3;
/// Largest control frame that is taken, bytes; data frames are taken in pieces, whatever their size.
const MAX_CONTROL: usize = 16 << 10;
/// Largest piece of data in one frame that is written, bytes.
pub const MAX_DATA: usize = 32 << 10;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        stream: u32,
        associated: u32,
        priority: u8,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
    },
    /// Accepts one.
    SynReply { stream: u32, fin: bool, headers: Headers },
    /// Ends one at once, in both directions.
    RstStream { stream: u32, status: u32 },
    /// Settings as id and value.
    Settings(Vec<(u32, u32)>),
    /// A question for a sign of life, or the answer.
    Ping(u32),
    /// No more streams after `last`.
    GoAway { last: u32, status: u32 },
    /// More headers of a stream.
    Headers { stream: u32, fin: bool, headers: Headers },
    /// How much more may be sent on a stream.
    WindowUpdate { stream: u32, delta: u32 },
    /// A piece of data; a large frame comes as several.
    Data { stream: u32, fin: bool, bytes: Bytes },
}

/// Why bytes are no frames. None of these can be recovered from: the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not SPDY/3.
    #[error("SPDY version {0} is not spoken here")]
    Version(u16),
    /// Larger than this server takes.
    #[error("{0} is too large")]
    TooLarge(&'static str),
    /// Its parts do not fit its length or each other.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The header blocks' zlib stream is broken.
    #[error("header compression error")]
    Compression,
}

/// Reads frames.
pub struct Decoder {
    buffer: BytesMut,
    inflater: Inflater,
    body: Body,
}

/// What of a frame is still to come.
enum Body {
    None,
    Data {
        stream: u32,
        fin: bool,
        left: usize,
    },
    /// Of a frame of a kind that this server does not know, and need not.
    Unknown {
        left: usize,
    },
}

impl Decoder {
    /// Before the first byte.
    pub fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            inflater: Inflater::new(),
            body: Body::None,
        }
    }

    /// Takes bytes as they come. What is kept is bounded when [`Decoder::next`] is called until it has no more.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, if it is there.
    ///
    /// # Errors
    /// When the bytes are no frame.
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            match self.body {
                Body::None => {}
                Body::Data { stream, fin, left } => {
                    let here = left.min(self.buffer.len());
                    if here == 0 && left > 0 {
                        return Ok(None);
                    }
                    let bytes = self.buffer.split_to(here).freeze();
                    let left = left - here;
                    self.body = if left == 0 {
                        Body::None
                    } else {
                        Body::Data { stream, fin, left }
                    };
                    let fin = fin && left == 0;
                    return Ok(Some(Frame::Data { stream, fin, bytes }));
                }
                Body::Unknown { left } => {
                    let here = left.min(self.buffer.len());
                    self.buffer.advance(here);
                    if here < left {
                        self.body = Body::Unknown { left: left - here };
                        return Ok(None);
                    }
                    self.body = Body::None;
                }
            }
            let Some(head) = self.buffer.first_chunk::<8>() else {
                return Ok(None);
            };
            let [a, b, c, d, flags, e, f, g] = *head;
            let length = u32::from_be_bytes([0, e, f, g]) as usize;
            if a & 0x80 == 0 {
                self.buffer.advance(8);
                let stream = u32::from_be_bytes([a, b, c, d]);
                let fin = flags & FIN != 0;
                self.body = Body::Data {
                    stream,
                    fin,
                    left: length,
                };
                continue;
            }
            let version = u16::from_be_bytes([a & 0x7f, b]);
            if version != VERSION {
                return Err(FrameError::Version(version));
            }
            let kind = u16::from_be_bytes([c, d]);
            if !matches!(kind, SYN_STREAM..=SETTINGS | PING..=WINDOW_UPDATE) {
                self.buffer.advance(8);
                self.body = Body::Unknown { left: length };
                continue;
            }
            if length > MAX_CONTROL {
                return Err(FrameError::TooLarge("control frame"));
            }
            if self.buffer.len() < 8 + length {
                return Ok(None);
            }
            self.buffer.advance(8);
            let body = self.buffer.split_to(length);
            return self.control(kind, flags, &body).map(Some);
        }
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: &[u8]) -> Result<Frame, FrameError> {
        let fin = flags & FIN != 0;
        match kind {
            SYN_STREAM => {
                let malformed = FrameError::Malformed("SYN_STREAM");
                let (stream, associated) = (id(&mut body, malformed)?, id(&mut body, malformed)?);
                let ([priority, _slot], block) = body.split_first_chunk::<2>().ok_or(malformed)?;
                Ok(Frame::SynStream {
                    stream,
                    associated,
                    priority: priority >> 5,
                    fin,
                    unidirectional: flags & UNIDIRECTIONAL != 0,
                    headers: self.inflater.read(block)?,
                })
            }
            SYN_REPLY => Ok(Frame::SynReply {
                stream: id(&mut body, FrameError::Malformed("SYN_REPLY"))?,
                fin,
                headers: self.inflater.read(body)?,
            }),
            HEADERS => Ok(Frame::Headers {
                stream: id(&mut body, FrameError::Malformed("HEADERS"))?,
                fin,
                headers: self.inflater.read(body)?,
            }),
            RST_STREAM => {
                let [stream, status] = two(body, FrameError::Malformed("RST_STREAM"))?;
                let stream = stream & ID;
                Ok(Frame::RstStream { stream, status })
            }
            GOAWAY => {
                let [last, status] = two(body, FrameError::Malformed("GOAWAY"))?;
                Ok(Frame::GoAway {
                    last: last & ID,
                    status,
                })
            }
            WINDOW_UPDATE => {
                let [stream, delta] = two(body, FrameError::Malformed("WINDOW_UPDATE"))?;
                let (stream, delta) = (stream & ID, delta & ID);
                Ok(Frame::WindowUpdate { stream, delta })
            }
            PING => {
                let malformed = FrameError::Malformed("PING");
                let question = number(&mut body, malformed)?;
                if body.is_empty() {
                    Ok(Frame::Ping(question))
                } else {
                    Err(malformed)
                }
            }
            _ => settings(body),
        }
    }
}

/// The bits of a stream's id, and of a window's size.
const ID: u32 = 0x7fff_ffff;

fn number(body: &mut &[u8], malformed: FrameError) -> Result<u32, FrameError> {
    let (number, rest) = body.split_first_chunk::<4>().ok_or(malformed)?;
    *body = rest;
    Ok(u32::from_be_bytes(*number))
}

fn id(body: &mut &[u8], malformed: FrameError) -> Result<u32, FrameError> {
    Ok(number(body, malformed)? & ID)
}

fn two(mut body: &[u8], malformed: FrameError) -> Result<[u32; 2], FrameError> {
    let both = [number(&mut body, malformed)?, number(&mut body, malformed)?];
    if body.is_empty() { Ok(both) } else { Err(malformed) }
}

fn settings(mut body: &[u8]) -> Result<Frame, FrameError> {
    let malformed = FrameError::Malformed("SETTINGS");
    let count = number(&mut body, malformed)? as usize;
    if !body.len().is_multiple_of(8) || body.len() / 8 != count {
        return Err(malformed);
    }
    let mut entries = Vec::new();
    while !body.is_empty() {
        // the first byte is flags
        let id = number(&mut body, malformed)? & 0x00ff_ffff;
        entries.push((id, number(&mut body, malformed)?));
    }
    Ok(Frame::Settings(entries))
}

/// Writes frames.
pub struct Encoder {
    deflater: Deflater,
}

impl Encoder {
    /// Before the first frame.
    pub fn new() -> Self {
        Self {
            deflater: Deflater::new(),
        }
    }

    /// Appends a frame.
    pub fn write(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        match frame {
            Frame::Data { stream, fin, bytes } => data(*stream, *fin, bytes, out),
            Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional,
                headers,
            } => {
                let flags = (u8::from(*fin) * FIN) | (u8::from(*unidirectional) * UNIDIRECTIONAL);
                let at = head(SYN_STREAM, flags, out);
                words(&[*stream & ID, *associated & ID], out);
                out.extend_from_slice(&[priority << 5, 0]);
                self.deflater.write(headers, out);
                close(at, out);
            }
            Frame::SynReply { stream, fin, headers } => self.block(SYN_REPLY, *stream, *fin, headers, out),
            Frame::Headers { stream, fin, headers } => self.block(HEADERS, *stream, *fin, headers, out),
            Frame::RstStream { stream, status } => plain(RST_STREAM, &[*stream & ID, *status], out),
            Frame::Ping(question) => plain(PING, &[*question], out),
            Frame::GoAway { last, status } => plain(GOAWAY, &[*last & ID, *status], out),
            Frame::WindowUpdate { stream, delta } => plain(WINDOW_UPDATE, &[*stream & ID, *delta & ID], out),
            Frame::Settings(entries) => {
                let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
                let mut body = vec![count];
                body.extend(entries.iter().flat_map(|(id, value)| [*id & 0x00ff_ffff, *value]));
                plain(SETTINGS, &body, out);
            }
        }
    }

    fn block(&mut self, kind: u16, stream: u32, fin: bool, headers: &Headers, out: &mut Vec<u8>) {
        let at = head(kind, u8::from(fin) * FIN, out);
        words(&[stream & ID], out);
        self.deflater.write(headers, out);
        close(at, out);
    }
}

/// Appends a data frame; `bytes` must be shorter than 16 MiB.
fn data(stream: u32, fin: bool, bytes: &[u8], out: &mut Vec<u8>) {
    words(&[stream & ID], out);
    out.extend_from_slice(&[u8::from(fin) * FIN, 0, 0, 0]);
    let at = out.len();
    out.extend_from_slice(bytes);
    close(at, out);
}

/// Appends a control frame's head without its length, and says where its body begins.
fn head(kind: u16, flags: u8, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[flags, 0, 0, 0]);
    out.len()
}

/// Writes the length of the frame whose body begins at `at`.
fn close(at: usize, out: &mut [u8]) {
    let [_, a, b, c] = u32::try_from(out.len() - at).unwrap_or(0).to_be_bytes();
    if let Some(length) = out.get_mut(at - 3..at) {
        length.copy_from_slice(&[a, b, c]);
    }
}

fn words(words: &[u32], out: &mut Vec<u8>) {
    for word in words {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

fn plain(kind: u16, body: &[u32], out: &mut Vec<u8>) {
    let at = head(kind, 0, out);
    words(body, out);
    close(at, out);
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers() -> impl Strategy<Value = Headers> {
        prop::collection::btree_map("[a-z-]{1,12}", "[ -~]{0,40}", 0..5).prop_map(|map| map.into_iter().collect())
    }

    /// Any frame, as this side would write it.
    pub fn frame() -> impl Strategy<Value = Frame> {
        let stream = 0..=ID;
        prop_oneof![
            (stream.clone(), stream.clone(), 0_u8..8, any::<[bool; 2]>(), headers()).prop_map(
                |(stream, associated, priority, [fin, unidirectional], headers)| Frame::SynStream {
                    stream,
                    associated,
                    priority,
                    fin,
                    unidirectional,
                    headers
                }
            ),
            (stream.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::SynReply {
                stream,
                fin,
                headers
            }),
            (stream.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::Headers {
                stream,
                fin,
                headers
            }),
            (stream.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
            prop::collection::vec((0_u32..1 << 24, any::<u32>()), 0..4).prop_map(Frame::Settings),
            any::<u32>().prop_map(Frame::Ping),
            (stream.clone(), any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
            (stream.clone(), stream.clone()).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
            (stream, any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(stream, fin, bytes)| {
                Frame::Data {
                    stream,
                    fin,
                    bytes: bytes.into(),
                }
            }),
        ]
    }

    /// Decodes bytes that come in pieces, and puts data frames that were cut together again.
    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, FrameError> {
        let mut decoder = Decoder::new();
        let mut frames: Vec<Frame> = Vec::new();
        let mut open: Option<Vec<u8>> = None;
        for piece in bytes.chunks(piece) {
            decoder.feed(piece);
            while let Some(frame) = decoder.next()? {
                match frame {
                    Frame::Data { stream, fin, bytes } => {
                        let mut whole = open.take().unwrap_or_default();
                        whole.extend_from_slice(&bytes);
                        if matches!(decoder.body, Body::Data { .. }) {
                            open = Some(whole);
                        } else {
                            let bytes = whole.into();
                            frames.push(Frame::Data { stream, fin, bytes });
                        }
                    }
                    other => frames.push(other),
                }
            }
            assert!(decoder.buffer.len() <= 8 + MAX_CONTROL, "kept {}", decoder.buffer.len());
        }
        Ok(frames)
    }

    #[test]
    fn frames_are_laid_out_as_the_draft_says() {
        let mut out = Vec::new();
        let mut encoder = Encoder::new();
        encoder.write(&Frame::Ping(2), &mut out);
        assert_eq!(out, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]);
        out.clear();
        let bytes = Bytes::from_static(b"hi");
        encoder.write(
            &Frame::Data {
                stream: 5,
                fin: true,
                bytes,
            },
            &mut out,
        );
        assert_eq!(out, [0, 0, 0, 5, 1, 0, 0, 2, b'h', b'i']);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for (bytes, error) in [
            (&[0x80, 2, 0, 6, 0, 0, 0, 4][..], FrameError::Version(2)),
            (
                &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
                FrameError::TooLarge("control frame"),
            ),
            (&[0x80, 3, 0, 6, 0, 0, 0, 3, 0, 0, 0], FrameError::Malformed("PING")),
            (
                &[0x80, 3, 0, 3, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0],
                FrameError::Malformed("RST_STREAM"),
            ),
            (
                &[0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1],
                FrameError::Malformed("SETTINGS"),
            ),
            (
                &[0x80, 3, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0],
                FrameError::Malformed("SYN_STREAM"),
            ),
            (&[0x80, 3, 0, 2, 0, 0, 0, 6, 0, 0, 0, 1, 9, 9], FrameError::Compression),
        ] {
            assert_eq!(decode(bytes, 3), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn frames_of_unknown_kinds_are_passed_over() {
        let mut bytes = vec![0x80, 3, 0, 0x55, 0, 1, 0, 0];
        bytes.extend(vec![0xff; 0x1_0000]);
        Encoder::new().write(&Frame::Ping(1), &mut bytes);
        assert_eq!(decode(&bytes, 4096).unwrap(), [Frame::Ping(1)]);
    }

    proptest! {
        #[test]
        fn frames_read_back_however_they_are_cut(frames in prop::collection::vec(frame(), 0..8), piece in 1_usize..64) {
            let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
            for frame in &frames {
                encoder.write(frame, &mut bytes);
            }
            prop_assert_eq!(decode(&bytes, piece).unwrap(), frames);
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), piece in 1_usize..64) {
            let _ = decode(&bytes, piece);
        }
    }
}
