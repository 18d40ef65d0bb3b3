//! Endpoints objects, those that somebody writes by hand, and the cluster's own Services.

use serde_json::{Value, json};

use super::{
    REFUSED, client, cluster_ip, field, get,
    lab::{self, Lab},
    node_ip, pod_ip,
    rules::slice,
    server, service,
};

fn shown(lab: &Lab, name: &str) -> String {
    let output = lab.try_kubectl(&["get", "endpoints", name, "--no-headers"]);
    let text = lab::text(&output.stdout);
    text.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

fn patch(lab: &Lab, what: &[&str], patch: &Value) {
    let patch = patch.to_string();
    let mut args = vec!["patch"];
    args.extend_from_slice(what);
    args.extend_from_slice(&["--type=merge", "-p", &patch]);
    lab.kubectl(&args);
}

fn follow_pods(lab: &Lab) {
    let unready = json!({"containers": [{"name": "main", "image": super::AGNHOST, "command": ["/agnhost", "netexec"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1}}]});
    lab.apply(&[
        server("one", json!({})),
        server("two", unready),
        service(
            "web",
            json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}),
        ),
    ]);
    lab.ready("one");
    let one = pod_ip(lab, "one");
    lab.until("the ready pod is an endpoint", || {
        shown(lab, "web") == format!("{one}:8080")
    });
    lab.until("the other is not ready", || {
        let endpoints = lab.get(&["endpoints", "web"]);
        endpoints.pointer("/subsets/0/notReadyAddresses/0/targetRef/name") == Some(&json!("two"))
    });
    let name = field(lab, &["endpoints", "web"], "/subsets/0/addresses/0/nodeName");
    assert_eq!(name, field(lab, &["nodes"], "/items/0/metadata/name"));
    patch(lab, &["endpoints", "web"], &json!({"subsets": []}));
    lab.until("what somebody writes into it is put right", || {
        shown(lab, "web") == format!("{one}:8080")
    });
    lab.kubectl(&["delete", "pod", "one"]);
    lab.until("it goes with its pod", || shown(lab, "web") == "<none>");
    lab.kubectl(&["delete", "service", "web"]);
    lab.until("they go with their Service", || {
        !lab.try_kubectl(&["get", "endpoints", "web"]).status.success()
    });
}

/// A Service without a selector leads where somebody says.
fn by_hand(lab: &Lab) {
    lab.apply(&[server("one", json!({})), server("two", json!({})), client("client")]);
    for pod in ["one", "two", "client"] {
        lab.ready(pod);
    }
    let endpoints = |pod: &str| {
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "db"}, "subsets": [
            {"addresses": [{"ip": pod_ip(lab, pod)}], "ports": [{"port": 8080}]}]})
    };
    let plain = |name: &str| service(name, json!({"ports": [{"port": 80, "targetPort": 8080}]}));
    lab.apply(&[plain("db"), plain("sliced"), endpoints("one")]);
    let answers = |name: &str| get(lab, "client", &format!("http://{}/hostname", cluster_ip(lab, name)));
    lab.until("Endpoints lead to the first", || answers("db") == Ok("one".to_owned()));
    assert_eq!(answers("sliced"), REFUSED);
    lab.apply(&[endpoints("two")]);
    lab.until("and then to the second", || answers("db") == Ok("two".to_owned()));
    let mirrors = || {
        lab.kubectl(&[
            "get",
            "endpointslices",
            "-l",
            "kubernetes.io/service-name=db",
            "-o",
            "name",
        ])
    };
    assert_eq!(mirrors().lines().count(), 1, "one slice mirrors them");
    lab.kubectl(&["delete", "endpointslice", "-l", "kubernetes.io/service-name=db"]);
    lab.until("the slice is made again", || answers("db") == Ok("two".to_owned()));
    lab.kubectl(&["delete", "endpoints", "db"]);
    lab.until("with the Endpoints goes the slice", || {
        mirrors().is_empty() && answers("db") == REFUSED
    });
    // an EndpointSlice by hand, which no controller touches
    let port = json!([{"name": "", "port": 8080, "protocol": "TCP"}]);
    lab.apply(&[slice("sliced", port, &[&pod_ip(lab, "one")])]);
    lab.until("a slice leads there too", || answers("sliced") == Ok("one".to_owned()));
    let wrong = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "wrong"}, "subsets": [
        {"addresses": [{"ip": "127.0.0.1"}, {"ip": "169.254.1.1"}, {"ip": "db"}], "ports": [{"port": 0}]}]});
    let said = lab::text(&lab.try_apply(&[wrong]).stderr);
    for part in [
        "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        "subsets[0].addresses[1].ip: Invalid value: \"169.254.1.1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        "subsets[0].addresses[2].ip: Invalid value: \"db\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

/// The cluster's own Services lead where they must, whatever somebody makes of them.
fn own(lab: &Lab) {
    let node = node_ip(lab);
    lab.apply(&[client("client"), service("target", json!({"ports": [{"port": 80}]}))]);
    lab.ready("client");
    assert_eq!(shown(lab, "kubernetes"), format!("{node}:6443"));
    let works = || {
        let named = lab.try_sh("client", "getent hosts target.default.svc.cluster.local");
        let api = lab.try_sh(
            "client",
            "curl -sk -m 20 https://kubernetes.default/version | grep -q gitVersion",
        );
        named.status.success() && api.status.success()
    };
    lab.until("names and the API are found", works);
    let dns = &["-n", "kube-system", "service", "kube-dns"][..];
    let slice = &["endpointslice", "kubernetes"][..];
    for (what, change, pointer, right) in [
        (
            &["service", "kubernetes"][..],
            json!({"spec": {"ports": [{"port": 444}]}}),
            "/spec/ports/0/port",
            json!(443),
        ),
        (
            dns,
            json!({"spec": {"selector": {"app": "mine"}}}),
            "/spec/selector",
            Value::Null,
        ),
        (
            dns,
            json!({"spec": {"type": "ExternalName", "externalName": "example.org", "clusterIP": null, "clusterIPs": null}}),
            "/spec/type",
            json!("ClusterIP"),
        ),
        (
            slice,
            json!({"endpoints": [{"addresses": ["192.0.2.1"]}]}),
            "/endpoints/0/addresses/0",
            json!(node),
        ),
        (
            slice,
            json!({"metadata": {"labels": {"kubernetes.io/service-name": "mine"}}}),
            "/metadata/labels/kubernetes.io~1service-name",
            json!("kubernetes"),
        ),
        (
            &["endpoints", "kubernetes"],
            json!({"subsets": []}),
            "/subsets/0/addresses/0/ip",
            json!(node),
        ),
    ] {
        patch(lab, what, &change);
        lab.until(&format!("{what:?} is put right after {change}"), || {
            lab.get(what).pointer(pointer).cloned().unwrap_or(Value::Null) == right
        });
    }
    lab.until("names and the API are found still", works);
    for what in [&["endpoints", "kubernetes"][..], dns] {
        let mut args = vec!["delete"];
        args.extend_from_slice(what);
        lab.kubectl(&args);
        lab.until(&format!("{what:?} is made again"), || {
            let mut args = vec!["get"];
            args.extend_from_slice(what);
            lab.try_kubectl(&args).status.success()
        });
    }
    greedy(lab, &node);
    lab.until("and found after all that", works);
}

/// An external address takes nothing from the node.
fn greedy(lab: &Lab, node: &str) {
    lab.apply(&[
        server("one", json!({})),
        service(
            "greedy",
            json!({"selector": {"app": "web"}, "externalIPs": [node], "ports": [
        {"name": "api", "port": 6443, "targetPort": "http"},
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "ask"},
        {"name": "free", "port": 7000, "targetPort": "http"}]}),
        ),
    ]);
    lab.ready("one");
    lab.until("another port of the address is led to the pod", || {
        get(lab, "client", &format!("http://{node}:7000/hostname")) == Ok("one".to_owned())
    });
    let version = lab.sh("client", &format!("curl -sk -m 20 https://{node}:6443/version"));
    assert!(version.contains("gitVersion"), "{version}");
    let answer = lab.sh(
        "client",
        &format!("dig +short @{node} greedy.default.svc.cluster.local"),
    );
    assert_eq!(answer.trim(), cluster_ip(lab, "greedy"));
}

/// Aliases, and what Services say of IPv6.
fn aliases_and_families(lab: &Lab) {
    lab.apply(&[
        server("one", json!({})),
        client("client"),
        service(
            "web",
            json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}),
        ),
        service(
            "alias",
            json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}),
        ),
        service("away", json!({"type": "ExternalName", "externalName": "example.org"})),
        service("headless", json!({"clusterIP": "None"})),
        service(
            "prefers",
            json!({"ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]}),
        ),
    ]);
    lab.ready("one");
    lab.ready("client");
    lab.until("an alias leads to the Service", || {
        get(lab, "client", "http://alias/hostname") == Ok("one".to_owned())
    });
    let dig = |name: &str| lab.sh("client", &format!("dig +short {name}.default.svc.cluster.local"));
    assert_eq!(
        dig("alias"),
        format!("web.default.svc.cluster.local.\n{}\n", cluster_ip(lab, "web"))
    );
    assert_eq!(dig("away"), "example.org.\n");
    let families = |name: &str| {
        let spec = lab.get(&["service", name])["spec"].clone();
        (spec["ipFamilyPolicy"].clone(), spec["ipFamilies"].clone())
    };
    assert_eq!(families("web"), (json!("SingleStack"), json!(["IPv4"])));
    assert_eq!(families("prefers"), (json!("PreferDualStack"), json!(["IPv4"])));
    assert_eq!(
        families("headless"),
        (json!("RequireDualStack"), json!(["IPv4", "IPv6"]))
    );
    for (spec, part) in [
        (
            json!({"ipFamilies": ["IPv6"], "ports": [{"port": 80}]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 80}]}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv4"], "ports": [{"port": 80}]}),
            "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
        ),
        (
            json!({"clusterIP": "fd00::1", "ports": [{"port": 80}]}),
            "IPv6 is not configured on this cluster",
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.b", "ipFamilies": ["IPv4"]}),
            "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
        ),
    ] {
        let said = lab::text(&lab.try_apply(&[service("wrong", spec)]).stderr);
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn endpoints_follow_the_pods() {
    lab::everywhere(follow_pods);
}

#[test]
fn a_service_leads_where_somebody_says_by_hand() {
    lab::everywhere(by_hand);
}

#[test]
fn the_clusters_own_services_are_put_right() {
    lab::everywhere(own);
}

#[test]
fn aliases_are_followed_and_ipv6_is_refused() {
    lab::everywhere(aliases_and_families);
}
