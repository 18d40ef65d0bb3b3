//! Whole pages, narrow and wide.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::spire::{
    explain,
    gather::World,
    model::bundle_set,
    overview,
    testing::{AGENT, NOW, TestAuthority, bundle_json, entry, id, pod_json, read, world},
};
use crate::{
    spire::{seen::Sight, svid::SvidView},
    text::width,
};

const ID: &str = "spiffe://shop.test/ns/shop/sa/orders-api";

/// A shop with a registered workload, one that is almost, and one that is not.
fn shop() -> (World, TestAuthority) {
    let mut world = world();
    let (authority, json) = bundle_json("shop.test");
    let mut bundle = crate::spire::model::own_bundle(&json).unwrap();
    // A key's identifier is another in every run.
    bundle.x509[0].key_id = "0123456789abcdef".into();
    bundle.x509[0].state = Some("active");
    bundle.x509[0].not_after = NOW + 43_200;
    world.answers.bundles = Ok(vec![bundle]);
    let mut registered = entry("demo.0e1f", &["k8s:pod-uid:orders-1-uid"]);
    registered.spiffe_id = crate::identity::SpiffeId::parse(ID).unwrap();
    registered.x509_svid_ttl = 3600;
    let mut by_hand = entry(
        "6ba7b810",
        &["k8s:ns:shop", "k8s:sa:ledgers", "k8s:pod-label:app:ledger"],
    );
    by_hand.spiffe_id = id("/ns/shop/sa/ledger");
    by_hand.dns_names = vec!["ledger.shop.svc".into()];
    by_hand.expires_at = NOW + 7200;
    world.answers.entries = Ok(vec![registered, by_hand]);
    world.pods.push(read(pod_json("ledger-1", "ledger")));
    let mut mallory = pod_json("mallory-1", "mallory");
    mallory["spec"]["volumes"] = json!([]);
    world.pods.push(read(mallory));
    world.rules = Ok(vec![read(json!({"metadata": {"name": "shop"}, "spec": {
            "spiffeIDTemplate": "spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}",
            "podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["orders", "frontend"]}]}}}))]);
    (world, authority)
}

fn seen(world: &World, authority: &TestAuthority) -> Sight {
    let from = u64::try_from(NOW - 900).unwrap();
    let der = authority.svid(ID, from, from + 3600);
    let (_, json) = bundle_json("other.test");
    let set = bundle_set(&[crate::spire::model::own_bundle(&json).unwrap()]);
    let _ = world;
    // Verified by another bundle, so that the page says so.
    let mut svid = SvidView::of(vec![der], 8080, true, Some(&set), NOW).unwrap();
    svid.belief.holds = Some(true);
    Sight {
        svids: vec![svid],
        because: "port 8081 showed no certificate".into(),
    }
}

fn fits(page: &str, columns: usize) {
    for line in page.lines() {
        // What has no space cannot be broken.
        let words = line.trim_start().split(' ').count();
        assert!(width(line) <= columns || words <= 3, "{columns}: {line}");
    }
}

#[test]
fn everything_narrow_and_wide() {
    let (world, authority) = shop();
    let pods: Vec<_> = world
        .pods
        .iter()
        .filter(|pod| pod.metadata.namespace.as_deref() == Some("shop"))
        .collect();
    let sights: BTreeMap<_, _> = [
        (("shop".to_owned(), "orders-1".to_owned()), seen(&world, &authority)),
        (
            ("shop".to_owned(), "mallory-1".to_owned()),
            Sight::nothing("it serves on no port that it or a Service names, so nobody is shown its SVID"),
        ),
    ]
    .into();
    let all = overview(&world, &pods, sights);
    for columns in [80, 200] {
        let page = super::overview(&all, columns);
        fits(&page, columns);
        insta::assert_snapshot!(format!("overview_{columns}"), page);
    }
    let entries_page = entries(world.answers.entries.as_ref().unwrap(), NOW, 80);
    insta::assert_snapshot!("entries_80", entries_page);
    insta::assert_snapshot!("bundles_80", bundles(world.answers.bundles.as_ref().unwrap(), NOW, 80));
    assert!(entries_page.contains(AGENT));
}

#[test]
fn what_was_not_looked_at_is_not_said_to_be_missing() {
    let (mut world, _) = shop();
    world
        .pods
        .retain(|pod| pod.metadata.namespace.as_deref() == Some("shop"));
    world.found = crate::spire::find(&world.pods);
    world.scope = crate::spire::Scope::Namespaces(vec!["shop".into()]);
    world.nodes_unknown = Some("the nodes are not known: you may not list them".into());
    let absence = crate::spire::absence::server(&world.found, &world.scope).unwrap();
    world.answers.health = Err(absence.says.clone());
    let page = super::overview(&overview(&world, &[], BTreeMap::new()), 200);
    assert!(page.contains(&absence.says) && page.contains(&absence.next), "{page}");
    assert!(
        page.contains("agents        not known\n") && page.contains("manager       not known\n"),
        "{page}"
    );
    assert!(page.contains("Not known: the nodes are not known"), "{page}");
}

#[test]
fn explanations_narrow_and_wide() {
    let (world, authority) = shop();
    for (name, sight) in [
        ("orders-1", seen(&world, &authority)),
        ("ledger-1", Sight::nothing("the ports 5432, 8081 showed no certificate")),
        (
            "mallory-1",
            Sight::nothing("it serves on no port that it or a Service names"),
        ),
    ] {
        let pod = world
            .pods
            .iter()
            .find(|pod| pod.metadata.name.as_deref() == Some(name))
            .unwrap();
        let explanation = explain(&world, pod, None, sight);
        for columns in [80, 200] {
            let page = super::explanation(&explanation, NOW, columns);
            fits(&page, columns);
            insta::assert_snapshot!(format!("explain_{name}_{columns}"), page);
        }
    }
}

#[test]
fn a_certificate_narrow_and_wide() {
    let (_, authority) = shop();
    let from = u64::try_from(NOW - 900).unwrap();
    let der = authority.svid(ID, from, from + 3600);
    let mut inspection = crate::identity::x509::inspect(&rustls_pki_types::CertificateDer::from(der)).unwrap();
    // What the key makes is another in every run.
    for field in &mut inspection.fields {
        if field.name.ends_with("Key Identifier") && field.value != "none" {
            "01:23:45:67".clone_into(&mut field.value);
        }
    }
    for columns in [80, 200] {
        let page = certificate(&inspection, columns);
        fits(&page, columns);
        insta::assert_snapshot!(format!("certificate_{columns}"), page);
    }
}

#[test]
fn what_others_wrote_reaches_no_terminal_as_more_than_one_line() {
    let mut page = Page::new(40);
    page.item(2, "name", 10, "a\nb\x1b[2J long enough to be broken between its words");
    assert!(!page.text.contains('\x1b'), "{:?}", page.text);
    assert_eq!(
        page.text,
        "  name    a b␛[2J long enough to be\n          broken between its words\n"
    );
}
