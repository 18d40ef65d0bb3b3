//! What kinds are served: a table of [`Resource`]s that can grow while the server runs (custom resources).

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use super::{custom::Custom, resources};

/// One served kind, as discovery describes it (`APIResource` of meta/v1 and a little more).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Kind of a list of them, such as `DeploymentList`.
    pub list_kind: String,
    /// Name in URLs, such as `deployments`.
    pub plural: String,
    /// Singular name that kubectl accepts, such as `deployment`.
    pub singular: String,
    /// Short names that kubectl accepts, such as `deploy`.
    pub short_names: Vec<String>,
    /// Groups of resources that kubectl accepts, such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Verbs of the resource itself, sorted as discovery shows them.
    pub verbs: Vec<String>,
    /// Subresources such as `status` and `scale`.
    pub subresources: Vec<Subresource>,
    /// Name of the type in the OpenAPI documents, such as `io.k8s.api.apps.v1.Deployment`; empty where none is known.
    pub schema: String,
    /// Group and plural under which objects are stored: two kinds with the same pair are two views of the same
    /// objects (core and events.k8s.io Events; see [`super::convert`]).
    pub storage: (String, String),
    /// Whether the built-in schemas describe it; `false` for a custom resource (no strategic merge).
    pub builtin: bool,
    /// What the definition of a custom resource says about its objects.
    pub custom: Option<Arc<Custom>>,
}

/// A subresource, such as `pods/log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// Name after the slash.
    pub name: String,
    /// Group of the kind it reads and writes.
    pub group: String,
    /// Version of the kind it reads and writes.
    pub version: String,
    /// Kind it reads and writes, such as `Scale`.
    pub kind: String,
    /// Verbs, as discovery shows them.
    pub verbs: Vec<String>,
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// `deployments` or `deployments.apps`, as error messages name a resource.
    pub fn qualified_plural(&self) -> String {
        qualified(&self.plural, &self.group)
    }

    /// `Pod` or `Deployment.apps`, as error messages name a kind.
    pub fn qualified_kind(&self) -> String {
        qualified(&self.kind, &self.group)
    }

    /// Whether a verb such as `watch` is served.
    pub fn serves(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

/// `v1` for the core group, else `group/version`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// The kinds served now. Cheap to clone; adding custom resources makes a new registry.
#[derive(Debug, Clone)]
pub struct Registry {
    resources: Arc<Vec<Arc<Resource>>>,
}

static BUILTIN: LazyLock<Registry> = LazyLock::new(|| Registry {
    resources: Arc::new(resources::builtin().into_iter().map(Arc::new).collect()),
});

impl Registry {
    /// The built-in kinds.
    pub fn builtin() -> Registry {
        BUILTIN.clone()
    }

    /// This registry and more kinds, in their order.
    #[must_use]
    pub fn extended(&self, more: Vec<Resource>) -> Registry {
        let all = self.iter().cloned().chain(more.into_iter().map(Arc::new));
        Registry {
            resources: Arc::new(all.collect()),
        }
    }

    /// All kinds, in discovery's order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter()
    }

    /// The kind behind a URL: `/apis/{group}/{version}/…/{plural}`.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.iter()
            .find(|r| r.plural == plural && r.group == group && r.version == version)
    }

    /// The kind of an object's `apiVersion` and `kind`.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Resource>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.iter()
            .find(|r| r.kind == kind && r.group == group && r.version == version)
    }

    /// Groups with their versions, core (empty name) first, as discovery orders them.
    pub fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut order: Vec<String> = Vec::new();
        let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for resource in self.iter() {
            let known = versions.entry(resource.group.clone()).or_default();
            if known.is_empty() {
                order.push(resource.group.clone());
            }
            if !known.contains(&resource.version) {
                known.push(resource.version.clone());
            }
        }
        order
            .into_iter()
            .map(|group| {
                let versions = versions.remove(&group).unwrap_or_default();
                (group, versions)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_url_and_by_type() {
        let registry = Registry::builtin();
        let deployment = registry.find("apps", "v1", "deployments").expect("deployments");
        assert_eq!(deployment.kind, "Deployment");
        assert_eq!(deployment.qualified_kind(), "Deployment.apps");
        assert_eq!(deployment.schema, "io.k8s.api.apps.v1.Deployment");
        assert_eq!(registry.by_kind("v1", "Pod").expect("Pod").plural, "pods");
        assert!(registry.find("apps", "v1beta1", "deployments").is_none());
        assert_eq!(registry.groups()[0].0, "");
    }

    #[test]
    fn names_within_a_group_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for r in Registry::builtin().iter() {
            let own: std::collections::BTreeSet<_> = r.short_names.iter().chain([&r.plural, &r.singular]).collect();
            for name in own {
                assert!(
                    seen.insert((r.api_version(), name.clone())),
                    "{name} twice in {:?}",
                    r.api_version()
                );
            }
        }
    }

    #[test]
    fn a_custom_resource_is_added() {
        let mut widget = (**Registry::builtin().find("", "v1", "pods").expect("pods")).clone();
        widget.group = "example.com".into();
        widget.plural = "widgets".into();
        let more = Registry::builtin().extended(vec![widget]);
        assert!(more.find("example.com", "v1", "widgets").is_some());
        assert!(Registry::builtin().find("example.com", "v1", "widgets").is_none());
    }
}
