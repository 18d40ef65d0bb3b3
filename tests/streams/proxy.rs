//! Requests that the API server passes on to pods.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use crate::cluster::{Cluster, Forward, Peer, until};

/// A pod that keeps the one request it is sent, head and five bytes, and then answers it.
const KEEPER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: keeper
    image: ztlab.dev/toolbox:1
    ports: [{containerPort: 9000}]
    command:
    - sh
    - -c
    - |
      mkfifo /tmp/answer
      nc -l -p 9000 <> /tmp/answer | {
        sed -u '/^.$/q' > /tmp/request
        head -c 5 >> /tmp/request
        printf 'HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nmade' > /tmp/answer
      }
      sleep 10000
"#;

const NAMESPACE: &str = "/api/v1/namespaces/default";

#[test]
fn pods_and_services_are_reached_through_the_api_server() {
    let Some(cluster) = Cluster::start("streams-proxy") else {
        return;
    };
    let name = cluster.text(
        Peer::WebSocket,
        &[
            "get",
            "pod",
            "-l",
            "app=web",
            "-o",
            "jsonpath={.items[0].metadata.name}",
        ],
    );
    let uri = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("URI: "));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    for peer in Cluster::peers() {
        for (what, path, expected) in [
            ("services/web:8080", "/", "URI: /"),
            ("services/web", "/a", "URI: /a"),
            (
                "services/http:web:8080",
                "/a/b/?c=d&includeObject=x",
                "URI: /a/b/?c=d&includeObject=x",
            ),
            ("services/http:web:", "/x%20y//z", "URI: /x%20y//z"),
            ("pods/NAME:80", "/proxy/proxy", "URI: /proxy/proxy"),
            ("pods/NAME", "/", "URI: /"),
            // kubectl follows the way from `proxy` to `proxy/`
            ("pods/NAME", "", "URI: /"),
        ] {
            let what = what.replace("NAME", &name);
            let answer = cluster.text(peer, &["get", "--raw", &format!("{NAMESPACE}/{what}/proxy{path}")]);
            assert_eq!(uri(&answer), expected, "{peer:?} {what} {path}");
        }
        for (what, expected) in [
            ("services/web:9", "no service port 9 found for service \"web\""),
            ("services/web:other", "no endpoints available for service \"web:other\""),
            ("services/a:b:c:d", "invalid service request \"a:b:c:d\""),
            ("services/nothing", "services \"nothing\" not found"),
            ("pods/nobody:80", "pods \"nobody\" not found"),
            ("pods/ftp:box:80", "invalid pod request \"ftp:box:80\""),
            ("pods/box:81", "connect: connection refused"),
            ("pods/https:NAME:80", "error trying to reach service: remote error: tls"),
        ] {
            let what = what.replace("NAME", &name);
            let said = cluster.fails(peer, &["get", "--raw", &format!("{NAMESPACE}/{what}/proxy/")]);
            assert!(said.contains(expected), "{peer:?} {what}: {said}");
        }
    }

    // what the pod hears
    cluster.ok(Peer::WebSocket, &["apply", "-f", "-"], KEEPER.as_bytes());
    let ready = ["wait", "--for=condition=Ready", "pod/keeper", "--timeout=60s"];
    cluster.ok(Peer::WebSocket, &ready, b"");
    let listening = ["exec", "keeper", "--", "grep", "-c", " 0A ", "/proc/net/tcp"];
    until("the pod listens", || {
        cluster.run(Peer::WebSocket, &listening, b"").stdout == b"1\n"
    });
    let path = format!("{NAMESPACE}/pods/keeper/proxy/made?x=y");
    let made = cluster.ok(Peer::WebSocket, &["create", "--raw", &path, "-f", "-"], b"hello");
    assert_eq!(String::from_utf8_lossy(&made).trim_end(), "made");
    let heard = cluster.text(Peer::WebSocket, &["exec", "keeper", "--", "cat", "/tmp/request"]);
    assert!(heard.starts_with("POST /made?x=y HTTP/1.1\r\n"), "{heard}");
    assert!(heard.ends_with("\r\n\r\nhello"), "{heard}");
    for line in [
        "content-length: 5".to_owned(),
        format!("x-forwarded-uri: {}", path.strip_suffix("?x=y").unwrap()),
        "x-forwarded-proto: https".to_owned(),
    ] {
        assert!(heard.contains(&format!("\r\n{line}\r\n")), "{line}: {heard}");
    }

    // `kubectl proxy`, for a browser
    for peer in Cluster::peers() {
        let mut proxy = cluster
            .kubectl(peer, &["proxy", "--port=0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(proxy.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let port = line
            .trim()
            .rsplit(':')
            .next()
            .unwrap()
            .parse()
            .unwrap_or_else(|_| panic!("{line:?}"));
        let ask = |path: &str| {
            let request =
                format!("GET {NAMESPACE}/{path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n");
            String::from_utf8(Forward::ask(port, request.as_bytes()).unwrap()).unwrap()
        };
        let answer = ask("services/web:8080/proxy/page?q=1");
        let moved = ask("services/web:8080/proxy?q=1");
        proxy.kill().unwrap();
        proxy.wait().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("URI: /page?q=1"), "{answer}");
        assert!(moved.starts_with("HTTP/1.1 301 Moved Permanently\r\n"), "{moved}");
        let location = format!("ocation: {NAMESPACE}/services/web:8080/proxy/?q=1\r\n");
        assert!(moved.contains(&location), "{moved}");
    }
}
