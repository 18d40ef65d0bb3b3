//! The crate `spiffe` as a workload of the agent.

use spiffe::{
    BundleSource, JwtSource, TrustDomain, WorkloadApiClient, X509Source, workload_api::error::WorkloadApiError,
};
use tokio::time::timeout;

use super::{
    peers::PATIENCE,
    world::{World, settings},
};

const ORDERS: &str = "spiffe://shop.test/orders";

/// The world with one workload, by the system's own time; the workload's entry, and the address of its agent.
async fn world() -> (World, String, String) {
    let world = World::now(settings(86_400, 3600)).await;
    tokio::spawn(world.agent().await);
    let entry = world.entry("/orders").await;
    world.svids().await;
    let address = format!("unix://{}", world.socket().display());
    (world, entry, address)
}

#[tokio::test]
async fn its_source_follows_a_rotation_and_gives_up_an_identity_that_is_taken_away() {
    let (world, entry, address) = world().await;
    let source = X509Source::builder().endpoint(&address).build().await.unwrap();
    let first = source.svid().unwrap();
    assert_eq!(first.spiffe_id().to_string(), ORDERS);
    let domain = TrustDomain::new("shop.test").unwrap();
    let bundle = source.bundle_for_trust_domain(&domain).unwrap().unwrap();
    assert_eq!(bundle.authorities().len(), 1);
    let mut updates = source.updated();
    world.changed(&entry, "orders.shop").await;
    let next = timeout(PATIENCE, async {
        loop {
            let next = source.svid().unwrap();
            if next.cert_chain() != first.cert_chain() {
                return next;
            }
            updates.changed().await.unwrap();
        }
    });
    assert_eq!(next.await.unwrap().spiffe_id().to_string(), ORDERS);
    world.delete(entry).await;
    let gone = timeout(PATIENCE, async {
        while source.try_svid().is_some() {
            updates.changed().await.unwrap();
        }
    });
    gone.await.expect("it keeps what was taken away");
}

#[tokio::test]
async fn its_tokens_are_of_a_key_in_the_bundle_and_the_agent_believes_them() {
    let (_world, _, address) = world().await;
    let source = JwtSource::builder().endpoint(&address).build().await.unwrap();
    let token = source.fetch_jwt_svid(&["payments"]).await.unwrap();
    assert_eq!(token.spiffe_id().to_string(), ORDERS);
    assert_eq!(token.audience(), ["payments"]);
    let domain = TrustDomain::new("shop.test").unwrap();
    let bundle = source.bundle_for_trust_domain(&domain).unwrap().unwrap();
    assert!(
        bundle.find_jwt_authority(token.key_id()).is_some(),
        "the key of the token"
    );
    let client = WorkloadApiClient::connect_to(&address).await.unwrap();
    let valid = client.validate_jwt_token("payments", token.token()).await.unwrap();
    assert_eq!(valid.spiffe_id().to_string(), ORDERS);
    assert!(client.validate_jwt_token("ledger", token.token()).await.is_err());
}

#[tokio::test]
async fn it_is_told_that_there_is_no_identity() {
    let (world, entry, address) = world().await;
    world.delete(entry).await;
    while world.try_svids().await.is_ok() {
        tokio::task::yield_now().await;
    }
    let client = WorkloadApiClient::connect_to(&address).await.unwrap();
    let refused = client.fetch_x509_svid().await.unwrap_err();
    assert!(matches!(refused, WorkloadApiError::NoIdentityIssued), "{refused:?}");
}
