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
use crate::embedded::control_plane::api::{Resource, validate::FieldError};

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
    spec.insert("clusterIP".to_owned(), json!(address));
    spec.insert("clusterIPs".to_owned(), json!([address]));
    spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
    spec.entry("ipFamilyPolicy").or_insert_with(|| json!("SingleStack"));
    if wants_node_port(&kind) {
        assign_ports(resource, &name, spec, taken)?;
    }
    Ok(())
}

fn check_address(wanted: &str, taken: &Taken) -> Result<(), String> {
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
