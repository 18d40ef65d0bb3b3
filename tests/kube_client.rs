//! The `kube` crate as a client of the embedded cluster: discovery, watchers, a controller, exec, port-forward.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "kube_client/bench.rs"]
mod bench;
mod common;
#[path = "kube_client/controller.rs"]
mod controller;

use std::collections::BTreeMap;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, ResourceExt,
    api::{
        ApiResource, AttachParams, DeleteParams, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch,
        PatchParams, TerminalSize,
    },
    discovery::{Discovery, Scope, verbs},
    runtime::{
        conditions,
        watcher::{self, watcher},
    },
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use bench::{Bench, in_time, map, pod, settled};

/// One cluster for all of it: a second one would test nothing more.
#[test]
fn the_kube_crate_is_a_client() {
    let Some(bench) = Bench::start() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        discovery_in_both_forms(&bench).await;
        pages_are_one_list(&bench).await;
        for strategy in [
            watcher::Config::default().page_size(2),
            watcher::Config::default().streaming_lists(),
        ] {
            watchers_see_what_happens(&bench, strategy).await;
        }
        appliers_conflict(&bench).await;
        definitions_are_established(&bench).await;
        controller::keeps_children_and_cleans_up(&bench).await;
        let pods: Api<Pod> = Api::default_namespaced(bench.client().await);
        pods.create(&Default::default(), &pod("tools")).await.unwrap();
        settled(&pods, "tools", conditions::is_pod_running()).await;
        commands_run(&pods).await;
        a_terminal_has_a_size(&pods).await;
        logs_are_followed(&pods).await;
        ports_are_forwarded(&pods).await;
        an_eviction_ends_a_pod(&pods).await;
    });
}

type Kinds = BTreeMap<(String, String), (String, bool, Vec<String>, Vec<String>)>;

fn kinds(discovery: &Discovery) -> Kinds {
    let mut kinds = Kinds::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let mut operations = capabilities.operations;
            operations.sort();
            let mut subresources: Vec<String> = capabilities
                .subresources
                .iter()
                .map(|(sub, _)| sub.plural.clone())
                .collect();
            subresources.sort();
            let namespaced = capabilities.scope == Scope::Namespaced;
            kinds.insert(
                (resource.api_version, resource.kind),
                (resource.plural, namespaced, operations, subresources),
            );
        }
    }
    kinds
}

async fn discovery_in_both_forms(bench: &Bench) {
    let client = bench.client().await;
    let plain = Discovery::new(client.clone()).run().await.unwrap();
    let aggregated = Discovery::new(client.clone()).run_aggregated().await.unwrap();
    let kinds = [kinds(&plain), kinds(&aggregated)];
    assert_eq!(kinds[0], kinds[1]);
    let (plural, namespaced, operations, subresources) = &kinds[0][&("apps/v1".to_owned(), "Deployment".to_owned())];
    assert_eq!((plural.as_str(), *namespaced), ("deployments", true));
    assert_eq!(*subresources, ["scale", "status"]);
    let all = [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    assert_eq!(*operations, all);
    let (node, capabilities) = plain.resolve_gvk(&GroupVersionKind::gvk("", "v1", "Node")).unwrap();
    assert_eq!((node.plural.as_str(), capabilities.scope), ("nodes", Scope::Cluster));
    for group in plain.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if capabilities.supports_operation(verbs::LIST) {
                let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                let listed = objects.list(&ListParams::default()).await;
                assert!(listed.is_ok(), "{}: {listed:?}", resource.kind);
            }
        }
    }
}

async fn pages_are_one_list(bench: &Bench) {
    let maps: Api<ConfigMap> = Api::namespaced(bench.client().await, "kube-public");
    for number in 0..7 {
        maps.create(&Default::default(), &map(&format!("page-{number}")))
            .await
            .unwrap();
    }
    let mut names = Vec::new();
    let mut params = ListParams::default().limit(3);
    loop {
        let page = maps.list(&params).await.unwrap();
        assert!(page.items.len() <= 3);
        // What is made meanwhile is not of this list.
        let _ = maps.create(&Default::default(), &map("page-9")).await;
        names.extend(page.items.iter().map(ResourceExt::name_any));
        let token = page.metadata.continue_.filter(|token| !token.is_empty());
        let Some(token) = token else { break };
        assert!(page.metadata.remaining_item_count.unwrap() > 0);
        params = params.continue_token(&token);
    }
    names.retain(|name| name.starts_with("page-"));
    assert_eq!(names, (0..7).map(|number| format!("page-{number}")).collect::<Vec<_>>());
    maps.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
}

async fn watchers_see_what_happens(bench: &Bench, config: watcher::Config) {
    let maps: Api<ConfigMap> = Api::namespaced(bench.client().await, "kube-node-lease");
    for name in ["first", "second", "third"] {
        maps.create(&Default::default(), &map(name)).await.unwrap();
    }
    settled(&maps, "kube-root-ca.crt", conditions::is_created()).await;
    let mut events = watcher(maps.clone(), config).boxed();
    let mut next = async || in_time("an event", events.next()).await.unwrap().unwrap().to_string();
    assert_eq!(next().await, "Init");
    let mut listed = Vec::new();
    loop {
        match next().await.as_str() {
            "InitDone" => break,
            other => listed.push(other.to_owned()),
        }
    }
    listed.sort();
    let expected = ["first", "kube-root-ca.crt", "second", "third"].map(|name| format!("InitApply({name})"));
    assert_eq!(listed, expected);
    maps.delete("second", &DeleteParams::default()).await.unwrap();
    assert_eq!(next().await, "Delete(second)");
    let patch = Patch::Merge(json!({"data": {"a": "2"}}));
    maps.patch("first", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(next().await, "Apply(first)");
    for name in ["first", "third"] {
        maps.delete(name, &DeleteParams::default()).await.unwrap();
        assert_eq!(next().await, format!("Delete({name})"));
    }
}

async fn appliers_conflict(bench: &Bench) {
    let maps: Api<ConfigMap> = Api::default_namespaced(bench.client().await);
    let wanted = |value: &str| {
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": value}});
        Patch::Apply(map)
    };
    maps.patch("applied", &PatchParams::apply("one"), &wanted("1"))
        .await
        .unwrap();
    let refused = maps.patch("applied", &PatchParams::apply("two"), &wanted("2")).await;
    let Err(kube::Error::Api(status)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert!(status.message.contains(".data.a"), "{}", status.message);
    let forced = maps
        .patch("applied", &PatchParams::apply("two").force(), &wanted("2"))
        .await
        .unwrap();
    assert_eq!(forced.data.unwrap()["a"], "2");
    maps.delete("applied", &DeleteParams::default()).await.unwrap();
}

async fn definitions_are_established(bench: &Bench) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let client = bench.client().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.lab.test"},
        "spec": {"group": "lab.test", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
                    "status": {"type": "object", "properties": {"seen": {"type": "boolean"}}}}}}}]},
    }))
    .unwrap();
    definitions.create(&Default::default(), &definition).await.unwrap();
    settled(&definitions, "widgets.lab.test", conditions::is_crd_established()).await;
    let kind = GroupVersionKind::gvk("lab.test", "v1", "Widget");
    let (resource, _) = kube::discovery::pinned_kind(&client, &kind).await.unwrap();
    assert_eq!(resource, ApiResource::from_gvk_with_plural(&kind, "widgets"));
    let widgets: Api<DynamicObject> = Api::default_namespaced_with(client, &resource);
    let widget = DynamicObject::new("one", &resource).data(json!({"spec": {"size": 3}, "status": {"seen": true}}));
    let made = widgets.create(&Default::default(), &widget).await.unwrap();
    assert_eq!((made.data.get("status"), made.metadata.generation), (None, Some(1)));
    let status = Patch::Merge(json!({"status": {"seen": true}, "spec": {"size": 4}}));
    let seen = widgets
        .patch_status("one", &PatchParams::default(), &status)
        .await
        .unwrap();
    assert_eq!(seen.data, json!({"spec": {"size": 3}, "status": {"seen": true}}));
    definitions
        .delete("widgets.lab.test", &DeleteParams::default())
        .await
        .unwrap();
}

async fn commands_run(pods: &Api<Pod>) {
    let noise: Vec<u8> = (0..2_000_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let params = AttachParams::default().container("tools").stdin(true).stderr(false);
    let mut cat = pods.exec("tools", ["cat"], &params).await.unwrap();
    let (mut stdin, mut stdout) = (cat.stdin().unwrap(), cat.stdout().unwrap());
    let sent = noise.clone();
    let writing = tokio::spawn(async move {
        stdin.write_all(&sent).await.unwrap();
        stdin.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    in_time("what cat gives back", stdout.read_to_end(&mut back))
        .await
        .unwrap();
    writing.await.unwrap();
    assert!(back == noise, "{} of {} bytes came back", back.len(), noise.len());

    let script = ["sh", "-c", "echo out; echo err >&2; exit 3"];
    let mut process = pods
        .exec("tools", script, &AttachParams::default().container("tools"))
        .await
        .unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    let status = process.take_status().unwrap();
    process.stdout().unwrap().read_to_string(&mut out).await.unwrap();
    process.stderr().unwrap().read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    let status = in_time("the exit code", status).await.unwrap();
    let cause = &status.details.unwrap().causes.unwrap()[0];
    assert_eq!(
        (cause.reason.as_deref(), cause.message.as_deref()),
        (Some("ExitCode"), Some("3"))
    );
}

async fn a_terminal_has_a_size(pods: &Api<Pod>) {
    let script = [
        "sh",
        "-c",
        "until [ \"$(stty size)\" = '33 77' ]; do sleep 0.1; done; echo sized",
    ];
    let mut shell = pods
        .exec("tools", script, &AttachParams::interactive_tty().container("tools"))
        .await
        .unwrap();
    use futures::SinkExt;
    let mut sizes = shell.terminal_size().unwrap();
    sizes.send(TerminalSize { width: 77, height: 33 }).await.unwrap();
    let mut out = String::new();
    in_time("the size", shell.stdout().unwrap().read_to_string(&mut out))
        .await
        .unwrap();
    assert_eq!(out, "sized\r\n");
}

async fn logs_are_followed(pods: &Api<Pod>) {
    let params = LogParams {
        container: Some("tools".to_owned()),
        follow: true,
        ..LogParams::default()
    };
    let mut lines = pods.log_stream("tools", &params).await.unwrap().lines();
    for expected in ["line 1", "line 2", "line 3"] {
        assert_eq!(in_time("a line", lines.try_next()).await.unwrap().unwrap(), expected);
    }
}

async fn ports_are_forwarded(pods: &Api<Pod>) {
    let mut forward = pods.portforward("tools", &[80, 81]).await.unwrap();
    let mut stream = forward.take_stream(80).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    in_time("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK"), "{answer}");
    let why = in_time("the closed port's error", forward.take_error(81).unwrap()).await;
    assert!(why.as_deref().is_some_and(|why| why.contains("refused")), "{why:?}");
}

async fn an_eviction_ends_a_pod(pods: &Api<Pod>) {
    let uid = pods.get("tools").await.unwrap().uid().unwrap();
    pods.evict("tools", &Default::default()).await.unwrap();
    settled(pods, "tools", conditions::is_deleted(&uid)).await;
}
