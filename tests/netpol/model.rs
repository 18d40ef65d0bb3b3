//! A small cluster as its writer knows it, and changes to it chosen by a seed. What each state of it allows is for the
//! evaluator to say.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::{
    evaluator::{End, Objects},
    lab::{Lab, PORTS},
    traffic::Place,
};

pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
/// Where policies are, and pods come and go.
const CHANGING: [&str; 2] = ["x", "y"];
const COLOURS: [&str; 3] = ["red", "blue", "none"];
/// The port of the web server, which has no name.
pub const WEB: u16 = 8080;
/// What is tried of every pod.
pub const TRIED: [(&str, u16); 3] = [("TCP", 80), ("UDP", 80), ("UDP", 81)];

/// What a policy may be: about colours of pods (`role`) and of namespaces (`team`), names of pods, ports.
const SPECS: &[&str] = &[
    "{podSelector: {}, policyTypes: [Ingress]}",
    "{podSelector: {matchLabels: {role: red}}, policyTypes: [Ingress, Egress]}",
    "{podSelector: {matchLabels: {role: blue}}, policyTypes: [Egress]}",
    "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress]}",
    "{podSelector: {}, ingress: [{}]}",
    "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {role: red}}}]}]}",
    "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}]}]}",
    "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {role: blue}}}]}]}",
    "{podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}, {podSelector: {}}]}]}",
    "{podSelector: {}, ingress: [{ports: [{port: 80}, {port: serve-80-udp, protocol: UDP}]}]}",
    "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 81, endPort: 9000, protocol: UDP}, {port: 8080}]}]}",
    "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: red}}}]}]}",
    "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}, {to: [{namespaceSelector: {}, podSelector: {matchLabels: {role: red}}}]}]}",
    "{podSelector: {matchLabels: {role: red}}, policyTypes: [Egress], egress: [{ports: [{port: serve-80-tcp}, {port: 80, protocol: UDP}]}]}",
    "{podSelector: {matchExpressions: [{key: role, operator: NotIn, values: [red]}]}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}",
];

/// One write to the API.
#[derive(Debug, Clone)]
pub enum Change {
    Policy(&'static str, String, &'static str),
    DeletePolicy(&'static str, String),
    Role(Place, &'static str),
    Team(&'static str, &'static str),
    Create(Place, &'static str),
    Delete(Place),
}

/// What the API holds.
#[derive(Debug, Clone, Default)]
pub struct Model {
    teams: BTreeMap<&'static str, &'static str>,
    /// Pods and their roles.
    pub pods: BTreeMap<Place, &'static str>,
    policies: BTreeMap<(&'static str, String), &'static str>,
}

pub fn place(namespace: &str, name: &str) -> Place {
    (namespace.to_owned(), name.to_owned())
}

/// The pods that are always there.
pub fn fixed() -> Vec<Place> {
    let all = [("x", "a"), ("x", "b"), ("y", "a"), ("y", "b"), ("z", "a")];
    all.map(|(namespace, name)| place(namespace, name)).to_vec()
}

impl Model {
    /// The state before the first change: x is closed for good, y for now.
    pub fn new() -> Self {
        let mut model = Self {
            teams: NAMESPACES.map(|namespace| (namespace, "none")).into(),
            pods: fixed().into_iter().map(|pod| (pod, "none")).collect(),
            policies: BTreeMap::new(),
        };
        model.make(&Change::Policy("x", "base".to_owned(), SPECS[0]));
        model.make(&Change::Policy("y", "p0".to_owned(), SPECS[0]));
        model.make(&Change::Policy("y", "p1".to_owned(), SPECS[1]));
        model
    }

    /// Its policies, as changes that make them.
    pub fn policies(&self) -> impl Iterator<Item = Change> {
        let policies = self.policies.iter();
        policies.map(|((namespace, name), spec)| Change::Policy(namespace, name.clone(), spec))
    }

    pub fn make(&mut self, change: &Change) {
        match change.clone() {
            Change::Policy(namespace, name, spec) => {
                self.policies.insert((namespace, name), spec);
            }
            Change::DeletePolicy(namespace, name) => {
                self.policies.remove(&(namespace, name));
            }
            Change::Role(pod, role) | Change::Create(pod, role) => {
                self.pods.insert(pod, role);
            }
            Change::Team(namespace, team) => {
                self.teams.insert(namespace, team);
            }
            Change::Delete(pod) => {
                self.pods.remove(&pod);
            }
        }
    }

    /// As the evaluator reads it. No policy here tells one pod's address from another's.
    pub fn objects(&self) -> Objects {
        let namespaces = self.teams.iter().map(|(name, team)| {
            let labels = json!({"kubernetes.io/metadata.name": name, "team": team});
            serde_json::from_value::<Namespace>(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
        });
        let pods = self.pods.iter().map(|((namespace, name), role)| {
            let ports = PORTS.map(|(protocol, port)| {
                json!({"name": format!("serve-{port}-{}", protocol.to_lowercase()), "containerPort": port, "protocol": protocol})
            });
            let labels = json!({"pod": name, "role": role});
            let pod = json!({"metadata": {"namespace": namespace, "name": name, "labels": labels},
                "spec": {"containers": [{"name": "c", "ports": ports}]}, "status": {"podIP": "10.0.0.1"}});
            serde_json::from_value::<Pod>(pod).unwrap()
        });
        let policies = self.policies.iter().map(|((namespace, name), spec)| {
            let spec: Value = serde_yaml::from_str(spec).unwrap();
            let policy = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
            serde_json::from_value::<NetworkPolicy>(policy).unwrap()
        });
        Objects {
            namespaces: namespaces.collect(),
            pods: pods.collect(),
            policies: policies.collect(),
        }
    }
}

/// Whether a connection may be, in each of some states in which both its ends are there.
pub fn verdicts(states: &[Objects], from: &Place, to: &Place, (protocol, port): (&str, u16)) -> Vec<bool> {
    let find = |objects: &Objects, place: &Place| {
        let is = |pod: &&Pod| {
            let meta = &pod.metadata;
            meta.namespace.as_deref() == Some(&place.0) && meta.name.as_deref() == Some(&place.1)
        };
        objects.pods.iter().find(is).cloned()
    };
    let judged = states.iter().filter_map(|objects| {
        let (from, to) = (find(objects, from)?, find(objects, to)?);
        Some(objects.allows(End::Pod(&from), End::Pod(&to), protocol, port))
    });
    judged.collect()
}

/// Chooses changes: the same for the same seed.
pub struct Chance {
    rng: StdRng,
    born: u32,
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            born: 0,
        }
    }

    /// A change that `model` can be made to undergo; `old` are pods that may go.
    pub fn change(&mut self, model: &Model, old: &[Place]) -> Change {
        let rng = &mut self.rng;
        let namespace = *CHANGING.choose(rng).unwrap();
        let gone = old.iter().find(|pod| model.pods.contains_key(*pod));
        match rng.random_range(0..12) {
            0..4 => {
                let name = format!("p{}", rng.random_range(0..2));
                Change::Policy(namespace, name, SPECS.choose(rng).unwrap())
            }
            4..6 => match model
                .policies
                .keys()
                .filter(|(_, name)| name != "base")
                .collect::<Vec<_>>()
                .choose(rng)
            {
                Some((namespace, name)) => Change::DeletePolicy(namespace, name.clone()),
                None => Change::Team(namespace, COLOURS.choose(rng).unwrap()),
            },
            6..8 => Change::Role(fixed().choose(rng).unwrap().clone(), COLOURS.choose(rng).unwrap()),
            8..10 => Change::Team(NAMESPACES.choose(rng).unwrap(), COLOURS.choose(rng).unwrap()),
            10 if gone.is_some() => Change::Delete(gone.unwrap().clone()),
            _ => {
                self.born += 1;
                let pod = place(namespace, &format!("n{}", self.born));
                Change::Create(pod, COLOURS.choose(rng).unwrap())
            }
        }
    }

    /// Milliseconds until the next change; often none.
    pub fn pause(&mut self) -> u64 {
        match self.rng.random_range(0..3) {
            0 => self.rng.random_range(0..60),
            _ => 0,
        }
    }
}

/// Makes a change in a cluster. A new pod is left to the caller.
pub async fn write(lab: &Lab, change: &Change) {
    match change {
        Change::Policy(namespace, name, spec) => lab.policy(name, &format!("{namespace} {spec}")).await,
        Change::DeletePolicy(namespace, name) => lab.delete_policy(namespace, name).await,
        Change::Role(pod, role) => lab.label_pod(&pod.0, &pod.1, json!({"role": role})).await,
        Change::Team(namespace, team) => lab.label_namespace(namespace, json!({"team": team})).await,
        Change::Delete(pod) => lab.delete_pod(&pod.0, &pod.1).await,
        Change::Create(..) => {}
    }
}
