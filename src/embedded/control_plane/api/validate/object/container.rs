//! Containers of all three sorts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    super::{super::view::Object, quantity},
    Errors, FieldError, names, pod,
};

/// A container of `kind` (`containers`, `initContainers`, `ephemeralContainers`) at `field`.
pub fn check(container: Object<'_>, kind: &str, field: &str, volumes: &BTreeSet<&str>, errors: &mut Errors) {
    errors.required_name(&format!("{field}.name"), container.str("name"), names::dns1123_label);
    let image = container.str("image");
    if image.is_empty() {
        errors.push(FieldError::required(format!("{field}.image"), ""));
    } else if image.trim() != image {
        let text = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(format!("{field}.image"), &Value::from(image), text));
    }
    errors.one_of(
        container,
        "imagePullPolicy",
        field,
        &["Always", "IfNotPresent", "Never"],
    );
    errors.one_of(
        container,
        "terminationMessagePolicy",
        field,
        &["File", "FallbackToLogsOnError"],
    );
    ports(container, field, errors);
    environment(container, field, errors);
    mounts(container, field, volumes, errors);
    resources(container.at("resources"), &format!("{field}.resources"), errors);
    for id in ["runAsUser", "runAsGroup"] {
        check_id(
            container.at("securityContext"),
            id,
            &format!("{field}.securityContext"),
            errors,
        );
    }
    sort_specific(container, kind, field, errors);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        probe(container.at(name), name, &format!("{field}.{name}"), errors);
    }
}

fn sort_specific(container: Object<'_>, kind: &str, field: &str, errors: &mut Errors) {
    let set = |name: &str| container.at(name).is_set();
    const PROBES: [&str; 4] = ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"];
    match kind {
        "initContainers" if container.str("restartPolicy") != "Always" => {
            let text = "may not be set for init containers without restartPolicy=Always";
            for name in PROBES.into_iter().filter(|name| set(name)) {
                errors.push(FieldError::forbidden(format!("{field}.{name}"), text));
            }
        }
        "ephemeralContainers" => {
            let text = "cannot be set for an Ephemeral Container";
            let resources = container
                .at("resources")
                .entries("limits")
                .is_some_and(|l| !l.is_empty());
            for name in PROBES.into_iter().chain(["ports"]).filter(|name| set(name)) {
                errors.push(FieldError::forbidden(format!("{field}.{name}"), text));
            }
            if resources {
                errors.push(FieldError::forbidden(format!("{field}.resources"), text));
            }
        }
        _ => {}
    }
}

fn ports(container: Object<'_>, field: &str, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, port) in container.items("ports").enumerate() {
        let field = format!("{field}.ports[{index}]");
        let name = port.str("name");
        if !name.is_empty() {
            errors.named(&format!("{field}.name"), name, names::port_name(name));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{field}.name"), &Value::from(name)));
            }
        }
        if port.int("containerPort") == 0 {
            errors.push(FieldError::required(format!("{field}.containerPort"), ""));
        } else {
            errors.port(port.at("containerPort"), &format!("{field}.containerPort"));
        }
        if port.int("hostPort") != 0 {
            errors.port(port.at("hostPort"), &format!("{field}.hostPort"));
        }
        errors.one_of(port, "protocol", &field, &["TCP", "UDP", "SCTP"]);
    }
}

fn environment(container: Object<'_>, field: &str, errors: &mut Errors) {
    for (index, variable) in container.items("env").enumerate() {
        let field = format!("{field}.env[{index}]");
        errors.required_name(&format!("{field}.name"), variable.str("name"), names::env_var);
        let from = variable.at("valueFrom");
        if !from.is_set() {
            continue;
        }
        let field = format!("{field}.valueFrom");
        let sources = from.0.as_object().map_or(0, serde_json::Map::len);
        let complaint = match sources {
            0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            1 if !variable.str("value").is_empty() => "may not be specified when `value` is not empty",
            1 => "",
            _ => "may not have more than one field specified at a time",
        };
        if !complaint.is_empty() {
            errors.push(FieldError::invalid(&field, &Value::from(""), complaint));
        }
        for source in ["configMapKeyRef", "secretKeyRef"] {
            for part in ["name", "key"] {
                if from.at(source).is_set() && from.at(source).str(part).is_empty() {
                    errors.push(FieldError::required(format!("{field}.{source}.{part}"), ""));
                }
            }
        }
        if from.at("fieldRef").is_set() {
            field_path(from.at("fieldRef"), &format!("{field}.fieldRef"), errors);
        }
    }
}

fn field_path(reference: Object<'_>, field: &str, errors: &mut Errors) {
    const PATHS: [&str; 9] = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let path = reference.str("fieldPath");
    let keyed = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .any(|p| path.starts_with(p))
        && path.ends_with("']");
    if path.is_empty() {
        errors.push(FieldError::required(format!("{field}.fieldPath"), ""));
    } else if !keyed && !PATHS.contains(&path) {
        errors.push(FieldError::not_supported(
            format!("{field}.fieldPath"),
            &Value::from(path),
            &PATHS,
        ));
    }
}

fn mounts(container: Object<'_>, field: &str, volumes: &BTreeSet<&str>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, mount) in container.items("volumeMounts").enumerate() {
        let field = format!("{field}.volumeMounts[{index}]");
        let (name, path) = (mount.str("name"), mount.str("mountPath"));
        if name.is_empty() {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        } else if !volumes.contains(name) {
            let cause = super::super::Cause::NotFound(Value::from(name));
            errors.push(FieldError {
                field: format!("{field}.name"),
                cause,
            });
        }
        if path.is_empty() {
            errors.push(FieldError::required(format!("{field}.mountPath"), ""));
        } else if !seen.insert(path) {
            errors.push(FieldError::invalid(
                format!("{field}.mountPath"),
                &Value::from(path),
                "must be unique",
            ));
        }
        pod::relative_path(mount.str("subPath"), &format!("{field}.subPath"), errors);
    }
}

fn resources(resources: Object<'_>, field: &str, errors: &mut Errors) {
    let parse = |value: &Value| quantity::parse(&Object(value).text());
    for kind in ["limits", "requests"] {
        for (resource, value) in resources.entries(kind).into_iter().flatten() {
            if parse(value) < quantity::parse("0") {
                let text = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(format!("{field}.{kind}.{resource}"), value, text));
            }
        }
    }
    for (resource, request) in resources.entries("requests").into_iter().flatten() {
        let limit = resources.entries("limits").and_then(|limits| limits.get(resource));
        if let Some(limit) = limit.filter(|limit| parse(request) > parse(limit)) {
            let text = format!(
                "must be less than or equal to {resource} limit of {}",
                Object(limit).text()
            );
            errors.push(FieldError::invalid(format!("{field}.requests"), request, text));
        }
    }
}

fn probe(probe: Object<'_>, name: &str, field: &str, errors: &mut Errors) {
    if !probe.is_set() {
        return;
    }
    let handlers: Vec<&str> = ["exec", "httpGet", "tcpSocket", "grpc"]
        .into_iter()
        .filter(|handler| probe.at(handler).is_set())
        .collect();
    match handlers.as_slice() {
        [] => errors.push(FieldError::required(field, "must specify a handler type")),
        [_] => {}
        [_, more @ ..] => {
            for extra in more {
                let text = "may not specify more than 1 handler type";
                errors.push(FieldError::forbidden(format!("{field}.{extra}"), text));
            }
        }
    }
    for handler in ["httpGet", "tcpSocket", "grpc"] {
        if probe.at(handler).is_set() {
            errors.port_or_name(probe.at(handler).at("port"), &format!("{field}.{handler}.port"));
        }
    }
    if probe.at("exec").is_set() && probe.items("exec.command").len() == 0 {
        errors.push(FieldError::required(format!("{field}.exec.command"), ""));
    }
    for number in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.not_negative(probe, number, field);
    }
    if name != "readinessProbe" && probe.int("successThreshold") > 1 {
        let value = probe.at("successThreshold").0;
        errors.push(FieldError::invalid(
            format!("{field}.successThreshold"),
            value,
            "must be 1",
        ));
    }
}

/// A user or group id.
pub fn check_id(context: Object<'_>, id: &str, field: &str, errors: &mut Errors) {
    let value = context.at(id);
    if value.is_set() && !(0..=i64::from(i32::MAX)).contains(&value.0.as_i64().unwrap_or(-1)) {
        let text = "must be between 0 and 2147483647, inclusive";
        errors.push(FieldError::invalid(format!("{field}.{id}"), value.0, text));
    }
}
