//! Objects of the Kubernetes API and files with fields.

use serde_json::Value;

use super::{LINES, shown};
use crate::{
    check::{Objects, is_students},
    lab::{FieldRule, NodeRule, ObjectCheck},
    verdict::{Finding, Judgement, Verdict},
};

pub(super) fn expected(check: &ObjectCheck) -> String {
    let kind = &check.kind;
    let which = match (&check.name, &check.labels) {
        (Some(name), _) => format!("{kind} {name}"),
        (None, Some(labels)) => format!("{kind} labelled {labels}"),
        (None, None) => kind.clone(),
    };
    let count = match (check.min, check.max) {
        (0, Some(0)) => "there is no".to_owned(),
        (1, None) => "there is a".to_owned(),
        (min, None) => format!("there are at least {min}"),
        (0, Some(max)) => format!("there are at most {max}"),
        (min, Some(max)) if min == max => format!("there are {min}"),
        (min, Some(max)) => format!("there are {min} to {max}"),
    };
    let made = if check.changed { " that you made or changed" } else { "" };
    let fields: Vec<String> = check.fields.iter().map(expected_field).collect();
    let fields = if fields.is_empty() {
        String::new()
    } else {
        format!(" in which {}", fields.join(", "))
    };
    format!("{count} {which}{made}{fields}")
}

/// What a rule expects, in words.
pub(super) fn expected_field(field: &FieldRule) -> String {
    let path = field.path.to_string();
    match &field.rule {
        NodeRule::Equals(value) => format!("{path} is {}", shown(&value.to_string())),
        NodeRule::Contains(value) => format!("{path} contains {}", shown(&value.to_string())),
        NodeRule::Matches(rule) => format!("{path} matches `{rule}`"),
        NodeRule::Exists(true) => format!("{path} is there"),
        NodeRule::Exists(false) => format!("{path} is not there"),
        NodeRule::Count { min, max: Some(max) } if min == max => format!("{path} finds {min} values"),
        NodeRule::Count { min, max: Some(max) } => format!("{path} finds {min} to {max} values"),
        NodeRule::Count { min, max: None } => format!("{path} finds at least {min} values"),
    }
}

pub(super) fn judge(check: &ObjectCheck, objects: &Objects) -> Judgement {
    let say = |verdict, finding, found: String| {
        Judgement::new(verdict, finding, expected(check), crate::text::one_line(&found))
    };
    let mut untouched = 0;
    let mut considered: Vec<&Value> = Vec::new();
    for object in &objects.found {
        if check.changed && !is_students(object) {
            untouched += 1;
        } else {
            considered.push(object);
        }
    }
    let mut meeting = Vec::new();
    let mut differences = Vec::new();
    for object in &considered {
        match differs(&check.fields, object) {
            None => meeting.push(name(object)),
            Some(difference) => differences.push(format!("{}: {difference}", name(object))),
        }
    }
    let enough = meeting.len() >= check.min as usize && check.max.is_none_or(|max| meeting.len() <= max as usize);
    let lines = |lines: &[String]| {
        lines
            .iter()
            .take(LINES)
            .map(|line| crate::text::one_line(line))
            .collect::<Vec<_>>()
    };
    if enough {
        let found = match meeting.as_slice() {
            [] => "there is none".to_owned(),
            [one] => format!("{} {one}", check.kind),
            many => format!("{} of them: {}", many.len(), many.join(", ")),
        };
        return say(Verdict::Passed, Finding::Expected, found).with_evidence(lines(&meeting));
    }
    if considered.is_empty() {
        let found = match (objects.kind_known, untouched) {
            (false, _) => format!("the cluster does not know the kind {}", check.kind),
            (true, 0) => "there is none yet".to_owned(),
            (true, 1) => "there is one, as the lab began with it".to_owned(),
            (true, many) => format!("there are {many}, as the lab began with them"),
        };
        return say(Verdict::Undetermined, Finding::NoObject, found);
    }
    let found = match (meeting.as_slice(), differences.first()) {
        ([], Some(first)) => first.clone(),
        (meeting, _) => format!("there are {}: {}", meeting.len(), meeting.join(", ")),
    };
    say(Verdict::Failed, Finding::OtherObject, found).with_evidence(lines(&differences))
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or("?").to_owned()
}

/// The first rule that a value does not meet, and what it has instead; what a Secret holds is not shown.
pub(super) fn differs(fields: &[FieldRule], value: &Value) -> Option<String> {
    let secret = value["kind"] == "Secret";
    fields.iter().find_map(|field| {
        let found = field.path.query(value).all();
        if meets(&field.rule, &found) {
            return None;
        }
        let path = field.path.to_string();
        Some(match (found.as_slice(), secret) {
            ([], _) => format!("{path} is not there"),
            (_, true) if path.contains("ata") => format!("{path} is something else"),
            ([one], _) => format!("{path} is {}", shown(&one.to_string())),
            (many, _) => {
                let values: Vec<String> = many.iter().map(|one| one.to_string()).collect();
                format!("{path} finds {} values: {}", many.len(), shown(&values.join(", ")))
            }
        })
    })
}

fn meets(rule: &NodeRule, found: &[&Value]) -> bool {
    match rule {
        NodeRule::Equals(wanted) => !found.is_empty() && found.iter().all(|value| same(value, wanted)),
        NodeRule::Contains(wanted) => found.iter().any(|value| holds(value, wanted)),
        NodeRule::Matches(rule) => {
            !found.is_empty()
                && found
                    .iter()
                    .all(|value| scalar(value).is_some_and(|text| rule.is_match(&text)))
        }
        NodeRule::Exists(wanted) => *wanted != found.is_empty(),
        NodeRule::Count { min, max } => {
            let count = found.len();
            count >= *min as usize && max.is_none_or(|max| count <= max as usize)
        }
    }
}

/// Equal, where `1` and `1.0` are the same number.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, value)| other.get(key).is_some_and(|other| same(value, other)))
        }
        (one, other) => one == other,
    }
}

fn holds(value: &Value, wanted: &Value) -> bool {
    if same(value, wanted) {
        return true;
    }
    match (value, wanted) {
        (Value::Array(items), wanted) => items.iter().any(|item| same(item, wanted)),
        (Value::String(text), Value::String(wanted)) => text.contains(wanted.as_str()),
        _ => false,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Reads YAML or JSON that a student wrote: bounded.
pub(super) fn read_yaml(text: &str) -> Result<Value, String> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: 32,
            max_nodes: 20_000,
            max_events: 50_000,
            max_aliases: 100,
            max_anchors: 100,
            max_documents: 1,
            flow_nesting_limit: 32,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 100,
        },
        with_snippet: false,
    };
    serde_yaml::from_str_with_options(text, options)
        .map_err(|error| crate::text::one_line(&error.without_snippet().to_string()))
}
