//! Snapshots of the whole cluster, at a path of their own: `/ztlab.dev/v1/snapshots`.
//!
//! | request | does |
//! |---|---|
//! | `GET …/snapshots` | lists them |
//! | `PUT …/snapshots/NAME?note=TEXT` | takes one; one of that name is replaced |
//! | `POST …/snapshots/NAME/restore` | makes the cluster what it says, and answers when the store says so |
//! | `DELETE …/snapshots/NAME` | removes it |
//!
//! A path of the API, and not a second door into the node: it is reached by the kubeconfig alone, with TLS, certificates and the
//! authoriser before it, and a client of Kubernetes can make the request (`kubectl create --raw`). It is no resource: a
//! snapshot is of all objects and is none of them. Only administrators (`system:masters`) may use it, whatever roles say: it
//! reads and writes every Secret there is.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{ApiServer, Body, UserInfo, meta, reply, request::Query, status::ApiError};
use crate::control_plane::{
    api::{Registry, Resource, defaults},
    rbac::{Attributes, MASTERS, policy},
    snapshot,
    storage::{ChangeKind, Key, Write, snapshots, snapshots::SnapshotError},
};

/// The first part of the path.
pub const ROOT: &str = "ztlab.dev";
/// The longest note, in characters.
const LONGEST_NOTE: usize = 200;

/// Answers a request for a path below [`ROOT`].
///
/// # Errors
/// 403, 404, 405, 422, and 503 where this server keeps no snapshots.
pub async fn answer(
    server: &ApiServer,
    user: &UserInfo,
    method: &Method,
    segments: &[String],
    query: Option<&str>,
) -> Result<Response<Body>, ApiError> {
    if !user.is_in(MASTERS) {
        let asked = Attributes {
            verb: method.as_str().to_ascii_lowercase(),
            path: Some(format!("/{}", segments.join("/"))),
            ..Attributes::default()
        };
        let message = format!("forbidden: {}", asked.refusal(&user.name));
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message));
    }
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["v1", "snapshots", rest @ ..] = segments.get(1..).unwrap_or_default() else {
        return Err(ApiError::no_such_path());
    };
    let dir = server
        .inner
        .snapshots
        .clone()
        .ok_or_else(|| ApiError::unavailable("this server keeps no snapshots"))?;
    match (method, rest) {
        (&Method::GET, []) => {
            let all = on_disk(move || snapshots::list(&dir)).await?;
            Ok(reply::json(StatusCode::OK, &json!({"snapshots": all})))
        }
        (&Method::PUT, [name]) => {
            let note = Query::parse(query)?.get("note").unwrap_or_default().to_owned();
            let note = note.chars().filter(|c| !c.is_control()).take(LONGEST_NOTE).collect();
            let taken = server.take_snapshot(dir, (*name).to_owned(), note).await?;
            Ok(reply::json(StatusCode::CREATED, &taken))
        }
        (&Method::POST, [name, "restore"]) => {
            let restored = server.restore_snapshot(dir, (*name).to_owned()).await?;
            Ok(reply::json(StatusCode::OK, &restored))
        }
        (&Method::DELETE, [name]) => {
            let name = (*name).to_owned();
            on_disk(move || snapshots::remove(&dir, &name)).await?;
            let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 200});
            Ok(reply::json(StatusCode::OK, &done))
        }
        (_, [] | [_] | [_, "restore"]) => Err(ApiError::method_not_allowed()),
        _ => Err(ApiError::no_such_path()),
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?;
    done.map_err(|error| {
        let (code, reason) = match error {
            SnapshotError::Unknown { .. } => (StatusCode::NOT_FOUND, "NotFound"),
            SnapshotError::Name(_) | SnapshotError::TooMany => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
            SnapshotError::Damaged(_) | SnapshotError::Newer(_) => (StatusCode::CONFLICT, "Conflict"),
            SnapshotError::Io { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        ApiError::new(code, reason, error.to_string())
    })
}

impl ApiServer {
    async fn take_snapshot(
        &self,
        dir: PathBuf,
        name: String,
        note: String,
    ) -> Result<snapshots::SnapshotInfo, ApiError> {
        let objects = self.store().objects();
        let taken = meta::now_to_the_millisecond();
        on_disk(move || {
            let kept = |(key, object): &(Key, Arc<Value>)| Some((key.clone(), snapshot::desired(key, object)?));
            let kept: Vec<_> = objects.iter().filter_map(kept).collect();
            snapshots::save(&dir, &name, &note, &taken, &kept)
        })
        .await
    }

    async fn restore_snapshot(&self, dir: PathBuf, name: String) -> Result<Value, ApiError> {
        let (info, mut wanted) = on_disk(move || snapshots::load(&dir, &name)).await?;
        // Asked for before: it looks at the store, which is locked while it is rewritten.
        let registry = self.registry();
        // No Service may be given an address that the snapshot is about to give back.
        let allocating = self.inner.allocating.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.store().rewrite(|live| {
            let now = meta::now();
            policy::complete(&mut wanted, live, &now, meta::uid);
            let mut writes = snapshot::plan(live, &wanted, &now, meta::uid);
            writes.iter_mut().for_each(|write| complete(&registry, write));
            writes
        });
        drop(allocating);
        // With the definitions that came back.
        let registry = self.registry();
        for (key, kind, object) in &done {
            if let Some(resource) = resource_of(&registry, key) {
                match kind {
                    ChangeKind::Added => self.after_create(&resource, object),
                    ChangeKind::Deleted => self.after_delete(&resource, object),
                    ChangeKind::Modified => self.after_update(&resource),
                }
            }
        }
        let count = |wanted: ChangeKind| done.iter().filter(|(_, kind, _)| *kind == wanted).count();
        Ok(json!({
            "snapshot": info,
            "resourceVersion": self.store().revision().to_string(),
            "created": count(ChangeKind::Added),
            "changed": count(ChangeKind::Modified),
            "deleted": count(ChangeKind::Deleted),
        }))
    }
}

fn resource_of(registry: &Registry, key: &Key) -> Option<Arc<Resource>> {
    let stored = (key.collection.group.clone(), key.collection.resource.clone());
    registry.iter().find(|resource| resource.storage == stored).cloned()
}

/// What the server fills in of a new object that a snapshot does not hold: the beginning of its status.
fn complete(registry: &Registry, write: &mut Write) {
    let Write::Create(key, object) = write else { return };
    let Some(resource) = resource_of(registry, key) else {
        return;
    };
    if resource.group.is_empty() && resource.kind == "Pod" {
        super::pods::begin(object);
    } else {
        defaults::apply(&resource, object);
    }
}
