//! The store's state behind its lock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;
use tokio::sync::mpsc;

use super::history::{History, Texts};
use super::journal::{Pending, is_kept};
use super::watch::Backlog;
use super::weight::weight;
use super::{Change, ChangeKind, CollectionKey, Key, Limits, Listed, StoreError, WatchItem, revision_of};

#[derive(Debug)]
pub(super) struct Collections {
    limits: Limits,
    revision: u64,
    next_watcher: u64,
    /// Newest revision at which the history of a whole collection went.
    dropped: u64,
    collections: HashMap<CollectionKey, Collection>,
    /// No watch can begin before this: it is where this life of the store began.
    floor: u64,
    /// What is to be written to disk, where the store is kept.
    pending: Option<Pending>,
    /// Bytes that all objects take.
    weight: usize,
}

#[derive(Debug, Default)]
struct Collection {
    objects: BTreeMap<String, BTreeMap<String, Arc<Value>>>,
    history: History,
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    namespace: Option<String>,
    changes: mpsc::Sender<WatchItem>,
    backlog: Backlog,
}

/// A watcher's end of its channel.
pub(super) struct Subscription {
    pub(super) watcher: u64,
    pub(super) changes: mpsc::Receiver<WatchItem>,
    pub(super) backlog: Backlog,
}

impl Collections {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            // A resourceVersion of 0 means "any" to Kubernetes clients, so no revision may be 0.
            revision: 1,
            next_watcher: 0,
            dropped: 0,
            collections: HashMap::new(),
            floor: 0,
            pending: None,
            weight: 0,
        }
    }

    /// From here on, changes are noted for the writer.
    pub(super) fn keep(&mut self) {
        self.pending = Some(Pending::default());
    }

    pub(super) fn pending(&mut self) -> Option<&mut Pending> {
        self.pending.as_mut()
    }

    /// Puts an object where it was in an earlier life, with its revision.
    pub(super) fn load(&mut self, key: &Key, object: Arc<Value>) {
        self.revision = self.revision.max(revision_of(&object));
        let collection = self.collections.entry(key.collection.clone()).or_default();
        collection.history.forget_to(revision_of(&object));
        self.weight += weight(&object);
        self.weight -= collection.put(key, object);
    }

    /// Takes an object away that went in an earlier life.
    pub(super) fn unload(&mut self, key: &Key, revision: u64) {
        self.revision = self.revision.max(revision);
        if let Some(collection) = self.collections.get_mut(&key.collection) {
            collection.history.forget_to(revision);
            self.weight -= collection.take(key);
        }
    }

    /// Goes on at a revision; nothing can be watched from before it.
    pub(super) fn begin_at(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
        self.floor = self.revision;
    }

    /// Every object that is kept on disk.
    pub(super) fn objects(&self) -> Vec<(Key, Arc<Value>)> {
        self.objects_of(is_kept)
    }

    /// Every object.
    pub(super) fn everything(&self) -> Vec<(Key, Arc<Value>)> {
        self.objects_of(|_| true)
    }

    fn objects_of(&self, wanted: impl Fn(&CollectionKey) -> bool) -> Vec<(Key, Arc<Value>)> {
        let mut all = Vec::new();
        for (collection, held) in self.collections.iter().filter(|(collection, _)| wanted(collection)) {
            for (namespace, names) in &held.objects {
                let object =
                    |(name, object): (&String, &Arc<Value>)| (collection.object(namespace, name), object.clone());
                all.extend(names.iter().map(object));
            }
        }
        all
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.collections
            .get(&key.collection)?
            .objects
            .get(&key.namespace)?
            .get(&key.name)
            .cloned()
    }

    pub(super) fn create(&mut self, key: &Key, object: Value) -> Result<Arc<Value>, StoreError> {
        if self.get(key).is_some() {
            return Err(StoreError::AlreadyExists);
        }
        self.check_space(weight(&object), 0)?;
        Ok(self.write(key, object, ChangeKind::Added, None))
    }

    pub(super) fn update(
        &mut self,
        key: &Key,
        expected: Option<u64>,
        mut object: Value,
    ) -> Result<Arc<Value>, StoreError> {
        let current = self.expect(key, expected)?;
        set_revision(&mut object, revision_of(&current));
        if object == *current {
            return Ok(current);
        }
        self.check_space(weight(&object), weight(&current))?;
        Ok(self.write(key, object, ChangeKind::Modified, Some(current)))
    }

    pub(super) fn delete(&mut self, key: &Key, expected: Option<u64>) -> Result<Arc<Value>, StoreError> {
        let current = self.expect(key, expected)?;
        let last = (*current).clone();
        Ok(self.write(key, last, ChangeKind::Deleted, Some(current)))
    }

    /// The objects that are kept for the past alone, and not as texts yet.
    pub(super) fn past_trees(&self) -> Vec<Arc<Value>> {
        let live = |collection: &'_ Collection| {
            collection
                .history
                .trees(collection.objects.values().flat_map(BTreeMap::values))
        };
        self.collections.values().flat_map(live).collect()
    }

    /// Keeps texts of past objects in their place.
    pub(super) fn pack(&mut self, texts: &Texts) {
        for collection in self.collections.values_mut() {
            collection.history.pack(texts);
        }
    }

    /// Sets how much all objects may take; gives what it was.
    pub(super) fn replace_space(&mut self, space: usize) -> usize {
        std::mem::replace(&mut self.limits.space, space)
    }

    /// Refuses what would make a full store grow. What shrinks it always finds room.
    fn check_space(&self, new: usize, old: usize) -> Result<(), StoreError> {
        match new > old && self.weight + new - old > self.limits.space {
            true => Err(StoreError::NoSpace),
            false => Ok(()),
        }
    }

    fn expect(&self, key: &Key, expected: Option<u64>) -> Result<Arc<Value>, StoreError> {
        let current = self.get(key).ok_or(StoreError::NotFound)?;
        let actual = revision_of(&current);
        match expected {
            Some(expected) if expected != actual => Err(StoreError::Conflict { expected, actual }),
            _ => Ok(current),
        }
    }

    fn write(&mut self, key: &Key, mut object: Value, kind: ChangeKind, previous: Option<Arc<Value>>) -> Arc<Value> {
        self.revision += 1;
        set_revision(&mut object, self.revision);
        let object = Arc::new(object);
        let collection = entry(&mut self.collections, self.dropped, &key.collection);
        self.weight -= match kind {
            ChangeKind::Deleted => collection.take(key),
            _ => {
                self.weight += weight(&object);
                collection.put(key, object.clone())
            }
        };
        collection.publish(
            Change {
                revision: self.revision,
                kind,
                object: object.clone(),
                previous,
                namespace: key.namespace.as_str().into(),
            },
            &self.limits,
        );
        if let Some(pending) = &mut self.pending {
            pending.add(key, (kind != ChangeKind::Deleted).then_some(&object), self.revision);
        }
        object
    }

    pub(super) fn list(&self, collection: &CollectionKey, namespace: Option<&str>) -> Listed {
        let items = match (self.collections.get(collection), namespace) {
            (None, _) => Vec::new(),
            (Some(collection), None) => collection
                .objects
                .values()
                .flat_map(BTreeMap::values)
                .cloned()
                .collect(),
            (Some(collection), Some(namespace)) => collection
                .objects
                .get(namespace)
                .map(|names| names.values().cloned().collect())
                .unwrap_or_default(),
        };
        Listed {
            items,
            revision: self.revision,
        }
    }

    pub(super) fn list_at(
        &self,
        collection: &CollectionKey,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<Listed, StoreError> {
        if revision > self.revision {
            return Err(StoreError::TooLarge {
                requested: revision,
                current: self.revision,
            });
        }
        let known = self.collections.get(collection);
        let oldest = known
            .map_or(self.dropped, |known| known.history.forgotten())
            .max(self.floor);
        if revision < oldest {
            return Err(StoreError::Expired {
                requested: revision,
                oldest,
            });
        }
        let items = known.map_or_else(Vec::new, |known| known.at(namespace, revision));
        Ok(Listed { items, revision })
    }

    pub(super) fn count(&self, collection: &CollectionKey) -> usize {
        let namespaces = self.collections.get(collection).map(|known| known.objects.values());
        namespaces.into_iter().flatten().map(BTreeMap::len).sum()
    }

    pub(super) fn changed(&self, collection: &CollectionKey) -> u64 {
        let known = self.collections.get(collection);
        known.map_or(0, |known| known.history.newest())
    }

    pub(super) fn end_watches(&mut self, collection: &CollectionKey, forget: bool) {
        let Some(known) = self.collections.get_mut(collection) else {
            return;
        };
        for watcher in known.watchers.drain(..) {
            // A full buffer ends with the sender, as that of any slow watcher does.
            let _ = watcher.changes.try_send(WatchItem::Closed);
        }
        if forget {
            known.history = History::after(self.revision);
            self.dropped = self.revision;
            if known.objects.is_empty() {
                self.collections.remove(collection);
            }
        }
    }

    pub(super) fn collections_in(&self, namespace: &str) -> Vec<CollectionKey> {
        let mut found: Vec<_> = self
            .collections
            .iter()
            .filter(|(_, collection)| collection.objects.contains_key(namespace))
            .map(|(key, _)| key.clone())
            .collect();
        found.sort();
        found
    }

    pub(super) fn watch(
        &mut self,
        collection: &CollectionKey,
        namespace: Option<&str>,
        from: u64,
    ) -> Result<(Subscription, Vec<Change>), StoreError> {
        if from > self.revision {
            return Err(StoreError::TooLarge {
                requested: from,
                current: self.revision,
            });
        }
        let entry = entry(&mut self.collections, self.dropped, collection);
        let oldest = entry.history.forgotten().max(self.floor);
        if from < oldest {
            return Err(StoreError::Expired {
                requested: from,
                oldest,
            });
        }
        let backlog = entry.history.since(from, namespace).collect();
        Ok((self.subscribe(collection, namespace), backlog))
    }

    pub(super) fn subscribe(&mut self, collection: &CollectionKey, namespace: Option<&str>) -> Subscription {
        self.next_watcher += 1;
        let (sender, changes) = mpsc::channel(self.limits.watcher_buffer);
        let backlog = Backlog::default();
        let entry = entry(&mut self.collections, self.dropped, collection);
        entry.watchers.push(Watcher {
            id: self.next_watcher,
            namespace: namespace.map(str::to_owned),
            changes: sender,
            backlog: backlog.clone(),
        });
        Subscription {
            watcher: self.next_watcher,
            changes,
            backlog,
        }
    }

    pub(super) fn unsubscribe(&mut self, collection: &CollectionKey, id: u64) {
        if let Some(entry) = self.collections.get_mut(collection) {
            entry.watchers.retain(|watcher| watcher.id != id);
        }
    }

    pub(super) fn send_progress(&mut self, collection: &CollectionKey, id: u64) {
        let revision = self.revision;
        if let Some(entry) = self.collections.get_mut(collection) {
            // A full buffer needs no progress mark: changes are waiting there, and the next tick asks again.
            if let Some(watcher) = entry.watchers.iter().find(|watcher| watcher.id == id) {
                let _ = watcher.changes.try_send(WatchItem::Progress(revision));
            }
        }
    }
}

/// A collection, made where it is missing. Its history may have been dropped with an earlier one of its name.
fn entry<'a>(
    collections: &'a mut HashMap<CollectionKey, Collection>,
    dropped: u64,
    key: &CollectionKey,
) -> &'a mut Collection {
    collections.entry(key.clone()).or_insert_with(|| Collection {
        history: History::after(dropped),
        ..Collection::default()
    })
}

impl Collection {
    /// The objects at a revision that the history reaches back to: newer changes are undone, the newest first.
    fn at(&self, namespace: Option<&str>, revision: u64) -> Vec<Arc<Value>> {
        let mut objects: BTreeMap<(&str, &str), &Arc<Value>> = BTreeMap::new();
        for (held, names) in self.objects.iter().filter(|(held, _)| in_namespace(namespace, held)) {
            objects.extend(
                names
                    .iter()
                    .map(|(name, object)| ((held.as_str(), name.as_str()), object)),
            );
        }
        let newer: Vec<Change> = self.history.since(revision, namespace).collect();
        for change in newer.iter().rev() {
            let name = change.object.pointer("/metadata/name").and_then(Value::as_str);
            let place = (&*change.namespace, name.unwrap_or_default());
            match &change.previous {
                Some(previous) => objects.insert(place, previous),
                None => objects.remove(&place),
            };
        }
        objects.into_values().cloned().collect()
    }

    /// Stores an object; gives the weight of the one before.
    fn put(&mut self, key: &Key, object: Arc<Value>) -> usize {
        let names = self.objects.entry(key.namespace.clone()).or_default();
        names
            .insert(key.name.clone(), object)
            .map_or(0, |before| weight(&before))
    }

    /// Removes an object; gives its weight.
    fn take(&mut self, key: &Key) -> usize {
        let Some(names) = self.objects.get_mut(&key.namespace) else {
            return 0;
        };
        let taken = names.remove(&key.name);
        if names.is_empty() {
            self.objects.remove(&key.namespace);
        }
        taken.map_or(0, |object| weight(&object))
    }

    fn publish(&mut self, change: Change, limits: &Limits) {
        let change_weight = weight(&change.object);
        // Dropping the sender of a watcher whose buffer is full ends its stream once it has read the rest.
        self.watchers.retain(|watcher| {
            !in_namespace(watcher.namespace.as_deref(), &change.namespace)
                || watcher.backlog.add(change_weight, limits.watcher_bytes)
                    && watcher.changes.try_send(WatchItem::Change(change.clone())).is_ok()
        });
        self.history.push(change, limits);
    }
}

pub(super) fn in_namespace(wanted: Option<&str>, namespace: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == namespace)
}

fn set_revision(object: &mut Value, revision: u64) {
    if let Value::Object(fields) = object
        && let Value::Object(metadata) = fields
            .entry("metadata")
            .or_insert_with(|| Value::Object(Default::default()))
    {
        metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
    }
}
