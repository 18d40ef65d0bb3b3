//! The observer: one long-lived ephemeral container in a pod that is observed, running this same binary.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerState, Namespace, Pod};
use kube::{
    Api,
    api::{AttachParams, AttachedProcess, Patch, PatchParams},
    runtime::wait::await_condition,
};
use serde_json::json;

use super::{CaptureError, place};
use crate::{cluster::manifests::image_in, packet::CapturePoint};

/// Name of the ephemeral container; one that has ended cannot be started again, so a number is added to the next.
pub const CONTAINER: &str = "ztlab-observer";
/// Its image, by the name that images of ztlab have where no other registry is given.
pub const IMAGE: &str = "ztlab.dev/observer:1";
/// Where the binary is in the container.
pub const PROGRAM: &str = "/.ztlab/ztlab";
/// How long an observer may take to start.
const START: Duration = Duration::from_secs(30);
/// Observers that one pod may have used up.
const GENERATIONS: usize = 64;

/// A pod whose observer runs.
#[derive(Clone)]
pub struct Observer {
    client: kube::Client,
    namespace: String,
    pod: String,
    container: String,
    point: CapturePoint,
}

impl Observer {
    /// Namespace of the pod.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The pod.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Where it stands: the pod, what its network is, and whether it has a proxy.
    pub fn point(&self) -> &CapturePoint {
        &self.point
    }

    /// The client it is reached through.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// The ephemeral container's name.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Runs this binary's stage `__observe` in the observer.
    ///
    /// # Errors
    /// The API refuses: the observer or its pod is gone.
    pub(crate) async fn exec(&self, args: Vec<String>) -> Result<AttachedProcess, CaptureError> {
        let command: Vec<String> = [PROGRAM.to_owned(), "__observe".to_owned()]
            .into_iter()
            .chain(args)
            .collect();
        let params = AttachParams::default()
            .container(&self.container)
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .tty(false)
            .max_stdout_buf_size(STDOUT_BYTES)
            .max_stderr_buf_size(STDERR_BYTES);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        api.exec(&self.pod, command, &params)
            .await
            .map_err(CaptureError::api(format!(
                "cannot run the observer in pod {}/{}",
                self.namespace, self.pod
            )))
    }

    pub(crate) fn failed(&self, reason: impl Into<String>) -> CaptureError {
        CaptureError::Observer {
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            reason: reason.into(),
        }
    }
}

const STDOUT_BYTES: usize = 1 << 20;
const STDERR_BYTES: usize = 64 << 10;

/// Makes sure that a pod has its observer, adding it where it is missing, and waits until it runs.
///
/// # Errors
/// There is no such pod, it is not running, or the observer does not start.
pub async fn ensure(client: &kube::Client, namespace: &str, pod: &str) -> Result<Observer, CaptureError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let current = api
        .get_opt(pod)
        .await
        .map_err(CaptureError::api(format!("cannot read pod {namespace}/{pod}")))?
        .ok_or_else(|| CaptureError::NoSuchPod {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
        })?;
    let refuse = |reason: String| CaptureError::NotObservable {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        reason,
    };
    observable(&current).map_err(refuse)?;
    let container = choose(&current).ok_or_else(|| refuse(format!("{GENERATIONS} observers have ended in it")))?;
    let observer = Observer {
        client: client.clone(),
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container,
        point: place::of(&current),
    };
    if running(&current, &observer.container) {
        return Ok(observer);
    }
    if !named(&current, &observer.container) {
        add(&api, &observer).await?;
    }
    wait(&api, &observer).await.map_err(refuse)?;
    Ok(observer)
}

/// Why a pod cannot be observed, if so.
fn observable(pod: &Pod) -> Result<(), String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Err("it is being deleted".to_owned());
    }
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Running") => Ok(()),
        phase => Err(format!(
            "its phase is {}, it must be Running",
            phase.unwrap_or("unknown")
        )),
    }
}

fn named(pod: &Pod, container: &str) -> bool {
    let containers = pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_ref());
    containers.is_some_and(|containers| containers.iter().any(|one| one.name == container))
}

fn state<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerState> {
    pod.status
        .as_ref()?
        .ephemeral_container_statuses
        .as_ref()?
        .iter()
        .find(|status| status.name == container)?
        .state
        .as_ref()
}

fn running(pod: &Pod, container: &str) -> bool {
    state(pod, container).is_some_and(|state| state.running.is_some())
}

/// The first name whose container has not ended.
fn choose(pod: &Pod) -> Option<String> {
    (1..=GENERATIONS)
        .map(|generation| match generation {
            1 => CONTAINER.to_owned(),
            generation => format!("{CONTAINER}-{generation}"),
        })
        .find(|name| state(pod, name).is_none_or(|state| state.terminated.is_none()))
}

/// `pods/ephemeralcontainers`, Kubernetes' documentation "Ephemeral Containers".
async fn add(api: &Api<Pod>, observer: &Observer) -> Result<(), CaptureError> {
    let patch = json!({ "spec": { "ephemeralContainers": [{
        "name": observer.container,
        "image": image(&observer.client, &observer.namespace).await,
        "imagePullPolicy": "IfNotPresent",
        // Listening and probing need rights over the pod's network, whatever user the pod's own programs run as.
        "securityContext": {
            "runAsUser": 0,
            "runAsNonRoot": false,
            "capabilities": { "add": ["NET_ADMIN", "NET_RAW"] },
        },
    }] } });
    api.patch_ephemeral_containers(&observer.pod, &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .map(drop)
        .map_err(CaptureError::api(format!(
            "cannot add an observer to pod {}/{}",
            observer.namespace, observer.pod
        )))
}

/// The observer's image, from where the namespace says that the images of ztlab are.
async fn image(client: &kube::Client, namespace: &str) -> String {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    // Who may not look at the namespace has not made it either: nothing is said there.
    let found = namespaces.get_opt(namespace).await.ok().flatten();
    let annotations = found.and_then(|found| found.metadata.annotations).unwrap_or_default();
    image_in(&annotations, IMAGE)
}

/// Waits until the observer runs; the reason where it does not.
async fn wait(api: &Api<Pod>, observer: &Observer) -> Result<(), String> {
    let settled = await_condition(api.clone(), &observer.pod, |pod: Option<&Pod>| {
        pod.is_none_or(|pod| {
            state(pod, &observer.container)
                .is_some_and(|state| state.running.is_some() || state.terminated.is_some() || stuck(state).is_some())
        })
    });
    let pod = match tokio::time::timeout(START, settled).await {
        Err(_) => return Err(format!("its observer did not start within {} seconds", START.as_secs())),
        Ok(Err(error)) => return Err(format!("its observer cannot be watched: {error}")),
        Ok(Ok(None)) => return Err("it was deleted".to_owned()),
        Ok(Ok(Some(pod))) => pod,
    };
    let state = state(&pod, &observer.container);
    if state.is_some_and(|state| state.running.is_some()) {
        return Ok(());
    }
    let ended = state.and_then(|state| state.terminated.as_ref()).map(|ended| {
        let said = ended
            .message
            .as_deref()
            .or(ended.reason.as_deref())
            .unwrap_or("no reason given");
        format!("its observer ended with code {}: {said}", ended.exit_code)
    });
    Err(ended
        .or_else(|| state.and_then(stuck))
        .unwrap_or_else(|| "its observer does not run".to_owned()))
}

/// The reasons for waiting that do not pass by themselves.
fn stuck(state: &ContainerState) -> Option<String> {
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let hopeless = [
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "CrashLoopBackOff",
    ];
    hopeless.contains(&reason).then(|| {
        format!(
            "its observer does not start: {reason}: {}",
            waiting.message.as_deref().unwrap_or("")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_observer_that_ended_is_replaced_by_another() {
        let fresh = pod(json!({ "metadata": { "name": "a" }, "status": { "phase": "Running" } }));
        assert_eq!(choose(&fresh).as_deref(), Some("ztlab-observer"));
        let used = pod(json!({
            "metadata": { "name": "a" },
            "spec": { "containers": [], "ephemeralContainers": [{ "name": "ztlab-observer" }, { "name": "ztlab-observer-2" }] },
            "status": { "phase": "Running", "ephemeralContainerStatuses": [
                { "name": "ztlab-observer", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                  "state": { "terminated": { "exitCode": 137 } } },
                { "name": "ztlab-observer-2", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                  "state": { "running": {} } },
            ] },
        }));
        assert_eq!(choose(&used).as_deref(), Some("ztlab-observer-2"));
        assert!(named(&used, "ztlab-observer-2") && running(&used, "ztlab-observer-2"));
        assert!(!running(&used, "ztlab-observer"));
    }

    #[test]
    fn pods_that_cannot_be_observed_say_why() {
        for (value, why) in [
            (json!({ "metadata": {}, "status": { "phase": "Pending" } }), "Pending"),
            (json!({ "metadata": {} }), "unknown"),
            (
                json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" }, "status": { "phase": "Running" } }),
                "deleted",
            ),
        ] {
            assert!(observable(&pod(value)).unwrap_err().contains(why), "{why}");
        }
    }
}
