//! The kinds that a cluster serves, by every name that kubectl knows them by.

use http::header::ACCEPT;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
};
use serde_json::Value;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One kind.
#[derive(Debug)]
pub struct Kind {
    pub resource: ApiResource,
    pub namespaced: bool,
    /// Its singular and short names.
    names: Vec<String>,
    /// Groups of kinds that it is asked for with, as `all`.
    categories: Vec<String>,
}

impl Kind {
    /// `deployment.apps`, as kubectl writes it before an object's name.
    pub fn title(&self) -> String {
        let kind = self.resource.kind.to_lowercase();
        match self.resource.group.as_str() {
            "" => kind,
            group => format!("{kind}.{group}"),
        }
    }

    /// Its objects.
    pub fn api(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced {
            Api::namespaced_with(client.clone(), namespace, &self.resource)
        } else {
            Api::all_with(client.clone(), &self.resource)
        }
    }
}

/// Every kind.
#[derive(Debug)]
pub struct Kinds(Vec<Kind>);

impl Kinds {
    /// Asks the cluster.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ask(client: &Client) -> Result<Self, kube::Error> {
        let mut kinds = Vec::new();
        for path in ["/api", "/apis"] {
            let request = http::Request::get(path).header(ACCEPT, AGGREGATED).body(Vec::new());
            let document: Value = client.request(request.map_err(kube::Error::HttpError)?).await?;
            read(&document, &mut kinds);
        }
        Ok(Self(kinds))
    }

    /// The kinds of a name or category.
    ///
    /// # Errors
    /// That there is none, as kubectl says it.
    pub fn named(&self, name: &str) -> Result<Vec<&Kind>, String> {
        let lower = name.to_lowercase();
        let (plain, group) = lower
            .split_once('.')
            .map_or((lower.as_str(), None), |(plain, group)| (plain, Some(group)));
        let is = |kind: &&Kind| {
            let known = kind.resource.plural == plain || kind.names.iter().any(|one| one == plain);
            known && group.is_none_or(|group| kind.resource.group == group)
        };
        if let Some(kind) = self.0.iter().find(is) {
            return Ok(vec![kind]);
        }
        let together: Vec<&Kind> = self.0.iter().filter(|kind| kind.categories.contains(&lower)).collect();
        if together.is_empty() {
            return Err(format!("the server doesn't have a resource type \"{name}\""));
        }
        Ok(together)
    }

    /// The kind of an object.
    ///
    /// # Errors
    /// That there is none, as kubectl says it.
    pub fn of(&self, object: &DynamicObject) -> Result<&Kind, String> {
        let types = object.types.clone().unwrap_or_default();
        let is = |kind: &&Kind| kind.resource.api_version == types.api_version && kind.resource.kind == types.kind;
        self.0.iter().find(is).ok_or_else(|| {
            format!(
                "no matches for kind \"{}\" in version \"{}\"\nensure CRDs are installed first",
                types.kind, types.api_version
            )
        })
    }
}

fn read(document: &Value, kinds: &mut Vec<Kind>) {
    let list = |value: &Value, field: &str| value.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let texts = |value: &Value, field: &str| -> Vec<String> {
        let all = list(value, field);
        all.iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect()
    };
    for group in list(document, "items") {
        let name = text(&group, "/metadata/name");
        for version in list(&group, "versions") {
            let number = text(&version, "/version");
            for found in list(&version, "resources") {
                let kind = text(&found, "/responseKind/kind");
                let mut names = texts(&found, "shortNames");
                names.extend([text(&found, "/singularResource"), kind.to_lowercase()]);
                let api_version = if name.is_empty() {
                    number.clone()
                } else {
                    format!("{name}/{number}")
                };
                kinds.push(Kind {
                    namespaced: text(&found, "/scope") == "Namespaced",
                    categories: texts(&found, "categories"),
                    names,
                    resource: ApiResource {
                        group: name.clone(),
                        version: number.clone(),
                        api_version,
                        kind,
                        plural: text(&found, "/resource"),
                    },
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_has_many_names() {
        let found = |plural: &str, kind: &str, short: &[&str], categories: &[&str]| {
            json!({"resource": plural, "responseKind": {"kind": kind}, "scope": "Namespaced",
                "singularResource": kind.to_lowercase(), "shortNames": short, "categories": categories})
        };
        let document = json!({"items": [
            {"metadata": {}, "versions": [{"version": "v1", "resources": [
                found("pods", "Pod", &["po"], &["all"]), found("events", "Event", &["ev"], &[])]}]},
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                found("deployments", "Deployment", &["deploy"], &["all"])]}]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [
                found("events", "Event", &["ev"], &[])]}]},
        ]});
        let mut kinds = Vec::new();
        read(&document, &mut kinds);
        let kinds = Kinds(kinds);
        for (name, titles) in [
            ("po", vec!["pod"]),
            ("Pod", vec!["pod"]),
            ("deployments.apps", vec!["deployment.apps"]),
            ("deploy", vec!["deployment.apps"]),
            ("ev", vec!["event"]),
            ("events.events.k8s.io", vec!["event.events.k8s.io"]),
            ("all", vec!["pod", "deployment.apps"]),
        ] {
            let found: Vec<String> = kinds.named(name).unwrap().iter().map(|kind| kind.title()).collect();
            assert_eq!(found, titles, "{name}");
        }
        assert!(
            kinds
                .named("nonsense")
                .unwrap_err()
                .contains("doesn't have a resource type \"nonsense\"")
        );
    }

    #[test]
    fn an_odd_document_has_no_kinds() {
        for odd in [
            json!(null),
            json!({"items": 3}),
            json!({"items": [{"versions": [{"resources": [1]}]}, "x"]}),
        ] {
            let mut kinds = Vec::new();
            read(&odd, &mut kinds);
            assert!(kinds.iter().all(|kind| kind.resource.plural.is_empty()));
        }
    }
}
