//! Judging a TLS server's certificate apart from what is made of the judgement: a probe and the tool box's clients both
//! look at certificates that a browser would turn down, and both must say what a browser would have said.
//!
//! Knows no probe and no tool: whoever uses it brings a [`Ruling`]. Signatures are always verified (RFC 8446 §4.4.3), so
//! that a server that does not have the key of its certificate never gets through.

use std::{fmt, sync::Arc};

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What is made of a judgement.
pub trait Ruling: fmt::Debug + Send + Sync {
    /// Whether the handshake goes on: `chain` is what the server showed, its own certificate first, `found` what the web's
    /// rules say of it for the name that was asked for; `None` without authorities to judge by.
    ///
    /// # Errors
    /// What the handshake ends with.
    fn rule(&self, chain: &[&CertificateDer<'_>], found: Option<Result<(), Error>>) -> Result<(), Error>;
}

/// A verifier that judges as the web does, and leaves the ruling to another.
#[derive(Debug)]
pub struct Judged<R> {
    /// The web's rules with the authorities to judge by.
    pub judge: Option<Arc<WebPkiServerVerifier>>,
    /// Whose algorithms verify signatures.
    pub provider: Arc<CryptoProvider>,
    /// What is made of the judgement.
    pub ruling: R,
}

impl<R: Ruling> ServerCertVerifier for Judged<R> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judge = self.judge.as_ref();
        let found = judge.map(|judge| {
            judge
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map(drop)
        });
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).collect();
        self.ruling.rule(&chain, found)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rustls::{RootCertStore, crypto::ring};

    use super::*;
    use crate::{
        evidence::chain_of,
        probe::pki::{self, Recipe, Role},
    };

    /// Lets everything through that was judged, and remembers it.
    #[derive(Debug, Default)]
    struct Noted(Mutex<Vec<Heard>>);

    /// How long the chain was, and what the web said of it.
    type Heard = (usize, Option<Result<(), Error>>);

    impl Ruling for Noted {
        fn rule(&self, chain: &[&CertificateDer<'_>], found: Option<Result<(), Error>>) -> Result<(), Error> {
            let judged = found.is_some();
            self.0.lock().unwrap().push((chain.len(), found));
            judged.then_some(()).ok_or(Error::General("nobody judged".to_owned()))
        }
    }

    #[test]
    fn the_ruling_hears_what_the_web_says_and_has_the_last_word() {
        let recipe = |name: &str, role| Recipe {
            name: name.to_owned(),
            names: vec![name.to_owned()],
            days: 1,
            expired: false,
            role,
        };
        let leaf = Role::Leaf {
            server: true,
            client: false,
        };
        let root = Role::Authority {
            flag: true,
            path_length: None,
        };
        let authority = pki::self_signed(&recipe("authority", root)).unwrap();
        let signed = pki::signed_by(&recipe("b", leaf), &authority).unwrap();
        let der = |pem: &str| chain_of(pem.as_bytes()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(der(&authority.chain)[0].clone()).unwrap();
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let judged = Judged {
            judge: Some(judge.build().unwrap()),
            provider: provider.clone(),
            ruling: Noted::default(),
        };
        let chain = der(&signed.chain);
        let verify = |judged: &Judged<Noted>, name: &'static str| {
            let name = ServerName::try_from(name).unwrap();
            judged.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now())
        };
        assert!(verify(&judged, "b").is_ok() && verify(&judged, "other").is_ok());
        let noted = judged.ruling.0.lock().unwrap();
        assert!(
            matches!(&noted[0], (length, Some(Ok(()))) if *length == chain.len()),
            "{noted:?}"
        );
        assert!(
            matches!(&noted[1], (_, Some(Err(Error::InvalidCertificate(_))))),
            "{noted:?}"
        );
        let alone = Judged {
            judge: None,
            provider,
            ruling: Noted::default(),
        };
        assert_eq!(
            verify(&alone, "b").unwrap_err(),
            Error::General("nobody judged".to_owned())
        );
    }
}
