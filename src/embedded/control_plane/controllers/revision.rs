//! ControllerRevisions: the past templates of a StatefulSet or DaemonSet, which `kubectl rollout` shows and goes back to. Pure.
//!
//! Source: Kubernetes' `pkg/controller/history` and API reference (apps/v1 ControllerRevision).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::owner;

/// The label of a pod that names the revision it was made from.
pub const POD_LABEL: &str = "controller-revision-hash";

/// Letters that spell no words, as Kubernetes' `rand.SafeEncodeString` takes them.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// What to do so that a template has its revision.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// The newest one has it.
    Newest(ControllerRevision),
    /// An older one has it: it becomes the newest.
    Renumber(ControllerRevision),
    /// None has it.
    Create(Box<ControllerRevision>),
}

/// A template as a revision holds it: the strategic merge patch that brings it back.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = template.clone();
    if let Some(meta) = &mut template.metadata {
        meta.creation_timestamp = None;
    }
    // A template is plain data: it always has a JSON form.
    let mut template = serde_json::to_value(&template).unwrap_or_else(|_| json!({}));
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The template that a revision holds.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let template = revision.data.as_ref()?.0.pointer("/spec/template")?;
    serde_json::from_value(template.clone()).ok()
}

fn hash(data: &Value, collisions: i32) -> String {
    let mut digest = Sha256::new();
    digest.update(data.to_string());
    digest.update(collisions.to_be_bytes());
    let bytes = digest.finalize();
    let letters = bytes.iter().take(10).map(|byte| SAFE[usize::from(*byte) % SAFE.len()]);
    letters.map(char::from).collect()
}

/// Whether two revisions hold the same template.
pub fn same(a: &ControllerRevision, b: &ControllerRevision) -> bool {
    a.data.as_ref().map(|data| &data.0) == b.data.as_ref().map(|data| &data.0)
}

/// In the order of their numbers.
pub fn sort(revisions: &mut [ControllerRevision]) {
    revisions.sort_by_key(|one| (one.revision, one.metadata.creation_timestamp.clone(), one.name_any()));
}

/// How the template gets its revision among those there are, which are sorted.
pub fn choose<K: Resource<DynamicType = ()>>(
    controller: &K,
    template: &PodTemplateSpec,
    revisions: &[ControllerRevision],
    collisions: Option<i32>,
) -> Step {
    let number = revisions.last().map_or(0, |last| last.revision).saturating_add(1);
    let new = create(controller, template, number, collisions.unwrap_or(0));
    match revisions.iter().rev().find(|one| same(one, &new)) {
        None => Step::Create(Box::new(new)),
        Some(found) if found.revision == number - 1 => Step::Newest(found.clone()),
        Some(found) => {
            let mut found = found.clone();
            found.revision = number;
            Step::Renumber(found)
        }
    }
}

fn create<K: Resource<DynamicType = ()>>(
    controller: &K,
    template: &PodTemplateSpec,
    number: i64,
    collisions: i32,
) -> ControllerRevision {
    let data = data(template);
    let hash = hash(&data, collisions);
    let mut labels: BTreeMap<_, _> = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone())
        .unwrap_or_default();
    labels.insert(POD_LABEL.to_owned(), hash.clone());
    let mut annotations = controller.meta().annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name(&controller.name_any(), &hash)),
            namespace: controller.meta().namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![owner::controller_reference(controller)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}

/// `controllers name`-`hash`, within the length of a name.
fn name(prefix: &str, hash: &str) -> String {
    let prefix: String = prefix.chars().take(223).collect();
    format!("{prefix}-{hash}")
}

/// The oldest revisions beyond the limit; those that are `live` do not count.
pub fn surplus(
    revisions: &[ControllerRevision],
    live: impl Fn(&ControllerRevision) -> bool,
    limit: i32,
) -> Vec<String> {
    let idle: Vec<_> = revisions.iter().filter(|one| !live(one)).collect();
    let excess = idle.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    idle.into_iter().take(excess).map(|one| one.name_any()).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::StatefulSet;

    use super::*;

    fn set() -> StatefulSet {
        serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "default", "uid": "s"}, "spec": {
            "selector": {}, "template": {}, "serviceName": "web"}}),
        )
        .unwrap()
    }

    fn of(image: &str) -> PodTemplateSpec {
        serde_json::from_value(
            json!({"metadata": {"labels": {"app": "web"}, "creationTimestamp": null},
            "spec": {"containers": [{"name": "c", "image": image}]}}),
        )
        .unwrap()
    }

    #[test]
    fn a_template_finds_its_revision_again_and_going_back_makes_it_the_newest() {
        let Step::Create(first) = choose(&set(), &of("a"), &[], None) else {
            panic!()
        };
        assert_eq!((first.revision, template(&first)), (1, Some(of_clean("a"))));
        let Step::Create(second) = choose(&set(), &of("b"), &[(*first).clone()], None) else {
            panic!()
        };
        assert_eq!(second.revision, 2);
        assert_ne!(second.name_any(), first.name_any());
        let both = [(*first).clone(), (*second).clone()];
        assert_eq!(choose(&set(), &of("b"), &both, None), Step::Newest(*second));
        let Step::Renumber(back) = choose(&set(), &of("a"), &both, None) else {
            panic!()
        };
        assert_eq!((back.name_any(), back.revision), (first.name_any(), 3));
        assert_eq!(surplus(&both, |one| one.revision == 2, 0), [first.name_any()]);
        assert!(surplus(&both, |_| false, 2).is_empty());
    }

    fn of_clean(image: &str) -> PodTemplateSpec {
        let mut template = of(image);
        template.metadata.as_mut().unwrap().creation_timestamp = None;
        template
    }

    #[test]
    fn a_collision_makes_another_name() {
        let name = |collisions| match choose(&set(), &of("a"), &[], collisions) {
            Step::Create(made) => made.name_any(),
            other => panic!("{other:?}"),
        };
        assert_ne!(name(Some(1)), name(None));
        assert_eq!(name(Some(0)), name(None));
    }
}
