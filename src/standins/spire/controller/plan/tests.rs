use serde_json::json;

use super::*;
use crate::controller::testing::{cluster_spiffe_id, endpoints, pod, scope, snapshot, static_entry};

/// What the server has once `plan` was carried out on `there`.
fn carried_out(plan: &Plan, mut there: Vec<types::Entry>) -> Vec<types::Entry> {
    there.retain(|entry| !plan.delete.contains(&entry.id));
    for (id, declared) in &plan.update {
        let old = there
            .iter_mut()
            .find(|entry| entry.id == *id)
            .expect("an entry that is changed is there");
        *old = declared.entry.message(id.clone());
    }
    for (number, declared) in plan.create.iter().enumerate() {
        there.push(declared.entry.message(format!("demo.new-{number}")));
    }
    there
}

fn ids(plan: &Plan) -> Vec<String> {
    plan.create
        .iter()
        .map(|declared| declared.entry.spiffe_id.to_string())
        .collect()
}

fn stats(plan: &Plan, name: &str) -> Stats {
    let outcome = plan
        .spiffe_ids
        .iter()
        .find(|outcome| outcome.object.metadata.name.as_deref() == Some(name));
    outcome.expect("the object was looked at").stats
}

#[test]
fn every_selected_pod_gets_an_entry_and_then_nothing_more_is_to_do() {
    let snapshot = snapshot(vec![cluster_spiffe_id("all", 0, json!({}))]);
    let first = plan(&scope(), &snapshot, &[]);
    assert_eq!(
        ids(&first),
        [
            "spiffe://shop.test/ns/shop/sa/ledger",
            "spiffe://shop.test/ns/shop/sa/orders"
        ]
    );
    let counts = stats(&first, "all");
    assert_eq!(
        (
            counts.namespaces_selected,
            counts.namespaces_ignored,
            counts.pods_selected
        ),
        (2, 1, 2)
    );
    assert_eq!(
        (
            counts.entries_to_set,
            counts.entries_masked,
            counts.pod_entry_render_failures
        ),
        (2, 0, 0)
    );
    let again = plan(&scope(), &snapshot, &carried_out(&first, Vec::new()));
    assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
    assert_eq!(stats(&again, "all"), counts);
}

#[test]
fn what_changes_is_updated_and_what_goes_is_deleted() {
    let mut world = snapshot(vec![cluster_spiffe_id("all", 0, json!({}))]);
    let there = carried_out(&plan(&scope(), &world, &[]), Vec::new());
    world.cluster_spiffe_ids = vec![Arc::new(cluster_spiffe_id("all", 0, json!({"ttl": "5m"})))];
    world.pods.remove(0);
    let next = plan(&scope(), &world, &there);
    assert!(next.create.is_empty());
    assert_eq!(next.update.len(), 1);
    assert_eq!(next.update[0].1.entry.x509_svid_ttl, 300);
    assert_eq!(next.delete.len(), 1);
    let there = carried_out(&next, there);
    assert_eq!(there.len(), 1);
    world.cluster_spiffe_ids.clear();
    assert_eq!(plan(&scope(), &world, &there).delete, [there[0].id.clone()]);
}

#[test]
fn each_field_that_differs_is_a_change_and_order_is_none() {
    let world = snapshot(vec![cluster_spiffe_id(
        "all",
        0,
        json!({"podSelector": {"matchLabels": {"app": "orders"}},
        "dnsNameTemplates": ["a", "b"]}),
    )]);
    let there = carried_out(&plan(&scope(), &world, &[]), Vec::new());
    let changed = |change: fn(&mut types::Entry)| {
        let mut there = there.clone();
        change(&mut there[0]);
        plan(&scope(), &world, &there).update.len()
    };
    assert_eq!(changed(|entry| entry.dns_names.reverse()), 0);
    assert_eq!(changed(|entry| entry.revision_number = 7), 0);
    for change in [
        (|entry| entry.dns_names.clear()) as fn(&mut types::Entry),
        |entry| entry.x509_svid_ttl = 1,
        |entry| entry.jwt_svid_ttl = 1,
        |entry| entry.admin = true,
        |entry| entry.downstream = true,
        |entry| entry.hint = "x".into(),
        |entry| entry.store_svid = true,
        |entry| entry.federates_with.push("partner.test".into()),
    ] {
        assert_eq!(changed(change), 1);
    }
}

#[test]
fn entries_that_somebody_made_by_hand_are_left_alone() {
    let mine = plan(&scope(), &snapshot(vec![cluster_spiffe_id("all", 0, json!({}))]), &[]);
    let by_hand = mine.create[0].entry.message("3f0c".into());
    let malformed = types::Entry {
        id: "demo.broken".into(),
        ..types::Entry::default()
    };
    let none = plan(&scope(), &snapshot(Vec::new()), &[by_hand.clone(), malformed.clone()]);
    assert!(none.delete.is_empty() && none.update.is_empty());
    // Without a prefix all entries are the controller manager's, as SPIRE's own does it.
    let mut all = scope();
    all.prefix.clear();
    assert_eq!(
        plan(&all, &snapshot(Vec::new()), std::slice::from_ref(&by_hand)).delete,
        ["3f0c"]
    );
    // Those of another time are cleaned up when that is asked for.
    for (cleanup, deleted) in [("", vec!["3f0c"]), ("old.", vec!["old.1"])] {
        let mut scope = scope();
        scope.cleanup = Some(cleanup.into());
        let old = types::Entry {
            id: "old.1".into(),
            ..by_hand.clone()
        };
        assert_eq!(
            plan(&scope, &snapshot(Vec::new()), &[by_hand.clone(), old]).delete,
            deleted
        );
    }
}

#[test]
fn the_entry_of_a_join_token_is_never_deleted() {
    let token = |parent: &str, kind: &str| types::Entry {
        id: "1".into(),
        spiffe_id: Some(types::Spiffeid {
            trust_domain: "shop.test".into(),
            path: "/node".into(),
        }),
        parent_id: Some(types::Spiffeid {
            trust_domain: "shop.test".into(),
            path: parent.into(),
        }),
        selectors: vec![types::Selector {
            r#type: kind.into(),
            value: "x".into(),
        }],
        ..types::Entry::default()
    };
    let mut scope = scope();
    scope.prefix.clear();
    let deleted = |entry: types::Entry| plan(&scope, &snapshot(Vec::new()), &[entry]).delete.len();
    assert_eq!(deleted(token("/spire/agent/join_token/t", "spiffe_id")), 0);
    assert_eq!(deleted(token("/spire/agent/join_token/t", "unix")), 1);
    assert_eq!(deleted(token("/spire/agent/join_tokens/t", "spiffe_id")), 1);
}

#[test]
fn of_two_that_give_a_pod_the_same_identity_the_older_counts() {
    let same = json!({"podSelector": {"matchLabels": {"app": "orders"}}});
    let young = cluster_spiffe_id(
        "a-young",
        9,
        json!({"podSelector": {"matchLabels": {"app": "orders"}}, "hint": "young"}),
    );
    let world = snapshot(vec![young, cluster_spiffe_id("old", 1, same)]);
    let made = plan(&scope(), &world, &[]);
    assert_eq!(made.create.len(), 1);
    assert_eq!(made.create[0].entry.hint, "");
    assert_eq!(
        (stats(&made, "old").entries_to_set, stats(&made, "old").entries_masked),
        (1, 0)
    );
    assert_eq!(
        (
            stats(&made, "a-young").entries_to_set,
            stats(&made, "a-young").entries_masked
        ),
        (0, 1)
    );
}

#[test]
fn a_fallback_counts_only_where_no_other_does() {
    let orders =
        json!({"podSelector": {"matchLabels": {"app": "orders"}}, "spiffeIDTemplate": "spiffe://shop.test/orders"});
    let fallback = json!({"fallback": true, "spiffeIDTemplate": "spiffe://shop.test/other/{{ .PodMeta.Name }}"});
    let world = snapshot(vec![
        cluster_spiffe_id("a", 0, fallback),
        cluster_spiffe_id("b", 1, orders),
    ]);
    let mut made = ids(&plan(&scope(), &world, &[]));
    made.sort();
    assert_eq!(made, ["spiffe://shop.test/orders", "spiffe://shop.test/other/ledger-1"]);
}

#[test]
fn namespaces_are_selected_by_their_labels_and_classes_by_their_names() {
    let other = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}});
    let made = plan(&scope(), &snapshot(vec![cluster_spiffe_id("a", 0, other)]), &[]);
    assert_eq!((made.create.len(), stats(&made, "a").namespaces_selected), (0, 0));
    let classed = || {
        snapshot(vec![
            cluster_spiffe_id("a", 0, json!({"className": "c"})),
            cluster_spiffe_id("b", 0, json!({})),
        ])
    };
    let looked_at = |class: &str, classless: bool| {
        let mut scope = scope();
        (scope.class_name, scope.watch_classless) = (class.into(), classless);
        let plan = plan(&scope, &classed(), &[]);
        plan.spiffe_ids
            .iter()
            .map(|outcome| outcome.object.metadata.name.clone().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(looked_at("", false), ["b"]);
    assert_eq!(looked_at("c", false), ["a"]);
    assert_eq!(looked_at("c", true), ["a", "b"]);
    assert_eq!(looked_at("d", false), [""; 0]);
}

#[test]
fn a_broken_object_says_so_and_takes_nothing_from_others() {
    let broken = cluster_spiffe_id("broken", 0, json!({"spiffeIDTemplate": "{{ .PodMeta"}));
    let half = cluster_spiffe_id(
        "half",
        0,
        json!({"spiffeIDTemplate":
        "spiffe://shop.test/{{ if eq .PodMeta.Name \"orders-1\" }}{{ .PodMeta.Nmae }}{{ else }}b{{ end }}"}),
    );
    let made = plan(
        &scope(),
        &snapshot(vec![broken, half, cluster_spiffe_id("fine", 0, json!({}))]),
        &[],
    );
    assert_eq!(made.create.len(), 3);
    assert!(
        made.spiffe_ids[0]
            .invalid
            .as_deref()
            .unwrap()
            .starts_with("spiffeIDTemplate: invalid template")
    );
    let half = &made.spiffe_ids[2];
    assert_eq!(
        (half.stats.pod_entry_render_failures, half.stats.entries_to_set),
        (1, 1)
    );
    let why = half.render_failure.as_deref().unwrap();
    assert!(why.starts_with("pod shop/orders-1: ") && why.contains("Nmae"), "{why}");
}

#[test]
fn a_pod_that_has_no_node_yet_is_waited_for() {
    let mut world = snapshot(vec![cluster_spiffe_id("all", 0, json!({}))]);
    let mut pending = pod("shop", "pending", "orders");
    pending.spec.as_mut().unwrap().node_name = None;
    world.pods.push(Arc::new(pending));
    let made = plan(&scope(), &world, &[]);
    let counts = stats(&made, "all");
    assert_eq!(
        (
            counts.pods_selected,
            counts.entries_to_set,
            counts.pod_entry_render_failures
        ),
        (3, 2, 0)
    );
}

#[test]
fn services_in_front_of_a_pod_name_it() {
    let mut world = snapshot(vec![cluster_spiffe_id("all", 0, json!({"autoPopulateDNSNames": true}))]);
    world.endpoints = vec![Arc::new(endpoints("shop", "orders", &["orders-1"]))];
    let made = plan(&scope(), &world, &[]);
    let names = |app: &str| {
        let id = format!("spiffe://shop.test/ns/shop/sa/{app}");
        let declared = made
            .create
            .iter()
            .find(|declared| declared.entry.spiffe_id.to_string() == id);
        declared.unwrap().entry.dns_names.clone()
    };
    assert_eq!(
        names("orders"),
        [
            "orders",
            "orders.shop",
            "orders.shop.svc",
            "orders.shop.svc.cluster.local"
        ]
    );
    assert!(names("ledger").is_empty());
}

#[test]
fn a_static_entry_is_set_masked_or_not_even_read() {
    let mut world = snapshot(Vec::new());
    world.static_entries = vec![
        Arc::new(static_entry("first", 0, json!({}))),
        Arc::new(static_entry("second", 1, json!({"hint": "x"}))),
        Arc::new(static_entry("broken", 2, json!({"selectors": ["nonsense"]}))),
    ];
    let mut made = plan(&scope(), &world, &[]);
    let states = |plan: &Plan| {
        let of = plan.static_entries.iter();
        of.map(|outcome| (outcome.rendered, outcome.masked, outcome.set))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        states(&made),
        [(true, false, false), (true, true, false), (false, false, false)]
    );
    let by = made.create[0].by;
    made.accepted(by);
    assert_eq!(states(&made)[0], (true, false, true));
    let there = carried_out(&made, Vec::new());
    assert_eq!(states(&plan(&scope(), &world, &there))[0], (true, false, true));
    made.refused(by, "no");
    assert_eq!(states(&made)[0], (true, false, false));
}
