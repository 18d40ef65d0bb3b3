//! What a Service says about its traffic: to whom, from whom, how long, and what becomes of it where nobody is.

use std::{collections::BTreeSet, process::Stdio};

use serde_json::{Value, json};

use super::{
    REFUSED, answers, client, cluster_ip, dial, get, host,
    lab::{self, Lab},
    node_ip, pod_ip,
    rules::slice,
    server, service, set,
};

fn patch(lab: &Lab, service: &str, spec: &Value) {
    let patch = json!({"spec": spec}).to_string();
    lab.kubectl(&["patch", "service", service, "--type=merge", "-p", &patch]);
}

/// Where nobody is, who asks is told at once, every time.
fn refused(lab: &Lab) {
    let ports = json!([
        {"name": "http", "port": 80, "nodePort": 30080},
        {"name": "ask", "port": 53, "protocol": "UDP", "nodePort": 30053}]);
    lab.apply(&[
        service(
            "nobody",
            json!({"type": "NodePort", "externalIPs": ["198.51.100.7"], "selector": {"app": "nobody"}, "ports": ports}),
        ),
        client("client"),
    ]);
    lab.ready("client");
    let (node, cluster) = (node_ip(lab), cluster_ip(lab, "nobody"));
    for (ip, http, ask) in [
        (cluster.as_str(), 80, 53),
        (node.as_str(), 30080, 30053),
        ("198.51.100.7", 80, 53),
    ] {
        lab.until(&format!("{ip} refuses"), || {
            get(lab, "client", &format!("http://{ip}:{http}/")) == REFUSED
        });
        let all = answers(lab, "client", &format!("http://{ip}:{http}/"), 10);
        assert_eq!(all, set(&["failed 7"]), "{ip}");
        let (said, errors) = dial(lab, "client", "udp", &format!("{ip}:{ask}"), "hostname", 10);
        assert_eq!(said, BTreeSet::new(), "{ip}");
        let errors: BTreeSet<&str> = errors.lines().collect();
        assert_eq!(errors, BTreeSet::from(["Connection refused (os error 111)"]), "{ip}");
    }
    let (_, errors) = dial(lab, "client", "udp", &format!("{cluster}:54"), "hostname", 1);
    assert_eq!(
        errors, "Connection refused (os error 111)",
        "a port that the Service does not have"
    );
}

/// Whose address the pods see.
fn who_asked(lab: &Lab) {
    lab.apply(&[
        server("one", json!({})),
        client("client"),
        service(
            "web",
            json!({"type": "NodePort", "externalIPs": ["198.51.100.7"], "selector": {"app": "web"}, "ports": [
            {"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080},
            {"name": "ask", "port": 53, "targetPort": "ask", "protocol": "UDP", "nodePort": 30053}]}),
        ),
    ]);
    lab.ready("one");
    lab.ready("client");
    let (node, caller, cluster) = (node_ip(lab), pod_ip(lab, "client"), cluster_ip(lab, "web"));
    let seen = |ip: &str, port: u16| {
        get(lab, "client", &format!("http://{ip}:{port}/clientip"))
            .ok()
            .map(|said| host(&said).to_owned())
    };
    let from_outside = |expected: &str| {
        for (ip, port) in [(node.as_str(), 30080), ("198.51.100.7", 80)] {
            let what = format!("{ip}:{port} seems to be asked by {expected}");
            lab.until(&what, || seen(ip, port).as_deref() == Some(expected));
        }
        lab.until(&format!("so it is by UDP: {expected}"), || {
            let (said, _) = dial(lab, "client", "udp", &format!("{node}:30053"), "clientip", 1);
            said.first().is_some_and(|said| host(said) == expected)
        });
        assert_eq!(
            seen(&cluster, 80).as_deref(),
            Some(caller.as_str()),
            "at the ClusterIP always the caller's own"
        );
    };
    from_outside(&node);
    patch(lab, "web", &json!({"externalTrafficPolicy": "Local"}));
    from_outside(&caller);
}

/// Only this node's endpoints, where the Service says so.
fn local(lab: &Lab) {
    let name = lab.get(&["nodes"])["items"][0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    lab.apply(&[server("one", json!({})), client("client")]);
    lab.ready("one");
    lab.ready("client");
    let mut there = slice(
        "web",
        json!([{"name": "", "port": 8080, "protocol": "TCP"}]),
        &[&pod_ip(lab, "one")],
    );
    lab.apply(&[
        service(
            "web",
            json!({"ports": [{"port": 80}], "internalTrafficPolicy": "Local"}),
        ),
        there.clone(),
    ]);
    let ask = || {
        let url = format!("http://{}/hostname", cluster_ip(lab, "web"));
        let output = lab.try_kubectl(&["exec", "client", "-c", "c", "--", "curl", "-s", "-m", "2", &url]);
        output.status.code().unwrap()
    };
    // curl's code of a connection that nobody answers
    lab.until("an endpoint of no node is not on this one", || ask() == 28);
    there["endpoints"][0]["nodeName"] = json!(name);
    lab.apply(&[there]);
    lab.until("one that is on this node is", || ask() == 0);
    patch(lab, "web", &json!({"internalTrafficPolicy": "Cluster"}));
    lab.until("and for all", || ask() == 0);
}

/// A client stays with its endpoint, by whichever front, until it is forgotten.
fn sticky(lab: &Lab) {
    lab.apply(&[
        server("one", json!({})),
        server("two", json!({})),
        client("client"),
        service(
            "web",
            json!({"type": "NodePort", "selector": {"app": "web"}, "sessionAffinity": "ClientIP",
            "ports": [{"port": 80, "targetPort": "http", "nodePort": 30080}]}),
        ),
        service(
            "both",
            json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}),
        ),
    ]);
    for pod in ["one", "two", "client"] {
        lab.ready(pod);
    }
    let both = set(&["one", "two"]);
    lab.until("both are there", || {
        answers(lab, "client", "http://both/hostname", 20) == both
    });
    // the Services' endpoints come in any order: this one knows both once it has two ways
    lab.until("this Service has both", || {
        let slices = lab.get(&["endpointslices", "-l", "kubernetes.io/service-name=web"]);
        let ready = |endpoint: &&Value| endpoint["conditions"]["ready"] == json!(true);
        slices["items"][0]["endpoints"]
            .as_array()
            .is_some_and(|all| all.iter().filter(ready).count() == 2)
    });
    let first = get(lab, "client", "http://web/hostname").unwrap();
    let node = format!("http://{}:30080/hostname", node_ip(lab));
    for url in ["http://web/hostname", &node] {
        assert_eq!(answers(lab, "client", url, 20), set(&[&first]), "{url}");
    }
    patch(
        lab,
        "web",
        &json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}),
    );
    let mut met = BTreeSet::new();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let script = "for i in 1 2 3 4; do curl -s -m 20 http://web/hostname; echo; sleep 1.2; done";
    while met != both && std::time::Instant::now() < end {
        met.extend(lab.sh("client", script).lines().map(str::to_owned));
    }
    assert_eq!(met, both, "after a second the client is forgotten");
    patch(
        lab,
        "web",
        &json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}}),
    );
    let now = get(lab, "client", "http://web/hostname").unwrap();
    lab.kubectl(&["delete", "pod", &now]);
    let other = if now == "one" { "two" } else { "one" };
    lab.until("with its endpoint goes what the client was bound to", || {
        answers(lab, "client", "http://web/hostname", 5) == set(&[other])
    });
    patch(lab, "web", &json!({"sessionAffinity": "None"}));
    assert_eq!(get(lab, "client", "http://web/hostname"), Ok(other.to_owned()));
}

/// A client that goes on sending from one UDP port is led to where the Service leads now.
fn udp_moves(lab: &Lab) {
    let asks = |name: &str| {
        service(
            name,
            json!({"selector": {"pod": "one"}, "ports": [{"port": 53, "targetPort": "ask", "protocol": "UDP"}]}),
        )
    };
    lab.apply(&[
        server("one", json!({})),
        server("two", json!({})),
        client("client"),
        asks("ask"),
    ]);
    for pod in ["one", "two", "client"] {
        lab.ready(pod);
    }
    let script = format!(
        "exec 3<>/dev/udp/{}/53; until [ -e /tmp/enough ]; do printf hostname >&3; timeout 1 dd bs=100 count=1 <&3; echo; sleep 0.1; done >>/tmp/said 2>/dev/null",
        cluster_ip(lab, "ask")
    );
    let asking = lab
        .command("kubectl")
        .args(["exec", "client", "-c", "c", "--", "bash", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let last = || lab::text(&lab.try_sh("client", "grep . /tmp/said | tail -n 1").stdout);
    lab.until("the first answers", || last().trim() == "one");
    patch(lab, "ask", &json!({"selector": {"pod": "two"}}));
    lab.until("the second answers on the same socket", || last().trim() == "two");
    patch(lab, "ask", &json!({"selector": {"pod": "one"}}));
    lab.until("and the first again", || last().trim() == "one");
    lab.sh("client", "touch /tmp/enough");
    let ended = asking.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", lab::text(&ended.stderr));
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    lab::everywhere(refused);
}

#[test]
fn pods_see_who_asked_or_the_node() {
    lab::everywhere(who_asked);
}

#[test]
fn a_local_policy_leads_to_endpoints_of_the_node() {
    lab::everywhere(local);
}

#[test]
fn a_client_stays_with_its_endpoint_for_a_time() {
    lab::everywhere(sticky);
}

#[test]
fn udp_follows_the_endpoints() {
    lab::everywhere(udp_moves);
}
