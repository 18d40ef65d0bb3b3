//! Whether a topology layer stands in the cluster.

use std::collections::BTreeMap;

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    discovery::{Scope, pinned_kind},
};
use serde_json::Value;

use super::Scene;
use crate::cluster::manifests;

/// Whether every object of a layer is there, as its manifest has it.
///
/// # Errors
/// What is not.
pub(super) async fn stands(scene: &Scene, layer: &str) -> Result<(), String> {
    let objects = match manifests::built_in(layer) {
        Some(objects) => objects.map_err(|error| error.to_string())?,
        None => return Err(format!("there is no topology {layer}")),
    };
    let mut kinds: BTreeMap<(String, String), (ApiResource, Scope)> = BTreeMap::new();
    for object in objects {
        let types = object.types.clone().unwrap_or_default();
        let key = (types.api_version.clone(), types.kind.clone());
        if !kinds.contains_key(&key) {
            let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
            let kind = GroupVersionKind::gvk(group, version, &types.kind);
            let found = pinned_kind(&scene.client, &kind).await;
            let (resource, can) = found.map_err(|error| format!("ask for the kind {}: {error}", types.kind))?;
            kinds.insert(key.clone(), (resource, can.scope));
        }
        let (resource, scope) = &kinds[&key];
        if *scope == Scope::Cluster {
            continue;
        }
        let api: Api<DynamicObject> = Api::namespaced_with(scene.client.clone(), &scene.namespace, resource);
        let name = object.metadata.name.clone().unwrap_or_default();
        let there = api.get_opt(&name).await;
        let there = there.map_err(|error| format!("look for the {} {name}: {error}", types.kind))?;
        let differs = there.is_none_or(|there| !covers(&there.data["spec"], &object.data["spec"]));
        if differs {
            return Err(format!(
                "the layer {layer} does not stand yet: the {} {name} is not as it has it",
                types.kind
            ));
        }
    }
    Ok(())
}

/// Whether a value holds all that is wanted, whatever else it holds: the API server fills in what a manifest leaves out.
fn covers(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (_, Value::Null) => true,
        (Value::Object(value), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| value.get(key).is_some_and(|value| covers(value, wanted))),
        (Value::Array(value), Value::Array(wanted)) => {
            value.len() == wanted.len() && value.iter().zip(wanted).all(|(value, wanted)| covers(value, wanted))
        }
        (value, wanted) => value == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::covers;

    #[test]
    fn what_the_server_fills_in_does_not_count() {
        let live = json!({ "ports": [{ "port": 443, "protocol": "TCP" }], "type": "ClusterIP" });
        for (wanted, expected) in [
            (json!({ "ports": [{ "port": 443 }] }), true),
            (json!(null), true),
            (json!({}), true),
            (json!({ "ports": [{ "port": 80 }] }), false),
            (json!({ "ports": [] }), false),
            (json!({ "selector": {} }), false),
        ] {
            assert_eq!(covers(&live, &wanted), expected, "{wanted}");
        }
    }
}
