//! `grpc.health.v1.Health`.

use std::pin::Pin;

use futures::{Stream, stream};
use tonic::{Request, Response, Status};

use crate::api::health::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

/// Whether this program works: asked at each check.
pub struct HealthApi(pub Box<dyn Fn() -> bool + Send + Sync>);

impl HealthApi {
    fn answer(&self) -> HealthCheckResponse {
        let status = if (self.0)() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        HealthCheckResponse { status: status.into() }
    }
}

#[tonic::async_trait]
impl Health for HealthApi {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !request.get_ref().service.is_empty() {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(self.answer()))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Says how it is now; changes are seen by asking again.
    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(stream::iter([Ok(self.answer())]))))
    }
}
