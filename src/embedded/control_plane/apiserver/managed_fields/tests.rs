use serde_json::{Value, json};

use super::{
    fields::{Path, decode, encode, flatten},
    *,
};
use crate::control_plane::api::Registry;

fn kind() -> Kind<'static> {
    static DEPLOYMENTS: std::sync::LazyLock<Registry> = std::sync::LazyLock::new(Registry::builtin);
    Kind::of(DEPLOYMENTS.find("apps", "v1", "deployments").unwrap())
}

fn writer(manager: &str) -> Writer<'_> {
    Writer {
        manager,
        api_version: "apps/v1",
        subresource: "",
        now: "2026-01-01T00:00:00Z",
    }
}

fn deployment(replicas: i64, containers: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": containers}}},
    })
}

fn apply_as(manager: &str, force: bool, current: Option<&Value>, config: &Value) -> Result<Value, String> {
    let request = Apply {
        writer: writer(manager),
        force,
        may_set: &|_: &Path| true,
    };
    apply(kind(), &request, current, config).map_err(|conflicts| message(&conflicts))
}

fn names(object: &Value) -> Vec<&str> {
    let containers = object
        .pointer("/spec/template/spec/containers")
        .and_then(Value::as_array)
        .unwrap();
    containers
        .iter()
        .map(|container| container["name"].as_str().unwrap())
        .collect()
}

#[test]
fn fields_are_written_as_kubernetes_writes_them() {
    let object = deployment(
        1,
        json!([{"name": "a", "image": "x", "args": ["1", "2"], "ports": [{"containerPort": 80}]}]),
    );
    let encoded = encode(&flatten(kind(), &object).into_keys().collect());
    assert_eq!(
        encoded,
        json!({
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {
                ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
            }}}}},
        })
    );
    assert_eq!(encode(&decode(&encoded)), encoded);
}

#[test]
fn who_brings_a_map_or_list_owns_it_and_who_adds_to_it_does_not() {
    let mut object = deployment(1, json!([{"name": "a", "env": [{"name": "e", "value": "1"}]}]));
    object["metadata"]["finalizers"] = json!(["x/y"]);
    object["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
    track(kind(), &writer("me"), None, &mut object);
    let fields = |object: &Value, index: usize| object["metadata"]["managedFields"][index]["fieldsV1"].clone();
    assert_eq!(
        fields(&object, 0),
        json!({
            "f:metadata": {"f:finalizers": {".": {}, "v:\"x/y\"": {}}, "f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:strategy": {"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
                "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {
                    ".": {}, "f:name": {}, "f:env": {".": {}, "k:{\"name\":\"e\"}": {".": {}, "f:name": {}, "f:value": {}}},
                }}}},
            },
        })
    );
    let mut next = object.clone();
    next["metadata"]["labels"]["more"] = json!("1");
    next["metadata"]["annotations"] = json!({"a": "1"});
    track(kind(), &writer("other"), Some(&object), &mut next);
    assert_eq!(fields(&next, 0), fields(&object, 0));
    assert_eq!(
        fields(&next, 1),
        json!({"f:metadata": {"f:annotations": {".": {}, "f:a": {}}, "f:labels": {"f:more": {}}}})
    );
    // It is the bringer's no longer than it is there.
    let mut without = next.clone();
    without["metadata"].as_object_mut().unwrap().remove("labels");
    track(kind(), &writer("third"), Some(&next), &mut without);
    assert_eq!(fields(&without, 0)["f:metadata"].get("f:labels"), None);
}

#[test]
fn a_field_no_longer_applied_is_removed() {
    let first = apply_as(
        "me",
        false,
        None,
        &deployment(2, json!([{"name": "a", "image": "x"}, {"name": "b", "image": "y"}])),
    )
    .unwrap();
    let mut less = deployment(2, json!([{"name": "a", "image": "x"}]));
    less["metadata"].as_object_mut().unwrap().remove("labels");
    let second = apply_as("me", false, Some(&first), &less).unwrap();
    assert_eq!(names(&second), ["a"]);
    assert_eq!(second["metadata"].get("labels"), None);
}

#[test]
fn what_another_owns_stays() {
    let config = deployment(2, json!([{"name": "a", "image": "x"}]));
    let first = apply_as("me", false, None, &config).unwrap();
    let both = apply_as("other", false, Some(&first), &config).unwrap();
    let mut less = config.clone();
    less["spec"].as_object_mut().unwrap().remove("replicas");
    let third = apply_as("me", false, Some(&both), &less).unwrap();
    assert_eq!(third["spec"]["replicas"], 2);
    let last = apply_as("other", false, Some(&third), &less).unwrap();
    assert_eq!(last["spec"].get("replicas"), None);
}

#[test]
fn a_different_value_conflicts_until_forced() {
    let config = deployment(2, json!([{"name": "a", "image": "x"}]));
    let mut current = apply_as("me", false, None, &config).unwrap();
    let mut scaled = current.clone();
    scaled["spec"]["replicas"] = json!(5);
    let scaler = Writer {
        subresource: "scale",
        ..writer("kubectl")
    };
    track(kind(), &scaler, Some(&current), &mut scaled);
    current = scaled;
    assert_eq!(
        apply_as("me", false, Some(&current), &config).unwrap_err(),
        "Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    let forced = apply_as("me", true, Some(&current), &config).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(forced["metadata"]["managedFields"].as_array().unwrap().len(), 1);
}

#[test]
fn an_updaters_entry_that_became_an_appliers_keeps_what_holds_the_applied() {
    let config = deployment(1, json!([{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]));
    let mut current = config.clone();
    track(kind(), &writer("me"), None, &mut current);
    // As `kubectl apply --server-side` does it after `kubectl apply`.
    current["metadata"]["managedFields"][0]["operation"] = json!("Apply");
    let one = deployment(1, json!([{"name": "a", "image": "x"}]));
    let applied = apply_as("me", false, Some(&current), &one).unwrap();
    assert_eq!(names(&applied), ["a"]);
    assert_eq!(applied["metadata"]["labels"], json!({"app": "web"}));
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let config = deployment(2, json!([{"name": "a", "image": "x"}]));
    let first = apply_as("me", false, None, &config).unwrap();
    let request = Apply {
        writer: Writer {
            now: "2027-01-01T00:00:00Z",
            ..writer("me")
        },
        force: false,
        may_set: &|_: &Path| true,
    };
    assert_eq!(apply(kind(), &request, Some(&first), &config).unwrap(), first);
}

#[test]
fn items_come_in_the_order_they_are_applied_in() {
    let container = |name: &str| json!({"name": name, "image": "x"});
    let current = deployment(1, json!([container("a"), container("x"), container("b")]));
    let config = deployment(1, json!([container("b"), container("new"), container("a")]));
    let merged = apply_as("me", false, Some(&current), &config).unwrap();
    assert_eq!(names(&merged), ["b", "new", "a", "x"]);
    let config = deployment(1, json!([container("a"), container("new"), container("b")]));
    let merged = apply_as("me", false, Some(&current), &config).unwrap();
    assert_eq!(names(&merged), ["a", "x", "new", "b"]);
}

#[test]
fn many_writers_are_bounded() {
    let mut current = deployment(0, json!([]));
    for n in 1..30 {
        let mut next = current.clone();
        next["metadata"]["labels"][format!("l{n}")] = json!("x");
        track(kind(), &writer(&format!("m{n}")), Some(&current), &mut next);
        current = next;
    }
    assert!(current["metadata"]["managedFields"].as_array().unwrap().len() <= 11);
}

#[test]
fn nonsense_is_left_out() {
    for fields in [json!(null), json!(3), json!({"f:a": 3}), json!([])] {
        assert!(decode(&fields).is_empty(), "{fields}");
    }
    let odd = json!({"metadata": {"managedFields": [1, {}, {"operation": "Apply"}]}});
    let mut next = odd.clone();
    track(kind(), &writer("me"), Some(&odd), &mut next);
    assert_eq!(next["metadata"].get("managedFields"), None);
}
