//! The order of a merged list: what the patch names in the patch's order, the rest around it in the live order.
//!
//! Source: `normalizeElementOrder` of Kubernetes' `strategicpatch` package.

use serde_json::Value;

/// What identifies an item: the value of its merge key, or (no key) the item itself.
fn identity<'a>(item: &'a Value, key: &str) -> &'a Value {
    if key.is_empty() {
        item
    } else {
        item.get(key).unwrap_or(&Value::Null)
    }
}

fn index(list: &[Value], item: &Value, key: &str) -> Option<usize> {
    list.iter()
        .position(|other| identity(other, key) == identity(item, key))
}

/// Orders `merged` by `patch` for items it names, with the others inserted by the live order.
pub fn normalize(merged: Vec<Value>, patch: &[Value], live: &[Value], key: &str) -> Vec<Value> {
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| index(patch, item, key).is_some());
    named.sort_by_cached_key(|item| index(patch, item, key));
    others.sort_by_cached_key(|item| index(live, item, key).unwrap_or(usize::MAX));
    let mut ordered = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return ordered,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(named)) => match (index(live, other, key), index(live, named, key)) {
                (Some(other), Some(named)) => other < named,
                _ => false,
            },
        };
        ordered.extend(if other_first { others.next() } else { named.next() });
    }
}

/// Whether all items are in `wanted`, in the same relative order.
pub fn agrees(items: &[&Value], wanted: &[Value], key: &str) -> bool {
    let places: Option<Vec<usize>> = items.iter().map(|item| index(wanted, item, key)).collect();
    places.is_some_and(|places| places.is_sorted())
}
