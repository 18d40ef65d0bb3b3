//! Every lab that ships is proven by machine: untouched 0, wrong attempts fail what they name, solved full, reset 0.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Home, embedded_works, ordinary_user};

/// The whole proof, through the program as an instructor runs it.
fn verify(home: &Home) {
    let output = home.ztlab(&["lab", "verify", "wiretap", "--json"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "`ztlab lab verify wiretap` did not prove the lab:\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(value.is_object(), "not an object: {text}");
}

#[test]
fn wiretap_is_proven() {
    if embedded_works() {
        verify(&Home::new("verify"));
    }
}

#[test]
fn wiretap_is_proven_for_an_ordinary_user() {
    if embedded_works()
        && let Some(user) = ordinary_user()
    {
        verify(&Home::for_user("verify-user", user));
    }
}
