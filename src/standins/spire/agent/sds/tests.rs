use prost::Message;
use prost_types::{Struct, Value, value::Kind};
use tonic::Code;
use ztlab_identity::{Bundle, JwtBundle, TrustDomain, X509Bundle};

use super::{
    Names,
    exchange::Exchange,
    secrets::{NoAnswer, View},
};
use crate::{
    agent::cache::Snapshot,
    api::{
        discovery::DiscoveryRequest,
        envoy_core::{BuildVersion, Node, node::UserAgentVersionType},
        envoy_tls::{CertificateValidationContext, Secret, SpiffeCertValidatorConfig, secret::Type},
        envoy_type::SemanticVersion,
        types,
    },
    store::Selector,
};

fn bundle(name: &str) -> Bundle {
    let name = TrustDomain::new(name).unwrap();
    Bundle::new(X509Bundle::new(name.clone(), []), JwtBundle::new(name, []).unwrap()).unwrap()
}

/// What a workload with the entry `/orders` may have, which federates with two domains; nothing is signed yet.
fn view(federates_with: &[&str]) -> View {
    let mut snapshot = Snapshot {
        bundle: Some(bundle("shop.test")),
        ..Snapshot::default()
    };
    for name in ["bank.test", "post.test"] {
        snapshot.foreign.insert(TrustDomain::new(name).unwrap(), bundle(name));
    }
    snapshot.set_entries(vec![types::Entry {
        id: "e".into(),
        spiffe_id: Some(types::Spiffeid {
            trust_domain: "shop.test".into(),
            path: "/orders".into(),
        }),
        selectors: vec![types::Selector {
            r#type: "unix".into(),
            value: "uid:7".into(),
        }],
        federates_with: federates_with.iter().map(|name| (*name).to_owned()).collect(),
        ..types::Entry::default()
    }]);
    View::of(&snapshot, &[Selector::new("unix", "uid:7")].into(), 0)
}

fn names_of(asked: &[&str]) -> Vec<String> {
    asked.iter().map(|name| (*name).to_owned()).collect()
}

fn ask(asked: &[&str], node: Option<&Node>) -> Result<Vec<Secret>, NoAnswer> {
    let secrets = view(&["bank.test"]).secrets(&names_of(asked), node, &Names::default())?;
    Ok(secrets
        .iter()
        .map(|one| {
            assert_eq!(
                one.type_url,
                "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
            );
            Secret::decode(one.value.as_slice()).unwrap()
        })
        .collect())
}

fn context(secret: &Secret) -> &CertificateValidationContext {
    match &secret.r#type {
        Some(Type::ValidationContext(context)) => context,
        other => panic!("{other:?}"),
    }
}

/// The trust domains that the SPIFFE validator is told of; none if it is not to be used.
fn domains(secret: &Secret) -> Option<Vec<String>> {
    let validator = context(secret).custom_validator_config.as_ref()?;
    assert_eq!(validator.name, "envoy.tls.cert_validator.spiffe");
    let config = validator.typed_config.as_ref().unwrap();
    assert_eq!(
        config.type_url,
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
    );
    let config = SpiffeCertValidatorConfig::decode(config.value.as_slice()).unwrap();
    Some(config.trust_domains.into_iter().map(|one| one.name).collect())
}

fn refused(answer: Result<Vec<Secret>, NoAnswer>) -> (Code, String) {
    match answer {
        Err(NoAnswer::Refused(status)) => (status.code(), status.message().to_owned()),
        other => panic!("{other:?}"),
    }
}

fn envoy(major_number: u32, minor_number: u32) -> Node {
    let version = SemanticVersion {
        major_number,
        minor_number,
        patch: 0,
    };
    Node {
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
            version: Some(version),
        })),
        ..Node::default()
    }
}

fn node_that_disables(value: Kind) -> Node {
    let value = Value { kind: Some(value) };
    Node {
        metadata: Some(Struct {
            fields: [("disable_spiffe_cert_validation".to_owned(), value)].into(),
        }),
        ..Node::default()
    }
}

#[test]
fn a_bundle_has_the_names_that_spire_documents() {
    for (asked, told) in [
        ("ROOTCA", &["shop.test"][..]),
        ("spiffe://shop.test", &["shop.test"]),
        ("spiffe://bank.test", &["bank.test"]),
        ("ALL", &["bank.test", "shop.test"]),
    ] {
        let secrets = ask(&[asked], None).unwrap();
        assert_eq!(secrets.len(), 1, "{secrets:?}");
        assert_eq!(secrets[0].name, asked);
        assert_eq!(domains(&secrets[0]).unwrap(), told, "{asked}");
        assert!(context(&secrets[0]).trusted_ca.is_none());
    }
}

#[test]
fn what_the_workload_may_not_have_is_refused_by_name() {
    assert_eq!(
        refused(ask(&["ROOTCA", "spiffe://shop.test/other", "another"], None)),
        (
            Code::InvalidArgument,
            "workload is not authorized for the requested identities [\"another\" \"spiffe://shop.test/other\"]".into()
        )
    );
    // A bundle that there is, but that no entry of the workload federates with.
    assert_eq!(refused(ask(&["spiffe://post.test"], None)).0, Code::InvalidArgument);
    // Part of a name is no name.
    assert_eq!(refused(ask(&["spiffe://shop.tes"], None)).0, Code::InvalidArgument);
    // One answer has a bundle by one of its names.
    assert_eq!(refused(ask(&["ROOTCA", "ALL"], None)).0, Code::InvalidArgument);
}

#[test]
fn without_an_identity_there_is_no_certificate_and_no_other_default() {
    let mut snapshot = Snapshot {
        bundle: Some(bundle("shop.test")),
        ..Snapshot::default()
    };
    snapshot.set_entries(Vec::new());
    let view = View::of(&snapshot, &[].into(), 0);
    let asked = view.secrets(&names_of(&["default"]), None, &Names::default());
    assert!(
        matches!(&asked, Err(NoAnswer::Refused(status)) if status.code() == Code::InvalidArgument),
        "{asked:?}"
    );
    // The bundle's keys are public, and SPIRE gives them to whoever asks.
    assert_eq!(
        view.secrets(&names_of(&["ROOTCA"]), None, &Names::default())
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_certificate_that_is_not_signed_yet_is_waited_for() {
    for asked in [&["default"][..], &["spiffe://shop.test/orders"], &[]] {
        assert!(matches!(ask(asked, None), Err(NoAnswer::Pending)), "{asked:?}");
    }
}

#[test]
fn an_old_envoy_and_one_that_wants_it_so_get_plain_authorities() {
    let plain = |node: &Node| domains(&ask(&["ROOTCA"], Some(node)).unwrap()[0]).is_none();
    assert!(plain(&envoy(1, 17)) && plain(&envoy(0, 99)));
    assert!(!plain(&envoy(1, 18)) && !plain(&envoy(2, 0)) && !plain(&Node::default()));
    assert!(plain(&node_that_disables(Kind::BoolValue(true))));
    assert!(plain(&node_that_disables(Kind::StringValue("T".into()))));
    assert!(
        !plain(&node_that_disables(Kind::StringValue("yes".into()))),
        "no boolean of Go's"
    );
    assert!(!plain(&node_that_disables(Kind::NumberValue(1.0))));
    let (code, said) = refused(ask(&["ALL"], Some(&envoy(1, 17))));
    assert_eq!(code, Code::Internal);
    assert!(said.contains("SPIFFE validator"), "{said}");
}

#[test]
fn the_node_may_ask_for_the_validator_that_the_agent_does_not_give_by_itself() {
    let names = Names {
        disable_spiffe_cert_validation: true,
        ..Names::default()
    };
    let plain = |node: Option<&Node>| {
        let secrets = view(&[]).secrets(&names_of(&["ROOTCA"]), node, &names).unwrap();
        domains(&Secret::decode(secrets[0].value.as_slice()).unwrap()).is_none()
    };
    assert!(plain(None));
    assert!(!plain(Some(&node_that_disables(Kind::BoolValue(false)))));
}

#[test]
fn a_list_of_a_hundred_thousand_names_is_taken_and_refused_in_short() {
    let many: Vec<String> = (0..100_000).map(|number| format!("n{number:06}")).collect();
    let mut exchange = Exchange::default();
    exchange.changed(view(&[]));
    for _ in 0..2 {
        exchange.asked(DiscoveryRequest {
            resource_names: many.clone(),
            ..DiscoveryRequest::default()
        });
    }
    let refusal = exchange.answer(&Names::default(), "n".into()).unwrap_err();
    assert!(
        refusal.message().ends_with("\"n000015\" and 99984 more]"),
        "{}",
        refusal.message()
    );
}

fn request(asked: &[&str], version: &str, nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: version.into(),
        resource_names: names_of(asked),
        response_nonce: nonce.into(),
        type_url: "t".into(),
        ..DiscoveryRequest::default()
    }
}

/// Version and nonce of what is said next.
fn said(exchange: &mut Exchange, nonce: &str) -> Option<(String, String)> {
    let answer = exchange.answer(&Names::default(), nonce.into()).unwrap()?;
    assert_eq!(answer.type_url, "t");
    Some((answer.version_info, answer.nonce))
}

fn pair(version: &str, nonce: &str) -> Option<(String, String)> {
    Some((version.into(), nonce.into()))
}

#[test]
fn an_answer_is_accepted_in_silence_and_a_change_is_pushed() {
    let mut exchange = Exchange::default();
    exchange.changed(view(&[]));
    assert_eq!(said(&mut exchange, "n0"), None, "nobody asked yet");
    exchange.asked(request(&["ROOTCA"], "", ""));
    assert_eq!(said(&mut exchange, "n1"), pair("1", "n1"));
    exchange.asked(request(&["ROOTCA"], "1", "n1"));
    assert_eq!(said(&mut exchange, "n2"), None, "an acceptance needs no answer");
    exchange.changed(view(&[]));
    assert_eq!(said(&mut exchange, "n3"), None, "the same again is no change");
    exchange.changed(view(&["bank.test"]));
    assert_eq!(said(&mut exchange, "n4"), pair("2", "n4"));
}

#[test]
fn a_refusal_is_not_answered_by_the_same_and_an_old_nonce_by_nothing() {
    let mut exchange = Exchange::default();
    exchange.asked(request(&["ROOTCA"], "", ""));
    assert_eq!(said(&mut exchange, "n0"), None, "there is nothing to say yet");
    exchange.changed(view(&["bank.test"]));
    assert_eq!(said(&mut exchange, "n1"), pair("1", "n1"));
    let mut nack = request(&["ROOTCA"], "", "n1");
    nack.error_detail = Some(crate::api::google::rpc::Status {
        code: 3,
        message: "no".into(),
        details: Vec::new(),
    });
    exchange.asked(nack);
    assert_eq!(said(&mut exchange, "n2"), None);
    exchange.asked(request(&["ALL"], "1", "old"));
    assert_eq!(said(&mut exchange, "n3"), None, "it was said before the last answer");
    exchange.asked(request(&["ALL"], "1", "n1"));
    assert_eq!(
        said(&mut exchange, "n4"),
        pair("1", "n4"),
        "other names are answered at once"
    );
    exchange.asked(request(&["spiffe://shop.test/other"], "1", "n4"));
    assert_eq!(
        exchange.answer(&Names::default(), "n5".into()).unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[test]
fn envoy_says_once_who_it_is() {
    let mut exchange = Exchange::default();
    exchange.changed(view(&["bank.test"]));
    let mut first = request(&["ROOTCA"], "", "");
    first.node = Some(envoy(1, 17));
    exchange.asked(first);
    assert_eq!(said(&mut exchange, "n1"), pair("1", "n1"));
    exchange.asked(request(&["ALL"], "1", "n1"));
    let status = exchange.answer(&Names::default(), "n2".into()).unwrap_err();
    assert_eq!(status.code(), Code::Internal, "still the old Envoy: {status:?}");
}
