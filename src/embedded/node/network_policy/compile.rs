//! Policies to rules.
//!
//! Source: the API reference of networking.k8s.io/v1 and the concept page "Network Policies" of the Kubernetes documentation.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
};

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule};

use super::{
    facts::{NamedPort, PodFacts, World},
    peers::{self, Peer},
    ports::{self, Ports},
    rules::{ITSELF, ITSELF_NOTE, Match, Protocol, Rule, RuleSet, Set, Verdict, digest},
};

/// The most of a policy's name that a chain's name shows.
const SHOWN: usize = 60;

/// Pods that no policy can tell apart.
struct Class<'a> {
    facts: &'a PodFacts,
    addresses: Vec<Ipv4Addr>,
}

struct Compiler<'a> {
    world: &'a World,
    classes: Vec<Class<'a>>,
    out: RuleSet,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// Compiles all policies for all pods.
pub fn compile(world: &World) -> RuleSet {
    let mut compiler = Compiler {
        world,
        classes: classes(world),
        out: RuleSet::default(),
    };
    let pods = world.pods.keys().copied().collect();
    compiler.out.sets.insert(ITSELF.to_owned(), Set::Itself(pods));
    compiler.out.notes.insert(ITSELF.to_owned(), ITSELF_NOTE.to_owned());
    let policies: Vec<_> = world
        .policies
        .iter()
        .filter_map(|policy| Policy::read(policy))
        .collect();
    let mut egress: HashMap<usize, Option<String>> = HashMap::new();
    let mut ingress: HashMap<(usize, &[NamedPort]), Option<String>> = HashMap::new();
    for index in 0..compiler.classes.len() {
        let facts = compiler.classes[index].facts;
        let (mut incoming, mut outgoing) = (Judges::default(), Judges::default());
        for (number, policy) in policies.iter().enumerate().filter(|(_, policy)| policy.selects(facts)) {
            if policy.judges(Direction::Ingress) {
                let chain = ingress
                    .entry((number, facts.ports.as_slice()))
                    .or_insert_with(|| compiler.ingress(policy, &facts.ports));
                incoming.add(chain.clone());
            }
            if policy.judges(Direction::Egress) {
                let chain = egress.entry(number).or_insert_with(|| compiler.egress(policy));
                outgoing.add(chain.clone());
            }
        }
        let incoming = compiler.verdict("pods-in", incoming);
        let outgoing = compiler.verdict("pods-out", outgoing);
        let RuleSet { ingress, egress, .. } = &mut compiler.out;
        for &address in &compiler.classes[index].addresses {
            ingress.insert(address, incoming.clone());
            egress.insert(address, outgoing.clone());
        }
    }
    compiler.out
}

fn classes(world: &World) -> Vec<Class<'_>> {
    let mut places: HashMap<&PodFacts, usize> = HashMap::new();
    let mut classes: Vec<Class<'_>> = Vec::new();
    for (&address, facts) in &world.pods {
        let place = *places.entry(facts.as_ref()).or_insert(classes.len());
        match classes.get_mut(place) {
            Some(class) => class.addresses.push(address),
            None => classes.push(Class {
                facts: facts.as_ref(),
                addresses: vec![address],
            }),
        }
    }
    classes
}

/// A policy whose selector could be read.
struct Policy<'a> {
    namespace: &'a str,
    name: &'a str,
    selector: Option<crate::control_plane::api::selector::LabelSelector>,
    ingress: &'a [NetworkPolicyIngressRule],
    egress: &'a [NetworkPolicyEgressRule],
    types: BTreeSet<&'a str>,
}

impl<'a> Policy<'a> {
    fn read(policy: &'a NetworkPolicy) -> Option<Self> {
        let spec = policy.spec.as_ref()?;
        let egress = spec.egress.as_deref().unwrap_or_default();
        let mut types: BTreeSet<&str> = spec.policy_types.iter().flatten().map(String::as_str).collect();
        if types.is_empty() {
            types.insert("Ingress");
            if !egress.is_empty() {
                types.insert("Egress");
            }
        }
        Some(Self {
            namespace: policy.metadata.namespace.as_deref().unwrap_or_default(),
            name: policy.metadata.name.as_deref().unwrap_or_default(),
            selector: match &spec.pod_selector {
                // a missing selector is an empty one: every pod
                None => None,
                Some(selector) => Some(peers::selector(selector)?),
            },
            ingress: spec.ingress.as_deref().unwrap_or_default(),
            egress,
            types,
        })
    }

    fn selects(&self, pod: &PodFacts) -> bool {
        let selected =
            |selector: &crate::control_plane::api::selector::LabelSelector| selector.matches_map(&pod.labels);
        pod.namespace == self.namespace && self.selector.as_ref().is_none_or(selected)
    }

    fn judges(&self, direction: Direction) -> bool {
        self.types.contains(match direction {
            Direction::Ingress => "Ingress",
            Direction::Egress => "Egress",
        })
    }

    /// The name of its chain that holds these rules.
    fn chain(&self, prefix: &str, rules: &[Rule]) -> String {
        let text: String = rules.iter().map(|rule| format!("{rule}\n")).collect();
        let shown: String = format!("{}/{}", self.namespace, self.name)
            .chars()
            .take(SHOWN)
            .collect();
        let name = format!("{}/{}", self.namespace, self.name);
        format!("{prefix}-{shown}-{}", digest(&format!("{name}\n{text}")))
    }
}

/// The policies that judge a pod in one direction.
#[derive(Default)]
struct Judges {
    isolated: bool,
    chains: BTreeSet<String>,
}

impl Judges {
    /// Counts a policy with the chain of what it allows, if it allows anything.
    fn add(&mut self, chain: Option<String>) {
        self.isolated = true;
        self.chains.extend(chain);
    }
}

impl Compiler<'_> {
    /// What becomes of packets that these judge.
    fn verdict(&mut self, prefix: &str, judges: Judges) -> Verdict {
        if !judges.isolated {
            return Verdict::Accept;
        }
        let chains: Vec<String> = judges.chains.into_iter().collect();
        match chains.as_slice() {
            [] => Verdict::Drop,
            [only] => Verdict::Goto(only.clone()),
            several => {
                let name = format!("{prefix}-{}", digest(&several.join("\n")));
                let jump = |chain: &String| Rule {
                    matches: Vec::new(),
                    verdict: Verdict::Jump(chain.clone()),
                };
                let rules = || several.iter().map(jump).collect();
                self.out.chains.entry(name.clone()).or_insert_with(rules);
                Verdict::Goto(name)
            }
        }
    }

    /// The chain of what `policy` lets into a pod with these ports.
    fn ingress(&mut self, policy: &Policy<'_>, pod: &[NamedPort]) -> Option<String> {
        let mut rules = Vec::new();
        for rule in policy.ingress {
            let ports = Ports::of(rule.ports.as_deref()).at(pod);
            for peer in Peer::all(rule.from.as_deref(), policy.namespace) {
                let from = self.peer(&peer, Direction::Ingress);
                rules.extend(from.and_then(|from| self.rule(from, ports.as_ref())));
            }
        }
        self.keep(policy, "in", rules)
    }

    /// The chain of what `policy` lets out.
    fn egress(&mut self, policy: &Policy<'_>) -> Option<String> {
        let mut rules = Vec::new();
        for rule in policy.egress {
            let ports = Ports::of(rule.ports.as_deref());
            let peers = Peer::all(rule.to.as_deref(), policy.namespace);
            let numbers = match &ports {
                Ports::All => None,
                Ports::Only { numbers, .. } => Some(numbers),
            };
            for peer in &peers {
                let to = self.peer(peer, Direction::Egress);
                rules.extend(to.and_then(|to| self.rule(to, numbers)));
            }
            rules.extend(self.endpoints(policy, rule, &peers, &ports));
        }
        self.keep(policy, "out", rules)
    }

    fn keep(&mut self, policy: &Policy<'_>, prefix: &str, rules: Vec<Rule>) -> Option<String> {
        if rules.is_empty() {
            return None;
        }
        let name = policy.chain(prefix, &rules);
        self.out.chains.insert(name.clone(), rules);
        Some(name)
    }

    /// The match for a peer's addresses: nothing to ask for everybody, `None` where nobody can be meant.
    fn peer(&mut self, peer: &Peer, direction: Direction) -> Option<Vec<Match>> {
        let name = match peer {
            Peer::Any => return Some(Vec::new()),
            Peer::Block(ranges) if ranges.is_empty() => return None,
            Peer::Block(ranges) => {
                let name = format!("ranges-{}", digest(&format!("{ranges:?}")));
                self.out.sets.insert(name.clone(), Set::Ranges(ranges.clone()));
                name
            }
            Peer::Pods(pods) => {
                let name = format!("pods-{}", digest(&pods.text));
                if !self.out.sets.contains_key(&name) {
                    let held = self.classes.iter().filter(|class| pods.hold(class.facts, self.world));
                    let addresses = held.flat_map(|class| class.addresses.iter().copied()).collect();
                    self.out.sets.insert(name.clone(), Set::Addresses(addresses));
                    self.out.notes.insert(name.clone(), pods.note.clone());
                }
                name
            }
        };
        Some(vec![match direction {
            Direction::Ingress => Match::Source(name),
            Direction::Egress => Match::Destination(name),
        }])
    }

    /// The rule that lets a peer have these ports; `None` where there are no ports to have.
    fn rule(&mut self, mut matches: Vec<Match>, ports: Option<&BTreeSet<(Protocol, u16, u16)>>) -> Option<Rule> {
        let verdict = match ports.map(ports::merged).as_deref() {
            None => Verdict::Accept,
            Some([]) => return None,
            Some(&[(protocol, range)]) => {
                matches.push(Match::Ports(protocol, range));
                Verdict::Accept
            }
            Some(several) => {
                let rules: Vec<Rule> = several
                    .iter()
                    .map(|&(protocol, range)| Rule {
                        matches: vec![Match::Ports(protocol, range)],
                        verdict: Verdict::Accept,
                    })
                    .collect();
                let text: Vec<String> = rules.iter().map(Rule::to_string).collect();
                let name = format!("ports-{}", digest(&text.join("\n")));
                self.out.chains.entry(name.clone()).or_insert(rules);
                Verdict::Jump(name)
            }
        };
        Some(Rule { matches, verdict })
    }

    /// The rule for ports that depend on who the destination is: those given by name, and those of what runs on the node.
    fn endpoints(
        &mut self,
        policy: &Policy<'_>,
        rule: &NetworkPolicyEgressRule,
        peers: &[Peer],
        ports: &Ports,
    ) -> Option<Rule> {
        let mut endpoints = BTreeSet::new();
        if ports.any_named() {
            for class in &self.classes {
                let named: Vec<&NamedPort> = class.facts.ports.iter().filter(|port| ports.name(port)).collect();
                if named.is_empty() {
                    continue;
                }
                for &address in &class.addresses {
                    if peers.iter().any(|peer| self.means(peer, class.facts, address)) {
                        endpoints.extend(named.iter().map(|port| (address, port.protocol, port.number)));
                    }
                }
            }
        }
        for service in &self.world.node_services {
            let (pod, address) = (&service.pod, service.address);
            let selected = peers
                .iter()
                .any(|peer| matches!(peer, Peer::Pods(pods) if pods.hold(pod, self.world)));
            let meant = selected || peers.iter().any(|peer| self.means(peer, pod, address));
            let held = pod.ports.iter().filter(|port| {
                // by number, a block or everybody is judged by address alone
                if selected {
                    ports.hold(port)
                } else {
                    meant && ports.name(port)
                }
            });
            endpoints.extend(held.map(|port| (address, port.protocol, port.number)));
        }
        if endpoints.is_empty() && !ports.any_named() {
            return None;
        }
        let text = serde_json::to_string(rule).ok()?;
        let name = format!("endpoints-{}", digest(&format!("{}\n{text}", policy.namespace)));
        self.out.sets.insert(name.clone(), Set::Endpoints(endpoints));
        let note = match ports.names().as_slice() {
            [] => "what of its peers runs on the node".to_owned(),
            names => format!("its peers at their ports {}", names.join(", ")),
        };
        self.out.notes.insert(name.clone(), note);
        Some(Rule {
            matches: vec![Match::Endpoint(name)],
            verdict: Verdict::Accept,
        })
    }

    fn means(&self, peer: &Peer, pod: &PodFacts, address: Ipv4Addr) -> bool {
        match peer {
            Peer::Any => true,
            Peer::Pods(pods) => pods.hold(pod, self.world),
            Peer::Block(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&address)),
        }
    }
}
