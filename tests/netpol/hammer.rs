//! A hammer of changes: policies, labels of pods and of namespaces, and pods come and go in an order that a seed chooses, while
//! everybody tries to reach everybody.
//!
//! The changes of a round are chosen before it begins, so it is known what each state on the way allows. What is denied in all of
//! them must not be let through once; what is allowed in all must never fail, new pods' first packets included; what is
//! allowed in some is free until the round is over. At its end, live connections that are denied have stopped.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant, SystemTime},
};

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use kube::api::LogParams;
use serde_json::{Value, json};

use crate::{
    evaluator::Objects,
    lab::{IMAGE, LIMIT, Lab, PORTS},
    model::{Chance, Change, Model, NAMESPACES, TRIED, WEB, fixed, place, verdicts, write},
    traffic::{Counts, Live, Manner, Place, Signal, add, attempts},
};

const SEEDS: [u64; 3] = [1, 22, 333];
const ROUNDS: usize = 4;
const CHANGES: usize = 12;
/// Addresses beyond the newest pod's that are knocked at: more than pods that come in a round.
const AHEAD: u32 = 8;
/// Over which connections live: client and server.
const LIVE: [(&str, &str, &str, &str); 5] = [
    ("x", "b", "x", "a"),
    ("y", "a", "x", "a"),
    ("x", "a", "y", "b"),
    ("z", "a", "y", "a"),
    ("y", "b", "y", "a"),
];

/// What was seen in all rounds: a hammer that hits nothing proves nothing.
#[derive(Debug, Default)]
struct Seen {
    knocks: u64,
    calls: u64,
    newcomers: usize,
    newcomers_reached: usize,
    newcomers_calls: u64,
    newcomers_knocks: u64,
    survived: usize,
    cut: usize,
}

struct Hammer {
    lab: Lab,
    chance: Chance,
    model: Model,
    addresses: BTreeMap<Place, Ipv4Addr>,
    /// Pods that came in earlier rounds, and may go.
    old: Vec<Place>,
    live: BTreeMap<usize, Live>,
    seen: Seen,
}

fn target(ip: Ipv4Addr, (protocol, port): (&str, u16)) -> String {
    format!("{}://{ip}:{port}", protocol.to_lowercase())
}

fn container(number: usize, (protocol, port): (&str, u16)) -> Value {
    let lower = protocol.to_lowercase();
    // programs are run in the first container, which is called the same in all pods
    let name = if number == 0 {
        "c".to_owned()
    } else {
        format!("c-{port}-{lower}")
    };
    json!({"name": name, "image": IMAGE,
        "command": ["/agnhost", "serve-hostname", format!("--{lower}"), "--http=false", "--port", port.to_string()],
        "ports": [{"name": format!("serve-{port}-{lower}"), "containerPort": port, "protocol": protocol}]})
}

impl Hammer {
    async fn new(seed: u64, seen: Seen) -> Option<Self> {
        let lab = Lab::empty(None).await?;
        for namespace in NAMESPACES {
            lab.namespace(namespace).await;
            lab.label_namespace(namespace, json!({"team": "none"})).await;
        }
        lab.namespace("mark").await;
        lab.idle("mark", "client").await;
        lab.serve("mark", "server").await;
        for (namespace, name) in fixed() {
            let mut containers: Vec<Value> = PORTS
                .into_iter()
                .enumerate()
                .map(|(n, port)| container(n, port))
                .collect();
            containers.push(json!({"name": "web", "image": IMAGE, "command": ["/agnhost", "netexec"]}));
            let spec = json!({"terminationGracePeriodSeconds": 0, "containers": containers});
            lab.pod(&namespace, &name, json!({"pod": name, "role": "none"}), spec)
                .await;
        }
        let model = Model::new();
        for policy in model.policies() {
            write(&lab, &policy).await;
        }
        let mut addresses = BTreeMap::new();
        for pod in fixed()
            .into_iter()
            .chain([place("mark", "server"), place("mark", "client")])
        {
            let ip = lab.ready(&pod.0, &pod.1).await.parse().unwrap();
            addresses.insert(pod, ip);
        }
        Some(Self {
            lab,
            chance: Chance::new(seed),
            model,
            addresses,
            old: Vec::new(),
            live: BTreeMap::new(),
            seen,
        })
    }

    /// The targets at the fixed pods that are `verdict` for `from` in all states.
    fn always(&self, states: &[Objects], from: &Place, verdict: bool) -> Vec<String> {
        let mut targets = Vec::new();
        for to in fixed().iter().filter(|to| *to != from) {
            for port in TRIED {
                let all = verdicts(states, from, to, port);
                if all.iter().all(|one| *one == verdict) {
                    targets.push(target(self.addresses[to], port));
                }
            }
        }
        targets
    }

    /// Connects those that are allowed and have no connection.
    async fn connect(&mut self) {
        let now = [self.model.objects()];
        for (number, (from, client, to, server)) in LIVE.into_iter().enumerate() {
            let (client, server) = (place(from, client), place(to, server));
            if self.live.get(&number).is_none_or(Live::ended) && verdicts(&now, &client, &server, ("TCP", WEB))[0] {
                let live = Live::open(&self.lab, &client, &self.addresses[&server].to_string()).await;
                self.live.insert(number, live);
            }
        }
    }

    async fn round(&mut self, number: usize) {
        self.connect().await;
        let mut changes = Vec::new();
        let mut models = vec![self.model.clone()];
        for _ in 0..CHANGES {
            let mut model = models[models.len() - 1].clone();
            let change = self.chance.change(&model, &self.old);
            model.make(&change);
            changes.push((change, self.chance.pause()));
            models.push(model);
        }
        let states: Vec<Objects> = models.iter().map(Model::objects).collect();
        let before: BTreeMap<usize, usize> = self.live.iter().map(|(n, live)| (*n, live.answers())).collect();
        let newest = u32::from(*self.addresses.values().max().unwrap());
        let ahead: Vec<Ipv4Addr> = (newest + 1..=newest + AHEAD).map(Ipv4Addr::from).collect();
        let (heard, calls) = self.under_fire(&states, &changes, &ahead).await;
        self.model = models.pop().unwrap();
        self.settle(number).await;
        self.judge_the_fixed(&states, &heard, &calls);
        self.judge_newcomers(&states, &changes, &heard).await;
        self.judge_the_living(&states, &before).await;
    }

    /// Makes the changes while everybody knocks where it is closed and at addresses to come, and calls where it is open.
    async fn under_fire(
        &self,
        states: &[Objects],
        changes: &[(Change, u64)],
        ahead: &[Ipv4Addr],
    ) -> (Vec<Counts>, Vec<Counts>) {
        let signal = Signal::default();
        let clients = fixed();
        let knock: Vec<Vec<String>> = clients
            .iter()
            .map(|from| {
                let coming = ahead.iter().map(|ip| target(*ip, ("TCP", 80)));
                self.always(states, from, false).into_iter().chain(coming).collect()
            })
            .collect();
        let call: Vec<Vec<String>> = clients.iter().map(|from| self.always(states, from, true)).collect();
        let callers = call.iter().filter(|targets| !targets.is_empty()).count();
        let knocking = clients
            .iter()
            .zip(&knock)
            .map(|(from, targets)| attempts(&self.lab, from, Manner::Knock, targets, &signal));
        let calling = clients
            .iter()
            .zip(&call)
            .map(async |(from, targets)| match targets.is_empty() {
                true => Counts::new(),
                false => attempts(&self.lab, from, Manner::Call, targets, &signal).await,
            });
        let (knocking, calling) = (futures::future::join_all(knocking), futures::future::join_all(calling));
        let changing = async {
            signal.begun(clients.len() + callers).await;
            for (place, (change, pause)) in changes.iter().enumerate() {
                match change {
                    Change::Create(pod, role) => self.create(pod, role, &states[place + 1..]).await,
                    other => write(&self.lab, other).await,
                }
                tokio::time::sleep(Duration::from_millis(*pause)).await;
            }
            for (change, _) in changes {
                if let Change::Create(pod, _) = change {
                    self.serves(pod).await;
                }
            }
            signal.over();
        };
        let (knocked, called, ()) = tokio::join!(knocking, calling, changing);
        (knocked, called)
    }

    /// A pod that serves at one port, and whose first act is to knock and to call.
    async fn create(&self, pod: &Place, role: &str, states: &[Objects]) {
        let acts = [(Manner::Knock, "knock", false), (Manner::Call, "call", true)]
            .into_iter()
            .filter_map(|(manner, name, verdict)| {
                let targets = self.always(states, pod, verdict);
                let mut command = vec!["reach".to_owned(), "--for".to_owned(), "300".to_owned()];
                command.extend(manner.flags().map(str::to_owned));
                command.extend(targets.iter().cloned());
                (!targets.is_empty()).then(|| json!({"name": name, "image": IMAGE, "command": command}))
            });
        // the act comes first: its packets are the first of the pod
        let mut containers: Vec<Value> = acts.collect();
        containers.push(container(0, ("TCP", 80)));
        let first = containers.len() - 1;
        // ports that nobody serves have names too: the evaluator takes all pods to be alike
        let more = PORTS[1..].iter().map(|(protocol, port)| json!({"name": format!("serve-{port}-{}", protocol.to_lowercase()), "containerPort": port, "protocol": protocol}));
        containers[first]["ports"].as_array_mut().unwrap().extend(more);
        let spec = json!({"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "containers": containers});
        self.lab
            .pod(&pod.0, &pod.1, json!({"pod": pod.1, "role": role}), spec)
            .await;
    }

    /// Waits until the last change holds: a further one, made after it, does.
    async fn settle(&self, round: usize) {
        let server = target(self.addresses[&place("mark", "server")], ("TCP", 80));
        let (spec, said) = match round % 2 {
            0 => ("{podSelector: {}, policyTypes: [Ingress]}", "timeout"),
            _ => ("{podSelector: {}, ingress: [{}]}", "open"),
        };
        self.lab.policy("mark", &format!("mark {spec}")).await;
        self.lab.becomes(("mark", "client"), &server, said).await;
    }

    fn judge_the_fixed(&mut self, states: &[Objects], knocked: &[Counts], called: &[Counts]) {
        for (from, (knocked, called)) in fixed().iter().zip(knocked.iter().zip(called)) {
            for denied in self.always(states, from, false) {
                let words = &knocked[&denied];
                assert_eq!(
                    words.get("open"),
                    None,
                    "{from:?} reached {denied}: {words:?}\n{}",
                    self.lab.log()
                );
                self.seen.knocks += words.values().sum::<u64>();
            }
            for (allowed, words) in called {
                let open = words.get("open").copied().unwrap_or_default();
                assert_eq!(
                    words.values().sum::<u64>(),
                    open,
                    "{from:?} failed to reach {allowed}: {words:?}\n{}",
                    self.lab.log()
                );
                self.seen.calls += open;
            }
        }
    }

    async fn judge_newcomers(&mut self, states: &[Objects], changes: &[(Change, u64)], knocked: &[Counts]) {
        for (at, (change, _)) in changes.iter().enumerate() {
            let Change::Create(pod, _) = change else { continue };
            self.seen.newcomers += 1;
            let states = &states[at + 1..];
            let ip = self.serves(pod).await;
            self.addresses.insert(pod.clone(), ip);
            self.old.push(pod.clone());
            for (from, counts) in fixed().iter().zip(knocked) {
                let words = counts
                    .get(&target(ip, ("TCP", 80)))
                    .unwrap_or_else(|| panic!("nobody knocked at {ip}"));
                let verdicts = verdicts(states, from, pod, ("TCP", 80));
                if verdicts.iter().all(|allowed| !allowed) {
                    assert_eq!(words.get("open"), None, "{from:?} reached the new {pod:?}: {words:?}");
                }
                self.seen.newcomers_reached += usize::from(words.contains_key("open"));
            }
            for (container, verdict) in [("knock", false), ("call", true)] {
                if self.always(states, pod, verdict).is_empty() {
                    continue;
                }
                let said = self.last_words(pod, container).await;
                let mut counts = Counts::new();
                add(&mut counts, &said);
                for (target, words) in counts {
                    let open = words.get("open").copied().unwrap_or_default();
                    if verdict {
                        assert_eq!(
                            words.values().sum::<u64>(),
                            open,
                            "the new {pod:?} failed to reach {target}: {words:?}"
                        );
                        self.seen.newcomers_calls += open;
                    } else {
                        assert_eq!(open, 0, "the new {pod:?} reached {target}: {words:?}");
                        self.seen.newcomers_knocks += words.values().sum::<u64>();
                    }
                }
            }
        }
    }

    /// Waits until a pod's server is ready; gives the pod's address. Its other containers may have ended.
    async fn serves(&self, pod: &Place) -> Ipv4Addr {
        let status = self.container(pod, "c", |status| status.ready).await;
        status.pod_ip.unwrap().parse().unwrap()
    }

    /// What a container said until it ended.
    async fn last_words(&self, pod: &Place, container: &str) -> String {
        let ended = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.terminated.is_some());
        self.container(pod, container, ended).await;
        let params = LogParams {
            container: Some(container.to_owned()),
            ..LogParams::default()
        };
        self.lab.pods(&pod.0).logs(&pod.1, &params).await.unwrap()
    }

    /// Waits until a container is as wanted.
    async fn container(&self, pod: &Place, name: &str, wanted: impl Fn(&ContainerStatus) -> bool) -> PodStatus {
        let end = Instant::now() + LIMIT;
        loop {
            let now = self
                .lab
                .pods(&pod.0)
                .get(&pod.1)
                .await
                .unwrap()
                .status
                .unwrap_or_default();
            if now
                .container_statuses
                .iter()
                .flatten()
                .any(|status| status.name == name && wanted(status))
            {
                return now;
            }
            assert!(Instant::now() < end, "{name} of {pod:?}: {now:?}\n{}", self.lab.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What was allowed all the time lives on; what is denied now has stopped.
    async fn judge_the_living(&mut self, states: &[Objects], before: &BTreeMap<usize, usize>) {
        let settled = SystemTime::now();
        let mut denied = Vec::new();
        for (number, live) in &self.live {
            let (from, client, to, server) = LIVE[*number];
            let verdicts = verdicts(states, &place(from, client), &place(to, server), ("TCP", WEB));
            if verdicts.iter().all(|allowed| *allowed) {
                live.more(before[number]).await;
                live.more(live.answers()).await;
                self.seen.survived += 1;
            } else if verdicts.last() == Some(&false) {
                denied.push((*number, live));
            }
        }
        // long enough for many answers, were they let through
        tokio::time::sleep(Duration::from_millis(400)).await;
        for (number, live) in denied {
            let after = live.answers_after(settled);
            assert!(after <= 1, "{:?}: {after} answers though it is denied", LIVE[number]);
            self.seen.cut += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_opens_a_gap_or_cuts_what_is_allowed() {
    let mut all = Seen::default();
    for seed in SEEDS {
        let Some(mut hammer) = Hammer::new(seed, all).await else {
            return;
        };
        for round in 0..ROUNDS {
            eprintln!("seed {seed}, round {round}");
            hammer.round(round).await;
        }
        all = hammer.seen;
        eprintln!("so far: {all:?}");
    }
    assert!(all.knocks > 1000 && all.calls > 1000, "{all:?}");
    assert!(all.newcomers > 5 && all.newcomers_reached > 0, "{all:?}");
    assert!(all.newcomers_calls > 0 && all.newcomers_knocks > 0, "{all:?}");
    assert!(all.survived > 0 && all.cut > 0, "{all:?}");
}
