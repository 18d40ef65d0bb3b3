//! What ztlab can do in a student's place.

use std::{collections::BTreeMap, time::Duration};

use super::{Source, WorkPath, Workload};
use crate::packet::LeakKind;

/// Something a student could do, done by ztlab when it solves a step or tries a wrong attempt.
#[derive(Clone, Debug)]
pub enum Action {
    /// Capture in a pod.
    Capture {
        /// Where.
        workload: Workload,
        /// A BPF filter.
        filter: Option<String>,
        /// How long.
        until: Until,
    },
    /// Answer the question of the check at this place.
    Answer {
        /// The check's place in its step.
        check: usize,
        /// The answer.
        value: AnswerValue,
    },
    /// Run a program in a pod, as `kubectl exec` does.
    Exec {
        /// Where.
        source: Source,
        /// The pod's namespace, where it is not the lab's.
        namespace: Option<String>,
        /// The program and its arguments; what [`Fill`] names is filled in.
        run: Vec<String>,
        /// Whether it may fail even in a solution.
        may_fail: bool,
        /// The file that gets what it prints.
        save: Option<WorkPath>,
        /// For how long it is tried again until it ends with 0.
        within: Duration,
    },
    /// Change the cluster or the work directory.
    Deed(Deed),
    /// Wait.
    Wait(Duration),
    /// Wait until a check of the step is passed.
    Until {
        /// The check's place in its step.
        check: usize,
        /// How long at most.
        within: Duration,
    },
}

/// A change of the cluster or of the work directory.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Apply manifests.
    Apply(Applied),
    /// Delete an object, and wait until it is gone.
    Delete(Named),
    /// Change the labels of a running pod.
    Label {
        /// Whose pod.
        source: Source,
        /// Labels to set.
        set: BTreeMap<String, String>,
        /// Labels to remove.
        remove: Vec<String>,
    },
    /// Patch an object; a Deployment's rollout is waited for.
    Patch {
        /// Which.
        object: Named,
        /// The fields, as in its manifest.
        patch: serde_json::Value,
    },
    /// Set the replicas of a Deployment, and wait for them.
    Scale {
        /// Which.
        deployment: String,
        /// How many.
        replicas: u32,
    },
    /// Restart a Deployment, and wait for the rollout.
    Restart(String),
    /// Wait for a Deployment's rollout.
    Ready(String),
    /// Run a pod of its own, and wait until it runs.
    RunPod {
        /// Its name.
        name: String,
        /// Its image.
        image: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// Its program and arguments; the image's own where there are none.
        run: Vec<String>,
    },
    /// Make a certificate and its key in the work directory: `out.crt` and `out.key`.
    Certificate {
        /// Where, without the ending.
        out: WorkPath,
        /// What it says.
        says: Says,
        /// Who signs it, without the ending; its own key where there is nobody.
        authority: Option<WorkPath>,
    },
    /// Make or replace a Secret or ConfigMap.
    Keep {
        /// Which.
        kind: Kept,
        /// Its name.
        name: String,
        /// Keys, each with a file of the work directory.
        files: BTreeMap<String, WorkPath>,
        /// Keys, each with its text; what [`Fill`] names is filled in.
        texts: BTreeMap<String, String>,
    },
    /// Write a file in the work directory.
    File {
        /// Where.
        path: WorkPath,
        /// What; what [`Fill`] names is filled in.
        text: String,
    },
}

/// Manifests to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Files beside the lab, by their paths, in order: [`super::Lab::files`] has their text.
    Files(Vec<String>),
    /// A topology layer.
    Layer(String),
    /// These; what [`Fill`] names is filled in.
    Text(String),
}

/// An object by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The API group and version, where it was said.
    pub api_version: Option<String>,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The namespace, where it is not the lab's.
    pub namespace: Option<String>,
}

/// What keeps texts by keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

/// What a certificate that is made says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Says {
    /// Its common name.
    pub name: String,
    /// Its alternative names.
    pub names: Vec<String>,
    /// How long it is valid, in days.
    pub days: u32,
    /// Whether that ended yesterday.
    pub expired: bool,
    /// Whether it is an authority's.
    pub authority: Option<Authority>,
    /// Whether a server may show it.
    pub server: bool,
    /// Whether a client may show it.
    pub client: bool,
}

/// What makes a certificate an authority's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Whether it says that it is one.
    pub flag: bool,
    /// How many authorities may follow below it.
    pub path_length: Option<u8>,
}

/// What `${…}` in a text stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fill {
    /// A secret that was captured.
    Leak {
        /// What kind.
        kind: LeakKind,
        /// Whose it is, in its place.
        account: bool,
    },
    /// What stands somewhere.
    Store(super::Store),
    /// The address of a pod.
    Address(Source),
}

impl Fill {
    /// What can stand between `${` and `}`, for messages.
    pub const FORMS: &'static str = "`${leak.KIND}`, `${leak.KIND.account}`, `${secret/NAME/KEY}`, \
                                     `${configmap/NAME/KEY}`, `${file/PATH}` or `${address/WORKLOAD}`";

    /// Reads what stands between `${` and `}`.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(leak) = name.strip_prefix("leak.") {
            let (kind, account) = leak.strip_suffix(".account").map_or((leak, false), |kind| (kind, true));
            let kind = LeakKind::ALL.into_iter().find(|one| one.as_str() == kind)?;
            return Some(Fill::Leak { kind, account });
        }
        if let Some(source) = name.strip_prefix("address/") {
            return Source::parse(source).map(Fill::Address);
        }
        super::Store::parse(name).map(Fill::Store)
    }
}

/// A piece of a text with things to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it stands.
    Text(&'a str),
    /// What stood between `${` and `}`; an unclosed one goes to the end.
    Name(&'a str),
}

/// Takes a text apart at its `${…}`.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if start > 0 {
            found.push(Piece::Text(&rest[..start]));
        }
        let inner = &rest[start + 2..];
        let end = inner.find('}').unwrap_or(inner.len());
        found.push(Piece::Name(&inner[..end]));
        rest = inner.get(end + 1..).unwrap_or_default();
    }
    if !rest.is_empty() {
        found.push(Piece::Text(rest));
    }
    found
}

/// How long a capture runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// So long.
    For(Duration),
    /// Until this was seen.
    Leak {
        /// What.
        kind: LeakKind,
        /// Only between these two, in either direction: a payment also leaks further on.
        between: Option<(Workload, Workload)>,
    },
}

/// An answer in a solution or an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerValue {
    /// What was captured, as the question asks for it.
    FromCapture,
    /// This text; what [`Fill`] names is filled in.
    Text(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_taken_apart() {
        use Piece::{Name, Text};
        assert_eq!(
            pieces("a ${leak.cookie}b${file/x}"),
            [Text("a "), Name("leak.cookie"), Text("b"), Name("file/x")]
        );
        assert_eq!(pieces("$ ${open"), [Text("$ "), Name("open")]);
        assert_eq!(pieces(""), []);
    }

    #[test]
    fn names_stand_for_what_they_say() {
        assert!(matches!(
            Fill::parse("leak.card-number"),
            Some(Fill::Leak { account: false, .. })
        ));
        assert!(matches!(
            Fill::parse("leak.database-login.account"),
            Some(Fill::Leak { account: true, .. })
        ));
        assert!(matches!(Fill::parse("secret/a/b"), Some(Fill::Store(_))));
        assert!(matches!(
            Fill::parse("address/orders-api"),
            Some(Fill::Address(Source::Workload(_)))
        ));
        assert!(matches!(
            Fill::parse("address/pod/x"),
            Some(Fill::Address(Source::Pod(_)))
        ));
        for bad in ["leak.nothing", "address/", "env/HOME", "", "file/../x"] {
            assert_eq!(Fill::parse(bad), None, "{bad}");
        }
    }
}
