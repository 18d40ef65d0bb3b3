//! Who calls, and whether they may: every method is listed here with who may call it; what is not listed nobody may.

use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::{Either, Ready, ready};
use prost::Message;
use tonic::{Code, Request, Status, body::Body};
use tower::{Layer, Service};
use ztlab_identity::SpiffeId;

use super::Core;
use crate::{
    api::types::{PermissionDeniedDetails, permission_denied_details::Reason},
    transport::Peer,
};

/// Who made a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A process on this machine, on the admin socket.
    Local,
    /// A TLS client without certificate.
    Anonymous,
    /// A TLS client with a verified SVID.
    Known(Peer),
}

/// Somebody on this machine.
const LOCAL: u8 = 1;
/// The holder of an entry with `admin`.
const ADMIN: u8 = 2;
/// An attested agent.
const AGENT: u8 = 4;
/// Everybody, without certificate too.
const ANY: u8 = 8;

const AGENT_API: &str = "/spire.api.server.agent.v1.Agent/";
const BUNDLE_API: &str = "/spire.api.server.bundle.v1.Bundle/";
const ENTRY_API: &str = "/spire.api.server.entry.v1.Entry/";
const SVID_API: &str = "/spire.api.server.svid.v1.SVID/";
const TRUST_DOMAIN_API: &str = "/spire.api.server.trustdomain.v1.TrustDomain/";
const LOCAL_AUTHORITY_API: &str = "/spire.api.server.localauthority.v1.LocalAuthority/";
const HEALTH_API: &str = "/grpc.health.v1.Health/";

/// Who may call what, as SPIRE's default policy has it.
const POLICY: &[(&str, &[&str], u8)] = &[
    (
        AGENT_API,
        &[
            "CountAgents",
            "ListAgents",
            "GetAgent",
            "DeleteAgent",
            "BanAgent",
            "CreateJoinToken",
        ],
        LOCAL | ADMIN,
    ),
    (AGENT_API, &["AttestAgent"], ANY),
    (AGENT_API, &["RenewAgent", "PostStatus"], AGENT),
    (BUNDLE_API, &["GetBundle"], ANY),
    (BUNDLE_API, &["GetFederatedBundle"], LOCAL | ADMIN | AGENT),
    (
        BUNDLE_API,
        &[
            "CountBundles",
            "AppendBundle",
            "ListFederatedBundles",
            "BatchCreateFederatedBundle",
            "BatchUpdateFederatedBundle",
            "BatchSetFederatedBundle",
            "BatchDeleteFederatedBundle",
        ],
        LOCAL | ADMIN,
    ),
    (ENTRY_API, &["GetAuthorizedEntries", "SyncAuthorizedEntries"], AGENT),
    (
        ENTRY_API,
        &[
            "CountEntries",
            "ListEntries",
            "GetEntry",
            "BatchCreateEntry",
            "BatchUpdateEntry",
            "BatchDeleteEntry",
        ],
        LOCAL | ADMIN,
    ),
    (SVID_API, &["MintX509SVID", "MintJWTSVID"], LOCAL | ADMIN),
    (SVID_API, &["BatchNewX509SVID", "NewJWTSVID"], AGENT),
    (
        TRUST_DOMAIN_API,
        &[
            "ListFederationRelationships",
            "GetFederationRelationship",
            "BatchCreateFederationRelationship",
            "BatchUpdateFederationRelationship",
            "BatchDeleteFederationRelationship",
            "RefreshBundle",
        ],
        LOCAL | ADMIN,
    ),
    (
        LOCAL_AUTHORITY_API,
        &[
            "GetJWTAuthorityState",
            "PrepareJWTAuthority",
            "ActivateJWTAuthority",
            "TaintJWTAuthority",
            "RevokeJWTAuthority",
            "GetX509AuthorityState",
            "PrepareX509Authority",
            "ActivateX509Authority",
            "TaintX509Authority",
            "RevokeX509Authority",
        ],
        LOCAL | ADMIN,
    ),
    (HEALTH_API, &["Check", "Watch"], LOCAL),
];

/// Which listener a call came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// The admin socket.
    Admin,
    /// TLS.
    Agents,
}

/// Puts the [`Caller`] into each request that is allowed, and answers the others.
#[derive(Clone)]
pub struct AuthorizationLayer {
    core: Arc<Core>,
    front: Front,
    policy: Arc<BTreeMap<String, u8>>,
}

impl AuthorizationLayer {
    /// For calls by `front`.
    pub fn new(core: Arc<Core>, front: Front) -> Self {
        let policy = POLICY
            .iter()
            .flat_map(|(api, methods, may)| methods.iter().map(move |method| (format!("{api}{method}"), *may)))
            .collect();
        Self {
            core,
            front,
            policy: Arc::new(policy),
        }
    }

    fn admit(&self, path: &str, peer: Option<&Option<Peer>>) -> Result<Caller, Status> {
        let may = self.policy.get(path).copied().unwrap_or(0);
        let caller = match (self.front, peer) {
            (Front::Admin, _) => Caller::Local,
            (Front::Agents, Some(Some(peer))) => Caller::Known(peer.clone()),
            (Front::Agents, _) => Caller::Anonymous,
        };
        if may & ANY != 0 {
            return Ok(caller);
        }
        let denied = || Status::permission_denied(format!("authorization denied for method {path}"));
        match &caller {
            Caller::Local if may & LOCAL != 0 => Ok(caller),
            Caller::Known(peer) if may & ADMIN != 0 && self.core.is_admin(&peer.id) => Ok(caller),
            Caller::Known(peer) if may & AGENT != 0 => self.core.admit_agent(peer).map(|()| caller.clone()),
            _ => Err(denied()),
        }
    }
}

impl Core {
    fn is_admin(&self, id: &SpiffeId) -> bool {
        let now = self.clock.now();
        self.store.read(|state| {
            state
                .entries
                .values()
                .any(|entry| entry.admin && entry.spiffe_id == *id && (entry.expires_at == 0 || entry.expires_at > now))
        })
    }

    /// Whether the caller is an agent whose SVID counts. The first call with a renewed SVID ends the one before.
    fn admit_agent(&self, peer: &Peer) -> Result<(), Status> {
        let id = &peer.id;
        if self.clock.now() > peer.not_after {
            return Err(denied(Reason::AgentExpired, format!("agent \"{id}\" SVID is expired")));
        }
        let Some(agent) = self.store.read(|state| state.agents.get(id).cloned()) else {
            return Err(denied(
                Reason::AgentNotAttested,
                format!("agent \"{id}\" is not attested"),
            ));
        };
        if agent.banned() {
            return Err(denied(Reason::AgentBanned, format!("agent \"{id}\" is banned")));
        }
        if agent.serial == peer.serial {
            return Ok(());
        }
        if agent.new_serial == peer.serial && !agent.new_serial.is_empty() {
            return self
                .store
                .update(|state| {
                    if let Some(agent) = state.agents.get_mut(id) {
                        agent.serial = std::mem::take(&mut agent.new_serial);
                        agent.expires_at = peer.not_after;
                    }
                    Ok(())
                })
                .map_err(Status::from);
        }
        Err(denied(
            Reason::AgentNotActive,
            format!(
                "agent \"{id}\" expected to have serial number \"{}\"; has \"{}\"",
                agent.serial, peer.serial
            ),
        ))
    }
}

/// A refusal that tells an agent whether to attest anew.
pub fn denied(reason: Reason, message: String) -> Status {
    let detail = PermissionDeniedDetails { reason: reason.into() };
    let details = RpcStatus {
        code: Code::PermissionDenied as i32,
        message: message.clone(),
        details: vec![prost_types::Any {
            type_url: REASON_URL.into(),
            value: detail.encode_to_vec(),
        }],
    };
    Status::with_details(Code::PermissionDenied, message, details.encode_to_vec().into())
}

/// Why an agent was refused, where the server says so.
pub fn reason(status: &Status) -> Option<Reason> {
    let details = RpcStatus::decode(status.details()).ok()?;
    let any = details.details.iter().find(|any| any.type_url == REASON_URL)?;
    Some(PermissionDeniedDetails::decode(any.value.as_slice()).ok()?.reason())
}

const REASON_URL: &str = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";

/// `google.rpc.Status`, which gRPC's details are wrapped in.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

impl<S> Layer<S> for AuthorizationLayer {
    type Service = Authorization<S>;

    fn layer(&self, inner: S) -> Authorization<S> {
        Authorization {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service behind the [`AuthorizationLayer`].
#[derive(Clone)]
pub struct Authorization<S> {
    inner: S,
    layer: AuthorizationLayer,
}

impl<S, B> Service<http::Request<B>> for Authorization<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Option<Peer>>();
        match self.layer.admit(request.uri().path(), peer) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(self.inner.call(request))
            }
            Err(status) => {
                tracing::warn!(
                    method = request.uri().path(),
                    reason = status.message(),
                    "a call was refused"
                );
                Either::Right(ready(Ok(status.into_http())))
            }
        }
    }
}

/// The agent that made a call which only agents may make.
pub fn calling_agent<T>(request: &Request<T>) -> Result<SpiffeId, Status> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Known(peer)) => Ok(peer.id.clone()),
        _ => Err(Status::permission_denied("only an agent may call this")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_survive_the_wire() {
        let status = denied(Reason::AgentBanned, "agent is banned".into());
        assert_eq!(reason(&status), Some(Reason::AgentBanned));
        assert_eq!(reason(&Status::permission_denied("no")), None);
    }

    #[test]
    fn no_method_is_listed_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for (api, methods, _) in POLICY {
            for method in *methods {
                assert!(seen.insert(format!("{api}{method}")), "{api}{method}");
            }
        }
    }
}
