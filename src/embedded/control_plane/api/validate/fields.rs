//! Strict decoding: unknown and duplicate fields, wrong types.
//!
//! Source of the texts: Go's `encoding/json` (as forked in sigs.k8s.io/json) and the `UnmarshalJSON` of
//! apimachinery's Time, Quantity and IntOrString.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::super::{
    Resource,
    custom::Custom,
    schema::{self, Field, Leaf, Shape, Type},
};
use super::quantity;

/// Something wrong with the shape of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A field that the kind does not have. Refused with `fieldValidation=Strict`, else dropped (with `Warn`, a
    /// warning header).
    #[error("unknown field \"{0}\"")]
    Unknown(String),
    /// A field given twice. As for `Unknown`; the last one counts.
    #[error("duplicate field \"{0}\"")]
    Duplicate(String),
    /// A value of the wrong type; a 400 whatever the field validation. The text is Go's.
    #[error("{0}")]
    WrongType(String),
}

/// Problems reported at most, as by kube-apiserver.
const MAX_PROBLEMS: usize = 100;

/// Unknown fields and wrong types of an object (duplicates are seen only in the text: [`super::super::decode::body`]).
/// Empty for a kind without a built-in schema.
pub fn fields(resource: &Resource, object: &Value) -> Vec<Problem> {
    match &resource.custom {
        Some(custom) => of_custom(custom, object),
        None => of_type(&resource.schema, object),
    }
}

/// Of a custom object: its metadata has a known type, and its other fields are those of its schema.
fn of_custom(custom: &Custom, object: &Value) -> Vec<Problem> {
    let mut walk = Walk {
        problems: Vec::new(),
        path: "metadata".to_owned(),
        names: vec!["metadata"],
    };
    if let (Some(known), Some(metadata)) = (schema::find("meta.v1.ObjectMeta"), object.get("metadata")) {
        walk.object("ObjectMeta", known, metadata);
    }
    let unknown = custom.prune(&mut object.clone());
    walk.problems.extend(unknown.into_iter().map(Problem::Unknown));
    walk.problems.truncate(MAX_PROBLEMS);
    walk.problems
}

/// As [`fields`], for a body that is no resource: `meta.v1.DeleteOptions`, `autoscaling.v1.Scale`, `policy.v1.Eviction`.
pub fn of_type(name: &str, object: &Value) -> Vec<Problem> {
    let mut walk = Walk {
        problems: Vec::new(),
        path: String::new(),
        names: Vec::new(),
    };
    if let Some(known) = schema::find(name) {
        let short = name.rsplit('.').next().unwrap_or(name);
        if object.is_object() {
            walk.object(short, known, object);
        } else {
            let text = format!(
                "json: cannot unmarshal {} into Go value of type v1.{short}",
                noun(object)
            );
            walk.problems.push(Problem::WrongType(text));
        }
    }
    walk.problems.truncate(MAX_PROBLEMS);
    walk.problems
}

/// The message of the 400 for these problems, or `None` where there are none.
///
/// `strict` is whether unknown and duplicate fields count (`fieldValidation=Strict`).
pub fn strict_error(resource: &Resource, problems: &[Problem], strict: bool) -> Option<String> {
    let prefix = format!(
        "{0} in version {1:?} cannot be handled as a {0}: ",
        resource.kind, resource.version
    );
    if let Some(wrong) = problems.iter().find(|p| matches!(p, Problem::WrongType(_))) {
        return Some(format!("{prefix}{wrong}"));
    }
    if !strict || problems.is_empty() {
        return None;
    }
    let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Some(format!("{prefix}strict decoding error: {}", all.join(", ")))
}

struct Walk {
    problems: Vec<Problem>,
    /// With indices, for unknown fields.
    path: String,
    /// Field names only, for wrong types.
    names: Vec<&'static str>,
}

impl Walk {
    fn object(&mut self, owner: &str, known: &'static Type, value: &Value) {
        let Some(fields) = value.as_object() else { return };
        for (name, value) in fields {
            if self.problems.len() >= MAX_PROBLEMS {
                return;
            }
            let length = self.path.len();
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(name);
            match known.field(name) {
                None => self.problems.push(Problem::Unknown(self.path.clone())),
                Some(field) => {
                    self.names.push(field.name);
                    self.field(owner, field, value);
                    self.names.pop();
                }
            }
            self.path.truncate(length);
        }
    }

    fn field(&mut self, owner: &str, field: &'static Field, value: &Value) {
        match (field.shape, value) {
            (_, Value::Null) => {}
            (Shape::One, _) => self.leaf(owner, field, value),
            (Shape::List, Value::Array(items)) => self.items(owner, field, items),
            (Shape::Map, Value::Object(entries)) => {
                for (key, entry) in entries.iter().filter(|(_, entry)| !entry.is_null()) {
                    let length = self.path.len();
                    self.path.push('.');
                    self.path.push_str(key);
                    self.leaf(owner, field, entry);
                    self.path.truncate(length);
                }
            }
            (Shape::MapOfLists, Value::Object(entries)) => {
                for entry in entries.values().filter(|entry| !entry.is_null()) {
                    match entry {
                        Value::Array(items) => self.items(owner, field, items),
                        _ => self.wrong(owner, entry, "[]string"),
                    }
                }
            }
            (Shape::List, _) => self.wrong(owner, value, &format!("[]{}", go_type(owner, field))),
            (Shape::Map, _) => self.wrong(owner, value, &format!("map[string]{}", go_type(owner, field))),
            (Shape::MapOfLists, _) => self.wrong(owner, value, "map[string][]string"),
        }
    }

    fn items(&mut self, owner: &str, field: &'static Field, items: &[Value]) {
        for (index, item) in items.iter().enumerate().filter(|(_, item)| !item.is_null()) {
            let length = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            self.leaf(owner, field, item);
            self.path.truncate(length);
        }
    }

    fn leaf(&mut self, owner: &str, field: &'static Field, value: &Value) {
        let own = match (field.leaf, value) {
            (Leaf::Object(name), Value::Object(_)) => {
                if let Some(known) = field.object() {
                    self.object(name.rsplit('.').next().unwrap_or(name), known, value);
                }
                None
            }
            (Leaf::SchemaOr(_), Value::Object(_)) => {
                if let Some(known) = field.object() {
                    self.object("JSONSchemaProps", known, value);
                }
                None
            }
            (Leaf::Any, _)
            | (Leaf::SchemaOr(_), Value::Bool(_) | Value::Array(_))
            | (Leaf::String, Value::String(_))
            | (Leaf::Bool, Value::Bool(_))
            | (Leaf::Number, Value::Number(_)) => None,
            (Leaf::Int32 | Leaf::Int64, Value::Number(_)) => return self.integer(owner, field, value),
            (Leaf::Time | Leaf::MicroTime, _) => time_problem(field.leaf, value),
            (Leaf::Quantity, _) => quantity_problem(value),
            (Leaf::IntOrString, _) => int_or_string_problem(value),
            (Leaf::Bytes, Value::String(text)) => base64_problem(text),
            _ => return self.wrong(owner, value, &go_type(owner, field)),
        };
        self.problems.extend(own.map(Problem::WrongType));
    }

    fn integer(&mut self, owner: &str, field: &Field, value: &Value) {
        let fits = match field.leaf {
            Leaf::Int32 => value.as_i64().is_some_and(|v| i32::try_from(v).is_ok()),
            _ => value.is_i64(),
        };
        if !fits {
            self.wrong_as(owner, &format!("number {value}"), &go_type(owner, field));
        }
    }

    fn wrong(&mut self, owner: &str, value: &Value, expected: &str) {
        self.wrong_as(owner, noun(value), expected);
    }

    fn wrong_as(&mut self, owner: &str, found: &str, expected: &str) {
        let path = self.names.join(".");
        let text = format!("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {expected}");
        self.problems.push(Problem::WrongType(text));
    }
}

fn noun(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Go's name of a field's type; typed strings that people get wrong are named as Go names them.
fn go_type(owner: &str, field: &Field) -> String {
    const TYPED: &[(&str, &str, &str)] = &[
        ("ContainerPort", "protocol", "v1.Protocol"),
        ("ServicePort", "protocol", "v1.Protocol"),
        ("Container", "imagePullPolicy", "v1.PullPolicy"),
        ("EphemeralContainer", "imagePullPolicy", "v1.PullPolicy"),
        ("PodSpec", "restartPolicy", "v1.RestartPolicy"),
        ("PodSpec", "dnsPolicy", "v1.DNSPolicy"),
        ("ServiceSpec", "type", "v1.ServiceType"),
        ("ServiceSpec", "sessionAffinity", "v1.ServiceAffinity"),
        ("DeploymentStrategy", "type", "v1.DeploymentStrategyType"),
        ("Secret", "type", "v1.SecretType"),
        ("NetworkPolicySpec", "policyTypes", "v1.PolicyType"),
        ("ObjectMeta", "uid", "types.UID"),
        ("OwnerReference", "uid", "types.UID"),
        ("Toleration", "operator", "v1.TolerationOperator"),
        ("Toleration", "effect", "v1.TaintEffect"),
        ("LabelSelectorRequirement", "operator", "v1.LabelSelectorOperator"),
    ];
    let typed = TYPED.iter().find(|(of, name, _)| *of == owner && *name == field.name);
    match (typed, field.leaf) {
        (Some((_, _, go)), _) => (*go).to_owned(),
        (None, Leaf::Int32) => "int32".into(),
        (None, Leaf::Int64) => "int64".into(),
        (None, Leaf::Number) => "float64".into(),
        (None, Leaf::Bool) => "bool".into(),
        (None, Leaf::Bytes) => "[]uint8".into(),
        (None, Leaf::Quantity) => "resource.Quantity".into(),
        (None, Leaf::Object(name)) => {
            let mut parts = name.rsplit('.');
            let (kind, version) = (parts.next().unwrap_or(name), parts.next().unwrap_or("v1"));
            format!("{version}.{kind}")
        }
        (None, _) => "string".into(),
    }
}

fn time_problem(leaf: Leaf, value: &Value) -> Option<String> {
    let Some(text) = value.as_str() else {
        return Some(format!(
            "json: cannot unmarshal {} into Go value of type string",
            noun(value)
        ));
    };
    if text.parse::<jiff::Timestamp>().is_ok() {
        return None;
    }
    let layout = if leaf == Leaf::Time {
        "2006-01-02T15:04:05Z07:00"
    } else {
        "2006-01-02T15:04:05.000000Z07:00"
    };
    Some(format!(
        "parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""
    ))
}

fn quantity_problem(value: &Value) -> Option<String> {
    let valid = match value {
        Value::String(text) => quantity::parse(text).is_some(),
        Value::Number(_) => true,
        _ => false,
    };
    let text = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    (!valid).then(|| text.to_owned())
}

fn int_or_string_problem(value: &Value) -> Option<String> {
    match value {
        Value::String(_) => None,
        Value::Number(_) if value.as_i64().is_some_and(|v| i32::try_from(v).is_ok()) => None,
        Value::Number(_) => Some(format!(
            "json: cannot unmarshal number {value} into Go value of type int32"
        )),
        _ => Some(format!(
            "json: cannot unmarshal {} into Go value of type int32",
            noun(value)
        )),
    }
}

fn base64_problem(text: &str) -> Option<String> {
    // Go's decoder skips line breaks
    let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let at = match STANDARD.decode(plain.as_bytes()) {
        Ok(_) => return None,
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => at,
        Err(_) => plain.len(),
    };
    Some(format!("illegal base64 data at input byte {at}"))
}

/// Makes an object what kube-apiserver's typed objects can hold: no unknown fields, no nulls, canonical quantities.
pub fn normalize(resource: &Resource, object: &mut Value) {
    match &resource.custom {
        Some(custom) => {
            if let Some(metadata) = object.get_mut("metadata") {
                normalize_type("meta.v1.ObjectMeta", metadata);
            }
            custom.prune(object);
        }
        None => normalize_type(&resource.schema, object),
    }
}

/// As [`normalize`], for a part of an object that has this type.
pub fn normalize_type(name: &str, value: &mut Value) {
    if let Some(known) = schema::find(name) {
        prune(known, value);
    }
}

fn prune(known: &Type, value: &mut Value) {
    let Some(fields) = value.as_object_mut() else { return };
    fields.retain(|name, value| !value.is_null() && known.field(name).is_some());
    for (name, value) in fields.iter_mut() {
        let Some(field) = known.field(name) else { continue };
        match (field.object(), field.shape, value) {
            (Some(inner), Shape::One, value) => prune(inner, value),
            (Some(inner), Shape::List, Value::Array(items)) => items.iter_mut().for_each(|item| prune(inner, item)),
            (Some(inner), _, Value::Object(entries)) => entries.values_mut().for_each(|entry| prune(inner, entry)),
            // in Go a null in a map of strings is the empty string
            (None, Shape::Map, Value::Object(entries)) if matches!(field.leaf, Leaf::String | Leaf::Bytes) => {
                entries
                    .values_mut()
                    .filter(|v| v.is_null())
                    .for_each(|v| *v = Value::String(String::new()));
            }
            (None, Shape::One, value) if field.leaf == Leaf::Quantity => canonical(value),
            (None, Shape::Map, Value::Object(entries)) if field.leaf == Leaf::Quantity => {
                entries.values_mut().for_each(canonical);
            }
            _ => {}
        }
    }
}

fn canonical(value: &mut Value) {
    let text = match &*value {
        Value::String(text) => quantity::canonical(text),
        Value::Number(number) => quantity::canonical(&number.to_string()),
        _ => None,
    };
    if let Some(text) = text {
        *value = Value::String(text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::control_plane::api::{Registry, test_json};

    fn resource(api_version: &str, kind: &str) -> Resource {
        (**Registry::builtin().by_kind(api_version, kind).expect(kind)).clone()
    }

    fn texts(kind: &str, object: Value) -> Vec<String> {
        let api_version = if kind == "Deployment" { "apps/v1" } else { "v1" };
        fields(&resource(api_version, kind), &object)
            .iter()
            .map(Problem::to_string)
            .collect()
    }

    #[test]
    fn typos_are_named_with_their_path() {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "label": {}},
            "spec": {"replica": 1, "template": {"spec": {"containers": [{"name": "c"}, {"imagee": "x"}]}}}});
        assert_eq!(
            texts("Deployment", object.clone()),
            [
                "unknown field \"metadata.label\"",
                "unknown field \"spec.replica\"",
                "unknown field \"spec.template.spec.containers[1].imagee\"",
            ]
        );
        let deployment = resource("apps/v1", "Deployment");
        let problems = fields(&deployment, &json!({"spec": {"replica": 1}}));
        assert_eq!(
            strict_error(&deployment, &problems, true).expect("refused"),
            "Deployment in version \"v1\" cannot be handled as a Deployment: \
             strict decoding error: unknown field \"spec.replica\""
        );
        assert_eq!(strict_error(&deployment, &problems, false), None);
    }

    #[test]
    fn wrong_types_are_worded_as_go_words_them() {
        let container = |c: Value| json!({"spec": {"containers": [c]}});
        for (kind, object, text) in [
            (
                "Deployment",
                json!({"spec": {"replicas": "3"}}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "Deployment",
                json!({"spec": {"replicas": 3_000_000_000_u64}}),
                "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "Pod",
                container(json!({"env": [{"name": "A", "value": 1}]})),
                "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
            ),
            (
                "Pod",
                json!({"spec": {"containers": {}}}),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            (
                "Pod",
                json!({"metadata": {"labels": {"a": 1}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                "Pod",
                json!({"spec": "x"}),
                "json: cannot unmarshal string into Go struct field Pod.spec of type v1.PodSpec",
            ),
            (
                "Pod",
                container(json!({"resources": {"limits": {"cpu": "much"}}})),
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (
                "Service",
                json!({"spec": {"ports": [{"targetPort": true}]}}),
                "json: cannot unmarshal bool into Go value of type int32",
            ),
            (
                "Secret",
                json!({"data": {"a": "not base64"}}),
                "illegal base64 data at input byte 3",
            ),
        ] {
            assert_eq!(texts(kind, object), [text]);
        }
    }

    #[test]
    fn good_objects_pass() {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "creationTimestamp": null,
            "annotations": {"a": "b"}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c",
            "resources": {"limits": {"cpu": 1, "memory": "64Mi"}}, "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": "http"}}}]}, "status": {"startTime": "2026-01-01T00:00:00Z"}});
        assert_eq!(texts("Pod", object), Vec::<String>::new());
    }

    #[test]
    fn normalizing_drops_what_is_not_in_the_type() {
        let mut object = json!({"metadata": {"creationTimestamp": null, "labels": {"a": null}}, "extra": 1,
            "spec": {"containers": [{"name": "c", "nope": 1, "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}],
                "nodeSelector": {"x": "y"}}});
        normalize(&resource("v1", "Pod"), &mut object);
        let expected = json!({"metadata": {"labels": {"a": ""}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}],
                "nodeSelector": {"x": "y"}}});
        assert_eq!(object, expected);
    }

    proptest! {
        #[test]
        fn never_panics_and_normalized_objects_have_no_unknown_fields(mut object in test_json::object()) {
            for kind in ["Pod", "Service", "Secret", "Event"] {
                let resource = resource("v1", kind);
                let _ = fields(&resource, &object);
                normalize(&resource, &mut object);
                let left = fields(&resource, &object);
                let unknown = left.iter().any(|p| matches!(p, Problem::Unknown(_)));
                prop_assert!(!unknown, "{left:?}");
            }
        }
    }
}
