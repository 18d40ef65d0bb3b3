//! The namespace lifecycle: what is in a namespace goes before the namespace does.
//!
//! Source: Kubernetes' namespace controller (finalizer `kubernetes`, subresource `finalize`).

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, PostParams},
    discovery::{Discovery, Scope, verbs},
};

use crate::{queue::Queue, write::unless_gone};

use super::Context;
use crate::informer::Key;

/// How long until a namespace is looked at again that still holds something, beside the changes that pods tell of.
const AGAIN: Duration = Duration::from_millis(20);

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let mut namespaces = context.informers.namespaces.subscribe();
    let feed = queue.clone();
    tokio::spawn(async move {
        while let Some(change) = namespaces.recv().await {
            if change.object().metadata.deletion_timestamp.is_some() {
                feed.add(Key::new("", change.object().name_any()));
            }
        }
    });
    let inner = context.clone();
    context
        .tasks
        .spawn(queue.run("namespace", context.stop.clone(), move |key| {
            let context = inner.clone();
            async move { reconcile(&context, &key.name).await }
        }));
}

async fn reconcile(context: &Context, name: &str) -> Result<Option<Duration>, kube::Error> {
    let Some(namespace) = context.informers.namespaces.get(&Key::new("", name)) else {
        return Ok(None);
    };
    if namespace.metadata.deletion_timestamp.is_none() {
        return Ok(None);
    }
    if remaining(context, name).await? > 0 {
        return Ok(Some(AGAIN));
    }
    finalize(context, &namespace).await?;
    Ok(None)
}

/// Deletes what is in the namespace; gives the number of objects that are still there.
async fn remaining(context: &Context, namespace: &str) -> Result<usize, kube::Error> {
    // Asked anew each time: kinds may have been added since.
    let discovery = Discovery::new(context.client.clone()).run_aggregated().await?;
    let mut left = 0;
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if capabilities.scope != Scope::Namespaced
                || !capabilities.supports_operation(verbs::LIST)
                || !capabilities.supports_operation(verbs::DELETE)
            {
                continue;
            }
            let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &resource);
            let objects = api.list(&ListParams::default()).await?;
            for object in objects {
                // Deleting twice would cut short a pod's grace: once is enough.
                let gone = object.metadata.deletion_timestamp.is_none()
                    && match unless_gone(api.delete(&object.name_any(), &DeleteParams::background()).await)? {
                        Some(answer) => answer.right().is_some(),
                        None => true,
                    };
                if !gone {
                    left += 1;
                }
            }
        }
    }
    Ok(left)
}

async fn finalize(context: &Context, namespace: &Namespace) -> Result<(), kube::Error> {
    let api: Api<Namespace> = Api::all(context.client.clone());
    let mut without = namespace.clone();
    if let Some(spec) = &mut without.spec {
        spec.finalizers
            .get_or_insert_default()
            .retain(|finalizer| finalizer != "kubernetes");
    }
    unless_gone(
        api.replace_subresource("finalize", &namespace.name_any(), &PostParams::default(), &without)
            .await
            .map(drop),
    )?;
    Ok(())
}
