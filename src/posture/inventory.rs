//! Who is there: workloads, their ports, and the calls the application declares, from the cluster's objects. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        core::v1::{Container, Pod, PodSpec, PodTemplateSpec, Probe, Service},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::ResourceExt;

use super::model::{DeclaredBy, Missing, Name, Purpose};

/// Who calls, whom, on which port.
type Call = (Name, Name, u16);

/// The annotation of a Service that says who may call it: names of workloads, separated by commas.
pub const CALLERS: &str = "ztlab.dev/callers";

/// A call that the application declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// Who calls: a workload's name, or `namespace/name`.
    pub from: String,
    /// Whom: a workload's or a Service's name, or `namespace/name`.
    pub to: String,
    /// At which port of the Service; every one of its Services' without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// With which path. What is measured is the connection, so this tells a reader only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// With which method, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

impl Edge {
    fn describe(&self) -> String {
        match self.port {
            Some(port) => format!("{} → {}:{port}", self.from, self.to),
            None => format!("{} → {}", self.from, self.to),
        }
    }
}

impl From<&crate::lab::Edge> for Edge {
    fn from(edge: &crate::lab::Edge) -> Self {
        Self {
            from: edge.from.to_string(),
            to: edge.to.to_string(),
            port: Some(edge.port),
            path: edge.path.clone(),
            method: edge.method.clone(),
        }
    }
}

/// What the cluster's API says.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Deployments.
    pub deployments: Vec<Deployment>,
    /// StatefulSets.
    pub stateful_sets: Vec<StatefulSet>,
    /// DaemonSets.
    pub daemon_sets: Vec<DaemonSet>,
    /// Pods.
    pub pods: Vec<Pod>,
    /// Services.
    pub services: Vec<Service>,
}

/// A pod that can be looked from and at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: Option<String>,
    /// Whether it is running.
    pub running: bool,
}

/// A TCP port of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// What a caller dials.
    pub port: u16,
    /// The container's port.
    pub target: u16,
    /// The Service that leads there, and its cluster address.
    pub service: Option<(String, Option<String>)>,
    /// What it is for.
    pub purpose: Purpose,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub name: Name,
    /// Its kind.
    pub kind: String,
    /// Its pods, by name.
    pub pods: Vec<Place>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// The first container of its pods, whose log is the application's.
    pub container: Option<String>,
    /// The `app` labels of its pods.
    apps: BTreeSet<String>,
}

impl Workload {
    /// One without pods or ports.
    pub(super) fn new(name: Name, kind: &str) -> Self {
        Self {
            name,
            kind: kind.to_owned(),
            pods: Vec::new(),
            ports: Vec::new(),
            container: None,
            apps: BTreeSet::new(),
        }
    }

    /// Takes in the ports and labels of its pods.
    fn take(&mut self, labels: &BTreeMap<String, String>, spec: &PodSpec, services: &[Service]) {
        self.apps.extend(labels.get("app").cloned());
        if self.container.is_none() {
            self.container = spec.containers.first().map(|container| container.name.clone());
        }
        for port in ports(&self.name.namespace, labels, spec, services) {
            if !self.ports.iter().any(|known| known.port == port.port) {
                self.ports.push(port);
            }
        }
    }
}

/// Everything that is needed to plan a measurement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The workloads, by name.
    pub workloads: Vec<Workload>,
    /// Declared calls: caller, callee, port.
    pub declared: BTreeSet<(Name, Name, u16)>,
    /// Declared calls that name what is not there.
    pub missing: Vec<Missing>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Reads the objects of some namespaces. With `edges`, those are the declared calls, else what the Services say.
pub fn inventory(objects: &Objects, edges: Option<&[Edge]>) -> (Inventory, DeclaredBy) {
    let mut notes = Vec::new();
    let workloads = workloads(objects, &mut notes);
    let (edges, by) = match edges {
        Some(edges) => (edges.to_vec(), DeclaredBy::Given),
        None => annotated(&objects.services, &mut notes),
    };
    let mut inventory = Inventory {
        workloads,
        notes,
        ..Inventory::default()
    };
    for edge in &edges {
        match inventory.resolve(edge) {
            Ok((found, moved)) => {
                inventory.declared.extend(found);
                inventory.notes.extend(moved);
            }
            Err(because) => inventory.missing.push(Missing {
                edge: edge.describe(),
                because,
            }),
        }
    }
    (inventory, by)
}

impl Inventory {
    /// The workload that a name means. Names come first: a label can be put on by anybody who may make pods.
    fn find(&self, text: &str, near: Option<&str>) -> Option<&Workload> {
        let named = |workload: &&Workload| workload.name.is(text);
        let close = |workload: &&Workload| near.is_none_or(|near| workload.name.namespace == near);
        let all = || self.workloads.iter();
        let labelled = |workload: &&Workload| workload.apps.contains(text);
        all()
            .filter(named)
            .find(close)
            .or_else(|| all().find(named))
            .or_else(|| all().filter(labelled).find(close))
    }

    /// The calls that an edge means, and what a reader should know about how it was understood.
    fn resolve(&self, edge: &Edge) -> Result<(Vec<Call>, Option<String>), String> {
        let service = |workload: &&Workload| {
            let leads = |port: &Port| port.service.as_ref().is_some_and(|(name, _)| *name == edge.to);
            workload.ports.iter().any(leads)
        };
        let to = self
            .find(&edge.to, None)
            .or_else(|| self.workloads.iter().find(service))
            .ok_or_else(|| format!("there is no workload `{}`", edge.to))?;
        let from = self
            .find(&edge.from, Some(&to.name.namespace))
            .ok_or_else(|| format!("there is no workload `{}`", edge.from))?;
        let call = |port: &Port| (from.name.clone(), to.name.clone(), port.port);
        let served = to.ports.iter().filter(|port| port.service.is_some());
        if let Some(wanted) = edge.port {
            let is = |port: &&Port| port.port == wanted || (port.service.is_none() && port.target == wanted);
            let found: Vec<_> = to.ports.iter().filter(is).map(call).collect();
            if !found.is_empty() {
                return Ok((found, None));
            }
        }
        let found: Vec<_> = served.map(call).collect();
        if found.is_empty() {
            return Err(format!("no Service leads to `{}`", edge.to));
        }
        // A port changes with the layer: 80 becomes 443 where TLS comes in.
        let moved = edge.port.map(|wanted| {
            let ports: Vec<String> = found.iter().map(|(_, _, port)| port.to_string()).collect();
            format!(
                "{} is declared, and no Service leads to port {wanted}: port {} is taken for it",
                edge.describe(),
                ports.join(", ")
            )
        });
        Ok((found, moved))
    }
}

/// The calls that Services declare themselves.
fn annotated(services: &[Service], notes: &mut Vec<String>) -> (Vec<Edge>, DeclaredBy) {
    let mut edges = Vec::new();
    let mut silent = Vec::new();
    for service in services {
        let namespace = service.namespace().unwrap_or_default();
        let name = service.name_any();
        let Some(callers) = service.annotations().get(CALLERS) else {
            silent.push(name);
            continue;
        };
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        for caller in callers.split(',').map(str::trim).filter(|caller| !caller.is_empty()) {
            let from = if caller.contains('/') {
                caller.to_owned()
            } else {
                format!("{namespace}/{caller}")
            };
            edges.extend(ports.clone().map(|port| Edge {
                from: from.clone(),
                to: format!("{namespace}/{name}"),
                port: u16::try_from(port.port).ok(),
                ..Edge::default()
            }));
        }
    }
    if silent.len() == services.len() {
        return (Vec::new(), DeclaredBy::Nobody);
    }
    if !silent.is_empty() {
        notes.push(format!(
            "no `{CALLERS}` on the Services {}: nobody is taken to call them",
            silent.join(", ")
        ));
    }
    (edges, DeclaredBy::Annotations)
}

fn workloads(objects: &Objects, notes: &mut Vec<String>) -> Vec<Workload> {
    let mut found: BTreeMap<Name, Workload> = BTreeMap::new();
    let mut pods: Vec<&Pod> = objects.pods.iter().filter(|pod| lives(pod)).collect();
    pods.sort_by_key(|pod| (pod.namespace(), pod.name_any()));
    let mut hosted = Vec::new();
    for pod in pods {
        let Some(spec) = &pod.spec else { continue };
        if spec.host_network == Some(true) {
            hosted.push(pod.name_any());
            continue;
        }
        let (name, kind) = owner(pod);
        let name = Name::new(pod.namespace().unwrap_or_default(), name);
        let workload = found.entry(name.clone()).or_insert_with(|| Workload::new(name, &kind));
        let status = pod.status.as_ref();
        workload.pods.push(Place {
            name: pod.name_any(),
            ip: status
                .and_then(|status| status.pod_ip.clone())
                .filter(|ip| !ip.is_empty()),
            running: status.and_then(|status| status.phase.as_deref()) == Some("Running"),
        });
        workload.take(pod.labels(), spec, &objects.services);
    }
    for (meta, kind, template) in templates(objects) {
        let name = Name::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        );
        let workload = found.entry(name.clone()).or_insert_with(|| Workload::new(name, kind));
        // Without a pod it would have no ports, and nobody would ask what became of it.
        if let (true, Some(template)) = (workload.pods.is_empty(), template)
            && let Some(spec) = template.spec.as_ref().filter(|spec| spec.host_network != Some(true))
        {
            let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone());
            workload.take(&labels.unwrap_or_default(), spec, &objects.services);
        }
    }
    if !hosted.is_empty() {
        notes.push(format!(
            "pods on their node's own network were left out: {}",
            hosted.join(", ")
        ));
    }
    let mut workloads: Vec<Workload> = found.into_values().collect();
    for workload in &mut workloads {
        workload
            .ports
            .sort_by_key(|port| (port.purpose == Purpose::Health, port.port));
    }
    workloads
}

/// What makes pods, and what of.
fn templates(objects: &Objects) -> Vec<(&ObjectMeta, &'static str, Option<&PodTemplateSpec>)> {
    let deployments = objects.deployments.iter().map(|one| {
        let template = one.spec.as_ref().map(|spec| &spec.template);
        (&one.metadata, "Deployment", template)
    });
    let stateful_sets = objects.stateful_sets.iter().map(|one| {
        let template = one.spec.as_ref().map(|spec| &spec.template);
        (&one.metadata, "StatefulSet", template)
    });
    let daemon_sets = objects.daemon_sets.iter().map(|one| {
        let template = one.spec.as_ref().map(|spec| &spec.template);
        (&one.metadata, "DaemonSet", template)
    });
    deployments.chain(stateful_sets).chain(daemon_sets).collect()
}

/// Whether a pod is there, and not on its way out.
fn lives(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The workload a pod belongs to, and its kind: its controller, seen through the ReplicaSet of a Deployment.
fn owner(pod: &Pod) -> (String, String) {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let Some(owner) = owners.find(|owner| owner.controller == Some(true)) else {
        return (pod.name_any(), "Pod".to_owned());
    };
    let hash = pod.labels().get("pod-template-hash").map(|hash| format!("-{hash}"));
    match hash.and_then(|hash| owner.name.strip_suffix(&hash)) {
        Some(name) if owner.kind == "ReplicaSet" => (name.to_owned(), "Deployment".to_owned()),
        _ => (owner.name.clone(), owner.kind.clone()),
    }
}

/// The ports of a pod: those that Services lead to, those that its containers name, those that the kubelet probes.
fn ports(namespace: &str, labels: &BTreeMap<String, String>, spec: &PodSpec, services: &[Service]) -> Vec<Port> {
    let containers: Vec<&Container> = spec.containers.iter().collect();
    let number = |name: &IntOrString| match name {
        IntOrString::Int(port) => u16::try_from(*port).ok(),
        IntOrString::String(name) => {
            let mut named = containers.iter().flat_map(|one| one.ports.iter().flatten());
            let port = named.find(|port| port.name.as_deref() == Some(name))?;
            u16::try_from(port.container_port).ok()
        }
    };
    let tcp = |protocol: Option<&String>| protocol.is_none_or(|protocol| protocol == "TCP");
    let mut found: Vec<Port> = Vec::new();
    for service in services.iter().filter(|service| selects(service, namespace, labels)) {
        let Some(spec) = &service.spec else { continue };
        let address = spec.cluster_ip.clone().filter(|ip| !ip.is_empty() && ip != "None");
        for port in spec.ports.iter().flatten().filter(|port| tcp(port.protocol.as_ref())) {
            let Ok(dialed) = u16::try_from(port.port) else { continue };
            let target = match &port.target_port {
                Some(target) => number(target),
                None => Some(dialed),
            };
            // A headless Service changes no ports.
            let dialed = if address.is_none() { target } else { Some(dialed) };
            let (Some(target), Some(dialed)) = (target, dialed) else {
                continue;
            };
            found.push(Port {
                port: dialed,
                target,
                service: Some((service.name_any(), address.clone())),
                purpose: Purpose::Application,
            });
        }
    }
    let probed: BTreeSet<u16> = containers
        .iter()
        .flat_map(|one| [&one.readiness_probe, &one.liveness_probe, &one.startup_probe])
        .flatten()
        .filter_map(|probe| probed(probe).and_then(|port| number(&port)))
        .collect();
    let named = containers
        .iter()
        .flat_map(|one| one.ports.iter().flatten())
        .filter(|port| tcp(port.protocol.as_ref()))
        .filter_map(|port| u16::try_from(port.container_port).ok());
    let others: BTreeSet<u16> = named.chain(probed.iter().copied()).collect();
    for target in others {
        if !found.iter().any(|port| port.target == target) {
            let health = probed.contains(&target);
            found.push(Port {
                port: target,
                target,
                service: None,
                purpose: if health { Purpose::Health } else { Purpose::Application },
            });
        }
    }
    found
}

/// The port a kubelet's probe asks.
fn probed(probe: &Probe) -> Option<IntOrString> {
    let http = probe.http_get.as_ref().map(|get| get.port.clone());
    let tcp = probe.tcp_socket.as_ref().map(|socket| socket.port.clone());
    let grpc = probe.grpc.as_ref().map(|grpc| IntOrString::Int(grpc.port));
    http.or(tcp).or(grpc)
}

fn selects(service: &Service, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    service.namespace().as_deref() == Some(namespace)
        && selector.is_some_and(|selector| {
            !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn pod(app: &str, ports: Value, more: Value) -> Pod {
        let mut container = json!({ "name": "c", "ports": ports });
        container
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        read(json!({
            "metadata": { "namespace": "shop", "name": format!("{app}-7c9-x"),
                "labels": { "app": app, "pod-template-hash": "7c9" },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-7c9"),
                    "uid": "u", "controller": true }] },
            "spec": { "containers": [container] },
            "status": { "phase": "Running", "podIP": "10.244.0.5" },
        }))
    }

    fn service(app: &str, callers: Option<&str>, ports: Value) -> Service {
        let annotations = callers.map(|callers| json!({ CALLERS: callers })).unwrap_or_default();
        read(json!({
            "metadata": { "namespace": "shop", "name": app, "annotations": annotations },
            "spec": { "clusterIP": "10.96.0.7", "selector": { "app": app }, "ports": ports },
        }))
    }

    fn shop() -> Objects {
        let http = json!([{ "name": "http", "containerPort": 8080 }]);
        Objects {
            pods: vec![
                pod("web", http.clone(), json!({})),
                pod(
                    "api",
                    json!([{ "name": "http", "containerPort": 8080 }, { "name": "dns", "containerPort": 53, "protocol": "UDP" }]),
                    json!({ "readinessProbe": { "httpGet": { "path": "/", "port": 8081 } } }),
                ),
                pod("mallory", json!([]), json!({})),
            ],
            services: vec![
                service("web", Some(""), json!([{ "port": 80, "targetPort": "http" }])),
                service("api", Some("web"), json!([{ "port": 80, "targetPort": "http" }])),
            ],
            ..Objects::default()
        }
    }

    fn name(name: &str) -> Name {
        Name::new("shop", name)
    }

    #[test]
    fn workloads_have_the_ports_that_services_containers_and_the_kubelet_name() {
        let (found, by) = inventory(&shop(), None);
        assert_eq!(by, DeclaredBy::Annotations);
        let names: Vec<&str> = found.workloads.iter().map(|one| one.name.name.as_str()).collect();
        assert_eq!(names, ["api", "mallory", "web"]);
        assert_eq!(found.workloads[0].kind, "Deployment");
        let ports: Vec<_> = found.workloads[0]
            .ports
            .iter()
            .map(|port| (port.port, port.target, port.purpose))
            .collect();
        assert_eq!(ports, [(80, 8080, Purpose::Application), (8081, 8081, Purpose::Health)]);
        assert!(found.workloads[1].ports.is_empty());
        assert_eq!(found.declared, BTreeSet::from([(name("web"), name("api"), 80)]));
        assert!(found.missing.is_empty() && found.notes.is_empty(), "{found:?}");
    }

    #[test]
    fn a_label_makes_nobody_a_declared_caller() {
        let mut objects = shop();
        // mallory puts on the label of the caller.
        objects.pods[2]
            .metadata
            .labels
            .as_mut()
            .unwrap()
            .insert("app".into(), "web".into());
        let (found, _) = inventory(&objects, None);
        assert_eq!(found.declared, BTreeSet::from([(name("web"), name("api"), 80)]));
        let mallory = &found.workloads[1];
        assert_eq!((mallory.name.clone(), mallory.ports.len()), (name("mallory"), 0));
    }

    #[test]
    fn what_is_declared_and_not_there_is_missing() {
        let edge = |from: &str, to: &str, port| Edge {
            from: from.into(),
            to: to.into(),
            port,
            ..Edge::default()
        };
        let edges = [
            edge("web", "api", Some(80)),
            edge("web", "shop/api", None),
            edge("web", "gone", None),
            edge("nobody", "api", Some(80)),
            edge("web", "api", Some(81)),
            edge("web", "mallory", None),
        ];
        let (found, by) = inventory(&shop(), Some(&edges));
        assert_eq!(by, DeclaredBy::Given);
        assert_eq!(found.declared.len(), 1);
        let missing: Vec<_> = found.missing.iter().map(|one| one.edge.as_str()).collect();
        assert_eq!(missing, ["web → gone", "nobody → api:80", "web → mallory"]);
        assert!(
            found.notes[0].contains("web → api:81") && found.notes[0].contains("port 80"),
            "{:?}",
            found.notes
        );
    }

    #[test]
    fn without_an_annotation_nothing_is_declared() {
        let mut objects = shop();
        for service in &mut objects.services {
            service.metadata.annotations = None;
        }
        let (found, by) = inventory(&objects, None);
        assert_eq!((by, found.declared.len()), (DeclaredBy::Nobody, 0));
        objects.services[0].metadata.annotations =
            Some([(CALLERS.to_owned(), " api , other/thing ".to_owned())].into());
        let (found, by) = inventory(&objects, None);
        assert_eq!(by, DeclaredBy::Annotations);
        assert_eq!(found.declared, BTreeSet::from([(name("api"), name("web"), 80)]));
        assert!(found.notes[0].contains("api"), "{:?}", found.notes);
        assert_eq!(found.missing[0].edge, "other/thing → shop/web:80");
    }

    #[test]
    fn what_is_ending_or_on_the_nodes_network_is_left_out() {
        let mut objects = shop();
        objects.pods[0].status.as_mut().unwrap().phase = Some("Failed".into());
        objects.pods[1].spec.as_mut().unwrap().host_network = Some(true);
        let template = json!({ "metadata": { "labels": { "app": "api" } }, "spec": { "containers": [
            { "name": "c", "ports": [{ "name": "http", "containerPort": 8080 }] }] } });
        objects.deployments = vec![read(json!({ "metadata": { "namespace": "shop", "name": "asleep" },
            "spec": { "selector": {}, "template": template } }))];
        let (found, _) = inventory(&objects, None);
        let names: Vec<&str> = found.workloads.iter().map(|one| one.name.name.as_str()).collect();
        assert_eq!(names, ["asleep", "mallory"]);
        // Scaled to nothing, it still has the ports that its pods would have.
        assert_eq!(
            (found.workloads[0].pods.len(), found.workloads[0].ports[0].port),
            (0, 80)
        );
        assert!(found.notes.iter().any(|note| note.contains("api-7c9-x")));
    }
}
