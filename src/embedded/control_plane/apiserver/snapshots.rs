//! Snapshots of the whole cluster, at a path of their own: `/ztlab.dev/v1/snapshots`.
//!
//! | request | does |
//! |---|---|
//! | `GET …/snapshots` | lists them |
//! | `PUT …/snapshots/NAME?note=TEXT` | takes one; one of that name is replaced |
//! | `POST …/snapshots/NAME/restore` | makes the cluster what it says, and answers when its objects and volumes are |
//! | `DELETE …/snapshots/NAME` | removes it |
//!
//! A path of the API, and not a second door into the node: it is reached by the kubeconfig alone, with TLS, certificates and the
//! authoriser before it, and a client of Kubernetes can make the request (`kubectl create --raw`). It is no resource: a
//! snapshot is of all objects and is none of them. Only administrators (`system:masters`) may use it, whatever roles say: it
//! reads and writes every Secret there is.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
};

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{ApiServer, Body, UserInfo, meta, reply, request::Query, status::ApiError};
use crate::{
    control_plane::{
        api::{Registry, Resource, defaults},
        rbac::{Attributes, MASTERS, policy},
        snapshot::{
            self, Held,
            content::{Intent, Places},
        },
        storage::{
            ChangeKind, Key, Write,
            snapshots::{self, Saved, SnapshotError, SnapshotInfo},
        },
    },
    kubelet_api::{Hold, KubeletApi},
    tree::TreeError,
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
    let places = server
        .inner
        .snapshots
        .clone()
        .ok_or_else(|| ApiError::unavailable("this server keeps no snapshots"))?;
    match (method, rest) {
        (&Method::GET, []) => {
            let all = on_disk(move || snapshots::list(&places.snapshots)).await?;
            Ok(reply::json(StatusCode::OK, &json!({"snapshots": all})))
        }
        (&Method::PUT, [name]) => {
            let note = Query::parse(query)?.get("note").unwrap_or_default().to_owned();
            let note = note.chars().filter(|c| !c.is_control()).take(LONGEST_NOTE).collect();
            let (server, name) = (server.clone(), (*name).to_owned());
            let taken = whole(async move { server.take_snapshot(places, name, note).await }).await?;
            Ok(reply::json(StatusCode::CREATED, &taken))
        }
        (&Method::POST, [name, "restore"]) => {
            let (server, name) = (server.clone(), (*name).to_owned());
            let restored = whole(async move { server.restore_snapshot(places, name).await }).await?;
            Ok(reply::json(StatusCode::OK, &restored))
        }
        (&Method::DELETE, [name]) => {
            let name = (*name).to_owned();
            let _one = server.inner.snapshotting.lock().await;
            on_disk(move || {
                snapshots::remove(&places.snapshots, &name)?;
                places.sweep(&snapshots::contents(&places.snapshots)?);
                Ok(())
            })
            .await?;
            let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 200});
            Ok(reply::json(StatusCode::OK, &done))
        }
        (_, [] | [_] | [_, "restore"]) => Err(ApiError::method_not_allowed()),
        _ => Err(ApiError::no_such_path()),
    }
}

/// Does something to its end, whether its client waits for it or not.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work).await.map_err(ApiError::internal)?
}

/// Pods that are kept from volumes, until this is dropped.
struct Holding {
    kubelet: Arc<dyn KubeletApi>,
    gone: HashSet<String>,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.kubelet.release_volumes(std::mem::take(&mut self.gone));
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?;
    done.map_err(|error| {
        let (code, reason) = match error {
            SnapshotError::Unknown { .. } => (StatusCode::NOT_FOUND, "NotFound"),
            SnapshotError::Name(_) | SnapshotError::TooMany | SnapshotError::Content(TreeError::TooMuch { .. }) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "Invalid")
            }
            SnapshotError::Damaged(_) | SnapshotError::Newer(_) => (StatusCode::CONFLICT, "Conflict"),
            SnapshotError::Content(TreeError::Io { .. }) | SnapshotError::Io { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalError")
            }
        };
        ApiError::new(code, reason, error.to_string())
    })
}

impl ApiServer {
    /// Keeps pods from volumes. Where no kubelet is, no pod runs.
    async fn hold(&self, how: Hold) -> Result<Option<Holding>, ApiError> {
        let Ok(kubelet) = self.kubelet() else { return Ok(None) };
        kubelet.hold_volumes(how).await.map_err(ApiError::unavailable)?;
        Ok(Some(Holding {
            kubelet,
            gone: HashSet::new(),
        }))
    }

    async fn take_snapshot(&self, places: Places, name: String, note: String) -> Result<SnapshotInfo, ApiError> {
        let _one = self.inner.snapshotting.lock().await;
        let (at, of) = (places.clone(), name.clone());
        let (any, earlier) = on_disk(move || {
            snapshots::admit(&at.snapshots, &of)?;
            Ok((at.any()?, snapshots::contents(&at.snapshots)?))
        })
        .await?;
        let taken = meta::now_to_the_millisecond();
        // What volumes hold and what objects say is of the same moment.
        let holding = if any { self.hold(Hold::Still).await? } else { None };
        let objects = self.store().objects();
        let (at, known) = (places.clone(), earlier.clone());
        let content = match any {
            true => on_disk(move || Ok(at.take(&known)?)).await,
            false => Ok(Held::default()),
        };
        drop(holding);
        let saved = on_disk({
            let places = places.clone();
            move || {
                let content = match content {
                    Ok(content) => content,
                    Err(error) => {
                        places.sweep(&earlier);
                        return Ok(Err(error));
                    }
                };
                let kept = |(key, object): &(Key, Arc<Value>)| Some((key.clone(), snapshot::desired(key, object)?));
                let objects: Vec<_> = objects.iter().filter_map(kept).collect();
                let info = SnapshotInfo {
                    name,
                    note,
                    taken,
                    objects: objects.len(),
                    volumes: content.volumes.len(),
                };
                places.sync(&content, &earlier)?;
                let saved = Saved { info, objects, content };
                snapshots::save(&places.snapshots, &saved)?;
                places.sweep(&snapshots::contents(&places.snapshots)?);
                Ok(Ok(saved.info))
            }
        });
        saved.await?
    }

    async fn restore_snapshot(&self, places: Places, name: String) -> Result<Value, ApiError> {
        let _one = self.inner.snapshotting.lock().await;
        let at = places.clone();
        let (saved, any) = on_disk(move || {
            let saved = snapshots::load(&at.snapshots, &name)?;
            let any = !saved.content.is_empty() || at.any()?;
            Ok((saved, any))
        })
        .await?;
        let Saved { info, objects, content } = saved;
        let mut holding = if any { self.hold(Hold::Ended).await? } else { None };
        let (at, snapshot) = (places.clone(), info.name.clone());
        let prepared = on_disk(move || {
            let prepared = at.prepare(&snapshot, &content)?;
            at.begin(&prepared)?;
            Ok(prepared)
        })
        .await?;
        let done = self.put_back(&places, &prepared.intent, objects);
        drop(prepared);
        if let (Some(holding), Ok(done)) = (&mut holding, &done) {
            holding.gone = pods_gone(done);
        }
        drop(holding);
        let revision = self.store().revision();
        self.store().persisted(revision).await;
        let at = places.clone();
        on_disk(move || {
            at.end();
            Ok(())
        })
        .await?;
        tokio::task::spawn_blocking(move || match snapshots::contents(&places.snapshots) {
            Ok(all) => places.sweep(&all),
            Err(error) => tracing::warn!(%error, "what the restore replaced is not removed yet"),
        });
        let done = done?;
        let count = |wanted: ChangeKind| done.iter().filter(|(_, kind, _)| *kind == wanted).count();
        Ok(json!({
            "snapshot": info,
            "resourceVersion": revision.to_string(),
            "created": count(ChangeKind::Added),
            "changed": count(ChangeKind::Modified),
            "deleted": count(ChangeKind::Deleted),
        }))
    }

    /// Writes the objects of a snapshot, and puts the content of volumes in its place, with nothing between: nobody sees a new object
    /// before the volumes are what they are to be.
    fn put_back(
        &self,
        places: &Places,
        intent: &Intent,
        mut wanted: Vec<(Key, Value)>,
    ) -> Result<Vec<(Key, ChangeKind, Arc<Value>)>, ApiError> {
        // Asked for before: it looks at the store, which is locked while it is rewritten.
        let registry = self.registry();
        // No Service may be given an address that the snapshot is about to give back.
        let allocating = self.inner.allocating.lock().unwrap_or_else(PoisonError::into_inner);
        let mut swapped = Ok(());
        let done = self.store().rewrite(|live| {
            swapped = places.swap(intent);
            if swapped.is_err() {
                return Vec::new();
            }
            let now = meta::now();
            policy::complete(&mut wanted, live, &now, meta::uid);
            let mut writes = snapshot::plan(live, &wanted, &now, meta::uid);
            writes.iter_mut().for_each(|write| complete(&registry, write));
            writes
        });
        drop(allocating);
        swapped.map_err(ApiError::internal)?;
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
        Ok(done)
    }

    /// Ends a restore that was under way when the node died. To be called before anybody is served. Gives what the cluster's user
    /// should know.
    pub async fn end_interrupted_restore(&self) -> Option<String> {
        let places = self.inner.snapshots.clone()?;
        let at = places.clone();
        let found = on_disk(move || {
            let Some(intent) = at.interrupted() else {
                return Ok(None);
            };
            let saved = snapshots::load(&at.snapshots, &intent.snapshot)?;
            Ok(Some((intent, saved.objects)))
        });
        let ended = match found.await {
            Ok(None) => Ok(()),
            Ok(Some((intent, objects))) => {
                tracing::info!(
                    snapshot = intent.snapshot,
                    "a restore was under way when the node died: it is done to its end"
                );
                self.put_back(&places, &intent, objects).map(drop)
            }
            Err(error) => Err(error),
        };
        self.store().persisted(self.store().revision()).await;
        let swept = tokio::task::spawn_blocking(move || {
            places.end();
            match snapshots::contents(&places.snapshots) {
                Ok(all) => places.sweep(&all),
                Err(error) => tracing::warn!(%error, "what restores left is not removed yet"),
            }
        });
        if let Err(error) = swept.await {
            tracing::error!(%error, "what restores left is not removed");
        }
        let error = ended.err()?.0.message.unwrap_or_default();
        Some(format!(
            "the restore of a snapshot that was under way when the cluster's node died could not be done to its end: {error}; \
             restore a snapshot again"
        ))
    }
}

/// The uids of pods that were removed.
fn pods_gone(done: &[(Key, ChangeKind, Arc<Value>)]) -> HashSet<String> {
    let pods = done.iter().filter(|(key, kind, _)| {
        *kind == ChangeKind::Deleted && key.collection.group.is_empty() && key.collection.resource == "pods"
    });
    let uid = |object: &Value| Some(object.pointer("/metadata/uid")?.as_str()?.to_owned());
    pods.filter_map(|(_, _, object)| uid(object)).collect()
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
