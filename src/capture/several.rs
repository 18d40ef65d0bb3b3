//! Captures in several pods at once: those that are there, and those that come while it runs.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered, SelectAll},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::ListParams,
    runtime::{WatchStreamExt, watcher},
};

use super::{CaptureError, CaptureRequest, names::workload};

/// Pods that are captured in at once. Each costs a stream through the API server and a ring of some MiB in its pod.
pub const PODS: usize = 128;
/// Bytes of each pod's ring: there may be many.
const RING: u32 = 4 << 20;
/// Captures that are begun at once.
const BEGINNING: usize = 16;

/// Which pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pods {
    /// Those of these names, and those of workloads of these names.
    Named(Vec<String>),
    /// All of the namespace.
    All,
}

/// What to capture in several pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Their namespace.
    pub namespace: String,
    /// Which ones. A pod that comes while the capture runs joins it if it is one of these.
    pub pods: Pods,
    /// A BPF filter in libpcap's language (pcap-filter(7)), applied in each pod; `None` takes everything.
    pub filter: Option<String>,
}

impl Scope {
    fn request(&self, pod: &str) -> CaptureRequest {
        CaptureRequest {
            filter: self.filter.clone(),
            ring: RING,
            ..CaptureRequest::pod(&self.namespace, pod)
        }
    }

    /// Whether it is one of them: by its own name, its label `app`, or its controller's.
    fn wants(&self, pod: &Pod) -> bool {
        match &self.pods {
            Pods::All => true,
            Pods::Named(names) => names.iter().any(|name| is(pod, name)),
        }
    }
}

/// Whether a pod is called so, or is of the workload that is.
fn is(pod: &Pod, name: &str) -> bool {
    pod.name_any() == name || pod.labels().get("app").is_some_and(|app| app == name) || workload(pod) == name
}

/// Whether an observer can be put into it now.
fn runs(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

/// What happens in captures of several pods.
#[derive(Debug)]
pub(super) enum Joined<T> {
    /// Something of the capture of this number.
    Item(usize, T),
    /// The capture in a pod could not be begun, or broke.
    Failed(String, CaptureError),
}

/// How the capture in one pod is begun.
type Begin<T> = Box<
    dyn Fn(CaptureRequest) -> BoxFuture<'static, Result<BoxStream<'static, Result<T, CaptureError>>, CaptureError>>
        + Send,
>;
type Items<T> = BoxStream<'static, (usize, String, Result<T, CaptureError>)>;
type Beginning<T> = BoxFuture<
    'static,
    (
        String,
        Result<BoxStream<'static, Result<T, CaptureError>>, CaptureError>,
    ),
>;

/// Captures in several pods, and the watch for more of them.
pub(super) struct Several<T> {
    scope: Scope,
    begin: Begin<T>,
    changes: BoxStream<'static, watcher::Result<watcher::Event<Pod>>>,
    /// Pods by uid that are captured in, or were.
    known: HashSet<String>,
    waiting: VecDeque<String>,
    beginning: FuturesUnordered<Beginning<T>>,
    running: SelectAll<Items<T>>,
    begun: usize,
}

impl<T: Send + 'static> Several<T> {
    /// Begins the captures in the pods that run now; returns once libpcap listens in all of them where it can.
    ///
    /// # Errors
    /// A pod that is asked for by name does not exist, none of them can be observed, or the filter is not valid.
    pub(super) async fn begin(
        client: &kube::Client,
        scope: Scope,
        begin: Begin<T>,
    ) -> Result<(Self, Vec<Joined<T>>), CaptureError> {
        let api: Api<Pod> = Api::namespaced(client.clone(), &scope.namespace);
        let pods = api
            .list(&ListParams::default())
            .await
            .map_err(CaptureError::api(format!(
                "cannot list the pods of {}",
                scope.namespace
            )))?;
        if let Pods::Named(names) = &scope.pods
            && let Some(missing) = names.iter().find(|name| !pods.items.iter().any(|pod| is(pod, name)))
        {
            return Err(CaptureError::NoSuchPod {
                namespace: scope.namespace.clone(),
                pod: missing.clone(),
            });
        }
        let config = watcher::Config::default();
        let mut several = Self {
            scope,
            begin,
            changes: watcher(api, config).default_backoff().boxed(),
            known: HashSet::new(),
            waiting: VecDeque::new(),
            beginning: FuturesUnordered::new(),
            running: SelectAll::new(),
            begun: 0,
        };
        pods.items.iter().for_each(|pod| several.saw(pod));
        let mut told = Vec::new();
        let mut failed = None;
        while let Some((pod, result)) = several.next_begun().await {
            match result {
                Ok(stream) => several.join(pod, stream),
                Err(error @ CaptureError::Filter { .. }) => return Err(error),
                Err(error) => {
                    if let Some((pod, error)) = failed.replace((pod, error)) {
                        told.push(Joined::Failed(pod, error));
                    }
                }
            }
        }
        match failed {
            Some((_, error)) if several.begun == 0 => Err(error),
            failed => {
                told.extend(failed.map(|(pod, error)| Joined::Failed(pod, error)));
                Ok((several, told))
            }
        }
    }

    /// What happens next; it never ends by itself.
    pub(super) async fn next(&mut self) -> Joined<T> {
        loop {
            tokio::select! {
                Some((number, pod, item)) = self.running.next(), if !self.running.is_empty() => {
                    return match item {
                        Ok(item) => Joined::Item(number, item),
                        Err(error) => Joined::Failed(pod, error),
                    };
                }
                Some((pod, result)) = self.beginning.next(), if !self.beginning.is_empty() => {
                    self.fill();
                    match result {
                        Ok(stream) => self.join(pod, stream),
                        Err(error) => return Joined::Failed(pod, error),
                    }
                }
                Some(change) = self.changes.next() => match change {
                    Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => self.saw(&pod),
                    Ok(watcher::Event::Delete(pod)) => {
                        self.known.remove(&pod.uid().unwrap_or_default());
                    }
                    Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
                    Err(error) => tracing::debug!(%error, "capture: watch of pods interrupted"),
                },
            }
        }
    }

    async fn next_begun(
        &mut self,
    ) -> Option<(
        String,
        Result<BoxStream<'static, Result<T, CaptureError>>, CaptureError>,
    )> {
        let begun = self.beginning.next().await;
        self.fill();
        begun
    }

    /// Takes note of a pod; begins a capture in it where that is wanted and can be.
    fn saw(&mut self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        if self.known.contains(&uid) || !runs(pod) || !self.scope.wants(pod) {
            return;
        }
        self.known.insert(uid);
        self.waiting.push_back(pod.name_any());
        self.fill();
    }

    fn fill(&mut self) {
        while self.beginning.len() < BEGINNING {
            let Some(pod) = self.waiting.pop_front() else { return };
            if self.running.len() + self.beginning.len() >= PODS {
                let refused = CaptureError::NotObservable {
                    namespace: self.scope.namespace.clone(),
                    pod: pod.clone(),
                    reason: format!("{PODS} pods are captured in already"),
                };
                self.beginning.push(async move { (pod, Err(refused)) }.boxed());
                return;
            }
            let capture = (self.begin)(self.scope.request(&pod));
            self.beginning.push(capture.map(|result| (pod, result)).boxed());
        }
    }

    fn join(&mut self, pod: String, stream: BoxStream<'static, Result<T, CaptureError>>) {
        let number = self.begun;
        self.begun += 1;
        let items = stream.map(move |item| (number, pod.clone(), item));
        self.running.push(items.boxed());
    }
}

/// What several captures tell, as a stream that ends only when it is dropped.
pub(super) fn into_stream<T: Send + 'static>(
    several: Several<T>,
    first: Vec<Joined<T>>,
    every: Duration,
) -> impl Stream<Item = Option<Joined<T>>> + Send {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let first: VecDeque<_> = first.into();
    stream::unfold((several, first, tick), async |(mut several, mut first, mut tick)| {
        if let Some(one) = first.pop_front() {
            return Some((Some(one), (several, first, tick)));
        }
        let next = tokio::select! {
            joined = several.next() => Some(joined),
            _ = tick.tick() => None,
        };
        Some((next, (several, first, tick)))
    })
}
