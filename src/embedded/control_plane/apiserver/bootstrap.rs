//! The objects that every cluster has from the start.

use serde_json::{Value, json};

use std::collections::BTreeSet;

use super::{ApiServer, UserInfo, meta, priority, rest::WriteOptions, services, storage};
use crate::control_plane::{
    rbac::policy,
    reboot::{self, Fate},
};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

impl ApiServer {
    pub(super) fn bootstrap(&self) {
        self.wake();
        for name in NAMESPACES {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            self.ensure("", "namespaces", "", namespace);
        }
        let api = services::first_address(self.inner.services).to_string();
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {"clusterIP": api, "clusterIPs": [api], "type": "ClusterIP",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]},
        });
        self.ensure("", "services", "default", service);
        self.ensure("storage.k8s.io", "storageclasses", "", storage::standard_class());
        for class in priority::system_classes() {
            self.ensure("scheduling.k8s.io", "priorityclasses", "", class);
        }
        self.ensure_policy();
    }

    /// The roles and bindings of every cluster, as Kubernetes ensures them at each start.
    fn ensure_policy(&self) {
        let now = meta::now();
        for wanted in policy::objects() {
            let key = wanted.key();
            let held = self.store().get(&key);
            // The table is ours, so nothing of it needs validation or defaults; a test holds it to both.
            let written = match (wanted.reconciled(held.as_deref(), &now, meta::uid), held) {
                (None, _) => continue,
                (Some(next), Some(_)) => self.store().update(&key, None, next),
                (Some(new), None) => self.store().create(&key, new),
            };
            if let Err(error) = written {
                tracing::error!(?key, %error, "a role or binding of the cluster's own could not be written");
            }
        }
    }

    /// Takes up what the store brought from an earlier life: see [`reboot`].
    fn wake(&self) {
        let now = meta::now();
        let mut namespaces = BTreeSet::new();
        for (key, object) in self.store().objects() {
            let (group, resource) = (&key.collection.group, &key.collection.resource);
            // No object changes while there is nobody yet who could change it.
            let result = match reboot::fate(group, resource, &object, &now) {
                Fate::Same => Ok(object),
                Fate::Changed(after) => self.store().update(&key, None, after),
                Fate::Gone => self.store().delete(&key, None),
            };
            if let Err(error) = result {
                tracing::error!(?key, %error, "an object of before could not be taken up");
            }
            namespaces.insert(key.namespace);
        }
        // Where the file was damaged, a namespace may be lost that others are in: nobody could reach them.
        for name in namespaces.iter().filter(|name| !name.is_empty()) {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            self.ensure("", "namespaces", "", namespace);
        }
    }

    /// What a new namespace has before anything else can be made in it: its service account and the cluster's CA.
    /// kube-controller-manager makes them a moment later; here no pod can come too early.
    pub(super) fn furnish(&self, namespace: &str) {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}});
        self.ensure("", "serviceaccounts", namespace, account);
        let roots = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kube-root-ca.crt", "namespace": namespace, "annotations": {"kubernetes.io/description":
                "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."}},
            "data": {"ca.crt": self.inner.ca_certificate},
        });
        self.ensure("", "configmaps", namespace, roots);
    }

    fn ensure(&self, group: &str, plural: &str, namespace: &str, object: Value) {
        let Some(resource) = self.registry().find(group, "v1", plural).cloned() else {
            return;
        };
        if self.read(&resource, namespace, meta::name(&object)).is_ok() {
            return;
        }
        let user = UserInfo::master("system:apiserver");
        if let Err(error) = self.create(&user, &resource, namespace, object, &WriteOptions::internal()) {
            tracing::error!(plural, namespace, error = ?error.0.message, "creating one of the cluster's own objects");
        }
    }
}
