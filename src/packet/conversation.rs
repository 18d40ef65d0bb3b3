//! What is known of a conversation as a whole, and how it is judged.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use super::{
    CapturePoint, Detail, LeakKind, Message, Peer, Protocol, TlsEnd, TlsFacts, Transport,
    sink::{Conversation, Direction},
};

/// Who can read a conversation, and who proved to whom who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowVerdict {
    /// Whoever sees its packets reads what is said.
    Readable,
    /// Encrypted; only the server showed a certificate.
    EncryptedOneSided,
    /// Encrypted; both showed a certificate and proved its key.
    EncryptedMutual,
    /// One side refused the other: the connection, or the handshake.
    Refused,
    /// The capture does not show it. It may well be encrypted: see [`Flow::encrypted`].
    Undetermined,
}

impl FlowVerdict {
    /// Every verdict.
    pub const ALL: [FlowVerdict; 5] = [
        FlowVerdict::Readable,
        FlowVerdict::EncryptedOneSided,
        FlowVerdict::EncryptedMutual,
        FlowVerdict::Refused,
        FlowVerdict::Undetermined,
    ];

    /// The name used in filters and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            FlowVerdict::Readable => "readable",
            FlowVerdict::EncryptedOneSided => "encrypted-one-sided",
            FlowVerdict::EncryptedMutual => "encrypted-mutual",
            FlowVerdict::Refused => "refused",
            FlowVerdict::Undetermined => "undetermined",
        }
    }
}

impl fmt::Display for FlowVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that was seen, and in which frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What, in words, safe for a terminal.
    pub says: String,
    /// The frame, counted from 1, where one shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<u64>,
}

impl Fact {
    pub(super) fn new(frame: Option<u64>, says: impl Into<String>) -> Self {
        Self {
            says: says.into(),
            frame: frame.filter(|frame| *frame > 0),
        }
    }
}

/// A conversation: a TCP connection, or what went between two UDP ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Its number, as [`Message::flow`] has it.
    pub id: u64,
    /// TCP or UDP.
    pub transport: Transport,
    /// Who opened it, as far as that was seen.
    pub client: Peer,
    /// Who was asked.
    pub server: Peer,
    /// What was spoken last: TLS where it began in clear and went over to TLS.
    pub protocol: Protocol,
    /// When its first packet was seen, in nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// When its last packet was seen.
    pub last_ns: u64,
    /// Packets from the client and from the server.
    pub packets: [u64; 2],
    /// Bytes of payload from the client and from the server, repetitions included.
    pub bytes: [u64; 2],
    /// Bytes of it that the capture never saw.
    pub missing_bytes: u64,
    /// How many secrets of each kind could be read.
    pub leaks: BTreeMap<LeakKind, u64>,
    /// Whether what is said is encrypted, whoever proved who they are.
    pub encrypted: bool,
    /// What shows of its TLS.
    pub tls: Option<TlsFacts>,
    /// How it is judged.
    pub verdict: FlowVerdict,
    /// By what.
    pub evidence: Vec<Fact>,
    /// What still shows of an encrypted conversation; empty where all of it does.
    pub still_shows: Vec<String>,
    /// Interface index of its first frame, where the capture recorded it (SLL2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
    /// Where it was captured; `None` in a file that does not say. The frames of its evidence are counted there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<CapturePoint>,
    /// The other points at which it was seen and judged the same, where several were captured together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<CapturePoint>,
}

/// What is gathered while a conversation goes on.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    first_ns: u64,
    last_ns: u64,
    packets: [u64; 2],
    bytes: [u64; 2],
    pub missing_bytes: u64,
    leaks: BTreeMap<LeakKind, u64>,
    protocol: Option<Protocol>,
    /// The first message that could be read: its frame and what it was.
    readable: Option<(u64, String)>,
    /// Bytes that no decoder knows and that are no text: the first frame.
    opaque: Option<u64>,
    /// The direction of the first message that asks.
    asker: Option<SocketAddr>,
    pub tls: Option<TlsFacts>,
    pub opened: bool,
    pub unanswered: bool,
    pub closed: bool,
    /// The connection was refused: in which frame, in which words.
    pub refused: Option<(u64, String)>,
    /// Who broke it off, and in which frame.
    pub reset: Option<(Direction, u64)>,
    /// Something was said, or it ended, since somebody was last told.
    pub news: bool,
    size: usize,
}

impl Seen {
    pub(super) fn new(first_ns: u64) -> Self {
        Self {
            first_ns,
            ..Self::default()
        }
    }

    pub(super) fn packet(&mut self, direction: Direction, bytes: usize, ts_ns: u64) {
        self.last_ns = ts_ns;
        self.packets[direction & 1] += 1;
        self.bytes[direction & 1] += bytes as u64;
    }

    /// Bytes it holds beside the facts of a TLS connection that goes on, about.
    pub(super) fn held(&self) -> usize {
        self.size
    }

    /// What showed of TLS, once the connection is over.
    pub(super) fn encrypted(&mut self, facts: TlsFacts) {
        self.size += facts.size();
        self.tls = Some(facts);
    }

    /// Takes note of what was said.
    pub(super) fn messages(&mut self, messages: &[Message]) {
        self.news |= !messages.is_empty();
        for message in messages {
            for leak in &message.leaks {
                *self.leaks.entry(leak.kind).or_default() += 1;
            }
            if let Detail::Connection { .. } = message.detail {
                continue;
            }
            self.protocol = Some(message.protocol);
            let frame = message.frames.first().copied().unwrap_or_default();
            if message.role == super::Role::Request {
                self.asker.get_or_insert(message.from.addr);
            }
            match says_something(message) {
                Some(true) if self.readable.is_none() => {
                    let what = format!("{} in clear: {}", message.protocol, message.summary);
                    self.size += what.len();
                    self.readable = Some((frame, what));
                }
                Some(true) => {}
                Some(false) => {
                    self.opaque.get_or_insert(frame);
                }
                None => {}
            }
        }
    }
}

/// Whether a message's content could be read; `None` where it has none that counts.
fn says_something(message: &Message) -> Option<bool> {
    match (&message.detail, message.protocol) {
        (_, Protocol::Tls) => None,
        // What comes before encryption is agreed upon gives nothing away but the wish for it.
        (Detail::PostgresLogin { step, .. }, _) if step.starts_with("ssl-") => None,
        (_, Protocol::Http | Protocol::Postgres | Protocol::Dns) => Some(true),
        (_, Protocol::Tcp | Protocol::Udp) => {
            if !message.text.contains('\\') {
                return (!message.text.is_empty()).then_some(true);
            }
            // Each escape stands for a byte that is no text.
            let escaped = message.text.matches("\\x").count() + message.text.matches("\\u{").count();
            let shown = message.text.chars().count().saturating_sub(escaped * 4) + escaped;
            (shown > 0).then_some(escaped * 10 <= shown)
        }
    }
}

impl Flow {
    pub(super) fn of(conversation: &Conversation, client: Option<Direction>, seen: Seen) -> Self {
        let asker = seen
            .asker
            .and_then(|addr| conversation.ends.iter().position(|end| *end == addr));
        // Who opened it was seen, or is told by what was said, or is likely the one with the higher port.
        let ports = usize::from(conversation.ends[0].port() < conversation.ends[1].port());
        let client = match (conversation.midway, client.or(asker)) {
            (false, _) => 0,
            (true, Some(client)) => client & 1,
            (true, None) => ports,
        };
        let (verdict, evidence) = judge(&seen, client);
        let turned = |pair: [u64; 2]| if client == 0 { pair } else { [pair[1], pair[0]] };
        let encrypted = seen.readable.is_none() && seen.tls.as_ref().is_some_and(|tls| tls.encrypted != [false; 2]);
        let mut flow = Flow {
            id: conversation.id,
            transport: conversation.transport,
            client: Peer::unnamed(conversation.ends[client]),
            server: Peer::unnamed(conversation.ends[1 - client]),
            protocol: match (&seen.tls, seen.protocol, conversation.transport) {
                (Some(_), ..) => Protocol::Tls,
                (None, Some(protocol), _) => protocol,
                (None, None, Transport::Tcp) => Protocol::Tcp,
                (None, None, Transport::Udp) => Protocol::Udp,
            },
            first_ns: seen.first_ns,
            last_ns: seen.last_ns,
            packets: turned(seen.packets),
            bytes: turned(seen.bytes),
            missing_bytes: seen.missing_bytes,
            leaks: seen.leaks,
            encrypted,
            tls: seen.tls,
            verdict,
            evidence,
            still_shows: Vec::new(),
            ifindex: conversation.ifindex,
            point: None,
            also: Vec::new(),
        };
        if flow.encrypted {
            flow.still_shows = still_shows(&flow);
        }
        flow
    }

    /// Bytes it holds, about.
    pub(super) fn size(&self) -> usize {
        let evidence: usize = self.evidence.iter().map(|fact| fact.says.len() + 48).sum();
        let shows: usize = self.still_shows.iter().map(|shown| shown.len() + 24).sum();
        512 + evidence + shows + self.tls.as_ref().map_or(0, TlsFacts::size)
    }
}

fn judge(seen: &Seen, client: Direction) -> (FlowVerdict, Vec<Fact>) {
    let mut evidence = Vec::new();
    if let Some((frame, what)) = &seen.refused {
        return (FlowVerdict::Refused, vec![Fact::new(Some(*frame), what.clone())]);
    }
    if let Some((frame, what)) = &seen.readable {
        evidence.push(Fact::new(Some(*frame), what.clone()));
        let leaks: u64 = seen.leaks.values().sum();
        match leaks {
            0 => {}
            1 => evidence.push(Fact::new(None, "a secret could be read")),
            leaks => evidence.push(Fact::new(None, format!("{leaks} secrets could be read"))),
        }
        return (FlowVerdict::Readable, evidence);
    }
    if let Some(tls) = &seen.tls {
        let verdict = judge_tls(tls, seen, client, &mut evidence);
        return (verdict, evidence);
    }
    let why = match (seen.unanswered, seen.opaque) {
        (true, _) => Fact::new(None, "nobody answered: dropped on the way, or nobody is there"),
        (_, Some(frame)) => Fact::new(Some(frame), "bytes that no decoder knows, and that are no text"),
        (..) => Fact::new(None, "nothing was said"),
    };
    (FlowVerdict::Undetermined, vec![why])
}

fn judge_tls(tls: &TlsFacts, seen: &Seen, client: Direction, evidence: &mut Vec<Fact>) -> FlowVerdict {
    let frame = tls.frames.first().copied();
    if let Some(version) = &tls.version {
        let cipher = tls.cipher.as_deref().unwrap_or("a cipher suite that was not seen");
        evidence.push(Fact::new(
            tls.frames.get(1).copied(),
            format!("TLS {version} with {cipher}"),
        ));
    }
    let data = tls.data_bytes;
    let fatal = tls.alerts.iter().find(|alert| alert.fatal && alert.name.is_some());
    let early = data[1] == 0 || !tls.established();
    if let (Some(alert), true) = (fatal, early) {
        let who = end_name(alert.from);
        let name = alert.name.as_deref().unwrap_or_default();
        evidence.push(Fact::new(
            Some(alert.frame),
            format!("the {who} refused the handshake: {name}"),
        ));
        return FlowVerdict::Refused;
    }
    if !tls.established() {
        if let (Some((direction, frame)), true) = (seen.reset, tls.version.is_some() || frame.is_some()) {
            let who = if direction == client { "client" } else { "server" };
            evidence.push(Fact::new(Some(frame), format!("the {who} broke the handshake off")));
            return FlowVerdict::Refused;
        }
        evidence.push(Fact::new(frame, "the handshake was not seen to its end"));
        return FlowVerdict::Undetermined;
    }
    if tls.is_13() {
        evidence.push(Fact::new(
            None,
            "TLS 1.3 encrypts the certificates: whether the client showed one, only a probe with and one without tells",
        ));
        if seen.closed && data[1] > 0 && tls.data_records[0] > 0 {
            probably_refused(tls, seen, client, evidence);
        }
        return FlowVerdict::Undetermined;
    }
    if tls.resumed {
        evidence.push(Fact::new(
            None,
            "an earlier session was taken up again, without certificates",
        ));
        return FlowVerdict::Undetermined;
    }
    let Some(server) = tls.server_certificates.first() else {
        evidence.push(Fact::new(frame, "the server's certificate was not seen"));
        return FlowVerdict::Undetermined;
    };
    evidence.push(Fact::new(frame, format!("the server showed {}", server.describe())));
    match tls.client_certificates.as_deref() {
        Some([first, ..]) if tls.client_proved => {
            evidence.push(Fact::new(frame, format!("the client showed {}", first.describe())));
            FlowVerdict::EncryptedMutual
        }
        Some([_, ..]) => {
            evidence.push(Fact::new(
                frame,
                "the client showed a certificate and did not prove its key",
            ));
            FlowVerdict::Undetermined
        }
        Some([]) => {
            evidence.push(Fact::new(
                frame,
                "the server asked for a client certificate, the client had none",
            ));
            FlowVerdict::EncryptedOneSided
        }
        None if tls.handshake_missing || tls.certificate_requested => {
            evidence.push(Fact::new(
                frame,
                "a part of the handshake was not captured: the client may have shown a certificate",
            ));
            FlowVerdict::Undetermined
        }
        None => {
            evidence.push(Fact::new(frame, "the server did not ask for a client certificate"));
            FlowVerdict::EncryptedOneSided
        }
    }
}

/// Bytes of a TLS 1.3 record that holds an alert: level, description, content type, and the tag of the cipher
/// (RFC 8446 §5.2).
const ALERT_RECORD: u64 = 19;

/// In TLS 1.3 a refusal of the client's certificate is an encrypted alert; its size and the end that follows show.
fn probably_refused(tls: &TlsFacts, seen: &Seen, client: Direction, evidence: &mut Vec<Fact>) {
    let broken = seen.reset.is_some_and(|(direction, _)| direction != client);
    if tls.last_server_record == ALERT_RECORD && tls.server_records_since_client <= 1 {
        let words = "the server's only answer to the client's part of the handshake has the size of an alert: \
                     probably a refusal, which only the client could read";
        evidence.push(Fact::new(seen.reset.filter(|_| broken).map(|(_, frame)| frame), words));
    }
}

const fn end_name(end: TlsEnd) -> &'static str {
    match end {
        TlsEnd::Client => "client",
        TlsEnd::Server => "server",
    }
}

/// What whoever sees the packets of an encrypted conversation still learns.
fn still_shows(flow: &Flow) -> Vec<String> {
    let mut shows = vec![format!(
        "who talks to whom: {} to {}",
        flow.client.addr, flow.server.addr
    )];
    let Some(tls) = &flow.tls else { return shows };
    if let Some(sni) = &tls.sni {
        shows.push(format!("the server's name, asked for in clear: {sni}"));
    }
    if !tls.alpn_offered.is_empty() {
        shows.push(format!(
            "the application protocols offered: {}",
            tls.alpn_offered.join(", ")
        ));
    }
    let certificates = tls.server_certificates.iter().take(1).map(|one| ("server", one));
    let clients = tls
        .client_certificates
        .iter()
        .flatten()
        .take(1)
        .map(|one| ("client", one));
    for (who, certificate) in certificates.chain(clients) {
        shows.push(format!("the {who}'s certificate: {}", certificate.describe()));
    }
    let least = if flow.missing_bytes > 0 { "at least " } else { "" };
    shows.push(format!(
        "sizes: {least}{} bytes in {} records there, {} bytes in {} records back",
        tls.data_bytes[0], tls.data_records[0], tls.data_bytes[1], tls.data_records[1]
    ));
    let span = flow.last_ns.saturating_sub(flow.first_ns) / 1_000_000;
    shows.push(format!("when, and for how long: {span} ms"));
    shows
}
