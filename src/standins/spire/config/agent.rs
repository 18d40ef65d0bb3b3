//! The agent's configuration.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use ztlab_identity::TrustDomain;

use super::{
    ConfigError, HealthChecks,
    file::{self, Plugins, check_rest},
    server::{HealthSection, health, port},
};
use crate::agent::SecretNames;

/// SPIRE's default for the Workload API's socket.
pub const DEFAULT_SOCKET: &str = "/tmp/spire-agent/public/api.sock";
/// SPIRE's default for the agent's token.
const DEFAULT_TOKEN: &str = "/var/run/secrets/tokens/spire-agent";

/// An agent's configuration that was checked.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Whose agent.
    pub trust_domain: TrustDomain,
    /// Host and port of the server.
    pub server: (String, u16),
    /// The Workload API's socket.
    pub socket: PathBuf,
    /// Whom to believe in the beginning.
    pub bootstrap: Bootstrap,
    /// Whether it serves the Workload API.
    pub serves_workload_api: bool,
    /// What Envoy may call secrets by; none where secret discovery is not served.
    pub secrets: Option<SecretNames>,
    /// How it proves its node.
    pub node: NodeProof,
    /// How it knows workloads.
    pub workloads: Vec<WorkloadProof>,
    /// Where it says by HTTP whether it works.
    pub health: Option<HealthChecks>,
    /// `DEBUG`, `INFO`, `WARN` or `ERROR`.
    pub log_level: String,
}

/// How the server is believed before the bundle is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootstrap {
    /// By a bundle in a file.
    Bundle {
        /// The file.
        path: PathBuf,
        /// Whether it is a SPIFFE bundle, not PEM.
        spiffe: bool,
    },
    /// Not at all: whoever answers first is believed.
    Insecure,
}

/// How an agent proves its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeProof {
    /// By the token of its pod.
    K8sPsat {
        /// The cluster's name at the server.
        cluster: String,
        /// Where the token is.
        token: PathBuf,
    },
    /// By a token that the administrator made.
    JoinToken(String),
}

/// How an agent knows workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadProof {
    /// By the pod they are in.
    K8s,
    /// By their user and group.
    Unix,
}

#[derive(Deserialize)]
struct FileRead {
    agent: Option<AgentSection>,
    plugins: Option<Value>,
    health_checks: Option<HealthSection>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct AgentSection {
    trust_domain: Option<String>,
    server_address: Option<String>,
    server_port: Option<Value>,
    socket_path: Option<PathBuf>,
    trust_bundle_path: Option<PathBuf>,
    trust_bundle_format: Option<String>,
    insecure_bootstrap: Option<bool>,
    join_token: Option<String>,
    join_token_file: Option<PathBuf>,
    log_level: Option<String>,
    workload_x509_svid_key_type: Option<String>,
    sds: Option<SdsSection>,
    disable_sds_api: Option<bool>,
    disable_workload_api: Option<bool>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Default, Deserialize)]
struct SdsSection {
    default_svid_name: Option<String>,
    default_bundle_name: Option<String>,
    default_all_bundles_name: Option<String>,
    disable_spiffe_cert_validation: Option<bool>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

const AGENT_IGNORED: &[&str] = &[
    "data_dir",
    "admin_socket_path",
    "rebootstrap_mode",
    "rebootstrap_delay",
    "log_file",
    "log_format",
    "log_selectors",
    "log_source_location",
    "allow_unauthenticated_verifiers",
    "allowed_foreign_jwt_claims",
    "availability_target",
    "x509_svid_cache_max_size",
    "jwt_svid_cache_max_size",
    "authorized_delegates",
    "profiling_enabled",
    "profiling_port",
    "profiling_freq",
    "profiling_names",
    "experimental",
];

impl AgentConfig {
    /// Reads a file; `join_token` is the flag, which counts more.
    pub fn load(path: &Path, join_token: Option<String>) -> Result<Self, ConfigError> {
        Self::parse(&file::load(path)?, join_token)
    }

    /// Whether anything is served on the socket.
    pub fn serves(&self) -> bool {
        self.serves_workload_api || self.secrets.is_some()
    }

    /// Reads HCL or JSON.
    pub fn parse(text: &str, join_token: Option<String>) -> Result<Self, ConfigError> {
        let read: FileRead = file::parse(text)?;
        check_rest("the file", &read.rest, &["telemetry"])?;
        let agent = read
            .agent
            .ok_or_else(|| ConfigError::value("agent section must be configured"))?;
        check_rest("agent", &agent.rest, AGENT_IGNORED)?;
        let name = agent
            .trust_domain
            .as_deref()
            .ok_or_else(|| ConfigError::value("trust_domain must be configured"))?;
        let trust_domain = TrustDomain::new(name.strip_prefix("spiffe://").unwrap_or(name))
            .map_err(|error| ConfigError::value(format!("could not parse trust_domain `{name}`: {error}")))?;
        if agent
            .workload_x509_svid_key_type
            .as_deref()
            .is_some_and(|kind| kind != "ec-p256")
        {
            return Err(ConfigError::value(
                "workload_x509_svid_key_type: this stand-in makes ec-p256 keys only",
            ));
        }
        let plugins = Plugins::read(read.plugins.as_ref())?;
        Ok(Self {
            trust_domain,
            server: (
                agent
                    .server_address
                    .clone()
                    .ok_or_else(|| ConfigError::value("server_address must be configured"))?,
                port("server_port", agent.server_port.as_ref(), 8081)?,
            ),
            socket: agent.socket_path.clone().unwrap_or_else(|| DEFAULT_SOCKET.into()),
            bootstrap: bootstrap(&agent)?,
            serves_workload_api: !agent.disable_workload_api.unwrap_or(false),
            secrets: secrets(&agent)?,
            node: node_proof(&agent, &plugins, join_token)?,
            workloads: workload_proofs(&plugins)?,
            health: health(read.health_checks)?,
            log_level: agent.log_level.unwrap_or_else(|| "INFO".into()),
        })
    }
}

fn bootstrap(agent: &AgentSection) -> Result<Bootstrap, ConfigError> {
    let spiffe = match agent.trust_bundle_format.as_deref() {
        None | Some("pem") => false,
        Some("spiffe") => true,
        Some(other) => {
            return Err(ConfigError::value(format!(
                "trust_bundle_format `{other}` is neither pem nor spiffe"
            )));
        }
    };
    match (&agent.trust_bundle_path, agent.insecure_bootstrap.unwrap_or(false)) {
        (Some(_), true) => Err(ConfigError::value(
            "only one of insecure_bootstrap and trust_bundle_path can be specified",
        )),
        (Some(path), false) => Ok(Bootstrap::Bundle {
            path: path.clone(),
            spiffe,
        }),
        (None, true) => Ok(Bootstrap::Insecure),
        (None, false) => Err(ConfigError::value(
            "trust_bundle_path or insecure_bootstrap must be configured",
        )),
    }
}

fn secrets(agent: &AgentSection) -> Result<Option<SecretNames>, ConfigError> {
    let default = SecretNames::default();
    let nothing = SdsSection::default();
    let read = agent.sds.as_ref().unwrap_or(&nothing);
    check_rest("sds", &read.rest, &[])?;
    let name = |given: &Option<String>, default: String| given.clone().unwrap_or(default);
    let names = SecretNames {
        svid: name(&read.default_svid_name, default.svid),
        bundle: name(&read.default_bundle_name, default.bundle),
        all_bundles: name(&read.default_all_bundles_name, default.all_bundles),
        disable_spiffe_cert_validation: read.disable_spiffe_cert_validation.unwrap_or(false),
    };
    Ok((!agent.disable_sds_api.unwrap_or(false)).then_some(names))
}

fn node_proof(agent: &AgentSection, plugins: &Plugins, flag: Option<String>) -> Result<NodeProof, ConfigError> {
    let token = match (flag, &agent.join_token, &agent.join_token_file) {
        (Some(token), ..) => Some(token),
        (None, Some(token), _) => Some(token.clone()),
        (None, None, Some(path)) => Some(file::load(path)?.trim().to_owned()),
        (None, None, None) => None,
    };
    if let Some(token) = token {
        return Ok(NodeProof::JoinToken(token));
    }
    match plugins.of("NodeAttestor").next() {
        Some(("k8s_psat", data)) => {
            let cluster = data.get("cluster").and_then(Value::as_str).unwrap_or_default();
            if cluster.is_empty() {
                return Err(ConfigError::value("k8s_psat: configuration missing cluster"));
            }
            let token = data.get("token_path").and_then(Value::as_str).unwrap_or(DEFAULT_TOKEN);
            Ok(NodeProof::K8sPsat {
                cluster: cluster.into(),
                token: token.into(),
            })
        }
        Some(("join_token", _)) => Err(ConfigError::value(
            "join_token: give the token with -joinToken or join_token",
        )),
        Some((other, _)) => Err(ConfigError::value(format!(
            "NodeAttestor `{other}`: this stand-in has `k8s_psat` and `join_token`"
        ))),
        None => Err(ConfigError::value("plugins: a NodeAttestor must be configured")),
    }
}

fn workload_proofs(plugins: &Plugins) -> Result<Vec<WorkloadProof>, ConfigError> {
    for kind in plugins.kinds() {
        if !["KeyManager", "NodeAttestor", "WorkloadAttestor"].contains(&kind) {
            return Err(ConfigError::value(format!(
                "plugins: this stand-in has no {kind}; it has KeyManager, NodeAttestor and WorkloadAttestor"
            )));
        }
    }
    for (name, _) in plugins.of("KeyManager") {
        if name != "memory" {
            return Err(ConfigError::value(format!(
                "KeyManager `{name}`: this stand-in of the agent has `memory` only, and attests again when it starts"
            )));
        }
    }
    let mut proofs = Vec::new();
    for (name, data) in plugins.of("WorkloadAttestor") {
        proofs.push(match name {
            "k8s" => WorkloadProof::K8s,
            "unix" => WorkloadProof::Unix,
            other => {
                return Err(ConfigError::value(format!(
                    "WorkloadAttestor `{other}`: this stand-in has `k8s` and `unix`"
                )));
            }
        });
        if data.as_object().is_some_and(|data| !data.is_empty()) {
            tracing::warn!(attestor = name, "this stand-in does not act on the attestor's settings");
        }
    }
    if proofs.is_empty() {
        return Err(ConfigError::value("plugins: a WorkloadAttestor must be configured"));
    }
    Ok(proofs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: &str = r#"
        agent {
            data_dir = "/run/spire"
            log_level = "DEBUG"
            server_address = "spire-server"
            server_port = "8081"
            socket_path = "/run/spire/sockets/agent.sock"
            trust_bundle_path = "/run/spire/bundle/bundle.crt"
            trust_domain = "shop.test"
        }
        plugins {
            NodeAttestor "k8s_psat" {
                plugin_data {
                    cluster = "demo-cluster"
                }
            }
            KeyManager "memory" {
                plugin_data {
                }
            }
            WorkloadAttestor "k8s" {
                plugin_data {
                    skip_kubelet_verification = true
                }
            }
            WorkloadAttestor "unix" {
                plugin_data {
                }
            }
        }
    "#;

    #[test]
    fn the_file_that_spires_documents_show_is_read() {
        let config = AgentConfig::parse(DOCUMENTED, None).unwrap();
        assert_eq!(config.server, ("spire-server".into(), 8081));
        assert_eq!(
            config.node,
            NodeProof::K8sPsat {
                cluster: "demo-cluster".into(),
                token: DEFAULT_TOKEN.into()
            }
        );
        assert_eq!(config.workloads, [WorkloadProof::K8s, WorkloadProof::Unix]);
        assert_eq!(
            config.bootstrap,
            Bootstrap::Bundle {
                path: "/run/spire/bundle/bundle.crt".into(),
                spiffe: false
            }
        );
        let token = AgentConfig::parse(DOCUMENTED, Some("t".into())).unwrap().node;
        assert_eq!(token, NodeProof::JoinToken("t".into()));
    }

    #[test]
    fn secret_discovery_has_spires_names_unless_others_are_set() {
        let config = AgentConfig::parse(DOCUMENTED, None).unwrap();
        assert!(config.serves_workload_api && config.serves());
        assert_eq!(config.secrets, Some(SecretNames::default()));
        let with =
            |text: &str| AgentConfig::parse(&DOCUMENTED.replacen("agent {", &format!("agent {{\n{text}"), 1), None);
        let set = with(
            "sds {\n default_svid_name = \"own\"\n default_bundle_name = \"null\"\n default_all_bundles_name = \"ROOTCA\"\n}",
        );
        let names = set.unwrap().secrets.unwrap();
        assert_eq!(
            (names.svid.as_str(), names.bundle.as_str(), names.all_bundles.as_str()),
            ("own", "null", "ROOTCA")
        );
        let error = with("sds {\n default_name = \"x\"\n}").unwrap_err().to_string();
        assert!(error.contains("default_name"), "{error}");
        let neither = with("disable_sds_api = true\ndisable_workload_api = true").unwrap();
        assert!(neither.secrets.is_none() && !neither.serves());
    }

    #[test]
    fn an_agent_that_would_believe_anybody_says_so_itself() {
        let text = DOCUMENTED.replace("trust_bundle_path = \"/run/spire/bundle/bundle.crt\"", "");
        let error = AgentConfig::parse(&text, None).unwrap_err().to_string();
        assert!(error.contains("insecure_bootstrap"), "{error}");
    }
}
