//! `pods/eviction`: a deletion that a PodDisruptionBudget may refuse.
//!
//! Source: Kubernetes' "API-initiated Eviction", API reference (policy/v1).

use http::{Response, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde_json::{Value, json};

use super::{
    ApiServer, Body,
    dispatch::Call,
    meta, reply,
    rest::{DeleteOptions, Part, WriteOptions, decode_as},
    status::{ApiError, collection},
};
use crate::control_plane::api::{Resource, selector::LabelSelector};

/// The most evicted pods that a budget remembers.
const MOST_DISRUPTED: usize = 2000;

/// Answers `pods/eviction`.
///
/// # Errors
/// 400, 404, 409, 429 where a budget does not allow it, 500 where several budgets are about the pod.
pub fn answer(call: &Call) -> Result<Response<Body>, ApiError> {
    let eviction = decode_as(call.content_type(), &call.body)?.value;
    let mut options = match eviction.get("deleteOptions") {
        Some(options) if options.is_object() => DeleteOptions::from_object(options)?,
        _ => DeleteOptions::default(),
    };
    let writing = WriteOptions::of(call)?;
    options.dry_run |= writing.dry_run;
    let name = call.name()?;
    let pod = call.server.read(&call.resource, call.namespace(), name)?;
    if !is_free(&pod) {
        spend(&call.server, call.namespace(), &pod, options.dry_run)?;
        if !options.dry_run {
            mark(call, name, &writing)?;
        }
    }
    call.server.delete(&call.resource, call.namespace(), name, &options)?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(reply::json(StatusCode::CREATED, &status))
}

/// Whether no budget is about the pod: it has ended, never began, or is leaving.
fn is_free(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed" | "Pending") || meta::is_terminating(pod)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let ready = |one: &Value| one["type"] == "Ready" && one["status"] == "True";
    conditions.into_iter().flatten().any(ready)
}

/// Takes the eviction from the budget of the pod, where it has one.
fn spend(server: &ApiServer, namespace: &str, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
    let registry = server.registry();
    let budgets = registry
        .find("policy", "v1", "poddisruptionbudgets")
        .ok_or_else(ApiError::no_such_path)?;
    let listed = server.store().list(&collection(budgets), Some(namespace));
    let about = listed.items.iter().filter(|budget| takes(budget, pod));
    let names: Vec<String> = about.map(|budget| meta::name(budget).to_owned()).collect();
    let [name] = names.as_slice() else {
        if names.is_empty() {
            return Ok(());
        }
        let message =
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            message,
        ));
    };
    let mut options = WriteOptions::internal();
    options.dry_run = dry_run;
    let result = server.update(
        budgets,
        namespace,
        name,
        Part::Status,
        &options,
        &mut |budget| match judge(budgets, budget, pod)? {
            false => Ok(budget.clone()),
            true => Ok(spent(budget, meta::name(pod))),
        },
    );
    match result {
        // A budget that went meanwhile forbids nothing.
        Err(error) if error.code() == StatusCode::NOT_FOUND => Ok(()),
        other => other.map(drop),
    }
}

fn takes(budget: &Value, pod: &Value) -> bool {
    let selector = budget.pointer("/spec/selector").filter(|selector| !selector.is_null());
    selector.is_some_and(|selector| LabelSelector::from_object(selector).is_ok_and(|known| known.matches(pod)))
}

/// Whether the eviction costs the budget one.
fn judge(resource: &Resource, budget: &Value, pod: &Value) -> Result<bool, ApiError> {
    let number = |field: &str| {
        budget
            .pointer(&format!("/status/{field}"))
            .and_then(Value::as_i64)
            .unwrap_or(0)
    };
    let name = meta::name(budget);
    let generation = budget
        .pointer("/metadata/generation")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let (healthy, needed) = (number("currentHealthy"), number("desiredHealthy"));
    if !is_ready(pod) {
        let policy = budget
            .pointer("/spec/unhealthyPodEvictionPolicy")
            .and_then(Value::as_str);
        if policy == Some("AlwaysAllow") || (healthy >= needed && needed > 0) {
            return Ok(false);
        }
    }
    if number("observedGeneration") < generation {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(why));
    }
    let disrupted = budget.pointer("/status/disruptedPods").and_then(Value::as_object);
    if disrupted.is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(ApiError::forbidden(resource, name, why));
    }
    if number("disruptionsAllowed") <= 0 {
        let why = format!("The disruption budget {name} needs {needed} healthy pods and has {healthy} currently");
        return Err(refused(why));
    }
    Ok(true)
}

fn refused(why: String) -> ApiError {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
    error.0.details.get_or_insert_default().causes = Some(vec![StatusCause {
        reason: Some("DisruptionBudget".to_owned()),
        message: Some(why),
        field: None,
    }]);
    error
}

/// The budget with one eviction less to give.
fn spent(budget: &Value, pod: &str) -> Value {
    let mut next = budget.clone();
    let status = meta::child(meta::fields(&mut next), "status");
    let left = status.get("disruptionsAllowed").and_then(Value::as_i64).unwrap_or(0) - 1;
    status.insert("disruptionsAllowed".to_owned(), json!(left));
    meta::child(status, "disruptedPods").insert(pod.to_owned(), json!(meta::now()));
    if left == 0
        && let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut)
    {
        for condition in conditions.iter_mut().filter(|one| one["type"] == "DisruptionAllowed") {
            condition["status"] = json!("False");
            condition["reason"] = json!("InsufficientPods");
            condition["lastTransitionTime"] = json!(meta::now());
        }
    }
    next
}

/// Tells whoever counts the pod's end why it came.
fn mark(call: &Call, name: &str, options: &WriteOptions) -> Result<(), ApiError> {
    let marked = call.server.update(
        &call.resource,
        call.namespace(),
        name,
        Part::Status,
        options,
        &mut |pod| {
            let mut next = pod.clone();
            let status = meta::child(meta::fields(&mut next), "status");
            let conditions = status.entry("conditions").or_insert_with(|| json!([]));
            if let Some(conditions) = conditions.as_array_mut() {
                conditions.retain(|condition| condition["type"] != "DisruptionTarget");
                conditions.push(
                    json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": meta::now()}),
                );
            }
            Ok(next)
        },
    );
    marked.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::api::Registry;

    #[test]
    fn a_budget_gives_what_it_has_and_says_what_it_lacks() {
        let registry = Registry::builtin();
        let resource = registry.find("policy", "v1", "poddisruptionbudgets").unwrap();
        let budget = |allowed: i64, seen: i64, spec: Value| {
            json!({"metadata": {"name": "b", "generation": 1}, "spec": spec, "status": {"disruptionsAllowed": allowed,
                "currentHealthy": 2, "desiredHealthy": 2, "observedGeneration": seen,
                "conditions": [{"type": "DisruptionAllowed", "status": "True"}]}})
        };
        let pod = |ready: &str| {
            json!({"metadata": {"name": "p"}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}]}})
        };
        let of = |budget: &Value, ready: &str| {
            judge(resource, budget, &pod(ready)).map_err(|error| {
                let causes = error
                    .0
                    .details
                    .as_ref()
                    .and_then(|details| details.causes.clone())
                    .unwrap_or_default();
                (error.code().as_u16(), causes[0].message.clone().unwrap_or_default())
            })
        };
        assert_eq!(of(&budget(1, 1, json!({})), "True"), Ok(true));
        assert_eq!(
            of(&budget(0, 1, json!({})), "True"),
            Err((
                429,
                "The disruption budget b needs 2 healthy pods and has 2 currently".to_owned()
            ))
        );
        assert_eq!(
            of(&budget(1, 0, json!({})), "True"),
            Err((
                429,
                "The disruption budget b is still being processed by the server.".to_owned()
            ))
        );
        // one that is not ready takes nothing from those that are
        assert_eq!(of(&budget(0, 1, json!({})), "False"), Ok(false));
        let next = spent(&budget(1, 1, json!({})), "p");
        assert_eq!(next["status"]["disruptionsAllowed"], 0);
        assert_eq!(next["status"]["conditions"][0]["status"], "False");
        assert!(next["status"]["disruptedPods"]["p"].is_string());
    }
}
