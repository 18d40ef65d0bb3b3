//! DNS messages (RFC 1035), decoded by hickory-proto.

use std::collections::VecDeque;

use hickory_proto::op::{Message as DnsMessage, MessageType, ResponseCode};

use super::{
    Detail, Protocol, Role,
    buffer::{Buffer, Collected},
    sink::{Direction, Draft, Sink},
    text::one_line,
};

/// Queries that may wait for their answers.
const PENDING: usize = 256;
/// Records shown of one answer.
const RECORDS: usize = 64;

/// The well-known ports of DNS and of multicast DNS.
pub(super) fn is_port(port: u16) -> bool {
    matches!(port, 53 | 5353)
}

/// A conversation that speaks DNS.
#[derive(Debug, Default)]
pub(super) struct Dns {
    /// (id, seq) of queries that wait.
    asked: VecDeque<(u16, u64)>,
}

impl Dns {
    pub(super) fn held(&self) -> usize {
        self.asked.len() * 16
    }

    /// One DNS message; `false` where the bytes are none.
    pub(super) fn message(
        &mut self,
        direction: Direction,
        bytes: &Collected,
        from: usize,
        sink: &mut Sink<'_>,
    ) -> bool {
        let Ok(message) = DnsMessage::from_vec(bytes.bytes.get(from..).unwrap_or_default()) else {
            return false;
        };
        let answer = message.metadata.message_type == MessageType::Response;
        let role = if answer { Role::Response } else { Role::Request };
        let mut draft = Draft::new(direction, Protocol::Dns, role, sink.limits);
        draft.note(bytes);
        let (name, kind) = match message.queries.first() {
            Some(query) => (
                one_line(query.name().to_utf8().as_bytes()),
                query.query_type().to_string(),
            ),
            None => (String::new(), String::new()),
        };
        let id = message.metadata.id;
        let code = message.metadata.response_code;
        let answers: Vec<String> = message
            .answers
            .iter()
            .take(RECORDS)
            .map(|record| one_line(record.data.to_string().as_bytes()))
            .collect();
        draft.summary = match (answer, code, answers.is_empty()) {
            (false, ..) => format!("{kind} {name} ?"),
            (true, ResponseCode::NoError, false) => {
                one_line(format!("{kind} {name} = {}", answers.join(", ")).as_bytes())
            }
            (true, ResponseCode::NoError, true) => format!("{kind} {name}: no such record"),
            (true, code, _) => one_line(format!("{kind} {name}: {code}").as_bytes()),
        };
        let summary = draft.summary.clone();
        draft.text.say(&summary);
        for record in message.answers.iter().take(RECORDS) {
            draft.text.line(&one_line(record.to_string().as_bytes()));
        }
        draft.detail = Detail::Dns {
            name,
            kind,
            code: answer.then(|| code.to_string()),
            answers,
        };
        if answer {
            if let Some(at) = self.asked.iter().position(|(asked, _)| *asked == id) {
                draft.in_reply_to = self.asked.remove(at).map(|(_, seq)| seq);
            }
            sink.emit(draft);
        } else {
            let seq = sink.emit(draft);
            if self.asked.len() == PENDING {
                self.asked.pop_front();
            }
            self.asked.push_back((id, seq));
        }
        true
    }

    /// DNS over TCP: every message has its length before it (RFC 1035 §4.2.2). `false` where the bytes are no DNS.
    pub(super) fn advance(&mut self, direction: Direction, buffer: &mut Buffer, sink: &mut Sink<'_>) -> bool {
        loop {
            let data = buffer.data();
            let Some(length) = data
                .first_chunk()
                .map(|bytes| 2 + usize::from(u16::from_be_bytes(*bytes)))
            else {
                return true;
            };
            if data.len() < length {
                return true;
            }
            let mut message = Collected::default();
            buffer.take(length, length, &mut message);
            if !self.message(direction, &message, 2, sink) {
                return false;
            }
        }
    }
}
