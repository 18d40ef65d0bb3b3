//! Certificates in the two ways they are handed over: DER one after the other (SPIFFE Workload API), and PEM.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::x509::X509Error;

/// Certificates that are taken from one list: chains and bundles of a trust domain are far shorter.
pub(crate) const MOST_CERTIFICATES: usize = 64;

/// The certificates of `bytes`, in DER, without anything between them.
pub(crate) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, X509Error> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (after, _) =
            X509Certificate::from_der(rest).map_err(|error| X509Error::NotACertificate(error.to_string()))?;
        let (certificate, after) = rest.split_at(rest.len() - after.len());
        rest = after;
        push(&mut found, CertificateDer::from(certificate.to_vec()))?;
    }
    Ok(found)
}

/// The certificates of a PEM text; sections of other kinds are passed over.
pub(crate) fn certificates_of_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, X509Error> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        push(
            &mut found,
            certificate.map_err(|error| X509Error::Pem(error.to_string()))?,
        )?;
    }
    Ok(found)
}

fn push(found: &mut Vec<CertificateDer<'static>>, certificate: CertificateDer<'static>) -> Result<(), X509Error> {
    if found.len() == MOST_CERTIFICATES {
        return Err(X509Error::TooManyCertificates);
    }
    found.push(certificate);
    Ok(())
}

/// `certificate` as PEM text, which ends with a line break.
pub(crate) fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
