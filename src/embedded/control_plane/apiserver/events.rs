//! Events do not stay: they are dropped after an hour, as kube-apiserver's leases do, and there is a bound.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use serde_json::Value;

use super::{ApiServer, meta};
use crate::control_plane::storage::CollectionKey;

const LIFETIME: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);
/// Events kept at most; the oldest go first.
const MAX_EVENTS: usize = 5000;
/// Creating an event looks for old ones at most this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

impl ApiServer {
    /// Drops old events, if it has not been done just now.
    pub(super) fn sweep_events(&self) {
        {
            let mut swept = self.inner.events_swept.lock().unwrap_or_else(PoisonError::into_inner);
            if swept.is_some_and(|at| at.elapsed() < SWEEP_INTERVAL) {
                return;
            }
            *swept = Some(std::time::Instant::now());
        }
        let collection = CollectionKey::new("", "events");
        let events = self.store().list(&collection, None).items;
        let oldest = meta::time(jiff::Timestamp::now() - LIFETIME);
        for event in outlived(events, &oldest, MAX_EVENTS) {
            let key = collection.object(meta::namespace(&event), meta::name(&event));
            // Somebody else may have deleted it first.
            let _ = self.store().delete(&key, None);
        }
    }
}

/// The events last seen before `oldest`, and the oldest of those beyond `bound`.
fn outlived(mut events: Vec<Arc<Value>>, oldest: &str, bound: usize) -> Vec<Arc<Value>> {
    events.sort_by(|a, b| seen(a).cmp(seen(b)));
    let beyond = events.len().saturating_sub(bound);
    let old = events.iter().take_while(|event| seen(event) < oldest).count();
    events.truncate(beyond.max(old));
    events
}

/// When it was last seen. Kubernetes' times, all in UTC, sort as text.
fn seen(event: &Value) -> &str {
    let last = event
        .get("lastTimestamp")
        .and_then(Value::as_str)
        .filter(|time| !time.is_empty());
    last.unwrap_or_else(|| meta::text(event, "creationTimestamp"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_old_and_the_many_go() {
        let event = |name: &str, created: &str, last: Option<&str>| {
            Arc::new(json!({"metadata": {"name": name, "creationTimestamp": created}, "lastTimestamp": last}))
        };
        let events = vec![
            event("new", "2026-01-01T12:00:00Z", None),
            event("old", "2026-01-01T10:00:00Z", None),
            event("again", "2026-01-01T10:00:00Z", Some("2026-01-01T11:59:00Z")),
        ];
        let names = |bound| -> Vec<String> {
            let gone = outlived(events.clone(), "2026-01-01T11:00:00Z", bound);
            gone.iter().map(|event| meta::name(event).to_owned()).collect()
        };
        assert_eq!(names(10), ["old"]);
        assert_eq!(names(1), ["old", "again"]);
    }
}
