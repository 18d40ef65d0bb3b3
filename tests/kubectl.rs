//! The API server under the real, unmodified kubectl. There is no node: what is tested is the API alone.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "common/api.rs"]
mod api;

use std::{process::Stdio, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use ztlab::embedded::kubelet_api::{ExecOptions, Exit, KubeletApi, LogOptions, Streams};

use api::{Cluster, contains};

/// A kubelet without containers: programs run on this machine as they are.
struct HostKubelet;

#[async_trait]
impl KubeletApi for HostKubelet {
    async fn logs(
        &self,
        _namespace: &str,
        pod: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, Box<Status>> {
        let first = format!(
            "{pod} {} {:?}\n",
            options.container.unwrap_or_default(),
            options.tail_lines
        );
        let lines = futures::stream::iter([Ok(Bytes::from(first)), Ok(Bytes::from("second\n"))]);
        Ok(lines.boxed())
    }

    async fn exec(&self, _namespace: &str, _pod: &str, options: ExecOptions) -> Result<Streams, Box<Status>> {
        let (program, args) = options.command.split_first().unwrap();
        let mut child = match tokio::process::Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
        {
            Ok(child) => child,
            Err(error) => {
                return Ok(Streams {
                    stdin: None,
                    stdout: None,
                    stderr: None,
                    resize: None,
                    exit: Box::pin(async move { Exit::Failed(format!("starting: {error}")) }),
                });
            }
        };
        let stdin = child.stdin.take().unwrap();
        Ok(Streams {
            stdin: options.stdin.then(|| Box::new(stdin) as _),
            stdout: options.stdout.then(|| Box::new(child.stdout.take().unwrap()) as _),
            stderr: options.stderr.then(|| Box::new(child.stderr.take().unwrap()) as _),
            resize: None,
            exit: Box::pin(async move { Exit::Code(child.wait().await.unwrap().code().unwrap()) }),
        })
    }

    async fn attach(&self, namespace: &str, pod: &str, mut options: ExecOptions) -> Result<Streams, Box<Status>> {
        options.command = vec!["cat".to_owned()];
        self.exec(namespace, pod, options).await
    }

    async fn port_forward(&self, _namespace: &str, _pod: &str, port: u16) -> Result<tokio::net::TcpStream, String> {
        let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        connected.map_err(|error| error.to_string())
    }
}

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: a, image: nginx}
      - {name: b, image: busybox}
"#;

#[test]
fn what_is_served_can_be_discovered() {
    let Some(cluster) = Cluster::start() else { return };
    contains(&cluster.ok("version"), "Server Version: v1.33.");
    let resources = cluster.ok("api-resources");
    for line in ["deployments", "networkpolicies", "endpointslices"] {
        contains(&resources, line);
    }
    contains(&cluster.ok("api-versions"), "apps/v1");
    assert_eq!(cluster.ok("get --raw /readyz"), "ok");
    contains(&cluster.ok("explain deploy.spec.replicas"), "Number of desired pods");
    contains(
        &cluster.fails("get nonsense", None),
        "the server doesn't have a resource type \"nonsense\"",
    );
}

#[test]
fn tables_selectors_and_pages() {
    let Some(cluster) = Cluster::start() else { return };
    let namespaces = cluster.ok("get ns");
    contains(&namespaces, "STATUS");
    contains(&namespaces, "kube-system       Active");
    for (name, label) in [("a", "x"), ("b", "x"), ("c", "y")] {
        cluster.ok(&format!("create cm {name} --from-literal=k={name}"));
        cluster.ok(&format!("label cm {name} app={label}"));
    }
    assert_eq!(
        cluster.ok("get cm -l 'app in (x),!z' -o name"),
        "configmap/a\nconfigmap/b"
    );
    assert_eq!(
        cluster.ok("get cm --field-selector metadata.name=c -o name"),
        "configmap/c"
    );
    assert_eq!(cluster.ok("get cm --chunk-size=1 --no-headers").lines().count(), 4);
    assert_eq!(cluster.ok("get cm c -o jsonpath='{.data.k}'"), "c");
    contains(&cluster.ok("get cm a -o yaml"), "k: a");
    assert_eq!(
        cluster.fails("get cm nothing", None),
        "Error from server (NotFound): configmaps \"nothing\" not found"
    );
    contains(&cluster.ok("get cm -A --sort-by=.metadata.name"), "kube-root-ca.crt");
}

#[test]
fn apply_creates_keeps_changes_and_refuses() {
    let Some(cluster) = Cluster::start() else { return };
    let apply = |text: &str| cluster.ok_with("apply -f -", Some(text));
    assert_eq!(apply(WEB), "deployment.apps/web created");
    assert_eq!(apply(WEB), "deployment.apps/web unchanged");
    let one = WEB.replace("      - {name: b, image: busybox}\n", "");
    assert_eq!(cluster.run("diff -f -", Some(&one)).status.code(), Some(1));
    assert_eq!(
        cluster.ok_with("apply --dry-run=server -f -", Some(&one)),
        "deployment.apps/web configured (server dry run)"
    );
    assert_eq!(
        cluster.ok("get deploy web -o jsonpath='{.spec.template.spec.containers[*].name}'"),
        "a b"
    );
    assert_eq!(apply(&one), "deployment.apps/web configured");
    assert_eq!(
        cluster.ok("get deploy web -o jsonpath='{.spec.template.spec.containers[*].name}'"),
        "a"
    );
    assert_eq!(cluster.run("diff -f -", Some(&one)).status.code(), Some(0));
    contains(
        &cluster.fails("apply -f -", Some(&WEB.replace("replicas", "replica"))),
        "strict decoding error: unknown field \"spec.replica\"",
    );
    contains(
        &cluster.fails("apply -f -", Some(&WEB.replace("replicas: 2", "replicas: two"))),
        "cannot unmarshal",
    );
    assert_eq!(
        cluster.ok_with("delete -f -", Some(WEB)),
        "deployment.apps \"web\" deleted"
    );
}

#[test]
fn create_makes_the_usual_kinds() {
    let Some(cluster) = Cluster::start() else { return };
    for (args, created) in [
        ("create ns shop", "namespace/shop created"),
        (
            "create deployment d --image=x --replicas=0",
            "deployment.apps/d created",
        ),
        ("create cm c --from-literal=a=1", "configmap/c created"),
        ("create secret generic s --from-literal=password=p", "secret/s created"),
        ("create svc clusterip v --tcp=80:8080", "service/v created"),
        ("create sa robot", "serviceaccount/robot created"),
        (
            "create role r --verb=get --resource=pods",
            "role.rbac.authorization.k8s.io/r created",
        ),
        (
            "create rolebinding rb --role=r --serviceaccount=default:robot",
            "rolebinding.rbac.authorization.k8s.io/rb created",
        ),
    ] {
        assert_eq!(cluster.ok(args), created);
    }
    assert_eq!(cluster.ok("get deploy d -o jsonpath='{.spec.replicas}'"), "0");
    assert_eq!(cluster.ok("get secret s -o jsonpath='{.data.password}'"), "cA==");
    contains(&cluster.ok("get svc v -o jsonpath='{.spec.clusterIP}'"), "10.96.");
    contains(
        &cluster.fails("create ns shop", None),
        "namespaces \"shop\" already exists",
    );
    contains(
        &cluster.fails("create cm x -n nowhere", None),
        "namespaces \"nowhere\" not found",
    );
    assert_eq!(cluster.ok("create token robot").split('.').count(), 3);
}

#[test]
fn label_annotate_patch_scale_and_edit() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.ok_with("create -f -", Some(WEB));
    assert_eq!(cluster.ok("label deploy web tier=front"), "deployment.apps/web labeled");
    contains(
        &cluster.fails("label deploy web tier=back", None),
        "--overwrite is false",
    );
    cluster.ok("label deploy web tier=back --overwrite");
    cluster.ok("label deploy web tier-");
    cluster.ok("annotate deploy web note=hello");
    for patch in [
        r#"patch deploy web -p '{"spec":{"template":{"spec":{"containers":[{"name":"b","image":"c"}]}}}}'"#,
        r#"patch deploy web --type=merge -p '{"spec":{"replicas":3}}'"#,
        r#"patch deploy web --type=json -p '[{"op":"replace","path":"/spec/replicas","value":4}]'"#,
    ] {
        assert_eq!(cluster.ok(patch), "deployment.apps/web patched");
    }
    assert_eq!(
        cluster.ok("get deploy web -o jsonpath='{.spec.template.spec.containers[*].image}'"),
        "nginx c"
    );
    let warned = cluster.run(r#"patch deploy web -p '{"spec":{"replica":1}}'"#, None);
    contains(
        &String::from_utf8_lossy(&warned.stderr),
        "Warning: unknown field \"spec.replica\"",
    );
    assert_eq!(
        cluster.ok("scale deploy web --replicas=7"),
        "deployment.apps/web scaled"
    );
    assert_eq!(
        cluster.ok("get deploy web -o jsonpath='{.spec.replicas} {.metadata.generation}'"),
        "7 5"
    );
    cluster.ok("set image deploy/web a=httpd");
    cluster.ok("set env deploy/web K=v");
    cluster.ok("rollout restart deploy/web");
    let edited = cluster
        .command("edit deploy web")
        .env("KUBE_EDITOR", "sed -i s/httpd/caddy/")
        .output()
        .unwrap();
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    contains(&cluster.ok("get deploy web -o yaml"), "image: caddy");
    cluster.ok_with("replace -f -", Some(WEB));
    contains(&cluster.ok("describe deploy web"), "Image:        nginx");
}

#[test]
fn wait_and_watch_follow_changes() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.ok_with("create -f -", Some(WEB));
    let waiting = cluster
        .command("wait --for=jsonpath='{.status.replicas}'=2 deploy/web --timeout=60s")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let streaming = cluster
        .command("wait --for=delete deploy/web --timeout=60s")
        .env("KUBE_FEATURE_WatchListClient", "true")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let client = cluster.client();
    cluster.runtime.block_on(async {
        let api: kube::Api<k8s_openapi::api::apps::v1::Deployment> = kube::Api::default_namespaced(client);
        let status = serde_json::json!({"status": {"replicas": 2}});
        api.patch_status(
            "web",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(status),
        )
        .await
        .unwrap();
    });
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "deployment.apps/web condition met\n"
    );
    cluster.ok("delete deploy web");
    assert!(streaming.wait_with_output().unwrap().status.success());
}

#[test]
fn users_are_who_their_credentials_say() {
    let Some(cluster) = Cluster::start() else { return };
    let me = cluster.ok("auth whoami");
    contains(&me, "kubernetes-admin");
    contains(&me, "system:masters");
    assert_eq!(cluster.ok("auth can-i create pods"), "yes");
    contains(&cluster.ok("auth whoami --as=jane --as-group=devs"), "devs");
    cluster.ok("create sa robot");
    let token = cluster.ok("create token robot");
    let config = std::fs::read_to_string(cluster.home.path().join("kubeconfig")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["users"][0]["user"] = serde_json::json!({"token": token});
    let path = cluster.home.path().join("robot");
    std::fs::write(&path, config.to_string()).unwrap();
    let flag = format!("--kubeconfig={}", path.display());
    contains(
        &cluster.ok(&format!("auth whoami {flag}")),
        "system:serviceaccount:default:robot",
    );
    // A token ends with its account.
    cluster.ok("delete sa robot");
    contains(
        &cluster.fails(&format!("get pods {flag}"), None),
        "You must be logged in to the server",
    );
    config["users"][0]["user"] = serde_json::json!({});
    std::fs::write(&path, config.to_string()).unwrap();
    // Nobody reads passwords: this user has shown nothing.
    let refused = cluster.fails(
        &format!("get --raw /api/v1/pods {flag} --username=x --password=y"),
        None,
    );
    contains(
        &refused,
        "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope",
    );
}

#[test]
fn server_side_apply_knows_who_owns_what() {
    let Some(cluster) = Cluster::start() else { return };
    let applied = "deployment.apps/web serverside-applied";
    let managers =
        || cluster.ok("get deploy web --show-managed-fields -o jsonpath='{.metadata.managedFields[*].manager}'");
    assert_eq!(cluster.ok_with("apply --server-side -f -", Some(WEB)), applied);
    let revision = cluster.ok("get deploy web -o jsonpath='{.metadata.resourceVersion}'");
    assert_eq!(cluster.ok_with("apply --server-side -f -", Some(WEB)), applied);
    assert_eq!(
        cluster.ok("get deploy web -o jsonpath='{.metadata.resourceVersion}'"),
        revision
    );
    assert_eq!(managers(), "kubectl");
    cluster.ok("scale deploy web --replicas=5");
    let conflict = cluster.fails("apply --server-side -f -", Some(WEB));
    contains(&conflict, "Apply failed with 1 conflict");
    contains(&conflict, ".spec.replicas");
    assert_eq!(
        cluster.ok_with("apply --server-side --force-conflicts -f -", Some(WEB)),
        applied
    );
    assert_eq!(cluster.ok("get deploy web -o jsonpath='{.spec.replicas}'"), "2");
    let one = WEB.replace("      - {name: b, image: busybox}\n", "");
    cluster.ok_with("apply --server-side -f -", Some(&one));
    assert_eq!(
        cluster.ok("get deploy web -o jsonpath='{.spec.template.spec.containers[*].name}'"),
        "a"
    );
    cluster.ok("delete deploy web");
    cluster.ok_with("apply -f -", Some(WEB));
    assert_eq!(managers(), "kubectl-client-side-apply");
    assert_eq!(cluster.ok_with("apply --server-side -f -", Some(WEB)), applied);
    // Migrated: what client-side apply owned is kubectl's now, and goes when it is no longer applied.
    assert_eq!(cluster.ok_with("apply --server-side -f -", Some(&one)), applied);
    assert_eq!(
        cluster.ok("get deploy web -o jsonpath='{.spec.template.spec.containers[*].name}'"),
        "a"
    );
}

const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeName: node, containers: [{name: c, image: i}]}\n";

#[test]
fn programs_stream_over_websocket() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.ok_with("create -f -", Some(POD));
    contains(&cluster.fails("exec p -- true", None), "the node is not ready");
    cluster.server.set_kubelet(Arc::new(HostKubelet));
    let exit = cluster.run("exec p -- sh -c 'echo out; echo err >&2; exit 3'", None);
    assert_eq!(exit.status.code(), Some(3), "{exit:?}");
    assert_eq!(String::from_utf8_lossy(&exit.stdout), "out\n");
    contains(&String::from_utf8_lossy(&exit.stderr), "err\n");
    let large: String = (0..300_000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(cluster.ok_with("exec -i p -- cat", Some(&large)), large.trim_end());
    assert_eq!(cluster.ok_with("attach -i -q p", Some("hello\n")), "hello");
    contains(
        &cluster.fails("exec p -- /no/such/program", None),
        "starting: No such file",
    );
    contains(&cluster.fails("exec nobody -- true", None), "pods \"nobody\" not found");
    contains(
        &cluster.fails("exec p -c other -- true", None),
        "container other is not valid for pod p",
    );
}

#[test]
fn logs_come_from_the_kubelet() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.ok_with("create -f -", Some(POD));
    cluster.server.set_kubelet(Arc::new(HostKubelet));
    assert_eq!(cluster.ok("logs p"), "p c None\nsecond");
    assert_eq!(cluster.ok("logs p -f --tail=5"), "p c Some(5)\nsecond");
    contains(
        &cluster.fails("logs p -c x", None),
        "container x is not valid for pod p",
    );
}
