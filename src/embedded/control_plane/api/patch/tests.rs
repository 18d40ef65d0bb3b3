//! Strategic merge against real-life cases, and laws of all patch types.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::control_plane::api::{Registry, Resource, test_json};

fn resource(api_version: &str, kind: &str) -> Resource {
    (**Registry::builtin().by_kind(api_version, kind).expect(kind)).clone()
}

fn pod_patched(original: Value, patch: Value) -> Result<Value, PatchError> {
    let whole = |spec: Value| json!({"spec": spec});
    let patched = strategic(&resource("v1", "Pod"), &whole(original), &whole(patch))?;
    Ok(patched["spec"].clone())
}

#[test]
fn containers_merge_by_name_as_kubectl_set_image_does() {
    let before = json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1", "args": ["x"]}]});
    let patch = json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
        "containers": [{"name": "b", "image": "b:2"}]});
    let after = json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:2", "args": ["x"]}]});
    assert_eq!(pod_patched(before, patch).expect("applies"), after);
}

#[test]
fn a_removed_container_goes_and_a_new_one_takes_its_place_in_the_order() {
    let before = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let patch = json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
        "containers": [{"name": "c", "image": "c"}, {"$patch": "delete", "name": "b"}]});
    let after = json!({"containers": [{"name": "c", "image": "c"}, {"name": "a"}]});
    assert_eq!(pod_patched(before, patch).expect("applies"), after);
}

#[test]
fn lists_without_a_key_are_replaced() {
    let before = json!({"containers": [{"name": "a", "command": ["x", "y"]}], "tolerations": [{"key": "k"}]});
    let patch = json!({"containers": [{"name": "a", "command": ["z"]}], "tolerations": [{"key": "l"}]});
    let after = json!({"containers": [{"name": "a", "command": ["z"]}], "tolerations": [{"key": "l"}]});
    assert_eq!(pod_patched(before, patch).expect("applies"), after);
}

#[test]
fn a_volume_changes_its_source_with_retain_keys() {
    let before = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
    let patch = json!({"volumes": [{"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "c"}}]});
    let after = json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]});
    assert_eq!(pod_patched(before.clone(), patch).expect("applies"), after);
    let stray = json!({"volumes": [{"$retainKeys": ["name"], "name": "v", "configMap": {}}]});
    assert!(pod_patched(before, stray).is_err());
}

#[test]
fn a_deployment_strategy_becomes_recreate() {
    let before = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let after = strategic(&resource("apps/v1", "Deployment"), &before, &patch).expect("applies");
    assert_eq!(after, json!({"spec": {"strategy": {"type": "Recreate"}}}));
}

#[test]
fn finalizers_are_a_set_with_deletions() {
    let pod = resource("v1", "Pod");
    let before = json!({"metadata": {"finalizers": ["a", "b"]}});
    let added = strategic(&pod, &before, &json!({"metadata": {"finalizers": ["b", "c"]}})).expect("applies");
    assert_eq!(added["metadata"]["finalizers"], json!(["a", "b", "c"]));
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"],
        "$setElementOrder/finalizers": ["b"]}});
    let removed = strategic(&pod, &before, &patch).expect("applies");
    assert_eq!(removed["metadata"]["finalizers"], json!(["b"]));
}

#[test]
fn maps_and_nulls() {
    let pod = resource("v1", "Pod");
    let before = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    let patch = json!({"metadata": {"labels": {"a": null, "c": "3", "never": null}, "annotations": {"x": null}}});
    let after = strategic(&pod, &before, &patch).expect("applies");
    assert_eq!(
        after,
        json!({"metadata": {"labels": {"b": "2", "c": "3"}, "annotations": {}}})
    );
    let replaced = json!({"metadata": {"labels": {"$patch": "replace", "z": "9"}}});
    assert_eq!(
        strategic(&pod, &before, &replaced).expect("applies")["metadata"]["labels"],
        json!({"z": "9"})
    );
    let deleted = json!({"metadata": {"labels": {"$patch": "delete"}}});
    assert_eq!(
        strategic(&pod, &before, &deleted).expect("applies")["metadata"]["labels"],
        json!({})
    );
}

#[test]
fn a_list_is_replaced_on_demand() {
    let before = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let patch = json!({"containers": [{"$patch": "replace"}, {"name": "z", "image": "z"}]});
    assert_eq!(
        pod_patched(before, patch).expect("applies"),
        json!({"containers": [{"name": "z", "image": "z"}]})
    );
}

#[test]
fn mistakes_are_named() {
    let error = |patch: Value| {
        pod_patched(json!({"containers": [{"name": "a"}]}), patch)
            .expect_err("refused")
            .to_string()
    };
    let text = error(json!({"containers": [{"image": "x"}]}));
    assert_eq!(text, r#"map: {"image":"x"} does not contain declared merge key: name"#);
    assert_eq!(
        error(json!({"containers": [{"name": "a", "$patch": "burn"}]})),
        "unknown patch type found: burn"
    );
    let order = error(json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}));
    assert!(
        order.contains("doesn't match $setElementOrder/containers list"),
        "{order}"
    );
}

#[test]
fn service_ports_merge_by_port() {
    let before = json!({"spec": {"ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]}});
    let patch = json!({"spec": {"ports": [{"port": 80, "targetPort": 9090}, {"port": 443}]}});
    let after = strategic(&resource("v1", "Service"), &before, &patch).expect("applies");
    let ports = json!([{"port": 80, "targetPort": 9090, "protocol": "TCP"}, {"port": 443}]);
    assert_eq!(after["spec"]["ports"], ports);
}

fn has_directive(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(k, v)| k.starts_with('$') || has_directive(v)),
        Value::Array(items) => items.iter().any(has_directive),
        _ => false,
    }
}

proptest! {
    #[test]
    fn strategic_never_panics(original in test_json::object(), patch in test_json::object()) {
        let _ = strategic(&resource("v1", "Pod"), &original, &patch);
    }

    #[test]
    fn the_empty_patch_changes_nothing(original in test_json::object()) {
        prop_assert_eq!(&merge(&original, &json!({})), &original);
        prop_assert_eq!(&json(&original, &json!([])).expect("applies"), &original);
        prop_assert_eq!(&strategic(&resource("v1", "Pod"), &original, &json!({})).expect("applies"), &original);
    }

    #[test]
    fn merging_twice_is_merging_once(original in test_json::object(), patch in test_json::object()) {
        let once = merge(&original, &patch);
        prop_assert_eq!(merge(&once, &patch), once);
        if !has_directive(&patch) && let Ok(once) = strategic(&resource("v1", "Pod"), &original, &patch) {
            let twice = strategic(&resource("v1", "Pod"), &once, &patch);
            if let Ok(twice) = twice {
                prop_assert_eq!(twice, once);
            }
        }
    }

    #[test]
    fn json_patch_never_panics(original in test_json::object(), patch in test_json::any_value()) {
        let _ = json(&original, &patch);
    }
}
