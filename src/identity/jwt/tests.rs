//! The rules of JWT-SVID, each test named after its section.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use ring::{
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    Curve, IdError, JwtBundle, JwtBundleSet, PublicKey, SpiffeId,
    x509::testing::{NOW, at, domain, now},
};

const ORDERS: &str = "spiffe://shop.test/ns/shop/sa/orders";

fn signer() -> Signer {
    Signer::from_pkcs8("k1", &Signer::generate_pkcs8().unwrap()).unwrap()
}

fn bundles(signer: &Signer) -> JwtBundleSet {
    of_key(signer.kid(), signer.public_key())
}

fn of_key(kid: &str, key: PublicKey) -> JwtBundleSet {
    JwtBundleSet::default().with(JwtBundle::new(domain("shop.test"), [(kid.to_owned(), key)]).unwrap())
}

fn claims() -> Value {
    json!({ "sub": ORDERS, "aud": ["payments"], "exp": NOW + 300 })
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "k1" })
}

/// A key, and tokens signed with it that say what they should not.
struct Forge(EcdsaKeyPair);

impl Forge {
    fn new() -> Forge {
        let pkcs8 = Signer::generate_pkcs8().unwrap();
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        Forge(EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &SystemRandom::new()).unwrap())
    }

    fn bundles(&self) -> JwtBundleSet {
        let point = self.0.public_key().as_ref().to_vec();
        of_key(
            "k1",
            PublicKey::Ec {
                curve: Curve::P256,
                point,
            },
        )
    }

    fn token(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn verify(&self, header: &Value, claims: &Value) -> Result<VerifiedJwt, JwtError> {
        let token = self.token(&header.to_string(), &claims.to_string());
        verify(&token, &self.bundles(), "payments", now())
    }

    fn with_header(&self, name: &str, value: Value) -> Result<VerifiedJwt, JwtError> {
        let mut header = header();
        header[name] = value;
        self.verify(&header, &claims())
    }

    fn with_claim(&self, name: &str, value: Value) -> Result<VerifiedJwt, JwtError> {
        let mut claims = claims();
        claims[name] = value;
        self.verify(&header(), &claims)
    }

    fn without_claim(&self, name: &str) -> Result<VerifiedJwt, JwtError> {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        self.verify(&header(), &claims)
    }
}

#[test]
fn what_is_issued_is_verified() {
    let signer = signer();
    let id = SpiffeId::parse(ORDERS).unwrap();
    let svid = signer.sign(&id, &["payments".to_owned()], NOW, NOW + 300).unwrap();
    assert_eq!((svid.id(), svid.expires(), svid.issued()), (&id, NOW + 300, Some(NOW)));
    let verified = verify(svid.token(), &bundles(&signer), "payments", now()).unwrap();
    assert_eq!(
        (verified.id(), verified.expires(), verified.issued()),
        (&id, NOW + 300, Some(NOW))
    );
    assert_eq!(verified.audience(), ["payments"]);
    assert_eq!(verified.claims()["sub"], ORDERS);
}

#[test]
fn an_issuer_adds_claims_and_replaces_none() {
    let signer = signer();
    let id = SpiffeId::parse(ORDERS).unwrap();
    let sign = |more: Value| {
        let audience = ["payments".to_owned()];
        signer.sign_with(&id, &audience, NOW, NOW + 300, more.as_object().unwrap())
    };
    let svid = sign(json!({ "iss": "https://oidc.shop.test", "jti": "1" })).unwrap();
    let verified = verify(svid.token(), &bundles(&signer), "payments", now()).unwrap();
    assert_eq!(verified.claims()["iss"], "https://oidc.shop.test");
    for name in ["sub", "aud", "exp", "iat"] {
        assert_eq!(sign(json!({ name: 1 })).unwrap_err(), JwtError::Claim(name));
    }
}

#[test]
fn no_debug_shows_a_token_or_a_key() {
    let signer = signer();
    let id = SpiffeId::parse(ORDERS).unwrap();
    let svid = signer
        .sign(&id, &["payments".to_owned()], NOW, NOW + 300)
        .unwrap()
        .with_hint("h");
    let shown = format!("{svid:?} {signer:?}");
    assert!(shown.contains(ORDERS) && !shown.contains(svid.token()), "{shown}");
    let signature = svid.token().rsplit('.').next().unwrap();
    assert!(!shown.contains(signature) && svid.hint() == "h");
}

#[test]
fn the_issuer_cannot_issue_what_the_standard_does_not_allow() {
    let signer = signer();
    let id = SpiffeId::parse(ORDERS).unwrap();
    assert_eq!(
        signer.sign(&id, &[], NOW, NOW + 1).unwrap_err(),
        JwtError::Missing("aud")
    );
    assert_eq!(
        signer.sign(&id, &[String::new()], NOW, NOW + 1).unwrap_err(),
        JwtError::Missing("aud")
    );
    let root = domain("shop.test").id();
    let error = signer.sign(&root, &["a".to_owned()], NOW, NOW + 1).unwrap_err();
    assert_eq!(error, JwtError::NoPath(domain("shop.test")));
    assert!(matches!(
        Signer::from_pkcs8("k", b"no key"),
        Err(JwtError::SigningKey(_))
    ));
}

#[test]
fn jwt_svid_2_no_header_but_alg_kid_and_typ() {
    let forge = Forge::new();
    assert!(forge.verify(&header(), &claims()).is_ok());
    for name in [
        "jku", "jwk", "x5u", "x5c", "x5t", "cty", "crit", "b64", "zip", "enc", "other", "ALG",
    ] {
        let error = forge.with_header(name, json!("x")).unwrap_err();
        assert_eq!(error, JwtError::Header(name.to_owned()));
    }
}

#[test]
fn jwt_svid_2_1_only_algorithms_of_the_table() {
    let forge = Forge::new();
    for name in [
        "none",
        "None",
        "",
        "HS256",
        "HS512",
        "EdDSA",
        "ES256K",
        "es256",
        "RS1",
        "A128KW",
        "ML-DSA-44",
    ] {
        let error = forge.with_header("alg", json!(name)).unwrap_err();
        assert_eq!(error, JwtError::Algorithm(name.to_owned()));
    }
    assert!(matches!(
        forge.with_header("alg", json!(["ES256"])),
        Err(JwtError::Algorithm(_))
    ));
    let error = forge.verify(&json!({ "kid": "k1" }), &claims()).unwrap_err();
    assert_eq!(error, JwtError::Algorithm(String::new()));
    // A key that is not there for it: the token does not choose how a key is used.
    for other in ["ES384", "RS256", "PS512"] {
        let error = forge.with_header("alg", json!(other)).unwrap_err();
        assert_eq!(error, JwtError::Signature(domain("shop.test")), "{other}");
    }
    // Allowed by the standard, and more than `ring` can do: refused, and said to be.
    assert_eq!(
        forge.with_header("alg", json!("ES512")).unwrap_err(),
        JwtError::Unsupported(Algorithm::Es512)
    );
}

#[test]
fn jwt_svid_2_1_each_rsa_algorithm_with_the_key_of_another_library() {
    // Made by OpenSSL: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 | openssl pkcs8 -topk8 -nocrypt -outform DER
    let pair = RsaKeyPair::from_pkcs8(include_bytes!("testdata/rsa2048.der")).unwrap();
    let public = pair.public();
    let components = signature::RsaPublicKeyComponents::<Vec<u8>>::from(public);
    let key = PublicKey::Rsa {
        n: components.n,
        e: components.e,
    };
    let paddings: [(&str, &'static dyn signature::RsaEncoding); 6] = [
        ("RS256", &signature::RSA_PKCS1_SHA256),
        ("RS384", &signature::RSA_PKCS1_SHA384),
        ("RS512", &signature::RSA_PKCS1_SHA512),
        ("PS256", &signature::RSA_PSS_SHA256),
        ("PS384", &signature::RSA_PSS_SHA384),
        ("PS512", &signature::RSA_PSS_SHA512),
    ];
    for (name, padding) in paddings {
        for claimed in paddings.map(|(name, _)| name) {
            let token = compact::write(&json!({ "alg": claimed, "kid": "r" }), &claims(), |message| {
                let mut signature = vec![0; public.modulus_len()];
                pair.sign(padding, &SystemRandom::new(), message, &mut signature)
                    .map(|()| signature)
            });
            let verified = verify(&token.unwrap(), &of_key("r", key.clone()), "payments", now());
            assert_eq!(verified.is_ok(), name == claimed, "{name} as {claimed}: {verified:?}");
        }
    }
}

#[test]
fn jwt_svid_2_1_es384() {
    let algorithm = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let token = compact::write(&json!({ "alg": "ES384" }), &claims(), |message| {
        pair.sign(&random, message).map(|signature| signature.as_ref().to_vec())
    });
    let bundles = of_key(
        "e",
        PublicKey::Ec {
            curve: Curve::P384,
            point,
        },
    );
    assert!(verify(&token.unwrap(), &bundles, "payments", now()).is_ok());
}

/// RFC 7515 appendix A.3: a signature and a key of the standard's own, so of another implementation.
#[test]
fn rfc_7515_a_3_the_standards_example() {
    let token = concat!(
        "eyJhbGciOiJFUzI1NiJ9.",
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    let document = json!({ "keys": [{ "kty": "EC", "use": "jwt-svid", "kid": "a3", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" }] });
    let bundle = JwtBundle::from_json(domain("shop.test"), document.to_string().as_bytes()).unwrap();
    let compact = compact::read(token).unwrap();
    assert_eq!(verify::verify_signature(&compact, &bundle), Ok(()));
    assert_eq!(compact.claims["iss"], "joe");
    let other = token.replace("g6NU1Q", "g6NU1A");
    let other = compact::read(&other).unwrap();
    assert!(verify::verify_signature(&other, &bundle).is_err());
}

#[test]
fn jwt_svid_2_2_kid_is_optional_and_names_a_key() {
    let forge = Forge::new();
    assert!(forge.verify(&json!({ "alg": "ES256" }), &claims()).is_ok());
    let error = forge.with_header("kid", json!("k2")).unwrap_err();
    let trust_domain = domain("shop.test");
    assert_eq!(
        error,
        JwtError::UnknownKey {
            kid: "k2".to_owned(),
            trust_domain
        }
    );
    assert_eq!(
        forge.with_header("kid", json!(7)).unwrap_err(),
        JwtError::Header("kid".to_owned())
    );
}

#[test]
fn jwt_svid_2_3_typ_is_jwt_or_jose() {
    let forge = Forge::new();
    for good in ["JWT", "JOSE"] {
        assert!(forge.with_header("typ", json!(good)).is_ok());
    }
    for bad in [json!("jwt"), json!("at+jwt"), json!("wit+jwt"), json!(""), Value::Null] {
        assert!(matches!(forge.with_header("typ", bad), Err(JwtError::Type(_))));
    }
}

#[test]
fn jwt_svid_3_1_the_subject_is_a_workload() {
    let forge = Forge::new();
    assert_eq!(forge.without_claim("sub").unwrap_err(), JwtError::Missing("sub"));
    assert_eq!(forge.with_claim("sub", json!(1)).unwrap_err(), JwtError::Claim("sub"));
    for (subject, error) in [
        ("orders", IdError::WrongScheme),
        ("", IdError::Empty),
        ("spiffe://shop.test/a/../b", IdError::RelativeSegment("..")),
    ] {
        assert_eq!(
            forge.with_claim("sub", json!(subject)).unwrap_err(),
            JwtError::Subject(error)
        );
    }
    let error = forge.with_claim("sub", json!("spiffe://shop.test")).unwrap_err();
    assert_eq!(error, JwtError::NoPath(domain("shop.test")));
}

#[test]
fn jwt_svid_3_2_the_audience_is_the_verifier() {
    let forge = Forge::new();
    assert_eq!(forge.without_claim("aud").unwrap_err(), JwtError::Missing("aud"));
    for none in [json!([]), json!(""), json!(["payments", ""]), Value::Null] {
        assert_eq!(forge.with_claim("aud", none).unwrap_err(), JwtError::Missing("aud"));
    }
    for wrong in [json!(1), json!(["payments", 1]), json!({ "payments": 1 })] {
        assert_eq!(forge.with_claim("aud", wrong).unwrap_err(), JwtError::Claim("aud"));
    }
    for good in [json!("payments"), json!(["payments"]), json!(["orders", "payments"])] {
        assert!(forge.with_claim("aud", good).is_ok());
    }
    for other in [
        json!("orders"),
        json!(["payments2", "pay"]),
        json!("Payments"),
        json!("payments "),
    ] {
        assert!(matches!(forge.with_claim("aud", other), Err(JwtError::Audience { .. })));
    }
    let token = forge.token(&header().to_string(), &claims().to_string());
    assert_eq!(
        verify(&token, &forge.bundles(), "", now()).unwrap_err(),
        JwtError::NoAudience
    );
    assert!(verify(&token, &forge.bundles(), "ledger", now()).is_err());
}

#[test]
fn jwt_svid_3_3_it_expires() {
    let forge = Forge::new();
    assert_eq!(forge.without_claim("exp").unwrap_err(), JwtError::Missing("exp"));
    for wrong in [json!("1"), json!(-1), Value::Null, json!([NOW + 1])] {
        assert_eq!(forge.with_claim("exp", wrong).unwrap_err(), JwtError::Claim("exp"));
    }
    // RFC 7519 section 4.1.4: on or after it.
    assert_eq!(forge.with_claim("exp", json!(NOW)).unwrap_err(), JwtError::Expired(NOW));
    assert!(forge.with_claim("exp", json!(NOW + 1)).is_ok());
    assert!(forge.with_claim("exp", json!(NOW as f64 + 1.5)).is_ok());
    let far = forge.with_claim("exp", json!(1e300)).unwrap();
    assert_eq!(far.expires(), u64::MAX);
    let token = forge.token(&header().to_string(), &claims().to_string());
    assert_eq!(
        verify(&token, &forge.bundles(), "payments", at(NOW + 300)).unwrap_err(),
        JwtError::Expired(NOW + 300)
    );
}

#[test]
fn rfc_7519_4_1_5_not_before() {
    let forge = Forge::new();
    assert!(forge.with_claim("nbf", json!(NOW)).is_ok());
    assert_eq!(
        forge.with_claim("nbf", json!(NOW + 1)).unwrap_err(),
        JwtError::NotYetValid(NOW + 1)
    );
    assert_eq!(
        forge.with_claim("nbf", json!("soon")).unwrap_err(),
        JwtError::Claim("nbf")
    );
}

#[test]
fn jwt_svid_4_the_signature_is_the_trust_domains() {
    let (forge, other) = (Forge::new(), Forge::new());
    let token = forge.token(&header().to_string(), &claims().to_string());
    let error = verify(&token, &other.bundles(), "payments", now()).unwrap_err();
    assert_eq!(error, JwtError::Signature(domain("shop.test")));
    // Other claims under a signature that was for these.
    let (_, signature) = token.rsplit_once('.').unwrap();
    let mut forged = claims();
    forged["sub"] = json!("spiffe://shop.test/ns/shop/sa/admin");
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let forged = format!("{}.{}.{signature}", part(&header()), part(&forged));
    let error = verify(&forged, &forge.bundles(), "payments", now()).unwrap_err();
    assert_eq!(error, JwtError::Signature(domain("shop.test")));
}

#[test]
fn the_bundle_is_that_of_the_trust_domain_in_the_subject() {
    let (shop, partner) = (Forge::new(), Forge::new());
    let key = PublicKey::Ec {
        curve: Curve::P256,
        point: partner.0.public_key().as_ref().to_vec(),
    };
    let partners = JwtBundle::new(domain("partner.test"), [("k1".to_owned(), key)]).unwrap();
    let both = shop.bundles().with(partners);
    // The partner signs for one of the shop's, with a key that the verifier trusts for the partner.
    let token = partner.token(&header().to_string(), &claims().to_string());
    let error = verify(&token, &both, "payments", now()).unwrap_err();
    assert_eq!(error, JwtError::Signature(domain("shop.test")));
    let mut own = claims();
    own["sub"] = json!("spiffe://partner.test/a");
    let token = partner.token(&header().to_string(), &own.to_string());
    assert!(verify(&token, &both, "payments", now()).is_ok());
    let error = verify(&token, &shop.bundles(), "payments", now()).unwrap_err();
    assert_eq!(error, JwtError::UnknownTrustDomain(domain("partner.test")));
    let empty = JwtBundleSet::default().with(JwtBundle::new(domain("partner.test"), []).unwrap());
    let error = verify(&token, &empty, "payments", now()).unwrap_err();
    assert_eq!(error, JwtError::EmptyBundle(domain("partner.test")));
}

#[test]
fn jwt_svid_5_1_compact_serialization_only() {
    let forge = Forge::new();
    let good = forge.token(&header().to_string(), &claims().to_string());
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let refused = |token: &str| verify(token, &forge.bundles(), "payments", now()).unwrap_err();
    let json = json!({ "payload": claims, "signatures": [{ "protected": header, "signature": signature }] });
    for token in [
        String::new(),
        "...".to_owned(),
        "a.b".to_owned(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!(".{claims}.{signature}"),
        format!("{header}..{signature}"),
        format!("{good}.{signature}"),
        format!("{good}.{signature}.{signature}"),
    ] {
        assert_eq!(refused(&token), JwtError::NotCompact, "{token}");
    }
    for token in [
        json.to_string(),
        format!("{good}="),
        format!(" {good}"),
        format!("Bearer {good}"),
        good.replace('.', " ."),
        format!("{header}.{claims}=.{signature}"),
        format!("{header}.{claims}\n.{signature}"),
    ] {
        let error = refused(&token);
        assert!(
            matches!(error, JwtError::NotBase64(_) | JwtError::NotCompact),
            "{token}: {error}"
        );
    }
    let long = format!("{header}.{}.{signature}", "A".repeat(17 << 10));
    assert!(matches!(refused(&long), JwtError::TooLong(_)));
}

#[test]
fn rfc_7519_4_no_member_is_there_twice() {
    let forge = Forge::new();
    let once = claims().to_string();
    let twice = format!("{{\"sub\":\"spiffe://shop.test/admin\",{}", &once[1..]);
    for token in [
        forge.token(&header().to_string(), &twice),
        forge.token("{\"alg\":\"ES256\",\"alg\":\"none\"}", &once),
        forge.token(&header().to_string(), "[]"),
        forge.token("\"ES256\"", &once),
        forge.token(&header().to_string(), "{}x"),
    ] {
        let error = verify(&token, &forge.bundles(), "payments", now()).unwrap_err();
        assert!(matches!(error, JwtError::NotJson { .. }), "{error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = JwtSvid::read_unverified(&text);
    }

    #[test]
    fn any_header_and_claims_are_read_or_refused(header in "\\{[\"a-z0-9:,A-Z]{0,40}\\}", claims in any::<String>()) {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let _ = JwtSvid::read_unverified(&format!("{}.{}.AAAA", part(&header), part(&claims)));
    }

    /// One byte of a token changed: never verified, or the same token (base64url has one form for each text here).
    #[test]
    fn no_changed_token_is_verified(place in any::<prop::sample::Index>(), byte in 0x20..0x7fu8) {
        let signer = signer();
        let id = SpiffeId::parse(ORDERS).unwrap();
        let svid = signer.sign(&id, &["payments".to_owned()], NOW, NOW + 300).unwrap();
        let mut bytes = svid.token().as_bytes().to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let token = String::from_utf8(bytes).unwrap();
        let verified = verify(&token, &bundles(&signer), "payments", now());
        prop_assert_eq!(verified.is_ok(), token == svid.token());
    }
}
