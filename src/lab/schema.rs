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
