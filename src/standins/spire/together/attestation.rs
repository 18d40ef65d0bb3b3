//! Agents that prove their node again and again, and one that believes the first server.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tonic::Code;
use ztlab_identity::SpiffeId;

use super::world::{World, settings};
use crate::{
    config::NodeProof,
    refusal::Refusal,
    server::attestation::{Attested, Attestors, NodeAttestor},
};

/// Takes one token, and counts.
struct OneToken {
    token: &'static str,
    taken: Arc<AtomicU32>,
}

#[async_trait::async_trait]
impl NodeAttestor for OneToken {
    async fn attest(&self, payload: &[u8]) -> Result<Attested, Refusal> {
        let payload: serde_json::Value = serde_json::from_slice(payload).unwrap();
        assert_eq!(payload["cluster"], "demo");
        if payload["token"] != self.token {
            return Err(Refusal::new(Code::PermissionDenied, "token not authenticated"));
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        let id = SpiffeId::parse("spiffe://shop.test/spire/agent/join_token/t").unwrap();
        Ok(Attested {
            id,
            selectors: BTreeSet::new(),
            can_reattest: true,
        })
    }
}

async fn world(taken: &Arc<AtomicU32>) -> World {
    let attestor = OneToken {
        token: "token-of-the-pod",
        taken: Arc::clone(taken),
    };
    let attestors = Attestors::from([("k8s_psat".to_owned(), Box::new(attestor) as Box<dyn NodeAttestor>)]);
    World::with_attestors(settings(86_400, 600), attestors).await
}

fn proof(world: &World, token: &str) -> NodeProof {
    let path = world.dir.path().join("token");
    std::fs::write(&path, token).unwrap();
    NodeProof::K8sPsat {
        cluster: "demo".into(),
        token: path,
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_attests_again_at_half_the_life_of_its_svid() {
    let taken = Arc::default();
    let world = world(&taken).await;
    world.entry("/orders").await;
    let _agent = world.agent_with(proof(&world, "token-of-the-pod\n")).await;
    let (_, mut stream) = world.svids().await;
    assert_eq!(taken.load(Ordering::Relaxed), 1);
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert!(
        taken.load(Ordering::Relaxed) >= 2,
        "attested {} times",
        taken.load(Ordering::Relaxed)
    );
    assert!(
        stream.message().await.unwrap().is_some(),
        "its workloads noticed nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_token_is_not_taken_ends_and_says_why() {
    let world = world(&Arc::default()).await;
    let agent = world.agent_with(proof(&world, "stolen")).await;
    let ended = agent.await.unwrap().unwrap_err().to_string();
    assert!(ended.contains("token not authenticated"), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn with_insecure_bootstrap_the_first_server_is_believed() {
    let world = world(&Arc::default()).await;
    world.entry("/orders").await;
    let _agent = world.agent_that_begins(proof(&world, "token-of-the-pod"), true).await;
    let (answer, _) = world.svids().await;
    super::world::context(&answer, world.clock.now());
}
