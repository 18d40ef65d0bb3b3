//! Made-up objects for property tests: arbitrary JSON under field names that the API's machinery looks at.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

const NAMES: &str = "apiVersion|kind|metadata|spec|status|name|namespace|labels|annotations|containers|initContainers|\
    ports|env|volumes|template|selector|matchLabels|matchExpressions|replicas|strategy|type|rollingUpdate|conditions|\
    containerStatuses|state|waiting|terminated|reason|phase|data|stringData|port|protocol|targetPort|image|\
    $patch|$retainKeys|$setElementOrder/containers|$deleteFromPrimitiveList/finalizers|finalizers|involvedObject|\
    ownerReferences|restartCount|items|key|operator|values|clusterIP|message|creationTimestamp|value|containerPort";

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(|v| json!(v)),
        any::<i64>().prop_map(|v| json!(v)),
        (0_i64..70000).prop_map(|v| json!(v)),
        "[a-z0-9.-]{0,8}".prop_map(Value::String),
        "\\PC{0,8}".prop_map(Value::String),
        Just(json!("2026-01-01T00:00:00Z")),
        Just(json!("delete")),
        Just(json!("replace")),
    ]
}

fn key() -> impl Strategy<Value = String> {
    let known: Vec<String> = NAMES.split('|').map(str::to_owned).collect();
    prop_oneof![8 => prop::sample::select(known), 1 => "[a-z]{0,4}"]
}

/// Any JSON.
pub fn any_value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key(), inner), 0..6).prop_map(map),
        ]
    })
}

fn map(pairs: Vec<(String, Value)>) -> Value {
    Value::Object(pairs.into_iter().collect::<Map<_, _>>())
}

/// Any JSON object.
pub fn object() -> impl Strategy<Value = Value> {
    prop::collection::vec((key(), any_value()), 0..6).prop_map(map)
}
