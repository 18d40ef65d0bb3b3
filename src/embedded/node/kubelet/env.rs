//! A container's environment. Pure.
//!
//! Source: Kubernetes' "Define Environment Variables" and "Dependent Environment Variables".

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector, Secret, Service,
};
use kube::ResourceExt;

use crate::control_plane::api::validate::quantity;

/// What values are taken from.
pub trait Sources {
    /// A ConfigMap of the pod's namespace.
    fn config_map(&self, name: &str) -> Option<std::sync::Arc<ConfigMap>>;
    /// A Secret of the pod's namespace.
    fn secret(&self, name: &str) -> Option<std::sync::Arc<Secret>>;
}

/// What of a pod's status `fieldRef` may ask for.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The pod's address.
    pub pod_ip: String,
    /// The node's address.
    pub host_ip: String,
    /// Processors of the node.
    pub cpus: u64,
    /// Memory of the node, bytes.
    pub memory: u64,
}

/// The value of a pod's field (`metadata.name`, `status.podIP`, `metadata.labels['app']`).
pub fn field(pod: &Pod, selector: &ObjectFieldSelector, facts: &Facts) -> Result<String, String> {
    let path = selector.field_path.as_str();
    let spec = pod.spec.as_ref();
    let subscript = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    let lines = |map: &BTreeMap<String, String>| {
        map.iter()
            .map(|(key, value)| format!("{key}={}", serde_json::Value::from(value.as_str())))
            .collect::<Vec<_>>()
            .join("\n")
    };
    if let Some(key) = subscript("metadata.labels") {
        return Ok(pod.labels().get(key).cloned().unwrap_or_default());
    }
    if let Some(key) = subscript("metadata.annotations") {
        return Ok(pod.annotations().get(key).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "metadata.labels" => lines(pod.labels()),
        "metadata.annotations" => lines(pod.annotations()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default(),
        "status.podIP" | "status.podIPs" => facts.pod_ip.clone(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        other => return Err(format!("unsupported fieldPath: {other}")),
    })
}

/// Replaces `$(NAME)` by the value of a variable defined before; `$$(NAME)` stays as `$(NAME)`, an unknown name as it is.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            result.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => result.push_str(&value),
                None => {
                    result.push_str("$(");
                    result.push_str(name);
                    result.push(')');
                }
            }
            rest = tail;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

fn valid(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// The variables of the Services that a pod may learn of: `kubernetes`, and with `enableServiceLinks` those of its namespace.
pub fn services(all: &[std::sync::Arc<Service>], namespace: &str, links: bool) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for service in all {
        let master = service.name_any() == "kubernetes" && service.namespace().as_deref() == Some("default");
        if !(master || links && service.namespace().as_deref() == Some(namespace)) {
            continue;
        }
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else {
            continue;
        };
        let Some(first) = spec.ports.as_ref().and_then(|ports| ports.first()) else {
            continue;
        };
        let prefix = service.name_any().to_uppercase().replace('-', "_");
        variables.push((format!("{prefix}_SERVICE_HOST"), ip.to_owned()));
        variables.push((format!("{prefix}_SERVICE_PORT"), first.port.to_string()));
        for port in spec.ports.iter().flatten() {
            if let Some(name) = &port.name {
                let name = name.to_uppercase().replace('-', "_");
                variables.push((format!("{prefix}_SERVICE_PORT_{name}"), port.port.to_string()));
            }
        }
        let protocol =
            |port: &k8s_openapi::api::core::v1::ServicePort| port.protocol.clone().unwrap_or_else(|| "TCP".into());
        variables.push((
            format!("{prefix}_PORT"),
            format!("{}://{ip}:{}", protocol(first).to_lowercase(), first.port),
        ));
        for port in spec.ports.iter().flatten() {
            let protocol = protocol(port);
            let stem = format!("{prefix}_PORT_{}_{protocol}", port.port);
            variables.push((
                stem.clone(),
                format!("{}://{ip}:{}", protocol.to_lowercase(), port.port),
            ));
            variables.push((format!("{stem}_PROTO"), protocol.to_lowercase()));
            variables.push((format!("{stem}_PORT"), port.port.to_string()));
            variables.push((format!("{stem}_ADDR"), ip.to_owned()));
        }
    }
    variables
}

/// The whole environment: `base` (image, Services), then `envFrom`, then `env`.
///
/// # Errors
/// What is missing, in the kubelet's words.
pub fn environment(
    pod: &Pod,
    container: &Container,
    base: Vec<(String, String)>,
    facts: &Facts,
    sources: &dyn Sources,
) -> Result<Vec<(String, String)>, String> {
    let mut order: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut put = |values: &mut BTreeMap<String, String>, name: String, value: String| {
        if values.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    for (name, value) in base {
        put(&mut values, name, value);
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.clone().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            match sources.config_map(&reference.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten().filter(|(key, _)| valid(key)) {
                        put(&mut values, format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(format!("configmap \"{}\" not found", reference.name)),
            }
        }
        if let Some(reference) = &from.secret_ref {
            match sources.secret(&reference.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten().filter(|(key, _)| valid(key)) {
                        put(
                            &mut values,
                            format!("{prefix}{key}"),
                            String::from_utf8_lossy(&value.0).into_owned(),
                        );
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(format!("secret \"{}\" not found", reference.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => match from(pod, container, source, facts, sources)? {
                Some(value) => value,
                None => continue,
            },
            (value, None) => expand(value.as_deref().unwrap_or(""), &|name| values.get(name).cloned()),
        };
        put(&mut values, variable.name.clone(), value);
    }
    Ok(order
        .into_iter()
        .map(|name| {
            let value = values.get(&name).cloned().unwrap_or_default();
            (name, value)
        })
        .collect())
}

fn from(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    facts: &Facts,
    sources: &dyn Sources,
) -> Result<Option<String>, String> {
    if let Some(selector) = &source.field_ref {
        return field(pod, selector, facts).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return resource(container, selector, facts).map(Some);
    }
    if let Some(selector) = &source.config_map_key_ref {
        let optional = selector.optional == Some(true);
        let Some(map) = sources.config_map(&selector.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(format!("configmap \"{}\" not found", selector.name))
            };
        };
        return match map.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(format!(
                "couldn't find key {} in ConfigMap {}/{}",
                selector.key,
                pod.namespace().unwrap_or_default(),
                selector.name
            )),
        };
    }
    if let Some(selector) = &source.secret_key_ref {
        let optional = selector.optional == Some(true);
        let Some(secret) = sources.secret(&selector.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(format!("secret \"{}\" not found", selector.name))
            };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(format!(
                "couldn't find key {} in Secret {}/{}",
                selector.key,
                pod.namespace().unwrap_or_default(),
                selector.name
            )),
        };
    }
    Ok(Some(String::new()))
}

/// A container's limit or request, in its divisor and rounded up; a limit that is not set is what the node has.
///
/// # Errors
/// What it is that this node does not know.
pub fn resource(container: &Container, selector: &ResourceFieldSelector, facts: &Facts) -> Result<String, String> {
    let unsupported = || format!("unsupported container resource : {}", selector.resource);
    let resources = container.resources.as_ref();
    let (list, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let list = match list {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(unsupported()),
    };
    let written = list.and_then(|list| list.get(name)).map(|quantity| quantity.0.clone());
    let text = match (written, selector.resource.as_str()) {
        (Some(text), _) => text,
        (None, "limits.cpu") => facts.cpus.to_string(),
        (None, "limits.memory") => facts.memory.to_string(),
        (None, _) => "0".to_owned(),
    };
    let divisor = selector.divisor.as_ref().map_or("1", |divisor| divisor.0.as_str());
    // An empty divisor is written by clients that know no better, and means one.
    let divisor = if divisor == "0" || divisor.is_empty() {
        "1"
    } else {
        divisor
    };
    let parse = |text: &str| quantity::parse(text).ok_or_else(|| format!("{text:?} is no quantity"));
    Ok(parse(&text)?.in_units_of(parse(divisor)?).to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    struct Held;

    impl Sources for Held {
        fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
            (name == "cm").then(|| Arc::new(serde_json::from_value(json!({"data": {"A": "1", "B": "2"}})).unwrap()))
        }
        fn secret(&self, name: &str) -> Option<Arc<Secret>> {
            (name == "sec").then(|| Arc::new(serde_json::from_value(json!({"data": {"K": "czNjcmV0"}})).unwrap()))
        }
    }

    fn run(container: serde_json::Value) -> Result<Vec<(String, String)>, String> {
        let pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "labels": {"app": "web"}}}))
                .unwrap();
        let mut container = container;
        container["name"] = json!("c");
        let container = serde_json::from_value(container).unwrap();
        let facts = Facts {
            pod_ip: "10.244.0.9".into(),
            host_ip: "10.244.0.1".into(),
            cpus: 2,
            memory: 1 << 30,
        };
        environment(&pod, &container, vec![("PATH".into(), "/bin".into())], &facts, &Held)
    }

    #[test]
    fn values_come_from_everywhere() {
        let got = run(json!({
            "envFrom": [{"prefix": "X_", "configMapRef": {"name": "cm"}}],
            "env": [
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "K"}}},
                {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "Z", "optional": true}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "ALL", "value": "$(NAME)-$(KEY) $$(NAME) $(NOBODY) $"}
            ]
        }))
        .unwrap();
        let expected = [
            ("PATH", "/bin"),
            ("X_A", "1"),
            ("X_B", "2"),
            ("NAME", "p"),
            ("APP", "web"),
            ("IP", "10.244.0.9"),
            ("KEY", "s3cret"),
            ("CPU", "2"),
            ("MEM", "1024"),
            ("ALL", "p-s3cret $(NAME) $(NOBODY) $"),
        ];
        assert_eq!(got, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (container, expected) in [
            (
                json!({"envFrom": [{"secretRef": {"name": "no"}}]}),
                "secret \"no\" not found",
            ),
            (
                json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "Z"}}}]}),
                "couldn't find key Z in ConfigMap ns/cm",
            ),
        ] {
            assert_eq!(run(container).unwrap_err(), expected);
        }
    }
}
