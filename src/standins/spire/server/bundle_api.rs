//! `spire.api.server.bundle.v1.Bundle`.

use std::{collections::BTreeSet, sync::Arc};

use tonic::{Request, Response, Status};
use ztlab_identity::TrustDomain;

use super::{Core, page::page};
use crate::{
    api::{
        bundle::{batch_delete_federated_bundle_request::Mode, bundle_server::Bundle as BundleService, *},
        types,
    },
    convert,
    refusal::{Refusal, fine, refused},
    store::{Bundle, State},
};

/// Most foreign bundles that are kept.
const MOST_BUNDLES: usize = 1000;

/// The service.
pub struct BundleApi(pub Arc<Core>);

/// What to do with a bundle that is, or is not, there already.
#[derive(Clone, Copy)]
enum Write {
    Create,
    Update,
    Set,
}

impl BundleApi {
    fn write(
        &self,
        state: &mut State,
        message: &types::Bundle,
        how: Write,
        input: Option<&types::BundleMask>,
    ) -> Result<(TrustDomain, Bundle), Refusal> {
        let (name, mut bundle) = convert::bundle(message)?;
        if name == self.0.trust_domain {
            return Err(Refusal::invalid(match how {
                Write::Create => "creating a federated bundle for the server's own trust domain is not allowed",
                Write::Update => "updating a federated bundle for the server's own trust domain is not allowed",
                Write::Set => "setting a federated bundle for the server's own trust domain is not allowed",
            }));
        }
        let before = state.foreign.get(&name);
        match (how, before) {
            (Write::Create, Some(_)) => return Err(Refusal::new(tonic::Code::AlreadyExists, "bundle already exists")),
            (Write::Update, None) => return Err(Refusal::not_found("bundle not found")),
            (Write::Create | Write::Set, None) if state.foreign.len() >= MOST_BUNDLES => {
                return Err(Refusal::exhausted(format!(
                    "there are {MOST_BUNDLES} foreign bundles already"
                )));
            }
            _ => {}
        }
        if let (Some(mask), Some(before)) = (input, before) {
            keep_masked(&mut bundle, before, mask);
        }
        state.foreign.insert(name.clone(), bundle.clone());
        Ok((name, bundle))
    }

    fn delete(&self, state: &mut State, text: &str, mode: Mode) -> Result<(), Refusal> {
        let name =
            convert::trust_domain(text).map_err(|refusal| refusal.while_doing("trust domain argument is not valid"))?;
        if name == self.0.trust_domain {
            return Err(Refusal::invalid(
                "removing the bundle for the server trust domain is not allowed",
            ));
        }
        if !state.foreign.contains_key(&name) {
            return Err(Refusal::not_found("bundle not found"));
        }
        let users: BTreeSet<String> = state
            .entries
            .values()
            .filter(|entry| entry.federates_with.contains(&name))
            .map(|entry| entry.id.clone())
            .collect();
        match mode {
            Mode::Restrict if !users.is_empty() => {
                return Err(Refusal::precondition(format!(
                    "failed to delete federated bundle: cannot delete bundle; federated with {} registration entries",
                    users.len()
                )));
            }
            Mode::Restrict => {}
            Mode::Delete => state.entries.retain(|id, _| !users.contains(id)),
            Mode::Dissociate => {
                for entry in state.entries.values_mut() {
                    if entry.federates_with.remove(&name) {
                        entry.revision += 1;
                    }
                }
            }
        }
        state.foreign.remove(&name);
        Ok(())
    }
}

fn keep_masked(bundle: &mut Bundle, before: &Bundle, mask: &types::BundleMask) {
    if !mask.x509_authorities {
        bundle.x509.clone_from(&before.x509);
    }
    if !mask.jwt_authorities {
        bundle.jwt.clone_from(&before.jwt);
    }
    if !mask.refresh_hint {
        bundle.refresh_hint = before.refresh_hint;
    }
    if !mask.sequence_number {
        bundle.sequence = before.sequence;
    }
}

/// The three batches that write answer alike but for the type of the result.
macro_rules! write_batch {
    ($self:ident, $request:ident, $how:expr, $input:expr, $module:ident) => {{
        let results = $self.0.store.update(|state| {
            Ok($request
                .bundle
                .iter()
                .map(|message| match $self.write(state, message, $how, $input) {
                    Ok((name, bundle)) => $module::Result {
                        status: Some(fine()),
                        bundle: Some(convert::bundle_message(&name, &bundle, $request.output_mask.as_ref())),
                    },
                    Err(refusal) => $module::Result {
                        status: Some(refused(&refusal)),
                        bundle: None,
                    },
                })
                .collect())
        })?;
        results
    }};
}

#[tonic::async_trait]
impl BundleService for BundleApi {
    async fn count_bundles(&self, _: Request<CountBundlesRequest>) -> Result<Response<CountBundlesResponse>, Status> {
        // The server's own counts too.
        let count = self.0.store.read(|state| state.foreign.len() + 1);
        Ok(Response::new(CountBundlesResponse {
            count: i32::try_from(count).unwrap_or(i32::MAX),
        }))
    }

    async fn get_bundle(&self, request: Request<GetBundleRequest>) -> Result<Response<types::Bundle>, Status> {
        let mask = request.into_inner().output_mask;
        Ok(Response::new(self.0.store.read(|state| {
            convert::bundle_message(&self.0.trust_domain, &state.bundle, mask.as_ref())
        })))
    }

    async fn append_bundle(&self, request: Request<AppendBundleRequest>) -> Result<Response<types::Bundle>, Status> {
        let request = request.into_inner();
        if request.x509_authorities.is_empty() && request.jwt_authorities.is_empty() {
            return Err(Status::invalid_argument("no authorities to append"));
        }
        let x509 = convert::x509_authorities(&request.x509_authorities)?;
        let jwt = convert::jwt_authorities(&request.jwt_authorities)?;
        let bundle = self.0.store.update(|state| {
            let bundle = &mut state.bundle;
            for one in x509 {
                if !bundle.x509.iter().any(|known| known.der == one.der) {
                    bundle.x509.push(one);
                }
            }
            for one in jwt {
                if !bundle.jwt.iter().any(|known| known.key_id == one.key_id) {
                    bundle.jwt.push(one);
                }
            }
            bundle.sequence += 1;
            Ok(convert::bundle_message(
                &self.0.trust_domain,
                bundle,
                request.output_mask.as_ref(),
            ))
        })?;
        Ok(Response::new(bundle))
    }

    async fn publish_jwt_authority(
        &self,
        _: Request<PublishJwtAuthorityRequest>,
    ) -> Result<Response<PublishJwtAuthorityResponse>, Status> {
        Err(Status::unimplemented(
            "nested servers are not supported by this stand-in",
        ))
    }

    async fn list_federated_bundles(
        &self,
        request: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        let request = request.into_inner();
        let (bundles, next_page_token) = self.0.store.read(|state| {
            let named: std::collections::BTreeMap<&TrustDomain, (&TrustDomain, &Bundle)> = state
                .foreign
                .iter()
                .map(|(name, bundle)| (name, (name, bundle)))
                .collect();
            page(
                named.iter(),
                request.page_size,
                &request.page_token,
                |(name, bundle)| convert::bundle_message(name, bundle, request.output_mask.as_ref()),
            )
        });
        Ok(Response::new(ListFederatedBundlesResponse {
            bundles,
            next_page_token,
        }))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let request = request.into_inner();
        let name = convert::trust_domain(&request.trust_domain)
            .map_err(|refusal| refusal.while_doing("trust domain argument is not valid"))?;
        if name == self.0.trust_domain {
            return Err(Status::invalid_argument(
                "getting a federated bundle for the server's own trust domain is not allowed",
            ));
        }
        let found = self.0.store.read(|state| {
            state
                .foreign
                .get(&name)
                .map(|bundle| convert::bundle_message(&name, bundle, request.output_mask.as_ref()))
        });
        found
            .map(Response::new)
            .ok_or_else(|| Status::not_found("bundle not found"))
    }

    async fn batch_create_federated_bundle(
        &self,
        request: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        let request = request.into_inner();
        let results = write_batch!(
            self,
            request,
            Write::Create,
            None,
            batch_create_federated_bundle_response
        );
        Ok(Response::new(BatchCreateFederatedBundleResponse { results }))
    }

    async fn batch_update_federated_bundle(
        &self,
        request: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        let request = request.into_inner();
        let input = request.input_mask;
        let results = write_batch!(
            self,
            request,
            Write::Update,
            input.as_ref(),
            batch_update_federated_bundle_response
        );
        Ok(Response::new(BatchUpdateFederatedBundleResponse { results }))
    }

    async fn batch_set_federated_bundle(
        &self,
        request: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        let request = request.into_inner();
        let results = write_batch!(self, request, Write::Set, None, batch_set_federated_bundle_response);
        Ok(Response::new(BatchSetFederatedBundleResponse { results }))
    }

    async fn batch_delete_federated_bundle(
        &self,
        request: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        let request = request.into_inner();
        let mode = Mode::try_from(request.mode)
            .map_err(|_| Status::invalid_argument(format!("unhandled delete mode {}", request.mode)))?;
        let results = self.0.store.update(|state| {
            Ok(request
                .trust_domains
                .iter()
                .map(|name| {
                    let status = self
                        .delete(state, name, mode)
                        .map_or_else(|refusal| refused(&refusal), |()| fine());
                    batch_delete_federated_bundle_response::Result {
                        status: Some(status),
                        trust_domain: name.clone(),
                    }
                })
                .collect())
        })?;
        Ok(Response::new(BatchDeleteFederatedBundleResponse { results }))
    }
}
