//! What the fuzz targets run: whole ways through the decoders on bytes of a stranger, and what must hold afterwards.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    Dissector, Flow, Frame, Limits, LinkType, Message, Reading, decode,
    leak::secrets,
    segment::{Datagram, Segment, Source},
};

/// Dissects a capture file until it ends or turns out to be damaged; gives what was said in it.
///
/// Small limits, so that a fuzzer reaches them.
pub fn fuzz_capture(file: &[u8]) -> Vec<Message> {
    // As one capture, and as one of several pods: what is in the file decides which it is.
    let several = file.first().is_some_and(|byte| *byte == 0x0a);
    let mut messages = Vec::new();
    let mut whole = Reading::new(small(), several);
    whole.push(file);
    while let Ok(Some(step)) = whole.step() {
        messages.extend(step.messages);
    }
    // In pieces that are read into its own room it is the same.
    let mut reading = Reading::new(small(), several);
    let mut piecewise = Vec::new();
    for piece in file.chunks(file.last().map_or(1, |byte| usize::from(*byte) * 8 + 1)) {
        reading.room(piece.len() + 3)[..piece.len()].copy_from_slice(piece);
        reading.filled(piece.len());
        while let Ok(Some(step)) = reading.step() {
            piecewise.extend(step.messages);
        }
    }
    assert_eq!(messages, piecewise);
    assert_eq!((whole.stats(), whole.held()), (reading.stats(), reading.held()));
    assert!(reading.held() < 9 << 20, "{} bytes are held", reading.held());
    let (rest, flows) = reading.end();
    messages.extend(rest);
    assert_eq!(reading.held(), 0);
    sound(&messages, &flows);
    messages
}

/// Dissects frames of one link type.
///
/// # Panics
/// When a header or a secret is said to stand where the frame has no bytes.
pub fn fuzz_frames(link: u32, frames: &[Vec<u8>]) -> Vec<Message> {
    let mut dissector = Dissector::new(small());
    let mut messages = Vec::new();
    for (index, data) in frames.iter().enumerate() {
        let number = index as u64 + 1;
        let frame = Frame {
            number,
            ts_ns: number,
            link: LinkType(link),
            orig_len: data.len() as u32,
            data,
        };
        let layers = decode(&frame);
        layers.fields(&frame, &mut |name, _, place| {
            assert!(place.end <= data.len(), "{name} at {place:?} of {}", data.len());
        });
        let (payload, place) = layers.payload();
        assert!(data.get(place) == Some(payload));
        messages.extend(dissector.feed(frame));
    }
    let messages = end(&mut dissector, messages);
    for place in messages
        .iter()
        .flat_map(|message| &message.leaks)
        .flat_map(|leak| &leak.places)
    {
        assert!(
            frames
                .get(place.frame as usize - 1)
                .is_some_and(|frame| place.end <= frame.len())
        );
    }
    messages
}

/// Dissects a TCP connection to a port that says these bytes, two of which steer each segment: who sends it, whether
/// something before it is lost or it comes again, and how long it is.
pub fn fuzz_talk(port: u16, opened: bool, mut input: &[u8]) -> Vec<Message> {
    let mut dissector = Dissector::new(small());
    let mut messages = Vec::new();
    let mut seq = [0xffff_ff00_u32, 7];
    let mut number = 0;
    let mut send = |direction: usize, seq: u32, ack: u32, flags: u8, data: &[u8]| {
        number += 1;
        let segment = segment(port, direction, (seq, ack), flags, data, number);
        dissector.segment(&segment, &mut messages);
    };
    if opened {
        send(0, seq[0].wrapping_sub(1), 0, 1, &[]);
        send(1, seq[1].wrapping_sub(1), seq[0], 1, &[]);
    }
    while let [steer, length, rest @ ..] = input {
        let (data, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        input = rest;
        let direction = usize::from(steer & 1);
        if steer & 0x0e == 0x0e {
            seq[direction] = seq[direction].wrapping_add(u32::from(*length) + 1);
        }
        let flags = if steer & 0x70 == 0x70 { steer >> 6 & 2 | 4 } else { 0 };
        send(direction, seq[direction], seq[1 - direction], flags, data);
        if steer & 0x30 == 0x10 {
            send(direction, seq[direction], seq[1 - direction], 0, data);
        }
        seq[direction] = seq[direction].wrapping_add(data.len() as u32);
    }
    end(&mut dissector, messages)
}

/// A segment of [`fuzz_talk`]; flags: 1 opens, 2 breaks off, 4 ends.
fn segment(port: u16, direction: usize, (seq, ack): (u32, u32), flags: u8, data: &[u8], number: u64) -> Segment<'_> {
    let [src, dst] = ends(port, direction);
    Segment {
        src,
        dst,
        seq,
        ack: (flags & 1 == 0 || direction == 1).then_some(ack),
        syn: flags & 1 != 0,
        rst: flags & 2 != 0,
        fin: flags & 4 != 0,
        data,
        len: data.len(),
        ifindex: None,
        source: source(number),
    }
}

fn source(number: u64) -> Source<'static> {
    Source {
        frame: number,
        ts_ns: number,
        at: 40,
        origins: &[],
    }
}

fn ends(port: u16, direction: usize) -> [SocketAddr; 2] {
    let end = |last: u8, port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port);
    let mut ends = [end(1, 40000), end(2, port)];
    if direction == 1 {
        ends.reverse();
    }
    ends
}

/// Dissects datagrams to and from a port; the first byte of each says from whom, the second how long it is.
pub fn fuzz_datagrams(port: u16, mut input: &[u8]) -> Vec<Message> {
    let mut dissector = Dissector::new(small());
    let mut messages = Vec::new();
    let mut number = 0;
    while let [steer, length, rest @ ..] = input {
        let (data, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        input = rest;
        number += 1;
        let [src, dst] = ends(port, usize::from(steer & 1));
        let datagram = Datagram {
            src,
            dst,
            data,
            len: data.len(),
            ifindex: None,
            source: source(number),
        };
        dissector.datagram(&datagram, &mut messages);
    }
    end(&mut dissector, messages)
}

/// Looks for secrets in a text.
///
/// # Panics
/// When a secret is said to stand where the text has no characters.
pub fn fuzz_secrets(text: &str) {
    let mut found = Vec::new();
    super::leak::card_numbers(text, 0..text.len(), &mut found);
    super::leak::in_header(b"authorization", text, 0..text.len(), &mut found);
    super::leak::in_header(b"cookie", text, 0..text.len(), &mut found);
    secrets(text, &mut found);
    for one in found {
        assert!(text.get(one.range).is_some());
    }
}

/// Ends a capture; checks what its readers rely on.
fn end(dissector: &mut Dissector, mut messages: Vec<Message>) -> Vec<Message> {
    assert!(dissector.held() < 1 << 20, "{} bytes are held", dissector.held());
    messages.extend(dissector.tick(u64::MAX));
    messages.extend(dissector.finish());
    assert_eq!(dissector.held(), 0);
    sound(&messages, &dissector.flows());
    messages
}

/// What readers of messages and conversations rely on.
fn sound(messages: &[Message], flows: &[Flow]) {
    for flow in flows {
        assert!(!flow.evidence.is_empty());
        for fact in &flow.evidence {
            assert!(!fact.says.chars().any(char::is_control), "{:?}", fact.says);
        }
    }
    for message in messages {
        assert!(
            !message.text.chars().any(|char| char.is_control() && char != '\n'),
            "{:?}",
            message.text
        );
        assert!(!message.summary.chars().any(char::is_control), "{:?}", message.summary);
        assert!(!message.frames.is_empty(), "{message:?}");
        for leak in &message.leaks {
            assert!(message.text.get(leak.start..leak.end).is_some(), "{leak:?}");
            assert!(leak.places.iter().all(|place| place.start < place.end), "{leak:?}");
        }
    }
}

fn small() -> Limits {
    Limits {
        flows: 8,
        stream_bytes: 4096,
        total_bytes: 32 << 10,
        pieces: 8,
        text_bytes: 1024,
        leaks: 8,
        frames: 8,
        fragmented: 4,
        fragment_bytes: 8 << 10,
    }
}
