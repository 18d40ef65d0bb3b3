//! Validation of values, after defaulting.
//!
//! Source: Kubernetes' `pkg/apis/*/validation` and apimachinery's `ValidateObjectMeta`; texts are theirs.

mod batch;
mod config;
mod container;
mod meta;
mod network;
mod pod;
mod storage;
mod update;
mod workload;

use serde_json::Value;

use super::{
    super::{Resource, custom::definition, view::Object},
    FieldError, names,
};

/// Errors reported at most; a broken object of a thousand containers needs no more.
const MAX_ERRORS: usize = 100;

/// The errors found so far.
#[derive(Default)]
struct Errors {
    all: Vec<FieldError>,
}

impl Errors {
    fn push(&mut self, error: FieldError) {
        if self.all.len() < MAX_ERRORS {
            self.all.push(error);
        }
    }

    /// Every problem that a check of [`names`] finds with a value.
    fn named(&mut self, field: &str, value: &str, problems: Vec<String>) {
        for problem in problems {
            self.push(FieldError::invalid(field, &Value::from(value), problem));
        }
    }

    /// A string that must be there, and be good.
    fn required_name(&mut self, field: &str, value: &str, check: fn(&str) -> Vec<String>) {
        if value.is_empty() {
            self.push(FieldError::required(field, ""));
        } else {
            self.named(field, value, check(value));
        }
    }

    fn not_negative(&mut self, of: Object<'_>, path: &str, field: &str) {
        let value = of.at(path);
        if value.0.as_i64().is_some_and(|v| v < 0) {
            self.push(FieldError::invalid(
                format!("{field}.{path}"),
                value.0,
                "must be greater than or equal to 0",
            ));
        }
    }

    /// One of these strings; absent is a matter of defaults.
    fn one_of(&mut self, of: Object<'_>, path: &str, field: &str, supported: &[&str]) {
        let value = of.at(path);
        if value.is_set() && !supported.contains(&value.0.as_str().unwrap_or_default()) {
            self.push(FieldError::not_supported(format!("{field}.{path}"), value.0, supported));
        }
    }

    /// A port that must be there.
    fn port(&mut self, value: Object<'_>, field: &str) {
        if !(1..=65535).contains(&value.0.as_i64().unwrap_or_default()) {
            let range = "must be between 1 and 65535, inclusive";
            self.push(FieldError::invalid(field, value.0, range));
        }
    }

    /// A port by number or by name.
    fn port_or_name(&mut self, value: Object<'_>, field: &str) {
        match value.0 {
            Value::String(name) => self.named(field, name, names::port_name(name)),
            _ => self.port(value, field),
        }
    }
}

/// What is wrong with an object after defaulting; with `old`, also with the change.
///
/// Kinds that no component acts on (quotas, ranges, …) are checked for their metadata only.
pub fn object(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let view = Object(object);
    meta::check(resource, view, &mut errors);
    if let Some(old) = old {
        meta::check_update(view, Object(old), &mut errors);
    }
    if let Some(custom) = &resource.custom {
        custom
            .check(object, old)
            .into_iter()
            .for_each(|error| errors.push(error));
        return errors.all;
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod::spec(view.at("spec"), "spec", &mut errors),
        ("", "Service") => network::service(view, &mut errors),
        ("", "ConfigMap") => config::config_map(view, &mut errors),
        ("", "Endpoints") => network::endpoints(view, &mut errors),
        ("", "Secret") => config::secret(view, &mut errors),
        ("", "PersistentVolumeClaim") => storage::claim(view, &mut errors),
        ("", "PersistentVolume") => storage::volume(view, &mut errors),
        ("scheduling.k8s.io", "PriorityClass") => config::priority_class(view, &mut errors),
        ("storage.k8s.io", "StorageClass") => storage::class(view, &mut errors),
        ("apps", "Deployment") => workload::deployment(view, &mut errors),
        ("apps", "ReplicaSet" | "StatefulSet") => workload::replicated(view, &mut errors),
        ("apps", "DaemonSet") => workload::daemon_set(view, &mut errors),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            let problems = definition::check(view, old.map(Object));
            problems.into_iter().for_each(|error| errors.push(error));
        }
        ("batch", "Job") => batch::job(view, &mut errors),
        ("batch", "CronJob") => batch::cron_job(view, &mut errors),
        ("discovery.k8s.io", "EndpointSlice") => network::endpoint_slice(view, &mut errors),
        ("policy", "PodDisruptionBudget") => workload::budget(view, &mut errors),
        ("networking.k8s.io", "NetworkPolicy") => network::policy(view, &mut errors),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => config::role(view, &mut errors),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => config::binding(view, &mut errors),
        _ => {}
    }
    if let Some(old) = old {
        update::check(resource, view, Object(old), &mut errors);
    }
    errors.all
}

#[cfg(test)]
mod tests;
