//! Certificates for others: what a request asks for, and a certificate with its subject and key.
//!
//! Written field by field, so that a subject is copied as it was asked for: a user may be in several groups.
//!
//! Source: RFC 2986 (PKCS #10), RFC 5280 (X.509).

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls_pki_types::pem::{PemObject, SectionKind};
use x509_parser::{
    certification_request::X509CertificationRequest,
    cri_attributes::ParsedCriAttribute,
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer, X509Certificate},
};
use yasna::{
    DERWriter, DERWriterSeq, Tag,
    models::ObjectIdentifier,
    tags::{TAG_GENERALIZEDTIME, TAG_UTCTIME},
};

use super::PkiError;

/// The largest request that is read, in bytes.
const MAX_REQUEST: usize = 64 * 1024;

const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY: &[u64] = &[2, 5, 29, 35];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];

/// A request for a certificate, whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    subject: Vec<u8>,
    public_key: Vec<u8>,
    alt_names: Option<Vec<u8>>,
    /// The common name: the user.
    pub common_name: String,
    /// The organisations: their groups.
    pub organizations: Vec<String>,
    /// Host names and addresses that it asks for.
    pub hosts: usize,
    /// Other names that it asks for (mail addresses, URIs).
    pub other_names: usize,
}

impl CertificateRequest {
    /// Reads a PEM of type `CERTIFICATE REQUEST`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        if pem.len() > MAX_REQUEST {
            return Err(format!("the request has more than {MAX_REQUEST} bytes"));
        }
        match <(SectionKind, Vec<u8>)>::from_pem_slice(pem) {
            Ok((SectionKind::Csr, der)) => Self::from_der(&der),
            _ => Err("PEM block type must be CERTIFICATE REQUEST".to_owned()),
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, String> {
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|error| format!("asn1: {error}"))?;
        if !rest.is_empty() {
            return Err("asn1: syntax error: trailing data".to_owned());
        }
        request
            .verify_signature()
            .map_err(|_| "the request's signature does not hold, or is of an algorithm that is not known".to_owned())?;
        let info = &request.certification_request_info;
        let text = |names: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| -> Result<Vec<String>, String> {
            let read = |name: &&x509_parser::x509::AttributeTypeAndValue<'_>| name.as_str().map(str::to_owned);
            names
                .iter()
                .map(read)
                .collect::<Result<_, _>>()
                .map_err(|error| format!("subject: {error}"))
        };
        let mut common_names = text(info.subject.iter_common_name().collect())?;
        let organizations = text(info.subject.iter_organization().collect())?;
        let mut found = Self {
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            alt_names: None,
            common_name: if common_names.is_empty() {
                String::new()
            } else {
                common_names.swap_remove(0)
            },
            organizations,
            hosts: 0,
            other_names: 0,
        };
        for attribute in info.iter_attributes() {
            let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
                continue;
            };
            for extension in &asked.extensions {
                let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
                    continue;
                };
                found.alt_names = Some(extension.value.to_vec());
                let is_host =
                    |name: &&GeneralName<'_>| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_));
                found.hosts = names.general_names.iter().filter(is_host).count();
                found.other_names = names.general_names.len() - found.hosts;
            }
        }
        Ok(found)
    }

    /// A subject and a key of one's own.
    pub(super) fn of(key: &KeyPair, common_name: &str, organizations: &[&str]) -> Self {
        let subject = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                for organization in organizations {
                    name(writer.next(), ORGANIZATION, organization);
                }
                name(writer.next(), COMMON_NAME, common_name);
            });
        });
        Self {
            subject,
            public_key: key.subject_public_key_info(),
            alt_names: None,
            common_name: common_name.to_owned(),
            organizations: organizations.iter().map(|one| (*one).to_owned()).collect(),
            hosts: 0,
            other_names: 0,
        }
    }
}

fn oid(writer: DERWriter<'_>, components: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(components));
}

fn name(writer: DERWriter<'_>, kind: &[u64], value: &str) {
    writer.write_set(|writer| {
        writer.next().write_sequence(|writer| {
            oid(writer.next(), kind);
            writer.next().write_utf8_string(value);
        });
    });
}

/// A use of a key, by the name that Kubernetes has for it. `None` for one that it does not know.
pub fn usage(name: &str) -> Option<Usage> {
    let extended = |last: u64| Usage::Extended(vec![1, 3, 6, 1, 5, 5, 7, 3, last]);
    Some(match name {
        "signing" | "digital signature" => Usage::Key(0),
        "content commitment" => Usage::Key(1),
        "key encipherment" => Usage::Key(2),
        "data encipherment" => Usage::Key(3),
        "key agreement" => Usage::Key(4),
        "cert sign" => Usage::Key(5),
        "crl sign" => Usage::Key(6),
        "encipher only" => Usage::Key(7),
        "decipher only" => Usage::Key(8),
        "any" => Usage::Extended(vec![2, 5, 29, 37, 0]),
        "server auth" => extended(1),
        "client auth" => extended(2),
        "code signing" => extended(3),
        "email protection" | "s/mime" => extended(4),
        "ipsec end system" => extended(5),
        "ipsec tunnel" => extended(6),
        "ipsec user" => extended(7),
        "timestamping" => extended(8),
        "ocsp signing" => extended(9),
        "microsoft sgc" => Usage::Extended(vec![1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
        "netscape sgc" => Usage::Extended(vec![2, 16, 840, 1, 113_730, 4, 1]),
        _ => return None,
    })
}

/// What a key is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    /// A bit of the key usage.
    Key(usize),
    /// An extended key usage.
    Extended(Vec<u64>),
}

/// Signs certificates as the cluster's CA.
pub struct Signer {
    key: KeyPair,
    name: Vec<u8>,
    key_id: Vec<u8>,
    not_after: i64,
}

impl Signer {
    /// The signer of a CA.
    pub(super) fn new(certificate: &str, key: &KeyPair) -> Result<Self, PkiError> {
        let damaged = |error: &dyn std::fmt::Display| PkiError::Tls(format!("the CA's certificate: {error}"));
        let der = rustls_pki_types::CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| damaged(&error))?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| damaged(&error))?;
        let own = certificate
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
        Ok(Self {
            key: KeyPair::from_pem(&key.serialize_pem())?,
            name: certificate.subject().as_raw().to_vec(),
            key_id: own.unwrap_or_default(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }

    /// Signs what a request asks for, for these uses, valid between two times (seconds since 1970) but no longer than the CA.
    /// Gives it as PEM.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn sign(
        &self,
        request: &CertificateRequest,
        usages: &[Usage],
        not_before: i64,
        not_after: i64,
    ) -> Result<String, PkiError> {
        let mut serial: [u8; 16] = rand::random();
        // Positive, and not zero.
        serial[0] = serial[0] & 0x7f | 0x40;
        let validity = (not_before, not_after.min(self.not_after));
        let body = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| self.body(writer, request, usages, &serial, validity));
        });
        let signature = self.key.sign(&body)?;
        let certificate = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(&body);
                algorithm(writer.next());
                writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Ok(pem(&certificate))
    }

    fn body(
        &self,
        writer: &mut DERWriterSeq<'_>,
        request: &CertificateRequest,
        usages: &[Usage],
        serial: &[u8],
        (not_before, not_after): (i64, i64),
    ) {
        // Version 3.
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
        writer.next().write_bigint_bytes(serial, true);
        algorithm(writer.next());
        writer.next().write_der(&self.name);
        writer.next().write_sequence(|writer| {
            time(writer.next(), not_before);
            time(writer.next(), not_after);
        });
        writer.next().write_der(&request.subject);
        writer.next().write_der(&request.public_key);
        writer.next().write_tagged(Tag::context(3), |writer| {
            writer.write_sequence(|writer| self.extensions(writer, request, usages));
        });
    }

    fn extensions(&self, writer: &mut DERWriterSeq<'_>, request: &CertificateRequest, usages: &[Usage]) {
        let mut bits = [0_u8; 2];
        let mut extended: Vec<&[u64]> = Vec::new();
        for usage in usages {
            match usage {
                Usage::Key(bit) => bits[bit / 8] |= 0x80 >> (bit % 8),
                Usage::Extended(oid) if !extended.contains(&oid.as_slice()) => extended.push(oid),
                Usage::Extended(_) => {}
            }
        }
        if bits != [0, 0] {
            let length = 16 - u16::from_be_bytes(bits).trailing_zeros() as usize;
            let value = yasna::construct_der(|writer| writer.write_bitvec_bytes(&bits[..length.div_ceil(8)], length));
            extension(writer.next(), KEY_USAGE, true, &value);
        }
        if !extended.is_empty() {
            let value = yasna::construct_der(|writer| {
                writer.write_sequence(|writer| extended.iter().for_each(|one| oid(writer.next(), one)));
            });
            extension(writer.next(), EXTENDED_KEY_USAGE, false, &value);
        }
        // No CA.
        let none = yasna::construct_der(|writer| writer.write_sequence(|_| ()));
        extension(writer.next(), BASIC_CONSTRAINTS, true, &none);
        if !self.key_id.is_empty() {
            let value = yasna::construct_der(|writer| {
                writer.write_sequence(|writer| {
                    let tag = Tag::context(0);
                    writer
                        .next()
                        .write_tagged_implicit(tag, |writer| writer.write_bytes(&self.key_id));
                });
            });
            extension(writer.next(), AUTHORITY_KEY, false, &value);
        }
        if let Some(names) = &request.alt_names {
            extension(writer.next(), SUBJECT_ALT_NAME, false, names);
        }
    }
}

fn algorithm(writer: DERWriter<'_>) {
    writer.write_sequence(|writer| oid(writer.next(), ECDSA_WITH_SHA256));
}

fn extension(writer: DERWriter<'_>, kind: &[u64], critical: bool, value: &[u8]) {
    writer.write_sequence(|writer| {
        oid(writer.next(), kind);
        if critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(value);
    });
}

/// UTCTime up to 2049, GeneralizedTime from then on.
fn time(writer: DERWriter<'_>, seconds: i64) {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    let text = time.strftime("%Y%m%d%H%M%SZ").to_string();
    let (tag, text) = match text.get(..4) {
        Some(year) if year < "2050" => (TAG_UTCTIME, &text[2..]),
        _ => (TAG_GENERALIZEDTIME, &text[..]),
    };
    writer.write_tagged_implicit(tag, |writer| writer.write_bytes(text.as_bytes()));
}

fn pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
