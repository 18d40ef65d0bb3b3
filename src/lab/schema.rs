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
    exactly_one(&mut value["$defs"]["Check"], &["weight"]);
    exactly_one(&mut value["$defs"]["Action"], &[]);
    value
});

/// Says of a type that exactly one of its fields is there, besides those that are needed and `other` ones.
fn exactly_one(definition: &mut Value, other: &[&str]) {
    let needed = definition["required"].clone();
    let is_needed = |name: &String| needed.as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let Some(fields) = definition["properties"].as_object() else {
        return;
    };
    let kinds = fields
        .keys()
        .filter(|name| !is_needed(name) && !other.contains(&name.as_str()));
    let kinds: Vec<Value> = kinds.map(|name| serde_json::json!({ "required": [name] })).collect();
    definition["oneOf"] = Value::from(kinds);
}

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

    /// Whether a validator that is not ours takes a lab.
    fn valid(text: &str) -> Result<(), String> {
        let mut schemas = boon::Schemas::new();
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("urn:ztlab:lab:v1", value().clone()).unwrap();
        let schema = compiler.compile("urn:ztlab:lab:v1", &mut schemas).unwrap();
        let lab: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        schemas.validate(&lab, schema).map_err(|error| error.to_string())
    }

    #[test]
    fn every_lab_is_valid_to_an_editor() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let labs = std::fs::read_dir(root.join("labs"))
            .unwrap()
            .map(|lab| lab.unwrap().path().join("lab.yaml"));
        let seeds = std::fs::read_dir(root.join("fuzz/corpus/lab"))
            .unwrap()
            .map(|seed| seed.unwrap().path());
        let mut tried = 0;
        for path in labs.chain(seeds).filter(|path| path.is_file()) {
            if let Err(error) = valid(&std::fs::read_to_string(&path).unwrap()) {
                panic!("{}: {error}", path.display());
            }
            tried += 1;
        }
        assert!(tried >= 4, "{tried} labs");
    }

    #[test]
    fn what_is_wrong_is_wrong_to_an_editor_too() {
        let good = include_str!("../../fuzz/corpus/lab/answers.yaml");
        assert_eq!(valid(good), Ok(()));
        for (good_part, bad) in [
            ("kind: Lab", "kind: Labs"),
            ("title: Every kind of answer", "titel: Every kind of answer"),
            ("title: Every kind of answer, ", ""),
            ("level: 1", "level: 5"),
            ("level: 1", "level: one"),
            ("difficulty: advanced", "difficulty: hard"),
            ("topology: [flat, ./visitor.yaml]", "topology: flat"),
            ("capabilities: [capture", "capabilities: [fly"),
            ("port: 80,", "port: 70000,"),
            ("{ cost: 1, text: t }", "{ text: t }"),
            (
                "{ cost: 1, text: t }",
                "{ cost: 1, when: { check: number, found: wrong-answer }, text: t }",
            ),
            ("found: wrong-answer", "found: wrong"),
            ("{ number: { min: 1, max: 2 } }", "{ number: { min: 1 }, matches: [a] }"),
            ("leak: card-number, part: value", "leak: card, part: value"),
            (
                "name: guess\n",
                "name: guess\n          tcp: { from: mallory, to: ledger, port: 80, expect: allowed }\n",
            ),
            (
                "{ answer: { check: text",
                "{ exec: { in: mallory, run: [ls] }, answer: { check: text",
            ),
        ] {
            assert!(good.contains(good_part), "{good_part}");
            assert!(valid(&good.replacen(good_part, bad, 1)).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_that_are_names_are_listed() {
        let root = value();
        for (pointer, name) in [
            ("/$defs/Metadata/properties/difficulty/enum", "beginner"),
            ("/$defs/When/properties/found/enum", "no-traffic"),
            ("/$defs/Needs/properties/capabilities/items/enum", "capture"),
            ("/$defs/Step/properties/capabilities/items/enum", "pod-addresses"),
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
