//! Certificates and keys.

use super::*;

#[test]
fn a_certificate_is_judged_by_what_it_says_and_belongs_to() {
    let (authority, namesake) = (ca(), ca());
    let made = |recipe: Recipe| pki::signed_by(&recipe, &authority).unwrap();
    let good = made(leaf());
    let with = |certificate: &TlsIdentity| Certificates {
        certificate: Ok(found(certificate)),
        signer: Some(Ok(found(&authority))),
        key: Some(Ok(public(certificate))),
        keys: Some(Vec::new()),
        now: now(),
    };
    let says = |name: &str, found: Certificates| says(name, &Evidence::Certificate(Box::new(found)));
    assert_eq!(says("certificate", with(&good)), PASSED);
    let missing = |why: &str| Certificates {
        certificate: Err(why.to_owned()),
        ..with(&good)
    };
    assert_eq!(
        says("certificate", missing("the file pki/b.crt is not there")),
        unclear(Finding::NoCertificate)
    );
    assert_eq!(
        says("certificate", missing("the file pki/b.crt: no PEM")),
        failed(Finding::NoCertificate)
    );
    let other = failed(Finding::OtherCertificate);
    let role = |server: bool, client: bool| Role::Leaf { server, client };
    for (recipe, expected) in [
        (
            Recipe {
                name: "c".into(),
                ..leaf()
            },
            other,
        ),
        (
            Recipe {
                names: vec!["b".into()],
                ..leaf()
            },
            other,
        ),
        (
            Recipe {
                names: Vec::new(),
                ..leaf()
            },
            other,
        ),
        (Recipe { days: 365, ..leaf() }, other),
        (
            Recipe {
                role: role(false, true),
                ..leaf()
            },
            other,
        ),
        (
            Recipe {
                role: Role::Authority {
                    flag: true,
                    path_length: None,
                },
                ..leaf()
            },
            other,
        ),
        (
            Recipe {
                expired: true,
                ..leaf()
            },
            failed(Finding::Expired),
        ),
    ] {
        let told = format!("{recipe:?}");
        assert_eq!(says("certificate", with(&made(recipe))), expected, "{told}");
    }
    // Nearly over, not begun, over.
    let end = found(&good).facts.not_after;
    for (now, expected) in [
        (end - 3600, other),
        (0, failed(Finding::Expired)),
        (end + 1, failed(Finding::Expired)),
    ] {
        assert_eq!(
            says("certificate", Certificates { now, ..with(&good) }),
            expected,
            "{now}"
        );
    }
    assert_eq!(says("ended", with(&good)), failed(Finding::Expired));
    assert_eq!(
        says(
            "ended",
            Certificates {
                now: end + 1,
                ..with(&good)
            }
        ),
        PASSED
    );
    let unsigned = Certificates {
        signer: Some(Ok(found(&namesake))),
        ..with(&good)
    };
    assert_eq!(says("certificate", unsigned), failed(Finding::NotSigned));
    let no_signer = Certificates {
        signer: Some(Err("it is not there".to_owned())),
        ..with(&good)
    };
    assert_eq!(says("certificate", no_signer), failed(Finding::NoCertificate));
    for key in [Ok(public(&namesake)), Err("is not there".to_owned())] {
        let lost = Certificates {
            key: Some(key),
            ..with(&good)
        };
        assert_eq!(says("certificate", lost), failed(Finding::OtherKey));
    }
    let exposed = Certificates {
        keys: Some(vec![KeyAt {
            at: "the key tls.key of the Secret b-tls".to_owned(),
            public: public(&good),
        }]),
        ..with(&good)
    };
    assert_eq!(says("certificate", exposed), failed(Finding::KeyExposed));
}

#[test]
fn an_authority_is_one_that_says_so() {
    let says = |identity: &TlsIdentity| {
        let found = Certificates {
            certificate: Ok(found(identity)),
            signer: None,
            key: None,
            keys: None,
            now: now(),
        };
        says("authority", &Evidence::Certificate(Box::new(found)))
    };
    let authority = ca();
    assert_eq!(says(&authority), PASSED);
    let with = |role: Role| Recipe {
        role,
        ..Recipe::leaf("shop CA")
    };
    for role in [
        Role::Authority {
            flag: false,
            path_length: None,
        },
        Role::Authority {
            flag: true,
            path_length: None,
        },
        Role::Authority {
            flag: true,
            path_length: Some(2),
        },
        Role::Leaf {
            server: true,
            client: true,
        },
    ] {
        let identity = pki::self_signed(&with(role)).unwrap();
        assert_eq!(says(&identity), failed(Finding::OtherCertificate));
    }
    let signed = pki::signed_by(
        &with(Role::Authority {
            flag: true,
            path_length: Some(0),
        }),
        &authority,
    )
    .unwrap();
    // Its issuer has the same name, and another key.
    assert_eq!(says(&signed), failed(Finding::OtherCertificate));
}
