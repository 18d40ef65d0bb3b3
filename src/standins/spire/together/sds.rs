//! Envoy's way to an SVID: a client of secret discovery, and Envoy itself where there is one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use ztlab_identity::{
    Authorizer, Live, TrustDomain, X509Bundle, X509BundleSet, X509Context, X509Svid,
    tls::{MutualTls, peer_id},
};

use super::world::{World, entry, settings};
use crate::{
    api::{
        bundle::{BatchSetFederatedBundleRequest, bundle_client::BundleClient},
        discovery::{DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse},
        envoy_core::{DataSource, data_source::Specifier},
        envoy_tls::{Secret, SpiffeCertValidatorConfig, secret::Type},
        secret::secret_discovery_service_client::SecretDiscoveryServiceClient,
        types,
    },
    transport,
};

const TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// A stream of one Envoy's.
struct Envoy {
    requests: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
    names: Vec<String>,
}

impl Envoy {
    /// Asks for `names` on a stream of its own.
    async fn asks(world: &World, names: &[&str]) -> Result<Self, Status> {
        let (requests, sent) = mpsc::channel(4);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut envoy = Self {
            requests,
            answers: client(world)
                .stream_secrets(ReceiverStream::new(sent))
                .await?
                .into_inner(),
            names,
        };
        envoy.says("", "").await;
        Ok(envoy)
    }

    async fn says(&mut self, version: &str, nonce: &str) {
        let request = DiscoveryRequest {
            version_info: version.into(),
            resource_names: self.names.clone(),
            type_url: TYPE.into(),
            response_nonce: nonce.into(),
            ..DiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    /// The next answer's secrets, which are accepted.
    async fn next(&mut self) -> Result<BTreeMap<String, Secret>, Status> {
        let answer = self.answers.message().await?.expect("the stream ended");
        self.says(&answer.version_info, &answer.nonce).await;
        Ok(secrets(&answer))
    }
}

fn client(world: &World) -> SecretDiscoveryServiceClient<tonic::transport::Channel> {
    SecretDiscoveryServiceClient::new(transport::over_unix(world.socket()))
}

fn secrets(answer: &DiscoveryResponse) -> BTreeMap<String, Secret> {
    assert_eq!(answer.type_url, TYPE);
    answer
        .resources
        .iter()
        .map(|one| {
            assert_eq!(one.type_url, TYPE);
            let secret = Secret::decode(one.value.as_slice()).unwrap();
            (secret.name.clone(), secret)
        })
        .collect()
}

fn inline(data: Option<&DataSource>) -> &[u8] {
    match data.and_then(|data| data.specifier.as_ref()) {
        Some(Specifier::InlineBytes(bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}

fn svid(secret: &Secret) -> X509Svid {
    match &secret.r#type {
        Some(Type::TlsCertificate(one)) => {
            X509Svid::from_pem(inline(one.certificate_chain.as_ref()), inline(one.private_key.as_ref())).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// The bundles that the SPIFFE validator is told of.
fn bundles(secret: &Secret) -> X509BundleSet {
    let Some(Type::ValidationContext(context)) = &secret.r#type else {
        panic!("{secret:?}")
    };
    let config = context
        .custom_validator_config
        .as_ref()
        .unwrap()
        .typed_config
        .as_ref()
        .unwrap();
    let mut set = X509BundleSet::default();
    for one in SpiffeCertValidatorConfig::decode(config.value.as_slice())
        .unwrap()
        .trust_domains
    {
        let name = TrustDomain::new(&one.name).unwrap();
        set.insert(X509Bundle::from_pem(name, inline(one.trust_bundle.as_ref())).unwrap());
    }
    set
}

/// The secrets under `names`, from the first answer that has them: until there is one, it is asked again as Envoy does.
async fn until_given(world: &World, names: &[&str]) -> (BTreeMap<String, Secret>, Envoy) {
    loop {
        let refused = match Envoy::asks(world, names).await {
            Ok(mut envoy) => match envoy.next().await {
                Ok(secrets) => return (secrets, envoy),
                Err(status) => status,
            },
            Err(status) => status,
        };
        assert!(
            matches!(refused.code(), Code::Unavailable | Code::InvalidArgument),
            "{refused:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_secret_discovery_gives_is_good_for_mutual_tls() {
    let world = World::now(settings(86_400, 3600)).await;
    let _agent = world.agent().await;
    world.entry("/orders").await;
    let (given, _envoy) = until_given(&world, &["spiffe://shop.test/orders", "spiffe://shop.test"]).await;
    assert_eq!(given.len(), 2, "{:?}", given.keys());
    let context = X509Context::new(
        vec![svid(&given["spiffe://shop.test/orders"])],
        bundles(&given["spiffe://shop.test"]),
    )
    .unwrap();
    let source = Arc::new(Live::new(Some(context)));
    let rule = "spiffe://shop.test/orders".parse().unwrap();
    let tls = MutualTls::new(source, Authorizer::deny_all().allow(rule));
    let (near, far) = tokio::io::duplex(16 * 1024);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls.server().unwrap()));
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls.client().unwrap()));
    let (accepted, connected) = tokio::join!(
        acceptor.accept(far),
        connector.connect("orders".try_into().unwrap(), near)
    );
    let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
    for chain in [
        accepted.get_ref().1.peer_certificates(),
        connected.get_ref().1.peer_certificates(),
    ] {
        assert_eq!(peer_id(chain).unwrap().to_string(), "spiffe://shop.test/orders");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_is_pushed_on_the_open_stream() {
    let world = World::with(settings(86_400, 3600)).await;
    let _agent = world.agent().await;
    world.entry("/orders").await;
    let (given, mut envoy) = until_given(&world, &["default"]).await;
    let mut before = svid(&given["default"]);
    for _ in 0..3 {
        let after = svid(&envoy.next().await.unwrap()["default"]);
        assert_ne!(before.key_der(), after.key_der());
        assert!(
            world.clock.now() < before.validity().not_after,
            "before the old one ended"
        );
        before = after;
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_gone_ends_the_stream_and_what_others_may_have_is_refused() {
    let world = World::with(settings(86_400, 3600)).await;
    let _agent = world.agent().await;
    let id = world.entry("/orders").await;
    let (_, mut envoy) = until_given(&world, &["default"]).await;
    let mut greedy = Envoy::asks(&world, &["spiffe://shop.test/payments"]).await.unwrap();
    let status = greedy.next().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::InvalidArgument,
            "workload is not authorized for the requested identities [\"spiffe://shop.test/payments\"]"
        )
    );
    world.delete(id).await;
    let status = envoy.next().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::InvalidArgument,
            "workload is not authorized for the requested identities [\"default\"]"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn one_call_gives_what_there_is_and_the_incremental_variant_is_not_served() {
    let world = World::with(settings(86_400, 3600)).await;
    let _agent = world.agent().await;
    let bank = X509Bundle::from_der(
        TrustDomain::new("bank.test").unwrap(),
        &world.bundle().await.x509_authorities[0].asn1,
    );
    let bank = types::Bundle {
        trust_domain: "bank.test".into(),
        x509_authorities: bank
            .unwrap()
            .authorities()
            .iter()
            .map(|one| types::X509Certificate {
                asn1: one.der().to_vec(),
                tainted: false,
            })
            .collect(),
        ..types::Bundle::default()
    };
    BundleClient::new(world.channel())
        .batch_set_federated_bundle(BatchSetFederatedBundleRequest {
            bundle: vec![bank],
            output_mask: None,
        })
        .await
        .unwrap();
    world
        .entry_of(types::Entry {
            federates_with: vec!["bank.test".into()],
            ..entry("/orders")
        })
        .await;
    until_given(&world, &["default"]).await;
    let fetch = async |names: &[&str]| {
        let request = DiscoveryRequest {
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            type_url: TYPE.into(),
            ..DiscoveryRequest::default()
        };
        client(&world)
            .fetch_secrets(request)
            .await
            .map(tonic::Response::into_inner)
    };
    let all = fetch(&[]).await.unwrap();
    assert!(all.nonce.is_empty() && all.version_info.is_empty());
    let names: Vec<String> = secrets(&all).into_keys().collect();
    assert_eq!(
        names,
        ["spiffe://bank.test", "spiffe://shop.test", "spiffe://shop.test/orders"]
    );
    let trusted = bundles(&secrets(&fetch(&["ALL"]).await.unwrap())["ALL"]);
    assert_eq!(trusted.iter().count(), 2, "each for its own domain");
    world.workload.0.lock().unwrap().clear();
    assert_eq!(fetch(&["default"]).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(
        secrets(&fetch(&["ROOTCA"]).await.unwrap()).len(),
        1,
        "the keys are public"
    );
    let delta = client(&world)
        .delta_secrets(tokio_stream::once(DeltaDiscoveryRequest {}))
        .await;
    assert_eq!(delta.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_has_nothing_yet_says_try_again() {
    let mut world = World::with(settings(86_400, 3600)).await;
    let agent = world.agent().await;
    // Before the agent's task runs for the first time, it has nothing.
    world.stop_server().await;
    let status = Envoy::asks(&world, &["default"]).await.err().unwrap();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    agent.abort();
}
