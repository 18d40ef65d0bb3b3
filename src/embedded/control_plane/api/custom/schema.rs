//! A structural schema, read once from the JSON of a definition.
//!
//! Reading is lenient and never fails: [`super::structural::check`] has refused what makes no sense before a kind is
//! served. What is not understood says nothing about a value.
//!
//! Source: Kubernetes' "Extend the Kubernetes API with CustomResourceDefinitions", structural schemas.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::pattern::Pattern;

/// The JSON type that a schema asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// An object.
    Object,
    /// A list.
    Array,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
}

impl Type {
    /// The type by its name in a schema.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    /// Its name in a schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// Values of an object's fields beside the named ones.
#[derive(Debug)]
pub enum Additional {
    /// `additionalProperties: true`: anything.
    Any,
    /// Each by this schema.
    Each(Box<Schema>),
}

/// How the items of a list are told apart (`x-kubernetes-list-type`).
#[derive(Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Not at all: the list is one value.
    #[default]
    Atomic,
    /// By their value.
    Set,
    /// By the values of these fields.
    Map(Vec<String>),
}

/// A default of an absent field.
#[derive(Debug)]
pub struct Default {
    /// The value.
    pub value: Value,
    /// About how many bytes it takes, to bound what defaults can make of an object.
    pub weight: usize,
}

/// What a value must look like.
#[derive(Debug, std::default::Default)]
pub struct Schema {
    /// Its type; none where anything goes.
    pub kind: Option<Type>,
    /// Whether null is a value of its own.
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    /// The named fields.
    pub properties: BTreeMap<String, Schema>,
    /// The fields without a name.
    pub additional: Option<Additional>,
    /// The items of a list.
    pub items: Option<Box<Schema>>,
    /// What an absent value becomes.
    pub default: Option<Default>,
    /// How a list's items are told apart.
    pub list: ListType,
    /// Whether server-side apply owns the object as a whole (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// What is asked of the value besides.
    pub limits: Limits,
}

/// The keywords that compare a value with something.
#[derive(Debug, std::default::Default)]
pub struct Limits {
    /// `format`.
    pub format: Option<String>,
    /// `enum`.
    pub one_of_values: Option<Vec<Value>>,
    /// `pattern`.
    pub pattern: Option<Pattern>,
    /// `maximum`.
    pub maximum: Option<Number>,
    /// `exclusiveMaximum`.
    pub exclusive_maximum: bool,
    /// `minimum`.
    pub minimum: Option<Number>,
    /// `exclusiveMinimum`.
    pub exclusive_minimum: bool,
    /// `multipleOf`.
    pub multiple_of: Option<Number>,
    /// `maxLength`.
    pub max_length: Option<u64>,
    /// `minLength`.
    pub min_length: Option<u64>,
    /// `maxItems`.
    pub max_items: Option<u64>,
    /// `minItems`.
    pub min_items: Option<u64>,
    /// `maxProperties`.
    pub max_properties: Option<u64>,
    /// `minProperties`.
    pub min_properties: Option<u64>,
    /// `required`.
    pub required: Vec<String>,
    /// `allOf`.
    pub all_of: Vec<Schema>,
    /// `anyOf`.
    pub any_of: Vec<Schema>,
    /// `oneOf`.
    pub one_of: Vec<Schema>,
    /// `not`.
    pub not: Option<Box<Schema>>,
}

impl Schema {
    /// Reads an `openAPIV3Schema`. The recursion follows the JSON, whose depth was bounded when it was parsed.
    pub fn read(json: &Value) -> Self {
        let Some(fields) = json.as_object() else {
            return Self::default();
        };
        let flag = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or(false);
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        Self {
            kind: text("type").and_then(Type::parse),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            properties: fields
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), Self::read(schema)))
                .collect(),
            additional: match fields.get("additionalProperties") {
                Some(Value::Bool(true)) => Some(Additional::Any),
                Some(schema @ Value::Object(_)) => Some(Additional::Each(Box::new(Self::read(schema)))),
                _ => None,
            },
            items: fields
                .get("items")
                .filter(|items| items.is_object())
                .map(|items| Box::new(Self::read(items))),
            default: fields
                .get("default")
                .filter(|value| !value.is_null())
                .map(|value| Default {
                    weight: weight(value),
                    value: value.clone(),
                }),
            list: match text("x-kubernetes-list-type") {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map(texts(fields, "x-kubernetes-list-map-keys")),
                _ => ListType::Atomic,
            },
            atomic: text("x-kubernetes-map-type") == Some("atomic"),
            limits: Limits::read(fields),
        }
    }

    /// The schema of a field, where there is one.
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Each(schema)) => Some(schema),
            _ => None,
        })
    }

    /// The fields that tell the items of this list apart.
    pub fn keys(&self) -> &[String] {
        match &self.list {
            ListType::Map(keys) => keys,
            _ => &[],
        }
    }

    /// The value of a key of an item of this list: its own, or its default.
    pub fn key<'a>(&'a self, item: &'a Value, key: &str) -> Option<&'a Value> {
        let given = item.get(key).filter(|value| !value.is_null());
        given.or_else(|| {
            let property = self.items.as_ref()?.properties.get(key)?;
            property.default.as_ref().map(|default| &default.value)
        })
    }
}

impl Limits {
    fn read(fields: &Map<String, Value>) -> Self {
        let flag = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or(false);
        let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let number = |name: &str| fields.get(name).and_then(Value::as_number).cloned();
        let count = |name: &str| fields.get(name).and_then(Value::as_u64);
        let schemas = |name: &str| {
            let list = fields.get(name).and_then(Value::as_array);
            list.into_iter().flatten().map(Schema::read).collect()
        };
        Self {
            format: text("format").map(str::to_owned),
            one_of_values: fields.get("enum").and_then(Value::as_array).cloned(),
            pattern: text("pattern").map(Pattern::new),
            maximum: number("maximum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            minimum: number("minimum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            multiple_of: number("multipleOf"),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
            required: texts(fields, "required"),
            all_of: schemas("allOf"),
            any_of: schemas("anyOf"),
            one_of: schemas("oneOf"),
            not: fields
                .get("not")
                .filter(|not| not.is_object())
                .map(|not| Box::new(Schema::read(not))),
        }
    }
}

/// A list of texts; what is no text is left out.
pub fn texts(fields: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = fields.get(name).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// About how many bytes a value takes.
pub fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 32 + text.len(),
        Value::Array(items) => 32 + items.iter().map(weight).sum::<usize>(),
        Value::Object(fields) => {
            32 + fields
                .iter()
                .map(|(name, value)| 32 + name.len() + weight(value))
                .sum::<usize>()
        }
        _ => 32,
    }
}
