//! The configuration files of server and agent: SPIRE's, in HCL or JSON.
//!
//! What is read is what SPIRE's documents show; a key that SPIRE has and this stand-in does not act on is accepted with a
//! warning, any other is refused by name.

mod agent;
mod duration;
mod file;
mod hcl;
mod server;

pub use agent::{AgentConfig, Bootstrap, DEFAULT_SOCKET as AGENT_SOCKET, NodeProof, WorkloadProof};
pub use duration::{duration, go_duration};
pub use file::ConfigError;
pub use server::{BundleNotifier, DEFAULT_SOCKET as SERVER_SOCKET, HealthChecks, ServerConfig};

#[cfg(test)]
mod tests {
    use super::*;

    /// The file `name` of the ConfigMaps in a manifest.
    fn of_manifest(manifest: &str, name: &str) -> String {
        let documents: Vec<serde_json::Value> = serde_yaml::from_multiple(manifest).unwrap();
        let found = documents.iter().find_map(|document| document["data"][name].as_str());
        found.unwrap().to_owned()
    }

    #[test]
    fn the_manifests_configure_these_very_programs() {
        let server = of_manifest(
            include_str!("../../../../manifests/spire/03-server.yaml"),
            "server.conf",
        );
        let server = ServerConfig::parse(&server).unwrap();
        let agent = of_manifest(include_str!("../../../../manifests/spire/04-agent.yaml"), "agent.conf");
        let agent = AgentConfig::parse(&agent, None).unwrap();
        assert_eq!(server.settings.trust_domain, agent.trust_domain);
        assert_eq!(server.doors.agents.1, agent.server.1);
        let NodeProof::K8sPsat { cluster, .. } = &agent.node else {
            panic!("{:?}", agent.node)
        };
        assert!(server.clusters.unwrap().contains_key(cluster));
        assert_eq!(agent.workloads, [WorkloadProof::K8s]);
        assert!(server.health.is_some() && agent.health.is_some() && server.notifier.is_some());
    }
}
