//! What a certificate says of its holder, in words for a log.

use rustls_pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::standins::log::bounded;

/// What a peer proved by a certificate that was verified, and by the signature of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// The subject, as `CN=orders-api`.
    pub subject: String,
    /// The subject alternative names, as `DNS:orders-api`.
    pub names: Vec<String>,
    /// Which certificate it was.
    pub shown: Shown,
}

/// Which certificate somebody showed, so that the next one can be told from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The serial number, in hexadecimal digits.
    pub serial: String,
    /// Valid from, in seconds since the Unix epoch.
    pub not_before: i64,
    /// Valid until, in seconds since the Unix epoch.
    pub not_after: i64,
}

impl Shown {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            serial: bounded(&certificate.raw_serial_as_string()),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        }
    }
}

impl Proved {
    /// Reads the peer's own certificate, the first of its chain.
    pub fn by(chain: Option<&[CertificateDer<'_>]>) -> Option<Proved> {
        let (_, read) = X509Certificate::from_der(chain?.first()?).ok()?;
        Some(Proved {
            subject: bounded(&read.subject().to_string()),
            names: names(&read),
            shown: Shown::of(&read),
        })
    }

    /// As an access log has it.
    pub fn text(&self) -> String {
        let who = format!("certificate of {}", self.subject);
        if self.names.is_empty() {
            who
        } else {
            bounded(&format!("{who} ({})", self.names.join(", ")))
        }
    }
}

/// The names beside the subject, written as OpenSSL writes them.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Some(found) = certificate.subject_alternative_name().ok().flatten() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::URI(name) => format!("URI:{name}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::IPAddress([a, b, c, d]) => format!("IP:{a}.{b}.{c}.{d}"),
        other => other.to_string(),
    };
    found.value.general_names.iter().map(name).collect()
}

/// One line about a certificate that is shown to others.
pub fn summary(certificate: &CertificateDer<'_>) -> String {
    let Ok((_, read)) = X509Certificate::from_der(certificate) else {
        return "unreadable".to_owned();
    };
    let until = read.validity().not_after.timestamp();
    let until = jiff::Timestamp::from_second(until).map_or_else(|_| format!("second {until}"), |time| time.to_string());
    let proved = Proved {
        subject: bounded(&read.subject().to_string()),
        names: names(&read),
        shown: Shown::of(&read),
    };
    let names = if proved.names.is_empty() {
        String::new()
    } else {
        format!(" ({})", proved.names.join(", "))
    };
    format!("{}{names}, issued by {}, until {until}", proved.subject, read.issuer())
}
