//! What a container says of its end: the file at `terminationMessagePath`, or the end of its log.
//!
//! Source: Kubernetes' "Determine the Reason for Pod Failure"; the bounds are the kubelet's.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::{
    Inner, lock,
    logs::{Filter, tail_offset},
    mounting,
    starting::hash,
    state::Kind,
    translate,
    worker::Worker,
};
use crate::{
    kubelet_api::LogOptions,
    node::runtime::{Mount, MountSource},
};

/// The most that is read of a message, bytes.
const MESSAGE: u64 = 4096;
/// The most of a log that stands for a message, bytes and lines.
const LOG: (usize, u64) = (2048, 80);
/// How much of a log's file is looked at for that, bytes.
const TAIL: u64 = 64 << 10;
/// Room for the messages of all containers of a pod, bytes: it is memory of the node.
const ROOM: u64 = 256 << 10;
/// Where a container's message is if it does not say.
const PATH: &str = "/dev/termination-log";

/// A container's message file on the node.
fn file(inner: &Inner, uid: &str, container: &str) -> PathBuf {
    inner.config.volumes.join(uid).join("messages").join(hash(container))
}

/// Makes an empty message file for a container that is about to start; gives its mount.
pub(super) fn mount(inner: &Inner, pod: &Pod, container: &Container) -> io::Result<Mount> {
    let file = file(inner, &pod.uid().unwrap_or_default(), &container.name);
    let dir = file.parent().unwrap_or(Path::new("/"));
    if !dir.exists() {
        mounting::memory(dir, ROOM, "0755")?;
    }
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::write(&file, "")?,
    }
    // Whatever user the container has.
    fs::set_permissions(&file, Permissions::from_mode(0o666))?;
    let path = container
        .termination_message_path
        .as_deref()
        .filter(|path| !path.is_empty());
    Ok(Mount {
        source: MountSource::Dir(file),
        target: PathBuf::from(path.unwrap_or(PATH)),
        sub_path: None,
        read_only: false,
    })
}

/// The end of a log, as its program wrote it.
fn end_of_log(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    // The first line is cut where the file is longer.
    let whole = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) if from > 0 => bytes.get(end + 1..).unwrap_or_default(),
        _ => &bytes,
    };
    let (most, lines) = LOG;
    let mut filter = Filter::new(&LogOptions::default(), Timestamp::UNIX_EPOCH);
    let shown = filter.feed(whole.get(tail_offset(whole, lines)..).unwrap_or_default());
    let kept = shown.get(shown.len().saturating_sub(most)..).unwrap_or_default();
    Ok(String::from_utf8_lossy(kept).into_owned())
}

impl Worker {
    /// What a container that ended with this code says of it.
    pub(super) fn last_words(&self, name: &str, code: i32) -> Option<String> {
        let mut said = Vec::new();
        if let Ok(file) = File::open(file(&self.inner, &self.uid, name)) {
            // What cannot be read was not said.
            let _ = file.take(MESSAGE).read_to_end(&mut said);
        }
        if !said.is_empty() {
            return Some(String::from_utf8_lossy(&said).into_owned());
        }
        let spec = self.pod.spec.clone().unwrap_or_default();
        let container = [Kind::Main, Kind::Init, Kind::Ephemeral]
            .into_iter()
            .find_map(|kind| translate::find(&spec, kind, name))?;
        if code == 0 || container.termination_message_policy.as_deref() != Some("FallbackToLogsOnError") {
            return None;
        }
        let attempt = lock(&self.inner.instances).get(&self.uid)?.get(name)?.attempt;
        let log = self.inner.log_file(&self.pod, name, attempt);
        end_of_log(&log).ok().filter(|text| !text.is_empty())
    }

    /// Removes the logs of a container's instances before the last.
    pub(super) fn forget_logs(&self, name: &str, attempt: i32) {
        let old = self.inner.log_file(&self.pod, name, attempt - 2);
        for file in [old.with_extension("log.1"), old] {
            // What is not there needs no removing.
            let _ = fs::remove_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_ends_with_its_last_lines() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("0.log");
        let line = |text: &str| format!("2026-01-01T00:00:00Z stdout F {text}\n");
        let many: String = (0..5000).map(|n| line(&format!("line {n}"))).collect();
        fs::write(&path, many).unwrap();
        let end = end_of_log(&path).unwrap();
        assert_eq!(end.lines().count(), 80);
        assert!(end.starts_with("line 4920\n") && end.ends_with("line 4999\n"), "{end}");
        fs::write(&path, line(&"x".repeat(5000)) + &line("last")).unwrap();
        let end = end_of_log(&path).unwrap();
        assert!(end.len() == 2048 && end.ends_with("x\nlast\n"));
    }
}
