//! In every namespace: the ConfigMap `kube-root-ca.crt`, by which pods trust the API server.
//!
//! Source: Kubernetes' root CA certificate publisher.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt, api::PostParams};

use super::{Context, follow};
use crate::{informer::Key, queue::Queue, write::unless_there};

/// The ConfigMap with the CA certificate that pods trust the API server by.
const ROOT_CA: &str = "kube-root-ca.crt";

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    follow::objects(&context.informers.namespaces, &queue);
    let feed = queue.clone();
    follow::changes(&context.informers.config_maps, move |change| {
        let map = change.object();
        if map.name_any() == ROOT_CA {
            feed.add(Key::new("", map.namespace().unwrap_or_default()));
        }
    });
    let inner = context.clone();
    context
        .tasks
        .spawn(queue.run("root-ca", context.stop.clone(), move |key| {
            let context = inner.clone();
            async move { reconcile(&context, &key.name).await }
        }));
}

async fn reconcile(context: &Context, namespace: &str) -> Result<Option<Duration>, kube::Error> {
    let cache = &context.informers;
    if !follow::lives(cache, namespace) {
        return Ok(None);
    }
    let data = BTreeMap::from([("ca.crt".to_owned(), context.ca_pem.clone())]);
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    match cache.config_maps.get(&Key::new(namespace, ROOT_CA)) {
        Some(held) if held.data.as_ref() == Some(&data) => {}
        Some(held) => {
            let mut map = held.as_ref().clone();
            map.data = Some(data);
            cache
                .config_maps
                .wrote(api.replace(ROOT_CA, &PostParams::default(), &map).await?);
        }
        None => {
            let mut map = ConfigMap {
                data: Some(data),
                ..ConfigMap::default()
            };
            map.metadata.name = Some(ROOT_CA.to_owned());
            if let Some(made) = unless_there(api.create(&PostParams::default(), &map).await)? {
                cache.config_maps.wrote(made);
            }
        }
    }
    Ok(None)
}
