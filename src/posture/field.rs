//! The pods that are looked from and at: observers in them, and the probes that they send.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use futures::{StreamExt, stream};

use super::{
    inventory::{Inventory, Port, Workload},
    judge::{self, Asked, Attempt, Control, Look, Seen},
    measure::{now_ns, tell},
    model::Name,
};
use crate::{
    capture::observer::{self, Observer},
    cluster::Progress,
    evidence::{ProbeOutcome, ProbeResult},
    probe::{self, HttpProbe, ProbeKind, ProbeRequest, StartTls, TlsOptions, TlsProbe},
};

/// Pods of a workload that are looked from and at.
const PODS: usize = 3;
/// Observers that are started at once.
const STARTING: usize = 8;

/// Probes that run at once. Most of them wait for an answer that does not come.
pub(super) const PROBES: usize = 40;

/// The pods that are looked from and at.
pub(super) struct Field<'a> {
    pub(super) inventory: &'a Inventory,
    /// The observers, by namespace and pod.
    observers: BTreeMap<(String, String), Observer>,
}

/// One probe to run, and what its result is for.
enum Task {
    Attempt {
        from: Name,
        to: Name,
        port: u16,
        pod: Option<String>,
    },
    Control {
        of: Name,
        pod: String,
        port: u16,
        after: bool,
    },
    Look {
        from: Name,
        of: Name,
        port: u16,
        asked: Asked,
    },
}

impl<'a> Field<'a> {
    /// Has an observer run in every pod that is to be looked from.
    pub(super) async fn enter(
        client: &kube::Client,
        inventory: &'a Inventory,
        progress: &Progress,
        seen: &mut Seen,
    ) -> Self {
        let pods: Vec<(String, String)> = inventory
            .workloads
            .iter()
            .flat_map(|one| chosen(one).map(|(pod, _)| (one.name.namespace.clone(), pod.to_owned())))
            .collect();
        let total = pods.len();
        let mut entering = stream::iter(pods)
            .map(async |(namespace, pod)| {
                let observer = observer::ensure(client, &namespace, &pod).await;
                ((namespace, pod), observer)
            })
            .buffer_unordered(STARTING);
        let mut observers = BTreeMap::new();
        let mut done = 0;
        while let Some((place, observer)) = entering.next().await {
            done += 1;
            tell(progress, "observers", done, total, &place.1);
            match observer {
                Ok(observer) => {
                    observers.insert(place, observer);
                }
                Err(error) => {
                    seen.blind.insert(place.1, error.to_string());
                }
            }
        }
        Self { inventory, observers }
    }

    pub(super) fn observer(&self, namespace: &str, pod: &str) -> Option<&Observer> {
        self.observers.get(&(namespace.to_owned(), pod.to_owned()))
    }

    /// What to know about how it was measured.
    pub(super) fn notes(&self, seen: &Seen) -> Vec<String> {
        let mut notes: Vec<String> = seen
            .blind
            .iter()
            .map(|(pod, why)| format!("the pod {pod} cannot be looked from: {why}"))
            .collect();
        let many = self.inventory.workloads.iter().filter(|one| one.pods.len() > PODS);
        notes.extend(many.map(|one| {
            let (name, pods) = (&one.name.name, one.pods.len());
            format!("{name} has {pods} pods; {PODS} of them were looked from and at")
        }));
        notes
    }

    /// Tries every connection, with the controls before and after: they must enclose what they are controls of.
    pub(super) async fn probe(&self, seen: &mut Seen, progress: &Progress) {
        let attempts = self.attempts();
        let known = attempts.len() + 2 * self.controls(false).len();
        let mut done = 0;
        let mut first = self.controls(false);
        first.extend(self.looks(Asked::Http, |_, _| true));
        self.run(first, seen, progress, &mut done, known).await;
        // What serves in clear needs no further question.
        let clear: BTreeSet<(Name, u16)> = serving(seen, |look| judge::serves_in_clear(&look.probe.outcome));
        let dark = |of: &Name, port: u16| !clear.contains(&(of.clone(), port));
        let mut second = attempts;
        second.extend(self.looks(Asked::Tls, dark));
        second.extend(self.looks(Asked::Postgres, dark));
        self.run(second, seen, progress, &mut done, known).await;
        let third = self.strangers(seen);
        self.run(third, seen, progress, &mut done, known).await;
        self.run(self.controls(true), seen, progress, &mut done, known).await;
        // In the order of asking, not of answering: the same network gives the same matrix.
        seen.attempts
            .sort_by_key(|one| (one.pod.is_none(), one.pod.clone(), one.probe.pod.clone()));
        seen.looks
            .sort_by_key(|one| (one.asked, one.from.clone(), one.of.clone(), one.port));
    }

    async fn run(
        &self,
        tasks: Vec<(&Observer, Task, ProbeKind)>,
        seen: &mut Seen,
        progress: &Progress,
        done: &mut usize,
        known: usize,
    ) {
        let tasks = tasks.into_iter();
        let running: Vec<_> = tasks
            .map(|(observer, task, kind)| ask(observer.clone(), task, kind))
            .collect();
        let mut running = stream::iter(running).buffer_unordered(PROBES);
        while let Some((task, probe)) = running.next().await {
            *done += 1;
            tell(progress, "probe", *done, known.max(*done), &probe.target);
            match task {
                Task::Attempt { from, to, port, pod } => seen.attempts.push(Attempt {
                    from,
                    to,
                    port,
                    pod,
                    probe,
                }),
                Task::Control { of, pod, port, after } => seen.controls.push(Control {
                    of,
                    pod,
                    port,
                    after,
                    probe,
                }),
                Task::Look { from, of, port, asked } => seen.looks.push(Look {
                    from,
                    asked,
                    of,
                    port,
                    probe,
                }),
            }
        }
    }

    /// A handshake without a certificate from every caller that reaches a port that speaks TLS.
    fn strangers(&self, seen: &Seen) -> Vec<(&Observer, Task, ProbeKind)> {
        let spoke = |look: &Look| look.probe.tls.as_ref().is_some_and(|tls| !tls.certificates.is_empty());
        let mut tasks = Vec::new();
        for look in seen.looks.iter().filter(|look| spoke(look)) {
            let Some(to) = self.inventory.workloads.iter().find(|one| one.name == look.of) else {
                continue;
            };
            let Some(port) = to.ports.iter().find(|port| port.port == look.port) else {
                continue;
            };
            let mut callers = BTreeSet::new();
            let open = seen.attempts.iter().filter(|one| {
                one.to == look.of && one.port == look.port && one.pod.is_some() && one.probe.outcome.reached()
            });
            for attempt in open.filter(|attempt| callers.insert(attempt.from.clone())) {
                let observer = self.observer(&attempt.probe.namespace, &attempt.probe.pod);
                let address = chosen(to).find(|(pod, _)| attempt.pod.as_deref() == Some(pod));
                if let (Some(observer), Some((_, ip))) = (observer, address) {
                    let task = Task::Look {
                        from: attempt.from.clone(),
                        of: look.of.clone(),
                        port: look.port,
                        asked: look.asked,
                    };
                    tasks.push((observer, task, question(look.asked, to, port, ip)));
                }
            }
        }
        tasks
    }

    /// A connection from each pod to each other workload's ports: to the pods' own addresses, and the Service's.
    fn attempts(&self) -> Vec<(&Observer, Task, ProbeKind)> {
        let mut tasks = Vec::new();
        for from in &self.inventory.workloads {
            for (pod, _) in chosen(from) {
                let Some(observer) = self.observer(&from.name.namespace, pod) else {
                    continue;
                };
                let others = self.inventory.workloads.iter().filter(|to| to.name != from.name);
                for (to, port) in others.flat_map(|to| to.ports.iter().map(move |port| (to, port))) {
                    let task = |pod: Option<&str>| Task::Attempt {
                        from: from.name.clone(),
                        to: to.name.clone(),
                        port: port.port,
                        pod: pod.map(str::to_owned),
                    };
                    for (pod, ip) in chosen(to) {
                        tasks.push((observer, task(Some(pod)), tcp(ip, port.target)));
                    }
                    if let Some((_, Some(address))) = &port.service {
                        tasks.push((observer, task(None), tcp(address, port.port)));
                    }
                }
            }
        }
        tasks
    }

    fn controls(&self, after: bool) -> Vec<(&Observer, Task, ProbeKind)> {
        self.own(|workload, port, pod, ip| {
            let task = Task::Control {
                of: workload.name.clone(),
                pod: pod.to_owned(),
                port: port.port,
                after,
            };
            (task, tcp(ip, port.target))
        })
    }

    /// What the ports that are wanted answer to their own pods.
    fn looks(&self, asked: Asked, wanted: impl Fn(&Name, u16) -> bool) -> Vec<(&Observer, Task, ProbeKind)> {
        let mut known = BTreeSet::new();
        let mut looks = self.own(|workload, port, _, ip| {
            let task = Task::Look {
                from: workload.name.clone(),
                of: workload.name.clone(),
                port: port.port,
                asked,
            };
            (task, question(asked, workload, port, ip))
        });
        // Pods of one workload run the same program.
        looks.retain(|(_, task, _)| match task {
            Task::Look { of, port, .. } => wanted(of, *port) && known.insert((of.clone(), *port)),
            _ => true,
        });
        looks
    }

    /// A task for each port of each pod, in that pod.
    fn own(
        &self,
        task: impl Fn(&Workload, &Port, &str, &str) -> (Task, ProbeKind),
    ) -> Vec<(&Observer, Task, ProbeKind)> {
        let mut tasks = Vec::new();
        for workload in &self.inventory.workloads {
            for (pod, ip) in chosen(workload) {
                if let Some(observer) = self.observer(&workload.name.namespace, pod) {
                    tasks.extend(workload.ports.iter().map(|port| {
                        let (task, kind) = task(workload, port, pod, ip);
                        (observer, task, kind)
                    }));
                }
            }
        }
        tasks
    }
}

/// The pods of a workload that are looked from and at, with their addresses.
pub(super) fn chosen(workload: &Workload) -> impl Iterator<Item = (&str, &str)> {
    workload
        .pods
        .iter()
        .filter(|pod| pod.running)
        .filter_map(|pod| Some((pod.name.as_str(), pod.ip.as_deref()?)))
        .take(PODS)
}

fn address(ip: &str) -> std::net::IpAddr {
    // The API has no other addresses than these.
    ip.parse()
        .unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

/// The ports whose own answer to a question was this.
fn serving(seen: &Seen, so: impl Fn(&Look) -> bool) -> BTreeSet<(Name, u16)> {
    let looks = seen.looks.iter().filter(|look| so(look));
    looks.map(|look| (look.of.clone(), look.port)).collect()
}

/// What a port is asked to find out what it speaks.
pub(super) fn question(asked: Asked, of: &Workload, port: &Port, ip: &str) -> ProbeKind {
    match asked {
        Asked::Http => {
            let url = format!("http://{}/", SocketAddr::new(address(ip), port.target));
            ProbeKind::Http(HttpProbe::new("GET", url))
        }
        Asked::Tls | Asked::Postgres => ProbeKind::Tls(TlsProbe {
            host: ip.to_owned(),
            port: port.target,
            starttls: (asked == Asked::Postgres).then_some(StartTls::Postgres),
            tls: TlsOptions {
                // The name its callers would ask for.
                name: Some(
                    port.service
                        .as_ref()
                        .map_or(&of.name.name, |(service, _)| service)
                        .clone(),
                ),
                ..TlsOptions::default()
            },
        }),
    }
}

fn tcp(host: &str, port: u16) -> ProbeKind {
    ProbeKind::Tcp {
        host: host.to_owned(),
        port,
    }
}

async fn ask(observer: Observer, task: Task, kind: ProbeKind) -> (Task, ProbeResult) {
    let request = ProbeRequest {
        timeout: judge::PATIENCE,
        ..ProbeRequest::new(observer.namespace(), observer.pod(), kind)
    };
    (task, run(&observer, request).await)
}

/// A probe whose failure is a result like any other.
pub(super) async fn run(observer: &Observer, request: ProbeRequest) -> ProbeResult {
    let kept = request.clone();
    match probe::run_in(observer, request).await {
        Ok(result) => result,
        Err(error) => ProbeResult {
            target: kept.target(),
            id: kept.id,
            namespace: kept.namespace,
            pod: kept.pod,
            outcome: ProbeOutcome::NotRun {
                reason: error.to_string(),
            },
            resolved: Vec::new(),
            peer: None,
            local: None,
            tls: None,
            started_ns: now_ns(),
            took_us: 0,
        },
    }
}
