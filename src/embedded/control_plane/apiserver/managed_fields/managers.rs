//! The entries of `managedFields`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::fields::{Kind, Paths, covers, decode, encode, field_element, flatten_members, holders};
use crate::control_plane::apiserver::meta;

/// Entries of ordinary writers that are kept apart; the oldest beyond are merged, as kube-apiserver does.
const MAX_UPDATERS: usize = 10;
const MERGED: &str = "ancient-changes";

/// Who writes.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The field manager's name.
    pub manager: &'a str,
    /// The API version they write in.
    pub api_version: &'a str,
    /// The subresource they write to, or empty.
    pub subresource: &'a str,
    /// The time of the write.
    pub now: &'a str,
}

/// One manager's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub manager: String,
    pub applies: bool,
    pub api_version: String,
    pub subresource: String,
    pub time: String,
    pub paths: Paths,
}

impl Entry {
    /// An entry without fields.
    pub fn new(writer: &Writer<'_>, applies: bool) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            applies,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: writer.now.to_owned(),
            paths: Paths::new(),
        }
    }

    /// Whether this is the writer's own entry. An applier has one for all versions.
    pub fn is_of(&self, writer: &Writer<'_>, applies: bool) -> bool {
        self.manager == writer.manager
            && self.applies == applies
            && self.subresource == writer.subresource
            && (applies || self.api_version == writer.api_version)
    }
}

fn managers(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

/// The entries of an object.
pub fn entries(object: &Value) -> Vec<Entry> {
    let list = managers(object).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(entry).collect()
}

fn entry(value: &Value) -> Option<Entry> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let operation = text("operation");
    let paths = decode(value.get("fieldsV1")?);
    (matches!(operation.as_str(), "Apply" | "Update") && !paths.is_empty()).then(|| Entry {
        manager: text("manager"),
        applies: operation == "Apply",
        api_version: text("apiVersion"),
        subresource: text("subresource"),
        time: text("time"),
        paths,
    })
}

/// Writes entries to an object; those without fields are dropped.
pub fn set_entries(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.paths.is_empty());
    merge_oldest(&mut entries);
    let list: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let mut value = json!({
                "manager": entry.manager,
                "operation": if entry.applies { "Apply" } else { "Update" },
                "apiVersion": entry.api_version,
                "time": entry.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": encode(&entry.paths),
            });
            if !entry.subresource.is_empty() {
                value["subresource"] = json!(entry.subresource);
            }
            value
        })
        .collect();
    let list = (!list.is_empty()).then_some(Value::Array(list));
    meta::set(meta::metadata(object), "managedFields", list);
}

fn merge_oldest(entries: &mut Vec<Entry>) {
    while entries.iter().filter(|entry| !entry.applies).count() > MAX_UPDATERS {
        let oldest = |entries: &[Entry]| {
            let updaters = entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| !entry.applies && entry.manager != MERGED);
            updaters
                .min_by(|(_, a), (_, b)| a.time.cmp(&b.time))
                .map(|(index, _)| index)
        };
        let Some(index) = oldest(entries) else { return };
        let old = entries.remove(index);
        match entries
            .iter_mut()
            .find(|entry| entry.manager == MERGED && entry.api_version == old.api_version)
        {
            Some(merged) => merged.paths.extend(old.paths),
            None => entries.push(Entry {
                manager: MERGED.to_owned(),
                subresource: String::new(),
                ..old
            }),
        }
    }
}

/// Notes an ordinary write: the writer owns what they changed, and nobody else does.
///
/// `next` may bring `managedFields` of its own (`kubectl apply --server-side` moves them between managers).
pub fn track(kind: Kind<'_>, writer: &Writer<'_>, current: Option<&Value>, next: &mut Value) {
    let given = managers(next);
    let brings = given.and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let mut entries = match current {
        None => Vec::new(),
        Some(_) if brings => entries(next),
        Some(current) => entries(current),
    };
    // What did not change is owned as it was: mostly a status is written, and the rest need not be looked at.
    let moved = current.is_none_or(|current| brings && managers(current) != given);
    let members = |of: Option<&Value>| -> BTreeSet<String> {
        of.and_then(Value::as_object)
            .into_iter()
            .flat_map(|fields| fields.keys().cloned())
            .collect()
    };
    let mut differ = members(Some(next));
    differ.extend(members(current));
    differ.retain(|name| moved || current.is_none_or(|current| current.get(name) != next.get(name)));
    let is_one = |name: &str| differ.contains(name);
    {
        let old = current
            .map(|current| flatten_members(kind, current, &is_one))
            .unwrap_or_default();
        let new = flatten_members(kind, next, &is_one);
        let mut changed: Paths = new
            .iter()
            .filter(|(path, value)| old.get(*path) != Some(value))
            .map(|(path, _)| path.clone())
            .collect();
        let held = current
            .map(|current| holders(kind, current, &is_one))
            .unwrap_or_default();
        changed.extend(holders(kind, next, &is_one).difference(&held).cloned());
        for entry in entries.iter_mut().filter(|entry| !entry.is_of(writer, false)) {
            entry.paths.retain(|path| !changed.contains(path));
        }
        let elements: BTreeSet<String> = differ.iter().map(|name| field_element(name)).collect();
        let looked_at = |path: &[String]| moved || path.first().is_some_and(|first| elements.contains(first));
        for entry in &mut entries {
            entry
                .paths
                .retain(|path| !looked_at(path) || covers(new.range(path.clone()..).map(|(path, _)| path), path));
        }
        if !changed.is_empty() {
            match entries.iter_mut().find(|entry| entry.is_of(writer, false)) {
                Some(own) => {
                    own.paths.extend(changed);
                    writer.now.clone_into(&mut own.time);
                }
                None => entries.push(Entry {
                    paths: changed,
                    ..Entry::new(writer, false)
                }),
            }
        }
    }
    set_entries(next, entries);
}
