use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, VersionMatch, WatchEvent, WatchParams},
    runtime::watcher,
};
use serde_json::json;

use super::*;
use crate::control_plane::{rbac, storage};

pub(super) fn server() -> ApiServer {
    server_of(Store::default())
}

fn server_of(store: Store) -> ApiServer {
    ApiServer::new(ApiServerConfig {
        store,
        token_key: Arc::new(TokenKey::generate().unwrap()),
        ca_certificate: "the CA".to_owned(),
        address: "127.0.0.1:6443".to_owned(),
        services: "10.96.0.0/16".parse().unwrap(),
        snapshots: None,
    })
}

fn client(server: &ApiServer) -> kube::Client {
    server.client(&Component::new(UserInfo::master("test"), "test"))
}

fn code(error: kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"a": "1"}})).unwrap()
}

#[tokio::test]
async fn a_new_cluster_has_its_namespaces_and_their_objects() {
    let client = client(&server());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let names: Vec<String> = namespaces
        .list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let kubernetes: Service = Api::default_namespaced(client.clone()).get("kubernetes").await.unwrap();
    assert_eq!(kubernetes.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.1"));
    let roots: ConfigMap = Api::namespaced(client, "kube-system")
        .get("kube-root-ca.crt")
        .await
        .unwrap();
    assert_eq!(roots.data.unwrap()["ca.crt"], "the CA");
}

#[tokio::test]
async fn a_store_of_before_the_policy_gets_it_at_the_start() {
    let store = Store::default();
    drop(server_of(store.clone()));
    for collection in ["roles", "rolebindings", "clusterroles", "clusterrolebindings"] {
        let collection = storage::CollectionKey::new(rbac::GROUP, collection);
        for object in store.list(&collection, None).items {
            let key = collection.object(meta::namespace(&object), meta::name(&object));
            store.delete(&key, None).unwrap();
        }
    }
    let server = server_of(store);
    let jane = server.client(&Component::new(UserInfo::new("jane", &[]), "test"));
    assert!(!jane.list_core_api_versions().await.unwrap().versions.is_empty());
    let pods: Api<Pod> = Api::default_namespaced(jane);
    assert_eq!(code(pods.list(&ListParams::default()).await.unwrap_err()), 403);
}

#[tokio::test]
async fn objects_live_through_their_verbs() {
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server()));
    let created = api.create(&PostParams::default(), &config_map("x")).await.unwrap();
    assert!(created.uid().is_some() && created.creation_timestamp().is_some());
    assert_eq!(
        code(api.create(&PostParams::default(), &config_map("x")).await.unwrap_err()),
        409
    );
    let patch = json!({"data": {"a": null, "b": "2"}});
    let patched = api
        .patch("x", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(
        patched.data.clone().unwrap().into_iter().collect::<Vec<_>>(),
        [("b".to_owned(), "2".to_owned())]
    );
    // The first revision is stale now.
    assert_eq!(
        code(api.replace("x", &PostParams::default(), &created).await.unwrap_err()),
        409
    );
    api.replace("x", &PostParams::default(), &patched).await.unwrap();
    api.delete("x", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(api.get("x").await.unwrap_err()), 404);
    let nowhere: Api<ConfigMap> = Api::namespaced(api.into_client(), "nowhere");
    assert_eq!(
        code(
            nowhere
                .create(&PostParams::default(), &config_map("x"))
                .await
                .unwrap_err()
        ),
        404
    );
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server()));
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&dry, &config_map("x")).await.unwrap();
    assert_eq!(code(api.get("x").await.unwrap_err()), 404);
}

#[tokio::test]
async fn pages_hold_everything_once() {
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server()));
    for n in 0..7 {
        api.create(&PostParams::default(), &config_map(&format!("page-{n}")))
            .await
            .unwrap();
    }
    let mut names = Vec::new();
    let mut params = ListParams::default().limit(3);
    loop {
        let page = api.list(&params).await.unwrap();
        names.extend(page.items.iter().map(ResourceExt::name_any));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => break,
        }
    }
    let expected: Vec<String> = std::iter::once("kube-root-ca.crt".to_owned())
        .chain((0..7).map(|n| format!("page-{n}")))
        .collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_page_after_too_many_changes_is_expired_and_says_how_to_go_on() {
    let server = server();
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server));
    for n in 0..4 {
        let map = config_map(&format!("page-{n}"));
        api.create(&PostParams::default(), &map).await.unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    let next = |token: &str| ListParams::default().limit(2).continue_token(token);
    let token = first.metadata.continue_.unwrap();
    for n in 0..2000 {
        let patch = Patch::Merge(json!({"data": {"n": n.to_string()}}));
        api.patch("page-3", &PatchParams::default(), &patch).await.unwrap();
    }
    let Err(kube::Error::Api(status)) = api.list(&next(&token)).await else {
        panic!("the history is not endless")
    };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    let metadata = status.metadata.unwrap();
    let rest = api.list(&next(&metadata.continue_.unwrap())).await.unwrap();
    let names: Vec<String> = rest.items.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["page-1", "page-2"]);
    assert_eq!(
        rest.metadata.resource_version.unwrap(),
        server.store().revision().to_string()
    );
}

#[tokio::test]
async fn an_earlier_state_is_listed_on_demand() {
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server()));
    api.create(&PostParams::default(), &config_map("early")).await.unwrap();
    let then = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    api.create(&PostParams::default(), &config_map("late")).await.unwrap();
    for (params, expected) in [
        (ListParams::default().at(&then).matching(VersionMatch::Exact), 2),
        (ListParams::default().at(&then).matching(VersionMatch::NotOlderThan), 3),
        (ListParams::default().at(&then), 3),
        // Without a choice, a page is exact.
        (ListParams::default().at(&then).limit(100), 2),
    ] {
        let listed = api.list(&params).await.unwrap();
        assert_eq!(listed.items.len(), expected, "{params:?}");
    }
}

#[tokio::test]
async fn a_watch_with_a_selector_sees_objects_come_and_go() {
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server()));
    let params = WatchParams::default().labels("app=x");
    let start = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    let mut events = api.watch(&params, &start).await.unwrap().boxed();
    api.create(&PostParams::default(), &config_map("x")).await.unwrap();
    api.create(&PostParams::default(), &config_map("y")).await.unwrap();
    for label in ["other", "x"] {
        let patch = json!({"metadata": {"labels": {"app": label}}});
        api.patch("x", &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }
    api.delete("x", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(match events.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(object) => format!("+{}", object.name_any()),
            WatchEvent::Modified(object) => format!("~{}", object.name_any()),
            WatchEvent::Deleted(object) => format!("-{}", object.name_any()),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["+x", "-x", "+x", "-x"]);
}

#[tokio::test]
async fn kubes_watcher_works_in_both_of_its_ways() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let api: Api<ConfigMap> = Api::default_namespaced(client(&server()));
        api.create(&PostParams::default(), &config_map("x")).await.unwrap();
        let mut events = watcher(api.clone(), config).boxed();
        let mut initial = Vec::new();
        loop {
            match events.try_next().await.unwrap().unwrap() {
                watcher::Event::Init => {}
                watcher::Event::InitApply(object) => initial.push(object.name_any()),
                watcher::Event::InitDone => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(initial, ["kube-root-ca.crt", "x"]);
        api.delete("x", &DeleteParams::default()).await.unwrap();
        match events.try_next().await.unwrap().unwrap() {
            watcher::Event::Delete(object) => assert_eq!(object.name_any(), "x"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_watch_from_a_forgotten_revision_is_told_so() {
    let server = ApiServer::new(ApiServerConfig {
        store: Store::new(crate::control_plane::storage::Limits {
            history: 2,
            watcher_buffer: 16,
            ..Default::default()
        }),
        token_key: Arc::new(TokenKey::generate().unwrap()),
        ca_certificate: String::new(),
        address: String::new(),
        services: "10.96.0.0/16".parse().unwrap(),
        snapshots: None,
    });
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let mut events = api.watch(&WatchParams::default(), "1").await.unwrap().boxed();
    match events.try_next().await.unwrap().unwrap() {
        WatchEvent::Error(status) => assert_eq!((status.code, status.reason.as_str()), (410, "Expired")),
        other => panic!("{other:?}"),
    }
}

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap()
}

#[tokio::test]
async fn a_pod_is_admitted_bound_and_deleted_with_grace() {
    let client = client(&server());
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let created = api.create(&PostParams::default(), &pod("x")).await.unwrap();
    let spec = created.spec.unwrap();
    assert_eq!(spec.service_account_name.as_deref(), Some("default"));
    assert_eq!(spec.volumes.unwrap().len(), 1);
    assert_eq!(
        spec.containers[0].volume_mounts.as_ref().unwrap()[0].mount_path,
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert_eq!(created.status.unwrap().phase.as_deref(), Some("Pending"));
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "x"}, "target": {"kind": "Node", "name": "n"}});
    let bind = || {
        let request = http::Request::post("/api/v1/namespaces/default/pods/x/binding")
            .body(binding.to_string().into_bytes())
            .unwrap();
        client.request::<serde_json::Value>(request)
    };
    bind().await.unwrap();
    assert_eq!(code(bind().await.unwrap_err()), 409);
    let bound = api.get("x").await.unwrap();
    assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("n"));
    assert_eq!(bound.status.unwrap().conditions.unwrap()[0].type_, "PodScheduled");
    let deleted = api.delete("x", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(deleted.metadata.deletion_grace_period_seconds, Some(30));
    api.delete("x", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert_eq!(code(api.get("x").await.unwrap_err()), 404);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server()));
    let mut held = config_map("x");
    held.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
    api.create(&PostParams::default(), &held).await.unwrap();
    let params = DeleteParams::foreground();
    let pending = api.delete("x", &params).await.unwrap().left().unwrap();
    assert!(pending.metadata.deletion_timestamp.is_some());
    assert_eq!(pending.finalizers(), ["example.com/hold", "foregroundDeletion"]);
    let patch = json!({"metadata": {"finalizers": null}});
    api.patch("x", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(code(api.get("x").await.unwrap_err()), 404);
}

#[tokio::test]
async fn nothing_new_enters_a_namespace_that_is_going() {
    let client = client(&server());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let shop: Namespace = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    namespaces.create(&PostParams::default(), &shop).await.unwrap();
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    let inside: Api<ConfigMap> = Api::namespaced(client.clone(), "shop");
    assert_eq!(
        code(
            inside
                .create(&PostParams::default(), &config_map("x"))
                .await
                .unwrap_err()
        ),
        403
    );
    let mut going = namespaces.get("shop").await.unwrap();
    assert_eq!(going.status.as_ref().unwrap().phase.as_deref(), Some("Terminating"));
    going.spec.as_mut().unwrap().finalizers = None;
    let body = serde_json::to_vec(&going).unwrap();
    let request = http::Request::put("/api/v1/namespaces/shop/finalize")
        .body(body)
        .unwrap();
    client.request::<serde_json::Value>(request).await.unwrap();
    assert_eq!(code(namespaces.get("shop").await.unwrap_err()), 404);
    assert_eq!(
        code(
            namespaces
                .delete("default", &DeleteParams::default())
                .await
                .unwrap_err()
        ),
        403
    );
}

#[tokio::test]
async fn services_get_addresses_that_nobody_has() {
    let api: Api<Service> = Api::default_namespaced(client(&server()));
    let service = |name: &str, address: Option<&str>| -> Service {
        serde_json::from_value(
            json!({"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}}),
        )
        .unwrap()
    };
    let address = |service: Service| service.spec.unwrap().cluster_ip.unwrap();
    let first = address(api.create(&PostParams::default(), &service("a", None)).await.unwrap());
    let second = address(api.create(&PostParams::default(), &service("b", None)).await.unwrap());
    assert!(first.starts_with("10.96.") && second.starts_with("10.96.") && first != second);
    for bad in [first.as_str(), "10.97.0.1", "nonsense"] {
        assert_eq!(
            code(
                api.create(&PostParams::default(), &service("c", Some(bad)))
                    .await
                    .unwrap_err()
            ),
            422,
            "{bad}"
        );
    }
    assert_eq!(
        address(
            api.create(&PostParams::default(), &service("d", Some("10.96.0.10")))
                .await
                .unwrap()
        ),
        "10.96.0.10"
    );
    assert_eq!(
        address(
            api.create(&PostParams::default(), &service("e", Some("None")))
                .await
                .unwrap()
        ),
        "None"
    );
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(
        address(
            api.create(&PostParams::default(), &service("f", Some(&first)))
                .await
                .unwrap()
        ),
        first
    );
}

#[tokio::test]
async fn an_ephemeral_container_can_be_added_and_nothing_else_with_it() {
    let api: Api<Pod> = Api::default_namespaced(client(&server()));
    api.create(&PostParams::default(), &pod("x")).await.unwrap();
    let patch =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"ephemeralContainers": [{"name": "o", "image": "i"}]}});
    let patched = api
        .patch_ephemeral_containers("x", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    assert_eq!(patched.spec.unwrap().ephemeral_containers.unwrap()[0].name, "o");
    assert_eq!(patched.metadata.labels, None);
}

#[tokio::test]
async fn status_and_the_rest_are_written_apart() {
    let api: Api<Pod> = Api::default_namespaced(client(&server()));
    api.create(&PostParams::default(), &pod("x")).await.unwrap();
    let both = json!({"spec": {"activeDeadlineSeconds": 5}, "status": {"phase": "Running"}});
    let patched = api
        .patch("x", &PatchParams::default(), &Patch::Merge(&both))
        .await
        .unwrap();
    assert_eq!(patched.status.unwrap().phase.as_deref(), Some("Pending"));
    let both = json!({"spec": {"activeDeadlineSeconds": 3}, "status": {"phase": "Running"}});
    let patched = api
        .patch_status("x", &PatchParams::default(), &Patch::Merge(&both))
        .await
        .unwrap();
    assert_eq!(patched.status.unwrap().phase.as_deref(), Some("Running"));
    assert_eq!(patched.spec.unwrap().active_deadline_seconds, Some(5));
}

/// What the server answers to one request, as code and body.
async fn ask(server: &ApiServer, method: &str, path: &str, media: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    use http_body_util::{BodyExt, Full};
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let patience = patience::Patience::default().body;
    let enter = |_: &http::request::Parts| Ok((UserInfo::master("test"), None));
    let response = server.handle(request, patience, enter).await;
    let code = response.status().as_u16();
    (code, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn malformed_requests_get_a_status() {
    let server = server();
    let json = "application/json";
    let configs = "/api/v1/namespaces/default/configmaps";
    let root = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";
    let merge = "application/merge-patch+json";
    let apply = "application/apply-patch+yaml";
    let mut wrong = Vec::new();
    for (method, path, media, body, expected) in [
        ("POST", configs, json, "", 400),
        ("POST", configs, json, "[]", 400),
        ("POST", configs, json, "null", 400),
        ("POST", configs, json, "{", 400),
        ("POST", configs, json, "{\"metadata\":[]}", 400),
        ("POST", configs, json, "{}", 422),
        (
            "POST",
            configs,
            json,
            "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"x\"}}",
            400,
        ),
        ("POST", configs, "text/html", "<html>", 415),
        (
            "POST",
            configs,
            "application/vnd.kubernetes.protobuf",
            "k8s\0nonsense",
            400,
        ),
        ("POST", "/api/v1/configmaps", json, "{}", 405),
        ("POST", "/api/v1/namespaces/default/pods/x/eviction", json, "{}", 404),
        ("POST", "/api/v1/namespaces/default/pods/x/binding", json, "{}", 400),
        ("PUT", root, json, "{\"metadata\":{\"name\":\"other\"}}", 400),
        ("PATCH", root, merge, "3", 400),
        ("PATCH", root, merge, "{\"metadata\":null}", 400),
        ("PATCH", root, "application/json-patch+json", "{}", 400),
        (
            "PATCH",
            root,
            "application/json-patch+json",
            "[{\"op\":\"test\",\"path\":\"/a\",\"value\":1}]",
            422,
        ),
        ("PATCH", root, "text/plain", "{}", 415),
        ("PATCH", root, apply, "a: [", 422),
        ("PATCH", &format!("{root}?fieldManager=me"), apply, "a: [", 400),
        ("DELETE", root, json, "{\"gracePeriodSeconds\":\"x\"}", 400),
        ("DELETE", &format!("{root}?propagationPolicy=Never"), json, "", 422),
        ("GET", &format!("{configs}?limit=x"), json, "", 400),
        ("GET", &format!("{configs}?continue=x"), json, "", 400),
        ("GET", &format!("{configs}?labelSelector=a+in"), json, "", 400),
        ("GET", &format!("{configs}?fieldSelector=spec.x=1"), json, "", 400),
        ("GET", &format!("{configs}?resourceVersion=99999999"), json, "", 504),
        ("GET", &format!("{configs}?watch=1&resourceVersion=x"), json, "", 400),
        ("GET", "/api/v1/namespaces/default/pods/%ff", json, "", 400),
        ("GET", "/apis/nobody/v1/things", json, "", 404),
        ("GET", "/nothing", json, "", 404),
        ("TRACE", root, json, "", 405),
    ] {
        let (code, answer) = ask(&server, method, path, media, body.as_bytes().to_vec()).await;
        let status: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        if (code, &status["kind"]) != (expected, &json!("Status")) {
            wrong.push(format!("{method} {path} {body:?}: {code}, not {expected}: {status}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (code, answer) = ask(&server, "POST", configs, json, vec![b' '; MAX_BODY + 1]).await;
    let status: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((code, &status["reason"]), (413, &json!("RequestEntityTooLarge")));
    assert_eq!(status["message"], "Request entity too large: limit is 3145728");
}

#[tokio::test]
async fn odd_objects_never_make_it_panic() {
    let server = server();
    let odd = [
        json!(null),
        json!(3),
        json!("x"),
        json!([]),
        json!([null]),
        json!([3]),
        json!([{}]),
        json!({}),
        json!({"a": null}),
    ];
    for (resource, group) in server
        .registry()
        .iter()
        .map(|kind| (kind.plural.clone(), kind.group.clone()))
        .collect::<Vec<_>>()
    {
        let kind = server
            .registry()
            .iter()
            .find(|kind| kind.plural == resource && kind.group == group)
            .unwrap()
            .clone();
        let prefix = if group.is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{group}/{}", kind.version)
        };
        let namespace = if kind.namespaced { "/namespaces/default" } else { "" };
        let path = format!("{prefix}{namespace}/{resource}?fieldValidation=Ignore");
        for value in &odd {
            for field in [
                "metadata",
                "spec",
                "status",
                "data",
                "subjects",
                "rules",
                "ports",
                "endpoints",
            ] {
                let mut object = json!({"metadata": {"name": "odd"}});
                object[field] = value.clone();
                let (code, body) = ask(
                    &server,
                    "POST",
                    &path,
                    "application/json",
                    object.to_string().into_bytes(),
                )
                .await;
                assert!(code < 500, "{path} {object}: {}", String::from_utf8_lossy(&body));
            }
        }
    }
}

#[tokio::test]
async fn a_bad_name_is_invalid() {
    let configs = "/api/v1/namespaces/default/configmaps";
    let body = json!({"metadata": {"name": "UPPER"}}).to_string().into_bytes();
    assert_eq!(ask(&server(), "POST", configs, "application/json", body).await.0, 422);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_ended_with_410() {
    let limits = crate::control_plane::storage::Limits {
        history: 16,
        watcher_buffer: 16,
        ..Default::default()
    };
    let server = ApiServer::new(ApiServerConfig {
        store: Store::new(limits),
        token_key: Arc::new(TokenKey::generate().unwrap()),
        ca_certificate: "the CA".to_owned(),
        address: "127.0.0.1:6443".to_owned(),
        services: "10.96.0.0/16".parse().unwrap(),
        snapshots: None,
    });
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let start = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version;
    let events = api.watch(&WatchParams::default(), &start.unwrap()).await.unwrap();
    for n in 0..100 {
        let map = config_map(&format!("flood-{n}"));
        api.create(&PostParams::default(), &map).await.unwrap();
    }
    let seen: Vec<_> = events.try_collect().await.unwrap();
    let (last, before) = seen.split_last().unwrap();
    assert!(
        before.len() <= 32,
        "{} events were kept for a slow watcher",
        before.len()
    );
    assert!(before.iter().all(|event| matches!(event, WatchEvent::Added(_))));
    assert!(
        matches!(last, WatchEvent::Error(status) if status.code == 410 && status.reason == "Expired"),
        "{last:?}"
    );
}

#[tokio::test]
async fn a_refusal_names_what_was_asked_as_kubernetes_does() {
    let nobody = UserInfo {
        groups: Vec::new(),
        ..UserInfo::new("jane", &[])
    };
    let pods: Api<Pod> = Api::default_namespaced(server().client(&Component::new(nobody, "test")));
    let message = |error: kube::Error| match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("{other}"),
    };
    assert_eq!(
        message(pods.list(&ListParams::default()).await.unwrap_err()),
        r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#
    );
    assert_eq!(
        message(pods.logs("x", &kube::api::LogParams::default()).await.unwrap_err()),
        r#"pods "x" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "default""#
    );
}

#[tokio::test]
async fn a_token_ends_with_an_account_that_only_a_finalizer_holds() {
    use k8s_openapi::api::core::v1::ServiceAccount;
    let server = server();
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client(&server));
    let account = json!({"metadata": {"name": "robot", "finalizers": ["example.com/hold"]}});
    let account = serde_json::from_value(account).unwrap();
    let account = accounts.create(&PostParams::default(), &account).await.unwrap();
    let asked = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let answer = accounts
        .create_token_request("robot", &PostParams::default(), &asked)
        .await
        .unwrap();
    let token = answer.status.unwrap().token;
    let who = || authn::service_account(&server, &token, &[authn::ISSUER]);
    assert_eq!(who().unwrap().0.uid, account.uid());
    accounts.delete("robot", &DeleteParams::default()).await.unwrap();
    // For as long as a clock may be wrong.
    assert!(who().is_ok());
    let key = storage::CollectionKey::new("", "serviceaccounts").object("default", "robot");
    let mut held = (*server.store().get(&key).unwrap()).clone();
    held["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
    server.store().update(&key, None, held).unwrap();
    assert_eq!(who().unwrap_err().code(), 401);
}
