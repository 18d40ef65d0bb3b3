//! Discovery: which groups, versions and kinds are served, in the aggregated and in the legacy form.
//!
//! Source: `apidiscovery.k8s.io/v2` and meta/v1 `APIGroupList`, `APIGroup`, `APIResourceList`, `APIVersions`.

use serde_json::{Value, json};

use super::{Registry, Resource, registry::api_version};

/// The media type of the aggregated form, both asked for in `Accept` and answered in `Content-Type`.
pub const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The Kubernetes release whose API is spoken, as (major, minor, patch).
const RELEASE: (u32, u32, u32) = (1, 33, 0);

/// `GET /api` in the aggregated form.
pub fn aggregated_core(registry: &Registry) -> Value {
    aggregated(registry, |group| group.is_empty())
}

/// `GET /apis` in the aggregated form.
pub fn aggregated_groups(registry: &Registry) -> Value {
    aggregated(registry, |group| !group.is_empty())
}

fn aggregated(registry: &Registry, wanted: impl Fn(&str) -> bool) -> Value {
    let items: Vec<Value> = registry
        .groups()
        .into_iter()
        .filter(|(group, _)| wanted(group))
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = members(registry, &group, version).map(aggregated_resource).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let mut metadata = json!({"creationTimestamp": null});
            if !group.is_empty() {
                metadata["name"] = json!(group);
            }
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn members<'a>(registry: &'a Registry, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Resource> {
    let all = registry.iter().map(AsRef::as_ref);
    all.filter(move |r: &&Resource| r.group == group && r.version == version)
}

fn aggregated_resource(resource: &Resource) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    for (key, list) in [
        ("shortNames", &resource.short_names),
        ("categories", &resource.categories),
    ] {
        if !list.is_empty() {
            entry[key] = json!(list);
        }
    }
    if !resource.subresources.is_empty() {
        let kind = |s: &super::Subresource| json!({"group": s.group, "version": s.version, "kind": s.kind});
        let all = resource.subresources.iter();
        entry["subresources"] = all
            .map(|s| json!({"subresource": s.name, "responseKind": kind(s), "verbs": s.verbs}))
            .collect();
    }
    entry
}

/// `GET /api` in the legacy form; `server` is the address (`host:port`) to reach it at.
pub fn api_versions(server: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}],
    })
}

/// `GET /apis` in the legacy form.
pub fn api_group_list(registry: &Registry) -> Value {
    let groups = registry.groups().into_iter().filter(|(group, _)| !group.is_empty());
    let groups: Vec<Value> = groups.map(|(group, versions)| group_body(&group, &versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/{group}`; `None` where there is no such group.
pub fn api_group(registry: &Registry, group: &str) -> Option<Value> {
    let (group, versions) = registry
        .groups()
        .into_iter()
        .find(|(name, _)| name == group && !name.is_empty())?;
    let mut body = group_body(&group, &versions);
    body["kind"] = json!("APIGroup");
    body["apiVersion"] = json!("v1");
    Some(body)
}

fn group_body(group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": api_version(group, version), "version": version}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// `GET /api/v1` and `GET /apis/{group}/{version}`; `None` where nothing is served there.
pub fn api_resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for resource in members(registry, group, version) {
        resources.push(legacy_resource(resource));
        resources.extend(resource.subresources.iter().map(|s| legacy_subresource(resource, s)));
    }
    if resources.is_empty() {
        return None;
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version(group, version),
        "resources": resources,
    }))
}

fn legacy_resource(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    for (key, list) in [
        ("shortNames", &resource.short_names),
        ("categories", &resource.categories),
    ] {
        if !list.is_empty() {
            entry[key] = json!(list);
        }
    }
    entry
}

fn legacy_subresource(resource: &Resource, subresource: &super::Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", resource.plural, subresource.name),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": subresource.kind,
        "verbs": subresource.verbs,
    });
    if (&subresource.group, &subresource.version) != (&resource.group, &resource.version) {
        entry["group"] = json!(subresource.group);
        entry["version"] = json!(subresource.version);
    }
    entry
}

/// `GET /version`: the release whose API is spoken, with the suffix `+ztlab` by which a person sees what answers.
pub fn version() -> Value {
    let (major, minor, _) = RELEASE;
    json!({
        "major": major.to_string(),
        "minor": minor.to_string(),
        "gitVersion": git_version(),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }),
        "emulationMajor": major.to_string(),
        "emulationMinor": minor.to_string(),
        "minCompatibilityMajor": major.to_string(),
        "minCompatibilityMinor": (minor - 1).to_string(),
    })
}

/// `v1.33.0+ztlab`, as nodes report their kubelet too.
pub fn git_version() -> String {
    let (major, minor, patch) = RELEASE;
    format!("v{major}.{minor}.{patch}+ztlab")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::{
        apis::meta::v1::{APIGroupList, APIResourceList, APIVersions},
        version::Info,
    };

    use super::*;

    #[test]
    fn the_aggregated_form_has_the_core_group_without_a_name() {
        let registry = Registry::builtin();
        let core = aggregated_core(&registry);
        assert_eq!(core["items"].as_array().expect("items").len(), 1);
        assert!(core["items"][0]["metadata"].get("name").is_none());
        let resources = core["items"][0]["versions"][0]["resources"]
            .as_array()
            .expect("resources");
        let pods = resources.iter().find(|r| r["resource"] == "pods").expect("pods");
        assert_eq!(pods["shortNames"], json!(["po"]));
        assert_eq!(pods["categories"], json!(["all"]));
        assert_eq!(pods["scope"], "Namespaced");
        let names: Vec<_> = pods["subresources"].as_array().expect("subresources").iter().collect();
        assert!(
            names
                .iter()
                .any(|s| s["subresource"] == "exec" && s["responseKind"]["kind"] == "PodExecOptions")
        );
        let groups = aggregated_groups(&registry);
        let deployments = &groups["items"]
            .as_array()
            .expect("items")
            .iter()
            .find(|g| g["metadata"]["name"] == "apps");
        let text = deployments.expect("apps").to_string();
        assert!(text.contains(r#""kind":"Scale""#), "{text}");
    }

    #[test]
    fn the_legacy_form_is_what_the_client_types_expect() {
        let registry = Registry::builtin();
        let groups: APIGroupList = serde_json::from_value(api_group_list(&registry)).expect("APIGroupList");
        assert!(groups.groups.iter().any(|g| g.name == "apps"));
        for group in groups.groups {
            for version in group.versions {
                let list = api_resource_list(&registry, &group.name, &version.version).expect("served");
                let list: APIResourceList = serde_json::from_value(list).expect("APIResourceList");
                assert!(!list.resources.is_empty());
            }
        }
        let _: APIVersions = serde_json::from_value(api_versions("127.0.0.1:6443")).expect("APIVersions");
        assert!(api_resource_list(&registry, "nope", "v1").is_none());
        assert!(api_group(&registry, "apps").is_some() && api_group(&registry, "").is_none());
    }

    #[test]
    fn the_version_is_one_kubectl_accepts() {
        let info: Info = serde_json::from_value(version()).expect("Info");
        assert_eq!((info.major.as_str(), info.minor.as_str()), ("1", "33"));
        assert_eq!(info.git_version, "v1.33.0+ztlab");
    }
}
