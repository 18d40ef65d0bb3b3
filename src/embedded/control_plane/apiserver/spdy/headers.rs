//! Header blocks: name/value pairs, compressed in one zlib stream per direction with a dictionary that both sides know.
//!
//! Source: SPDY draft 3.1, 2.6.10 "Name/Value Header Block".

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::FrameError;

/// The dictionary of SPDY/3 (Adler-32 `e3c6a7c2`): a data table of the protocol, 2.6.10.1.
const DICTIONARY: &[u8] = include_bytes!("spdy3.dict");

/// Largest header block, uncompressed, bytes. kubectl's have some hundred.
const MAX_BLOCK: usize = 16 << 10;
/// Most pairs of a block.
const MAX_PAIRS: usize = 64;

/// The pairs of a header block, in order; names are lower case.
pub type Headers = Vec<(String, String)>;

/// The value of a header.
pub fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// Reads the blocks of one direction, in the order in which they were sent.
pub struct Inflater {
    zlib: Decompress,
}

impl Inflater {
    /// Before the first block.
    pub fn new() -> Self {
        Self {
            zlib: Decompress::new(true),
        }
    }

    /// The pairs of the next block.
    ///
    /// # Errors
    /// When it is no zlib data, larger than a block may be, or malformed inside. The stream of blocks ends there.
    pub fn read(&mut self, block: &[u8]) -> Result<Headers, FrameError> {
        let mut plain = vec![0; MAX_BLOCK];
        let (mut taken, mut made) = (0, 0);
        loop {
            let (before_in, before_out) = (self.zlib.total_in(), self.zlib.total_out());
            let input = block.get(taken..).unwrap_or_default();
            let space = plain.get_mut(made..).unwrap_or_default();
            let answer = self.zlib.decompress(input, space, FlushDecompress::Sync);
            taken += usize::try_from(self.zlib.total_in() - before_in).unwrap_or(usize::MAX);
            made += usize::try_from(self.zlib.total_out() - before_out).unwrap_or(usize::MAX);
            match answer {
                Ok(Status::StreamEnd) => return Err(FrameError::Compression),
                Ok(_) if made >= MAX_BLOCK => return Err(FrameError::TooLarge("header block")),
                Ok(_) if taken >= block.len() => break,
                Ok(Status::BufError) => return Err(FrameError::Compression),
                Ok(Status::Ok) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| FrameError::Compression)?;
                }
                Err(_) => return Err(FrameError::Compression),
            }
        }
        plain.truncate(made);
        parse(&plain)
    }
}

/// Writes the blocks of one direction.
pub struct Deflater {
    zlib: Compress,
}

impl Deflater {
    /// Before the first block.
    pub fn new() -> Self {
        let mut zlib = Compress::new(Compression::fast(), true);
        // Cannot fail before the first byte; without it, every block would say so by its checksum.
        let _ = zlib.set_dictionary(DICTIONARY);
        Self { zlib }
    }

    /// Appends the next block.
    pub fn write(&mut self, headers: &Headers, out: &mut Vec<u8>) {
        let mut plain = Vec::new();
        number(headers.len(), &mut plain);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            number(text.len(), &mut plain);
            plain.extend_from_slice(text.as_bytes());
        }
        let start = self.zlib.total_in();
        loop {
            out.reserve(plain.len() + 64);
            let taken = usize::try_from(self.zlib.total_in() - start).unwrap_or(usize::MAX);
            let rest = plain.get(taken..).unwrap_or_default();
            let answer = self.zlib.compress_vec(rest, out, FlushCompress::Sync);
            // Space left over means that everything is flushed.
            if out.len() < out.capacity() || answer.is_err() {
                return;
            }
        }
    }
}

fn number(value: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes());
}

fn parse(mut block: &[u8]) -> Result<Headers, FrameError> {
    let malformed = FrameError::Malformed("header block");
    let pairs = take_number(&mut block).ok_or(malformed)?;
    if pairs > MAX_PAIRS {
        return Err(FrameError::TooLarge("header block"));
    }
    let mut headers = Headers::new();
    for _ in 0..pairs {
        let name = take_text(&mut block).ok_or(malformed)?;
        let value = take_text(&mut block).ok_or(malformed)?;
        let doubled = headers.iter().any(|(known, _)| *known == name);
        if name.is_empty() || doubled || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(malformed);
        }
        headers.push((name, value));
    }
    if block.is_empty() { Ok(headers) } else { Err(malformed) }
}

fn take_number(block: &mut &[u8]) -> Option<usize> {
    let (number, rest) = block.split_first_chunk::<4>()?;
    *block = rest;
    usize::try_from(u32::from_be_bytes(*number)).ok()
}

fn take_text(block: &mut &[u8]) -> Option<String> {
    let length = take_number(block)?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dictionary_is_the_protocols() {
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in DICTIONARY {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!((b << 16) | a, 0xe3c6_a7c2);
    }

    #[test]
    fn malformed_blocks_are_refused() {
        for (plain, what) in [
            (&b""[..], "no count"),
            (b"\0\0\0\x01", "no pair"),
            (b"\0\0\0\0x", "something after the pairs"),
            (b"\xff\xff\xff\xff", "too many pairs"),
            (b"\0\0\0\x01\xff\xff\xff\xff", "a length beyond the block"),
            (b"\0\0\0\x01\0\0\0\0\0\0\0\0", "an empty name"),
            (b"\0\0\0\x01\0\0\0\x01A\0\0\0\0", "an upper-case name"),
            (b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\0", "no UTF-8"),
            (b"\0\0\0\x02\0\0\0\x01a\0\0\0\0\0\0\0\x01a\0\0\0\0", "a name twice"),
        ] {
            assert!(parse(plain).is_err(), "{what}");
        }
    }

    #[test]
    fn a_block_that_inflates_without_end_is_refused() {
        let headers = vec![("a".to_owned(), "x".repeat(1 << 20))];
        let mut block = Vec::new();
        Deflater::new().write(&headers, &mut block);
        assert!(block.len() < MAX_BLOCK);
        assert_eq!(Inflater::new().read(&block), Err(FrameError::TooLarge("header block")));
        assert_eq!(Inflater::new().read(b"no zlib"), Err(FrameError::Compression));
        assert!(Inflater::new().read(b"").is_err());
    }

    proptest! {
        #[test]
        fn blocks_read_back_in_order(blocks in prop::collection::vec(
            prop::collection::btree_map("[a-z-]{1,12}", "\\PC{0,200}", 0..8), 1..6)) {
            let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
            for block in blocks {
                let headers: Headers = block.into_iter().collect();
                let mut bytes = Vec::new();
                deflater.write(&headers, &mut bytes);
                prop_assert_eq!(inflater.read(&bytes).unwrap(), headers);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(block in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Inflater::new().read(&block);
            let _ = parse(&block);
        }
    }
}
