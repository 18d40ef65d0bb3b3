//! What a template is rendered over: a pod and its node under the names that Go has for their fields.
//!
//! The API's schemas say which fields there are, so that one that is not set is there with its zero value, and one that
//! does not exist is not. Text, lists, maps and plain numbers and booleans have a zero value; pointers are nil.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use gotmpl::Value;
use k8s_openapi::{
    api::core::v1::{Node, NodeSpec, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::template::Data;

/// Deepest nesting that is taken over.
const DEEPEST: usize = 32;

/// Names of fields in Go where they are not the JSON name with a capital letter.
const GO_NAMES: &[(&str, &str)] = &[
    ("apiVersion", "APIVersion"),
    ("awsElasticBlockStore", "AWSElasticBlockStore"),
    ("cephfs", "CephFS"),
    ("csi", "CSI"),
    ("dnsConfig", "DNSConfig"),
    ("dnsPolicy", "DNSPolicy"),
    ("externalID", "DoNotUseExternalID"),
    ("fc", "FC"),
    ("fsGroup", "FSGroup"),
    ("fsGroupChangePolicy", "FSGroupChangePolicy"),
    ("fsType", "FSType"),
    ("gcePersistentDisk", "GCEPersistentDisk"),
    ("grpc", "GRPC"),
    ("httpGet", "HTTPGet"),
    ("httpHeaders", "HTTPHeaders"),
    ("ip", "IP"),
    ("iscsi", "ISCSI"),
    ("nfs", "NFS"),
    ("os", "OS"),
    ("pdName", "PDName"),
    ("rbd", "RBD"),
    ("seLinuxChangePolicy", "SELinuxChangePolicy"),
    ("seLinuxOptions", "SELinuxOptions"),
    ("tcpSocket", "TCPSocket"),
    ("tty", "TTY"),
    ("uid", "UID"),
    ("wwids", "WWIDs"),
];

/// Booleans and numbers that Go has as values, not as pointers.
const PLAIN: &[&str] = &[
    "containerPort",
    "failureThreshold",
    "generation",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "periodSeconds",
    "readOnly",
    "stdin",
    "stdinOnce",
    "successThreshold",
    "timeoutSeconds",
    "tty",
    "unschedulable",
];

/// Texts that Go has as pointers.
const POINTED: &[&str] = &[
    "containerRestartPolicy",
    "creationTimestamp",
    "deletionTimestamp",
    "mountPropagation",
    "preemptionPolicy",
    "recursiveReadOnly",
    "restartPolicyForContainers",
    "runtimeClassName",
    "storageClassName",
    "timeAdded",
    "volumeMode",
];

/// A pod on its node.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The trust domain's name.
    pub trust_domain: &'a str,
    /// The cluster's name, from the configuration.
    pub cluster_name: &'a str,
    /// The domain of the cluster's DNS.
    pub cluster_domain: &'a str,
    /// The node, and the pod unless only the node is of interest.
    pub node: &'a Node,
    /// The pod.
    pub pod: Option<&'a Pod>,
}

impl Data for Facts<'_> {
    fn value(&self, names: &BTreeSet<Arc<str>>) -> Value {
        let shapes = &*SHAPES;
        let text = |text: &str| Value::String(text.into());
        let pod_meta = self.pod.map(|pod| &pod.metadata);
        let pod_spec = self.pod.and_then(|pod| pod.spec.as_ref());
        let entries = [
            ("TrustDomain", text(self.trust_domain)),
            ("ClusterName", text(self.cluster_name)),
            ("ClusterDomain", text(self.cluster_domain)),
            ("NodeMeta", shapes.show(&shapes.meta, Some(&self.node.metadata), names)),
            (
                "NodeSpec",
                shapes.show(
                    &shapes.node,
                    Some(self.node.spec.as_ref().unwrap_or(&NodeSpec::default())),
                    names,
                ),
            ),
            ("PodMeta", shapes.show(&shapes.meta, pod_meta, names)),
            ("PodSpec", shapes.show(&shapes.pod, pod_spec, names)),
        ];
        Value::Map(Arc::new(
            entries
                .into_iter()
                .map(|(name, value)| (Arc::from(name), value))
                .collect(),
        ))
    }
}

/// What a value of the API looks like in Go.
#[derive(Debug, Clone)]
enum Shape {
    /// A struct: of the name in `Shapes::structs`.
    Struct(Arc<str>),
    Map(Box<Shape>),
    List(Box<Shape>),
    Text,
    Number,
    Truth,
    /// Text or number, or anything.
    Any,
}

#[derive(Debug)]
struct Field {
    go: Arc<str>,
    json: String,
    shape: Shape,
}

struct Shapes {
    structs: BTreeMap<Arc<str>, Vec<Field>>,
    meta: Shape,
    node: Shape,
    pod: Shape,
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let mut generator = SchemaGenerator::default();
    let root = |schema: schemars::Schema| shape(schema.as_value());
    let (meta, node, pod) = (
        root(subschema::<ObjectMeta>(&mut generator)),
        root(subschema::<NodeSpec>(&mut generator)),
        root(subschema::<PodSpec>(&mut generator)),
    );
    let structs = generator
        .definitions()
        .iter()
        .filter_map(|(name, schema)| {
            let properties = schema.get("properties")?.as_object()?;
            Some((Arc::from(name.as_str()), fields(properties)))
        })
        .collect();
    Shapes {
        structs,
        meta,
        node,
        pod,
    }
});

fn subschema<T: JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

fn fields(properties: &Map<String, Json>) -> Vec<Field> {
    properties
        .iter()
        .map(|(json, schema)| Field {
            go: go_name(json),
            json: json.clone(),
            shape: shape(schema),
        })
        .collect()
}

fn go_name(json: &str) -> Arc<str> {
    if let Some((_, go)) = GO_NAMES.iter().find(|(name, _)| *name == json) {
        return Arc::from(*go);
    }
    let mut letters = json.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect::<String>().into()
}

fn shape(schema: &Json) -> Shape {
    if let Some(name) = schema
        .get("$ref")
        .and_then(Json::as_str)
        .and_then(|name| name.rsplit('/').next())
    {
        return Shape::Struct(name.into());
    }
    match schema.get("type").and_then(Json::as_str) {
        Some("string") => Shape::Text,
        Some("integer" | "number") => Shape::Number,
        Some("boolean") => Shape::Truth,
        Some("array") => Shape::List(Box::new(schema.get("items").map_or(Shape::Any, shape))),
        Some("object") => Shape::Map(Box::new(schema.get("additionalProperties").map_or(Shape::Any, shape))),
        _ => Shape::Any,
    }
}

impl Shapes {
    fn show<T: Serialize>(&self, shape: &Shape, object: Option<&T>, names: &BTreeSet<Arc<str>>) -> Value {
        // An object of the API can always be written as JSON.
        let json = object.and_then(|object| serde_json::to_value(object).ok());
        self.value(shape, json.as_ref(), names, DEEPEST)
    }

    fn value(&self, shape: &Shape, json: Option<&Json>, names: &BTreeSet<Arc<str>>, depth: usize) -> Value {
        let Some(depth) = depth.checked_sub(1) else {
            return Value::Nil;
        };
        match (shape, json) {
            (Shape::Struct(name), Some(json)) => match (self.structs.get(name), json) {
                (Some(fields), Json::Object(object)) => {
                    let shown = fields.iter().map(|field| {
                        let json = object.get(&field.json).filter(|json| !json.is_null());
                        let value = match json {
                            None if absent_is_nil(field) => Value::Nil,
                            json => self.value(&field.shape, json, names, depth),
                        };
                        (Arc::clone(&field.go), value)
                    });
                    Value::Map(Arc::new(shown.collect()))
                }
                // A quantity, a time, a port by number or by name.
                (_, json) => self.value(&Shape::Any, Some(json), names, depth),
            },
            (Shape::Struct(_), None) => Value::Nil,
            (Shape::Map(inner), json) => {
                let object = json.and_then(Json::as_object);
                let there = object.into_iter().flatten();
                let mut map: BTreeMap<Arc<str>, Value> =
                    names.iter().map(|name| (Arc::clone(name), Value::Nil)).collect();
                map.extend(
                    there.map(|(key, json)| (Arc::from(key.as_str()), self.value(inner, Some(json), names, depth))),
                );
                Value::Map(Arc::new(map))
            }
            (Shape::List(inner), json) => {
                let list = json.and_then(Json::as_array).into_iter().flatten();
                let shown: Vec<Value> = list.map(|json| self.value(inner, Some(json), names, depth)).collect();
                Value::List(shown.into())
            }
            (Shape::Text, None) => Value::String("".into()),
            (Shape::Number, None) => Value::Int(0),
            (Shape::Truth, None) => Value::Bool(false),
            (Shape::Any, None) => Value::Nil,
            (Shape::Text | Shape::Number | Shape::Truth | Shape::Any, Some(json)) => match json {
                Json::Null => Value::Nil,
                Json::Bool(truth) => Value::Bool(*truth),
                Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                    (Some(number), _) => Value::Int(number),
                    (None, Some(number)) => Value::Uint(number),
                    (None, None) => Value::Float(number.as_f64().unwrap_or_default()),
                },
                Json::String(text) => Value::String(text.as_str().into()),
                Json::Array(_) => self.value(&Shape::List(Box::new(Shape::Any)), Some(json), names, depth),
                Json::Object(_) => self.value(&Shape::Map(Box::new(Shape::Any)), Some(json), names, depth),
            },
        }
    }
}

/// Whether a field that is not set is a nil pointer in Go.
fn absent_is_nil(field: &Field) -> bool {
    match field.shape {
        Shape::Struct(_) | Shape::Any => true,
        Shape::Number | Shape::Truth => !PLAIN.contains(&field.json.as_str()),
        Shape::Text => POINTED.contains(&field.json.as_str()),
        Shape::Map(_) | Shape::List(_) => false,
    }
}
