//! What checks look at, so that a change runs those concerned and no others. Pure.

use std::collections::BTreeSet;

use crate::lab::{Answer, Check, CheckKind, Lab, Seen};

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
    let calls = |to: &crate::lab::Workload| {
        // A caller is told by its address, so its pods matter too.
        BTreeSet::from([Topic::Calls(to.to_string()), Topic::Objects(Kind::pod())])
    };
    match &check.kind {
        CheckKind::Capture(_) => BTreeSet::from([Topic::Traffic, Topic::Loot]),
        CheckKind::Question(question) => match question.answer {
            Answer::Captured(_) => BTreeSet::from([Topic::Answers, Topic::Loot]),
            _ => BTreeSet::from([Topic::Answers]),
        },
        CheckKind::Http(http) if http.seen == Seen::ByStudent => calls(&http.to),
        CheckKind::Database(database) => calls(&database.to),
        CheckKind::Http(_) | CheckKind::Tcp(_) => network().collect(),
        #[allow(unreachable_patterns)] // A kind that is new runs on every change, until it says on which.
        _ => BTreeSet::from([Topic::All]),
    }
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
