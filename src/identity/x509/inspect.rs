//! A certificate field by field, each with what X509-SVID demands of it and whether that holds.
//!
//! [`Leaf::read`](super::Leaf::read) and [`Authority::read`](super::Authority::read) break off at the first rule; this goes
//! through all of them, for somebody who wants to see. A test holds the two to the same judgement.

use rustls_pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::{
    certificate::X509Certificate,
    der_parser::{Oid, oid},
    extensions::{GeneralName, ParsedExtension},
    public_key::PublicKey,
};

use super::{
    X509Error,
    profile::{self, UriNames},
};
use crate::SpiffeId;

/// Which rules a certificate is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It identifies a workload (section 3.1).
    Leaf,
    /// It signs others (section 3.2).
    Signing,
}

/// What the standard demands of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Demand {
    /// The standard's section: `X509-SVID 4.3`.
    pub section: &'static str,
    /// What is demanded, in words.
    pub demands: &'static str,
    /// Whether it is so.
    pub holds: bool,
    /// What is wrong, where it is not so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}

/// A field of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its name, as the field has it: `Key Usage`.
    pub name: &'static str,
    /// What it says; may hold any text that the certificate's maker chose.
    pub value: String,
    /// Whether it is marked critical; `None` where it is no extension, or not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical: Option<bool>,
    /// What is demanded of it.
    pub demands: Vec<Demand>,
}

/// A whole certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Which rules it was held to.
    pub role: Role,
    /// Its fields, in the order of RFC 5280 section 4.1.
    pub fields: Vec<Field>,
}

impl Inspection {
    /// Whether every demand holds.
    pub fn holds(&self) -> bool {
        self.fields
            .iter()
            .flat_map(|field| &field.demands)
            .all(|demand| demand.holds)
    }
}

const NONE: &str = "none";

/// Reads a certificate: one that is marked as an authority's is held to the rules for signing certificates, any other to
/// those for leaves.
///
/// # Errors
/// [`X509Error`], when it cannot be read at all.
pub fn inspect(der: &CertificateDer<'_>) -> Result<Inspection, X509Error> {
    let read = profile::read(der)?;
    let role = if profile::is_authority(&read)? {
        Role::Signing
    } else {
        Role::Leaf
    };
    Ok(Inspection {
        role,
        fields: vec![
            plain("Version", format!("{} ({:#x})", read.version().0 + 1, read.version().0)),
            plain("Serial Number", read.raw_serial_as_string()),
            plain(
                "Signature Algorithm",
                algorithm(&read.signature_algorithm.algorithm).into(),
            ),
            plain("Issuer", named(&read.issuer().to_string())),
            plain("Not Before", read.validity().not_before.to_string()),
            plain("Not After", read.validity().not_after.to_string()),
            plain("Subject", named(&read.subject().to_string())),
            plain("Public Key", public_key(&read)),
            alternative_names(&read, role)?,
            basic_constraints(&read, role)?,
            key_usage(&read, role)?,
            extended_key_usage(&read, role)?,
            key_id(&read, "Subject Key Identifier"),
            key_id(&read, "Authority Key Identifier"),
        ],
    })
}

fn plain(name: &'static str, value: String) -> Field {
    Field {
        name,
        value,
        critical: None,
        demands: Vec::new(),
    }
}

fn named(name: &str) -> String {
    if name.is_empty() { NONE.into() } else { name.into() }
}

fn demand(section: &'static str, demands: &'static str, result: Result<(), String>) -> Demand {
    Demand {
        section,
        demands,
        holds: result.is_ok(),
        wrong: result.err(),
    }
}

fn so(holds: bool, wrong: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(wrong.into()) }
}

fn algorithm(oid: &Oid<'_>) -> &'static str {
    const KNOWN: &[(Oid<'static>, &str)] = &[
        (oid!(1.2.840.10045.4.3.2), "ECDSA with SHA-256"),
        (oid!(1.2.840.10045.4.3.3), "ECDSA with SHA-384"),
        (oid!(1.2.840.10045.4.3.4), "ECDSA with SHA-512"),
        (oid!(1.2.840.113549.1.1.11), "RSA with SHA-256"),
        (oid!(1.2.840.113549.1.1.12), "RSA with SHA-384"),
        (oid!(1.2.840.113549.1.1.13), "RSA with SHA-512"),
        (oid!(1.2.840.113549.1.1.10), "RSASSA-PSS"),
        (oid!(1.3.101.112), "Ed25519"),
    ];
    let known = KNOWN.iter().find(|(known, _)| known == oid);
    known.map_or("another one", |(_, name)| name)
}

fn public_key(read: &X509Certificate<'_>) -> String {
    match read.public_key().parsed() {
        Ok(PublicKey::EC(point)) => format!("elliptic curve, {} bits", point.key_size()),
        Ok(PublicKey::RSA(key)) => format!("RSA, {} bits", key.key_size()),
        _ => algorithm(&read.public_key().algorithm.algorithm).to_owned(),
    }
}

fn alternative_names(read: &X509Certificate<'_>, role: Role) -> Result<Field, X509Error> {
    let names = read
        .subject_alternative_name()
        .map_err(|error| X509Error::Extensions(error.to_string()))?;
    let value = names.as_ref().map_or_else(
        || NONE.to_owned(),
        |names| {
            let shown: Vec<String> = names.value.general_names.iter().map(shown).collect();
            shown.join(", ")
        },
    );
    let uris = profile::uri_names(read)?;
    let exactly = match (&uris, role) {
        (UriNames::One { .. }, _) | (UriNames::None, Role::Signing) => Ok(()),
        (UriNames::None, Role::Leaf) => Err("it has none".to_owned()),
        (UriNames::Many(number), _) => Err(format!("it has {number}")),
    };
    let one = match role {
        Role::Leaf => demand("X509-SVID 2", "exactly one URI, the SPIFFE ID", exactly),
        Role::Signing => demand("X509-SVID 2, 3.2", "one URI at most, the SPIFFE ID", exactly),
    };
    let mut demands = vec![one];
    if let UriNames::One { uri, critical } = uris {
        let id = profile::id(uri);
        let is_id = id.as_ref().map(drop).map_err(ToString::to_string);
        demands.push(demand("X509-SVID 5.2", "the URI is a SPIFFE ID", is_id));
        if let Ok(id) = id {
            demands.push(path(&id, role));
        }
        if role == Role::Leaf {
            let subject = read.subject().iter_rdn().next().is_some();
            demands.push(demand(
                "X509-SVID 3.1, RFC 5280 4.1.2.6",
                "marked critical where there is no subject",
                so(critical || subject, "there is no subject, and it is not critical"),
            ));
        }
    }
    Ok(Field {
        name: "Subject Alternative Name",
        value,
        critical: names.map(|names| names.critical),
        demands,
    })
}

fn path(id: &SpiffeId, role: Role) -> Demand {
    match role {
        Role::Leaf => demand(
            "X509-SVID 3.1",
            "a workload's SPIFFE ID has a path",
            so(!id.path().is_root(), "it is the trust domain's own id"),
        ),
        Role::Signing => demand(
            "X509-SVID 3.2",
            "a signing certificate's SPIFFE ID has no path",
            so(id.path().is_root(), "it has one"),
        ),
    }
}

fn shown(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::IPAddress(bytes) => match bytes {
            [a, b, c, d] => format!("IP:{a}.{b}.{c}.{d}"),
            bytes => <[u8; 16]>::try_from(*bytes).map_or_else(
                |_| "IP:unreadable".to_owned(),
                |bytes| format!("IP:{}", std::net::Ipv6Addr::from(bytes)),
            ),
        },
        GeneralName::Invalid(..) => "a name that is not text".to_owned(),
        _ => "a name of another kind".to_owned(),
    }
}

fn basic_constraints(read: &X509Certificate<'_>, role: Role) -> Result<Field, X509Error> {
    let constraints = read
        .basic_constraints()
        .map_err(|error| X509Error::Extensions(error.to_string()))?;
    let value = match &constraints {
        None => NONE.to_owned(),
        Some(it) => match (it.value.ca, it.value.path_len_constraint) {
            (false, _) => "CA: false".to_owned(),
            (true, None) => "CA: true".to_owned(),
            (true, Some(length)) => format!("CA: true, path length {length}"),
        },
    };
    let demands = match role {
        // One that is marked as an authority's is judged as such, so that it never fails here: it is no SVID of a workload.
        Role::Leaf => vec![demand("X509-SVID 4.1", "CA is false: a leaf signs nothing", Ok(()))],
        Role::Signing => vec![demand("X509-SVID 4.1", "CA is true", Ok(()))],
    };
    Ok(Field {
        name: "Basic Constraints",
        value,
        critical: constraints.map(|it| it.critical),
        demands,
    })
}

fn key_usage(read: &X509Certificate<'_>, role: Role) -> Result<Field, X509Error> {
    let usage = profile::key_usage(read)?;
    let value = usage.map_or_else(|| NONE.to_owned(), |(usage, _)| named(&usage.to_string()));
    let is = |bit: fn(&x509_parser::extensions::KeyUsage) -> bool| usage.is_some_and(|(usage, _)| bit(usage));
    let critical = usage.map(|(_, critical)| critical);
    // A signing certificate without a SPIFFE ID is no SVID: an organisation's own root (section 3.2).
    let svid = role == Role::Leaf || !matches!(profile::uri_names(read)?, UriNames::None);
    let mut demands = Vec::new();
    if svid {
        let wrong = if usage.is_none() {
            "there is none"
        } else {
            "it is not critical"
        };
        demands.push(demand(
            "X509-SVID 4.3",
            "there, and marked critical",
            so(critical == Some(true), wrong),
        ));
    }
    match role {
        Role::Leaf => {
            demands.push(demand(
                "X509-SVID 4.3",
                "has digitalSignature",
                so(is(|usage| usage.digital_signature()), "it is missing"),
            ));
            let signs = is(|usage| usage.key_cert_sign()) || is(|usage| usage.crl_sign());
            demands.push(demand(
                "X509-SVID 4.3",
                "has neither keyCertSign nor cRLSign",
                so(!signs, "it has, as if it were an authority"),
            ));
        }
        Role::Signing => demands.push(demand(
            "X509-SVID 4.3",
            "has keyCertSign",
            so(usage.is_none() || is(|usage| usage.key_cert_sign()), "it is missing"),
        )),
    }
    Ok(Field {
        name: "Key Usage",
        value,
        critical,
        demands,
    })
}

fn extended_key_usage(read: &X509Certificate<'_>, role: Role) -> Result<Field, X509Error> {
    let usage = read
        .extended_key_usage()
        .map_err(|error| X509Error::Extensions(error.to_string()))?;
    let value = usage.as_ref().map_or_else(
        || NONE.to_owned(),
        |usage| {
            let usage = usage.value;
            let known = [
                (usage.any, "any"),
                (usage.server_auth, "serverAuth"),
                (usage.client_auth, "clientAuth"),
                (usage.code_signing, "codeSigning"),
                (usage.email_protection, "emailProtection"),
                (usage.time_stamping, "timeStamping"),
                (usage.ocsp_signing, "OCSPSigning"),
            ];
            let mut words: Vec<String> = known
                .iter()
                .filter(|(set, _)| *set)
                .map(|(_, word)| (*word).to_owned())
                .collect();
            words.extend(usage.other.iter().map(ToString::to_string));
            words.join(", ")
        },
    );
    let both = usage
        .as_ref()
        .is_none_or(|usage| usage.value.server_auth && usage.value.client_auth);
    let demands = match role {
        Role::Leaf => vec![demand(
            "X509-SVID 4.4",
            "serverAuth and clientAuth, or no such extension",
            so(both, "one of the two is missing"),
        )],
        Role::Signing => Vec::new(),
    };
    Ok(Field {
        name: "Extended Key Usage",
        value,
        critical: usage.map(|usage| usage.critical),
        demands,
    })
}

fn key_id(read: &X509Certificate<'_>, name: &'static str) -> Field {
    let subject = name.starts_with("Subject");
    let found = read.extensions().iter().find_map(|extension| {
        let id = match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) if subject => id.0,
            ParsedExtension::AuthorityKeyIdentifier(id) if !subject => id.key_identifier.as_ref()?.0,
            _ => return None,
        };
        let hex: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Some((hex.join(":"), extension.critical))
    });
    let (value, critical) = found.map_or((NONE.to_owned(), None), |(value, critical)| (value, Some(critical)));
    Field {
        name,
        value,
        critical,
        demands: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};

    use super::*;
    use crate::x509::{
        Authority, Leaf,
        testing::{Ca, extension, uri},
    };

    const ORDERS: &str = "spiffe://shop.test/ns/shop/sa/orders";

    /// The demands that do not hold, as `section: what is wrong`.
    fn broken(inspection: &Inspection) -> Vec<String> {
        let demands = inspection.fields.iter().flat_map(|field| &field.demands);
        demands
            .filter(|demand| !demand.holds)
            .map(|demand| format!("{}: {}", demand.section, demand.wrong.as_deref().unwrap_or("")))
            .collect()
    }

    type Change = fn(&mut CertificateParams);

    #[test]
    fn a_leaf_is_judged_as_it_is_read_and_every_fault_is_named() {
        let ca = Ca::of("shop.test");
        let cases: &[(Change, &[&str])] = &[
            (|_| {}, &[]),
            (|it| it.distinguished_name = DistinguishedName::new(), &[]),
            (|it| it.extended_key_usages.clear(), &[]),
            (|it| it.subject_alt_names.clear(), &["X509-SVID 2: it has none"]),
            (
                |it| it.subject_alt_names.push(uri("https://shop.test")),
                &["X509-SVID 2: it has 2"],
            ),
            (
                |it| it.subject_alt_names = vec![uri("https://shop.test/a")],
                &["X509-SVID 5.2: the certificate's URI name is no SPIFFE ID"],
            ),
            (
                |it| it.subject_alt_names = vec![uri("spiffe://shop.test")],
                &["X509-SVID 3.1: it is the trust domain's own id"],
            ),
            (
                |it| it.key_usages.clear(),
                &["X509-SVID 4.3: there is none", "X509-SVID 4.3: it is missing"],
            ),
            (
                |it| it.key_usages = vec![KeyUsagePurpose::KeyAgreement, KeyUsagePurpose::KeyCertSign],
                &["X509-SVID 4.3: it is missing", "X509-SVID 4.3: it has, as if"],
            ),
            (
                |it| {
                    it.key_usages.clear();
                    it.custom_extensions
                        .push(extension(&[2, 5, 29, 15], false, &[3, 2, 7, 0x80]));
                },
                &["X509-SVID 4.3: it is not critical"],
            ),
            (
                |it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
                &["X509-SVID 4.4: one of the two is missing"],
            ),
            (
                |it| {
                    it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                    it.subject_alt_names = vec![SanType::DnsName("orders".try_into().unwrap())];
                },
                &["X509-SVID 2: it has none", "X509-SVID 4.4: one of the two is missing"],
            ),
        ];
        for (at, (change, faults)) in cases.iter().enumerate() {
            let (der, _) = ca.leaf(ORDERS, change);
            let inspection = inspect(&der).unwrap();
            let found = broken(&inspection);
            assert_eq!(inspection.role, Role::Leaf);
            assert_eq!(inspection.holds(), Leaf::read(&der).is_ok(), "case {at}: {found:?}");
            assert_eq!(found.len(), faults.len(), "case {at}: {found:?}");
            for (found, fault) in found.iter().zip(*faults) {
                assert!(found.starts_with(fault), "case {at}: {found}");
            }
        }
    }

    #[test]
    fn a_signing_certificate_is_judged_as_it_is_read() {
        let cases: &[(Change, &[&str])] = &[
            (|_| {}, &[]),
            (|it| it.subject_alt_names.clear(), &[]),
            (
                |it| it.subject_alt_names = vec![uri("spiffe://shop.test/a")],
                &["X509-SVID 3.2: it has one"],
            ),
            (|it| it.key_usages.clear(), &["X509-SVID 4.3: there is none"]),
            (
                |it| it.key_usages = vec![KeyUsagePurpose::CrlSign],
                &["X509-SVID 4.3: it is missing"],
            ),
        ];
        for (at, (change, faults)) in cases.iter().enumerate() {
            let der = Ca::made("shop.test", change).der;
            let inspection = inspect(&der).unwrap();
            let found = broken(&inspection);
            assert_eq!(inspection.role, Role::Signing);
            assert_eq!(
                inspection.holds(),
                Authority::read(der.clone()).is_ok(),
                "case {at}: {found:?}"
            );
            assert_eq!(found.len(), faults.len(), "case {at}: {found:?}");
            for (found, fault) in found.iter().zip(*faults) {
                assert!(found.starts_with(fault), "case {at}: {found}");
            }
        }
    }

    #[test]
    fn what_a_certificate_says_is_told_by_the_fields_names() {
        let (der, _) = Ca::of("shop.test").leaf(ORDERS, |it| {
            it.subject_alt_names
                .push(SanType::DnsName("orders".try_into().unwrap()));
        });
        let inspection = inspect(&der).unwrap();
        let value = |name: &str| {
            let field = inspection.fields.iter().find(|field| field.name == name).unwrap();
            (field.value.clone(), field.critical)
        };
        assert_eq!(value("Version"), ("3 (0x2)".into(), None));
        assert_eq!(value("Subject Alternative Name").0, format!("URI:{ORDERS}, DNS:orders"));
        assert_eq!(value("Basic Constraints").0, "CA: false");
        assert_eq!(
            value("Key Usage"),
            ("Digital Signature, Key Agreement".into(), Some(true))
        );
        assert_eq!(value("Extended Key Usage").0, "serverAuth, clientAuth");
        assert_eq!(value("Public Key").0, "elliptic curve, 256 bits");
        assert_eq!(value("Signature Algorithm").0, "ECDSA with SHA-256");
        assert!(value("Authority Key Identifier").0.len() > 20);
        assert!(inspect(&CertificateDer::from(vec![0x30, 0])).is_err());
    }
}
