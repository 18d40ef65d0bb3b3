//! Writing objects: created where they are missing, else applied.

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::Status,
    discovery::{ApiCapabilities, ApiResource, Discovery, Scope},
};

use crate::cluster::{ClusterError, ClusterHandle, Progress, ProgressEvent};

/// Who applies, in `managedFields`.
pub(super) const FIELD_MANAGER: &str = "ztlab";
/// Where `kubectl apply` keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Requests under way at once.
const AT_ONCE: usize = 16;

/// The kinds a cluster serves.
pub(in crate::cluster) struct Kinds(Discovery);

impl Kinds {
    pub(super) async fn of(client: &Client) -> Result<Self, ClusterError> {
        match Discovery::new(client.clone()).run_aggregated().await {
            Ok(discovery) => Ok(Self(discovery)),
            // Kubernetes before 1.27 has no aggregated discovery.
            Err(_) => Discovery::new(client.clone())
                .run()
                .await
                .map(Self)
                .map_err(api_error("ask the cluster which kinds it has".to_owned())),
        }
    }

    pub(in crate::cluster) fn resolve(
        &self,
        object: &DynamicObject,
    ) -> Result<(ApiResource, ApiCapabilities), ClusterError> {
        self.0.resolve_object(object).ok_or_else(|| ClusterError::Manifest {
            file: name_of(object),
            reason: "the cluster does not know this kind; is its CustomResourceDefinition missing?".to_owned(),
        })
    }

    /// Every namespaced kind whose objects can be listed and deleted.
    pub(super) fn namespaced(&self) -> Vec<ApiResource> {
        self.in_scope(&Scope::Namespaced)
    }

    /// Every kind of the whole cluster whose objects can be listed and deleted.
    pub(super) fn of_the_cluster(&self) -> Vec<ApiResource> {
        self.in_scope(&Scope::Cluster)
    }

    fn in_scope(&self, scope: &Scope) -> Vec<ApiResource> {
        self.0
            .groups()
            .flat_map(|group| group.recommended_resources())
            .filter(|(_, can)| {
                can.scope == *scope && can.supports_operation("list") && can.supports_operation("delete")
            })
            .map(|(resource, _)| resource)
            .collect()
    }

    pub(super) fn api(&self, client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>, ClusterError> {
        let (resource, can) = self.resolve(object)?;
        Ok(if can.scope == Scope::Cluster {
            Api::all_with(client.clone(), &resource)
        } else {
            let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
            Api::namespaced_with(client.clone(), namespace, &resource)
        })
    }
}

/// `deployment shop/ledger`: how an object is called in messages.
pub(super) fn name_of(object: &DynamicObject) -> String {
    let kind = object
        .types
        .as_ref()
        .map_or_else(|| "object".to_owned(), |types| types.kind.to_lowercase());
    let name = object.metadata.name.as_deref().unwrap_or("?");
    match &object.metadata.namespace {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

pub(super) fn api_error(what: String) -> impl FnOnce(kube::Error) -> ClusterError {
    move |source| ClusterError::Api {
        what,
        source: Box::new(source),
    }
}

pub(super) fn status(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// When an object is written: what others need comes first.
fn wave(object: &DynamicObject) -> u8 {
    match object.types.as_ref().map(|types| types.kind.as_str()) {
        Some("Namespace" | "CustomResourceDefinition") => 0,
        Some("Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "CronJob" | "Pod") => 2,
        _ => 1,
    }
}

/// Runs `write` for every object, namespaces first and workloads last, many at a time.
pub(super) async fn in_waves<F, W>(
    objects: &[DynamicObject],
    phase: &str,
    progress: &Progress,
    write: W,
) -> Result<(), ClusterError>
where
    W: Fn(DynamicObject) -> F,
    F: Future<Output = Result<(), ClusterError>>,
{
    let total = u32::try_from(objects.len()).unwrap_or(u32::MAX);
    let mut done = 0;
    for now in 0..=2 {
        // Collected first: a stream over borrowing closures would make the caller's future not `Send`.
        let wave: Vec<_> = objects
            .iter()
            .filter(|object| wave(object) == now)
            .map(|object| {
                let name = name_of(object);
                let write = write(as_applied(object));
                async move { write.await.map(|()| name) }
            })
            .collect();
        let mut writes = futures::stream::iter(wave).buffer_unordered(AT_ONCE);
        while let Some(detail) = writes.try_next().await? {
            done += 1;
            progress(ProgressEvent {
                phase: phase.to_owned(),
                done,
                total,
                detail,
            });
        }
    }
    Ok(())
}

/// The object with the annotation by which `kubectl apply` knows what was applied before: a student's own `kubectl apply` of
/// a changed manifest then takes away what the new one no longer has.
fn as_applied(object: &DynamicObject) -> DynamicObject {
    let mut annotated = object.clone();
    if let Ok(json) = serde_json::to_string(object) {
        let annotations = annotated.metadata.annotations.get_or_insert_default();
        annotations.insert(LAST_APPLIED.to_owned(), json + "\n");
    }
    annotated
}

/// Creates or updates the objects, as `kubectl apply --server-side --force-conflicts` does, namespaces first.
///
/// # Errors
/// The first object that the API refuses.
pub async fn apply(
    cluster: &ClusterHandle,
    objects: &[DynamicObject],
    progress: &Progress,
) -> Result<(), ClusterError> {
    let kinds = Kinds::of(&cluster.client).await?;
    for object in objects {
        kinds.resolve(object)?;
    }
    in_waves(objects, "apply manifests", progress, |object| {
        let api = kinds.api(&cluster.client, &object);
        async move { apply_one(&api?, &object).await }
    })
    .await
}

async fn apply_one(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<(), ClusterError> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    // Also where the object is new: what one apply wrote and the next no longer has can then be told, and is removed.
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        force: true,
        ..PatchParams::default()
    };
    api.patch(name, &params, &Patch::Apply(object))
        .await
        .map(|_| ())
        .map_err(api_error(format!("apply {}", name_of(object))))
}
