//! Every pod with what it has and what it may have. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Serialize;

use super::{
    absence,
    find::Found,
    gather::{Scope, World},
    model::{BundleView, Entry},
    registration::{Reach, compare},
    seen::Sight,
};
use crate::identity::SpiffeId;

/// What an entry gives a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Given {
    /// The entry.
    pub entry: String,
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// Lifetime of its X.509-SVIDs in seconds; zero for the server's default.
    pub x509_svid_ttl: i64,
}

/// A pod with what it has and what it may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PodIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its node.
    pub node: Option<String>,
    /// What it showed: what it has.
    pub seen: Sight,
    /// What entries give it: what it may have. `None` where the entries are not known.
    pub given: Option<Vec<Given>>,
}

/// Everything that `ztlab identity` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// When it was measured, in seconds since the Unix epoch.
    pub measured_s: i64,
    /// SPIRE's parts.
    pub spire: Found,
    /// How many nodes there are; `None` where that is not known.
    pub nodes: Option<usize>,
    /// Whether all pods were looked at, so that a part of SPIRE that was not found is not there.
    pub everywhere: bool,
    /// What the server's healthcheck printed, or why it did not.
    pub server: String,
    /// Whether it answered.
    pub healthy: bool,
    /// What to do, where it cannot answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The pods.
    pub workloads: Vec<PodIdentity>,
    /// The registration entries.
    pub entries: Vec<Entry>,
    /// The bundles.
    pub bundles: Vec<BundleView>,
    /// What is not known, and why.
    pub unknown: Vec<String>,
}

/// Takes together what was gathered and what these pods showed.
pub fn overview(world: &World, pods: &[&Pod], mut sights: BTreeMap<(String, String), Sight>) -> Overview {
    let answers = &world.answers;
    let (entries, agents) = (
        answers.entries.as_deref().unwrap_or_default(),
        answers.agents.as_deref().unwrap_or_default(),
    );
    let workloads = pods.iter().map(|pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let key = (pod.namespace().unwrap_or_default(), pod.name_any());
        let seen = sights.remove(&key).unwrap_or_else(|| Sight::nothing("not looked at"));
        let given = answers.entries.is_ok().then(|| {
            let reach = Reach::of(node.as_deref(), &world.nodes, agents, entries, world.now_s);
            let (matching, _) = compare(entries, pod, &world.pods, &reach, world.now_s);
            let given = matching.into_iter().map(|one| Given {
                entry: one.entry.id,
                spiffe_id: one.entry.spiffe_id,
                x509_svid_ttl: one.entry.x509_svid_ttl,
            });
            given.collect()
        });
        PodIdentity {
            namespace: key.0,
            pod: key.1,
            node,
            seen,
            given,
        }
    });
    let workloads: Vec<PodIdentity> = workloads.collect();
    let mut unknown: Vec<String> = [
        answers.entries.as_ref().err(),
        answers.agents.as_ref().err(),
        answers.bundles.as_ref().err(),
        world.nodes_unknown.as_ref(),
    ]
    .into_iter()
    .flatten()
    .cloned()
    .collect();
    unknown.dedup();
    // What the server's state says is not said again.
    unknown.retain(|why| Err(why) != answers.health.as_ref());
    Overview {
        measured_s: world.now_s,
        spire: world.found.clone(),
        nodes: world.nodes_unknown.is_none().then_some(world.nodes.len()),
        everywhere: world.scope == Scope::Cluster,
        server: match &answers.health {
            Ok(said) | Err(said) => said.clone(),
        },
        healthy: answers.health.is_ok(),
        next: match answers.health {
            Ok(_) => None,
            Err(_) => absence::server(&world.found, &world.scope).map(|absence| absence.next),
        },
        workloads,
        entries: entries.to_vec(),
        bundles: answers.bundles.as_deref().unwrap_or_default().to_vec(),
        unknown,
    }
}
