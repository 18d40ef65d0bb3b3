//! The payments shop: frontend → orders-api → payments-api → ledger.
//!
//! Naive on purpose: shared secrets, no encryption unless it is told to, a connection per request. What it must not be is untrue: every
//! payment that an answer speaks of was written to the ledger.

pub mod database;
pub mod frontend;
pub mod ledger;
pub mod orders_api;
pub mod payments_api;

#[cfg(test)]
mod tests;
#[cfg(all(test, target_os = "linux"))]
mod tests_svid;
#[cfg(test)]
mod tests_tls;

use std::time::Duration;

use super::http::client::Answer;

/// Stands in every message that carries what looks like a secret.
pub const MADE_UP: &str = "made-up data of a ztlab lab";

/// The port of the shop's HTTP services.
pub const PORT: u16 = 8080;

/// The ALPN names of what the shop's HTTP services speak inside TLS.
pub const HTTP: &[&[u8]] = &[b"http/1.1"];

/// How long a service waits for the next one.
pub const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(3);

/// How a service reports that `service` would not do what it was asked.
fn refusal(service: &str, answer: &Answer) -> String {
    let reason = answer.body["error"].as_str().unwrap_or("no reason given");
    format!("{service} answered {}: {reason}", answer.status)
}
