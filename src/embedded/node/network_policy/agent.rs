//! Follows pods, namespaces and policies, and keeps the kernel's rules at what they come to.

use std::time::Duration;

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use kube::Client;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::{
    KernelRules, NodeService, compile,
    known::{Known, revision},
    moment::{NewestPod, Reader},
};
use crate::informer::{Change, Informers};

/// When to try again what the kernel or the API refused.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Starts following. `kernel` was made before the first pod; `node_services` is what runs on the node itself.
pub fn start(
    kernel: KernelRules,
    client: Client,
    newest_pod: NewestPod,
    informers: &Informers,
    node_services: Vec<NodeService>,
    stop: CancellationToken,
) {
    let agent = Agent {
        news: News {
            pods: informers.pods.subscribe(),
            ahead: Vec::new(),
            namespaces: informers.namespaces.subscribe(),
            policies: informers.network_policies.subscribe(),
        },
        known: Known::default(),
        reader: Reader::new(client, newest_pod, informers),
        node_services,
        kernel,
    };
    tokio::spawn(agent.run(stop));
}

struct Agent {
    news: News,
    known: Known,
    reader: Reader,
    node_services: Vec<NodeService>,
    kernel: KernelRules,
}

/// Changes that have not been looked at.
struct News {
    pods: UnboundedReceiver<Change<Pod>>,
    /// Changes of pods that this process made itself and knows ahead of the watch: others that are older may be on their way.
    ahead: Vec<Change<Pod>>,
    namespaces: UnboundedReceiver<Change<Namespace>>,
    policies: UnboundedReceiver<Change<NetworkPolicy>>,
}

impl News {
    /// Gives on what there is, of pods up to the revision up to which all was told.
    fn take(&mut self, known: &mut Known, told: u64) {
        while let Ok(change) = self.pods.try_recv() {
            self.ahead.push(change);
        }
        let ahead = |change: &mut Change<Pod>| revision(change.object().as_ref()) <= told;
        for change in self.ahead.extract_if(.., ahead) {
            known.pod(&change);
        }
        while let Ok(change) = self.namespaces.try_recv() {
            known.namespace(&change);
        }
        while let Ok(change) = self.policies.try_recv() {
            known.policy(&change);
        }
    }
}

impl Agent {
    async fn run(mut self, stop: CancellationToken) {
        let mut again = false;
        loop {
            let pause = async {
                if again {
                    tokio::time::sleep(TRY_AGAIN).await;
                } else {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                more = self.reader.news() => if !more { return },
                () = pause => {}
            }
            self.news.take(&mut self.known, self.reader.told());
            if self.known.changed || again {
                again = !self.bring_up_to_date().await;
            }
        }
    }

    /// Whether the kernel has it all.
    async fn bring_up_to_date(&mut self) -> bool {
        let Self {
            reader, known, news, ..
        } = self;
        let began = std::time::Instant::now();
        let moment = match reader.moment(known, |known, told| news.take(known, told)).await {
            Ok(moment) => moment,
            Err(error) => {
                tracing::warn!(%error, "network policies could not be read: changes and new pods wait for it; it is tried again");
                return false;
            }
        };
        let at = moment.revision;
        let read = began.elapsed();
        let world = known.world(moment, &self.node_services);
        let rules = compile(&world);
        let compiled = began.elapsed();
        match self.kernel.apply(&rules) {
            Ok(()) => {
                self.known.changed = false;
                let took = began.elapsed();
                tracing::debug!(
                    revision = at,
                    pods = world.pods.len(),
                    policies = world.policies.len(),
                    ?read,
                    ?compiled,
                    ?took,
                    "policies applied"
                );
                true
            }
            Err(error) => {
                tracing::error!(%error, "network policies could not be brought up to date: until they are, new pods are cut off; it is tried again");
                false
            }
        }
    }
}
