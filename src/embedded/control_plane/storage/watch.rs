//! One watcher's end of a watch.

use std::{collections::VecDeque, sync::Arc};

use serde_json::Value;
use tokio::sync::mpsc;

use super::{CollectionKey, Store};

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
    backlog: VecDeque<Change>,
    changes: mpsc::Receiver<WatchItem>,
}

impl Watch {
    pub(super) fn new(
        store: Store,
        collection: CollectionKey,
        watcher: u64,
        backlog: Vec<Change>,
        changes: mpsc::Receiver<WatchItem>,
    ) -> Self {
        Self {
            store,
            collection,
            watcher,
            backlog: backlog.into(),
            changes,
        }
    }

    /// The next change; `None` when this watcher was ended for being too slow. Safe to cancel.
    pub async fn next(&mut self) -> Option<WatchItem> {
        if let Some(change) = self.backlog.pop_front() {
            return Some(WatchItem::Change(change));
        }
        self.changes.recv().await
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
