//! The CronJob controller: Jobs at their times.
//!
//! Source: Kubernetes' CronJob concept and API reference (batch/v1).

mod plan;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::batch::v1::{CronJob, CronJobStatus, Job},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};

use super::{Context, follow, owner};
use crate::{
    events::{Happening, Recorder, reference},
    informer::Key,
    queue::Queue,
    write::{unless_gone, write_status},
};

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let cache = &context.informers;
    follow::objects(&cache.cron_jobs, &queue);
    follow::owned(&cache.jobs, &queue, "CronJob", |_, _| Vec::new());
    let controller = Arc::new(Controller {
        context: context.clone(),
        recorder: context.recorder.of("cronjob-controller", None),
    });
    context
        .tasks
        .spawn(queue.run("cronjob", context.stop.clone(), move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        }));
}

struct Controller {
    context: Context,
    recorder: Recorder,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers;
        let Some(cron) = cache.cron_jobs.get(key) else {
            return Ok(None);
        };
        let mut jobs = cache.jobs.in_namespace(&key.namespace);
        jobs.retain(|job| owner::controls(cron.as_ref(), &job.metadata));
        let plan = plan::plan(&cron, &jobs, Timestamp::now());
        for event in plan.events {
            self.recorder.tell(reference(cron.as_ref()), event);
        }
        let api: Api<Job> = Api::namespaced(self.context.client.clone(), &key.namespace);
        for name in plan.forget.iter().chain(&plan.replace) {
            self.delete(&cron, &api, name).await?;
        }
        let mut status = plan.status;
        status.active = status.active.map(|mut active| {
            let replaced = |name: &Option<String>| name.as_ref().is_some_and(|name| plan.replace.contains(name));
            active.retain(|held| !replaced(&held.name));
            active
        });
        status.active = status.active.filter(|active| !active.is_empty());
        let mut failure = None;
        if let Some((job, at)) = plan.create {
            match self.create(&cron, &api, &job).await {
                Ok(Some(made)) => status = plan::started(status, &made, at),
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        self.write_status(&cron, &status).await?;
        failure.map_or(Ok(plan.again), Err)
    }

    /// Makes a Job; gives the one of its name where this CronJob has made it already, and nothing where it is another's.
    async fn create(&self, cron: &CronJob, api: &Api<Job>, job: &Job) -> Result<Option<Job>, kube::Error> {
        let name = job.name_any();
        match api.create(&PostParams::default(), job).await {
            Ok(made) => {
                let message = format!("Created job {name}");
                self.recorder
                    .tell(reference(cron), Happening::normal("SuccessfulCreate", message));
                self.context.informers.jobs.wrote(made.clone());
                Ok(Some(made))
            }
            Err(kube::Error::Api(answer)) if answer.is_already_exists() => {
                let there = api.get_opt(&name).await?;
                Ok(there.filter(|there| owner::controls(cron, &there.metadata)))
            }
            Err(error) => {
                let message = format!("Error creating job: {error}");
                self.recorder
                    .tell(reference(cron), Happening::warning("FailedCreate", message));
                Err(error)
            }
        }
    }

    async fn delete(&self, cron: &CronJob, api: &Api<Job>, name: &str) -> Result<(), kube::Error> {
        if let Some(answer) = unless_gone(api.delete(name, &DeleteParams::background()).await)? {
            let message = format!("Deleted job {name}");
            self.recorder
                .tell(reference(cron), Happening::normal("SuccessfulDelete", message));
            let cache = &self.context.informers.jobs;
            let key = Key::new(cron.namespace().unwrap_or_default(), name);
            match (answer.left(), cache.get(&key)) {
                (Some(left), _) => cache.wrote(left),
                (None, Some(gone)) => cache.deleted(&gone),
                (None, None) => {}
            }
        }
        Ok(())
    }

    async fn write_status(&self, cron: &CronJob, status: &CronJobStatus) -> Result<(), kube::Error> {
        if cron.status.as_ref() == Some(status) {
            return Ok(());
        }
        let api: Api<CronJob> = Api::namespaced(self.context.client.clone(), &cron.namespace().unwrap_or_default());
        if let Some(written) = unless_gone(write_status(&api, &cron.name_any(), status).await)? {
            self.context.informers.cron_jobs.wrote(written);
        }
        Ok(())
    }
}
