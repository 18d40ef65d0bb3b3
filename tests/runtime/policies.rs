//! NetworkPolicies of many pods, in the kernel's own view.

use std::{net::Ipv4Addr, sync::Arc};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use ztlab::embedded::node::network_policy::{KernelRules, PodFacts, RuleSet, World, compile};

use crate::{network::nft, scenarios::Cluster};

/// `net.core.wmem_max` of a usual machine: what an ordinary user may send at once.
const USUAL: usize = 212_992;

fn labels(of: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    of.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The rules of `pods` pods of one namespace, all selected by one policy, whose peers are those with `peers`.
fn rules(pods: u32, peers: &str) -> RuleSet {
    let pod = |number: u32| {
        let side = if number.is_multiple_of(2) { "even" } else { "odd" };
        let facts = PodFacts {
            namespace: "many".to_owned(),
            labels: labels(&[("side", side)]),
            ports: Vec::new(),
        };
        (Ipv4Addr::from(0x0af4_0100 + number), Arc::new(facts))
    };
    let peers = serde_json::json!([{"podSelector": {"matchLabels": {"side": peers}}}]);
    let policy: NetworkPolicy = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "all", "namespace": "many"},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers}],
            "egress": [{"to": peers}]
        }
    }))
    .unwrap();
    compile(&World {
        pods: (0..pods).map(pod).collect(),
        namespaces: [("many".to_owned(), labels(&[]))].into(),
        policies: vec![Arc::new(policy)],
        node_services: Vec::new(),
    })
}

/// What the kernel has for the pods in one of the two maps, an entry a pod, without its address.
fn entries(map: &str) -> Option<Vec<String>> {
    let text = nft(&["list", "map", "ip", "ztlab-policy", map])?;
    let elements = text.split_once("elements = {").map_or("", |(_, elements)| elements);
    let verdict = |entry: &str| {
        entry
            .split_once(" : ")
            .map(|(_, verdict)| verdict.trim_matches([' ', '\n', '\t', '}']).to_owned())
    };
    Some(elements.split(',').filter_map(verdict).collect())
}

/// Whatever a policy says of the pods of a full node, and of five such nodes, it says at once.
pub async fn a_policy_of_many_pods_changes_at_once(_cluster: Cluster) {
    let mut kernel = KernelRules::start_within(USUAL).unwrap();
    for pods in [250, 1250] {
        kernel.apply(&rules(pods, "odd")).unwrap();
        let before = kernel.generation().unwrap();
        let wanted = rules(pods, "even");
        kernel.apply(&wanted).unwrap();
        // what is used is made before, and what is not used any more goes after
        assert_eq!(kernel.generation().unwrap() - before, 3, "transactions of {pods} pods");
        kernel.apply(&wanted).unwrap();
        assert_eq!(kernel.generation().unwrap() - before, 3, "nothing was left to do");
        for map in ["ingress", "egress"] {
            let Some(mut entries) = entries(map) else { return };
            assert_eq!(entries.len(), pods as usize, "{map}");
            entries.dedup();
            assert_eq!(entries.len(), 1, "{map}: {entries:?}");
        }
    }
}

/// Where one transaction does not hold it, every pod has an entry all the time, of before or of after, and in the end of after.
pub async fn a_policy_of_too_many_pods_changes_part_by_part(_cluster: Cluster) {
    const PODS: u32 = 6000;
    let mut kernel = KernelRules::start_within(USUAL).unwrap();
    kernel.apply(&rules(PODS, "odd")).unwrap();
    let Some(mut old) = entries("ingress") else { return };
    old.dedup();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (until, looking) = (done.clone(), std::sync::Barrier::new(2));
    let looking = Arc::new(looking);
    let begun = looking.clone();
    let looks = std::thread::spawn(move || {
        let mut seen = Vec::new();
        begun.wait();
        loop {
            let last = until.load(std::sync::atomic::Ordering::SeqCst);
            seen.push(entries("ingress").unwrap());
            if last {
                return seen;
            }
        }
    });
    looking.wait();
    let before = kernel.generation().unwrap();
    kernel.apply(&rules(PODS, "even")).unwrap();
    let transactions = kernel.generation().unwrap() - before;
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(transactions > 3, "one transaction held it: {transactions}");
    let seen = looks.join().unwrap();
    let mut new = seen.last().unwrap().clone();
    new.dedup();
    assert!(old.len() == 1 && new.len() == 1 && old != new, "{old:?} {new:?}");
    for entries in seen {
        assert_eq!(entries.len(), PODS as usize, "pods without an entry");
        assert!(entries.iter().all(|entry| *entry == old[0] || *entry == new[0]));
    }
}
