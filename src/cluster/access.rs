//! What a cluster lets its user do, asked before a lab begins.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{
    Api, Client,
    api::{ApiResource, PostParams},
    core::DynamicObject,
    discovery::Scope,
};

use super::{
    ClusterError, ClusterHandle,
    manifests::{Kinds, LOCK_NAMESPACE, kinds, makes_more},
};

const AT_ONCE: usize = 16;

/// A right that a lab needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    verb: &'static str,
    group: String,
    resource: String,
    subresource: &'static str,
    namespace: Option<String>,
}

impl Right {
    fn told(&self) -> String {
        let mut what = self.resource.clone();
        if !self.subresource.is_empty() {
            what = format!("{what}/{}", self.subresource);
        }
        if !self.group.is_empty() {
            what = format!("{what}.{}", self.group);
        }
        match &self.namespace {
            Some(namespace) => format!("{} {what} in {namespace}", self.verb),
            None => format!("{} {what}", self.verb),
        }
    }
}

/// What a session does with the pods of a lab: look, probe, capture, read access logs, replace.
const WITH_PODS: &[(&str, &str)] = &[
    ("get", ""),
    ("list", ""),
    ("watch", ""),
    ("delete", ""),
    ("get", "log"),
    ("create", "exec"),
    ("patch", "ephemeralcontainers"),
];

/// Makes sure that the user may do what a lab of these objects, with its workloads in `namespace`, takes.
///
/// Source: `SelfSubjectAccessReview` of authorization.k8s.io/v1.
///
/// # Errors
/// [`ClusterError::Rights`] with everything that is missing, or what kept the API from answering.
pub async fn may(cluster: &ClusterHandle, objects: &[DynamicObject], namespace: &str) -> Result<(), ClusterError> {
    let needed = needed(cluster, objects, namespace).await?;
    let asked: Vec<Option<String>> = futures::stream::iter(needed.into_iter().map(|right| {
        let client = cluster.client.clone();
        async move { Ok::<_, ClusterError>((!allowed(&client, &right).await?).then(|| right.told())) }
    }))
    .buffered(AT_ONCE)
    .try_collect()
    .await?;
    let missing: Vec<String> = asked.into_iter().flatten().collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ClusterError::Rights {
        cluster: cluster.name.clone(),
        missing,
    })
}

async fn needed(
    cluster: &ClusterHandle,
    objects: &[DynamicObject],
    namespace: &str,
) -> Result<BTreeSet<Right>, ClusterError> {
    let kinds = kinds(&cluster.client).await?;
    let mut rights = BTreeSet::new();
    for object in objects {
        let Some((resource, can)) = kind_of(&kinds, objects, object)? else {
            continue;
        };
        for verb in ["get", "create", "update", "delete"] {
            rights.insert(Right {
                verb,
                group: resource.group.clone(),
                resource: resource.plural.clone(),
                subresource: "",
                namespace: object.metadata.namespace.clone().filter(|_| can == Scope::Namespaced),
            });
        }
    }
    if makes_more(objects) {
        for verb in ["get", "create", "delete"] {
            rights.insert(Right {
                verb,
                group: "coordination.k8s.io".to_owned(),
                resource: "leases".to_owned(),
                subresource: "",
                namespace: Some(LOCK_NAMESPACE.to_owned()),
            });
        }
    }
    let mut with_pods = BTreeSet::from([namespace.to_owned()]);
    with_pods.extend(super::manifests::namespaces(objects));
    for (namespace, (verb, subresource)) in with_pods
        .iter()
        .flat_map(|one| WITH_PODS.iter().map(move |right| (one, right)))
    {
        rights.insert(Right {
            verb,
            group: String::new(),
            resource: "pods".to_owned(),
            subresource,
            namespace: Some(namespace.clone()),
        });
    }
    Ok(rights)
}

/// The kind of an object, which the lab itself may define. None where it is defined by what is neither there nor in `objects`.
fn kind_of(
    kinds: &Kinds,
    objects: &[DynamicObject],
    object: &DynamicObject,
) -> Result<Option<(ApiResource, Scope)>, ClusterError> {
    let unknown = match kinds.resolve(object) {
        Ok((resource, can)) => return Ok(Some((resource, can.scope))),
        Err(error) => error,
    };
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let defined = objects.iter().find(|one| {
        let spec = &one.data["spec"];
        one.types
            .as_ref()
            .is_some_and(|types| types.kind == "CustomResourceDefinition")
            && spec["group"] == group
            && spec["names"]["kind"] == types.kind.as_str()
    });
    match defined {
        Some(definition) => {
            let spec = &definition.data["spec"];
            let scope = match spec["scope"].as_str() {
                Some("Cluster") => Scope::Cluster,
                _ => Scope::Namespaced,
            };
            let resource = ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version: types.api_version.clone(),
                kind: types.kind.clone(),
                plural: spec["names"]["plural"].as_str().unwrap_or_default().to_owned(),
            };
            Ok(Some((resource, scope)))
        }
        // One that is only named may be of a kind that comes later.
        None if object.data.is_null() => Ok(None),
        None => Err(unknown),
    }
}

async fn allowed(client: &Client, right: &Right) -> Result<bool, ClusterError> {
    let attributes = ResourceAttributes {
        verb: Some(right.verb.to_owned()),
        group: Some(right.group.clone()),
        resource: Some(right.resource.clone()),
        subresource: Some(right.subresource.to_owned()).filter(|name| !name.is_empty()),
        namespace: right.namespace.clone(),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews
        .create(&PostParams::default(), &review)
        .await
        .map_err(|source| ClusterError::Api {
            what: "ask what this user may do".to_owned(),
            source: Box::new(source),
        })?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
