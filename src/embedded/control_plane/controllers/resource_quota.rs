//! The ResourceQuota controller: what is used of each quota, in its status.
//!
//! Source: Kubernetes' "Resource Quotas" and API reference (core/v1).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{ResourceQuota, ResourceQuotaStatus},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde_json::Value;

use super::{Context, follow};
use crate::{
    control_plane::{
        api::Registry,
        quota::{self, Amounts},
    },
    informer::{Informers, Key},
    queue::Queue,
    write::{unless_gone, write_status},
};

/// How often all is counted again: of some kinds nobody here hears when they change.
const AGAIN: Duration = Duration::from_secs(60);

fn all_of(cache: &Informers, queue: &Queue, namespace: &str) {
    let quotas = cache.resource_quotas.in_namespace(namespace);
    quotas.iter().for_each(|quota| queue.add(Key::of(quota.as_ref())));
}

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let cache = &context.informers;
    follow::objects(&cache.resource_quotas, &queue);
    macro_rules! follow_all {
        ($($informer:ident),*) => {$(
            let (inner, feed) = (cache.clone(), queue.clone());
            follow::changes(&cache.$informer, move |change| {
                all_of(&inner, &feed, &change.object().namespace().unwrap_or_default());
            });
        )*};
    }
    follow_all!(
        pods,
        services,
        persistent_volume_claims,
        config_maps,
        secrets,
        deployments,
        replica_sets,
        stateful_sets,
        jobs,
        cron_jobs
    );
    let (quotas, feed, stop) = (cache.resource_quotas.clone(), queue.clone(), context.stop.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
            quotas.all().iter().for_each(|quota| feed.add(Key::of(quota.as_ref())));
        }
    });
    let controller = Arc::new(Controller {
        context: context.clone(),
    });
    context
        .tasks
        .spawn(queue.run("resourcequota", context.stop.clone(), move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        }));
}

struct Controller {
    context: Context,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers.resource_quotas;
        let Some(held) = cache.get(key) else { return Ok(None) };
        let value = serde_json::to_value(held.as_ref()).map_err(kube::Error::SerdeError)?;
        let hard = quota::hard(&value);
        let mut used = Amounts::new();
        for (group, plural) in kinds(&hard) {
            used = quota::sum([used, self.used(&value, &key.namespace, &group, &plural).await?]);
        }
        let limits = held
            .spec
            .as_ref()
            .and_then(|spec| spec.hard.clone())
            .unwrap_or_default();
        let status = status(limits, &used);
        if held.status.as_ref() != Some(&status) {
            let api: Api<ResourceQuota> = Api::namespaced(self.context.client.clone(), &key.namespace);
            if let Some(written) = unless_gone(write_status(&api, &key.name, &status).await)? {
                cache.wrote(written);
            }
        }
        Ok(None)
    }

    /// What the objects of a kind use of a quota. Kinds that are defined while the cluster runs are not counted here.
    async fn used(&self, quota: &Value, namespace: &str, group: &str, plural: &str) -> Result<Amounts, kube::Error> {
        let registry = Registry::builtin();
        let found = registry
            .iter()
            .find(|one| one.group == group && one.plural == plural && one.namespaced);
        let Some(resource) = found else {
            return Ok(Amounts::new());
        };
        let resource = ApiResource {
            group: resource.group.clone(),
            version: resource.version.clone(),
            api_version: resource.api_version(),
            kind: resource.kind.clone(),
            plural: resource.plural.clone(),
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.context.client.clone(), namespace, &resource);
        let mut all = Vec::new();
        for object in api.list(&ListParams::default()).await? {
            let object = serde_json::to_value(&object).map_err(kube::Error::SerdeError)?;
            if quota::covers(quota, plural, &object) {
                all.push(quota::usage(group, plural, &object));
            }
        }
        Ok(quota::sum(all))
    }
}

/// The kinds that a quota counts, as group and plural.
fn kinds(hard: &Amounts) -> BTreeSet<(String, String)> {
    let kind = |name: &String| {
        let (group, plural) = match name.strip_prefix("count/") {
            Some(counted) => counted
                .split_once('.')
                .map_or(("", counted), |(plural, group)| (group, plural)),
            None if name.starts_with("services") => ("", "services"),
            None if name.ends_with("persistentvolumeclaims") || name.ends_with("requests.storage") => {
                ("", "persistentvolumeclaims")
            }
            None => match name.as_str() {
                plural @ ("configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas") => ("", plural),
                _ => ("", "pods"),
            },
        };
        (group.to_owned(), plural.to_owned())
    };
    hard.keys().map(kind).collect()
}

fn status(hard: BTreeMap<String, Quantity>, used: &Amounts) -> ResourceQuotaStatus {
    let of = |name: &String| {
        let amount = used
            .get(name)
            .map_or_else(|| "0".to_owned(), |amount| quota::write(name, *amount));
        (name.clone(), Quantity(amount))
    };
    ResourceQuotaStatus {
        used: Some(hard.keys().map(of).collect()),
        hard: Some(hard),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_counted() {
        for (name, group, plural) in [
            ("pods", "", "pods"),
            ("requests.cpu", "", "pods"),
            ("services.nodeports", "", "services"),
            ("requests.storage", "", "persistentvolumeclaims"),
            (
                "fast.storageclass.storage.k8s.io/requests.storage",
                "",
                "persistentvolumeclaims",
            ),
            ("count/deployments.apps", "apps", "deployments"),
            ("count/secrets", "", "secrets"),
        ] {
            let hard = Amounts::from([(
                name.to_owned(),
                crate::control_plane::api::validate::quantity::Quantity::ZERO,
            )]);
            assert_eq!(
                kinds(&hard),
                BTreeSet::from([(group.to_owned(), plural.to_owned())]),
                "{name}"
            );
        }
    }
}
