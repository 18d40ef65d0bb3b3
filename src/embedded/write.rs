//! Writing objects as every component does: a status has one writer, and an object may be gone meanwhile.

use kube::{
    Api, Resource,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};

/// Writes a whole status, whatever is there: each status here has one writer.
pub(crate) async fn write_status<K, S>(api: &Api<K>, name: &str, status: &S) -> Result<K, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    S: Serialize,
{
    let patch = serde_json::json!([{"op": "add", "path": "/status", "value": status}]);
    let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    api.patch_status(name, &PatchParams::default(), &Patch::<()>::Json(patch))
        .await
}

/// `Ok(None)` where the object is gone.
pub(crate) fn unless_gone<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// `Ok(None)` where an object of this name is there already.
pub(crate) fn unless_there<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(made) => Ok(Some(made)),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes the object of this name if it has this uid; gives what is left of it while it is being deleted.
pub(crate) async fn delete_this<K>(api: &Api<K>, name: &str, uid: &str) -> Result<Option<K>, kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let only = Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    };
    let params = DeleteParams::background().preconditions(only);
    match api.delete(name, &params).await {
        Ok(answer) => Ok(answer.left()),
        // Gone, or another of its name has come.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}
