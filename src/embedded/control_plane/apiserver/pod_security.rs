//! Pod Security at admission: a namespace's labels say what its pods may do.
//!
//! Source: Kubernetes' "Pod Security Admission".

use serde_json::Value;

use super::{ApiServer, meta, status::ApiError};
use crate::control_plane::{
    api::{
        Resource,
        pod_security::{Level, violations},
    },
    storage::CollectionKey,
};

/// Where a kind keeps the spec of its pods.
fn pod_spec(resource: &Resource) -> Option<&'static str> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => Some("/spec"),
        ("", "PodTemplate") => Some("/template/spec"),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job") => Some("/spec/template/spec"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template/spec"),
        _ => None,
    }
}

impl ApiServer {
    /// What an object breaks of what a label of its namespace asks for: `PodSecurity "restricted:latest": …`.
    fn breaks(&self, mode: &str, resource: &Resource, namespace: &str, object: &Value) -> Option<String> {
        let spec = pod_spec(resource)?;
        let key = CollectionKey::new("", "namespaces").object("", namespace);
        let namespace = self.store().get(&key)?;
        let label = |suffix: &str| {
            let labels = namespace.pointer("/metadata/labels")?;
            labels
                .get(format!("pod-security.kubernetes.io/{mode}{suffix}"))?
                .as_str()
        };
        let text = label("")?;
        // What is no level is the strictest, as Kubernetes has it.
        let level = Level::parse(text).unwrap_or(Level::Restricted);
        let broken = violations(level, object.pointer(spec)?);
        let name = if Level::parse(text).is_some() {
            text
        } else {
            "restricted"
        };
        let version = label("-version").unwrap_or("latest");
        (!broken.is_empty()).then(|| format!("PodSecurity \"{name}:{version}\": {}", broken.join(", ")))
    }

    /// Refuses a pod that its namespace does not allow.
    ///
    /// # Errors
    /// 403.
    pub(super) fn admit_pod_security(
        &self,
        resource: &Resource,
        namespace: &str,
        object: &Value,
    ) -> Result<(), ApiError> {
        if resource.kind != "Pod" {
            return Ok(());
        }
        match self.breaks("enforce", resource, namespace, object) {
            None => Ok(()),
            Some(why) => Err(ApiError::forbidden(
                resource,
                meta::name(object),
                format!("violates {why}"),
            )),
        }
    }

    /// What a namespace wants its users told about their pods, or about the pods that a workload will make.
    pub(super) fn pod_security_warning(&self, resource: &Resource, namespace: &str, object: &Value) -> Option<String> {
        let why = self.breaks("warn", resource, namespace, object)?;
        Some(format!("would violate {why}"))
    }
}
