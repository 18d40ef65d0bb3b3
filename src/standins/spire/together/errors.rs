//! Whom the doors refuse, and with which words.

use std::sync::Arc;

use tonic::{Code, Request};

use super::world::{World, secured, settings};
use crate::{
    api::{
        agent::{ListAgentsRequest, RenewAgentRequest, agent_client::AgentClient},
        bundle::{GetBundleRequest, bundle_client::BundleClient},
        entry::entry_client::EntryClient,
        entry::*,
        workload::*,
    },
    transport::{self, Identity, Trust},
};

#[tokio::test(start_paused = true)]
async fn a_call_without_the_security_header_is_refused() {
    let world = World::with(settings(86_400, 3600)).await;
    let _agent = world.agent().await;
    world.entry("/orders").await;
    world.svids().await;
    let mut client = world.workload_api();
    let bare = client.fetch_x509svid(X509svidRequest {}).await.unwrap_err();
    assert_eq!(
        (bare.code(), bare.message()),
        (Code::InvalidArgument, "security header missing from request")
    );
    let mut wrong = Request::new(X509svidRequest {});
    wrong.metadata_mut().insert(
        "workload.spiffe.io",
        tonic::metadata::MetadataValue::from_static("True"),
    );
    assert_eq!(
        client.fetch_x509svid(wrong).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let validate = ValidateJwtsvidRequest {
        audience: "a".into(),
        svid: "b".into(),
    };
    assert_eq!(
        client.validate_jwtsvid(validate).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test(start_paused = true)]
async fn a_workload_without_an_entry_gets_no_identity() {
    let world = World::with(settings(86_400, 3600)).await;
    let _agent = world.agent().await;
    world.entry("/orders").await;
    world.svids().await;
    world.workload.0.lock().unwrap().clear();
    let mut client = world.workload_api();
    let status = world.try_svids().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, "no identity issued")
    );
    let jwt = JwtsvidRequest {
        audience: vec!["a".into()],
        spiffe_id: String::new(),
    };
    assert_eq!(
        client.fetch_jwtsvid(secured(jwt)).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let mut bundles = client
        .fetch_x509_bundles(secured(X509BundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(bundles.message().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn jwt_requests_are_checked() {
    let world = World::with(settings(86_400, 3600)).await;
    let _agent = world.agent().await;
    world.entry("/orders").await;
    world.svids().await;
    let mut client = world.workload_api();
    let mut ask = async |audience: &[&str], id: &str| {
        let audience = audience.iter().map(|one| (*one).to_owned()).collect();
        client
            .fetch_jwtsvid(secured(JwtsvidRequest {
                audience,
                spiffe_id: id.into(),
            }))
            .await
            .map(|_| ())
            .map_err(|status| status.code())
    };
    assert_eq!(ask(&[], "").await, Err(Code::InvalidArgument));
    assert_eq!(ask(&[""], "").await, Err(Code::InvalidArgument));
    assert_eq!(ask(&["a"], "no id").await, Err(Code::InvalidArgument));
    assert_eq!(
        ask(&["a"], "spiffe://shop.test/another").await,
        Err(Code::PermissionDenied)
    );
    assert_eq!(ask(&["a"], "spiffe://shop.test/orders").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_has_nothing_yet_is_unavailable() {
    let mut world = World::with(settings(86_400, 3600)).await;
    world.bundle().await;
    let bundle_taken = world.agent().await;
    // Before the agent's task runs for the first time, it has nothing.
    world.stop_server().await;
    let status = world.try_svids().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    bundle_taken.abort();
}

#[tokio::test(start_paused = true)]
async fn the_agents_door_gives_strangers_the_bundle_and_nothing_else() {
    let world = World::with(settings(86_400, 3600)).await;
    let core = Arc::clone(&world.core);
    let bundle = crate::agent::bundle_of(&world.bundle().await).unwrap();
    let trust = Trust {
        bundles: Box::new(move || {
            let mut set = ztlab_identity::X509BundleSet::default();
            set.insert(bundle.x509().clone());
            set
        }),
        only: Some(crate::server::Core::own_id(&core.trust_domain).unwrap()),
        on_first_use: false,
        clock: Arc::clone(&world.clock),
    };
    let config = transport::client_config(Arc::new(Identity::default()), trust).unwrap();
    let channel = transport::over_tls("127.0.0.1".into(), world.port, Arc::new(config));
    BundleClient::new(channel.clone())
        .get_bundle(GetBundleRequest::default())
        .await
        .unwrap();
    let mut entries = EntryClient::new(channel.clone());
    let mut agents = AgentClient::new(channel);
    let codes = [
        entries
            .list_entries(ListEntriesRequest::default())
            .await
            .unwrap_err()
            .code(),
        entries
            .batch_create_entry(BatchCreateEntryRequest::default())
            .await
            .unwrap_err()
            .code(),
        entries
            .get_authorized_entries(GetAuthorizedEntriesRequest::default())
            .await
            .unwrap_err()
            .code(),
        agents
            .list_agents(ListAgentsRequest::default())
            .await
            .unwrap_err()
            .code(),
        agents
            .renew_agent(RenewAgentRequest::default())
            .await
            .unwrap_err()
            .code(),
    ];
    assert_eq!(codes, [Code::PermissionDenied; 5]);
    // What is for agents is not for administrators either.
    let status = EntryClient::new(world.channel())
        .get_authorized_entries(GetAuthorizedEntriesRequest::default())
        .await;
    assert_eq!(status.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn an_agent_believes_the_servers_id_only() {
    let world = World::with(settings(86_400, 3600)).await;
    let bundle = crate::agent::bundle_of(&world.bundle().await).unwrap();
    let trust = |only: &str, known: bool| {
        let bundle = bundle.clone();
        Trust {
            bundles: Box::new(move || {
                let mut set = ztlab_identity::X509BundleSet::default();
                if known {
                    set.insert(bundle.x509().clone());
                }
                set
            }),
            only: Some(ztlab_identity::SpiffeId::parse(only).unwrap()),
            on_first_use: false,
            clock: Arc::clone(&world.clock),
        }
    };
    for (only, known) in [
        ("spiffe://shop.test/spire/server", false),
        ("spiffe://shop.test/orders", true),
    ] {
        let config = transport::client_config(Arc::new(Identity::default()), trust(only, known)).unwrap();
        let channel = transport::over_tls("127.0.0.1".into(), world.port, Arc::new(config));
        let status = BundleClient::new(channel)
            .get_bundle(GetBundleRequest::default())
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{only} {known}: {status:?}");
    }
}
