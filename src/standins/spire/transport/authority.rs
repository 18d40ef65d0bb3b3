//! Clients that send the socket's path as `:authority` are mended on their way in.
//!
//! gRPC for Python, Java and Swift name a unix socket by its path there (`%2Frun%2Fspire%2Fagent.sock`). That is no
//! authority (RFC 3986 section 3.2), and `h2` resets such a stream before any code of ours sees it. So the frames pass
//! through here: the header fields are decoded, an authority that is none becomes `localhost`, and they go on as
//! literals, which leave the decoder behind without state of its own (RFC 7541 section 6.2.2).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::uri::Authority;
use loona_hpack::Decoder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of the client's preface (RFC 9113 section 3.4).
const PREFACE: usize = 24;
/// Bytes of a frame's header.
const HEADER: usize = 9;
/// Largest frame that was agreed on: the default (RFC 9113 section 6.5.2).
const LARGEST_FRAME: usize = 16_384;
/// Most bytes of one set of header fields, as sent and as decoded.
const MOST_HEADERS: usize = 64 * 1024;

const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A stream whose incoming half is mended.
pub struct Mended<I> {
    io: I,
    mender: Mender,
    out: Vec<u8>,
    read: usize,
}

impl<I> Mended<I> {
    /// Mends what `io` receives.
    pub fn new(io: I) -> Self {
        Self {
            io,
            mender: Mender::new(),
            out: Vec::new(),
            read: 0,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Mended<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.read == this.out.len() {
            this.out.clear();
            this.read = 0;
            let mut bytes = [0; 4096];
            let mut raw = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut raw))?;
            if raw.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.mender.push(raw.filled(), &mut this.out)?;
        }
        let rest = &this.out[this.read..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        this.read += count;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Mended<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What is going by.
enum State {
    /// This many bytes of no concern: the preface, or the payload of another frame.
    Passing(usize),
    /// The header of a frame, so far.
    FrameHeader(Vec<u8>),
    /// The payload of a HEADERS or CONTINUATION frame, so far.
    Payload { frame: Frame, bytes: Vec<u8> },
}

#[derive(Clone, Copy)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

/// A set of header fields whose last frame has not come.
struct Block {
    stream: [u8; 4],
    end_stream: bool,
    fragments: Vec<u8>,
}

struct Mender {
    state: State,
    block: Option<Block>,
    decoder: Decoder<'static>,
}

impl Mender {
    fn new() -> Self {
        Self {
            state: State::Passing(PREFACE),
            block: None,
            decoder: Decoder::new(),
        }
    }

    fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Passing(left) => {
                    let count = bytes.len().min(*left);
                    out.extend_from_slice(take(&mut bytes, count));
                    *left -= count;
                    if *left == 0 {
                        self.state = State::FrameHeader(Vec::with_capacity(HEADER));
                    }
                }
                State::FrameHeader(header) => {
                    let count = bytes.len().min(HEADER - header.len());
                    header.extend_from_slice(take(&mut bytes, count));
                    if let Ok(header) = <[u8; HEADER]>::try_from(header.as_slice()) {
                        self.begin(header, out)?;
                    }
                }
                State::Payload { frame, bytes: payload } => {
                    let count = bytes.len().min(frame.length - payload.len());
                    payload.extend_from_slice(take(&mut bytes, count));
                    if payload.len() == frame.length {
                        let (frame, payload) = (*frame, std::mem::take(payload));
                        self.state = State::FrameHeader(Vec::with_capacity(HEADER));
                        self.end(frame, &payload, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, header: [u8; HEADER], out: &mut Vec<u8>) -> io::Result<()> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = header;
        let length = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        let frame = Frame {
            length,
            kind,
            flags,
            stream: [s0 & 0x7f, s1, s2, s3],
        };
        let of_headers = kind == HEADERS || kind == CONTINUATION;
        if of_headers != (self.block.is_some() || kind == HEADERS) || (kind == HEADERS && self.block.is_some()) {
            return Err(malformed("header fields are cut off by another frame"));
        }
        if !of_headers {
            out.extend_from_slice(&header);
            self.state = if length == 0 {
                State::FrameHeader(Vec::with_capacity(HEADER))
            } else {
                State::Passing(length)
            };
            return Ok(());
        }
        if length > LARGEST_FRAME {
            return Err(malformed("a frame is larger than was agreed"));
        }
        if length == 0 {
            self.state = State::FrameHeader(Vec::with_capacity(HEADER));
            return self.end(frame, &[], out);
        }
        self.state = State::Payload {
            frame,
            bytes: Vec::with_capacity(length),
        };
        Ok(())
    }

    fn end(&mut self, frame: Frame, payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let fragment = if frame.kind == HEADERS {
            strip(frame.flags, payload)?
        } else {
            payload
        };
        let block = self.block.get_or_insert_with(|| Block {
            stream: frame.stream,
            end_stream: frame.flags & END_STREAM != 0,
            fragments: Vec::new(),
        });
        if block.stream != frame.stream {
            return Err(malformed("header fields are continued on another stream"));
        }
        if block.fragments.len() + fragment.len() > MOST_HEADERS {
            return Err(malformed("too many header fields"));
        }
        block.fragments.extend_from_slice(fragment);
        if frame.flags & END_HEADERS == 0 {
            return Ok(());
        }
        match self.block.take() {
            Some(block) => self.mend(&block, out),
            None => Ok(()),
        }
    }

    fn mend(&mut self, block: &Block, out: &mut Vec<u8>) -> io::Result<()> {
        let mut fields = Vec::new();
        let mut too_many = false;
        self.decoder
            .decode_with_cb(&block.fragments, |name, value| {
                // What is decoded can be far more than what was sent: a field is named again by one byte.
                too_many |= fields.len() + name.len() + value.len() > MOST_HEADERS;
                if !too_many {
                    literal(&name, mended(&name, &value), &mut fields);
                }
            })
            .map_err(|_| malformed("header fields cannot be decoded"))?;
        if too_many {
            return Err(malformed("too many header fields"));
        }
        emit(block, &fields, out);
        Ok(())
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// A HEADERS payload without padding and priority (RFC 9113 section 6.2).
fn strip(flags: u8, payload: &[u8]) -> io::Result<&[u8]> {
    let short = || malformed("a HEADERS frame is shorter than its flags say");
    let mut rest = payload;
    let mut padding = 0;
    if flags & PADDED != 0 {
        let (first, after) = rest.split_first().ok_or_else(short)?;
        padding = usize::from(*first);
        rest = after;
    }
    if flags & PRIORITY != 0 {
        rest = rest.get(5..).ok_or_else(short)?;
    }
    let end = rest.len().checked_sub(padding).ok_or_else(short)?;
    Ok(&rest[..end])
}

fn mended<'a>(name: &[u8], value: &'a [u8]) -> &'a [u8] {
    if name == b":authority" && Authority::try_from(value).is_err() {
        b"localhost"
    } else {
        value
    }
}

/// A literal field without indexing and with a new name (RFC 7541 section 6.2.2).
fn literal(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(0);
    for text in [name, value] {
        integer(text.len(), out);
        out.extend_from_slice(text);
    }
}

/// The length of a string that is not Huffman-coded: an integer with a prefix of seven bits (RFC 7541 section 5.1).
fn integer(length: usize, out: &mut Vec<u8>) {
    const PREFIX: u8 = 0x7f;
    match u8::try_from(length) {
        Ok(small) if small < PREFIX => out.push(small),
        _ => {
            out.push(PREFIX);
            let mut rest = length - usize::from(PREFIX);
            while rest >= 0x80 {
                // The mask leaves seven bits.
                out.push((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
    }
}

fn emit(block: &Block, fields: &[u8], out: &mut Vec<u8>) {
    let mut kind = HEADERS;
    let mut rest = fields;
    loop {
        let (part, after) = rest.split_at(rest.len().min(LARGEST_FRAME));
        rest = after;
        let mut flags = 0;
        if kind == HEADERS && block.end_stream {
            flags |= END_STREAM;
        }
        if rest.is_empty() {
            flags |= END_HEADERS;
        }
        let [.., l0, l1, l2] = part.len().to_be_bytes();
        out.extend_from_slice(&[l0, l1, l2, kind, flags]);
        out.extend_from_slice(&block.stream);
        out.extend_from_slice(part);
        if rest.is_empty() {
            return;
        }
        kind = CONTINUATION;
    }
}

#[path = "authority_fuzz.rs"]
mod fuzz;
pub use fuzz::fuzz;

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
