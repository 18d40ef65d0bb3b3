//! One broken link of the chain at a time.

use serde_json::{Value, json};

use super::*;
use crate::spire::{
    find,
    manager::Manager,
    model::{bundle_set, own_bundle},
    rules::Rule,
    svid::SvidView,
    testing::{NOW, bundle_json, entry, id, pod_json, read, world},
};

/// A world with an entry for `orders-1`.
fn registered() -> World {
    let mut world = world();
    world.answers.entries = Ok(vec![entry("orders", &["k8s:ns:shop", "k8s:sa:orders"])]);
    world
}

fn orders(world: &World) -> Pod {
    let mut pods = world.pods.iter();
    pods.find(|pod| pod.name_any() == "orders-1").unwrap().clone()
}

fn unseen() -> Sight {
    Sight::nothing("it serves nowhere")
}

fn shows(name: &str, until: i64) -> Sight {
    let (authority, json) = bundle_json("shop.test");
    let der = authority.svid(
        &format!("spiffe://shop.test/{name}"),
        u64::try_from(NOW - 60).unwrap(),
        u64::try_from(until).unwrap(),
    );
    let bundles = bundle_set(&[own_bundle(&json).unwrap()]);
    Sight {
        svids: vec![SvidView::of(vec![der], 8080, true, Some(&bundles), NOW).unwrap()],
        because: String::new(),
    }
}

fn told(world: &World) -> Explanation {
    explain(world, &orders(world), None, unseen())
}

fn next(explanation: &Explanation) -> String {
    let all: Vec<&str> = explanation
        .steps
        .iter()
        .filter_map(|step| step.next.as_deref())
        .collect();
    all.join("\n")
}

#[test]
fn what_is_registered_can_ask_and_has_an_agent_gets_its_identity() {
    let explanation = told(&registered());
    assert_eq!(explanation.verdict, Verdict::Identified, "{explanation:#?}");
    assert_eq!(explanation.ids, [id("/orders")]);
    assert!(
        explanation
            .steps
            .iter()
            .all(|step| step.holds == Answer::Yes && step.next.is_none())
    );
    assert_eq!(
        explanation.because,
        "spiffe://shop.test/orders, which an entry gives; no handshake showed it"
    );
    assert_eq!(explanation.container, "main");
}

/// Changes a world, and names the step that breaks, what is said, and what is advised.
type Case = (&'static str, fn(&mut World), &'static str, &'static str);

#[test]
fn each_broken_link_is_named_with_what_to_do() {
    fn with_pod(world: &mut World, change: impl FnOnce(&mut Value)) {
        let mut json = pod_json("orders-1", "orders");
        change(&mut json);
        world.pods.retain(|pod| pod.name_any() != "orders-1");
        world.pods.push(read(json));
    }
    fn with_part(world: &mut World, name: &str, change: impl FnOnce(&mut Pod)) {
        change(world.pods.iter_mut().find(|pod| pod.name_any() == name).unwrap());
        world.found = find::find(&world.pods);
    }
    let cases: &[Case] = &[
        (
            "the pod runs",
            |world| with_pod(world, |pod| pod["status"] = json!({"phase": "Pending"})),
            "its phase is Pending",
            "kubectl -n shop describe pod orders-1",
        ),
        (
            "it can reach the Workload API",
            |world| with_pod(world, |pod| pod["spec"]["volumes"] = json!([])),
            "no volume of the CSI driver csi.spiffe.io",
            "csi: {driver: csi.spiffe.io",
        ),
        (
            "it can reach the Workload API",
            |world| with_pod(world, |pod| pod["spec"]["containers"][0]["volumeMounts"] = json!([])),
            "no container mounts it",
            "mount it",
        ),
        (
            "it can reach the Workload API",
            |world| {
                with_pod(world, |pod| {
                    pod["spec"]["containers"][0]["env"] =
                        json!([{"name": "SPIFFE_ENDPOINT_SOCKET", "value": "unix:///elsewhere/api.sock"}]);
                });
            },
            "SPIFFE_ENDPOINT_SOCKET of the container main is /elsewhere/api.sock",
            "set SPIFFE_ENDPOINT_SOCKET to unix:///spiffe-workload-api/",
        ),
        (
            "an agent is ready on its node",
            |world| with_pod(world, |pod| pod["spec"]["nodeName"] = json!("node-2")),
            "no SPIRE agent runs on the node node-2; there are agents on node-1",
            "kubectl -n spire describe daemonset",
        ),
        (
            "an agent is ready on its node",
            |world| {
                world.pods.retain(|pod| pod.name_any() != "spire-agent-x");
                world.found = find::find(&world.pods);
            },
            "no SPIRE agent runs in the cluster",
            "ztlab manifests spire",
        ),
        (
            "an agent is ready on its node",
            |world| {
                with_part(world, "spire-agent-x", |pod| {
                    pod.status.as_mut().unwrap().conditions = None
                })
            },
            "the agent spire/spire-agent-x on the node node-1 is not ready",
            "kubectl -n spire logs spire-agent-x",
        ),
        (
            "the SPIRE server answers",
            |world| {
                with_part(world, "spire-server-0", |pod| {
                    pod.status.as_mut().unwrap().conditions = None
                });
                world.answers.health = Err("server is unhealthy".into());
            },
            "server is unhealthy",
            "kubectl -n spire logs spire-server-0 -c spire-server",
        ),
        (
            "the server has attested that agent",
            |world| world.answers.agents = Ok(Vec::new()),
            "of the 0 agents that the server knows none is that of the node node-1",
            "kubectl -n spire logs spire-agent-x",
        ),
        (
            "the server has attested that agent",
            |world| world.answers.agents.as_mut().unwrap()[0].banned = true,
            "is banned",
            "agent evict",
        ),
        (
            "the server has attested that agent",
            |world| world.answers.agents.as_mut().unwrap()[0].expires_at = NOW,
            "ended, and it did not attest again",
            "see its log",
        ),
        (
            "a registration entry is for it",
            |world| world.answers.entries = Ok(Vec::new()),
            "the server has no registration entry at all",
            "spire-server entry create -parentID spiffe://shop.test/spire/agent/k8s_psat/demo/node-uid \
             -spiffeID spiffe://shop.test/ns/shop/sa/orders -selector k8s:ns:shop -selector k8s:sa:orders",
        ),
        (
            "a registration entry is for it",
            |world| world.answers.entries = Ok(vec![entry("typo", &["k8s:ns:shop", "k8s:sa:order"])]),
            "the one registration entry that the server has does not match it",
            "if the entry typo is meant for it, mend it with `spire-server entry update`: \
             its service account is `orders`, not `order`",
        ),
    ];
    for (what, change, says, advice) in cases {
        let mut world = registered();
        change(&mut world);
        let explanation = told(&world);
        assert_eq!(explanation.verdict, Verdict::Nothing, "{says}: {explanation:#?}");
        let broken = explanation.steps.iter().find(|step| step.holds == Answer::No).unwrap();
        assert_eq!(broken.what, *what, "{explanation:#?}");
        assert!(broken.says.contains(says), "{broken:?}");
        assert_eq!(explanation.because, broken.says);
        assert!(next(&explanation).contains(advice), "{says}: {}", next(&explanation));
    }
}

#[test]
fn without_spire_it_is_said_what_was_looked_for() {
    let mut world = registered();
    world.pods.retain(|pod| pod.namespace().as_deref() == Some("shop"));
    world.found = find::find(&world.pods);
    let why = format!("no SPIRE server was found; looked for: {}", find::LOOKED_FOR);
    world.answers.health = Err(why.clone());
    world.answers.entries = Err(why.clone());
    world.answers.agents = Err(why);
    let explanation = told(&world);
    assert_eq!(explanation.verdict, Verdict::Nothing);
    assert!(
        explanation.because.starts_with("there is no SPIRE in the cluster"),
        "{}",
        explanation.because
    );
    let server = explanation
        .steps
        .iter()
        .find(|step| step.what == "the SPIRE server answers")
        .unwrap();
    assert!(server.says.contains("image or name is `spire-server`"), "{server:?}");
    assert_eq!(explanation.entries, None);
}

#[test]
fn whoever_may_look_at_one_namespace_only_is_not_told_that_there_is_no_spire() {
    let mut world = registered();
    world.pods.retain(|pod| pod.namespace().as_deref() == Some("shop"));
    world.found = find::find(&world.pods);
    world.scope = Scope::Namespaces(vec!["shop".into()]);
    world.nodes.clear();
    world.nodes_unknown = Some("the nodes are not known: you may not list them".into());
    let why = "whether a SPIRE server runs is not known".to_owned();
    world.answers.health = Err(why.clone());
    world.answers.entries = Err(why.clone());
    world.answers.agents = Err(why);
    let explanation = told(&world);
    assert_eq!(explanation.verdict, Verdict::Undetermined, "{explanation:#?}");
    assert!(!next(&explanation).contains("install"), "{}", next(&explanation));
    assert!(
        next(&explanation).contains("name SPIRE's namespace too"),
        "{}",
        next(&explanation)
    );
    let seen = explain(&world, &orders(&world), None, shows("orders", NOW + 600));
    assert_eq!(seen.verdict, Verdict::Identified);
}

#[test]
fn without_a_right_to_nodes_nobody_says_that_an_agent_is_missing() {
    let mut world = registered();
    world.nodes.clear();
    world.nodes_unknown = Some("the nodes are not known: you may not list them".into());
    let explanation = told(&world);
    assert_eq!(explanation.verdict, Verdict::Undetermined, "{explanation:#?}");
    let unknown: Vec<&str> = explanation
        .steps
        .iter()
        .filter(|step| step.holds == Answer::Undetermined)
        .map(|step| step.what)
        .collect();
    assert_eq!(
        unknown,
        ["the server has attested that agent", "a registration entry is for it"]
    );
}

#[test]
fn a_server_that_is_switched_off_is_what_it_comes_to() {
    let mut world = registered();
    world.pods.retain(|pod| !pod.name_any().starts_with("spire-"));
    world.found = find::find(&world.pods);
    let set = json!({"metadata": {"name": "spire-server", "namespace": "spire"}, "spec": {"replicas": 0, "selector": {},
        "serviceName": "s", "template": {"spec": {"containers": [{"name": "spire-server"}]}}}});
    world.found.declared = find::declared(&[read(set)], &[], &[]);
    world.answers.health = Err(crate::spire::absence::server(&world.found, &world.scope).unwrap().says);
    let explanation = told(&world);
    let server = &explanation.steps[3];
    assert_eq!(
        server.says,
        "no SPIRE server runs: the StatefulSet spire/spire-server is scaled to 0"
    );
    assert!(server.next.as_ref().unwrap().contains("--replicas=1"), "{server:?}");
    assert!(
        !explanation.because.starts_with("there is no SPIRE"),
        "{}",
        explanation.because
    );
}

#[test]
fn a_server_that_may_not_be_asked_leaves_it_open() {
    let mut world = registered();
    world.answers.health = Err("pods \"spire-server-0\" is forbidden".into());
    world.answers.entries = Err("forbidden".into());
    world.answers.agents = Err("forbidden".into());
    let explanation = told(&world);
    assert_eq!(explanation.verdict, Verdict::Undetermined, "{explanation:#?}");
    assert!(
        next(&explanation).contains("the right to exec"),
        "{}",
        next(&explanation)
    );
    // What a handshake shows, it has all the same.
    let seen = explain(&world, &orders(&world), None, shows("orders", NOW + 600));
    assert_eq!(seen.verdict, Verdict::Identified);
}

#[test]
fn what_it_shows_and_what_it_may_have_are_told_apart() {
    let world = registered();
    let pod = orders(&world);
    for (name, until, broken, verdict, says) in [
        (
            "orders",
            NOW + 600,
            false,
            Verdict::Identified,
            "spiffe://shop.test/orders, which a handshake showed and an entry gives",
        ),
        (
            "old-name",
            NOW + 600,
            false,
            Verdict::Identified,
            "it shows spiffe://shop.test/old-name, which no entry gives it any more; the entries give spiffe://shop.test/orders",
        ),
        (
            "orders",
            NOW + 600,
            true,
            Verdict::Fading,
            "it still shows spiffe://shop.test/orders, and will not get the next: no SPIRE agent runs in the cluster",
        ),
        (
            "orders",
            NOW - 1,
            true,
            Verdict::Nothing,
            "no SPIRE agent runs in the cluster",
        ),
    ] {
        let mut world = registered();
        if broken {
            world.pods.retain(|pod| pod.name_any() != "spire-agent-x");
            world.found = find::find(&world.pods);
        }
        let explanation = explain(&world, &pod, None, shows(name, until));
        assert_eq!(explanation.verdict, verdict, "{explanation:#?}");
        assert!(explanation.because.starts_with(says), "{}", explanation.because);
    }
}

fn rule(name: &str, spec: Value) -> Rule {
    read(json!({"metadata": {"name": name}, "spec": spec}))
}

#[test]
fn a_clusterspiffeid_that_almost_selects_the_pod_is_named_with_the_label() {
    let mut world = world();
    world.answers.entries = Ok(vec![entry("ledger", &["k8s:pod-uid:ledger-uid"])]);
    world.rules = Ok(vec![
        rule(
            "bank",
            json!({"podSelector": {"matchLabels": {"app": "x", "bank": "y"}}}),
        ),
        rule(
            "shop",
            json!({"spiffeIDTemplate": "t", "podSelector": {"matchLabels": {"identity": "wanted"}}}),
        ),
    ]);
    let explanation = told(&world);
    assert_eq!(explanation.verdict, Verdict::Nothing);
    let names: Vec<&str> = explanation.rules.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["shop", "bank"], "the nearest first");
    let advice = next(&explanation);
    assert!(
        advice.contains("put the label identity=wanted in its template, or widen the podSelector"),
        "{advice}"
    );
    world.rules = Ok(vec![rule(
        "shop",
        json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}),
    )]);
    let advice = next(&told(&world));
    assert!(advice.contains("put the label team=a on its namespace"), "{advice}");
}

#[test]
fn a_clusterspiffeid_that_selects_the_pod_without_effect_leads_to_the_controller_manager() {
    let mut world = world();
    let broken = json!({"metadata": {"name": "shop"}, "spec": {},
        "status": {"stats": {"podEntryRenderFailures": 1}}});
    world.rules = Ok(vec![read(broken)]);
    let advice = next(&told(&world));
    assert!(
        advice.contains("the ClusterSPIFFEID shop selects it, and there is no entry"),
        "{advice}"
    );
    assert!(advice.contains("1 pods for which no entry could be made"), "{advice}");
    assert!(advice.contains("no controller manager runs"), "{advice}");
}

#[test]
fn where_an_entry_comes_from_is_told() {
    let manager = Manager {
        prefix: "demo.".into(),
        ..Manager::default()
    };
    let selecting = || Ok(vec![rule("shop", json!({}))]);
    for (name, selectors, manager, rules, origin) in [
        (
            "demo.1",
            "k8s:pod-uid:orders-1-uid",
            Some(manager.clone()),
            selecting(),
            "the controller manager made it; the ClusterSPIFFEID shop selects the pod",
        ),
        (
            "demo.1",
            "k8s:pod-uid:orders-1-uid",
            Some(manager.clone()),
            Ok(Vec::new()),
            "no ClusterSPIFFEID selects the pod any more",
        ),
        ("by-hand", "k8s:ns:shop", Some(manager), selecting(), "made by hand"),
        (
            "unmarked",
            "k8s:pod-uid:orders-1-uid",
            None,
            selecting(),
            "the controller manager made it; the ClusterSPIFFEID shop selects the pod",
        ),
        ("unmarked", "k8s:ns:shop", None, selecting(), "made by hand"),
    ] {
        let mut world = world();
        world.answers.entries = Ok(vec![entry(name, &[selectors])]);
        world.manager = manager;
        world.rules = rules;
        let explanation = told(&world);
        assert!(
            explanation.matching[0].origin.contains(origin),
            "{:?}",
            explanation.matching[0].origin
        );
    }
}

#[test]
fn a_hostpath_to_the_agents_sockets_reaches_the_workload_api_too() {
    let mut world = registered();
    let mut json = pod_json("orders-1", "orders");
    for (path, reaches) in [
        ("/run/spire/agent-sockets", true),
        ("/run/spire/agent-sockets/public", true),
        ("/run/spire/agent-sockets-other", false),
        ("/var/log", false),
    ] {
        json["spec"]["volumes"] = json!([{"name": "api", "hostPath": {"path": path}}]);
        world.pods.retain(|pod| pod.name_any() != "orders-1");
        world.pods.push(read(json.clone()));
        assert_eq!(told(&world).verdict == Verdict::Identified, reaches, "{path}");
    }
}

#[test]
fn an_entry_that_asks_for_what_only_the_agent_sees_leaves_it_open() {
    let mut world = world();
    world.answers.entries = Ok(vec![entry("unix", &["k8s:ns:shop", "unix:uid:1000"])]);
    let explanation = told(&world);
    assert_eq!(explanation.verdict, Verdict::Undetermined, "{explanation:#?}");
    assert!(explanation.because.contains("unix:uid:1000"), "{}", explanation.because);
}

#[test]
fn a_warning_about_a_pod_that_waits_is_told() {
    let mut world = registered();
    let mut json = pod_json("orders-1", "orders");
    json["status"] = json!({"phase": "Pending", "containerStatuses": [{"name": "main", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]});
    world.pods.retain(|pod| pod.name_any() != "orders-1");
    world.pods.push(read(json));
    let explanation = explain(
        &world,
        &orders(&world),
        Some("FailedMount: driver name csi.spiffe.io not found"),
        unseen(),
    );
    assert_eq!(
        explanation.because,
        "its phase is Pending, it waits for ContainerCreating; the last warning: FailedMount: driver name csi.spiffe.io not found"
    );
}
