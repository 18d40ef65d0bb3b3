//! What the API server gives a new Job: labels and a selector of its own.
//!
//! Source: Kubernetes' Job concept ("Specifying your own Pod selector"), well-known labels `batch.kubernetes.io/…`.

use serde_json::{Value, json};

use super::meta;

/// Has the Job select its own pods by its uid, unless it says that it brings a selector. What it says of these labels itself is
/// left for validation to refuse.
pub fn complete(object: &mut Value) {
    let (name, uid) = (meta::name(object).to_owned(), meta::text(object, "uid").to_owned());
    let spec = meta::child(meta::fields(object), "spec");
    let manual = spec.get("manualSelector").and_then(Value::as_bool) == Some(true);
    let template = meta::child(meta::child(spec, "template"), "metadata");
    if !manual {
        let labels = meta::child(template, "labels");
        for (key, value) in [
            ("job-name", &name),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("batch.kubernetes.io/controller-uid", &uid),
        ] {
            labels.entry(key).or_insert_with(|| json!(value));
        }
    }
    let labels = template.get("labels").cloned();
    if !manual {
        let selector = meta::child(meta::child(spec, "selector"), "matchLabels");
        selector
            .entry("batch.kubernetes.io/controller-uid")
            .or_insert_with(|| json!(uid));
    }
    let metadata = meta::metadata(object);
    let unlabelled = metadata
        .get("labels")
        .and_then(Value::as_object)
        .is_none_or(serde_json::Map::is_empty);
    if unlabelled {
        meta::set(metadata, "labels", labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_selects_its_own_pods_unless_it_brings_a_selector() {
        let job = |spec: Value| {
            let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": spec});
            complete(&mut job);
            job
        };
        let own = job(json!({"template": {"metadata": {"labels": {"app": "a"}}}}));
        let labels = json!({"app": "a", "job-name": "j", "batch.kubernetes.io/job-name": "j", "controller-uid": "u",
            "batch.kubernetes.io/controller-uid": "u"});
        assert_eq!(own["spec"]["template"]["metadata"]["labels"], labels);
        assert_eq!(own["metadata"]["labels"], labels);
        assert_eq!(
            own["spec"]["selector"],
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
        );
        let selector = json!({"matchLabels": {"app": "a"}});
        let manual = job(json!({"manualSelector": true, "selector": selector,
            "template": {"metadata": {"labels": {"app": "a"}}}}));
        assert_eq!(manual["spec"]["selector"], selector);
        assert_eq!(manual["metadata"]["labels"], json!({"app": "a"}));
    }
}
