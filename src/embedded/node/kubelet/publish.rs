//! What the kubelet tells the API of a pod: its status, and the marks of what runs in it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{limits, status, worker::Worker};
use crate::write::unless_gone;

/// The annotation that names the stand-ins that run in a pod.
pub const STAND_IN: &str = "ztlab.dev/stand-in";

impl Worker {
    pub(super) async fn publish(&mut self) {
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        self.state.otherwise = self.otherwise();
        let status = status::status(&self.pod, &self.state, self.inner.config.node_ip, now);
        if self.published.as_ref() == Some(&status) {
            return;
        }
        let pods: Api<Pod> = Api::namespaced(self.inner.client.clone(), &self.pod.namespace().unwrap_or_default());
        let mut patch = status::patch(&self.pod, &self.uid, &status);
        // One write for both.
        let marks = self.marks();
        if let Some(marks) = &marks {
            patch["metadata"]["annotations"] = json!(marks);
        }
        let patch = Patch::Strategic(patch);
        let written = pods
            .patch_status(&self.pod.name_any(), &PatchParams::default(), &patch)
            .await;
        match unless_gone(written) {
            Ok(Some(pod)) if pod.uid().as_deref() == Some(&self.uid) => {
                self.published = Some(status);
                self.annotated = marks.or(self.annotated.take());
                self.inner.informers.pods.wrote(pod.clone());
                self.accept(Arc::new(pod));
            }
            Ok(_) => {}
            // Another pod has the name by now.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                tracing::warn!(pod = self.pod.name_any(), %error, "status not written; it is tried again");
                self.wake_in(Duration::from_millis(50));
            }
        }
    }

    /// What the pod is to be marked with and is not yet: the stand-ins that run in it, so that no one takes them for the product, and
    /// the limits that nothing holds it to.
    fn marks(&self) -> Option<BTreeMap<&'static str, String>> {
        let names: std::collections::BTreeSet<&str> = self.stand_ins.values().map(String::as_str).collect();
        if names.is_empty() {
            return None;
        }
        let mut wanted = BTreeMap::from([(STAND_IN, names.into_iter().collect::<Vec<_>>().join(","))]);
        if let Some(limits) = limits::not_enforced(&self.pod, self.inner.runtime.enforces()) {
            wanted.insert(limits::NOT_ENFORCED, limits);
        }
        let there = |(name, text): (&&str, &String)| self.pod.annotations().get(*name) == Some(text);
        (self.annotated.as_ref() != Some(&wanted) && !wanted.iter().all(there)).then_some(wanted)
    }

    /// Marks the pod, where no change of its status did.
    pub(super) async fn annotate(&mut self) {
        let Some(wanted) = self.marks() else { return };
        let pods: Api<Pod> = Api::namespaced(self.inner.client.clone(), &self.pod.namespace().unwrap_or_default());
        let patch = json!({"metadata": {"uid": self.uid, "annotations": wanted}});
        match unless_gone(
            // Annotations are with the status here: a kubelet writes nothing else of a pod.
            pods.patch_status(&self.pod.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
                .await,
        ) {
            Ok(_) => self.annotated = Some(wanted),
            Err(error) => tracing::warn!(pod = self.pod.name_any(), %error, "annotation not written"),
        }
    }
}
