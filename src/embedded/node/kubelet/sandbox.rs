//! What a pod has before its first container: an address, its volumes, and a sandbox in the pod network.

use super::{
    limits, lock, security, translate,
    worker::{TRY_AGAIN, Worker},
};
use crate::{
    events::Happening,
    node::runtime::{RuntimeError, SandboxConfig},
};

impl Worker {
    /// Address, volumes and sandbox; `false` where something is missing yet.
    pub(super) async fn prepare(&mut self) -> bool {
        let host_network = self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        if let Some(why) = security::no_sandbox(&self.pod) {
            let text = format!("Failed to create pod sandbox: {why}");
            self.happened(None, Happening::warning("FailedCreatePodSandBox", text));
            self.wake_in(TRY_AGAIN * 15);
            return false;
        }
        if self.state.ip.is_none() {
            let ip = if host_network {
                Some(self.inner.config.node_ip)
            } else {
                lock(&self.inner.ipam).take()
            };
            if ip.is_none() {
                let text = "failed to set up the pod network: no address is left in the node's range";
                self.happened(None, Happening::warning("FailedCreatePodSandBox", text));
                self.wake_in(TRY_AGAIN);
                return false;
            }
            self.state.ip = ip;
        }
        if let Err(text) = self.set_up_volumes().await {
            self.happened(None, Happening::warning("FailedMount", text));
            self.wake_in(TRY_AGAIN);
            return false;
        }
        let config = &self.inner.config;
        let ip = self.state.ip.unwrap_or(config.node_ip);
        let sandbox = SandboxConfig {
            id: self.uid.clone(),
            hostname: if host_network {
                config.node_name.clone()
            } else {
                translate::hostname(&self.pod)
            },
            ip: (!host_network).then_some(ip),
            resolv_conf: translate::resolv_conf(&self.pod, config.dns, &config.domain),
            hosts: translate::hosts(&self.pod, ip, &config.domain),
            sysctls: security::sysctls(&self.pod),
            resources: limits::pod_resources(&self.pod),
        };
        let runtime = self.inner.runtime.clone();
        let making = runtime.run_sandbox(sandbox);
        let made = if host_network {
            making.await
        } else {
            self.while_judged(making).await
        };
        let made = match made {
            Ok(()) => self.begin_shared_processes().await,
            refused => refused,
        };
        match made {
            Ok(()) => {
                self.state.sandbox = true;
                let otherwise = self.otherwise();
                if !otherwise.is_empty() {
                    let text = format!("this node does otherwise than asked: {}", otherwise.join(", "));
                    self.happened(None, Happening::warning("NotSupported", text));
                }
                if !host_network {
                    self.be_admitted(ip).await;
                }
                true
            }
            Err(RuntimeError::Stopped) => false,
            Err(error) => {
                // The next try makes it anew; it can fail only where the runtime has stopped.
                let _ = self.inner.runtime.remove_sandbox(&self.uid).await;
                let text = format!("Failed to create pod sandbox: {error}");
                self.happened(None, Happening::warning("FailedCreatePodSandBox", text));
                self.wake_in(TRY_AGAIN);
                false
            }
        }
    }
}
