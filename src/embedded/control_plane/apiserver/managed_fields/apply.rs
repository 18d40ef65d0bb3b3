//! Server-side apply.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    fields::{Kind, Path, Paths, covers, display, field_element, flatten, value_element},
    managers::{Entry, Writer, entries, set_entries},
};

/// What is applied, and how.
pub struct Apply<'a> {
    /// Who applies.
    pub writer: Writer<'a>,
    /// Whether to take fields that others own.
    pub force: bool,
    /// Fields of the object that this request may set (`f:status` or all others).
    pub may_set: &'a dyn Fn(&Path) -> bool,
}

/// A field that somebody else owns and has another value for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Their name and version, as messages show them.
    pub owner: String,
    /// The field.
    pub field: String,
}

/// Merges `config` into `current` and notes its fields as the applier's; fields that they applied before and do not
/// now are removed, if nobody else owns them.
///
/// # Errors
/// The conflicts, unless forced.
pub fn apply(
    kind: Kind<'_>,
    request: &Apply<'_>,
    current: Option<&Value>,
    config: &Value,
) -> Result<Value, Vec<Conflict>> {
    let mut wanted = flatten(kind, config);
    wanted.retain(|path, _| (request.may_set)(path));
    let empty = Value::Object(Map::new());
    let live = flatten(kind, current.unwrap_or(&empty));
    let mut managers = current.map(entries).unwrap_or_default();
    let own = managers
        .iter()
        .position(|entry| entry.is_of(&request.writer, true))
        .map(|index| managers.remove(index));

    let differs = |path: &Path| live.get(path).is_some_and(|value| wanted.get(path) != Some(value));
    let mut conflicts = Vec::new();
    for entry in &mut managers {
        let disputed: Vec<Path> = entry
            .paths
            .iter()
            .filter(|path| wanted.contains_key(*path) && differs(path))
            .cloned()
            .collect();
        for path in disputed {
            entry.paths.remove(&path);
            conflicts.push(Conflict {
                owner: owner(entry),
                field: display(&path),
            });
        }
    }
    if !conflicts.is_empty() && !request.force {
        return Err(conflicts);
    }
    let mut merged = current.map_or_else(|| config.clone(), |current| merge(kind, current, config));
    let paths: Paths = wanted.keys().cloned().collect();
    if let Some(own) = &own {
        // What is applied still keeps the maps and lists that it is in: an entry that was an updater's once owns those too.
        let applied = |path: &Path| covers(paths.range(path.clone()..), path);
        for path in own.paths.iter().rev().filter(|path| !applied(path)) {
            if !managers
                .iter()
                .any(|other| covers(other.paths.range(path.clone()..), path))
            {
                remove(kind, &mut merged, path);
            }
        }
    }
    managers.push(own_entry(request, own, paths, &wanted, &live));
    set_entries(&mut merged, managers);
    Ok(merged)
}

/// The applier's entry; it keeps its time where nothing changes, so that applying again writes nothing.
fn own_entry(
    request: &Apply<'_>,
    own: Option<Entry>,
    paths: Paths,
    wanted: &BTreeMap<Path, &Value>,
    live: &BTreeMap<Path, &Value>,
) -> Entry {
    let same = wanted.iter().all(|(path, value)| live.get(path) == Some(value));
    match own {
        Some(own) if same && own.paths == paths => own,
        _ => Entry {
            paths,
            ..Entry::new(&request.writer, true)
        },
    }
}

fn owner(entry: &Entry) -> String {
    let mut text = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        text += &format!(" with subresource {:?}", entry.subresource);
    }
    if !entry.applies {
        text += &format!(" using {}", entry.api_version);
    }
    text
}

/// The text of the 409.
pub fn message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            only.owner, only.field
        );
    }
    let mut by_owner: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        by_owner.entry(&conflict.owner).or_default().push(&conflict.field);
    }
    let mut lines = Vec::new();
    for (owner, fields) in by_owner {
        lines.push(format!("conflicts with {owner}:"));
        lines.extend(fields.into_iter().map(|field| format!("- {field}")));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

fn merge(kind: Kind<'_>, live: &Value, config: &Value) -> Value {
    match (kind, live, config) {
        (kind, Value::Object(live), Value::Object(config)) if kind.is_fields() => {
            let mut merged = live.clone();
            for (name, value) in config.iter().filter(|(_, value)| !value.is_null()) {
                let next = match live.get(name) {
                    Some(old) => merge(kind.field(name), old, value),
                    None => value.clone(),
                };
                merged.insert(name.clone(), next);
            }
            Value::Object(merged)
        }
        (Kind::Set, Value::Array(live), Value::Array(config)) => merge_list(live, config, &value_element, Kind::Whole),
        (kind, Value::Array(live), Value::Array(config)) if !kind.keys().is_empty() => {
            merge_list(live, config, &|item| kind.key_element(item), kind.item())
        }
        _ => config.clone(),
    }
}

/// The items of both: those of the config in its order, the others where they were between them.
fn merge_list(live: &[Value], config: &[Value], element: &dyn Fn(&Value) -> String, kind: Kind<'_>) -> Value {
    let known: BTreeMap<String, &Value> = live.iter().map(|item| (element(item), item)).collect();
    let wanted: Vec<String> = config.iter().map(element).collect();
    let mut merged = Vec::new();
    let mut placed = 0;
    let mut place = |until: usize, merged: &mut Vec<Value>| {
        while placed < until {
            let item = &config[placed];
            merged.push(
                known
                    .get(&wanted[placed])
                    .map_or_else(|| item.clone(), |old| merge(kind, old, item)),
            );
            placed += 1;
        }
    };
    for item in live {
        match wanted.iter().position(|wanted| *wanted == element(item)) {
            Some(index) => place(index + 1, &mut merged),
            None => merged.push(item.clone()),
        }
    }
    place(config.len(), &mut merged);
    Value::Array(merged)
}

/// Removes a field or item, and what it leaves empty.
fn remove(kind: Kind<'_>, value: &mut Value, path: &[String]) {
    let Some((element, rest)) = path.split_first() else {
        return;
    };
    match (kind, value) {
        (kind, Value::Object(members)) if kind.is_fields() => {
            let Some(name) = members.keys().find(|name| field_element(name) == *element).cloned() else {
                return;
            };
            if let Some(member) = members.get_mut(&name).filter(|_| !rest.is_empty()) {
                remove(kind.field(&name), member, rest);
                if !is_empty(member) {
                    return;
                }
            }
            members.remove(&name);
        }
        (Kind::Set, Value::Array(items)) => items.retain(|item| value_element(item) != *element),
        (kind, Value::Array(items)) if !kind.keys().is_empty() => {
            let Some(index) = items.iter().position(|item| kind.key_element(item) == *element) else {
                return;
            };
            let keys = kind.keys();
            match rest {
                [] => {
                    items.remove(index);
                }
                // An item keeps its keys as long as it is there.
                [only] if keys.iter().any(|key| field_element(key) == *only) => {}
                _ => remove(kind.item(), &mut items[index], rest),
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}
