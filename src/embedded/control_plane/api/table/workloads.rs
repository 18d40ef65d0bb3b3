//! Workloads: deployments and what else makes pods.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    super::Resource,
    Layout,
    text::{Ages, NONE, Object, containers, human_duration, labels, name, selector},
};

pub fn layout(kind: &str) -> Option<Layout> {
    Some(match kind {
        "Deployment" => Layout {
            columns: "Name|Ready|Up-to-date#|Available#|Age|*Containers|*Images|*Selector",
            row: |o, now| {
                let mut cells = vec![
                    name(o),
                    ready(o, "status.readyReplicas"),
                    json!(o.int("status.updatedReplicas")),
                    json!(o.int("status.availableReplicas")),
                    o.age(now),
                ];
                cells.extend(containers(o.at("spec.template.spec")));
                cells.push(json!(selector(o.at("spec.selector"))));
                cells
            },
        },
        "ReplicaSet" => Layout {
            columns: REPLICAS,
            row: |o, now| replicas(o, now, selector(o.at("spec.selector"))),
        },
        "StatefulSet" => Layout {
            columns: "Name|Ready|Age|*Containers|*Images",
            row: |o, now| {
                let mut cells = vec![name(o), ready(o, "status.readyReplicas"), o.age(now)];
                cells.extend(containers(o.at("spec.template.spec")));
                cells
            },
        },
        "DaemonSet" => Layout {
            columns: "Name|Desired#|Current#|Ready#|Up-to-date#|Available#|Node Selector|Age|*Containers|*Images|*Selector",
            row: daemon_set,
        },
        "ControllerRevision" => Layout {
            columns: "Name|Controller|Revision#|Age",
            row: controller_revision,
        },
        "Job" => Layout {
            columns: "Name|Status|Completions|Duration|Age|*Containers|*Images|*Selector",
            row: job,
        },
        "CronJob" => Layout {
            columns: "Name|Schedule|Timezone|Suspend|Active#|Last Schedule|Age|*Containers|*Images|*Selector",
            row: cron_job,
        },
        "HorizontalPodAutoscaler" => Layout {
            columns: "Name|Reference|Targets|MinPods|MaxPods#|Replicas#|Age",
            row: autoscaler,
        },
        "PodDisruptionBudget" => Layout {
            columns: "Name|Min Available|Max Unavailable|Allowed Disruptions#|Age",
            row: |o, now| {
                let either = |path: &str| {
                    if o.at(path).is_set() {
                        o.at(path).text()
                    } else {
                        "N/A".into()
                    }
                };
                let (least, most) = (either("spec.minAvailable"), either("spec.maxUnavailable"));
                vec![
                    name(o),
                    json!(least),
                    json!(most),
                    json!(o.int("status.disruptionsAllowed")),
                    o.age(now),
                ]
            },
        },
        _ => return None,
    })
}

/// Workloads of the core group.
pub fn core(resource: &Resource) -> Option<Layout> {
    if !resource.group.is_empty() {
        return None;
    }
    Some(match resource.kind.as_str() {
        "ReplicationController" => Layout {
            columns: REPLICAS,
            row: |o, now| replicas(o, now, labels(o.entries("spec.selector"))),
        },
        "PodTemplate" => Layout {
            columns: "Name|Containers|Images|Pod Labels",
            row: |o, _| {
                let [names, images] = containers(o.at("template.spec"));
                vec![
                    name(o),
                    names,
                    images,
                    json!(labels(o.entries("template.metadata.labels"))),
                ]
            },
        },
        _ => return None,
    })
}

const REPLICAS: &str = "Name|Desired#|Current#|Ready#|Age|*Containers|*Images|*Selector";

fn replicas(o: Object<'_>, now: Timestamp, selector: String) -> Vec<Value> {
    let mut cells = vec![
        name(o),
        json!(o.int("spec.replicas")),
        json!(o.int("status.replicas")),
        json!(o.int("status.readyReplicas")),
        o.age(now),
    ];
    cells.extend(containers(o.at("spec.template.spec")));
    cells.push(json!(selector));
    cells
}

fn ready(o: Object<'_>, path: &str) -> Value {
    json!(format!("{}/{}", o.int(path), o.int("spec.replicas")))
}

fn daemon_set(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let status = |field: &str| json!(o.at("status").int(field));
    let mut cells = vec![
        name(o),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        json!(labels(o.entries("spec.template.spec.nodeSelector"))),
        o.age(now),
    ];
    cells.extend(containers(o.at("spec.template.spec")));
    cells.push(json!(selector(o.at("spec.selector"))));
    cells
}

fn controller_revision(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let owner = o
        .items("metadata.ownerReferences")
        .find(|owner| owner.bool("controller"));
    let controller = owner.map_or_else(
        || NONE.to_owned(),
        |owner| {
            let group = owner
                .str("apiVersion")
                .split_once('/')
                .map_or(String::new(), |(group, _)| format!(".{group}"));
            format!("{}{group}/{}", owner.str("kind").to_lowercase(), owner.str("name"))
        },
    );
    vec![name(o), json!(controller), json!(o.int("revision")), o.age(now)]
}

fn job(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let has = |kind: &str| {
        o.items("status.conditions")
            .any(|c| c.str("type") == kind && c.str("status") == "True")
    };
    let status = if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if o.at("metadata.deletionTimestamp").is_set() {
        "Terminating"
    } else {
        ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
            .into_iter()
            .find(|c| has(c))
            .unwrap_or("Running")
    };
    let (succeeded, parallelism) = (o.int("status.succeeded"), o.int("spec.parallelism"));
    let completions = if o.at("spec.completions").is_set() {
        format!("{succeeded}/{}", o.int("spec.completions"))
    } else if parallelism > 1 {
        format!("{succeeded}/1 of {parallelism}")
    } else {
        format!("{succeeded}/1")
    };
    let duration = o.time("status.startTime").map_or(String::new(), |start| {
        let end = o.time("status.completionTime").unwrap_or(now);
        human_duration(end.as_second() - start.as_second())
    });
    let mut cells = vec![name(o), json!(status), json!(completions), json!(duration), o.age(now)];
    cells.extend(containers(o.at("spec.template.spec")));
    cells.push(json!(selector(o.at("spec.selector"))));
    cells
}

fn cron_job(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let last = match o.time("status.lastScheduleTime") {
        Some(_) => o.since("status.lastScheduleTime", now),
        None => json!(NONE),
    };
    let suspend = match o.at("spec.suspend").0.as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let active = o.items("status.active").len();
    let template = o.at("spec.jobTemplate.spec");
    let mut cells = vec![
        name(o),
        json!(o.str("spec.schedule")),
        o.str_or("spec.timeZone", NONE),
        json!(suspend),
        json!(active),
        last,
        o.age(now),
    ];
    cells.extend(containers(template.at("template.spec")));
    cells.push(json!(selector(template.at("selector"))));
    cells
}

fn autoscaler(o: Object<'_>, now: Timestamp) -> Vec<Value> {
    let reference = format!(
        "{}/{}",
        o.str("spec.scaleTargetRef.kind"),
        o.str("spec.scaleTargetRef.name")
    );
    let mut targets: Vec<String> = o.items("spec.metrics").map(|metric| target(o, metric)).collect();
    // autoscaling/v1 has the one metric as fields.
    let cpu = o.at("spec.targetCPUUtilizationPercentage");
    if cpu.is_set() {
        let current = o.at("status.currentCPUUtilizationPercentage");
        let current = if current.is_set() {
            format!("{}%", current.text())
        } else {
            super::text::UNKNOWN.to_owned()
        };
        targets.push(format!("cpu: {current}/{}%", cpu.text()));
    }
    let least = o.at("spec.minReplicas");
    vec![
        name(o),
        json!(reference),
        json!(if targets.is_empty() {
            NONE.to_owned()
        } else {
            targets.join(", ")
        }),
        json!(if least.is_set() { least.text() } else { "<unset>".into() }),
        json!(o.int("spec.maxReplicas")),
        json!(o.int("status.currentReplicas")),
        o.age(now),
    ]
}

/// `cpu: 20%/80%` for resource metrics; other metrics are named only.
fn target(o: Object<'_>, metric: Object<'_>) -> String {
    if metric.str("type") != "Resource" {
        return format!("{UNKNOWN}/{}", metric.str("type"), UNKNOWN = super::text::UNKNOWN);
    }
    let resource = metric.at("resource");
    let same = |m: &Object<'_>| m.str("resource.name") == resource.str("name");
    let current = o.items("status.currentMetrics").find(same);
    let percent = |value: Object<'_>| {
        if value.is_set() {
            format!("{}%", value.text())
        } else {
            String::new()
        }
    };
    let wanted = percent(resource.at("target.averageUtilization"));
    let (path, wanted) = if wanted.is_empty() {
        (
            "resource.current.averageValue",
            resource.str("target.averageValue").to_owned(),
        )
    } else {
        ("resource.current.averageUtilization", wanted)
    };
    let current = match current.map(|m| m.at(path)).filter(|v| v.is_set()) {
        Some(value) if path.ends_with("Utilization") => percent(value),
        Some(value) => value.text(),
        None => super::text::UNKNOWN.to_owned(),
    };
    format!("{}: {current}/{wanted}", resource.str("name"))
}
