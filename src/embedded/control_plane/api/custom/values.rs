//! Validation of values by a schema.
//!
//! Source: kube-openapi `pkg/validation` (texts), apiextensions-apiserver `pkg/apiserver/validation` (field errors),
//! KEP-4008 (an update may leave alone what is already wrong).

use std::collections::HashSet;

use serde_json::{Number, Value};

use super::{
    format,
    schema::{ListType, Schema, Type},
};
use crate::control_plane::api::validate::{Cause, FieldError};

/// Errors reported at most.
const MAX_ERRORS: usize = 100;
/// Comparisons of a value with a schema at most: many alternatives for each of many items could take minutes.
const MAX_STEPS: u32 = 2_000_000;

/// What is wrong with an object, by its schema; what has not changed since `old` is left alone.
pub fn check(schema: &Schema, object: &Value, old: Option<&Value>, path: &str) -> Vec<FieldError> {
    let mut check = Check {
        errors: Vec::new(),
        path: path.to_owned(),
        steps: MAX_STEPS,
    };
    check.value(schema, object, old);
    if check.steps == 0 {
        let why = "the object is too large to be checked against the schema of its kind";
        check.errors.push(FieldError::forbidden(path, why));
    }
    check.errors
}

struct Check {
    errors: Vec<FieldError>,
    path: String,
    steps: u32,
}

impl Check {
    fn push(&mut self, cause: Cause) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(FieldError {
                field: self.path.clone(),
                cause,
            });
        }
    }

    /// An error with kube-openapi's text: `spec.x in body should …`.
    fn should(&mut self, value: &Value, text: &str) {
        let text = format!("{} in body should {text}", self.path);
        self.push(Cause::Invalid(value.clone(), text));
    }

    /// The value is of another type, or not of the format.
    fn wrong_type(&mut self, expected: &str, found: &str) {
        let text = format!("{} in body must be of type {expected}: {found:?}", self.path);
        self.push(Cause::TypeInvalid(found.into(), text));
    }

    /// An error of a combination of schemas, which has no field of its own.
    fn combination(&mut self, text: &str) {
        if self.errors.len() < MAX_ERRORS {
            let text = format!("{:?} {text}", self.path);
            self.errors.push(FieldError::invalid("<nil>", &Value::from(""), text));
        }
    }

    fn within(&mut self, name: &str, check: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if !self.path.is_empty() && !name.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(name);
        check(self);
        self.path.truncate(length);
    }

    fn value(&mut self, schema: &Schema, value: &Value, old: Option<&Value>) {
        self.steps = self.steps.saturating_sub(1);
        if self.steps == 0 || self.errors.len() >= MAX_ERRORS || old == Some(value) {
            return;
        }
        if !self.right_type(schema, value) {
            return;
        }
        if value.is_null() {
            return;
        }
        self.listed(schema, value);
        match value {
            Value::String(text) => self.text(schema, value, text),
            Value::Number(number) => self.number(schema, value, number),
            Value::Array(items) => self.items(schema, value, items, old),
            Value::Object(_) => self.object(schema, value, old),
            _ => {}
        }
        self.combinations(schema, value, old);
    }

    fn right_type(&mut self, schema: &Schema, value: &Value) -> bool {
        if value.is_null() && (schema.nullable || schema.kind.is_none() && !schema.int_or_string) {
            return true;
        }
        let (expected, fits) = match schema.kind {
            _ if schema.int_or_string => ("integer,string", value.is_string() || is_whole(value)),
            None => return true,
            Some(kind) => (
                kind.name(),
                match kind {
                    Type::Object => value.is_object(),
                    Type::Array => value.is_array(),
                    Type::String => value.is_string(),
                    Type::Integer => is_whole(value),
                    Type::Number => value.is_number(),
                    Type::Boolean => value.is_boolean(),
                },
            ),
        };
        if !fits {
            self.wrong_type(expected, name_of(value));
        }
        fits
    }

    fn listed(&mut self, schema: &Schema, value: &Value) {
        let Some(listed) = &schema.limits.one_of_values else {
            return;
        };
        self.steps = self
            .steps
            .saturating_sub(u32::try_from(listed.len()).unwrap_or(u32::MAX) / 8);
        if listed.iter().any(|one| same(one, value)) {
            return;
        }
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.push(Cause::NotSupported(value.clone(), listed.iter().map(text).collect()));
    }

    fn text(&mut self, schema: &Schema, value: &Value, text: &str) {
        let limits = &schema.limits;
        if limits.max_length.is_some() || limits.min_length.is_some() {
            let length = text.chars().count() as u64;
            if let Some(max) = limits.max_length.filter(|max| length > *max) {
                self.push(Cause::TooLong(usize::try_from(max).unwrap_or(usize::MAX)));
            }
            if let Some(min) = limits.min_length.filter(|min| length < *min) {
                self.should(value, &format!("be at least {min} chars long"));
            }
        }
        if let Some(pattern) = limits.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
            self.should(value, &format!("match '{}'", pattern.text()));
        }
        if let Some(format) = limits.format.as_ref().filter(|format| !format::matches(format, text)) {
            let text = format!("{} in body must be of type {format}: {text:?}", self.path);
            self.push(Cause::TypeInvalid(value.clone(), text));
        }
    }

    fn number(&mut self, schema: &Schema, value: &Value, number: &Number) {
        let limits = &schema.limits;
        let given = number.as_f64().unwrap_or(f64::NAN);
        if let Some(max) = limits.maximum.as_ref().and_then(Number::as_f64) {
            let (ok, text) = match limits.exclusive_maximum {
                true => (given < max, "be less than"),
                false => (given <= max, "be less than or equal to"),
            };
            if !ok {
                self.should(value, &format!("{text} {}", go_float(max)));
            }
        }
        if let Some(min) = limits.minimum.as_ref().and_then(Number::as_f64) {
            let (ok, text) = match limits.exclusive_minimum {
                true => (given > min, "be greater than"),
                false => (given >= min, "be greater than or equal to"),
            };
            if !ok {
                self.should(value, &format!("{text} {}", go_float(min)));
            }
        }
        if let Some(factor) = limits.multiple_of.as_ref()
            && !is_multiple(number, factor)
        {
            let factor = factor.as_f64().unwrap_or_default();
            self.should(value, &format!("be a multiple of {}", go_float(factor)));
        }
        let fits = match limits.format.as_deref() {
            Some("int32") => (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&given),
            Some("float") => given.abs() <= f64::from(f32::MAX),
            _ => true,
        };
        if !fits {
            let text = format!(
                "Checked value must be of type {} with format {} in {}",
                schema.kind.map_or("number", Type::name),
                limits.format.as_deref().unwrap_or_default(),
                self.path
            );
            self.push(Cause::Invalid(value.clone(), text));
        }
    }

    fn items(&mut self, schema: &Schema, value: &Value, items: &[Value], old: Option<&Value>) {
        let limits = &schema.limits;
        let count = items.len() as u64;
        if let Some(max) = limits.max_items.filter(|max| count > *max) {
            self.push(Cause::TooMany(items.len(), usize::try_from(max).unwrap_or(usize::MAX)));
        }
        if let Some(min) = limits.min_items.filter(|min| count < *min) {
            self.should(value, &format!("have at least {min} items"));
        }
        self.duplicates(schema, items);
        let Some(each) = &schema.items else { return };
        for (index, item) in items.iter().enumerate() {
            let before = old.and_then(|old| counterpart(schema, old, item));
            self.within(&format!("[{index}]"), |check| check.value(each, item, before));
        }
    }

    /// Items of a set or map that are there twice.
    fn duplicates(&mut self, schema: &Schema, items: &[Value]) {
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let identity = match &schema.list {
                ListType::Atomic => return,
                ListType::Set => item.clone(),
                ListType::Map(_) => identity(schema, item),
            };
            if !seen.insert(identity.to_string()) {
                self.within(&format!("[{index}]"), |check| check.push(Cause::Duplicate(identity)));
            }
        }
    }

    fn object(&mut self, schema: &Schema, value: &Value, old: Option<&Value>) {
        let Some(fields) = value.as_object() else { return };
        let limits = &schema.limits;
        let count = fields.len() as u64;
        if let Some(max) = limits.max_properties.filter(|max| count > *max) {
            self.push(Cause::TooMany(fields.len(), usize::try_from(max).unwrap_or(usize::MAX)));
        }
        if let Some(min) = limits.min_properties.filter(|min| count < *min) {
            self.should(value, &format!("have at least {min} properties"));
        }
        for name in limits.required.iter().filter(|name| !fields.contains_key(*name)) {
            self.within(name, |check| check.push(Cause::Required(String::new())));
        }
        if schema.embedded {
            for name in ["apiVersion", "kind"] {
                if fields.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                    let why = "must not be empty".to_owned();
                    self.within(name, |check| check.push(Cause::Required(why)));
                }
            }
        }
        for (name, value) in fields {
            if let Some(property) = schema.field(name) {
                let before = old.and_then(|old| old.get(name));
                self.within(name, |check| check.value(property, value, before));
            }
        }
    }

    /// The errors that `schema` alone finds.
    fn alone(&mut self, schema: &Schema, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let before = std::mem::take(&mut self.errors);
        self.value(schema, value, old);
        std::mem::replace(&mut self.errors, before)
    }

    fn combinations(&mut self, schema: &Schema, value: &Value, old: Option<&Value>) {
        let limits = &schema.limits;
        if !limits.any_of.is_empty() {
            let best = self.alternatives(&limits.any_of, value, old).1;
            if let Some(best) = best {
                self.combination("must validate at least one schema (anyOf)");
                self.take(best);
            }
        }
        if !limits.one_of.is_empty() {
            let (valid, best) = self.alternatives(&limits.one_of, value, old);
            match (valid, best) {
                (1, _) => {}
                (0, best) => {
                    self.combination("must validate one and only one schema (oneOf). Found none valid");
                    self.take(best.unwrap_or_default());
                }
                (many, _) => self.combination(&format!(
                    "must validate one and only one schema (oneOf). Found {many} valid alternatives"
                )),
            }
        }
        let mut failed = 0;
        for each in &limits.all_of {
            let errors = self.alone(each, value, old);
            failed += usize::from(!errors.is_empty());
            self.take(errors);
        }
        if failed > 0 {
            let none = if failed == limits.all_of.len() {
                ". None validated"
            } else {
                ""
            };
            self.combination(&format!("must validate all the schemas (allOf){none}"));
        }
        if let Some(not) = &limits.not
            && self.alone(not, value, old).is_empty()
            && self.steps > 0
        {
            self.combination("must not validate the schema (not)");
        }
    }

    fn take(&mut self, errors: Vec<FieldError>) {
        let left = MAX_ERRORS.saturating_sub(self.errors.len());
        self.errors.extend(errors.into_iter().take(left));
    }

    /// How many of the schemas hold, and where none does, the fewest errors of one.
    fn alternatives(
        &mut self,
        schemas: &[Schema],
        value: &Value,
        old: Option<&Value>,
    ) -> (usize, Option<Vec<FieldError>>) {
        let mut valid = 0;
        let mut best: Option<Vec<FieldError>> = None;
        for schema in schemas {
            let errors = self.alone(schema, value, old);
            if errors.is_empty() {
                valid += 1;
            } else if best.as_ref().is_none_or(|best| errors.len() < best.len()) {
                best = Some(errors);
            }
        }
        (valid, best.filter(|_| valid == 0))
    }
}

/// The keys of an item of a map-like list.
fn identity(schema: &Schema, item: &Value) -> Value {
    let keys = schema.keys().iter();
    keys.filter_map(|key| Some((key.clone(), schema.key(item, key)?.clone())))
        .collect()
}

/// The item of `old` that `item` was before; only items of map-like lists can be told apart.
fn counterpart<'a>(schema: &Schema, old: &'a Value, item: &Value) -> Option<&'a Value> {
    if schema.keys().is_empty() {
        return None;
    }
    let wanted = identity(schema, item);
    old.as_array()?.iter().find(|other| identity(schema, other) == wanted)
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_whole(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn is_multiple(number: &Number, factor: &Number) -> bool {
    if let (Some(number), Some(factor)) = (number.as_i64(), factor.as_i64()) {
        return factor == 0 || number.checked_rem(factor).unwrap_or(0) == 0;
    }
    let (Some(number), Some(factor)) = (number.as_f64(), factor.as_f64()) else {
        return true;
    };
    let quotient = number / factor;
    factor == 0.0 || (quotient - quotient.round()).abs() < 1e-9
}

/// A number as Go's `%v` writes a float64.
fn go_float(number: f64) -> String {
    let exponent = if number == 0.0 {
        0.0
    } else {
        number.abs().log10().floor()
    };
    if (-4.0..6.0).contains(&exponent) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(schema: Value, value: Value) -> Vec<String> {
        let schema = Schema::read(&json!({"type": "object", "properties": {"spec": schema}}));
        let found = check(&schema, &json!({"spec": value}), None, "");
        found.iter().map(ToString::to_string).collect()
    }

    /// schema of spec; values that are good; values with their errors
    #[test]
    fn every_keyword_in_kubernetes_words() {
        let one = |text: &str| vec![text.to_owned()];
        type Case = (Value, Vec<Value>, Vec<(Value, Vec<String>)>);
        let cases: Vec<Case> = vec![
            (
                json!({"type": "integer"}),
                vec![json!(1), json!(2.0)],
                vec![
                    (json!("x"), one("spec: Invalid value: \"string\": spec in body must be of type integer: \"string\"")),
                    (json!(1.5), one("spec: Invalid value: \"number\": spec in body must be of type integer: \"number\"")),
                    (json!(null), one("spec: Invalid value: \"null\": spec in body must be of type integer: \"null\"")),
                ],
            ),
            (json!({"type": "string", "nullable": true}), vec![json!(null), json!("")], vec![]),
            (json!({"type": "boolean"}), vec![json!(true)], vec![(json!([]), one("spec: Invalid value: \"array\": spec in body must be of type boolean: \"array\""))]),
            (
                json!({"x-kubernetes-int-or-string": true}),
                vec![json!(1), json!("80%")],
                vec![(json!(true), one("spec: Invalid value: \"boolean\": spec in body must be of type integer,string: \"boolean\""))],
            ),
            (
                json!({"type": "string", "enum": ["b", "a"]}),
                vec![json!("a")],
                vec![(json!("c"), one("spec: Unsupported value: \"c\": supported values: \"b\", \"a\""))],
            ),
            (
                json!({"type": "string", "pattern": "^a+$", "minLength": 2, "maxLength": 3}),
                vec![json!("aa")],
                vec![
                    (json!("b"), vec![
                        "spec: Invalid value: \"b\": spec in body should be at least 2 chars long".into(),
                        "spec: Invalid value: \"b\": spec in body should match '^a+$'".into(),
                    ]),
                    (json!("aaaa"), one("spec: Too long: may not be more than 3 bytes")),
                ],
            ),
            (
                json!({"type": "integer", "minimum": 1, "maximum": 10, "multipleOf": 2}),
                vec![json!(2), json!(10)],
                vec![
                    (json!(15), vec![
                        "spec: Invalid value: 15: spec in body should be less than or equal to 10".into(),
                        "spec: Invalid value: 15: spec in body should be a multiple of 2".into(),
                    ]),
                    (json!(0), one("spec: Invalid value: 0: spec in body should be greater than or equal to 1")),
                ],
            ),
            (
                json!({"type": "number", "minimum": 0, "exclusiveMinimum": true, "maximum": 1, "exclusiveMaximum": true}),
                vec![json!(0.5)],
                vec![
                    (json!(0), one("spec: Invalid value: 0: spec in body should be greater than 0")),
                    (json!(1), one("spec: Invalid value: 1: spec in body should be less than 1")),
                ],
            ),
            (
                json!({"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}}),
                vec![json!(["a"])],
                vec![
                    (json!([]), one("spec: Invalid value: []: spec in body should have at least 1 items")),
                    (json!(["a", "b", "c"]), one("spec: Too many: 3: must have at most 2 items")),
                    (json!([1]), one("spec[0]: Invalid value: \"integer\": spec[0] in body must be of type string: \"integer\"")),
                ],
            ),
            (
                json!({"type": "object", "required": ["a"], "minProperties": 1, "maxProperties": 1,
                    "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}),
                vec![json!({"a": "x"})],
                vec![
                    (json!({}), vec![
                        "spec: Invalid value: {}: spec in body should have at least 1 properties".into(),
                        "spec.a: Required value".into(),
                    ]),
                    (json!({"a": "x", "b": "y"}), one("spec: Too many: 2: must have at most 1 items")),
                ],
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "integer"}}),
                vec![json!({"x": 1})],
                vec![(json!({"x": "1"}), one("spec.x: Invalid value: \"string\": spec.x in body must be of type integer: \"string\""))],
            ),
            (
                json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
                vec![json!(["a", "b"])],
                vec![(json!(["a", "a"]), one("spec[1]: Duplicate value: \"a\""))],
            ),
            (
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n", "p"], "items":
                    {"type": "object", "properties": {"n": {"type": "string"}, "p": {"type": "string", "default": "TCP"}}}}),
                vec![json!([{"n": "a"}, {"n": "a", "p": "UDP"}])],
                vec![(json!([{"n": "a"}, {"n": "a", "p": "TCP"}]), one("spec[1]: Duplicate value: {\"n\":\"a\",\"p\":\"TCP\"}"))],
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
                vec![json!({"a": ""}), json!({"b": ""})],
                vec![
                    (json!({"a": "", "b": ""}), one("<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found 2 valid alternatives")),
                    (json!({}), vec![
                        "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found none valid".into(),
                        "spec.a: Required value".into(),
                    ]),
                ],
            ),
            (
                json!({"type": "string", "anyOf": [{"pattern": "^a"}, {"pattern": "^b"}]}),
                vec![json!("a"), json!("b")],
                vec![(json!("c"), vec![
                    "<nil>: Invalid value: \"\": \"spec\" must validate at least one schema (anyOf)".into(),
                    "spec: Invalid value: \"c\": spec in body should match '^a'".into(),
                ])],
            ),
            (
                json!({"type": "integer", "allOf": [{"minimum": 1}, {"maximum": 3}]}),
                vec![json!(2)],
                vec![(json!(4), vec![
                    "spec: Invalid value: 4: spec in body should be less than or equal to 3".into(),
                    "<nil>: Invalid value: \"\": \"spec\" must validate all the schemas (allOf)".into(),
                ])],
            ),
            (
                json!({"type": "string", "not": {"enum": ["root"]}}),
                vec![json!("me")],
                vec![(json!("root"), one("<nil>: Invalid value: \"\": \"spec\" must not validate the schema (not)"))],
            ),
            (
                json!({"type": "string", "format": "date-time"}),
                vec![json!("2026-01-02T03:04:05Z")],
                vec![(json!("x"), one("spec: Invalid value: \"x\": spec in body must be of type date-time: \"x\""))],
            ),
            (
                json!({"type": "integer", "format": "int32"}),
                vec![json!(2_147_483_647)],
                vec![(json!(3_000_000_000_u32), one("spec: Invalid value: 3000000000: Checked value must be of type integer with format int32 in spec"))],
            ),
            (
                json!({"type": "object", "x-kubernetes-embedded-resource": true}),
                vec![json!({"apiVersion": "v1", "kind": "Pod"})],
                vec![(json!({"kind": "Pod"}), one("spec.apiVersion: Required value: must not be empty"))],
            ),
        ];
        for (schema, good, bad) in cases {
            for value in good {
                assert_eq!(
                    errors(schema.clone(), value.clone()),
                    Vec::<String>::new(),
                    "{schema} {value}"
                );
            }
            for (value, expected) in bad {
                assert_eq!(errors(schema.clone(), value.clone()), expected, "{schema} {value}");
            }
        }
    }

    #[test]
    fn an_update_may_leave_alone_what_is_wrong() {
        let schema = Schema::read(&json!({"type": "object", "properties": {
            "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1},
            "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items":
                {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 1}}}},
        }}));
        let old = json!({"a": "long", "b": "x", "l": [{"k": "p", "v": 5}]});
        let good = json!({"a": "long", "b": "y", "l": [{"k": "q", "v": 1}, {"k": "p", "v": 5}]});
        assert_eq!(check(&schema, &good, Some(&old), ""), []);
        let bad = json!({"a": "longer", "b": "x", "l": [{"k": "p", "v": 6}]});
        let fields: Vec<String> = check(&schema, &bad, Some(&old), "")
            .into_iter()
            .map(|e| e.field)
            .collect();
        assert_eq!(fields, ["a", "l[0].v"]);
    }

    #[test]
    fn the_work_is_bounded() {
        let many: Vec<Value> = (0..3000).map(|n| json!({"enum": [n], "type": "integer"})).collect();
        let schema = Schema::read(&json!({"type": "array", "items": {"anyOf": many}}));
        let items = json!(vec![json!(2999); 3000]);
        let found = check(&schema, &items, None, "");
        assert!(
            found
                .iter()
                .any(|error| error.to_string().contains("too large to be checked"))
        );
    }

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (number, text) in [
            (10.0, "10"),
            (0.5, "0.5"),
            (65535.0, "65535"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (1e-7, "1e-07"),
        ] {
            assert_eq!(go_float(number), text);
        }
    }
}
