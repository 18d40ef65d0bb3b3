//! The kinds that no shared cache holds: those of the API server's other groups, and custom ones, which come and go.
//!
//! Source: Kubernetes' garbage collector, which asks discovery for what can be listed, watched and deleted, and follows the
//! metadata of it.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Discovery, Resource, ResourceExt,
    api::{ApiResource, DynamicObject},
    core::PartialObjectMeta,
    discovery::{ApiCapabilities, Scope, verbs},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio_util::sync::CancellationToken;

use super::{Collector, graph::Kind};

/// When discovery is asked again after it failed.
const AGAIN: Duration = Duration::from_secs(1);

/// What discovery says of one kind.
struct Found {
    resource: ApiResource,
    namespaced: bool,
    /// Every apiVersion that it is served in.
    versions: Vec<String>,
}

/// Follows every kind that can have owners or be one, as long as it is served.
pub async fn follow(collector: Arc<Collector>) {
    let client = collector.context.client.clone();
    let stop = collector.context.stop.clone();
    let cached: HashSet<_> = {
        let graph = collector.graph();
        let kinds = graph.kinds.values();
        kinds
            .map(|kind| (kind.resource.group.clone(), kind.resource.kind.clone()))
            .collect()
    };
    let mut followed: HashMap<(String, String), CancellationToken> = HashMap::new();
    let definitions = watcher(
        Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client.clone()),
        watcher::Config::default(),
    );
    let mut definitions = pin!(definitions.default_backoff());
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = definitions.next() => event,
        };
        match event {
            None => return,
            Some(Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_))) => {}
            Some(_) => continue,
        }
        let found = loop {
            match Discovery::new(client.clone()).run_aggregated().await {
                Ok(discovery) => break kinds(&discovery),
                Err(error) => tracing::warn!(%error, "asking what kinds there are; it is tried again"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        };
        followed.retain(|kind, watching| {
            let served = found.contains_key(kind);
            if !served {
                watching.cancel();
            }
            served
        });
        for (kind, found) in found {
            if !followed.contains_key(&kind) && !cached.contains(&kind) {
                let watching = stop.child_token();
                followed.insert(kind, watching.clone());
                tokio::spawn(objects(collector.clone(), found, watching));
            }
        }
    }
}

/// What can be followed, by group and kind.
fn kinds(discovery: &Discovery) -> HashMap<(String, String), Found> {
    let mut found = HashMap::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.resources_by_stability() {
            if !is_followed(&resource, &capabilities) {
                continue;
            }
            let serves = |version: &&str| {
                let kinds = group.versioned_resources(version);
                kinds.iter().any(|(other, _)| other.kind == resource.kind)
            };
            let of = |version: &str| match group.name() {
                "" => version.to_owned(),
                name => format!("{name}/{version}"),
            };
            let versions = group.versions().filter(serves).map(of).collect();
            let kind = (group.name().to_owned(), resource.kind.clone());
            let namespaced = capabilities.scope == Scope::Namespaced;
            found.insert(
                kind,
                Found {
                    resource,
                    namespaced,
                    versions,
                },
            );
        }
    }
    found
}

/// Events come in numbers, own nothing and go by themselves.
fn is_followed(resource: &ApiResource, capabilities: &ApiCapabilities) -> bool {
    let can = |verb: &str| capabilities.supports_operation(verb);
    resource.kind != "Event" && can(verbs::LIST) && can(verbs::WATCH) && can(verbs::DELETE)
}

/// Follows the objects of one kind until it is served no longer.
async fn objects(collector: Arc<Collector>, found: Found, stop: CancellationToken) {
    let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(collector.context.client.clone(), &found.resource);
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let gone = |uid: String| {
        let meta = ObjectMeta {
            uid: Some(uid),
            ..ObjectMeta::default()
        };
        collector.take(&found.resource, &meta, true);
    };
    let mut held: HashSet<String> = HashSet::new();
    let mut listed = HashSet::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => break,
            event = events.next() => event,
        };
        match event {
            None => break,
            Some(Err(error)) => {
                let kind = &found.resource.kind;
                tracing::debug!(%kind, %error, "following owners and owned; it is tried again");
            }
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(object))) => {
                listed.extend(object.uid());
                held.extend(object.uid());
                collector.take(&found.resource, object.meta(), false);
            }
            Some(Ok(Event::InitDone)) => {
                held.extract_if(|uid| !listed.contains(uid)).for_each(gone);
                collector.learn(&found.versions, &found.resource, found.namespaced);
            }
            Some(Ok(Event::Apply(object))) => {
                held.extend(object.uid());
                collector.take(&found.resource, object.meta(), false);
            }
            Some(Ok(Event::Delete(object))) => {
                if let Some(uid) = object.uid() {
                    held.remove(&uid);
                    gone(uid);
                }
            }
        }
    }
    // A kind goes after its objects: what is still held here went unseen.
    held.into_iter().for_each(gone);
}

impl Collector {
    /// All objects of a kind are in the graph.
    fn learn(&self, versions: &[String], resource: &ApiResource, namespaced: bool) {
        let mut graph = self.graph();
        for version in versions {
            let kind = Kind {
                resource: resource.clone(),
                namespaced,
            };
            graph.kinds.insert((version.clone(), resource.kind.clone()), kind);
        }
    }
}
