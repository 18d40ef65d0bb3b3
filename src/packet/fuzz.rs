//! What the fuzz targets run: whole ways through the decoders on bytes of a stranger.

use super::{Dissector, Frame, Limits, LinkType, Message, pcapfile::PcapReader};

/// Dissects a capture file until it ends or turns out to be damaged; gives what was said in it.
///
/// Small limits, so that a fuzzer reaches them.
pub fn fuzz_capture(file: &[u8]) -> Vec<Message> {
    let mut reader = PcapReader::default();
    let mut dissector = Dissector::new(small());
    let mut messages = Vec::new();
    reader.push(file);
    let mut number = 0;
    while let Ok(Some(record)) = reader.next_record() {
        number += 1;
        let frame = Frame {
            number,
            ts_ns: record.ts_ns,
            link: record.link,
            orig_len: record.orig_len,
            data: record.data,
        };
        messages.extend(dissector.feed(frame));
    }
    messages.extend(dissector.tick(u64::MAX));
    messages.extend(dissector.finish());
    messages
}

/// Dissects frames of one link type.
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
        messages.extend(dissector.feed(frame));
    }
    messages.extend(dissector.finish());
    messages
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
