//! The reference of the format for the book, made from the schema: so that no field is missing in it.

use std::fmt::Write as _;

use serde_json::Value;

use crate::lab::schema;

/// The page, as Markdown.
pub fn reference() -> String {
    let root = schema::value();
    let mut page = String::from(
        "<!-- Made from the types that read lab files. After a change: ZTLAB_UPDATE_BOOK=1 cargo test --lib the_reference -->\n\
         # The format, field by field\n\n\
         Every field of a lab file, as `ztlab lab schema` describes it to editors. [Writing a lab](writing-a-lab.md) explains how they\n\
         work together. Names of fields are camelCase, names of values are lower case with dashes.\n",
    );
    section(&mut page, "Lab", root);
    let mut done = vec!["Lab".to_owned()];
    let mut waiting = referred(root);
    waiting.reverse();
    while let Some(name) = waiting.pop() {
        if done.contains(&name) {
            continue;
        }
        let definition = &root["$defs"][&name];
        section(&mut page, &name, definition);
        // What a type is made of comes right behind it.
        let mut parts = referred(definition);
        parts.reverse();
        waiting.extend(parts);
        done.push(name);
    }
    page
}

fn section(page: &mut String, name: &str, definition: &Value) {
    let Some(properties) = definition["properties"].as_object() else {
        // A type without fields: its alternatives are told where it is used.
        let _ = write!(page, "\n## {name}\n\n{}\n", told(definition));
        return;
    };
    let _ = write!(
        page,
        "\n## {name}\n\n{}\n\n| field | | is | |\n|---|---|---|---|\n",
        told(definition)
    );
    let required: Vec<&str> = list(&definition["required"]);
    // In the order of the types, which is that of a file: `required` keeps it, and the others follow by name.
    let mut names: Vec<&str> = required
        .iter()
        .copied()
        .filter(|name| properties.contains_key(*name))
        .collect();
    names.extend(
        properties
            .keys()
            .map(String::as_str)
            .filter(|name| !required.contains(name)),
    );
    for field in names {
        let property = &properties[field];
        let needed = if required.contains(&field) { "needed" } else { "" };
        let about = told(property).replace('|', "\\|");
        let _ = writeln!(page, "| `{field}` | {about} | {} | {needed} |", type_of(property));
    }
}

/// What a description says, on one line, as Markdown.
fn told(schema: &Value) -> String {
    crate::text::one_line(schema["description"].as_str().unwrap_or_default())
}

fn list(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn named(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

/// The type of a field, with links to the types that have a section.
fn type_of(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = named(reference);
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(some) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        let names = some.iter().filter(|one| one["type"] != "null");
        return names.map(type_of).collect::<Vec<_>>().join(" or ");
    }
    let values = list(&schema["enum"]);
    if !values.is_empty() {
        return values
            .iter()
            .map(|value| format!("`{value}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(only) = schema["const"].as_str() {
        return format!("`{only}`");
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind {
        Some("array") => format!("list of {}", type_of(&schema["items"])),
        Some("string") => "text".to_owned(),
        Some("integer" | "number") => match (&schema["minimum"], &schema["maximum"]) {
            (Value::Number(least), Value::Number(most)) => format!("number, {least} to {most}"),
            _ => "number".to_owned(),
        },
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("object") => match schema.get("additionalProperties") {
            Some(each) if each.is_object() => format!("names, each with {}", type_of(each)),
            _ => "fields of any name".to_owned(),
        },
        _ => "anything".to_owned(),
    }
}

/// The types that a type is made of, in the order of its fields by name.
fn referred(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(&schema["properties"], &mut found);
    for key in ["anyOf", "oneOf", "items", "additionalProperties"] {
        collect(&schema[key], &mut found);
    }
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                let name = named(reference).to_owned();
                if !found.contains(&name) {
                    found.push(name);
                }
            }
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_reference_in_the_book_has_every_field() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("book/src/instructors/format.md");
        let page = reference();
        if std::env::var_os("ZTLAB_UPDATE_BOOK").is_some() {
            fs::write(&path, &page).unwrap();
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            there, page,
            "the page and the types differ; write it anew: ZTLAB_UPDATE_BOOK=1 cargo test --lib the_reference"
        );
        let definitions = schema::value()["$defs"].as_object().unwrap();
        for (name, definition) in definitions {
            assert!(page.contains(&format!("\n## {name}\n")), "{name} has no section");
            for field in definition["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(field, _)| field)
            {
                assert!(page.contains(&format!("| `{field}` |")), "{name}.{field}");
            }
        }
    }
}
