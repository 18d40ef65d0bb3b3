//! The store: etcd's role, in memory, and kept in a file where it is to outlive the process.
//!
//! Every write gets the next revision of one counter, which is what `metadata.resourceVersion` shows. Each collection
//! (one resource of one API group) keeps a bounded history, from which a watch can start at a past revision; one that
//! asks for more than the history holds, or falls too far behind, is told that its revision has expired.
//!
//! Source: etcd's revisions and watches; Kubernetes' "Resource versions" and "Efficient detection of changes".

mod collection;
mod history;
mod journal;
mod record;
pub mod snapshots;
mod watch;
mod weight;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use serde_json::Value;

use collection::Collections;
pub use journal::Recovery;
use journal::{Journal, Shared};
pub use watch::{Change, ChangeKind, Watch, WatchItem};

/// The name of a collection: one resource of one API group, whatever its versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CollectionKey {
    /// API group, empty for core.
    pub group: String,
    /// Plural resource name.
    pub resource: String,
}

/// The name of one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Which collection it is in.
    pub collection: CollectionKey,
    /// Its namespace; empty for an object of the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl CollectionKey {
    /// A collection's name from its parts.
    pub fn new(group: &str, resource: &str) -> Self {
        Self {
            group: group.to_owned(),
            resource: resource.to_owned(),
        }
    }

    /// The name of an object in this collection.
    pub fn object(&self, namespace: &str, name: &str) -> Key {
        Key {
            collection: self.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// Why the store refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Create found the name taken.
    #[error("the object already exists")]
    AlreadyExists,
    /// The object is not there.
    #[error("the object does not exist")]
    NotFound,
    /// The object has another revision than the writer expected.
    #[error("the object has revision {actual}, not {expected}")]
    Conflict {
        /// The revision that the writer had read.
        expected: u64,
        /// The revision that is stored.
        actual: u64,
    },
    /// A watch from a revision that the history no longer holds (HTTP 410).
    #[error("too old resource version: {requested} ({oldest})")]
    Expired {
        /// The revision that was asked for.
        requested: u64,
        /// The oldest revision a watch can start from.
        oldest: u64,
    },
    /// A read at a revision that does not exist yet.
    #[error("too large resource version: {requested}, current: {current}")]
    TooLarge {
        /// The revision that was asked for.
        requested: u64,
        /// The newest revision there is.
        current: u64,
    },
    /// All objects together take as much memory as they may.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
}

/// How much the store keeps, of its objects and for its watchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Changes of each collection that a late watcher can still be given.
    pub history: usize,
    /// Bytes of their objects; the newest change is kept whatever its size.
    pub history_bytes: usize,
    /// Changes a watcher may be behind before it is ended.
    pub watcher_buffer: usize,
    /// Bytes of their objects.
    pub watcher_bytes: usize,
    /// Bytes of memory that all objects may take; then nothing grows until something is deleted, as in etcd.
    pub space: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            history: 1024,
            history_bytes: 16 << 20,
            watcher_buffer: 1024,
            watcher_bytes: 16 << 20,
            space: 512 << 20,
        }
    }
}

/// A change to make, whatever the object's revision is.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Store a new object.
    Create(Key, Value),
    /// Replace an object.
    Update(Key, Value),
    /// Remove an object.
    Delete(Key),
}

/// A consistent reading of a collection.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The objects, ordered by namespace and name.
    pub items: Vec<Arc<Value>>,
    /// The store's revision at which they were read.
    pub revision: u64,
}

/// Versioned objects with watches. A clone is another handle on the same store.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
    /// The writer, where the store is kept on disk.
    journal: Option<Arc<Journal>>,
}

/// Why a store on disk could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or directory could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is of a format that this program does not know.
    #[error("{} was written by a newer version of ztlab (format {format}; this one reads format {})", path.display(), record::FORMAT)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Store {
    /// An empty store, in memory alone.
    pub fn new(limits: Limits) -> Self {
        let shared = Shared {
            state: Mutex::new(Collections::new(limits)),
            changed: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
            journal: None,
        }
    }

    /// The store that is kept in `dir`: what is there comes back, and what changes is written there. Revisions go on above
    /// those of before. Events and Leases are not kept.
    ///
    /// # Errors
    /// When the directory cannot be used, or is of a newer format. Damage is no error: see [`Recovery`].
    pub fn open(dir: &Path, limits: Limits) -> Result<(Self, Recovery), OpenError> {
        let (shared, journal, recovery) = journal::open(dir, limits)?;
        let journal = Some(journal);
        Ok((Self { shared, journal }, recovery))
    }

    /// Waits until the change with this revision has been handed to the kernel: it survives the end of this process, however
    /// it ends. At once where the store is in memory alone.
    pub async fn persisted(&self, revision: u64) {
        if let Some(journal) = &self.journal {
            let revision = {
                let mut state = self.lock();
                state.pending().map_or(revision, |pending| pending.needed(revision))
            };
            // An error means that the writer has ended, after it wrote everything.
            let _ = journal.written.clone().wait_for(|written| *written >= revision).await;
        }
    }

    /// Whether what changes is kept as it is meant to be.
    ///
    /// # Errors
    /// That nobody writes it to disk any more.
    pub fn check(&self) -> Result<(), String> {
        let ended = |journal: &Arc<Journal>| journal.written.has_changed().is_err();
        match self.journal.as_ref().is_some_and(ended) {
            true => Err("the writer of the cluster's state ended: see the node's log".to_owned()),
            false => Ok(()),
        }
    }

    /// Writes what is left to disk. Blocks; changes after it are not kept.
    pub fn close(&self) {
        if let Some(journal) = &self.journal {
            journal.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Collections> {
        self.shared.lock()
    }

    fn wrote<T>(&self, result: T) -> T {
        if self.journal.is_some() {
            self.shared.changed.notify_one();
        }
        result
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.lock().revision()
    }

    /// Stores a new object and returns it with its `metadata.resourceVersion`.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::NoSpace`].
    pub fn create(&self, key: &Key, object: Value) -> Result<Arc<Value>, StoreError> {
        let result = self.lock().create(key, object);
        self.wrote(result)
    }

    /// Replaces an object and returns it with its new `metadata.resourceVersion`. With `expected`, only if that is
    /// still its revision (compare and swap). An object that does not differ is left at its revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], [`StoreError::NoSpace`].
    pub fn update(&self, key: &Key, expected: Option<u64>, object: Value) -> Result<Arc<Value>, StoreError> {
        let result = self.lock().update(key, expected, object);
        self.wrote(result)
    }

    /// Removes an object and returns its last state, with the deletion's revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`].
    pub fn delete(&self, key: &Key, expected: Option<u64>) -> Result<Arc<Value>, StoreError> {
        let result = self.lock().delete(key, expected);
        self.wrote(result)
    }

    /// Every object that is kept on disk, or would be: all but Events and Leases.
    pub fn objects(&self) -> Vec<(Key, Arc<Value>)> {
        self.lock().objects()
    }

    /// Looks at every object there is and makes changes, with nothing between: no watcher sees half of it before the rest
    /// is done. Gives the changes that were made, with the objects as they are now or were last.
    pub fn rewrite(&self, plan: impl FnOnce(&[(Key, Arc<Value>)]) -> Vec<Write>) -> Vec<(Key, ChangeKind, Arc<Value>)> {
        let mut state = self.lock();
        let writes = plan(&state.everything());
        // A plan is carried out whole: what it deletes may come after what it creates.
        let space = state.replace_space(usize::MAX);
        let mut done = Vec::with_capacity(writes.len());
        for write in writes {
            let (key, kind, result) = match write {
                Write::Create(key, object) => {
                    let result = state.create(&key, object);
                    (key, ChangeKind::Added, result)
                }
                Write::Update(key, object) => {
                    let result = state.update(&key, None, object);
                    (key, ChangeKind::Modified, result)
                }
                Write::Delete(key) => {
                    let result = state.delete(&key, None);
                    (key, ChangeKind::Deleted, result)
                }
            };
            match result {
                Ok(object) => done.push((key, kind, object)),
                Err(error) => tracing::error!(?key, %error, "a write of a plan does not fit what it was planned for"),
            }
        }
        state.replace_space(space);
        drop(state);
        self.wrote(done)
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.lock().get(key)
    }

    /// The objects of a collection, in one namespace or in all.
    pub fn list(&self, collection: &CollectionKey, namespace: Option<&str>) -> Listed {
        self.lock().list(collection, namespace)
    }

    /// The objects of a collection as they were at a revision, while its history reaches back to it.
    ///
    /// # Errors
    /// [`StoreError::Expired`], [`StoreError::TooLarge`].
    pub fn list_at(
        &self,
        collection: &CollectionKey,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<Listed, StoreError> {
        self.lock().list_at(collection, namespace, revision)
    }

    /// The number of objects in a collection.
    pub fn count(&self, collection: &CollectionKey) -> usize {
        self.lock().count(collection)
    }

    /// The revision of the newest change in a collection; 0 when nothing was ever written to it.
    pub fn changed(&self, collection: &CollectionKey) -> u64 {
        self.lock().changed(collection)
    }

    /// Ends a collection's watches, after what they have not read yet. With `forget`, its history goes too: a watch
    /// from an earlier revision must list again.
    pub fn end_watches(&self, collection: &CollectionKey, forget: bool) {
        self.lock().end_watches(collection, forget);
    }

    /// Keeps what objects were, for watches from the past, in less memory. It costs some time of a processor for every change
    /// since the last time: for a moment in which nobody waits. Blocks.
    pub fn pack(&self) {
        let trees = self.lock().past_trees();
        // The trees live until the end: no other is at their addresses.
        let texts = history::texts(&trees);
        self.lock().pack(&texts);
    }

    /// The collections that hold an object in `namespace`.
    pub fn collections_in(&self, namespace: &str) -> Vec<CollectionKey> {
        self.lock().collections_in(namespace)
    }

    /// The changes of a collection after revision `from`, in order.
    ///
    /// # Errors
    /// [`StoreError::Expired`], [`StoreError::TooLarge`].
    pub fn watch(&self, collection: &CollectionKey, namespace: Option<&str>, from: u64) -> Result<Watch, StoreError> {
        let (subscription, past) = self.lock().watch(collection, namespace, from)?;
        Ok(Watch::new(self.clone(), collection.clone(), subscription, past))
    }

    /// A reading and the changes after it, with nothing between.
    pub fn list_and_watch(&self, collection: &CollectionKey, namespace: Option<&str>) -> (Listed, Watch) {
        let mut inner = self.lock();
        let listed = inner.list(collection, namespace);
        let subscription = inner.subscribe(collection, namespace);
        drop(inner);
        let watch = Watch::new(self.clone(), collection.clone(), subscription, Vec::new());
        (listed, watch)
    }

    pub(self) fn request_progress(&self, collection: &CollectionKey, watcher: u64) {
        self.lock().send_progress(collection, watcher);
    }

    pub(self) fn unsubscribe(&self, collection: &CollectionKey, watcher: u64) {
        self.lock().unsubscribe(collection, watcher);
    }
}

/// The revision of a stored object.
pub fn revision_of(object: &Value) -> u64 {
    object
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
