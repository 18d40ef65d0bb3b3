use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::control_plane::controllers::revision::Step;

fn set(replicas: i32, more: Value) -> StatefulSet {
    let mut value = json!({
        "metadata": {"name": "db", "namespace": "default", "uid": "set", "generation": 1},
        "spec": {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "new"}]}}}
    });
    json_patch::merge(&mut value, &json!({"spec": more}));
    serde_json::from_value(value).unwrap()
}

fn revisions(set: &StatefulSet) -> Revisions {
    let template = |image: &str| -> PodTemplateSpec {
        serde_json::from_value(json!({"metadata": {"labels": {"app": "db"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}))
        .unwrap()
    };
    let of = |image| match revision::choose(set, &template(image), &[], None) {
        Step::Create(made) => *made,
        _ => panic!("there are none"),
    };
    Revisions {
        current: of("old"),
        update: of("new"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Life {
    Ready,
    Starting,
    Leaving,
    Failed,
}

fn pod(set: &StatefulSet, ordinal: i32, old: bool, life: Life) -> Arc<Pod> {
    let pair = revisions(set);
    let revision = if old { pair.current } else { pair.update };
    let template = revision::template(&revision).unwrap();
    let mut pod = identity::pod(set, &template, &revision.name_any(), ordinal);
    pod.metadata.uid = Some(format!("uid-{ordinal}"));
    let ready = if matches!(life, Life::Ready | Life::Leaving) {
        "True"
    } else {
        "False"
    };
    let phase = match life {
        Life::Ready | Life::Leaving => "Running",
        Life::Starting => "Pending",
        Life::Failed => "Failed",
    };
    if life == Life::Leaving {
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            Timestamp::UNIX_EPOCH,
        ));
    }
    pod.status = serde_json::from_value(json!({"phase": phase, "conditions": [
        {"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:00Z"}]}))
    .unwrap();
    Arc::new(pod)
}

fn planned(set: &StatefulSet, pods: &[Arc<Pod>], claims: &[Arc<PersistentVolumeClaim>], now: Timestamp) -> Plan {
    plan(&Facts {
        set,
        pods,
        claims,
        revisions: &revisions(set),
        now,
    })
}

/// `+` makes, `-` deletes; a made pod of the old revision has a `'`.
fn shown(set: &StatefulSet, plan: &Plan) -> String {
    let old = revisions(set).current.name_any();
    let show = |action: &Action| match action {
        Action::Create(pod, _) => {
            let mark = if revision_of(pod) == old { "'" } else { "" };
            format!("+{}{mark}", pod.name_any().trim_start_matches("db-"))
        }
        Action::Delete(name, _) => format!("-{}", name.trim_start_matches("db-")),
        Action::Claim(name, _) => format!("claims of {name}"),
        Action::Mend(name, _) => format!("mend {name}"),
        Action::Own(change) => format!("own {}", change.name),
    };
    plan.actions.iter().map(show).collect::<Vec<_>>().join(" ")
}

#[test]
fn pods_come_and_go_in_order_and_in_parallel() {
    use Life::{Failed, Leaving, Ready, Starting};
    let parallel = json!({"podManagementPolicy": "Parallel"});
    let on_delete = json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}});
    let partition = json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}});
    let from_five = json!({"ordinals": {"start": 5}});
    type Case<'a> = (i32, Value, &'a [(i32, bool, Life)], &'a str);
    let cases: &[Case] = &[
        (3, json!({}), &[], "+0"),
        (3, json!({}), &[(0, false, Starting)], ""),
        (3, json!({}), &[(0, false, Ready)], "+1"),
        (3, json!({}), &[(0, false, Leaving), (1, false, Ready)], ""),
        (3, json!({}), &[(0, false, Failed), (1, false, Ready)], "-0"),
        // the gap in the middle is filled first, and nothing else is done before
        (2, json!({}), &[(0, false, Ready), (2, false, Ready)], "+1"),
        (3, parallel.clone(), &[], "+0 +1 +2"),
        (3, parallel.clone(), &[(1, false, Failed)], "+0 -1 +2"),
        (
            1,
            json!({}),
            &[(0, false, Ready), (1, false, Ready), (2, false, Ready)],
            "-2",
        ),
        (
            1,
            json!({}),
            &[(0, false, Ready), (1, false, Ready), (2, false, Leaving)],
            "",
        ),
        // one that never became ready is not waited for when it is itself the first that is not
        (
            1,
            json!({}),
            &[(0, false, Ready), (1, false, Ready), (2, false, Starting)],
            "-2",
        ),
        (
            1,
            json!({}),
            &[(0, false, Ready), (1, false, Starting), (2, false, Starting)],
            "",
        ),
        (
            1,
            parallel,
            &[(0, false, Ready), (1, false, Ready), (2, false, Starting)],
            "-2 -1",
        ),
        (0, json!({}), &[(0, false, Ready)], "-0"),
        // updates go from the highest ordinal down, one at a time
        (
            3,
            json!({}),
            &[(0, true, Ready), (1, true, Ready), (2, true, Ready)],
            "-2",
        ),
        (
            3,
            json!({}),
            &[(0, true, Ready), (1, true, Ready), (2, false, Ready)],
            "-1",
        ),
        (
            3,
            json!({}),
            &[(0, true, Ready), (1, true, Ready), (2, false, Starting)],
            "",
        ),
        (
            3,
            partition.clone(),
            &[(0, true, Ready), (1, true, Ready), (2, true, Ready)],
            "-2",
        ),
        (
            3,
            partition.clone(),
            &[(0, true, Ready), (1, true, Ready), (2, false, Ready)],
            "",
        ),
        (3, partition.clone(), &[(0, true, Ready), (2, false, Ready)], "+1'"),
        (3, partition, &[(0, true, Ready), (1, true, Ready)], "+2"),
        (2, on_delete.clone(), &[(0, true, Ready), (1, true, Ready)], ""),
        (2, on_delete, &[(0, true, Ready)], "+1"),
        (2, from_five.clone(), &[], "+5"),
        (1, from_five, &[(0, false, Ready), (5, false, Ready)], "-0"),
    ];
    for (replicas, more, pods, expected) in cases {
        let set = set(*replicas, more.clone());
        let pods: Vec<_> = pods.iter().map(|(at, old, life)| pod(&set, *at, *old, *life)).collect();
        let plan = planned(&set, &pods, &[], Timestamp::UNIX_EPOCH);
        assert_eq!(&shown(&set, &plan), expected, "{replicas} {more}");
    }
}

#[test]
fn min_ready_seconds_are_waited_for() {
    let set = set(2, json!({"minReadySeconds": 10}));
    let pods = [pod(&set, 0, false, Life::Ready)];
    let plan = planned(&set, &pods, &[], Timestamp::UNIX_EPOCH);
    assert_eq!(
        (shown(&set, &plan), plan.again),
        (String::new(), Some(Duration::from_secs(10)))
    );
    let later = Timestamp::from_second(10).unwrap();
    assert_eq!(shown(&set, &planned(&set, &pods, &[], later)), "+1");
}

#[test]
fn a_pod_has_its_name_host_name_labels_and_claims() {
    let set = set(
        1,
        json!({"volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"a": "b"}},
        "spec": {"accessModes": ["ReadWriteOnce"]}}],
        "template": {"spec": {"volumes": [{"name": "data", "emptyDir": {}}, {"name": "other", "emptyDir": {}}]}}}),
    );
    let plan = planned(&set, &[], &[], Timestamp::UNIX_EPOCH);
    let [Action::Create(pod, claims)] = plan.actions.as_slice() else {
        panic!("{plan:?}")
    };
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("db-0"), Some("db"))
    );
    assert_eq!(pod.labels()["statefulset.kubernetes.io/pod-name"], "db-0");
    assert_eq!(pod.labels()["apps.kubernetes.io/pod-index"], "0");
    assert_eq!(revision_of(pod), revisions(&set).update.name_any());
    let volumes = spec.volumes.as_ref().unwrap();
    assert_eq!(volumes.len(), 2);
    let claimed = volumes.iter().find(|volume| volume.name == "data").unwrap();
    assert_eq!(
        claimed.persistent_volume_claim.as_ref().unwrap().claim_name,
        "data-db-0"
    );
    assert_eq!(
        (claims[0].name_any(), claims[0].labels()["app"].as_str()),
        ("data-db-0".into(), "db")
    );
    assert!(claims[0].metadata.owner_references.is_none());
    // what is there is not made again, and a waiting pod's claim that was lost is
    let held = Arc::new(claims[0].clone());
    let again = planned(&set, &[], &[held], Timestamp::UNIX_EPOCH);
    assert!(matches!(again.actions.as_slice(), [Action::Create(_, claims)] if claims.is_empty()));
    let waiting = self::pod(&set, 0, false, Life::Starting);
    assert_eq!(
        shown(&set, &planned(&set, &[waiting], &[], Timestamp::UNIX_EPOCH)),
        "claims of db-0"
    );
}

#[test]
fn claims_are_owned_as_the_retention_policy_says() {
    let claim = |owner: Option<(&str, &str, &str)>| {
        let owners = owner.map(|(kind, name, uid)| json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": true}]));
        let value =
            json!({"metadata": {"name": "data-db-0", "namespace": "default", "uid": "c", "ownerReferences": owners}});
        serde_json::from_value::<PersistentVolumeClaim>(value).unwrap()
    };
    let by_set = Some(("StatefulSet", "db", "set"));
    let by_pod = Some(("Pod", "db-0", "uid-0"));
    let by_other = Some(("Thing", "x", "x"));
    for (deleted, scaled, replicas, held, expected) in [
        ("Retain", "Retain", 1, None, None),
        ("Retain", "Retain", 1, by_set, Some("")),
        ("Delete", "Retain", 1, None, Some("set")),
        ("Delete", "Retain", 0, None, Some("set")),
        ("Delete", "Retain", 1, by_set, None),
        ("Retain", "Delete", 1, None, None),
        ("Retain", "Delete", 0, None, Some("uid-0")),
        ("Retain", "Delete", 1, by_pod, Some("")),
        ("Delete", "Delete", 0, by_set, Some("uid-0")),
        ("Delete", "Delete", 1, by_pod, Some("set")),
        ("Delete", "Delete", 0, by_other, None),
    ] {
        let policy = json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}]});
        let set = set(replicas, policy);
        let change = identity::retain(&set, &pod(&set, 0, false, Life::Ready), 0, &claim(held));
        let owners = change.map(|change| {
            let owners = change.patch["metadata"]["ownerReferences"].as_array().unwrap().clone();
            owners
                .iter()
                .map(|owner| owner["uid"].as_str().unwrap().to_owned())
                .collect::<String>()
        });
        assert_eq!(owners.as_deref(), expected, "{deleted} {scaled} {replicas} {held:?}");
    }
}

#[test]
fn a_pod_waits_for_the_end_of_a_claim_that_goes() {
    let set = set(1, json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}}]}));
    let claim = json!({"metadata": {"name": "data-db-0", "namespace": "default", "uid": "c",
        "deletionTimestamp": "2020-01-01T00:00:00Z"}});
    let claim = Arc::new(serde_json::from_value(claim).unwrap());
    assert_eq!(shown(&set, &planned(&set, &[], &[claim], Timestamp::UNIX_EPOCH)), "");
}

#[test]
fn names_that_only_look_like_ours_are_not() {
    let set = set(1, json!({}));
    for (name, expected) in [
        ("db-0", Some(0)),
        ("db-12", Some(12)),
        ("db-01", None),
        ("db-", None),
        ("db-x", None),
        ("db--1", None),
        ("db-+1", None),
        ("other-0", None),
        ("db-99999999999", None),
    ] {
        assert_eq!(ordinal(&set, name), expected, "{name}");
    }
}

#[test]
fn the_status_is_complete_when_all_pods_are_of_the_new_revision() {
    use Life::{Leaving, Ready};
    let set = set(2, json!({}));
    let pair = revisions(&set);
    let of = |pods: &[Arc<Pod>]| {
        let facts = Facts {
            set: &set,
            pods,
            claims: &[],
            revisions: &pair,
            now: Timestamp::UNIX_EPOCH,
        };
        status(&facts, None)
    };
    let half = of(&[pod(&set, 0, true, Ready), pod(&set, 1, false, Ready)]);
    assert_eq!(
        (half.replicas, half.current_replicas, half.updated_replicas),
        (2, Some(1), Some(1))
    );
    assert_eq!(half.current_revision, pair.current.metadata.name);
    let leaving = of(&[pod(&set, 0, true, Ready), pod(&set, 1, true, Leaving)]);
    assert_eq!(
        (leaving.replicas, leaving.current_replicas, leaving.updated_replicas),
        (2, Some(1), None)
    );
    let whole = of(&[pod(&set, 0, false, Ready), pod(&set, 1, false, Ready)]);
    assert_eq!(
        (whole.current_revision, whole.current_replicas),
        (pair.update.metadata.name.clone(), Some(2))
    );
}

fn lives() -> impl Strategy<Value = Life> {
    prop_oneof![
        Just(Life::Ready),
        Just(Life::Starting),
        Just(Life::Leaving),
        Just(Life::Failed)
    ]
}

proptest! {
    /// However the pods stand, in order there is never more than one step, and no healthy pod is taken while another is not.
    #[test]
    fn in_order_is_one_step_at_a_time(
        replicas in 0..6i32,
        partition in 0..6i32,
        pods in proptest::collection::btree_map(0..8i32, (any::<bool>(), lives()), 0..8),
    ) {
        let set = set(replicas, json!({"updateStrategy": {"rollingUpdate": {"partition": partition}}}));
        let held: Vec<_> = pods.iter().map(|(at, (old, life))| pod(&set, *at, *old, *life)).collect();
        let plan = planned(&set, &held, &[], Timestamp::UNIX_EPOCH);
        prop_assert!(plan.actions.len() <= 1, "{:?}", plan.actions);
        if let Some(Action::Delete(name, _)) = plan.actions.first() {
            let at = ordinal(&set, name).unwrap();
            let (old, life) = pods[&at];
            let wanted = (0..replicas).all(|one| pods.get(&one).is_some_and(|(_, life)| *life == Life::Ready));
            prop_assert!(life == Life::Failed || wanted || !in_range(&set, at));
            if in_range(&set, at) && life == Life::Ready {
                prop_assert!(old && at >= partition);
            }
        }
    }

    /// With pods that become ready and go as asked, every set comes to rest with the pods it wants.
    #[test]
    fn every_set_comes_to_rest(
        replicas in 0..5i32,
        partition in 0..5i32,
        parallel in any::<bool>(),
        pods in proptest::collection::btree_map(0..7i32, (any::<bool>(), lives()), 0..7),
    ) {
        let policy = if parallel { "Parallel" } else { "OrderedReady" };
        let set = set(replicas, json!({"podManagementPolicy": policy, "updateStrategy": {"rollingUpdate": {"partition": partition}}}));
        let mut world = pods;
        let old = revisions(&set).current.name_any();
        for _ in 0..100 {
            // the kubelet's part
            world.retain(|_, (_, life)| *life != Life::Leaving);
            world.values_mut().filter(|(_, life)| *life == Life::Starting).for_each(|(_, life)| *life = Life::Ready);
            let held: Vec<_> = world.iter().map(|(at, (old, life))| pod(&set, *at, *old, *life)).collect();
            let plan = planned(&set, &held, &[], Timestamp::UNIX_EPOCH);
            if plan.actions.is_empty() {
                break;
            }
            for action in plan.actions {
                match action {
                    Action::Create(pod, _) => {
                        let at = ordinal(&set, &pod.name_any()).unwrap();
                        prop_assert!(world.insert(at, (revision_of(&pod) == old, Life::Starting)).is_none());
                    }
                    Action::Delete(name, _) => {
                        world.get_mut(&ordinal(&set, &name).unwrap()).unwrap().1 = Life::Leaving;
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
        prop_assert_eq!(world.keys().copied().collect::<Vec<_>>(), (0..replicas).collect::<Vec<_>>());
        for (at, (old, life)) in &world {
            prop_assert!(*life == Life::Ready && (*at < partition || !old), "{} {:?}", at, world);
        }
    }
}
