//! The observer's side, inside the pod: what `/.ztlab/ztlab __observe …` does there.
//!
//! It speaks to the outside over its standard streams only: results on standard output, what it has to say about
//! itself as JSON lines on standard error, and it ends when its standard input does.

#[cfg(target_os = "linux")]
mod listen;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use serde::{Deserialize, Serialize};

use super::Interface;

/// A line on the standard error of a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Note {
    /// libpcap listens.
    Started {
        /// The pod's interfaces.
        interfaces: Vec<Interface>,
    },
    /// Where libpcap's counters stand.
    Counters {
        /// Packets that passed the filter.
        received: u64,
        /// Packets dropped for want of room.
        dropped: u64,
    },
    /// As long or as many as asked for.
    Complete,
    /// The filter is not valid.
    BadFilter {
        /// libpcap's words.
        detail: String,
    },
    /// It cannot go on.
    Failed {
        /// Why.
        detail: String,
    },
}

/// What a capture is asked for on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub filter: Option<String>,
    pub snaplen: u32,
    pub ring: u32,
    pub duration: Option<Duration>,
    pub packets: Option<u64>,
}

impl Options {
    /// As words of a command line.
    pub(super) fn to_args(&self) -> Vec<String> {
        let numbers = [("--snaplen", self.snaplen), ("--ring", self.ring)];
        let mut args: Vec<String> = numbers
            .iter()
            .flat_map(|(name, number)| [(*name).to_owned(), number.to_string()])
            .collect();
        let options = [
            ("--filter", self.filter.clone()),
            (
                "--duration-ms",
                self.duration.map(|duration| duration.as_millis().to_string()),
            ),
            ("--packets", self.packets.map(|packets| packets.to_string())),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                args.push(name.to_owned());
                args.push(value);
            }
        }
        args
    }

    fn from_args(args: &[String]) -> Result<Self, String> {
        let mut options = Self {
            filter: None,
            snaplen: super::CaptureRequest::SNAPLEN,
            ring: super::CaptureRequest::RING,
            duration: None,
            packets: None,
        };
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || {
                value
                    .parse::<u64>()
                    .map_err(|_| format!("{name} needs a number, not {value:?}"))
            };
            match name.as_str() {
                "--filter" => options.filter = Some(value.clone()),
                "--snaplen" => options.snaplen = u32::try_from(number()?).unwrap_or(u32::MAX).clamp(64, 262_144),
                "--ring" => options.ring = u32::try_from(number()?).unwrap_or(u32::MAX).clamp(256 << 10, 64 << 20),
                "--duration-ms" => options.duration = Some(Duration::from_millis(number()?)),
                "--packets" => options.packets = Some(number()?),
                _ => return Err(format!("unknown option {name:?}")),
            }
        }
        Ok(options)
    }
}

/// The stage `__observe`: `capture …` streams a pcap file, `probe` runs the one that a line of standard
/// input describes.
pub fn observe_stage(args: Vec<OsString>) -> ExitCode {
    let args: Vec<String> = args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.split_first() {
        Some((what, rest)) if what == "capture" => capture(rest),
        Some((what, [])) if what == "probe" => crate::probe::stage(),
        _ => Err(
            "usage: __observe capture [--filter F] [--snaplen N] [--ring N] [--duration-ms N] [--packets N] | probe < JSON".into(),
        ),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(detail) => {
            note(&Note::Failed { detail });
            ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
fn capture(args: &[String]) -> Result<(), String> {
    listen::capture(&Options::from_args(args)?)
}

#[cfg(not(target_os = "linux"))]
fn capture(args: &[String]) -> Result<(), String> {
    Options::from_args(args)?;
    Err("an observer runs in a Linux pod only".to_owned())
}

fn note(note: &Note) {
    if let Ok(line) = serde_json::to_string(note) {
        eprintln!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_the_command_line() {
        let all = Options {
            filter: Some("tcp port 80 and not host 10.0.0.1".into()),
            snaplen: 128,
            ring: 1 << 20,
            duration: Some(Duration::from_millis(1500)),
            packets: Some(7),
        };
        assert_eq!(Options::from_args(&all.to_args()), Ok(all));
        for bad in [&["--snaplen"][..], &["--snaplen", "x"], &["--what", "1"]] {
            let args: Vec<String> = bad.iter().map(|arg| (*arg).to_owned()).collect();
            assert!(Options::from_args(&args).is_err(), "{bad:?}");
        }
    }
}
