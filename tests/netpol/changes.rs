//! What changes, and what the matrix does not show: live connections, labels, addresses, Services, DNS, the node.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{AttachParams, PostParams},
};
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::lab::{LIMIT, Lab};

const DENY_ALL: &str = "{podSelector: {}, policyTypes: [Ingress, Egress]}";

fn tcp(ip: &str) -> String {
    format!("tcp://{ip}:80")
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_follow_what_changes() {
    let Some(lab) = Lab::empty(None).await else { return };
    for namespace in ["x", "y"] {
        lab.namespace(namespace).await;
        for pod in ["a", "b"] {
            lab.serve(namespace, pod).await;
        }
    }
    for (namespace, pod) in [("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")] {
        lab.ready(namespace, pod).await;
    }
    let (a, b) = (("x", "a"), ("x", "b"));
    relabelled_pods_are_judged_anew(&lab, a).await;
    relabelled_namespaces_are_judged_anew(&lab, ("y", "a")).await;
    an_edit_cuts_live_connections(&lab, b).await;
    an_address_is_not_an_identity(&lab, b).await;
    services_are_judged_by_the_pods_behind_them(&lab, b).await;
    a_pod_reaches_itself(&lab).await;
    the_node_comes_in(&lab).await;
    egress_rules_judge_dns_and_the_api(&lab).await;
}

async fn ip(lab: &Lab, (namespace, pod): (&str, &str)) -> String {
    lab.ready(namespace, pod).await
}

async fn relabelled_pods_are_judged_anew(lab: &Lab, server: (&str, &str)) {
    let to = tcp(&ip(lab, server).await);
    let from = ("x", "b");
    lab.policy(
        "p",
        "x {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}]}]}",
    )
    .await;
    lab.becomes(from, &to, "timeout").await;
    lab.label_pod("x", "b", json!({"role": "friend"})).await;
    lab.becomes(from, &to, "open").await;
    lab.label_pod("x", "b", json!({"role": "foe"})).await;
    lab.becomes(from, &to, "timeout").await;
    // and a pod that a policy selects no more
    lab.label_pod("x", "a", json!({"pod": "other"})).await;
    lab.becomes(from, &to, "open").await;
    lab.label_pod("x", "a", json!({"pod": "a"})).await;
    lab.becomes(from, &to, "timeout").await;
    lab.delete_policies().await;
    lab.becomes(from, &to, "open").await;
}

async fn relabelled_namespaces_are_judged_anew(lab: &Lab, from: (&str, &str)) {
    let to = tcp(&ip(lab, ("x", "a")).await);
    lab.policy(
        "p",
        "x {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}]}]}",
    )
    .await;
    lab.becomes(from, &to, "timeout").await;
    lab.label_namespace("y", json!({"team": "red"})).await;
    lab.becomes(from, &to, "open").await;
    lab.label_namespace("y", json!({"team": null})).await;
    lab.becomes(from, &to, "timeout").await;
    lab.delete_policies().await;
    lab.becomes(from, &to, "open").await;
}

/// One connection, used again and again; a policy that now forbids it ends it, though it was there before.
async fn an_edit_cuts_live_connections(lab: &Lab, client: (&str, &str)) {
    let web = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c",
        "image": "registry.k8s.io/e2e-test-images/agnhost:2.47", "command": ["/agnhost", "netexec", "--http-port", "8080"]}]});
    lab.pod("y", "web", json!({"pod": "web"}), web).await;
    let server = lab.ready("y", "web").await;
    lab.becomes(client, &format!("tcp://{server}:8080"), "open").await;
    let script = format!(
        r#"exec 3<>/dev/tcp/{server}/8080 || exit
        while printf 'GET /hostname HTTP/1.1\r\nHost: w\r\n\r\n' >&3 && read -r -t 2 line <&3; do
            case "$line" in HTTP/1.1*) echo answered;; esac
            while read -r -t 0.05 line <&3; do :; done
        done
        echo cut"#
    );
    let argv = ["bash", "-c", &script].map(str::to_owned);
    let params = AttachParams::default().container("c").stdout(true).stderr(false);
    let mut process = lab.pods(client.0).exec(client.1, argv, &params).await.unwrap();
    let mut stdout = process.stdout().unwrap();
    let mut said = String::new();
    let wait_for =
        async |said: &mut String, stdout: &mut (dyn tokio::io::AsyncRead + Unpin + Send), word: &str, times: usize| {
            let end = Instant::now() + LIMIT;
            let mut buffer = [0; 1024];
            while said.matches(word).count() < times {
                let read = tokio::time::timeout(end - Instant::now(), stdout.read(&mut buffer)).await;
                let length = read.unwrap_or_else(|_| panic!("never {word}: {said}")).unwrap();
                assert!(length > 0, "ended without {word}: {said}");
                said.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        };
    wait_for(&mut said, &mut stdout, "answered", 3).await;
    lab.policy(
        "p",
        "y {podSelector: {matchLabels: {pod: web}}, ingress: [{ports: [{port: 8080}]}]}",
    )
    .await;
    let so_far = said.matches("answered").count();
    wait_for(&mut said, &mut stdout, "answered", so_far + 5).await;
    assert!(
        !said.contains("cut"),
        "an edit that still allows it leaves it alone: {said}"
    );
    lab.policy(
        "p",
        "y {podSelector: {matchLabels: {pod: web}}, ingress: [{ports: [{port: 8081}]}]}",
    )
    .await;
    wait_for(&mut said, &mut stdout, "cut", 1).await;
    lab.becomes(client, &format!("tcp://{server}:8080"), "timeout").await;
    lab.delete_policies().await;
    lab.becomes(client, &format!("tcp://{server}:8080"), "open").await;
    lab.delete_pod("y", "web").await;
}

/// An ipBlock names an address; a pod that restarts has another.
async fn an_address_is_not_an_identity(lab: &Lab, _: (&str, &str)) {
    let server = tcp(&ip(lab, ("y", "b")).await);
    let before = ip(lab, ("x", "a")).await;
    lab.policy(
        "p",
        &format!("y {{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {{cidr: {before}/32}}}}]}}]}}"),
    )
    .await;
    lab.becomes(("x", "b"), &server, "timeout").await;
    lab.becomes(("x", "a"), &server, "open").await;
    lab.delete_pod("x", "a").await;
    lab.serve("x", "a").await;
    assert_ne!(ip(lab, ("x", "a")).await, before);
    let said = lab.reach("x", "a", 500, &[server]).await;
    assert_eq!(said, ["timeout"], "the same pod by name and label, at another address");
    lab.delete_policies().await;
}

async fn services_are_judged_by_the_pods_behind_them(lab: &Lab, from: (&str, &str)) {
    let services: Api<Service> = Api::namespaced(lab.client.clone(), "y");
    let service = services.get("s-y-a").await.unwrap().spec.unwrap().cluster_ip.unwrap();
    let port = json!({"metadata": {"name": "np"}, "spec": {"type": "NodePort", "selector": {"pod": "a"},
        "ports": [{"port": 80, "nodePort": 31080}]}});
    let port = services
        .create(&PostParams::default(), &serde_json::from_value(port).unwrap())
        .await
        .unwrap();
    let by_number = port.spec.unwrap().cluster_ip.unwrap();
    for to in [
        tcp(&service),
        tcp(&by_number),
        "tcp://s-y-a.y.svc.cluster.local:80".to_owned(),
    ] {
        lab.becomes(from, &to, "open").await;
        // the source address is kept: a peer is found by it
        lab.policy("p", "y {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}, podSelector: {matchLabels: {pod: b}}}]}]}").await;
        lab.becomes(("x", "a"), &to, "timeout").await;
        lab.becomes(from, &to, "open").await;
        lab.policy("p", "y {podSelector: {}}").await;
        lab.becomes(from, &to, "timeout").await;
        lab.delete_policies().await;
        lab.becomes(from, &to, "open").await;
        // what a policy names is the pod's address, not the Service's
        lab.policy("p", &format!("x {{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {service}/32}}}}]}}]}}")).await;
        lab.becomes(from, &to, "timeout").await;
        lab.delete_policies().await;
        lab.becomes(from, &to, "open").await;
    }
}

async fn a_pod_reaches_itself(lab: &Lab) {
    let services: Api<Service> = Api::namespaced(lab.client.clone(), "x");
    let service = services.get("s-x-a").await.unwrap().spec.unwrap().cluster_ip.unwrap();
    let own = ip(lab, ("x", "a")).await;
    let other = ip(lab, ("x", "b")).await;
    lab.policy("p", &format!("x {DENY_ALL}")).await;
    lab.becomes(("x", "a"), &tcp(&other), "timeout").await;
    for target in [
        tcp(&own),
        tcp(&service),
        "tcp://127.0.0.1:80".to_owned(),
        format!("udp://{service}:80"),
    ] {
        lab.becomes(("x", "a"), &target, "open").await;
    }
    lab.delete_policies().await;
}

/// Probes of the kubelet pass under default deny.
async fn the_node_comes_in(lab: &Lab) {
    lab.policy("p", &format!("x {DENY_ALL}")).await;
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1});
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c",
        "image": "registry.k8s.io/e2e-test-images/agnhost:2.47", "command": ["/agnhost", "netexec"],
        "readinessProbe": probe, "livenessProbe": probe}]});
    lab.pod("x", "probed", json!({}), spec).await;
    let server = lab.ready("x", "probed").await;
    lab.becomes(("y", "a"), &format!("tcp://{server}:8080"), "timeout")
        .await;
    lab.delete_policies().await;
    lab.becomes(("y", "a"), &format!("tcp://{server}:8080"), "open").await;
    lab.delete_pod("x", "probed").await;
}

async fn egress_rules_judge_dns_and_the_api(lab: &Lab) {
    let ask = "dig +short +time=1 +tries=1 s-y-b.y.svc.cluster.local";
    let services: Api<Service> = Api::namespaced(lab.client.clone(), "y");
    let service = services.get("s-y-b").await.unwrap().spec.unwrap().cluster_ip.unwrap();
    let becomes = async |answered: bool| {
        let end = Instant::now() + LIMIT;
        loop {
            let said = lab.sh("x", "a", ask).await;
            if said.contains(&service) == answered {
                return;
            }
            assert!(Instant::now() < end, "DNS answers {said}\n{}", lab.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    becomes(true).await;
    let default = services_of_default(lab).await;
    let api = format!("tcp://{default}:443");
    lab.becomes(("x", "a"), &api, "open").await;
    // what everybody forgets first
    lab.policy(
        "p",
        "x {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}",
    )
    .await;
    becomes(false).await;
    lab.becomes(("x", "a"), &api, "timeout").await;
    lab.becomes(("x", "a"), &tcp(&service), "open").await;
    let said = lab
        .sh(
            "x",
            "a",
            "/agnhost connect s-y-b.y.svc.cluster.local:80 --timeout=500ms",
        )
        .await;
    assert!(said.starts_with("DNS") || said.starts_with("TIMEOUT"), "{said}");
    for allowed in [
        "{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}], ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]}",
        "{to: [{namespaceSelector: {}}], ports: [{port: 53, protocol: UDP}]}",
        "{ports: [{port: 53, protocol: UDP}]}",
    ] {
        lab.policy(
            "dns",
            &format!("x {{podSelector: {{}}, policyTypes: [Egress], egress: [{allowed}]}}"),
        )
        .await;
        becomes(true).await;
        lab.becomes(("x", "a"), &api, "timeout").await;
        lab.delete_policy("x", "dns").await;
        becomes(false).await;
    }
    let node = lab.pods("x").get("a").await.unwrap().status.unwrap().host_ip.unwrap();
    lab.policy("api", &format!("x {{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {node}/32}}}}], ports: [{{port: 6443}}]}}]}}")).await;
    lab.becomes(("x", "a"), &api, "open").await;
    lab.delete_policies().await;
    becomes(true).await;
}

async fn services_of_default(lab: &Lab) -> String {
    let services: Api<Service> = Api::namespaced(lab.client.clone(), "default");
    services
        .get("kubernetes")
        .await
        .unwrap()
        .spec
        .unwrap()
        .cluster_ip
        .unwrap()
}
