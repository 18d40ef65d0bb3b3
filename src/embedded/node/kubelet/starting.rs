//! Starting a container: image, environment, program, probes.

use std::{path::Path, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, LifecycleHandler, PodSpec},
    jiff::Timestamp,
};
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::{
    Instance, NamespaceSources, disk, env, hooks, last_words, lock, peers,
    probes::{self, Finding, Target, Which},
    security,
    state::{self, Ended, Kind, Phase},
    translate::{self, Parts},
    worker::{Event, Live, TRY_AGAIN, Worker, held_waiting},
};
use crate::{
    events::Happening,
    image::{self, StandIn},
    node::runtime::{self, ContainerConfig, RuntimeError, Started},
};

/// A name for a directory: volume names are not trusted to be one.
pub(super) fn hash(name: &str) -> String {
    Sha256::digest(name)
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn new_id() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

/// The container whose only part is to be the first process of a pod that shares its processes.
fn pause_id(uid: &str) -> String {
    format!("{uid}-pause")
}

fn shares_processes(spec: &PodSpec) -> bool {
    spec.share_process_namespace == Some(true)
}

impl Worker {
    /// Starts what has PID 1 where the pod's containers share their processes: none of these ends the others with its end.
    pub(super) async fn begin_shared_processes(&self) -> Result<(), RuntimeError> {
        let spec = self.pod.spec.as_ref();
        if !spec.is_some_and(shares_processes) {
            return Ok(());
        }
        let config = ContainerConfig {
            id: pause_id(&self.uid),
            sandbox: self.uid.clone(),
            name: "pause".to_owned(),
            argv: runtime::PAUSE.map(str::to_owned).to_vec(),
            read_only_root: true,
            no_new_privileges: true,
            cap_drop: vec!["ALL".to_owned()],
            // As Kubernetes': it is the last to be ended for want of memory.
            oom_score_adj: None,
            ..ContainerConfig::default()
        };
        self.inner.runtime.start_container(config).await.map(drop)
    }

    pub(super) async fn start(&mut self, kind: Kind, name: &str) {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let Some(container) = translate::find(&spec, kind, name) else {
            return;
        };
        let reference = container.image.clone().unwrap_or_default();
        if !image::valid(&reference) {
            self.image_invalid(name, &reference);
            return;
        }
        let pull = container.image_pull_policy.as_deref() == Some("Always");
        let began = std::time::Instant::now();
        if pull {
            let text = format!("Pulling image \"{reference}\"");
            self.happened(Some(name), Happening::normal("Pulling", text));
        }
        let Some(image) = self.inner.images.resolve(&reference) else {
            self.image_missing(name, &reference, container.image_pull_policy.as_deref())
                .await;
            return;
        };
        let pulled = if pull {
            let took = began.elapsed().as_millis();
            let by = &image.name;
            format!(
                "Successfully pulled image \"{reference}\" in {took}ms ({took}ms including waiting): the stand-in {by} answers for it"
            )
        } else {
            format!("Container image \"{reference}\" already present on machine")
        };
        self.happened(Some(name), Happening::normal("Pulled", pulled));
        let id = new_id();
        let prepared = self.prepare_container(kind, &container, &image, &id);
        let config = match prepared {
            Ok(config) => config,
            Err(reason) => {
                self.happened(Some(name), Happening::warning("Failed", format!("Error: {reason}")));
                held_waiting(&mut self.state.containers, name, "CreateContainerConfigError", reason);
                self.pause(name, TRY_AGAIN * 5);
                return;
            }
        };
        self.happened(
            Some(name),
            Happening::normal("Created", format!("Created container: {name}")),
        );
        let attempt = self.begin(name, &image);
        let mut instance = Instance {
            id: id.clone(),
            attempt,
            started: None,
        };
        let began = Timestamp::now();
        match self.inner.runtime.start_container(config).await {
            Ok(started) => {
                instance.started = Some(started.clone());
                self.remember(name, instance);
                self.happened(
                    Some(name),
                    Happening::normal("Started", format!("Started container {name}")),
                );
                self.started(kind, &container, id, started);
            }
            Err(RuntimeError::Stopped) => {}
            Err(error) => {
                self.remember(name, instance);
                self.happened(Some(name), Happening::warning("Failed", format!("Error: {error}")));
                let ended = Ended {
                    id,
                    code: 128,
                    signal: None,
                    reason: "StartError".to_owned(),
                    message: Some(error.to_string()),
                    started_at: began,
                    finished_at: Timestamp::now(),
                };
                let policy = state::restart_policy_of(&spec, kind, &container);
                if let Some(held) = self.state.containers.get_mut(name) {
                    held.not_started(ended, policy);
                }
            }
        }
    }

    fn remember(&self, name: &str, instance: Instance) {
        lock(&self.inner.instances)
            .entry(self.uid.clone())
            .or_default()
            .insert(name.to_owned(), instance);
    }

    fn pause(&mut self, name: &str, pause: Duration) {
        if let (Some(held), Ok(at)) = (self.state.containers.get_mut(name), Timestamp::now().checked_add(pause)) {
            held.not_before = Some(at);
        }
    }

    /// Counts the attempt, and gives its number.
    fn begin(&mut self, name: &str, image: &StandIn) -> i32 {
        self.stand_ins.insert(name.to_owned(), image.name.clone());
        let held = self.state.containers.entry(name.to_owned()).or_default();
        if let Phase::Ended(ended) = &held.phase {
            held.last = Some(ended.clone());
        }
        held.crashes = held.crashes_after();
        if held.last.is_some() {
            held.restarts += 1;
        }
        held.failures = 0;
        held.not_before = None;
        held.image_id = format!("ztlab.dev/stand-in/{}", image.name);
        held.restarts
    }

    fn image_invalid(&mut self, name: &str, reference: &str) {
        let why = format!("couldn't parse image name \"{reference}\": invalid reference format");
        let text = format!("Failed to apply default image tag \"{reference}\": {why}");
        self.happened(Some(name), Happening::warning("InspectFailed", text.clone()));
        self.happened(Some(name), Happening::warning("Failed", "Error: InvalidImageName"));
        held_waiting(&mut self.state.containers, name, "InvalidImageName", text);
        self.pause(name, TRY_AGAIN * 5);
    }

    async fn image_missing(&mut self, name: &str, reference: &str, policy: Option<&str>) {
        let mut known: Vec<String> = self
            .inner
            .images
            .all()
            .into_iter()
            .flat_map(|image| image.repositories)
            .collect();
        known.sort();
        known.dedup();
        let there = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        let why = format!(
            "this cluster pulls nothing, and no stand-in answers for that name; there are stand-ins for: {there}"
        );
        let held = self.state.containers.entry(name.to_owned()).or_default();
        held.failures += 1;
        let pause = state::pull_pause(held.failures);
        if policy == Some("Never") {
            let text = format!("Container image \"{reference}\" is not present with pull policy of Never: {why}");
            held_waiting(&mut self.state.containers, name, "ErrImageNeverPull", text.clone());
            self.happened(Some(name), Happening::warning("ErrImageNeverPull", text));
            self.happened(Some(name), Happening::warning("Failed", "Error: ErrImageNeverPull"));
        } else {
            let text = format!("Failed to pull image \"{reference}\": {why}");
            held_waiting(&mut self.state.containers, name, "ErrImagePull", text.clone());
            if policy != Some("Always") {
                let text = format!("Pulling image \"{reference}\"");
                self.happened(Some(name), Happening::normal("Pulling", text));
            }
            self.happened(Some(name), Happening::warning("Failed", text));
            self.happened(Some(name), Happening::warning("Failed", "Error: ErrImagePull"));
        }
        self.pause(name, pause);
        self.publish().await;
    }

    fn prepare_container(
        &self,
        kind: Kind,
        container: &Container,
        image: &StandIn,
        id: &str,
    ) -> Result<ContainerConfig, String> {
        let namespace = self.pod.namespace().unwrap_or_default();
        let spec = self.pod.spec.clone().unwrap_or_default();
        let informers = &self.inner.informers;
        let mut base = image.env.clone();
        base.push(("HOSTNAME".to_owned(), translate::hostname(&self.pod)));
        base.extend(env::services(
            &informers.services.all(),
            &namespace,
            spec.enable_service_links != Some(false),
        ));
        let sources = NamespaceSources { informers, namespace };
        let env = env::environment(&self.pod, container, base, &self.facts(), &sources)?;
        let attempt = self.state.containers.get(&container.name).map_or(0, |held| {
            held.restarts + i32::from(held.last.is_some() || held.ended().is_some())
        });
        if let Some(why) = security::no_container(&self.pod, container.security_context.as_ref()) {
            return Err(why);
        }
        self.forget_logs(&container.name, attempt);
        let message = last_words::mount(&self.inner, &self.pod, container)
            .map_err(|error| format!("make the container's termination message: {error}"))?;
        let log = self.inner.log_file(&self.pod, &container.name, attempt);
        let dir = self.inner.log_dir(&self.pod);
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let target = if kind == Kind::Ephemeral {
            translate::target(&spec, &container.name)
        } else {
            None
        };
        let share = match target {
            Some(name) => {
                let live = self
                    .live
                    .get(&name)
                    .ok_or_else(|| format!("target container \"{name}\" is not running"))?;
                Some(live.id.clone())
            }
            None => shares_processes(&spec).then(|| pause_id(&self.uid)),
        };
        for mount in container.volume_mounts.iter().flatten() {
            let volume = self.mounts.get(&mount.name).filter(|_| mount.read_only != Some(true));
            if let Some(full) = volume.filter(|volume| volume.full()) {
                return Err(disk::words(&mount.name, full));
            }
        }
        let parts = Parts {
            id: id.to_owned(),
            sandbox: self.uid.clone(),
            env,
            volumes: self.mounts.clone(),
            log,
            message: Some(message),
            share_pid_with: share,
            memory: self.inner.machine.memory(),
        };
        let mut config = translate::config(&self.pod, container, image, parts)?;
        if spec.host_pid == Some(true) {
            config.mounts.push(peers::mount(&self.inner.dirs));
        }
        for mount in config.mounts.iter().filter(|mount| mount.sub_path.is_some()) {
            if runtime::check_sub_path(mount).is_err() {
                let of = container.volume_mounts.iter().flatten();
                let volume = of.into_iter().find(|one| Path::new(&one.mount_path) == mount.target);
                let volume = volume.map_or("", |volume| volume.name.as_str());
                return Err(translate::sub_path_failed(container, volume));
            }
        }
        Ok(config)
    }

    fn started(&mut self, kind: Kind, container: &Container, id: String, started: Started) {
        let name = container.name.clone();
        let probes_apply = kind == Kind::Main || (kind == Kind::Init && state::sidecar(container));
        if let Some(held) = self.state.containers.get_mut(&name) {
            held.phase = Phase::Running {
                id: id.clone(),
                since: started.started_at,
            };
            held.started = !(probes_apply && container.startup_probe.is_some());
            held.ready = kind != Kind::Ephemeral && !(probes_apply && container.readiness_probe.is_some());
        }
        self.state.begun |= kind == Kind::Main;
        let (tell, mut exited) = (self.tell.clone(), started.exited.clone());
        let (watched, watched_id) = (name.clone(), id.clone());
        tokio::spawn(async move {
            let exit = exited.wait().await;
            // The pod's task may have ended before its containers.
            let _ = tell.send(Event::Exited {
                name: watched,
                id: watched_id,
                exit,
            });
        });
        self.live.insert(
            name.clone(),
            Live {
                id,
                started,
                probes: Vec::new(),
                hook: None,
                deadline: None,
            },
        );
        let lifecycle = container.lifecycle.as_ref().filter(|_| kind != Kind::Ephemeral);
        match lifecycle.and_then(|lifecycle| lifecycle.post_start.clone()) {
            Some(hook) => self.post_start(container, hook),
            None => self.probe_all(kind, container),
        }
    }

    /// Sets a container's `postStart` hook to work.
    fn post_start(&mut self, container: &Container, hook: LifecycleHandler) {
        let name = container.name.clone();
        let Some(target) = self.target(container) else { return };
        if let Some(held) = self.state.containers.get_mut(&name) {
            held.hook = true;
        }
        let tell = self.tell.clone();
        let (about, id) = (name.clone(), target.instance.clone());
        let task = tokio::spawn(async move {
            let result = hooks::run(&hook, &target).await;
            // The pod's task may have ended before its hooks.
            let _ = tell.send(Event::Begun {
                name: about,
                id,
                result,
            });
        });
        if let Some(live) = self.live.get_mut(&name) {
            live.hook = Some(task.abort_handle());
        }
    }

    /// A `postStart` hook is done.
    pub(super) fn begun(&mut self, name: &str, result: Result<(), String>) {
        let Some(held) = self.state.containers.get_mut(name) else {
            return;
        };
        held.hook = false;
        if let Err(why) = result {
            held.ready = false;
            tracing::debug!(container = name, why, "postStart hook failed");
            // Its words stay here: they may tell what an event must not.
            let text = "PostStartHook failed";
            self.happened(Some(name), Happening::warning("FailedPostStartHook", text));
            let grace = self.pod_grace();
            self.stop(name, "FailedPostStartHook", grace, Vec::new());
            return;
        }
        let spec = self.pod.spec.clone().unwrap_or_default();
        for kind in [Kind::Main, Kind::Init] {
            if let Some(container) = translate::find(&spec, kind, name) {
                self.probe_all(kind, &container);
            }
        }
    }

    fn probe_all(&mut self, kind: Kind, container: &Container) {
        if kind == Kind::Ephemeral || (kind == Kind::Init && !state::sidecar(container)) {
            return;
        }
        if container.startup_probe.is_some() {
            self.probe(container, Which::Startup);
        } else {
            self.probe(container, Which::Liveness);
            self.probe(container, Which::Readiness);
        }
    }

    /// Where probes and hooks of a running container go.
    pub(super) fn target(&self, container: &Container) -> Option<Target> {
        Some(Target {
            runtime: self.inner.runtime.clone(),
            instance: self.live.get(&container.name)?.id.clone(),
            ip: self.state.ip?,
            container: Arc::new(container.clone()),
        })
    }

    fn probe(&mut self, container: &Container, which: Which) {
        let probe = match which {
            Which::Startup => &container.startup_probe,
            Which::Liveness => &container.liveness_probe,
            Which::Readiness => &container.readiness_probe,
        };
        let (Some(probe), Some(target)) = (probe.clone(), self.target(container)) else {
            return;
        };
        let Some(live) = self.live.get_mut(&container.name) else {
            return;
        };
        let (tell, name, id) = (self.tell.clone(), container.name.clone(), live.id.clone());
        let task = tokio::spawn(async move {
            probes::run(which, &probe, &target, |finding| {
                // The pod's task may have ended before its probes.
                let _ = tell.send(Event::Probe {
                    name: name.clone(),
                    id: id.clone(),
                    which,
                    finding,
                });
            })
            .await;
        });
        live.probes.push((which, task.abort_handle()));
    }

    pub(super) fn probed(&mut self, name: &str, which: Which, finding: Finding) {
        if let Finding::Failure(text) | Finding::Failed(text) = &finding {
            let text = format!("{} probe failed: {text}", which.word());
            self.happened(Some(name), Happening::warning("Unhealthy", text));
        }
        let Some(held) = self.state.containers.get_mut(name) else {
            return;
        };
        match (which, finding) {
            (_, Finding::Failure(_)) => {}
            (Which::Readiness, Finding::Passed) => held.ready = true,
            (Which::Readiness, Finding::Failed(_)) => held.ready = false,
            (Which::Liveness, Finding::Passed) => {}
            (Which::Startup, Finding::Passed) => {
                held.started = true;
                let spec = self.pod.spec.clone().unwrap_or_default();
                let found = [Kind::Main, Kind::Init]
                    .into_iter()
                    .find_map(|kind| translate::find(&spec, kind, name));
                if let Some(container) = found {
                    self.probe(&container, Which::Liveness);
                    self.probe(&container, Which::Readiness);
                }
            }
            (Which::Liveness | Which::Startup, Finding::Failed(_)) => {
                let text = format!(
                    "Container {name} failed {} probe, will be restarted",
                    which.word().to_lowercase()
                );
                let grace = self.probe_grace(name, which);
                self.stop(name, &text, grace, Vec::new());
            }
        }
    }

    /// The grace of a container whose probe failed: the probe's own, or else the pod's.
    fn probe_grace(&self, name: &str, which: Which) -> Duration {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let container = [Kind::Main, Kind::Init]
            .into_iter()
            .find_map(|kind| translate::find(&spec, kind, name));
        let probe = container.and_then(|container| match which {
            Which::Startup => container.startup_probe,
            Which::Liveness => container.liveness_probe,
            Which::Readiness => container.readiness_probe,
        });
        let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
        own.map_or_else(
            || self.pod_grace(),
            |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        )
    }
}
