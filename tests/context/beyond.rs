//! Labs that make more than their namespace: nothing of it is left behind, and nothing of others is touched.

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Shared, Student, embedded_works, ok, text};

/// Kinds that come and go by themselves.
const FLEETING: &[&str] = &["events", "leases", "endpoints", "endpointslices", "componentstatuses"];

impl Shared {
    /// Every object of the cluster, by kind, namespace and name.
    pub(super) fn everything(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let kinds = self.kubectl(&["api-resources", "--verbs=list,delete", "-o", "name"]);
        for kind in kinds.lines().map(str::trim) {
            let short = kind.split('.').next().unwrap_or(kind);
            if FLEETING.contains(&short) {
                continue;
            }
            let list: Value = serde_json::from_str(&self.kubectl(&["get", kind, "-A", "-o", "json"])).unwrap();
            for item in list["items"].as_array().unwrap() {
                let meta = &item["metadata"];
                let namespace = meta["namespace"].as_str().unwrap_or("");
                all.insert(format!("{kind} {namespace}/{}", meta["name"].as_str().unwrap()));
            }
        }
        assert!(all.contains("namespaces /default"), "{all:?}");
        all
    }

    #[track_caller]
    fn apply(&self, manifest: &str) {
        use std::io::Write;
        let mut command = self.0.command("kubectl");
        command
            .env("KUBECONFIG", self.kubeconfig())
            .args(["apply", "-f", "-"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
        ok(&child.wait_with_output().unwrap());
    }

    /// An object as it is.
    fn object(&self, args: &[&str]) -> Value {
        let mut get = vec!["get", "-o", "json"];
        get.extend_from_slice(args);
        serde_json::from_str(&self.kubectl(&get)).unwrap()
    }
}

impl Student<'_> {
    fn begin(&self, lab: &str, more: &[&str]) -> std::process::Output {
        let context = self.shared.context();
        let mut args = vec!["lab", "start", lab, "--ground", "context", "--context", &context];
        args.extend_from_slice(more);
        self.ztlab(&args)
    }

    #[track_caller]
    fn is_refused(&self, lab: &str, more: &[&str]) -> String {
        let output = self.begin(lab, more);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
        text(&output.stderr)
    }

    /// Solves every step, in the order of the lab.
    fn solve(&self) {
        let session = self.json(&["lab", "status", "--json"])["session"].clone();
        for step in session["steps"].as_array().unwrap() {
            ok(&self.ztlab(&["lab", "solve", step["id"].as_str().unwrap()]));
        }
        assert_eq!(self.earned(), 100);
    }
}

/// All of a lab that a student does rightly, twice, with a reset between: all points, and nothing is left behind. Proving it
/// with its wrong attempts too takes minutes where no step's start can be put back, and is done for one lab that ships.
fn lived(lab: &str, name: &str) {
    if !embedded_works() {
        return;
    }
    let shared = Shared::new(name);
    shared.kubectl(&["create", "namespace", "theirs"]);
    shared.kubectl(&["create", "clusterrole", "theirs", "--verb=get", "--resource=pods"]);
    let before = shared.everything();
    let student = Student::new(&format!("{name}-student"), &shared);
    ok(&student.begin(lab, &[]));
    assert_eq!(student.earned(), 0);
    student.solve();
    let made = shared.everything();
    let installs = ["spire", "spiffe-mtls"].contains(&lab);
    for object in ["namespaces /spire", "clusterspiffeids.spire.spiffe.io /shop"] {
        assert_eq!(made.contains(object), installs, "{made:#?}");
    }
    // As at the start, to the object, and not by what was made before; what is beyond the namespace goes with it.
    let uid = |args: &[&str]| shared.object(args)["metadata"]["uid"].clone();
    let old = uid(&["namespace", "shop"]);
    ok(&student.ztlab(&["lab", "reset"]));
    assert_eq!(student.earned(), 0);
    assert_eq!(uid(&["namespace", "shop"]) != old, installs);
    let reset = shared.everything();
    let has = |what: &str| reset.iter().any(|one| one.starts_with(what));
    // One lab begins with SPIRE, the other without.
    assert_eq!(has("namespaces /spire"), lab == "spiffe-mtls", "{reset:#?}");
    assert!(!has("clusterspiffeids.spire.spiffe.io "), "{reset:#?}");
    // It says so by its exit code, too.
    assert!(!student.ztlab(&["lab", "check"]).status.success());
    assert_eq!(student.earned(), 0);
    student.solve();
    ok(&student.ztlab(&["lab", "stop", "--delete"]));
    let after = shared.everything();
    let (new, gone): (Vec<_>, Vec<_>) = (after.difference(&before).collect(), before.difference(&after).collect());
    assert!(new.is_empty() && gone.is_empty(), "left: {new:#?}, gone: {gone:#?}");
}

#[test]
fn perimeter_is_solved_reset_and_taken_away() {
    lived("perimeter", "context-perimeter");
}

#[test]
fn manual_mtls_is_solved_reset_and_taken_away() {
    lived("manual-mtls", "context-manual");
}

#[test]
fn layers_is_solved_reset_and_taken_away() {
    lived("layers", "context-layers");
}

#[test]
fn spire_is_installed_used_and_taken_away_to_the_last_object() {
    lived("spire", "context-spire");
}

#[test]
fn the_shop_with_svids_is_taken_away_to_the_last_object() {
    lived("spiffe-mtls", "context-spiffe");
}

/// What a student does by hand: ztlab writes the manifests, kubectl applies them.
#[test]
fn what_a_student_applies_by_hand_is_taken_away_and_what_carries_no_label_is_told() {
    if !embedded_works() {
        return;
    }
    let shared = Shared::new("context-hand");
    let before = shared.everything();
    let student = Student::new("context-hand-student", &shared);
    ok(&student.begin("spire", &[]));
    let session = student.json(&["lab", "status", "--json"])["session"].clone();
    let kubectl = |args: &[&str]| -> Command {
        let mut command = student.home.command("kubectl");
        command.env("KUBECONFIG", session["kubeconfig"].as_str().unwrap());
        command.current_dir(session["work"].as_str().unwrap()).args(args);
        command
    };
    let printed = student.ztlab(&["manifests", "spire"]);
    ok(&printed);
    let printed = text(&printed.stdout);
    assert!(printed.contains("ztlab.dev/lab: \"spire\""), "{printed}");
    assert!(
        printed.contains("# k8s_psat: a TokenReview says"),
        "comments are for students"
    );
    shared.apply(&printed);
    ok(&kubectl(&["apply", "-f", "client.yaml", "-f", "identities.yaml"])
        .output()
        .unwrap());
    ok(&kubectl(&[
        "rollout",
        "status",
        "-n",
        "spire",
        "statefulset/spire-server",
        "--timeout=60s",
    ])
    .output()
    .unwrap());
    // By hand, and by no file of the lab; something else is to clean up behind it first.
    shared.apply(
        "{apiVersion: spire.spiffe.io/v1alpha1, kind: ClusterSPIFFEID, metadata: {name: own, finalizers: [example.com/hold]},
          spec: {spiffeIDTemplate: 'spiffe://ztlab.example/own', podSelector: {matchLabels: {a: b}}}}",
    );
    shared.kubectl(&["create", "clusterrole", "mine", "--verb=get", "--resource=pods"]);
    let mut stop = student.home.command(student.home.binary());
    stop.env("KUBECONFIG", shared.kubeconfig())
        .args(["lab", "stop", "--delete"]);
    let mut stopping = stop.spawn().unwrap();
    let going = |args: &[&str]| shared.object(args)["metadata"]["deletionTimestamp"].is_string();
    let until = Instant::now() + Duration::from_secs(60);
    while !going(&["clusterspiffeid", "own"]) {
        assert!(Instant::now() < until, "the custom resource is not deleted");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Its definition, and who may have to do something about it, are there until it is gone; and so long it is waited.
    for args in [
        &["customresourcedefinition", "clusterspiffeids.spire.spiffe.io"][..],
        &["namespace", "spire"],
        &["namespace", "shop"],
        &["clusterrole", "spire-controller-manager"],
    ] {
        assert!(!going(args), "{args:?}");
    }
    assert_eq!(stopping.try_wait().unwrap(), None);
    let patch = "{\"metadata\": {\"finalizers\": null}}";
    shared.kubectl(&["patch", "clusterspiffeid", "own", "--type=merge", "-p", patch]);
    assert!(stopping.wait().unwrap().success());
    let after = shared.everything();
    let new: Vec<_> = after.difference(&before).map(String::as_str).collect();
    assert_eq!(
        new,
        ["clusterroles.rbac.authorization.k8s.io /mine"],
        "the student's own"
    );

    // The same without the labels: nothing shows whose it is.
    ok(&student.begin("spire", &["--fresh"]));
    shared.apply(
        &include_str!("../../manifests/spire/02-server-account.yaml").replace("namespace: spire", "namespace: default"),
    );
    let said = student.ztlab(&["lab", "reset"]);
    assert!(
        !said.status.success() && text(&said.stderr).contains("clusterrole spire-server"),
        "{}",
        text(&said.stderr)
    );
    let said = student.ztlab(&["lab", "stop", "--delete"]);
    let told = text(&said.stderr);
    assert!(
        told.contains("clusterrole spire-server") && told.contains("stay"),
        "{told}"
    );
    assert!(
        !shared.is_there(&["namespace", "shop"]),
        "what is the lab's is gone all the same"
    );
    assert!(shared.is_there(&["clusterrole", "spire-server"]));
}

#[test]
fn somebody_elses_spire_is_not_touched() {
    if !embedded_works() {
        return;
    }
    let shared = Shared::new("context-clash");
    let theirs = |file: &str| std::fs::read_to_string(format!("manifests/spire/{file}")).unwrap();
    shared.apply(&theirs("00-namespace.yaml"));
    shared.apply(&theirs("01-definitions.yaml"));
    shared.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: theirs, namespace: spire}, data: {a: b}}");
    shared.apply(
        "{apiVersion: spire.spiffe.io/v1alpha1, kind: ClusterSPIFFEID, metadata: {name: shop},
          spec: {spiffeIDTemplate: 'spiffe://theirs.example/own'}}",
    );
    let (before, own) = (shared.everything(), ["clusterspiffeid", "shop"]);
    let theirs = shared.object(&own);
    let (ann, bob) = (
        Student::new("context-clash-ann", &shared),
        Student::new("context-clash-bob", &shared),
    );
    for lab in ["spire", "spiffe-mtls"] {
        let said = ann.is_refused(lab, &["--fresh"]);
        for object in [
            "namespace spire",
            "customresourcedefinition clusterspiffeids.spire.spiffe.io",
            "clusterspiffeid shop",
        ] {
            assert!(said.contains(object), "{object}: {said}");
        }
        let _ = ann.ztlab(&["lab", "stop", "--delete"]);
        assert_eq!(shared.everything(), before);
        assert_eq!(shared.object(&own), theirs);
    }
    // There can be one on a cluster, whatever its namespace is called.
    let said = ann.is_refused("spire", &["--fresh", "--namespace-prefix", "ann-"]);
    assert!(
        said.contains("cannot have a prefix") && said.contains("spire"),
        "{said}"
    );

    shared.kubectl(&["delete", "clusterspiffeid", "shop"]);
    shared.kubectl(&[
        "delete",
        "-f",
        concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/spire/01-definitions.yaml"),
        "-f",
        concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/spire/00-namespace.yaml"),
    ]);
    ok(&ann.begin("spire", &["--fresh"]));
    // It is kept for ann before ann has installed anything.
    let mut command = other_lab(&bob);
    let said = command.output().unwrap();
    let told = text(&said.stderr);
    assert!(
        !said.status.success() && told.contains("kept for the lab `spire` in the namespace shop"),
        "{told}"
    );
    assert!(!shared.is_there(&["namespace", "other"]));
    ok(&ann.ztlab(&["lab", "stop", "--delete"]));
    ok(&command.output().unwrap());
}

/// The lab `spire` by another name and in another namespace, in the student's own directory; and how it is started.
fn other_lab(student: &Student) -> Command {
    let lab = student.home.path().join("labs/other");
    std::fs::create_dir_all(lab.join("solution")).unwrap();
    let read = |file: &str| std::fs::read_to_string(format!("labs/spire/{file}")).unwrap();
    for file in std::fs::read_dir("labs/spire/solution").unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let text = read(&format!("solution/{name}")).replace("namespace: shop", "namespace: other");
        std::fs::write(lab.join("solution").join(name), text).unwrap();
    }
    let start = "{apiVersion: v1, kind: Namespace, metadata: {name: other}}";
    std::fs::write(lab.join("start.yaml"), start).unwrap();
    let other = read("lab.yaml")
        .replacen("name: spire", "name: other", 1)
        .replacen("namespace: shop", "namespace: other", 1)
        .replacen("topology: [flat]", "topology: [./start.yaml]", 1);
    std::fs::write(lab.join("lab.yaml"), other).unwrap();
    let context = student.shared.context();
    let mut command = student.home.command(student.home.binary());
    command
        .env("KUBECONFIG", student.shared.kubeconfig())
        .current_dir(student.home.path())
        .args(["lab", "start", "other", "--ground", "context", "--context", &context]);
    command
}

#[test]
fn of_two_labs_that_begin_at_the_same_moment_one_gets_what_both_make() {
    use std::process::Stdio;
    if !embedded_works() {
        return;
    }
    let shared = Shared::new("context-once");
    let before = shared.everything();
    let (ann, bob) = (
        Student::new("context-once-ann", &shared),
        Student::new("context-once-bob", &shared),
    );
    let mut bobs = other_lab(&bob);
    bobs.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = bobs.spawn().unwrap();
    let anns = ann.begin("spire", &["--fresh"]);
    let bobs_output = child.wait_with_output().unwrap();
    let (lost, namespace) = match (anns.status.success(), bobs_output.status.success()) {
        (true, false) => (bobs_output, "other"),
        (false, true) => (anns, "shop"),
        both => panic!("{both:?}: {}{}", text(&anns.stderr), text(&bobs_output.stderr)),
    };
    assert!(
        text(&lost.stderr).contains("kept for the lab"),
        "{}",
        text(&lost.stderr)
    );
    assert!(
        !shared.is_there(&["namespace", namespace]),
        "who was too late makes nothing"
    );
    for student in [&ann, &bob] {
        student.ztlab(&["lab", "stop", "--delete"]);
    }
    assert_eq!(shared.everything(), before);

    // Between bob's look, which finds everything free, and bob's note that it is kept, somebody else is at it.
    let lease = "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: ztlab-claims, namespace: default}}";
    shared.apply(lease);
    let child = bobs.spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let waits =
        || bob.json(&["lab", "status", "--json"])["session"]["progress"]["phase"] == "wait until others have begun";
    while !waits() {
        assert!(Instant::now() < until, "bob does not wait");
        std::thread::sleep(Duration::from_millis(20));
    }
    shared.apply(
        "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {ztlab.dev/lab: spire, ztlab.dev/owner: ann},
          annotations: {ztlab.dev/makes: namespace spire}}}",
    );
    // Whoever holds the lock and is gone gives nothing back: in the end it is taken from them.
    let output = child.wait_with_output().unwrap();
    let told = text(&output.stderr);
    assert!(
        !output.status.success() && told.contains("namespace spire (kept for the lab `spire` in the namespace shop)"),
        "{told}"
    );
    assert!(!shared.is_there(&["namespace", "other"]));
    assert!(!shared.is_there(&["lease", "ztlab-claims"]), "it was given back");
}
