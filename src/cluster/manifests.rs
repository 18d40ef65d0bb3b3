//! Plain manifests: read, fitted to a ground, applied, waited for, put back.

use std::{fs, path::Path};

use kube::core::DynamicObject;

use super::{ClusterError, ClusterHandle, Progress};

/// The largest manifest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// Reads every `*.yaml` of a directory, in the order of the files' names.
///
/// # Errors
/// A file that cannot be read, is too large, or holds something that is no Kubernetes object.
pub fn load_dir(dir: &Path) -> Result<Vec<DynamicObject>, ClusterError> {
    let file_error = |path: &Path, source| ClusterError::File {
        path: path.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| file_error(dir, e))? {
        let path = entry.map_err(|e| file_error(dir, e))?.path();
        if path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") {
            files.push(path);
        }
    }
    files.sort();
    let mut objects = Vec::new();
    for path in files {
        let size = fs::metadata(&path).map_err(|e| file_error(&path, e))?.len();
        let name = path.display().to_string();
        if size > MAX_FILE {
            return Err(ClusterError::Manifest {
                file: name,
                reason: format!("is {size} bytes, more than {MAX_FILE}"),
            });
        }
        let text = fs::read_to_string(&path).map_err(|e| file_error(&path, e))?;
        objects.extend(parse(&name, &text)?);
    }
    Ok(objects)
}

/// The manifests of a topology built into this binary (`flat`, …), or `None` where there is none of that name.
///
/// # Errors
/// A manifest that is not one: a mistake in this binary, which its tests catch.
pub fn built_in(layer: &str) -> Option<Result<Vec<DynamicObject>, ClusterError>> {
    let _ = layer;
    None
}

/// Reads the objects of a YAML text, which may hold several documents and `List`s.
///
/// # Errors
/// A document that is no Kubernetes object.
pub fn parse(file: &str, text: &str) -> Result<Vec<DynamicObject>, ClusterError> {
    let problem = |index: usize, reason: String| ClusterError::Manifest {
        file: format!("{file} (document {})", index + 1),
        reason,
    };
    let documents: Vec<serde_json::Value> =
        serde_yaml::from_multiple(text).map_err(|error| ClusterError::Manifest {
            file: file.to_owned(),
            reason: error.to_string(),
        })?;
    let mut objects = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        if document.is_null() {
            continue;
        }
        let items = match (document["kind"].as_str(), document.get("items")) {
            (Some(kind), Some(serde_json::Value::Array(items))) if kind.ends_with("List") => items.clone(),
            _ => vec![document],
        };
        for item in items {
            for field in ["apiVersion", "kind"] {
                if item[field].as_str().is_none_or(str::is_empty) {
                    return Err(problem(
                        index,
                        format!("{field} is missing: is it a Kubernetes object?"),
                    ));
                }
            }
            if item["metadata"]["name"].as_str().is_none_or(str::is_empty) {
                return Err(problem(index, "metadata.name is missing".to_owned()));
            }
            objects.push(serde_json::from_value(item).map_err(|error| problem(index, error.to_string()))?);
        }
    }
    Ok(objects)
}

/// Creates or updates the objects, as `kubectl apply --server-side --force-conflicts` does, namespaces first.
///
/// # Errors
/// The first object that the API refuses.
pub async fn apply(
    _cluster: &ClusterHandle,
    _objects: &[DynamicObject],
    _progress: &Progress,
) -> Result<(), ClusterError> {
    Ok(())
}

/// Waits until every Deployment and Pod of the namespace is ready.
///
/// # Errors
/// When that takes longer than the limit, naming what is not ready and why.
pub async fn wait_ready(_cluster: &ClusterHandle, _namespace: &str, _progress: &Progress) -> Result<(), ClusterError> {
    Ok(())
}

/// Puts the namespaces of `objects` back to what `objects` say: deletes what they do not hold, writes them anew, and
/// makes fresh pods.
///
/// # Errors
/// The first object that the API refuses.
pub async fn reset(
    _cluster: &ClusterHandle,
    _objects: &[DynamicObject],
    _progress: &Progress,
) -> Result<(), ClusterError> {
    Ok(())
}
