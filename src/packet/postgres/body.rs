//! The bodies of single protocol messages (PostgreSQL manual, "Message Formats").

use std::ops::Range;

use super::turn::Turn;
use crate::{buffer::Collected, text::one_line};

/// Columns shown of one row.
const COLUMNS: usize = 64;

pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The range of a NUL-terminated string at an offset, without its NUL.
pub(super) fn c_string(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let end = bytes.get(at..)?.iter().position(|byte| *byte == 0)?;
    Some(at..at + end)
}

pub(super) fn strip_nul(mut body: Collected) -> Collected {
    if body.bytes.last() == Some(&0) {
        body.bytes.pop();
        body.total -= 1;
    }
    body
}

/// Part of a message's bytes, with the whole message's frames.
pub(super) fn slice(body: Collected, range: Range<usize>) -> Collected {
    let mut part = Collected::seen(body.span.clone(), body.missing);
    for (mark, bytes) in body.parts(range) {
        part.push(bytes, usize::MAX, mark);
    }
    part.span = body.span;
    part
}

/// The parameters of a Bind: portal, statement, format codes, then values with their lengths.
pub(super) fn bind(turn: &mut Turn, body: Collected) {
    let values = || {
        let bytes = &body.bytes;
        let portal = c_string(bytes, 0)?;
        let statement = c_string(bytes, portal.end + 1)?;
        let mut at = statement.end + 1;
        at += 2 + usize::from(be16(bytes, at)?) * 2;
        let count = usize::from(be16(bytes, at)?);
        Some(lengths(bytes, at + 2, count))
    };
    let values = values().unwrap_or_default();
    turn.say("Bind");
    for (index, value) in values.into_iter().enumerate() {
        match value {
            Some(range) => turn.show(&format!("  ${} = ", index + 1), slice(body.clone(), range)),
            None => turn.say(&format!("  ${} = NULL", index + 1)),
        }
    }
    turn.span.span.merge(&body.span);
    turn.span.missing += body.missing;
}

/// Values with a length of four bytes before each; -1 is NULL. Gives at most [`COLUMNS`].
fn lengths(bytes: &[u8], mut at: usize, count: usize) -> Vec<Option<Range<usize>>> {
    let mut values = Vec::new();
    for _ in 0..count.min(COLUMNS) {
        let Some(length) = be32(bytes, at) else { break };
        at += 4;
        if length == u32::MAX {
            values.push(None);
            continue;
        }
        let end = at.saturating_add(length as usize);
        if end > bytes.len() {
            break;
        }
        values.push(Some(at..end));
        at = end;
    }
    values
}

/// A DataRow on one line.
pub(super) fn row(turn: &mut Turn, body: Collected) {
    let count = usize::from(be16(&body.bytes, 0).unwrap_or(0));
    let values = lengths(&body.bytes, 2, count);
    let mut line = Collected::seen(body.span.clone(), body.missing);
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            line.say(b" | ");
        }
        match value {
            Some(range) => body
                .parts(range.clone())
                .for_each(|(mark, bytes)| line.push(bytes, usize::MAX, mark)),
            None => line.say(b"NULL"),
        }
    }
    line.span = body.span;
    turn.show("  ", line);
}

/// The names of a RowDescription.
pub(super) fn column_names(bytes: &[u8]) -> String {
    let count = usize::from(be16(bytes, 0).unwrap_or(0));
    let mut names = Vec::new();
    let mut at = 2;
    for _ in 0..count.min(COLUMNS) {
        let Some(name) = c_string(bytes, at) else { break };
        at = name.end + 1 + 18;
        names.push(one_line(&bytes[name]));
    }
    format!("columns: {}", names.join(" | "))
}

/// `SQLSTATE: message` of an ErrorResponse or NoticeResponse.
pub(super) fn fields(bytes: &[u8]) -> String {
    let (mut code, mut message) = (String::new(), String::new());
    let mut at = 0;
    while let Some(kind) = bytes.get(at).filter(|kind| **kind != 0) {
        let Some(value) = c_string(bytes, at + 1) else { break };
        match kind {
            b'C' => code = one_line(&bytes[value.clone()]),
            b'M' => message = one_line(&bytes[value.clone()]),
            _ => {}
        }
        at = value.end + 1;
    }
    format!("{code}: {message}")
}
