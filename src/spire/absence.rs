//! A part of SPIRE that is needed and is not there, or not ready: what keeps it, and what to do. Pure.
//!
//! A server that was scaled down is no server that was never installed, and whoever may not look everywhere has not seen that
//! there is none.

use super::{
    find::{Declared, Found, LOOKED_FOR, Part},
    gather::Scope,
};

/// What brings SPIRE into a cluster.
const INSTALL: &str = "install SPIRE: `ztlab manifests spire | kubectl apply -f -`";

/// Why a part cannot do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// Whether that is known; else it may be there, where nobody could look.
    pub known: bool,
    /// What was found.
    pub says: String,
    /// What to do.
    pub next: String,
}

/// Why there is no server that answers; `None` where there is a ready one.
pub fn server(found: &Found, scope: &Scope) -> Option<Absence> {
    match found.server() {
        Some(part) if part.ready => None,
        Some(part) => Some(not_ready("the SPIRE server", part, "")),
        None => Some(missing("spire-server", "SPIRE server", found, scope)),
    }
}

/// Why no agent of the cluster serves anybody; `None` where there is any.
pub fn agents(found: &Found, scope: &Scope) -> Option<Absence> {
    found
        .agents
        .is_empty()
        .then(|| missing("spire-agent", "SPIRE agent", found, scope))
}

/// Why a part that is there is not ready; `place` is where it is, in words after its name.
pub fn not_ready(what: &str, part: &Part, place: &str) -> Absence {
    let waits = part.waits.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let Part {
        namespace,
        pod,
        container,
        ..
    } = part;
    Absence {
        known: true,
        says: format!("{what} {namespace}/{pod}{place} is not ready{waits}"),
        next: format!(
            "see what it waits for: `kubectl -n {namespace} describe pod {pod}`, `kubectl -n {namespace} logs {pod} -c {container}`"
        ),
    }
}

fn missing(program: &str, name: &str, found: &Found, scope: &Scope) -> Absence {
    if let Some(declared) = found.declared.iter().find(|one| one.program == program) {
        return without_pods(name, declared);
    }
    if let Scope::Namespaces(seen) = scope {
        return Absence {
            known: false,
            says: format!(
                "whether a {name} runs is not known: the pods of {} were looked at, and you may not list those of all namespaces",
                seen.join(", ")
            ),
            next: "name SPIRE's namespace too, if you may look there (`-n`, once more), or ask whoever runs SPIRE here"
                .to_owned(),
        };
    }
    let says = if program == "spire-server" {
        format!("no {name} was found; looked for: {LOOKED_FOR}")
    } else {
        format!("no {name} runs in the cluster: no container's image or name is `{program}`")
    };
    Absence {
        known: true,
        says,
        next: INSTALL.to_owned(),
    }
}

/// What is to run a part, and has no pod.
fn without_pods(name: &str, declared: &Declared) -> Absence {
    let Declared {
        kind,
        namespace,
        name: object,
        wants,
        ..
    } = declared;
    let place = format!("the {kind} {namespace}/{object}");
    let resource = kind.to_lowercase();
    let describe = format!("`kubectl -n {namespace} describe {resource} {object}`");
    let (says, next) = match (kind.as_str(), wants) {
        ("DaemonSet", 0) => (
            format!("no {name} runs: {place} wants no pod, since no node is one that it may run on"),
            format!("see which nodes it is for (nodeSelector, affinity, taints): {describe}"),
        ),
        (_, 0) => (
            format!("no {name} runs: {place} is scaled to 0"),
            format!("start it again: `kubectl -n {namespace} scale {resource} {object} --replicas=1`"),
        ),
        (_, wants) => (
            format!(
                "no {name} runs: {place} wants {wants} {}, and there is none",
                if *wants == 1 { "pod" } else { "pods" }
            ),
            format!("see why none is made: {describe}"),
        ),
    };
    Absence {
        known: true,
        says,
        next,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spire::{
        find::{declared, find},
        testing::read,
    };

    fn workload(image: &str, status: serde_json::Value, replicas: i32) -> serde_json::Value {
        json!({"metadata": {"name": image, "namespace": "spire"}, "status": status,
            "spec": {"replicas": replicas, "selector": {}, "serviceName": "s",
                "template": {"spec": {"containers": [{"name": "main", "image": format!("ghcr.io/spiffe/{image}:1.15.3")}]}}}})
    }

    fn without_a_server(replicas: i32) -> Found {
        Found {
            declared: declared(
                &[read(workload("spire-server", json!({"replicas": 0}), replicas))],
                &[],
                &[],
            ),
            ..Found::default()
        }
    }

    #[test]
    fn a_server_that_was_scaled_down_is_to_be_scaled_up_and_not_installed() {
        let absence = server(&without_a_server(0), &Scope::Cluster).unwrap();
        assert_eq!(
            absence.says,
            "no SPIRE server runs: the StatefulSet spire/spire-server is scaled to 0"
        );
        assert_eq!(
            absence.next,
            "start it again: `kubectl -n spire scale statefulset spire-server --replicas=1`"
        );
    }

    #[test]
    fn a_server_whose_pods_are_not_made_is_looked_into() {
        let absence = server(&without_a_server(1), &Scope::Cluster).unwrap();
        assert!(absence.says.ends_with("wants 1 pod, and there is none"), "{absence:?}");
        assert!(
            absence.next.contains("describe statefulset spire-server"),
            "{absence:?}"
        );
    }

    #[test]
    fn a_server_that_is_nowhere_is_to_be_installed_unless_it_may_be_where_nobody_looked() {
        let absence = server(&Found::default(), &Scope::Cluster).unwrap();
        assert!(absence.known && absence.next == INSTALL, "{absence:?}");
        let some = Scope::Namespaces(vec!["shop".into()]);
        let absence = server(&Found::default(), &some).unwrap();
        assert!(
            !absence.known && absence.says.contains("the pods of shop were looked at"),
            "{absence:?}"
        );
        assert!(!absence.next.contains("install"), "{absence:?}");
        // What is declared is known all the same.
        assert!(server(&without_a_server(0), &some).unwrap().known);
    }

    #[test]
    fn a_server_that_is_not_ready_says_what_it_waits_for() {
        let pod = |status: serde_json::Value| {
            json!({"metadata": {"name": "spire-server-0", "namespace": "spire"}, "status": status,
                "spec": {"containers": [{"name": "spire-server", "image": "spire-server:1"}]}})
        };
        let cases = [
            (
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                    "message": "0/1 nodes are available"}]}),
                "not scheduled: 0/1 nodes are available",
            ),
            (
                json!({"phase": "Pending", "containerStatuses": [{"name": "spire-server", "image": "", "imageID": "",
                    "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}),
                "the container spire-server waits: ImagePullBackOff: no such image",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [{"name": "spire-server", "image": "", "imageID": "",
                    "ready": false, "restartCount": 3, "state": {"running": {}}}]}),
                "the container spire-server runs and does not pass its readiness check; it was restarted 3 times",
            ),
        ];
        for (status, why) in cases {
            let found = find(&[read(pod(status))]);
            let absence = server(&found, &Scope::Cluster).unwrap();
            assert_eq!(
                absence.says,
                format!("the SPIRE server spire/spire-server-0 is not ready: {why}")
            );
            assert!(
                absence.next.contains("logs spire-server-0 -c spire-server"),
                "{absence:?}"
            );
        }
    }

    #[test]
    fn agents_that_no_node_is_for_are_told_from_agents_that_were_never_installed() {
        let set = workload(
            "spire-agent",
            json!({"desiredNumberScheduled": 0, "currentNumberScheduled": 0,
            "numberMisscheduled": 0, "numberReady": 0}),
            0,
        );
        let found = Found {
            declared: declared(&[], &[], &[read(set)]),
            ..Found::default()
        };
        let absence = agents(&found, &Scope::Cluster).unwrap();
        assert!(
            absence.says.contains("DaemonSet spire/spire-agent wants no pod"),
            "{absence:?}"
        );
        assert!(absence.next.contains("nodeSelector"), "{absence:?}");
        assert_eq!(agents(&Found::default(), &Scope::Cluster).unwrap().next, INSTALL);
    }
}
