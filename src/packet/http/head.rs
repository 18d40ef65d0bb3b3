//! The heads of HTTP messages, parsed by `httparse`, which hyper uses.

use std::{borrow::Cow, mem::MaybeUninit, ops::Range};

use super::{VERSION, begins};

/// Bytes a head may have; servers refuse far smaller ones.
pub(super) const HEAD_BYTES: usize = 64 << 10;
/// Header fields a head may have.
const FIELDS: usize = 128;

/// Where a head says what: places in its bytes.
#[derive(Debug)]
pub(super) struct Head {
    pub start: Start,
    pub fields: Vec<Field>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub name: Range<usize>,
    pub value: Range<usize>,
}

#[derive(Debug)]
pub(super) enum Start {
    Request { method: Range<usize>, target: Range<usize> },
    Response { status: u16, reason: Range<usize> },
}

/// What stands at a place in a head; empty where less of it was kept.
pub(super) fn at<'a>(bytes: &'a [u8], place: &Range<usize>) -> &'a [u8] {
    bytes.get(place.clone()).unwrap_or_default()
}

/// What bytes begin with.
pub(super) enum Find {
    More,
    Broken,
    /// A head, of this length.
    Whole(usize, Head),
}

/// The head that bytes begin with, remembering how far was searched for its end.
pub(super) fn find_head(data: &[u8], searched: &mut usize) -> Find {
    if data.is_empty() {
        return Find::More;
    }
    if begins(data) == Some(None) {
        return Find::Broken;
    }
    match head_end(data, searched) {
        None if data.len() > HEAD_BYTES => Find::Broken,
        None => Find::More,
        // As where it comes in pieces, of which none is waited for beyond this.
        Some(end) if end > HEAD_BYTES => Find::Broken,
        Some(end) => parse_head(&data[..end]).map_or(Find::Broken, |head| Find::Whole(end, head)),
    }
}

/// The length of a head that ends in these bytes, remembering how far was searched.
fn head_end(data: &[u8], searched: &mut usize) -> Option<usize> {
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

fn parse_head(bytes: &[u8]) -> Option<Head> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let (start, headers) = if bytes.starts_with(VERSION) {
        let mut response = httparse::Response::new(&mut []);
        let read =
            httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
        read.ok().filter(httparse::Status::is_complete)?;
        let start = Start::Response {
            status: response.code?,
            reason: place(bytes, response.reason.unwrap_or_default().as_bytes()),
        };
        (start, response.headers)
    } else {
        let mut request = httparse::Request::new(&mut []);
        let read = request.parse_with_uninit_headers(bytes, &mut fields);
        read.ok().filter(httparse::Status::is_complete)?;
        let start = Start::Request {
            method: place(bytes, request.method?.as_bytes()),
            target: place(bytes, request.path?.as_bytes()),
        };
        (start, request.headers)
    };
    let fields = headers.iter().map(|header| field(bytes, header)).collect();
    Some(Head { start, fields })
}

/// Where a part stands in bytes that it is borrowed from.
fn place(bytes: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
    let start = start.min(bytes.len());
    start..(start + part.len()).min(bytes.len())
}

fn field(bytes: &[u8], header: &httparse::Header<'_>) -> Field {
    Field {
        name: place(bytes, header.name.as_bytes()),
        value: place(bytes, header.value),
    }
}

impl Field {
    /// What it says, in the bytes it was read from.
    pub(super) fn text<'a>(&self, bytes: &'a [u8]) -> Cow<'a, str> {
        String::from_utf8_lossy(at(bytes, &self.value).trim_ascii())
    }
}

impl Head {
    /// What the first field of this name says, in the bytes of this head.
    pub(super) fn field<'a>(&self, bytes: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
        let named = |field: &&Field| at(bytes, &field.name).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().find(named).map(|field| field.text(bytes))
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
