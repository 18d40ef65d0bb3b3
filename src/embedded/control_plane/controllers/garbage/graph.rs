//! Who owns whom, and what follows from it.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ApiResource;

use crate::informer::Key;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// An object as the collector sees it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its kind.
    pub resource: ApiResource,
    /// Its namespace and name.
    pub key: Key,
    /// Who owns it.
    pub owners: Vec<OwnerReference>,
    /// What keeps it.
    pub finalizers: Vec<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// A kind whose objects are all known.
#[derive(Debug, Clone)]
pub struct Kind {
    /// How to ask for its objects.
    pub resource: ApiResource,
    /// Whether they are in namespaces.
    pub namespaced: bool,
}

/// Who owns whom.
#[derive(Default)]
pub struct Graph {
    /// Objects by uid.
    pub nodes: HashMap<String, Node>,
    /// By apiVersion and kind: an owner of such a kind that is not here does not exist.
    pub kinds: HashMap<(String, String), Kind>,
}

/// What to do with an object.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Its owners are gone: delete it.
    Delete,
    /// Its owner waits for it (foreground).
    DeleteInForeground,
    /// Take the owners with these uids from its references.
    Release(Vec<String>),
    /// Take a finalizer from it: its dependents are done with.
    Unblock(&'static str),
}

impl Graph {
    /// The kind of an owner, where it is known.
    pub fn kind_of(&self, owner: &OwnerReference) -> Option<&Kind> {
        self.kinds.get(&(owner.api_version.clone(), owner.kind.clone()))
    }

    /// Who names `uid` as an owner.
    pub fn dependents<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = (&'a String, &'a Node)> {
        self.nodes
            .iter()
            .filter(move |(_, node)| node.owners.iter().any(|owner| owner.uid == uid))
    }

    /// Whether an owner of an object in `namespace` is not there. One in another namespace is none: who owns is in the same
    /// namespace, or in none.
    pub fn absent(&self, owner: &OwnerReference, namespace: &str) -> bool {
        let reaches = |node: &Node| node.key.namespace.is_empty() || node.key.namespace == namespace;
        !self.nodes.get(&owner.uid).is_some_and(reaches) && self.kind_of(owner).is_some()
    }

    /// What to do with the object `uid` now.
    pub fn judge(&self, uid: &str) -> Option<Action> {
        let node = self.nodes.get(uid)?;
        if node.deleting {
            let holds = |finalizer: &str| node.finalizers.iter().any(|held| held == finalizer);
            if holds(ORPHAN) && self.dependents(uid).next().is_none() {
                return Some(Action::Unblock(ORPHAN));
            }
            let blocking = |owner: &OwnerReference| owner.uid == uid && owner.block_owner_deletion == Some(true);
            if holds(FOREGROUND) && !self.dependents(uid).any(|(_, node)| node.owners.iter().any(blocking)) {
                return Some(Action::Unblock(FOREGROUND));
            }
            return None;
        }
        if node.owners.is_empty() {
            return None;
        }
        let with = |owner: &OwnerReference, finalizer: &str| {
            self.nodes
                .get(&owner.uid)
                .is_some_and(|o| o.deleting && o.finalizers.iter().any(|held| held == finalizer))
        };
        let orphaned: Vec<String> = node
            .owners
            .iter()
            .filter(|o| with(o, ORPHAN))
            .map(|o| o.uid.clone())
            .collect();
        if !orphaned.is_empty() {
            return Some(Action::Release(orphaned));
        }
        let (gone, left): (Vec<_>, Vec<_>) = node
            .owners
            .iter()
            .partition(|owner| self.absent(owner, &node.key.namespace));
        let (waiting, solid): (Vec<_>, Vec<_>) = left.into_iter().partition(|owner| with(owner, FOREGROUND));
        match (gone.is_empty(), waiting.is_empty(), solid.is_empty()) {
            (true, true, _) => None,
            (_, false, true) => Some(Action::DeleteInForeground),
            (false, _, true) => Some(Action::Delete),
            (true, false, false) => None,
            (false, _, false) => Some(Action::Release(
                gone.into_iter().map(|owner| owner.uid.clone()).collect(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};

    use super::*;

    fn owner(uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: uid.into(),
            uid: uid.into(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    fn graph(owners: &[(&str, bool, &[&str])], pod_owners: &[&str]) -> Graph {
        let mut graph = Graph::default();
        let kind = ("apps/v1".into(), "ReplicaSet".into());
        let resource = ApiResource::erase::<ReplicaSet>(&());
        let namespaced = true;
        graph.kinds.insert(kind, Kind { resource, namespaced });
        for (uid, deleting, finalizers) in owners {
            graph.nodes.insert(
                (*uid).into(),
                Node {
                    resource: ApiResource::erase::<ReplicaSet>(&()),
                    key: Key::new("default", *uid),
                    owners: vec![],
                    finalizers: finalizers.iter().map(|f| (*f).into()).collect(),
                    deleting: *deleting,
                },
            );
        }
        graph.nodes.insert(
            "pod".into(),
            Node {
                resource: ApiResource::erase::<Pod>(&()),
                key: Key::new("default", "pod"),
                owners: pod_owners.iter().map(|uid| owner(uid)).collect(),
                finalizers: vec![],
                deleting: false,
            },
        );
        graph
    }

    #[test]
    fn dependents_follow_their_owners() {
        type Owners<'a> = &'a [(&'a str, bool, &'a [&'a str])];
        let cases: [(Owners, &[&str], Option<Action>); 6] = [
            (&[("a", false, &[])], &["a"], None),
            (&[], &["a"], Some(Action::Delete)),
            (
                &[("b", false, &[])],
                &["a", "b"],
                Some(Action::Release(vec!["a".into()])),
            ),
            (&[("a", true, &[FOREGROUND])], &["a"], Some(Action::DeleteInForeground)),
            (
                &[("a", true, &[ORPHAN])],
                &["a"],
                Some(Action::Release(vec!["a".into()])),
            ),
            (&[], &[], None),
        ];
        for (owners, of_pod, expected) in cases {
            assert_eq!(graph(owners, of_pod).judge("pod"), expected, "{owners:?} {of_pod:?}");
        }
    }

    #[test]
    fn an_owner_of_an_unknown_kind_is_taken_to_exist() {
        let mut graph = graph(&[], &["a"]);
        graph.kinds.clear();
        assert_eq!(graph.judge("pod"), None);
    }

    #[test]
    fn an_owner_is_let_go_when_its_dependents_are() {
        let blocked = graph(&[("a", true, &[FOREGROUND])], &["a"]);
        assert_eq!(blocked.judge("a"), None);
        assert_eq!(
            graph(&[("a", true, &[FOREGROUND])], &[]).judge("a"),
            Some(Action::Unblock(FOREGROUND))
        );
        assert_eq!(
            graph(&[("a", true, &[ORPHAN])], &[]).judge("a"),
            Some(Action::Unblock(ORPHAN))
        );
    }

    #[test]
    fn an_owner_in_another_namespace_is_none() {
        let mut graph = graph(&[("a", false, &[])], &["a"]);
        graph.nodes.get_mut("a").unwrap().key.namespace = "other".into();
        assert_eq!(graph.judge("pod"), Some(Action::Delete));
        // One of the whole cluster owns in every namespace.
        graph.nodes.get_mut("a").unwrap().key.namespace.clear();
        assert_eq!(graph.judge("pod"), None);
    }
}
