//! What a lab makes beyond its namespace: objects of the whole cluster, and other namespaces.

use kube::core::{DynamicObject, TypeMeta};

use super::{built_in, layered};
use crate::{
    cluster::ClusterError,
    lab::{Lab, Makes},
};

/// The kinds of Kubernetes whose objects belong to no namespace, with the version that every cluster serves.
const CLUSTERS: &[(&str, &str)] = &[
    ("v1", "Namespace"),
    ("v1", "Node"),
    ("v1", "PersistentVolume"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("apiregistration.k8s.io/v1", "APIService"),
    ("certificates.k8s.io/v1", "CertificateSigningRequest"),
    ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration"),
    ("networking.k8s.io/v1", "IngressClass"),
    ("node.k8s.io/v1", "RuntimeClass"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("scheduling.k8s.io/v1", "PriorityClass"),
    ("storage.k8s.io/v1", "CSIDriver"),
    ("storage.k8s.io/v1", "CSINode"),
    ("storage.k8s.io/v1", "StorageClass"),
    ("storage.k8s.io/v1", "VolumeAttachment"),
];

/// Whether a manifest of this kind that names no namespace belongs to the whole cluster. Of a custom resource only its
/// definition says that; one that names no namespace is taken for such a one.
pub fn is_clusters(types: &TypeMeta) -> bool {
    let known = CLUSTERS.iter().any(|(_, kind)| *kind == types.kind);
    let group = types.api_version.split_once('/').map_or("", |(group, _)| group);
    // Groups of Kubernetes itself end so, or have no dot.
    known || (group.contains('.') && !group.ends_with(".k8s.io"))
}

/// What a lab says it makes beyond its namespace, as its manifests have it: namespaces and objects of the whole cluster.
///
/// # Errors
/// A layer that there is not: a mistake that reading the lab finds.
pub fn beyond(lab: &Lab) -> Result<Vec<DynamicObject>, ClusterError> {
    let mut objects = Vec::new();
    for makes in &lab.makes {
        match makes {
            Makes::Layer(layer) => {
                let found = built_in(layer).unwrap_or_else(|| {
                    Err(ClusterError::Manifest {
                        file: layer.clone(),
                        reason: "there is no such topology".to_owned(),
                    })
                })?;
                objects.extend(found.into_iter().filter(|object| {
                    let types = object.types.as_ref();
                    let own = object.metadata.name.as_deref() == Some(lab.namespace.as_str())
                        && types.is_some_and(|types| types.kind == "Namespace");
                    object.metadata.namespace.is_none() && types.is_some_and(is_clusters) && !own
                }));
            }
            Makes::Object {
                api_version,
                kind,
                name,
            } => {
                let known = CLUSTERS
                    .iter()
                    .find(|(_, one)| one == kind)
                    .map(|(version, _)| *version);
                let mut object = DynamicObject {
                    types: Some(TypeMeta {
                        api_version: api_version.as_deref().or(known).unwrap_or("v1").to_owned(),
                        kind: kind.clone(),
                    }),
                    metadata: kube::core::ObjectMeta::default(),
                    data: serde_json::Value::Null,
                };
                object.metadata.name = Some(name.clone());
                objects.push(object);
            }
        }
    }
    Ok(layered(objects))
}

/// The first few of some objects, as messages name them.
pub fn told(objects: &[DynamicObject]) -> String {
    let names = objects.iter().map(super::apply::name_of);
    let some: Vec<String> = names.take(3).collect();
    let more = if objects.len() > some.len() { ", …" } else { "" };
    format!("{}{more}", some.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_whole_cluster_is_told_by_its_kind() {
        for (api_version, kind, expected) in [
            ("v1", "Namespace", true),
            ("v1", "Pod", false),
            ("v1", "ClusterRole", true),
            ("apps/v1", "Deployment", false),
            ("networking.k8s.io/v1", "NetworkPolicy", false),
            ("storage.k8s.io/v1", "CSIDriver", true),
            ("spire.spiffe.io/v1alpha1", "ClusterSPIFFEID", true),
        ] {
            let types = TypeMeta {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
            };
            assert_eq!(is_clusters(&types), expected, "{kind}");
        }
    }
}
