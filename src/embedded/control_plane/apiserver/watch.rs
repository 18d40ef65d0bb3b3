//! `watch`: a stream of events as JSON lines.
//!
//! Source: Kubernetes' "Efficient detection of changes", "Watch bookmarks", "Streaming lists".

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::{
    Body,
    dispatch::Call,
    meta,
    negotiate::Form,
    reply,
    rest::Selection,
    status::{ApiError, collection},
};
use crate::control_plane::{
    api::{
        Resource,
        table::{self, IncludeObject},
    },
    storage::{Change, ChangeKind, Watch, WatchItem},
};

const BOOKMARK_INTERVAL: Duration = Duration::from_secs(30);
/// A watch without a timeout ends after this, or up to twice this, as kube-apiserver does.
const DEFAULT_TIMEOUT: u64 = 1800;

/// Answers `watch`.
///
/// # Errors
/// 400. A revision that has expired is an event of the stream, as kube-apiserver has it.
pub fn answer(call: &Call) -> Result<Response<Body>, ApiError> {
    let selection = Selection::of(call)?;
    let collection = collection(&call.resource);
    let namespace = call.path.namespace.as_deref();
    let revision: Option<u64> = call.query.number("resourceVersion")?;
    let initial = initial_events(call)?;
    let seconds = call.query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let seconds = seconds.unwrap_or_else(|| rand::rng().random_range(DEFAULT_TIMEOUT..2 * DEFAULT_TIMEOUT));
    let store = call.server.store();
    let (listed, opened) = match revision {
        Some(from) if from > 0 && initial != Some(true) => (None, store.watch(&collection, namespace, from)),
        // "Start at the most recent", without the state: only asked for by sendInitialEvents=false.
        _ if initial == Some(false) => (None, store.watch(&collection, namespace, store.revision())),
        _ => {
            let (listed, watch) = store.list_and_watch(&collection, namespace);
            (Some(listed), Ok(watch))
        }
    };
    let mut events = Events {
        resource: call.resource.clone(),
        selection,
        form: call.form,
        include: call.include,
        columns: true,
    };
    let mut first = Vec::new();
    let watch = match opened {
        Ok(watch) => Some(watch),
        Err(error) => {
            first.push(events.error(&ApiError::from_store(&error, &call.resource, "")));
            None
        }
    };
    if let Some(listed) = listed {
        for object in &listed.items {
            if events.selection.matches(&call.resource, object) {
                first.push(events.event("ADDED", object));
            }
        }
        if initial == Some(true) {
            first.push(events.bookmark(listed.revision, true));
        }
    }
    let mut ticks = tokio::time::interval_at(Instant::now() + BOOKMARK_INTERVAL, BOOKMARK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let following = Following {
        events,
        watch,
        ticks,
        bookmarks: call.query.flag("allowWatchBookmarks"),
        end: Instant::now() + Duration::from_secs(seconds.min(u64::from(u32::MAX))),
    };
    let first = first.concat();
    let first = futures::stream::iter((!first.is_empty()).then(|| Ok(Bytes::from(first))));
    let rest = futures::stream::unfold(following, Following::next);
    Ok(reply::stream(
        "application/json",
        futures::StreamExt::chain(first, rest),
    ))
}

/// `sendInitialEvents`, with the rules that Kubernetes has for it.
fn initial_events(call: &Call) -> Result<Option<bool>, ApiError> {
    let wanted = call.query.optional_flag("sendInitialEvents");
    let matching = call.query.get("resourceVersionMatch");
    let invalid = |why: &str| {
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {why}");
        Err(ApiError::new(
            http::StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            message,
        ))
    };
    match (wanted, matching) {
        (None, Some(_)) => invalid(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (Some(_), None) => invalid(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (Some(_), Some(other)) if other != "NotOlderThan" => invalid(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        _ => Ok(wanted),
    }
}

/// Events in the form and version that one client wants.
struct Events {
    resource: Arc<Resource>,
    selection: Selection,
    form: Form,
    include: IncludeObject,
    /// Whether the next Table must describe its columns.
    columns: bool,
}

impl Events {
    /// The event that a change is to this client, if it is one: an object that leaves the selection is deleted to it.
    fn change(&mut self, change: &Change) -> Option<Vec<u8>> {
        let now = self.selection.matches(&self.resource, &change.object);
        let before = change
            .previous
            .as_ref()
            .is_some_and(|old| self.selection.matches(&self.resource, old));
        match (change.kind, before, now) {
            (ChangeKind::Deleted, true, _) => Some(self.event("DELETED", &change.object)),
            (ChangeKind::Deleted, false, _) | (_, false, false) => None,
            (_, false, true) => Some(self.event("ADDED", &change.object)),
            (_, true, true) => Some(self.event("MODIFIED", &change.object)),
            (_, true, false) => {
                let mut last = change.previous.as_deref().cloned().unwrap_or_default();
                meta::metadata(&mut last).insert("resourceVersion".to_owned(), json!(change.revision.to_string()));
                Some(self.event("DELETED", &Arc::new(last)))
            }
        }
    }

    fn event(&mut self, kind: &str, object: &Arc<Value>) -> Vec<u8> {
        let object = match self.form {
            Form::Table => Arc::new(self.table(&[(*reply::served(&self.resource, object)).clone()], object)),
            form => reply::in_form(&self.resource, form, self.include, object),
        };
        line(kind, &object)
    }

    fn table(&mut self, items: &[Value], object: &Value) -> Value {
        let columns = std::mem::replace(&mut self.columns, false);
        let metadata = json!({"resourceVersion": meta::text(object, "resourceVersion")});
        table::table(
            &self.resource,
            items,
            self.include,
            jiff::Timestamp::now(),
            metadata,
            columns,
        )
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) -> Vec<u8> {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Table => {
                // kubectl reads a bookmark's annotations from its row's object.
                let mark = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata.clone()});
                let mut table = self.table(&[], &json!({"metadata": metadata}));
                table["rows"] = json!([{"cells": [], "object": mark}]);
                table
            }
            Form::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Form::Object | Form::AggregatedDiscovery => {
                json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata})
            }
        };
        line("BOOKMARK", &object)
    }

    fn error(&self, error: &ApiError) -> Vec<u8> {
        line("ERROR", &error.0)
    }
}

#[derive(serde::Serialize)]
struct Event<'a, T> {
    r#type: &'a str,
    object: &'a T,
}

fn line(kind: &str, object: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Event { r#type: kind, object }).unwrap_or_default();
    line.push(b'\n');
    line
}

/// A watch that has sent its beginning.
struct Following {
    events: Events,
    watch: Option<Watch>,
    ticks: Interval,
    bookmarks: bool,
    end: Instant,
}

impl Following {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let mut watch = self.watch.take()?;
        loop {
            let item = tokio::select! {
                item = watch.next() => item,
                _ = self.ticks.tick(), if self.bookmarks => {
                    watch.request_progress();
                    continue;
                }
                () = tokio::time::sleep_until(self.end) => return None,
            };
            let bytes = match item {
                Some(WatchItem::Change(change)) => self.events.change(&change),
                Some(WatchItem::Progress(revision)) => Some(self.events.bookmark(revision, false)),
                // The kind is no more, or not the same: the client finds out when it asks again.
                Some(WatchItem::Closed) => return None,
                // Its own end of the stream, so the client must list again.
                None => {
                    let error = self
                        .events
                        .error(&ApiError::expired("the watch fell too far behind; list again"));
                    return Some((Ok(error.into()), self));
                }
            };
            if let Some(bytes) = bytes {
                self.watch = Some(watch);
                return Some((Ok(bytes.into()), self));
            }
        }
    }
}
