//! The embedded cluster from end to end, under the real `kubectl`: as whoever runs the tests, and where that is root, as an
//! ordinary user too.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/lab.rs"]
mod lab;

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use lab::{Lab as Cluster, text};

/// Somebody without rights: `nobody` on the systems we know.
const NOBODY: u32 = 65534;
/// Longer than anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A Deployment whose program ends when it is asked to.
fn deployment(name: &str, replicas: u32, script: &str) -> String {
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "{name}"}}, "spec": {{"replicas": {replicas},
        "selector": {{"matchLabels": {{"app": "{name}"}}}}, "template": {{"metadata": {{"labels": {{"app": "{name}"}}}},
        "spec": {{"terminationGracePeriodSeconds": 2, "containers": [{{"name": "c", "image": "ztlab.dev/toolbox:1",
        "command": ["sh", "-c", "trap 'exit 0' TERM; {script}; while true; do sleep 0.1; done"]}}]}}}}}}}}"#
    )
}

fn pod(name: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}", "labels": {{"app": "{name}"}}}}, "spec": {spec}}}"#
    )
}

/// What a user does first.
fn first_steps(cluster: &Cluster) {
    assert_eq!(
        cluster
            .kubectl(&["get", "nodes", "--no-headers"])
            .split_whitespace()
            .nth(1),
        Some("Ready")
    );
    cluster.apply_text(&deployment("web", 2, "echo hello from $HOSTNAME"));
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=30s"]);
    cluster.kubectl(&["wait", "--for=condition=Available", "deployment/web", "--timeout=30s"]);
    let pods = cluster.get(&["pods", "-l", "app=web"]);
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 2);
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap();
        assert_eq!(pod["metadata"]["annotations"]["ztlab.dev/stand-in"], "toolbox", "{pod}");
        assert_eq!(cluster.kubectl(&["logs", name]), format!("hello from {name}\n"));
        let exec = cluster.try_kubectl(&["exec", name, "--", "sh", "-c", "hostname; echo oops >&2; exit 3"]);
        assert_eq!(exec.status.code(), Some(3));
        assert_eq!(text(&exec.stdout).trim(), name);
        assert!(text(&exec.stderr).starts_with("oops\n"), "{}", text(&exec.stderr));
    }
    let shown = cluster.kubectl(&["describe", "pod", "-l", "app=web"]);
    for reason in ["Scheduled", "Pulled", "Created", "Started"] {
        assert!(shown.contains(reason), "{reason}: {shown}");
    }
    cluster.kubectl(&["delete", "deployment", "web", "--wait"]);
    cluster.until("the pods go with their deployment", || {
        cluster.kubectl(&["get", "pods", "-o", "name"]).is_empty()
    });
}

#[test]
fn first_steps_as_whoever_runs_the_tests() {
    let Some(cluster) = Cluster::create(None) else { return };
    first_steps(&cluster);
}

#[test]
fn first_steps_as_an_ordinary_user() {
    if !root() {
        return;
    }
    let Some(cluster) = Cluster::create(Some(NOBODY)) else {
        return;
    };
    first_steps(&cluster);
}

#[test]
fn a_terminal_in_a_pod() {
    let Some(cluster) = Cluster::create(None) else { return };
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no script(1)");
        return;
    }
    cluster.apply_text(&deployment("web", 1, ":"));
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=30s"]);
    // kubectl sends the size once the program runs, so the program waits for it.
    let shell = "stty cols 91 rows 33; kubectl exec -it deployment/web -- \
        sh -c 'tty; until [ \"$(stty size)\" = \"33 91\" ]; do sleep 0.05; done; echo sized; exit 7'";
    let output = cluster
        .command("script")
        .args(["-qec", shell, "/dev/null"])
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(7), "{shown}");
    assert!(shown.contains("/dev/pts/0") && shown.contains("sized"), "{shown}");
}

#[test]
fn names_and_services_lead_to_ready_pods() {
    let Some(cluster) = Cluster::create(None) else { return };
    cluster.apply_text(
        r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello"}, "spec": {"replicas": 2,
          "selector": {"matchLabels": {"app": "hello"}}, "template": {"metadata": {"labels": {"app": "hello"}}, "spec": {
          "containers": [{"name": "c", "image": "nginxdemos/hello", "readinessProbe": {"httpGet": {"path": "/", "port": 80}}}]}}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hello"},
          "spec": {"selector": {"app": "hello"}, "ports": [{"port": 8000, "targetPort": 80}]}}]}"#,
    );
    cluster.apply_text(&deployment("client", 1, ":"));
    cluster.kubectl(&[
        "wait",
        "--for=condition=Available",
        "deployment",
        "--all",
        "--timeout=30s",
    ]);
    let client = |args: &[&str]| {
        let mut all = vec!["exec", "deployment/client", "--"];
        all.extend_from_slice(args);
        cluster.try_kubectl(&all)
    };
    let ip = cluster.get(&["service", "hello"])["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(ip.starts_with("10.96."), "{ip}");
    let named = client(&["getent", "hosts", "hello"]);
    assert!(text(&named.stdout).starts_with(&ip), "{}", text(&named.stdout));
    // The host's bash, so that this test stands on nothing that it tests.
    let fetch = |host: &str| {
        let script = format!(r"exec 3<>/dev/tcp/{host}/8000 && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && head -1 <&3");
        client(&["timeout", "5", "bash", "-c", &script])
    };
    for host in ["hello", "hello.default.svc.cluster.local", &ip] {
        let answer = fetch(host);
        assert!(
            text(&answer.stdout).contains(" 200 "),
            "{host}: {}",
            text(&answer.stderr)
        );
    }
    cluster.kubectl(&[
        "expose",
        "deployment",
        "hello",
        "--name=outer",
        "--type=NodePort",
        "--port=8000",
        "--target-port=80",
    ]);
    let port = cluster.get(&["service", "outer"])["spec"]["ports"][0]["nodePort"].to_string();
    let node = cluster.get(&["nodes"])["items"][0]["status"]["addresses"][0]["address"]
        .as_str()
        .unwrap()
        .to_owned();
    let through = |port: &str| {
        let script = format!(r"exec 3<>/dev/tcp/{node}/{port} && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && head -1 <&3");
        text(&client(&["timeout", "5", "bash", "-c", &script]).stdout).contains(" 200 ")
    };
    cluster.until("the node's port leads to a pod", || through(&port));
    assert!(!through("30999"), "no Service has this port");
    cluster.kubectl(&["delete", "service", "outer"]);
    cluster.until("the node's port is closed again", || !through(&port));
    cluster.kubectl(&["delete", "service", "kubernetes"]);
    cluster.until("the API's own Service is made again", || {
        cluster.try_kubectl(&["get", "service", "kubernetes"]).status.success()
    });
    cluster.kubectl(&["scale", "deployment/hello", "--replicas=0"]);
    cluster.until("the endpoints go", || {
        let slices = cluster.get(&["endpointslices", "-l", "kubernetes.io/service-name=hello"]);
        slices["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|slice| slice["endpoints"].as_array().is_none_or(Vec::is_empty))
    });
    assert!(!fetch("hello").status.success(), "nobody is behind it any more");
    let nobody = client(&["getent", "hosts", "nobody"]);
    assert!(!nobody.status.success());
}

#[test]
fn what_fails_says_why() {
    let Some(cluster) = Cluster::create(None) else { return };
    let container =
        |rest: &str| format!(r#"{{"containers": [{{"name": "c", "image": "ztlab.dev/toolbox:1", {rest}}}]}}"#);
    cluster.apply_text(&pod(
        "crash",
        &container(r#""command": ["sh", "-c", "echo bye; exit 4"]"#),
    ));
    cluster.apply_text(&pod(
        "nobody",
        r#"{"containers": [{"name": "c", "image": "nobody/has:1"}]}"#,
    ));
    cluster.apply_text(&pod("typo", &container(r#""command": ["no-such-program"]"#)));
    cluster.apply_text(&pod(
        "unset",
        &container(r#""envFrom": [{"configMapRef": {"name": "later"}}], "command": ["env"]"#),
    ));
    cluster.apply_text(&pod(
        "picky",
        r#"{"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "c", "image": "ztlab.dev/toolbox:1"}]}"#,
    ));
    // The pod as it was when it waited: it goes on restarting.
    let waits = |name: &'static str, reason: &'static str| {
        let seen = std::cell::RefCell::new(Value::Null);
        cluster.until(&format!("{name}: {reason}"), || {
            seen.replace(cluster.get(&["pod", name]));
            seen.borrow()["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
        });
        seen.into_inner()
    };
    let crash = waits("crash", "CrashLoopBackOff");
    waits("nobody", "ImagePullBackOff");
    waits("typo", "CrashLoopBackOff");
    waits("unset", "CreateContainerConfigError");
    let status = &crash["status"]["containerStatuses"][0];
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 4, "{status}");
    assert_eq!(status["restartCount"], 1, "the first restart comes at once: {status}");
    assert_eq!(cluster.kubectl(&["logs", "crash", "--previous"]), "bye\n");
    for (name, expected) in [
        ("nobody", "there are stand-ins for: "),
        ("typo", "executable file not found in $PATH"),
        ("unset", "configmap \"later\" not found"),
        (
            "picky",
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        ),
    ] {
        let shown = cluster.kubectl(&["describe", "pod", name]);
        assert!(shown.contains(expected), "{name}: {shown}");
    }
    cluster.kubectl(&["create", "configmap", "later", "--from-literal=A=1"]);
    cluster.until("it starts once there is what it needs", || {
        cluster.get(&["pod", "unset"])["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
            != "CreateContainerConfigError"
    });
}

#[test]
fn volumes_environment_and_init_containers() {
    let Some(cluster) = Cluster::create(None) else { return };
    cluster.kubectl(&["create", "configmap", "cm", "--from-literal=a=one"]);
    cluster.kubectl(&["create", "secret", "generic", "sec", "--from-literal=k=s3cret"]);
    cluster.apply_text(&pod(
        "p",
        r#"{"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "initContainers": [{"name": "i", "image": "ztlab.dev/toolbox:1", "command": ["sh", "-c", "echo first > /e/x"],
            "volumeMounts": [{"name": "e", "mountPath": "/e"}]}],
        "containers": [{"name": "c", "image": "ztlab.dev/toolbox:1",
            "command": ["sh", "-c", "cat /e/x; echo $K $N; cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; exec sleep 1000"],
            "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "k"}}},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "readinessProbe": {"exec": {"command": ["grep", "-q", "two", "/c/a"]}, "periodSeconds": 1},
            "volumeMounts": [{"name": "e", "mountPath": "/e"}, {"name": "c", "mountPath": "/c"}]}],
        "volumes": [{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "cm"}}]}"#,
    ));
    cluster.until("it runs", || {
        // Until it does, asking for its log is an error.
        let log = cluster.try_kubectl(&["logs", "p", "-c", "c", "--tail=9"]);
        text(&log.stdout).lines().count() == 3
    });
    assert_eq!(cluster.kubectl(&["logs", "p", "-c", "c"]), "first\ns3cret p\ndefault\n");
    let ready = || {
        let pod = cluster.get(&["pod", "p"]);
        pod["status"]["containerStatuses"][0]["ready"].as_bool().unwrap()
    };
    assert!(!ready(), "its probe wants what is not there yet");
    cluster.kubectl(&["patch", "configmap", "cm", "-p", r#"{"data": {"a": "two"}}"#]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/p", "--timeout=30s"]);
    assert_eq!(cluster.kubectl(&["exec", "p", "-c", "c", "--", "cat", "/c/a"]), "two");
}

#[test]
fn a_rollout_and_its_way_back() {
    let Some(cluster) = Cluster::create(None) else { return };
    cluster.apply_text(&deployment("web", 2, "echo one $V"));
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=30s"]);
    cluster.kubectl(&["set", "env", "deployment/web", "V=two"]);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=30s"]);
    assert!(
        cluster
            .kubectl(&["rollout", "history", "deployment/web"])
            .lines()
            .any(|line| line.starts_with('2'))
    );
    cluster.kubectl(&["set", "image", "deployment/web", "c=nobody/has:1"]);
    let stuck = cluster.try_kubectl(&["rollout", "status", "deployment/web", "--timeout=1s"]);
    assert!(!stuck.status.success(), "an image that nobody has does not roll out");
    assert_eq!(
        cluster.get(&["deployment", "web"])["status"]["availableReplicas"],
        2,
        "the old pods stay"
    );
    cluster.kubectl(&["rollout", "undo", "deployment/web"]);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=30s"]);
    let shown = cluster.kubectl(&["describe", "deployment", "web"]);
    assert!(
        shown.contains("ScalingReplicaSet") && shown.contains("NewReplicaSetAvailable"),
        "{shown}"
    );
}

/// An object of this kind whose owner is `owner`, a kind and a name.
fn owned(cluster: &Cluster, api_version: &str, kind: &str, name: &str, owner: Option<(&str, &str)>) {
    let mut object = serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
    if kind == "CronTab" {
        object["spec"] = serde_json::json!({"cronSpec": "* * * * */5", "image": "i"});
    }
    if let Some((kind, name)) = owner {
        let owner = cluster.get(&[kind, name]);
        object["metadata"]["ownerReferences"] = serde_json::json!([{"apiVersion": owner["apiVersion"], "kind": owner["kind"],
            "name": name, "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true}]);
    }
    cluster.apply(&[object]);
}

#[test]
fn any_kind_owns_and_is_owned() {
    let Some(cluster) = Cluster::create(None) else { return };
    let there = |what: &str| cluster.try_kubectl(&["get", what]).status.success();
    let gone = |what: &str| cluster.until(&format!("{what} goes"), || !there(what));
    cluster.apply_text(include_str!("custom_resources/crontabs.yaml"));
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
    let (stable, rbac) = ("stable.example.com/v1", "rbac.authorization.k8s.io/v1");

    // What a custom object owns, and custom objects and Roles that are owned.
    owned(&cluster, stable, "CronTab", "nightly", None);
    owned(&cluster, "v1", "ConfigMap", "log", Some(("crontab", "nightly")));
    owned(&cluster, stable, "CronTab", "below", Some(("configmap", "log")));
    owned(&cluster, rbac, "Role", "reader", Some(("crontab", "below")));
    owned(&cluster, rbac, "ClusterRole", "wide", None);
    owned(&cluster, stable, "CronTab", "of-wide", Some(("clusterrole", "wide")));
    cluster.kubectl(&["delete", "crontab", "nightly"]);
    for what in ["configmap/log", "crontab/below", "role/reader"] {
        gone(what);
    }
    assert!(there("crontab/of-wide"));
    cluster.kubectl(&["delete", "clusterrole", "wide"]);
    gone("crontab/of-wide");

    owned(&cluster, stable, "CronTab", "parent", None);
    owned(&cluster, stable, "CronTab", "child", Some(("crontab", "parent")));
    cluster.kubectl(&["delete", "crontab", "parent", "--cascade=foreground", "--timeout=30s"]);
    assert!(!there("crontab/child"), "foreground: it went first");
    owned(&cluster, stable, "CronTab", "parent", None);
    owned(&cluster, stable, "CronTab", "child", Some(("crontab", "parent")));
    cluster.kubectl(&["delete", "crontab", "parent", "--cascade=orphan", "--timeout=30s"]);
    assert_eq!(
        cluster.get(&["crontab", "child"])["metadata"]["ownerReferences"],
        Value::Null
    );

    // A kind that goes takes what its objects own, and one that comes again is followed again.
    owned(&cluster, "v1", "ConfigMap", "of-child", Some(("crontab", "child")));
    cluster.kubectl(&["delete", "crd", "crontabs.stable.example.com", "--timeout=30s"]);
    gone("configmap/of-child");
    cluster.apply_text(include_str!("custom_resources/crontabs.yaml"));
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
    owned(&cluster, stable, "CronTab", "again", None);
    owned(&cluster, "v1", "ConfigMap", "of-again", Some(("crontab", "again")));
    cluster.kubectl(&["delete", "crontab", "again"]);
    gone("configmap/of-again");
}

#[test]
fn what_is_deleted_takes_what_it_owns() {
    let Some(cluster) = Cluster::create(None) else { return };
    for name in ["background", "foreground", "orphan"] {
        cluster.apply_text(&deployment(name, 1, ":"));
    }
    cluster.kubectl(&[
        "wait",
        "--for=condition=Available",
        "deployment",
        "--all",
        "--timeout=30s",
    ]);
    for name in ["background", "foreground", "orphan"] {
        cluster.kubectl(&[
            "delete",
            "deployment",
            name,
            &format!("--cascade={name}"),
            "--timeout=30s",
        ]);
    }
    let left = |kind: &str, app: &str| {
        let selector = format!("app={app}");
        cluster
            .kubectl(&["get", kind, "-l", &selector, "-o", "name"])
            .lines()
            .count()
    };
    assert_eq!(
        left("replicasets", "foreground"),
        0,
        "foreground: its dependents went first"
    );
    cluster.until("background: its dependents follow", || {
        left("pods", "background") + left("replicasets", "background") == 0
    });
    assert_eq!((left("replicasets", "orphan"), left("pods", "orphan")), (1, 1));
    cluster.kubectl(&["create", "namespace", "n"]);
    cluster.apply_text(&deployment("web", 1, ":").replace(
        r#""name": "web"}, "spec": {"replicas""#,
        r#""name": "web", "namespace": "n"}, "spec": {"replicas""#,
    ));
    cluster.kubectl(&[
        "wait",
        "-n",
        "n",
        "--for=condition=Available",
        "deployment/web",
        "--timeout=30s",
    ]);
    cluster.kubectl(&["delete", "namespace", "n", "--timeout=30s"]);
    assert!(!cluster.try_kubectl(&["get", "namespace", "n"]).status.success());
}

#[test]
fn a_killed_node_leaves_nothing_behind() {
    let Some(cluster) = Cluster::create(None) else { return };
    cluster.apply_text(&deployment("web", 3, ":"));
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=30s"]);
    let node = cluster.node_pid();
    let space = fs::read_link(format!("/proc/{node}/ns/user")).unwrap();
    let inside = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter(|entry| fs::read_link(entry.path().join("ns/user")).is_ok_and(|ns| ns == space))
            .count()
    };
    assert!(inside() > 3, "the node and the pods");
    let pid = rustix::process::Pid::from_raw(i32::try_from(node).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    cluster.until_gone(&inside);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&*cluster.home().to_string_lossy()), "{mounts}");
    // The node itself is the last to go.
    let list = || text(&cluster.ztlab(&["cluster", "list"]).stdout);
    let end = Instant::now() + LIMIT;
    while list().contains("stopping") && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    let listed = list();
    assert!(listed.contains("stopped"), "{listed}");
    assert!(
        cluster.ztlab(&["cluster", "start", "t"]).status.success(),
        "it starts again where it was"
    );
    assert_eq!(
        cluster
            .kubectl(&["get", "nodes", "--no-headers"])
            .split_whitespace()
            .nth(1),
        Some("Ready")
    );
}

impl Cluster {
    fn until_gone(&self, count: &dyn Fn() -> usize) {
        let end = Instant::now() + LIMIT;
        while count() > 0 {
            assert!(Instant::now() < end, "{} processes are left", count());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn sidecars_outlive_the_containers_and_deadlines_hold() {
    let Some(cluster) = Cluster::create(None) else { return };
    let script = |name: &str, script: &str, more: &str| {
        format!(r#"{{"name": "{name}", "image": "ztlab.dev/toolbox:1", "command": ["sh", "-c", "{script}"]{more}}}"#)
    };
    let waits = "trap 'echo asked; exit 0' TERM; while true; do sleep 0.1; done";
    cluster.apply_text(&pod(
        "side",
        &format!(
            r#"{{"restartPolicy": "Never", "initContainers": [{}], "containers": [{}]}}"#,
            script("s", waits, r#", "restartPolicy": "Always""#),
            script("c", "echo done", "")
        ),
    ));
    cluster.apply_text(&pod(
        "late",
        &format!(
            r#"{{"activeDeadlineSeconds": 1, "containers": [{}]}}"#,
            script("c", waits, "")
        ),
    ));
    let phase = |name: &str, phase: &str| {
        cluster.until(&format!("{name}: {phase}"), || {
            cluster.get(&["pod", name])["status"]["phase"] == phase
        });
        cluster.get(&["pod", name])
    };
    let side = phase("side", "Succeeded");
    let ended = &side["status"]["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 0, "{side}");
    assert_eq!(cluster.kubectl(&["logs", "side", "-c", "s"]), "asked\n");
    let late = phase("late", "Failed");
    assert_eq!(late["status"]["reason"], "DeadlineExceeded", "{late}");
    assert_eq!(
        late["status"]["message"],
        "Pod was active on the node longer than the specified deadline"
    );
}

/// Who wrote an object's fields, as managedFields names them.
fn managers(object: &Value) -> BTreeSet<String> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .map(|entry| entry["manager"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn components_act_as_themselves_and_within_their_roles() {
    let Some(cluster) = Cluster::create(None) else { return };
    cluster.apply_text(&deployment("web", 1, ":"));
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let written_by = |what: &[&str], expected: &[&str]| {
        let object = cluster.get(&[what, &["--show-managed-fields"]].concat());
        let object = object.pointer("/items/0").unwrap_or(&object);
        let found = managers(object);
        assert!(expected.iter().all(|name| found.contains(*name)), "{what:?}: {found:?}");
        assert!(
            found.iter().all(|name| expected.contains(&name.as_str())),
            "{what:?}: {found:?}"
        );
    };
    written_by(
        &["deployment", "web"],
        &["kubectl-client-side-apply", "kube-controller-manager"],
    );
    written_by(&["pods", "-l", "app=web"], &["kube-controller-manager", "kubelet"]);
    written_by(&["node", "t"], &["kubelet"]);
    written_by(&["lease", "t", "-n", "kube-node-lease"], &["kubelet"]);
    cluster.kubectl(&[
        "run",
        "nowhere",
        "--image=ztlab.dev/toolbox:1",
        r#"--overrides={"spec": {"nodeSelector": {"no": "where"}}}"#,
    ]);
    cluster.kubectl(&[
        "wait",
        "--for=condition=PodScheduled=false",
        "pod/nowhere",
        "--timeout=60s",
    ]);
    written_by(&["pod", "nowhere"], &["kubectl-run", "kube-scheduler"]);
    // Without its role a component can do nothing, and the log says whose fault it is.
    assert_eq!(cluster.refusals(), Vec::<String>::new());
    cluster.expect_refusals();
    let binding = ["clusterrolebinding", "system:controller:replicaset-controller"];
    let role = cluster.kubectl(&[&["get", "-o", "json"], &binding[..]].concat());
    cluster.kubectl(&[&["delete"], &binding[..]].concat());
    cluster.apply_text(&deployment("late", 1, ":"));
    let account = "system:serviceaccount:kube-system:replicaset-controller";
    let why = format!(r#"User "{account}" cannot create resource "pods" in API group "" in the namespace "default""#);
    let escaped = why.replace('"', "\\\"");
    cluster.until("its controller is refused", || {
        let refusals = cluster.refusals();
        refusals
            .iter()
            .any(|line| line.contains(&why) || line.contains(&escaped))
    });
    assert_eq!(cluster.kubectl(&["get", "pods", "-l", "app=late", "-o", "name"]), "");
    let mut role: Value = serde_json::from_str(&role).unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        role["metadata"].as_object_mut().unwrap().remove(field);
    }
    cluster.apply(&[role]);
    cluster.kubectl(&["rollout", "status", "deployment/late", "--timeout=60s"]);
}
