//! The world as it is: a cluster of some ground.

mod addresses;
mod held;
mod lacks;
mod starts;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, ResourceExt, api::ListParams, core::DynamicObject};

use held::Known;

use super::{
    changes,
    deeds::{self, Place},
    site::{self, Site},
    state::Start,
    world::{Changes, Listening, Notes, Ran, Restored, Sight, World, WorldError},
};
use crate::{
    capture::{self, CaptureRequest, Held, Names},
    check::{self, Evidence, Scene},
    cluster::{self, ClusterError, ClusterHandle, ClusterState, Ground, Progress, manifests, no_progress},
    lab::{Capability, Check, Deed, Fill, Lab, Source},
    posture::{self, Matrix, Memory, Scope},
};

/// How long a cluster may take to say that it is there.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(5);

/// How long a program in a pod may run.
const EXEC_LIMIT: Duration = Duration::from_secs(30);
/// How long what the student made may take to come up, before the student is told that it does not.
const SETTLED: Duration = Duration::from_secs(20);

/// A lab's cluster.
pub struct GroundWorld {
    site: Site,
    live: Mutex<Option<Live>>,
    /// Held while the cluster is made or deleted: a deletion finds all of it or none.
    made: Arc<tokio::sync::Mutex<Made>>,
}

/// Whether the cluster may be made.
#[derive(Default, PartialEq, Eq)]
enum Made {
    #[default]
    AsNeeded,
    /// It was deleted for good.
    NeverAgain,
}

#[derive(Clone)]
struct Live {
    handle: ClusterHandle,
    names: Names,
    namespace: String,
    scope: Scope,
    memory: Arc<Memory>,
    known: Arc<Known>,
}

impl GroundWorld {
    /// The cluster of a site; nothing is touched yet.
    pub fn new(site: Site) -> Self {
        Self {
            site,
            live: Mutex::new(None),
            made: Arc::default(),
        }
    }

    fn ground(&self) -> Result<Box<dyn Ground>, WorldError> {
        Ok(self.site.ground()?)
    }

    fn live(&self) -> Result<Live, WorldError> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.clone()
            .ok_or_else(|| WorldError::new("the cluster is not up yet").hint("wait until the lab is ready"))
    }

    fn set(&self, live: Option<Live>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// The cluster, made or started where it is not. Goes on to its end when nobody waits for it any more: half a cluster
    /// would be found by nobody who could delete it.
    async fn reach(&self, progress: &Progress) -> Result<ClusterHandle, WorldError> {
        let made = self.made.clone().lock_owned().await;
        if *made == Made::NeverAgain {
            return Err(WorldError::new("the cluster was deleted"));
        }
        let (ground, name, progress) = (self.ground()?, self.site.cluster.clone(), progress.clone());
        let reaching = tokio::spawn(async move {
            let reached = reach(ground.as_ref(), &name, &progress).await;
            drop(made);
            reached
        });
        match reaching.await {
            Ok(reached) => Ok(reached?),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(WorldError::new("ztlab ends")),
            },
        }
    }

    /// The objects of a lab's topology as they are on this ground.
    fn objects(&self, lab: &Lab) -> Result<Vec<DynamicObject>, WorldError> {
        let mut objects = self.site.transform.objects(site::objects(lab)?);
        if !self.site.transform.labels.is_empty() {
            manifests::reserve(&mut objects, &lab.namespace, &manifests::beyond(lab)?);
        }
        Ok(objects)
    }

    /// The same with all that the lab makes beyond its namespace, by whomever's hand.
    fn all_objects(&self, lab: &Lab) -> Result<Vec<DynamicObject>, WorldError> {
        let mut objects = self.site.transform.objects(manifests::beyond(lab)?);
        objects.extend(self.objects(lab)?);
        Ok(manifests::layered(objects))
    }

    /// Takes away what this session made on a cluster that others use too.
    async fn remove(&self, handle: &ClusterHandle, lab: &Lab, progress: &Progress) -> Result<Vec<String>, WorldError> {
        let (objects, marks) = (self.all_objects(lab)?, &self.site.transform.labels);
        Ok(manifests::remove(handle, &objects, &lab.namespace, marks, progress).await?)
    }

    /// Keeps what the lab makes for this session on a cluster that others use too; whether anything of it is there already.
    async fn claim(&self, handle: &ClusterHandle, lab: &Lab, progress: &Progress) -> Result<bool, WorldError> {
        let (all, written) = (self.all_objects(lab)?, self.objects(lab)?);
        let marks = &self.site.transform.labels;
        Ok(manifests::claim(handle, &all, &written, marks, progress).await?)
    }

    /// Puts a cluster that holds an earlier run of the lab back to its start.
    async fn put_anew(
        &self,
        handle: &ClusterHandle,
        lab: &Lab,
        objects: &[DynamicObject],
        progress: &Progress,
    ) -> Result<(), WorldError> {
        if handle.capabilities.disposable || lab.makes.is_empty() {
            return Ok(manifests::reset(handle, objects, progress).await?);
        }
        // What is beyond the namespace was mostly made by hand, and one part of it may hold another.
        self.remove(handle, lab, progress).await?;
        // Nothing of it was kept for this lab meanwhile.
        self.claim(handle, lab, progress).await?;
        Ok(manifests::apply(handle, objects, progress).await?)
    }

    /// Asks the cluster for what the lab needs of it, before anything is deployed; tells whether the lab is there already.
    async fn look(&self, handle: &ClusterHandle, lab: &Lab, progress: &Progress) -> Result<bool, WorldError> {
        let shared = !handle.capabilities.disposable;
        if shared {
            cluster::may(handle, &self.all_objects(lab)?, &lab.namespace).await?;
        }
        for capability in &lab.capabilities {
            lacks::nothing(handle, lab, *capability).await?;
        }
        if shared {
            return self.claim(handle, lab, progress).await;
        }
        let namespaces: Api<Namespace> = Api::all(handle.client.clone());
        let there = namespaces
            .get_opt(&lab.namespace)
            .await
            .map_err(|error| WorldError::new(format!("ask the cluster {}: {error}", handle.name)))?;
        Ok(there.is_some())
    }

    /// Waits for the workloads of a lab that was just written.
    async fn written(
        &self,
        handle: &ClusterHandle,
        lab: &Lab,
        objects: &[DynamicObject],
        progress: &Progress,
    ) -> Result<(), WorldError> {
        let ready = async {
            for namespace in manifests::namespaces(objects) {
                manifests::wait_ready(handle, &namespace, progress).await?;
            }
            Ok::<_, ClusterError>(())
        };
        if handle.capabilities.stand_ins {
            return Ok(ready.await?);
        }
        // Nobody waits two minutes for images that a cluster does not have.
        tokio::select! {
            ready = ready => Ok(ready?),
            image = manifests::never_pulled(handle, &lab.namespace) => {
                let observer = [self.site.transform.image(capture::observer::IMAGE)];
                Err(WorldError::from(ClusterError::Images {
                    cluster: handle.name.clone(),
                    image,
                    needed: manifests::images(objects).into_iter().chain(observer).collect(),
                }))
            }
        }
    }

    /// Waits for what a student left; what does not come up is the student's own, and told.
    async fn settled(handle: &ClusterHandle, lab: &Lab, progress: &Progress) -> Result<Notes, WorldError> {
        let mut notes = Vec::new();
        for namespace in Self::lived_in(handle, lab).await? {
            match manifests::wait_ready_for(SETTLED, handle, &namespace, progress).await {
                Ok(()) => {}
                Err(ClusterError::NotReady { state, .. }) => notes.push(format!("not everything is ready: {state}")),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(notes)
    }

    /// The namespaces of a lab's own cluster that somebody put something in, the lab's first.
    async fn lived_in(handle: &ClusterHandle, lab: &Lab) -> Result<Vec<String>, WorldError> {
        let own = lab.namespace.to_string();
        if !handle.capabilities.stand_ins {
            return Ok(vec![own]);
        }
        let all: Api<Namespace> = Api::all(handle.client.clone());
        let listed = all.list_metadata(&ListParams::default()).await;
        let listed =
            listed.map_err(|error| WorldError::new(format!("list the namespaces of {}: {error}", handle.name)))?;
        let others = listed.into_iter().map(|namespace| namespace.name_any());
        let others = others.filter(|name| *name != own && name != "default" && !name.starts_with("kube-"));
        Ok(std::iter::once(own.clone()).chain(others).collect())
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

async fn reach(ground: &dyn Ground, name: &str, progress: &Progress) -> Result<ClusterHandle, ClusterError> {
    let known = ground.list().await?.into_iter().find(|info| info.name == name);
    match known.map(|info| info.state) {
        Some(ClusterState::Running) => ground.get(name).await,
        // One that cannot be used says why when it is started.
        Some(_) => ground.start(name, progress).await,
        None => match ground.create(name, progress).await {
            // Somebody else made it in the meantime, and may not be done.
            Err(ClusterError::AlreadyExists { .. }) => ground.start(name, progress).await,
            created => created,
        },
    }
}

fn pod_name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

#[async_trait]
impl World for GroundWorld {
    async fn deploy(&self, lab: &Lab, as_is: bool, progress: &Progress) -> Result<Notes, WorldError> {
        let handle = self.reach(progress).await?;
        let objects = self.objects(lab)?;
        let there = self.look(&handle, lab, progress).await?;
        let mut notes = handle.notes.clone();
        if there && as_is {
            notes.extend(Self::settled(&handle, lab, progress).await?);
        } else {
            if there {
                // What an earlier run left must not be found by this one.
                self.put_anew(&handle, lab, &objects, progress).await?;
            } else {
                manifests::apply(&handle, &objects, progress).await?;
            }
            self.written(&handle, lab, &objects, progress).await?;
            starts::put_start_aside(&handle, lab, &objects).await?;
        }
        self.set(Some(Live {
            names: Names::watch(&handle.client).await,
            handle,
            namespace: lab.namespace.clone(),
            scope: Scope::of_lab(lab),
            memory: Arc::default(),
            known: Arc::default(),
        }));
        Ok(notes)
    }

    async fn put_aside(&self, lab: &Lab, start: &Start, in_use: &BTreeSet<u32>) -> Result<(), WorldError> {
        let live = self.live()?;
        starts::put_aside(&live.handle, lab, &self.site, start, in_use).await
    }

    async fn restore(&self, lab: &Lab, to: &Start, progress: &Progress) -> Result<Restored, WorldError> {
        // A reset after a failed start finds no cluster: then there is nothing to put back but the start of the lab.
        let Ok(live) = self.live() else {
            let notes = self.deploy(lab, to.number != 0, progress).await?;
            if to.number == 0 {
                return Ok(Restored { exact: true, notes });
            }
            return self.restore(lab, to, progress).await;
        };
        if to.number != 0 && starts::put_back(&live.handle, lab, &self.site, to).await? {
            let notes = Self::settled(&live.handle, lab, progress).await?;
            return Ok(Restored { exact: true, notes });
        }
        let objects = self.objects(lab)?;
        if !live.handle.capabilities.disposable {
            self.claim(&live.handle, lab, progress).await?;
        }
        let by_snapshot = starts::put_start_back(&live.handle, lab, &objects).await?;
        if !by_snapshot {
            self.put_anew(&live.handle, lab, &objects, progress).await?;
        }
        self.written(&live.handle, lab, &objects, progress).await?;
        if !by_snapshot {
            starts::put_start_aside(&live.handle, lab, &objects).await?;
        }
        Ok(Restored {
            exact: to.number == 0,
            notes: Vec::new(),
        })
    }

    async fn pause(&self) -> Result<bool, WorldError> {
        let _made = self.made.lock().await;
        let stopped = match self.ground()?.stop(&self.site.cluster).await {
            Ok(()) => true,
            Err(ClusterError::Unsupported { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        self.set(None);
        Ok(stopped)
    }

    async fn end(&self, lab: &Lab, delete: bool) -> Result<(), WorldError> {
        self.set(None);
        if !delete {
            return Ok(());
        }
        let ground = self.ground()?;
        let mut made = self.made.lock().await;
        *made = Made::NeverAgain;
        match ground.delete(&self.site.cluster).await {
            Ok(()) | Err(ClusterError::NotFound { .. }) => Ok(()),
            // Somebody else's cluster stays, without what was made in it.
            Err(ClusterError::Unsupported { .. }) => {
                let handle = ground.get(&self.site.cluster).await?;
                let left = self.remove(&handle, lab, &no_progress()).await?;
                if left.is_empty() {
                    return Ok(());
                }
                Err(WorldError::new(format!(
                    "what this session made is removed; it may not have made these, which do not carry its labels and stay: {}",
                    left.join(", ")
                ))
                .hint("if you made them yourself, remove them with kubectl"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn transform(&self) -> manifests::Transform {
        self.site.transform.clone()
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
            work: Some(self.site.work.clone()),
            seen: sight.seen.clone(),
            loot: sight.loot.clone(),
            scope: live.scope.for_check(check),
            memory: live.memory,
            posture: sight.posture.clone(),
        };
        let evidence = check::gather(&scene, check, given).await;
        live.known.learn(&evidence, &scene.memory, &live.names);
        evidence
    }

    fn held(&self, end: SocketAddr, ts_ns: u64) -> Option<Held> {
        let live = self.live().ok()?;
        live.known.held(end, ts_ns, &live.names)
    }

    async fn look_at(&self, pod: &str, server: SocketAddr) {
        if let Ok(live) = self.live() {
            let Live {
                handle,
                namespace,
                names,
                ..
            } = &live;
            live.known
                .look_at(&handle.client, (namespace, pod), server, names)
                .await;
        }
    }

    async fn posture(&self, lab: &Lab) -> Result<Matrix, WorldError> {
        let live = self.live()?;
        Ok(posture::measure(&live.handle.client, &Scope::of_lab(lab), &no_progress()).await?)
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
            end: stream.ender(),
            events: Box::pin(stream.map(|event| event.map_err(WorldError::from))),
        })
    }

    async fn exec(&self, source: &Source, namespace: Option<&str>, argv: &[String]) -> Result<Ran, WorldError> {
        let live = self.live()?;
        let namespace = namespace.unwrap_or(&live.namespace);
        let pod = check::running_pod(&live.handle.client, namespace, source).await?;
        Ok(check::run(&live.handle.client, &pod, argv, EXEC_LIMIT).await?)
    }

    async fn perform(&self, lab: &Lab, deed: &Deed) -> Result<(), WorldError> {
        let live = self.live()?;
        let place = Place {
            client: live.handle.client,
            namespace: live.namespace,
            work: self.site.work.clone(),
            transform: self.site.transform.clone(),
        };
        deeds::perform(&place, lab, deed).await
    }

    async fn fill(&self, fill: &Fill) -> Result<String, WorldError> {
        let live = self.live()?;
        let scene = Scene {
            client: live.handle.client,
            namespace: live.namespace,
            work: Some(self.site.work.clone()),
            seen: Arc::default(),
            loot: Arc::default(),
            scope: live.scope,
            memory: live.memory,
            posture: Arc::default(),
        };
        deeds::fill(&scene, fill).await
    }

    async fn lacks(
        &self,
        lab: &Lab,
        wanted: &[Capability],
        progress: &Progress,
    ) -> Result<BTreeMap<String, String>, WorldError> {
        lacks::of(self, lab, wanted, progress).await
    }

    async fn changes(&self, lab: &Lab) -> Result<Changes, WorldError> {
        let live = self.live()?;
        Ok(changes::watch(live.handle.client, lab, &self.site.work))
    }
}
