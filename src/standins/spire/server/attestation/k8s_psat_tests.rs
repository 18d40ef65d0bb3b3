//! An agent's token, judged by a scripted API server.

use super::*;

struct Scripted {
    review: Review,
    pod: AgentPod,
}

#[async_trait::async_trait]
impl ApiServer for Scripted {
    async fn review(&self, token: &str, audiences: &[String]) -> Result<Review, String> {
        assert_eq!(audiences, ["spire-server"]);
        match token {
            "good" => Ok(self.review.clone()),
            _ => Ok(Review::default()),
        }
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<AgentPod, String> {
        assert_eq!((namespace, name), ("spire", "spire-agent-abcde"));
        Ok(self.pod.clone())
    }

    async fn node(&self, name: &str) -> Result<AgentNode, String> {
        assert_eq!(name, "node-1");
        Ok(AgentNode {
            uid: "node-uid".into(),
            labels: [("zone".into(), "a".into()), ("secret".into(), "b".into())].into(),
        })
    }
}

fn psat(change: impl FnOnce(&mut Scripted)) -> Psat {
    let extra = [(POD_NAME, "spire-agent-abcde"), (POD_UID, "pod-uid")];
    let mut api = Scripted {
        review: Review {
            authenticated: true,
            username: "system:serviceaccount:spire:spire-agent".into(),
            extra: extra
                .iter()
                .map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()]))
                .collect(),
        },
        pod: AgentPod {
            uid: "pod-uid".into(),
            node: "node-1".into(),
            host_ip: "10.0.0.1".into(),
            labels: BTreeMap::new(),
        },
    };
    change(&mut api);
    let cluster = Cluster {
        service_accounts: ["spire:spire-agent".to_owned()].into(),
        audience: vec!["spire-server".into()],
        node_labels: ["zone".to_owned()].into(),
        pod_labels: BTreeSet::new(),
        named_by_pod: false,
        kube_config: None,
    };
    Psat {
        trust_domain: TrustDomain::new("shop.test").unwrap(),
        clusters: [("demo".to_owned(), (cluster, Arc::new(api) as Arc<dyn ApiServer>))].into(),
    }
}

const GOOD: &[u8] = br#"{"cluster":"demo","token":"good"}"#;

#[tokio::test]
async fn an_agent_is_named_after_its_node_and_shows_where_it_runs() {
    let attested = psat(|_| {}).attest(GOOD).await.unwrap();
    assert_eq!(
        attested.id.to_string(),
        "spiffe://shop.test/spire/agent/k8s_psat/demo/node-uid"
    );
    assert!(attested.can_reattest);
    let shown: Vec<String> = attested.selectors.iter().map(ToString::to_string).collect();
    assert!(
        shown.contains(&"k8s_psat:agent_node_name:node-1".to_owned()),
        "{shown:?}"
    );
    assert!(
        shown.contains(&"k8s_psat:agent_node_label:zone:a".to_owned()),
        "{shown:?}"
    );
    assert!(
        !shown.iter().any(|one| one.contains("secret")),
        "a label that is not listed: {shown:?}"
    );
}

#[tokio::test]
async fn an_agent_is_named_after_its_pod_where_that_is_asked_for() {
    let mut psat = psat(|_| {});
    for (cluster, _) in psat.clusters.values_mut() {
        cluster.named_by_pod = true;
    }
    let attested = psat.attest(GOOD).await.unwrap();
    assert_eq!(
        attested.id.to_string(),
        "spiffe://shop.test/spire/agent/k8s_psat/demo/pod-uid"
    );
}

#[tokio::test]
async fn what_proves_nothing_is_refused() {
    let cases: [(&[u8], Code); 5] = [
        (b"", Code::InvalidArgument),
        (br#"{"token":"good"}"#, Code::InvalidArgument),
        (br#"{"cluster":"demo"}"#, Code::InvalidArgument),
        (br#"{"cluster":"other","token":"good"}"#, Code::InvalidArgument),
        (br#"{"cluster":"demo","token":"stolen"}"#, Code::PermissionDenied),
    ];
    for (payload, code) in cases {
        let refusal = psat(|_| {}).attest(payload).await.unwrap_err();
        assert_eq!(refusal.code, code, "{}: {refusal}", String::from_utf8_lossy(payload));
    }
}

#[tokio::test]
async fn another_service_account_and_a_replaced_pod_are_refused() {
    let mallory = psat(|api| api.review.username = "system:serviceaccount:shop:spire-agent".into());
    assert_eq!(mallory.attest(GOOD).await.unwrap_err().code, Code::PermissionDenied);
    let replaced = psat(|api| api.pod.uid = "another".into());
    let refusal = replaced.attest(GOOD).await.unwrap_err();
    assert!(refusal.message.contains("pod UID mismatch"), "{refusal}");
    let unbound = psat(|api| api.review.extra.clear());
    assert_eq!(unbound.attest(GOOD).await.unwrap_err().code, Code::Internal);
}

/// An API server that answers one TokenReview after the other, on plain HTTP, to whoever shows `token`.
async fn reviewing(token: &'static str) -> (String, tokio::task::JoinHandle<()>) {
    use axum::{Json, Router, http::HeaderMap, routing::post};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = move |headers: HeaderMap, Json(mut review): Json<serde_json::Value>| async move {
        assert_eq!(headers["authorization"], format!("Bearer {token}").as_str());
        // As the API server does: asked for no audience, it looks for its own.
        let audiences = match &review["spec"]["audiences"] {
            serde_json::Value::Null => serde_json::json!(["https://kubernetes.default.svc"]),
            asked => {
                assert_eq!(*asked, serde_json::json!(["spire-server"]));
                asked.clone()
            }
        };
        review["status"] = serde_json::json!({"authenticated": true, "audiences": audiences,
            "user": {"username": "system:serviceaccount:spire:spire-agent"}});
        Json(review)
    };
    let router = Router::new().route("/apis/authentication.k8s.io/v1/tokenreviews", post(answer));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, serving)
}

#[tokio::test]
async fn a_cluster_is_reached_by_its_kubeconfig_which_is_read_anew_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kubeconfig");
    let audiences = ["spire-server".to_owned()];
    let api = ByFile(path.clone());
    let missing = api.review("t", &audiences).await.unwrap_err();
    assert!(missing.contains(&path.display().to_string()), "{missing}");
    for token in ["first", "second"] {
        let (url, serving) = reviewing(token).await;
        let config = serde_json::json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "k", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}]});
        std::fs::write(&path, config.to_string()).unwrap();
        let review = api.review("t", &audiences).await.unwrap();
        assert!(review.authenticated);
        let of_its_own = api.review("t", &[]).await.unwrap();
        assert!(of_its_own.authenticated, "no audience is the API server's own");
        assert_eq!(review.username, "system:serviceaccount:spire:spire-agent");
        serving.abort();
    }
}
