//! For the fuzz target `network_policy`: any objects are compiled, and what comes of them holds together.

use std::{net::Ipv4Addr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use serde_json::Value;

use super::{
    compile,
    facts::{NodeService, World, pod_facts},
    plan::{made, plan},
    rules::{Match, RuleSet, Verdict},
};

/// Takes `bytes` as objects in JSON, one a line: Pods, Namespaces, NetworkPolicies; others are let go. Gives what they come to.
///
/// # Panics
/// When what is compiled leads nowhere, or a change to it and back does not.
pub fn fuzz(bytes: &[u8]) -> RuleSet {
    let world = world(bytes);
    let rules = compile(&world);
    for verdict in rules.ingress.values().chain(rules.egress.values()) {
        leads_somewhere(&rules, verdict, 0);
    }
    for rule in rules.chains.values().flatten() {
        for wanted in &rule.matches {
            if let Match::Source(set) | Match::Destination(set) | Match::Endpoint(set) = wanted {
                assert!(rules.sets.contains_key(set), "no set {set}");
            }
        }
    }
    let nothing = RuleSet::default();
    let mut now = nothing.clone();
    plan(&now, &rules)
        .into_iter()
        .flatten()
        .for_each(|operation| made(&mut now, operation));
    assert_eq!(now, rules);
    plan(&rules, &nothing)
        .into_iter()
        .flatten()
        .for_each(|operation| made(&mut now, operation));
    assert_eq!(now, nothing);
    rules
}

fn world(bytes: &[u8]) -> World {
    let mut world = World::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(object) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        match object.get("kind").and_then(Value::as_str) {
            Some("Pod") => {
                let Ok(pod) = serde_json::from_value::<Pod>(object) else {
                    continue;
                };
                let Some((address, facts)) = pod_facts(&pod) else {
                    continue;
                };
                if world.node_services.is_empty() && pod.spec.is_some_and(|spec| spec.node_name.is_some()) {
                    let address = Ipv4Addr::new(10, 244, 0, 1);
                    world.node_services.push(NodeService { pod: facts, address });
                } else {
                    world.pods.insert(address, Arc::new(facts));
                }
            }
            Some("Namespace") => {
                let Ok(namespace) = serde_json::from_value::<Namespace>(object) else {
                    continue;
                };
                let meta = namespace.metadata;
                let labels = meta.labels.unwrap_or_default();
                world.namespaces.insert(meta.name.unwrap_or_default(), labels);
            }
            Some("NetworkPolicy") => {
                let policy = serde_json::from_value::<NetworkPolicy>(object);
                world.policies.extend(policy.ok().map(Arc::new));
            }
            _ => {}
        }
    }
    world
}

/// Chains are jumped to at most so deep: the kernel's own limit is 16.
const DEEPEST: usize = 4;

fn leads_somewhere(rules: &RuleSet, verdict: &Verdict, depth: usize) {
    let (Verdict::Jump(chain) | Verdict::Goto(chain)) = verdict else {
        return;
    };
    assert!(depth < DEEPEST, "{chain} is too deep");
    let chain = rules.chains.get(chain).unwrap_or_else(|| panic!("no chain {chain}"));
    for rule in chain {
        leads_somewhere(rules, &rule.verdict, depth + 1);
    }
}
