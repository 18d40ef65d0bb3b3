//! The pod network, Services and capturing.

use std::net::Ipv4Addr;

use tokio::io::AsyncReadExt;
use ztlab::embedded::node::kube_proxy::{Backends, KubeProxy, Protocol, RuleSet, ServicePort, Way};

use crate::scenarios::Cluster;

const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

pub async fn pods_reach_each_other(cluster: Cluster) {
    cluster.pod("server", 5).await;
    cluster.pod("client", 6).await;
    cluster.serve("server", "s", "0.0.0.0:80", "hello").await;
    cluster.idle("client", "c").await;
    let ask = async |address: &str| cluster.exec("c", &["ask", address]).await;
    assert_eq!(ask("10.244.1.5:80").await, (0, "hello to 10.244.1.6\n".to_owned()));
    assert_eq!(ask("10.244.1.5:81").await, (1, "ConnectionRefused\n".to_owned()));
    // the node itself reaches pods, and pods the node
    assert_eq!(in_node("10.244.1.5:80").await.unwrap(), "hello to 10.244.0.1\n");
    let node = std::net::TcpListener::bind("10.96.0.10:53").unwrap();
    let served = tokio::task::spawn_blocking(move || {
        let (mut connection, peer) = node.accept().unwrap();
        std::io::Write::write_all(&mut connection, b"dns").unwrap();
        peer.ip().to_string()
    });
    assert_eq!(ask("10.96.0.10:53").await, (0, "dns".to_owned()));
    assert_eq!(served.await.unwrap(), "10.244.1.6");
    // beyond the cluster there is nothing
    assert_eq!(ask("192.0.2.1:80").await, (1, "NetworkUnreachable\n".to_owned()));
    // an address is free again at once
    cluster.runtime.remove_sandbox("server").await.unwrap();
    cluster.pod("server", 5).await;
    assert_eq!(ask("10.244.1.5:80").await, (1, "ConnectionRefused\n".to_owned()));
}

async fn in_node(address: &str) -> std::io::Result<String> {
    let mut connection = tokio::net::TcpStream::connect(address).await?;
    let mut text = String::new();
    connection.read_to_string(&mut text).await?;
    Ok(text)
}

fn rules(services: &[(&str, u16, &[&str])]) -> RuleSet {
    let mut rules = RuleSet::default();
    for (ip, port, endpoints) in services {
        let ip = ip.parse().unwrap();
        rules.cluster_ips.insert(ip);
        let at = ServicePort {
            ip,
            protocol: Protocol::Tcp,
            port: *port,
        };
        if !endpoints.is_empty() {
            let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().unwrap());
            let backends = Backends {
                endpoints: endpoints.collect(),
                masquerade: false,
                affinity: None,
            };
            rules.fronts.insert(at, Way::To(backends));
        }
    }
    rules
}

pub async fn services_lead_to_endpoints(cluster: Cluster) {
    let mut proxy = KubeProxy::start(NODE).unwrap();
    cluster.pod("one", 5).await;
    cluster.pod("two", 6).await;
    cluster.pod("client", 7).await;
    cluster.serve("one", "one", "0.0.0.0:8080", "one").await;
    cluster.serve("two", "two", "0.0.0.0:8080", "two").await;
    cluster.idle("client", "c").await;
    let both: &[&str] = &["10.244.1.5:8080", "10.244.1.6:8080"];
    proxy
        .apply(&rules(&[("10.96.0.7", 80, both), ("10.96.0.8", 80, &[])]))
        .unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let (code, text) = cluster.exec("c", &["ask", "10.96.0.7:80"]).await;
        assert_eq!(code, 0, "{text}");
        assert!(
            text.ends_with(" to 10.244.1.7\n"),
            "a Service keeps the caller's address: {text}"
        );
        seen.insert(text);
    }
    assert_eq!(seen.len(), 2, "both endpoints are used");
    // without endpoints, or at a port that the Service does not have: refused
    for address in ["10.96.0.8:80", "10.96.0.7:81"] {
        let answer = cluster.exec("c", &["ask", address]).await;
        assert_eq!(answer, (1, "ConnectionRefused\n".to_owned()));
        let answer = in_node(address).await.err().unwrap();
        assert_eq!(answer.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    assert!(in_node("10.96.0.7:80").await.unwrap().contains(" to 10.244.0.1"));
    // a pod that reaches itself through its Service
    proxy.apply(&rules(&[("10.96.0.7", 80, &["10.244.1.5:8080"])])).unwrap();
    let answer = cluster.exec("one", &["ask", "10.96.0.7:80"]).await;
    assert_eq!(answer, (0, "one to 10.244.0.1\n".to_owned()));
    proxy.apply(&rules(&[("10.96.0.7", 80, &["10.244.1.6:8080"])])).unwrap();
    assert_eq!(
        cluster.exec("c", &["ask", "10.96.0.7:80"]).await.1,
        "two to 10.244.1.7\n"
    );
    proxy.apply(&rules(&[("10.96.0.7", 80, &[])])).unwrap();
    assert_eq!(
        cluster.exec("c", &["ask", "10.96.0.7:80"]).await.1,
        "ConnectionRefused\n"
    );
}

/// nft's own view of the rules; without nft on this machine the test cannot look.
fn nft_ruleset() -> Option<String> {
    nft(&["list", "ruleset"])
}

/// What nft says.
pub fn nft(args: &[&str]) -> Option<String> {
    match std::process::Command::new("/usr/sbin/nft").args(args).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: nft: {error}");
            None
        }
        Err(error) => panic!("nft: {error}"),
    }
}

pub async fn service_rules_read_back(_cluster: Cluster) {
    let mut proxy = KubeProxy::start(NODE).unwrap();
    let Some(empty) = nft_ruleset() else { return };
    let wanted = rules(&[
        ("10.96.0.7", 80, &["10.244.1.5:8080", "10.244.1.6:8080"]),
        ("10.96.0.8", 443, &["10.244.1.7:8443"]),
        ("10.96.0.9", 80, &[]),
    ]);
    proxy.apply(&wanted).unwrap();
    let text = nft_ruleset().unwrap();
    assert_eq!(text, include_str!("services.nft"), "\n{text}");
    // many Services take several transactions; taking them back leaves what was there
    let many: Vec<String> = (0..2000_u32)
        .map(|n| Ipv4Addr::from(0x0a60_1000 + n).to_string())
        .collect();
    let endpoints: &[&str] = &["10.244.1.5:8080", "10.244.1.6:8080"];
    let services: Vec<(&str, u16, &[&str])> = many.iter().map(|ip| (ip.as_str(), 80, endpoints)).collect();
    proxy.apply(&rules(&services)).unwrap();
    assert_eq!(nft_ruleset().unwrap().matches("dnat ip to numgen").count(), 2000);
    proxy.apply(&RuleSet::default()).unwrap();
    assert_eq!(nft_ruleset().unwrap(), empty);
}

pub async fn an_observer_captures_in_a_pod(cluster: Cluster) {
    cluster.pod("server", 5).await;
    cluster.pod("client", 6).await;
    let mut config = cluster.container("server", "app", &["serve", "0.0.0.0:80", "secret"]);
    config.uid = Some(1000);
    cluster.start_container(config).await;
    cluster.wait_for("app", "listening").await;
    let mut config = cluster.container("server", "observer", &["sniff"]);
    config.cap_drop = vec!["ALL".to_owned()];
    config.cap_add = vec!["NET_RAW".to_owned(), "NET_ADMIN".to_owned()];
    let mut observer = cluster.start_container(config).await;
    cluster.wait_for("observer", "capturing").await;
    cluster.idle("client", "c").await;
    let (_, text) = cluster.exec("c", &["ask", "10.244.1.5:80"]).await;
    assert_eq!(text, "secret to 10.244.1.6\n");
    assert_eq!(observer.exited.wait().await.code, 0);
    let mut config = cluster.container("server", "blind", &["sniff"]);
    config.cap_drop = vec!["ALL".to_owned()];
    let (end, _) = cluster.run(config).await;
    assert_ne!(end.code, 0, "without NET_RAW nothing is captured");
    // an ephemeral container with a target sees its processes
    let mut config = cluster.container("server", "debug", &["cat", "/proc/1/comm"]);
    config.share_pid_with = Some("app".to_owned());
    assert_eq!(cluster.run(config).await.1, "serve");
}
