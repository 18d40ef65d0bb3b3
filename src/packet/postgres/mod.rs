//! The PostgreSQL frontend/backend protocol, version 3 (PostgreSQL manual, "Frontend/Backend Protocol").
//!
//! Frontend messages up to a `Query`, `Sync` or `Flush` become one message; so do backend messages up to
//! `ReadyForQuery` or a demand for authentication.

mod body;
mod turn;

use body::{be32, bind, c_string, column_names, fields, row, slice, strip_nul};
use turn::Turn;

use super::{
    Detail, LeakKind, Protocol, Role,
    buffer::{Buffer, Collected},
    leak::Found,
    sink::{Direction, Draft, Sink},
    text::{one_line, one_long_line},
};

/// The well-known port.
pub(super) const PORT: u16 = 5432;

const PROTOCOL_3: u32 = 0x0003_0000;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
/// Bytes a startup packet may have (the server's own limit).
const STARTUP_BYTES: usize = 10_000;
/// Bytes of one protocol message that are looked at; the rest is counted.
const KEEP: usize = 64 << 10;

/// Whether bytes begin a PostgreSQL session; `None` where more bytes are needed to tell.
pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    if bytes.first().is_some_and(|byte| *byte != 0) || bytes.get(1).is_some_and(|byte| *byte != 0) {
        return Some(false);
    }
    let (length, code) = (be32(bytes, 0)?, be32(bytes, 4)?);
    let length = length as usize;
    Some(match code {
        CANCEL_REQUEST => length == 16,
        SSL_REQUEST | GSSENC_REQUEST => length == 8,
        code if code & 0xffff_0000 == PROTOCOL_3 && (9..=STARTUP_BYTES).contains(&length) => {
            // The name of a parameter, or the end of them. The middle of a ClientHello has the same numbers at times.
            let name = *bytes.get(8)?;
            name == 0 || name.is_ascii_graphic()
        }
        _ => false,
    })
}

/// Whether bytes look like a typed message of a session whose opening was not seen.
pub(super) fn continues(bytes: &[u8]) -> Option<bool> {
    let kind = *bytes.first()?;
    if !kind.is_ascii_alphanumeric() {
        return Some(false);
    }
    let length = be32(bytes, 1)?;
    Some((4..1 << 20).contains(&length))
}

/// What the decoder says after looking at what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Wait,
    /// The server agreed to TLS: both directions are TLS from here on.
    Tls,
    NotMine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Auth {
    Unknown,
    Cleartext,
    Md5,
    Sasl,
    Other,
}

/// A message of the wire under way: how much of it is still to come.
#[derive(Debug)]
struct Wire {
    kind: u8,
    left: usize,
    bytes: Collected,
}

#[derive(Debug, Default)]
struct Half {
    wire: Option<Wire>,
    turn: Turn,
    lost: bool,
}

/// A connection that speaks PostgreSQL.
#[derive(Debug)]
pub(super) struct Postgres {
    halves: [Half; 2],
    /// The direction of the one who asks, once known.
    frontend: Option<Direction>,
    /// Whether typed messages follow in the frontend's direction.
    started: bool,
    /// The frontend asked for encryption and waits for one byte.
    encryption_asked: bool,
    auth: Auth,
    /// The server let the user in, or the session was met under way.
    open: bool,
    user: Option<String>,
    database: Option<String>,
    asked: Option<u64>,
}

impl Postgres {
    /// A session seen from its start by `frontend`, or (`None`) met under way.
    pub(super) fn new(frontend: Option<Direction>, started: bool) -> Self {
        Self {
            halves: Default::default(),
            frontend,
            started,
            encryption_asked: false,
            auth: Auth::Unknown,
            open: frontend.is_none(),
            user: None,
            database: None,
            asked: None,
        }
    }

    pub(super) fn held(&self) -> usize {
        self.halves
            .iter()
            .map(|half| half.turn.held + half.turn.span.held() + half.wire.as_ref().map_or(0, |wire| wire.bytes.held()))
            .sum()
    }

    /// Reads as far as the bytes go.
    pub(super) fn advance(&mut self, direction: Direction, buffer: &mut Buffer, sink: &mut Sink<'_>) -> Progress {
        let asking = self.frontend == Some(direction);
        loop {
            if self.halves[direction].lost {
                buffer.skip(buffer.len());
                return Progress::Wait;
            }
            if self.encryption_asked && !asking {
                if buffer.is_empty() {
                    return Progress::Wait;
                }
                match self.encryption_answer(direction, buffer, sink) {
                    Some(progress) => return progress,
                    None => continue,
                }
            }
            let more = if asking && !self.started {
                self.startup(direction, buffer, sink)
            } else {
                self.typed(direction, buffer, sink)
            };
            match more {
                Some(true) => {}
                Some(false) => return Progress::Wait,
                None => return Progress::NotMine,
            }
        }
    }

    /// A startup packet: has no type byte. `Some(false)` when more bytes are needed, `None` when it is none.
    fn startup(&mut self, direction: Direction, buffer: &mut Buffer, sink: &mut Sink<'_>) -> Option<bool> {
        let Some(known) = begins(buffer.data()) else {
            return Some(false);
        };
        if !known {
            return None;
        }
        let length = be32(buffer.data(), 0)? as usize;
        if buffer.len() < length {
            return Some(false);
        }
        let mut packet = Collected::default();
        buffer.take(length, length, &mut packet);
        let mut draft = Draft::new(direction, Protocol::Postgres, Role::Request, sink.limits);
        draft.note(&packet);
        let step = match be32(&packet.bytes, 4)? {
            SSL_REQUEST | GSSENC_REQUEST => {
                self.encryption_asked = true;
                draft.summary = "asks for encryption".into();
                "ssl-request"
            }
            CANCEL_REQUEST => {
                draft.summary = "asks to cancel a query".into();
                "cancel"
            }
            _ => {
                self.started = true;
                self.parameters(&mut draft, &packet);
                "startup"
            }
        };
        let summary = draft.summary.clone();
        if draft.text.len() == 0 {
            draft.text.say(&summary);
        }
        draft.detail = self.login(step, None);
        self.asked = Some(sink.emit(draft));
        Some(true)
    }

    /// The parameters of a StartupMessage: pairs of NUL-terminated strings.
    fn parameters(&mut self, draft: &mut Draft, packet: &Collected) {
        draft.text.say("StartupMessage");
        let mut at = 8;
        while let Some((name, value)) = c_string(&packet.bytes, at)
            .filter(|name| !name.is_empty())
            .and_then(|name| Some((name.clone(), c_string(&packet.bytes, name.end + 1)?)))
        {
            draft.text.line("  ");
            draft.text.bytes(packet, name.clone());
            draft.text.say(" = ");
            draft.text.bytes(packet, value.clone());
            let shown = Some(one_line(&packet.bytes[value.clone()]));
            match &packet.bytes[name] {
                b"user" => self.user = shown,
                b"database" => self.database = shown,
                _ => {}
            }
            at = value.end + 1;
        }
        let user = self.user.as_deref().unwrap_or("nobody");
        // The manual: the database defaults to the user's name.
        let database = self.database.as_deref().unwrap_or(user);
        draft.summary = format!("opens a session as {user} on database {database}");
    }

    fn encryption_answer(
        &mut self,
        direction: Direction,
        buffer: &mut Buffer,
        sink: &mut Sink<'_>,
    ) -> Option<Progress> {
        self.encryption_asked = false;
        let (summary, progress) = match buffer.data()[0] {
            b'S' | b'G' => ("agrees to encryption", Some(Progress::Tls)),
            b'N' => ("refuses encryption: what follows is readable", None),
            // An ErrorMessage of a server that does not know the request.
            b'E' => return None,
            _ => return Some(Progress::NotMine),
        };
        let mut answer = Collected::default();
        buffer.take(1, 1, &mut answer);
        let mut draft = Draft::new(direction, Protocol::Postgres, Role::Response, sink.limits);
        draft.note(&answer);
        draft.summary = summary.into();
        draft.text.say(summary);
        draft.in_reply_to = self.asked.take();
        draft.detail = self.login("ssl-answer", None);
        sink.emit(draft);
        progress
    }

    /// A typed message: type, length, body. Results as of [`Self::startup`].
    fn typed(&mut self, direction: Direction, buffer: &mut Buffer, sink: &mut Sink<'_>) -> Option<bool> {
        let half = &mut self.halves[direction];
        if half.wire.is_none() {
            if buffer.len() < 5 {
                return Some(false);
            }
            let data = buffer.data();
            let (kind, length) = (data[0], be32(data, 1)? as usize);
            if !kind.is_ascii_alphanumeric() || !(4..1 << 30).contains(&length) {
                return None;
            }
            let mut header = Collected::default();
            buffer.take(5, 0, &mut header);
            let bytes = Collected::seen(header.span, 0);
            half.wire = Some(Wire {
                kind,
                left: length - 4,
                bytes,
            });
        }
        let wire = half.wire.as_mut()?;
        let before = buffer.len();
        buffer.take(wire.left, KEEP, &mut wire.bytes);
        wire.left -= before - buffer.len();
        if wire.left > 0 {
            return Some(false);
        }
        let wire = half.wire.take()?;
        let frontend = *self.frontend.get_or_insert_with(|| met(wire.kind, direction));
        if frontend == direction {
            self.frontend_message(direction, wire, sink);
        } else {
            self.backend_message(direction, wire, sink);
        }
        Some(true)
    }

    fn frontend_message(&mut self, direction: Direction, wire: Wire, sink: &mut Sink<'_>) {
        let body = wire.bytes;
        let bytes = body.bytes.clone();
        let turn = &mut self.halves[direction].turn;
        match wire.kind {
            b'p' => self.password(direction, body, sink),
            b'Q' => {
                turn.sql = c_string(&bytes, 0).map(|sql| String::from_utf8_lossy(&bytes[sql]).into_owned());
                turn.show("Query: ", strip_nul(body));
                self.flush(direction, sink);
            }
            b'P' => {
                if let Some(sql) = c_string(&bytes, 0).and_then(|name| c_string(&bytes, name.end + 1)) {
                    turn.sql = Some(String::from_utf8_lossy(&bytes[sql.clone()]).into_owned());
                    turn.show("Parse: ", slice(body, sql));
                }
            }
            b'B' => bind(turn, body),
            b'X' => {
                turn.say("Terminate");
                turn.span.span.merge(&body.span);
                self.flush(direction, sink);
            }
            // Sync and Flush let the other side speak.
            b'S' | b'H' => {
                turn.span.span.merge(&body.span);
                self.flush(direction, sink);
            }
            b'd' => turn.show("CopyData: ", body),
            b'E' => {
                turn.say("Execute");
                turn.span.span.merge(&body.span);
            }
            // Describe and Close say nothing that a reader misses.
            _ => turn.span.span.merge(&body.span),
        }
    }

    /// `p` is a password, or a step of SASL or GSSAPI: what the server asked for decides.
    fn password(&mut self, direction: Direction, body: Collected, sink: &mut Sink<'_>) {
        self.flush(direction, sink);
        let mut draft = Draft::new(direction, Protocol::Postgres, Role::Request, sink.limits);
        let method = match self.auth {
            Auth::Cleartext => {
                draft.text.say("PasswordMessage: ");
                let end = body
                    .bytes
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(body.bytes.len());
                let range = draft.text.bytes(&body, 0..end);
                draft.summary = "sends the password in clear".into();
                draft.found.push(Found {
                    kind: LeakKind::DatabaseLogin,
                    value: draft.text.as_str()[range.clone()].to_owned(),
                    account: self.user.clone(),
                    range,
                });
                Some("cleartext")
            }
            Auth::Md5 => {
                draft.summary = "sends a salted MD5 hash of the password".into();
                draft.text.say("PasswordMessage: ");
                draft.text.bytes(&body, 0..body.bytes.len().saturating_sub(1));
                Some("md5")
            }
            Auth::Sasl => {
                draft.summary = "proves the password without sending it (SCRAM)".into();
                draft.text.say("SASL: ");
                draft.text.bytes(&body, 0..body.bytes.len());
                Some("scram-sha-256")
            }
            Auth::Other | Auth::Unknown => {
                draft.summary = "answers a demand for authentication that was not seen or is not known".into();
                None
            }
        };
        draft.note(&body);
        draft.detail = self.login("password", method);
        draft.in_reply_to = None;
        self.asked = Some(sink.emit(draft));
    }

    fn login(&self, step: &str, method: Option<&str>) -> Detail {
        Detail::PostgresLogin {
            step: step.to_owned(),
            method: method.map(str::to_owned),
            user: self.user.clone(),
            database: self.database.clone(),
        }
    }

    fn backend_message(&mut self, direction: Direction, wire: Wire, sink: &mut Sink<'_>) {
        let body = wire.bytes;
        let turn = &mut self.halves[direction].turn;
        match wire.kind {
            b'R' => self.authentication(direction, body, sink),
            b'E' | b'N' => {
                let text = fields(&body.bytes);
                if wire.kind == b'E' {
                    turn.error = Some(text.clone());
                }
                turn.say(&format!(
                    "{}: {text}",
                    if wire.kind == b'E' { "error" } else { "notice" }
                ));
                turn.span.span.merge(&body.span);
                // An error before the session is open ends it: no ReadyForQuery follows.
                if wire.kind == b'E' && !self.open && !turn.accepted {
                    self.flush(direction, sink);
                }
            }
            b'C' => {
                let tag = c_string(&body.bytes, 0)
                    .map(|tag| one_line(&body.bytes[tag]))
                    .unwrap_or_default();
                turn.say(&tag);
                turn.tag = Some(tag);
                turn.span.span.merge(&body.span);
            }
            b'T' => {
                turn.say(&column_names(&body.bytes));
                turn.span.span.merge(&body.span);
            }
            b'D' => {
                turn.rows += 1;
                row(turn, body);
            }
            b'd' => turn.show("CopyData: ", body),
            b'Z' => {
                turn.span.span.merge(&body.span);
                self.flush(direction, sink);
            }
            _ => turn.span.span.merge(&body.span),
        }
    }

    fn authentication(&mut self, direction: Direction, body: Collected, sink: &mut Sink<'_>) {
        let (auth, method) = match be32(&body.bytes, 0) {
            Some(0) => {
                // ParameterStatus and ReadyForQuery follow and belong to the same message.
                let turn = &mut self.halves[direction].turn;
                turn.accepted = true;
                turn.say("AuthenticationOk");
                turn.span.span.merge(&body.span);
                return;
            }
            Some(3) => (Auth::Cleartext, "cleartext"),
            Some(5) => (Auth::Md5, "md5"),
            Some(10..=12) => (Auth::Sasl, "scram-sha-256"),
            _ => (Auth::Other, "another method"),
        };
        self.auth = auth;
        let mut draft = Draft::new(direction, Protocol::Postgres, Role::Response, sink.limits);
        draft.note(&body);
        draft.summary = match be32(&body.bytes, 0) {
            Some(11 | 12) => "goes on with SCRAM".to_owned(),
            _ => format!("asks for the password, {method}"),
        };
        let summary = draft.summary.clone();
        draft.text.say(&summary);
        draft.in_reply_to = self.asked.take();
        draft.detail = self.login("password-asked", Some(method));
        sink.emit(draft);
    }

    /// Gives out what a direction has said so far.
    pub(super) fn flush(&mut self, direction: Direction, sink: &mut Sink<'_>) {
        let turn = std::mem::take(&mut self.halves[direction].turn);
        if turn.parts.is_empty() {
            return;
        }
        let asking = self.frontend == Some(direction);
        let role = if asking { Role::Request } else { Role::Response };
        let mut draft = Draft::new(direction, Protocol::Postgres, role, sink.limits);
        draft.note(&turn.span);
        draft.text.truncated = false;
        for (label, bytes) in &turn.parts {
            draft.text.line(label);
            draft.show(bytes);
        }
        draft.text.truncated |= turn.truncated;
        draft.summary = turn.summary();
        draft.detail = if turn.accepted || (!asking && !self.open) {
            self.login(if turn.error.is_some() { "refused" } else { "accepted" }, None)
        } else if asking {
            match &turn.sql {
                Some(sql) => Detail::PostgresQuery {
                    sql: one_long_line(sql.as_bytes()),
                },
                None => Detail::Other,
            }
        } else {
            Detail::PostgresResult {
                rows: turn.rows,
                tag: turn.tag.clone(),
                error: turn.error.clone(),
            }
        };
        if !asking {
            draft.in_reply_to = self.asked.take();
        }
        self.open |= turn.accepted;
        let seq = sink.emit(draft);
        if asking {
            self.asked = Some(seq);
        }
    }

    /// This direction is over.
    pub(super) fn end(&mut self, direction: Direction, sink: &mut Sink<'_>) {
        if let Some(wire) = self.halves[direction].wire.take() {
            let turn = &mut self.halves[direction].turn;
            turn.span.missing += wire.left as u64;
            turn.show("[cut off] ", wire.bytes);
        }
        self.flush(direction, sink);
    }

    /// Bytes were lost: this direction's message boundaries are unknown from here on.
    pub(super) fn gap(&mut self, direction: Direction, count: u64, buffer: &mut Buffer, sink: &mut Sink<'_>) {
        let half = &mut self.halves[direction];
        if let Some(wire) = half.wire.as_mut().filter(|wire| count < wire.left as u64) {
            wire.left -= count as usize;
            wire.bytes.missing += count;
            return;
        }
        if let Some(wire) = half.wire.take() {
            half.turn.show("[cut off] ", wire.bytes);
        }
        if !half.turn.parts.is_empty() {
            half.turn.span.missing += count;
            half.turn.say(&format!(
                "[{count} bytes were not captured; the rest of this direction is not read]"
            ));
        }
        half.lost = true;
        buffer.skip(buffer.len());
        self.flush(direction, sink);
    }
}

/// The frontend's direction, from the type of the first message met under way. Types that both sides use are taken
/// for the backend's.
fn met(kind: u8, direction: Direction) -> Direction {
    match kind {
        b'Q' | b'P' | b'B' | b'X' | b'p' | b'F' => direction,
        _ => direction ^ 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_begins_with_a_parameter() {
        for (bytes, expected) in [
            (&b"\0\0\0\x13\0\x03\0\0user\0shop\0\0"[..], Some(true)),
            (b"\0\0\0\x09\0\x03\0\0\0", Some(true)),
            (b"\0\0\0\x13\0\x03\0\0", None),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Some(true)),
            // The end of an extension of a ClientHello, and its supported versions.
            (b"\0\0\0\x2b\0\x03\x02\x03\x03\0\x0b\0\x02\x01\0", Some(false)),
        ] {
            assert_eq!(begins(bytes), expected, "{bytes:?}");
        }
    }
}
