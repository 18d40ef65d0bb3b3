//! The agent's side of the server's APIs.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    crypto::ring::sign::any_ecdsa_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use tonic::{Request, Status, transport::Channel};
use ztlab_identity::{TrustDomain, X509Bundle, X509BundleSet};

use super::{AgentError, bundle_of, keys::new_key, sync::valid_from};
use crate::{
    api::{
        agent::{self as agent_api, agent_client::AgentClient, attest_agent_request, attest_agent_response},
        bundle::{GetBundleRequest, GetFederatedBundleRequest, bundle_client::BundleClient},
        entry::{GetAuthorizedEntriesRequest, entry_client::EntryClient},
        svid::{BatchNewX509svidRequest, NewJwtsvidRequest, NewX509svidParams, svid_client::SvidClient},
        types,
    },
    clock::SharedClock,
    config::{AgentConfig, Bootstrap, NodeProof},
    server::{Core, KNOWN_REVISION, REVISION},
    transport::{self, Identity, Trust},
};

/// Longest token or bundle that is read from a file, in bytes.
const LONGEST_FILE: u64 = 1 << 20;

/// The agent's own SVID, as far as its renewal needs.
#[derive(Debug, Clone)]
pub struct Own {
    /// When it begins, in seconds of the Unix epoch: SPIRE's server dates it back.
    pub valid_from: i64,
    /// When it ends, in seconds of the Unix epoch.
    pub expires_at: i64,
    /// Whether it is renewed by attesting again.
    pub reattestable: bool,
}

/// The server, as the agent knows it.
pub struct Server {
    config: AgentConfig,
    clock: SharedClock,
    identity: Arc<Identity>,
    trust: Arc<RwLock<X509BundleSet>>,
    channel: RwLock<Option<Channel>>,
}

impl Server {
    /// A server that nothing was asked of yet.
    pub fn new(config: AgentConfig, clock: SharedClock) -> Result<Self, AgentError> {
        let mut trust = X509BundleSet::default();
        if let Bootstrap::Bundle { path, spiffe } = &config.bootstrap {
            trust.insert(read_bundle(path, *spiffe, &config.trust_domain)?);
        }
        Ok(Self {
            config,
            clock,
            identity: Arc::default(),
            trust: Arc::new(RwLock::new(trust)),
            channel: RwLock::default(),
        })
    }

    /// Believes `bundle` from now on.
    pub fn trust(&self, bundle: X509Bundle) {
        self.trust
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(bundle);
    }

    fn connect(&self) -> Result<Channel, AgentError> {
        let trust = Arc::clone(&self.trust);
        let bundles = move || trust.read().unwrap_or_else(PoisonError::into_inner).clone();
        let only = Core::own_id(&self.config.trust_domain).map_err(|refusal| AgentError::Other(refusal.to_string()))?;
        let trust = Trust {
            bundles: Box::new(bundles),
            only: Some(only),
            on_first_use: self.config.bootstrap == Bootstrap::Insecure,
            clock: Arc::clone(&self.clock),
        };
        let config = transport::client_config(Arc::clone(&self.identity), trust)
            .map_err(|error| AgentError::Other(format!("TLS cannot be set up: {error}")))?;
        let (host, port) = &self.config.server;
        Ok(transport::over_tls(host.clone(), *port, Arc::new(config)))
    }

    /// The connection that shows the agent's SVID.
    fn channel(&self) -> Result<Channel, Status> {
        let channel = self.channel.read().unwrap_or_else(PoisonError::into_inner).clone();
        channel.ok_or_else(|| Status::unavailable("the agent has not attested to the server yet"))
    }

    /// Shows `own` from now on, on a connection of its own.
    fn show(&self, chain: Vec<Vec<u8>>, pkcs8: Vec<u8>) -> Result<(), AgentError> {
        let key = any_ecdsa_type(&PrivateKeyDer::Pkcs8(pkcs8.into()))
            .map_err(|error| AgentError::Other(format!("the agent's key is unusable: {error}")))?;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        self.identity.set(Some(Arc::new(CertifiedKey::new(chain, key))));
        *self.channel.write().unwrap_or_else(PoisonError::into_inner) = Some(self.connect()?);
        Ok(())
    }

    /// Believes, besides whom it believed last, whom the bundle's file names now: after a long absence the server's
    /// authorities may be others, and whoever set the agent up keeps that file true. The server's own answer replaces both.
    fn look_at_bootstrap_again(&self) {
        let Bootstrap::Bundle { path, spiffe } = &self.config.bootstrap else {
            return;
        };
        match read_bundle(path, *spiffe, &self.config.trust_domain) {
            Ok(named) => {
                let mut trust = self.trust.write().unwrap_or_else(PoisonError::into_inner);
                let known = trust
                    .get(&self.config.trust_domain)
                    .map(|bundle| bundle.authorities().to_vec());
                let both = named.authorities().iter().cloned().chain(known.unwrap_or_default());
                trust.insert(X509Bundle::new(self.config.trust_domain.clone(), both));
            }
            Err(error) => tracing::warn!(%error, "the bundle to begin with cannot be read again"),
        }
    }

    /// Attests: proves the node, and gets the agent's SVID.
    pub async fn attest(&self) -> Result<Own, AgentError> {
        self.look_at_bootstrap_again();
        let channel = self.connect()?;
        if self.trust.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            tracing::warn!("insecure_bootstrap: the first server that answers is believed");
            let message = BundleClient::new(channel.clone())
                .get_bundle(GetBundleRequest::default())
                .await?
                .into_inner();
            let bundle = bundle_of(&message).map_err(|error| AgentError::Other(error.to_string()))?;
            if bundle.trust_domain() != &self.config.trust_domain {
                return Err(AgentError::Other(format!(
                    "the server's bundle is of trust domain {}",
                    bundle.trust_domain()
                )));
            }
            self.trust(bundle.x509().clone());
        }
        let key = new_key(None).map_err(|error| AgentError::Other(format!("no key could be made: {error}")))?;
        let params = attest_agent_request::Params {
            data: Some(self.proof()?),
            params: Some(agent_api::AgentX509svidParams { csr: key.csr }),
        };
        let request = agent_api::AttestAgentRequest {
            step: Some(attest_agent_request::Step::Params(params)),
        };
        let requests = tokio_stream::once(request);
        let mut answers = AgentClient::new(channel).attest_agent(requests).await?.into_inner();
        let step = answers.message().await?.and_then(|answer| answer.step);
        let (svid, reattestable) = match step {
            Some(attest_agent_response::Step::Result(result)) => (result.svid.unwrap_or_default(), result.reattestable),
            Some(attest_agent_response::Step::Challenge(_)) => {
                return Err(AgentError::Other(
                    "the server sent a challenge, which no attestor here answers".into(),
                ));
            }
            None => {
                return Err(AgentError::Other(
                    "the server ended the attestation without a result".into(),
                ));
            }
        };
        self.own(svid, key.pkcs8, reattestable)
    }

    /// Renews the agent's SVID without attesting again.
    pub async fn renew(&self) -> Result<Own, AgentError> {
        let key = new_key(None).map_err(|error| AgentError::Other(format!("no key could be made: {error}")))?;
        let params = Some(agent_api::AgentX509svidParams { csr: key.csr });
        let request = agent_api::RenewAgentRequest { params };
        let svid = AgentClient::new(self.channel()?)
            .renew_agent(request)
            .await?
            .into_inner()
            .svid
            .unwrap_or_default();
        self.own(svid, key.pkcs8, false)
    }

    fn own(&self, svid: types::X509svid, pkcs8: Vec<u8>, reattestable: bool) -> Result<Own, AgentError> {
        let id = crate::convert::id(svid.id.as_ref())
            .map_err(|refusal| AgentError::Other(format!("the server gave an SVID without id: {refusal}")))?;
        let valid_from = svid
            .cert_chain
            .first()
            .and_then(|leaf| valid_from(leaf))
            .ok_or_else(|| AgentError::Other(format!("the server gave an SVID for {id} that is no certificate")))?;
        self.show(svid.cert_chain, pkcs8)?;
        tracing::info!(agent = %id, expires_at = svid.expires_at, "the agent has an SVID");
        Ok(Own {
            valid_from,
            expires_at: svid.expires_at,
            reattestable,
        })
    }

    fn proof(&self) -> Result<types::AttestationData, AgentError> {
        let (kind, payload) = match &self.config.node {
            NodeProof::JoinToken(token) => ("join_token", token.clone().into_bytes()),
            NodeProof::K8sPsat { cluster, token } => {
                let token = read_text(token)?;
                let payload = serde_json::json!({ "cluster": cluster, "token": token.trim() });
                ("k8s_psat", payload.to_string().into_bytes())
            }
        };
        Ok(types::AttestationData {
            r#type: kind.into(),
            payload,
        })
    }

    /// The entries that this agent may serve, and the state's revision. A server that knows about revisions answers when
    /// there is a newer one than `known`; another answers at once and without one.
    pub async fn entries(&self, known: Option<u64>) -> Result<(Vec<types::Entry>, Option<u64>), Status> {
        let mut request = Request::new(GetAuthorizedEntriesRequest { output_mask: None });
        if let Some(known) = known {
            request.metadata_mut().insert(KNOWN_REVISION, known.into());
        }
        let answer = EntryClient::new(self.channel()?)
            .get_authorized_entries(request)
            .await?;
        let revision = answer
            .metadata()
            .get(REVISION)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Ok((answer.into_inner().entries, revision))
    }

    /// The trust domain's bundle.
    pub async fn bundle(&self) -> Result<types::Bundle, Status> {
        Ok(BundleClient::new(self.channel()?)
            .get_bundle(GetBundleRequest::default())
            .await?
            .into_inner())
    }

    /// A foreign bundle.
    pub async fn foreign_bundle(&self, trust_domain: String) -> Result<types::Bundle, Status> {
        let request = GetFederatedBundleRequest {
            trust_domain,
            output_mask: None,
        };
        Ok(BundleClient::new(self.channel()?)
            .get_federated_bundle(request)
            .await?
            .into_inner())
    }

    /// SVIDs for entries, each with its own outcome, in order.
    pub async fn new_x509(
        &self,
        params: Vec<NewX509svidParams>,
    ) -> Result<Vec<(types::Status, Option<types::X509svid>)>, Status> {
        let request = BatchNewX509svidRequest { params };
        let results = SvidClient::new(self.channel()?)
            .batch_new_x509svid(request)
            .await?
            .into_inner()
            .results;
        Ok(results
            .into_iter()
            .map(|one| (one.status.unwrap_or_default(), one.svid))
            .collect())
    }

    /// A JWT-SVID for an entry.
    pub async fn new_jwt(&self, entry_id: String, audience: Vec<String>) -> Result<types::Jwtsvid, Status> {
        let request = NewJwtsvidRequest { entry_id, audience };
        let svid = SvidClient::new(self.channel()?)
            .new_jwtsvid(request)
            .await?
            .into_inner()
            .svid;
        svid.ok_or_else(|| Status::internal("the server gave no JWT-SVID"))
    }

    /// Tells the server which program this is.
    pub async fn post_status(&self, bundle: u64, version: &str) -> Result<(), Status> {
        let request = agent_api::PostStatusRequest {
            current_bundle_serial: bundle,
            agent_version: version.into(),
        };
        AgentClient::new(self.channel()?).post_status(request).await.map(|_| ())
    }
}

fn read_text(path: &Path) -> Result<String, AgentError> {
    let unreadable = |error: std::io::Error| AgentError::File {
        path: path.into(),
        what: error.to_string(),
    };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > LONGEST_FILE {
        return Err(AgentError::File {
            path: path.into(),
            what: format!("{length} bytes are too many"),
        });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    if text.trim().is_empty() {
        return Err(AgentError::File {
            path: path.into(),
            what: "it is empty; what writes it may not have run yet".into(),
        });
    }
    Ok(text)
}

fn read_bundle(path: &Path, spiffe: bool, trust_domain: &TrustDomain) -> Result<X509Bundle, AgentError> {
    let text = read_text(path)?;
    let wrong = |what: String| AgentError::File {
        path: path.into(),
        what,
    };
    if spiffe {
        let bundle = ztlab_identity::Bundle::from_json(trust_domain.clone(), text.as_bytes())
            .map_err(|error| wrong(error.to_string()))?;
        return Ok(bundle.x509().clone());
    }
    X509Bundle::from_pem(trust_domain.clone(), text.as_bytes()).map_err(|error| wrong(error.to_string()))
}
