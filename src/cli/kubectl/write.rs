//! `apply`, `delete`, `label`.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, ValidationDirective},
    runtime::{conditions, wait::await_condition},
};
use serde_json::{Map, Value, json};

use super::{
    FAILED, Failure, Room,
    grammar::{Delete, Files, Label, targets},
    kinds::Kind,
};
use crate::cluster::manifests;

/// Who applies, in `managedFields`: as the real one names itself.
const MANAGER: &str = "kubectl";
/// The longest manifest.
const MAX_INPUT: u64 = 1 << 20;

impl Room<'_> {
    pub async fn apply(&self, files: Files) -> Result<u8, Failure> {
        for object in self.objects(&files.filename)? {
            let (kind, name) = self.place(&object)?;
            let api = kind.api(&self.client, self.namespace_of(&object));
            let before = api.get_opt(&name).await?;
            let mut params = PatchParams::apply(MANAGER).force();
            params.field_validation = Some(ValidationDirective::Strict);
            let after = api.patch(&name, &params, &Patch::Apply(&object)).await?;
            let what = match before {
                None => "created",
                Some(before) if essence(&before, &object) == essence(&after, &object) => "unchanged",
                Some(_) => "configured",
            };
            self.out.line(format!("{}/{name} {what}", kind.title()))?;
        }
        Ok(0)
    }

    pub async fn delete(&self, delete: Delete) -> Result<u8, Failure> {
        let mut doomed: Vec<(&Kind, String, String)> = Vec::new();
        for object in self.objects(&delete.filename)? {
            let (kind, name) = self.place(&object)?;
            doomed.push((kind, self.namespace_of(&object).to_owned(), name));
        }
        if !delete.what.is_empty() {
            for (kind, names) in targets(&delete.what).map_err(Failure::Other)? {
                if names.is_empty() {
                    return Err(Failure::other("resource(s) were provided, but no name was specified"));
                }
                for kind in self.kinds.named(&kind).map_err(Failure::Other)? {
                    doomed.extend(names.iter().map(|name| (kind, self.namespace.clone(), name.clone())));
                }
            }
        }
        let params = DeleteParams {
            grace_period_seconds: delete.grace_period,
            ..DeleteParams::background()
        };
        let mut gone = Vec::new();
        let mut failed = false;
        for (kind, namespace, name) in doomed {
            let api = kind.api(&self.client, &namespace);
            match api.delete(&name, &params).await.map_err(Failure::from) {
                Ok(answer) => {
                    self.out.line(format!("{} \"{name}\" deleted", kind.title()))?;
                    // An object that is still there is answered as it is now; a Status says that it is gone.
                    gone.extend(answer.left().and_then(|left| left.uid()).map(|uid| (api, name, uid)));
                }
                Err(failure) if failure.is_not_found() => {
                    if !delete.ignore_not_found {
                        self.out.note(failure);
                        failed = true;
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        for (api, name, uid) in gone.into_iter().filter(|_| delete.wait) {
            let waited = await_condition(api, &name, conditions::is_deleted(&uid)).await;
            waited.map_err(Failure::other)?;
        }
        Ok(if failed { FAILED } else { 0 })
    }

    pub async fn label(&self, label: Label) -> Result<u8, Failure> {
        let begins = |one: &&String| one.contains('=') || one.ends_with('-');
        let split = label
            .what
            .iter()
            .position(|one| begins(&one))
            .unwrap_or(label.what.len());
        let (objects, changes) = label.what.split_at(split);
        let changes = changes_of(changes).map_err(Failure::Other)?;
        for (kind, names) in targets(objects).map_err(Failure::Other)? {
            if names.is_empty() {
                return Err(Failure::other(
                    "one or more resources must be specified as <resource> <name> or <resource>/<name>",
                ));
            }
            for kind in self.kinds.named(&kind).map_err(Failure::Other)? {
                for name in &names {
                    self.label_one(kind, name, &changes, label.overwrite).await?;
                }
            }
        }
        Ok(0)
    }

    async fn label_one(
        &self,
        kind: &Kind,
        name: &str,
        changes: &Map<String, Value>,
        overwrite: bool,
    ) -> Result<(), Failure> {
        let api = kind.api(&self.client, &self.namespace);
        let before = api.get(name).await?;
        let labels = before.labels();
        let taken = changes.iter().find_map(|(key, value)| {
            let old = labels.get(key)?;
            (value.is_string() && value != old.as_str()).then_some((key, old))
        });
        if let Some((key, old)) = taken.filter(|_| !overwrite) {
            return Err(Failure::Other(format!(
                "'{key}' already has a value ({old}), and --overwrite is false"
            )));
        }
        let differs = |(key, value): (&String, &Value)| value.as_str() != labels.get(key).map(String::as_str);
        let what = if !changes.iter().any(differs) {
            "not labeled"
        } else if changes.values().all(Value::is_null) {
            "unlabeled"
        } else {
            "labeled"
        };
        let patch = json!({"metadata": {"labels": changes, "resourceVersion": before.resource_version()}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.out.line(format!("{}/{name} {what}", kind.title()))?;
        Ok(())
    }

    fn place(&self, object: &DynamicObject) -> Result<(&Kind, String), Failure> {
        let name = object.metadata.name.clone().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Failure::other("an object without metadata.name"))?;
        Ok((self.kinds.of(object).map_err(Failure::Other)?, name))
    }

    fn namespace_of<'a>(&'a self, object: &'a DynamicObject) -> &'a str {
        object.metadata.namespace.as_deref().unwrap_or(&self.namespace)
    }

    fn objects(&self, files: &[PathBuf]) -> Result<Vec<DynamicObject>, Failure> {
        let mut objects = Vec::new();
        for file in files {
            if file.is_dir() {
                objects.extend(manifests::load_dir(file)?);
            } else {
                let name = if file == Path::new("-") {
                    "STDIN".to_owned()
                } else {
                    file.display().to_string()
                };
                objects.extend(manifests::parse(&name, &text_of(file, &name)?)?);
            }
        }
        Ok(objects)
    }
}

/// What of an object is the applier's: controllers write its status and annotations of their own meanwhile.
fn essence(object: &DynamicObject, applied: &DynamicObject) -> Value {
    let mut essence = object.data.clone();
    if let Some(fields) = essence.as_object_mut() {
        fields.remove("status");
    }
    let mut annotations = object.annotations().clone();
    annotations.retain(|key, _| applied.annotations().contains_key(key));
    json!({"data": essence, "labels": object.labels(), "annotations": annotations})
}

fn text_of(file: &Path, name: &str) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| Failure::other(format!("{name}: {error}"));
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(MAX_INPUT + 1).read_to_string(&mut text)
    } else {
        let opened = fs::File::open(file).map_err(unreadable)?;
        opened.take(MAX_INPUT + 1).read_to_string(&mut text)
    };
    let length = read.map_err(unreadable)?;
    if u64::try_from(length).is_ok_and(|length| length > MAX_INPUT) {
        return Err(Failure::Other(format!("{name} is longer than {MAX_INPUT} bytes")));
    }
    Ok(text)
}

/// `key=value` sets, `key-` takes away.
fn changes_of(words: &[String]) -> Result<Map<String, Value>, String> {
    let mut changes = Map::new();
    for word in words {
        let (key, value) = match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) => (key, json!(value)),
            (None, Some(key)) => (key, Value::Null),
            (None, None) => return Err(format!("{word:?} is neither key=value nor key-")),
        };
        if key.is_empty() || changes.insert(key.to_owned(), value).is_some() {
            return Err(format!("{word:?} names no label, or one that is named twice"));
        }
    }
    if changes.is_empty() {
        return Err("at least one label update is required".to_owned());
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(line: &str) -> Result<Value, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        changes_of(&words).map(Value::Object)
    }

    #[test]
    fn what_controllers_write_is_no_change() {
        let object = |annotations: Value, replicas: i64, status: i64| -> DynamicObject {
            let object = json!({"metadata": {"name": "x", "annotations": annotations},
                "spec": {"replicas": replicas}, "status": {"replicas": status}});
            serde_json::from_value(object).unwrap()
        };
        let applied = object(json!({"mine": "1"}), 1, 0);
        let same =
            |before: &DynamicObject, after: &DynamicObject| essence(before, &applied) == essence(after, &applied);
        let before = object(json!({"mine": "1"}), 1, 0);
        assert!(same(&before, &object(json!({"mine": "1", "theirs": "2"}), 1, 1)));
        assert!(!same(&before, &object(json!({"mine": "2"}), 1, 0)));
        assert!(!same(&before, &object(json!({"mine": "1"}), 2, 0)));
    }

    #[test]
    fn labels_are_set_and_taken_away() {
        assert_eq!(
            changes("a=1 b- c= d=x-").unwrap(),
            json!({"a": "1", "b": null, "c": "", "d": "x-"})
        );
        for wrong in ["", "a", "=1", "-", "a=1 a-"] {
            assert!(changes(wrong).is_err(), "{wrong:?}");
        }
    }
}
