//! ClusterRoles with an aggregation rule have the rules of the roles that it selects.
//!
//! Source: Kubernetes' clusterroleaggregation controller.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::Context;
use crate::{control_plane::rbac::aggregate, informer::Key, queue::Queue};

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let mut roles = context.informers.cluster_roles.subscribe();
    let (feed, informers) = (queue.clone(), context.informers.clone());
    tokio::spawn(async move {
        // Any role may be one that another gathers.
        while roles.recv().await.is_some() {
            let gathering = informers.cluster_roles.all();
            for role in gathering.iter().filter(|role| role.aggregation_rule.is_some()) {
                feed.add(Key::new("", role.name_any()));
            }
        }
    });
    let inner = context.clone();
    context
        .tasks
        .spawn(queue.run("clusterrole-aggregation", context.stop.clone(), move |key| {
            let context = inner.clone();
            async move { reconcile(&context, &key.name).await }
        }));
}

async fn reconcile(context: &Context, name: &str) -> Result<Option<Duration>, kube::Error> {
    let roles = context.informers.cluster_roles.all();
    let Some(role) = roles.iter().find(|role| role.metadata.name.as_deref() == Some(name)) else {
        return Ok(None);
    };
    let selectors = role
        .aggregation_rule
        .as_ref()
        .and_then(|rule| rule.cluster_role_selectors.as_deref());
    let Some(selectors) = selectors.filter(|_| role.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let sources: Vec<aggregate::Source<'_>> = roles
        .iter()
        .map(|role| aggregate::Source {
            name: role.metadata.name.as_deref().unwrap_or_default(),
            labels: role.metadata.labels.as_ref(),
            rules: role.rules.as_deref().unwrap_or_default(),
        })
        .collect();
    let rules = aggregate::rules(name, selectors, &sources);
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Ok(None);
    }
    let api: Api<ClusterRole> = Api::all(context.client.clone());
    let patch = json!({"metadata": {"resourceVersion": role.metadata.resource_version}, "rules": rules});
    let written = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    context.informers.cluster_roles.wrote(written);
    Ok(None)
}
