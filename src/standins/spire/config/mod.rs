//! The configuration files of server and agent: SPIRE's, in HCL or JSON.
//!
//! What is read is what SPIRE's documents show; a key that SPIRE has and this stand-in does not act on is accepted with a
//! warning, any other is refused by name.

mod agent;
mod duration;
mod file;
mod server;

pub use agent::{AgentConfig, Bootstrap, DEFAULT_SOCKET as AGENT_SOCKET, NodeProof, WorkloadProof};
pub use duration::{duration, go_duration};
pub use file::ConfigError;
pub use server::{BundleNotifier, DEFAULT_SOCKET as SERVER_SOCKET, HealthChecks, ServerConfig};
