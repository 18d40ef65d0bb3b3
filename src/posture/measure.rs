//! Measuring: through the Kubernetes API alone, from observers in the pods.

use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Resource, api::ListParams};
use serde::de::DeserializeOwned;

use super::{
    field::Field,
    inventory::{Objects, Workload, inventory},
    judge::{self, Seen},
    model::{DeclaredBy, Matrix, PodView, PortView, VERSION, WorkloadView},
    rotation::{Memory, Programs},
    scope::{ROTATES, Scope},
};
use crate::cluster::{Progress, ProgressEvent};

/// The most cells that are measured at once.
const CELLS: usize = 4096;
/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum PostureError {
    /// The cluster's API refused or failed.
    #[error("cannot {doing}: {source}")]
    Api {
        /// What was being done.
        doing: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// There is nothing to look at.
    #[error("no pod is in {}", .0.join(", "))]
    Empty(Vec<String>),
    /// There is too much to look at.
    #[error("{0} cells would be measured, {CELLS} at most are")]
    Large(usize),
}

impl PostureError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Api { .. } => {
                "posture lists workloads, pods and Services, and adds ephemeral containers: see that you may"
            }
            Self::Empty(_) => "name the namespaces that the application runs in with --namespace",
            Self::Large(_) => "name fewer namespaces",
        }
    }
}

/// Measures every ordered pair of workloads of some namespaces.
///
/// Adds an observer to each pod it looks from, opens TCP connections, asks ports for `GET /` in HTTP, and listens to the
/// pods that are called; nothing else is changed. Takes about as long as the slowest refusal: a second or two; and as long as
/// [`Scope::rotation`] allows, where SVIDs are to be seen to rotate.
///
/// # Errors
/// When the API does not let it look, or there is nothing, or too much, to look at. What goes wrong with single pods
/// leaves their cells undetermined.
pub async fn measure(client: &kube::Client, scope: &Scope, progress: &Progress) -> Result<Matrix, PostureError> {
    measure_again(client, scope, &Memory::default(), progress).await
}

/// The same by one who has measured before: a rotation that the memory has seen is not waited for again.
///
/// # Errors
/// As [`measure`].
pub async fn measure_again(
    client: &kube::Client,
    scope: &Scope,
    memory: &Memory,
    progress: &Progress,
) -> Result<Matrix, PostureError> {
    let (began, began_ns) = (Instant::now(), now_ns());
    tell(progress, "look around", 0, 0, &scope.namespaces.join(", "));
    let objects = objects(client, &scope.namespaces).await?;
    let (inventory, declared_by) = inventory(&objects, scope.edges.as_deref());
    let ports: usize = inventory.workloads.iter().map(|one| one.ports.len()).sum();
    let cells = ports * inventory.workloads.len().saturating_sub(1);
    if inventory.workloads.iter().all(|one| one.pods.is_empty()) {
        return Err(PostureError::Empty(scope.namespaces.clone()));
    }
    if cells > CELLS {
        return Err(PostureError::Large(cells));
    }
    let mut seen = Seen {
        now_s: i64::try_from(began_ns / 1_000_000_000).unwrap_or(i64::MAX),
        ..Seen::default()
    };
    let field = Field::enter(client, &inventory, progress, &mut seen).await;
    let ears = field.listen().await;
    field.probe(&mut seen, progress).await;
    seen.heard = ears.heard(scope.listen, &field, &seen).await;
    field.callers(client, &objects.pods, &mut seen).await;
    let programs = Programs::of_pods(&objects.pods);
    let matrix = |seen: &Seen| {
        let mut notes = inventory.notes.clone();
        notes.extend(field.notes(seen));
        Matrix {
            version: VERSION,
            namespaces: scope.namespaces.clone(),
            began_ns,
            took_ms: began.elapsed().as_millis() as u64,
            declared_by,
            trust_domain: None,
            workloads: inventory.workloads.iter().map(|one| view(one, seen)).collect(),
            cells: judge::cells(&inventory, seen, declared_by != DeclaredBy::Nobody),
            missing: inventory.missing.clone(),
            notes,
        }
    };
    let decides = !scope.if_it_decides || matrix(&seen).level().level.reaches(ROTATES - 1);
    let longest = if decides { scope.rotation } else { Duration::ZERO };
    let watching = Instant::now();
    field.watch(&mut seen, longest, (memory, programs), progress).await;
    let left = longest.saturating_sub(watching.elapsed());
    field
        .await_callers(client, &scope.namespaces, &mut seen, left, progress)
        .await;
    Ok(matrix(&seen))
}

pub(super) fn tell(progress: &Progress, phase: &str, done: usize, total: usize, detail: &str) {
    progress(ProgressEvent {
        phase: phase.to_owned(),
        done: u32::try_from(done).unwrap_or(u32::MAX),
        total: u32::try_from(total).unwrap_or(u32::MAX),
        detail: detail.to_owned(),
    });
}

pub(super) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

fn view(workload: &Workload, seen: &Seen) -> WorkloadView {
    let pods = workload.pods.iter().map(|pod| PodView {
        name: pod.name.clone(),
        ip: pod.ip.clone(),
        running: pod.running,
    });
    let ports = workload.ports.iter().map(|port| PortView {
        port: port.port,
        target: port.target,
        service: port.service.as_ref().map(|(name, _)| name.clone()),
        purpose: port.purpose,
        alive: judge::alive(seen, workload, port),
    });
    WorkloadView {
        name: workload.name.clone(),
        kind: workload.kind.clone(),
        pods: pods.collect(),
        ports: ports.collect(),
    }
}

async fn objects(client: &kube::Client, namespaces: &[String]) -> Result<Objects, PostureError> {
    let mut all = Objects::default();
    for namespace in namespaces {
        let (deployments, stateful_sets, daemon_sets, pods, services) = tokio::try_join!(
            list(client, namespace),
            list(client, namespace),
            list(client, namespace),
            list(client, namespace),
            list(client, namespace),
        )?;
        all.deployments.extend(deployments);
        all.stateful_sets.extend(stateful_sets);
        all.daemon_sets.extend(daemon_sets);
        all.pods.extend(pods);
        all.services.extend(services);
    }
    Ok(all)
}

async fn list<K>(client: &kube::Client, namespace: &str) -> Result<Vec<K>, PostureError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let list = api
        .list(&ListParams::default())
        .await
        .map_err(|source| PostureError::Api {
            doing: format!("list the {} of the namespace {namespace}", K::plural(&())),
            source: Box::new(source),
        })?;
    Ok(list.items)
}
