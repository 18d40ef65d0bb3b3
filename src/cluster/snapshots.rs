//! Snapshots of a cluster that can: see `embedded/control_plane/snapshot`.

use http::{Method, Request};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{ClusterError, ClusterHandle};

const PATH: &str = "/ztlab.dev/v1/snapshots";

/// A snapshot, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// What it is of, in its maker's words; may be empty.
    pub note: String,
    /// When it was taken, RFC 3339; empty where it cannot be read.
    pub taken: String,
    /// How many objects it holds.
    pub objects: usize,
    /// How many volumes it holds the content of.
    #[serde(default)]
    pub volumes: usize,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Objects that were made.
    pub created: usize,
    /// Objects that were changed.
    pub changed: usize,
    /// Objects that were removed.
    pub deleted: usize,
}

#[derive(Deserialize)]
struct List {
    snapshots: Vec<Snapshot>,
}

impl ClusterHandle {
    /// The cluster's snapshots, the oldest first.
    ///
    /// # Errors
    /// When the cluster cannot have any, or does not answer.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, ClusterError> {
        let list: List = self.ask("list the snapshots", Method::GET, PATH.to_owned()).await?;
        Ok(list.snapshots)
    }

    /// Takes a snapshot of the whole cluster; one of the same name is replaced. Returns when it is on disk.
    ///
    /// # Errors
    /// When the cluster cannot have any, the name is no name, or it cannot be written.
    pub async fn snapshot(&self, name: &str, note: &str) -> Result<Snapshot, ClusterError> {
        let path = format!("{PATH}/{}?note={}", escape(name), escape(note));
        self.ask("take a snapshot", Method::PUT, path).await
    }

    /// Makes the cluster what a snapshot says. Returns when its objects are; fresh pods are on their way.
    ///
    /// # Errors
    /// When there is no such snapshot, or it is damaged.
    pub async fn restore(&self, name: &str) -> Result<Restored, ClusterError> {
        let path = format!("{PATH}/{}/restore", escape(name));
        self.ask("restore a snapshot", Method::POST, path).await
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// When there is no such snapshot.
    pub async fn delete_snapshot(&self, name: &str) -> Result<(), ClusterError> {
        let path = format!("{PATH}/{}", escape(name));
        let _: serde_json::Value = self.ask("delete a snapshot", Method::DELETE, path).await?;
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(&self, what: &str, method: Method, path: String) -> Result<T, ClusterError> {
        let failed = |source: kube::Error| match source {
            kube::Error::Api(status) if matches!(status.code, 404 | 409 | 422) => ClusterError::Snapshot {
                cluster: self.name.clone(),
                reason: status.message,
            },
            source => ClusterError::Api {
                what: what.to_owned(),
                source: Box::new(source),
            },
        };
        if !self.capabilities.snapshots {
            return Err(ClusterError::Snapshot {
                cluster: self.name.clone(),
                reason: "this cluster cannot take snapshots: only those that ztlab made can".to_owned(),
            });
        }
        let request = Request::builder().method(method).uri(path).body(Vec::new());
        let request = request.map_err(|error| failed(kube::Error::HttpError(error)))?;
        self.client.request(request).await.map_err(failed)
    }
}

/// Percent-encodes what is not unreserved (RFC 3986 §2.3).
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_part_of_the_path() {
        assert_eq!(escape("before-mtls"), "before-mtls");
        assert_eq!(escape("a/b?c=ä"), "a%2Fb%3Fc%3D%C3%A4");
    }
}
