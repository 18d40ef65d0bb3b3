//! One question to the Workload API at a time.

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::{
    Request, Status, Streaming,
    metadata::MetadataValue,
    transport::{Channel, Endpoint, Uri},
};
use ztlab_identity::{JwtBundleSet, JwtSvid, SpiffeId, X509Context};

use super::{Address, WorkloadError, message};
use crate::api::workload::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, X509svidRequest, X509svidResponse,
    spiffe_workload_api_client::SpiffeWorkloadApiClient,
};

/// The metadata that every request carries, against requests that somebody else made a server send (SPIFFE Workload Endpoint
/// section 3).
const HEADER: &str = "workload.spiffe.io";

/// What the authority of a request is: HTTP/2 wants one, and the path of a socket is none.
const AUTHORITY: &str = "http://localhost";

/// Asks the Workload API. Connects anew for each question.
#[derive(Debug, Clone)]
pub struct Client {
    address: Address,
}

/// The answers to `FetchX509SVID`: the first at once, then one for each change.
#[derive(Debug)]
pub struct Updates(Streaming<X509svidResponse>);

impl Updates {
    /// Waits for the next answer.
    ///
    /// # Errors
    /// [`WorkloadError::Message`] for an answer that breaks the rules, after which others follow; else the stream is at its end.
    pub async fn next(&mut self) -> Result<X509Context, WorkloadError> {
        match self.0.message().await {
            Ok(Some(answer)) => Ok(message::x509_context(answer)?),
            Ok(None) => Err(refused(Status::unavailable("the agent ended the stream"))),
            Err(status) => Err(refused(status)),
        }
    }
}

impl Client {
    /// Of the Workload API at `address`.
    pub fn new(address: Address) -> Client {
        Client { address }
    }

    /// Follows the workload's X.509-SVIDs and bundles (section 5.2.1).
    ///
    /// # Errors
    /// [`WorkloadError`], when the agent cannot be reached or refuses.
    pub async fn x509_contexts(&self) -> Result<Updates, WorkloadError> {
        let answers = self.connect().await?.fetch_x509svid(request(X509svidRequest {})).await;
        Ok(Updates(answers.map_err(refused)?.into_inner()))
    }

    /// Fetches tokens for an audience: of one id, or of all that the workload has (section 6.2.1).
    ///
    /// # Errors
    /// [`WorkloadError`], when the agent cannot be reached, refuses, or gives what is none.
    pub async fn jwt_svids(&self, audience: &[String], id: Option<&SpiffeId>) -> Result<Vec<JwtSvid>, WorkloadError> {
        let question = JwtsvidRequest {
            audience: audience.to_vec(),
            spiffe_id: id.map(SpiffeId::to_string).unwrap_or_default(),
        };
        let answer = self.connect().await?.fetch_jwtsvid(request(question)).await;
        Ok(message::jwt_svids(answer.map_err(refused)?.into_inner())?)
    }

    /// Fetches the keys that tokens of peers are verified with, as they are now (section 6.2.2).
    ///
    /// # Errors
    /// [`WorkloadError`], when the agent cannot be reached, refuses, or gives what is none.
    pub async fn jwt_bundles(&self) -> Result<JwtBundleSet, WorkloadError> {
        let answers = self
            .connect()
            .await?
            .fetch_jwt_bundles(request(JwtBundlesRequest {}))
            .await;
        let first = answers
            .map_err(refused)?
            .into_inner()
            .message()
            .await
            .map_err(refused)?;
        let first = first.ok_or_else(|| refused(Status::unavailable("the agent ended the stream")))?;
        Ok(message::jwt_bundles(&first.bundles)?)
    }

    /// Lets the agent verify a token of a peer (section 6.2.3); gives who the peer is.
    ///
    /// # Errors
    /// [`WorkloadError`], when the agent cannot be reached or does not believe it.
    pub async fn validate_jwt_svid(&self, token: &str, audience: &str) -> Result<SpiffeId, WorkloadError> {
        let question = ValidateJwtsvidRequest {
            audience: audience.to_owned(),
            svid: token.to_owned(),
        };
        let answer = self.connect().await?.validate_jwtsvid(request(question)).await;
        Ok(message::id(&answer.map_err(refused)?.into_inner().spiffe_id)?)
    }

    async fn connect(&self) -> Result<SpiffeWorkloadApiClient<Channel>, WorkloadError> {
        let address = self.address.clone();
        let channel = Endpoint::from_static(AUTHORITY)
            .connect_with_connector(tower::service_fn(move |_: Uri| open(address.clone())))
            .await;
        match channel {
            Ok(channel) => Ok(SpiffeWorkloadApiClient::new(channel)),
            Err(error) => Err(WorkloadError::Unreachable {
                address: self.address.clone(),
                reason: inmost(&error),
            }),
        }
    }
}

type Either = tokio_util::either::Either<UnixStream, TcpStream>;

async fn open(address: Address) -> std::io::Result<TokioIo<Either>> {
    match address {
        Address::Unix(path) => UnixStream::connect(path).await.map(Either::Left),
        Address::Tcp(address) => TcpStream::connect(address).await.map(Either::Right),
    }
    .map(TokioIo::new)
}

fn request<T>(question: T) -> Request<T> {
    let mut request = Request::new(question);
    request
        .metadata_mut()
        .insert(HEADER, MetadataValue::from_static("true"));
    request
}

fn refused(status: Status) -> WorkloadError {
    WorkloadError::Refused(Box::new(status))
}

fn inmost(error: &dyn std::error::Error) -> String {
    let mut inmost = error;
    while let Some(inner) = inmost.source() {
        inmost = inner;
    }
    inmost.to_string()
}
