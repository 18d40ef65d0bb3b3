//! Two views of the same objects: Events are stored as core/v1 and served as events.k8s.io/v1 too, custom objects are
//! stored in one version and served in each.
//!
//! Source: Kubernetes' `pkg/apis/core` and `pkg/apis/events` conversions; only names of fields differ. For custom
//! objects, the conversion strategy `None`: only `apiVersion` differs.

use serde_json::{Value, json};

use super::{Resource, registry::api_version};

/// (core/v1, events.k8s.io/v1) names of the fields that differ.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Turns an object as a client wrote it into the stored form. The identity for most kinds.
pub fn to_storage(resource: &Resource, object: &mut Value) {
    if let Some(custom) = &resource.custom {
        set_version(object, &api_version(&resource.group, &custom.storage_version));
    } else if is_second_event(resource) {
        rename(object, EVENT_FIELDS.iter().map(|(core, new)| (*new, *core)));
        set_version(object, "v1");
    }
}

/// Turns a stored object into the form that `resource` serves. The identity for most kinds.
pub fn from_storage(resource: &Resource, object: &mut Value) {
    if let Some(custom) = &resource.custom {
        custom.show(&resource.api_version(), object);
    } else if is_second_event(resource) {
        rename(object, EVENT_FIELDS.iter().copied());
        set_version(object, "events.k8s.io/v1");
    }
}

fn is_second_event(resource: &Resource) -> bool {
    resource.group == "events.k8s.io" && resource.plural == "events"
}

fn rename<'a>(object: &mut Value, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(fields) = object.as_object_mut() else { return };
    for (from, to) in pairs {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

fn set_version(object: &mut Value, api_version: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), json!(api_version));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::control_plane::api::Registry;

    #[test]
    fn an_event_survives_the_round_trip() {
        let registry = Registry::builtin();
        let new = registry.find("events.k8s.io", "v1", "events").expect("events");
        let core = json!({"apiVersion": "v1", "kind": "Event", "message": "Started", "count": 3,
            "involvedObject": {"kind": "Pod"}, "reason": "Started"});
        let mut seen = core.clone();
        from_storage(new, &mut seen);
        assert_eq!(seen["note"], "Started");
        assert_eq!(seen["regarding"]["kind"], "Pod");
        assert_eq!(seen["apiVersion"], "events.k8s.io/v1");
        to_storage(new, &mut seen);
        assert_eq!(seen, core);
    }
}
