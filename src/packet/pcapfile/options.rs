//! What stands in a block of pcapng beside its fixed fields: options, and the names of addresses.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

/// Names of addresses kept of a file.
const NAMES: usize = 65_536;
/// Names kept of one address.
const ALIASES: usize = 4;

/// The options of a block: code and place of each value.
pub(super) fn options_of(options: &[u8], big_endian: bool) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = options.get(at..at + 4)?;
        let (code, length) = (
            number(&header[..2], big_endian),
            number(&header[2..], big_endian) as usize,
        );
        let place = at + 4..at + 4 + length;
        options.get(place.clone()).filter(|_| code != 0)?;
        at = place.start + length.next_multiple_of(4);
        Some((code, place))
    })
}

/// `if_tsresol` among an interface's options: ticks in a second, a million unless said otherwise.
pub(super) fn ticks(options: &[u8], big_endian: bool) -> u64 {
    const DEFAULT: u64 = 1_000_000;
    let resolution = options_of(options, big_endian).find(|(code, _)| *code == 9);
    match resolution.and_then(|(_, place)| options.get(place)?.first()) {
        None => DEFAULT,
        Some(power) if power & 0x80 == 0 => 10_u64.checked_pow(u32::from(*power)).unwrap_or(DEFAULT),
        Some(power) => 1_u64
            .checked_shl(u32::from(power & 0x7f))
            .filter(|ticks| *ticks > 0)
            .unwrap_or(DEFAULT),
    }
}

/// The records of a Name Resolution Block: an address, then names that end in NUL.
pub(super) fn names(body: &[u8], big_endian: bool, into: &mut BTreeMap<IpAddr, Vec<String>>) {
    for (kind, place) in options_of(body, big_endian) {
        let value = &body[place];
        let read = match kind {
            1 => value
                .split_first_chunk::<4>()
                .map(|(addr, rest)| (IpAddr::from(Ipv4Addr::from(*addr)), rest)),
            2 => value
                .split_first_chunk::<16>()
                .map(|(addr, rest)| (IpAddr::from(Ipv6Addr::from(*addr)), rest)),
            _ => None,
        };
        let Some((addr, rest)) = read else { continue };
        let names = rest
            .split(|byte| *byte == 0)
            .filter_map(|name| std::str::from_utf8(name).ok());
        let names: Vec<String> = names
            .filter(|name| !name.is_empty())
            .take(ALIASES)
            .map(str::to_owned)
            .collect();
        if into.len() < NAMES && !names.is_empty() {
            into.insert(addr, names);
        }
    }
}

pub(super) fn number(bytes: &[u8], big_endian: bool) -> u64 {
    let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    if big_endian {
        bytes.iter().fold(0, add)
    } else {
        bytes.iter().rev().fold(0, add)
    }
}
