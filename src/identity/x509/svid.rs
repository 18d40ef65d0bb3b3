//! A workload's own X.509-SVID: its chain and its key.

use std::{fmt, sync::Arc};

use rustls::{crypto::ring::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::{Zeroize, Zeroizing};

use super::{Authority, Leaf, Validity, X509Error};
use crate::{SpiffeId, der};

/// An X.509-SVID with its private key: the chain is that of a leaf, its intermediates are signing certificates, and the key
/// is the leaf's. The key is shown by no `Debug` and wiped when the last clone is let go. Cheap to clone.
#[derive(Clone)]
pub struct X509Svid {
    leaf: Arc<Leaf>,
    key: Arc<Zeroizing<Vec<u8>>>,
    certified: Arc<CertifiedKey>,
    hint: Arc<str>,
}

impl X509Svid {
    /// Joins a chain, the leaf first and without the root, and the leaf's key in PKCS#8.
    ///
    /// # Errors
    /// [`X509Error`], when the leaf is none, an intermediate may not sign, or the key is another's.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivatePkcs8KeyDer<'static>) -> Result<X509Svid, X509Error> {
        let secret = Zeroizing::new(key.secret_pkcs8_der().to_vec());
        if chain.len() > der::MOST_CERTIFICATES {
            return Err(X509Error::TooManyCertificates);
        }
        let (first, intermediates) = chain.split_first().ok_or(X509Error::EmptyChain)?;
        let leaf = Leaf::read(first)?;
        for intermediate in intermediates {
            Authority::read(intermediate.clone())?;
        }
        let mut key = PrivateKeyDer::Pkcs8(key);
        let signer = any_supported_type(&key).map_err(|error| X509Error::Key(error.to_string()));
        key.zeroize();
        let signer = signer?;
        let public = signer
            .public_key()
            .ok_or_else(|| X509Error::Key("its public key is not known".to_owned()))?;
        if public.as_ref() != leaf.public_key() {
            return Err(X509Error::KeyMismatch);
        }
        Ok(X509Svid {
            leaf: Arc::new(leaf),
            key: Arc::new(secret),
            certified: Arc::new(CertifiedKey::new(chain, signer)),
            hint: "".into(),
        })
    }

    /// As [`X509Svid::new`], from certificates in DER one after the other and a key in DER (SPIFFE Workload API section 5.2).
    ///
    /// # Errors
    /// As [`X509Svid::new`].
    pub fn from_der(chain: &[u8], key: &[u8]) -> Result<X509Svid, X509Error> {
        X509Svid::new(der::certificates(chain)?, PrivatePkcs8KeyDer::from(key.to_vec()))
    }

    /// As [`X509Svid::new`], from PEM texts.
    ///
    /// # Errors
    /// As [`X509Svid::new`], and when there is no PKCS#8 key in `key`.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<X509Svid, X509Error> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(key).map_err(|error| X509Error::Key(error.to_string()))?;
        X509Svid::new(der::certificates_of_pem(chain)?, key)
    }

    /// With the operator's hint, by which a workload of several SVIDs tells them apart (SPIFFE Workload API section 5.2.1).
    #[must_use]
    pub fn with_hint(mut self, hint: &str) -> X509Svid {
        self.hint = hint.into();
        self
    }

    /// Whom it identifies.
    pub fn id(&self) -> &SpiffeId {
        self.leaf.id()
    }

    /// What the leaf says.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// When the leaf may be used.
    pub fn validity(&self) -> Validity {
        self.leaf.validity()
    }

    /// The certificates, the leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The certificates in DER, one after the other, the leaf first, as the Workload API sends them.
    pub fn chain_der(&self) -> Vec<u8> {
        self.chain().iter().flat_map(|it| it.as_ref()).copied().collect()
    }

    /// The certificates as PEM text, the leaf first.
    pub fn chain_pem(&self) -> String {
        self.chain().iter().map(der::to_pem).collect()
    }

    /// The private key, PKCS#8 in DER. Only for handing it to the workload it belongs to.
    pub fn key_der(&self) -> &[u8] {
        &self.key
    }

    /// The operator's hint; empty if there is none.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// As rustls takes it.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Svid")
            .field("leaf", &self.leaf)
            .field("certificates", &self.chain().len())
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}
