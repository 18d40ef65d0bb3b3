//! Container logs: lines in the CRI format, read back with the options of `kubectl logs`.
//!
//! Source: Kubernetes' container runtime interface, "log format": `<RFC 3339 time> stdout|stderr P|F <text>`.

use std::{
    collections::VecDeque,
    io::{self, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

use crate::{
    kubelet_api::LogOptions,
    node::runtime::{Attach, Exited},
};

/// How much of a log is read at once, bytes.
const CHUNK: usize = 64 << 10;
/// The longest line that is put together, bytes.
const LONGEST_LINE: usize = 1 << 20;
/// How long a follower waits for a sign of new output before it looks by itself: rotation gives no sign.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// One line of a log file.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its time as written.
    pub time: &'a str,
    /// What was written.
    pub text: &'a [u8],
    /// Whether the program's line ends here (`F`) or goes on (`P`).
    pub full: bool,
}

/// Reads a line; `None` for what is none.
pub fn line(bytes: &[u8]) -> Option<Line<'_>> {
    let mut parts = bytes.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let _stream = parts.next()?;
    let tag = parts.next()?;
    let text = parts.next().unwrap_or_default();
    Some(Line {
        time,
        text,
        full: !tag.starts_with(b"P"),
    })
}

/// Turns raw log bytes into what the client asked to see. Pure: a state machine over chunks.
#[derive(Debug)]
pub struct Filter {
    timestamps: bool,
    since: Option<Timestamp>,
    limit: Option<u64>,
    rest: Vec<u8>,
    /// A line of the program is under way.
    open: bool,
}

impl Filter {
    /// A filter for these options.
    pub fn new(options: &LogOptions, now: Timestamp) -> Self {
        let ago = options.since_seconds.and_then(|seconds| {
            now.checked_sub(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
                .ok()
        });
        Self {
            timestamps: options.timestamps,
            since: options.since_time.or(ago),
            limit: options.limit_bytes,
            rest: Vec::new(),
            open: false,
        }
    }

    /// Whether the client has all it asked for.
    pub fn done(&self) -> bool {
        self.limit == Some(0)
    }

    /// What the client sees of these bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        let mut shown = Vec::new();
        let mut from = 0;
        while let Some(end) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            let raw = &self.rest[from..from + end];
            from += end + 1;
            let Some(line) = line(raw) else { continue };
            let old = self
                .since
                .is_some_and(|since| line.time.parse::<Timestamp>().is_ok_and(|time| time < since));
            if old {
                continue;
            }
            if self.timestamps && !self.open {
                shown.extend_from_slice(line.time.as_bytes());
                shown.push(b' ');
            }
            shown.extend_from_slice(line.text);
            if line.full {
                shown.push(b'\n');
            }
            self.open = !line.full;
        }
        self.rest.drain(..from);
        if self.rest.len() > LONGEST_LINE {
            self.rest.clear();
        }
        if let Some(left) = &mut self.limit {
            let keep = usize::try_from(*left).unwrap_or(usize::MAX).min(shown.len());
            shown.truncate(keep);
            *left -= keep as u64;
        }
        shown
    }
}

/// Where the last `count` lines of the program begin in a log.
pub fn tail_offset(bytes: &[u8], count: u64) -> usize {
    if count == 0 {
        return bytes.len();
    }
    let Ok(count) = usize::try_from(count) else { return 0 };
    let mut starts = VecDeque::new();
    let (mut at, mut begins) = (0, true);
    for raw in bytes.split_inclusive(|byte| *byte == b'\n') {
        if begins {
            starts.push_back(at);
            if starts.len() > count {
                starts.pop_front();
            }
        }
        begins = line(raw.strip_suffix(b"\n").unwrap_or(raw)).is_none_or(|line| line.full);
        at += raw.len();
    }
    starts.front().copied().unwrap_or(bytes.len())
}

/// A running container, for those who follow its log.
pub struct Live {
    /// Its output, as a sign that there is something new to read.
    pub attach: Attach,
    /// Its end.
    pub exited: Exited,
}

/// Streams a log file.
///
/// # Errors
/// When it cannot be read.
pub async fn stream(
    path: PathBuf,
    options: LogOptions,
    live: Option<Live>,
) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
    let follow = options.follow;
    let mut reader = Reader {
        path: path.clone(),
        filter: Filter::new(&options, Timestamp::now()),
        file: None,
        at: 0,
        live,
        follow,
        last: false,
    };
    if let Some(lines) = options.tail_lines {
        let bytes = match tokio::fs::read(&path).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        reader.at = tail_offset(&bytes, lines) as u64;
    }
    let signs = reader.live.as_ref().map(|live| live.attach.output());
    Ok(Box::pin(futures::stream::try_unfold(
        (reader, signs),
        |(mut reader, mut signs)| async move {
            loop {
                if reader.filter.done() {
                    return Ok(None);
                }
                if let Some(bytes) = reader.read().await? {
                    let shown = reader.filter.feed(&bytes);
                    if shown.is_empty() {
                        continue;
                    }
                    return Ok(Some((Bytes::from(shown), (reader, signs))));
                }
                if !reader.follow || reader.last {
                    return Ok(None);
                }
                let Some(live) = &mut reader.live else { return Ok(None) };
                if live.exited.now().is_some() {
                    // What it wrote last may still be on its way to the file.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    reader.last = true;
                    continue;
                }
                let sign = async {
                    match &mut signs {
                        Some(signs) => drop(signs.recv().await),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = sign => tokio::time::sleep(Duration::from_millis(1)).await,
                    _ = live.exited.wait() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
            }
        },
    )))
}

struct Reader {
    path: PathBuf,
    filter: Filter,
    file: Option<File>,
    at: u64,
    live: Option<Live>,
    follow: bool,
    last: bool,
}

impl Reader {
    /// The next bytes of the file, or `None` at its end.
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = match tokio::fs::metadata(&self.path).await {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if length < self.at {
            // It was rotated: the new file begins at its beginning.
            self.at = 0;
            self.file = None;
        }
        if length == self.at {
            return Ok(None);
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.path).await?,
        };
        file.seek(SeekFrom::Start(self.at)).await?;
        let mut bytes = vec![0; CHUNK];
        let count = file.read(&mut bytes).await?;
        self.file = Some(file);
        self.at += count as u64;
        bytes.truncate(count);
        Ok((count > 0).then_some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:05Z stdout P tw\n2026-01-01T00:00:05Z stdout F o\nrubbish\n2026-01-01T00:00:09Z stderr F three\n";

    fn shown(options: &LogOptions) -> String {
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        let mut filter = Filter::new(options, now);
        let from = options.tail_lines.map_or(0, |lines| tail_offset(LOG, lines));
        let mut seen = Vec::new();
        // Byte by byte: a chunk may end anywhere.
        for byte in &LOG[from..] {
            seen.extend(filter.feed(std::slice::from_ref(byte)));
        }
        String::from_utf8(seen).unwrap()
    }

    #[test]
    fn options_do_what_kubectl_says() {
        let all = LogOptions::default();
        for (options, expected) in [
            (all.clone(), "one\ntwo\nthree\n"),
            (
                LogOptions {
                    tail_lines: Some(0),
                    ..all.clone()
                },
                "",
            ),
            (
                LogOptions {
                    tail_lines: Some(9),
                    ..all.clone()
                },
                "one\ntwo\nthree\n",
            ),
            (
                LogOptions {
                    since_seconds: Some(5),
                    ..all.clone()
                },
                "two\nthree\n",
            ),
            (
                LogOptions {
                    limit_bytes: Some(5),
                    ..all.clone()
                },
                "one\nt",
            ),
            (
                LogOptions {
                    timestamps: true,
                    since_seconds: Some(4),
                    ..all.clone()
                },
                "2026-01-01T00:00:09Z three\n",
            ),
        ] {
            assert_eq!(shown(&options), expected, "{options:?}");
        }
    }

    #[test]
    fn the_tail_counts_the_programs_lines() {
        let log =
            b"2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:05Z stdout P tw\n2026-01-01T00:00:05Z stdout F o\n";
        assert!(log[tail_offset(log, 1)..].starts_with(b"2026-01-01T00:00:05Z stdout P tw"));
        assert_eq!(tail_offset(log, 2), 0);
    }
}
