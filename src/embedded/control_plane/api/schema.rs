//! Field tables of the built-in types: what strict decoding, merging and protobuf decoding walk by.
//!
//! One table, `types.txt`, instead of the schemas themselves: it loads in well under a millisecond, on first use.
//! A type is a line with its name (and `atomic`, where server-side apply owns it as a whole); each field follows as
//! ` name[!] tag type[?] extras…`:
//! `!` marks a required field; the tag is protobuf's field number (`1.2`: field 2 of an embedded message 1; `-`: none);
//! `[]`, `{}` make a list, a map; `?` marks a scalar behind a pointer, whose zero is not the same as its absence;
//! extras are `merge[:key]` and `retainKeys` (strategic merge), `map:keys`, `set`, `atomic` (server-side apply).
//! Names, types and required fields are checked against k8s-openapi by a test; the rest is from Kubernetes 1.33.

use std::{collections::HashMap, sync::LazyLock};

/// The fields of one type.
#[derive(Debug, Default)]
pub struct Type {
    /// Fields, sorted by name.
    pub fields: Vec<Field>,
    /// Server-side apply owns it as a whole.
    pub atomic: bool,
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    /// Whether an object without it is incomplete.
    pub required: bool,
    /// Protobuf field numbers, from an embedding message inwards; empty where unknown.
    pub tag: Vec<u32>,
    /// Whether it holds one value, a list or a map.
    pub shape: Shape,
    /// What each value is.
    pub leaf: Leaf,
    /// Whether an explicit zero differs from an absent field.
    pub pointer: bool,
    /// Strategic merge: lists merge, by this key or (empty) as a set of scalars.
    pub merge: Option<&'static str>,
    /// Strategic merge: fields that the patch does not name are dropped.
    pub retain_keys: bool,
    /// Server-side apply: how a list or map is owned.
    pub ownership: Ownership,
}

/// One value or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One.
    One,
    /// A list.
    List,
    /// A map by string.
    Map,
    /// A map of lists.
    MapOfLists,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// A string.
    String,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A floating-point number.
    Number,
    /// A boolean.
    Bool,
    /// Bytes, base64 in JSON.
    Bytes,
    /// Any JSON.
    Any,
    /// RFC 3339 in seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
    /// A resource quantity such as `100m`.
    Quantity,
    /// An integer or a string, as of `targetPort`.
    IntOrString,
    /// An object of the type with this name.
    Object(&'static str),
    /// A JSON schema, or in its place a boolean or a list; the type's name says which.
    SchemaOr(&'static str),
}

/// How server-side apply owns a list or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// Fields by themselves (and a list without a mark as a whole).
    Granular,
    /// As a whole.
    Atomic,
    /// A list of scalars, each by itself.
    Set,
    /// A list of objects, each by the values of these keys.
    ByKeys(Vec<&'static str>),
}

static TYPES: LazyLock<HashMap<&'static str, Type>> = LazyLock::new(|| {
    let mut types: HashMap<&'static str, Type> = HashMap::with_capacity(400);
    let mut current = "";
    for line in include_str!("types.txt").lines() {
        if let Some(field) = line.strip_prefix(' ') {
            if let (Some(known), Some(field)) = (types.get_mut(current), field_of(field)) {
                known.fields.push(field);
            }
        } else {
            let (name, mark) = line.split_once(' ').unwrap_or((line, ""));
            current = name;
            types.entry(name).or_default().atomic = mark == "atomic";
        }
    }
    types
});

fn field_of(line: &'static str) -> Option<Field> {
    let mut words = line.split(' ');
    let (name, tag, kind) = (words.next()?, words.next()?, words.next()?);
    let (kind, pointer) = kind.strip_suffix('?').map_or((kind, false), |kind| (kind, true));
    let (shape, leaf) = match kind.strip_prefix("{}") {
        Some(inner) => match inner.strip_prefix("[]") {
            Some(leaf) => (Shape::MapOfLists, leaf),
            None => (Shape::Map, inner),
        },
        None => kind
            .strip_prefix("[]")
            .map_or((Shape::One, kind), |leaf| (Shape::List, leaf)),
    };
    let mut field = Field {
        name: name.trim_end_matches('!'),
        required: name.ends_with('!'),
        tag: tag.split('.').filter_map(|number| number.parse().ok()).collect(),
        shape,
        leaf: leaf_of(leaf),
        pointer,
        merge: None,
        retain_keys: false,
        ownership: Ownership::Granular,
    };
    for extra in words {
        match extra.split_once(':').unwrap_or((extra, "")) {
            ("merge", key) => field.merge = Some(key),
            ("retainKeys", _) => field.retain_keys = true,
            ("map", keys) => field.ownership = Ownership::ByKeys(keys.split(',').collect()),
            ("set", _) => field.ownership = Ownership::Set,
            ("atomic", _) => field.ownership = Ownership::Atomic,
            _ => {}
        }
    }
    Some(field)
}

/// Types of the fields where a JSON schema may be something else.
const SCHEMA_OR: &str = "apiextensions.v1.JSONSchemaPropsOr";

fn leaf_of(name: &'static str) -> Leaf {
    match name {
        "string" => Leaf::String,
        "int32" => Leaf::Int32,
        "int64" => Leaf::Int64,
        "number" => Leaf::Number,
        "bool" => Leaf::Bool,
        "bytes" => Leaf::Bytes,
        "any" => Leaf::Any,
        "time" => Leaf::Time,
        "microtime" => Leaf::MicroTime,
        "quantity" => Leaf::Quantity,
        "intorstring" => Leaf::IntOrString,
        other if other.starts_with(SCHEMA_OR) => Leaf::SchemaOr(other),
        other => Leaf::Object(other),
    }
}

/// The type of that name: `core.v1.Pod`, or in full `io.k8s.api.core.v1.Pod`.
pub fn find(name: &str) -> Option<&'static Type> {
    TYPES.get(short(name))
}

/// `core.v1.Pod` of `io.k8s.api.core.v1.Pod`.
pub fn short(name: &str) -> &str {
    const PREFIXES: [&str; 4] = [
        "io.k8s.api.",
        "io.k8s.apiextensions-apiserver.pkg.apis.",
        "io.k8s.apimachinery.pkg.apis.",
        "io.k8s.apimachinery.pkg.",
    ];
    PREFIXES
        .into_iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name)
}

impl Type {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }
}

impl Field {
    /// The type of its values, where they are objects.
    pub fn object(&self) -> Option<&'static Type> {
        match self.leaf {
            Leaf::Object(name) => TYPES.get(name),
            Leaf::SchemaOr(_) => TYPES.get("apiextensions.v1.JSONSchemaProps"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::control_plane::api::{Registry, openapi::source};

    fn written(schema: &Value) -> String {
        if let Some(reference) = schema.pointer("/allOf/0/$ref").or(schema.get("$ref")) {
            let name = reference
                .as_str()
                .and_then(|r| r.rsplit('/').next())
                .expect("a reference");
            return match short(name) {
                "api.resource.Quantity" => "quantity",
                "meta.v1.FieldsV1" | "runtime.RawExtension" | "apiextensions.v1.JSON" => "any",
                "meta.v1.MicroTime" => "microtime",
                "meta.v1.Time" => "time",
                "util.intstr.IntOrString" => "intorstring",
                other => other,
            }
            .into();
        }
        let one = match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("array"), _) => return format!("[]{}", written(&schema["items"])),
            (Some("object"), _) => return format!("{{}}{}", written(&schema["additionalProperties"])),
            (Some("string"), Some("byte")) => "bytes",
            (Some("string"), _) => "string",
            (Some("integer"), Some("int64")) => "int64",
            (Some("integer"), _) => "int32",
            (Some("boolean"), _) => "bool",
            (Some("number"), _) => "number",
            _ => "any",
        };
        one.into()
    }

    fn shown(field: &Field) -> String {
        let leaf = match field.leaf {
            Leaf::Object(name) | Leaf::SchemaOr(name) => name.to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        let head = match field.shape {
            Shape::One => "",
            Shape::List => "[]",
            Shape::Map => "{}",
            Shape::MapOfLists => "{}[]",
        };
        format!("{head}{leaf}")
    }

    #[test]
    fn the_table_says_what_the_schemas_say() {
        let mut seen = BTreeSet::new();
        for (name, schema) in source::definitions() {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
                continue;
            };
            seen.insert(short(&name).to_owned());
            let known = find(&name).unwrap_or_else(|| panic!("{name} is missing from types.txt"));
            let mut theirs: Vec<(String, String, bool)> = Vec::new();
            for (field, schema) in properties {
                let required = schema_requires(&name, field);
                theirs.push((field.clone(), written(schema), required));
            }
            theirs.sort();
            let ours: Vec<_> = known
                .fields
                .iter()
                .map(|f| (f.name.to_owned(), shown(f), f.required))
                .collect();
            assert_eq!(ours, theirs, "{name}");
        }
        let table: BTreeSet<String> = TYPES.keys().map(|k| (*k).to_owned()).collect();
        let without_fields: Vec<_> = table
            .difference(&seen)
            .filter(|n| !TYPES[n.as_str()].fields.is_empty())
            .collect();
        assert!(without_fields.is_empty(), "stale types: {without_fields:?}");
    }

    fn schema_requires(name: &str, field: &str) -> bool {
        static REQUIRED: LazyLock<BTreeSet<(String, String)>> = LazyLock::new(|| {
            let mut all = BTreeSet::new();
            for (name, schema) in source::definitions() {
                for field in schema["required"].as_array().into_iter().flatten() {
                    all.insert((name.clone(), field.as_str().expect("a name").to_owned()));
                }
            }
            all
        });
        REQUIRED.contains(&(name.to_owned(), field.to_owned()))
    }

    #[test]
    fn every_served_kind_has_a_type_and_every_reference_a_target() {
        for resource in Registry::builtin().iter() {
            assert!(find(&resource.schema).is_some(), "{}", resource.schema);
        }
        for (name, known) in TYPES.iter() {
            for field in &known.fields {
                if let Leaf::Object(target) = field.leaf {
                    assert!(find(target).is_some(), "{name}.{} refers to {target}", field.name);
                }
            }
        }
    }

    #[test]
    fn merge_keys_and_tags_are_read() {
        let pod = find("core.v1.PodSpec").expect("PodSpec");
        let volumes = pod.field("volumes").expect("volumes");
        assert_eq!((volumes.merge, volumes.retain_keys), (Some("name"), true));
        let ports = find("core.v1.Container").and_then(|t| t.field("ports")).expect("ports");
        assert_eq!(ports.merge, Some("containerPort"));
        assert_eq!(ports.ownership, Ownership::ByKeys(vec!["containerPort", "protocol"]));
        let probe = find("core.v1.Probe").and_then(|t| t.field("httpGet")).expect("httpGet");
        assert_eq!(probe.tag, [1, 2]);
        let replicas = find("apps.v1.DeploymentSpec")
            .and_then(|t| t.field("replicas"))
            .expect("replicas");
        assert!(replicas.pointer);
    }
}
