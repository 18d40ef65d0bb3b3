//! New keys, and requests to have them signed.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};

/// A key that was just made, and a request for it.
pub struct NewKey {
    /// PKCS#8, DER.
    pub pkcs8: Vec<u8>,
    /// PKCS#10, DER.
    pub csr: Vec<u8>,
}

/// Makes a P-256 key and a request; `id` is the SPIFFE ID asked for, which a server that signs by entry does not read.
pub fn new_key(id: Option<&str>) -> Result<NewKey, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(id) = id {
        params.subject_alt_names.push(SanType::URI(id.try_into()?));
    }
    let csr = params.serialize_request(&key)?.der().to_vec();
    Ok(NewKey {
        pkcs8: key.serialize_der(),
        csr,
    })
}
