//! Pods and what is in them.

use serde_json::{Value, json};

use super::{
    Fields,
    fill::{child, items, number, pointer, str, text},
    protocol, with,
};

/// A Pod: its spec, and the status that it starts with.
pub fn pod(fields: &mut Fields) {
    with(fields, "spec", |spec| {
        for kind in ["containers", "initContainers"] {
            items(spec, kind).for_each(requests_from_limits);
        }
        pointer(spec, "enableServiceLinks", json!(true));
        pod_spec(spec);
    });
    let class = fields.get("spec").map(quality_of_service);
    if let Some(status) = child(fields, "status") {
        text(status, "phase", "Pending");
        text(status, "qosClass", class.unwrap_or("BestEffort"));
    }
}

/// What a Pod and a pod template have in common.
pub fn pod_spec(spec: &mut Fields) {
    text(spec, "restartPolicy", "Always");
    pointer(spec, "terminationGracePeriodSeconds", json!(30));
    text(spec, "dnsPolicy", "ClusterFirst");
    text(spec, "schedulerName", "default-scheduler");
    let _ = child(spec, "securityContext");
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or_default();
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(spec, kind) {
            self::container(container);
            if host_network {
                items(container, "ports").for_each(|port| {
                    let own = port.get("containerPort").and_then(Value::as_i64).unwrap_or_default();
                    number(port, "hostPort", own);
                });
            }
        }
    }
    items(spec, "volumes").for_each(volume);
}

fn container(container: &mut Fields) {
    let policy = if is_latest(str(container, "image")) {
        "Always"
    } else {
        "IfNotPresent"
    };
    text(container, "imagePullPolicy", policy);
    text(container, "terminationMessagePath", "/dev/termination-log");
    text(container, "terminationMessagePolicy", "File");
    let _ = child(container, "resources");
    items(container, "ports").for_each(protocol);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        with(container, name, probe);
    }
    with(container, "lifecycle", |lifecycle| {
        for name in ["postStart", "preStop"] {
            with(lifecycle, name, |handler| with(handler, "httpGet", http_get));
        }
    });
    items(container, "env").for_each(|variable| {
        with(variable, "valueFrom", |from| {
            with(from, "fieldRef", field_ref);
            with(from, "resourceFieldRef", resource_field_ref);
        });
    });
}

/// Whether an image reference means the tag `latest`: no tag and no digest, or the tag itself.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn field_ref(reference: &mut Fields) {
    text(reference, "apiVersion", "v1");
}

fn resource_field_ref(reference: &mut Fields) {
    // a quantity is a struct in Go, so its zero is written out
    pointer(reference, "divisor", json!("0"));
}

fn probe(probe: &mut Fields) {
    number(probe, "timeoutSeconds", 1);
    number(probe, "periodSeconds", 10);
    number(probe, "successThreshold", 1);
    number(probe, "failureThreshold", 3);
    with(probe, "httpGet", http_get);
    with(probe, "grpc", |grpc| pointer(grpc, "service", json!("")));
}

fn http_get(action: &mut Fields) {
    text(action, "path", "/");
    text(action, "scheme", "HTTP");
}

fn volume(volume: &mut Fields) {
    if volume.keys().all(|key| key == "name") {
        volume.insert("emptyDir".into(), json!({}));
    }
    let mode = |source: &mut Fields| pointer(source, "defaultMode", json!(0o644));
    for source in ["secret", "configMap", "projected", "downwardAPI"] {
        with(volume, source, mode);
    }
    with(volume, "downwardAPI", downward_api);
    with(volume, "hostPath", |path| pointer(path, "type", json!("")));
    with(volume, "projected", |projected| {
        for source in items(projected, "sources") {
            with(source, "serviceAccountToken", |token| {
                pointer(token, "expirationSeconds", json!(3600))
            });
            with(source, "downwardAPI", downward_api);
        }
    });
    with(volume, "ephemeral", |ephemeral| {
        with(ephemeral, "volumeClaimTemplate", |template| {
            with(template, "spec", |spec| {
                pointer(spec, "volumeMode", json!("Filesystem"))
            });
        });
    });
}

fn downward_api(source: &mut Fields) {
    items(source, "items").for_each(|item| {
        with(item, "fieldRef", field_ref);
        with(item, "resourceFieldRef", resource_field_ref);
    });
}

fn requests_from_limits(container: &mut Fields) {
    with(container, "resources", |resources| {
        let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
            return;
        };
        if limits.is_empty() {
            return;
        }
        if let Some(requests) = child(resources, "requests") {
            for (resource, quantity) in limits {
                pointer(requests, &resource, quantity);
            }
        }
    });
}

/// The QoS class: of CPU and memory, all limited and requested alike is Guaranteed, nothing at all BestEffort.
fn quality_of_service(spec: &Value) -> &'static str {
    let (mut any, mut all) = (false, true);
    let containers = ["containers", "initContainers"]
        .into_iter()
        .filter_map(|kind| spec[kind].as_array())
        .flatten();
    for container in containers {
        let resources = &container["resources"];
        for resource in ["cpu", "memory"] {
            let set = |kind: &str| resources[kind].get(resource).filter(|q| **q != "0" && **q != json!(0));
            let (request, limit) = (set("requests"), set("limits"));
            any |= request.is_some() || limit.is_some();
            all &= limit.is_some() && request == limit;
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
