//! SPDY/3.1, server side: how kubectl before 1.31, and `kubectl port-forward` of every version, carry their streams.
//!
//! [`frame`] and [`session`] are pure: bytes in, events and bytes out. [`connection`] is the I/O around them.
//!
//! Source: SPDY Protocol draft 3.1 (chromium.org), and what `moby/spdystream`, the library of every kubectl, makes of it.

mod connection;
mod frame;
mod headers;
mod session;

pub use connection::{Connection, Incoming, Opened, Outgoing, serve};
pub use headers::{Headers, value};

/// For the fuzz target `spdy`: takes any bytes as a client's, in the pieces that a network might cut them into.
pub fn fuzz(bytes: &[u8], piece: usize) {
    let mut session = session::Session::new();
    for piece in bytes.chunks(piece.max(1)) {
        let Ok(events) = session.receive(piece) else { break };
        for event in events {
            match event {
                session::Event::Opened { stream, .. } => session.accept(stream),
                session::Event::Data { stream, bytes } => session.consumed(stream, bytes.len()),
                session::Event::Ended { stream } => session.finish(stream),
                session::Event::Reset { .. } | session::Event::Window | session::Event::GoAway => {}
            }
        }
        let _ = session.take_output();
    }
}

/// What a client sends that opens a stream of each of these kinds.
#[cfg(test)]
pub fn opening(kinds: &[&str]) -> Vec<u8> {
    let mut encoder = frame::Encoder::new();
    let mut bytes = Vec::new();
    for (kind, stream) in kinds.iter().zip((1..).step_by(2)) {
        let headers = vec![("streamtype".to_owned(), (*kind).to_owned())];
        let syn = frame::Frame::SynStream {
            stream,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers,
        };
        encoder.write(&syn, &mut bytes);
    }
    bytes
}
