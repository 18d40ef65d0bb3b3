//! Custom resources: what a `CustomResourceDefinition` says about a kind, and what follows from it for its objects.
//!
//! A definition is checked ([`definition`], [`structural`]) when it is written. From all definitions [`serve`] makes the
//! kinds that are served; each carries a [`Custom`], by which its objects are pruned, filled with defaults, checked and
//! printed. Objects are stored in one version; another version of the same kind differs in `apiVersion` only
//! (conversion strategy `None`).

mod columns;
mod default;
pub mod definition;
mod format;
pub mod json_path;
mod openapi;
mod pattern;
mod prune;
pub mod schema;
mod serve;
pub mod structural;
mod values;

use serde_json::{Value, json};

pub use openapi::document;
use schema::Schema;
pub use serve::{Outcome, serve};

use super::validate::FieldError;

/// What a definition says about one version of a kind.
pub struct Custom {
    /// The schema, read.
    pub schema: Schema,
    /// The schema as it is written, for OpenAPI.
    pub document: Value,
    columns: Vec<columns::Column>,
    /// Fields for field selectors, such as `spec.color`.
    pub selectable: Vec<String>,
    /// Where replicas stand, if the kind can be scaled.
    pub scale: Option<ScalePaths>,
    /// The version that objects are stored in.
    pub storage_version: String,
    /// What clients of a deprecated version are told.
    pub warning: Option<String>,
    /// Whether the definition is being deleted: no more objects are made.
    pub terminating: bool,
    digest: String,
}

/// JSON pointers of the `scale` subresource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    /// The replicas that are wanted.
    pub spec: String,
    /// The replicas there are.
    pub status: String,
    /// The label selector as text.
    pub selector: Option<String>,
}

// A schema can be large and is compared often: two of the same digest are the same.
impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Custom {}

impl std::fmt::Debug for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Custom").field(&self.digest).finish()
    }
}

impl Custom {
    /// Drops the fields that the schema does not name, and tells their paths.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune(&self.schema, object)
    }

    /// Fills absent fields. What is too large for it is said by [`Custom::check`].
    pub fn fill(&self, object: &mut Value) {
        default::apply(&self.schema, object);
    }

    /// What is wrong with an object; what has not changed since `old` is left alone.
    pub fn check(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = values::check(&self.schema, object, old, "");
        if !default::apply(&self.schema, &mut object.clone()) {
            let why = "the schema's defaults make the object too large";
            errors.push(FieldError::forbidden("", why));
        }
        errors
    }

    /// The stored object as this version shows it: fields that the schema has lost are gone, new defaults are there.
    pub fn show(&self, api_version: &str, object: &mut Value) {
        if let Some(fields) = object.as_object_mut() {
            fields.insert("apiVersion".to_owned(), json!(api_version));
        }
        self.prune(object);
        self.fill(object);
    }

    /// The columns of a Table, the name first.
    pub fn column_definitions(&self) -> Value {
        let name = json!({
            "name": "Name",
            "type": "string",
            "format": "name",
            "description": "Name must be unique within a namespace.",
            "priority": 0,
        });
        let own = self.columns.iter().map(columns::Column::definition);
        std::iter::once(name).chain(own).collect()
    }

    /// The cells of one object.
    pub fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let name = object.pointer("/metadata/name").cloned().unwrap_or_else(|| json!(""));
        let own = self.columns.iter().map(|column| column.cell(object, now));
        std::iter::once(name).chain(own).collect()
    }
}

#[cfg(test)]
mod tests;
