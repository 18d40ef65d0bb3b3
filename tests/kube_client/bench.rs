//! A cluster for one test, and what its halves share.

use std::{fmt::Debug, future::Future, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{Condition, await_condition},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::common::{Home, embedded_works, ordinary_user};

const CLUSTER: &str = "kube";
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster, gone with this.
pub struct Bench(Home);

impl Bench {
    pub fn start() -> Option<Self> {
        if !embedded_works() {
            return None;
        }
        let home = match ordinary_user() {
            Some(user) => Home::for_user("kube-client", user),
            None => Home::new("kube-client"),
        };
        let made = home.ztlab(&["cluster", "create", CLUSTER]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(Self(home))
    }

    /// A client as any program has one: from the kubeconfig.
    pub async fn client(&self) -> Client {
        let path = self
            .0
            .path()
            .join("state/ztlab/clusters")
            .join(CLUSTER)
            .join("kubeconfig");
        let kubeconfig = Kubeconfig::read_from(path).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Client::try_from(config.unwrap()).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.0.ztlab(&["cluster", "delete", CLUSTER]);
    }
}

/// Waits, but not for ever.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// Waits until an object is as it must be.
pub async fn settled<K>(api: &Api<K>, name: &str, condition: impl Condition<K>)
where
    K: Clone + Debug + Send + DeserializeOwned + kube::Resource + 'static,
{
    in_time(name, await_condition(api.clone(), name, condition))
        .await
        .unwrap();
}

pub fn map(name: &str) -> ConfigMap {
    let map = json!({"metadata": {"name": name}, "data": {"a": "1"}});
    serde_json::from_value(map).unwrap()
}

/// A pod that prints three lines, and serves HTTP on port 80.
pub fn pod(name: &str) -> Pod {
    let script = "for n in 1 2 3; do echo line $n; sleep 0.2; done; sleep 1000";
    let pod = json!({
        "metadata": {"name": name, "annotations": {"kubectl.kubernetes.io/default-container": "tools"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "tools", "image": "ztlab.dev/toolbox:1", "command": ["sh", "-c", script]},
            {"name": "web", "image": "nginxdemos/hello:0.4"},
        ]},
    });
    serde_json::from_value(pod).unwrap()
}
