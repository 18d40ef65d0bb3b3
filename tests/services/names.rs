//! The names of Services, by the resolver that pods have and by questions to the name server.
//!
//! Source: Kubernetes DNS-Based Service Discovery, schema version 1.1.0.

use serde_json::json;

use super::{
    client, cluster_ip,
    lab::{self, Lab},
    pod_ip, server, service,
};

fn dig(lab: &Lab, question: &str) -> Vec<String> {
    let mut args = vec!["exec", "client", "-c", "c", "--", "dig", "+short"];
    args.extend(question.split(' '));
    let mut lines: Vec<String> = lab.kubectl(&args).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// What the resolver of a pod's C library finds.
fn resolved(lab: &Lab, pod: &str, name: &str) -> Option<String> {
    let output = lab.try_kubectl(&["exec", pod, "-c", "c", "--", "getent", "hosts", name]);
    let text = lab::text(&output.stdout);
    text.split_whitespace().next().map(str::to_owned)
}

fn all_names(lab: &Lab) {
    let named = |name: &str| server(name, json!({"hostname": name, "subdomain": "peers"}));
    let mut other = service("web", json!({"ports": [{"port": 80}]}));
    other["metadata"]["namespace"] = json!("other");
    lab.apply(&[
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}),
        named("one"),
        server("two", json!({})),
        client("client"),
        service("web", json!({"selector": {"app": "web"}, "ports": [
            {"name": "http", "port": 80, "targetPort": "http"},
            {"name": "ask", "port": 53, "targetPort": "ask", "protocol": "UDP"}]})),
        service("peers", json!({"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]})),
        other,
    ]);
    for pod in ["one", "two", "client"] {
        lab.ready(pod);
    }
    let (one, two) = (pod_ip(lab, "one"), pod_ip(lab, "two"));
    let dashed = two.replace('.', "-");
    let web = cluster_ip(lab, "web");
    let elsewhere = lab.get(&["service", "web", "-n", "other"])["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .to_owned();
    let reverse = |ip: &str| format!("-x {ip}");
    let here = "default.svc.cluster.local";
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    lab.until("both pods have the headless name", || {
        dig(lab, &format!("peers.{here}")) == both
    });
    let one_line = |text: String| vec![text];
    for (question, answer) in [
        (format!("web.{here}"), one_line(web.clone())),
        (format!("WEB.{here}."), one_line(web.clone())),
        (format!("web.{here} AAAA"), Vec::new()),
        ("web.other.svc.cluster.local".to_owned(), one_line(elsewhere.clone())),
        (
            format!("_http._tcp.web.{here} SRV"),
            one_line(format!("0 100 80 web.{here}.")),
        ),
        (
            format!("_ask._udp.web.{here} SRV"),
            one_line(format!("0 100 53 web.{here}.")),
        ),
        (format!("_ask._tcp.web.{here} SRV"), Vec::new()),
        (format!("one.peers.{here}"), one_line(one.clone())),
        (format!("{dashed}.peers.{here}"), one_line(two.clone())),
        (
            format!("_http._tcp.peers.{here} SRV"),
            vec![
                format!("0 100 8080 {dashed}.peers.{here}."),
                format!("0 100 8080 one.peers.{here}."),
            ],
        ),
        (reverse(&web), one_line(format!("web.{here}."))),
        (reverse(&one), one_line(format!("one.peers.{here}."))),
        (reverse(&two), one_line(format!("{dashed}.peers.{here}."))),
        (
            format!("{}.default.pod.cluster.local", one.replace('.', "-")),
            one_line(one.clone()),
        ),
        ("dns-version.cluster.local TXT".to_owned(), one_line("1.1.0".to_owned())),
        (format!("nobody.{here}"), Vec::new()),
        (format!("web.{here} +tcp"), one_line(web.clone())),
    ] {
        let mut sorted = answer;
        sorted.sort();
        assert_eq!(dig(lab, &question), sorted, "{question}");
    }
    short_names(lab, &web, &elsewhere);
}

/// `search` and `ndots`: which short names lead where.
fn short_names(lab: &Lab, web: &str, elsewhere: &str) {
    let conf = lab.kubectl(&["exec", "client", "-c", "c", "--", "cat", "/etc/resolv.conf"]);
    assert_eq!(
        conf,
        format!(
            "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver {}\noptions ndots:5\n",
            lab.get(&["service", "kube-dns", "-n", "kube-system"])["spec"]["clusterIP"]
                .as_str()
                .unwrap()
        )
    );
    for (name, address) in [
        ("web", Some(web)),
        ("web.default", Some(web)),
        ("web.default.svc", Some(web)),
        ("web.default.svc.cluster.local", Some(web)),
        ("web.default.svc.cluster.local.", Some(web)),
        ("web.other", Some(elsewhere)),
        ("web.other.svc", Some(elsewhere)),
        ("nobody", None),
        ("web.nowhere", None),
    ] {
        assert_eq!(resolved(lab, "client", name).as_deref(), address, "{name}");
    }
    // with ndots:1 a name with a dot is taken as it is first, and searched for after that
    let mut plain = lab::pod(
        "plain",
        json!({"image": "ztlab.dev/toolbox:1"}),
        json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}],
        "searches": ["other.svc.cluster.local"]}}),
    );
    plain["metadata"]["namespace"] = json!("default");
    lab.apply(&[plain, lab::pod("lost", json!({}), json!({"dnsPolicy": "Default"}))]);
    for pod in ["plain", "lost"] {
        lab.ready(pod);
    }
    let conf = lab.kubectl(&["exec", "plain", "--", "cat", "/etc/resolv.conf"]);
    assert!(conf.contains("options ndots:1"), "{conf}");
    assert!(conf.contains("cluster.local other.svc.cluster.local"), "{conf}");
    assert_eq!(resolved(lab, "plain", "web.other").as_deref(), Some(elsewhere));
    assert_eq!(
        resolved(lab, "plain", "web").as_deref(),
        Some(web),
        "the pod's namespace comes first"
    );
    assert_eq!(
        resolved(lab, "lost", "web.default.svc.cluster.local"),
        None,
        "dnsPolicy Default resolves nothing here"
    );
}

#[test]
fn names_lead_where_the_specification_says() {
    lab::everywhere(all_names);
}
