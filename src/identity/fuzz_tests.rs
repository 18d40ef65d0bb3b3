//! The seeds: what they are, and how they were made.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::{
    jwt::Signer,
    x509::testing::{Ca, times},
};

fn corpus(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fuzz/corpus", target]
        .iter()
        .collect()
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(corpus(target))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{target} has no seeds");
    found
}

/// Were the seeds not what they are called, nothing behind the first mistake would be tried.
#[test]
fn the_seeds_are_what_they_are_called() {
    for (name, seed) in seeds("spiffe_id") {
        assert_eq!(fuzz_id(&seed) > 0, !name.starts_with("not"), "{name}");
    }
    for (name, seed) in seeds("bundle") {
        let found = fuzz_bundle(&seed);
        assert_eq!(found, name.split('-').next().unwrap().parse().ok(), "{name}");
    }
    for (name, seed) in seeds("jwt_svid") {
        assert_eq!(fuzz_jwt(&seed).is_some(), name.starts_with("good"), "{name}");
    }
    for (name, seed) in seeds("x509_svid") {
        assert_eq!(fuzz_certificates(&seed).is_some(), name.starts_with("good"), "{name}");
    }
}

/// Makes the bundle, the tokens and the certificates anew: `cargo test -p ztlab-identity write_seeds -- --ignored`.
#[test]
#[ignore = "writes files"]
fn write_seeds() {
    let put = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(corpus(target)).unwrap();
        fs::write(corpus(target).join(name), bytes).unwrap();
    };
    let long = |it: &mut rcgen::CertificateParams| times(it, TIME - (1 << 24), TIME + (1 << 30));
    let root = Ca::made(DOMAIN, long);
    let below = root.below("below", long);
    let leaf = |ca: &Ca, id: &str| ca.leaf(id, long).0;
    put("x509_svid", "good", &leaf(&root, SIGNED));
    put(
        "x509_svid",
        "good-chain",
        &[&*leaf(&below, SIGNED), &*below.der].concat(),
    );
    put("x509_svid", "root", &root.der);
    put("x509_svid", "other-domain", &leaf(&root, "spiffe://evil.test/a"));
    put("x509_svid", "other-root", &leaf(&Ca::made(DOMAIN, long), SIGNED));

    let signer = Signer::from_pkcs8("k1", &Signer::generate_pkcs8().unwrap()).unwrap();
    let token = |signer: &Signer, audience: &str| {
        let id = SpiffeId::parse(SIGNED).unwrap();
        let svid = signer
            .sign(&id, &[audience.to_owned()], TIME - 1, TIME + (1 << 30))
            .unwrap();
        svid.token().as_bytes().to_vec()
    };
    put("jwt_svid", "good", &token(&signer, AUDIENCE));
    put("jwt_svid", "other-audience", &token(&signer, "ledger"));
    let other = Signer::from_pkcs8("k1", &Signer::generate_pkcs8().unwrap()).unwrap();
    put("jwt_svid", "other-key", &token(&other, AUDIENCE));

    let domain = TrustDomain::new(DOMAIN).unwrap();
    let keys = JwtBundle::new(domain.clone(), [("k1".to_owned(), signer.public_key())]).unwrap();
    let bundle = Bundle::new(root.bundle(DOMAIN), keys.clone())
        .unwrap()
        .with_sequence(Some(7))
        .with_refresh_hint(Some(Duration::from_secs(300)));
    let json = bundle.to_json().unwrap();
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/fuzz.json"), &json).unwrap();
    put("bundle", "2-keys", json.as_bytes());
    put("bundle", "1-jwk-set", keys.to_json().unwrap().as_bytes());
    put("bundle", "0-revoked", b"{\"keys\":[],\"spiffe_sequence\":8}");
    let unknown = br#"{"keys":[{"kty":"AKP","use":"x509-svid","x5c":7},{"kty":"RSA","use":"wit-svid"}]}"#;
    put("bundle", "0-unknown", unknown);
    put(
        "bundle",
        "damaged",
        br#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":["AAAA"]}]}"#,
    );

    put("spiffe_id", "id", SIGNED.as_bytes());
    put("spiffe_id", "domain", b"SPIFFE://Shop.Test");
    put(
        "spiffe_id",
        "rules",
        b"spiffe://shop.test/ns/shop/*, spiffe://partner.test/*\nspiffe://a/b",
    );
    put("spiffe_id", "path", b"/ns/shop");
    put("spiffe_id", "not", b"spiffe://user@shop.test:1/a/../b//c/?q#f%2F");
}

/// Where, which byte, and what is done.
type Change = (prop::sample::Index, u8, u8);

/// A seed with some places changed, or cut out.
fn changed(target: &str, which: prop::sample::Index, changes: &[Change]) -> Vec<u8> {
    let seeds = seeds(target);
    let mut bytes = which.get(&seeds).1.clone();
    for (place, byte, kind) in changes {
        if bytes.is_empty() {
            break;
        }
        let place = place.index(bytes.len());
        match kind % 4 {
            0 => bytes[place] = *byte,
            1 => bytes[place] ^= 1 << (byte % 8),
            2 => drop(bytes.drain(place..(place + usize::from(byte % 40)).min(bytes.len()))),
            _ => bytes.insert(place, *byte),
        }
    }
    bytes
}

proptest! {
    #[test]
    fn changed_seeds_are_read_or_refused(
        which: prop::sample::Index,
        changes in prop::collection::vec(any::<Change>(), 1..4),
    ) {
        fuzz_id(&changed("spiffe_id", which, &changes));
        fuzz_bundle(&changed("bundle", which, &changes));
        fuzz_jwt(&changed("jwt_svid", which, &changes));
        fuzz_certificates(&changed("x509_svid", which, &changes));
    }
}
