//! Services and network policies.

use serde_json::{Value, json};

use super::{
    Fields,
    fill::{child, items, pointer, str, text},
    protocol, with,
};

pub fn service(fields: &mut Fields) {
    with(fields, "spec", service_spec);
    if let Some(status) = child(fields, "status") {
        let _ = child(status, "loadBalancer");
    }
}

fn service_spec(spec: &mut Fields) {
    text(spec, "sessionAffinity", "None");
    text(spec, "type", "ClusterIP");
    if spec["sessionAffinity"] == "None" {
        spec.remove("sessionAffinityConfig");
    }
    if spec["sessionAffinity"] == "ClientIP"
        && let Some(config) = child(spec, "sessionAffinityConfig")
        && let Some(client) = child(config, "clientIP")
    {
        pointer(client, "timeoutSeconds", json!(10_800));
    }
    items(spec, "ports").for_each(|port| {
        protocol(port);
        let unset = |t: &Value| t.is_null() || *t == json!(0) || *t == "";
        if port.get("targetPort").is_none_or(unset) {
            let own = port.get("port").cloned().unwrap_or_else(|| json!(0));
            port.insert("targetPort".into(), own);
        }
    });
    let kind = str(spec, "type").to_owned();
    if kind == "ExternalName" {
        return;
    }
    pointer(spec, "internalTrafficPolicy", json!("Cluster"));
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        pointer(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
}

pub fn network_policy(spec: &mut Fields) {
    for direction in ["ingress", "egress"] {
        items(spec, direction).for_each(|rule| items(rule, "ports").for_each(protocol));
    }
    let _ = child(spec, "podSelector");
    let egress = spec
        .get("egress")
        .and_then(Value::as_array)
        .is_some_and(|rules| !rules.is_empty());
    let types = if egress {
        json!(["Ingress", "Egress"])
    } else {
        json!(["Ingress"])
    };
    if spec
        .get("policyTypes")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
    {
        spec.insert("policyTypes".into(), types);
    }
}
