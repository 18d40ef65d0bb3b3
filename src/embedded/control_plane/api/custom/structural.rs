//! Whether a schema is structural, and one that this server can serve.
//!
//! Source: apiextensions-apiserver `pkg/apiserver/schema/validation.go` and `pkg/apis/apiextensions/validation`; texts are
//! theirs.

use serde_json::{Map, Value};

use super::{
    default, pattern, prune,
    schema::{Schema, texts},
    values,
};
use crate::control_plane::api::validate::{Cause, FieldError};

/// Errors reported at most.
const MAX_ERRORS: usize = 50;
/// Regular expressions of one schema at most; each can take half a megabyte.
const MAX_PATTERNS: usize = 1000;
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What is wrong with an `openAPIV3Schema` at `path`.
pub fn check(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut check = Check {
        errors: Vec::new(),
        patterns: 0,
    };
    match schema.as_object() {
        Some(fields) => check.schema(fields, Level::Root, path),
        None => check.push(FieldError::required(path, "schemas are required")),
    }
    if check.patterns > MAX_PATTERNS {
        let why = format!("more than {MAX_PATTERNS} patterns in one schema");
        check.push(FieldError::forbidden(path, why));
    }
    check.errors
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Field,
    Item,
}

type Fields = Map<String, Value>;

struct Check {
    errors: Vec<FieldError>,
    patterns: usize,
}

fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(fields: &Fields, name: &str) -> bool {
    fields.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn is_set(fields: &Fields, name: &str) -> bool {
    fields.get(name).is_some_and(|value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(_) | Value::Bool(_) | Value::Number(_) => true,
    })
}

fn value_of(fields: &Fields, name: &str) -> Value {
    fields.get(name).cloned().unwrap_or_default()
}

fn object<'a>(fields: &'a Fields, name: &str) -> Option<&'a Fields> {
    fields.get(name).and_then(Value::as_object)
}

fn properties(fields: &Fields) -> impl Iterator<Item = (&String, &Fields)> {
    let all = object(fields, "properties").into_iter().flatten();
    all.filter_map(|(name, schema)| Some((name, schema.as_object()?)))
}

/// Of a junctor: its schemas with their paths.
fn junctor<'a>(fields: &'a Fields, name: &'a str, path: &'a str) -> impl Iterator<Item = (String, &'a Fields)> {
    let list = fields.get(name).and_then(Value::as_array).into_iter().flatten();
    list.enumerate()
        .filter_map(move |(index, schema)| Some((format!("{path}.{name}[{index}]"), schema.as_object()?)))
}

/// All schemas of `allOf`, `anyOf`, `oneOf` and `not`.
fn junctors<'a>(fields: &'a Fields, path: &'a str) -> impl Iterator<Item = (String, &'a Fields)> {
    let not = object(fields, "not").map(|not| (format!("{path}.not"), not));
    ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .flat_map(move |name| junctor(fields, name, path))
        .chain(not)
}

impl Check {
    fn push(&mut self, error: FieldError) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    fn required(&mut self, path: &str, field: &str, why: &str) {
        self.push(FieldError::required(format!("{path}.{field}"), why));
    }

    fn forbidden(&mut self, path: &str, field: &str, why: &str) {
        self.push(FieldError::forbidden(format!("{path}.{field}"), why));
    }

    fn invalid(&mut self, path: &str, field: &str, value: &Value, why: impl Into<String>) {
        self.push(FieldError::invalid(format!("{path}.{field}"), value, why));
    }

    fn schema(&mut self, fields: &Fields, level: Level, path: &str) {
        if self.errors.len() >= MAX_ERRORS {
            return;
        }
        self.unsupported(fields, path);
        self.kind(fields, level, path);
        self.extensions(fields, path);
        self.list(fields, path);
        self.pattern(fields, path);
        if level == Level::Root || flag(fields, "x-kubernetes-embedded-resource") {
            self.metadata(fields, level, path);
        }
        self.junctions(fields, path);
        self.default(fields, path);
        for (name, property) in properties(fields) {
            self.schema(property, Level::Field, &format!("{path}.properties[{name}]"));
        }
        if let Some(items) = object(fields, "items") {
            self.schema(items, Level::Item, &format!("{path}.items"));
        }
        if let Some(values) = object(fields, "additionalProperties") {
            self.schema(values, Level::Field, &format!("{path}.additionalProperties"));
        }
    }

    /// Keywords of JSON Schema that structural schemas do without.
    fn unsupported(&mut self, fields: &Fields, path: &str) {
        for name in [
            "$ref",
            "$schema",
            "id",
            "definitions",
            "dependencies",
            "patternProperties",
            "additionalItems",
        ] {
            if is_set(fields, name) {
                self.forbidden(path, name, &format!("{name} is not supported"));
            }
        }
        if flag(fields, "uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbidden(path, "uniqueItems", why);
        }
        match fields.get("additionalProperties") {
            Some(Value::Bool(false)) => {
                self.forbidden(
                    path,
                    "additionalProperties",
                    "additionalProperties cannot be set to false",
                );
            }
            Some(Value::Null) | None => {}
            Some(_) if is_set(fields, "properties") => {
                let why = "additionalProperties and properties are mutual exclusive";
                self.forbidden(path, "additionalProperties", why);
            }
            Some(_) => {}
        }
        if fields.get("items").is_some_and(Value::is_array) {
            self.forbidden(path, "items", "items must be a schema object and not an array");
        }
    }

    fn kind(&mut self, fields: &Fields, level: Level, path: &str) {
        let kind = text(fields, "type");
        let any = flag(fields, "x-kubernetes-int-or-string") || flag(fields, "x-kubernetes-preserve-unknown-fields");
        let embedded = flag(fields, "x-kubernetes-embedded-resource");
        match kind {
            "" if embedded => self.required(path, "type", "must be object if x-kubernetes-embedded-resource is true"),
            "" if any => {}
            "" => self.required(
                path,
                "type",
                match level {
                    Level::Root => "must not be empty at the root",
                    Level::Item => "must not be empty for specified array items",
                    Level::Field => "must not be empty for specified object fields",
                },
            ),
            "null" => self.forbidden(
                path,
                "type",
                "type cannot be set to null, use nullable as an alternative",
            ),
            kind if !TYPES.contains(&kind) => {
                self.push(FieldError::not_supported(format!("{path}.type"), &kind.into(), &TYPES));
            }
            kind if embedded && kind != "object" => {
                let why = "must be object if x-kubernetes-embedded-resource is true";
                self.invalid(path, "type", &kind.into(), why);
            }
            kind if level == Level::Root && kind != "object" => {
                self.invalid(path, "type", &kind.into(), "must be object at the root");
            }
            _ => {}
        }
        if flag(fields, "x-kubernetes-int-or-string") && !kind.is_empty() {
            let why = "must be empty if x-kubernetes-int-or-string is true";
            self.invalid(path, "type", &kind.into(), why);
        }
    }

    fn extensions(&mut self, fields: &Fields, path: &str) {
        const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
        const EMBEDDED: &str = "x-kubernetes-embedded-resource";
        if fields.get(PRESERVE) == Some(&Value::Bool(false)) {
            self.invalid(path, PRESERVE, &Value::Bool(false), "must be true or undefined");
        }
        if flag(fields, "x-kubernetes-int-or-string") {
            for name in [PRESERVE, EMBEDDED] {
                if flag(fields, name) {
                    let why = "must be false if x-kubernetes-int-or-string is true";
                    self.invalid(path, name, &Value::Bool(true), why);
                }
            }
        }
        if flag(fields, EMBEDDED) {
            if is_set(fields, "additionalProperties") {
                let why = "must not be used if x-kubernetes-embedded-resource is set";
                self.forbidden(path, "additionalProperties", why);
            }
            if !flag(fields, PRESERVE) && object(fields, "properties").is_none_or(Map::is_empty) {
                let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                    x-kubernetes-preserve-unknown-fields";
                self.required(path, "properties", why);
            }
        }
        if is_set(fields, "x-kubernetes-map-type") {
            self.only_for(fields, path, "x-kubernetes-map-type", "object", &["atomic", "granular"]);
        }
        if is_set(fields, "x-kubernetes-list-type") {
            self.only_for(
                fields,
                path,
                "x-kubernetes-list-type",
                "array",
                &["atomic", "map", "set"],
            );
        }
    }

    fn only_for(&mut self, fields: &Fields, path: &str, name: &str, kind: &str, values: &[&str]) {
        let given = text(fields, "type");
        let why = format!("must be {kind} if {name} is specified");
        match given {
            "" => self.required(path, "type", &why),
            other if other != kind => self.invalid(path, "type", &other.into(), why),
            _ => {}
        }
        if !values.contains(&text(fields, name)) {
            let value = value_of(fields, name);
            self.push(FieldError::not_supported(format!("{path}.{name}"), &value, values));
        }
    }

    fn list(&mut self, fields: &Fields, path: &str) {
        const TYPE: &str = "x-kubernetes-list-type";
        const KEYS: &str = "x-kubernetes-list-map-keys";
        let keys = texts(fields, KEYS);
        let items = object(fields, "items");
        match text(fields, TYPE) {
            "map" => {}
            other => {
                if !keys.is_empty() {
                    let why = "must be map if x-kubernetes-list-map-keys is non-empty";
                    match other {
                        "" => self.required(path, TYPE, why),
                        other => self.invalid(path, TYPE, &other.into(), why),
                    }
                }
                if let (Some(items), "set") = (items, other) {
                    let atomic = match text(items, "type") {
                        "object" => text(items, "x-kubernetes-map-type") == "atomic",
                        "array" => matches!(text(items, TYPE), "" | "atomic"),
                        _ => true,
                    };
                    if !atomic {
                        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
                        let field = "items.x-kubernetes-map-type";
                        self.invalid(path, field, &value_of(items, "x-kubernetes-map-type"), why);
                    }
                    if flag(items, "nullable") {
                        let why = "cannot be nullable when x-kubernetes-list-type is set";
                        self.forbidden(path, "items.nullable", why);
                    }
                }
                return;
            }
        }
        if keys.is_empty() {
            self.required(path, KEYS, "must not be empty if x-kubernetes-list-type is map");
        }
        let Some(items) = items else {
            self.required(path, "items", "must have a schema if x-kubernetes-list-type is map");
            return;
        };
        if text(items, "type") != "object" {
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            self.invalid(path, "items.type", &value_of(items, "type"), why);
        }
        let required = texts(items, "required");
        for (index, key) in keys.iter().enumerate() {
            let field = format!("{KEYS}[{index}]");
            if keys[..index].contains(key) {
                self.invalid(
                    path,
                    &field,
                    &Value::from(key.as_str()),
                    "must not contain duplicate entries",
                );
            }
            let Some(property) = object(items, "properties").and_then(|all| object(all, key)) else {
                let why = "entries must all be names of item properties";
                self.invalid(path, &field, &Value::from(key.as_str()), why);
                continue;
            };
            let at = format!("items.properties[{key}]");
            if matches!(text(property, "type"), "object" | "array") {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                self.invalid(path, &format!("{at}.type"), &value_of(property, "type"), why);
            }
            if !is_set(property, "default") && !required.contains(key) {
                let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                    property";
                self.required(path, &format!("{at}.default"), why);
            }
            if flag(property, "nullable") {
                let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                self.forbidden(path, &format!("{at}.nullable"), why);
            }
        }
    }

    fn pattern(&mut self, fields: &Fields, path: &str) {
        let given = text(fields, "pattern");
        if given.is_empty() {
            return;
        }
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return;
        }
        if let Err(error) = pattern::compile(given) {
            let why = format!("must be a valid regular expression, but isn't: {error}");
            self.invalid(path, "pattern", &given.into(), why);
        }
    }

    /// `apiVersion`, `kind` and `metadata` are the server's; little may be said of them.
    fn metadata(&mut self, fields: &Fields, level: Level, path: &str) {
        let Some(all) = object(fields, "properties") else {
            return;
        };
        for (name, kind) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
            if let Some(property) = object(all, name)
                && text(property, "type") != kind
            {
                let at = format!("properties[{name}].type");
                self.invalid(path, &at, &value_of(property, "type"), format!("must be {kind}"));
            }
        }
        let Some(metadata) = object(all, "metadata").filter(|_| level == Level::Root) else {
            return;
        };
        let only_names = properties(metadata).all(|(name, _)| name == "name" || name == "generateName");
        let nothing_else = metadata
            .keys()
            .all(|key| matches!(key.as_str(), "type" | "properties" | "description" | "title"));
        if !only_names || !nothing_else {
            let why =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.forbidden(path, "properties[metadata]", why);
        }
    }

    fn junctions(&mut self, fields: &Fields, path: &str) {
        let free = flag(fields, "x-kubernetes-int-or-string");
        for (at, nested) in junctors(fields, path) {
            self.nested(nested, &at, free);
            self.complete(fields, path, nested, &at);
        }
    }

    /// What may not be said within a junctor. The types of int-or-string may.
    fn nested(&mut self, fields: &Fields, path: &str, types_allowed: bool) {
        if self.errors.len() >= MAX_ERRORS {
            return;
        }
        for (name, why) in [
            ("type", "must be empty to be structural"),
            ("title", "must be empty to be structural"),
            ("description", "must be empty to be structural"),
            ("default", "must be undefined to be structural"),
            ("additionalProperties", "must be undefined to be structural"),
            ("nullable", "must be false to be structural"),
            ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
            ("x-kubernetes-embedded-resource", "must be false to be structural"),
            ("x-kubernetes-int-or-string", "must be false to be structural"),
            ("x-kubernetes-list-type", "must be undefined to be structural"),
            ("x-kubernetes-list-map-keys", "must be empty to be structural"),
            ("x-kubernetes-map-type", "must be undefined to be structural"),
        ] {
            let harmless = name == "type" && types_allowed || fields.get(name) == Some(&Value::Bool(false));
            if is_set(fields, name) && !harmless {
                self.forbidden(path, name, why);
            }
        }
        self.unsupported(fields, path);
        self.pattern(fields, path);
        for (at, nested) in junctors(fields, path) {
            self.nested(nested, &at, types_allowed);
        }
        for (name, property) in properties(fields) {
            self.nested(property, &format!("{path}.properties[{name}]"), false);
        }
        if let Some(items) = object(fields, "items") {
            self.nested(items, &format!("{path}.items"), false);
        }
    }

    /// What a junctor names must be named outside of it too, or it would be pruned.
    fn complete(&mut self, outer: &Fields, outer_path: &str, nested: &Fields, path: &str) {
        if self.errors.len() >= MAX_ERRORS {
            return;
        }
        let missing = |at: &str| format!("because it is defined in {at}");
        for (name, property) in properties(nested) {
            let (at, outer_at) = (format!("{path}.properties[{name}]"), format!("properties[{name}]"));
            match object(outer, "properties").and_then(|all| object(all, name)) {
                Some(known) => self.complete(known, &format!("{outer_path}.{outer_at}"), property, &at),
                None if is_set(outer, "additionalProperties") => {}
                None => self.required(outer_path, &outer_at, &missing(&at)),
            }
        }
        if let Some(items) = object(nested, "items") {
            let at = format!("{path}.items");
            match object(outer, "items") {
                Some(known) => self.complete(known, &format!("{outer_path}.items"), items, &at),
                None => self.required(outer_path, "items", &missing(&at)),
            }
        }
        for (at, deeper) in junctors(nested, path) {
            self.complete(outer, outer_path, deeper, &at);
        }
    }

    /// A default must be what the schema itself would take.
    fn default(&mut self, fields: &Fields, path: &str) {
        let Some(given) = fields.get("default").filter(|value| !value.is_null()) else {
            return;
        };
        let at = format!("{path}.default");
        let schema = Schema::read(&Value::Object(fields.clone()));
        let wrapped = |value: Value| Value::Object(Map::from_iter([("default".to_owned(), value)]));
        let holder = Schema {
            properties: [("default".to_owned(), schema)].into(),
            ..Schema::default()
        };
        let mut pruned = wrapped(given.clone());
        if !prune::prune(&holder, &mut pruned).is_empty() {
            let unknown = "must not have unknown fields";
            self.push(FieldError::invalid(&at, given, unknown));
            return;
        }
        default::apply(&holder, &mut pruned);
        let schema = &holder.properties["default"];
        for error in values::check(schema, &pruned["default"], None, &at) {
            // A combination's error names no field of its own.
            let field = if error.field == "<nil>" {
                at.clone()
            } else {
                error.field
            };
            self.push(FieldError { field, ..error });
        }
    }
}

/// Whether any part of a schema has `x-kubernetes-validations`.
pub fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            fields
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .is_some_and(|rules| !rules.is_empty())
                || fields
                    .iter()
                    .any(|(name, value)| !matches!(name.as_str(), "default" | "enum" | "example") && has_rules(value))
        }
        Value::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}

/// An error about one of a list of values, in their order.
pub fn one_of(field: impl Into<String>, value: &Value, supported: &[&str]) -> FieldError {
    FieldError {
        field: field.into(),
        cause: Cause::NotSupported(value.clone(), supported.iter().map(|s| (*s).to_owned()).collect()),
    }
}
