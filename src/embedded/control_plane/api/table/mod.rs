//! Tables: the columns and cells that `kubectl get` prints.
//!
//! Source: Kubernetes' `pkg/printers/internalversion`; meta.k8s.io/v1 `Table`.

mod cluster;
mod config;
mod network;
mod pod;
mod text;
mod workloads;

pub use text::human_duration;

use serde_json::{Value, json};

use self::text::{Ages, Object, created, name};
use super::Resource;

/// How much of each object a row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// A `PartialObjectMetadata`, the default.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads `?includeObject=`; `None` for a value that is not one of the three.
    pub fn parse(text: &str) -> Option<IncludeObject> {
        match text {
            "None" => Some(IncludeObject::None),
            "" | "Metadata" => Some(IncludeObject::Metadata),
            "Object" => Some(IncludeObject::Object),
            _ => None,
        }
    }
}

/// How one kind is printed.
#[derive(Clone, Copy)]
struct Layout {
    /// Columns separated by `|`; `*` in front means only in wide output, `#` behind an integer.
    columns: &'static str,
    /// The cells of one object, at a point in time.
    row: fn(Object<'_>, jiff::Timestamp) -> Vec<Value>,
}

fn layout(resource: &Resource) -> Layout {
    let found = match resource.group.as_str() {
        "" | "events.k8s.io" => match resource.kind.as_str() {
            "Pod" => Some(pod::LAYOUT),
            other => config::core(other)
                .or_else(|| cluster::core(other))
                .or_else(|| network::core(other)),
        },
        "apps" | "batch" | "autoscaling" | "policy" => workloads::layout(&resource.kind),
        "networking.k8s.io" | "discovery.k8s.io" => network::layout(&resource.kind),
        "rbac.authorization.k8s.io" => config::rbac(&resource.kind),
        "certificates.k8s.io" => Some(config::CERTIFICATE),
        "apiextensions.k8s.io" => Some(Layout {
            columns: "Name|Created At",
            row: |o, _| vec![name(o), created(o)],
        }),
        "coordination.k8s.io" | "scheduling.k8s.io" | "storage.k8s.io" => cluster::layout(&resource.kind),
        _ => None,
    };
    let plain = Layout {
        columns: "Name|Created At",
        row: |o, _| vec![name(o), created(o)],
    };
    found.or_else(|| workloads::core(resource)).unwrap_or(plain)
}

/// A `meta.k8s.io/v1` Table of these objects. `list_metadata` is the list's `metadata` (resourceVersion, continue);
/// `columns` is whether to send the column definitions (in a watch only the first event has them).
pub fn table(
    resource: &Resource,
    items: &[Value],
    include_object: IncludeObject,
    now: jiff::Timestamp,
    list_metadata: Value,
    columns: bool,
) -> Value {
    let layout = layout(resource);
    let cells = |item: &Value| match &resource.custom {
        Some(custom) => custom.cells(item, now),
        None => (layout.row)(Object(item), now),
    };
    let rows: Vec<Value> = items
        .iter()
        .map(|item| row(resource, cells(item), item, include_object))
        .collect();
    let mut table = json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": if list_metadata.is_object() { list_metadata } else { json!({}) },
        "columnDefinitions": null,
        "rows": rows,
    });
    if columns {
        table["columnDefinitions"] = match &resource.custom {
            Some(custom) => custom.column_definitions(),
            None => layout.columns.split('|').map(column).collect(),
        };
    }
    table
}

/// The Table of one Scale.
pub fn scale(scale: &Value, include: IncludeObject, now: jiff::Timestamp) -> Value {
    let object = Object(scale);
    let number = |path: &str| json!(object.at(path).0.as_i64().unwrap_or(0));
    let cells = vec![
        name(object),
        number("spec.replicas"),
        number("status.replicas"),
        object.age(now),
    ];
    let mut row = json!({"cells": cells});
    row["object"] = shown(scale, include);
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": object.at("metadata").str("resourceVersion")},
        "columnDefinitions": "Name|Desired#|Available#|Age".split('|').map(column).collect::<Vec<_>>(),
        "rows": [row],
    })
}

fn column(text: &str) -> Value {
    let (wide, title) = text.strip_prefix('*').map_or((false, text), |title| (true, title));
    let (integer, title) = title.strip_suffix('#').map_or((false, title), |title| (true, title));
    json!({
        "name": title,
        "type": if integer { "integer" } else { "string" },
        "format": if title == "Name" { "name" } else { "" },
        "description": "",
        "priority": i32::from(wide),
    })
}

fn shown(item: &Value, include: IncludeObject) -> Value {
    match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": item.get("metadata"),
        }),
        IncludeObject::Object => item.clone(),
    }
}

fn row(resource: &Resource, cells: Vec<Value>, item: &Value, include: IncludeObject) -> Value {
    let mut row = json!({"cells": cells});
    row["object"] = shown(item, include);
    if resource.kind == "Pod"
        && let Some(condition) = pod::completed(Object(item))
    {
        row["conditions"] = json!([condition]);
    }
    row
}

#[cfg(test)]
mod tests;
