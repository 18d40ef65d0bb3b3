//! What one object stops doing another has begun to do: at no moment is there a gap, though the two are of different kinds.

use serde_json::json;

use crate::{
    lab::Lab,
    traffic::{Manner, Place, Signal, attempts},
};

const TIMES: usize = 25;

fn place(namespace: &str, name: &str) -> Place {
    (namespace.to_owned(), name.to_owned())
}

/// The server is guarded by a policy for its label; a policy for the next label comes, the label changes, the first policy
/// goes. It is never without a guard. The same the other way round: a client is let in by its label, then by the next; and by
/// its namespace's.
#[tokio::test(flavor = "multi_thread")]
async fn one_guard_takes_over_from_another() {
    let Some(lab) = Lab::empty(None).await else { return };
    for namespace in ["x", "y"] {
        lab.namespace(namespace).await;
        lab.serve(namespace, "a").await;
    }
    lab.serve("y", "b").await;
    lab.idle("x", "client").await;
    lab.idle("x", "stranger").await;
    let guarded = lab.ready("x", "a").await;
    let open = lab.ready("y", "a").await;
    let neighbour = lab.ready("y", "b").await;
    lab.ready("x", "client").await;
    lab.ready("x", "stranger").await;
    let colours = ["red", "blue"];
    let guard =
        |colour: &str| format!("x {{podSelector: {{matchLabels: {{guard: {colour}}}}}, policyTypes: [Ingress]}}");
    let admit = |colour: &str| {
        let from = format!("{{namespaceSelector: {{}}, podSelector: {{matchLabels: {{role: {colour}}}}}}}");
        format!("y {{podSelector: {{matchLabels: {{pod: a}}}}, ingress: [{{from: [{from}]}}]}}")
    };
    let admit_all = |colour: &str| {
        let from = format!("{{namespaceSelector: {{matchLabels: {{team: {colour}}}}}}}");
        format!("y {{podSelector: {{matchLabels: {{pod: b}}}}, ingress: [{{from: [{from}]}}]}}")
    };
    lab.policy("guard-red", &guard("red")).await;
    lab.label_pod("x", "a", json!({"guard": "red"})).await;
    lab.policy("admit-red", &admit("red")).await;
    lab.label_pod("x", "client", json!({"role": "red"})).await;
    lab.label_namespace("x", json!({"team": "red"})).await;
    lab.policy("admit-all-red", &admit_all("red")).await;
    let targets = |ip: &str| vec![format!("udp://{ip}:80"), format!("tcp://{ip}:80")];
    lab.becomes(("x", "client"), &targets(&guarded)[0], "timeout").await;
    lab.becomes(("x", "stranger"), &targets(&open)[0], "timeout").await;
    lab.becomes(("x", "client"), &targets(&open)[0], "open").await;
    lab.becomes(("x", "client"), &targets(&neighbour)[0], "open").await;

    let signal = Signal::default();
    let (client, stranger) = (place("x", "client"), place("x", "stranger"));
    let both = [targets(&guarded), targets(&open)].concat();
    let (guarded, open) = (targets(&guarded), [targets(&open), targets(&neighbour)].concat());
    let denied = attempts(&lab, &client, Manner::Knock, &guarded, &signal);
    let strange = attempts(&lab, &stranger, Manner::Knock, &both, &signal);
    let allowed = attempts(&lab, &client, Manner::Call, &open, &signal);
    let changes = async {
        signal.begun(3).await;
        for time in 0..TIMES {
            let (from, to) = (colours[time % 2], colours[(time + 1) % 2]);
            lab.policy(&format!("guard-{to}"), &guard(to)).await;
            lab.label_pod("x", "a", json!({"guard": to})).await;
            lab.delete_policy("x", &format!("guard-{from}")).await;
            lab.policy(&format!("admit-{to}"), &admit(to)).await;
            lab.label_pod("x", "client", json!({"role": to})).await;
            lab.delete_policy("y", &format!("admit-{from}")).await;
            lab.policy(&format!("admit-all-{to}"), &admit_all(to)).await;
            lab.label_namespace("x", json!({"team": to})).await;
            lab.delete_policy("y", &format!("admit-all-{from}")).await;
        }
        signal.over();
    };
    let (denied, strange, allowed, ()) = tokio::join!(denied, strange, allowed, changes);
    for (target, words) in denied.iter().chain(&strange) {
        assert_eq!(words.get("open"), None, "{target} was open for a moment: {words:?}");
        assert!(words["timeout"] > 10, "{target} was hardly tried: {words:?}");
    }
    for (target, words) in &allowed {
        assert!(words["open"] > 10, "{target} was hardly tried: {words:?}");
        assert_eq!(words.len(), 1, "{target} was closed for a moment: {words:?}");
    }
}
