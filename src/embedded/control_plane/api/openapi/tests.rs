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
fn the_empty_v2_document_is_well_formed() {
    let bytes = v2();
    assert_eq!(&bytes[..5], b"\x0a\x032.0");
    assert_eq!(usize::from(bytes[6]), bytes.len() - 7);
}
