//! Objects of the Kubernetes API.

use serde_json::json;

use super::*;

#[test]
fn objects_count_when_the_student_made_them_as_asked() {
    let policy = |name: &str, manager: &str, spec: serde_json::Value| {
        json!({
            "kind": "NetworkPolicy",
            "metadata": { "name": name, "managedFields": [{ "manager": manager, "operation": "Apply" }] },
            "spec": spec,
        })
    };
    let good = json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] });
    let objects = |found: Vec<serde_json::Value>| {
        Evidence::Objects(Objects {
            kind_known: true,
            found,
        })
    };
    for (found, expected) in [
        (vec![policy("default-deny", "kubectl", good.clone())], PASSED),
        (vec![], unclear(Finding::NoObject)),
        (
            vec![policy("default-deny", "ztlab", good.clone())],
            unclear(Finding::NoObject),
        ),
        (
            vec![policy("deny", "kubectl", good.clone())],
            failed(Finding::OtherObject),
        ),
        (
            vec![policy(
                "default",
                "kubectl",
                json!({ "podSelector": { "matchLabels": {} }, "policyTypes": ["Ingress"] }),
            )],
            failed(Finding::OtherObject),
        ),
        (
            vec![policy(
                "default",
                "kubectl",
                json!({ "podSelector": {}, "policyTypes": ["Egress"] }),
            )],
            failed(Finding::OtherObject),
        ),
        (
            vec![policy(
                "default",
                "kubectl",
                json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [] }),
            )],
            failed(Finding::OtherObject),
        ),
        (
            vec![policy(
                "default",
                "kubectl",
                json!({ "podSelector": {}, "policyTypes": ["Ingress"], "egress": [1, 2] }),
            )],
            failed(Finding::OtherObject),
        ),
        // One that is right is enough, whatever else there is.
        (
            vec![
                policy("other", "kubectl", json!({})),
                policy("default-deny", "kubectl-edit", good.clone()),
            ],
            PASSED,
        ),
    ] {
        assert_eq!(says("object", &objects(found.clone())), expected, "{found:?}");
    }
    let unknown = Evidence::Objects(Objects::default());
    assert_eq!(says("object", &unknown), unclear(Finding::NoObject));
    assert_eq!(says("none", &objects(vec![])), PASSED);
    let secret = json!({ "kind": "Secret", "metadata": { "name": "ca-key" }, "data": { "k": "aGlkZGVu" } });
    let judgement = judge(&check("none"), &objects(vec![secret]));
    assert_eq!(judgement.finding, Finding::OtherObject);
    assert!(!format!("{judgement:?}").contains("aGlkZGVu"));
}
