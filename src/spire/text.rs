//! What was found, as text for a terminal of so many columns. No colours: words carry the meaning.

mod certificate;
mod explanation;
mod page;
mod registered;

pub use certificate::{certificate, shown};
pub use explanation::explanation;
pub use registered::{bundles, entries};

use self::page::{Page, left, sight, ttl};
use super::{
    model::BundleView,
    overview::{Overview, PodIdentity},
};
use crate::posture::words;

/// Everything: SPIRE's parts, every pod, entries and bundles in short.
pub fn overview(all: &Overview, columns: usize) -> String {
    let mut page = Page::new(columns);
    spire(&mut page, all);
    let mut namespace = "";
    for pod in &all.workloads {
        if pod.namespace != namespace {
            page.blank();
            page.line(&format!("Workloads of {}", pod.namespace), 2);
            namespace = &pod.namespace;
        }
        workload(&mut page, pod, all.measured_s);
    }
    if all.workloads.is_empty() {
        page.blank();
        page.line("No workloads there.", 0);
    }
    page.blank();
    page.line(&format!("Registration entries: {}", all.entries.len()), 2);
    for entry in &all.entries {
        page.line(&format!("  {}", entry.spiffe_id), 4);
        page.line(&format!("    entry {}, {}", entry.id, ttl(entry.x509_svid_ttl)), 6);
    }
    page.blank();
    page.line(&format!("Bundles: {}", all.bundles.len()), 2);
    for bundle in &all.bundles {
        page.line(&format!("  {}", in_short(bundle, all.measured_s)), 4);
    }
    for why in &all.unknown {
        page.blank();
        page.line(&format!("Not known: {why}"), 2);
    }
    page.text
}

fn in_short(bundle: &BundleView, now: i64) -> String {
    let last = bundle.x509.iter().map(|one| one.not_after).max();
    let until = last.map_or_else(String::new, |last| {
        format!(
            ", the last of them valid until {} ({})",
            words::second(last),
            left(last, now)
        )
    });
    let (x509, jwt) = (bundle.x509.len(), bundle.jwt.len());
    let authorities = if x509 == 1 { "authority" } else { "authorities" };
    let keys = if jwt == 1 { "key" } else { "keys" };
    format!(
        "{}: {x509} X.509 {authorities}{until}; {jwt} JWT {keys}",
        bundle.trust_domain
    )
}

fn spire(page: &mut Page, all: &Overview) {
    let domain = all.bundles.iter().find(|bundle| bundle.own);
    if let Some(bundle) = domain {
        page.item(0, "trust domain", 14, bundle.trust_domain.as_str());
    }
    let server = match all.spire.server() {
        Some(part) => {
            let kind = if part.stand_in { ", a stand-in" } else { "" };
            format!("{}/{}{kind}: {}", part.namespace, part.pod, all.server)
        }
        None => all.server.clone(),
    };
    page.item(0, "server", 14, &server);
    if let Some(next) = &all.next {
        page.item(0, "do next", 14, next);
    }
    let agents = &all.spire.agents;
    let ready = agents.iter().filter(|part| part.ready).count();
    let nodes = match all.nodes {
        None => String::new(),
        Some(1) => "; the cluster has 1 node".to_owned(),
        Some(nodes) => format!("; the cluster has {nodes} nodes"),
    };
    let told = if agents.is_empty() && !all.everywhere {
        format!("not known{nodes}")
    } else {
        format!("{ready} of {} ready{nodes}", agents.len())
    };
    page.item(0, "agents", 14, &told);
    let managers = &all.spire.managers;
    let manager = match managers.first() {
        Some(part) if part.ready => format!("{}/{}: ClusterSPIFFEIDs become entries", part.namespace, part.pod),
        Some(part) => format!("{}/{}, not ready: ClusterSPIFFEIDs wait", part.namespace, part.pod),
        None if !all.everywhere => "not known".to_owned(),
        None => "none: ClusterSPIFFEIDs have no effect".to_owned(),
    };
    page.item(0, "manager", 14, &manager);
}

fn workload(page: &mut Page, pod: &PodIdentity, now: i64) {
    let node = pod.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    page.line(&format!("  {}{node}", pod.pod), 4);
    for (name, text) in sight(&pod.seen, now) {
        page.item(4, name, 13, &text);
    }
    match &pod.given {
        None => page.item(4, "may have", 13, "the entries are not known"),
        Some(given) if given.is_empty() => page.item(
            4,
            "may have",
            13,
            &format!(
                "nothing: no entry is for it (`ztlab identity explain {}` says why)",
                pod.pod
            ),
        ),
        Some(given) => {
            for one in given {
                let text = format!(
                    "{} by the entry {}, {}",
                    one.spiffe_id,
                    one.entry,
                    ttl(one.x509_svid_ttl)
                );
                page.item(4, "may have", 13, &text);
            }
        }
    }
    let shown = pod.seen.svid().and_then(|svid| svid.spiffe_id.as_ref());
    let given = pod.given.as_deref().unwrap_or_default();
    if let (Some(shown), true) = (shown, pod.given.is_some())
        && !given.iter().any(|one| one.spiffe_id == *shown)
    {
        page.item(4, "!", 13, "what it shows is not what the entries give");
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
