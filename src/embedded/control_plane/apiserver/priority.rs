//! Priorities: the class that a pod names becomes a number, and the classes that every cluster has.
//!
//! Source: Kubernetes' "Pod Priority and Preemption" and the admission plugin Priority.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{ApiServer, meta, status::ApiError};
use crate::control_plane::{api::Resource, storage::CollectionKey};

fn collection() -> CollectionKey {
    CollectionKey::new("scheduling.k8s.io", "priorityclasses")
}

/// The classes that every cluster has, for its own components.
pub fn system_classes() -> [Value; 2] {
    let class = |name: &str, value: i64, description: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        })
    };
    [
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}

/// The class of pods that name none; of several, the least.
fn default_class(server: &ApiServer) -> Option<Arc<Value>> {
    let classes = server.store().list(&collection(), None).items;
    let defaults = classes
        .into_iter()
        .filter(|class| class.get("globalDefault") == Some(&json!(true)));
    defaults.min_by_key(|class| class.get("value").and_then(Value::as_i64))
}

/// Completes a new pod.
///
/// # Errors
/// 403 where the class is not there, or the pod says another number than its class.
pub fn admit_pod(
    server: &ApiServer,
    resource: &Resource,
    name: &str,
    spec: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let named = spec
        .get("priorityClassName")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let class = if named.is_empty() {
        default_class(server)
    } else {
        let found = server.store().get(&collection().object("", &named));
        let missing = || ApiError::forbidden(resource, name, format!("no PriorityClass with name {named} was found"));
        Some(found.ok_or_else(missing)?)
    };
    let value = class
        .as_ref()
        .and_then(|class| class.get("value")?.as_i64())
        .unwrap_or(0);
    if let Some(given) = spec
        .get("priority")
        .and_then(Value::as_i64)
        .filter(|given| *given != value)
    {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed \
             {value} from the given PriorityClass name"
        );
        return Err(ApiError::forbidden(resource, name, why));
    }
    let policy = class.as_ref().and_then(|class| class.get("preemptionPolicy")?.as_str());
    let policy = policy.unwrap_or("PreemptLowerPriority");
    let given = spec
        .get("preemptionPolicy")
        .and_then(Value::as_str)
        .filter(|given| *given != policy);
    if let Some(given) = given {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        );
        return Err(ApiError::forbidden(resource, name, why));
    }
    if let Some(class) = class.as_ref().filter(|_| named.is_empty()) {
        spec.insert("priorityClassName".to_owned(), json!(meta::name(class)));
    }
    spec.insert("priority".to_owned(), json!(value));
    spec.insert("preemptionPolicy".to_owned(), json!(policy));
    Ok(())
}

/// Refuses a second class for pods that name none.
///
/// # Errors
/// 403.
pub fn admit_class(server: &ApiServer, resource: &Resource, object: &Value) -> Result<(), ApiError> {
    if object.get("globalDefault") != Some(&json!(true)) {
        return Ok(());
    }
    let name = meta::name(object);
    match default_class(server).filter(|class| meta::name(class) != name) {
        None => Ok(()),
        Some(held) => {
            let held = meta::name(&held);
            let why = format!("PriorityClass {held} is already marked as default. Only one default can exist");
            Err(ApiError::forbidden(resource, name, why))
        }
    }
}
