//! Records behind a hole: where the next one begins.
//!
//! A hole within a record whose header was seen costs nothing but its bytes: the header tells where the record ends. Behind any
//! other hole the boundaries are lost until two headers stand where each says that the other must: in encrypted bytes, which
//! are as good as random, that happens by chance at one place in some 10^13.

use super::{ALERT, APPLICATION_DATA, HANDSHAKE, RECORD_BYTES, Tls, begins};
use crate::{
    buffer::{Buffer, Collected},
    sink::{Direction, Sink},
};

/// Bytes that the least encrypted record has behind its header: the tag of its cipher (RFC 8446 §5.2, RFC 5288 §3).
const LEAST: usize = 16;

/// Where a record begins, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Here.
    At(usize),
    /// Not before here; from here on, more bytes are needed to tell.
    NotBefore(usize),
}

/// The length of the record that a header begins, if it is one that an encrypted connection sends; `None` inside for too few bytes.
fn header(bytes: &[u8]) -> Option<Option<usize>> {
    let plausible = [
        |byte: u8| matches!(byte, ALERT | HANDSHAKE | APPLICATION_DATA),
        |byte: u8| byte == 3,
        |byte: u8| byte == 3,
    ];
    if bytes.iter().zip(plausible).any(|(byte, plausible)| !plausible(*byte)) {
        return None;
    }
    let Some([high, low]) = bytes.get(3..5).and_then(|length| length.first_chunk()) else {
        return Some(None);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    (LEAST..=RECORD_BYTES).contains(&length).then_some(Some(5 + length))
}

/// Looks for two headers in a row; at the end of the stream, one that ends with it will do.
fn find(data: &[u8], over: bool) -> Found {
    for at in 0..data.len() {
        match header(&data[at..]) {
            None => {}
            Some(None) => return Found::NotBefore(at),
            Some(Some(length)) => match data.get(at + length..) {
                Some([]) if over => return Found::At(at),
                Some(next) => match header(next) {
                    None => {}
                    Some(Some(_)) => return Found::At(at),
                    Some(None) => return Found::NotBefore(at),
                },
                None => return Found::NotBefore(at),
            },
        }
    }
    Found::NotBefore(data.len())
}

impl Tls {
    /// Bytes are missing here.
    pub(crate) fn gap(&mut self, direction: Direction, count: u64, buffer: &mut Buffer, sink: &mut Sink<'_>) {
        let half = &mut self.halves[direction];
        if !half.encrypted {
            // Whatever was in it may have told who is who.
            half.blind = true;
            half.handshake.skip(half.handshake.len());
            self.facts.handshake_missing = true;
        }
        half.turn.bytes.missing += count;
        let data = buffer.data();
        let known = match (half.lost, half.skip) {
            (true, _) => None,
            (false, 0) if begins(data) == Some(true) && data.len() >= 5 => {
                let length = usize::from(u16::from_be_bytes([data[3], data[4]]));
                Some((data[0], length, (5 + length).saturating_sub(data.len())))
            }
            (false, 0) => None,
            (false, skip) => Some((0, 0, skip)),
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if let Some((kind, length, _)) = known.filter(|(_, length, _)| *length > 0) {
            // Its header says how long it was, whatever of it was captured.
            let mut seen = Collected::default();
            buffer.take_all(0, &mut seen);
            if self.halves[direction].turn.kind != kind {
                self.flush(direction, sink);
            }
            if kind == APPLICATION_DATA || self.halves[direction].encrypted {
                self.encrypted(direction, kind, length, &seen, sink);
            }
        }
        match known {
            Some((.., left)) if count <= left => self.halves[direction].skip = left - count,
            _ => {
                self.flush(direction, sink);
                let half = &mut self.halves[direction];
                (half.lost, half.skip) = (true, 0);
                buffer.take_all(0, &mut half.turn.bytes);
            }
        }
    }

    /// Whether a record begins at the front of the buffer, after what cannot be told apart was taken from it.
    pub(super) fn found(&mut self, direction: Direction, buffer: &mut Buffer, over: bool, sink: &mut Sink<'_>) -> bool {
        let half = &mut self.halves[direction];
        if half.skip > 0 {
            let count = half.skip.min(buffer.len());
            let mut seen = Collected::default();
            buffer.take(count, 0, &mut seen);
            half.turn.bytes.span.merge(&seen.span);
            half.skip -= count;
        }
        if !half.lost {
            return half.skip == 0;
        }
        match find(buffer.data(), over) {
            Found::At(at) => {
                buffer.take(at, 0, &mut half.turn.bytes);
                self.flush(direction, sink);
                self.halves[direction].lost = false;
                true
            }
            Found::NotBefore(at) => {
                buffer.take(at, 0, &mut half.turn.bytes);
                false
            }
        }
    }

    /// The stream is over.
    pub(crate) fn finish(&mut self, direction: Direction, buffer: &mut Buffer, sink: &mut Sink<'_>) {
        if self.halves[direction].lost {
            if self.found(direction, buffer, true, sink) {
                self.advance(direction, buffer, sink);
            } else {
                buffer.take_all(0, &mut self.halves[direction].turn.bytes);
            }
        }
        self.flush(direction, sink);
    }
}

#[cfg(test)]
mod tests {
    use rustls::version::{TLS12, TLS13};

    use super::*;
    use crate::{
        Dissector, Flow, FlowVerdict, Message,
        testing::*,
        tls::testing::{Session, turns},
    };

    /// A record of encrypted bytes, as good as random.
    fn record(kind: u8, length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut bytes = vec![kind, 3, 3];
        bytes.extend_from_slice(&(length as u16).to_be_bytes());
        bytes.extend((0..length).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        }));
        bytes
    }

    #[test]
    fn two_headers_in_a_row_are_a_boundary_and_one_is_not() {
        let [first, second, last] = [(5000, 1), (300, 2), (40, 3)].map(|(length, seed)| record(23, length, seed));
        let all = [first, second.clone(), last.clone()].concat();
        let cut = 1234;
        let boundary = 5005 - cut;
        assert_eq!(find(&all[cut..], false), Found::At(boundary));
        // With the second header still to come, it may be one.
        assert_eq!(find(&all[cut..cut + boundary + 200], false), Found::NotBefore(boundary));
        assert_eq!(find(&all[cut..cut + boundary + 2], false), Found::NotBefore(boundary));
        assert_eq!(find(&all[cut..cut + boundary], false), Found::NotBefore(boundary));
        // The last one stands by itself; where the stream ends with it, that is enough.
        let tail = [&second[100..], &last].concat();
        assert_eq!(find(&tail, false), Found::NotBefore(205));
        assert_eq!(find(&tail, true), Found::At(205));
        assert_eq!(find(&tail[..tail.len() - 1], true), Found::NotBefore(205));
        // A header whose record leads nowhere is none.
        let mut lone = record(23, 100, 4);
        lone.extend_from_slice(&[0; 200]);
        assert_eq!(find(&lone, false), Found::NotBefore(lone.len()));
    }

    /// A connection whose server says these records at the end, in segments; of those, some are lost.
    fn with_loss(turns: &[(usize, Vec<u8>)], records: &[Vec<u8>], lost: &[usize]) -> (Vec<Message>, Flow) {
        let mut talk = Talk::open(443);
        for (from, bytes) in turns {
            talk.send(*from, ACK, bytes);
        }
        let before = talk.packets.len();
        talk.cut(1, &records.concat(), &[1000]);
        talk.close();
        let kept = talk
            .packets
            .iter()
            .enumerate()
            .filter(|(at, _)| !lost.contains(&at.wrapping_sub(before)));
        let packets: Vec<&Vec<u8>> = kept.map(|(_, packet)| packet).collect();
        let mut dissector = Dissector::default();
        let mut messages = feed(&mut dissector, &packets);
        messages.extend(dissector.finish());
        (messages, dissector.flows().remove(0))
    }

    #[test]
    fn records_are_told_apart_again_behind_a_hole() {
        let records: Vec<Vec<u8>> = [(5000, 1), (2500, 2), (4000, 3), (40, 4)]
            .map(|(length, seed)| record(23, length, seed))
            .to_vec();
        for version in [&TLS12, &TLS13] {
            let turns = turns(&Session::mutual(version));
            let (whole, unhurt) = with_loss(&turns, &records, &[]);
            let facts = unhurt.tls.as_ref().unwrap();
            for (lost, within, bytes) in [
                // Within the first record: its header tells where it ends.
                (&[2][..], true, 11_540),
                (&[1, 3], true, 11_540),
                // From the first into the second: what is left of that cannot be told from the rest.
                (&[5], false, 4040 + 5000),
                // The rest but the last, which ends with the stream.
                (&[5, 6, 7, 8, 9, 10], false, 5040),
            ] {
                let (messages, flow) = with_loss(&turns, &records, lost);
                let tls = flow.tls.as_ref().unwrap();
                let sent = tls.data_bytes[1] - (facts.data_bytes[1] - 11_540);
                assert_eq!(sent, bytes, "{version:?} {lost:?}");
                assert_eq!((flow.verdict, flow.encrypted), (unhurt.verdict, true), "{lost:?}");
                assert!(flow.missing_bytes > 0 && !tls.handshake_missing);
                let untold = messages
                    .iter()
                    .any(|message| message.summary.contains("cannot be told apart"));
                assert_eq!(untold, !within, "{lost:?}");
                assert!(messages.iter().any(|message| message.incomplete));
                assert!(!whole.iter().any(|message| message.incomplete));
            }
        }
    }

    #[test]
    fn a_hole_in_the_handshake_is_no_evidence_of_what_was_not_said() {
        let session = Session::mutual(&TLS12);
        let mut talk = Talk::open(443);
        for (from, bytes) in turns(&session) {
            talk.cut(from, &bytes, &[100]);
        }
        talk.close();
        for lost in 3..talk.packets.len() {
            let packets = talk.packets.iter().enumerate().filter(|(at, _)| *at != lost);
            let packets: Vec<&Vec<u8>> = packets.map(|(_, packet)| packet).collect();
            let mut dissector = Dissector::default();
            feed(&mut dissector, &packets);
            dissector.finish();
            let flow = dissector.flows().remove(0);
            let right = [FlowVerdict::EncryptedMutual, FlowVerdict::Undetermined];
            assert!(
                right.contains(&flow.verdict),
                "without packet {lost}: {:?}",
                flow.evidence
            );
            assert!(!flow.evidence.iter().any(|fact| fact.says.contains("earlier session")));
        }
    }
}
