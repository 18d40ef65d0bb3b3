//! Certificates and keys as facts: what an X.509 certificate says, and which of them belong together.
//!
//! They come from strangers and from students: whatever they hold, reading them ends in facts or in words.

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::text::one_line;

/// Certificates that are read of one text.
const CHAIN: usize = 16;
/// Names that are read of one certificate.
const NAMES: usize = 64;

/// The words for key usages (RFC 5280 §4.2.1.3), in the order of their bits.
pub const KEY_USAGES: [&str; 9] = [
    "digital-signature",
    "content-commitment",
    "key-encipherment",
    "data-encipherment",
    "key-agreement",
    "key-cert-sign",
    "crl-sign",
    "encipher-only",
    "decipher-only",
];

/// The words for extended key usages (RFC 5280 §4.2.1.12).
pub const EXTENDED_KEY_USAGES: [&str; 7] = [
    "any",
    "server-auth",
    "client-auth",
    "code-signing",
    "email-protection",
    "time-stamping",
    "ocsp-signing",
];

/// What a certificate says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateFacts {
    /// Distinguished name of its owner.
    pub subject: String,
    /// The common name in it.
    pub common_name: Option<String>,
    /// Distinguished name of who signed it.
    pub issuer: String,
    /// The common name in it.
    pub issuer_common_name: Option<String>,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Valid from, in seconds since the Unix epoch.
    pub not_before: i64,
    /// Valid until, in seconds since the Unix epoch.
    pub not_after: i64,
    /// Whether it may sign others; `None` without basic constraints.
    pub ca: Option<bool>,
    /// How many authorities may follow below it.
    pub path_length: Option<u32>,
    /// What its key is for, in the words of [`KEY_USAGES`]; `None` without the extension.
    pub key_usage: Option<Vec<String>>,
    /// What it may be shown for, in the words of [`EXTENDED_KEY_USAGES`] or as an object identifier; `None` without
    /// the extension.
    pub extended_key_usage: Option<Vec<String>>,
    /// The DNS names it is for.
    pub dns: Vec<String>,
    /// The addresses it is for.
    pub addresses: Vec<String>,
    /// The URIs it is for; a SPIFFE ID is one.
    pub uris: Vec<String>,
    /// SHA-256 of its public key (SubjectPublicKeyInfo), hexadecimal: the same for every certificate of a key.
    pub key: String,
    /// SHA-256 of the whole certificate, hexadecimal.
    pub fingerprint: String,
    /// Whether subject and issuer are the same, and its own key signed it.
    pub self_signed: bool,
}

impl CertificateFacts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|error| one_line(&format!("not a certificate: {error}")))?;
        let mut facts = Self {
            subject: one_line(&parsed.subject().to_string()),
            common_name: common_name(parsed.subject()),
            issuer: one_line(&parsed.issuer().to_string()),
            issuer_common_name: common_name(parsed.issuer()),
            serial: hex(parsed.raw_serial()),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            key: hex(&sha2::Sha256::digest(parsed.public_key().raw)),
            fingerprint: hex(&sha2::Sha256::digest(der)),
            self_signed: parsed.subject().as_raw() == parsed.issuer().as_raw() && parsed.verify_signature(None).is_ok(),
            ..Self::default()
        };
        for extension in parsed.extensions() {
            facts.extension(extension.parsed_extension())?;
        }
        Ok(facts)
    }

    fn extension(&mut self, extension: &ParsedExtension<'_>) -> Result<(), String> {
        match extension {
            ParsedExtension::BasicConstraints(constraints) => {
                self.ca = Some(constraints.ca);
                self.path_length = constraints.path_len_constraint;
            }
            ParsedExtension::KeyUsage(usage) => {
                let set = KEY_USAGES
                    .iter()
                    .enumerate()
                    .filter(|(bit, _)| (usage.flags >> bit) & 1 == 1);
                self.key_usage = Some(set.map(|(_, word)| (*word).to_owned()).collect());
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let set = [
                    usage.any,
                    usage.server_auth,
                    usage.client_auth,
                    usage.code_signing,
                    usage.email_protection,
                    usage.time_stamping,
                    usage.ocsp_signing,
                ];
                let known = EXTENDED_KEY_USAGES.iter().zip(set).filter(|(_, set)| *set);
                let mut words: Vec<String> = known.map(|(word, _)| (*word).to_owned()).collect();
                words.extend(usage.other.iter().take(NAMES).map(ToString::to_string));
                self.extended_key_usage = Some(words);
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in names.general_names.iter().take(NAMES) {
                    match name {
                        GeneralName::DNSName(name) => self.dns.push(one_line(name)),
                        GeneralName::IPAddress(bytes) => self.addresses.extend(address(bytes)),
                        GeneralName::URI(uri) => self.uris.push(one_line(uri)),
                        _ => {}
                    }
                }
            }
            ParsedExtension::ParseError { error } => return Err(one_line(&format!("an extension is broken: {error}"))),
            _ => {}
        }
        Ok(())
    }

    /// Every alternative name: DNS names, addresses, URIs.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let all = self.dns.iter().chain(&self.addresses).chain(&self.uris);
        all.map(String::as_str)
    }

    /// Whether it is valid at a moment, in seconds since the Unix epoch.
    pub fn valid_at(&self, seconds: i64) -> bool {
        (self.not_before..=self.not_after).contains(&seconds)
    }

    /// Whether it may sign certificates: the CA flag, and the key usage where there is one (RFC 5280 §4.2.1.9).
    pub fn may_sign(&self) -> bool {
        let usage = self.key_usage.as_ref();
        self.ca == Some(true) && usage.is_none_or(|usage| usage.iter().any(|word| word == "key-cert-sign"))
    }

    /// One line of who it is for, who signed it and until when it is valid.
    pub fn describe(&self) -> String {
        let names: Vec<&str> = self.names().collect();
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
        let ca = if self.ca == Some(true) { ", an authority" } else { "" };
        format!(
            "{subject} ({names}){ca}, signed by {}, valid {} to {}",
            self.issuer,
            date(self.not_before),
            date(self.not_after)
        )
    }
}

fn common_name(name: &x509_parser::x509::X509Name<'_>) -> Option<String> {
    let first = name.iter_common_name().next()?;
    first.as_str().ok().map(one_line)
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(bytes).to_string());
    }
    let bytes = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(bytes).to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A moment as RFC 3339, to the second.
pub fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s since 1970"), |time| time.to_string())
}

/// The certificates of a PEM text, in order.
///
/// # Errors
/// When there is none, or one that is no PEM.
pub fn chain_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem)
        .take(CHAIN)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| one_line(&format!("no PEM: {error}")))?;
    if found.is_empty() {
        return Err("holds no certificate (a PEM block `BEGIN CERTIFICATE`)".to_owned());
    }
    Ok(found)
}

/// The first private key of a PEM text: PKCS#8, PKCS#1 or SEC 1.
///
/// # Errors
/// When there is none, or one that is encrypted or of no kind that TLS uses here.
pub fn key_of(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        return Err("its private key is encrypted with a passphrase".to_owned());
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => {
            "holds no private key (a PEM block `BEGIN PRIVATE KEY`)".to_owned()
        }
        other => one_line(&format!("no PEM: {other}")),
    })
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// SHA-256 of the public key of a private key, hexadecimal, as [`CertificateFacts::key`] has it.
///
/// # Errors
/// When the key cannot be used.
pub fn public_of(key: &PrivateKeyDer<'_>) -> Result<String, String> {
    let key = rustls::crypto::ring::sign::any_supported_type(key)
        .map_err(|error| one_line(&format!("a private key that cannot be used: {error}")))?;
    let public = key.public_key().ok_or("a private key without a public one")?;
    Ok(hex(&sha2::Sha256::digest(public.as_ref())))
}

/// Whether `signer` signed `signed`: the names chain, and the signature verifies with the signer's key.
///
/// # Errors
/// Why not.
pub fn signed_by(signed: &[u8], signer: &[u8]) -> Result<(), String> {
    let read = |der| X509Certificate::from_der(der).map(|(_, parsed)| parsed);
    let (signed, signer) = match (read(signed), read(signer)) {
        (Ok(signed), Ok(signer)) => (signed, signer),
        (Err(error), _) | (_, Err(error)) => return Err(one_line(&format!("not a certificate: {error}"))),
    };
    if signed.issuer().as_raw() != signer.subject().as_raw() {
        return Err(one_line(&format!(
            "it names {} as its issuer, not {}",
            signed.issuer(),
            signer.subject()
        )));
    }
    signed
        .verify_signature(Some(signer.public_key()))
        .map_err(|_| one_line(&format!("the key of {} did not sign it", signer.subject())))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    };

    use super::*;

    fn ca(name: &str) -> (rcgen::Certificate, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate, Issuer::new(params, key))
    }

    #[test]
    fn a_certificate_is_told_in_full() {
        let (authority, issuer) = ca("shop CA");
        let facts = CertificateFacts::read(authority.der()).unwrap();
        assert_eq!(facts.common_name.as_deref(), Some("shop CA"));
        assert_eq!((facts.ca, facts.path_length), (Some(true), Some(0)));
        assert!(facts.self_signed && facts.may_sign());
        let mut params = CertificateParams::new(vec!["payments-api".to_owned(), "10.0.0.7".to_owned()]).unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(
            "spiffe://shop/payments".to_owned().try_into().unwrap(),
        ));
        params.distinguished_name.push(DnType::CommonName, "payments\u{1b}[2J");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let facts = CertificateFacts::read(leaf.der()).unwrap();
        assert_eq!(
            facts.names().collect::<Vec<_>>(),
            ["payments-api", "10.0.0.7", "spiffe://shop/payments"]
        );
        assert_eq!(facts.ca, Some(false));
        assert_eq!(facts.key_usage.as_deref(), Some(&["digital-signature".to_owned()][..]));
        assert_eq!(
            facts.extended_key_usage.as_deref(),
            Some(&["server-auth".to_owned()][..])
        );
        assert_eq!(facts.issuer_common_name.as_deref(), Some("shop CA"));
        assert!(!facts.self_signed && !facts.may_sign());
        assert!(!facts.describe().contains('\u{1b}'), "{}", facts.describe());
        assert!(facts.valid_at(1_800_000_000) && !facts.valid_at(0));
        // The key belongs to its certificate and to no other.
        let own = key_of(key.serialize_pem().as_bytes()).unwrap();
        assert_eq!(public_of(&own).unwrap(), facts.key);
        let other = KeyPair::generate().unwrap();
        let other = key_of(other.serialize_pem().as_bytes()).unwrap();
        assert_ne!(public_of(&other).unwrap(), facts.key);
    }

    #[test]
    fn who_signed_is_told_by_name_and_by_key() {
        let (one, issuer) = ca("shop CA");
        let (other, _) = ca("other CA");
        let (namesake, _) = ca("shop CA");
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["a".to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        assert_eq!(signed_by(leaf.der(), one.der()), Ok(()));
        assert!(
            signed_by(leaf.der(), other.der())
                .unwrap_err()
                .contains("names CN=shop CA as its issuer")
        );
        assert!(
            signed_by(leaf.der(), namesake.der())
                .unwrap_err()
                .contains("did not sign it")
        );
        assert!(signed_by(b"x", one.der()).is_err());
    }

    #[test]
    fn what_is_no_pem_is_said() {
        assert!(chain_of(b"").unwrap_err().contains("no certificate"));
        assert!(
            chain_of(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n")
                .unwrap_err()
                .contains("PEM")
        );
        assert!(key_of(b"text").unwrap_err().contains("no private key"));
        let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(key_of(encrypted).unwrap_err().contains("passphrase"));
        assert!(CertificateFacts::read(&[0x30, 0x03, 0x02, 0x01, 0x01]).is_err());
    }
}
