//! Feeding a controller's queue from the shared caches.

use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::owner;
use crate::{
    informer::{Change, Informer, Informers, Key},
    queue::Queue,
};

/// What an informer can hold.
pub trait Watched:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static
{
}

/// Calls `each` for every change, until the watch ends.
pub fn changes<K: Watched>(informer: &Informer<K>, mut each: impl FnMut(&Change<K>) + Send + 'static) {
    let mut changes = informer.subscribe();
    tokio::spawn(async move {
        while let Some(change) = changes.recv().await {
            each(&change);
        }
    });
}

/// Whether a namespace is there and stays.
pub fn lives(cache: &Informers, namespace: &str) -> bool {
    let namespace = cache.namespaces.get(&Key::new("", namespace));
    namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())
}

/// Queues every object that changes.
pub fn objects<K: Watched>(informer: &Informer<K>, queue: &Queue) {
    let queue = queue.clone();
    changes(informer, move |change| queue.add(Key::of(change.object().as_ref())));
}

/// Queues the controllers of `kind` of every object that changes, before and after the change; for one without a controller,
/// those that `candidates` names.
pub fn owned<K: Watched>(
    informer: &Informer<K>,
    queue: &Queue,
    kind: &'static str,
    candidates: impl Fn(&K, &str) -> Vec<Key> + Send + 'static,
) {
    let queue = queue.clone();
    changes(informer, move |change| {
        let object = change.object();
        let namespace = object.namespace().unwrap_or_default();
        let before = match change {
            Change::Applied { old: Some(old), .. } => owner::controller_of(old.meta()),
            _ => None,
        };
        let now = owner::controller_of(object.meta());
        for owner in before.into_iter().chain(now).filter(|owner| owner.kind == kind) {
            queue.add(Key::new(namespace.clone(), owner.name.clone()));
        }
        if now.is_none() {
            candidates(object.as_ref(), &namespace)
                .into_iter()
                .for_each(|key| queue.add(key));
        }
    });
}
