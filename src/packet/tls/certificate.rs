//! Certificates, read by `x509-parser`, which the API server uses too.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::facts::Certificate;
use crate::text::one_line;

/// Names read of one certificate.
const NAMES: usize = 32;

/// What a certificate in DER says; what cannot be read is said in [`Certificate::trouble`].
pub(super) fn read(der: &[u8]) -> Certificate {
    let parsed = match X509Certificate::from_der(der) {
        Ok((_, parsed)) => parsed,
        Err(error) => {
            return Certificate {
                trouble: one_line(format!("not a certificate that can be read: {error}").as_bytes()),
                ..Certificate::default()
            };
        }
    };
    let mut certificate = Certificate {
        subject: one_line(parsed.subject().to_string().as_bytes()),
        issuer: one_line(parsed.issuer().to_string().as_bytes()),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        ca: parsed.is_ca(),
        ..Certificate::default()
    };
    match parsed.subject_alternative_name() {
        Ok(Some(names)) => {
            for name in names.value.general_names.iter().take(NAMES) {
                match name {
                    GeneralName::DNSName(name) => certificate.names.push(one_line(name.as_bytes())),
                    GeneralName::IPAddress(bytes) => certificate.names.extend(address(bytes)),
                    GeneralName::URI(uri) => certificate.uris.push(one_line(uri.as_bytes())),
                    _ => {}
                }
            }
        }
        Ok(None) => {}
        Err(error) => certificate.trouble = one_line(format!("its names cannot be read: {error}").as_bytes()),
    }
    if let [uri] = certificate.uris.as_slice() {
        certificate.spiffe_id = uri
            .get(..9)
            .filter(|scheme| scheme.eq_ignore_ascii_case("spiffe://"))
            .map(|_| uri.clone());
    }
    certificate
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(bytes).to_string());
    }
    let bytes = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(bytes).to_string())
}

impl Certificate {
    /// One line of who it is for.
    pub(crate) fn describe(&self) -> String {
        if !self.trouble.is_empty() && self.subject.is_empty() {
            return self.trouble.clone();
        }
        let mut names = self.uris.clone();
        names.extend(self.names.iter().cloned());
        let names = if names.is_empty() {
            "no alternative names".to_owned()
        } else {
            names.join(", ")
        };
        let subject = if self.subject.is_empty() {
            "no subject"
        } else {
            &self.subject
        };
        format!("{subject} ({names}), signed by {}", self.issuer)
    }
}
