//! Compressed bodies (RFC 9110 §8.4): gzip and deflate by `flate2`, br by `brotli-decompressor`, within a limit.

use std::{borrow::Cow, io::Read};

/// Codings one upon the other that are undone.
const DEPTH: usize = 3;

/// A body without its compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inflated {
    pub bytes: Vec<u8>,
    /// There is more than the limit allows, or than could be read.
    pub cut: bool,
}

/// Undoes the codings of a `Content-Encoding`, the last one first; `None` where one is not known or nothing can be
/// read. At most `limit` bytes come out of each, however little went in.
pub(super) fn inflate(codings: &str, body: &[u8], limit: usize) -> Option<Inflated> {
    let codings: Vec<&str> = codings.split(',').map(str::trim).collect();
    if codings.len() > DEPTH {
        return None;
    }
    let mut bytes = Cow::Borrowed(body);
    let mut cut = false;
    for coding in codings.iter().rev() {
        let (out, more) = undo(coding, &bytes, limit)?;
        cut |= more;
        bytes = Cow::Owned(out);
    }
    Some(Inflated {
        bytes: bytes.into_owned(),
        cut,
    })
}

fn undo(coding: &str, bytes: &[u8], limit: usize) -> Option<(Vec<u8>, bool)> {
    let is = |name: &str| coding.eq_ignore_ascii_case(name);
    if is("identity") {
        Some((bytes.to_vec(), false))
    } else if is("gzip") || is("x-gzip") {
        read(flate2::read::MultiGzDecoder::new(bytes), limit)
    } else if is("deflate") {
        // RFC 9110 §8.4.1.2: in zlib's format; some senders leave that off.
        read(flate2::read::ZlibDecoder::new(bytes), limit)
            .or_else(|| read(flate2::read::DeflateDecoder::new(bytes), limit))
    } else if is("br") {
        read(brotli_decompressor::Decompressor::new(bytes, 4096), limit)
    } else {
        None
    }
}

/// Reads to the end, an error or the limit; `None` where an error comes before the first byte.
fn read(mut from: impl Read, limit: usize) -> Option<(Vec<u8>, bool)> {
    let mut out = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Some((out, false)),
            Ok(count) => {
                let room = (limit - out.len()).min(count);
                out.extend_from_slice(&piece[..room]);
                if room < count {
                    return Some((out, true));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) if out.is_empty() => return None,
            Err(_) => return Some((out, true)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn raw(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// "hello" by `brotli`.
    const BROTLI: &[u8] = b"\x0b\x02\x80hello\x03";

    #[test]
    fn codings_are_undone() {
        for (coding, body) in [
            ("gzip", gzip(b"hello")),
            ("GZip", gzip(b"hello")),
            ("gzip", [gzip(b"hel"), gzip(b"lo")].concat()),
            ("deflate", zlib(b"hello")),
            ("deflate", raw(b"hello")),
            ("br", BROTLI.to_vec()),
            ("identity", b"hello".to_vec()),
            ("deflate, gzip", gzip(&zlib(b"hello"))),
        ] {
            let out = inflate(coding, &body, 100).unwrap_or_else(|| panic!("{coding}"));
            assert_eq!((out.bytes.as_slice(), out.cut), (&b"hello"[..], false), "{coding}");
        }
        for (coding, body) in [
            ("zstd", &b"x"[..]),
            ("gzip", b"not gzip"),
            ("gzip,gzip,gzip,gzip", b"x"),
        ] {
            assert_eq!(inflate(coding, body, 100), None, "{coding}");
        }
    }

    #[test]
    fn a_bomb_and_a_stump_are_cut() {
        let bomb = gzip(&vec![0; 10 << 20]);
        let out = inflate("gzip", &bomb, 1000).unwrap();
        assert_eq!((out.bytes.len(), out.cut), (1000, true));
        let text: Vec<u8> = (0..20_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
        let whole = gzip(&text);
        let out = inflate("gzip", &whole[..whole.len() / 2], 1 << 20).unwrap();
        assert!(out.cut && text.starts_with(&out.bytes) && !out.bytes.is_empty());
    }
}
