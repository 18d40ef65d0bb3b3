use super::*;

#[test]
fn versions_are_bounded_from_below_and_above() {
    for (lowest, highest, expected) in [
        (None, None, Some(Versions::Both)),
        (Some("1.2"), Some("1.3"), Some(Versions::Both)),
        (None, Some("1.2"), Some(Versions::Only12)),
        (Some("1.3"), None, Some(Versions::Only13)),
        (Some("TLSv1.3"), Some("TLSv1.3"), Some(Versions::Only13)),
        (Some("1.3"), Some("1.2"), None),
        (Some("1.1"), None, None),
        (None, Some("3"), None),
    ] {
        assert_eq!(
            Versions::between(lowest, highest).ok(),
            expected,
            "{lowest:?} {highest:?}"
        );
    }
}

#[test]
fn pem_without_what_is_wanted_says_so() {
    assert_eq!(certificates(b"").unwrap_err(), "no certificate in it");
    assert_eq!(certificates(b"hello").unwrap_err(), "no certificate in it");
    assert_eq!(private_key(b"hello").unwrap_err(), "no private key in it");
}

proptest::proptest! {
    #[test]
    fn no_pem_panics(body in "[A-Za-z0-9+/=\n-]{0,200}") {
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        if let Ok(chain) = certificates(pem.as_bytes()) {
            let _ = peer::summary(&chain[0]);
            let _ = Proved::by(Some(&chain));
        }
        let _ = private_key(body.as_bytes());
    }
}
