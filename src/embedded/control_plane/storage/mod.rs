//! The store: etcd's role, in memory.
//!
//! Every write gets the next revision of one counter, which is what `metadata.resourceVersion` shows. Each collection
//! (one resource of one API group) keeps a bounded history, from which a watch can start at a past revision; one that
//! asks for more than the history holds, or falls too far behind, is told that its revision has expired.
//!
//! Source: etcd's revisions and watches; Kubernetes' "Resource versions" and "Efficient detection of changes".

mod collection;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use collection::Collections;
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
}

/// How much the store keeps for its watchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Changes of each collection that a late watcher can still be given.
    pub history: usize,
    /// Changes a watcher may be behind before it is ended.
    pub watcher_buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            history: 1024,
            watcher_buffer: 1024,
        }
    }
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
    inner: Arc<Mutex<Collections>>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Store {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Collections::new(limits))),
        }
    }

    // A panic elsewhere cannot leave the maps half-written: every write below is a single insert or remove followed
    // by infallible bookkeeping, so a poisoned lock is still a sound store.
    fn lock(&self) -> MutexGuard<'_, Collections> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.lock().revision()
    }

    /// Stores a new object and returns it with its `metadata.resourceVersion`.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`].
    pub fn create(&self, key: &Key, object: Value) -> Result<Arc<Value>, StoreError> {
        self.lock().create(key, object)
    }

    /// Replaces an object and returns it with its new `metadata.resourceVersion`. With `expected`, only if that is
    /// still its revision (compare and swap). An object that does not differ is left at its revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`].
    pub fn update(&self, key: &Key, expected: Option<u64>, object: Value) -> Result<Arc<Value>, StoreError> {
        self.lock().update(key, expected, object)
    }

    /// Removes an object and returns its last state, with the deletion's revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`].
    pub fn delete(&self, key: &Key, expected: Option<u64>) -> Result<Arc<Value>, StoreError> {
        self.lock().delete(key, expected)
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.lock().get(key)
    }

    /// The objects of a collection, in one namespace or in all.
    pub fn list(&self, collection: &CollectionKey, namespace: Option<&str>) -> Listed {
        self.lock().list(collection, namespace)
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
        let (watcher, backlog, changes) = self.lock().watch(collection, namespace, from)?;
        Ok(Watch::new(self.clone(), collection.clone(), watcher, backlog, changes))
    }

    /// A reading and the changes after it, with nothing between.
    pub fn list_and_watch(&self, collection: &CollectionKey, namespace: Option<&str>) -> (Listed, Watch) {
        let mut inner = self.lock();
        let listed = inner.list(collection, namespace);
        let (watcher, changes) = inner.subscribe(collection, namespace);
        drop(inner);
        let watch = Watch::new(self.clone(), collection.clone(), watcher, Vec::new(), changes);
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
