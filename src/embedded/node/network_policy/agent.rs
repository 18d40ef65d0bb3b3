//! Follows pods, namespaces and policies, and keeps the kernel's rules at what they come to.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::{KernelRules, NodeService, PodFacts, World, compile, pod_facts};
use crate::embedded::informer::{Change, Informers, Key};

/// When to try again what the kernel or the API refused.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Starts following. `kernel` was made before the first pod; `node_services` is what runs on the node itself.
pub fn start(
    kernel: KernelRules,
    client: Client,
    informers: &Informers,
    node_services: Vec<NodeService>,
    stop: CancellationToken,
) {
    let agent = Agent {
        pods: informers.pods.subscribe(),
        namespaces: informers.namespaces.subscribe(),
        policies: informers.network_policies.subscribe(),
        informers: informers.clone(),
        known: Known::default(),
        client,
        node_services,
        kernel,
    };
    tokio::spawn(agent.run(stop));
}

struct Agent {
    pods: UnboundedReceiver<Change<Pod>>,
    namespaces: UnboundedReceiver<Change<Namespace>>,
    policies: UnboundedReceiver<Change<NetworkPolicy>>,
    informers: Informers,
    known: Known,
    client: Client,
    node_services: Vec<NodeService>,
    kernel: KernelRules,
}

impl Agent {
    async fn run(mut self, stop: CancellationToken) {
        let mut again = false;
        loop {
            let pause = async {
                if again {
                    tokio::time::sleep(TRY_AGAIN).await;
                } else {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Some(change) = self.pods.recv() => self.known.pod(&change),
                Some(change) = self.namespaces.recv() => self.known.namespace(&change),
                Some(change) = self.policies.recv() => self.known.policy(&change),
                () = pause => {}
                else => return,
            }
            self.take_the_rest();
            if !self.known.changed && !again {
                continue;
            }
            again = !self.bring_up_to_date().await;
        }
    }

    fn take_the_rest(&mut self) {
        while let Ok(change) = self.pods.try_recv() {
            self.known.pod(&change);
        }
        while let Ok(change) = self.namespaces.try_recv() {
            self.known.namespace(&change);
        }
        while let Ok(change) = self.policies.try_recv() {
            self.known.policy(&change);
        }
    }

    /// Whether the kernel has it all.
    async fn bring_up_to_date(&mut self) -> bool {
        if self.known.newcomers && !self.ask_for_policies().await {
            return false;
        }
        let world = self.known.world(&self.node_services);
        let began = std::time::Instant::now();
        let rules = compile(&world);
        let compiled = began.elapsed();
        match self.kernel.apply(&rules) {
            Ok(()) => {
                self.known.changed = false;
                self.known.newcomers = false;
                let took = began.elapsed();
                tracing::debug!(
                    pods = world.pods.len(),
                    policies = world.policies.len(),
                    ?compiled,
                    ?took,
                    "policies applied"
                );
                true
            }
            Err(error) => {
                tracing::error!(%error, "network policies could not be brought up to date: until they are, new pods are cut off; it is tried again");
                false
            }
        }
    }

    /// Pods and policies come by watches of their own, so a new pod may be heard of before a policy that is older than it. A
    /// list has every policy that was there when the pod got its address.
    async fn ask_for_policies(&mut self) -> bool {
        let api: Api<NetworkPolicy> = Api::all(self.client.clone());
        let list = match api.list(&ListParams::default()).await {
            Ok(list) => list,
            Err(error) => {
                tracing::warn!(%error, "network policies not listed: new pods wait for it");
                return false;
            }
        };
        let revision = list
            .metadata
            .resource_version
            .as_deref()
            .and_then(|text| text.parse::<u64>().ok());
        let listed: std::collections::HashSet<Key> = list.items.iter().map(Key::of).collect();
        for held in self.informers.network_policies.all() {
            let older = held.resource_version().and_then(|text| text.parse().ok()) <= revision;
            if older && !listed.contains(&Key::of(held.as_ref())) {
                self.informers.network_policies.deleted(&held);
            }
        }
        for policy in list.items {
            self.informers.network_policies.wrote(policy);
        }
        self.take_the_rest();
        true
    }
}

struct KnownPod {
    address: Ipv4Addr,
    facts: Arc<PodFacts>,
}

/// What is known of the cluster. Pure.
#[derive(Default)]
struct Known {
    /// By uid.
    pods: HashMap<String, KnownPod>,
    /// Who says to have an address, by uid: the first has it. The kubelet gives an address on only once the pod that had it is
    /// gone from here, so a second claim is somebody's who has no right to it yet.
    claims: HashMap<Ipv4Addr, VecDeque<String>>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    policies: HashMap<Key, Arc<NetworkPolicy>>,
    /// Whether anything that matters changed since the rules were last applied.
    changed: bool,
    /// Whether a pod came since.
    newcomers: bool,
}

impl Known {
    fn pod(&mut self, change: &Change<Pod>) {
        if let Change::Applied { old: Some(old), new } = change
            && old.uid() != new.uid()
        {
            self.forget(&old.uid().unwrap_or_default());
        }
        let pod = change.object();
        let uid = pod.uid().unwrap_or_default();
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
        self.newcomers = true;
    }

    fn forget(&mut self, uid: &str) {
        let Some(known) = self.pods.remove(uid) else { return };
        self.changed = true;
        if let Some(claims) = self.claims.get_mut(&known.address) {
            claims.retain(|claim| claim != uid);
            if claims.is_empty() {
                self.claims.remove(&known.address);
            } else {
                self.newcomers = true;
            }
        }
    }

    fn namespace(&mut self, change: &Change<Namespace>) {
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

    fn policy(&mut self, change: &Change<NetworkPolicy>) {
        let key = Key::of(change.object().as_ref());
        match change {
            Change::Applied { new, .. } => {
                let before = self.policies.insert(key, new.clone());
                self.changed |= before.is_none_or(|before| before.spec != new.spec);
            }
            Change::Deleted(_) => self.changed |= self.policies.remove(&key).is_some(),
        }
    }

    fn world(&self, node_services: &[NodeService]) -> World {
        let owner = |(address, claims): (&Ipv4Addr, &VecDeque<String>)| {
            Some((*address, self.pods.get(claims.front()?)?.facts.clone()))
        };
        let mut policies: Vec<(&Key, &Arc<NetworkPolicy>)> = self.policies.iter().collect();
        policies.sort_by_key(|(key, _)| *key);
        World {
            pods: self.claims.iter().filter_map(owner).collect(),
            namespaces: self.namespaces.clone(),
            policies: policies.into_iter().map(|(_, policy)| policy.clone()).collect(),
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
        let world = known.world(&[]);
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
        assert!(known.changed && known.newcomers);
        (known.changed, known.newcomers) = (false, false);
        known.pod(&applied(&pod("1", "a", Some("10.244.0.2"), "x")));
        assert!(!known.changed, "a status that says nothing new");
        known.pod(&applied(&pod("1", "a", Some("10.244.0.2"), "y")));
        assert!(known.changed && !known.newcomers, "a new label is no new pod");
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
