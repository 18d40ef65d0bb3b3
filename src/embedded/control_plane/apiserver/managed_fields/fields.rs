//! An object as a set of owned fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::control_plane::api::{
    Resource,
    custom::schema::{ListType, Schema},
    schema::{self, Field, Leaf, Ownership, Shape, Type},
};

/// Elements as FieldsV1 writes them: `f:name` a field, `k:{…}` an item by its keys, `v:…` an item by its value.
pub type Path = Vec<String>;
/// Fields, sorted: what is under a path follows it.
pub type Paths = BTreeSet<Path>;

/// How a value is owned.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// As a whole.
    Whole,
    /// Field by field, of a known type.
    Struct(&'static Type),
    /// Key by key.
    Map(Option<&'static Type>),
    /// A list of scalars, one by one.
    Set,
    /// A list of objects, one by one, told apart by these fields.
    Keyed(&'static [&'static str], Option<&'static Type>),
    /// A custom object: field by field, by what its definition says of them.
    Resource(&'a Schema),
    /// A value of a custom object, where its schema knows it.
    Custom(Option<&'a Schema>),
}

impl<'a> Kind<'a> {
    /// How objects of a resource are owned.
    pub fn of(resource: &'a Resource) -> Self {
        match &resource.custom {
            Some(custom) => Self::Resource(&custom.schema),
            None => schema::find(&resource.schema).map_or(Self::Custom(None), Self::Struct),
        }
    }

    /// How a field of an object, or a value of a map, is owned.
    pub fn field(self, name: &str) -> Self {
        match self {
            Self::Struct(known) => known.field(name).map_or(Self::Whole, Self::of_field),
            Self::Map(values) => values.map_or(Self::Whole, Self::of_type),
            Self::Resource(_) if name == "metadata" => {
                schema::find("meta.v1.ObjectMeta").map_or(Self::Whole, Self::Struct)
            }
            Self::Resource(schema) => Self::of_schema(schema.field(name)),
            // An embedded object's metadata is as any other's.
            Self::Custom(Some(schema)) if schema.embedded && name == "metadata" => {
                schema::find("meta.v1.ObjectMeta").map_or(Self::Whole, Self::Struct)
            }
            Self::Custom(schema) => Self::of_schema(schema.and_then(|schema| schema.field(name))),
            _ => Self::Whole,
        }
    }

    /// How an item of a list is owned.
    pub fn item(self) -> Self {
        match self {
            Self::Keyed(_, items) => items.map_or(Self::Whole, Self::of_type),
            Self::Custom(Some(schema)) => Self::of_schema(schema.items.as_deref()),
            _ => Self::Whole,
        }
    }

    fn of_schema(schema: Option<&'a Schema>) -> Self {
        match schema {
            Some(schema) if schema.atomic => Self::Whole,
            Some(schema) if schema.list == ListType::Set => Self::Set,
            other => Self::Custom(other),
        }
    }

    /// The keys by which items of a list are told apart, where they are.
    pub fn keys(self) -> Vec<&'a str> {
        match self {
            Self::Keyed(keys, _) => keys.to_vec(),
            Self::Custom(Some(schema)) => schema.keys().iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The element of an item of a list with keys.
    pub fn key_element(self, item: &Value) -> String {
        let mut sorted = self.keys();
        sorted.sort_unstable();
        let values: Map<String, Value> = sorted
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), self.key(item, key)?)))
            .collect();
        format!("k:{}", Value::Object(values))
    }

    fn key(self, item: &Value, key: &str) -> Option<Value> {
        match self {
            Self::Custom(Some(schema)) => schema.key(item, key).cloned(),
            _ => match item.get(key).filter(|value| !value.is_null()) {
                Some(value) => Some(value.clone()),
                // The one key of the built-in types that has a default.
                None => (key == "protocol").then(|| json!("TCP")),
            },
        }
    }

    fn of_type(known: &'static Type) -> Self {
        if known.atomic { Self::Whole } else { Self::Struct(known) }
    }

    fn of_field(field: &'static Field) -> Self {
        let object = field.object();
        match (field.shape, &field.ownership, field.leaf) {
            (_, Ownership::Atomic, _) => Self::Whole,
            (Shape::One, _, Leaf::Object(_)) => object.map_or(Self::Whole, Self::of_type),
            (Shape::One, ..) => Self::Whole,
            (Shape::Map | Shape::MapOfLists, ..) => Self::Map(object.filter(|_| field.shape == Shape::Map)),
            (Shape::List, Ownership::Set, _) => Self::Set,
            (Shape::List, Ownership::ByKeys(keys), _) => Self::Keyed(keys, object),
            (Shape::List, ..) => Self::Whole,
        }
    }

    /// Whether parts of a value are owned one by one.
    fn has_parts(self, value: &Value) -> bool {
        match value {
            Value::Object(members) => self.is_fields() && !members.is_empty(),
            Value::Array(items) => (matches!(self, Self::Set) || !self.keys().is_empty()) && !items.is_empty(),
            _ => false,
        }
    }

    /// Whether every object has this field as Kubernetes writes it: of a custom object nothing is known, but its metadata.
    fn always_has(self, name: &str) -> bool {
        match self {
            Self::Struct(known) => BY_VALUE.contains(&name) || known.field(name).is_some_and(|field| field.required),
            Self::Resource(_) => name == "metadata",
            _ => false,
        }
    }

    /// Whether its fields are owned one by one.
    pub fn is_fields(self) -> bool {
        matches!(
            self,
            Self::Struct(_) | Self::Map(_) | Self::Resource(_) | Self::Custom(_)
        )
    }
}

/// The element of a field.
pub fn field_element(name: &str) -> String {
    format!("f:{name}")
}

/// The element of an item that is known by its value.
pub fn value_element(item: &Value) -> String {
    format!("v:{item}")
}

static ITEM: Value = Value::Null;

/// Every owned field with its value; an item of a keyed list is there by itself too, with a null.
pub fn flatten<'a>(kind: Kind<'_>, value: &'a Value) -> BTreeMap<Path, &'a Value> {
    let mut fields = BTreeMap::new();
    collect(kind, value, &mut Vec::new(), &mut fields);
    fields.retain(|path, _| !is_servers_own(path));
    fields
}

/// The same of these members of an object alone.
pub fn flatten_members<'a>(
    kind: Kind<'_>,
    object: &'a Value,
    is_one: &dyn Fn(&str) -> bool,
) -> BTreeMap<Path, &'a Value> {
    let mut fields = BTreeMap::new();
    for (name, member) in object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| is_one(name))
    {
        collect(kind.field(name), member, &mut vec![field_element(name)], &mut fields);
    }
    fields.retain(|path, _| !is_servers_own(path));
    fields
}

fn collect<'a>(kind: Kind<'_>, value: &'a Value, path: &mut Path, fields: &mut BTreeMap<Path, &'a Value>) {
    match (kind, value) {
        (_, Value::Null) => {}
        (kind, Value::Object(members)) if kind.is_fields() && !members.is_empty() => {
            for (name, member) in members {
                path.push(field_element(name));
                collect(kind.field(name), member, path, fields);
                path.pop();
            }
        }
        (Kind::Set, Value::Array(items)) if !items.is_empty() => {
            for item in items {
                path.push(value_element(item));
                fields.insert(path.clone(), item);
                path.pop();
            }
        }
        (kind, Value::Array(items))
            if !kind.keys().is_empty() && !items.is_empty() && items.iter().all(Value::is_object) =>
        {
            for item in items {
                path.push(kind.key_element(item));
                fields.insert(path.clone(), &ITEM);
                collect(kind.item(), item, path, fields);
                path.pop();
            }
        }
        _ if path.is_empty() => {}
        _ => {
            fields.insert(path.clone(), value);
        }
    }
}

/// Fields whose Go types are structures by value: Kubernetes writes them into every object, so nobody brings them.
const BY_VALUE: &[&str] = &[
    "daemonEndpoints",
    "kubeletEndpoint",
    "lastState",
    "loadBalancer",
    "metadata",
    "nodeInfo",
    "resources",
    "source",
    "spec",
    "state",
    "status",
    "strategy",
    "updateStrategy",
];

/// The maps, structures and lists in a value that have owned fields within and are owned by themselves as well by whoever
/// brings them by an ordinary write. What is in every object is nobody's.
///
/// Of an object, of these members of it alone.
pub fn holders(kind: Kind<'_>, object: &Value, is_one: &dyn Fn(&str) -> bool) -> Paths {
    let mut found = Paths::new();
    for (name, member) in object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| is_one(name))
    {
        gather_member(kind, name, member, &mut Vec::new(), &mut found);
    }
    found.retain(|path| !is_servers_own(path));
    found
}

fn gather_member(kind: Kind<'_>, name: &str, member: &Value, path: &mut Path, found: &mut Paths) {
    path.push(field_element(name));
    if kind.field(name).has_parts(member) && !kind.always_has(name) {
        found.insert(path.clone());
    }
    gather(kind.field(name), member, path, found);
    path.pop();
}

fn gather(kind: Kind<'_>, value: &Value, path: &mut Path, found: &mut Paths) {
    match value {
        Value::Object(members) if kind.is_fields() => {
            for (name, member) in members {
                gather_member(kind, name, member, path, found);
            }
        }
        Value::Array(items) if !kind.keys().is_empty() && items.iter().all(Value::is_object) => {
            for item in items {
                path.push(kind.key_element(item));
                gather(kind.item(), item, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

/// What no client owns.
fn is_servers_own(path: &[String]) -> bool {
    let element = |at: usize| path.get(at).map(String::as_str);
    match element(0) {
        Some("f:apiVersion" | "f:kind") => true,
        Some("f:metadata") => matches!(
            element(1),
            Some(
                "f:name"
                    | "f:namespace"
                    | "f:uid"
                    | "f:creationTimestamp"
                    | "f:deletionTimestamp"
                    | "f:deletionGracePeriodSeconds"
                    | "f:generation"
                    | "f:managedFields"
                    | "f:resourceVersion"
                    | "f:selfLink"
            )
        ),
        _ => false,
    }
}

/// Whether `paths` has `path` itself or something under it.
pub fn covers<'a>(mut from: impl Iterator<Item = &'a Path>, path: &[String]) -> bool {
    from.next().is_some_and(|first| first.starts_with(path))
}

/// FieldsV1 of fields. A path that is owned and has others under it gets a dot.
pub fn encode(paths: &Paths) -> Value {
    let mut root = Map::new();
    let mut sorted = paths.iter().peekable();
    while let Some(path) = sorted.next() {
        let mut children = &mut root;
        for element in path {
            children = under(children, element);
        }
        // What is under a path follows it.
        if !path.is_empty() && sorted.peek().is_some_and(|next| next.starts_with(path)) {
            children.insert(".".to_owned(), json!({}));
        }
    }
    Value::Object(root)
}

/// What is under an element, made where it is missing.
fn under<'a>(children: &'a mut Map<String, Value>, element: &str) -> &'a mut Map<String, Value> {
    if !children.contains_key(element) {
        children.insert(element.to_owned(), json!({}));
    }
    match children.get_mut(element) {
        Some(Value::Object(under)) => under,
        _ => unreachable!("only objects are put there"),
    }
}

/// Fields of FieldsV1; what is not of that format is left out.
pub fn decode(fields: &Value) -> Paths {
    let mut paths = Paths::new();
    read(fields, &mut Vec::new(), &mut paths);
    paths
}

fn read(node: &Value, path: &mut Path, paths: &mut Paths) {
    let Value::Object(children) = node else { return };
    if children.is_empty() && !path.is_empty() {
        paths.insert(path.clone());
    }
    for (element, child) in children {
        if element == "." {
            paths.insert(path.clone());
        } else {
            path.push(element.clone());
            read(child, path, paths);
            path.pop();
        }
    }
}

/// A path as error messages show it: `.spec.containers[name="a"].image`.
pub fn display(path: &[String]) -> String {
    path.iter()
        .map(|element| match element.split_once(':') {
            Some(("f", name)) => format!(".{name}"),
            Some(("k", keys)) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("[{}]", keys.join(","))
            }
            Some((_, value)) => format!("[={value}]"),
            None => element.clone(),
        })
        .collect()
}
