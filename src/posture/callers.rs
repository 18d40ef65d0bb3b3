//! What callers proved, by the callees' own access logs: TLS 1.3 shows a client's certificate to nobody but the server.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};

use super::{
    inventory::{Inventory, Workload},
    judge::Seen,
    measure::{Field, chosen},
    model::{Evidence, EvidenceKind, Name},
};
use crate::check::Call;

/// The last lines of a log that are read.
const LINES: i64 = 400;
/// How old a line may be, seconds: what was so before something was changed does not count.
const AGE: i64 = 60;
/// Logs that are read at once.
const READING: usize = 8;

/// An identity that a callee says its caller proved.
#[derive(Debug, Clone)]
pub struct Proved {
    /// Who called.
    pub from: Name,
    /// Whose log says so.
    pub to: Name,
    /// The SPIFFE ID.
    pub id: String,
    /// The line of the log.
    pub evidence: Evidence,
}

/// The SPIFFE ID among the names of a certificate, as the shop's access logs write them: `… (DNS:a, URI:spiffe://…)`. None, where
/// there is more than one: such a certificate proves none (X509-SVID §2).
fn spiffe_id(caller: &str) -> Option<&str> {
    let (_, names) = caller.rsplit_once('(')?;
    let (names, _) = names.split_once(')')?;
    let mut ids = names.split(", ").filter_map(|name| name.strip_prefix("URI:"));
    let id = ids.next().filter(|id| id.starts_with("spiffe://"))?;
    ids.next().is_none().then_some(id)
}

/// The callers of a workload that a log of it names.
fn proved(log: &str, to: &Workload, pod: &str, callers: &[&Workload]) -> Vec<Proved> {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    // The newest line of each caller says what it is now.
    for call in log
        .lines()
        .rev()
        .filter_map(Call::read)
        .filter(|call| call.probe.is_none())
    {
        let is_of = |one: &&&Workload| {
            one.pods
                .iter()
                .any(|pod| pod.ip.as_deref() == Some(call.caller_ip.as_str()))
        };
        let Some(from) = callers
            .iter()
            .find(is_of)
            .filter(|from| known.insert(from.name.clone()))
        else {
            continue;
        };
        if let Some(id) = spiffe_id(&call.caller) {
            found.push(Proved {
                from: from.name.clone(),
                to: to.name.clone(),
                id: id.to_owned(),
                evidence: Evidence {
                    kind: EvidenceKind::Log,
                    id: String::new(),
                    namespace: to.name.namespace.clone(),
                    pod: pod.to_owned(),
                    at_ns: 0,
                    says: crate::text::one_line(&format!("{}; caller: {}", call.describe(), call.caller)),
                },
            });
        }
    }
    found
}

/// Those that the application declares to call a workload.
fn callers<'a>(inventory: &'a Inventory, to: &Workload) -> Vec<&'a Workload> {
    let calls = |from: &&Workload| {
        let mut edges = inventory.declared.iter();
        edges.any(|(one, other, _)| *one == from.name && *other == to.name)
    };
    inventory.workloads.iter().filter(calls).collect()
}

impl Field<'_> {
    /// Reads what the callees that speak TLS say of their callers.
    pub(super) async fn callers(&self, client: &kube::Client, seen: &mut Seen) {
        let secret = |to: &&Workload| {
            let mut looks = seen.looks.iter();
            looks.any(|look| look.of == to.name && look.probe.tls.is_some())
        };
        let reading: Vec<_> = self
            .inventory
            .workloads
            .iter()
            .filter(secret)
            .flat_map(|to| {
                let callers = callers(self.inventory, to);
                chosen(to).map(move |(pod, _)| (to, pod, callers.clone()))
            })
            .filter(|(.., callers)| !callers.is_empty())
            .map(|(to, pod, callers)| {
                let api: Api<Pod> = Api::namespaced(client.clone(), &to.name.namespace);
                let params = LogParams {
                    tail_lines: Some(LINES),
                    since_seconds: Some(AGE),
                    container: to.container.clone(),
                    ..LogParams::default()
                };
                async move {
                    // Who has no log to read proves nothing by it.
                    let log = api.logs(pod, &params).await.unwrap_or_default();
                    proved(&log, to, pod, &callers)
                }
            })
            .collect();
        let mut all: Vec<Proved> = stream::iter(reading)
            .buffered(READING)
            .collect::<Vec<_>>()
            .await
            .concat();
        all.sort_by(|one, other| (&one.from, &one.to).cmp(&(&other.from, &other.to)));
        seen.proved = all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_only_uri_of_the_certificate() {
        for (caller, id) in [
            (
                "certificate of CN=x (URI:spiffe://shop.example/a)",
                Some("spiffe://shop.example/a"),
            ),
            (
                "certificate of CN=x (DNS:a, URI:spiffe://shop.example/a) and token orders",
                Some("spiffe://shop.example/a"),
            ),
            ("certificate of CN=(URI:spiffe://shop.example/evil) (DNS:a)", None),
            ("certificate of CN=x (URI:spiffe://a/a, URI:spiffe://a/b)", None),
            ("certificate of CN=x (URI:https://shop.example/a)", None),
            ("certificate of CN=URI:spiffe://shop.example/a", None),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(spiffe_id(caller), id, "{caller}");
        }
    }
}
