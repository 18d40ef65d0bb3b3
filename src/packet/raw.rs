//! What no decoder knows, shown as text.

use super::{
    Limits, Protocol, Role,
    buffer::{Buffer, Collected, Mark},
    sink::{Direction, Draft, Sink},
    text::one_line,
};

/// Bytes that no decoder knows: what each side says before the other speaks is one message.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub turns: [Collected; 2],
    /// The start was not seen, or bytes were lost: when the other side begins to speak, it may turn out what it is.
    pub hopeful: bool,
}

impl Raw {
    pub(super) fn data(&mut self, direction: Direction, bytes: &[u8], mark: Mark, sink: &mut Sink<'_>) {
        self.flush(direction ^ 1, sink);
        let limit = sink.limits.text_bytes.max(1);
        let (mut bytes, mut mark) = (bytes, mark);
        // Cut at multiples of the limit, so that it does not matter how the segments were cut.
        while !bytes.is_empty() {
            let room = limit
                .saturating_sub(self.turns[direction].total as usize)
                .max(1)
                .min(bytes.len());
            self.turns[direction].push(&bytes[..room], limit, mark);
            bytes = &bytes[room..];
            mark = mark.ahead(room);
            if self.turns[direction].total >= limit as u64 {
                self.flush(direction, sink);
            }
        }
    }

    pub(super) fn rest(&mut self, direction: Direction, buffer: &mut Buffer, sink: &mut Sink<'_>) {
        let limit = sink.limits.text_bytes.max(1);
        while !buffer.is_empty() {
            let room = limit.saturating_sub(self.turns[direction].total as usize).max(1);
            buffer.take(room, limit, &mut self.turns[direction]);
            if self.turns[direction].total >= limit as u64 {
                self.flush(direction, sink);
            }
        }
    }

    pub(super) fn flush(&mut self, direction: Direction, sink: &mut Sink<'_>) {
        let turn = std::mem::take(&mut self.turns[direction]);
        if turn.total > 0 {
            sink.emit(raw_message(direction, Protocol::Tcp, &turn, sink.limits));
        } else {
            self.turns[direction].missing = turn.missing;
        }
    }
}

pub(super) fn raw_message(direction: Direction, protocol: Protocol, bytes: &Collected, limits: &Limits) -> Draft {
    let mut draft = Draft::new(direction, protocol, Role::Event, limits);
    draft.show(bytes);
    draft.text.truncated |= bytes.cut();
    if bytes.missing > 0 {
        draft.text.line(&format!("[{} bytes were not captured]", bytes.missing));
    }
    draft.summary = one_line(format!("{} bytes", bytes.total).as_bytes());
    draft
}
