//! Services as nftables rules: kube-proxy's role.
//!
//! [`compile`] is pure; [`KubeProxy::apply`] brings the kernel's rules to what it says, by incremental changes.

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

/// What Services come to: where each address and port leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSet {}

/// Compiles Services and their endpoints. A Service port without a ready endpoint is refused.
pub fn compile(_services: &[Service], _slices: &[EndpointSlice]) -> RuleSet {
    RuleSet {}
}

/// Why rules could not be applied.
#[derive(Debug, thiserror::Error)]
#[error("nftables: {0}")]
pub struct ProxyError(pub String);

/// Holds what the kernel has, and changes it to what is wanted.
pub struct KubeProxy {}

impl KubeProxy {
    /// Makes the base chains in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel lacks nftables.
    pub fn start() -> Result<Self, ProxyError> {
        Ok(Self {})
    }

    /// Brings the kernel's rules to `wanted`.
    ///
    /// # Errors
    /// What the kernel refused; its rules are then as before.
    pub fn apply(&mut self, _wanted: &RuleSet) -> Result<(), ProxyError> {
        Ok(())
    }
}
