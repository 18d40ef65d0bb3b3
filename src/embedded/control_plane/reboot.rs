//! What a cluster's objects look like after its node has started again: nothing that ran runs any more. Pure.
//!
//! Source: what the kubelet reports after its machine was rebooted: the same pods, with their containers' ends as `Unknown`
//! and exit code 255, started again under their restart policy, with new addresses.

use serde_json::{Value, json};

use super::controllers::endpoints;

/// What became of an object over the restart.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// It is as it was.
    Same,
    /// It says what is no longer so: this is what it says now.
    Changed(Value),
    /// Its controller makes it anew.
    Gone,
}

/// The fate of one object. `now` is RFC 3339.
pub fn fate(group: &str, resource: &str, object: &Value, now: &str) -> Fate {
    match (group, resource) {
        ("", "pods") => pod(object, now),
        // They name addresses that nobody has now.
        ("discovery.k8s.io", "endpointslices") if is_controlled(object) => Fate::Gone,
        ("", "endpoints") if endpoints::is_managed(object) => Fate::Gone,
        _ => Fate::Same,
    }
}

fn is_controlled(object: &Value) -> bool {
    object
        .pointer("/metadata/ownerReferences")
        .is_some_and(|owners| *owners != json!([]))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn pod(object: &Value, now: &str) -> Fate {
    let ended = matches!(text(object, "/status/phase"), "Succeeded" | "Failed");
    let never_ran = object.pointer("/status/containerStatuses").is_none()
        && object.pointer("/status/initContainerStatuses").is_none();
    if ended || never_ran {
        return Fate::Same;
    }
    let policy = match text(object, "/spec/restartPolicy") {
        "" => "Always",
        policy => policy,
    };
    let sidecar = |name: &str| {
        let inits = object.pointer("/spec/initContainers").and_then(Value::as_array);
        inits
            .into_iter()
            .flatten()
            .any(|container| text(container, "/name") == name && text(container, "/restartPolicy") == "Always")
    };
    let mut after = object.clone();
    let Some(status) = after.get_mut("status").and_then(Value::as_object_mut) else {
        return Fate::Same;
    };
    for field in ["podIP", "podIPs"] {
        status.remove(field);
    }
    for (list, again) in [
        ("initContainerStatuses", Again::Init),
        ("containerStatuses", Again::Policy),
        ("ephemeralContainerStatuses", Again::Never),
    ] {
        for container in status.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let is_sidecar = sidecar(text(container, "/name"));
            let policy = match again {
                Again::Init if is_sidecar => "Always",
                Again::Init if policy == "Never" => "OnFailure",
                Again::Init => "Init",
                Again::Policy => policy,
                Again::Never => "Never",
            };
            restarted(container, policy, now);
        }
    }
    for condition in status
        .get_mut("conditions")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let kind = text(condition, "/type").to_owned();
        if matches!(kind.as_str(), "Ready" | "ContainersReady" | "PodReadyToStartContainers")
            && text(condition, "/status") != "False"
        {
            condition["status"] = json!("False");
            condition["lastTransitionTime"] = json!(now);
            condition["reason"] = json!("NodeRestarted");
        }
    }
    Fate::Changed(after)
}

#[derive(Clone, Copy)]
enum Again {
    Init,
    Policy,
    Never,
}

/// A container's status once its program is gone. Under the policy `Init` it runs again however it ended: the sandbox that it
/// had prepared is gone too.
fn restarted(container: &mut Value, policy: &str, now: &str) {
    let Some(fields) = container.as_object_mut() else {
        return;
    };
    let state = fields.get("state").cloned().unwrap_or_default();
    let (last, ran) = if let Some(running) = state.get("running") {
        let ended = json!({"terminated": {
            "exitCode": 255, "reason": "Unknown", "startedAt": running.get("startedAt").cloned().unwrap_or_default(),
            "finishedAt": now, "containerID": fields.get("containerID").cloned().unwrap_or_default(),
        }});
        (ended, true)
    } else if state.get("terminated").is_some() {
        (state.clone(), true)
    } else {
        (fields.get("lastState").cloned().unwrap_or_default(), false)
    };
    fields.insert("ready".to_owned(), json!(false));
    fields.insert("started".to_owned(), json!(false));
    let exit = last
        .pointer("/terminated/exitCode")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let again = match policy {
        "Always" | "Init" => true,
        "OnFailure" => !ran || exit != 0,
        _ => !ran,
    };
    if !again {
        fields.insert("state".to_owned(), last);
        return;
    }
    // The kubelet counts the restart when it comes to it.
    if ran {
        fields.insert("lastState".to_owned(), last);
    }
    fields.insert("state".to_owned(), json!({"waiting": {"reason": "ContainerCreating"}}));
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-02T03:04:05Z";

    fn after(spec: &Value, status: &Value) -> Value {
        match fate("", "pods", &json!({"spec": spec, "status": status}), NOW) {
            Fate::Changed(pod) => pod["status"].clone(),
            other => panic!("{other:?}"),
        }
    }

    fn running(restarts: i64) -> Value {
        json!({"name": "c", "ready": true, "started": true, "restartCount": restarts, "containerID": "ztlab://1",
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}})
    }

    #[test]
    fn a_running_container_has_ended_and_starts_again_where_its_policy_says_so() {
        for (policy, again) in [("Always", true), ("OnFailure", true), ("Never", false)] {
            let status = after(
                &json!({"restartPolicy": policy}),
                &json!({"phase": "Running", "podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}],
                    "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
                    "containerStatuses": [running(2)]}),
            );
            let container = &status["containerStatuses"][0];
            let end = if again {
                &container["lastState"]
            } else {
                &container["state"]
            };
            assert_eq!(end["terminated"]["exitCode"], 255, "{policy}");
            assert_eq!(end["terminated"]["finishedAt"], NOW);
            assert_eq!(container["restartCount"], 2, "{policy}");
            assert_eq!(container["state"].get("waiting").is_some(), again, "{policy}");
            assert_eq!(container["ready"], false);
            assert!(status.get("podIP").is_none() && status.get("podIPs").is_none());
            assert_eq!(status["conditions"][0]["status"], "False");
            assert_eq!(status["conditions"][1]["status"], "True");
        }
    }

    #[test]
    fn what_had_ended_by_itself_stays_ended() {
        let ended = |code: i64| json!({"name": "c", "restartCount": 0, "state": {"terminated": {"exitCode": code}}});
        for (policy, code, again) in [
            ("OnFailure", 0, false),
            ("OnFailure", 1, true),
            ("Always", 0, true),
            ("Never", 1, false),
        ] {
            let status = after(
                &json!({"restartPolicy": policy}),
                &json!({"phase": "Running", "containerStatuses": [ended(code)]}),
            );
            let state = &status["containerStatuses"][0]["state"];
            assert_eq!(state.get("waiting").is_some(), again, "{policy} {code}");
        }
    }

    #[test]
    fn init_containers_run_again_and_observers_do_not() {
        let done = json!({"name": "i", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}});
        let mut observer = running(0);
        observer["name"] = json!("observer");
        let status = after(
            &json!({"initContainers": [{"name": "i"}, {"name": "c", "restartPolicy": "Always"}]}),
            &json!({"phase": "Running", "initContainerStatuses": [done, running(0)], "containerStatuses": [running(0)],
                "ephemeralContainerStatuses": [observer]}),
        );
        for index in 0..2 {
            assert!(
                status["initContainerStatuses"][index]["state"]["waiting"].is_object(),
                "{status}"
            );
            assert!(status["initContainerStatuses"][index]["lastState"]["terminated"].is_object());
        }
        assert_eq!(
            status["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"],
            255
        );
    }

    #[test]
    fn the_rest_is_as_it_was() {
        for (group, resource, object, expected) in [
            (
                "",
                "pods",
                json!({"status": {"phase": "Succeeded", "containerStatuses": []}}),
                Fate::Same,
            ),
            ("", "pods", json!({"status": {"phase": "Pending"}}), Fate::Same),
            ("", "pods", json!({}), Fate::Same),
            (
                "apps",
                "deployments",
                json!({"status": {"readyReplicas": 1}}),
                Fate::Same,
            ),
            (
                "discovery.k8s.io",
                "endpointslices",
                json!({"metadata": {"ownerReferences": [{"uid": "1"}]}}),
                Fate::Gone,
            ),
            (
                "discovery.k8s.io",
                "endpointslices",
                json!({"metadata": {}}),
                Fate::Same,
            ),
            (
                "",
                "endpoints",
                json!({"metadata": {"labels": {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}}}),
                Fate::Gone,
            ),
            ("", "endpoints", json!({"metadata": {}}), Fate::Same),
        ] {
            assert_eq!(fate(group, resource, &object, NOW), expected, "{resource} {object}");
        }
    }
}
