//! Mutual TLS with X.509-SVIDs, by rustls.
//!
//! Both sides show the SVID that is current when the handshake begins, verify the peer's chain against the current bundle of
//! the trust domain in its SPIFFE ID, and ask the [`Authorizer`] whether that id may connect. No name of a host is looked at:
//! the id is who the peer is. Since the [`Source`] is asked in every handshake, a rotation needs no new configuration and
//! breaks no connection; and since sessions are never resumed, every connection has such a handshake: a resumed one would
//! show no certificate, and outlive the SVID and the bundle that it began with.
//!
//! There is no way to make either side of [`MutualTls`] take a peer without a certificate, without a bundle, or without a
//! rule. What believes by other rules (SPIRE's server takes agents that have no certificate yet) has a [`PeerJudge`] of its
//! own.

mod refusal;
mod verifier;

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, ServerConfig, SupportedProtocolVersion,
    client::{ResolvesClientCert, Resumption},
    crypto::ring,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use rustls_pki_types::CertificateDer;

pub use refusal::Refusal;
pub use verifier::{PeerJudge, PeerVerifier};

use self::verifier::{Authorized, Tell};
use crate::{Authorizer, Source, SpiffeId, x509::Leaf};

/// Makes the configurations of a workload that speaks mutual TLS with its SVID.
#[derive(Clone)]
pub struct MutualTls {
    source: Arc<dyn Source>,
    authorizer: Arc<Authorizer>,
    tell: Tell,
    clock: Arc<dyn TimeProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl MutualTls {
    /// With the SVID and the bundles of `source`, for peers that `authorizer` lets in.
    pub fn new(source: Arc<dyn Source>, authorizer: Authorizer) -> MutualTls {
        MutualTls {
            source,
            authorizer: Arc::new(authorizer),
            tell: Tell(Arc::new(|_| {})),
            clock: Arc::new(DefaultTimeProvider),
            versions: rustls::ALL_VERSIONS,
        }
    }

    /// Also tells `told` of each peer that is refused, and why: of it, TLS says no more than the name of an alert.
    #[must_use]
    pub fn telling(mut self, told: impl Fn(&Refusal) + Send + Sync + 'static) -> MutualTls {
        self.tell = Tell(Arc::new(told));
        self
    }

    /// With another clock than the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn TimeProvider>) -> MutualTls {
        self.clock = clock;
        self
    }

    /// With these versions of TLS alone.
    #[must_use]
    pub fn with_versions(mut self, versions: &'static [&'static SupportedProtocolVersion]) -> MutualTls {
        self.versions = versions;
        self
    }

    /// For connections that the workload opens. The server's name that the caller gives is sent (SNI) and not verified.
    ///
    /// # Errors
    /// What rustls finds wrong with the versions.
    pub fn client(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::clone(&self.clock))
            .with_protocol_versions(self.versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.verifier()))
            .with_client_cert_resolver(Arc::new(Shown(Arc::clone(&self.source))));
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// For connections that the workload accepts. A caller must show a certificate.
    ///
    /// # Errors
    /// What rustls finds wrong with the versions.
    pub fn server(&self) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_details(provider, Arc::clone(&self.clock))
            .with_protocol_versions(self.versions)?
            .with_client_cert_verifier(Arc::new(self.verifier()))
            .with_cert_resolver(Arc::new(Shown(Arc::clone(&self.source))));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn verifier(&self) -> PeerVerifier<Authorized> {
        PeerVerifier::new(Authorized {
            source: Arc::clone(&self.source),
            authorizer: Arc::clone(&self.authorizer),
            tell: self.tell.clone(),
        })
    }
}

impl fmt::Debug for MutualTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutualTls")
            .field("source", &self.source)
            .field("authorizer", &self.authorizer)
            .finish_non_exhaustive()
    }
}

/// Who the peer of a finished handshake is, from the chain that rustls keeps of it.
pub fn peer_id(chain: Option<&[CertificateDer<'_>]>) -> Option<SpiffeId> {
    Leaf::read(chain?.first()?).ok().map(|leaf| leaf.id().clone())
}

/// Shows the SVID that is current.
#[derive(Debug)]
struct Shown(Arc<dyn Source>);

impl Shown {
    fn now(&self) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current()?.default_svid().certified_key())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.now()
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.now()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
