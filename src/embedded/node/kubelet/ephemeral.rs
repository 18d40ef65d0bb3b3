//! Pods that keep more on the node than they may are evicted: emptyDir volumes beyond their `sizeLimit`, containers beyond their
//! limit of `ephemeral-storage` (writable root and logs), pods beyond the sum of these. [`verdict`] is pure.
//!
//! All of it but the logs is memory in file systems of its own, so that looking costs a system call each, however much is in them.
//! Pods without such a limit are not looked at.
//!
//! Source: the kubelet's eviction manager, `localStorageEviction`, and its messages.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, Pod, Volume},
    apimachinery::pkg::api::resource,
};

use super::{
    state::{self, Failed},
    worker::Worker,
};
use crate::{
    control_plane::api::validate::quantity::{self, Quantity},
    events::Happening,
};

/// How often it is looked; Kubernetes looks every ten seconds.
const PERIOD: Duration = Duration::from_secs(1);
/// The grace of a pod that is evicted for this, as the kubelet has it.
const GRACE: Duration = Duration::from_secs(1);
const RESOURCE: &str = "ephemeral-storage";
/// `Evicted`, the reason of the pod's status and of the event.
pub const EVICTED: &str = "Evicted";

/// What a pod keeps on the node, bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In its emptyDir volumes on disk, by name. Those of medium `Memory` are not among them.
    pub volumes: BTreeMap<String, u64>,
    /// In its containers' writable roots and logs, by name.
    pub containers: BTreeMap<String, u64>,
}

fn limit(container: &Container) -> Option<&resource::Quantity> {
    container.resources.as_ref()?.limits.as_ref()?.get(RESOURCE)
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    spec.into_iter()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
}

/// An emptyDir volume that is on disk by Kubernetes' understanding.
fn on_disk(volume: &Volume) -> bool {
    let empty = volume.empty_dir.as_ref();
    empty.is_some_and(|empty| empty.medium.as_deref().unwrap_or_default() != "Memory")
}

/// The bound of an emptyDir volume on disk that has one.
fn size_limit(volume: &Volume) -> Option<&resource::Quantity> {
    let size = volume
        .empty_dir
        .as_ref()
        .filter(|_| on_disk(volume))?
        .size_limit
        .as_ref()?;
    quantity::parse(&size.0).filter(|size| size.value() > 0).map(|_| size)
}

/// The sum of a pod's limits, and how it is written; nothing where no container has one.
fn pod_limit(pod: &Pod) -> Option<(Quantity, String)> {
    let spec = pod.spec.as_ref()?;
    let of = |container: &Container| limit(container).and_then(|limit| quantity::parse(&limit.0));
    let binary = containers(pod).filter_map(limit).any(|limit| limit.0.ends_with('i'));
    containers(pod).find_map(of)?;
    let (mut sidecars, mut most) = (Quantity::ZERO, Quantity::ZERO);
    for container in spec.init_containers.iter().flatten() {
        let own = of(container).unwrap_or(Quantity::ZERO);
        most = most.max(sidecars.plus(own));
        if state::sidecar(container) {
            sidecars = sidecars.plus(own);
        }
    }
    let sum = spec.containers.iter().filter_map(of).fold(sidecars, Quantity::plus);
    let all = most.max(sum);
    Some((all, all.text(binary)))
}

/// Whether a pod has any limit that this is about.
pub fn applies(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    containers(pod).any(|container| limit(container).is_some())
        || volumes.into_iter().any(|volume| size_limit(volume).is_some())
}

/// Why a pod is evicted, in the kubelet's words, if it is.
pub fn verdict(pod: &Pod, usage: &Usage) -> Option<String> {
    let shown = |limit: &resource::Quantity| quantity::canonical(&limit.0).unwrap_or_else(|| limit.0.clone());
    let over =
        |used: u64, limit: &resource::Quantity| quantity::parse(&limit.0).is_some_and(|limit| used > limit.value());
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        if let (Some(limit), Some(used)) = (size_limit(volume), usage.volumes.get(&volume.name))
            && over(*used, limit)
        {
            let name = &volume.name;
            return Some(format!(
                "Usage of EmptyDir volume {name:?} exceeds the limit {:?}. ",
                shown(limit)
            ));
        }
    }
    let all = usage.volumes.values().chain(usage.containers.values());
    let all = all.fold(0_u64, |sum, used| sum.saturating_add(*used));
    if let Some((limit, text)) = pod_limit(pod)
        && all > limit.value()
    {
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {text}. "
        ));
    }
    containers(pod).find_map(|container| {
        let (limit, name) = (limit(container)?, &container.name);
        over(*usage.containers.get(name)?, limit).then(|| {
            format!(
                "Container {name} exceeded its local ephemeral storage limit {:?}. ",
                shown(limit)
            )
        })
    })
}

/// What is taken of the file system that `path` is in, bytes.
fn taken(path: &Path) -> Option<u64> {
    let of = rustix::fs::statvfs(path).ok()?;
    Some(of.f_blocks.saturating_sub(of.f_bfree).saturating_mul(of.f_frsize))
}

/// The size of the files right in a directory, bytes.
fn files(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len());
    sizes.fold(0, u64::saturating_add)
}

impl Worker {
    fn usage(&self) -> Usage {
        let volumes = self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let volumes = volumes
            .into_iter()
            .filter(|volume| on_disk(volume))
            .filter_map(|volume| {
                let mounted = self.mounts.get(&volume.name)?;
                Some((volume.name.clone(), taken(&mounted.dir)?))
            });
        let logs = self.inner.log_dir(&self.pod);
        let containers = containers(&self.pod).map(|container| {
            let root = self.live.get(&container.name).and_then(|live| {
                // The root as its first process has it: a file system of its own.
                taken(&Path::new("/proc").join(live.started.pid.to_string()).join("root"))
            });
            let used = files(&logs.join(&container.name)).saturating_add(root.unwrap_or(0));
            (container.name.clone(), used)
        });
        Usage {
            volumes: volumes.collect(),
            containers: containers.collect(),
        }
    }

    /// Evicts the pod if it keeps more than it may.
    pub(super) fn bound_ephemeral_storage(&mut self) {
        if self.live.is_empty() || !applies(&self.pod) {
            return;
        }
        let Some(message) = verdict(&self.pod, &self.usage()) else {
            self.wake_in(PERIOD);
            return;
        };
        self.happened(None, Happening::warning(EVICTED, message.clone()));
        self.state.failed = Some(Failed {
            reason: EVICTED,
            message,
        });
        self.stop_all(GRACE);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    }

    fn container(name: &str, limit: &str) -> Value {
        json!({"name": name, "resources": {"limits": {RESOURCE: limit}}})
    }

    fn usage(volumes: &[(&str, u64)], containers: &[(&str, u64)]) -> Usage {
        let map = |list: &[(&str, u64)]| list.iter().map(|(name, used)| ((*name).to_owned(), *used)).collect();
        Usage {
            volumes: map(volumes),
            containers: map(containers),
        }
    }

    #[test]
    fn pods_are_evicted_in_the_kubelets_words() {
        const MI: u64 = 1 << 20;
        let volumes = json!([{"name": "v", "emptyDir": {"sizeLimit": "2048Ki"}}, {"name": "m", "emptyDir":
            {"medium": "Memory", "sizeLimit": "1Ki"}}, {"name": "free", "emptyDir": {}}]);
        let of = |containers: Value| pod(json!({"containers": containers, "volumes": volumes}));
        let two = of(json!([container("a", "3Mi"), container("b", "2Mi")]));
        let free = of(json!([{"name": "a"}]));
        let half = of(json!([container("a", "3Mi"), {"name": "b"}]));
        for (pod, used, expected) in [
            (&two, usage(&[("v", 2 * MI)], &[("a", 3 * MI)]), None),
            (
                &two,
                usage(&[("v", 2 * MI + 1)], &[("a", 9 * MI)]),
                Some("Usage of EmptyDir volume \"v\" exceeds the limit \"2Mi\". "),
            ),
            (
                &two,
                usage(&[("v", 2 * MI), ("free", MI)], &[("a", 2 * MI), ("b", 1)]),
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 5Mi. "),
            ),
            (
                &two,
                usage(&[], &[("a", 3 * MI + 1), ("b", 0)]),
                Some("Container a exceeded its local ephemeral storage limit \"3Mi\". "),
            ),
            (&free, usage(&[("free", 900 * MI)], &[("a", 900 * MI)]), None),
            // As in Kubernetes, the limit of one container is the limit of its pod.
            (
                &half,
                usage(&[], &[("a", 0), ("b", 3 * MI + 1)]),
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. "),
            ),
        ] {
            assert_eq!(verdict(pod, &used).as_deref(), expected, "{used:?}");
        }
        assert!(
            applies(&free)
                && !applies(&pod(
                    json!({"containers": [{"name": "a"}], "volumes": [volumes[1], volumes[2]]})
                ))
        );
    }

    #[test]
    fn init_containers_count_as_they_run() {
        let sidecar = |name: &str, limit: &str| {
            let mut container = container(name, limit);
            container["restartPolicy"] = json!("Always");
            container
        };
        for (inits, mains, expected) in [
            (json!([container("i", "9M")]), json!([container("a", "3M")]), Some("9M")),
            (
                json!([sidecar("s", "2M"), container("i", "9M")]),
                json!([container("a", "3M")]),
                Some("11M"),
            ),
            (
                json!([sidecar("s", "2M")]),
                json!([container("a", "3M"), {"name": "b"}]),
                Some("5M"),
            ),
            (json!([]), json!([{"name": "b"}]), None),
        ] {
            let pod = pod(json!({"initContainers": inits, "containers": mains}));
            assert_eq!(pod_limit(&pod).map(|(_, text)| text).as_deref(), expected);
        }
    }

    #[test]
    fn what_is_taken_is_measured() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("0.log"), vec![0; 1000]).unwrap();
        fs::write(temp.path().join("0.log.1"), vec![0; 500]).unwrap();
        assert_eq!((files(temp.path()), files(&temp.path().join("no"))), (1500, 0));
        assert!(taken(temp.path()).is_some_and(|bytes| bytes > 0));
    }
}
