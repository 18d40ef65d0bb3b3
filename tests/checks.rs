//! Every kind of check and of action in a real cluster: a lab made of them is proven as the labs that ship are. Untouched
//! none of it is true, each wrong attempt fails the check it names and no other, and what passes it passes it.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Home, embedded_works, ordinary_user};
use serde_json::Value;

/// Nearly all of its steps need nothing of each other, so that each is tried by itself.
const KINDS: (&str, &str) = ("kinds", include_str!("checks/lab.yaml"));
/// The checks of TLS, against the shop with mutual TLS.
const TLS: (&str, &str) = ("kinds-tls", include_str!("checks/tls.yaml"));
/// How a capture judges conversations.
const WIRE: (&str, &str) = ("kinds-wire", include_str!("checks/wire.yaml"));

fn prove(home: &Home, (id, lab): (&str, &str)) {
    let dir = home.path().join("labs").join(id);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("lab.yaml"), lab).unwrap();
    if id == KINDS.0 {
        fs::write(dir.join("deny.yaml"), include_str!("checks/deny.yaml")).unwrap();
    }
    let output = home.ztlab(&["lab", "verify", id, "--json"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let value: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}\n{error}"));
    let proof = match value.get("proofs") {
        Some(proofs) => proofs[0].clone(),
        None => value,
    };
    let wrong: Vec<&Value> = proof["lines"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["ok"] != true)
        .collect();
    assert!(wrong.is_empty() && output.status.success(), "{wrong:#?}\n{error}");
}

#[test]
fn every_kind_of_check_passes_and_fails_as_it_should() {
    if embedded_works() {
        prove(&Home::new("kinds"), KINDS);
    }
}

#[test]
fn every_check_of_tls_passes_and_fails_as_it_should() {
    if embedded_works() {
        prove(&Home::new("kinds-tls"), TLS);
    }
}

#[test]
fn conversations_are_judged_as_they_are() {
    if embedded_works() {
        prove(&Home::new("kinds-wire"), WIRE);
    }
}

#[test]
fn every_kind_of_check_works_for_an_ordinary_user() {
    if embedded_works()
        && let Some(user) = ordinary_user()
    {
        prove(&Home::for_user("kinds-user", user), KINDS);
    }
}
