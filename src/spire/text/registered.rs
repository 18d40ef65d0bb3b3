//! What the server has: entries and bundles in full.

use super::page::{Page, distance, left, named, seconds, ttl, validity};
use crate::{
    posture::words,
    spire::model::{BundleView, Entry},
};

/// The registration entries in full.
pub fn entries(entries: &[Entry], now: i64, columns: usize) -> String {
    let mut page = Page::new(columns);
    let word = if entries.len() == 1 { "entry" } else { "entries" };
    page.line(&format!("{} registration {word}", entries.len()), 2);
    for entry in entries {
        page.blank();
        one_entry(&mut page, entry, now);
    }
    page.text
}

fn one_entry(page: &mut Page, entry: &Entry, now: i64) {
    page.line(&entry.spiffe_id.to_string(), 2);
    page.item(2, "entry", 14, &entry.id);
    page.item(2, "parent", 14, &entry.parent_id.to_string());
    for (at, selector) in entry.selectors.iter().enumerate() {
        page.item(2, if at == 0 { "selectors" } else { "" }, 14, &selector.to_string());
    }
    page.item(
        2,
        "gives",
        14,
        &format!(
            "X.509-SVIDs with {}, JWT-SVIDs with {}",
            ttl(entry.x509_svid_ttl),
            ttl(entry.jwt_svid_ttl)
        ),
    );
    let mut more = Vec::new();
    if !entry.dns_names.is_empty() {
        more.push(format!("DNS names {}", entry.dns_names.join(", ")));
    }
    if !entry.federates_with.is_empty() {
        more.push(format!("federates with {}", entry.federates_with.join(", ")));
    }
    if !entry.hint.is_empty() {
        more.push(format!("hint {}", entry.hint));
    }
    if entry.admin {
        more.push("admin: its holder may manage the server".to_owned());
    }
    if entry.downstream {
        more.push("downstream: its holder may sign as an authority".to_owned());
    }
    if entry.expires_at != 0 {
        more.push(format!(
            "ends {} ({})",
            words::second(entry.expires_at),
            distance(entry.expires_at, now)
        ));
    }
    for text in more {
        page.item(2, "", 14, &text);
    }
}

/// The bundles in full.
pub fn bundles(bundles: &[BundleView], now: i64, columns: usize) -> String {
    let mut page = Page::new(columns);
    for (at, bundle) in bundles.iter().enumerate() {
        if at > 0 {
            page.blank();
        }
        let whose = if bundle.own {
            "the server's own"
        } else {
            "federated: the server gives it to entries that name it"
        };
        page.line(&format!("{}, {whose}", bundle.trust_domain), 2);
        if bundle.refresh_hint > 0 {
            page.item(2, "refresh", 14, &format!("every {}", seconds(bundle.refresh_hint)));
        }
        if bundle.own || bundle.sequence > 0 {
            page.item(2, "sequence", 14, &bundle.sequence.to_string());
        }
        for one in &bundle.x509 {
            let mut says = format!("{}; serial {}", named(&one.subject), one.serial);
            says += &mark(one.state, one.tainted);
            page.item(2, "X.509", 14, &says);
            page.item(2, "", 14, &validity(one.not_before, one.not_after, now));
            if !one.key_id.is_empty() {
                page.item(2, "", 14, &format!("authority id {}", one.key_id));
            }
        }
        for one in &bundle.jwt {
            let until = match one.expires_at {
                0 => String::new(),
                at => format!("; until {} ({})", words::second(at), left(at, now)),
            };
            let says = format!("key {}{}{until}", one.key_id, mark(one.state, one.tainted));
            page.item(2, "JWT", 14, &says);
        }
        if bundle.x509.is_empty() && bundle.jwt.is_empty() {
            page.item(2, "empty", 14, "nothing of this trust domain is believed");
        }
    }
    page.text
}

fn mark(state: Option<&str>, tainted: bool) -> String {
    let state = match state {
        Some("active") => "; active: it signs",
        Some("prepared") => "; prepared: it will sign next",
        Some("old") => "; old: it signs no more, what it signed still counts",
        _ => "",
    };
    let tainted = if tainted { "; tainted: about to be revoked" } else { "" };
    format!("{state}{tainted}")
}
