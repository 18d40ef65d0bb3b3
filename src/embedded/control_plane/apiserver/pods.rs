//! What only pods have: admission, binding, logs, exec, attach and port-forward.
//!
//! Source: Kubernetes' "ServiceAccount admission controller", "Pod quality of service".

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{
    ApiServer, Body,
    dispatch::Call,
    meta, priority, reply,
    rest::{Part, WriteOptions, decode_as},
    status::ApiError,
    streams,
};
use crate::{
    control_plane::{api::Resource, storage::CollectionKey},
    kubelet_api::{ExecOptions, LogOptions},
};

const TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Completes a new pod: its service account and that account's token, tolerations, quality of service, phase.
///
/// # Errors
/// 403 when the service account or the priority class is not there.
pub fn admit(server: &ApiServer, resource: &Resource, namespace: &str, object: &mut Value) -> Result<(), ApiError> {
    let name = meta::name(object).to_owned();
    let fields = meta::fields(object);
    let spec = meta::child(fields, "spec");
    let account = spec
        .get("serviceAccountName")
        .and_then(Value::as_str)
        .filter(|account| !account.is_empty());
    let account = account.unwrap_or("default").to_owned();
    let key = CollectionKey::new("", "serviceaccounts").object(namespace, &account);
    let found = server.store().get(&key).ok_or_else(|| {
        let why =
            format!("error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found");
        ApiError::forbidden(resource, &name, why)
    })?;
    spec.insert("serviceAccountName".to_owned(), json!(account));
    spec.insert("serviceAccount".to_owned(), json!(account));
    let automount = spec
        .get("automountServiceAccountToken")
        .and_then(Value::as_bool)
        .or_else(|| found.get("automountServiceAccountToken").and_then(Value::as_bool));
    if automount.unwrap_or(true) {
        mount_token(spec);
    }
    if spec.get("imagePullSecrets").is_none_or(Value::is_null) {
        meta::set(spec, "imagePullSecrets", found.get("imagePullSecrets").cloned());
    }
    tolerate_short_outages(spec);
    priority::admit_pod(server, resource, &name, spec)?;
    begin(object);
    Ok(())
}

/// Gives a new pod the status that it begins with.
pub fn begin(object: &mut Value) {
    let fields = meta::fields(object);
    let class = quality_of_service(meta::child(fields, "spec"));
    fields.insert("status".to_owned(), json!({"phase": "Pending", "qosClass": class}));
}

fn mount_token(spec: &mut serde_json::Map<String, Value>) {
    let volume = meta::generate_name("kube-api-access-");
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let mounts = meta::fields(container)
                .entry("volumeMounts")
                .or_insert_with(|| json!([]));
            if mounts.is_null() {
                *mounts = json!([]);
            }
            let Some(mounts) = mounts.as_array_mut() else {
                continue;
            };
            if mounts
                .iter()
                .any(|mount| mount.get("mountPath").and_then(Value::as_str) == Some(TOKEN_DIRECTORY))
            {
                continue;
            }
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_DIRECTORY}));
            used = true;
        }
    }
    if !used {
        return;
    }
    let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
    if volumes.is_null() {
        *volumes = json!([]);
    }
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}

fn tolerate_short_outages(spec: &mut serde_json::Map<String, Value>) {
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    if tolerations.is_null() {
        *tolerations = json!([]);
    }
    let Some(tolerations) = tolerations.as_array_mut() else {
        return;
    };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = tolerations.iter().any(|toleration| {
            let field = |name: &str| toleration.get(name).and_then(Value::as_str).unwrap_or_default();
            (field("key") == key || field("key").is_empty()) && matches!(field("effect"), "" | "NoExecute")
        });
        if !covered {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

fn quality_of_service(spec: &serde_json::Map<String, Value>) -> &'static str {
    let containers = ["containers", "initContainers"]
        .into_iter()
        .filter_map(|list| spec.get(list).and_then(Value::as_array))
        .flatten();
    let (mut any, mut all) = (false, true);
    for container in containers {
        for resource in ["cpu", "memory"] {
            let of = |kind: &str| {
                container
                    .pointer(&format!("/resources/{kind}/{resource}"))
                    .filter(|value| !value.is_null())
            };
            let (request, limit) = (of("requests"), of("limits"));
            any |= request.is_some() || limit.is_some();
            all &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Answers `pods/binding` and `bindings`: puts a pod on a node.
///
/// # Errors
/// 400, 404, 409.
pub fn bind(call: &Call, pod: Option<&str>) -> Result<Response<Body>, ApiError> {
    let binding = decode_as(call.content_type(), &call.body)?.value;
    // As in Kubernetes, `managedFields` stays as it is: what a binding sets is nobody's.
    let options = WriteOptions {
        applying: true,
        ..WriteOptions::of(call)?
    };
    let name = pod.unwrap_or_else(|| meta::name(&binding)).to_owned();
    let node = binding
        .pointer("/target/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if node.is_empty() {
        return Err(ApiError::bad_request("Binding.target.name: Required value"));
    }
    let pods = call
        .server
        .registry()
        .find("", "v1", "pods")
        .cloned()
        .ok_or_else(ApiError::no_such_path)?;
    let now = meta::now();
    call.server.update(
        &pods,
        call.namespace(),
        &name,
        Part::Binding,
        &options,
        &mut |current| {
            if meta::is_terminating(current) {
                let why = format!("pod {name} is being deleted, cannot be assigned to a host");
                return Err(ApiError::conflict(&pods, &name, why));
            }
            let assigned = current
                .pointer("/spec/nodeName")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if !assigned.is_empty() {
                let why = format!("pod {name} is already assigned to node \"{assigned}\"");
                return Err(ApiError::conflict(&pods, &name, why));
            }
            let mut next = current.clone();
            meta::child(meta::fields(&mut next), "spec").insert("nodeName".to_owned(), json!(node));
            let status = meta::child(meta::fields(&mut next), "status");
            let conditions = status.entry("conditions").or_insert_with(|| json!([]));
            if let Some(conditions) = conditions.as_array_mut() {
                conditions.retain(|condition| condition.get("type").and_then(Value::as_str) != Some("PodScheduled"));
                conditions.push(
                    json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now}),
                );
            }
            Ok(next)
        },
    )?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(reply::json(StatusCode::CREATED, &status))
}

/// The container that a request means.
///
/// # Errors
/// 400 when the pod has none of that name, or several and none was named.
fn container(pod: &Value, name: &str, wanted: Option<&str>) -> Result<Option<String>, ApiError> {
    let names = |list: &str| -> Vec<String> {
        let list = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(|container| Some(container.get("name")?.as_str()?.to_owned()))
            .collect()
    };
    let (main, init, ephemeral) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    match wanted {
        Some(wanted)
            if [&main, &init, &ephemeral]
                .iter()
                .any(|list| list.iter().any(|name| name == wanted)) =>
        {
            Ok(Some(wanted.to_owned()))
        }
        Some(wanted) => Err(ApiError::bad_request(format!(
            "container {wanted} is not valid for pod {name}"
        ))),
        None => match main.as_slice() {
            [only] => Ok(Some(only.clone())),
            [] => Ok(None),
            many => {
                let mut message = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    many.join(" ")
                );
                if !init.is_empty() {
                    message += &format!(" or one of the init containers: [{}]", init.join(" "));
                }
                Err(ApiError::bad_request(message))
            }
        },
    }
}

/// Answers `pods/log`.
///
/// # Errors
/// 400, 404, 503, and what the kubelet refuses.
pub async fn log(call: &Call) -> Result<Response<Body>, ApiError> {
    let name = call.name()?;
    let pod = call.server.read(&call.resource, call.namespace(), name)?;
    let query = &call.query;
    let since_time = query.get("sinceTime").map(|text| {
        text.parse::<jiff::Timestamp>()
            .map_err(|error| ApiError::bad_request(format!("sinceTime: {error}")))
    });
    let options = LogOptions {
        container: container(&pod, name, query.get("container"))?,
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        tail_lines: query.number("tailLines")?,
        since_seconds: query.number("sinceSeconds")?,
        since_time: since_time.transpose()?,
        limit_bytes: query.number("limitBytes")?,
    };
    let assigned = pod
        .pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if assigned.is_empty() {
        // What kube-apiserver says of a pod without a host is an empty log.
        return Ok(reply::with_type(StatusCode::OK, "text/plain", ""));
    }
    let chunks = call.server.kubelet()?.logs(call.namespace(), name, options).await?;
    let mut response = reply::stream("text/plain", chunks);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

/// Whether to start a program or join the one that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// `pods/exec`.
    Exec,
    /// `pods/attach`.
    Attach,
}

/// The node that a request for a pod's streams goes to must be there, and know the pod.
fn assigned(pod: &Value, name: &str) -> Result<(), ApiError> {
    let node = pod.pointer("/spec/nodeName").and_then(Value::as_str);
    if node.unwrap_or_default().is_empty() {
        return Err(ApiError::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    }
    Ok(())
}

/// Answers `pods/exec` and `pods/attach`.
///
/// # Errors
/// 400 for a request that asks for no stream, 404, 503, and what the kubelet refuses.
pub async fn exec(mut call: Call, join: Join) -> Result<Response<Body>, ApiError> {
    let name = call.name()?.to_owned();
    let namespace = call.namespace().to_owned();
    let pod = call.server.read(&call.resource, &namespace, &name)?;
    let command: Vec<String> = call.query.all("command").map(str::to_owned).collect();
    if join == Join::Exec && command.is_empty() {
        return Err(ApiError::bad_request(
            "you must specify at least 1 command for the container",
        ));
    }
    let query = &call.query;
    let tty = query.flag("tty");
    let options = ExecOptions {
        container: container(&pod, &name, query.get("container"))?,
        command,
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr") && !tty,
        tty,
    };
    if !(options.stdin || options.stdout || options.stderr) {
        return Err(ApiError::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return Err(ApiError::bad_request(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    assigned(&pod, &name)?;
    let kubelet = call.server.kubelet()?;
    let upgrade = streams::Upgrade::exec(&mut call)?;
    // A task of its own: a client that goes now takes this request with it, and a program that has just begun would be nobody's.
    let asked = options.clone();
    let joining = tokio::spawn(async move {
        match join {
            Join::Exec => kubelet.exec(&namespace, &name, asked).await,
            Join::Attach => kubelet.attach(&namespace, &name, asked).await,
        }
    });
    let streams = joining.await.map_err(ApiError::internal)?;
    match streams {
        // What is wrong with the request itself; a program that does not start is told of as one that ended.
        Err(status) if !upgrade.refuses_later() && status.code.is_some_and(|code| code < 500) => Err(status.into()),
        streams => Ok(upgrade.carry(&options, streams)),
    }
}

/// Answers `pods/portforward`.
///
/// # Errors
/// 400 for a request that asks for no stream or for no port, 404, 503.
pub fn port_forward(mut call: Call) -> Result<Response<Body>, ApiError> {
    let name = call.name()?.to_owned();
    let namespace = call.namespace().to_owned();
    let pod = call.server.read(&call.resource, &namespace, &name)?;
    let ports = call.query.all("ports").flat_map(|list| list.split(','));
    let ports: Result<Vec<u16>, ApiError> = ports
        .map(|port| {
            let number = port.trim().parse::<u16>().ok().filter(|port| *port > 0);
            number.ok_or_else(|| ApiError::bad_request(format!("unable to parse {port:?} as a port")))
        })
        .collect();
    let ports = ports?;
    assigned(&pod, &name)?;
    let forwarder = streams::Forwarder {
        kubelet: call.server.kubelet()?,
        namespace,
        pod: name,
        uid: meta::text(&pod, "uid").to_owned(),
    };
    streams::Upgrade::port_forward(&mut call)?.forward(ports, forwarder)
}
