//! One watcher's end of a watch.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use tokio::sync::mpsc;

use super::{CollectionKey, Store, collection::Subscription, weight::weight};

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was created.
    Added,
    /// It was replaced.
    Modified,
    /// It was removed.
    Deleted,
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    /// The revision of the change.
    pub revision: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// The object after the change, or as it last was.
    pub object: Arc<Value>,
    /// The object before the change: a watch with a selector needs it to tell "left my selection" from "never in it".
    pub previous: Option<Arc<Value>>,
    pub(super) namespace: Arc<str>,
}

/// What a watch yields.
#[derive(Debug, Clone)]
pub enum WatchItem {
    /// An object changed.
    Change(Change),
    /// Every change up to this revision has been yielded.
    Progress(u64),
    /// The collection's kind is no longer what it was; nothing more comes.
    Closed,
}

/// The changes of a collection, in order. It ends (`None`) when the watcher fell too far behind: its reader must
/// list again.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    collection: CollectionKey,
    watcher: u64,
    /// Changes of before it began.
    past: VecDeque<Change>,
    changes: mpsc::Receiver<WatchItem>,
    backlog: Backlog,
}

/// Bytes of the objects that wait for one watcher, who may be the last to hold them.
#[derive(Debug, Clone, Default)]
pub(super) struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    /// Counts an object that is sent, unless it and those before it are more than `limit`. A single one always goes: whoever
    /// has read everything can be given it.
    pub(super) fn add(&self, weight: usize, limit: usize) -> bool {
        // Only the store's lock holder adds; a reader that takes meanwhile can but make room.
        let before = self.0.load(Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(weight) <= limit;
        if fits {
            self.0.fetch_add(weight, Ordering::Relaxed);
        }
        fits
    }

    fn remove(&self, weight: usize) {
        self.0.fetch_sub(weight, Ordering::Relaxed);
    }
}

impl Watch {
    pub(super) fn new(store: Store, collection: CollectionKey, subscription: Subscription, past: Vec<Change>) -> Self {
        Self {
            store,
            collection,
            watcher: subscription.watcher,
            past: past.into(),
            changes: subscription.changes,
            backlog: subscription.backlog,
        }
    }

    /// The next change; `None` when this watcher was ended for being too slow. Safe to cancel.
    pub async fn next(&mut self) -> Option<WatchItem> {
        if let Some(change) = self.past.pop_front() {
            return Some(WatchItem::Change(change));
        }
        let item = self.changes.recv().await;
        if let Some(WatchItem::Change(change)) = &item {
            self.backlog.remove(weight(&change.object));
        }
        item
    }

    /// Asks for a [`WatchItem::Progress`] behind every change that has happened so far.
    pub fn request_progress(&self) {
        self.store.request_progress(&self.collection, self.watcher);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.store.unsubscribe(&self.collection, self.watcher);
    }
}
