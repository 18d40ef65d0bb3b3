//! What objects use of a ResourceQuota, and what a LimitRange makes of a pod's resources. Pure, on objects as they are stored.
//!
//! Source: Kubernetes' "Resource Quotas" and "Limit Ranges", API reference (core/v1).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::api::validate::quantity::{self, Quantity};

/// Amounts by the names that quotas give them, such as `requests.cpu`.
pub type Amounts = BTreeMap<String, Quantity>;

/// What a pod's containers ask for that quotas count.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A quantity of an object; a number is one too.
pub fn amount(value: Option<&Value>) -> Option<Quantity> {
    match value? {
        Value::String(text) => quantity::parse(text),
        Value::Number(number) => quantity::parse(&number.to_string()),
        _ => None,
    }
}

/// An amount as text, as its name has it: bytes in powers of 1024.
pub fn write(name: &str, amount: Quantity) -> String {
    amount.text(name.contains("memory") || name.contains("storage"))
}

fn add(amounts: &mut Amounts, name: impl Into<String>, more: Quantity) {
    let held = amounts.entry(name.into()).or_insert(Quantity::ZERO);
    *held = held.plus(more);
}

/// Adds up.
pub fn sum(all: impl IntoIterator<Item = Amounts>) -> Amounts {
    let mut total = Amounts::new();
    for amounts in all {
        amounts.into_iter().for_each(|(name, more)| add(&mut total, name, more));
    }
    total
}

/// What an object uses.
pub fn usage(group: &str, plural: &str, object: &Value) -> Amounts {
    let one = Quantity::whole(1);
    let mut used = Amounts::new();
    let qualified = match group {
        "" => format!("count/{plural}"),
        group => format!("count/{plural}.{group}"),
    };
    add(&mut used, qualified, one);
    match (group, plural) {
        ("", "pods") => pod(object, &mut used),
        ("", "services") => service(object, &mut used),
        ("", "persistentvolumeclaims") => claim(object, &mut used),
        ("", "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas") => add(&mut used, plural, one),
        _ => {}
    }
    used
}

fn pod(object: &Value, used: &mut Amounts) {
    // What has ended uses nothing but its place in the store.
    if matches!(text(object, "/status/phase"), "Succeeded" | "Failed") {
        return;
    }
    add(used, "pods", Quantity::whole(1));
    for resource in COMPUTE {
        for (kind, prefix) in [("requests", "requests."), ("limits", "limits.")] {
            let Some(total) = of_pod(object, kind, resource) else {
                continue;
            };
            add(used, format!("{prefix}{resource}"), total);
            if kind == "requests" {
                add(used, resource, total);
            }
        }
    }
}

/// What a pod's containers ask for together, or one of its init containers where that is more.
fn of_pod(object: &Value, kind: &str, resource: &str) -> Option<Quantity> {
    let pointer = format!("/resources/{kind}/{resource}");
    let of = |container: &Value| amount(container.pointer(&pointer));
    let is_sidecar = |container: &&Value| text(container, "/restartPolicy") == "Always";
    let sidecars = items(object, "/spec/initContainers").filter(is_sidecar).filter_map(of);
    let together = items(object, "/spec/containers").filter_map(of).chain(sidecars);
    let before = items(object, "/spec/initContainers").filter_map(of).max();
    let total = together.reduce(Quantity::plus);
    total.max(before)
}

fn service(object: &Value, used: &mut Amounts) {
    add(used, "services", Quantity::whole(1));
    let kind = text(object, "/spec/type");
    if matches!(kind, "NodePort" | "LoadBalancer") {
        let ports = items(object, "/spec/ports").count();
        add(used, "services.nodeports", Quantity::whole(ports));
    }
    if kind == "LoadBalancer" {
        add(used, "services.loadbalancers", Quantity::whole(1));
    }
}

fn claim(object: &Value, used: &mut Amounts) {
    let asked = amount(object.pointer("/spec/resources/requests/storage"));
    let class = text(object, "/spec/storageClassName");
    let mut count = |prefix: &str| {
        add(used, format!("{prefix}persistentvolumeclaims"), Quantity::whole(1));
        if let Some(asked) = asked {
            add(used, format!("{prefix}requests.storage"), asked);
        }
    };
    count("");
    if !class.is_empty() {
        count(&format!("{class}.storageclass.storage.k8s.io/"));
    }
}

/// What a quota allows.
pub fn hard(quota: &Value) -> Amounts {
    let hard = quota.pointer("/spec/hard").and_then(Value::as_object);
    let read = |(name, value): (&String, &Value)| Some((name.clone(), amount(Some(value))?));
    hard.into_iter().flatten().filter_map(read).collect()
}

/// Whether a quota is about an object: its scopes narrow it to some pods.
pub fn covers(quota: &Value, plural: &str, object: &Value) -> bool {
    let scopes = items(quota, "/spec/scopes").filter_map(|scope| Some((scope.as_str()?, "Exists", Vec::new())));
    let selected = items(quota, "/spec/scopeSelector/matchExpressions").map(|one| {
        let values = items(one, "/values").filter_map(Value::as_str).collect();
        (text(one, "/scopeName"), text(one, "/operator"), values)
    });
    let mut all = scopes.chain(selected).peekable();
    if all.peek().is_some() && plural != "pods" {
        return false;
    }
    let bounded = object
        .pointer("/spec/activeDeadlineSeconds")
        .is_some_and(|value| !value.is_null());
    let asks = ["requests", "limits"].iter().any(|kind| {
        ["cpu", "memory"]
            .iter()
            .any(|resource| of_pod(object, kind, resource).is_some())
    });
    let class = text(object, "/spec/priorityClassName");
    all.all(|(scope, operator, values)| match scope {
        "Terminating" => bounded,
        "NotTerminating" => !bounded,
        "BestEffort" => !asks,
        "NotBestEffort" => asks,
        "PriorityClass" => match operator {
            "In" => values.contains(&class),
            "NotIn" => !values.contains(&class),
            "DoesNotExist" => class.is_empty(),
            _ => !class.is_empty(),
        },
        _ => false,
    })
}

/// Why a quota refuses a new object, in its words; `used` is what there is already.
pub fn refusal(quota: &Value, plural: &str, object: &Value, used: &Amounts, more: &Amounts) -> Option<String> {
    let (name, hard) = (text(quota, "/metadata/name"), hard(quota));
    if plural == "pods"
        && let Some(missing) = missing(&hard, object)
    {
        return Some(format!("failed quota: {name}: must specify {missing}"));
    }
    let of = |amounts: &Amounts, name: &String| amounts.get(name).copied().unwrap_or(Quantity::ZERO);
    let over: Vec<&String> = more
        .iter()
        .filter(|(name, more)| hard.get(*name).is_some_and(|hard| of(used, name).plus(**more) > *hard))
        .map(|(name, _)| name)
        .collect();
    if over.is_empty() {
        return None;
    }
    let list = |amounts: &Amounts| {
        let pairs = over
            .iter()
            .map(|name| format!("{name}={}", write(name, of(amounts, name))));
        pairs.collect::<Vec<_>>().join(",")
    };
    let (requested, used, limited) = (list(more), list(used), list(&hard));
    Some(format!(
        "exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}"
    ))
}

/// What a pod must say where a quota counts it, and which containers do not.
fn missing(hard: &Amounts, pod: &Value) -> Option<String> {
    let mut parts = Vec::new();
    for name in hard.keys() {
        let (kind, resource) = match name.split_once('.') {
            Some((kind @ ("requests" | "limits"), resource)) => (kind, resource),
            _ => ("requests", name.as_str()),
        };
        if !COMPUTE.contains(&resource) {
            continue;
        }
        let pointer = format!("/resources/{kind}/{resource}");
        let all = items(pod, "/spec/containers").chain(items(pod, "/spec/initContainers"));
        let without = all.filter(|container| amount(container.pointer(&pointer)).is_none());
        let names: Vec<&str> = without.map(|container| text(container, "/name")).collect();
        if !names.is_empty() {
            parts.push(format!("{name} for: {}", names.join(",")));
        }
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Gives a new pod's containers what a LimitRange says of those that say nothing, and notes it on the pod.
pub fn fill(range: &Value, pod: &mut Value) {
    let mut notes = Vec::new();
    for limit in items(range, "/spec/limits").filter(|limit| text(limit, "/type") == "Container") {
        for list in ["containers", "initContainers"] {
            let containers = pod.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let name = text(container, "/name").to_owned();
                let place = if list == "containers" {
                    "container"
                } else {
                    "init container"
                };
                for (defaults, kind, noun) in [
                    ("defaultRequest", "requests", "request"),
                    ("default", "limits", "limit"),
                ] {
                    let given = limit.get(defaults).and_then(Value::as_object);
                    let set = set_absent(container, kind, given);
                    if !set.is_empty() {
                        notes.push(format!("{} {noun} for {place} {name}", set.join(", ")));
                    }
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert("kubernetes.io/limit-ranger".to_owned(), json!(note));
            }
        }
    }
}

fn set_absent(container: &mut Value, kind: &str, given: Option<&Map<String, Value>>) -> Vec<String> {
    let mut set = Vec::new();
    let Some(fields) = container.as_object_mut() else {
        return set;
    };
    for (resource, value) in given.into_iter().flatten() {
        let resources = fields.entry("resources").or_insert_with(|| json!({}));
        let Some(amounts) = resources.as_object_mut() else {
            continue;
        };
        let amounts = amounts.entry(kind).or_insert_with(|| json!({}));
        if let Some(amounts) = amounts
            .as_object_mut()
            .filter(|amounts| !amounts.contains_key(resource))
        {
            amounts.insert(resource.clone(), value.clone());
            set.push(resource.clone());
        }
    }
    set
}

/// Why a LimitRange refuses an object.
pub fn violations(range: &Value, plural: &str, object: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for limit in items(range, "/spec/limits") {
        match (text(limit, "/type"), plural) {
            ("Container", "pods") => {
                for container in items(object, "/spec/containers").chain(items(object, "/spec/initContainers")) {
                    let of = |kind: &str, resource: &str| {
                        amount(container.pointer(&format!("/resources/{kind}/{resource}")))
                    };
                    check(limit, "Container", &of, &mut all);
                }
            }
            ("Pod", "pods") => check(limit, "Pod", &|kind, resource| of_pod(object, kind, resource), &mut all),
            ("PersistentVolumeClaim", "persistentvolumeclaims") => {
                // A claim only asks: what it asks for is held to both ends.
                let of =
                    |_: &str, resource: &str| amount(object.pointer(&format!("/spec/resources/requests/{resource}")));
                check(limit, "PersistentVolumeClaim", &of, &mut all);
            }
            _ => {}
        }
    }
    all
}

fn check(limit: &Value, what: &str, of: &dyn Fn(&str, &str) -> Option<Quantity>, all: &mut Vec<String>) {
    let bounds = |field: &str| {
        let bounds = limit.get(field).and_then(Value::as_object);
        let read = |(name, value): (&String, &Value)| Some((name.clone(), amount(Some(value))?));
        bounds.into_iter().flatten().filter_map(read).collect::<Vec<_>>()
    };
    for (name, least) in bounds("min") {
        let head = format!("minimum {name} usage per {what} is {}", write(&name, least));
        match (of("requests", &name), of("limits", &name)) {
            (None, _) => all.push(format!("{head}.  No request is specified")),
            (Some(asked), _) if asked < least => all.push(format!("{head}, but request is {}", write(&name, asked))),
            (_, Some(limit)) if limit < least => all.push(format!("{head}, but limit is {}", write(&name, limit))),
            _ => {}
        }
    }
    for (name, most) in bounds("max") {
        let head = format!("maximum {name} usage per {what} is {}", write(&name, most));
        let kind = if what == "PersistentVolumeClaim" {
            "request"
        } else {
            "limit"
        };
        match (of("limits", &name), of("requests", &name)) {
            (None, _) => all.push(format!("{head}.  No {kind} is specified")),
            (Some(limit), _) if limit > most => all.push(format!("{head}, but {kind} is {}", write(&name, limit))),
            (_, Some(asked)) if asked > most => all.push(format!("{head}, but request is {}", write(&name, asked))),
            _ => {}
        }
    }
    for (name, most) in bounds("maxLimitRequestRatio") {
        let head = format!("{name} max limit to request ratio per {what} is {}", write(&name, most));
        match (of("requests", &name), of("limits", &name)) {
            (None | Some(Quantity::ZERO), _) => {
                all.push(format!("{head}, but no request is specified or request is 0"))
            }
            (_, None | Some(Quantity::ZERO)) => all.push(format!("{head}, but no limit is specified or limit is 0")),
            (Some(asked), Some(limit)) => {
                let ratio = limit.ratio(asked);
                if ratio > most.ratio(Quantity::whole(1)) {
                    all.push(format!("{head}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    fn quota(hard: Value) -> Value {
        json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})
    }

    fn refused(hard: Value, used: &[Value], new: &Value) -> Option<String> {
        let used = sum(used.iter().map(|pod| usage("", "pods", pod)));
        refusal(&quota(hard), "pods", new, &used, &usage("", "pods", new))
    }

    #[test]
    fn what_does_not_fit_is_refused_in_the_words_of_kubernetes() {
        let small = pod(json!({"requests": {"cpu": "400m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}));
        let two = [small.clone(), small.clone()];
        assert_eq!(refused(json!({"pods": 3}), &two, &small), None);
        assert_eq!(
            refused(json!({"pods": "2", "requests.cpu": "1"}), &two, &small).unwrap(),
            "exceeded quota: q, requested: pods=1,requests.cpu=400m, used: pods=2,requests.cpu=800m, limited: pods=2,requests.cpu=1"
        );
        assert_eq!(
            refused(json!({"requests.memory": "128Mi"}), &two, &small).unwrap(),
            "exceeded quota: q, requested: requests.memory=64Mi, used: requests.memory=128Mi, limited: requests.memory=128Mi"
        );
        assert_eq!(
            refused(json!({"limits.cpu": 1, "memory": 1}), &[], &pod(json!({}))).unwrap(),
            "failed quota: q: must specify limits.cpu for: c; memory for: c"
        );
        let mut ended = small.clone();
        ended["status"] = json!({"phase": "Succeeded"});
        assert_eq!(refused(json!({"pods": 1}), &[ended], &small), None);
    }

    #[test]
    fn objects_are_counted_by_their_names() {
        let service = json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}});
        let used = usage("", "services", &service);
        let shown: Vec<String> = used
            .iter()
            .map(|(name, amount)| format!("{name}={}", write(name, *amount)))
            .collect();
        assert_eq!(
            shown,
            [
                "count/services=1",
                "services=1",
                "services.loadbalancers=1",
                "services.nodeports=2"
            ]
        );
        assert!(usage("apps", "deployments", &json!({})).contains_key("count/deployments.apps"));
        let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
        let used = usage("", "persistentvolumeclaims", &claim);
        assert_eq!(
            write("storage", used["fast.storageclass.storage.k8s.io/requests.storage"]),
            "1Gi"
        );
    }

    #[test]
    fn scopes_narrow_a_quota_to_some_pods() {
        let scoped = |scope: &str| json!({"spec": {"scopes": [scope]}});
        let (plain, asking) = (pod(json!({})), pod(json!({"requests": {"cpu": 1}})));
        for (scope, of_plain, of_asking) in [
            ("BestEffort", true, false),
            ("NotBestEffort", false, true),
            ("Terminating", false, false),
            ("NotTerminating", true, true),
        ] {
            assert_eq!(covers(&scoped(scope), "pods", &plain), of_plain, "{scope}");
            assert_eq!(covers(&scoped(scope), "pods", &asking), of_asking, "{scope}");
        }
        assert!(!covers(&scoped("BestEffort"), "services", &json!({})));
    }

    #[test]
    fn a_limit_range_fills_in_and_holds_to_its_ends() {
        let range = json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "100m"},
            "min": {"cpu": "50m"}, "max": {"cpu": "1"}}]}});
        let mut new = pod(json!({}));
        fill(&range, &mut new);
        assert_eq!(
            new["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}})
        );
        assert_eq!(
            new["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
            "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
        );
        assert!(violations(&range, "pods", &new).is_empty());
        let of = |resources: Value| violations(&range, "pods", &pod(resources));
        assert_eq!(
            of(json!({"requests": {"cpu": "10m"}, "limits": {"cpu": "2"}})),
            [
                "minimum cpu usage per Container is 50m, but request is 10m",
                "maximum cpu usage per Container is 1, but limit is 2",
            ]
        );
        assert_eq!(
            of(json!({"requests": {"cpu": "60m"}})),
            ["maximum cpu usage per Container is 1.  No limit is specified"]
        );
        let claims = json!({"spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]}});
        let claim = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        assert_eq!(
            violations(&claims, "persistentvolumeclaims", &claim),
            ["maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"]
        );
    }
}
