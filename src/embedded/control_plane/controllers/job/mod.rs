//! The Job controller: pods that run to their end, counted once each.
//!
//! Source: Kubernetes' Job concept and API reference (batch/v1), "TTL mechanism for finished Jobs".

mod indexes;
mod plan;
mod pod;
mod policy;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use super::{Context, follow, owner, pods};
use crate::{
    events::{Happening, Recorder, reference},
    informer::{Change, Key},
    queue::Queue,
    write::{delete_this, unless_gone, write_status},
};
use plan::{Facts, Plan};
use pod::FINALIZER;

/// The value of `managedBy` that means this controller.
const NAME: &str = "kubernetes.io/job-controller";

/// The account that deletes Jobs whose time is over: Kubernetes' TTL-after-finished controller.
pub const TTL_ACCOUNT: &str = "ttl-after-finished-controller";

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let orphans = Queue::default();
    let cache = &context.informers;
    follow::objects(&cache.jobs, &queue);
    let jobs = cache.jobs.clone();
    follow::owned(&cache.pods, &queue, "Job", move |pod, namespace| {
        let takes = |job: &Arc<Job>| {
            let selector = selector(job);
            owner::selects(&selector, pod.metadata.labels.as_ref())
        };
        let jobs = jobs.in_namespace(namespace);
        let taking = jobs.iter().filter(|job| takes(job));
        taking.map(|job| Key::of(job.as_ref())).collect()
    });
    let (jobs, feed) = (cache.jobs.clone(), orphans.clone());
    follow::changes(&cache.pods, move |change| {
        let pod = change.object();
        let is_ours = |owner: &_| owner_is(&jobs.get(&job_of(pod, owner)), owner);
        if pod::tracked(pod) && !owner::controller_of(&pod.metadata).is_some_and(is_ours) {
            feed.add(Key::of(pod.as_ref()));
        }
    });
    let (all, feed) = (cache.pods.clone(), orphans.clone());
    follow::changes(&cache.jobs, move |change| {
        let Change::Deleted(job) = change else { return };
        let pods = all.in_namespace(&job.namespace().unwrap_or_default());
        let left = pods.iter().filter(|pod| pod::tracked(pod));
        let left = left.filter(|pod| owner::controls(job.as_ref(), &pod.metadata));
        left.for_each(|pod| feed.add(Key::of(pod.as_ref())));
    });
    let controller = Arc::new(Controller {
        context: context.clone(),
        recorder: context.recorder.of("job-controller", None),
        ttl: context.of(TTL_ACCOUNT).client,
    });
    let releasing = controller.clone();
    context.tasks.spawn(queue.run("job", context.stop.clone(), move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    }));
    context
        .tasks
        .spawn(orphans.run("job-orphans", context.stop.clone(), move |key| {
            let controller = releasing.clone();
            async move { controller.free(&key).await }
        }));
}

type Owner = k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

fn job_of(pod: &Pod, owner: &Owner) -> Key {
    Key::new(pod.namespace().unwrap_or_default(), owner.name.clone())
}

fn owner_is(job: &Option<Arc<Job>>, owner: &Owner) -> bool {
    owner.kind == "Job"
        && job
            .as_ref()
            .is_some_and(|job| job.metadata.uid.as_ref() == Some(&owner.uid))
}

fn selector(job: &Job) -> LabelSelector {
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.clone());
    selector.unwrap_or_default()
}

fn is_foreign(job: &Job) -> bool {
    let by = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    by.is_some_and(|by| by != NAME)
}

struct Controller {
    context: Context,
    /// Deletes Jobs whose time is over.
    ttl: Client,
    recorder: Recorder,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers;
        let Some(job) = cache.jobs.get(key).filter(|job| !is_foreign(job)) else {
            return Ok(None);
        };
        self.claim(&job).await?;
        let held = self.held(&job);
        let plan = plan::plan(Facts {
            job: &job,
            pods: &held,
            now: Timestamp::now(),
        });
        if plan.expired && job.metadata.deletion_timestamp.is_none() {
            return self.expire(&job).await;
        }
        self.apply(&job, plan).await
    }

    fn api(&self, job: &Job) -> Api<Pod> {
        Api::namespaced(self.context.client.clone(), &job.namespace().unwrap_or_default())
    }

    fn held(&self, job: &Job) -> Vec<Arc<Pod>> {
        let cache = &self.context.informers.pods;
        let mut held = cache.in_namespace(&job.namespace().unwrap_or_default());
        held.retain(|pod| owner::controls(job, &pod.metadata));
        held
    }

    /// Takes pods that the selector takes, which are counted from then on, and lets others go.
    async fn claim(&self, job: &Job) -> Result<(), kube::Error> {
        let cache = &self.context.informers.pods;
        let there = cache.in_namespace(&job.namespace().unwrap_or_default());
        let (held, changes) = pods::claim(job, &selector(job), &there);
        for mut change in changes {
            let adopted = held.iter().find(|pod| pod.name_any() == change.name);
            if let Some(pod) = adopted.filter(|pod| !pod::tracked(pod)) {
                let mut finalizers = pod.finalizers().to_vec();
                finalizers.push(FINALIZER.to_owned());
                change.patch["metadata"]["finalizers"] = json!(finalizers);
            }
            let patch = Patch::Merge(&change.patch);
            let patched = self.api(job).patch(&change.name, &PatchParams::default(), &patch).await;
            if let Some(pod) = unless_gone(patched)? {
                cache.wrote(pod);
            }
        }
        Ok(())
    }

    async fn apply(&self, job: &Job, plan: Plan) -> Result<Option<Duration>, kube::Error> {
        let pods = self.api(job);
        for (name, uid) in &plan.abandon {
            // First it is no longer counted, then it is deleted: what the Job itself takes away is no failure.
            self.release(&pods, name).await?;
            self.delete(job, &pods, name, uid).await?;
        }
        for (name, uid) in &plan.delete {
            self.delete(job, &pods, name, uid).await?;
        }
        let mut status = plan.status;
        let mut failure = None;
        for (at, new) in plan.create.iter().enumerate() {
            if let Err(error) = self.create(job, &pods, *new).await {
                let missing = pods::count(plan.create.len() - at);
                status.active = status
                    .active
                    .map(|active| active - missing)
                    .filter(|active| *active > 0);
                failure = Some(error);
                break;
            }
        }
        if job.status.as_ref() != Some(&status) {
            let namespace = job.namespace().unwrap_or_default();
            let jobs: Api<Job> = Api::namespaced(self.context.client.clone(), &namespace);
            if let Some(written) = unless_gone(write_status(&jobs, &job.name_any(), &status).await)? {
                self.context.informers.jobs.wrote(written);
            }
        }
        for event in plan.events {
            self.recorder.tell(reference(job), event);
        }
        for name in &plan.release {
            self.release(&pods, name).await?;
        }
        failure.map_or(Ok(plan.again), Err)
    }

    async fn create(&self, job: &Job, pods: &Api<Pod>, new: pod::New) -> Result<(), kube::Error> {
        let made = pods.create(&PostParams::default(), &pod::make(job, new)).await;
        let event = match &made {
            Ok(pod) => Happening::normal("SuccessfulCreate", format!("Created pod: {}", pod.name_any())),
            Err(error) => Happening::warning("FailedCreate", format!("Error creating: {error}")),
        };
        self.recorder.tell(reference(job), event);
        self.context.informers.pods.wrote(made?);
        Ok(())
    }

    async fn delete(&self, job: &Job, pods: &Api<Pod>, name: &str, uid: &str) -> Result<(), kube::Error> {
        let gone = delete_this(pods, name, uid).await;
        let event = match &gone {
            Ok(_) => Happening::normal("SuccessfulDelete", format!("Deleted pod: {name}")),
            Err(error) => Happening::warning("FailedDelete", format!("Error deleting: {error}")),
        };
        self.recorder.tell(reference(job), event);
        if let Some(pod) = gone? {
            self.context.informers.pods.wrote(pod);
        }
        Ok(())
    }

    /// Takes the finalizer from a pod.
    async fn release(&self, pods: &Api<Pod>, name: &str) -> Result<(), kube::Error> {
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
        let patched = pods
            .patch(name, &PatchParams::default(), &Patch::Strategic(&patch))
            .await;
        if let Some(pod) = unless_gone(patched)? {
            // The last finalizer of a pod that is being deleted takes the pod with it.
            let ends = pods::terminating(&pod) && pod.finalizers().is_empty();
            match ends && pod.metadata.deletion_grace_period_seconds == Some(0) {
                true => self.context.informers.pods.deleted(&pod),
                false => self.context.informers.pods.wrote(pod),
            }
        }
        Ok(())
    }

    /// Frees a pod that no Job counts.
    async fn free(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let Some(pod) = self.context.informers.pods.get(key).filter(|pod| pod::tracked(pod)) else {
            return Ok(None);
        };
        if let Some(owner) = owner::controller_of(&pod.metadata).filter(|owner| owner.kind == "Job") {
            // The cache may be behind: the API knows.
            let jobs: Api<Job> = Api::namespaced(self.context.client.clone(), &key.namespace);
            if owner_is(&jobs.get_opt(&owner.name).await?.map(Arc::new), owner) {
                return Ok(None);
            }
        }
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        self.release(&pods, &key.name).await?;
        Ok(None)
    }

    /// Deletes a Job, and what it made before it.
    async fn expire(&self, job: &Job) -> Result<Option<Duration>, kube::Error> {
        let jobs: Api<Job> = Api::namespaced(self.ttl.clone(), &job.namespace().unwrap_or_default());
        let params = DeleteParams::foreground().preconditions(Preconditions {
            uid: job.uid(),
            resource_version: job.resource_version(),
        });
        match jobs.delete(&job.name_any(), &params).await {
            // It has changed meanwhile, perhaps its time: the change brings it here again.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            deleted => unless_gone(deleted).map(|_| None),
        }
    }
}
