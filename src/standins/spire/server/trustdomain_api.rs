//! `spire.api.server.trustdomain.v1.TrustDomain`: relationships are kept and shown; bundles are not fetched.

use std::{collections::BTreeMap, sync::Arc};

use tonic::{Code, Request, Response, Status};
use ztlab_identity::{SpiffeId, TrustDomain};

use super::{Core, page::page};
use crate::{
    api::{
        trustdomain::{trust_domain_server::TrustDomain as TrustDomainService, *},
        types::{self, federation_relationship::BundleEndpointProfile},
    },
    convert,
    refusal::{Refusal, fine, refused},
    store::{Relationship, State},
};

/// Most relationships that are kept.
const MOST_RELATIONSHIPS: usize = 1000;

/// The service.
pub struct TrustDomainApi(pub Arc<Core>);

impl TrustDomainApi {
    fn write(
        &self,
        state: &mut State,
        message: &types::FederationRelationship,
        update: bool,
    ) -> Result<types::FederationRelationship, Refusal> {
        let name = convert::trust_domain(&message.trust_domain)?;
        if name == self.0.trust_domain {
            return Err(Refusal::invalid(
                "unable to create federation relationship for server trust domain",
            ));
        }
        let known = state.relationships.contains_key(&name);
        if update && !known {
            return Err(Refusal::not_found("federation relationship not found"));
        }
        if !update && known {
            return Err(Refusal::new(
                Code::AlreadyExists,
                format!("federation relationship with \"{name}\" exists already"),
            ));
        }
        if !known && state.relationships.len() >= MOST_RELATIONSHIPS {
            return Err(Refusal::exhausted(format!(
                "there are {MOST_RELATIONSHIPS} relationships already"
            )));
        }
        let relationship = relationship(message)
            .map_err(|refusal| refusal.while_doing("failed to convert federation relationship"))?;
        if let Some(bundle) = &message.trust_domain_bundle {
            let (of, bundle) = convert::bundle(bundle)?;
            if of != name {
                return Err(Refusal::invalid(format!(
                    "trust domain bundle ({of}) must match the trust domain of the federation relationship ({name})"
                )));
            }
            state.foreign.insert(name.clone(), bundle);
        }
        let shown = convert::relationship_message(&name, &relationship, state.foreign.get(&name));
        state.relationships.insert(name, relationship);
        Ok(shown)
    }

    fn delete(state: &mut State, text: &str) -> Result<(), Refusal> {
        let name = convert::trust_domain(text)?;
        state
            .relationships
            .remove(&name)
            .map(|_| ())
            .ok_or_else(|| Refusal::not_found("federation relationship not found"))
    }
}

fn relationship(message: &types::FederationRelationship) -> Result<Relationship, Refusal> {
    let url = &message.bundle_endpoint_url;
    let uri: http::Uri = url
        .parse()
        .map_err(|_| Refusal::invalid(format!("bundle endpoint URL `{url}` is malformed")))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) || url.len() > 2048 {
        return Err(Refusal::invalid("bundle endpoint URL must use the https scheme"));
    }
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(Refusal::invalid("bundle endpoint URL must not contain user info"));
    }
    let endpoint_spiffe_id = match &message.bundle_endpoint_profile {
        Some(BundleEndpointProfile::HttpsWeb(_)) => None,
        Some(BundleEndpointProfile::HttpsSpiffe(profile)) => Some(
            SpiffeId::parse(&profile.endpoint_spiffe_id)
                .map_err(|error| Refusal::invalid(format!("could not parse endpoint SPIFFE ID: {error}")))?,
        ),
        None => return Err(Refusal::invalid("unsupported bundle endpoint profile type: none")),
    };
    Ok(Relationship {
        url: url.clone(),
        endpoint_spiffe_id,
    })
}

#[tonic::async_trait]
impl TrustDomainService for TrustDomainApi {
    async fn list_federation_relationships(
        &self,
        request: Request<ListFederationRelationshipsRequest>,
    ) -> Result<Response<ListFederationRelationshipsResponse>, Status> {
        let request = request.into_inner();
        let (federation_relationships, next_page_token) = self.0.store.read(|state| {
            let shown: BTreeMap<&TrustDomain, types::FederationRelationship> = state
                .relationships
                .iter()
                .map(|(name, one)| (name, convert::relationship_message(name, one, state.foreign.get(name))))
                .collect();
            page(shown.iter(), request.page_size, &request.page_token, Clone::clone)
        });
        Ok(Response::new(ListFederationRelationshipsResponse {
            federation_relationships,
            next_page_token,
        }))
    }

    async fn get_federation_relationship(
        &self,
        request: Request<GetFederationRelationshipRequest>,
    ) -> Result<Response<types::FederationRelationship>, Status> {
        let name = convert::trust_domain(&request.get_ref().trust_domain)?;
        let found = self.0.store.read(|state| {
            let one = state.relationships.get(&name)?;
            Some(convert::relationship_message(&name, one, state.foreign.get(&name)))
        });
        found
            .map(Response::new)
            .ok_or_else(|| Status::not_found("federation relationship does not exist"))
    }

    async fn batch_create_federation_relationship(
        &self,
        request: Request<BatchCreateFederationRelationshipRequest>,
    ) -> Result<Response<BatchCreateFederationRelationshipResponse>, Status> {
        use batch_create_federation_relationship_response::Result as Item;
        let messages = request.into_inner().federation_relationships;
        let results = self.0.store.update(|state| {
            Ok(messages
                .iter()
                .map(|message| match self.write(state, message, false) {
                    Ok(shown) => Item {
                        status: Some(fine()),
                        federation_relationship: Some(shown),
                    },
                    Err(refusal) => Item {
                        status: Some(refused(&refusal)),
                        federation_relationship: None,
                    },
                })
                .collect())
        })?;
        Ok(Response::new(BatchCreateFederationRelationshipResponse { results }))
    }

    async fn batch_update_federation_relationship(
        &self,
        request: Request<BatchUpdateFederationRelationshipRequest>,
    ) -> Result<Response<BatchUpdateFederationRelationshipResponse>, Status> {
        use batch_update_federation_relationship_response::Result as Item;
        let request = request.into_inner();
        if request.input_mask.is_some() {
            return Err(Status::unimplemented(
                "this stand-in updates a relationship as a whole: leave out the input mask",
            ));
        }
        let messages = request.federation_relationships;
        let results = self.0.store.update(|state| {
            Ok(messages
                .iter()
                .map(|message| match self.write(state, message, true) {
                    Ok(shown) => Item {
                        status: Some(fine()),
                        federation_relationship: Some(shown),
                    },
                    Err(refusal) => Item {
                        status: Some(refused(&refusal)),
                        federation_relationship: None,
                    },
                })
                .collect())
        })?;
        Ok(Response::new(BatchUpdateFederationRelationshipResponse { results }))
    }

    async fn batch_delete_federation_relationship(
        &self,
        request: Request<BatchDeleteFederationRelationshipRequest>,
    ) -> Result<Response<BatchDeleteFederationRelationshipResponse>, Status> {
        use batch_delete_federation_relationship_response::Result as Item;
        let names = request.into_inner().trust_domains;
        let results = self.0.store.update(|state| {
            Ok(names
                .into_iter()
                .map(|trust_domain| {
                    let status =
                        Self::delete(state, &trust_domain).map_or_else(|refusal| refused(&refusal), |()| fine());
                    Item {
                        status: Some(status),
                        trust_domain,
                    }
                })
                .collect())
        })?;
        Ok(Response::new(BatchDeleteFederationRelationshipResponse { results }))
    }

    async fn refresh_bundle(&self, _: Request<RefreshBundleRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented(
            "this stand-in fetches no foreign bundles: set one with `bundle set`",
        ))
    }
}
