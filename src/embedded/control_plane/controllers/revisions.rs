//! Keeping the ControllerRevisions of a StatefulSet or DaemonSet: the applying half of [`super::revision`].

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    Context, owner,
    revision::{self, Step},
};
use crate::write::unless_gone;

/// What came of it.
pub enum Revised {
    /// All revisions of the controller, sorted; the last one holds its template.
    Chosen(Vec<ControllerRevision>),
    /// The name is taken by another template: the collision count must grow.
    Collided,
}

/// Makes the template of a controller its newest revision.
pub async fn settle<K: Resource<DynamicType = ()>>(
    context: &Context,
    controller: &K,
    template: &PodTemplateSpec,
    collisions: Option<i32>,
) -> Result<Revised, kube::Error> {
    let cache = &context.informers.controller_revisions;
    let namespace = controller.meta().namespace.clone().unwrap_or_default();
    let api: Api<ControllerRevision> = Api::namespaced(context.client.clone(), &namespace);
    let held = || {
        let all = cache.in_namespace(&namespace).into_iter();
        let mut held: Vec<ControllerRevision> = all
            .filter(|one| owner::controls(controller, &one.metadata) && one.metadata.deletion_timestamp.is_none())
            .map(|one| one.as_ref().clone())
            .collect();
        revision::sort(&mut held);
        held
    };
    match revision::choose(controller, template, &held(), collisions) {
        Step::Newest(_) => {}
        Step::Renumber(found) => {
            let patch = json!({"metadata": {"uid": found.uid()}, "revision": found.revision});
            let name = found.name_any();
            let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            cache.wrote(patched);
        }
        Step::Create(new) => match api.create(&PostParams::default(), &new).await {
            Ok(made) => cache.wrote(made),
            Err(kube::Error::Api(answer)) if answer.is_already_exists() => {
                let Some(existing) = api.get_opt(&new.name_any()).await? else {
                    return Box::pin(settle(context, controller, template, collisions)).await;
                };
                if !owner::controls(controller, &existing.metadata) || !revision::same(&existing, &new) {
                    return Ok(Revised::Collided);
                }
                cache.wrote(existing);
            }
            Err(error) => return Err(error),
        },
    }
    Ok(Revised::Chosen(held()))
}

/// Deletes revisions by name.
pub async fn delete(context: &Context, namespace: &str, names: &[String]) -> Result<(), kube::Error> {
    let api: Api<ControllerRevision> = Api::namespaced(context.client.clone(), namespace);
    for name in names {
        unless_gone(api.delete(name, &DeleteParams::default()).await)?;
    }
    Ok(())
}
