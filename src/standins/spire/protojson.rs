//! Messages as JSON, by protobuf's own mapping: what `-output json` prints.
//!
//! Which messages, and with which of these functions, `build.rs` says. SPIRE prints the names of the fields as the `.proto`
//! files have them, and those that are not set too (`UseProtoNames`, `EmitUnpopulated`).
//!
//! Source: <https://protobuf.dev/programming-guides/json/>

use std::collections::{BTreeMap, HashMap};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer};

/// Numbers of 64 bits are text: not every reader of JSON has so many digits.
pub fn int64<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// As [`int64`].
pub fn uint64<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// Bytes are base64 with padding.
pub fn bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

/// A list of [`bytes`].
pub fn many_bytes<S: Serializer>(many: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(many.iter().map(|bytes| BASE64_STANDARD.encode(bytes)))
}

/// A map of names to [`bytes`], in the order of the names.
pub fn named_bytes<S: Serializer>(named: &HashMap<String, Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    let sorted: BTreeMap<_, _> = named.iter().collect();
    serializer.collect_map(
        sorted
            .into_iter()
            .map(|(name, bytes)| (name, BASE64_STANDARD.encode(bytes))),
    )
}

/// A message, or several as a list, on one line.
///
/// # Errors
/// Memory for the text could not be had.
pub fn line(message: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(message).map(|text| text + "\n")
}
