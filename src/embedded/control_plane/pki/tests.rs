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
