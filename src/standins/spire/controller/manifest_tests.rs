//! `manifests/spire/`: objects of Kubernetes, whose parts fit each other and this crate.

use std::collections::{BTreeMap, BTreeSet};

use boon::{Compiler, Draft, Schemas};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, StatefulSet},
        core::v1::{ConfigMap, Namespace, PodSpec, Service, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding},
        storage::v1::CSIDriver,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    config::Config,
    kinds::{ClusterFederatedTrustDomain, ClusterSpiffeId, ClusterStaticEntry},
    plan::plan,
    spec::Registration,
    testing::{cluster_spiffe_id, node, pod, snapshot},
};
use crate::config::{AgentConfig, Bootstrap, NodeProof, ServerConfig, WorkloadProof};

const FILES: &[(&str, &str)] = &[
    (
        "00-namespace.yaml",
        include_str!("../../../../manifests/spire/00-namespace.yaml"),
    ),
    (
        "01-definitions.yaml",
        include_str!("../../../../manifests/spire/01-definitions.yaml"),
    ),
    (
        "02-server-account.yaml",
        include_str!("../../../../manifests/spire/02-server-account.yaml"),
    ),
    (
        "03-server.yaml",
        include_str!("../../../../manifests/spire/03-server.yaml"),
    ),
    (
        "04-agent.yaml",
        include_str!("../../../../manifests/spire/04-agent.yaml"),
    ),
    (
        "05-csi-driver.yaml",
        include_str!("../../../../manifests/spire/05-csi-driver.yaml"),
    ),
];
const DEFAULT: &str = include_str!("../../../../manifests/spire/registration/default.yaml");

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::from_multiple(text).expect("the file is YAML")
}

fn objects() -> Vec<Value> {
    FILES.iter().flat_map(|(_, text)| documents(text)).collect()
}

fn find<T: DeserializeOwned>(kind: &str, name: &str) -> T {
    let found = objects()
        .into_iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("there is no {kind} {name}"));
    serde_json::from_value(found).unwrap()
}

/// What of `written` did not survive being read: a field that the API does not know.
fn lost(written: &Value, read: &Value, path: &str, into: &mut Vec<String>) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (key, value) in written {
                match read.get(key) {
                    Some(kept) => lost(value, kept, &format!("{path}.{key}"), into),
                    // What is empty may be left out.
                    None if *value == json!({}) || *value == json!([]) => {}
                    None => into.push(format!("{path}.{key}")),
                }
            }
        }
        (Value::Array(written), Value::Array(read)) if written.len() == read.len() => {
            for (index, (value, kept)) in written.iter().zip(read).enumerate() {
                lost(value, kept, &format!("{path}[{index}]"), into);
            }
        }
        (written, read) if written == read => {}
        _ => into.push(format!("{path}: {written} became {read}")),
    }
}

fn read_as<T: DeserializeOwned + Serialize>(object: &Value) -> Vec<String> {
    let read: T = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{object}: {error}"));
    let mut missing = Vec::new();
    lost(object, &serde_json::to_value(read).unwrap(), "", &mut missing);
    missing
}

#[test]
fn every_document_is_an_object_of_its_kind_with_no_field_that_the_kind_does_not_have() {
    for (file, text) in FILES {
        for object in documents(text) {
            let kind = object["kind"].as_str().unwrap();
            let missing = match (object["apiVersion"].as_str().unwrap(), kind) {
                ("v1", "Namespace") => read_as::<Namespace>(&object),
                ("v1", "ServiceAccount") => read_as::<ServiceAccount>(&object),
                ("v1", "ConfigMap") => read_as::<ConfigMap>(&object),
                ("v1", "Service") => read_as::<Service>(&object),
                ("apps/v1", "StatefulSet") => read_as::<StatefulSet>(&object),
                ("apps/v1", "DaemonSet") => read_as::<DaemonSet>(&object),
                ("rbac.authorization.k8s.io/v1", "ClusterRole") => read_as::<ClusterRole>(&object),
                ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => read_as::<ClusterRoleBinding>(&object),
                ("rbac.authorization.k8s.io/v1", "Role") => read_as::<Role>(&object),
                ("rbac.authorization.k8s.io/v1", "RoleBinding") => read_as::<RoleBinding>(&object),
                ("storage.k8s.io/v1", "CSIDriver") => read_as::<CSIDriver>(&object),
                ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => read_as::<CustomResourceDefinition>(&object),
                other => panic!("{file}: {other:?} is not expected here"),
            };
            assert!(
                missing.is_empty(),
                "{file}: {kind} {}: {missing:?}",
                object["metadata"]["name"]
            );
            let namespaced = ![
                "Namespace",
                "ClusterRole",
                "ClusterRoleBinding",
                "CSIDriver",
                "CustomResourceDefinition",
            ]
            .contains(&kind);
            assert_eq!(object["metadata"]["namespace"] == "spire", namespaced, "{file}: {kind}");
        }
    }
}

fn pod_specs() -> Vec<(String, PodSpec)> {
    let server: StatefulSet = find("StatefulSet", "spire-server");
    let sets = ["spire-agent", "spiffe-csi-driver"].map(|name| (name, find::<DaemonSet>("DaemonSet", name)));
    let server = ("spire-server".to_owned(), server.spec.unwrap().template.spec.unwrap());
    let sets = sets.map(|(name, set)| (name.to_owned(), set.spec.unwrap().template.spec.unwrap()));
    std::iter::once(server).chain(sets).collect()
}

#[test]
fn what_a_pod_mounts_and_probes_is_there() {
    let claims = BTreeMap::from([("spire-server", vec!["data"])]);
    for (name, spec) in pod_specs() {
        let mut volumes: BTreeSet<&str> = spec
            .volumes
            .iter()
            .flatten()
            .map(|volume| volume.name.as_str())
            .collect();
        volumes.extend(claims.get(name.as_str()).into_iter().flatten());
        let mut mounted = BTreeSet::new();
        let mut ports = BTreeSet::new();
        for container in &spec.containers {
            mounted.extend(
                container
                    .volume_mounts
                    .iter()
                    .flatten()
                    .map(|mount| mount.name.as_str()),
            );
            for port in container.ports.iter().flatten() {
                assert!(
                    ports.insert(port.container_port),
                    "{name}: port {} twice",
                    port.container_port
                );
            }
            let probes = [&container.liveness_probe, &container.readiness_probe];
            for probe in probes.into_iter().flatten() {
                let asked = json!(probe.http_get.as_ref().unwrap().port);
                let own = container
                    .ports
                    .iter()
                    .flatten()
                    .find(|port| port.name.as_deref() == asked.as_str());
                assert!(own.is_some(), "{name}: {} probes {asked}", container.name);
            }
            let (repository, tag) = container.image.as_deref().unwrap().rsplit_once(':').unwrap();
            assert!(repository.starts_with("ghcr.io/spiffe/") || repository.starts_with("registry.k8s.io/"));
            assert!(tag != "latest" && !tag.is_empty(), "{repository} has a version");
        }
        assert_eq!(volumes, mounted, "{name}");
    }
}

fn text_of(config_map: &str, key: &str) -> String {
    find::<ConfigMap>("ConfigMap", config_map)
        .data
        .unwrap()
        .remove(key)
        .unwrap()
}

fn controller_config() -> Config {
    Config::parse(&text_of("spire-controller-manager", "config.yaml"), || None).unwrap()
}

fn mount(spec: &PodSpec, container: &str, volume: &str) -> String {
    let container = spec.containers.iter().find(|one| one.name == container).unwrap();
    let mount = container
        .volume_mounts
        .iter()
        .flatten()
        .find(|mount| mount.name == volume);
    mount.unwrap().mount_path.clone()
}

#[test]
fn the_configuration_files_are_read_and_agree_with_each_other() {
    let server = ServerConfig::parse(&text_of("spire-server", "server.conf")).unwrap();
    let agent = AgentConfig::parse(&text_of("spire-agent", "agent.conf"), None).unwrap();
    let controller = controller_config();
    for trust_domain in [&agent.trust_domain, &controller.scope.cluster.trust_domain] {
        assert_eq!(trust_domain, &server.settings.trust_domain);
    }
    let specs: BTreeMap<_, _> = pod_specs().into_iter().collect();
    let (server_pod, agent_pod) = (&specs["spire-server"], &specs["spire-agent"]);

    // The cluster's name, and whose tokens count.
    let clusters = server.clusters.unwrap();
    assert_eq!(clusters.keys().collect::<Vec<_>>(), [&controller.scope.cluster.name]);
    let account = format!("spire:{}", agent_pod.service_account_name.as_deref().unwrap());
    let psat = text_of("spire-server", "server.conf");
    assert!(psat.contains(&format!("service_account_allow_list = [\"{account}\"]")));
    let NodeProof::K8sPsat { cluster, token } = &agent.node else {
        panic!("{:?}", agent.node);
    };
    assert_eq!(cluster, &controller.scope.cluster.name);
    let projected = agent_pod
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name == "token")
        .unwrap();
    let source = &projected.projected.as_ref().unwrap().sources.as_ref().unwrap()[0];
    let projected = source.service_account_token.as_ref().unwrap();
    assert_eq!(
        token,
        &std::path::Path::new(&mount(agent_pod, "spire-agent", "token")).join(&projected.path)
    );
    assert_eq!(projected.audience.as_deref(), Some("spire-server"));

    // The bundle, from the server's notifier to the agent's file, which the pod waits for.
    let notifier = server.notifier.unwrap();
    let volume = agent_pod
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name == "bundle")
        .unwrap();
    let items = volume.config_map.as_ref().unwrap().items.as_ref().unwrap();
    assert_eq!(
        (&items[0].key, &items[0].path),
        (&notifier.config_map_key, &notifier.config_map_key)
    );
    assert_eq!((&*notifier.namespace, &*notifier.config_map), ("spire", "spire-bundle"));
    let bundle = std::path::Path::new(&mount(agent_pod, "spire-agent", "bundle")).join(&notifier.config_map_key);
    assert_eq!(
        agent.bootstrap,
        Bootstrap::Bundle {
            path: bundle,
            spiffe: false
        }
    );
    assert_eq!(agent.workloads, [WorkloadProof::K8s]);

    // Sockets and ports.
    let sockets = mount(agent_pod, "spire-agent", "agent-sockets");
    assert_eq!(agent.socket, std::path::Path::new(&sockets).join("spire-agent.sock"));
    for container in ["spire-server", "spire-controller-manager"] {
        let directory = mount(server_pod, container, "admin-socket");
        assert_eq!(server.doors.admin.parent(), Some(std::path::Path::new(&directory)));
    }
    assert_eq!(controller.socket, server.doors.admin);
    let service: Service = find("Service", &agent.server.0);
    let port = &service.spec.unwrap().ports.unwrap()[0];
    assert_eq!(
        (port.port, server.doors.agents.1),
        (i32::from(agent.server.1), agent.server.1)
    );
    assert_eq!(server.health.unwrap().port, 8080);
    assert_eq!(controller.health.as_deref(), Some("0.0.0.0:8083"));
    let data = mount(server_pod, "spire-server", "data");
    assert!(server.places.state.starts_with(&data) && server.places.keys.unwrap().starts_with(&data));
}

#[test]
fn entries_that_students_make_by_hand_survive_the_controller_manager() {
    let config = controller_config();
    assert_eq!(config.scope.prefix, "ztlab.");
    assert!(config.scope.cleanup.is_none());
    for namespace in ["spire", "kube-system"] {
        assert!(
            config
                .scope
                .ignored_namespaces
                .iter()
                .any(|ignored| ignored.is_match(namespace))
        );
    }
    for namespace in ["shop", "spire-clients", "my-spire", "default"] {
        assert!(
            !config
                .scope
                .ignored_namespaces
                .iter()
                .any(|ignored| ignored.is_match(namespace)),
            "{namespace}"
        );
    }
}

fn allows(rules: &[PolicyRule], verb: &str, group: &str, resource: &str) -> bool {
    rules.iter().any(|rule| {
        let has = |list: &Option<Vec<String>>, one: &str| list.iter().flatten().any(|item| item == one);
        rule.verbs.iter().any(|one| one == verb) && has(&rule.api_groups, group) && has(&rule.resources, resource)
    })
}

#[test]
fn each_account_may_do_what_its_program_does_and_reaches_no_secret() {
    let rules = |name: &str| find::<ClusterRole>("ClusterRole", name).rules.unwrap();
    for resource in ["namespaces", "nodes", "pods", "endpoints"] {
        for verb in ["list", "watch"] {
            assert!(
                allows(&rules("spire-controller-manager"), verb, "", resource),
                "{verb} {resource}"
            );
        }
    }
    for kind in [
        "clusterspiffeids",
        "clusterstaticentries",
        "clusterfederatedtrustdomains",
    ] {
        let rules = rules("spire-controller-manager");
        assert!(allows(&rules, "list", "spire.spiffe.io", kind) && allows(&rules, "watch", "spire.spiffe.io", kind));
        assert!(allows(&rules, "patch", "spire.spiffe.io", &format!("{kind}/status")));
    }
    let server = rules("spire-server");
    assert!(allows(&server, "create", "authentication.k8s.io", "tokenreviews"));
    assert!(allows(&server, "get", "", "pods") && allows(&server, "get", "", "nodes"));
    assert!(
        allows(&rules("spire-agent"), "list", "", "pods") && allows(&rules("spire-agent"), "get", "", "nodes/proxy")
    );
    let role: Role = find("Role", "spire-bundle");
    let rule = &role.rules.unwrap()[0];
    assert_eq!(rule.resource_names.as_deref(), Some(&["spire-bundle".to_owned()][..]));
    assert!(allows(std::slice::from_ref(rule), "patch", "", "configmaps"));
    for object in objects() {
        if let Some(rules) = object.get("rules") {
            let text = rules.to_string();
            assert!(
                !text.contains("secrets") && !text.contains('*'),
                "{}: {text}",
                object["metadata"]["name"]
            );
        }
    }
}

#[test]
fn the_first_cluster_spiffe_id_gives_each_service_account_its_identity() {
    let [object] = <[Value; 1]>::try_from(documents(DEFAULT)).unwrap();
    accepts("clusterspiffeids", &object).unwrap();
    let mut read: ClusterSpiffeId = serde_json::from_value(object).unwrap();
    assert!(Registration::read(&read.spec).is_ok());
    read.metadata.creation_timestamp = cluster_spiffe_id("x", 0, json!({})).metadata.creation_timestamp;
    let mut world = snapshot(vec![read]);
    world
        .pods
        .push(std::sync::Arc::new(pod("spire", "spire-server-0", "spire-server")));
    world
        .namespaces
        .push(std::sync::Arc::new(super::testing::namespace("spire")));
    world.nodes = vec![std::sync::Arc::new(node("n1"))];
    let made = plan(&controller_config().scope, &world, &[]);
    let ids: Vec<String> = made
        .create
        .iter()
        .map(|declared| declared.entry.spiffe_id.to_string())
        .collect();
    assert_eq!(
        ids,
        [
            "spiffe://ztlab.example/ns/shop/sa/ledger",
            "spiffe://ztlab.example/ns/shop/sa/orders"
        ]
    );
    let parent = made.create[0].entry.parent_id.to_string();
    assert_eq!(parent, "spiffe://ztlab.example/spire/agent/k8s_psat/ztlab/n1-uid");
}

fn definition(plural: &str) -> CustomResourceDefinition {
    find("CustomResourceDefinition", &format!("{plural}.spire.spiffe.io"))
}

/// Closes every object that has properties, as strict validation does, and takes away what JSON Schema does not know.
fn closed(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|key, _| !key.starts_with("x-kubernetes-"));
            if map.contains_key("properties") && map.get("type") == Some(&json!("object")) {
                map.insert("additionalProperties".into(), json!(false));
            }
            map.values_mut().for_each(closed);
        }
        Value::Array(list) => list.iter_mut().for_each(closed),
        _ => {}
    }
}

fn accepts(plural: &str, object: &Value) -> Result<(), String> {
    let version = definition(plural).spec.versions.remove(0);
    let mut schema = serde_json::to_value(version.schema.unwrap().open_api_v3_schema).unwrap();
    closed(&mut schema);
    // Of the metadata the API server takes care, not the definition.
    schema["properties"]["metadata"] = json!({"type": "object"});
    let mut compiler = Compiler::new();
    compiler.set_default_draft(Draft::V2020_12);
    compiler.add_resource("mem:///schema", schema).unwrap();
    let mut schemas = Schemas::new();
    let index = compiler.compile("mem:///schema", &mut schemas).unwrap();
    schemas.validate(object, index).map_err(|error| error.to_string())
}

fn object(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "spire.spiffe.io/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec})
}

#[test]
fn the_definitions_name_the_kinds_that_are_watched() {
    use k8s_openapi::Resource;
    for (plural, kind, group) in [
        (
            ClusterSpiffeId::URL_PATH_SEGMENT,
            ClusterSpiffeId::KIND,
            ClusterSpiffeId::GROUP,
        ),
        (
            ClusterStaticEntry::URL_PATH_SEGMENT,
            ClusterStaticEntry::KIND,
            ClusterStaticEntry::GROUP,
        ),
        (
            ClusterFederatedTrustDomain::URL_PATH_SEGMENT,
            ClusterFederatedTrustDomain::KIND,
            ClusterFederatedTrustDomain::GROUP,
        ),
    ] {
        let definition = definition(plural).spec;
        assert_eq!(
            (&*definition.names.kind, &*definition.group, &*definition.scope),
            (kind, group, "Cluster")
        );
        let version = &definition.versions[0];
        assert_eq!(
            (&*version.name, version.served, version.storage),
            (ClusterSpiffeId::VERSION, true, true)
        );
        assert!(
            version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()),
            "{kind} has a status"
        );
        assert!(
            version
                .additional_printer_columns
                .as_ref()
                .is_some_and(|columns| columns.len() > 1)
        );
    }
}

#[test]
fn the_definition_of_a_cluster_spiffe_id_takes_what_spire_documents_and_nothing_else() {
    let whole = json!({"spiffeIDTemplate": "spiffe://{{ .TrustDomain }}/a", "ttl": "1h30m", "jwtTtl": "5m",
        "dnsNameTemplates": ["a"], "workloadSelectorTemplates": ["k8s:ns:a"], "federatesWith": ["partner.test"],
        "namespaceSelector": {"matchLabels": {"a": "b"}},
        "podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
        "admin": false, "downstream": false, "autoPopulateDNSNames": true, "fallback": true, "className": "c", "hint": "h"});
    accepts("clusterspiffeids", &object("ClusterSPIFFEID", whole.clone())).unwrap();
    for (field, value) in [
        ("spiffeIDTemplate", json!("")),
        ("ttl", json!("banana")),
        ("ttl", json!(3600)),
        ("jwtTtl", json!("-5m")),
        ("spiffeIdTemplate", json!("a")),
        ("dnsNameTemplates", json!("a")),
        ("admin", json!("yes")),
        ("podSelector", json!({"app": "orders"})),
        (
            "podSelector",
            json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}),
        ),
    ] {
        let mut broken = whole.clone();
        broken[field] = value;
        assert!(
            accepts("clusterspiffeids", &object("ClusterSPIFFEID", broken)).is_err(),
            "{field}"
        );
    }
    assert!(accepts("clusterspiffeids", &object("ClusterSPIFFEID", json!({}))).is_err());
    let mut without = object("ClusterSPIFFEID", json!({}));
    without.as_object_mut().unwrap().remove("spec");
    assert!(accepts("clusterspiffeids", &without).is_err());
}

#[test]
fn the_other_definitions_take_what_spire_documents_and_nothing_else() {
    let entry = json!({"spiffeID": "spiffe://a.test/b", "parentID": "spiffe://a.test/spire/server", "selectors": ["a:b"],
        "federatesWith": ["c.test"], "x509SVIDTTL": "1h", "jwtSVIDTTL": "5m", "dnsNames": ["d"], "hint": "h", "admin": true,
        "downstream": false, "storeSVID": false, "className": ""});
    accepts("clusterstaticentries", &object("ClusterStaticEntry", entry.clone())).unwrap();
    for (field, value) in [
        ("selectors", json!([1])),
        ("x509SVIDTTL", json!("1 hour")),
        ("spiffeid", json!("x")),
    ] {
        let mut broken = entry.clone();
        broken[field] = value;
        assert!(
            accepts("clusterstaticentries", &object("ClusterStaticEntry", broken)).is_err(),
            "{field}"
        );
    }
    let domain = json!({"trustDomain": "partner.test", "bundleEndpointURL": "https://partner.test:8443",
        "bundleEndpointProfile": {"type": "https_spiffe", "endpointSPIFFEID": "spiffe://partner.test/spire/server"},
        "trustDomainBundle": "{}", "className": ""});
    let kind = "ClusterFederatedTrustDomain";
    accepts("clusterfederatedtrustdomains", &object(kind, domain.clone())).unwrap();
    for (field, value) in [
        ("trustDomain", json!("Partner Test")),
        ("bundleEndpointURL", json!("http://partner.test")),
        ("bundleEndpointProfile", json!({"type": "web"})),
        ("bundleEndpointProfile", json!({})),
    ] {
        let mut broken = domain.clone();
        broken[field] = value;
        assert!(
            accepts("clusterfederatedtrustdomains", &object(kind, broken)).is_err(),
            "{field}"
        );
    }
}

#[test]
fn the_statuses_that_are_written_fit_the_definitions() {
    use super::{kinds, status};
    let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
    let outcome = super::plan::SpiffeIdOutcome {
        object: std::sync::Arc::new(cluster_spiffe_id("a", 0, json!({}))),
        stats: kinds::Stats::default(),
        invalid: None,
        render_failure: None,
        refused: None,
    };
    let outcome_static = super::plan::StaticOutcome {
        object: std::sync::Arc::new(super::testing::static_entry("a", 0, json!({}))),
        rendered: true,
        masked: false,
        set: true,
        problem: None,
    };
    let federated = ClusterFederatedTrustDomain::default();
    for (plural, spec, status) in [
        (
            "clusterspiffeids",
            json!({"spiffeIDTemplate": "a"}),
            json!(status::of_spiffe_id(&outcome, now).unwrap()),
        ),
        (
            "clusterstaticentries",
            json!({"spiffeID": "a", "parentID": "b", "selectors": []}),
            json!(status::of_static_entry(&outcome_static, now).unwrap()),
        ),
        (
            "clusterfederatedtrustdomains",
            json!({"trustDomain": "a", "bundleEndpointURL": "https://a", "bundleEndpointProfile": {"type": "https_web"}}),
            json!(status::of_federated(&federated, now).unwrap()),
        ),
    ] {
        let mut written = object("X", spec);
        written["status"] = status;
        accepts(plural, &written).unwrap_or_else(|error| panic!("{plural}: {error}"));
    }
}
