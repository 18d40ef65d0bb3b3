//! `spire.api.server.localauthority.v1.LocalAuthority`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::Core;
use crate::{
    api::localauthority::{local_authority_server::LocalAuthority, *},
    ca::Kind,
    refusal::Refusal,
    store::{Slot, Standing},
};

/// The service.
pub struct LocalAuthorityApi(pub Arc<Core>);

impl LocalAuthorityApi {
    fn standing(&self, kind: Kind, standing: Standing) -> Option<AuthorityState> {
        self.0.authorities.standing(kind, standing).map(shown)
    }

    fn prepare(&self, kind: Kind) -> Result<AuthorityState, Refusal> {
        self.0.authorities.prepare(kind).map(shown)
    }

    fn activate(&self, kind: Kind, id: &str) -> Result<AuthorityState, Refusal> {
        let id = given(id)?;
        let slot = self.0.authorities.activate(kind, id)?;
        self.0.renew_own()?;
        Ok(shown(slot))
    }

    fn taint(&self, kind: Kind, id: &str) -> Result<AuthorityState, Refusal> {
        self.0.authorities.taint(kind, given(id)?).map(shown)
    }

    fn revoke(&self, kind: Kind, id: &str) -> Result<AuthorityState, Refusal> {
        self.0.authorities.revoke(kind, given(id)?).map(shown)
    }
}

fn given(id: &str) -> Result<&str, Refusal> {
    if id.is_empty() {
        Err(Refusal::invalid("no authority ID provided"))
    } else {
        Ok(id)
    }
}

fn shown(slot: Slot) -> AuthorityState {
    AuthorityState {
        authority_id: slot.id,
        expires_at: slot.not_after,
        upstream_authority_subject_key_id: String::new(),
    }
}

#[tonic::async_trait]
impl LocalAuthority for LocalAuthorityApi {
    async fn get_jwt_authority_state(
        &self,
        _: Request<GetJwtAuthorityStateRequest>,
    ) -> Result<Response<GetJwtAuthorityStateResponse>, Status> {
        Ok(Response::new(GetJwtAuthorityStateResponse {
            active: self.standing(Kind::Jwt, Standing::Active),
            prepared: self.standing(Kind::Jwt, Standing::Prepared),
            old: self.standing(Kind::Jwt, Standing::Old),
        }))
    }

    async fn prepare_jwt_authority(
        &self,
        _: Request<PrepareJwtAuthorityRequest>,
    ) -> Result<Response<PrepareJwtAuthorityResponse>, Status> {
        let prepared = self.prepare(Kind::Jwt)?;
        Ok(Response::new(PrepareJwtAuthorityResponse {
            prepared_authority: Some(prepared),
        }))
    }

    async fn activate_jwt_authority(
        &self,
        request: Request<ActivateJwtAuthorityRequest>,
    ) -> Result<Response<ActivateJwtAuthorityResponse>, Status> {
        let activated = self.activate(Kind::Jwt, &request.get_ref().authority_id)?;
        Ok(Response::new(ActivateJwtAuthorityResponse {
            activated_authority: Some(activated),
        }))
    }

    async fn taint_jwt_authority(
        &self,
        request: Request<TaintJwtAuthorityRequest>,
    ) -> Result<Response<TaintJwtAuthorityResponse>, Status> {
        let tainted = self.taint(Kind::Jwt, &request.get_ref().authority_id)?;
        Ok(Response::new(TaintJwtAuthorityResponse {
            tainted_authority: Some(tainted),
        }))
    }

    async fn revoke_jwt_authority(
        &self,
        request: Request<RevokeJwtAuthorityRequest>,
    ) -> Result<Response<RevokeJwtAuthorityResponse>, Status> {
        let revoked = self.revoke(Kind::Jwt, &request.get_ref().authority_id)?;
        Ok(Response::new(RevokeJwtAuthorityResponse {
            revoked_authority: Some(revoked),
        }))
    }

    async fn get_x509_authority_state(
        &self,
        _: Request<GetX509AuthorityStateRequest>,
    ) -> Result<Response<GetX509AuthorityStateResponse>, Status> {
        Ok(Response::new(GetX509AuthorityStateResponse {
            active: self.standing(Kind::X509, Standing::Active),
            prepared: self.standing(Kind::X509, Standing::Prepared),
            old: self.standing(Kind::X509, Standing::Old),
        }))
    }

    async fn prepare_x509_authority(
        &self,
        _: Request<PrepareX509AuthorityRequest>,
    ) -> Result<Response<PrepareX509AuthorityResponse>, Status> {
        let prepared = self.prepare(Kind::X509)?;
        Ok(Response::new(PrepareX509AuthorityResponse {
            prepared_authority: Some(prepared),
        }))
    }

    async fn activate_x509_authority(
        &self,
        request: Request<ActivateX509AuthorityRequest>,
    ) -> Result<Response<ActivateX509AuthorityResponse>, Status> {
        let activated = self.activate(Kind::X509, &request.get_ref().authority_id)?;
        Ok(Response::new(ActivateX509AuthorityResponse {
            activated_authority: Some(activated),
        }))
    }

    async fn taint_x509_authority(
        &self,
        request: Request<TaintX509AuthorityRequest>,
    ) -> Result<Response<TaintX509AuthorityResponse>, Status> {
        let tainted = self.taint(Kind::X509, &request.get_ref().authority_id)?;
        Ok(Response::new(TaintX509AuthorityResponse {
            tainted_authority: Some(tainted),
        }))
    }

    async fn revoke_x509_authority(
        &self,
        request: Request<RevokeX509AuthorityRequest>,
    ) -> Result<Response<RevokeX509AuthorityResponse>, Status> {
        let revoked = self.revoke(Kind::X509, &request.get_ref().authority_id)?;
        Ok(Response::new(RevokeX509AuthorityResponse {
            revoked_authority: Some(revoked),
        }))
    }
}
