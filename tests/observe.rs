//! Observer, capture, names and probes in a real embedded cluster.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, process::Command, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{await_condition, conditions::is_pod_running},
};
use serde_json::json;
use ztlab::{
    capture::{
        CaptureError, CaptureRequest, Names, Pods, Recorder, Scope, TrafficEvent, observer, traffic, traffic_of,
    },
    evidence::{Phase, ProbeOutcome},
    packet::{FlowVerdict, Message, PlaceKind, Protocol},
    probe::{HttpProbe, ProbeKind, ProbeRequest, run},
};

const CLUSTER: &str = "observe-test";

/// A cluster that goes with the test.
struct Cluster {
    home: tempfile::TempDir,
}

impl Cluster {
    fn ztlab(&self, args: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_ztlab"))
            .args(args)
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .env("XDG_RUNTIME_DIR", self.home.path().join("run"))
            .output()
            .unwrap()
    }

    fn create() -> Option<Self> {
        let cluster = Self {
            home: tempfile::tempdir().unwrap(),
        };
        let run = cluster.home.path().join("run");
        std::fs::create_dir(&run).unwrap();
        std::fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let made = cluster.ztlab(&["cluster", "create", CLUSTER]);
        if made.status.success() {
            return Some(cluster);
        }
        let why = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(std::env::var_os("CI").is_none(), "no embedded cluster here: {why}");
        eprintln!("SKIPPED: no embedded cluster here: {why}");
        None
    }

    async fn client(&self) -> Client {
        let path: PathBuf = self
            .home
            .path()
            .join("state/ztlab/clusters")
            .join(CLUSTER)
            .join("kubeconfig");
        let kubeconfig = Kubeconfig::read_from(path).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        Client::try_from(config).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.ztlab(&["cluster", "delete", CLUSTER]);
    }
}

fn http(url: &str) -> ProbeRequest {
    let kind = ProbeKind::Http(HttpProbe {
        headers: vec![("authorization".into(), "Bearer not-a-real-token".into())],
        ..HttpProbe::new("GET", url)
    });
    ProbeRequest::new("default", "mallory", kind)
}

async fn deploy(client: &Client) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    for (name, image) in [("hello", "nginxdemos/hello"), ("mallory", "ztlab.dev/toolbox:1")] {
        let pod = json!({ "metadata": { "name": name, "labels": { "app": name } },
            "spec": { "containers": [{ "name": name, "image": image }] } });
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
            .await
            .unwrap();
    }
    let service = json!({ "metadata": { "name": "web" },
        "spec": { "selector": { "app": "hello" }, "ports": [{ "port": 80 }] } });
    let services: Api<Service> = Api::default_namespaced(client.clone());
    services
        .create(&PostParams::default(), &serde_json::from_value(service).unwrap())
        .await
        .unwrap();
    for name in ["hello", "mallory"] {
        let running = await_condition(pods.clone(), name, is_pod_running());
        tokio::time::timeout(Duration::from_secs(30), running)
            .await
            .unwrap()
            .unwrap();
    }
}

/// The first message of a capture that is wanted.
async fn message(stream: &mut ztlab::capture::TrafficStream, wanted: impl Fn(&Message) -> bool) -> Message {
    let found = async {
        loop {
            match stream.next().await.unwrap().unwrap() {
                TrafficEvent::Message(message) if wanted(&message) => return *message,
                TrafficEvent::Ended(reason) => panic!("{reason:?}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found)
        .await
        .expect("the message was seen")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mallory_asks_is_answered_and_seen() {
    let Some(cluster) = Cluster::create() else { return };
    let client = cluster.client().await;
    deploy(&client).await;
    let names = Names::watch(&client).await;

    let mut server = traffic(&client, CaptureRequest::pod("default", "hello"), names.clone())
        .await
        .unwrap();
    let mut caller = traffic(&client, CaptureRequest::pod("default", "mallory"), names)
        .await
        .unwrap();
    // A Service's rules follow its endpoints; the first answer shows that they are there.
    let mut request = http("http://web/");
    let mut result = run(&client, request.clone()).await.unwrap();
    for _ in 0..100 {
        if result.outcome.status() == Some(200) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        request = http("http://web/");
        result = run(&client, request.clone()).await.unwrap();
    }
    assert_eq!(result.outcome.status(), Some(200), "{result:?}");
    assert_eq!(result.resolved, [result.peer.unwrap().ip()]);

    // The same request on both sides of the DNAT.
    let ours = |message: &Message| message.probe.as_deref() == Some(&request.id.0) && message.leaks.len() == 1;
    let at_server = message(&mut server, ours).await;
    assert_eq!(at_server.route(), "mallory → hello");
    let point = at_server.point.unwrap();
    assert_eq!(
        (point.pod.as_str(), point.interface.as_deref()),
        ("hello", Some("eth0"))
    );
    let at_caller = message(&mut caller, ours).await;
    assert_eq!(at_caller.route(), "mallory → web");
    assert_eq!(at_caller.to.addr, result.peer.unwrap());
    assert_eq!(
        (at_caller.protocol, at_caller.leaks[0].value.as_str()),
        (Protocol::Http, "not-a-real-token")
    );
    assert!(at_caller.leaks[0].from.is("mallory"));
    drop(server);

    let refused = ProbeKind::Tcp {
        host: "hello-is-no-service".into(),
        port: 80,
    };
    let result = run(&client, ProbeRequest::new("default", "mallory", refused))
        .await
        .unwrap();
    assert_eq!(result.outcome, ProbeOutcome::NoSuchHost);
    let pod: Pod = Api::default_namespaced(client.clone()).get("hello").await.unwrap();
    let host = pod.status.unwrap().pod_ip.unwrap();
    let closed = ProbeKind::Tcp {
        host: host.clone(),
        port: 81,
    };
    let result = run(&client, ProbeRequest::new("default", "mallory", closed))
        .await
        .unwrap();
    assert_eq!(result.outcome, ProbeOutcome::Refused);
    let seen = message(&mut caller, |message| message.summary == "refused the connection").await;
    assert_eq!(seen.route(), "hello → mallory");
    let open = ProbeKind::Tcp { host, port: 80 };
    let result = run(&client, ProbeRequest::new("default", "mallory", open))
        .await
        .unwrap();
    assert_eq!(result.outcome, ProbeOutcome::Connected);
    let kind = ProbeKind::Tcp {
        host: "10.244.255.254".into(),
        port: 80,
    };
    let nobody = ProbeRequest {
        timeout: Duration::from_millis(700),
        ..ProbeRequest::new("default", "mallory", kind)
    };
    let outcome = run(&client, nobody).await.unwrap().outcome;
    assert!(
        matches!(
            outcome,
            ProbeOutcome::TimedOut { phase: Phase::Connect } | ProbeOutcome::Unreachable { .. }
        ),
        "{outcome:?}"
    );

    let filter = CaptureRequest {
        filter: Some("tcp prt 80".into()),
        ..CaptureRequest::pod("default", "hello")
    };
    let error = ztlab::capture::start(&client, filter).await.err().unwrap();
    assert!(matches!(&error, CaptureError::Filter { .. }), "{error}");
    let short = CaptureRequest {
        duration: Some(Duration::from_millis(100)),
        ..CaptureRequest::pod("default", "hello")
    };
    let events: Vec<_> = ztlab::capture::start(&client, short).await.unwrap().collect().await;
    let last = events.last().unwrap().as_ref().unwrap();
    assert_eq!(
        *last,
        ztlab::capture::CaptureEvent::Ended(ztlab::capture::EndReason::Complete)
    );
    // Ended while a conversation goes on: what was seen of it is told and judged.
    caller.ender().cancel();
    let mut rest = Vec::new();
    while let Some(event) = tokio::time::timeout(Duration::from_secs(20), caller.next())
        .await
        .unwrap()
    {
        rest.push(event.unwrap());
    }
    let last = rest.last().unwrap();
    assert_eq!(*last, TrafficEvent::Ended(ztlab::capture::EndReason::Complete));
    let to_nobody = |event: &TrafficEvent| matches!(event, TrafficEvent::Flow(flow) if flow.server.addr.ip().to_string() == "10.244.255.254");
    assert!(rest.iter().any(to_nobody), "{rest:?}");
    let gone = observer::ensure(&client, "default", "nobody").await.err().unwrap();
    assert!(matches!(gone, CaptureError::NoSuchPod { .. }), "{gone}");
    // All of it through one observer a pod.
    let pod: Pod = Api::default_namespaced(client.clone()).get("mallory").await.unwrap();
    assert_eq!(pod.spec.unwrap().ephemeral_containers.unwrap().len(), 1);
}

/// Asks until the Service's rules are there; the answered request.
async fn asked(client: &Client, url: &str) -> ProbeRequest {
    for _ in 0..100 {
        let request = http(url);
        let result = run(client, request.clone()).await.unwrap();
        if result.outcome.status() == Some(200) {
            return request;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{url} was never answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pods_make_one_stream_with_both_names_and_more_may_join() {
    let Some(cluster) = Cluster::create() else { return };
    let client = cluster.client().await;
    deploy(&client).await;
    asked(&client, "http://web/").await;
    let names = Names::watch(&client).await;
    let scope = |pods| Scope {
        namespace: "default".to_owned(),
        pods,
        filter: Some("tcp port 80".to_owned()),
    };
    let named = |names: &[&str]| Pods::Named(names.iter().map(|name| (*name).to_owned()).collect());
    let mut both = traffic_of(&client, scope(named(&["mallory", "hello"])), names.clone())
        .await
        .unwrap();
    let request = asked(&client, "http://web/").await;
    let ours = |message: &Message| message.probe.as_deref() == Some(&request.id.0) && message.leaks.len() == 1;
    let seen = message(&mut both, ours).await;
    assert_eq!(seen.route(), "mallory → web (svc) → hello (pod)");
    assert!(seen.to.is("web") && seen.to.is("hello") && seen.from.became.is_none());
    assert_eq!(seen.also.len(), 1, "{seen:?}");
    let pods = [seen.point.as_ref(), seen.also[0].point.as_ref()].map(|point| point.unwrap());
    assert_eq!(pods.map(|point| point.pod.as_str()), ["mallory", "hello"]);
    assert!(pods.iter().all(|point| point.kind() == PlaceKind::OnTheWire));
    // Once and no more, and the conversation is judged as one.
    let mut recorder = Recorder::new();
    let judged = async {
        loop {
            let event = both.next().await.unwrap().unwrap();
            assert!(
                !matches!(&event, TrafficEvent::Message(message) if ours(message)),
                "seen again"
            );
            recorder.take(1, event);
            let evidence = recorder.evidence();
            // What a probe says is seen, and is nobody's evidence.
            assert_eq!(evidence.flows_from("mallory", "hello").count(), 0);
            let asked = |flow: &&ztlab::packet::Flow| flow.client.is("mallory") && flow.server.is("hello");
            if let Some(flow) = evidence.flows.iter().filter(asked).find(|flow| flow.also.len() == 1) {
                assert!(flow.is_probe());
                return (flow.verdict, flow.server.names());
            }
        }
    };
    let judged = tokio::time::timeout(Duration::from_secs(20), judged).await.unwrap();
    assert_eq!(judged, (FlowVerdict::Readable, "web (svc) → hello (pod)".to_owned()));

    let unknown = traffic_of(&client, scope(named(&["mallory", "nobody"])), names.clone()).await;
    assert!(matches!(unknown.err().unwrap(), CaptureError::NoSuchPod { pod, .. } if pod == "nobody"));
    let invalid = Scope {
        filter: Some("tcp prt 80".to_owned()),
        ..scope(Pods::All)
    };
    let invalid = traffic_of(&client, invalid, names.clone()).await.err().unwrap();
    assert!(matches!(invalid, CaptureError::Filter { .. }), "{invalid}");

    // A pod that comes later joins.
    let mut all = traffic_of(&client, scope(Pods::All), names).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let late = json!({ "metadata": { "name": "late" },
        "spec": { "containers": [{ "name": "late", "image": "ztlab.dev/toolbox:1" }] } });
    pods.create(&PostParams::default(), &serde_json::from_value(late).unwrap())
        .await
        .unwrap();
    let joined = async {
        let mut points = Vec::new();
        loop {
            if let TrafficEvent::Started { point } = all.next().await.unwrap().unwrap() {
                points.push(point.pod);
                if points.iter().any(|pod| pod == "late") {
                    return points;
                }
            }
        }
    };
    let points = tokio::time::timeout(Duration::from_secs(30), joined).await.unwrap();
    assert_eq!(points.len(), 3, "{points:?}");
    pods.delete("late", &kube::api::DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let left = async {
        loop {
            if let TrafficEvent::Left { point, .. } = all.next().await.unwrap().unwrap() {
                return point.pod;
            }
        }
    };
    let left = tokio::time::timeout(Duration::from_secs(30), left).await.unwrap();
    assert_eq!(left, "late");
}
