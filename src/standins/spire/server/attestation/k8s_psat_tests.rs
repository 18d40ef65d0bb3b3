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
    };
    Psat {
        trust_domain: TrustDomain::new("shop.test").unwrap(),
        clusters: [("demo".to_owned(), cluster)].into(),
        api: Box::new(api),
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
