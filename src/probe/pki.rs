//! Certificates and keys made here: what a probe shows that nobody gave it, and what a solution makes where a student
//! uses OpenSSL.

use std::{fmt, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls::{SignatureScheme, crypto::ring::sign::any_supported_type};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

use super::TlsIdentity;
use crate::evidence::{chain_of, key_of};

/// Clocks of two machines differ a little.
const SKEW: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);
/// The longest lifetime, in days.
pub const LONGEST: u32 = 36_500;

/// What is to stand in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Its owner's common name.
    pub name: String,
    /// What it is for: DNS names, addresses, URIs.
    pub names: Vec<String>,
    /// How long it is valid, in days.
    pub days: u32,
    /// Whether that ended yesterday.
    pub expired: bool,
    /// What it is.
    pub role: Role,
}

/// What a certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// An authority.
    Authority {
        /// Whether it says that it is one: without the flag nobody believes what it signs.
        flag: bool,
        /// How many authorities may follow below it.
        path_length: Option<u8>,
    },
    /// Somebody's own.
    Leaf {
        /// To be shown by a server.
        server: bool,
        /// To be shown by a client.
        client: bool,
    },
}

impl Recipe {
    /// A certificate for a server and client of this name, for a month.
    pub fn leaf(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            names: vec![name.clone()],
            name,
            days: 30,
            expired: false,
            role: Role::Leaf {
                server: true,
                client: true,
            },
        }
    }

    fn params(&self) -> Result<CertificateParams, String> {
        let mut params = CertificateParams::default();
        for name in &self.names {
            params.subject_alt_names.push(alternative(name)?);
        }
        params.distinguished_name.push(DnType::CommonName, self.name.as_str());
        match self.role {
            Role::Authority { flag, path_length } => {
                params.is_ca = match (flag, path_length) {
                    (true, Some(length)) => IsCa::Ca(BasicConstraints::Constrained(length)),
                    (true, None) => IsCa::Ca(BasicConstraints::Unconstrained),
                    (false, _) => IsCa::ExplicitNoCa,
                };
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            }
            Role::Leaf { server, client } => {
                params.is_ca = IsCa::ExplicitNoCa;
                params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
                let uses = [
                    (server, ExtendedKeyUsagePurpose::ServerAuth),
                    (client, ExtendedKeyUsagePurpose::ClientAuth),
                ];
                params.extended_key_usages = uses.into_iter().filter(|(set, _)| *set).map(|(_, one)| one).collect();
                params.use_authority_key_identifier_extension = true;
            }
        }
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_err(|error| error.to_string())?;
        let end = if self.expired {
            now.saturating_sub(DAY)
        } else {
            now + DAY * self.days.min(LONGEST)
        };
        let begin = if self.expired {
            end.saturating_sub(DAY * self.days.min(LONGEST))
        } else {
            now.saturating_sub(SKEW)
        };
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + begin;
        params.not_after = epoch + end;
        Ok(params)
    }
}

/// An alternative name by its form: an address, a URI, else a DNS name.
fn alternative(name: &str) -> Result<rcgen::SanType, String> {
    let wrong = |error: rcgen::Error| {
        format!(
            "`{}` is no name for a certificate: {error}",
            crate::text::one_line(name)
        )
    };
    if let Ok(address) = name.parse() {
        return Ok(rcgen::SanType::IpAddress(address));
    }
    let text = || name.try_into().map_err(wrong);
    Ok(if name.contains("://") {
        rcgen::SanType::URI(text()?)
    } else {
        rcgen::SanType::DnsName(text()?)
    })
}

/// Makes a certificate that its own key signs.
///
/// # Errors
/// A name that cannot stand in a certificate.
pub fn self_signed(recipe: &Recipe) -> Result<TlsIdentity, String> {
    let params = recipe.params()?;
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    Ok(TlsIdentity {
        chain: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a certificate that an authority signs, whose certificate and key are given in PEM.
///
/// # Errors
/// An authority that cannot be read or cannot sign, or a name that cannot stand in a certificate.
pub fn signed_by(recipe: &Recipe, authority: &TlsIdentity) -> Result<TlsIdentity, String> {
    let certificate = chain_of(authority.chain.as_bytes()).map_err(|reason| format!("the authority {reason}"))?;
    let first = certificate.first().ok_or("the authority holds no certificate")?;
    let issuer_key = AuthorityKey::read(authority.key.as_bytes())?;
    let issuer =
        Issuer::from_ca_cert_der(first, issuer_key).map_err(|error| format!("the authority's certificate: {error}"))?;
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let made = recipe
        .params()?
        .signed_by(&key, &issuer)
        .map_err(|error| error.to_string())?;
    Ok(TlsIdentity {
        chain: made.pem(),
        key: key.serialize_pem(),
    })
}

/// An authority's key of any form that OpenSSL writes: rcgen by itself reads PKCS#8 only.
struct AuthorityKey {
    key: Arc<dyn rustls::sign::SigningKey>,
    public: Vec<u8>,
    scheme: SignatureScheme,
    algorithm: &'static SignatureAlgorithm,
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityKey").finish_non_exhaustive()
    }
}

impl AuthorityKey {
    fn read(pem: &[u8]) -> Result<Self, String> {
        let der = key_of(pem).map_err(|reason| format!("the authority's key {reason}"))?;
        let key = any_supported_type(&der).map_err(|error| format!("the authority's key: {error}"))?;
        let known = [
            (SignatureScheme::ECDSA_NISTP256_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256),
            (SignatureScheme::ECDSA_NISTP384_SHA384, &rcgen::PKCS_ECDSA_P384_SHA384),
            (SignatureScheme::RSA_PKCS1_SHA256, &rcgen::PKCS_RSA_SHA256),
            (SignatureScheme::ED25519, &rcgen::PKCS_ED25519),
        ];
        let (scheme, algorithm) = known
            .into_iter()
            .find(|(scheme, _)| key.choose_scheme(&[*scheme]).is_some())
            .ok_or("the authority's key is of a kind that cannot sign here")?;
        let info = key.public_key().ok_or("the authority's key has no public key")?;
        let (_, info) = SubjectPublicKeyInfo::from_der(info.as_ref()).map_err(|error| error.to_string())?;
        Ok(Self {
            public: info.subject_public_key.data.to_vec(),
            key,
            scheme,
            algorithm,
        })
    }
}

impl PublicKeyData for AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signer = self
            .key
            .choose_scheme(&[self.scheme])
            .ok_or(rcgen::Error::RemoteKeyError)?;
        signer.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{CertificateFacts, public_of};

    fn facts(identity: &TlsIdentity) -> CertificateFacts {
        CertificateFacts::read(&chain_of(identity.chain.as_bytes()).unwrap()[0]).unwrap()
    }

    fn now() -> i64 {
        jiff::Timestamp::now().as_second()
    }

    fn authority(flag: bool) -> Recipe {
        Recipe {
            name: "shop CA".to_owned(),
            names: Vec::new(),
            days: 365,
            expired: false,
            role: Role::Authority {
                flag,
                path_length: Some(0),
            },
        }
    }

    #[test]
    fn a_chain_is_made_as_asked() {
        let ca = self_signed(&authority(true)).unwrap();
        assert!(facts(&ca).may_sign() && facts(&ca).self_signed);
        assert_eq!(facts(&ca).path_length, Some(0));
        assert!(!facts(&self_signed(&authority(false)).unwrap()).may_sign());
        let recipe = Recipe {
            names: vec![
                "payments-api".into(),
                "10.0.0.7".into(),
                "spiffe://shop/payments".into(),
            ],
            ..Recipe::leaf("payments-api")
        };
        let leaf = signed_by(&recipe, &ca).unwrap();
        let told = facts(&leaf);
        assert_eq!(told.issuer_common_name.as_deref(), Some("shop CA"));
        assert!(told.valid_at(now()) && !told.self_signed);
        assert_eq!(told.names().count(), 3);
        let der = |identity: &TlsIdentity| chain_of(identity.chain.as_bytes()).unwrap()[0].to_vec();
        assert_eq!(crate::evidence::signed_by(&der(&leaf), &der(&ca)), Ok(()));
        assert_eq!(public_of(&key_of(leaf.key.as_bytes()).unwrap()).unwrap(), told.key);
        let expired = Recipe {
            expired: true,
            ..Recipe::leaf("orders-api")
        };
        let told = facts(&signed_by(&expired, &ca).unwrap());
        assert!(!told.valid_at(now()) && told.valid_at(now() - 2 * 86_400));
    }

    /// Every form in which OpenSSL's commands write a key.
    #[test]
    fn an_authority_made_with_openssl_signs() {
        let dir = tempfile::tempdir().unwrap();
        let openssl = |args: &[&str]| {
            let output = std::process::Command::new("openssl")
                .args(args)
                .current_dir(dir.path())
                .output();
            let output = output.expect("openssl is needed for this test");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let keys: [(&str, &[&str]); 5] = [
            (
                "pkcs8",
                &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            ),
            ("pkcs1", &["genrsa", "-traditional", "2048"]),
            ("sec1", &["ecparam", "-name", "prime256v1", "-genkey", "-noout"]),
            (
                "p384",
                &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            ),
            ("ed25519", &["genpkey", "-algorithm", "ED25519"]),
        ];
        for (name, make) in keys {
            let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
            let (command, options) = make.split_first().unwrap();
            openssl(&[&[*command, "-out", &key][..], options].concat());
            openssl(&[
                "req",
                "-x509",
                "-new",
                "-key",
                &key,
                "-subj",
                "/CN=shop CA",
                "-days",
                "30",
                "-out",
                &certificate,
            ]);
            let read = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap();
            let ca = TlsIdentity {
                chain: read(&certificate),
                key: read(&key),
            };
            assert!(facts(&ca).may_sign(), "{name}");
            let leaf = signed_by(&Recipe::leaf("orders-api"), &ca).unwrap_or_else(|error| panic!("{name}: {error}"));
            std::fs::write(dir.path().join("leaf.crt"), &leaf.chain).unwrap();
            openssl(&["verify", "-CAfile", &certificate, "leaf.crt"]);
            let der = |identity: &TlsIdentity| chain_of(identity.chain.as_bytes()).unwrap()[0].to_vec();
            assert_eq!(crate::evidence::signed_by(&der(&leaf), &der(&ca)), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_made_is_said() {
        let ca = self_signed(&authority(true)).unwrap();
        let bad = Recipe {
            names: vec!["grüße".into()],
            ..Recipe::leaf("x")
        };
        assert!(self_signed(&bad).unwrap_err().contains("no name for a certificate"));
        let keyless = TlsIdentity {
            key: ca.chain.clone(),
            ..ca.clone()
        };
        assert!(
            signed_by(&Recipe::leaf("x"), &keyless)
                .unwrap_err()
                .contains("no private key")
        );
        assert!(!format!("{ca:?}").contains("PRIVATE"));
    }
}
