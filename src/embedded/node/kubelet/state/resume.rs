//! Taking up a pod of an earlier life of the node, from the status it was left with.

use k8s_openapi::{
    api::core::v1::{ContainerState as ApiState, ContainerStateTerminated, ContainerStatus, Pod},
    jiff::Timestamp,
};

use super::{ContainerState, Ended, Phase, PodState};
use crate::node::kubelet::status::ID_SCHEME;

impl PodState {
    /// What is known of a pod from its status: which containers had ended, and how often each was started. None of them runs.
    /// Nothing is known of a pod that no node has had yet.
    pub fn resumed(pod: &Pod, now: Timestamp) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let all = [
            status.init_container_statuses,
            status.container_statuses,
            status.ephemeral_container_statuses,
        ];
        let containers = all.into_iter().flatten().flatten();
        Self {
            containers: containers
                .map(|held| (held.name.clone(), container(held, now)))
                .collect(),
            ..Self::default()
        }
    }
}

fn container(held: ContainerStatus, now: Timestamp) -> ContainerState {
    let ended = |state: Option<ApiState>| Some(end(state?.terminated?, now));
    let phase = match ended(held.state) {
        Some(ended) => Phase::Ended(ended),
        None => Phase::Waiting {
            reason: "ContainerCreating".to_owned(),
            message: None,
        },
    };
    ContainerState {
        // An init container that has done its part is ready; nothing else is.
        ready: matches!(&phase, Phase::Ended(ended) if ended.code == 0),
        phase,
        restarts: held.restart_count,
        last: ended(held.last_state),
        image_id: held.image_id,
        ..ContainerState::default()
    }
}

fn end(state: ContainerStateTerminated, now: Timestamp) -> Ended {
    let id = state.container_id.unwrap_or_default();
    Ended {
        id: id.strip_prefix(ID_SCHEME).unwrap_or(&id).to_owned(),
        code: state.exit_code,
        signal: state.signal,
        reason: state.reason.unwrap_or_else(|| "Unknown".to_owned()),
        message: state.message,
        started_at: state.started_at.map_or(now, |time| time.0),
        finished_at: state.finished_at.map_or(now, |time| time.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{Kind, Step, next, phase},
        *,
    };
    use crate::control_plane::reboot::{self, Fate};

    /// What a pod that ran with these container states does after the node has started again.
    fn after(spec: &serde_json::Value, containers: &serde_json::Value) -> (PodState, Pod) {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": spec,
            "status": {"phase": "Running", "containerStatuses": containers}});
        if let Fate::Changed(changed) = reboot::fate("", "pods", &pod, "2026-01-02T03:04:05Z") {
            pod = changed;
        }
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let mut state = PodState::resumed(&pod, Timestamp::now());
        state.sandbox = true;
        (state, pod)
    }

    fn status(state: &serde_json::Value) -> serde_json::Value {
        json!([{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 3, "state": state}])
    }

    #[test]
    fn a_pod_goes_on_under_its_restart_policy() {
        let running = status(&json!({"running": {"startedAt": "2026-01-02T03:04:00Z"}}));
        let done = status(&json!({"terminated": {"exitCode": 0, "startedAt": "2026-01-02T03:00:00Z"}}));
        for (policy, containers, expected, starts) in [
            ("Always", &running, "Running", true),
            ("OnFailure", &running, "Running", true),
            ("Never", &running, "Failed", false),
            ("OnFailure", &done, "Succeeded", false),
        ] {
            let spec = json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]});
            let (state, pod) = after(&spec, containers);
            assert_eq!(phase(pod.spec.as_ref().unwrap(), &state), expected, "{policy}");
            let steps = next(&pod, &state, Timestamp::now()).steps;
            let start = [Step::Start(Kind::Main, "c".to_owned())];
            assert_eq!(
                steps,
                if starts { &start[..] } else { &[] },
                "{policy}: at once, without a pause"
            );
            assert_eq!(state.containers["c"].restarts, 3);
        }
    }

    #[test]
    fn nothing_is_known_of_a_new_pod() {
        assert!(
            PodState::resumed(&Pod::default(), Timestamp::now())
                .containers
                .is_empty()
        );
    }
}
