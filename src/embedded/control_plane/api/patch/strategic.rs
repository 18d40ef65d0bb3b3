//! Strategic merge patch: lists of objects merge by a key that the type declares.
//!
//! Source: Kubernetes' `strategicpatch` package and "Update API Objects in Place Using kubectl patch" in its
//! documentation. Directives: `$patch: replace | delete`, `$retainKeys`, `$setElementOrder/list`,
//! `$deleteFromPrimitiveList/list`.

use serde_json::{Map, Value};

use super::{
    super::{
        Resource,
        schema::{self, Field, Shape, Type},
    },
    PatchError, order,
};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Longest list that is merged; finding items by key is quadratic.
const MAX_ITEMS: usize = 10_000;

type Object = Map<String, Value>;

/// Applies a strategic merge patch.
///
/// # Errors
/// A patch with directives that make no sense, or a kind without a schema.
pub fn strategic(resource: &Resource, original: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !resource.builtin {
        return Err(PatchError::UnsupportedMediaType);
    }
    let (Some(object), Some(changes)) = (original.as_object(), patch.as_object()) else {
        let what = match patch {
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            _ => "array",
        };
        let text = format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}");
        return Err(PatchError::BadRequest(text));
    };
    merge_object(schema::find(&resource.schema), object.clone(), changes).map(Value::Object)
}

fn bad(text: impl Into<String>) -> PatchError {
    PatchError::BadRequest(text.into())
}

fn bounded(items: &[Value]) -> Result<(), PatchError> {
    if items.len() > MAX_ITEMS {
        return Err(bad(format!(
            "a list of {} items is too long to merge: at most {MAX_ITEMS}",
            items.len()
        )));
    }
    Ok(())
}

fn merge_object(known: Option<&Type>, mut original: Object, patch: &Object) -> Result<Object, PatchError> {
    match patch.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
        None => {}
        Some("replace") => return replaced(known, patch),
        Some("delete") => return Ok(Object::new()),
        Some("merge") => {}
        Some(other) => return Err(bad(format!("unknown patch type found: {other}"))),
    }
    retain_keys(&mut original, patch)?;
    for (key, values) in patch {
        if let Some(list) = key.strip_prefix(DELETE_PRIMITIVES) {
            delete_primitives(&mut original, list, values)?;
        }
    }
    for (key, change) in patch.iter().filter(|(key, _)| !is_directive(key)) {
        let field = known.and_then(|known| known.field(key));
        match original.remove(key) {
            _ if change.is_null() => {}
            Some(before) => {
                let after = merge_value(field, before, change)?;
                original.insert(key.clone(), after);
            }
            None => {
                let after = added(field, change)?;
                original.insert(key.clone(), after);
            }
        }
    }
    for (key, wanted) in patch {
        if let Some(list) = key.strip_prefix(ORDER) {
            let field = known.and_then(|known| known.field(list));
            reorder(&mut original, list, field, wanted, patch.get(list))?;
        }
    }
    Ok(original)
}

fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(ORDER) || key.starts_with(DELETE_PRIMITIVES)
}

/// The patch itself, without `$patch`: what `$patch: replace` leaves.
fn replaced(known: Option<&Type>, patch: &Object) -> Result<Object, PatchError> {
    let rest = patch
        .iter()
        .filter(|(key, _)| *key != PATCH)
        .map(|(key, value)| (key.clone(), value.clone()));
    merge_object(known, Object::new(), &rest.collect())
}

/// A value that the original does not have: the patch's, without directives and nulls.
fn added(field: Option<&Field>, change: &Value) -> Result<Value, PatchError> {
    match change {
        Value::Object(changes) => merge_object(object_type(field), Object::new(), changes).map(Value::Object),
        Value::Array(items) if field.is_some_and(|f| f.merge.is_some()) => merge_list(field, &[], items),
        Value::Array(items) => Ok(Value::Array(without_directives(items))),
        other => Ok(other.clone()),
    }
}

fn merge_value(field: Option<&Field>, before: Value, change: &Value) -> Result<Value, PatchError> {
    match (before, change) {
        (Value::Object(before), Value::Object(changes)) => {
            // a map of strings, or of a type we do not know, merges by its keys alone
            merge_object(object_type(field), before, changes).map(Value::Object)
        }
        (Value::Array(before), Value::Array(items)) if field.is_some_and(|f| f.merge.is_some()) => {
            merge_list(field, &before, items)
        }
        (_, change) => added(field, change),
    }
}

fn object_type(field: Option<&Field>) -> Option<&'static Type> {
    field.filter(|f| f.shape != Shape::Map).and_then(Field::object)
}

/// Items of a list that is replaced as a whole; a `$patch` element only marks the replacement.
fn without_directives(items: &[Value]) -> Vec<Value> {
    items.iter().filter(|item| item.get(PATCH).is_none()).cloned().collect()
}

fn retain_keys(original: &mut Object, patch: &Object) -> Result<(), PatchError> {
    let Some(list) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let keep: Vec<&str> = match list.as_array() {
        Some(keys) => keys.iter().filter_map(Value::as_str).collect(),
        None => return Err(bad("invalid patch format of retainKeys")),
    };
    let stray =
        |(key, value): &(&String, &Value)| !is_directive(key) && !value.is_null() && !keep.contains(&key.as_str());
    if let Some((key, _)) = patch.iter().find(stray) {
        return Err(bad(format!("{key} in patch is not present in the $retainKeys list")));
    }
    original.retain(|key, _| keep.contains(&key.as_str()));
    Ok(())
}

fn delete_primitives(original: &mut Object, list: &str, values: &Value) -> Result<(), PatchError> {
    let Some(values) = values.as_array() else {
        return Err(bad(format!("invalid patch format of {DELETE_PRIMITIVES}{list}")));
    };
    bounded(values)?;
    if let Some(Value::Array(items)) = original.get_mut(list) {
        items.retain(|item| !values.contains(item));
    }
    Ok(())
}

fn merge_list(field: Option<&Field>, original: &[Value], patch: &[Value]) -> Result<Value, PatchError> {
    let key = field.and_then(|f| f.merge).unwrap_or_default();
    bounded(original)?;
    bounded(patch)?;
    let merged = if key.is_empty() {
        merge_scalars(original, patch)?
    } else {
        match merge_items(object_type(field), key, original, patch)? {
            Merged::Replaced(items) => return Ok(Value::Array(items)),
            Merged::Items(items) => items,
        }
    };
    Ok(Value::Array(order::normalize(merged, patch, original, key)))
}

fn merge_scalars(original: &[Value], patch: &[Value]) -> Result<Vec<Value>, PatchError> {
    let mut merged: Vec<Value> = Vec::new();
    for item in original.iter().chain(patch) {
        if item.is_object() || item.is_array() {
            return Err(bad("invalid patch: a list of scalars holds something else"));
        }
        if !merged.contains(item) {
            merged.push(item.clone());
        }
    }
    Ok(merged)
}

enum Merged {
    Items(Vec<Value>),
    Replaced(Vec<Value>),
}

fn merge_items(
    known: Option<&'static Type>,
    key: &str,
    original: &[Value],
    patch: &[Value],
) -> Result<Merged, PatchError> {
    let mut merged = original.to_vec();
    let mut replace = false;
    let mut changes: Vec<&Object> = Vec::new();
    for item in patch {
        let Some(item) = item.as_object() else {
            return Err(bad("invalid patch: a list of objects holds something else"));
        };
        match item.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
            None => changes.push(item),
            Some("delete") => {
                let value = item.get(key).ok_or_else(|| no_key(item, key))?;
                merged.retain(|other| other.get(key) != Some(value));
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(bad("merging lists cannot yet be specified in the patch")),
            Some(other) => return Err(bad(format!("unknown patch type found: {other}"))),
        }
    }
    if replace {
        let plain = changes.into_iter().map(|item| replaced(known, item).map(Value::Object));
        return plain.collect::<Result<_, _>>().map(Merged::Replaced);
    }
    for change in changes {
        let value = change.get(key).ok_or_else(|| no_key(change, key))?;
        let at = merged.iter().position(|item| item.get(key) == Some(value));
        let before = at.and_then(|at| merged[at].as_object().cloned()).unwrap_or_default();
        let after = Value::Object(merge_object(known, before, change)?);
        match at {
            Some(at) => merged[at] = after,
            None => merged.push(after),
        }
    }
    Ok(Merged::Items(merged))
}

fn no_key(item: &Object, key: &str) -> PatchError {
    bad(format!(
        "map: {} does not contain declared merge key: {key}",
        Value::Object(item.clone())
    ))
}

/// Applies `$setElementOrder/{list}` to the merged list.
fn reorder(
    original: &mut Object,
    list: &str,
    field: Option<&Field>,
    wanted: &Value,
    patch: Option<&Value>,
) -> Result<(), PatchError> {
    let Some(wanted) = wanted.as_array() else {
        return Err(bad(format!("invalid patch format of {ORDER}{list}")));
    };
    bounded(wanted)?;
    let key = field.and_then(|f| f.merge).unwrap_or_default();
    if let Some(items) = patch.and_then(Value::as_array) {
        let plain: Vec<&Value> = items.iter().filter(|item| item.get(PATCH).is_none()).collect();
        if !order::agrees(&plain, wanted, key) {
            let (items, wanted) = (Value::Array(items.clone()), Value::Array(wanted.clone()));
            return Err(bad(format!(
                "The order in patch list:\n{items}\n doesn't match {ORDER}{list} list:\n{wanted}\n"
            )));
        }
    }
    if let Some(Value::Array(items)) = original.get_mut(list) {
        let merged = std::mem::take(items);
        let live = merged.clone();
        *items = order::normalize(merged, wanted, &live, key);
    }
    Ok(())
}
