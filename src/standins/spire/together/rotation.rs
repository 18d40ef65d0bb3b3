//! SVIDs and authorities are replaced before they end, without a gap.

use std::{collections::BTreeSet, time::Duration};

use super::world::{World, context, entry, secured, settings};
use crate::{
    api::{
        agent::{GetAgentRequest, agent_client::AgentClient},
        workload::*,
    },
    ca::Kind,
    store::Standing,
    transport,
    workload::{Address, WorkloadSource},
};

#[tokio::test(start_paused = true)]
async fn an_svid_is_replaced_at_half_its_life_give_or_take_a_tenth() {
    let world = World::with(settings(86_400, 3600)).await;
    world.entry("/orders").await;
    let _agent = world.agent().await;
    let (first, mut stream) = world.svids().await;
    let mut before = context(&first, world.clock.now());
    assert_eq!(before.default_svid().id().to_string(), "spiffe://shop.test/orders");
    for _ in 0..3 {
        let next = stream.message().await.unwrap().unwrap();
        let now = world.clock.now();
        let after = context(&next, now);
        let (old, new) = (before.default_svid(), after.default_svid());
        assert_ne!(old.key_der(), new.key_der(), "each SVID has a key of its own");
        // Ten seconds more than was asked for, since it is dated back by ten.
        let (age, life) = (now - old.validity().not_before, old.validity().seconds());
        assert_eq!(life, 3610);
        assert!((1624..=1986 + 1).contains(&age), "replaced at an age of {age} s");
        before = after;
    }
}

#[tokio::test(start_paused = true)]
async fn half_of_a_short_life_is_over_soon_after_it_began_ten_seconds_ago() {
    let world = World::with(settings(86_400, 20)).await;
    world.entry("/orders").await;
    let _agent = world.agent().await;
    let (_, mut stream) = world.svids().await;
    let mut before = world.clock.now();
    for _ in 0..3 {
        stream.message().await.unwrap().unwrap();
        let now = world.clock.now();
        // 5 s, and a tenth of the 15 that half a life is; the clock and the timers of a test round a second each.
        assert!((3..=8).contains(&(now - before)), "after {} s", now - before);
        before = now;
    }
}

#[tokio::test(start_paused = true)]
async fn authorities_rotate_and_no_svid_is_ever_without_a_valid_one() {
    let world = World::with(settings(600, 60)).await;
    world.entry("/orders").await;
    let _agent = world.agent().await;
    let (mut answer, mut stream) = world.svids().await;
    let mut authorities = BTreeSet::new();
    let end = world.clock.now() + 3 * 600;
    while world.clock.now() < end {
        // Verifies the SVID against the bundle that came with it, at this very time.
        let read = context(&answer, world.clock.now());
        authorities.insert(read.default_svid().leaf().issuer().to_owned());
        answer = stream.message().await.unwrap().unwrap();
        let expires = read.default_svid().validity().not_after;
        assert!(world.clock.now() < expires, "the next came before this one ended");
    }
    assert!(authorities.len() >= 4, "{authorities:?}");
    let bundle = world.bundle().await;
    assert!(
        bundle.x509_authorities.len() <= 4,
        "{} authorities are kept",
        bundle.x509_authorities.len()
    );
}

#[tokio::test(start_paused = true)]
async fn an_authority_is_published_long_before_it_signs() {
    let world = World::with(settings(600, 60)).await;
    tokio::time::sleep(Duration::from_secs(330)).await;
    let prepared = world
        .core
        .authorities
        .standing(Kind::X509, Standing::Prepared)
        .expect("prepared at half the life");
    let active = world.core.authorities.standing(Kind::X509, Standing::Active).unwrap();
    let bundle = world.bundle().await;
    assert!(
        bundle
            .x509_authorities
            .iter()
            .any(|one| one.asn1 == prepared.certificate)
    );
    assert_eq!(world.core.authorities.x509().unwrap().id(), active.id);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(
        world.core.authorities.x509().unwrap().id(),
        prepared.id,
        "active with a sixth left"
    );
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_seen_at_once_and_one_that_is_gone_is_redacted() {
    let world = World::with(settings(86_400, 3600)).await;
    let _agent = world.agent().await;
    let first = world.entry("/orders").await;
    let (answer, mut stream) = world.svids().await;
    assert_eq!(answer.svids.len(), 1);
    // Which is older is told by the second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = tokio::time::Instant::now();
    let second = world.entry("/second").await;
    let answer = stream.message().await.unwrap().unwrap();
    assert_eq!(answer.svids.len(), 2);
    assert_eq!(
        answer.svids[0].spiffe_id, "spiffe://shop.test/orders",
        "the older one stays the default"
    );
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "no polling interval passed: {:?}",
        before.elapsed()
    );
    world.delete(second).await;
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 1);
    world.delete(first).await;
    let status = stream.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::PermissionDenied, "no identity issued")
    );
}

#[tokio::test(start_paused = true)]
async fn an_svid_of_a_tainted_authority_is_replaced_at_once() {
    let world = World::with(settings(86_400, 3600)).await;
    world.entry("/orders").await;
    let _agent = world.agent().await;
    let (answer, mut stream) = world.svids().await;
    let old = context(&answer, world.clock.now())
        .default_svid()
        .leaf()
        .issuer()
        .to_owned();
    let authorities = &world.core.authorities;
    let suspect = authorities.standing(Kind::X509, Standing::Active).unwrap();
    let next = authorities.prepare(Kind::X509).unwrap();
    assert!(
        authorities.taint(Kind::X509, &suspect.id).is_err(),
        "one that signs cannot be tainted"
    );
    authorities.activate(Kind::X509, &next.id).unwrap();
    authorities.taint(Kind::X509, &suspect.id).unwrap();
    let before = world.clock.now();
    let new = loop {
        let answer = stream.message().await.unwrap().unwrap();
        let issuer = context(&answer, world.clock.now())
            .default_svid()
            .leaf()
            .issuer()
            .to_owned();
        if issuer != old {
            break answer;
        }
    };
    assert!(world.clock.now() - before <= 30, "long before half its life");
    assert!(
        authorities.revoke(Kind::X509, &next.id).is_err(),
        "one that signs cannot be revoked"
    );
    authorities.revoke(Kind::X509, &suspect.id).unwrap();
    let last = stream.message().await.unwrap().unwrap();
    context(&last, world.clock.now());
    assert!(
        last.svids[0].bundle.len() < new.svids[0].bundle.len(),
        "the revoked authority is gone from the bundle"
    );
}

#[tokio::test(start_paused = true)]
async fn the_agents_own_svid_is_renewed_and_the_old_one_ends_with_the_first_call() {
    let world = World::with(settings(86_400, 600)).await;
    let _agent = world.agent().await;
    world.entry("/orders").await;
    let (_, _stream) = world.svids().await;
    let id = crate::api::types::Spiffeid {
        trust_domain: "shop.test".into(),
        path: "/spire/agent/join_token/t".into(),
    };
    let serial = || async {
        let request = GetAgentRequest {
            id: Some(id.clone()),
            output_mask: None,
        };
        AgentClient::new(world.channel())
            .get_agent(request)
            .await
            .unwrap()
            .into_inner()
            .x509svid_serial_number
    };
    let first = serial().await;
    tokio::time::sleep(Duration::from_secs(900)).await;
    let later = serial().await;
    assert_ne!(first, later);
    assert!(world.try_svids().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_a_server_svids_are_served_until_they_end_and_again_when_it_is_back() {
    let mut world = World::with(settings(86_400, 600)).await;
    world.entry("/orders").await;
    let _agent = world.agent().await;
    let (_, mut stream) = world.svids().await;
    world.stop_server().await;
    tokio::time::sleep(Duration::from_secs(500)).await;
    assert!(world.try_svids().await.is_ok(), "the cached one is good still");
    tokio::time::sleep(Duration::from_secs(200)).await;
    let status = world.try_svids().await.unwrap_err();
    assert_eq!(
        status.code(),
        tonic::Code::Unavailable,
        "one that ended is not handed out: {status:?}"
    );
    drop(stream.message());
    // A join token is good once: this agent cannot come back, and says so by ending.
    world.restart(settings(86_400, 600)).await;
    let ended = _agent.await.unwrap();
    assert!(ended.is_err(), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn jwt_svids_are_issued_kept_and_validated() {
    let world = World::with(settings(86_400, 3600)).await;
    world.entry("/orders").await;
    let _agent = world.agent().await;
    world.svids().await;
    let mut client = world.workload_api();
    let request = || {
        secured(JwtsvidRequest {
            audience: vec!["payments".into()],
            spiffe_id: String::new(),
        })
    };
    let first = client
        .fetch_jwtsvid(request())
        .await
        .unwrap()
        .into_inner()
        .svids
        .remove(0);
    let again = client
        .fetch_jwtsvid(request())
        .await
        .unwrap()
        .into_inner()
        .svids
        .remove(0);
    assert_eq!(first.svid, again.svid, "kept");
    let validate = |audience: &str| {
        secured(ValidateJwtsvidRequest {
            audience: audience.into(),
            svid: first.svid.clone(),
        })
    };
    let valid = client
        .validate_jwtsvid(validate("payments"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(valid.spiffe_id, "spiffe://shop.test/orders");
    assert!(valid.claims.unwrap().fields.contains_key("exp"));
    let replayed = client.validate_jwtsvid(validate("ledger")).await.unwrap_err();
    assert_eq!(replayed.code(), tonic::Code::InvalidArgument, "for another audience");
    tokio::time::sleep(Duration::from_secs(1000)).await;
    let later = client
        .fetch_jwtsvid(request())
        .await
        .unwrap()
        .into_inner()
        .svids
        .remove(0);
    assert_ne!(first.svid, later.svid, "another after half its life");
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert!(client.validate_jwtsvid(validate("payments")).await.is_err(), "it ended");
    let mut bundles = client
        .fetch_jwt_bundles(secured(JwtBundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    let bundles = bundles.message().await.unwrap().unwrap().bundles;
    let keys = String::from_utf8(bundles["spiffe://shop.test"].clone()).unwrap();
    assert!(keys.contains("\"keys\"") && keys.contains("\"kid\""), "{keys}");
}

#[tokio::test]
async fn the_shops_client_follows_this_agent() {
    let world = World::with(settings(86_400, 3600)).await;
    let _agent = world.agent().await;
    world.entry("/orders").await;
    let address: Address = format!("unix:{}", world.socket().display()).parse().unwrap();
    let source = WorkloadSource::start(address);
    let context = source.ready().await.unwrap();
    assert_eq!(context.default_svid().id().to_string(), "spiffe://shop.test/orders");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_banned_ends_and_does_not_come_back() {
    let world = World::with(settings(86_400, 3600)).await;
    let agent = world.agent().await;
    world.entry_of(entry("/orders")).await;
    world.svids().await;
    let id = Some(crate::api::types::Spiffeid {
        trust_domain: "shop.test".into(),
        path: "/spire/agent/join_token/t".into(),
    });
    AgentClient::new(transport::over_unix(world.admin()))
        .ban_agent(crate::api::agent::BanAgentRequest { id })
        .await
        .unwrap();
    let ended = agent.await.unwrap().unwrap_err().to_string();
    assert!(ended.contains("banned"), "{ended}");
}
