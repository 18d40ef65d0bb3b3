//! The rules of SPIFFE Trust Domain and Bundle, each test named after its section.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    Curve, KeyError,
    jwt::Signer,
    x509::testing::{Ca, domain},
};

fn shop() -> TrustDomain {
    domain("shop.test")
}

fn x5c(ca: &Ca) -> String {
    STANDARD.encode(&ca.der)
}

fn read(document: &Value) -> Result<Bundle, BundleError> {
    Bundle::from_json(shop(), document.to_string().as_bytes())
}

fn keys(keys: &[Value]) -> Result<Bundle, BundleError> {
    read(&json!({ "keys": keys }))
}

fn x509_key(ca: &Ca) -> Value {
    json!({ "kty": "EC", "use": "x509-svid", "crv": "P-256", "x": "", "y": "", "x5c": [x5c(ca)] })
}

fn jwt_key(kid: &str) -> Value {
    let mut key = signer(kid).1;
    key["use"] = "jwt-svid".into();
    key["kid"] = kid.into();
    key
}

fn signer(kid: &str) -> (Signer, Value) {
    let signer = Signer::from_pkcs8(kid, &Signer::generate_pkcs8().unwrap()).unwrap();
    let jwk = serde_json::to_value(signer.public_key().to_jwk()).unwrap();
    (signer, jwk)
}

#[test]
fn bundle_4_1_what_is_written_is_read() {
    let ca = Ca::of("shop.test");
    let jwt = JwtBundle::new(shop(), [("a".to_owned(), signer("a").0.public_key())]).unwrap();
    let bundle = Bundle::new(ca.bundle("shop.test"), jwt.clone())
        .unwrap()
        .with_sequence(Some(u64::MAX))
        .with_refresh_hint(Some(Duration::from_millis(300_900)));
    let json = bundle.to_json().unwrap();
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["spiffe_sequence"], u64::MAX);
    assert_eq!(document["spiffe_refresh_hint"], 300);
    assert_eq!(Bundle::from_json(shop(), json.as_bytes()).unwrap(), bundle);
    let keys = document["keys"].as_array().unwrap();
    // X509-SVID section 6.1: use, one certificate, no kid. JWT-SVID section 6.1: use and kid.
    assert_eq!(
        (keys.len(), &keys[0]["use"], &keys[1]["use"]),
        (2, &json!("x509-svid"), &json!("jwt-svid"))
    );
    assert_eq!(keys[0]["x5c"], json!([x5c(&ca)]));
    assert_eq!(keys[0].get("kid"), None);
    assert_eq!((&keys[1]["kid"], keys[1].get("x5c")), (&json!("a"), None));
    for key in keys {
        // RFC 7517 section 4.1, RFC 7518 section 6.2: the key itself is there too.
        assert_eq!((&key["kty"], &key["crv"]), (&json!("EC"), &json!("P-256")));
        assert_eq!(
            (key["x"].as_str().unwrap().len(), key["y"].as_str().unwrap().len()),
            (43, 43)
        );
    }
    let json = jwt.to_json().unwrap();
    assert_eq!(JwtBundle::from_json(shop(), json.as_bytes()).unwrap(), jwt);
    assert!(!json.contains("spiffe_"), "{json}");
}

#[test]
fn bundle_4_1_1_the_sequence_is_an_integer_of_64_bits() {
    let sequence = |value: Value| read(&json!({ "keys": [], "spiffe_sequence": value })).map(|it| it.sequence());
    assert_eq!(read(&json!({ "keys": [] })).unwrap().sequence(), None);
    assert_eq!(sequence(json!(u64::MAX)).unwrap(), Some(u64::MAX));
    for wrong in [json!(-1), json!("1"), json!(1.5)] {
        assert!(matches!(sequence(wrong), Err(BundleError::NotJson(_))));
    }
}

#[test]
fn bundle_4_1_2_the_refresh_hint_is_in_seconds() {
    let hint = |value: Value| read(&json!({ "keys": [], "spiffe_refresh_hint": value })).map(|it| it.refresh_hint());
    assert_eq!(hint(json!(300)).unwrap(), Some(Duration::from_secs(300)));
    assert!(hint(json!(-300)).is_err());
    assert_eq!(read(&json!({ "keys": [] })).unwrap().refresh_hint(), None);
}

#[test]
fn bundle_4_1_3_keys_must_be_there_and_may_be_none() {
    assert!(matches!(read(&json!({})), Err(BundleError::NotJson(_))));
    for wrong in [
        json!([]),
        json!({ "keys": {} }),
        json!({ "keys": null }),
        json!({ "keys": [1] }),
    ] {
        assert!(matches!(read(&wrong), Err(BundleError::NotJson(_))), "{wrong}");
    }
    assert!(keys(&[]).unwrap().is_empty());
    for broken in ["", "{", "{\"keys\":[]} x", "{\"keys\":[],\"keys\":[]}", "\u{0}"] {
        assert!(Bundle::from_json(shop(), broken.as_bytes()).is_err(), "{broken}");
    }
}

#[test]
fn bundle_4_1_parameters_of_others_are_passed_over() {
    let document = json!({ "keys": [], "spiffe_sequence": 1, "x": { "y": [1, 2] } });
    assert_eq!(read(&document).unwrap().sequence(), Some(1));
}

#[test]
fn bundle_4_2_1_an_unknown_or_missing_kind_of_key_is_passed_over() {
    let ca = Ca::of("shop.test");
    for kty in [json!("AKP"), json!("oct"), json!("ec"), json!(7), Value::Null] {
        let mut odd = x509_key(&ca);
        odd["kty"] = kty;
        let mut token = jwt_key("b");
        token["kty"] = odd["kty"].clone();
        // What else it says is its own business.
        token["x"] = json!({ "y": 1 });
        let bundle = keys(&[odd, token, x509_key(&Ca::of("shop.test"))]).unwrap();
        assert_eq!((bundle.x509().authorities().len(), bundle.jwt().keys().len()), (1, 0));
    }
}

#[test]
fn bundle_4_2_2_an_unknown_or_missing_use_is_passed_over() {
    let ca = Ca::of("shop.test");
    for usage in [
        json!("X509-SVID"),
        json!("sig"),
        json!("wit-svid"),
        json!(1),
        Value::Null,
    ] {
        let mut odd = x509_key(&ca);
        odd["use"] = usage;
        assert!(keys(&[odd]).unwrap().is_empty());
    }
    let mut missing = x509_key(&ca);
    missing.as_object_mut().unwrap().remove("use");
    assert!(keys(&[missing]).unwrap().is_empty());
}

#[test]
fn x509_svid_6_2_the_first_certificate_counts() {
    let (first, second) = (Ca::of("shop.test"), Ca::of("shop.test"));
    let mut key = x509_key(&first);
    key["x5c"] = json!([x5c(&first), x5c(&second), "what else?"]);
    let bundle = keys(&[key]).unwrap();
    assert_eq!(bundle.x509().authorities(), [first.authority()]);
    let two = keys(&[x509_key(&first), x509_key(&second), x509_key(&first)]).unwrap();
    assert_eq!(two.x509().authorities(), [first.authority(), second.authority()]);
}

#[test]
fn x509_svid_6_2_an_entry_without_a_certificate_is_passed_over() {
    let ca = Ca::of("shop.test");
    for none in [json!([]), Value::Null] {
        let mut key = x509_key(&ca);
        key["x5c"] = none;
        assert!(keys(&[key]).unwrap().is_empty());
    }
}

#[test]
fn a_damaged_certificate_refuses_the_bundle_and_says_which() {
    let ca = Ca::of("shop.test");
    let with = |value: Value| {
        let mut key = x509_key(&ca);
        key["x5c"] = json!([value]);
        keys(&[x509_key(&ca), key]).unwrap_err()
    };
    assert_eq!(with("?".into()), BundleError::NotBase64(1));
    assert!(matches!(with("AAAA".into()), BundleError::Certificate { index: 1, .. }));
    assert!(matches!(with(1.into()), BundleError::NotJson(_)));
    let leaf = STANDARD.encode(ca.leaf("spiffe://shop.test/a", |_| {}).0);
    let error = X509Error::NotAnAuthority;
    assert_eq!(with(leaf.into()), BundleError::Certificate { index: 1, error });
}

#[test]
fn jwt_svid_6_1_a_key_has_a_name_of_its_own() {
    let mut nameless = jwt_key("a");
    nameless.as_object_mut().unwrap().remove("kid");
    assert_eq!(keys(&[nameless]).unwrap_err(), BundleError::MissingKeyId);
    assert_eq!(keys(&[jwt_key("")]).unwrap_err(), BundleError::MissingKeyId);
    let error = keys(&[jwt_key("a"), jwt_key("a")]).unwrap_err();
    assert_eq!(error, BundleError::DuplicateKeyId("a".to_owned()));
    let bundle = keys(&[jwt_key("a"), jwt_key("b")]).unwrap();
    assert_ne!(bundle.jwt().key("a").unwrap(), bundle.jwt().key("b").unwrap());
    assert_eq!(bundle.jwt().key("c"), None);
}

#[test]
fn jwt_svid_6_2_keys_for_one_kind_of_svid_are_no_keys_for_the_other() {
    let ca = Ca::of("shop.test");
    let bundle = keys(&[x509_key(&ca), jwt_key("a")]).unwrap();
    assert_eq!((bundle.x509().authorities().len(), bundle.jwt().keys().len()), (1, 1));
    assert!(keys(&[x509_key(&ca)]).unwrap().jwt().is_empty());
    assert!(keys(&[jwt_key("a")]).unwrap().x509().is_empty());
}

#[test]
fn rfc_7518_6_parameters_of_keys() {
    let with = |name: &str, value: Value| {
        let mut key = jwt_key("a");
        key[name] = value;
        keys(&[key])
    };
    let error = |error| BundleError::Key { index: 0, error };
    assert_eq!(with("x", Value::Null).unwrap_err(), error(KeyError::Missing("x")));
    assert_eq!(with("crv", Value::Null).unwrap_err(), error(KeyError::Missing("crv")));
    assert_eq!(with("x", "a+b".into()).unwrap_err(), error(KeyError::NotBase64("x")));
    assert_eq!(
        with("y", "AAAA".into()).unwrap_err(),
        error(KeyError::Length { name: "y", length: 3 })
    );
    assert!(with("crv", "secp256k1".into()).unwrap().is_empty());
    let rsa = |bytes: usize, e: &str| {
        let n = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
        keys(&[json!({ "kty": "RSA", "use": "jwt-svid", "kid": "r", "n": n, "e": e })])
    };
    let PublicKey::Rsa { n, e } = rsa(256, "AQAB").unwrap().jwt().key("r").unwrap().clone() else {
        panic!("not RSA");
    };
    assert_eq!((n.len(), e), (256, vec![1, 0, 1]));
    // Too short to be safe, and too long to be verified in reasonable time.
    assert_eq!(
        rsa(128, "AQAB").unwrap_err(),
        error(KeyError::Length { name: "n", length: 128 })
    );
    assert_eq!(
        rsa(1025, "AQAB").unwrap_err(),
        error(KeyError::Length {
            name: "n",
            length: 1025
        })
    );
    assert_eq!(
        rsa(256, "").unwrap_err(),
        error(KeyError::Length { name: "e", length: 0 })
    );
    // RFC 8037: known for certificates, and no key for JWT-SVIDs.
    let okp = json!({ "kty": "OKP", "use": "jwt-svid", "kid": "o", "crv": "Ed25519",
                      "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    assert!(keys(&[okp]).unwrap().is_empty());
    let ed = PublicKey::Ed25519(vec![7; 32]);
    assert_eq!(
        JwtBundle::new(shop(), [("e".to_owned(), ed)]).unwrap_err(),
        BundleError::NotForJwt("e".to_owned())
    );
}

#[test]
fn keys_are_read_from_der() {
    for (algorithm, curve) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Curve::P256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, Curve::P384),
    ] {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let der = rcgen::PublicKeyData::subject_public_key_info(&pair);
        let key = PublicKey::from_spki_der(&der).unwrap();
        assert!(
            matches!(&key, PublicKey::Ec { curve: found, .. } if *found == curve),
            "{key:?}"
        );
        let jwk = key.to_jwk();
        assert_eq!(PublicKey::of_jwk(&jwk).unwrap(), key);
        let long = [der.as_slice(), &[0]].concat();
        assert!(matches!(PublicKey::from_spki_der(&long), Err(KeyError::NotDer(_))));
    }
    let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = PublicKey::from_spki_der(&rcgen::PublicKeyData::subject_public_key_info(&ed)).unwrap();
    assert_eq!(PublicKey::of_jwk(&key.to_jwk()).unwrap(), key);
}

#[test]
fn bundles_of_two_trust_domains_are_never_merged() {
    let (shop_ca, partner_ca) = (Ca::of("shop.test"), Ca::of("partner.test"));
    let mut set = X509BundleSet::default().with(shop_ca.bundle("shop.test"));
    assert_eq!(set.insert(partner_ca.bundle("partner.test")), None);
    assert_eq!(set.get(&shop()).unwrap().authorities(), [shop_ca.authority()]);
    assert_eq!(
        set.get(&domain("partner.test")).unwrap().authorities(),
        [partner_ca.authority()]
    );
    // A second one of a domain takes the place of the first.
    let next = Ca::of("shop.test");
    let before = set.insert(next.bundle("shop.test")).unwrap();
    assert_eq!(before.authorities(), [shop_ca.authority()]);
    assert_eq!(set.get(&shop()).unwrap().authorities(), [next.authority()]);
    assert_eq!(
        (set.len(), set.remove(&shop()).is_some(), set.get(&shop())),
        (2, true, None)
    );
    let other = JwtBundle::new(domain("partner.test"), []).unwrap();
    let error = Bundle::new(next.bundle("shop.test"), other).unwrap_err();
    assert_eq!(error, BundleError::OtherTrustDomain(shop(), domain("partner.test")));
}

#[test]
fn a_set_gives_out_the_parts_of_each() {
    let ca = Ca::of("shop.test");
    let bundle = keys(&[x509_key(&ca), jwt_key("a")]).unwrap();
    let set = BundleSet::default().with(bundle.clone());
    assert_eq!(set.x509().get(&shop()), Some(bundle.x509()));
    assert_eq!(set.jwt().get(&shop()), Some(bundle.jwt()));
    assert_eq!(set.iter().count(), 1);
}

#[test]
fn what_grows_has_a_limit() {
    let long = vec![b' '; (1 << 20) + 1];
    assert_eq!(
        Bundle::from_json(shop(), &long).unwrap_err(),
        BundleError::TooLong((1 << 20) + 1)
    );
    let many: Vec<Value> = (0..65).map(|number| jwt_key(&number.to_string())).collect();
    assert_eq!(keys(&many).unwrap_err(), BundleError::TooManyKeys);
    assert!(keys(&many[..64]).is_ok());
    let ca = Ca::of("shop.test");
    let der = ca.der.repeat(65);
    assert_eq!(
        X509Bundle::from_der(shop(), &der).unwrap_err(),
        X509Error::TooManyCertificates
    );
    let deep = format!("{{\"keys\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(
        Bundle::from_json(shop(), deep.as_bytes()),
        Err(BundleError::NotJson(_))
    ));
}

#[test]
fn authorities_as_der_and_pem() {
    let (first, second) = (Ca::of("shop.test"), Ca::of("shop.test"));
    let bundle = X509Bundle::new(shop(), [first.authority(), second.authority(), first.authority()]);
    assert_eq!(bundle.authorities().len(), 2);
    assert_eq!(X509Bundle::from_der(shop(), &bundle.to_der()).unwrap(), bundle);
    assert_eq!(
        X509Bundle::from_pem(shop(), bundle.to_pem().as_bytes()).unwrap(),
        bundle
    );
    assert!(X509Bundle::from_der(shop(), &[]).unwrap().is_empty());
    let leaf = first.leaf("spiffe://shop.test/a", |_| {}).0;
    assert_eq!(
        X509Bundle::from_der(shop(), &leaf).unwrap_err(),
        X509Error::NotAnAuthority
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_bundle_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Bundle::from_json(shop(), &bytes);
        let _ = X509Bundle::from_der(shop(), &bytes);
        let _ = X509Bundle::from_pem(shop(), &bytes);
        let _ = PublicKey::from_spki_der(&bytes);
    }

    #[test]
    fn keys_are_written_as_they_are_read(
        n in prop::collection::vec(1..=255u8, 256..300), e in prop::collection::vec(1..=255u8, 1..5),
        x in prop::collection::vec(any::<u8>(), 48), y in prop::collection::vec(any::<u8>(), 48),
    ) {
        let ec = PublicKey::Ec { curve: Curve::P384, point: [&[4], x.as_slice(), y.as_slice()].concat() };
        for key in [PublicKey::Rsa { n, e }, ec] {
            prop_assert_eq!(PublicKey::of_jwk(&key.to_jwk()).unwrap(), key);
        }
    }
}
