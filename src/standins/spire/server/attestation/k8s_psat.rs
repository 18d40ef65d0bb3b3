//! `k8s_psat`: an agent shows the projected service-account token of its pod, which the API server's TokenReview judges.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    core::v1::{Node, Pod},
};
use kube::{
    api::{Api, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::Deserialize;
use tonic::Code;
use ztlab_identity::{Path, SpiffeId, TrustDomain};

use super::{Attested, NodeAttestor};
use crate::{refusal::Refusal, store::Selector};

/// The type's name.
pub const TYPE: &str = "k8s_psat";
/// Longest payload, in bytes: more than any token.
const LONGEST: usize = 64 * 1024;
/// Where a TokenReview says which pod a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Which agents of a cluster are let in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    /// `namespace:name` of the service accounts that agents run as.
    pub service_accounts: BTreeSet<String>,
    /// Whom the token has to be for; nobody named is the API server itself.
    pub audience: Vec<String>,
    /// Labels of the node that become selectors.
    pub node_labels: BTreeSet<String>,
    /// Labels of the agent's pod that become selectors.
    pub pod_labels: BTreeSet<String>,
    /// Whether an agent is named after its pod, not after its node: then there may be several on one.
    pub named_by_pod: bool,
    /// How its API server is reached; none for that of the cluster that this runs in.
    pub kube_config: Option<PathBuf>,
}

/// What the API server says of a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Review {
    /// Whether it is valid, now and for the audience.
    pub authenticated: bool,
    /// `system:serviceaccount:namespace:name`.
    pub username: String,
    /// What else is known of the user.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The pod that an agent runs in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentPod {
    /// Its uid.
    pub uid: String,
    /// The node it was bound to.
    pub node: String,
    /// The node's address.
    pub host_ip: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// The node that an agent runs on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentNode {
    /// Its uid.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What attestation asks a cluster's API server.
#[async_trait::async_trait]
pub trait ApiServer: Send + Sync {
    /// Judges a token.
    async fn review(&self, token: &str, audiences: &[String]) -> Result<Review, String>;
    /// Looks at a pod.
    async fn pod(&self, namespace: &str, name: &str) -> Result<AgentPod, String>;
    /// Looks at a node.
    async fn node(&self, name: &str) -> Result<AgentNode, String>;
}

/// Attests the agents of some clusters.
pub struct Psat {
    /// Whose agents.
    pub trust_domain: TrustDomain,
    /// By the cluster's name, each with its API server.
    pub clusters: BTreeMap<String, (Cluster, Arc<dyn ApiServer>)>,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    token: String,
}

#[async_trait::async_trait]
impl NodeAttestor for Psat {
    async fn attest(&self, payload: &[u8]) -> Result<Attested, Refusal> {
        if payload.len() > LONGEST {
            return Err(Refusal::invalid(format!(
                "a payload of {} bytes is longer than any token",
                payload.len()
            )));
        }
        let payload: Payload = serde_json::from_slice(payload)
            .map_err(|error| Refusal::invalid(format!("failed to unmarshal data payload: {error}")))?;
        if payload.cluster.is_empty() {
            return Err(Refusal::invalid("missing cluster in attestation data"));
        }
        if payload.token.is_empty() {
            return Err(Refusal::invalid("missing token in attestation data"));
        }
        let name = &payload.cluster;
        let (cluster, api) = self
            .clusters
            .get(name)
            .ok_or_else(|| Refusal::invalid(format!("not configured for cluster \"{name}\"")))?;
        let review = api.review(&payload.token, &cluster.audience).await.map_err(|error| {
            Refusal::internal(format!(
                "unable to validate token with TokenReview API for cluster \"{name}\": {error}"
            ))
        })?;
        if !review.authenticated {
            return Err(Refusal::new(
                Code::PermissionDenied,
                format!("token not authenticated according to TokenReview API for cluster \"{name}\""),
            ));
        }
        self.judge(name, cluster, api.as_ref(), &review).await
    }
}

impl Psat {
    async fn judge(
        &self,
        name: &str,
        cluster: &Cluster,
        api: &dyn ApiServer,
        review: &Review,
    ) -> Result<Attested, Refusal> {
        let denied = |what: String| Refusal::new(Code::PermissionDenied, what);
        let broken = |what: &str, error: &str| Refusal::internal(format!("{what} for cluster \"{name}\": {error}"));
        let (namespace, account) = review
            .username
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'))
            .ok_or_else(|| denied(format!("\"{}\" is no service account", review.username)))?;
        if !cluster.service_accounts.contains(&format!("{namespace}:{account}")) {
            return Err(denied(format!(
                "\"{namespace}:{account}\" is not an allowed service account for cluster \"{name}\""
            )));
        }
        let bound = |key: &str| match review.extra.get(key).map(Vec::as_slice) {
            Some([one]) if !one.is_empty() => Ok(one.clone()),
            _ => Err(broken("the token is not bound to a pod", key)),
        };
        let (pod_name, pod_uid) = (bound(POD_NAME)?, bound(POD_UID)?);
        let pod = api
            .pod(namespace, &pod_name)
            .await
            .map_err(|error| broken("failed to get pod from k8s API server", &error))?;
        if pod.uid != pod_uid {
            return Err(denied(format!(
                "pod UID mismatch for pod \"{pod_name}\" in cluster \"{name}\": token bound to pod UID \"{pod_uid}\""
            )));
        }
        let node = api
            .node(&pod.node)
            .await
            .map_err(|error| broken("failed to get node from k8s API server", &error))?;
        if node.uid.is_empty() {
            return Err(broken("node UID is empty", &pod.node));
        }
        let mut values = vec![
            format!("cluster:{name}"),
            format!("agent_ns:{namespace}"),
            format!("agent_sa:{account}"),
            format!("agent_pod_name:{pod_name}"),
            format!("agent_pod_uid:{pod_uid}"),
            format!("agent_node_ip:{}", pod.host_ip),
            format!("agent_node_name:{}", pod.node),
            format!("agent_node_uid:{}", node.uid),
        ];
        let listed = |labels: &BTreeMap<String, String>, keys: &BTreeSet<String>, kind: &str| -> Vec<String> {
            labels
                .iter()
                .filter(|(key, _)| keys.contains(*key))
                .map(|(key, value)| format!("{kind}:{key}:{value}"))
                .collect()
        };
        values.extend(listed(&node.labels, &cluster.node_labels, "agent_node_label"));
        values.extend(listed(&pod.labels, &cluster.pod_labels, "agent_pod_label"));
        let uid = if cluster.named_by_pod { &pod_uid } else { &node.uid };
        let id = Path::from_segments(["spire", "agent", TYPE, name, uid])
            .and_then(|path| SpiffeId::new(self.trust_domain.clone(), path))
            .map_err(|error| Refusal::internal(format!("no agent id can be made: {error}")))?;
        let selectors = values.into_iter().map(|value| Selector::new(TYPE, value)).collect();
        Ok(Attested {
            id,
            selectors,
            can_reattest: true,
        })
    }
}

/// The API server of the cluster that this runs in.
pub struct InCluster(pub kube::Client);

#[async_trait::async_trait]
impl ApiServer for InCluster {
    async fn review(&self, token: &str, audiences: &[String]) -> Result<Review, String> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                // Without any, the API server looks whether the token is for itself.
                audiences: (!audiences.is_empty()).then(|| audiences.to_vec()),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.0.clone());
        let answer = api
            .create(&PostParams::default(), &review)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status.unwrap_or_default();
        if let Some(error) = status.error.filter(|error| !error.is_empty()) {
            tracing::info!(%error, "a token was not authenticated");
        }
        // An API server that knows no audiences leaves them out: then the token may be for anybody.
        let named = status.audiences.unwrap_or_default();
        let for_us = audiences.is_empty() || named.iter().any(|one| audiences.contains(one));
        let user = status.user.unwrap_or_default();
        Ok(Review {
            authenticated: status.authenticated.unwrap_or(false) && for_us,
            username: user.username.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        })
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<AgentPod, String> {
        let api: Api<Pod> = Api::namespaced(self.0.clone(), namespace);
        let pod = api.get(name).await.map_err(|error| error.to_string())?;
        Ok(AgentPod {
            uid: pod.metadata.uid.unwrap_or_default(),
            node: pod.spec.and_then(|spec| spec.node_name).unwrap_or_default(),
            host_ip: pod.status.and_then(|status| status.host_ip).unwrap_or_default(),
            labels: pod.metadata.labels.unwrap_or_default(),
        })
    }

    async fn node(&self, name: &str) -> Result<AgentNode, String> {
        let api: Api<Node> = Api::all(self.0.clone());
        let node = api.get(name).await.map_err(|error| error.to_string())?;
        Ok(AgentNode {
            uid: node.metadata.uid.unwrap_or_default(),
            labels: node.metadata.labels.unwrap_or_default(),
        })
    }
}

/// The API server that a kubeconfig names. Like SPIRE, the server reads the file anew for each question: whoever keeps its
/// credentials fresh need not start the server again.
pub struct ByFile(pub PathBuf);

impl ByFile {
    async fn connect(&self) -> Result<InCluster, String> {
        client_by_file(&self.0).await.map(InCluster)
    }
}

/// A client for the current context of a kubeconfig.
///
/// # Errors
/// What is wrong with the file, by its name.
pub async fn client_by_file(path: &std::path::Path) -> Result<kube::Client, String> {
    let wrong =
        |error: &dyn std::fmt::Display| format!("unable to create client config from {}: {error}", path.display());
    let file = Kubeconfig::read_from(path).map_err(|error| wrong(&error))?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|error| wrong(&error))?;
    kube::Client::try_from(config).map_err(|error| wrong(&error))
}

#[async_trait::async_trait]
impl ApiServer for ByFile {
    async fn review(&self, token: &str, audiences: &[String]) -> Result<Review, String> {
        self.connect().await?.review(token, audiences).await
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<AgentPod, String> {
        self.connect().await?.pod(namespace, name).await
    }

    async fn node(&self, name: &str) -> Result<AgentNode, String> {
        self.connect().await?.node(name).await
    }
}

#[cfg(test)]
#[path = "k8s_psat_tests.rs"]
mod tests;
