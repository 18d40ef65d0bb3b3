//! The certificate of a workload (X509-SVID sections 3.1 and 4).

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

use super::{
    Validity, X509Error,
    profile::{self, UriNames},
};
use crate::SpiffeId;

/// What the certificate of a workload says. It has every property that the standard demands of a leaf; whether its issuer is
/// trusted is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    id: SpiffeId,
    validity: Validity,
    serial: String,
    issuer: String,
    public_key: Vec<u8>,
}

impl Leaf {
    /// Reads a certificate by the rules for leaves.
    ///
    /// # Errors
    /// [`X509Error`], the first rule that it breaks.
    pub fn read(der: &CertificateDer<'_>) -> Result<Leaf, X509Error> {
        let read = profile::read(der)?;
        let id = id_of(&read)?;
        check_usage(&read)?;
        Ok(Leaf {
            id,
            validity: profile::validity(&read),
            serial: read.raw_serial_as_string(),
            issuer: read.issuer().to_string(),
            public_key: read.public_key().raw.to_vec(),
        })
    }

    /// Whom it identifies.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// When it may be used.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Its serial number, in hexadecimal with colons.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The distinguished name of who signed it, as it says; may hold any text.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Its public key, as SubjectPublicKeyInfo in DER.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

fn id_of(read: &X509Certificate<'_>) -> Result<SpiffeId, X509Error> {
    let (uri, critical) = match profile::uri_names(read)? {
        UriNames::None => return Err(X509Error::UriNames(0)),
        UriNames::Many(number) => return Err(X509Error::UriNames(number)),
        UriNames::One { uri, critical } => (uri, critical),
    };
    let id = profile::id(uri)?;
    if id.path().is_root() {
        return Err(X509Error::NoPath(id));
    }
    if !critical && read.subject().iter_rdn().next().is_none() {
        return Err(X509Error::NamesNotCritical);
    }
    Ok(id)
}

fn check_usage(read: &X509Certificate<'_>) -> Result<(), X509Error> {
    if profile::is_authority(read)? {
        return Err(X509Error::LeafIsAuthority);
    }
    let (usage, critical) = profile::key_usage(read)?.ok_or(X509Error::NoKeyUsage)?;
    if usage.key_cert_sign() {
        return Err(X509Error::ForbiddenKeyUsage("keyCertSign"));
    }
    if usage.crl_sign() {
        return Err(X509Error::ForbiddenKeyUsage("cRLSign"));
    }
    if !critical {
        return Err(X509Error::KeyUsageNotCritical);
    }
    if !usage.digital_signature() {
        return Err(X509Error::MissingKeyUsage("digitalSignature"));
    }
    let extended = read
        .extended_key_usage()
        .map_err(|error| X509Error::Extensions(error.to_string()))?;
    match extended {
        Some(extended) if !extended.value.server_auth => Err(X509Error::MissingExtendedUsage("serverAuth")),
        Some(extended) if !extended.value.client_auth => Err(X509Error::MissingExtendedUsage("clientAuth")),
        _ => Ok(()),
    }
}
