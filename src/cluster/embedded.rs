//! The embedded ground: clusters of this binary, each a node process with a directory under the state directory.

use async_trait::async_trait;

use super::{ClusterError, ClusterHandle, ClusterInfo, Ground, GroundKind, Progress};

/// The clusters of this binary.
pub(super) struct Embedded;

#[async_trait]
impl Ground for Embedded {
    fn kind(&self) -> GroundKind {
        GroundKind::Embedded
    }

    async fn create(&self, name: &str, _progress: &Progress) -> Result<ClusterHandle, ClusterError> {
        Err(ClusterError::NotFound { name: name.to_owned() })
    }

    async fn delete(&self, name: &str) -> Result<(), ClusterError> {
        Err(ClusterError::NotFound { name: name.to_owned() })
    }

    async fn list(&self) -> Result<Vec<ClusterInfo>, ClusterError> {
        Ok(Vec::new())
    }

    async fn stop(&self, name: &str) -> Result<(), ClusterError> {
        Err(ClusterError::NotFound { name: name.to_owned() })
    }

    async fn start(&self, name: &str, _progress: &Progress) -> Result<ClusterHandle, ClusterError> {
        Err(ClusterError::NotFound { name: name.to_owned() })
    }

    async fn get(&self, name: &str) -> Result<ClusterHandle, ClusterError> {
        Err(ClusterError::NotFound { name: name.to_owned() })
    }

    async fn node_logs(&self, name: &str) -> Result<String, ClusterError> {
        Err(ClusterError::NotFound { name: name.to_owned() })
    }
}
