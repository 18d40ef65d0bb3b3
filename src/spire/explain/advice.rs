//! Whether an entry is for a pod, and what to do where none is.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Step, step};
use crate::{
    posture::Answer,
    spire::{
        gather::World,
        registration::{Compared, Reach},
        rules::Verdict as RuleVerdict,
    },
};

pub(super) fn entry_there(
    world: &World,
    pod: &Pod,
    reach: &Reach<'_>,
    matching: &[Compared],
    near: &[Compared],
    rules: &[RuleVerdict],
) -> Step {
    const WHAT: &str = "a registration entry is for it";
    let count = match &world.answers.entries {
        Ok(entries) => entries.len(),
        Err(why) => {
            return step(
                WHAT,
                Answer::Undetermined,
                format!("the entries are not known: {why}"),
                None,
            );
        }
    };
    if let [first, rest @ ..] = matching {
        let more = match rest.len() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let says = format!("the entry {} gives {}{more}", first.entry.id, first.entry.spiffe_id);
        return step(WHAT, Answer::Yes, says, None);
    }
    if let Some(one) = near.iter().find(|one| one.may_match()) {
        let says = format!("the entry {} may: {}", one.entry.id, one.missing[0].says);
        return step(WHAT, Answer::Undetermined, says, None);
    }
    if let (Some(why), Some(one)) = (&world.nodes_unknown, near.first().filter(|one| one.missing.is_empty())) {
        let says = format!(
            "the entry {} would match below the agent of its node, and {why}",
            one.entry.id
        );
        return step(WHAT, Answer::Undetermined, says, None);
    }
    let says = match count {
        0 => "the server has no registration entry at all".to_owned(),
        1 => "the one registration entry that the server has does not match it".to_owned(),
        count => format!("none of the {count} registration entries matches it"),
    };
    step(WHAT, Answer::No, says, Some(advice(world, pod, reach, near, rules)))
}

/// What to do for an entry that matches: the nearest thing to it.
fn advice(world: &World, pod: &Pod, reach: &Reach<'_>, near: &[Compared], rules: &[RuleVerdict]) -> String {
    if let Some(rule) = rules.iter().find(|rule| rule.selects) {
        let logs = world.found.managers.first().map_or_else(
            || "no controller manager runs that would act on it".to_owned(),
            |part| {
                format!(
                    "ask the controller manager why: `kubectl -n {} logs {} -c {}`",
                    part.namespace, part.pod, part.container
                )
            },
        );
        let trouble = rule
            .trouble
            .as_ref()
            .map(|trouble| format!(" ({trouble})"))
            .unwrap_or_default();
        return format!(
            "the ClusterSPIFFEID {} selects it, and there is no entry for it{trouble}: {logs}",
            rule.name
        );
    }
    if let Some(one) = near.iter().find(|one| one.missing.iter().any(|one| one.slip)) {
        return mend(one);
    }
    if let Some(rule) = rules.iter().find(|rule| rule.almost) {
        let unmet = &rule.unmet[0];
        let whom = if unmet.of == "podSelector" {
            "in its template"
        } else {
            "on its namespace"
        };
        return match &unmet.label {
            Some(label) => format!(
                "if the ClusterSPIFFEID {} is meant for it: put the label {label} {whom}, or widen the {}",
                rule.name, unmet.of
            ),
            None => format!(
                "if the ClusterSPIFFEID {} is meant for it: change its {}, or the labels {whom}",
                rule.name, unmet.of
            ),
        };
    }
    match near.first() {
        Some(one) => mend(one),
        None => register(world, pod, reach),
    }
}

/// What to do for an entry that almost matches.
fn mend(one: &Compared) -> String {
    let wrong = match one.missing.as_slice() {
        [] if one.expired => "its time is over".to_owned(),
        [] => one.parent.because.clone(),
        missing => missing
            .iter()
            .map(|one| one.says.clone())
            .collect::<Vec<_>>()
            .join("; "),
    };
    format!(
        "if the entry {} is meant for it, mend it with `spire-server entry update`: {wrong}",
        one.entry.id
    )
}

/// How to register a pod by its namespace and service account.
fn register(world: &World, pod: &Pod, reach: &Reach<'_>) -> String {
    let namespace = pod.namespace().unwrap_or_default();
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.clone())
        .unwrap_or_else(|| "default".to_owned());
    let domain = world
        .own_bundle()
        .map_or_else(|| "TRUST-DOMAIN".to_owned(), |bundle| bundle.trust_domain.to_string());
    let parent = reach
        .agent()
        .map_or_else(|| "AGENT-ID".to_owned(), |agent| agent.id.to_string());
    format!(
        "register it with a ClusterSPIFFEID that selects it, or by hand: `spire-server entry create -parentID {parent} \
         -spiffeID spiffe://{domain}/ns/{namespace}/sa/{account} -selector k8s:ns:{namespace} -selector k8s:sa:{account}`"
    )
}
