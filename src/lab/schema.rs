//! The JSON Schema of lab files, made from the types that read them.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::RawLab;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<RawLab>();
    let mut value = schema.to_value();
    value["$id"] = Value::from("urn:ztlab:lab:v1");
    value["title"] = Value::from("ztlab lab");
    value
});

/// The schema (JSON Schema 2020-12): for editors, and for reading lab files.
pub fn value() -> &'static Value {
    &SCHEMA
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every object type of the schema, with its name.
    fn types() -> Vec<(String, &'static Value)> {
        let root = value();
        let definitions = root["$defs"].as_object().unwrap();
        let definitions = definitions.iter().map(|(name, definition)| (name.clone(), definition));
        let all = std::iter::once(("Lab".to_owned(), root)).chain(definitions);
        all.filter(|(_, one)| one.get("properties").is_some()).collect()
    }

    #[test]
    fn every_type_and_field_is_described_and_no_other_field_is_taken() {
        assert!(types().len() > 10);
        for (name, definition) in types() {
            assert_eq!(definition["additionalProperties"], false, "{name}");
            assert!(
                definition["description"].as_str().is_some_and(|text| text.len() > 5),
                "{name}"
            );
            for (field, property) in definition["properties"].as_object().unwrap() {
                let described = property["description"].as_str().is_some_and(|text| text.len() > 5);
                assert!(described, "{name}.{field} has no docstring");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(node: &Value, root: &Value) {
            match node {
                Value::Object(fields) => {
                    if let Some(path) = fields.get("$ref").and_then(Value::as_str) {
                        assert!(root.pointer(path.strip_prefix('#').unwrap()).is_some(), "{path}");
                    }
                    fields.values().for_each(|value| walk(value, root));
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, root)),
                _ => {}
            }
        }
        walk(value(), value());
    }

    #[test]
    fn values_that_are_names_are_listed() {
        let root = value();
        for (pointer, name) in [
            ("/$defs/Metadata/properties/difficulty/enum", "beginner"),
            ("/$defs/When/properties/found/enum", "no-traffic"),
            ("/$defs/Needs/properties/capabilities/items/enum", "capture"),
            ("/$defs/Predict/properties/property/enum", "readable"),
            ("/$defs/Answer/properties/leak/enum", "card-number"),
        ] {
            let names = root.pointer(pointer).and_then(Value::as_array);
            assert!(
                names.is_some_and(|names| names.contains(&name.into())),
                "{pointer}: {names:?}"
            );
        }
        assert_eq!(root["properties"]["kind"]["const"], "Lab");
        assert_eq!(
            root.pointer("/$defs/Metadata/properties/level/maximum"),
            Some(&4.into())
        );
    }
}
