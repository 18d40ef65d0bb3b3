//! Why a pod has the identity it has, or none, as a page.

use super::page::{Page, named, sight};
use crate::{
    posture::Answer,
    spire::{
        explain::{Explanation, Verdict},
        registration::Compared,
    },
};

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
