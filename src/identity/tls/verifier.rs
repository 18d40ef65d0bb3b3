//! Verifies a peer in a handshake, whichever side it is on.

use std::{fmt, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::Refusal;
use crate::{Authorizer, Decision, Source, x509};

/// Decides in each handshake whether the peer is believed. No name of a host is looked at: the SPIFFE ID is who it is.
pub trait PeerJudge: fmt::Debug + Send + Sync {
    /// Whether the peer that shows this chain, leaf first, is believed at this moment. That it holds the leaf's key is
    /// verified beside this.
    ///
    /// # Errors
    /// What TLS is to say of why it is not.
    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error>;

    /// Whether a caller must show a certificate at all.
    fn demands_certificate(&self) -> bool {
        true
    }
}

/// Who is told of refusals.
#[derive(Clone)]
pub(super) struct Tell(pub(super) Arc<dyn Fn(&Refusal) + Send + Sync>);

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}

/// Believes whom the bundles and the authorizer do.
#[derive(Debug)]
pub(super) struct Authorized {
    pub(super) source: Arc<dyn Source>,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) tell: Tell,
}

impl Authorized {
    /// First whether the peer is who it says, then whether that one may.
    fn decide(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Refusal> {
        let context = self.source.current().ok_or(Refusal::NoContext)?;
        let leaf = x509::verify(chain, context.bundles(), now)?;
        match self.authorizer.decide(leaf.id()) {
            Decision::Allowed { .. } => Ok(()),
            Decision::Denied { why } => Err(Refusal::Unauthorized {
                id: leaf.id().clone(),
                why,
            }),
        }
    }
}

impl PeerJudge for Authorized {
    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        self.decide(chain, now).map_err(|refusal| {
            (self.tell.0)(&refusal);
            refusal.as_tls(now)
        })
    }
}

/// A verifier of rustls, for either side, that believes whom a [`PeerJudge`] does.
#[derive(Debug)]
pub struct PeerVerifier<J> {
    judge: J,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<J: PeerJudge> PeerVerifier<J> {
    /// With the signatures that ring verifies.
    pub fn new(judge: J) -> PeerVerifier<J> {
        PeerVerifier {
            judge,
            algorithms: ring::default_provider().signature_verification_algorithms,
        }
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        self.judge.judge(&chain, now)
    }
}

impl<J: PeerJudge> ServerCertVerifier for PeerVerifier<J> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl<J: PeerJudge> ClientCertVerifier for PeerVerifier<J> {
    /// No names of authorities: they change while connections go on, and a client of one SVID has no choice to make.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.judge.demands_certificate()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
