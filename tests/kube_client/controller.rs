//! A controller written with `kube::runtime`: every ConfigMap labelled `parent` has a child, and a finalizer.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{
        Controller,
        controller::Action,
        finalizer::{Event, finalizer},
        wait::conditions,
        watcher,
    },
};
use serde_json::json;

use crate::bench::{Bench, map, settled};

const FINALIZER: &str = "lab.test/cleanup";

struct Context {
    maps: Api<ConfigMap>,
    /// A cleanup may be asked for again, when it runs on what a cache still holds.
    cleaned: Mutex<BTreeSet<String>>,
}

async fn reconcile(parent: Arc<ConfigMap>, context: Arc<Context>) -> Result<Action, finalizer_error::Error> {
    let done = finalizer(&context.maps, FINALIZER, parent, |event| apply(event, &context)).await;
    done.map_err(Box::new)
}

mod finalizer_error {
    pub type Error = Box<kube::runtime::finalizer::Error<kube::Error>>;
}

async fn apply(event: Event<ConfigMap>, context: &Context) -> Result<Action, kube::Error> {
    match event {
        Event::Apply(parent) => {
            let child = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": format!("{}-child", parent.name_any()), "ownerReferences": [parent.controller_owner_ref(&()).unwrap()]},
                "data": parent.data,
            });
            let name = format!("{}-child", parent.name_any());
            context
                .maps
                .patch(&name, &PatchParams::apply("lab.test").force(), &Patch::Apply(child))
                .await?;
        }
        Event::Cleanup(parent) => drop(context.cleaned.lock().unwrap().insert(parent.name_any())),
    }
    Ok(Action::await_change())
}

pub async fn keeps_children_and_cleans_up(bench: &Bench) {
    let client: Client = bench.client().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let context = Arc::new(Context {
        maps: maps.clone(),
        cleaned: Mutex::default(),
    });
    let controller = Controller::new(maps.clone(), watcher::Config::default().labels("parent"))
        .owns(maps.clone(), watcher::Config::default())
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_millis(200)),
            context.clone(),
        )
        .for_each(|_| std::future::ready(()));
    let running = tokio::spawn(controller);

    let mut parent = map("house");
    parent.labels_mut().insert("parent".to_owned(), "yes".to_owned());
    let parent = maps.create(&Default::default(), &parent).await.unwrap();
    settled(&maps, "house-child", conditions::is_created()).await;
    let first = maps.get("house-child").await.unwrap();
    assert_eq!(first.owner_references()[0].uid, parent.uid().unwrap());

    maps.delete("house-child", &DeleteParams::default()).await.unwrap();
    let another = |map: Option<&ConfigMap>| map.is_some_and(|map| map.uid() != first.uid());
    settled(&maps, "house-child", another).await;
    let change = Patch::Merge(json!({"data": {"a": "7"}}));
    maps.patch("house", &PatchParams::default(), &change).await.unwrap();
    let changed =
        |map: Option<&ConfigMap>| map.is_some_and(|map| map.data.as_ref().is_some_and(|data| data["a"] == "7"));
    settled(&maps, "house-child", changed).await;

    let child = maps.get("house-child").await.unwrap().uid().unwrap();
    maps.delete("house", &DeleteParams::foreground()).await.unwrap();
    settled(&maps, "house", conditions::is_deleted(&parent.uid().unwrap())).await;
    settled(&maps, "house-child", conditions::is_deleted(&child)).await;
    assert_eq!(*context.cleaned.lock().unwrap(), BTreeSet::from(["house".to_owned()]));
    running.abort();
}
