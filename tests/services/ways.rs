//! Every way to a Service leads to its pods.

use serde_json::json;

use super::{
    REFUSED, answers, client, cluster_ip, dial, get, host,
    lab::{self, Lab},
    node_ip, pod_ip, server, service, set,
};

/// Two servers, a client, and a Service of every kind before them.
fn shop(lab: &Lab) {
    let selector = json!({"app": "web"});
    let ports = json!([
        {"name": "http", "port": 80, "targetPort": "http"},
        {"name": "admin", "port": 81, "targetPort": 9090},
        {"name": "ask", "port": 53, "targetPort": "ask", "protocol": "UDP"}]);
    lab.apply(&[
        server("one", json!({})),
        server("two", json!({})),
        client("client"),
        service("web", json!({"selector": selector, "ports": ports})),
        service("ported", json!({"type": "NodePort", "selector": selector, "ports": [
            {"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080},
            {"name": "ask", "port": 53, "targetPort": "ask", "protocol": "UDP", "nodePort": 30053}]})),
        service("outside", json!({"selector": selector, "externalIPs": ["198.51.100.7"], "ports": [{"port": 80, "targetPort": "http"}]})),
        service("balanced", json!({"type": "LoadBalancer", "selector": selector, "ports": [{"port": 80, "targetPort": "http"}]})),
    ]);
    for pod in ["one", "two", "client"] {
        lab.ready(pod);
    }
    let ingress = json!({"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.8"}]}}}).to_string();
    lab.kubectl(&[
        "patch",
        "service",
        "balanced",
        "--subresource=status",
        "--type=merge",
        "-p",
        &ingress,
    ]);
}

fn all_ways(lab: &Lab) {
    shop(lab);
    let node = node_ip(lab);
    let both = set(&["one", "two"]);
    for url in [
        "http://web/hostname".to_owned(),
        format!("http://{}/hostname", cluster_ip(lab, "web")),
        "http://web:81/hostname".to_owned(),
        format!("http://{node}:30080/hostname"),
        format!("http://{}/hostname", cluster_ip(lab, "ported")),
        "http://198.51.100.7/hostname".to_owned(),
        "http://198.51.100.8/hostname".to_owned(),
    ] {
        lab.until(&format!("{url} leads to both pods"), || {
            answers(lab, "client", &url, 20) == both
        });
    }
    for (url, port) in [("http://web/serverport", "8080"), ("http://web:81/serverport", "9090")] {
        assert_eq!(get(lab, "client", url), Ok(port.to_owned()), "{url}");
    }
    for to in ["web:53".to_owned(), format!("{node}:30053")] {
        let (said, errors) = dial(lab, "client", "udp", &to, "hostname", 20);
        assert_eq!(said, both, "{to}: {errors}");
    }
    // the caller is who it is, by TCP and by UDP
    let caller = pod_ip(lab, "client");
    assert_eq!(host(&get(lab, "client", "http://web/clientip").unwrap()), caller);
    let (said, errors) = dial(lab, "client", "udp", "web:53", "clientip", 1);
    assert_eq!(said.first().map(|said| host(said)), Some(caller.as_str()), "{errors}");
    // a port that the Service does not have, and a node port that nobody has
    assert_eq!(get(lab, "client", "http://web:82/"), REFUSED);
    assert_eq!(get(lab, "client", &format!("http://{node}:30081/")), REFUSED);
    itself(lab);
}

/// A pod reaches itself through its Service, and no address is the caller's own.
fn itself(lab: &Lab) {
    lab.apply(&[service(
        "mirror",
        json!({"selector": {"pod": "one"}, "ports": [
        {"name": "http", "port": 80, "targetPort": "http"},
        {"name": "ask", "port": 53, "targetPort": "ask", "protocol": "UDP"}]}),
    )]);
    lab.until("the mirror leads to one", || {
        get(lab, "client", "http://mirror/hostname") == Ok("one".to_owned())
    });
    for (protocol, port) in [("http", 80), ("udp", 53)] {
        let ask = |request: &str| {
            let url = format!(
                "http://{}:8080/dial?host={}&port={port}&protocol={protocol}&request={request}",
                pod_ip(lab, "one"),
                cluster_ip(lab, "mirror"),
            );
            let answer = get(lab, "client", &url).unwrap();
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            answer["responses"][0]
                .as_str()
                .unwrap_or_else(|| panic!("{protocol}: {answer}"))
                .to_owned()
        };
        assert_eq!(ask("hostname"), "one", "{protocol}");
        let seen = ask("clientip");
        assert_ne!(
            host(&seen),
            pod_ip(lab, "one"),
            "{protocol}: an answer to itself would not come back by the node"
        );
    }
}

#[test]
fn every_way_to_a_service_leads_to_its_pods() {
    lab::everywhere(all_ways);
}
