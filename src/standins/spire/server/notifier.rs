//! The `k8sbundle` notifier: keeps the bundle in a ConfigMap, for agents to begin with.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use ztlab_identity::X509Bundle;

use super::Core;
use crate::config::BundleNotifier;

/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// Writes the bundle at the start and at every change of it, for ever.
pub async fn notify(core: Arc<Core>, client: kube::Client, into: BundleNotifier) {
    let api: Api<ConfigMap> = Api::namespaced(client, &into.namespace);
    let mut changes = core.store.changes();
    let mut written = None;
    loop {
        changes.mark_unchanged();
        let pem = core.bundles().iter().map(X509Bundle::to_pem).collect::<String>();
        if written.as_ref() != Some(&pem) {
            let patch = json!({ "data": { &into.config_map_key: &pem } });
            match api
                .patch(&into.config_map, &PatchParams::default(), &Patch::Merge(patch))
                .await
            {
                Ok(_) => {
                    tracing::info!(config_map = into.config_map, "the bundle was written");
                    written = Some(pem);
                }
                Err(error) => {
                    tracing::warn!(config_map = into.config_map, %error, "the bundle was not written; it is tried again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
