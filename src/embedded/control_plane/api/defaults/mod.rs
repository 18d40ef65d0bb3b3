//! Defaults of absent fields.
//!
//! Source: Kubernetes' `pkg/apis/*/v1/defaults.go` and what the storage strategies set on creation.

mod fill;
mod pod;
mod service;
mod workload;

use serde_json::{Map, Value, json};

use self::fill::{child, items, pointer, text};
use super::{Resource, custom::definition};

type Fields = Map<String, Value>;

/// Fills absent fields as kube-apiserver does. Doing it twice changes nothing more.
///
/// What needs other objects (service accounts, cluster IPs) is admission and not done here.
pub fn apply(resource: &Resource, object: &mut Value) {
    if let Some(custom) = &resource.custom {
        return custom.fill(object);
    }
    let Some(fields) = object.as_object_mut() else { return };
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod::pod(fields),
        ("", "PodTemplate") => with(fields, "template", workload::template),
        ("", "ReplicationController") => workload::replication_controller(fields),
        ("", "Service") => service::service(fields),
        ("", "Endpoints") => items(fields, "subsets").for_each(|s| items(s, "ports").for_each(protocol)),
        ("", "Namespace") => namespace(fields),
        ("", "Node") => with(fields, "status", node_status),
        ("", "LimitRange") => with(fields, "spec", |spec| items(spec, "limits").for_each(limits)),
        ("", "Secret") => secret(fields),
        ("", "PersistentVolumeClaim") => workload::claim(fields),
        ("", "PersistentVolume") => volume(fields),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition::defaults(fields),
        ("apps", "Deployment") => with(fields, "spec", workload::deployment),
        ("apps", "ReplicaSet") => with(fields, "spec", workload::replica_set),
        ("apps", "StatefulSet") => with(fields, "spec", workload::stateful_set),
        ("apps", "DaemonSet") => with(fields, "spec", workload::daemon_set),
        ("batch", "Job") => with(fields, "spec", workload::job),
        ("batch", "CronJob") => with(fields, "spec", workload::cron_job),
        ("autoscaling", _) => with(fields, "spec", |spec| pointer(spec, "minReplicas", json!(1))),
        ("discovery.k8s.io", "EndpointSlice") => items(fields, "ports").for_each(|port| {
            pointer(port, "name", json!(""));
            protocol(port);
        }),
        ("networking.k8s.io", "NetworkPolicy") => with(fields, "spec", service::network_policy),
        ("rbac.authorization.k8s.io", _) => rbac(fields),
        ("scheduling.k8s.io", "PriorityClass") => text(fields, "preemptionPolicy", "PreemptLowerPriority"),
        ("storage.k8s.io", "CSIDriver") => with(fields, "spec", csi_driver),
        ("storage.k8s.io", "StorageClass") => {
            text(fields, "reclaimPolicy", "Delete");
            text(fields, "volumeBindingMode", "Immediate");
        }
        _ => {}
    }
}

fn with(fields: &mut Fields, key: &str, default: impl Fn(&mut Fields)) {
    if let Some(inner) = fields.get_mut(key).and_then(Value::as_object_mut) {
        default(inner);
    }
}

fn csi_driver(spec: &mut Fields) {
    pointer(spec, "attachRequired", json!(true));
    for off in ["podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"] {
        pointer(spec, off, json!(false));
    }
    pointer(spec, "fsGroupPolicy", json!("ReadWriteOnceWithFSType"));
    pointer(spec, "volumeLifecycleModes", json!(["Persistent"]));
}

fn protocol(port: &mut Fields) {
    text(port, "protocol", "TCP");
}

fn namespace(fields: &mut Fields) {
    let Some(metadata) = child(fields, "metadata") else {
        return;
    };
    let name = metadata
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let deleted = metadata.get("deletionTimestamp").is_some_and(|t| !t.is_null());
    if let Some(labels) = child(metadata, "labels").filter(|_| !name.is_empty()) {
        labels.insert("kubernetes.io/metadata.name".into(), json!(name));
    }
    if let Some(spec) = child(fields, "spec").filter(|_| !deleted) {
        // the namespace controller takes it away again once the namespace is empty
        pointer(spec, "finalizers", json!(["kubernetes"]));
    }
    if let Some(status) = child(fields, "status") {
        text(status, "phase", "Active");
    }
}

fn node_status(status: &mut Fields) {
    if let Some(capacity) = status.get("capacity").cloned() {
        pointer(status, "allocatable", capacity);
    }
}

fn secret(fields: &mut Fields) {
    text(fields, "type", "Opaque");
    let Some(Value::Object(plain)) = fields.remove("stringData") else {
        return;
    };
    if plain.is_empty() {
        return;
    }
    let Some(data) = child(fields, "data") else { return };
    for (key, value) in plain {
        let text = value.as_str().unwrap_or_default();
        data.insert(key, json!(fill::base64(text.as_bytes())));
    }
}

/// What containers get by default follows from the ends where nothing else is said.
fn limits(limit: &mut Fields) {
    if limit.get("type").and_then(Value::as_str) != Some("Container") {
        return;
    }
    for (from, to) in [
        ("max", "default"),
        ("default", "defaultRequest"),
        ("min", "defaultRequest"),
    ] {
        let given = limit.get(from).and_then(Value::as_object).cloned().unwrap_or_default();
        if given.is_empty() {
            continue;
        }
        let Some(amounts) = child(limit, to) else { continue };
        given
            .into_iter()
            .for_each(|(resource, value)| pointer(amounts, &resource, value));
    }
}

fn volume(fields: &mut Fields) {
    if let Some(status) = child(fields, "status") {
        text(status, "phase", "Pending");
    }
    with(fields, "spec", |spec| {
        text(spec, "persistentVolumeReclaimPolicy", "Retain");
        pointer(spec, "volumeMode", json!("Filesystem"));
    });
}

fn rbac(fields: &mut Fields) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    with(fields, "roleRef", |role| text(role, "apiGroup", GROUP));
    items(fields, "subjects").for_each(|subject| {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            text(subject, "apiGroup", GROUP);
        }
    });
}

#[cfg(test)]
mod tests;
