//! The world as it is: a cluster of some ground.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, api::AttachParams, core::DynamicObject};
use sha2::Digest;
use tokio::io::AsyncReadExt;

use super::{
    changes,
    world::{Changes, Listening, Ran, Sight, World, WorldError},
};
use crate::{
    capture::{self, CaptureRequest, Names},
    check::{self, Evidence, Scene},
    cluster::{self, ClusterError, ClusterHandle, ClusterState, GroundKind, Progress, manifests},
    lab::{Capability, Check, Lab},
};

/// How long a cluster may take to say that it is there.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(5);

/// How long a program in a pod may run.
const EXEC_LIMIT: Duration = Duration::from_secs(30);
/// How much of what it prints is kept, in bytes.
const EXEC_OUTPUT: u64 = 64 * 1024;

/// A lab's cluster.
pub struct GroundWorld {
    ground: GroundKind,
    name: String,
    live: Mutex<Option<Live>>,
}

#[derive(Clone)]
struct Live {
    handle: ClusterHandle,
    names: Names,
    namespace: String,
}

impl GroundWorld {
    /// The cluster of a name, on a ground; nothing is touched yet.
    pub fn new(ground: GroundKind, name: String) -> Self {
        Self {
            ground,
            name,
            live: Mutex::new(None),
        }
    }

    fn live(&self) -> Result<Live, WorldError> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.clone()
            .ok_or_else(|| WorldError::new("the cluster is not up yet").hint("wait until the lab is ready"))
    }

    fn set(&self, live: Option<Live>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// The cluster, made or started where it is not.
    async fn reach(&self, progress: &Progress) -> Result<ClusterHandle, WorldError> {
        let ground = cluster::ground(self.ground)?;
        let known = ground.list().await?.into_iter().find(|info| info.name == self.name);
        let handle = match known.map(|info| info.state) {
            Some(ClusterState::Running) => ground.get(&self.name).await?,
            // One that cannot be used says why when it is started.
            Some(_) => ground.start(&self.name, progress).await?,
            None => match ground.create(&self.name, progress).await {
                // Somebody else made it in the meantime, and may not be done.
                Err(ClusterError::AlreadyExists { .. }) => ground.start(&self.name, progress).await?,
                created => created?,
            },
        };
        Ok(handle)
    }

    /// A running pod of a workload, or the pod of that very name.
    async fn pod(&self, live: &Live, name: &str) -> Result<Pod, WorldError> {
        let pods = check::pods_of(&live.handle.client, &live.namespace, name).await?;
        let running = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        if let Some(pod) = pods.iter().find(running) {
            return Ok(pod.clone());
        }
        let api: Api<Pod> = Api::namespaced(live.handle.client.clone(), &live.namespace);
        match api.get_opt(name).await {
            Ok(Some(pod)) => Ok(pod),
            Ok(None) => Err(WorldError::new(format!(
                "no pod of `{}` is running in the namespace {}",
                crate::text::one_line(name),
                live.namespace
            ))
            .hint(format!(
                "`kubectl get pods -n {}` shows the pods there are",
                live.namespace
            ))),
            Err(error) => Err(WorldError::new(format!(
                "look for the pod `{}`: {error}",
                crate::text::one_line(name)
            ))),
        }
    }
}

/// The manifests of a lab's topology, layer by layer.
pub fn objects(lab: &Lab) -> Result<Vec<DynamicObject>, WorldError> {
    let mut objects = Vec::new();
    for layer in &lab.topology {
        if let Some(file) = layer.strip_prefix("./") {
            let text = lab
                .files
                .get(file)
                .ok_or_else(|| WorldError::new(format!("there is no file `{file}` beside the lab")))?;
            objects.extend(manifests::parse(file, text)?);
            continue;
        }
        match manifests::built_in(layer) {
            Some(found) => objects.extend(found?),
            None => return Err(WorldError::new(format!("there is no topology `{layer}`"))),
        }
    }
    Ok(manifests::layered(objects))
}

/// Asks the ground for what the lab needs of it, before anything is deployed.
async fn capable(handle: &ClusterHandle, lab: &Lab) -> Result<(), WorldError> {
    for capability in &lab.capabilities {
        match capability {
            Capability::Capture => capture::able(&handle.client, &lab.namespace).await?,
            Capability::StandIns if handle.capabilities.stand_ins => {}
            Capability::Snapshots if handle.capabilities.snapshots => {}
            Capability::StandIns | Capability::Snapshots => {
                let lacks = format!("the cluster lacks `{}`, which the lab needs", capability.as_str());
                return Err(WorldError::new(lacks).hint("take the lab on the embedded ground"));
            }
        }
    }
    Ok(())
}

/// The name and the note of the snapshot of a lab's start. The note tells whether its topology is still the same.
fn start_of(lab: &Lab) -> Result<(String, String), WorldError> {
    let objects = serde_json::to_vec(&objects(lab)?)
        .map_err(|error| WorldError::new(format!("read the topology of the lab: {error}")))?;
    let hash: String = sha2::Sha256::digest(objects)
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let id: String = lab.id.to_string().chars().take(40).collect();
    Ok((
        format!("lab-{id}-start"),
        format!("the start of the lab {id}, topology {hash}"),
    ))
}

/// Puts the start of the lab aside, where the cluster can do that.
async fn put_aside(handle: &ClusterHandle, lab: &Lab) -> Result<(), WorldError> {
    if handle.capabilities.snapshots {
        let (name, note) = start_of(lab)?;
        handle.snapshot(&name, &note).await?;
    }
    Ok(())
}

/// Puts the cluster back to the start of the lab by its snapshot; `false` where there is none that fits.
async fn put_back(handle: &ClusterHandle, lab: &Lab) -> Result<bool, WorldError> {
    if !handle.capabilities.snapshots {
        return Ok(false);
    }
    let (name, note) = start_of(lab)?;
    let fits = handle
        .snapshots()
        .await?
        .iter()
        .any(|one| one.name == name && one.note == note);
    if fits {
        handle.restore(&name).await?;
    }
    Ok(fits)
}

fn pod_name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

#[async_trait]
impl World for GroundWorld {
    async fn deploy(&self, lab: &Lab, as_is: bool, progress: &Progress) -> Result<(), WorldError> {
        let handle = self.reach(progress).await?;
        capable(&handle, lab).await?;
        let namespaces: Api<Namespace> = Api::all(handle.client.clone());
        let there = namespaces
            .get_opt(&lab.namespace)
            .await
            .map_err(|error| WorldError::new(format!("ask the cluster {}: {error}", self.name)))?
            .is_some();
        if !(there && as_is) {
            let objects = objects(lab)?;
            if there {
                // What an earlier run left must not be found by this one.
                manifests::reset(&handle, &objects, progress).await?;
            } else {
                manifests::apply(&handle, &objects, progress).await?;
            }
        }
        manifests::wait_ready(&handle, &lab.namespace, progress).await?;
        if !(there && as_is) {
            put_aside(&handle, lab).await?;
        }
        self.set(Some(Live {
            names: Names::watch(&handle.client).await,
            handle,
            namespace: lab.namespace.clone(),
        }));
        Ok(())
    }

    async fn restore(&self, lab: &Lab, progress: &Progress) -> Result<(), WorldError> {
        // A reset after a failed start finds no cluster: then there is nothing to put back.
        let Ok(live) = self.live() else {
            return self.deploy(lab, false, progress).await;
        };
        let by_snapshot = put_back(&live.handle, lab).await?;
        if !by_snapshot {
            manifests::reset(&live.handle, &objects(lab)?, progress).await?;
        }
        manifests::wait_ready(&live.handle, &lab.namespace, progress).await?;
        if !by_snapshot {
            put_aside(&live.handle, lab).await?;
        }
        Ok(())
    }

    async fn end(&self, delete: bool) -> Result<(), WorldError> {
        self.set(None);
        if delete {
            match cluster::ground(self.ground)?.delete(&self.name).await {
                Ok(()) | Err(ClusterError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn kubeconfig(&self) -> Option<PathBuf> {
        self.live().ok().map(|live| live.handle.kubeconfig)
    }

    async fn answers(&self) -> bool {
        let Ok(live) = self.live() else {
            return false;
        };
        let asked = tokio::time::timeout(ANSWER, live.handle.client.apiserver_version()).await;
        matches!(asked, Ok(Ok(_)))
    }

    async fn gather(&self, sight: &Sight, check: &Check, given: Option<String>) -> Evidence {
        let live = match self.live() {
            Ok(live) => live,
            Err(error) => return Evidence::Unavailable(error.message),
        };
        let scene = Scene {
            client: live.handle.client,
            namespace: live.namespace,
            seen: sight.seen.clone(),
            loot: sight.loot.clone(),
        };
        check::gather(&scene, check, given).await
    }

    async fn capture(&self, workload: &str, filter: Option<String>) -> Result<Listening, WorldError> {
        let live = self.live()?;
        let pod = pod_name(&self.pod(&live, workload).await?);
        let request = CaptureRequest {
            filter,
            ..CaptureRequest::pod(&live.namespace, &pod)
        };
        let stream = capture::traffic(&live.handle.client, request, live.names).await?;
        Ok(Listening {
            pod,
            events: Box::pin(stream.map(|event| event.map_err(WorldError::from))),
        })
    }

    async fn exec(&self, workload: &str, argv: &[String]) -> Result<Ran, WorldError> {
        let live = self.live()?;
        let pod = self.pod(&live, workload).await?;
        match tokio::time::timeout(EXEC_LIMIT, exec(&live, &pod, argv)).await {
            Ok(ran) => ran,
            Err(_) => Err(WorldError::new(format!(
                "`{}` in {workload} did not end within {} s",
                argv.join(" "),
                EXEC_LIMIT.as_secs()
            ))),
        }
    }

    async fn changes(&self, lab: &Lab) -> Result<Changes, WorldError> {
        let live = self.live()?;
        Ok(changes::watch(live.handle.client, lab))
    }
}

async fn exec(live: &Live, pod: &Pod, argv: &[String]) -> Result<Ran, WorldError> {
    let name = pod_name(pod);
    let failed = |what: &str, error: &dyn std::fmt::Display| WorldError::new(format!("{what} in {name}: {error}"));
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let mut params = AttachParams::default().stdin(false).stdout(true).stderr(true);
    if let Some(container) = container {
        params = params.container(container.name.clone());
    }
    let api: Api<Pod> = Api::namespaced(live.handle.client.clone(), &live.namespace);
    let mut process = api
        .exec(&name, argv, &params)
        .await
        .map_err(|error| failed(&format!("run `{}`", argv.join(" ")), &error))?;
    let status = process.take_status();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let read = async |stream: Option<_>, into: &mut Vec<u8>| match stream {
        Some(stream) => read_some(stream, into).await,
        None => Ok(()),
    };
    let read_err = async {
        match stderr {
            Some(stream) => read_some(stream, &mut err).await,
            None => Ok(()),
        }
    };
    let (first, second) = tokio::join!(read(stdout, &mut out), read_err);
    first
        .and(second)
        .map_err(|error| failed("read what the program prints", &error))?;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    process
        .join()
        .await
        .map_err(|error| failed("run the program", &error))?;
    let code = match status {
        Some(status) if status.status.as_deref() == Some("Success") => 0,
        Some(status) => {
            exit_code(&status).ok_or_else(|| failed("run the program", &status.message.unwrap_or_default()))?
        }
        None => return Err(failed("run the program", &"its exit status did not arrive")),
    };
    out.append(&mut err);
    Ok(Ran {
        code,
        output: String::from_utf8_lossy(&out).into_owned(),
    })
}

/// Reads to the end, and keeps the beginning.
async fn read_some(stream: impl tokio::io::AsyncRead + Unpin, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut limited = stream.take(EXEC_OUTPUT);
    limited.read_to_end(into).await?;
    tokio::io::copy(&mut limited.into_inner(), &mut tokio::io::sink()).await?;
    Ok(())
}

/// The exit code in the status of an exec, where `metav1.Status` has it: a cause of type `ExitCode`.
fn exit_code(status: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Status) -> Option<i32> {
    let causes = status.details.as_ref()?.causes.as_ref()?;
    let cause = causes
        .iter()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))?;
    cause.message.as_ref()?.parse().ok()
}
