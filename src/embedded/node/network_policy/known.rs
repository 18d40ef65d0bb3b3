//! What is known of the cluster. Pure.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::Ipv4Addr,
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use kube::{Resource, ResourceExt};

use super::{
    NodeService, World,
    facts::{Labels, PodFacts, pod_facts},
    moment::Moment,
};
use crate::informer::{Change, Key};

/// The revision of an object.
pub(super) fn revision(object: &impl Resource) -> u64 {
    let revision = object.meta().resource_version.as_deref();
    revision.and_then(|text| text.parse().ok()).unwrap_or_default()
}

struct KnownPod {
    address: Ipv4Addr,
    facts: Arc<PodFacts>,
}

/// Pods, and what namespaces and policies were last told to be: whether a change is one that matters.
#[derive(Default)]
pub(super) struct Known {
    /// The revisions of all pods, by uid.
    revisions: HashMap<String, u64>,
    /// By uid.
    pods: HashMap<String, KnownPod>,
    /// Who says to have an address, by uid: the first has it. The kubelet gives an address on only once the pod that had it is
    /// gone from here, so a second claim is somebody's who has no right to it yet.
    claims: HashMap<Ipv4Addr, VecDeque<String>>,
    namespaces: BTreeMap<String, Labels>,
    policies: HashMap<Key, Arc<NetworkPolicy>>,
    /// Whether anything that matters changed since the rules were last applied.
    pub(super) changed: bool,
}

impl Known {
    /// How many pods there are, with and without an address.
    pub(super) fn count(&self) -> usize {
        self.revisions.len()
    }

    /// The revision of the pod with this uid.
    pub(super) fn revision(&self, uid: &str) -> Option<u64> {
        self.revisions.get(uid).copied()
    }

    pub(super) fn pod(&mut self, change: &Change<Pod>) {
        if let Change::Applied { old: Some(old), new } = change
            && old.uid() != new.uid()
        {
            let uid = old.uid().unwrap_or_default();
            self.revisions.remove(&uid);
            self.forget(&uid);
        }
        let pod = change.object();
        let uid = pod.uid().unwrap_or_default();
        match change {
            Change::Applied { new, .. } => self.revisions.insert(uid.clone(), revision(new.as_ref())),
            Change::Deleted(_) => self.revisions.remove(&uid),
        };
        let facts = match change {
            Change::Applied { new, .. } => pod_facts(new),
            Change::Deleted(_) => None,
        };
        let Some((address, facts)) = facts else {
            self.forget(&uid);
            return;
        };
        if let Some(known) = self.pods.get_mut(&uid)
            && known.address == address
        {
            if *known.facts != facts {
                known.facts = Arc::new(facts);
                self.changed = true;
            }
            return;
        }
        self.forget(&uid);
        self.claims.entry(address).or_default().push_back(uid.clone());
        let facts = Arc::new(facts);
        self.pods.insert(uid, KnownPod { address, facts });
        self.changed = true;
    }

    fn forget(&mut self, uid: &str) {
        let Some(known) = self.pods.remove(uid) else { return };
        self.changed = true;
        if let Some(claims) = self.claims.get_mut(&known.address) {
            claims.retain(|claim| claim != uid);
            if claims.is_empty() {
                self.claims.remove(&known.address);
            }
        }
    }

    pub(super) fn namespace(&mut self, change: &Change<Namespace>) {
        let name = change.object().name_any();
        let labels = match change {
            Change::Applied { new, .. } => Some(new.labels().clone()),
            Change::Deleted(_) => None,
        };
        if self.namespaces.get(&name) == labels.as_ref() {
            return;
        }
        self.changed = true;
        match labels {
            Some(labels) => self.namespaces.insert(name, labels),
            None => self.namespaces.remove(&name),
        };
    }

    pub(super) fn policy(&mut self, change: &Change<NetworkPolicy>) {
        let key = Key::of(change.object().as_ref());
        match change {
            Change::Applied { new, .. } => {
                let before = self.policies.insert(key, new.clone());
                self.changed |= before.is_none_or(|before| before.spec != new.spec);
            }
            Change::Deleted(_) => self.changed |= self.policies.remove(&key).is_some(),
        }
    }

    /// The pods that are known, with what was there at the same moment.
    pub(super) fn world(&self, moment: Moment, node_services: &[NodeService]) -> World {
        let owner = |(address, claims): (&Ipv4Addr, &VecDeque<String>)| {
            Some((*address, self.pods.get(claims.front()?)?.facts.clone()))
        };
        World {
            pods: self.claims.iter().filter_map(owner).collect(),
            namespaces: moment.namespaces,
            policies: moment.policies,
            node_services: node_services.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, name: &str, ip: Option<&str>, app: &str) -> Arc<Pod> {
        let pod = json!({"metadata": {"uid": uid, "name": name, "namespace": "x", "labels": {"app": app}},
            "spec": {"containers": []}, "status": {"podIP": ip}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn applied(new: &Arc<Pod>) -> Change<Pod> {
        Change::Applied {
            old: None,
            new: new.clone(),
        }
    }

    fn apps(known: &Known) -> Vec<(String, String)> {
        let moment = Moment {
            namespaces: BTreeMap::new(),
            policies: Vec::new(),
            revision: 0,
        };
        let world = known.world(moment, &[]);
        world
            .pods
            .iter()
            .map(|(ip, pod)| (ip.to_string(), pod.labels["app"].clone()))
            .collect()
    }

    fn is(ip: &str, app: &str) -> Vec<(String, String)> {
        vec![(ip.to_owned(), app.to_owned())]
    }

    #[test]
    fn an_address_is_its_first_owners_until_that_is_gone() {
        let mut known = Known::default();
        let (old, new) = (
            pod("1", "a", Some("10.244.0.2"), "old"),
            pod("2", "b", Some("10.244.0.2"), "new"),
        );
        known.pod(&applied(&old));
        known.pod(&applied(&new));
        assert_eq!(apps(&known), is("10.244.0.2", "old"));
        known.pod(&Change::Deleted(old));
        assert_eq!(apps(&known), is("10.244.0.2", "new"));
        known.pod(&Change::Deleted(new));
        assert!(apps(&known).is_empty() && known.pods.is_empty() && known.claims.is_empty());
    }

    #[test]
    fn a_successor_of_the_same_name_is_another_pod() {
        let mut known = Known::default();
        let (old, new) = (pod("1", "a", Some("10.244.0.2"), "old"), pod("2", "a", None, "new"));
        known.pod(&applied(&old));
        known.pod(&Change::Applied { old: Some(old), new });
        assert!(apps(&known).is_empty(), "it has no address yet");
        known.pod(&applied(&pod("2", "a", Some("10.244.0.3"), "new")));
        assert_eq!(apps(&known), is("10.244.0.3", "new"));
    }

    #[test]
    fn only_what_policies_can_tell_is_a_change() {
        let mut known = Known::default();
        known.pod(&applied(&pod("1", "a", Some("10.244.0.2"), "x")));
        assert!(known.changed);
        known.changed = false;
        known.pod(&applied(&pod("1", "a", Some("10.244.0.2"), "x")));
        assert!(!known.changed, "a status that says nothing new");
        known.pod(&applied(&pod("1", "a", Some("10.244.0.2"), "y")));
        assert!(known.changed, "a new label");
        assert_eq!(apps(&known), is("10.244.0.2", "y"));
    }

    #[test]
    fn pods_without_an_address_of_their_own_are_left_out() {
        for (field, value) in [
            ("hostNetwork", json!(true)),
            ("phase", json!("Succeeded")),
            ("phase", json!("Failed")),
        ] {
            let mut pod =
                json!({"metadata": {"uid": "1"}, "spec": {"containers": []}, "status": {"podIP": "10.244.0.2"}});
            let part = if field == "phase" { "status" } else { "spec" };
            pod[part][field] = value;
            let mut known = Known::default();
            known.pod(&applied(&Arc::new(serde_json::from_value(pod).unwrap())));
            assert!(apps(&known).is_empty(), "{field}");
        }
    }
}
