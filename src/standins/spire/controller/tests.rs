//! The loop against a scripted API server and, where it matters, this crate's own server on its admin socket.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::Stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::watch;
use tonic::Status;
use ztlab_identity::TrustDomain;

use super::{
    config::Config,
    run,
    server::{Entries, Refused, Server},
    testing,
};
use crate::{
    api::types,
    ca::{Settings, Subject},
    clock::SystemClock,
    server::{Core, attestation::Attestors},
    store::Places,
    transport,
};

/// The objects of a cluster, listed, watched and patched as the Kubernetes API does it.
#[derive(Default)]
struct Cluster {
    /// By the path of their collection and their names.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    /// What happened, in order: the revision is the index plus one.
    events: Vec<(String, Value)>,
}

#[derive(Clone)]
struct Api {
    cluster: Arc<Mutex<Cluster>>,
    changed: watch::Sender<usize>,
}

type Answer = Response<BoxBody<bytes::Bytes, std::convert::Infallible>>;

const IDS: &str = "/apis/spire.spiffe.io/v1alpha1/clusterspiffeids";
const STATIC: &str = "/apis/spire.spiffe.io/v1alpha1/clusterstaticentries";
const FEDERATED: &str = "/apis/spire.spiffe.io/v1alpha1/clusterfederatedtrustdomains";
const PODS: &str = "/api/v1/pods";
const NODES: &str = "/api/v1/nodes";
const NAMESPACES: &str = "/api/v1/namespaces";

impl Api {
    fn new() -> Self {
        Self {
            cluster: Arc::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, std::convert::Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    fn happens(&self, kind: &str, collection: &str, mut object: Value) {
        let mut cluster = self.cluster.lock().unwrap();
        let revision = cluster.events.len() + 1;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let objects = cluster.objects.entry(collection.into()).or_default();
        if kind == "DELETED" {
            objects.remove(&name);
        } else {
            objects.insert(name, object.clone());
        }
        cluster
            .events
            .push((collection.into(), json!({"type": kind, "object": object})));
        self.changed.send_replace(revision);
    }

    fn put(&self, collection: &str, object: impl serde::Serialize) {
        self.happens("ADDED", collection, serde_json::to_value(object).unwrap());
    }

    fn remove(&self, collection: &str, name: &str) {
        let object = self.get(collection, name);
        self.happens("DELETED", collection, object);
    }

    fn get(&self, collection: &str, name: &str) -> Value {
        self.cluster.lock().unwrap().objects[collection][name].clone()
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default();
        if parts.method == Method::PATCH {
            let bytes = body.collect().await.unwrap().to_bytes();
            return self.patch_status(&path, &serde_json::from_slice(&bytes).unwrap());
        }
        assert_eq!(parts.method, Method::GET, "{path}");
        if query.contains("watch=true") {
            let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
            let from = from.unwrap().parse().unwrap();
            return Response::new(StreamBody::new(self.clone().watched(path, from)).boxed());
        }
        let cluster = self.cluster.lock().unwrap();
        let items: Vec<&Value> = cluster
            .objects
            .get(&path)
            .into_iter()
            .flat_map(BTreeMap::values)
            .collect();
        answer(
            StatusCode::OK,
            &json!({"kind": "List", "apiVersion": "v1",
            "metadata": {"resourceVersion": cluster.events.len().to_string()}, "items": items}),
        )
    }

    fn patch_status(&self, path: &str, patch: &Value) -> Answer {
        let (object, of) = path.rsplit_once('/').unwrap();
        assert_eq!(of, "status", "only a status is written: {path}");
        let (collection, name) = object.rsplit_once('/').unwrap();
        let names: Vec<&String> = patch.as_object().unwrap().keys().collect();
        assert_eq!(names, ["status"]);
        let object = self
            .cluster
            .lock()
            .unwrap()
            .objects
            .get(collection)
            .and_then(|of| of.get(name).cloned());
        let Some(mut object) = object else {
            return answer(
                StatusCode::NOT_FOUND,
                &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "reason": "NotFound", "code": 404, "message": "not found", "metadata": {}}),
            );
        };
        object["status"] = patch["status"].clone();
        self.happens("MODIFIED", collection, object.clone());
        answer(StatusCode::OK, &object)
    }

    fn watched(
        self,
        path: String,
        from: usize,
    ) -> impl Stream<Item = Result<Frame<bytes::Bytes>, std::convert::Infallible>> {
        let changed = self.changed.subscribe();
        futures::stream::unfold((self, changed, from), move |(api, mut changed, mut next)| {
            let path = path.clone();
            async move {
                loop {
                    let event = api.cluster.lock().unwrap().events.get(next).cloned();
                    match event {
                        Some((collection, event)) => {
                            next += 1;
                            if collection == path {
                                let line = format!("{event}\n");
                                return Some((Ok(Frame::data(line.into())), (api, changed, next)));
                            }
                        }
                        None => changed.wait_for(|revision| *revision > next).await.map(drop).ok()?,
                    }
                }
            }
        })
    }

    /// Waits until `holds` is true of the object's status.
    async fn status(&self, collection: &str, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let status = self.get(collection, name)["status"].clone();
            if holds(&status) {
                return status;
            }
            changed.changed().await.unwrap();
        }
    }
}

fn answer(status: StatusCode, value: &Value) -> Answer {
    let body = http_body_util::Full::new(bytes::Bytes::from(value.to_string())).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn config(more: &str) -> Config {
    let text = format!(
        "apiVersion: spire.spiffe.io/v1alpha1\nkind: ControllerManagerConfig\nclusterName: demo\ntrustDomain: shop.test\n\
         clusterDomain: cluster.local\nentryIDPrefix: demo\n{more}"
    );
    Config::parse(&text, || None).unwrap()
}

fn with_nodes() -> Api {
    let api = Api::new();
    api.put(NAMESPACES, testing::namespace("shop"));
    api.put(NODES, testing::node("n1"));
    api
}

fn id_object(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ClusterSPIFFEID",
        "metadata": {"name": name, "uid": name, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
}

/// Runs `test` while entries are kept in step; a test that waits for ever fails.
async fn while_kept(config: &Config, api: &Api, server: &dyn Entries, test: impl Future<Output = ()>) {
    let client = api.client();
    let both = async {
        tokio::select! {
            () = run::keep(config, &client, server, || {}) => panic!("it gave up"),
            () = test => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .expect("what was waited for came");
}

struct RealServer {
    directory: tempfile::TempDir,
}

impl RealServer {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            trust_domain: TrustDomain::new("shop.test").unwrap(),
            ca_ttl: Duration::from_secs(86_400),
            x509_svid_ttl: Duration::from_secs(3600),
            jwt_svid_ttl: Duration::from_secs(300),
            agent_ttl: Duration::from_secs(3600),
            subject: Subject::of_an_authority(),
            jwt_issuer: None,
        };
        let places = Places::in_directory(directory.path());
        let core = Core::new(settings, places, Attestors::new(), Arc::new(SystemClock)).unwrap();
        let listener = transport::listen_unix(&directory.path().join("api.sock"), false).unwrap();
        tokio::spawn(async move { core.serve_admin(listener, std::future::pending()).await });
        Self { directory }
    }

    fn client(&self) -> Server {
        Server::at(self.directory.path().join("api.sock"))
    }
}

fn shown(entries: &[types::Entry]) -> Vec<String> {
    let mut ids: Vec<String> = entries
        .iter()
        .map(|entry| entry.spiffe_id.as_ref().map(|id| id.path.clone()).unwrap_or_default())
        .collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn the_servers_entries_follow_the_cluster() {
    let (api, real) = (with_nodes(), RealServer::start());
    let server = real.client();
    let by_hand = testing_entry("/by/hand");
    assert_eq!(server.create(vec![by_hand.clone()]).await.unwrap(), [None]);
    api.put(PODS, testing::pod("shop", "orders-1", "orders"));
    api.put(
        IDS,
        id_object(
            "all",
            json!({"spiffeIDTemplate": "spiffe://shop.test/{{ .PodMeta.Name }}", "ttl": "10m"}),
        ),
    );
    let config = config("gcInterval: 1h");
    while_kept(&config, &api, &server, async {
        let set = |count: u32| move |status: &Value| status["stats"]["entriesToSet"] == count;
        let status = api.status(IDS, "all", set(1)).await;
        assert_eq!(status["conditions"][0]["status"], "True", "{status}");
        assert_eq!(status["conditions"][0]["observedGeneration"], 1);
        assert_eq!(shown(&server.list().await.unwrap()), ["/by/hand", "/orders-1"]);
        api.put(PODS, testing::pod("shop", "ledger-1", "ledger"));
        api.status(IDS, "all", set(2)).await;
        assert_eq!(
            shown(&server.list().await.unwrap()),
            ["/by/hand", "/ledger-1", "/orders-1"]
        );
        api.remove(PODS, "orders-1");
        api.status(IDS, "all", set(1)).await;
        let entries = server.list().await.unwrap();
        assert_eq!(shown(&entries), ["/by/hand", "/ledger-1"]);
        let made = entries
            .iter()
            .find(|entry| entry.id.starts_with("demo."))
            .expect("its id has the prefix");
        assert_eq!((made.x509_svid_ttl, made.selectors.len()), (600, 1));
        let id = made.id.clone();
        api.put(
            IDS,
            id_object(
                "all",
                json!({"spiffeIDTemplate": "spiffe://shop.test/{{ .PodMeta.Name }}", "hint": "h",
            "podSelector": {"matchLabels": {"app": "ledger"}}}),
            ),
        );
        api.status(IDS, "all", |status| status["stats"]["podsSelected"] == 1)
            .await;
        let changed = server.list().await.unwrap().into_iter().find(|entry| entry.id == id);
        assert_eq!(
            changed.map(|entry| (entry.x509_svid_ttl, entry.hint)),
            Some((0, "h".into()))
        );
    })
    .await;
    assert!(
        server
            .list()
            .await
            .unwrap()
            .iter()
            .any(|entry| entry.hint == by_hand.hint && !entry.id.starts_with("demo."))
    );
}

#[tokio::test]
async fn what_the_server_refuses_is_said_in_the_status() {
    let (api, real) = (with_nodes(), RealServer::start());
    api.put(PODS, testing::pod("shop", "orders-1", "orders"));
    api.put(
        IDS,
        id_object(
            "federated",
            json!({"spiffeIDTemplate": "spiffe://shop.test/a", "federatesWith": ["partner.test"]}),
        ),
    );
    api.put(
        IDS,
        id_object(
            "broken",
            json!({"spiffeIDTemplate": "spiffe://shop.test/{{ .PodMeta.Nmae }}"}),
        ),
    );
    api.put(
        STATIC,
        json!({"metadata": {"name": "reserved"}, "spec": {"spiffeID": "spiffe://shop.test/spire/server",
        "parentID": "spiffe://shop.test/spire/agent/x", "selectors": ["unix:uid:1"]}}),
    );
    api.put(
        FEDERATED,
        json!({"metadata": {"name": "partner"}, "spec": {"trustDomain": "partner.test",
        "bundleEndpointURL": "https://partner.test", "bundleEndpointProfile": {"type": "https_web"}}}),
    );
    let (config, server) = (config(""), real.client());
    while_kept(&config, &api, &server, async {
        let status = api
            .status(IDS, "federated", |status| status["stats"]["entryFailures"] == 1)
            .await;
        let condition = &status["conditions"][0];
        assert_eq!(
            (condition["status"].as_str(), condition["reason"].as_str()),
            (Some("False"), Some("EntryRefused"))
        );
        assert!(
            condition["message"].as_str().unwrap().contains("partner.test"),
            "{condition}"
        );
        let status = api
            .status(IDS, "broken", |status| status["stats"]["podEntryRenderFailures"] == 1)
            .await;
        let message = status["conditions"][0]["message"].as_str().unwrap();
        assert!(
            message.contains("shop/orders-1") && message.contains("Nmae"),
            "{message}"
        );
        let status = api
            .status(STATIC, "reserved", |status| status["rendered"] == true)
            .await;
        assert_eq!(
            (&status["set"], &status["masked"]),
            (&json!(false), &json!(false)),
            "{status}"
        );
        assert_eq!(status["conditions"][0]["reason"], "EntryRefused");
        let status = api
            .status(FEDERATED, "partner", |status| status["conditions"].is_array())
            .await;
        assert_eq!(status["conditions"][0]["reason"], "NotFederated");
        assert!(server.list().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for_and_a_lost_memory_is_filled_again() {
    let api = with_nodes();
    api.put(PODS, testing::pod("shop", "orders-1", "orders"));
    api.put(
        IDS,
        id_object(
            "all",
            json!({"spiffeIDTemplate": "spiffe://shop.test/{{ .PodMeta.Name }}"}),
        ),
    );
    let memory = Memory::default();
    memory.lock().unwrap().away = true;
    let config = config("gcInterval: 100ms");
    while_kept(&config, &api, &memory, async {
        let asked = |memory: &Memory| memory.lock().unwrap().asked;
        wait(|| asked(&memory) >= 2).await;
        assert_eq!(api.get(IDS, "all")["status"], Value::Null);
        memory.lock().unwrap().away = false;
        wait(|| memory.lock().unwrap().entries.len() == 1).await;
        memory.lock().unwrap().entries.clear();
        wait(|| memory.lock().unwrap().entries.len() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_deleted_before_everything_was_seen() {
    // The pods' list does not come: what their entries are is not known, so none may be called superfluous.
    let api = with_nodes();
    let memory = Memory::default();
    memory.lock().unwrap().entries = vec![types::Entry {
        id: "demo.1".into(),
        ..testing_entry("/orders-1")
    }];
    let (config, inner) = (config("gcInterval: 1ms"), api.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let api = inner.clone();
        async move {
            if request.uri().path() == PODS {
                std::future::pending::<()>().await;
            }
            Ok::<_, std::convert::Infallible>(api.answer(request).await)
        }
    });
    let client = Client::new(service, "default");
    let kept = tokio::time::timeout(Duration::from_millis(300), run::keep(&config, &client, &memory, || {}));
    assert!(kept.await.is_err(), "it waits for the pods");
    assert_eq!(memory.lock().unwrap().entries.len(), 1);
    assert_eq!(memory.lock().unwrap().asked, 0);
}

async fn wait(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn testing_entry(path: &str) -> types::Entry {
    let id = |path: &str| {
        Some(types::Spiffeid {
            trust_domain: "shop.test".into(),
            path: path.into(),
        })
    };
    types::Entry {
        spiffe_id: id(path),
        parent_id: id("/spire/agent/x"),
        selectors: vec![types::Selector {
            r#type: "unix".into(),
            value: "uid:0".into(),
        }],
        hint: "by hand".into(),
        ..types::Entry::default()
    }
}

/// A server that forgets, and that can be away.
#[derive(Default)]
struct Remembered {
    entries: Vec<types::Entry>,
    away: bool,
    asked: usize,
}

type Memory = Mutex<Remembered>;

#[async_trait]
impl Entries for Memory {
    async fn list(&self) -> Result<Vec<types::Entry>, Status> {
        let mut memory = self.lock().unwrap();
        memory.asked += 1;
        if memory.away {
            return Err(Status::unavailable("not yet"));
        }
        Ok(memory.entries.clone())
    }

    async fn create(&self, entries: Vec<types::Entry>) -> Result<Vec<Refused>, Status> {
        let answers = vec![None; entries.len()];
        self.lock().unwrap().entries.extend(entries);
        Ok(answers)
    }

    async fn update(&self, entries: Vec<types::Entry>) -> Result<Vec<Refused>, Status> {
        Ok(vec![None; entries.len()])
    }

    async fn delete(&self, ids: Vec<String>) -> Result<Vec<Refused>, Status> {
        self.lock().unwrap().entries.retain(|entry| !ids.contains(&entry.id));
        Ok(vec![None; ids.len()])
    }
}

#[test]
fn the_configuration_is_named_as_go_reads_flags() {
    let read =
        |arguments: &[&str]| super::config_of(arguments.iter().map(Into::into)).map_err(|error| error.to_string());
    for arguments in [
        &["-config", "a.yaml"] as &[&str],
        &["--config", "a.yaml"],
        &["-config=a.yaml"],
        &["--config=a.yaml"],
    ] {
        assert_eq!(read(arguments), Ok("a.yaml".into()), "{arguments:?}");
    }
    for arguments in [
        &[] as &[&str],
        &["-config"],
        &["a.yaml"],
        &["-kubeconfig", "x"],
        &["--expand-env"],
    ] {
        assert!(
            read(arguments)
                .unwrap_err()
                .contains("usage: spire-controller-manager -config FILE")
        );
    }
}

#[test]
fn the_clusters_domain_is_in_a_pods_search_list() {
    let found =
        super::cluster_domain("nameserver 10.96.0.10\nsearch spire.svc.ztlab.local svc.ztlab.local ztlab.local\n");
    assert_eq!(found.as_deref(), Some("ztlab.local"));
    assert_eq!(super::cluster_domain("search example.org\n"), None);
}
