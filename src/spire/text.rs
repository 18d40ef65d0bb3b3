//! What was found, as text for a terminal of so many columns. No colours: words carry the meaning.

use std::time::Duration;

use super::{
    explain::{Explanation, Verdict},
    model::{BundleView, Entry},
    overview::{Overview, PodIdentity},
    registration::Compared,
    seen::Sight,
    svid::SvidView,
};
use crate::{
    identity::x509::{Inspection, Role},
    posture::{Answer, words},
    text::{one_line, width},
};

/// Lines that are filled to a width.
struct Page {
    columns: usize,
    text: String,
}

impl Page {
    fn new(columns: usize) -> Self {
        Self {
            columns: columns.max(40),
            text: String::new(),
        }
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A line, broken between words; what follows is indented by `indent` columns.
    fn line(&mut self, text: &str, indent: usize) {
        let text = text.trim_end();
        let begin = text.len() - text.trim_start().len();
        let mut line = " ".repeat(begin);
        let mut empty = true;
        for word in one_line(text).split(' ') {
            if !empty && width(&line) + 1 + width(word) > self.columns {
                self.push(&line);
                line = " ".repeat(indent);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.push(&line);
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// A name in a column of its own, and what there is to say of it.
    fn item(&mut self, margin: usize, name: &str, column: usize, text: &str) {
        let pad = column.saturating_sub(margin + width(name)).max(1);
        // Spaces between the two are kept: the line is broken in the text only.
        let head = format!("{}{}{}", " ".repeat(margin), name, " ".repeat(pad));
        let mut lines = Page {
            columns: self.columns.saturating_sub(column).max(20),
            text: String::new(),
        };
        lines.line(text, 0);
        let mut first = true;
        for line in lines.text.lines() {
            let margin = if first { head.clone() } else { " ".repeat(column) };
            self.push(&format!("{margin}{line}"));
            first = false;
        }
    }
}

fn seconds(count: i64) -> String {
    words::lasting(Duration::from_secs(u64::try_from(count).unwrap_or(0)))
}

/// A lifetime that an entry gives.
fn ttl(seconds_: i64) -> String {
    if seconds_ == 0 {
        "the server's default lifetime".to_owned()
    } else {
        format!("a lifetime of {}", seconds(seconds_))
    }
}

/// How long until a second, or since.
fn distance(at: i64, now: i64) -> String {
    if at >= now {
        format!("in {}", seconds(at - now))
    } else {
        format!("{} ago", seconds(now - at))
    }
}

/// How long something is still valid.
fn left(not_after: i64, now: i64) -> String {
    if not_after > now {
        format!("{} left", seconds(not_after - now))
    } else {
        format!("expired {}", distance(not_after, now))
    }
}

/// When an SVID is to be replaced.
fn rotation(svid: &SvidView, now: i64) -> Option<String> {
    let rotation = svid.rotation?;
    if svid.not_after <= now {
        return Some("it was not replaced before it expired".to_owned());
    }
    let about = words::second(rotation.about_s);
    Some(if rotation.is_overdue(now) {
        format!(
            "should have been replaced about {about}, {}: whoever gives it out does not, or rotates later than SPIRE does",
            distance(rotation.about_s, now)
        )
    } else {
        format!(
            "next rotation about {about}, {} (an estimate: SPIRE renews at half of the lifetime, give or take a tenth)",
            distance(rotation.about_s, now)
        )
    })
}

/// What a sight says, a name and a text each.
fn sight(seen: &Sight, now: i64) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for svid in &seen.svids {
        let whom = match &svid.spiffe_id {
            Some(id) => id.to_string(),
            None => format!("no SVID: a certificate for {}", named(&svid.subject)),
        };
        lines.push(("has", whom));
        lines.push((
            "",
            format!(
                "shown on port {}; serial {}; signed by {}",
                svid.port,
                svid.serial,
                named(&svid.issuer)
            ),
        ));
        lines.push((
            "",
            format!(
                "valid {} to {}: lives {}, {}",
                words::second(svid.not_before),
                words::second(svid.not_after),
                words::lasting(svid.lifetime()),
                left(svid.not_after, now)
            ),
        ));
        lines.extend(rotation(svid, now).map(|text| ("", text)));
        if svid.spiffe_id.is_some() && svid.belief.holds != Some(true) {
            let word = if svid.belief.holds.is_none() {
                "not verified"
            } else {
                "not believed"
            };
            lines.push(("", format!("{word}: {}", svid.belief.because)));
        }
    }
    if seen.svids.is_empty() {
        let looked = !seen.because.starts_with("not looked at");
        let says = if looked { "not seen: " } else { "" };
        lines.push(("has", format!("{says}{}", seen.because)));
    }
    lines
}

fn named(name: &str) -> &str {
    if name.is_empty() { "nobody by name" } else { name }
}

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
    let agents = &all.spire.agents;
    let ready = agents.iter().filter(|part| part.ready).count();
    let nodes = if all.nodes == 1 { "node" } else { "nodes" };
    page.item(
        0,
        "agents",
        14,
        &format!(
            "{ready} of {} ready; the cluster has {} {nodes}",
            agents.len(),
            all.nodes
        ),
    );
    let managers = &all.spire.managers;
    let manager = match managers.first() {
        Some(part) if part.ready => format!("{}/{}: ClusterSPIFFEIDs become entries", part.namespace, part.pod),
        Some(part) => format!("{}/{}, not ready: ClusterSPIFFEIDs wait", part.namespace, part.pod),
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

fn validity(not_before: i64, not_after: i64, now: i64) -> String {
    format!(
        "valid {} to {} ({})",
        words::second(not_before),
        words::second(not_after),
        left(not_after, now)
    )
}

fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::No => "NO",
        Answer::Undetermined => "?",
    }
}

/// Why a pod has the identity it has, or none.
pub fn explanation(all: &Explanation, now: i64, columns: usize) -> String {
    let mut page = Page::new(columns);
    let verdict = match all.verdict {
        Verdict::Identified => "has an identity",
        Verdict::Fading => "is about to lose its identity",
        Verdict::Nothing => "gets no identity",
        Verdict::Undetermined => "cannot be told",
    };
    page.line(&format!("{}/{} {verdict}: {}", all.namespace, all.pod, all.because), 2);
    page.blank();
    for step in &all.steps {
        page.item(2, answer(step.holds), 7, &format!("{}: {}", step.what, step.says));
    }
    let mut next: Vec<&String> = all.steps.iter().filter_map(|step| step.next.as_ref()).collect();
    next.dedup();
    if !next.is_empty() {
        page.blank();
        page.line("What to do next", 2);
        for (at, text) in next.iter().enumerate() {
            page.item(2, &format!("{}.", at + 1), 5, text);
        }
    }
    page.blank();
    page.line("What it shows in handshakes", 2);
    for (name, text) in sight(&all.seen, now) {
        page.item(2, name, 7, &text);
    }
    page.blank();
    page.line(
        &format!(
            "Its selectors: what SPIRE's agent sees when the container {} asks",
            named(&all.container)
        ),
        2,
    );
    for selector in &all.selectors {
        page.line(&format!("  {selector}"), 4);
    }
    entries_of(&mut page, all);
    rules_of(&mut page, all);
    page.text
}

fn entries_of(page: &mut Page, all: &Explanation) {
    if !all.matching.is_empty() {
        page.blank();
        page.line("Entries that match", 2);
        for one in &all.matching {
            page.line(&format!("  {}", one.compared.entry.spiffe_id), 4);
            page.item(4, "entry", 13, &one.compared.entry.id);
            let shown: Vec<String> = one.compared.entry.selectors.iter().map(ToString::to_string).collect();
            page.item(4, "asks for", 13, &shown.join(", "));
            page.item(4, "parent", 13, &one.compared.parent.because);
            page.item(4, "from", 13, &one.origin);
        }
    }
    page.blank();
    if all.near.is_empty() {
        let text = match all.entries {
            None => "The server did not tell its entries.",
            Some(0) => "There is no entry at all.",
            Some(_) if all.matching.is_empty() => "No entry comes near: what they ask for it does not show.",
            Some(_) => "No other entry comes near.",
        };
        page.line(text, 0);
        return;
    }
    page.line("Entries that almost match", 2);
    for one in &all.near {
        near(page, one);
    }
}

fn near(page: &mut Page, one: &Compared) {
    page.line(&format!("  {}", one.entry.spiffe_id), 4);
    page.item(4, "entry", 13, &one.entry.id);
    for missing in &one.missing {
        let slip = if missing.slip { " (a slip of the pen?)" } else { "" };
        page.item(
            4,
            "asks for",
            13,
            &format!("{}; {}{slip}", missing.selector, missing.says),
        );
    }
    let of = one.entry.selectors.len();
    page.item(4, "shown", 13, &format!("{} of its {of} selectors", one.shown));
    if !one.parent.fits {
        page.item(4, "parent", 13, &one.parent.because);
    }
    if one.expired {
        page.item(4, "ended", 13, "its time is over");
    }
}

/// ClusterSPIFFEIDs that neither select a pod nor almost do, which are still told.
const FAR: usize = 3;

fn rules_of(page: &mut Page, all: &Explanation) {
    page.blank();
    if let Some(why) = &all.rules_unknown {
        page.line(&format!("ClusterSPIFFEIDs: {why}"), 2);
        return;
    }
    if all.rules.is_empty() {
        page.line("There is no ClusterSPIFFEID.", 0);
        return;
    }
    page.line("ClusterSPIFFEIDs", 2);
    let mut far = 0;
    for rule in &all.rules {
        if !rule.selects && !rule.almost {
            far += 1;
            if far > FAR {
                continue;
            }
        }
        let word = match (rule.selects, rule.almost) {
            (true, _) if rule.fallback => "selects it, if no other does",
            (true, _) => "selects it",
            (false, true) => "almost selects it",
            (false, false) => "does not select it",
        };
        page.line(&format!("  {} {word}", rule.name), 4);
        page.item(4, "makes", 13, &rule.template);
        for why in &rule.because {
            page.item(4, "but", 13, why);
        }
        if let Some(trouble) = &rule.trouble {
            page.item(4, "trouble", 13, trouble);
        }
    }
    if far > FAR {
        page.line(&format!("  and {} more that do not", far - FAR), 4);
    }
}

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

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
