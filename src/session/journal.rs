//! A session's memory on disk: JSON lines, appended and synced one at a time.
//!
//! A crash at any byte loses at most the event that was being written: what follows the last whole line is cut off
//! when the journal is opened again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{site::Choice, state::Event};

/// The journal's format.
const VERSION: u32 = 1;

/// The longest journal that is read, in bytes.
const MAX: u64 = 16 << 20;

/// The first line: what the rest belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The format.
    pub version: u32,
    /// The lab's id.
    pub lab: String,
    /// Hash of the lab's file, which the session is pinned to.
    pub hash: String,
    /// Where that file was found.
    pub source: String,
    /// When the session began, in milliseconds since the Unix epoch.
    pub began_ms: u64,
    /// The ground it runs on.
    #[serde(default)]
    pub choice: Choice,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    at_ms: u64,
    #[serde(flatten)]
    event: Event,
}

/// A journal that is open for appending.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Its first line is no header of this version.
    #[error("{}: this is no journal of this version of ztlab", .0.display())]
    Foreign(PathBuf),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { path, source }
}

impl Header {
    /// The header of a session that begins now.
    pub fn new(lab: &str, hash: String, source: String, choice: Choice) -> Self {
        Self {
            version: VERSION,
            lab: lab.to_owned(),
            hash,
            source,
            began_ms: super::now_ms(),
            choice,
        }
    }
}

impl Journal {
    /// Begins a new journal in the place of the one that is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &Path, header: &Header) -> Result<Self, JournalError> {
        // Written beside and moved into place: whoever opens the path finds a whole header.
        let new = path.with_extension("new");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)
            .map_err(at(&new))?;
        let mut line = serde_json::to_vec(header).map_err(io::Error::other).map_err(at(&new))?;
        line.push(b'\n');
        file.write_all(&line).and_then(|()| file.sync_all()).map_err(at(&new))?;
        fs::rename(&new, path).map_err(at(path))?;
        if let Some(dir) = path.parent() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))?;
        }
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Opens a journal and reads what it holds; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read or is something else.
    pub fn open(path: &Path) -> Result<Option<(Self, Header, Vec<Written>)>, JournalError> {
        let Some((header, events, whole)) = lines(path)? else {
            return Ok(None);
        };
        let file = OpenOptions::new().append(true).open(path).map_err(at(path))?;
        file.set_len(whole).and_then(|()| file.sync_all()).map_err(at(path))?;
        let journal = Self {
            file,
            path: path.to_owned(),
        };
        Ok(Some((journal, header, events)))
    }

    /// Writes an event down; it is on the disk when this returns.
    ///
    /// # Errors
    /// When the disk is full or gone.
    pub fn append(&mut self, event: &Event) -> Result<(), JournalError> {
        let line = Line {
            at_ms: super::now_ms(),
            event: event.clone(),
        };
        let mut bytes = serde_json::to_vec(&line)
            .map_err(io::Error::other)
            .map_err(at(&self.path))?;
        bytes.push(b'\n');
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.sync_data())
            .map_err(at(&self.path))
    }
}

/// An event, and when it was written down, in milliseconds since the Unix epoch.
pub type Written = (u64, Event);

/// Reads a journal without opening it for writing: its header, its events, and where its last whole line ends.
///
/// # Errors
/// As [`Journal::open`].
pub fn read(path: &Path) -> Result<Option<(Header, Vec<Event>, u64)>, JournalError> {
    let read = lines(path)?;
    Ok(read.map(|(header, written, whole)| (header, written.into_iter().map(|(_, event)| event).collect(), whole)))
}

/// The same with the time of each event.
///
/// # Errors
/// As [`Journal::open`].
pub fn lines(path: &Path) -> Result<Option<(Header, Vec<Written>, u64)>, JournalError> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > MAX => return Err(JournalError::Foreign(path.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    }
    let bytes = fs::read(path).map_err(at(path))?;
    let mut lines = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"));
    let header: Header = lines
        .next()
        .and_then(|line| serde_json::from_slice(line).ok())
        .filter(|header: &Header| header.version == VERSION)
        .ok_or_else(|| JournalError::Foreign(path.to_owned()))?;
    let mut whole = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut events = Vec::new();
    for line in lines {
        let Ok(Line { event, at_ms }) = serde_json::from_slice(line) else {
            break;
        };
        events.push((at_ms, event));
        whole += line.len();
    }
    Ok(Some((header, events, whole as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<Event> {
        vec![
            Event::Deployed { epoch: 0 },
            Event::Answered {
                step: 0,
                check: 1,
                value: "zwölf\n".to_owned(),
            },
            Event::Reset,
            Event::Solved { step: 2 },
        ]
    }

    fn written(path: &Path) -> Header {
        let header = Header::new("wiretap", "abc".to_owned(), "built in".to_owned(), Choice::default());
        let mut journal = Journal::create(path, &header).unwrap();
        for event in events() {
            journal.append(&event).unwrap();
        }
        header
    }

    #[test]
    fn a_crash_at_any_byte_loses_at_most_the_last_event() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal.jsonl");
        let header = written(&path);
        let whole = fs::read(&path).unwrap();
        let head = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in head..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut journal, found, read) = Journal::open(&path).unwrap().unwrap();
            assert_eq!(found, header);
            let lines = whole[head..cut].iter().filter(|byte| **byte == b'\n').count();
            let read: Vec<Event> = read.into_iter().map(|(_, event)| event).collect();
            assert_eq!(read, events()[..lines]);
            journal.append(&Event::Reset).unwrap();
            let (_, _, again) = Journal::open(&path).unwrap().unwrap();
            assert_eq!(again.len(), lines + 1, "appending goes on after the cut at {cut}");
        }
    }

    #[test]
    fn something_else_is_refused_and_nothing_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal.jsonl");
        assert!(Journal::open(&path).unwrap().is_none());
        fs::write(&path, "not a journal\n").unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::Foreign(_))));
        assert_eq!(fs::read(&path).unwrap(), b"not a journal\n");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let temp = tempfile::tempdir().unwrap();
            let path = temp.path().join("journal.jsonl");
            let header = Header::new("wiretap", "abc".to_owned(), "built in".to_owned(), Choice::default());
            let mut text = serde_json::to_vec(&header).unwrap();
            text.push(b'\n');
            text.extend(bytes);
            fs::write(&path, text).unwrap();
            proptest::prop_assert!(Journal::open(&path).is_ok());
        }
    }
}
