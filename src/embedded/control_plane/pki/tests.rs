use std::os::unix::fs::PermissionsExt;

use super::*;
use serde_json::json;

fn claims(exp: i64) -> TokenClaims {
    TokenClaims {
        iss: "https://kubernetes.default.svc.cluster.local".to_owned(),
        sub: "system:serviceaccount:a:b".to_owned(),
        aud: vec!["api".to_owned()],
        exp: Some(exp),
        iat: Some(10),
        nbf: Some(10),
        jti: Some("id".to_owned()),
        kubernetes: json!({"namespace": "a"}),
        legacy: None,
    }
}

#[test]
fn a_token_in_a_secret_does_not_end_and_is_for_the_api_server_alone() {
    let key = TokenKey::generate().unwrap();
    let claims = TokenClaims::in_secret(LegacyClaims {
        namespace: "shop".to_owned(),
        secret: "s".to_owned(),
        account: "robot".to_owned(),
        uid: "u".to_owned(),
    });
    let token = key.sign(&claims).unwrap();
    let read = key.verify(&token, i64::MAX).unwrap();
    assert_eq!(read, claims);
    assert_eq!(read.sub, "system:serviceaccount:shop:robot");
    assert_eq!(read.audiences(&["api", "other"], "api").unwrap(), ["api"]);
    assert_eq!(read.audiences(&["other"], "api"), Err(TokenError::Audience));
}

#[test]
fn a_bound_token_without_an_end_is_refused() {
    let key = TokenKey::generate().unwrap();
    let token = key
        .sign(&TokenClaims {
            exp: None,
            ..claims(20)
        })
        .unwrap();
    assert_eq!(key.verify(&token, 15), Err(TokenError::Malformed));
}

#[test]
fn the_published_key_checks_tokens() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let key = TokenKey::generate().unwrap();
    let token = key.sign(&claims(20)).unwrap();
    let jwk = key.jwk();
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point)
        .verify(message.as_bytes(), &signature)
        .unwrap();
}

#[test]
fn the_same_ca_comes_back_from_disk_and_keys_are_private() {
    let temp = tempfile::tempdir().unwrap();
    let first = Pki::load_or_create(temp.path()).unwrap();
    let second = Pki::load_or_create(temp.path()).unwrap();
    assert_eq!(first.ca_certificate(), second.ca_certificate());
    assert_eq!(first.admin().certificate, second.admin().certificate);
    for name in ["ca.key", "sa.key", "admin.key"] {
        let mode = fs::metadata(temp.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    second.server_config(&[]).unwrap();
}

#[test]
fn a_damaged_file_is_named() {
    let temp = tempfile::tempdir().unwrap();
    Pki::load_or_create(temp.path()).unwrap();
    fs::write(temp.path().join("ca.key"), "nonsense").unwrap();
    let error = Pki::load_or_create(temp.path()).err().unwrap().to_string();
    assert!(error.contains("ca.key"), "{error}");
}

#[test]
fn a_kubeconfig_reads_back_as_kube_reads_it() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("kubeconfig");
    let pki = Pki::create().unwrap();
    let config = pki.kubeconfig("ztlab", "https://127.0.0.1:1", Some("shop"));
    config.write(&path).unwrap();
    config.write(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let read = kube::config::Kubeconfig::read_from(&path).unwrap();
    assert_eq!(read.current_context.as_deref(), Some("ztlab"));
    let context = read.contexts[0].context.as_ref().unwrap();
    assert_eq!(context.namespace.as_deref(), Some("shop"));
}

#[test]
fn a_token_holds_until_it_ends_and_only_under_its_key() {
    let key = TokenKey::generate().unwrap();
    let token = key.sign(&claims(20)).unwrap();
    assert_eq!(key.verify(&token, 15).unwrap(), claims(20));
    assert_eq!(key.verify(&token, 20), Err(TokenError::Expired));
    assert_eq!(key.verify(&token, 9), Err(TokenError::Expired));
    assert_eq!(claims(20).audiences(&["other"], "api"), Err(TokenError::Audience));
    let other = TokenKey::generate().unwrap();
    assert_eq!(other.verify(&token, 15), Err(TokenError::Signature));
}

#[test]
fn a_forged_token_is_refused() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let key = TokenKey::generate().unwrap();
    let token = key.sign(&claims(20)).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let altered = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims(2000)).unwrap());
    for (forged, expected) in [
        (format!("{none}.{}.", parts[1]), TokenError::Malformed),
        (format!("{}.{altered}.{}", parts[0], parts[2]), TokenError::Signature),
        ("".to_owned(), TokenError::Malformed),
        ("a.b.c".to_owned(), TokenError::Malformed),
        (".".repeat(100_000), TokenError::Malformed),
    ] {
        assert_eq!(key.verify(&forged, 15), Err(expected), "{forged:.40}");
    }
}

/// The subject that a verified certificate names, and its uses.
fn subject(pem: &str) -> (String, Vec<String>, x509_parser::certificate::Validity) {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let (rest, certificate) = X509Certificate::from_der(&pem.contents).unwrap();
    assert!(rest.is_empty());
    let text = |name: &x509_parser::x509::AttributeTypeAndValue<'_>| name.as_str().unwrap().to_owned();
    let subject = certificate.subject();
    (
        subject.iter_common_name().map(text).next().unwrap(),
        subject.iter_organization().map(text).collect(),
        certificate.validity().clone(),
    )
}

#[test]
fn a_certificate_has_every_group_of_its_user_and_is_of_the_ca() {
    let pki = Pki::create().unwrap();
    let identity = pki.client("jane", &["devs", "ops", "zoë"]).unwrap();
    let (name, groups, _) = subject(&identity.certificate);
    assert_eq!(
        (name.as_str(), groups),
        ("jane", vec!["devs".into(), "ops".into(), "zoë".into()])
    );
    // As rustls checks it: signature, uses, validity.
    let verifies = |identity: &Identity, usage| {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let ca = der(pki.ca_certificate());
        let certificate = der(&identity.certificate);
        let mut roots = RootCertStore::empty();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let now = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(usage));
        verifier.verify_client_cert(&certificate, &[], now).is_ok()
    };
    let now = jiff::Timestamp::now().as_second().unsigned_abs();
    assert!(verifies(&identity, now));
    assert!(!verifies(&identity, now + 11 * 366 * 86_400), "over by then");
    assert!(
        !verifies(&Pki::create().unwrap().client("jane", &[]).unwrap(), now),
        "of another CA"
    );
    let key = KeyPair::generate().unwrap();
    let request = CertificateRequest::of(&key, "jane", &[]);
    let serves = |usages: &[&str]| {
        let usages: Vec<Usage> = usages.iter().filter_map(|name| usage(name)).collect();
        let now = i64::try_from(now).unwrap();
        let certificate = pki.signer().sign(&request, &usages, now - 10, now + 10).unwrap();
        Identity {
            certificate,
            key: String::new(),
        }
    };
    assert!(verifies(&serves(&["client auth"]), now));
    assert!(
        !verifies(&serves(&["server auth", "key encipherment"]), now),
        "for servers"
    );
    assert!(!verifies(&serves(&["client auth"]), now + 11));
}

#[test]
fn a_certificate_is_not_valid_longer_than_its_ca() {
    let pki = Pki::create().unwrap();
    let (_, _, ca) = subject(pki.ca_certificate());
    let request = CertificateRequest::of(&KeyPair::generate().unwrap(), "jane", &[]);
    let far = ca.not_after.timestamp() + 1_000_000_000;
    let (_, _, validity) = subject(&pki.signer().sign(&request, &[], 0, far).unwrap());
    assert_eq!(validity.not_after, ca.not_after);
    assert_eq!(validity.not_before.timestamp(), 0);
}

#[test]
fn requests_are_read_and_forged_ones_refused() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.local".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "jane");
    params.distinguished_name.push(DnType::OrganizationName, "devs");
    let request = params.serialize_request(&key).unwrap();
    let pem = request.pem().unwrap();
    let read = CertificateRequest::from_pem(pem.as_bytes()).unwrap();
    assert_eq!(
        (read.common_name.as_str(), read.hosts, read.other_names),
        ("jane", 2, 0)
    );
    assert_eq!(read.organizations, ["devs"]);
    // One name for another under the same signature.
    let der = request.der().to_vec();
    let at = der.windows(4).position(|bytes| bytes == b"jane").unwrap();
    let mut forged = der.clone();
    forged[at..at + 4].copy_from_slice(b"root");
    let encode = |der: &[u8]| {
        use base64::{Engine, engine::general_purpose::STANDARD};
        format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            STANDARD.encode(der)
        )
    };
    assert!(CertificateRequest::from_pem(encode(&der).as_bytes()).is_ok());
    let refused = CertificateRequest::from_pem(encode(&forged).as_bytes()).unwrap_err();
    assert!(refused.contains("signature"), "{refused}");
    for cut in 0..der.len() {
        assert!(CertificateRequest::from_pem(encode(&der[..cut]).as_bytes()).is_err());
    }
    let certificate = Pki::create().unwrap().ca_certificate().to_owned();
    for other in ["", "nonsense", &certificate] {
        let refused = CertificateRequest::from_pem(other.as_bytes()).unwrap_err();
        assert_eq!(refused, "PEM block type must be CERTIFICATE REQUEST");
    }
}
