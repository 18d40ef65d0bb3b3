//! In every namespace: the ServiceAccount `default`, and the ConfigMap `kube-root-ca.crt`.
//!
//! Source: Kubernetes' service-account and root-ca-certificate-publisher controllers.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::{Api, ResourceExt, api::PostParams};

use crate::embedded::queue::Queue;

use super::Context;
use crate::embedded::informer::{Change, Key};

/// The ConfigMap with the CA certificate that pods trust the API server by.
pub const ROOT_CA: &str = "kube-root-ca.crt";

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let mut namespaces = context.informers.namespaces.subscribe();
    let mut accounts = context.informers.service_accounts.subscribe();
    let mut maps = context.informers.config_maps.subscribe();
    let feed = queue.clone();
    tokio::spawn(async move {
        loop {
            let namespace = tokio::select! {
                change = namespaces.recv() => match change {
                    Some(change) => Some(change.object().name_any()),
                    None => return,
                },
                change = accounts.recv() => match change {
                    Some(Change::Deleted(gone)) if gone.name_any() == "default" => gone.namespace(),
                    Some(_) => None,
                    None => return,
                },
                change = maps.recv() => match change {
                    Some(change) if change.object().name_any() == ROOT_CA => change.object().namespace(),
                    Some(_) => None,
                    None => return,
                },
            };
            if let Some(namespace) = namespace {
                feed.add(Key::new("", namespace));
            }
        }
    });
    let inner = context.clone();
    tokio::spawn(queue.run("serviceaccount", context.stop.clone(), move |key| {
        let context = inner.clone();
        async move { reconcile(&context, &key.name).await }
    }));
}

async fn reconcile(context: &Context, namespace: &str) -> Result<Option<Duration>, kube::Error> {
    let cache = &context.informers;
    let live = cache
        .namespaces
        .get(&Key::new("", namespace))
        .is_some_and(|ns| ns.metadata.deletion_timestamp.is_none());
    if !live {
        return Ok(None);
    }
    if cache.service_accounts.get(&Key::new(namespace, "default")).is_none() {
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("default".to_owned());
        let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), namespace);
        if let Some(made) = unless_there(api.create(&PostParams::default(), &account).await)? {
            cache.service_accounts.wrote(made);
        }
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

fn unless_there<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(made) => Ok(Some(made)),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
        Err(error) => Err(error),
    }
}
