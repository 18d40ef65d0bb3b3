//! TLS records (RFC 8446 §5, RFC 5246 §6.2): what still shows of a conversation that is encrypted.
//!
//! Up to TLS 1.2 the handshake is in clear until both ends say ChangeCipherSpec: who shows which certificate can be
//! read. TLS 1.3 encrypts everything behind ServerHello; that there is a certificate, and whose, cannot be seen.

mod certificate;
mod facts;
mod handshake;
mod names;
mod resync;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use facts::{Certificate, TlsAlert, TlsEnd, TlsFacts};

use super::{
    Detail, Protocol, Role,
    buffer::{Buffer, Collected},
    sink::{Direction, Draft, Sink},
};

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// Bytes of a record: 2^14 and what encryption may add.
const RECORD_BYTES: usize = (1 << 14) + 2048;
/// Bytes of a handshake message; a chain of certificates is the longest.
const HANDSHAKE_BYTES: usize = 256 << 10;
/// Encrypted bytes of one turn that become one message.
const TURN_BYTES: u64 = 1 << 20;
/// Alerts remembered of one connection, and frames of its facts.
const REMEMBERED: usize = 32;

/// Whether bytes begin a TLS record; `None` where more bytes are needed to tell.
pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    let plausible = [
        |byte: u8| (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&byte),
        |byte: u8| byte == 3,
        |byte: u8| byte <= 4,
    ];
    if bytes.iter().zip(plausible).any(|(byte, plausible)| !plausible(*byte)) {
        return Some(false);
    }
    let length = u16::from_be_bytes([*bytes.get(3)?, *bytes.get(4)?]);
    Some(usize::from(length) <= RECORD_BYTES)
}

/// Encrypted records of one direction, one after another.
#[derive(Debug, Default)]
struct Turn {
    /// Content type of its records.
    kind: u8,
    bytes: Collected,
    records: u64,
}

#[derive(Debug, Default)]
struct Half {
    turn: Turn,
    /// Handshake messages, which records may cut anywhere.
    handshake: Buffer,
    /// From here on, handshake records and alerts are encrypted.
    encrypted: bool,
    /// A part of the handshake was not captured: what follows of it cannot be read.
    blind: bool,
    /// The records' boundaries are not known.
    lost: bool,
    /// Bytes that still belong to a record of which a part was not captured.
    skip: usize,
}

/// A connection that speaks TLS.
#[derive(Debug, Default)]
pub(super) struct Tls {
    halves: [Half; 2],
    /// The direction of the client, once a hello was seen.
    client: Option<Direction>,
    facts: TlsFacts,
    /// Bytes that the facts hold.
    size: usize,
    asked: Option<u64>,
}

impl Tls {
    pub(super) fn held(&self) -> usize {
        let halves = self
            .halves
            .iter()
            .map(|half| half.turn.bytes.held() + half.handshake.held());
        halves.sum::<usize>() + self.size
    }

    /// What is known of it.
    pub(super) fn facts(&self) -> &TlsFacts {
        &self.facts
    }

    /// The direction of the client, once known.
    pub(super) fn client(&self) -> Option<Direction> {
        self.client
    }

    /// Reads whole records.
    pub(super) fn advance(&mut self, direction: Direction, buffer: &mut Buffer, sink: &mut Sink<'_>) {
        if !buffer.is_empty() {
            self.flush(direction ^ 1, sink);
        }
        loop {
            if !self.found(direction, buffer, false, sink) {
                return;
            }
            let data = buffer.data();
            match begins(data) {
                None => return,
                Some(false) => {
                    self.flush(direction, sink);
                    self.halves[direction].lost = true;
                    continue;
                }
                Some(true) => {}
            }
            let length = 5 + usize::from(u16::from_be_bytes([data[3], data[4]]));
            if data.len() < length {
                return;
            }
            let kind = data[0];
            let mut record = Collected::default();
            buffer.take(length, length, &mut record);
            self.record(direction, kind, record, sink);
        }
    }

    fn by_client(&self, direction: Direction) -> bool {
        self.client.map_or(direction == 0, |client| client == direction)
    }

    fn end(&self, direction: Direction) -> TlsEnd {
        if self.by_client(direction) {
            TlsEnd::Client
        } else {
            TlsEnd::Server
        }
    }

    fn record(&mut self, direction: Direction, kind: u8, record: Collected, sink: &mut Sink<'_>) {
        let end = self.end(direction) as usize;
        let half = &mut self.halves[direction];
        let body = record.bytes.get(5..).unwrap_or_default();
        match kind {
            CHANGE_CIPHER_SPEC => {
                // In TLS 1.3 it means nothing (RFC 8446 §5), and a second ClientHello in clear may follow.
                if !self.facts.is_13() {
                    half.encrypted = true;
                    self.facts.encrypted[end] = true;
                    // Without certificates before it, the server takes up an earlier session (RFC 5246 §7.3).
                    let server = end == TlsEnd::Server as usize;
                    let seen = self.facts.version.is_some() && !self.facts.handshake_missing;
                    self.facts.resumed |= server && seen && self.facts.server_certificates.is_empty();
                }
                self.flush(direction, sink);
                let half = &mut self.halves[direction];
                half.turn.bytes.span.merge(&record.span);
            }
            HANDSHAKE if !half.encrypted && !half.blind => {
                for (mark, bytes) in record.parts(5..record.bytes.len()) {
                    half.handshake.push(bytes, mark);
                }
                self.handshakes(direction, sink);
            }
            // An encrypted alert is longer.
            ALERT if body.len() == 2 => self.alert(direction, body[0], body[1], &record, sink),
            _ => {
                if half.turn.kind != kind {
                    self.flush(direction, sink);
                }
                self.encrypted(direction, kind, body.len(), &record, sink);
            }
        }
    }

    fn encrypted(&mut self, direction: Direction, kind: u8, length: usize, record: &Collected, sink: &mut Sink<'_>) {
        let end = self.end(direction);
        let half = &mut self.halves[direction];
        half.turn.kind = kind;
        half.turn.records += 1;
        half.turn.bytes.total += length as u64;
        half.turn.bytes.span.merge(&record.span);
        half.encrypted |= kind == APPLICATION_DATA;
        self.facts.encrypted[end as usize] |= half.encrypted;
        if kind == APPLICATION_DATA {
            self.facts.data_bytes[end as usize] += length as u64;
            self.facts.data_records[end as usize] += 1;
            match end {
                TlsEnd::Client => self.facts.server_records_since_client = 0,
                TlsEnd::Server => {
                    self.facts.last_server_record = length as u64;
                    self.facts.server_records_since_client += 1;
                }
            }
        }
        if kind == ALERT {
            self.remember(TlsAlert {
                from: end,
                name: None,
                fatal: false,
                frame: record.span.frames.first().copied().unwrap_or_default(),
            });
        }
        if self.halves[direction].turn.bytes.total >= TURN_BYTES {
            self.flush(direction, sink);
        }
    }

    fn remember(&mut self, alert: TlsAlert) {
        if self.facts.alerts.len() < REMEMBERED {
            self.facts.alerts.push(alert);
        }
    }

    fn alert(&mut self, direction: Direction, level: u8, code: u8, record: &Collected, sink: &mut Sink<'_>) {
        let name = names::alert(code);
        self.remember(TlsAlert {
            from: self.end(direction),
            name: Some(name.clone()),
            fatal: level == 2,
            frame: record.span.frames.first().copied().unwrap_or_default(),
        });
        self.flush(direction, sink);
        let mut detail = self.detail("alert", Vec::new());
        if let Detail::Tls { alert, .. } = &mut detail {
            *alert = Some(name.clone());
        }
        let level = if level == 2 { "fatal" } else { "warning" };
        self.say(
            direction,
            format!("TLS alert: {name}"),
            level.to_owned(),
            detail,
            record,
            sink,
        );
    }

    /// Reads whole handshake messages.
    fn handshakes(&mut self, direction: Direction, sink: &mut Sink<'_>) {
        loop {
            let half = &mut self.halves[direction];
            let data = half.handshake.data();
            let Some(header) = data.first_chunk::<4>() else { return };
            let length = 4 + (usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]));
            if length > HANDSHAKE_BYTES {
                half.handshake.skip(half.handshake.len());
                half.encrypted = true;
                return;
            }
            if data.len() < length {
                return;
            }
            let kind = header[0];
            let mut message = Collected::default();
            half.handshake.take(length, length, &mut message);
            match kind {
                1 => self.client = Some(direction),
                2 => self.client = self.client.or(Some(direction ^ 1)),
                _ => {}
            }
            let by_client = self.by_client(direction);
            let step = handshake::read(&message.bytes, by_client, &mut self.facts);
            self.size = self.facts.size();
            if self.facts.frames.len() < REMEMBERED {
                self.facts.frames.extend(message.span.frames.first());
            }
            self.flush(direction, sink);
            let detail = self.detail(step.record, step.certificates);
            self.say(direction, step.summary, step.lines.join("\n"), detail, &message, sink);
        }
    }

    /// What is known that belongs to a message of this kind.
    fn detail(&self, record: &str, certificates: Vec<Certificate>) -> Detail {
        let facts = &self.facts;
        let (version, alpn, ciphers) = match record {
            "client-hello" => (
                facts.versions_offered.first().cloned(),
                facts.alpn_offered.clone(),
                facts.ciphers_offered.clone(),
            ),
            "server-hello" | "hello-retry-request" => (
                facts.version.clone(),
                facts.alpn.iter().cloned().collect(),
                facts.cipher.iter().cloned().collect(),
            ),
            _ => (facts.version.clone(), Vec::new(), Vec::new()),
        };
        Detail::Tls {
            record: record.to_owned(),
            sni: facts.sni.clone().filter(|_| record == "client-hello"),
            version,
            alert: None,
            alpn,
            ciphers,
            certificates,
        }
    }

    /// Gives out the encrypted turn of a direction.
    pub(super) fn flush(&mut self, direction: Direction, sink: &mut Sink<'_>) {
        let Turn { kind, bytes, records } = std::mem::take(&mut self.halves[direction].turn);
        if bytes.total == 0 {
            // What is missing is missing before whatever comes next.
            self.halves[direction].turn.bytes.missing = bytes.missing;
            return;
        }
        let total = bytes.total;
        let (record, summary, text) = if self.halves[direction].lost {
            let summary = format!("TLS connection, {total} bytes that cannot be told apart");
            (
                "application-data",
                summary,
                "[the records' boundaries were lost]".to_owned(),
            )
        } else {
            let text = format!("[{total} bytes in {records} encrypted records]");
            match kind {
                HANDSHAKE => ("finished", "encrypted end of the handshake".to_owned(), text),
                ALERT => ("alert", "encrypted alert: what it says cannot be seen".to_owned(), text),
                _ => (
                    "application-data",
                    format!("encrypted ({total} bytes)"),
                    self.hidden(direction, text),
                ),
            }
        };
        let detail = self.detail(record, Vec::new());
        self.say(direction, summary, text, detail, &bytes, sink);
    }

    /// The first encrypted records of TLS 1.3 are the rest of the handshake.
    fn hidden(&self, direction: Direction, text: String) -> String {
        let end = self.end(direction) as usize;
        let sent = self.facts.data_bytes[1 - end];
        match (self.facts.is_13(), self.end(direction)) {
            (true, TlsEnd::Server) if sent == 0 => {
                format!("{text}\n[TLS 1.3: the server's certificate is in here, and whether it asks for the client's]")
            }
            (true, TlsEnd::Client) if self.facts.data_records[end] <= 4 => {
                format!("{text}\n[TLS 1.3: the client's certificate would be in here, had it one]")
            }
            _ => text,
        }
    }

    fn say(
        &mut self,
        direction: Direction,
        summary: String,
        text: String,
        detail: Detail,
        from: &Collected,
        sink: &mut Sink<'_>,
    ) {
        let record = match &detail {
            Detail::Tls { record, .. } => record.clone(),
            _ => String::new(),
        };
        let role = match record.as_str() {
            "client-hello" => Role::Request,
            "server-hello" | "hello-retry-request" => Role::Response,
            _ => Role::Event,
        };
        let mut draft = Draft::new(direction, Protocol::Tls, role, sink.limits);
        draft.summary = summary;
        draft.text.say(&text);
        draft.detail = detail;
        draft.note(from);
        if role == Role::Response {
            draft.in_reply_to = self.asked.take();
        }
        let seq = sink.emit(draft);
        if role == Role::Request {
            self.asked = Some(seq);
        }
    }
}
