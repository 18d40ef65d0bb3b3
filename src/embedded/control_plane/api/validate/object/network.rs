//! Services, endpoint slices, network policies.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use serde_json::json;

use super::{super::super::view::Object, Errors, FieldError, meta, names};

/// A day, in seconds.
const LONGEST_AFFINITY: i64 = 86_400;
const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

const LINK_LOCAL: &str = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
const LINK_LOCAL_MULTICAST: &str = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";

pub fn service(object: Object<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    let kind = spec.str("type");
    errors.one_of(
        spec,
        "type",
        "spec",
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    );
    errors.one_of(spec, "sessionAffinity", "spec", &["ClientIP", "None"]);
    meta::labels(spec, "selector", "spec.selector", errors);
    let headless = spec.str("clusterIP") == "None";
    match kind {
        "ExternalName" => {
            let name = spec.str("externalName").trim_end_matches('.');
            errors.required_name("spec.externalName", name, names::dns1123_subdomain);
        }
        "NodePort" | "LoadBalancer" if headless => {
            let text = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid("spec.clusterIPs[0]", &json!("None"), text));
        }
        _ => {}
    }
    if kind != "ExternalName" && !headless && spec.items("ports").len() == 0 {
        errors.push(FieldError::required("spec.ports", ""));
    }
    let ip = spec.str("clusterIP");
    if !ip.is_empty() && !headless && ip.parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid("spec.clusterIPs[0]", &json!(ip), BAD_IP));
    }
    for (index, address) in spec.items("externalIPs").enumerate() {
        if address.0.as_str().is_none_or(|ip| ip.parse::<IpAddr>().is_err()) {
            errors.push(FieldError::invalid(
                format!("spec.externalIPs[{index}]"),
                address.0,
                BAD_IP,
            ));
        }
    }
    traffic(spec, errors);
    service_ports(spec, errors);
}

/// Whom a Service's traffic goes to, and how long a client stays with its endpoint.
fn traffic(spec: Object<'_>, errors: &mut Errors) {
    for field in ["internalTrafficPolicy", "externalTrafficPolicy"] {
        if spec.at(field).is_set() {
            errors.one_of(spec, field, "spec", &["Cluster", "Local"]);
        }
    }
    if spec.at("ipFamilyPolicy").is_set() {
        let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.one_of(spec, "ipFamilyPolicy", "spec", &policies);
    }
    let mut seen = BTreeSet::new();
    for (index, family) in spec.items("ipFamilies").enumerate() {
        let field = format!("spec.ipFamilies[{index}]");
        match family.0.as_str() {
            Some(name @ ("IPv4" | "IPv6")) if seen.insert(name) => {}
            Some("IPv4" | "IPv6") => errors.push(FieldError::duplicate(field, family.0)),
            _ => errors.push(FieldError::not_supported(field, family.0, &["IPv4", "IPv6"])),
        }
    }
    let timeout = spec.at("sessionAffinityConfig").at("clientIP").at("timeoutSeconds");
    let fits = |seconds: i64| (1..=LONGEST_AFFINITY).contains(&seconds);
    if timeout.is_set() && timeout.0.as_i64().is_none_or(|seconds| !fits(seconds)) {
        errors.push(FieldError::invalid(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            timeout.0,
            format!("must be greater than 0 and less than {LONGEST_AFFINITY}"),
        ));
    }
}

fn service_ports(spec: Object<'_>, errors: &mut Errors) {
    let several = spec.items("ports").len() > 1;
    let (mut names_seen, mut ports_seen) = (BTreeSet::new(), BTreeSet::new());
    let mut node_ports_seen = BTreeSet::new();
    for (index, port) in spec.items("ports").enumerate() {
        let field = format!("spec.ports[{index}]");
        let name = port.str("name");
        if name.is_empty() && several {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        } else if !name.is_empty() {
            errors.named(&format!("{field}.name"), name, names::dns1123_label(name));
            if !names_seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{field}.name"), &json!(name)));
            }
        }
        errors.port(port.at("port"), &format!("{field}.port"));
        if port.str("protocol") == "SCTP" {
            let why = "this cluster does not carry SCTP: use TCP or UDP";
            errors.push(FieldError::invalid(format!("{field}.protocol"), &json!("SCTP"), why));
        } else {
            errors.one_of(port, "protocol", &field, &["TCP", "UDP", "SCTP"]);
        }
        if port.at("targetPort").is_set() {
            errors.port_or_name(port.at("targetPort"), &format!("{field}.targetPort"));
        }
        if port.int("nodePort") != 0 {
            errors.port(port.at("nodePort"), &format!("{field}.nodePort"));
            if !node_ports_seen.insert((port.int("nodePort"), port.str("protocol"))) {
                errors.push(FieldError::duplicate(
                    format!("{field}.nodePort"),
                    port.at("nodePort").0,
                ));
            }
        }
        if !ports_seen.insert((port.int("port"), port.str("protocol"))) {
            let value = json!({"port": port.int("port"), "protocol": port.str("protocol")});
            errors.push(FieldError::duplicate(field, &value));
        }
    }
}

pub fn endpoints(object: Object<'_>, errors: &mut Errors) {
    for (index, subset) in object.items("subsets").enumerate() {
        let field = format!("subsets[{index}]");
        if subset.items("addresses").len() + subset.items("notReadyAddresses").len() == 0 {
            let text = "must specify `addresses` or `notReadyAddresses`";
            errors.push(FieldError::required(&field, text));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (index, address) in subset.items(list).enumerate() {
                endpoint_address(address, &format!("{field}.{list}[{index}]"), errors);
            }
        }
        let several = subset.items("ports").len() > 1;
        for (index, port) in subset.items("ports").enumerate() {
            let field = format!("{field}.ports[{index}]");
            let name = port.str("name");
            if name.is_empty() && several {
                errors.push(FieldError::required(format!("{field}.name"), ""));
            } else if !name.is_empty() {
                errors.named(&format!("{field}.name"), name, names::dns1123_label(name));
            }
            errors.port(port.at("port"), &format!("{field}.port"));
            errors.one_of(port, "protocol", &field, &["SCTP", "TCP", "UDP"]);
        }
    }
}

fn endpoint_address(address: Object<'_>, field: &str, errors: &mut Errors) {
    let ip = address.at("ip");
    let wrong = match ip.0.as_str().unwrap_or_default().parse::<IpAddr>() {
        Err(_) => Some(BAD_IP),
        Ok(parsed) if parsed.is_unspecified() => Some("may not be unspecified (0.0.0.0 or ::)"),
        Ok(parsed) if parsed.is_loopback() => Some("may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        Ok(IpAddr::V4(v4)) if v4.is_link_local() => Some(LINK_LOCAL),
        Ok(IpAddr::V6(v6)) if v6.is_unicast_link_local() => Some(LINK_LOCAL),
        Ok(IpAddr::V4(v4)) if v4.octets().starts_with(&[224, 0, 0]) => Some(LINK_LOCAL_MULTICAST),
        Ok(IpAddr::V6(v6)) if v6.segments()[0] == 0xff02 => Some(LINK_LOCAL_MULTICAST),
        Ok(_) => None,
    };
    if let Some(why) = wrong {
        errors.push(FieldError::invalid(format!("{field}.ip"), ip.0, why));
    }
    let hostname = address.str("hostname");
    if !hostname.is_empty() {
        errors.named(&format!("{field}.hostname"), hostname, names::dns1123_label(hostname));
    }
}

pub fn endpoint_slice(object: Object<'_>, errors: &mut Errors) {
    let kind = object.str("addressType");
    if kind.is_empty() {
        errors.push(FieldError::required("addressType", ""));
    } else if !["IPv4", "IPv6", "FQDN"].contains(&kind) {
        errors.push(FieldError::not_supported(
            "addressType",
            &json!(kind),
            &["FQDN", "IPv4", "IPv6"],
        ));
    }
    for (index, endpoint) in object.items("endpoints").enumerate() {
        let field = format!("endpoints[{index}].addresses");
        if endpoint.items("addresses").len() == 0 {
            errors.push(FieldError::required(&field, "must contain at least 1 address"));
        }
        for (index, address) in endpoint.items("addresses").enumerate() {
            let parsed = address.0.as_str().unwrap_or_default().parse::<IpAddr>();
            let good = match kind {
                "IPv4" => parsed.is_ok_and(|ip| ip.is_ipv4()),
                "IPv6" => parsed.is_ok_and(|ip| ip.is_ipv6()),
                _ => true,
            };
            if !good {
                errors.push(FieldError::invalid(format!("{field}[{index}]"), address.0, BAD_IP));
            }
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in object.items("ports").enumerate() {
        let field = format!("ports[{index}]");
        errors.one_of(port, "protocol", &field, &["TCP", "UDP", "SCTP"]);
        if !seen.insert(port.str("name")) {
            errors.push(FieldError::duplicate(format!("{field}.name"), &json!(port.str("name"))));
        }
    }
}

pub fn policy(object: Object<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    meta::selector(spec.at("podSelector"), "spec.podSelector", errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in spec.items(direction).enumerate() {
            let field = format!("spec.{direction}[{index}]");
            for (index, port) in rule.items("ports").enumerate() {
                policy_port(port, &format!("{field}.ports[{index}]"), errors);
            }
            for (index, peer) in rule.items(peers).enumerate() {
                policy_peer(peer, &format!("{field}.{peers}[{index}]"), errors);
            }
        }
    }
    if spec.items("policyTypes").len() > 2 {
        let value = spec.at("policyTypes").0;
        let text = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid("spec.policyTypes", value, text));
        return;
    }
    for (index, kind) in spec.items("policyTypes").enumerate() {
        if !matches!(kind.0.as_str(), Some("Ingress" | "Egress")) {
            let field = format!("spec.policyTypes[{index}]");
            errors.push(FieldError::not_supported(field, kind.0, &["Egress", "Ingress"]));
        }
    }
}

fn policy_port(port: Object<'_>, field: &str, errors: &mut Errors) {
    errors.one_of(port, "protocol", field, &["SCTP", "TCP", "UDP"]);
    let (first, last) = (port.at("port"), port.at("endPort"));
    if first.is_set() {
        errors.port_or_name(first, &format!("{field}.port"));
    }
    if !last.is_set() {
        return;
    }
    let field = format!("{field}.endPort");
    if !first.is_set() {
        errors.push(FieldError::invalid(
            field,
            last.0,
            "may not be specified when `port` is not specified",
        ));
    } else if first.0.is_string() {
        errors.push(FieldError::invalid(
            field,
            last.0,
            "may not be specified when `port` is non-numeric",
        ));
    } else if last.0.as_i64() < first.0.as_i64() {
        errors.push(FieldError::invalid(
            field,
            last.0,
            "must be greater than or equal to `port`",
        ));
    }
}

fn policy_peer(peer: Object<'_>, field: &str, errors: &mut Errors) {
    let set = ["podSelector", "namespaceSelector", "ipBlock"]
        .into_iter()
        .filter(|kind| peer.at(kind).is_set());
    let set: Vec<&str> = set.collect();
    for kind in set.iter().filter(|kind| kind.ends_with("Selector")) {
        meta::selector(peer.at(kind), &format!("{field}.{kind}"), errors);
    }
    if set.is_empty() {
        errors.push(FieldError::required(field, "must specify a peer"));
    } else if set.contains(&"ipBlock") && set.len() > 1 {
        errors.push(FieldError::forbidden(
            field,
            "may not specify both ipBlock and another peer",
        ));
    } else if set.contains(&"ipBlock") {
        ip_block(peer.at("ipBlock"), &format!("{field}.ipBlock"), errors);
    }
}

fn ip_block(block: Object<'_>, field: &str, errors: &mut Errors) {
    let bad = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let text = block.str("cidr");
    if text.is_empty() {
        errors.push(FieldError::required(format!("{field}.cidr"), ""));
        return;
    }
    let Ok(whole) = text.parse::<IpNet>() else {
        errors.push(FieldError::invalid(format!("{field}.cidr"), &json!(text), bad));
        return;
    };
    for (index, except) in block.items("except").enumerate() {
        let field = format!("{field}.except[{index}]");
        match except.0.as_str().unwrap_or_default().parse::<IpNet>() {
            Err(_) => errors.push(FieldError::invalid(field, except.0, bad)),
            Ok(part) if whole.trunc() == part.trunc() || !whole.contains(&part) => {
                errors.push(FieldError::invalid(
                    field,
                    except.0,
                    "must be a strict subset of `cidr`",
                ));
            }
            Ok(_) => {}
        }
    }
}
