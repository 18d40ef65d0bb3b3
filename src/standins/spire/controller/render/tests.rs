use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::controller::{
    kinds::ClusterSpiffeIdSpec,
    testing::{cluster, endpoints, node, pod},
};

fn registration(changes: Value) -> Registration {
    let mut spec = json!({"spiffeIDTemplate": "spiffe://shop.test/{{ .PodMeta.Name }}"});
    spec.as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    Registration::read(&serde_json::from_value::<ClusterSpiffeIdSpec>(spec).unwrap()).unwrap()
}

fn render(changes: Value, pod: &Pod) -> Result<Entry, RenderError> {
    pod_entry(&registration(changes), &cluster(), &node("n1"), pod, [])
}

#[test]
fn a_pod_is_known_by_its_uid_and_served_by_the_agent_of_its_node() {
    let entry = render(
        json!({"ttl": "90m", "jwtTtl": "1m", "hint": "h", "admin": true}),
        &pod("shop", "orders-1", "orders"),
    )
    .unwrap();
    assert_eq!(entry.spiffe_id.to_string(), "spiffe://shop.test/orders-1");
    assert_eq!(
        entry.parent_id.to_string(),
        "spiffe://shop.test/spire/agent/k8s_psat/demo/n1-uid"
    );
    assert_eq!(entry.selectors, [Selector::new("k8s", "pod-uid:orders-1-uid")].into());
    assert_eq!((entry.x509_svid_ttl, entry.jwt_svid_ttl, &*entry.hint), (5400, 60, "h"));
    assert!(entry.admin && !entry.downstream && !entry.store_svid && entry.dns_names.is_empty());
}

#[test]
fn selectors_and_dns_names_are_rendered_for_each_pod() {
    let changes = json!({
        "workloadSelectorTemplates": ["k8s:container-name:main", "k8s:ns:{{ .PodMeta.Namespace }}"],
        "dnsNameTemplates": ["{{ .PodMeta.Name }}.{{ .ClusterDomain }}", "{{ .PodMeta.Name }}.cluster.local"],
        "autoPopulateDNSNames": true,
    });
    let (orders, ledger) = (endpoints("shop", "orders", &["orders-1"]), endpoints("shop", "a", &[]));
    let entry = pod_entry(
        &registration(changes),
        &cluster(),
        &node("n1"),
        &pod("shop", "orders-1", "orders"),
        [&orders, &ledger],
    )
    .unwrap();
    let selectors: Vec<String> = entry.selectors.iter().map(ToString::to_string).collect();
    assert_eq!(
        selectors,
        ["k8s:container-name:main", "k8s:ns:shop", "k8s:pod-uid:orders-1-uid"]
    );
    assert_eq!(
        entry.dns_names,
        [
            "orders-1.cluster.local",
            "a",
            "a.shop",
            "a.shop.svc",
            "a.shop.svc.cluster.local",
            "orders",
            "orders.shop",
            "orders.shop.svc",
            "orders.shop.svc.cluster.local"
        ]
    );
    assert_eq!(pods_in(&orders).collect::<Vec<_>>(), ["orders-1-uid"]);
}

#[test]
fn what_is_no_identity_of_a_workload_here_gives_no_entry() {
    for (template, says) in [
        ("{{ .PodMeta.Name }}", "failed to render SPIFFE ID"),
        (
            "spiffe://evil.test/{{ .PodMeta.Name }}",
            "expected trust domain `shop.test`",
        ),
        ("spiffe://shop.test", "no path"),
        ("spiffe://shop.test/", "failed to render SPIFFE ID"),
        ("spiffe://shop.test/a/", "failed to render SPIFFE ID"),
        ("spiffe://shop.test/a//b", "failed to render SPIFFE ID"),
        ("spiffe://shop.test/a/../b", "failed to render SPIFFE ID"),
        ("spiffe://shop.test/a?b", "failed to render SPIFFE ID"),
        ("spiffe://shop.test:80/a", "failed to render SPIFFE ID"),
        ("spiffe://shop.test/spire/server", "/spire is reserved"),
        (
            "spiffe://shop.test/{{ .PodMeta.Labels.team }}",
            "asks for a label or annotation that is not there",
        ),
        (
            "spiffe://shop.test/{{ index .PodMeta.Labels \"team\" }}",
            "failed to render SPIFFE ID",
        ),
        ("spiffe://shop.test/{{ .PodMeta.Team }}", "can't evaluate field Team"),
        ("spiffe://shop.test/{{ .PodMeta.Labels }}", "failed to render SPIFFE ID"),
    ] {
        let error = render(
            json!({"spiffeIDTemplate": template}),
            &pod("shop", "orders-1", "orders"),
        )
        .unwrap_err();
        assert!(error.to_string().contains(says), "{template}: {error}");
    }
    let no_selector = json!({"workloadSelectorTemplates": ["{{ .PodMeta.Name }}"]});
    assert!(matches!(
        render(no_selector, &pod("shop", "a", "a")),
        Err(RenderError::Selector(_))
    ));
    let mut nobody = pod("shop", "a", "a");
    nobody.metadata.uid = None;
    assert_eq!(render(json!({}), &nobody), Err(RenderError::NoUid));
    let mut nowhere = node("n1");
    nowhere.metadata.uid = None;
    let parent = pod_entry(
        &registration(json!({})),
        &cluster(),
        &nowhere,
        &pod("shop", "a", "a"),
        [],
    );
    assert!(
        matches!(parent, Err(RenderError::Id { what: "parent ID", .. })),
        "{parent:?}"
    );
}

#[test]
fn a_nodes_template_knows_no_pod() {
    let mut cluster = cluster();
    cluster.parent = Template::parse("spiffe://shop.test/spire/agent/{{ .PodMeta.Name }}").unwrap();
    let made = pod_entry(
        &registration(json!({})),
        &cluster,
        &node("n1"),
        &pod("shop", "a", "a"),
        [],
    );
    assert!(
        matches!(made, Err(RenderError::Id { what: "parent ID", .. })),
        "{made:?}"
    );
}

proptest! {
    // What somebody may write into a label is no way to another identity than one below the template's own prefix.
    #[test]
    fn no_label_leads_out_of_the_templates_path(label in prop_oneof![".{0,80}", "[a-z.%/-]{0,20}", "[A-Za-z0-9._-]{1,63}"]) {
        let mut pod = pod("shop", "a", "a");
        pod.metadata.labels.get_or_insert_default().insert("team".into(), label.clone());
        if let Ok(entry) = render(json!({"spiffeIDTemplate": "spiffe://shop.test/team/{{ .PodMeta.Labels.team }}"}), &pod) {
            prop_assert_eq!(entry.spiffe_id.to_string(), format!("spiffe://shop.test/team/{label}"));
            let prefix = ztlab_identity::Path::new("/team").unwrap();
            prop_assert!(entry.spiffe_id.path().is_under(&prefix));
            prop_assert!(entry.spiffe_id.path().segments().count() >= 2);
            prop_assert_eq!(SpiffeId::parse(&entry.spiffe_id.to_string()).unwrap(), entry.spiffe_id);
        }
    }

    #[test]
    fn no_pod_panics(name in ".{0,40}", namespace in ".{0,40}", uid in ".{0,40}", account in ".{0,40}", template in ".{0,60}") {
        let mut pod = pod(&namespace, &name, &account);
        pod.metadata.uid = Some(uid);
        for template in [
            template.as_str(),
            "spiffe://shop.test/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}",
            "spiffe://shop.test/{{ .PodMeta.Name }}{{ .PodMeta.UID }}",
        ] {
            let spec = serde_json::from_value(json!({"spiffeIDTemplate": template})).unwrap();
            let Ok(registration) = Registration::read(&spec) else { continue };
            if let Ok(entry) = pod_entry(&registration, &cluster(), &node("n1"), &pod, []) {
                prop_assert_eq!(SpiffeId::parse(&entry.spiffe_id.to_string()).unwrap(), entry.spiffe_id.clone());
                prop_assert_eq!(entry.spiffe_id.trust_domain().as_str(), "shop.test");
            }
        }
    }
}
