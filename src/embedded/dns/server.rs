//! Serves the zone over UDP and TCP, and keeps it current.

use std::{
    io, iter,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use hickory_proto::{
    op::{Metadata, ResponseCode},
    rr::Record,
};
use hickory_server::{
    Server,
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::zone::{Answer, Zone};
use crate::informer::Informer;

/// How long an idle TCP connection may stay.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes buffered for one TCP connection's answers.
const TCP_BUFFER: usize = 16 << 10;

/// Why cluster DNS could not start.
#[derive(Debug, thiserror::Error)]
#[error("cluster dns cannot listen on {address}: {source}")]
pub struct DnsError {
    /// Where it was to listen.
    address: SocketAddr,
    /// What the system said.
    source: io::Error,
}

type Shared = Arc<RwLock<Arc<Zone>>>;

/// Serves cluster DNS on `address` until `stop` is cancelled, following the Services and EndpointSlices of the informers.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn start(
    address: SocketAddr,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    stop: CancellationToken,
) -> Result<(), DnsError> {
    let failed = |source| DnsError { address, source };
    let udp = UdpSocket::bind(address).await.map_err(failed)?;
    let tcp = TcpListener::bind(address).await.map_err(failed)?;
    services.synced().await;
    slices.synced().await;
    let shared: Shared = Arc::new(RwLock::new(Arc::new(build(&services, &slices, 1))));
    let mut server = Server::new(Handler(shared.clone()));
    server.register_socket(udp);
    server.register_listener(tcp, TCP_TIMEOUT, TCP_BUFFER);
    tokio::spawn(follow(shared, services, slices, stop.clone()));
    tokio::spawn(async move {
        stop.cancelled().await;
        // It only waits for what is under way; there is nobody left to tell if that fails.
        let _ = server.shutdown_gracefully().await;
    });
    Ok(())
}

fn build(services: &Informer<Service>, slices: &Informer<EndpointSlice>, serial: u32) -> Zone {
    let (services, slices) = (services.all(), slices.all());
    Zone::build(
        services.iter().map(AsRef::as_ref),
        slices.iter().map(AsRef::as_ref),
        serial,
    )
}

async fn follow(shared: Shared, services: Informer<Service>, slices: Informer<EndpointSlice>, stop: CancellationToken) {
    let mut service_changes = services.subscribe();
    let mut slice_changes = slices.subscribe();
    let mut serial = 1u32;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = service_changes.recv() => {}
            Some(_) = slice_changes.recv() => {}
            else => return,
        }
        while service_changes.try_recv().is_ok() || slice_changes.try_recv().is_ok() {}
        serial = serial.wrapping_add(1);
        let zone = Arc::new(build(&services, &slices, serial));
        *shared.write().unwrap_or_else(PoisonError::into_inner) = zone;
    }
}

struct Handler(Shared);

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let zone = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let (mut answers, mut additionals, mut soa): (Vec<Record>, Vec<Record>, Vec<Record>) = Default::default();
        match request.request_info() {
            Err(_) => metadata.response_code = ResponseCode::FormErr,
            Ok(info) => {
                let name = info.query.name().to_string();
                match zone.lookup(&name, info.query.query_type()) {
                    Answer::Records {
                        answers: found,
                        additionals: more,
                    } => {
                        metadata.authoritative = true;
                        (answers, additionals) = (found, more);
                    }
                    Answer::NoData(record) => {
                        metadata.authoritative = true;
                        soa.push(*record);
                    }
                    Answer::NoSuchName(record) => {
                        metadata.authoritative = true;
                        metadata.response_code = ResponseCode::NXDomain;
                        soa.push(*record);
                    }
                    Answer::Refused => metadata.response_code = ResponseCode::Refused,
                }
            }
        }
        let message = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &answers,
            iter::empty(),
            &soa,
            &additionals,
        );
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "a DNS answer could not be sent");
                let mut header = metadata;
                header.response_code = ResponseCode::ServFail;
                ResponseInfo::from(hickory_proto::op::Header {
                    metadata: header,
                    counts: Default::default(),
                })
            }
        }
    }
}
