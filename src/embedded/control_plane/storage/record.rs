//! Records in a file: what is written is found again, and what was damaged is told apart. Pure.
//!
//! A record is a mark, the length of its payload, a checksum of both, and the payload (JSON). A reader that meets anything
//! else looks for the next mark behind which length and checksum agree, so damage costs the records it touches and no
//! others.

use std::{ops::Range, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CollectionKey, Key};

/// Begins every record; no byte sequence of UTF-8 text.
const MARK: [u8; 4] = [0x9e, b'z', 0xf7, 0xc1];
const HEAD: usize = 12;
/// Longer payloads are not written: an API object has at most 3 MiB.
const LONGEST: usize = 16 << 20;
/// The format of the records. A reader refuses a newer one.
pub(super) const FORMAT: u32 = 1;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(super) enum Entry {
    /// The file's first record.
    Begin {
        /// The format of the records: [`FORMAT`].
        format: u32,
        /// When a snapshot was taken, RFC 3339; nothing in a journal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        taken: Option<String>,
        /// What a snapshot is of, in its maker's words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        note: String,
        /// What a snapshot holds of volumes; not read by the store.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        content: Value,
    },
    /// An object as it is from here on.
    Put {
        #[serde(flatten)]
        at: Place,
        object: Arc<Value>,
    },
    /// An object that is gone from here on.
    Delete {
        #[serde(flatten)]
        at: Place,
        revision: u64,
    },
    /// Everything before this belongs to one state: its revision and how many objects it has.
    Whole { revision: u64, objects: usize },
}

/// Where an object is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    #[serde(rename = "g")]
    group: String,
    #[serde(rename = "r")]
    resource: String,
    #[serde(rename = "ns")]
    namespace: String,
    #[serde(rename = "n")]
    name: String,
}

impl From<&Key> for Place {
    fn from(key: &Key) -> Self {
        Self {
            group: key.collection.group.clone(),
            resource: key.collection.resource.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }
}

impl From<Place> for Key {
    fn from(place: Place) -> Self {
        CollectionKey::new(&place.group, &place.resource).object(&place.namespace, &place.name)
    }
}

/// Appends a record to `to`; one that is too long is left out (`false`).
pub(super) fn encode(entry: &Entry, to: &mut Vec<u8>) -> bool {
    let start = to.len();
    to.extend_from_slice(&MARK);
    to.extend_from_slice(&[0; 8]);
    let body = start + HEAD;
    let length = match serde_json::to_writer(&mut *to, entry) {
        Ok(()) => u32::try_from(to.len() - body).ok(),
        Err(_) => None,
    };
    match length {
        Some(length) if length as usize <= LONGEST => {
            let sum = checksum(length, &to[body..]);
            to[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
            to[start + 8..body].copy_from_slice(&sum.to_le_bytes());
            true
        }
        _ => {
            to.truncate(start);
            false
        }
    }
}

fn checksum(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// A stretch of a file.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// A record.
    Entry(Entry),
    /// Bytes that are no record, with another record behind them.
    Damage(Range<usize>),
    /// The file's end, which holds no whole record: what was being written when the writer was killed.
    Torn(Range<usize>),
}

/// Reads a file's bytes.
pub(super) fn decode(bytes: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut at, mut bad) = (0, None);
    while at < bytes.len() {
        match record(&bytes[at..]) {
            Some((entry, length)) => {
                if let Some(start) = bad.take() {
                    pieces.push(Piece::Damage(start..at));
                }
                pieces.push(Piece::Entry(entry));
                at += length;
            }
            None => {
                bad.get_or_insert(at);
                at += 1 + next_mark(&bytes[at + 1..]);
            }
        }
    }
    if let Some(start) = bad {
        pieces.push(Piece::Torn(start..bytes.len()));
    }
    pieces
}

fn next_mark(bytes: &[u8]) -> usize {
    let found = bytes.windows(MARK.len()).position(|window| window == MARK);
    found.unwrap_or(bytes.len())
}

/// The payloads of a file that holds whole records and nothing else, not looked into.
pub(super) fn payloads(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let payload = payload(&bytes[at..])?;
        all.push(payload);
        at += HEAD + payload.len();
    }
    Some(all)
}

/// What the first record of a file says, whatever comes behind it.
pub(super) fn first(bytes: &[u8]) -> Option<Entry> {
    record(bytes).map(|(entry, _)| entry)
}

/// The record at the beginning of `bytes`, and how many bytes it has.
fn record(bytes: &[u8]) -> Option<(Entry, usize)> {
    let payload = payload(bytes)?;
    // A record of a newer format may say what this one does not know.
    Some((serde_json::from_slice(payload).ok()?, HEAD + payload.len()))
}

fn payload(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    if !head.starts_with(&MARK) {
        return None;
    }
    let (length, sum) = (word(4)?, word(8)?);
    let size = usize::try_from(length).ok().filter(|size| *size <= LONGEST)?;
    let payload = rest.get(..size)?;
    (checksum(length, payload) == sum).then_some(payload)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    pub(in super::super) fn put(name: &str, revision: u64) -> Entry {
        Entry::Put {
            at: Place::from(&CollectionKey::new("", "pods").object("a", name)),
            object: Arc::new(json!({"metadata": {"name": name, "resourceVersion": revision.to_string()}})),
        }
    }

    fn file(entries: &[Entry]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for entry in entries {
            assert!(encode(entry, &mut bytes));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn entries(count: u64) -> Vec<Entry> {
        (1..=count).map(|n| put(&format!("p{n}"), n)).collect()
    }

    fn read(bytes: &[u8]) -> Vec<Entry> {
        decode(bytes)
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Entry(entry) => Some(entry),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let all = [
            Entry::Begin {
                format: FORMAT,
                taken: None,
                note: String::new(),
                content: Value::Null,
            },
            put("x", 7),
            Entry::Whole {
                revision: 7,
                objects: 1,
            },
            Entry::Delete {
                at: Place::from(&CollectionKey::new("apps", "deployments").object("a", "x")),
                revision: 8,
            },
        ];
        let (bytes, _) = file(&all);
        assert_eq!(read(&bytes), all);
        assert_eq!(first(&bytes).as_ref(), all.first());
        assert_eq!(payloads(&bytes).unwrap().len(), all.len());
        assert!(payloads(&bytes[..bytes.len() - 1]).is_none() && payloads(&bytes[1..]).is_none());
        assert!(decode(&[]).is_empty());
    }

    #[test]
    fn a_record_that_is_too_long_is_not_begun() {
        let mut bytes = vec![1, 2, 3];
        let long = Entry::Begin {
            format: 1,
            taken: None,
            note: "x".repeat(LONGEST),
            content: Value::Null,
        };
        assert!(!encode(&long, &mut bytes));
        assert_eq!(bytes, [1, 2, 3]);
    }

    proptest! {
        #[test]
        fn a_cut_costs_the_record_it_goes_through(count in 1u64..6, cut in 0usize..4000) {
            let all = entries(count);
            let (bytes, ends) = file(&all);
            let cut = cut % (bytes.len() + 1);
            let whole = ends.iter().filter(|end| **end <= cut).count();
            prop_assert_eq!(read(&bytes[..cut]), &all[..whole]);
            let boundary = cut == 0 || ends.contains(&cut);
            prop_assert_eq!(matches!(decode(&bytes[..cut]).last(), Some(Piece::Torn(_))), !boundary);
        }

        #[test]
        fn a_flipped_bit_costs_one_record(count in 2u64..6, at in 0usize..4000, bit in 0u8..8) {
            let all = entries(count);
            let (mut bytes, ends) = file(&all);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let hit = ends.iter().filter(|end| **end <= at).count();
            let mut left = all.clone();
            left.remove(hit);
            prop_assert_eq!(read(&bytes), left);
        }

        #[test]
        fn bytes_of_no_sense_are_no_records(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read(&bytes).is_empty());
        }

        #[test]
        fn damage_anywhere_of_any_length_never_invents_a_record(
            count in 1u64..6, at in 0usize..4000, with in proptest::collection::vec(any::<u8>(), 0..200), replace in 0usize..200,
        ) {
            let all = entries(count);
            let (mut bytes, _) = file(&all);
            let at = at % bytes.len();
            let end = (at + replace).min(bytes.len());
            bytes.splice(at..end, with);
            for entry in read(&bytes) {
                prop_assert!(all.contains(&entry));
            }
        }
    }
}
