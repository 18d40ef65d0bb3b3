//! Certificates with SPIRE's profiles.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::{Made, Published, Settings, end};
use ztlab_identity::SpiffeId;

use crate::{
    refusal::Refusal,
    store::{Slot, Standing, X509Authority},
};

/// A certificate is valid from this long before it was made, in seconds, for clocks that are behind.
const NOT_BEFORE_CUSHION: i64 = 10;

/// The name of an authority, or of what it signs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// `C`
    pub country: Vec<String>,
    /// `O`
    pub organization: Vec<String>,
    /// `CN`
    pub common_name: String,
}

impl Subject {
    /// SPIRE's name for an authority that has none: `C=US, O=SPIFFE`.
    pub fn of_an_authority() -> Self {
        Self {
            country: vec!["US".into()],
            organization: vec!["SPIFFE".into()],
            common_name: String::new(),
        }
    }

    /// SPIRE's name for an SVID: `C=US, O=SPIRE`.
    fn of_an_svid() -> Self {
        Self {
            country: vec!["US".into()],
            organization: vec!["SPIRE".into()],
            common_name: String::new(),
        }
    }

    fn distinguished_name(&self) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        for country in &self.country {
            name.push(DnType::CountryName, country.as_str());
        }
        for organization in &self.organization {
            name.push(DnType::OrganizationName, organization.as_str());
        }
        if !self.common_name.is_empty() {
            name.push(DnType::CommonName, self.common_name.as_str());
        }
        name
    }
}

/// Whom a certificate is for.
#[derive(Debug, Clone)]
pub struct LeafOf<'a> {
    /// Its URI SAN.
    pub spiffe_id: &'a SpiffeId,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: &'a [u8],
    /// Its DNS SANs; the first is its common name.
    pub dns_names: &'a [String],
    /// Its life.
    pub ttl: Duration,
}

/// A certificate that was signed.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// When it ends, in seconds of the Unix epoch.
    pub expires_at: i64,
    /// Its serial number, decimal, as SPIRE shows it.
    pub serial: String,
}

/// Signs certificates with one authority.
pub struct X509Signer {
    id: String,
    issuer: Issuer<'static, KeyPair>,
    not_after: i64,
}

impl X509Signer {
    /// The signer of the authority in `slot`, whose key is `pkcs8`.
    pub fn new(slot: &Slot, pkcs8: &[u8]) -> Result<Self, Refusal> {
        let key = read_key(pkcs8)?;
        let issuer =
            Issuer::from_ca_cert_der(&CertificateDer::from(slot.certificate.as_slice()), key).map_err(|error| {
                Refusal::internal(format!("the certificate of authority {} is unusable: {error}", slot.id))
            })?;
        Ok(Self {
            id: slot.id.clone(),
            issuer,
            not_after: slot.not_after,
        })
    }

    /// The authority's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs for `of`; what is signed ends no later than the authority does.
    pub fn sign(&self, of: &LeafOf<'_>, now: i64) -> Result<Leaf, Refusal> {
        let public_key = SubjectPublicKeyInfo::from_der(of.public_key).map_err(|error| {
            Refusal::invalid(format!("the public key is of no kind that can be signed for: {error}"))
        })?;
        let expires_at = end(now, of.ttl).min(self.not_after);
        let mut subject = Subject::of_an_svid();
        if let Some(first) = of.dns_names.first() {
            subject.common_name.clone_from(first);
        }
        let serial = new_serial()?;
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = date(now - NOT_BEFORE_CUSHION)?;
        params.not_after = date(expires_at)?;
        params.distinguished_name = subject.distinguished_name();
        params.subject_alt_names = subject_alt_names(of.spiffe_id, of.dns_names)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyAgreement,
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&public_key, &self.issuer).map_err(unsigned)?;
        Ok(Leaf {
            der: certificate.der().to_vec(),
            expires_at,
            serial: decimal(&serial),
        })
    }
}

pub(super) fn new_authority(settings: &Settings, now: i64) -> Result<Made, Refusal> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unsigned)?;
    let id = SpiffeId::new(settings.trust_domain.clone(), ztlab_identity::Path::root())
        .map_err(|error| Refusal::internal(error.to_string()))?;
    let not_after = end(now, settings.ca_ttl);
    let serial = new_serial()?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = date(now - NOT_BEFORE_CUSHION)?;
    params.not_after = date(not_after)?;
    params.distinguished_name = settings.subject.distinguished_name();
    // Two authorities of one name are told apart by it where a verifier looks for an issuer by name.
    params
        .distinguished_name
        .push(DnType::from_oid(&[2, 5, 4, 5]), decimal(&serial));
    params.subject_alt_names = subject_alt_names(&id, &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let subject_key_id: String = params
        .key_identifier(&key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let certificate = params.self_signed(&key).map_err(unsigned)?.der().to_vec();
    Ok(Made {
        slot: Slot {
            id: subject_key_id,
            standing: Standing::Prepared,
            issued_at: now,
            not_after,
            certificate: certificate.clone(),
        },
        pkcs8: key.serialize_der(),
        published: Published::X509(X509Authority {
            der: certificate,
            expires_at: not_after,
            tainted: false,
        }),
    })
}

fn subject_alt_names(id: &SpiffeId, dns_names: &[String]) -> Result<Vec<SanType>, Refusal> {
    let text = |name: &str| {
        name.try_into()
            .map_err(|_| Refusal::invalid(format!("`{name}` has letters outside ASCII")))
    };
    let mut names = vec![SanType::URI(text(&id.to_string())?)];
    for name in dns_names {
        names.push(SanType::DnsName(text(name)?));
    }
    Ok(names)
}

/// A P-256 key of PKCS#8.
pub(super) fn read_key(pkcs8: &[u8]) -> Result<KeyPair, Refusal> {
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ECDSA_P256_SHA256)
        .map_err(|error| Refusal::internal(format!("the authority's key is unusable: {error}")))
}

/// 127 bits by chance, as SPIRE's are: positive, and never zero.
fn new_serial() -> Result<[u8; 16], Refusal> {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut serial = [0; 16];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| Refusal::internal("the system gives no random numbers"))?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial)
}

/// A serial number as people are shown it.
pub(super) fn decimal(serial: &[u8; 16]) -> String {
    u128::from_be_bytes(*serial).to_string()
}

fn date<T: From<std::time::SystemTime>>(seconds: i64) -> Result<T, Refusal> {
    let past = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    std::time::UNIX_EPOCH
        .checked_add(past)
        .map(T::from)
        .ok_or_else(|| Refusal::internal(format!("{seconds} seconds are beyond the calendar")))
}

fn unsigned(error: rcgen::Error) -> Refusal {
    Refusal::internal(format!("the certificate could not be signed: {error}"))
}
