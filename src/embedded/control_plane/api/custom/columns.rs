//! The columns that a definition adds to `kubectl get`.
//!
//! Source: apiextensions-apiserver `pkg/registry/customresource/tableconvertor`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::json_path::JsonPath;
use crate::control_plane::api::table::human_duration;

/// One of `additionalPrinterColumns`.
#[derive(Debug)]
pub struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    path: Option<JsonPath>,
}

impl Column {
    /// The columns of a version; without any, the age.
    pub fn read(version: &Value) -> Vec<Self> {
        let given = version.get("additionalPrinterColumns").and_then(Value::as_array);
        let columns: Vec<Self> = given.into_iter().flatten().map(Self::read_one).collect();
        if columns.is_empty() {
            let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
            return vec![Self::read_one(&age)];
        }
        columns
    }

    fn read_one(column: &Value) -> Self {
        let text = |name: &str| column.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description: text("description"),
            priority: column.get("priority").and_then(Value::as_i64).unwrap_or_default(),
            path: JsonPath::parse(&text("jsonPath")).ok(),
        }
    }

    /// The column as a Table describes it.
    pub fn definition(&self) -> Value {
        let description = match self.description.as_str() {
            "" => format!("Custom resource definition column (in JSONPath format): {}", self.name),
            text => text.to_owned(),
        };
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": description,
            "priority": self.priority,
        })
    }

    /// The cell of one object; null where the path leads nowhere.
    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self.path.as_ref().and_then(|path| path.first(object));
        let Some(value) = found else { return Value::Null };
        match (self.kind.as_str(), value) {
            ("integer", Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => json!(whole),
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "as the original does; out of range saturates"
                )]
                (None, Some(float)) => json!(float as i64),
                _ => Value::Null,
            },
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            ("string", Value::String(_)) => value.clone(),
            ("string", Value::Null) => Value::Null,
            ("string", other) => json!(other.to_string()),
            ("date", Value::String(text)) => match text.parse::<Timestamp>() {
                Ok(time) => json!(human_duration(now.as_second() - time.as_second())),
                Err(_) => json!("<invalid>"),
            },
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_typed() {
        let object = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"n": 3, "f": 1.5, "b": true, "s": "x", "l": ["a", 1], "d": "yesterday"}});
        let now: Timestamp = "2026-01-01T00:05:00Z".parse().expect("a time");
        for (kind, path, expected) in [
            ("integer", ".spec.n", json!(3)),
            ("integer", ".spec.f", json!(1)),
            ("integer", ".spec.s", json!(null)),
            ("number", ".spec.f", json!(1.5)),
            ("boolean", ".spec.b", json!(true)),
            ("string", ".spec.s", json!("x")),
            ("string", ".spec.n", json!("3")),
            ("string", ".spec.l", json!("[\"a\",1]")),
            ("string", ".spec.l[*]", json!("a")),
            ("string", ".spec.nope", json!(null)),
            ("date", ".metadata.creationTimestamp", json!("5m")),
            ("date", ".spec.d", json!("<invalid>")),
        ] {
            let column = Column::read_one(&json!({"name": "X", "type": kind, "jsonPath": path}));
            assert_eq!(column.cell(&object, now), expected, "{kind} {path}");
        }
        assert_eq!(Column::read(&json!({}))[0].cell(&object, now), json!("5m"));
    }
}
