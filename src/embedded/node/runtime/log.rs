//! A container's log in the CRI format: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`.
//!
//! Source: Kubernetes' CRI logging (`kubelet-cri-logging`): `P` marks a part of a line that is longer than a record.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::Output;

/// The longest record, bytes: what containerd uses.
const RECORD: usize = 16 << 10;

/// A log file with a bound.
pub(super) struct LogFile {
    path: PathBuf,
    /// It is made with its first record: most of what a file system does for a container that says nothing would be this file
    /// and its directory.
    file: Option<File>,
    size: u64,
    limit: u64,
}

impl LogFile {
    /// A log that is appended to `path`; when it is larger than `limit` bytes it becomes `path.1`. The directory of its
    /// directory must be there: what a container of a removed pod says last brings nothing back.
    pub(super) fn new(path: &Path, limit: u64) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            size: 0,
            limit,
        }
    }

    fn open(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            if let Some(Err(error)) = self.path.parent().map(fs::create_dir)
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(error);
            }
            let file = File::options().create(true).append(true).open(&self.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Writes one record; `whole` says that the line ends with it.
    fn record(&mut self, output: Output, text: &[u8], whole: bool) -> io::Result<()> {
        let mut record = Vec::with_capacity(text.len() + 48);
        let stream = match output {
            Output::Stdout => "stdout",
            Output::Stderr => "stderr",
        };
        let tag = if whole { 'F' } else { 'P' };
        write!(record, "{:.9} {stream} {tag} ", jiff::Timestamp::now())?;
        record.extend_from_slice(text);
        record.push(b'\n');
        self.open()?;
        if self.size > 0 && self.size + record.len() as u64 > self.limit {
            self.rotate()?;
        }
        self.open()?.write_all(&record)?;
        self.size += record.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        fs::rename(&self.path, older)?;
        self.file = None;
        Ok(())
    }
}

/// Cuts one output into lines.
pub(super) struct Lines {
    output: Output,
    pending: Vec<u8>,
}

impl Lines {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            pending: Vec::new(),
        }
    }

    /// Takes what was read; writes what is complete.
    pub(super) fn feed(&mut self, bytes: &[u8], log: &mut LogFile) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = RECORD - self.pending.len();
            let window = rest.get(..room.min(rest.len())).unwrap_or(rest);
            if let Some(end) = window.iter().position(|&byte| byte == b'\n') {
                self.pending.extend_from_slice(window.get(..end).unwrap_or_default());
                log.record(self.output, &self.pending, true)?;
                self.pending.clear();
                rest = rest.get(end + 1..).unwrap_or_default();
            } else {
                self.pending.extend_from_slice(window);
                rest = rest.get(window.len()..).unwrap_or_default();
                if self.pending.len() == RECORD {
                    log.record(self.output, &self.pending, false)?;
                    self.pending.clear();
                }
            }
        }
        Ok(())
    }

    /// Writes a last line without an end.
    pub(super) fn finish(&mut self, log: &mut LogFile) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        log.record(self.output, &pending, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(limit: u64, pieces: &[&[u8]]) -> (Vec<(String, String)>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/0.log");
        let mut log = LogFile::new(&path, limit);
        let mut lines = Lines::new(Output::Stdout);
        for piece in pieces {
            lines.feed(piece, &mut log).unwrap();
        }
        lines.finish(&mut log).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let records = text
            .lines()
            .map(|line| {
                let mut parts = line.splitn(4, ' ');
                parts.next().unwrap().parse::<jiff::Timestamp>().unwrap();
                assert_eq!(parts.next(), Some("stdout"));
                let tag = parts.next().unwrap().to_owned();
                (tag, parts.next().unwrap().to_owned())
            })
            .collect();
        (records, dir)
    }

    #[test]
    fn lines_are_whole_whatever_the_reads() {
        let (records, _dir) = logged(1 << 20, &[b"on", b"e\ntwo\n\nthr", b"ee"]);
        let text: Vec<&str> = records.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(text, ["one", "two", "", "three"]);
        assert!(records.iter().all(|(tag, _)| tag == "F"));
    }

    #[test]
    fn a_long_line_is_cut_into_records() {
        let long = vec![b'x'; 2 * RECORD + 5];
        let (records, _dir) = logged(1 << 20, &[&long, b"\n"]);
        let shape: Vec<(&str, usize)> = records.iter().map(|(tag, text)| (tag.as_str(), text.len())).collect();
        assert_eq!(shape, [("P", RECORD), ("P", RECORD), ("F", 5)]);
    }

    #[test]
    fn who_says_nothing_has_no_file_and_who_speaks_after_its_pod_is_gone_neither() {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = Lines::new(Output::Stderr);
        let mut log = LogFile::new(&dir.path().join("pod/a/0.log"), 1000);
        lines.feed(b"not a whole line", &mut log).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(lines.finish(&mut log).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_log_is_bounded() {
        let lines: Vec<u8> = (0..200).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        let (records, dir) = logged(1000, &[&lines]);
        assert_eq!(records.last().unwrap().1, "line 199");
        for file in ["a/0.log", "a/0.log.1"] {
            assert!(fs::metadata(dir.path().join(file)).unwrap().len() <= 1000);
        }
    }
}
