//! Certificates are looked at in the handshake only: whoever has a connection is served on it, whatever becomes of its identity.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpStream, runtime::Runtime};
use ztlab_identity::{
    Authorizer, Live, TrustDomain, X509Bundle, X509BundleSet, X509Context, X509Svid, tls::MutualTls, x509::Leaf,
};

use super::{FETCH, Lab, caller, register, server, shell, text};

const FRONTEND: &str = "spiffe://ztlab.example/ns/shop/sa/frontend";
const ORDERS: &str = "spiffe://ztlab.example/ns/shop/sa/orders-api";

/// A way to the port of a pod, which ends with the test.
struct Forward {
    child: Child,
    /// kubectl tells of each connection, and dies where nobody can read it.
    _told: BufReader<ChildStdout>,
    port: u16,
}

impl Forward {
    fn to(lab: &Lab, what: &str, port: u16) -> Self {
        let mut command = lab.command("kubectl");
        command.args(["port-forward", "--address=127.0.0.1", "-n", "shop", what]);
        let mut child = command.arg(format!(":{port}")).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut told = BufReader::new(child.stdout.take().unwrap());
        told.read_line(&mut line).unwrap();
        let local = line
            .strip_prefix("Forwarding from 127.0.0.1:")
            .unwrap_or_else(|| panic!("{line:?}"));
        let port = local.split(' ').next().unwrap().parse().unwrap();
        Self {
            child,
            _told: told,
            port,
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the pod `name` may be, taken out of it as a thief would.
fn stolen(lab: &Lab, name: &str) -> MutualTls {
    let (fetched, said) = shell(lab, name, &format!("{FETCH} -write /tmp"));
    assert!(fetched, "{said}");
    let file = |path: &str| {
        let output = lab.try_kubectl(&["exec", "-n", "shop", name, "--", "cat", path]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        output.stdout
    };
    let svid = X509Svid::from_pem(&file("/tmp/svid.0.pem"), &file("/tmp/svid.0.key")).unwrap();
    assert_eq!(svid.id().to_string(), FRONTEND);
    let domain = TrustDomain::new("ztlab.example").unwrap();
    let mut bundles = X509BundleSet::default();
    bundles.insert(X509Bundle::from_pem(domain, &file("/tmp/bundle.0.pem")).unwrap());
    let context = X509Context::new(vec![svid], bundles).unwrap();
    let only_orders = Authorizer::deny_all().allow(ORDERS.parse().unwrap());
    MutualTls::new(Arc::new(Live::new(Some(context))), only_orders)
}

/// An open connection, and the certificate that the server showed in its handshake.
struct Open {
    requests: SendRequest<Empty<Bytes>>,
    server: Leaf,
}

impl Open {
    async fn to(port: u16, tls: &MutualTls) -> Self {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls.client().unwrap()));
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let stream = connector
            .connect("orders-api".try_into().unwrap(), stream)
            .await
            .unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap();
        let server = Leaf::read(&shown[0]).unwrap();
        let (requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self { requests, server }
    }

    /// Whether it is answered; a refusal is read with the first answer, as TLS 1.3 has it.
    async fn is_served(&mut self) -> bool {
        let request = hyper::Request::get("/orders").header("host", "orders-api");
        let request = request.body(Empty::new()).unwrap();
        if self.requests.ready().await.is_err() {
            return false;
        }
        match self.requests.send_request(request).await {
            Ok(answer) => answer.into_body().collect().await.is_ok(),
            Err(_) => false,
        }
    }
}

/// A client has the identity of frontend and opens a connection; then its entry is deleted.
pub fn connection_lives_on(lab: &Lab) {
    lab.apply(&[caller("lasting", json!({"app": "lasting"}))]);
    lab.kubectl(&[
        "wait",
        "-n",
        "shop",
        "--for=condition=Ready",
        "pod/lasting",
        "--timeout=60s",
    ]);
    let short = ["-selector", "k8s:pod-name:lasting", "-x509SVIDTTL", "30"];
    let entry = register(lab, FRONTEND, &short);
    lab.until("the client has its identity", || shell(lab, "lasting", FETCH).0);
    let tls = stolen(lab, "lasting");
    let forward = Forward::to(lab, "deploy/orders-api", 8080);
    let runtime = Runtime::new().unwrap();
    let mut open = runtime.block_on(Open::to(forward.port, &tls));
    assert!(runtime.block_on(open.is_served()));

    let deleted = server(lab, &["entry", "delete", "-entryID", &entry]);
    assert!(deleted.status.success(), "{}", text(&deleted.stderr));
    lab.until("no identity is issued to it any more", || {
        let (served, said) = shell(lab, "lasting", FETCH);
        !served && said.contains("no identity issued")
    });
    // What it was given is good until it is over: nobody revokes it.
    let shown = RefCell::new(open.server.clone());
    lab.until("a new connection is refused", || {
        runtime.block_on(async {
            let mut another = Open::to(forward.port, &tls).await;
            shown.borrow_mut().clone_from(&another.server);
            !another.is_served().await
        })
    });
    let log = lab.kubectl(&["logs", "-n", "shop", "deploy/orders-api", "--tail=200"]);
    let refused = log.lines().rfind(|line| line.contains("refused")).unwrap_or_default();
    assert!(refused.contains("expired"), "{log}");
    assert_ne!(
        shown.borrow().serial(),
        open.server.serial(),
        "the server's own SVID was replaced meanwhile"
    );
    assert!(runtime.block_on(open.is_served()), "what was open is served");
}
