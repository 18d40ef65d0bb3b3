//! Namespaces, nodes, leases, storage.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Layout,
    text::{Ages, NONE, Object, UNKNOWN, name},
};

pub fn core(kind: &str) -> Option<Layout> {
    Some(match kind {
        "Namespace" => Layout {
            columns: "Name|Status|Age",
            row: |o, now| vec![name(o), json!(o.str("status.phase")), o.age(now)],
        },
        "Node" => Layout {
            columns: "Name|Status|Roles|Age|Version|*Internal-IP|*External-IP|*OS-Image|*Kernel-Version|*Container-Runtime",
            row: node,
        },
        "ComponentStatus" => Layout {
            columns: "Name|Status|Message|Error",
            row: component,
        },
        "PersistentVolume" => Layout {
            columns: "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|*VolumeMode",
            row: volume,
        },
        "PersistentVolumeClaim" => Layout {
            columns: "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|*VolumeMode",
            row: claim,
        },
        _ => return None,
    })
}

pub fn layout(kind: &str) -> Option<Layout> {
    Some(match kind {
        "Lease" => Layout {
            columns: "Name|Holder|Age",
            row: |o, now| vec![name(o), json!(o.str("spec.holderIdentity")), o.age(now)],
        },
        "PriorityClass" => Layout {
            columns: "Name|Value#|Global-Default|Age|PreemptionPolicy",
            row: |o, now| {
                let default = o.bool("globalDefault");
                let policy = o.str_or("preemptionPolicy", "PreemptLowerPriority");
                vec![
                    name(o),
                    json!(o.int("value")),
                    json!(default.to_string()),
                    o.age(now),
                    policy,
                ]
            },
        },
        "CSIDriver" => Layout {
            columns: "Name|AttachRequired|PodInfoOnMount|StorageCapacity|TokenRequests|RequiresRepublish|Modes|Age",
            row: csi_driver,
        },
        "StorageClass" => Layout {
            columns: "Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age",
            row: storage_class,
        },
        _ => return None,
    })
}

fn component(o: Object<'_>, _: Timestamp) -> Vec<Value> {
    let healthy = o.items("conditions").find(|c| c.str("type") == "Healthy");
    let status = match healthy.map(|c| c.str("status")) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    let said = |field| json!(healthy.map_or("", |c| c.str(field)));
    vec![name(o), json!(status), said("message"), said("error")]
}

fn node(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let ready = o.items("status.conditions").find(|c| c.str("type") == "Ready");
    let mut status = match ready.map(|c| c.str("status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if o.bool("spec.unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = o.items("status.addresses").find(|a| a.str("type") == kind);
        json!(found.map_or(NONE, |a| a.str("address")))
    };
    let info = o.at("status.nodeInfo");
    vec![
        name(o),
        json!(status),
        json!(roles(o)),
        o.age(now),
        json!(info.str("kubeletVersion")),
        address("InternalIP"),
        address("ExternalIP"),
        info.str_or("osImage", UNKNOWN),
        info.str_or("kernelVersion", UNKNOWN),
        info.str_or("containerRuntimeVersion", UNKNOWN),
    ]
}

fn roles(o: Object<'_>) -> String {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in o.entries("metadata.labels").into_iter().flatten() {
        let role = match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if key == "kubernetes.io/role" => value.as_str().unwrap_or_default(),
            None => continue,
        };
        if !role.is_empty() && !roles.contains(&role) {
            roles.push(role);
        }
    }
    roles.sort_unstable();
    if roles.is_empty() { NONE.into() } else { roles.join(",") }
}

fn access_modes(o: Object<'_>, path: &str) -> Value {
    let short = |mode: Object<'_>| match mode.0.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    let all: Vec<&str> = o.items(path).map(short).filter(|mode| !mode.is_empty()).collect();
    json!(all.join(","))
}

fn storage_class_of(o: Object<'_>) -> Value {
    let old = o
        .entries("metadata.annotations")
        .and_then(|a| a.get("volume.beta.kubernetes.io/storage-class")?.as_str());
    json!(old.unwrap_or_else(|| o.str("spec.storageClassName")))
}

fn volume(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let claim = match o.str("spec.claimRef.name") {
        "" => String::new(),
        name => format!("{}/{name}", o.str("spec.claimRef.namespace")),
    };
    vec![
        name(o),
        json!(o.str("spec.capacity.storage")),
        access_modes(o, "spec.accessModes"),
        json!(o.str("spec.persistentVolumeReclaimPolicy")),
        json!(terminating(o)),
        json!(claim),
        storage_class_of(o),
        o.str_or("spec.volumeAttributesClassName", "<unset>"),
        json!(o.str("status.reason")),
        o.age(now),
        o.str_or("spec.volumeMode", "<unset>"),
    ]
}

fn claim(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let bound = !o.str("spec.volumeName").is_empty();
    vec![
        name(o),
        json!(terminating(o)),
        json!(o.str("spec.volumeName")),
        json!(if bound { o.str("status.capacity.storage") } else { "" }),
        if bound {
            access_modes(o, "status.accessModes")
        } else {
            json!("")
        },
        storage_class_of(o),
        o.str_or("spec.volumeAttributesClassName", "<unset>"),
        o.age(now),
        o.str_or("spec.volumeMode", "<unset>"),
    ]
}

fn terminating(o: Object<'_>) -> &str {
    if o.at("metadata.deletionTimestamp").is_set() {
        "Terminating"
    } else {
        o.str("status.phase")
    }
}

fn csi_driver(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let audiences: Vec<&str> = o
        .items("spec.tokenRequests")
        .map(|token| token.str("audience"))
        .collect();
    let modes: Vec<&str> = o
        .items("spec.volumeLifecycleModes")
        .filter_map(|mode| mode.0.as_str())
        .collect();
    let or_unset = |list: Vec<&str>| {
        json!(if list.is_empty() {
            "<unset>".to_owned()
        } else {
            list.join(",")
        })
    };
    vec![
        name(o),
        json!(o.bool("spec.attachRequired").to_string()),
        json!(o.bool("spec.podInfoOnMount").to_string()),
        json!(o.bool("spec.storageCapacity").to_string()),
        or_unset(audiences),
        json!(o.bool("spec.requiresRepublish").to_string()),
        or_unset(modes),
        o.age(now),
    ]
}

fn storage_class(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let annotation = "storageclass.kubernetes.io/is-default-class";
    let default = o
        .entries("metadata.annotations")
        .is_some_and(|a| a.get(annotation).is_some_and(|v| v == "true"));
    vec![
        json!(format!(
            "{}{}",
            o.str("metadata.name"),
            if default { " (default)" } else { "" }
        )),
        json!(o.str("provisioner")),
        o.str_or("reclaimPolicy", "Delete"),
        o.str_or("volumeBindingMode", "Immediate"),
        json!(o.bool("allowVolumeExpansion").to_string()),
        o.age(now),
    ]
}
