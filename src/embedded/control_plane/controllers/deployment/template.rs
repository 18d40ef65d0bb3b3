//! Pod templates: whether two are the same, and the hash that names a revision.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::PodTemplateSpec,
};
use sha2::{Digest, Sha256};

/// The label that tells the pods of one revision from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";

/// Letters that spell no words, as Kubernetes' `rand.SafeEncodeString` takes them.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

fn bare(template: &PodTemplateSpec) -> serde_json::Value {
    let mut template = template.clone();
    if let Some(meta) = &mut template.metadata {
        meta.creation_timestamp = None;
        if let Some(labels) = &mut meta.labels {
            labels.remove(HASH_LABEL);
        }
    }
    // A template is plain data: it always has a JSON form.
    serde_json::to_value(&template).unwrap_or_default()
}

/// Whether a ReplicaSet has the Deployment's template.
pub fn same(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let of_set = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let wanted = deployment.spec.as_ref().map(|spec| &spec.template);
    matches!((of_set, wanted), (Some(a), Some(b)) if bare(a) == bare(b))
}

/// The hash of a template; `collisions` makes another one where a name is taken.
pub fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut digest = Sha256::new();
    digest.update(bare(template).to_string());
    if let Some(collisions) = collisions {
        digest.update(collisions.to_be_bytes());
    }
    digest
        .finalize()
        .iter()
        .take(10)
        .map(|byte| char::from(SAFE[usize::from(*byte) % SAFE.len()]))
        .collect()
}
