//! From what there is to what a snapshot says: the writes between. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use serde_json::{Map, Value, json};

use super::{desired, is, is_derived, is_of_the_moment, is_volume, keeps_status, owners};
use crate::control_plane::storage::{Key, Write};

/// What becomes of an object that the snapshot holds.
enum Fate {
    /// It is as the snapshot says.
    Same,
    /// It is there, and differs.
    Differs(Arc<Value>),
    /// It is made, after the one of its name is gone, if there is one.
    Fresh { replaces: bool },
}

/// The writes that make `live` (everything the store holds) what `wanted` (what a snapshot holds) says, in order.
///
/// An object that is there with the uid of the snapshot is changed in place. One that was deleted since, or deleted and made
/// again, is made with a new uid, and so are bare pods and Jobs whether they differ or not, for they are to be fresh, and volumes
/// and claims that were bound otherwise. What refers to a uid that changed refers to the new one. Pods end at once, and finalizers of what goes are not waited for.
/// The Node is only ever changed: which node there is, is not the snapshot's to say.
pub fn plan(
    live: &[(Key, Arc<Value>)],
    wanted: &[(Key, Value)],
    now: &str,
    mut new_uid: impl FnMut() -> String,
) -> Vec<Write> {
    let there: HashMap<&Key, &Arc<Value>> = live.iter().map(|(key, object)| (key, object)).collect();
    let mut uids = HashMap::new();
    for (key, object) in wanted {
        let current = there.get(key).map(|current| uid(current));
        if !is(key, "", "nodes") && (current != Some(uid(object)) || is_to_be_fresh(key, object, there.get(key))) {
            uids.insert(uid(object).to_owned(), new_uid());
        }
    }
    let mut writes = Stages::default();
    let mut kept = HashSet::new();
    let names: HashSet<&Key> = wanted.iter().map(|(key, _)| key).collect();
    let namespaces: HashSet<&str> = wanted
        .iter()
        .filter(|(key, _)| is(key, "", "namespaces"))
        .map(|(key, _)| key.name.as_str())
        .collect();
    for (key, object) in wanted {
        let mut object = object.clone();
        let is_fresh = uids.contains_key(uid(&object));
        rename(&mut object, &uids);
        let fate = match there.get(key) {
            Some(_) if is_fresh => Fate::Fresh { replaces: true },
            None if is(key, "", "nodes") => continue,
            None => Fate::Fresh { replaces: false },
            Some(current) if desired(key, current).as_ref() == Some(&object) => Fate::Same,
            Some(current) => Fate::Differs((*current).clone()),
        };
        kept.insert(uid(&object).to_owned());
        match fate {
            Fate::Same => {}
            Fate::Differs(current) => writes.put(key, changed(key, &current, object)),
            Fate::Fresh { replaces } => {
                if replaces {
                    writes.delete(key);
                }
                writes.create(key, fresh(object, now));
            }
        }
    }
    for (key, object) in live {
        let stays = is(key, "", "nodes")
            || names.contains(key)
            // Events of before say what happened then.
            || namespaces.contains(key.namespace.as_str()) && is_of_the_moment(key)
            // A controller keeps them in step with what it selects, as long as there is something to select for.
            || is_derived(key, object)
                && !is(key, "", "pods")
                && owners(object).iter().any(|owner| kept.contains(text(owner, "uid")));
        if !stays {
            writes.delete(key);
        }
    }
    writes.in_order()
}

/// Whether an object is made anew even where it is there: it stands for something that runs, or it is bound to something else.
fn is_to_be_fresh(key: &Key, wanted: &Value, current: Option<&&Arc<Value>>) -> bool {
    let bound = |object: &Value| {
        let of = ["/spec/claimRef/uid", "/spec/volumeName"];
        of.map(|field| object.pointer(field).cloned().unwrap_or_default())
    };
    is(key, "", "pods")
        || is(key, "batch", "jobs")
        || is_volume(key) && current.is_some_and(|current| bound(current) != bound(wanted))
        || current.is_some_and(|current| current.pointer("/metadata/deletionTimestamp").is_some())
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn uid(object: &Value) -> &str {
    object.get("metadata").map_or("", |metadata| text(metadata, "uid"))
}

/// Replaces uids wherever they stand: in owner references, in the labels and selectors of Jobs, in claims.
fn rename(value: &mut Value, uids: &HashMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(new) = uids.get(text) {
                text.clone_from(new);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, uids)),
        Value::Object(fields) => fields.values_mut().for_each(|field| rename(field, uids)),
        _ => {}
    }
}

fn metadata(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.get_mut("metadata")?.as_object_mut()
}

fn fresh(mut object: Value, now: &str) -> Value {
    if let Some(metadata) = metadata(&mut object) {
        metadata.insert("creationTimestamp".to_owned(), json!(now));
        if metadata.contains_key("generation") {
            metadata.insert("generation".to_owned(), json!(1));
        }
    }
    object
}

/// The snapshot's object in place of the one that is there, whose status and count of generations go on.
fn changed(key: &Key, current: &Value, mut object: Value) -> Value {
    let generation = current.pointer("/metadata/generation").and_then(Value::as_i64);
    let same_spec = rest(current) == rest(&object);
    let status_managers = current
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|manager| manager.get("subresource") == Some(&json!("status")))
        .cloned()
        .collect::<Vec<_>>();
    if let Some(metadata) = metadata(&mut object) {
        if let Some(generation) = generation {
            let next = if same_spec {
                generation
            } else {
                generation.saturating_add(1)
            };
            metadata.insert("generation".to_owned(), json!(next));
        }
        if let Some(managers) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
            managers.extend(status_managers);
        }
    }
    if !keeps_status(key)
        && let (Some(status), Some(fields)) = (current.get("status"), object.as_object_mut())
    {
        fields.insert("status".to_owned(), status.clone());
    }
    object
}

/// What a generation counts: everything but metadata and status.
fn rest(object: &Value) -> BTreeMap<&str, &Value> {
    let fields = object.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"))
        .map(|(name, value)| (name.as_str(), value))
        .collect()
}

/// Writes by when they are made: first what others live in, then what goes, the makers of pods before the pods, then the rest.
#[derive(Default)]
struct Stages {
    first: Vec<Write>,
    makers: Vec<Write>,
    gone: Vec<Write>,
    homes: Vec<Write>,
    rest: Vec<Write>,
}

fn is_home(key: &Key) -> bool {
    is(key, "", "namespaces") || is(key, "apiextensions.k8s.io", "customresourcedefinitions")
}

impl Stages {
    fn put(&mut self, key: &Key, object: Value) {
        let stage = if is_home(key) { &mut self.first } else { &mut self.rest };
        stage.push(Write::Update(key.clone(), object));
    }

    fn create(&mut self, key: &Key, object: Value) {
        self.rest.push(Write::Create(key.clone(), object));
    }

    fn delete(&mut self, key: &Key) {
        let stage = if is_home(key) {
            &mut self.homes
        } else if matches!(key.collection.group.as_str(), "apps" | "batch") {
            &mut self.makers
        } else {
            &mut self.gone
        };
        stage.push(Write::Delete(key.clone()));
    }

    fn in_order(self) -> Vec<Write> {
        let (homes, others): (Vec<_>, Vec<_>) = self
            .rest
            .into_iter()
            .partition(|write| matches!(write, Write::Create(key, _) if is_home(key)));
        let order = [self.first, self.makers, self.gone, self.homes, homes, others];
        order.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control_plane::storage::{CollectionKey, Limits, Store};

    const NOW: &str = "2026-01-02T03:04:05Z";

    fn key(group: &str, resource: &str, namespace: &str, name: &str) -> Key {
        CollectionKey::new(group, resource).object(namespace, name)
    }

    fn object(name: &str, uid: &str, owner: Option<&str>, spec: &Value) -> Value {
        let owners =
            owner.map(|uid| json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": uid, "controller": true}]));
        let mut object = json!({"metadata": {"name": name, "uid": uid, "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec, "status": {"seen": uid}});
        if let Some(owners) = owners {
            object["metadata"]["ownerReferences"] = owners;
        }
        object
    }

    fn store(objects: &[(Key, Value)]) -> Store {
        let store = Store::new(Limits::default());
        for (key, object) in objects {
            store.create(key, object.clone()).unwrap();
        }
        store
    }

    fn taken(store: &Store) -> Vec<(Key, Value)> {
        let objects = store.objects();
        let held = |(key, object): &(Key, Arc<Value>)| Some((key.clone(), desired(key, object)?));
        objects.iter().filter_map(held).collect()
    }

    fn restore(store: &Store, wanted: &[(Key, Value)]) -> usize {
        let mut next = 0;
        let done = store.rewrite(|live| {
            plan(live, wanted, NOW, || {
                next += 1;
                format!("fresh-{next}")
            })
        });
        done.len()
    }

    /// The objects by key without what a restore may change: uids and what counts.
    fn shape(store: &Store) -> BTreeMap<Key, (Value, bool)> {
        let strip = |(key, object): (Key, Arc<Value>)| {
            let owned = !owners(&object).is_empty();
            (key, (object["spec"].clone(), owned))
        };
        store.objects().into_iter().map(strip).collect()
    }

    fn shop() -> Vec<(Key, Value)> {
        vec![
            (
                key("", "namespaces", "", "shop"),
                object("shop", "ns", None, &json!({})),
            ),
            (
                key("apps", "deployments", "shop", "web"),
                object("web", "d", None, &json!({"replicas": 2})),
            ),
            (
                key("apps", "replicasets", "shop", "web-1"),
                object("web-1", "r", Some("d"), &json!({"replicas": 2})),
            ),
            (
                key("", "services", "shop", "web"),
                object("web", "s", None, &json!({"clusterIP": "10.96.1.0"})),
            ),
            (
                key("", "pods", "shop", "bare"),
                object("bare", "b", None, &json!({"nodeName": "n", "containers": []})),
            ),
            (
                key("", "pods", "shop", "web-1-x"),
                object("web-1-x", "p", Some("r"), &json!({"nodeName": "n"})),
            ),
            (
                key("discovery.k8s.io", "endpointslices", "shop", "web-a"),
                object("web-a", "e", Some("s"), &json!({})),
            ),
            (key("", "nodes", "", "n"), object("n", "node", None, &json!({}))),
        ]
    }

    fn find<'a>(objects: &'a [(Key, Value)], name: &str) -> &'a (Key, Value) {
        objects.iter().find(|(key, _)| key.name == name).unwrap()
    }

    #[test]
    fn nothing_changed_still_makes_fresh_pods_and_nothing_else() {
        let store = store(&shop());
        let wanted = taken(&store);
        assert_eq!(wanted.len(), 6, "no owned pod, no slice of a controller");
        let before = store.revision();
        restore(&store, &wanted);
        // The owned pod and the bare one went, the bare one came.
        assert_eq!(store.revision(), before + 3);
        let bare = store.get(&key("", "pods", "shop", "bare")).unwrap();
        assert_eq!(uid(&bare), "fresh-1");
        assert!(bare["spec"].get("nodeName").is_none() && bare.get("status").is_none());
        assert!(store.get(&key("", "pods", "shop", "web-1-x")).is_none());
        assert!(
            store
                .get(&key("discovery.k8s.io", "endpointslices", "shop", "web-a"))
                .is_some()
        );
        let web = store.get(&key("apps", "deployments", "shop", "web")).unwrap();
        assert_eq!((uid(&web), &web["status"]["seen"]), ("d", &json!("d")));
    }

    #[test]
    fn what_was_deleted_comes_back_with_a_new_uid_and_its_dependents_know_it() {
        let store = store(&shop());
        let wanted = taken(&store);
        for (group, resource, name) in [("apps", "deployments", "web"), ("apps", "replicasets", "web-1")] {
            store.delete(&key(group, resource, "shop", name), None).unwrap();
        }
        restore(&store, &wanted);
        let web = store.get(&key("apps", "deployments", "shop", "web")).unwrap();
        let set = store.get(&key("apps", "replicasets", "shop", "web-1")).unwrap();
        assert!(uid(&web).starts_with("fresh-") && uid(&set).starts_with("fresh-") && uid(&web) != uid(&set));
        assert_eq!(owners(&set)[0]["uid"], web["metadata"]["uid"]);
        assert_eq!(web["metadata"]["generation"], 1);
        assert_eq!(web["metadata"]["creationTimestamp"], NOW);
        assert!(web.get("status").is_none());
    }

    #[test]
    fn what_was_changed_is_changed_back_in_place_and_never_rewinds() {
        let store = store(&shop());
        let wanted = taken(&store);
        let web = key("apps", "deployments", "shop", "web");
        let mut other = (*store.get(&web).unwrap()).clone();
        other["spec"]["replicas"] = json!(7);
        other["metadata"]["generation"] = json!(4);
        other["status"] = json!({"seen": "later"});
        store.update(&web, None, other).unwrap();
        let before = store.revision();
        restore(&store, &wanted);
        let web = store.get(&web).unwrap();
        assert_eq!((uid(&web), &web["spec"]["replicas"]), ("d", &json!(2)));
        assert_eq!(web["metadata"]["generation"], 5);
        assert_eq!(web["status"]["seen"], "later");
        assert!(crate::control_plane::storage::revision_of(&web) > before);
    }

    #[test]
    fn what_was_deleted_and_made_again_is_made_again() {
        let objects = shop();
        let store = store(&objects);
        let wanted = taken(&store);
        let (service, held) = find(&objects[3..], "web");
        store.delete(service, None).unwrap();
        let mut again = held.clone();
        again["metadata"]["uid"] = json!("another");
        store.create(service, again).unwrap();
        let mut watch = store.watch(&service.collection, None, store.revision()).unwrap();
        restore(&store, &wanted);
        let back = store.get(service).unwrap();
        assert!(uid(&back).starts_with("fresh-"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seen = runtime.block_on(async {
            use crate::control_plane::storage::WatchItem;
            let mut seen = Vec::new();
            for _ in 0..2 {
                if let Some(WatchItem::Change(change)) = watch.next().await {
                    seen.push((change.kind, change.revision));
                }
            }
            seen
        });
        use crate::control_plane::storage::ChangeKind::{Added, Deleted};
        assert_eq!(seen.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [Deleted, Added]);
        assert!(seen[0].1 < seen[1].1);
    }

    #[test]
    fn what_the_snapshot_does_not_hold_goes_and_the_node_stays() {
        let store = store(&shop());
        let wanted = taken(&store);
        for (key, object) in [
            (key("", "namespaces", "", "mine"), object("mine", "m", None, &json!({}))),
            (key("", "configmaps", "mine", "c"), object("c", "c", None, &json!({}))),
            (key("", "pods", "shop", "spy"), object("spy", "y", None, &json!({}))),
            (
                key("discovery.k8s.io", "endpointslices", "mine", "z"),
                object("z", "z", Some("gone"), &json!({})),
            ),
            (
                key("coordination.k8s.io", "leases", "shop", "l"),
                object("l", "l", None, &json!({})),
            ),
            (key("", "events", "shop", "e"), object("e", "ev", None, &json!({}))),
        ] {
            store.create(&key, object).unwrap();
        }
        let node = key("", "nodes", "", "n");
        let mut cordoned = (*store.get(&node).unwrap()).clone();
        cordoned["spec"] = json!({"unschedulable": true});
        store.update(&node, None, cordoned).unwrap();
        restore(&store, &wanted);
        assert!(store.collections_in("mine").is_empty());
        assert!(store.get(&key("", "namespaces", "", "mine")).is_none());
        assert!(store.get(&key("", "pods", "shop", "spy")).is_none());
        assert_eq!(uid(&store.get(&node).unwrap()), "node");
        assert_eq!(store.get(&node).unwrap()["spec"], json!({}));
        assert!(store.get(&key("coordination.k8s.io", "leases", "shop", "l")).is_some());
        assert!(store.get(&key("", "events", "shop", "e")).is_some());
    }

    #[test]
    fn jobs_are_fresh_and_their_selectors_follow() {
        let job = json!({"metadata": {"name": "j", "uid": "j-1"}, "spec": {
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "j-1"}},
            "template": {"metadata": {"labels": {"batch.kubernetes.io/controller-uid": "j-1"}}}}, "status": {"succeeded": 1}});
        let store = store(&[(key("batch", "jobs", "a", "j"), job)]);
        restore(&store, &taken(&store));
        let job = store.get(&key("batch", "jobs", "a", "j")).unwrap();
        let label = "/spec/template/metadata/labels/batch.kubernetes.io~1controller-uid";
        assert_eq!(job.pointer(label).unwrap(), uid(&job));
        assert!(job.get("status").is_none());
    }

    #[test]
    fn volumes_come_back_to_the_claims_that_they_were_of() {
        let volume = |claim: &str| {
            json!({"metadata": {"name": "v", "uid": "v-1", "annotations": {"pv.kubernetes.io/provisioned-by": "x"}},
                "spec": {"claimRef": {"name": "c", "uid": claim}}, "status": {"phase": "Bound"}})
        };
        let claim = |uid: &str| json!({"metadata": {"name": "c", "uid": uid}, "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}});
        let (of_volume, of_claim) = (
            key("", "persistentvolumes", "", "v"),
            key("", "persistentvolumeclaims", "a", "c"),
        );
        let store = store(&[(of_volume.clone(), volume("c-1")), (of_claim.clone(), claim("c-1"))]);
        let wanted = taken(&store);
        let before = store.revision();
        restore(&store, &wanted);
        assert_eq!(store.revision(), before, "what is bound as it was is left alone");
        // Both went, and others of their names came; or they are bound to something else by now.
        let mut other = volume("c-2");
        other["metadata"]["uid"] = json!("v-2");
        let gone = |store: &Store| {
            for key in [&of_volume, &of_claim] {
                store.delete(key, None).unwrap();
            }
        };
        let replaced = |store: &Store| {
            store.update(&of_volume, None, other.clone()).unwrap();
            store.update(&of_claim, None, claim("c-2")).unwrap();
        };
        let rebound = |store: &Store| {
            let mut now = (*store.get(&of_claim).unwrap()).clone();
            now["spec"] = json!({});
            now["status"] = json!({"phase": "Pending"});
            store.update(&of_claim, None, now).unwrap();
        };
        for change in [&gone as &dyn Fn(&Store), &replaced, &rebound] {
            change(&store);
            restore(&store, &wanted);
            let (volume, claim) = (store.get(&of_volume).unwrap(), store.get(&of_claim).unwrap());
            assert_eq!(volume["spec"]["claimRef"]["uid"], claim["metadata"]["uid"]);
            assert_eq!(claim["spec"]["volumeName"], "v");
            assert_eq!(
                (&volume["status"]["phase"], &claim["status"]["phase"]),
                (&json!("Bound"), &json!("Bound"))
            );
        }
    }

    #[derive(Debug, Clone)]
    enum Deed {
        Delete(usize),
        Change(usize, u8),
        Make(u8, u8),
        Again(usize),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let deed = prop_oneof![
            (0usize..8).prop_map(Deed::Delete),
            (0usize..8, any::<u8>()).prop_map(|(at, with)| Deed::Change(at, with)),
            (0u8..4, any::<u8>()).prop_map(|(kind, name)| Deed::Make(kind, name)),
            (0usize..8).prop_map(Deed::Again),
        ];
        proptest::collection::vec(deed, 0..20)
    }

    proptest! {
        #[test]
        fn whatever_was_done_the_desired_state_is_back_in_new_revisions(deeds in deeds()) {
            let objects = shop();
            let store = store(&objects);
            let wanted = taken(&store);
            let mut expected = shape(&store);
            expected.retain(|key, (_, owned)| !(*owned && is(key, "", "pods")));
            if let Some(bare) = expected.get_mut(&key("", "pods", "shop", "bare")) {
                bare.0 = json!({"containers": []});
            }
            for (number, deed) in deeds.iter().enumerate() {
                match deed {
                    Deed::Delete(at) => drop(store.delete(&objects[*at].0, None)),
                    Deed::Change(at, with) => {
                        if let Some(held) = store.get(&objects[*at].0) {
                            let mut changed = (*held).clone();
                            changed["spec"] = json!({"changed": with});
                            store.update(&objects[*at].0, None, changed).unwrap();
                        }
                    }
                    Deed::Make(kind, name) => {
                        let resource = ["pods", "configmaps", "services", "secrets"][usize::from(*kind)];
                        let name = format!("made-{name}");
                        let made = object(&name, &format!("u{number}"), None, &json!({}));
                        drop(store.create(&key("", resource, "shop", &name), made));
                    }
                    Deed::Again(at) => {
                        let (key, held) = &objects[*at];
                        drop(store.delete(key, None));
                        let mut again = held.clone();
                        again["metadata"]["uid"] = json!(format!("again-{number}"));
                        store.create(key, again).unwrap();
                    }
                }
            }
            let before = store.revision();
            let changed: HashMap<Key, u64> = store.objects().into_iter()
                .map(|(key, object)| (key, crate::control_plane::storage::revision_of(&object))).collect();
            restore(&store, &wanted);
            let mut found = shape(&store);
            // Which node there is and what controllers derive is not the snapshot's to say.
            for derived in [key("", "nodes", "", "n"), key("discovery.k8s.io", "endpointslices", "shop", "web-a")] {
                expected.remove(&derived);
                found.remove(&derived);
            }
            prop_assert_eq!(found, expected);
            let mut uids = HashSet::new();
            for (key, object) in store.objects() {
                prop_assert!(uids.insert(uid(&object).to_owned()), "a uid twice");
                let revision = crate::control_plane::storage::revision_of(&object);
                prop_assert!(revision > before || changed.get(&key) == Some(&revision));
            }
            // Owners are there.
            let set = store.get(&key("apps", "replicasets", "shop", "web-1")).unwrap();
            prop_assert!(uids.contains(owners(&set)[0]["uid"].as_str().unwrap()));
            // A second time finds nothing to do but pods.
            let again = restore(&store, &wanted);
            prop_assert!(again >= 2);
        }
    }
}
