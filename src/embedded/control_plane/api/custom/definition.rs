//! `CustomResourceDefinition` objects: their defaults, and what is wrong with them.
//!
//! Source: apiextensions-apiserver `pkg/apis/apiextensions/v1/defaults.go` and `pkg/apis/apiextensions/validation`; texts
//! are theirs.

use serde_json::{Map, Value, json};

use super::{
    json_path::JsonPath,
    schema::{Schema, Type},
    structural,
};
use crate::control_plane::api::{
    validate::{FieldError, names},
    view::Object,
};

/// The finalizer that lets a definition wait for its objects.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Versions of one definition at most.
const MAX_VERSIONS: usize = 64;
/// Selectable fields of one version at most, as in Kubernetes.
const MAX_SELECTABLE: usize = 8;
const APPROVED: &str = "api-approved.kubernetes.io";

type Fields = Map<String, Value>;

/// Fills in what a definition leaves out.
pub fn defaults(fields: &mut Fields) {
    let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if spec.get("conversion").is_none_or(Value::is_null) {
        spec.insert("conversion".into(), json!({"strategy": "None"}));
    }
    let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) else {
        return;
    };
    let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    for (name, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
        let given = names.get(name).and_then(Value::as_str).unwrap_or_default();
        if given.is_empty() && !kind.is_empty() {
            names.insert(name.into(), json!(value));
        }
    }
}

/// What is wrong with a definition; with `old`, also with the change.
pub fn check(definition: Object<'_>, old: Option<Object<'_>>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = definition.at("spec");
    whole(definition, &mut errors);
    names_of(spec, &mut errors);
    versions(spec, &mut errors);
    conversion(spec, &mut errors);
    if let Some(old) = old {
        change(definition, old, &mut errors);
    }
    errors
}

fn named(errors: &mut Vec<FieldError>, field: &str, value: &str, problems: Vec<String>) {
    errors.extend(
        problems
            .into_iter()
            .map(|problem| FieldError::invalid(field, &json!(value), problem)),
    );
}

fn whole(definition: Object<'_>, errors: &mut Vec<FieldError>) {
    let spec = definition.at("spec");
    let (group, name) = (spec.str("group"), definition.str("metadata.name"));
    let expected = format!("{}.{group}", spec.str("names.plural"));
    if name != expected {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", &json!(name), why));
    }
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else {
        named(errors, "spec.group", group, names::dns1123_subdomain(group));
        if !group.contains('.') {
            let why = "should be a domain with at least one dot";
            errors.push(FieldError::invalid("spec.group", &json!(group), why));
        }
    }
    let protected = |suffix: &str| group == suffix.trim_start_matches('.') || group.ends_with(suffix);
    let annotation = definition
        .entries("metadata.annotations")
        .and_then(|all| all.get(APPROVED));
    if (protected(".k8s.io") || protected(".kubernetes.io")) && annotation.is_none() {
        let why = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see \
            https://github.com/kubernetes/enhancements/pull/1111";
        let field = "metadata.annotations[api-approved.kubernetes.io]";
        errors.push(FieldError::required(field, why));
    }
    match spec.str("scope") {
        "Cluster" | "Namespaced" => {}
        "" => errors.push(FieldError::required("spec.scope", "")),
        other => errors.push(FieldError::not_supported(
            "spec.scope",
            &json!(other),
            &["Cluster", "Namespaced"],
        )),
    }
    if spec.bool("preserveUnknownFields") {
        let why = "must be false";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", &json!(true), why));
    }
}

fn names_of(spec: Object<'_>, errors: &mut Vec<FieldError>) {
    let names = spec.at("names");
    for field in ["plural", "singular", "kind", "listKind"] {
        let (value, at) = (names.str(field), format!("spec.names.{field}"));
        let is_kind = field.ends_with("ind");
        if value.is_empty() {
            if field != "singular" {
                errors.push(FieldError::required(at, ""));
            }
            continue;
        }
        let prefix = if is_kind {
            "may have mixed case, but should otherwise match: "
        } else {
            ""
        };
        let checked = if is_kind {
            value.to_lowercase()
        } else {
            value.to_owned()
        };
        for problem in names::dns1035_label(&checked) {
            errors.push(FieldError::invalid(&at, &json!(value), format!("{prefix}{problem}")));
        }
    }
    for list in ["shortNames", "categories"] {
        for (index, name) in names.items(list).enumerate() {
            let name = name.0.as_str().unwrap_or_default();
            named(
                errors,
                &format!("spec.names.{list}[{index}]"),
                name,
                names::dns1035_label(name),
            );
        }
    }
    let kind = names.str("kind");
    if !kind.is_empty() && kind == names.str("listKind") {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid("spec.names.listKind", &json!(kind), why));
    }
}

/// Kubernetes reads what all versions have in common as if it stood above them, and names it so in its errors.
fn path_of(spec: Object<'_>, index: usize, within: &str, common: &str) -> String {
    let mut all = spec.items("versions").map(|version| version.at(within).0);
    let first = all.next();
    if all.all(|other| Some(other) == first) {
        return format!("spec.{common}");
    }
    format!("spec.versions[{index}].{within}")
}

fn versions(spec: Object<'_>, errors: &mut Vec<FieldError>) {
    let given = spec.at("versions").0;
    let all: Vec<Object<'_>> = spec.items("versions").collect();
    if all.len() > MAX_VERSIONS {
        let why = format!("more than {MAX_VERSIONS} versions");
        errors.push(FieldError::forbidden("spec.versions", why));
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, version) in all.iter().enumerate() {
        let (name, at) = (version.str("name"), format!("spec.versions[{index}]"));
        named(errors, &format!("{at}.name"), name, names::dns1035_label(name));
        if seen.contains(&name) {
            let why = "must contain unique version names";
            errors.push(FieldError::invalid("spec.versions", given, why));
        }
        seen.push(name);
        if !version.str("deprecationWarning").is_empty() && !version.bool("deprecated") {
            let why = "can only be set for deprecated versions";
            let field = format!("{at}.deprecationWarning");
            errors.push(FieldError::invalid(field, version.at("deprecationWarning").0, why));
        }
        let schema = version.at("schema.openAPIV3Schema");
        let path = path_of(spec, index, "schema", "validation");
        errors.extend(structural::check(schema.0, &format!("{path}.openAPIV3Schema")));
        columns(
            *version,
            &path_of(spec, index, "additionalPrinterColumns", "additionalPrinterColumns"),
            errors,
        );
        scale(*version, &path_of(spec, index, "subresources", "subresources"), errors);
        selectable(
            *version,
            &path_of(spec, index, "selectableFields", "selectableFields"),
            errors,
        );
        if errors.len() > 100 {
            return;
        }
    }
    if all.iter().filter(|version| version.bool("storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid("spec.versions", given, why));
    }
    errors.dedup();
}

fn columns(version: Object<'_>, path: &str, errors: &mut Vec<FieldError>) {
    for (index, column) in version.items("additionalPrinterColumns").enumerate() {
        let at = |field: &str| format!("{path}[{index}].{field}");
        if column.str("name").is_empty() {
            errors.push(FieldError::required(at("name"), ""));
        }
        const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
        match column.str("type") {
            "" => {
                let why = format!("must be one of {}", TYPES.join(","));
                errors.push(FieldError::required(at("type"), &why));
            }
            kind if !TYPES.contains(&kind) => {
                let why = format!("must be one of {}", TYPES.join(","));
                errors.push(FieldError::invalid(at("type"), &json!(kind), why));
            }
            _ => {}
        }
        const FORMATS: &str = "byte,date,date-time,double,float,int32,int64,password";
        let format = column.str("format");
        if !format.is_empty() && !FORMATS.split(',').any(|known| known == format) {
            let why = format!("must be one of {FORMATS}");
            errors.push(FieldError::invalid(at("format"), &json!(format), why));
        }
        let json_path = column.str("jsonPath");
        if json_path.is_empty() {
            errors.push(FieldError::required(at("jsonPath"), ""));
        } else if let Err(error) = JsonPath::parse(json_path) {
            let why = format!("is an invalid json path: {error}");
            errors.push(FieldError::invalid(at("jsonPath"), &json!(json_path), why));
        }
    }
}

fn scale(version: Object<'_>, path: &str, errors: &mut Vec<FieldError>) {
    let scale = version.at("subresources.scale");
    if !scale.is_set() {
        return;
    }
    for (field, prefixes, needed) in [
        ("specReplicasPath", &[".spec."][..], true),
        ("statusReplicasPath", &[".status."], true),
        ("labelSelectorPath", &[".spec.", ".status."], false),
    ] {
        let (value, at) = (scale.str(field), format!("{path}.scale.{field}"));
        if value.is_empty() {
            if needed {
                errors.push(FieldError::required(at, ""));
            }
            continue;
        }
        let simple = JsonPath::parse(value).is_ok_and(|path| path.fields().is_some());
        if !simple {
            let why = "should be a json path without array notation";
            errors.push(FieldError::invalid(&at, &json!(value), why));
        }
        if !prefixes.iter().any(|prefix| value.starts_with(prefix)) {
            let why = match prefixes {
                [one] => format!("should be a json path under {}", one.trim_end_matches('.')),
                _ => "should be a json path under either .spec or .status".to_owned(),
            };
            errors.push(FieldError::invalid(&at, &json!(value), why));
        }
    }
}

fn selectable(version: Object<'_>, path: &str, errors: &mut Vec<FieldError>) {
    let fields: Vec<Object<'_>> = version.items("selectableFields").collect();
    if fields.len() > MAX_SELECTABLE {
        errors.push(FieldError {
            field: path.to_owned(),
            cause: crate::control_plane::api::validate::Cause::TooMany(fields.len(), MAX_SELECTABLE),
        });
        return;
    }
    if fields.is_empty() {
        return;
    }
    let schema = Schema::read(version.at("schema.openAPIV3Schema").0);
    let mut seen = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let (value, at) = (field.str("jsonPath"), format!("{path}[{index}].jsonPath"));
        let invalid = |why: &str| FieldError::invalid(&at, &json!(value), format!("is an invalid path: {why}"));
        let parsed = JsonPath::parse(value);
        let names = parsed.as_ref().ok().and_then(JsonPath::fields).unwrap_or_default();
        if value.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if names.is_empty() || !value.starts_with('.') {
            errors.push(invalid("does not refer to a valid field"));
        } else if names[0] == "metadata" {
            errors.push(invalid("must not point to fields in metadata"));
        } else if seen.contains(&value) {
            errors.push(FieldError::duplicate(at, &json!(value)));
        } else {
            let found = names
                .iter()
                .try_fold(&schema, |schema, name| schema.properties.get(*name));
            match found.map(|schema| schema.kind) {
                None => errors.push(invalid("does not refer to a valid field")),
                Some(Some(Type::String | Type::Boolean | Type::Integer)) => {}
                Some(_) => errors.push(invalid(
                    "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
                )),
            }
        }
        seen.push(value);
    }
}

fn conversion(spec: Object<'_>, errors: &mut Vec<FieldError>) {
    let strategy = spec.str("conversion.strategy");
    if strategy != "None" {
        // A webhook would be asked on every read; this server calls nobody.
        let value = json!(strategy);
        errors.push(FieldError::not_supported("spec.conversion.strategy", &value, &["None"]));
    }
    if spec.at("conversion.webhook").is_set() {
        let why = "should not be set when strategy is not set to Webhook";
        errors.push(FieldError::forbidden("spec.conversion.webhook", why));
    }
}

fn change(new: Object<'_>, old: Object<'_>, errors: &mut Vec<FieldError>) {
    let established = old
        .items("status.conditions")
        .any(|condition| condition.str("type") == "Established" && condition.str("status") == "True");
    let fixed: &[&str] = match established {
        true => &["spec.group", "spec.scope", "spec.names.plural", "spec.names.kind"],
        false => &["spec.group", "spec.names.plural"],
    };
    for field in fixed {
        if new.at(field).0 != old.at(field).0 {
            errors.push(FieldError::invalid(*field, new.at(field).0, "field is immutable"));
        }
    }
    let names: Vec<&str> = new.items("spec.versions").map(|version| version.str("name")).collect();
    for (index, stored) in old.items("status.storedVersions").enumerate() {
        let stored = stored.0.as_str().unwrap_or_default();
        if !names.contains(&stored) {
            let field = format!("status.storedVersions[{index}]");
            errors.push(FieldError::invalid(field, &json!(stored), "missing from spec.versions"));
        }
    }
}

#[cfg(test)]
mod tests;
