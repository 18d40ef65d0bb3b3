use std::path::Path;

use k8s_openapi::api::{core::v1::Node, storage::v1::StorageClass};
use serde_json::{Value, json};

use super::{
    claim::{Facts, Fate, bound_claim, bound_status, bound_volume, default_class, fate},
    volume, *,
};

fn claim(more: Value) -> PersistentVolumeClaim {
    let mut all = json!({"metadata": {"name": "data", "namespace": "ns", "uid": "u", "resourceVersion": "7"}, "spec":
        {"accessModes": ["ReadWriteOnce"], "storageClassName": "c", "resources": {"requests": {"storage": "5Gi"}}},
        "status": {"phase": "Pending"}});
    json_patch::merge(&mut all, &more);
    serde_json::from_value(all).unwrap()
}

fn pv(name: &str, more: Value) -> Arc<PersistentVolume> {
    let mut all = json!({"metadata": {"name": name, "uid": name}, "spec": {"capacity": {"storage": "10Gi"},
        "accessModes": ["ReadWriteOnce"], "storageClassName": "c", "hostPath": {"path": format!("/volumes/{name}")}},
        "status": {"phase": "Available"}});
    json_patch::merge(&mut all, &more);
    Arc::new(serde_json::from_value(all).unwrap())
}

fn class(mode: &str, provisioner: &str) -> StorageClass {
    let class = json!({"metadata": {"name": "c"}, "volumeBindingMode": mode, "provisioner": provisioner});
    serde_json::from_value(class).unwrap()
}

fn node() -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "host"}}})).unwrap()
}

/// A fate in one word and its event.
fn told(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    class: Option<&StorageClass>,
    node: Option<&Node>,
) -> String {
    let fate = fate(&Facts {
        claim,
        volumes,
        class,
        default_class: Some("standard"),
        node,
    });
    match fate {
        Fate::Class(name) => format!("class {name}"),
        Fate::Bind(volume) => format!("bind {}", volume.name_any()),
        Fate::Provision => "provision".to_owned(),
        Fate::Wait(None) => "wait".to_owned(),
        Fate::Wait(Some(happening)) => format!("wait: {}: {}", happening.reason, happening.message),
        Fate::Lost(happening) => format!("lost: {}", happening.reason),
    }
}

#[test]
fn claims_without_a_volume() {
    let (now, later) = (
        class("Immediate", PROVISIONER),
        class("WaitForFirstConsumer", PROVISIONER),
    );
    let theirs = class("Immediate", "example.com/disk");
    let none = class("WaitForFirstConsumer", "kubernetes.io/no-provisioner");
    let node = node();
    let plain = claim(json!({}));
    let no_class = claim(json!({"spec": {"storageClassName": ""}}));
    let volumes = [pv("v", json!({}))];
    let waits = "wait: WaitForFirstConsumer: waiting for first consumer to be created before binding";
    assert_eq!(told(&plain, &volumes, Some(&now), None), "bind v");
    assert_eq!(told(&plain, &[], Some(&now), None), "provision");
    assert_eq!(told(&plain, &volumes, Some(&later), None), waits);
    assert_eq!(told(&plain, &volumes, Some(&later), Some(&node)), "bind v");
    assert_eq!(told(&plain, &[], Some(&later), Some(&node)), "provision");
    assert_eq!(told(&plain, &volumes, Some(&none), None), waits);
    assert_eq!(told(&plain, &[], Some(&none), Some(&node)), "wait");
    assert!(told(&plain, &[], Some(&theirs), None).contains("external provisioner 'example.com/disk'"));
    assert_eq!(
        told(&plain, &[], None, None),
        "wait: ProvisioningFailed: storageclass.storage.k8s.io \"c\" not found"
    );
    assert_eq!(
        told(&no_class, &volumes, None, None),
        "wait: FailedBinding: no persistent volumes available for this claim and no storage class is set"
    );
    assert_eq!(
        told(&claim(json!({"spec": {"storageClassName": null}})), &[], None, None),
        "class standard"
    );
}

#[test]
fn claims_that_name_a_volume() {
    let named = claim(json!({"spec": {"volumeName": "v"}}));
    let bound = claim(
        json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "v"}}),
    );
    let of = |name: &str, uid: &str| json!({"spec": {"claimRef": {"namespace": "ns", "name": name, "uid": uid}}});
    assert_eq!(told(&named, &[], None, None), "wait");
    assert_eq!(told(&named, &[pv("v", json!({}))], None, None), "bind v");
    assert_eq!(told(&named, &[pv("v", of("data", ""))], None, None), "bind v");
    assert_eq!(
        told(&named, &[pv("v", of("other", "x"))], None, None),
        "wait: FailedBinding: volume \"v\" already bound to a different claim."
    );
    assert_eq!(
        told(
            &named,
            &[pv("v", json!({"spec": {"capacity": {"storage": "1Gi"}}}))],
            None,
            None
        ),
        "wait: VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small"
    );
    assert_eq!(told(&bound, &[], None, None), "lost: ClaimLost");
    assert_eq!(told(&bound, &[pv("v", of("data", "u"))], None, None), "bind v");
    assert_eq!(
        told(&bound, &[pv("v", of("data", "old"))], None, None),
        "lost: ClaimMisbound"
    );
}

#[test]
fn a_binding_is_written_on_both_sides_once() {
    let (claim, volume) = (claim(json!({})), pv("v", json!({})));
    let volume = bound_volume(&volume, &claim).unwrap();
    assert_eq!(volume.annotations()[BY_CONTROLLER], "yes");
    assert_eq!(claim_of(&volume).unwrap().uid.as_deref(), Some("u"));
    assert_eq!(bound_volume(&volume, &claim), None);
    let mut bound = bound_claim(&claim, &volume).unwrap();
    assert_eq!(bound.spec.as_ref().unwrap().volume_name.as_deref(), Some("v"));
    assert_eq!(bound.annotations().len(), 2);
    assert_eq!(bound_claim(&bound, &volume), None);
    bound.status = bound_status(&bound, &volume);
    assert_eq!(bound.status.as_ref().unwrap().phase.as_deref(), Some("Bound"));
    assert_eq!(bound_status(&bound, &volume), None);
    // what a user bound by name carries no mark of a controller
    let kept = pv("v", json!({"spec": {"claimRef": {"namespace": "ns", "name": "data"}}}));
    assert!(
        !bound_volume(&kept, &claim)
            .unwrap()
            .annotations()
            .contains_key(BY_CONTROLLER)
    );
}

#[test]
fn what_becomes_of_volumes() {
    let of = |more: Value| {
        let mut all = json!({"spec": {"claimRef": {"namespace": "ns", "name": "data", "uid": "u"}}});
        json_patch::merge(&mut all, &more);
        pv("v", all)
    };
    let policy = |policy: &str| of(json!({"spec": {"persistentVolumeReclaimPolicy": policy}}));
    let holds = claim(json!({"spec": {"volumeName": "v"}}));
    let elsewhere = claim(json!({"spec": {"volumeName": "w"}}));
    let other = claim(json!({"metadata": {"uid": "later"}}));
    let theirs = json!({"metadata": {"annotations": {PROVISIONED_BY: "example.com/disk"}},
        "spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    let by_controller = of(json!({"metadata": {"annotations": {BY_CONTROLLER: "yes"}}}));
    use volume::Fate::{Delete, Phase, Unbind};
    for (volume, claim, expected) in [
        (pv("v", json!({})), None, Phase("Available")),
        (
            of(json!({"spec": {"claimRef": {"uid": null}}})),
            None,
            Phase("Available"),
        ),
        (policy("Retain"), Some(&holds), Phase("Bound")),
        (policy("Retain"), None, Phase("Released")),
        (policy("Retain"), Some(&other), Phase("Released")),
        (policy("Delete"), Some(&holds), Phase("Bound")),
        (policy("Delete"), None, Delete),
        (policy("Delete"), Some(&other), Delete),
        (of(theirs), None, Phase("Released")),
        (by_controller, Some(&elsewhere), Unbind),
        (policy("Delete"), Some(&elsewhere), Phase("Available")),
    ] {
        assert_eq!(volume::fate(&volume, claim), expected, "{volume:?}");
    }
    assert!(matches!(
        volume::fate(&policy("Recycle"), None),
        volume::Fate::Failed(_)
    ));
}

#[test]
fn only_a_directory_of_the_clusters_volumes_is_deleted() {
    let at = |path: &str| {
        let volume = pv("v", json!({"spec": {"hostPath": {"path": path}}}));
        volume::directory(&volume, Path::new("/cluster/volumes"))
    };
    assert_eq!(at("/cluster/volumes/v"), Ok("/cluster/volumes/v".into()));
    for path in [
        "/cluster/volumes",
        "/cluster/volumes/",
        "/cluster/volumes/..",
        "/cluster/volumes/v/w",
        "/cluster/volumes/../pki",
        "/cluster/volumes2",
        "/etc",
        "volumes/v",
        "",
    ] {
        assert!(
            at(path)
                .unwrap_err()
                .contains("host_path deleter only supports /cluster/volumes/.+"),
            "{path}"
        );
    }
}

#[test]
fn a_volume_is_made_as_its_claim_asks() {
    let class = class("Immediate", PROVISIONER);
    let made = volume::provisioned(&claim(json!({})), &class, Some(&node()), Path::new("/volumes")).unwrap();
    assert_eq!(made.name_any(), "pvc-u");
    assert_eq!(made.finalizers(), [volume::RECLAIM]);
    let spec = serde_json::to_value(made.spec.unwrap()).unwrap();
    assert_eq!(
        spec["hostPath"],
        json!({"path": "/volumes/pvc-u", "type": "DirectoryOrCreate"})
    );
    assert_eq!(spec["capacity"], json!({"storage": "5Gi"}));
    assert_eq!(spec["persistentVolumeReclaimPolicy"], "Delete");
    assert_eq!(
        spec.pointer("/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values"),
        Some(&json!(["host"]))
    );
    for (more, part) in [
        (json!({"volumeMode": "Block"}), "block volumes"),
        (json!({"selector": {}}), "Selector is not supported"),
        (
            json!({"dataSource": {"kind": "VolumeSnapshot", "name": "s"}}),
            "data sources",
        ),
    ] {
        let refused = volume::provisioned(&claim(json!({"spec": more})), &class, None, Path::new("/volumes"));
        assert!(refused.unwrap_err().contains(part), "{part}");
    }
}

#[test]
fn the_newest_default_class_is_the_default() {
    let class = |name: &str, day: u8, default: &str| -> Arc<StorageClass> {
        let meta = json!({"name": name, "creationTimestamp": format!("2026-01-0{day}T00:00:00Z"),
            "annotations": {"storageclass.kubernetes.io/is-default-class": default}});
        Arc::new(serde_json::from_value(json!({"metadata": meta, "provisioner": "p"})).unwrap())
    };
    let classes = [
        class("old", 1, "true"),
        class("new", 2, "true"),
        class("not", 3, "false"),
        class("zoo", 2, "true"),
    ];
    assert_eq!(default_class(&classes), Some("new"));
    assert_eq!(default_class(&classes[2..3]), None);
}
