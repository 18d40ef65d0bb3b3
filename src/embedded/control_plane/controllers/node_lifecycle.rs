//! The taint of a cordoned node.
//!
//! Source: Kubernetes' "Taints and Tolerations" (taint nodes by condition), node lifecycle controller.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Node, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Context, follow};
use crate::{informer::Key, queue::Queue, write::unless_gone};

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    follow::objects(&context.informers.nodes, &queue);
    let inner = context.clone();
    context
        .tasks
        .spawn(queue.run("node-lifecycle", context.stop.clone(), move |key| {
            let context = inner.clone();
            async move { reconcile(&context, &key).await }
        }));
}

async fn reconcile(context: &Context, key: &Key) -> Result<Option<Duration>, kube::Error> {
    let Some(node) = context.informers.nodes.get(key) else {
        return Ok(None);
    };
    let Some(taints) = taints(&node, Timestamp::now()) else {
        return Ok(None);
    };
    let api: Api<Node> = Api::all(context.client.clone());
    // The whole list is written: not over what somebody else has added meanwhile.
    let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints}});
    let written = api
        .patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    if let Some(written) = unless_gone(written)? {
        context.informers.nodes.wrote(written);
    }
    Ok(None)
}

/// The taints that a node is to have, where it has others. Pure.
fn taints(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let spec = node.spec.clone().unwrap_or_default();
    let mut taints = spec.taints.unwrap_or_default();
    let is_it = |taint: &Taint| taint.key == UNSCHEDULABLE && taint.effect == NO_SCHEDULE;
    match (spec.unschedulable == Some(true), taints.iter().any(is_it)) {
        (true, false) => taints.push(Taint {
            key: UNSCHEDULABLE.to_owned(),
            effect: NO_SCHEDULE.to_owned(),
            time_added: Some(Time(now)),
            ..Taint::default()
        }),
        (false, true) => taints.retain(|taint| !is_it(taint)),
        _ => return None,
    }
    Some(taints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cordoned_node_has_its_taint_and_keeps_the_others() {
        let node = |spec| -> Node { serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap() };
        let mine = json!({"key": "mine", "effect": "NoExecute"});
        // A taint of the same key that somebody set by hand is not this one.
        let other = json!({"key": UNSCHEDULABLE, "effect": "NoExecute"});
        let ours = json!({"key": UNSCHEDULABLE, "effect": "NoSchedule", "timeAdded": "1970-01-01T00:00:00Z"});
        for (spec, expected) in [
            (json!({}), None),
            (json!({"taints": [mine, other]}), None),
            (json!({"unschedulable": true}), Some(json!([ours]))),
            (
                json!({"unschedulable": true, "taints": [mine, other]}),
                Some(json!([mine, other, ours])),
            ),
            (json!({"unschedulable": true, "taints": [ours]}), None),
            (
                json!({"unschedulable": false, "taints": [ours, mine]}),
                Some(json!([mine])),
            ),
            (json!({"taints": [ours]}), Some(json!([]))),
        ] {
            let found = taints(&node(spec.clone()), Timestamp::UNIX_EPOCH);
            let found = found.map(|taints| serde_json::to_value(taints).unwrap());
            assert_eq!(found, expected, "{spec}");
        }
    }
}
