use proptest::prelude::*;
use serde_json::Map;

use super::*;
use crate::control_plane::api::{test_json, view::Object};

const KEYWORDS: &str = "type|properties|items|additionalProperties|default|enum|pattern|minimum|maximum|multipleOf|\
    exclusiveMinimum|minLength|maxLength|minItems|maxItems|minProperties|required|nullable|format|allOf|anyOf|oneOf|not|\
    x-kubernetes-preserve-unknown-fields|x-kubernetes-embedded-resource|x-kubernetes-int-or-string|x-kubernetes-list-type|\
    x-kubernetes-list-map-keys|x-kubernetes-map-type|x-kubernetes-validations|spec|metadata|name|kind|apiVersion|ports";

/// Anything that looks a little like a schema.
fn schema() -> impl Strategy<Value = Value> {
    let keywords: Vec<String> = KEYWORDS.split('|').map(str::to_owned).collect();
    let leaf = prop_oneof![
        prop::sample::select(vec![
            json!("object"),
            json!("array"),
            json!("string"),
            json!("integer"),
            json!("number"),
            json!("set"),
            json!("map"),
            json!("date-time"),
            json!(true),
            json!(false),
            json!(null),
            json!(0),
            json!(1.5),
            json!(["name"]),
            json!("^a+$"),
            json!("("),
        ]),
        test_json::any_value(),
    ];
    leaf.prop_recursive(6, 80, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            5 => prop::collection::vec((prop::sample::select(keywords.clone()), inner), 0..7)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_schema_and_no_object_panics(schema in schema(), object in test_json::object(), old in test_json::object()) {
        let read = Schema::read(&schema);
        let _ = structural::check(&schema, "spec");
        let _ = document(&schema);
        let mut pruned = object.clone();
        prune::prune(&read, &mut pruned);
        prop_assert_eq!(prune::prune(&read, &mut pruned.clone()), Vec::<String>::new());
        default::apply(&read, &mut pruned);
        let again = pruned.clone();
        default::apply(&read, &mut pruned);
        prop_assert_eq!(&pruned, &again);
        let _ = values::check(&read, &pruned, Some(&old), "");
        prop_assert_eq!(values::check(&read, &pruned, Some(&pruned), ""), vec![]);
    }

    #[test]
    fn no_definition_panics(spec in test_json::object(), schema in schema()) {
        let mut definition = json!({"metadata": {"name": "x"}, "spec": spec});
        definition["spec"]["versions"] = json!([{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": schema}, "additionalPrinterColumns": [schema], "selectableFields": [schema],
            "subresources": schema}]);
        if let Some(fields) = definition.as_object_mut() {
            definition::defaults(fields);
        }
        let _ = definition::check(Object(&definition), Some(Object(&definition)));
        let outcome = serve(&crate::control_plane::api::Registry::builtin(), &[definition.into()], "now");
        for resource in outcome.resources {
            let custom = resource.custom.expect("custom");
            let _ = custom.cells(&spec, jiff::Timestamp::UNIX_EPOCH);
        }
    }
}

#[test]
fn a_schema_of_great_depth_is_read() {
    let mut schema = json!({"type": "string"});
    for _ in 0..120 {
        schema = json!({"type": "object", "properties": {"a": schema}, "anyOf": [{"properties": {"a": {}}}]});
    }
    let _ = structural::check(&schema, "spec");
    let read = Schema::read(&schema);
    let mut object = json!("x");
    for _ in 0..120 {
        object = json!({"a": object});
    }
    assert_eq!(prune::prune(&read, &mut object), Vec::<String>::new());
    let _ = values::check(&read, &object, None, "");
}
