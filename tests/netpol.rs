//! NetworkPolicy by real connections in an embedded cluster: what an evaluator of the specification expects is what programs in
//! pods meet. As whoever runs the tests, and where that is root, as an ordinary user too.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "netpol/book.rs"]
mod book;
#[path = "netpol/cases.rs"]
mod cases;
#[path = "netpol/changes.rs"]
mod changes;
#[path = "netpol/evaluator.rs"]
mod evaluator;
#[path = "netpol/hammer.rs"]
mod hammer;
#[path = "netpol/handover.rs"]
mod handover;
#[path = "netpol/lab.rs"]
mod lab;
#[path = "netpol/model.rs"]
mod model;
#[path = "common/nft.rs"]
mod nft;
#[path = "netpol/rules.rs"]
mod rules;
#[path = "netpol/stress.rs"]
mod stress;
#[path = "netpol/traffic.rs"]
mod traffic;

use std::time::Instant;

use cases::{CASES, Case};
use lab::{LIMIT, Lab, Matrix, expected};

/// A user that no machine has.
const ORDINARY: u32 = 61_477;

/// Applies a case's policies and waits until what is measured is what is expected.
async fn holds(lab: &Lab, (what, policies, open): &Case) {
    for (number, text) in policies.iter().enumerate() {
        lab.policy(&format!("policy-{number}"), text).await;
    }
    let objects = lab.objects().await;
    assert_eq!(objects.pods.len(), 9);
    let expected = expected(&objects);
    assert_eq!(
        expected.values().filter(|open| **open).count(),
        *open,
        "{what}: by the book"
    );
    let end = Instant::now() + LIMIT;
    loop {
        let measured = lab.measured(&objects).await;
        if measured == expected {
            break;
        }
        assert!(
            Instant::now() < end,
            "{what}:\n{}\n{}",
            difference(&expected, &measured),
            lab.log()
        );
    }
    lab.delete_policies().await;
}

fn difference(expected: &Matrix, measured: &Matrix) -> String {
    let wrong = expected.iter().filter(|(key, open)| measured.get(*key) != Some(*open));
    let lines: Vec<String> = wrong
        .map(|((from, to, protocol, port), open)| {
            let should = if *open { "should be open" } else { "should be closed" };
            format!("{from} to {to} {protocol} {port} {should}")
        })
        .collect();
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_pods_under_many_policies() {
    let Some(lab) = Lab::create(None).await else { return };
    for case in CASES {
        let began = Instant::now();
        holds(&lab, case).await;
        eprintln!("{:>5} ms  {}", began.elapsed().as_millis(), case.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_pods_as_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Some(lab) = Lab::create(Some(ORDINARY)).await else {
        return;
    };
    for case in CASES.iter().step_by(6) {
        holds(&lab, case).await;
    }
}

#[test]
fn the_table_has_no_case_twice() {
    let mut seen = std::collections::BTreeSet::new();
    for (what, policies, _) in CASES {
        assert!(seen.insert(*what), "{what} twice");
        assert!(
            policies.is_empty() || seen.insert(policies.concat().leak()),
            "{what}: the same policies again"
        );
    }
}
