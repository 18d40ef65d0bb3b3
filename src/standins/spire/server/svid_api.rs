//! `spire.api.server.svid.v1.SVID`.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status};
use ztlab_identity::SpiffeId;

use super::{Core, authorization::calling_agent, page::MOST_ITEMS};
use crate::{
    api::{
        svid::{svid_server::Svid as SvidService, *},
        types,
    },
    ca::{LeafOf, SigningRequest},
    convert,
    entries::authorized,
    refusal::{Refusal, fine, refused},
    store::Entry,
};

/// The service.
pub struct SvidApi(pub Arc<Core>);

impl SvidApi {
    fn authorized_entry(&self, agent: &SpiffeId, id: &str) -> Result<Entry, Refusal> {
        if id.is_empty() {
            return Err(Refusal::invalid("missing entry ID"));
        }
        let now = self.0.clock.now();
        self.0
            .store
            .read(|state| {
                authorized(state, agent, now)
                    .into_iter()
                    .find(|entry| entry.id == id)
                    .cloned()
            })
            .ok_or_else(|| Refusal::not_found("entry not found or not authorized"))
    }

    fn new_x509(&self, agent: &SpiffeId, params: &NewX509svidParams) -> Result<types::X509svid, Refusal> {
        let entry = self.authorized_entry(agent, &params.entry_id)?;
        let request = SigningRequest::read(&params.csr)?;
        let ttl = match entry.x509_svid_ttl {
            0 => self.0.authorities.settings().x509_svid_ttl,
            seconds => Duration::from_secs(seconds.into()),
        };
        let of = LeafOf {
            spiffe_id: &entry.spiffe_id,
            public_key: &request.public_key,
            dns_names: &entry.dns_names,
            ttl,
        };
        self.sign(&of)
    }

    fn sign(&self, of: &LeafOf<'_>) -> Result<types::X509svid, Refusal> {
        let leaf = self.0.authorities.sign_x509(of)?;
        Ok(types::X509svid {
            cert_chain: vec![leaf.der],
            id: Some(convert::id_message(of.spiffe_id)),
            expires_at: leaf.expires_at,
            hint: String::new(),
        })
    }
}

fn seconds(ttl: i32) -> Result<Duration, Refusal> {
    u64::try_from(ttl)
        .map(Duration::from_secs)
        .map_err(|_| Refusal::invalid(format!("a TTL of {ttl} s is below zero")))
}

#[tonic::async_trait]
impl SvidService for SvidApi {
    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let message = request.into_inner();
        let request = SigningRequest::read(&message.csr)?;
        let Some(id) = request.spiffe_id else {
            return Err(Status::invalid_argument("CSR URI SAN is required"));
        };
        self.0
            .authorities
            .verify_member(&id)
            .map_err(|refusal| refusal.while_doing("CSR URI SAN is invalid"))?;
        let asked = seconds(message.ttl)?;
        let ttl = if asked.is_zero() {
            self.0.authorities.settings().x509_svid_ttl
        } else {
            asked
        };
        let of = LeafOf {
            spiffe_id: &id,
            public_key: &request.public_key,
            dns_names: &request.dns_names,
            ttl,
        };
        let svid = self
            .sign(&of)
            .map_err(|refusal| refusal.while_doing("failed to sign X509-SVID"))?;
        Ok(Response::new(MintX509svidResponse { svid: Some(svid) }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        let request = request.into_inner();
        let id = convert::id(request.id.as_ref()).map_err(|refusal| refusal.while_doing("invalid SPIFFE ID"))?;
        let (token, issued_at, expires_at) =
            self.0
                .authorities
                .sign_jwt(&id, &request.audience, seconds(request.ttl)?, false)?;
        let svid = types::Jwtsvid {
            token,
            id: Some(convert::id_message(&id)),
            expires_at,
            issued_at,
            hint: String::new(),
        };
        Ok(Response::new(MintJwtsvidResponse { svid: Some(svid) }))
    }

    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        let agent = calling_agent(&request)?;
        let params = request.into_inner().params;
        if params.is_empty() {
            return Err(Status::invalid_argument("missing parameters"));
        }
        if params.len() > MOST_ITEMS {
            return Err(Status::invalid_argument(format!(
                "a batch of {} is larger than {MOST_ITEMS}",
                params.len()
            )));
        }
        let results = params
            .iter()
            .map(|one| match self.new_x509(&agent, one) {
                Ok(svid) => batch_new_x509svid_response::Result {
                    status: Some(fine()),
                    svid: Some(svid),
                },
                Err(refusal) => batch_new_x509svid_response::Result {
                    status: Some(refused(&refusal)),
                    svid: None,
                },
            })
            .collect();
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(&self, request: Request<NewJwtsvidRequest>) -> Result<Response<NewJwtsvidResponse>, Status> {
        let agent = calling_agent(&request)?;
        let request = request.into_inner();
        let entry = self.authorized_entry(&agent, &request.entry_id)?;
        let ttl = Duration::from_secs(entry.jwt_svid_ttl.into());
        let (token, issued_at, expires_at) =
            self.0
                .authorities
                .sign_jwt(&entry.spiffe_id, &request.audience, ttl, entry.jwt_svid_include_jti)?;
        let svid = types::Jwtsvid {
            token,
            id: Some(convert::id_message(&entry.spiffe_id)),
            expires_at,
            issued_at,
            hint: entry.hint,
        };
        Ok(Response::new(NewJwtsvidResponse { svid: Some(svid) }))
    }

    async fn new_downstream_x509ca(
        &self,
        _: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        Err(Status::unimplemented(
            "nested servers are not supported by this stand-in",
        ))
    }
}
