//! Nine pods in three namespaces of an embedded cluster, and programs run in them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Service},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, Config,
    api::{AttachParams, DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::evaluator::{End, Objects};

/// Longer than anything here may take.
pub const LIMIT: Duration = Duration::from_secs(90);
pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
pub const PODS: [&str; 3] = ["a", "b", "c"];
pub const PORTS: [(&str, u16); 4] = [("TCP", 80), ("TCP", 81), ("UDP", 80), ("UDP", 81)];
pub const IMAGE: &str = "registry.k8s.io/e2e-test-images/agnhost:2.47";

/// A cluster of the test's own.
pub struct Lab {
    home: tempfile::TempDir,
    program: PathBuf,
    uid: Option<u32>,
    pub client: Client,
}

/// From pod (namespace, name), to pod, protocol, port: whether it is open.
pub type Matrix = BTreeMap<(String, String, &'static str, u16), bool>;

impl Lab {
    /// A cluster with the nine pods ready, or `None` where this machine lacks what it takes; in CI that is a failure.
    pub async fn create(uid: Option<u32>) -> Option<Self> {
        let lab = Self::empty(uid).await?;
        for namespace in NAMESPACES {
            lab.namespace(namespace).await;
            for pod in PODS {
                lab.serve(namespace, pod).await;
            }
        }
        for namespace in NAMESPACES {
            for pod in PODS {
                lab.ready(namespace, pod).await;
            }
        }
        Some(lab)
    }

    /// A cluster without pods.
    pub async fn empty(uid: Option<u32>) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for dir in ["state", "run"] {
            let dir = home.path().join(dir);
            fs::create_dir(&dir).unwrap();
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
            chown(&dir, uid, uid).unwrap();
        }
        // a build directory may be closed to others, and a copy made by this process could be busy while it forks
        let program = home.path().join("ztlab");
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_ztlab"))
            .arg(&program)
            .status()
            .unwrap();
        assert!(copied.success());
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let made = ztlab(&home, &program, uid, &["cluster", "create", "t"]);
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            let lacking = said.contains("refused") || said.contains("namespace");
            assert!(lacking && std::env::var_os("CI").is_none(), "{said}");
            eprintln!("SKIPPED: {said}");
            return None;
        }
        let kubeconfig = home.path().join("state/ztlab/clusters/t/kubeconfig");
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        let client = Client::try_from(config).unwrap();
        Some(Self {
            home,
            program,
            uid,
            client,
        })
    }

    pub fn log(&self) -> String {
        let all = fs::read_to_string(self.home.path().join("state/ztlab/clusters/t/node.log")).unwrap_or_default();
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// A directory for files of the test.
    pub fn directory(&self) -> &std::path::Path {
        self.home.path()
    }

    /// Runs a line of shell as somebody at this cluster's machine would.
    pub fn shell(&self, line: &str) -> Output {
        let path = format!("{}:{}", self.home.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .env("PATH", path)
            .env("KUBECONFIG", self.home.path().join("state/ztlab/clusters/t/kubeconfig"));
        in_home(&mut command, &self.home, self.uid);
        command.output().unwrap()
    }

    /// The node's table of policies, as nft shows it.
    pub fn rules(&self) -> String {
        let lock = fs::read(self.home.path().join("state/ztlab/clusters/t/lock")).unwrap();
        let lock: Value = serde_json::from_slice(&lock).unwrap();
        let pid = lock["node"]["pid"].as_u64().unwrap();
        let mut command = Command::new("nsenter");
        command.args(crate::nft::list(pid, "ztlab-policy"));
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        crate::nft::in_order(&String::from_utf8_lossy(&output.stdout))
    }

    pub async fn namespace(&self, name: &str) {
        let namespace = json!({"metadata": {"name": name, "labels": {"ns": name}}});
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap())
            .await
            .unwrap();
    }

    pub fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub async fn pod(&self, namespace: &str, name: &str, labels: Value, spec: Value) {
        let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": spec});
        let pod = serde_json::from_value(pod).unwrap();
        self.pods(namespace).create(&PostParams::default(), &pod).await.unwrap();
    }

    /// A pod that serves its name at the four ports, each by a container of its own, and a Service for it.
    pub async fn serve(&self, namespace: &str, name: &str) {
        let containers: Vec<Value> = PORTS
            .iter()
            .enumerate()
            .map(|(number, (protocol, port))| {
                let lower = protocol.to_lowercase();
                // programs are run in the first container, which is called the same in all pods
                let name = if number == 0 { "c".to_owned() } else { format!("cont-{port}-{lower}") };
                json!({"name": name, "image": IMAGE,
                    "command": ["/agnhost", "serve-hostname", format!("--{lower}"), "--http=false", "--port", port.to_string()],
                    "ports": [{"name": format!("serve-{port}-{lower}"), "containerPort": port, "protocol": protocol}]})
            })
            .collect();
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": containers});
        self.pod(namespace, name, json!({"pod": name}), spec).await;
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let service = format!("s-{namespace}-{name}");
        if services.get_opt(&service).await.unwrap().is_none() {
            let ports = PORTS.map(|(protocol, port)| {
                json!({"name": format!("p-{port}-{}", protocol.to_lowercase()), "protocol": protocol, "port": port})
            });
            let body = json!({"metadata": {"name": service}, "spec": {"selector": {"pod": name}, "ports": ports}});
            services
                .create(&PostParams::default(), &serde_json::from_value(body).unwrap())
                .await
                .unwrap();
        }
    }

    /// A pod that only waits to be worked in.
    pub async fn idle(&self, namespace: &str, name: &str) {
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": IMAGE}]});
        self.pod(namespace, name, json!({"pod": name}), spec).await;
    }

    /// Waits until a pod is ready; gives its address.
    pub async fn ready(&self, namespace: &str, name: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let pod = self.pods(namespace).get_opt(name).await.unwrap();
            let status = pod.and_then(|pod| pod.status).unwrap_or_default();
            let ready = status
                .conditions
                .iter()
                .flatten()
                .any(|one| one.type_ == "Ready" && one.status == "True");
            if ready {
                return status.pod_ip.unwrap();
            }
            assert!(
                Instant::now() < end,
                "{namespace}/{name} is not ready: {status:?}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn delete_pod(&self, namespace: &str, name: &str) {
        let now = DeleteParams::default().grace_period(0);
        self.pods(namespace).delete(name, &now).await.unwrap();
        let end = Instant::now() + LIMIT;
        while self.pods(namespace).get_opt(name).await.unwrap().is_some() {
            assert!(Instant::now() < end, "{namespace}/{name} stays");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn label_pod(&self, namespace: &str, name: &str, labels: Value) {
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        self.pods(namespace)
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    pub async fn label_namespace(&self, name: &str, labels: Value) {
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Makes or replaces a policy; `text` is its namespace and its spec.
    pub async fn policy(&self, name: &str, text: &str) {
        let (namespace, spec) = text.split_once(' ').unwrap();
        let spec: Value = serde_yaml::from_str(spec).unwrap_or_else(|error| panic!("{text}: {error}"));
        let body = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec});
        let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), namespace);
        let params = DeleteParams::default();
        if api.get_opt(name).await.unwrap().is_some() {
            let body = serde_json::from_value(body).unwrap();
            let mut old = api.get(name).await.unwrap();
            let new: NetworkPolicy = body;
            old.spec = new.spec;
            api.replace(name, &PostParams::default(), &old).await.unwrap();
        } else {
            api.create(&PostParams::default(), &serde_json::from_value(body).unwrap())
                .await
                .unwrap();
        }
        drop(params);
    }

    pub async fn delete_policy(&self, namespace: &str, name: &str) {
        let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), namespace);
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn delete_policies(&self) {
        for policy in Api::<NetworkPolicy>::all(self.client.clone())
            .list(&ListParams::default())
            .await
            .unwrap()
        {
            let meta = policy.metadata;
            self.delete_policy(&meta.namespace.unwrap(), &meta.name.unwrap()).await;
        }
    }

    /// Runs a program in a pod's container `c`; gives what it writes.
    pub async fn exec(&self, namespace: &str, pod: &str, argv: Vec<String>) -> String {
        let params = AttachParams::default().container("c").stdout(true).stderr(true);
        let mut process = self.pods(namespace).exec(pod, argv, &params).await.unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        let (mut stdout, mut stderr) = (process.stdout().unwrap(), process.stderr().unwrap());
        let (a, b) = tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err));
        a.unwrap();
        b.unwrap();
        out + &err
    }

    pub async fn sh(&self, namespace: &str, pod: &str, script: &str) -> String {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        self.exec(namespace, pod, argv).await
    }

    /// What `reach` says of targets, tried from a pod.
    pub async fn reach(&self, namespace: &str, pod: &str, timeout: u64, targets: &[String]) -> Vec<String> {
        let mut argv = vec!["reach".to_owned(), "--timeout".to_owned(), timeout.to_string()];
        argv.extend_from_slice(targets);
        let text = self.exec(namespace, pod, argv).await;
        let words: Vec<String> = text
            .lines()
            .filter_map(|line| Some(line.split_once(' ')?.1.to_owned()))
            .collect();
        assert_eq!(words.len(), targets.len(), "{text}");
        words
    }

    /// Waits until a target says `wanted` to a pod.
    pub async fn becomes(&self, from: (&str, &str), target: &str, wanted: &str) {
        let end = Instant::now() + LIMIT;
        loop {
            let said = self.reach(from.0, from.1, 500, &[target.to_owned()]).await.remove(0);
            if said == wanted {
                return;
            }
            assert!(
                Instant::now() < end,
                "{from:?} to {target}: {said}, not {wanted}\n{}",
                self.log()
            );
        }
    }

    pub async fn objects(&self) -> Objects {
        let all = ListParams::default();
        let (namespaces, pods, policies) = tokio::join!(
            async {
                Api::<Namespace>::all(self.client.clone())
                    .list(&all)
                    .await
                    .unwrap()
                    .items
            },
            async { Api::<Pod>::all(self.client.clone()).list(&all).await.unwrap().items },
            async {
                Api::<NetworkPolicy>::all(self.client.clone())
                    .list(&all)
                    .await
                    .unwrap()
                    .items
            },
        );
        Objects {
            namespaces,
            pods,
            policies,
        }
    }

    /// Every connection between pods, tried.
    pub async fn measured(&self, objects: &Objects) -> Matrix {
        let rows = objects.pods.iter().map(async |from| {
            let mut targets = Vec::new();
            let mut keys = Vec::new();
            for to in &objects.pods {
                for (protocol, port) in PORTS {
                    let ip = to.status.as_ref().unwrap().pod_ip.clone().unwrap();
                    targets.push(format!("{}://{ip}:{port}", protocol.to_lowercase()));
                    keys.push((named(from), named(to), protocol, port));
                }
            }
            let meta = &from.metadata;
            let (namespace, name) = (meta.namespace.as_deref().unwrap(), meta.name.as_deref().unwrap());
            let said = self.reach(namespace, name, 400, &targets).await;
            keys.into_iter()
                .zip(said.into_iter().map(|word| word == "open"))
                .collect::<Vec<_>>()
        });
        futures::future::join_all(rows).await.into_iter().flatten().collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        ztlab(&self.home, &self.program, self.uid, &["cluster", "delete", "t"]);
    }
}

fn ztlab(home: &tempfile::TempDir, program: &PathBuf, uid: Option<u32>, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).env(
        "RUST_LOG",
        std::env::var("NETPOL_LOG").unwrap_or_else(|_| "info".to_owned()),
    );
    in_home(&mut command, home, uid);
    command.output().unwrap()
}

fn in_home(command: &mut Command, home: &tempfile::TempDir, uid: Option<u32>) {
    command
        .env("XDG_STATE_HOME", home.path().join("state"))
        .env("XDG_RUNTIME_DIR", home.path().join("run"))
        .env("HOME", home.path().join("state"))
        .current_dir(home.path())
        .stdin(Stdio::null());
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
}

pub fn named(pod: &Pod) -> String {
    format!(
        "{}/{}",
        pod.metadata.namespace.as_deref().unwrap(),
        pod.metadata.name.as_deref().unwrap()
    )
}

/// Every connection between pods, by the book.
pub fn expected(objects: &Objects) -> Matrix {
    let mut matrix = Matrix::new();
    for from in &objects.pods {
        for to in &objects.pods {
            for (protocol, port) in PORTS {
                let allowed = objects.allows(End::Pod(from), End::Pod(to), protocol, port);
                matrix.insert((named(from), named(to), protocol, port), allowed);
            }
        }
    }
    matrix
}
