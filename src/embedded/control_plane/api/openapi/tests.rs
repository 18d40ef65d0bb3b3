//! The documents as clients read them.

use super::*;

fn document(group: &str) -> Value {
    let (bytes, _) = v3(&Registry::builtin(), group, "v1").expect("served");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn every_url_of_the_index_leads_to_a_document_with_that_hash() {
    let registry = Registry::builtin();
    let index = v3_index(&registry);
    let paths = index["paths"].as_object().expect("paths");
    assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
    let (_, hash) = v3(&registry, "apps", "v1").expect("served");
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .expect("a URL");
    assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={hash}"));
    assert!(v3(&registry, "nope", "v1").is_none());
}

#[test]
fn kubectl_finds_field_validation_for_every_kind_that_can_be_patched() {
    for group in ["", "apps", "networking.k8s.io"] {
        let document = document(group);
        let paths = document["paths"].as_object().expect("paths");
        for resource in Registry::builtin()
            .iter()
            .filter(|r| r.group == group && r.serves("patch"))
        {
            let of_kind = paths
                .values()
                .filter_map(|p| p.get("patch"))
                .find(|patch| patch["x-kubernetes-group-version-kind"]["kind"] == resource.kind.as_str());
            let parameters = of_kind.expect("a patch operation")["parameters"]
                .as_array()
                .expect("parameters");
            assert!(
                parameters.iter().any(|p| p["name"] == "fieldValidation"),
                "{}",
                resource.kind
            );
        }
    }
}

#[test]
fn references_resolve_and_kinds_are_marked() {
    for group in ["", "apps", "rbac.authorization.k8s.io"] {
        let document = document(group);
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let text = document.to_string();
        for reference in text
            .split("\"#/components/schemas/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            assert!(schemas.contains_key(reference), "{reference}");
        }
    }
    let apps = document("apps");
    let deployment = &apps["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
    assert!(deployment.get("required").is_none(), "{deployment}");
    let spec = &apps["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(spec["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(spec["x-kubernetes-list-map-keys"], json!(["name"]));
}

#[test]
fn no_position_holds_a_bare_true() {
    let apps = document("apps");
    let revision = &apps["components"]["schemas"]["io.k8s.api.apps.v1.ControllerRevision"]["properties"]["data"];
    assert!(revision.is_object(), "{revision}");
}

#[test]
fn version_two_has_every_kind_and_says_nothing_that_it_cannot() {
    let registry = Registry::builtin();
    let (bytes, hash) = v2(&registry, Form::Json);
    let document: Value = serde_json::from_slice(&bytes).expect("JSON");
    let definitions = document["definitions"].as_object().expect("definitions");
    let text = document.to_string();
    for reference in text
        .split("\"$ref\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        let name = reference.strip_prefix("#/definitions/").expect("a definition");
        assert!(definitions.contains_key(name), "{name}");
    }
    for open in [
        "\"oneOf\":[",
        "\"anyOf\":[",
        "\"allOf\":[",
        "\"nullable\":true",
        "\"content\":{\"application",
    ] {
        assert!(!text.contains(open), "{open}");
    }
    for resource in registry.iter() {
        let kind = json!({"group": resource.group, "kind": resource.kind, "version": resource.version});
        let marks = &definitions[&resource.schema]["x-kubernetes-group-version-kind"];
        assert!(marks.as_array().expect("marks").contains(&kind), "{kind}");
    }
    let pod = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"];
    let names = |list: &Value| -> Vec<String> {
        let all = list.as_array().expect("parameters").iter();
        all.map(|one| one["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(names(&pod["parameters"]), ["namespace", "name"]);
    assert_eq!(
        names(&pod["patch"]["parameters"]),
        ["dryRun", "fieldManager", "fieldValidation", "force", "body"]
    );
    assert_eq!(pod["patch"]["parameters"][0]["type"], "string");
    assert_eq!(
        pod["put"]["parameters"][3]["schema"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.Pod"
    );
    assert_eq!(
        pod["get"]["responses"]["200"]["schema"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.Pod"
    );
    let strategy = &definitions["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"];
    assert_eq!(strategy["x-kubernetes-patch-strategy"], "retainKeys");
    assert_eq!(
        definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["type"],
        "string"
    );
    assert_eq!(v2(&registry, Form::Json), (bytes, hash.clone()));
    let (protobuf, other) = v2(&registry, Form::Protobuf);
    assert_ne!(hash, other);
    assert!(protobuf.starts_with(b"\x0a\x032.0"));
}

#[test]
fn what_version_two_cannot_say_of_a_custom_kind_is_left_open() {
    let mut schema = json!({
        "type": "object",
        "properties": {
            "a": {"type": "string", "nullable": true, "description": "an a"},
            "b": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "c": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"d": {"type": "string"}}},
            "e": {"type": "array", "items": {"type": "integer", "oneOf": [{"minimum": 1}, {"maximum": -1}]}},
            "metadata": {"allOf": [{"$ref": "#/components/schemas/io.k8s.M"}]},
        },
        "required": ["a"],
    });
    swagger::convert_schema(&mut schema);
    assert_eq!(
        schema,
        json!({
            "type": "object",
            "properties": {
                "a": {"description": "an a"},
                "b": {"x-kubernetes-int-or-string": true},
                "c": {"x-kubernetes-preserve-unknown-fields": true},
                "e": {"type": "array", "items": {"type": "integer"}},
                "metadata": {"$ref": "#/definitions/io.k8s.M"},
            },
            "required": ["a"],
        })
    );
}
