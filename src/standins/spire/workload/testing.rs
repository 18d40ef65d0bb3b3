//! An agent that answers what a test tells it to.

use std::{
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{Stream, StreamExt};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio::{net::UnixListener, sync::watch, task::JoinHandle};
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::{Request, Response, Status, transport::Server};

use super::Address;
use crate::api::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
    spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What is said to each caller, at once and whenever it changes.
pub(super) type Answer = Result<X509svidResponse, Status>;

/// What the agent says of JWT-SVIDs.
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens {
    pub(super) svids: JwtsvidResponse,
    pub(super) bundles: JwtBundlesResponse,
}

pub(super) struct Agent {
    said: watch::Sender<Answer>,
    /// How often `FetchX509SVID` was called.
    pub(super) asked: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Agent {
    /// Listens on `socket`.
    pub(super) fn start(socket: &Path, first: Answer, tokens: Tokens) -> Agent {
        let (said, answers) = watch::channel(first);
        let asked = Arc::new(AtomicUsize::new(0));
        let service = SpiffeWorkloadApiServer::new(Service {
            answers,
            asked: Arc::clone(&asked),
            tokens,
        });
        let listener = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let server = tokio::spawn(async move {
            Server::builder()
                .add_service(service)
                .serve_with_incoming(listener)
                .await
                .unwrap();
        });
        Agent { said, asked, server }
    }

    pub(super) fn say(&self, answer: Answer) {
        drop(self.said.send_replace(answer));
    }

    pub(super) fn times_asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// As when the process is killed: the listener and all connections are gone, the socket's file stays.
    pub(super) async fn kill(self) {
        self.server.abort();
        let _ = self.server.await;
    }
}

pub(super) fn address(socket: &Path) -> Address {
    Address::Unix(socket.to_owned())
}

struct Service {
    answers: watch::Receiver<Answer>,
    asked: Arc<AtomicUsize>,
    tokens: Tokens,
}

fn header<T>(request: &Request<T>) -> Result<(), Status> {
    match request.metadata().get("workload.spiffe.io") {
        Some(value) if value == "true" => Ok(()),
        _ => Err(Status::invalid_argument("security header missing from request")),
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Service {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;
    type FetchJWTBundlesStream = Answers<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        header(&request)?;
        let mut ended = false;
        let answers = WatchStream::new(self.answers.clone()).take_while(move |answer| {
            let goes_on = !ended;
            ended = answer.is_err();
            std::future::ready(goes_on)
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        header(&request)?;
        if request.get_ref().audience.is_empty() {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        Ok(Response::new(self.tokens.svids.clone()))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        header(&request)?;
        let bundles = self.tokens.bundles.clone();
        Ok(Response::new(Box::pin(futures::stream::once(async { Ok(bundles) }))))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        header(&request)?;
        match request.get_ref().svid.as_str() {
            "good" => Ok(Response::new(ValidateJwtsvidResponse {
                spiffe_id: "spiffe://shop.test/orders".to_owned(),
                claims: None,
            })),
            _ => Err(Status::invalid_argument("token is not valid")),
        }
    }
}

/// A certificate authority of a trust domain.
pub(super) struct Ca {
    trust_domain: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

fn params(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, uri.rsplit('/').next().unwrap());
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params
}

impl Ca {
    pub(super) fn of(trust_domain: &str) -> Ca {
        let mut params = params(&format!("spiffe://{trust_domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ca {
            trust_domain: trust_domain.to_owned(),
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
        }
    }

    /// The authority's certificate in DER.
    pub(super) fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// The entry of a message for the workload at `path`.
    pub(super) fn svid(&self, path: &str) -> X509svid {
        let id = format!("spiffe://{}{path}", self.trust_domain);
        let mut params = params(&id);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        X509svid {
            spiffe_id: id,
            x509_svid: params.signed_by(&key, &self.issuer).unwrap().der().to_vec(),
            x509_svid_key: key.serialize_der(),
            bundle: self.der(),
            hint: String::new(),
        }
    }

    /// A whole message for the workload at `path`.
    pub(super) fn message(&self, path: &str) -> X509svidResponse {
        X509svidResponse {
            svids: vec![self.svid(path)],
            ..X509svidResponse::default()
        }
    }
}
