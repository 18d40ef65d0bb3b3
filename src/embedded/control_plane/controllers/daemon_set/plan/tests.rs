use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn set(strategy: Value) -> DaemonSet {
    serde_json::from_value(json!({"metadata": {"name": "agent", "namespace": "default", "uid": "set",
        "annotations": {GENERATION: "3"}}, "spec": {"selector": {"matchLabels": {"app": "agent"}},
        "updateStrategy": strategy, "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {
        "nodeSelector": {"agent": "yes"}, "tolerations": [{"key": "x", "operator": "Exists"}], "containers": [{"name": "c"}]}}}}))
    .unwrap()
}

fn node(name: &str, wanted: bool) -> Arc<Node> {
    let labels = if wanted { json!({"agent": "yes"}) } else { json!({}) };
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap())
}

fn nodes(names: &[&str]) -> Vec<Arc<Node>> {
    names.iter().map(|name| node(name, true)).collect()
}

/// A pod that is Running and ready, with changes.
fn pod_on(node: &str, hash: &str, more: Value) -> Arc<Pod> {
    let name = format!("{node}-{hash}");
    let mut value = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": {POD_LABEL: hash},
        "creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": {"nodeName": node, "containers": []}, "status": {"phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z"}]}});
    json_patch::merge(&mut value, &more);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn unready() -> Value {
    json!({"status": {"conditions": []}})
}

fn leaving() -> Value {
    json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:00Z"}})
}

fn decide(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> (Vec<String>, Vec<String>) {
    let plan = plan(&facts(set, nodes, pods));
    (plan.create, plan.delete.into_iter().map(|(name, _)| name).collect())
}

fn facts<'a>(set: &'a DaemonSet, nodes: &'a [Arc<Node>], pods: &'a [Arc<Pod>]) -> Facts<'a> {
    Facts {
        set,
        pods,
        nodes,
        hash: "new",
        pause: &|_| Duration::ZERO,
        now: Timestamp::UNIX_EPOCH,
    }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn each_matching_node_has_one() {
    let nodes = [node("a", true), node("b", false), node("c", true)];
    let pods = [
        pod_on("b", "new", json!({})),
        pod_on("c", "new", json!({})),
        pod_on(
            "c",
            "other",
            json!({"metadata": {"labels": {POD_LABEL: "new"}, "creationTimestamp": "1970-01-01T00:00:09Z"}}),
        ),
        pod_on("gone", "new", json!({})),
    ];
    assert_eq!(
        decide(&set(json!({})), &nodes, &pods),
        (strings(&["a"]), strings(&["b-new", "c-other", "gone-new"]))
    );
    let status = status(&facts(&set(json!({})), &nodes, &pods), None);
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_misscheduled
        ),
        (2, 1, 1)
    );
    assert_eq!((status.number_ready, status.number_unavailable), (1, Some(1)));
}

#[test]
fn a_leaving_pod_is_waited_for_and_a_failed_one_replaced_after_a_pause() {
    assert_eq!(
        decide(&set(json!({})), &nodes(&["a"]), &[pod_on("a", "new", leaving())]),
        (vec![], vec![])
    );
    let failed = [pod_on("a", "new", json!({"status": {"phase": "Failed"}}))];
    let (set, nodes) = (set(json!({})), nodes(&["a"]));
    let facts = facts(&set, &nodes, &failed);
    let now = plan(&facts);
    assert_eq!((now.delete.len(), now.failed), (1, strings(&["a"])));
    assert_eq!(
        now.events[0].message,
        "Found failed daemon pod default/a-new on node a, will try to kill it"
    );
    let later = plan(&Facts {
        pause: &|_| Duration::from_secs(4),
        ..facts
    });
    assert_eq!((later.delete.len(), later.again), (0, Some(Duration::from_secs(4))));
}

#[test]
fn a_rolling_update_takes_away_as_many_as_may_be_missing() {
    let all = ["a", "b", "c", "d"];
    let old: Vec<_> = all.iter().map(|node| pod_on(node, "old", json!({}))).collect();
    let rolling = |most: Value| set(json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": most}}));
    assert_eq!(decide(&rolling(json!(1)), &nodes(&all), &old).1, ["a-old"]);
    assert_eq!(decide(&rolling(json!("30%")), &nodes(&all), &old).1, ["a-old", "b-old"]);
    assert_eq!(
        decide(&set(json!({"type": "OnDelete"})), &nodes(&all), &old).1,
        Vec::<String>::new()
    );
    // one that is not available is replaced beyond that, one that is new and not yet available counts
    let mut mixed = old.clone();
    mixed[0] = pod_on("a", "new", unready());
    mixed[3] = pod_on("d", "old", unready());
    assert_eq!(decide(&rolling(json!(1)), &nodes(&all), &mixed).1, ["d-old"]);
    mixed[0] = pod_on("a", "new", json!({}));
    assert_eq!(decide(&rolling(json!(1)), &nodes(&all), &mixed).1, ["d-old", "b-old"]);
}

#[test]
fn a_surge_makes_the_new_one_first() {
    let surging = set(json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}));
    let nodes = nodes(&["a", "b"]);
    let old = || pod_on("a", "old", json!({}));
    let rest = || pod_on("b", "old", json!({}));
    assert_eq!(decide(&surging, &nodes, &[old(), rest()]), (strings(&["a"]), vec![]));
    let new = pod_on("a", "new", unready());
    assert_eq!(decide(&surging, &nodes, &[old(), new, rest()]), (vec![], vec![]));
    let new = pod_on("a", "new", json!({}));
    assert_eq!(
        decide(&surging, &nodes, &[old(), new.clone(), rest()]),
        (vec![], strings(&["a-old"]))
    );
    assert_eq!(decide(&surging, &nodes, &[new, rest()]), (strings(&["b"]), vec![]));
}

#[test]
fn a_pod_is_bound_to_its_node_and_stays_there() {
    let pod = pod(&set(json!({})), "a", "new");
    assert_eq!(node_of(&pod), Some("a"));
    assert_eq!(pod.labels()[POD_LABEL], "new");
    assert_eq!(pod.labels()[GENERATION_LABEL], "3");
    let tolerations = pod.spec.unwrap().tolerations.unwrap();
    assert_eq!(tolerations.len(), 7);
    assert_eq!(tolerations[0].key.as_deref(), Some("x"));
}

proptest! {
    /// Followed to its end, any rolling update has each node run the new pod, and never more are missing than may be.
    #[test]
    fn an_update_ends_and_keeps_its_limits(count in 1_usize..6, unavailable in 0_usize..4, surge in 0_usize..3, ready in 0_usize..3) {
        let names: Vec<String> = (0..count).map(|at| format!("n{at}")).collect();
        let nodes: Vec<_> = names.iter().map(|name| node(name, true)).collect();
        let set = set(json!({"rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}));
        let mut pods: Vec<_> = names.iter().map(|name| pod_on(name, "old", json!({}))).collect();
        let allowed = if unavailable == 0 && surge == 0 { 1 } else if surge > 0 { 0 } else { unavailable };
        for step in 0..100 {
            let plan = plan(&facts(&set, &nodes, &pods));
            if plan.create.is_empty() && plan.delete.is_empty() && pods.iter().all(|pod| pods::ready_since(pod).is_some()) {
                break;
            }
            prop_assert!(step < 99);
            pods.retain(|pod| !plan.delete.iter().any(|(name, _)| *name == pod.name_any()));
            pods.extend(plan.create.iter().map(|node| pod_on(node, "new", unready())));
            let up = |node: &String| pods.iter().any(|pod| node_of(pod) == Some(node) && pods::ready_since(pod).is_some());
            prop_assert!(names.iter().filter(|node| !up(node)).count() <= allowed);
            prop_assert!(pods.len() <= count + surge);
            // some of the new ones become ready
            for pod in pods.iter_mut().filter(|pod| pods::ready_since(pod).is_none()).take(ready + 1) {
                *pod = pod_on(node_of(pod).unwrap(), "new", json!({}));
            }
        }
        prop_assert_eq!(pods.len(), count);
        prop_assert!(pods.iter().all(|pod| pod.labels()[POD_LABEL] == "new"));
    }
}
