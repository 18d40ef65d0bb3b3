//! The server's configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value};
use ztlab_identity::TrustDomain;

use super::{
    ConfigError,
    file::{self, Plugins, check_rest, duration_or},
};
use crate::{
    ca::{Settings, Subject},
    server::{Doors, attestation::k8s_psat},
    store::Places,
};

/// Shortest life of an authority: it has to be known everywhere before it signs.
const SHORTEST_CA: Duration = Duration::from_secs(30);

/// A server's configuration that was checked.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// What its authorities sign by.
    pub settings: Settings,
    /// Where it remembers.
    pub places: Places,
    /// Where it is reached.
    pub doors: Doors,
    /// Clusters whose agents attest by their tokens; none for no such attestor.
    pub clusters: Option<BTreeMap<String, k8s_psat::Cluster>>,
    /// Where the cluster finds the bundle.
    pub notifier: Option<BundleNotifier>,
    /// Where it says by HTTP whether it works.
    pub health: Option<HealthChecks>,
    /// `DEBUG`, `INFO`, `WARN` or `ERROR`.
    pub log_level: String,
}

/// The `k8sbundle` notifier: a ConfigMap that holds the bundle, for agents to begin with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleNotifier {
    /// Its namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Its name.
    #[serde(default = "default_config_map")]
    pub config_map: String,
    /// Its key.
    #[serde(default = "default_key")]
    pub config_map_key: String,
    /// How the cluster is reached from outside; empty inside.
    #[serde(default)]
    pub kube_config_file_path: PathBuf,
}

fn default_namespace() -> String {
    "spire".into()
}

fn default_config_map() -> String {
    "spire-bundle".into()
}

fn default_key() -> String {
    "bundle.crt".into()
}

/// Where a program says by HTTP whether it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthChecks {
    /// Address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of the liveness check.
    pub live: String,
    /// Path of the readiness check.
    pub ready: String,
}

#[derive(Deserialize)]
struct FileRead {
    server: Option<ServerSection>,
    plugins: Option<Value>,
    health_checks: Option<HealthSection>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct ServerSection {
    trust_domain: Option<String>,
    bind_address: Option<String>,
    bind_port: Option<Value>,
    socket_path: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    log_level: Option<String>,
    ca_ttl: Option<String>,
    ca_subject: Option<SubjectSection>,
    ca_key_type: Option<String>,
    jwt_key_type: Option<String>,
    jwt_issuer: Option<String>,
    default_x509_svid_ttl: Option<String>,
    default_jwt_svid_ttl: Option<String>,
    agent_ttl: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

const SERVER_IGNORED: &[&str] = &[
    "admin_ids",
    "audit_log_enabled",
    "experimental",
    "federation",
    "disable_jwt_svids",
    "log_file",
    "log_format",
    "log_source_location",
    "prune_attested_nodes_expired_for",
    "prune_attested_nodes_batch_size",
    "prune_tofu_nodes",
    "proxy_protocol_trusted_cidrs",
    "ratelimit",
    "max_attested_node_info_staleness",
    "profiling_enabled",
    "profiling_port",
    "profiling_freq",
    "profiling_names",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectSection {
    #[serde(default)]
    country: Vec<String>,
    #[serde(default)]
    organization: Vec<String>,
    #[serde(default)]
    common_name: String,
}

/// The section that server and agent share.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthSection {
    #[serde(default)]
    listener_enabled: Value,
    bind_address: Option<String>,
    bind_port: Option<Value>,
    live_path: Option<String>,
    ready_path: Option<String>,
}

#[derive(Deserialize)]
struct PsatSection {
    clusters: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct ClusterSection {
    #[serde(default)]
    service_account_allow_list: Vec<String>,
    audience: Option<Vec<String>>,
    #[serde(default)]
    allowed_node_label_keys: BTreeSet<String>,
    #[serde(default)]
    allowed_pod_label_keys: BTreeSet<String>,
    #[serde(default)]
    use_pod_uid_for_agent_id: bool,
    #[serde(default)]
    kube_config_file: PathBuf,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl ServerConfig {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&file::load(path)?)
    }

    /// Reads HCL or JSON.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let read: FileRead = file::parse(text)?;
        check_rest("the file", &read.rest, &["telemetry"])?;
        let server = read
            .server
            .ok_or_else(|| ConfigError::value("server section must be configured"))?;
        check_rest("server", &server.rest, SERVER_IGNORED)?;
        let plugins = Plugins::read(read.plugins.as_ref())?;
        let settings = settings(&server)?;
        let data_dir = server
            .data_dir
            .clone()
            .ok_or_else(|| ConfigError::value("data_dir must be configured"))?;
        let mut places = Places::in_directory(&data_dir);
        places.keys = keys(&plugins, places.keys.take())?;
        Ok(Self {
            settings,
            places,
            doors: Doors {
                admin: server.socket_path.unwrap_or_else(|| DEFAULT_SOCKET.into()),
                agents: (
                    server.bind_address.unwrap_or_else(|| "0.0.0.0".into()),
                    port("bind_port", server.bind_port.as_ref(), 8081)?,
                ),
            },
            clusters: node_attestors(&plugins)?,
            notifier: notifier(&plugins)?,
            health: health(read.health_checks)?,
            log_level: server.log_level.unwrap_or_else(|| "INFO".into()),
        })
    }
}

/// SPIRE's default for the admin socket.
pub const DEFAULT_SOCKET: &str = "/tmp/spire-server/private/api.sock";

fn settings(server: &ServerSection) -> Result<Settings, ConfigError> {
    let name = server
        .trust_domain
        .as_deref()
        .ok_or_else(|| ConfigError::value("trust_domain must be configured"))?;
    let trust_domain = TrustDomain::new(name.strip_prefix("spiffe://").unwrap_or(name))
        .map_err(|error| ConfigError::value(format!("could not parse trust_domain `{name}`: {error}")))?;
    for (key, value) in [
        ("ca_key_type", &server.ca_key_type),
        ("jwt_key_type", &server.jwt_key_type),
    ] {
        if value.as_deref().is_some_and(|value| value != "ec-p256") {
            return Err(ConfigError::value(format!(
                "{key}: this stand-in makes ec-p256 keys only; leave it out"
            )));
        }
    }
    let hours = |count: u64| Duration::from_secs(count * 3600);
    let ca_ttl = duration_or("ca_ttl", server.ca_ttl.as_deref(), hours(24))?;
    let x509_svid_ttl = duration_or(
        "default_x509_svid_ttl",
        server.default_x509_svid_ttl.as_deref(),
        hours(1),
    )?;
    let jwt_svid_ttl = duration_or(
        "default_jwt_svid_ttl",
        server.default_jwt_svid_ttl.as_deref(),
        Duration::from_secs(300),
    )?;
    let agent_ttl = duration_or("agent_ttl", server.agent_ttl.as_deref(), x509_svid_ttl)?;
    if ca_ttl < SHORTEST_CA {
        return Err(ConfigError::value(format!(
            "ca_ttl has to be {} s or more",
            SHORTEST_CA.as_secs()
        )));
    }
    for (name, ttl) in [
        ("default_x509_svid_ttl", x509_svid_ttl),
        ("default_jwt_svid_ttl", jwt_svid_ttl),
        ("agent_ttl", agent_ttl),
    ] {
        if ttl < Duration::from_secs(1) {
            return Err(ConfigError::value(format!("{name} has to be a second or more")));
        }
        // With a sixth of the authority's life left the next one signs: what lives no longer than that is never cut.
        if ttl > ca_ttl / 6 {
            tracing::warn!(name, ca_ttl = ?ca_ttl, "SVIDs can end sooner than asked: make ca_ttl six times this or more");
        }
    }
    let subject = match &server.ca_subject {
        Some(subject) => Subject {
            country: subject.country.clone(),
            organization: subject.organization.clone(),
            common_name: subject.common_name.clone(),
        },
        None => Subject::of_an_authority(),
    };
    let subject = if subject == Subject::default() {
        Subject::of_an_authority()
    } else {
        subject
    };
    let jwt_issuer = server.jwt_issuer.clone().filter(|issuer| !issuer.is_empty());
    Ok(Settings {
        trust_domain,
        ca_ttl,
        x509_svid_ttl,
        jwt_svid_ttl,
        agent_ttl,
        subject,
        jwt_issuer,
    })
}

/// Where the keys are, by the key manager.
fn keys(plugins: &Plugins, default: Option<PathBuf>) -> Result<Option<PathBuf>, ConfigError> {
    for kind in plugins.kinds() {
        if !["DataStore", "KeyManager", "NodeAttestor", "Notifier"].contains(&kind) {
            return Err(ConfigError::value(format!(
                "plugins: this stand-in has no {kind}; it has DataStore, KeyManager and NodeAttestor"
            )));
        }
    }
    for (name, _) in plugins.of("DataStore") {
        if name != "sql" {
            return Err(ConfigError::value(format!(
                "DataStore `{name}` is unknown; SPIRE has `sql`"
            )));
        }
        tracing::info!("the data store is a file of this stand-in in data_dir, no SQL database");
    }
    match plugins.of("KeyManager").next() {
        None => Ok(default),
        Some(("memory", _)) => Ok(None),
        Some(("disk", data)) => Ok(data
            .get("keys_path")
            .and_then(Value::as_str)
            .map(PathBuf::from)
            .or(default)),
        Some((other, _)) => Err(ConfigError::value(format!(
            "KeyManager `{other}`: this stand-in has `disk` and `memory`"
        ))),
    }
}

fn notifier(plugins: &Plugins) -> Result<Option<BundleNotifier>, ConfigError> {
    match plugins.of("Notifier").next() {
        None => Ok(None),
        Some(("k8sbundle", data)) => serde_json::from_value(data.clone())
            .map(Some)
            .map_err(|error| ConfigError::value(format!("k8sbundle: {error}"))),
        Some((other, _)) => Err(ConfigError::value(format!(
            "Notifier `{other}`: this stand-in has `k8sbundle`"
        ))),
    }
}

fn node_attestors(plugins: &Plugins) -> Result<Option<BTreeMap<String, k8s_psat::Cluster>>, ConfigError> {
    let mut clusters = None;
    for (name, data) in plugins.of("NodeAttestor") {
        match name {
            "join_token" => {}
            k8s_psat::TYPE => clusters = Some(psat(data)?),
            other => {
                return Err(ConfigError::value(format!(
                    "NodeAttestor `{other}`: this stand-in has `k8s_psat` and `join_token`"
                )));
            }
        }
    }
    Ok(clusters)
}

fn psat(data: &Value) -> Result<BTreeMap<String, k8s_psat::Cluster>, ConfigError> {
    let wrong = |error: serde_json::Error| ConfigError::value(format!("k8s_psat: {error}"));
    let section: PsatSection = serde_json::from_value(data.clone()).map_err(wrong)?;
    check_rest("k8s_psat", &section.rest, &[])?;
    let clusters = match section.clusters {
        Value::Array(list) => list.into_iter().next().unwrap_or(Value::Null),
        clusters => clusters,
    };
    let clusters: BTreeMap<String, Value> = serde_json::from_value(clusters).map_err(wrong)?;
    if clusters.is_empty() {
        return Err(ConfigError::value(
            "k8s_psat: configuration must have at least one cluster",
        ));
    }
    let mut read = BTreeMap::new();
    for (name, cluster) in clusters {
        let cluster = match cluster {
            Value::Array(list) => list.into_iter().next().unwrap_or(Value::Null),
            cluster => cluster,
        };
        let cluster: ClusterSection = serde_json::from_value(cluster).map_err(wrong)?;
        check_rest(&name, &cluster.rest, &[])?;
        if cluster.service_account_allow_list.is_empty() {
            return Err(ConfigError::value(format!(
                "k8s_psat: cluster `{name}` must have at least one service account allowed"
            )));
        }
        read.insert(
            name,
            k8s_psat::Cluster {
                service_accounts: cluster.service_account_allow_list.into_iter().collect(),
                audience: cluster.audience.unwrap_or_else(|| vec!["spire-server".into()]),
                node_labels: cluster.allowed_node_label_keys,
                pod_labels: cluster.allowed_pod_label_keys,
                named_by_pod: cluster.use_pod_uid_for_agent_id,
                kube_config: path(cluster.kube_config_file),
            },
        );
    }
    Ok(read)
}

/// A path; an empty one is none, as in SPIRE's documents.
fn path(path: PathBuf) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then_some(path)
}

/// A port, which SPIRE's documents write as a number or as text.
pub(super) fn port(name: &str, value: Option<&Value>, default: u16) -> Result<u16, ConfigError> {
    let read = match value {
        None => Some(default),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64().and_then(|port| u16::try_from(port).ok()),
    };
    read.ok_or_else(|| ConfigError::value(format!("{name} is no port: {}", value.unwrap_or(&Value::Null))))
}

pub(super) fn health(section: Option<HealthSection>) -> Result<Option<HealthChecks>, ConfigError> {
    let Some(section) = section else { return Ok(None) };
    let enabled = match &section.listener_enabled {
        Value::Bool(enabled) => *enabled,
        Value::String(text) => text == "true",
        _ => false,
    };
    if !enabled {
        return Ok(None);
    }
    Ok(Some(HealthChecks {
        host: section.bind_address.unwrap_or_else(|| "localhost".into()),
        port: port("bind_port", section.bind_port.as_ref(), 80)?,
        live: section.live_path.unwrap_or_else(|| "/live".into()),
        ready: section.ready_path.unwrap_or_else(|| "/ready".into()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: &str = r#"
        server {
            bind_address = "0.0.0.0"
            bind_port = "8081"
            trust_domain = "shop.test"
            data_dir = "/run/spire/data"
            log_level = "DEBUG"
            ca_ttl = "12h"
            ca_subject = {
                country = ["US"],
                organization = ["SPIFFE"],
                common_name = "",
            }
        }
        plugins {
            DataStore "sql" {
                plugin_data {
                    database_type = "sqlite3"
                    connection_string = "/run/spire/data/datastore.sqlite3"
                }
            }
            NodeAttestor "k8s_psat" {
                plugin_data {
                    clusters = {
                        "demo-cluster" = {
                            service_account_allow_list = ["spire:spire-agent"]
                        }
                    }
                }
            }
            KeyManager "disk" {
                plugin_data {
                    keys_path = "/run/spire/data/keys.json"
                }
            }
        }
        health_checks {
            listener_enabled = true
            bind_address = "0.0.0.0"
            bind_port = "8080"
        }
    "#;

    #[test]
    fn the_file_that_spires_documents_show_is_read() {
        let config = ServerConfig::parse(DOCUMENTED).unwrap();
        assert_eq!(config.settings.trust_domain.as_str(), "shop.test");
        assert_eq!(config.settings.ca_ttl, Duration::from_secs(12 * 3600));
        assert_eq!(config.settings.x509_svid_ttl, Duration::from_secs(3600));
        assert_eq!(config.doors.agents, ("0.0.0.0".into(), 8081));
        let clusters = config.clusters.unwrap();
        assert_eq!(clusters["demo-cluster"].audience, ["spire-server"]);
        assert_eq!(config.places.keys, Some("/run/spire/data/keys.json".into()));
        assert_eq!(config.health.unwrap().ready, "/ready");
    }

    #[test]
    fn a_server_outside_of_the_cluster_is_told_how_to_reach_it() {
        let config = ServerConfig::parse(DOCUMENTED).unwrap();
        assert_eq!(config.clusters.unwrap()["demo-cluster"].kube_config, None);
        let account = "service_account_allow_list = [\"spire:spire-agent\"]";
        for (written, read) in [("/etc/kubeconfig", Some("/etc/kubeconfig".into())), ("", None)] {
            let text = DOCUMENTED.replace(account, &format!("{account}\nkube_config_file = \"{written}\""));
            assert_eq!(
                ServerConfig::parse(&text).unwrap().clusters.unwrap()["demo-cluster"].kube_config,
                read
            );
        }
    }

    #[test]
    fn json_as_the_helm_chart_writes_it_is_read_too() {
        let text = r#"{"server": {"trust_domain": "shop.test", "data_dir": "/d", "ratelimit": {"signing": true}},
            "plugins": {"KeyManager": [{"memory": {"plugin_data": {}}}],
                "NodeAttestor": [{"k8s_psat": {"plugin_data": {"clusters": [{"demo": {"service_account_allow_list": ["a:b"]}}]}}}]}}"#;
        let config = ServerConfig::parse(text).unwrap();
        assert_eq!(config.places.keys, None);
        assert!(config.clusters.unwrap().contains_key("demo"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("", "server section"),
            ("server { data_dir = \"/d\" }", "trust_domain"),
            ("server { trust_domain = \"a\" }", "data_dir"),
            ("server { trust_domain = \"A B\" data_dir = \"/d\" }", "A B"),
            (
                "server { trust_domain = \"a\" data_dir = }",
                "line 1: a value is expected",
            ),
            (
                "server {\n trust_domain = \"a\"\n data_dir = \"/d\"\n ca_ttl = \"1d\"\n}",
                "ca_ttl",
            ),
            (
                "server {\n trust_domain = \"a\"\n data_dir = \"/d\"\n ca_tll = \"1h\"\n}",
                "ca_tll",
            ),
            (
                "server {\n trust_domain = \"a\"\n data_dir = \"/d\"\n ca_key_type = \"rsa-2048\"\n}",
                "ec-p256",
            ),
            (
                "server {\n trust_domain = \"a\"\n data_dir = \"/d\"\n}\nplugins {\n UpstreamAuthority \"disk\" {}\n}",
                "UpstreamAuthority",
            ),
            (
                "server {\n trust_domain = \"a\"\n data_dir = \"/d\"\n}\nplugins {\n NodeAttestor \"aws_iid\" {}\n}",
                "aws_iid",
            ),
        ];
        for (text, named) in cases {
            let error = ServerConfig::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
