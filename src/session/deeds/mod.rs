//! What ztlab changes in a student's place: in the cluster through its API, and in the work directory. Nothing runs on
//! the host as a program.

mod apply;
mod files;
mod workloads;

use std::{path::PathBuf, time::Duration};

use kube::{Client, core::DynamicObject};
use serde_json::json;

use self::{
    apply::{apply, delete},
    files::{certificate, keep, write},
    workloads::{label, patch_deployment, patch_object, rolled_out, run_pod},
};
use super::world::WorldError;
use crate::{
    check::{self, Scene},
    cluster::manifests::{self, Transform},
    lab::{Applied, Deed, Fill, Lab},
};

/// Who writes, in `managedFields`: not ztlab itself, which sets up what a student begins with.
const STUDENT: &str = "ztlab-student";
/// How long the cluster may take for what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// What `kubectl rollout restart` writes into a pod template.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// Where things are done.
pub(super) struct Place {
    pub client: Client,
    /// The lab's namespace.
    pub namespace: String,
    /// The work directory.
    pub work: PathBuf,
    /// What manifests become on this ground.
    pub transform: Transform,
}

/// Does it, and waits until it is so.
pub(super) async fn perform(place: &Place, lab: &Lab, deed: &Deed) -> Result<(), WorldError> {
    match deed {
        Deed::Apply(applied) => apply(place, manifests_of(lab, applied)?).await,
        Deed::Delete(named) => delete(place, named).await,
        Deed::Label { source, set, remove } => label(place, source, set, remove).await,
        Deed::Patch { object, patch } => patch_object(place, object, patch).await,
        Deed::Scale { deployment, replicas } => {
            let patch = json!({ "spec": { "replicas": replicas } });
            patch_deployment(place, deployment, &patch).await
        }
        Deed::Restart(deployment) => {
            let now = jiff::Timestamp::now().to_string();
            let template = json!({ "metadata": { "annotations": { RESTARTED: now } } });
            patch_deployment(place, deployment, &json!({ "spec": { "template": template } })).await
        }
        Deed::Ready(deployment) => rolled_out(place, deployment).await,
        Deed::RunPod {
            name,
            image,
            labels,
            run,
        } => run_pod(place, name, image, labels, run).await,
        Deed::Certificate { out, says, authority } => certificate(place, out, says, authority.as_ref()),
        Deed::Keep {
            kind,
            name,
            files,
            texts,
        } => keep(place, *kind, name, files, texts).await,
        Deed::File { path, text } => write(place, path, text.as_bytes()),
    }
}

/// What a `${…}` stands for that is no leak.
pub(super) async fn fill(scene: &Scene, fill: &Fill) -> Result<String, WorldError> {
    match fill {
        Fill::Leak { kind, .. } => Err(WorldError::new(format!(
            "nothing was captured that `{kind}` could stand for"
        ))),
        Fill::Address(source) => {
            let pod = check::running_pod(&scene.client, &scene.namespace, source).await?;
            let address = pod.status.and_then(|status| status.pod_ip).filter(|ip| !ip.is_empty());
            address.ok_or_else(|| WorldError::new(format!("{source} has no address yet")))
        }
        Fill::Store(store) => {
            let bytes = check::read_store(scene, store).await?;
            let bytes = bytes.ok_or_else(|| WorldError::new(format!("{store} is not there")))?;
            let text = String::from_utf8(bytes).map_err(|_| WorldError::new(format!("{store} is no text")))?;
            Ok(text.trim_end_matches('\n').to_owned())
        }
    }
}

fn api_error(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> WorldError {
    let doing = doing.into();
    move |error| WorldError::new(format!("{doing}: {error}"))
}

fn late(doing: &str) -> WorldError {
    WorldError::new(format!(
        "{doing}: it did not come to an end within {} s",
        PATIENCE.as_secs()
    ))
    .hint("`kubectl get pods` and `kubectl get events` tell what it waits for")
}

fn manifests_of(lab: &Lab, applied: &Applied) -> Result<Vec<DynamicObject>, WorldError> {
    match applied {
        Applied::Files(files) => {
            let mut objects = Vec::new();
            for file in files {
                let text = lab
                    .files
                    .get(file)
                    .ok_or_else(|| WorldError::new(format!("there is no file `{file}` beside the lab")))?;
                objects.extend(manifests::parse(file, text)?);
            }
            Ok(objects)
        }
        Applied::Layer(layer) => match manifests::built_in(layer) {
            Some(found) => Ok(found?),
            None => Err(WorldError::new(format!("there is no topology `{layer}`"))),
        },
        Applied::Text(text) => Ok(manifests::parse("the manifest", text)?),
    }
}
