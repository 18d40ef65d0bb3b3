//! What ztlab changes in a student's place: in the cluster through its API, and in the work directory. Nothing runs on
//! the host as a program.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Pod, Secret},
    },
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
    core::TypeMeta,
    discovery::{Discovery, Scope, pinned_kind},
    runtime::wait::{await_condition, conditions},
};
use serde_json::{Value, json};

use super::world::WorldError;
use crate::{
    check::{self, Scene, work},
    cluster::manifests::{self, Transform},
    lab::{Applied, Authority, Deed, Fill, Kept, Lab, Named, Says, Source, WorkPath},
    probe::{
        TlsIdentity,
        pki::{self, Recipe, Role},
    },
};

/// Who writes, in `managedFields`: not ztlab itself, which sets up what a student begins with.
const STUDENT: &str = "ztlab-student";
/// Who sets up what a student begins with.
const ZTLAB: &str = "ztlab";
/// How long the cluster may take for what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// What `kubectl rollout restart` writes into a pod template.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// Where things are done.
pub(super) struct Place {
    pub client: Client,
    /// The lab's namespace.
    pub namespace: String,
    /// The work directory.
    pub work: PathBuf,
    /// What manifests become on this ground.
    pub transform: Transform,
}

/// Does it, and waits until it is so.
pub(super) async fn perform(place: &Place, lab: &Lab, deed: &Deed) -> Result<(), WorldError> {
    match deed {
        Deed::Apply(applied) => apply(place, manifests_of(lab, applied)?).await,
        Deed::Delete(named) => delete(place, named).await,
        Deed::Label { source, set, remove } => label(place, source, set, remove).await,
        Deed::Patch { object, patch } => patch_object(place, object, patch).await,
        Deed::Scale { deployment, replicas } => {
            let patch = json!({ "spec": { "replicas": replicas } });
            patch_deployment(place, deployment, &patch).await
        }
        Deed::Restart(deployment) => {
            let now = jiff::Timestamp::now().to_string();
            let template = json!({ "metadata": { "annotations": { RESTARTED: now } } });
            patch_deployment(place, deployment, &json!({ "spec": { "template": template } })).await
        }
        Deed::Ready(deployment) => rolled_out(place, deployment).await,
        Deed::RunPod {
            name,
            image,
            labels,
            run,
        } => run_pod(place, name, image, labels, run).await,
        Deed::Certificate { out, says, authority } => certificate(place, out, says, authority.as_ref()),
        Deed::Keep {
            kind,
            name,
            files,
            texts,
        } => keep(place, *kind, name, files, texts).await,
        Deed::File { path, text } => write(place, path, text.as_bytes()),
    }
}

/// What a `${…}` stands for that is no leak.
pub(super) async fn fill(scene: &Scene, fill: &Fill) -> Result<String, WorldError> {
    match fill {
        Fill::Leak { kind, .. } => Err(WorldError::new(format!(
            "nothing was captured that `{kind}` could stand for"
        ))),
        Fill::Address(source) => {
            let pod = check::running_pod(&scene.client, &scene.namespace, source).await?;
            let address = pod.status.and_then(|status| status.pod_ip).filter(|ip| !ip.is_empty());
            address.ok_or_else(|| WorldError::new(format!("{source} has no address yet")))
        }
        Fill::Store(store) => {
            let bytes = check::read_store(scene, store).await?;
            let bytes = bytes.ok_or_else(|| WorldError::new(format!("{store} is not there")))?;
            let text = String::from_utf8(bytes).map_err(|_| WorldError::new(format!("{store} is no text")))?;
            Ok(text.trim_end_matches('\n').to_owned())
        }
    }
}

fn api_error(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> WorldError {
    let doing = doing.into();
    move |error| WorldError::new(format!("{doing}: {error}"))
}

fn manifests_of(lab: &Lab, applied: &Applied) -> Result<Vec<DynamicObject>, WorldError> {
    match applied {
        Applied::Files(files) => {
            let mut objects = Vec::new();
            for file in files {
                let text = lab
                    .files
                    .get(file)
                    .ok_or_else(|| WorldError::new(format!("there is no file `{file}` beside the lab")))?;
                objects.extend(manifests::parse(file, text)?);
            }
            Ok(objects)
        }
        Applied::Layer(layer) => match manifests::built_in(layer) {
            Some(found) => Ok(found?),
            None => Err(WorldError::new(format!("there is no topology `{layer}`"))),
        },
        Applied::Text(text) => Ok(manifests::parse("the manifest", text)?),
    }
}

/// Applies manifests as a student's `kubectl apply` of changed ones would: what an earlier apply wrote and these no
/// longer have goes.
async fn apply(place: &Place, objects: Vec<DynamicObject>) -> Result<(), WorldError> {
    let mut objects = place.transform.objects(objects);
    if let Some(foreign) = place.transform.foreign(&objects) {
        return Err(WorldError::new(format!(
            "the namespace {foreign} is not the lab's, and nothing is written into it on a cluster that others use too"
        )));
    }
    let first = |object: &DynamicObject| {
        let kind = object.types.as_ref().map(|types| types.kind.as_str());
        !matches!(kind, Some("Namespace" | "CustomResourceDefinition"))
    };
    objects.sort_by_key(first);
    let mut kinds: BTreeMap<(String, String), (ApiResource, Scope)> = BTreeMap::new();
    let mut deployments = Vec::new();
    for object in &mut objects {
        let types = object.types.clone().unwrap_or_default();
        let key = (types.api_version.clone(), types.kind.clone());
        if !kinds.contains_key(&key) {
            kinds.insert(key.clone(), kind_of(&place.client, &types).await?);
        }
        let (resource, scope) = &kinds[&key];
        let api = api(place, resource, scope, object.namespace());
        if *scope == Scope::Namespaced && object.metadata.namespace.is_none() {
            object.metadata.namespace = Some(place.namespace.clone());
        }
        apply_one(&api, object).await?;
        if types.kind == "Deployment" && object.metadata.namespace.as_deref() == Some(place.namespace.as_str()) {
            deployments.push(object.name_any());
        }
    }
    for deployment in deployments {
        rolled_out(place, &deployment).await?;
    }
    Ok(())
}

async fn apply_one(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<(), WorldError> {
    let name = object.name_any();
    let doing = || {
        let kind = object.types.as_ref().map(|types| types.kind.as_str());
        format!("apply the {} {name}", kind.unwrap_or("object"))
    };
    // The status of an object is written while its fields are looked at: whoever comes second looks again.
    while let Some(mut there) = api.get_opt(&name).await.map_err(api_error(doing()))? {
        match take_over(api, &mut there).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            taken => {
                taken.map_err(api_error(doing()))?;
                break;
            }
        }
    }
    let params = PatchParams::apply(STUDENT).force();
    let patched = api.patch(&name, &params, &Patch::Apply(object)).await;
    patched.map(drop).map_err(api_error(doing()))
}

/// Makes what ztlab applied the student's, so that applying anew takes away what is no longer wanted.
async fn take_over(api: &Api<DynamicObject>, there: &mut DynamicObject) -> Result<(), kube::Error> {
    let mut taken = false;
    for entry in there.metadata.managed_fields.iter_mut().flatten() {
        if entry.manager.as_deref() == Some(ZTLAB) {
            entry.manager = Some(STUDENT.to_owned());
            entry.operation = Some("Apply".to_owned());
            taken = true;
        }
    }
    if !taken {
        return Ok(());
    }
    let patch = json!({ "metadata": {
        "managedFields": there.metadata.managed_fields,
        "resourceVersion": there.metadata.resource_version,
    } });
    let params = PatchParams {
        field_manager: Some(STUDENT.to_owned()),
        ..PatchParams::default()
    };
    api.patch(&there.name_any(), &params, &Patch::Merge(patch))
        .await
        .map(drop)
}

async fn kind_of(client: &Client, types: &TypeMeta) -> Result<(ApiResource, Scope), WorldError> {
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let kind = GroupVersionKind::gvk(group, version, &types.kind);
    let found = pinned_kind(client, &kind).await;
    found
        .map(|(resource, can)| (resource, can.scope))
        .map_err(api_error(format!("ask the cluster for the kind {}", types.kind)))
}

fn api(place: &Place, resource: &ApiResource, scope: &Scope, namespace: Option<String>) -> Api<DynamicObject> {
    match scope {
        Scope::Cluster => Api::all_with(place.client.clone(), resource),
        Scope::Namespaced => {
            let namespace = namespace.unwrap_or_else(|| place.namespace.clone());
            Api::namespaced_with(place.client.clone(), &namespace, resource)
        }
    }
}

/// The API of an object that a lab names.
async fn api_of(place: &Place, named: &Named) -> Result<Api<DynamicObject>, WorldError> {
    let (resource, scope) = match &named.api_version {
        Some(version) => {
            let types = TypeMeta {
                api_version: version.clone(),
                kind: named.kind.clone(),
            };
            kind_of(&place.client, &types).await?
        }
        None => found_kind(&place.client, &named.kind).await?,
    };
    Ok(api(place, &resource, &scope, None))
}

/// A kind by its name alone: that of the core group, else the only one there is.
async fn found_kind(client: &Client, kind: &str) -> Result<(ApiResource, Scope), WorldError> {
    let discovery = Discovery::new(client.clone());
    let discovery = discovery
        .run()
        .await
        .map_err(api_error("ask the cluster which kinds it has"))?;
    let mut found: Vec<(ApiResource, Scope)> = discovery
        .groups()
        .flat_map(|group| group.recommended_resources())
        .filter(|(resource, _)| resource.kind == kind)
        .map(|(resource, can)| (resource, can.scope))
        .collect();
    found.sort_by_key(|(resource, _)| !resource.group.is_empty());
    match found.as_slice() {
        [(first, scope)] => Ok((first.clone(), scope.clone())),
        [(first, scope), ..] if first.group.is_empty() => Ok((first.clone(), scope.clone())),
        [] => Err(WorldError::new(format!("the cluster does not know the kind {kind}"))),
        _ => Err(WorldError::new(format!("there are several kinds {kind}")).hint("say which with `apiVersion`")),
    }
}

async fn delete(place: &Place, named: &Named) -> Result<(), WorldError> {
    let Named { kind, name, .. } = named;
    let doing = || format!("delete the {kind} {name}");
    let api = api_of(place, named).await?;
    let Some(there) = api.get_opt(name).await.map_err(api_error(doing()))? else {
        return Ok(());
    };
    let uid = there.metadata.uid.unwrap_or_default();
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        deleted => deleted.map(drop).map_err(api_error(doing()))?,
    }
    let gone = await_condition(api, name, conditions::is_deleted(&uid));
    match tokio::time::timeout(PATIENCE, gone).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(WorldError::new(format!("{}: {error}", doing()))),
        Err(_) => Err(late(&doing())),
    }
}

fn late(doing: &str) -> WorldError {
    WorldError::new(format!(
        "{doing}: it did not come to an end within {} s",
        PATIENCE.as_secs()
    ))
    .hint("`kubectl get pods` and `kubectl get events` tell what it waits for")
}

async fn label(
    place: &Place,
    source: &Source,
    set: &BTreeMap<String, String>,
    remove: &[String],
) -> Result<(), WorldError> {
    let pod = check::running_pod(&place.client, &place.namespace, source).await?;
    let mut labels: serde_json::Map<String, Value> = set
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    labels.extend(remove.iter().map(|key| (key.clone(), Value::Null)));
    let api: Api<Pod> = Api::namespaced(place.client.clone(), &place.namespace);
    let params = PatchParams {
        field_manager: Some(STUDENT.to_owned()),
        ..PatchParams::default()
    };
    let patch = json!({ "metadata": { "labels": labels } });
    let patched = api.patch(&pod.name_any(), &params, &Patch::Merge(patch)).await;
    patched
        .map(drop)
        .map_err(api_error(format!("label the pod {}", pod.name_any())))
}

async fn patch_object(place: &Place, named: &Named, patch: &Value) -> Result<(), WorldError> {
    let Named { kind, name, .. } = named;
    if kind == "Deployment" {
        return patch_deployment(place, name, patch).await;
    }
    let api = api_of(place, named).await?;
    let params = PatchParams {
        field_manager: Some(STUDENT.to_owned()),
        ..PatchParams::default()
    };
    let strategic = api.patch(name, &params, &Patch::Strategic(patch)).await;
    let patched = match strategic {
        // Custom resources take no strategic merge patch.
        Err(kube::Error::Api(status)) if status.code == 415 => api.patch(name, &params, &Patch::Merge(patch)).await,
        patched => patched,
    };
    patched.map(drop).map_err(api_error(format!("patch the {kind} {name}")))
}

async fn patch_deployment(place: &Place, name: &str, patch: &Value) -> Result<(), WorldError> {
    let api: Api<Deployment> = Api::namespaced(place.client.clone(), &place.namespace);
    let params = PatchParams {
        field_manager: Some(STUDENT.to_owned()),
        ..PatchParams::default()
    };
    api.patch(name, &params, &Patch::Strategic(patch))
        .await
        .map_err(api_error(format!("patch the Deployment {name}")))?;
    rolled_out(place, name).await
}

/// Waits until a Deployment has all of its replicas, none of them of an older template, and none left to go.
async fn rolled_out(place: &Place, name: &str) -> Result<(), WorldError> {
    let doing = format!("wait for the rollout of {name}");
    let api: Api<Deployment> = Api::namespaced(place.client.clone(), &place.namespace);
    let rolled = await_condition(api, name, |deployment: Option<&Deployment>| {
        deployment.is_none_or(is_rolled_out)
    });
    let selector = match tokio::time::timeout(PATIENCE, rolled).await {
        Ok(Ok(Some(deployment))) => deployment.spec.and_then(|spec| spec.selector.match_labels),
        Ok(Ok(None)) => return Err(WorldError::new(format!("there is no Deployment {name}"))),
        Ok(Err(error)) => return Err(WorldError::new(format!("{doing}: {error}"))),
        Err(_) => return Err(late(&doing)),
    };
    // The pods of before may still run while they end; who asks the workload may be answered by one of them.
    let labels: Vec<String> = selector
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), &place.namespace);
    let params = kube::api::ListParams::default().labels(&labels.join(","));
    let list = pods.list(&params).await.map_err(api_error(doing.as_str()))?;
    for pod in list.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()) {
        let uid = pod.uid().unwrap_or_default();
        let gone = await_condition(pods.clone(), &pod.name_any(), conditions::is_deleted(&uid)).await;
        gone.map_err(|error| WorldError::new(format!("{doing}: {error}")))?;
    }
    Ok(())
}

fn is_rolled_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else {
        return false;
    };
    let count = |count: Option<i32>| count.unwrap_or(0);
    status.observed_generation >= deployment.metadata.generation
        && count(status.updated_replicas) == wanted
        && count(status.replicas) == wanted
        && count(status.available_replicas) == wanted
}

async fn run_pod(
    place: &Place,
    name: &str,
    image: &str,
    labels: &BTreeMap<String, String>,
    run: &[String],
) -> Result<(), WorldError> {
    let doing = format!("run the pod {name}");
    let mut container = json!({ "name": "main", "image": image });
    if !run.is_empty() {
        container["command"] = json!(run);
    }
    let pod: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": place.namespace, "labels": labels },
        "spec": { "containers": [container], "terminationGracePeriodSeconds": 1 },
    }))
    .map_err(|error| WorldError::new(format!("{doing}: {error}")))?;
    apply(place, vec![pod]).await?;
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), &place.namespace);
    let running = await_condition(pods, name, |pod: Option<&Pod>| {
        let status = pod.and_then(|pod| pod.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    });
    match tokio::time::timeout(PATIENCE, running).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(WorldError::new(format!("{doing}: {error}"))),
        Err(_) => Err(late(&doing)),
    }
}

fn certificate(place: &Place, out: &WorkPath, says: &Says, authority: Option<&WorkPath>) -> Result<(), WorldError> {
    let recipe = Recipe {
        name: says.name.clone(),
        names: says.names.clone(),
        days: says.days,
        expired: says.expired,
        role: match says.authority {
            Some(Authority { flag, path_length }) => Role::Authority { flag, path_length },
            None => Role::Leaf {
                server: says.server,
                client: says.client,
            },
        },
    };
    let made = match authority {
        None => pki::self_signed(&recipe),
        Some(base) => {
            let authority = TlsIdentity {
                chain: read(place, &base.with(".crt"))?,
                key: read(place, &base.with(".key"))?,
            };
            pki::signed_by(&recipe, &authority)
        }
    };
    let made = made.map_err(|why| WorldError::new(format!("make the certificate {out}: {why}")))?;
    write(place, &out.with(".key"), made.key.as_bytes())?;
    write(place, &out.with(".crt"), made.chain.as_bytes())
}

fn bytes(place: &Place, path: &WorkPath) -> Result<Vec<u8>, WorldError> {
    let found = work::read(&place.work, path);
    let found = found.map_err(|error| WorldError::new(format!("read the file {path}: {error}")))?;
    found.ok_or_else(|| WorldError::new(format!("there is no file {path} in the work directory")))
}

fn read(place: &Place, path: &WorkPath) -> Result<String, WorldError> {
    String::from_utf8(bytes(place, path)?).map_err(|_| WorldError::new(format!("the file {path} is no text")))
}

fn write(place: &Place, path: &WorkPath, bytes: &[u8]) -> Result<(), WorldError> {
    work::write(&place.work, path, bytes).map_err(|error| WorldError::new(format!("write the file {path}: {error}")))
}

async fn keep(
    place: &Place,
    kind: Kept,
    name: &str,
    files: &BTreeMap<String, WorkPath>,
    texts: &BTreeMap<String, String>,
) -> Result<(), WorldError> {
    let mut data: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (key, path) in files {
        data.insert(key.clone(), bytes(place, path)?);
    }
    for (key, text) in texts {
        data.insert(key.clone(), text.clone().into_bytes());
    }
    let tls = data.contains_key("tls.crt") && data.contains_key("tls.key");
    let meta = kube::core::ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(place.namespace.clone()),
        ..Default::default()
    };
    let object = match kind {
        Kept::Secret => serde_json::to_value(Secret {
            metadata: meta,
            type_: Some(if tls { "kubernetes.io/tls" } else { "Opaque" }.to_owned()),
            data: Some(data.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect()),
            ..Secret::default()
        }),
        Kept::ConfigMap => {
            let mut map = ConfigMap {
                metadata: meta,
                ..ConfigMap::default()
            };
            for (key, bytes) in data {
                match String::from_utf8(bytes) {
                    Ok(text) => {
                        map.data.get_or_insert_default().insert(key, text);
                    }
                    Err(error) => {
                        let bytes = ByteString(error.into_bytes());
                        map.binary_data.get_or_insert_default().insert(key, bytes);
                    }
                }
            }
            serde_json::to_value(map)
        }
    };
    let object = object.and_then(serde_json::from_value::<DynamicObject>);
    let object = object.map_err(|error| WorldError::new(format!("make {name}: {error}")))?;
    replace_if_typed_otherwise(place, kind, name, tls).await?;
    apply(place, vec![object]).await
}

/// A Secret's type cannot be changed: one of another type makes room.
async fn replace_if_typed_otherwise(place: &Place, kind: Kept, name: &str, tls: bool) -> Result<(), WorldError> {
    if kind != Kept::Secret {
        return Ok(());
    }
    let api: Api<Secret> = Api::namespaced(place.client.clone(), &place.namespace);
    let there = api
        .get_opt(name)
        .await
        .map_err(api_error(format!("read the Secret {name}")))?;
    let wanted = if tls { "kubernetes.io/tls" } else { "Opaque" };
    match there {
        Some(secret) if secret.type_.as_deref().unwrap_or("Opaque") != wanted => {
            let named = Named {
                api_version: Some("v1".to_owned()),
                kind: "Secret".to_owned(),
                name: name.to_owned(),
            };
            delete(place, &named).await
        }
        _ => Ok(()),
    }
}
