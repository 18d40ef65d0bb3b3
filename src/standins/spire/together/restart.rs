//! A server that is killed at any moment finds its state again.

use super::world::{World, context, settings};
use crate::{
    api::{
        agent::agent_client::AgentClient,
        bundle::{GetBundleRequest, bundle_client::BundleClient},
    },
    ca::{Authorities, Kind},
    clock::SharedClock,
    server::{self, Doors},
    store::{Places, Standing, Store},
    transport,
};
use std::{pin::pin, sync::Arc, time::Duration};

use futures::FutureExt;

#[tokio::test(start_paused = true)]
async fn entries_agents_and_authorities_outlive_the_process() {
    let mut world = World::with(settings(86_400, 3600)).await;
    world.entry("/orders").await;
    let _agent = world.agent().await;
    let (first, mut stream) = world.svids().await;
    let before = world.core.store.read(Clone::clone);
    world.restart(settings(86_400, 3600)).await;
    let after = world.core.store.read(Clone::clone);
    assert_eq!(before.entries, after.entries);
    assert_eq!(before.agents, after.agents);
    assert_eq!(before.x509_slots, after.x509_slots);
    // The agent finds the server again, and the next SVID is the same authority's.
    let next = stream.message().await.unwrap().unwrap();
    let issuer = |answer| {
        context(answer, world.clock.now())
            .default_svid()
            .leaf()
            .issuer()
            .to_owned()
    };
    assert_eq!(
        issuer(&next),
        context(&first, super::world::START + 1).default_svid().leaf().issuer()
    );
}

#[tokio::test(start_paused = true)]
async fn with_keys_in_memory_another_authority_signs_after_a_restart_and_the_old_one_is_trusted_still() {
    let dir = tempfile::tempdir().unwrap();
    let clock: SharedClock = Arc::new(crate::clock::TokioClock::starting_at(super::world::START));
    let open = || {
        let places = Places {
            keys: None,
            ..Places::in_directory(dir.path())
        };
        let store = Arc::new(Store::open(places).unwrap());
        let authorities = Authorities::new(Arc::clone(&store), Arc::clone(&clock), settings(86_400, 3600)).unwrap();
        (store, authorities)
    };
    let (_, first) = open();
    let old = first.standing(Kind::X509, Standing::Active).unwrap();
    let (store, second) = open();
    let new = second.standing(Kind::X509, Standing::Active).unwrap();
    assert_ne!(old.id, new.id);
    assert_eq!(second.x509().unwrap().id(), new.id);
    assert!(store.read(|state| state.bundle.x509.iter().any(|one| one.der == old.certificate)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_told_to_stop_does_not_wait_for_those_who_wait_for_it() {
    let mut world = World::with(settings(86_400, 3600)).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.port = free.local_addr().unwrap().port();
    drop(free);
    let doors = Doors {
        admin: world.dir.path().join("second.sock"),
        agents: ("127.0.0.1".into(), world.port),
    };
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let stop = async move { told.await.unwrap_or_default() }.shared();
    let core = Arc::clone(&world.core);
    let admin = doors.admin.clone();
    let serving = tokio::spawn(async move { server::serve(core, &doors, stop).await });
    let _agent = world.agent().await;
    world.entry("/orders").await;
    world.svids().await;
    // The agent waits for news. At the other door somebody begins to attest and says no more; that this has come is known by
    // the answer to what is asked after it on the same connection.
    let channel = transport::over_unix(admin.clone());
    let (mut agents, mut bundles) = (AgentClient::new(channel.clone()), BundleClient::new(channel));
    let mut attesting = pin!(agents.attest_agent(tokio_stream::pending()));
    tokio::select! {
        biased;
        ended = &mut attesting => panic!("{ended:?}"),
        answer = bundles.get_bundle(GetBundleRequest::default()) => drop(answer.unwrap()),
    }
    tell.send(()).unwrap();
    // Long before either would have its answer.
    tokio::time::timeout(Duration::from_secs(1), serving)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(!admin.exists(), "the socket of a server that ended refuses nobody");
}

#[test]
fn a_change_that_cannot_be_written_is_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("data");
    std::fs::create_dir(&inner).unwrap();
    let store = Store::open(Places::in_directory(&inner)).unwrap();
    std::fs::remove_dir(&inner).unwrap();
    let refused = store.update(|state| {
        state.bundle.sequence = 9;
        Ok(())
    });
    assert!(refused.unwrap_err().message.contains("nothing was changed"));
    assert_eq!(store.read(|state| state.bundle.sequence), 0);
}
