//! The configuration file: `ControllerManagerConfig`, as SPIRE's controller manager documents it.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use ztlab_identity::TrustDomain;

use super::{
    plan::Scope,
    render::{Cluster, PARENT},
    template::{Template, TemplateError},
};

/// Largest file, in bytes.
const LARGEST: usize = 1 << 20;
/// SPIRE's default for the interval between reconciliations without a cause.
const INTERVAL: Duration = Duration::from_secs(10);
/// SPIRE's default for the server's admin socket.
const SOCKET: &str = "/spire-server/api.sock";
/// SPIRE's default for the namespaces that are left out.
const IGNORED: [&str; 3] = ["kube-system", "kube-public", "spire-system"];

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is too large.
    #[error("the configuration has {0} bytes, more than {LARGEST}")]
    Large(usize),
    /// It does not read.
    #[error("unable to decode the configuration: {0}")]
    Syntax(String),
    /// It is another kind of file.
    #[error(
        "the configuration is a `{0}`; apiVersion spire.spiffe.io/v1alpha1, kind ControllerManagerConfig is needed"
    )]
    Kind(String),
    /// Something is missing.
    #[error("{0} is required configuration")]
    Missing(&'static str),
    /// Something is wrong.
    #[error("{field}: {why}")]
    Value {
        /// Which.
        field: &'static str,
        /// Why.
        why: String,
    },
    /// This stand-in does not do it.
    #[error("{0}: this stand-in of the controller manager does not have it; leave it out")]
    Unsupported(String),
    /// The parent's template.
    #[error("parentIDTemplate: {0}")]
    Parent(#[from] TemplateError),
}

/// A configuration that was checked.
#[derive(Debug)]
pub struct Config {
    /// What is acted on.
    pub scope: Scope,
    /// How often everything is gone through without a cause.
    pub interval: Duration,
    /// The server's admin socket.
    pub socket: PathBuf,
    /// Where `/healthz` and `/readyz` are answered.
    pub health: Option<String>,
    /// `debug`, `info`, `warn` or `error`.
    pub log_level: String,
    /// Whether ClusterSPIFFEIDs are acted on.
    pub cluster_spiffe_ids: bool,
    /// Whether ClusterStaticEntries are acted on.
    pub static_entries: bool,
    /// Whether ClusterFederatedTrustDomains are looked at.
    pub federated: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileRead {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    cluster_name: String,
    #[serde(default)]
    cluster_domain: String,
    #[serde(default)]
    trust_domain: String,
    ignore_namespaces: Option<Vec<String>>,
    gc_interval: Option<Value>,
    #[serde(rename = "spireServerSocketPath")]
    socket: Option<PathBuf>,
    log_level: Option<String>,
    #[serde(default)]
    health: HealthSection,
    #[serde(default)]
    class_name: String,
    #[serde(default)]
    watch_classless: bool,
    #[serde(rename = "parentIDTemplate")]
    parent: Option<String>,
    reconcile: Option<ReconcileSection>,
    #[serde(rename = "entryIDPrefix", default)]
    prefix: String,
    #[serde(rename = "entryIDPrefixCleanup")]
    cleanup: Option<String>,
    leader_election: Option<LeaderSection>,
    #[serde(default)]
    filter_by_class_name: bool,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct HealthSection {
    health_probe_bind_address: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct LeaderSection {
    leader_elect: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReconcileSection {
    #[serde(rename = "clusterSPIFFEIDs")]
    cluster_spiffe_ids: bool,
    #[serde(rename = "clusterStaticEntries")]
    static_entries: bool,
    #[serde(rename = "clusterFederatedTrustDomains")]
    federated: bool,
}

/// What SPIRE's has and makes no difference here.
const WITHOUT_EFFECT: &[&str] = &[
    "metadata",
    "metrics",
    "webhook",
    "validatingWebhookConfigurationName",
    "logEncoding",
    "grpc",
    "gracefulShutDown",
    "syncPeriod",
    "controller",
    "enableEntryRenderCache",
    "entryRenderCacheSize",
];

impl Config {
    /// Reads a file's text. `detected` is the DNS domain that the cluster seems to have, for a file that names none.
    ///
    /// # Errors
    /// When something is missing or wrong, or this stand-in does not have it.
    pub fn parse(text: &str, detected: impl FnOnce() -> Option<String>) -> Result<Self, ConfigError> {
        if text.len() > LARGEST {
            return Err(ConfigError::Large(text.len()));
        }
        let read: FileRead = serde_yaml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        if read.api_version != "spire.spiffe.io/v1alpha1" || read.kind != "ControllerManagerConfig" {
            return Err(ConfigError::Kind(format!("{} {}", read.api_version, read.kind)));
        }
        if let Some(field) = read.rest.keys().find(|field| !WITHOUT_EFFECT.contains(&field.as_str())) {
            return Err(ConfigError::Unsupported(field.clone()));
        }
        if read.filter_by_class_name {
            return Err(ConfigError::Unsupported("filterByClassName".into()));
        }
        if read.leader_election.is_some_and(|leader| leader.leader_elect) {
            tracing::warn!("leaderElection: this stand-in does not elect a leader; run one replica");
        }
        let reconcile = read.reconcile.unwrap_or(ReconcileSection {
            cluster_spiffe_ids: true,
            static_entries: true,
            federated: true,
        });
        Ok(Self {
            interval: interval(read.gc_interval.as_ref())?,
            socket: read.socket.clone().unwrap_or_else(|| SOCKET.into()),
            health: Some(read.health.health_probe_bind_address.clone())
                .filter(|address| !["", "0"].contains(&address.as_str())),
            log_level: log_level(read.log_level.as_deref())?,
            cluster_spiffe_ids: reconcile.cluster_spiffe_ids,
            static_entries: reconcile.static_entries,
            federated: reconcile.federated,
            scope: Scope {
                ignored_namespaces: ignored(read.ignore_namespaces.as_deref())?,
                class_name: read.class_name,
                watch_classless: read.watch_classless,
                prefix: dotted(read.prefix.clone()),
                cleanup: cleanup(read.cleanup, &read.prefix)?,
                cluster: Cluster {
                    trust_domain: trust_domain(&read.trust_domain)?,
                    name: Some(read.cluster_name)
                        .filter(|name| !name.is_empty())
                        .ok_or(ConfigError::Missing("clusterName"))?,
                    domain: Some(read.cluster_domain)
                        .filter(|domain| !domain.is_empty())
                        .or_else(detected)
                        .unwrap_or_default(),
                    parent: Template::parse(read.parent.as_deref().filter(|text| !text.is_empty()).unwrap_or(PARENT))?,
                },
            },
        })
    }
}

fn trust_domain(name: &str) -> Result<TrustDomain, ConfigError> {
    if name.is_empty() {
        return Err(ConfigError::Missing("trustDomain"));
    }
    TrustDomain::new(name).map_err(|error| ConfigError::Value {
        field: "trustDomain",
        why: error.to_string(),
    })
}

/// As Go writes durations, or a number of nanoseconds.
fn interval(value: Option<&Value>) -> Result<Duration, ConfigError> {
    let read = match value {
        None => Some(INTERVAL),
        Some(Value::Number(nanoseconds)) => nanoseconds.as_u64().map(Duration::from_nanos),
        Some(Value::String(text)) => super::duration(text),
        Some(_) => None,
    };
    let read = read.ok_or_else(|| ConfigError::Value {
        field: "gcInterval",
        why: "no duration; write one as Go does, as `10s`".into(),
    })?;
    Ok(if read.is_zero() { INTERVAL } else { read })
}

fn log_level(level: Option<&str>) -> Result<String, ConfigError> {
    match level.unwrap_or("info") {
        level @ ("debug" | "info" | "warn" | "error") => Ok(level.to_owned()),
        other => Err(ConfigError::Value {
            field: "logLevel",
            why: format!("`{other}` is none of debug, info, warn and error"),
        }),
    }
}

fn ignored(namespaces: Option<&[String]>) -> Result<Vec<Regex>, ConfigError> {
    let read = |text: &str| {
        Regex::new(text).map_err(|error| ConfigError::Value {
            field: "ignoreNamespaces",
            why: error.to_string(),
        })
    };
    match namespaces {
        Some(namespaces) => namespaces.iter().map(|text| read(text)).collect(),
        None => IGNORED.iter().map(|text| read(text)).collect(),
    }
}

fn cleanup(cleanup: Option<String>, prefix: &str) -> Result<Option<String>, ConfigError> {
    let cleanup = cleanup.map(dotted);
    if !prefix.is_empty() && cleanup.as_deref() == Some(&dotted(prefix.to_owned())) {
        return Err(ConfigError::Value {
            field: "entryIDPrefixCleanup",
            why: "it can not be the same value as entryIDPrefix".into(),
        });
    }
    Ok(cleanup)
}

fn dotted(prefix: String) -> String {
    if prefix.is_empty() || prefix.ends_with('.') {
        return prefix;
    }
    prefix + "."
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "apiVersion: spire.spiffe.io/v1alpha1\nkind: ControllerManagerConfig\n\
                           clusterName: demo\ntrustDomain: shop.test\n";

    fn parse(more: &str) -> Result<Config, ConfigError> {
        Config::parse(&format!("{MINIMAL}{more}"), || Some("cluster.local".into()))
    }

    #[test]
    fn what_is_not_said_is_as_spire_documents_it() {
        let config = parse("").unwrap();
        assert_eq!(config.interval, Duration::from_secs(10));
        assert_eq!(config.socket, PathBuf::from("/spire-server/api.sock"));
        let ignored: Vec<&str> = config.scope.ignored_namespaces.iter().map(Regex::as_str).collect();
        assert_eq!(ignored, IGNORED);
        assert_eq!(config.scope.cluster.domain, "cluster.local");
        assert!(config.cluster_spiffe_ids && config.static_entries && config.federated && config.health.is_none());
        assert_eq!(config.scope.prefix, "");
    }

    #[test]
    fn a_file_as_the_charts_write_it_is_read() {
        let config = parse(
            "metadata: {name: x, namespace: spire}\nmetrics: {bindAddress: '0.0.0.0:8082'}\n\
             health: {healthProbeBindAddress: '0.0.0.0:8083'}\ngcInterval: 5s\nlogLevel: info\nentryIDPrefix: demo\n\
             leaderElection: {leaderElect: true, resourceName: x.spiffe.io}\nignoreNamespaces: [kube-.*]\n\
             spireServerSocketPath: /tmp/spire-server/private/api.sock\nclassName: a\nwatchClassless: true\nfilterByClassName: false\n\
             parentIDTemplate: ''\nreconcile: {clusterSPIFFEIDs: true, clusterStaticEntries: false}\n",
        )
        .unwrap();
        assert_eq!(config.scope.prefix, "demo.");
        assert_eq!(config.health.as_deref(), Some("0.0.0.0:8083"));
        assert_eq!(config.interval, Duration::from_secs(5));
        assert!(config.cluster_spiffe_ids && !config.static_entries && !config.federated);
        assert_eq!(
            parse("gcInterval: 2000000000").unwrap().interval,
            Duration::from_secs(2)
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (more, says) in [
            ("staticManifestPath: /x", "staticManifestPath: this stand-in"),
            ("cacheNamespaces: {a: {}}", "cacheNamespaces: this stand-in"),
            ("filterByClassName: true", "filterByClassName: this stand-in"),
            ("nonsense: 1", "nonsense"),
            ("gcInterval: soon", "gcInterval"),
            ("ignoreNamespaces: ['(']", "ignoreNamespaces"),
            ("logLevel: loud", "logLevel"),
            ("parentIDTemplate: '{{'", "parentIDTemplate"),
            ("entryIDPrefix: a\nentryIDPrefixCleanup: a", "entryIDPrefixCleanup"),
        ] {
            let error = parse(more).unwrap_err().to_string();
            assert!(error.contains(says), "{more}: {error}");
        }
        for (field, text) in [
            ("clusterName: demo\n", "clusterName"),
            ("trustDomain: shop.test\n", "trustDomain"),
        ] {
            let error = Config::parse(&MINIMAL.replace(field, ""), || None)
                .unwrap_err()
                .to_string();
            assert!(error.contains(text), "{error}");
        }
        assert!(Config::parse("kind: Pod", || None).is_err());
        assert!(Config::parse(&"#".repeat(LARGEST + 1), || None).is_err());
    }
}
