//! Certificate signing requests (PKCS#10, RFC 2986): what is believed of them.

use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use ztlab_identity::SpiffeId;

use crate::refusal::Refusal;

/// Longer than any request of one key and a few names, in bytes.
const LONGEST: usize = 16 * 1024;

/// A request whose sender has the key that it names. Nothing else in it is believed but what the caller may ask for.
#[derive(Debug, Clone)]
pub struct SigningRequest {
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// The SPIFFE ID asked for, if there is one.
    pub spiffe_id: Option<SpiffeId>,
    /// The DNS names asked for.
    pub dns_names: Vec<String>,
}

impl SigningRequest {
    /// Reads a request and verifies its signature.
    pub fn read(der: &[u8]) -> Result<Self, Refusal> {
        if der.is_empty() {
            return Err(Refusal::invalid("missing CSR"));
        }
        if der.len() > LONGEST {
            return Err(Refusal::invalid(format!(
                "malformed CSR: {} bytes are more than {LONGEST}",
                der.len()
            )));
        }
        let (rest, request) = X509CertificationRequest::from_der(der)
            .map_err(|error| Refusal::invalid(format!("malformed CSR: {error}")))?;
        if !rest.is_empty() {
            return Err(Refusal::invalid("malformed CSR: bytes follow it"));
        }
        request
            .verify_signature()
            .map_err(|_| Refusal::invalid("invalid CSR signature"))?;
        let mut uris = Vec::new();
        let mut dns_names = Vec::new();
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else {
                continue;
            };
            for name in &names.general_names {
                match name {
                    GeneralName::URI(uri) => uris.push(*uri),
                    GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                    _ => {}
                }
            }
        }
        let spiffe_id = match uris.as_slice() {
            [] => None,
            [uri] => Some(
                SpiffeId::parse(uri).map_err(|error| Refusal::invalid(format!("CSR URI SAN is invalid: {error}")))?,
            ),
            _ => return Err(Refusal::invalid("CSR must have exactly one URI SAN")),
        };
        let public_key = request.certification_request_info.subject_pki.raw.to_vec();
        Ok(Self {
            public_key,
            spiffe_id,
            dns_names,
        })
    }
}
