//! The heads of HTTP messages, parsed by `httparse`, which hyper uses.

use std::ops::Range;

use super::VERSION;

/// Header fields a head may have.
const FIELDS: usize = 128;

/// What a head says, with places in the head's bytes.
pub(super) struct Head {
    pub start: Start,
    pub fields: Vec<Field>,
}

pub(super) struct Field {
    /// In lower case.
    pub name: String,
    pub value: String,
    /// Where the value stands in the head.
    pub place: Range<usize>,
}

pub(super) enum Start {
    Request { method: String, target: String },
    Response { status: u16, reason: String },
}

/// The length of a head that ends in these bytes, remembering how far was searched.
pub(super) fn head_end(data: &[u8], searched: &mut usize) -> Option<usize> {
    let mut at = searched.saturating_sub(3);
    while let Some(found) = data.get(at..)?.iter().position(|byte| *byte == b'\n') {
        at += found + 1;
        if data[at..].starts_with(b"\n") {
            return Some(at + 1);
        }
        if data[at..].starts_with(b"\r\n") {
            return Some(at + 2);
        }
    }
    *searched = data.len();
    None
}

pub(super) fn parse_head(bytes: &[u8]) -> Option<Head> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let (start, headers) = if bytes.starts_with(VERSION) {
        let mut response = httparse::Response::new(&mut fields);
        response.parse(bytes).ok().filter(httparse::Status::is_complete)?;
        let start = Start::Response {
            status: response.code?,
            reason: response.reason.unwrap_or_default().to_owned(),
        };
        (start, response.headers)
    } else {
        let mut request = httparse::Request::new(&mut fields);
        request.parse(bytes).ok().filter(httparse::Status::is_complete)?;
        let start = Start::Request {
            method: request.method?.to_owned(),
            target: request.path?.to_owned(),
        };
        (start, request.headers)
    };
    let fields = headers.iter().map(|header| field(bytes, header)).collect();
    Some(Head { start, fields })
}

/// A field of a head, with its place in it.
fn field(bytes: &[u8], header: &httparse::Header<'_>) -> Field {
    let base = bytes.as_ptr() as usize;
    let start = (header.value.as_ptr() as usize).saturating_sub(base).min(bytes.len());
    Field {
        name: header.name.to_ascii_lowercase(),
        value: String::from_utf8_lossy(header.value).trim().to_owned(),
        place: start..(start + header.value.len()).min(bytes.len()),
    }
}

impl Head {
    pub(super) fn field(&self, name: &str) -> Option<String> {
        self.fields
            .iter()
            .find(|field| field.name == name)
            .map(|field| field.value.clone())
    }
}

pub(super) fn parse_length(value: &str) -> Option<u64> {
    // RFC 9110 §8.6: digits only; a list of equal numbers stands for one.
    let mut values = value.split(',').map(str::trim);
    let first = values.next()?;
    if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) || values.any(|next| next != first) {
        return None;
    }
    first.parse().ok()
}

pub(super) fn parse_chunk_size(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line.split(|byte| *byte == b';').next()?)
        .ok()?
        .trim();
    let hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex { u64::from_str_radix(text, 16).ok() } else { None }
}

/// The fields of a trailer, which end in an empty line.
pub(super) fn parse_trailer(bytes: &[u8]) -> Vec<Field> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete((_, headers))) => headers.iter().map(|header| field(bytes, header)).collect(),
        _ => Vec::new(),
    }
}
