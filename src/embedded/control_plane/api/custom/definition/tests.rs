use serde_json::json;

use super::*;

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object",
                "properties": {"spec": {"type": "object", "properties": {"cronSpec": {"type": "string"}, "replicas": {"type": "integer"}}}},
            }}}],
        },
    })
}

/// The errors of a definition in which the value at `pointer` is another (null: none).
fn errors(pointer: &str, value: Value) -> Vec<String> {
    let mut changed = definition();
    put(&mut changed, pointer, value);
    texts(&changed, None)
}

fn put(object: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = object.pointer_mut(parent).expect(pointer);
    match (parent, value) {
        (Value::Object(fields), Value::Null) => drop(fields.remove(name)),
        (Value::Object(fields), value) => drop(fields.insert(name.to_owned(), value)),
        (Value::Array(items), value) => items[name.parse::<usize>().expect("an index")] = value,
        _ => panic!("{pointer}"),
    }
}

fn texts(definition: &Value, old: Option<&Value>) -> Vec<String> {
    let mut definition = definition.clone();
    defaults(definition.as_object_mut().expect("an object"));
    check(Object(&definition), old.map(Object))
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_good_definition_is_completed_and_accepted() {
    let mut given = definition();
    defaults(given.as_object_mut().expect("an object"));
    assert_eq!(given["spec"]["names"]["singular"], "crontab");
    assert_eq!(given["spec"]["names"]["listKind"], "CronTabList");
    assert_eq!(given["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(texts(&given, Some(&given)), Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_said_as_kubernetes_says_it() {
    const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";
    let spec = format!("{SCHEMA}/properties/spec");
    let at = |rest: &str| format!("{spec}{rest}");
    for (pointer, value, expected) in [
        (
            "/metadata/name".to_owned(),
            json!("x"),
            "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group",
        ),
        (
            "/spec/scope".to_owned(),
            json!("Everywhere"),
            "spec.scope: Unsupported value: \"Everywhere\": supported values: \"Cluster\", \"Namespaced\"",
        ),
        (
            "/spec/names/kind".to_owned(),
            json!(null),
            "spec.names.kind: Required value",
        ),
        (
            "/spec/names/listKind".to_owned(),
            json!("CronTab"),
            "spec.names.listKind: Invalid value: \"CronTab\": kind and listKind may not be the same",
        ),
        (
            "/spec/versions/0/storage".to_owned(),
            json!(false),
            "must have exactly one version marked as storage version",
        ),
        (
            "/spec/versions/0/name".to_owned(),
            json!("V1"),
            "spec.versions[0].name: Invalid value: \"V1\": a DNS-1035 label must consist",
        ),
        (
            "/spec/preserveUnknownFields".to_owned(),
            json!(true),
            "spec.preserveUnknownFields: Invalid value: true: must be false",
        ),
        (
            "/spec/conversion".to_owned(),
            json!({"strategy": "Webhook"}),
            "spec.conversion.strategy: Unsupported value: \"Webhook\": supported values: \"None\"",
        ),
        (
            "/spec/versions/0/schema".to_owned(),
            json!(null),
            "spec.validation.openAPIV3Schema: Required value: schemas are required",
        ),
        (
            format!("{SCHEMA}/type"),
            json!(null),
            "spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root",
        ),
        (
            format!("{SCHEMA}/type"),
            json!("array"),
            "spec.validation.openAPIV3Schema.type: Invalid value: \"array\": must be object at the root",
        ),
        (
            at("/type"),
            json!(null),
            "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields",
        ),
        (
            at("/type"),
            json!("text"),
            "properties[spec].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        ),
        (
            at("/properties/cronSpec/pattern"),
            json!("("),
            "properties[cronSpec].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't:",
        ),
        (
            at("/properties/replicas/default"),
            json!("x"),
            "properties[replicas].default: Invalid value: \"string\":",
        ),
        (
            at("/default"),
            json!({"other": 1}),
            "properties[spec].default: Invalid value: {\"other\":1}: must not have unknown fields",
        ),
        (
            at("/additionalProperties"),
            json!(false),
            "additionalProperties: Forbidden: additionalProperties cannot be set to false",
        ),
        (
            at("/additionalProperties"),
            json!({"type": "string"}),
            "Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            at("/uniqueItems"),
            json!(true),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ),
        (
            at("/$ref"),
            json!("#/x"),
            "properties[spec].$ref: Forbidden: $ref is not supported",
        ),
        (
            at("/oneOf"),
            json!([{"properties": {"new": {"minimum": 1}}}]),
            "properties[spec].properties[new]: Required value: because it is defined in spec.validation.openAPIV3Schema.properties[spec].oneOf[0].properties[new]",
        ),
        (
            at("/anyOf"),
            json!([{"type": "object"}]),
            "properties[spec].anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            at("/not"),
            json!({"default": 1}),
            "properties[spec].not.default: Forbidden: must be undefined to be structural",
        ),
        (
            at("/properties/replicas/x-kubernetes-int-or-string"),
            json!(true),
            "properties[replicas].type: Invalid value: \"integer\": must be empty if x-kubernetes-int-or-string is true",
        ),
        (
            at("/x-kubernetes-preserve-unknown-fields"),
            json!(false),
            "x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
        ),
        (
            at("/x-kubernetes-list-type"),
            json!("set"),
            "properties[spec].type: Invalid value: \"object\": must be array if x-kubernetes-list-type is specified",
        ),
        (
            at("/properties/l"),
            json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}),
            "x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            at("/properties/l"),
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {"type": "object"}}),
            "x-kubernetes-list-map-keys[0]: Invalid value: \"n\": entries must all be names of item properties",
        ),
        (
            at("/properties/l"),
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {"type": "object", "properties": {"n": {"type": "string"}}}}),
            "items.properties[n].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
        (
            at("/properties/e"),
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ),
        (
            format!("{SCHEMA}/properties/metadata"),
            json!({"type": "object", "properties": {"labels": {"type": "object"}}}),
            "properties[metadata]: Forbidden: must not specify anything other than name and generateName",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns".to_owned(),
            json!([{"name": "A", "type": "string", "jsonPath": "x"}]),
            "spec.additionalPrinterColumns[0].jsonPath: Invalid value: \"x\": is an invalid json path:",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns".to_owned(),
            json!([{"name": "A", "type": "text", "jsonPath": ".x"}]),
            "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
        ),
        (
            "/spec/versions/0/subresources".to_owned(),
            json!({"scale": {"specReplicasPath": ".status.x", "statusReplicasPath": ".status.replicas"}}),
            "spec.subresources.scale.specReplicasPath: Invalid value: \".status.x\": should be a json path under .spec",
        ),
        (
            "/spec/versions/0/selectableFields".to_owned(),
            json!([{"jsonPath": ".spec.nope"}]),
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec.nope\": is an invalid path: does not refer to a valid field",
        ),
        (
            "/spec/group".to_owned(),
            json!("apps"),
            "spec.group: Invalid value: \"apps\": should be a domain with at least one dot",
        ),
        (
            "/spec/group".to_owned(),
            json!("x.k8s.io"),
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation",
        ),
    ] {
        let found = errors(&pointer, value.clone());
        assert!(
            found.iter().any(|text| text.contains(expected)),
            "{pointer} {value}\n{found:#?}"
        );
    }
}

#[test]
fn int_or_string_may_name_its_types() {
    let port = json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]});
    assert_eq!(
        errors(
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/port",
            port
        ),
        Vec::<String>::new()
    );
}

#[test]
fn versions_with_different_schemas_are_named_apart() {
    let mut two = definition();
    let mut second = two["spec"]["versions"][0].clone();
    second["name"] = json!("v1");
    second["storage"] = json!(false);
    second["schema"]["openAPIV3Schema"]["type"] = json!(null);
    two["spec"]["versions"].as_array_mut().expect("versions").push(second);
    let found = texts(&two, None);
    assert!(
        found
            .iter()
            .any(|text| text.starts_with("spec.versions[1].schema.openAPIV3Schema.type: Required")),
        "{found:#?}"
    );
    assert!(
        found
            .iter()
            .any(|text| text.contains("must contain unique version names")),
        "{found:#?}"
    );
}

#[test]
fn an_established_kind_keeps_its_scope_and_its_stored_versions() {
    let mut old = definition();
    defaults(old.as_object_mut().expect("an object"));
    old["status"] = json!({"conditions": [{"type": "Established", "status": "True"}], "storedVersions": ["v1", "v0"]});
    let mut new = old.clone();
    new["spec"]["scope"] = json!("Cluster");
    assert_eq!(
        texts(&new, Some(&old)),
        [
            "spec.scope: Invalid value: \"Cluster\": field is immutable",
            "status.storedVersions[1]: Invalid value: \"v0\": missing from spec.versions",
        ]
    );
}
