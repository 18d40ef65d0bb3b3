//! The SPIFFE Workload API (SPIFFE Workload API sections 3 to 6).

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status, metadata::MetadataMap};
use ztlab_identity::{SpiffeId, UnixTime, jwt};

use super::{
    cache::{Cached, Snapshot, renew_at},
    callers::Callers,
    server::Server,
};
use crate::{
    api::workload::{spiffe_workload_api_server::SpiffeWorkloadApi, *},
    clock::SharedClock,
    store::Selector,
};

/// Most JWT-SVIDs that are kept.
const MOST_TOKENS: usize = 1000;
/// Most audiences of one JWT-SVID, and the longest of them in bytes.
const AUDIENCES: (usize, usize) = (32, 2048);

/// The service.
pub struct WorkloadApi {
    /// Knows who calls, and what there is to give.
    pub callers: Callers,
    /// Signs JWT-SVIDs.
    pub server: Arc<Server>,
    /// The time.
    pub clock: SharedClock,
    /// JWT-SVIDs that are good for a while.
    pub tokens: Mutex<BTreeMap<(String, Vec<String>), Token>>,
}

/// A JWT-SVID that was signed.
#[derive(Clone)]
pub struct Token {
    text: String,
    renew_at: i64,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl WorkloadApi {
    /// Who calls: its selectors. A call without the header could be one that a browser was tricked into.
    async fn caller<T>(&self, request: &Request<T>) -> Result<BTreeSet<Selector>, Status> {
        secured(request.metadata())?;
        self.callers.attest(request.extensions()).await
    }

    /// A stream of what `make` makes of each state, sent when it differs from the one before. It ends with the first
    /// refusal: what was taken away is redacted so.
    fn follow<T: Clone + PartialEq + Send + Sync + 'static>(
        &self,
        selectors: BTreeSet<Selector>,
        make: impl Fn(&Snapshot, &[&Cached], i64) -> Result<T, Status> + Send + Sync + 'static,
    ) -> Response<Answers<T>> {
        struct Following<T> {
            cache: watch::Receiver<Arc<Snapshot>>,
            sent: Option<T>,
            ended: bool,
        }
        let clock = Arc::clone(&self.clock);
        let mut cache = self.callers.cache.clone();
        cache.mark_changed();
        let start = Following {
            cache,
            sent: None,
            ended: false,
        };
        let make = Arc::new(move |snapshot: &Snapshot| {
            let identities = snapshot.identities(&selectors);
            if identities.is_empty() {
                return Err(no_identity());
            }
            make(snapshot, &identities, clock.now())
        });
        Response::new(Box::pin(stream::unfold(start, move |mut following| {
            let make = Arc::clone(&make);
            async move {
                if following.ended {
                    return None;
                }
                loop {
                    following.cache.changed().await.ok()?;
                    let made = make(&following.cache.borrow_and_update());
                    match made {
                        Ok(made) if following.sent.as_ref() == Some(&made) => {}
                        Ok(made) => {
                            following.sent = Some(made.clone());
                            return Some((Ok(made), following));
                        }
                        // Between two SVIDs of which the old has ended: what was sent is the last truth there is.
                        Err(status) if status.code() == tonic::Code::Unavailable && following.sent.is_some() => {}
                        Err(status) => {
                            following.ended = true;
                            return Some((Err(status), following));
                        }
                    }
                }
            }
        })))
    }

    async fn token(&self, cached: &Cached, audience: &[String]) -> Result<String, Status> {
        let now = self.clock.now();
        let key = (cached.entry.id.clone(), audience.to_vec());
        let every_time = cached
            .entry
            .additional_attributes
            .is_some_and(|attributes| attributes.jwt_svid_include_jti);
        if !every_time {
            let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(token) = tokens.get(&key).filter(|token| token.renew_at > now) {
                return Ok(token.text.clone());
            }
        }
        let svid = self
            .server
            .new_jwt(key.0.clone(), key.1.clone())
            .await
            .map_err(|status| Status::unavailable(format!("could not fetch JWT-SVID: {}", status.message())))?;
        if !every_time {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            if tokens.len() >= MOST_TOKENS {
                tokens.retain(|_, token| token.renew_at > now);
            }
            if tokens.len() >= MOST_TOKENS {
                tokens.clear();
            }
            let renew_at = renew_at(svid.issued_at, svid.expires_at, rand::random());
            tokens.insert(
                key,
                Token {
                    text: svid.token.clone(),
                    renew_at,
                },
            );
        }
        Ok(svid.token)
    }
}

fn secured(metadata: &MetadataMap) -> Result<(), Status> {
    let values: Vec<_> = metadata.get_all("workload.spiffe.io").iter().collect();
    match values.as_slice() {
        [value] if value.as_bytes() == b"true" => Ok(()),
        _ => Err(Status::invalid_argument("security header missing from request")),
    }
}

fn no_identity() -> Status {
    Status::permission_denied("no identity issued")
}

fn x509_svids(snapshot: &Snapshot, identities: &[&Cached], now: i64) -> Result<X509svidResponse, Status> {
    let bundle = snapshot
        .bundle
        .as_ref()
        .map(|bundle| bundle.x509().to_der())
        .unwrap_or_default();
    let svids: Vec<X509svid> = identities
        .iter()
        .filter_map(|cached| {
            let svid = cached.svid.as_ref().filter(|svid| svid.expires_at > now)?;
            Some(X509svid {
                spiffe_id: cached.id_text(),
                x509_svid: svid.chain.clone(),
                x509_svid_key: svid.key.clone(),
                bundle: bundle.clone(),
                hint: cached.entry.hint.clone(),
            })
        })
        .collect();
    if svids.is_empty() {
        return Err(Status::unavailable(
            "the X.509-SVID has ended, or is not signed yet: the agent does not reach the server",
        ));
    }
    let foreign = snapshot.foreign_of(identities);
    Ok(X509svidResponse {
        svids,
        crl: Vec::new(),
        federated_bundles: foreign
            .into_iter()
            .map(|(name, bundle)| (name.id().to_string(), bundle.x509().to_der()))
            .collect(),
    })
}

fn x509_bundles(snapshot: &Snapshot, identities: &[&Cached]) -> X509BundlesResponse {
    let bundles = snapshot
        .bundles_of(identities)
        .iter()
        .map(|bundle| (bundle.trust_domain().id().to_string(), bundle.x509().to_der()))
        .collect();
    X509BundlesResponse {
        crl: Vec::new(),
        bundles,
    }
}

fn jwt_bundles(snapshot: &Snapshot, identities: &[&Cached]) -> Result<JwtBundlesResponse, Status> {
    let mut bundles = std::collections::HashMap::new();
    for bundle in snapshot.bundles_of(identities).iter() {
        let keys = bundle
            .jwt()
            .to_json()
            .map_err(|error| Status::internal(error.to_string()))?;
        bundles.insert(bundle.trust_domain().id().to_string(), keys.into_bytes());
    }
    Ok(JwtBundlesResponse { bundles })
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Answers<X509svidResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let selectors = self.caller(&request).await?;
        Ok(self.follow(selectors, x509_svids))
    }

    type FetchX509BundlesStream = Answers<X509BundlesResponse>;

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let selectors = self.caller(&request).await?;
        Ok(self.follow(selectors, |snapshot, identities, _| {
            Ok(x509_bundles(snapshot, identities))
        }))
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        secured(request.metadata())?;
        let audience = request.get_ref().audience.clone();
        if audience.iter().all(String::is_empty) {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        if audience.len() > AUDIENCES.0 || audience.iter().any(|one| one.len() > AUDIENCES.1) {
            return Err(Status::invalid_argument(format!(
                "{} audiences of {} bytes each at most",
                AUDIENCES.0, AUDIENCES.1
            )));
        }
        let wanted = request.get_ref().spiffe_id.clone();
        let wanted = (!wanted.is_empty())
            .then(|| SpiffeId::parse(&wanted))
            .transpose()
            .map_err(|error| Status::invalid_argument(format!("invalid requested SPIFFE ID: {error}")))?
            .map(|id| id.to_string());
        let selectors = self.caller(&request).await?;
        let snapshot = Arc::clone(&self.callers.cache.borrow());
        let mut svids = Vec::new();
        for cached in snapshot.identities(&selectors) {
            let spiffe_id = cached.id_text();
            if wanted.as_ref().is_some_and(|wanted| *wanted != spiffe_id) {
                continue;
            }
            let svid = self.token(cached, &audience).await?;
            svids.push(Jwtsvid {
                spiffe_id,
                svid,
                hint: cached.entry.hint.clone(),
            });
        }
        if svids.is_empty() {
            return Err(no_identity());
        }
        Ok(Response::new(JwtsvidResponse { svids }))
    }

    type FetchJWTBundlesStream = Answers<JwtBundlesResponse>;

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        let selectors = self.caller(&request).await?;
        Ok(self.follow(selectors, |snapshot, identities, _| jwt_bundles(snapshot, identities)))
    }

    /// As SPIRE does, for callers without an identity too: they learn no more than the bundle's public keys.
    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        secured(request.metadata())?;
        if request.get_ref().audience.is_empty() {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        if request.get_ref().svid.is_empty() {
            return Err(Status::invalid_argument("svid must be specified"));
        }
        let selectors = self.caller(&request).await?;
        let snapshot = Arc::clone(&self.callers.cache.borrow());
        let bundles = snapshot.bundles_of(&snapshot.identities(&selectors)).jwt();
        let now = Duration::from_secs(u64::try_from(self.clock.now()).unwrap_or(0));
        let ValidateJwtsvidRequest { audience, svid } = request.into_inner();
        let verified = jwt::verify(&svid, &bundles, &audience, UnixTime::since_unix_epoch(now))
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let claims = verified
            .claims()
            .iter()
            .map(|(name, value)| (name.clone(), protobuf(value)))
            .collect();
        Ok(Response::new(ValidateJwtsvidResponse {
            spiffe_id: verified.id().to_string(),
            claims: Some(prost_types::Struct { fields: claims }),
        }))
    }
}

/// JSON as `google.protobuf.Value`; how deep it is was limited when it was read.
fn protobuf(value: &serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(*value),
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(value) => Kind::StringValue(value.clone()),
        serde_json::Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.iter().map(protobuf).collect(),
        }),
        serde_json::Value::Object(fields) => Kind::StructValue(prost_types::Struct {
            fields: fields
                .iter()
                .map(|(name, value)| (name.clone(), protobuf(value)))
                .collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}
