//! The certificate that signs others (X509-SVID sections 3.2 and 4).

use std::{fmt, sync::Arc};

use rustls_pki_types::{CertificateDer, TrustAnchor};

use super::{
    Validity, X509Error,
    profile::{self, UriNames},
};
use crate::{PublicKey, SpiffeId};

/// A signing certificate, as a bundle holds it. Cheap to clone.
#[derive(Clone)]
pub struct Authority(Arc<(Known, CertificateDer<'static>)>);

struct Known {
    anchor: TrustAnchor<'static>,
    path_length: Option<u32>,
    id: Option<SpiffeId>,
    validity: Validity,
    subject: String,
    serial: String,
    public_key: PublicKey,
}

impl Authority {
    /// Reads a certificate by the rules for signing certificates. One that is no SVID (an organisation's own root) needs no
    /// SPIFFE ID and no key usage.
    ///
    /// # Errors
    /// [`X509Error`], the first rule that it breaks.
    pub fn read(der: CertificateDer<'static>) -> Result<Authority, X509Error> {
        let read = profile::read(&der)?;
        let known = Known {
            id: check(&read)?,
            anchor: webpki::anchor_from_trusted_cert(&der)
                .map_err(|error| X509Error::NotACertificate(error.to_string()))?
                .to_owned(),
            path_length: profile::path_length(&read)?,
            validity: profile::validity(&read),
            subject: read.subject().to_string(),
            serial: read.raw_serial_as_string(),
            public_key: PublicKey::of(read.public_key())?,
        };
        Ok(Authority(Arc::new((known, der))))
    }

    /// The certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.0.1
    }

    /// Its SPIFFE ID, if it is an SVID itself: that of a trust domain.
    pub fn id(&self) -> Option<&SpiffeId> {
        self.0.0.id.as_ref()
    }

    /// When it may be used.
    pub fn validity(&self) -> Validity {
        self.0.0.validity
    }

    /// Its distinguished name; may hold any text.
    pub fn subject(&self) -> &str {
        &self.0.0.subject
    }

    /// Its serial number, in hexadecimal with colons.
    pub fn serial(&self) -> &str {
        &self.0.0.serial
    }

    /// Its public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.0.public_key
    }

    /// What a certification path may end at.
    pub(super) fn anchor(&self) -> &TrustAnchor<'static> {
        &self.0.0.anchor
    }

    /// How many signing certificates may follow it on a path; nothing where it does not say.
    pub(super) fn path_length(&self) -> Option<u32> {
        self.0.0.path_length
    }
}

/// The rules for signing certificates; gives the SPIFFE ID, if there is one.
pub(super) fn check(read: &x509_parser::certificate::X509Certificate<'_>) -> Result<Option<SpiffeId>, X509Error> {
    if !profile::is_authority(read)? {
        return Err(X509Error::NotAnAuthority);
    }
    let usage = profile::key_usage(read)?;
    if usage.is_some_and(|(usage, _)| !usage.key_cert_sign()) {
        return Err(X509Error::MissingKeyUsage("keyCertSign"));
    }
    let uri = match profile::uri_names(read)? {
        UriNames::None => return Ok(None),
        UriNames::Many(number) => return Err(X509Error::UriNames(number)),
        UriNames::One { uri, .. } => uri,
    };
    let id = profile::id(uri)?;
    if !id.path().is_root() {
        return Err(X509Error::AuthorityWithPath(id));
    }
    // From here on it is an SVID, of which the standard demands more than RFC 5280 does.
    match usage {
        None => Err(X509Error::NoKeyUsage),
        Some((_, false)) => Err(X509Error::KeyUsageNotCritical),
        Some((_, true)) => Ok(Some(id)),
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Authority) -> bool {
        self.0.1 == other.0.1
    }
}

impl Eq for Authority {}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("id", &self.0.0.id)
            .field("subject", &self.0.0.subject)
            .field("serial", &self.0.0.serial)
            .field("validity", &self.0.0.validity)
            .finish()
    }
}
