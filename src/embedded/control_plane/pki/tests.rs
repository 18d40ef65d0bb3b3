use std::os::unix::fs::PermissionsExt;

use super::*;
use serde_json::json;

fn claims(exp: i64) -> TokenClaims {
    TokenClaims {
        iss: "https://kubernetes.default.svc.cluster.local".to_owned(),
        sub: "system:serviceaccount:a:b".to_owned(),
        aud: vec!["api".to_owned()],
        exp,
        iat: 10,
        nbf: 10,
        kubernetes: json!({"namespace": "a"}),
    }
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
    assert_eq!(key.verify(&token, "api", 15).unwrap(), claims(20));
    assert_eq!(key.verify(&token, "api", 20), Err(TokenError::Expired));
    assert_eq!(key.verify(&token, "api", 9), Err(TokenError::Expired));
    assert_eq!(key.verify(&token, "other", 15), Err(TokenError::Audience));
    let other = TokenKey::generate().unwrap();
    assert_eq!(other.verify(&token, "api", 15), Err(TokenError::Signature));
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
        assert_eq!(key.verify(&forged, "api", 15), Err(expected), "{forged:.40}");
    }
}
