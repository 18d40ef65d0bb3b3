//! The store on disk: every change appended to one file, which is written anew, smaller, when it has grown.
//!
//! The file begins with a whole state and goes on with the changes after it. A thread of its own writes: what the store holds
//! back for it is a list of changes, or, where that grew too long, the wish for a whole new file. A change is handed to
//! the kernel at once (a killed node loses what it has not yet told anybody of) and to the disk within [`SYNC`] (a machine that
//! loses power loses at most that much). Events and Leases are left out.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::watch;

use super::{
    CollectionKey, Key, Limits, OpenError,
    collection::Collections,
    record::{self, Entry, FORMAT, Piece},
};

/// The longest time that a change waits for the disk.
pub(super) const SYNC: Duration = Duration::from_secs(1);
/// The file is written anew when the changes in it are this many bytes, and more than the state they are changes of.
const GROWTH: u64 = 1 << 20;
/// Changes that are kept for the writer; if it is so far behind, it writes the whole state.
const BEHIND: usize = 8192;
/// Revisions between the last one read and the first one given, so that none that was given before the node died is given
/// again.
const GAP: u64 = 100_000;
/// The file.
const FILE: &str = "state";

/// What is not kept: it tells of the time that is over.
pub(super) fn is_kept(collection: &CollectionKey) -> bool {
    !matches!(
        (collection.group.as_str(), collection.resource.as_str()),
        ("" | "events.k8s.io", "events") | ("coordination.k8s.io", "leases")
    )
}

/// Changes that wait for the writer. Part of the store's state, so that they are in its order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    entries: Vec<Entry>,
    /// There were too many: the whole state is to be written.
    overflow: bool,
    closing: bool,
    /// The newest revision of a change that is kept, written or not.
    newest: u64,
}

impl Pending {
    pub(super) fn add(&mut self, key: &Key, object: Option<&Arc<Value>>, revision: u64) {
        if !is_kept(&key.collection) {
            return;
        }
        self.newest = revision;
        if self.overflow {
            return;
        }
        if self.entries.len() == BEHIND {
            self.entries = Vec::new();
            self.overflow = true;
            return;
        }
        let at = key.into();
        self.entries.push(match object {
            Some(object) => Entry::Put {
                at,
                object: object.clone(),
            },
            None => Entry::Delete { at, revision },
        });
    }
}

impl Pending {
    /// Up to where the file has to be written for a change of this revision to be kept. Changes that are not kept have
    /// revisions too, which no writing ever reaches.
    pub(super) fn needed(&self, revision: u64) -> u64 {
        revision.min(self.newest)
    }
}

/// The state and what wakes the writer.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<Collections>,
    pub(super) changed: Condvar,
}

impl Shared {
    // A panic elsewhere cannot leave the maps half-written: every write is a single insert or remove followed by infallible
    // bookkeeping, so a poisoned lock is still a sound store.
    pub(super) fn lock(&self) -> MutexGuard<'_, Collections> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's handle; when the last is dropped, everything is on disk and the writer has ended.
#[derive(Debug)]
pub(super) struct Journal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) written: watch::Receiver<u64>,
}

impl Journal {
    /// Writes what is left, and ends the writer.
    pub(super) fn close(&self) {
        if let Some(pending) = self.shared.lock().pending() {
            pending.closing = true;
        }
        self.shared.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the writer of the cluster's state panicked; the message is above");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

/// What was found on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// How many objects there are.
    pub objects: usize,
    /// Bytes that could not be read, with readable ones behind them: something has changed the file.
    pub damaged: usize,
    /// Bytes at the end that were not written to their end when the node was killed.
    pub torn: usize,
    /// Where the damaged file is kept, for whoever wants to look.
    pub kept: Option<PathBuf>,
}

impl Recovery {
    /// What the cluster's user should know; nothing where all is well. The last, unfinished write of a killed node is no
    /// damage.
    pub fn note(&self) -> Option<String> {
        let kept = self.kept.as_ref()?;
        Some(format!(
            "the cluster's state was damaged ({} bytes could not be read): {} objects came back, what was lost with the others \
             is not known; the damaged file is kept as {}",
            self.damaged,
            self.objects,
            kept.display()
        ))
    }
}

/// Reads the state in `dir` and begins to keep it there.
///
/// # Errors
/// When the directory cannot be read or written, or its file is of a newer format.
pub(super) fn open(dir: &Path, limits: Limits) -> Result<(Arc<Shared>, Arc<Journal>, Recovery), OpenError> {
    let path = dir.join(FILE);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    // A new file that was not finished.
    let _ = fs::remove_file(fresh(&path));
    let (bytes, is_new) = match fs::read(&path) {
        Ok(bytes) => (bytes, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), true),
        Err(error) => return Err(failed(&path)(error)),
    };
    let mut state = Collections::new(limits);
    let mut recovery = load(&mut state, &bytes, &path)?;
    if !is_new {
        state.begin_at(state.revision() + GAP);
    }
    state.keep();
    let mut writer = Writer::new(path.clone(), state.revision());
    if is_new || recovery.damaged > 0 {
        if recovery.damaged > 0 {
            let kept = dir.join("state.damaged");
            fs::rename(&path, &kept).map_err(failed(&kept))?;
            recovery.kept = Some(kept);
        }
        writer
            .rewrite(&state.objects(), state.revision())
            .map_err(failed(&path))?;
    } else {
        let end = u64::try_from(bytes.len() - recovery.torn).unwrap_or(0);
        writer.resume(end).map_err(failed(&path))?;
    }
    drop(bytes);
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        changed: Condvar::new(),
    });
    let written = writer.written.subscribe();
    let seen = shared.clone();
    let thread = std::thread::Builder::new()
        .name("journal".to_owned())
        .stack_size(256 << 10)
        .spawn(move || writer.run(&seen))
        .map_err(failed(&path))?;
    let journal = Journal {
        shared: shared.clone(),
        thread: Mutex::new(Some(thread)),
        written,
    };
    Ok((shared, Arc::new(journal), recovery))
}

fn load(state: &mut Collections, bytes: &[u8], path: &Path) -> Result<Recovery, OpenError> {
    let mut recovery = Recovery::default();
    for piece in record::decode(bytes) {
        match piece {
            Piece::Entry(Entry::Begin { format, .. }) if format > FORMAT => {
                return Err(OpenError::Newer {
                    path: path.to_owned(),
                    format,
                });
            }
            Piece::Entry(Entry::Begin { .. }) => {}
            Piece::Entry(Entry::Put { at, object }) => state.load(&at.into(), object),
            Piece::Entry(Entry::Delete { at, revision }) => state.unload(&at.into(), revision),
            Piece::Entry(Entry::Whole { revision, .. }) => state.begin_at(revision),
            Piece::Damage(range) => recovery.damaged += range.len(),
            Piece::Torn(range) => recovery.torn += range.len(),
        }
    }
    recovery.objects = state.objects().len();
    Ok(recovery)
}

fn fresh(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// A file that only this user can read, written in one step: under its name is the old content or the new one, also after a
/// loss of power.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let fresh = fresh(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&fresh, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

struct Writer {
    path: PathBuf,
    file: Option<File>,
    /// Bytes of the state that the file begins with, and of the changes after it.
    base: u64,
    grown: u64,
    unsynced_since: Option<Instant>,
    written: watch::Sender<u64>,
}

enum Work {
    Append(Vec<Entry>, u64),
    Rewrite(Vec<(Key, Arc<Value>)>, u64),
    Sync,
    End,
}

impl Writer {
    fn new(path: PathBuf, revision: u64) -> Self {
        Self {
            path,
            file: None,
            base: 0,
            grown: 0,
            unsynced_since: None,
            written: watch::Sender::new(revision),
        }
    }

    fn resume(&mut self, end: u64) -> io::Result<()> {
        let file = OpenOptions::new().append(true).open(&self.path)?;
        file.set_len(end)?;
        self.file = Some(file);
        self.grown = end;
        Ok(())
    }

    fn rewrite(&mut self, objects: &[(Key, Arc<Value>)], revision: u64) -> io::Result<()> {
        let mut bytes = Vec::new();
        let begin = Entry::Begin {
            format: FORMAT,
            taken: None,
            note: String::new(),
            content: Value::Null,
        };
        record::encode(&begin, &mut bytes);
        for (key, object) in objects {
            let entry = Entry::Put {
                at: key.into(),
                object: object.clone(),
            };
            if !record::encode(&entry, &mut bytes) {
                tracing::error!(?key, "too large to be kept on disk");
            }
        }
        let whole = Entry::Whole {
            revision,
            objects: objects.len(),
        };
        record::encode(&whole, &mut bytes);
        self.file = Some(write_whole(&self.path, &bytes)?);
        self.base = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.grown = 0;
        self.unsynced_since = None;
        Ok(())
    }

    fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for entry in entries {
            if !record::encode(entry, &mut bytes) {
                tracing::error!("an object is too large to be kept on disk");
            }
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(&bytes)?;
        self.grown += u64::try_from(bytes.len()).unwrap_or(0);
        self.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn run(mut self, shared: &Shared) {
        let mut closing = false;
        loop {
            let work = self.next(shared, closing);
            let result = match &work {
                Work::Append(entries, _) => self.append(entries),
                Work::Rewrite(objects, revision) => self.rewrite(objects, *revision),
                Work::Sync => self.sync(),
                Work::End if closing => return,
                Work::End => {
                    closing = true;
                    self.sync()
                }
            };
            if let Err(error) = result {
                // The disk is full or gone. The cluster goes on in memory; the whole state is tried again.
                tracing::error!(path = %self.path.display(), %error, "the cluster's state is not being kept");
                self.file = None;
                self.unsynced_since = None;
                if closing {
                    return;
                }
                std::thread::sleep(SYNC);
            }
            if let Work::Append(_, revision) | Work::Rewrite(_, revision) = work {
                self.written.send_replace(revision);
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.unsynced_since = None;
        match &self.file {
            Some(file) => file.sync_data(),
            None => Ok(()),
        }
    }

    /// Waits for something to do.
    fn next(&self, shared: &Shared, closing: bool) -> Work {
        let mut state = shared.lock();
        loop {
            let revision = state.revision();
            let Some(pending) = state.pending() else {
                return Work::End;
            };
            let is_closing = pending.closing;
            let too_long = self.grown > GROWTH.max(self.base);
            if pending.overflow || self.file.is_none() || too_long {
                *pending = Pending {
                    closing: is_closing,
                    newest: pending.newest,
                    ..Pending::default()
                };
                return Work::Rewrite(state.objects(), revision);
            }
            if !pending.entries.is_empty() {
                return Work::Append(std::mem::take(&mut pending.entries), revision);
            }
            if is_closing || closing {
                return Work::End;
            }
            state = match self.unsynced_since {
                None => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(since) => {
                    let left = SYNC.saturating_sub(since.elapsed());
                    if left.is_zero() {
                        return Work::Sync;
                    }
                    let (state, _) = shared
                        .changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner);
                    state
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{
        super::{Store, revision_of, tests::pod},
        *,
    };

    fn pods() -> CollectionKey {
        CollectionKey::new("", "pods")
    }

    fn open_store(dir: &Path) -> (Store, Recovery) {
        Store::open(dir, Limits::default()).unwrap()
    }

    fn names(store: &Store) -> Vec<String> {
        let name = |item: &Arc<Value>| item["metadata"]["name"].as_str().unwrap().to_owned();
        store.list(&pods(), None).items.iter().map(name).collect()
    }

    #[test]
    fn what_was_stored_comes_back_and_revisions_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let (store, recovery) = open_store(dir.path());
        assert_eq!(recovery, Recovery::default());
        for name in ["x", "y", "z"] {
            store.create(&pods().object("a", name), pod(name, 1)).unwrap();
        }
        store.update(&pods().object("a", "x"), None, pod("x", 2)).unwrap();
        store.delete(&pods().object("a", "y"), None).unwrap();
        let event = CollectionKey::new("", "events").object("a", "e");
        store.create(&event, pod("e", 1)).unwrap();
        let last = store.revision();
        store.close();
        drop(store);
        let (store, recovery) = open_store(dir.path());
        assert_eq!((recovery.objects, recovery.note()), (2, None));
        assert_eq!(names(&store), ["x", "z"]);
        assert_eq!(store.get(&pods().object("a", "x")).unwrap()["spec"]["value"], 2);
        assert!(store.get(&event).is_none(), "events are left out");
        assert!(store.revision() > last);
        // Whoever watched from a revision of the earlier life must list again.
        assert!(matches!(
            store.watch(&pods(), None, last),
            Err(super::super::StoreError::Expired { .. })
        ));
        assert!(store.watch(&pods(), None, store.revision()).is_ok());
    }

    #[test]
    fn a_file_that_has_grown_is_written_anew_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open_store(dir.path());
        let text = "x".repeat(10_000);
        for n in 0..400 {
            let name = format!("p{}", n % 5);
            let key = pods().object("a", &name);
            let object = json!({"metadata": {"name": name}, "spec": {"value": n, "text": text}});
            if n < 5 {
                store.create(&key, object).unwrap();
            } else {
                store.update(&key, None, object).unwrap();
            }
        }
        store.close();
        let size = fs::metadata(dir.path().join(FILE)).unwrap().len();
        assert!(size < 3 << 20, "{size}");
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(store);
        let (store, recovery) = open_store(dir.path());
        assert_eq!((recovery.objects, recovery.damaged, recovery.torn), (5, 0, 0));
        assert_eq!(store.get(&pods().object("a", "p4")).unwrap()["spec"]["value"], 399);
    }

    #[test]
    fn a_writer_that_is_far_behind_writes_the_whole_state() {
        let mut pending = Pending::default();
        let object = Arc::new(pod("x", 1));
        for revision in 0..BEHIND as u64 + 10 {
            pending.add(&pods().object("a", "x"), Some(&object), revision);
        }
        assert!(pending.overflow && pending.entries.is_empty());
    }

    #[tokio::test]
    async fn what_a_client_was_told_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open_store(dir.path());
        let made = store.create(&pods().object("a", "x"), pod("x", 1)).unwrap();
        store.persisted(revision_of(&made)).await;
        // Read as it is, without closing: what a killed node leaves.
        let bytes = fs::read(dir.path().join(FILE)).unwrap();
        let mut state = Collections::new(Limits::default());
        load(&mut state, &bytes, dir.path()).unwrap();
        assert_eq!(state.objects().len(), 1);
    }

    #[tokio::test]
    async fn a_change_that_is_not_kept_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open_store(dir.path());
        let made = store.create(&pods().object("a", "x"), pod("x", 1)).unwrap();
        store.persisted(revision_of(&made)).await;
        let events = CollectionKey {
            group: String::new(),
            resource: "events".to_owned(),
        };
        store.create(&events.object("a", "e"), pod("e", 1)).unwrap();
        let all = store.persisted(store.revision());
        tokio::time::timeout(std::time::Duration::from_secs(20), all)
            .await
            .expect("nobody will ever write an event");
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        let begin = Entry::Begin {
            format: FORMAT + 1,
            taken: None,
            note: String::new(),
            content: Value::Null,
        };
        record::encode(&begin, &mut bytes);
        fs::write(dir.path().join(FILE), bytes).unwrap();
        let error = Store::open(dir.path(), Limits::default()).unwrap_err();
        assert!(error.to_string().contains("newer"), "{error}");
    }

    /// A closed store of twenty pods, some changed and deleted.
    fn some_state() -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open_store(dir.path());
        for n in 0..20 {
            let name = format!("p{n:02}");
            store.create(&pods().object("a", &name), pod(&name, n)).unwrap();
            if n % 3 == 0 {
                store
                    .update(&pods().object("a", &name), None, pod(&name, 100 + n))
                    .unwrap();
            }
        }
        store.close();
        drop(store);
        let bytes = fs::read(dir.path().join(FILE)).unwrap();
        (dir, bytes)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_damaged_file_gives_what_can_be_read_and_can_be_written_again(
            at in any::<prop::sample::Index>(),
            damage in prop_oneof![
                Just(None),
                (1usize..60, any::<u8>()).prop_map(Some),
            ],
        ) {
            let (dir, mut bytes) = some_state();
            let at = at.index(bytes.len());
            match damage {
                None => bytes.truncate(at),
                Some((length, with)) => {
                    let end = (at + length).min(bytes.len());
                    bytes[at..end].iter_mut().for_each(|byte| *byte ^= with | 1);
                }
            }
            fs::write(dir.path().join(FILE), &bytes).unwrap();
            let (store, recovery) = open_store(dir.path());
            let found = names(&store);
            prop_assert_eq!(found.len(), recovery.objects);
            // Sixty bytes touch two records at most; a cut costs all behind it.
            if damage.is_some() {
                prop_assert!(found.len() >= 17, "{:?}", recovery);
            }
            prop_assert_eq!(recovery.damaged > 0, recovery.note().is_some());
            prop_assert_eq!(recovery.damaged > 0, dir.path().join("state.damaged").exists());
            store.create(&pods().object("a", "new"), pod("new", 1)).unwrap();
            let before = names(&store);
            store.close();
            drop(store);
            let (store, recovery) = open_store(dir.path());
            prop_assert_eq!((recovery.damaged, recovery.torn), (0, 0));
            prop_assert_eq!(names(&store), before);
        }
    }
}
