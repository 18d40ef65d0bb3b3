//! `spire.api.server.agent.v1.Agent`.

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use futures::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use ztlab_identity::SpiffeId;

use super::{
    Core,
    attestation::{Attested, join_token},
    authorization::{calling_agent, denied},
    page::page,
};
use crate::{
    api::{
        agent::{agent_server::Agent as AgentService, *},
        types::{self, permission_denied_details::Reason},
    },
    ca::{Leaf, LeafOf, SigningRequest},
    convert,
    entries::{self, Match, selector_match},
    refusal::Refusal,
    store::{Agent, JoinToken, Selector},
};

/// Most agents that are remembered.
const MOST_AGENTS: usize = 10_000;
/// Most join tokens that are open at a time.
const MOST_TOKENS: usize = 10_000;
/// Longest version that an agent may report, as SPIRE has it.
const LONGEST_VERSION: usize = 255;
/// Longest join token, in bytes.
const LONGEST_TOKEN: usize = 255;

/// The service.
pub struct AgentApi(pub Arc<Core>);

/// Which agents a list shows.
struct AgentFilter {
    attestation_type: String,
    selectors: Option<(BTreeSet<Selector>, Match)>,
    banned: Option<bool>,
    can_reattest: Option<bool>,
    expires_before: Option<i64>,
}

impl AgentFilter {
    fn read(
        attestation_type: &str,
        selectors: Option<&types::SelectorMatch>,
        banned: Option<bool>,
        can_reattest: Option<bool>,
        expires_before: &str,
    ) -> Result<Self, Refusal> {
        let expires_before = match expires_before {
            "" => None,
            text => Some(
                jiff::fmt::strtime::parse(
                    "%Y-%m-%d %H:%M:%S %z",
                    text.rsplit_once(' ').map_or(text, |(head, _)| head),
                )
                .and_then(|time| time.to_timestamp())
                .map_err(|error| Refusal::invalid(format!("`{text}` is no time: {error}")))?
                .as_second(),
            ),
        };
        Ok(Self {
            attestation_type: attestation_type.to_owned(),
            selectors: selectors
                .map(selector_match)
                .transpose()
                .map_err(|refusal| refusal.while_doing("failed to parse selectors"))?,
            banned,
            can_reattest,
            expires_before,
        })
    }

    fn shows(&self, agent: &Agent) -> bool {
        (self.attestation_type.is_empty() || self.attestation_type == agent.attestation_type)
            && self
                .selectors
                .as_ref()
                .is_none_or(|(asked, how)| how.holds(&agent.selectors, asked))
            && self.banned.is_none_or(|banned| banned == agent.banned())
            && self.can_reattest.is_none_or(|can| can == agent.can_reattest)
            && self.expires_before.is_none_or(|before| agent.expires_at < before)
    }
}

impl AgentApi {
    fn agent_id(&self, message: Option<&types::Spiffeid>) -> Result<SpiffeId, Refusal> {
        let named = || -> Result<SpiffeId, Refusal> {
            let id = convert::id(message)?;
            if id.trust_domain() != &self.0.trust_domain {
                return Err(Refusal::invalid(format!(
                    "\"{id}\" is not a member of trust domain \"{}\"",
                    self.0.trust_domain
                )));
            }
            if !id.path().segments().take(2).eq(["spire", "agent"]) {
                return Err(Refusal::invalid(format!(
                    "\"{id}\" is not an agent in trust domain \"{}\"; path is not in the agent namespace",
                    self.0.trust_domain
                )));
            }
            Ok(id)
        };
        named().map_err(|refusal| refusal.while_doing("invalid agent ID"))
    }

    fn sign(&self, id: &SpiffeId, csr: &[u8]) -> Result<Leaf, Refusal> {
        let request = SigningRequest::read(csr).map_err(|refusal| refusal.while_doing("failed to parse CSR"))?;
        self.0.authorities.sign_x509(&LeafOf {
            spiffe_id: id,
            public_key: &request.public_key,
            dns_names: &[],
            ttl: self.0.authorities.settings().agent_ttl,
        })
    }

    async fn attest(&self, params: &attest_agent_request::Params) -> Result<AttestAgentResponse, Refusal> {
        let malformed = |what: &str| Refusal::invalid(format!("malformed param: {what}"));
        let data = params
            .data
            .as_ref()
            .ok_or_else(|| malformed("missing attestation data"))?;
        let csr = &params
            .params
            .as_ref()
            .ok_or_else(|| malformed("missing X509-SVID parameters"))?
            .csr;
        if csr.is_empty() {
            return Err(malformed("missing CSR"));
        }
        if data.r#type.is_empty() {
            return Err(malformed("missing attestation data type"));
        }
        let attested = if data.r#type == join_token::TYPE {
            join_token::attest(&self.0, &data.payload)?
        } else {
            let attestor = self.0.attestors.get(&data.r#type).ok_or_else(|| {
                Refusal::precondition(format!(
                    "error getting node attestor: could not find node attestor type \"{}\"",
                    data.r#type
                ))
            })?;
            attestor.attest(&data.payload).await?
        };
        let leaf = self.remember(&data.r#type, &attested, csr)?;
        tracing::info!(agent = %attested.id, "agent attested");
        let svid = types::X509svid {
            cert_chain: vec![leaf.der],
            id: Some(convert::id_message(&attested.id)),
            expires_at: leaf.expires_at,
            hint: String::new(),
        };
        let result = attest_agent_response::Result {
            svid: Some(svid),
            reattestable: attested.can_reattest,
        };
        Ok(AttestAgentResponse {
            step: Some(attest_agent_response::Step::Result(result)),
        })
    }

    fn remember(&self, attestation_type: &str, attested: &Attested, csr: &[u8]) -> Result<Leaf, Refusal> {
        let known = self
            .0
            .store
            .read(|state| state.agents.get(&attested.id).map(Agent::banned));
        if known == Some(true) {
            return Err(Refusal::new(
                Code::PermissionDenied,
                "failed to attest: agent is banned",
            ));
        }
        let leaf = self.sign(&attested.id, csr)?;
        self.0.store.update(|state| {
            if state.agents.len() >= MOST_AGENTS && !state.agents.contains_key(&attested.id) {
                return Err(Refusal::exhausted(format!(
                    "there are {MOST_AGENTS} agents already; evict some"
                )));
            }
            let version = state
                .agents
                .get(&attested.id)
                .map(|agent| agent.version.clone())
                .unwrap_or_default();
            state.agents.insert(
                attested.id.clone(),
                Agent {
                    id: attested.id.clone(),
                    attestation_type: attestation_type.to_owned(),
                    serial: leaf.serial.clone(),
                    new_serial: String::new(),
                    expires_at: leaf.expires_at,
                    selectors: attested.selectors.clone(),
                    can_reattest: attested.can_reattest,
                    version,
                },
            );
            Ok(())
        })?;
        Ok(leaf)
    }
}

#[tonic::async_trait]
impl AgentService for AgentApi {
    async fn count_agents(
        &self,
        request: Request<CountAgentsRequest>,
    ) -> Result<Response<CountAgentsResponse>, Status> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let filter = AgentFilter::read(
            &filter.by_attestation_type,
            filter.by_selector_match.as_ref(),
            filter.by_banned,
            filter.by_can_reattest,
            &filter.by_expires_before,
        )?;
        let count = self
            .0
            .store
            .read(|state| state.agents.values().filter(|agent| filter.shows(agent)).count());
        Ok(Response::new(CountAgentsResponse {
            count: i32::try_from(count).unwrap_or(i32::MAX),
        }))
    }

    async fn list_agents(&self, request: Request<ListAgentsRequest>) -> Result<Response<ListAgentsResponse>, Status> {
        let request = request.into_inner();
        let filter = request.filter.unwrap_or_default();
        let filter = AgentFilter::read(
            &filter.by_attestation_type,
            filter.by_selector_match.as_ref(),
            filter.by_banned,
            filter.by_can_reattest,
            &filter.by_expires_before,
        )?;
        let (agents, next_page_token) = self.0.store.read(|state| {
            let shown = state.agents.iter().filter(|(_, agent)| filter.shows(agent));
            page(shown, request.page_size, &request.page_token, |agent| {
                convert::agent_message(agent, request.output_mask.as_ref())
            })
        });
        Ok(Response::new(ListAgentsResponse {
            agents,
            next_page_token,
        }))
    }

    async fn get_agent(&self, request: Request<GetAgentRequest>) -> Result<Response<types::Agent>, Status> {
        let request = request.into_inner();
        let id = self.agent_id(request.id.as_ref())?;
        let found = self.0.store.read(|state| {
            state
                .agents
                .get(&id)
                .map(|agent| convert::agent_message(agent, request.output_mask.as_ref()))
        });
        found
            .map(Response::new)
            .ok_or_else(|| Status::not_found("agent not found"))
    }

    async fn delete_agent(&self, request: Request<DeleteAgentRequest>) -> Result<Response<()>, Status> {
        let id = self.agent_id(request.get_ref().id.as_ref())?;
        self.0.store.update(|state| {
            state
                .agents
                .remove(&id)
                .map(|_| ())
                .ok_or_else(|| Refusal::not_found("agent not found"))
        })?;
        Ok(Response::new(()))
    }

    async fn ban_agent(&self, request: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        let id = self.agent_id(request.get_ref().id.as_ref())?;
        self.0.store.update(|state| {
            let agent = state
                .agents
                .get_mut(&id)
                .ok_or_else(|| Refusal::not_found("agent not found"))?;
            agent.serial.clear();
            agent.new_serial.clear();
            Ok(())
        })?;
        Ok(Response::new(()))
    }

    type AttestAgentStream = Pin<Box<dyn Stream<Item = Result<AttestAgentResponse, Status>> + Send>>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("failed to receive request from stream: it ended"))?;
        let Some(attest_agent_request::Step::Params(params)) = first.step else {
            return Err(Status::invalid_argument("malformed param: missing params"));
        };
        let answer = self.attest(&params).await.inspect_err(|refusal| {
            tracing::warn!(reason = %refusal, "an agent was not attested");
        })?;
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        // There is room for one, and none is in it.
        let _ = sender.try_send(Ok(answer));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn renew_agent(&self, request: Request<RenewAgentRequest>) -> Result<Response<RenewAgentResponse>, Status> {
        let id = calling_agent(&request)?;
        let can_reattest = self
            .0
            .store
            .read(|state| state.agents.get(&id).map(|agent| agent.can_reattest));
        match can_reattest {
            None => return Err(Status::not_found("agent not found")),
            Some(true) => {
                return Err(denied(
                    Reason::AgentMustReattest,
                    "agent must reattest instead of renew".into(),
                ));
            }
            Some(false) => {}
        }
        let params = request
            .into_inner()
            .params
            .ok_or_else(|| Status::invalid_argument("params cannot be nil"))?;
        let leaf = self.sign(&id, &params.csr)?;
        self.0.store.update(|state| {
            let agent = state
                .agents
                .get_mut(&id)
                .ok_or_else(|| Refusal::not_found("agent not found"))?;
            agent.new_serial.clone_from(&leaf.serial);
            Ok(())
        })?;
        let svid = types::X509svid {
            cert_chain: vec![leaf.der],
            id: Some(convert::id_message(&id)),
            expires_at: leaf.expires_at,
            hint: String::new(),
        };
        Ok(Response::new(RenewAgentResponse { svid: Some(svid) }))
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        let request = request.into_inner();
        if request.ttl < 1 {
            return Err(Status::invalid_argument("ttl is required, you must provide one"));
        }
        if request.token.len() > LONGEST_TOKEN {
            return Err(Status::invalid_argument(format!(
                "a token has {LONGEST_TOKEN} bytes at most"
            )));
        }
        let token = if request.token.is_empty() {
            entries::new_id()
        } else {
            request.token
        };
        let agent = join_token::agent_id(&self.0.trust_domain, &token)?;
        let now = self.0.clock.now();
        let expires_at = now.saturating_add(request.ttl.into());
        self.0.store.update(|state| {
            state.join_tokens.retain(|_, token| token.expires_at >= now);
            if state.join_tokens.len() >= MOST_TOKENS {
                return Err(Refusal::exhausted(format!(
                    "{MOST_TOKENS} join tokens are open already"
                )));
            }
            if state.join_tokens.contains_key(&token) {
                return Err(Refusal::new(
                    Code::AlreadyExists,
                    "failed to create token: there is one of that name",
                ));
            }
            if let Some(id) = &request.agent_id {
                let alias = types::Entry {
                    spiffe_id: Some(id.clone()),
                    parent_id: Some(convert::id_message(&agent)),
                    selectors: vec![types::Selector {
                        r#type: "spiffe_id".into(),
                        value: agent.to_string(),
                    }],
                    ..types::Entry::default()
                };
                let entry = entries::create(state, &self.0.trust_domain, &alias, now)
                    .map_err(|(refusal, _)| refusal.while_doing("failed to create join token registration entry"))?;
                state.entries.insert(entry.id.clone(), entry);
            }
            state.join_tokens.insert(token.clone(), JoinToken { expires_at });
            Ok(())
        })?;
        Ok(Response::new(types::JoinToken {
            value: token,
            expires_at,
        }))
    }

    async fn post_status(&self, request: Request<PostStatusRequest>) -> Result<Response<PostStatusResponse>, Status> {
        let id = calling_agent(&request)?;
        let version = request.into_inner().agent_version;
        if version.len() > LONGEST_VERSION {
            return Err(Status::invalid_argument(
                "agent version is too long (max 255 characters)",
            ));
        }
        self.0.store.update(|state| {
            if let Some(agent) = state.agents.get_mut(&id) {
                agent.version = version;
            }
            Ok(())
        })?;
        Ok(Response::new(PostStatusResponse {}))
    }
}
