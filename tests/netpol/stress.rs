//! Nothing gets through while pods come and go.

use std::net::Ipv4Addr;

use crate::lab::Lab;

/// Counts of `reach --for`: target to (word to count).
fn counts(text: &str) -> Vec<std::collections::BTreeMap<String, u64>> {
    let count = |pair: &str| {
        let (word, number) = pair.split_once('=').unwrap_or_else(|| panic!("{text}"));
        (word.to_owned(), number.parse().unwrap())
    };
    text.lines()
        .map(|line| line.split(' ').skip(1).map(count).collect())
        .collect()
}

fn argv(program: &[&str], targets: &[String]) -> Vec<String> {
    program
        .iter()
        .map(|one| (*one).to_owned())
        .chain(targets.iter().cloned())
        .collect()
}

/// Pods come and go while somebody knocks at every address they may get. In a namespace that is closed, nobody ever opens; in
/// one that is open, somebody does, so the knocking would have been heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_pod_is_never_open_for_a_moment() {
    let Some(lab) = Lab::empty(None).await else { return };
    for namespace in ["closed", "open", "out"] {
        lab.namespace(namespace).await;
    }
    lab.idle("out", "knocker").await;
    let last: Ipv4Addr = lab.ready("out", "knocker").await.parse().unwrap();
    let mut next = u32::from(last) + 1;
    lab.policy("deny", "closed {podSelector: {}, policyTypes: [Ingress]}")
        .await;
    for namespace in ["closed", "open", "closed"] {
        const PODS: u32 = 8;
        let targets: Vec<String> = (next..next + PODS + 4)
            .flat_map(|ip| [80, 81].map(|port| format!("tcp://{}:{port}", Ipv4Addr::from(ip))))
            .collect();
        let knocking = lab.exec(
            "out",
            "knocker",
            argv(&["reach", "--for", "8000", "--timeout", "30"], &targets),
        );
        let coming = async {
            for number in 0..PODS {
                lab.serve(namespace, &format!("p{number}-{next}")).await;
            }
            let mut ips = Vec::new();
            for number in 0..PODS {
                ips.push(lab.ready(namespace, &format!("p{number}-{next}")).await);
            }
            for number in 0..PODS {
                lab.delete_pod(namespace, &format!("p{number}-{next}")).await;
            }
            ips
        };
        let (said, ips) = tokio::join!(knocking, coming);
        for ip in &ips {
            assert!(
                said.contains(&format!("tcp://{ip}:80 ")),
                "{ip} was not knocked at: {said}"
            );
        }
        let opened = counts(&said).iter().filter(|tried| tried.contains_key("open")).count();
        if namespace == "open" {
            assert!(opened > 0, "nobody was heard where everybody is open: {said}");
        } else {
            assert_eq!(opened, 0, "{said}");
        }
        next += PODS;
    }
}
