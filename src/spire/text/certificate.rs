//! A certificate as a page.

use super::page::{Page, sight};
use crate::{
    identity::x509::{Inspection, Role},
    spire::{seen::Sight, svid::SvidView},
};

/// A certificate, field by field, with what X509-SVID demands.
pub fn certificate(inspection: &Inspection, columns: usize) -> String {
    let mut page = Page::new(columns);
    let role = match inspection.role {
        Role::Leaf => "a workload's certificate (X509-SVID section 3.1)",
        Role::Signing => "a signing certificate (X509-SVID section 3.2)",
    };
    page.line(&format!("Judged as {role}"), 2);
    for field in &inspection.fields {
        let critical = match field.critical {
            Some(true) => " (critical)",
            _ => "",
        };
        page.item(2, field.name, 28, &format!("{}{critical}", field.value));
        for demand in &field.demands {
            let holds = if demand.holds { "ok" } else { "NO" };
            let wrong = demand
                .wrong
                .as_ref()
                .map(|wrong| format!(": {wrong}"))
                .unwrap_or_default();
            page.item(4, holds, 8, &format!("{} [{}]{wrong}", demand.demands, demand.section));
        }
    }
    page.text
}

/// What was shown, and whether it is believed: above a certificate that came from a handshake.
pub fn shown(svid: &SvidView, now: i64, columns: usize) -> String {
    let mut page = Page::new(columns);
    let one = Sight {
        svids: vec![svid.clone()],
        because: String::new(),
    };
    for (name, text) in sight(&one, now) {
        page.item(0, name, 7, &text);
    }
    if svid.belief.holds == Some(true) {
        page.item(0, "", 7, &format!("believed: {}", svid.belief.because));
    }
    page.text
}
