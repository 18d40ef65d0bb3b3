//! Field selectors: `metadata.name=x,status.phase!=Running`.
//!
//! Source: apimachinery `pkg/fields`, and each kind's `AddFieldLabelConversionFunc`.

use serde_json::Value;

use super::{super::Resource, SelectorError};

/// A parsed field selector; the empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: String,
    equal: bool,
    value: String,
}

/// Fields besides `metadata.name` and `metadata.namespace`, per kind.
fn fields_of(resource: &Resource) -> &'static [&'static str] {
    const EVENT: &[&str] = &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ];
    const NEW_EVENT: &[&str] = &[
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "reportingController",
        "type",
    ];
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "Event") => EVENT,
        ("events.k8s.io", "Event") => NEW_EVENT,
        ("", "Node") => &["spec.unschedulable"],
        ("", "Namespace") => &["status.phase"],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("", "ReplicationController") | ("apps", "ReplicaSet") => &["status.replicas"],
        ("batch", "Job") => &["status.successful"],
        _ => &[],
    }
}

impl FieldSelector {
    /// Reads `field=value`, `field==value` and `field!=value`, joined by commas; `\` escapes `,`, `=` and `\`.
    ///
    /// # Errors
    /// A term without an operator, or a field that the kind does not support, with Kubernetes' text.
    pub fn parse(resource: &Resource, text: &str) -> Result<FieldSelector, SelectorError> {
        let mut terms = Vec::new();
        for part in split_terms(text).into_iter().filter(|part| !part.is_empty()) {
            let invalid = || SelectorError(format!("invalid selector: '{part}'; can't understand '{part}'"));
            let (field, equal, value) = split_term(part).ok_or_else(invalid)?;
            let value = unescape(value).ok_or_else(|| {
                SelectorError(format!("invalid field selector: invalid escape sequence in '{value}'"))
            })?;
            supported(resource, field)?;
            terms.push(Term {
                field: field.to_owned(),
                equal,
                value,
            });
        }
        Ok(FieldSelector { terms })
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The name that `metadata.name=…` asks for, so that a list need not walk everything.
    pub fn name(&self) -> Option<&str> {
        let named = |t: &&Term| t.equal && t.field == "metadata.name";
        self.terms.iter().find(named).map(|t| t.value.as_str())
    }

    /// Whether an object matches.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms
            .iter()
            .all(|t| (value_of(object, &t.field) == t.value) == t.equal)
    }
}

fn supported(resource: &Resource, field: &str) -> Result<(), SelectorError> {
    let common = field == "metadata.name" || (field == "metadata.namespace" && resource.namespaced);
    if common || fields_of(resource).contains(&field) {
        return Ok(());
    }
    if let Some(custom) = &resource.custom {
        if custom.selectable.iter().any(|known| known == field) {
            return Ok(());
        }
        return Err(SelectorError(format!("field label not supported: {field}")));
    }
    // kinds with own selectable fields word it differently; kubectl only shows it
    let own = !fields_of(resource).is_empty();
    Err(SelectorError(if own {
        format!("field label not supported: {field}")
    } else {
        format!("\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    }))
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn split_term(part: &str) -> Option<(&str, bool, &str)> {
    let at = part.find(['=', '!'])?;
    let (field, rest) = part.split_at(at);
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some(value) = rest.strip_prefix(operator) {
            return Some((field, equal, value));
        }
    }
    None
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            // an unescaped "=" in a value is refused, as a sign of a mistaken operator
            '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// A field's value as text; what is absent is empty, as in Go.
fn value_of(object: &Value, field: &str) -> String {
    let at = |path: &str| path.split('.').try_fold(object, |value, key| value.get(key));
    match field {
        // events written through events.k8s.io have no source, only a controller
        "source" => [at("source.component"), at("reportingComponent")]
            .into_iter()
            .flatten()
            .map(text)
            .find(|s| !s.is_empty())
            .unwrap_or_default(),
        "status.podIPs" => match at(field).and_then(Value::as_array) {
            Some(ips) => ips
                .iter()
                .filter_map(|ip| ip["ip"].as_str())
                .collect::<Vec<_>>()
                .join(","),
            None => String::new(),
        },
        "spec.unschedulable" | "spec.hostNetwork" => at(field).map_or_else(|| "false".into(), text),
        "status.replicas" => at(field).map_or_else(|| "0".into(), text),
        "status.successful" => at("status.succeeded").map_or_else(|| "0".into(), text),
        _ => at(field).map(text).unwrap_or_default(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::control_plane::api::Registry;

    fn resource(group: &str, plural: &str) -> Resource {
        (**Registry::builtin().find(group, "v1", plural).expect(plural)).clone()
    }

    #[test]
    fn pods_by_phase_node_and_name() {
        let pods = resource("", "pods");
        let pod = json!({"metadata": {"name": "a", "namespace": "shop"}, "spec": {"nodeName": "n"},
            "status": {"phase": "Running"}});
        for (text, expected) in [
            ("", true),
            ("status.phase=Running", true),
            ("status.phase==Running,spec.nodeName!=m", true),
            ("status.phase!=Running", false),
            ("metadata.name=a,metadata.namespace=shop", true),
            ("status.podIP=", true),
        ] {
            let selector = FieldSelector::parse(&pods, text).expect(text);
            assert_eq!(selector.matches(&pod), expected, "{text}");
        }
        let named = FieldSelector::parse(&pods, "metadata.name=a").expect("parses");
        assert_eq!(named.name(), Some("a"));
    }

    #[test]
    fn unsupported_fields_are_named() {
        let error = |r: &Resource, t| FieldSelector::parse(r, t).expect_err("refused").0;
        assert_eq!(
            error(&resource("", "pods"), "spec.x=1"),
            "field label not supported: spec.x"
        );
        assert_eq!(
            error(&resource("", "configmaps"), "data=1"),
            "\"data\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
        assert_eq!(
            error(&resource("", "pods"), "oops"),
            "invalid selector: 'oops'; can't understand 'oops'"
        );
    }

    #[test]
    fn nodes_are_schedulable_by_default() {
        let selector = FieldSelector::parse(&resource("", "nodes"), "spec.unschedulable=false").expect("parses");
        assert!(selector.matches(&json!({"spec": {}})));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            if let Ok(selector) = FieldSelector::parse(&resource("", "events"), &text) {
                let _ = selector.matches(&json!({"source": {"component": text}}));
            }
        }
    }
}
