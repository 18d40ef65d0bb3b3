//! Configuration, events, and RBAC.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Layout,
    text::{Ages, Object, created, human_duration, name, since},
};

pub fn core(kind: &str) -> Option<Layout> {
    Some(match kind {
        "ConfigMap" => Layout {
            columns: "Name|Data#|Age",
            row: |o, now| vec![name(o), json!(count(o, "data") + count(o, "binaryData")), o.age(now)],
        },
        "Secret" => Layout {
            columns: "Name|Type|Data#|Age",
            row: |o, now| vec![name(o), json!(o.str("type")), json!(count(o, "data")), o.age(now)],
        },
        "ServiceAccount" => Layout {
            columns: "Name|Secrets#|Age",
            row: |o, now| vec![name(o), json!(o.items("secrets").len()), o.age(now)],
        },
        "Event" => Layout {
            columns: "Last Seen|Type|Reason|Object|*Subobject|*Source|Message|*First Seen|*Count#|*Name",
            row: event,
        },
        "ResourceQuota" => Layout {
            columns: "Name|Request|Limit|Age",
            row: quota,
        },
        _ => return None,
    })
}

pub fn rbac(kind: &str) -> Option<Layout> {
    Some(match kind {
        "Role" | "ClusterRole" => Layout {
            columns: "Name|Created At",
            row: |o, _| vec![name(o), created(o)],
        },
        "RoleBinding" | "ClusterRoleBinding" => Layout {
            columns: "Name|Role|Age|*Users|*Groups|*ServiceAccounts",
            row: binding,
        },
        _ => return None,
    })
}

pub const CERTIFICATE: Layout = Layout {
    columns: "Name|Age|SignerName|Requestor|RequestedDuration|Condition",
    row: certificate,
};

fn certificate(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let seconds = o.at("spec.expirationSeconds");
    let duration = match seconds.is_set() {
        true => human_duration(o.int("spec.expirationSeconds")),
        false => "<none>".to_owned(),
    };
    let has = |kind: &str| {
        o.items("status.conditions")
            .any(|condition| condition.str("type") == kind)
    };
    let mut condition = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has("Failed") {
        condition.push_str(",Failed");
    }
    if !o.str("status.certificate").is_empty() {
        condition.push_str(",Issued");
    }
    vec![
        name(o),
        o.age(now),
        json!(o.str("spec.signerName")),
        json!(o.str("spec.username")),
        json!(duration),
        json!(condition),
    ]
}

fn count(o: Object<'_>, path: &str) -> usize {
    o.entries(path).map_or(0, serde_json::Map::len)
}

fn event(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    // both views of an event: core/v1 and events.k8s.io/v1
    let either = |core: &'static str, new: &'static str| if o.at(core).is_set() { o.at(core) } else { o.at(new) };
    let time = |value: Object<'_>| value.0.as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let first = time(either("firstTimestamp", "deprecatedFirstTimestamp")).or_else(|| o.time("eventTime"));
    let mut last = time(either("lastTimestamp", "deprecatedLastTimestamp")).or(first);
    let mut count = either("count", "deprecatedCount").0.as_i64().unwrap_or_default().max(1);
    let series = o.at("series");
    if series.is_set() {
        last = series.time("lastObservedTime");
        count = series.int("count");
    }
    let target = either("involvedObject", "regarding");
    let kind = target.str("kind").to_lowercase();
    let subject = match target.str("name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        json!(since(last, now)),
        json!(o.str("type")),
        json!(o.str("reason")),
        json!(subject),
        json!(target.str("fieldPath")),
        json!(source(o, either("source", "deprecatedSource"))),
        json!(either("message", "note").0.as_str().unwrap_or_default().trim()),
        json!(since(first, now)),
        json!(count),
        name(o),
    ]
}

fn source(o: Object<'_>, source: Object<'_>) -> String {
    let first = |texts: [&str; 3]| texts.into_iter().find(|t| !t.is_empty()).unwrap_or_default().to_owned();
    let component = first([
        source.str("component"),
        o.str("reportingComponent"),
        o.str("reportingController"),
    ]);
    let host = first([source.str("host"), o.str("reportingInstance"), ""]);
    if host.is_empty() {
        component
    } else {
        format!("{component}, {host}")
    }
}

fn quota(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in o.entries("status.hard").into_iter().flatten() {
        let used = o.entries("status.used").and_then(|used| used.get(resource));
        let used = used.map_or_else(|| "0".into(), |used| Object(used).text());
        let list = if resource.starts_with("limits") {
            &mut limits
        } else {
            &mut requests
        };
        list.push(format!("{resource}: {used}/{}", Object(hard).text()));
    }
    vec![
        name(o),
        json!(requests.join(", ")),
        json!(limits.join(", ")),
        o.age(now),
    ]
}

fn binding(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let role = format!("{}/{}", o.str("roleRef.kind"), o.str("roleRef.name"));
    let subjects = |kind: &str| {
        let all = o.items("subjects").filter(|s| s.str("kind") == kind);
        all.map(|s| match s.str("namespace") {
            "" => s.str("name").to_owned(),
            namespace => format!("{namespace}/{}", s.str("name")),
        })
        .collect::<Vec<_>>()
        .join(", ")
    };
    vec![
        name(o),
        json!(role),
        o.age(now),
        json!(subjects("User")),
        json!(subjects("Group")),
        json!(subjects("ServiceAccount")),
    ]
}
