//! Mutual TLS between server and agents: each verifies the other against the trust domain's bundle, by the program's
//! clock, and the exact SPIFFE ID where it is known beforehand.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    Error, SignatureScheme,
    client::ResolvesClientCert,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, UnixTime},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use ztlab_identity::{
    SpiffeId, X509BundleSet,
    tls::{PeerJudge, PeerVerifier},
    x509,
};

use crate::clock::SharedClock;

/// Who is at the other end, by a certificate that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its SPIFFE ID.
    pub id: SpiffeId,
    /// Its certificate's serial number, decimal.
    pub serial: String,
    /// When its certificate ends, in seconds of the Unix epoch.
    pub not_after: i64,
}

/// The peer of a handshake that held; `None` if it showed no certificate.
pub fn peer_of(chain: Option<&[CertificateDer<'_>]>) -> Option<Peer> {
    let leaf = x509::Leaf::read(chain?.first()?).ok()?;
    let digits: String = leaf.serial().chars().filter(|letter| *letter != ':').collect();
    let serial = u128::from_str_radix(&digits, 16).ok()?.to_string();
    Some(Peer {
        id: leaf.id().clone(),
        serial,
        not_after: leaf.validity().not_after,
    })
}

/// The certificate that this end shows, which is replaced while connections go on.
#[derive(Debug, Default)]
pub struct Identity(RwLock<Option<Arc<CertifiedKey>>>);

impl Identity {
    /// Shows `key` from now on.
    pub fn set(&self, key: Option<Arc<CertifiedKey>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current()
    }

    fn has_certs(&self) -> bool {
        self.current().is_some()
    }
}

/// Whom this end believes: asked in each handshake, since bundles change.
pub struct Trust {
    /// The bundles at the moment of the call.
    pub bundles: Box<dyn Fn() -> X509BundleSet + Send + Sync>,
    /// Only this peer is believed; `None` for anybody of the trust domain.
    pub only: Option<SpiffeId>,
    /// As long as no bundle is known, whoever says to be `only` is believed: SPIRE's insecure bootstrap.
    pub on_first_use: bool,
    /// The time.
    pub clock: SharedClock,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}

impl PeerJudge for Trust {
    fn judge(&self, chain: &[CertificateDer<'_>], _: UnixTime) -> Result<(), Error> {
        let now = u64::try_from(self.clock.now()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let bundles = (self.bundles)();
        let leaf = match chain {
            [leaf, ..] if bundles.is_empty() && self.on_first_use => x509::Leaf::read(leaf),
            chain => x509::verify(chain, &bundles, now),
        };
        let leaf = leaf.map_err(|error| Error::General(error.to_string()))?;
        match &self.only {
            Some(only) if leaf.id() != only => Err(Error::General(format!("the peer is {}, not {only}", leaf.id()))),
            _ => Ok(()),
        }
    }

    /// An agent that attests has no certificate yet; what it may call then is the authorization's question.
    fn demands_certificate(&self) -> bool {
        false
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The server's end. No session is resumed: it could outlive the SVID that began it.
pub fn server_config(identity: Arc<Identity>, trust: Trust) -> Result<rustls::ServerConfig, Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(PeerVerifier::new(trust)))
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The agent's end.
pub fn client_config(identity: Arc<Identity>, trust: Trust) -> Result<rustls::ClientConfig, Error> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PeerVerifier::new(trust)))
        .with_client_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
