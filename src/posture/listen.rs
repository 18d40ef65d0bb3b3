//! Listening in the pods that are called, for what the application says by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    field::{Field, chosen},
    inventory::Workload,
    judge::{Heard, Seen},
    model::Name,
};
use crate::{
    capture::{self, CaptureError, CaptureEvent, CaptureRequest, CaptureStream, observer::Observer},
    packet::{Dissector, Flow, FlowVerdict, Frame, LinkType},
};

/// Captures that are started at once.
const STARTING: usize = 8;
/// Captures that run at once.
const EARS: usize = 16;
/// How often conversations are looked at while listening.
const TICK: Duration = Duration::from_millis(50);

/// The conversations of each pod that is listened to.
type Flows = Arc<Mutex<BTreeMap<(String, String), Vec<Flow>>>>;

/// Captures that run.
pub(super) struct Ears {
    since: Instant,
    flows: Flows,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// Starts a capture on the ports of a workload, in one of its pods.
fn start(
    observer: Observer,
    of: &Workload,
) -> impl Future<Output = (Observer, Result<CaptureStream, CaptureError>)> + Send + use<> {
    let ports: Vec<String> = of.ports.iter().map(|port| format!("port {}", port.target)).collect();
    let request = CaptureRequest {
        filter: Some(format!("tcp and ({})", ports.join(" or "))),
        ..CaptureRequest::pod(observer.namespace(), observer.pod())
    };
    async move {
        let capture = capture::start(observer.client(), request).await;
        (observer, capture)
    }
}

/// Keeps what one capture hears, until told to stop.
async fn hear(mut capture: CaptureStream, key: (String, String), flows: Flows, stop: CancellationToken) {
    let mut dissector = Dissector::default();
    let (mut link, mut number) = (LinkType::LINUX_SLL2, 0);
    let mut tick = tokio::time::interval(TICK);
    let put = |dissector: &Dissector| {
        let heard = dissector.flows();
        flows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), heard);
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => put(&dissector),
            event = capture.next() => match event {
                Some(Ok(CaptureEvent::Started { link: told, .. })) => link = told,
                Some(Ok(CaptureEvent::Packet(packet))) => {
                    number += 1;
                    dissector.feed(Frame {
                        number,
                        ts_ns: packet.ts_ns,
                        link,
                        orig_len: packet.orig_len,
                        data: &packet.data,
                    });
                }
                Some(Ok(CaptureEvent::Dropped(_))) => {}
                Some(Ok(CaptureEvent::Ended(_)) | Err(_)) | None => break,
            },
        }
    }
    dissector.finish();
    put(&dissector);
}

impl Ears {
    /// Waits until every declared call was heard, or the time is over; gives the application's own conversations.
    pub(super) async fn heard(mut self, listen: Duration, field: &Field<'_>, seen: &Seen) -> Vec<Heard> {
        let probes = seen
            .attempts
            .iter()
            .map(|one| &one.probe)
            .chain(seen.controls.iter().map(|one| &one.probe))
            .chain(seen.looks.iter().map(|one| &one.probe));
        let probes: BTreeSet<SocketAddr> = probes.filter_map(|probe| probe.local).collect();
        let quiet = field.quiet(seen);
        while self.since.elapsed() < listen {
            let heard = self.conversations(field, &probes);
            let told = |edge: &(Name, Name, u16)| {
                let mut of = heard
                    .iter()
                    .filter(|one| one.from == edge.0 && one.to == edge.1 && one.port == edge.2);
                of.any(|one| one.flow.encrypted || one.flow.verdict == FlowVerdict::Readable)
            };
            if field
                .inventory
                .declared
                .iter()
                .all(|edge| quiet.contains(edge) || told(edge))
            {
                break;
            }
            tokio::time::sleep(TICK).await;
        }
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.conversations(field, &probes)
    }

    fn conversations(&self, field: &Field<'_>, probes: &BTreeSet<SocketAddr>) -> Vec<Heard> {
        let flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut heard = Vec::new();
        for ((namespace, pod), flows) in flows.iter() {
            for flow in flows {
                let ends = [flow.client.addr, flow.server.addr];
                // Another measurement may run at the same time.
                if flow.is_probe() || ends.iter().any(|end| probes.contains(end)) {
                    continue;
                }
                if let Some((from, to, port)) = field.edge(ends, pod) {
                    heard.push(Heard {
                        from,
                        to,
                        port,
                        namespace: namespace.clone(),
                        pod: pod.clone(),
                        flow: flow.clone(),
                    });
                }
            }
        }
        heard
    }
}

impl Field<'_> {
    /// Listens in the pods that are called by somebody who is declared; returns once all of them listen.
    pub(super) async fn listen(&self) -> Ears {
        let called: BTreeSet<&Name> = self.inventory.declared.iter().map(|(_, to, _)| to).collect();
        let pods = self.inventory.workloads.iter().filter(|one| called.contains(&one.name));
        let pods = pods.flat_map(|one| chosen(one).map(move |(pod, _)| (one, pod)));
        let stop = CancellationToken::new();
        let flows: Flows = Arc::default();
        let mut tasks = JoinSet::new();
        let starting: Vec<_> = pods
            .filter_map(|(one, pod)| Some(start(self.observer(&one.name.namespace, pod)?.clone(), one)))
            .take(EARS)
            .collect();
        let mut starting = stream::iter(starting).buffer_unordered(STARTING);
        while let Some((observer, capture)) = starting.next().await {
            match capture {
                Ok(capture) => {
                    let key = (observer.namespace().to_owned(), observer.pod().to_owned());
                    tasks.spawn(hear(capture, key, Arc::clone(&flows), stop.clone()));
                }
                Err(error) => tracing::warn!(pod = observer.pod(), %error, "posture: cannot listen"),
            }
        }
        drop(starting);
        Ears {
            since: Instant::now(),
            flows,
            stop,
            tasks,
        }
    }

    /// Declared calls that do not get through: there is nothing to wait for.
    fn quiet(&self, seen: &Seen) -> BTreeSet<(Name, Name, u16)> {
        let open = |edge: &&(Name, Name, u16)| {
            let mut tried = seen.attempts.iter();
            tried.any(|one| one.from == edge.0 && one.to == edge.1 && one.port == edge.2 && one.probe.outcome.reached())
        };
        self.inventory
            .declared
            .iter()
            .filter(|edge| !open(edge))
            .cloned()
            .collect()
    }

    /// Whose conversation this is: the callee is the pod that was listened to.
    fn edge(&self, ends: [SocketAddr; 2], pod: &str) -> Option<(Name, Name, u16)> {
        let of = |addr: SocketAddr| {
            let ip = addr.ip().to_string();
            let mut all = self.inventory.workloads.iter();
            all.find(|one| one.pods.iter().any(|place| place.ip.as_deref() == Some(ip.as_str())))
        };
        // The opening may not have been seen, so either end may be taken for the client.
        [(ends[0], ends[1]), (ends[1], ends[0])]
            .into_iter()
            .find_map(|(client, server)| {
                let to = of(server).filter(|to| to.pods.iter().any(|place| place.name == pod))?;
                let from = of(client).filter(|from| from.name != to.name)?;
                let port = to.ports.iter().find(|port| port.target == server.port())?;
                Some((from.name.clone(), to.name.clone(), port.port))
            })
    }
}
