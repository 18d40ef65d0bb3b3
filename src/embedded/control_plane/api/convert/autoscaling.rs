//! HorizontalPodAutoscalers: stored as autoscaling/v2 and served as autoscaling/v1 too, where the CPU's utilisation is a field and
//! all else that is new stands in annotations.
//!
//! Source: Kubernetes' `pkg/apis/autoscaling/v1/conversion.go`.

use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Where a part of a metric stands in v2 and in v1, by the metric's member.
const PARTS: &[(&str, &[(&str, &str)])] = &[
    ("resource", RESOURCE),
    ("containerResource", RESOURCE),
    (
        "pods",
        &[
            ("/metric/name", "/metricName"),
            ("/metric/selector", "/selector"),
            ("/target/averageValue", "/targetAverageValue"),
            ("/current/averageValue", "/currentAverageValue"),
        ],
    ),
    (
        "object",
        &[
            ("/describedObject", "/target"),
            ("/metric/name", "/metricName"),
            ("/metric/selector", "/selector"),
            ("/target/value", "/targetValue"),
            ("/target/averageValue", "/averageValue"),
            ("/current/value", "/currentValue"),
            ("/current/averageValue", "/averageValue"),
        ],
    ),
    (
        "external",
        &[
            ("/metric/name", "/metricName"),
            ("/metric/selector", "/metricSelector"),
            ("/target/value", "/targetValue"),
            ("/target/averageValue", "/targetAverageValue"),
            ("/current/value", "/currentValue"),
            ("/current/averageValue", "/currentAverageValue"),
        ],
    ),
];

const RESOURCE: &[(&str, &str)] = &[
    ("/name", "/name"),
    ("/container", "/container"),
    ("/target/averageUtilization", "/targetAverageUtilization"),
    ("/target/averageValue", "/targetAverageValue"),
    ("/current/averageUtilization", "/currentAverageUtilization"),
    ("/current/averageValue", "/currentAverageValue"),
];

/// Turns v2 into v1.
pub fn to_first(object: &mut Value) {
    let mut noted = Map::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let (cpu, others) = apart(spec.remove("metrics"), "/resource/target/averageUtilization");
        spec.extend(cpu.map(|cpu| ("targetCPUUtilizationPercentage".to_owned(), cpu)));
        note(&mut noted, METRICS, others.iter().map(metric_to_first).collect());
        noted.extend(spec.remove("behavior").map(|behavior| (BEHAVIOR.to_owned(), behavior)));
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let (cpu, others) = apart(status.remove("currentMetrics"), "/resource/current/averageUtilization");
        status.extend(cpu.map(|cpu| ("currentCPUUtilizationPercentage".to_owned(), cpu)));
        note(&mut noted, CURRENT, others.iter().map(metric_to_first).collect());
        noted.extend(status.remove("conditions").map(|all| (CONDITIONS.to_owned(), all)));
    }
    for (name, value) in noted {
        object["metadata"]["annotations"][name] = Value::String(value.to_string());
    }
}

/// Turns v1 into v2.
pub fn from_first(object: &mut Value) {
    let metrics = read(object, METRICS).map(all_from_first);
    let current = read(object, CURRENT).map(all_from_first);
    let behavior = read(object, BEHAVIOR);
    let conditions = read(object, CONDITIONS);
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let cpu = spec.remove("targetCPUUtilizationPercentage").map(|cpu| {
            json!({"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": cpu}}})
        });
        put(spec, "metrics", metrics, cpu);
        spec.extend(behavior.map(|behavior| ("behavior".to_owned(), behavior)));
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let cpu = status.remove("currentCPUUtilizationPercentage").map(
            |cpu| json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": cpu}}}),
        );
        put(status, "currentMetrics", current, cpu);
        status.extend(conditions.map(|all| ("conditions".to_owned(), all)));
    }
}

/// The first CPU utilisation among metrics, and all the others.
fn apart(metrics: Option<Value>, utilization: &str) -> (Option<Value>, Vec<Value>) {
    let Some(Value::Array(mut metrics)) = metrics else {
        return (None, Vec::new());
    };
    let cpu = |metric: &Value| metric.pointer("/resource/name").and_then(Value::as_str) == Some("cpu");
    let at = metrics
        .iter()
        .position(|metric| cpu(metric) && metric.pointer(utilization).is_some());
    let cpu = at.and_then(|at| metrics.remove(at).pointer(utilization).cloned());
    (cpu, metrics)
}

fn note(noted: &mut Map<String, Value>, name: &str, metrics: Vec<Value>) {
    if !metrics.is_empty() {
        noted.insert(name.to_owned(), Value::Array(metrics));
    }
}

/// Takes an annotation that holds JSON; one that does not is nobody's and stays.
fn read(object: &mut Value, name: &str) -> Option<Value> {
    let annotations = object.pointer_mut("/metadata/annotations")?.as_object_mut()?;
    let value = serde_json::from_str(annotations.get(name)?.as_str()?).ok()?;
    annotations.remove(name);
    if annotations.is_empty()
        && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.remove("annotations");
    }
    Some(value)
}

fn put(into: &mut Map<String, Value>, field: &str, metrics: Option<Vec<Value>>, cpu: Option<Value>) {
    let mut all = metrics.unwrap_or_default();
    all.extend(cpu);
    if !all.is_empty() {
        into.insert(field.to_owned(), Value::Array(all));
    }
}

fn all_from_first(metrics: Value) -> Vec<Value> {
    let Value::Array(metrics) = metrics else {
        return Vec::new();
    };
    metrics.iter().map(metric_from_first).collect()
}

fn metric_to_first(metric: &Value) -> Value {
    moved(metric, |part| part)
}

fn metric_from_first(metric: &Value) -> Value {
    let mut metric = moved(metric, |(second, first)| (first, second));
    for (member, _) in PARTS {
        let Some(target) = metric.get_mut(member).and_then(|source| source.get_mut("target")) else {
            continue;
        };
        let kinds = [
            ("averageUtilization", "Utilization"),
            ("averageValue", "AverageValue"),
            ("value", "Value"),
        ];
        if let Some((_, kind)) = kinds.iter().find(|(field, _)| target.get(field).is_some()) {
            target["type"] = json!(kind);
        }
    }
    metric
}

/// A metric with its parts where they stand in the other version; `way` says from where to where.
fn moved(metric: &Value, way: fn((&'static str, &'static str)) -> (&'static str, &'static str)) -> Value {
    let mut result = json!({"type": metric["type"]});
    for (member, parts) in PARTS {
        let Some(source) = metric.get(member) else { continue };
        // Of what is wanted and what is found of an object, v1 has the same name: only one of them stands in a metric.
        let is_status = source.get("current").is_some()
            || ["currentAverageUtilization", "currentAverageValue", "currentValue"]
                .iter()
                .any(|field| source.get(field).is_some());
        let of_this = |second: &str| !second.starts_with(if is_status { "/target/" } else { "/current/" });
        let mut other = json!({});
        for part in parts.iter().filter(|(second, _)| of_this(second)) {
            let (from, to) = way(*part);
            if let Some(value) = source.pointer(from) {
                let mut place = &mut other;
                for step in to.split('/').skip(1) {
                    place = &mut place[step];
                }
                *place = value.clone();
            }
        }
        result[*member] = other;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_a_field_and_the_rest_survives_the_way_there_and_back() {
        let second = json!({
            "metadata": {"name": "web"},
            "spec": {
                "maxReplicas": 3,
                "scaleTargetRef": {"kind": "Deployment", "name": "web"},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                    {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"},
                        "target": {"type": "Value", "value": "5"}}},
                    {"type": "External", "external": {"metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}},
                        "target": {"type": "AverageValue", "averageValue": "30"}}},
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                ],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
            },
            "status": {
                "currentMetrics": [
                    {"type": "Pods", "pods": {"metric": {"name": "p"}, "current": {"averageValue": "1"}}},
                    {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"},
                        "current": {"value": "5", "averageValue": "2"}}},
                    {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40}}},
                ],
                "conditions": [{"type": "AbleToScale", "status": "True"}],
            },
        });
        let mut object = second.clone();
        to_first(&mut object);
        assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 50);
        assert_eq!(object["status"]["currentCPUUtilizationPercentage"], 40);
        assert_eq!(object["spec"].get("metrics"), None);
        let noted = |name: &str| -> Value {
            serde_json::from_str(object["metadata"]["annotations"][name].as_str().unwrap()).unwrap()
        };
        assert_eq!(
            noted(METRICS),
            json!([
                {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}},
                {"type": "Object", "object": {"target": {"kind": "Service", "name": "s"}, "metricName": "m", "targetValue": "5"}},
                {"type": "External", "external": {"metricName": "q", "metricSelector": {"matchLabels": {"a": "b"}},
                    "targetAverageValue": "30"}},
            ])
        );
        assert_eq!(
            noted(CURRENT)[0],
            json!({"type": "Pods", "pods": {"metricName": "p", "currentAverageValue": "1"}})
        );
        from_first(&mut object);
        assert_eq!(object, second);
    }

    #[test]
    fn nonsense_stays_where_it_is() {
        for text in ["{", "5", "[1, {\"resource\": 2}]"] {
            let mut object = json!({"metadata": {"annotations": {METRICS: text}}, "spec": {}});
            from_first(&mut object);
            to_first(&mut object);
            assert!(object.is_object(), "{object}");
        }
    }
}
