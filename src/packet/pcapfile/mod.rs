//! Capture files: classic pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng), read as they come, with
//! the names and comments that pcapng carries; and written, see [`write`].

mod options;
#[cfg(test)]
mod tests;
pub mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Range,
};

use options::{names, number, options_of, ticks};
pub use write::{pcap_header, pcap_record};

use super::{CapturePoint, Frame, LinkType};

/// A packet of a capture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was captured, in nanoseconds since the Unix epoch.
    pub ts_ns: u64,
    /// How its bytes begin.
    pub link: LinkType,
    /// Its length on the wire.
    pub orig_len: u32,
    /// Its bytes.
    pub data: &'a [u8],
    /// What somebody wrote beside it (pcapng's `opt_comment`, the first one).
    pub comment: Option<&'a str>,
    /// Name of the interface it was seen on (pcapng's `if_name`).
    pub interface: Option<&'a str>,
}

impl<'a> Record<'a> {
    /// The packet as a dissector takes it, with its number in the capture, from 1.
    pub const fn frame(&self, number: u64) -> Frame<'a> {
        Frame {
            number,
            ts_ns: self.ts_ns,
            link: self.link,
            orig_len: self.orig_len,
            data: self.data,
        }
    }
}

/// Why bytes are no capture file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PcapError {
    /// The first bytes are those of no capture file.
    #[error("not a capture file: it begins with {0:02x?}, expected pcap or pcapng")]
    Magic([u8; 4]),
    /// A record or block claims a size that none has.
    #[error("damaged capture file: a record at byte {at} claims {claimed} bytes")]
    Size {
        /// Where it stands in the file.
        at: u64,
        /// What it claims.
        claimed: u64,
    },
    /// A packet of an interface that the file does not describe.
    #[error("damaged capture file: a packet at byte {at} names interface {interface}, which is not described")]
    Interface {
        /// Where it stands in the file.
        at: u64,
        /// The interface's number.
        interface: u32,
    },
    /// The file ends within a record.
    #[error("the capture file ends within a record: {left} bytes are left over")]
    Truncated {
        /// Bytes after the last whole record.
        left: usize,
    },
}

/// Bytes a record may have: a packet as large as the kernel makes them, with room to spare.
const RECORD_BYTES: usize = 16 << 20;
/// Interfaces a pcapng section may describe.
const INTERFACES: usize = 4096;

#[derive(Debug, Clone)]
struct Interface {
    link: LinkType,
    /// Ticks of its timestamps in a second.
    ticks: u64,
    name: Option<String>,
}

/// A packet found in the buffer.
struct Found {
    ts_ns: u64,
    link: LinkType,
    orig_len: u32,
    data: Range<usize>,
    comment: Option<Range<usize>>,
    interface: usize,
}

#[derive(Debug, Clone)]
enum Format {
    /// Nothing read yet.
    New,
    Pcap {
        big_endian: bool,
        nanoseconds: bool,
        link: LinkType,
    },
    PcapNg {
        big_endian: bool,
        interfaces: Vec<Interface>,
    },
}

/// Reads a capture file from pieces of any size.
#[derive(Debug, Clone)]
pub struct PcapReader {
    buffer: Vec<u8>,
    /// How many of its bytes are the file's; behind them is room.
    filled: usize,
    read: usize,
    /// Bytes of the file before `buffer`.
    passed: u64,
    format: Format,
    names: BTreeMap<IpAddr, Vec<String>>,
}

impl Default for PcapReader {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            filled: 0,
            read: 0,
            passed: 0,
            format: Format::New,
            names: BTreeMap::new(),
        }
    }
}

impl PcapReader {
    /// Adds the next piece of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        self.forget();
        self.buffer.truncate(self.filled);
        self.buffer.extend_from_slice(bytes);
        self.filled = self.buffer.len();
    }

    /// Room for the next piece of the file, of this many bytes, to be read into; [`Self::filled`] tells how many came. Saves
    /// the copy that [`Self::push`] makes.
    pub fn room(&mut self, bytes: usize) -> &mut [u8] {
        self.forget();
        if self.buffer.len() < self.filled + bytes {
            self.buffer.resize(self.filled + bytes, 0);
        }
        &mut self.buffer[self.filled..self.filled + bytes]
    }

    /// So many bytes were put where [`Self::room`] was made for them.
    pub fn filled(&mut self, bytes: usize) {
        self.filled = (self.filled + bytes).min(self.buffer.len());
    }

    /// Bytes that were added and not read yet.
    pub fn waiting(&self) -> usize {
        self.filled - self.read
    }

    /// Moves what was not read yet to the front.
    fn forget(&mut self) {
        self.passed += self.read as u64;
        self.buffer.copy_within(self.read..self.filled, 0);
        self.filled -= self.read;
        self.read = 0;
    }

    /// Names of addresses that the file has told so far (pcapng's Name Resolution Blocks).
    pub fn names(&self) -> &BTreeMap<IpAddr, Vec<String>> {
        &self.names
    }

    /// Pods at which the file's packets were seen, as far as it has told: a file that ztlab wrote names them.
    pub fn pods(&self) -> BTreeSet<(String, String)> {
        let interfaces = match &self.format {
            Format::PcapNg { interfaces, .. } => interfaces.as_slice(),
            _ => &[],
        };
        let names = interfaces.iter().filter_map(|one| one.name.as_deref());
        let points = names.filter_map(CapturePoint::from_file_name);
        points.map(|point| (point.namespace, point.pod)).collect()
    }

    /// How frames begin, once the file's header was read (in pcapng: those of the first interface).
    pub fn link(&self) -> Option<LinkType> {
        match &self.format {
            Format::New => None,
            Format::Pcap { link, .. } => Some(*link),
            Format::PcapNg { interfaces, .. } => interfaces.first().map(|interface| interface.link),
        }
    }

    /// Reads the file's header; `None` when more bytes are needed (in pcapng: until an interface was described).
    ///
    /// # Errors
    /// The bytes are no capture file.
    pub fn begin(&mut self) -> Result<Option<LinkType>, PcapError> {
        if matches!(self.format, Format::New) {
            self.header()?;
        }
        Ok(self.link())
    }

    /// The next packet; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The bytes are no capture file, or a damaged one. Nothing after an error can be read.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, PcapError> {
        loop {
            match self.format {
                Format::New => {
                    if !self.header()? {
                        return Ok(None);
                    }
                }
                Format::Pcap {
                    big_endian,
                    nanoseconds,
                    link,
                } => return self.pcap(big_endian, nanoseconds, link),
                Format::PcapNg { .. } => {
                    let Some((kind, start, end)) = self.block()? else {
                        return Ok(None);
                    };
                    if let Some(found) = self.pcapng(kind, start, end)? {
                        return Ok(Some(self.record(found)));
                    }
                }
            }
        }
    }

    fn record(&self, found: Found) -> Record<'_> {
        let text = |range: Range<usize>| std::str::from_utf8(self.buffer.get(range)?).ok();
        let interface = match &self.format {
            Format::PcapNg { interfaces, .. } => interfaces.get(found.interface).and_then(|one| one.name.as_deref()),
            _ => None,
        };
        Record {
            ts_ns: found.ts_ns,
            link: found.link,
            orig_len: found.orig_len,
            data: &self.buffer[found.data],
            comment: found.comment.and_then(text),
            interface,
        }
    }

    /// The file is over.
    ///
    /// # Errors
    /// It ended within a record.
    pub fn finish(&self) -> Result<(), PcapError> {
        match self.waiting() {
            0 => Ok(()),
            left => Err(PcapError::Truncated { left }),
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.read..self.filled]
    }

    fn size_error(&self, claimed: u64) -> PcapError {
        PcapError::Size {
            at: self.passed + self.read as u64,
            claimed,
        }
    }

    /// Reads the file's header; `false` when more bytes are needed.
    fn header(&mut self) -> Result<bool, PcapError> {
        let rest = self.rest();
        let Some(magic) = rest.first_chunk::<4>() else {
            return Ok(false);
        };
        let (big_endian, nanoseconds) = match u32::from_be_bytes(*magic) {
            0xa1b2_c3d4 => (true, false),
            0xd4c3_b2a1 => (false, false),
            0xa1b2_3c4d => (true, true),
            0x4d3c_b2a1 => (false, true),
            0x0a0d_0d0a => {
                self.format = Format::PcapNg {
                    big_endian: false,
                    interfaces: Vec::new(),
                };
                return Ok(true);
            }
            _ => return Err(PcapError::Magic(*magic)),
        };
        if rest.len() < 24 {
            return Ok(false);
        }
        // The upper bits hold the length of a frame check sequence.
        let link = LinkType(number(&rest[20..24], big_endian) as u32 & 0xffff);
        self.read += 24;
        self.format = Format::Pcap {
            big_endian,
            nanoseconds,
            link,
        };
        Ok(true)
    }

    fn pcap(&mut self, big_endian: bool, nanoseconds: bool, link: LinkType) -> Result<Option<Record<'_>>, PcapError> {
        let rest = self.rest();
        if rest.len() < 16 {
            return Ok(None);
        }
        let field = |at: usize| number(&rest[at..at + 4], big_endian);
        let (seconds, fraction, kept, orig_len) = (field(0), field(4), field(8), field(12));
        if kept as usize > RECORD_BYTES {
            return Err(self.size_error(kept));
        }
        let kept = kept as usize;
        if rest.len() < 16 + kept {
            return Ok(None);
        }
        let ts_ns = seconds * 1_000_000_000 + fraction * if nanoseconds { 1 } else { 1000 };
        let start = self.read + 16;
        self.read = start + kept;
        let data = &self.buffer[start..start + kept];
        Ok(Some(Record {
            ts_ns,
            link,
            orig_len: orig_len as u32,
            data,
            comment: None,
            interface: None,
        }))
    }

    /// Takes the next pcapng block: its type and where its body stands in the buffer.
    fn block(&mut self) -> Result<Option<(u32, usize, usize)>, PcapError> {
        let rest = self.rest();
        if rest.len() < 12 {
            return Ok(None);
        }
        let Format::PcapNg { big_endian, interfaces } = &mut self.format else {
            return Ok(None);
        };
        let rest = &self.buffer[self.read..self.filled];
        let section = rest.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]);
        if section {
            *big_endian = rest[8..12] == [0x1a, 0x2b, 0x3c, 0x4d];
            interfaces.clear();
        }
        let kind = number(&rest[..4], *big_endian) as u32;
        let length = number(&rest[4..8], *big_endian);
        if !(12..=RECORD_BYTES as u64).contains(&length) || !length.is_multiple_of(4) {
            return Err(self.size_error(length));
        }
        let length = length as usize;
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.read;
        self.read += length;
        Ok(Some((kind, start + 8, start + length - 4)))
    }

    fn pcapng(&mut self, kind: u32, start: usize, end: usize) -> Result<Option<Found>, PcapError> {
        let at = self.passed + start as u64;
        let Format::PcapNg { big_endian, interfaces } = &mut self.format else {
            return Ok(None);
        };
        let big_endian = *big_endian;
        let body = &self.buffer[start..end];
        let field = |at: usize| body.get(at..at + 4).map(|bytes| number(bytes, big_endian) as u32);
        let damaged = PcapError::Size {
            at,
            claimed: body.len() as u64,
        };
        match kind {
            // Interface Description Block
            1 => {
                let link = body
                    .get(..2)
                    .map(|bytes| number(bytes, big_endian) as u32)
                    .ok_or(damaged)?;
                if interfaces.len() < INTERFACES {
                    let options = body.get(8..).unwrap_or_default();
                    let name = options_of(options, big_endian).find(|(code, _)| *code == 2);
                    interfaces.push(Interface {
                        link: LinkType(link),
                        ticks: ticks(options, big_endian),
                        name: name.and_then(|(_, place)| String::from_utf8(options[place].to_vec()).ok()),
                    });
                }
                Ok(None)
            }
            // Enhanced Packet Block
            6 => {
                let (Some(interface), Some(high), Some(low), Some(kept), Some(orig_len)) =
                    (field(0), field(4), field(8), field(12), field(16))
                else {
                    return Err(damaged);
                };
                let known = interfaces
                    .get(interface as usize)
                    .ok_or(PcapError::Interface { at, interface })?;
                let from = start + 20;
                let to = from + kept as usize;
                if to > end {
                    return Err(damaged);
                }
                let ticks = u128::from(high) << 32 | u128::from(low);
                let ts_ns = u64::try_from(ticks * 1_000_000_000 / u128::from(known.ticks)).unwrap_or(u64::MAX);
                let options = (from + (kept as usize).next_multiple_of(4)).min(end);
                let comment = options_of(&self.buffer[options..end], big_endian).find(|(code, _)| *code == 1);
                Ok(Some(Found {
                    ts_ns,
                    link: known.link,
                    orig_len,
                    data: from..to,
                    comment: comment.map(|(_, place)| options + place.start..options + place.end),
                    interface: interface as usize,
                }))
            }
            // Simple Packet Block: no time, first interface
            3 => {
                let orig_len = field(0).ok_or(damaged)?;
                let known = interfaces.first().ok_or(PcapError::Interface { at, interface: 0 })?;
                let from = start + 4;
                let to = (from + orig_len as usize).min(end);
                Ok(Some(Found {
                    ts_ns: 0,
                    link: known.link,
                    orig_len,
                    data: from..to,
                    comment: None,
                    interface: 0,
                }))
            }
            // Name Resolution Block
            4 => {
                names(body, big_endian, &mut self.names);
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}
