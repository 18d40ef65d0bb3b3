//! The small texts that cells are made of.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub use super::super::view::Object;

pub const NONE: &str = "<none>";
pub const UNKNOWN: &str = "<unknown>";

/// Ages of an object's times.
pub trait Ages {
    /// How long ago a time was.
    fn since(self, path: &str, now: Timestamp) -> Value;

    /// The object's age.
    fn age(self, now: Timestamp) -> Value;
}

impl Ages for Object<'_> {
    fn since(self, path: &str, now: Timestamp) -> Value {
        json!(since(self.time(path), now))
    }

    fn age(self, now: Timestamp) -> Value {
        self.since("metadata.creationTimestamp", now)
    }
}

/// The name's cell.
pub fn name(object: Object<'_>) -> Value {
    json!(object.str("metadata.name"))
}

/// The creation time's cell.
pub fn created(object: Object<'_>) -> Value {
    json!(object.str("metadata.creationTimestamp"))
}

/// How long ago a time was, `<unknown>` where there is none.
pub fn since(time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or_else(
        || UNKNOWN.to_owned(),
        |time| human_duration(now.as_second() - time.as_second()),
    )
}

/// A duration in seconds as kubectl prints ages: `5s`, `3m2s`, `2d`.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let two = |big: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(hours / 24, 'd', hours % 24, 'h'),
        _ if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        _ if hours < 24 * 365 * 8 => two(hours / 24 / 365, 'y', hours / 24 % 365, 'd'),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// `a=1,b=2`, or `<none>`.
pub fn labels(map: Option<&Map<String, Value>>) -> String {
    let pairs: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", Object(v).text()))
        .collect();
    if pairs.is_empty() { NONE.into() } else { pairs.join(",") }
}

/// A `LabelSelector` as text, or `<none>`.
pub fn selector(selector: Object<'_>) -> String {
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector.entries("matchLabels").into_iter().flatten() {
        parts.push((key.clone(), format!("{key}={}", Object(value).text())));
    }
    for expression in selector.items("matchExpressions") {
        let key = expression.str("key");
        let mut values: Vec<String> = expression.items("values").map(Object::text).collect();
        values.sort();
        let values = values.join(",");
        let text = match expression.str("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        parts.push((key.to_owned(), text));
    }
    parts.sort();
    if parts.is_empty() {
        return NONE.into();
    }
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// The wide columns Containers and Images of a pod template.
pub fn containers(spec: Object<'_>) -> [Value; 2] {
    let join = |field: &str| {
        spec.items("containers")
            .map(|c| c.str(field))
            .collect::<Vec<_>>()
            .join(",")
    };
    [json!(join("name")), json!(join("image"))]
}

/// The first three of a list and how many more, `otherwise` for none.
pub fn first_three(all: &[String], otherwise: &str) -> String {
    match all {
        [] => otherwise.into(),
        [a, b, c, rest @ ..] if !rest.is_empty() => format!("{a},{b},{c} + {} more...", rest.len()),
        few => few.join(","),
    }
}
