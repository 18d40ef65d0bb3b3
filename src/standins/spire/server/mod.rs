//! The server: what it is made of, and its two doors.

mod agent_api;
pub mod attestation;
mod authorization;
mod bundle_api;
mod entry_api;
pub(crate) mod health_api;
mod localauthority_api;
pub mod notifier;
mod page;
mod svid_api;
mod trustdomain_api;

use std::{future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::{crypto::ring::sign::any_ecdsa_type, pki_types::CertificateDer, sign::CertifiedKey};
use tokio::net::{TcpListener, UnixListener};
use tonic::{service::Routes, transport::Server as GrpcServer};
use ztlab_identity::{Path, SpiffeId, TrustDomain, X509Bundle, X509BundleSet};

use attestation::Attestors;
pub use authorization::reason;
use authorization::{AuthorizationLayer, Front};
pub use entry_api::{KNOWN_REVISION, REVISION};

use crate::{
    api,
    ca::{Authorities, Kind, LeafOf, Settings, TICK},
    clock::SharedClock,
    refusal::Refusal,
    store::{FileError, Places, Standing, Store},
    transport::{self, Identity, Trust},
};

/// Largest message that is accepted, in bytes: gRPC's default.
const LARGEST_MESSAGE: usize = 4 << 20;

/// Why the server does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Its files.
    #[error("the server's memory cannot be used: {0}")]
    Store(#[from] FileError),
    /// Its authorities.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Its TLS.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// A socket.
    #[error("{what}: {source}")]
    Socket {
        /// Which.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Serving.
    #[error("serving ended: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// What the APIs share.
pub struct Core {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) clock: SharedClock,
    pub(crate) store: Arc<Store>,
    pub(crate) authorities: Authorities,
    pub(crate) attestors: Attestors,
    own: Arc<Identity>,
    own_until: std::sync::Mutex<Own>,
}

/// The server's own SVID, as far as its renewal needs.
#[derive(Default, Clone)]
struct Own {
    renew_at: i64,
    authority: String,
}

impl Core {
    /// Reads what is in `places` and makes what authorities are due.
    pub fn new(
        settings: Settings,
        places: Places,
        attestors: Attestors,
        clock: SharedClock,
    ) -> Result<Arc<Self>, ServerError> {
        let store = Arc::new(Store::open(places)?);
        let trust_domain = settings.trust_domain.clone();
        let authorities = Authorities::new(Arc::clone(&store), Arc::clone(&clock), settings)?;
        let core = Self {
            trust_domain,
            clock,
            store,
            authorities,
            attestors,
            own: Arc::default(),
            own_until: std::sync::Mutex::default(),
        };
        core.renew_own()?;
        Ok(Arc::new(core))
    }

    /// The server's own SPIFFE ID.
    pub fn own_id(trust_domain: &TrustDomain) -> Result<SpiffeId, Refusal> {
        Path::from_segments(["spire", "server"])
            .and_then(|path| SpiffeId::new(trust_domain.clone(), path))
            .map_err(|error| Refusal::internal(error.to_string()))
    }

    /// Gives the server a new SVID when half the life of its own is over, or another authority signs.
    fn renew_own(&self) -> Result<(), Refusal> {
        let now = self.clock.now();
        let authority = self
            .authorities
            .standing(Kind::X509, Standing::Active)
            .map(|slot| slot.id)
            .unwrap_or_default();
        let mut own = self.own_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if own.renew_at > now && own.authority == authority {
            return Ok(());
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| Refusal::internal(format!("no key could be made: {error}")))?;
        let leaf = self.authorities.sign_x509(&LeafOf {
            spiffe_id: &Self::own_id(&self.trust_domain)?,
            public_key: &key.subject_public_key_info(),
            dns_names: &[],
            ttl: self.authorities.settings().x509_svid_ttl,
        })?;
        let signing = any_ecdsa_type(&rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .map_err(|error| Refusal::internal(format!("the server's key is unusable: {error}")))?;
        self.own.set(Some(Arc::new(CertifiedKey::new(
            vec![CertificateDer::from(leaf.der)],
            signing,
        ))));
        *own = Own {
            renew_at: now + (leaf.expires_at - now) / 2,
            authority,
        };
        Ok(())
    }

    /// What time demands: rotation, the server's own SVID, entries and tokens that are over.
    pub fn tick(&self) -> Result<(), Refusal> {
        self.authorities.tick()?;
        self.renew_own()?;
        let now = self.clock.now();
        let over = |end: i64| end != 0 && end <= now;
        let any = self.store.read(|state| {
            state.entries.values().any(|entry| over(entry.expires_at))
                || state.join_tokens.values().any(|token| over(token.expires_at))
        });
        if any {
            self.store.update(|state| {
                state.entries.retain(|_, entry| !over(entry.expires_at));
                state.join_tokens.retain(|_, token| !over(token.expires_at));
                Ok(())
            })?;
        }
        Ok(())
    }

    fn bundles(&self) -> X509BundleSet {
        let der: Vec<u8> = self.store.read(|state| {
            state
                .bundle
                .x509
                .iter()
                .flat_map(|one| one.der.iter().copied())
                .collect()
        });
        let mut set = X509BundleSet::default();
        match X509Bundle::from_der(self.trust_domain.clone(), &der) {
            Ok(bundle) => {
                set.insert(bundle);
            }
            // Nobody is believed then, which is seen at once.
            Err(error) => tracing::error!(%error, "the bundle cannot be read"),
        }
        set
    }

    fn routes(self: &Arc<Self>) -> Routes {
        macro_rules! service {
            ($server:path, $api:path) => {
                <$server>::new($api(Arc::clone(self))).max_decoding_message_size(LARGEST_MESSAGE)
            };
        }
        let alive = Arc::clone(self);
        let health = health_api::HealthApi(Box::new(move || alive.authorities.x509().is_ok()));
        Routes::new(service!(api::entry::entry_server::EntryServer<_>, entry_api::EntryApi))
            .add_service(service!(
                api::bundle::bundle_server::BundleServer<_>,
                bundle_api::BundleApi
            ))
            .add_service(service!(api::svid::svid_server::SvidServer<_>, svid_api::SvidApi))
            .add_service(service!(api::agent::agent_server::AgentServer<_>, agent_api::AgentApi))
            .add_service(service!(
                api::trustdomain::trust_domain_server::TrustDomainServer<_>,
                trustdomain_api::TrustDomainApi
            ))
            .add_service(service!(
                api::localauthority::local_authority_server::LocalAuthorityServer<_>,
                localauthority_api::LocalAuthorityApi
            ))
            .add_service(api::health::health_server::HealthServer::new(health))
    }

    /// Looks after what time demands, for ever.
    pub async fn keep_time(self: Arc<Self>) {
        loop {
            tokio::time::sleep(
                TICK.min(self.authorities.settings().ca_ttl / 20)
                    .max(Duration::from_millis(100)),
            )
            .await;
            if let Err(error) = self.tick() {
                tracing::error!(%error, "rotation failed; it is tried again");
            }
        }
    }

    /// Serves administrators on a unix socket until `stop` is ready.
    pub async fn serve_admin(
        self: Arc<Self>,
        listener: UnixListener,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServerError> {
        let incoming = transport::accept_unix(listener, |_| Ok(()));
        GrpcServer::builder()
            .layer(AuthorizationLayer::new(Arc::clone(&self), Front::Admin))
            .add_routes(self.routes())
            .serve_with_incoming_shutdown(incoming, stop)
            .await?;
        Ok(())
    }

    /// Serves agents by TLS until `stop` is ready.
    pub async fn serve_agents(
        self: Arc<Self>,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServerError> {
        let core = Arc::clone(&self);
        let trust = Trust {
            bundles: Box::new(move || core.bundles()),
            only: None,
            on_first_use: false,
            clock: Arc::clone(&self.clock),
        };
        let config = transport::server_config(Arc::clone(&self.own), trust)?;
        let incoming = transport::accept_tls(listener, Arc::new(config));
        GrpcServer::builder()
            .layer(AuthorizationLayer::new(Arc::clone(&self), Front::Agents))
            .add_routes(self.routes())
            .serve_with_incoming_shutdown(incoming, stop)
            .await?;
        Ok(())
    }
}

/// Where the server is reached.
#[derive(Debug, Clone)]
pub struct Doors {
    /// The admin socket.
    pub admin: PathBuf,
    /// Address and port for agents.
    pub agents: (String, u16),
}

/// Serves until `stop` is ready.
pub async fn serve(
    core: Arc<Core>,
    doors: &Doors,
    stop: impl Future<Output = ()> + Send + Clone,
) -> Result<(), ServerError> {
    let admin = transport::listen_unix(&doors.admin, false).map_err(|source| ServerError::Socket {
        what: doors.admin.display().to_string(),
        source,
    })?;
    let (host, port) = &doors.agents;
    let agents = TcpListener::bind((host.as_str(), *port))
        .await
        .map_err(|source| ServerError::Socket {
            what: format!("{host}:{port}"),
            source,
        })?;
    tracing::info!(socket = %doors.admin.display(), agents = %format!("{host}:{port}"), "the server is ready");
    let result = tokio::select! {
        () = Arc::clone(&core).keep_time() => Ok(()),
        result = Arc::clone(&core).serve_admin(admin, stop.clone()) => result,
        result = Arc::clone(&core).serve_agents(agents, stop.clone()) => result,
        // An agent's call for news stays open as long as there is none: like SPIRE's, the server does not wait for those who
        // wait for it. What it answered is on the disk.
        () = stop => Ok(()),
    };
    // The socket of a server that ended refuses nobody any more; what is left behind otherwise is replaced at the start.
    let _ = std::fs::remove_file(&doors.admin);
    result
}
