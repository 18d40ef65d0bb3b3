//! TLS records (RFC 8446 §5, RFC 5246 §6.2): what still shows of a conversation that is encrypted.

use super::{
    Detail, Protocol, Role,
    buffer::{Buffer, Collected},
    sink::{Direction, Draft, Sink},
    text::one_line,
};

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// Bytes of a record: 2^14 and what encryption may add.
const RECORD_BYTES: usize = (1 << 14) + 2048;
/// Encrypted bytes of one turn that become one message.
const TURN_BYTES: u64 = 1 << 20;

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

#[derive(Debug, Default)]
struct Half {
    /// Encrypted records of the turn under way.
    turn: Collected,
    records: u64,
    /// From here on, handshake records and alerts are encrypted.
    encrypted: bool,
    lost: bool,
}

/// A connection that speaks TLS.
#[derive(Debug, Default)]
pub(super) struct Tls {
    halves: [Half; 2],
    version: Option<&'static str>,
}

impl Tls {
    pub(super) fn held(&self) -> usize {
        self.halves.iter().map(|half| half.turn.held()).sum()
    }

    /// Reads whole records.
    pub(super) fn advance(&mut self, direction: Direction, buffer: &mut Buffer, sink: &mut Sink<'_>) {
        if !buffer.is_empty() {
            self.flush(direction ^ 1, sink);
        }
        loop {
            let data = buffer.data();
            if self.halves[direction].lost {
                buffer.take_all(0, &mut self.halves[direction].turn);
                return;
            }
            match begins(data) {
                None => return,
                Some(false) => {
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

    fn record(&mut self, direction: Direction, kind: u8, record: Collected, sink: &mut Sink<'_>) {
        let half = &mut self.halves[direction];
        let body = record.bytes.get(5..).unwrap_or_default();
        match kind {
            CHANGE_CIPHER_SPEC => {
                half.encrypted = true;
                half.turn.span.merge(&record.span);
            }
            HANDSHAKE if !half.encrypted => self.handshake(direction, record, sink),
            ALERT if !half.encrypted && body.len() == 2 => {
                let alert = alert_name(body[1]);
                let detail = Detail::Tls {
                    record: "alert".into(),
                    sni: None,
                    version: None,
                    alert: Some(alert.clone()),
                };
                self.flush(direction, sink);
                say(
                    direction,
                    format!("TLS alert: {alert}"),
                    String::new(),
                    detail,
                    &record,
                    sink,
                );
            }
            _ => {
                half.records += 1;
                half.turn.total += body.len() as u64;
                half.turn.span.merge(&record.span);
                half.encrypted |= kind == APPLICATION_DATA;
                if half.turn.total >= TURN_BYTES {
                    self.flush(direction, sink);
                }
            }
        }
    }

    fn handshake(&mut self, direction: Direction, record: Collected, sink: &mut Sink<'_>) {
        let body = record.bytes.get(5..).unwrap_or_default();
        let (summary, text, detail) = match body.first() {
            Some(1) => {
                let hello = ClientHello::read(body);
                let sni = hello.sni.as_deref().map(|name| one_line(name.as_bytes()));
                let to = sni
                    .as_deref()
                    .map_or_else(|| "no server name".to_owned(), |name| format!("for {name}"));
                let mut text = format!("server name (in clear): {}", sni.as_deref().unwrap_or("none"));
                if !hello.alpn.is_empty() {
                    let alpn: Vec<String> = hello.alpn.iter().map(|name| one_line(name)).collect();
                    text.push_str(&format!("\napplication protocols offered: {}", alpn.join(", ")));
                }
                let version = hello.tls13.then(|| "1.3".to_owned());
                let detail = Detail::Tls {
                    record: "client-hello".into(),
                    sni,
                    version,
                    alert: None,
                };
                (format!("TLS ClientHello, {to}"), text, detail)
            }
            Some(2) => {
                let version = server_version(body);
                self.version = version;
                let shown = version.unwrap_or("version unknown");
                let detail = Detail::Tls {
                    record: "server-hello".into(),
                    sni: None,
                    version: version.map(Into::into),
                    alert: None,
                };
                (
                    format!("TLS ServerHello, {shown}"),
                    format!("version chosen: {shown}"),
                    detail,
                )
            }
            _ => {
                let detail = Detail::Tls {
                    record: "handshake".into(),
                    sni: None,
                    version: None,
                    alert: None,
                };
                ("TLS handshake".to_owned(), String::new(), detail)
            }
        };
        self.flush(direction, sink);
        say(direction, summary, text, detail, &record, sink);
    }

    /// Gives out the encrypted turn of a direction.
    pub(super) fn flush(&mut self, direction: Direction, sink: &mut Sink<'_>) {
        let half = &mut self.halves[direction];
        let turn = std::mem::take(&mut half.turn);
        let records = std::mem::take(&mut half.records);
        if turn.total == 0 {
            return;
        }
        let detail = Detail::Tls {
            record: "application-data".into(),
            sni: None,
            version: self.version.map(Into::into),
            alert: None,
        };
        let (summary, text) = if half.lost {
            let summary = format!("TLS connection, {} bytes that cannot be told apart", turn.total);
            (summary, "[the records' boundaries were lost]".to_owned())
        } else {
            (
                format!("encrypted ({} bytes)", turn.total),
                format!("[{} bytes in {records} encrypted records]", turn.total),
            )
        };
        say(direction, summary, text, detail, &turn, sink);
    }

    pub(super) fn gap(&mut self, direction: Direction, count: u64, buffer: &mut Buffer) {
        let half = &mut self.halves[direction];
        half.turn.missing += count;
        let waiting = buffer.len();
        buffer.take(waiting, 0, &mut half.turn);
        half.lost = true;
    }
}

fn say(direction: Direction, summary: String, text: String, detail: Detail, from: &Collected, sink: &mut Sink<'_>) {
    let role = match &detail {
        Detail::Tls { record, .. } if record == "client-hello" => Role::Request,
        Detail::Tls { record, .. } if record == "server-hello" => Role::Response,
        _ => Role::Event,
    };
    let mut draft = Draft::new(direction, Protocol::Tls, role, sink.limits);
    draft.summary = summary;
    draft.text.say(&text);
    draft.detail = detail;
    draft.note(from);
    sink.emit(draft);
}

/// A cursor over bytes of a stranger: every read may fail.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(
            self.take(bytes)?
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
        )
    }

    /// A vector with a length prefix of so many bytes; one that is cut short gives what there is.
    fn vector(&mut self, prefix: usize) -> Option<Cursor<'a>> {
        let length = self.number(prefix)?.min(self.0.len());
        self.take(length).map(Cursor)
    }
}

#[derive(Default)]
struct ClientHello {
    sni: Option<String>,
    alpn: Vec<Vec<u8>>,
    tls13: bool,
}

impl ClientHello {
    /// RFC 8446 §4.1.2; what cannot be read is left out.
    fn read(handshake: &[u8]) -> Self {
        let mut hello = Self::default();
        let mut extensions = match client_extensions(handshake) {
            Some(extensions) => extensions,
            None => return hello,
        };
        while let (Some(kind), Some(mut body)) = (extensions.number(2), extensions.vector(2)) {
            match kind {
                // server_name, RFC 6066 §3
                0 => {
                    let mut names = body.vector(2).unwrap_or(Cursor(&[]));
                    if names.number(1) == Some(0) {
                        hello.sni = names.vector(2).map(|name| String::from_utf8_lossy(name.0).into_owned());
                    }
                }
                // application_layer_protocol_negotiation, RFC 7301 §3.1
                16 => {
                    let mut names = body.vector(2).unwrap_or(Cursor(&[]));
                    while let Some(name) = names.vector(1).filter(|_| hello.alpn.len() < 16) {
                        hello.alpn.push(name.0.to_vec());
                    }
                }
                // supported_versions, RFC 8446 §4.2.1
                43 => {
                    let versions = body.vector(1).unwrap_or(Cursor(&[]));
                    hello.tls13 = versions.0.chunks_exact(2).any(|version| version == [3, 4]);
                }
                _ => {}
            }
        }
        hello
    }
}

fn client_extensions(handshake: &[u8]) -> Option<Cursor<'_>> {
    let mut hello = Cursor(handshake);
    hello.take(4 + 2 + 32)?;
    hello.vector(1)?;
    hello.vector(2)?;
    hello.vector(1)?;
    hello.vector(2)
}

/// The version a ServerHello chose, RFC 8446 §4.1.3 and RFC 5246 §7.4.1.3.
fn server_version(handshake: &[u8]) -> Option<&'static str> {
    let mut hello = Cursor(handshake);
    hello.take(4)?;
    let legacy = hello.number(2)?;
    let newer = || {
        hello.take(32)?;
        hello.vector(1)?;
        hello.take(3)?;
        let mut extensions = hello.vector(2)?;
        while let (Some(kind), Some(mut body)) = (extensions.number(2), extensions.vector(2)) {
            if kind == 43 {
                return body.number(2);
            }
        }
        None
    };
    let mut newer = newer;
    match newer().unwrap_or(legacy) {
        0x0304 => Some("1.3"),
        0x0303 => Some("1.2"),
        0x0302 => Some("1.1"),
        0x0301 => Some("1.0"),
        _ => None,
    }
}

/// RFC 8446 §6 and RFC 5246 §7.2.
fn alert_name(code: u8) -> String {
    match code {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        116 => "certificate_required",
        120 => "no_application_protocol",
        other => return format!("alert {other}"),
    }
    .to_owned()
}
