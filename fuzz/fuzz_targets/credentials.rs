//! Any bytes as a credential: a bearer token, a request for a certificate: `cargo +nightly fuzz run credentials`.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ztlab_embedded::control_plane::pki::{CertificateRequest, TokenClaims, TokenKey};

static KEY: LazyLock<Option<TokenKey>> = LazyLock::new(|| TokenKey::generate().ok());

fuzz_target!(|input: &[u8]| {
    let (Some((kind, input)), Some(key)) = (input.split_first(), KEY.as_ref()) else {
        return;
    };
    match (kind % 3, std::str::from_utf8(input)) {
        (0, Ok(token)) => assert!(key.verify(token, 0).is_err(), "nobody signed it"),
        // Claims that are signed must read back, whatever they say.
        (1, Ok(text)) => {
            let claims = TokenClaims {
                iss: "fuzz".to_owned(),
                sub: text.to_owned(),
                exp: Some(1),
                ..TokenClaims::default()
            };
            if let Ok(token) = key.sign(&claims) {
                let _ = key.verify(&token, 0);
            }
        }
        _ => {
            let _ = CertificateRequest::from_pem(input);
        }
    }
});
