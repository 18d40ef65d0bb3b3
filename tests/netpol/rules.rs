//! The kernel's rules for a table of policies, as nft shows them.
//!
//! Each case is a manifest and what `nft list table ip ztlab-policy` shows in the node's network namespace while it is applied:
//! `rules/NAME.yaml` and `rules/NAME.nft`. With `ZTLAB_BLESS=1` the second are written anew.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, api::PostParams};
use serde_json::json;

use crate::{
    lab::{IMAGE, LIMIT, Lab},
    nft,
};

const CASES: [&str; 8] = ["open", "closed", "and", "or", "ports", "block", "egress", "union"];

/// Pods in the order in which they get their addresses, from 10.244.0.2 on.
const PODS: [(&str, &str, u16, &str); 4] = [
    ("shop", "db", 5432, "postgres"),
    ("shop", "api", 8080, "http"),
    ("shop", "web", 80, "http"),
    ("monitoring", "prometheus", 9090, "http"),
];

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/netpol/rules", name]
        .iter()
        .collect()
}

/// The policies of a manifest.
fn policies(name: &str) -> Vec<NetworkPolicy> {
    let text = std::fs::read_to_string(file(&format!("{name}.yaml"))).unwrap();
    let documents = text.split("---\n").filter(|text| text.contains("kind:"));
    documents
        .map(|text| serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}")))
        .collect()
}

async fn apply(lab: &Lab, policies: &[NetworkPolicy]) {
    for policy in policies {
        let namespace = policy.metadata.namespace.as_deref().unwrap();
        let api: Api<NetworkPolicy> = Api::namespaced(lab.client.clone(), namespace);
        api.create(&PostParams::default(), policy).await.unwrap();
    }
}

/// Waits until nft shows what is expected.
async fn shows(lab: &Lab, what: &str, expected: &str) {
    let end = Instant::now() + LIMIT;
    loop {
        let shown = lab.rules();
        if shown == expected {
            return;
        }
        if Instant::now() > end {
            assert_eq!(shown, expected, "{what}:\n{shown}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_as_nft_shows_them() {
    if !nft::there() {
        return;
    }
    let Some(lab) = Lab::empty(None).await else { return };
    for namespace in ["shop", "monitoring"] {
        lab.namespace(namespace).await;
    }
    for (namespace, name, port, called) in PODS {
        let ports = json!([{"name": called, "containerPort": port}]);
        let containers = json!([{"name": "c", "image": IMAGE, "ports": ports}]);
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": containers});
        lab.pod(namespace, name, json!({"app": name}), spec).await;
        lab.ready(namespace, name).await;
    }
    let bless = std::env::var_os("ZTLAB_BLESS").is_some();
    let golden = |name: &str| file(&format!("{name}.nft"));
    for name in CASES {
        apply(&lab, &policies(name)).await;
        if bless {
            tokio::time::sleep(Duration::from_secs(2)).await;
            std::fs::write(golden(name), lab.rules()).unwrap();
        }
        shows(&lab, name, &std::fs::read_to_string(golden(name)).unwrap()).await;
        lab.delete_policies().await;
        // what is there for no policy goes with the last one
        shows(&lab, "afterwards", &std::fs::read_to_string(golden("open")).unwrap()).await;
    }
}

#[test]
fn every_manifest_has_its_golden_and_differs_from_the_others() {
    let mut seen = std::collections::BTreeSet::new();
    for name in CASES {
        let golden = std::fs::read_to_string(file(&format!("{name}.nft"))).unwrap();
        assert!(seen.insert(golden), "{name} is as another");
    }
    let there = std::fs::read_dir(file("")).unwrap().count();
    assert_eq!(there, 2 * CASES.len(), "a file that belongs to no case");
}
