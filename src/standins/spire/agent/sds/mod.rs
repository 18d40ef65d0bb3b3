//! Envoy's Secret Discovery Service, beside the Workload API on the agent's socket: SVIDs and bundles in the shape in
//! which Envoy takes them, pushed when they change. What it says, and what it refuses, is what SPIRE's agent does.

mod exchange;
mod secrets;

use std::pin::Pin;

use futures::{Stream, StreamExt, stream};
use rand::Rng;
use tonic::{Request, Response, Status, Streaming};

use self::{
    exchange::Exchange,
    secrets::{NoAnswer, View},
};
use super::callers::Callers;
use crate::{
    api::{
        discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse},
        secret::secret_discovery_service_server::SecretDiscoveryService,
    },
    clock::SharedClock,
};

/// What Envoy may call things by, besides their SPIFFE IDs (`sds` in the agent's configuration).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The first SVID.
    pub svid: String,
    /// The trust domain's own bundle.
    pub bundle: String,
    /// All bundles, the foreign ones too.
    pub all_bundles: String,
    /// Whether bundles are given as plain authorities, for Envoy's usual verification; a node's metadata counts more.
    pub disable_spiffe_cert_validation: bool,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            svid: "default".into(),
            bundle: "ROOTCA".into(),
            all_bundles: "ALL".into(),
            disable_spiffe_cert_validation: false,
        }
    }
}

/// The service.
pub struct SecretDiscovery {
    /// Knows who calls.
    pub callers: Callers,
    /// What Envoy may call things by.
    pub names: Names,
    /// The time.
    pub clock: SharedClock,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Names an answer. A counter would do; SPIRE's are random, so that one of another stream is never taken for it.
fn nonce() -> String {
    format!("{:08x}", rand::rng().random::<u32>())
}

#[tonic::async_trait]
impl SecretDiscoveryService for SecretDiscovery {
    type StreamSecretsStream = Answers<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let selectors = self.callers.attest(request.extensions()).await?;
        let mut cache = self.callers.cache.clone();
        cache.mark_changed();
        let (clock, names) = (self.clock.clone(), self.names.clone());
        let start = Some((request.into_inner(), cache, Exchange::default()));
        let answers = stream::unfold(start, move |state| {
            let (selectors, clock, names) = (selectors.clone(), clock.clone(), names.clone());
            async move {
                let (mut requests, mut cache, mut exchange) = state?;
                loop {
                    tokio::select! {
                        request = requests.next() => match request? {
                            Ok(request) => exchange.asked(request),
                            Err(status) => return Some((Err(status), None)),
                        },
                        changed = cache.changed() => {
                            changed.ok()?;
                            let snapshot = cache.borrow_and_update().clone();
                            exchange.changed(View::of(&snapshot, &selectors, clock.now()));
                        }
                    }
                    match exchange.answer(&names, nonce()) {
                        Ok(Some(answer)) => return Some((Ok(answer), Some((requests, cache, exchange)))),
                        Ok(None) => {}
                        Err(status) => return Some((Err(status), None)),
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_secrets(&self, request: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        let selectors = self.callers.attest(request.extensions()).await?;
        let view = View::of(&self.callers.cache.borrow(), &selectors, self.clock.now());
        let request = request.into_inner();
        let resources = view
            .secrets(&request.resource_names, request.node.as_ref(), &self.names)
            .map_err(|error| match error {
                NoAnswer::Refused(status) => status,
                NoAnswer::Pending => Status::unavailable(
                    "the X.509-SVID has ended, or is not signed yet: the agent does not reach the server",
                ),
            })?;
        // Neither version nor nonce: there is no stream on which they would be answered.
        Ok(Response::new(DiscoveryResponse {
            resources,
            type_url: request.type_url,
            ..DiscoveryResponse::default()
        }))
    }

    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("Method is not implemented"))
    }
}

#[cfg(test)]
mod tests;
