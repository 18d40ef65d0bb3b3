use super::*;

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn deployment(json: serde_json::Value) -> Deployment {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}
    });
    json_patch::merge(&mut object, &json);
    serde_json::from_value(object).unwrap()
}

/// What the API holds after the plan's creation.
fn created(plan: &Plan, available: i32) -> ReplicaSet {
    let mut set = plan.create.clone().unwrap();
    set.metadata.uid = set.metadata.name.clone();
    with(set, available)
}

fn with(mut set: ReplicaSet, available: i32) -> ReplicaSet {
    let replicas = wanted(&set);
    set.status = Some(k8s_openapi::api::apps::v1::ReplicaSetStatus {
        replicas,
        available_replicas: Some(available),
        ready_replicas: Some(available),
        ..Default::default()
    });
    set
}

fn image(deployment: &mut Deployment, image: &str) {
    deployment
        .spec
        .as_mut()
        .unwrap()
        .template
        .spec
        .as_mut()
        .unwrap()
        .containers[0]
        .image = Some(image.into());
}

#[test]
fn limits_round_as_kubernetes_does() {
    for (replicas, surge, unavailable, expected) in [
        (1, json!("25%"), json!("25%"), (1, 0)),
        (4, json!("25%"), json!("25%"), (1, 1)),
        (10, json!("25%"), json!("25%"), (3, 2)),
        (3, json!(0), json!(0), (0, 1)),
        (3, json!(2), json!(0), (2, 0)),
    ] {
        let d = deployment(json!({"spec": {"replicas": replicas,
            "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}}));
        let limits = limits(d.spec.as_ref().unwrap());
        assert_eq!(
            (limits.surge, limits.unavailable),
            expected,
            "{replicas} {surge} {unavailable}"
        );
    }
}

#[test]
fn a_first_template_gets_a_replica_set_at_once() {
    let d = deployment(json!({"spec": {"replicas": 3}}));
    let plan = plan(&d, &[], now());
    let set = plan.create.as_ref().unwrap();
    assert_eq!(wanted(set), 3);
    let hash = &set.metadata.labels.as_ref().unwrap()[HASH_LABEL];
    assert_eq!(set.name_any(), format!("web-{hash}"));
    assert_eq!(
        set.spec.as_ref().unwrap().selector.match_labels.as_ref().unwrap()[HASH_LABEL],
        *hash
    );
    assert_eq!(plan.revision.as_deref(), Some("1"));
    assert_eq!(
        plan.events[0].message,
        format!("Scaled up replica set web-{hash} from 0 to 3")
    );
}

#[test]
fn a_new_template_rolls_within_the_limits_to_its_end() {
    let mut d = deployment(json!({"spec": {"replicas": 4}}));
    let mut old = created(&plan(&d, &[], now()), 4);
    image(&mut d, "web:2");
    let first = plan(&d, std::slice::from_ref(&old), now());
    assert_eq!(wanted(first.create.as_ref().unwrap()), 1, "one of surge");
    assert_eq!(first.revision.as_deref(), Some("2"));
    let mut new = created(&first, 0);
    let mut most = 0;
    for _ in 0..20 {
        let step = plan(&d, &[old.clone(), new.clone()], now());
        for change in &step.changes {
            if let Some(replicas) = change.patch["spec"]["replicas"].as_i64() {
                let target = if change.name == old.name_any() {
                    &mut old
                } else {
                    &mut new
                };
                target.spec.as_mut().unwrap().replicas = Some(i32::try_from(replicas).unwrap());
            }
        }
        most = most.max(wanted(&old) + wanted(&new));
        assert!(wanted(&old) + wanted(&new) >= 3);
        (old, new) = (with(old.clone(), wanted(&old)), with(new.clone(), wanted(&new)));
    }
    assert_eq!((wanted(&old), wanted(&new), most), (0, 4, 5));
}

#[test]
fn an_unavailable_new_revision_does_not_take_down_the_old_one() {
    let mut d = deployment(json!({"spec": {"replicas": 2}}));
    let old = created(&plan(&d, &[], now()), 2);
    image(&mut d, "nobody/has:it");
    let new = created(&plan(&d, std::slice::from_ref(&old), now()), 0);
    let step = plan(&d, &[old, new], now());
    assert!(step.changes.is_empty(), "{:?}", step.changes);
}

#[test]
fn recreate_waits_for_the_old_pods() {
    let mut d = deployment(json!({"spec": {"replicas": 2, "strategy": {"type": "Recreate"}}}));
    let old = created(&plan(&d, &[], now()), 2);
    image(&mut d, "web:2");
    let step = plan(&d, std::slice::from_ref(&old), now());
    assert!(step.create.is_none());
    assert_eq!(step.changes[0].patch["spec"]["replicas"], 0);
    let mut gone = old.clone();
    gone.spec.as_mut().unwrap().replicas = Some(0);
    let step = plan(&d, &[with(gone, 0)], now());
    assert_eq!(wanted(step.create.as_ref().unwrap()), 2);
}

#[test]
fn undo_takes_the_old_replica_set_again_with_a_new_number() {
    let mut d = deployment(json!({"spec": {"replicas": 1}}));
    let first = created(&plan(&d, &[], now()), 0);
    image(&mut d, "web:2");
    let second = created(&plan(&d, std::slice::from_ref(&first), now()), 1);
    image(&mut d, "web:1");
    let step = plan(&d, &[first.clone(), second], now());
    assert!(step.create.is_none());
    assert_eq!(step.revision.as_deref(), Some("3"));
}

#[test]
fn conditions_follow_the_pods() {
    let d = deployment(json!({"spec": {"replicas": 1}}));
    let first = plan(&d, &[], now());
    let condition = |status: &DeploymentStatus, kind: &str| {
        let found = status
            .conditions
            .as_ref()
            .unwrap()
            .iter()
            .find(|c| c.type_ == kind)
            .unwrap()
            .clone();
        (found.status, found.reason.unwrap())
    };
    assert_eq!(
        condition(&first.status, "Progressing"),
        ("True".into(), "NewReplicaSetCreated".into())
    );
    assert_eq!(
        condition(&first.status, "Available"),
        ("False".into(), "MinimumReplicasUnavailable".into())
    );
    let mut d = d;
    d.status = Some(first.status.clone());
    let done = plan(&d, &[created(&first, 1)], now());
    assert_eq!(
        condition(&done.status, "Progressing"),
        ("True".into(), "NewReplicaSetAvailable".into())
    );
    assert_eq!(
        condition(&done.status, "Available"),
        ("True".into(), "MinimumReplicasAvailable".into())
    );
    let late = now().checked_add(Duration::from_secs(601)).unwrap();
    let mut stuck = created(&first, 0);
    stuck.status.as_mut().unwrap().replicas = 0;
    let failed = plan(&d, &[stuck], late);
    assert_eq!(
        condition(&failed.status, "Progressing"),
        ("False".into(), "ProgressDeadlineExceeded".into())
    );
}

#[test]
fn history_beyond_the_limit_goes() {
    let mut d = deployment(json!({"spec": {"replicas": 1, "revisionHistoryLimit": 1}}));
    let mut sets: Vec<ReplicaSet> = Vec::new();
    for number in 1..=4 {
        image(&mut d, &format!("web:{number}"));
        for set in &mut sets {
            set.spec.as_mut().unwrap().replicas = Some(0);
            *set = with(set.clone(), 0);
        }
        let next = created(&plan(&d, &sets, now()), 1);
        sets.push(next);
    }
    let step = plan(&d, &sets, now());
    assert_eq!(step.delete, [sets[0].name_any(), sets[1].name_any()]);
}

/// The number that a plan gives a ReplicaSet, and what else it changes there.
fn change_of<'a>(plan: &'a Plan, set: &ReplicaSet) -> Vec<&'a serde_json::Value> {
    let of = plan.changes.iter().filter(|change| change.name == set.name_any());
    of.map(|change| &change.patch).collect()
}

/// What the API holds after a plan's changes.
fn changed(plan: &Plan, set: &ReplicaSet) -> ReplicaSet {
    let mut object = serde_json::to_value(set).unwrap();
    for patch in change_of(plan, set) {
        json_patch::merge(&mut object, patch);
    }
    serde_json::from_value(object).unwrap()
}

fn replicas(deployment: &mut Deployment, replicas: i32) {
    deployment.spec.as_mut().unwrap().replicas = Some(replicas);
}

#[test]
fn scaled_in_the_middle_of_a_rollout_each_keeps_its_part() {
    let strategy = json!({"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}});
    let mut d = deployment(json!({"spec": {"replicas": 10, "strategy": strategy}}));
    let old = created(&plan(&d, &[], now()), 10);
    image(&mut d, "nobody/has:it");
    let first = plan(&d, std::slice::from_ref(&old), now());
    let new = created(&first, 0);
    assert_eq!(wanted(&new), 3);
    let step = plan(&d, &[old.clone(), new.clone()], now());
    let (old, new) = (with(changed(&step, &old), 8), with(changed(&step, &new), 0));
    let step = plan(&d, &[old.clone(), new.clone()], now());
    let (old, new) = (with(changed(&step, &old), 8), with(changed(&step, &new), 0));
    assert_eq!((wanted(&old), wanted(&new)), (8, 5));
    replicas(&mut d, 15);
    let step = plan(&d, &[old.clone(), new.clone()], now());
    let (old, new) = (with(changed(&step, &old), 8), with(changed(&step, &new), 0));
    assert_eq!((wanted(&old), wanted(&new)), (11, 7));
    let again = plan(&d, &[old, new], now());
    assert!(again.changes.is_empty(), "{:?}", again.changes);
}

#[test]
fn a_paused_deployment_is_scaled_and_not_rolled_out() {
    let mut d = deployment(json!({"spec": {"replicas": 2, "paused": true}}));
    assert!(plan(&d, &[], now()).create.is_none());
    d.spec.as_mut().unwrap().paused = None;
    let old = created(&plan(&d, &[], now()), 2);
    d.spec.as_mut().unwrap().paused = Some(true);
    image(&mut d, "web:2");
    replicas(&mut d, 5);
    let step = plan(&d, std::slice::from_ref(&old), now());
    assert!(step.create.is_none());
    assert_eq!(step.revision, None);
    let old = with(changed(&step, &old), 5);
    assert_eq!(wanted(&old), 5);
    d.spec.as_mut().unwrap().paused = None;
    assert!(plan(&d, &[old], now()).create.is_some());
}

#[test]
fn the_deadline_begins_anew_when_resumed() {
    let mut d = deployment(json!({"spec": {"replicas": 1}}));
    let first = plan(&d, &[], now());
    let mut set = created(&first, 0);
    set.status.as_mut().unwrap().replicas = 0;
    let later = |seconds| now().checked_add(Duration::from_secs(seconds)).unwrap();
    let reason = |plan: &Plan| {
        let conditions = plan.status.conditions.clone().unwrap();
        conditions
            .into_iter()
            .find(|c| c.type_ == "Progressing")
            .unwrap()
            .reason
            .unwrap()
    };
    let mut step = first;
    for (paused, at, expected) in [
        (true, 100, "DeploymentPaused"),
        (false, 1000, "DeploymentResumed"),
        (false, 1599, "DeploymentResumed"),
        (false, 1601, "ProgressDeadlineExceeded"),
        // what has timed out stays so when it is paused
        (true, 1700, "ProgressDeadlineExceeded"),
    ] {
        d.status = Some(step.status.clone());
        d.spec.as_mut().unwrap().paused = Some(paused);
        step = plan(&d, std::slice::from_ref(&set), later(at));
        assert_eq!(reason(&step), expected, "at {at}");
    }
}

#[test]
fn min_ready_seconds_reach_the_replica_set_that_is_there() {
    let mut d = deployment(json!({"spec": {"replicas": 1}}));
    let set = created(&plan(&d, &[], now()), 1);
    d.spec.as_mut().unwrap().min_ready_seconds = Some(30);
    let step = plan(&d, std::slice::from_ref(&set), now());
    let set = with(changed(&step, &set), 1);
    assert_eq!(set.spec.as_ref().unwrap().min_ready_seconds, Some(30));
    assert!(plan(&d, &[set], now()).changes.is_empty());
}
