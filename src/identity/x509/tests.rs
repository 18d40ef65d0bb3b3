//! The rules of X509-SVID, each test named after its section.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls_pki_types::CertificateDer;

use super::{
    testing::{Ca, NOW, at, domain, extension, leaf_params, now, pkcs8, times, uri},
    *,
};
use crate::{IdError, SpiffeId, X509Bundle, X509BundleSet};

const ORDERS: &str = "spiffe://shop.test/ns/shop/sa/orders";

const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];

fn read(change: impl FnOnce(&mut CertificateParams)) -> Result<Leaf, X509Error> {
    Leaf::read(&Ca::of("shop.test").leaf(ORDERS, change).0)
}

fn orders() -> SpiffeId {
    SpiffeId::parse(ORDERS).unwrap()
}

#[test]
fn x509_svid_2_exactly_one_uri_name() {
    assert_eq!(read(|_| {}).unwrap().id(), &orders());
    assert_eq!(
        read(|it| it.subject_alt_names.clear()).unwrap_err(),
        X509Error::UriNames(0)
    );
    let only_dns = |it: &mut CertificateParams| it.subject_alt_names = vec![SanType::DnsName("a".try_into().unwrap())];
    assert_eq!(read(only_dns).unwrap_err(), X509Error::UriNames(0));
    // The second one need not be a SPIFFE ID, nor come second.
    for second in ["spiffe://shop.test/b", ORDERS, "https://shop.test"] {
        let after = read(|it| it.subject_alt_names.push(uri(second)));
        assert_eq!(after.unwrap_err(), X509Error::UriNames(2), "{second}");
        let before = read(|it| it.subject_alt_names.insert(0, uri(second)));
        assert_eq!(before.unwrap_err(), X509Error::UriNames(2), "{second}");
    }
}

#[test]
fn x509_svid_2_a_uri_name_that_is_not_text_counts() {
    // Two URI names, the second of which no decoder takes for text.
    let mut names = vec![0x86, ORDERS.len() as u8];
    names.extend(ORDERS.as_bytes());
    names.extend([0x86, 2, 0xff, 0xfe]);
    let content = [&[0x30, names.len() as u8], names.as_slice()].concat();
    let two = read(|it| {
        it.subject_alt_names.clear();
        it.custom_extensions.push(extension(SUBJECT_ALT_NAME, false, &content));
    });
    assert_eq!(two.unwrap_err(), X509Error::UriNames(2));
    let one = read(|it| {
        it.subject_alt_names.clear();
        it.custom_extensions
            .push(extension(SUBJECT_ALT_NAME, false, &[0x30, 4, 0x86, 2, 0xff, 0xfe]));
    });
    assert_eq!(one.unwrap_err(), X509Error::IdNotText);
}

#[test]
fn x509_svid_2_other_names_are_allowed() {
    let leaf = read(|it| {
        it.subject_alt_names
            .push(SanType::DnsName("orders.shop".try_into().unwrap()));
        it.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
        it.subject_alt_names
            .push(SanType::Rfc822Name("a@b.test".try_into().unwrap()));
    });
    assert_eq!(leaf.unwrap().id(), &orders());
}

#[test]
fn x509_svid_3_1_a_leaf_has_a_path() {
    let ca = Ca::of("shop.test");
    let error = Leaf::read(&ca.leaf("spiffe://shop.test", |_| {}).0).unwrap_err();
    assert_eq!(error, X509Error::NoPath(domain("shop.test").id()));
}

#[test]
fn x509_svid_3_1_names_are_critical_where_there_is_no_subject() {
    // rcgen marks them critical where the subject is empty.
    assert!(read(|it| it.distinguished_name = DistinguishedName::new()).is_ok());
    let mut names = vec![0x86, ORDERS.len() as u8];
    names.extend(ORDERS.as_bytes());
    let content = [&[0x30, names.len() as u8], names.as_slice()].concat();
    let not_critical = read(|it| {
        it.distinguished_name = DistinguishedName::new();
        it.subject_alt_names.clear();
        it.custom_extensions.push(extension(SUBJECT_ALT_NAME, false, &content));
    });
    assert_eq!(not_critical.unwrap_err(), X509Error::NamesNotCritical);
}

#[test]
fn x509_svid_3_2_a_signing_certificate_has_no_path() {
    let ca = Ca::made("shop.test", |it| it.subject_alt_names = vec![uri(ORDERS)]);
    let error = Authority::read(ca.der).unwrap_err();
    assert_eq!(error, X509Error::AuthorityWithPath(orders()));
    assert_eq!(Ca::of("shop.test").authority().id(), Some(&domain("shop.test").id()));
}

#[test]
fn x509_svid_3_2_a_signing_certificate_need_not_be_an_svid() {
    let plain = Ca::made("shop.test", |it| {
        it.subject_alt_names.clear();
        it.key_usages.clear();
    });
    assert_eq!(plain.authority().id(), None);
    let two = Ca::made("shop.test", |it| it.subject_alt_names.push(uri("spiffe://b.test")));
    assert_eq!(Authority::read(two.der).unwrap_err(), X509Error::UriNames(2));
}

#[test]
fn x509_svid_3_2_a_signing_certificate_never_authenticates() {
    let ca = Ca::of("shop.test");
    let root = std::slice::from_ref(&ca.der);
    assert_eq!(
        verify(root, &ca.bundles(), now()).unwrap_err(),
        X509Error::NoPath(domain("shop.test").id())
    );
    let other = ca.below("other", |it| it.subject_alt_names = vec![uri(ORDERS)]);
    assert_eq!(
        verify(std::slice::from_ref(&other.der), &ca.bundles(), now()).unwrap_err(),
        X509Error::LeafIsAuthority
    );
}

#[test]
fn x509_svid_4_1_a_leaf_is_no_authority() {
    let authority = read(|it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(authority.unwrap_err(), X509Error::LeafIsAuthority);
    // Left out, it is false (RFC 5280 section 4.2.1.9).
    assert!(read(|it| it.is_ca = IsCa::NoCa).is_ok());
}

#[test]
fn x509_svid_4_1_a_signing_certificate_is_an_authority() {
    for no in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        let ca = Ca::made("shop.test", |it| it.is_ca = no);
        assert_eq!(Authority::read(ca.der).unwrap_err(), X509Error::NotAnAuthority);
    }
    let constrained = Ca::made("shop.test", |it| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert!(Authority::read(constrained.der).is_ok());
}

#[test]
fn x509_svid_4_1_the_length_of_the_path_is_kept() {
    let root = Ca::made("shop.test", |it| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = root.below("a", |_| {});
    let (leaf, _) = below.leaf(ORDERS, |_| {});
    let error = verify(&[leaf, below.der], &root.bundles(), now()).unwrap_err();
    assert_eq!(error, X509Error::PathTooLong);
    let (leaf, _) = root.leaf(ORDERS, |_| {});
    assert!(verify(&[leaf], &root.bundles(), now()).is_ok());
    // The same of an authority in between.
    let root = Ca::of("shop.test");
    let constrained = |it: &mut CertificateParams| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let (middle, low) = {
        let middle = root.below("middle", constrained);
        let low = middle.below("low", |_| {});
        (middle, low)
    };
    let (leaf, _) = low.leaf(ORDERS, |_| {});
    let error = verify(&[leaf, low.der, middle.der.clone()], &root.bundles(), now()).unwrap_err();
    assert!(matches!(error, X509Error::Path { .. }), "{error}");
    let (leaf, _) = middle.leaf(ORDERS, |_| {});
    assert!(verify(&[leaf, middle.der], &root.bundles(), now()).is_ok());
}

#[test]
fn x509_svid_4_2_uri_name_constraints_are_refused_not_passed_over() {
    // permittedSubtrees [0] with one URI base [6], which even allows the name: RFC 5280's URI constraints are host names.
    let base = b"shop.test";
    let mut subtree = vec![0x30, base.len() as u8 + 2, 0x86, base.len() as u8];
    subtree.extend(base);
    let permitted = [&[0xa0, subtree.len() as u8], subtree.as_slice()].concat();
    let content = [&[0x30, permitted.len() as u8], permitted.as_slice()].concat();
    for critical in [true, false] {
        let constraints = extension(NAME_CONSTRAINTS, critical, &content);
        let root = Ca::of("shop.test");
        let below = root.below("a", |it| {
            // An intermediate's own name is constrained only by what is above it.
            it.custom_extensions.push(constraints);
        });
        let (leaf, _) = below.leaf(ORDERS, |_| {});
        let error = verify(&[leaf, below.der], &root.bundles(), now()).unwrap_err();
        assert!(matches!(error, X509Error::Path { .. }), "{error}");
    }
}

#[test]
fn x509_svid_4_3_key_usage_is_there_and_critical() {
    assert_eq!(read(|it| it.key_usages.clear()).unwrap_err(), X509Error::NoKeyUsage);
    let not_critical = |it: &mut CertificateParams| {
        it.key_usages.clear();
        // digitalSignature alone
        it.custom_extensions.push(extension(KEY_USAGE, false, &[3, 2, 7, 0x80]));
    };
    assert_eq!(read(not_critical).unwrap_err(), X509Error::KeyUsageNotCritical);
    let ca = Ca::made("shop.test", |it| it.key_usages.clear());
    assert_eq!(Authority::read(ca.der).unwrap_err(), X509Error::NoKeyUsage);
    let ca = Ca::made("shop.test", |it| {
        it.key_usages.clear();
        // keyCertSign alone
        it.custom_extensions.push(extension(KEY_USAGE, false, &[3, 2, 2, 4]));
    });
    assert_eq!(Authority::read(ca.der).unwrap_err(), X509Error::KeyUsageNotCritical);
}

#[test]
fn x509_svid_4_3_a_leaf_signs_data_and_no_certificates() {
    let usages = |usages: &[KeyUsagePurpose]| read(|it| it.key_usages = usages.to_vec());
    assert_eq!(
        usages(&[KeyUsagePurpose::KeyEncipherment]).unwrap_err(),
        X509Error::MissingKeyUsage("digitalSignature")
    );
    let digital = KeyUsagePurpose::DigitalSignature;
    assert!(usages(&[digital]).is_ok());
    assert!(usages(&[digital, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyAgreement]).is_ok());
    assert_eq!(
        usages(&[digital, KeyUsagePurpose::KeyCertSign]).unwrap_err(),
        X509Error::ForbiddenKeyUsage("keyCertSign")
    );
    assert_eq!(
        usages(&[digital, KeyUsagePurpose::CrlSign]).unwrap_err(),
        X509Error::ForbiddenKeyUsage("cRLSign")
    );
}

#[test]
fn x509_svid_4_3_a_signing_certificate_signs_certificates() {
    let ca = Ca::made("shop.test", |it| it.key_usages = vec![KeyUsagePurpose::CrlSign]);
    assert_eq!(
        Authority::read(ca.der).unwrap_err(),
        X509Error::MissingKeyUsage("keyCertSign")
    );
    let ca = Ca::made("shop.test", |it| it.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    assert!(Authority::read(ca.der).is_ok());
}

#[test]
fn x509_svid_4_3_certificates_in_between_sign_certificates() {
    // webpki does not look at their key usage.
    let root = Ca::of("shop.test");
    let below = root.below("a", |it| it.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let (leaf, _) = below.leaf(ORDERS, |_| {});
    let error = verify(&[leaf.clone(), below.der], &root.bundles(), now()).unwrap_err();
    assert_eq!(error, X509Error::MissingKeyUsage("keyCertSign"));
    let with_path = root.below("a", |it| {
        it.subject_alt_names = vec![uri("spiffe://shop.test/ns/shop/sa/evil")]
    });
    let (leaf, _) = with_path.leaf(ORDERS, |_| {});
    let error = verify(&[leaf, with_path.der], &root.bundles(), now()).unwrap_err();
    assert!(matches!(error, X509Error::AuthorityWithPath(_)), "{error}");
}

#[test]
fn x509_svid_4_4_both_extended_usages_or_none() {
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
    let usages = |usages: &[ExtendedKeyUsagePurpose]| read(|it| it.extended_key_usages = usages.to_vec());
    assert!(usages(&[]).is_ok());
    assert!(usages(&[ServerAuth, ClientAuth, CodeSigning]).is_ok());
    assert_eq!(
        usages(&[ServerAuth]).unwrap_err(),
        X509Error::MissingExtendedUsage("clientAuth")
    );
    assert_eq!(
        usages(&[ClientAuth]).unwrap_err(),
        X509Error::MissingExtendedUsage("serverAuth")
    );
    assert_eq!(
        usages(&[CodeSigning]).unwrap_err(),
        X509Error::MissingExtendedUsage("serverAuth")
    );
}

#[test]
fn x509_svid_4_4_certificates_in_between_allow_both_or_say_nothing() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let root = Ca::of("shop.test");
    for (usages, good) in [
        (&[][..], true),
        (&[ServerAuth, ClientAuth], true),
        (&[ServerAuth], false),
        (&[ClientAuth], false),
    ] {
        let below = root.below("a", |it| it.extended_key_usages = usages.to_vec());
        let (leaf, _) = below.leaf(ORDERS, |_| {});
        let verified = verify(&[leaf, below.der], &root.bundles(), now());
        assert_eq!(verified.is_ok(), good, "{usages:?}: {verified:?}");
    }
}

#[test]
fn x509_svid_5_1_a_path_to_the_bundle_of_the_trust_domain() {
    let root = Ca::of("shop.test");
    let middle = root.below("middle", |_| {});
    let low = middle.below("low", |_| {});
    let (leaf, _) = low.leaf(ORDERS, |_| {});
    let chain = [leaf.clone(), low.der.clone(), middle.der.clone()];
    assert_eq!(verify(&chain, &root.bundles(), now()).unwrap().id(), &orders());
    // The order of those in between does not matter to RFC 5280's path building; a missing one does.
    let turned = [leaf.clone(), middle.der.clone(), low.der.clone()];
    assert!(verify(&turned, &root.bundles(), now()).is_ok());
    let missing = [leaf, low.der.clone()];
    assert_eq!(
        verify(&missing, &root.bundles(), now()).unwrap_err(),
        X509Error::UnknownIssuer(orders())
    );
    // What is sent along without need spoils nothing: another domain's root, a leaf.
    let (leaf, _) = low.leaf(ORDERS, |_| {});
    let stray = root.leaf("spiffe://shop.test/b", |_| {}).0;
    let chain = [
        leaf,
        Ca::of("evil.test").der,
        stray,
        low.der.clone(),
        middle.der.clone(),
    ];
    assert!(verify(&chain, &root.bundles(), now()).is_ok());
}

#[test]
fn x509_svid_5_1_another_authority_is_not_believed() {
    let (root, evil) = (Ca::of("shop.test"), Ca::of("shop.test"));
    let (leaf, _) = evil.leaf(ORDERS, |_| {});
    // Same name, same id, another key; sending its root along does not help.
    for chain in [vec![leaf.clone()], vec![leaf.clone(), evil.der.clone()]] {
        let error = verify(&chain, &root.bundles(), now()).unwrap_err();
        assert_eq!(error, X509Error::UnknownIssuer(orders()));
    }
    let (leaf, key) = root.leaf(ORDERS, |_| {});
    let mut broken = leaf.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(
        verify(&[CertificateDer::from(broken)], &root.bundles(), now()).unwrap_err(),
        X509Error::UnknownIssuer(orders())
    );
    assert!(verify(&[leaf], &root.bundles(), now()).is_ok());
    let own = leaf_params(ORDERS).self_signed(&key).unwrap();
    assert_eq!(
        verify(&[own.der().clone()], &root.bundles(), now()).unwrap_err(),
        X509Error::UnknownIssuer(orders())
    );
}

#[test]
fn x509_svid_5_1_a_leaf_signs_nothing() {
    let root = Ca::of("shop.test");
    let (victim, key) = root.leaf("spiffe://shop.test/victim", |_| {});
    let params = leaf_params("spiffe://shop.test/victim");
    let issuer = rcgen::Issuer::from_params(&params, &key);
    let forged = leaf_params(ORDERS)
        .signed_by(&KeyPair::generate().unwrap(), &issuer)
        .unwrap();
    assert!(verify(&[forged.der().clone(), victim], &root.bundles(), now()).is_err());
}

#[test]
fn x509_svid_5_1_only_within_its_time() {
    let root = Ca::of("shop.test");
    let (leaf, _) = root.leaf(ORDERS, |it| times(it, NOW - 60, NOW + 60));
    let verified = |seconds| verify(std::slice::from_ref(&leaf), &root.bundles(), at(seconds));
    for good in [NOW - 60, NOW, NOW + 60] {
        assert!(verified(good).is_ok(), "{good}");
    }
    let not_after = NOW as i64 + 60;
    let expired = X509Error::Expired {
        id: orders(),
        not_after,
    };
    assert_eq!(verified(NOW + 61).unwrap_err(), expired);
    let not_before = NOW as i64 - 60;
    let early = X509Error::NotYetValid {
        id: orders(),
        not_before,
    };
    assert_eq!(verified(NOW - 61).unwrap_err(), early);
}

#[test]
fn x509_svid_5_1_an_authority_past_its_time_is_none() {
    // webpki does not look at the time of a trust anchor.
    let old = Ca::made("shop.test", |it| times(it, NOW - 7200, NOW - 3600));
    let (leaf, _) = old.leaf(ORDERS, |_| {});
    let error = verify(std::slice::from_ref(&leaf), &old.bundles(), now()).unwrap_err();
    assert_eq!(error, X509Error::NoAuthorityNow(domain("shop.test")));
    let fresh = Ca::of("shop.test");
    let both = X509Bundle::new(domain("shop.test"), [old.authority(), fresh.authority()]);
    let bundles = X509BundleSet::default().with(both);
    assert!(verify(&[leaf], &bundles, now()).is_err());
    assert!(verify(&[fresh.leaf(ORDERS, |_| {}).0], &bundles, now()).is_ok());
    let root = Ca::of("shop.test");
    let below = root.below("old", |it| times(it, NOW - 7200, NOW - 3600));
    let (leaf, _) = below.leaf(ORDERS, |_| {});
    let error = verify(&[leaf, below.der], &root.bundles(), now()).unwrap_err();
    assert!(matches!(error, X509Error::Path { .. }), "{error}");
}

#[test]
fn x509_svid_5_1_both_authorities_hold_while_one_follows_the_other() {
    let (before, after) = (Ca::of("shop.test"), Ca::of("shop.test"));
    let both = X509Bundle::new(domain("shop.test"), [before.authority(), after.authority()]);
    let bundles = X509BundleSet::default().with(both);
    for ca in [&before, &after] {
        assert!(verify(&[ca.leaf(ORDERS, |_| {}).0], &bundles, now()).is_ok());
    }
}

#[test]
fn x509_svid_5_2_the_scheme_is_spiffe() {
    for (name, error) in [
        ("https://shop.test/orders", IdError::WrongScheme),
        ("spiffe:/shop.test/orders", IdError::WrongScheme),
        ("urn:spiffe://shop.test/orders", IdError::WrongScheme),
        ("spiffe://shop.test:80/orders", IdError::TrustDomainCharacter(':')),
        ("spiffe://shop.test/orders?a", IdError::PathCharacter('?')),
        ("spiffe://shop.test/orders/", IdError::TrailingSlash),
    ] {
        let found = read(|it| it.subject_alt_names = vec![uri(name)]);
        assert_eq!(found.unwrap_err(), X509Error::Id(error), "{name}");
    }
}

#[test]
fn x509_svid_5_2_the_bundle_is_that_of_the_peers_trust_domain() {
    let (shop, partner) = (Ca::of("shop.test"), Ca::of("partner.test"));
    let bundles = X509BundleSet::default()
        .with(shop.bundle("shop.test"))
        .with(partner.bundle("partner.test"));
    // Each signs its own.
    assert!(verify(&[shop.leaf(ORDERS, |_| {}).0], &bundles, now()).is_ok());
    assert!(verify(&[partner.leaf("spiffe://partner.test/a", |_| {}).0], &bundles, now()).is_ok());
    // Neither signs the other's, though the verifier trusts both.
    let error = verify(&[partner.leaf(ORDERS, |_| {}).0], &bundles, now()).unwrap_err();
    assert_eq!(error, X509Error::UnknownIssuer(orders()));
    // A domain that nobody federated with is not trusted, whoever signed.
    let stranger = shop.leaf("spiffe://stranger.test/a", |_| {}).0;
    let error = verify(&[stranger], &bundles, now()).unwrap_err();
    assert_eq!(error, X509Error::UnknownTrustDomain(domain("stranger.test")));
}

#[test]
fn bundle_4_1_3_an_empty_bundle_trusts_nothing() {
    let ca = Ca::of("shop.test");
    let empty = X509BundleSet::default().with(X509Bundle::new(domain("shop.test"), []));
    let error = verify(&[ca.leaf(ORDERS, |_| {}).0], &empty, now()).unwrap_err();
    assert_eq!(error, X509Error::EmptyBundle(domain("shop.test")));
}

#[test]
fn rfc_5280_4_2_each_extension_once_and_readable() {
    let twice = read(|it| it.custom_extensions.push(extension(KEY_USAGE, true, &[3, 2, 7, 0x80])));
    assert!(matches!(twice.unwrap_err(), X509Error::Extensions(_)));
    // An accessor of the parser's takes this for none.
    let unreadable = read(|it| {
        it.is_ca = IsCa::NoCa;
        it.custom_extensions
            .push(extension(BASIC_CONSTRAINTS, true, &[0x30, 9, 1]));
    });
    assert!(matches!(unreadable.unwrap_err(), X509Error::Extensions(_)));
}

#[test]
fn rfc_5280_6_1_an_unknown_critical_extension_is_refused() {
    let root = Ca::of("shop.test");
    let odd = |critical| {
        let odd = extension(&[1, 3, 6, 1, 4, 1, 99999, 1], critical, &[5, 0]);
        root.leaf(ORDERS, |it| it.custom_extensions.push(odd)).0
    };
    assert!(verify(&[odd(true)], &root.bundles(), now()).is_err());
    assert!(verify(&[odd(false)], &root.bundles(), now()).is_ok());
}

#[test]
fn workload_api_5_2_certificates_stand_one_after_the_other() {
    let root = Ca::of("shop.test");
    let below = root.below("a", |_| {});
    let (leaf, key) = below.leaf(ORDERS, |_| {});
    let svid = X509Svid::new(vec![leaf.clone(), below.der.clone()], pkcs8(&key)).unwrap();
    let der = [leaf.as_ref(), below.der.as_ref()].concat();
    assert_eq!(svid.chain_der(), der);
    let read = X509Svid::from_der(&der, svid.key_der()).unwrap();
    assert_eq!(read.chain(), svid.chain());
    let pem = format!("{}{}", svid.chain_pem(), key.serialize_pem());
    let read = X509Svid::from_pem(pem.as_bytes(), pem.as_bytes()).unwrap();
    assert_eq!(read.chain(), svid.chain());
    let mut cut = der.clone();
    cut.pop();
    assert!(matches!(
        X509Svid::from_der(&cut, svid.key_der()),
        Err(X509Error::NotACertificate(_))
    ));
    assert_eq!(
        X509Svid::from_der(&[], svid.key_der()).unwrap_err(),
        X509Error::EmptyChain
    );
    assert!(matches!(X509Svid::from_pem(b"", b""), Err(X509Error::Key(_))));
}

#[test]
fn an_svid_is_whole() {
    let ca = Ca::of("shop.test");
    let (leaf, key) = ca.leaf(ORDERS, |_| {});
    let other = KeyPair::generate().unwrap();
    let mismatch = X509Svid::new(vec![leaf.clone()], pkcs8(&other)).unwrap_err();
    assert_eq!(mismatch, X509Error::KeyMismatch);
    let mut damaged = key.serialize_der();
    damaged.truncate(20);
    assert!(matches!(X509Svid::from_der(&leaf, &damaged), Err(X509Error::Key(_))));
    let stray = ca.leaf("spiffe://shop.test/b", |_| {}).0;
    let behind = X509Svid::new(vec![leaf.clone(), stray], pkcs8(&key)).unwrap_err();
    assert_eq!(behind, X509Error::NotAnAuthority);
    let many = std::iter::repeat_n(leaf, 65).collect();
    assert_eq!(
        X509Svid::new(many, pkcs8(&key)).unwrap_err(),
        X509Error::TooManyCertificates
    );
    let trailing = CertificateDer::from([ca.der.as_ref(), &[0]].concat());
    assert_eq!(Authority::read(trailing).unwrap_err(), X509Error::TrailingBytes(1));
}

#[test]
fn a_key_is_not_shown() {
    let svid = Ca::of("shop.test").svid(ORDERS).with_hint("internal");
    let shown = format!("{svid:?}");
    assert!(shown.contains(ORDERS) && shown.contains("internal"), "{shown}");
    let key = svid.key_der();
    for window in [format!("{:?}", &key[40..44]), format!("{:?}", &key[60..64])] {
        let digits = window.trim_matches(['[', ']']).to_owned();
        assert!(!shown.contains(&digits), "{shown}");
    }
}

#[test]
fn half_of_a_life() {
    let validity = Validity {
        not_before: 1000,
        not_after: 4600,
    };
    assert_eq!((validity.seconds(), validity.half_life()), (3600, 2800));
    let backwards = Validity {
        not_before: i64::MAX,
        not_after: i64::MIN,
    };
    assert_eq!((backwards.seconds(), backwards.half_life()), (0, i64::MAX));
    assert!(!backwards.contains(now()));
}
