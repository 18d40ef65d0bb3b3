//! In every namespace: the ServiceAccount `default`.
//!
//! Source: Kubernetes' service account controller.

use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, ResourceExt, api::PostParams};

use super::{Context, follow};
use crate::{
    informer::{Change, Key},
    queue::Queue,
    write::unless_there,
};

/// The account of pods that name none.
const DEFAULT: &str = "default";

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    follow::objects(&context.informers.namespaces, &queue);
    let feed = queue.clone();
    follow::changes(&context.informers.service_accounts, move |change| {
        if let Change::Deleted(gone) = change
            && gone.name_any() == DEFAULT
        {
            feed.add(Key::new("", gone.namespace().unwrap_or_default()));
        }
    });
    let inner = context.clone();
    context
        .tasks
        .spawn(queue.run("serviceaccount", context.stop.clone(), move |key| {
            let context = inner.clone();
            async move { reconcile(&context, &key.name).await }
        }));
}

async fn reconcile(context: &Context, namespace: &str) -> Result<Option<Duration>, kube::Error> {
    let cache = &context.informers;
    let there = cache.service_accounts.get(&Key::new(namespace, DEFAULT)).is_some();
    if there || !follow::lives(cache, namespace) {
        return Ok(None);
    }
    let mut account = ServiceAccount::default();
    account.metadata.name = Some(DEFAULT.to_owned());
    let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), namespace);
    if let Some(made) = unless_there(api.create(&PostParams::default(), &account).await)? {
        cache.service_accounts.wrote(made);
    }
    Ok(None)
}
