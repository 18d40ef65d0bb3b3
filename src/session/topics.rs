//! What checks look at, so that a change runs those concerned and no others. Pure.

use std::collections::BTreeSet;

use crate::lab::{Answer, Check, CheckKind, Client, Control, Lab, Seen, Store, TlsUse};

/// Something that can change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Everything: after a start or a reset.
    All,
    /// Objects of a kind, in the lab's namespace.
    Objects(Kind),
    /// Calls in the access log of this workload.
    Calls(String),
    /// What the student's captures see.
    Traffic,
    /// The secrets that were found.
    Loot,
    /// The student's answers.
    Answers,
    /// The student's work directory.
    Files,
    /// A step that was just opened, by its place.
    Step(usize),
}

/// A kind of Kubernetes object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// `v1`, `apps/v1`, …
    pub api_version: String,
    /// `Pod`, `Deployment`, …
    pub kind: String,
}

impl Kind {
    /// A kind by its name.
    pub fn new(api_version: &str, kind: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        }
    }

    /// Pods: what runs.
    pub fn pod() -> Self {
        Self::new("v1", "Pod")
    }
}

/// The objects that decide what a connection between two workloads comes to.
fn network() -> impl Iterator<Item = Topic> {
    let kinds = [
        Kind::pod(),
        Kind::new("v1", "Service"),
        Kind::new("v1", "Namespace"),
        Kind::new("networking.k8s.io/v1", "NetworkPolicy"),
    ];
    kinds.into_iter().map(Topic::Objects)
}

/// What a check looks at. One whose kind is not told apart here looks at everything.
pub fn concerns(check: &Check) -> BTreeSet<Topic> {
    let calls = |to: String| {
        // A caller is told by its address, so its pods matter too.
        BTreeSet::from([Topic::Calls(to), Topic::Objects(Kind::pod())])
    };
    match &check.kind {
        CheckKind::Capture(_) => BTreeSet::from([Topic::Traffic, Topic::Loot]),
        CheckKind::Question(question) => match question.answer {
            Answer::Captured(_) => BTreeSet::from([Topic::Answers, Topic::Loot]),
            Answer::Predict(_) => posture().chain([Topic::Answers]).collect(),
            _ => BTreeSet::from([Topic::Answers]),
        },
        CheckKind::Http(http) if http.seen == Seen::ByStudent => calls(http.to.to_string()),
        CheckKind::Database(database) => calls(database.to.to_string()),
        CheckKind::Http(http) => network().chain(shown(&http.tls, http.control.as_ref())).collect(),
        CheckKind::Tcp(_) | CheckKind::Dns(_) => network().collect(),
        CheckKind::Flow(flow) => {
            let probe = flow
                .probe
                .iter()
                .flat_map(|probe| network().chain(shown(&probe.tls, None)));
            probe.chain([Topic::Traffic]).collect()
        }
        CheckKind::Tls(tls) => network().chain(shown(&tls.session.tls, tls.control.as_ref())).collect(),
        CheckKind::Object(object) => {
            let kind = Kind::new(&object.api_version, &object.kind);
            BTreeSet::from([Topic::Objects(kind)])
        }
        CheckKind::Certificate(certificate) => {
            let named = certificate.signed_by.iter().chain(&certificate.key);
            let all = certificate.key_not_in_cluster;
            let keys = [Kind::new("v1", "Secret"), Kind::new("v1", "ConfigMap")];
            std::iter::once(&certificate.store)
                .chain(named)
                .map(kept)
                .chain(keys.into_iter().filter(|_| all).map(Topic::Objects))
                .collect()
        }
        CheckKind::File(_) => BTreeSet::from([Topic::Files]),
        CheckKind::Exec(_) => network().chain([Topic::Objects(Kind::new("v1", "Secret"))]).collect(),
        CheckKind::Posture(_) => posture().collect(),
    }
}

/// Where bytes stand, as something that can change.
fn kept(store: &Store) -> Topic {
    match store {
        Store::Secret { .. } => Topic::Objects(Kind::new("v1", "Secret")),
        Store::ConfigMap { .. } => Topic::Objects(Kind::new("v1", "ConfigMap")),
        Store::File(_) => Topic::Files,
    }
}

/// What a TLS client trusts and shows.
fn shown(tls: &TlsUse, control: Option<&Control>) -> BTreeSet<Topic> {
    let of = |client: &Client| match client {
        Client::None | Client::SelfMade => Vec::new(),
        Client::Given { certificate, key } => vec![kept(certificate), kept(key)],
        Client::Signed { authority, key, .. } => vec![kept(authority), kept(key)],
    };
    let control = control.and_then(|control| control.client.as_ref());
    let clients = std::iter::once(&tls.client).chain(control).flat_map(of);
    tls.trust.iter().map(kept).chain(clients).collect()
}

/// What decides what is measured of the posture.
fn posture() -> impl Iterator<Item = Topic> {
    let kinds = [Kind::new("v1", "Secret"), Kind::new("v1", "ConfigMap")];
    network().chain(kinds.into_iter().map(Topic::Objects))
}

/// What all checks of a lab look at: what is to be watched.
pub fn watched(lab: &Lab) -> BTreeSet<Topic> {
    lab.steps
        .iter()
        .flat_map(|step| &step.checks)
        .flat_map(concerns)
        .collect()
}

/// Whether a check of the step at this place looks at any of what has changed.
pub fn concerned(check: &Check, step: usize, changed: &BTreeSet<Topic>) -> bool {
    let looks = concerns(check);
    looks.contains(&Topic::All)
        || changed
            .iter()
            .any(|topic| matches!(topic, Topic::All) || *topic == Topic::Step(step) || looks.contains(topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concerned_of(changed: &[Topic]) -> Vec<String> {
        let found = crate::catalog::find("wiretap", None).unwrap();
        let lab = found.load(&crate::session::Topologies).unwrap();
        let changed: BTreeSet<Topic> = changed.iter().cloned().collect();
        let steps = lab.steps.iter().enumerate();
        steps
            .flat_map(|(at, step)| step.checks.iter().map(move |check| (at, check)))
            .filter(|(at, check)| concerned(check, *at, &changed))
            .map(|(_, check)| check.name.clone())
            .collect()
    }

    #[test]
    fn a_change_concerns_the_checks_that_look_at_it() {
        let all = concerned_of(&[Topic::All]);
        assert!(all.len() > 6);
        assert_eq!(concerned_of(&[]), Vec::<String>::new());
        assert_eq!(concerned_of(&[Topic::Traffic]), ["you captured a payment"]);
        let calls = concerned_of(&[Topic::Calls("payments-api".to_owned())]);
        assert!(!calls.is_empty() && calls.len() < all.len(), "{calls:?}");
        assert!(concerned_of(&[Topic::Objects(Kind::new("v1", "Secret"))]).is_empty());
        assert_eq!(concerned_of(&[Topic::Step(0)]).len(), 2);
        assert!(concerned_of(&[Topic::Answers]).contains(&"you found the card number".to_owned()));
    }
}
