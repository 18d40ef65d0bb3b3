//! Two views of the same objects: Events are stored as core/v1 and served as events.k8s.io/v1 too, HorizontalPodAutoscalers as
//! autoscaling/v2 and v1, custom objects are stored in one version and served in each.
//!
//! Source: Kubernetes' `pkg/apis/core` and `pkg/apis/events` conversions; only names of fields differ. For custom
//! objects, the conversion strategy `None`: only `apiVersion` differs.

mod autoscaling;

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
    } else if is_first_autoscaler(resource) {
        autoscaling::from_first(object);
        set_version(object, "autoscaling/v2");
    }
}

/// Whether a resource's objects are served as they are stored.
pub fn is_identity(resource: &Resource) -> bool {
    resource.custom.is_none() && !is_second_event(resource) && !is_first_autoscaler(resource)
}

/// Turns a stored object into the form that `resource` serves. The identity for most kinds.
pub fn from_storage(resource: &Resource, object: &mut Value) {
    if let Some(custom) = &resource.custom {
        custom.show(&resource.api_version(), object);
    } else if is_second_event(resource) {
        rename(object, EVENT_FIELDS.iter().copied());
        set_version(object, "events.k8s.io/v1");
    } else if is_first_autoscaler(resource) {
        autoscaling::to_first(object);
        set_version(object, "autoscaling/v1");
    }
}

fn is_second_event(resource: &Resource) -> bool {
    resource.group == "events.k8s.io" && resource.plural == "events"
}

fn is_first_autoscaler(resource: &Resource) -> bool {
    (&*resource.group, &*resource.version, &*resource.kind) == ("autoscaling", "v1", "HorizontalPodAutoscaler")
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
    use crate::control_plane::api::Registry;

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
