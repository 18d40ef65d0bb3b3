//! Services get addresses and ports.
//!
//! Source: Kubernetes' "Service ClusterIP allocation", "NodePort".

use std::{
    collections::HashSet,
    net::Ipv4Addr,
    sync::{MutexGuard, PoisonError},
};

use ipnet::Ipv4Net;
use serde_json::{Map, Value, json};

use super::{
    ApiServer, meta,
    status::{ApiError, collection},
};
use crate::control_plane::api::{Resource, validate::FieldError};

/// The largest part of the range that is given only to Services that name their address (Kubernetes' lower band), such as
/// the DNS server.
const LOWER_BAND: u32 = 256;
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30000..=32767;

/// The address of the Service `kubernetes`.
pub fn first_address(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()) + 1)
}

/// Gives a new Service its address and ports.
///
/// # Errors
/// 422 for an address that is taken or out of range.
pub fn admit_create<'a>(
    server: &'a ApiServer,
    resource: &Resource,
    object: &mut Value,
) -> Result<MutexGuard<'a, ()>, ApiError> {
    let guard = server.inner.allocating.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = Taken::of(server, resource, object);
    let name = meta::name(object).to_owned();
    let spec = meta::child(meta::fields(object), "spec");
    if spec.get("type").and_then(Value::as_str) == Some("ExternalName") {
        let set = ["ipFamilies", "ipFamilyPolicy"]
            .into_iter()
            .filter(|field| spec.contains_key(*field));
        let refuse = |field| FieldError::forbidden(format!("spec.{field}"), "may not be set for ExternalName services");
        let refused: Vec<FieldError> = set.map(refuse).collect();
        if !refused.is_empty() {
            return Err(ApiError::invalid(resource, &name, &refused));
        }
    }
    assign(resource, object, &taken)?;
    Ok(guard)
}

/// Keeps a Service's address, and gives ports and an address that it newly needs.
///
/// # Errors
/// 422.
pub fn admit_update<'a>(
    server: &'a ApiServer,
    resource: &Resource,
    current: &Value,
    next: &mut Value,
) -> Result<MutexGuard<'a, ()>, ApiError> {
    let guard = server.inner.allocating.lock().unwrap_or_else(PoisonError::into_inner);
    let spec = meta::child(meta::fields(next), "spec");
    if spec.get("type").and_then(Value::as_str) != Some("ExternalName") {
        // kubectl replace sends objects without what the server had filled in.
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let empty = spec.get(field).is_none_or(|value| value.is_null() || value == "");
            if let Some(old) = current.get("spec").and_then(|spec| spec.get(field)).filter(|_| empty) {
                spec.insert(field.to_owned(), old.clone());
            }
        }
        keep_node_ports(spec, current);
    }
    let taken = Taken::of(server, resource, next);
    assign(resource, next, &taken)?;
    Ok(guard)
}

fn keep_node_ports(spec: &mut Map<String, Value>, current: &Value) {
    let kind = spec
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("ClusterIP")
        .to_owned();
    let old = current
        .pointer("/spec/ports")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) else {
        return;
    };
    for port in ports {
        let fields = meta::fields(port);
        if !wants_node_port(&kind) {
            fields.remove("nodePort");
        } else if fields.get("nodePort").and_then(Value::as_i64).unwrap_or(0) == 0 {
            let same = old
                .iter()
                .find(|old| old.get("port") == fields.get("port") && old.get("protocol") == fields.get("protocol"));
            meta::set(fields, "nodePort", same.and_then(|port| port.get("nodePort")).cloned());
        }
    }
}

fn wants_node_port(kind: &str) -> bool {
    matches!(kind, "NodePort" | "LoadBalancer")
}

/// What other Services have.
struct Taken {
    range: Ipv4Net,
    addresses: HashSet<u32>,
    ports: HashSet<i64>,
}

impl Taken {
    fn of(server: &ApiServer, resource: &Resource, except: &Value) -> Self {
        let listed = server.store().list(&collection(resource), None);
        let others = listed.items.iter().filter(|other| {
            (meta::namespace(other), meta::name(other)) != (meta::namespace(except), meta::name(except))
        });
        let mut taken = Self {
            range: server.inner.services,
            addresses: HashSet::new(),
            ports: HashSet::new(),
        };
        for service in others {
            let spec = service.get("spec");
            let address = spec.and_then(|spec| spec.get("clusterIP")).and_then(Value::as_str);
            taken
                .addresses
                .extend(address.and_then(|text| text.parse::<Ipv4Addr>().ok()).map(u32::from));
            let ports = spec.and_then(|spec| spec.get("ports")).and_then(Value::as_array);
            taken.ports.extend(
                ports
                    .into_iter()
                    .flatten()
                    .filter_map(|port| port.get("nodePort")?.as_i64()),
            );
        }
        taken
    }

    fn free_address(&self) -> Option<u32> {
        let (first, last) = (u32::from(self.range.network()), u32::from(self.range.broadcast()));
        let band = LOWER_BAND.min((last - first) / 16).max(16);
        (first + band..last).find(|address| !self.addresses.contains(address))
    }
}

fn free_port(taken: &HashSet<i64>) -> Option<i64> {
    NODE_PORTS.into_iter().find(|port| !taken.contains(port))
}

fn assign(resource: &Resource, object: &mut Value, taken: &Taken) -> Result<(), ApiError> {
    let name = meta::name(object).to_owned();
    let spec = meta::child(meta::fields(object), "spec");
    let kind = spec
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("ClusterIP")
        .to_owned();
    if kind == "ExternalName" {
        for field in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ] {
            spec.remove(field);
        }
        return Ok(());
    }
    let given = spec
        .get("clusterIP")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let first = spec
        .get("clusterIPs")
        .and_then(|list| list.get(0))
        .and_then(Value::as_str);
    let given = if given.is_empty() {
        first.unwrap_or_default().to_owned()
    } else {
        given
    };
    let address = match given.as_str() {
        "None" => "None".to_owned(),
        "" => Ipv4Addr::from(
            taken
                .free_address()
                .ok_or_else(|| ApiError::internal("the Service range is full"))?,
        )
        .to_string(),
        wanted => {
            check_address(wanted, taken).map_err(|why| {
                let field = FieldError::invalid("spec.clusterIPs", &json!([wanted]), why);
                ApiError::invalid(resource, &name, &[field])
            })?;
            wanted.to_owned()
        }
    };
    let (policy, families) = families(spec).map_err(|errors| ApiError::invalid(resource, &name, &errors))?;
    spec.insert("clusterIP".to_owned(), json!(address));
    spec.insert("clusterIPs".to_owned(), json!([address]));
    spec.insert("ipFamilies".to_owned(), json!(families));
    spec.insert("ipFamilyPolicy".to_owned(), json!(policy));
    if wants_node_port(&kind) {
        assign_ports(resource, &name, spec, taken)?;
    }
    Ok(())
}

/// The policy and the families of a Service's addresses, in a cluster that has IPv4 only. A headless Service without a selector
/// may have any: who writes its endpoints knows which.
fn families(spec: &Map<String, Value>) -> Result<(String, Vec<String>), Vec<FieldError>> {
    let text = |field: &str| spec.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let list = |field: &str| -> Vec<Value> { spec.get(field).and_then(Value::as_array).cloned().unwrap_or_default() };
    let free = text("clusterIP") == Some("None") && spec.get("selector").is_none_or(|selector| *selector == json!({}));
    let policy = text("ipFamilyPolicy").unwrap_or(if free { "RequireDualStack" } else { "SingleStack" });
    let (given, addresses) = (list("ipFamilies"), list("clusterIPs"));
    let mut errors = Vec::new();
    let mut wrong = |field: String, value: &Value, why: &str| errors.push(FieldError::invalid(field, value, why));
    if policy == "SingleStack" {
        for (list, what) in [(&addresses, "cluster IPs"), (&given, "IP families")] {
            if list.len() > 1 {
                let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                wrong("spec.ipFamilyPolicy".to_owned(), &json!(policy), &why);
            }
        }
    }
    if !free {
        if policy == "RequireDualStack" {
            let why = "this cluster is not configured for dual-stack services";
            wrong("spec.ipFamilyPolicy".to_owned(), &json!(policy), why);
        }
        for (index, _) in given.iter().enumerate().filter(|(_, family)| **family == json!("IPv6")) {
            let field = format!("spec.ipFamilies[{index}]");
            wrong(field, &json!("IPv6"), "not configured on this cluster");
        }
    }
    let mut families: Vec<String> = given
        .iter()
        .filter_map(|family| family.as_str().map(str::to_owned))
        .collect();
    if families.is_empty() {
        families.push("IPv4".to_owned());
    }
    if free && policy != "SingleStack" && families.len() == 1 {
        let other = if families == ["IPv4"] { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
    if errors.is_empty() {
        Ok((policy.to_owned(), families))
    } else {
        Err(errors)
    }
}

fn check_address(wanted: &str, taken: &Taken) -> Result<(), String> {
    if wanted.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err("IPv6 is not configured on this cluster".to_owned());
    }
    let Ok(address) = wanted.parse::<Ipv4Addr>().map(u32::from) else {
        return Err("must be a valid IPv4 address".to_owned());
    };
    let (first, last) = (u32::from(taken.range.network()), u32::from(taken.range.broadcast()));
    if !(first + 1..last).contains(&address) {
        return Err(format!(
            "failed to allocate IP {wanted}: the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {}",
            taken.range
        ));
    }
    if taken.addresses.contains(&address) {
        return Err(format!(
            "failed to allocate IP {wanted}: provided IP is already allocated"
        ));
    }
    Ok(())
}

fn assign_ports(resource: &Resource, name: &str, spec: &mut Map<String, Value>, taken: &Taken) -> Result<(), ApiError> {
    let mut taken_ports = taken.ports.clone();
    // what this Service has itself, by port: TCP and UDP may share a number, as DNS does
    let mut own: HashSet<i64> = HashSet::new();
    let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) else {
        return Ok(());
    };
    for (index, port) in ports.iter_mut().enumerate() {
        let fields = meta::fields(port);
        let given = fields.get("nodePort").and_then(Value::as_i64).unwrap_or(0);
        let chosen = if given == 0 {
            free_port(&taken_ports)
        } else {
            Some(given)
        };
        let chosen = chosen.ok_or_else(|| ApiError::internal("the node port range is full"))?;
        let why = if !NODE_PORTS.contains(&chosen) {
            Some("provided port is not in the valid range. The range of valid ports is 30000-32767")
        } else if taken_ports.contains(&chosen) && !own.contains(&chosen) {
            Some("provided port is already allocated")
        } else {
            None
        };
        if let Some(why) = why {
            let field = FieldError::invalid(format!("spec.ports[{index}].nodePort"), &json!(chosen), why);
            return Err(ApiError::invalid(resource, name, &[field]));
        }
        taken_ports.insert(chosen);
        own.insert(chosen);
        fields.insert("nodePort".to_owned(), json!(chosen));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_those_of_a_cluster_with_ipv4() {
        let field = |field: &str, value: &str, why: &str| format!("spec.{field}: Invalid value: \"{value}\": {why}");
        let several = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
        let addresses = "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified";
        let no_dual = "this cluster is not configured for dual-stack services";
        let not_here = "not configured on this cluster";
        for (spec, expected) in [
            (json!({}), Ok(("SingleStack", vec!["IPv4"]))),
            (
                json!({"ipFamilyPolicy": "PreferDualStack"}),
                Ok(("PreferDualStack", vec!["IPv4"])),
            ),
            (json!({"ipFamilies": ["IPv4"]}), Ok(("SingleStack", vec!["IPv4"]))),
            (
                json!({"clusterIP": "None", "selector": {"app": "a"}}),
                Ok(("SingleStack", vec!["IPv4"])),
            ),
            (
                json!({"clusterIP": "None"}),
                Ok(("RequireDualStack", vec!["IPv4", "IPv6"])),
            ),
            (
                json!({"clusterIP": "None", "ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}),
                Ok(("SingleStack", vec!["IPv6"])),
            ),
            (
                json!({"ipFamilies": ["IPv6"]}),
                Err(vec![field("ipFamilies[0]", "IPv6", not_here)]),
            ),
            (
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                Err(vec![field("ipFamilyPolicy", "RequireDualStack", no_dual)]),
            ),
            (
                json!({"ipFamilies": ["IPv4", "IPv6"]}),
                Err(vec![
                    field("ipFamilyPolicy", "SingleStack", several),
                    field("ipFamilies[1]", "IPv6", not_here),
                ]),
            ),
            (
                json!({"clusterIPs": ["10.96.0.7", "fd00::1"]}),
                Err(vec![field("ipFamilyPolicy", "SingleStack", addresses)]),
            ),
        ] {
            let found = families(spec.as_object().unwrap());
            let found = found.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>());
            let expected = expected
                .map(|(policy, families)| (policy.to_owned(), families.into_iter().map(str::to_owned).collect()));
            assert_eq!(found, expected, "{spec}");
        }
    }
}
