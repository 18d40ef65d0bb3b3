//! The context ground: labs on a cluster that somebody else made, reached by nothing but its kubeconfig. Here that cluster is an
//! embedded one of another home, so that what stands above the ground is shown to lean on none of its own.
#![allow(clippy::unwrap_used)]

#[path = "context/beyond.rs"]
mod beyond;
mod common;

use std::{path::PathBuf, process::Output};

use common::{Home, embedded_works};
use serde_json::{Value, json};

const CLUSTER: &str = "shared";

/// A cluster, and the home of whoever made it.
struct Shared(Home);

impl Shared {
    fn new(name: &str) -> Self {
        let home = Home::new(name);
        ok(&home.ztlab(&["cluster", "create", CLUSTER]));
        Self(home)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.0.path().join(format!("state/ztlab/clusters/{CLUSTER}/kubeconfig"))
    }

    fn context(&self) -> String {
        self.kubectl(&["config", "current-context"]).trim().to_owned()
    }

    fn try_kubectl(&self, args: &[&str]) -> Output {
        let mut command = self.0.command("kubectl");
        command.env("KUBECONFIG", self.kubeconfig()).args(args);
        command.output().unwrap()
    }

    #[track_caller]
    fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        ok(&output);
        text(&output.stdout)
    }

    fn is_there(&self, args: &[&str]) -> bool {
        let mut get = vec!["get"];
        get.extend_from_slice(args);
        self.try_kubectl(&get).status.success()
    }
}

/// A student who has the kubeconfig, and no cluster.
struct Student<'a> {
    home: Home,
    shared: &'a Shared,
}

impl<'a> Student<'a> {
    fn new(name: &str, shared: &'a Shared) -> Self {
        let home = Home::new(name);
        Self { home, shared }
    }

    fn ztlab(&self, args: &[&str]) -> Output {
        let mut command = self.home.command(self.home.binary());
        command.env("KUBECONFIG", self.shared.kubeconfig()).args(args);
        command.output().unwrap()
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let output = self.ztlab(args);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "ztlab {args:?}: {error}: {}{}",
                text(&output.stdout),
                text(&output.stderr)
            )
        })
    }

    fn start(&self, more: &[&str]) -> Output {
        let context = self.shared.context();
        let mut args = vec!["lab", "start", "wiretap", "--ground", "context", "--context", &context];
        args.extend_from_slice(more);
        self.ztlab(&args)
    }

    #[track_caller]
    fn refused(&self, more: &[&str]) -> String {
        let output = self.start(more);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
        text(&output.stderr)
    }

    /// The session, once it shows so many workloads.
    fn with_workloads(&self, count: usize) -> Value {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let session = self.json(&["lab", "status", "--json"])["session"].clone();
            if session["workloads"].as_array().unwrap().len() == count {
                return session;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "not {count} workloads: {session:#}"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn earned(&self) -> u64 {
        self.json(&["lab", "status", "--json"])["session"]["score"]["earned"]
            .as_u64()
            .unwrap()
    }
}

impl Drop for Student<'_> {
    fn drop(&mut self) {
        self.ztlab(&["lab", "stop", "--delete"]);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn ok(output: &Output) {
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn a_lab_runs_through_nothing_but_a_kubeconfig() {
    if !embedded_works() {
        return;
    }
    let shared = Shared::new("context-runs");
    shared.kubectl(&["create", "namespace", "theirs"]);
    let student = Student::new("context-runs-student", &shared);
    ok(&student.start(&[]));
    // What runs is told by a watch, which may still be on its way when the lab is ready.
    let session = student.with_workloads(5);
    assert_eq!(session["cluster"], shared.context());
    assert!(session["ground"].as_str().unwrap().contains("context"), "{session:#}");
    assert!(
        !student.home.path().join("state/ztlab/clusters").exists(),
        "no cluster of its own"
    );
    assert_eq!(
        shared
            .kubectl(&["get", "namespaces", "-l", "ztlab.dev/lab=wiretap", "-o", "name"])
            .trim(),
        "namespace/shop"
    );
    // The student's own kubectl reaches it by the kubeconfig of the session, which holds this context alone.
    let mut kubectl = student.home.command("kubectl");
    kubectl.env("KUBECONFIG", session["kubeconfig"].as_str().unwrap());
    ok(&kubectl.args(["get", "pods", "-n", "shop"]).output().unwrap());

    ok(&student.ztlab(&["lab", "solve", "listen"]));
    assert_eq!(student.earned(), 30);
    // Something of the student's own, and something of the lab that is not as it was.
    shared.kubectl(&["create", "configmap", "mine", "-n", "shop", "--from-literal=a=b"]);
    shared.kubectl(&["scale", "deployment/mallory", "--replicas=0", "-n", "shop"]);
    for step in ["token", "login"] {
        ok(&student.ztlab(&["lab", "solve", step]));
    }
    let needed = student.earned();
    let output = student.ztlab(&["lab", "reset", "replay"]);
    ok(&output);
    let said = text(&output.stdout);
    assert!(said.contains("as at the start of the lab"), "{said}");
    assert_eq!(student.earned(), needed, "what the step needs stays passed");
    assert!(!shared.is_there(&["configmap", "mine", "-n", "shop"]));
    ok(&student.ztlab(&["lab", "reset"]));
    assert_eq!(student.earned(), 0);
    let pods = shared.kubectl(&["get", "pods", "-n", "shop", "-l", "app=mallory", "-o", "name"]);
    assert_eq!(pods.lines().count(), 1, "the reset waits until it is true: {pods}");

    ok(&student.ztlab(&["lab", "pause"]));
    assert!(
        shared.is_there(&["pods", "-n", "shop"]),
        "somebody else's cluster is not stopped"
    );
    ok(&student.ztlab(&["lab", "resume"]));
    ok(&student.ztlab(&["lab", "stop"]));
    // Without saying so again, the lab goes on where it was.
    ok(&student.ztlab(&["lab", "start", "wiretap"]));
    let refused = student.ztlab(&["lab", "start", "wiretap", "--ground", "embedded"]);
    assert!(
        text(&refused.stderr).contains("belongs to the context"),
        "{}",
        text(&refused.stderr)
    );
    ok(&student.ztlab(&["lab", "stop", "--delete"]));
    assert!(!shared.is_there(&["namespace", "shop"]));
    assert!(shared.is_there(&["namespace", "theirs"]));
}

#[test]
fn what_somebody_else_made_is_not_touched_and_students_share_by_prefixes() {
    if !embedded_works() {
        return;
    }
    let shared = Shared::new("context-shared");
    shared.kubectl(&["create", "namespace", "shop"]);
    shared.kubectl(&["create", "configmap", "theirs", "-n", "shop"]);
    let (ann, bob) = (
        Student::new("context-shared-ann", &shared),
        Student::new("context-shared-bob", &shared),
    );
    let said = ann.refused(&[]);
    assert!(
        said.contains("namespace shop") && said.contains("--namespace-prefix"),
        "{said}"
    );
    assert!(
        ann.refused(&["--fresh", "--namespace-prefix", "Ann_"])
            .contains("no name of a namespace")
    );
    // Nothing was begun yet that another place would belong to.
    ok(&ann.start(&["--namespace-prefix", "ann-"]));
    ok(&bob.start(&["--namespace-prefix", "bob-"]));
    ok(&ann.ztlab(&["lab", "solve", "listen"]));
    assert_eq!((ann.earned(), bob.earned()), (30, 0));
    let status = ann.json(&["lab", "status", "--json"]);
    let instructions = status["session"]["steps"][0]["instructions"].as_str().unwrap();
    assert!(instructions.contains("kubectl get pods -n ann-shop"), "{instructions}");
    let carl = Student::new("context-shared-carl", &shared);
    assert!(
        carl.refused(&["--namespace-prefix", "ann-"])
            .contains("namespace ann-shop")
    );
    ok(&bob.ztlab(&["lab", "stop", "--delete"]));
    assert!(!shared.is_there(&["namespace", "bob-shop"]) && shared.is_there(&["namespace", "ann-shop"]));
    assert_eq!(ann.earned(), 30);
    assert!(shared.is_there(&["configmap", "theirs", "-n", "shop"]));
}

#[test]
fn what_a_cluster_lacks_is_told_before_anything_is_written() {
    if !embedded_works() {
        return;
    }
    let shared = Shared::new("context-lacks");
    let student = Student::new("context-lacks-student", &shared);
    let output = student.ztlab(&["lab", "start", "wiretap", "--ground", "context", "--context", "nosuch"]);
    let said = text(&output.stderr);
    assert!(
        said.contains("no context \"nosuch\"") && said.contains(&shared.context()),
        "{said}"
    );

    // A user who may look, and nothing else.
    shared.kubectl(&["create", "serviceaccount", "guest"]);
    shared.kubectl(&[
        "create",
        "clusterrolebinding",
        "guest",
        "--clusterrole=view",
        "--serviceaccount=default:guest",
    ]);
    let token = shared.kubectl(&["create", "token", "guest"]);
    let config: Value = serde_json::from_str(&shared.kubectl(&["config", "view", "--raw", "-o", "json"])).unwrap();
    let guest = json!({"apiVersion": "v1", "kind": "Config", "clusters": config["clusters"], "current-context": "guest",
        "users": [{"name": "guest", "user": {"token": token.trim()}}],
        "contexts": [{"name": "guest", "context": {"cluster": config["clusters"][0]["name"], "user": "guest"}}]});
    let file = student.home.path().join("guest.json");
    std::fs::write(&file, guest.to_string()).unwrap();
    let file = file.display().to_string();
    let place = ["--ground", "context", "--context", "guest", "--kubeconfig", &file];
    let output = student.ztlab(&[&["lab", "start", "wiretap", "--fresh"][..], &place].concat());
    let said = text(&output.stderr);
    for right in [
        "create namespaces",
        "create deployments.apps in shop",
        "patch pods/ephemeralcontainers in shop",
    ] {
        assert!(said.contains(right), "{right}: {said}");
    }
    assert!(!shared.is_there(&["namespace", "shop"]));

    let said = student.refused(&["--fresh", "--images", "registry.invalid/none"]);
    assert!(said.contains("registry.invalid/none/shop/frontend:1"), "{said}");
    assert!(said.contains("the lab needs these images"), "{said}");
    assert!(said.contains("registry.invalid/none/observer:1"), "{said}");
}

/// The observer is found where the pods' own images are; nobody says so for each capture.
#[test]
fn an_observer_comes_from_where_the_namespace_says() {
    if !embedded_works() {
        return;
    }
    let shared = Shared::new("context-observer");
    let home = &shared.0;
    let printed = home.ztlab(&["lab", "manifests", "wiretap", "--images", "registry.invalid/none"]);
    let printed = text(&printed.stdout);
    assert!(printed.contains("ztlab.dev/images: registry.invalid/none"), "{printed}");
    for (namespace, images, image) in [
        (
            "elsewhere",
            Some("registry.invalid/none/"),
            "registry.invalid/none/observer:1",
        ),
        ("here", None, "ztlab.dev/observer:1"),
    ] {
        shared.kubectl(&["create", "namespace", namespace]);
        if let Some(images) = images {
            let annotation = format!("ztlab.dev/images={images}");
            shared.kubectl(&["annotate", "namespace", namespace, &annotation]);
        }
        shared.kubectl(&[
            "run",
            "pod",
            "-n",
            namespace,
            "--image=ztlab.dev/toolbox:1",
            "--",
            "sleep",
            "1000",
        ]);
        shared.kubectl(&[
            "wait",
            "-n",
            namespace,
            "--for=condition=Ready",
            "pod/pod",
            "--timeout=60s",
        ]);
        let output = home.ztlab(&["capture", "--pod", "pod", "--namespace", namespace, "--for", "1s"]);
        assert_eq!(output.status.success(), images.is_none(), "{}", text(&output.stderr));
        let path = "{.spec.ephemeralContainers[0].image}";
        let found = shared.kubectl(&["get", "pod", "pod", "-n", namespace, "-o", &format!("jsonpath={path}")]);
        assert_eq!(found, image);
    }
}

#[test]
fn manifests_are_printed_as_a_ground_needs_them() {
    let home = Home::new("context-manifests");
    let print = |more: &[&str]| {
        let output = home.ztlab(&[&["lab", "manifests", "wiretap"][..], more].concat());
        ok(&output);
        text(&output.stdout)
    };
    let plain = print(&[]);
    assert!(
        plain.contains("namespace: shop") && plain.contains("image: ztlab.dev/shop/payments-api:1"),
        "{plain}"
    );
    let changed = print(&["--namespace-prefix", "ann-", "--images", "registry.example/x"]);
    assert!(
        changed.contains("namespace: ann-shop") && !changed.contains("namespace: shop"),
        "{changed}"
    );
    assert!(changed.contains("image: registry.example/x/shop/payments-api:1") && !changed.contains("image: ztlab.dev"));
}

/// The labs that are proven there, in the order of what they take.
const ON_A_CONTEXT: [&str; 2] = ["wiretap", "built-on"];

/// A lab whose second step changes what the first one made.
const BUILT_ON: &str = r#"
apiVersion: ztlab.dev/v1
kind: Lab
metadata:
  name: built-on
  title: One step after the other
  level: 0
  minutes: 5
  difficulty: beginner
spec:
  objectives: [Change what was made]
  namespace: shop
  topology: [flat, ./visitor.yaml]
  steps:
    - id: make
      title: Make it
      points: 40
      instructions: Make it.
      checks:
        - name: it is there
          object: { apiVersion: v1, kind: ConfigMap, name: it, fields: [{ path: $.data.made, equals: "yes" }] }
          why: It was made.
      hints: [{ cost: 1, text: Make it. }]
      teaches: It is there.
      solution:
        - apply: { yaml: "{ apiVersion: v1, kind: ConfigMap, metadata: { name: it }, data: { made: 'yes' } }" }
      wrong:
        - do: [{ apply: { yaml: "{ apiVersion: v1, kind: ConfigMap, metadata: { name: it }, data: { made: 'no' } }" } }]
          fails: it is there
        - do: [{ apply: { yaml: "{ apiVersion: v1, kind: ConfigMap, metadata: { name: it }, data: { made: maybe } }" } }]
          fails: it is there
    - id: change
      title: Change it
      needs: [make]
      points: 60
      instructions: Change it.
      checks:
        - name: it was changed
          object: { apiVersion: v1, kind: ConfigMap, name: it, fields: [{ path: $.data.changed, equals: "yes" }] }
          why: It was changed.
      hints: [{ cost: 1, text: Change it. }]
      teaches: It was changed.
      solution:
        - patch: { kind: ConfigMap, name: it, patch: { data: { changed: "yes" } } }
      wrong:
        - do: [{ patch: { kind: ConfigMap, name: it, patch: { data: { changed: "no" } } } }]
          fails: it was changed
        - do: [{ patch: { kind: ConfigMap, name: it, patch: { data: { changed: maybe } } } }]
          fails: it was changed
"#;

/// The author gate, on clusters that are reached by their kubeconfigs alone. There a step's start cannot be put back: what the
/// steps before did is done again. Each lab has a cluster, as they would meet on one; all at the same time, since a proof waits
/// more than it works.
#[test]
fn labs_are_proven_on_a_context() {
    if !embedded_works() {
        return;
    }
    let proofs = ON_A_CONTEXT.map(|lab| std::thread::spawn(move || proven(lab)));
    let outcomes = proofs.map(std::thread::JoinHandle::join);
    for outcome in outcomes {
        outcome.unwrap();
    }
}

fn proven(lab: &str) {
    let shared = Shared::new(&format!("context-verify-{lab}"));
    let before = shared.everything();
    let author = Student::new(&format!("context-verify-{lab}-author"), &shared);
    if lab == "built-on" {
        ok(&author.ztlab(&["lab", "new", lab]));
        std::fs::write(author.home.path().join("labs/built-on/lab.yaml"), BUILT_ON).unwrap();
    }
    let context = shared.context();
    let args = ["lab", "verify", lab, "--ground", "context", "--context", &context];
    ok(&author.ztlab(&args));
    assert_eq!(shared.everything(), before, "it leaves nothing behind");
}
