//! The kinds of `spire.spiffe.io/v1alpha1`, as SPIRE's controller manager documents them.
//!
//! Only what is read is here: the API server checks the rest by the definitions in `manifests/spire/`. Conditions are an
//! addition of this stand-in, which SPIRE's own controller manager leaves out.

use k8s_openapi::{
    ClusterResourceScope, Metadata, Resource,
    apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, ObjectMeta},
};
use serde::{Deserialize, Serialize};

macro_rules! kind {
    ($type:ident, $kind:literal, $plural:literal) => {
        impl Resource for $type {
            const API_VERSION: &'static str = "spire.spiffe.io/v1alpha1";
            const GROUP: &'static str = "spire.spiffe.io";
            const KIND: &'static str = $kind;
            const VERSION: &'static str = "v1alpha1";
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = ClusterResourceScope;
        }

        impl Metadata for $type {
            type Ty = ObjectMeta;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

kind!(ClusterSpiffeId, "ClusterSPIFFEID", "clusterspiffeids");
kind!(ClusterStaticEntry, "ClusterStaticEntry", "clusterstaticentries");
kind!(
    ClusterFederatedTrustDomain,
    "ClusterFederatedTrustDomain",
    "clusterfederatedtrustdomains"
);

/// Which pods get which SPIFFE ID.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ClusterSpiffeId {
    /// Its name, and how often its spec changed.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ClusterSpiffeIdSpec,
    /// What came of it.
    pub status: ClusterSpiffeIdStatus,
}

/// What a [`ClusterSpiffeId`] wants.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterSpiffeIdSpec {
    /// A Go template that a pod's SPIFFE ID is made with.
    #[serde(rename = "spiffeIDTemplate")]
    pub spiffe_id_template: String,
    /// Lifetime of X.509-SVIDs as Go writes durations, empty for the server's default.
    pub ttl: String,
    /// Lifetime of JWT-SVIDs, as `ttl`.
    pub jwt_ttl: String,
    /// Go templates of the DNS names in X.509-SVIDs.
    pub dns_name_templates: Vec<String>,
    /// Go templates of selectors that the workload has to show besides the pod's UID.
    pub workload_selector_templates: Vec<String>,
    /// Trust domains whose bundles the workload gets too.
    pub federates_with: Vec<String>,
    /// Namespaces by their labels; without it, all.
    pub namespace_selector: Option<LabelSelector>,
    /// Pods by their labels; without it, all.
    pub pod_selector: Option<LabelSelector>,
    /// Whether the holder may use the server's management APIs.
    pub admin: bool,
    /// Whether the holder may sign as an intermediate CA.
    pub downstream: bool,
    /// Whether the names of the Services in front of a pod become DNS names.
    #[serde(rename = "autoPopulateDNSNames")]
    pub auto_populate_dns_names: bool,
    /// Which controller manager acts on it.
    pub class_name: String,
    /// Whether it counts only for pods that no other one gives an identity.
    pub fallback: bool,
    /// Tells a workload with several identities which to use for what.
    pub hint: String,
}

/// What came of a [`ClusterSpiffeId`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterSpiffeIdStatus {
    /// Counts of the last reconciliation.
    pub stats: Stats,
    /// Whether it has effect, and what hinders it: an addition of this stand-in.
    pub conditions: Vec<Condition>,
}

/// Counts of the last reconciliation of a [`ClusterSpiffeId`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Namespaces that the selector selects.
    pub namespaces_selected: u32,
    /// Those of them that the configuration leaves out.
    pub namespaces_ignored: u32,
    /// Pods that the selectors select.
    pub pods_selected: u32,
    /// Pods that no entry could be rendered for.
    pub pod_entry_render_failures: u32,
    /// Entries that gave way to the same entry of another object.
    pub entries_masked: u32,
    /// Entries that should be at the server.
    pub entries_to_set: u32,
    /// Entries that the server refused.
    pub entry_failures: u32,
}

/// A registration entry that is written out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ClusterStaticEntry {
    /// Its name, and how often its spec changed.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ClusterStaticEntrySpec,
    /// What came of it.
    pub status: ClusterStaticEntryStatus,
}

/// What a [`ClusterStaticEntry`] wants.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterStaticEntrySpec {
    /// The identity that is given.
    #[serde(rename = "spiffeID")]
    pub spiffe_id: String,
    /// Who may issue it.
    #[serde(rename = "parentID")]
    pub parent_id: String,
    /// `type:value`, all of which have to be shown.
    pub selectors: Vec<String>,
    /// Trust domains whose bundles the workload gets too.
    pub federates_with: Vec<String>,
    /// Lifetime of X.509-SVIDs as Go writes durations, empty for the server's default.
    #[serde(rename = "x509SVIDTTL")]
    pub x509_svid_ttl: String,
    /// Lifetime of JWT-SVIDs, as `x509SVIDTTL`.
    #[serde(rename = "jwtSVIDTTL")]
    pub jwt_svid_ttl: String,
    /// DNS names in X.509-SVIDs.
    pub dns_names: Vec<String>,
    /// Tells a workload with several identities which to use for what.
    pub hint: String,
    /// Whether the holder may use the server's management APIs.
    pub admin: bool,
    /// Whether the holder may sign as an intermediate CA.
    pub downstream: bool,
    /// Whether the SVID goes to an SVID store.
    #[serde(rename = "storeSVID")]
    pub store_svid: bool,
    /// Which controller manager acts on it.
    pub class_name: String,
}

/// What came of a [`ClusterStaticEntry`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterStaticEntryStatus {
    /// Whether it could be read.
    pub rendered: bool,
    /// Whether it gave way to the same entry of another object.
    pub masked: bool,
    /// Whether the server has it.
    pub set: bool,
    /// Whether it has effect, and what hinders it: an addition of this stand-in.
    pub conditions: Vec<Condition>,
}

/// A foreign trust domain whose bundle is to be fetched.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ClusterFederatedTrustDomain {
    /// Its name, and how often its spec changed.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ClusterFederatedTrustDomainSpec,
    /// What came of it.
    pub status: ClusterFederatedTrustDomainStatus,
}

/// What a [`ClusterFederatedTrustDomain`] wants.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterFederatedTrustDomainSpec {
    /// The foreign trust domain's name.
    pub trust_domain: String,
    /// Where its bundle is, an HTTPS URL.
    #[serde(rename = "bundleEndpointURL")]
    pub bundle_endpoint_url: String,
    /// How the endpoint is known.
    pub bundle_endpoint_profile: BundleEndpointProfile,
    /// A bundle to begin with.
    pub trust_domain_bundle: String,
    /// Which controller manager acts on it.
    pub class_name: String,
}

/// How a bundle endpoint is known.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct BundleEndpointProfile {
    /// `https_web` or `https_spiffe`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The endpoint's own identity, for `https_spiffe`.
    #[serde(rename = "endpointSPIFFEID")]
    pub endpoint_spiffe_id: String,
}

/// What came of a [`ClusterFederatedTrustDomain`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterFederatedTrustDomainStatus {
    /// Whether it can be acted on: an addition of this stand-in.
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_documented_names_of_the_fields_are_read() {
        let read: ClusterSpiffeId = serde_json::from_value(json!({
            "apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ClusterSPIFFEID", "metadata": {"name": "a"},
            "spec": {"spiffeIDTemplate": "t", "ttl": "1h", "jwtTtl": "5m", "dnsNameTemplates": ["d"],
                "workloadSelectorTemplates": ["w"], "federatesWith": ["f"], "autoPopulateDNSNames": true,
                "namespaceSelector": {"matchLabels": {"a": "b"}}, "className": "c", "fallback": true, "hint": "h"},
            "status": {"stats": {"podsSelected": 3}},
        }))
        .unwrap();
        let spec = &read.spec;
        assert_eq!(
            (
                &*spec.spiffe_id_template,
                &*spec.ttl,
                &*spec.jwt_ttl,
                &*spec.class_name,
                &*spec.hint
            ),
            ("t", "1h", "5m", "c", "h")
        );
        assert!(spec.auto_populate_dns_names && spec.fallback && spec.namespace_selector.is_some());
        assert_eq!(read.status.stats.pods_selected, 3);
        let entry: ClusterStaticEntrySpec = serde_json::from_value(json!({
            "spiffeID": "s", "parentID": "p", "selectors": ["a:b"], "x509SVIDTTL": "1h", "jwtSVIDTTL": "5m", "storeSVID": true,
        }))
        .unwrap();
        assert_eq!(
            (&*entry.spiffe_id, &*entry.parent_id, entry.store_svid),
            ("s", "p", true)
        );
        assert_eq!((&*entry.x509_svid_ttl, &*entry.jwt_svid_ttl), ("1h", "5m"));
    }

    #[test]
    fn a_status_has_the_documented_names_of_the_counts() {
        let shown = serde_json::to_value(Stats::default()).unwrap();
        let names: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "entriesMasked",
                "entriesToSet",
                "entryFailures",
                "namespacesIgnored",
                "namespacesSelected",
                "podEntryRenderFailures",
                "podsSelected"
            ]
        );
    }
}
