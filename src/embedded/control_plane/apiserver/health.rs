//! ComponentStatus: whether the parts of the control plane do their work, as `kubectl get componentstatuses` shows it.
//!
//! Source: Kubernetes' `pkg/registry/core/componentstatus`; its objects are made when they are asked for.

use std::sync::{Arc, PoisonError};

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{ApiServer, Body, dispatch::Call, meta, reply, status::ApiError};

/// What Kubernetes' own server says with every answer.
const DEPRECATED: &str = "v1 ComponentStatus is deprecated in v1.19+";

/// Whether a component does its work, or what is wrong.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

impl ApiServer {
    /// Sets how a component of the control plane is asked how it does.
    pub fn set_check(&self, component: &'static str, check: Check) {
        let mut checks = self.inner.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.insert(component, check);
    }

    fn component_statuses(&self) -> Vec<Arc<Value>> {
        let checks = self.inner.checks.lock().unwrap_or_else(PoisonError::into_inner);
        // The store has etcd's role, and its name here.
        let store = self.store().check();
        let asked = checks.iter().map(|(name, check)| (*name, check()));
        let mut all: Vec<_> = asked.chain([("etcd-0", store)]).collect();
        all.sort_by_key(|(name, _)| *name);
        all.into_iter()
            .map(|(name, said)| Arc::new(object(name, said)))
            .collect()
    }
}

fn object(name: &str, said: Result<(), String>) -> Value {
    let condition = match said {
        Ok(()) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(why) => json!({"type": "Healthy", "status": "False", "message": why}),
    };
    json!({"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name, "creationTimestamp": null},
        "conditions": [condition]})
}

/// Answers `get` and `list`.
///
/// # Errors
/// 404 for a component that there is not.
pub fn answer(call: &Call, verb: &str) -> Result<Response<Body>, ApiError> {
    let all = call.server.component_statuses();
    let mut response = match verb {
        "list" => reply::list(&call.resource, call.form, call.include, &all, json!({})),
        _ => {
            let name = call.name()?;
            let found = all.iter().find(|object| meta::name(object) == name);
            let found = found.ok_or_else(|| ApiError::not_found(&call.resource, name))?;
            reply::json(
                StatusCode::OK,
                &reply::in_form(&call.resource, call.form, call.include, found),
            )
        }
    };
    reply::warn(&mut response, &[DEPRECATED.to_owned()]);
    Ok(response)
}
