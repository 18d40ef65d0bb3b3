//! Test only: what Wireshark says about the same bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use super::{LinkType, pcapfile};

/// A capture made for a comparison.
#[derive(Debug, Clone)]
pub(crate) struct Capture {
    pub name: &'static str,
    pub link: LinkType,
    /// The frames, and how long each was on the wire.
    pub frames: Vec<(Vec<u8>, usize)>,
}

impl Capture {
    pub(crate) fn new(name: &'static str, link: LinkType, frames: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let frames = frames.into_iter().map(|frame| (frame.clone(), frame.len())).collect();
        Self { name, link, frames }
    }

    /// The bytes of a capture file; frames are a millisecond apart.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut file = pcapfile::pcap_header(self.link, 262_144);
        let mut ts = 1_700_000_000_000_000_000;
        for (frame, length) in &self.frames {
            ts += 1_000_000;
            pcapfile::pcap_record(ts, *length as u32, frame, &mut file);
        }
        file
    }

    /// Each frame as the dissector takes it.
    pub(crate) fn frames(&self) -> impl Iterator<Item = super::Frame<'_>> {
        self.frames
            .iter()
            .zip(1..)
            .map(|((data, length), number)| super::Frame {
                number,
                ts_ns: 1_700_000_000_000_000_000 + number * 1_000_000,
                link: self.link,
                orig_len: *length as u32,
                data,
            })
    }
}

/// The values of one frame, by field name, in order.
pub(crate) type Values = BTreeMap<String, Vec<String>>;

/// The values of these fields, frame by frame, by `tshark -T json`; `None` where it is not installed, outside CI.
pub(crate) fn tshark(file: &[u8], fields: &BTreeSet<&str>) -> Option<Vec<Values>> {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file).unwrap();
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path.path()).args(["-n", "-T", "json"]);
    // Wireshark leaves segments that come out of order unread unless told otherwise.
    command.args(["-o", "tcp.reassemble_out_of_order:TRUE"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(_) => {
            assert!(std::env::var_os("CI").is_none(), "no tshark here");
            eprintln!("SKIPPED: no tshark here");
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let frames: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let values = |frame: &serde_json::Value| -> Values {
        frame["_source"]["layers"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, values)| {
                let values = values.as_array().unwrap().iter();
                (
                    name.clone(),
                    values.map(|value| normal(value.as_str().unwrap())).collect(),
                )
            })
            .collect()
    };
    Some(frames.iter().map(values).collect())
}

/// A value in one way of writing: numbers in decimal, flags as 0 and 1.
pub(crate) fn normal(value: &str) -> String {
    match value {
        "True" => return "1".into(),
        "False" => return "0".into(),
        _ => {}
    }
    let number = value
        .strip_prefix("0x")
        .and_then(|hex| u64::from_str_radix(hex, 16).ok());
    number.map_or_else(|| value.to_owned(), |number| number.to_string())
}

/// How much of what Wireshark says must be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    /// All of it.
    Everything,
    /// Nothing that contradicts it. Of a damaged frame, Wireshark shows more of a header that is cut, and less of
    /// what stands behind an option that does not hold.
    NoOther,
}

/// Every field of a frame about which both do not say the same: field, ours, theirs.
pub(crate) fn differences(
    fields: &BTreeSet<&str>,
    ours: &Values,
    theirs: &Values,
    say: Say,
) -> Vec<(String, Vec<String>, Vec<String>)> {
    let none = Vec::new();
    fields
        .iter()
        .filter_map(|field| {
            let ours = ours.get(*field).unwrap_or(&none);
            let theirs = theirs.get(*field).unwrap_or(&none);
            let same = match say {
                Say::Everything => ours == theirs,
                Say::NoOther => theirs.is_empty() || theirs.starts_with(ours),
            };
            (!same).then(|| ((*field).to_owned(), ours.clone(), theirs.clone()))
        })
        .collect()
}
